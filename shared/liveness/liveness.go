// Package liveness decides what is believed of the NVAs of a domain.
//
// Silence never blackholes. That an agent is silent says nothing about its NVA; what counts against an NVA is its own word (it drains, its check of
// itself failed) or that of witnesses: peers that probe it through the data plane. And when more than half of the NVAs are lost at once, it is the way to
// them that broke, or the observer: then nothing moves.
//
//	heard  draining  check   silent  sessions  accused  witness  silence  frozen -> state
//	no     -         -       -       -         -        -        -        -         unheard
//	yes    yes       -       -       -         -        -        -        -         draining
//	yes    no        failed  -       -         -        -        -        -         down
//	yes    no        good    no      good      no       -        -        -         up
//	yes    no        good    no      lost      no       -        -        -         control-lost
//	yes    no        good    no      good      one      -        -        -         suspect
//	yes    no        good    no      lost      one      -        -        -         control-lost
//	yes    no        good    no      -         most     -        -        no        down
//	yes    no        good    no      -         most     -        -        yes       hold
//	yes    no        good    yes     -         one      -        -        no        down
//	yes    no        good    yes     -         one      -        -        yes       hold
//	yes    no        good    yes     -         most     -        -        no        down
//	yes    no        good    yes     -         most     -        -        yes       hold
//	yes    no        good    yes     -         no       yes      -        -         control-lost
//	yes    no        good    yes     -         no       no       hold     -         hold
//	yes    no        good    yes     -         no       no       down     no        down
//	yes    no        good    yes     -         no       no       down     yes       hold
//
// The columns:
//
//   - draining: the agent says so, or an operator does. check: the NVA's own check of itself. Both are positive evidence and outrank the rest.
//   - silent: the dead-man switch has fired, or the NVA is mute: accused, and it has said nothing since, although an agent that lives answers an
//     accusation within moments (either it does not hear its accuser as well, or it hears that it is not heard). See [mute].
//   - sessions: lost, if the agent says that one with a routing daemon is, for longer than its restart time, and that its routes stay. They are those of before the
//     loss, and nobody can withdraw them. That is no evidence against the NVA, which goes on forwarding, but none can be had any more either: the same doubt as if the
//     agent were silent and reached by its peers. It is worse than to be suspected by one witness, so it outranks that.
//   - accused: by one witness that cannot reach it; by most: two or more, and more than half of its witnesses, or one and the NVA's own probes get nowhere
//     either. An NVA whose agent restarts is not accused, for its answers stop with its agent, unless the time that it asked for is over.
//   - witness: at least one watches it. A witness is an NVA that is heard, not silent, and whose own probes get out.
//   - silence: what the domain file says that silence means where no witness can tell.
//   - frozen: more than half were lost at once, and it is one of them.
package liveness

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/state"
)

// State is what is believed of an NVA.
type State uint8

// The states, best first.
const (
	Up          State = iota + 1 // its agent is heard
	Suspect                      // its agent is heard, but a peer cannot reach it: keep what it has, move nothing onto it
	ControlLost                  // it forwards, but nobody learns of its routes: its agent is silent, and a peer reaches it; or the agent has lost its routing daemon
	Hold                         // its agent is silent, and nobody can tell: keep what it has, move nothing onto it
	Down                         // it is dead, or cannot carry traffic
	Draining                     // it is to carry nothing
	Unheard                      // it was never heard
)

// States returns all states, best first.
func States() []State { return []State{Up, Suspect, ControlLost, Hold, Down, Draining, Unheard} }

