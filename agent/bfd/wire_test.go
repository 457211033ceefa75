package bfd

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// wire joins two tables with one session each and moves datagrams between them in virtual time.
type wire struct {
	tb    rapid.TB
	now   time.Time
	a, b  *end
	delay time.Duration
	drop  func(from *end) bool
	air   []flight // by time
}

type flight struct {
	at       time.Time
	to       *end
	datagram []byte
}

// end is one side. What must never happen is checked at every step.
type end struct {
	wire    *wire
	cfg     Session
	table   *table
	stopped bool // it says and hears nothing any more
	wake    time.Time
	changes []Change

	sent     int
	finals   int // sent
	polls    int // received
	periodic time.Time
	gaps     map[time.Duration]bool // between periodic packets
	content  Packet
}

func newWire(tb rapid.TB, a, b Session, delay time.Duration) *wire {
	w := &wire{tb: tb, now: noon, delay: delay, drop: func(*end) bool { return false }}
	w.a, w.b = &end{wire: w, cfg: a}, &end{wire: w, cfg: b}
	w.a.start(0x0a)
	w.b.start(0x0b)
	return w
}

// start starts an end, or starts it anew under another discriminator: it remembers nothing.
func (e *end) start(discriminator uint32) {
	e.table = newTable(Config{Sessions: []Session{e.cfg}}, []uint32{discriminator}, new(Metrics), e.wire.now)
	e.stopped, e.periodic, e.content, e.gaps = false, time.Time{}, Packet{}, map[time.Duration]bool{}
	e.step()
}

func (e *end) session() *session { return &e.table.entries[0].session }

func (e *end) other() *end {
	if e == e.wire.a {
		return e.wire.b
	}
	return e.wire.a
}

// step does what a speaker does.
func (e *end) step() {
	for {
		out := e.session().next(e.wire.now)
		e.wake = out.wake
		if out.change != nil {
			e.changes = append(e.changes, *out.change)
		}
		if !out.send {
			return
		}
		e.check(out.packet)
		e.send(out.packet)
	}
}

// check holds a packet to RFC 5880, section 6.8.7: no storm may come of whatever happens.
func (e *end) check(p Packet) {
	s := e.session()
	switch {
	case p.Poll && p.Final:
		e.wire.tb.Errorf("Poll and Final in one packet: %s", &p)
	case p.State != Up && p.DesiredMinTx < time.Second:
		e.wire.tb.Errorf("fast while not Up: %s", &p)
	case p.Your == 0 && (p.State == Up || p.State == Init):
		e.wire.tb.Errorf("Your Discriminator is missing: %s", &p)
	case s.passive && s.remote.my == 0:
		e.wire.tb.Errorf("the passive side speaks first: %s", &p)
	}
	if p.Final {
		if e.finals++; e.finals > e.polls {
			e.wire.tb.Errorf("%d answers to %d Polls", e.finals, e.polls)
		}
		p.Final = false
		e.content = p
		return
	}
	p.Poll = false
	least := time.Duration(float64(max(s.used.tx, s.remote.minRx)) * 0.75)
	if gap := e.wire.now.Sub(e.periodic); p == e.content && gap < least {
		e.wire.tb.Errorf("the same again after %s, must wait for %s: %s", gap, least, &p)
	}
	e.gaps[e.wire.now.Sub(e.periodic)] = true
	e.content, e.periodic = p, e.wire.now
}

func (e *end) send(p Packet) {
	e.sent++
	if e.wire.drop(e) || e.other().stopped {
		return
	}
	f := flight{at: e.wire.now.Add(e.wire.delay), to: e.other(), datagram: p.Append(nil)}
	i, _ := slices.BinarySearchFunc(e.wire.air, f, func(x, y flight) int { return x.at.Compare(y.at) })
	for i < len(e.wire.air) && e.wire.air[i].at.Equal(f.at) { // in order
		i++
	}
	e.wire.air = slices.Insert(e.wire.air, i, f)
}

