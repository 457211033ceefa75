package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"strconv"
	"sync"
	"time"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/trace"
)

// Timeouts of the calls to the bus. A switch must be moved several times within its own timeout, so its calls get less.
const (
	publishTimeout = 10 * time.Second
	switchTimeout  = 5 * time.Second
	farewellWait   = time.Second // for the answer what kind of farewell it is
)

// unwell is how long the bus may fail before the agent calls itself unhealthy: a failover of the broker takes less.
const unwell = 30 * time.Second

// loop is the publisher's task: the single owner of RIB and machine.
type loop struct {
	cfg     Config
	log     *slog.Logger
	rib     *rib.RIB
	machine *publish.Machine
	metrics *metrics

	inputs chan func(now time.Time)
	ready  chan struct{} // closed when the RIB is complete
	done   chan struct{} // closed when nobody reads inputs any more
	calls  sync.WaitGroup

	// Owned by the loop's goroutine.
	turned   time.Time      // the last turn, for the seconds of outage
	watchdog time.Time      // the last sign of life to systemd
	status   string         // what systemd shows
	parts    []event.Report // of the observers, then of the sources
	report   event.Report   // the parts together
	publish  complaint
	armed    complaint
}

func newLoop(cfg Config) *loop {
	var names []string
	for _, s := range cfg.Sources {
		names = append(names, s.String())
	}
	r := rib.New(cfg.Filter, names...)
	return &loop{
		cfg: cfg, log: cfg.Logger, rib: r, machine: publish.New(cfg.Publish, r), metrics: newMetrics(cfg.Collectors),
		parts:  make([]event.Report, len(cfg.Observers)+len(cfg.Sources)),
		inputs: make(chan func(time.Time)), ready: make(chan struct{}), done: make(chan struct{}),
	}
}

func (l *loop) String() string         { return "publisher" }
func (l *loop) Ready() <-chan struct{} { return l.ready }

// do has the loop run f; it returns at once when the loop has ended.
func (l *loop) do(f func(now time.Time)) {
	select {
	case l.inputs <- f:
	case <-l.done:
	}
}

// Run turns until ctx is done, then says farewell for at most StopTimeout. Calls that are still in flight then are cut off: their
// outcome is unknown in any case.
func (l *loop) Run(ctx context.Context) error {
	calls, cut := context.WithCancel(context.WithoutCancel(ctx))
	defer l.calls.Wait()
	defer cut()
	defer close(l.done)

	timer := time.NewTimer(0)
	defer timer.Stop()
	stop, deadline := ctx.Done(), (<-chan time.Time)(nil)
	for {
		now := time.Now()
		wake := l.turn(calls, now)
		if l.machine.Done() {
			return nil
		}
		timer.Reset(wake.Sub(now))
		select {
		case f := <-l.inputs:
			f(time.Now())
		case <-timer.C:
		case <-stop:
			stop, deadline = nil, time.After(l.cfg.StopTimeout)
			l.cfg.Systemd.notify("STOPPING=1")
			l.askFarewell(calls)
		case <-deadline:
			l.log.LogAttrs(calls, slog.LevelWarn, "stopped without having said farewell", slog.Duration("waited", l.cfg.StopTimeout))
			return nil
		}
	}
}

// longestTurn bounds the sleep of a loop that has nothing to do.
const longestTurn = time.Minute

