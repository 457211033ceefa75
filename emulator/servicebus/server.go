package servicebus

import (
	"container/heap"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// clockPoll is how often an injected clock is looked at.
const clockPoll = 10 * time.Millisecond

// Server is a running namespace. Its methods may be called from several goroutines.
//
// One lock guards everything: each frame that arrives is handled as one step, in which time is first brought up to date
// and after which whatever can be delivered is put into the outgoing buffers of the connections. Nothing waits for the
// network while it is held.
type Server struct {
	cfg      Config
	log      *slog.Logger
	now      func() time.Time
	faults   *Faults
	listener net.Listener // nil if made by New
	observed *observers
	done     chan struct{}
	wake     chan struct{} // the timer must be set anew
	wg       sync.WaitGroup

	mu        sync.Mutex
	closed    bool
	broker    *broker.Broker
	conns     []*conn // in the order of their start
	nextConn  uint64
	receivers map[*broker.Queue][]*receiverLink // those that may have credit; the next one to serve is first
	waiting   map[*broker.Queue][]*acceptWait   // attaches that wait for a session
	timers    timerHeap
	timerSeq  uint64
	armed     time.Time // when the timer goroutine will wake; zero = not at all
}

// Start listens on cfg.Address and serves in the background until Close.
func Start(cfg Config) (*Server, error) {
	s := New(cfg)
	l, err := net.Listen("tcp", s.cfg.Address) //nolint:noctx // nothing to cancel: a local bind
	if err != nil {
		_ = s.Close()
		return nil, fmt.Errorf("service bus emulator: listen on %s: %w", s.cfg.Address, err)
	}
	s.listener = l
	s.wg.Go(s.accept)
	return s, nil
}

// New is a namespace that does not listen; connections come from Dial only.
func New(cfg Config) *Server {
	cfg = cfg.withDefaults()
	s := &Server{
		cfg: cfg, log: cfg.Logger, now: cfg.Now, observed: newObservers(),
		done: make(chan struct{}), wake: make(chan struct{}, 1),
		broker:    broker.New(cfg.Seed),
		receivers: map[*broker.Queue][]*receiverLink{}, waiting: map[*broker.Queue][]*acceptWait{},
	}
	if s.now == nil {
		s.now = time.Now
	}
	s.faults = newFaults(s, cfg.Seed)
	cfg.populate(s.broker)
	s.broker.OnEvent = func(e broker.Event) { s.observed.add(publicEvent(e)) }
	s.broker.OnSessionLost = s.sessionLost
	s.wg.Go(s.runTimers)
	s.wg.Go(func() { s.observed.run(s.done) })
	return s
}

// Addr is the host:port that the server listens on; "localhost" if it does not.
func (s *Server) Addr() string {
	if s.listener == nil {
		return "localhost"
	}
	return s.listener.Addr().String()
}

// ConnectionString is one for the shared access rule of that name; "" = the first one. It panics if there is no such
// rule, which is a mistake in the caller.
func (s *Server) ConnectionString(key string) string {
	i := slices.IndexFunc(s.cfg.Keys, func(k Key) bool { return key == "" || k.Name == key })
	if i < 0 {
		panic("servicebus: no key " + key)
	}
	k := s.cfg.Keys[i]
	return fmt.Sprintf("Endpoint=sb://%s;SharedAccessKeyName=%s;SharedAccessKey=%s;UseDevelopmentEmulator=true",
		s.Addr(), k.Name, k.Value)
}

// Faults are the knobs to make the server misbehave.
func (s *Server) Faults() *Faults { return s.faults }

// Dial is the client's end of a new in-memory connection, without TLS. It fits
// azservicebus.ClientOptions.NewWebSocketConn, and works inside a testing/synctest bubble.
func (s *Server) Dial() net.Conn {
	client, server := net.Pipe()
	s.serve(server)
	return client
}

// Connections is how many connections were served since the start.
func (s *Server) Connections() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return int(s.nextConn)
}

