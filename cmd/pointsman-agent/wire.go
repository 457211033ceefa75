package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/agent/epoch"
	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/signing"
	"github.com/pointsman/pointsman/agent/source/kernel"
	"github.com/pointsman/pointsman/azure/identity"
	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/signature"
)

// maxEvent is the size of one event: a message of the standard tier may have 256 KiB with all its properties.
const maxEvent = 192 << 10

// serve runs the agent until ctx is done.
func serve(ctx context.Context, cfg *config.Config, log *slog.Logger, record string) error {
	number, err := epoch.Next(cfg.StateDir, time.Now())
	if err != nil {
		log.LogAttrs(ctx, slog.LevelWarn, "the epoch rests on the clock alone: should it go back, the next start is not believed",
			slog.Uint64("epoch", number), slog.Any("error", err))
	}
	sender, err := newSender(cfg.Bus, log)
	if err != nil {
		return err
	}
	defer closeSender(ctx, sender, log)

	agent := agentConfig(cfg, number, log)
	agent.Bus = sender
	if cfg.RouteServer != nil {
		addRouteServer(&agent, cfg.RouteServer, cfg.OnStop, log)
	}
	if err = addObservers(&agent, cfg, log); err != nil {
		return err
	}
	if agent.Sign, err = signer(ctx, cfg.Signing, log); err != nil {
		return err
	}
	if record != "" {
		f, openErr := os.OpenFile(record, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) // the operator names it
		if openErr != nil {
			return fmt.Errorf("record: %w", openErr)
		}
		defer func() { _ = f.Close() }()
		agent.Bus = run.Record(sender, f, func(err error) {
			log.LogAttrs(ctx, slog.LevelWarn, "an event is missing in the record", slog.Any("error", err))
		})
	}
	if cfg.Listen.IsValid() {
		agent.Listener, err = new(net.ListenConfig).Listen(ctx, "tcp", cfg.Listen.String())
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
	}
	log.LogAttrs(ctx, slog.LevelInfo, "pointsman-agent starts", slog.String("version", version()), slog.String("domain", cfg.Domain),
		slog.String("nva", cfg.NVA), slog.Uint64("epoch", number), slog.String("boot", agent.Publish.Boot), slog.String("http", cfg.Listen.String()))
	if err = run.New(agent).Run(ctx); err != nil {
		return err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "pointsman-agent ends")
	return nil
}

// signer returns what signs events; nil where they are not signed. The key is read once: a new one is used from the next start on.
func signer(ctx context.Context, c config.Signing, log *slog.Logger) (func([]byte) ([]byte, error), error) {
	if c.KeyFile == "" {
		return nil, nil
	}
	private, err := signing.Load(c.KeyFile, tool)
	if err != nil {
		return nil, err
	}
	log.LogAttrs(ctx, slog.LevelInfo, "events are signed", slog.String("key", signature.KeyOf(private).ID()))
	return func(body []byte) ([]byte, error) { return signature.Sign(private, body) }, nil
}

// closeTimeout bounds the goodbye to the broker after the goodbye of the agent.
const closeTimeout = time.Second

func closeSender(ctx context.Context, sender *servicebus.Sender, log *slog.Logger) {
	farewell, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if err := sender.Close(farewell); err != nil {
		log.LogAttrs(ctx, slog.LevelDebug, "closing the connection to the bus", slog.Any("error", err))
	}
}

// agentConfig is everything but the bus, the observers and the listener.
func agentConfig(cfg *config.Config, number uint64, log *slog.Logger) run.Config {
	a := run.Config{
		Publish: publish.Config{
			Domain: cfg.Domain, NVA: cfg.NVA, Boot: uuid.NewString(), Epoch: number, Gather: publish.Gather(cfg.Gather), Beat: publish.Beat(cfg.Beat),
			Snapshot: cfg.Snapshot, Restart: cfg.Restart, MaxBytes: maxEvent,
		},
		Filter: rib.Filter{Include: cfg.Include, Exclude: cfg.Exclude}, Farewell: farewell(cfg.OnStop), StopTimeout: cfg.StopTimeout,
		Systemd: systemd(), Logger: log,
	}
	for _, s := range cfg.Sources {
		if s.BGP != nil {
			addBGP(&a, s.BGP, log)
			continue
		}
		addKernel(&a, *s.Kernel, log)
	}
	return a
}

