package gobgp

import (
	"slices"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

// toFamily translates a family; false for one that is not learned.
func toFamily(f gobgp.Family) (bgp.Family, bool) {
	if f == gobgp.RF_IPv4_UC {
		return bgp.IPv4Unicast, true
	}
	return bgp.IPv6Unicast, f == gobgp.RF_IPv6_UC
}

// toPath translates a path; false for one that is no unicast route.
func toPath(p *apiutil.Path) (bgp.Path, bool) {
	nlri, ok := p.Nlri.(*gobgp.IPAddrPrefix)
	if _, known := toFamily(p.Family); !ok || !known || !nlri.Prefix.IsValid() {
		return bgp.Path{}, false
	}
	out := bgp.Path{Prefix: route.Canonical(nlri.Prefix), Withdrawn: p.Withdrawal, LocalPreference: bgp.DefaultLocalPreference}
	if p.Withdrawal {
		return out, true
	}
	for _, a := range p.Attrs {
		addAttribute(&out, a)
	}
	return out, true
}

func addAttribute(out *bgp.Path, a gobgp.PathAttributeInterface) {
	switch a := a.(type) {
	case *gobgp.PathAttributeNextHop:
		out.NextHop = a.Value.Unmap()
	case *gobgp.PathAttributeMpReachNLRI:
		out.NextHop = a.Nexthop.Unmap()
	case *gobgp.PathAttributeLocalPref:
		out.LocalPreference = a.Value
	case *gobgp.PathAttributeMultiExitDisc:
		out.MED = a.Value
	case *gobgp.PathAttributeAsPath:
		for _, segment := range a.Value {
			out.ASPath = append(out.ASPath, segment.GetAS()...)
			out.ASPathLength += segment.ASLen()
		}
	case *gobgp.PathAttributeCommunities:
		for _, c := range a.Value {
			out.Communities = append(out.Communities, bgp.NewCommunity(c))
		}
	case *gobgp.PathAttributeLargeCommunities:
		for _, c := range a.Values {
			out.Communities = append(out.Communities, bgp.NewLargeCommunity(c.ASN, c.LocalData1, c.LocalData2))
		}
	}
}

// agreed returns the families that both sides named, and the restart time that the peer asks for. A peer that names no family means
// IPv4 unicast (RFC 4760, section 8).
func agreed(ours []bgp.Family, theirs []gobgp.ParameterCapabilityInterface) (families []bgp.Family, restart time.Duration) {
	named := false
	for _, c := range theirs {
		switch c := c.(type) {
		case *gobgp.CapMultiProtocol:
			named = true
			if f, known := toFamily(c.CapValue); known && slices.Contains(ours, f) && !slices.Contains(families, f) {
				families = append(families, f)
			}
		case *gobgp.CapGracefulRestart:
			restart = time.Duration(c.Time) * time.Second
		}
	}
	if !named && slices.Contains(ours, bgp.IPv4Unicast) {
		families = append(families, bgp.IPv4Unicast)
	}
	slices.Sort(families)
	return families, restart
}

// reasonOf says why a session ended or did not come about; empty for a step on the way to one.
func reasonOf(s *apiutil.PeerState) string {
	switch s.DisconnectReason {
	case api.PeerState_DISCONNECT_REASON_READ_FAILED, api.PeerState_DISCONNECT_REASON_WRITE_FAILED:
		return "the connection was lost"
	case api.PeerState_DISCONNECT_REASON_GRACEFUL_RESTART:
		return "the connection was lost, it asked to be waited for"
	case api.PeerState_DISCONNECT_REASON_HOLD_TIMER_EXPIRED:
		return "it was silent for the hold time"
	case api.PeerState_DISCONNECT_REASON_BAD_PEER_AS:
		return "it has another AS than configured"
	case api.PeerState_DISCONNECT_REASON_NOTIFICATION_SENT, api.PeerState_DISCONNECT_REASON_NOTIFICATION_RECEIVED,
		api.PeerState_DISCONNECT_REASON_INVALID_MSG, api.PeerState_DISCONNECT_REASON_HARD_RESET:
		return s.DisconnectMessage
	case api.PeerState_DISCONNECT_REASON_UNSPECIFIED, api.PeerState_DISCONNECT_REASON_ADMIN_DOWN,
		api.PeerState_DISCONNECT_REASON_IDLE_TIMER_EXPIRED, api.PeerState_DISCONNECT_REASON_RESTART_TIMER_EXPIRED,
		api.PeerState_DISCONNECT_REASON_DECONFIGURED:
	}
	return ""
}
