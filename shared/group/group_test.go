package group_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/group"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/state"
)

var now = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func ago(d time.Duration) time.Time { return now.Add(-d) }

const tables = "/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/routeTables/"

func domain(t *testing.T, edit ...string) *config.Domain {
	t.Helper()
	d, problems := config.Parse("hub.yaml", []byte(strings.NewReplacer(edit...).Replace(`
domain: hub
policy: {silence: hold}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], allow: [10.0.0.0/8 le 24]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: [10.0.0.0/8 le 24]}
  - {name: nva-c, nextHops: [10.0.0.6], allow: [10.0.0.0/8 le 24]}
targets:
  - {name: spokes, routeTable: `+tables+`spokes, nvas: [nva-a]}
  - {name: gateway, routeTable: `+tables+`gateway, nvas: [nva-b]}
  - {name: other, routeTable: `+tables+`other, nvas: [nva-c]}
groups:
  - {name: firewall, targets: [spokes, gateway]}
`)))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return d
}

func believed(a, b, c liveness.Belief) liveness.View {
	return liveness.View{Of: map[string]liveness.Belief{"nva-a": a, "nva-b": b, "nva-c": c}}
}

// TestView: two targets of a group have one view; it changes with what the group's NVAs are good for and with what the domain file says of the group, and with nothing else.
func TestView(t *testing.T) {
	up := liveness.Belief{State: liveness.Up}
	view := func(d *config.Domain, target string, live liveness.View) string {
		x, known := d.Target(target)
		if !known {
			t.Fatal(target)
		}
		return group.View(d, x, live, now)
	}
	d := domain(t)
	if alone := view(d, "other", believed(up, up, up)); alone != "" {
		t.Errorf("a target of no group has the view %q", alone)
	}
	base := view(d, "spokes", believed(up, up, up))
	for _, tt := range []struct {
		name   string
		d      *config.Domain
		target string
		live   liveness.View
		same   bool
	}{
		{"the other member", d, "gateway", believed(up, up, up), true},
		{"an NVA of the other member is down", d, "spokes", believed(up, liveness.Belief{State: liveness.Down}, up), false},
		{"an NVA of no member is down", d, "spokes", believed(up, up, liveness.Belief{State: liveness.Down}), true},
		{"since when, and why", d, "spokes", believed(up, liveness.Belief{State: liveness.Up, Since: now, Why: "x", Trusted: now}, up), true},
		{"in its hold-down", d, "spokes", believed(liveness.Belief{State: liveness.Up, Trusted: now.Add(1)}, up, up), false},
		{"waits to be told", d, "spokes", believed(liveness.Belief{State: liveness.Up, Untold: true}, up, up), false},
		{"another policy", domain(t, "silence: hold", "silence: down"), "spokes", believed(up, up, up), false},
		{"another next hop", domain(t, "10.0.0.5", "10.0.0.7"), "spokes", believed(up, up, up), false},
		{"another limit of the other member", domain(t, "nvas: [nva-b]", "nvas: [nva-b], limit: 7"), "spokes", believed(up, up, up), false},
		{"another limit of a target of no group", domain(t, "nvas: [nva-c]", "nvas: [nva-c], limit: 7"), "spokes", believed(up, up, up), true},
		{"the same file again", domain(t), "spokes", believed(up, up, up), true},
	} {
		if got := view(tt.d, tt.target, tt.live) == base; got != tt.same {
			t.Errorf("%s: the same view %t, want %t", tt.name, got, tt.same)
		}
	}
	// Doubt is one thing: what an NVA may keep it keeps, whatever the doubt is.
	keeps := map[string]bool{}
	for _, s := range []liveness.State{liveness.Suspect, liveness.ControlLost, liveness.Hold} {
		keeps[view(d, "spokes", believed(liveness.Belief{State: s}, up, up))] = true
	}
	dead := map[string]bool{}
	for _, s := range []liveness.State{liveness.Down, liveness.Draining, liveness.Unheard} {
		dead[view(d, "spokes", believed(liveness.Belief{State: s}, up, up))] = true
	}
	if len(keeps) != 1 || len(dead) != 1 {
		t.Errorf("%d views of doubt and %d of death, want one of each", len(keeps), len(dead))
	}
}

