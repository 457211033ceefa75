package ingest_test

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/signature"
	"github.com/pointsman/pointsman/shared/state"
)

// governed is a world whose nva-a has key 1, and whose operators are jo with key 5 and desk with key 6, who may only pause and unpause.
func governed(t *testing.T) *world {
	t.Helper()
	w := signing(t)
	w.set("domains/hub.yaml", append(w.blobs["domains/hub.yaml"].data,
		`operators: [{name: jo, keys: ["`+public(5).String()+`"]}, {name: desk, keys: ["`+public(6).String()+`"], orders: [pause, unpause]}]`+"\n"...))
	return w
}

// ordered is orders with the time of the operator's clock, n seconds after noon too, and a signature.
func ordered(t *testing.T, key byte, kind order.Kind, of string, n int) invocation.Message {
	t.Helper()
	m := orders(t, kind, of, n)
	o, err := order.Decode(m.Body)
	if err != nil {
		t.Fatal(err)
	}
	o.Time = m.EnqueuedAt
	if m.Body, err = order.Encode(o); err != nil {
		t.Fatal(err)
	}
	if m.Body, err = signature.SignOrder(private(key), m.Body); err != nil {
		t.Fatal(err)
	}
	return m
}

// again is a message that somebody sends once more, later.
func again(m invocation.Message, after time.Duration) invocation.Message {
	m.SequenceNumber += 5000
	m.EnqueuedAt = m.EnqueuedAt.Add(after)
	return m
}

func (w *world) refusedOrders() state.Refusals {
	w.t.Helper()
	v, ok := w.blobs["orders/hub.json"]
	if !ok {
		return state.Refusals{}
	}
	doc, err := state.DecodeOrders(v.data)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc.Refused
}

// A signed order counts, with the name of who signed it.
func TestSignedOrdersAreTakenIn(t *testing.T) {
	w := governed(t)
	w.mustHandle(ordered(t, 5, order.Drain, "nva-a", 1), ordered(t, 5, order.Approve, "both", 2), ordered(t, 6, order.Pause, "only-a", 3))
	a, both, only := w.nva("nva-a"), w.target("both"), w.target("only-a")
	if !a.Draining() || a.Order.Operator != "jo" || a.Order.Who != "jo" || !both.Approval.Open() || both.Approval.Operator != "jo" || !only.Pause.On || only.Pause.Who != "desk (jo)" {
		t.Errorf("%+v %+v %+v", a.Order, both.Approval, only.Pause)
	}
	if !a.Order.Signed.Equal(time.Date(2026, 11, 23, 12, 0, 1, 0, time.UTC)) || len(w.parked) > 0 || w.refusedOrders().Count > 0 {
		t.Errorf("signed %s, parked %v", a.Order.Signed, w.parked)
	}
	if line := strings.Join(w.history["history/hub/only-a/2026-11-23.jsonl"], ""); !strings.Contains(line, `"who":"desk (jo)","why":"change 4711","operator":"desk"`) {
		t.Errorf("history %s", line)
	}
}

// TestRefusedOrders: an order that does not count changes nothing but the count, wakes nobody, is in no history, is parked with its reason, and keeps nothing else back.
func TestRefusedOrders(t *testing.T) {
	for name, tt := range map[string]struct {
		message invocation.Message
		reason  string
	}{
		"unsigned, of an NVA":       {orders(t, order.Resume, "nva-a", 20), "the order is not signed"},
		"unsigned, of a target":     {orders(t, order.Approve, "both", 20), "the order is not signed"},
		"with the agent's key":      {ordered(t, 1, order.Drain, "nva-b", 20), "signed with key " + public(1).ID()},
		"what jo may and desk not":  {ordered(t, 6, order.Approve, "both", 20), "operator desk may not approve both"},
		"an old resume, sent again": {again(ordered(t, 5, order.Resume, "nva-a", 1), 20*time.Second), "accepted it after order 00000000-0000-4000-8000-000000000010 by jo, and by what was signed it is older"},
		"an old pause, sent again":  {again(ordered(t, 6, order.Pause, "both", 2), 20*time.Second), "by what was signed it is older"},
		"an older resume":           {again(ordered(t, 5, order.Resume, "nva-a", 1), time.Hour), "it was signed 1h0m0s before the bus accepted it"},
		"an older approval":         {again(ordered(t, 5, order.Approve, "both", 12), time.Hour), "it was signed 1h0m0s before the bus accepted it"},
	} {
		t.Run(name, func(t *testing.T) {
			w := governed(t)
			w.mustHandle(ordered(t, 5, order.Resume, "nva-a", 1), ordered(t, 6, order.Pause, "both", 2), ordered(t, 5, order.Drain, "nva-a", 10),
				ordered(t, 6, order.Unpause, "both", 11), ordered(t, 5, order.Approve, "both", 12))
			before := w.blobs
			w.blobs = maps.Clone(before)
			w.wakes, w.history = nil, map[string][]string{}
			w.mustHandle(tt.message, says(t, "nva-b", 1, nil))
			if p := w.parked[tt.message.ID]; len(w.parked) != 1 || !strings.Contains(p.Reason, tt.reason) || p.Body != string(tt.message.Body) {
				t.Errorf("parked: %+v, want the reason %q", w.parked, tt.reason)
			}
			if r := w.refusedOrders(); r.Count != 1 || !strings.Contains(r.Reason, tt.message.ID) {
				t.Errorf("counted: %+v", r)
			}
			for _, name := range []string{"nvas/hub/nva-a.json", "targets/hub/both.json"} {
				if w.blobs[name].etag != before[name].etag {
					t.Errorf("%s was written: %s", name, w.blobs[name].data)
				}
			}
			if n := w.nva("nva-b"); n.Draining() || len(n.RIB()) != 1 || len(w.history) > 0 || slices.ContainsFunc(w.wakes, func(id string) bool { return !strings.Contains(id, "/nva-b/") }) {
				t.Errorf("nva-b %+v, history %v, wakes %q", n.Order, w.history, w.wakes)
			}
		})
	}
}

