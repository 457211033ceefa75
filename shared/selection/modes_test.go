package selection_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/spread"
)

// TestECMP is the truth table of who shares a prefix.
func TestECMP(t *testing.T) {
	const p, old, fresh = "10.1.0.0/16", time.Hour, 10 * time.Second
	say := func(name, belief string, preference int, upFor time.Duration, metric int) nva {
		return nva{name: name, belief: belief, preference: preference, upFor: upFor, announces: fmt.Sprintf("%s@%d", p, metric)}
	}
	a, b, c := say("a", "up", 1, old, 0), say("b", "up", 1, old, 0), say("c", "up", 1, old, 0)
	on := func(who string) map[string]string { return map[string]string{p: who} }
	down, hold := config.SilenceDown, config.SilenceHold
	x, y := nva{name: "x", belief: "up", upFor: old}, nva{name: "y", belief: "up", upFor: old} // so that two silent ones are not most of them
	for _, tt := range []struct {
		name      string
		silence   config.Silence
		most      int
		installed map[string]string
		nvas      []nva
		want      string
	}{
		{"all that are up", down, 64, nil, []nva{a, b, c}, "a+b+c best"},
		{"no more than it may be", down, 2, nil, []nva{a, b, c}, "a+b best"},
		{"Azure takes one only", down, 1, nil, []nva{a, b, c}, "a best"},
		{"one announces", down, 64, on("a b"), []nva{a, {name: "b", belief: "up", upFor: old}}, "a best"},
		{"the preferred ones", down, 64, nil, []nva{say("a", "up", 2, old, 0), say("b", "up", 2, old, 0), c}, "a+b best"},
		{"equal metrics only", down, 64, nil, []nva{a, b, say("c", "up", 1, old, 5)}, "a+b best"},
		{"a dead member leaves", down, 64, on("a b c"), []nva{a, say("b", "silent", 1, old, 0), c}, "a+c best"},
		{"... and so does a draining one", hold, 64, on("a b"), []nva{a, say("b", "draining", 1, old, 0)}, "a best"},
		{"a silent member that may live stays", hold, 64, on("a b"), []nva{a, say("b", "silent", 1, old, 0)}, "a+b best"},
		{"... and does not come in", hold, 64, on("a"), []nva{a, say("b", "silent", 1, old, 0)}, "a best"},
		{"a member that returns waits", down, 64, on("a"), []nva{a, say("b", "up", 1, fresh, 0)}, "a best"},
		{"... but not if it never left", down, 64, on("a b"), []nva{a, say("b", "up", 1, fresh, 0)}, "a+b best"},
		{"all return", down, 64, nil, []nva{say("a", "up", 1, fresh, 0), say("b", "up", 1, fresh, 0)}, "a+b returning"},
		{"the preferred ones return", down, 64, on("c"), []nva{say("a", "up", 2, fresh, 0), say("b", "up", 2, fresh, 0), c}, "c kept"},
		{"all dead, frozen: all stay", down, 64, on("a b"), []nva{say("a", "silent", 1, old, 0), say("b", "silent", 1, old, 0)}, "a+b kept"},
		{"all that have it are dead: the others", down, 64, on("a b"), []nva{say("a", "silent", 1, old, 0), say("b", "silent", 1, old, 0), c, x}, "c best"},
		{"nobody is up: the installed ones", down, 64, on("a b"), []nva{say("a", "silent", 1, old, 0), say("b", "silent", 1, old, 0), x, y}, "a+b last-holder"},
	} {
		in := input(tt.silence, tt.installed, tt.nvas...)
		in.Target.Selection = config.Selection{Mode: config.ModeECMP, MaxNextHops: tt.most}
		if got := show(selection.Select(in)); got != p+" "+tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestWithoutECMPOneIsUsed(t *testing.T) {
	in := input(config.SilenceDown, nil, nva{name: "b", belief: "up", upFor: time.Hour, announces: "10.1.0.0/16"}, nva{name: "a", belief: "up", upFor: time.Hour, announces: "10.1.0.0/16"})
	in.Target.Selection, in.NoECMP = config.Selection{Mode: config.ModeECMP, MaxNextHops: 64}, true
	if got := show(selection.Select(in)); got != "10.1.0.0/16 a best" {
		t.Error(got)
	}
}

// TestAReturningMemberIsLookedAt: the set changes when its hold-down ends, without news.
func TestAReturningMemberIsLookedAt(t *testing.T) {
	in := input(config.SilenceDown, map[string]string{"10.1.0.0/16": "a"},
		nva{name: "a", belief: "up", upFor: time.Hour, announces: "10.1.0.0/16"}, nva{name: "b", belief: "up", upFor: 12 * time.Second, announces: "10.1.0.0/16"})
	for mode, want := range map[config.Mode]time.Time{config.ModePrimaryBackup: {}, config.ModeECMP: now.Add(18 * time.Second), config.ModeSpread: now.Add(18 * time.Second)} {
		in.Target.Selection = config.Selection{Mode: mode, MaxNextHops: 64}
		in.Target.Side = config.North
		if got := selection.Select(in).NextLook; !got.Equal(want) {
			t.Errorf("%s: looked at again at %v, want %v", mode, got, want)
		}
	}
}

// TestNextHopIP: the frontend stands for the NVAs as long as any of them announces the prefix, however doubtful it is.
func TestNextHopIP(t *testing.T) {
	frontend := netip.MustParseAddr("10.255.0.100")
	for belief, want := range map[string]string{
		"up": "10.1.0.0/16 a best", "silent": "10.1.0.0/16 a last-holder", "draining": "10.1.0.0/16 a last-holder", "unheard": "10.1.0.0/16 a last-holder",
	} {
		in := input(config.SilenceDown, nil, nva{name: "a", belief: belief, upFor: time.Hour, announces: "10.1.0.0/16 fd00:1::/48"}, nva{name: "b", belief: "up", upFor: time.Hour})
		if belief == "unheard" {
			in.NVAs["a"].Facts = input(config.SilenceDown, nil, nva{name: "a", belief: "up", announces: "10.1.0.0/16 fd00:1::/48"}).NVAs["a"].Facts
		}
		in.Target.Selection = config.Selection{Mode: config.ModeNextHopIP, NextHops: []netip.Addr{frontend}}
		r := selection.Select(in)
		if got := show(r); got != want || r.Choices[0].NextHops != route.NextHopsOf(frontend) {
			t.Errorf("%s: %s to %v", belief, got, r.Choices)
		}
		if len(r.Refused) != 1 || r.Refused[0].String() != "a fd00:1::/48: the target's nextHops have no address of this family" {
			t.Errorf("%s: refused %v", belief, r.Refused)
		}
	}
}

// TestRulesComeFirst: one target, one mode for each prefix.
func TestRulesComeFirst(t *testing.T) {
	all := "10.1.0.0/16 10.2.0.0/16 10.3.0.0/16"
	in := input(config.SilenceDown, nil, nva{name: "a", belief: "up", upFor: time.Hour, announces: all}, nva{name: "b", belief: "up", upFor: time.Hour, announces: all})
	line := func(s string) []route.Match {
		m, err := route.ParseMatch(s)
		if err != nil {
			t.Fatal(err)
		}
		return []route.Match{m}
	}
	in.Target.Selection = config.Selection{Mode: config.ModeECMP, MaxNextHops: 64}
	in.Target.Rules = []config.Rule{
		{Prefixes: line("10.2.0.0/16"), Selection: config.Selection{Mode: config.ModePrimaryBackup}},
		{Prefixes: line("10.2.0.0/15 le 16"), Selection: config.Selection{Mode: config.ModeNextHopIP, NextHops: []netip.Addr{hop("z", false)}}},
	}
	var got []string
	for _, c := range selection.Select(in).Choices {
		got = append(got, fmt.Sprint(c.Prefix, " ", c.NextHops))
	}
	if want := "10.1.0.0/16 10.255.0.4,10.255.0.5; 10.2.0.0/16 10.255.0.4; 10.3.0.0/16 10.255.0.29"; strings.Join(got, "; ") != want {
		t.Errorf("got %s, want %s", strings.Join(got, "; "), want)
	}
}

// hub is 60 spokes and 40 blocks on premises, all announced by four NVAs.
type hub struct {
	domain    *config.Domain
	nvas      []nva
	installed map[string]map[netip.Prefix]route.NextHops // by side
}

func newHub() *hub {
	h := &hub{installed: map[string]map[netip.Prefix]route.NextHops{}}
	var announced []string
	spokes := config.Spread{MaxExcess: 0.25}
	for i := range 60 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)
		spokes.Spokes = append(spokes.Spokes, config.Spoke{Name: fmt.Sprintf("spoke-%d", i), Prefixes: []netip.Prefix{p}})
		announced = append(announced, fmt.Sprintf("10.%d.0.0/17 10.%d.128.0/17", i, i))
	}
	for i := range 40 {
		announced = append(announced, fmt.Sprintf("10.200.%d.0/24", i))
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		h.nvas = append(h.nvas, nva{name: name, belief: "up", upFor: time.Hour, announces: strings.Join(announced, " "), max: 1000})
	}
	h.domain = input(config.SilenceDown, nil, h.nvas...).Domain
	h.domain.Spread = spokes
	return h
}

