package config

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/route"
)

// Mode says how the next hops of a prefix are chosen among the NVAs that announce it. The zero Mode counts as ModePrimaryBackup.
type Mode uint8

// The modes.
const (
	ModePrimaryBackup Mode = iota + 1 // one NVA: preference, then metric, then name
	ModeECMP                          // all that are equally good, in one route
	ModeSpread                        // one NVA for each site, so that both directions of a flow meet the same one
	ModeNextHopIP                     // an address that is no NVA's own, such as the frontend of an internal load balancer
)

// Modes returns all modes, in order.
func Modes() []Mode { return []Mode{ModePrimaryBackup, ModeECMP, ModeSpread, ModeNextHopIP} }

// String returns the word of the domain file.
func (m Mode) String() string {
	switch m {
	case 0, ModePrimaryBackup:
		return "primary-backup"
	case ModeECMP:
		return "ecmp"
	case ModeSpread:
		return "spread"
	case ModeNextHopIP:
		return "next-hop-ip"
	}
	return fmt.Sprintf("mode-%d", uint8(m))
}

// Selection is a mode with what belongs to it.
type Selection struct {
	Mode        Mode
	MaxNextHops int          // with ModeECMP: 2 to 64
	NextHops    []netip.Addr // with ModeNextHopIP: at most one per family
}

// NextHop returns the address that stands for the NVAs in prefixes of p's family; invalid where there is none.
func (s Selection) NextHop(p netip.Prefix) netip.Addr { return ofFamily(s.NextHops, p) }

// Rule is a selection for some prefixes of a target.
type Rule struct {
	Prefixes []route.Match
	Selection
}

// SelectionFor returns how the next hops of p are chosen: by the first rule that matches it, else as for the whole target.
func (t Target) SelectionFor(p netip.Prefix) Selection {
	for _, r := range t.Rules {
		if route.AnyMatches(r.Prefixes, p) {
			return r.Selection
		}
	}
	return t.Selection
}

// Spreads reports whether any prefix of the target is in ModeSpread.
func (t Target) Spreads() bool {
	return t.Selection.Mode == ModeSpread || slices.ContainsFunc(t.Rules, func(r Rule) bool { return r.Mode == ModeSpread })
}

// Spread says what mode spread deals to the NVAs: sites, not prefixes.
type Spread struct {
	Spokes    []Spoke       // in the order of the file; no two of their prefixes overlap
	Blocks    []route.Match // how prefixes of no spoke are gathered; Max is the length of a block
	MaxExcess float64       // the share above its own by which an NVA may carry more spokes than the average
}

// Spoke is a site on the Azure side of the NVAs: what shares a route table.
type Spoke struct {
	Name     string
	Prefixes []netip.Prefix
}

// North is the side of a table that is not a spoke's, as that of a GatewaySubnet.
const North = "north"

// DefaultMaxNextHops is all that Azure lets a route have (armnetwork, RouteNextHopEcmp), DefaultMaxExcess a bound that seldom binds.
const (
	DefaultMaxNextHops = 64
	DefaultMaxExcess   = 0.25
	DefaultWeight      = 1
)

// Block returns the part of the address space that p is dealt with, as long as no spoke has it: p itself where the file names no block.
func (s Spread) Block(p netip.Prefix) netip.Prefix {
	for _, b := range s.Blocks {
		if p.Bits() >= b.Prefix.Bits() && b.Prefix.Contains(p.Addr()) {
			return netip.PrefixFrom(p.Addr(), min(p.Bits(), b.Max)).Masked()
		}
	}
	return p
}

func ofFamily(list []netip.Addr, p netip.Prefix) netip.Addr {
	for _, a := range list {
		if a.BitLen() == p.Addr().BitLen() {
			return a
		}
	}
	return netip.Addr{}
}

const wantMode = "primary-backup, ecmp, spread or next-hop-ip"

// selector reads the selections of one target: its own and those of its rules.
type selector struct {
	nvas    map[netip.Addr]string // whose next hop an address is
	spreads []located.Node        // where mode spread stands
}

func newSelector(d *Domain) *selector {
	s := &selector{nvas: map[netip.Addr]string{}}
	for _, v := range d.NVAs {
		for _, a := range v.NextHops {
			s.nvas[a] = cmp.Or(v.Name, "an NVA above")
		}
	}
	return s
}

