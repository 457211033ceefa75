package broker

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// epoch is when every test begins.
func epoch() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) }

func newMessage(id, session string) *Message {
	c := &amqp.Message{}
	c.SetProperty(amqp.PropMessageID, id)
	if session != "" {
		c.SetProperty(amqp.PropGroupID, session)
	}
	return &Message{Content: c}
}

func enqueue(t interface{ Fatal(...any) }, q *Queue, now time.Time, m ...*Message) []int64 {
	sequences, err := q.Enqueue(now, m)
	if err != nil {
		t.Fatal(err)
	}
	return sequences
}

// TestLane compares a lane with a sorted slice.
func TestLane(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var l lane
		var model []*Message
		var next int64
		t.Repeat(map[string]func(*rapid.T){
			"append": func(*rapid.T) {
				next += 2
				m := &Message{Sequence: next}
				l.insert(m)
				model = append(model, m)
			},
			"remove and put back": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				n := rapid.IntRange(1, len(model)).Draw(t, "n")
				taken := slices.Clone(model[:n])
				for _, m := range taken {
					l.remove(m)
				}
				for _, i := range rapid.Permutation(seq(n)).Draw(t, "order") {
					l.insert(taken[i])
				}
			},
			"remove": func(t *rapid.T) {
				if len(model) == 0 {
					return
				}
				i := rapid.IntRange(0, len(model)-1).Draw(t, "i")
				l.remove(model[i])
				model = slices.Delete(model, i, i+1)
			},
			"": func(t *rapid.T) {
				if !slices.Equal(l.items[l.head:], model) {
					t.Fatalf("%d items, want %d", len(l.items)-l.head, len(model))
				}
			},
		})
	})
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

// TestConservation does random things to a queue and checks that every message is always in exactly one place.
func TestConservation(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := New(1)
		q := b.AddQueue("q", Config{MaxDeliveryCount: 3, LockDuration: 10 * time.Second, RequiresSession: rapid.Bool().Draw(t, "sessions")})
		now, sent, cancelled := epoch(), 0, 0
		anyLocked := func(t *rapid.T) (amqp.UUID, bool) {
			all := q.lockedWhere(func(*Message) bool { return true })
			if len(all) == 0 {
				return amqp.UUID{}, false
			}
			return rapid.SampledFrom(all).Draw(t, "message").LockToken, true
		}
		t.Repeat(map[string]func(*rapid.T){
			"send": func(t *rapid.T) {
				m := newMessage(fmt.Sprint(sent), rapid.SampledFrom([]string{"a", "b"}).Draw(t, "session"))
				m.ScheduledAt = now.Add(time.Duration(rapid.IntRange(-5, 20).Draw(t, "schedule")) * time.Second)
				enqueue(t, q, now, m)
				sent++
			},
			"take": func(t *rapid.T) {
				var s *Session
				if q.RequiresSession() {
					var err error
					if s, err = q.Accept(now, rapid.SampledFrom([]string{"a", "b"}).Draw(t, "session"), "me"); err != nil {
						s = q.sessions["a"]
					}
				}
				if s != nil || !q.RequiresSession() {
					q.Take(now, "me", s, false)
				}
			},
			"close": func(*rapid.T) {
				for _, s := range q.orderedSessions() {
					q.CloseSession(now, s, "me")
				}
			},
			"settle": func(t *rapid.T) {
				token, ok := anyLocked(t)
				if !ok {
					return
				}
				settle := rapid.SampledFrom([]func() error{
					func() error { return q.Complete(now, token) },
					func() error { return q.Abandon(now, token, nil) },
					func() error { return q.Release(now, token) },
					func() error { return q.Defer(now, token, nil) },
					func() error { return q.DeadLetter(now, token, "r", "d", nil) },
				}).Draw(t, "how")
				if err := settle(); err != nil {
					t.Fatal(err)
				}
				if err := settle(); !errors.Is(err, ErrLockLost) {
					t.Fatalf("settled twice: %v", err)
				}
			},
			"cancel": func(*rapid.T) {
				for _, m := range q.Snapshot() {
					if m.State == Scheduled {
						cancelled++
						if err := q.Cancel(now, []int64{m.Sequence}); err != nil {
							t.Fatal(err)
						}
						return
					}
				}
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(0, 15).Draw(t, "seconds")) * time.Second)
				b.Advance(now)
			},
			"": func(t *rapid.T) {
				c := q.Counts()
				here := c.Active + c.Scheduled + c.Locked + c.Deferred
				if here != len(q.messages) || here+c.DeadLettered+c.Completed+cancelled != sent || c.Locked != len(q.locked) {
					t.Fatalf("%d sent, %d cancelled, counts %+v, %d messages", sent, cancelled, c, len(q.messages))
				}
				ready := len(q.ready.items) - q.ready.head
				for _, s := range q.sessions {
					ready += len(s.ready.items) - s.ready.head
				}
				if ready != c.Active {
					t.Fatalf("%d ready in lanes, %d counted", ready, c.Active)
				}
				if at, ok := b.Next(); ok && !at.After(now.Add(-time.Nanosecond)) {
					b.Advance(now)
				}
			},
		})
	})
}

// TestDeadlinesDoNotPileUp: a fast consumer sets a deadline for each lock and never needs it.
func TestDeadlinesDoNotPileUp(t *testing.T) {
	q := New(1).AddQueue("q", Config{})
	for i := range 10000 {
		enqueue(t, q, epoch(), newMessage(fmt.Sprint(i), ""))
		m := q.Take(epoch(), "me", nil, false)
		if err := q.Complete(epoch(), m.LockToken); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(q.deadlines); n > 2000 {
		t.Errorf("%d deadlines", n)
	}
}

// TestExpiryWaitsForTheLock: a message whose time to live passes while it is locked can still be completed.
func TestExpiryWaitsForTheLock(t *testing.T) {
	b := New(1)
	q := b.AddQueue("q", Config{DefaultTTL: time.Second, DeadLetterOnExpiration: true})
	enqueue(t, q, epoch(), newMessage("1", ""), newMessage("2", ""))
	first, second := q.Take(epoch(), "me", nil, false), q.Take(epoch(), "me", nil, false)
	later := epoch().Add(2 * time.Second)
	b.Advance(later)
	if err := q.Complete(later, first.LockToken); err != nil {
		t.Error(err)
	}
	if err := q.Abandon(later, second.LockToken, nil); err != nil {
		t.Error(err)
	}
	if c := q.Counts(); c.DeadLettered != 1 || c.Active != 0 {
		t.Errorf("counts %+v", c)
	}
}

// TestCancelOfSome cancels what is there although one is not.
func TestCancelOfSome(t *testing.T) {
	q := New(1).AddQueue("q", Config{})
	m := newMessage("1", "")
	m.ScheduledAt = epoch().Add(time.Hour)
	sequences := enqueue(t, q, epoch(), m)
	if err := q.Cancel(epoch(), append(sequences, 99)); !errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
	if c := q.Counts(); c.Scheduled != 0 {
		t.Errorf("counts %+v", c)
	}
}

// TestSameSeedSameTokens: runs can be repeated.
func TestSameSeedSameTokens(t *testing.T) {
	if a, b := New(7).uuid(), New(7).uuid(); a != b || a == New(8).uuid() {
		t.Errorf("%s %s", a, b)
	}
}