// String returns the word that Status and metrics show.
func (s State) String() string {
	switch s {
	case Up:
		return "up"
	case Suspect:
		return "suspect"
	case ControlLost:
		return "control-lost"
	case Hold:
		return "hold"
	case Down:
		return "down"
	case Draining:
		return "draining"
	case Unheard:
		return "unheard"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Usable reports whether an NVA keeps the prefixes that it has.
func (s State) Usable() bool { return s >= Up && s <= Hold }

// Belief is what is believed of one NVA, and why.
type Belief struct {
	State State
	Since time.Time // when the evidence for it came; zero: not known
	Why   string    // the evidence, for people; "" for an NVA that is simply up
	// Trusted is when its hold-down ends: from then on it takes prefixes from an NVA that works. Zero: it does.
	Trusted time.Time
	// Untold: hold-down is "never", and no operator has said since it came back that it may take prefixes back.
	Untold bool
	// LastResort: it is to carry nothing, but nothing says that it cannot. What no other NVA can carry is better off there than on a dead one, as a path in
	// graceful shutdown is the least preferred one, and not none (RFC 8326).
	LastResort bool
}

// String returns state, time and evidence: "down since 2026-05-28T12:03:04Z (expired, cannot be reached by nva-b)".
func (b Belief) String() string {
	text := b.State.String()
	if !b.Since.IsZero() {
		text += " since " + b.Since.UTC().Format(time.RFC3339)
	}
	if b.Why != "" {
		text += " (" + b.Why + ")"
	}
	return text
}

// View is what is believed of all NVAs of a domain at one time.
type View struct {
	Of     map[string]Belief // by name; every NVA of the domain file
	Frozen bool
	Lost   []string  // the NVAs that were lost at once, sorted, where Frozen
	Look   time.Time // when a belief changes without news; zero: never
}

// together is how far apart losses may lie and still be "at once": dead-man switches of one outage fire within one timeout (15 s by default) of each
// other, and a queue that is behind adds to that. An agent whose timeout is longer escapes the guard.
const together = 30 * time.Second

// Judge says what is believed of every NVA. docs are the NVAs' documents by name; a missing one is an NVA that was never heard.
func Judge(d *config.Domain, docs map[string]*state.NVA, now time.Time) View {
	j := judge{domain: d, docs: docs, now: now, view: View{Of: make(map[string]Belief, len(d.NVAs))}}
	at := make(map[string]int, len(d.NVAs))
	for _, n := range d.NVAs {
		j.view.Of[n.Name] = Belief{State: Unheard}
		if doc := docs[n.Name]; doc != nil && doc.Heard() {
			at[n.Name] = len(j.cases)
			j.cases = append(j.cases, evidence{name: n.Name, doc: doc})
		}
	}
	for _, w := range j.cases {
		if credible(w.doc) {
			for _, p := range w.doc.Report.Peers {
				if i, known := at[p.NVA]; known && p.NVA != w.name {
					j.cases[i].hear(w, p)
				}
			}
		}
	}
	for i := range j.cases {
		j.cases[i].mute = j.mute(j.cases[i])
	}
	j.freeze()
	for _, e := range j.cases {
		j.view.Of[e.name] = j.decide(e)
	}
	return j.view
}

type judge struct {
	domain *config.Domain
	docs   map[string]*state.NVA
	now    time.Time
	cases  []evidence // in the order of the domain file
	view   View
}

// evidence is all that is known of one NVA that was heard.
type evidence struct {
	name      string
	doc       *state.NVA
	watchers  int       // witnesses that watch it
	accusers  []string  // those that cannot reach it, in the order of the domain file
	accused   time.Time // when the last of them turned against it
	recovered time.Time // when the last of the others turned back
	mute      bool
}

// hear takes in what a witness says of the NVA.
func (e *evidence) hear(witness evidence, p event.Peer) {
	e.watchers++
	switch turned := witness.doc.Turned[e.name]; {
	case p.Reachable:
		e.recovered = later(e.recovered, turned)
	case !e.doc.Restarting() || e.doc.Silent():
		e.accusers = append(e.accusers, witness.name)
		e.accused = later(e.accused, turned)
	}
}

// credible reports whether what an NVA says of its peers counts: its agent lives, and its probes get out: a self-test says so, or any peer that answers.
func credible(doc *state.NVA) bool {
	if doc.Silent() || doc.Restarting() {
		return false
	}
	switch doc.Report.SelfTest {
	case event.Passed:
		return true
	case event.Absent:
		return slices.ContainsFunc(doc.Report.Peers, func(p event.Peer) bool { return p.Reachable })
	case event.Failed:
	}
	return false
}

// mute reports whether an accused NVA has failed to answer. One that lives notices within moments of its accuser that the way between them is broken: it
// does not hear the accuser either, or the accuser's probes tell it that it is not heard. Either way its report changes, and it says so. What it said of its
// accusers before they spoke is an answer too: the two may have noticed in either order. And while any other witness reaches it there is nothing to
// answer: a single liar that keeps its probes flowing, so that its victim notices nothing, must not be believed against the others.
func (j *judge) mute(e evidence) bool {
	wait := j.domain.Policy.AnswerWithin
	if len(e.accusers) == 0 || len(e.accusers) < e.watchers || wait == 0 || e.doc.LastSeen.After(e.accused) {
		return false
	}
	for _, w := range e.accusers {
		if p, watched := e.doc.Report.Peer(w); !watched || !p.Reachable || p.Deaf {
			return false // it has answered, or would not know of the accusation
		}
	}
	if until := e.accused.Add(wait); j.now.Before(until) {
		j.view.Look = sooner(j.view.Look, until)
		return false
	}
	return true
}

func (e evidence) silent() bool { return e.doc.Silent() || e.mute }

// positive reports whether the NVA itself, or an operator, says that it cannot carry traffic.
func (e evidence) positive() bool { return e.doc.Draining() || e.doc.Unfit() }

// most reports whether its agent need not be silent for the accusation to stand.
func (e evidence) most() bool {
	n := len(e.accusers)
	return n >= 2 && 2*n > e.watchers || n >= 1 && e.doc.Report.SelfTest == event.Failed
}

// lost reports whether the NVA is lost to whoever watches it, be it dead or not.
func (e evidence) lost() bool { return !e.positive() && (e.silent() || e.most()) }

// lostAt is when it was lost.
func (e evidence) lostAt() time.Time {
	if e.doc.Silent() {
		return e.doc.Since
	}
	return e.accused
}

// freeze finds out whether more than half were lost at once: those that were lost within 30 s of the last loss, out of all that were not lost before. NVAs that
// ask to carry nothing do not count.
func (j *judge) freeze() {
	var last time.Time
	for _, e := range j.cases {
		if e.lost() {
			last = later(last, e.lostAt())
		}
	}
	base := 0
	var lost []string
	for _, e := range j.cases {
		switch {
		case e.positive():
		case !e.lost():
			base++
		case last.Sub(e.lostAt()) <= together:
			base++
			lost = append(lost, e.name)
		}
	}
	if 2*len(lost) > base {
		slices.Sort(lost)
		j.view.Frozen, j.view.Lost = true, lost
	}
}

// decide reads the matrix of the package comment.
func (j *judge) decide(e evidence) Belief {
	b := Belief{Since: e.doc.Since}
	switch {
	case e.doc.Draining():
		b.State, b.Why = Draining, e.draining()
		b.LastResort = !e.doc.Unfit() && !e.silent() && !e.most()
	case e.doc.Unfit():
		b.State, b.Why = Down, phrase("its own check failed", e.doc.Report.Reason)
	case !e.lost():
		b.State, b.Why = e.alive()
		b.Since = later(b.Since, later(e.recovered, e.accused))
	case len(e.accusers) == 0 && e.watchers > 0:
		b.State, b.Why = ControlLost, "its agent is silent, its peers reach it"
	case j.view.Frozen && slices.Contains(j.view.Lost, e.name):
		b.State, b.Why = Hold, e.against()+"; more than half of the NVAs were lost at once"
		b.Since = e.lostAt()
	case len(e.accusers) > 0:
		b.State, b.Why, b.Since = Down, e.against(), later(e.accused, b.Since)
	case j.domain.Policy.Silence == config.SilenceHold:
		b.State, b.Why = Hold, "its agent is silent, nobody can tell whether it forwards"
	default:
		b.State, b.Why = Down, "its agent is silent, and the domain file says that this means dead"
	}
	j.trust(e, &b)
	return b
}

// alive is the belief about an NVA that is not lost.
func (e evidence) alive() (s State, why string) {
	s = Up
	var parts []string
	if e.doc.ControlLost() {
		s, parts = ControlLost, append(parts, e.stranded())
	}
	switch {
	case len(e.accusers) > 0:
		s, parts = max(s, Suspect), append(parts, "cannot be reached by "+strings.Join(e.accusers, ", ")+", but its agent is heard")
	case e.doc.Restarting():
		parts = append(parts, phrase("its agent restarts", e.doc.Notice.Reason))
	}
	return s, strings.Join(parts, "; ")
}

// maxSessions is how many lost sessions are named to people.
const maxSessions = 3

// stranded says which sessions with routing daemons its agent has lost, and what that means.
func (e evidence) stranded() string {
	var names []string
	list := e.doc.Report.ControlLost
	for _, s := range list[:min(len(list), maxSessions)] {
		name := s.Name
		if !s.Since.IsZero() {
			name += " since " + s.Since.UTC().Format(time.RFC3339)
		}
		names = append(names, name)
	}
	if more := len(list) - len(names); more > 0 {
		names = append(names, fmt.Sprintf("and %d more", more))
	}
	return "its agent has lost the BGP session with " + strings.Join(names, ", ") + ": the routes from there are those of before, and nobody can withdraw them"
}

// trust says when an NVA may take prefixes back: after it has been up for the hold-down, without a break.
func (j *judge) trust(e evidence, b *Belief) {
	since := later(e.doc.Since, e.recovered)
	switch hold := j.domain.Policy.HoldDown; {
	case hold == config.Never:
		// The word that ends a drain is the very instant from which the NVA stands, and says that it may take prefixes back.
		told := e.doc.Order
		b.Untold = told.Drain || told.At.IsZero() || told.At.Before(since)
	case j.now.Before(since.Add(hold)):
		b.Trusted = since.Add(hold)
	}
}

// draining says who wants the NVA to carry nothing.
func (e evidence) draining() string {
	switch {
	case e.doc.Order.Drain:
		return phrase("drained by "+e.doc.Order.Who, e.doc.Order.Why)
	case e.doc.Report.Drain != "":
		return e.doc.Report.Drain
	}
	return e.doc.Notice.Reason
}

// against says what speaks against the NVA.
func (e evidence) against() string {
	var parts []string
	switch {
	case e.doc.Silent():
		parts = append(parts, "expired")
	case e.mute:
		parts = append(parts, "accused and mute")
	}
	if len(e.accusers) > 0 {
		parts = append(parts, "witnessed by "+strings.Join(e.accusers, ", "))
	}
	if e.doc.Report.SelfTest == event.Failed {
		parts = append(parts, "its own probes get nowhere")
	}
	return strings.Join(parts, ", ")
}

func phrase(what, detail string) string {
	if detail == "" {
		return what
	}
	return what + ": " + detail
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
