package state_test

import (
	"encoding/json"
	"flag"
	"maps"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

var update = flag.Bool("update", false, "rewrite the golden documents")

// disorder draws what a bus makes of a list: any order, some twice.
func disorder(t *rapid.T, events []event.Event) []event.Event {
	twice := rapid.SliceOfN(rapid.SampledFrom(events), 0, 5).Draw(t, "twice")
	return rapid.Permutation(append(append([]event.Event{}, events...), twice...)).Draw(t, "order")
}

// Property 1: whatever order the events come in, and however often, the document ends the same, and holds the agent's RIB.
func TestConvergesInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := live(t)
		inOrder := viewOf(merged(t, a.published))
		if d := diff(inOrder, viewOf(merged(t, disorder(t, a.published)))); d != "" {
			t.Fatalf("the order matters (-in order +disorder):\n%s", d)
		}
		var rib state.NVA
		rib.Facts = map[netip.Prefix]state.Fact{}
		for p, attrs := range a.rib {
			rib.Facts[p] = state.Fact{Attrs: attrs}
		}
		if d := diff(rib.RIB(), inOrder.RIB); d != "" {
			t.Fatalf("not the agent's RIB (-agent +document):\n%s", d)
		}
		if inOrder.Missing != 0 || inOrder.Differs {
			t.Fatalf("nothing was lost, but Gap says %d, %t", inOrder.Missing, inOrder.Differs)
		}
	})
}

// Property 2: a loss that left the RIB wrong is seen as soon as a later event is in, and one snapshot repairs it.
func TestLossIsDetectedAndRepaired(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := live(t)
		a.publish(event.Event{Kind: event.Alive}) // some later event, which does arrive
		last := len(a.published) - 1
		kept := []event.Event{a.published[last]}
		for _, e := range a.published[:last] {
			if rapid.IntRange(0, 9).Draw(t, "fate") >= 3 {
				kept = append(kept, e)
			}
		}
		n := merged(t, rapid.Permutation(kept).Draw(t, "order"))
		missing, differs := n.Gap()
		if missing == 0 && !differs && !holds(n, a.rib) {
			t.Fatalf("the RIB is wrong and nobody notices: %v against %v", n.RIB(), a.rib)
		}
		before := len(a.published)
		a.snapshot(rapid.IntRange(1, 3).Draw(t, "chunks"))
		mergeInto(t, n, disorder(t, a.published[before:]))
		if missing, differs = n.Gap(); missing != 0 || differs || !holds(n, a.rib) {
			t.Fatalf("a snapshot does not repair it: %d missing, differs %t: %v against %v", missing, differs, n.RIB(), a.rib)
		}
	})
}

func holds(n *state.NVA, rib map[netip.Prefix]route.Attrs) bool {
	have := map[netip.Prefix]route.Attrs{}
	for _, e := range n.RIB() {
		have[e.Prefix] = e.Attrs
	}
	return maps.Equal(have, rib)
}

// Property 3: nothing in the document goes back, whatever arrives.
func TestVersionsNeverGoBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := state.NewNVA("hub", "nva-a")
		for i, e := range disorder(t, live(t).published) {
			before, facts := *n, maps.Clone(n.Facts)
			if _, err := n.Merge(e, epochTime(i)); err != nil {
				t.Fatal(err)
			}
			if n.Floor.Compare(before.Floor) < 0 || n.Claim.Compare(before.Claim) < 0 || n.Epoch < before.Epoch || n.Revision < before.Revision ||
				n.Alive.Compare(before.Alive) < 0 || n.Expired.Compare(before.Expired) < 0 || n.LastSeen.Before(before.LastSeen) {
				t.Fatalf("went back after %s:\n%s", e.ID(), diff(viewOf(&before), viewOf(n)))
			}
			for p, f := range n.Facts {
				if f.Version.Compare(n.Floor) < 0 {
					t.Fatalf("a fact below the floor: %s %v, floor %s", p, f, n.Floor)
				}
				if old, ok := facts[p]; ok && f.Version.Compare(old.Version) < 0 {
					t.Fatalf("%s went back from %s to %s", p, old.Version, f.Version)
				}
			}
		}
	})
}

