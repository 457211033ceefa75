// Package blob emulates the Azure Blob service as far as documents and logs need it: containers, block blobs written in one piece,
// append blobs, conditional requests, ranges and listing, with shared key and bearer authorization, in memory or in a directory. The
// real azblob client talks to it.
//
// Sources: the Blob service REST API reference, in particular "Specifying conditional headers for Blob service operations", "Append
// Block", "Authorize with Shared Key" and "Blob service error codes". Leases, snapshots, staged blocks, tiers and page blobs are
// not there and answer 501.
package blob

import (
	"cmp"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// emulator is our name in errors.
const emulator = "blob emulator"

// maxBody bounds a request body, in bytes; the service takes more for block blobs.
const maxBody = 256 << 20

// Config describes a [Server].
type Config struct {
	// Address to listen on; empty means 127.0.0.1:0.
	Address string
	// TLS serves HTTPS; nil means plain HTTP, over which azcore sends no bearer token unless it is told to.
	TLS *tls.Config
	// Account is the storage account's name, the first part of every path; empty means devstoreaccount1.
	Account string
	// Key is the account's key in base64; empty means that shared key authorization is refused.
	Key string
	// Verify returns the principal that a bearer token stands for; nil accepts any token and takes it for the principal.
	Verify func(token string) (principal string, err error)
	// Directory keeps the blobs across restarts; empty means memory only. A write is durable before it is answered.
	Directory string
	// MaxBlocks is how many blocks an append blob takes; 0 means 50,000.
	MaxBlocks int
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// MaxCalls bounds the call log, which drops its oldest entries; 0 means 10,000.
	MaxCalls int
	// Logger gets one line for each request; nil means none. Keys and tokens are never logged.
	Logger *slog.Logger
}

// Call is one request in the call log.
type Call struct {
	// At is when it was served, after any delay.
	At     time.Time
	Method string
	Path   string
	// Operation names it as the REST reference does: PutBlob, GetBlob, AppendBlock, ListBlobs; "" for what is not emulated.
	Operation string
	// Principal that was authorized: the account's name for shared key, "" if refused.
	Principal string
	// IfMatch and IfNoneMatch are the headers as sent.
	IfMatch, IfNoneMatch string
	// Status is that of the answer, 0 if the connection was dropped.
	Status int
	// ETag is the header of the answer.
	ETag string
	// Size of the request's body in bytes.
	Size int
}

// Server is a running emulator. Its methods may be called by several goroutines at once.
type Server struct {
	cfg    Config
	key    []byte
	web    web.Server
	faults Faults
	calls  web.Log[Call]

	mu    sync.Mutex
	store *store
}

// request is one authorized request.
type request struct {
	method    string
	operation string
	container string
	name      string // of the blob, "" for the container itself
	header    http.Header
	query     url.Values
	body      []byte
	endpoint  string // the account's URL as the client wrote it
}

// response is an answer that has not been sent yet; the zero value is none, for which the connection is dropped.
type response struct {
	status int
	header http.Header
	body   []byte
}

// Start loads the directory, if there is one, listens, and serves until [Server.Close].
func Start(cfg Config) (*Server, error) {
	cfg = withDefaults(cfg)
	key, err := base64.StdEncoding.DecodeString(cfg.Key)
	if err != nil {
		return nil, fmt.Errorf("%s: config: Key is not base64: %w", emulator, err)
	}
	if err = cfg.check().Err(emulator + ": config"); err != nil {
		return nil, err
	}
	contents, err := openStore(cfg.Directory, cfg.Now)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, key: key, calls: web.Log[Call]{Max: cfg.MaxCalls}, store: contents}
	if err = s.web.Start(web.Config{Name: emulator, Address: cfg.Address, TLS: cfg.TLS, Logger: cfg.Logger}, s); err != nil {
		return nil, err
	}
	return s, nil
}

func (c Config) check() (p web.Problems) {
	p.Refuse(strings.Contains(c.Account, "/"), "Account", c.Account, "a name without slashes, the first part of every path")
	p.AtLeast(0, "MaxBlocks", c.MaxBlocks)
	p.AtLeast(0, "MaxCalls", c.MaxCalls)
	return p
}

