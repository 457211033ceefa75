package selection_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// TestCompany: a write that takes a prefix off a dead next hop takes along those that came back too recently to be trusted; without such a write they stay.
func TestCompany(t *testing.T) {
	const lost, young = "10.1.0.0/16", "10.2.0.0/16"
	both := lost + " " + young
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, tt := range []struct {
		name      string
		installed map[string]string
		a, b      string // what they announce
		since     time.Time
		losses    []time.Time
		never     bool
		want      string
	}{
		{"a flap that is over stays", map[string]string{lost: "a", young: "a"}, both, both, ago(time.Second), nil, false, lost + " a best; " + young + " a best"},
		{"it leaves with one that must", map[string]string{lost: "a", young: "a"}, young, both, ago(time.Second), nil, false, lost + " b best; " + young + " b best"},
		{"old enough to stay", map[string]string{lost: "a", young: "a"}, young, both, ago(time.Minute), nil, false, lost + " b best; " + young + " a best"},
		{"damped", map[string]string{lost: "a", young: "a"}, young, both, ago(time.Minute), []time.Time{ago(3 * time.Minute), ago(2 * time.Minute), ago(time.Minute)}, false, lost + " b best; " + young + " b best"},
		{"nobody else has it", map[string]string{lost: "a", young: "a"}, young, lost, ago(time.Second), nil, false, lost + " b best; " + young + " a best"},
		{"a new prefix is no such write", map[string]string{young: "a"}, young, both, ago(time.Second), nil, false, lost + " b best; " + young + " a best"},
		{"a withdrawal is no such write", map[string]string{lost: "a", young: "a"}, young, young, ago(time.Second), nil, false, young + " a best"},
		{"never would be for ever", map[string]string{lost: "a", young: "a"}, young, both, ago(time.Second), nil, true, lost + " b returning; " + young + " a best"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in := input(config.SilenceDown, tt.installed,
				nva{name: "a", preference: 200, belief: "up", upFor: 24 * time.Hour, announces: tt.a}, nva{name: "b", belief: "up", upFor: 24 * time.Hour, announces: tt.b})
			in.Domain.Policy.Damping = config.Damping{HalfLife: 5 * time.Minute, Suppress: 2000, Reuse: 750, Ceiling: 6000}
			if tt.never {
				in.Domain.Policy.HoldDown = config.Never
			}
			p := netip.MustParsePrefix(young)
			in.NVAs["a"].Facts[p] = state.Fact{Since: tt.since}
			in.NVAs["a"].Losses[p] = tt.losses
			if got := show(selection.Select(in)); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
	// An NVA that is itself in its hold-down keeps what it has: it is not the announcement that is young.
	in := input(config.SilenceDown, map[string]string{lost: "a", young: "a"},
		nva{name: "a", preference: 200, belief: "up", upFor: time.Second, announces: young}, nva{name: "b", belief: "up", upFor: 24 * time.Hour, announces: both})
	if got, want := show(selection.Select(in)), lost+" b best; "+young+" a best"; got != want {
		t.Errorf("an NVA in its hold-down: %q, want %q", got, want)
	}
}

// TestStay: while another table of the group cannot be written, what works stays; what is dead leaves, and what is missing comes.
func TestStay(t *testing.T) {
	const p = "10.1.0.0/16"
	for _, tt := range []struct {
		name      string
		installed string
		a, b      string // what is believed of them
		want      string
		because   string
	}{
		{"an improvement waits", "b", "up", "up", p + " b kept", "a is waiting until the other tables of the group can follow"},
		{"the best is installed", "a", "up", "up", p + " a best", "best"},
		{"a dead one is left", "a", "silent", "up", p + " b best", "a is down since 2026-05-27T12:00:00Z (its agent is silent, and the domain file says that this means dead)"},
		{"a dead one is left for a better one", "b", "up", "silent", p + " a best", "best"},
		{"a new prefix is installed", "", "up", "up", p + " a best", "best"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			installed := map[string]string{}
			if tt.installed != "" {
				installed[p] = tt.installed
			}
			in := input(config.SilenceDown, installed, nva{name: "a", preference: 200, belief: tt.a, upFor: 24 * time.Hour, announces: p},
				nva{name: "b", belief: tt.b, upFor: 24 * time.Hour, announces: p}, nva{name: "c", preference: 1, belief: "up", upFor: 24 * time.Hour})
			in.Stay = true
			r := selection.Select(in)
			if got := show(r); got != tt.want || r.Because(r.Choices[0]) != tt.because {
				t.Errorf("%q because %q, want %q because %q", got, r.Because(r.Choices[0]), tt.want, tt.because)
			}
		})
	}
}

// TestStayMovesNothingThatWorks: whatever is believed, and whoever announces what, a target that stays moves no prefix from an NVA that may keep it, and leaves nothing that it
// would leave otherwise.
func TestStayMovesNothingThatWorks(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		const p = "10.1.0.0/16"
		prefix := netip.MustParsePrefix(p)
		names := []string{"a", "b", "c"}
		var list []nva
		for i, name := range names {
			v := nva{name: name, preference: 100 * i, belief: rapid.SampledFrom([]string{"up", "silent", "draining", "unheard"}).Draw(rt, name), upFor: rapid.SampledFrom([]time.Duration{time.Second, time.Hour}).Draw(rt, "up")}
			if rapid.Bool().Draw(rt, "announces") {
				v.announces = p
			}
			list = append(list, v)
		}
		on := rapid.SampledFrom(names).Draw(rt, "installed")
		in := input(rapid.SampledFrom([]config.Silence{config.SilenceDown, config.SilenceHold}).Draw(rt, "silence"), map[string]string{p: on}, list...)
		free := selection.Select(in)
		in.Stay = true
		stay := selection.Select(in)
		if len(free.Choices) != len(stay.Choices) {
			rt.Fatalf("%s, free %s", show(stay), show(free))
		}
		if len(free.Choices) == 0 {
			return
		}
		_, announced := in.NVAs[on].Announces(prefix)
		works := announced && stay.Live.Of[on].State.Usable()
		switch {
		case works && stay.Choices[0].NVAs[0] != on:
			rt.Fatalf("%s leaves %s, which works", show(stay), on)
		case !works && stay.Choices[0].NVAs[0] != free.Choices[0].NVAs[0]:
			rt.Fatalf("%s, free %s", show(stay), show(free))
		}
	})
}
