package e2e

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/blob"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/system"
)

// 300 prefixes are withdrawn and announced again in one go: hardly a write, and what others put into the table stays byte for byte.
func TestFlapOf300PrefixesCostsHardlyAWrite(t *testing.T) {
	w, prefixes := carried(t, 300, quick)
	before := w.foreign()
	var flap []event.Event
	for range 3 {
		flap = append(flap, w.said("nva-a", event.Delta, withdraw(prefixes)), w.said("nva-a", event.Delta, announce(prefixes)))
	}
	w.publish(flap...)
	w.settled()
	w.carries(hopA, prefixes)
	w.settled()
	if puts := w.calls("routeTables.CreateOrUpdate"); puts > 2 {
		t.Errorf("%d PUTs, want at most 2", puts)
	}
	w.keeps(before)
}

// Everything that can happen to one write or to what it needs: each time the table ends as the NVAs say, and what is not Pointsman's is as it was.
func TestTableFollowsInSpiteOf(t *testing.T) {
	put := func(f arm.Fault) func(w *world) {
		f.Method, f.PathContains = http.MethodPut, "routeTables/spokes"
		return func(w *world) { w.ARM.Faults().Script(f) }
	}
	tests := []struct {
		name   string
		write  time.Duration
		before func(w *world) // the NVA dies
		after  func(w *world)
	}{
		{name: "somebody who edits the table at the same time", before: func(w *world) {
			w.ARM.Faults().Script(arm.Fault{Method: http.MethodPut, Delay: 300 * time.Millisecond})
		}, after: func(w *world) {
			w.until("the write is on its way", func() error { return w.called("routeTables.Get") })
			w.editByHand()
		}},
		{name: "a table that another operation holds", before: put(arm.Fault{
			Status: http.StatusTooManyRequests, Code: "RetryableError", DetailCode: "RetryableErrorDueToAnotherOperation", Header: http.Header{"Retry-After": {"1"}}, Count: 2,
		})},
		{name: "a quota that is used up", before: put(arm.Fault{
			Status: http.StatusTooManyRequests, Code: "SubscriptionRequestsThrottled", Header: http.Header{"Retry-After": {"1"}},
		})},
		{name: "a lost answer to a write that was done", before: put(arm.Fault{DropConnection: true, Applied: true})},
		{name: "a lost write", before: put(arm.Fault{DropConnection: true})},
		{name: "an operation that fails", before: put(arm.Fault{FailOperation: true})},
		{name: "an operation that is superseded", before: put(arm.Fault{SupersedeOperation: true})},
		{name: "the state store being away", before: func(w *world) { w.Blob.Faults().Outage(true) }, after: func(w *world) {
			w.Blob.ResetCalls()
			w.until("the handler has tried", func() error {
				if len(w.Blob.Calls()) < 3 {
					return fmt.Errorf("%d calls", len(w.Blob.Calls()))
				}
				return nil
			})
			w.Blob.Faults().Outage(false)
		}},
		{name: "lost answers of the state store", before: func(w *world) {
			w.Blob.Faults().Script(
				blob.Fault{Method: http.MethodPut, PathContains: "nvas/", DropConnection: true, Applied: true},
				blob.Fault{Method: http.MethodPut, PathContains: "targets/", DropConnection: true, Applied: true},
				blob.Fault{Method: http.MethodPut, PathContains: "targets/", Status: http.StatusServiceUnavailable, Skip: 1},
			)
		}},
		{name: "the bus being away", after: func(w *world) {
			w.Bus.Faults().Outage(true)
			w.lasts(time.Second)
			w.Bus.Faults().Outage(false)
		}},
		{name: "wakes whose answers are lost, and a busy bus", before: func(w *world) {
			w.Blob.Faults().Script(blob.Fault{Method: http.MethodPut, PathContains: "nvas/", Delay: 300 * time.Millisecond})
		}, after: func(w *world) {
			w.Bus.Faults().WithholdSends(1)
			w.Bus.Faults().ServerBusy(1)
		}},
		{name: "kill -9 of the handler in the middle of a write", write: time.Second, after: func(w *world) {
			w.until("a write is on its way", func() error { return w.called("routeTables.CreateOrUpdate") })
			w.killHandler()
		}},
		{name: "kill -9 of the handler while it reads", after: func(w *world) {
			w.until("it is at work", func() error { return w.called("routeTables.Get") })
			w.killHandler()
		}},
		{name: "a restart of the function app in the middle of a write", write: time.Second, after: func(w *world) {
			w.until("a write is on its way", func() error { return w.called("routeTables.CreateOrUpdate") })
			w.restartHost()
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			w, prefixes := carried(t, 12, max(tt.write, quick))
			before := w.foreign()
			if tt.before != nil {
				tt.before(w)
			}
			w.dies()
			if tt.after != nil {
				tt.after(w)
			}
			w.carries(hopB, prefixes)
			w.settled()
			after := w.foreign()
			if byHand := `route "by-hand"`; after[byHand] != "" {
				before[byHand] = after[byHand]
			} else if tt.name == tests[0].name {
				t.Error("the route that was added by hand is gone")
			}
			w.keeps(before)
		})
	}
}

// called is nil once an operation was called.
func (w *world) called(operation string) error {
	if w.calls(operation) == 0 {
		return fmt.Errorf("nobody called %s", operation)
	}
	return nil
}

// editByHand adds a route as a person with the portal would, with a conditional write of the whole table as it is now.
func (w *world) editByHand() {
	w.t.Helper()
	raw, _, _ := w.ARM.Table(system.TableID)
	var table map[string]any
	w.decode(raw, &table)
	properties := table["properties"].(map[string]any)
	properties["routes"] = append(properties["routes"].([]any), map[string]any{
		"name": "by-hand", "properties": map[string]any{"addressPrefix": "192.168.0.0/16", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.7.7.7"},
	})
	w.putTable(system.TableID, table)
}

// killHandler kills the handler as the out-of-memory killer does; the host starts it again.
func (w *world) killHandler() {
	w.t.Helper()
	process, err := os.FindProcess(w.Host.HandlerPID())
	if err != nil {
		w.t.Fatal(err)
	}
	if err = process.Kill(); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) restartHost() {
	w.t.Helper()
	if err := w.Host.Close(); err != nil {
		w.t.Fatal(err)
	}
	if err := w.StartHost(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// The bus may deliver everything twice and in any order.
func TestEventsTwiceAndShuffled(t *testing.T) {
	w, prefixes := carried(t, 60, quick)
	before := w.foreign()
	w.Bus.Faults().DuplicateDelivery(1)
	w.Bus.Faults().Reorder(300 * time.Millisecond)
	var events []event.Event
	for i := range 10 {
		part := prefixes[i*5 : i*5+5]
		events = append(events, w.said("nva-a", event.Delta, withdraw(part)), w.said("nva-a", event.Delta, announce(part)), w.said("nva-a", event.Delta, withdraw(part)))
	}
	slices.Reverse(events)
	for _, e := range events {
		w.publish(e)
	}
	w.carries(hopB, prefixes[:50])
	w.settled()
	w.carries(hopB, prefixes[:50])
	w.carries(hopA, prefixes[50:])
	w.keeps(before)
}
