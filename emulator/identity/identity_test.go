package identity_test

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/pointsman/pointsman/emulator/identity"
)

// ran keeps every run of every test, so that no two have one address.
var ran sync.Map

// resource returns a resource of the run's own: the credential's token cache is shared by the whole process.
func resource(t *testing.T) string {
	t.Helper()
	ran.Store(t, nil)
	return fmt.Sprintf("https://%s-%p.azure.com", t.Name(), t)
}

// scope is resource as a client names it.
func scope(t *testing.T) policy.TokenRequestOptions {
	t.Helper()
	return policy.TokenRequestOptions{Scopes: []string{resource(t) + "/.default"}}
}

// clock is a hand-driven clock.
type clock struct{ offset atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.offset.Load())) }
func (c *clock) advance(d time.Duration) { c.offset.Add(int64(d)) }

func start(t *testing.T, cfg identity.Config) *identity.Server {
	t.Helper()
	server, err := identity.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if failure := server.Close(); failure != nil {
			t.Error(failure)
		}
	})
	return server
}

// credential returns the real managed identity credential, pointed at server by the environment alone.
func credential(t *testing.T, server *identity.Server, id azidentity.ManagedIDKind) *azidentity.ManagedIdentityCredential {
	t.Helper()
	for name, value := range server.Environment() {
		t.Setenv(name, value)
	}
	options := &azidentity.ManagedIdentityCredentialOptions{ID: id}
	options.Retry = policy.RetryOptions{MaxRetries: -1}
	cred, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		t.Fatal(err)
	}
	return cred
}

func token(t *testing.T, cred azcore.TokenCredential) azcore.AccessToken {
	t.Helper()
	got, err := cred.GetToken(t.Context(), scope(t))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestFunctionsIdentity(t *testing.T) {
	server := start(t, identity.Config{Principal: "function-app", TokenLife: 2 * time.Hour})
	got := token(t, credential(t, server, nil))

	principal, err := server.Verify(got.Token, resource(t)+"/")
	if err != nil || principal != "function-app" {
		t.Errorf("Verify = %q, %v", principal, err)
	}
	if _, err = server.Verify(got.Token, "https://storage.azure.com"); !errors.Is(err, identity.ErrAudience) {
		t.Errorf("Verify for another resource: %v", err)
	}
	if _, err = server.Verify(got.Token+"x", ""); !errors.Is(err, identity.ErrUnknownToken) {
		t.Errorf("Verify of a forged token: %v", err)
	}
	if life := time.Until(got.ExpiresOn); life < time.Hour || life > 2*time.Hour {
		t.Errorf("the client believes in a life of %v", life)
	}
}

func TestTokenIsShapedLikeAJWT(t *testing.T) {
	server := start(t, identity.Config{Principal: "function-app"})
	parts := strings.Split(token(t, credential(t, server, nil)).Token, ".")
	if len(parts) != 3 {
		t.Fatalf("%d parts", len(parts))
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		t.Fatal(err)
	}
	var claims struct {
		Oid string
		Exp int64
	}
	if err = json.Unmarshal(raw, &claims); err != nil {
		t.Fatal(err)
	}
	if claims.Oid != "function-app" || claims.Exp <= time.Now().Unix() {
		t.Errorf("claims %s", raw)
	}
}

func TestUserAssignedIdentity(t *testing.T) {
	server := start(t, identity.Config{Principals: map[string]string{"client-1": "object-1"}})
	got := token(t, credential(t, server, azidentity.ClientID("client-1")))
	if principal, err := server.Verify(got.Token, ""); err != nil || principal != "object-1" {
		t.Errorf("Verify = %q, %v", principal, err)
	}
	cred := credential(t, server, azidentity.ClientID("nobody"))
	if _, err := cred.GetToken(t.Context(), scope(t)); err == nil {
		t.Error("an unknown identity got a token")
	}
}

func TestTokensExpire(t *testing.T) {
	var now clock
	server := start(t, identity.Config{TokenLife: time.Hour, Now: now.now})
	first := token(t, credential(t, server, nil)).Token
	now.advance(time.Hour)
	if _, err := server.Verify(first, ""); !errors.Is(err, identity.ErrExpired) {
		t.Errorf("after its life: %v", err)
	}
	now.advance(-time.Hour)
	if _, err := server.Verify(first, ""); err != nil {
		t.Errorf("within its life: %v", err)
	}
	server.ExpireTokens()
	if _, err := server.Verify(first, ""); !errors.Is(err, identity.ErrExpired) {
		t.Errorf("after ExpireTokens: %v", err)
	}
}

func TestScriptedFailures(t *testing.T) {
	server := start(t, identity.Config{})
	cred := credential(t, server, nil)
	server.FailNext(1, http.StatusBadRequest)
	if _, err := cred.GetToken(t.Context(), scope(t)); err == nil {
		t.Error("the scripted failure did not happen")
	}
	if _, err := server.Verify(token(t, cred).Token, ""); err != nil {
		t.Errorf("after the failure: %v", err)
	}
	if got := server.Requests(); got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
}

// rewrite sends requests for the constant IMDS address to the emulator.
type rewrite struct{ base *url.URL }

func (r rewrite) Do(request *http.Request) (*http.Response, error) {
	request = request.Clone(request.Context())
	request.URL.Scheme, request.URL.Host = r.base.Scheme, r.base.Host
	return http.DefaultClient.Do(request)
}

func TestInstanceMetadata(t *testing.T) {
	server := start(t, identity.Config{Principal: "vm"})
	base, err := url.Parse(server.URL())
	if err != nil {
		t.Fatal(err)
	}
	options := &azidentity.ManagedIdentityCredentialOptions{}
	options.Transport = rewrite{base}
	cred, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		t.Fatal(err)
	}
	if principal, failure := server.Verify(token(t, cred).Token, ""); failure != nil || principal != "vm" {
		t.Errorf("Verify = %q, %v", principal, failure)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	server := start(t, identity.Config{Header: "secret"})
	const query = "&resource=https://management.azure.com"
	for _, test := range []struct {
		name, path, header, value string
		status                    int
	}{
		{"no secret", "/msi/token?api-version=2019-08-01" + query, "", "", http.StatusUnauthorized},
		{"wrong secret", "/msi/token?api-version=2019-08-01" + query, "X-IDENTITY-HEADER", "guess", http.StatusUnauthorized},
		{"old version", "/msi/token?api-version=2017-09-01" + query, "X-IDENTITY-HEADER", "secret", http.StatusBadRequest},
		{"no resource", "/msi/token?api-version=2019-08-01", "X-IDENTITY-HEADER", "secret", http.StatusBadRequest},
		{"no Metadata", "/metadata/identity/oauth2/token?api-version=2018-02-01" + query, "", "", http.StatusBadRequest},
	} {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL()+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.header != "" {
				request.Header.Set(test.header, test.value)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = response.Body.Close() }()
			if response.StatusCode != test.status {
				t.Errorf("status %d, want %d", response.StatusCode, test.status)
			}
		})
	}
}
