package kernel

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/agent/source"
)

func via(addr string, link uint32) leg { return leg{via: netip.MustParseAddr(addr), link: link} }

func unicast(prefix string, legs ...leg) route {
	return route{
		prefix: netip.MustParsePrefix(prefix),
		entry:  entry{table: tableMain, metric: 10, protocol: 186, kind: kindUnicast, legs: legs},
	}
}

func byNexthop(prefix string, id uint32) route {
	r := unicast(prefix)
	r.nexthop = id
	return r
}

// newTestShadow holds two single routes, a multipath route, and routes by a nexthop object and by a group, all reported.
func newTestShadow(t *testing.T, cfg Config) *shadow {
	t.Helper()
	cfg = cfg.WithDefaults()
	s := newShadow(&cfg)
	s.load(view{
		links: map[uint32]link{1: {"eth1", linkUp}, 2: {"eth2", linkUp}},
		nexthops: map[uint32]nexthop{
			7: {leg: via("192.0.2.1", 1)}, 8: {leg: via("198.51.100.1", 2)}, 9: {members: []uint32{7, 8}}, 10: {leg: via("192.0.2.9", 1)},
		},
		routes: []route{
			unicast("10.1.0.0/16", via("192.0.2.1", 1)),
			unicast("2001:db8:1::/48", via("fe80::1", 1)),
			unicast("10.2.0.0/16", via("192.0.2.1", 1), via("198.51.100.1", 2)),
			unicast("2001:db8:2::/48", via("fe80::1", 1), via("fe80::2", 2)),
			byNexthop("10.3.0.0/16", 7),
			byNexthop("10.4.0.0/16", 9),
		},
	})
	s.take()
	return s
}

// changes writes what take returns, one route a line: "+ prefix origin metric via a,b" or "- prefix".
func changes(s *shadow) string {
	changed, gone := s.take()
	var lines []string
	for _, r := range changed {
		lines = append(lines, "+ "+describe(r))
	}
	for _, p := range gone {
		lines = append(lines, "- "+p.String())
	}
	return strings.Join(lines, "\n")
}

