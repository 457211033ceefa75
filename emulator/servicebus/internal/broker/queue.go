package broker

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// Queue is an entity that stores messages: a queue, a subscription, one of their dead-letter queues, or a topic, which
// keeps only its scheduled messages and passes the others on.
type Queue struct {
	broker        *Broker
	name          string
	cfg           Config
	dead          *Queue // nil for dead-letter queues and topics
	topic         bool
	subscriptions []*Queue

	messages  map[int64]*Message     // every message, by sequence number
	locked    map[amqp.UUID]*Message // those in state Locked, by token
	ready     lane                   // those in state Ready, unless the entity has sessions
	sessions  map[string]*Session    // those that have messages, state or an owner
	states    [Deferred + 1]int      // how many messages are in each state
	seen      map[string]time.Time   // message ids for duplicate detection
	seenOrder []seenID               // the same, oldest first
	deadlines deadlineHeap
	sequence  int64
	order     uint64
	dirty     bool

	enqueued, completed, duplicates int
}

type seenID struct {
	id string
	at time.Time
}

// Name is the name as configured.
func (q *Queue) Name() string { return q.name }

// RequiresSession reports whether the entity has sessions.
func (q *Queue) RequiresSession() bool { return q.cfg.RequiresSession }

// IsTopic reports whether the entity can be sent to but not received from.
func (q *Queue) IsTopic() bool { return q.topic }

// Counts are the numbers of messages of an entity.
type Counts struct {
	Active, Scheduled, Locked, Deferred, DeadLettered int // now
	Enqueued, Completed, Duplicates                   int // since the start
}

// Counts returns the present numbers.
func (q *Queue) Counts() Counts {
	c := Counts{
		Active: q.states[Ready] + q.states[Held], Scheduled: q.states[Scheduled], Locked: q.states[Locked],
		Deferred: q.states[Deferred], Enqueued: q.enqueued, Completed: q.completed, Duplicates: q.duplicates,
	}
	if q.dead != nil {
		c.DeadLettered = len(q.dead.messages)
	}
	return c
}