func member(name, view string, at time.Time) *state.Target {
	m := state.NewTarget("hub", name, tables+name)
	if view != "" {
		m.Note(state.Result{At: at, Outcome: state.Written})
		m.Reach(view, at)
	}
	return m
}

func troubled(m *state.Target, at time.Time, o state.Outcome, message string) *state.Target {
	m.Note(state.Result{At: at, Outcome: o, Message: message})
	return m
}

// TestJudge is the table of the package comment, and what is shown beside the state.
func TestJudge(t *testing.T) {
	const alertAfter = 30 * time.Second
	waiting := member("b", "v1", ago(time.Hour))
	waiting.Note(state.Result{At: now, Outcome: state.Waiting})
	waiting.FireAt = now.Add(time.Second)
	writing := member("b", "v1", ago(time.Hour))
	writing.Intents = []state.Intent{{Run: "1"}}
	for _, tt := range []struct {
		name    string
		members []*state.Target
		want    group.Standing
	}{
		{"nobody was ever written", []*state.Target{member("a", "", now), member("b", "", now)}, group.Standing{State: group.Pending, Because: "a", Reason: "it was never reconciled"}},
		{"one view", []*state.Target{member("a", "v1", ago(9*time.Second)), member("b", "v1", ago(7*time.Second))}, group.Standing{State: group.Complete, View: "v1", Since: ago(7 * time.Second), Skew: 2 * time.Second}},
		{"one view, the other came first", []*state.Target{member("a", "v1", ago(7*time.Second)), member("b", "v1", ago(9*time.Second))}, group.Standing{State: group.Complete, View: "v1", Since: ago(7 * time.Second), Skew: 2 * time.Second}},
		{"one is ahead", []*state.Target{member("a", "v2", ago(3*time.Second)), writing}, group.Standing{State: group.Pending, View: "v2", Since: ago(3 * time.Second), Skew: 3 * time.Second, Because: "b", Reason: "it is being written"}},
		{"one of three is behind", []*state.Target{member("a", "v2", ago(3*time.Second)), member("b", "v1", ago(time.Hour)), member("c", "v2", ago(5*time.Second))}, group.Standing{State: group.Pending, View: "v2", Since: ago(5 * time.Second), Skew: 5 * time.Second, Because: "b", Reason: "it has not looked again yet"}},
		{"one waits", []*state.Target{member("a", "v2", ago(3*time.Second)), waiting}, group.Standing{State: group.Pending, View: "v2", Since: ago(3 * time.Second), Skew: 3 * time.Second, Because: "b", Reason: "its change waits until 2026-11-29T12:00:01Z"}},
		{"one is behind for too long", []*state.Target{member("a", "v2", ago(alertAfter)), member("b", "v1", ago(time.Hour))}, group.Standing{State: group.Incomplete, View: "v2", Since: ago(alertAfter), Skew: alertAfter, Because: "b", Reason: "it has not looked again yet", Alert: true}},
		{"one is in trouble", []*state.Target{member("a", "v2", ago(3*time.Second)), troubled(member("b", "v1", ago(time.Hour)), ago(2*time.Second), state.Denied, "the scope is locked")}, group.Standing{State: group.Incomplete, View: "v2", Since: ago(2 * time.Second), Skew: 3 * time.Second, Because: "b", Reason: "denied: the scope is locked"}},
		{"one is in trouble for long, and all agree", []*state.Target{member("a", "v1", ago(time.Hour)), troubled(member("b", "v1", ago(time.Hour)), ago(time.Minute), state.Failed, "no answer")}, group.Standing{State: group.Incomplete, View: "v1", Since: ago(time.Minute), Because: "b", Reason: "failed: no answer", Alert: true}},
		{"the older trouble counts", []*state.Target{troubled(member("a", "v1", ago(time.Hour)), ago(time.Second), state.Busy, "busy"), troubled(member("b", "v1", ago(time.Hour)), ago(2*time.Second), state.Throttled, "quota")}, group.Standing{State: group.Incomplete, View: "v1", Since: ago(2 * time.Second), Because: "b", Reason: "throttled: quota"}},
		{"one waits for an operator", []*state.Target{member("a", "v2", ago(3*time.Second)), troubled(member("b", "v1", ago(time.Hour)), now, state.Held, "2 changes wait")}, group.Standing{State: group.Pending, View: "v2", Since: ago(3 * time.Second), Skew: 3 * time.Second, Because: "b", Reason: "held: 2 changes wait"}},
		{"trouble that is over", []*state.Target{member("a", "v1", ago(time.Hour)), func() *state.Target {
			m := troubled(member("b", "v0", ago(2*time.Hour)), ago(time.Minute), state.Failed, "no answer")
			m.Note(state.Result{At: ago(time.Second), Outcome: state.Written})
			m.Reach("v1", ago(time.Second))
			return m
		}()}, group.Standing{State: group.Complete, View: "v1", Since: ago(time.Second), Skew: time.Hour - time.Second}},
	} {
		if got := group.Judge(tt.members, alertAfter, now); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.name, got, tt.want)
		}
	}
}

