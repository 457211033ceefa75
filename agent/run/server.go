package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/shared/event"
)

// askTimeout is how long the loop may take to answer HTTP. It never waits for anything, so a second is an age.
const askTimeout = time.Second

// server is the task that serves health, metrics and the RIB to whoever is on this machine.
type server struct {
	listener net.Listener
	loop     *loop
	ready    chan struct{}
}

func newServer(listener net.Listener, l *loop) *server {
	return &server{listener: listener, loop: l, ready: make(chan struct{})}
}

func (s *server) String() string         { return "http " + s.listener.Addr().String() }
func (s *server) Ready() <-chan struct{} { return s.ready }

func (s *server) Run(ctx context.Context) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", s.healthz)
	mux.HandleFunc("GET /debug/rib", s.rib)
	mux.HandleFunc("GET /debug/peers", s.peers)
	if f := s.loop.cfg.Follower; f != nil {
		mux.HandleFunc("GET /debug/"+f.String(), func(w http.ResponseWriter, _ *http.Request) { reply(w, http.StatusOK, f.Detail()) })
	}
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.loop.metrics.registry, promhttp.HandlerOpts{}))
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute}
	close(s.ready)
	stop := context.AfterFunc(ctx, func() { _ = srv.Close() })
	defer stop()
	if err := srv.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// healthz answers 200, or 503 with the reasons.
func (s *server) healthz(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	var reasons []string
	if err := s.loop.ask(ctx, func(now time.Time) { reasons = s.loop.health(now) }); err != nil {
		reasons = []string{err.Error()}
	}
	status := http.StatusOK
	if len(reasons) > 0 {
		status = http.StatusServiceUnavailable
	}
	reply(w, status, struct {
		Healthy bool     `json:"healthy"`
		Reasons []string `json:"reasons"`
	}{len(reasons) == 0, reasons})
}

// ribRoute is one line of /debug/rib.
type ribRoute struct {
	Prefix   netip.Prefix `json:"prefix"`
	Metric   uint32       `json:"metric"`
	Origin   string       `json:"origin"`
	NextHops []netip.Addr `json:"nextHops,omitempty"`
	Table    uint32       `json:"table,omitempty"`
	Source   string       `json:"source"`
	Stale    bool         `json:"stale,omitempty"`
	State    string       `json:"state"` // acked or pending
}

// rib shows the RIB by prefix, and whether the bus has accepted it.
func (s *server) rib(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	var out struct {
		NVA    string     `json:"nva"`
		Epoch  uint64     `json:"epoch"`
		Seq    uint64     `json:"seq"`
		Digest string     `json:"digest"`
		Routes []ribRoute `json:"routes"`
	}
	err := s.loop.ask(ctx, func(time.Time) {
		l := s.loop
		out.NVA, out.Epoch, out.Seq = l.cfg.Publish.NVA, l.cfg.Publish.Epoch, l.machine.Status().Seq
		out.Digest = l.rib.Digest().String()
		acked := l.machine.Acknowledged()
		out.Routes = []ribRoute{}
		for _, a := range l.rib.Routes() {
			state := "pending"
			if acked(a.Prefix) {
				state = "acked"
			}
			out.Routes = append(out.Routes, ribRoute{a.Prefix, a.Metric, a.Origin, a.NextHops, a.Table, a.Source, a.Stale, state})
		}
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	reply(w, http.StatusOK, out)
}

// peers shows the report in force, and what each observer adds to it.
func (s *server) peers(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), askTimeout)
	defer cancel()
	var out struct {
		NVA       string         `json:"nva"`
		SelfCheck event.Check    `json:"selfCheck"`
		SelfTest  event.Check    `json:"selfTest"`
		Drain     string         `json:"drain,omitempty"`
		Reason    string         `json:"reason,omitempty"`
		Peers     []event.Peer   `json:"peers"`
		Observers map[string]any `json:"observers"`

		ControlLost []event.Session `json:"controlLost,omitempty"`
	}
	err := s.loop.ask(ctx, func(time.Time) {
		is := s.loop.report
		out.NVA, out.SelfCheck, out.SelfTest, out.Drain, out.Reason = s.loop.cfg.Publish.NVA, is.SelfCheck, is.SelfTest, is.Drain, is.Reason
		out.Peers, out.ControlLost = append([]event.Peer{}, is.Peers...), is.ControlLost
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	out.Observers = map[string]any{}
	for _, o := range s.loop.cfg.Observers {
		var detail any
		if d, ok := o.(report.Detailed); ok {
			detail = d.Detail()
		}
		out.Observers[o.String()] = detail
	}
	reply(w, http.StatusOK, out)
}

// reply writes v as JSON; that a client went away meanwhile is its own affair.
func reply(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v)
}
