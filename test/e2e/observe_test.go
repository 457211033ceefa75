package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/trace"
	"github.com/pointsman/pointsman/test/collector"
	"github.com/pointsman/pointsman/test/system"
)

// observed starts a system that exports what it does, and in which nva-a carries n prefixes that nva-b could carry too.
func observed(t *testing.T, n int) (*world, *collector.Collector) {
	t.Helper()
	c := collector.Start()
	t.Cleanup(c.Close)
	w := startWith(t, system.Config{
		TableWrite: quick, Domains: map[string]string{"hub": hub}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)},
		Settings: map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": c.URL(), "OTEL_BSP_SCHEDULE_DELAY": "50", "OTEL_METRIC_EXPORT_INTERVAL": "100"},
	})
	prefixes := system.Prefixes(n)
	w.publish(w.said("nva-b", event.Snapshot, announce(prefixes)))
	w.carries(hopB, prefixes)
	w.settled()
	w.publish(w.said("nva-a", event.Snapshot, announce(prefixes)))
	w.carries(hopA, prefixes)
	w.settled()
	return w, c
}

// One observation on an NVA is one trace, from there to the end of the write, also where the write needs three tries; and every metric has the value
// that follows from what was done.
func TestOneObservationIsOneTrace(t *testing.T) {
	t.Parallel()
	w, c := observed(t, 5)
	w.ARM.Faults().Script(
		arm.Fault{Method: http.MethodPut, Status: http.StatusPreconditionFailed, Code: "PreconditionFailed"},
		arm.Fault{Method: http.MethodPut, Status: http.StatusTooManyRequests, Code: "SubscriptionRequestsThrottled", Header: http.Header{"Retry-After": {"1"}}},
	)
	agent := trace.New([trace.Random]byte{1: 7, 20: 9})
	said := time.Now()
	gone := system.Prefixes(1)
	delta := w.said("nva-a", event.Delta, func(e *event.Event) {
		e.Withdraw, e.Observed, e.Time, e.Traceparent = gone, said.Add(-300*time.Millisecond), said, agent.String()
	})
	w.publish(delta)
	w.carries(hopB, gone)
	w.settled()

	want := []string{
		"observe", "publish", "ingest", "merge", "wake",
		"reconcile", "claim", "read", "decide", "write", "read", "decide", "write", "save", // 412, then 429
		"reconcile", "claim", "read", "decide", "write", "look again", "save",
	}
	var spans []collector.Span
	w.until("the trace is complete", func() error {
		spans = c.Trace(agent.ID())
		if names := names(spans); !slices.Equal(names, want) {
			return fmt.Errorf("it has %v", names)
		}
		return nil
	})
	checkTree(t, spans, agent)
	if d := spans[0].End.Sub(spans[0].Start); d < 299*time.Millisecond || d > 301*time.Millisecond {
		t.Errorf("the agent gathered for %s, want 300ms", d)
	}
	if s := spans[len(spans)-3]; s.Name != "write" || s.End.Sub(s.Start) < quick || s.Failed != "" {
		t.Errorf("the write that was done: %+v", s)
	}
	if s := spans[9]; !strings.Contains(s.Failed, "PreconditionFailed") {
		t.Errorf("the write that was not: %+v", s)
	}
	wantPoints := map[string]float64{
		"pointsman.table.writes{domain=hub,result=applied,target=spokes}":      3,
		"pointsman.table.writes{domain=hub,result=precondition,target=spokes}": 1,
		"pointsman.table.writes{domain=hub,result=throttled,target=spokes}":    1,
		"pointsman.reconciles{domain=hub,outcome=written,target=spokes}":       3,
		"pointsman.reconciles{domain=hub,outcome=throttled,target=spokes}":     1,
		"pointsman.events{domain=hub,nva=nva-a,result=merged}":                 2,
		"pointsman.events{domain=hub,nva=nva-b,result=merged}":                 1,
		"pointsman.convergence.duration{domain=hub,target=spokes}":             1,
		"pointsman.stage.duration{domain=hub,stage=gather}":                    1,
		"pointsman.stage.duration{domain=hub,stage=write}":                     3,
		"pointsman.liveness.changes{domain=hub,nva=nva-a,state=up}":            1,
		"pointsman.liveness.changes{domain=hub,nva=nva-b,state=up}":            1,
		"pointsman.announcements.refused{domain=hub,target=spokes}":            0,
		"pointsman.staleness{domain=hub,target=spokes}":                        0,
	}
	w.until("the metrics are as the script says", func() error {
		got := map[string]float64{}
		for name := range wantPoints {
			got[name] = c.Value(name)
		}
		if diff := cmp.Diff(wantPoints, got); diff != "" {
			return fmt.Errorf("-want +got:\n%s\nall:\n%s", diff, strings.Join(c.Points(), "\n"))
		}
		return nil
	})
}

