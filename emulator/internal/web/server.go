package web

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"time"
)

// Config describes a [Server].
type Config struct {
	// Name of the emulator in errors and in the log, such as "blob emulator".
	Name string
	// Address to listen on; empty means 127.0.0.1:0.
	Address string
	// Listener to serve on instead of Address; nil means none.
	Listener net.Listener
	// TLS serves HTTPS; nil means plain HTTP.
	TLS *tls.Config
	// Logger is told if the server stops by itself.
	Logger *slog.Logger
}

// Server is an HTTP server that runs from [Server.Start] to [Server.Close].
type Server struct {
	cfg  Config
	http *http.Server
	done chan struct{}
}

// Start listens and serves. Its error names the emulator and the address. The handler may use the server from the first request on, which can come before
// Start returns.
func (s *Server) Start(cfg Config, handler http.Handler) error {
	if cfg.Listener == nil {
		listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", cmp.Or(cfg.Address, "127.0.0.1:0"))
		if err != nil {
			return fmt.Errorf("%s: %w", cfg.Name, err)
		}
		cfg.Listener = listener
	}
	s.cfg, s.done = cfg, make(chan struct{})
	s.http = &http.Server{Handler: handler, TLSConfig: cfg.TLS.Clone(), ReadHeaderTimeout: 10 * time.Second}
	go s.serve()
	return nil
}

func (s *Server) serve() {
	defer close(s.done)
	serve := s.http.Serve
	if s.cfg.TLS != nil {
		serve = func(l net.Listener) error { return s.http.ServeTLS(l, "", "") }
	}
	if err := serve(s.cfg.Listener); !errors.Is(err, http.ErrServerClosed) {
		s.cfg.Logger.Error("emulator stopped", slog.String("emulator", s.cfg.Name), slog.Any("error", err))
	}
}

// Close drops all connections and waits until the server has stopped; requests in work may go on for a moment.
func (s *Server) Close() error {
	err := s.http.Close()
	<-s.done
	if err != nil {
		return fmt.Errorf("%s: close: %w", s.cfg.Name, err)
	}
	return nil
}

// URL returns the server's root, https://ADDRESS:PORT (http:// without TLS).
func (s *Server) URL() string { return s.URLOf(s.cfg.Listener.Addr().String()) }

// URLOf returns the root as a client wrote it that calls the server host.
func (s *Server) URLOf(host string) string {
	if s.cfg.TLS == nil {
		return "http://" + host
	}
	return "https://" + host
}

// Send writes an answer. Status 0 means none: the connection is closed instead.
func Send(w http.ResponseWriter, status int, header http.Header, body []byte) {
	if status == 0 {
		abort()
	}
	maps.Copy(w.Header(), header)
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone needs no answer
}

// Hold keeps a request for d; after is the clock as of [Wait]. If the client goes meanwhile, the handler ends there as by [Await].
func Hold(r *http.Request, d time.Duration, after AfterFunc) {
	if d > 0 && !Wait(r.Context(), d, after) {
		abort()
	}
}

// Await keeps a request until ready is closed. If the client goes meanwhile the handler ends there, and the connection with it: the empty answer
// that net/http writes for a handler that has written none can still reach a client that is only just hanging up.
func Await(r *http.Request, ready <-chan struct{}) {
	select {
	case <-ready:
	case <-r.Context().Done():
		abort()
	}
}

// abort makes net/http close the connection without an answer.
func abort() { panic(http.ErrAbortHandler) }

// AfterFunc runs f after d, never before it returns, and returns what cancels it.
type AfterFunc func(d time.Duration, f func()) (stop func() bool)

// RealTime is the AfterFunc of package time.
func RealTime(d time.Duration, f func()) (stop func() bool) { return time.AfterFunc(d, f).Stop }

// Wait returns after d; it reports false if ctx ended before.
func Wait(ctx context.Context, d time.Duration, after AfterFunc) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	over := make(chan struct{})
	stop := after(d, func() { close(over) })
	defer stop()
	select {
	case <-over:
		return true
	case <-ctx.Done():
		return false
	}
}

// AnyToken takes a bearer token for the principal that it stands for.
func AnyToken(token string) (principal string, err error) { return token, nil }
