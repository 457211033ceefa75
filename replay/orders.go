package replay

import (
	"fmt"
	"time"

	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

// obey takes an operator's order about a target in. It reports whether there is such a target.
func (w *world) obey(o order.Order, at time.Time) bool {
	for _, t := range w.targets {
		if t.cfg.Name == o.Target {
			if t.doc.Obey(o, at) {
				t.say(at, fmt.Sprintf("%s %s by %s", o.Kind, o.Target, o.Who))
			}
			t.news = true
			return true
		}
	}
	return false
}

// decided settles what somebody else than the domain's auto decides on, by the table of functions/reconcile/decide.go. It reports whether that is all for now.
func (t *target) decided(now time.Time) bool {
	a := &t.doc.Approval
	shown := t.doc.Pause.On || t.cfg.Apply == config.ApplyObserve
	if !shown && t.cfg.Apply != config.ApplyApprove && !a.Open() {
		return false
	}
	p, weighed, _ := t.plan(now)
	approved := a.Open() && a.Plan == p.Hash()
	if a.Open() && (!approved || t.cfg.Apply == config.ApplyObserve) {
		a.Ended, a.End = now, "void"
		t.say(now, fmt.Sprintf("the approval of plan %s by %s is void", a.Plan, a.Who))
	}
	switch {
	case p.Empty():
		t.account, t.fireAt, t.shown = coalesce.Account{}, time.Time{}, ""
		return true
	case shown, t.cfg.Apply == config.ApplyApprove && !approved:
		t.account, t.fireAt = coalesce.Account{}, time.Time{}
		t.withhold(now, p)
		return true
	case approved:
		a.Ended, a.End, t.shown = now, state.ApprovalWritten, ""
		t.send(now, p, weighed)
		return true
	}
	return false
}

// withhold says once that a plan is not written.
func (t *target) withhold(now time.Time, p plan.Plan) {
	if hash := p.Hash(); hash != t.shown {
		t.shown = hash
		t.say(now, fmt.Sprintf("plan %s is not written: %d to add, %d to change, %d to remove", hash, len(p.Added), len(p.Changed), len(p.Removed)))
	}
}
