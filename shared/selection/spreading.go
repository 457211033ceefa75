package selection

import (
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/spread"
)

// Spreading is how the traffic of one table is dealt to the NVAs while the same ones can be used. All tables of a domain that see the same NVAs
// deal alike, so both directions of a flow meet the same one.
//
// It is dealt twice. Who is to be trusted now gets the traffic; who is in its hold-down, or silent but not known to be dead, is dealt in
// only the second time: it keeps what it has if that is its own, and is given nothing new.
//
//	flow between                   its key          dealt by
//	spoke A and the north          A                Deal: no NVA carries more spokes than its bound
//	spokes A and B                 A|B              Best
//	the north and no spoke         the block        Best
type Spreading struct {
	side   string
	blocks config.Spread
	spokes []place   // in the order of their prefixes
	now    deal      // to those that are trusted
	later  deal      // to those, and those that may be again
	look   time.Time // when the first hold-down ends; zero: none is running
}

// place is a prefix of a spoke.
type place struct {
	prefix netip.Prefix
	spoke  string
}

// Member is an NVA of the target with what is believed of it.
type Member struct {
	NVA    config.NVA
	Belief liveness.Belief
}

// waits reports whether it is up and in its hold-down.
func (m Member) waits(now time.Time) bool {
	return m.Belief.State == liveness.Up && (m.Belief.Untold || now.Before(m.Belief.Trusted))
}

// NewSpreading deals the spokes to the members. Each deal is among the most preferred of those that can be used.
func NewSpreading(s config.Spread, side string, members []Member, now time.Time) *Spreading {
	x := &Spreading{side: side, blocks: s}
	names := make([]string, 0, len(s.Spokes))
	for _, k := range s.Spokes {
		names = append(names, k.Name)
		for _, p := range k.Prefixes {
			x.spokes = append(x.spokes, place{p, k.Name})
		}
	}
	slices.SortFunc(x.spokes, func(a, b place) int { return route.Compare(a.prefix, b.prefix) })
	x.now = dealTo(names, members, func(m Member) bool { return m.Belief.State == liveness.Up && !m.waits(now) }, s.MaxExcess)
	x.later = dealTo(names, members, func(m Member) bool { return m.Belief.State.Usable() }, s.MaxExcess)
	for _, m := range members {
		if m.waits(now) && !m.Belief.Untold {
			x.look = Sooner(x.look, m.Belief.Trusted)
		}
	}
	return x
}

// Stale reports whether a hold-down has ended since the deal.
func (x *Spreading) Stale(now time.Time) bool { return !x.look.IsZero() && !now.Before(x.look) }

// deal is one of the two.
type deal struct {
	nodes  []spread.Node     // those that take part
	owners map[string]string // of the spokes
}

// dealTo deals the spokes to the most preferred of the members that may have them. The others of the same preference have their homes all the same, for
// when they are back.
func dealTo(spokes []string, members []Member, may func(Member) bool, excess float64) deal {
	best, found := 0, false
	for _, m := range members {
		if may(m) && (!found || m.NVA.Preference > best) {
			best, found = m.NVA.Preference, true
		}
	}
	var d deal
	var homes []spread.Node
	for _, m := range members {
		if found && m.NVA.Preference == best {
			homes = append(homes, node(m.NVA))
			if may(m) {
				d.nodes = append(d.nodes, node(m.NVA))
			}
		}
	}
	d.owners = spread.Deal(spokes, homes, func(n spread.Node) bool { return slices.Contains(d.nodes, n) }, excess)
	return d
}

// owner returns the NVA that the key is dealt to; "" where there is none.
func (d deal) owner(key string) string {
	if owner, spoke := d.owners[key]; spoke {
		return owner
	}
	return spread.Best(key, d.nodes)
}

func node(n config.NVA) spread.Node { return spread.Node{Name: n.Name, Weight: max(n.Weight, 1)} }

// key returns what is hashed for the traffic that the table sends to p.
func (x *Spreading) key(p netip.Prefix) string {
	to, spoke := x.spokeOf(p)
	switch {
	case x.side != config.North && spoke:
		return spread.Pair(x.side, to)
	case x.side != config.North:
		return x.side
	case spoke:
		return to
	}
	return x.blocks.Block(p).String()
}

// spokeOf returns the spoke that p lies in. No two prefixes of spokes overlap, so only the last one that does not sort after p can cover it.
func (x *Spreading) spokeOf(p netip.Prefix) (string, bool) {
	i, found := slices.BinarySearchFunc(x.spokes, p, func(k place, p netip.Prefix) int { return route.Compare(k.prefix, p) })
	if !found {
		i--
	}
	if i < 0 || x.spokes[i].prefix.Bits() > p.Bits() || !x.spokes[i].prefix.Contains(p.Addr()) {
		return "", false
	}
	return x.spokes[i].spoke, true
}
