package reconcile_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

var hopX = netip.MustParseAddr("10.9.9.9") // of no NVA

// reporting is the domain with policy.drift: report.
func reporting() string {
	return strings.Replace(domainFile("0", ""), "holdDown: 0s", "holdDown: 0s, drift: report", 1)
}

// settledIn is settledWorld with another domain file.
func settledIn(t *testing.T, domain string) *world {
	t.Helper()
	w := newWorld(t, domain)
	w.said("nva-a", event.Snapshot, announce(prefixes(2)...))
	w.said("nva-b", event.Snapshot, announce(prefixes(2)...))
	w.rest()
	w.forget()
	return w
}

// byHand changes the next hop of a managed route past Pointsman; an invalid hop removes the route.
func (w *world) byHand(p netip.Prefix, hop netip.Addr) {
	w.t.Helper()
	t := w.tables[tableID]
	i := slices.IndexFunc(t.routes, func(r plan.Route) bool { return r.Prefix == p })
	switch {
	case i < 0:
		t.routes = append(t.routes, plan.NewRoute(plan.Name(mine, p), p.String(), plan.VirtualAppliance, hop))
	case hop.IsValid():
		t.routes[i].NextHops = route.NextHopsOf(hop)
	default:
		t.routes = slices.Delete(slices.Clone(t.routes), i, i+1)
	}
	t.etag++
}

// azureTells sends the wake that an event of Azure's leads to.
func (w *world) azureTells(id string) {
	w.t.Helper()
	w.enqueue(wake.Wake{Domain: "hub", Target: "spokes", Cause: "drift/" + id, Hand: &outcome.Hand{Event: id, At: w.now, By: "kim"}}, w.now)
}

// hop returns the next hop of a prefix in the table; invalid: no route.
func (w *world) hop(p netip.Prefix) netip.Addr {
	for _, r := range w.tables[tableID].routes {
		if r.Prefix == p {
			return r.NextHops.First()
		}
	}
	return netip.Addr{}
}

// heard returns the events of a kind, each once.
func (w *world) heard(k outcome.Kind) []outcome.Event {
	return slices.DeleteFunc(w.happened(), func(e outcome.Event) bool { return e.Type != k.String() })
}

func equalRoutes() cmp.Option {
	return cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
}

// A hand edit of a managed route is undone at the next look, and told: who, what, before and after.
func TestDriftIsRepaired(t *testing.T) {
	for _, tt := range []struct {
		name string
		hop  netip.Addr
		at   netip.Prefix
		want outcome.Route
	}{
		{"another next hop", hopX, prefix(1), outcome.Route{Prefix: prefix(1), Before: "10.0.0.4", Found: "10.9.9.9", After: "10.0.0.4"}},
		{"that of another NVA", hopB, prefix(1), outcome.Route{Prefix: prefix(1), Before: "10.0.0.4", Found: "10.0.0.5", After: "10.0.0.4"}},
		{"removed", netip.Addr{}, prefix(1), outcome.Route{Prefix: prefix(1), Before: "10.0.0.4", After: "10.0.0.4"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := settledWorld(t)
			others := w.unmanaged()
			w.byHand(tt.at, tt.hop)
			w.azureTells("e1")
			w.rest()
			repaired := w.heard(outcome.DriftRepaired)
			if len(repaired) != 1 {
				t.Fatalf("%d events of a repair\n%s", len(repaired), w.log.String())
			}
			got := repaired[0].Data
			if diff := cmp.Diff([]outcome.Route{tt.want}, got.Routes, equalRoutes()); diff != "" {
				t.Errorf("-want +told:\n%s", diff)
			}
			if len(got.Hands) != 1 || got.Hands[0].By != "kim" || got.Cause != "drift/e1" {
				t.Errorf("by %v, cause %s", got.Hands, got.Cause)
			}
			if doc := w.document(); len(doc.Drifted)+len(doc.Hands) > 0 || w.puts != 1 {
				t.Errorf("%d PUTs, still drifted %v, hands %v", w.puts, doc.Drifted, doc.Hands)
			}
			w.atRest(others)
			if again := w.heard(outcome.DriftRepaired); len(again) != 1 {
				t.Errorf("told %d times", len(again))
			}
		})
	}
}