func (e *end) receive(datagram []byte) {
	if e.stopped {
		return
	}
	a := arrival{source: e.cfg.Peer, multihop: e.cfg.Multihop, ttl: 255, payload: datagram}
	if _, ok := e.table.receive(e.wire.now, &a); ok && datagram[1]&bitPoll != 0 {
		e.polls++
	}
	e.step()
}

// run goes on until an instant, or until stop holds after a step, and reports whether it does.
func (w *wire) run(until time.Time, stop func() bool) bool {
	for !stop() {
		at, f := until, -1
		var e *end
		for _, x := range []*end{w.a, w.b} {
			if !x.stopped && !x.wake.IsZero() && x.wake.Before(at) {
				at, e = x.wake, x
			}
		}
		if len(w.air) > 0 && !w.air[0].at.After(at) {
			at, f = w.air[0].at, 0
		}
		if at.Before(w.now) {
			w.tb.Fatalf("time goes back by %s", w.now.Sub(at))
		}
		w.now = at
		switch {
		case f == 0:
			next := w.air[0]
			w.air = w.air[1:]
			next.to.receive(next.datagram)
		case e != nil:
			e.step()
		default:
			return false
		}
	}
	return true
}

func never() bool { return false }

func (w *wire) wait(d time.Duration) { w.run(w.now.Add(d), never) }

func (w *wire) bothUp() bool { return w.a.session().local == Up && w.b.session().local == Up }

func (w *wire) comesUp(within time.Duration) {
	if !w.run(w.now.Add(within), w.bothUp) {
		w.tb.Fatalf("after %s: %s and %s", within, w.a.session().local, w.b.session().local)
	}
}

func peers() (a, b Session) {
	a, b = fast(), fast()
	a.Peer, b.Peer = addr("192.0.2.2"), addr("192.0.2.1")
	return a, b
}

// last returns the last change of an end that is not the first one.
func (e *end) last() Change {
	if len(e.changes) == 0 {
		return Change{}
	}
	return e.changes[len(e.changes)-1]
}

// TestHandshake: up within three slow intervals, at the negotiated rate, and no packet more than that rate.
func TestHandshake(t *testing.T) {
	for _, passive := range []bool{false, true} {
		a, b := peers()
		b.Passive = passive
		a.DesiredMinTx, b.RequiredMinRx = 100*ms, 300*ms
		b.DetectMult = 5 // of what a has to do without
		w := newWire(t, a, b, ms)
		w.comesUp(3 * time.Second)
		w.wait(5 * time.Second)
		if i, j := w.a.session().interval(), w.b.session().interval(); i != 300*ms || j != 200*ms {
			t.Errorf("negotiated %s and %s", i, j)
		}
		if i, j := w.a.session().detection(), w.b.session().detection(); i != 1000*ms || j != 900*ms {
			t.Errorf("detection in %s and %s", i, j)
		}
		if w.a.session().polling || w.b.session().polling {
			t.Error("the Poll Sequences go on")
		}
		sent := w.a.sent
		w.wait(30 * time.Second)
		if n := w.a.sent - sent; n < 100 || n > 134 {
			t.Errorf("%d packets in 30s at 300ms less up to a quarter", n)
		}
		if len(w.a.gaps) < 100 {
			t.Errorf("%d packets, and only %d different gaps: the jitter is not of each packet", w.a.sent, len(w.a.gaps))
		}
		if len(w.a.changes) != 1 || len(w.b.changes) != 1 {
			t.Errorf("changes %v and %v", w.a.changes, w.b.changes)
		}
	}
}

// TestOneWay: nothing gets from b to a. a sees it by its Detection Time, b is told by a.
func TestOneWay(t *testing.T) {
	a, b := peers()
	w := newWire(t, a, b, ms)
	w.comesUp(3 * time.Second)
	w.wait(2 * time.Second)
	w.drop = func(from *end) bool { return from == w.b }
	heard := w.a.session().heard
	w.wait(10 * time.Second)
	for _, c := range []struct {
		name string
		got  Change
		diag Diag
	}{{"a", w.a.last(), DetectionTimeExpired}, {"b", w.b.last(), NeighborDown}} {
		if c.got.State != Down || c.got.Diag != c.diag {
			t.Errorf("%s: %s, %s", c.name, c.got.State, c.got.Diag)
		}
	}
	if after := w.a.last().At.Sub(heard); after > 600*ms+w.delay {
		t.Errorf("seen after %s", after)
	}
	if got := w.b.last(); got.RemoteDiag != DetectionTimeExpired || got.At.Sub(w.a.last().At) != w.delay {
		t.Errorf("b is told %s, %s after a knows", got.RemoteDiag, got.At.Sub(w.a.last().At))
	}
	w.drop = func(*end) bool { return false }
	w.comesUp(5 * time.Second)
}

