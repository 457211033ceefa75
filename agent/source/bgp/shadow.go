package bgp

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
)

// quietTime without an UPDATE ends the first exchange of a session whose peer sends no End-of-RIB (RFC 4724, section 2).
const quietTime = 10 * time.Second

// shadow is what the peers announce, and what the sink was told of it.
//
//	   UPDATE of peer 0         UPDATE of peer 1
//	         | accepts                | accepts
//	         v                        v
//	+--- neighbor 0 ---+     +--- neighbor 1 ---+
//	| prefix -> path   |     | prefix -> path   |      a path is stale while its session is down, and after
//	+------------------+     +------------------+      that until it is announced again or the exchange ends
//	         |  best: fresh, weight, local preference, metric, order
//	         v
//	+--------------------- told ----------------------+
//	| prefix -> metric and next hop as the sink knows |
//	+-------------------------------------------------+
//
// Invariants:
//
//	S1  once started, told is best(prefix) for every prefix outside pending (none is outside if pendingAll).
//	S2  a session that goes down changes no path; only the end of its restart time can (Withdraw).
//	S3  a path that was stale at the end of an exchange is gone.
//	S4  a neighbor is stranded from the end of its restart time, if it has paths then, until the end of its next exchange, or until it has none.
//
// It is pure: no clock, no I/O; time is an argument. Its owner locks.
type shadow struct {
	cfg        *Config
	neighbors  []*neighbor
	told       map[netip.Prefix]value
	pending    map[netip.Prefix]struct{}
	pendingAll bool
	started    bool            // the sink has a complete view
	loss       string          // the reason that the sink knows; empty: the source sees
	stranded   []event.Session // that the sink knows of
}

// value is what of a path reaches the sink.
type value struct {
	metric  uint32
	nextHop netip.Addr
}

// path is what is kept of a [Path].
type path struct {
	value
	localPreference uint32
	session         uint32 // in which it was announced last
	refused         bool   // by a filter: it only counts as received
}

// phase is how far a session is.
type phase uint8

const (
	down     phase = iota + 1
	exchange       // established; what the peer has to say at the beginning is not complete
	live
)

// neighbor is one peer.
type neighbor struct {
	*Peer
	phase    phase
	session  uint32 // counts the sessions
	paths    map[netip.Prefix]path
	received [families]int // paths by family
	seen     bool          // its routes were complete once
	over     bool          // it announces too much: nothing new is taken

	// In exchange.
	awaited    []Family  // End-of-RIB is due
	quiet, end time.Time // the exchange ends at the latest

	// Down.
	reason   string
	restart  time.Duration // that the peer asked for
	lostAt   time.Time     // when the routes were complete last
	deadline time.Time     // of the restart time; zero: none
	expired  bool          // the deadline has passed
	overdue  bool          // the same, whether or not OnSessionLoss applies
	stranded bool          // and there are paths from before: nobody can withdraw them
	ceased   bool          // the session was closed from here, for too many prefixes
}

func newShadow(cfg *Config, now time.Time) *shadow {
	s := &shadow{cfg: cfg, told: map[netip.Prefix]value{}, pending: map[netip.Prefix]struct{}{}}
	for i := range cfg.Peers {
		s.neighbors = append(s.neighbors, &neighbor{
			Peer: &cfg.Peers[i], phase: down, paths: map[netip.Prefix]path{},
			reason: "no session yet", deadline: now.Add(cfg.RestartTime),
		})
	}
	return s
}

// established begins a session. restart is what the peer's graceful restart capability asks for.
func (s *shadow) established(i int, now time.Time, families []Family, restart time.Duration) {
	n := s.neighbors[i]
	n.phase, n.ceased = exchange, false
	n.session++
	if !n.seen {
		n.reason = "its routes are not complete yet"
	}
	n.awaited, n.restart = slices.Clone(families), restart
	n.quiet, n.end = now.Add(quietTime), now.Add(max(s.cfg.RestartTime, quietTime))
}

// update takes in an UPDATE and returns how many of its paths are refused.
func (s *shadow) update(i int, now time.Time, paths []Path) (refused uint64) {
	n := s.neighbors[i]
	if n.phase == down {
		return 0
	}
	n.quiet = now.Add(quietTime)
	for j := range paths {
		s.pending[paths[j].Prefix] = struct{}{}
		switch p := &paths[j]; {
		case p.Withdrawn:
			n.remove(p.Prefix)
		case !s.announce(n, p):
			refused++
		}
	}
	return refused
}

