package arm

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"
)

// keepOperations is how long a completed operation can still be polled.
const keepOperations = time.Hour

// outcome is how an operation is scripted to end.
type outcome int

const (
	outcomeSuccess outcome = iota + 1
	outcomeFailure
	outcomeSuperseded
)

// opStatus is the status of an operation as its URL shows it.
type opStatus string

const (
	opInProgress opStatus = "InProgress"
	opSucceeded  opStatus = "Succeeded"
	opFailed     opStatus = "Failed"
	opCanceled   opStatus = "Canceled"
)

// operation is an asynchronous write ("Track asynchronous Azure operations").
type operation struct {
	id        string
	name      string // as the provider's messages call it: PutRouteTableOperation
	target    resourceID
	resource  string // what was written, the target or a part of it
	action    string
	location  string
	version   string
	principal string
	due       time.Time
	outcome   outcome
	status    opStatus
	failure   *failure
	polls     int
	before    *table
	// onlyLocation: its answers have a Location and nothing else to follow it by.
	onlyLocation bool
	complete     func(*operation)
	result       func() response // what operationResults answers in the end
	stop         func() bool
}

// begin starts op, which completes after duration, but not before the previous operation of the same resource.
func (s *Server) begin(op *operation, duration time.Duration) {
	now := s.cfg.Now()
	op.id, op.status, op.due = newGUID(), opInProgress, now.Add(duration)
	if previous := s.latest[op.target.key()]; previous != nil && previous.due.After(now) {
		op.due = previous.due.Add(duration)
	}
	for id, old := range s.operations {
		if old.status != opInProgress && now.Sub(old.due) > keepOperations {
			delete(s.operations, id)
		}
	}
	s.operations[op.id], s.latest[op.target.key()] = op, op
	at, _ := slices.BinarySearchFunc(s.pending, op, func(a, b *operation) int {
		if a.due.After(b.due) {
			return 1
		}
		return -1 // equal: op comes last
	})
	s.pending = slices.Insert(s.pending, at, op)
	op.stop = s.cfg.AfterFunc(op.due.Sub(now), func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.settle()
	})
}

// settle completes the operations that are due.
func (s *Server) settle() {
	now := s.cfg.Now()
	for len(s.pending) > 0 && !s.pending[0].due.After(now) {
		op := s.pending[0]
		s.pending = s.pending[1:]
		op.stop()
		op.end()
		op.complete(op)
	}
}

// end turns the scripted outcome into a status.
func (op *operation) end() {
	switch op.outcome {
	case outcomeSuccess:
		op.status = opSucceeded
	case outcomeFailure:
		op.status = opFailed
		op.failure = provider(0, "InternalServerError", "An error occurred.")
	case outcomeSuperseded:
		op.status = opCanceled
		op.failure = provider(0, "Canceled", "Operation was canceled.")
		op.failure.details = []detail{{
			"CanceledAndSupersededDueToAnotherOperation",
			fmt.Sprintf("Operation %s (%s) was canceled and superseded by another operation.", op.name, op.id),
		}}
	}
}

// event returns the event that reports the operation's end.
func (op *operation) event() Event {
	kind := OperationSucceeded
	switch op.status {
	case opFailed:
		kind = OperationFailed
	case opCanceled:
		kind = OperationCanceled
	case opSucceeded, opInProgress:
	}
	return Event{At: op.due, Kind: kind, Table: op.target.String(), Resource: op.resource, Action: op.action, Operation: op.id, Principal: op.principal}
}

// busy returns the refusal of a write to id while another is in flight, or nil.
func (s *Server) busy(r request, id resourceID) *failure {
	op := s.latest[id.key()]
	if op == nil || op.status != opInProgress {
		return nil
	}
	deleting := s.tables[id.key()] != nil && s.tables[id.key()].state == stateDeleting
	switch {
	case s.cfg.Busy == BusyConflict:
		return busyConflict(op.url(r.base, "operations"))
	case s.cfg.Busy == BusyQueue && !deleting:
		return nil
	}
	return busyRetryable(id, op.name, op.due.Sub(s.cfg.Now()))
}

// url returns the operation's address, which as on Azure carries a certificate and a signature and so is several kilobytes long.
func (op *operation) url(base, kind string) string {
	return fmt.Sprintf("%s/subscriptions/%s/providers/Microsoft.Network/locations/%s/%s/%s?api-version=%s&t=%d&c=MII%s&s=%s&h=%s",
		base, op.target.subscription(), op.location, kind, op.id, op.version, op.due.UnixNano(),
		strings.Repeat("Emulated", 384), strings.Repeat("Signed-_", 42), strings.Repeat("h", 43))
}

// asyncHeader returns the headers of the answer that starts op. A deletion has a Location too.
func (s *Server) asyncHeader(r request, op *operation, location bool) http.Header {
	header := http.Header{}
	if !op.onlyLocation {
		header.Set("Azure-AsyncOperation", op.url(r.base, "operations"))
		header.Set("Azure-AsyncNotification", "Enabled")
	}
	if location {
		header.Set("Location", op.url(r.base, "operationResults"))
	}
	s.pollAgain(header, op)
	return header
}

// pollAgain adds the Retry-After of the n-th answer while op is in progress: 10, 10, 10, 20, 40, 80 as recorded.
func (s *Server) pollAgain(header http.Header, op *operation) {
	if !s.cfg.RetryAfter || op.status != opInProgress {
		return
	}
	after := 10 << min(max(op.polls-2, 0), 3)
	header.Set("Retry-After", fmt.Sprint(after))
}

func (s *Server) getOperation(r request) response {
	op := s.operations[r.id.name()]
	if op == nil {
		return noChild(r.id).response()
	}
	answer := response{status: http.StatusOK, header: http.Header{}}
	body := struct {
		Status opStatus   `json:"status"`
		Error  *errorBody `json:"error,omitempty"`
	}{Status: op.status}
	if op.failure != nil {
		failed := op.failure.body()
		body.Error = &failed
	}
	op.polls++
	s.pollAgain(answer.header, op)
	answer.body = encode(body)
	return answer
}

func (s *Server) getOperationResult(r request) response {
	op := s.operations[r.id.name()]
	switch {
	case op == nil:
		return noChild(r.id).response()
	case op.status == opInProgress:
		op.polls++
		return response{status: http.StatusAccepted, header: s.asyncHeader(r, op, true)}
	case op.failure != nil:
		f := *op.failure
		f.status = http.StatusConflict
		return f.response()
	}
	return op.result()
}
