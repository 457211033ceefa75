package reconcile_test

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

// nth makes a fate for the nth (from 1) to last calls whose name begins with op.
func nth(op string, first, last int, f fate) func(string) fate {
	n := 0
	return func(name string) fate {
		if !strings.HasPrefix(name, op) {
			return fate{}
		}
		n++
		if n < first || n > last {
			return fate{}
		}
		return f
	}
}

func always(op string, f fate) func(string) fate { return nth(op, 1, 1<<30, f) }

// settledWorld is a domain at rest: both NVAs announce two prefixes, nva-a carries them.
func settledWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, domainFile("0", ""))
	w.said("nva-a", event.Snapshot, announce(prefixes(2)...))
	w.said("nva-b", event.Snapshot, announce(prefixes(2)...))
	w.rest()
	if wrong := w.wrong(); wrong != "" {
		t.Fatal(wrong)
	}
	w.forget()
	return w
}

// forget starts the counts anew.
func (w *world) forget() {
	w.gets, w.puts, w.ops, w.history = 0, 0, nil, nil
	w.log.Reset()
}

func throttled(code string, after time.Duration) fate {
	return fate{skip: true, err: &fault.Error{Kind: fault.Throttled, Code: code, RetryAfter: after, Err: errors.New("429")}}
}

func refused(kind fault.Kind, code string) fate {
	return fate{skip: true, err: (&fault.Error{Kind: kind, Code: code, Err: errors.New(code)}).WithAdvice("do something about it")}
}

// A death is known to the documents; one run is made under a fault. Afterwards the fault is gone, and all follow-ups are worked off.
func TestRunUnderFault(t *testing.T) {
	const busy = "RetryableErrorDueToAnotherOperation"
	lost := errors.New("connection reset")
	tests := []struct {
		name       string
		fate       func(string) fate
		meddle     func(w *world) func(string)
		outcome    state.Outcome // of that one run; 0: it saved none
		code       string
		gets, puts int
		lines      int // of history
		follow     []string
		gaveBack   bool // the message
		needsSweep bool
	}{
		{name: "nothing goes wrong", outcome: state.Written, gets: 1, puts: 1, lines: 1},
		{
			name: "somebody else writes between read and write", outcome: state.Written, gets: 2, puts: 1, lines: 1,
			meddle: func(w *world) func(string) { return w.thirdParty("put") },
		},
		{name: "another operation holds the table", fate: nth("put", 1, 1, throttled(busy, 11*time.Second)), outcome: state.Busy, code: busy, gets: 1, follow: []string{"throttled in 11s"}},
		{name: "another operation holds it and nobody says how long", fate: nth("put", 1, 1, throttled(busy, 0)), outcome: state.Busy, code: busy, gets: 1, follow: []string{"throttled in 5s"}},
		{name: "the quota of writes is used up", fate: nth("put", 1, 1, throttled("TooMany", 17*time.Second)), outcome: state.Throttled, code: "TooMany", gets: 1, follow: []string{"throttled in 17s"}},
		{name: "the quota of reads is used up", fate: nth("get", 1, 1, throttled("TooMany", 0)), outcome: state.Throttled, code: "TooMany", gets: 0, follow: []string{"throttled in 30s"}},
		{name: "no right to write", fate: nth("put", 1, 1, refused(fault.Denied, "AuthorizationFailed")), outcome: state.Denied, code: "AuthorizationFailed", gets: 1, needsSweep: true},
		{name: "the table does not exist", fate: nth("get", 1, 1, refused(fault.NotFound, "ResourceNotFound")), outcome: state.Denied, code: "ResourceNotFound", needsSweep: true},
		{name: "Azure refuses the content", fate: nth("put", 1, 1, refused(fault.Refused, "UnknownField")), outcome: state.Refused, code: "UnknownField", gets: 1, needsSweep: true},
		{name: "the answer to the write is lost", fate: nth("put", 1, 1, fate{err: lost}), outcome: state.Written, gets: 3, puts: 1, lines: 1},
		{name: "the write is lost", fate: nth("put", 1, 1, fate{skip: true, err: lost}), outcome: state.Written, gets: 2, puts: 1, lines: 1},
		{name: "all writes are lost", fate: always("put", fate{skip: true, err: lost}), outcome: state.Failed, gets: 5, follow: []string{"retry in 2s"}},
		{name: "the table cannot be read", fate: always("get", fate{skip: true, err: lost}), outcome: state.Failed, follow: []string{"retry in 2s"}},
		{name: "the document of an NVA cannot be read", fate: always("read nvas", fate{skip: true, err: lost}), gets: 1, follow: []string{"retry in 2s"}},
		{name: "the intent cannot be saved", fate: always("write targets", fate{skip: true, err: lost}), follow: []string{"retry in 2s"}},
		{name: "the intent is saved, which the run does not hear", fate: nth("write targets", 1, 1, fate{err: lost}), follow: []string{"retry in 2s"}},
		{name: "the result cannot be saved", fate: nth("write targets", 2, 99, fate{skip: true, err: lost}), gets: 1, puts: 1, lines: 1, follow: []string{"retry in 2s"}},
		{name: "the history cannot be written", fate: always("append", fate{skip: true, err: lost}), outcome: state.Written, gets: 1, puts: 1},
		{
			name: "neither the table nor the bus can be reached", gaveBack: true, outcome: state.Failed, follow: []string{"nva-a in 0s"},
			fate: func(op string) fate {
				if op == "get" || strings.HasPrefix(op, "send") {
					return fate{skip: true, err: lost}
				}
				return fate{}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := settledWorld(t)
			others := w.unmanaged()
			w.said("nva-a", event.Expired, nil)
			if tt.fate != nil {
				w.fate = tt.fate
			}
			if tt.meddle != nil {
				w.meddle = tt.meddle(w)
				others = append(others, added)
			}
			before := w.document().Counts
			w.deliver(w.next())

			doc := w.document()
			if tt.outcome != 0 && (doc.Counts[tt.outcome.String()] != before[tt.outcome.String()]+1 || doc.Result.Outcome != tt.outcome || doc.Result.Code != tt.code) {
				t.Errorf("outcome %s %q, want %s %q\n%s", doc.Result.Outcome, doc.Result.Code, tt.outcome, tt.code, w.log.String())
			}
			if tt.outcome == 0 && doc.Result.Events == nil && !cmp.Equal(doc.Counts, before) {
				t.Errorf("a run that saved nothing counts: %v, before %v", doc.Counts, before)
			}
			if w.gets != tt.gets && !tt.gaveBack || w.puts != tt.puts || len(w.history) != tt.lines {
				t.Errorf("%d GETs, %d PUTs applied, %d lines of history; want %d, %d, %d", w.gets, w.puts, len(w.history), tt.gets, tt.puts, tt.lines)
			}
			if got := w.waiting(); !slices.Equal(got, tt.follow) {
				t.Errorf("on the bus: %q, want %q", got, tt.follow)
			}
			if trouble := !doc.Trouble.IsZero(); tt.outcome != 0 && trouble != (tt.outcome != state.Written) {
				t.Errorf("in trouble: %t with outcome %s", trouble, tt.outcome)
			}

			w.fate, w.meddle = func(string) fate { return fate{} }, func(string) {}
			if tt.needsSweep {
				w.wake("sweep/1")
			}
			w.rest()
			w.atRest(others)
		})
	}
}

