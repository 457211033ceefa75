package lab_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
)

// Memory that the agent may take: the goals for 10,000 and 100,000 routes.
const (
	goal10k  = 80 << 10 // KiB
	goal100k = 200 << 10
)

// resident waits until the agent has so many routes, and the bus has them too, and returns its memory.
func (s *site) resident(routes int) int {
	s.t.Helper()
	s.until(fmt.Sprintf("%d routes", routes), func() bool {
		return s.metric("pointsman_agent_routes") == float64(routes) && s.metric("pointsman_agent_pending") == 0
	})
	s.t.Logf("%d routes: %.1f s of CPU so far", routes, s.metric("process_cpu_seconds_total"))
	return s.residentKiB()
}

func expectAtMost(t *testing.T, what string, kib, goal int) {
	t.Helper()
	t.Logf("size: %s: %d MB resident", what, kib>>10)
	if kib > goal {
		t.Errorf("%s: %d KiB resident, want at most %d", what, kib, goal)
	}
}

// TestFootprint: the size of both flavours of the agent on disk, and in memory with 10,000 and 100,000 routes. `make size` shows the lines.
func TestFootprint(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func() (string, error){"pointsman-agent": netlinkBinary, "pointsman-agent-bgp": binary} {
		path, err := build()
		must(t, err)
		info, err := os.Stat(path)
		must(t, err)
		t.Logf("size: %s: %.1f MB on disk", name, float64(info.Size())/1e6)
	}
}

// TestFootprintNetlink: routes of the kernel, without BGP.
func TestFootprintNetlink(t *testing.T) {
	t.Parallel()
	need(t)
	path, err := netlinkBinary()
	must(t, err)
	s := newBareSite(t)
	s.runAgent(path, "sources: [{kernel: {protocols: [bgp]}}]")
	add := func(list []string) {
		lines := make([]string, len(list))
		for i, p := range list {
			lines[i] = "route replace " + p + " via 10.0.2.1 proto bgp"
		}
		must(t, s.ns.Batch(lines...))
	}
	add(manyFrom(20, 10_000))
	expectAtMost(t, "pointsman-agent, 10,000 routes of the kernel", s.resident(10_000), goal10k)
	add(manyFrom(20, 100_000))
	expectAtMost(t, "pointsman-agent, 100,000 routes of the kernel", s.resident(100_000), goal100k)
}

// many returns prefixes, the first ones in 10.0.0.0/8.
func many(count int) []string { return manyFrom(10, count) }

func manyFrom(first, count int) []string {
	out := make([]string, count)
	for i := range out {
		out[i] = fmt.Sprintf("%d.%d.%d.0/24", first+i>>16, i>>8&255, i&255)
	}
	return out
}

// TestFootprintBGP: 100,000 routes of BIRD; too many close the session, and what was learned stays.
func TestFootprintBGP(t *testing.T) {
	t.Parallel()
	need(t, "bird", "birdc")
	const count, limit = 100_000, 110_000
	s := site65010(t, 65001, fmt.Sprintf("maxPrefixes: %d\nonMaxPrefixes: cease", limit))
	b := startBIRD(s, 65010, 65001, false, many(10_000)...)
	expectAtMost(t, "pointsman-agent-bgp, 10,000 routes of BIRD", s.resident(10_000), goal10k)
	b.announce(many(count)...)
	expectAtMost(t, "pointsman-agent-bgp, 100,000 routes of BIRD", s.resident(count), goal100k)
	b.announce(many(limit + 1)...)
	s.until("too many", func() bool {
		return strings.Contains(s.health(), "the session was closed, its routes stay as they were")
	})
	if n := s.metric("pointsman_agent_routes"); n < count || n > limit {
		t.Errorf("%v routes, want those from before", n)
	}
}

// TestFootprintHub: 10,000 routes of BIRD, published and announced to both instances.
func TestFootprintHub(t *testing.T) {
	t.Parallel()
	need(t, "bird", "birdc")
	const count = 10_000
	l := newHubLab(t)
	l.like.Limit = 2 * count
	l.startNVA("nva1", "bird", []string{fmt.Sprintf("routeLimit: %d", 2*count)})
	n := l.nvas["nva1"]
	n.change(true, []string{fmt.Sprintf("%d-routes", count)})
	l.until("both instances", func() bool { return l.instances[0].Count() == count && l.instances[1].Count() == count })
	expectAtMost(t, "pointsman-agent-bgp, 10,000 routes of BIRD announced to both instances", n.resident(count), goal10k)
}

// TestLatency: from the command to FRR to the event on the bus. Only a generous bound is asserted; `make lab` shows the median.
func TestLatency(t *testing.T) {
	need(t, "/usr/lib/frr/bgpd", "vtysh")
	rounds := 5
	if os.Getenv("LAB") != "" {
		rounds = 21
	}
	const prefix = "10.1.0.0/16"
	s := site65010(t, 65001, "")
	f := startFRR(s, frrBGP(65001, nil, prefix)...)
	s.announces("the first route", prefix)
	var taken, alone []time.Duration // with the daemon; the command by itself
	for i := range 2 * rounds {
		start := time.Now()
		f.say("show version")
		alone = append(alone, time.Since(start))
		word := []string{"no network ", "network "}[i%2]
		said := len(s.bus.Peek("route-events"))
		began := time.Now()
		f.say("configure terminal", "router bgp 65010", "address-family ipv4 unicast", word+prefix)
		at := s.said(said, prefix)
		if i%2 == 0 {
			taken = append(taken, at.Sub(began))
		}
	}
	slices.Sort(taken)
	slices.Sort(alone)
	median := taken[len(taken)/2]
	t.Logf("lab: FRR withdraws a route, the event is on the bus: median %d ms, longest %d ms of %d; a command of vtysh that does nothing takes %d ms of that",
		median.Milliseconds(), taken[len(taken)-1].Milliseconds(), len(taken), alone[len(alone)/2].Milliseconds())
	if median > 10*time.Second {
		t.Errorf("it takes %s", median)
	}
}

// said waits for an event about a prefix behind the first messages of the bus, and returns when it came.
func (s *site) said(first int, prefix string) (at time.Time) {
	s.t.Helper()
	p := netip.MustParsePrefix(prefix)
	s.until("an event", func() bool {
		for _, m := range s.bus.Peek("route-events")[first:] {
			e, err := event.Decode(m.Body)
			must(s.t, err)
			if e.Kind == event.Delta && (slices.Contains(e.Withdraw, p) || slices.ContainsFunc(e.Announce, func(a route.Entry) bool { return a.Prefix == p })) {
				at = m.EnqueuedAt
				return true
			}
		}
		return false
	})
	return at
}