// turn carries out what is due and returns when to turn again.
func (l *loop) turn(ctx context.Context, now time.Time) time.Time {
	e := l.machine.Next(now)
	l.perform(ctx, e)
	for _, n := range e.Notices {
		l.notice(ctx, n)
	}
	status := l.machine.Status()
	l.metrics.observe(status, l.rib)
	if !status.Failing.IsZero() && !l.turned.IsZero() {
		l.metrics.outage.Add(now.Sub(later(l.turned, status.Failing)).Seconds())
	}
	l.turned = now
	l.tellSystemd(now, status)
	wake := now.Add(longestTurn)
	if every := l.cfg.Systemd.Watchdog; every > 0 {
		wake = now.Add(every / 2)
	}
	if !e.Wake.IsZero() && e.Wake.Before(wake) {
		wake = e.Wake
	}
	return wake
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// tellSystemd gives the watchdog its sign of life, which so depends on the loop turning, and the status line.
func (l *loop) tellSystemd(now time.Time, s publish.Status) {
	if every := l.cfg.Systemd.Watchdog; every > 0 && now.Sub(l.watchdog) >= every/2 {
		l.watchdog = now
		l.cfg.Systemd.notify("WATCHDOG=1")
	}
	text := "waiting for the sources' first report"
	switch {
	case !s.Failing.IsZero():
		text = "cannot publish since " + s.Failing.Format(time.TimeOnly)
	case s.Ready:
		text = "announcing " + strconv.Itoa(l.rib.Len()) + " prefixes"
	}
	if text != l.status {
		l.status = text
		l.cfg.Systemd.notify("STATUS=" + text)
	}
}

// changed takes in what a source reported.
func (l *loop) changed(now time.Time, changes []rib.Change) {
	if f := l.cfg.Follower; f != nil {
		f.Changed(changes)
		if l.rib.Ready() {
			f.Complete()
		}
	}
	if l.rib.Ready() && !l.machine.Status().Ready {
		l.machine.Ready(now)
		close(l.ready)
		return // the first snapshot holds the changes
	}
	l.machine.Changed(now, changes)
}

// perform starts the calls. None waits for another: a publish that is stuck must not stop the beat.
func (l *loop) perform(ctx context.Context, e publish.Effects) {
	if len(e.Publish) > 0 {
		l.calls.Go(func() { l.send(ctx, e.Publish) })
	}
	if e.Schedule != nil {
		l.calls.Go(func() { l.schedule(ctx, *e.Schedule) })
	}
	for _, c := range e.Cancel {
		l.calls.Go(func() { l.cancel(ctx, c) })
	}
}

func (l *loop) send(ctx context.Context, events []event.Event) {
	call, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	msgs, err := l.encode(events)
	if err == nil {
		err = l.cfg.Bus.Publish(call, msgs)
	}
	l.do(func(now time.Time) { l.published(ctx, now, events, err) })
}

func (l *loop) published(ctx context.Context, now time.Time, events []event.Event, err error) {
	l.machine.Published(now, err)
	l.publish.hear(ctx, l.log, "publish", now, err)
	if err != nil {
		l.metrics.failures.WithLabelValues("publish", fault.KindOf(err).String()).Inc()
		return
	}
	l.accepted(events)
	for i, e := range events {
		l.metrics.published.WithLabelValues(e.Kind.String()).Inc()
		if i == 0 && !e.Observed.IsZero() {
			l.metrics.latency.Observe(now.Sub(e.Observed).Seconds())
		}
		l.log.LogAttrs(ctx, levelOf(e.Kind), "published", slog.String("kind", e.Kind.String()), slog.String("version", e.Version.String()),
			slog.Int("announced", len(e.Announce)), slog.Int("withdrawn", len(e.Withdraw)), slog.Uint64("beat", e.Beat))
	}
}

// levelOf keeps what happens all the time out of the usual log.
func levelOf(k event.Kind) slog.Level {
	switch k {
	case event.Delta:
		return slog.LevelDebug
	case event.Snapshot, event.Alive, event.Expired, event.Draining, event.Goodbye, event.Witness:
	}
	return slog.LevelInfo
}

func (l *loop) schedule(ctx context.Context, s publish.Schedule) {
	call, cancel := context.WithTimeout(ctx, switchTimeout)
	defer cancel()
	var number int64
	msgs, err := l.encode([]event.Event{s.Event})
	if err == nil {
		number, err = l.cfg.Bus.Schedule(call, msgs[0], s.At)
	}
	l.do(func(now time.Time) {
		l.machine.Scheduled(now, s, number, err)
		l.armed.hear(ctx, l.log, "arm the dead-man switch", now, err)
		if err != nil {
			l.metrics.failures.WithLabelValues("schedule", fault.KindOf(err).String()).Inc()
			return
		}
		l.metrics.beats.Inc()
	})
}

func (l *loop) cancel(ctx context.Context, c publish.Cancel) {
	call, cancel := context.WithTimeout(ctx, switchTimeout)
	defer cancel()
	err := l.cfg.Bus.Cancel(call, c.Sequence)
	l.do(func(now time.Time) {
		l.machine.Cancelled(now, c, err)
		if err != nil {
			l.metrics.failures.WithLabelValues("cancel", fault.KindOf(err).String()).Inc()
		}
	})
}

// encode makes messages of events, signed if they are to be. The trace of an event begins here.
func (l *loop) encode(events []event.Event) ([]message.Message, error) {
	msgs := make([]message.Message, len(events))
	for i, e := range events {
		e.Traceparent = newTrace()
		body, err := event.Encode(e)
		if err == nil && l.cfg.Sign != nil {
			body, err = l.cfg.Sign(body)
		}
		if err != nil {
			return nil, fmt.Errorf("encode: %w", err)
		}
		msgs[i] = message.Message{ID: e.ID(), ContentType: event.ContentType, Subject: e.NVA + " " + e.Kind.String(), Traceparent: e.Traceparent, Body: body}
	}
	return msgs, nil
}

// newTrace begins a trace that is to be kept. Its first span is the agent's; the function app reports it, by the times in the event.
func newTrace() string {
	var random [trace.Random]byte
	for i := range random {
		random[i] = byte(rand.Uint32()) // an identity, not a secret
	}
	return trace.New(random).String()
}

// askFarewell finds out which farewell to say, without keeping the loop from turning.
func (l *loop) askFarewell(ctx context.Context) {
	l.calls.Go(func() {
		kind := event.Goodbye
		if l.cfg.Farewell != nil {
			ask, cancel := context.WithTimeout(ctx, farewellWait)
			defer cancel()
			kind = l.cfg.Farewell(ask)
		}
		reason := "the agent was stopped"
		if kind == event.Draining {
			reason = "the system is going down"
		}
		l.do(func(now time.Time) {
			l.log.LogAttrs(ctx, slog.LevelInfo, "saying farewell", slog.String("kind", kind.String()))
			l.machine.Stop(now, kind, reason)
		})
	})
}

func (l *loop) notice(ctx context.Context, n publish.Notice) {
	l.metrics.fired.Inc()
	text := "the dead-man switch fired although the agent lives: the way to the bus stalled"
	if n.Kind == publish.MarginRaised {
		text = "the dead-man switch fired before its time: this machine's clock is behind that of the bus; check its time synchronisation"
	}
	l.log.LogAttrs(ctx, slog.LevelWarn, text, slog.Uint64("beat", n.Beat), slog.Duration("after", n.After), slog.Duration("margin", n.Margin)) //nolint:sloglint // one of two constants
}

// complaint logs a failing operation when it begins to fail, when it fails for another reason, and when it works again.
type complaint struct {
	since time.Time // zero: it works
	kind  fault.Kind
}

func (c *complaint) hear(ctx context.Context, log *slog.Logger, operation string, now time.Time, err error) {
	if err == nil {
		if !c.since.IsZero() {
			log.LogAttrs(ctx, slog.LevelInfo, "the bus works again", slog.String("operation", operation), slog.Duration("outage", now.Sub(c.since)))
		}
		*c = complaint{}
		return
	}
	level := slog.LevelDebug
	if kind := fault.KindOf(err); kind != c.kind {
		level = slog.LevelWarn
		if kind == fault.Denied || kind == fault.Bug {
			level = slog.LevelError
		}
		*c = complaint{since: cmp.Or(c.since, now), kind: kind}
	}
	log.LogAttrs(ctx, level, "the bus fails; trying again", slog.String("operation", operation), slog.String("kind", c.kind.String()), slog.Any("error", err))
}

// errNotTurning is what health says when the loop does not answer.
var errNotTurning = errors.New("the main loop does not turn")

// ask has the loop run f and waits for it.
func (l *loop) ask(ctx context.Context, f func(now time.Time)) error {
	answered := make(chan struct{})
	run := func(now time.Time) { f(now); close(answered) }
	select {
	case l.inputs <- run:
		<-answered
		return nil
	case <-l.done:
		return fmt.Errorf("%w: it has ended", errNotTurning)
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", errNotTurning, ctx.Err())
	}
}

// health returns what is wrong, nothing if all is well.
func (l *loop) health(now time.Time) []string {
	reasons := []string{}
	for _, s := range l.rib.Sources() {
		if s.State == rib.Live {
			continue
		}
		text := "source " + s.Name + " is " + s.State.String()
		if s.Reason != nil {
			text += ": " + s.Reason.Error()
		}
		reasons = append(reasons, text)
	}
	reasons = append(reasons, l.troubles()...)
	s := l.machine.Status()
	if !s.Failing.IsZero() && (now.Sub(s.Failing) > unwell || l.publish.kind == fault.Denied) {
		reasons = append(reasons, "publishing has failed for "+now.Sub(s.Failing).Round(time.Second).String()+" ("+l.publish.kind.String()+")")
	}
	if s.Armed != 0 && now.After(s.Fires) || l.armed.kind == fault.Denied {
		reasons = append(reasons, "the dead-man switch cannot be moved ("+l.armed.kind.String()+")")
	}
	return reasons
}
