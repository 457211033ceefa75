package otlp_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/trace"
	"github.com/pointsman/pointsman/telemetry/otlp"
	"github.com/pointsman/pointsman/test/collector"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m)
}

var (
	agent = trace.New([trace.Random]byte{1: 1, 20: 2})
	child = agent.Child([8]byte{3})
	other = trace.New([trace.Random]byte{1: 4, 20: 5})
	began = time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC)
)

func exporter(t *testing.T, endpoint string, cfg otlp.Config) *otlp.Exporter {
	t.Helper()
	t.Setenv("OTEL_EXPORTER_OTLP_ENDPOINT", endpoint)
	t.Setenv("OTEL_BSP_SCHEDULE_DELAY", "3600000") // only Shutdown sends
	t.Setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
	cfg.Log = slog.New(slog.DiscardHandler)
	e, err := otlp.New(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// What is told is sent with the ids and the times that it has, at the latest by Shutdown, which leaves no goroutine behind.
func TestExport(t *testing.T) {
	c := collector.Start()
	defer c.Close()
	e := exporter(t, c.URL(), otlp.Config{Traces: true, Metrics: true})
	e.Export(t.Context(), []telemetry.Span{
		{Name: "observe", Context: agent, Start: began, End: began.Add(time.Second), Attrs: []slog.Attr{slog.Int("announced", 3), slog.Bool("late", true), slog.Float64("x", 0.5)}},
		{Name: "write", Context: child, Parent: agent, Links: []trace.Context{other}, Start: began.Add(time.Second), End: began.Add(3 * time.Second), Failed: "412"},
	}, nil)
	for range 3 {
		e.Export(t.Context(), nil, []telemetry.Measurement{
			{Metric: telemetry.TableWrites, Value: 2, Attrs: []slog.Attr{slog.String("target", "spokes")}},
			{Metric: telemetry.ConvergenceDuration, Value: 1.5},
			{Metric: telemetry.StalenessNow, Value: 7},
			{Metric: "pointsman.unknown", Value: 1},
		})
	}
	if err := e.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	want := []collector.Span{
		{Trace: agent.ID(), ID: agent.String()[36:52], Name: "observe", Start: began.Local(), End: began.Add(time.Second).Local(), Attrs: map[string]string{"announced": "3", "late": "true", "x": "0.5"}},
		{
			Trace: agent.ID(), ID: child.String()[36:52], Parent: agent.String()[36:52], Name: "write", Start: began.Add(time.Second).Local(), End: began.Add(3 * time.Second).Local(),
			Attrs: map[string]string{}, Links: []string{other.String()[36:52]}, Failed: "412",
		},
	}
	if diff := cmp.Diff(want, c.Trace(agent.ID())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	points := []string{"pointsman.convergence.duration{} 3", "pointsman.staleness{} 7", "pointsman.table.writes{target=spokes} 6"}
	if diff := cmp.Diff(points, c.Points()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	units := map[string]string{"pointsman.convergence.duration": "s", "pointsman.staleness": "{prefix_second}", "pointsman.table.writes": "{write}"}
	if diff := cmp.Diff(units, c.Units()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestOnlyWhatIsAskedFor(t *testing.T) {
	for name, cfg := range map[string]otlp.Config{"traces": {Traces: true}, "metrics": {Metrics: true}} {
		c := collector.Start()
		e := exporter(t, c.URL(), cfg)
		e.Export(t.Context(), []telemetry.Span{{Name: "observe", Context: agent, Start: began, End: began}}, []telemetry.Measurement{{Metric: telemetry.StalenessNow, Value: 7}})
		if err := e.Shutdown(t.Context()); err != nil {
			t.Fatal(err)
		}
		if spans, points := len(c.Trace(agent.ID())), len(c.Points()); (spans == 1) != cfg.Traces || (points == 1) != cfg.Metrics {
			t.Errorf("%s: %d spans and %d points", name, spans, points)
		}
		c.Close()
	}
}

// A collector that is away delays nothing, not even the end.
func TestCollectorThatIsAway(t *testing.T) {
	c := collector.Start()
	c.Close()
	e := exporter(t, c.URL(), otlp.Config{Traces: true, Metrics: true})
	for range 10_000 { // more than the queue holds
		e.Export(t.Context(), []telemetry.Span{{Name: "observe", Context: agent, Start: began, End: began}}, []telemetry.Measurement{{Metric: telemetry.StalenessNow, Value: 7}})
	}
	soon, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if err := e.Shutdown(soon); err == nil || !strings.Contains(err.Error(), "telemetry: ") {
		t.Errorf("got %v, want an error that says that telemetry was lost", err)
	}
}
