package echo

import (
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/agent/witness"
)

// Peer is an NVA that is probed.
type Peer struct {
	NVA     string
	Address netip.AddrPort
}

// Config is fixed for the life of a Machine.
type Config struct {
	Domain, NVA string        // who probes
	Session     uint64        // larger than any earlier one of this NVA: its epoch
	Every       time.Duration // between two probes of a peer
	Misses      int           // intervals in a row without an answer until a peer counts as unreachable, and with one until it counts as reachable
	Peers       []Peer
}

// Drop is why a packet was not taken.
type Drop uint8

// The reasons. Unknown covers what is signed but not for us.
const (
	Taken     Drop = iota
	Malformed      // no packet of this protocol
	BadMAC         // signed with no key of ours
	Unknown        // of another domain, for another NVA, or from one that is not probed where only that makes sense
	Stale          // a probe that was seen before, or an answer to none that is outstanding
	Limited        // too many
	drops
)

// String names the reason as metrics show it.
func (d Drop) String() string {
	return [...]string{"taken", "malformed", "bad-mac", "unknown", "stale", "limited"}[min(d, drops-1)]
}

// Every sender may have so many probes answered a second, and as many at once: several times what the shortest interval takes.
const answersPerSecond = 100

// maxCallers bounds the senders that are remembered; only holders of a key get that far.
const maxCallers = 1024

// Outgoing is a packet to be sent.
type Outgoing struct {
	To     netip.AddrPort
	Packet Packet
}

// Effects is what is to be done now. The slices are valid until the next call.
type Effects struct {
	Probes []Outgoing
	Sights []witness.Sight // of the peers whose state changed
	Heard  []Heard         // answers, for whoever measures
	Wake   time.Time       // when to call Next again at the latest
}

// Heard is an answer.
type Heard struct {
	Peer int // index in Config.Peers
	RTT  time.Duration
}

// Machine probes and answers. It does no I/O and has no clock: Next is called at the instant that it named last, and after Received.
// It has one owner; it is not safe for concurrent use.
//
// Time is cut into intervals of Every. Each begins with a probe; an interval in which no answer arrived, whichever probe it is
// for, is a miss. So the way there and back may take longer than an interval, and a machine that was not scheduled for a while counts one miss.
//
//	probe  1     2     3     4     5     6     7
//	       |-----|-----|-----|-----|-----|-----|
//	         a1     ×     ×     ×     ×     ×   ▲ five misses: at most Misses × Every and one interval after the last answer
type Machine struct {
	cfg     Config
	domain  Name
	self    Name
	peers   []peer
	byName  map[Name]int
	callers map[Name]*caller
	next    time.Time // of the next probe
	out     Effects
}

// peer is one that is probed.
type peer struct {
	name   Name
	state  witness.State
	told   witness.Sight
	seq    uint64
	sent   []time.Time // by sequence, the last Misses probes; zero: answered
	heard  bool        // an answer came in this interval
	last   bool        // heard, of the interval before
	run    int         // intervals in a row that agree with last
	caller *caller
}

// caller is one that probes us.
type caller struct {
	session, seq uint64    // of its newest probe
	at           time.Time // when that came
	deaf         bool      // and what it said
	tokens       float64
	filled       time.Time
}

// NewMachine returns a machine whose first probes are due at now.
func NewMachine(cfg Config, now time.Time) *Machine {
	m := &Machine{
		cfg: cfg, domain: MakeName(cfg.Domain), self: MakeName(cfg.NVA), next: now,
		byName: map[Name]int{}, callers: map[Name]*caller{}, peers: make([]peer, len(cfg.Peers)),
	}
	for i, p := range cfg.Peers {
		n := MakeName(p.NVA)
		c := &caller{}
		m.byName[n], m.callers[n] = i, c
		m.peers[i] = peer{
			name: n, state: witness.Unknown, told: witness.Sight{NVA: p.NVA, State: witness.Unknown}, sent: make([]time.Time, cfg.Misses), caller: c,
		}
	}
	return m
}

// Next returns what is to be done now.
func (m *Machine) Next(now time.Time) Effects {
	m.out.Probes = m.out.Probes[:0]
	if !now.Before(m.next) {
		for i := range m.peers {
			m.tick(now, i)
		}
		m.next = m.next.Add(m.cfg.Every)
		if !m.next.After(now) { // late by more than an interval: those are gone, not missed
			m.next = now.Add(m.cfg.Every)
		}
	}
	m.out.Sights = m.out.Sights[:0]
	for i := range m.peers {
		m.look(now, &m.peers[i])
	}
	e := m.out
	e.Wake = m.next
	m.out.Heard = m.out.Heard[:0]
	return e
}