// read reads the selection that the mapping has at mode and beside it.
func (s *selector) read(m located.Map, mode located.Node) Selection {
	out := Selection{Mode: ModePrimaryBackup}
	if mode.Present() {
		var ok bool
		if out.Mode, ok = located.Value(mode, wantMode, parseMode); !ok {
			return out // what belongs to it is anybody's guess
		}
	}
	limit, hops := m.Get("maxNextHops"), m.Get("nextHops")
	switch out.Mode {
	case ModeECMP:
		out.MaxNextHops = located.Or(limit, DefaultMaxNextHops, "a number of next hops from 2 to 64", located.Int(2, DefaultMaxNextHops))
	case ModeNextHopIP:
		if !hops.Present() {
			mode.Reportf("mode next-hop-ip needs nextHops: the load balancer's frontend, one address per family")
		}
		out.NextHops = nextHops(hops, wantFrontend, s.nvas)
	case ModeSpread:
		s.spreads = append(s.spreads, mode)
	case ModePrimaryBackup:
	}
	if limit.Present() && out.Mode != ModeECMP {
		limit.Reportf("maxNextHops belongs to mode ecmp, the mode here is %s", out.Mode)
	}
	if hops.Present() && out.Mode != ModeNextHopIP {
		hops.Reportf("nextHops belongs to mode next-hop-ip, the mode here is %s: an NVA's own addresses stand in nvas", out.Mode)
	}
	return out
}

func (s *selector) rules(n located.Node) []Rule {
	var out []Rule
	seen := map[route.Match]bool{}
	for _, item := range items(n, "at least one rule") {
		m := item.Map("prefixes", "mode", "maxNextHops", "nextHops")
		lines := m.Need("prefixes", "the prefixes that the rule is for, such as 10.0.0.0/8 le 24")
		r := Rule{Prefixes: matches(lines), Selection: s.read(m, m.Need("mode", wantMode))}
		for _, line := range r.Prefixes {
			if seen[line] {
				lines.Reportf("%s stands in a rule above, and the first one that matches wins", line)
			}
			seen[line] = true
		}
		out = append(out, r)
	}
	return out
}

// side reads which side of the NVAs the table is on. It is needed where anything is spread: without it the two directions of a flow would be
// dealt by different keys.
func (s *selector) side(n located.Node, spokes []Spoke) string {
	switch {
	case !n.Present() && len(s.spreads) > 0:
		s.spreads[0].Reportf("mode spread needs side: the spoke whose subnets use this table, or %s for a table that leads to the spokes", North)
	case n.Present() && len(s.spreads) == 0:
		n.Reportf("side belongs to mode spread, and nothing in this target has that mode")
	}
	name, ok := n.Text("the name of a spoke, or " + North)
	if ok && name != North && !slices.ContainsFunc(spokes, func(k Spoke) bool { return k.Name == name }) {
		n.Reportf("%q is neither a spoke of spread.spokes nor %s", name, North)
	}
	return name
}

func parseMode(s string) (Mode, error) {
	for _, m := range Modes() {
		if m.String() == s {
			return m, nil
		}
	}
	return 0, fmt.Errorf("found %q", s)
}

func spread(n located.Node) Spread {
	m := n.Map("spokes", "blocks", "maxExcess")
	return Spread{
		Spokes:    spokes(m.Get("spokes")),
		Blocks:    blocks(m.Get("blocks")),
		MaxExcess: located.Or(m.Get("maxExcess"), DefaultMaxExcess, "a share such as 25%", parseShare),
	}
}

// claim is a prefix of a spoke, and where it stands.
type claim struct {
	prefix netip.Prefix
	spoke  string
	node   located.Node
}

func spokes(n located.Node) []Spoke {
	var out []Spoke
	var claims []claim
	names := map[string]bool{}
	for _, item := range items(n, "at least one spoke") {
		m := item.Map("name", "prefixes")
		node := m.Need("name", wantName)
		k := Spoke{Name: uniqueName(node, names)}
		if k.Name == North {
			node.Reportf("%s is the other side of the NVAs: want another name", North)
		}
		for _, line := range items(m.Need("prefixes", "a list of the spoke's prefixes, such as 10.1.0.0/16"), "at least one prefix") {
			if p, ok := located.Value(line, "a prefix of the spoke, such as 10.1.0.0/16", route.Parse); ok {
				k.Prefixes = append(k.Prefixes, p)
				claims = append(claims, claim{p, k.Name, line})
			}
		}
		out = append(out, k)
	}
	checkClaims(claims)
	return out
}

// checkClaims reports prefixes that overlap. In their order whatever covers a prefix stands before it.
func checkClaims(claims []claim) {
	slices.SortStableFunc(claims, func(a, b claim) int { return route.Compare(a.prefix, b.prefix) })
	var cover claim
	for _, c := range claims {
		if cover.prefix.IsValid() && cover.prefix.Overlaps(c.prefix) {
			c.node.Reportf("%s overlaps %s of spoke %s: an address belongs to one spoke, once", c.prefix, cover.prefix, cover.spoke)
			continue
		}
		cover = c
	}
}

const wantBlock = "a prefix with the length of a block, such as 10.0.0.0/8 le 20"

func blocks(n located.Node) []route.Match {
	var out []route.Match
	for _, item := range items(n, wantBlock) {
		m, ok := located.Value(item, wantBlock, func(s string) (route.Match, error) {
			if slices.Contains(strings.Fields(s), "ge") {
				return route.Match{}, fmt.Errorf("found %q, and ge means nothing here", s)
			}
			return route.ParseMatch(s)
		})
		if ok {
			out = append(out, m)
		}
	}
	return out
}
