package routeserver

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

// Machine decides what both instances are told.
//
//	      RIB
//	       | include, exclude, IPv4, default route
//	       v
//	+-- waiting --+ up to the route limit  +--- table ---+
//	| prefix      | ---------------------> | prefix      |      one for both instances: they get the same
//	+-------------+                        +-------------+
//	                                        | dirty  | dirty
//	                                        v        v
//	                               +-- sent 0 --+ +-- sent 1 --+
//	                               | prefix ->  | | prefix ->  |   what the instance has from us
//	                               | attributes | | attributes |
//	                               +------------+ +------------+
//
// Invariants:
//
//	M1  a table has at most RouteLimit prefixes; those that are in it stay for as long as the RIB has them, whatever is waiting.
//	M2  sent is table, with the attributes that are due, for every prefix outside dirty.
//	M3  what an instance has, and what was re-advertised to it within Pace, are together at most RouteLimit; the latter is at most half of it.
//	M4  a prefix that stays in the table is announced again, not withdrawn, unless the instance has so many routes that M3 leaves no room.
//
// It is pure: no clock, no I/O; time is an argument. Its owner locks.
type Machine struct {
	cfg      *Config
	byRank   [MaxRank + 2]*Attributes // the same pointer is the same value
	table    map[netip.Prefix]struct{}
	waiting  map[netip.Prefix]struct{}
	ready    bool // the RIB is complete
	drained  bool
	sessions [Instances]session
}

// Attributes are the path attributes that routes share, beside ORIGIN, which is IGP.
type Attributes struct {
	ASPath      []uint16   // one sequence
	NextHop     netip.Addr // zero: the address that the session is opened from
	Communities []bgp.Community
}

// Learned is a route that an instance announced.
type Learned struct {
	Prefix      netip.Prefix    `json:"prefix"`
	NextHop     netip.Addr      `json:"nextHop"`
	ASPath      []uint32        `json:"asPath"`
	Communities []bgp.Community `json:"communities,omitempty"`
}

// Update is one step: either withdrawals or announcements, sorted.
type Update struct {
	Withdraw   []netip.Prefix
	Announce   []netip.Prefix
	Attributes *Attributes // of Announce
}

// Effects are what is to be sent to an instance, in this order.
type Effects struct {
	Updates  []Update
	EndOfRIB bool      // after the updates: what is due was sent once (RFC 4724, section 2)
	Wake     time.Time // there is more to send then; zero: nothing that waits for time
}

// Empty reports whether there is nothing to send.
func (e Effects) Empty() bool { return len(e.Updates) == 0 && !e.EndOfRIB }

// session is what is known of one instance.
type session struct {
	up       bool
	since    time.Time // it is up, or has been down
	reason   string    // why it is down
	hold     time.Duration
	count    int                          // sessions that came up
	told     bool                         // End-of-RIB was sent
	retained bool                         // the instance has kept, and counts, what a process before this one announced: nobody knows what, but End-of-RIB ends it
	sent     map[netip.Prefix]*Attributes // after Lost: what the instance may have kept
	dirty    map[netip.Prefix]bool        // to be looked at; true: to be announced again even if nothing changed
	spent    []spending                   // within Pace, oldest first

	learned  map[netip.Prefix]Learned
	complete bool // the instance has sent End-of-RIB
	dropped  int  // routes above MaxLearned
}

// spending is what of the limits was used at one instant.
type spending struct {
	at      time.Time
	again   int // re-advertised
	swapped int // withdrawn and announced again
}

// NewMachine returns a machine that knows no routes.
func NewMachine(cfg *Config, now time.Time) *Machine {
	m := &Machine{cfg: cfg, table: map[netip.Prefix]struct{}{}, waiting: map[netip.Prefix]struct{}{}}
	for rank := range m.byRank {
		m.byRank[rank] = &Attributes{
			ASPath: slices.Repeat([]uint16{cfg.AS}, 1+rank), NextHop: cfg.NextHop, Communities: cfg.Communities,
		}
	}
	for i := range m.sessions {
		m.sessions[i] = session{since: now, reason: "no session yet", learned: map[netip.Prefix]Learned{}}
	}
	return m
}

