package lab_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/test/netns"
)

// realHub is an NVA with an agent, behind a router, and two real daemons in the place of the instances of a Route Server.
type realHub struct {
	*testing.T
	nva  *hubNVA
	hubs [2]*site
	bird *bird
	frr  *frr
}

// Addresses of the pair: each instance is on a link of its own.
const (
	pairBIRD = "10.0.1.6"
	pairFRR  = "10.0.1.10"
)

// TestRouteServerPair: BIRD and FRR in the place of the instances, each with what Route Server has: AS 65515, several hops, 60 and 180 seconds, a limit. They agree with the
// agent on route refresh and graceful restart.
func TestRouteServerPair(t *testing.T) {
	t.Parallel()
	need(t, "/usr/lib/frr/bgpd", "vtysh", "bird", "birdc")
	p := newPair(t)
	p.nva.change(true, []string{"10.1.0.0/16", "10.2.0.0/16"})
	const one, two, three = "10.1.0.0/16 via 10.0.2.100 path 65010 65010", "10.2.0.0/16 via 10.0.2.100 path 65010 65010", "10.3.0.0/16 via 10.0.2.100 path 65010 65010"
	p.have("the first routes", one, two)
	p.nva.change(false, []string{"10.1.0.0/16"})
	p.nva.change(true, []string{"10.3.0.0/16"})
	p.have("a change", two, three)
	p.until("what both announce is learned", func() bool {
		return slices.Equal(p.nva.learned("0"), []string{"10.0.0.0/16"}) && slices.Equal(p.nva.learned("1"), []string{"10.0.0.0/16"})
	})

	p.bird.say("reload", "in", "agent")
	p.frr.say("clear bgp 10.0.2.4 soft in")
	p.until("both refreshes are answered", func() bool {
		return p.nva.metric("pointsman_routeserver_refreshes_total") == 2
	})
	p.have("after route refresh", two, three)

	p.nva.agent.kill()
	p.until("FRR keeps the routes of an agent that was killed", func() bool {
		out, _ := p.hubs[1].ns.Run("vtysh", "-N", p.frr.name, "-c", "show bgp neighbors 10.0.2.4 json")
		return !strings.Contains(out, `"bgpState":"Established"`)
	})
	if got := p.frrRoutes(); !slices.Equal(got, []string{two, three}) {
		t.Errorf("FRR has %q", got)
	}
	p.nva.daemon.end(os.Kill)
	p.nva.change(false, []string{"10.2.0.0/16"})
	p.nva.agent = p.nva.startAgent(p.nva.speaker, p.nva.settings)
	p.nva.daemon.launch()
	p.have("the next agent", three)
}

func newPair(t *testing.T) *realHub {
	t.Helper()
	router := netns.New(t)
	must(t, router.Sysctl("net.ipv4.ip_forward", "1"))
	p := &realHub{T: t}
	for i, address := range []string{pairBIRD, pairFRR} {
		s := &site{t: t, ns: netns.New(t), address: address, dir: t.TempDir()}
		name := fmt.Sprint("hub", i)
		must(t, netns.Pair(router, s.ns, name, "eth0"))
		gateway := fmt.Sprintf("10.0.1.%d", 5+4*i)
		must(t, router.Batch("addr add "+gateway+"/30 dev "+name))
		must(t, s.ns.Batch("addr add "+address+"/30 dev eth0", "route add default via "+gateway))
		p.hubs[i] = s
	}
	p.startBIRD()
	p.startFRR()

	n := &hubNVA{site: &site{t: t, ns: netns.New(t), dir: t.TempDir(), address: nvaAddress}}
	p.nva = n
	must(t, netns.Pair(n.ns, router, "eth0", "nva"))
	must(t, router.Batch("addr add "+n.gateway()+"/24 dev nva"))
	n.attach()
	must(t, n.ns.Batch("route add default via "+n.gateway()))
	n.speaker = "as: 65001\npeers:\n  - {name: daemon, address: " + n.address + ", as: 65010, passive: true}\n"
	n.settings = "routeServer: {as: 65010, instances: [" + pairBIRD + ", " + pairFRR + "], localAddress: " + n.address + ", rank: 1, nextHop: 10.0.2.100}\n"
	n.agent = n.startAgent(n.speaker, n.settings)
	n.daemon = &talkingDaemon{site: n.site, as: 65010}
	n.daemon.launch()
	return p
}

