// Package reach finds out whether packets get to an address and back: by a TCP connection, or by an ICMP echo.
package reach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
)

// Kind is how a target is tried.
type Kind uint8

// The kinds.
const (
	TCP  Kind = iota + 1 // a handshake; a refusal proves the way as well
	ICMP                 // an echo (RFC 792, RFC 4443)
)

// Target is an address and how it is tried.
type Target struct {
	Kind      Kind
	Address   netip.AddrPort // the port is 0 with ICMP
	Source    netip.Addr     // to send from; zero: the system chooses
	Interface string         // to send by; "": the system chooses
}

// Want says what a line of a target looks like.
const Want = `a line in quotes such as "tcp 168.63.129.16:80" or "icmp 10.0.1.1", optionally followed by source ADDRESS and interface NAME`

// Parse reads a line: "tcp ADDRESS:PORT [source ADDRESS] [interface NAME]" or "icmp ADDRESS …".
func Parse(line string) (Target, error) {
	words := strings.Fields(line)
	if len(words) < 2 || len(words)%2 != 0 {
		return Target{}, fmt.Errorf("found %q", line)
	}
	var t Target
	var err error
	switch words[0] {
	case "tcp":
		t.Kind = TCP
		t.Address, err = netip.ParseAddrPort(words[1])
		if err == nil && t.Address.Port() == 0 {
			err = errors.New("port 0")
		}
	case "icmp":
		t.Kind = ICMP
		var a netip.Addr
		a, err = netip.ParseAddr(words[1])
		t.Address = netip.AddrPortFrom(a, 0)
	default:
		return Target{}, fmt.Errorf("found %q", line)
	}
	if err != nil || !usable(t.Address.Addr()) {
		return Target{}, fmt.Errorf("found %q: %q is no address of that kind", line, words[1])
	}
	for i := 2; i < len(words); i += 2 {
		if err = t.option(words[i], words[i+1]); err != nil {
			return Target{}, fmt.Errorf("found %q: %w", line, err)
		}
	}
	return t, nil
}

func usable(a netip.Addr) bool {
	return a.IsValid() && !a.Is4In6() && a.Zone() == "" && !a.IsUnspecified() && !a.IsMulticast()
}

func (t *Target) option(key, value string) error {
	switch {
	case key == "source" && !t.Source.IsValid():
		a, err := netip.ParseAddr(value)
		if err != nil || !usable(a) || a.Is4() != t.Address.Addr().Is4() {
			return fmt.Errorf("%q is no address of the family of %s", value, t.Address.Addr())
		}
		t.Source = a
	case key == "interface" && t.Interface == "":
		if len(value) >= 16 || strings.Contains(value, "/") { // IFNAMSIZ, with its zero
			return fmt.Errorf("%q is no name of an interface", value)
		}
		t.Interface = value
	default:
		return fmt.Errorf("%q is not expected there", key)
	}
	return nil
}

// String returns the line.
func (t Target) String() string {
	s := "tcp " + t.Address.String()
	if t.Kind == ICMP {
		s = "icmp " + t.Address.Addr().String()
	}
	if t.Source.IsValid() {
		s += " source " + t.Source.String()
	}
	if t.Interface != "" {
		s += " interface " + t.Interface
	}
	return s
}

// Try returns nil once an answer came. ctx bounds the wait.
func (t Target) Try(ctx context.Context) error {
	err := t.tryTCP
	if t.Kind == ICMP {
		err = t.tryICMP
	}
	if failed := err(ctx); failed != nil {
		return fmt.Errorf("%s: %w", t, failed)
	}
	return nil
}

func (t Target) tryTCP(ctx context.Context) error {
	d := net.Dialer{Control: func(_, _ string, raw syscall.RawConn) error { return t.bind(raw) }}
	if t.Source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(t.Source, 0))
	}
	conn, err := d.DialContext(ctx, "tcp", t.Address.String())
	if errors.Is(err, syscall.ECONNREFUSED) {
		return nil // somebody refused, so packets get there and back
	}
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	_ = conn.Close()
	return nil
}

// Any tries all targets at once and returns nil as soon as one answers, else why each did not.
func Any(ctx context.Context, targets []Target) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	failures := make([]error, len(targets))
	var tries sync.WaitGroup
	passed := make(chan struct{}, len(targets))
	for i, t := range targets {
		tries.Go(func() {
			if failures[i] = t.Try(ctx); failures[i] == nil {
				passed <- struct{}{}
			}
		})
	}
	ended := make(chan struct{})
	go func() { tries.Wait(); close(ended) }()
	select {
	case <-passed:
		cancel()
		<-ended
		return nil
	case <-ended:
	}
	for _, err := range failures {
		if err == nil {
			return nil
		}
	}
	return errors.Join(failures...)
}
