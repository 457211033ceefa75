package liveness_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/state"
)

var now = time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC)

// world is a domain with its documents.
type world struct {
	domain *config.Domain
	docs   map[string]*state.NVA
}

func newWorld(names ...string) *world {
	w := &world{
		domain: &config.Domain{Name: "hub", Policy: config.Policy{Silence: config.SilenceHold, HoldDown: 30 * time.Second, AnswerWithin: 3 * time.Second}},
		docs:   map[string]*state.NVA{},
	}
	for _, name := range names {
		w.add(name)
	}
	return w
}

// add adds an NVA that is up for an hour, with a self-test that passes, and watches nobody.
func (w *world) add(name string) {
	w.domain.NVAs = append(w.domain.NVAs, config.NVA{Name: name})
	n := state.NewNVA("hub", name)
	n.Epoch, n.Since, n.LastSeen, n.Alive = 1, now.Add(-time.Hour), now.Add(-time.Minute), state.Beat{Epoch: 1, Beat: 5}
	n.Report.SelfTest = event.Passed
	w.docs[name] = n
}

// sees has one NVA watch another.
func (w *world) sees(witness, name string, reachable bool, since time.Time) {
	doc := w.docs[witness]
	peers := slices.DeleteFunc(doc.Report.Peers, func(p event.Peer) bool { return p.NVA == name })
	peers = append(peers, event.Peer{NVA: name, Reachable: reachable})
	slices.SortFunc(peers, func(a, b event.Peer) int { return strings.Compare(a.NVA, b.NVA) })
	doc.Report.Peers = peers
	doc.Turned[name] = since
}

// silence has the dead-man switch of an NVA fire.
func (w *world) silence(name string, since time.Time) {
	w.docs[name].Expired, w.docs[name].Since = w.docs[name].Alive, since
}

func (w *world) judge() liveness.View { return liveness.Judge(w.domain, w.docs, now) }

func (w *world) state(name string) liveness.State { return w.judge().Of[name].State }

// column is one of the matrix.
type column struct {
	name   string
	values []string
}

// columns of the matrix, each with the values that a cell can have.
var columns = []column{
	{"heard", []string{"yes", "no"}},
	{"draining", []string{"yes", "no"}},
	{"check", []string{"good", "failed"}},
	{"silent", []string{"yes", "no"}},
	{"sessions", []string{"good", "lost"}},
	{"accused", []string{"no", "one", "most"}},
	{"witness", []string{"yes", "no"}},
	{"silence", []string{"hold", "down"}},
	{"frozen", []string{"yes", "no"}},
}

func columnOf(name string) int {
	return slices.IndexFunc(columns, func(c column) bool { return c.name == name })
}

// TestMatrix reads the matrix in the package comment and asks the code for every combination of its columns.
func TestMatrix(t *testing.T) {
	rows := matrix(t)
	used := make([]bool, len(rows))
	asked := 0
	var walk func(cells []string)
	walk = func(cells []string) {
		if n := len(cells); n < len(columns) {
			for _, v := range columns[n].values {
				walk(append(slices.Clone(cells), v))
			}
			return
		}
		subject, possible := build(cells)
		if !possible {
			return
		}
		asked++
		want := ""
		for i, row := range rows {
			if matches(row, cells) {
				if want != "" && want != row[len(columns)] {
					t.Fatalf("two rows for %v", cells)
				}
				want, used[i] = row[len(columns)], true
			}
		}
		if want == "" {
			t.Fatalf("no row for %v", cells)
		}
		if got := subject.state("a"); got.String() != want {
			t.Errorf("%v: %s, the matrix says %s", cells, got, want)
		}
		at := func(name string) string { return cells[columnOf(name)] }
		resort := want == "draining" && at("check") == "good" && at("silent") == "no" && at("accused") != "most"
		if got := subject.judge().Of["a"].LastResort; got != resort {
			t.Errorf("%v: a last resort: %t", cells, got)
		}
	}
	walk(nil)
	for i, row := range rows {
		if !used[i] {
			t.Errorf("row %v is never used", row)
		}
	}
	if len(rows) != 17 || asked < 200 {
		t.Errorf("%d rows, %d combinations: the matrix has 17, the test asks for more than 200", len(rows), asked)
	}
}

