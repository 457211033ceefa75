package kernel

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/agent/source"
)

// shadow is the kernel's routing tables as far as messages tell, and what the sink was told about them.
//
//	route, link, nexthop messages        dump (load)
//	            |                            |
//	            v                            v
//	   +------------------- seen ----------------------+
//	   | prefix -> every route the kernel holds for it |
//	   +-----------------------------------------------+
//	            |  best: one usable route or none
//	            v
//	   +------------------- told ----------------------+
//	   | prefix -> what the sink knows                 |
//	   +-----------------------------------------------+
//
// Invariants:
//
//	S1  for every prefix outside pending (and none is outside if pendingAll), told is best(seen).
//	S2  if no message was lost, and every apply since the last load returned sure, seen is what the kernel holds.
//
// The kernel does many things silently (see reason). The rule for those: bad news is believed at once, good news only from a
// message about the route itself or from a dump. A link that goes down marks the legs over it, just as the kernel does; a
// link that comes up marks nothing.
//
// It is pure: no clock, no I/O, and no goroutine may share it.
type shadow struct {
	cfg        *Config
	links      map[uint32]link
	nexthops   map[uint32]nexthop
	users      map[uint32]int // nexthop id -> routes in seen that name it
	slots      map[netip.Prefix]*slot
	pending    map[netip.Prefix]struct{}
	pendingAll bool
	told       int // how many prefixes the sink knows
	scratch    []netip.Addr
}

// slot is one prefix. Routes with the same key stand together, in the kernel's order.
type slot struct {
	seen []entry
	told *source.Route
}

// route is one route as a message describes it.
type route struct {
	prefix netip.Prefix
	entry
}

// entry is one route without its prefix. The kernel finds a route by (prefix, table, metric, tos), which does not identify
// it: "ip route append" adds a second one with the same key.
type entry struct {
	table, metric uint32
	nexthop       uint32 // id of a nexthop object, 0 for none
	tos           uint8
	protocol      uint8
	kind          uint8 // rtm_type
	legs          []leg // the ways out; several for a multipath route, none for one that discards
}

// leg is one way out: a gateway, a link, or both.
type leg struct {
	via   netip.Addr // invalid for on-link
	link  uint32     // interface index
	flags legFlags
}

// legFlags are the RTNH_F_ flags that matter (include/uapi/linux/rtnetlink.h).
type legFlags uint8

const (
	legDead     legFlags = 1
	legLinkdown legFlags = 16
)

// nexthop is a nexthop object: one leg, or a group of other objects.
type nexthop struct {
	leg
	blackhole bool
	members   []uint32
}

// linkState orders what a link can carry, best first.
type linkState uint8

const (
	linkUp linkState = iota + 1
	linkNoCarrier
	linkDown
)

type link struct {
	name  string
	state linkState
}

// verb is what a route message does to the routes of its key.
type verb uint8

const (
	added     verb = iota + 1 // the only one
	appended                  // a further one, behind (IPv6: or merged into one multipath route)
	prepended                 // a further one, in front (IPv6: or merged)
	replaced                  // in place of the first
	deleted
)

// reason is why the shadow table may now differ from the kernel.
type reason uint8

const (
	sure           reason = iota + 1
	linkChanged           // routes over the link came or went silently (IPv4 always, IPv6 by sysctl)
	addressChanged        // the last address of a link takes the link's routes with it silently
	nexthopChanged        // routes that name the object changed or went silently
	routeUnclear          // the message fits several states of the kernel: append, partial delete
	unreadable            // a message could not be decoded
	overrun               // messages were lost
)

// String names the reason for the log.
func (r reason) String() string {
	switch r {
	case sure:
		return "sure"
	case linkChanged:
		return "link changed"
	case addressChanged:
		return "address removed"
	case nexthopChanged:
		return "nexthop changed"
	case routeUnclear:
		return "route message unclear"
	case unreadable:
		return "message unreadable"
	case overrun:
		return "receive buffer overrun"
	}
	panic("kernel: unknown reason")
}

// view is a complete dump.
type view struct {
	links    map[uint32]link
	nexthops map[uint32]nexthop
	routes   []route
}

func newView() view { return view{links: map[uint32]link{}, nexthops: map[uint32]nexthop{}} }

func newShadow(cfg *Config) *shadow {
	return &shadow{
		cfg: cfg, links: map[uint32]link{}, nexthops: map[uint32]nexthop{}, users: map[uint32]int{},
		slots: map[netip.Prefix]*slot{}, pending: map[netip.Prefix]struct{}{},
	}
}

