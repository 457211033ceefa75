package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/group"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// longestRun bounds a run: an intent that ran out longer ago than this belongs to no living one.
const longestRun = 10 * time.Minute

// longRun is the share of its lease, 5 s of 30 s, after which a run hands over what it is left.
const longRun = 6

// ended is how a run of the protocol ended.
type ended struct {
	state.Result
	view   *view   // nil where the table or the documents could not be read, or the table not be written
	server *server // of a Route Server
	retry  time.Duration
}

// finish saves the result and takes the intent back. It is not done when news was left to this run meanwhile, or when another run began that this
// one did not know of when it found nothing to write: then it must look again. A run that has gone on for long hands the news over to a run of its own instead: in a
// storm there is always news, and a host that ends waits ten seconds for a run before it kills it. The wake for that run is sent after the intent was taken back; a run
// that dies in between has not completed its own message, which comes again.
func (x *run) finish(ctx context.Context, e ended) (done bool, err error) {
	e.At, e.Duration, e.Cause, e.Events = x.Now(), x.Now().Sub(x.started).Seconds(), x.wake.Cause, x.news().Events
	e.Added, e.Changed, e.Removed = x.total.added, x.total.changed, x.total.removed
	if e.Outcome == state.Unchanged && x.total != (totals{}) {
		e.Outcome = state.Written // by an earlier pass of this run
	}
	seen, known := x.wakes, x.doc.Intents
	news, handOver, left := false, false, wake.News{}
	err = x.update(ctx, func(doc *state.Target) {
		unknown := e.view != nil && newcomer(doc.Intents, known)
		news, handOver = x.heed(doc.Wakes != seen, unknown)
		if left = doc.Left; news {
			x.wakes = doc.Wakes
			x.adopted, doc.Left = x.adopted.Join(doc.Left), wake.News{}
			return
		}
		x.record(doc, e)
	})
	if errors.Is(err, errLost) {
		x.log.WarnContext(ctx, "another run took the target over; leaving the rest to it")
		return true, x.again(ctx, x.wake, "lost", 0, x.wake.Attempt)
	}
	if err != nil || news {
		return false, err
	}
	x.result = e
	x.report(ctx, e)
	err = errors.Join(x.followUp(ctx, e), x.agree(ctx))
	if handOver {
		err = errors.Join(err, x.again(ctx, x.wake.With(left), "handover", 0, 0))
	}
	if e.server != nil {
		err = errors.Join(err, e.server.lookOn(ctx))
	}
	x.publish(ctx)
	return true, err
}

// heed says what follows from news that were left to this run, and from a run that this one did not know of: it looks again, or hands the news over.
// An unknown run is always looked after here, because what this run has found may not stand.
func (x *run) heed(left, unknown bool) (again, handOver bool) {
	handOver = left && !unknown && x.Now().Sub(x.started) > x.Lease/longRun
	return (left || unknown) && !handOver, handOver
}

// newcomer reports whether a run left its intent that is not among those known. It may have read older documents after this run read its
// own, and may still write them: "nothing to write" moves no ETag, so only a fence or a newer answer stops it.
func newcomer(now, known []state.Intent) bool {
	return slices.ContainsFunc(now, func(i state.Intent) bool {
		return !slices.ContainsFunc(known, func(k state.Intent) bool { return k.Run == i.Run })
	})
}

// record writes the result into the document.
func (x *run) record(doc *state.Target, e ended) {
	doc.Intents = slices.DeleteFunc(slices.Clone(doc.Intents), func(i state.Intent) bool {
		return i.Run == x.id || x.moved && i.Since.Before(x.started) || x.Now().After(i.Until.Add(longestRun))
	})
	for n := range doc.Intents {
		doc.Intents[n].Fenced = doc.Intents[n].Fenced || x.done > 0 && doc.Intents[n].Since.Before(x.started)
	}
	x.tell(doc, e)
	x.before = before{view: doc.View, hindered: group.Hindered(doc)}
	news := x.news()
	doc.Left = wake.News{}
	doc.Note(e.Result)
	doc.Writes += uint64(x.done)
	doc.FireAt, doc.NotBefore = time.Time{}, time.Time{}
	if e.wait() > 0 {
		doc.NotBefore = e.At.Add(e.wait())
	}
	if e.view != nil || x.done > 0 { // else nothing was decided or written: the staleness gathered so far still counts
		doc.Pending = nil
	}
	x.decide(doc, e)
	if x.subnets != nil {
		doc.Subnets = x.subnets
	}
	if e.server != nil {
		e.server.record(doc, e)
	}
	if e.view == nil {
		return
	}
	if x.full == nil { // else it may have been the additions that were refused
		doc.NoECMP = e.view.noECMP
	}
	if e.Outcome == state.Waiting {
		a := e.view.account
		doc.Pending, doc.FireAt = &state.Pending{Since: a.Since, At: a.At, Accrued: a.Accrued, Weight: a.Weight, News: news}, e.view.fireAt
	}
	if e.Outcome.Unwritten() {
		return
	}
	doc.Applied = e.view.revisions
	if reached := e.Outcome == state.Written || e.Outcome == state.Unchanged; reached && e.view.apart() == 0 {
		doc.Reach(e.view.id, e.At)
	}
	doc.Carried = e.view.carried()
	// Another run may have claimed names for a write that is still on its way: then a later run forgets those that nobody uses.
	// So is a name of a route that stays as another hand left it: it may be put back.
	if doc == e.view.doc && len(doc.Intents) == 0 && len(e.view.held) == 0 {
		doc.Disown(e.view.kept())
	}
}