func names(spans []collector.Span) []string {
	out := make([]string, len(spans))
	for i, s := range spans {
		out[i] = s.Name
	}
	return out
}

// checkTree finds every span below the one that is named here, and none longer than the others allow.
func checkTree(t *testing.T, spans []collector.Span, agent trace.Context) {
	t.Helper()
	parents := map[string]string{
		"publish": "observe", "ingest": "observe", "merge": "ingest", "wake": "ingest", "reconcile": "ingest",
		"claim": "reconcile", "read": "reconcile", "decide": "reconcile", "write": "reconcile", "look again": "reconcile", "save": "reconcile",
	}
	byID := map[string]collector.Span{}
	for _, s := range spans {
		byID[s.ID] = s
	}
	for _, s := range spans {
		if got := byID[s.Parent].Name; got != parents[s.Name] {
			t.Errorf("%s is below %q, want %q", s.Name, got, parents[s.Name])
		}
		if parents[s.Name] == "" && s.ID != agent.String()[36:52] {
			t.Errorf("the agent's span is %s, want %s", s.ID, agent)
		}
	}
}

// The news that comes while a write is under way is folded into the next one: the traces of all of it are linked.
func TestCoalescedNewsIsLinked(t *testing.T) {
	t.Parallel()
	w, c := observed(t, 5)
	w.ARM.ResetCalls()
	w.ARM.Faults().Script(arm.Fault{Method: http.MethodPut, Delay: 700 * time.Millisecond})
	all := system.Prefixes(3)
	traces := make([]trace.Context, len(all))
	for i := range all {
		traces[i] = trace.New([trace.Random]byte{1: byte(i + 1), 20: 9})
		w.publish(w.said("nva-a", event.Delta, func(e *event.Event) {
			e.Withdraw, e.Observed, e.Time, e.Traceparent = all[i:i+1], time.Now(), time.Now(), traces[i].String()
		}))
		if i == 0 {
			w.until("the first is being written", func() error { return w.called("routeTables.CreateOrUpdate") })
		}
	}
	w.carries(hopB, all)
	w.settled()
	w.until("the run that wrote is linked to all of it", func() error {
		for _, s := range c.Trace(traces[0].ID()) {
			if s.Name == "reconcile" && len(s.Links) >= 1 && s.Attrs["outcome"] == "written" {
				return nil
			}
		}
		return fmt.Errorf("the first trace has %+v", c.Trace(traces[0].ID()))
	})
	w.until("what was left is linked to the run that had it", func() error {
		run := ""
		for _, s := range c.Trace(traces[0].ID()) {
			if s.Name == "reconcile" && s.Attrs["outcome"] == "written" {
				run = s.ID
			}
		}
		for _, s := range slices.Concat(c.Trace(traces[1].ID()), c.Trace(traces[2].ID())) {
			if s.Attrs["outcome"] == "left" && slices.Contains(s.Links, run) {
				return nil
			}
		}
		return fmt.Errorf("the second trace has %+v", c.Trace(traces[1].ID()))
	})
}
