package ingest

import (
	"context"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/stage"
	"github.com/pointsman/pointsman/shared/trace"
	"github.com/pointsman/pointsman/shared/wake"
)

// way is what is known of a group's way through Ingest. The wakes carry it on; no decision rests on it.
type way struct {
	taken, merged time.Time
	fresh         int           // events that changed the document
	span          trace.Context // of Ingest; not valid where nobody exports spans
}

// first returns the item whose change has waited longest; the first of all where none says since when.
func (g *group) first() Item {
	oldest := g.items[0]
	for _, it := range g.items[1:] {
		at, then := it.Event.Observed, oldest.Event.Observed
		if !at.IsZero() && (then.IsZero() || at.Before(then)) {
			oldest = it
		}
	}
	return oldest
}

// sent returns the instants of the item that has waited longest.
func (g *group) sent() stage.Sent {
	if len(g.items) == 0 { // all were refused, and an earlier delivery's wakes are owed
		return stage.Sent{}
	}
	it := g.first()
	return stage.Sent{Observed: it.Event.Observed, Said: it.Event.Time, Queued: it.Message.EnqueuedAt, Taken: g.way.taken, Merged: g.way.merged}
}

// traces returns what a wake carries on: the trace of the item that has waited longest, by Ingest's span where there is one, and those of the others.
func (g *group) traces() (own string, others []string) {
	if len(g.items) == 0 {
		return "", nil
	}
	first := g.first()
	for _, it := range g.items {
		if t := it.Event.Traceparent; t != "" && t != first.Event.Traceparent && len(others) < wake.MaxEvents {
			others = append(others, t)
		}
	}
	if g.way.span.Valid() {
		return g.way.span.String(), others
	}
	return first.Event.Traceparent, others
}

// begin begins the span of a group: it goes on with the trace of the event that has waited longest, and is linked to the others'. The agents' own
// parts of the traces, which they do not export, are told by the times in the events.
func begin(ctx context.Context, g *group) *telemetry.Open {
	record := telemetry.Of(ctx)
	if !record.Exported() || len(g.items) == 0 {
		return nil
	}
	for _, it := range g.items {
		observed(record, it)
	}
	parent, _ := trace.Parse(g.first().Event.Traceparent)
	span := record.Begin("ingest", parent)
	_, others := g.traces()
	for _, text := range others {
		if c, ok := trace.Parse(text); ok {
			span.Link(c)
		}
	}
	span.Set(slog.String(telemetry.AttrDomain, g.domain), slog.String(telemetry.AttrNVA, g.nva), slog.Int(string(telemetry.Messages), len(g.items)))
	g.way.span = span.Context()
	return span
}

// observed tells what happened to an event before it came: the agent saw and gathered the change, and the bus had the event.
func observed(record *telemetry.Record, it Item) {
	agent, ok := trace.Parse(it.Event.Traceparent)
	if !ok {
		return
	}
	e, said := it.Event, it.Event.Time
	from := e.Observed
	if from.IsZero() {
		from = said
	}
	attrs := []slog.Attr{
		slog.String(telemetry.AttrDomain, e.Domain), slog.String(telemetry.AttrNVA, e.NVA), slog.String("event", e.ID()), slog.String("kind", e.Kind.String()),
		slog.Int("announced", len(e.Announce)), slog.Int("withdrawn", len(e.Withdraw)),
	}
	record.Past(telemetry.Span{Name: "observe", Context: agent, Start: from, End: said, Attrs: attrs})
	queued := it.Message.EnqueuedAt
	record.Past(telemetry.Span{Name: "publish", Context: agent.Child(record.Fresh()), Parent: agent, Start: said, End: queued})
}

// noteBatch tells the record what came.
func noteBatch(ctx context.Context, batch []invocation.Message) {
	record, deliveries := telemetry.Of(ctx), 0
	for _, m := range batch {
		record.Note(telemetry.MessageIDs, m.ID)
		deliveries = max(deliveries, m.DeliveryCount)
	}
	record.Set(telemetry.Messages, len(batch))
	record.Set(telemetry.Deliveries, deliveries)
}

// noteMerged tells the record what became of a group.
func noteMerged(ctx context.Context, g *group, refused, parked int) {
	record, orders := telemetry.Of(ctx), 0
	for _, it := range g.items {
		if it.Order != nil {
			orders++
		}
		if c, ok := trace.Parse(it.Event.Traceparent); ok {
			record.Note(telemetry.Traces, c.ID())
		}
	}
	record.Note(telemetry.Domains, g.domain)
	record.Note(telemetry.NVAs, g.domain+"/"+g.nva)
	known, together := len(g.items)-orders-g.way.fresh-parked, max(0, g.way.fresh-1)
	domain, nva := slog.String(telemetry.AttrDomain, g.domain), slog.String(telemetry.AttrNVA, g.nva)
	for _, n := range []struct {
		field telemetry.Field
		count int
	}{{telemetry.Merged, g.way.fresh}, {telemetry.Known, known}, {telemetry.Refused, refused}} {
		record.Add(n.field, n.count)
		if n.count > 0 {
			record.Measure(telemetry.EventsTaken, float64(n.count), domain, nva, slog.String(telemetry.AttrResult, string(n.field)))
		}
	}
	record.Add(telemetry.Orders, orders)
	record.Add(telemetry.Coalesced, together)
	if together > 0 {
		record.Measure(telemetry.EventsCoalesced, float64(together), domain)
	}
}

// noteParked tells the record what can never be used. Whose it was is not said: names in such messages are anybody's.
func noteParked(ctx context.Context, parked []Parked) {
	record := telemetry.Of(ctx)
	record.Add(telemetry.Parked, len(parked))
	if len(parked) > 0 {
		record.Measure(telemetry.EventsTaken, float64(len(parked)), slog.String(telemetry.AttrResult, string(telemetry.Parked)))
	}
}
