package echo

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/agent/witness"
)

const (
	every  = 200 * time.Millisecond
	misses = 5
)

// fatal is what the two kinds of test have in common.
type fatal interface {
	Helper()
	Fatalf(format string, args ...any)
}

// world is some machines and a network between them, in virtual time.
type world struct {
	t     fatal
	now   time.Time
	nodes map[string]*node
	wire  []flying
	taps  []flying                              // everything that was ever sent
	lost  func(from, to string, p *Packet) bool // nil: nothing
	delay time.Duration
}

type node struct {
	name    string
	machine *Machine
	sights  map[string]witness.Sight
	log     []string
	last    map[string]string // line of log, by peer
	asleep  bool              // it is not scheduled
	dead    bool
	wake    time.Time
	drops   map[Drop]int
}

type flying struct {
	at       time.Time
	from, to string
	packet   Packet
}

func newWorld(t fatal, names ...string) *world {
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), nodes: map[string]*node{}, delay: time.Millisecond}
	for i, name := range names {
		w.boot(name, uint64(100+i), names...)
	}
	return w
}

// boot starts a node with a session; it watches all others of names.
func (w *world) boot(name string, session uint64, names ...string) {
	cfg := Config{Domain: "lab", NVA: name, Session: session, Every: every, Misses: misses}
	for _, other := range names {
		if other != name {
			cfg.Peers = append(cfg.Peers, Peer{NVA: other, Address: address(other)})
		}
	}
	w.nodes[name] = &node{name: name, machine: NewMachine(cfg, w.now), sights: map[string]witness.Sight{}, last: map[string]string{}, drops: map[Drop]int{}, wake: w.now}
}

func address(name string) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, name[0]}), 9811)
}

func nameOf(a netip.AddrPort) string { return string(rune(a.Addr().As4()[3])) }

func (w *world) send(from, to string, p Packet) {
	f := flying{at: w.now.Add(w.delay), from: from, to: to, packet: p}
	w.taps = append(w.taps, f)
	if w.lost == nil || !w.lost(from, to, &p) {
		w.wire = append(w.wire, f)
	}
}

func (w *world) next(n *node) {
	e := n.machine.Next(w.now)
	n.wake = e.Wake
	for _, o := range e.Probes {
		w.send(n.name, nameOf(o.To), o.Packet)
	}
	for _, s := range e.Sights {
		n.sights[s.NVA] = s
		line := fmt.Sprintf("%s %s deaf=%t", s.NVA, s.State, s.Deaf)
		if s.State != witness.Unknown && n.last[s.NVA] != line { // that it is missing is no line
			n.last[s.NVA], n.log = line, append(n.log, line)
		}
	}
}

func (w *world) receive(n *node, f flying) {
	var answer Packet
	why := n.machine.Received(w.now, &f.packet, &answer)
	n.drops[why]++
	if why == Taken && f.packet.Kind == Probe {
		w.send(n.name, f.from, answer)
	}
	w.next(n)
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	for end := w.now.Add(d); ; {
		next := end
		for _, n := range w.nodes {
			if !n.asleep && !n.dead && n.wake.Before(next) {
				next = n.wake
			}
		}
		for _, f := range w.wire {
			if f.at.Before(next) {
				next = f.at
			}
		}
		if next.After(w.now) {
			w.now = next
		}
		if acted := w.turn(); !acted && w.now.Equal(end) {
			return
		}
	}
}

func (w *world) turn() bool {
	acted := false
	for i := 0; i < len(w.wire); i++ {
		f := w.wire[i]
		n := w.nodes[f.to]
		if f.at.After(w.now) || n.asleep { // then it waits in the socket's buffer
			if n.asleep && !f.at.After(w.now) {
				w.wire[i].at = w.now.Add(time.Millisecond)
			}
			continue
		}
		w.wire = slices.Delete(w.wire, i, i+1)
		i--
		if !n.dead {
			w.receive(n, f)
		}
		acted = true
	}
	for _, name := range slices.Sorted(func(yield func(string) bool) {
		for name := range w.nodes {
			if !yield(name) {
				return
			}
		}
	}) {
		if n := w.nodes[name]; !n.asleep && !n.dead && !n.wake.After(w.now) {
			w.next(n)
			acted = true
		}
	}
	return acted
}

