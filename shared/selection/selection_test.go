package selection_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/liveness"
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
	in := selection.Input{Domain: d, NVAs: map[string]*state.NVA{}, Installed: map[netip.Prefix]route.NextHops{}, Now: now}
	for _, v := range nvas {
		d.NVAs = append(d.NVAs, v.config())
		in.Target.NVAs = append(in.Target.NVAs, v.name)
		in.NVAs[v.name] = v.document()
	}
	for text, name := range installed {
		p := netip.MustParsePrefix(text)
		var hops []netip.Addr
		for n := range strings.FieldsSeq(name) {
			hops = append(hops, hop(n, p.Addr().Is6()))
		}
		in.Installed[p] = route.NextHopsOf(hops...)
	}
	return in
}

// show writes choices as "10.1.0.0/16 a best; …".
func show(r selection.Result) string {
	var out []string
	for _, c := range r.Choices {
		out = append(out, fmt.Sprintf("%s %s %s", c.Prefix, strings.Join(c.NVAs, "+"), c.Reason))
	}
	return strings.Join(out, "; ")
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
		{"two dead: the installed one", down, on("b"), []nva{a("silent"), b("silent"), {name: "c", belief: "up", upFor: old}, {name: "d", belief: "up", upFor: old}}, p + " b last-holder"},
		{"from a dead one to one that is to carry nothing, and could", down, on("b"), []nva{a("draining"), b("silent"), {name: "c", belief: "up", upFor: old}, {name: "d", belief: "up", upFor: old}}, p + " a last-holder"},
		{"nothing installed: rather one that could", down, nil, []nva{a("silent"), b("draining"), {name: "c", belief: "up", upFor: old}, {name: "d", belief: "up", upFor: old}}, p + " b last-holder"},
		{"one that is silent too is dead", down, on("b"), []nva{a("draining silent"), b("silent"), {name: "c", belief: "up", upFor: old}, {name: "d", belief: "up", upFor: old}}, p + " b last-holder"},
		{"two that are to carry nothing: the installed one", down, on("b"), []nva{a("draining"), b("draining")}, p + " b last-holder"},
		{"one of two is drained and the other falls silent: frozen", down, on("b"), []nva{a("draining"), b("silent")}, p + " b kept"},
		{"until the dead one is drained too", down, on("b"), []nva{a("draining"), b("draining silent")}, p + " a last-holder"},
		{"a doubtful one before one that is to carry nothing", hold, nil, []nva{a("draining"), b("silent")}, p + " b last-holder"},
		{"frozen keeps", down, on("b"), []nva{a("silent"), b("silent")}, p + " b kept"},
		{"frozen, but a draining one is left", down, on("a"), []nva{a("draining silent"), b("silent")}, p + " b last-holder"},
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
		{Prefix: netip.MustParsePrefix("10.1.0.0/16"), NVAs: []string{"a"}, NextHops: route.NextHopsOf(hop("a", false)), Reason: selection.Best},
		{Prefix: netip.MustParsePrefix("10.1.0.0/24"), NVAs: []string{"a"}, NextHops: route.NextHopsOf(hop("a", false)), Reason: selection.Best},
		{Prefix: netip.MustParsePrefix("10.2.0.0/16"), NVAs: []string{"a"}, NextHops: route.NextHopsOf(hop("a", false)), Reason: selection.Best},
		{Prefix: netip.MustParsePrefix("fd00:1::/48"), NVAs: []string{"a"}, NextHops: route.NextHopsOf(hop("a", true)), Reason: selection.Best},
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
		cmp.Comparer(func(a, b route.NextHops) bool { return a == b }),
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

// TestSlowBackByPrefix: an announcement takes a prefix from an NVA that works only after it has stood for the hold-down, and not while the prefix is damped.
func TestSlowBackByPrefix(t *testing.T) {
	const p = "10.1.0.0/16"
	prefix := netip.MustParsePrefix(p)
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	flaps := []time.Time{ago(130 * time.Second), ago(100 * time.Second), ago(70 * time.Second)}
	for _, tt := range []struct {
		name      string
		installed string
		policy    func(*config.Policy)
		since     time.Time
		losses    []time.Time
		told      time.Time
		want      string
		look      time.Duration
	}{
		{"young", "b", nil, ago(10 * time.Second), nil, time.Time{}, "b kept", 20 * time.Second},
		{"young, off the grid", "b", nil, ago(13 * time.Second), nil, time.Time{}, "b kept", 20 * time.Second},
		{"young, with a hold-down too short for the grid", "b", func(p *config.Policy) { p.HoldDown = 3 * time.Second }, ago(time.Second), nil, time.Time{}, "b kept", 2 * time.Second},
		{"old enough", "b", nil, ago(30 * time.Second), nil, time.Time{}, "a best", 0},
		{"young, but installed", "a", nil, ago(10 * time.Second), nil, time.Time{}, "a best", 0},
		{"young, and nothing is installed", "", nil, ago(10 * time.Second), nil, time.Time{}, "b best", 20 * time.Second},
		{"lost twice", "b", nil, ago(time.Minute), flaps[1:], time.Time{}, "a best", 0},
		{"lost three times", "b", nil, ago(time.Minute), flaps, time.Time{}, "b kept", 510 * time.Second}, // 501 s, on the grid
		{"lost three times, no damping", "b", func(p *config.Policy) { p.Damping = config.Damping{} }, ago(time.Minute), flaps, time.Time{}, "a best", 0},
		{"lost three times, installed", "a", nil, ago(time.Minute), flaps, time.Time{}, "a best", 0},
		{"never", "b", func(p *config.Policy) { p.HoldDown = config.Never }, ago(time.Hour), nil, time.Time{}, "b kept", 0},
		{"never, but told", "b", func(p *config.Policy) { p.HoldDown = config.Never }, ago(time.Hour), nil, ago(time.Minute), "a best", 0},
		{"never, told before", "b", func(p *config.Policy) { p.HoldDown = config.Never }, ago(time.Hour), nil, ago(2 * time.Hour), "b kept", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			installed := map[string]string{}
			if tt.installed != "" {
				installed[p] = tt.installed
			}
			in := input(config.SilenceDown, installed,
				nva{name: "a", preference: 200, belief: "up", upFor: 24 * time.Hour, announces: p}, nva{name: "b", belief: "up", upFor: 24 * time.Hour, announces: p})
			in.Domain.Policy.Damping = config.Damping{HalfLife: 5 * time.Minute, Suppress: 2000, Reuse: 750, Ceiling: 6000}
			if tt.policy != nil {
				tt.policy(&in.Domain.Policy)
			}
			a := in.NVAs["a"]
			a.Facts[prefix] = state.Fact{Since: tt.since}
			a.Losses[prefix] = tt.losses
			if !tt.told.IsZero() {
				a.Order = state.Order{At: tt.told, ID: "1", Who: "jo"}
				in.NVAs["b"].Order = a.Order
			}
			r := selection.Select(in)
			if got := show(r); got != p+" "+tt.want {
				t.Errorf("%q, want %s", got, tt.want)
			}
			look := time.Duration(0)
			if !r.NextLook.IsZero() {
				look = r.NextLook.Sub(now).Round(time.Second)
			}
			if look != tt.look {
				t.Errorf("looks again in %v, want %v", look, tt.look)
			}
		})
	}
}

