package publish_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
)

// story runs a machine against a bus that does what the script says and writes down what happens, one line an effect.
type story struct {
	t        *testing.T
	start    time.Time
	now      time.Time
	rib      *rib.RIB
	machine  *publish.Machine
	wake     time.Time
	schedule []publish.Schedule
	cancels  []publish.Cancel
	lines    []string
}

func newStory(t *testing.T) *story {
	t.Helper()
	start := time.Unix(1_800_000_000, 0)
	s := &story{t: t, start: start, now: start, rib: rib.New(rib.Filter{}, "kernel")}
	s.machine = publish.New(publish.Config{
		Domain: "lab", NVA: "nva1", Boot: "b", Epoch: 7, Gather: publish.Gather{Quiet: 100 * time.Millisecond, Max: time.Second},
		Beat: publish.Beat{Every: 5 * time.Second, Timeout: 15 * time.Second}, Snapshot: 10 * time.Minute, Restart: 2 * time.Minute,
		MaxBytes: 192 << 10,
	}, s.rib)
	return s
}

func (s *story) logf(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf("%6.1f ", s.now.Sub(s.start).Seconds())+fmt.Sprintf(format, args...))
}

func (s *story) next() {
	e := s.machine.Next(s.now)
	for _, ev := range e.Publish {
		s.logf("publish %s", describe(ev))
	}
	if e.Schedule != nil {
		s.logf("schedule beat %d in %s", e.Schedule.Beat, e.Schedule.At.Sub(s.now))
		s.schedule = append(s.schedule, *e.Schedule)
	}
	for _, c := range e.Cancel {
		s.logf("cancel beat %d", c.Beat)
		s.cancels = append(s.cancels, c)
	}
	for _, n := range e.Notices {
		s.logf("notice %s: beat %d found fired after %s, margin %s", n.Kind, n.Beat, n.After, n.Margin)
	}
	s.wake = e.Wake
}

func describe(e event.Event) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s seq %d beat %d", e.Kind, e.Version.Seq, e.Beat)
	for _, a := range e.Announce {
		fmt.Fprintf(&b, " +%s/%d", a.Prefix, a.Attrs.Metric)
	}
	for _, p := range e.Withdraw {
		fmt.Fprintf(&b, " -%s", p)
	}
	if e.Reason != "" {
		fmt.Fprintf(&b, " (%s)", e.Reason)
	}
	if e.Report.Drain != "" {
		fmt.Fprintf(&b, " sees %s", e.Report.Drain)
	}
	for _, lost := range e.Report.ControlLost {
		fmt.Fprintf(&b, " lost %s", lost.Name)
	}
	return b.String()
}

// do runs one line of a script: "+PREFIX/METRIC -PREFIX …" (an update), "ready +PREFIX/METRIC …" (the first complete view), "wait DURATION",
// "sees WORD… [lost SESSION…]" (a report, told by its Drain and its ControlLost; "sees" alone is the empty one), the answers "ack", "fail KIND", "armed", "unarmed KIND", "cancelled", "uncancelled KIND", and "goodbye", "draining".
func (s *story) do(line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "wait":
		d, err := time.ParseDuration(words[1])
		if err != nil {
			s.t.Fatal(err)
		}
		end := s.now.Add(d)
		for !s.wake.IsZero() && !s.wake.After(end) {
			s.now = s.wake
			s.next()
		}
		s.now = end
	case "ready":
		s.machine.Changed(s.now, s.rib.Replace(0, s.routes(words[1:])))
		s.machine.Ready(s.now)
	case "sees":
		drain, lost, _ := strings.Cut(strings.Join(words[1:], " "), "lost")
		r := event.Report{Drain: strings.TrimSpace(drain)}
		for name := range strings.FieldsSeq(lost) {
			r.ControlLost = append(r.ControlLost, event.Session{Name: name})
		}
		s.machine.Reported(s.now, r)
	case "ack":
		s.machine.Published(s.now, nil)
	case "fail":
		s.machine.Published(s.now, errorOf(words[1]))
	case "armed", "unarmed":
		c := s.schedule[0]
		s.schedule = s.schedule[1:]
		var err error
		if words[0] == "unarmed" {
			err = errorOf(words[1])
		}
		s.machine.Scheduled(s.now, c, int64(c.Beat)+100, err)
	case "cancelled":
		s.cancelled(nil)
	case "uncancelled":
		s.cancelled(errorOf(words[1]))
	case "goodbye":
		s.machine.Stop(s.now, event.Goodbye, "restart")
	case "draining":
		s.machine.Stop(s.now, event.Draining, "shutdown")
	default:
		s.change(words)
	}
	s.next()
	if s.machine.Done() {
		s.logf("done")
	}
}