// announce takes in a path and reports whether it counts.
func (s *shadow) announce(n *neighbor, p *Path) bool {
	is := path{localPreference: p.LocalPreference, session: n.session, refused: !s.cfg.accepts(p)}
	if !is.refused {
		is.value = value{metric: s.cfg.metric(p), nextHop: p.NextHop}
	}
	if _, known := n.paths[p.Prefix]; !known {
		n.received[familyOf(p.Prefix)-1]++
	}
	n.paths[p.Prefix] = is
	return !is.refused
}

func (n *neighbor) remove(p netip.Prefix) {
	if _, known := n.paths[p]; known {
		delete(n.paths, p)
		n.received[familyOf(p)-1]--
	}
}

// endOfRIB takes in the mark that a family is complete. Source: RFC 4724, section 2.
func (s *shadow) endOfRIB(i int, f Family) {
	n := s.neighbors[i]
	n.awaited = slices.DeleteFunc(n.awaited, func(a Family) bool { return a == f })
}

// lost ends a session, or says why none comes about; ceased: it was closed for too many prefixes. It reports whether there was one.
func (s *shadow) lost(i int, now time.Time, reason string, ceased bool) bool {
	n := s.neighbors[i]
	was := n.phase
	if n.phase == live {
		n.lostAt, n.deadline, n.expired = now, now.Add(max(s.cfg.RestartTime, n.restart)), false
	}
	if was != down {
		n.phase, n.ceased, n.expired = down, ceased, false
		n.reason = "the session ended"
		s.pendingAll = s.pendingAll || len(s.neighbors) > 1 // what is stale now ranks behind what is fresh
	}
	switch {
	case ceased:
		n.reason = fmt.Sprintf("it announced more than %d prefixes of a family: the session was closed, its routes stay as they were", s.cfg.CeaseAt())
	case reason != "" && !n.ceased:
		n.reason = reason
	}
	return was != down
}

// tick does what is due.
func (s *shadow) tick(now time.Time) {
	for _, n := range s.neighbors {
		switch {
		case n.phase == exchange && (len(n.awaited) == 0 || !now.Before(n.quiet) || !now.Before(n.end)):
			s.complete(n)
		case n.phase == down && !n.ceased && !n.expired && !now.Before(n.deadline):
			n.expired = true
			if s.cfg.OnSessionLoss == Withdraw {
				s.sweep(n, func(path) bool { return true })
			}
		}
		if n.phase == down && !now.Before(n.deadline) {
			n.overdue, n.stranded = true, len(n.paths) > 0
		}
		s.weigh(n)
	}
}

// complete ends the first exchange of a session: what was not announced again is gone.
func (s *shadow) complete(n *neighbor) {
	s.sweep(n, func(p path) bool { return p.session != n.session })
	n.phase, n.reason, n.expired, n.deadline = live, "", false, time.Time{}
	n.overdue, n.stranded = false, false
}

// weigh compares what a neighbor announces with the limit.
func (s *shadow) weigh(n *neighbor) {
	over := slices.Max(n.received[:]) > s.cfg.MaxPrefixes
	if n.over && !over {
		s.pendingAll = true // what was not taken is taken now
	}
	n.over = over
	n.seen = n.seen || n.phase == live && !over
}

func (s *shadow) sweep(n *neighbor, gone func(path) bool) {
	for p, has := range n.paths {
		if gone(has) {
			n.remove(p)
			s.pending[p] = struct{}{}
		}
	}
}

// next returns when tick has something to do; zero: not before something else happens.
func (s *shadow) next() time.Time {
	var at time.Time
	earlier := func(t time.Time) {
		if !t.IsZero() && (at.IsZero() || t.Before(at)) {
			at = t
		}
	}
	for _, n := range s.neighbors {
		switch {
		case n.phase == exchange:
			earlier(n.quiet)
			earlier(n.end)
		case n.phase == down && !n.overdue:
			earlier(n.deadline)
		}
	}
	return at
}

// report is what the sink has to be told, in the order of the fields; stranded before the first view.
type report struct {
	first    bool // view
	replace  bool
	all      []source.Route // with replace
	changed  []source.Route // without
	gone     []netip.Prefix
	lost     string // empty: nothing to say
	turned   bool   // what is stranded is news
	stranded []event.Session
}

