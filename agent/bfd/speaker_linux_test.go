package bfd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/pointsman/pointsman/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// running is a speaker in a namespace.
type running struct {
	*Speaker
	tb      testing.TB
	metrics Metrics
	changes chan Change
	stop    func() // ends it and waits
	ended   chan struct{}
}

func run(tb testing.TB, ns *netns.NS, sessions ...Session) *running {
	tb.Helper()
	r := &running{tb: tb, changes: make(chan Change, 100), ended: make(chan struct{})}
	var err error
	r.Speaker, err = New(Config{Sessions: sessions}, slog.New(slog.DiscardHandler), &r.metrics)
	must(tb, err)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(r.ended)
		if failed := ns.Do(func() error { return r.Run(ctx, func(c Change) { r.changes <- c }) }); failed != nil {
			tb.Error(failed)
		}
	}()
	r.stop = func() {
		cancel()
		<-r.ended
	}
	tb.Cleanup(r.stop)
	return r
}

// hears waits until every session has said its next news, and returns it.
func (r *running) hears(want State, diag Diag) (all []Change) {
	r.tb.Helper()
	deadline := time.After(40 * time.Second) // less than TestHurry's longest wait
	for range r.cfg.Sessions {
		select {
		case c := <-r.changes:
			if c.State != want || c.Diag != diag {
				r.tb.Fatalf("%s: %s, %s; want %s, %s", c.Session, c.State, c.Diag, want, diag)
			}
			all = append(all, c)
		case <-r.ended:
			r.tb.Fatal("it does not run")
		case <-deadline:
			r.tb.Fatalf("%s, %s: not in time: %+v", want, diag, r.Status())
		}
	}
	return all
}

// pairOfNamespaces returns two that are joined, with addresses of all kinds.
func pairOfNamespaces(tb testing.TB) (a, b *netns.NS) {
	tb.Helper()
	a, b = netns.New(tb), netns.New(tb)
	must(tb, netns.Pair(a, b, "left", "right"))
	for i, ns := range []*netns.NS{a, b} {
		dev := []string{"left", "right"}[i]
		must(tb, ns.Batch(fmt.Sprintf("addr add 192.0.2.%d/24 dev %s", i+1, dev), fmt.Sprintf("addr add 2001:db8::%d/64 dev %s nodad", i+1, dev),
			fmt.Sprintf("addr add fe80::%d/64 dev %s nodad", i+1, dev)))
	}
	return a, b
}

// sessionTo returns a session over real sockets: a machine that is busy for less than two seconds does not take it down.
func sessionTo(name, peer string) Session {
	s := fast()
	s.Name, s.Peer, s.DetectMult = name, addr(peer), 10
	return s
}

func far(s Session) Session {
	s.Name, s.Multihop, s.MinTTL = s.Name+" far", true, 255
	return s
}

// TestSpeakers: two speakers over real sockets, over every family, one hop and several; held down, gone, dead.
func TestSpeakers(t *testing.T) {
	nsA, nsB := pairOfNamespaces(t)
	four, six := sessionTo("four", "192.0.2.1"), sessionTo("six", "2001:db8::1")
	four.Passive, six.Local = true, addr("2001:db8::2")
	ofB := []Session{four, six, sessionTo("link", "fe80::1%right"), far(four), far(six)}
	four, six = sessionTo("four", "192.0.2.2"), sessionTo("six", "2001:db8::2")
	a := run(t, nsA, four, six, sessionTo("link", "fe80::2%left"), far(four), far(six))
	b := run(t, nsB, ofB...)
	a.hears(Up, NoDiagnostic)
	b.hears(Up, NoDiagnostic)
	if n := a.metrics.Up.Load(); n != 5 {
		t.Errorf("%d sessions are counted as Up", n)
	}

	for _, s := range ofB {
		must(t, b.Disable(s.Name))
	}
	b.hears(AdminDown, AdministrativelyDown)
	a.hears(AdminDown, NeighborDown)
	for _, s := range ofB {
		must(t, b.Enable(s.Name))
	}
	a.hears(Up, NoDiagnostic)
	b.hears(Up, NoDiagnostic)

	b.stop() // tells a
	for _, c := range a.hears(AdminDown, NeighborDown) {
		if c.RemoteDiag != AdministrativelyDown {
			t.Errorf("%s: the peer left with %s", c.Session, c.RemoteDiag)
		}
	}
	b = run(t, nsB, ofB...)
	a.hears(Up, NoDiagnostic)
	b.hears(Up, NoDiagnostic)

	must(t, nsB.Batch("link set right down"))
	for _, c := range a.hears(Down, DetectionTimeExpired) {
		// The link may fail while the slow intervals from before Up are in force.
		if d := c.At.Sub(c.Heard); d < 10*200*ms || d > 30*time.Second {
			t.Errorf("%s: after %s", c.Session, d)
		}
	}
	must(t, nsA.Batch("link set left down")) // and with it the routes
	until(t, func() bool { return a.metrics.SendErrors.Load() > 0 })
	a.stop()
	b.stop()
	for _, r := range []*running{a, b} {
		if r.metrics.ReceiveErrors.Load() > 0 || r.metrics.Sent.Load() == 0 || r.metrics.Received.Load() == 0 {
			t.Errorf("sent %d, received %d, failed to receive %d", r.metrics.Sent.Load(), r.metrics.Received.Load(), r.metrics.ReceiveErrors.Load())
		}
	}
	goleak.VerifyNone(t)
}

