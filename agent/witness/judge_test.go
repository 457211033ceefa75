package witness_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/agent/witness"
	"github.com/pointsman/pointsman/shared/event"
)

// timing is that of probes every 200 ms, five of which may be missed.
var timing = witness.Timing{Interval: 200 * time.Millisecond, Recovery: 1200 * time.Millisecond}

// story runs a judge by a script and writes down every round of the self-test that it wants and every report that differs.
type story struct {
	t     *testing.T
	start time.Time
	now   time.Time
	judge *witness.Judge
	wake  time.Time
	told  event.Report
	lines []string
}

func (s *story) logf(format string, args ...any) {
	s.lines = append(s.lines, fmt.Sprintf("%5.1f ", s.now.Sub(s.start).Seconds())+fmt.Sprintf(format, args...))
}

func (s *story) next() {
	test, wake := s.judge.Next(s.now)
	if test {
		s.logf("test")
	}
	s.wake = wake
	if r := s.judge.Report(s.now); !r.Equal(s.told) {
		s.told = r
		s.logf("report %s", describe(r))
	}
}

func describe(r event.Report) string {
	s := r.SelfTest.String()
	for _, p := range r.Peers {
		s += " -" + p.NVA
		if p.Reachable {
			s = s[:len(s)-len(p.NVA)-1] + "+" + p.NVA
		}
		if p.Deaf {
			s += "(deaf)"
		}
	}
	return s
}

// do runs one line: "up PEER", "suspect PEER", "down PEER", "heard PEER" (still down, but coming back), "late PEER DURATION" (down, and missing for
// that long), "deaf PEER" (up, and it complains), "ok" and "failed" (the round under way), "wait DURATION".
func (s *story) do(line string) {
	words := strings.Fields(line)
	switch words[0] {
	case "up":
		s.judge.Saw(s.now, witness.Sight{NVA: words[1], State: witness.Reachable}, timing)
	case "suspect":
		s.judge.Saw(s.now, witness.Sight{NVA: words[1], State: witness.Reachable, Missing: true}, timing)
	case "heard":
		s.judge.Saw(s.now, witness.Sight{NVA: words[1], State: witness.Unreachable}, timing)
	case "down":
		s.judge.Saw(s.now, witness.Sight{NVA: words[1], State: witness.Unreachable, Missing: true}, timing)
	case "late": // down, and it turns out that nothing was heard for a while
		since, err := time.ParseDuration(words[2])
		if err != nil {
			s.t.Fatal(err)
		}
		s.judge.Saw(s.now, witness.Sight{NVA: words[1], State: witness.Unreachable, Missing: true, Since: s.now.Add(-since)}, timing)
	case "deaf":
		s.judge.Saw(s.now, witness.Sight{NVA: words[1], State: witness.Reachable, Deaf: true}, timing)
	case "ok", "failed":
		s.judge.Tested(s.now, words[0] == "ok")
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
	default:
		s.t.Fatalf("unknown line %q", line)
	}
	s.next()
}