// Snapshot is every message of the entity in the order of sequence numbers.
func (q *Queue) Snapshot() []*Message {
	all := slices.Collect(maps.Values(q.messages))
	slices.SortFunc(all, func(a, b *Message) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return all
}

// Peek is up to n messages from sequence number from on, of one session if session is not nil.
func (q *Queue) Peek(from int64, n int, session *string) []*Message {
	all := q.Snapshot()
	all = slices.DeleteFunc(all, func(m *Message) bool {
		return m.Sequence < from || session != nil && m.SessionID != *session
	})
	return all[:min(len(all), max(n, 0))]
}

// Touch makes Changed return the queue, because a receiver became able to take messages.
func (q *Queue) Touch() {
	if !q.dirty {
		q.dirty = true
		q.broker.changed = append(q.broker.changed, q)
	}
}

func (q *Queue) tell(now time.Time, kind EventKind, m *Message, reason string) {
	q.broker.OnEvent(Event{
		At: now, Kind: kind, Entity: q.name, MessageID: m.ID, SessionID: m.SessionID, Sequence: m.Sequence,
		DeliveryCount: m.DeliveryCount, Reason: reason,
	})
}

// setState moves m between states; the caller keeps the indexes.
func (q *Queue) setState(m *Message, s State) {
	if m.State != 0 {
		q.states[m.State]--
	}
	m.State = s
	if s != 0 {
		q.states[s]++
	}
}

// Enqueue stores all messages or none and returns their sequence numbers. A duplicate is accepted, counted and dropped;
// it gets a sequence number that belongs to no message.
func (q *Queue) Enqueue(now time.Time, messages []*Message) ([]int64, error) {
	for _, m := range messages {
		q.identify(m)
		if err := q.admit(m, len(messages)); err != nil {
			return nil, err
		}
	}
	sequences := make([]int64, len(messages))
	for i, m := range messages {
		sequences[i] = q.enqueue(now, m)
	}
	return sequences, nil
}

// identify reads the ids out of the properties and gives the message an id if it has none, as the service does.
func (q *Queue) identify(m *Message) {
	if s, ok := m.Content.Property(amqp.PropGroupID).(string); ok {
		m.SessionID = s
	}
	switch id := m.Content.Property(amqp.PropMessageID).(type) {
	case nil:
		m.ID = q.broker.uuid().String()
		m.Content = m.Content.Clone()
		m.Content.SetProperty(amqp.PropMessageID, m.ID)
	case string:
		m.ID = id
	default:
		m.ID = fmt.Sprint(id)
	}
}

func (q *Queue) admit(m *Message, n int) error {
	for _, sub := range q.subscriptions {
		if err := sub.admit(m, n); err != nil {
			return err
		}
	}
	if q.cfg.MaxMessages > 0 && len(q.messages)+n > q.cfg.MaxMessages {
		return fmt.Errorf("%s: %w", q.name, ErrFull)
	}
	if q.cfg.RequiresSession && m.Content.Property(amqp.PropGroupID) == nil {
		return fmt.Errorf("%s: %w", q.name, ErrNeedsSession)
	}
	return nil
}

func (q *Queue) enqueue(now time.Time, m *Message) int64 {
	if q.isDuplicate(now, m.ID) {
		q.duplicates++
		q.sequence++
		m.Sequence = q.sequence
		q.tell(now, Duplicate, m, "")
		return m.Sequence
	}
	copies := m.Copies
	m.Copies = 0
	for range copies {
		c := *m
		q.store(now, &c)
	}
	q.store(now, m)
	return m.EnqueuedSequence
}

// isDuplicate reports whether id was seen within the window, and remembers it otherwise.
func (q *Queue) isDuplicate(now time.Time, id string) bool {
	if q.cfg.DuplicateWindow <= 0 {
		return false
	}
	for len(q.seenOrder) > 0 && !q.seenOrder[0].at.Add(q.cfg.DuplicateWindow).After(now) {
		delete(q.seen, q.seenOrder[0].id)
		q.seenOrder = q.seenOrder[1:]
	}
	if _, ok := q.seen[id]; ok {
		return true
	}
	q.seen[id] = now
	q.seenOrder = append(q.seenOrder, seenID{id: id, at: now})
	return false
}

// store puts a new message into the entity.
func (q *Queue) store(now time.Time, m *Message) {
	q.number(m)
	m.EnqueuedSequence = m.Sequence
	m.EnqueuedAt = now
	q.enqueued++
	if m.ScheduledAt.After(now) {
		q.setState(m, Scheduled)
		q.deadlineAt(m.ScheduledAt, m, nil)
		q.tell(now, Enqueued, m, "")
		return
	}
	q.tell(now, Enqueued, m, "")
	q.arrive(now, m)
}

// number gives m the next sequence number.
func (q *Queue) number(m *Message) {
	if q.messages[m.Sequence] == m {
		delete(q.messages, m.Sequence)
	}
	q.sequence++
	m.Sequence = q.sequence
	q.messages[m.Sequence] = m
}

// activate turns a scheduled message into an active one, which has a new sequence number (Azure: "Message sequencing
// and timestamps").
func (q *Queue) activate(now time.Time, m *Message) {
	q.number(m)
	m.EnqueuedAt = now
	q.tell(now, Activated, m, "")
	q.arrive(now, m)
}

// arrive makes a message active: its time to live starts now.
func (q *Queue) arrive(now time.Time, m *Message) {
	if q.topic {
		q.fanOut(now, m)
		return
	}
	if ttl := q.timeToLive(m); ttl > 0 {
		m.ExpiresAt = now.Add(ttl)
		q.deadlineAt(m.ExpiresAt, m, nil)
	}
	if q.cfg.RequiresSession {
		m.session = q.session(m.SessionID)
		m.session.messages++
	}
	if m.HoldBack > 0 {
		q.setState(m, Held)
		q.deadlineAt(now.Add(m.HoldBack), m, nil)
		return
	}
	q.makeReady(m)
}

func (q *Queue) fanOut(now time.Time, m *Message) {
	q.forget(m)
	for _, sub := range q.subscriptions {
		c := *m
		c.ScheduledAt = time.Time{}
		c.State = 0
		sub.store(now, &c)
		c.EnqueuedSequence = m.EnqueuedSequence
	}
}

// timeToLive is the shorter of the message's own and the entity's; 0 = for ever.
func (q *Queue) timeToLive(m *Message) time.Duration {
	ttl := q.cfg.DefaultTTL
	own := m.Content.Header.TTL
	if own != nil && *own < math.MaxUint32 {
		if d := time.Duration(*own) * time.Millisecond; ttl == 0 || d < ttl {
			ttl = d
		}
	}
	return ttl
}

// makeReady lets m be delivered, at the place that its sequence number gives it: what comes back goes to the front.
func (q *Queue) makeReady(m *Message) {
	q.setState(m, Ready)
	q.laneOf(m).insert(m)
	q.Touch()
}

func (q *Queue) laneOf(m *Message) *lane {
	if m.session != nil {
		return &m.session.ready
	}
	return &q.ready
}

// forget removes m from the entity.
func (q *Queue) forget(m *Message) {
	if m.State == Ready {
		q.laneOf(m).remove(m)
	}
	q.setState(m, 0)
	delete(q.messages, m.Sequence)
	delete(q.locked, m.LockToken)
	if s := m.session; s != nil {
		s.messages--
		m.session = nil
		q.tidy(s)
	}
}

// Cancel removes scheduled messages. If one of them is not there (any more) it fails with ErrNotFound and the others
// are removed nevertheless.
func (q *Queue) Cancel(now time.Time, sequences []int64) error {
	var err error
	for _, n := range sequences {
		m := q.messages[n]
		if m == nil || m.State != Scheduled {
			err = fmt.Errorf("%s: scheduled message %d: %w", q.name, n, ErrNotFound)
			continue
		}
		q.forget(m)
		q.tell(now, Cancelled, m, "")
	}
	return err
}

// Take delivers the first ready message to owner and locks it, or nil if there is none. With a session, that session's
// first, and the lock is the session's. With remove, the message is gone instead of locked.
func (q *Queue) Take(now time.Time, owner Owner, s *Session, remove bool) *Message {
	from := &q.ready
	if s != nil {
		from = &s.ready
	}
	m := from.first()
	if m == nil {
		return nil
	}
	if remove {
		q.forget(m)
		q.completed++
		q.tell(now, Completed, m, "")
		return m
	}
	from.remove(m)
	q.lock(now, m, owner)
	return m
}

func (q *Queue) lock(now time.Time, m *Message, owner Owner) {
	q.setState(m, Locked)
	m.owner = owner
	m.LockToken = q.broker.uuid()
	q.locked[m.LockToken] = m
	if m.session != nil {
		m.LockedUntil = m.session.LockedUntil
	} else {
		m.LockedUntil = now.Add(q.cfg.LockDuration)
		q.deadlineAt(m.LockedUntil, m, nil)
	}
	q.tell(now, LockedEvent, m, "")
}

// TakeDeferred locks deferred messages by sequence number. It fails with ErrNotFound, and locks none, unless all are
// there.
func (q *Queue) TakeDeferred(now time.Time, owner Owner, sequences []int64, remove bool) ([]*Message, error) {
	messages := make([]*Message, len(sequences))
	for i, n := range sequences {
		messages[i] = q.messages[n]
		if messages[i] == nil || messages[i].State != Deferred {
			return nil, fmt.Errorf("%s: deferred message %d: %w", q.name, n, ErrNotFound)
		}
	}
	for _, m := range messages {
		if remove {
			q.forget(m)
			q.completed++
			q.tell(now, Completed, m, "")
			continue
		}
		q.lock(now, m, owner)
	}
	return messages, nil
}

// lockedWhere is the locked messages that fit, in the order of sequence numbers.
func (q *Queue) lockedWhere(fits func(*Message) bool) []*Message {
	var out []*Message
	for _, m := range q.locked {
		if fits(m) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b *Message) int { return cmp.Compare(a.Sequence, b.Sequence) })
	return out
}

