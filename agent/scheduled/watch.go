package scheduled

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/shared/event"
)

// Settings say how the service is asked.
type Settings struct {
	Config               // VM may be empty: then the service is asked for it
	URL    string        // of the metadata service, without a path
	Every  time.Duration // between two polls
}

// Timeouts. The first request switches the service on for this VM, which takes up to two minutes; nothing waits for it.
const (
	firstTimeout = 3 * time.Minute
	timeout      = 10 * time.Second
)

// slowest is the longest pause between two polls when they fail.
const slowest = 30 * time.Second

// Watch is the observer of Scheduled Events.
type Watch struct {
	cfg     Settings
	client  *client
	log     *slog.Logger
	trouble atomic.Pointer[string]
	known   chan string // drains that the bus has accepted, the latest
}

var (
	_ report.Observer = (*Watch)(nil)
	_ report.Listener = (*Watch)(nil)
	_ report.Troubled = (*Watch)(nil)
)

// New returns an observer that asks nothing before Run.
func New(cfg Settings, log *slog.Logger) *Watch {
	return &Watch{cfg: cfg, client: newClient(cfg.URL), log: log, known: make(chan string, 1)}
}

// String implements report.Observer.
func (w *Watch) String() string { return "scheduled events" }

// Trouble implements report.Troubled.
func (w *Watch) Trouble() string {
	if t := w.trouble.Load(); t != nil {
		return *t
	}
	return ""
}

// Accepted implements report.Listener. There is one caller.
func (w *Watch) Accepted(part event.Report) {
	select {
	case <-w.known: // only the latest counts
	default:
	}
	select {
	case w.known <- part.Drain:
	default:
	}
}

// answer is the result of a poll.
type answer struct {
	events []Event
	azure  time.Time
	err    error
}

// outcome is that of an approval.
type outcome struct {
	id  string
	err error
}

// Run implements report.Observer. While the service does not answer, what it said last holds.
func (w *Watch) Run(ctx context.Context, tell func(event.Report)) error {
	if w.cfg.VM == "" && !w.learnName(ctx) {
		return nil
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		w.decide(ctx, group, tell)
		return nil
	})
	return group.Wait() //nolint:wrapcheck // it is nil
}

// learnName asks the service what this VM is called, until it answers; false if ctx is done before.
func (w *Watch) learnName(ctx context.Context) bool {
	for pause := w.cfg.Every; ; pause = min(2*pause, max(slowest, w.cfg.Every)) {
		call, cancel := context.WithTimeout(ctx, timeout)
		name, err := w.client.name(call)
		cancel()
		if ctx.Err() != nil {
			return false
		}
		w.hear(ctx, err)
		if err == nil {
			w.cfg.VM = name
			return true
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return false
		}
	}
}

// hear notes whether the service answers.
func (w *Watch) hear(ctx context.Context, err error) {
	if err == nil {
		if w.trouble.Swap(nil) != nil {
			w.log.LogAttrs(ctx, slog.LevelInfo, "the metadata service answers again")
		}
		return
	}
	text := "scheduled events: " + err.Error()
	if w.trouble.Swap(&text) == nil {
		w.log.LogAttrs(ctx, slog.LevelWarn, "the metadata service does not answer; trying again", slog.Any("error", err))
	}
}

// decide is the one owner of the machine.
func (w *Watch) decide(ctx context.Context, group *errgroup.Group, tell func(event.Report)) {
	m := NewMachine(w.cfg.Config)
	answers, outcomes := make(chan answer), make(chan outcome)
	poll := time.NewTimer(0)
	defer poll.Stop()
	wake := time.NewTimer(0)
	defer wake.Stop()
	patience, pause, told := firstTimeout, w.cfg.Every, ""
	for {
		now := time.Now()
		approve, at := m.Next(now)
		for _, id := range approve {
			group.Go(func() error { w.approve(ctx, id, outcomes); return nil })
		}
		if drain := m.Drain(); drain != told {
			told = drain
			tell(event.Report{Drain: drain})
		}
		wake.Stop()
		if !at.IsZero() {
			wake.Reset(at.Sub(now))
		}
		select {
		case <-poll.C:
			limit := patience
			group.Go(func() error { w.poll(ctx, limit, answers); return nil })
		case a := <-answers:
			if ctx.Err() != nil {
				return
			}
			w.hear(ctx, a.err)
			if a.err == nil {
				patience, pause = timeout, w.cfg.Every
				m.Polled(time.Now(), a.azure, a.events)
			} else {
				pause = min(2*pause, max(slowest, w.cfg.Every))
			}
			poll.Reset(pause)
		case o := <-outcomes:
			if ctx.Err() != nil {
				return
			}
			w.log.LogAttrs(ctx, slog.LevelInfo, "approved a scheduled event", slog.String("event", o.id), slog.Any("error", o.err))
			m.Approved(time.Now(), o.id, o.err)
		case drain := <-w.known:
			m.Accepted(time.Now(), drain)
		case <-wake.C:
		case <-ctx.Done():
			return
		}
	}
}

func (w *Watch) poll(ctx context.Context, limit time.Duration, answers chan<- answer) {
	call, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	var a answer
	a.events, a.azure, a.err = w.client.events(call)
	select {
	case answers <- a:
	case <-ctx.Done():
	}
}

func (w *Watch) approve(ctx context.Context, id string, outcomes chan<- outcome) {
	call, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	o := outcome{id: id, err: w.client.approve(call, id)}
	select {
	case outcomes <- o:
	case <-ctx.Done():
	}
}
