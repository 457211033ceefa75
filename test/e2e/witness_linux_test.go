package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/test/netns"
	"github.com/pointsman/pointsman/test/system"
)

// machine is an NVA in a network namespace, with the real agent over real routes. Its data plane is a LAN that all machines share; its way to the bus is
// apart from that, as an NVA's management interface is.
//
//	machine ──uplink 198.51.100.N── to-NAME ──lan (bridge) 198.51.100.1── fabric
//	   └── 127.0.0.1:port ····· way ·····▶ the broker, on the loopback outside
type machine struct {
	l     *lan
	name  string
	ns    *netns.NS
	way   *netns.Way
	dir   string
	agent *exec.Cmd
}

// lan is the data plane of a few machines, and the cloud side of their domain.
type lan struct {
	*world
	fabric   *netns.NS
	machines []*machine

	mu      sync.Mutex
	said    []time.Time // when events were enqueued
	expired []string    // dead-man switches that were delivered
}

// beat of the agents: with it a death is not seen by silence alone within the time of a test that looks for witnesses.
type beat struct{ every, timeout string }

// newLAN starts the cloud side and one machine for each name, all of which announce the prefixes.
func newLAN(t *testing.T, b beat, names []string, prefixes []netip.Prefix) *lan {
	t.Helper()
	l := &lan{fabric: netns.New(t)}
	file := "domain: hub\npolicy: {silence: hold, holdDown: 0s, damping: {halfLife: 0s}}\nnvas:\n"
	for i, name := range names {
		file += fmt.Sprintf("  - {name: %s, nextHops: [10.0.0.%d], preference: %d, allow: [\"10.64.0.0/10 le 24\"]}\n", name, 4+i, 300-100*i)
	}
	file += "targets:\n  - {name: spokes, routeTable: " + system.TableID + "}\n"
	l.world = startWith(t, system.Config{
		TableWrite: 50 * time.Millisecond, Domains: map[string]string{"hub": file}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)},
	})
	l.Bus.Observe(l.hear)
	l.must(l.fabric.Batch("link add lan type bridge", "addr add 198.51.100.1/24 dev lan", "link set lan up"))
	key := filepath.Join(t.TempDir(), "witness.key")
	l.must(os.WriteFile(key, []byte(strings.Repeat("0123456789abcdef", 4)+"\n"), 0o600))
	for i, name := range names {
		l.machines = append(l.machines, l.machine(i, name, names, key, b, prefixes))
	}
	for _, m := range l.machines {
		m.boot()
	}
	return l
}

func (l *lan) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

// hear notes when an agent reported what it sees, and which switches fired.
func (l *lan) hear(e servicebus.Event) {
	if e.Entity != "route-events" {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case strings.Contains(e.MessageID, "/beat-"):
		if e.Kind == servicebus.EventActivated {
			l.expired = append(l.expired, e.MessageID)
		}
	case e.Kind == servicebus.EventEnqueued:
		l.said = append(l.said, e.At)
	}
}

func (l *lan) machine(i int, name string, names []string, key string, b beat, prefixes []netip.Prefix) *machine {
	l.t.Helper()
	m := &machine{l: l, name: name, ns: netns.New(l.t), dir: l.t.TempDir()}
	l.must(netns.Pair(m.ns, l.fabric, "uplink", "to-"+name))
	l.must(l.fabric.Batch("link set to-" + name + " master lan"))
	l.must(m.ns.Batch(fmt.Sprintf("addr add 198.51.100.%d/24 dev uplink", 11+i)))
	var routes []string
	for _, p := range prefixes {
		routes = append(routes, fmt.Sprintf("route add %s via 198.51.100.1 proto bgp", p))
	}
	l.must(m.ns.Batch(routes...))
	var err error
	m.way, err = m.ns.WayOut(l.Bus.Addr())
	l.must(err)
	l.t.Cleanup(func() { _ = m.way.Close() })
	secret := filepath.Join(m.dir, "connection")
	l.must(os.WriteFile(secret, []byte(strings.Replace(l.AgentConnection(), l.Bus.Addr(), m.way.Addr(), 1)), 0o600))
	var peers []string
	for j, peer := range names {
		if peer != name {
			peers = append(peers, fmt.Sprintf("{nva: %s, address: 198.51.100.%d}", peer, 11+j))
		}
	}
	l.must(os.WriteFile(m.config(), fmt.Appendf(nil, `domain: hub
nva: %s
bus: {connectionStringFile: %s}
sources: [{kernel: {protocols: [bgp]}}]
beat: {every: %s, timeout: %s}
witness:
  listen: 198.51.100.%d:9811
  keyFile: %s
  selfTest: {targets: ["tcp 198.51.100.1:9"], every: 500ms, timeout: 200ms, misses: 2}
  peers: [%s]
stateDir: %s
`, name, secret, b.every, b.timeout, 11+i, key, strings.Join(peers, ", "), m.dir), 0o600))
	return m
}

func (m *machine) config() string { return filepath.Join(m.dir, "agent.yaml") }