// TestHurry: what is asked of a speaker does not wait for its next packet, which here is most of a minute away.
func TestHurry(t *testing.T) {
	nsA, nsB := pairOfNamespaces(t)
	slow := func(peer string) Session {
		s := sessionTo("slow", peer)
		s.DesiredMinTx, s.RequiredMinRx = LongestInterval, LongestInterval
		return s
	}
	a, b := run(t, nsA, slow("192.0.2.2")), run(t, nsB, slow("192.0.2.1"))
	a.hears(Up, NoDiagnostic)
	b.hears(Up, NoDiagnostic)
	must(t, b.Disable("slow"))
	a.hears(AdminDown, NeighborDown)
}

// TestOnTheWire: what the kernel sends for a session is what RFC 5881 asks for, and what is not so is not taken.
func TestOnTheWire(t *testing.T) {
	nsA, nsB := pairOfNamespaces(t)
	var listener net.PacketConn
	must(t, nsB.Do(func() (err error) {
		listener, err = new(net.ListenConfig).ListenPacket(t.Context(), "udp4", "192.0.2.2:3784")
		return err
	}))
	defer func() { _ = listener.Close() }()
	raw, err := listener.(*net.UDPConn).SyscallConn()
	must(t, err)
	must(t, raw.Control(func(fd uintptr) {
		err = errors.Join(unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTTL, 1), unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_RECVTOS, 1))
	}))
	must(t, err)
	must(t, listener.SetReadDeadline(time.Now().Add(10*time.Second)))
	a := run(t, nsA, sessionTo("four", "192.0.2.2"))
	buf, oob := make([]byte, 100), make([]byte, 100)
	n, control, _, from, err := listener.(*net.UDPConn).ReadMsgUDPAddrPort(buf, oob)
	must(t, err)
	if from.Port() < firstSourcePort {
		t.Errorf("source port %d", from.Port())
	}
	messages, err := unix.ParseSocketControlMessage(oob[:control])
	must(t, err)
	for _, m := range messages {
		if want := map[int32]byte{unix.IP_TTL: 255, unix.IP_TOS: 0xc0}[m.Header.Type]; m.Data[0] != want {
			t.Errorf("control message %d: %d, want %d", m.Header.Type, m.Data[0], want)
		}
	}
	p, why := Decode(buf[:n])
	if why != 0 || p.State != Down || n != packetSize || len(messages) != 2 {
		t.Errorf("%d octets, %s, %s, %d control messages", n, &p, why, len(messages))
	}

	send := func(ttl int, b []byte) {
		t.Helper()
		must(t, nsB.Do(func() error {
			d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) (err error) {
				return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_TTL, ttl) }), err)
			}}
			conn, dialed := d.DialContext(t.Context(), "udp4", "192.0.2.1:3784")
			if dialed != nil {
				return dialed
			}
			_, dialed = conn.Write(b)
			return errors.Join(dialed, conn.Close())
		}))
	}
	hello := Packet{State: Down, My: 5, DetectMult: 3, DesiredMinTx: time.Second, RequiredMinRx: time.Second}
	send(254, hello.Append(nil))
	send(255, []byte("not BFD"))
	send(255, make([]byte, 1400))
	send(255, nil)
	send(255, hello.Append(nil)) // the only one that counts
	until(t, func() bool { return a.Status()[0].RemoteDiscriminator == 5 })
	if low, short, old := a.metrics.Discarded(LowTTL), a.metrics.Discarded(TooShort), a.metrics.Discarded(WrongVersion); low != 1 || short != 2 || old != 1 {
		t.Errorf("low TTL %d, too short %d, wrong version %d", low, short, old)
	}
	if got := a.Status()[0]; got.State != Init || a.metrics.Received.Load() != 1 {
		t.Errorf("%s; %d packets counted", got.State, a.metrics.Received.Load())
	}
}