func (w *world) expect(what, node, peer string, state witness.State, deaf bool) {
	w.t.Helper()
	if got := w.nodes[node].sights[peer]; got.State != state || got.Deaf != deaf {
		w.t.Fatalf("%s: %s sees %+v of %s, want %s deaf=%t", what, node, got, peer, state, deaf)
	}
}

func TestPeersFindEachOther(t *testing.T) {
	w := newWorld(t, "a", "b", "c")
	w.pass(misses*every - time.Millisecond)
	if n := len(w.nodes["a"].log); n != 0 {
		t.Errorf("too early: %v", w.nodes["a"].log)
	}
	w.pass(every)
	for _, pair := range []string{"ab", "ac", "ba", "bc", "ca", "cb"} {
		w.expect("after the start", pair[:1], pair[1:], witness.Reachable, false)
	}
	w.pass(10 * time.Minute)
	if n := len(w.nodes["a"].log); n != 2 {
		t.Errorf("a peer that is well is told once: %v", w.nodes["a"].log)
	}
}

func TestADeadPeerIsNoticedInTime(t *testing.T) {
	for phase := time.Duration(0); phase < every; phase += 7 * time.Millisecond {
		w := newWorld(t, "a", "b", "c")
		w.pass(10*time.Second + phase)
		w.nodes["b"].dead = true
		w.pass((misses - 1) * every)
		w.expect("too early to tell", "a", "b", witness.Reachable, false)
		w.pass(2 * every)
		w.expect("after the detection time", "a", "b", witness.Unreachable, false)
		w.expect("the other", "a", "c", witness.Reachable, false)
		w.boot("b", 1000, "a", "b", "c")
		w.pass((misses + 1) * every)
		w.expect("after its restart", "a", "b", witness.Reachable, false)
	}
}

func TestItIsMissingBeforeItIsLost(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.pass(10 * time.Second)
	w.nodes["b"].dead = true
	w.pass(misses/2*every + every)
	if s := w.nodes["a"].sights["b"]; !s.Missing || s.State != witness.Reachable {
		t.Errorf("after two misses: %+v", s)
	}
	w.pass(misses * every)
	if s := w.nodes["a"].sights["b"]; !s.Missing || s.State != witness.Unreachable {
		t.Errorf("after all of them: %+v", s)
	}
}

func TestOneWayLoss(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.pass(2 * time.Second)
	w.lost = func(from, _ string, _ *Packet) bool { return from == "b" }
	w.pass((misses + 2) * every)
	w.expect("what b sends is lost", "a", "b", witness.Unreachable, false)
	w.expect("b hears that a does not hear it", "b", "a", witness.Unreachable, true)
	w.lost = nil
	w.pass((misses + 2) * every)
	w.expect("afterwards", "a", "b", witness.Reachable, false)
	w.expect("afterwards", "b", "a", witness.Reachable, false)
}

// TestAPeerThatHearsNothingIsToldApart: only answers are lost, so both hear the other's complaint.
func TestAPeerThatHearsNothingIsToldApart(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.pass(2 * time.Second)
	w.lost = func(_, _ string, p *Packet) bool { return p.Kind == Answer }
	w.pass((misses + 2) * every)
	w.expect("a", "a", "b", witness.Unreachable, true)
	w.expect("b", "b", "a", witness.Unreachable, true)
	w.nodes["b"].dead = true
	w.pass((misses + 2) * every)
	w.expect("a complaint that is not repeated ends", "a", "b", witness.Unreachable, false)
}

func TestFewerLossesThanMissesChangeNothing(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.pass(2 * time.Second)
	before := len(w.nodes["a"].log)
	probes := 0
	w.lost = func(from, _ string, p *Packet) bool {
		if from != "a" || p.Kind != Probe {
			return false
		}
		probes++
		return probes%misses != 0 // four of five
	}
	w.pass(time.Minute)
	if len(w.nodes["a"].log) != before {
		t.Errorf("one answer in five is enough: %v", w.nodes["a"].log)
	}
}