// A story is a script and, below each line of it, what the judge did. Rounds are 1 s apart, three that fail are a failure, and peers need
// 1.2 s to be found again.
func TestStories(t *testing.T) {
	for name, text := range map[string]string{
		"good news is told at once, bad news after a test": `
			> wait 0s
			  0.0 test
			> up b
			  0.0 report absent +b
			> ok
			  0.0 report passed +b
			> wait 400ms
			> suspect b
			  0.4 test
			> ok
			> wait 600ms
			> down b
			  1.0 report passed -b
			> up b
			  1.0 report passed +b`,

		"a round that began before the suspicion proves nothing": `
			> wait 0s
			  0.0 test
			> up b
			  0.0 report absent +b
			> wait 100ms
			> suspect b
			> ok
			  0.1 report passed +b
			> wait 700ms
			  0.2 test
			> down b
			> failed
			  0.8 test
			> wait 100ms
			> failed
			> wait 50ms`,

		"nor does one before another that failed": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> up b
			  0.0 report passed +b
			> wait 800ms
			> suspect b
			  0.8 test
			> ok
			> wait 1s
			  1.8 test
			> failed
			> down b
			> wait 500ms
			  2.0 test
			> ok`,

		"nor does one that passes when the peer is as good as lost, at once": `
			> wait 0s
			  0.0 test
			> up b
			  0.0 report absent +b
			> ok
			  0.0 report passed +b
			> wait 400ms
			> suspect b
			  0.4 test
			> wait 550ms
			> ok
			> wait 50ms
			> down b
			> wait 1s
			  1.4 test
			> ok
			> wait 1s
			  2.1 report passed -b
			  2.4 test`,

		"a method without suspicions takes longer": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> up b
			  0.0 report passed +b
			> wait 400ms
			> down b
			  0.4 test
			> ok
			> wait 1s
			  1.4 test
			> ok
			> wait 500ms
			  1.6 report passed -b`,

		"unless it says in hindsight that the peer was missing when a round passed": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> up b
			  0.0 report passed +b
			> wait 1s
			  1.0 test
			> ok
			> wait 500ms
			> late b 600ms
			  1.5 report passed -b`,

		"and not before it passed": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> up b
			  0.0 report passed +b
			> wait 1s
			  1.0 test
			> ok
			> wait 500ms
			> late b 400ms
			  1.5 test`,

		"a machine that hears nobody accuses nobody": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> up b
			  0.0 report passed +b
			> up c
			  0.0 report passed +b +c
			> wait 400ms
			> suspect b
			  0.4 test
			> suspect c
			> wait 500ms
			> failed
			  0.9 test
			> down b
			> down c
			> wait 500ms
			> failed
			  1.4 test
			> wait 500ms
			> failed
			  1.9 test
			  1.9 report failed -b -c`,

		"nor when it has just come back, for its peers need time too": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> up b
			  0.0 report passed +b
			> wait 400ms
			> suspect b
			  0.4 test
			> wait 500ms
			> failed
			  0.9 test
			> down b
			> ok
			> wait 1s
			  1.1 test
			> ok
			> up b
			> wait 100ms`,

		"after a failure it passes once it has been passing for long enough": `
			> wait 0s
			  0.0 test
			> failed
			> wait 1s
			  1.0 test
			> failed
			> wait 1s
			  2.0 test
			> failed
			  2.0 report failed
			> wait 1s
			  3.0 test
			> ok
			> wait 1s
			  4.0 test
			> ok
			> wait 1s
			  5.0 test
			> ok
			  5.0 report passed`,

		"a loss that was reported without proof is taken back when the test passes again": `
			> wait 0s
			  0.0 test
			> failed
			> down b
			> wait 1s
			  0.2 test
			> failed
			  1.0 test
			> wait 200ms
			> failed
			  1.2 test
			  1.2 report failed -b
			> wait 200ms
			> ok
			> heard b
			> wait 1s
			  2.2 test
			> ok
			> wait 1s
			  3.2 test
			> ok
			  3.4 report passed`,

		"one round that fails is nothing to tell": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> wait 1s
			  1.0 test
			> failed
			> wait 1s
			  2.0 test
			> ok`,

		"a peer that is back before the test ended was never lost": `
			> wait 0s
			  0.0 test
			> ok
			  0.0 report passed
			> up b
			  0.0 report passed +b
			> wait 500ms
			> suspect b
			  0.5 test
			> wait 100ms
			> down b
			> up b
			> ok`,

		"a complaint is told at once": `
			> deaf b
			  0.0 test
			  0.0 report absent +b(deaf)
			> up b
			  0.0 report absent +b`,
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Unix(1_800_000_000, 0)
			s := &story{t: t, start: start, now: start}
			s.judge = witness.NewJudge(witness.Config{Test: true, Every: time.Second, Fall: 3, Recovery: timing.Recovery}, start)
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
					want = append(want, fmt.Sprintf("%5s ", at)+rest)
				}
			}
			if diff := cmp.Diff(want, s.lines); diff != "" {
				t.Errorf("story (-want +got):\n%s", diff)
			}
		})
	}
}

func TestWithoutASelfTestEveryLossIsToldAtOnce(t *testing.T) {
	now := time.Unix(0, 0)
	j := witness.NewJudge(witness.Config{}, now)
	j.Saw(now, witness.Sight{NVA: "b", State: witness.Unreachable, Missing: true, Deaf: true}, timing)
	if test, wake := j.Next(now); test || !wake.IsZero() {
		t.Errorf("it wants a test: %t, or to be woken at %s", test, wake)
	}
	want := event.Report{Peers: []event.Peer{{NVA: "b", Deaf: true}}}
	if diff := cmp.Diff(want, j.Report(now)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestNoOutageOfOurOwnIsAnAccusation: this machine's packets get out, or they do not, for at least an interval at a time. Peers never die; they
// look lost when the machine has been cut off for five intervals, and found when it has been back for as long. Whatever the outages, a report
// never calls a peer unreachable while it calls the self-test passed.
func TestNoOutageOfOurOwnIsAnAccusation(t *testing.T) {
	const tick = 100 * time.Millisecond // an interval has two
	rapid.Check(t, func(t *rapid.T) {
		now := time.Unix(1_800_000_000, 0)
		j := witness.NewJudge(witness.Config{Test: true, Every: time.Second, Fall: 3, Recovery: timing.Recovery}, now)
		up, since, run, heard, is := true, 0, 0, true, witness.Sight{NVA: "b", State: witness.Unknown}
		under, good, left := false, false, 0
		phase := rapid.IntRange(0, 1).Draw(t, "phase")
		for i := range rapid.IntRange(1, 400).Draw(t, "ticks") {
			if since++; since > 2 && rapid.IntRange(0, 14).Draw(t, "turn") == 0 {
				up, since = !up, 0
			}
			if i%2 == phase { // an interval ends: its probe was answered at once or not at all
				if up != heard {
					heard, run = up, 0
				}
				run++
				saw := is
				if run >= 5 {
					saw.State = map[bool]witness.State{true: witness.Reachable, false: witness.Unreachable}[heard]
				}
				saw.Missing = !heard && run >= 2
				if saw != is {
					is = saw
					j.Saw(now, is, timing)
				}
			}
			if want, _ := j.Next(now); want {
				under, good, left = true, false, 5 // a round takes at most half a second
			}
			if under {
				good = good || up
				if left--; good || left == 0 {
					under = false
					j.Tested(now, good)
				}
			}
			if r := j.Report(now); r.SelfTest == event.Passed && len(r.Peers) == 1 && !r.Peers[0].Reachable {
				t.Fatalf("accused: the machine is up: %t, for %d ticks; %+v", up, since, is)
			}
			now = now.Add(tick)
		}
	})
}
