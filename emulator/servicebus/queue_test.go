package servicebus_test

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

func oneQueue(q servicebus.QueueConfig) servicebus.Config {
	if q.Name == "" {
		q.Name = "q"
	}
	return servicebus.Config{Queues: []servicebus.QueueConfig{q}}
}

func TestSendReceiveComplete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		id := "m1"
		send(t, c, "q", &azservicebus.Message{Body: []byte("one"), MessageID: &id}, message("two"))
		r := receiver(t, c, "q", nil)
		got := receive(t, r, 2)
		if b := bodies(got); !slices.Equal(b, []string{"one", "two"}) || got[0].MessageID != "m1" || got[1].MessageID == "" {
			t.Errorf("received %q, ids %q %q", b, got[0].MessageID, got[1].MessageID)
		}
		if got[0].DeliveryCount != 1 || *got[0].SequenceNumber != 1 || got[0].LockedUntil.IsZero() {
			t.Errorf("delivery count %d, sequence %d, locked until %s", got[0].DeliveryCount, *got[0].SequenceNumber, got[0].LockedUntil)
		}
		for _, m := range got {
			if err := r.CompleteMessage(t.Context(), m, nil); err != nil {
				t.Fatal(err)
			}
		}
		if stats, _ := s.Queue("q"); stats != (servicebus.QueueStats{Enqueued: 2, Completed: 2}) {
			t.Errorf("stats %+v", stats)
		}
	})
}

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, oneQueue(servicebus.QueueConfig{}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		batch := must[*azservicebus.MessageBatch](t)(sender.NewMessageBatch(t.Context(), nil))
		var want []string
		for i := range 100 {
			body := fmt.Sprintf("%04d %01000d", i, 0) // several frames
			want = append(want, body)
			if err := batch.AddMessage(message(body), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := sender.SendMessageBatch(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
		if got := bodies(receive(t, receiver(t, c, "q", nil), 100)); !slices.Equal(got, want) {
			t.Errorf("received %d messages, not the ones sent", len(got))
		}
	})
}

func TestAbandonAndDeadLetter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{MaxDeliveryCount: 2}))
		send(t, c, "q", message("a"), message("b"))
		r := receiver(t, c, "q", nil)
		got := receive(t, r, 2)
		err := r.DeadLetterMessage(t.Context(), got[1], &azservicebus.DeadLetterOptions{Reason: new("why"), ErrorDescription: new("because")})
		if err != nil {
			t.Fatal(err)
		}
		for want := uint32(1); want <= 2; want++ {
			if got[0].DeliveryCount != want {
				t.Errorf("delivery count %d, want %d", got[0].DeliveryCount, want)
			}
			err = r.AbandonMessage(t.Context(), got[0], &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"n": int64(want)}})
			if err != nil {
				t.Fatal(err)
			}
			if want == 1 {
				got = receive(t, r, 1)
			}
		}
		dead := receive(t, receiver(t, c, "q", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}), 2)
		if *dead[0].DeadLetterReason != "why" || *dead[0].DeadLetterErrorDescription != "because" || *dead[0].DeadLetterSource != "q" {
			t.Errorf("explicit: %+v", dead[0])
		}
		if *dead[1].DeadLetterReason != "MaxDeliveryCountExceeded" || dead[1].ApplicationProperties["n"] != int64(2) {
			t.Errorf("by count: %+v", dead[1])
		}
		if stats, _ := s.Queue("q"); stats.DeadLettered != 2 || stats.Active != 0 {
			t.Errorf("stats %+v", stats)
		}
	})
}

func TestScheduleAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		start := time.Now()
		seqs, err := sender.ScheduleMessages(t.Context(), []*azservicebus.Message{message("in 10"), message("never")}, start.Add(10*time.Second), nil)
		if err != nil || len(seqs) != 2 {
			t.Fatal(seqs, err)
		}
		later := message("in 20")
		later.ScheduledEnqueueTime = new(start.Add(20 * time.Second))
		send(t, c, "q", later)
		if stats, _ := s.Queue("q"); stats.Scheduled != 3 || stats.Active != 0 {
			t.Errorf("stats %+v", stats)
		}
		r := receiver(t, c, "q", nil)
		peeked := must[[]*azservicebus.ReceivedMessage](t)(r.PeekMessages(t.Context(), 10, nil))
		if len(peeked) != 3 || peeked[0].State != azservicebus.MessageStateScheduled {
			t.Errorf("peeked %+v", peeked)
		}
		if err = sender.CancelScheduledMessages(t.Context(), seqs[1:], nil); err != nil {
			t.Fatal(err)
		}
		err = sender.CancelScheduledMessages(t.Context(), seqs[1:], nil)
		if !hasCode(err, azservicebus.CodeNotFound) {
			t.Errorf("second cancel: %v", err)
		}
		for i, want := range []time.Duration{10 * time.Second, 20 * time.Second} {
			m := receive(t, r, 1)[0]
			if since := time.Since(start); since < want || since > want+time.Second {
				t.Errorf("message %q came after %s", m.Body, since)
			}
			if i == 0 && *m.SequenceNumber == seqs[0] {
				t.Error("the sequence number did not change at activation")
			}
		}
	})
}