// added is what thirdParty adds.
var added = plan.NewRoute("by-hand", "192.168.77.0/24", plan.VirtualAppliance, hopB)

// thirdParty returns a meddler that edits the table once, before the first call of op.
func (w *world) thirdParty(op string) func(string) {
	done := false
	return func(name string) {
		if name == op && !done {
			done = true
			t := w.tables[tableID]
			t.etag++
			t.routes = append(t.routes, added)
		}
	}
}

// atRest asserts what must hold when nothing is on its way any more.
func (w *world) atRest(others []plan.Route) {
	w.t.Helper()
	if wrong := w.wrong(); wrong != "" {
		w.t.Errorf("I3: %s\n%s", wrong, w.log.String())
	}
	if diff := cmp.Diff(others, w.unmanaged(), cmp.Comparer(func(a, b plan.Route) bool { return a == b })); diff != "" {
		w.t.Errorf("I1: unmanaged routes, -want +got:\n%s", diff)
	}
	if lost := w.orphans(); len(lost) > 0 {
		w.t.Errorf("routes that nobody owns: %v\n%s", lost, w.log.String())
	}
	w.forget()
	w.wake("again/1")
	w.rest()
	if w.puts > 0 && len(w.history) == 0 { // it fenced a dead run; that is done once
		w.forget()
		w.wake("again/2")
		w.rest()
	}
	if w.puts > 0 || len(w.history) > 0 {
		w.t.Errorf("I5: a reconcile without news wrote %d times\n%s", w.puts, w.log.String())
	}
	if left := w.document().Outcomes.Events; len(left) > 0 {
		w.t.Errorf("%d events were not told", len(left))
	}
	if untold := w.untold(); untold != "" {
		w.t.Errorf("a subscriber does not know the table, -told +table:\n%s\n%s", untold, w.log.String())
	}
}

// Every call of every port goes wrong once, in every way: done or not, with an error or with the death of the process. Redelivery and
// follow-ups alone, without the sweep, bring the table to rest.
func TestEveryCallGoesWrongOnce(t *testing.T) {
	stories := map[string]func(w *world){
		"a death":      func(w *world) { w.said("nva-a", event.Expired, nil) },
		"new prefixes": func(w *world) { w.said("nva-a", event.Delta, announce(prefix(7), prefix(8))) },
		"a withdrawal": func(w *world) {
			w.said("nva-a", event.Delta, withdraw(prefix(1)))
			w.said("nva-b", event.Delta, withdraw(prefix(1)))
		},
		"no news": func(w *world) { w.wake("sweep/1") },
		"no news, but another run died": func(w *world) {
			w.edit(func(d *state.Target) {
				d.Intents = append(d.Intents, state.Intent{Run: "dead", Wake: "gone", Since: w.now.Add(-time.Minute), Until: w.now.Add(-time.Second)})
			})
			w.wake("sweep/1")
		},
		"no news, but another run is at work": func(w *world) {
			w.edit(func(d *state.Target) {
				d.Intents = append(d.Intents, state.Intent{Run: "dead", Wake: "gone", Since: w.now, Until: w.now.Add(lease)})
			})
			w.said("nva-a", event.Expired, nil)
		},
	}
	ways := map[string]fate{
		"not done, error": {skip: true, err: errors.New("connection reset")},
		"done, error":     {err: errors.New("connection reset")},
		"not done, death": {skip: true, crash: true},
		"done, death":     {crash: true},
	}
	for name, story := range stories {
		clean := settledWorld(t)
		story(clean)
		clean.rest()
		calls := len(clean.ops)
		if calls < 5 {
			t.Fatalf("%s: only %d calls", name, calls)
		}
		for way, f := range ways {
			t.Run(name+", "+way, func(t *testing.T) {
				for n := 1; n <= calls; n++ {
					w := settledWorld(t)
					others, start := w.unmanaged(), w.now
					story(w)
					w.fate = nth("", n, n, f)
					w.rest()
					if took := w.now.Sub(start); took > 2*time.Minute {
						t.Errorf("call %d (%s): at rest only after %s", n, w.ops[n-1], took)
					}
					w.atRest(others)
					if t.Failed() {
						t.Fatalf("call %d", n)
					}
				}
			})
		}
	}
}

