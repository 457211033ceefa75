package netns

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// Way carries connections from a listener, which may be in another network namespace, to an address on this side: the way of a machine in a
// namespace to a service outside. It can be cut, for several reasons at a time; it carries while there is none.
type Way struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	cuts  map[string]bool
	open  map[net.Conn]bool
	calls sync.WaitGroup
}

// NewWay begins to carry what the listener accepts to the TCP address "host:port". The listener belongs to the way.
func NewWay(l net.Listener, to string) *Way {
	w := &Way{listener: l, to: to, cuts: map[string]bool{}, open: map[net.Conn]bool{}}
	w.calls.Go(w.serve)
	return w
}

// WayOut listens on the loopback of the namespace and carries from there to an address outside.
func (n *NS) WayOut(to string) (*Way, error) {
	var inside net.Listener
	err := n.Do(func() (err error) {
		if inside, err = new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0"); err != nil {
			return fmt.Errorf("way to %s: %w", to, err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return NewWay(inside, to), nil
}

// Addr is where it accepts, "host:port".
func (w *Way) Addr() string { return w.listener.Addr().String() }

// Cut cuts the way for a reason, or takes that reason back. Connections that are open end.
func (w *Way) Cut(reason string, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !on {
		delete(w.cuts, reason)
		return
	}
	w.cuts[reason] = true
	for c := range w.open {
		_ = c.Close()
	}
}

// Close ends the way and all its connections.
func (w *Way) Close() error {
	err := w.listener.Close()
	w.Cut("closed", true)
	w.calls.Wait()
	if err != nil {
		return fmt.Errorf("way to %s: %w", w.to, err)
	}
	return nil
}

func (w *Way) serve() {
	for {
		inner, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		w.calls.Go(func() { w.carry(inner) })
	}
}

// carry copies both ways until one side ends.
func (w *Way) carry(inner net.Conn) {
	defer w.drop(inner)
	if !w.keep(inner) {
		return
	}
	outer, err := new(net.Dialer).DialContext(context.Background(), "tcp", w.to)
	if err != nil {
		return
	}
	defer w.drop(outer)
	if !w.keep(outer) {
		return
	}
	var back sync.WaitGroup
	back.Go(func() {
		_, _ = io.Copy(inner, outer)
		_ = inner.Close()
	})
	_, _ = io.Copy(outer, inner)
	_ = outer.Close()
	back.Wait()
}

func (w *Way) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.cuts) > 0 {
		return false
	}
	w.open[c] = true
	return true
}

func (w *Way) drop(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, c)
}
