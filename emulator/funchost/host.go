package funchost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config says what to run. Only AppRoot is required.
type Config struct {
	AppRoot string // the staged app root: host.json, the executable, <Name>/function.json
	Address string // HTTP side; "127.0.0.1:0" if empty

	// Settings are the app settings. They become the environment of the handler, resolve %NAME% in bindings, and hold
	// the connections. Environment wins over Settings, Settings win over local.settings.json.
	Settings map[string]string
	// Environment is the base environment of the handler process; nil means os.Environ().
	Environment []string

	StateDir string       // schedule monitor of the timers; empty: no monitor, so no missed runs
	Logger   *slog.Logger // nil discards
	// HandlerOutput gets the lines of the handler, prefixed by "[handler level] "; nil writes them to Logger instead.
	HandlerOutput io.Writer

	RealTime      bool // an empty answer hangs until functionTimeout as in the real host; false: it fails loudly (contract D2)
	ContentLength bool // send Content-Length instead of chunks, as Core Tools do (contract C1)
	TraceParent   bool // send a traceparent header (contract C1)

	Now    func() time.Time // the clock of payloads, schedules and the crash window; nil means time.Now
	Timing Timing           // zero fields mean the real host's durations

	// LoseLock is a fault switch, asked before each settlement of a batch: true drops the batch and its session
	// unsettled, as an expired lock does (contract E3). Nil never does.
	LoseLock func(function string, messageIDs []string) bool
}

// Timing holds the durations that are constants in the real host; tests shorten them.
type Timing struct {
	ReadyPoll   time.Duration // between two polls of a starting handler; 25 ms
	ErrorWindow time.Duration // a handler error later than this after the last starts counting anew; 30 min
	StopGrace   time.Duration // Close waits this long for invocations; 10 s
	Settle      time.Duration // limit of one settlement call; 5 s
	RetryMin    time.Duration // first back-off while the bus is away; 250 ms
	RetryMax    time.Duration // last back-off while the bus is away; 30 s
}

func (t Timing) withDefaults() Timing {
	or := func(d *time.Duration, real time.Duration) {
		if *d == 0 {
			*d = real
		}
	}
	or(&t.ReadyPoll, 25*time.Millisecond)
	or(&t.ErrorWindow, 30*time.Minute)
	or(&t.StopGrace, 10*time.Second)
	or(&t.Settle, 5*time.Second)
	or(&t.RetryMin, 250*time.Millisecond)
	or(&t.RetryMax, 30*time.Second)
	return t
}