func matrix(t *testing.T) [][]string {
	t.Helper()
	source, err := os.ReadFile("liveness.go")
	if err != nil {
		t.Fatal(err)
	}
	var rows [][]string
	for line := range strings.Lines(string(source)) {
		f := strings.Fields(strings.TrimPrefix(line, "//\t"))
		if strings.HasPrefix(line, "//\t") && len(f) == len(columns)+1 && (f[0] == "yes" || f[0] == "no") {
			rows = append(rows, f)
		}
	}
	return rows
}

func matches(row, cells []string) bool {
	for i, c := range cells {
		if row[i] != "-" && row[i] != c {
			return false
		}
	}
	return true
}

// build makes the world of one combination; it is not possible to be accused without a witness, or frozen in without being lost.
func build(cells []string) (w *world, possible bool) {
	at := func(name string) string { return cells[columnOf(name)] }
	w = newWorld("a", "w1", "w2", "w3")
	a := w.docs["a"]
	if at("draining") == "yes" {
		a.Notice = state.Notice{Kind: event.Draining, Version: event.Version{Epoch: 1, Seq: 9}}
	}
	if at("check") == "failed" {
		a.Report.SelfCheck = event.Failed
	}
	if at("silent") == "yes" {
		w.silence("a", now.Add(-10*time.Second))
	}
	if at("sessions") == "lost" {
		a.Report.ControlLost = []event.Session{{Name: "frr"}}
	}
	accusers := map[string]int{"no": 0, "one": 1, "most": 2}[at("accused")]
	if at("witness") == "no" && accusers > 0 {
		return nil, false
	}
	if at("witness") == "yes" {
		for i, name := range []string{"w1", "w2", "w3"} {
			w.sees(name, "a", i >= accusers, now.Add(-9*time.Second))
		}
		a.LastSeen = now // it is not mute
	}
	if at("silence") == "down" {
		w.domain.Policy.Silence = config.SilenceDown
	}
	if at("frozen") == "yes" {
		for i := range 9 {
			name := fmt.Sprintf("x%d", i)
			w.add(name)
			w.silence(name, now.Add(-12*time.Second))
		}
	}
	if at("heard") == "no" {
		delete(w.docs, "a")
	}
	return w, true
}

// TestMute: an accused NVA that says nothing is taken for silent before its dead-man switch fires; one that answers in any way is not.
func TestMute(t *testing.T) {
	accusedAt := now.Add(-4 * time.Second)
	for _, tt := range []struct {
		name   string
		change func(w *world, a *state.NVA)
		want   liveness.State
	}{
		{"says nothing", func(*world, *state.NVA) {}, liveness.Down},
		{"spoke since", func(_ *world, a *state.NVA) { a.LastSeen = accusedAt.Add(time.Second) }, liveness.Suspect},
		{"cannot reach its accuser either", func(w *world, _ *state.NVA) { w.sees("a", "b", false, accusedAt.Add(-time.Second)) }, liveness.Suspect},
		{"is told that it is not heard", func(_ *world, a *state.NVA) { a.Report.Peers[0].Deaf = true }, liveness.Suspect},
		{"does not watch its accuser", func(_ *world, a *state.NVA) { a.Report.Peers = nil }, liveness.Suspect},
		{"has time left", func(w *world, _ *state.NVA) { w.sees("b", "a", false, now.Add(-2*time.Second)) }, liveness.Suspect},
		{"restarts", func(_ *world, a *state.NVA) {
			a.Notice = state.Notice{Kind: event.Goodbye, Version: event.Version{Epoch: 1, Seq: 9}}
		}, liveness.Up},
		{"has not come back from its restart", func(w *world, a *state.NVA) {
			a.Notice = state.Notice{Kind: event.Goodbye, Version: event.Version{Epoch: 1, Seq: 9}}
			w.silence("a", now)
		}, liveness.Down},
		{"its accuser's own probes get nowhere", func(w *world, _ *state.NVA) { w.docs["b"].Report.SelfTest = event.Failed }, liveness.Up},
		{"its accuser is silent", func(w *world, _ *state.NVA) { w.silence("b", now.Add(-time.Hour)) }, liveness.Up},
		{"its accuser has no self-test and reaches nobody", func(w *world, _ *state.NVA) { w.docs["b"].Report.SelfTest = event.Absent }, liveness.Up},
		{"another witness reaches it", func(w *world, _ *state.NVA) { w.add("c"); w.sees("c", "a", true, time.Time{}) }, liveness.Suspect},
		{"another that reaches it is no witness", func(w *world, _ *state.NVA) {
			w.add("c")
			w.sees("c", "a", true, time.Time{})
			w.docs["c"].Report.SelfTest = event.Failed
		}, liveness.Down},
		{"no time to answer is set", func(w *world, _ *state.NVA) { w.domain.Policy.AnswerWithin = 0 }, liveness.Suspect},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld("a", "b")
			w.sees("a", "b", true, time.Time{})
			w.sees("b", "a", false, accusedAt)
			tt.change(w, w.docs["a"])
			if got := w.state("a"); got != tt.want {
				t.Errorf("%s, want %s (%+v)", got, tt.want, w.judge().Of["a"])
			}
		})
	}
	w := newWorld("a", "b")
	w.sees("a", "b", true, time.Time{})
	w.sees("b", "a", false, now.Add(-2*time.Second))
	if look, want := w.judge().Look, now.Add(time.Second); !look.Equal(want) {
		t.Errorf("look again at %s, want %s", look, want)
	}
}

