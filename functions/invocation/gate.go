package invocation

import (
	"net/http"
	"sync"
)

// Gate lets a handler end without breaking off what it is at: once it is closed no call begins any more, and what runs is finished.
//
// A call that comes later is held and never answered, so that the host sees it fail when the process ends and not before. Refused at once, its messages would
// come again and again while the last call is running, each time nearer to the dead-letter queue.
type Gate struct {
	next http.Handler

	mu      sync.Mutex
	closed  bool
	running sync.WaitGroup
}

// NewGate returns an open gate before next.
func NewGate(next http.Handler) *Gate { return &Gate{next: next} }

// ServeHTTP implements http.Handler.
func (g *Gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !g.enter() {
		<-r.Context().Done()
		return
	}
	defer g.running.Done()
	g.next.ServeHTTP(w, r)
	_ = http.NewResponseController(w).Flush() // the process may end as soon as this call counts as answered
}

func (g *Gate) enter() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false
	}
	g.running.Add(1)
	return true
}

// Close closes the gate and returns when the last call has been answered.
func (g *Gate) Close() {
	g.mu.Lock()
	g.closed = true
	g.mu.Unlock()
	g.running.Wait()
}