func (c Config) withDefaults() Config {
	if c.Address == "" {
		c.Address = "127.0.0.1:0"
	}
	if c.Environment == nil {
		c.Environment = os.Environ()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	c.Timing = c.Timing.withDefaults()
	return c
}

// Invocation is the start or the end of one run of a function.
type Invocation struct {
	Function   string
	ID         string // the InvocationId, a GUID
	Ended      bool   // false: it starts; OK, Duration and Err are zero
	OK         bool
	Duration   time.Duration // from the dispatch to the settled result, waiting for the handler to be ready included
	MessageIDs []string      // of the Service Bus messages, in batch order; nil for other triggers
	Err        error         // why it failed
}

// Host is a running host.
type Host struct {
	cfg      Config
	settings settings
	app      *app
	process  *process
	listener net.Listener
	server   *http.Server
	routes   []route
	senders  *senders
	openBus  func(*function) (bus, error)

	base      context.Context // lives until the handler is dead; carries the requests to it
	kill      context.CancelFunc
	listening context.Context // ends when Close begins; carries the triggers
	unlisten  context.CancelFunc
	triggers  sync.WaitGroup
	running   atomic.Int64  // invocations
	done      chan struct{} // closed when the process supervisor and the server are finished
	exit      error         // valid after done

	observers struct {
		sync.Mutex
		list []func(Invocation)
	}
	closing sync.Once
	closed  error
}

// Start loads the app root, starts the handler and all listeners, and returns. It does not wait for the handler:
// invocations wait until it answers. Cancelling ctx is the same as Close.
func Start(ctx context.Context, cfg Config) (*Host, error) {
	h, err := newHost(ctx, cfg)
	if err != nil {
		return nil, err
	}
	return h, h.start(ctx)
}

func (h *Host) start(ctx context.Context) error {
	var err error
	h.listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", h.cfg.Address)
	if err != nil {
		return fmt.Errorf("functions host: %w", err)
	}
	h.server = &http.Server{Handler: h.handler(), ReadHeaderTimeout: 30 * time.Second}
	h.report()
	go h.supervise()
	go func() { _ = h.server.Serve(h.listener) }() // ends with ErrServerClosed
	h.startTriggers()
	context.AfterFunc(ctx, func() { _ = h.Close() })
	return nil
}

// newHost builds everything that needs no socket and no process.
func newHost(ctx context.Context, cfg Config) (*Host, error) {
	cfg = cfg.withDefaults()
	root, err := filepath.Abs(cfg.AppRoot)
	if err != nil {
		return nil, fmt.Errorf("script root %s: %w", cfg.AppRoot, err)
	}
	h := &Host{cfg: cfg, done: make(chan struct{})}
	if h.settings, err = newSettings(root, cfg.Environment, cfg.Settings); err != nil {
		return nil, err
	}
	if h.app, err = loadApp(root, h.settings); err != nil {
		return nil, err
	}
	if h.process, err = newProcess(h.app, h.settings, cfg); err != nil {
		return nil, err
	}
	h.routes = newRoutes(h.app)
	h.senders = &senders{settings: h.settings}
	h.openBus = h.openAzureBus
	h.base, h.kill = context.WithCancel(context.WithoutCancel(ctx))
	h.listening, h.unlisten = context.WithCancel(h.base)
	return h, nil
}

// report logs what was loaded, as the real host does at start.
func (h *Host) report() {
	for _, problem := range h.app.problems {
		h.cfg.Logger.ErrorContext(h.base, "Function is in error", slog.Any("error", problem))
	}
	for _, f := range h.app.functions {
		h.cfg.Logger.InfoContext(h.base, "Found function", slog.String("function", f.name), slog.String("trigger", f.trigger.Type))
		if f.trigger.is("serviceBusTrigger") {
			h.reportOverrides(f)
		}
	}
	if len(h.app.functions) == 0 {
		h.cfg.Logger.WarnContext(h.base, "No job functions found")
	}
}

// supervise runs the handler until it ends for good, then ends the host with it (contract B6).
func (h *Host) supervise() {
	err := h.process.run(h.base)
	if err == nil && h.listening.Err() == nil {
		<-h.listening.Done() // exit code 0: the host goes on without its handler
	}
	h.exit = err
	close(h.done)
	if err != nil {
		h.cfg.Logger.ErrorContext(h.base, "The host is shutting down", slog.Any("error", err))
		_ = h.Close()
	}
}

// startTriggers starts one listener per function that needs one.
func (h *Host) startTriggers() {
	for _, f := range h.app.functions {
		switch {
		case f.trigger.is("serviceBusTrigger"):
			h.triggers.Go(func() { h.listenBus(f) })
		case f.trigger.is("timerTrigger"):
			h.triggers.Go(func() { h.runTimer(f) })
		}
	}
}

// URL is the address of the HTTP side, without a slash at the end.
func (h *Host) URL() string { return "http://" + h.listener.Addr().String() }

// HandlerPID is the process id of the running handler, 0 if none runs at this moment.
func (h *Host) HandlerPID() int { return h.process.pid() }

// Functions names the loaded functions, sorted.
func (h *Host) Functions() []string {
	names := make([]string, len(h.app.functions))
	for i, f := range h.app.functions {
		names[i] = f.name
	}
	return names
}

// Problems are the functions that could not be loaded, sorted by name.
func (h *Host) Problems() []error { return h.app.problems }

// Observe calls fn at the start and at the end of every invocation from now on, from the goroutine that runs it.
func (h *Host) Observe(fn func(Invocation)) {
	h.observers.Lock()
	defer h.observers.Unlock()
	h.observers.list = append(h.observers.list, fn)
}

func (h *Host) notify(i Invocation) {
	h.observers.Lock()
	list := slices.Clip(h.observers.list)
	h.observers.Unlock()
	for _, fn := range list {
		fn(i)
	}
}

// Wait blocks until the host ends. Its error wraps ErrHandlerGone if the host ended by itself, and is nil after Close.
func (h *Host) Wait() error {
	<-h.done
	return h.exit
}

// Close stops the listeners, waits at most Timing.StopGrace for running invocations, and kills the handler with
// SIGKILL (contract B9). It may be called more than once.
func (h *Host) Close() error {
	h.closing.Do(func() { h.closed = h.close() })
	return h.closed
}

func (h *Host) close() error {
	h.cfg.Logger.InfoContext(h.base, "Stopping JobHost")
	h.unlisten()
	grace, cancel := context.WithTimeout(h.base, h.cfg.Timing.StopGrace)
	defer cancel()
	finished := make(chan struct{})
	go func() { h.triggers.Wait(); close(finished) }()
	err := h.server.Shutdown(grace)
	if err != nil {
		err = fmt.Errorf("functions host: HTTP requests were still answered after %s and were cut off: %w", h.cfg.Timing.StopGrace, err)
	}
	select {
	case <-finished:
	case <-grace.Done():
		if n := h.running.Load(); n > 0 { // else it is a link that does not close, which costs nobody anything
			err = errors.Join(err, fmt.Errorf("functions host: %d invocations were still running after %s and were killed: %w", n, h.cfg.Timing.StopGrace, grace.Err()))
		}
	}
	h.process.stop()
	<-h.done
	h.kill()
	<-finished // the invocations that outlived the grace have failed by now; their settlements are short
	return errors.Join(err, h.server.Close(), h.senders.close())
}