// Property 4: merging is a join: idempotent (at once and later), commutative and associative over batches.
func TestJoinLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := disorder(t, live(t).published)
		n := state.NewNVA("hub", "nva-a")
		for i, e := range events {
			if _, err := n.Merge(e, epochTime(i)); err != nil {
				t.Fatal(err)
			}
			revision := n.Revision
			if changed, err := n.Merge(e, epochTime(i)); changed || err != nil || n.Revision != revision {
				t.Fatalf("%s changes the document a second time (%t, %v)", e.ID(), changed, err)
			}
		}
		cut, end := rapid.IntRange(0, len(events)).Draw(t, "cut"), len(events)
		swapped := append(append([]event.Event{}, events[cut:end]...), events[:cut]...)
		if d := diff(viewOf(n), viewOf(merged(t, swapped))); d != "" {
			t.Fatalf("batches do not commute:\n%s", d)
		}
	})
}

// Property 5: whoever records events and sends them again changes nothing at all, not a byte of the document: not what is announced, nor what is
// believed of the agent, nor when it was last heard.
func TestReplayChangesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		events := disorder(t, live(t).published)
		n := merged(t, events)
		before, err := state.EncodeNVA(n)
		if err != nil {
			t.Fatal(err)
		}
		for i, e := range rapid.SliceOfN(rapid.SampledFrom(events), 1, 8).Draw(t, "replayed") {
			changed, failed := n.MergeLate(e, epochTime(1000+i), epochTime(2000+i))
			after, bad := state.EncodeNVA(n)
			if changed || failed != nil || bad != nil || string(after) != string(before) {
				t.Fatalf("%s again: changed %t (%v, %v)\n%s\n%s", e.ID(), changed, failed, bad, before, after)
			}
		}
	})
}

// What is withheld and delivered late is late news: no replay, but nothing more than the queue may do to any event. Whoever gets hold of a switch that
// was armed, cancelled and never delivered can let it go off: the agent counts as silent until it is heard again, at the latest with its
// next snapshot (docs/security.md).
func TestSwitchThatWasCancelledAndIsLetGo(t *testing.T) {
	a := &agent{rib: map[netip.Prefix]route.Attrs{}, history: map[event.Version]map[netip.Prefix]route.Attrs{}, version: event.Version{Epoch: 1}, beat: 1}
	a.snapshot(1)
	a.beat = 3 // the switches 1 and 2 were cancelled, 3 is armed; nobody heard of that
	a.publish(event.Event{Kind: event.Expired, Version: a.version, Beat: 2})
	n := merged(t, a.published)
	if !n.Silent() {
		t.Fatal("not silent: docs/security.md says more than is so")
	}
	a.snapshot(1)
	if mergeInto(t, n, a.published); n.Silent() {
		t.Error("silent although it was heard since")
	}
}

func TestRefusals(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	n.Refuse(epochTime(1), "not signed")
	n.Refuse(epochTime(2), strings.Repeat("é", 400))
	if r := n.Refused; r.Count != 2 || !r.At.Equal(epochTime(2)) || len(r.Reason) > 310 || !utf8.ValidString(r.Reason) || !strings.HasSuffix(r.Reason, "é…") {
		t.Errorf("%+v", r)
	}
	if n.Heard() || n.Silent() || n.Revision != 0 {
		t.Errorf("a refused event counts for something: %+v", n)
	}
}

// Property 6: no false withdrawal. A prefix that the agent announced at some version, and never withdrew from then on, stays
// in the document once it was there.
func TestNoFalseWithdrawal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := live(t)
		since := steadySince(a)
		n := state.NewNVA("hub", "nva-a")
		seen := map[netip.Prefix]bool{}
		for i, e := range disorder(t, a.published) {
			if _, err := n.Merge(e, epochTime(i)); err != nil {
				t.Fatal(err)
			}
			for p, v := range since {
				f, announced := n.Facts[p]
				announced = announced && !f.Withdrawn
				if seen[p] && !announced {
					t.Fatalf("%s was never withdrawn after %s and is gone after %s", p, v, e.ID())
				}
				seen[p] = seen[p] || announced && f.Version.Compare(v) >= 0
			}
		}
	})
}

// steadySince returns, for every prefix that the agent announces at the end, since which version it does without a break.
func steadySince(a *agent) map[netip.Prefix]event.Version {
	since := map[netip.Prefix]event.Version{}
	for p := range a.rib {
		var newest event.Version // the last version without p
		for v, rib := range a.history {
			if _, ok := rib[p]; !ok && v.Compare(newest) > 0 {
				newest = v
			}
		}
		since[p] = newest
	}
	return since
}