// find is the locked message of a token, ErrLockLost if there is none.
func (q *Queue) find(token amqp.UUID) (*Message, error) {
	m := q.locked[token]
	if m == nil {
		return nil, fmt.Errorf("%s: %w: either the lock expired, or the message has already been removed", q.name, ErrLockLost)
	}
	return m, nil
}

// Complete removes a locked message.
func (q *Queue) Complete(now time.Time, token amqp.UUID) error {
	m, err := q.find(token)
	if err != nil {
		return err
	}
	q.forget(m)
	q.completed++
	q.tell(now, Completed, m, "")
	return nil
}

// Abandon gives a locked message back as a failed delivery, with changed application properties.
func (q *Queue) Abandon(now time.Time, token amqp.UUID, properties amqp.Map) error {
	m, err := q.find(token)
	if err != nil {
		return err
	}
	m.modify(properties)
	q.giveBack(now, m, true)
	return nil
}

// Release gives a locked message back as if it had not been delivered.
func (q *Queue) Release(now time.Time, token amqp.UUID) error {
	m, err := q.find(token)
	if err != nil {
		return err
	}
	q.giveBack(now, m, false)
	return nil
}

// Defer puts a locked message aside.
func (q *Queue) Defer(now time.Time, token amqp.UUID, properties amqp.Map) error {
	m, err := q.find(token)
	if err != nil {
		return err
	}
	m.modify(properties)
	m.deferred = true
	q.unlock(m)
	q.setState(m, Deferred)
	q.tell(now, DeferredBy, m, "")
	return nil
}