func TestAWayLongerThanAnInterval(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.delay = 300 * time.Millisecond
	w.pass(5 * time.Second)
	w.expect("600 ms there and back", "a", "b", witness.Reachable, false)
	w.delay = 600 * time.Millisecond
	w.pass(5 * time.Second)
	w.expect("an answer after the detection time is none", "a", "b", witness.Unreachable, true)
}

func TestAMachineThatSleptAccusesNobody(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.pass(2 * time.Second)
	before := len(w.nodes["a"].log)
	w.nodes["a"].asleep = true
	w.pass(time.Minute)
	w.expect("but it is accused", "b", "a", witness.Unreachable, false)
	w.nodes["a"].asleep = false
	w.pass(10 * time.Second)
	for _, line := range w.nodes["a"].log[before:] {
		if line != "b reachable deaf=true" && line != "b reachable deaf=false" {
			t.Errorf("after its sleep a says %q", line)
		}
	}
	w.expect("afterwards", "b", "a", witness.Reachable, false)
}

func TestReplayedPacketsAreNotTaken(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.pass(10 * time.Second)
	recorded := slices.Clone(w.taps)
	w.nodes["b"].dead = true
	w.pass(2 * time.Second)
	a := w.nodes["a"]
	a.drops = map[Drop]int{}
	sent := len(w.taps)
	for _, f := range recorded {
		if f.to == "a" {
			w.receive(a, f)
		}
	}
	if a.drops[Taken] != 0 || a.drops[Stale] == 0 || len(w.taps) != sent {
		t.Errorf("replayed packets: %v, and %d were sent", a.drops, len(w.taps)-sent)
	}
	w.expect("b stays dead", "a", "b", witness.Unreachable, false)
}

func TestAnOldSessionIsNotTaken(t *testing.T) {
	w := newWorld(t, "a", "b")
	w.boot("b", 50, "a", "b") // below its first
	w.nodes["b"].machine.peers[0].seq = 1000
	w.pass(time.Second)
	w.boot("b", 49, "a", "b")
	w.pass(2 * time.Second)
	if a := w.nodes["a"]; a.drops[Stale] == 0 {
		t.Errorf("%v: a session below the last one must not be answered", a.drops)
	}
	w.expect("b gets no answer", "b", "a", witness.Unreachable, false)
}