// load takes a dump for the truth. The dump's slices belong to the shadow afterwards.
func (s *shadow) load(v view) {
	s.links, s.nexthops = v.links, v.nexthops
	clear(s.users)
	for _, sl := range s.slots {
		sl.seen = nil
	}
	for _, r := range v.routes {
		if !s.cfg.holds(r.table, r.prefix) {
			continue
		}
		sl := s.slot(r.prefix)
		_, end := sl.group(r.entry)
		sl.seen = slices.Insert(sl.seen, end, r.entry)
		s.use(r.entry, 1)
	}
	s.pendingAll = true
}

// applyRoute takes a route message into the shadow.
func (s *shadow) applyRoute(v verb, r route) reason {
	if !s.cfg.holds(r.table, r.prefix) {
		return sure
	}
	if v == deleted {
		return s.deleteRoute(r)
	}
	sl := s.slot(r.prefix)
	start, end := sl.group(r.entry)
	old := sl.seen[start:end]
	group, why := combine(v, r, old)
	s.useAll(old, -1)
	s.useAll(group, 1)
	sl.seen = slices.Replace(sl.seen, start, end, group...)
	s.touch(r.prefix)
	return why
}

// combine returns the routes of one key after a message that adds r to them.
func combine(v verb, r route, old []entry) ([]entry, reason) {
	if len(old) == 0 {
		if v != added && r.prefix.Addr().Is4() {
			return []entry{r.entry}, routeUnclear // there was something to replace or to append to
		}
		return []entry{r.entry}, sure
	}
	group := slices.Clone(old)
	if v == added {
		return []entry{r.entry}, routeUnclear // the old ones went silently
	}
	if v == replaced {
		group[0] = r.entry
		return group, unclearIf(len(group) > 1)
	}
	if i := slices.IndexFunc(group, func(e entry) bool { return mergesInto(e, r) }); i >= 0 {
		group[i] = r.entry
		return group, routeUnclear
	}
	if v == prepended {
		return slices.Insert(group, 0, r.entry), routeUnclear
	}
	return append(group, r.entry), routeUnclear
}

// mergesInto reports whether IPv6 has merged e into the multipath route r: it has no second route with the same key as long
// as both have gateways, and the message carries all the legs.
func mergesInto(e entry, r route) bool {
	return r.prefix.Addr().Is6() && len(e.legs) > 0 && subset(e.legs, r.legs)
}

// deleteRoute takes out the route that a message names. Nothing to delete is no surprise: it went silently before.
func (s *shadow) deleteRoute(r route) reason {
	sl := s.slots[r.prefix]
	if sl == nil {
		return sure
	}
	start, end := sl.group(r.entry)
	if start == end {
		return sure
	}
	s.touch(r.prefix)
	group := sl.seen[start:end]
	if i := slices.IndexFunc(group, func(e entry) bool { return same(e, r.entry) }); i >= 0 {
		s.use(group[i], -1)
		sl.seen = slices.Delete(sl.seen, start+i, start+i+1)
		return sure
	}
	if i := slices.IndexFunc(group, func(e entry) bool { return subset(r.legs, e.legs) }); i >= 0 && r.prefix.Addr().Is6() {
		group[i].legs = without(group[i].legs, r.legs) // IPv6 names one gateway while the route lives on
	}
	return routeUnclear
}

// applyLink takes a new state of a link into the shadow.
func (s *shadow) applyLink(index uint32, l link) reason {
	old, known := s.links[index]
	s.links[index] = l
	if known && l.state > old.state {
		s.markLegs(index, flagsOf(l.state))
	}
	if known && l.name != old.name && len(s.cfg.Interfaces) > 0 {
		s.pendingAll = true
	}
	return linkChanged
}

// deleteLink takes a link out of the shadow.
func (s *shadow) deleteLink(index uint32) reason {
	s.markLegs(index, legDead)
	delete(s.links, index)
	return linkChanged
}

// applyNexthop takes a nexthop object into the shadow. A new object, which nothing can name yet, raises no doubt: FRR makes
// one for every new set of next hops.
func (s *shadow) applyNexthop(id uint32, n nexthop) reason {
	old, known := s.nexthops[id]
	s.nexthops[id] = n
	if !known || sameNexthop(old, n) || !s.used(id) {
		return sure
	}
	s.touchUsers(id)
	return nexthopChanged
}

// deleteNexthop takes a nexthop object out of the shadow, and with it the routes and group members that name it, as the
// kernel does without a word.
func (s *shadow) deleteNexthop(id uint32) reason {
	if !s.used(id) {
		s.forgetNexthop(id)
		return sure
	}
	s.touchUsers(id)
	s.forgetNexthop(id)
	return nexthopChanged
}

