//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
)

// way is an NVA's way to the bus: it carries connections from a listener, which may be in another network namespace, to the broker.
type way struct {
	listener net.Listener
	to       string

	mu      sync.Mutex
	severed bool // by the scenario
	muted   bool // while an agent in this process is being killed
	open    map[net.Conn]bool
	calls   sync.WaitGroup
}

func newWay(l net.Listener, to string) *way {
	w := &way{listener: l, to: to, open: map[net.Conn]bool{}}
	w.calls.Go(w.serve)
	return w
}

func (w *way) serve() {
	for {
		inner, err := w.listener.Accept()
		if err != nil {
			return // closed
		}
		w.calls.Go(func() { w.carry(inner) })
	}
}

// carry copies both ways until one side ends.
func (w *way) carry(inner net.Conn) {
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

func (w *way) keep(c net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.severed || w.muted {
		return false
	}
	w.open[c] = true
	return true
}

func (w *way) drop(c net.Conn) {
	_ = c.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.open, c)
}

// cut severs the way, or mends it.
func (w *way) cut(on bool) { w.set(&w.severed, on) }

// mute severs it for another reason: it is whole when neither holds.
func (w *way) mute(on bool) { w.set(&w.muted, on) }

func (w *way) set(reason *bool, on bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	*reason = on
	for c := range w.open {
		if on {
			_ = c.Close()
		}
	}
}

func (w *way) close() error {
	err := w.listener.Close()
	w.cut(true)
	w.calls.Wait()
	if err != nil {
		return fmt.Errorf("way to the bus: %w", err)
	}
	return nil
}
