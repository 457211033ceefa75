package reconcile

import (
	"context"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/shared/budget"
	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
)

// When writes run short, dead next hops go first: a change that leaves one asks nobody. Any other asks what is left, in this order:
//
//  1. what the service told this process with its last answer to a write (Meter);
//  2. what any process noted in the subscription's document, if it did while the bucket was short;
//  3. a note, by compare-and-swap, if 1 is worth telling the others: the bucket is below half, and not as 2 has it. Whoever loses the race leaves it to the winner;
//  4. the write, or the wait.
//
// After a write 1 to 3 are done again, and a refused one is noted in any case. All this is advice: a document that cannot be read or written delays nothing and
// costs at most a refused write. While there is plenty nothing is ever written.

// allowance is what is left in the subscriptions that a target's change draws on: its own, or those of all tables of its group, which must wait alike.
type allowance struct {
	budgets []*budget.Budget
	turn    budget.Turn // but for when the change began to wait
}

// allowance finds out what is left.
func (x *run) allowance(ctx context.Context, d *config.Domain) allowance {
	members, name := []config.Target{x.target}, x.target.Name
	if g, grouped := d.GroupOf(x.target.Name); grouped {
		members, name = d.Members(g), g.Name
	}
	out := allowance{turn: budget.Turn{Name: d.Name + "/" + name}}
	asked := map[string]bool{}
	for _, m := range members {
		if s := m.Subscription(); s != "" && !asked[s] {
			asked[s] = true
			out.budgets = append(out.budgets, x.left(ctx, s, nil))
		}
	}
	for _, t := range d.Targets {
		if asked[t.Subscription()] {
			out.turn.Others++
		}
	}
	return out
}

// price is the factor of a write's price.
func (l allowance) price(now time.Time) float64 {
	p := 1.0
	for _, b := range l.budgets {
		p = max(p, b.Price(now))
	}
	return p
}

// later says when the change may be written: at the view's fireAt, or later.
func (l allowance) later(v *view, c coalesce.Change) time.Time {
	turn, at := l.turn, v.fireAt
	turn.Since, turn.Part = v.account.Since, c.Weight()/float64(max(1, len(v.installed)+len(v.plan.Added)))
	if v.fellows.group.Name != "" {
		turn.Part = 1 // the tables of a group have one turn, whatever each has to change
	}
	for _, b := range l.budgets {
		if t := b.Defer(v.fireAt, turn, v.at); t.After(at) {
			at = t
		}
	}
	return at
}

// drew notes what a write has drawn, or that it was refused because a quota is used up.
func (x *run) drew(ctx context.Context, err error) {
	s := x.target.Subscription()
	if s == "" {
		return
	}
	if fault.Is(err, fault.Throttled) && fault.Code(err) != fault.CodeBusy {
		until := x.Now().Add(orElse(fault.RetryAfter(err), throttledWait))
		x.left(ctx, s, func(b *budget.Budget) bool { return b.Refuse(until) })
		return
	}
	if n, at, known := x.said(s); known {
		if full := budget.New(s); full.Said(n, at) {
			x.left(ctx, s, nil)
		}
	}
}

// said is what the service told this process.
func (x *run) said(subscription string) (n int, at time.Time, known bool) {
	if x.Meter == nil {
		return 0, time.Time{}, false
	}
	return x.Meter.Writes(subscription)
}

// left returns what is left in a subscription, and tells the others if that is worth it, or if what was learned is.
func (x *run) left(ctx context.Context, subscription string, learn func(*budget.Budget) bool) *budget.Budget {
	b, etag, err := x.Store.Budget(ctx, subscription)
	if err != nil {
		x.log.WarnContext(ctx, "what is left of the quota is not known", slog.Any("error", err))
		b, etag = budget.New(subscription), ""
	}
	worth := false
	if n, at, known := x.said(subscription); known {
		worth = b.Said(n, at)
	}
	if learn != nil && learn(b) {
		worth = true
	}
	if !worth || err != nil {
		return b
	}
	switch _, err = x.Store.SaveBudget(ctx, b, etag); {
	case err == nil:
		x.log.WarnContext(ctx, "writes run short: dead next hops first", slog.String("subscription", subscription), slog.Int("left", b.Left), slog.Int("capacity", b.Capacity), slog.Time("until", b.Until))
	case fault.Is(err, fault.Conflict): // somebody else has told them
	default:
		x.log.WarnContext(ctx, "the other instances are not told what is left of the quota", slog.Any("error", err))
	}
	return b
}