func TestNoNewsNoWrite(t *testing.T) {
	w := settledWorld(t)
	w.wake("sweep/1")
	w.rest()
	if w.puts != 0 || w.gets != 2 {
		t.Errorf("%d PUTs and %d GETs, want none and 2: a second read confirms that nothing was to be written", w.puts, w.gets)
	}
	if got := w.document().Result.Outcome; got != state.Unchanged {
		t.Errorf("outcome %s", got)
	}
}

// The documents are read after the table: were they older, another run's newer table could be taken for one that needs this run's older answer.
func TestOrderOfReads(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Delta, announce(prefix(9)))
	w.rest()
	var order []string
	for _, op := range w.ops {
		kind, _, _ := strings.Cut(op, "/")
		if len(order) == 0 || order[len(order)-1] != kind {
			order = append(order, kind)
		}
	}
	want := []string{
		"read domains", "read accepted", "read targets", "write targets", // the intent
		"get", "read domains", "read nvas", // the table, then the documents
		"read budgets",                   // it is not urgent: are there writes left?
		"write targets", "put", "append", // ownership, the write, its history
		"read domains", "read nvas", // is it still the answer?
		"write targets",                                            // the result
		"read targets", "publish", "read targets", "write targets", // what the outside is told, after everything else
	}
	if diff := cmp.Diff(want, order); diff != "" {
		t.Errorf("order of effects, -want +got:\n%s", diff)
	}
}

func TestNewsDuringTheWriteIsWrittenByTheSameRun(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Delta, announce(prefix(9)))
	first := w.next()
	once := false
	w.meddle = func(op string) {
		if op == "append" && !once { // the write is done, the second read comes
			once = true
			w.said("nva-a", event.Delta, announce(prefix(10)))
		}
	}
	w.deliver(first)
	if wrong := w.wrong(); wrong != "" {
		t.Errorf("after the first run: %s", wrong)
	}
	w.meddle = func(string) {}
	others := w.unmanaged()
	w.rest()
	w.atRest(others)
}

// A second wake finds the run in flight: it leaves its news to it, and a guard in case that it dies.
func TestSecondWakeIsLeftToTheRunInFlight(t *testing.T) {
	for _, dies := range []bool{false, true} {
		t.Run(fmt.Sprintf("the holder dies: %t", dies), func(t *testing.T) {
			w := settledWorld(t)
			others := w.unmanaged()
			w.said("nva-a", event.Delta, announce(prefix(9)))
			w.said("nva-b", event.Delta, announce(prefix(10)))
			first, second := w.queue[0], w.queue[1]
			once := w.meanwhile(func() {
				w.deliver(second)
				if got := w.waiting(); !slices.Contains(got, "guard in 31s") {
					t.Errorf("on the bus: %q, want a guard in 31s", got)
				}
				if dies {
					w.fate = nth("", 1, 1, fate{skip: true, crash: true})
				}
			})
			w.deliver(first)
			if !*once {
				t.Fatal("the second wake was not delivered during the first run")
			}
			w.fate, w.meddle = func(string) fate { return fate{} }, func(string) {}
			if w.gets = 0; dies {
				w.queue = slices.DeleteFunc(w.queue, func(d *delivery) bool { return d == first }) // even its message is gone
			}
			w.rest()
			if !dies && w.gets > 0 {
				t.Errorf("the guard of a run that ended well read the table %d times", w.gets)
			}
			w.atRest(others)
		})
	}
}

// A run that has gone on for long ends, and hands what is left to it over to a run of its own: in a storm there is always news. The guard of whoever left it then finds that
// it was answered.
func TestALongRunHandsOver(t *testing.T) {
	for _, tt := range []struct {
		takes time.Duration
		want  string // on the bus after the first run
	}{{lease / 6, "guard in 26s"}, {lease/6 + time.Millisecond, "guard in 25.999s handover in 0s"}} {
		w := settledWorld(t)
		others := w.unmanaged()
		w.said("nva-a", event.Delta, announce(prefix(9)))
		w.said("nva-b", event.Delta, announce(prefix(10)))
		first, second := w.queue[0], w.queue[1]
		w.meanwhile(func() {
			w.deliver(second)
			w.now = w.now.Add(tt.takes)
		})
		w.deliver(first)
		if got := strings.Join(w.waiting(), " "); got != tt.want {
			t.Errorf("after %v: on the bus %q, want %q", tt.takes, got, tt.want)
		}
		if n := len(w.document().Intents); n > 0 {
			t.Errorf("after %v: %d intents are left", tt.takes, n)
		}
		w.meddle = func(string) {}
		w.rest()
		w.atRest(others)
	}
}

