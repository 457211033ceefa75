package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pointsman/pointsman/agent/source"
)

const (
	// batchEvents and batchTime bound how much is read before it is reported.
	batchEvents = 4096
	batchTime   = 20 * time.Millisecond
)

// final reports whether an error cannot pass by itself.
func final(err error) bool {
	for _, e := range []error{unix.EPERM, unix.EACCES, unix.EAFNOSUPPORT, unix.EPROTONOSUPPORT} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// follower is one life of the event socket.
type follower struct {
	*Watcher
	*socket
	sink   source.Sink
	shadow *shadow
	doubt  doubt
	why    reason    // of the latest doubt
	next   time.Time // of the resync that needs no reason
	owes   bool      // the sink must be given a complete view
	lost   error     // events were lost since the last report
}

// follow opens the event socket and reports until ctx is done or the socket fails. The order matters:
//
//  1. join the groups, so that every change from here on waits in the receive buffer
//  2. dump
//  3. apply what waits: older than the dump or newer, the last message about a route is right
//  4. report the whole
//  5. wait for events, apply, report; when in doubt, from 2
func (w *Watcher) follow(ctx context.Context, sink source.Sink) error {
	groups := []uint{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV4_ROUTE,
		unix.RTNLGRP_IPV6_IFADDR, unix.RTNLGRP_IPV6_ROUTE, unix.RTNLGRP_NEXTHOP,
	}
	return with(ctx, &w.cfg, groups, func(s *socket) error {
		f := &follower{
			Watcher: w, socket: s, sink: sink, shadow: newShadow(&w.cfg), owes: true,
			doubt: doubt{quiet: w.cfg.Debounce, limit: w.cfg.MaxDebounce},
		}
		if err := f.setReadBuffer(ctx); err != nil {
			return err
		}
		if err := f.resync(ctx); err != nil {
			return err
		}
		for {
			if err := f.step(ctx); err != nil {
				return err
			}
		}
	})
}

func (f *follower) setReadBuffer(ctx context.Context) error {
	if err := f.conn.SetReadBuffer(f.cfg.ReadBuffer); err != nil {
		return fmt.Errorf("receive buffer of %d bytes: %w", f.cfg.ReadBuffer, err)
	}
	got, err := f.conn.ReadBuffer()
	if err != nil {
		return fmt.Errorf("size of the receive buffer: %w", err)
	}
	f.metrics.ReadBuffer.Store(int64(got))
	if got < f.cfg.ReadBuffer {
		f.log.LogAttrs(ctx, slog.LevelWarn, "receive buffer is smaller than configured: raise net.core.rmem_max or grant CAP_NET_ADMIN",
			slog.Int("bytes", got), slog.Int("configured", f.cfg.ReadBuffer))
	}
	return nil
}

// step waits for events or for the time of a resync, and deals with it.
func (f *follower) step(ctx context.Context) error {
	b, err := f.wait(f.until())
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return f.resync(ctx)
	}
	if err = f.drain(ctx, b, err); err != nil {
		return err
	}
	f.report(ctx, false)
	return nil
}

func (f *follower) until() time.Time {
	if at, ok := f.doubt.due(); ok && at.Before(f.next) {
		return at
	}
	return f.next
}

// drain applies a datagram and all that wait behind it, within the bounds of a batch.
func (f *follower) drain(ctx context.Context, b []byte, err error) error {
	end := time.Now().Add(batchTime)
	for n := 1; ; n++ {
		switch {
		case errors.Is(err, unix.ENOBUFS):
			f.overrun(err)
		case err != nil:
			return err
		case b == nil:
			return nil
		default:
			f.apply(ctx, b)
		}
		if n == batchEvents || n%64 == 0 && time.Now().After(end) {
			return nil
		}
		b, err = f.poll()
	}
}

// overrun notes that messages were lost. The kernel drops what comes until the buffer is empty, so there is nothing better
// to do than to read on.
func (f *follower) overrun(err error) {
	f.metrics.Overruns.Add(1)
	f.suspect(overrun)
	f.lost = err
}