// A living agent is not believed dead: the newest beat is heard, whatever expired arrives with an older one.
func TestOnlyTheNewestSwitchCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := live(t)
		a.beat++
		a.publish(event.Event{Kind: event.Alive})
		if n := merged(t, disorder(t, a.published)); n.Silent() {
			t.Fatalf("silent although beat %d of epoch %d was heard; expired is %v", a.beat, a.version.Epoch, n.Expired)
		}
		a.publish(event.Event{Kind: event.Expired, Version: a.version, Beat: a.beat})
		if n := merged(t, disorder(t, a.published)); !n.Silent() {
			t.Fatal("the newest switch fired, and the agent is not silent")
		}
	})
}

func TestRevisionTellsWhatTargetsMustKnow(t *testing.T) {
	a := &agent{rib: map[netip.Prefix]route.Attrs{prefix(1): {}}, history: map[event.Version]map[netip.Prefix]route.Attrs{}, version: event.Version{Epoch: 1}, beat: 1}
	n := state.NewNVA("hub", "nva-a")
	step := func(name string, say func(), want, since bool) {
		t.Helper()
		before, was := n.Revision, n.Since
		from := len(a.published)
		say()
		at := epochTime(from)
		for _, e := range a.published[from:] {
			if _, err := n.Merge(e, at); err != nil {
				t.Fatal(err)
			}
		}
		if got := n.Revision > before; got != want {
			t.Errorf("%s: revision moved %t, want %t", name, got, want)
		}
		if got := !n.Since.Equal(was); got != since {
			t.Errorf("%s: since moved %t, want %t", name, got, since)
		}
	}
	step("first snapshot", func() { a.snapshot(1) }, true, true)
	step("the same again", func() { a.snapshot(1) }, false, false)
	step("a beat", func() { a.beat++; a.publish(event.Event{Kind: event.Alive}) }, false, false)
	step("an outdated switch", func() { a.publish(event.Event{Kind: event.Expired, Version: a.version, Beat: 1}) }, false, false)
	step("the switch", func() { a.publish(event.Event{Kind: event.Expired, Version: a.version, Beat: 2}) }, true, true)
	step("heard again", func() { a.beat++; a.publish(event.Event{Kind: event.Alive}) }, true, true)
	step("draining", func() { a.publish(event.Event{Kind: event.Draining, Reason: "shutdown"}) }, true, true)
	step("goodbye ends draining", func() { a.publish(event.Event{Kind: event.Goodbye}) }, true, true)
	step("a withdrawal", func() {
		delete(a.rib, prefix(1))
		a.publish(event.Event{Kind: event.Delta, Withdraw: []netip.Prefix{prefix(1)}})
	}, true, false)
	step("withdrawn again", func() { a.publish(event.Event{Kind: event.Delta, Withdraw: []netip.Prefix{prefix(1)}}) }, false, false)
}

func TestNoticeEndsWithTheEpoch(t *testing.T) {
	e := event.Event{Domain: "hub", NVA: "nva-a", Boot: boot(1), Kind: event.Draining, Version: event.Version{Epoch: 1, Seq: 1}, Reason: "shutdown"}
	n := merged(t, []event.Event{e})
	if !n.Draining() || n.Restarting() || n.Notice.Reason != "shutdown" {
		t.Errorf("after draining: %+v", n.Notice)
	}
	e.Kind, e.Version, e.Boot = event.Alive, event.Version{Epoch: 2, Seq: 1}, boot(2)
	mergeInto(t, n, []event.Event{e})
	if n.Draining() {
		t.Error("still draining in the next epoch")
	}
	e.Kind, e.Version.Seq = event.Goodbye, 2
	if mergeInto(t, n, []event.Event{e}); !n.Restarting() {
		t.Error("goodbye is not noticed")
	}
}

