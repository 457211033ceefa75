package servicebus_test

import (
	"fmt"
	"slices"
	"testing"
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
	bubble(t, oneQueue(servicebus.QueueConfig{}), func(t *testing.T, s *servicebus.Server, c *azservicebus.Client) {
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
	bubble(t, oneQueue(servicebus.QueueConfig{}), func(t *testing.T, _ *servicebus.Server, c *azservicebus.Client) {
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
	bubble(t, oneQueue(servicebus.QueueConfig{MaxDeliveryCount: 2}), func(t *testing.T, s *servicebus.Server, c *azservicebus.Client) {
		send(t, c, "q", message("a"), message("b"))
		r := receiver(t, c, "q", nil)
		got := receive(t, r, 2)
		err := r.DeadLetterMessage(t.Context(), got[1], &azservicebus.DeadLetterOptions{Reason: ptr("why"), ErrorDescription: ptr("because")})
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
	bubble(t, oneQueue(servicebus.QueueConfig{}), func(t *testing.T, s *servicebus.Server, c *azservicebus.Client) {
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		start := time.Now()
		seqs, err := sender.ScheduleMessages(t.Context(), []*azservicebus.Message{message("in 10"), message("never")}, start.Add(10*time.Second), nil)
		if err != nil || len(seqs) != 2 {
			t.Fatal(seqs, err)
		}
		later := message("in 20")
		later.ScheduledEnqueueTime = ptr(start.Add(20 * time.Second))
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
