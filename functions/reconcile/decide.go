package reconcile

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

// Who decides whether a plan is written: the domain file (auto, observe, or approve), an operator who paused the target, or one who approved this very plan.
//
//	paused  apply    approved | outcome          requests that could change the table
//	yes     -        -        | observed         none
//	no      observe  -        | observed         none
//	no      approve  no       | held             none while there is a plan; without one, those of a fence, which write the content that is there
//	no      approve  yes      | as with auto     the plan of that hash, at once
//	no      auto     -        | written, …       any plan; an override lets the guards of shares pass one, at once
//
// An approval that is open when the view is made, and names another plan, is void when the result is saved: the table and the documents were read after it was
// given, or their change will wake the target again.

// The codes of results that say who decides.
const (
	codeObserve  = "Observe"
	codePaused   = "Paused"
	codeApproval = "ApprovalNeeded"
)

// onlyShown reports whether nothing may be sent that could change the table, and why.
func (v view) onlyShown() (code, why string, shown bool) {
	p := v.doc.Pause
	switch {
	case p.On:
		why = fmt.Sprintf("paused by %s since %s", p.Who, p.At.UTC().Format(time.RFC3339))
		if p.Why != "" {
			why += " (" + p.Why + ")"
		}
		return codePaused, why + ": pointsman unpause " + v.target.Name + " ends that", true
	case v.target.Apply == config.ApplyObserve:
		return codeObserve, "the domain file says apply: observe", true
	}
	return "", "", false
}

// approved reports whether an operator has named this very plan.
func (v view) approved() bool { return v.approval.ID != "" && v.approval.Plan == v.plan.Hash() }

// overruled reports whether an operator has said otherwise since the view was made: the target is paused, or another plan was approved instead of this one.
func (x *run) overruled(v view) bool {
	return x.doc.Pause.On || v.approved() && x.open().ID != v.approval.ID
}

// withheld says how a plan ends that is not written, where that is so.
func (v view) withheld() (end state.Outcome, code, message string, yes bool) {
	if v.plan.Empty() {
		return 0, "", "", false
	}
	n := len(v.plan.Edit.Put) + len(v.plan.Edit.Delete)
	if reason, why, shown := v.onlyShown(); shown {
		return state.Observed, reason, fmt.Sprintf("%d changes are not written, plan %s: %s", n, v.plan.Hash(), why), true
	}
	if v.target.Apply != config.ApplyApprove || v.approved() {
		return 0, "", "", false
	}
	return state.Held, codeApproval, fmt.Sprintf("%d changes wait for pointsman approve %s --domain %s --plan %s", n, v.target.Name, v.domain.Config.Name, v.plan.Hash()), true
}

// withhold makes it the end of a plan that is not written. What a guard or Azure refused of it is said too.
func (e *ended) withhold(end state.Outcome, code, message string) {
	if e.Message != "" {
		message += "; " + e.Message
	}
	e.Outcome, e.Code, e.Message = end, code, message
}

// open returns the operator's approval as this run may still use it.
func (x *run) open() state.Approval {
	if a := x.doc.Approval; a.Open() && a.ID != x.spent {
		return a
	}
	return state.Approval{}
}

// override returns the hash of the plan that the guards of shares let pass.
func override(a state.Approval) string {
	if a.Override {
		return a.Plan
	}
	return ""
}

// spend notes that an approved plan was written: the approval is good for no other write, not even one of this run.
func (x *run) spend(v view) {
	if v.approved() {
		x.spent = v.approval.ID
	}
}

// decide records what became of the operator's approval, and the plan that was not written.
func (x *run) decide(doc *state.Target, e ended) {
	if a := &doc.Approval; a.Open() {
		if end := x.end(*a, e); end != "" {
			a.Ended, a.End = e.At, end
		}
	}
	if e.view == nil {
		return
	}
	before := doc.Proposal
	doc.Proposal = nil
	if e.Outcome == state.Observed || e.Outcome == state.Held {
		doc.Proposal = propose(e.view.plan, e.At, before)
	}
}

// end says how the approval ends, "" if it does not.
func (x *run) end(a state.Approval, e ended) string {
	switch {
	case a.ID == x.spent:
		return state.ApprovalWritten
	case e.view == nil || e.view.approval.ID != a.ID:
		return "" // given since
	case e.view.target.Apply == config.ApplyObserve:
		return "void: the domain file says apply: observe"
	case e.view.approved():
		return ""
	case e.view.plan.Empty():
		return "void: there is nothing to write"
	}
	return "void: the plan is now " + e.view.plan.Hash()
}

// propose describes a plan for people. One that was seen before keeps its age.
func propose(p plan.Plan, at time.Time, before *state.Proposal) *state.Proposal {
	out := &state.Proposal{Plan: p.Hash(), Since: at, Added: proposed(p.Added), Changed: proposed(p.Changed), Removed: proposed(p.Removed)}
	if before != nil && before.Plan == out.Plan {
		out.Since = before.Since
	}
	return out
}

func proposed(list []plan.Change) []state.ProposedChange {
	out := make([]state.ProposedChange, len(list))
	for i, c := range list {
		out[i] = state.ProposedChange{Prefix: c.Prefix, From: c.From.String(), To: c.To.String()}
	}
	return out
}

// tellDecision logs what an operator may wait for.
func (x *run) tellDecision(ctx context.Context, e ended) {
	a := x.doc.Approval
	if e.view == nil || a.ID == "" || !a.Ended.Equal(e.At) {
		return
	}
	level := slog.LevelInfo
	if a.End != state.ApprovalWritten {
		level = slog.LevelWarn
	}
	x.log.LogAttrs(ctx, level, "operator's approval ended", slog.String("plan", a.Plan), slog.String("end", a.End), slog.String("who", a.Who), slog.String("why", a.Why), slog.String("order", a.ID))
}