func TestDuplicateDetection(t *testing.T) {
	cfg := oneQueue(servicebus.QueueConfig{DuplicateWindow: time.Minute})
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, cfg)
		same := func(body string) *azservicebus.Message {
			return &azservicebus.Message{MessageID: new("same"), Body: []byte(body)}
		}
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		batch := must[*azservicebus.MessageBatch](t)(sender.NewMessageBatch(t.Context(), nil))
		for _, body := range []string{"first", "in one batch"} {
			if err := batch.AddMessage(same(body), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := sender.SendMessageBatch(t.Context(), batch, nil); err != nil {
			t.Fatal(err)
		}
		r := receiver(t, c, "q", nil)
		if err := r.CompleteMessage(t.Context(), receive(t, r, 1)[0], nil); err != nil {
			t.Fatal(err)
		}
		send(t, c, "q", same("after complete"))
		if _, err := sender.ScheduleMessages(t.Context(), []*azservicebus.Message{same("scheduled")}, time.Now().Add(time.Second), nil); err != nil {
			t.Fatal(err)
		}
		if stats, _ := s.Queue("q"); stats != (servicebus.QueueStats{Enqueued: 1, Completed: 1, Duplicates: 3}) {
			t.Errorf("stats %+v", stats)
		}
		time.Sleep(time.Minute)
		send(t, c, "q", same("after the window"))
		if b := bodies(receive(t, r, 1)); b[0] != "after the window" {
			t.Errorf("received %q", b)
		}
	})
}

func TestMessageLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, oneQueue(servicebus.QueueConfig{MaxDeliveryCount: 2}))
		send(t, c, "q", message("x"))
		r := receiver(t, c, "q", nil)
		m := receive(t, r, 1)[0]
		for range 3 { // renewing keeps it
			time.Sleep(50 * time.Second)
			if err := r.RenewMessageLock(t.Context(), m, nil); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(61 * time.Second)
		if err := r.CompleteMessage(t.Context(), m, nil); !hasCode(err, azservicebus.CodeLockLost) {
			t.Errorf("complete: %v", err)
		}
		if err := r.RenewMessageLock(t.Context(), m, nil); !hasCode(err, azservicebus.CodeLockLost) {
			t.Errorf("renew: %v", err)
		}
		if m = receive(t, r, 1)[0]; m.DeliveryCount != 2 {
			t.Errorf("delivery count %d, want 2", m.DeliveryCount)
		}
		time.Sleep(61 * time.Second) // the second failed delivery is the last
		dead := receive(t, receiver(t, c, "q", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}), 1)
		if *dead[0].DeadLetterReason != "MaxDeliveryCountExceeded" {
			t.Errorf("reason %q", *dead[0].DeadLetterReason)
		}
	})
}

func TestTimeToLive(t *testing.T) {
	cfg := oneQueue(servicebus.QueueConfig{DeadLetterOnExpiration: true, DefaultTTL: time.Hour})
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, cfg)
		short := message("short")
		short.TimeToLive = new(10 * time.Second)
		send(t, c, "q", short, message("default"))
		time.Sleep(10 * time.Second)
		if stats, _ := s.Queue("q"); stats.Active != 1 || stats.DeadLettered != 1 {
			t.Errorf("after 10 s: %+v", stats)
		}
		time.Sleep(time.Hour)
		dead := s.Peek("q/$DeadLetterQueue")
		if len(dead) != 2 || string(dead[0].Body) != "short" || dead[1].DeadLetterReason != "TTLExpiredException" {
			t.Errorf("dead letters %+v", dead)
		}
	})
}

func TestDefer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		send(t, c, "q", message("x"))
		r := receiver(t, c, "q", nil)
		m := receive(t, r, 1)[0]
		err := r.DeferMessage(t.Context(), m, &azservicebus.DeferMessageOptions{PropertiesToModify: map[string]any{"k": int32(7)}})
		if err != nil {
			t.Fatal(err)
		}
		if stats, _ := s.Queue("q"); stats.Deferred != 1 {
			t.Errorf("stats %+v", stats)
		}
		got, err := r.ReceiveDeferredMessages(t.Context(), []int64{*m.SequenceNumber}, nil)
		if err != nil || len(got) != 1 || got[0].State != azservicebus.MessageStateDeferred || got[0].ApplicationProperties["k"] != int32(7) {
			t.Fatalf("%+v, %v", got, err)
		}
		if err = r.CompleteMessage(t.Context(), got[0], nil); err != nil {
			t.Fatal(err)
		}
		_, err = r.ReceiveDeferredMessages(t.Context(), []int64{*m.SequenceNumber}, nil)
		if !hasCode(err, azservicebus.CodeNotFound) {
			t.Errorf("receive again: %v", err)
		}
	})
}

func TestReceiveAndDelete(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		send(t, c, "q", message("x"), message("y"))
		r := receiver(t, c, "q", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		if b := bodies(receive(t, r, 2)); !slices.Equal(b, []string{"x", "y"}) {
			t.Errorf("received %q", b)
		}
		if stats, _ := s.Queue("q"); stats != (servicebus.QueueStats{Enqueued: 2, Completed: 2}) {
			t.Errorf("stats %+v", stats)
		}
	})
}