// The store may answer "conflict" to a run's own write, when its answer was lost and another one wrote on top of it.
func TestOwnIntentKeepsNobodyAway(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Expired, nil)
	w.fate = nth("write targets", 1, 1, fate{err: fault.New(fault.Conflict, "somebody was first")})
	w.deliver(w.next())
	if wrong := w.wrong(); wrong != "" || len(w.document().Intents) != 0 {
		t.Errorf("intents %v; %s", w.document().Intents, wrong)
	}
}

// After trouble with the documents the intent is taken back, so that the next try finds no holder; but not if a write may be on its way.
func TestIntentIsTakenBackAfterTrouble(t *testing.T) {
	for _, tt := range []struct {
		name   string
		reads  int // of NVAs' documents that go well
		intent int
	}{{"before the write", 0, 0}, {"after the write", 2, 1}} {
		t.Run(tt.name, func(t *testing.T) {
			w := settledWorld(t)
			w.said("nva-a", event.Expired, nil)
			w.fate = nth("read nvas", tt.reads+1, 99, fate{skip: true, err: errors.New("away")})
			w.deliver(w.next())
			if got := w.document().Intents; len(got) != tt.intent {
				t.Errorf("%d intents, want %d", len(got), tt.intent)
			}
		})
	}
}

// A run owns a name and is held up before its write. Another one takes over, finds that the prefix is gone, and forgets the name; then the prefix comes
// back and the first run goes on. It must not create a route that nobody owns.
func TestLateRunWritesNothingThatNobodyOwns(t *testing.T) {
	for _, moves := range []bool{true, false} {
		t.Run(fmt.Sprintf("a fence moves the ETag: %t", moves), func(t *testing.T) {
			w := settledWorld(t)
			w.sameMove = moves
			others := w.unmanaged()
			w.said("nva-a", event.Delta, announce(prefix(9)))
			late := w.next()
			next, stop := iter.Pull(w.calls(late))
			defer stop()
			for op, more := next(); op != "put"; op, more = next() {
				if !more {
					t.Fatal("no write")
				}
			}
			w.now = w.now.Add(lease + time.Second)
			w.said("nva-a", event.Delta, withdraw(prefix(9)))
			w.deliver(w.next())
			w.said("nva-a", event.Delta, announce(prefix(9)))
			for _, more := next(); more; _, more = next() {
				if lost := w.orphans(); len(lost) > 0 {
					t.Fatalf("nobody owns %v", lost)
				}
			}
			w.rest()
			w.atRest(others)
		})
	}
}

// A run takes over while another one sleeps between its intent and its reads, decides on documents that are old by the time it writes, and is not
// known to the other one, which finds nothing to do: that one must see it before it reports what it found.
func TestRunThatBeganUnseenIsFenced(t *testing.T) {
	w := settledWorld(t)
	others := w.unmanaged()
	w.wake("sweep/1")
	sleeper, stop := iter.Pull(w.calls(w.next()))
	defer stop()
	for op, more := sleeper(); op != "get"; op, more = sleeper() {
		if !more {
			t.Fatal("no read of the table")
		}
	}
	w.now = w.now.Add(lease + time.Second)
	w.said("nva-a", event.Delta, announce(prefix(9)))
	late, stopLate := iter.Pull(w.calls(w.next()))
	defer stopLate()
	for op, more := late(); op != "put"; op, more = late() {
		if !more {
			t.Fatal("no write")
		}
	}
	w.said("nva-a", event.Delta, withdraw(prefix(9)))
	for more := true; more; {
		_, more = sleeper()
	}
	for more := true; more; {
		_, more = late() // the world notices a write that rests on older documents
	}
	w.rest()
	w.atRest(others)
}

// The news that was left to a run is looked at although its document is written several times before it sees it.
func TestNewsIsNotForgottenOverConflicts(t *testing.T) {
	w := settledWorld(t)
	others := w.unmanaged()
	w.said("nva-a", event.Delta, announce(prefix(9)))
	first := w.next()
	stage := 0
	w.meddle = func(op string) {
		if op != "write targets/hub/spokes.json" || w.puts == 0 || stage > 1 {
			return
		}
		if stage++; stage == 1 { // the result of the first is about to be saved
			w.said("nva-b", event.Delta, announce(prefix(10)))
			w.edit(func(d *state.Target) { d.Wakes++ })
			w.queue = w.queue[:1] // the second wake was left to the run
			return
		}
		w.edit(func(d *state.Target) { d.Writes++ }) // and the document changes once more, by another hand
	}
	w.deliver(first)
	if stage != 2 {
		t.Fatalf("stage %d", stage)
	}
	if wrong := w.wrong(); wrong != "" {
		t.Errorf("the news was forgotten: %s", wrong)
	}
	w.meddle = func(string) {}
	w.rest()
	w.atRest(others)
}

// The message of a run that died comes again long before its lease has run out: its own intent must not keep it away.
func TestRedeliveryTakesOverAtOnce(t *testing.T) {
	w := settledWorld(t)
	others, start := w.unmanaged(), w.now
	w.said("nva-a", event.Expired, nil)
	w.fate = nth("put", 1, 1, fate{skip: true, crash: true})
	d := w.next()
	w.deliver(d)
	if d.held || len(w.queue) != 1 {
		t.Fatal("the message is not back")
	}
	w.fate = func(string) fate { return fate{} }
	w.deliver(d)
	if wrong := w.wrong(); wrong != "" || w.now != start {
		t.Errorf("after %s: %s", w.now.Sub(start), wrong)
	}
	w.rest()
	w.atRest(others)
}