// TestTwoThatAccuseEachOther both stay, unless the third target of one of them tells who is cut off.
func TestTwoThatAccuseEachOther(t *testing.T) {
	w := newWorld("a", "b")
	w.sees("a", "b", false, now.Add(-time.Minute))
	w.sees("b", "a", false, now.Add(-time.Minute))
	if a, b := w.state("a"), w.state("b"); a != liveness.Suspect || b != liveness.Suspect {
		t.Errorf("a %s, b %s: want both suspect", a, b)
	}
	w.docs["a"].Report.SelfTest = event.Failed
	if a, b := w.state("a"), w.state("b"); a != liveness.Down || b != liveness.Up {
		t.Errorf("a %s, b %s: want a down and b up", a, b)
	}
}

// TestMajority: against an NVA whose agent is heard it takes two witnesses, and more than half of those that watch it.
func TestMajority(t *testing.T) {
	for _, tt := range []struct {
		accusers, watchers int
		want               liveness.State
	}{
		{0, 1, liveness.Up},
		{1, 1, liveness.Suspect},
		{1, 2, liveness.Suspect},
		{2, 2, liveness.Down},
		{2, 3, liveness.Down},
		{2, 4, liveness.Suspect},
		{3, 5, liveness.Down},
		{2, 5, liveness.Suspect},
	} {
		w := newWorld("a")
		w.docs["a"].LastSeen = now
		for i := range tt.watchers {
			name := fmt.Sprintf("w%d", i)
			w.add(name)
			w.sees(name, "a", i >= tt.accusers, now.Add(-time.Minute))
		}
		if got := w.state("a"); got != tt.want {
			t.Errorf("%d of %d cannot reach it: %s, want %s", tt.accusers, tt.watchers, got, tt.want)
		}
	}
}

