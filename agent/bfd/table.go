package bfd

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// The ports. Source: RFC 5881, section 4; RFC 5883, section 5.
const (
	portSingleHop = 3784
	portMultihop  = 4784
)

// maxTTL is what is sent, and what a session over one hop requires. Source: RFC 5881, section 5.
const maxTTL = 255

// Metrics counts what a speaker does. The fields may be read at any time.
type Metrics struct {
	Sent          atomic.Uint64 // packets
	Received      atomic.Uint64 // packets that counted
	SendErrors    atomic.Uint64 // packets that the kernel refused to send
	ReceiveErrors atomic.Uint64 // reads that failed
	Changes       atomic.Uint64 // reported to the sink
	Up            atomic.Int64  // sessions that are Up now

	discarded [endOfDiscardReason]atomic.Uint64
}

// Discarded returns how many packets were discarded for a reason.
func (m *Metrics) Discarded(why Discard) uint64 { return m.discarded[why].Load() }

// arrival is a datagram with what the socket knows of it.
type arrival struct {
	source   netip.Addr // without zone
	scope    uint32     // index of the interface, of a link-local source
	local    netip.Addr // that the socket is bound to; zero: any
	multihop bool       // by the port
	ttl      int        // or hop limit; -1: not known
	payload  []byte
}

// table holds the sessions and finds the one that a packet belongs to.
type table struct {
	entries       []entry
	discriminator map[uint32]int // of the session with this My Discriminator
	metrics       *Metrics
}

// entry is a session with what its packets are known by.
type entry struct {
	session

	name   string
	pair   pair
	scope  uint32 // index of the interface of a link-local peer; 0: not known
	minTTL int
	wake   time.Time // when to ask the session again; zero: after something happened
	wasUp  bool      // as counted in Metrics.Up
}

// newTable returns a table of the sessions of a valid configuration. discriminators has one for each, all different, none 0.
func newTable(cfg Config, discriminators []uint32, metrics *Metrics, now time.Time) *table {
	t := &table{discriminator: map[uint32]int{}, metrics: metrics}
	for i := range cfg.Sessions {
		s := &cfg.Sessions[i]
		e := entry{session: newSession(s, discriminators[i], now), name: s.Name, pair: s.pair(), minTTL: maxTTL, wake: now}
		if s.Multihop {
			e.minTTL = s.MinTTL
		}
		t.entries = append(t.entries, e)
		t.discriminator[discriminators[i]] = i
	}
	return t
}

// receive hands a datagram to its session and returns its index; what does not count is counted as discarded.
func (t *table) receive(now time.Time, a *arrival) (int, bool) {
	p, why := Decode(a.payload)
	i := 0
	if why == 0 {
		i, why = t.find(&p, a)
	}
	if why == 0 {
		why = t.entries[i].refuses(&p, a)
	}
	if why != 0 {
		t.metrics.discarded[why].Add(1)
		return 0, false
	}
	t.metrics.Received.Add(1)
	t.entries[i].receive(now, &p)
	return i, true
}

// find returns the session of a packet: by Your Discriminator whatever its source is, else by the pair of addresses. Source: RFC 5880,
// sections 6.3 and 6.8.6.
func (t *table) find(p *Packet, a *arrival) (int, Discard) {
	if p.Your != 0 {
		if i, ok := t.discriminator[p.Your]; ok {
			return i, 0
		}
		return 0, UnknownSession
	}
	if p.State != Down && p.State != AdminDown {
		return 0, WrongState
	}
	for i := range t.entries {
		if t.entries[i].between(a) {
			return i, 0
		}
	}
	return 0, UnknownPeer
}

// between reports whether a datagram goes between the addresses of the session.
func (e *entry) between(a *arrival) bool {
	return e.pair.peer.WithZone("") == a.source && (e.pair.peer.Zone() == "" || e.scope == a.scope) &&
		e.pair.local == a.local && e.pair.multihop == a.multihop
}

// refuses returns why a packet does not count though it names the session, or 0. Source: RFC 5880, section 6.8.6; RFC 5881, section 5.
func (e *entry) refuses(p *Packet, a *arrival) Discard {
	switch {
	case p.Auth:
		return Authenticated
	case e.pair.multihop != a.multihop:
		return WrongPort
	case a.ttl < e.minTTL:
		return LowTTL
	}
	return 0
}