// Tick makes the server look at the clock now; needed only with Config.Now.
func (s *Server) Tick() { s.step(func(time.Time) {}) }

// Close ends all connections and goroutines and waits for them. It must not be called from an observer.
func (s *Server) Close() error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.closed = true
	conns := slices.Clone(s.conns)
	s.mu.Unlock()

	close(s.done)
	var err error
	if s.listener != nil {
		err = s.listener.Close()
	}
	for _, c := range conns {
		c.abort()
	}
	s.wg.Wait()
	if err != nil {
		return fmt.Errorf("service bus emulator: close listener: %w", err)
	}
	return nil
}

func (s *Server) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return // closed
		}
		if s.cfg.TLS != nil {
			c = tls.Server(c, s.cfg.TLS)
		}
		s.serve(c)
	}
}

// serve starts the goroutines of a connection, or closes it if the server is closed or in an outage.
func (s *Server) serve(nc net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.faults.outage {
		reset(nc)
		return
	}
	s.nextConn++
	c := newConn(s, nc, s.nextConn)
	s.conns = append(s.conns, c)
	s.wg.Go(c.read)
	s.wg.Go(c.write)
}

// step runs f as one step of the server.
func (s *Server) step(f func(now time.Time)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.advance(now)
	f(now)
	s.pump(now)
	s.arm()
}

// advance does what is due: the broker's deadlines and the server's own timers.
func (s *Server) advance(now time.Time) {
	s.broker.Advance(now)
	for len(s.timers) > 0 && !s.timers[0].at.After(now) {
		t := heap.Pop(&s.timers).(timer)
		t.run(now)
	}
}

// pump delivers until nothing more can be delivered.
func (s *Server) pump(now time.Time) {
	for {
		changed := s.broker.Changed()
		if len(changed) == 0 {
			return
		}
		for _, q := range changed {
			s.grantSessions(now, q)
			s.deliver(now, q)
		}
	}
}

// timer is something the server does at an instant, under its lock.
type timer struct {
	at  time.Time
	seq uint64
	run func(now time.Time)
}

type timerHeap []timer

func (h timerHeap) Len() int { return len(h) }
func (h timerHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].seq < h[j].seq
	}
	return h[i].at.Before(h[j].at)
}
func (h timerHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }
func (h *timerHeap) Push(x any)   { *h = append(*h, x.(timer)) }
func (h *timerHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = timer{}
	*h = old[:len(old)-1]
	return last
}

// after runs f under the lock in d, at once if d is not positive.
func (s *Server) after(now time.Time, d time.Duration, f func(now time.Time)) {
	if d <= 0 {
		f(now)
		return
	}
	s.timerSeq++
	heap.Push(&s.timers, timer{at: now.Add(d), seq: s.timerSeq, run: f})
}

// next is when there is something to do next.
func (s *Server) next() (time.Time, bool) {
	at, ok := s.broker.Next()
	if len(s.timers) > 0 && (!ok || s.timers[0].at.Before(at)) {
		return s.timers[0].at, true
	}
	return at, ok
}

// arm makes the timer goroutine wake earlier if that became necessary.
func (s *Server) arm() {
	at, ok := s.next()
	if !ok || !s.armed.IsZero() && !at.Before(s.armed) {
		return
	}
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *Server) runTimers() {
	t := time.NewTimer(0)
	defer t.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		case <-t.C:
		}
		s.Tick()
		t.Stop()
		if d, ok := s.untilNext(); ok {
			t.Reset(d)
		}
	}
}

// untilNext is how long the timer goroutine may sleep.
func (s *Server) untilNext() (time.Duration, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at, ok := s.next()
	s.armed = at
	if !ok {
		s.armed = time.Time{}
		return 0, false
	}
	d := max(at.Sub(s.now()), 0)
	if s.cfg.Now != nil {
		d = min(d, clockPoll)
	}
	return d, true
}
