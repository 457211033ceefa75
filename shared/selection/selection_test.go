package selection_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

var now = time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC)

// nva describes an NVA and its document in one line of a table.
type nva struct {
	name       string
	preference int
	belief     string // "up", "silent", "draining", "draining silent", "unheard"
	upFor      time.Duration
	announces  string // prefixes, each with an optional ":metric"
	max        int
	only4      bool
}

// hop is the NVA's next hop: the last byte is the last letter of its name.
func hop(name string, v6 bool) netip.Addr {
	last := name[len(name)-1] - 'a' + 4
	if v6 {
		return netip.AddrFrom16([16]byte{0: 0xfd, 15: last})
	}
	return netip.AddrFrom4([4]byte{10, 255, 0, last})
}

func (v nva) config() config.NVA {
	c := config.NVA{Name: v.name, Preference: v.preference, MaxPrefixes: v.max, NextHops: []netip.Addr{hop(v.name, false)}}
	if !v.only4 {
		c.NextHops = append(c.NextHops, hop(v.name, true))
	}
	if c.MaxPrefixes == 0 {
		c.MaxPrefixes = 100
	}
	for _, s := range []string{"10.0.0.0/8 le 24", "fd00::/8 le 64", "224.0.0.0/4 le 32"} {
		m, err := route.ParseMatch(s)
		if err != nil {
			panic(err)
		}
		c.Allow = append(c.Allow, m)
	}
	return c
}

func (v nva) document() *state.NVA {
	n := state.NewNVA("hub", v.name)
	if v.belief == "unheard" {
		return n
	}
	n.Epoch, n.Since, n.Alive = 1, now.Add(-v.upFor), state.Beat{Epoch: 1, Beat: 5}
	if strings.Contains(v.belief, "silent") {
		n.Expired = n.Alive
	}
	if strings.Contains(v.belief, "draining") {
		n.Notice = state.Notice{Kind: event.Draining, Version: event.Version{Epoch: 1, Seq: 9}}
	}
	for word := range strings.FieldsSeq(v.announces) {
		text, metric, _ := strings.Cut(word, "@")
		var f state.Fact
		if metric != "" {
			if _, err := fmt.Sscan(metric, &f.Attrs.Metric); err != nil {
				panic(err)
			}
		}
		n.Facts[netip.MustParsePrefix(text)] = f
	}
	return n
}

func input(silence config.Silence, installed map[string]string, nvas ...nva) selection.Input {
	d := &config.Domain{Name: "hub", Policy: config.Policy{Silence: silence, HoldDown: 30 * time.Second}}
	in := selection.Input{Domain: d, NVAs: map[string]*state.NVA{}, Installed: map[netip.Prefix]netip.Addr{}, Now: now}
	for _, v := range nvas {
		d.NVAs = append(d.NVAs, v.config())
		in.Target.NVAs = append(in.Target.NVAs, v.name)
		in.NVAs[v.name] = v.document()
	}
	for text, name := range installed {
		p := netip.MustParsePrefix(text)
		in.Installed[p] = hop(name, p.Addr().Is6())
	}
	return in
}

// show writes choices as "10.1.0.0/16 a best; …".
func show(r selection.Result) string {
	var out []string
	for _, c := range r.Choices {
		out = append(out, fmt.Sprintf("%s %s %s", c.Prefix, c.NVA, c.Reason))
	}
	return strings.Join(out, "; ")
}

// TestLivenessOf reads the matrix in the comment of LivenessOf and asks the code for every row of it.
func TestLivenessOf(t *testing.T) {
	source, err := os.ReadFile("selection.go")
	if err != nil {
		t.Fatal(err)
	}
	rows := 0
	for line := range strings.Lines(string(source)) {
		row, ok := strings.CutPrefix(strings.TrimSpace(line), "//\t")
		f := strings.Fields(strings.ReplaceAll(row, "hold, or frozen", "hold/frozen"))
		if !ok || len(f) < 5 || f[0] != "yes" && f[0] != "no" {
			continue
		}
		rows++
		checkLiveness(t, f)
	}
	if rows != 5 {
		t.Errorf("the matrix has %d rows, want 5", rows)
	}
}

