package broker

import (
	"fmt"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// State is where a message is.
type State int

// The states of a message in an entity.
const (
	Ready     State = iota + 1 // can be delivered
	Held                       // active, but kept back by a fault
	Scheduled                  // waits for its enqueue time
	Locked                     // with a receiver
	Deferred                   // only to be had by its sequence number
)

// String is the state in lower case.
func (s State) String() string {
	switch s {
	case Ready:
		return "active"
	case Held:
		return "held"
	case Scheduled:
		return "scheduled"
	case Locked:
		return "locked"
	case Deferred:
		return "deferred"
	default:
		return fmt.Sprintf("State(%d)", int(s))
	}
}

// Message is one message in one entity. Only the broker changes it once it is enqueued.
type Message struct {
	// Set by the sender's side.
	Content     *amqp.Message
	ScheduledAt time.Time     // zero = at once
	HoldBack    time.Duration // fault: deliver this much later than possible
	Copies      int           // fault: store this many more copies, past duplicate detection

	// Kept by the broker.
	ID               string
	SessionID        string
	Sequence         int64
	EnqueuedSequence int64
	EnqueuedAt       time.Time
	ExpiresAt        time.Time // zero = never
	LockedUntil      time.Time
	LockToken        amqp.UUID
	DeliveryCount    uint32 // failed deliveries so far
	DeadLetterSource string
	State            State

	owner    Owner
	session  *Session // nil unless the entity has sessions
	deferred bool     // returns to Deferred when it is given back
}

// EventKind is what happened to a message.
type EventKind int

// The changes of a message that are told.
const (
	Enqueued     EventKind = iota + 1 // stored, ready or scheduled
	Activated                         // a scheduled message became ready
	LockedEvent                       // delivered to a receiver
	Completed                         // settled, gone
	Abandoned                         // given back by its receiver
	DeferredBy                        // put aside by its receiver
	DeadLettered                      // moved to the dead-letter queue
	Cancelled                         // a scheduled message was removed
	Expired                           // its time to live passed
	LockExpired                       // its receiver was too slow
	Duplicate                         // dropped by duplicate detection
)

// Event is one change of one message.
type Event struct {
	At            time.Time
	Kind          EventKind
	Entity        string
	MessageID     string
	SessionID     string
	Sequence      int64
	DeliveryCount uint32
	Reason        string // of DeadLettered
}

// The reasons that Service Bus itself gives when it dead-letters.
const (
	reasonMaxDelivery = "MaxDeliveryCountExceeded"
	reasonExpired     = "TTLExpiredException"
)

// Application properties that carry the reason.
const (
	propReason      = "DeadLetterReason"
	propDescription = "DeadLetterErrorDescription"
)

// annotated are the message annotations that the broker owns (Azure: "AMQP 1.0 in Azure Service Bus protocol guide",
// message annotations). The types are fixed: the SDKs assert them.
func (m *Message) annotated() amqp.Map {
	state := int32(0)
	switch m.State {
	case Scheduled:
		state = 2
	case Deferred:
		state = 1
	case Ready, Held, Locked:
		if m.deferred {
			state = 1
		}
	}
	a := m.Content.Annotations.
		Set(amqp.Symbol("x-opt-sequence-number"), m.Sequence).
		Set(amqp.Symbol("x-opt-enqueue-sequence-number"), m.EnqueuedSequence).
		Set(amqp.Symbol("x-opt-enqueued-time"), amqp.TimestampOf(m.EnqueuedAt)).
		Set(amqp.Symbol("x-opt-message-state"), state)
	if !m.LockedUntil.IsZero() {
		a = a.Set(amqp.Symbol("x-opt-locked-until"), amqp.TimestampOf(m.LockedUntil))
	}
	if m.DeadLetterSource != "" {
		a = a.Set(amqp.Symbol("x-opt-deadletter-source"), m.DeadLetterSource)
	}
	return a
}

// Encode is the message as a receiver gets it.
func (m *Message) Encode() []byte {
	c := m.Content.Clone()
	c.Header.DeliveryCount = m.DeliveryCount
	c.DeliveryAnnotations = nil
	if m.deferred && m.State == Locked {
		c.DeliveryAnnotations = amqp.Map{{Key: amqp.Symbol("x-opt-lock-token"), Value: m.LockToken}}
	}
	c.Annotations = m.annotated()
	return c.Append(nil)
}

// modify sets application properties.
func (m *Message) modify(properties amqp.Map) {
	if len(properties) == 0 {
		return
	}
	app := m.Content.Application()
	for _, p := range properties {
		key := p.Key
		if s, ok := key.(amqp.Symbol); ok {
			key = string(s) // application properties have string keys
		}
		app = app.Set(key, p.Value)
	}
	m.Content = m.Content.Clone()
	m.Content.SetApplication(app)
}
