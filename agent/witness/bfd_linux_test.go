package witness_test

import (
	"context"
	"log/slog"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/agent/witness"
	"github.com/pointsman/pointsman/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

// side is one NVA that watches the other by BFD.
type side struct {
	t      *testing.T
	ns     *netns.NS
	method *witness.BFD
	sights chan witness.Sight
	last   witness.Sight
	cancel context.CancelFunc
	ended  chan error
}

func newSide(t *testing.T, ns *netns.NS, peer, address string) *side {
	t.Helper()
	method, err := witness.NewBFD(bfd.Config{Sessions: []bfd.Session{{
		Name: peer, Peer: netip.MustParseAddr(address), DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 50 * time.Millisecond, DetectMult: 5,
	}}}, slog.New(slog.DiscardHandler), new(bfd.Metrics))
	if err != nil {
		t.Fatal(err)
	}
	s := &side{t: t, ns: ns, method: method, sights: make(chan witness.Sight, 1000)}
	t.Cleanup(s.stop)
	return s
}

// start runs the method on a thread of the namespace, where it opens its sockets.
func (s *side) start() {
	ctx, cancel := context.WithCancel(s.t.Context())
	s.cancel, s.ended = cancel, make(chan error, 1)
	go func() {
		s.ended <- s.ns.Do(func() error { return s.method.Run(ctx, func(sight witness.Sight) { s.sights <- sight }) })
	}()
}

func (s *side) stop() {
	if s.cancel == nil {
		return
	}
	s.cancel()
	if err := <-s.ended; err != nil {
		s.t.Error(err)
	}
	s.cancel = nil
}

func (s *side) until(what string, state witness.State, deaf bool) {
	s.t.Helper()
	timeout := time.After(30 * time.Second)
	for s.last.State != state || s.last.Deaf != deaf {
		select {
		case s.last = <-s.sights:
		case <-timeout:
			s.t.Fatalf("%s: saw %+v, want %s deaf=%t", what, s.last, state, deaf)
		}
	}
	if (state == witness.Unreachable) != s.last.Missing {
		s.t.Errorf("%s: %+v", what, s.last)
	}
}

func TestBFDSessions(t *testing.T) {
	here, there := netns.New(t), netns.New(t)
	if err := netns.Pair(here, there, "eth0", "eth0"); err != nil {
		t.Fatal(err)
	}
	batch := func(ns *netns.NS, lines ...string) {
		t.Helper()
		if err := ns.Batch(lines...); err != nil {
			t.Fatal(err)
		}
	}
	batch(here, "addr add 10.0.0.1/24 dev eth0")
	batch(there, "addr add 10.0.0.2/24 dev eth0")
	a, b := newSide(t, here, "b", "10.0.0.2"), newSide(t, there, "a", "10.0.0.1")
	a.start()
	a.until("nobody is there", witness.Unreachable, false)
	if !a.last.Since.Before(time.Now()) {
		t.Errorf("missing since %s", a.last.Since)
	}
	b.start()
	a.until("b speaks", witness.Reachable, false)
	b.until("b hears", witness.Reachable, false)

	batch(here, "route add blackhole 10.0.0.2/32")
	b.until("nothing of a gets to b", witness.Unreachable, false)
	a.until("b complains", witness.Unreachable, true)
	batch(here, "route del blackhole 10.0.0.2/32")
	a.until("mended", witness.Reachable, false)
	b.until("mended", witness.Reachable, false)

	batch(there, "link set eth0 down")
	a.until("the link is cut", witness.Unreachable, false)
	if late := time.Since(a.last.Since); late < 200*time.Millisecond {
		t.Errorf("lost after %s of silence, want 250 ms", late)
	}
	batch(there, "link set eth0 up")
	a.until("the link is back", witness.Reachable, false)
	b.until("the link is back", witness.Reachable, false)

	b.stop()
	a.until("b ends its sessions in order, which says nothing of its NVA", witness.Unknown, false)
	if a.method.Trouble() != "" {
		t.Error(a.method.Trouble())
	}
}