// TestReleasedIsNotCounted relies on the client giving back what arrives on credit that a short receive left over.
func TestReleasedIsNotCounted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		send(t, c, "q", message("1"))
		r := receiver(t, c, "q", nil)
		got, err := r.ReceiveMessages(t.Context(), 10, nil) // leaves a credit of 9
		if err != nil || len(got) != 1 {
			t.Fatal(got, err)
		}
		send(t, c, "q", message("2"))
		time.Sleep(time.Second)
		if m := receive(t, r, 1)[0]; string(m.Body) != "2" || m.DeliveryCount != 1 {
			t.Errorf("%q delivered %d times", m.Body, m.DeliveryCount)
		}
		if n := len(s.Peek("q")); n != 2 {
			t.Errorf("%d messages", n)
		}
	})
}

func TestDropLockOnDetach(t *testing.T) {
	for _, drop := range []bool{false, true} {
		cfg := oneQueue(servicebus.QueueConfig{})
		cfg.DropLockOnDetach = drop
		synctest.Test(t, func(t *testing.T) {
			_, c := start(t, cfg)
			send(t, c, "q", message("x"))
			r := receiver(t, c, "q", nil)
			receive(t, r, 1)
			_ = r.Close(t.Context())
			start := time.Now()
			m := receive(t, receiver(t, c, "q", nil), 1)[0]
			if waited := time.Since(start) > 59*time.Second; waited == drop || drop != (m.DeliveryCount == 1) {
				t.Errorf("drop %t: waited %s, delivery count %d", drop, time.Since(start), m.DeliveryCount)
			}
		})
	}
}

func TestFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{MaxSizeMessages: 2}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		batch := must[*azservicebus.MessageBatch](t)(sender.NewMessageBatch(t.Context(), nil))
		for range 3 {
			if err := batch.AddMessage(message("x"), nil); err != nil {
				t.Fatal(err)
			}
		}
		if err := sender.SendMessageBatch(t.Context(), batch, nil); !isAMQP(err, "amqp:resource-limit-exceeded") {
			t.Errorf("three into two: %v", err)
		}
		if n := len(s.Peek("q")); n != 0 {
			t.Errorf("%d messages of a refused batch were stored", n)
		}
		send(t, c, "q", message("1"), message("2"))
	})
}

func TestTopic(t *testing.T) {
	cfg := servicebus.Config{Topics: []servicebus.TopicConfig{{Name: "T", Subscriptions: []servicebus.QueueConfig{{Name: "a"}, {Name: "b"}}}}}
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, cfg)
		later := message("later")
		later.ScheduledEnqueueTime = new(time.Now().Add(30 * time.Second))
		send(t, c, "t", later, message("now")) // names are case-insensitive
		for _, sub := range []string{"a", "b"} {
			r := must[*azservicebus.Receiver](t)(c.NewReceiverForSubscription("T", sub, nil))
			if b := bodies(receive(t, r, 2)); !slices.Equal(b, []string{"now", "later"}) {
				t.Errorf("%s received %q", sub, b)
			}
		}
		if stats, ok := s.Queue("T/Subscriptions/b"); !ok || stats.Enqueued != 2 {
			t.Errorf("stats %+v", stats)
		}
	})
}

// TestPropertiesKeepTheirTypes takes every property type through a send, an abandon that adds one, and the dead-letter
// queue.
func TestPropertiesKeepTheirTypes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, oneQueue(servicebus.QueueConfig{}))
		want := map[string]any{
			"bool": true, "u8": uint8(1), "u16": uint16(2), "u32": uint32(3), "u64": uint64(4), "i8": int8(-1), "i16": int16(-2),
			"i32": int32(-3), "i64": int64(-4), "f32": float32(1.5), "f64": 2.5, "string": "s", "binary": []byte{1},
			"time": time.UnixMilli(1700000000123).UTC(), "null": nil,
		}
		m := message("x")
		m.ApplicationProperties = want
		send(t, c, "q", m)
		r := receiver(t, c, "q", nil)
		if err := r.AbandonMessage(t.Context(), receive(t, r, 1)[0], &azservicebus.AbandonMessageOptions{PropertiesToModify: map[string]any{"added": int64(9)}}); err != nil {
			t.Fatal(err)
		}
		if err := r.DeadLetterMessage(t.Context(), receive(t, r, 1)[0], nil); err != nil {
			t.Fatal(err)
		}
		got := receive(t, receiver(t, c, "q", &azservicebus.ReceiverOptions{SubQueue: azservicebus.SubQueueDeadLetter}), 1)[0]
		want["added"] = int64(9)
		for k, v := range want {
			if g := got.ApplicationProperties[k]; fmt.Sprintf("%T %v", g, g) != fmt.Sprintf("%T %v", v, v) {
				t.Errorf("%s is %T %v, want %T %v", k, g, g, v, v)
			}
		}
	})
}