func checkLiveness(t *testing.T, row []string) {
	t.Helper()
	may := func(cell, value string) bool { return cell == "-" || cell == value }
	for _, heard := range []string{"yes", "no"} {
		for _, draining := range []string{"yes", "no"} {
			for _, silent := range []string{"yes", "no"} {
				for _, silence := range []config.Silence{config.SilenceDown, config.SilenceHold} {
					for _, frozen := range []bool{true, false} {
						last := row[3] == "-" || (row[3] == "hold/frozen") == (frozen || silence == config.SilenceHold)
						if !may(row[0], heard) || !may(row[1], draining) || !may(row[2], silent) || !last {
							continue
						}
						v := nva{name: "a", belief: "unheard"}
						if heard == "yes" {
							v.belief = map[string]string{"yes": "draining ", "no": ""}[draining] + map[string]string{"yes": "silent", "no": "up"}[silent]
						}
						if got := selection.LivenessOf(v.document(), silence, frozen); got.String() != row[4] {
							t.Errorf("row %v, %q, silence %s, frozen %t: %s", row, v.belief, silence, frozen, got)
						}
					}
				}
			}
		}
	}
}

func TestMissingDocumentIsUnheard(t *testing.T) {
	if got := selection.LivenessOf(nil, config.SilenceDown, false); got != selection.Unheard {
		t.Errorf("got %s", got)
	}
}

func TestSelect(t *testing.T) {
	const p = "10.1.0.0/16"
	old := time.Hour
	a := func(belief string) nva {
		return nva{name: "a", preference: 200, belief: belief, upFor: old, announces: p}
	}
	b := func(belief string) nva {
		return nva{name: "b", preference: 100, belief: belief, upFor: old, announces: p}
	}
	fresh := func(v nva) nva { v.upFor = 10 * time.Second; return v }
	on := func(name string) map[string]string { return map[string]string{p: name} }
	down, hold := config.SilenceDown, config.SilenceHold
	for _, tt := range []struct {
		name      string
		silence   config.Silence
		installed map[string]string
		nvas      []nva
		want      string
	}{
		{"the preferred one", down, nil, []nva{b("up"), a("up")}, p + " a best"},
		{"preference wins over what is installed", down, on("b"), []nva{a("up"), b("up")}, p + " a best"},
		{"then the metric", down, nil, []nva{{name: "a", belief: "up", upFor: old, announces: p + "@20"}, {name: "b", belief: "up", upFor: old, announces: p + "@10"}}, p + " b best"},
		{"then the name", down, nil, []nva{{name: "b", belief: "up", upFor: old, announces: p}, {name: "a", belief: "up", upFor: old, announces: p}}, p + " a best"},
		{"slow back: hold-down", down, on("b"), []nva{fresh(a("up")), b("up")}, p + " b kept"},
		{"hold-down does not move what is installed", down, on("a"), []nva{fresh(a("up")), b("up")}, p + " a best"},
		{"hold-down is over to the second", down, on("b"), []nva{{name: "a", preference: 200, belief: "up", upFor: 30 * time.Second, announces: p}, b("up")}, p + " a best"},
		{"all in hold-down", down, nil, []nva{fresh(a("up")), fresh(b("up"))}, p + " a returning"},
		{"hold-down beats a dead one", down, on("b"), []nva{fresh(a("up")), b("silent")}, p + " a returning"},
		{"fast away", down, on("a"), []nva{a("silent"), b("up")}, p + " b best"},
		{"silence: hold keeps", hold, on("a"), []nva{a("silent"), b("up")}, p + " a kept"},
		{"control-lost takes nothing new", hold, on("b"), []nva{a("silent"), b("up")}, p + " b best"},
		{"control-lost takes nothing, even from one in hold-down", hold, nil, []nva{a("silent"), fresh(b("up"))}, p + " b returning"},
		{"draining moves at once", down, on("a"), []nva{a("draining"), b("up")}, p + " b best"},
		{"draining moves to one in hold-down", down, on("a"), []nva{a("draining"), fresh(b("up"))}, p + " b returning"},
		{"draining moves to a control-lost one", hold, on("a"), []nva{a("draining"), b("silent")}, p + " b last-holder"},
		{"last holder, draining", down, on("a"), []nva{a("draining")}, p + " a last-holder"},
		{"last holder, dead", down, on("a"), []nva{a("silent"), {name: "b", belief: "up", upFor: old}}, p + " a last-holder"},
		{"last holder, dead and not installed", down, nil, []nva{a("silent"), {name: "b", belief: "up", upFor: old}}, p + " a last-holder"},
		{"two dead: the installed one", down, on("b"), []nva{a("silent"), b("silent"), {name: "c", belief: "up", upFor: old}}, p + " b last-holder"},
		{"frozen keeps", down, on("b"), []nva{a("silent"), b("silent")}, p + " b kept"},
		{"frozen keeps a draining one", down, on("a"), []nva{a("draining silent"), b("silent")}, p + " a last-holder"},
		{"frozen, nothing installed", down, nil, []nva{a("silent"), b("silent")}, p + " a last-holder"},
		{"an unheard one says nothing", down, nil, []nva{a("unheard"), b("up")}, p + " b best"},
		{"nobody announces it", down, on("a"), []nva{{name: "a", belief: "up", upFor: old}}, ""},
	} {
		if got := show(selection.Select(input(tt.silence, tt.installed, tt.nvas...))); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
	}
}

