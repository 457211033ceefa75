package routeserver

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/route"
)

// Status is what people are shown.
type Status struct {
	Announced int              `json:"announced"`         // prefixes that both instances are to have
	Refused   int              `json:"refused,omitempty"` // prefixes beyond the route limit
	Drained   bool             `json:"drained,omitempty"` // announced as the last choice
	Instances []InstanceStatus `json:"instances"`
	// Differences between the instances, while both have a session: in what they have from us, and in what they announce. While routes are announced
	// step by step there are some.
	Sent    Difference `json:"differenceSent"`
	Learned Difference `json:"differenceLearned"`
}

// InstanceStatus is the state of one instance.
type InstanceStatus struct {
	Address     netip.Addr `json:"address"`
	Established bool       `json:"established"`
	Since       time.Time  `json:"since"`
	Reason      string     `json:"reason,omitempty"` // why it is not established
	HoldTime    string     `json:"holdTime,omitempty"`
	Sessions    int        `json:"sessions"` // that came up since the start
	Sent        int        `json:"sent"`     // prefixes that it has from us
	Pending     int        `json:"pending"`  // prefixes that it has yet to be told of
	Routes      []Learned  `json:"routes"`   // that it announces, by prefix
	Dropped     int        `json:"dropped,omitempty"`
}

// Difference counts the prefixes that the instances differ in, and names the first of them.
type Difference struct {
	Count int            `json:"count"`
	First []netip.Prefix `json:"first,omitempty"`
}

// shownDifferences is how many prefixes a [Difference] names.
const shownDifferences = 10

// Status returns the present state.
func (m *Machine) Status() Status {
	out := Status{Announced: len(m.table), Refused: m.refused(), Drained: m.drained}
	for i := range m.sessions {
		out.Instances = append(out.Instances, m.instance(i))
	}
	if a, b := &m.sessions[0], &m.sessions[1]; a.up && b.up {
		out.Sent = difference(a.sent, b.sent, func(x, y *Attributes) bool { return x == y })
		out.Learned = difference(a.learned, b.learned, func(x, y Learned) bool {
			return slices.Equal(x.ASPath, y.ASPath) && slices.Equal(x.Communities, y.Communities) // each instance may name itself as the next hop
		})
	}
	return out
}

func (m *Machine) instance(i int) InstanceStatus {
	s := &m.sessions[i]
	out := InstanceStatus{
		Address: m.cfg.Instances[i], Established: s.up, Since: s.since, Reason: s.reason, Sessions: s.count,
		Pending: len(s.dirty), Routes: make([]Learned, 0, len(s.learned)), Dropped: s.dropped,
	}
	if s.up {
		out.HoldTime, out.Sent = s.hold.String(), len(s.sent)
	}
	for _, p := range slices.SortedFunc(maps.Keys(s.learned), route.Compare) {
		out.Routes = append(out.Routes, s.learned[p])
	}
	return out
}

// refused is how many prefixes have no room in the table.
func (m *Machine) refused() int {
	if !m.ready {
		return 0
	}
	return max(0, len(m.table)+len(m.waiting)-m.cfg.RouteLimit)
}

func difference[V any](a, b map[netip.Prefix]V, same func(V, V) bool) (d Difference) {
	differs := map[netip.Prefix]struct{}{}
	for p, x := range a {
		if y, in := b[p]; !in || !same(x, y) {
			differs[p] = struct{}{}
		}
	}
	for p := range b {
		if _, in := a[p]; !in {
			differs[p] = struct{}{}
		}
	}
	d.Count, d.First = len(differs), firstOf(differs, shownDifferences)
	return d
}

// Trouble says what keeps Route Server from having the routes of this NVA; "" if nothing does.
func (m *Machine) Trouble() string {
	var all []string
	for i := range m.sessions {
		if s := &m.sessions[i]; !s.up {
			all = append(all, fmt.Sprintf("Route Server %s: %s", m.cfg.Instances[i], s.reason))
		}
	}
	if n := m.refused(); n > 0 {
		all = append(all, fmt.Sprintf("Route Server: %d prefixes are not announced: more than routeLimit (%d)", n, m.cfg.RouteLimit))
	}
	return strings.Join(all, "; ")
}

// Counts are the figures of one instance.
type Counts struct{ Up, Sent, Pending, Learned int }

// Counts returns the figures of an instance.
func (m *Machine) Counts(i int) Counts {
	s := &m.sessions[i]
	if !s.up {
		return Counts{}
	}
	return Counts{1, len(s.sent), len(s.dirty), len(s.learned)}
}