// What a message tells, at once and before any dump, and whether it leaves doubt.
func TestBadNewsIsBelievedAtOnce(t *testing.T) {
	linkOneBad := `
+ 10.2.0.0/16 bgp 10 via 198.51.100.1
+ 10.4.0.0/16 bgp 10 via 198.51.100.1
+ 2001:db8:2::/48 bgp 10 via fe80::2
- 10.1.0.0/16
- 10.3.0.0/16
- 2001:db8:1::/48`
	for _, row := range []struct {
		name  string
		cfg   Config
		do    func(*shadow) reason
		doubt reason
		want  string
	}{
		{
			name: "link down", doubt: linkChanged, want: linkOneBad,
			do: func(s *shadow) reason { return s.applyLink(1, link{"eth1", linkDown}) },
		},
		{
			name: "no carrier", doubt: linkChanged, want: linkOneBad,
			do: func(s *shadow) reason { return s.applyLink(1, link{"eth1", linkNoCarrier}) },
		},
		{
			name: "no carrier, kept", cfg: Config{KeepLinkdown: true}, doubt: linkChanged,
			do: func(s *shadow) reason { return s.applyLink(1, link{"eth1", linkNoCarrier}) },
		},
		{
			name: "link deleted", doubt: linkChanged, want: linkOneBad,
			do: func(s *shadow) reason { return s.deleteLink(1) },
		},
		{
			name: "good news is not believed", doubt: linkChanged, want: linkOneBad,
			do: func(s *shadow) reason {
				s.applyLink(1, link{"eth1", linkDown})
				return s.applyLink(1, link{"eth1", linkUp})
			},
		},
		{
			name: "a link of no route", doubt: linkChanged,
			do: func(s *shadow) reason { return s.applyLink(3, link{"eth3", linkDown}) },
		},
		{
			name: "a link is renamed away from the allowed", cfg: Config{Interfaces: []string{"eth1"}}, doubt: linkChanged,
			want: "- 10.1.0.0/16\n- 10.2.0.0/16\n- 10.3.0.0/16\n- 10.4.0.0/16\n- 2001:db8:1::/48\n- 2001:db8:2::/48",
			do:   func(s *shadow) reason { return s.applyLink(1, link{"other", linkUp}) },
		},
		{
			name: "nexthop deleted", doubt: nexthopChanged,
			want: "+ 10.4.0.0/16 bgp 10 via 198.51.100.1\n- 10.3.0.0/16",
			do:   func(s *shadow) reason { return s.deleteNexthop(7) },
		},
		{
			name: "every member of a group deleted", doubt: nexthopChanged, want: "- 10.3.0.0/16\n- 10.4.0.0/16",
			do: func(s *shadow) reason {
				s.deleteNexthop(7)
				return s.deleteNexthop(8)
			},
		},
		{
			name: "nexthop replaced", doubt: nexthopChanged,
			want: "+ 10.3.0.0/16 bgp 10 via 192.0.2.77\n+ 10.4.0.0/16 bgp 10 via 192.0.2.77,198.51.100.1",
			do:   func(s *shadow) reason { return s.applyNexthop(7, nexthop{leg: via("192.0.2.77", 1)}) },
		},
		{
			name: "nexthop replaced by a blackhole", doubt: nexthopChanged, want: "+ 10.4.0.0/16 bgp 10 via 198.51.100.1\n- 10.3.0.0/16",
			do: func(s *shadow) reason { return s.applyNexthop(7, nexthop{blackhole: true, leg: leg{flags: legDead}}) },
		},
		{
			name: "nexthop that nothing names", doubt: sure,
			do: func(s *shadow) reason { return s.applyNexthop(10, nexthop{leg: via("192.0.2.78", 1)}) },
		},
		{
			name: "new nexthop", doubt: sure,
			do: func(s *shadow) reason { return s.applyNexthop(11, nexthop{leg: via("192.0.2.78", 1)}) },
		},
		{
			name: "nexthop deleted that nothing names any more", doubt: sure, want: "- 10.3.0.0/16\n- 10.4.0.0/16",
			do: func(s *shadow) reason {
				s.applyRoute(deleted, byNexthop("10.3.0.0/16", 7))
				s.applyRoute(deleted, byNexthop("10.4.0.0/16", 9))
				return s.deleteNexthop(7)
			},
		},
		{
			name: "one gateway of an IPv6 route deleted", doubt: routeUnclear, want: "+ 2001:db8:2::/48 bgp 10 via fe80::2",
			do: func(s *shadow) reason { return s.applyRoute(deleted, unicast("2001:db8:2::/48", via("fe80::1", 1))) },
		},
		{
			name: "delete of another gateway", doubt: routeUnclear,
			do: func(s *shadow) reason { return s.applyRoute(deleted, unicast("10.1.0.0/16", via("192.0.2.9", 1))) },
		},
		{
			name: "delete of an unknown route", doubt: sure,
			do: func(s *shadow) reason { return s.applyRoute(deleted, unicast("10.99.0.0/16", via("192.0.2.9", 1))) },
		},
		{
			name: "all legs dead in the message", doubt: sure, want: "- 10.1.0.0/16",
			do: func(s *shadow) reason {
				return s.applyRoute(replaced, unicast("10.1.0.0/16", leg{via: netip.MustParseAddr("192.0.2.1"), link: 1, flags: legDead}))
			},
		},
		{
			name: "a route of a table that is not watched", doubt: sure,
			do: func(s *shadow) reason {
				r := unicast("10.1.0.0/16", via("192.0.2.1", 1))
				r.table = 99
				return s.applyRoute(deleted, r)
			},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			s := newTestShadow(t, row.cfg)
			if got := row.do(s); got != row.doubt {
				t.Errorf("leaves %v, want %v", got, row.doubt)
			}
			if got, want := changes(s), strings.TrimPrefix(row.want, "\n"); got != want {
				t.Errorf("reported:\n%s\nwant:\n%s", got, want)
			}
			if again := changes(s); again != "" {
				t.Errorf("reported again:\n%s", again)
			}
		})
	}
}

