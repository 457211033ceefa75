package config

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/route"
)

const (
	wantAS        = "an AS number from 1 to 4294967294"
	wantAddress   = "an IP address"
	wantCommunity = `a community, in quotes, such as "65010:100", "4200000000:1:2" or no-export`
	maxPrefixes   = 1_000_000
)

func bgpSource(n located.Node) *bgp.Config {
	m := n.Map("as", "routerId", "listen", "peers", "restartTime", "onSessionLoss", "include", "exclude", "communities", "asPath",
		"maxPrefixes", "onMaxPrefixes", "metric")
	c := &bgp.Config{
		Listen:        located.Or(m.Get("listen"), netip.AddrPort{}, "an address of this machine with a port such as 127.0.0.2:1790, or none", parseBGPListen),
		RestartTime:   duration(m.Get("restartTime"), DefaultBGPRestartTime, time.Second, time.Hour),
		OnSessionLoss: located.Or(m.Get("onSessionLoss"), bgp.Keep, "keep or withdraw", word(bgp.Keep, bgp.Withdraw)),
		Include:       each(m.Get("include"), wantMatch, route.ParseMatch),
		Exclude:       each(m.Get("exclude"), wantMatch, route.ParseMatch),
		Communities:   communities(m.Get("communities")),
		ASPath:        asPath(m.Get("asPath")),
		MaxPrefixes:   located.Or(m.Get("maxPrefixes"), DefaultMaxPrefixes, fmt.Sprintf("a number from 1 to %d", maxPrefixes), located.Int(1, maxPrefixes)),
		OnMaxPrefixes: located.Or(m.Get("onMaxPrefixes"), bgp.Hold, "hold or cease", word(bgp.Hold, bgp.Cease)),
		Metric:        each(m.Get("metric"), "a line such as community 65010:100 metric 10 or local-preference ge 200 metric 10", bgp.ParseMetricRule),
	}
	c.AS, _ = located.Value(m.Need("as", wantAS), wantAS, parseAS)
	c.RouterID = located.Or(m.Get("routerId"), c.Listen.Addr(), "an IPv4 address other than 0.0.0.0", parseRouterID)
	if n.Present() && !m.Get("routerId").Present() && !c.RouterID.Is4() {
		n.Reportf("routerId: missing: want an IPv4 address, since listen gives none")
	}
	c.Peers = peers(m.Need("peers", "a list such as [{address: 127.0.0.1, as: 65010}]"), c)
	return c
}

func communities(n located.Node) bgp.Communities {
	m := n.Map("allow", "deny")
	return bgp.Communities{
		Allow: each(m.Get("allow"), wantCommunity, bgp.ParseCommunity),
		Deny:  each(m.Get("deny"), wantCommunity, bgp.ParseCommunity),
	}
}

func asPath(n located.Node) bgp.ASPath {
	m := n.Map("deny", "maxLength")
	return bgp.ASPath{
		Deny:      each(m.Get("deny"), wantAS, parseAS),
		MaxLength: located.Or(m.Get("maxLength"), 0, "a number from 1 to 255", located.Int(1, 255)),
	}
}

func peers(n located.Node, c *bgp.Config) []bgp.Peer {
	items := n.List()
	if n.Present() && len(items) == 0 {
		n.Reportf("the list is empty: want at least one peer, such as {address: 127.0.0.1, as: 65010}")
	}
	var out []bgp.Peer
	for _, item := range items {
		p := peer(item, c)
		for _, other := range out {
			switch {
			case p.Address.IsValid() && other.Address == p.Address:
				item.Reportf("a second peer with the address %s", p.Address)
			case p.Name != "" && other.Name == p.Name:
				item.Reportf("a second peer with the name %s", p.Name)
			}
		}
		out = append(out, p)
	}
	return out
}

