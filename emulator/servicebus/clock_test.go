package servicebus_test

import (
	"context"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

// TestInjectedClock moves a clock of its own over a schedule.
func TestInjectedClock(t *testing.T) {
	var ahead atomic.Int64
	cfg := oneQueue(servicebus.QueueConfig{})
	cfg.Now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, cfg)
		m := message("x")
		m.ScheduledEnqueueTime = new(time.Now().Add(time.Hour))
		send(t, c, "q", m)
		s.Tick()
		if stats, _ := s.Queue("q"); stats.Scheduled != 1 {
			t.Errorf("before: %+v", stats)
		}
		ahead.Store(int64(time.Hour))
		s.Tick()
		if stats, _ := s.Queue("q"); stats.Active != 1 {
			t.Errorf("after: %+v", stats)
		}
	})
}

// TestExpiredTokenCutsLinks uses a signature that the client cannot renew.
func TestExpiredTokenCutsLinks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := oneQueue(servicebus.QueueConfig{})
		s, c := start(t, cfg)
		sas := servicebus.Sign("sb://localhost/q", servicebus.Key{Name: "RootManageSharedAccessKey", Value: "SAS_KEY_VALUE"}, time.Now().Add(time.Minute))
		connection := s.ConnectionString("")
		connection = connection[:strings.Index(connection, "SharedAccessKeyName")] + "SharedAccessSignature=" + sas + ";UseDevelopmentEmulator=true"
		short := dialWith(t, s, connection)
		t.Cleanup(func() { _ = short.Close(context.Background()) })
		r := receiver(t, short, "q", nil)
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		if err := sender.SendMessage(t.Context(), message("in time"), nil); err != nil {
			t.Fatal(err)
		}
		receive(t, r, 1)
		time.Sleep(2 * time.Minute)
		if _, err := r.ReceiveMessages(t.Context(), 1, nil); !hasCode(err, azservicebus.CodeUnauthorizedAccess) {
			t.Errorf("after the token expired: %v", err)
		}
		if err := sender.SendMessage(t.Context(), message("the other"), nil); err != nil {
			t.Errorf("the other client: %v", err)
		}
	})
}

// TestLargeMessage needs several frames both ways, and more than a client's window of messages.
func TestLargeMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := start(t, oneQueue(servicebus.QueueConfig{}))
		body := strings.Repeat("0123456789", 25000)
		send(t, c, "q", message(body))
		if got := receive(t, receiver(t, c, "q", nil), 1); string(got[0].Body) != body {
			t.Errorf("received %d bytes", len(got[0].Body))
		}
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		if err := sender.SendMessage(t.Context(), message(body+body), nil); err == nil {
			t.Error("a message over the limit was sent")
		}
	})
}

// TestManyMessages is more than any window or credit in both directions.
func TestManyMessages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		const total = 6000
		for range total {
			if err := sender.SendMessage(t.Context(), message("x"), nil); err != nil {
				t.Fatal(err)
			}
		}
		r := receiver(t, c, "q", &azservicebus.ReceiverOptions{ReceiveMode: azservicebus.ReceiveModeReceiveAndDelete})
		receive(t, r, total)
		if stats, _ := s.Queue("q"); stats.Completed != total {
			t.Errorf("stats %+v", stats)
		}
	})
}
