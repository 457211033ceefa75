package servicebus_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

func TestKeys(t *testing.T) {
	cfg := servicebus.Config{
		Queues: []servicebus.QueueConfig{{Name: "q"}, {Name: "other"}},
		Keys: []servicebus.Key{
			{Name: "root", Value: "r", Listen: true, Send: true},
			{Name: "agent", Value: "a", Send: true, Queues: []string{"Q"}},
			{Name: "reader", Value: "b", Listen: true},
			{Name: "nothing", Value: "c"},
		},
	}
	synctest.Test(t, func(t *testing.T) {
		s, _ := start(t, cfg)
		wrong := servicebus.New(servicebus.Config{Keys: []servicebus.Key{{Name: "root", Value: "wrong"}}})
		defer func() { _ = wrong.Close() }()
		forged := wrong.ConnectionString("root")

		tests := []struct {
			key, connection, queue string
			send, receive          bool // allowed
		}{
			{key: "root", queue: "q", send: true, receive: true},
			{key: "agent", queue: "q", send: true},
			{key: "agent", queue: "other"},
			{key: "reader", queue: "q", receive: true},
			{key: "nothing", queue: "q"},
			{key: "forged", connection: forged, queue: "q"},
		}
		for _, tt := range tests {
			if tt.connection == "" {
				tt.connection = s.ConnectionString(tt.key)
			}
			c := dialWith(t, s, tt.connection)
			sender := must[*azservicebus.Sender](t)(c.NewSender(tt.queue, nil))
			_, scheduleErr := sender.ScheduleMessages(t.Context(), []*azservicebus.Message{message("x")}, time.Now(), nil)
			for what, err := range map[string]error{
				"send": sender.SendMessage(t.Context(), message("x"), nil), "schedule": scheduleErr,
			} {
				if tt.send && err != nil || !tt.send && !hasCode(err, azservicebus.CodeUnauthorizedAccess) {
					t.Errorf("%s, %s to %s: %v", tt.key, what, tt.queue, err)
				}
			}
			r := receiver(t, c, tt.queue, nil)
			_, peekErr := r.PeekMessages(t.Context(), 1, nil)
			_, receiveErr := r.ReceiveMessages(t.Context(), 1, nil)
			for what, err := range map[string]error{"receive": receiveErr, "peek": peekErr} {
				if tt.receive && err != nil || !tt.receive && !hasCode(err, azservicebus.CodeUnauthorizedAccess) {
					t.Errorf("%s, %s from %s: %v", tt.key, what, tt.queue, err)
				}
			}
			_ = c.Close(t.Context())
			s.Faults().ExpireLocks()
		}
	})
}

func TestMissingEntity(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, oneQueue(servicebus.QueueConfig{}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("nowhere", nil))
		if err := sender.SendMessage(t.Context(), message("x"), nil); !isAMQP(err, "amqp:not-found") {
			t.Errorf("send: %v", err)
		}
	})
}

// TestIdle keeps one connection, its links and its tokens over ten hours, in which keep-alives and new tokens are due.
func TestIdle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		r := receiver(t, c, "q", nil)
		for _, body := range []string{"1", "2"} {
			if err := sender.SendMessage(t.Context(), message(body), nil); err != nil {
				t.Fatal(err)
			}
			if err := r.CompleteMessage(t.Context(), receive(t, r, 1)[0], nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Hour)
		}
		if n := s.Connections(); n != 1 {
			t.Errorf("%d connections were needed, want 1", n)
		}
	})
}
