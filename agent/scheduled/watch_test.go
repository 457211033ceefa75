package scheduled_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/agent/scheduled"
	"github.com/pointsman/pointsman/emulator/metadata"
	"github.com/pointsman/pointsman/shared/event"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait; it is met only by a test that fails.
const patience = 30 * time.Second

// eventually waits until something holds.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(patience); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

// TestAnEventOnTheWire: the whole life of an event, over HTTP, with a service that is slow at first and fails in between.
func TestAnEventOnTheWire(t *testing.T) {
	service, err := metadata.Start(metadata.Config{VM: "vm-a"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = service.Close() }()
	service.FailNext(2, 500) // of the name
	w := scheduled.New(scheduled.Settings{
		Config: scheduled.Config{Lead: time.Minute, Settle: 50 * time.Millisecond, Approve: true}, URL: service.URL() + "/", Every: 10 * time.Millisecond,
	}, slog.New(slog.DiscardHandler))
	told := make(chan event.Report, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx, func(r event.Report) { told <- r }) }()
	until := func(what, prefix string) event.Report {
		t.Helper()
		select {
		case r := <-told:
			if !strings.HasPrefix(r.Drain, prefix) || prefix == "" && r.Drain != "" {
				t.Fatalf("%s: told %+v, want %q", what, r, prefix)
			}
			return r
		case <-time.After(patience):
			t.Fatalf("%s: nothing told within %s", what, patience)
			return event.Report{}
		}
	}
	eventually(t, "it polls", func() bool { return service.Requests() > 5 })
	eventually(t, "no trouble", func() bool { return w.Trouble() == "" })

	service.Hold(true)
	id := service.Announce("Reboot", time.Now().Add(15*time.Minute))
	service.Announce("Reboot", time.Now(), "vm-b")
	service.Hold(false)
	r := until("announced", "Azure will Reboot this VM at ")
	if e := service.Events(); e[0].Approved {
		t.Error("approved before anybody knows of the drain")
	}
	w.Accepted(event.Report{}) // of an earlier report
	w.Accepted(r)
	until("approved, so it starts", "Azure is going through with Reboot of this VM")
	if e := service.Events(); e[1].Approved {
		t.Error("the event of another VM was approved")
	}

	service.FailNext(3, 503)
	eventually(t, "trouble is told", func() bool { return strings.Contains(w.Trouble(), "503") })
	eventually(t, "and its end", func() bool { return w.Trouble() == "" })
	service.Complete(id)
	until("over", "Azure is done with this VM")
	until("settled", "")
	cancel()
	if err = <-ended; err != nil {
		t.Error(err)
	}
	if len(told) > 0 {
		t.Errorf("told %+v at the end", <-told)
	}
}