func (s *story) cancelled(err error) {
	c := s.cancels[0]
	s.cancels = s.cancels[1:]
	if c.Sequence != int64(c.Beat)+100 {
		s.t.Errorf("cancel of beat %d names message %d", c.Beat, c.Sequence)
	}
	s.machine.Cancelled(s.now, c, err)
}

// change applies "+PREFIX/METRIC" and "-PREFIX" words as one update.
func (s *story) change(words []string) {
	var changed []string
	var gone []netip.Prefix
	for _, w := range words {
		if p, ok := strings.CutPrefix(w, "-"); ok {
			gone = append(gone, netip.MustParsePrefix(p))
			continue
		}
		changed = append(changed, w)
	}
	s.machine.Changed(s.now, s.rib.Update(0, s.routes(changed), gone))
}

func (s *story) routes(words []string) []source.Route {
	var out []source.Route
	for _, w := range words {
		i := strings.LastIndex(w, "/")
		var metric uint32
		if _, err := fmt.Sscan(w[i+1:], &metric); err != nil {
			s.t.Fatal(err)
		}
		out = append(out, source.Route{Prefix: netip.MustParsePrefix(strings.TrimPrefix(w[:i], "+")), Metric: metric, Origin: "bgp"})
	}
	return out
}

func errorOf(kind string) error {
	switch kind {
	case "denied":
		return fault.New(fault.Denied, "no right")
	case "not-found":
		return fault.New(fault.NotFound, "no such message")
	case "throttled":
		e := fault.New(fault.Throttled, "busy")
		e.RetryAfter = time.Minute
		return e
	}
	return errors.New("link broken")
}

