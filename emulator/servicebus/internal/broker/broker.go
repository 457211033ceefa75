// Package broker is the core of the emulated Service Bus: queues, topics and sessions as values that change only when
// called, with the time as an argument. It has no goroutine, no lock and no I/O; the caller serialises.
//
// A message is in exactly one place:
//
//	          schedule                     take                 complete
//	Enqueue ───────────▶ scheduled ─┐   ┌──────────▶ locked ──────────────▶ gone
//	   │                            ▼   │              │  ▲
//	   └──────────────────────────▶ ready ◀────────────┤  │ take deferred
//	                                    abandon,       ▼  │
//	                                    expiry      deferred
//
// and from ready or locked it may go to the dead-letter queue, where it is ready again.
package broker

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// What an operation can fail with.
var (
	ErrNotFound        = errors.New("not found")
	ErrLockLost        = errors.New("the lock supplied is invalid")
	ErrSessionLockLost = errors.New("the session lock has expired")
	ErrSessionHeld     = errors.New("the requested session cannot be accepted: it is locked by another receiver")
	ErrNoSession       = errors.New("no session is available")
	ErrFull            = errors.New("the entity has reached its maximum size")
	ErrNeedsSession    = errors.New("the SessionId was not set on a message, and it cannot be sent to the entity: entities that have session support enabled can only receive messages that have the SessionId set")
)

// Suffixes of an entity's name.
const (
	DeadLetterSuffix         = "/$DeadLetterQueue"
	TransferDeadLetterSuffix = "/$Transfer/$DeadLetterQueue"
)

// Config says how a queue or subscription behaves; zero values are defaults.
type Config struct {
	LockDuration           time.Duration // 0 = 1 minute
	MaxDeliveryCount       int           // 0 = 10
	DuplicateWindow        time.Duration // 0 = no duplicate detection
	DefaultTTL             time.Duration // 0 = messages do not expire by default
	RequiresSession        bool
	DeadLetterOnExpiration bool
	MaxMessages            int // 0 = unlimited
}

// Owner identifies a receiver. Two receivers are the same if the values are equal.
type Owner any

// Broker is a namespace of entities.
type Broker struct {
	// OnEvent is told of every change of a message, in order. It must not call the broker.
	OnEvent func(Event)
	// OnSessionLost is told that a receiver's session lock expired. It must not call the broker.
	OnSessionLost func(Owner, *Session)

	rand    *rand.Rand
	queues  []*Queue
	byName  map[string]*Queue
	changed []*Queue
}

// New is an empty namespace. seed determines the lock tokens and the message ids that it hands out.
func New(seed uint64) *Broker {
	return &Broker{
		OnEvent:       func(Event) {},
		OnSessionLost: func(Owner, *Session) {},
		rand:          rand.New(rand.NewPCG(seed, seed)),
		byName:        map[string]*Queue{},
	}
}

// AddQueue adds a queue with its dead-letter queues.
func (b *Broker) AddQueue(name string, cfg Config) *Queue {
	if cfg.LockDuration == 0 {
		cfg.LockDuration = time.Minute
	}
	if cfg.MaxDeliveryCount == 0 {
		cfg.MaxDeliveryCount = 10
	}
	q := b.add(name, cfg)
	dead := Config{LockDuration: cfg.LockDuration}
	q.dead = b.add(name+DeadLetterSuffix, dead)
	b.add(name+TransferDeadLetterSuffix, dead)
	return q
}

// AddTopic adds a topic. Its subscriptions are queues that the caller added under "topic/Subscriptions/name".
func (b *Broker) AddTopic(name string, window time.Duration, subscriptions []*Queue) *Queue {
	q := b.add(name, Config{DuplicateWindow: window})
	q.topic, q.subscriptions = true, subscriptions
	return q
}

func (b *Broker) add(name string, cfg Config) *Queue {
	q := &Queue{
		broker: b, name: name, cfg: cfg,
		messages: map[int64]*Message{}, locked: map[amqp.UUID]*Message{}, sessions: map[string]*Session{},
		seen: map[string]time.Time{},
	}
	b.queues = append(b.queues, q)
	b.byName[strings.ToLower(name)] = q
	return q
}

// Lookup finds an entity by its name, in any case of letters.
func (b *Broker) Lookup(name string) (*Queue, bool) {
	q, ok := b.byName[strings.ToLower(name)]
	return q, ok
}

// Advance does everything that is due at now: activations, expiries of locks and of messages.
func (b *Broker) Advance(now time.Time) {
	for _, q := range b.queues {
		q.advance(now)
	}
}

// Next is the earliest instant at which Advance has something to do; ok is false if there is none.
func (b *Broker) Next() (at time.Time, ok bool) {
	for _, q := range b.queues {
		if len(q.deadlines) > 0 && (!ok || q.deadlines[0].at.Before(at)) {
			at, ok = q.deadlines[0].at, true
		}
	}
	return at, ok
}

// Changed returns, once, the queues that may have become able to deliver something since the last call.
func (b *Broker) Changed() []*Queue {
	changed := b.changed
	b.changed = nil
	for _, q := range changed {
		q.dirty = false
	}
	return changed
}

// uuid is a random (version 4) identifier from the seeded source.
func (b *Broker) uuid() amqp.UUID {
	var u amqp.UUID
	binary.LittleEndian.PutUint64(u[0:], b.rand.Uint64())
	binary.LittleEndian.PutUint64(u[8:], b.rand.Uint64())
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// ExpireLocks lets every message and session lock of every entity expire at once.
func (b *Broker) ExpireLocks(now time.Time) {
	for _, q := range b.queues {
		q.ExpireLocks(now)
	}
}