// TestLeavingIsNeverDelayed: whatever a prefix has gone through, it leaves an NVA that is dead.
func TestLeavingIsNeverDelayed(t *testing.T) {
	const p = "10.1.0.0/16"
	prefix := netip.MustParsePrefix(p)
	in := input(config.SilenceDown, map[string]string{p: "a"},
		nva{name: "a", preference: 200, belief: "silent", upFor: time.Second, announces: p}, nva{name: "b", belief: "up", upFor: time.Hour, announces: p})
	in.Domain.Policy.Damping = config.Damping{HalfLife: 5 * time.Minute, Suppress: 2000, Reuse: 750, Ceiling: 6000}
	for _, doc := range in.NVAs {
		doc.Facts[prefix] = state.Fact{Since: now.Add(-time.Second)}
		doc.Losses[prefix] = []time.Time{now.Add(-3 * time.Second), now.Add(-2 * time.Second), now.Add(-time.Second)}
	}
	if r := selection.Select(in); r.Choices[0].NVAs[0] != "b" {
		t.Errorf("%s, want b at once", show(r))
	}
}

// TestBecause: what a person reads of a prefix.
func TestBecause(t *testing.T) {
	const p = "10.1.0.0/16"
	nvas := func(a, b string) []nva {
		return []nva{{name: "a", preference: 200, belief: a, upFor: time.Hour, announces: p}, {name: "b", belief: b, upFor: time.Hour, announces: p}}
	}
	because := func(in selection.Input) string {
		r := selection.Select(in)
		return r.Because(r.Choices[0])
	}
	if got, want := because(input(config.SilenceDown, nil, nvas("up", "up")...)), "best"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := because(input(config.SilenceDown, nil, nvas("silent", "up")...)), "a is down since 2026-05-28T11:00:00Z (its agent is silent, and the domain file says that this means dead)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	young := input(config.SilenceDown, map[string]string{p: "b"}, nvas("up", "up")...)
	young.NVAs["a"].Since = now.Add(-time.Second)
	if got, want := because(young), "a is in its hold-down until 2026-05-28T12:00:29Z"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	if got, want := because(input(config.SilenceHold, map[string]string{p: "a"}, nvas("silent", "up")...)), "a is hold since 2026-05-28T11:00:00Z (its agent is silent, nobody can tell whether it forwards)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

var universe = []string{"10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48", "192.168.0.0/16"}

var (
	sites = config.Spread{MaxExcess: 0.25, Spokes: []config.Spoke{
		{Name: "spoke-1", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}},
		{Name: "spoke-2", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/15"), netip.MustParsePrefix("fd00:1::/32")}},
	}}
	inModes = []config.Selection{
		{Mode: config.ModePrimaryBackup},
		{Mode: config.ModeECMP, MaxNextHops: 2},
		{Mode: config.ModeECMP, MaxNextHops: 64},
		{Mode: config.ModeSpread},
		{Mode: config.ModeNextHopIP, NextHops: []netip.Addr{hop("z", false), hop("z", true)}},
	}
)

// worlds draws up to four NVAs in any state and mode, with anything installed.
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
			if who := rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "c", "d", "z"}), 0, 3).Draw(t, "installed"); len(who) > 0 {
				installed[p] = strings.Join(who, " ")
			}
		}
		in := input(rapid.SampledFrom([]config.Silence{config.SilenceDown, config.SilenceHold}).Draw(t, "silence"), installed, list...)
		in.Domain.Spread = sites
		in.Target.Selection = rapid.SampledFrom(inModes).Draw(t, "mode")
		in.Target.Side = rapid.SampledFrom([]string{config.North, "spoke-1", "spoke-2"}).Draw(t, "side")
		if in.Target.Selection.Mode == config.ModeNextHopIP {
			for p, hops := range in.Installed {
				if hops.Several() {
					in.Installed[p] = route.NextHopsOf(in.Target.Selection.NextHop(p))
				}
			}
		}
		return in
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
			if ok {
				checkHops(t, in, c, list)
			}
		}
	})
}