// A queue that does not look for duplicates can hold two messages of one id. Neither takes the other's run over, however often it was delivered.
func TestAnotherMessageOfTheSameIDTakesNothingOver(t *testing.T) {
	w := settledWorld(t)
	others := w.unmanaged()
	w.said("nva-a", event.Expired, nil)
	first := w.next()
	twin := &delivery{Message: first.Message, sequence: first.sequence + 1000, due: w.now, count: 1}
	w.queue = append(w.queue, twin)
	w.meddle = func(op string) {
		if op != "put" || twin.count > 1 {
			return
		}
		gets := w.gets
		w.deliver(twin) // its second delivery, in the midst of the first one's write
		if w.gets != gets {
			t.Error("the twin went to work while the first one is at it")
		}
	}
	w.deliver(first)
	if twin.count != 2 {
		t.Fatal("the twin was not delivered")
	}
	w.rest()
	w.atRest(others)
}

// Another message waits for the lease of the dead run, no longer.
func TestLeaseKeepsOthersAwayUntilItRunsOut(t *testing.T) {
	w := settledWorld(t)
	w.edit(func(d *state.Target) {
		d.Intents = append(d.Intents, state.Intent{Run: "dead", Wake: "gone", Since: w.now, Until: w.now.Add(lease)})
	})
	start := w.now
	w.said("nva-a", event.Expired, nil)
	w.deliver(w.next())
	if w.gets != 0 {
		t.Error("it went to work although another run holds the target")
	}
	w.rest()
	if took := w.now.Sub(start); took != lease+time.Second {
		t.Errorf("taken over after %s, want %s", took, lease+time.Second)
	}
}

// A run that finds nothing to do, but knows of another one, writes the table's own content so that the other's late write fails.
func TestFence(t *testing.T) {
	for _, moves := range []bool{true, false} {
		t.Run(fmt.Sprintf("writing the same content moves the ETag: %t", moves), func(t *testing.T) {
			w := settledWorld(t)
			w.sameMove = moves
			old := state.Intent{Run: "dead", Wake: "gone", Since: w.now.Add(-time.Minute), Until: w.now.Add(-time.Second)}
			w.edit(func(d *state.Target) { d.Intents = append(d.Intents, old) })
			etag := w.tables[tableID].etag
			w.wake("sweep/1")
			w.rest()
			if w.puts != 1 || w.history != nil {
				t.Errorf("%d PUTs and %d lines of history, want 1 and none", w.puts, len(w.history))
			}
			if moved := w.tables[tableID].etag != etag; moved != moves {
				t.Errorf("the ETag moved: %t", moved)
			}
			intents := w.document().Intents
			if moves && len(intents) != 0 {
				t.Errorf("the fenced intent is still there: %v", intents)
			}
			if !moves && (len(intents) != 1 || !intents[0].Fenced) {
				t.Errorf("intents %v, want the old one, fenced", intents)
			}
			w.forget()
			w.wake("sweep/2")
			w.rest()
			if w.puts != 0 {
				t.Error("fenced once more")
			}
			w.now = w.now.Add(time.Hour)
			w.wake("sweep/3")
			w.rest()
			if left := w.document().Intents; len(left) != 0 {
				t.Errorf("an hour later: %v", left)
			}
		})
	}
}

// A run that lost its target to another one says so and leaves.
func TestLostLease(t *testing.T) {
	w := settledWorld(t)
	others := w.unmanaged()
	w.said("nva-a", event.Expired, nil)
	w.meddle = func(op string) {
		if op == "append" {
			w.edit(func(d *state.Target) { d.Intents = nil })
		}
	}
	w.deliver(w.next())
	if got := w.waiting(); !slices.Equal(got, []string{"lost in 0s"}) {
		t.Errorf("on the bus: %q", got)
	}
	w.meddle = func(string) {}
	w.rest()
	w.atRest(others)
}

// A store in trouble is not a lost lease: the next try comes after a pause, and the log names the trouble.
func TestUnsavedResultIsNoLostLease(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Expired, nil)
	w.fate = nth("write targets", 2, 9, fate{skip: true, err: errors.New("the store is away")})
	w.deliver(w.next())
	if log := w.log.String(); strings.Contains(log, "took the target over") || !strings.Contains(log, "the store is away") {
		t.Errorf("log:\n%s", log)
	}
}

// Names are owned before the routes exist: a crash between leaves no route that nobody owns, and the names are forgotten again if nobody
// needs them.
func TestOwnedBeforeWritten(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Delta, announce(prefix(9)))
	w.fate = nth("put", 1, 1, fate{crash: true})
	d := w.next()
	w.deliver(d)
	if lost := w.orphans(); len(lost) > 0 {
		t.Fatalf("after the crash nobody owns %v", lost)
	}
	w.fate = func(string) fate { return fate{} }
	w.said("nva-a", event.Delta, withdraw(prefix(9)))
	w.rest()
	w.wake("sweep/1")
	w.rest()
	if doc := w.document(); len(doc.Owned) != 2 || len(w.orphans()) != 0 {
		t.Errorf("owned %v, want those of the two prefixes; orphans %v", doc.Owned, w.orphans())
	}
}

