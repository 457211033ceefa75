// Package metadata is a local instance metadata service (IMDS) as far as it tells a VM what Azure is going to do to it: Scheduled Events and the
// name of the VM. A test announces an event; the service starts it when its time has come, or when it was approved.
//
// Source: "Azure Metadata Service: Scheduled Events for Linux VMs", "Azure Instance Metadata Service for virtual machines" (usage, error codes).
package metadata

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// Config describes a [Server]. The zero value is usable.
type Config struct {
	// Address to listen on; empty means 127.0.0.1:0.
	Address string
	// Listener to serve on instead of Address, such as one in another network namespace.
	Listener net.Listener
	// VM is the name of the machine that asks; empty means vm.
	VM string
	// Now is the clock, also of the Date header; nil means time.Now.
	Now func() time.Time
	// Logger gets one line for each request; nil means none.
	Logger *slog.Logger
}

// Event is one that Azure announces.
type Event struct {
	ID          string
	Type        string // Freeze, Reboot, Redeploy, Preempt, Terminate
	Resources   []string
	Started     bool
	Approved    bool // by a StartRequest
	NotBefore   time.Time
	Description string
}

// Server is a running service. Its methods may be called by several goroutines at once.
type Server struct {
	cfg      Config
	web      web.Server
	faults   web.Faults
	requests atomic.Int64

	mu          sync.Mutex
	events      []Event
	numbers     int // of events so far
	incarnation int
	hold        chan struct{} // closed when requests may be answered; nil: they may
}

// Start listens and serves until [Server.Close].
func Start(cfg Config) (*Server, error) {
	cfg.VM = cmp.Or(cfg.VM, "vm")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	s := &Server{cfg: cfg, incarnation: 1}
	if err := s.web.Start(web.Config{Name: "metadata emulator", Address: cfg.Address, Listener: cfg.Listener, Logger: cfg.Logger}, s.Handler()); err != nil {
		return nil, err
	}
	return s, nil
}

// Handler returns the service as a handler.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /metadata/scheduledevents", s.admitted(s.list))
	mux.HandleFunc("POST /metadata/scheduledevents", s.admitted(s.approve))
	mux.HandleFunc("GET /metadata/instance/compute/name", s.admitted(s.name))
	return mux
}

// Close stops the server and waits until it has stopped.
func (s *Server) Close() error {
	s.Hold(false)
	return s.web.Close()
}

// URL returns the server's root, http://ADDRESS:PORT; Azure's is http://169.254.169.254.
func (s *Server) URL() string { return s.web.URL() }

// Announce schedules an event and returns its id. Without resources it is about the machine that asks.
func (s *Server) Announce(kind string, notBefore time.Time, resources ...string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(resources) == 0 {
		resources = []string{s.cfg.VM}
	}
	s.numbers++
	id := fmt.Sprintf("c0ffee00-0000-0000-0000-%012d", s.numbers)
	s.events = append(s.events, Event{ID: id, Type: kind, Resources: resources, NotBefore: notBefore, Description: "announced by the emulator"})
	s.incarnation++
	return id
}

// Complete ends an event, begun or not: it is listed no more.
func (s *Server) Complete(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = slices.DeleteFunc(s.events, func(e Event) bool { return e.ID == id })
	s.incarnation++
}

// Events returns what is announced now.
func (s *Server) Events() []Event {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.begin()
	return slices.Clone(s.events)
}

// FailNext makes the next n requests fail with the HTTP status.
func (s *Server) FailNext(n, status int) { s.faults.FailNext(n, status) }

// Hold keeps every request waiting, as the first one does for up to two minutes on Azure, until it is called with false.
func (s *Server) Hold(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case on && s.hold == nil:
		s.hold = make(chan struct{})
	case !on && s.hold != nil:
		close(s.hold)
		s.hold = nil
	}
}

