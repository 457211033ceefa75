package servicebus_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

func TestOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		r := receiver(t, c, "q", nil)
		if err := sender.SendMessage(t.Context(), message("before"), nil); err != nil {
			t.Fatal(err)
		}
		locked := receive(t, r, 1)[0]
		s.Faults().Outage(true)
		if err := sender.SendMessage(t.Context(), message("during"), nil); err == nil {
			t.Error("sent during the outage")
		}
		s.Faults().Outage(false)
		if err := sender.SendMessage(t.Context(), message("after"), nil); err != nil {
			t.Errorf("send after the outage: %v", err)
		}
		if err := r.CompleteMessage(t.Context(), locked, nil); err != nil {
			t.Logf("settling a message of the lost connection: %v", err)
		}
		got := receive(t, r, 1)
		for string(got[0].Body) != "after" {
			got = receive(t, r, 1)
		}
	})
}

func TestWithheldSendIsStoredOnce(t *testing.T) {
	cfg := oneQueue(servicebus.QueueConfig{DuplicateWindow: time.Minute})
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, cfg)
		s.Faults().WithholdSends(1)
		send(t, c, "q", &azservicebus.Message{MessageID: new("m"), Body: []byte("x")}) // the client tries again
		if stats, _ := s.Queue("q"); stats.Active != 1 || stats.Duplicates != 1 {
			t.Errorf("stats %+v", stats)
		}
	})
}

func TestDuplicateDelivery(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		s.Faults().DuplicateDelivery(1)
		send(t, c, "q", message("x"))
		if b := bodies(receive(t, receiver(t, c, "q", nil), 2)); !slices.Equal(b, []string{"x", "x"}) {
			t.Errorf("received %q", b)
		}
	})
}

func TestReorder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		s.Faults().Reorder(10 * time.Second)
		var want []string
		for i := range 20 {
			want = append(want, fmt.Sprintf("%02d", i))
			send(t, c, "q", message(want[i]))
		}
		got := bodies(receive(t, receiver(t, c, "q", nil), 20))
		if slices.IsSorted(got) {
			t.Error("not reordered")
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("received %q", got)
		}
	})
}

func TestServerBusyIsRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		s.Faults().ServerBusy(2)
		send(t, c, "q", message("x"))
		s.Faults().ServerBusy(2)
		peeked, err := receiver(t, c, "q", nil).PeekMessages(t.Context(), 2, nil)
		if err != nil || len(peeked) != 1 {
			t.Errorf("%d messages, %v", len(peeked), err)
		}
		s.Faults().ServerBusy(100)
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		if err = sender.SendMessage(t.Context(), message("y"), nil); !isAMQP(err, "com.microsoft:server-busy") {
			t.Errorf("always busy: %v", err)
		}
		s.Faults().ServerBusy(0)
	})
}

func TestFailScheduleAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		schedule := func() ([]int64, error) {
			return sender.ScheduleMessages(t.Context(), []*azservicebus.Message{message("x")}, time.Now().Add(time.Hour), nil)
		}
		s.Faults().FailSchedule(100, http.StatusInternalServerError)
		if _, err := schedule(); err == nil {
			t.Error("scheduled")
		}
		s.Faults().FailSchedule(1, http.StatusServiceUnavailable)
		seqs, err := schedule()
		if err != nil {
			t.Fatalf("one 503: %v", err)
		}
		s.Faults().FailCancel(1, http.StatusNotFound)
		if err = sender.CancelScheduledMessages(t.Context(), seqs, nil); !hasCode(err, azservicebus.CodeNotFound) {
			t.Errorf("cancel: %v", err)
		}
		if stats, _ := s.Queue("q"); stats.Scheduled != 1 {
			t.Errorf("stats %+v", stats)
		}
		if err = sender.CancelScheduledMessages(t.Context(), seqs, nil); err != nil {
			t.Error(err)
		}
	})
}