// attributes returns what a prefix is announced with now; nil: it is not.
func (m *Machine) attributes(p netip.Prefix) *Attributes {
	if _, in := m.table[p]; !in {
		return nil
	}
	if m.drained {
		return m.byRank[MaxRank+1]
	}
	return m.byRank[m.cfg.rank(p)]
}

// Changed takes in changes of the RIB.
func (m *Machine) Changed(changes []rib.Change) {
	for _, c := range changes {
		p := c.Prefix
		if c.Is.Announced {
			if _, in := m.table[p]; !in && m.cfg.passes(p) {
				m.waiting[p] = struct{}{}
			}
			continue
		}
		delete(m.waiting, p)
		if _, in := m.table[p]; in {
			delete(m.table, p)
			m.mark(p)
		}
	}
}

// mark has all sessions look at a prefix.
func (m *Machine) mark(p netip.Prefix) {
	for i := range m.sessions {
		s := &m.sessions[i]
		if _, marked := s.dirty[p]; s.up && !marked {
			s.dirty[p] = false
		}
	}
}

// Ready says that the RIB is complete: nothing is announced before.
func (m *Machine) Ready() { m.ready = true }

// Drain says whether the NVA is to carry nothing. Its routes stay, as the last choice: whoever else announces them gets the traffic, and if nobody
// does, it is still better here than nowhere.
func (m *Machine) Drain(drained bool) {
	if m.drained == drained {
		return
	}
	m.drained = drained
	for p := range m.table {
		m.mark(p)
	}
}

// Established begins a session. retained: the instance has kept what it was told before (RFC 4724).
func (m *Machine) Established(i int, now time.Time, hold time.Duration, retained bool) {
	s := &m.sessions[i]
	kept, unknown := s.sent, s.count == 0 || s.retained
	*s = session{
		up: true, since: now, hold: hold, count: s.count + 1, retained: retained && unknown,
		sent: map[netip.Prefix]*Attributes{}, dirty: map[netip.Prefix]bool{}, learned: map[netip.Prefix]Learned{},
	}
	for p := range m.table {
		s.dirty[p] = false
	}
	if !retained {
		return
	}
	for p := range kept { // what is stale is as good as announced with other attributes
		s.sent[p], s.dirty[p] = &Attributes{}, false
	}
}

// Lost ends a session, or says why none came about.
func (m *Machine) Lost(i int, now time.Time, reason string) {
	s := &m.sessions[i]
	since := s.since
	if s.up {
		since = now
	}
	*s = session{since: since, reason: reason, count: s.count, retained: s.retained, sent: s.sent, learned: map[netip.Prefix]Learned{}}
}

// Refresh answers a ROUTE-REFRESH (RFC 2918): everything is announced again, at the pace of changes.
func (m *Machine) Refresh(i int) {
	s := &m.sessions[i]
	for p := range s.sent {
		s.dirty[p] = true
	}
}

// Heard takes in an UPDATE of an instance.
func (m *Machine) Heard(i int, withdrawn []netip.Prefix, announced []Learned) {
	s := &m.sessions[i]
	for _, p := range withdrawn {
		delete(s.learned, p)
	}
	for _, l := range announced {
		if _, known := s.learned[l.Prefix]; !known && len(s.learned) >= MaxLearned {
			s.dropped++
			continue
		}
		s.learned[l.Prefix] = l
	}
}

// HeardAll says that the instance has said everything once (End-of-RIB).
func (m *Machine) HeardAll(i int) { m.sessions[i].complete = true }

// admit fills the table from what is waiting, in the order of the prefixes.
func (m *Machine) admit() {
	room := m.cfg.RouteLimit - len(m.table)
	if room <= 0 || len(m.waiting) == 0 {
		return
	}
	for _, p := range firstOf(m.waiting, room) {
		delete(m.waiting, p)
		m.table[p] = struct{}{}
		m.mark(p)
	}
}

