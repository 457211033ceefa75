// Package arm emulates Azure Resource Manager for Microsoft.Network route tables and their routes, and Route Servers and their peers, as a server
// that the real armnetwork client talks to. It imitates what recorded exchanges show, including what is awkward: a write answers before it is done,
// the ETag changes when it is accepted and again when it completes, writes to a busy table are refused, quotas are enforced, and
// polling URLs are several kilobytes long. [Server.Faults] adds what goes wrong in production.
//
// Sources: the recordings in the test suites of cloud-provider-azure, azure-cli and azure-powershell; the REST specification
// (Microsoft.Network/stable/routeTable.json); "Understand how Azure Resource Manager throttles requests"; "Track asynchronous Azure
// operations". Where they are silent or differ, the emulator does what is worst for its client and says so at the place.
package arm

import (
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// emulator is our name in errors.
const emulator = "ARM emulator"

// maxBody is ARM's limit on a request body, in bytes.
const maxBody = 4 << 20

// BusyMode says what happens to a write of a table whose previous write has not completed.
type BusyMode int

// The busy modes; the zero value means BusyRetryable.
const (
	// BusyRetryable answers 429 RetryableError with detail RetryableErrorDueToAnotherOperation, as route tables do.
	BusyRetryable BusyMode = iota + 1
	// BusyQueue accepts the write at once; its operation completes after the previous one.
	BusyQueue
	// BusyConflict answers 409 AnotherOperationInProgress, as hubs do.
	BusyConflict
)

// String returns the mode's name.
func (m BusyMode) String() string {
	switch m {
	case BusyRetryable:
		return "retryable"
	case BusyQueue:
		return "queue"
	case BusyConflict:
		return "conflict"
	}
	return fmt.Sprintf("BusyMode(%d)", int(m))
}

// Config describes a [Server]. The zero value is a plain HTTP server on a free loopback port, with instant writes and no throttling.
type Config struct {
	// Address to listen on; empty means 127.0.0.1:0.
	Address string
	// TLS serves HTTPS; nil means plain HTTP, over which azcore sends no bearer token unless it is told to.
	TLS *tls.Config
	// Verify returns the principal that a bearer token stands for; nil accepts any token and takes it for the principal.
	Verify func(token string) (principal string, err error)
	// WriteDuration returns how long the next write of a table takes until its operation succeeds (Azure: 1 to 10 s); nil means 0.
	WriteDuration func() time.Duration
	// Latency returns how long the next request waits before it is served; nil means 0.
	Latency func() time.Duration
	// RoutesPerTable is the limit of routes in a table; 0 means 1,000.
	RoutesPerTable int
	// TablesPerSubscription is the limit of tables in a subscription; 0 means 600.
	TablesPerSubscription int
	// PageSize is how many resources one page of a list holds; 0 means all.
	PageSize int
	// PeerDuration returns how long the next write of a Route Server's peer takes until its operation succeeds (Azure: about 80 s); nil means 0.
	PeerDuration func() time.Duration
	// LearnedDuration returns how long the next listing of learned or advertised routes takes (Azure: about 10 s); nil means 0.
	LearnedDuration func() time.Duration
	// PeersPerHub is the limit of BGP peers of a Route Server, and RoutesPerPeer that of the routes that it takes from each; 0 means 8 and 4,000.
	PeersPerHub, RoutesPerPeer int
	// HubBusy is how a write below a Route Server is answered while another one is in flight: BusyRetryable as for tables, anything else, also 0,
	// 400 AnotherOperationInProgress, as it was seen on hubs.
	HubBusy BusyMode
	// HubIgnoresConditions makes writes of peers ignore If-Match and If-None-Match: that the provider heeds them there is not documented.
	HubIgnoresConditions bool
	// Subnets lists the ids of the subnets that each table (by id) is associated with; see [Server.Associate].
	Subnets map[string][]string
	// Buckets enables throttling by Limits.
	Buckets bool
	// Limits are the quotas; the zero value means the documented ones.
	Limits Limits
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// AfterFunc runs f after d on the clock, never before it returns, and returns a function that cancels it; nil means
	// time.AfterFunc. A completion that is due
	// also happens before any request that comes later on the clock, so that a clock moved by hand needs no timers to be exact.
	AfterFunc func(d time.Duration, f func()) (stop func() bool)
	// RetryAfter sends Retry-After with operations, in the recorded sequence 10, 10, 10, 20, 40, 80 seconds.
	RetryAfter bool
	// NoOpChangesETag gives a table a new ETag by a PUT of its own content. Recordings show that such a PUT completes at once;
	// whether it changes the ETag is not documented. The default is that it does not.
	NoOpChangesETag bool
	// Busy is how writes to a busy table are answered; 0 means BusyRetryable.
	Busy BusyMode
	// MaxCalls bounds the call log, which drops its oldest entries; 0 means 10,000.
	MaxCalls int
	// Logger gets one line for each request; nil means none. Tokens are never logged.
	Logger *slog.Logger
}

// Server is a running emulator. Its methods may be called by several goroutines at once.
type Server struct {
	cfg       Config
	web       web.Server
	endpoints map[string]endpoint
	faults    *Faults
	calls     web.Log[Call]

	mu         sync.Mutex
	groups     map[string]group
	tables     map[string]*table   // by key of the id
	subnets    map[string][]string // likewise
	networks   map[string]subnet   // by key of the id
	operations map[string]*operation
	pending    []*operation          // not complete, by due time
	latest     map[string]*operation // the newest operation of a resource, by key of the id
	quota      *quota
	reads      reads
	observers  []func(Event)
	hubs       map[string]*hub                               // by key of the id
	source     func(peerID string, instance int) []PeerRoute // nil: what Learn set
}

// request is one authenticated request.
type request struct {
	method    string
	id        resourceID
	version   string // api-version
	principal string
	header    http.Header
	query     url.Values
	body      []byte
	outcome   outcome // how its operation is scripted to end
	base      string  // the server's URL as the client wrote it
}

// response is an answer that has not been sent yet; the zero value is none, for which the connection is dropped.
type response struct {
	status int
	header http.Header
	body   []byte
}

// endpoint is an operation of the API; handle runs with Server.mu held.
type endpoint struct {
	operation string
	handle    func(request) response
}

// Start listens and serves until [Server.Close].
func Start(cfg Config) (*Server, error) {
	if err := cfg.check().Err(emulator + ": config"); err != nil {
		return nil, err
	}
	cfg = withDefaults(cfg)
	s := &Server{
		cfg:        cfg,
		faults:     &Faults{Faults: web.Faults{Operations: true}},
		calls:      web.Log[Call]{Max: cfg.MaxCalls},
		groups:     map[string]group{},
		tables:     map[string]*table{},
		subnets:    map[string][]string{},
		networks:   map[string]subnet{},
		operations: map[string]*operation{},
		latest:     map[string]*operation{},
		quota:      newQuota(cfg.Limits),
		reads:      newReads(),
		hubs:       map[string]*hub{},
	}
	s.endpoints = s.routeEndpoints()
	maps.Copy(s.endpoints, s.hubEndpoints())
	for id, subnets := range cfg.Subnets {
		s.Associate(id, subnets...)
	}
	if err := s.web.Start(web.Config{Name: emulator, Address: cfg.Address, TLS: cfg.TLS, Logger: cfg.Logger}, s); err != nil {
		return nil, err
	}
	return s, nil
}

// check finds numbers that cannot be right; 0 stands for a default.
func (c Config) check() (p web.Problems) {
	p.AtLeast(0, "RoutesPerTable", c.RoutesPerTable)
	p.AtLeast(0, "TablesPerSubscription", c.TablesPerSubscription)
	p.AtLeast(0, "PageSize", c.PageSize)
	p.AtLeast(0, "PeersPerHub", c.PeersPerHub)
	p.AtLeast(0, "RoutesPerPeer", c.RoutesPerPeer)
	p.AtLeast(0, "MaxCalls", c.MaxCalls)
	p.Refuse(c.Busy < 0 || c.Busy > BusyConflict, "Busy", int(c.Busy), "a BusyMode, or 0")
	p.Refuse(c.HubBusy < 0 || c.HubBusy > BusyConflict, "HubBusy", int(c.HubBusy), "a BusyMode, or 0")
	return p
}

func withDefaults(cfg Config) Config {
	cfg.RoutesPerTable = cmp.Or(cfg.RoutesPerTable, 1000)
	cfg.TablesPerSubscription = cmp.Or(cfg.TablesPerSubscription, 600)
	cfg.Busy = cmp.Or(cfg.Busy, BusyRetryable)
	cfg.PeersPerHub = cmp.Or(cfg.PeersPerHub, 8)
	cfg.RoutesPerPeer = cmp.Or(cfg.RoutesPerPeer, 4000)
	cfg.MaxCalls = cmp.Or(cfg.MaxCalls, 10_000)
	instant := func() time.Duration { return 0 }
	if cfg.WriteDuration == nil {
		cfg.WriteDuration = instant
	}
	if cfg.PeerDuration == nil {
		cfg.PeerDuration = instant
	}
	if cfg.LearnedDuration == nil {
		cfg.LearnedDuration = instant
	}
	if cfg.Latency == nil {
		cfg.Latency = instant
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = web.RealTime
	}
	if cfg.Verify == nil {
		cfg.Verify = web.AnyToken
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return cfg
}

// Close drops all connections, cancels what is pending and waits until the server has stopped.
func (s *Server) Close() error {
	err := s.web.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, op := range s.pending {
		op.stop()
	}
	s.pending = nil
	return err
}

// URL returns the endpoint for a client's cloud configuration, https://ADDRESS:PORT (http:// without TLS).
func (s *Server) URL() string { return s.web.URL() }

// Faults returns the controls for what goes wrong.
func (s *Server) Faults() *Faults { return s.faults }

// PutTable creates or replaces the table id, as a third party would, but at once and without an operation or an entry in the call
// log. The ETag changes. The body is that of a PUT; its resource group is made if need be. Limits are not applied.
func (s *Server) PutTable(id string, body json.RawMessage) error {
	next, f := parseTable(parseID(id), body)
	if f == nil {
		f = next.validate(len(next.routes))
	}
	if f != nil {
		return fmt.Errorf("ARM emulator: table %s: %s: %s", id, f.code, f.message)
	}
	if next.id.pattern() != tablePattern {
		return fmt.Errorf("ARM emulator: %s is not the id of a route table", id)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	before := s.tables[next.id.key()]
	next.guid, next.etag, next.state = newGUID(), newETag(), stateSucceeded
	if before != nil {
		next.id, next.guid = before.id, before.guid
	}
	next.location = cmp.Or(next.location, "eastus")
	if _, ok := s.groups[next.id.groupKey()]; !ok {
		s.groups[next.id.groupKey()] = group{id: next.id[:4], location: next.location}
	}
	s.tables[next.id.key()] = next
	delete(s.latest, next.id.key()) // an operation in flight must not undo this
	s.notify(Event{Kind: TableSeeded, Table: next.id.String()}, before, next)
	return nil
}

// Table returns the table id as a GET of the latest api-version shows it, and its ETag.
func (s *Server) Table(id string) (body json.RawMessage, etag string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	t := s.tables[parseID(id).key()]
	if t == nil {
		return nil, "", false
	}
	return t.raw(s.view(t, latestVersion)), t.etag, true
}

// Associate declares the subnets that use the table id, replacing what was declared before: they show in properties.subnets, and a
// table that has any cannot be deleted.
func (s *Server) Associate(id string, subnets ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.subnets[parseID(id).key()] = slices.Clone(subnets)
}

func (s *Server) view(t *table, version string) view {
	return view{version: version, subnets: s.subnets[t.id.key()]}
}

// ServeHTTP serves one request: wait, decide, log, answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		send(w, gateway(http.StatusRequestEntityTooLarge, "RequestContentTooLarge", "The request content exceeds %d bytes.", maxBody).response())
		return
	}
	fault := s.faults.Take(r)
	web.Hold(r, s.cfg.Latency()+fault.Delay, s.cfg.AfterFunc)
	id := parseID(r.URL.Path)
	served, known := s.endpoints[r.Method+" "+id.pattern()]
	if !known {
		served, known = s.readEndpoint(r.Method, id)
	}
	call := Call{
		At: s.cfg.Now(), Method: r.Method, Path: r.URL.Path, Operation: served.operation,
		IfMatch: r.Header.Get("If-Match"), Body: body,
	}
	s.mu.Lock()
	s.settle()
	var answer response
	if fault.Applies() {
		req := request{
			method: r.Method, id: id, version: r.URL.Query().Get("api-version"), header: r.Header, query: r.URL.Query(),
			body: body, outcome: outcomeOf(fault), base: s.web.URLOf(r.Host),
		}
		answer = s.process(&req, served, known)
		call.Principal = req.principal
	}
	if fault.Fails() {
		answer = scripted(fault)
	}
	call.Status, call.ETag = answer.status, answer.header.Get("ETag")
	s.calls.Add(call)
	s.mu.Unlock()
	s.cfg.Logger.InfoContext(r.Context(), "request", slog.String("method", call.Method), slog.String("path", call.Path),
		slog.Int("status", call.Status), slog.String("principal", call.Principal))
	send(w, answer)
}

// process decides the answer in ARM's order: who, which version, how many, may they, and only then what.
func (s *Server) process(r *request, e endpoint, known bool) response {
	if f := s.authenticate(r); f != nil {
		return f.response()
	}
	header, f := s.throttle(r)
	if f == nil {
		f = s.admit(r, known)
	}
	var answer response
	if f != nil {
		answer = f.response()
	} else {
		answer = e.handle(*r)
	}
	if answer.header == nil {
		answer.header = http.Header{}
	}
	maps.Copy(answer.header, header)
	answer.header.Set("X-Ms-Request-Id", newGUID())
	answer.header.Set("X-Ms-Correlation-Request-Id", newGUID())
	return answer
}

func (s *Server) authenticate(r *request) *failure {
	token, ok := strings.CutPrefix(r.header.Get("Authorization"), "Bearer ")
	if !ok || token == "" {
		return missingToken()
	}
	principal, err := s.cfg.Verify(token)
	if err != nil {
		return badToken()
	}
	r.principal = principal
	return nil
}

// admit checks what does not depend on the resource's content.
func (s *Server) admit(r *request, known bool) *failure {
	if r.version == "" {
		return gateway(http.StatusBadRequest, "MissingApiVersionParameter",
			"The api-version query parameter (?api-version=) is required for all requests.")
	}
	if _, err := time.Parse(time.DateOnly, strings.TrimSuffix(r.version, "-preview")); err != nil {
		return gateway(http.StatusBadRequest, "InvalidApiVersionParameter", "The api-version '%s' is invalid.", r.version)
	}
	if !known {
		return gateway(http.StatusNotFound, "InvalidResourceType",
			"The resource type or method could not be found: %s %s.", r.method, r.id)
	}
	return s.faults.refuse(r)
}

func send(w http.ResponseWriter, answer response) {
	if len(answer.body) > 0 {
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
	}
	web.Send(w, answer.status, answer.header, answer.body)
}

func newETag() string { return `W/"` + newGUID() + `"` }

// newGUID returns a random UUID (RFC 9562 section 5.4).
func newGUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