// A route that only looks like Pointsman's stays, even where it stands in the way.
func TestForeignRouteOfOurNameStays(t *testing.T) {
	w := settledWorld(t)
	foreign := plan.NewRoute(plan.Name(mine, prefix(9)), "10.70.0.0/16", plan.VirtualAppliance, hopB)
	blocking := plan.NewRoute("theirs", prefix(10).String(), "None", hopB)
	w.tables[tableID].routes = append(w.tables[tableID].routes, foreign, blocking)
	w.tables[tableID].etag++
	w.said("nva-a", event.Delta, announce(prefix(9), prefix(10)))
	w.rest()
	routes := w.tables[tableID].routes
	for _, want := range []plan.Route{foreign, blocking} {
		if !slices.Contains(routes, want) {
			t.Errorf("%s is gone", want.Name)
		}
	}
	if !slices.ContainsFunc(routes, func(r plan.Route) bool { return r.Prefix == prefix(9) && r.NextHops.First() == hopA }) {
		t.Error("no route for the prefix whose name was taken")
	}
	if got := w.document().Result.Blocked; len(got) != 1 || !strings.Contains(got[0], "theirs") {
		t.Errorf("blocked: %q", got)
	}
}

// What a change has waited for counts also when its write is refused: it need not wait that long again.
func TestWaitIsNotForgotten(t *testing.T) {
	for name, refusal := range map[string]*fault.Error{
		"busy":      {Kind: fault.Throttled, Code: fault.CodeBusy, RetryAfter: 3 * time.Second, Err: errors.New("another operation")},
		"throttled": {Kind: fault.Throttled, RetryAfter: 3 * time.Second, Err: errors.New("quota")},
		"denied":    {Kind: fault.Denied, Err: errors.New("no right")},
	} {
		for _, op := range []string{"put", "get"} {
			t.Run(name+" at "+op, func(t *testing.T) {
				w := newWorld(t, domainFile("60", ""))
				w.said("nva-a", event.Snapshot, announce(prefixes(2)...)) // worth 60 after 10 s
				w.deliver(w.next())
				w.now = w.now.Add(10 * time.Second)
				w.fate = nth(op, 1, 1, fate{skip: true, err: refusal})
				w.deliver(w.next())
				if doc := w.document(); w.puts != 0 || doc.Pending == nil || doc.Result.Outcome == state.Waiting {
					t.Fatalf("%d PUTs, outcome %s, pending %v", w.puts, doc.Result.Outcome, doc.Pending)
				}
				w.fate = func(string) fate { return fate{} }
				w.now = w.now.Add(3 * time.Second)
				w.wake("sweep/1")
				for d := w.next(); d != nil; d = w.next() {
					w.deliver(d)
				}
				// A quota that is used up is spared for dead next hops; what the change has waited for is kept all the same.
				for doc := w.document(); doc.Result.Outcome == state.Waiting; doc = w.document() {
					if doc.Pending == nil || doc.Pending.Accrued < 60 {
						t.Fatalf("it waits for its turn, pending %+v: want at least the 60 that it had", doc.Pending)
					}
					w.now = doc.FireAt
					w.wake(fmt.Sprintf("sweep/%d", w.now.Unix()))
					for d := w.next(); d != nil; d = w.next() {
						w.deliver(d)
					}
				}
				if doc := w.document(); w.puts != 1 || doc.Pending != nil {
					t.Errorf("%d PUTs, pending %v, outcome %s; want one at once", w.puts, doc.Pending, doc.Result.Outcome)
				}
			})
		}
	}
}

func TestCoalescing(t *testing.T) {
	w := newWorld(t, domainFile("60", ""))
	w.said("nva-a", event.Snapshot, announce(prefixes(2)...)) // two missing routes weigh 6 a second: worth 60 after 10 s
	w.deliver(w.next())
	doc := w.document()
	if w.puts != 0 || doc.Result.Outcome != state.Waiting || !doc.FireAt.Equal(w.now.Add(10*time.Second)) {
		t.Fatalf("%d PUTs, outcome %s, fire at %s; want none, waiting, in 10 s", w.puts, doc.Result.Outcome, doc.FireAt)
	}
	if got := w.waiting(); !slices.Equal(got, []string{"due in 10s"}) {
		t.Fatalf("on the bus: %q", got)
	}
	w.now = w.now.Add(5 * time.Second)
	w.said("nva-b", event.Snapshot, announce(prefixes(4)...)) // half of the price is in; four weigh 12 a second
	w.deliver(w.next())
	if fire := w.document().FireAt.Sub(w.now); fire != 2500*time.Millisecond {
		t.Errorf("with company it fires in %s, want 2.5s", fire)
	}
	w.rest()
	if wrong := w.wrong(); wrong != "" || w.puts != 1 {
		t.Errorf("%d PUTs, want 1; %s", w.puts, wrong)
	}
	if doc = w.document(); doc.Pending != nil || !doc.FireAt.IsZero() {
		t.Errorf("still pending: %v at %s", doc.Pending, doc.FireAt)
	}

	w.forget()
	w.said("nva-a", event.Expired, nil) // leaving a dead next hop waits for nothing
	w.deliver(w.next())
	if wrong := w.wrong(); wrong != "" || w.puts != 1 {
		t.Errorf("after the death: %d PUTs, want 1; %s", w.puts, wrong)
	}
}

// A flap that comes back while it waits costs no write.
func TestFlapThatReturnsCostsNothing(t *testing.T) {
	w := newWorld(t, domainFile("60", ""))
	w.said("nva-a", event.Delta, announce(prefix(1)))
	w.deliver(w.next())
	w.said("nva-a", event.Delta, withdraw(prefix(1)))
	w.rest()
	if w.puts != 0 {
		t.Errorf("%d PUTs", w.puts)
	}
}

