package servicebus

import (
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// QueueStats are the numbers of messages of an entity.
type QueueStats struct {
	// Now: Active can be received, Locked are with a receiver, Deferred are put aside, DeadLettered are in its
	// dead-letter queue.
	Active, Scheduled, Locked, Deferred, DeadLettered int
	// Since the start. Enqueued does not count Duplicates, which were dropped.
	Enqueued, Completed, Duplicates int
}

// MessageState is where a message is.
type MessageState int

// The states of a message.
const (
	StateActive MessageState = iota + 1
	StateScheduled
	StateLocked
	StateDeferred
)

// String is the state in lower case.
func (s MessageState) String() string {
	switch s {
	case StateActive:
		return "active"
	case StateScheduled:
		return "scheduled"
	case StateLocked:
		return "locked"
	case StateDeferred:
		return "deferred"
	default:
		return fmt.Sprintf("MessageState(%d)", int(s))
	}
}

// Message is one message at one moment.
type Message struct {
	Body           []byte
	MessageID      string
	SessionID      string
	Subject        string
	ContentType    string
	CorrelationID  string
	Properties     map[string]any // application properties, as Go values
	State          MessageState
	SequenceNumber int64
	DeliveryCount  int // failed deliveries so far
	EnqueuedAt     time.Time
	ScheduledAt    time.Time // zero unless it was scheduled
	LockedUntil    time.Time // zero unless State is StateLocked
	ExpiresAt      time.Time // zero = never
	// DeadLetterReason and DeadLetterDescription are set in a dead-letter queue.
	DeadLetterReason, DeadLetterDescription string
}

// EventKind is what happened to a message.
type EventKind int

// What can happen to a message.
const (
	EventEnqueued     EventKind = iota + 1 // stored, active or scheduled
	EventActivated                         // a scheduled message became active
	EventLocked                            // delivered to a receiver
	EventCompleted                         // settled, or received and deleted
	EventAbandoned                         // given back, also by release, by the end of a session or lock expiry
	EventDeferred                          // put aside
	EventDeadLettered                      // moved to the dead-letter queue
	EventCancelled                         // a scheduled message was cancelled
	EventExpired                           // its time to live ended
	EventLockExpired                       // its receiver was too slow; EventAbandoned follows
	EventDuplicate                         // accepted and dropped by duplicate detection
)

// String is the kind in lower case.
func (k EventKind) String() string {
	names := [...]string{
		"enqueued", "activated", "locked", "completed", "abandoned", "deferred", "dead-lettered", "cancelled", "expired",
		"lock-expired", "duplicate",
	}
	if k < 1 || int(k) > len(names) {
		return fmt.Sprintf("EventKind(%d)", int(k))
	}
	return names[k-1]
}

// Event is one change of one message.
type Event struct {
	At             time.Time
	Kind           EventKind
	Entity         string // as configured, subscriptions as "topic/Subscriptions/name"
	MessageID      string
	SessionID      string
	SequenceNumber int64
	DeliveryCount  int    // failed deliveries so far
	Reason         string // of EventDeadLettered
}

func publicEvent(e broker.Event) Event {
	return Event{
		At: e.At, Kind: EventKind(e.Kind), Entity: e.Entity, MessageID: e.MessageID, SessionID: e.SessionID,
		SequenceNumber: e.Sequence, DeliveryCount: int(e.DeliveryCount), Reason: e.Reason,
	}
}

// Queue counts the messages of a queue, subscription ("topic/Subscriptions/name"), topic or dead-letter queue; it
// reports whether there is one of that name.
func (s *Server) Queue(name string) (QueueStats, bool) {
	var stats QueueStats
	var ok bool
	s.step(func(time.Time) {
		q, found := s.broker.Lookup(name)
		if ok = found; ok {
			stats = QueueStats(q.Counts())
		}
	})
	return stats, ok
}

// Peek is a snapshot of the messages of an entity in the order of their sequence numbers; nil if there is no such
// entity. Its dead letters are those of name + "/$DeadLetterQueue".
func (s *Server) Peek(name string) []Message {
	var out []Message
	s.step(func(time.Time) {
		if q, ok := s.broker.Lookup(name); ok {
			for _, m := range q.Snapshot() {
				out = append(out, publicMessage(m))
			}
		}
	})
	return out
}

func publicMessage(m *broker.Message) Message {
	c := m.Content
	property := func(i int) string {
		switch v := c.Property(i).(type) {
		case nil:
			return ""
		case string:
			return v
		case amqp.Symbol:
			return string(v)
		default:
			return fmt.Sprint(v)
		}
	}
	out := Message{
		Body: c.Body(), MessageID: m.ID, SessionID: m.SessionID, Subject: property(amqp.PropSubject),
		ContentType: property(amqp.PropContentType), CorrelationID: property(amqp.PropCorrelationID),
		Properties: map[string]any{}, State: publicState(m.State), SequenceNumber: m.Sequence, DeliveryCount: int(m.DeliveryCount),
		EnqueuedAt: m.EnqueuedAt, ScheduledAt: m.ScheduledAt, LockedUntil: m.LockedUntil, ExpiresAt: m.ExpiresAt,
	}
	for _, p := range c.Application() {
		out.Properties[fmt.Sprint(p.Key)] = p.Value
	}
	out.DeadLetterReason, _ = text(c.Application(), "DeadLetterReason")
	out.DeadLetterDescription, _ = text(c.Application(), "DeadLetterErrorDescription")
	return out
}

func publicState(s broker.State) MessageState {
	switch s {
	case broker.Ready, broker.Held:
		return StateActive
	case broker.Scheduled:
		return StateScheduled
	case broker.Locked:
		return StateLocked
	case broker.Deferred:
		return StateDeferred
	default:
		panic("servicebus: message state " + s.String())
	}
}

// Observe calls fn for every change of a message from now on, one at a time and in order, from a goroutine of the
// server. fn may call the server's other methods, except Close; a slow fn makes events pile up in memory.
func (s *Server) Observe(fn func(Event)) { s.observed.subscribe(fn) }

// observers pass events on without holding up the server.
type observers struct {
	mu      sync.Mutex
	fns     []func(Event)
	events  []Event
	pending chan struct{}
}

func newObservers() *observers { return &observers{pending: make(chan struct{}, 1)} }

func (o *observers) subscribe(fn func(Event)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.fns = append(o.fns, fn)
}

func (o *observers) add(e Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.fns) == 0 {
		return
	}
	o.events = append(o.events, e)
	select {
	case o.pending <- struct{}{}:
	default:
	}
}

func (o *observers) take() ([]Event, []func(Event)) {
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.events
	o.events = nil
	return events, slices.Clip(o.fns)
}

// run passes events on until done is closed, and then the rest.
func (o *observers) run(done <-chan struct{}) {
	for {
		last := false
		select {
		case <-done:
			last = true
		case <-o.pending:
		}
		events, fns := o.take()
		for _, e := range events {
			for _, fn := range fns {
				fn(e)
			}
		}
		if last {
			return
		}
	}
}
