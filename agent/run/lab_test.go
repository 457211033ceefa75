package run_test

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/azure/servicebus"
	broker "github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

const queue = "route-events"

// routes is a source that reports what a test gives it. What a test changes before an agent runs is its first view.
type routes struct {
	first func(sink source.Sink) // what it does before its first view; nil: nothing

	mu   sync.Mutex
	held map[netip.Prefix]source.Route
	sink source.Sink
}

func newRoutes(prefixes ...string) *routes {
	r := &routes{held: map[netip.Prefix]source.Route{}}
	for _, p := range prefixes {
		n := routeTo(p)
		r.held[n.Prefix] = n
	}
	return r
}

func routeTo(prefix string) source.Route {
	return source.Route{Prefix: netip.MustParsePrefix(prefix), Metric: 20, Origin: "bgp"}
}

func (r *routes) String() string { return "routes of the test" }

func (r *routes) Run(ctx context.Context, sink source.Sink) error {
	if r.first != nil {
		r.first(sink)
	}
	r.mu.Lock()
	r.sink = sink
	sink.Replace(r.all())
	r.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (r *routes) all() []source.Route {
	var out []source.Route
	for _, n := range r.held {
		out = append(out, n)
	}
	slices.SortFunc(out, func(a, b source.Route) int { return route.Compare(a.Prefix, b.Prefix) })
	return out
}

func (r *routes) add(prefix string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := routeTo(prefix)
	r.held[n.Prefix] = n
	r.sink.Update([]source.Route{n}, nil)
}

func (r *routes) remove(prefix string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := netip.MustParsePrefix(prefix)
	delete(r.held, p)
	r.sink.Update(nil, []netip.Prefix{p})
}

func (r *routes) lost(reason string) { r.sink.Lost(errors.New(reason)) }

func (r *routes) controlLost(sessions ...event.Session) { r.sink.ControlLost(sessions) }

// wire is the way from one agent to the broker; a test cuts it to kill the agent without a farewell.
type wire struct {
	run.Bus
	cut atomic.Bool
}

var errCut = errors.New("the agent is dead")

func (w *wire) Publish(ctx context.Context, msgs []message.Message) error {
	if w.cut.Load() {
		return errCut
	}
	return w.Bus.Publish(ctx, msgs)
}

func (w *wire) Schedule(ctx context.Context, m message.Message, at time.Time) (int64, error) {
	if w.cut.Load() {
		return 0, errCut
	}
	return w.Bus.Schedule(ctx, m, at)
}

func (w *wire) Cancel(ctx context.Context, number int64) error {
	if w.cut.Load() {
		return errCut
	}
	return w.Bus.Cancel(ctx, number)
}

// lab is a broker with virtual time, reached through memory, and the agents of one NVA, one after the other.
type lab struct {
	t      *testing.T
	server *broker.Server
	routes *routes
	log    *logbook
	epoch  uint64
	kind   event.Kind // of the next farewell
	sign   func(body []byte) ([]byte, error)

	observers []report.Observer
	follower  run.Follower

	wire   *wire
	sender *servicebus.Sender
	cancel context.CancelFunc
	ended  chan error
}

func newLab(t *testing.T, prefixes ...string) *lab {
	t.Helper()
	server := broker.New(broker.Config{
		Queues: []broker.QueueConfig{{Name: queue, DuplicateWindow: 10 * time.Minute}},
		Keys:   []broker.Key{{Name: "agent", Value: "c2VjcmV0", Send: true}, {Name: "reader", Value: "c2VjcmV0", Listen: true}},
	})
	l := &lab{t: t, server: server, routes: newRoutes(prefixes...), log: new(logbook), kind: event.Goodbye, epoch: 100}
	return l
}

func (l *lab) start() { l.startAs("agent", nil) }

// startAs starts an agent of the next epoch that uses a key.
func (l *lab) startAs(key string, listener net.Listener) {
	l.t.Helper()
	sender, err := servicebus.NewSender(servicebus.Config{
		ConnectionString: l.server.ConnectionString(key), Queue: queue,
		Dial: func(context.Context, string) (net.Conn, error) { return l.server.Dial(), nil },
	})
	if err != nil {
		l.t.Fatal(err)
	}
	l.epoch++
	l.sender, l.wire = sender, &wire{Bus: sender}
	agent := run.New(run.Config{
		Publish: publish.Config{
			Domain: "lab", NVA: "nva1", Boot: "boot-" + time.Now().String(), Epoch: l.epoch,
			Gather: publish.Gather{Quiet: 100 * time.Millisecond, Max: time.Second}, Beat: publish.Beat{Every: 5 * time.Second, Timeout: 15 * time.Second},
			Snapshot: 10 * time.Minute, Restart: 2 * time.Minute, MaxBytes: 192 << 10,
		},
		Sources: []source.Source{l.routes}, Observers: l.observers, Follower: l.follower, Bus: l.wire, Sign: l.sign, StopTimeout: 5 * time.Second, Listener: listener,
		Farewell: func(context.Context) event.Kind { return l.kind }, Logger: slog.New(l.log),
	})
	ctx, cancel := context.WithCancel(l.t.Context())
	l.cancel, l.ended = cancel, make(chan error, 1)
	go func() { l.ended <- agent.Run(ctx) }()
}

// stop ends the agent as SIGTERM does.
func (l *lab) stop() {
	l.t.Helper()
	l.cancel()
	if err := <-l.ended; err != nil {
		l.t.Errorf("the agent ended with %v", err)
	}
	if err := l.sender.Close(context.Background()); err != nil {
		l.t.Log(err)
	}
}

// kill ends the agent as SIGKILL does: nothing more leaves it.
func (l *lab) kill() {
	l.t.Helper()
	l.wire.cut.Store(true)
	l.stop()
}

// close ends the lab; the virtual time needs every goroutine to be gone.
func (l *lab) close() {
	if err := l.server.Close(); err != nil {
		l.t.Error(err)
	}
}

func (l *lab) pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// events returns everything that was delivered, in the order of its delivery.
func (l *lab) events() []event.Event {
	l.t.Helper()
	msgs := slices.DeleteFunc(l.server.Peek(queue), func(m broker.Message) bool { return m.State != broker.StateActive })
	slices.SortStableFunc(msgs, func(a, b broker.Message) int {
		return cmp.Or(a.EnqueuedAt.Compare(b.EnqueuedAt), cmp.Compare(a.SequenceNumber, b.SequenceNumber))
	})
	var out []event.Event
	for _, m := range msgs {
		e, err := event.Decode(m.Body)
		if err != nil {
			l.t.Fatal(err)
		}
		if m.MessageID != e.ID() || m.ContentType != event.ContentType {
			l.t.Errorf("message %s of type %s holds event %s", m.MessageID, m.ContentType, e.ID())
		}
		out = append(out, e)
	}
	return out
}

// document is what the function app knows by now.
func (l *lab) document() *state.NVA {
	l.t.Helper()
	n := state.NewNVA("lab", "nva1")
	for _, e := range l.events() {
		if _, err := n.Merge(e, time.Now()); err != nil {
			l.t.Fatal(err)
		}
	}
	return n
}

// expect asserts what the function app knows.
func (l *lab) expect(what string, silent bool, prefixes ...string) {
	l.t.Helper()
	n := l.document()
	var got []string
	for _, e := range n.RIB() {
		got = append(got, e.Prefix.String())
	}
	if !slices.Equal(got, prefixes) {
		l.t.Errorf("%s: the function app knows %v, want %v", what, got, prefixes)
	}
	if n.Silent() != silent {
		l.t.Errorf("%s: silent %t, want %t (expired %v, alive %v)", what, n.Silent(), silent, n.Expired, n.Alive)
	}
	if missing, differs := n.Gap(); missing > 0 || differs {
		l.t.Errorf("%s: %d events are missing, digest differs: %t", what, missing, differs)
	}
}

// kinds counts the delivered events by kind.
func (l *lab) kinds() map[event.Kind]int {
	out := map[event.Kind]int{}
	for _, e := range l.events() {
		out[e.Kind]++
	}
	return out
}

// logbook keeps what was logged, from Warn on.
type logbook struct {
	mu    sync.Mutex
	lines []string
}

func (b *logbook) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelWarn }
func (b *logbook) WithAttrs([]slog.Attr) slog.Handler               { return b }
func (b *logbook) WithGroup(string) slog.Handler                    { return b }

func (b *logbook) Handle(_ context.Context, r slog.Record) error {
	line := r.Level.String() + " " + r.Message
	r.Attrs(func(a slog.Attr) bool { line += " " + a.String(); return true })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.lines = append(b.lines, line)
	return nil
}

func (b *logbook) all() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.lines)
}
