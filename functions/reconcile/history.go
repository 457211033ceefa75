package reconcile

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/stage"
	"github.com/pointsman/pointsman/shared/state"
)

// historyLine is one write of one target.
type historyLine struct {
	At          time.Time       `json:"at"`
	Domain      string          `json:"domain"`
	Target      string          `json:"target"`
	Table       string          `json:"routeTable"`
	Run         string          `json:"run"`
	Cause       string          `json:"cause"`
	Events      []string        `json:"events,omitempty"`
	Traceparent string          `json:"traceparent,omitempty"`
	Observed    time.Time       `json:"observed,omitzero"`
	Convergence float64         `json:"convergenceSeconds,omitempty"` // from Observed to the end of the write
	Stages      stage.Durations `json:"stages,omitempty"`             // the parts of it, in seconds
	ETagBefore  string          `json:"etagBefore"`
	ETagAfter   string          `json:"etagAfter,omitempty"` // only where the end of the write was found out by reading the table
	Approved    *state.Approval `json:"approved,omitempty"`  // by whom, where somebody had to
	Hands       []outcome.Hand  `json:"hands,omitempty"`     // who had changed the table, where Azure told
	Adds        []historyChange `json:"adds,omitempty"`
	Moves       []historyChange `json:"moves,omitempty"`
	Removals    []historyChange `json:"removals,omitempty"`
}

// historyChange is what happened to one prefix; several next hops stand with commas between them.
type historyChange struct {
	Prefix string   `json:"prefix"`
	From   string   `json:"from,omitempty"`
	To     string   `json:"to,omitempty"`
	By     []string `json:"by,omitempty"` // the events by which the NVAs that carry it now announce it, or by which it was withdrawn
}

// historyLine describes a write that is known to be applied.
func (x *run) historyLine(v view, etagAfter string) historyLine {
	x.writtenAt = x.Now()
	news, times := x.news(), x.times()
	total, _ := times.Total()
	chosen := map[netip.Prefix][]string{}
	for _, c := range v.selected.Choices {
		chosen[c.Prefix] = c.NVAs
	}
	changes := func(list []plan.Change) []historyChange {
		out := make([]historyChange, len(list))
		for i, c := range list {
			out[i] = historyChange{Prefix: c.Prefix.String(), From: c.From.String(), To: c.To.String(), By: v.saidBy(c.Prefix, chosen[c.Prefix])}
		}
		return out
	}
	return historyLine{
		At: x.writtenAt, Domain: x.wake.Domain, Target: x.target.Name, Table: x.target.RouteTable, Run: x.id, Cause: x.wake.Cause, Events: news.Events,
		Traceparent: x.wake.Traceparent, Observed: news.Observed, Convergence: total.Round(time.Millisecond).Seconds(), Stages: times.Took(),
		ETagBefore: v.table.ETag, ETagAfter: etagAfter, Approved: approvedBy(v), Hands: x.doc.Hands,
		Adds: changes(v.plan.Added), Moves: changes(v.plan.Changed), Removals: changes(v.plan.Removed),
	}
}

// maxBy bounds By.
const maxBy = 4

// saidBy returns the ids of the events that set what the NVAs say of a prefix: those that carry it, or, where none does, those that withdrew it.
func (v view) saidBy(p netip.Prefix, carriers []string) []string {
	withdrawn := len(carriers) == 0
	if withdrawn {
		for name, doc := range v.docs {
			if f, known := doc.Facts[p]; known && f.Withdrawn {
				carriers = append(carriers, name)
			}
		}
		slices.Sort(carriers)
	}
	var out []string
	for _, name := range carriers {
		doc := v.docs[name]
		if doc == nil || len(out) == maxBy {
			continue
		}
		if f, known := doc.Facts[p]; known && f.Withdrawn == withdrawn {
			out = append(out, event.Event{Domain: doc.Domain, NVA: name, Version: f.Version}.ID())
		}
	}
	return out
}

// approvedBy returns the approval that a write rests on; nil: it needed none.
func approvedBy(v view) *state.Approval {
	if !v.approved() {
		return nil
	}
	return &v.approval
}

// preconditionCode reports whether the code of a Conflict says that the write was refused because the table had changed (412), and not that it
// was superseded after it had been accepted.
func preconditionCode(code string) bool {
	return code == "" || strings.Contains(strings.ToLower(code), "precondition")
}
