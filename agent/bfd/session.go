package bfd

import (
	"net/netip"
	"time"
)

// Change is the news of a session.
type Change struct {
	Session string
	Peer    netip.Addr

	// State is Up; Down: the path or the peer failed, after the session was Up; or AdminDown: one of the two sides holds the session
	// down, which says nothing about the path, and neither does anything after it until Up. A session that was never Up reports no Down.
	State State
	// Diag is why the session is not Up: DetectionTimeExpired, nothing was heard from the peer; NeighborDown, the peer says that it
	// is down (RemoteDiag says why: DetectionTimeExpired means that nothing gets there); AdministrativelyDown, held down from here.
	Diag       Diag
	RemoteDiag Diag
	At         time.Time // when it was decided
	Heard      time.Time // when the last packet of the peer came; zero: never
}

const (
	// slowest is the least Desired Min TX Interval while a session is not Up. Source: RFC 5880, section 6.8.3.
	slowest = time.Second
	// unknownMinRx is RemoteMinRxInterval before the peer has said one. Source: RFC 5880, section 6.8.1.
	unknownMinRx = time.Microsecond
)

// intervals are DesiredMinTxInterval and RequiredMinRxInterval.
type intervals struct{ tx, rx time.Duration }

// session is the state of RFC 5880, section 6.8.1, as a step machine. receive, disable, enable and change record what happened;
// next returns what follows, and when to ask again. Calling next once too often does no harm. Time never goes back.
//
// Intervals exist three times: wanted (the configuration, slowed down while not Up), said (in the packets) and used (to send and
// to detect by). said follows wanted by a Poll Sequence; used follows said at once or, where section 6.8.3 says so, at the end of
// that Poll Sequence. One runs at a time.
type session struct {
	mult    uint8
	passive bool
	want    intervals // as configured
	said    intervals
	used    intervals

	polling bool // a Poll Sequence is under way
	polled  bool // and a packet of it was sent
	settled bool // a packet without Final came since the last one: a Final that comes now answers what is asked now (section 6.8.3, rule 3)

	local     State
	diag      Diag
	my        uint32 // LocalDiscr
	told      State  // what was last reported: Up, Down or AdminDown; 0: nothing
	remote    peer
	heard     time.Time // when the last packet came; valid while remote.my is not 0
	owesFinal bool
	since     time.Time // of local

	sent  time.Time // the last packet that counts as periodic; zero: none
	count uint64    // of those, which decides their jitter
	last  Packet    // what the peer was told last, without Poll and Final

	change  Change
	changed bool // change is to be reported
}

// peer is what the peer says of itself.
type peer struct {
	my     uint32 // its discriminator; 0: nothing was heard within the Detection Time
	state  State
	diag   Diag
	demand bool
	mult   uint8
	minRx  time.Duration
	tx     time.Duration
}

// unknownPeer is a peer of which nothing is known. Source: RFC 5880, section 6.8.1, the initial values.
func unknownPeer() peer { return peer{state: Down, minRx: unknownMinRx} }

// step is what follows from what happened so far.
type step struct {
	send   bool
	packet Packet
	change *Change   // Session and Peer are not filled in; nil: none; valid until the next call
	wake   time.Time // when to ask again at the latest; zero: after something happened
}

// newSession returns a session in state Down that has said nothing. discriminator is not 0; the jitter follows from it too.
func newSession(cfg *Session, discriminator uint32, now time.Time) session {
	s := session{
		mult: uint8(cfg.DetectMult), passive: cfg.Passive, want: intervals{cfg.DesiredMinTx, cfg.RequiredMinRx}, settled: true,
		local: Down, my: discriminator, remote: unknownPeer(), since: now,
	}
	s.said, s.used = s.wanted(), s.wanted()
	return s
}

// receive takes a packet that belongs to the session. Source: RFC 5880, section 6.8.6, from "Set bfd.RemoteDiscr" on.
func (s *session) receive(now time.Time, p *Packet) {
	s.heard = now
	s.remote = peer{my: p.My, state: p.State, diag: p.Diag, demand: p.Demand, mult: p.DetectMult, minRx: p.RequiredMinRx, tx: p.DesiredMinTx}
	if p.Final {
		s.endPoll()
	} else {
		s.settled = true
	}
	if s.local == AdminDown {
		return
	}
	state, diag := s.local.hear(p.State)
	s.enter(now, state, diag)
	s.owesFinal = s.owesFinal || p.Poll
}

// disable holds the session down; the peer is told so. Source: RFC 5880, section 6.8.16.
func (s *session) disable(now time.Time) { s.enter(now, AdminDown, AdministrativelyDown) }

// enable ends disable.
func (s *session) enable(now time.Time) {
	if s.local == AdminDown {
		s.enter(now, Down, s.diag)
	}
}

// configure wants other intervals from now on.
func (s *session) configure(want intervals) { s.want = want }

// enter goes to a state and decides what is reported of it.
func (s *session) enter(now time.Time, state State, diag Diag) {
	if state != s.local {
		switch state {
		case Up:
			s.diag = NoDiagnostic
		case Down, AdminDown:
			s.diag = diag
		case Init: // the reason why it was down stays
		}
		s.local, s.since = state, now
		// A Poll Sequence about intervals that this state does not have is moot. That a late Final may end the next one early is
		// harmless: on the way to Up only the transmit interval changes, and it shrinks, which nobody has to agree to.
		s.polling, s.settled = false, true
	}
	s.report(now)
}

