// Package selection decides which NVAs carry a prefix.
//
// First it is asked who may carry it: how much each of those who announce it is to be trusted. Then the mode of the domain file says how many of
// those do, and which.
//
// Fast away, slow back: an NVA that is not to be used is left at once; one that has just come up, or has just announced the prefix, takes it from
// a working one only after the hold-down, and later still if it comes and goes (damping). Silence never blackholes: a prefix that any NVA announces
// keeps a next hop, whatever is believed of that NVA.
//
// Two rules keep the writes of a storm few. A prefix that was lost and came back before the table was written stays where it is: a flap that is over
// costs nothing. But if the table must be written anyway, because another prefix leaves a dead next hop, then those that came back too recently leave
// too: they would be the next to be lost. And what returns, returns at whole multiples of a grid: what was lost in one burst comes back in one write, and the
// tables of a group look at the same instant.
package selection

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/peering"
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
	NVAs      map[string]*state.NVA           // documents by name; a missing one is an NVA that was never heard
	Installed map[netip.Prefix]route.NextHops // of the target's managed routes
	NoECMP    bool                            // Azure takes no routes with several next hops in this table
	Standing  map[string]peering.Standing     // of the NVAs that peer with Route Servers, as far as prefixes go by way of those
	Stay      bool                            // no prefix moves from an NVA that works to a better one: a table that must agree with this one cannot be written
	Now       time.Time
}

// SelectionFor returns how the next hops of p are chosen, as far as Azure lets it.
func (in Input) SelectionFor(p netip.Prefix) config.Selection {
	how := in.Target.SelectionFor(p)
	if in.NoECMP && how.Mode == config.ModeECMP {
		how.MaxNextHops = 1
	}
	return how
}

// Choice is one prefix with the NVAs that carry it.
type Choice struct {
	Prefix   netip.Prefix
	NVAs     []string // at least one, the best first
	NextHops route.NextHops
	Reason   Reason
	Passed   []Passed // the NVAs that would carry it, or share it, but for an obstacle; best first
}

// Passed is an NVA that was not taken although it would have been its turn.
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
	Apart                        // the other tables of the target's group cannot follow
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
	case Apart:
		return "waiting until the other tables of the group can follow"
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
	for _, name := range c.NVAs {
		if own := r.Live.Of[name]; own.State != liveness.Up {
			parts = append(parts, name+" is "+own.String())
		}
	}
	if len(parts) == 0 {
		parts = append(parts, c.Reason.String())
	}
	return strings.Join(parts, "; ")
}

// Select answers which next hops every prefix of the target should have.
func Select(in Input) Result {
	s := selector{Input: in, result: Result{Live: liveness.Judge(in.Domain, in.NVAs, in.Now)}}
	s.spreading = s.spread()
	byPrefix := map[netip.Prefix][]Candidate{}
	for i := range in.Domain.NVAs {
		nva := &in.Domain.NVAs[i]
		if doc := in.NVAs[nva.Name]; doc != nil && in.Target.Fed(nva.Name) {
			s.announcements(nva, doc, byPrefix)
		}
	}
	prefixes := make([]netip.Prefix, 0, len(byPrefix))
	for p, list := range byPrefix {
		if s.belongs(p, list) {
			prefixes = append(prefixes, p)
		}
	}
	slices.SortFunc(prefixes, route.Compare)
	if s.choose(prefixes, byPrefix, false) {
		s.choose(prefixes, byPrefix, true)
	}
	return s.result
}

// belongs reports whether a prefix that those announce belongs in the table, where the domain file lets it go by way of the Route Servers.
//
//	via           an NVA that announces it, and to which a Route Server may still lead     another that announces it   in the table
//	udr, both     -                                                                        -                           yes
//	route-server  -                                                                        -                           no
//	override      is not usable                                                            is usable                   yes
//	override      is not usable                                                            none is usable              if it is now
//	override      is usable, but not up, or not yet trusted again                          -                           if it is now
//	override      none such                                                                -                           no
func (s *selector) belongs(p netip.Prefix, list []Candidate) bool {
	switch s.Domain.ViaOf(p) {
	case config.ViaUDR, config.ViaBoth:
		return true
	case config.ViaRouteServer:
		return false
	case config.ViaOverride:
	}
	installed := !s.Installed[p].Empty()
	usable := slices.ContainsFunc(list, func(c Candidate) bool { return c.Belief.State.Usable() })
	return slices.ContainsFunc(list, func(c Candidate) bool {
		if !s.Standing[c.NVA.Name].Lists(c.Belief.Since) {
			return false
		}
		if c.Belief.State.Usable() {
			early := s.Now.Before(c.Belief.Trusted)
			if installed && early {
				s.look = Sooner(s.look, c.Belief.Trusted)
			}
			return installed && (early || c.Belief.Untold || c.Belief.State != liveness.Up)
		}
		return installed || usable
	})
}

