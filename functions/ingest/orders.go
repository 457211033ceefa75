package ingest

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
	"github.com/pointsman/pointsman/shared/warrant"
)

// enqueued is when the broker accepted the item.
func (i *Ingest) enqueued(it Item) time.Time {
	if it.Message.EnqueuedAt.IsZero() {
		return i.Now()
	}
	return it.Message.EnqueuedAt
}

// ordered reports whether an operator's order is among the items.
func (g *group) ordered() bool {
	return slices.ContainsFunc(g.items, func(it Item) bool { return it.Order != nil })
}

// warrant parts a group into what may be taken in, orders as their operators signed them, and the orders that do not count.
func (i *Ingest) warrant(g *group, d *config.Domain) (warranted *group, refused []Parked) {
	if !g.ordered() {
		return g, nil
	}
	warranted = &group{domain: g.domain, nva: g.nva, target: g.target, way: g.way}
	for _, it := range g.items {
		if it.Order != nil {
			o, err := warrant.Check(it.Message.Body, d, i.enqueued(it))
			if err != nil {
				refused = append(refused, i.refuse(it, err))
				continue
			}
			it.Order = &o
		}
		warranted.items = append(warranted.items, it)
	}
	return warranted, refused
}

// refuse parks an order that does not count.
func (i *Ingest) refuse(it Item, why error) Parked {
	p := i.park(it.Message, why)
	p.order = true
	return p
}

// belated says why a signed order is refused that is older than the one that holds and was accepted after it.
func belated(it Item, id, who string) error {
	return fault.New(fault.Poison, "order %s is refused: the bus accepted it after order %s by %s, and by what was signed it is older", it.id(), id, who).
		WithAdvice("if you gave it, compare the clocks of the machines that orders are given on, and give it again; else somebody has sent an old order again")
}

// countRefused counts the orders among what is parked, against other writers. The count is for people, as the lines of the log are: they must not undo what was taken in.
func (i *Ingest) countRefused(ctx context.Context, domain string, parked []Parked) {
	orders := slices.DeleteFunc(slices.Clone(parked), func(p Parked) bool { return !p.order })
	if len(orders) == 0 {
		return
	}
	if err := i.saveRefused(ctx, domain, orders); err != nil {
		i.Log.ErrorContext(ctx, "refused orders are not counted", slog.String("domain", domain), slog.Int("orders", len(orders)), slog.Any("error", err))
	}
}

func (i *Ingest) saveRefused(ctx context.Context, domain string, orders []Parked) error {
	for range maxConflicts {
		doc, etag, err := i.Store.Orders(ctx, domain)
		if err != nil {
			return err
		}
		for _, p := range orders {
			doc.Refused = doc.Refused.And(p.At, p.Reason)
		}
		if _, err = i.Store.SaveOrders(ctx, doc, etag); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("the refused orders of domain %s change faster than they can be counted", domain)
}

// takeTarget takes operators' orders about one target in. Those that do not count are parked; for the others, the order of effects is:
//
//  1. merge them into the target's document and save it, if it still has the ETag of the read and if that changes anything;
//  2. send a wake for each order, changed or not;
//  3. add each order to the target's history, where a failure is logged and nothing else.
//
// A crash after 1 leaves the messages, which come again: the document does not change, 2 and 3 are done. So no outbox flag is needed, which a run of Reconcile that
// saves the document at the same time would have to know of. A wake has its order's id, by which a broker with duplicate detection drops the second one; people are shown
// one of two equal lines.
func (i *Ingest) takeTarget(ctx context.Context, d *config.Domain, g *group) ([]Parked, error) {
	t, known := d.Keeps(g.target)
	if !known {
		return i.parkAll(g, fault.New(fault.Poison, "the domain file %s has no target %s", g.domain, g.target).WithAdvice("correct the name, or the domain")), nil
	}
	warranted, refused := i.warrant(g, d)
	late, err := i.obey(ctx, t, warranted)
	if err != nil {
		return nil, err
	}
	refused = append(refused, late...)
	obeyed := warranted.accepted(late)
	for _, it := range obeyed {
		w := wake.Wake{Domain: d.Name, Target: t.Name, Cause: "order/" + it.Order.ID, Events: []string{it.id()}}
		if err = i.Wakes.Send(ctx, w, time.Time{}); err != nil {
			return nil, fmt.Errorf("wake %s/%s: %w", d.Name, t.Name, err)
		}
	}
	i.chronicle(ctx, obeyed, []config.Target{t})
	return refused, nil
}

// obey brings the orders into the target's document, against other writers. It returns those that are refused there.
func (i *Ingest) obey(ctx context.Context, t config.Target, g *group) (late []Parked, err error) {
	if len(g.items) == 0 {
		return nil, nil
	}
	for range maxConflicts {
		doc, etag, unread := i.Store.Target(ctx, g.domain, t)
		if unread != nil {
			return nil, unread
		}
		var changed bool
		if changed, late = i.obeyAll(doc, g); !changed {
			return late, nil
		}
		if _, err = i.Store.SaveTarget(ctx, doc, etag); !fault.Is(err, fault.Conflict) {
			return late, err
		}
	}
	return nil, fmt.Errorf("document of target %s/%s changes faster than an order can be merged", g.domain, t.Name)
}

func (i *Ingest) obeyAll(doc *state.Target, g *group) (changed bool, late []Parked) {
	for _, it := range g.items {
		at := i.enqueued(it)
		if doc.Belated(*it.Order, at) {
			id, who := doc.Pause.ID, doc.Pause.Who
			if it.Order.Kind.OfPlan() {
				id, who = doc.Approval.ID, doc.Approval.Who
			}
			late = append(late, i.refuse(it, belated(it, id, who)))
		}
		changed = doc.Obey(*it.Order, at) || changed
	}
	return changed, late
}

// chronicle tells the log of the operators' orders among the items, and the histories of the targets that they concern. The history is for people: a line that cannot be
// written must not undo an order.
func (i *Ingest) chronicle(ctx context.Context, items []Item, targets []config.Target) {
	for _, it := range items {
		if it.Order == nil {
			continue
		}
		o, at := it.Order, i.enqueued(it)
		i.Log.InfoContext(ctx, "operator's order", slog.String("domain", o.Domain), slog.String("order", o.Kind.String()), slog.String("of", o.Subject()), slog.String("plan", o.Plan),
			slog.String("who", o.Who), slog.String("why", o.Why), slog.String("id", o.ID), slog.String("operator", o.Operator), slog.Time("at", at))
		for _, t := range targets {
			line := historyLine{
				At: at, Domain: o.Domain, Target: t.Name, Order: state.Said{Kind: o.Kind.String(), NVA: o.NVA, Plan: o.Plan, ID: o.ID, Who: o.Who, Why: o.Why, Operator: o.Operator},
			}
			if err := i.Store.AppendHistory(ctx, o.Domain, t.Name, at, line); err != nil {
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
