// Package reconcile brings one target to what the NVAs' documents say, by the write protocol of docs/write-protocol.md.
package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/outbox"
	"github.com/pointsman/pointsman/shared/budget"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// Store is where the documents are: linearizable, so that a read that begins after a write has ended sees it. SaveTarget answers
// fault.Conflict when somebody else wrote first.
type Store interface {
	Domain(ctx context.Context, name string) (documents.Domain, error)
	NVAs(ctx context.Context, d *config.Domain) (map[string]*state.NVA, error)
	Target(ctx context.Context, domain string, t config.Target) (doc *state.Target, etag string, err error)
	SaveTarget(ctx context.Context, doc *state.Target, etag string) (newETag string, err error)
	Budget(ctx context.Context, subscription string) (doc *budget.Budget, etag string, err error)
	SaveBudget(ctx context.Context, doc *budget.Budget, etag string) (newETag string, err error)
	AppendHistory(ctx context.Context, domain, target string, at time.Time, line any) error
}

// Tables reads and writes route tables.
//
// Get is never answered from a cache. Put writes the whole table in one conditional request: everything as it was read but for the edit, and
// only if the table still has table.ETag (else fault.Conflict). It returns when the operation has ended. After an error the table
// may or may not have been written: an operation can fail or be superseded after it was accepted.
type Tables interface {
	Get(ctx context.Context, id string) (plan.Table, error)
	Put(ctx context.Context, table plan.Table, edit plan.Edit) error
}

// Meter says how many writes the service last said were left in a subscription, and when; known is false if it has not said so yet.
type Meter interface {
	Writes(subscription string) (left int, at time.Time, known bool)
}

// Wakes sends a wake, to be delivered at once or at a time. It returns nil only when the broker has it; sending twice is harmless.
type Wakes interface {
	Send(ctx context.Context, w wake.Wake, at time.Time) error
}

// Reconcile is the function. All fields but Meter, Topic, Subnets, Peers and Learned are needed.
type Reconcile struct {
	Store  Store
	Tables Tables
	Meter  Meter // nil: only refused writes tell that a quota runs short
	Wakes  Wakes
	Topic  outbox.Topic // gets outcome events; nil: nothing is told to the outside
	Now    func() time.Time
	NewRun func() string // a name for one run, never the same twice
	Lease  time.Duration // how long an intent keeps others away
	Log    *slog.Logger
	// Subnets keeps tables of the NVAs' own subnets from being written; nil: no table is refused for that.
	Subnets Subnets
	// Peers and Learned keep Route Servers; nil: none is kept.
	Peers   Peers
	Learned Learned
}

const (
	maxRounds    = 5  // reads of the table in one run, before it is left to a later one
	maxConflicts = 50 // tries of one document against other writers
)

// Waits until the next try, where the service names none.
const (
	busyWait      = 5 * time.Second
	throttledWait = 30 * time.Second
	retryFirst    = 2 * time.Second
	retryMost     = time.Minute
)

// Handle reconciles the target that the message names. An error gives the message back to the broker; it is returned only when the
// follow-up could not be put on the bus either.
func (r *Reconcile) Handle(ctx context.Context, m invocation.Message) error {
	w, err := wake.Decode(m.Body)
	if err != nil {
		r.Log.WarnContext(ctx, "wake dropped", slog.String("id", m.ID), slog.Any("error", err))
		return nil
	}
	return r.Look(ctx, w, m)
}

// Look is Handle for a message that was read already.
func (r *Reconcile) Look(ctx context.Context, w wake.Wake, m invocation.Message) error {
	noteMessage(ctx, w, m)
	log := r.Log.With(slog.String("domain", w.Domain), slog.String("target", w.Target), slog.String("cause", w.Cause))
	err := r.reconcile(ctx, w, m, log)
	if err == nil {
		return nil
	}
	// The documents could not be read or written. The next try is a message of its own, because the host would give this one
	// back at once and without a pause.
	log.ErrorContext(ctx, "reconcile failed", slog.String("kind", fault.KindOf(err).String()), slog.Any("error", err))
	if again := r.again(ctx, w, "retry", backOff(w.Attempt), w.Attempt+1); again != nil {
		return errors.Join(err, again)
	}
	return nil
}

// reconcile runs the write protocol. The order of effects:
//
//  1. save the intent in the target's document (one writer at a time; a lost lease stays safe);
//  2. read the table with its ETag;
//  3. read the NVAs' documents, after the table: whoever wrote a newer table has read its documents before, so these are as new;
//  4. select and plan; refuse the table of an NVA's own subnet, and leave a plan alone that somebody else decides on (decide.go);
//  5. nothing to write: read the ETag again, or write the same content if another run left an intent, so that its late write fails;
//     something to write: save the names of new routes as owned, or read the target's document again, then ONE conditional write of the whole table;
//  6. read the documents again: if the answer is another one now, go to 2;
//  7. save the result and take the intent back, then send what must be looked at later. A target of a group looks at the others then
//     (group.go). What the outside is told comes after that (outcome.go). The message is completed last, by the host.
//
// Of a Route Server, steps 2 to 6 are others (routeserver.go). What is known of the quota is noted beside this, before a write that may wait for it and after one that drew on it (shortage.go). A crash leaves an
// intent that runs out and a message that comes again.
func (r *Reconcile) reconcile(ctx context.Context, w wake.Wake, m invocation.Message, log *slog.Logger) error {
	x := &run{Reconcile: r, wake: w, message: m, id: r.NewRun(), started: r.Now(), log: log}
	x.observe(ctx)
	err := x.protocol(ctx)
	x.account(err)
	return err
}

// protocol is reconcile's steps 1 to 7.
func (x *run) protocol(ctx context.Context) error {
	step := x.span.Step("claim")
	free, err := x.claim(ctx)
	step.End(err)
	if err != nil || !free {
		return err
	}
	for done := false; !done && err == nil; {
		var e ended
		work := x.work
		if x.server != nil {
			work = x.serve
		}
		if e, err = work(ctx); err != nil {
			return errors.Join(err, x.release(ctx))
		}
		step = x.span.Step("save")
		done, err = x.finish(ctx, e)
		step.End(err)
	}
	return err
}

// again puts a follow-up wake on the bus.
func (r *Reconcile) again(ctx context.Context, w wake.Wake, why string, wait time.Duration, attempt int) error {
	return r.againAt(ctx, w, why, r.Now().Add(wait), attempt)
}

func (r *Reconcile) againAt(ctx context.Context, w wake.Wake, why string, at time.Time, attempt int) error {
	w.Cause, w.Attempt = fmt.Sprintf("%s/%d", why, at.UnixMilli()), attempt
	if err := r.Wakes.Send(ctx, w, at); err != nil {
		return fmt.Errorf("follow-up of %s/%s: %w", w.Domain, w.Target, err)
	}
	return nil
}

// backOff doubles with every failed attempt.
func backOff(attempt int) time.Duration {
	return min(retryFirst<<min(attempt, 10), retryMost)
}
