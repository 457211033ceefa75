package blob_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/azure/blob"
	emulator "github.com/pointsman/pointsman/emulator/blob"
	"github.com/pointsman/pointsman/emulator/localca"
	"github.com/pointsman/pointsman/shared/fault"
)

const (
	key      = "c2VjcmV0LWtleS1zZWNyZXQ="
	document = "nvas/d/n.json"
)

// account is an emulated storage account and a store in it.
type account struct {
	*emulator.Server
	store *blob.Store
}

func newAccount(t *testing.T) account {
	t.Helper()
	server, err := emulator.Start(emulator.Config{Key: key, MaxBlocks: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closeErr := server.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	})
	a := account{Server: server, store: newStore(t, connectionString(server, key), "state")}
	if err = a.store.Ensure(t.Context()); err != nil {
		t.Fatal(err)
	}
	return a
}

func connectionString(s *emulator.Server, key string) string {
	return fmt.Sprintf("DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=%s;BlobEndpoint=%s", key, s.URL())
}

func newStore(t *testing.T, connection, container string) *blob.Store {
	t.Helper()
	store, err := blob.New(blob.Config{ConnectionString: connection, Container: container, RetryDelay: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func (a account) write(t *testing.T, text, ifMatch string) string {
	t.Helper()
	etag, err := a.store.Write(t.Context(), document, []byte(text), ifMatch)
	if err != nil {
		t.Fatal(err)
	}
	return etag
}

func (a account) expect(t *testing.T, text, etag string) {
	t.Helper()
	data, gotTag, err := a.store.Read(t.Context(), document, "")
	if err != nil {
		t.Fatal(err)
	}
	if string(data) != text || gotTag != etag {
		t.Errorf("%q %s, want %q %s", data, gotTag, text, etag)
	}
}

func TestCompareAndSwap(t *testing.T) {
	a := newAccount(t)
	if _, _, err := a.store.Read(t.Context(), document, ""); !fault.Is(err, fault.NotFound) {
		t.Errorf("missing: %v", err)
	}
	if _, err := a.store.Write(t.Context(), document, nil, `"0x1"`); !fault.Is(err, fault.Conflict) {
		t.Errorf("replace a missing one: %v", err)
	}
	first := a.write(t, "one", "")
	a.expect(t, "one", first)
	if _, err := a.store.Write(t.Context(), document, []byte("x"), ""); !fault.Is(err, fault.Conflict) {
		t.Errorf("create twice: %v", err)
	}
	second := a.write(t, "two", first)
	if first == second {
		t.Error("one ETag for two contents")
	}
	if _, err := a.store.Write(t.Context(), document, []byte("x"), first); !fault.Is(err, fault.Conflict) {
		t.Errorf("replace an old one: %v", err)
	}
	a.expect(t, "two", second)
	if err := a.store.Put(t.Context(), document, []byte("three")); err != nil {
		t.Error(err)
	}
	if _, err := a.store.Write(t.Context(), document, []byte("x"), second); !fault.Is(err, fault.Conflict) {
		t.Errorf("after a put: %v", err)
	}
	a.expect(t, "three", a.etag(t))
	third := a.write(t, "", a.etag(t))
	a.expect(t, "", third)
}

// The second reader asks again, and nothing is sent; a newer document is sent whatever it knew.
func TestReadUnlessKnown(t *testing.T) {
	a := newAccount(t)
	if _, _, err := a.store.Read(t.Context(), document, `"0x1"`); !fault.Is(err, fault.NotFound) {
		t.Errorf("missing: %v", err)
	}
	first := a.write(t, "one", "")
	if data, etag, err := a.store.Read(t.Context(), document, first); err != nil || data != nil || etag != first {
		t.Errorf("known: %q %s, %v", data, etag, err)
	}
	second := a.write(t, "one", first) // the same content
	for _, known := range []string{"", first, `"0x1"`} {
		if data, etag, err := a.store.Read(t.Context(), document, known); err != nil || string(data) != "one" || etag != second {
			t.Errorf("known %s: %q %s, %v; want one %s", known, data, etag, err, second)
		}
	}
}

func (a account) etag(t *testing.T) string {
	t.Helper()
	_, etag, err := a.store.Read(t.Context(), document, "")
	if err != nil {
		t.Fatal(err)
	}
	return etag
}

// The outcome of a write is right in every combination of {not applied, applied} x {error answer, no answer}, for a creation and for a
// replacement; an error of a write that took effect would make the caller fight with itself.
func TestWriteOutcomes(t *testing.T) {
	for _, applied := range []bool{false, true} {
		for _, drop := range []bool{false, true} {
			for _, create := range []bool{false, true} {
				t.Run(fmt.Sprintf("applied=%t dropped=%t create=%t", applied, drop, create), func(t *testing.T) {
					a := newAccount(t)
					ifMatch := ""
					if !create {
						ifMatch = a.write(t, "old", "")
					}
					f := emulator.Fault{Method: http.MethodPut, PathContains: document, Applied: applied, DropConnection: drop}
					if !drop {
						f.Status = http.StatusInternalServerError
					}
					a.Faults().Script(f)
					a.expect(t, "new", a.write(t, "new", ifMatch))
				})
			}
		}
	}
}

// Two tries of a write do not make another's success ours, not even one of the same content.
func TestWriteOfAnotherIsNotOurs(t *testing.T) {
	a := newAccount(t)
	first := a.write(t, "old", "")
	a.write(t, "new", first)
	a.Faults().Script(emulator.Fault{Method: http.MethodPut, PathContains: document, DropConnection: true})
	if _, err := a.store.Write(t.Context(), document, []byte("new"), first); !fault.Is(err, fault.Conflict) {
		t.Errorf("%v", err)
	}
	a.Faults().Script(
		emulator.Fault{Method: http.MethodPut, PathContains: document, DropConnection: true},
		emulator.Fault{Method: http.MethodHead, PathContains: document, DropConnection: true, Count: -1})
	if _, err := a.store.Write(t.Context(), document, []byte("new"), first); !fault.Is(err, fault.Transient) {
		t.Errorf("cannot read back: %v", err)
	}
}

// A conflict at the first try needs no second look.
func TestPlainConflictCostsOneCall(t *testing.T) {
	a := newAccount(t)
	a.write(t, "old", "")
	before := len(a.Calls())
	if _, err := a.store.Write(t.Context(), document, []byte("x"), ""); !fault.Is(err, fault.Conflict) {
		t.Fatal(err)
	}
	if n := len(a.Calls()) - before; n != 1 {
		t.Errorf("%d calls", n)
	}
}

// Of many writers with one ETag exactly one wins each round, through lost answers.
func TestOneWinner(t *testing.T) {
	a := newAccount(t)
	etag := a.write(t, "0", "")
	for round := range 5 {
		a.Faults().Script(emulator.Fault{Method: http.MethodPut, DropConnection: true, Applied: true, Count: 2, Skip: round})
		var wg sync.WaitGroup
		var mu sync.Mutex
		var winners []string
		for i := range 8 {
			wg.Go(func() {
				won, err := a.store.Write(t.Context(), document, fmt.Appendf(nil, "%d/%d", round, i), etag)
				if err != nil {
					if !fault.Is(err, fault.Conflict) {
						t.Errorf("%v", err)
					}
					return
				}
				mu.Lock()
				winners = append(winners, won)
				mu.Unlock()
			})
		}
		wg.Wait()
		a.Faults().Clear()
		if len(winners) != 1 || winners[0] != a.etag(t) {
			t.Fatalf("round %d: winners %v, ETag %s", round, winners, a.etag(t))
		}
		etag = winners[0]
	}
}

func TestOutage(t *testing.T) {
	a := newAccount(t)
	a.Faults().Outage(true)
	_, _, err := a.store.Read(t.Context(), document, "")
	if !fault.Is(err, fault.Transient) {
		t.Errorf("read: %v", err)
	}
	if _, err = a.store.Write(t.Context(), document, nil, ""); !fault.Is(err, fault.Transient) {
		t.Errorf("write: %v", err)
	}
	if err = a.store.Append(t.Context(), document, nil); !fault.Is(err, fault.Transient) {
		t.Errorf("append: %v", err)
	}
	a.Faults().Outage(false)
	a.write(t, "after", "")
}

func TestAppend(t *testing.T) {
	a := newAccount(t)
	for _, line := range []string{"one", "two\n", "three"} {
		if err := a.store.Append(t.Context(), document, []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	a.expect(t, "one\ntwo\nthree\n", a.etag(t))
	if err := a.store.Append(t.Context(), document, []byte("four")); !fault.Is(err, fault.Refused) {
		t.Errorf("beyond the limit: %v", err)
	}
	if err := a.store.Put(t.Context(), "plain", nil); err != nil {
		t.Fatal(err)
	}
	if err := a.store.Append(t.Context(), "plain", []byte("x")); !fault.Is(err, fault.Denied) {
		t.Errorf("to a document of another type: %v", err)
	}
}

func TestAppendersCreateOnce(t *testing.T) {
	a := newAccount(t)
	var wg sync.WaitGroup
	for i := range 3 {
		wg.Go(func() {
			if err := a.store.Append(t.Context(), document, fmt.Appendf(nil, "%d", i)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	data, _, err := a.store.Read(t.Context(), document, "")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Fields(string(data))
	slices.Sort(lines)
	if diff := cmp.Diff([]string{"0", "1", "2"}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestList(t *testing.T) {
	a := newAccount(t)
	for _, name := range []string{"b/2", "a/1", "b/1 x", "c"} {
		if err := a.store.Put(t.Context(), name, []byte("x")); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{"b/": {"b/1 x", "b/2"}, "": {"a/1", "b/1 x", "b/2", "c"}, "d": nil} {
		names, err := a.store.List(t.Context(), prefix)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%q: %s", prefix, diff)
		}
	}
}

func TestRefusals(t *testing.T) {
	a := newAccount(t)
	wrong := newStore(t, connectionString(a.Server, base64.StdEncoding.EncodeToString([]byte("wrong"))), "state")
	_, _, err := wrong.Read(t.Context(), document, "")
	expectFault(t, err, fault.Denied, "check the key")
	expectFault(t, wrong.Ensure(t.Context()), fault.Denied, "")

	nowhere := newStore(t, connectionString(a.Server, key), "nowhere")
	_, _, err = nowhere.Read(t.Context(), document, "")
	expectFault(t, err, fault.Denied, "create the container nowhere")
	_, err = nowhere.Write(t.Context(), document, nil, "")
	expectFault(t, err, fault.Denied, "create the container nowhere")

	for _, tt := range []struct {
		status int
		code   string
		kind   fault.Kind
		advice string
	}{
		{403, "AuthorizationPermissionMismatch", fault.Denied, "Storage Blob Data Contributor"},
		{403, "AuthorizationFailure", fault.Denied, "firewall"},
		{403, "KeyBasedAuthenticationNotPermitted", fault.Denied, "use an identity"},
		{413, "RequestBodyTooLarge", fault.Poison, ""},
		{409, "ContainerBeingDeleted", fault.Transient, ""},
		{412, "ConditionNotMet", fault.Conflict, ""},
		{400, "InvalidHeaderValue", fault.Bug, ""},
	} {
		a.Faults().Script(emulator.Fault{Method: http.MethodPut, Status: tt.status, Code: tt.code})
		err = a.store.Put(t.Context(), document, nil)
		expectFault(t, err, tt.kind, tt.advice)
		if fault.Code(err) != tt.code {
			t.Errorf("code %q, want %q", fault.Code(err), tt.code)
		}
	}
	a.Faults().Script(emulator.Fault{Method: http.MethodPut, Status: 503, Code: "ServerBusy", Header: http.Header{"Retry-After": {"7"}}})
	err = a.store.Put(t.Context(), document, nil)
	expectFault(t, err, fault.Throttled, "")
	if wait := fault.RetryAfter(err); wait != 7*time.Second {
		t.Errorf("retry after %s", wait)
	}
}

func expectFault(t *testing.T, err error, kind fault.Kind, advice string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), advice) {
		t.Errorf("%v, want %s and %q", err, kind, advice)
	}
}

func TestNewChecks(t *testing.T) {
	for name, cfg := range map[string]blob.Config{
		"no container":  {ConnectionString: "AccountName=a;AccountKey=" + key},
		"nothing":       {Container: "c"},
		"no credential": {Container: "c", ServiceURL: "https://a"},
		"both":          {Container: "c", ServiceURL: "https://a", ConnectionString: "AccountName=a;AccountKey=" + key},
		"not one":       {Container: "c", ConnectionString: key + "," + key},
	} {
		if _, err := blob.New(cfg); err == nil || strings.Contains(err.Error(), key) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// token is a credential for the local server.
type token struct{ err error }

func (c token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "somebody", ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

// With a credential, over TLS, as in Azure.
func TestCredential(t *testing.T) {
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	serverTLS, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	server, err := emulator.Start(emulator.Config{TLS: serverTLS})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if closeErr := server.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	})
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: ca.Pool()}
	t.Cleanup(transport.CloseIdleConnections)
	open := func(credential azcore.TokenCredential) *blob.Store {
		store, newErr := blob.New(blob.Config{
			ServiceURL: server.URL(), Credential: credential, Container: "state",
			Transport: &http.Client{Transport: transport}, RetryDelay: time.Millisecond,
		})
		if newErr != nil {
			t.Fatal(newErr)
		}
		return store
	}
	store := open(token{})
	for range 2 {
		if err = store.Ensure(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err = store.Write(t.Context(), document, []byte("x"), ""); err != nil {
		t.Error(err)
	}
	denied := open(token{err: &fault.Error{Kind: fault.Denied, Code: "AuthenticationFailed", Advice: "assign an identity"}})
	expectFault(t, denied.Put(t.Context(), document, nil), fault.Denied, "assign an identity")
}