func (s *shadow) forgetNexthop(id uint32) {
	delete(s.nexthops, id)
	if s.users[id] > 0 {
		for _, sl := range s.slots {
			sl.seen = slices.DeleteFunc(sl.seen, func(e entry) bool { return e.nexthop == id })
		}
		delete(s.users, id)
	}
	for g, n := range s.nexthops {
		if !slices.Contains(n.members, id) {
			continue
		}
		n.members = slices.DeleteFunc(slices.Clone(n.members), func(m uint32) bool { return m == id })
		s.nexthops[g] = n
		if len(n.members) == 0 {
			s.forgetNexthop(g)
		}
	}
}

// used reports whether any route names the object, itself or through a group.
func (s *shadow) used(id uint32) bool {
	if s.users[id] > 0 {
		return true
	}
	for g, n := range s.nexthops {
		if s.users[g] > 0 && slices.Contains(n.members, id) {
			return true
		}
	}
	return false
}

// touchUsers marks every prefix with a route that names the object.
func (s *shadow) touchUsers(id uint32) {
	for p, sl := range s.slots {
		for _, e := range sl.seen {
			if e.nexthop == id || slices.Contains(s.nexthops[e.nexthop].members, id) {
				s.touch(p)
			}
		}
	}
}

// markLegs sets flags on every leg over a link.
func (s *shadow) markLegs(index uint32, flags legFlags) {
	for id, n := range s.nexthops {
		if n.link == index && n.flags&flags != flags {
			n.flags |= flags
			s.nexthops[id] = n
			if s.used(id) {
				s.touchUsers(id)
			}
		}
	}
	for p, sl := range s.slots {
		for _, e := range sl.seen {
			for i := range e.legs {
				if e.legs[i].link == index {
					e.legs[i].flags |= flags
					s.touch(p)
				}
			}
		}
	}
}

func flagsOf(l linkState) legFlags {
	if l == linkDown {
		return legDead | legLinkdown
	}
	return legLinkdown
}

// take returns the difference between best(seen) and told, sorted by prefix, and makes told equal.
func (s *shadow) take() (changed []source.Route, gone []netip.Prefix) {
	settle := func(p netip.Prefix, sl *slot) {
		best, ok := s.best(p, sl.seen)
		switch {
		case ok && (sl.told == nil || !sl.told.Equal(best)):
			best.NextHops = slices.Clone(best.NextHops)
			if sl.told == nil {
				s.told++
			}
			sl.told = &best
			changed = append(changed, best)
		case !ok && sl.told != nil:
			sl.told = nil
			s.told--
			gone = append(gone, p)
		}
		if len(sl.seen) == 0 {
			delete(s.slots, p)
		}
	}
	if s.pendingAll {
		for p, sl := range s.slots {
			settle(p, sl)
		}
	} else {
		for p := range s.pending {
			if sl := s.slots[p]; sl != nil {
				settle(p, sl)
			}
		}
	}
	s.pendingAll = false
	clear(s.pending)
	slices.SortFunc(changed, func(a, b source.Route) int { return a.Prefix.Compare(b.Prefix) })
	slices.SortFunc(gone, netip.Prefix.Compare)
	return changed, gone
}

// all returns everything the sink knows, sorted by prefix.
func (s *shadow) all() []source.Route {
	out := make([]source.Route, 0, s.told)
	for _, sl := range s.slots {
		if sl.told != nil {
			out = append(out, *sl.told)
		}
	}
	slices.SortFunc(out, func(a, b source.Route) int { return a.Prefix.Compare(b.Prefix) })
	return out
}

// best chooses the route to report for a prefix: the lowest metric, then the earlier table of the configuration, then the
// lowest type of service, then the kernel's order. Its NextHops are valid until the next call.
func (s *shadow) best(p netip.Prefix, seen []entry) (source.Route, bool) {
	var best *entry
	for i := range seen {
		if e := &seen[i]; s.usable(e) && (best == nil || s.compare(e, best) < 0) {
			best = e
		}
	}
	if best == nil {
		return source.Route{}, false
	}
	return source.Route{
		Prefix: p, Metric: best.metric, Origin: protocolName(best.protocol), Table: best.table, NextHops: s.gateways(best),
	}, true
}

func (s *shadow) compare(a, b *entry) int {
	return cmp.Or(
		cmp.Compare(a.metric, b.metric),
		cmp.Compare(slices.Index(s.cfg.Tables, a.table), slices.Index(s.cfg.Tables, b.table)),
		cmp.Compare(a.tos, b.tos),
	)
}

