package run_test

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/signature"
)

// inLab runs a scenario in virtual time.
func inLab(t *testing.T, scenario func(l *lab), prefixes ...string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := newLab(t, prefixes...)
		defer l.close()
		scenario(l)
	})
}

func TestChangesAreGatheredAndPublished(t *testing.T) {
	inLab(t, func(l *lab) {
		l.start()
		l.pass(time.Second)
		l.expect("after the start", false, "10.1.0.0/16")
		l.routes.add("10.2.0.0/16")
		l.routes.remove("10.1.0.0/16")
		l.pass(time.Second)
		l.expect("after a burst", false, "10.2.0.0/16")
		l.routes.remove("10.2.0.0/16")
		l.pass(50 * time.Millisecond)
		l.routes.add("10.2.0.0/16")
		l.pass(time.Minute)
		if k := l.kinds(); k[event.Snapshot] != 1 || k[event.Delta] != 1 || len(k) != 2 {
			t.Errorf("published %v, want one snapshot and one delta: a flap says nothing and beats are not delivered", k)
		}
		l.stop()
	}, "10.1.0.0/16")
}

func TestEventsCanBeTracedAndMeasured(t *testing.T) {
	inLab(t, func(l *lab) {
		l.start()
		l.pass(time.Second)
		before := time.Now()
		l.routes.add("10.2.0.0/16")
		l.pass(time.Second)
		events := l.events()
		delta := events[len(events)-1]
		if !delta.Observed.Equal(before) || !delta.Time.Equal(before.Add(100*time.Millisecond)) {
			t.Errorf("observed %s, said %s: want %s and 100 ms later", delta.Observed, delta.Time, before)
		}
		if len(delta.Traceparent) != 55 || delta.Traceparent == events[0].Traceparent {
			t.Errorf("traceparent %q: want one of its own", delta.Traceparent)
		}
		l.stop()
	}, "10.1.0.0/16")
}

func TestADeadAgentIsFoundSilent(t *testing.T) {
	inLab(t, func(l *lab) {
		l.start()
		l.pass(time.Minute)
		l.kill()
		l.pass(9 * time.Second)
		l.expect("too early to tell", false, "10.1.0.0/16")
		l.pass(7 * time.Second)
		l.expect("after the timeout", true, "10.1.0.0/16")
		l.start()
		l.pass(time.Second)
		l.expect("after the next start", false, "10.1.0.0/16")
		l.stop()
	}, "10.1.0.0/16")
}

// Everything that leaves the agent is signed, the dead-man switch as well.
func TestSigning(t *testing.T) {
	inLab(t, func(l *lab) {
		private := ed25519.NewKeyFromSeed(make([]byte, ed25519.SeedSize))
		l.sign = func(body []byte) ([]byte, error) { return signature.Sign(private, body) }
		l.start()
		l.pass(time.Second)
		l.routes.add("10.2.0.0/16")
		l.pass(time.Minute)
		l.kill()
		l.pass(time.Minute)
		l.expect("dead", true, "10.1.0.0/16", "10.2.0.0/16")
		l.start()
		l.pass(time.Second)
		l.stop()
		said := map[event.Kind]bool{}
		for _, m := range l.server.Peek(queue) {
			e, err := event.Decode(m.Body)
			if err != nil {
				t.Fatal(err)
			}
			said[e.Kind] = true
			if _, _, err = signature.Open(m.Body, []signature.Key{signature.KeyOf(private)}); err != nil {
				t.Errorf("%s: %v", e.ID(), err)
			}
		}
		for _, k := range []event.Kind{event.Snapshot, event.Delta, event.Expired, event.Goodbye} {
			if !said[k] {
				t.Errorf("no %s was said: the scenario shows nothing of it", k)
			}
		}
	}, "10.1.0.0/16")
}

// An agent that cannot sign says nothing, and why.
func TestCannotSign(t *testing.T) {
	inLab(t, func(l *lab) {
		l.sign = func([]byte) ([]byte, error) { return nil, errors.New("no key") }
		l.start()
		l.pass(time.Second)
		if n := len(l.events()); n > 0 || !slices.ContainsFunc(l.log.all(), func(line string) bool { return strings.Contains(line, "no key") }) {
			t.Errorf("%d events, log %q", n, l.log.all())
		}
		l.stop()
	}, "10.1.0.0/16")
}

func TestAnOutageOfTheBroker(t *testing.T) {
	inLab(t, func(l *lab) {
		l.start()
		l.pass(12 * time.Second)
		l.server.Faults().Outage(true)
		l.pass(2 * time.Second)
		l.routes.add("10.2.0.0/16")
		l.pass(time.Minute)
		l.routes.remove("10.1.0.0/16")
		l.pass(time.Minute)
		l.server.Faults().Outage(false)
		l.pass(40 * time.Second)
		l.expect("after the outage", false, "10.2.0.0/16")
		if k := l.kinds(); k[event.Expired] == 0 {
			t.Error("the switch did not fire during the outage: the scenario shows nothing")
		}
		before := len(l.events())
		l.pass(5 * time.Minute)
		if after := len(l.events()); after != before {
			t.Errorf("%d events in five quiet minutes after the outage", after-before)
		}
		l.stop()
	}, "10.1.0.0/16")
}