// DeadLetter moves a locked message to the dead-letter queue.
func (q *Queue) DeadLetter(now time.Time, token amqp.UUID, reason, description string, properties amqp.Map) error {
	m, err := q.find(token)
	if err != nil {
		return err
	}
	m.modify(properties)
	q.bury(now, m, reason, description)
	return nil
}

// Renew extends the locks of messages and returns until when. It fails with ErrLockLost unless all are held.
func (q *Queue) Renew(now time.Time, tokens []amqp.UUID) ([]time.Time, error) {
	for _, t := range tokens {
		if _, err := q.find(t); err != nil {
			return nil, err
		}
	}
	until := make([]time.Time, len(tokens))
	for i, t := range tokens {
		m := q.locked[t]
		if m.session == nil {
			m.LockedUntil = now.Add(q.cfg.LockDuration)
			q.deadlineAt(m.LockedUntil, m, nil)
		}
		until[i] = m.LockedUntil
	}
	return until, nil
}

func (q *Queue) unlock(m *Message) {
	delete(q.locked, m.LockToken)
	m.owner = nil
	m.LockedUntil = time.Time{}
}

// giveBack ends the lock of m; a counted one is a failed delivery, of which there may be only so many.
func (q *Queue) giveBack(now time.Time, m *Message, counted bool) {
	if counted {
		m.DeliveryCount++
	}
	q.tell(now, Abandoned, m, "")
	q.unlock(m)
	switch {
	case q.cfg.MaxDeliveryCount > 0 && int(m.DeliveryCount) >= q.cfg.MaxDeliveryCount:
		q.bury(now, m, reasonMaxDelivery,
			fmt.Sprintf("Message could not be consumed after %d delivery attempts.", q.cfg.MaxDeliveryCount))
	case m.isExpired(now):
		q.expire(now, m)
	case m.deferred:
		q.setState(m, Deferred)
	default:
		q.makeReady(m)
	}
}

func (q *Queue) lockExpired(now time.Time, m *Message) {
	q.tell(now, LockExpired, m, "")
	q.giveBack(now, m, true)
}

// expire removes a message whose time to live has passed.
func (q *Queue) expire(now time.Time, m *Message) {
	q.tell(now, Expired, m, "")
	if q.cfg.DeadLetterOnExpiration {
		q.bury(now, m, reasonExpired, "The message expired and was dead lettered.")
		return
	}
	q.forget(m)
}

// bury moves m to the dead-letter queue; a message that is dead-lettered there stays.
func (q *Queue) bury(now time.Time, m *Message, reason, description string) {
	var why amqp.Map
	if reason != "" {
		why = why.Set(propReason, reason)
	}
	if description != "" {
		why = why.Set(propDescription, description)
	}
	q.tell(now, DeadLettered, m, reason)
	q.forget(m)
	m.modify(why)
	target := q.dead
	if target == nil {
		target = q
	} else {
		m.DeadLetterSource = q.name
	}
	m.owner, m.LockedUntil, m.ExpiresAt, m.HoldBack, m.deferred = nil, time.Time{}, time.Time{}, 0, false
	target.number(m)
	target.enqueued++
	target.makeReady(m)
}

// ReleaseOwned gives back, uncounted and in order, everything that owner has locked.
func (q *Queue) ReleaseOwned(now time.Time, owner Owner) {
	for _, m := range q.lockedWhere(func(m *Message) bool { return m.owner == owner }) {
		q.giveBack(now, m, false)
	}
}

// ExpireLocks lets every message and session lock expire at once.
func (q *Queue) ExpireLocks(now time.Time) {
	for _, s := range q.orderedSessions() {
		if s.owner != nil {
			s.LockedUntil = now
			q.sessionDue(now, s)
		}
	}
	for _, m := range q.lockedWhere(func(*Message) bool { return true }) {
		q.lockExpired(now, m)
	}
}
