package reconcile_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/stage"
	"github.com/pointsman/pointsman/shared/wake"
)

// because lets the newest wake in the queue carry what led to it, as Ingest does.
func (w *world) because(id string, sent stage.Sent, traceparent string) {
	w.t.Helper()
	d := w.queue[len(w.queue)-1]
	news, err := wake.Decode(d.Body)
	if err != nil {
		w.t.Fatal(err)
	}
	news.Events, news.Sent, news.Traceparent = []string{id}, sent, traceparent
	m, err := news.Message()
	if err != nil {
		w.t.Fatal(err)
	}
	d.Message = m
}

const (
	traceOne = "00-11111111111111111111111111111111-1111111111111111-01"
	traceTwo = "00-22222222222222222222222222222222-2222222222222222-01"
)

// A write that waited for company names all events that it answers, and the times of the one that was seen first.
func TestHistoryOfAWriteThatWaited(t *testing.T) {
	w := newWorld(t, domainFile("60", ""))
	w.said("nva-a", event.Snapshot, announce(prefixes(2)...))
	seen := w.now.Add(-3 * time.Second)
	w.because("hub/nva-a/1/1", stage.Sent{Observed: seen, Said: seen.Add(time.Second), Queued: seen.Add(1500 * time.Millisecond), Taken: seen.Add(1600 * time.Millisecond), Merged: seen.Add(1700 * time.Millisecond)}, traceOne)
	w.deliver(w.next())
	w.now = w.now.Add(5 * time.Second)
	w.said("nva-b", event.Snapshot, announce(prefixes(4)...))
	w.because("hub/nva-b/1/1", stage.Sent{Observed: w.now, Said: w.now, Queued: w.now, Taken: w.now, Merged: w.now}, traceTwo)
	w.rest()

	lines := w.lines()
	if len(lines) != 1 {
		t.Fatalf("%d lines of history, want one", len(lines))
	}
	if diff := cmp.Diff([]any{"hub/nva-a/1/1", "hub/nva-b/1/1"}, lines[0]["events"]); diff != "" {
		t.Errorf("events: -want +got:\n%s", diff)
	}
	written := w.now
	if at, err := time.Parse(time.RFC3339Nano, lines[0]["at"].(string)); err == nil {
		written = at
	}
	if lines[0]["observed"] != seen.Format(time.RFC3339Nano) || lines[0]["convergenceSeconds"] != written.Sub(seen).Seconds() {
		t.Errorf("observed %v, convergence %v; want %s and %v", lines[0]["observed"], lines[0]["convergenceSeconds"], seen, written.Sub(seen).Seconds())
	}
	stages, sum := lines[0]["stages"].(map[string]any), 0.0
	for _, seconds := range stages {
		sum += seconds.(float64)
	}
	if sum != written.Sub(seen).Seconds() || stages["gather"] != 1.0 || stages["publish"] != 0.5 || stages["wait"].(float64) < 5 {
		t.Errorf("the stages are %v, which add up to %v s", stages, sum)
	}
}

// News that is left to the run in flight is named by the write that answers it.
func TestHistoryOfNewsThatWasLeft(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Delta, announce(prefix(9)))
	w.because("hub/nva-a/1/2", stage.Sent{}, traceOne)
	before := w.blobs["nvas/hub/nva-b.json"]
	w.said("nva-b", event.Delta, announce(prefix(10)))
	w.because("hub/nva-b/1/2", stage.Sent{}, traceTwo)
	late := w.blobs["nvas/hub/nva-b.json"] // it comes while the first news is written
	w.put("nvas/hub/nva-b.json", before.data)
	first, second := w.queue[0], w.queue[1]
	once := w.meanwhile(func() {
		w.put("nvas/hub/nva-b.json", late.data)
		w.deliver(second)
	})
	w.deliver(first)
	w.meddle = func(string) {}
	w.rest()
	found := false
	for _, l := range w.lines() {
		adds, _ := json.Marshal(l["adds"])
		if strings.Contains(string(adds), prefix(10).String()) {
			found = true
			if diff := cmp.Diff([]any{"hub/nva-a/1/2", "hub/nva-b/1/2"}, l["events"]); diff != "" {
				t.Errorf("events: -want +got:\n%s", diff)
			}
			if !strings.Contains(string(adds), `"by":["hub/nva-b/1/2"]`) {
				t.Errorf("the change says %s, want the event that announced it", adds)
			}
		}
	}
	if !found || !*once {
		t.Errorf("the second news was left: %t, and written: %t", *once, found)
	}
	if doc := w.document(); len(doc.Left.Events) > 0 {
		t.Errorf("still left: %v", doc.Left)
	}
}

// What a withdrawal removes is put down to the event that withdrew it.
func TestHistoryOfAWithdrawal(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Delta, withdraw(prefix(0)))
	w.said("nva-b", event.Delta, withdraw(prefix(0)))
	w.rest()
	lines := w.lines()
	if len(lines) != 1 {
		t.Fatalf("%d lines of history, want one", len(lines))
	}
	want := []any{map[string]any{"prefix": prefix(0).String(), "from": "10.0.0.4", "by": []any{"hub/nva-a/1/2", "hub/nva-b/1/2"}}}
	if diff := cmp.Diff(want, lines[0]["removals"]); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The line of the invocation says what a run did, in figures.
func TestLineOfARun(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Expired, nil)
	tries := 0
	w.fate = func(op string) fate {
		if op != "put" {
			return fate{}
		}
		switch tries++; tries {
		case 1:
			return fate{skip: true, err: &fault.Error{Kind: fault.Conflict, Err: errors.New("412")}}
		case 2:
			return fate{skip: true, err: &fault.Error{Kind: fault.Throttled, Code: fault.CodeBusy, Err: errors.New("429"), RetryAfter: time.Second}}
		}
		return fate{}
	}
	var log bytes.Buffer
	for d := w.next(); d != nil; d = w.next() {
		record := telemetry.New("Reconcile", "", nil, func() time.Time { return w.now })
		w.record = record
		w.deliver(d)
		record.Close(t.Context(), slog.New(slog.NewJSONHandler(&log, nil)), nil)
		w.now = w.now.Add(time.Second)
	}
	lines := strings.Split(log.String(), "\n")
	for i, wants := range [][]string{
		{`"outcome":"busy"`, `"level":"WARN"`, `"rounds":2`, `"writes":2`, `"applied":0`, `"precondition":1`, `"busy":1`, `"code":"RetryableErrorDueToAnotherOperation"`, `"target":"spokes"`},
		{`"outcome":"written"`, `"level":"INFO"`, `"rounds":1`, `"writes":1`, `"applied":1`, `"changed":2`, `"frozen":false`, `"writeSeconds":0`, `"stalenessPrefixSeconds":0`},
	} {
		for _, want := range wants {
			if !strings.Contains(lines[i], want) {
				t.Errorf("line %d: %s\nwant %s", i+1, lines[i], want)
			}
		}
	}
}
