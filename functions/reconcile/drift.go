package reconcile

import (
	"context"
	"log/slog"
	"slices"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/drift"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

// A managed route that is not as it was last written has drifted: another hand changed it. What was last written is in the target's document;
// it is recorded with the result of a run, and once before the first write of all. Writes whose end nobody recorded are no other hand's work:
//
//   - of this run, and of a run that ended without knowing: it is known what they would have made of the managed routes (tried, Maybe);
//   - of a run that died: its intent is still there. Where the domain wants to hear of drift, a run saves what it is about to write in its
//     intent before each write. Elsewhere it does not, to spare the write of the table one of the document; until such an intent is fenced or
//     gone, nothing is called drift.

// drifted returns the managed routes that another hand has changed since they were last written.
func (x *run) drifted(t plan.Table, rules plan.Rules) []state.Drift {
	maybe := slices.Concat(x.doc.Maybe, x.tried)
	for _, i := range x.doc.Intents {
		switch {
		case i.Run == x.id || i.Fenced:
		case !i.Ahead:
			return nil
		default:
			maybe = append(maybe, i.Writing...)
		}
	}
	last := x.doc.Written
	if x.written != nil {
		last = x.written
	}
	return drift.Find(t, rules, last, maybe...)
}

// hold makes the plan, without the drifted routes where the domain wants to hear of them before they are undone.
func (x *run) hold(v *view, wants []plan.Want) plan.Plan {
	if x.first == nil {
		x.first = drift.Read(v.table, v.rules)
	}
	v.drift = x.drifted(v.table, v.rules)
	p, held := drift.Plan(v.table, wants, v.rules, v.drift, v.domain.Config.Policy.Drift == config.DriftRepair)
	v.held = held
	return p
}

// noteWrite remembers what a write of this run, known to be applied, has made of the managed routes.
func (x *run) noteWrite(ctx context.Context, v view) {
	x.written = v.after()
	if len(v.held) > 0 || len(v.drift) == 0 {
		return
	}
	now := x.written.Hops()
	for _, d := range v.drift {
		if now[d.Prefix] != d.Found {
			x.repaired = append(x.repaired, outcome.Route{Prefix: d.Prefix, Before: d.Wrote, Found: d.Found, After: now[d.Prefix]})
		}
	}
	x.log.WarnContext(ctx, "managed routes were changed by another hand and are written again", slog.Int("routes", len(v.drift)), slog.String("first", v.drift[0].String()))
}

// unknownEnd reports whether a write that failed so may yet have been applied, or be on its way.
func unknownEnd(err error) bool {
	switch fault.KindOf(err) {
	case fault.Denied, fault.Refused, fault.Throttled, fault.NotFound, fault.Poison:
		return false
	case fault.Conflict: // 412 came before the write, "superseded" after it
		return !preconditionCode(fault.Code(err))
	case fault.Transient, fault.Bug:
	}
	return true
}

// remember records what the managed routes are as far as this run has written or seen them.
func (x *run) remember(doc *state.Target, e ended) {
	if e.view == nil || e.Outcome.Unwritten() {
		if x.written != nil {
			doc.Written = x.written
		}
		doc.Maybe = append(doc.Maybe, x.tried...)
		doc.Maybe = doc.Maybe[max(0, len(doc.Maybe)-maxRounds):] // a table that fails and fails again must not fill the document
		return
	}
	doc.Written, doc.Maybe = e.view.after(), nil
}

// after is what the plan makes of the managed routes.
func (v view) after() state.Record { return drift.After(v.table, v.rules, v.plan.Edit, v.held) }

// drifts returns those that are still there when the run ends, with when and by whom as far as that is known.
func (x *run) drifts(doc *state.Target, e ended) (now, fresh []state.Drift) {
	left := e.view.held
	if e.Outcome.Unwritten() {
		left = e.view.drift
	}
	for _, d := range left {
		d.Since, d.Hands = e.At, doc.Hands
		known := false
		for _, old := range doc.Drifted {
			if known = d.Same(old); known {
				d = old
				break
			}
		}
		if !known {
			fresh = append(fresh, d)
		}
		now = append(now, d)
	}
	return now, fresh
}

// heldWarnings says what is left as another hand made it.
func (v view) heldWarnings() []string {
	var out []string
	for _, d := range v.held {
		out = append(out, "another hand changed a managed route, and it stays so (policy.drift: report): "+d.String())
	}
	return shorten(out)
}