func firstOf(set map[netip.Prefix]struct{}, n int) []netip.Prefix {
	all := slices.SortedFunc(maps.Keys(set), route.Compare)
	return all[:min(n, len(all))]
}

// Next returns what is to be sent to an instance now, and takes it for sent.
func (m *Machine) Next(i int, now time.Time) Effects {
	s := &m.sessions[i]
	if !s.up || !m.ready {
		return Effects{}
	}
	m.admit()
	s.forget(now, m.cfg.Pace)
	d := m.due(s)
	var e Effects
	e.withdraw(s, d.gone)

	again, swapped := s.spendings()
	limit := m.cfg.RouteLimit
	fresh, left := split(d.fresh, limit-m.has(s)-again)
	e.announce(m, s, fresh)
	replaced, rest := split(d.again, min(m.cfg.half()-again, limit-m.cfg.reserve()-m.has(s)-again))
	e.announce(m, s, replaced)
	crowded, rest := split(rest, m.cfg.floor()-again-len(replaced)-swapped) // none unless the room is less than floor
	e.withdraw(s, crowded)
	e.announce(m, s, crowded)
	if len(replaced)+len(crowded) > 0 {
		s.spent = append(s.spent, spending{at: now, again: len(replaced), swapped: len(crowded)})
	}
	if len(left)+len(rest) > 0 {
		e.Wake = s.spent[0].at.Add(m.cfg.Pace)
		return e
	}
	e.EndOfRIB, s.told, s.retained = !s.told, true, false
	return e
}

// has is how many routes of ours the instance has, at most.
func (m *Machine) has(s *session) int {
	if s.retained {
		return max(len(s.sent), len(m.table))
	}
	return len(s.sent)
}

// due is what a session has to be told, sorted.
type due struct{ gone, fresh, again []netip.Prefix }

// due sorts out what is dirty. What an instance has retained is announced again, as far as its limit is concerned.
func (m *Machine) due(s *session) (d due) {
	for _, p := range slices.SortedFunc(maps.Keys(s.dirty), route.Compare) {
		is, was := m.attributes(p), s.sent[p]
		switch {
		case is == nil && (was != nil || s.retained):
			d.gone = append(d.gone, p)
		case is == was && (is == nil || !s.dirty[p]):
			delete(s.dirty, p)
		case was == nil && !s.retained:
			d.fresh = append(d.fresh, p)
		default:
			d.again = append(d.again, p)
		}
	}
	return d
}

// forget drops spendings that Pace has outlived.
func (s *session) forget(now time.Time, pace time.Duration) {
	s.spent = slices.DeleteFunc(s.spent, func(x spending) bool { return now.Sub(x.at) >= pace })
}

func (s *session) spendings() (again, swapped int) {
	for _, x := range s.spent {
		again, swapped = again+x.again, swapped+x.swapped
	}
	return again, swapped
}

// split cuts a list after n elements; a negative n counts as 0.
func split(list []netip.Prefix, n int) (first, rest []netip.Prefix) {
	n = min(max(n, 0), len(list))
	return list[:n], list[n:]
}

func (e *Effects) withdraw(s *session, list []netip.Prefix) {
	if len(list) == 0 {
		return
	}
	e.Updates = append(e.Updates, Update{Withdraw: list})
	for _, p := range list {
		delete(s.sent, p)
		delete(s.dirty, p)
	}
}

// announce adds updates, one for each set of attributes in the order of ranks.
func (e *Effects) announce(m *Machine, s *session, list []netip.Prefix) {
	by := map[*Attributes][]netip.Prefix{}
	for _, p := range list {
		a := m.attributes(p)
		by[a] = append(by[a], p)
		s.sent[p] = a
		delete(s.dirty, p)
	}
	for _, a := range m.byRank {
		if len(by[a]) > 0 {
			e.Updates = append(e.Updates, Update{Announce: by[a], Attributes: a})
		}
	}
}
