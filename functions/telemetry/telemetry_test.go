package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/trace"
)

// clock goes on by a second at each look.
type clock struct{ at time.Time }

func (c *clock) now() time.Time {
	c.at = c.at.Add(time.Second)
	return c.at
}

func newClock() *clock { return &clock{time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC)} }

// kept is an exporter that keeps what it gets.
type kept struct {
	spans        []telemetry.Span
	measurements []telemetry.Measurement
}

func (k *kept) Export(_ context.Context, spans []telemetry.Span, measurements []telemetry.Measurement) {
	k.spans, k.measurements = spans, measurements
}

func TestLine(t *testing.T) {
	var log bytes.Buffer
	r := telemetry.New("Ingest", "inv-1", nil, newClock().now)
	ctx := telemetry.With(t.Context(), r)
	telemetry.Of(ctx).Add(telemetry.Merged, 2)
	telemetry.Of(ctx).Add(telemetry.Merged, 1)
	telemetry.Of(ctx).Add(telemetry.Parked, 0)
	for n := range 12 {
		telemetry.Of(ctx).Note(telemetry.NVAs, fmt.Sprintf("hub/nva-%d", n%10))
	}
	telemetry.Of(ctx).Note(telemetry.Domains, "")
	telemetry.Of(ctx).AtLeast(slog.LevelWarn)
	telemetry.Of(ctx).AtLeast(slog.LevelInfo)
	telemetry.Of(ctx).Set(telemetry.Frozen, true)
	r.Close(ctx, slog.New(slog.NewJSONHandler(&log, nil)), nil)
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	delete(line, "time")
	nvas := []any{}
	for n := range 8 {
		nvas = append(nvas, fmt.Sprintf("hub/nva-%d", n))
	}
	want := map[string]any{"level": "WARN", "msg": "invocation", "function": "Ingest", "invocation": "inv-1", "seconds": 1.0, "nvas": nvas, "merged": 3.0, "frozen": true}
	if diff := cmp.Diff(want, line); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if order := log.String(); strings.Index(order, `"function"`) > strings.Index(order, `"seconds"`) || strings.Index(order, `"nvas"`) > strings.Index(order, `"merged"`) {
		t.Errorf("the order of the fields is another one: %s", order)
	}
}

func TestLineOfAFailure(t *testing.T) {
	var log bytes.Buffer
	r := telemetry.New("Reconcile", "", nil, newClock().now)
	r.Close(t.Context(), slog.New(slog.NewJSONHandler(&log, nil)), fault.New(fault.Denied, "no right"))
	for _, want := range []string{`"level":"ERROR"`, `"error":"no right"`, `"kind":"denied"`} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s: want %s", log.String(), want)
		}
	}
}

func TestSpans(t *testing.T) {
	c, out := newClock(), &kept{}
	r := telemetry.New("Reconcile", "", out, c.now)
	parent, other := trace.New([trace.Random]byte{1: 1, 20: 2}), trace.New([trace.Random]byte{1: 3, 20: 4})
	span := r.Begin("reconcile", parent, other)
	step := span.Step("write")
	step.End(errors.New("412"))
	span.Set(slog.String("target", "spokes"))
	span.Link(other)           // again
	span.Link(trace.Context{}) // nothing
	span.End(nil)
	alone := r.Begin("reconcile", trace.Context{})
	alone.End(nil)
	late := c.at.Add(-time.Hour)
	r.Past(telemetry.Span{Name: "publish", Context: parent, Start: c.at, End: late}) // the broker's clock is behind the agent's
	r.Past(telemetry.Span{Name: "publish", Context: parent})                         // no time is known
	r.Past(telemetry.Span{Name: "publish", Start: c.at})                             // no trace
	r.Measure(telemetry.TableWrites, 1, slog.String("result", "applied"))
	r.Close(t.Context(), slog.New(slog.DiscardHandler), nil)

	if len(out.spans) != 4 || len(out.measurements) != 2 {
		t.Fatalf("got %d spans and %d measurements: %+v", len(out.spans), len(out.measurements), out)
	}
	write, whole, begun, past := out.spans[0], out.spans[1], out.spans[2], out.spans[3]
	if whole.Parent != parent || whole.Context.Trace != parent.Trace || whole.Context.Span == parent.Span || len(whole.Links) != 1 || whole.Failed != "" || len(whole.Attrs) != 1 {
		t.Errorf("the span: %+v", whole)
	}
	if write.Parent != whole.Context || write.Failed != "412" || !write.Start.After(whole.Start) || !write.End.Before(whole.End) {
		t.Errorf("its step: %+v", write)
	}
	if begun.Parent.Valid() || !begun.Context.Valid() || begun.Context.Trace == parent.Trace {
		t.Errorf("a trace of its own: %+v", begun)
	}
	if !past.End.Equal(past.Start) {
		t.Errorf("a span ends %s before it begins", past.Start.Sub(past.End))
	}
}

// Where nobody exports, and where nobody keeps a record at all, nothing is kept and nothing allocated.
func TestNothingIsAllocated(t *testing.T) {
	parent := trace.New([trace.Random]byte{1: 1, 20: 2})
	for name, ctx := range map[string]context.Context{
		"no record": t.Context(), "no exporter": telemetry.With(t.Context(), telemetry.New("Reconcile", "", nil, newClock().now)),
	} {
		if n := testing.AllocsPerRun(100, func() {
			r := telemetry.Of(ctx)
			span := r.Begin("reconcile", parent)
			step := span.Step("read")
			step.End(nil)
			span.Link(parent)
			span.End(nil)
			r.Measure(telemetry.TableWrites, 1)
			r.Past(telemetry.Span{Name: "observe", Context: parent})
			if r.Exported() || span.Context().Valid() {
				t.Error("something is kept")
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	var none *telemetry.Record
	none.Set(telemetry.Outcome, "written")
	none.Add(telemetry.Merged, 1)
	none.Note(telemetry.NVAs, "hub/nva-a")
	none.AtLeast(slog.LevelError)
}

func rows(t *testing.T, heading string) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## "+heading+"\n")
	if !found {
		t.Fatalf("docs/observability.md has no section %q", heading)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	out := map[string]string{}
	for line := range strings.Lines(section) {
		if name, rest, ok := strings.Cut(strings.TrimPrefix(line, "| `"), "` | "); ok && strings.HasPrefix(line, "| `") {
			out[name] = strings.TrimSuffix(strings.TrimSpace(rest), " |")
		}
	}
	return out
}

// The tables of docs/observability.md are those of the code.
func TestDocumented(t *testing.T) {
	fields, metrics := map[string]string{}, map[string]string{}
	for _, f := range telemetry.Fields() {
		of := f.Of
		if of == "" {
			of = "all"
		}
		if _, twice := fields[string(f.Name)]; twice {
			t.Errorf("field %s is there twice", f.Name)
		}
		fields[string(f.Name)] = of + " | " + f.Meaning
	}
	kinds := map[telemetry.Instrument]string{telemetry.Counter: "counter", telemetry.Histogram: "histogram", telemetry.Gauge: "gauge"}
	for _, m := range telemetry.Metrics() {
		metrics[string(m.Name)] = kinds[m.Instrument] + " | " + m.Unit + " | " + strings.Join(m.Attrs, ", ") + " | " + m.Meaning
	}
	if diff := cmp.Diff(fields, rows(t, "The line of an invocation")); diff != "" {
		t.Errorf("fields: -code +docs:\n%s", diff)
	}
	if diff := cmp.Diff(metrics, rows(t, "Metrics")); diff != "" {
		t.Errorf("metrics: -code +docs:\n%s", diff)
	}
}