// until waits until something holds.
func until(tb testing.TB, holds func() bool) {
	tb.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(ms)
	defer tick.Stop()
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			tb.Fatal("not in time")
		}
	}
}

// TestPortTaken: a second speaker on the same port says what to do; one with an address of its own works beside it.
func TestPortTaken(t *testing.T) {
	nsA, _ := pairOfNamespaces(t)
	a := run(t, nsA, sessionTo("four", "192.0.2.2"))
	until(t, func() bool { return a.metrics.Sent.Load() > 0 })
	second, err := New(Config{Sessions: []Session{sessionTo("again", "192.0.2.3")}}, slog.New(slog.DiscardHandler), nil)
	must(t, err)
	err = nsA.Do(func() error { return second.Run(t.Context(), nil) })
	if !errors.Is(err, unix.EADDRINUSE) || !strings.Contains(err.Error(), "session again: listen on 0.0.0.0:3784") || !strings.Contains(err.Error(), "local address") {
		t.Errorf("error %v", err)
	}
	if err = a.Disable("nobody"); !errors.Is(err, ErrUnknownSession) {
		t.Errorf("error %v", err)
	}
	if err = a.SetIntervals("four", ms, ms); err == nil {
		t.Error("an interval that Validate refuses is accepted")
	}
	must(t, a.SetIntervals("four", 2*time.Second, 300*ms))
	until(t, func() bool { return a.Status()[0].Interval == 2*time.Second })
}

// open returns a runner with its sockets in a namespace.
func open(tb testing.TB, ns *netns.NS, sessions ...Session) *runner {
	tb.Helper()
	s, err := New(Config{Sessions: sessions}, slog.New(slog.DiscardHandler), nil)
	must(tb, err)
	r := &runner{Speaker: s}
	must(tb, ns.Do(r.open))
	tb.Cleanup(r.close)
	return r
}

// between returns a session between two addresses of this machine.
func between(local, peer string) Session {
	s := sessionTo(local, peer)
	s.Local = addr(local)
	return s
}

func (r *runner) session() *session { return &r.table.entries[0].session }

func (r *runner) mustTurn(tb testing.TB) time.Time {
	tb.Helper()
	wake, err := r.turn()
	must(tb, err)
	return wake
}

// bothUp returns two runners on loopback whose sessions are Up and settled.
func bothUp(tb testing.TB) (a, b *runner) {
	tb.Helper()
	ns := netns.New(tb)
	a, b = open(tb, ns, between("127.0.0.1", "127.0.0.2")), open(tb, ns, between("127.0.0.2", "127.0.0.1"))
	until(tb, func() bool {
		a.mustTurn(tb)
		b.mustTurn(tb)
		return a.session().local == Up && b.session().local == Up && !a.session().polling && !b.session().polling
	})
	return a, b
}

// TestStall: the process was not run for longer than the Detection Time. What has come meanwhile is read before the timer is believed.
func TestStall(t *testing.T) {
	a, b := bothUp(t)
	a.mustTurn(t)
	packet := b.session().packet()
	b.send(0, &packet)
	a.late()
	if a.mustTurn(t); a.session().local != Up {
		t.Error("Down, though a packet had come")
	}
	a.late()
	if a.mustTurn(t); a.session().local != Down {
		t.Error("nothing had come, and it is still Up")
	}
}

// late makes it as if an hour had gone by since the last turn.
func (r *runner) late() {
	for _, at := range []*time.Time{&r.session().heard, &r.session().sent, &r.table.entries[0].wake} {
		*at = at.Add(-time.Hour)
	}
}

