package reconcile

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/group"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// The tables of a group are written by a run each. What keeps them together (docs/adr/0013-groups.md):
//
//   - they are woken together: by ingest, by the sweep, and here where time alone changes the answer;
//   - none waits for company (answer.Price), and where writes run short all wait alike;
//   - none improves while another one is in trouble or waits for an operator, unless an operator approved its own plan; what leaves a dead next hop never waits;
//   - a run that brought its table to another view, or that ended its table's trouble, wakes those that are not there yet;
//   - as long as they disagree somebody looks again, and after alertAfter it is an error.
//
// The order of effects: the result is saved (finish), then the others' documents are read: of two runs that end at once, one at least sees both. Then wakes, log and history.

// fellows are the other targets of the target's group, as their documents were read.
type fellows struct {
	group config.Group
	docs  []*state.Target // in the group's order, without the target itself
	lost  bool            // one of them cannot be understood: nobody knows since when
}

// before is how the target stood when the result was saved.
type before struct {
	view     string
	hindered bool
}

// fellows reads the documents of the others. One that cannot be understood is in trouble, and nobody's else: it must not keep the others from leaving a dead next hop.
func (x *run) fellows(ctx context.Context) (fellows, error) {
	d := x.domain
	g, grouped := d.GroupOf(x.target.Name)
	if !grouped {
		return fellows{}, nil
	}
	out := fellows{group: g}
	for _, t := range d.Members(g) {
		if t.Name == x.target.Name {
			continue
		}
		doc, _, err := x.Store.Target(ctx, d.Name, t)
		if fault.Is(err, fault.Bug) {
			doc = state.NewTarget(d.Name, t.Name, t.RouteTable)
			doc.Note(state.Result{At: x.started, Outcome: state.Failed, Message: err.Error()})
			out.lost = true
		} else if err != nil {
			return fellows{}, err
		}
		out.docs = append(out.docs, doc)
	}
	return out, nil
}

// hindered returns the first fellow that cannot be written; nil: all can.
func (f fellows) hindered() *state.Target {
	for _, doc := range f.docs {
		if group.Hindered(doc) {
			return doc
		}
	}
	return nil
}

// apart counts the prefixes that would move to a better NVA if the other tables could follow.
func (v view) apart() int {
	n := 0
	for _, c := range v.selected.Choices {
		for _, p := range c.Passed {
			if p.Obstacle == selection.Apart {
				n++
				break
			}
		}
	}
	return n
}

// together puts a look at the target and its fellows on the bus, for one instant: all members that ask for the same send the same ids.
func (x *run) together(ctx context.Context, why string, at time.Time) error {
	var failed error
	for _, unit := range x.domain.Units([]config.Target{x.target}) {
		for _, t := range unit {
			failed = errors.Join(failed, x.againAt(ctx, x.wakeFor(t.Name), why, at, 0))
		}
	}
	return failed
}

// wakeFor returns the run's wake for a target of the group: another's table was touched by no hand.
func (x *run) wakeFor(target string) wake.Wake {
	w := x.wake
	if target != x.target.Name {
		w.Target, w.Hand = target, nil
	}
	return w
}

// Causes of the wakes that keep a group together.
const (
	followCause = "group"      // another table of the group has moved on
	lookCause   = "group-look" // it is time to look whether the group is complete
)

// needless reports whether the wake asks for nothing more than a look at a group that is complete by now.
func (x *run) needless(ctx context.Context) (bool, error) {
	if !strings.HasPrefix(x.wake.Cause, lookCause+"/") {
		return false, nil
	}
	f, err := x.fellows(ctx)
	if err != nil {
		return false, err
	}
	doc, _, err := x.Store.Target(ctx, x.wake.Domain, x.target)
	if err != nil {
		return false, err
	}
	return len(f.docs) == 0 || x.stand(f, doc).State == group.Complete, nil
}

// stand says how the group stands.
func (x *run) stand(f fellows, own *state.Target) group.Standing {
	byName := map[string]*state.Target{own.Name: own}
	for _, doc := range f.docs {
		byName[doc.Name] = doc
	}
	var members []*state.Target
	for _, t := range x.domain.Members(f.group) {
		if doc := byName[t.Name]; doc != nil {
			members = append(members, doc)
		}
	}
	return group.Judge(members, f.group.AlertAfter, x.Now())
}

// agree looks at the group after the result was saved.
func (x *run) agree(ctx context.Context) error {
	f, err := x.fellows(ctx)
	if err != nil || len(f.docs) == 0 {
		return err
	}
	moved, recovered := x.doc.View != x.before.view, x.before.hindered && !group.Hindered(x.doc)
	err = x.lead(ctx, f, moved, recovered)
	s := x.stand(f, x.doc)
	log := x.log.With(slog.String("group", f.group.Name), slog.String("view", s.View))
	switch {
	case s.State == group.Complete:
		if moved {
			log.InfoContext(ctx, "the tables of the group agree", slog.Float64("skewSeconds", s.Skew.Seconds()))
			x.agreed(ctx, f, s)
		}
	case s.Alert || f.lost:
		log.ErrorContext(ctx, "the tables of the group do not agree", slog.Time("since", s.Since), slog.String("because", s.Because), slog.String("reason", s.Reason), slog.Float64("skewSeconds", s.Skew.Seconds()))
	default:
		log.InfoContext(ctx, "the tables of the group do not agree yet", slog.String("state", s.State.String()), slog.String("because", s.Because), slog.String("reason", s.Reason))
		since := s.Since
		if since.IsZero() { // no table was ever written
			since = x.Now()
		}
		err = errors.Join(err, x.againAt(ctx, x.wake, lookCause, since.Add(f.group.AlertAfter), 0))
	}
	return err
}

// lead wakes the fellows that must follow: those of another view, or all if they may have waited for this table. One that is being written looks at the group itself.
func (x *run) lead(ctx context.Context, f fellows, moved, recovered bool) error {
	var failed error
	for _, doc := range f.docs {
		if _, busy := doc.Holder(x.id, x.Now()); busy || !recovered && (!moved || doc.View == x.doc.View) {
			continue
		}
		failed = errors.Join(failed, x.again(ctx, x.wakeFor(doc.Name), followCause+"/"+x.id, 0, 0))
	}
	return failed
}

// agreed adds a line to the history that says how far apart the tables of the group were written. Two runs that end at once may both add one.
func (x *run) agreed(ctx context.Context, f fellows, s group.Standing) {
	line := agreement{At: x.Now(), Domain: x.wake.Domain, Target: x.target.Name, Run: x.id, Cause: x.wake.Cause, Group: f.group.Name, View: s.View, Skew: s.Skew.Seconds()}
	if err := x.Store.AppendHistory(ctx, x.wake.Domain, x.target.Name, x.Now(), line); err != nil {
		x.log.ErrorContext(ctx, "the history lacks a line", slog.Any("error", err))
	}
}

// agreement is the history's line for a view that all tables of a group have reached.
type agreement struct {
	At     time.Time `json:"at"`
	Domain string    `json:"domain"`
	Target string    `json:"target"` // that reached it last, as far as the run saw
	Run    string    `json:"run"`
	Cause  string    `json:"cause"`
	Group  string    `json:"group"`
	View   string    `json:"view"`
	Skew   float64   `json:"skewSeconds"` // between the first and the last table that reached it
}
