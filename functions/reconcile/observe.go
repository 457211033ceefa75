package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/stage"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/trace"
	"github.com/pointsman/pointsman/shared/wake"
)

// seen is what is told of a run, in the history, the log and telemetry. No decision rests on it.
type seen struct {
	rec     *telemetry.Record // nil: nobody wants to know
	span    *telemetry.Open   // nil: no spans are exported
	adopted wake.News         // left to this run by others, and taken out of the document
	leftTo  string            // the run that this one's news was left to

	read, decided, writtenAt time.Time // the last ones

	rounds int
	puts   map[string]int // by what became of them
	spared map[string]int // calls refused with 429, by why
	result ended          // the result, once it is saved; Outcome is 0 before
}

// What became of a PUT.
const (
	putApplied      = "applied"
	putPrecondition = "precondition"
	putBusy         = "busy"
	putThrottled    = "throttled"
	putDenied       = "denied"
	putRefused      = "refused"
	putUnknown      = "unknown"
	putFailed       = "failed"
)

// noteMessage tells the record what came.
func noteMessage(ctx context.Context, w wake.Wake, m invocation.Message) {
	r := telemetry.Of(ctx)
	r.Set(telemetry.Messages, 1)
	r.Note(telemetry.MessageIDs, m.ID)
	r.Set(telemetry.Deliveries, m.DeliveryCount)
	r.Set(telemetry.Domain, w.Domain)
	r.Set(telemetry.Target, w.Target)
	r.Set(telemetry.Cause, w.Cause)
}

// observe begins what is told. The first wake's arrival at the broker goes on with those that follow it.
func (x *run) observe(ctx context.Context) {
	if x.wake.Woken.IsZero() {
		x.wake.Woken = x.message.EnqueuedAt
	}
	if x.rec = telemetry.Of(ctx); x.rec == nil {
		return
	}
	x.puts, x.spared = map[string]int{}, map[string]int{}
	if !x.rec.Exported() {
		return
	}
	parent, _ := trace.Parse(x.wake.Traceparent)
	x.span = x.rec.Begin("reconcile", parent)
	x.span.Set(slog.String(telemetry.AttrDomain, x.wake.Domain), slog.String(telemetry.AttrTarget, x.wake.Target),
		slog.String(string(telemetry.Cause), x.wake.Cause), slog.String(string(telemetry.Run), x.id))
}

// news is all that led to what this run does: its own wake, what waited for company, and what others left to it.
func (x *run) news() wake.News {
	n := x.wake.News()
	if x.doc == nil {
		return n
	}
	if p := x.doc.Pending; p != nil {
		n = p.News.Join(n)
	}
	return n.Join(x.adopted).Join(x.doc.Left)
}

// times are the instants of the oldest news' way.
func (x *run) times() stage.Times {
	t := stage.Times{Sent: x.news().Sent, Begun: x.started, Read: x.read, Decided: x.decided, Written: x.writtenAt}
	if t.Woken.IsZero() {
		t.Woken = x.wake.Woken
	}
	return t
}

// leave notes that the news was left to the run that holds the target.
func (x *run) leave(holder state.Intent) {
	x.leftTo = holder.Run
	if c, ok := trace.Parse(holder.Traceparent); ok {
		x.span.Link(c)
	}
}

// put notes what became of a PUT.
func (x *run) put(err error) {
	if x.rec == nil {
		return
	}
	x.puts[verdict(err)]++
	x.refused(err)
}

// refused counts the calls that the service put off.
func (x *run) refused(err error) {
	if v := verdict(err); x.rec != nil && (v == putBusy || v == putThrottled) {
		x.spared[v]++
	}
}

func verdict(err error) string {
	if err == nil {
		return putApplied
	}
	switch fault.KindOf(err) {
	case fault.Conflict:
		if preconditionCode(fault.Code(err)) {
			return putPrecondition
		}
		return putUnknown // superseded after it was accepted
	case fault.Throttled:
		if fault.Code(err) == fault.CodeBusy {
			return putBusy
		}
		return putThrottled
	case fault.Denied, fault.NotFound:
		return putDenied
	case fault.Refused:
		return putRefused
	case fault.Transient:
		return putUnknown
	case fault.Poison, fault.Bug:
	}
	return putFailed
}

// left is the outcome of a run that left its news to another.
const left = "left"