// The repair waits its price as any change does; it is still known for what it is when it is made.
func TestDriftThatWaitsIsStillToldAsDrift(t *testing.T) {
	w := settledIn(t, domainFile("60", ""))
	w.rest()
	w.byHand(prefix(1), hopB) // alive, only not the best
	w.azureTells("e1")
	w.deliver(w.next())
	if doc := w.document(); w.puts != 0 || len(doc.Drifted) != 1 || doc.Drifted[0].Found != "10.0.0.5" || len(doc.Hands) != 1 {
		t.Fatalf("%d PUTs, drifted %v, hands %v; want it to wait and to be shown", w.puts, doc.Drifted, doc.Hands)
	}
	w.rest()
	if got := w.heard(outcome.DriftRepaired); len(got) != 1 || len(got[0].Data.Hands) != 1 {
		t.Errorf("told %+v", got)
	}
	if doc := w.document(); len(doc.Drifted) > 0 {
		t.Errorf("still drifted: %v", doc.Drifted)
	}
}

// With policy.drift: report the route stays as another hand made it, told and shown once for each change, while all others follow.
func TestDriftIsReported(t *testing.T) {
	w := settledIn(t, reporting())
	w.byHand(prefix(1), hopX)
	w.azureTells("e1")
	w.rest()
	found := w.heard(outcome.DriftFound)
	if w.puts != 0 || len(found) != 1 || len(found[0].Data.Hands) != 1 {
		t.Fatalf("%d PUTs, told %v", w.puts, found)
	}
	if diff := cmp.Diff([]outcome.Route{{Prefix: prefix(1), Before: "10.0.0.4", Found: "10.9.9.9", After: "10.9.9.9"}}, found[0].Data.Routes, equalRoutes()); diff != "" {
		t.Errorf("-want +told:\n%s", diff)
	}
	doc := w.document()
	if len(doc.Drifted) != 1 || len(doc.Drifted[0].Hands) != 1 || !slices.ContainsFunc(doc.Result.Warnings, func(s string) bool { return strings.Contains(s, "10.64.1.0/24 goes via 10.9.9.9 instead of 10.0.0.4") }) {
		t.Errorf("drifted %+v, warnings %q", doc.Drifted, doc.Result.Warnings)
	}

	// The rest of the target goes on, and the drift stays what it is.
	w.now = w.now.Add(time.Minute)
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.wake("sweep/1")
	w.rest()
	if w.hop(prefix(0)) != hopB || w.hop(prefix(1)) != hopX {
		t.Errorf("%s via %s, %s via %s; want B, and the hand's", prefix(0), w.hop(prefix(0)), prefix(1), w.hop(prefix(1)))
	}
	if now := w.document().Drifted; len(w.heard(outcome.DriftFound)) != 1 || len(now) != 1 || !now[0].Since.Equal(doc.Drifted[0].Since) {
		t.Errorf("told %d times, drifted %+v", len(w.heard(outcome.DriftFound)), now)
	}
	if lost := w.orphans(); len(lost) > 0 {
		t.Errorf("nobody owns %v", lost)
	}
}

// How a reported drift ends: put back, made what is wanted by now, or handed over by the domain file.
func TestReportedDriftEnds(t *testing.T) {
	for _, tt := range []struct {
		name     string
		end      func(w *world)
		puts     int
		repaired int
	}{
		{"put back", func(w *world) { w.byHand(prefix(1), hopA) }, 0, 0},
		{"what is wanted by now", func(w *world) {
			w.said("nva-a", event.Expired, nil)
			w.rest()
			w.byHand(prefix(1), hopB)
		}, 1, 0},
		{"the domain file says repair", func(w *world) { w.upload(domainFile("0", "")) }, 1, 1},
		{"removed, and put back under the same name", func(w *world) {
			w.byHand(prefix(1), netip.Addr{})
			w.wake("sweep/8")
			w.rest()
			w.byHand(prefix(1), hopA)
		}, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := settledIn(t, reporting())
			others := w.unmanaged()
			w.byHand(prefix(1), hopX)
			w.azureTells("e1")
			w.rest()
			if len(w.document().Drifted) != 1 {
				t.Fatal("no drift")
			}
			tt.end(w)
			w.wake("sweep/9")
			w.rest()
			if doc := w.document(); len(doc.Drifted) > 0 || len(doc.Result.Warnings) > 0 {
				t.Errorf("still drifted: %v, %q", doc.Drifted, doc.Result.Warnings)
			}
			if got := len(w.heard(outcome.DriftRepaired)); got != tt.repaired || w.puts != tt.puts {
				t.Errorf("%d repairs in %d PUTs, want %d in %d", got, w.puts, tt.repaired, tt.puts)
			}
			w.atRest(others)
		})
	}
}

