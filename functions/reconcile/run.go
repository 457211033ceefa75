package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// run is one run of the write protocol for one target.
type run struct {
	*Reconcile
	wake    wake.Wake
	message invocation.Message
	id      string
	started time.Time
	log     *slog.Logger

	target config.Target
	doc    *state.Target // as last saved by this run
	etag   string
	wakes  uint64 // doc.Wakes when work began: more of them later means that somebody left news to us
	sent   int    // writes sent
	done   int    // writes known to be applied
	total  totals // what they changed
	full   error  // what Azure said when it refused additions: the rest of the plan is written without them
	unsure *view  // what a write wanted whose answer was lost
	late   string // the ETag that such a write rests on, if it may still arrive
	moved  bool   // one of them moved the table's ETag, so older writers' writes fail
	spent  string // the order whose approval was used up

	domain *config.Domain // as read last
	before before         // how the target stood when the result was saved

	noECMP *state.ECMPRefusal // what Azure said when it refused several next hops: each prefix gets one

	subnets []state.Subnet // what is known of the table's subnets; nil: they were not looked at

	server *config.RouteServer // nil: the target is a route table
	known  *state.RouteServer  // the run's own; what of it was saved is in doc

	ahead    bool            // what a write makes of the managed routes is saved before it is sent
	tried    []state.Record  // what this run's writes of unknown end would have made of them
	written  state.Record    // the managed routes as this run last wrote them; nil: it has not
	first    state.Record    // the managed routes as this run first read them
	repaired []outcome.Route // drifted routes that this run wrote again

	seen // what is told of the run, and decides nothing (observe.go)
}

// totals counts routes.
type totals struct{ added, changed, removed int }

// claim saves the run's intent. It is not free when another run holds the target: then that run is told that there is news.
func (x *run) claim(ctx context.Context) (free bool, _ error) {
	d, err := x.Store.Domain(ctx, x.wake.Domain)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Poison) {
		x.log.ErrorContext(ctx, "wake dropped: its domain has no valid file", slog.Any("error", err))
		return false, nil
	}
	if err != nil {
		return false, err
	}
	target, known := d.Config.Target(x.wake.Target)
	if hub, isHub := d.Config.RouteServer(x.wake.Target); isHub {
		target, known, x.server = hub.AsTarget(), true, &hub
	}
	if !known {
		x.log.WarnContext(ctx, "wake dropped: the domain file has no such target any more")
		return false, nil
	}
	x.target, x.domain, x.ahead = target, d.Config, d.Config.Policy.Drift == config.DriftReport
	if needless, looked := x.needless(ctx); looked != nil || needless {
		return false, looked
	}
	for range maxConflicts {
		free, err = x.tryClaim(ctx)
		if !fault.Is(err, fault.Conflict) {
			return free, err
		}
	}
	return false, fmt.Errorf("document of target %s changes faster than an intent can be saved", x.target.Name)
}

// tryClaim saves the intent, or the note to the run that holds the target, unless somebody else writes the document first.
func (x *run) tryClaim(ctx context.Context) (free bool, _ error) {
	doc, etag, err := x.Store.Target(ctx, x.wake.Domain, x.target)
	if err != nil || x.answered(doc) {
		return false, err
	}
	if x.early(doc) {
		return false, x.again(ctx, x.wake, throttledCause, doc.NotBefore.Sub(x.Now()), 0)
	}
	if x.wake.Hand != nil {
		doc.Touch(*x.wake.Hand)
	}
	holder, held := x.holder(doc)
	switch {
	case held:
		doc.Wakes++
		doc.Left = doc.Left.Join(x.wake.News())
	case !doc.Holds(x.id):
		doc.Intents = append(doc.Intents, state.Intent{
			Run: x.id, Wake: x.message.ID, Sequence: x.message.SequenceNumber, Since: x.started, Until: x.Now().Add(x.Lease), Ahead: x.ahead,
			Traceparent: x.span.Context().String(),
		})
	}
	if etag, err = x.Store.SaveTarget(ctx, doc, etag); err != nil {
		return false, err
	}
	if held {
		x.leave(holder)
		return false, x.guard(ctx, holder)
	}
	x.doc, x.etag, x.wakes = doc, etag, doc.Wakes
	return true, nil
}

