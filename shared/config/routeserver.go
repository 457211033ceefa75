package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/route"
)

// RouteServer is an Azure Route Server whose BGP peers Pointsman keeps. The routes themselves are announced to it by the NVAs.
type RouteServer struct {
	Name          string        // unique among all targets
	VirtualHub    string        // ARM resource id
	Peers         []Peer        // in the order of the file
	Prefixes      []route.Match // what the NVAs announce to it, as far as Via says so; empty: all
	NextHops      []netip.Addr  // addresses that the NVAs may announce instead of their own; at most one per family
	MaxPeers      int           // BGP peers that it may have, those of others included
	RoutesPerPeer int           // routes that it takes from one peer
	Apply         Apply         // ApplyAuto or ApplyObserve
}

// Peer is an NVA that is to peer with a Route Server.
type Peer struct {
	NVA     string
	Address netip.Addr // IPv4
	ASN     uint32     // 16 bits, none of those that are reserved
}

// The limits of a Route Server, as documented (limits page and FAQ of Route Server, September 2025).
const (
	DefaultMaxPeers      = 8
	DefaultRoutesPerPeer = 4000
)

// Wants reports whether p belongs in the Route Server.
func (r RouteServer) Wants(p netip.Prefix) bool {
	return len(r.Prefixes) == 0 || route.AnyMatches(r.Prefixes, p)
}

// Peer returns the NVA's peer.
func (r RouteServer) Peer(nva string) (Peer, bool) {
	i := slices.IndexFunc(r.Peers, func(p Peer) bool { return p.NVA == nva })
	if i < 0 {
		return Peer{}, false
	}
	return r.Peers[i], true
}

// AsTarget returns what the Route Server has in common with the other targets: name, ARM id, NVAs, and whether it may be written.
func (r RouteServer) AsTarget() Target {
	t := Target{Name: r.Name, RouteTable: r.VirtualHub, Apply: r.Apply, Prefixes: r.Prefixes, Limit: r.MaxPeers}
	for _, p := range r.Peers {
		t.NVAs = append(t.NVAs, p.NVA)
	}
	return t
}

// RouteServer returns the Route Server of that name.
func (d *Domain) RouteServer(name string) (RouteServer, bool) {
	i := slices.IndexFunc(d.RouteServers, func(r RouteServer) bool { return r.Name == name })
	if i < 0 {
		return RouteServer{}, false
	}
	return d.RouteServers[i], true
}

// All returns all targets, Route Servers after the tables: whatever can be woken.
func (d *Domain) All() []Target {
	out := slices.Clone(d.Targets)
	for _, r := range d.RouteServers {
		out = append(out, r.AsTarget())
	}
	return out
}

// Keeps returns the target of that name, a table or a Route Server.
func (d *Domain) Keeps(name string) (Target, bool) {
	if r, known := d.RouteServer(name); known {
		return r.AsTarget(), true
	}
	return d.Target(name)
}

// Via says what brings a prefix into the VNet.
type Via uint8

// The ways.
const (
	ViaUDR         Via = iota + 1 // the route tables; a Route Server may have it too, but that is not looked at
	ViaRouteServer                // the Route Servers alone
	ViaBoth                       // both, all the time
	ViaOverride                   // the Route Servers; and the route tables as long as a Route Server still leads to an NVA that does not work
)

// Vias returns all ways, in order.
func Vias() []Via { return []Via{ViaUDR, ViaRouteServer, ViaBoth, ViaOverride} }

// String returns the word of the domain file.
func (v Via) String() string {
	switch v {
	case ViaUDR:
		return "udr"
	case ViaRouteServer:
		return "route-server"
	case ViaBoth:
		return "both"
	case ViaOverride:
		return "override"
	}
	return fmt.Sprintf("via-%d", uint8(v))
}

// Announced reports whether the Route Servers are to have what is brought in this way.
func (v Via) Announced() bool { return v != ViaUDR }

// Range is how some prefixes are brought into the VNet.
type Range struct {
	Prefixes []route.Match
	Via      Via
}

// ViaOf returns how p is brought into the VNet: by the first range that matches; where none does, by route tables, or by Route Servers if the domain
// has no table.
func (d *Domain) ViaOf(p netip.Prefix) Via {
	for _, r := range d.Ranges {
		if route.AnyMatches(r.Prefixes, p) {
			return r.Via
		}
	}
	if len(d.Targets) == 0 && len(d.RouteServers) > 0 {
		return ViaRouteServer
	}
	return ViaUDR
}

// Overrides reports whether any prefix goes by way of ViaOverride.
func (d *Domain) Overrides() bool {
	return slices.ContainsFunc(d.Ranges, func(r Range) bool { return r.Via == ViaOverride })
}

const (
	wantHub = "/subscriptions/…/resourceGroups/…/providers/Microsoft.Network/virtualHubs/…"
	wantVia = "udr, route-server, both or override"
	wantASN = "a 16-bit AS number that is none of 8074, 8075, 12076, 23456, 64496 to 64511, 65515, 65517 to 65520"
)