// Slow back: the preferred NVA that returns takes its prefixes after the hold-down, by a wake that Reconcile itself asks for.
func TestHoldDownIsFollowedUp(t *testing.T) {
	w := newWorld(t, strings.Replace(domainFile("0", ""), "holdDown: 0s", "holdDown: 40s", 1))
	w.said("nva-b", event.Snapshot, announce(prefix(1)))
	w.rest()
	w.now = w.now.Add(time.Hour)
	w.forget()
	start := w.now
	w.said("nva-a", event.Snapshot, announce(prefix(1)))
	w.deliver(w.next())
	if got := w.waiting(); w.puts != 0 || !slices.Equal(got, []string{"hold-down in 40s"}) {
		t.Fatalf("%d PUTs, on the bus %q", w.puts, got)
	}
	w.rest()
	if wrong := w.wrong(); wrong != "" || w.now.Sub(start) != 40*time.Second || w.puts != 1 {
		t.Errorf("after %s, %d PUTs: %s", w.now.Sub(start), w.puts, wrong)
	}
}

func TestLimitAndGuardKeepWhatIsInstalled(t *testing.T) {
	t.Run("limit", func(t *testing.T) {
		w := newWorld(t, domainFile("0", ", limit: 5")) // three are others'
		w.said("nva-a", event.Snapshot, announce(prefixes(2)...))
		w.rest()
		w.said("nva-a", event.Delta, announce(prefix(5), prefix(6)))
		w.rest()
		r := w.document().Result
		if r.Outcome != state.Refused || r.Code != plan.RouteLimit || !strings.Contains(r.Message, "2 too many") || len(w.tables[tableID].routes) != 5 {
			t.Errorf("outcome %s %s %q with %d routes", r.Outcome, r.Code, r.Message, len(w.tables[tableID].routes))
		}
		w.said("nva-a", event.Delta, withdraw(prefix(5), prefix(6)))
		w.rest()
		if doc := w.document(); doc.Result.Outcome != state.Unchanged || !doc.Trouble.IsZero() {
			t.Errorf("afterwards: %s, trouble since %s", doc.Result.Outcome, doc.Trouble)
		}
	})
	t.Run("guard", func(t *testing.T) {
		w := newWorld(t, domainFile("0", "")+"guards: {maxRemoved: 50%, minRemoved: 3}\n")
		w.said("nva-a", event.Snapshot, announce(prefixes(4)...))
		w.rest()
		w.forget()
		w.said("nva-a", event.Delta, withdraw(prefixes(3)...))
		w.rest()
		if r := w.document().Result; r.Code != plan.RemovalGuard || w.puts != 0 {
			t.Errorf("%s %s, %d PUTs", r.Outcome, r.Code, w.puts)
		}
	})
}

// The domain file names another table: nothing that is known of the old one is believed of the new one, and the old one is left alone.
func TestTargetGetsAnotherTable(t *testing.T) {
	w := settledWorld(t)
	other := strings.Replace(tableID, "spokes", "other", 1)
	copied := plan.NewRoute(plan.Name(mine, prefix(0)), prefix(0).String(), plan.VirtualAppliance, hopB)
	w.tables[other] = &table{etag: 1, routes: []plan.Route{copied}}
	before := slices.Clone(w.tables[tableID].routes)
	w.upload(strings.Replace(domainFile("0", ""), tableID, other, 1))
	w.wake("sweep/1")
	w.rest()
	if !slices.Equal(before, w.tables[tableID].routes) {
		t.Error("the old table changed")
	}
	if got := w.tables[other].routes; !slices.Contains(got, copied) || len(got) != 2 {
		t.Errorf("the new table holds %v, want the foreign route and one new one", got)
	}
}

// The configuration changes while a run works on the old table: it loses the target and writes no more.
func TestTableChangesDuringTheRun(t *testing.T) {
	w := settledWorld(t)
	other := strings.Replace(tableID, "spokes", "other", 1)
	w.tables[other] = &table{etag: 1}
	w.said("nva-a", event.Expired, nil)
	first := w.next()
	once := false
	w.meddle = func(op string) {
		if op == "put" && !once {
			once = true
			w.upload(strings.Replace(domainFile("0", ""), tableID, other, 1))
			w.wake("sweep/1")
			w.deliver(w.queue[1])
		}
	}
	w.deliver(first)
	w.meddle = func(string) {}
	w.rest()
	if n := len(w.tables[other].routes); n != 2 {
		t.Errorf("the new table holds %d routes, want 2", n)
	}
	if doc := w.document(); doc.Table != other || len(doc.Intents) != 0 {
		t.Errorf("the document is about %s, intents %v", doc.Table, doc.Intents)
	}
}

func TestDomainIsGone(t *testing.T) {
	t.Run("before", func(t *testing.T) {
		w := settledWorld(t)
		delete(w.blobs, "domains/hub.yaml")
		w.wake("sweep/1")
		w.rest()
		if w.gets != 0 {
			t.Error("it read the table of a domain that is gone")
		}
	})
	t.Run("the target", func(t *testing.T) {
		w := settledWorld(t)
		w.upload(strings.Replace(domainFile("0", ""), "name: spokes", "name: others", 1))
		w.wake("sweep/1")
		w.rest()
		if w.gets != 0 {
			t.Error("it read the table of a target that is gone")
		}
	})
	t.Run("meanwhile", func(t *testing.T) {
		w := settledWorld(t)
		w.said("nva-a", event.Expired, nil)
		w.meddle = func(op string) {
			if op == "get" {
				delete(w.blobs, "domains/hub.yaml")
			}
		}
		w.rest() // it comes to rest: the retry finds no domain
		if w.puts != 0 {
			t.Error("it wrote without a domain file")
		}
	})
}