// account tells what the run did.
func (x *run) account(err error) {
	r := x.rec
	if r == nil {
		return
	}
	news, outcome := x.news(), ""
	if x.result.Outcome != 0 {
		outcome = x.result.Outcome.String()
	} else if x.leftTo != "" {
		outcome = left
	}
	for _, t := range news.Traces {
		if c, ok := trace.Parse(t); ok {
			r.Note(telemetry.Traces, c.ID())
			if c.ID() != x.span.Context().ID() {
				x.span.Link(c)
			}
		}
	}
	for _, id := range news.Events {
		r.Note(telemetry.Events, id)
	}
	r.Set(telemetry.Run, x.id)
	if outcome != "" {
		r.Set(telemetry.Outcome, outcome)
		x.span.Set(slog.String(telemetry.AttrOutcome, outcome))
		r.Measure(telemetry.Reconciles, 1, x.about(slog.String(telemetry.AttrOutcome, outcome))...)
	}
	x.accountWrites()
	x.accountCoalesced()
	x.accountEnd()
	if err != nil {
		r.Set(telemetry.Error, err.Error())
		r.Set(telemetry.Kind, fault.KindOf(err).String())
		r.AtLeast(slog.LevelError)
	}
	x.span.End(err)
}

func (x *run) about(more ...slog.Attr) []slog.Attr {
	return append([]slog.Attr{slog.String(telemetry.AttrDomain, x.wake.Domain), slog.String(telemetry.AttrTarget, x.wake.Target)}, more...)
}

// accountWrites tells of the PUTs, and how long it took from the observation to the end of the last one that is known to be applied.
func (x *run) accountWrites() {
	r := x.rec
	r.Set(telemetry.Rounds, x.rounds)
	r.Set(telemetry.Writes, x.sent)
	r.Set(telemetry.Applied, x.done)
	r.Add(telemetry.Precondition, x.puts[putPrecondition])
	r.Add(telemetry.Busy, x.spared[putBusy])
	r.Add(telemetry.Throttled, x.spared[putThrottled])
	for _, result := range []string{putApplied, putPrecondition, putBusy, putThrottled, putDenied, putRefused, putUnknown, putFailed} {
		if n := x.puts[result]; n > 0 {
			r.Measure(telemetry.TableWrites, float64(n), x.about(slog.String(telemetry.AttrResult, result))...)
		}
	}
	if x.writtenAt.IsZero() {
		return
	}
	times := x.times()
	for _, t := range times.Took() {
		seconds := t.Duration.Seconds()
		r.Set(telemetry.OfStage(t.Stage), seconds)
		r.Measure(telemetry.StageDuration, seconds, slog.String(telemetry.AttrDomain, x.wake.Domain), slog.String(telemetry.AttrStage, t.Stage.String()))
	}
	if total, known := times.Total(); known {
		r.Set(telemetry.Convergence, total.Seconds())
		r.Measure(telemetry.ConvergenceDuration, total.Seconds(), x.about()...)
	}
}

// accountCoalesced counts the events of a run that left them to another, or to a later write.
func (x *run) accountCoalesced() {
	if n := len(x.wake.Events); n > 0 && (x.leftTo != "" || x.result.Outcome == state.Waiting) {
		x.rec.Add(telemetry.Coalesced, n)
		x.rec.Measure(telemetry.EventsCoalesced, float64(n), slog.String(telemetry.AttrDomain, x.wake.Domain))
	}
}

// accountEnd tells of the result.
func (x *run) accountEnd() {
	r, e := x.rec, x.result
	if e.Outcome == 0 {
		return
	}
	switch e.Outcome {
	case state.Denied, state.Refused, state.Failed:
		r.AtLeast(slog.LevelError)
	case state.Busy, state.Throttled:
		r.AtLeast(slog.LevelWarn)
	case state.Written, state.Unchanged, state.Waiting, state.Observed, state.Held:
	}
	if e.Code != "" {
		r.Set(telemetry.Code, e.Code)
	}
	if e.Message != "" {
		r.Set(telemetry.Text, e.Message)
	}
	r.Set(telemetry.Added, e.Added)
	r.Set(telemetry.Changed, e.Changed)
	r.Set(telemetry.Removed, e.Removed)
	if e.view == nil {
		return
	}
	staleness := x.doc.Pending.Staleness(e.At)
	if x.doc.Pending != nil {
		r.Set(telemetry.FireAt, x.doc.FireAt)
	}
	r.Set(telemetry.Routes, e.Routes)
	r.Set(telemetry.ETag, e.view.table.ETag)
	r.Set(telemetry.Frozen, e.view.selected.Live.Frozen)
	r.Set(telemetry.Unused, len(e.view.selected.Refused))
	r.Set(telemetry.Staleness, staleness)
	r.Measure(telemetry.StalenessNow, staleness, x.about()...)
	r.Measure(telemetry.UnusedNow, float64(len(e.view.selected.Refused)), x.about()...)
}
