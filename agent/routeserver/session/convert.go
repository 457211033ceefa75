package session

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/pointsman/pointsman/agent/routeserver"
	source "github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

// perUpdate is how many prefixes go into one UPDATE: at most 5 octets each (RFC 4271, section 4.3), beside some 400 for the rest.
const perUpdate = (bgp.BGP_MAX_MESSAGE_LENGTH - 512) / 5

// update sends a step, in as many UPDATEs as it takes.
func (s *session) update(u routeserver.Update) error {
	for chunk := range slices.Chunk(u.Withdraw, perUpdate) {
		list, err := nlri(chunk)
		if err == nil {
			err = s.write(bgp.NewBGPUpdateMessage(list, nil, nil))
		}
		if err != nil {
			return err
		}
	}
	for chunk := range slices.Chunk(u.Announce, perUpdate) {
		list, err := nlri(chunk)
		if err != nil {
			return err
		}
		attrs, err := s.attributes(u.Attributes)
		if err == nil {
			err = s.write(bgp.NewBGPUpdateMessage(nil, attrs, list))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func nlri(list []netip.Prefix) ([]bgp.PathNLRI, error) {
	out := make([]bgp.PathNLRI, len(list))
	for i, p := range list {
		n, err := bgp.NewIPAddrPrefix(p)
		if err != nil {
			return nil, fmt.Errorf("prefix %v: %w", p, err)
		}
		out[i].NLRI = n
	}
	return out, nil
}

// attributes makes path attributes, in the order of their codes.
func (s *session) attributes(a *routeserver.Attributes) ([]bgp.PathAttributeInterface, error) {
	hop := a.NextHop
	if !hop.IsValid() {
		hop = s.local()
	}
	next, err := bgp.NewPathAttributeNextHop(hop)
	if err != nil {
		return nil, fmt.Errorf("next hop %v: %w", hop, err)
	}
	out := []bgp.PathAttributeInterface{
		bgp.NewPathAttributeOrigin(bgp.BGP_ORIGIN_ATTR_TYPE_IGP), bgp.NewPathAttributeAsPath([]bgp.AsPathParamInterface{s.path(a.ASPath)}), next,
	}
	var standard []uint32
	var large []*bgp.LargeCommunity
	for _, c := range a.Communities {
		if global, first, second, isLarge := c.Numbers(); isLarge {
			large = append(large, bgp.NewLargeCommunity(global, first, second))
		} else {
			standard = append(standard, global<<16|first)
		}
	}
	if len(standard) > 0 {
		out = append(out, bgp.NewPathAttributeCommunities(standard))
	}
	if len(large) > 0 {
		out = append(out, bgp.NewPathAttributeLargeCommunities(large))
	}
	return out, nil
}

func (s *session) path(as []uint16) bgp.AsPathParamInterface {
	if s.twoBytes {
		return bgp.NewAsPathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, as)
	}
	wide := make([]uint32, len(as))
	for i, n := range as {
		wide[i] = uint32(n)
	}
	return bgp.NewAs4PathParam(bgp.BGP_ASPATH_ATTR_TYPE_SEQ, wide)
}

// local is the address that the session is opened from.
func (s *session) local() netip.Addr {
	if a, ok := s.conn.LocalAddr().(*net.TCPAddr); ok {
		return a.AddrPort().Addr().Unmap()
	}
	return s.cfg.LocalAddress
}

// heard hands on the routes of an UPDATE.
func (s *session) heard(u *bgp.BGPUpdate, h routeserver.Hearer) {
	if ended, family := u.IsEndOfRib(); ended {
		if family == bgp.RF_IPv4_UC {
			h.EndOfRIB()
		}
		return
	}
	var like routeserver.Learned
	for _, a := range u.PathAttributes {
		learn(&like, a)
	}
	announced := make([]routeserver.Learned, 0, len(u.NLRI))
	for _, p := range prefixes(u.NLRI) {
		like.Prefix = p
		announced = append(announced, like)
	}
	h.Update(prefixes(u.WithdrawnRoutes), announced)
}

func learn(like *routeserver.Learned, a bgp.PathAttributeInterface) {
	switch a := a.(type) {
	case *bgp.PathAttributeNextHop:
		like.NextHop = a.Value.Unmap()
	case *bgp.PathAttributeAsPath:
		for _, segment := range a.Value {
			like.ASPath = append(like.ASPath, segment.GetAS()...)
		}
	case *bgp.PathAttributeCommunities:
		for _, c := range a.Value {
			like.Communities = append(like.Communities, source.NewCommunity(c))
		}
	case *bgp.PathAttributeLargeCommunities:
		for _, c := range a.Values {
			like.Communities = append(like.Communities, source.NewLargeCommunity(c.ASN, c.LocalData1, c.LocalData2))
		}
	}
}

func prefixes(list []bgp.PathNLRI) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(list))
	for _, n := range list {
		if p, ok := n.NLRI.(*bgp.IPAddrPrefix); ok && p.Prefix.IsValid() {
			out = append(out, route.Canonical(p.Prefix))
		}
	}
	return out
}
