// Package rib is what all sources of an agent see together: per prefix, the one route that the agent announces.
//
//	shadow of source 0     shadow of source 1          RIB
//	10.1.0.0/16 bgp        10.1.0.0/16 static     ──▶  10.1.0.0/16 bgp       the first shadow that holds the prefix wins
//	10.2.0.0/16 bgp                                    10.2.0.0/16 bgp
//	                       10.3.0.0/16 static          10.3.0.0/16 static
//
// A shadow holds what its source reported last, without what the filter leaves out. A source that is lost keeps its shadow, marked
// stale: silence withdraws nothing.
//
// Invariants: the RIB is a function of the shadows alone; Digest and Len are those of Entries; every change of the RIB is in
// exactly one list of changes that a method returned.
//
// A RIB has one owner; it is not safe for concurrent use.
package rib

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
)

// Filter says which prefixes the agent announces, whatever source reports them. A prefix that Azure cannot steer
// (route.Forbidden) is never announced.
type Filter struct {
	Include []route.Match // if any, the only prefixes that are announced
	Exclude []route.Match // wins over Include
}

// passes reports whether p may be announced.
func (f Filter) passes(p netip.Prefix) bool {
	return route.Forbidden(p) == "" && !route.AnyMatches(f.Exclude, p) &&
		(len(f.Include) == 0 || route.AnyMatches(f.Include, p))
}

// State is what is known of a source.
type State uint8

// The states of a source.
const (
	Waiting State = iota + 1 // it has not delivered its first complete view
	Live                     // its shadow is what it sees
	Lost                     // its shadow is what it saw last
)

// String returns the state as health reports show it.
func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Live:
		return "live"
	case Lost:
		return "lost"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// Value is what the RIB says of a prefix. Values are comparable.
type Value struct {
	Attrs     route.Attrs // zero unless Announced
	Announced bool
}

// Change is one prefix whose value changed.
type Change struct {
	Prefix  netip.Prefix
	Was, Is Value
}

// Source describes a source of the RIB.
type Source struct {
	Name   string
	State  State
	Reason error // why it is Lost
	Routes int   // prefixes in its shadow
}

// Announced is a route of the RIB with where it comes from.
type Announced struct {
	source.Route
	Source string
	Stale  bool // its source is lost
}

// shadow is what one source reported last.
type shadow struct {
	name   string
	state  State
	reason error
	routes map[netip.Prefix]source.Route
}

// RIB combines the shadows of its sources. The zero value is not useful; see New.
type RIB struct {
	filter  Filter
	shadows []*shadow // in the order of the configuration: an earlier one wins
	digest  route.Digest
	count   int
}

// New returns an empty RIB of the named sources, which are addressed by their index.
func New(filter Filter, sources ...string) *RIB {
	r := &RIB{filter: filter}
	for _, name := range sources {
		r.shadows = append(r.shadows, &shadow{name: name, state: Waiting, routes: map[netip.Prefix]source.Route{}})
	}
	return r
}

// Replace takes in the complete view of source i and returns what changed, by prefix.
func (r *RIB) Replace(i int, all []source.Route) []Change {
	s := r.shadows[i]
	s.state, s.reason = Live, nil
	keep := make(map[netip.Prefix]struct{}, len(all))
	for _, n := range all {
		keep[n.Prefix] = struct{}{}
	}
	var gone []netip.Prefix
	for p := range s.routes {
		if _, ok := keep[p]; !ok {
			gone = append(gone, p)
		}
	}
	return r.Update(i, all, gone)
}

// Update takes in what differs from the view of source i and returns what changed, by prefix.
func (r *RIB) Update(i int, changed []source.Route, gone []netip.Prefix) []Change {
	var changes []Change
	apply := func(p netip.Prefix, edit func(map[netip.Prefix]source.Route)) {
		was := r.At(p)
		edit(r.shadows[i].routes)
		if is := r.At(p); is != was {
			changes = append(changes, Change{Prefix: p, Was: was, Is: is})
		}
	}
	for _, n := range changed {
		if r.filter.passes(n.Prefix) {
			apply(n.Prefix, func(m map[netip.Prefix]source.Route) { m[n.Prefix] = n })
		}
	}
	for _, p := range gone {
		apply(p, func(m map[netip.Prefix]source.Route) { delete(m, p) })
	}
	for _, c := range changes {
		r.account(c)
	}
	slices.SortStableFunc(changes, func(a, b Change) int { return route.Compare(a.Prefix, b.Prefix) })
	return changes
}

// Lost marks source i stale.
func (r *RIB) Lost(i int, reason error) {
	if s := r.shadows[i]; s.state == Live {
		s.state = Lost
	}
	r.shadows[i].reason = reason
}

// account keeps the digest and the count.
func (r *RIB) account(c Change) {
	r.digest = c.Apply(r.digest)
	if c.Was.Announced {
		r.count--
	}
	if c.Is.Announced {
		r.count++
	}
}

// Apply returns what the digest d of a RIB becomes by the change.
func (c Change) Apply(d route.Digest) route.Digest {
	if c.Was.Announced {
		d = d.Remove(route.Entry{Prefix: c.Prefix, Attrs: c.Was.Attrs})
	}
	if c.Is.Announced {
		d = d.Add(route.Entry{Prefix: c.Prefix, Attrs: c.Is.Attrs})
	}
	return d
}

// holder returns the first shadow that holds p, or nil.
func (r *RIB) holder(p netip.Prefix) *shadow {
	for _, s := range r.shadows {
		if _, ok := s.routes[p]; ok {
			return s
		}
	}
	return nil
}

// At returns what the RIB says of p.
func (r *RIB) At(p netip.Prefix) Value {
	s := r.holder(p)
	if s == nil {
		return Value{}
	}
	n := s.routes[p]
	return Value{Attrs: route.Attrs{Metric: n.Metric, Origin: n.Origin}, Announced: true}
}

// Ready reports whether every source has delivered a complete view. A snapshot before that would withdraw what the others
// have yet to report.
func (r *RIB) Ready() bool {
	return !slices.ContainsFunc(r.shadows, func(s *shadow) bool { return s.state == Waiting })
}

// Len returns the number of prefixes.
func (r *RIB) Len() int { return r.count }

// Digest returns the digest of all entries.
func (r *RIB) Digest() route.Digest { return r.digest }

// Entries returns the RIB in the order in which events carry it.
func (r *RIB) Entries() []route.Entry {
	out := make([]route.Entry, 0, r.count)
	for i, s := range r.shadows {
		for p, n := range s.routes {
			if i == 0 || r.holder(p) == s {
				out = append(out, route.Entry{Prefix: p, Attrs: route.Attrs{Metric: n.Metric, Origin: n.Origin}})
			}
		}
	}
	event.Sort(out)
	return out
}

// Routes returns the RIB by prefix, with the source of every route.
func (r *RIB) Routes() []Announced {
	out := make([]Announced, 0, r.count)
	for _, s := range r.shadows {
		for p, n := range s.routes {
			if r.holder(p) == s {
				out = append(out, Announced{Route: n, Source: s.name, Stale: s.state == Lost})
			}
		}
	}
	slices.SortFunc(out, func(a, b Announced) int { return route.Compare(a.Prefix, b.Prefix) })
	return out
}

// Sources returns the sources in the order of the configuration.
func (r *RIB) Sources() []Source {
	out := make([]Source, len(r.shadows))
	for i, s := range r.shadows {
		out[i] = Source{Name: s.name, State: s.state, Reason: s.reason, Routes: len(s.routes)}
	}
	return out
}
