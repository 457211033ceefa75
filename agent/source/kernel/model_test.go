package kernel

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/agent/source"
)

// model is a kernel that does what a real one does to routes, including what it does without a word, and queues the
// messages that a real one would send. Its routes stand in the kernel's order.
type model struct {
	links    map[uint32]link
	nexthops map[uint32]nexthop
	routes   []route
	queue    []func(*shadow) reason
}

func (m *model) send(f func(*shadow) reason) { m.queue = append(m.queue, f) }

func (m *model) sendRoute(v verb, r route) {
	r.legs = slices.Clone(r.legs)
	m.send(func(s *shadow) reason {
		r := r
		r.legs = slices.Clone(r.legs) // the shadow owns what it is given
		return s.applyRoute(v, r)
	})
}

func (m *model) sendLink(index uint32) {
	l := m.links[index]
	m.send(func(s *shadow) reason { return s.applyLink(index, l) })
}

// group returns the positions of the routes with r's key.
func (m *model) group(r route) (at []int) {
	for i, o := range m.routes {
		if o.prefix == r.prefix && o.table == r.table && o.metric == r.metric {
			at = append(at, i)
		}
	}
	return at
}

// insert is "ip route VERB".
func (m *model) insert(v verb, r route) {
	at := m.group(r)
	merge := r.prefix.Addr().Is6() && r.nexthop == 0
	switch {
	case len(at) == 0 && v == replaced && r.prefix.Addr().Is4():
		v = added // the kernel says EXCL|CREATE when there was nothing to replace
		fallthrough
	case len(at) == 0:
		if v == appended || v == prepended {
			v = added
		}
		m.routes = append(m.routes, r)
	case v == added:
		return // EEXIST
	case v == replaced:
		if slices.ContainsFunc(at[1:], func(i int) bool { return same(m.routes[i].entry, r.entry) }) {
			return // EEXIST
		}
		m.routes[at[0]] = r
	case slices.ContainsFunc(at, func(i int) bool { return same(m.routes[i].entry, r.entry) }):
		return // EEXIST
	case merge && m.routes[at[0]].nexthop == 0:
		old := m.routes[at[0]]
		if slices.ContainsFunc(r.legs, func(l leg) bool { return hasLeg(old.legs, l) }) {
			return // EEXIST
		}
		r.legs = slices.Concat(old.legs, r.legs)
		r.protocol = old.protocol
		m.routes[at[0]] = r
	case v == appended:
		m.routes = slices.Insert(m.routes, at[len(at)-1]+1, r)
	default:
		m.routes = slices.Insert(m.routes, at[0], r)
	}
	m.sendRoute(v, r)
}

func (m *model) remove(i int) route {
	r := m.routes[i]
	m.routes = slices.Delete(m.routes, i, i+1)
	return r
}

// sweepLegs flags the legs over a link and takes away, with or without a word, what has none left that is not dead.
func (m *model) sweepLegs(index uint32, flags legFlags, tell6 bool) {
	for i := 0; i < len(m.routes); i++ {
		r := &m.routes[i]
		r.legs = slices.Clone(r.legs)
		for j := range r.legs {
			if r.legs[j].link == index {
				r.legs[j].flags |= flags
			}
		}
		dead := func(l leg) bool { return l.flags&legDead == 0 }
		if r.nexthop == 0 && r.kind == kindUnicast && !slices.ContainsFunc(r.legs, dead) {
			if gone := m.remove(i); tell6 && gone.prefix.Addr().Is6() {
				m.sendRoute(deleted, gone)
			}
			i--
		}
	}
}

// dropNexthop takes an object away and with it, silently, its routes and emptied groups.
func (m *model) dropNexthop(id uint32) {
	delete(m.nexthops, id)
	m.routes = slices.DeleteFunc(m.routes, func(r route) bool { return r.nexthop == id })
	for _, g := range slices.Sorted(maps.Keys(m.nexthops)) {
		n := m.nexthops[g]
		if !slices.Contains(n.members, id) {
			continue
		}
		n.members = slices.DeleteFunc(slices.Clone(n.members), func(o uint32) bool { return o == id })
		m.nexthops[g] = n
		if len(n.members) == 0 {
			m.dropNexthop(g)
		}
	}
}

func (m *model) dropNexthopsOver(index uint32) {
	for _, id := range slices.Sorted(maps.Keys(m.nexthops)) {
		if n, ok := m.nexthops[id]; ok && len(n.members) == 0 && n.link == index {
			m.dropNexthop(id)
		}
	}
}

func (m *model) dump() view {
	v := view{links: maps.Clone(m.links), nexthops: maps.Clone(m.nexthops)}
	for _, r := range m.routes {
		r.legs = slices.Clone(r.legs)
		v.routes = append(v.routes, r)
	}
	return v
}

