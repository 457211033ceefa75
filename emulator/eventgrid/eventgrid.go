// Package eventgrid emulates Event Grid as far as a publisher and a handler see it: the endpoint of a custom topic with the CloudEvents 1.0
// schema, which the real azeventgrid client talks to, and the delivery of system events, such as ARM's, to webhooks with retries.
//
// Sources: "Post events to Event Grid custom topics using access keys", "Use CloudEvents v1.0 schema with Event Grid", "CloudEvents - Version
// 1.0.2" and its JSON and HTTP bindings, "Event Grid message delivery and retry", "Webhook event delivery". Channels, SAS tokens, dead-lettering,
// filters and subscription validation by URL are not there.
package eventgrid

import (
	"cmp"
	"crypto/subtle"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"mime"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

const (
	// emulator is our name in errors.
	emulator = "Event Grid emulator"
	// maxBody is the service's limit on a request, which is that on an event too, in bytes.
	maxBody = 1 << 20
	// publishVersion is the only api-version of the publish endpoint.
	publishVersion = "2018-01-01"
	// The content types of structured mode (HTTP protocol binding, sections 3.2 and 3.3).
	typeOne   = "application/cloudevents+json"
	typeBatch = "application/cloudevents-batch+json"
)

// Config describes a [Server]. The zero value is a plain HTTP server on a free loopback port that accepts any bearer token.
type Config struct {
	// Address to listen on; empty means 127.0.0.1:0.
	Address string
	// TLS serves HTTPS; nil means plain HTTP, over which azeventgrid sends no bearer token.
	TLS *tls.Config
	// Key is the topic's access key, for aeg-sas-key; empty means that keys are refused.
	Key string
	// Verify returns the principal that a bearer token stands for; nil accepts any token and takes it for the principal.
	Verify func(token string) (principal string, err error)
	// MaxEvents bounds what is remembered of published events, which drops its oldest; 0 means 10,000.
	MaxEvents int
	// Retry returns how long the n-th retry of a delivery waits, from 1; nil means the service's schedule: 10 s, 30 s, 1, 5, 10, 30 min, 1 h.
	Retry func(n int) time.Duration
	// Client delivers; nil means one that gives up after 30 s, as the service does.
	Client *http.Client
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Logger gets one line for each request and delivery; nil means none. Keys and tokens are never logged.
	Logger *slog.Logger
}

// Event is one event that the topic took.
type Event struct {
	At        time.Time
	Principal string // whose token it was; "key" for the access key
	Body      json.RawMessage
}

// Server is a running emulator. Its methods may be called by several goroutines at once.
type Server struct {
	cfg      Config
	web      web.Server
	faults   Faults
	delivery *delivery
	events   web.Log[Event]
	requests atomic.Int64
}

// Fault is something that goes wrong with publish requests.
type Fault = web.Fault

// Faults controls what goes wrong.
type Faults = web.Faults

// Start listens and serves until [Server.Close].
func Start(cfg Config) (*Server, error) {
	var p web.Problems
	p.AtLeast(0, "MaxEvents", cfg.MaxEvents)
	if err := p.Err(emulator + ": config"); err != nil {
		return nil, err
	}
	cfg.MaxEvents = cmp.Or(cfg.MaxEvents, 10_000)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Verify == nil {
		cfg.Verify = web.AnyToken
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	s := &Server{cfg: cfg, events: web.Log[Event]{Max: cfg.MaxEvents}, delivery: newDelivery(cfg)}
	if err := s.web.Start(web.Config{Name: emulator, Address: cfg.Address, TLS: cfg.TLS, Logger: cfg.Logger}, s); err != nil {
		return nil, err
	}
	return s, nil
}

// Close drops all connections, gives up what is not delivered and waits until everything has stopped.
func (s *Server) Close() error {
	s.delivery.close()
	return s.web.Close()
}

// URL returns the topic's endpoint, https://ADDRESS:PORT/api/events (http:// without TLS).
func (s *Server) URL() string { return s.web.URL() + "/api/events" }

// Faults returns the controls for what goes wrong.
func (s *Server) Faults() *Faults { return &s.faults }

// Events returns what the topic took, oldest first. An event that was published twice is there twice.
func (s *Server) Events() []Event { return s.events.All() }

// Requests returns how many requests came, failed ones included.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// ServeHTTP serves one publish request: wait, decide, log, answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	fault := s.faults.Take(r)
	web.Hold(r, fault.Delay, web.RealTime)
	s.requests.Add(1)
	var f *failure
	switch {
	case err != nil:
		f = fail(http.StatusRequestEntityTooLarge, "The request content exceeds %d bytes.", maxBody)
	case fault.Applies():
		f = s.publish(r, body)
	}
	if fault.Fails() {
		f = scripted(fault)
	}
	status := http.StatusOK
	if f != nil {
		status = f.status
	}
	s.cfg.Logger.InfoContext(r.Context(), "request", slog.String("path", r.URL.Path), slog.Int("bytes", len(body)), slog.Int("status", status))
	if f == nil {
		web.Send(w, status, nil, nil)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	web.Send(w, status, f.header, f.body())
}

// publish takes a request's events, all or none.
func (s *Server) publish(r *http.Request, body []byte) *failure {
	switch {
	case r.URL.Path != "/api/events":
		return fail(http.StatusNotFound, "There is no such resource.")
	case r.Method != http.MethodPost:
		return fail(http.StatusMethodNotAllowed, "Events are posted.")
	}
	principal, f := s.authorize(r)
	if f != nil {
		return f
	}
	if got := r.URL.Query().Get("api-version"); got != publishVersion {
		return fail(http.StatusBadRequest, "The api-version %q is not supported: use %s.", got, publishVersion)
	}
	events, f := read(r.Header.Get("Content-Type"), body)
	if f != nil {
		return f
	}
	taken := make([]Event, len(events))
	for i, e := range events {
		taken[i] = Event{At: s.cfg.Now(), Principal: principal, Body: e}
	}
	s.events.Add(taken...)
	return nil
}

// authorize accepts the topic's key or a bearer token.
func (s *Server) authorize(r *http.Request) (principal string, _ *failure) {
	if key := r.Header.Get("aeg-sas-key"); key != "" {
		if s.cfg.Key != "" && subtle.ConstantTimeCompare([]byte(key), []byte(s.cfg.Key)) == 1 {
			return "key", nil
		}
		return "", fail(http.StatusUnauthorized, "The request authorization key is not authorized for this topic.")
	}
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return "", fail(http.StatusUnauthorized, "The request must contain one of the following authorization headers: aeg-sas-token, aeg-sas-key, Authorization.")
	}
	principal, err := s.cfg.Verify(token)
	if err != nil {
		return "", fail(http.StatusUnauthorized, "The bearer token is not valid for this topic.")
	}
	return principal, nil
}

// read splits a body into its events and checks each. Which status the service gives to a wrong content type is not documented; 415 is what HTTP has for it.
func read(contentType string, body []byte) ([]json.RawMessage, *failure) {
	media, params, err := mime.ParseMediaType(contentType)
	if err != nil || media != typeOne && media != typeBatch || params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		return nil, fail(http.StatusUnsupportedMediaType, "The content type is %q: this topic takes %s and %s, in UTF-8.", contentType, typeOne, typeBatch)
	}
	events := []json.RawMessage{body}
	if media == typeBatch {
		events = nil
		if err = json.Unmarshal(body, &events); err != nil {
			return nil, fail(http.StatusBadRequest, "The batch is no JSON array: %v.", err)
		}
	}
	for i, e := range events {
		if err = check(e); err != nil {
			return nil, fail(http.StatusBadRequest, "Event %d of the batch is no CloudEvent 1.0: %v.", i, err)
		}
	}
	return events, nil
}