// TestNoAllocation: neither side of a packet costs memory.
func TestNoAllocation(t *testing.T) {
	a, b := bothUp(t)
	if n := testing.AllocsPerRun(100, func() { exchange(t, a, b) }); n != 0 {
		t.Errorf("%v allocations for a packet sent and received", n)
	}
}

// exchange has a send its next periodic packet now, and b read it.
func exchange(tb testing.TB, a, b *runner) {
	tb.Helper()
	a.session().sent = a.session().sent.Add(-time.Minute)
	a.table.entries[0].wake = a.session().sent
	sent, received := a.metrics.Sent.Load(), b.metrics.Received.Load()
	must(tb, a.poller.wait(a.mustTurn(tb).Add(-time.Hour))) // returns at once
	must(tb, b.poller.wait(time.Time{}))
	b.mustTurn(tb)
	if a.metrics.Sent.Load() == sent || b.metrics.Received.Load() == received {
		tb.Fatal("no packet")
	}
}

// BenchmarkPacket is a packet over a real socket: timer, sent, woken up, read, understood.
func BenchmarkPacket(b *testing.B) {
	x, y := bothUp(b)
	b.ReportAllocs()
	for b.Loop() {
		exchange(b, x, y)
	}
}

// BenchmarkSession is the same without sockets.
func BenchmarkSession(b *testing.B) {
	cfg := fast()
	cfg.Peer = netip.MustParseAddr("192.0.2.1")
	t := newTable(Config{Sessions: []Session{cfg}}, []uint32{7}, new(Metrics), noon)
	p := Packet{State: Init, My: 9, Your: 7, DetectMult: 3, DesiredMinTx: 200 * ms, RequiredMinRx: 200 * ms}
	a := arrival{source: cfg.Peer, ttl: 255, payload: p.Append(nil)}
	now, buf := noon, make([]byte, 0, packetSize)
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(200 * ms)
		i, ok := t.receive(now, &a)
		if !ok {
			b.Fatal("discarded")
		}
		for {
			out := t.entries[i].next(now)
			if !out.send {
				break
			}
			buf = out.packet.Append(buf[:0])
		}
	}
}

// BenchmarkSpeakers is what a session at 200 ms costs: some of them and their peers, in one process, for as many seconds as there are turns. The
// processor time is that of both sides, and of the kernel for them.
func BenchmarkSpeakers(b *testing.B) {
	for _, sessions := range []int{1, 50} {
		b.Run(fmt.Sprintf("sessions=%d", sessions), func(b *testing.B) { benchmarkSpeakers(b, sessions) })
	}
}

func benchmarkSpeakers(b *testing.B, sessions int) {
	b.Helper()
	ns := netns.New(b)
	var all [2][]Session
	for i := range sessions {
		x, y := fmt.Sprintf("127.0.1.%d", i), fmt.Sprintf("127.0.2.%d", i)
		all[0], all[1] = append(all[0], between(x, y)), append(all[1], between(y, x))
	}
	var sent [2]*atomic.Uint64
	up := make(chan Change, 4*sessions)
	ctx, cancel := context.WithCancel(b.Context())
	var both errgroup.Group
	for i := range all {
		r := open(b, ns, all[i]...)
		sent[i] = &r.metrics.Sent
		both.Go(func() error { return r.loop(ctx, func(c Change) { up <- c }) })
	}
	for range 2 * sessions {
		<-up
	}
	before, packets := processorTime(b), sent[0].Load()+sent[1].Load()
	tick := time.NewTicker(time.Second)
	for b.Loop() {
		<-tick.C
	}
	tick.Stop()
	used := float64(processorTime(b) - before)
	packets = sent[0].Load() + sent[1].Load() - packets
	b.ReportMetric(0, "ns/op")
	b.ReportMetric(used/float64(packets)/1000, "µs/packet")
	b.ReportMetric(100*used/float64(b.Elapsed())/float64(2*sessions), "%cpu/session")
	cancel()
	must(b, both.Wait())
}

func processorTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u unix.Rusage
	must(tb, unix.Getrusage(unix.RUSAGE_SELF, &u))
	return time.Duration(unix.TimevalToNsec(u.Utime) + unix.TimevalToNsec(u.Stime))
}