// throttledCause marks the wake that follows when the service asked to wait.
const throttledCause = "throttled"

// early reports whether the service asked not to be called yet. The wake that was sent for that instant is never early: clocks differ.
func (x *run) early(doc *state.Target) bool {
	return x.Now().Before(doc.NotBefore) && !strings.HasPrefix(x.wake.Cause, throttledCause+"/")
}

// holder returns the intent that keeps this run away. An intent that an earlier delivery of this very message left does not: the host gives a
// message back when the handler died or its lock was lost, and the protocol is safe against an owner that lives on. The sequence number tells it from
// another message of the same id, of which there can be several where the queue does not look for duplicates.
func (x *run) holder(doc *state.Target) (state.Intent, bool) {
	for _, i := range doc.Intents {
		mine := i.Run == x.id || x.message.DeliveryCount > 1 && i.Wake == x.message.ID && i.Sequence == x.message.SequenceNumber
		if !mine && x.Now().Before(i.Until) {
			return i, true
		}
	}
	return state.Intent{}, false
}

// guardCause marks the wake that looks after a run which others left their news to.
const guardCause = "guard/"

// guard makes sure that the news left to the holder is looked at even if the holder dies. All who leave news to one run send the
// same message id: a broker with duplicate detection keeps one.
func (x *run) guard(ctx context.Context, holder state.Intent) error {
	w := x.wake
	w.Cause, w.Attempt = guardCause+holder.Run, 0
	if err := x.Wakes.Send(ctx, w, holder.Until.Add(time.Second)); err != nil {
		return fmt.Errorf("guard of %s: %w", x.target.Name, err)
	}
	x.log.DebugContext(ctx, "left to the run in flight", slog.String("run", holder.Run))
	return nil
}

// answered reports whether this is a guard whose run has ended in order: it has seen the news that was left to it.
func (x *run) answered(doc *state.Target) bool {
	id, guard := strings.CutPrefix(x.wake.Cause, guardCause)
	return guard && !doc.Holds(id)
}

// work reads, decides and writes until the table is as the documents say, or something forbids it. An error means that the documents
// could not be read or written; all that the table's service says ends in the result.
func (x *run) work(ctx context.Context) (ended, error) {
	for range maxRounds {
		e, settled, err := x.round(ctx)
		if err != nil || settled {
			return e, err
		}
	}
	return ended{Result: state.Result{Outcome: state.Failed, Message: fmt.Sprintf("the table or the documents changed during each of %d tries", maxRounds)}}, nil
}

// round is one pass through steps 2 to 6. It is settled when the answer stands.
func (x *run) round(ctx context.Context) (e ended, settled bool, err error) {
	x.rounds++
	step := x.span.Step("read")
	table, err := x.Tables.Get(ctx, x.target.RouteTable)
	step.End(err)
	if err != nil {
		x.refused(err)
		return trouble(err), true, nil
	}
	x.settle(ctx, table)
	step = x.span.Step("decide")
	v, err := x.view(ctx, table)
	x.read = x.Now()
	step.End(err)
	if err != nil {
		return e, false, err
	}
	e = ended{Result: v.result(), view: &v}
	if x.full != nil {
		e.Outcome, e.Code, e.Message = state.Refused, fault.Code(x.full), x.full.Error()
	}
	if err = x.ownSubnet(ctx, v); err != nil {
		return trouble(err), true, nil
	}
	_, _, shown := v.onlyShown()
	end, code, message, withheld := v.withheld()
	switch {
	case v.plan.Empty() && shown:
		return e, true, nil
	case v.plan.Empty():
		err = x.confirm(ctx, table)
	case withheld:
		e.withhold(end, code, message)
		return e, true, nil
	case !v.approved() && x.waits(ctx, &v):
		e.Outcome = state.Waiting
		return e, true, nil
	default:
		if err = x.own(ctx, v); err != nil {
			return e, false, err
		}
		if x.overruled(v) {
			return e, false, nil
		}
		if err = x.write(ctx, table, v.plan.Edit); err != nil && unknownEnd(err) {
			x.tried = append(x.tried, v.after())
		}
		switch {
		case err == nil:
			x.wrote(ctx, v, "")
		case fault.Is(err, fault.Transient):
			x.unsure = &v
		}
	}
	if err != nil {
		return x.failed(ctx, v, err)
	}
	same, err := x.stands(ctx, v)
	return e, same, err
}

