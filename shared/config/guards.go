package config

import (
	"fmt"
	"net/netip"

	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/route"
)

// Apply says what becomes of a target's plan.
type Apply uint8

// The ways to apply a plan.
const (
	ApplyAuto    Apply = iota + 1 // it is written
	ApplyApprove                  // it waits in the target's document until an operator names its hash
	ApplyObserve                  // it is shown and never written
)

// String returns the word of the domain file.
func (a Apply) String() string {
	switch a {
	case ApplyAuto:
		return "auto"
	case ApplyApprove:
		return "approve"
	case ApplyObserve:
		return "observe"
	}
	return fmt.Sprintf("apply-%d", uint8(a))
}

// OwnSubnet says how the table of a subnet in which an NVA has its own next hop is told from others: routes in it would send the NVA's own
// packets back to the NVA.
type OwnSubnet uint8

// The ways.
const (
	OwnSubnetCheck OwnSubnet = iota + 1 // by the target's subnets, or by reading those that the table is associated with
	OwnSubnetOff                        // not at all
)

// String returns the word of the domain file.
func (o OwnSubnet) String() string {
	if o == OwnSubnetOff {
		return "off"
	}
	return "check"
}

// GuardsOf returns the guards that hold for the target: its own, or those of the domain.
func (d *Domain) GuardsOf(t Target) Guards {
	if t.Guards != nil {
		return *t.Guards
	}
	return d.Guards
}

// defaultGuards hold where the file says nothing.
func defaultGuards() Guards {
	return Guards{MaxRemovedShare: DefaultMaxRemovedShare, MinRemoved: DefaultMinRemoved, MaxChangedShare: DefaultMaxChangedShare, OwnSubnet: OwnSubnetCheck}
}

// guards reads guards; what is left out is as in otherwise.
func guards(n located.Node, otherwise Guards) Guards {
	m := n.Map("maxRemoved", "minRemoved", "maxChanged", "minLive", "ownSubnet")
	return Guards{
		MaxRemovedShare: located.Or(m.Get("maxRemoved"), otherwise.MaxRemovedShare, "a share such as 50%", parseShare),
		MinRemoved:      located.Or(m.Get("minRemoved"), otherwise.MinRemoved, "a number of routes from 1 to 100000", located.Int(1, 100000)),
		MaxChangedShare: located.Or(m.Get("maxChanged"), otherwise.MaxChangedShare, "a share from 1% to 100%; 100% is no guard", parsePositiveShare),
		MinLive:         located.Or(m.Get("minLive"), otherwise.MinLive, "a number of NVAs from 0 (no guard) to 1000", located.Int(0, 1000)),
		OwnSubnet:       located.Or(m.Get("ownSubnet"), otherwise.OwnSubnet, "check or off", parseOwnSubnet),
	}
}

// targetGuards reads how a target is guarded and how its plans are applied.
func targetGuards(item located.Node, m located.Map, t *Target, d *Domain) {
	t.Apply = located.Or(m.Get("apply"), ApplyAuto, "auto, approve or observe", parseApply)
	if n := m.Get("guards"); n.Present() {
		g := guards(n, d.Guards)
		t.Guards = &g
	}
	g := d.GuardsOf(*t)
	if len(t.NVAs) > 0 && g.MinLive > len(t.NVAs) {
		item.Reportf("guards.minLive is %d for this target, which has %d NVAs: it would never withdraw a route", g.MinLive, len(t.NVAs))
	}
	t.Subnets = subnets(m.Get("subnets"), d, g)
}

// subnets reads the address prefixes of the subnets that use a target's table.
func subnets(n located.Node, d *Domain, g Guards) []netip.Prefix {
	const want = "the address prefix of a subnet that uses the table, such as 10.1.0.0/24"
	var out []netip.Prefix
	for _, item := range items(n, want) {
		p, ok := located.Value(item, want, route.Parse)
		if !ok {
			continue
		}
		out = append(out, p)
		if nva, hop, found := d.Inside(p); found && g.OwnSubnet != OwnSubnetOff {
			item.Reportf("%s holds %s, the next hop of %s: routes there would send the NVA's own packets back to it; give that subnet a table of its own that is no target, or set guards.ownSubnet: off", p, hop, nva)
		}
	}
	return out
}

// Inside returns the first NVA of the domain that has a next hop in the prefix.
func (d *Domain) Inside(p netip.Prefix) (nva string, hop netip.Addr, found bool) {
	for _, n := range d.NVAs {
		for _, a := range n.NextHops {
			if p.Contains(a) {
				return n.Name, a, true
			}
		}
	}
	return "", netip.Addr{}, false
}

func parseApply(s string) (Apply, error) {
	for _, a := range []Apply{ApplyAuto, ApplyApprove, ApplyObserve} {
		if s == a.String() {
			return a, nil
		}
	}
	return 0, fmt.Errorf("found %q", s)
}

func parseOwnSubnet(s string) (OwnSubnet, error) {
	for _, o := range []OwnSubnet{OwnSubnetCheck, OwnSubnetOff} {
		if s == o.String() {
			return o, nil
		}
	}
	return 0, fmt.Errorf("found %q", s)
}

func parsePositiveShare(s string) (float64, error) {
	share, err := parseShare(s)
	if err == nil && share < 0.01 {
		return 0, fmt.Errorf("found %q", s)
	}
	return share, err
}