// TestRestart: a side that starts anew is not taken for the one before; the other notices at once.
func TestRestart(t *testing.T) {
	a, b := peers()
	w := newWire(t, a, b, ms)
	w.comesUp(3 * time.Second)
	w.wait(time.Second)
	w.b.start(0xbb)
	began := w.now
	w.wait(2 * w.delay)
	if got := w.a.last(); got.State != Down || got.Diag != NeighborDown {
		t.Errorf("a: %s, %s", got.State, got.Diag)
	}
	w.comesUp(3 * time.Second)
	if w.a.session().remote.my != 0xbb {
		t.Errorf("a speaks with %x", w.a.session().remote.my)
	}
	t.Logf("up again after %s", w.now.Sub(began))
}

// TestDeath: a side that says nothing any more is seen dead within the Detection Time, exactly.
func TestDeath(t *testing.T) {
	a, b := peers()
	w := newWire(t, a, b, ms)
	w.comesUp(3 * time.Second)
	w.wait(time.Second)
	w.b.stopped = true
	died := w.now
	w.wait(time.Minute)
	got := w.a.last()
	if got.State != Down || got.Diag != DetectionTimeExpired || got.At.Sub(got.Heard) != 600*ms || got.At.After(died.Add(600*ms+w.delay)) {
		t.Errorf("%s, %s, %s after the last packet and %s after the death", got.State, got.Diag, got.At.Sub(got.Heard), got.At.Sub(died))
	}
}

// TestHeldDown: either side may hold the session down, which is not a failure, and let it go.
func TestHeldDown(t *testing.T) {
	a, b := peers()
	w := newWire(t, a, b, ms)
	w.comesUp(3 * time.Second)
	w.wait(time.Second)
	w.b.session().disable(w.now)
	w.b.step()
	w.wait(time.Minute)
	if got := w.a.last(); got.State != AdminDown || got.Diag != NeighborDown || got.RemoteDiag != AdministrativelyDown || w.a.session().local != Down {
		t.Errorf("a reports %s, %s, %s, and is %s", got.State, got.Diag, got.RemoteDiag, w.a.session().local)
	}
	if got := w.b.last(); got.State != AdminDown || got.Diag != AdministrativelyDown {
		t.Errorf("b reports %s, %s", got.State, got.Diag)
	}
	w.b.session().enable(w.now)
	w.b.step()
	w.comesUp(3 * time.Second)
	if len(w.a.changes) != 3 || len(w.b.changes) != 3 {
		t.Errorf("changes %v and %v", w.a.changes, w.b.changes)
	}
}

// TestTimersChange: other intervals while Up, in both directions, without a flap.
func TestTimersChange(t *testing.T) {
	a, b := peers()
	w := newWire(t, a, b, ms)
	w.comesUp(3 * time.Second)
	for i, want := range []intervals{{time.Second, time.Second}, {50 * ms, 50 * ms}, {500 * ms, 100 * ms}} {
		w.wait(5 * time.Second)
		w.a.session().configure(want)
		w.a.step()
		w.wait(5 * time.Second)
		if got := w.a.session(); got.used != want || got.polling {
			t.Errorf("change %d: %v in force, want %v; polling %v", i, got.used, want, got.polling)
		}
		if d := w.b.session().detection(); d != 3*max(want.tx, 200*ms) {
			t.Errorf("change %d: the peer detects in %s", i, d)
		}
	}
	if len(w.a.changes) != 1 || len(w.b.changes) != 1 {
		t.Errorf("changes %v and %v", w.a.changes, w.b.changes)
	}
}