func TestBestRoute(t *testing.T) {
	withTOS := func(tos uint8, gateway string) route {
		r := unicast("10.9.0.0/16", via(gateway, 1))
		r.tos = tos
		return r
	}
	in := func(table, metric uint32, gateway string) route {
		r := unicast("10.9.0.0/16", via(gateway, 1))
		r.table, r.metric = table, metric
		return r
	}
	for _, row := range []struct {
		name   string
		routes []route
		want   string
	}{
		{"lowest metric", []route{in(254, 20, "192.0.2.1"), in(254, 5, "192.0.2.2")}, "10.9.0.0/16 bgp 5 via 192.0.2.2"},
		{"metric before table", []route{in(100, 20, "192.0.2.1"), in(254, 5, "192.0.2.2")}, "10.9.0.0/16 bgp 5 via 192.0.2.2"},
		{"table in the order of the configuration", []route{in(254, 5, "192.0.2.2"), in(300, 5, "192.0.2.1")}, "10.9.0.0/16 bgp 5 via 192.0.2.1"},
		{"lowest type of service", []route{withTOS(16, "192.0.2.1"), withTOS(0, "192.0.2.2")}, "10.9.0.0/16 bgp 10 via 192.0.2.2"},
		{"the kernel's order", []route{in(254, 5, "192.0.2.2"), in(254, 5, "192.0.2.1")}, "10.9.0.0/16 bgp 5 via 192.0.2.2"},
		{
			"next hops sorted and once",
			[]route{unicast("10.9.0.0/16", via("192.0.2.2", 1), via("192.0.2.1", 1), via("192.0.2.2", 2))},
			"10.9.0.0/16 bgp 10 via 192.0.2.1,192.0.2.2",
		},
		{"on-link", []route{unicast("10.9.0.0/16", leg{link: 1})}, "10.9.0.0/16 bgp 10"},
	} {
		t.Run(row.name, func(t *testing.T) {
			cfg := Config{Tables: []uint32{300, 254, 100}}.WithDefaults()
			s := newShadow(&cfg)
			s.load(view{routes: row.routes})
			changed, _ := s.take()
			if len(changed) != 1 || describe(changed[0]) != row.want {
				t.Errorf("got %v, want %s", changed, row.want)
			}
		})
	}
}

func TestChangesAreSortedAndSafeToKeep(t *testing.T) {
	s := newTestShadow(t, Config{})
	before := s.all()
	var kept []source.Route
	for _, r := range before {
		kept = append(kept, source.Route{Prefix: r.Prefix, Metric: r.Metric, Origin: r.Origin, Table: r.Table, NextHops: append([]netip.Addr(nil), r.NextHops...)})
	}
	s.applyLink(1, link{"eth1", linkDown})
	changed, gone := s.take()
	for i, r := range before {
		if !r.Equal(kept[i]) {
			t.Errorf("a route that was handed out changed to %v, was %v", r, kept[i])
		}
		if i > 0 && before[i-1].Prefix.Compare(r.Prefix) >= 0 {
			t.Errorf("%v after %v", r.Prefix, before[i-1].Prefix)
		}
	}
	if len(changed) != 3 || len(gone) != 3 || s.told != 3 {
		t.Errorf("%d changed, %d gone, %d told; want 3 each", len(changed), len(gone), s.told)
	}
}

func TestEmptySlotsAreFreed(t *testing.T) {
	s := newTestShadow(t, Config{})
	s.load(newView())
	s.take()
	if len(s.slots) != 0 || len(s.users) != 0 || len(s.pending) != 0 {
		t.Errorf("%d slots, %d users, %d pending after an empty dump", len(s.slots), len(s.users), len(s.pending))
	}
	s.applyNexthop(7, nexthop{leg: via("192.0.2.1", 1)})
	for range 3 {
		s.applyRoute(added, byNexthop("10.3.0.0/16", 7))
		s.applyRoute(replaced, byNexthop("10.3.0.0/16", 7))
		s.applyRoute(deleted, byNexthop("10.3.0.0/16", 7))
		s.take()
	}
	if len(s.slots) != 0 || len(s.users) != 0 {
		t.Errorf("%d slots, %d users after the last route", len(s.slots), len(s.users))
	}
}