func TestPoisonWakeIsDropped(t *testing.T) {
	for _, body := range []string{"", "null", "[]", `{"domain":"hub"}`, `{"domain":"../x","target":"spokes"}`} {
		w := settledWorld(t)
		w.queue = []*delivery{{due: w.now}}
		w.queue[0].ID, w.queue[0].Body = "poison", []byte(body)
		w.rest()
		if w.gets != 0 || !strings.Contains(w.log.String(), "poison") {
			t.Errorf("%q: %d GETs, log %s", body, w.gets, w.log.String())
		}
	}
}

func TestBackOffDoublesToAMinute(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Expired, nil)
	w.fate = always("get", fate{skip: true, err: errors.New("away")})
	var waits []time.Duration
	for range 8 {
		w.deliver(w.next())
		waits = append(waits, w.queue[0].due.Sub(w.now))
		w.now = w.queue[0].due
	}
	var want []time.Duration
	for _, s := range []int{2, 4, 8, 16, 32, 60, 60, 60} {
		want = append(want, time.Duration(s)*time.Second)
	}
	if !slices.Equal(waits, want) {
		t.Errorf("%v, want %v", waits, want)
	}
}

func TestHistoryLine(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Expired, nil)
	w.said("nva-b", event.Delta, announce(prefix(5)))
	w.rest()
	lines := w.lines()
	if len(lines) != 1 {
		t.Fatalf("%d lines", len(lines))
	}
	delete(lines[0], "run")
	delete(lines[0], "etagBefore")
	announced := func(seq string) []any { return []any{"hub/nva-b/1/" + seq} }
	want := map[string]any{
		"at": "2026-11-23T12:00:00Z", "domain": "hub", "target": "spokes", "routeTable": tableID, "cause": "nva-a/2",
		"adds": []any{map[string]any{"prefix": "10.64.5.0/24", "to": "10.0.0.5", "by": announced("2")}},
		"moves": []any{
			map[string]any{"prefix": "10.64.0.0/24", "from": "10.0.0.4", "to": "10.0.0.5", "by": announced("1")},
			map[string]any{"prefix": "10.64.1.0/24", "from": "10.0.0.4", "to": "10.0.0.5", "by": announced("1")},
		},
		"stages": map[string]any{"read": 0.0, "decide": 0.0, "write": 0.0},
	}
	if diff := cmp.Diff(want, lines[0]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A write that was accepted and failed leaves its content in the table: it looks as desired, and may not be in force.
func TestAFailedTableIsWrittenAgain(t *testing.T) {
	w := settledWorld(t)
	w.tables[tableID].failed = true
	w.wake("sweep/1")
	w.rest()
	if w.puts != 1 || w.tables[tableID].failed {
		t.Errorf("%d PUTs, table failed: %t; want it written once", w.puts, w.tables[tableID].failed)
	}
	w.forget()
	w.wake("sweep/2")
	w.rest()
	if w.puts != 0 {
		t.Errorf("%d PUTs of a table that is in force", w.puts)
	}
}

// While the service asks to wait, other wakes do not call it; the one that was sent for the end of the wait does, even if its
// clock is a little behind.
func TestNobodyCallsWhileTheServiceAsksToWait(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Expired, nil)
	w.fate = nth("put", 1, 1, throttled("TooMany", 17*time.Second))
	w.deliver(w.next())
	w.fate = func(string) fate { return fate{} }
	w.forget()
	w.wake("nva-b/9")
	w.deliver(w.next())
	if w.gets != 0 || w.puts != 0 {
		t.Errorf("%d GETs and %d PUTs while the service asked to wait", w.gets, w.puts)
	}
	w.rest()
	if w.puts != 1 {
		t.Errorf("%d PUTs after the wait, want 1", w.puts)
	}
	w.atRest(w.unmanaged())
}

// A write that was reported lost can still arrive, while the ETag that it rests on is there: a run that finds nothing to write then
// moves the ETag.
func TestALostWriteThatMayStillArriveIsFenced(t *testing.T) {
	w := settledWorld(t)
	w.sameMove = true
	w.said("nva-a", event.Expired, nil)
	w.fate = nth("put", 1, 1, fate{skip: true, err: errors.New("connection reset")})
	back := false
	w.meddle = func(op string) {
		if op == "get" && !back && len(w.ops) > 0 && slices.Contains(w.ops, "put") {
			back = true
			w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 9 })
		}
	}
	etag := w.tables[tableID].etag
	w.deliver(w.next())
	if !back || w.tables[tableID].etag == etag {
		t.Errorf("the ETag is still %d (news came: %t): the lost write could arrive", etag, back)
	}
}

// A run that was taken over after its claim sees the other's intent before it believes that there is nothing to write.
func TestAnIntentThatCameLaterIsFencedToo(t *testing.T) {
	w := settledWorld(t)
	w.sameMove = true
	came := false
	w.meddle = func(op string) {
		if op == "get" && !came {
			came = true
			w.edit(func(doc *state.Target) {
				doc.Intents = append(doc.Intents, state.Intent{Run: "another", Wake: "w", Since: w.now, Until: w.now.Add(time.Second)})
			})
		}
	}
	etag := w.tables[tableID].etag
	w.wake("sweep/1")
	w.deliver(w.next())
	if !came || w.tables[tableID].etag == etag {
		t.Errorf("the ETag is still %d (the other came: %t): the other's write would pass", etag, came)
	}
}