// carried says who carries what, and why: one entry for each set of next hops and reason, in the order of their first prefix.
func (v view) carried() []state.Carried {
	var out []state.Carried
	at := map[[3]string]int{}
	for _, c := range v.selected.Choices {
		why := v.selected.Because(c)
		key := [3]string{c.NextHops.String(), strings.Join(c.NVAs, ","), why}
		i, known := at[key]
		if !known {
			i = len(out)
			at[key] = i
			out = append(out, state.Carried{NVAs: c.NVAs, NextHops: c.NextHops.Addrs(), Why: why})
		}
		out[i].Prefixes = append(out[i].Prefixes, c.Prefix)
	}
	return out
}

// kept returns the names, in lower case, of the managed routes that the table holds after the plan.
func (v view) kept() map[string]bool {
	out := map[string]bool{}
	for _, r := range v.table.Routes {
		if v.rules.Managed(r) {
			out[strings.ToLower(r.Name)] = true
		}
	}
	for _, r := range v.plan.Edit.Put {
		out[strings.ToLower(r.Name)] = true
	}
	for _, name := range v.plan.Edit.Delete {
		delete(out, strings.ToLower(name))
	}
	return out
}

// report tells the log what a person should look at; the rest is in the line of the invocation.
func (x *run) report(ctx context.Context, e ended) {
	x.tellDecision(ctx, e)
	for _, w := range e.Warnings {
		x.log.WarnContext(ctx, "look at this target", slog.String("warning", w))
	}
}

// wrote counts the routes of a write and adds it to the history. The history is for people: a line that cannot be written must not undo a route.
// etagAfter is the table's ETag if it was read since; the answer to a write does not have it.
func (x *run) wrote(ctx context.Context, v view, etagAfter string) {
	x.spend(v)
	x.total.added += len(v.plan.Added)
	x.total.changed += len(v.plan.Changed)
	x.total.removed += len(v.plan.Removed)
	x.noteWrite(ctx, v)
	if err := x.Store.AppendHistory(ctx, x.wake.Domain, x.target.Name, x.Now(), x.historyLine(v, etagAfter)); err != nil {
		x.log.ErrorContext(ctx, "the history lacks a line", slog.Any("error", err))
	}
}

// followUp asks for another look where time alone will change the answer. What only a person can change is looked at again by the sweep.
func (x *run) followUp(ctx context.Context, e ended) error {
	switch e.Outcome {
	case state.Busy, state.Throttled:
		return x.again(ctx, x.wake, throttledCause, e.At.Add(e.wait()).Sub(x.Now()), 0)
	case state.Failed:
		return x.again(ctx, x.wake, "retry", backOff(x.wake.Attempt), x.wake.Attempt+1)
	case state.Waiting:
		if e.view == nil { // for an operation on a peer (lookOn)
			return nil
		}
		return x.again(ctx, x.wake, "due", e.view.fireAt.Sub(x.Now()), 0)
	case state.Written, state.Unchanged, state.Refused, state.Observed, state.Held:
		if e.view != nil && !e.view.selected.NextLook.IsZero() {
			return x.together(ctx, "hold-down", e.view.selected.NextLook)
		}
	case state.Denied:
	}
	return nil
}

// wait is how long the service asked not to be called for this target; zero where it did not.
func (e ended) wait() time.Duration {
	switch e.Outcome {
	case state.Busy:
		return orElse(e.retry, busyWait)
	case state.Throttled:
		return orElse(e.retry, throttledWait)
	case state.Written, state.Unchanged, state.Waiting, state.Denied, state.Refused, state.Failed, state.Observed, state.Held:
	}
	return 0
}

func orElse(d, otherwise time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return otherwise
}

// release takes the intent back after an error, as far as that is possible: if it is not, the lease runs out.
func (x *run) release(ctx context.Context) error {
	err := x.update(ctx, func(doc *state.Target) {
		doc.Intents = slices.DeleteFunc(doc.Intents, func(i state.Intent) bool { return i.Run == x.id && x.sent == 0 })
	})
	if err != nil {
		return fmt.Errorf("take the intent back: %w", err)
	}
	return nil
}
