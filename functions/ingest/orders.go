package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// enqueued is when the broker accepted the item.
func (i *Ingest) enqueued(it item) time.Time {
	if it.message.EnqueuedAt.IsZero() {
		return i.Now()
	}
	return it.message.EnqueuedAt
}

// takeTarget takes operators' orders about one target in. The order of effects:
//
//  1. merge them into the target's document and save it, if it still has the ETag of the read and if that changes anything;
//  2. send a wake for each order, changed or not;
//  3. add each order to the target's history, where a failure is logged and nothing else.
//
// A crash after 1 leaves the messages, which come again: the document does not change, 2 and 3 are done. So no outbox flag is needed, which a run of Reconcile that
// saves the document at the same time would have to know of. A wake has its order's id, by which a broker with duplicate detection drops the second one; people are shown
// one of two equal lines.
func (i *Ingest) takeTarget(ctx context.Context, d *config.Domain, g *group) ([]Parked, error) {
	t, known := d.Target(g.target)
	if !known {
		return i.parkAll(g, fault.New(fault.Poison, "the domain file %s has no target %s", g.domain, g.target).WithAdvice("correct the name, or the domain")), nil
	}
	if err := i.obey(ctx, t, g); err != nil {
		return nil, err
	}
	for _, it := range g.items {
		m, err := wake.Wake{Domain: d.Name, Target: t.Name, Cause: "order/" + it.order.ID, Events: []string{it.id()}}.Message()
		if err != nil {
			return nil, fmt.Errorf("wake %s/%s: %w", d.Name, t.Name, err)
		}
		if err = i.Wakes.Send(ctx, m, time.Time{}); err != nil {
			return nil, fmt.Errorf("wake %s/%s: %w", d.Name, t.Name, err)
		}
	}
	i.chronicle(ctx, g, []config.Target{t})
	return nil, nil
}

// obey brings the orders into the target's document, against other writers.
func (i *Ingest) obey(ctx context.Context, t config.Target, g *group) error {
	for range maxConflicts {
		doc, etag, err := i.Store.Target(ctx, g.domain, t)
		if err != nil {
			return err
		}
		changed := false
		for _, it := range g.items {
			changed = doc.Obey(*it.order, i.enqueued(it)) || changed
		}
		if !changed {
			return nil
		}
		if _, err = i.Store.SaveTarget(ctx, doc, etag); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("document of target %s/%s changes faster than an order can be merged", g.domain, t.Name)
}

// chronicle tells the log of the operators' orders in the group, and the histories of the targets that they concern. The history is for people: a line that cannot be
// written must not undo an order.
func (i *Ingest) chronicle(ctx context.Context, g *group, targets []config.Target) {
	for _, it := range g.items {
		if it.order == nil {
			continue
		}
		o, at := it.order, i.enqueued(it)
		i.Log.InfoContext(ctx, "operator's order", slog.String("domain", o.Domain), slog.String("order", o.Kind.String()), slog.String("of", o.Subject()), slog.String("plan", o.Plan),
			slog.String("who", o.Who), slog.String("why", o.Why), slog.String("id", o.ID), slog.Time("at", at))
		for _, t := range targets {
			line, err := json.Marshal(historyLine{
				At: at, Domain: o.Domain, Target: t.Name, Order: state.Said{Kind: o.Kind.String(), NVA: o.NVA, Plan: o.Plan, ID: o.ID, Who: o.Who, Why: o.Why},
			})
			if err == nil {
				err = i.Store.AppendHistory(ctx, o.Domain, t.Name, at, line)
			}
			if err != nil {
				i.Log.ErrorContext(ctx, "the history lacks an order", slog.String("target", t.Name), slog.String("id", o.ID), slog.Any("error", err))
			}
		}
	}
}

// historyLine is one order in the history of a target.
type historyLine struct {
	At     time.Time  `json:"at"`
	Domain string     `json:"domain"`
	Target string     `json:"target"`
	Order  state.Said `json:"order"`
}