func TestFamiliesOrderAndNextHops(t *testing.T) {
	r := selection.Select(input(config.SilenceDown, nil, nva{name: "a", belief: "up", upFor: time.Hour, announces: "fd00:1::/48 10.2.0.0/16 10.1.0.0/16 10.1.0.0/24"}))
	want := []selection.Choice{
		{Prefix: netip.MustParsePrefix("10.1.0.0/16"), NVA: "a", NextHop: hop("a", false), Reason: selection.Best},
		{Prefix: netip.MustParsePrefix("10.1.0.0/24"), NVA: "a", NextHop: hop("a", false), Reason: selection.Best},
		{Prefix: netip.MustParsePrefix("10.2.0.0/16"), NVA: "a", NextHop: hop("a", false), Reason: selection.Best},
		{Prefix: netip.MustParsePrefix("fd00:1::/48"), NVA: "a", NextHop: hop("a", true), Reason: selection.Best},
	}
	if diff := cmp.Diff(want, r.Choices, values()); diff != "" {
		t.Error(diff)
	}
}

// values compares prefixes and addresses as values.
func values() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
}

func TestRefusals(t *testing.T) {
	r := selection.Select(input(config.SilenceDown, nil,
		nva{name: "a", belief: "up", upFor: time.Hour, only4: true, announces: "10.1.0.0/16 10.1.1.0/25 192.168.0.0/16 fd00:1::/48 239.0.0.0/24"}))
	var got []string
	for _, x := range r.Refused {
		got = append(got, x.String())
	}
	want := []string{
		"a 10.1.1.0/25: not in its allow list",
		"a 192.168.0.0/16: not in its allow list",
		"a 239.0.0.0/24: Azure does not route it (multicast)",
		"a fd00:1::/48: the NVA has no next hop of this family",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if show(r) != "10.1.0.0/16 a best" {
		t.Errorf("chosen: %s", show(r))
	}
}

func TestOverMaxPrefixesTakesNothingNew(t *testing.T) {
	greedy := nva{name: "a", preference: 200, belief: "up", upFor: time.Hour, max: 2, announces: "10.1.0.0/16 10.2.0.0/16 10.3.0.0/16"}
	other := nva{name: "b", belief: "up", upFor: time.Hour, announces: "10.2.0.0/16"}
	r := selection.Select(input(config.SilenceDown, map[string]string{"10.1.0.0/16": "a", "10.2.0.0/16": "b"}, greedy, other))
	if got, want := show(r), "10.1.0.0/16 a best; 10.2.0.0/16 b best"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if len(r.Refused) != 1 || !strings.Contains(r.Refused[0].String(), "announces 3 prefixes, maxPrefixes is 2") {
		t.Errorf("refused %v", r.Refused)
	}
	greedy.max = 3
	if r = selection.Select(input(config.SilenceDown, nil, greedy, other)); len(r.Choices) != 3 || len(r.Refused) != 0 {
		t.Errorf("at the maximum: %s, refused %v", show(r), r.Refused)
	}
}

func TestTargetChooses(t *testing.T) {
	in := input(config.SilenceDown, nil,
		nva{name: "a", preference: 200, belief: "up", upFor: time.Hour, announces: "10.1.0.0/16 10.2.0.0/16"},
		nva{name: "b", belief: "up", upFor: time.Hour, announces: "10.1.0.0/16 10.2.0.0/16"})
	in.Target.NVAs = []string{"b"}
	in.Target.Prefixes = []route.Match{{Prefix: netip.MustParsePrefix("10.2.0.0/16"), Min: 16, Max: 16}}
	if got := show(selection.Select(in)); got != "10.2.0.0/16 b best" {
		t.Errorf("got %q", got)
	}
}

func TestNextLook(t *testing.T) {
	const p = "10.1.0.0/16"
	for _, tt := range []struct {
		name      string
		installed string
		a, b      time.Duration
		want      time.Duration
	}{
		{"no hold-down", "a", time.Hour, time.Hour, 0},
		{"the preferred one returns in 20 s", "b", 10 * time.Second, time.Hour, 20 * time.Second},
		{"a worse one in hold-down changes nothing", "a", time.Hour, 10 * time.Second, 0},
		{"the earlier of two", "c", 10 * time.Second, 5 * time.Second, 20 * time.Second},
	} {
		r := selection.Select(input(config.SilenceDown, map[string]string{p: tt.installed},
			nva{name: "a", preference: 300, belief: "up", upFor: tt.a, announces: p},
			nva{name: "b", preference: 200, belief: "up", upFor: tt.b, announces: p},
			nva{name: "c", preference: 100, belief: "up", upFor: time.Hour, announces: p}))
		var want time.Time
		if tt.want > 0 {
			want = now.Add(tt.want)
		}
		if !r.NextLook.Equal(want) {
			t.Errorf("%s: %v, want %v", tt.name, r.NextLook.Sub(now), tt.want)
		}
	}
}

func TestFrozen(t *testing.T) {
	for _, tt := range []struct {
		beliefs []string
		want    bool
	}{
		{[]string{"silent", "silent"}, true},
		{[]string{"silent", "up"}, false},
		{[]string{"silent", "unheard"}, true},
		{[]string{"unheard", "unheard"}, false},
		{[]string{"silent", "draining"}, false},
		{[]string{"silent", "draining silent"}, true},
	} {
		var list []nva
		for i, belief := range tt.beliefs {
			list = append(list, nva{name: string(rune('a' + i)), belief: belief})
		}
		in := input(config.SilenceDown, nil, list...)
		if got := selection.Frozen(in.Domain, in.NVAs); got != tt.want || selection.Select(in).Frozen != tt.want {
			t.Errorf("%v: frozen %t, want %t", tt.beliefs, got, tt.want)
		}
	}
}

var universe = []string{"10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48", "192.168.0.0/16"}

// worlds draws up to four NVAs in any state, with anything installed.
func worlds(beliefs ...string) *rapid.Generator[selection.Input] {
	return rapid.Custom(func(t *rapid.T) selection.Input {
		var list []nva
		for i := range rapid.IntRange(1, 4).Draw(t, "nvas") {
			var announces []string
			for _, p := range universe {
				if rapid.Bool().Draw(t, "announces") {
					announces = append(announces, fmt.Sprintf("%s@%d", p, rapid.IntRange(0, 1).Draw(t, "metric")))
				}
			}
			list = append(list, nva{
				name: string(rune('a' + i)), preference: rapid.IntRange(1, 2).Draw(t, "preference"), belief: rapid.SampledFrom(beliefs).Draw(t, "belief"),
				upFor: time.Duration(rapid.IntRange(0, 60).Draw(t, "up")) * time.Second, announces: strings.Join(announces, " "), only4: rapid.IntRange(0, 5).Draw(t, "family") == 0,
			})
		}
		installed := map[string]string{}
		for _, p := range universe {
			if who := rapid.SampledFrom([]string{"", "a", "b", "c", "d", "z"}).Draw(t, "installed"); who != "" {
				installed[p] = who
			}
		}
		return input(rapid.SampledFrom([]config.Silence{config.SilenceDown, config.SilenceHold}).Draw(t, "silence"), installed, list...)
	})
}

func any5() *rapid.Generator[selection.Input] {
	return worlds("up", "silent", "draining", "draining silent", "unheard")
}

// candidates returns who announces p and may carry it.
func candidates(in selection.Input, p netip.Prefix) (list []config.NVA) {
	for _, c := range in.Domain.NVAs {
		if _, ok := in.NVAs[c.Name].Announces(p); ok && route.AnyMatches(c.Allow, p) && c.NextHop(p).IsValid() {
			list = append(list, c)
		}
	}
	return list
}

// Invariant I4: what anybody announces and may announce has a next hop, and it is one of those who announce it.
func TestAnnouncedPrefixKeepsNextHop(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := any5().Draw(t, "world")
		chosen := map[netip.Prefix]selection.Choice{}
		for _, c := range selection.Select(in).Choices {
			if _, twice := chosen[c.Prefix]; twice {
				t.Fatalf("%s is chosen twice", c.Prefix)
			}
			chosen[c.Prefix] = c
		}
		for _, text := range universe {
			p := netip.MustParsePrefix(text)
			list := candidates(in, p)
			c, ok := chosen[p]
			if ok != (len(list) > 0) {
				t.Fatalf("%s: chosen %t, announced by %v", p, ok, list)
			}
			if ok && !slices.ContainsFunc(list, func(n config.NVA) bool { return n.Name == c.NVA && n.NextHop(p) == c.NextHop }) {
				t.Fatalf("%s goes to %s, announced by %v", p, c.NVA, list)
			}
		}
	})
}

func TestNothingMovesOntoADoubtfulOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := any5().Draw(t, "world")
		r := selection.Select(in)
		belief := func(name string) selection.Liveness {
			return selection.LivenessOf(in.NVAs[name], in.Domain.Policy.Silence, r.Frozen)
		}
		for _, c := range r.Choices {
			anyUp := slices.ContainsFunc(candidates(in, c.Prefix), func(n config.NVA) bool { return belief(n.Name) == selection.Up })
			stays := in.Installed[c.Prefix] == c.NextHop
			if l := belief(c.NVA); anyUp && l != selection.Up && (l != selection.ControlLost || !stays) {
				t.Fatalf("%s goes to %s (%s, installed %t) although one is up", c.Prefix, c.NVA, l, stays)
			}
		}
	})
}

func TestAllSilentMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := worlds("silent", "draining silent", "unheard").Draw(t, "world")
		for _, c := range selection.Select(in).Choices {
			was, installed := in.Installed[c.Prefix]
			holds := slices.ContainsFunc(candidates(in, c.Prefix), func(n config.NVA) bool { return n.NextHop(c.Prefix) == was && in.NVAs[n.Name].Heard() })
			if installed && holds && c.NextHop != was {
				t.Fatalf("%s moves from %s to %s while everybody is silent", c.Prefix, was, c.NextHop)
			}
		}
	})
}