// TestJudgeLaws: the order of the members decides nothing but who is named; a group is complete exactly if all have one view and none is in trouble; time alone
// never completes it, and what is wrong for long becomes an alert.
func TestJudgeLaws(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var members []*state.Target
		views, trouble := map[string]bool{}, false
		for i := range rapid.IntRange(2, 4).Draw(rt, "members") {
			view := rapid.SampledFrom([]string{"", "v1", "v2"}).Draw(rt, "view")
			m := member(fmt.Sprint("t", i), view, ago(time.Duration(rapid.IntRange(0, 100).Draw(rt, "age"))*time.Second))
			if rapid.IntRange(0, 3).Draw(rt, "trouble") == 0 {
				troubled(m, ago(time.Duration(rapid.IntRange(0, 100).Draw(rt, "trouble age"))*time.Second), state.Failed, "")
				trouble = true
			}
			views[view] = true
			members = append(members, m)
		}
		s := group.Judge(members, 30*time.Second, now)
		if want := len(views) == 1 && !views[""] && !trouble; (s.State == group.Complete) != want {
			rt.Fatalf("%+v", s)
		}
		if s.State == group.Complete && s.Alert || s.State == group.Pending && s.Alert || s.Skew < 0 {
			rt.Fatalf("%+v", s)
		}
		for i, j := 0, len(members)-1; i < j; i, j = i+1, j-1 {
			members[i], members[j] = members[j], members[i]
		}
		back := group.Judge(members, 30*time.Second, now)
		s.Because, s.Reason, back.Because, back.Reason = "", "", "", ""
		if s.View != back.View { // reached at the same instant
			return
		}
		if s != back {
			rt.Fatalf("%+v backwards %+v", s, back)
		}
		later := group.Judge(members, 30*time.Second, now.Add(time.Hour))
		if (later.State == group.Complete) != (s.State == group.Complete) || later.State != group.Complete && later.Alert == later.Since.IsZero() {
			rt.Fatalf("an hour later: %+v", later)
		}
	})
}

// TestHindered: who keeps the others from improving.
func TestHindered(t *testing.T) {
	for _, o := range state.Outcomes() {
		m := troubled(member("a", "v1", ago(time.Hour)), now, o, "")
		want := o != state.Written && o != state.Unchanged && o != state.Waiting
		if got := group.Hindered(m); got != want {
			t.Errorf("%s: %t, want %t", o, got, want)
		}
	}
	m := troubled(member("a", "v1", ago(time.Hour)), now, state.Failed, "")
	m.Note(state.Result{At: now, Outcome: state.Waiting}) // it has not shown yet that it can be written
	if !group.Hindered(m) {
		t.Error("a table that failed and waits now is taken for one that can be written")
	}
}

func TestStates(t *testing.T) {
	var words []string
	for _, s := range group.States() {
		words = append(words, s.String())
	}
	if got := strings.Join(append(words, group.State(0).String()), " "); got != "complete pending incomplete state-0" {
		t.Error(got)
	}
}
