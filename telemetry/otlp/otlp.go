// Package otlp sends what invocations have done to a collector, by OTLP over HTTP. The standard variables (OTEL_EXPORTER_OTLP_ENDPOINT and its
// siblings) say where, how often and with which headers: the SDK reads them itself. It is the only package that knows the OpenTelemetry SDK.
//
// Functions give their spans when they are over, with the ids that their messages have carried on long before; so the SDK is told the ids, not asked
// for them. The first span of a trace is the agent's, which exports nothing itself.
package otlp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlpmetric/otlpmetrichttp"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"go.opentelemetry.io/otel/metric"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	oteltrace "go.opentelemetry.io/otel/trace"

	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/trace"
)

// Config says what is exported.
type Config struct {
	Traces, Metrics bool
	Log             *slog.Logger // told of exports that fail
}

// Exporter implements telemetry.Exporter. It has goroutines of its own until Shutdown.
type Exporter struct {
	tracer   oteltrace.Tracer // nil: no spans are exported
	record   map[telemetry.Metric]func(context.Context, float64, metric.MeasurementOption)
	shutdown []func(context.Context) error
}

// scope names this instrumentation.
const scope = "github.com/pointsman/pointsman"

// New starts an exporter; it connects when there is something to send.
func New(ctx context.Context, cfg Config) (*Exporter, error) {
	otel.SetErrorHandler(otel.ErrorHandlerFunc(func(err error) {
		cfg.Log.WarnContext(ctx, "telemetry is not exported", slog.Any("error", err))
	}))
	about, err := resource.New(ctx,
		resource.WithTelemetrySDK(), resource.WithAttributes(attribute.String("service.name", "pointsman")), resource.WithFromEnv())
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	e := &Exporter{record: map[telemetry.Metric]func(context.Context, float64, metric.MeasurementOption){}}
	if cfg.Traces {
		client, failed := otlptracehttp.New(ctx)
		if failed != nil {
			return nil, fmt.Errorf("OTLP traces: %w", failed)
		}
		provider := sdktrace.NewTracerProvider(sdktrace.WithBatcher(client), sdktrace.WithResource(about), sdktrace.WithIDGenerator(given{}))
		e.tracer, e.shutdown = provider.Tracer(scope), append(e.shutdown, provider.Shutdown)
	}
	if cfg.Metrics {
		client, failed := otlpmetrichttp.New(ctx)
		if failed != nil {
			return nil, fmt.Errorf("OTLP metrics: %w", failed)
		}
		provider := sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewPeriodicReader(client)), sdkmetric.WithResource(about))
		e.shutdown = append(e.shutdown, provider.Shutdown)
		if err = e.instruments(provider.Meter(scope)); err != nil {
			return nil, err
		}
	}
	return e, nil
}

// bounds of the histograms, in seconds: a route table's write takes 1 to 10 s, the rest of the way well below one.
func bounds() []float64 {
	return []float64{0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2, 3, 5, 7.5, 10, 15, 20, 30, 60, 120, 300}
}

func (e *Exporter) instruments(meter metric.Meter) error {
	for _, m := range telemetry.Metrics() {
		name, unit, about := string(m.Name), metric.WithUnit(m.Unit), metric.WithDescription(m.Meaning)
		var err error
		switch m.Instrument {
		case telemetry.Counter:
			var c metric.Float64Counter
			c, err = meter.Float64Counter(name, unit, about)
			e.record[m.Name] = func(ctx context.Context, v float64, o metric.MeasurementOption) { c.Add(ctx, v, o) }
		case telemetry.Histogram:
			var h metric.Float64Histogram
			h, err = meter.Float64Histogram(name, unit, about, metric.WithExplicitBucketBoundaries(bounds()...))
			e.record[m.Name] = func(ctx context.Context, v float64, o metric.MeasurementOption) { h.Record(ctx, v, o) }
		case telemetry.Gauge:
			var g metric.Float64Gauge
			g, err = meter.Float64Gauge(name, unit, about)
			e.record[m.Name] = func(ctx context.Context, v float64, o metric.MeasurementOption) { g.Record(ctx, v, o) }
		}
		if err != nil {
			return fmt.Errorf("metric %s: %w", name, err)
		}
	}
	return nil
}