func TestGoodbyeKeepsTheRoutesForTheRestartTime(t *testing.T) {
	inLab(t, func(l *lab) {
		l.start()
		l.pass(7 * time.Second)
		began := time.Now()
		l.stop()
		if took := time.Since(began); took > 5*time.Second {
			t.Errorf("stopping took %s", took)
		}
		l.pass(100 * time.Second)
		l.expect("while it restarts", false, "10.1.0.0/16")
		if !l.document().Restarting() {
			t.Error("it said no goodbye")
		}
		l.start()
		l.pass(5 * time.Minute)
		l.expect("after the restart", false, "10.1.0.0/16")
		if l.document().Restarting() {
			t.Error("the goodbye of the last epoch still counts")
		}
		l.stop()
		l.pass(3 * time.Minute)
		l.expect("after a restart that did not happen", true, "10.1.0.0/16")
	}, "10.1.0.0/16")
}

func TestDraining(t *testing.T) {
	inLab(t, func(l *lab) {
		l.kind = event.Draining
		l.start()
		l.pass(7 * time.Second)
		l.stop()
		l.pass(time.Second)
		if n := l.document(); !n.Draining() || n.Notice.Reason != "the system is going down" {
			t.Errorf("notice %+v, want draining", n.Notice)
		}
	}, "10.1.0.0/16")
}

func TestStoppingIsBoundedWithoutABroker(t *testing.T) {
	inLab(t, func(l *lab) {
		l.start()
		l.pass(7 * time.Second)
		l.server.Faults().Outage(true)
		began := time.Now()
		l.stop()
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("stopping took %s, want at most 5 s and a little", took)
		}
	}, "10.1.0.0/16")
}

func TestASlowPublishDoesNotStopTheBeat(t *testing.T) {
	inLab(t, func(l *lab) {
		l.start()
		l.pass(7 * time.Second)
		l.server.Faults().DelaySends(9 * time.Second)
		for range 6 {
			l.routes.add("10.2.0.0/16")
			l.pass(5 * time.Second)
			l.routes.remove("10.2.0.0/16")
			l.pass(5 * time.Second)
		}
		if k := l.kinds(); k[event.Expired] != 0 {
			t.Error("the switch fired although the agent lives and the broker only is slow")
		}
		l.server.Faults().DelaySends(0)
		l.pass(time.Minute)
		l.expect("at the end", false, "10.1.0.0/16")
		l.stop()
	}, "10.1.0.0/16")
}

func TestAMissingRightIsSaidClearly(t *testing.T) {
	inLab(t, func(l *lab) {
		l.startAs("reader", nil)
		l.pass(5 * time.Minute)
		var denied []string
		for _, line := range l.log.all() {
			if strings.HasPrefix(line, "ERROR") && strings.Contains(line, "give the identity the role Azure Service Bus Data Sender") {
				denied = append(denied, line)
			}
		}
		if len(denied) != 2 {
			t.Errorf("log:\n%s\nwant one error for publishing and one for the switch that say what to do", strings.Join(l.log.all(), "\n"))
		}
		l.stop()
	}, "10.1.0.0/16")
}

// stuck is a bus that never answers a publish.
type stuck struct {
	publishes, beats atomic.Int32
}

func (s *stuck) Publish(ctx context.Context, _ []message.Message) error {
	s.publishes.Add(1)
	<-ctx.Done()
	return ctx.Err()
}

func (s *stuck) Schedule(context.Context, message.Message, time.Time) (int64, error) {
	return int64(s.beats.Add(1)), nil
}

func (s *stuck) Cancel(context.Context, int64) error { return nil }

func TestAPublishThatHangsIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := new(stuck)
		agent := run.New(run.Config{
			Publish: publish.Config{
				Domain: "lab", NVA: "nva1", Boot: "boot", Epoch: 1, Beat: publish.Beat{Every: 5 * time.Second, Timeout: 15 * time.Second},
				Snapshot: 10 * time.Minute, Restart: 2 * time.Minute, MaxBytes: 192 << 10,
			},
			Sources: []source.Source{newRoutes("10.1.0.0/16")}, Bus: bus, StopTimeout: 5 * time.Second, Logger: slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		if err := agent.Run(ctx); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took != 65*time.Second {
			t.Errorf("the agent took %s to end, want a minute and the time to stop", took)
		}
		if n := bus.publishes.Load(); n < 4 || n > 6 {
			t.Errorf("%d attempts in a minute, want one about every 10 s", n)
		}
		if n := bus.beats.Load(); n != 13 && n != 14 { // the last may be the farewell's
			t.Errorf("%d beats in a minute, want one every 5 s and one for the farewell", n)
		}
	})
}