// boot starts the agent.
func (m *machine) boot() {
	m.l.t.Helper()
	log, err := os.Create(filepath.Join(m.dir, "agent.log"))
	m.l.must(err)
	m.agent = exec.CommandContext(context.Background(), filepath.Join(system.Root(), "dist", "pointsman-agent"), "--config", m.config())
	m.agent.Stdout, m.agent.Stderr = log, log
	m.agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	m.l.must(m.ns.Start(m.agent))
	m.l.t.Cleanup(func() {
		m.kill()
		_ = log.Close()
		if text, failed := os.ReadFile(log.Name()); failed == nil && m.l.t.Failed() {
			m.l.t.Logf("%s:\n%s", m.name, text)
		}
	})
}

// kill ends the agent at once. Its link stays up.
func (m *machine) kill() {
	if m.agent == nil {
		return
	}
	err := m.agent.Process.Kill()
	_ = m.agent.Wait()
	m.agent = nil
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		m.l.t.Error(err)
	}
}

// carried waits until the first machine carries the prefixes and everybody sees everybody.
func (l *lan) carried(prefixes []netip.Prefix) {
	l.t.Helper()
	l.carries(hopA, prefixes)
	l.until("everybody sees everybody", func() error {
		for _, n := range l.report().Domains[0].NVAs {
			if n.Liveness != "up" || n.Report == nil || len(n.Report.Peers) != len(l.machines)-1 {
				return fmt.Errorf("%s is %s, its report is %+v", n.Name, n.Liveness, n.Report)
			}
			for _, p := range n.Report.Peers {
				if !p.Reachable {
					return fmt.Errorf("%s does not reach %s", n.Name, p.NVA)
				}
			}
		}
		return nil
	})
	l.settled()
	l.ARM.ResetCalls()
}

// moved waits until the second machine carries the prefixes, and returns how long after the first report of a witness since then the write was sent. No
// dead-man switch may have fired before.
func (l *lan) moved(since time.Time, prefixes []netip.Prefix) time.Duration {
	l.t.Helper()
	l.carries(hopB, prefixes)
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.expired) > 0 {
		l.t.Errorf("dead-man switches fired: %v; this was not seen by witnesses", l.expired)
	}
	for _, c := range l.ARM.Calls() {
		if c.Operation == "routeTables.CreateOrUpdate" {
			return c.At.Sub(l.said[slices.IndexFunc(l.said, since.Before)])
		}
	}
	l.t.Error("no write was seen")
	return 0
}

func twoPrefixes() []netip.Prefix {
	return []netip.Prefix{netip.MustParsePrefix("10.64.1.0/24"), netip.MustParsePrefix("10.64.2.0/24")}
}

// An NVA is killed while its link stays up. Its only witness accuses it, it does not answer: its prefixes move long before its dead-man switch fires.
func TestKilledNVAWhoseLinkStaysUp(t *testing.T) {
	prefixes := twoPrefixes()
	l := newLAN(t, beat{"20s", "60s"}, []string{"nva-a", "nva-b"}, prefixes)
	l.carried(prefixes)
	died := time.Now()
	l.machines[0].kill()
	t.Logf("from the witness's report to the write: %v", l.moved(died, prefixes).Round(time.Millisecond))
	if a := l.report().Domains[0].NVAs[0]; a.Liveness != "down" || !strings.Contains(a.Why, "witnessed by nva-b") {
		t.Errorf("nva-a is %s: %s", a.Liveness, a.Why)
	}
}

// The data plane of an NVA dies while its agent beats on: two witnesses of two, and it is left at once.
func TestDataPlaneDiesWhileTheAgentBeats(t *testing.T) {
	prefixes := twoPrefixes()
	l := newLAN(t, beat{"20s", "60s"}, []string{"nva-a", "nva-b", "nva-c"}, prefixes)
	l.carried(prefixes)
	died := time.Now()
	l.must(l.fabric.Batch("link set to-nva-a nomaster")) // the carrier stays: the kernel of nva-a does not notice
	t.Logf("from the first report to the write: %v", l.moved(died, prefixes).Round(time.Millisecond))
	if a := l.report().Domains[0].NVAs[0]; a.Liveness != "down" || a.Prefixes != len(prefixes) {
		t.Errorf("nva-a is %s (%s) with %d prefixes: want down, and heard", a.Liveness, a.Why, a.Prefixes)
	}
	l.must(l.fabric.Batch("link set to-nva-a master lan"))
	l.carries(hopA, prefixes)
}

// Nobody reaches the bus until every dead-man switch has fired. Nothing moves, then or afterwards.
func TestBusOutageForAllAgentsMovesNothing(t *testing.T) {
	prefixes := twoPrefixes()
	l := newLAN(t, beat{"1s", "3s"}, []string{"nva-a", "nva-b"}, prefixes)
	l.carried(prefixes)
	for _, m := range l.machines {
		m.way.Cut("outage", true)
	}
	l.until("every dead-man switch has fired", func() error {
		for _, n := range l.report().Domains[0].NVAs {
			if n.Liveness == "up" {
				return fmt.Errorf("%s is %s", n.Name, n.Liveness)
			}
		}
		return nil
	})
	for _, m := range l.machines {
		m.way.Cut("outage", false)
	}
	l.until("they are heard again", func() error {
		for _, n := range l.report().Domains[0].NVAs {
			if n.Liveness != "up" {
				return fmt.Errorf("%s is %s", n.Name, n.Liveness)
			}
		}
		return nil
	})
	l.settled()
	l.carries(hopA, prefixes)
	if n := l.calls("routeTables.CreateOrUpdate"); n != 0 {
		t.Errorf("%d writes, want none", n)
	}
}