// The newest order, sent again, is the same order: no trouble, and no news.
func TestTheNewestOrderSentAgain(t *testing.T) {
	w := governed(t)
	w.mustHandle(ordered(t, 5, order.Approve, "both", 1))
	doc := w.target("both")
	doc.Approval.Ended, doc.Approval.End = w.now, state.ApprovalWritten
	body, err := state.EncodeTarget(doc)
	if err != nil {
		t.Fatal(err)
	}
	w.set("targets/hub/both.json", body)
	etag := w.blobs["targets/hub/both.json"].etag
	w.mustHandle(again(ordered(t, 5, order.Approve, "both", 1), time.Minute))
	if w.blobs["targets/hub/both.json"].etag != etag || len(w.parked) > 0 {
		t.Errorf("%+v, parked %v", w.target("both").Approval, w.parked)
	}
}

// Where NVAs have keys and nobody is named, no order counts, signed or not.
func TestNoOrderWithoutOperators(t *testing.T) {
	w := signing(t)
	w.mustHandle(orders(t, order.Drain, "nva-a", 1), ordered(t, 5, order.Drain, "nva-b", 2), orders(t, order.Override, "both", 3))
	if len(w.parked) != 3 || w.refusedOrders().Count != 3 || w.nva("nva-a").Draining() || w.nva("nva-b").Draining() || w.target("both").Approval.Open() || len(w.wakes) > 0 {
		t.Errorf("parked %v, refused %+v, wakes %q", w.parked, w.refusedOrders(), w.wakes)
	}
}

// Every call goes wrong once: in the end what counts holds, what does not is parked, and the counts, which may fail alone, are not above the deliveries.
func TestRefusedOrdersUnderEveryFault(t *testing.T) {
	batch := func() []invocation.Message {
		return []invocation.Message{orders(t, order.Pause, "both", 1), ordered(t, 5, order.Drain, "nva-a", 2), orders(t, order.Resume, "nva-a", 3), ordered(t, 6, order.Pause, "only-a", 4)}
	}
	clean := governed(t)
	clean.mustHandle(batch()...)
	if clean.refusedOrders().Count != 2 {
		t.Fatalf("%+v", clean.refusedOrders())
	}
	for _, f := range []fate{{skip: true, err: errors.New("away")}, {err: errors.New("away")}, {skip: true, crash: true}, {crash: true}} {
		for n := 1; n <= len(clean.ops); n++ {
			w := governed(t)
			w.fate = nth("", n, n, f)
			for delivery := 1; ; delivery++ {
				if delivery > 3 {
					t.Fatalf("call %d: still not completed", n)
				}
				if died, err := w.handle(batch()...); err == nil && !died {
					break
				}
			}
			if len(w.parked) != 2 || !w.nva("nva-a").Draining() || !w.target("only-a").Pause.On || w.target("both").Pause.On || w.refusedOrders().Count > 6 {
				t.Errorf("call %d (%s): parked %d, drain %+v, refused %+v", n, clean.ops[n-1], len(w.parked), w.nva("nva-a").Order, w.refusedOrders())
			}
		}
	}
}

// What is parked is what it was before: the mark that it is an order stays in memory.
func TestParkedOrderOnPaper(t *testing.T) {
	w := governed(t)
	w.mustHandle(orders(t, order.Pause, "both", 1))
	for _, p := range w.parked {
		text, err := json.Marshal(p)
		if err != nil || !strings.HasPrefix(string(text), `{"at":"`) || strings.Contains(string(text), `"order":`) {
			t.Errorf("%s (%v)", text, err)
		}
	}
}
