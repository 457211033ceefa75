// Command pointsman-handler is the function app: the custom handler that the Azure Functions host starts and calls.
//
// It is configured by app settings only (docs/configuration.md). It exits with 2 when they are wrong and with 1 when it cannot serve.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/pointsman/pointsman/functions/invocation"
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
	if err = serve(settings.port, app, log); err != nil {
		log.Error("the handler stopped", slog.Any("error", err))
		os.Exit(1)
	}
}

// serve listens at once, as the host polls for readiness, and until it is killed: the host never asks a handler to stop.
func serve(port string, app map[string]invocation.Function, log *slog.Logger) error {
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort("127.0.0.1", port))
	if err != nil {
		return fmt.Errorf("listen for the Functions host: %w", err)
	}
	server := &http.Server{Handler: invocation.Handler(app, log), ReadHeaderTimeout: 10 * time.Second}
	if err = server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

func level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}