// choose answers for all prefixes; it reports whether any leaves a dead next hop.
func (s *selector) choose(prefixes []netip.Prefix, byPrefix map[netip.Prefix][]Candidate, settle bool) (leaves bool) {
	s.result.Choices, s.result.NextLook = make([]Choice, 0, len(prefixes)), Sooner(s.result.Live.Look, s.look)
	for _, p := range prefixes {
		q := Question{
			Prefix: p, How: s.SelectionFor(p), Spreading: s.spreading, Installed: s.Installed[p], Policy: s.Domain.Policy, Stay: s.Stay, Settle: settle, Now: s.Now,
		}
		c, look := Choose(q, byPrefix[p])
		s.result.Choices = append(s.result.Choices, c)
		s.result.NextLook = Sooner(s.result.NextLook, look)
		leaves = leaves || q.Leaves(c, byPrefix[p])
	}
	return leaves
}

// spread deals the traffic of a target that has anything in mode spread; nil for others.
func (s *selector) spread() *Spreading {
	if !s.Target.Spreads() {
		return nil
	}
	var members []Member
	for _, nva := range s.Domain.NVAs {
		if s.Target.Fed(nva.Name) {
			members = append(members, Member{nva, s.result.Live.Of[nva.Name]})
		}
	}
	return NewSpreading(s.Domain.Spread, s.Target.Side, members, s.Now)
}

// Candidate is one NVA that announces the prefix in question, and may.
type Candidate struct {
	NVA    *config.NVA
	Metric uint32
	Belief liveness.Belief
	Since  time.Time   // since when it announces the prefix without a break; zero: for long
	Losses []time.Time // when it lost the prefix, ascending
	Told   time.Time   // when an operator last said that it may carry routes; zero: never
}

// Question is what the choice for one prefix depends on beside its candidates.
type Question struct {
	Prefix    netip.Prefix
	How       config.Selection
	Spreading *Spreading     // needed where How is mode spread
	Installed route.NextHops // its next hops in the target; empty: none of ours
	Policy    config.Policy
	Stay      bool // see Input
	Settle    bool // the table is written anyway: leave also an NVA that announced the prefix again too recently
	Now       time.Time
}

type selector struct {
	Input
	result    Result
	spreading *Spreading
	look      time.Time // when a prefix may leave the table because an NVA is trusted again; zero: never
}

// announcements adds what the NVA announces and may announce.
func (s *selector) announcements(nva *config.NVA, doc *state.NVA, byPrefix map[netip.Prefix][]Candidate) {
	c := Candidate{NVA: nva, Belief: s.result.Live.Of[nva.Name], Told: Told(doc)}
	rib := doc.RIB()
	allowed := rib[:0]
	for _, e := range rib {
		if why := Refuse(*nva, e.Prefix); why != "" {
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
		if !s.Target.Wants(e.Prefix) || over && !Carries(s.SelectionFor(e.Prefix), *nva, e.Prefix, s.Installed[e.Prefix]) {
			continue
		}
		if why := Unfronted(s.SelectionFor(e.Prefix), e.Prefix); why != "" {
			s.result.Refused = append(s.result.Refused, Refusal{nva.Name, e.Prefix, why})
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

// Unfronted says why p has no next hop although its mode is next-hop-ip, or "".
func Unfronted(how config.Selection, p netip.Prefix) string {
	if how.Mode != config.ModeNextHopIP || how.NextHop(p).IsValid() {
		return ""
	}
	return "the target's nextHops have no address of this family"
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