func TestStrangers(t *testing.T) {
	m := NewMachine(Config{Domain: "lab", NVA: "a", Session: 7, Every: every, Misses: misses, Peers: []Peer{{NVA: "b", Address: address("b")}}}, time.Unix(0, 0))
	now := time.Unix(1, 0)
	m.Next(now)
	good := Packet{Kind: Probe, Session: 1, Sequence: 1, Domain: MakeName("lab"), From: MakeName("z"), To: MakeName("a")}
	for name, test := range map[string]struct {
		change func(*Packet)
		want   Drop
	}{
		"a stranger with a key is answered": {func(*Packet) {}, Taken},
		"another domain":                    {func(p *Packet) { p.Domain = MakeName("other") }, Unknown},
		"for another NVA":                   {func(p *Packet) { p.To = MakeName("c") }, Unknown},
		"an answer of nobody":               {func(p *Packet) { p.Kind = Answer }, Unknown},
		"an answer of another session":      {func(p *Packet) { p.Kind, p.From, p.Session = Answer, MakeName("b"), 6 }, Stale},
		"an answer of the future":           {func(p *Packet) { p.Kind, p.From, p.Session, p.Sequence = Answer, MakeName("b"), 7, 2 }, Stale},
		"an answer to nothing":              {func(p *Packet) { p.Kind, p.From, p.Session, p.Sequence = Answer, MakeName("b"), 7, 0 }, Stale},
		"an answer":                         {func(p *Packet) { p.Kind, p.From, p.Session = Answer, MakeName("b"), 7 }, Taken},
	} {
		p, answer := good, Packet{}
		test.change(&p)
		if got := m.Received(now, &p, &answer); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
	again := Packet{Kind: Answer, Session: 7, Sequence: 1, Domain: MakeName("lab"), From: MakeName("b"), To: MakeName("a")}
	if got := m.Received(now, &again, &Packet{}); got != Stale {
		t.Errorf("the same answer again: %s, want stale", got)
	}
}

func TestAnswersAreBounded(t *testing.T) {
	m := NewMachine(Config{Domain: "lab", NVA: "a", Session: 7, Every: every, Misses: misses}, time.Unix(0, 0))
	flood := func(now time.Time, from string, first, count int) (taken int) {
		for i := range count {
			p := Packet{Kind: Probe, Session: 1, Sequence: uint64(first + i), Domain: MakeName("lab"), From: MakeName(from), To: MakeName("a")}
			if m.Received(now, &p, &Packet{}) == Taken {
				taken++
			}
		}
		return taken
	}
	if n := flood(time.Unix(1, 0), "z", 1, 1000); n != answersPerSecond {
		t.Errorf("%d answers at once, want %d", n, answersPerSecond)
	}
	if n := flood(time.Unix(1, 5e8), "z", 2000, 1000); n != answersPerSecond/2 {
		t.Errorf("%d answers after half a second, want %d", n, answersPerSecond/2)
	}
	if n := flood(time.Unix(1, 5e8), "y", 1, 10); n != 10 {
		t.Errorf("%d answers for somebody else, want 10", n)
	}
	for i := range 2 * maxCallers {
		flood(time.Unix(2, 0), fmt.Sprintf("n%d", i), 1, 1)
	}
	if n := len(m.callers); n > maxCallers {
		t.Errorf("%d callers are remembered, want at most %d", n, maxCallers)
	}
}

// TestStateFollowsRuns: whatever gets lost, a peer's state is that of the latest run of misses intervals which agree.
func TestStateFollowsRuns(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt, "a", "b")
		w.nodes["b"].machine = NewMachine(Config{Domain: "lab", NVA: "b", Session: 1, Every: every, Misses: misses}, w.now)
		w.boot("a", 200, "a", "b")
		a := w.nodes["a"] // every step below ends just before a probe of it
		a.wake = w.now.Add(time.Millisecond)
		a.machine.next = a.wake
		want, run, last := witness.Unknown, 0, false
		for range rapid.IntRange(1, 60).Draw(rt, "intervals") {
			heard := rapid.Bool().Draw(rt, "heard")
			if rapid.IntRange(0, 2).Draw(rt, "same") > 0 {
				heard = last // or runs would be rare
			}
			w.lost = func(string, string, *Packet) bool { return !heard }
			w.pass(every)
			got := w.nodes["a"].sights["b"].State
			if got == 0 {
				got = witness.Unknown
			}
			if got != want { // the interval just begun ends with the next probe
				rt.Fatalf("after a run of %d intervals with heard=%t: %s, want %s", run, last, got, want)
			}
			if heard != last {
				run, last = 0, heard
			}
			if run++; run >= misses && heard {
				want = witness.Reachable
			} else if run >= misses {
				want = witness.Unreachable
			}
		}
	})
}

// BenchmarkExchange is what one probe and its answer cost both sides together, without the kernel.
func BenchmarkExchange(b *testing.B) {
	now := time.Unix(0, 0)
	a := NewMachine(Config{Domain: "lab", NVA: "a", Session: 1, Every: every, Misses: misses, Peers: []Peer{{NVA: "b", Address: address("b")}}}, now)
	z := NewMachine(Config{Domain: "lab", NVA: "b", Session: 1, Every: every, Misses: misses}, now)
	keys := keysOf(b, keyA)
	var buf [Size]byte
	var p, answer Packet
	carry := func(from *Packet) {
		from.encode(buf[:])
		keys.sign(0, buf[:])
		if p.decode(buf[:]) != nil {
			b.Fatal("not decoded")
		}
		if _, ok := keys.verify(buf[:]); !ok {
			b.Fatal("not verified")
		}
	}
	b.ReportAllocs()
	for b.Loop() {
		now = now.Add(every)
		e := a.Next(now)
		carry(&e.Probes[0].Packet)
		if z.Received(now, &p, &answer) != Taken {
			b.Fatal("not answered")
		}
		carry(&answer)
		if a.Received(now, &p, &answer) != Taken {
			b.Fatal("not taken")
		}
	}
}