func TestDelays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		s.Faults().DelaySends(5 * time.Second)
		s.Faults().DelayDispositions(7 * time.Second)
		start := time.Now()
		send(t, c, "q", message("x"))
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("send took %s", d)
		}
		r := receiver(t, c, "q", nil)
		m := receive(t, r, 1)[0]
		start = time.Now()
		if err := r.CompleteMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
		if d := time.Since(start); d != 7*time.Second {
			t.Errorf("complete took %s", d)
		}
	})
}

func TestExpireLocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		send(t, c, "q", message("x"))
		r := receiver(t, c, "q", nil)
		m := receive(t, r, 1)[0]
		s.Faults().ExpireLocks()
		if err := r.CompleteMessage(t.Context(), m, nil); !hasCode(err, azservicebus.CodeLockLost) {
			t.Errorf("complete: %v", err)
		}
		if m = receive(t, r, 1)[0]; m.DeliveryCount != 2 {
			t.Errorf("delivery count %d", m.DeliveryCount)
		}
	})
}

func TestForcedEndsAreRecovered(t *testing.T) {
	faults := map[string]func(*servicebus.Faults){
		"detach": func(f *servicebus.Faults) { f.DetachLinks("q") },
		"close":  (*servicebus.Faults).CloseConnections,
		"drop":   (*servicebus.Faults).DropConnections,
	}
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := start(t, oneQueue(servicebus.QueueConfig{}))
				sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
				r := receiver(t, c, "q", nil)
				for _, body := range []string{"1", "2", "3"} {
					if err := sender.SendMessage(t.Context(), message(body), nil); err != nil {
						t.Fatalf("send %s: %v", body, err)
					}
					m := receive(t, r, 1)[0]
					if err := r.CompleteMessage(t.Context(), m, nil); err != nil || string(m.Body) != body {
						t.Fatalf("complete %s: %v", body, err)
					}
					fault(s.Faults())
					synctest.Wait()
				}
			})
		})
	}
}

func TestReceiveSurvivesDrop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		time.AfterFunc(10*time.Second, s.Faults().DropConnections)
		other := dial(t, s)
		defer func() { _ = other.Close(context.Background()) }()
		time.AfterFunc(20*time.Second, func() {
			sender, _ := other.NewSender("q", nil)
			_ = sender.SendMessage(context.Background(), message("x"), nil)
		})
		if b := bodies(receive(t, receiver(t, c, "q", nil), 1)); b[0] != "x" {
			t.Errorf("received %q", b)
		}
	})
}

func TestObserve(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{MaxDeliveryCount: 1}))
		var mu sync.Mutex
		var got []string
		s.Observe(func(e servicebus.Event) {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, e.Kind.String()+" "+e.MessageID)
		})
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		msg := func(id string) []*azservicebus.Message { return []*azservicebus.Message{{MessageID: &id}} }
		at := time.Now().Add(time.Minute)
		seqs := must[[]int64](t)(sender.ScheduleMessages(t.Context(), msg("a"), at, nil))
		if err := sender.CancelScheduledMessages(t.Context(), seqs, nil); err != nil {
			t.Fatal(err)
		}
		must[[]int64](t)(sender.ScheduleMessages(t.Context(), msg("b"), at, nil))
		r := receiver(t, c, "q", nil)
		if err := r.AbandonMessage(t.Context(), receive(t, r, 1)[0], nil); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		want := []string{"enqueued a", "cancelled a", "enqueued b", "activated b", "locked b", "abandoned b", "dead-lettered b"}
		if !slices.Equal(got, want) {
			t.Errorf("events %q", got)
		}
	})
}

// TestDisable takes a new sender afterwards: the error is final for the one that got it.
func TestDisable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, oneQueue(servicebus.QueueConfig{}))
		send(t, c, "q", message("before"))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		s.Faults().Disable("Q", true)
		if err := sender.SendMessage(t.Context(), message("during"), nil); !isAMQP(err, "com.microsoft:entity-disabled") {
			t.Errorf("disabled: %v", err)
		}
		s.Faults().Disable("Q", false)
		send(t, c, "q", message("after"))
	})
}
