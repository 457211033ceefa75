package run_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
)

// eyes is an observer that tells what a test gives it.
type eyes struct {
	name  string
	parts chan event.Report

	mu       sync.Mutex
	accepted []event.Report
	trouble  string
}

func newEyes(name string) *eyes { return &eyes{name: name, parts: make(chan event.Report)} }

func (e *eyes) String() string { return e.name }

func (e *eyes) Run(ctx context.Context, tell func(event.Report)) error {
	for {
		select {
		case r := <-e.parts:
			tell(r)
		case <-ctx.Done():
			return nil
		}
	}
}

func (e *eyes) Accepted(part event.Report) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.accepted = append(e.accepted, part)
}

func (e *eyes) last() event.Report {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.accepted[len(e.accepted)-1]
}

func (e *eyes) Trouble() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trouble
}

func (e *eyes) Detail() any { return "the detail of " + e.name }

func (e *eyes) hurt(trouble string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.trouble = trouble
}

// TestWhatObserversSeeIsReported: at once, together, and again after an outage; whoever waits for it learns that it is known.
func TestWhatObserversSeeIsReported(t *testing.T) {
	inLab(t, func(l *lab) {
		left, right := newEyes("left"), newEyes("right")
		l.observers = []report.Observer{left, right}
		expect := func(what string, want event.Report) {
			t.Helper()
			var got event.Report
			for _, e := range l.events() {
				if e.Reports() {
					got = e.Report
				}
			}
			if !got.Equal(want) {
				t.Errorf("%s: the last report on the bus is %+v, want %+v", what, got, want)
			}
		}
		l.start()
		l.pass(time.Second)
		peers := event.Report{SelfTest: event.Passed, Peers: []event.Peer{{NVA: "nva2"}}}
		left.parts <- peers
		l.pass(10 * time.Millisecond)
		expect("the first part", peers)
		drain := event.Report{Drain: "a reboot"}
		right.parts <- drain
		l.pass(time.Second)
		both := peers
		both.Drain = drain.Drain
		expect("both parts", both)
		if got := right.last(); !got.Equal(drain) {
			t.Errorf("right learns that %+v is known, want %+v", got, drain)
		}

		l.server.Faults().Outage(true)
		left.parts <- event.Report{}
		l.pass(12 * time.Second)
		if got := left.last(); !got.Equal(peers) {
			t.Errorf("left learns that %+v is known, in an outage", got)
		}
		l.server.Faults().Outage(false)
		l.pass(40 * time.Second)
		expect("after an outage", drain)
		if got := left.last(); !got.Empty() {
			t.Errorf("left learns that %+v is known, want its latest part", got)
		}
		l.stop()
	}, "10.1.0.0/16")
}

// TestControlLostIsReported: at once, beside what observers see; an agent that starts says nothing of it before its sources know.
func TestControlLostIsReported(t *testing.T) {
	inLab(t, func(l *lab) {
		left := newEyes("left")
		l.observers = []report.Observer{left}
		frr := event.Session{Name: "frr", Since: time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC)}
		expect := func(what string, want event.Report) {
			t.Helper()
			if got := l.document().Report; !got.Equal(want) {
				t.Errorf("%s: the function app holds %+v, want %+v", what, got, want)
			}
		}
		l.start()
		l.pass(time.Second)
		left.parts <- event.Report{SelfTest: event.Passed}
		l.routes.controlLost(frr)
		l.pass(time.Second)
		lost := event.Report{SelfTest: event.Passed, ControlLost: []event.Session{frr}}
		expect("lost", lost)
		l.stop()

		known := make(chan struct{})
		l.routes.first = func(source.Sink) { <-known }
		before := len(l.events())
		l.start()
		l.pass(time.Minute)
		if now := len(l.events()); now != before {
			t.Errorf("an agent that does not know its routes has said %d things", now-before)
		}
		expect("another agent starts", lost)
		close(known)
		l.pass(time.Second)
		expect("its routes are known", event.Report{})
		l.stop()

		l.routes.first = func(sink source.Sink) { sink.ControlLost([]event.Session{frr}) }
		before = len(l.events())
		l.start()
		l.pass(time.Second)
		for _, e := range l.events()[before:] {
			if e.Reports() && len(e.Report.ControlLost) == 0 {
				t.Errorf("%s %s says that nothing is lost", e.Kind, e.Version)
			}
		}
		expect("it begins with a doubt", event.Report{ControlLost: []event.Session{frr}})
		l.routes.controlLost()
		l.pass(time.Second)
		expect("found again", event.Report{})
		l.stop()
		if log := strings.Join(l.log.all(), "\n"); !strings.Contains(log, "control lost") || !strings.Contains(log, "session=frr") {
			t.Errorf("the log does not tell:\n%s", log)
		}
	}, "10.1.0.0/16")
}

func TestPeersAreShown(t *testing.T) {
	e := newEyes("witness")
	s := serve(t, run.Systemd{}, e)
	s.until("/debug/peers", 200, `"peers": []`)
	e.parts <- event.Report{SelfTest: event.Failed, SelfCheck: event.Passed, Drain: "a reboot", Peers: []event.Peer{{NVA: "nva2", Deaf: true}, {NVA: "nva3", Reachable: true}}}
	s.until("/debug/peers", 200, `"nva": "nva2"`)
	_, page := s.get("/debug/peers")
	for _, want := range []string{`"selfTest": "failed"`, `"drain": "a reboot"`, `"deaf": true`, `"witness": "the detail of witness"`} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	s.until("/metrics", 200, `pointsman_agent_peer_reachable{peer="nva2"} 0`)
	_, page = s.get("/metrics")
	for _, want := range []string{
		`pointsman_agent_peer_reachable{peer="nva3"} 1`, `pointsman_agent_peer_deaf{peer="nva2"} 1`, `pointsman_agent_check_passed{check="self-test"} 0`,
		`pointsman_agent_check_passed{check="self-check"} 1`, `pointsman_agent_draining 1`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	s.until("/healthz", 200, "true") // a peer that is down is no illness
	s.routes.controlLost(event.Session{Name: "frr"}, event.Session{Name: "bird"})
	s.until("/metrics", 200, `pointsman_agent_control_lost{session="bird"} 1`)
	s.until("/debug/peers", 200, `"session": "frr"`)
	s.routes.controlLost(event.Session{Name: "frr"})
	s.until("/debug/peers", 200, `"session": "frr"`) // it is asked of the loop, which has taken it in by then
	if _, page = s.get("/metrics"); strings.Contains(page, `session="bird"`) || !strings.Contains(page, `pointsman_agent_control_lost{session="frr"} 1`) {
		t.Errorf("a session that is back is still shown, or the other is not:\n%s", page)
	}
	e.hurt("it sees nothing")
	s.until("/healthz", 503, "it sees nothing")
	e.hurt("")
	e.parts <- event.Report{}
	s.until("/debug/peers", 200, `"peers": []`)
	if _, page = s.get("/metrics"); strings.Contains(page, "peer_reachable{") || strings.Contains(page, "check_passed{") || !strings.Contains(page, "pointsman_agent_draining 0") {
		t.Errorf("what is not known any more is still shown:\n%s", page)
	}
}