func TestHoldDownNeverMovesFromAWorkingOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := any5().Draw(t, "world")
		for _, c := range selection.Select(in).Choices {
			doc := in.NVAs[c.NVA]
			waits := in.Now.Before(doc.Since.Add(in.Domain.Policy.HoldDown))
			if !waits || in.Installed[c.Prefix] == c.NextHop {
				continue
			}
			for _, n := range candidates(in, c.Prefix) {
				works := in.NVAs[n.Name].Heard() && !in.NVAs[n.Name].Silent() && !in.NVAs[n.Name].Draining()
				if works && in.Installed[c.Prefix] == n.NextHop(c.Prefix) {
					t.Fatalf("%s leaves %s, which works, for %s in its hold-down", c.Prefix, n.Name, c.NVA)
				}
			}
		}
	})
}

func TestOrderOfTheFileDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := any5().Draw(t, "world")
		want := selection.Select(in)
		shuffled := *in.Domain
		shuffled.NVAs = rapid.Permutation(in.Domain.NVAs).Draw(t, "order")
		in.Domain, in.Target.NVAs = &shuffled, rapid.Permutation(in.Target.NVAs).Draw(t, "fed")
		got := selection.Select(in)
		byText := func(a, b selection.Refusal) int { return strings.Compare(a.String(), b.String()) }
		slices.SortFunc(want.Refused, byText)
		slices.SortFunc(got.Refused, byText)
		if diff := cmp.Diff(want, got, values()); diff != "" {
			t.Fatal(diff)
		}
	})
}

func TestNames(t *testing.T) {
	for i, want := range []string{"liveness-0", "up", "control-lost", "down", "draining", "unheard", "liveness-6"} {
		if got := selection.Liveness(i).String(); got != want {
			t.Errorf("liveness %d is %q, want %q", i, got, want)
		}
	}
	for i, want := range []string{"reason-0", "best", "kept", "returning", "last-holder", "reason-5"} {
		if got := selection.Reason(i).String(); got != want {
			t.Errorf("reason %d is %q, want %q", i, got, want)
		}
	}
}
