// Package run is the shell around the pure core of the agent: tasks under one group. Sources report to the publisher's loop, the one
// owner of RIB and machine; the loop carries out the machine's effects on the bus, each in its own goroutine, and the results come
// back to it as inputs. Observers, and sources too, tell it what there is to report beside routes. Nothing else is shared.
//
//	source ───┐                ┌─▶ Publish ──┐
//	observer ─┼─▶ loop ────────┼─▶ Schedule ─┼─▶ Bus
//	HTTP  ────┘    ▲ owner of  ├─▶ Cancel ───┘
//	               │           └─▶ follower
//	               │ rib.RIB, publish.Machine │
//	               └────────── results ◀──────┘
package run

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
)

// Task is one thing that the agent does for as long as it runs.
type Task interface {
	// Run works until ctx is done and then returns nil; an error ends the whole agent.
	Run(ctx context.Context) error
	// Ready is closed once the task does its work.
	Ready() <-chan struct{}
	// String names the task for people.
	String() string
}

// Follower goes with the RIB: another one beside the bus that is told of the routes. Changed, Complete and Drain are called by the loop, in order,
// also before Run; they must not block. Detail is shown at /debug/ with the follower's name, Trouble by /healthz.
type Follower interface {
	Task
	report.Detailed
	report.Troubled
	// Changed hands over changes of the RIB, which begins empty.
	Changed(changes []rib.Change)
	// Complete says that all sources have reported.
	Complete()
	// Drain says whether the NVA is to carry nothing: it is drained, or its self-check fails.
	Drain(drained bool)
}

// Config is what an agent is made of.
type Config struct {
	Publish     publish.Config
	Filter      rib.Filter
	Sources     []source.Source   // in the order of precedence
	Observers   []report.Observer // of what is reported beside routes
	Follower    Follower          // nil: none
	Bus         Bus
	Sign        func(body []byte) ([]byte, error)    // returns an encoded event with its signature; nil: events are not signed
	Farewell    func(ctx context.Context) event.Kind // asked once when stopped: event.Draining or event.Goodbye; nil: Goodbye
	StopTimeout time.Duration                        // of saying farewell
	Listener    net.Listener                         // for HTTP; nil: none. Closed by Run
	Collectors  []prometheus.Collector               // of sources and observers, shown with the agent's own
	Systemd     Systemd
	Logger      *slog.Logger
}

// Agent is a configured agent that does not run yet.
type Agent struct {
	cfg   Config
	loop  *loop
	tasks []Task
}

// New returns an agent; nothing is started or opened.
func New(cfg Config) *Agent {
	l := newLoop(cfg)
	a := &Agent{cfg: cfg, loop: l, tasks: []Task{l}}
	for i, s := range cfg.Sources {
		a.tasks = append(a.tasks, &watch{source: s, loop: l, index: i, ready: make(chan struct{})})
	}
	for i, o := range cfg.Observers {
		a.tasks = append(a.tasks, &observe{observer: o, loop: l, index: i, ready: make(chan struct{})})
	}
	if cfg.Follower != nil {
		a.tasks = append(a.tasks, cfg.Follower)
	}
	if cfg.Listener != nil {
		a.tasks = append(a.tasks, newServer(cfg.Listener, l))
	}
	return a
}

// Run runs the agent until ctx is done, says farewell and returns nil. An error of a task ends all others in the same way.
func (a *Agent) Run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, t := range a.tasks {
		group.Go(func() error {
			if err := t.Run(ctx); err != nil {
				return fmt.Errorf("%s: %w", t, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		a.announceReady(ctx)
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("agent of nva %s: %w", a.cfg.Publish.NVA, err)
	}
	return nil
}

// announceReady tells systemd once all tasks do their work. The bus is no part of that: an agent that cannot reach it is
// running as it should.
func (a *Agent) announceReady(ctx context.Context) {
	for _, t := range a.tasks {
		select {
		case <-t.Ready():
		case <-ctx.Done():
			return
		}
	}
	a.cfg.Systemd.notify("READY=1")
}

// watch is the task of one source.
type watch struct {
	source source.Source
	loop   *loop
	index  int
	ready  chan struct{}
}

func (w *watch) String() string         { return w.source.String() }
func (w *watch) Ready() <-chan struct{} { return w.ready }

func (w *watch) Run(ctx context.Context) error {
	close(w.ready)
	tell := func(part event.Report) {
		w.loop.do(func(now time.Time) { w.loop.observed(ctx, now, len(w.loop.cfg.Observers)+w.index, part) })
	}
	if err := w.source.Run(ctx, &sink{loop: w.loop, index: w.index, tell: tell}); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	return nil
}

// sink hands what a source reports to the loop.
type sink struct {
	loop  *loop
	index int
	tell  func(part event.Report) // of the report
}

func (s *sink) Replace(all []source.Route) {
	s.loop.do(func(now time.Time) { s.loop.changed(now, s.loop.rib.Replace(s.index, all)) })
}

func (s *sink) Update(changed []source.Route, gone []netip.Prefix) {
	s.loop.do(func(now time.Time) { s.loop.changed(now, s.loop.rib.Update(s.index, changed, gone)) })
}

func (s *sink) Lost(reason error) {
	s.loop.do(func(time.Time) { s.loop.rib.Lost(s.index, reason) })
}

func (s *sink) ControlLost(sessions []event.Session) { s.tell(event.Report{ControlLost: sessions}) }