// checkHops: the next hops are those of the NVAs that the choice names, as many as the mode allows, and all of these announce the prefix.
func checkHops(t *rapid.T, in selection.Input, c selection.Choice, list []config.NVA) {
	t.Helper()
	var hops []netip.Addr
	for _, n := range list {
		if slices.Contains(c.NVAs, n.Name) {
			hops = append(hops, n.NextHop(c.Prefix))
		}
	}
	how, most := in.Target.Selection, 1
	switch how.Mode {
	case config.ModeECMP:
		most = how.MaxNextHops
	case config.ModeNextHopIP:
		most, hops = len(c.NVAs), []netip.Addr{how.NextHop(c.Prefix)}
	case config.ModePrimaryBackup, config.ModeSpread:
	}
	if len(c.NVAs) < 1 || len(c.NVAs) > most || c.NextHops.Empty() || c.NextHops != route.NextHopsOf(hops...) {
		t.Fatalf("%s: %s goes to %v, %s, announced by %v", how.Mode, c.Prefix, c.NVAs, c.NextHops, list)
	}
}

// carries reports whether the NVA has the prefix in the target.
func carries(in selection.Input, name string, p netip.Prefix) bool {
	n, _ := in.Domain.NVA(name)
	return selection.Carries(in.Target.Selection, n, p, in.Installed[p])
}

func TestNothingMovesOntoADoubtfulOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := any5().Draw(t, "world")
		r := selection.Select(in)
		belief := func(name string) liveness.State { return r.Live.Of[name].State }
		for _, c := range r.Choices {
			anyUp := slices.ContainsFunc(candidates(in, c.Prefix), func(n config.NVA) bool { return belief(n.Name) == liveness.Up })
			for _, name := range c.NVAs {
				stays := carries(in, name, c.Prefix)
				if l := belief(name); anyUp && l != liveness.Up && (!l.Usable() || !stays) {
					t.Fatalf("%s goes to %s (%s, installed %t) although one is up", c.Prefix, name, l, stays)
				}
			}
		}
	})
}

func TestAllSilentMovesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := worlds("silent", "draining silent", "unheard").Draw(t, "world")
		for _, doc := range in.NVAs {
			doc.Since = now.Add(-time.Second) // at once
		}
		r := selection.Select(in)
		for _, c := range r.Choices {
			was := in.Installed[c.Prefix]
			holds := slices.ContainsFunc(candidates(in, c.Prefix), func(n config.NVA) bool {
				return carries(in, n.Name, c.Prefix) && r.Live.Of[n.Name].State == liveness.Hold // lost together with the others
			})
			if holds && !c.NextHops.Without(was).Empty() {
				t.Fatalf("%s moves from %s to %s while everybody is silent", c.Prefix, was, c.NextHops)
			}
		}
	})
}

func TestHoldDownNeverMovesFromAWorkingOne(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		in := any5().Draw(t, "world")
		for _, c := range selection.Select(in).Choices {
			for _, name := range c.NVAs {
				waits := in.Now.Before(in.NVAs[name].Since.Add(in.Domain.Policy.HoldDown))
				if !waits || carries(in, name, c.Prefix) {
					continue
				}
				for _, n := range candidates(in, c.Prefix) {
					works := in.NVAs[n.Name].Heard() && !in.NVAs[n.Name].Silent() && !in.NVAs[n.Name].Draining()
					if works && carries(in, n.Name, c.Prefix) {
						t.Fatalf("%s has %s, which works, and gets %s in its hold-down", c.Prefix, n.Name, name)
					}
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
	for i, want := range []string{"obstacle-0", "not up", "in its hold-down", "damped, it has lost the prefix too often", "waiting to be told (pointsman resume)", "waiting until the other tables of the group can follow", "obstacle-6"} {
		if got := selection.Obstacle(i).String(); got != want {
			t.Errorf("obstacle %d is %q, want %q", i, got, want)
		}
	}
	for i, want := range []string{"reason-0", "best", "kept", "returning", "last-holder", "reason-5"} {
		if got := selection.Reason(i).String(); got != want {
			t.Errorf("reason %d is %q, want %q", i, got, want)
		}
	}
}