func (p *realHub) startBIRD() {
	s := p.hubs[0]
	must(p.T, os.WriteFile(s.path("bird.conf"), []byte(`
router id 10.0.1.6;
protocol device {}
protocol static { ipv4; route 10.0.0.0/16 blackhole; }
protocol bgp agent {
  local 10.0.1.6 as 65515;
  neighbor 10.0.2.4 as 65010;
  multihop 4; passive; hold time 180; graceful restart on;
  ipv4 { import limit 4000 action restart; import all; export where source = RTS_STATIC; next hop self; };
}
`), 0o644))
	p.bird = &bird{site: s}
	p.bird.launch()
}

func (p *realHub) startFRR() {
	p.frr = newFRR(p.hubs[1])
	p.frr.configure(`router bgp 65515
 bgp router-id 10.0.1.10
 no bgp ebgp-requires-policy
 no bgp network import-check
 bgp graceful-restart
 neighbor 10.0.2.4 remote-as 65010
 neighbor 10.0.2.4 ebgp-multihop 4
 neighbor 10.0.2.4 passive
 neighbor 10.0.2.4 timers 60 180
 address-family ipv4 unicast
  network 10.0.0.0/16
  neighbor 10.0.2.4 maximum-prefix 4000
 exit-address-family
exit
`)
	for _, d := range []string{"zebra", "bgpd"} {
		p.frr.daemon(d)
	}
	p.frr.load()
}

// have waits until both have exactly these routes of the agent's.
func (p *realHub) have(what string, routes ...string) {
	p.Helper()
	p.until(what, func() bool { return slices.Equal(p.birdRoutes(), routes) && slices.Equal(p.frrRoutes(), routes) })
}

func (p *realHub) until(what string, holds func() bool) {
	p.Helper()
	ctx, cancel := context.WithTimeout(p.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			p.Fatalf("%s: not in time: BIRD %q, FRR %q, health %q", what, p.birdRoutes(), p.frrRoutes(), p.nva.health())
		case <-tick.C:
		}
	}
}

// birdRoutes are the agent's routes that BIRD has: "10.1.0.0/16 via 10.0.2.100 path 65010".
func (p *realHub) birdRoutes() []string {
	out, err := exec.CommandContext(p.Context(), "birdc", "-s", p.hubs[0].path("bird.ctl"), "show", "route", "protocol", "agent", "all").CombinedOutput()
	must(p.T, err)
	var routes []string
	prefix, path := "", ""
	for line := range strings.Lines(string(out)) {
		words := strings.Fields(line)
		if m := regexp.MustCompile(`^(\S+/\d+) `).FindStringSubmatch(line); m != nil {
			prefix = m[1]
		}
		switch {
		case len(words) > 1 && words[0] == "BGP.as_path:":
			path = strings.Join(words[1:], " ")
		case len(words) > 1 && words[0] == "BGP.next_hop:":
			routes = append(routes, prefix+" via "+words[1]+" path "+path)
		}
	}
	slices.Sort(routes)
	return routes
}

// frrRoutes are the agent's routes that FRR has.
func (p *realHub) frrRoutes() []string {
	out, err := p.hubs[1].ns.Run("vtysh", "-N", p.frr.name, "-c", "show bgp ipv4 unicast json")
	must(p.T, err)
	var answer struct {
		Routes map[string][]struct {
			Path     string
			Nexthops []struct{ IP string }
		}
	}
	must(p.T, json.Unmarshal([]byte(out), &answer))
	var routes []string
	for _, prefix := range slices.Sorted(maps.Keys(answer.Routes)) {
		for _, r := range answer.Routes[prefix] {
			if r.Path != "" {
				routes = append(routes, prefix+" via "+r.Nexthops[0].IP+" path "+r.Path)
			}
		}
	}
	return routes
}