// write brings the table of every side up to date.
func (h *hub) write() {
	for _, side := range h.sides() {
		in := input(config.SilenceDown, nil, h.nvas...)
		in.Domain.Spread = h.domain.Spread
		in.Target.Selection, in.Target.Side, in.Installed = config.Selection{Mode: config.ModeSpread}, side, h.installed[side]
		table := map[netip.Prefix]route.NextHops{}
		for _, c := range selection.Select(in).Choices {
			table[c.Prefix] = c.NextHops
		}
		h.installed[side] = table
	}
}

func (h *hub) sides() []string {
	sides := []string{config.North}
	for _, k := range h.domain.Spread.Spokes {
		sides = append(sides, k.Name)
	}
	return sides
}

// asymmetric returns the share of flows whose directions meet two NVAs: from every spoke to every block on premises, and between spokes.
func (h *hub) asymmetric() float64 {
	flows, wrong := 0, 0
	count := func(there, back route.NextHops) {
		flows++
		if there.Empty() || there != back {
			wrong++
		}
	}
	for i, k := range h.domain.Spread.Spokes {
		own := netip.PrefixFrom(k.Prefixes[0].Addr(), 17)
		for n := range 40 {
			premises := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 200, byte(n), 0}), 24)
			count(h.installed[k.Name][premises], h.installed[config.North][own])
		}
		for _, other := range h.domain.Spread.Spokes[:i] {
			count(h.installed[k.Name][netip.PrefixFrom(other.Prefixes[0].Addr(), 17)], h.installed[other.Name][own])
		}
	}
	return float64(wrong) / float64(flows)
}

