// Package selection decides which NVA carries a prefix.
//
// Fast away, slow back: an NVA that is not to be used is left at once; one that has just come up takes a prefix from a working
// one only after the hold-down. Silence never blackholes: a prefix that any NVA announces keeps a next hop, whatever is known
// of that NVA.
package selection

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// Liveness is what is believed of an NVA.
type Liveness uint8

// The beliefs, best first.
const (
	Up          Liveness = iota + 1 // its agent is heard
	ControlLost                     // its agent is silent; it may well forward: keep what it has, move nothing onto it
	Down                            // its agent is silent, and the domain says that this means dead
	Draining                        // it asked to carry nothing
	Unheard                         // it was never heard
)

// String returns the word that Status and metrics show.
func (l Liveness) String() string {
	switch l {
	case Up:
		return "up"
	case ControlLost:
		return "control-lost"
	case Down:
		return "down"
	case Draining:
		return "draining"
	case Unheard:
		return "unheard"
	}
	return fmt.Sprintf("liveness-%d", uint8(l))
}

// Reason says why an NVA was chosen for a prefix.
type Reason uint8

// The reasons.
const (
	Best       Reason = iota + 1 // preference, then metric, then name
	Kept                         // installed, and a better one is not to be trusted yet (hold-down), or it is only control-lost
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
	Frozen   bool      // every NVA that was ever heard is silent: the control plane is broken, not the NVAs
	NextLook time.Time // when a hold-down ends and the answer may change without news; zero: never
}

// Select answers which next hop every prefix of the target should have.
func Select(in Input) Result {
	s := selector{Input: in, result: Result{Frozen: Frozen(in.Domain, in.NVAs)}}
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
		c, look := Choose(Question{Prefix: p, Installed: s.Installed[p], Frozen: s.result.Frozen, Now: s.Now}, byPrefix[p])
		s.result.Choices = append(s.result.Choices, c)
		s.result.NextLook = Sooner(s.result.NextLook, look)
	}
	return s.result
}

// Frozen reports whether every NVA of the domain that was ever heard is silent.
func Frozen(d *config.Domain, docs map[string]*state.NVA) bool {
	heard := false
	for _, nva := range d.NVAs {
		doc := docs[nva.Name]
		if doc == nil || !doc.Heard() {
			continue
		}
		if !doc.Silent() {
			return false
		}
		heard = true
	}
	return heard
}

// LivenessOf says what is believed of an NVA.
//
//	heard  draining  silent  silence: / frozen   -> liveness
//	no     -         -       -                      unheard
//	yes    yes       -       -                      draining      (positive evidence outranks silence)
//	yes    no        no      -                      up
//	yes    no        yes     hold, or frozen        control-lost
//	yes    no        yes     down                   down
func LivenessOf(doc *state.NVA, silence config.Silence, frozen bool) Liveness {
	switch {
	case doc == nil || !doc.Heard():
		return Unheard
	case doc.Draining():
		return Draining
	case !doc.Silent():
		return Up
	case frozen || silence == config.SilenceHold:
		return ControlLost
	default:
		return Down
	}
}

// Candidate is one NVA that announces the prefix in question, and may.
type Candidate struct {
	NVA      config.NVA
	Metric   uint32
	Liveness Liveness
	UpAt     time.Time // when its hold-down ends
}

// Question is what the choice for one prefix depends on beside its candidates.
type Question struct {
	Prefix    netip.Prefix
	Installed netip.Addr // its next hop in the target; invalid: none of ours
	Frozen    bool
	Now       time.Time
}

type selector struct {
	Input
	result Result
}

// announcements adds what the NVA announces and may announce.
func (s *selector) announcements(nva config.NVA, doc *state.NVA, byPrefix map[netip.Prefix][]Candidate) {
	c := Candidate{NVA: nva, Liveness: LivenessOf(doc, s.Domain.Policy.Silence, s.result.Frozen), UpAt: doc.Since.Add(s.Domain.Policy.HoldDown)}
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
		c.Metric = e.Attrs.Metric
		byPrefix[e.Prefix] = append(byPrefix[e.Prefix], c)
	}
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
	installed := func(c Candidate) bool { return q.Installed == c.NVA.NextHop(q.Prefix) }
	waits := func(c Candidate) bool { return q.Now.Before(c.UpAt) }
	pick := func(c Candidate, why Reason) Choice {
		return Choice{q.Prefix, c.NVA.Name, c.NVA.NextHop(q.Prefix), why}
	}
	for i, c := range list {
		switch {
		case c.Liveness == Up && (!waits(c) || installed(c)):
			why := Best
			if i > 0 && slices.ContainsFunc(list[:i], func(better Candidate) bool { return better.Liveness == Up }) {
				why = Kept
			}
			return pick(c, why), nextLook
		case c.Liveness == ControlLost && installed(c):
			return pick(c, Kept), nextLook
		case c.Liveness == Up:
			nextLook = Sooner(nextLook, c.UpAt)
		}
	}
	// Nobody is both up and trusted: the least doubtful one.
	for _, doubt := range []struct {
		why Reason
		is  func(Candidate) bool
	}{
		{Returning, func(c Candidate) bool { return c.Liveness == Up }},
		// Not frozen, so the installed one, if there is one, asked to carry nothing: even a silent one is better.
		{LastHolder, func(c Candidate) bool { return c.Liveness == ControlLost && !q.Frozen }},
		{LastHolder, installed},
		{LastHolder, func(c Candidate) bool { return c.Liveness == ControlLost }},
	} {
		if i := slices.IndexFunc(list, doubt.is); i >= 0 {
			return pick(list[i], doubt.why), nextLook
		}
	}
	return pick(list[0], LastHolder), nextLook
}

// Sooner returns the earlier of two times, where zero means never.
func Sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