// check holds an event against CloudEvents 1.0.2, sections "Required Attributes" and "Attribute Naming Convention", and the JSON format, section 3.1.
func check(event json.RawMessage) error {
	var attributes map[string]json.RawMessage
	if err := json.Unmarshal(event, &attributes); err != nil {
		return fmt.Errorf("it is no JSON object: %w", err)
	}
	for _, name := range []string{"id", "source", "specversion", "type"} {
		var value string
		if err := json.Unmarshal(attributes[name], &value); err != nil || value == "" {
			return fmt.Errorf("%s must be a text that is not empty", name)
		}
		if name == "specversion" && value != "1.0" {
			return fmt.Errorf("specversion is %q, not 1.0", value)
		}
	}
	if attributes["data"] != nil && attributes["data_base64"] != nil {
		return errors.New("it has both data and data_base64")
	}
	valid := regexp.MustCompile(`^[a-z0-9]{1,20}$`)
	for name := range attributes {
		if name != "data_base64" && !valid.MatchString(name) {
			return fmt.Errorf("%q is no name of an attribute", name)
		}
	}
	return checkOptional(attributes)
}

func checkOptional(attributes map[string]json.RawMessage) error {
	if raw, ok := attributes["time"]; ok {
		var at time.Time
		if err := json.Unmarshal(raw, &at); err != nil {
			return fmt.Errorf("time is no RFC 3339 timestamp: %s", raw)
		}
	}
	for _, name := range []string{"subject", "datacontenttype", "dataschema"} {
		var value string
		if raw, ok := attributes[name]; ok && (json.Unmarshal(raw, &value) != nil || value == "") {
			return fmt.Errorf("%s must be a text that is not empty", name)
		}
	}
	return nil
}

// failure is a refusal.
type failure struct {
	status  int // 0: none, the connection is dropped
	code    string
	message string
	header  http.Header
}

func fail(status int, format string, args ...any) *failure {
	code := strings.ReplaceAll(http.StatusText(status), " ", "")
	return &failure{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

// scripted returns what a fault answers.
func scripted(fault Fault) *failure {
	if fault.DropConnection {
		return &failure{}
	}
	f := fail(fault.Status, "%s", cmp.Or(fault.Message, "Scripted failure."))
	f.code, f.header = cmp.Or(fault.Code, f.code), fault.Header
	return f
}

func (f *failure) body() []byte {
	text, err := json.Marshal(map[string]any{"error": map[string]string{"code": f.code, "message": f.message}})
	if err != nil {
		panic("eventgrid: an error that cannot be encoded: " + err.Error())
	}
	return text
}