// tick ends an interval and begins the next with a probe.
func (m *Machine) tick(now time.Time, i int) {
	p := &m.peers[i]
	if p.seq > 0 {
		p.judge(m.cfg.Misses)
	}
	p.heard = false
	p.seq++
	p.sent[p.seq%uint64(len(p.sent))] = now
	m.out.Probes = append(m.out.Probes, Outgoing{To: m.cfg.Peers[i].Address, Packet: Packet{
		Kind: Probe, Deaf: p.state == witness.Unreachable, Session: m.cfg.Session, Sequence: p.seq, Sent: now, Domain: m.domain, From: m.self, To: p.name,
	}})
}

// judge takes in whether the interval that ends brought an answer. Nothing is known, or changes, before Misses intervals in a row agree.
func (p *peer) judge(misses int) {
	if p.heard != p.last {
		p.last, p.run = p.heard, 0
	}
	p.run++
	switch {
	case p.run < misses:
	case p.heard:
		p.state = witness.Reachable
	default:
		p.state = witness.Unreachable
	}
}

// look notes a sight that differs from the last one.
func (m *Machine) look(now time.Time, p *peer) {
	missing := !p.last && p.run >= max(1, m.cfg.Misses/2)
	is := witness.Sight{NVA: p.told.NVA, State: p.state, Missing: missing, Deaf: p.caller.deaf && now.Sub(p.caller.at) <= m.cfg.detection()}
	if is != p.told {
		p.told = is
		m.out.Sights = append(m.out.Sights, is)
	}
}

// detection is the longest time until it is seen that a peer is gone, or is back.
func (c *Config) detection() time.Duration { return time.Duration(c.Misses+1) * c.Every }

// Received takes in a packet whose MAC is good. If it is a probe that deserves one, the answer is put into answer, and Taken returned; so it is
// for an answer that was waited for, where answer is left as it is.
func (m *Machine) Received(now time.Time, p, answer *Packet) Drop {
	if p.Domain != m.domain || p.To != m.self {
		return Unknown
	}
	if p.Kind == Answer {
		return m.answered(now, p)
	}
	c, why := m.caller(p)
	if why != Taken {
		return why
	}
	// What is not newer than the newest was seen already, or was overtaken: either way somebody else may have sent it (RFC 4303, section 3.4.3,
	// with a window of one: probes come so seldom that none overtakes another).
	if p.Session < c.session || p.Session == c.session && p.Sequence <= c.seq {
		return Stale
	}
	c.session, c.seq, c.at, c.deaf = p.Session, p.Sequence, now, p.Deaf
	if !c.take(now) {
		return Limited
	}
	*answer = *p
	answer.Kind, answer.Deaf, answer.From, answer.To = Answer, false, m.self, p.From
	return Taken
}

// answered takes in the answer to a probe of ours.
func (m *Machine) answered(now time.Time, p *Packet) Drop {
	i, ok := m.byName[p.From]
	if !ok {
		return Unknown
	}
	to := &m.peers[i]
	window := uint64(len(to.sent))
	if p.Session != m.cfg.Session || p.Sequence == 0 || p.Sequence > to.seq || p.Sequence+window <= to.seq {
		return Stale
	}
	slot := &to.sent[p.Sequence%window]
	if slot.IsZero() {
		return Stale
	}
	m.out.Heard = append(m.out.Heard, Heard{Peer: i, RTT: now.Sub(*slot)})
	*slot = time.Time{}
	to.heard = true
	return Taken
}

func (m *Machine) caller(p *Packet) (*caller, Drop) {
	if c, ok := m.callers[p.From]; ok {
		return c, Taken
	}
	if len(m.callers) >= maxCallers {
		return nil, Limited
	}
	c := &caller{}
	m.callers[p.From] = c
	return c, Taken
}

// take takes a token out of the caller's bucket.
func (c *caller) take(now time.Time) bool {
	if c.filled.IsZero() {
		c.tokens = answersPerSecond
	} else {
		c.tokens = min(answersPerSecond, c.tokens+answersPerSecond*now.Sub(c.filled).Seconds())
	}
	c.filled = now
	if c.tokens < 1 {
		return false
	}
	c.tokens--
	return true
}
