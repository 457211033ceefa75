package ingest_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/state"
)

// orders encodes an operator's order as the trigger hands it over; it was accepted n seconds after noon.
func orders(t *testing.T, kind order.Kind, of string, n int) invocation.Message {
	t.Helper()
	o := order.Order{Kind: kind, Domain: "hub", ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", n), Who: "jo", Why: "change 4711"}
	if kind.OfNVA() {
		o.NVA = of
	} else {
		o.Target = of
	}
	if kind.OfPlan() {
		o.Plan = "25bfe4c57b9769ed"
	}
	m, err := o.Message()
	if err != nil {
		t.Fatal(err)
	}
	return invocation.Message{ID: m.ID, Body: m.Body, DeliveryCount: 1, SequenceNumber: int64(1000 + n), EnqueuedAt: time.Date(2026, 11, 23, 12, 0, n, 0, time.UTC)}
}

func (w *world) target(name string) *state.Target {
	w.t.Helper()
	v, ok := w.blobs["targets/hub/"+name+".json"]
	if !ok {
		return state.NewTarget("hub", name, "")
	}
	doc, err := state.DecodeTarget(v.data)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

// effects returns the calls that change anything.
func (w *world) effects() []string {
	return slices.DeleteFunc(slices.Clone(w.ops), func(op string) bool { return strings.HasPrefix(op, "read") || strings.HasPrefix(op, "write accepted") })
}

// An order about an NVA is merged with its events, wakes every target, and stands in the history of those that it feeds.
func TestDrain(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(says(t, "nva-b", 1, nil), orders(t, order.Drain, "nva-b", 1))
	if doc := w.nva("nva-b"); !doc.Draining() || doc.Order.Who != "jo" || doc.Order.Why != "change 4711" || doc.Outbox {
		t.Errorf("%+v", doc.Order)
	}
	want := []string{"write nvas/hub/nva-b.json", "send hub/both/nva-b/2", "send hub/only-a/nva-b/2", "write nvas/hub/nva-b.json", "append history/hub/both/2026-11-23.jsonl", "look hub"}
	if got := w.effects(); !slices.Equal(got, want) {
		t.Errorf("effects %q, want %q", got, want)
	}
	line := strings.Join(w.history["history/hub/both/2026-11-23.jsonl"], "")
	if !strings.Contains(line, `"order":{"kind":"drain","nva":"nva-b","id":"00000000-0000-4000-8000-000000000001","who":"jo","why":"change 4711"}`) || !strings.Contains(line, `"at":"2026-11-23T12:00:01Z"`) {
		t.Errorf("history %s", line)
	}
	w.mustHandle(orders(t, order.Resume, "nva-b", 3), orders(t, order.Drain, "nva-b", 2))
	if doc := w.nva("nva-b"); doc.Draining() || !doc.Order.At.Equal(time.Date(2026, 11, 23, 12, 0, 3, 0, time.UTC)) {
		t.Errorf("the later order does not hold: %+v", doc.Order)
	}
	if !strings.Contains(w.log.String(), "operator's order") {
		t.Error("the log does not say who")
	}
}

// An NVA may be drained before it was ever heard.
func TestDrainOfTheUnheard(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(orders(t, order.Drain, "nva-a", 1))
	w.mustHandle(says(t, "nva-a", 1, nil))
	if doc := w.nva("nva-a"); !doc.Draining() || !doc.Heard() {
		t.Errorf("%+v", doc.Order)
	}
}

// An order about a target: saved, then the wake, then the history.
func TestTargetOrder(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(orders(t, order.Pause, "both", 1), orders(t, order.Override, "both", 2), orders(t, order.Unpause, "only-a", 3))
	id := "hub/both/order/00000000-0000-4000-8000-00000000000"
	want := []string{
		"write targets/hub/both.json", "send " + id + "1", "send " + id + "2", "append history/hub/both/2026-11-23.jsonl", "append history/hub/both/2026-11-23.jsonl",
		"write targets/hub/only-a.json", "send hub/only-a/order/00000000-0000-4000-8000-000000000003", "append history/hub/only-a/2026-11-23.jsonl",
	}
	if got := w.effects(); !slices.Equal(got, want) {
		t.Errorf("effects %q, want %q", got, want)
	}
	doc := w.target("both")
	if !doc.Pause.On || doc.Pause.Who != "jo" || !doc.Approval.Override || doc.Approval.Plan != "25bfe4c57b9769ed" || !doc.Approval.Open() {
		t.Errorf("%+v %+v", doc.Pause, doc.Approval)
	}
}

// The same orders again change nothing, and are told once more.
func TestTargetOrderAgain(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(orders(t, order.Pause, "both", 2))
	before := w.blobs["targets/hub/both.json"]
	w.ops = nil
	w.mustHandle(orders(t, order.Pause, "both", 2), orders(t, order.Unpause, "both", 1))
	if got := w.effects(); len(got) != 4 || !strings.HasPrefix(got[0], "send ") || w.blobs["targets/hub/both.json"].etag != before.etag {
		t.Errorf("effects %q", got)
	}
}

func TestParkedOrders(t *testing.T) {
	for name, tt := range map[string]struct {
		message invocation.Message
		reason  string
	}{
		"nva":    {orders(t, order.Drain, "nva-z", 1), "the domain file hub has no nva nva-z"},
		"target": {orders(t, order.Pause, "nowhere", 2), "the domain file hub has no target nowhere"},
		"domain": {invocation.Message{ID: "x", Body: []byte(strings.Replace(string(orders(t, order.Pause, "both", 3).Body), `"domain":"hub"`, `"domain":"moon"`, 1))}, "moon"},
		"field":  {invocation.Message{ID: "x", Body: []byte(strings.Replace(string(orders(t, order.Pause, "both", 4).Body), `"who"`, `"until":"noon","who"`, 1))}, `unknown field "until"`},
		"type":   {invocation.Message{ID: "x", Body: []byte(strings.Replace(string(orders(t, order.Pause, "both", 5).Body), `pause.v1`, `reboot.v1`, 1))}, "dev.pointsman.operator.reboot.v1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.mustHandle(tt.message)
			if p := w.parked[tt.message.ID]; !strings.Contains(p.Reason, tt.reason) {
				t.Errorf("parked %+v, want %q", w.parked, tt.reason)
			}
			if len(w.wakes) > 0 {
				t.Errorf("wakes %q", w.wakes)
			}
		})
	}
}

// Whatever call goes wrong, in whatever way: after the redelivery the orders hold, both sides know, and the history has each at least once.
func TestOrdersUnderEveryFault(t *testing.T) {
	batch := func() []invocation.Message {
		return []invocation.Message{orders(t, order.Pause, "both", 1), says(t, "nva-a", 1, nil), orders(t, order.Drain, "nva-a", 2), orders(t, order.Approve, "only-a", 3)}
	}
	clean := newWorld(t)
	clean.mustHandle(batch()...)
	lost := errors.New("connection reset")
	for name, f := range map[string]fate{"not done, error": {skip: true, err: lost}, "done, error": {err: lost}, "not done, death": {skip: true, crash: true}, "done, death": {crash: true}} {
		for n := 1; n <= len(clean.ops); n++ {
			w := newWorld(t)
			w.fate = nth("", n, n, f)
			died, err := w.handle(batch()...)
			w.fate = func(string) fate { return fate{} }
			if died || err != nil {
				w.mustHandle(batch()...)
			}
			where := fmt.Sprintf("call %d (%s) %s", n, clean.ops[n-1], name)
			if !w.target("both").Pause.On || !w.nva("nva-a").Draining() || !w.target("only-a").Approval.Open() {
				t.Errorf("%s: an order is lost", where)
			}
			for _, wake := range []string{"hub/both/order/", "hub/only-a/order/", "hub/both/nva-a/", "hub/only-a/nva-a/"} {
				if !slices.ContainsFunc(w.wakes, func(id string) bool { return strings.HasPrefix(id, wake) }) {
					t.Errorf("%s: no wake %s", where, wake)
				}
			}
			if history := strings.HasPrefix(clean.ops[n-1], "append"); !history && len(w.history["history/hub/both/2026-11-23.jsonl"]) < 2 {
				t.Errorf("%s: the history has %q", where, w.history)
			}
		}
	}
}

// Another writer saves the target's document first: the order is merged into what that one wrote.
func TestTargetOrderAgainstAnotherWriter(t *testing.T) {
	w := newWorld(t)
	w.meddle = func(op string) {
		if op == "write targets/hub/both.json" && w.target("both").Writes == 0 {
			doc := w.target("both")
			doc.Table, doc.Writes = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/both", 7
			body, err := state.EncodeTarget(doc)
			if err != nil {
				t.Fatal(err)
			}
			w.set("targets/hub/both.json", body)
		}
	}
	w.mustHandle(orders(t, order.Pause, "both", 1))
	if doc := w.target("both"); doc.Writes != 7 || !doc.Pause.On {
		t.Errorf("%d writes, %+v", doc.Writes, doc.Pause)
	}
}

// Orders are in the journal as they were received.
func TestOrdersAreInTheJournal(t *testing.T) {
	w := &journalWorld{}
	if err := w.handle(t, orders(t, order.Pause, "spokes", 1), orders(t, order.Drain, "nva-a", 2), orders(t, order.Pause, "elsewhere", 3)); err != nil {
		t.Fatal(err)
	}
	want := "hub/operator/00000000-0000-4000-8000-000000000001 12:00:01 hub/operator/00000000-0000-4000-8000-000000000002 12:00:02"
	if got := strings.Join(w.lines["hub 2026-11-23"], " "); got != want {
		t.Errorf("%q", got)
	}
	if _, err := event.Decode(orders(t, order.Pause, "spokes", 1).Body); err == nil {
		t.Error("an event")
	}
}