// routeServers reads the Route Servers; names are those of the targets before.
func routeServers(n located.Node, d *Domain) []RouteServer {
	var out []RouteServer
	names := map[string]bool{}
	for _, t := range d.Targets {
		names[t.Name] = true
	}
	how := newSelector(d)
	for _, item := range items(n, "at least one Route Server, or no routeServers at all") {
		m := item.Map("name", "virtualHub", "peers", "prefixes", "nextHops", "maxPeers", "routesPerPeer", "apply")
		r := RouteServer{
			Prefixes:      matches(m.Get("prefixes")),
			NextHops:      nextHops(m.Get("nextHops"), wantFrontend, how.nvas),
			MaxPeers:      located.Or(m.Get("maxPeers"), DefaultMaxPeers, "a number of peers from 1 to 100", located.Int(1, 100)),
			RoutesPerPeer: located.Or(m.Get("routesPerPeer"), DefaultRoutesPerPeer, "a number of routes from 1 to 100000", located.Int(1, 100000)),
			Apply:         located.Or(m.Get("apply"), ApplyAuto, "auto or observe", parsePeerApply),
		}
		list := m.Need("peers", "a list of the NVAs that peer with it, each with its asn")
		r.Peers = peers(list, d)
		if len(r.Peers) > r.MaxPeers {
			list.Reportf("%d peers, and maxPeers is %d: leave some out, or have the limit raised and maxPeers with it", len(r.Peers), r.MaxPeers)
		}
		r.Name = uniqueName(m.Need("name", wantName), names)
		hub := m.Need("virtualHub", wantHub)
		r.VirtualHub, _ = located.Value(hub, wantHub, parseHubID)
		for _, other := range out {
			if r.VirtualHub != "" && SameTable(other.VirtualHub, r.VirtualHub) {
				hub.Reportf("the Route Server is already kept as %s: want it once", other.Name)
			}
		}
		out = append(out, r)
	}
	return out
}

func peers(n located.Node, d *Domain) []Peer {
	var out []Peer
	for _, item := range items(n, "at least one peer") {
		m := item.Map("nva", "asn", "address")
		named := m.Need("nva", "the name of an NVA of this file")
		p := Peer{ASN: uint32(located.Or(m.Need("asn", wantASN), 0, wantASN, parseASN))} //nolint:gosec // 16 bits
		p.NVA, _ = named.Text("the name of an NVA of this file")
		v, known := d.NVA(p.NVA)
		switch {
		case p.NVA == "":
		case !known:
			named.Reportf("%q is not an NVA of this file", p.NVA)
		case slices.ContainsFunc(out, func(o Peer) bool { return o.NVA == p.NVA }):
			named.Reportf("the name %s stands twice", p.NVA)
		}
		given := m.Get("address")
		p.Address = located.Or(given, ofFamily(v.NextHops, netip.PrefixFrom(netip.IPv4Unspecified(), 0)), "the IPv4 address from which the NVA speaks BGP", parsePeerAddress)
		if known && !given.Present() && !p.Address.IsValid() {
			named.Reportf("%s has no IPv4 next hop, and Route Server peers over IPv4 only: give the peer an address", p.NVA)
		}
		if i := slices.IndexFunc(out, func(o Peer) bool { return o.Address == p.Address && p.Address.IsValid() }); i >= 0 {
			item.Reportf("%s is already the address of %s", p.Address, cmp.Or(out[i].NVA, "a peer above"))
		}
		out = append(out, p)
	}
	return out
}

// ranges reads how prefixes are brought into the VNet, after all targets.
func ranges(n located.Node, d *Domain) []Range {
	var out []Range
	seen := map[route.Match]bool{}
	for _, item := range items(n, "at least one range, or no ranges at all") {
		m := item.Map("prefixes", "via")
		lines, via := m.Need("prefixes", "the prefixes that the range holds, such as 10.0.0.0/8 le 24"), m.Need("via", wantVia)
		r := Range{Prefixes: matches(lines), Via: located.Or(via, 0, wantVia, parseVia)}
		for _, line := range r.Prefixes {
			if seen[line] {
				lines.Reportf("%s stands in a range above, and the first one that matches wins", line)
			}
			seen[line] = true
			if !line.Prefix.Addr().Is4() && (r.Via == ViaRouteServer || r.Via == ViaOverride) {
				lines.Reportf("%s cannot go via %s: Route Server carries IPv4 only", line, r.Via)
			}
		}
		switch {
		case r.Via == 0:
		case r.Via.Announced() && len(d.RouteServers) == 0:
			via.Reportf("via %s needs a Route Server: this file has no routeServers", r.Via)
		case r.Via != ViaRouteServer && len(d.Targets) == 0:
			via.Reportf("via %s needs a route table: this file has no targets", r.Via)
		}
		out = append(out, r)
	}
	return out
}

func parseVia(s string) (Via, error) {
	for _, v := range Vias() {
		if s == v.String() {
			return v, nil
		}
	}
	return 0, fmt.Errorf("found %q", s)
}

// parsePeerApply knows no approve: a plan for a Route Server is a sequence of operations that take minutes each, and is made anew after every one.
func parsePeerApply(s string) (Apply, error) {
	if a, err := parseApply(s); err == nil && a != ApplyApprove {
		return a, nil
	}
	return 0, fmt.Errorf("found %q", s)
}

// parseASN refuses what a peer of a Route Server cannot have (Route Server FAQ): 16 bits, not Azure's own, not those of IANA for documentation and AS_TRANS.
func parseASN(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < 1 || n > 65534 {
		return 0, fmt.Errorf("found %q", s)
	}
	switch {
	case n == 65515:
		return 0, fmt.Errorf("%d is the Route Server's own", n)
	case n == 8074, n == 8075, n == 12076, n >= 65517 && n <= 65520:
		return 0, fmt.Errorf("%d is Azure's own", n)
	case n == 23456, n >= 64496 && n <= 64511:
		return 0, fmt.Errorf("%d is reserved by IANA", n)
	}
	return n, nil
}

func parsePeerAddress(s string) (netip.Addr, error) {
	a, err := parseNextHop(s)
	if err == nil && !a.Is4() {
		return netip.Addr{}, fmt.Errorf("found %q, and Route Server peers over IPv4 only", s)
	}
	return a, err
}

func parseHubID(s string) (string, error) { return parseID(s, "virtualHubs") }
