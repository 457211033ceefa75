package bfd

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// ErrNotSupported is wrapped by the error of Run where the operating system is not Linux.
var ErrNotSupported = errors.New("BFD needs Linux")

// ErrUnknownSession is wrapped by errors that name a session that is not configured.
var ErrUnknownSession = errors.New("there is no such session")

// Status is a session as it is now.
type Status struct {
	Session       string
	Peer          netip.Addr
	State         State
	Diag          Diag // why State last stopped being Up
	Since         time.Time
	Remote        State // what the peer says of itself; Down while it says nothing
	RemoteDiag    Diag
	Heard         time.Time     // when the last packet came; zero: never
	Interval      time.Duration // between packets from here, the jitter not counted; as negotiated
	DetectionTime time.Duration // zero while nothing is heard

	Discriminator, RemoteDiscriminator uint32
}

// Speaker speaks BFD with the peers of a [Config].
type Speaker struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics

	// mu guards the table: the goroutine of Run owns it, and Status, Disable and the like look in. It is never held while the sink runs.
	mu    sync.Mutex
	table *table
	kick  func() // wakes Run; nil while it does not run
}

// New returns a speaker, or everything that is wrong with cfg. Nothing is opened before Run. A nil metrics is allowed.
func New(cfg Config, log *slog.Logger, metrics *Metrics) (*Speaker, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if metrics == nil {
		metrics = new(Metrics)
	}
	return &Speaker{cfg: cfg, log: log, metrics: metrics, table: newTable(cfg, discriminators(len(cfg.Sessions)), metrics, time.Now())}, nil
}

// discriminators returns n different ones, not 0. They are random so that nobody who does not see the packets can name a session, and so that a
// speaker that starts anew is not taken for the one before. Source: RFC 5880, section 6.3 and 9.
func discriminators(n int) []uint32 {
	all, seen := make([]uint32, 0, n), map[uint32]bool{0: true}
	for len(all) < n {
		var b [4]byte
		_, _ = rand.Read(b[:]) // never fails
		if d := binary.BigEndian.Uint32(b[:]); !seen[d] {
			seen[d] = true
			all = append(all, d)
		}
	}
	return all
}

// Run speaks until ctx is done; it then tells the peers that the sessions are administratively down, once, and returns nil. Any other
// return is an error: a socket could not be opened, or failed. It may be called once. The sink hears each [Change], in order, from
// the goroutine of Run, and must not block: no packet is sent or read meanwhile.
func (s *Speaker) Run(ctx context.Context, sink func(Change)) error { return s.run(ctx, sink) }

// Disable holds a session down and tells the peer that this is meant, so that it does not take it for a failure: before work on the path, or
// while this machine is drained. Source: RFC 5880, section 6.8.16.
func (s *Speaker) Disable(session string) error {
	return s.with(session, func(e *entry, now time.Time) { e.disable(now) })
}

// Enable ends Disable.
func (s *Speaker) Enable(session string) error {
	return s.with(session, func(e *entry, now time.Time) { e.enable(now) })
}

// SetIntervals changes the intervals of a session, which stays up; they are in force when the peer has agreed (RFC 5880, section 6.8.3).
func (s *Speaker) SetIntervals(session string, desiredMinTx, requiredMinRx time.Duration) error {
	for _, d := range []time.Duration{desiredMinTx, requiredMinRx} {
		if right := wrongInterval(d); right != "" {
			return fmt.Errorf("bfd: session %s: an interval is %s; %s", session, d, right)
		}
	}
	return s.with(session, func(e *entry, _ time.Time) { e.configure(intervals{desiredMinTx, requiredMinRx}) })
}

// with calls f with a session and has Run see what it did.
func (s *Speaker) with(session string, f func(*entry, time.Time)) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.table.entries {
		if e := &s.table.entries[i]; e.name == session {
			e.wake = time.Now()
			f(e, e.wake)
			if s.kick != nil {
				s.kick()
			}
			return nil
		}
	}
	return fmt.Errorf("bfd: session %s: %w", session, ErrUnknownSession)
}

// Status returns all sessions, in the order of the configuration.
func (s *Speaker) Status() []Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := make([]Status, len(s.table.entries))
	for i := range s.table.entries {
		all[i] = s.table.entries[i].status()
	}
	return all
}

func (e *entry) status() Status {
	st := Status{
		Session: e.name, Peer: e.pair.peer, State: e.local, Diag: e.diag, Since: e.since, Remote: e.remote.state, RemoteDiag: e.remote.diag,
		Heard: e.heard, Interval: e.interval(), Discriminator: e.my, RemoteDiscriminator: e.remote.my,
	}
	if e.remote.my != 0 {
		st.DetectionTime = e.detection()
	}
	return st
}