// TestReports: the newest report counts, and the document knows when it changed its mind about a peer.
func TestReports(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	seq := uint64(0)
	say := func(kind event.Kind, after time.Duration, r event.Report) (revision uint64, wide bool) {
		t.Helper()
		seq++
		n.Wide = false
		before := n.Revision
		e := event.Event{Domain: "hub", NVA: "nva-a", Boot: boot(1), Kind: kind, Version: event.Version{Epoch: 1, Seq: seq}, Beat: 1, Report: r}
		if kind == event.Snapshot {
			e.Chunk.Count = 1
		}
		if _, err := n.MergeLate(e, epochTime(0), epochTime(0).Add(after)); err != nil {
			t.Fatal(err)
		}
		return n.Revision - before, n.Wide
	}
	sees := func(b, c bool) event.Report {
		return event.Report{SelfTest: event.Passed, Peers: []event.Peer{{NVA: "nva-b", Reachable: b}, {NVA: "nva-c", Reachable: c}}}
	}
	say(event.Snapshot, 0, sees(true, false))
	if _, turned := n.Turned["nva-b"]; turned || !n.Turned["nva-c"].Equal(epochTime(0)) {
		t.Errorf("after the first report: turned %v, want nva-c only", n.Turned)
	}
	if news, wide := say(event.Witness, time.Second, sees(false, false)); news != 1 || !wide || !n.Turned["nva-b"].Equal(epochTime(1)) || !n.Turned["nva-c"].Equal(epochTime(0)) {
		t.Errorf("nva-b is lost: %d revisions, wide %t, turned %v", news, wide, n.Turned)
	}
	if news, _ := say(event.Witness, 2*time.Second, sees(false, false)); news != 0 || !n.Turned["nva-b"].Equal(epochTime(1)) {
		t.Errorf("the same again: %d revisions, turned %v", news, n.Turned)
	}
	if news, wide := say(event.Delta, 3*time.Second, event.Report{}); news != 0 || wide || n.Report.Empty() {
		t.Errorf("a delta says nothing of peers: %d revisions, wide %t, report %+v", news, wide, n.Report)
	}
	failed := event.Report{SelfCheck: event.Failed, Reason: "uplink"}
	if news, _ := say(event.Witness, 4*time.Second, failed); news != 1 || !n.Unfit() || len(n.Turned) != 0 || !n.Since.Equal(epochTime(0)) {
		t.Errorf("its own check failed: %d revisions, unfit %t, turned %v, since %v", news, n.Unfit(), n.Turned, n.Since)
	}
	if say(event.Snapshot, 5*time.Second, event.Report{}); n.Unfit() || !n.Report.Empty() {
		t.Errorf("a snapshot without a report leaves %+v", n.Report)
	}
}

// TestControlLost: the word stays through a restart of the agent, until a report without it; a late older one does not take it away. It is part of the NVA's standing,
// so hold-down begins when it ends.
func TestControlLost(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	say := func(kind event.Kind, epoch, seq uint64, at int, lost ...event.Session) (wide bool) {
		t.Helper()
		n.Wide = false
		e := event.Event{Domain: "hub", NVA: "nva-a", Boot: boot(epoch), Kind: kind, Version: event.Version{Epoch: epoch, Seq: seq}, Beat: 1, Report: event.Report{ControlLost: lost}}
		if kind == event.Snapshot {
			e.Chunk.Count = 1
		}
		if _, err := n.Merge(e, epochTime(at)); err != nil {
			t.Fatal(err)
		}
		return n.Wide
	}
	is := func(what string, lost bool, since int) {
		t.Helper()
		if n.ControlLost() != lost || !n.Since.Equal(epochTime(since)) {
			t.Errorf("%s: control lost %t since %s, want %t since %s", what, n.ControlLost(), n.Since, lost, epochTime(since))
		}
	}
	frr := event.Session{Name: "frr", Since: epochTime(1)}
	say(event.Snapshot, 1, 1, 0)
	is("at first", false, 0)
	if !say(event.Witness, 1, 3, 5, frr) {
		t.Error("others are not told of it")
	}
	is("said", true, 5)
	say(event.Snapshot, 1, 2, 6)
	is("an older report comes late", true, 5)
	say(event.Delta, 1, 4, 7)
	say(event.Goodbye, 1, 5, 8)
	is("the agent restarts", true, 5)
	body, err := state.EncodeNVA(n)
	if err != nil {
		t.Fatal(err)
	}
	if n, err = state.DecodeNVA(body); err != nil {
		t.Fatal(err)
	}
	say(event.Snapshot, 2, 1, 9, frr, event.Session{Name: "zebra"})
	is("the next agent sees it too, and more", true, 5)
	say(event.Snapshot, 2, 2, 10)
	is("healed by a snapshot", false, 10)
}

