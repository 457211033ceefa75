package web

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Fault is something that goes wrong with the requests that it matches. Method and PathContains select them (empty: all; case does not matter), Skip
// lets the first ones pass, and Count is how many are hit.
//
// {not applied, applied} x {error answer, no answer} are Status or DropConnection, without or with Applied.
type Fault struct {
	Method       string
	PathContains string
	// Skip is how many matching requests pass first.
	Skip int
	// Count is how many requests are hit: 0 means one, a negative number means all.
	Count int

	// Delay holds the request up, on top of any latency.
	Delay time.Duration
	// Status is the status of an error answer, 400 to 599, with Code, Message and Header; 0 means no such answer.
	Status  int
	Code    string
	Message string
	Header  http.Header
	// DropConnection closes the connection instead of answering.
	DropConnection bool
	// Applied lets the request take effect first: it is done, but reported as failed or not at all.
	Applied bool

	// DetailCode is details[0].code of the error answer; ARM only.
	DetailCode string
	// FailOperation accepts the write, but its operation ends as Failed and leaves the resource Failed with the new content; ARM only.
	FailOperation bool
	// SupersedeOperation accepts the write, but its operation ends as Canceled (CanceledAndSupersededDueToAnotherOperation) and the
	// write is undone; ARM only.
	SupersedeOperation bool
}

// Applies reports whether the request takes effect. The zero Fault lets it.
func (f Fault) Applies() bool { return f.Applied || !f.Fails() }

// Fails reports whether the client gets another answer than the request's own, or none.
func (f Fault) Fails() bool { return f.Status != 0 || f.DropConnection }

func (f Fault) matches(method, path string) bool {
	return (f.Method == "" || strings.EqualFold(f.Method, method)) && strings.Contains(strings.ToLower(path), strings.ToLower(f.PathContains))
}

// check finds values that cannot be right, and those that say nothing without another one.
func (f Fault) check(operations bool) (p Problems) {
	p.AtLeast(0, "Skip", f.Skip)
	p.AtLeast(0, "Delay", int(f.Delay))
	p.Refuse(f.Status != 0 && (f.Status < 400 || f.Status > 599), "Status", f.Status, "0, or an error's: 400 to 599")
	p.Refuse(f.Status != 0 && f.DropConnection, "Status", f.Status, "0 with DropConnection, which leaves nothing to answer on")
	for _, text := range []struct{ field, value string }{{"Code", f.Code}, {"Message", f.Message}, {"DetailCode", f.DetailCode}} {
		p.Refuse(f.Status == 0 && text.value != "", text.field, text.value, "empty without Status: no answer has it")
	}
	p.Refuse(f.Status == 0 && len(f.Header) > 0, "Header", f.Header, "empty without Status: no answer has it")
	p.Refuse(f.Applied && !f.Fails(), "Applied", true, "false without Status and DropConnection: what is answered as usual takes effect anyway")
	p.Refuse(f.FailOperation && f.SupersedeOperation, "SupersedeOperation", true, "false with FailOperation: an operation ends once")
	ends := f.FailOperation || f.SupersedeOperation
	p.Refuse(ends && !f.Applies(), "Applied", false, "true with FailOperation or SupersedeOperation: without a write there is no operation")
	p.Refuse(!operations && f.DetailCode != "", "DetailCode", f.DetailCode, "empty: the errors of this service have no details")
	p.Refuse(!operations && ends, "FailOperation or SupersedeOperation", true, "false: this service has no operations")
	return p
}

// Faults controls what goes wrong. Its methods may be called by several goroutines at once. The zero value is that of a service without
// asynchronous operations.
type Faults struct {
	// Operations says that the service answers writes before they are done, and that its errors have details. It is set before first use.
	Operations bool

	mu     sync.Mutex
	script []Fault
	outage bool
}

// Script adds faults. A request is hit by the first that matches and is not used up. It panics if one of them cannot be meant: a test that
// scripts it would pass for a wrong reason.
func (f *Faults) Script(faults ...Fault) {
	for i, fault := range faults {
		if err := fault.check(f.Operations).Err(fmt.Sprintf("fault %d", i+1)); err != nil {
			panic("emulator: " + err.Error())
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, fault := range faults {
		fault.Count = cmp.Or(fault.Count, 1)
		f.script = append(f.script, fault)
	}
}

// FailNext makes the next n requests fail with the HTTP status, in place of all that was scripted; 0 ends that.
func (f *Faults) FailNext(n, status int) {
	f.Clear()
	if n > 0 {
		f.Script(Fault{Count: n, Status: status})
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

// Take returns the fault that hits a request, and uses it up once; the zero Fault if there is none.
func (f *Faults) Take(r *http.Request) Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.outage {
		return Fault{DropConnection: true}
	}
	for i := range f.script {
		fault := &f.script[i]
		switch {
		case fault.Count == 0 || !fault.matches(r.Method, r.URL.Path):
		case fault.Skip > 0:
			fault.Skip--
		default:
			fault.Count = max(fault.Count-1, -1)
			return *fault
		}
	}
	return Fault{}
}