// report reports if there is news. Up is news; so is the end of Up, which is Down if the path or the peer failed. AdminDown on either side
// is neither, whatever comes of it before the next Up: section 6.2 gives it no meaning for the path.
func (s *session) report(now time.Time) {
	tell := s.told
	switch {
	case s.local == Up:
		tell = Up
	case s.local == AdminDown, s.remote.my != 0 && s.remote.state == AdminDown:
		tell = AdminDown
	case s.told == Up:
		tell = Down
	}
	if tell != s.told {
		s.told, s.changed = tell, true
		s.change = Change{State: tell, Diag: s.diag, RemoteDiag: s.remote.diag, At: now, Heard: s.heard}
	}
}

// next returns what is to be done now: at most one packet, and then to ask again at once.
func (s *session) next(now time.Time) (out step) {
	s.expire(now)
	s.poll()
	if s.changed {
		s.changed = false
		out.change = &s.change
	}
	due := s.due()
	switch p := s.packet(); {
	case s.passive && s.remote.my == 0: // section 6.8.7: the passive role waits to be spoken to
		s.owesFinal = false
		due = time.Time{}
	case s.owesFinal:
		// As soon as practicable and without respect to the transmission timer, which it leaves alone: else two that poll each
		// other would never send a Poll.
		s.owesFinal, s.last = false, p
		out.send, out.packet = true, p
		out.packet.Final = true
	case p != s.last, !due.IsZero() && !now.Before(due):
		s.last, s.sent = p, now
		s.count++
		out.send, out.packet = true, p
		out.packet.Poll = s.polling
		s.polled = s.polling
		due = s.due()
	}
	out.wake = due
	if s.remote.my != 0 {
		out.wake = earlier(due, s.heard.Add(s.detection()))
	}
	if out.send {
		out.wake = now
	}
	return out
}

// earlier returns the earlier of two instants; zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || b.Before(a) {
		return b
	}
	return a
}

// expire forgets the peer when its Detection Time is over. Source: RFC 5880, sections 6.8.4 and 6.8.1 (RemoteDiscr). That its
// Required Min RX Interval is forgotten too is ours: a peer that had said zero, died and came back passive would never hear from here.
func (s *session) expire(now time.Time) {
	if s.remote.my == 0 || now.Before(s.heard.Add(s.detection())) {
		return
	}
	s.remote = unknownPeer()
	state, diag := s.local.expire()
	s.enter(now, state, diag)
}

// detection is the Detection Time. Source: RFC 5880, section 6.8.4.
func (s *session) detection() time.Duration {
	return time.Duration(s.remote.mult) * max(s.used.rx, s.remote.tx)
}

// wanted is the configuration, with the transmit interval of a session that is not Up. Source: RFC 5880, section 6.8.3.
func (s *session) wanted() intervals {
	w := s.want
	if s.local != Up {
		w.tx = max(w.tx, slowest)
	}
	return w
}

// poll begins a Poll Sequence if other intervals are wanted than are said. Source: RFC 5880, sections 6.5 and 6.8.3. While Up, what would
// make either side expect too much of the other waits until the peer knows; all else is in force at once.
func (s *session) poll() {
	want := s.wanted()
	if s.local != Up {
		s.used = want // though said before, in a Poll Sequence that the end of Up cut off
	}
	if want == s.said || s.local == Up && (s.polling || !s.settled) {
		return
	}
	s.said, s.polling, s.polled = want, true, false
	s.used.tx, s.used.rx = min(s.used.tx, want.tx), max(s.used.rx, want.rx)
}

// endPoll ends the Poll Sequence, if there is one to which the Final can be the answer.
func (s *session) endPoll() {
	if s.polling && s.polled {
		s.polling, s.settled, s.used = false, false, s.said
	}
}

// packet is what there is to say, without Poll and Final. Source: RFC 5880, section 6.8.7. The agent dies with what it would report to, so
// the C bit is clear; D, M and A are not used here.
func (s *session) packet() Packet {
	return Packet{
		Diag: s.diag, State: s.local, DetectMult: s.mult, My: s.my, Your: s.remote.my, DesiredMinTx: s.said.tx, RequiredMinRx: s.said.rx,
	}
}

// due is when the next periodic packet is to be sent; zero: there is none. Source: RFC 5880, section 6.8.7. It is reckoned from the last one
// each time, so a peer that takes more from now on gets it from now on (section 6.8.3).
func (s *session) due() time.Time {
	demand := s.remote.demand && s.local == Up && s.remote.state == Up
	if s.remote.minRx == 0 || demand && !s.polling {
		return time.Time{}
	}
	return s.sent.Add(s.jittered(s.interval()))
}

// interval is the transmission interval without jitter. Source: RFC 5880, section 6.8.2.
func (s *session) interval() time.Duration { return max(s.used.tx, s.remote.minRx) }

// jittered shortens an interval by up to a quarter. Where the peer waits for one packet only, by a tenth at least, so that none is late.
// Source: RFC 5880, section 6.8.7.
func (s *session) jittered(d time.Duration) time.Duration {
	low, high := 0.75, 1.0
	if s.mult == 1 {
		high = 0.9
	}
	return time.Duration(float64(d) * (high - (high-low)*fraction(s.my, s.count)))
}

// fraction returns a number in [0, 1) that is fixed by a discriminator and n: the finalizer of SplitMix64 over both.
func fraction(discriminator uint32, n uint64) float64 {
	x := uint64(discriminator)<<32 + n*0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return float64((x^x>>31)>>11) / (1 << 53)
}
