package echo_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/agent/echo"
	"github.com/pointsman/pointsman/agent/reach"
	"github.com/pointsman/pointsman/agent/witness"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

// patience bounds every wait; it is met only by a test that fails.
const patience = 30 * time.Second

const (
	oldKey = "000102030405060708090a0b0c0d0e0f"
	newKey = "101112131415161718191a1b1c1d1e1f"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// lab is NVAs on one switch, each in a network namespace, with real sockets. The switch has an address for self-tests.
type lab struct {
	t    *testing.T
	hub  *netns.NS
	nvas map[string]*nva
}

// nva is one NVA and the agent that runs on it.
type nva struct {
	name    string
	ns      *netns.NS
	address netip.Addr
	metrics *echo.Metrics

	mu      sync.Mutex
	report  event.Report
	changed chan struct{} // closed and renewed by every report
	cancel  context.CancelFunc
	ended   chan error
}

func newLab(t *testing.T, names ...string) *lab {
	t.Helper()
	l := &lab{t: t, hub: netns.New(t), nvas: map[string]*nva{}}
	must(t, l.hub.Batch("link add br0 type bridge forward_delay 0", "addr add 10.0.0.254/24 dev br0", "addr add 2001:db8::254/64 dev br0 nodad", "link set br0 up"))
	for i, name := range names {
		n := &nva{name: name, ns: netns.New(t), address: netip.AddrFrom4([4]byte{10, 0, 0, byte(i + 1)}), changed: make(chan struct{})}
		l.nvas[name] = n
		must(t, netns.Pair(l.hub, n.ns, "to-"+name, "eth0"))
		must(t, l.hub.Batch("link set to-"+name+" master br0"))
		must(t, n.ns.Batch("addr add "+n.address.String()+"/24 dev eth0", fmt.Sprintf("addr add 2001:db8::%d/64 dev eth0 nodad", i+1)))
		must(t, n.ns.Sysctl("net.ipv4.ping_group_range", "0 0"))
	}
	t.Cleanup(func() {
		for _, n := range l.nvas {
			l.stop(n.name)
		}
		goleak.VerifyNone(t, goleak.IgnoreCurrent())
	})
	return l
}

// start starts the agent of an NVA, which watches all others.
func (l *lab) start(name string, session uint64, keyFile string) {
	l.t.Helper()
	n := l.nvas[name]
	cfg := echo.Config{Domain: "lab", NVA: name, Session: session, Every: 50 * time.Millisecond, Misses: 4}
	for _, other := range l.nvas {
		if other != n {
			cfg.Peers = append(cfg.Peers, echo.Peer{NVA: other.name, Address: netip.AddrPortFrom(other.address, 9811)})
		}
	}
	keys, err := echo.ParseKeys(keyFile)
	must(l.t, err)
	at := netip.AddrPortFrom(n.address, 9811)
	log := slog.New(slog.DiscardHandler)
	metrics := echo.NewMetrics(cfg.Peers)
	prober := echo.New(cfg, at, keys, log, metrics).WithOpen(func(ctx context.Context) (conn *net.UDPConn, err error) {
		err = n.ns.Do(func() error { conn, err = echo.Listen(ctx, at); return err })
		return conn, err
	})
	target, err := reach.Parse("icmp 10.0.0.254")
	must(l.t, err)
	watch := witness.New(witness.Config{Every: 250 * time.Millisecond, Fall: 2}, func(ctx context.Context) error {
		round, cancel := context.WithTimeout(ctx, 250*time.Millisecond)
		defer cancel()
		return n.ns.Do(func() error { return target.Try(round) })
	}, log, prober)
	ctx, cancel := context.WithCancel(l.t.Context())
	ended := make(chan error, 1)
	n.mu.Lock()
	n.cancel, n.ended, n.metrics, n.report = cancel, ended, metrics, event.Report{}
	n.mu.Unlock()
	go func() {
		ended <- watch.Run(ctx, func(r event.Report) {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.report = r
			close(n.changed)
			n.changed = make(chan struct{})
		})
	}()
}

func (l *lab) stop(name string) {
	n := l.nvas[name]
	if n.cancel == nil {
		return
	}
	n.cancel()
	if err := <-n.ended; err != nil {
		l.t.Error(err)
	}
	n.cancel = nil
}

// until waits for a report.
func (l *lab) until(what, name string, want event.Report) {
	l.t.Helper()
	n := l.nvas[name]
	timeout := time.After(patience)
	for {
		n.mu.Lock()
		is, changed := n.report, n.changed
		n.mu.Unlock()
		if is.Equal(want) {
			return
		}
		select {
		case <-changed:
		case <-timeout:
			l.t.Fatalf("%s: %s reports %+v, want %+v", what, name, is, want)
		}
	}
}

func passed(peers ...event.Peer) event.Report {
	return event.Report{SelfTest: event.Passed, Peers: peers}
}

func up(name string) event.Peer   { return event.Peer{NVA: name, Reachable: true} }
func down(name string) event.Peer { return event.Peer{NVA: name} }

// settle waits until all see all.
func (l *lab) settle(what string) {
	l.t.Helper()
	for name := range l.nvas {
		var peers []event.Peer
		for other := range l.nvas {
			if other != name {
				peers = append(peers, up(other))
			}
		}
		slices.SortFunc(peers, func(a, b event.Peer) int { return int(a.NVA[0]) - int(b.NVA[0]) })
		l.until(what, name, passed(peers...))
	}
}

func TestThreeWitnesses(t *testing.T) {
	l := newLab(t, "a", "b", "c")
	for i, name := range []string{"a", "b", "c"} {
		l.start(name, uint64(100+i), oldKey)
	}
	l.settle("at the start")

	must(t, l.hub.Batch("link set to-b down"))
	l.until("the link of b is cut", "a", passed(down("b"), up("c")))
	l.until("the link of b is cut", "c", passed(up("a"), down("b")))
	l.until("b knows that it is itself", "b", event.Report{SelfTest: event.Failed, Peers: []event.Peer{down("a"), down("c")}})
	must(t, l.hub.Batch("link set to-b up"))
	l.settle("the link is back")

	l.stop("b")
	l.until("the agent of b is stopped", "a", passed(down("b"), up("c")))
	l.start("b", 200, oldKey)
	l.settle("it runs again")

	l.stop("b")
	l.start("b", 300, newKey)
	l.until("b has another key", "a", passed(down("b"), up("c")))
	l.until("b has another key", "b", passed(down("a"), down("c")))
	if n := l.nvas["a"].metrics.Dropped[echo.BadMAC].Load(); n == 0 {
		t.Error("no packet with a bad MAC was counted")
	}
	l.stop("b")
	l.start("b", 400, newKey+"\n"+oldKey)
	l.until("keys are being changed, b first: it signs with the new one", "a", passed(down("b"), up("c")))
	l.stop("a")
	l.start("a", 400, oldKey+"\n"+newKey)
	l.until("a knows both", "a", passed(up("b"), up("c")))
	l.stop("c")
	l.start("c", 400, oldKey+"\n"+newKey)
	l.settle("all know both")
}

func TestOneWayLossOnTheWire(t *testing.T) {
	l := newLab(t, "a", "b")
	l.start("a", 100, oldKey)
	l.start("b", 101, oldKey)
	l.settle("at the start")
	must(t, l.nvas["a"].ns.Batch("route add blackhole 10.0.0.2/32"))
	l.until("nothing of a gets to b", "b", passed(down("a")))
	l.until("a hears b complain", "a", passed(event.Peer{NVA: "b", Deaf: true}))
	must(t, l.nvas["a"].ns.Batch("route del blackhole 10.0.0.2/32"))
	l.settle("afterwards")
}

func TestAnAddressThatComesLater(t *testing.T) {
	l := newLab(t, "a", "b")
	must(t, l.nvas["a"].ns.Batch("addr del 10.0.0.1/24 dev eth0"))
	l.start("a", 100, oldKey)
	l.start("b", 101, oldKey)
	l.until("a is not there", "b", passed(down("a")))
	must(t, l.nvas["a"].ns.Batch("addr add 10.0.0.1/24 dev eth0"))
	l.settle("the address is there")
}

func TestIPv6(t *testing.T) {
	l := newLab(t, "a", "b")
	l.nvas["a"].address, l.nvas["b"].address = netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")
	l.start("a", 100, oldKey)
	l.start("b", 101, oldKey)
	l.settle("over IPv6")
}