// failed says what follows from an error of the table's service: another round where a new read can tell more.
func (x *run) failed(ctx context.Context, v view, err error) (e ended, settled bool, _ error) {
	switch fault.KindOf(err) {
	case fault.Refused:
		if fault.Code(err) == fault.CodeNoECMP && v.noECMP == nil {
			x.log.WarnContext(ctx, "routes with several next hops were refused, trying with one each", slog.Any("error", err))
			x.noECMP = &state.ECMPRefusal{At: x.Now(), Config: v.domain.ETag, Message: err.Error()}
			return e, false, nil
		}
		if x.full == nil && len(v.plan.Added) > 0 {
			// Azure's limit may be lower than the target's: a full table must not keep routes on a dead next hop.
			x.log.WarnContext(ctx, "the write was refused, trying without its additions", slog.Any("error", err))
			x.full = err
			return e, false, nil
		}
	case fault.Conflict:
		x.log.InfoContext(ctx, "the table changed while it was read, once more", slog.Any("error", err))
		return e, false, nil
	case fault.Transient:
		x.log.WarnContext(ctx, "the outcome is unknown, reading the table again", slog.Any("error", err))
		return e, false, nil
	case fault.Throttled, fault.NotFound, fault.Poison, fault.Denied, fault.Bug:
	}
	return trouble(err), true, nil
}

// confirm makes sure that "nothing to write" was true when it was decided: the ETag has not moved since. If another run left an
// intent it may still write what it decided on older documents; writing the same content moves the ETag and makes that fail.
// So may a write of this run's own that was reported lost, as long as the ETag that it rests on is there.
// Whether Azure moves the ETag then is not documented, so it is looked at: if it did not, the other run's own second read
// of the documents is what repairs a late write. A table whose last write failed is written again too: what it shows may not
// be in force.
func (x *run) confirm(ctx context.Context, table plan.Table) error {
	fence := x.doc.Others(x.id) || table.Failed || x.late == table.ETag
	if fence {
		if err := x.write(ctx, table, plan.Edit{}); err != nil {
			return err
		}
	}
	now, err := x.Tables.Get(ctx, x.target.RouteTable)
	switch {
	case err != nil:
		return fmt.Errorf("confirm: %w", err)
	case now.ETag == table.ETag:
		if fence {
			x.moved = false
		}
		return nil
	case fence:
		return nil
	}
	return fault.New(fault.Conflict, "the ETag of %s moved from %s to %s", x.target.Name, table.ETag, now.ETag)
}

func (x *run) write(ctx context.Context, table plan.Table, edit plan.Edit) error {
	x.sent++
	x.decided = x.Now()
	step := x.span.Step("write")
	err := x.Tables.Put(ctx, table, edit)
	step.End(err)
	x.put(err)
	x.drew(ctx, err)
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	x.done++
	x.moved = true
	return nil
}

// settle finds out what became of a write whose answer was lost.
func (x *run) settle(ctx context.Context, table plan.Table) {
	v := x.unsure
	x.unsure = nil
	if v == nil {
		return
	}
	if table.ETag == v.table.ETag {
		x.late = table.ETag
	}
	if table.ETag == v.table.ETag || !done(v.plan.Edit, table) {
		return
	}
	x.done++
	x.moved = true
	x.wrote(ctx, *v, table.ETag)
}