// take returns what the sink has to be told as of now.
func (s *shadow) take(now time.Time) report {
	s.tick(now)
	var r report
	loss := s.problems()
	if s.started || s.settled() {
		r.changed, r.gone = s.diff()
		if !s.started || loss == "" && s.loss != "" {
			r = report{first: !s.started, replace: true, all: s.all()}
			s.started, s.loss = true, ""
		}
	}
	if loss != s.loss {
		r.lost, s.loss = loss, loss
	}
	if list := s.left(); !slices.EqualFunc(list, s.stranded, event.Session.Equal) {
		r.turned, r.stranded, s.stranded = true, list, list
	}
	return r
}

// left returns the sessions of which paths stay that nobody can withdraw, in the order of the configuration.
func (s *shadow) left() []event.Session {
	var all []event.Session
	for _, n := range s.neighbors {
		if n.stranded {
			all = append(all, event.Session{Name: n.Name, Since: n.lostAt.UTC().Truncate(time.Second)})
		}
	}
	return all
}

// settled reports whether there is a view to begin with. A peer that was never seen may announce anything, so it is waited for,
// unless silence is meant to withdraw.
func (s *shadow) settled() bool {
	return !slices.ContainsFunc(s.neighbors, func(n *neighbor) bool {
		return !n.seen && (s.cfg.OnSessionLoss != Withdraw || !n.expired)
	})
}

// problems says why the view is not what the peers announce; empty if it is.
func (s *shadow) problems() string {
	var all []string
	for _, n := range s.neighbors {
		if text := s.problem(n); text != "" {
			all = append(all, "peer "+n.Name+": "+text)
		}
	}
	return strings.Join(all, "; ")
}

func (s *shadow) problem(n *neighbor) string {
	switch {
	case n.over && n.phase != down:
		return fmt.Sprintf("it announces more than %d prefixes of a family: nothing new is taken", s.cfg.MaxPrefixes)
	case n.phase == live:
		return ""
	case !n.expired:
		return n.reason
	case s.cfg.OnSessionLoss == Withdraw:
		return n.reason + "; not back in time, its routes are withdrawn"
	}
	return n.reason + "; not back in time, its routes are kept"
}

// diff compares what is pending with what the sink knows, and takes it for told.
func (s *shadow) diff() (changed []source.Route, gone []netip.Prefix) {
	for _, p := range s.doubtful() {
		is, ok := s.best(p)
		was, known := s.told[p]
		switch {
		case ok && (!known || is != was):
			s.told[p] = is
			changed = append(changed, is.route(p))
		case !ok && known:
			delete(s.told, p)
			gone = append(gone, p)
		}
	}
	clear(s.pending)
	s.pendingAll = false
	return changed, gone
}

// doubtful returns the prefixes whose best path may differ from what was told, in order.
func (s *shadow) doubtful() []netip.Prefix {
	if s.pendingAll {
		for p := range s.told {
			s.pending[p] = struct{}{}
		}
		for _, n := range s.neighbors {
			for p := range n.paths {
				s.pending[p] = struct{}{}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(s.pending), route.Compare)
}

// best returns the best path to p. A neighbor that is over the limit counts for prefixes that the sink knows.
func (s *shadow) best(p netip.Prefix) (value, bool) {
	_, known := s.told[p]
	var best path
	var of *neighbor
	for _, n := range s.neighbors {
		is, ok := n.paths[p]
		if !ok || is.refused || n.over && !known {
			continue
		}
		if of == nil || better(n, is, of, best) {
			of, best = n, is
		}
	}
	return best.value, of != nil
}

// better reports whether path a of neighbor n beats path b of m, which comes earlier in the configuration.
func better(n *neighbor, a path, m *neighbor, b path) bool {
	if n.fresh(a) != m.fresh(b) {
		return n.fresh(a)
	}
	return cmp.Or(
		cmp.Compare(n.Weight, m.Weight),
		cmp.Compare(a.localPreference, b.localPreference),
		cmp.Compare(b.metric, a.metric),
	) > 0
}

func (n *neighbor) fresh(p path) bool { return n.phase != down && p.session == n.session }

// all returns what was told, by prefix.
func (s *shadow) all() []source.Route {
	out := make([]source.Route, 0, len(s.told))
	for _, p := range slices.SortedFunc(maps.Keys(s.told), route.Compare) {
		out = append(out, s.told[p].route(p))
	}
	return out
}

func (v value) route(p netip.Prefix) source.Route {
	r := source.Route{Prefix: p, Metric: v.metric, Origin: "bgp"}
	if v.nextHop.IsValid() {
		r.NextHops = []netip.Addr{v.nextHop}
	}
	return r
}
