package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Source ports of sessions. Source: RFC 5881, section 4.
const (
	firstSourcePort = 49152
	sourcePorts     = 1<<16 - firstSourcePort
)

// precedence is DSCP CS6, network control, as routers mark what they say to each other. Source: RFC 4594, section 3.1.
const precedence = 0xc0

// option is a socket option of type int.
type option struct {
	level, name, value int
	what               string
}

func (o option) set(fd int) error {
	if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
		return fmt.Errorf("set %s: %w", o.what, err)
	}
	return nil
}

// openUDP opens a UDP socket of the family of an address, with options, that may be bound to addresses that the machine does not
// have yet: an agent may start before its interfaces.
func openUDP(family netip.Addr, options ...option) (fd int, err error) {
	domain := unix.AF_INET
	options = append(options, option{unix.IPPROTO_IP, unix.IP_FREEBIND, 1, "IP_FREEBIND"})
	if family.Is6() {
		domain = unix.AF_INET6
		options = append(options, option{unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"})
	}
	if fd, err = unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP); err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	for _, o := range options {
		if err = o.set(fd); err != nil {
			return -1, errors.Join(err, unix.Close(fd))
		}
	}
	return fd, nil
}

// sockaddr makes an address for the kernel. With a zone it looks up the interface.
func sockaddr(a netip.Addr, port uint16) (unix.Sockaddr, error) {
	if a.Is4() {
		return &unix.SockaddrInet4{Port: int(port), Addr: a.As4()}, nil
	}
	scope, err := scopeOf(a)
	return &unix.SockaddrInet6{Port: int(port), ZoneId: scope, Addr: a.As16()}, err
}

// scopeOf returns the index of the interface that is the zone of an address; 0 without zone.
func scopeOf(a netip.Addr) (uint32, error) {
	if a.Zone() == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(a.Zone())
	if err != nil {
		return 0, fmt.Errorf("interface %s of %s: %w", a.Zone(), a, err)
	}
	return uint32(i.Index), nil
}

// anyOf is the unspecified address of the family of peer, or local if there is one.
func anyOf(local, peer netip.Addr) netip.Addr {
	switch {
	case local.IsValid():
		return local
	case peer.Is4():
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func portOf(multihop bool) uint16 {
	if multihop {
		return portMultihop
	}
	return portSingleHop
}

// sender sends the packets of one session, from a port of its own.
type sender struct {
	fd     int
	to     unix.Sockaddr
	failed bool // the last packet was refused
}

// openSender opens the socket of a session. The search for a free port begins where the discriminator says.
func openSender(e *entry) (*sender, error) {
	ttl := option{unix.IPPROTO_IP, unix.IP_TTL, maxTTL, "IP_TTL"}
	class := option{unix.IPPROTO_IP, unix.IP_TOS, precedence, "IP_TOS"}
	if e.pair.peer.Is6() {
		ttl = option{unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, maxTTL, "IPV6_UNICAST_HOPS"}
		class = option{unix.IPPROTO_IPV6, unix.IPV6_TCLASS, precedence, "IPV6_TCLASS"}
	}
	// Nothing is ever read from it, so it keeps little of what anybody sends there.
	fd, err := openUDP(e.pair.peer, ttl, class, option{unix.SOL_SOCKET, unix.SO_RCVBUF, 0, "SO_RCVBUF"})
	if err != nil {
		return nil, err
	}
	s := &sender{fd: fd}
	if err = errors.Join(s.aim(e), bindSource(fd, anyOf(e.pair.local, e.pair.peer), e.my)); err != nil {
		s.close()
		return nil, err
	}
	return s, nil
}

// aim looks up where the peer is: an interface by its name, of a link-local one.
func (s *sender) aim(e *entry) (err error) {
	if s.to, err = sockaddr(e.pair.peer, portOf(e.pair.multihop)); err != nil {
		return err
	}
	e.scope, err = scopeOf(e.pair.peer)
	return err
}

// bindSource binds to the first free source port from the start-th on.
func bindSource(fd int, local netip.Addr, start uint32) error {
	for i := range uint32(sourcePorts) {
		port := uint16(firstSourcePort + (start+i)%sourcePorts)
		from, err := sockaddr(local, port)
		if err != nil {
			return err
		}
		if err = unix.Bind(fd, from); err == nil {
			return nil
		}
		if !errors.Is(err, unix.EADDRINUSE) {
			return fmt.Errorf("bind to %s: %w", netip.AddrPortFrom(local, port), err)
		}
	}
	return fmt.Errorf("bind to %s: all ports from %d on: %w", local, firstSourcePort, unix.EADDRINUSE)
}

func (s *sender) send(b []byte) error {
	if err := unix.Sendto(s.fd, b, unix.MSG_DONTWAIT, s.to); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (s *sender) close() { _ = unix.Close(s.fd) }

// errNothing means that a socket has nothing to read.
var errNothing = errors.New("nothing to read")

// receiver is a socket that packets come to. Its buffers are its own, so that a packet costs no allocation: unix.Recvmsg would make one
// for the source of each.
type receiver struct {
	fd       int
	local    netip.Addr // zero: any
	multihop bool
	v6       bool

	payload [2 * packetSize]byte // of a longer datagram the rest is not needed
	control [64]byte
	name    unix.RawSockaddrInet6 // of the source; an IPv4 one fits
	vector  unix.Iovec
	header  unix.Msghdr
}

// openReceiver opens a socket for the packets of a session and its like. A socket that is bound to an address gets what is sent there, whoever
// else on this machine listens on all, if both allow it. Two that listen on all would steal from each other, so that one is bound before it
// allows anything.
func openReceiver(e *entry) (*receiver, error) {
	v := &receiver{local: e.pair.local, multihop: e.pair.multihop, v6: e.pair.peer.Is6()}
	options := []option{{unix.IPPROTO_IP, unix.IP_RECVTTL, 1, "IP_RECVTTL"}}
	if v.v6 {
		options = []option{{unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1, "IPV6_RECVHOPLIMIT"}}
	}
	reuse := option{unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR"}
	if v.local.IsValid() {
		options = append(options, reuse)
	}
	var err error
	if v.fd, err = openUDP(e.pair.peer, options...); err != nil {
		return nil, err
	}
	if err = v.bind(anyOf(v.local, e.pair.peer)); err == nil {
		err = reuse.set(v.fd)
	}
	if err != nil {
		return nil, errors.Join(err, unix.Close(v.fd))
	}
	v.vector.Base, v.header.Iov = &v.payload[0], &v.vector
	v.vector.SetLen(len(v.payload))
	v.header.SetIovlen(1)
	v.header.Name, v.header.Control = (*byte)(unsafe.Pointer(&v.name)), &v.control[0]
	return v, nil
}

func (v *receiver) bind(to netip.Addr) error {
	at, err := sockaddr(to, portOf(v.multihop))
	if err != nil {
		return err
	}
	err = unix.Bind(v.fd, at)
	switch {
	case errors.Is(err, unix.EADDRINUSE) && to.IsUnspecified():
		return fmt.Errorf("listen on %s: %w: another BFD speaker listens there; give the session a local address that is its own", netip.AddrPortFrom(to, portOf(v.multihop)), err)
	case err != nil:
		return fmt.Errorf("listen on %s: %w", netip.AddrPortFrom(to, portOf(v.multihop)), err)
	}
	return nil
}

// hears reports whether packets of a session come to this socket.
func (v *receiver) hears(e *entry) bool {
	return v.local == e.pair.local && v.multihop == e.pair.multihop && v.v6 == e.pair.peer.Is6()
}

// receive reads one datagram without waiting; errNothing: there is none. What it returns is valid until the next call.
func (v *receiver) receive() (arrival, error) {
	v.header.Namelen = unix.SizeofSockaddrInet6
	v.header.SetControllen(len(v.control))
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(v.fd), uintptr(unsafe.Pointer(&v.header)), unix.MSG_DONTWAIT)
	switch {
	case errno == unix.EAGAIN:
		return arrival{}, errNothing
	case errno != 0:
		return arrival{}, fmt.Errorf("receive: %w", errno)
	}
	a := arrival{local: v.local, multihop: v.multihop, ttl: v.ttl(), payload: v.payload[:n]}
	if v.v6 {
		a.source, a.scope = netip.AddrFrom16(v.name.Addr), v.name.Scope_id
	} else {
		a.source = netip.AddrFrom4((*unix.RawSockaddrInet4)(unsafe.Pointer(&v.name)).Addr)
	}
	return a, nil
}

// ttl returns the TTL or hop limit of the datagram that was read, -1 if the kernel did not say.
func (v *receiver) ttl() int {
	for rest := v.control[:v.header.Controllen]; len(rest) >= unix.SizeofCmsghdr; {
		header, data, more, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			return -1
		}
		isTTL := header.Level == unix.IPPROTO_IP && header.Type == unix.IP_TTL
		if isTTL || header.Level == unix.IPPROTO_IPV6 && header.Type == unix.IPV6_HOPLIMIT {
			return int(int32(binary.NativeEndian.Uint32(data)))
		}
		rest = more
	}
	return -1
}

func (v *receiver) close() { _ = unix.Close(v.fd) }
