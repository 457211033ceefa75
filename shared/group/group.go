// Package group says whether tables that must agree do.
//
// Both directions of a flow through a stateful NVA must meet the same NVA, and the two directions are in different tables. So the tables of a group go by one
// view: which NVAs may take prefixes, and which may keep them. Each table is written by itself, at its own pace; whether all have reached the same view shows
// in the targets' documents, and nowhere else.
//
//	some table in trouble  views  younger than alertAfter -> state
//	yes                    -      -                          incomplete
//	no                     one    -                          complete
//	no                     many   yes                        pending
//	no                     many   no                         incomplete
package group

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/state"
)

// View names what the tables of a target's group are written by: what of the domain file bears on the group, and what may be expected of each NVA of it. Equal views
// have equal names, whoever computes them. A target of no group has nobody to agree with, and no view: "".
func View(d *config.Domain, t config.Target, live liveness.View, now time.Time) string {
	g, grouped := d.GroupOf(t.Name)
	if !grouped {
		return ""
	}
	members := d.Members(g)
	v := struct {
		Policy  config.Policy
		Spread  config.Spread
		Targets []config.Target
		NVAs    []config.NVA
		Fitness []string
	}{Policy: d.Policy, Spread: d.Spread, Targets: members}
	for _, n := range d.NVAs {
		if slices.ContainsFunc(members, func(m config.Target) bool { return m.Fed(n.Name) }) {
			v.NVAs, v.Fitness = append(v.NVAs, n), append(v.Fitness, fitness(live.Of[n.Name], now))
		}
	}
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("group: a domain file that is no JSON: %v", err))
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8])
}

// fitness says what an NVA is good for: to take prefixes from others, to keep what it has, or nothing.
func fitness(b liveness.Belief, now time.Time) string {
	switch {
	case b.State == liveness.Up && !b.Untold && !now.Before(b.Trusted):
		return "takes"
	case b.State.Usable():
		return "keeps"
	}
	return ""
}

// Hindered reports whether a target cannot be written now: it is in trouble, or it has a change that waits for an operator. Then the others of its group
// improve nothing.
func Hindered(t *state.Target) bool {
	return !t.Trouble.IsZero() || t.Result.Outcome == state.Observed || t.Result.Outcome == state.Held
}

// State says how a group stands.
type State uint8

// The states.
const (
	Complete   State = iota + 1 // all tables have reached the same view
	Pending                     // some have, the others are on their way
	Incomplete                  // a table is in trouble, or on its way for too long
)

// States returns all states, in order.
func States() []State { return []State{Complete, Pending, Incomplete} }

// String returns the word that Status and metrics show.
func (s State) String() string {
	switch s {
	case Complete:
		return "complete"
	case Pending:
		return "pending"
	case Incomplete:
		return "incomplete"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Standing is how a group stands at one time.
type Standing struct {
	State State
	View  string    // the newest that a table has reached; "": none has
	Since time.Time // of the state; zero: no table was ever as desired
	// Skew lies between the first and the last table that reached the view; while one has not, it grows. Zero where all tables have one view.
	Skew    time.Duration
	Because string // the target that is in the way, unless complete
	Reason  string
	Alert   bool // not complete for too long
}

// Judge says how the group of these targets stands. They are in the group's order.
func Judge(members []*state.Target, alertAfter time.Duration, now time.Time) Standing {
	s := Standing{State: Complete}
	first, last := s.newest(members)
	s.Since, s.Skew = last, last.Sub(first)
	for _, m := range members {
		if m.View != s.View && s.State == Complete || s.View == "" && s.Because == "" {
			s.State, s.Since, s.Because, s.Reason = Pending, first, m.Name, lag(m)
		}
	}
	if s.State == Pending && !first.IsZero() {
		s.Skew = max(0, now.Sub(first))
	}
	var trouble time.Time
	for _, m := range members {
		if !m.Trouble.IsZero() && (trouble.IsZero() || m.Trouble.Before(trouble)) {
			trouble = m.Trouble
			s.State, s.Since, s.Because, s.Reason = Incomplete, trouble, m.Name, m.Result.Outcome.String()+": "+m.Result.Message
		}
	}
	s.Alert = s.State != Complete && !s.Since.IsZero() && !now.Before(s.Since.Add(alertAfter))
	if s.State == Pending && s.Alert {
		s.State = Incomplete
	}
	return s
}

// newest finds the view that a table reached last, and when the first and the last of those that have it did.
func (s *Standing) newest(members []*state.Target) (first, last time.Time) {
	for _, m := range members {
		if m.View != "" && (s.View == "" || m.ViewAt.After(last)) {
			s.View, last = m.View, m.ViewAt
		}
	}
	first = last
	for _, m := range members {
		if m.View == s.View && m.ViewAt.Before(first) {
			first = m.ViewAt
		}
	}
	return first, last
}

// lag says why a table that is in no trouble has not reached the view.
func lag(t *state.Target) string {
	switch {
	case t.Result.At.IsZero():
		return "it was never reconciled"
	case t.Result.Outcome == state.Waiting:
		return "its change waits until " + t.FireAt.UTC().Format(time.RFC3339)
	case t.Result.Outcome == state.Observed, t.Result.Outcome == state.Held:
		return t.Result.Outcome.String() + ": " + t.Result.Message
	case len(t.Intents) > 0:
		return "it is being written"
	}
	return "it has not looked again yet"
}