// Export implements telemetry.Exporter.
func (e *Exporter) Export(ctx context.Context, spans []telemetry.Span, measurements []telemetry.Measurement) {
	ctx = context.WithoutCancel(ctx)
	if e.tracer != nil {
		for _, s := range spans {
			e.span(ctx, s)
		}
	}
	for _, m := range measurements {
		if record := e.record[m.Metric]; record != nil {
			record(ctx, m.Value, metric.WithAttributes(attributes(m.Attrs)...))
		}
	}
}

func (e *Exporter) span(ctx context.Context, s telemetry.Span) {
	ctx = context.WithValue(ctx, key{}, s.Context)
	options := []oteltrace.SpanStartOption{
		oteltrace.WithTimestamp(s.Start), oteltrace.WithSpanKind(kind(s.Name)), oteltrace.WithAttributes(attributes(s.Attrs)...), oteltrace.WithLinks(links(s.Links)...),
	}
	if s.Parent.Valid() {
		ctx = oteltrace.ContextWithRemoteSpanContext(ctx, spanContext(s.Parent))
	} else {
		options = append(options, oteltrace.WithNewRoot())
	}
	_, span := e.tracer.Start(ctx, s.Name, options...)
	if s.Failed != "" {
		span.SetStatus(codes.Error, s.Failed)
	}
	span.End(oteltrace.WithTimestamp(s.End))
}

// kind is what the step is to the other side.
func kind(name string) oteltrace.SpanKind {
	switch name {
	case "publish":
		return oteltrace.SpanKindProducer
	case "ingest", "reconcile":
		return oteltrace.SpanKindConsumer
	case "read", "write":
		return oteltrace.SpanKindClient
	}
	return oteltrace.SpanKindInternal
}

func links(all []trace.Context) []oteltrace.Link {
	out := make([]oteltrace.Link, len(all))
	for i, c := range all {
		out[i] = oteltrace.Link{SpanContext: spanContext(c)}
	}
	return out
}

func spanContext(c trace.Context) oteltrace.SpanContext {
	cfg := oteltrace.SpanContextConfig{TraceID: c.Trace, SpanID: c.Span, Remote: true}
	if c.Sampled {
		cfg.TraceFlags = oteltrace.FlagsSampled
	}
	return oteltrace.NewSpanContext(cfg)
}

func attributes(attrs []slog.Attr) []attribute.KeyValue {
	out := make([]attribute.KeyValue, len(attrs))
	for i, a := range attrs {
		switch v := a.Value; v.Kind() {
		case slog.KindBool:
			out[i] = attribute.Bool(a.Key, v.Bool())
		case slog.KindInt64:
			out[i] = attribute.Int64(a.Key, v.Int64())
		case slog.KindFloat64:
			out[i] = attribute.Float64(a.Key, v.Float64())
		case slog.KindAny, slog.KindDuration, slog.KindGroup, slog.KindLogValuer, slog.KindString, slog.KindTime, slog.KindUint64:
			out[i] = attribute.String(a.Key, v.String())
		}
	}
	return out
}

// given answers with the ids of the span that is being told.
type given struct{}

type key struct{}

// NewIDs implements sdktrace.IDGenerator.
func (given) NewIDs(ctx context.Context) (oteltrace.TraceID, oteltrace.SpanID) {
	c, _ := ctx.Value(key{}).(trace.Context)
	return c.Trace, c.Span
}

// NewSpanID implements sdktrace.IDGenerator.
func (given) NewSpanID(ctx context.Context, _ oteltrace.TraceID) oteltrace.SpanID {
	c, _ := ctx.Value(key{}).(trace.Context)
	return c.Span
}

// patience bounds the last export.
const patience = 5 * time.Second

// Shutdown sends what is left, for a few seconds at most, and ends the goroutines.
func (e *Exporter) Shutdown(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var failed error
	for _, f := range e.shutdown {
		failed = errors.Join(failed, f(ctx))
	}
	if failed != nil {
		return fmt.Errorf("telemetry: %w", failed)
	}
	return nil
}
