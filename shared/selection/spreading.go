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
	side    string
	blocks  config.Spread
	spokes  []place           // in the order of their prefixes
	now     []spread.Node     // trusted
	later   []spread.Node     // those, and those that may be again
	nowOf   map[string]string // owner of each spoke, dealt to now
	laterOf map[string]string // ... dealt to later
	look    time.Time         // when the first hold-down ends; zero: none is running
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

// NewSpreading deals the spokes to the members. Of each deal only the most preferred of those that can be used are part.
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
	x.now = preferred(members, func(m Member) bool { return m.Belief.State == liveness.Up && !m.waits(now) })
	x.later = preferred(members, func(m Member) bool { return m.Belief.State.Usable() })
	x.nowOf, x.laterOf = spread.Deal(names, x.now, s.MaxExcess), spread.Deal(names, x.later, s.MaxExcess)
	for _, m := range members {
		if m.waits(now) && !m.Belief.Untold {
			x.look = Sooner(x.look, m.Belief.Trusted)
		}
	}
	return x
}

// Stale reports whether a hold-down has ended since the deal.
func (x *Spreading) Stale(now time.Time) bool { return !x.look.IsZero() && !now.Before(x.look) }

func preferred(members []Member, may func(Member) bool) []spread.Node {
	var out []spread.Node
	best := 0
	for _, m := range members {
		if !may(m) || len(out) > 0 && m.NVA.Preference < best {
			continue
		}
		if m.NVA.Preference > best {
			out = nil
		}
		best = m.NVA.Preference
		out = append(out, node(m.NVA))
	}
	return out
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

// owners returns the NVAs that the key is dealt to now and later; "" where there is none.
func (x *Spreading) owners(key string) (now, later string) {
	if owner, spoke := x.laterOf[key]; spoke {
		return x.nowOf[key], owner
	}
	return spread.Best(key, x.now), spread.Best(key, x.later)
}