// imbalance returns the largest number of spokes that an NVA carries, over the mean of those that carry any.
func (h *hub) imbalance() float64 {
	loads := map[route.NextHops]int{}
	for _, k := range h.domain.Spread.Spokes {
		loads[h.installed[config.North][netip.PrefixFrom(k.Prefixes[0].Addr(), 17)]]++
	}
	return float64(slices.Max(slices.Collect(maps.Values(loads)))) * float64(len(loads)) / float64(len(h.domain.Spread.Spokes))
}

func (h *hub) clone() map[string]map[netip.Prefix]route.NextHops {
	out := map[string]map[netip.Prefix]route.NextHops{}
	for side, table := range h.installed {
		out[side] = maps.Clone(table)
	}
	return out
}

// moved counts the routes that are not what they were, and those of them that did not lead to hop before or lead there now.
func (h *hub) moved(before map[string]map[netip.Prefix]route.NextHops, hop netip.Addr) (all, needless int) {
	for side, table := range h.installed {
		for p, hops := range table {
			was := before[side][p]
			if was == hops {
				continue
			}
			all++
			if !was.Contains(hop) && !hops.Contains(hop) {
				needless++
			}
		}
	}
	return all, needless
}

// TestSpreadIsSymmetric: no flow meets two NVAs while all are up, when one has died, while it is in its hold-down, and when it is back; and only
// what the dead one carried moves.
func TestSpreadIsSymmetric(t *testing.T) {
	h := newHub()
	h.write()
	const dead = 2 // c
	hop := hop(h.nvas[dead].name, false)
	check := func(when string, moves bool) {
		t.Helper()
		before := h.clone()
		h.write()
		all, needless := h.moved(before, hop)
		t.Logf("%s: %.1f %% of flows asymmetric, imbalance %.3f, %d routes moved", when, 100*h.asymmetric(), h.imbalance(), all)
		if h.asymmetric() != 0 || h.imbalance() > 1.25 {
			t.Errorf("%s: %.1f %% of flows asymmetric, imbalance %.3f", when, 100*h.asymmetric(), h.imbalance())
		}
		if (all > 0) != moves || needless > 0 {
			t.Errorf("%s: %d routes moved, %d of them were not the dead one's", when, all, needless)
		}
	}
	check("all up", false)
	h.nvas[dead].belief = "silent"
	check("one dead", true)
	h.nvas[dead].belief, h.nvas[dead].upFor = "up", time.Second
	check("in its hold-down", false)
	h.nvas[dead].upFor = time.Minute
	check("back", true)
	h.nvas[dead].upFor = time.Second // it was heard again before anything had moved
	check("never left", false)
}