// want is the view that should be reported, worked out route by route and the slow way.
func (m *model) want(cfg *Config) map[netip.Prefix]source.Route {
	out := map[netip.Prefix]source.Route{}
	for ti, table := range cfg.Tables {
		for _, r := range m.routes {
			gateways, ok := m.living(r)
			if r.table != table || !ok || r.protocol == protocolKernel {
				continue
			}
			have, exists := out[r.prefix]
			if exists && (have.Metric < r.metric || have.Metric == r.metric && slices.Index(cfg.Tables, have.Table) <= ti) {
				continue
			}
			out[r.prefix] = source.Route{
				Prefix: r.prefix, Metric: r.metric, Origin: protocolName(r.protocol), Table: table, NextHops: gateways,
			}
		}
	}
	return out
}

func (m *model) living(r route) (gateways []netip.Addr, ok bool) {
	legs := r.legs
	if r.nexthop != 0 {
		legs = nil
		for _, id := range append([]uint32{r.nexthop}, m.nexthops[r.nexthop].members...) {
			if n := m.nexthops[id]; len(n.members) == 0 {
				legs = append(legs, n.leg)
			}
		}
	}
	for _, l := range legs {
		if l.flags == 0 {
			ok = true
			gateways = append(gateways, l.via)
		}
	}
	slices.SortFunc(gateways, netip.Addr.Compare)
	return slices.Compact(gateways), ok && r.kind == kindUnicast
}

func drawLeg(t *rapid.T, v6 bool) leg {
	index := rapid.Uint32Range(1, 3).Draw(t, "link")
	host := rapid.IntRange(2, 3).Draw(t, "host")
	if v6 {
		return leg{link: index, via: netip.AddrFrom16([16]byte{0: 0x20, 7: byte(index), 15: byte(host)})}
	}
	return leg{link: index, via: netip.AddrFrom4([4]byte{192, 0, byte(index), byte(host)})}
}

// drawRoute draws a route that the kernel accepts: over links that are up, or naming an object that is there.
func (m *model) drawRoute(t *rapid.T) (route, bool) {
	r := route{
		prefix: netip.MustParsePrefix(rapid.SampledFrom([]string{"10.1.0.0/16", "2001:db8:1::/48"}).Draw(t, "prefix")),
		entry: entry{
			table:    rapid.SampledFrom([]uint32{254, 254, 254, 100, 99}).Draw(t, "table"),
			metric:   rapid.SampledFrom([]uint32{10, 10, 20}).Draw(t, "metric"),
			protocol: rapid.SampledFrom([]uint8{186, 186, 4, protocolKernel}).Draw(t, "protocol"),
			kind:     rapid.SampledFrom([]uint8{kindUnicast, kindUnicast, kindUnicast, kindBlackhole}).Draw(t, "kind"),
		},
	}
	ids := slices.Sorted(maps.Keys(m.nexthops))
	if r.kind != kindUnicast {
		return r, true
	}
	if len(ids) > 0 && rapid.Bool().Draw(t, "by object") {
		r.nexthop = rapid.SampledFrom(ids).Draw(t, "nexthop")
		return r, true
	}
	for range rapid.IntRange(1, 3).Draw(t, "legs") {
		if l := drawLeg(t, r.prefix.Addr().Is6()); m.links[l.link].state == linkUp && !hasLeg(r.legs, l) {
			r.legs = append(r.legs, l)
		}
	}
	return r, len(r.legs) > 0
}

