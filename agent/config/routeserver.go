package config

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/route"
)

const (
	wantIPv4      = "an IPv4 address"
	wantRouteAS   = "an AS number of 16 bits that Route Server takes, such as one from 64512 to 65514"
	wantInstances = "both instances of the Route Server (virtualRouterIps), such as [10.0.1.4, 10.0.1.5]"
)

// routeServer reads what is announced to a Route Server; nil: there is none.
func routeServer(absent []string, n located.Node) *routeserver.Config {
	if !n.Present() {
		return nil
	}
	if slices.Contains(absent, "bgp") {
		n.Reportf("this build has no BGP: install pointsman-agent-bgp")
		return nil
	}
	m := n.Map("as", "routerId", "instances", "port", "localAddress", "holdTime", "restartTime", "rank", "ranks", "nextHop", "communities",
		"include", "exclude", "defaultRoute", "routeLimit", "pace")
	ranks := fmt.Sprintf("a number from 0 to %d", routeserver.MaxRank)
	c := &routeserver.Config{
		Port:         located.Or(m.Get("port"), DefaultBGPPort, "a port from 1 to 65535", parsePort),
		LocalAddress: located.Or(m.Get("localAddress"), netip.Addr{}, wantIPv4, parseIPv4),
		HoldTime:     wholeSeconds(m.Get("holdTime"), DefaultRouteServerHoldTime, 3*time.Second, 18*time.Hour),
		RestartTime:  wholeSeconds(m.Get("restartTime"), DefaultRouteServerRestartTime, 0, 4095*time.Second), // 12 bits: RFC 4724, section 3
		Rank:         located.Or(m.Get("rank"), 0, ranks, located.Int(0, routeserver.MaxRank)),
		Ranks:        each(m.Get("ranks"), "a line such as 10.1.0.0/16 le 24 rank 1", routeserver.ParseRankRule),
		NextHop:      located.Or(m.Get("nextHop"), netip.Addr{}, wantIPv4, parseIPv4),
		Communities:  each(m.Get("communities"), wantCommunity, bgp.ParseCommunity),
		Include:      each(m.Get("include"), wantMatch, route.ParseMatch),
		Exclude:      each(m.Get("exclude"), wantMatch, route.ParseMatch),
		DefaultRoute: located.Or(m.Get("defaultRoute"), false, "true or false", located.Bool),
		RouteLimit:   located.Or(m.Get("routeLimit"), routeserver.DefaultRouteLimit, fmt.Sprintf("a number from 1 to %d", maxPrefixes), located.Int(1, maxPrefixes)),
		Pace:         duration(m.Get("pace"), DefaultRouteServerPace, time.Second, time.Hour),
	}
	c.AS, _ = located.Value(m.Need("as", wantRouteAS), wantRouteAS, routeserver.ParseAS)
	c.RouterID = located.Or(m.Get("routerId"), c.LocalAddress, "an IPv4 address other than 0.0.0.0", parseRouterID)
	if !m.Get("routerId").Present() && !c.RouterID.IsValid() {
		n.Reportf("routerId: missing: want an IPv4 address, since localAddress gives none")
	}
	instances(m.Need("instances", wantInstances), c)
	checkRouteServer(m, c)
	return c
}

func instances(n located.Node, c *routeserver.Config) {
	list := each(n, wantIPv4, parseIPv4)
	if !n.Present() {
		return
	}
	if items := len(n.List()); items != routeserver.Instances || len(list) == items && list[0] == list[1] {
		n.Reportf("found %d different addresses: want %s; Route Server needs the same routes at both", len(slices.Compact(slices.Clone(list))), wantInstances)
		return
	}
	copy(c.Instances[:], list)
}

// maxCommunities keeps the attributes of a route far below what fits into a message.
const maxCommunities = 16

// checkRouteServer reports settings that contradict each other.
func checkRouteServer(m located.Map, c *routeserver.Config) {
	if len(c.Communities) > maxCommunities {
		m.Get("communities").Reportf("found %d communities: want at most %d", len(c.Communities), maxCommunities)
	}
	for _, a := range c.Instances {
		if !a.IsValid() {
			continue
		}
		for key, other := range map[string]netip.Addr{"localAddress": c.LocalAddress, "nextHop": c.NextHop, "routerId": c.RouterID} {
			if other == a && m.Get(key).Present() {
				m.Get(key).Reportf("found %s, which is an instance of the Route Server", a)
			}
		}
	}
}

func wholeSeconds(n located.Node, otherwise, low, high time.Duration) time.Duration {
	d := duration(n, otherwise, low, high)
	if d%time.Second != 0 {
		n.Reportf("found %s: want whole seconds", d)
	}
	return d
}

func parseIPv4(s string) (netip.Addr, error) {
	a, err := parseAddress(s)
	if err == nil && !a.Is4() {
		err = fmt.Errorf("found %q: Route Server takes IPv4 only", s)
	}
	return a, err
}

// keepFromRouteServer has the bgp sources refuse what came through a Route Server: announced to it again it would be a loop, and as a user-defined
// route to this NVA it would send packets in a circle.
func keepFromRouteServer(sources []Source) {
	for _, s := range sources {
		if s.BGP != nil && !slices.Contains(s.BGP.ASPath.Deny, routeserver.AS) {
			s.BGP.ASPath.Deny = append(s.BGP.ASPath.Deny, routeserver.AS)
		}
	}
}
