package eventgrid

import (
	"cmp"
	"net/http"
	"sync"
	"time"
)

// Fault is something that goes wrong with publish requests. Skip lets the first ones pass, and Count is how many are hit.
//
// {not applied, applied} x {error answer, no answer} are Status or DropConnection, without or with Applied.
type Fault struct {
	// Skip is how many requests pass first.
	Skip int
	// Count is how many requests are hit: 0 means one, a negative number means all.
	Count int

	// Delay holds the request up.
	Delay time.Duration
	// Status is the status of an error answer, with Header; 0 means no such answer.
	Status int
	Header http.Header
	// DropConnection closes the connection instead of answering.
	DropConnection bool
	// Applied lets the request take effect first: it is done, but reported as failed or not at all.
	Applied bool
}

// Faults controls what goes wrong. Its methods may be called by several goroutines at once.
type Faults struct {
	mu     sync.Mutex
	script []Fault
	outage bool
}

// Script adds faults. A request is hit by the first that is not used up.
func (f *Faults) Script(faults ...Fault) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		fault.Count = cmp.Or(fault.Count, 1)
		f.script = append(f.script, fault)
	}
}

// Outage drops every connection without effect, until it is called with false.
func (f *Faults) Outage(on bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.outage = on
}

// Clear removes what was scripted and ends an outage.
func (f *Faults) Clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.script, f.outage = nil, false
}

// take returns the fault that hits a request.
func (f *Faults) take() (Fault, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage {
		return Fault{DropConnection: true}, true
	}
	for i := range f.script {
		fault := &f.script[i]
		switch {
		case fault.Count == 0:
		case fault.Skip > 0:
			fault.Skip--
		default:
			fault.Count = max(fault.Count-1, -1)
			return *fault, true
		}
	}
	return Fault{}, false
}

// applies reports whether the request takes effect.
func (f Fault) applies() bool { return f.Applied || f.Status == 0 && !f.DropConnection }