func addKernel(a *run.Config, k config.Kernel, log *slog.Logger) {
	m := new(kernel.Metrics)
	w := kernel.New(kernelConfig(k), log, m)
	a.Sources = append(a.Sources, w)
	a.Collectors = append(a.Collectors, netlinkMetrics(len(a.Sources)-1, w.String(), m)...)
}

func kernelConfig(k config.Kernel) kernel.Config {
	return kernel.Config{
		Tables: k.Tables, Protocols: k.Protocols, Interfaces: k.Interfaces, Include: kernelMatches(k.Include), Exclude: kernelMatches(k.Exclude),
		Blackhole: k.Blackhole, KeepLinkdown: k.KeepLinkdown, ReadBuffer: k.ReadBuffer, Resync: k.Resync,
	}
}

// kernelMatches translates: there a bound of 0 is one that was not written.
func kernelMatches(list []route.Match) []kernel.Match {
	var out []kernel.Match
	for _, m := range list {
		n := kernel.Match{Prefix: m.Prefix, LE: m.Max}
		if m.Min != m.Prefix.Bits() {
			n.GE = m.Min
		}
		out = append(out, n)
	}
	return out
}

// systemd reads what the service manager tells its services. Source: sd_notify(3), sd_watchdog_enabled(3).
func systemd() run.Systemd {
	s := run.Systemd{Socket: os.Getenv("NOTIFY_SOCKET")}
	if usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64); err == nil {
		s.Watchdog = time.Duration(usec) * time.Microsecond
	}
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		s.Watchdog = 0 // meant for another process
	}
	return s
}

func farewell(o config.OnStop) func(context.Context) event.Kind {
	return func(ctx context.Context) event.Kind {
		if o == config.Draining || o == config.Auto && run.SystemStopping(ctx) {
			return event.Draining
		}
		return event.Goodbye
	}
}

func newSender(b config.Bus, log *slog.Logger) (*servicebus.Sender, error) {
	cfg := servicebus.Config{Queue: b.Queue, Namespace: b.Namespace, Logger: log}
	var err error
	if b.Namespace != "" {
		cfg.Credential, err = identity.New(identity.Config{ClientID: b.ClientID})
	} else {
		cfg.ConnectionString, err = connectionString(b)
	}
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	sender, err := servicebus.NewSender(cfg)
	if err != nil {
		return nil, fmt.Errorf("bus: %w", err)
	}
	return sender, nil
}

func connectionString(b config.Bus) (string, error) {
	if b.ConnectionStringEnv != "" {
		s := strings.TrimSpace(os.Getenv(b.ConnectionStringEnv))
		if s == "" {
			return "", fmt.Errorf("the environment variable %s is empty: want a connection string", b.ConnectionStringEnv)
		}
		return s, nil
	}
	text, err := os.ReadFile(b.ConnectionStringFile)
	if err != nil {
		return "", fmt.Errorf("read the connection string: %w", err)
	}
	return strings.TrimSpace(string(text)), nil
}

func newLogger(l config.Log, w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: l.Level}
	if l.JSON {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// printOnce prints the first snapshot. It goes the way of every snapshot; only the bus is another.
func printOnce(ctx context.Context, cfg *config.Config, log *slog.Logger, stdout io.Writer) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	agent := agentConfig(cfg, uint64(max(time.Now().UnixMilli(), 1)), log)
	agent.Systemd = run.Systemd{} // this is not the service
	agent.Farewell = nil
	p := &printer{w: stdout, printed: cancel}
	agent.Bus = p
	if err := run.New(agent).Run(ctx); err != nil {
		return err
	}
	if !p.done {
		return errors.New("stopped before every source had reported")
	}
	return p.err
}

// printer is a bus that prints the first batch and takes everything after it for sent.
type printer struct {
	w       io.Writer
	printed func()

	mu   sync.Mutex
	done bool
	err  error
}

func (p *printer) Publish(_ context.Context, msgs []message.Message) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.done {
		return nil
	}
	p.done = true
	for _, m := range msgs {
		if _, err := fmt.Fprintf(p.w, "%s\n", m.Body); err != nil {
			p.err = fmt.Errorf("print: %w", err)
			break
		}
	}
	p.printed()
	return nil
}

func (p *printer) Schedule(context.Context, message.Message, time.Time) (int64, error) { return 1, nil }

func (p *printer) Cancel(context.Context, int64) error { return nil }