func withDefaults(cfg Config) Config {
	cfg.Account = cmp.Or(cfg.Account, "devstoreaccount1")
	cfg.MaxBlocks = cmp.Or(cfg.MaxBlocks, 50_000)
	cfg.MaxCalls = cmp.Or(cfg.MaxCalls, 10_000)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Verify == nil {
		cfg.Verify = web.AnyToken
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	return cfg
}

// Close drops all connections and waits until the server has stopped.
func (s *Server) Close() error {
	return s.web.Close()
}

// URL returns the account's URL, https://ADDRESS:PORT/ACCOUNT (http:// without TLS).
func (s *Server) URL() string { return s.web.URL() + "/" + s.cfg.Account }

// Faults returns the controls for what goes wrong.
func (s *Server) Faults() *Faults { return &s.faults }

// Calls returns the call log, oldest first.
func (s *Server) Calls() []Call { return s.calls.All() }

// ResetCalls empties the call log.
func (s *Server) ResetCalls() { s.calls.Reset() }

// ServeHTTP serves one request: wait, decide, log, answer.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	if err != nil {
		s.send(w, r, fail(http.StatusRequestEntityTooLarge, "RequestBodyTooLarge", "The request body is too large and exceeds the maximum permissible limit."))
		return
	}
	fault := s.faults.Take(r)
	web.Hold(r, fault.Delay, web.RealTime)
	req := s.parse(r, body)
	call := Call{
		At: s.cfg.Now(), Method: r.Method, Path: r.URL.Path, Operation: req.operation,
		IfMatch: r.Header.Get("If-Match"), IfNoneMatch: r.Header.Get("If-None-Match"), Size: len(body),
	}
	s.mu.Lock()
	var answer response
	if fault.Applies() {
		answer, call.Principal = s.process(r, req)
	}
	if fault.Fails() {
		answer = scripted(fault)
	}
	call.Status, call.ETag = answer.status, answer.header.Get("ETag")
	s.calls.Add(call)
	s.mu.Unlock()
	s.cfg.Logger.InfoContext(r.Context(), "request", slog.String("method", call.Method), slog.String("path", call.Path), slog.Int("status", call.Status))
	s.send(w, r, answer)
}

// parse splits /account/container/blob and names the operation.
func (s *Server) parse(r *http.Request, body []byte) request {
	account, rest, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	req := request{
		method: r.Method, header: r.Header, query: r.URL.Query(), body: body,
		endpoint: s.web.URLOf(r.Host) + "/" + s.cfg.Account,
	}
	if account != s.cfg.Account {
		return req
	}
	req.container, req.name, _ = strings.Cut(rest, "/")
	req.operation = req.identify()
	return req
}

// identify returns the name of the operation, "" if it is not emulated.
func (r *request) identify() string {
	target := "blob"
	switch {
	case r.container == "":
		target = "account"
	case r.name == "":
		target = r.query.Get("restype")
	}
	switch strings.TrimSpace(r.method + " " + target + " " + r.query.Get("comp")) {
	case "GET account list":
		return "ListContainers"
	case "PUT container":
		return "CreateContainer"
	case "GET container", "HEAD container":
		return "GetContainerProperties"
	case "DELETE container":
		return "DeleteContainer"
	case "GET container list":
		return "ListBlobs"
	case "PUT blob":
		return "PutBlob"
	case "PUT blob appendblock":
		return "AppendBlock"
	case "GET blob":
		return "GetBlob"
	case "HEAD blob":
		return "GetBlobProperties"
	case "DELETE blob":
		return "DeleteBlob"
	}
	return ""
}

// process authorizes the request and carries it out. The caller holds mu.
func (s *Server) process(r *http.Request, req request) (answer response, principal string) {
	principal, refusal := s.authorize(r)
	if refusal != nil {
		return *refusal, ""
	}
	switch req.operation {
	case "ListContainers":
		return s.listContainers(req), principal
	case "CreateContainer":
		return s.createContainer(req), principal
	}
	if req.operation == "" {
		return fail(http.StatusNotImplemented, "NotImplemented", "The requested operation is not implemented."), principal
	}
	c := s.store.containers[req.container]
	if c == nil {
		return fail(http.StatusNotFound, "ContainerNotFound", "The specified container does not exist."), principal
	}
	switch req.operation {
	case "GetContainerProperties":
		return response{status: http.StatusOK, header: c.header()}, principal
	case "DeleteContainer":
		return s.deleteContainer(req), principal
	case "ListBlobs":
		return listBlobs(req, c), principal
	case "PutBlob":
		return s.putBlob(req, c), principal
	case "AppendBlock":
		return s.appendBlock(req, c), principal
	case "GetBlob", "GetBlobProperties":
		return getBlob(req, c), principal
	case "DeleteBlob":
		return s.deleteBlob(req, c), principal
	}
	panic("blob: no handler for " + req.operation)
}

func (s *Server) send(w http.ResponseWriter, r *http.Request, answer response) {
	w.Header().Set("X-Ms-Version", cmp.Or(r.Header.Get("X-Ms-Version"), "2021-12-02"))
	w.Header().Set("X-Ms-Request-Id", requestID())
	if id := r.Header.Get("X-Ms-Client-Request-Id"); id != "" {
		w.Header().Set("X-Ms-Client-Request-Id", id)
	}
	if r.Method == http.MethodHead {
		answer.body = nil
	}
	web.Send(w, answer.status, answer.header, answer.body)
}
