package funchost

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestF1_Schedules(t *testing.T) {
	for _, c := range []struct{ text, after, next string }{
		{"0 */5 * * * *", "2026-11-24T09:15:00Z", "2026-11-24T09:20:00Z"},
		{"*/5 * * * *", "2026-11-24T09:15:00.5Z", "2026-11-24T09:20:00Z"},
		{"*/10 * * * * *", "2026-11-24T09:15:09.9Z", "2026-11-24T09:15:10Z"},
		{"0 30 9 * * Mon-Fri", "2026-11-27T09:30:00Z", "2026-11-30T09:30:00Z"},
		{"0 0 0 29 2 *", "2026-11-27T09:30:00Z", "2028-02-29T00:00:00Z"},
		{"0 0 0 13 * 5", "2026-11-24T00:00:00Z", "2027-08-13T00:00:00Z"}, // both: a Friday the 13th
		{"15,45 0 23 31 dec *", "2026-11-24T00:00:00Z", "2026-12-31T23:00:15Z"},
		{"0 5/20 * * * *", "2026-11-24T09:26:00Z", "2026-11-24T09:45:00Z"},
		{"01:30:00", "2026-11-24T09:15:00Z", "2026-11-24T10:45:00Z"},
		{"1.00:00:00", "2026-11-24T09:15:00Z", "2026-11-25T09:15:00Z"},
	} {
		s, err := parseSchedule(c.text)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
			continue
		}
		after, _ := time.Parse(time.RFC3339Nano, c.after)
		if got := s.next(after).Format(time.RFC3339Nano); got != c.next {
			t.Errorf("%s after %s: %s, want %s", c.text, c.after, got, c.next)
		}
	}
	for _, text := range []string{"", "* * * *", "60 * * * * *", "* * * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *", "00:00:00", "* * * * * 7"} {
		if _, err := parseSchedule(text); err == nil {
			t.Errorf("%q accepted", text)
		}
	}
	never, _ := parseSchedule("0 0 0 30 2 *")
	if got := never.next(fixedNow()).Year(); got < 2100 {
		t.Errorf("February 30th comes in %d", got)
	}
}

func tickRig(t *testing.T, schedule, more string) *rig {
	t.Helper()
	return newRig(t, map[string]string{"Tick/function.json": `{"bindings":[{"type":"timerTrigger","name":"timer","schedule":"` + schedule + `"` + more})
}

func TestF1_NoOverlapAndFailureKeepsTheSchedule(t *testing.T) {
	r := tickRig(t, "00:00:00.02", `}]}`)
	var running, most atomic.Int32
	r.answer(func(recorded) scripted {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		wait(t.Context(), 60*time.Millisecond) // three intervals
		running.Add(-1)
		return scripted{Status: 500}
	})
	r.startHost()
	for range 3 {
		if i := r.ended(); i.OK {
			t.Error("a 500 succeeded")
		}
	}
	if most.Load() != 1 {
		t.Errorf("%d runs at once", most.Load())
	}
}

func TestF1_RunOnStartup(t *testing.T) {
	r := tickRig(t, "0 0 0 1 1 *", `,"runOnStartup":true}]}`).startHost()
	if i := r.ended(); !i.OK {
		t.Error(i.Err)
	}
	if body := r.calls()[0].Body; !strings.Contains(body, `"ScheduleStatus":null,"IsPastDue":false`) {
		t.Error(body)
	}
}

// statusFile is the schedule monitor's file of the function Tick.
func statusFile(r *rig) string { return filepath.Join(r.cfg.StateDir, "timers", "tick.json") }

