package main

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// lab says where the real NVAs live.
type lab struct {
	dir        string // for configuration, state and logs
	agent      string // the agent's executable
	bus        string // host:port of the broker, on the loopback outside
	connection string // connection string for the agents
}

// forwarder carries connections from a listener, which may be in another network namespace, to an address on this side. It is an NVA's
// way to the bus; cut severs it.
type forwarder struct {
	listener net.Listener
	to       string

	mu      sync.Mutex
	severed bool
	open    map[net.Conn]bool
	calls   sync.WaitGroup
}

func forward(l net.Listener, to string) *forwarder {
	f := &forwarder{listener: l, to: to, open: map[net.Conn]bool{}}
	f.calls.Go(f.serve)
	return f
}

func (f *forwarder) serve() {
	for {
		inner, err := f.listener.Accept()
		if err != nil {
			return // closed
		}
		f.calls.Go(func() { f.carry(inner) })
	}
}

// carry copies both ways until one side ends.
func (f *forwarder) carry(inner net.Conn) {
	defer f.drop(inner)
	if !f.keep(inner) {
		return
	}
	outer, err := new(net.Dialer).Dial("tcp", f.to)
	if err != nil {
		return
	}
	defer f.drop(outer)
	if !f.keep(outer) {
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

func (f *forwarder) keep(c net.Conn) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.severed {
		return false
	}
	f.open[c] = true
	return true
}

func (f *forwarder) drop(c net.Conn) {
	_ = c.Close()
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.open, c)
}

// cut severs the way, or mends it.
func (f *forwarder) cut(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.severed = on
	for c := range f.open {
		if on {
			_ = c.Close()
		}
	}
}

func (f *forwarder) close() error {
	err := f.listener.Close()
	f.cut(true)
	f.calls.Wait()
	if err != nil {
		return fmt.Errorf("way to the bus: %w", err)
	}
	return nil
}
