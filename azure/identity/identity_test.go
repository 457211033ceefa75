package identity_test

import (
	"context"
	"net/http"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pointsman/pointsman/azure/identity"
	emulator "github.com/pointsman/pointsman/emulator/identity"
	"github.com/pointsman/pointsman/shared/fault"
)

const resource = "https://management.azure.com"

// endpoint starts the managed identity endpoint of a Functions host and points this process at it.
func endpoint(t *testing.T, cfg emulator.Config) *emulator.Server {
	t.Helper()
	server, err := emulator.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closeErr := server.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	})
	for name, value := range server.Environment() {
		t.Setenv(name, value)
	}
	return server
}

func principal(ctx context.Context, t *testing.T, server *emulator.Server, cfg identity.Config) (string, error) {
	t.Helper()
	credential, err := identity.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	token, err := credential.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{resource + "/.default"}})
	if err != nil {
		return "", err
	}
	who, err := server.Verify(token.Token, resource)
	if err != nil {
		t.Fatal(err)
	}
	return who, nil
}

func TestManagedIdentity(t *testing.T) {
	server := endpoint(t, emulator.Config{Principal: "system", Principals: map[string]string{"client-1": "user-1"}})
	for clientID, want := range map[string]string{"": "system", "client-1": "user-1"} {
		who, err := principal(t.Context(), t, server, identity.Config{ClientID: clientID})
		if err != nil || who != want {
			t.Errorf("client %q is %s, want %s: %v", clientID, who, want, err)
		}
	}
}

func TestErrors(t *testing.T) {
	server := endpoint(t, emulator.Config{})
	for name, tt := range map[string]struct {
		status int
		kind   fault.Kind
	}{
		"refused": {http.StatusBadRequest, fault.Denied},
		"trouble": {http.StatusNotImplemented, fault.Transient}, // 501 is no status that the SDK repeats for seconds
	} {
		t.Run(name, func(t *testing.T) {
			server.FailNext(100, tt.status)
			_, err := principal(t.Context(), t, server, identity.Config{ClientID: name})
			if !fault.Is(err, tt.kind) {
				t.Errorf("%v, want %s", err, tt.kind)
			}
		})
	}
	t.Run("not there", func(t *testing.T) {
		t.Setenv("IDENTITY_ENDPOINT", "http://127.0.0.1:1/msi/token") // tcpmux: nobody listens
		credential, err := identity.New(identity.Config{Transport: once{}, ClientID: "not there"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err = credential.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{resource}}); !fault.Is(err, fault.Transient) {
			t.Errorf("%v", err)
		}
	})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := principal(ctx, t, server, identity.Config{ClientID: "cancelled"}); !fault.Is(err, fault.Transient) {
		t.Errorf("cancelled: %v", err)
	}
}

// once is a transport whose failures azcore does not repeat, which would take the test half a minute.
type once struct{}

func (once) Do(req *http.Request) (*http.Response, error) {
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, final{err}
	}
	return answer, nil
}

// final is an error that azcore does not repeat.
type final struct{ error }

func (final) NonRetriable() {}

func TestNew(t *testing.T) {
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "")
	if _, err := identity.New(identity.Config{Source: identity.Person}); err == nil {
		t.Error("a person without AZURE_TOKEN_CREDENTIALS: the identity must be a choice")
	}
	t.Setenv("AZURE_TOKEN_CREDENTIALS", "AzureCLICredential")
	if _, err := identity.New(identity.Config{Source: identity.Person}); err != nil {
		t.Error(err)
	}
	if _, err := identity.New(identity.Config{Source: identity.Person, ClientID: "c"}); err == nil {
		t.Error("a person with a client id")
	}
	if _, err := identity.New(identity.Config{Source: 9}); err == nil {
		t.Error("an unknown source")
	}
}
