// Package selection decides which NVA carries a prefix.
//
// Fast away, slow back: an NVA that is not to be used is left at once; one that has just come up, or has just announced the prefix, takes it from
// a working one only after the hold-down, and later still if it comes and goes (damping). Silence never blackholes: a prefix that any NVA announces
// keeps a next hop, whatever is believed of that NVA.
package selection

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// Reason says why an NVA was chosen for a prefix.
type Reason uint8

// The reasons.
const (
	Best       Reason = iota + 1 // preference, then metric, then name
	Kept                         // installed, while a better one is not to be trusted yet, or it is not known to be up itself
	Returning                    // in its hold-down, but no other is up
	LastHolder                   // nobody who announces the prefix is up: better a doubtful next hop than none
)

// String returns the word that Status shows.
func (r Reason) String() string {
	switch r {
	case Best:
		return "best"
	case Kept:
		return "kept"
	case Returning:
		return "returning"
	case LastHolder:
		return "last-holder"
	}
	return fmt.Sprintf("reason-%d", uint8(r))
}

// Input is all that a selection depends on.
type Input struct {
	Domain    *config.Domain
	Target    config.Target
	NVAs      map[string]*state.NVA       // documents by name; a missing one is an NVA that was never heard
	Installed map[netip.Prefix]netip.Addr // next hops of the target's managed routes
	Now       time.Time
}

// Choice is one prefix with the NVA that carries it.
type Choice struct {
	Prefix  netip.Prefix
	NVA     string
	NextHop netip.Addr
	Reason  Reason
	Passed  []Passed // the NVAs that are preferred to it and were not taken, best first
}

// Passed is an NVA that was not taken although it is preferred.
type Passed struct {
	NVA      string
	Obstacle Obstacle
	Until    time.Time // when the obstacle goes away by itself; zero: it does not, or nobody knows
}

// Obstacle is what keeps a preferred NVA from being taken.
type Obstacle uint8

// The obstacles.
const (
	NotUp    Obstacle = iota + 1 // what is believed of it says why
	HoldDown                     // it, or its announcement, is too young
	Damped                       // it has lost the prefix too often
	Untold                       // hold-down is "never", and no operator has told it to take prefixes back
)

// String returns the words that Status shows.
func (o Obstacle) String() string {
	switch o {
	case NotUp:
		return "not up"
	case HoldDown:
		return "in its hold-down"
	case Damped:
		return "damped, it has lost the prefix too often"
	case Untold:
		return "waiting to be told (pointsman resume)"
	}
	return fmt.Sprintf("obstacle-%d", uint8(o))
}

// Refusal is an announcement that the domain file does not let through.
type Refusal struct {
	NVA    string
	Prefix netip.Prefix // invalid: all that is new from this NVA
	Why    string
}

// String returns the refusal as Status shows it.
func (r Refusal) String() string {
	if !r.Prefix.IsValid() {
		return r.NVA + ": " + r.Why
	}
	return fmt.Sprintf("%s %s: %s", r.NVA, r.Prefix, r.Why)
}

// Result is what a target should hold.
type Result struct {
	Choices  []Choice // in the order of route.Compare
	Refused  []Refusal
	Live     liveness.View
	NextLook time.Time // when the answer may change without news: a hold-down ends, an accused NVA should have answered; zero: never
}

// Because says why a prefix has its next hop: "nva-a is down since 2026-05-28T12:03:04Z (expired, witnessed by nva-b, nva-c)".
func (r Result) Because(c Choice) string {
	parts := make([]string, 0, len(c.Passed)+1)
	for _, p := range c.Passed {
		switch {
		case p.Obstacle == NotUp:
			parts = append(parts, p.NVA+" is "+r.Live.Of[p.NVA].String())
		case p.Until.IsZero():
			parts = append(parts, p.NVA+" is "+p.Obstacle.String())
		default:
			parts = append(parts, p.NVA+" is "+p.Obstacle.String()+" until "+p.Until.UTC().Format(time.RFC3339))
		}
	}
	if own := r.Live.Of[c.NVA]; own.State != liveness.Up {
		parts = append(parts, c.NVA+" is "+own.String())
	}
	if len(parts) == 0 {
		parts = append(parts, c.Reason.String())
	}
	return strings.Join(parts, "; ")
}

// Select answers which next hop every prefix of the target should have.
func Select(in Input) Result {
	s := selector{Input: in, result: Result{Live: liveness.Judge(in.Domain, in.NVAs, in.Now)}}
	s.result.NextLook = s.result.Live.Look
	byPrefix := map[netip.Prefix][]Candidate{}
	for _, nva := range in.Domain.NVAs {
		if doc := in.NVAs[nva.Name]; doc != nil && in.Target.Fed(nva.Name) {
			s.announcements(nva, doc, byPrefix)
		}
	}
	prefixes := make([]netip.Prefix, 0, len(byPrefix))
	for p := range byPrefix {
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, route.Compare)
	for _, p := range prefixes {
		c, look := Choose(Question{Prefix: p, Installed: s.Installed[p], Policy: in.Domain.Policy, Now: s.Now}, byPrefix[p])
		s.result.Choices = append(s.result.Choices, c)
		s.result.NextLook = Sooner(s.result.NextLook, look)
	}
	return s.result
}

// Candidate is one NVA that announces the prefix in question, and may.
type Candidate struct {
	NVA    config.NVA
	Metric uint32
	Belief liveness.Belief
	Since  time.Time   // since when it announces the prefix without a break; zero: for long
	Losses []time.Time // when it lost the prefix, ascending
	Told   time.Time   // when an operator last said that it may carry routes; zero: never
}