func peer(n located.Node, c *bgp.Config) bgp.Peer {
	m := n.Map("name", "address", "port", "localAddress", "as", "passive", "multihop", "ttlSecurity", "passwordFile", "families", "holdTime", "weight")
	p := bgp.Peer{
		Port:         located.Or(m.Get("port"), DefaultBGPPort, "a port from 1 to 65535", parsePort),
		LocalAddress: located.Or(m.Get("localAddress"), netip.Addr{}, wantAddress, parseAddress),
		AS:           located.Or(m.Get("as"), c.AS, wantAS, parseAS),
		Passive:      located.Or(m.Get("passive"), false, "true or false", located.Bool),
		Multihop:     located.Or(m.Get("multihop"), 0, "a TTL from 1 to 255", parseByte(1, 255)),
		TTLSecurity:  located.Or(m.Get("ttlSecurity"), 0, "a number of hops from 1 to 254", parseByte(1, 254)),
		PasswordFile: located.Or(m.Get("passwordFile"), "", "an absolute path", parsePath),
		Families:     each(m.Get("families"), "ipv4-unicast or ipv6-unicast", word(bgp.Families()...)),
		HoldTime:     wholeSeconds(m.Get("holdTime"), DefaultHoldTime, 3*time.Second, 18*time.Hour),
		Weight:       located.Or(m.Get("weight"), 0, "a number from 0 to 65535", parseWeight),
	}
	p.Address, _ = located.Value(m.Need("address", wantAddress), wantAddress, parseAddress)
	p.Name = located.Or(m.Get("name"), "", "a name without spaces", parseWord)
	if p.Name == "" && p.Address.IsValid() {
		p.Name = p.Address.String()
	}
	if len(p.Families) == 0 {
		p.Families = bgp.Families()
	}
	checkSession(m, p, c)
	return p
}

// checkSession reports settings of a session that contradict each other.
func checkSession(m located.Map, p bgp.Peer, c *bgp.Config) {
	if p.Passive && !c.Listen.IsValid() {
		m.Get("passive").Reportf("a passive peer needs somebody who listens: set listen, or have the session opened from here")
	}
	if p.Passive && c.Listen.IsValid() && p.Address.IsValid() && c.Listen.Addr().Is4() != p.Address.Is4() {
		m.Get("address").Reportf("a passive peer with the address %s cannot reach %s: want both of one family", p.Address, c.Listen)
	}
	if p.Multihop > 0 && p.TTLSecurity > 0 {
		m.Get("ttlSecurity").Reportf("multihop and ttlSecurity exclude each other")
	}
	if p.Multihop > 0 && p.AS == c.AS {
		m.Get("multihop").Reportf("an iBGP peer needs no multihop")
	}
	if p.LocalAddress.IsValid() && p.Address.IsValid() && p.LocalAddress.Is4() != p.Address.Is4() {
		m.Get("localAddress").Reportf("found %s: want the family of %s", p.LocalAddress, p.Address)
	}
}

// word parses one of a closed set of words.
func word[T fmt.Stringer](all ...T) func(string) (T, error) {
	return func(s string) (T, error) {
		i := slices.IndexFunc(all, func(v T) bool { return v.String() == s })
		if i < 0 {
			return *new(T), fmt.Errorf("found %q", s)
		}
		return all[i], nil
	}
}

// parseAS reads an AS number; 0 and 4294967295 are reserved (RFC 7607, RFC 7300), 23456 stands for others (RFC 6793).
func parseAS(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || n == 1<<32-1 {
		return 0, fmt.Errorf("found %q", s)
	}
	if n == 23456 {
		return 0, errors.New("found 23456, which stands for other AS numbers (AS_TRANS)")
	}
	return uint32(n), nil
}

func parseAddress(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsMulticast() {
		return netip.Addr{}, fmt.Errorf("found %q", s)
	}
	return a, nil
}

func parseRouterID(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}, fmt.Errorf("found %q", s)
	}
	return a, nil
}

func parseBGPListen(s string) (netip.AddrPort, error) {
	if s == "none" {
		return netip.AddrPort{}, nil
	}
	return parseLocal(s)
}

// parseLocal reads an address of this machine with a port.
func parseLocal(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || a.Addr().Zone() != "" || a.Addr().Is4In6() || a.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("found %q", s)
	}
	if a.Addr().IsUnspecified() {
		return netip.AddrPort{}, fmt.Errorf("found %q, which is every address of this machine", s)
	}
	return a, nil
}

func parsePort(s string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(s), 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("found %q", s)
	}
	return uint16(n), nil
}

func parseByte(low, high int) func(string) (uint8, error) {
	return func(s string) (uint8, error) {
		n, err := located.Int(low, high)(s)
		return uint8(n), err
	}
}

func parseWeight(s string) (uint32, error) {
	n, err := located.Int(0, 65535)(s)
	return uint32(n), err
}