// A route that a hand removed is not written again, and one that a hand put back under our name is not removed.
func TestReportedDriftOfPresence(t *testing.T) {
	w := settledIn(t, reporting())
	w.byHand(prefix(0), netip.Addr{})
	w.wake("sweep/1")
	w.rest()
	if w.hop(prefix(0)).IsValid() || w.puts != 0 || len(w.document().Drifted) != 1 {
		t.Errorf("%d PUTs, drifted %v", w.puts, w.document().Drifted)
	}
	w.said("nva-a", event.Delta, announce(prefix(5)))
	w.rest()
	if w.hop(prefix(5)) != hopA || w.hop(prefix(0)).IsValid() {
		t.Errorf("new prefix via %s, removed one via %s", w.hop(prefix(5)), w.hop(prefix(0)))
	}
}

// Whatever call goes wrong, in whatever way: a run's own work is never taken for another hand's, and another hand's is never overwritten.
func TestReportUnderEveryFault(t *testing.T) {
	returns := func(w *world) { w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 }) }
	stories := map[string]struct {
		tell  func(w *world)
		then  func(w *world) // after the first run; nil: nothing
		drift int
	}{
		"our own move":                  {func(w *world) { w.said("nva-a", event.Expired, nil) }, nil, 0},
		"our own move that is reversed": {func(w *world) { w.said("nva-a", event.Expired, nil) }, returns, 0},
		"our own addition":              {func(w *world) { w.said("nva-a", event.Delta, announce(prefix(7))) }, nil, 0},
		"our own addition that is withdrawn": {
			func(w *world) { w.said("nva-a", event.Delta, announce(prefix(7))) },
			func(w *world) { w.said("nva-a", event.Delta, withdraw(prefix(7))) }, 0,
		},
		"a hand, and a move of the rest": {func(w *world) {
			w.byHand(prefix(1), hopX)
			w.said("nva-a", event.Expired, nil)
		}, nil, 1},
	}
	ways := map[string]fate{
		"not done, error": {skip: true, err: errors.New("connection reset")},
		"done, error":     {err: errors.New("connection reset")},
		"superseded":      {err: &fault.Error{Kind: fault.Conflict, Code: "CanceledAndSupersededDueToAnotherOperation", Err: errors.New("superseded")}},
		"not done, death": {skip: true, crash: true},
		"done, death":     {crash: true},
	}
	for name, story := range stories {
		clean := settledIn(t, reporting())
		story.tell(clean)
		clean.deliver(clean.next())
		calls := len(clean.ops)
		for way, f := range ways {
			for n := 1; n <= calls; n++ {
				w := settledIn(t, reporting())
				story.tell(w)
				w.fate = nth("", n, n, f)
				if way == "superseded" && clean.ops[n-1] != "put" {
					continue
				}
				if story.then != nil {
					w.deliver(w.next())
					story.then(w)
				}
				w.rest()
				w.wake("sweep/7")
				w.rest()
				where := fmt.Sprintf("%s, call %d (%s) %s", name, n, clean.ops[n-1], way)
				if got := len(w.document().Drifted); got != story.drift {
					t.Fatalf("%s: drifted %v, want %d\n%s", where, w.document().Drifted, story.drift, w.log.String())
				}
				if story.drift == 0 && w.wrong() != "" || story.drift > 0 && (w.hop(prefix(1)) != hopX || w.hop(prefix(0)) != hopB) {
					t.Fatalf("%s: %s; held one via %s, the other via %s\n%s", where, w.wrong(), w.hop(prefix(1)), w.hop(prefix(0)), w.log.String())
				}
			}
		}
	}
}

