package servicebus_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

func inSession(session, body string) *azservicebus.Message {
	return &azservicebus.Message{SessionID: &session, Body: []byte(body)}
}

// acceptNext waits up to a minute.
func acceptNext(t *testing.T, c *azservicebus.Client) (*azservicebus.SessionReceiver, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return c.AcceptNextSessionForQueue(ctx, "q", nil)
}

// acceptS accepts the session "s".
func acceptS(t *testing.T, c *azservicebus.Client) *azservicebus.SessionReceiver {
	t.Helper()
	return must[*azservicebus.SessionReceiver](t)(c.AcceptSessionForQueue(t.Context(), "q", "s", nil))
}

// acceptAgain tries until the client has noticed that its connection is lost: accepting is not retried by the client.
func acceptAgain(t *testing.T, c *azservicebus.Client) *azservicebus.SessionReceiver {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for {
		r, err := c.AcceptSessionForQueue(ctx, "q", "s", nil)
		if err == nil {
			return r
		}
		if ctx.Err() != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // of the bubble
	}
}

// one receives one message of a session.
func one(t *testing.T, r *azservicebus.SessionReceiver) *azservicebus.ReceivedMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	got, err := r.ReceiveMessages(ctx, 1, nil)
	if err != nil || len(got) != 1 {
		t.Fatalf("received %d messages, %v", len(got), err)
	}
	return got[0]
}

func sessionQueue() servicebus.Config { return oneQueue(servicebus.QueueConfig{RequiresSession: true}) }

func isAMQP(err error, condition amqp.ErrCond) bool {
	var l *amqp.LinkError
	var e *amqp.Error
	return errors.As(err, &l) && l.RemoteErr != nil && l.RemoteErr.Condition == condition || errors.As(err, &e) && e.Condition == condition
}

func TestAcceptNextWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, sessionQueue())
		start := time.Now()
		if _, err := acceptNext(t, c); !hasCode(err, azservicebus.CodeTimeout) || time.Since(start) > time.Minute {
			t.Errorf("no session: %v after %s", err, time.Since(start))
		}
		cancelled, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := c.AcceptNextSessionForQueue(cancelled, "q", nil)
		if err == nil {
			t.Error("accepted a session that is not there")
		}
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		time.AfterFunc(30*time.Second, func() { _ = sender.SendMessage(context.Background(), inSession("s", "x"), nil) })
		start = time.Now()
		r, err := acceptNext(t, c)
		if err != nil || r.SessionID() != "s" || time.Since(start) > 31*time.Second {
			t.Fatalf("%v after %s", err, time.Since(start))
		}
		if string(one(t, r).Body) != "x" {
			t.Error("wrong message")
		}
		_ = r.Close(t.Context())
	})
}

func TestScheduledMessageWakesAccept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, sessionQueue())
		start := time.Now()
		m := inSession("s", "x")
		m.ScheduledEnqueueTime = new(start.Add(40 * time.Second))
		send(t, c, "q", m)
		r, err := acceptNext(t, c)
		if since := time.Since(start); err != nil || since < 40*time.Second || since > 41*time.Second {
			t.Fatalf("%v after %s", err, since)
		}
		_ = r.Close(t.Context())
	})
}

func TestSessionIsExclusive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, sessionQueue())
		send(t, c, "q", inSession("a", "a1"), inSession("b", "b1"))
		a, b := must[*azservicebus.SessionReceiver](t)(acceptNext(t, c)), must[*azservicebus.SessionReceiver](t)(acceptNext(t, c))
		if a.SessionID() != "a" || b.SessionID() != "b" {
			t.Errorf("accepted %q then %q, want the oldest first", a.SessionID(), b.SessionID())
		}
		if _, err := c.AcceptSessionForQueue(t.Context(), "q", "a", nil); !isAMQP(err, "com.microsoft:session-cannot-be-locked") {
			t.Errorf("held session: %v", err)
		}
		_, _ = a.Close(t.Context()), b.Close(t.Context())
	})
}

func TestSessionOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, sessionQueue())
		for i := range 12 {
			send(t, c, "q", inSession("s", fmt.Sprintf("%02d", i)))
		}
		r := acceptS(t, c)
		var got []string
		for i := range 12 {
			m := one(t, r)
			switch i {
			case 3: // abandoned: the same again
				if err := r.AbandonMessage(t.Context(), m, nil); err != nil {
					t.Fatal(err)
				}
				if again := one(t, r); string(again.Body) != string(m.Body) || again.DeliveryCount != 2 {
					t.Errorf("%q (%d) after abandoning %q", again.Body, again.DeliveryCount, m.Body)
				} else {
					m = again
				}
			case 6: // closed without settling: the same again, not counted
				_ = r.Close(t.Context())
				r = acceptS(t, c)
				if again := one(t, r); string(again.Body) != string(m.Body) || again.DeliveryCount != 1 {
					t.Errorf("%q (%d) after closing with %q", again.Body, again.DeliveryCount, m.Body)
				} else {
					m = again
				}
			case 9: // connection lost
				s.Faults().DropConnections()
				synctest.Wait()
				_ = r.Close(t.Context())
				r = acceptAgain(t, c)
				m = one(t, r)
			}
			got = append(got, string(m.Body))
			if err := r.CompleteMessage(t.Context(), m, nil); err != nil {
				t.Fatal(err)
			}
		}
		if !slices.IsSorted(got) || len(slices.Compact(got)) != 12 {
			t.Errorf("order %q", got)
		}
		_ = r.Close(t.Context())
	})
}

func TestSessionLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, sessionQueue())
		send(t, c, "q", inSession("s", "x"))
		r := acceptS(t, c)
		m := one(t, r)
		for range 4 { // renewing keeps it
			time.Sleep(40 * time.Second)
			if err := r.RenewSessionLock(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
		}
		if stats, _ := s.Queue("q"); stats.Locked != 1 { // the client would quietly accept the session again
			t.Errorf("stats %+v", stats)
		}
		if until := time.Until(r.LockedUntil()); until < 59*time.Second {
			t.Errorf("locked for %s more", until)
		}
		time.Sleep(61 * time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := r.CompleteMessage(ctx, m, nil); err == nil {
			t.Error("completed after the session lock was lost")
		}
		_ = r.Close(t.Context())
		next := acceptS(t, c)
		if m = one(t, next); m.DeliveryCount != 2 {
			t.Errorf("delivery count %d, want 2", m.DeliveryCount)
		}
		_ = next.Close(t.Context())
	})
}

func TestSessionState(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, sessionQueue())
		for _, state := range [][]byte{[]byte("one"), []byte("two"), nil} {
			r := acceptS(t, c)
			if err := r.SetSessionState(t.Context(), state, nil); err != nil {
				t.Fatal(err)
			}
			_ = r.Close(t.Context())
			r = acceptS(t, c)
			got, err := r.GetSessionState(t.Context(), nil)
			if err != nil || string(got) != string(state) {
				t.Errorf("state %q, %v, want %q", got, err, state)
			}
			_ = r.Close(t.Context())
		}
	})
}

func TestSessionMismatch(t *testing.T) {
	cfg := servicebus.Config{Queues: []servicebus.QueueConfig{{Name: "q", RequiresSession: true}, {Name: "plain"}}}
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, cfg)
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		if err := sender.SendMessage(t.Context(), message("no session"), nil); !isAMQP(err, "amqp:not-allowed") {
			t.Errorf("send without session: %v", err)
		}
		if _, err := receiver(t, c, "q", nil).ReceiveMessages(t.Context(), 1, nil); !isAMQP(err, "amqp:not-allowed") {
			t.Errorf("plain receiver: %v", err)
		}
		if _, err := c.AcceptNextSessionForQueue(t.Context(), "plain", nil); !isAMQP(err, "amqp:not-allowed") {
			t.Errorf("session receiver on a plain queue: %v", err)
		}
	})
}

func TestSessionDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, sessionQueue())
		send(t, c, "q", inSession("s", "x"))
		r := acceptS(t, c)
		if err := r.DeadLetterMessage(t.Context(), one(t, r), nil); err != nil {
			t.Fatal(err)
		}
		_ = r.Close(t.Context())
		dead := receive(t, receiver(t, c, "q", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}), 1)
		if *dead[0].SessionID != "s" {
			t.Errorf("session %q", *dead[0].SessionID)
		}
	})
}