func TestF1_MissedRunIsPastDueOnce(t *testing.T) {
	r := tickRig(t, "0 0 0 1 1 *", `}]}`)
	r.cfg.StateDir = t.TempDir()
	r.cfg.Now = fixedNow
	if err := os.MkdirAll(filepath.Dir(statusFile(r)), 0o755); err != nil {
		t.Fatal(err)
	}
	old := offsetDate(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	if err := os.WriteFile(statusFile(r), marshal(scheduleStatus{Last: old, LastUpdated: old}), 0o644); err != nil {
		t.Fatal(err)
	}
	r.startHost()
	if i := r.ended(); !i.OK {
		t.Fatal(i.Err)
	}
	want := `"ScheduleStatus":{"Last":"2024-01-01T00:00:00+00:00","Next":"2025-01-01T00:00:00+00:00","LastUpdated":"2024-01-01T00:00:00+00:00"},"IsPastDue":true`
	if body := r.calls()[0].Body; !strings.Contains(body, want) {
		t.Error(body)
	}
	var saved scheduleStatus
	r.until("status saved", func() bool {
		text, err := os.ReadFile(statusFile(r))
		return err == nil && json.Unmarshal(text, &saved) == nil && time.Time(saved.Last).Equal(fixedNow())
	})
	if got := time.Time(saved.Next); !got.Equal(time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("next %s", got)
	}
	if err := r.host.Close(); err != nil {
		t.Error(err)
	}
	if n := len(r.calls()); n != 1 {
		t.Errorf("%d runs, want one for all that were missed", n)
	}
}

func TestF1_Monitor(t *testing.T) {
	for _, c := range []struct {
		schedule string
		use      *bool
		want     bool
	}{
		{"0 */5 * * * *", nil, true},
		{"0 */5 * * * *", new(false), false},
		{"*/30 * * * * *", nil, false}, // the real host does not monitor intervals below a minute
		{"00:00:30", nil, false},
		{"00:01:00", nil, true},
	} {
		h := bareHost()
		h.cfg.StateDir = t.TempDir()
		s, _ := parseSchedule(c.schedule)
		tm := &timer{host: h, function: &function{name: "Tick", trigger: binding{UseMonitor: c.use}}, schedule: s}
		if got := tm.monitored(); got != c.want {
			t.Errorf("%s: monitored %t", c.schedule, got)
		}
	}
}

func TestF1_FirstStartIsNotPastDue(t *testing.T) {
	h := bareHost()
	h.cfg.StateDir = t.TempDir()
	s, _ := parseSchedule("0 */5 * * * *")
	tm := &timer{host: h, function: &function{name: "Tick"}, schedule: s}
	for range 2 {
		status, pastDue := tm.load()
		want := `{"Last":"0001-01-01T00:00:00+00:00","Next":"2026-11-24T09:20:00+00:00","LastUpdated":"2026-11-24T09:15:02.7719683+00:00"}`
		if got := string(marshal(status)); got != want || pastDue {
			t.Errorf("%s past due %t, want %s", got, pastDue, want)
		}
	}
	if err := os.WriteFile(tm.path(), []byte("torn"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, pastDue := tm.load(); pastDue {
		t.Error("an unreadable status counts as a missed run")
	}
}

func TestF4_RetryPolicy(t *testing.T) {
	r := tickRig(t, "0 0 0 1 1 *", `,"runOnStartup":true}],"retry":{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:00:00.01"}}`)
	r.answer(always(scripted{Status: 500}))
	r.startHost()
	for n := range 3 {
		r.ended()
		want := `"RetryContext":{"RetryCount":` + string(rune('0'+n)) + `,"MaxRetryCount":2}`
		if body := r.calls()[n].Body; !strings.Contains(body, want) {
			t.Errorf("attempt %d: no %s in %s", n, want, body)
		}
	}
	r.until("the retries are used up", func() bool { return strings.Contains(r.log.String(), "Next timer occurrence") })
	if n := len(r.calls()); n != 3 {
		t.Errorf("%d attempts", n)
	}
}

func TestF4_Delays(t *testing.T) {
	second := func(n int) *timeSpan { return new(timeSpan(time.Duration(n) * time.Second)) }
	back := &retryPolicy{Strategy: "exponentialBackoff", MinimumInterval: second(2), MaximumInterval: second(10)}
	fixed := &retryPolicy{Strategy: "fixedDelay", DelayInterval: second(3)}
	for n, want := range map[int]time.Duration{1: 2 * time.Second, 2: 4 * time.Second, 3: 8 * time.Second, 4: 10 * time.Second, 1000: 10 * time.Second} {
		if got := back.delay(n); got != want {
			t.Errorf("back-off %d: %s, want %s", n, got, want)
		}
		if got := fixed.delay(n); got != 3*time.Second {
			t.Errorf("fixed %d: %s", n, got)
		}
	}
}
