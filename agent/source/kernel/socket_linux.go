package kernel

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

const (
	// bufferSize is larger than any datagram of rtnetlink: dumps come in at most 32 KiB.
	bufferSize = 64 << 10
	// dumpPatience bounds a dump; 100,000 routes take about 0.1 s.
	dumpPatience = 30 * time.Second
	// dumpTries is how often an inconsistent dump is made again before it is taken as it is, with doubt.
	dumpTries = 4
)

// socket is a netlink socket that reads into one buffer and can tell that nothing waits, which [netlink.Conn] cannot.
type socket struct {
	conn *netlink.Conn
	raw  syscall.RawConn
	buf  []byte

	deadline time.Time // as set on conn
}

// dial opens an rtnetlink socket that listens to groups.
func dial(cfg *Config, groups ...uint) (*socket, error) {
	var mask uint32
	for _, g := range groups {
		mask |= 1 << (g - 1)
	}
	conn, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: mask, NetNS: cfg.NetNS, Strict: true})
	if errors.Is(err, unix.ENOPROTOOPT) { // before Linux 4.20; the kernel then filters nothing, and we do
		conn, err = netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Groups: mask, NetNS: cfg.NetNS})
	}
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(fmt.Errorf("open netlink socket: %w", err), conn.Close())
	}
	return &socket{conn: conn, raw: raw, buf: make([]byte, bufferSize)}, nil
}

// with opens a socket, calls f and closes the socket when f returns or ctx ends, which makes a read in f fail.
func with(ctx context.Context, cfg *Config, groups []uint, f func(*socket) error) error {
	s, err := dial(cfg, groups...)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.conn.Close() })
	defer func() {
		if stop() {
			_ = s.conn.Close()
		}
	}()
	return f(s)
}

// wait reads one datagram, until the deadline (zero: for ever). The bytes are valid until the next read.
func (s *socket) wait(deadline time.Time) ([]byte, error) {
	if err := s.setDeadline(deadline); err != nil {
		return nil, err
	}
	return s.read(func(err error) bool { return !errors.Is(err, unix.EAGAIN) })
}

// poll reads one datagram that is there already; nil if there is none.
func (s *socket) poll() ([]byte, error) {
	if err := s.setDeadline(time.Time{}); err != nil {
		return nil, err
	}
	b, err := s.read(func(error) bool { return true })
	if errors.Is(err, unix.EAGAIN) {
		return nil, nil
	}
	return b, err
}

func (s *socket) setDeadline(t time.Time) error {
	if t.Equal(s.deadline) {
		return nil
	}
	if err := s.conn.SetReadDeadline(t); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	s.deadline = t
	return nil
}

func (s *socket) read(enough func(error) bool) ([]byte, error) {
	var n int
	var failed error
	err := s.raw.Read(func(fd uintptr) bool {
		for {
			n, failed = unix.Read(int(fd), s.buf)
			if !errors.Is(failed, unix.EINTR) {
				return enough(failed)
			}
		}
	})
	if err == nil {
		err = failed
	}
	if err != nil {
		return nil, fmt.Errorf("read netlink: %w", err)
	}
	return s.buf[:n], nil
}

// dump reads the whole state: links first, because that waits until the change of a link that is under way has had all its
// effects (both need the RTNL lock; dumps of routes do not take it any more), then nexthops, then routes. whole is false if
// the kernel said that the state changed during every attempt.
func dump(ctx context.Context, cfg *Config) (v view, whole bool, err error) {
	err = with(ctx, cfg, nil, func(s *socket) error {
		for range dumpTries {
			var once error
			if v, whole, once = s.dumpOnce(cfg); once != nil || whole {
				return once
			}
		}
		return nil
	})
	return v, whole, err
}

func (s *socket) dumpOnce(cfg *Config) (view, bool, error) {
	v := newView()
	whole := true
	ask := func(what string, kind uint16, payload []byte, take func([]byte) error) error {
		consistent, err := s.request(kind, payload, take)
		whole = whole && consistent
		if err != nil {
			return fmt.Errorf("dump %s: %w", what, err)
		}
		return nil
	}
	err := ask("links", unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(b []byte) error {
		index, l, err := decodeLink(b)
		if err == nil {
			v.links[index] = l
		}
		return err
	})
	if err != nil {
		return view{}, false, err
	}
	err = ask("nexthops", unix.RTM_GETNEXTHOP, make([]byte, sizeofNhmsg), func(b []byte) error {
		id, n, unreadable := decodeNexthop(b)
		if unreadable == nil {
			v.nexthops[id] = n
		}
		return unreadable
	})
	if err != nil && !errors.Is(err, unix.EOPNOTSUPP) { // before Linux 5.3
		return view{}, false, err
	}
	for _, f := range cfg.Families {
		for _, table := range cfg.Tables {
			err = ask(fmt.Sprintf("%v routes of table %d", f, table), unix.RTM_GETROUTE, routeRequest(f, table), func(b []byte) error {
				r, unreadable := decodeRoute(b)
				if unreadable == nil && r.table == table && cfg.holds(r.table, r.prefix) {
					v.routes = append(v.routes, r)
				}
				return unreadable
			})
			if err != nil && !errors.Is(err, unix.ENOENT) { // no such table yet
				return view{}, false, err
			}
		}
	}
	return v, whole, nil
}

// routeRequest is a struct rtmsg that asks for one table, followed by RTA_TABLE.
func routeRequest(f Family, table uint32) []byte {
	b := make([]byte, unix.SizeofRtMsg, unix.SizeofRtMsg+8)
	b[0] = unix.AF_INET
	if f == IPv6 {
		b[0] = unix.AF_INET6
	}
	b = binary.NativeEndian.AppendUint16(b, unix.SizeofRtAttr+4)
	b = binary.NativeEndian.AppendUint16(b, unix.RTA_TABLE)
	return binary.NativeEndian.AppendUint32(b, table)
}

// request sends a dump request and hands every message of the answer to take, whose errIgnored is no error. It reports
// whether the answer is consistent (no NLM_F_DUMP_INTR).
func (s *socket) request(kind uint16, payload []byte, take func([]byte) error) (bool, error) {
	sent, err := s.conn.Send(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request | netlink.Dump},
		Data:   payload,
	})
	if err != nil {
		return false, fmt.Errorf("send: %w", err)
	}
	deadline, consistent := time.Now().Add(dumpPatience), true
	for {
		var b []byte
		if b, err = s.wait(deadline); err != nil {
			return false, err
		}
		for len(b) > 0 {
			var m message
			if m, b, err = cut(b); err != nil {
				return false, err
			}
			if m.sequence != sent.Header.Sequence {
				continue // the rest of an answer that was given up
			}
			consistent = consistent && m.flags&unix.NLM_F_DUMP_INTR == 0
			switch m.kind {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return consistent, errnoOf(m.payload)
			}
			if err = take(m.payload); err != nil && !errors.Is(err, errIgnored) {
				return false, err
			}
		}
	}
}

// errnoOf reads the number that NLMSG_ERROR and NLMSG_DONE begin with: 0 or a negative errno.
func errnoOf(b []byte) error {
	if len(b) < 4 {
		return nil
	}
	if n := int32(binary.NativeEndian.Uint32(b)); n != 0 {
		return fmt.Errorf("the kernel answers: %w", unix.Errno(-n))
	}
	return nil
}