// Requests returns how many requests have been made, failed ones included.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// admitted refuses what the service refuses: a request that may have been made by mistake for somebody else, and one without a version.
func (s *Server) admitted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		status := s.faults.Take(r).Status
		s.mu.Lock()
		hold := s.hold
		s.mu.Unlock()
		if hold != nil {
			web.Await(r, hold)
		}
		w.Header().Set("Date", s.cfg.Now().UTC().Format(http.TimeFormat))
		switch {
		case status != 0:
			s.refuse(w, r, status, "scripted failure")
		case r.Header.Get("Metadata") != "true":
			s.refuse(w, r, http.StatusBadRequest, "Bad request. Required metadata header not specified")
		case r.Header.Get("X-Forwarded-For") != "":
			s.refuse(w, r, http.StatusBadRequest, "Bad request. X-Forwarded-For is not allowed")
		case r.URL.Query().Get("api-version") == "":
			s.refuse(w, r, http.StatusBadRequest, "Bad request. api-version was not specified in the request")
		default:
			next(w, r)
		}
	}
}

func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, message string) {
	s.reply(w, r, status, map[string]string{"error": message})
}

// begin starts the events whose time has come. The caller holds mu.
func (s *Server) begin() {
	now := s.cfg.Now()
	for i := range s.events {
		if e := &s.events[i]; !e.Started && (e.Approved || !now.Before(e.NotBefore)) {
			e.Started = true
			s.incarnation++
		}
	}
}

// wireEvent is an event as the service writes it.
type wireEvent struct {
	EventID           string   `json:"EventId"`
	EventStatus       string   `json:"EventStatus"`
	EventType         string   `json:"EventType"`
	ResourceType      string   `json:"ResourceType"`
	Resources         []string `json:"Resources"`
	NotBefore         string   `json:"NotBefore"` // empty once it has started
	Description       string   `json:"Description"`
	EventSource       string   `json:"EventSource"`
	DurationInSeconds int      `json:"DurationInSeconds"`
}

func (s *Server) list(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	s.begin()
	document := struct {
		DocumentIncarnation int
		Events              []wireEvent
	}{s.incarnation, []wireEvent{}}
	for _, e := range s.events {
		out := wireEvent{
			EventID: e.ID, EventStatus: "Scheduled", EventType: e.Type, ResourceType: "VirtualMachine", Resources: e.Resources,
			NotBefore: e.NotBefore.UTC().Format(http.TimeFormat), Description: e.Description, EventSource: "Platform", DurationInSeconds: -1,
		}
		if e.Started {
			out.EventStatus, out.NotBefore = "Started", ""
		}
		document.Events = append(document.Events, out)
	}
	s.mu.Unlock()
	s.reply(w, r, http.StatusOK, document)
}

func (s *Server) approve(w http.ResponseWriter, r *http.Request) {
	var body struct {
		StartRequests []struct {
			EventID string `json:"EventId"`
		}
	}
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<20)).Decode(&body); err != nil || len(body.StartRequests) == 0 {
		s.refuse(w, r, http.StatusBadRequest, "Bad request. StartRequests was expected")
		return
	}
	s.mu.Lock()
	unknown := ""
	for _, request := range body.StartRequests {
		i := slices.IndexFunc(s.events, func(e Event) bool { return e.ID == request.EventID })
		if i < 0 {
			unknown = request.EventID
			continue
		}
		s.events[i].Approved = true
	}
	s.mu.Unlock()
	if unknown != "" {
		s.refuse(w, r, http.StatusBadRequest, "Bad request. No event "+strconv.Quote(unknown))
		return
	}
	w.WriteHeader(http.StatusOK)
}

func (s *Server) name(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("format") != "text" {
		s.refuse(w, r, http.StatusBadRequest, "Bad request. A leaf is available as text only: add format=text")
		return
	}
	w.Header().Set("Content-Type", "text/plain")
	_, _ = w.Write([]byte(s.cfg.VM))
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, status int, body any) {
	s.cfg.Logger.InfoContext(r.Context(), "metadata request", slog.String("path", r.URL.Path), slog.Int("status", status))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.cfg.Logger.DebugContext(r.Context(), "metadata answer not delivered", slog.Any("error", err))
	}
}
