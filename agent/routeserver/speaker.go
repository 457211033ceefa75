package routeserver

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/agent/rib"
)

// Dialer opens sessions with instances, which are named by their index in Config.Instances.
type Dialer interface {
	// Open returns an established session; it gives up when ctx is done. restarting is the flag of RFC 4724, section 3: this process has had no
	// session with the instance before.
	Open(ctx context.Context, instance int, restarting bool) (Session, error)
}

// Session is an established session. Listen is called once; Send by one goroutine at a time; Close at any time.
type Session interface {
	Info() Info
	// Listen hands to h what the instance says and returns why the session has ended.
	Listen(h Hearer) error
	// Send sends effects. An error ends the session; Listen returns then.
	Send(e Effects) error
	// Close ends the session in a manner that the instance understands.
	Close(why Farewell)
}

// Info is what was agreed upon.
type Info struct {
	HoldTime time.Duration
	Retains  bool // the instance keeps our routes for the restart time when the session is lost
}

// Farewell says why a session is closed.
type Farewell uint8

// Why it can be closed.
const (
	GoingDown  Farewell = iota + 1 // the machine goes down: the routes are to go at once
	Restarting                     // the agent will be back within the restart time: the routes are to stay, if the instance can do that
)

// Hearer receives what an instance says, by one goroutine. No method blocks.
type Hearer interface {
	Update(withdrawn []netip.Prefix, announced []Learned)
	EndOfRIB()
	Refresh()
}

// Pauses between attempts to open a session: each doubles the last.
const (
	firstPause   = time.Second
	longestPause = 15 * time.Second
)

// Metrics counts what a speaker does. The fields may be read at any time.
type Metrics struct {
	Announced   atomic.Uint64 // prefixes announced, to each instance
	Withdrawn   atomic.Uint64
	Established atomic.Uint64 // sessions that came up
	Lost        atomic.Uint64 // sessions that ended
	Refreshes   atomic.Uint64 // ROUTE-REFRESH messages
}

// Speaker holds the sessions with both instances. It follows the RIB of the agent: see Changed, Ready and Drain.
type Speaker struct {
	cfg      *Config
	dialer   Dialer
	farewell func(context.Context) Farewell
	log      *slog.Logger
	metrics  *Metrics
	ready    chan struct{}
	wakes    [Instances]chan struct{} // each holds one: there may be something to send

	mu      sync.Mutex
	machine *Machine
}

var (
	_ report.Detailed = (*Speaker)(nil)
	_ report.Troubled = (*Speaker)(nil)
)

// New returns a speaker; nothing is opened before Run. farewell is asked once, when it is stopped. A nil metrics is allowed.
func New(cfg *Config, dialer Dialer, farewell func(context.Context) Farewell, log *slog.Logger, metrics *Metrics) *Speaker {
	if metrics == nil {
		metrics = new(Metrics)
	}
	s := &Speaker{
		cfg: cfg, dialer: dialer, farewell: farewell, log: log, metrics: metrics, ready: make(chan struct{}),
		machine: NewMachine(cfg, time.Now()),
	}
	for i := range s.wakes {
		s.wakes[i] = make(chan struct{}, 1)
	}
	return s
}

func (s *Speaker) String() string { return "routeserver" }

// Ready is closed once the speaker does its work; sessions may take longer.
func (s *Speaker) Ready() <-chan struct{} { return s.ready }

// Run holds the sessions until ctx is done and then returns nil.
func (s *Speaker) Run(ctx context.Context) error {
	close(s.ready)
	// Sessions outlive ctx by their farewell.
	stop, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)
	var instances sync.WaitGroup
	for i := range s.cfg.Instances {
		instances.Go(func() { s.keep(stop, i) })
	}
	<-ctx.Done()
	cancel(ending(s.farewell(stop)))
	instances.Wait()
	return nil
}

// ending is the cause of the end of a speaker.
type ending Farewell

func (e ending) Error() string { return "the agent is stopped" }

