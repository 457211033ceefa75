package reconcile

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/functions/outbox"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// What the outside is told of a run. The order of effects, after step 7 of the write protocol has saved the result, and the events with it:
//
//  8. send the follow-ups;
//  9. send the events that the document holds, this run's and older ones, to the topic, for a few seconds at most;
//  10. take those that the topic has out of the document.
//
// A crash after 7 leaves the events in the document, where the next run finds them; a crash after 9 sends them again, with the same ids.
// Nothing but the events themselves waits for the topic: no route does, and no other run, as the intent is gone by then.

// tell puts into the document what the result is worth telling. It goes by the document as it was before the result.
func (x *run) tell(doc *state.Target, e ended) {
	before := doc.Written
	if before == nil {
		before = x.first
	}
	x.remember(doc, e)
	hands := doc.Hands
	found, condition := x.found(doc, e), x.condition(doc, e)
	if x.Topic == nil {
		return
	}
	var events []outcome.Event
	if d := x.changed(before, doc.Written, e); len(d.Routes) > 0 {
		events = append(events, x.event(outcome.RouteChanged, e, d))
	}
	if len(x.repaired) > 0 {
		d := x.data(e)
		d.Routes, d.Hands = x.repaired, hands
		events = append(events, x.event(outcome.DriftRepaired, e, d))
	}
	doc.Outcomes.Put(slices.Concat(events, found, condition)...)
}

// found keeps the document's list of drifted routes, and tells of new ones that stay as they are.
func (x *run) found(doc *state.Target, e ended) []outcome.Event {
	if e.view == nil {
		return nil
	}
	now, fresh := x.drifts(doc, e)
	hands := doc.Hands
	doc.Drifted = now
	if !e.Outcome.Unwritten() {
		doc.Hands = nil
	}
	if len(fresh) == 0 || len(e.view.held) == 0 {
		return nil
	}
	d := x.data(e)
	d.Hands = hands
	for _, f := range fresh {
		d.Routes = append(d.Routes, outcome.Route{Prefix: f.Prefix, Before: f.Wrote, Found: f.Found, After: f.Found})
	}
	return []outcome.Event{x.event(outcome.DriftFound, e, d)}
}

// condition tells that trouble has begun or ended.
func (x *run) condition(doc *state.Target, e ended) []outcome.Event {
	was, now := doc.Told, doc.Told
	if e.view != nil {
		now.Frozen = e.view.selected.Live.Frozen
	}
	switch e.Outcome {
	case state.Denied, state.Refused, state.Failed:
		now.Failed = e.Outcome.String()
		if e.Code != "" {
			now.Failed += " " + e.Code
		}
	case state.Written, state.Unchanged:
		now.Failed = ""
	case state.Waiting, state.Observed, state.Held, state.Busy, state.Throttled: // these pass by themselves, or a person knows
	}
	trouble, troubled := now.Frozen || now.Failed != "", was.Frozen || was.Failed != ""
	switch {
	case !trouble:
		now.Since = time.Time{}
	case !troubled:
		now.Since = e.At
	}
	doc.Told = now
	if now.Frozen == was.Frozen && now.Failed == was.Failed {
		return nil
	}
	var events []outcome.Event
	d := x.data(e)
	d.Outcome, d.Code, d.Message, d.Since = e.Outcome.String(), e.Code, e.Message, now.Since
	if now.Frozen && !was.Frozen {
		still := d
		still.Outcome, still.Code, still.Message = "", "", frozen(e.view.selected.Live)
		events = append(events, x.event(outcome.TargetFrozen, e, still))
	}
	if now.Failed != "" && now.Failed != was.Failed {
		events = append(events, x.event(outcome.TargetFailed, e, d))
	}
	if troubled && !trouble {
		d.Before, d.Since = was.Failed, was.Since
		if was.Frozen {
			d.Before = "frozen"
		}
		events = append(events, x.event(outcome.TargetRecovered, e, d))
	}
	return events
}

// changed is the difference between two records.
func (x *run) changed(before, after state.Record, e ended) outcome.Data {
	d := x.data(e)
	was, is := before.Hops(), after.Hops()
	all := maps.Clone(was)
	maps.Copy(all, is)
	for _, p := range slices.SortedFunc(maps.Keys(all), route.Compare) {
		r := outcome.Route{Prefix: p, Before: was[p], After: is[p]}
		switch {
		case r.Before == r.After:
			continue
		case r.Before == "":
			d.Added++
		case r.After == "":
			d.Removed++
		default:
			d.Changed++
		}
		d.Routes = append(d.Routes, r)
	}
	return d
}

// data is what all events of a run have.
func (x *run) data(e ended) outcome.Data {
	return outcome.Data{
		Domain: x.wake.Domain, Target: x.target.Name, Table: x.target.RouteTable, Run: x.id, Cause: e.Cause, Events: e.Events, Observed: x.news().Observed,
	}
}

func (x *run) event(k outcome.Kind, e ended, d outcome.Data) outcome.Event {
	return outcome.OfTarget(k, x.id, e.At, x.wake.Traceparent, d)
}

// publish sends what the document holds: steps 9 and 10.
func (x *run) publish(ctx context.Context) {
	if x.Topic == nil || len(x.doc.Outcomes.Events) == 0 {
		return
	}
	x.log.DebugContext(ctx, "telling the outside", slog.Int("events", len(x.doc.Outcomes.Events)))
	outbox.Post(ctx, x.Topic, x.log, outbox.OfTarget(x.Store, x.wake.Domain, x.target))
}