// TestControlLostForThePreviousVersion: it reads from the document what it read before there was that word, and may read it at all.
func TestControlLostForThePreviousVersion(t *testing.T) {
	for _, report := range []event.Report{{}, {SelfTest: event.Passed, Peers: []event.Peer{{NVA: "nva-b"}}}} {
		n := state.NewNVA("hub", "nva-a")
		n.Report = report
		before, err := state.EncodeNVA(n)
		if err != nil {
			t.Fatal(err)
		}
		n.Report.ControlLost = []event.Session{{Name: "frr", Since: epochTime(1)}}
		now, err := state.EncodeNVA(n)
		if err != nil {
			t.Fatal(err)
		}
		keeps(t, before, now)
	}
}

func TestOrders(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	at := epochTime(7)
	drain := state.Order{Drain: true, At: at, ID: "2", Who: "jo"}
	if !n.Obey(drain) || !n.Draining() || !n.Since.Equal(at) || n.Revision != 1 || !n.Wide {
		t.Errorf("drained: %+v", n)
	}
	for name, o := range map[string]state.Order{"again": drain, "an older one": {At: at.Add(-time.Second), ID: "9"}, "one of that instant with a lower id": {At: at, ID: "1"}} {
		if n.Obey(o) || !n.Draining() || n.Revision != 1 {
			t.Errorf("%s counts", name)
		}
	}
	if !n.Obey(state.Order{At: at.Add(time.Second), ID: "3", Who: "jo"}) || n.Draining() || !n.Since.Equal(at.Add(time.Second)) {
		t.Errorf("resumed: %+v", n)
	}
}

// TestAgesAndLosses: what hold-down and damping of one prefix go by.
func TestAgesAndLosses(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	p := prefix(1)
	seq := uint64(0)
	say := func(second int, e event.Event) {
		t.Helper()
		seq++
		e.Domain, e.NVA, e.Boot, e.Version, e.Beat = "hub", "nva-a", boot(1), event.Version{Epoch: 1, Seq: seq}, 1
		if _, err := n.Merge(e, epochTime(second)); err != nil {
			t.Fatal(err)
		}
	}
	announce := func(second int, metric uint32) {
		say(second, event.Event{Kind: event.Delta, Announce: []route.Entry{{Prefix: p, Attrs: route.Attrs{Metric: metric}}}})
	}
	withdraw := func(second int) { say(second, event.Event{Kind: event.Delta, Withdraw: []netip.Prefix{p}}) }
	since := func(second int) {
		t.Helper()
		if got := n.Facts[p].Since; !got.Equal(epochTime(second)) {
			t.Errorf("announced since %v, want %v", got, epochTime(second))
		}
	}
	announce(1, 0)
	announce(5, 7)
	since(1) // another metric is no break
	withdraw(6)
	withdraw(7)
	announce(8, 0)
	since(8)
	say(9, event.Event{Kind: event.Snapshot, Chunk: event.Chunk{Count: 1}, Announce: []route.Entry{{Prefix: p}}})
	since(8)
	say(10, event.Event{Kind: event.Snapshot, Chunk: event.Chunk{Count: 1}})
	if diff := cmp.Diff([]time.Time{epochTime(6), epochTime(10)}, n.Losses[p]); diff != "" {
		t.Errorf("losses (-want +got):\n%s", diff)
	}
	for i := range 20 {
		announce(20+2*i, 0)
		withdraw(21 + 2*i)
	}
	if got := n.Losses[p]; len(got) != state.MaxLosses || !got[0].Equal(epochTime(45)) || !got[7].Equal(epochTime(59)) {
		t.Errorf("losses %v: want the last %d", got, state.MaxLosses)
	}
	announce(60, 0)
	say(60+25*3600, event.Event{Kind: event.Snapshot, Chunk: event.Chunk{Count: 1}, Announce: []route.Entry{{Prefix: p}}})
	if f := n.Facts[p]; !f.Since.IsZero() || len(n.Losses) != 0 {
		t.Errorf("a day later: since %v, losses %v", f.Since, n.Losses)
	}
}