// TestAnyLossHeals: after any losses, deaths and restarts two sessions come up and stay up; and when then one side stops, the other knows
// within its Detection Time. At every packet the rate is checked (see check).
func TestAnyLossHeals(t *testing.T) {
	interval := rapid.Custom(func(t *rapid.T) time.Duration { return time.Duration(rapid.IntRange(50, 2000).Draw(t, "ms")) * ms })
	rapid.Check(t, func(t *rapid.T) {
		a, b := peers()
		for _, s := range []*Session{&a, &b} {
			s.DesiredMinTx, s.RequiredMinRx = interval.Draw(t, "tx"), interval.Draw(t, "rx")
			s.DetectMult = rapid.IntRange(1, 5).Draw(t, "mult")
		}
		b.Passive = rapid.Bool().Draw(t, "passive")
		w := newWire(t, a, b, time.Duration(rapid.IntRange(0, 2000).Draw(t, "delay µs"))*time.Microsecond)
		w.suffer(t)
		w.drop = func(*end) bool { return false }

		// What was lost just before, or is still on the way from before, may take an end down once more.
		const longestDetection, handshake = 5 * 2 * time.Second, 4 * 2 * time.Second
		w.comesUp(longestDetection + handshake)
		w.wait(longestDetection)
		w.comesUp(handshake)
		w.settle(t)
		w.die(t)
	})
}

// suffer makes trouble for a while: packets are lost by a pattern, ends die and start anew, are held down and let go, change their intervals.
func (w *wire) suffer(t *rapid.T) {
	pattern := rapid.SliceOfN(rapid.Uint8Range(0, 3), 1, 40).Draw(t, "lost: 1 from a, 2 from b, 3 both")
	n := 0
	w.drop = func(from *end) bool {
		n++
		p := pattern[n%len(pattern)]
		return from == w.a && p&1 != 0 || from == w.b && p&2 != 0
	}
	discriminator := uint32(0x100)
	for range rapid.IntRange(0, 10).Draw(t, "mishaps") {
		w.wait(time.Duration(rapid.IntRange(0, 3000).Draw(t, "ms")) * ms)
		e := rapid.SampledFrom([]*end{w.a, w.b}).Draw(t, "end")
		switch rapid.IntRange(0, 4).Draw(t, "mishap") {
		case 0:
			e.stopped = true
		case 1:
			discriminator++
			e.start(discriminator)
		case 2:
			e.session().disable(w.now)
		case 3:
			e.session().enable(w.now)
		case 4:
			e.session().configure(intervals{e.session().want.rx, e.session().want.tx})
		}
		if !e.stopped {
			e.step()
		}
	}
	for i, e := range []*end{w.a, w.b} {
		if e.stopped {
			e.start(uint32(0x1000 + i))
		}
		e.session().enable(w.now)
		e.step()
	}
}

// settle: up for a while without a change; all that was asked is answered.
func (w *wire) settle(t *rapid.T) {
	changes := len(w.a.changes) + len(w.b.changes)
	w.wait(15 * time.Second)
	if n := len(w.a.changes) + len(w.b.changes); n != changes || !w.bothUp() {
		t.Fatalf("%d changes without loss: %v, %v", n-changes, w.a.changes, w.b.changes)
	}
	for _, e := range []*end{w.a, w.b} {
		if s := e.session(); s.polling || s.used != s.want {
			t.Fatalf("intervals %v in force, want %v; polling %v", s.used, s.want, s.polling)
		}
	}
}

// die: one end stops, the other knows within its Detection Time.
func (w *wire) die(t *rapid.T) {
	w.b.stopped = true
	w.air = nil
	heard, detection := w.a.session().heard, w.a.session().detection()
	if !w.run(w.now.Add(detection), func() bool { return w.a.session().local != Up }) {
		t.Fatalf("%s after the last packet: %s", w.now.Sub(heard), w.a.session().local)
	}
	if got := w.a.last(); got.Diag != DetectionTimeExpired || got.At.Sub(heard) != detection {
		t.Fatalf("%s after %s, want %s after %s", got.Diag, got.At.Sub(heard), DetectionTimeExpired, detection)
	}
}