// done reports whether the table is as the edit wants it.
func done(edit plan.Edit, table plan.Table) bool {
	have := map[string]plan.Route{}
	for _, r := range table.Routes {
		have[strings.ToLower(r.Name)] = r
	}
	for _, want := range edit.Put {
		if r, found := have[strings.ToLower(want.Name)]; !found || r.Prefix != want.Prefix || !r.Leads(want.NextHops) {
			return false
		}
	}
	for _, name := range edit.Delete {
		if _, found := have[strings.ToLower(name)]; found {
			return false
		}
	}
	return true
}

// own saves the names of the routes that are about to be created. It saves even if they are owned already: that this run still holds the target
// is what keeps others from forgetting them. Where a run is to be known by its work, it saves what the write will make of the managed routes. Where there is nothing
// to save, it reads the document again: what an operator has said since, be it during an earlier write of this run, comes before the write.
func (x *run) own(ctx context.Context, v view) error {
	if len(v.plan.Added) == 0 && !x.ahead {
		return x.reread(ctx)
	}
	return x.update(ctx, func(doc *state.Target) {
		doc.Claim(v.plan.Names())
		for n, i := range doc.Intents {
			if i.Run == x.id && x.ahead {
				doc.Intents[n].Writing = append(slices.Clone(x.tried), v.after())
			}
		}
		if doc.Written == nil {
			doc.Written = x.first // so that a run after this one knows what it has added, if this one cannot say so any more
		}
	})
}

// errLost says that another run took the target over.
var errLost = errors.New("lease lost")

// update changes the target's document while this run holds it.
func (x *run) update(ctx context.Context, change func(*state.Target)) error {
	for range maxConflicts {
		change(x.doc)
		saved, err := x.Store.SaveTarget(ctx, x.doc, x.etag)
		if err == nil {
			x.etag = saved
			return nil
		}
		if !fault.Is(err, fault.Conflict) {
			return err
		}
		if err = x.reread(ctx); err != nil {
			return err
		}
	}
	return fmt.Errorf("document of target %s changes faster than it can be saved", x.target.Name)
}

// reread takes the target's document up as it is now, if this run still holds it. After an error the run keeps the document that it has.
func (x *run) reread(ctx context.Context) error {
	doc, etag, err := x.Store.Target(ctx, x.wake.Domain, x.target)
	if err != nil {
		return err
	}
	if etag != x.etag {
		x.doc, x.etag = doc, etag
	}
	if !x.doc.Holds(x.id) {
		return fault.New(fault.Transient, "run %s on target %s: %w", x.id, x.target.Name, errLost)
	}
	return nil
}

// stands reports whether the documents still lead to the same answer.
func (x *run) stands(ctx context.Context, v view) (same bool, err error) {
	step := x.span.Step("look again")
	defer func() { step.End(nil) }()
	d, err := x.Store.Domain(ctx, x.wake.Domain)
	if err != nil {
		return false, err
	}
	docs, err := x.Store.NVAs(ctx, d.Config)
	if err != nil {
		return false, err
	}
	standing, err := x.standing(ctx, d.Config)
	if err != nil {
		return false, err
	}
	return v.stands(d, docs, standing), nil
}

// trouble turns what the table's service answered into an end.
func trouble(err error) ended {
	e := ended{Result: state.Result{Outcome: state.Failed, Code: fault.Code(err), Message: err.Error()}, retry: fault.RetryAfter(err)}
	switch fault.KindOf(err) {
	case fault.Throttled:
		e.Outcome = state.Throttled
		if e.Code == fault.CodeBusy {
			e.Outcome = state.Busy
		}
	case fault.Denied, fault.NotFound:
		e.Outcome = state.Denied
	case fault.Refused:
		e.Outcome = state.Refused
	case fault.Transient, fault.Conflict, fault.Poison, fault.Bug:
	}
	return e
}
