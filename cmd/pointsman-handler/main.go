// Command pointsman-handler is the function app: the custom handler that the Azure Functions host starts and calls.
//
// It is configured by app settings only (docs/configuration.md). It exits with 2 when they are wrong and with 1 when it cannot serve. After SIGTERM it takes
// no more calls, finishes those that run, and exits with 200: so the host, if it lives, starts the handler that is there now.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/telemetry/otlp"
)

func main() {
	log := slog.New(slog.NewJSONHandler(os.Stdout, &slog.HandlerOptions{Level: level(os.Getenv("LOG_LEVEL"))}))
	settings, err := readSettings(os.Getenv)
	var app map[string]invocation.Function
	if err == nil {
		app, err = wire(settings, log) // connects to nothing: what goes wrong here is a setting
	}
	if err != nil {
		log.Error("the app settings are wrong", slog.Any("error", err))
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	export, end, err := exporter(settings, log)
	if err == nil {
		err = serve(ctx, settings.port, invocation.Handler(app, log, export), log)
		end()
	}
	if err != nil {
		log.Error("the handler stopped", slog.Any("error", err))
		os.Exit(1) //nolint:gocritic // there is nothing to undo
	}
	os.Exit(exitSwap)
}

// exitSwap asks the host to start the handler again, which it does not count as a failure. Source: the host's WorkerProcess (intentional restart exit code).
const exitSwap = 200

// serve listens at once, as the host polls for readiness, until the process is killed, which is how the host itself ends it, or until ctx ends: then it returns nil
// as soon as what runs has been answered. How long that takes is bounded by the functions; whoever cannot wait kills it, and the messages come again.
func serve(ctx context.Context, port string, handler http.Handler, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return fmt.Errorf("listen for the Functions host: %w", err)
	}
	gate := invocation.NewGate(handler)
	server := &http.Server{Handler: gate, ReadHeaderTimeout: 10 * time.Second}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(listener) }()
	select {
	case err = <-ended:
		return fmt.Errorf("serve: %w", err)
	case <-ctx.Done():
	}
	log.InfoContext(ctx, "the handler was asked to end: it finishes what it is at")
	gate.Close()
	return nil
}

// exporter starts the export of telemetry, if there is to be one; end sends what is left.
func exporter(s settings, log *slog.Logger) (export telemetry.Exporter, end func(), err error) {
	if !s.traces && !s.metrics {
		return nil, func() {}, nil
	}
	ctx := context.Background()
	e, err := otlp.New(ctx, otlp.Config{Traces: s.traces, Metrics: s.metrics, Log: log})
	if err != nil {
		return nil, nil, err
	}
	return e, func() {
		if lost := e.Shutdown(ctx); lost != nil {
			log.WarnContext(ctx, "telemetry is lost", slog.Any("error", lost))
		}
	}, nil
}

func level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}