func (f *follower) suspect(why reason) {
	if why == sure {
		return
	}
	f.why = why
	f.doubt.raise(time.Now())
}

// apply takes the messages of a datagram into the shadow.
func (f *follower) apply(ctx context.Context, b []byte) {
	for len(b) > 0 {
		m, rest, err := cut(b)
		if err == nil {
			b = rest
			f.metrics.Events.Add(1)
			var why reason
			if why, err = f.shadow.applyMessage(m); err == nil {
				f.suspect(why)
				continue
			}
		} else {
			b = nil
		}
		f.metrics.Unreadable.Add(1)
		f.suspect(unreadable)
		f.log.LogAttrs(ctx, slog.LevelWarn, "netlink message unreadable", slog.Any("error", err))
	}
}

// applyMessage decodes a message and takes it into the shadow.
func (s *shadow) applyMessage(m message) (why reason, err error) {
	why = sure
	switch m.kind {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		var r route
		if r, err = decodeRoute(m.payload); err == nil {
			why = s.applyRoute(verbOf(m.kind, m.flags), r)
		}
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		var index uint32
		var l link
		if index, l, err = decodeLink(m.payload); err == nil {
			why = s.applyLinkMessage(m.kind, index, l)
		}
	case unix.RTM_NEWNEXTHOP, unix.RTM_DELNEXTHOP:
		var id uint32
		var n nexthop
		if id, n, err = decodeNexthop(m.payload); err == nil {
			why = s.applyNexthopMessage(m.kind, id, n)
		}
	case unix.RTM_DELADDR:
		why = addressChanged
	}
	if errors.Is(err, errIgnored) {
		return sure, nil
	}
	return why, err
}

func (s *shadow) applyLinkMessage(kind uint16, index uint32, l link) reason {
	if kind == unix.RTM_DELLINK {
		return s.deleteLink(index)
	}
	return s.applyLink(index, l)
}

func (s *shadow) applyNexthopMessage(kind uint16, id uint32, n nexthop) reason {
	if kind == unix.RTM_DELNEXTHOP {
		return s.deleteNexthop(id)
	}
	return s.applyNexthop(id, n)
}

// resync dumps the kernel, applies the events that came meanwhile and reports.
func (f *follower) resync(ctx context.Context) error {
	began := time.Now()
	v, whole, err := dump(ctx, &f.cfg)
	if err != nil {
		return err
	}
	took := time.Since(began)
	f.metrics.DumpDuration.Store(int64(took))
	f.metrics.Resyncs.Add(1)
	f.doubt.clear()
	f.next = time.Now().Add(f.cfg.Resync)
	f.shadow.load(v)
	if !whole {
		f.suspect(overrun)
	}
	b, err := f.poll()
	if err = f.drain(ctx, b, err); err != nil {
		return err
	}
	n := f.report(ctx, true)
	f.metrics.Repairs.Add(uint64(n))
	f.log.LogAttrs(ctx, slog.LevelDebug, "routes dumped",
		slog.Duration("took", took), slog.Int("different", n), slog.Int("prefixes", f.shadow.told))
	return nil
}

// report tells the sink what changed and returns how many prefixes did; complete says that a dump came just before.
func (f *follower) report(ctx context.Context, complete bool) int {
	changed, gone := f.shadow.take()
	n := len(changed) + len(gone)
	switch {
	case complete && f.owes:
		f.sink.Replace(f.shadow.all())
		f.owes = false
	case n > 0:
		f.sink.Update(changed, gone)
	}
	f.metrics.Changes.Add(uint64(n))
	f.metrics.Prefixes.Store(int64(f.shadow.told))
	if f.lost != nil && !f.owes {
		f.log.LogAttrs(ctx, slog.LevelWarn, "lost netlink events, dumping the routes", slog.Any("error", f.lost))
		f.sink.Lost(f.lost)
		f.owes = true
	}
	f.lost = nil
	return n
}