// usable reports whether the route counts: its protocol is wanted, and it has a leg that lives or discards on purpose.
func (s *shadow) usable(e *entry) bool {
	if !s.cfg.counts(e.protocol) {
		return false
	}
	switch e.kind {
	case kindUnicast:
		if s.nexthops[e.nexthop].blackhole {
			return s.cfg.Blackhole
		}
		for l := range s.legs(e) {
			if s.alive(l) {
				return true
			}
		}
		return false
	case kindBlackhole, kindUnreachable, kindProhibit:
		return s.cfg.Blackhole
	}
	return false
}

// gateways returns the addresses of the legs that live, in the scratch buffer.
func (s *shadow) gateways(e *entry) []netip.Addr {
	s.scratch = s.scratch[:0]
	for l := range s.legs(e) {
		if l.via.IsValid() && s.alive(l) {
			s.scratch = append(s.scratch, l.via)
		}
	}
	slices.SortFunc(s.scratch, netip.Addr.Compare)
	s.scratch = slices.Compact(s.scratch)
	return s.scratch
}

// legs iterates the legs of a route. Those of its nexthop object go before its own: with
// net.ipv4.nexthop_compat_mode=0 the route has none, and no event tells that they changed.
func (s *shadow) legs(e *entry) func(yield func(leg) bool) {
	return func(yield func(leg) bool) {
		n, known := s.nexthops[e.nexthop]
		switch {
		case e.nexthop == 0 || !known:
			for _, l := range e.legs {
				if !yield(l) {
					return
				}
			}
		case len(n.members) > 0:
			for _, m := range n.members {
				if o, ok := s.nexthops[m]; ok && !yield(o.leg) {
					return
				}
			}
		default:
			yield(n.leg)
		}
	}
}

func (s *shadow) alive(l leg) bool {
	if l.flags&legDead != 0 || l.flags&legLinkdown != 0 && !s.cfg.KeepLinkdown {
		return false
	}
	return len(s.cfg.Interfaces) == 0 || slices.Contains(s.cfg.Interfaces, s.links[l.link].name)
}

func (s *shadow) slot(p netip.Prefix) *slot {
	sl := s.slots[p]
	if sl == nil {
		sl = &slot{}
		s.slots[p] = sl
	}
	return sl
}

func (s *shadow) touch(p netip.Prefix) { s.pending[p] = struct{}{} }

func (s *shadow) use(e entry, n int) {
	if e.nexthop == 0 {
		return
	}
	if s.users[e.nexthop] += n; s.users[e.nexthop] <= 0 {
		delete(s.users, e.nexthop)
	}
}

func (s *shadow) useAll(entries []entry, n int) {
	for _, e := range entries {
		s.use(e, n)
	}
}

// group returns the range of the routes with e's key; if there are none, both ends are where the first would go.
func (sl *slot) group(e entry) (start, end int) {
	start = slices.IndexFunc(sl.seen, e.sameKey)
	if start < 0 {
		return len(sl.seen), len(sl.seen)
	}
	end = start
	for end < len(sl.seen) && e.sameKey(sl.seen[end]) {
		end++
	}
	return start, end
}

func (e entry) sameKey(o entry) bool {
	return e.table == o.table && e.metric == o.metric && e.tos == o.tos
}

// same reports whether two routes of one key are the same route, whatever state its legs are in.
func same(a, b entry) bool {
	if a.protocol != b.protocol || a.kind != b.kind || a.nexthop != b.nexthop {
		return false
	}
	return a.nexthop != 0 || len(a.legs) == len(b.legs) && subset(a.legs, b.legs)
}

func sameNexthop(a, b nexthop) bool {
	return a.leg == b.leg && a.blackhole == b.blackhole && slices.Equal(a.members, b.members)
}

func sameLeg(a, b leg) bool { return a.via == b.via && a.link == b.link }

func hasLeg(legs []leg, l leg) bool {
	return slices.ContainsFunc(legs, func(o leg) bool { return sameLeg(l, o) })
}

// subset reports whether b has all legs of a.
func subset(a, b []leg) bool {
	for _, l := range a {
		if !hasLeg(b, l) {
			return false
		}
	}
	return true
}

// without returns the legs of a that are not in b, in memory of its own.
func without(a, b []leg) []leg {
	return slices.DeleteFunc(slices.Clone(a), func(l leg) bool { return hasLeg(b, l) })
}

func unclearIf(unclear bool) reason {
	if unclear {
		return routeUnclear
	}
	return sure
}