// A story is a script and, below each line of it, what the machine did.
func TestStories(t *testing.T) {
	for name, text := range map[string]string{
		"nothing is said before the RIB is complete": `
			> wait 1m
			> ready +10.1.0.0/16/5
			  60.0 schedule beat 1 in 15s
			> armed
			  60.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5`,

		"changes are gathered until it is quiet": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> ack
			> +10.2.0.0/16/1
			> wait 50ms
			> -10.1.0.0/16 +10.3.0.0/16/1
			> wait 200ms
			   0.1 publish delta seq 2 beat 1 +10.2.0.0/16/1 +10.3.0.0/16/1 -10.1.0.0/16`,

		"but no longer than the longest window": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> +10.1.0.0/16/1
			> wait 90ms
			> +10.1.0.0/16/2
			> wait 90ms
			> +10.1.0.0/16/3
			> wait 90ms
			> +10.1.0.0/16/4
			> wait 90ms
			> +10.1.0.0/16/5
			> wait 90ms
			> +10.1.0.0/16/6
			> wait 90ms
			> +10.1.0.0/16/7
			> wait 90ms
			> +10.1.0.0/16/8
			> wait 90ms
			> +10.1.0.0/16/9
			> wait 90ms
			> +10.1.0.0/16/10
			> wait 90ms
			> +10.1.0.0/16/11
			> wait 90ms
			> +10.1.0.0/16/12
			> wait 90ms
			   1.0 publish delta seq 2 beat 1 +10.1.0.0/16/12`,

		"a flap within the window says nothing": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> ack
			> -10.1.0.0/16
			> wait 50ms
			> +10.1.0.0/16/5
			> wait 1m
			   5.0 schedule beat 2 in 15s`,

		"an attribute that changes twice is said once, absolutely": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> ack
			> +10.1.0.0/16/6
			> +10.1.0.0/16/7
			> wait 1s
			   0.1 publish delta seq 2 beat 1 +10.1.0.0/16/7`,

		"what changes while a batch is in flight is in the next": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> -10.1.0.0/16
			> wait 5s
			   5.0 schedule beat 2 in 15s
			> ack
			   5.0 publish delta seq 2 beat 1 -10.1.0.0/16
			> +10.1.0.0/16/5
			> ack
			> wait 1s
			   5.1 publish delta seq 3 beat 1 +10.1.0.0/16/5`,

		"a failed batch may have been accepted: a snapshot follows": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> ack
			> +10.2.0.0/16/1
			> wait 100ms
			   0.1 publish delta seq 2 beat 1 +10.2.0.0/16/1
			> -10.2.0.0/16
			> fail lost
			> wait 1s
			   0.4 publish snapshot seq 3 beat 1 +10.1.0.0/16/5`,

		"a denied batch is tried again slowly, a throttled one when asked to": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> fail denied
			> wait 1m
			   5.0 schedule beat 2 in 15s
			  19.1 publish snapshot seq 2 beat 1 +10.1.0.0/16/5
			> fail throttled
			> wait 61s
			 120.0 publish snapshot seq 3 beat 1 +10.1.0.0/16/5`,

		"the switch moves on: arm the next, then cancel the last": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> wait 6s
			   5.0 schedule beat 2 in 15s
			> armed
			   6.0 cancel beat 1
			> cancelled
			> wait 4s
			  10.0 schedule beat 3 in 15s`,

		"a cancel that is not confirmed is outdated by an alive": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> wait 5s
			   5.0 schedule beat 2 in 15s
			> armed
			   5.0 cancel beat 1
			> uncancelled lost
			   5.0 publish alive seq 2 beat 2
			> ack
			> wait 4s`,

		"an arming that is not confirmed is outdated once a later one is": `
			> ready
			   0.0 schedule beat 1 in 15s
			> unarmed lost
			   0.0 publish snapshot seq 1 beat 0
			> ack
			> wait 1s
			   0.3 schedule beat 2 in 15s
			> armed
			   1.0 publish alive seq 2 beat 2`,

		"a switch that fired before its time shows that our clock is behind": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> wait 5s
			   5.0 schedule beat 2 in 15s
			> armed
			   5.0 cancel beat 1
			> uncancelled not-found
			   5.0 publish alive seq 2 beat 2
			   5.0 notice margin-raised: beat 1 found fired after 5s, margin 10s
			> ack
			> wait 5s
			  10.0 schedule beat 3 in 25s`,

		"a goodbye leaves a switch behind that fires after the restart time": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> +10.1.0.0/16/5
			> goodbye
			   0.0 schedule beat 2 in 2m0s
			> armed
			   0.0 publish delta seq 2 beat 2 +10.1.0.0/16/5
			   0.0 publish goodbye seq 3 beat 2 (restart)
			   0.0 cancel beat 1
			> cancelled
			> ack
			   0.0 done`,

		"draining is said at once": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> ack
			> draining
			   0.0 publish draining seq 2 beat 1 (shutdown)
			> fail lost
			> wait 1s
			   0.3 publish snapshot seq 3 beat 1 +10.1.0.0/16/5
			   0.3 publish draining seq 4 beat 1 (shutdown)
			> ack
			   1.0 done`,

		"an agent that never spoke says no goodbye": `
			> goodbye
			   0.0 done`,

		"an agent that never spoke says that its machine goes down": `
			> draining
			   0.0 publish draining seq 1 beat 0 (shutdown)
			> ack
			   0.0 done`,

		"a changed report is said at once, the next after the gap": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> wait 1s
			> sees a
			   1.0 publish witness seq 2 beat 1 sees a
			> ack
			> wait 100ms
			> sees b
			> sees c
			> wait 1s
			   1.5 publish witness seq 3 beat 1 sees c
			> ack
			> sees
			   2.1 publish witness seq 4 beat 1`,

		"a report that changes back within the gap says nothing": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> sees a
			   0.0 publish witness seq 2 beat 1 sees a
			> ack
			> sees b
			> wait 200ms
			> sees a
			> wait 2s`,

		"a report does not wait for routes, nor do they for it": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> +10.1.0.0/16/5
			> wait 50ms
			> sees a
			   0.1 publish witness seq 2 beat 1 sees a
			> ack
			> wait 50ms
			   0.1 publish delta seq 3 beat 1 +10.1.0.0/16/5`,

		"reports that change while a batch is in flight are one event, before the routes that are due too": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> sees a
			> +10.1.0.0/16/5
			> sees b
			> wait 1s
			> ack
			   1.0 publish witness seq 2 beat 1 sees b
			   1.0 publish delta seq 3 beat 1 +10.1.0.0/16/5`,

		"that control is lost is said at once; that it is back, when the routes are gathered": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> ack
			> +10.2.0.0/16/5
			> sees lost bird frr
			   0.0 publish witness seq 2 beat 1 lost bird lost frr
			> ack
			> wait 2s
			   0.1 publish delta seq 3 beat 1 +10.2.0.0/16/5
			> ack
			> -10.1.0.0/16
			> sees lost frr
			> wait 1s
			   2.1 publish witness seq 4 beat 1 lost frr
			   2.1 publish delta seq 5 beat 1 -10.1.0.0/16
			> ack
			> sees
			   3.0 publish witness seq 6 beat 1`,

		"that control is back does not delay what is worse": `
			> sees lost frr
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5 lost frr
			> ack
			> -10.1.0.0/16
			> sees reboot
			   0.0 publish witness seq 2 beat 1 sees reboot
			> ack
			> wait 100ms
			   0.1 publish delta seq 3 beat 1 -10.1.0.0/16`,

		"every snapshot carries the report, also the one after a failure": `
			> sees a
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 sees a
			> ack
			> sees b
			   0.0 publish witness seq 2 beat 1 sees b
			> fail lost
			> wait 1s
			   0.3 publish snapshot seq 3 beat 1 sees b`,

		"a report outdates a switch that fired": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> wait 5s
			   5.0 schedule beat 2 in 15s
			> armed
			   5.0 cancel beat 1
			> sees a
			   5.0 publish witness seq 2 beat 2 sees a
			> uncancelled lost
			> ack
			> wait 4s`,

		"a farewell takes the report along": `
			> ready
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1
			> ack
			> sees a
			   0.0 publish witness seq 2 beat 1 sees a
			> ack
			> sees b
			> draining
			   0.0 publish witness seq 3 beat 1 sees b
			   0.0 publish draining seq 4 beat 1 (shutdown)
			> ack
			   0.0 done`,

		"a periodic snapshot heals what nobody noticed": `
			> ready +10.1.0.0/16/5
			   0.0 schedule beat 1 in 15s
			> armed
			   0.0 publish snapshot seq 1 beat 1 +10.1.0.0/16/5
			> ack
			> wait 11m
			   5.0 schedule beat 2 in 15s
			 656.3 publish snapshot seq 2 beat 1 +10.1.0.0/16/5`,
	} {
		t.Run(name, func(t *testing.T) {
			s := newStory(t)
			var want []string
			for line := range strings.Lines(text) {
				line = strings.TrimSpace(line)
				command, isCommand := strings.CutPrefix(line, "> ")
				switch {
				case isCommand:
					s.lines = append(s.lines, line)
					want = append(want, line)
					s.do(command)
				case line != "":
					at, rest, _ := strings.Cut(line, " ")
					want = append(want, fmt.Sprintf("%6s ", at)+rest)
				}
			}
			if diff := cmp.Diff(want, s.lines); diff != "" {
				t.Errorf("story (-want +got):\n%s", diff)
			}
		})
	}
}