// keep keeps a session with an instance.
func (s *Speaker) keep(ctx context.Context, i int) {
	pause, restarting := firstPause, true
	for ctx.Err() == nil {
		session, err := s.dialer.Open(ctx, i, restarting)
		if err == nil {
			restarting, pause = false, firstPause
			err = s.hold(ctx, i, session)
		}
		if ctx.Err() != nil {
			return
		}
		s.change(i, func(m *Machine, now time.Time) { m.Lost(i, now, err.Error()) })
		s.log.LogAttrs(ctx, slog.LevelWarn, "no session with Route Server, trying again", slog.String("instance", s.cfg.Instances[i].String()),
			slog.Duration("pause", pause), slog.Any("error", err))
		rest(ctx, pause)
		pause = min(2*pause, longestPause)
	}
}

func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// hold is the life of one session; it returns why it has ended.
func (s *Speaker) hold(ctx context.Context, i int, session Session) error {
	info := session.Info()
	s.metrics.Established.Add(1)
	defer s.metrics.Lost.Add(1)
	s.change(i, func(m *Machine, now time.Time) { m.Established(i, now, info.HoldTime, info.Retains) })
	s.log.LogAttrs(ctx, slog.LevelInfo, "session with Route Server established", slog.String("instance", s.cfg.Instances[i].String()),
		slog.Duration("hold-time", info.HoldTime), slog.Bool("retains", info.Retains))
	ended := make(chan error, 1)
	go func() { ended <- session.Listen(&ear{s, i}) }()
	defer context.AfterFunc(ctx, func() { // even while Send hangs
		why := ending(Restarting)
		_ = errors.As(context.Cause(ctx), &why)
		session.Close(Farewell(why))
	})()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case err := <-ended:
			return err
		case <-s.wakes[i]:
		case <-timer.C:
		}
		e := s.next(i)
		if !e.Wake.IsZero() {
			timer.Reset(time.Until(e.Wake))
		}
		if err := session.Send(e); err != nil {
			s.log.LogAttrs(ctx, slog.LevelDebug, "send to Route Server", slog.Any("error", err)) // Listen says why
		}
	}
}

// next takes what is to be sent to an instance.
func (s *Speaker) next(i int) Effects {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.machine.Next(i, time.Now())
	for _, u := range e.Updates {
		s.metrics.Announced.Add(uint64(len(u.Announce)))
		s.metrics.Withdrawn.Add(uint64(len(u.Withdraw)))
	}
	return e
}

// change tells the machine something about one instance.
func (s *Speaker) change(i int, f func(m *Machine, now time.Time)) {
	s.mu.Lock()
	f(s.machine, time.Now())
	s.mu.Unlock()
	s.wake(i)
}

func (s *Speaker) wake(i int) {
	select {
	case s.wakes[i] <- struct{}{}:
	default: // it was said already
	}
}

// tell tells the machine something that is to reach all instances.
func (s *Speaker) tell(f func(m *Machine)) {
	s.mu.Lock()
	f(s.machine)
	s.mu.Unlock()
	for i := range s.wakes {
		s.wake(i)
	}
}

// Changed takes in changes of the RIB. Like the next two it does not block, and may be called before Run.
func (s *Speaker) Changed(changes []rib.Change) {
	s.tell(func(m *Machine) { m.Changed(changes) })
}

// Complete says that the RIB is complete: all sources have reported.
func (s *Speaker) Complete() { s.tell((*Machine).Ready) }

// Drain says whether the NVA is to carry nothing.
func (s *Speaker) Drain(drained bool) { s.tell(func(m *Machine) { m.Drain(drained) }) }

// Detail implements [report.Detailed].
func (s *Speaker) Detail() any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Status()
}

// Trouble implements [report.Troubled].
func (s *Speaker) Trouble() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Trouble()
}

// Counts returns the figures of an instance.
func (s *Speaker) Counts(i int) Counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.Counts(i)
}

// ear hears one instance.
type ear struct {
	*Speaker
	instance int
}

func (e *ear) Update(withdrawn []netip.Prefix, announced []Learned) {
	e.change(e.instance, func(m *Machine, _ time.Time) { m.Heard(e.instance, withdrawn, announced) })
}

func (e *ear) EndOfRIB() {
	e.change(e.instance, func(m *Machine, _ time.Time) { m.HeardAll(e.instance) })
}

func (e *ear) Refresh() {
	e.metrics.Refreshes.Add(1)
	e.change(e.instance, func(m *Machine, _ time.Time) { m.Refresh(e.instance) })
}
