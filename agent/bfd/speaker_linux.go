package bfd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// batch bounds how many datagrams are read from a socket before the timers have their turn, so that a flood cannot stop them.
const batch = 256

// runner is one Run: the sockets, and what is put together for the sink.
type runner struct {
	*Speaker

	poller    *poller
	receivers []*receiver
	senders   []*sender // by session
	changes   []Change
	buf       [packetSize]byte
}

func (s *Speaker) run(ctx context.Context, sink func(Change)) error {
	r := &runner{Speaker: s, changes: make([]Change, 0, len(s.cfg.Sessions))}
	defer r.close()
	if err := r.open(); err != nil {
		return err
	}
	return r.loop(ctx, sink)
}

func (r *runner) loop(ctx context.Context, sink func(Change)) error {
	r.kickBy(r.poller.kick)
	defer r.kickBy(nil)
	defer context.AfterFunc(ctx, r.ring)()
	for wake := time.Now(); ; {
		if err := r.poller.wait(wake); err != nil {
			return fmt.Errorf("bfd: %w", err)
		}
		if ctx.Err() != nil {
			r.leave()
			return nil
		}
		var err error
		if wake, err = r.turn(); err != nil {
			return fmt.Errorf("bfd: %w", err)
		}
		for _, c := range r.changes {
			sink(c)
		}
		r.changes = r.changes[:0]
	}
}

func (s *Speaker) kickBy(kick func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.kick = kick
}

// ring has Run look around, if it runs.
func (s *Speaker) ring() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.kick != nil {
		s.kick()
	}
}

// open opens a socket to send for each session, and to receive one for each kind, family and local address. Those that hear all addresses
// come first: once bound they allow others beside them.
func (r *runner) open() (err error) {
	if r.poller, err = newPoller(); err != nil {
		return fmt.Errorf("bfd: %w", err)
	}
	for i := range r.table.entries {
		e := &r.table.entries[i]
		var s *sender
		if s, err = openSender(e); err != nil {
			return fmt.Errorf("bfd: session %s: %w", e.name, err)
		}
		r.senders = append(r.senders, s)
	}
	for _, bound := range []bool{false, true} {
		for i := range r.table.entries {
			e := &r.table.entries[i]
			if e.pair.local.IsValid() != bound || r.receives(e) {
				continue
			}
			if err = r.listen(e); err != nil {
				return fmt.Errorf("bfd: session %s: %w", e.name, err)
			}
		}
	}
	return nil
}

func (r *runner) listen(e *entry) error {
	v, err := openReceiver(e)
	if err != nil {
		return err
	}
	r.receivers = append(r.receivers, v)
	return r.poller.add(v.fd, len(r.receivers)-1)
}

// receives reports whether there is a socket for the packets of a session.
func (r *runner) receives(e *entry) bool {
	for _, v := range r.receivers {
		if v.hears(e) {
			return true
		}
	}
	return false
}

func (r *runner) close() {
	for _, s := range r.senders {
		s.close()
	}
	for _, v := range r.receivers {
		v.close()
	}
	if r.poller != nil {
		r.poller.close()
	}
}

// turn reads what has come, then asks every session that is due what to do, and returns when the next one is due. In this order: a timer that
// is over is only believed after all packets that came before are read.
func (r *runner) turn() (wake time.Time, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err = r.poller.readable(r.drain); err != nil {
		return time.Time{}, err
	}
	now := time.Now()
	for i := range r.table.entries {
		e := &r.table.entries[i]
		if !e.wake.IsZero() && !now.Before(e.wake) {
			r.run(i, now)
		}
		if !e.wake.IsZero() {
			wake = earlier(wake, e.wake)
		}
	}
	return wake, nil
}

// drain reads a socket until it is empty, and reports whether it is.
func (r *runner) drain(index int) bool {
	for range batch {
		a, err := r.receivers[index].receive()
		switch {
		case errors.Is(err, errNothing):
			return true
		case err != nil:
			r.metrics.ReceiveErrors.Add(1)
			continue
		}
		now := time.Now()
		if i, ok := r.table.receive(now, &a); ok {
			r.run(i, now)
		}
	}
	return false
}

// run does what a session has to do.
func (r *runner) run(i int, now time.Time) {
	e := &r.table.entries[i]
	for {
		out := e.next(now)
		e.wake = out.wake
		if out.change != nil {
			r.noteChange(e, *out.change)
		}
		if !out.send {
			return
		}
		r.send(i, &out.packet)
	}
}

func (r *runner) noteChange(e *entry, c Change) {
	c.Session, c.Peer = e.name, e.pair.peer
	r.metrics.Changes.Add(1)
	if c.State == Up {
		r.metrics.Up.Add(1)
	} else if e.wasUp {
		r.metrics.Up.Add(-1)
	}
	e.wasUp = c.State == Up
	r.changes = append(r.changes, c)
}

// send sends a packet. What the kernel refuses is lost like a packet on the way: the next one is tried as usual, and where the interface of a
// link-local peer was made anew, it goes there.
func (r *runner) send(i int, p *Packet) {
	s, e := r.senders[i], &r.table.entries[i]
	err := s.send(p.Append(r.buf[:0]))
	if err == nil {
		r.metrics.Sent.Add(1)
		s.failed = false
		return
	}
	r.metrics.SendErrors.Add(1)
	if e.scope != 0 {
		err = errors.Join(err, s.aim(e))
	}
	if !s.failed {
		s.failed = true
		r.log.Warn("BFD packets cannot be sent", slog.String("session", e.name), slog.String("peer", e.pair.peer.String()), slog.Any("error", err))
	}
}

// leave tells the peers that the sessions end because they are meant to. One packet each, as the process has no time to wait; a peer that
// misses it sees the Detection Time expire.
func (r *runner) leave() {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for i := range r.table.entries {
		r.table.entries[i].disable(now)
		r.run(i, now)
	}
}