// TestALongReportFits: the first chunk of a snapshot stays under the limit with the report in it.
func TestALongReportFits(t *testing.T) {
	const limit = 64 << 10
	r := event.Report{SelfCheck: event.Failed, SelfTest: event.Passed, Drain: strings.Repeat("\"", 1024), Reason: strings.Repeat("<", 1024)}
	for i := range event.MaxPeers {
		r.Peers = append(r.Peers, event.Peer{NVA: fmt.Sprintf("nva-%036d", i), Deaf: true})
	}
	var all []source.Route
	for i := range 3000 {
		long := netip.MustParseAddr(fmt.Sprintf("2001:db8:ffff:ffff:ffff:ffff:ffff:%x", 0x1000+i))
		all = append(all, source.Route{Prefix: netip.PrefixFrom(long, 128), Origin: "bgp"})
	}
	held := rib.New(rib.Filter{}, "kernel")
	held.Replace(0, all)
	m := publish.New(publish.Config{Domain: "lab", NVA: "nva1", Boot: "b", Epoch: 7, MaxBytes: limit}, held)
	now := time.Unix(1_800_000_000, 0)
	m.Reported(now, r)
	m.Ready(now)
	m.Scheduled(now, *m.Next(now).Schedule, 1, nil)
	chunks := m.Next(now).Publish
	for _, e := range chunks {
		body, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if len(body) > limit {
			t.Errorf("chunk %d has %d bytes, want at most %d", e.Chunk.Index, len(body), limit)
		}
	}
	if len(chunks) < 2 || !chunks[0].Report.Equal(r) {
		t.Errorf("%d chunks, the first with %d peers: want some, and all peers", len(chunks), len(chunks[0].Report.Peers))
	}
}