func TestFreeze(t *testing.T) {
	ago := func(d time.Duration) time.Time { return now.Add(-d) }
	for _, tt := range []struct {
		name  string
		build func() *world
		want  string // states of all NVAs
		lost  []string
	}{
		{"one of two", func() *world {
			w := newWorld("a", "b")
			w.silence("a", ago(time.Second))
			return w
		}, "down up", nil},
		{"two of three at once", func() *world {
			w := newWorld("a", "b", "c")
			w.silence("a", ago(25*time.Second))
			w.silence("b", ago(time.Second))
			return w
		}, "hold hold up", []string{"a", "b"}},
		{"two of three, one long before the other", func() *world {
			w := newWorld("a", "b", "c")
			w.silence("a", ago(time.Hour))
			w.silence("b", ago(time.Second))
			return w
		}, "down down up", nil},
		{"all of two, one long before the other", func() *world {
			w := newWorld("a", "b")
			w.silence("a", ago(time.Hour))
			w.silence("b", ago(time.Second))
			return w
		}, "down hold", []string{"b"}},
		{"the only one", func() *world {
			w := newWorld("a")
			w.silence("a", ago(time.Hour))
			return w
		}, "hold", []string{"a"}},
		{"a partition in the middle", func() *world {
			w := newWorld("a", "b", "c", "d")
			for _, pair := range []string{"ac", "ad", "bc", "bd"} {
				w.sees(pair[:1], pair[1:], false, ago(5*time.Second))
				w.sees(pair[1:], pair[:1], false, ago(5*time.Second))
			}
			for _, pair := range []string{"ab", "cd"} {
				w.sees(pair[:1], pair[1:], true, time.Time{})
				w.sees(pair[1:], pair[:1], true, time.Time{})
			}
			return w
		}, "hold hold hold hold", []string{"a", "b", "c", "d"}},
		{"what asks to carry nothing is left all the same", func() *world {
			w := newWorld("a", "b")
			w.docs["a"].Report.Drain = "reboot"
			w.silence("b", ago(time.Second))
			return w
		}, "draining hold", []string{"b"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := tt.build()
			w.domain.Policy.Silence = config.SilenceDown
			view := w.judge()
			var states []string
			for _, n := range w.domain.NVAs {
				states = append(states, view.Of[n.Name].State.String())
			}
			if got := strings.Join(states, " "); got != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if diff := cmp.Diff(tt.lost, view.Lost); diff != "" || view.Frozen != (tt.lost != nil) {
				t.Errorf("frozen %t, lost (-want +got):\n%s", view.Frozen, diff)
			}
		})
	}
}

func TestTrust(t *testing.T) {
	w := newWorld("a", "b")
	a := w.docs["a"]
	a.Since = now.Add(-10 * time.Second)
	if got, want := w.judge().Of["a"].Trusted, now.Add(20*time.Second); !got.Equal(want) {
		t.Errorf("up for 10 s: trusted at %s, want %s", got, want)
	}
	a.Since = now.Add(-30 * time.Second)
	if got := w.judge().Of["a"].Trusted; !got.IsZero() {
		t.Errorf("up for 30 s: trusted at %s, want now", got)
	}
	w.sees("b", "a", true, now.Add(-time.Second))
	if got, want := w.judge().Of["a"].Trusted, now.Add(29*time.Second); !got.Equal(want) {
		t.Errorf("reached again a second ago: trusted at %s, want %s", got, want)
	}

	w.domain.Policy.HoldDown = config.Never
	order := func(o state.Order) bool {
		a.Order = o
		return w.judge().Of["a"].Untold
	}
	for name, got := range map[string]bool{
		"never told":     !order(state.Order{}),
		"told before it": !order(state.Order{At: now.Add(-time.Minute)}),
		"told since":     order(state.Order{At: now}),
		"told that very instant, which ended a drain": order(state.Order{At: now.Add(-time.Second)}),
		"drained since": !order(state.Order{At: now, Drain: true}),
	} {
		if got {
			t.Errorf("hold-down never, %s: untold is wrong", name)
		}
	}
}

// TestBelieved: what a person reads.
func TestBelieved(t *testing.T) {
	w := newWorld("a", "b", "c")
	w.silence("a", time.Date(2026, 5, 28, 11, 59, 58, 0, time.UTC))
	w.sees("b", "a", false, time.Date(2026, 5, 28, 11, 59, 59, 0, time.UTC))
	w.sees("c", "a", false, time.Date(2026, 5, 28, 11, 59, 57, 0, time.UTC))
	if got, want := w.judge().Of["a"].String(), "down since 2026-05-28T11:59:59Z (expired, witnessed by b, c)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	w.docs["a"].Obey(state.Order{Drain: true, At: now, ID: "1", Who: "jo", Why: "firmware"})
	if got, want := w.judge().Of["a"].String(), "draining since 2026-05-28T12:00:00Z (drained by jo: firmware)"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}

