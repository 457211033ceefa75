package run_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/shared/event"
)

// shade is a follower that remembers what it is told.
type shade struct {
	started chan struct{}

	mu   sync.Mutex
	told []string
}

func (s *shade) tell(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told = append(s.told, fmt.Sprintf(format, args...))
}

func (s *shade) Changed(changes []rib.Change) {
	for _, c := range changes {
		s.tell("%s %t", c.Prefix, c.Is.Announced)
	}
}
func (s *shade) Complete()              { s.tell("complete") }
func (s *shade) Drain(drained bool)     { s.tell("drained %t", drained) }
func (s *shade) Ready() <-chan struct{} { return s.started }
func (s *shade) String() string         { return "shade" }
func (s *shade) Detail() any            { return map[string]string{"seen": "by the follower"} }
func (s *shade) Trouble() string        { return "the follower stumbles" }

func (s *shade) Run(ctx context.Context) error {
	close(s.started)
	<-ctx.Done()
	return nil
}

// TestFollower: it is told of every change in order, and of draining and a failed self-check; what it says is shown.
func TestFollower(t *testing.T) {
	inLab(t, func(l *lab) {
		s, o := &shade{started: make(chan struct{})}, newEyes("eyes")
		l.follower, l.observers = s, []report.Observer{o}
		l.start()
		l.pass(time.Second)
		l.routes.add("10.2.0.0/16")
		l.routes.remove("10.1.0.0/16")
		o.parts <- event.Report{SelfCheck: event.Failed}
		o.parts <- event.Report{SelfCheck: event.Passed}
		o.parts <- event.Report{SelfCheck: event.Passed, Drain: "the host goes down"}
		l.pass(time.Second)
		l.stop()
		want := []string{
			"10.1.0.0/16 true", "complete", "10.2.0.0/16 true", "complete", "10.1.0.0/16 false", "complete", "drained true", "drained false", "drained true",
		}
		if !slices.Equal(s.told, want) {
			t.Errorf("told %q, want %q", s.told, want)
		}
	}, "10.1.0.0/16")
}

func TestFollowerIsShown(t *testing.T) {
	s := serveFollowed(t, run.Systemd{}, &shade{started: make(chan struct{})})
	if status, text := s.get("/debug/shade"); status != 200 || !strings.Contains(text, "by the follower") {
		t.Errorf("%d %s", status, text)
	}
	if status, text := s.get("/healthz"); status != 503 || !strings.Contains(text, "the follower stumbles") {
		t.Errorf("%d %s", status, text)
	}
}
