package arm

import (
	"encoding/json"
	"fmt"
	"time"
)

// Call is one request in the call log.
type Call struct {
	// At is when it was served, after any delay.
	At     time.Time
	Method string
	Path   string
	// Operation names it as the SDK does: routeTables.CreateOrUpdate, routes.Delete, operations.Get; "" for what is not emulated.
	Operation string
	// Principal that the bearer token stands for, "" if it was refused.
	Principal string
	// IfMatch is the header as sent.
	IfMatch string
	// Status is that of the answer, 0 if the connection was dropped.
	Status int
	// ETag is the header of the answer.
	ETag string
	// Body of the request.
	Body []byte
}

// Calls returns the call log, oldest first.
func (s *Server) Calls() []Call { return s.calls.All() }

// ResetCalls empties the call log.
func (s *Server) ResetCalls() { s.calls.Reset() }

// tableWrite is what changes a table as a whole.
const tableWrite = "Microsoft.Network/routeTables/write"

// EventKind says what an [Event] reports.
type EventKind int

// The kinds of events.
const (
	// WriteAccepted is a write that has been accepted; its content shows at once, as Updating.
	WriteAccepted EventKind = iota + 1
	// OperationSucceeded is the completion of a write.
	OperationSucceeded
	// OperationFailed is a write that ended as Failed; the table keeps its content.
	OperationFailed
	// OperationCanceled is a write that was superseded.
	OperationCanceled
	// TableSeeded is a change by [Server.PutTable].
	TableSeeded
	// PeerSeeded is a change by [Server.PutPeer] or [Server.RemovePeer].
	PeerSeeded
)

// String returns the kind's name.
func (k EventKind) String() string {
	switch k {
	case WriteAccepted:
		return "write accepted"
	case OperationSucceeded:
		return "operation succeeded"
	case OperationFailed:
		return "operation failed"
	case OperationCanceled:
		return "operation canceled"
	case TableSeeded:
		return "table seeded"
	case PeerSeeded:
		return "peer seeded"
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// Event is a change of a table or of a Route Server's peer, or the end of the operation that changed it.
type Event struct {
	// At is when it happened on the server's clock.
	At   time.Time
	Kind EventKind
	// Table is the id of the table, or of the Route Server.
	Table string
	// Resource is what was written: the table, a route of it, or a peer.
	Resource string
	// Action is the operation as rights name it: Microsoft.Network/routeTables/routes/write.
	Action string
	// Operation is the id of the asynchronous operation, "" for synchronous changes.
	Operation string
	// Principal who asked for it, "" for PutTable.
	Principal string
	// Before and After are the table, or the peer, as a GET would show it; nil if there is none.
	Before, After json.RawMessage
}

// Observe calls fn for every event from now on, in order, one at a time, and before the client hears of it. The server is locked
// meanwhile: fn must not call its methods and must not block.
func (s *Server) Observe(fn func(Event)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.observers = append(s.observers, fn)
}

func (s *Server) notify(e Event, before, after *table) {
	if len(s.observers) == 0 {
		return
	}
	if e.Resource == "" {
		e.Resource = e.Table
	}
	if e.Action == "" {
		e.Action = tableWrite
	}
	if before != nil {
		e.Before = before.raw(s.view(before, latestVersion))
	}
	if after != nil {
		e.After = after.raw(s.view(after, latestVersion))
	}
	s.emit(e)
}

// emit tells the observers.
func (s *Server) emit(e Event) {
	if e.At.IsZero() {
		e.At = s.cfg.Now()
	}
	for _, fn := range s.observers {
		fn(e)
	}
}