// A run that gives up without knowing what became of its writes leaves word of them.
func TestWriteOfUnknownEndIsNoDriftLater(t *testing.T) {
	w := settledIn(t, reporting())
	w.said("nva-a", event.Expired, nil)
	puts := 0
	w.fate = func(op string) fate {
		switch {
		case op == "put":
			puts++
			return fate{err: errors.New("the answer is lost")} // and it was applied
		case op == "get" && puts > 0:
			return fate{skip: true, err: errors.New("away")}
		}
		return fate{}
	}
	w.deliver(w.next())
	doc := w.document()
	if doc.Result.Outcome.String() != "failed" || len(doc.Maybe) != 1 || w.hop(prefix(1)) != hopB {
		t.Fatalf("outcome %s, maybe %v, via %s", doc.Result.Outcome, doc.Maybe, w.hop(prefix(1)))
	}
	w.fate = func(string) fate { return fate{} }
	w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 }) // what that write made is no longer wanted
	w.rest()
	if doc = w.document(); len(doc.Drifted)+len(doc.Maybe) > 0 || w.wrong() != "" {
		t.Errorf("drifted %v, maybe %v, %s", doc.Drifted, doc.Maybe, w.wrong())
	}
	if untold := w.untold(); untold != "" {
		t.Errorf("-told +table:\n%s", untold)
	}
}

// A hand meddles with one of two routes while the answer to this run's write is lost, and the news is reversed: the other route is this run's
// work, and follows.
func TestOwnWriteOfUnknownEndBesideAHand(t *testing.T) {
	w := settledIn(t, reporting())
	w.said("nva-a", event.Expired, nil)
	w.fate = nth("put", 1, 1, fate{err: errors.New("the answer is lost")})
	once := false
	w.meddle = func(op string) {
		if op == "get" && w.puts == 1 && !once {
			once = true
			w.byHand(prefix(0), hopX)
			w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 })
		}
	}
	w.deliver(w.next())
	if w.hop(prefix(0)) != hopX || w.hop(prefix(1)) != hopA || len(w.document().Drifted) != 1 {
		t.Errorf("via %s and %s, drifted %v; want the hand's, A, and the first alone", w.hop(prefix(0)), w.hop(prefix(1)), w.document().Drifted)
	}
}

// The first write of all, and a death right after it: what it added is told all the same.
func TestFirstWriteIsToldAfterADeath(t *testing.T) {
	for _, domain := range []string{domainFile("0", ""), reporting()} {
		w := newWorld(t, domain)
		w.said("nva-a", event.Snapshot, announce(prefixes(2)...))
		w.fate = nth("put", 1, 1, fate{crash: true})
		w.deliver(w.next())
		w.fate = func(string) fate { return fate{} }
		w.rest()
		if untold := w.untold(); untold != "" || w.hop(prefix(1)) != hopA {
			t.Errorf("-told +table:\n%s", untold)
		}
	}
}

// Where drift is repaired no run saves beforehand what it writes; the work of a dead one is not told as another hand's all the same.
func TestWorkOfADeadRunIsNotToldAsDrift(t *testing.T) {
	w := settledWorld(t)
	others := w.unmanaged()
	w.said("nva-a", event.Expired, nil)
	w.fate = nth("put", 1, 1, fate{crash: true})
	w.deliver(w.next())
	w.fate = func(string) fate { return fate{} }
	w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 })
	w.rest()
	if told := w.heard(outcome.DriftRepaired); len(told) > 0 {
		t.Errorf("told as drift: %+v", told[0].Data.Routes)
	}
	w.atRest(others)
}

