package scheduled_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/agent/scheduled"
)

// story runs a machine by a script and writes down every drain that is new and every approval.
type story struct {
	t       *testing.T
	start   time.Time
	now     time.Time
	machine *scheduled.Machine
	wake    time.Time
	events  []scheduled.Event
	skew    time.Duration // how far this machine's clock is ahead of Azure's
	drain   string
	lines   []string
}

func (s *story) logf(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf("%4.0f ", s.now.Sub(s.start).Seconds())+fmt.Sprintf(format, args...))
}

func (s *story) next() {
	approve, wake := s.machine.Next(s.now)
	s.wake = wake
	if is := s.machine.Drain(); is != s.drain {
		s.drain = is
		s.logf("drain: %s", is)
	}
	for _, id := range approve {
		s.logf("approve %s", id)
	}
}

// do runs one line: "announce ID TYPE IN VMS" (VMS separated by commas, and polled at once), "starts ID", "gone ID", "poll", "accepted" (the drain in force, by
// the bus), "approved ID", "refused ID", "skew DURATION", "wait DURATION".
func (s *story) do(line string) {
	words := strings.Fields(line)
	poll := func() { s.machine.Polled(s.now, s.now.Add(-s.skew), slices.Clone(s.events)) }
	duration := func(word string) time.Duration {
		d, err := time.ParseDuration(word)
		if err != nil {
			s.t.Fatal(err)
		}
		return d
	}
	index := func() int {
		return slices.IndexFunc(s.events, func(e scheduled.Event) bool { return e.ID == words[1] })
	}
	switch words[0] {
	case "announce":
		s.events = append(s.events, scheduled.Event{
			ID: words[1], Type: words[2], NotBefore: s.now.Add(duration(words[3]) - s.skew), Resources: strings.Split(words[4], ","),
		})
		poll()
	case "starts":
		e := &s.events[index()]
		e.Started, e.NotBefore = true, time.Time{}
		poll()
	case "gone":
		s.events = slices.Delete(s.events, index(), index()+1)
		poll()
	case "poll":
		poll()
	case "accepted":
		s.machine.Accepted(s.now, s.drain)
	case "approved":
		s.machine.Approved(s.now, words[1], nil)
	case "refused":
		s.machine.Approved(s.now, words[1], errors.New("no"))
	case "skew":
		s.skew = duration(words[1])
	case "wait":
		end := s.now.Add(duration(words[1]))
		for !s.wake.IsZero() && !s.wake.After(end) {
			s.now = s.wake
			s.next()
		}
		s.now = end
	default:
		s.t.Fatalf("unknown line %q", line)
	}
	s.next()
}

// A story is a script and, below each line of it, what the machine did. It starts at 12:00:00 UTC.
func TestStories(t *testing.T) {
	plain := scheduled.Config{VM: "vm-a", Lead: time.Minute, Settle: 30 * time.Second}
	approving := plain
	approving.Approve = true
	for name, test := range map[string]struct {
		cfg  scheduled.Config
		text string
	}{
		"drained shortly before, until a while after": {plain, `
			> announce 1 Reboot 15m vm-a
			> wait 14m
			 840 drain: Azure will Reboot this VM at 12:15:00 UTC (event 1)
			> wait 1m
			> starts 1
			 900 drain: Azure is going through with Reboot of this VM (event 1)
			> wait 5m
			> gone 1
			1200 drain: Azure is done with this VM, and it settles (Azure is going through with Reboot of this VM (event 1))
			> wait 29s
			> wait 1s
			1230 drain: `},

		"little notice": {plain, `
			> announce 1 Preempt 30s vm-a
			   0 drain: Azure will Preempt this VM at 12:00:30 UTC (event 1)`},

		"events of others, and those that interrupt nothing": {plain, `
			> announce 1 Reboot 15m vm-b
			> announce 2 Restyle 15m vm-a
			> starts 1
			> wait 1h`},

		"names without case, and one of several": {plain, `
			> announce 1 Freeze 10s vm-b,VM-A
			   0 drain: Azure will Freeze this VM at 12:00:10 UTC (event 1)`},

		"an event that is withdrawn in time drains nothing": {plain, `
			> announce 1 Reboot 15m vm-a
			> wait 10m
			> gone 1
			> wait 1h`},

		"two events, one after the other": {plain, `
			> announce 1 Freeze 0s vm-a
			   0 drain: Azure will Freeze this VM at 12:00:00 UTC (event 1)
			> announce 2 Redeploy 90s vm-a
			> wait 40s
			  30 drain: Azure will Freeze this VM at 12:00:00 UTC (event 1); Azure will Redeploy this VM at 12:01:30 UTC (event 2)
			> gone 1
			  40 drain: Azure will Redeploy this VM at 12:01:30 UTC (event 2)
			> gone 2
			  40 drain: Azure is done with this VM, and it settles (Azure will Redeploy this VM at 12:01:30 UTC (event 2))
			> wait 10s
			> announce 3 Freeze 0s vm-a
			  50 drain: Azure will Freeze this VM at 12:00:50 UTC (event 3)
			> wait 1h`},

		"a clock that is ten minutes ahead of Azure's": {plain, `
			> skew 10m
			> announce 1 Reboot 15m vm-a
			> wait 14m
			 840 drain: Azure will Reboot this VM at 12:05:00 UTC (event 1)`},

		"approved once the drain is known and has settled": {approving, `
			> announce 1 Reboot 15m vm-a
			   0 drain: Azure will Reboot this VM at 12:15:00 UTC (event 1)
			> wait 1m
			> accepted
			> wait 30s
			  90 approve 1
			> refused 1
			> poll
			> wait 30s
			 120 approve 1
			> approved 1
			> poll
			> wait 1h`},

		"never for others": {approving, `
			> announce 1 Reboot 15m vm-a,vm-b
			   0 drain: Azure will Reboot this VM at 12:15:00 UTC (event 1)
			> accepted
			> wait 1h`},

		"nothing is approved without being asked to": {plain, `
			> announce 1 Reboot 1m vm-a
			   0 drain: Azure will Reboot this VM at 12:01:00 UTC (event 1)
			> accepted
			> wait 1h`},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
			s := &story{t: t, start: start, now: start, machine: scheduled.NewMachine(test.cfg)}
			var want []string
			for line := range strings.Lines(test.text) {
				line = strings.TrimLeft(strings.TrimRight(line, "\n"), " \t")
				command, isCommand := strings.CutPrefix(line, "> ")
				switch {
				case isCommand:
					s.lines = append(s.lines, line)
					want = append(want, line)
					s.do(command)
				case line != "":
					at, rest, _ := strings.Cut(line, " ")
					want = append(want, fmt.Sprintf("%4s ", at)+rest)
				}
			}
			if diff := cmp.Diff(want, s.lines); diff != "" {
				t.Errorf("story (-want +got):\n%s", diff)
			}
		})
	}
}