func TestCloneIsRefused(t *testing.T) {
	first := event.Event{Domain: "hub", NVA: "nva-a", Boot: "one", Kind: event.Delta, Version: event.Version{Epoch: 5, Seq: 1}, Announce: []route.Entry{{Prefix: prefix(1)}}}
	n := merged(t, []event.Event{first})
	second := first
	second.Boot, second.Version.Seq, second.Announce = "two", 2, []route.Entry{{Prefix: prefix(2)}}
	before := viewOf(n)
	changed, err := n.Merge(second, epochTime(1))
	if !changed || !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), "cloned VM") || !strings.Contains(err.Error(), "boot two") {
		t.Errorf("a second agent: changed %t, %v", changed, err)
	}
	if d := diff(before, viewOf(n)); d != "" || n.Clone == nil || *n.Clone != (state.Clone{Boot: "two", Epoch: 5, At: epochTime(1)}) {
		t.Errorf("clone %+v; the document changed:\n%s", n.Clone, d)
	}
	if changed, err = n.Merge(second, epochTime(2)); changed || err == nil {
		t.Errorf("the same clone again: changed %t, %v", changed, err)
	}
	if changed, err = n.Merge(second, epochTime(61)); !changed || err == nil || !n.Clone.At.Equal(epochTime(61)) {
		t.Errorf("the same clone a minute later: changed %t, %v, %v", changed, err, n.Clone)
	}
	second.Version.Epoch = 6 // it restarts with an epoch of its own: then it is the newer agent
	if _, err = n.Merge(second, epochTime(3)); err != nil || n.Boot != "two" {
		t.Errorf("a new epoch: %v, boot %s", err, n.Boot)
	}
}

// TestOverlappingEpochs: an older agent that goes on speaking after a newer one has begun is a second one; what was on its way, was sent again, or was written before its
// time proves nothing.
func TestOverlappingEpochs(t *testing.T) {
	type heard struct {
		kind       event.Kind
		epoch, seq uint64
		at         int // seconds
	}
	const began = 100
	for _, tt := range []struct {
		name   string
		events []heard
		clone  uint64 // its epoch; 0: none
	}{
		{"a restart", []heard{{event.Delta, 5, 1, 0}, {event.Goodbye, 5, 2, 90}, {event.Snapshot, 6, 1, began}}, 0},
		{"what was on its way", []heard{{event.Delta, 5, 1, 0}, {event.Snapshot, 6, 1, began}, {event.Delta, 5, 2, 110}}, 0},
		{"what was accepted before and delivered late", []heard{{event.Delta, 5, 1, 0}, {event.Snapshot, 6, 1, began}, {event.Delta, 5, 2, 99}}, 0},
		{"it goes on", []heard{{event.Delta, 5, 1, 0}, {event.Snapshot, 6, 1, began}, {event.Delta, 5, 2, 111}}, 5},
		{"it goes on, and is delivered first", []heard{{event.Delta, 5, 1, 0}, {event.Delta, 5, 2, 111}, {event.Snapshot, 6, 1, began}}, 5},
		{"it was never heard before", []heard{{event.Snapshot, 6, 1, began}, {event.Snapshot, 4, 9, 300}}, 4},
		{"the newer one has restarted since", []heard{{event.Delta, 5, 1, 0}, {event.Snapshot, 6, 1, began}, {event.Snapshot, 7, 1, 400}, {event.Delta, 5, 2, 500}}, 5},
		{"sent again", []heard{{event.Delta, 5, 1, 0}, {event.Delta, 5, 2, 10}, {event.Snapshot, 6, 1, began}, {event.Delta, 5, 2, 500}, {event.Delta, 5, 1, 500}}, 0},
		{"its dead-man switch", []heard{{event.Delta, 5, 1, 0}, {event.Snapshot, 6, 1, began}, {event.Expired, 5, 9, 500}}, 0},
		{"an hour later nobody hears it any more", []heard{{event.Delta, 5, 1, 0}, {event.Snapshot, 6, 1, began}, {event.Delta, 5, 2, 111}, {event.Snapshot, 6, 2, 111 + 3601}}, 0},
	} {
		n := state.NewNVA("hub", "nva-a")
		for _, h := range tt.events {
			e := event.Event{Domain: "hub", NVA: "nva-a", Boot: boot(h.epoch), Kind: h.kind, Version: event.Version{Epoch: h.epoch, Seq: h.seq}, Beat: h.seq, Chunk: event.Chunk{Count: 1}}
			if _, err := n.Merge(e, epochTime(h.at)); err != nil {
				t.Fatal(err)
			}
		}
		switch {
		case (n.Clone != nil) != (tt.clone > 0):
			t.Errorf("%s: %+v, want one of epoch %d", tt.name, n.Clone, tt.clone)
		case n.Clone != nil && (n.Clone.Epoch != tt.clone || n.Clone.Boot != boot(tt.clone)):
			t.Errorf("%s: %+v", tt.name, n.Clone)
		}
	}
}

