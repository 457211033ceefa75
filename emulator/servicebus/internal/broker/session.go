package broker

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Session is a group of messages with one owner at a time and a state of its own.
type Session struct {
	ID          string
	State       []byte // nil = none
	LockedUntil time.Time

	owner    Owner
	ready    lane
	messages int // in the entity, in any state but Scheduled
}

// Owner is the receiver that holds the session, nil if none does.
func (s *Session) Owner() Owner { return s.owner }

// session is the session of an id, made if it is new.
func (q *Queue) session(id string) *Session {
	s := q.sessions[id]
	if s == nil {
		s = &Session{ID: id}
		q.sessions[id] = s
	}
	return s
}

// tidy forgets a session that has nothing left to remember.
func (q *Queue) tidy(s *Session) {
	if s.owner == nil && s.messages == 0 && s.State == nil {
		delete(q.sessions, s.ID)
	}
}

func (q *Queue) orderedSessions() []*Session {
	all := make([]*Session, 0, len(q.sessions))
	for _, s := range q.sessions {
		all = append(all, s)
	}
	slices.SortFunc(all, func(a, b *Session) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// AcceptNext locks the free session whose first ready message is the oldest. It fails with ErrNoSession.
func (q *Queue) AcceptNext(now time.Time, owner Owner) (*Session, error) {
	var best *Session
	for _, s := range q.sessions {
		m := s.ready.first()
		if s.owner == nil && m != nil && (best == nil || m.Sequence < best.ready.first().Sequence) {
			best = s
		}
	}
	if best == nil {
		return nil, fmt.Errorf("%s: %w", q.name, ErrNoSession)
	}
	q.hold(now, best, owner)
	return best, nil
}

// Accept locks a session by id, whether it has messages or not. It fails with ErrSessionHeld.
func (q *Queue) Accept(now time.Time, id string, owner Owner) (*Session, error) {
	s := q.session(id)
	if s.owner != nil {
		return nil, fmt.Errorf("%s: session %q: %w", q.name, id, ErrSessionHeld)
	}
	q.hold(now, s, owner)
	return s, nil
}

func (q *Queue) hold(now time.Time, s *Session, owner Owner) {
	s.owner = owner
	s.LockedUntil = now.Add(q.cfg.LockDuration)
	q.deadlineAt(s.LockedUntil, nil, s)
	q.Touch()
}

// CloseSession ends owner's lock: its messages go back in order, uncounted (Azure: "Message sessions", impact of
// delivery count).
func (q *Queue) CloseSession(now time.Time, s *Session, owner Owner) {
	if s.owner != owner {
		return
	}
	q.endSession(now, s, false)
}

func (q *Queue) endSession(now time.Time, s *Session, counted bool) {
	s.owner = nil
	s.LockedUntil = time.Time{}
	for _, m := range q.lockedWhere(func(m *Message) bool { return m.session == s }) {
		q.giveBack(now, m, counted)
	}
	q.tidy(s)
	q.Touch()
}

// sessionDue ends a session lock that has expired.
func (q *Queue) sessionDue(now time.Time, s *Session) {
	if s.owner == nil || s.LockedUntil.After(now) {
		return
	}
	owner := s.owner
	q.endSession(now, s, true)
	q.broker.OnSessionLost(owner, s)
}

// RenewSession extends the lock of a session and of its messages. It fails with ErrSessionLockLost.
func (q *Queue) RenewSession(now time.Time, id string) (time.Time, error) {
	s, err := q.held(id)
	if err != nil {
		return time.Time{}, err
	}
	s.LockedUntil = now.Add(q.cfg.LockDuration)
	q.deadlineAt(s.LockedUntil, nil, s)
	for _, m := range q.locked {
		if m.session == s {
			m.LockedUntil = s.LockedUntil
		}
	}
	return s.LockedUntil, nil
}

func (q *Queue) held(id string) (*Session, error) {
	s := q.sessions[id]
	if s == nil || s.owner == nil {
		return nil, fmt.Errorf("%s: session %q: %w", q.name, id, ErrSessionLockLost)
	}
	return s, nil
}

// SessionState is the state of a held session, nil if it has none.
func (q *Queue) SessionState(id string) ([]byte, error) {
	s, err := q.held(id)
	if err != nil {
		return nil, err
	}
	return s.State, nil
}

// SetSessionState replaces the state of a held session; nil clears it.
func (q *Queue) SetSessionState(id string, state []byte) error {
	s, err := q.held(id)
	if err != nil {
		return err
	}
	s.State = state
	return nil
}

// Sessions are the ids of the sessions that have messages or state, sorted.
func (q *Queue) Sessions() []string {
	var ids []string
	for _, s := range q.orderedSessions() {
		if s.messages > 0 || s.State != nil {
			ids = append(ids, s.ID)
		}
	}
	return ids
}
