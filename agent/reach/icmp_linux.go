package reach

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// bind ties a socket to the target's interface. Since Linux 5.7 that takes no right.
func (t Target) bind(raw syscall.RawConn) error {
	if t.Interface == "" {
		return nil
	}
	var failed error
	err := raw.Control(func(fd uintptr) { failed = unix.BindToDevice(int(fd), t.Interface) })
	if err = errors.Join(err, failed); err != nil {
		return fmt.Errorf("bind to interface %s: %w", t.Interface, err)
	}
	return nil
}

// ICMP types (RFC 792, RFC 4443) and the time between two echoes of one try: a single lost packet proves nothing.
const (
	echo4, reply4 = 8, 0
	echo6, reply6 = 128, 129
	echoEvery     = 200 * time.Millisecond
)

// tryICMP uses a ping socket (icmp(7)): the kernel fills in identifier and checksum, and hands back only what answers this socket.
func (t Target) tryICMP(ctx context.Context) error {
	conn, err := t.pingSocket()
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	request, reply := byte(echo4), byte(reply4)
	if t.Address.Addr().Is6() {
		request, reply = echo6, reply6
	}
	var answer [64]byte
	for sequence := uint16(1); ; sequence++ {
		probe := [8]byte{0: request}
		binary.BigEndian.PutUint16(probe[6:], sequence)
		if err = conn.SetReadDeadline(time.Now().Add(echoEvery)); err != nil {
			return fmt.Errorf("wait for an echo: %w", err)
		}
		_, failed := conn.WriteToUDPAddrPort(probe[:], t.Address)
		for failed == nil {
			var n int
			var from netip.AddrPort
			n, from, failed = conn.ReadFromUDPAddrPort(answer[:])
			if failed == nil && n >= len(probe) && answer[0] == reply && from.Addr().Unmap() == t.Address.Addr() {
				return nil
			}
		}
		if ctx.Err() != nil {
			return fmt.Errorf("no echo: %w", ctx.Err())
		}
		if !errors.Is(failed, os.ErrDeadlineExceeded) { // such as no route to the host: it may come
			if pause(ctx, echoEvery); ctx.Err() != nil {
				return fmt.Errorf("no echo: %w", failed)
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-ctx.Done():
	}
}

// pingSocket opens the socket. The package net has none of this kind, but treats a datagram socket of any protocol as UDP.
func (t Target) pingSocket() (*net.UDPConn, error) {
	family, protocol, local := unix.AF_INET, unix.IPPROTO_ICMP, unix.Sockaddr(&unix.SockaddrInet4{})
	if t.Address.Addr().Is6() {
		family, protocol, local = unix.AF_INET6, unix.IPPROTO_ICMPV6, &unix.SockaddrInet6{}
	}
	switch {
	case t.Source.Is4():
		local = &unix.SockaddrInet4{Addr: t.Source.As4()}
	case t.Source.Is6():
		local = &unix.SockaddrInet6{Addr: t.Source.As16()}
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, protocol)
	if errors.Is(err, unix.EACCES) || errors.Is(err, unix.EPERM) {
		return nil, fmt.Errorf("ping socket: %w: net.ipv4.ping_group_range must hold the group of the agent (sysctl -w net.ipv4.ping_group_range='0 2147483647')", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ping socket: %w", err)
	}
	file := os.NewFile(uintptr(fd), t.String())
	defer func() { _ = file.Close() }() // the connection has its own
	if t.Interface != "" {
		if err = unix.BindToDevice(fd, t.Interface); err != nil {
			return nil, fmt.Errorf("bind to interface %s: %w", t.Interface, err)
		}
	}
	if err = unix.Bind(fd, local); err != nil {
		return nil, fmt.Errorf("bind to %s: %w", t.Source, err)
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return nil, fmt.Errorf("ping socket: %w", err)
	}
	return conn.(*net.UDPConn), nil
}