// TestBounds: who holds the key of an NVA can let its document grow only so far, and the next complete snapshot heals what was forgotten.
func TestBounds(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	say := func(epoch, seq uint64, kind event.Kind, chunk event.Chunk) bool {
		changed, err := n.Merge(event.Event{Domain: "hub", NVA: "nva-a", Boot: boot(epoch), Kind: kind, Version: event.Version{Epoch: epoch, Seq: seq}, Beat: 1, Chunk: chunk}, epochTime(int(seq)))
		if err != nil {
			t.Fatal(err)
		}
		return changed
	}
	for seq := uint64(2); seq <= 10_000; seq += 2 { // every other one is missing
		say(50, seq, event.Snapshot, event.Chunk{Index: 0, Count: 2})
		say(50, seq, event.Delta, event.Chunk{})
	}
	for epoch := uint64(1); epoch < 50; epoch++ {
		say(epoch, 20_000, event.Delta, event.Chunk{})
	}
	if len(n.Partial) != state.MaxPartial || len(n.Seen) != state.MaxSpans || len(n.Past) != state.MaxPast {
		t.Errorf("%d incomplete snapshots, %d gaps, %d epochs", len(n.Partial), len(n.Seen), len(n.Past))
	}
	if _, newest := n.Partial[event.Version{Epoch: 50, Seq: 10_000}]; !newest || n.Seen[len(n.Seen)-1].Last != 10_000 || n.Past[0].Epoch != 42 {
		t.Errorf("the newest is forgotten: %v, %v", n.Seen[len(n.Seen)-1], n.Past)
	}
	if missing, _ := n.Gap(); missing < 9000-state.MaxSpans {
		t.Errorf("%d are missing: what is forgotten is taken for known", missing)
	}
	floor := n.Floor
	if say(50, 2, event.Snapshot, event.Chunk{Index: 0, Count: 2}) || say(50, 2, event.Snapshot, event.Chunk{Index: 1, Count: 2}) || n.Floor != floor {
		t.Errorf("a chunk that is forgotten at once changes the document, floor %s", n.Floor)
	}
	if !say(50, 10_002, event.Snapshot, event.Chunk{Count: 1}) || len(n.Partial) != 0 || len(n.Seen) != 1 {
		t.Errorf("a snapshot does not heal it: %d incomplete, %v", len(n.Partial), n.Seen)
	}
}

func TestMaxFacts(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	full := event.Event{Domain: "hub", NVA: "nva-a", Boot: "b", Kind: event.Delta, Version: event.Version{Epoch: 1, Seq: 1}}
	for i := range state.MaxFacts {
		full.Announce = append(full.Announce, route.Entry{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 32)})
	}
	mergeInto(t, n, []event.Event{full})
	more := full
	more.Version.Seq, more.Announce = 2, []route.Entry{{Prefix: netip.MustParsePrefix("11.0.0.0/8")}}
	if changed, err := n.Merge(more, epochTime(1)); changed || !fault.Is(err, fault.Poison) || len(n.Facts) != state.MaxFacts || n.Claim.Seq != 1 {
		t.Errorf("one prefix too many: changed %t, %v, %d facts", changed, err, len(n.Facts))
	}
	again := full
	again.Version.Seq, again.Kind, again.Chunk = 3, event.Snapshot, event.Chunk{Count: 1}
	if _, err := n.Merge(again, epochTime(2)); err != nil {
		t.Errorf("a full document refuses the snapshot that heals it: %v", err)
	}
}

func TestNVARoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := live(t)
		events := disorder(t, a.published)
		cut := rapid.IntRange(0, len(events)).Draw(t, "cut")
		n := merged(t, events[:cut])
		n.Outbox = rapid.Bool().Draw(t, "outbox")
		if rapid.Bool().Draw(t, "cloned") {
			n.Clone = &state.Clone{Boot: "other", Epoch: 1}
		}
		if rapid.Bool().Draw(t, "ordered") {
			n.Obey(state.Order{Drain: true, At: epochTime(99), ID: "1", Who: "jo", Why: "firmware"})
		}
		if rapid.Bool().Draw(t, "signed") {
			n.SignedBy = "34750f98bd59fcfc"
			n.Refuse(epochTime(98), rapid.StringN(0, 200, 400).Draw(t, "reason"))
		}
		body, err := state.EncodeNVA(n)
		if err != nil {
			t.Fatal(err)
		}
		back, err := state.DecodeNVA(body)
		if err != nil {
			t.Fatal(err)
		}
		if d := diff(*n, *back); d != "" {
			t.Fatalf("(-written +read):\n%s", d)
		}
		if twice, failed := state.EncodeNVA(back); failed != nil || string(twice) != string(body) {
			t.Fatalf("equal documents, different bytes (%v)", failed)
		}
		// Nothing that later merges depend on is lost on the way through the store.
		if d := diff(viewOf(mergeInto(t, n, events[cut:])), viewOf(mergeInto(t, back, events[cut:]))); d != "" {
			t.Fatalf("the stored document merges differently:\n%s", d)
		}
	})
}

func TestGoldenNVA(t *testing.T) {
	a := &agent{rib: map[netip.Prefix]route.Attrs{}, history: map[event.Version]map[netip.Prefix]route.Attrs{}, version: event.Version{Epoch: 1780000000000}, beat: 1}
	a.rib[prefix(1)] = route.Attrs{Metric: 20, Origin: "bgp"}
	a.rib[prefix(2)] = route.Attrs{Metric: 20, Origin: "bgp"}
	a.snapshot(1)
	delete(a.rib, prefix(1))
	a.publish(event.Event{Kind: event.Delta, Withdraw: []netip.Prefix{prefix(1)}})
	a.publish(event.Event{Kind: event.Draining, Reason: "shutdown"})
	a.snapshot(2)
	n := merged(t, a.published[:4]) // the second chunk is still to come
	n.Outbox, n.Clone = true, &state.Clone{Boot: "other", Epoch: 1780000000000}
	n.SignedBy = "34750f98bd59fcfc"
	n.Refuse(epochTime(9), "the event is not signed")
	mergeInto(t, n, []event.Event{{Domain: "hub", NVA: "nva-a", Boot: boot(1780000000000), Kind: event.Expired, Version: event.Version{Epoch: 1780000000000}, Beat: 1}})
	body, err := state.EncodeNVA(n)
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "testdata/nva.json", body)
}

func checkGolden(t *testing.T, file string, body []byte) {
	t.Helper()
	pretty, err := json.MarshalIndent(json.RawMessage(body), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	pretty = append(pretty, '\n')
	if *update {
		if err = os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err = os.WriteFile(file, pretty, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := diff(string(want), string(pretty)); d != "" {
		t.Errorf("%s (-file +now):\n%s", file, d)
	}
}

func TestDecodeNVARefuses(t *testing.T) {
	for body, want := range map[string]string{
		`{`:                          "document of an nva",
		`{"schema":3,"nva":"nva-a"}`: "nva-a has schema 3, this version reads 1 to 2",
		`{"nva":"nva-a"}`:            "nva-a has schema 0, this version reads 1 to 2",
		`{"schema":1,"partial":[{"version":{"epoch":1,"seq":1},"count":-1}]}`:          "snapshot of -1 chunks",
		`{"schema":1,"partial":[{"version":{"epoch":1,"seq":1},"count":2,"got":[2]}]}`: "chunk 2 of 2",
		`{"schema":1,"facts":[{"announced":["10.0.0.0"]}]}`:                            "document of an nva",
	} {
		if _, err := state.DecodeNVA([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", body, err, want)
		}
	}
}

func TestNeverHeard(t *testing.T) {
	n := state.NewNVA("hub", "nva-a")
	missing, differs := n.Gap()
	if n.Heard() || n.Silent() || n.Draining() || n.Restarting() || missing != 0 || differs || len(n.RIB()) != 0 {
		t.Errorf("a new document: %+v", viewOf(n))
	}
	if _, ok := n.Announces(prefix(1)); ok {
		t.Error("it announces something")
	}
	// A switch that was armed before the agent was ever heard says nothing of routes.
	if _, err := n.Merge(event.Event{Domain: "hub", NVA: "nva-a", Boot: "b", Kind: event.Expired, Version: event.Version{Epoch: 1}, Beat: 1}, time.Time{}); err != nil || n.Heard() {
		t.Errorf("after an early expired: %v, heard %t", err, n.Heard())
	}
}
