package broker

import (
	"container/heap"
	"time"
)

// deadline is an instant at which a message or a session lock must be looked at. Deadlines are not removed when their
// reason goes away; looking in vain does no harm.
type deadline struct {
	at      time.Time
	order   uint64 // of two at one instant, the one set first comes first
	message *Message
	session *Session
}

type deadlineHeap []deadline

func (h deadlineHeap) Len() int { return len(h) }
func (h deadlineHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].order < h[j].order
	}
	return h[i].at.Before(h[j].at)
}
func (h deadlineHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *deadlineHeap) Push(x any)   { *h = append(*h, x.(deadline)) }
func (h *deadlineHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = deadline{}
	*h = old[:len(old)-1]
	return last
}

func (q *Queue) deadlineAt(at time.Time, m *Message, s *Session) {
	q.order++
	heap.Push(&q.deadlines, deadline{at: at, order: q.order, message: m, session: s})
	if len(q.deadlines) > 2*(len(q.messages)+len(q.sessions))+1024 {
		q.dropStale()
	}
}

// dropStale removes the deadlines of messages that are gone, so that a fast consumer does not pile them up.
func (q *Queue) dropStale() {
	kept := q.deadlines[:0]
	for _, d := range q.deadlines {
		if d.pending(q) {
			kept = append(kept, d)
		}
	}
	clear(q.deadlines[len(kept):])
	q.deadlines = kept
	heap.Init(&q.deadlines)
}

// pending reports whether the deadline is still that of its message or session.
func (d deadline) pending(q *Queue) bool {
	if s := d.session; s != nil {
		return s.owner != nil && d.at.Equal(s.LockedUntil)
	}
	m := d.message
	if q.messages[m.Sequence] != m {
		return false
	}
	switch m.State {
	case Scheduled:
		return d.at.Equal(m.ScheduledAt)
	case Locked:
		return d.at.Equal(m.LockedUntil) || d.at.Equal(m.ExpiresAt)
	case Held:
		return true
	case Ready, Deferred:
		return d.at.Equal(m.ExpiresAt)
	default:
		return false
	}
}

func (q *Queue) advance(now time.Time) {
	for len(q.deadlines) > 0 && !q.deadlines[0].at.After(now) {
		d := heap.Pop(&q.deadlines).(deadline)
		switch {
		case d.session != nil:
			q.sessionDue(now, d.session)
		case q.messages[d.message.Sequence] == d.message:
			q.messageDue(now, d.message, d.at)
		}
	}
}

func (q *Queue) messageDue(now time.Time, m *Message, at time.Time) {
	switch m.State {
	case Scheduled:
		if !m.ScheduledAt.After(now) {
			q.activate(now, m)
		}
	case Held:
		if m.isExpired(now) {
			q.expire(now, m)
		} else if !at.Before(m.EnqueuedAt.Add(m.HoldBack)) {
			q.makeReady(m)
		}
	case Locked:
		if m.session == nil && !m.LockedUntil.After(now) {
			q.lockExpired(now, m)
		}
	case Ready, Deferred:
		if m.isExpired(now) {
			q.expire(now, m)
		}
	}
}

func (m *Message) isExpired(now time.Time) bool {
	return !m.ExpiresAt.IsZero() && !m.ExpiresAt.After(now)
}
