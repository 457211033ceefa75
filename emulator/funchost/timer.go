package funchost

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// scheduleStatus is what the schedule monitor keeps of a timer, and what the handler sees.
type scheduleStatus struct {
	Last        offsetDate // start of the last run; the zero date before the first
	Next        offsetDate // when the following run is due
	LastUpdated offsetDate
}

// timer drives one timerTrigger.
type timer struct {
	host     *Host
	function *function
	schedule schedule
	status   *scheduleStatus // nil without a monitor
}

// runTimer runs a timerTrigger until the host stops listening: never two runs at once, and a failed run changes
// nothing about the schedule (contract F1).
func (h *Host) runTimer(f *function) {
	s, err := parseSchedule(f.trigger.Schedule)
	if err != nil {
		return // loadApp has refused it already
	}
	t := &timer{host: h, function: f, schedule: s}
	ctx := h.listening
	pastDue := false
	if t.monitored() {
		t.status, pastDue = t.load()
	}
	if pastDue || f.trigger.RunOnStartup {
		t.run(ctx, pastDue)
	}
	for {
		next := s.next(h.cfg.Now())
		h.cfg.Logger.InfoContext(ctx, "Next timer occurrence", slog.String("function", f.name), slog.Time("next", next))
		wait(ctx, next.Sub(h.cfg.Now()))
		if ctx.Err() != nil {
			return
		}
		t.run(ctx, false)
	}
}

// monitored reports whether runs are recorded: useMonitor (the default), a directory to do it in, and, as in the real
// host, no interval below a minute.
func (t *timer) monitored() bool {
	if !or(t.function.trigger.UseMonitor, true) || t.host.cfg.StateDir == "" {
		return false
	}
	at := t.host.cfg.Now()
	for range 5 {
		next := t.schedule.next(at)
		if next.Sub(at) < time.Minute && !at.Equal(t.host.cfg.Now()) {
			return false
		}
		at = next
	}
	return true
}

// load reads the recorded status and reports whether a run was missed while the host was down.
func (t *timer) load() (*scheduleStatus, bool) {
	now := t.host.cfg.Now()
	fresh := &scheduleStatus{Next: offsetDate(t.schedule.next(now)), LastUpdated: offsetDate(now)}
	text, err := os.ReadFile(t.path())
	if errors.Is(err, fs.ErrNotExist) {
		t.save(fresh)
		return fresh, false
	}
	var s scheduleStatus
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		t.warn("Schedule status is unreadable, starting afresh", err)
		t.save(fresh)
		return fresh, false
	}
	// The expression may have changed since: the due time is what it says now.
	s.Next = offsetDate(t.schedule.next(time.Time(s.LastUpdated)))
	return &s, now.After(time.Time(s.Next))
}

// save writes the status; a monitor that cannot be written costs a missed run, not this one.
func (t *timer) save(s *scheduleStatus) {
	path := t.path()
	err := os.MkdirAll(filepath.Dir(path), 0o755)
	if err == nil {
		err = os.WriteFile(path+".tmp", marshal(s), 0o644)
	}
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err != nil {
		t.warn("Schedule status was not saved", err)
	}
}

func (t *timer) path() string {
	return filepath.Join(t.host.cfg.StateDir, "timers", strings.ToLower(t.function.name)+".json")
}

func (t *timer) warn(message string, err error) {
	t.host.cfg.Logger.WarnContext(t.host.base, message, slog.String("function", t.function.name), slog.Any("error", err)) //nolint:sloglint // constant at both callers
}

// run runs the function once, with the retries of its policy, and records the run.
func (t *timer) run(ctx context.Context, pastDue bool) {
	start := t.host.cfg.Now()
	if pastDue {
		t.host.cfg.Logger.InfoContext(ctx, "Timer is past due, run now", slog.String("function", t.function.name))
	}
	t.attempts(ctx, pastDue)
	if t.status != nil {
		t.status = &scheduleStatus{
			Last: offsetDate(start), Next: offsetDate(t.schedule.next(t.host.cfg.Now())), LastUpdated: offsetDate(start),
		}
		t.save(t.status)
	}
}

func (t *timer) attempts(ctx context.Context, pastDue bool) {
	policy := t.function.retry
	if policy == nil {
		policy = t.host.app.host.Retry
	}
	for n := 0; ; n++ {
		_, err := t.host.invoke(t.function, t.payload(pastDue, policy, n).body(), nil)
		if err == nil || policy == nil || policy.MaxRetryCount >= 0 && n >= policy.MaxRetryCount {
			return
		}
		delay := policy.delay(n + 1)
		t.host.cfg.Logger.InfoContext(ctx, "Function will be retried", slog.String("function", t.function.name),
			slog.Int("retry", n+1), slog.Duration("in", delay))
		if wait(ctx, delay); ctx.Err() != nil {
			return
		}
	}
}

// payload builds the request of one attempt (contract C8, F4).
func (t *timer) payload(pastDue bool, policy *retryPolicy, attempt int) payload {
	p := t.host.timerPayload(t.function, t.schedule, t.status, pastDue)
	if policy != nil {
		p.metadata.set("RetryContext", (&object{}).set("RetryCount", attempt).set("MaxRetryCount", policy.MaxRetryCount))
	}
	return p
}

func (h *Host) timerPayload(f *function, s schedule, status *scheduleStatus, pastDue bool) payload {
	p := newPayload()
	p.data.set(f.trigger.Name, (&object{}).
		set("Schedule", (&object{}).set("AdjustForDST", s.adjustsForDST())).
		set("ScheduleStatus", status).
		set("IsPastDue", pastDue))
	p.addSys(f.name, h.cfg.Now())
	return p
}