// TestControlLost: what a person reads, whatever else there is to be said, and that an NVA with a lost daemon is a witness like any other.
func TestControlLost(t *testing.T) {
	w := newWorld("a", "b")
	a := w.docs["a"]
	since := now.Add(-time.Hour)
	a.Report.ControlLost = []event.Session{{Name: "frr", Since: since}}
	const frr = "its agent has lost the BGP session with frr since 2026-05-28T11:00:00Z: the routes from there are those of before, and nobody can withdraw them"
	for _, tt := range []struct {
		change func()
		want   string
	}{
		{func() {}, frr},
		{func() {
			a.Notice = state.Notice{Kind: event.Goodbye, Version: event.Version{Epoch: 1}, Reason: "upgrade"}
		}, frr + "; its agent restarts: upgrade"},
		{func() { a.Notice = state.Notice{}; w.sees("b", "a", false, now) }, frr + "; cannot be reached by b, but its agent is heard"},
		{func() {
			a.Report.ControlLost = []event.Session{{Name: "10.0.2.9"}, {Name: "bird", Since: since}, {Name: "c"}, {Name: "d"}, {Name: "e"}}
			w.sees("b", "a", true, since)
		}, "its agent has lost the BGP session with 10.0.2.9, bird since 2026-05-28T11:00:00Z, c, and 2 more: the routes from there are those of before, and nobody can withdraw them"},
	} {
		tt.change()
		if got := w.judge().Of["a"]; got.State != liveness.ControlLost || got.Why != tt.want {
			t.Errorf("%s, want control-lost (%s)", got, tt.want)
		}
	}
	w.sees("a", "b", false, now.Add(-time.Minute))
	w.silence("b", now.Add(-time.Minute))
	if got := w.state("b"); got != liveness.Down {
		t.Errorf("b is silent, and a cannot reach it: %s, want down", got)
	}
}

// TestNothingButEvidenceMoves: whatever the NVAs are and say, none is down or draining against whom there is no evidence, and no more than half are put down at once
// by what others say.
func TestNothingButEvidenceMoves(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		names := []string{"a", "b", "c", "d", "e"}[:rapid.IntRange(1, 5).Draw(t, "nvas")]
		w := newWorld(names...)
		w.domain.Policy.Silence = rapid.SampledFrom([]config.Silence{config.SilenceHold, config.SilenceDown}).Draw(t, "silence")
		recent := func(label string) time.Time {
			return now.Add(-time.Duration(rapid.IntRange(0, 30).Draw(t, label)) * time.Second)
		}
		for _, name := range names {
			if rapid.Bool().Draw(t, name+" is silent") {
				w.silence(name, recent("since"))
			}
			w.docs[name].LastSeen = recent("seen")
			if rapid.Bool().Draw(t, "a session is lost") {
				w.docs[name].Report.ControlLost = []event.Session{{Name: "frr"}}
			}
			w.docs[name].Report.SelfTest = rapid.SampledFrom([]event.Check{event.Absent, event.Passed, event.Failed}).Draw(t, "self-test")
			for _, peer := range names {
				if peer != name && rapid.Bool().Draw(t, name+" watches "+peer) {
					w.sees(name, peer, rapid.Bool().Draw(t, "reachable"), recent("turned"))
				}
			}
		}
		view := w.judge()
		down := 0
		for _, name := range names {
			if view.Of[name].State != liveness.Down {
				continue
			}
			down++
			silent := w.docs[name].Silent()
			accused := slices.ContainsFunc(names, func(other string) bool {
				p, watched := w.docs[other].Report.Peer(name)
				return watched && !p.Reachable && !w.docs[other].Silent() && w.docs[other].Report.SelfTest != event.Failed
			})
			if !accused && (!silent || w.domain.Policy.Silence == config.SilenceHold) {
				t.Fatalf("%s is down without evidence: %+v", name, view.Of[name])
			}
		}
		if 2*down > len(names) {
			t.Fatalf("%d of %d are down at once: %+v", down, len(names), view)
		}
	})
}

func TestStateNames(t *testing.T) {
	var got []string
	for _, s := range liveness.States() {
		got = append(got, s.String())
	}
	if want := "up suspect control-lost hold down draining unheard"; strings.Join(got, " ") != want {
		t.Errorf("%v, want %s", got, want)
	}
	if s := liveness.State(99).String(); s != "state-99" {
		t.Errorf("an unknown state is %q", s)
	}
}
