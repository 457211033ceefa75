// Package identity is a local managed identity endpoint: it answers the two token requests that azidentity makes on Azure, that of
// Functions and App Service (IDENTITY_ENDPOINT, IDENTITY_HEADER, api-version 2019-08-01) and that of the instance metadata service
// of a VM (IMDS, /metadata/identity/oauth2/token). Its tokens have the shape of JWTs but no meaning outside this process: the other
// emulators ask [Server.Verify]. So the product's own credential code runs unchanged and no fake credential is needed.
//
// Source: "How to use managed identities for App Service and Azure Functions" (REST endpoint reference) and "How to use managed
// identities on an Azure VM to acquire an access token".
package identity

import (
	"cmp"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// Errors of [Server.Verify].
var (
	// ErrUnknownToken means that this server never issued the token.
	ErrUnknownToken = errors.New("identity: token was not issued here")
	// ErrExpired means that the token's life is over.
	ErrExpired = errors.New("identity: token has expired")
	// ErrAudience means that the token was issued for another resource.
	ErrAudience = errors.New("identity: token is for another resource")
)

// Config describes a [Server]. The zero value is usable.
type Config struct {
	// Address to listen on; empty means 127.0.0.1:0.
	Address string
	// Header is the secret that App Service requests carry in X-IDENTITY-HEADER; empty means a random one.
	Header string
	// TokenLife is how long a token is valid; 0 means 24 hours, as managed identities give.
	TokenLife time.Duration
	// Now is the clock; nil means time.Now.
	Now func() time.Time
	// Principal is the object id of the system-assigned identity, which requests without client_id get;
	// empty means 00000000-0000-0000-0000-000000000001.
	Principal string
	// Principals maps the client_id (or object_id, principal_id, mi_res_id, msi_res_id) of each user-assigned identity to its object id.
	Principals map[string]string
	// Logger gets one line for each request; nil means none. Tokens are never logged.
	Logger *slog.Logger
}

// Server is a running endpoint. Its methods may be called by several goroutines at once.
type Server struct {
	cfg      Config
	web      web.Server
	faults   web.Faults
	requests atomic.Int64

	mu     sync.Mutex
	tokens map[string]grant
}

// grant is what a token stands for.
type grant struct {
	principal string
	resource  string
	expires   time.Time
}

// Start listens and serves until [Server.Close].
func Start(cfg Config) (*Server, error) {
	var p web.Problems
	p.AtLeast(0, "TokenLife", int(cfg.TokenLife))
	if err := p.Err("identity emulator: config"); err != nil {
		return nil, err
	}
	cfg.Header = cmp.Or(cfg.Header, rand.Text())
	cfg.TokenLife = cmp.Or(cfg.TokenLife, 24*time.Hour)
	cfg.Principal = cmp.Or(cfg.Principal, "00000000-0000-0000-0000-000000000001")
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	s := &Server{cfg: cfg, tokens: map[string]grant{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /msi/token", s.appService)
	mux.HandleFunc("GET /metadata/identity/oauth2/token", s.imds)
	if err := s.web.Start(web.Config{Name: "identity emulator", Address: cfg.Address, Logger: cfg.Logger}, mux); err != nil {
		return nil, err
	}
	return s, nil
}

// Close stops the server and waits until it has stopped.
func (s *Server) Close() error {
	return s.web.Close()
}

// URL returns the server's root, http://ADDRESS:PORT. The Functions form of the endpoint is plain HTTP on Azure too.
func (s *Server) URL() string { return s.web.URL() }

// Principal returns the object id of the system-assigned identity.
func (s *Server) Principal() string { return s.cfg.Principal }

// Environment returns the variables with which azidentity's ManagedIdentityCredential finds this server.
func (s *Server) Environment() map[string]string {
	return map[string]string{
		"IDENTITY_ENDPOINT": s.URL() + "/msi/token",
		"IDENTITY_HEADER":   s.cfg.Header,
	}
}

// Verify returns the principal (object id) of a token that this server issued for resource and that has not expired; an empty
// resource accepts any. Resources compare without a trailing slash. The errors are [ErrUnknownToken], [ErrExpired] and [ErrAudience].
func (s *Server) Verify(token, resource string) (principal string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, ok := s.tokens[token]
	switch {
	case !ok:
		return "", ErrUnknownToken
	case !s.cfg.Now().Before(g.expires):
		return "", fmt.Errorf("%w: principal %s", ErrExpired, g.principal)
	case resource != "" && trimResource(resource) != trimResource(g.resource):
		return "", fmt.Errorf("%w: it is for %s, not %s", ErrAudience, g.resource, resource)
	}
	return g.principal, nil
}

// FailNext makes the next n token requests fail with the HTTP status.
func (s *Server) FailNext(n, status int) { s.faults.FailNext(n, status) }

// ExpireTokens ends the life of every token issued so far. Clients do not notice: they believe the expires_on they were told.
func (s *Server) ExpireTokens() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for token, g := range s.tokens {
		g.expires = s.cfg.Now()
		s.tokens[token] = g
	}
}

// Requests returns how many token requests have been made, failed ones included.
func (s *Server) Requests() int { return int(s.requests.Load()) }

// appService answers the Functions and App Service form.
func (s *Server) appService(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, message string) {
		s.reply(w, r, status, map[string]any{"statusCode": status, "message": message})
	}
	secret := r.Header.Get("X-IDENTITY-HEADER")
	switch status := s.admit(r); {
	case status != 0:
		fail(status, "scripted failure")
	case subtle.ConstantTimeCompare([]byte(secret), []byte(s.cfg.Header)) != 1:
		fail(http.StatusUnauthorized, "X-IDENTITY-HEADER is missing or wrong.")
	case r.URL.Query().Get("api-version") != "2019-08-01":
		fail(http.StatusBadRequest, "api-version must be 2019-08-01.")
	default:
		s.answer(w, r, fail)
	}
}

// imds answers the instance metadata form.
func (s *Server) imds(w http.ResponseWriter, r *http.Request) {
	fail := func(status int, message string) {
		s.reply(w, r, status, map[string]any{"error": "invalid_request", "error_description": message})
	}
	switch status := s.admit(r); {
	case status != 0:
		fail(status, "scripted failure")
	case !strings.EqualFold(r.Header.Get("Metadata"), "true"):
		fail(http.StatusBadRequest, "Required metadata header not specified")
	case r.URL.Query().Get("api-version") == "":
		fail(http.StatusBadRequest, "Required query variable 'api-version' is missing")
	default:
		s.answer(w, r, fail)
	}
}

// admit counts a request and returns the status of a scripted failure, or 0.
func (s *Server) admit(r *http.Request) int {
	s.requests.Add(1)
	return s.faults.Take(r).Status
}

// answer issues a token. Both forms share it; numbers are strings on Azure too.
func (s *Server) answer(w http.ResponseWriter, r *http.Request, fail func(int, string)) {
	resource := r.URL.Query().Get("resource")
	if resource == "" {
		fail(http.StatusBadRequest, "resource is missing.")
		return
	}
	principal, ok := s.principal(r)
	if !ok {
		fail(http.StatusBadRequest, "Identity not found")
		return
	}
	now := s.cfg.Now()
	expires := now.Add(s.cfg.TokenLife)
	token, err := s.issue(grant{principal: principal, resource: resource, expires: expires}, now)
	if err != nil {
		fail(http.StatusInternalServerError, err.Error())
		return
	}
	s.reply(w, r, http.StatusOK, map[string]any{
		"access_token": token,
		"client_id":    cmp.Or(r.URL.Query().Get("client_id"), principal),
		"expires_in":   strconv.FormatInt(int64(s.cfg.TokenLife/time.Second), 10),
		"expires_on":   strconv.FormatInt(expires.Unix(), 10),
		"not_before":   strconv.FormatInt(now.Unix(), 10),
		"resource":     resource,
		"token_type":   "Bearer",
	})
}

// principal returns the identity that the request names, or the system-assigned one.
func (s *Server) principal(r *http.Request) (string, bool) {
	for _, parameter := range []string{"client_id", "object_id", "principal_id", "mi_res_id", "msi_res_id"} {
		if id := r.URL.Query().Get(parameter); id != "" {
			principal, ok := s.cfg.Principals[id]
			return principal, ok
		}
	}
	return s.cfg.Principal, true
}

// issue makes a token for g and forgets those that have expired.
func (s *Server) issue(g grant, now time.Time) (string, error) {
	token, err := encodeToken(g, now)
	if err != nil {
		return "", err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, previous := range s.tokens {
		if previous.expires.Before(now.Add(-time.Hour)) {
			delete(s.tokens, old)
		}
	}
	s.tokens[token] = g
	return token, nil
}

// encodeToken shapes g as a JWT (RFC 7519): the claims are real, so that a client may read exp, but the signature is random.
func encodeToken(g grant, now time.Time) (string, error) {
	header, err := json.Marshal(map[string]any{"alg": "none", "typ": "JWT"})
	if err != nil {
		return "", fmt.Errorf("identity emulator: token header: %w", err)
	}
	claims, err := json.Marshal(map[string]any{
		"aud": g.resource,
		"exp": g.expires.Unix(),
		"iat": now.Unix(),
		"iss": "https://sts.windows.net/local/",
		"nbf": now.Unix(),
		"oid": g.principal,
		"sub": g.principal,
		"tid": "local",
		"uti": rand.Text(),
	})
	if err != nil {
		return "", fmt.Errorf("identity emulator: token claims: %w", err)
	}
	encode := base64.RawURLEncoding.EncodeToString
	return encode(header) + "." + encode(claims) + "." + encode([]byte(rand.Text())), nil
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, status int, body map[string]any) {
	s.cfg.Logger.InfoContext(r.Context(), "token request", slog.String("path", r.URL.Path), slog.Int("status", status))
	w.Header().Set("Content-Type", "application/json; charset=utf-8")
	w.WriteHeader(status)
	if err := json.NewEncoder(w).Encode(body); err != nil {
		s.cfg.Logger.DebugContext(r.Context(), "token answer not delivered", slog.Any("error", err))
	}
}

func trimResource(resource string) string {
	return strings.TrimSuffix(strings.TrimSuffix(resource, "/.default"), "/")
}
