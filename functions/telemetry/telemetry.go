// Package telemetry gathers what one invocation of a function did. At its end that is one line of the log, always, and, where somebody exports
// them, spans and measurements. Functions find the record in their context; without one, as in the simulator, nothing is kept.
//
// Nothing here decides anything, fails or waits: an invocation does the same with a record and without.
package telemetry

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/trace"
)

// Message is the text of the line ("msg"), the same for every function.
const Message = "invocation"

// Exporter takes the spans and the measurements of an invocation that has ended. It neither waits nor fails, and keeps what it is given only
// until it has been sent.
type Exporter interface {
	Export(ctx context.Context, spans []Span, measurements []Measurement)
}

// Span is a part of a trace that is over.
type Span struct {
	Name    string
	Context trace.Context
	Parent  trace.Context   // one that is not valid: the span begins a trace
	Links   []trace.Context // other spans that led to it
	Start   time.Time
	End     time.Time
	Attrs   []slog.Attr
	Failed  string // why it did not succeed; "": it did
}

// Measurement is one value of a metric.
type Measurement struct {
	Metric Metric
	Value  float64
	Attrs  []slog.Attr
}

// Record is what one invocation did. It has one owner at a time. A nil one takes everything and keeps nothing.
type Record struct {
	now      func() time.Time
	exporter Exporter // nil: spans and measurements are not kept
	began    time.Time
	level    slog.Level
	fields   map[Field]slog.Value
	notes    map[Field][]string

	spans        []Span
	measurements []Measurement
}

// New begins a record. exporter may be nil.
func New(function, invocation string, exporter Exporter, now func() time.Time) *Record {
	return &Record{
		now: now, exporter: exporter, began: now(), level: slog.LevelInfo,
		fields: map[Field]slog.Value{Function: slog.StringValue(function), Invocation: slog.StringValue(invocation)}, notes: map[Field][]string{},
	}
}

type key struct{}

// With returns a context in which the functions find the record.
func With(ctx context.Context, r *Record) context.Context { return context.WithValue(ctx, key{}, r) }

// Of returns the context's record, or nil.
func Of(ctx context.Context) *Record {
	r, _ := ctx.Value(key{}).(*Record)
	return r
}

// Set sets a field; the last value counts.
func (r *Record) Set(f Field, v any) {
	if r != nil {
		r.fields[f] = slog.AnyValue(v)
	}
}

// Add counts.
func (r *Record) Add(f Field, n int) {
	if r != nil && n != 0 {
		was, _ := r.fields[f].Any().(int64)
		r.fields[f] = slog.Int64Value(was + int64(n))
	}
}

// maxNotes bounds the words of one field: a line has to stay short, and a query does not need them all.
const maxNotes = 8

// Note adds a word to the field's list, once.
func (r *Record) Note(f Field, word string) {
	if r != nil && word != "" && len(r.notes[f]) < maxNotes && !slices.Contains(r.notes[f], word) {
		r.notes[f] = append(r.notes[f], word)
	}
}

// AtLeast raises the level of the line.
func (r *Record) AtLeast(l slog.Level) {
	if r != nil {
		r.level = max(r.level, l)
	}
}

// Exported reports whether spans and measurements are kept.
func (r *Record) Exported() bool { return r != nil && r.exporter != nil }

// Measure adds a value to a metric.
func (r *Record) Measure(m Metric, value float64, attrs ...slog.Attr) {
	if r.Exported() {
		r.measurements = append(r.measurements, Measurement{m, value, slices.Clone(attrs)})
	}
}

// Past adds a span that others have lived through.
func (r *Record) Past(s Span) {
	if r.Exported() && s.Context.Valid() && !s.Start.IsZero() {
		s.End = later(s.Start, s.End)
		r.spans = append(r.spans, s)
	}
}

// later keeps a span from ending before it began where two clocks differ.
func later(start, end time.Time) time.Time {
	if end.Before(start) {
		return start
	}
	return end
}

// Open is a span that is not over. A nil one takes everything and keeps nothing.
type Open struct {
	record *Record
	span   Span
}

// Begin begins a span. Without an exporter there is none, and nil.
func (r *Record) Begin(name string, parent trace.Context, links ...trace.Context) *Open {
	if !r.Exported() {
		return nil
	}
	c := parent.Child(r.Fresh())
	if !parent.Valid() {
		parent, c = trace.Context{}, trace.New(random())
	}
	return &Open{r, Span{Name: name, Context: c, Parent: parent, Links: slices.Clone(links), Start: r.now()}}
}

// Fresh returns the id of a new span.
func (r *Record) Fresh() (id [8]byte) {
	b := random()
	copy(id[:], b[:])
	return id
}

func random() (b [trace.Random]byte) {
	for i := range b {
		b[i] = byte(rand.Uint32()) // an identity, not a secret
	}
	return b
}

// Context returns what a message carries on, or what names nothing.
func (o *Open) Context() trace.Context {
	if o == nil {
		return trace.Context{}
	}
	return o.span.Context
}

// Step begins a part of the span.
func (o *Open) Step(name string) *Open {
	if o == nil {
		return nil
	}
	return o.record.Begin(name, o.span.Context)
}

// Set adds what is known of the span.
func (o *Open) Set(attrs ...slog.Attr) {
	if o != nil {
		o.span.Attrs = append(o.span.Attrs, attrs...)
	}
}

// Link says that another span led to this one too.
func (o *Open) Link(c trace.Context) {
	if o != nil && c.Valid() && !slices.Contains(o.span.Links, c) {
		o.span.Links = append(o.span.Links, c)
	}
}

// End ends the span.
func (o *Open) End(err error) {
	if o == nil {
		return
	}
	if err != nil {
		o.span.Failed = err.Error()
	}
	o.span.End = later(o.span.Start, o.record.now())
	o.record.spans = append(o.record.spans, o.span)
}

// Close writes the line and hands over what is to be exported. err is the invocation's.
func (r *Record) Close(ctx context.Context, log *slog.Logger, err error) {
	took := r.now().Sub(r.began).Seconds()
	r.Set(Seconds, took)
	if err != nil {
		r.Set(Error, err.Error())
		r.Set(Kind, fault.KindOf(err).String())
		r.AtLeast(slog.LevelError)
	}
	r.Measure(InvocationDuration, took, slog.String(AttrFunction, r.fields[Function].String()), slog.Bool(AttrFailed, err != nil))
	log.LogAttrs(ctx, r.level, Message, r.attrs()...)
	if r.exporter != nil {
		r.exporter.Export(ctx, r.spans, r.measurements)
	}
}

// attrs returns the fields that are set, in the order of Fields.
func (r *Record) attrs() []slog.Attr {
	var out []slog.Attr
	for _, f := range Fields() {
		if v, set := r.fields[f.Name]; set {
			out = append(out, slog.Attr{Key: string(f.Name), Value: v})
		}
		if words := r.notes[f.Name]; len(words) > 0 {
			out = append(out, slog.Any(string(f.Name), words))
		}
	}
	return out
}