// The shadow is right whenever no doubt is raised, and after every dump, whatever the kernel did and whichever messages
// were lost; and what is reported adds up to it.
func TestShadowFollowsTheKernel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := Config{Tables: []uint32{100, 254}}.WithDefaults()
		m := &model{links: map[uint32]link{}, nexthops: map[uint32]nexthop{}}
		for i := uint32(1); i <= 3; i++ {
			m.links[i] = link{name: "eth" + string(rune('0'+i)), state: linkUp}
		}
		s := newShadow(&cfg)
		told := map[netip.Prefix]source.Route{}
		doubtful := true // nothing was dumped yet

		report := func() {
			changed, gone := s.take()
			for _, r := range changed {
				if told[r.Prefix].Equal(r) {
					t.Fatalf("reported again: %v", r)
				}
				told[r.Prefix] = r
			}
			for _, p := range gone {
				if _, ok := told[p]; !ok {
					t.Fatalf("reported as gone, but unknown: %v", p)
				}
				delete(told, p)
			}
		}
		drain := func() {
			for _, f := range m.queue {
				doubtful = f(s) != sure || doubtful
			}
			m.queue = nil
		}
		check := func() {
			if want := m.want(&cfg); !maps.EqualFunc(told, want, source.Route.Equal) {
				t.Fatalf("the sink has\n%v\nand the kernel\n%v", render(told), render(want))
			}
			if all := s.all(); len(all) != len(told) || s.told != len(told) {
				t.Fatalf("all returns %d prefixes, the sink has %d", len(all), len(told))
			}
		}
		someLink := rapid.Uint32Range(1, 3)

		insert := func(verbs ...verb) func(*rapid.T) {
			return func(t *rapid.T) {
				if r, ok := m.drawRoute(t); ok {
					m.insert(rapid.SampledFrom(verbs).Draw(t, "verb"), r)
				}
			}
		}

		t.Repeat(map[string]func(*rapid.T){
			"add":     insert(added),
			"further": insert(appended, prepended),
			"replace": insert(replaced),
			"delete": func(t *rapid.T) {
				if len(m.routes) == 0 {
					t.Skip("no routes")
				}
				i := rapid.IntRange(0, len(m.routes)-1).Draw(t, "which")
				if r := m.routes[i]; r.prefix.Addr().Is6() && len(r.legs) > 1 && rapid.Bool().Draw(t, "one leg") {
					m.routes[i].legs = slices.Clone(r.legs[1:])
					r.legs = r.legs[:1]
					m.sendRoute(deleted, r)
					return
				}
				m.sendRoute(deleted, m.remove(i))
			},
			"link": func(t *rapid.T) {
				index := someLink.Draw(t, "link")
				state := rapid.SampledFrom([]linkState{linkUp, linkNoCarrier, linkDown}).Draw(t, "state")
				l := m.links[index]
				l.state = state
				m.links[index] = l
				switch state {
				case linkDown:
					m.sweepLegs(index, legDead|legLinkdown, rapid.Bool().Draw(t, "tell"))
					m.dropNexthopsOver(index)
				case linkNoCarrier:
					m.sweepLegs(index, legLinkdown, false)
					m.dropNexthopsOver(index)
				case linkUp:
					for i := range m.routes {
						m.routes[i].legs = slices.Clone(m.routes[i].legs)
						for j := range m.routes[i].legs {
							if m.routes[i].legs[j].link == index {
								m.routes[i].legs[j].flags = 0
							}
						}
					}
				}
				m.sendLink(index)
			},
			"address": func(t *rapid.T) {
				m.sweepLegs(someLink.Draw(t, "link"), legDead, rapid.Bool().Draw(t, "tell"))
				m.send(func(*shadow) reason { return addressChanged })
			},
			"nexthop": func(t *rapid.T) {
				id := rapid.Uint32Range(1, 6).Draw(t, "id")
				var n nexthop
				if id > 4 {
					for member := range uint32(4) {
						if _, ok := m.nexthops[member+1]; ok && rapid.Bool().Draw(t, "member") {
							n.members = append(n.members, member+1)
						}
					}
					if len(n.members) == 0 {
						return
					}
				} else if n.leg = drawLeg(t, false); m.links[n.link].state != linkUp {
					return
				}
				m.nexthops[id] = n
				m.send(func(s *shadow) reason { return s.applyNexthop(id, n) })
			},
			"delete nexthop": func(t *rapid.T) {
				id := rapid.Uint32Range(1, 6).Draw(t, "id")
				if _, ok := m.nexthops[id]; !ok {
					return
				}
				m.dropNexthop(id)
				m.send(func(s *shadow) reason { return s.deleteNexthop(id) })
			},
			"lose": func(t *rapid.T) {
				keep := rapid.IntRange(0, len(m.queue)).Draw(t, "keep")
				if keep < len(m.queue) {
					m.queue = append(m.queue[:keep], func(*shadow) reason { return overrun })
				}
			},
			// After every step: the events wait, or are read, and half of the time doubt is settled.
			"": func(t *rapid.T) {
				if !rapid.Bool().Draw(t, "read") {
					return
				}
				drain()
				report()
				if doubtful && rapid.Bool().Draw(t, "settle") {
					s.load(m.dump())
					doubtful = false
					report()
				}
				if !doubtful {
					check()
				}
			},
			// The events that wait are older than the dump.
			"dump": func(*rapid.T) {
				s.load(m.dump())
				doubtful = false
				drain()
				report()
				if !doubtful {
					check()
				}
			},
		})
	})
}

func render(view map[netip.Prefix]source.Route) string {
	var b strings.Builder
	for _, p := range slices.SortedFunc(maps.Keys(view), netip.Prefix.Compare) {
		b.WriteString(describe(view[p]) + "\n")
	}
	return b.String()
}