// TestSpreadKeys: what is hashed for a prefix in each table.
func TestSpreadKeys(t *testing.T) {
	list := []spread.Node{{Name: "a", Weight: 1}, {Name: "b", Weight: 1}, {Name: "c", Weight: 1}}
	prefixes := []string{"10.1.0.0/16", "10.1.7.0/24", "10.2.0.0/16", "10.3.9.0/24", "10.64.1.0/24", "10.64.200.0/24", "10.128.0.0/24", "10.0.0.0/8", "fd00:1:2::/48"}
	keys := map[string][]string{
		config.North: {"spoke-1", "spoke-1", "spoke-2", "spoke-2", "10.64.0.0/17", "10.64.128.0/17", "10.128.0.0/24", "10.0.0.0/8", "spoke-2"},
		"spoke-1":    {"spoke-1", "spoke-1", "spoke-1|spoke-2", "spoke-1|spoke-2", "spoke-1", "spoke-1", "spoke-1", "spoke-1", "spoke-1|spoke-2"},
	}
	for side, want := range keys {
		for i, text := range prefixes {
			in := input(config.SilenceDown, nil, nva{name: "a", belief: "up", upFor: time.Hour, announces: text}, nva{name: "b", belief: "up", upFor: time.Hour, announces: text}, nva{name: "c", belief: "up", upFor: time.Hour, announces: text})
			in.Domain.Spread = sites
			in.Domain.Spread.MaxExcess = 1e9
			block, err := route.ParseMatch("10.64.0.0/10 le 17")
			if err != nil {
				t.Fatal(err)
			}
			in.Domain.Spread.Blocks = []route.Match{block}
			in.Target.Selection, in.Target.Side = config.Selection{Mode: config.ModeSpread}, side
			if got, owner := show(selection.Select(in)), spread.Best(want[i], list); got != text+" "+owner+" best" {
				t.Errorf("%s in the table of %s: %s, want %s by the key %s", text, side, got, owner, want[i])
			}
		}
	}
}

// TestSpreadWithoutItsOwner: where the NVA that a site is dealt to does not announce a prefix, another one carries that prefix.
func TestSpreadWithoutItsOwner(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := any5().Draw(t, "world")
		in.Target.Selection = config.Selection{Mode: config.ModeSpread}
		before := selection.Select(in).Choices
		if len(before) == 0 {
			return
		}
		c := rapid.SampledFrom(before).Draw(t, "prefix")
		delete(in.NVAs[c.NVAs[0]].Facts, c.Prefix)
		for _, after := range selection.Select(in).Choices {
			switch i := slices.IndexFunc(before, func(b selection.Choice) bool { return b.Prefix == after.Prefix }); {
			case after.Prefix == c.Prefix && after.NVAs[0] == c.NVAs[0]:
				t.Fatalf("%s stays with %s, which does not announce it", c.Prefix, c.NVAs[0])
			case after.Prefix != c.Prefix && after.NextHops != before[i].NextHops:
				t.Fatalf("%s moves from %s to %s because %s was withdrawn", after.Prefix, before[i].NextHops, after.NextHops, c.Prefix)
			}
		}
	})
}