// A document of an older version has no record of what was written: its routes are taken as they are, and not told as new.
func TestFirstRunAfterAnUpgrade(t *testing.T) {
	for _, domain := range []string{domainFile("0", ""), reporting()} {
		w := settledIn(t, domain)
		w.edit(func(d *state.Target) { d.Written = nil })
		w.told = nil
		w.said("nva-a", event.Expired, nil)
		w.rest()
		changed := w.heard(outcome.RouteChanged)
		if len(changed) != 1 || changed[0].Data.Changed != 2 || changed[0].Data.Added != 0 || w.document().Written == nil || len(w.document().Drifted) > 0 {
			t.Errorf("told %+v", changed)
		}
	}
}

// Trouble is told when it begins, when it changes, and when it ends; what passes by itself is not told.
func TestTroubleIsToldOnce(t *testing.T) {
	w := settledWorld(t)
	w.told = nil
	w.said("nva-a", event.Expired, nil)
	w.fate = always("put", refused(fault.Denied, "ScopeLocked"))
	w.rest()
	w.wake("sweep/1")
	w.rest()
	w.fate = nth("put", 1, 1, throttled("TooMany", time.Second))
	w.wake("sweep/2")
	w.deliver(w.next())
	w.fate = always("put", refused(fault.Denied, "AuthorizationFailed"))
	w.rest()
	w.fate = func(string) fate { return fate{} }
	w.wake("sweep/3")
	w.rest()
	w.said("nva-b", event.Expired, nil)
	w.rest()
	w.wake("sweep/4")
	w.rest()
	w.said("nva-b", event.Alive, func(e *event.Event) { e.Beat = 99 })
	w.rest()
	var got []string
	for _, e := range w.happened() {
		got = append(got, strings.TrimSpace(strings.TrimPrefix(e.Type, "Pointsman.")+" "+e.Data.Code+" "+e.Data.Before))
	}
	want := []string{
		"Target.Failed ScopeLocked", "Target.Failed AuthorizationFailed", "Route.Changed", "Target.Recovered  denied AuthorizationFailed",
		"Target.Frozen", "Target.Recovered  frozen",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +told:\n%s", diff)
	}
}

// The topic is away for an hour: routes follow as ever, and then everything is told, in order, each event once.
func TestOutageOfTheTopicDelaysNothingAndLosesNothing(t *testing.T) {
	w := settledWorld(t)
	others := w.unmanaged()
	w.fate = always("publish", fate{skip: true, err: errors.New("no such host")})
	before := w.now
	for n := range 5 {
		w.said("nva-a", event.Delta, announce(prefix(10+n)))
		w.rest()
		if wrong := w.wrong(); wrong != "" || w.now != before {
			t.Fatalf("after %s: %s", w.now.Sub(before), wrong)
		}
	}
	if got := len(w.document().Outcomes.Events); got != 5 {
		t.Fatalf("%d events wait, want 5", got)
	}
	w.fate = func(string) fate { return fate{} }
	w.wake("sweep/1")
	w.rest()
	w.atRest(others)
}

// Without a topic nothing is gathered.
func TestNoTopicNoEvents(t *testing.T) {
	w := settledWorld(t)
	w.told = nil
	w.mute = true
	w.said("nva-a", event.Expired, nil)
	w.rest()
	if doc := w.document(); len(w.told) > 0 || !doc.Outcomes.IsZero() || doc.Written == nil {
		t.Errorf("told %d, %d wait", len(w.told), len(doc.Outcomes.Events))
	}
}

// A look at a drifted table that is left to the run in flight is not forgotten, and neither is who Azure said it was.
func TestHandIsKeptForTheRunInFlight(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Delta, announce(prefix(9)))
	once := false
	w.meddle = func(op string) {
		if op == "append" && !once { // its write is done
			once = true
			w.byHand(prefix(1), hopX)
			w.azureTells("e7")
			w.deliver(w.queue[len(w.queue)-1])
		}
	}
	w.deliver(w.queue[0])
	if got := w.heard(outcome.DriftRepaired); len(got) != 1 || len(got[0].Data.Hands) != 1 || got[0].Data.Hands[0].Event != "e7" {
		t.Errorf("told %+v\n%s", got, w.log.String())
	}
	if w.hop(prefix(1)) != hopA {
		t.Errorf("via %s", w.hop(prefix(1)))
	}
}