// Question is what the choice for one prefix depends on beside its candidates.
type Question struct {
	Prefix    netip.Prefix
	Installed netip.Addr // its next hop in the target; invalid: none of ours
	Policy    config.Policy
	Now       time.Time
}

type selector struct {
	Input
	result Result
}

// announcements adds what the NVA announces and may announce.
func (s *selector) announcements(nva config.NVA, doc *state.NVA, byPrefix map[netip.Prefix][]Candidate) {
	c := Candidate{NVA: nva, Belief: s.result.Live.Of[nva.Name], Told: Told(doc)}
	var allowed []route.Entry
	for _, e := range doc.RIB() {
		if why := Refuse(nva, e.Prefix); why != "" {
			s.result.Refused = append(s.result.Refused, Refusal{nva.Name, e.Prefix, why})
			continue
		}
		allowed = append(allowed, e)
	}
	over := len(allowed) > nva.MaxPrefixes
	if over {
		s.result.Refused = append(s.result.Refused, Refusal{NVA: nva.Name, Why: fmt.Sprintf(
			"announces %d prefixes, maxPrefixes is %d: nothing new is taken from it until it announces fewer or the domain file allows more", len(allowed), nva.MaxPrefixes)})
	}
	for _, e := range allowed {
		if !s.Target.Wants(e.Prefix) || over && s.Installed[e.Prefix] != nva.NextHop(e.Prefix) {
			continue
		}
		c.Metric, c.Since, c.Losses = e.Attrs.Metric, doc.Facts[e.Prefix].Since, doc.Losses[e.Prefix]
		byPrefix[e.Prefix] = append(byPrefix[e.Prefix], c)
	}
}

// Told is when an operator last said that the NVA may carry routes; zero: never, or the last word was that it may not.
func Told(doc *state.NVA) time.Time {
	if doc.Order.Drain {
		return time.Time{}
	}
	return doc.Order.At
}

// Refuse says why the NVA may not announce p, or "".
func Refuse(nva config.NVA, p netip.Prefix) string {
	if why := route.Forbidden(p); why != "" {
		return "Azure does not route it (" + why + ")"
	}
	if !route.AnyMatches(nva.Allow, p) {
		return "not in its allow list"
	}
	if !nva.NextHop(p).IsValid() {
		return "the NVA has no next hop of this family"
	}
	return ""
}

// Choose picks one of the candidates, of which there is at least one, and puts them in the order in which they are preferred. nextLook is when
// the answer may change without news; zero: never.
func Choose(q Question, list []Candidate) (choice Choice, nextLook time.Time) {
	slices.SortFunc(list, func(a, b Candidate) int {
		return cmp.Or(cmp.Compare(b.NVA.Preference, a.NVA.Preference), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.NVA.Name, b.NVA.Name))
	})
	choice = Choice{Prefix: q.Prefix}
	for _, c := range list {
		obstacle, until := q.obstacle(c)
		if obstacle == 0 || c.Belief.State.Usable() && q.installed(c) {
			choice.take(q, c, Best)
			if q.installed(c) && (c.Belief.State != liveness.Up || slices.ContainsFunc(choice.Passed, func(p Passed) bool { return p.Obstacle != NotUp })) {
				choice.Reason = Kept
			}
			return choice, nextLook
		}
		choice.Passed = append(choice.Passed, Passed{c.NVA.Name, obstacle, until})
		nextLook = Sooner(nextLook, until)
	}
	c, why := q.leastDoubtful(list)
	choice.take(q, c, why)
	choice.Passed = slices.DeleteFunc(choice.Passed, func(p Passed) bool { return p.NVA == c.NVA.Name })
	return choice, nextLook
}

func (c *Choice) take(q Question, from Candidate, why Reason) {
	c.NVA, c.NextHop, c.Reason = from.NVA.Name, from.NVA.NextHop(q.Prefix), why
}

func (q Question) installed(c Candidate) bool { return q.Installed == c.NVA.NextHop(q.Prefix) }

// obstacle says what keeps the candidate from taking the prefix from another one that works, and until when; zero: nothing.
func (q Question) obstacle(c Candidate) (Obstacle, time.Time) {
	switch {
	case c.Belief.State != liveness.Up:
		return NotUp, time.Time{}
	case c.Belief.Untold, q.Policy.HoldDown == config.Never && !c.Since.IsZero() && !c.Told.After(c.Since):
		return Untold, time.Time{}
	}
	held := c.Belief.Trusted
	if q.Policy.HoldDown != config.Never && !c.Since.IsZero() {
		held = later(held, c.Since.Add(q.Policy.HoldDown))
	}
	switch until := damped(c.Losses, q.Policy.Damping); {
	case q.Now.Before(until) && until.After(held):
		return Damped, until
	case q.Now.Before(held):
		return HoldDown, held
	}
	return 0, time.Time{}
}

// leastDoubtful picks from candidates of which none is both up and trusted, and none usable and installed. First those that are up: nobody else works. Then
// those that may forward, the likelier first. What is left is dead or asked to carry nothing: the one that is installed stays, since a move between
// two of those is worth no write.
func (q Question) leastDoubtful(list []Candidate) (Candidate, Reason) {
	for _, s := range []liveness.State{liveness.Up, liveness.Suspect, liveness.ControlLost, liveness.Hold} {
		if i := slices.IndexFunc(list, func(c Candidate) bool { return c.Belief.State == s }); i >= 0 {
			if s == liveness.Up {
				return list[i], Returning
			}
			return list[i], LastHolder
		}
	}
	if i := slices.IndexFunc(list, q.installed); i >= 0 {
		return list[i], LastHolder
	}
	return list[0], LastHolder
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Sooner returns the earlier of two times, where zero means never.
func Sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
