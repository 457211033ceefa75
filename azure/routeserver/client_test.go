package routeserver_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/azure/routeserver"
	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/localca"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/peering"
)

const hubID = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/net/providers/Microsoft.Network/virtualHubs/rs"

// token is a credential for the local server.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// world is the emulated service on a clock that moves by hand.
type world struct {
	*arm.Server
	*routeserver.Client
	mu  sync.Mutex
	now time.Time
}

func (w *world) advance(d time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.now = w.now.Add(d)
}

func newWorld(t *testing.T, cfg arm.Config) *world {
	t.Helper()
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS, err = ca.ServerTLS(); err != nil {
		t.Fatal(err)
	}
	w := &world{now: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)}
	cfg.Now = func() time.Time {
		w.mu.Lock()
		defer w.mu.Unlock()
		return w.now
	}
	cfg.AfterFunc = func(time.Duration, func()) func() bool { return func() bool { return true } }
	cfg.PeerDuration = func() time.Duration { return 80 * time.Second }
	cfg.LearnedDuration = func() time.Duration { return 10 * time.Second }
	cfg.RetryAfter = true
	if w.Server, err = arm.Start(cfg); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if closing := w.Close(); closing != nil {
			t.Error(closing)
		}
	})
	if err = w.PutRouteServer(hubID, arm.RouteServer{}); err != nil {
		t.Fatal(err)
	}
	w.Client = w.client(t, transport)
	return w
}

// client returns another process's client.
func (w *world) client(t *testing.T, transport http.RoundTripper) *routeserver.Client {
	t.Helper()
	c, err := routeserver.New(routeserver.Config{Credential: token{}, Endpoint: w.URL(), Transport: &http.Client{Transport: transport}})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 1, byte(n)}) }

func create(name string, n int) peering.Step {
	return peering.Step{Kind: peering.Create, Name: name, Address: addr(n), ASN: 65001}
}

func (w *world) list(t *testing.T) []peering.Peer {
	t.Helper()
	peers, err := w.List(t.Context(), hubID)
	if err != nil {
		t.Fatal(err)
	}
	for i := range peers {
		if peers[i].ETag == "" {
			t.Errorf("%s has no ETag", peers[i].Name)
		}
	}
	return peers
}

// end moves the clock on and follows the operation to its end.
func (w *world) end(t *testing.T, kind peering.Kind, token string) {
	t.Helper()
	w.advance(80 * time.Second)
	if p, err := w.Follow(t.Context(), hubID, kind, token); err != nil || !p.Done {
		t.Fatalf("at its end: %+v, %v", p, err)
	}
}

func TestLifeOfAPeer(t *testing.T) {
	w := newWorld(t, arm.Config{PageSize: 1})
	if err := w.PutPeer(hubID+"/bgpConnections/by-hand", json.RawMessage(`{"properties":{"peerIp":"10.0.1.9","peerAsn":65009}}`)); err != nil {
		t.Fatal(err)
	}
	w.SetConnectionState(hubID+"/bgpConnections/by-hand", "Connected")
	begun, err := w.Begin(t.Context(), hubID, create("p-a", 4))
	if err != nil || begun.Token == "" || begun.After != 10*time.Second {
		t.Fatalf("begin: %+v, %v", begun, err)
	}
	ignore := cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".ETag" }, cmp.Ignore())
	addresses := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	want := []peering.Peer{
		{Name: "by-hand", Address: addr(9), ASN: 65009, State: peering.Settled, Session: "Connected"},
		{Name: "p-a", Address: addr(4), ASN: 65001, State: peering.Changing},
	}
	if diff := cmp.Diff(want, w.list(t), ignore, addresses); diff != "" {
		t.Errorf("while it is created (-want +got):\n%s", diff)
	}
	// Another process follows it, from the token alone.
	other := newClientOf(t, w)
	var waits []time.Duration
	for range 4 {
		p, failed := other.Follow(t.Context(), hubID, peering.Create, begun.Token)
		if failed != nil || p.Done {
			t.Fatalf("in between: %+v, %v", p, failed)
		}
		waits = append(waits, p.After)
	}
	if diff := cmp.Diff([]time.Duration{10 * time.Second, 10 * time.Second, 20 * time.Second, 40 * time.Second}, waits); diff != "" {
		t.Errorf("asked to wait (-want +got):\n%s", diff)
	}
	w.end(t, peering.Create, begun.Token)

	read := w.list(t)[1]
	change := peering.Step{Kind: peering.Replace, Name: "p-a", Address: addr(5), ASN: 65002, ETag: read.ETag}
	if begun, err = w.Begin(t.Context(), hubID, change); err != nil {
		t.Fatal(err)
	}
	w.end(t, peering.Replace, begun.Token)
	now := w.list(t)[1]
	if now.Address != addr(5) || now.ASN != 65002 || now.State != peering.Settled {
		t.Errorf("after the change: %+v", now)
	}
	gone := peering.Step{Kind: peering.Delete, Name: "p-a", ETag: now.ETag}
	if begun, err = w.Begin(t.Context(), hubID, gone); err != nil {
		t.Fatal(err)
	}
	if left := w.list(t)[1]; left.State != peering.Leaving {
		t.Errorf("while it is removed: %+v", left)
	}
	w.end(t, peering.Delete, begun.Token)
	if left := w.list(t); len(left) != 1 || left[0].Name != "by-hand" {
		t.Errorf("left: %+v", left)
	}
}

func newClientOf(t *testing.T, w *world) *routeserver.Client {
	t.Helper()
	// Trust is the test's business: the second client shares nothing with the first but the address.
	transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}} //nolint:gosec // a local emulator
	t.Cleanup(transport.CloseIdleConnections)
	return w.client(t, transport)
}

func TestEveryWriteIsConditionalAndSentOnce(t *testing.T) {
	w := newWorld(t, arm.Config{})
	begun, err := w.Begin(t.Context(), hubID, create("p-a", 4))
	if err != nil {
		t.Fatal(err)
	}
	w.end(t, peering.Create, begun.Token)
	for _, step := range []peering.Step{
		create("p-a", 5),
		{Kind: peering.Replace, Name: "p-a", Address: addr(5), ASN: 65001, ETag: `W/"other"`},
		{Kind: peering.Delete, Name: "p-a", ETag: `W/"other"`},
	} {
		if _, err = w.Begin(t.Context(), hubID, step); !fault.Is(err, fault.Conflict) {
			t.Errorf("%s of what is not as it was read: %v", step, err)
		}
	}
	if peers := w.list(t); len(peers) != 1 || peers[0].Address != addr(4) {
		t.Errorf("%+v", peers)
	}
	w.ResetCalls()
	w.Faults().Script(arm.Fault{Method: http.MethodPut, Status: http.StatusServiceUnavailable, Count: -1})
	if _, err = w.Begin(t.Context(), hubID, create("p-b", 6)); !fault.Is(err, fault.Transient) {
		t.Errorf("a service in trouble: %v", err)
	}
	if calls := w.Calls(); len(calls) != 1 {
		t.Errorf("sent %d times", len(calls))
	}
}

func TestRefusals(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cfg   arm.Config
		fault func(*world)
		kind  fault.Kind
		code  string
		says  string
	}{
		{"another operation, as hubs say it", arm.Config{}, func(w *world) { mustBegin(w, create("p-x", 8)) }, fault.Throttled, fault.CodeBusy, "AnotherOperationInProgress"},
		{"another operation, as tables say it", arm.Config{HubBusy: arm.BusyRetryable}, func(w *world) { mustBegin(w, create("p-x", 8)) }, fault.Throttled, fault.CodeBusy, "RetryableError"},
		{"full", arm.Config{PeersPerHub: 1}, func(w *world) {
			_ = w.PutPeer(hubID+"/bgpConnections/x", json.RawMessage(`{"properties":{"peerIp":"10.0.1.8","peerAsn":65009}}`))
		}, fault.Refused, "BgpPeerLimitExceeded", "maxPeers"},
		{"address of another", arm.Config{}, func(w *world) {
			_ = w.PutPeer(hubID+"/bgpConnections/x", json.RawMessage(`{"properties":{"peerIp":"10.0.1.4","peerAsn":65009}}`))
		}, fault.Refused, "BgpPeerIpConflict", ""},
		{"lock", arm.Config{}, func(w *world) { w.Faults().Lock(hubID) }, fault.Denied, "ScopeLocked", "take the Route Server out of the domain"},
		{"policy", arm.Config{}, func(w *world) { w.Faults().DenyPolicy(hubID) }, fault.Denied, "RequestDisallowedByPolicy", "exempt the Route Server"},
		{"no right", arm.Config{}, func(w *world) { w.Faults().Forbid("", hubID, http.MethodPut) }, fault.Denied, "AuthorizationFailed", "Microsoft.Network/virtualHubs/bgpConnections/write"},
		{"quota", arm.Config{}, func(w *world) {
			w.Faults().Script(arm.Fault{Method: http.MethodPut, Status: 429, Code: "SubscriptionRequestsThrottled", Header: http.Header{"Retry-After": {"17"}}})
		}, fault.Throttled, "SubscriptionRequestsThrottled", ""},
		{"lost answer", arm.Config{}, func(w *world) {
			w.Faults().Script(arm.Fault{Method: http.MethodPut, DropConnection: true, Applied: true})
		}, fault.Transient, "", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.cfg)
			tt.fault(w)
			_, err := w.Begin(t.Context(), hubID, create("p-a", 4))
			if !fault.Is(err, tt.kind) || tt.code != "" && fault.Code(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v (%s, code %q), want %s %s and %q", err, fault.KindOf(err), fault.Code(err), tt.kind, tt.code, tt.says)
			}
		})
	}
}

func mustBegin(w *world, step peering.Step) {
	if _, err := w.Begin(context.Background(), hubID, step); err != nil {
		panic(err)
	}
}

func TestWhatIsNoRouteServer(t *testing.T) {
	w := newWorld(t, arm.Config{})
	if _, err := w.List(t.Context(), strings.Replace(hubID, "virtualHubs", "routeTables", 1)); !fault.Is(err, fault.Refused) {
		t.Errorf("a table: %v", err)
	}
	other := strings.TrimSuffix(hubID, "rs") + "other"
	if _, err := w.List(t.Context(), other); !fault.Is(err, fault.NotFound) || !strings.Contains(err.Error(), "create the Route Server") {
		t.Errorf("one that is not there: %v", err)
	}
	if _, err := w.Begin(t.Context(), other, create("p-a", 4)); !fault.Is(err, fault.NotFound) {
		t.Errorf("a peer of one that is not there: %v", err)
	}
	if _, err := w.Begin(t.Context(), hubID, peering.Step{Name: "p-a"}); !fault.Is(err, fault.Bug) {
		t.Errorf("a step of no kind: %v", err)
	}
}

func TestEndsOfOperations(t *testing.T) {
	w := newWorld(t, arm.Config{})
	w.Faults().Script(arm.Fault{Method: http.MethodPut, FailOperation: true})
	failing, err := w.Begin(t.Context(), hubID, create("p-a", 4))
	if err != nil {
		t.Fatal(err)
	}
	w.Faults().Script(arm.Fault{Method: http.MethodGet, PathContains: "/operations/", Status: http.StatusBadGateway})
	if p, lost := w.Follow(t.Context(), hubID, peering.Create, failing.Token); lost == nil || p.Done || !fault.Is(lost, fault.Transient) {
		t.Errorf("a poll that is lost: %+v, %v", p, lost)
	}
	w.Faults().Script(arm.Fault{Method: http.MethodGet, PathContains: "/operations/", Status: 429, Header: http.Header{"Retry-After": {"17"}}})
	if p, slow := w.Follow(t.Context(), hubID, peering.Create, failing.Token); slow == nil || p.Done || p.After != 17*time.Second {
		t.Errorf("a poll that comes too soon: %+v, %v", p, slow)
	}
	w.advance(80 * time.Second)
	if p, failed := w.Follow(t.Context(), hubID, peering.Create, failing.Token); failed == nil || !p.Done || fault.Code(failed) == "" {
		t.Errorf("an operation that failed: %+v, %v", p, failed)
	}
	if peers := w.list(t); len(peers) != 1 || peers[0].State != peering.Broken {
		t.Errorf("afterwards: %+v", peers)
	}
	w.advance(2 * time.Hour) // the service forgets
	again, err := w.Begin(t.Context(), hubID, create("p-b", 5))
	if err != nil {
		t.Fatal(err)
	}
	w.end(t, peering.Create, again.Token)
	if p, unknown := w.Follow(t.Context(), hubID, peering.Create, failing.Token); !p.Done || !fault.Is(unknown, fault.NotFound) {
		t.Errorf("an operation of which nobody knows any more: %+v, %v", p, unknown)
	}
	for _, bad := range []string{"", "x", `{"type":"other"}`} {
		if p, unknown := w.Follow(t.Context(), hubID, peering.Delete, bad); !p.Done || !fault.Is(unknown, fault.NotFound) {
			t.Errorf("token %q: %+v, %v", bad, p, unknown)
		}
		if _, p, unknown := w.Answer(t.Context(), hubID, bad); !p.Done || !fault.Is(unknown, fault.NotFound) {
			t.Errorf("token %q: %+v, %v", bad, p, unknown)
		}
	}
}

func TestLearned(t *testing.T) {
	w := newWorld(t, arm.Config{})
	peer := hubID + "/bgpConnections/p-a"
	if err := w.PutPeer(peer, json.RawMessage(`{"properties":{"peerIp":"10.0.1.4","peerAsn":65001}}`)); err != nil {
		t.Fatal(err)
	}
	one := netip.MustParsePrefix("10.64.0.0/24")
	if err := w.Learn(peer, 0, arm.PeerRoute{Network: one}, arm.PeerRoute{Network: netip.MustParsePrefix("10.65.0.0/24"), NextHop: addr(100)}); err != nil {
		t.Fatal(err)
	}
	asked, err := w.Ask(t.Context(), hubID, "p-a")
	if err != nil || asked.After != 10*time.Second {
		t.Fatalf("%+v, %v", asked, err)
	}
	if _, p, early := w.Answer(t.Context(), hubID, asked.Token); early != nil || p.Done || p.After != 10*time.Second {
		t.Errorf("too early: %+v, %v", p, early)
	}
	w.advance(10 * time.Second)
	got, p, err := w.Answer(t.Context(), hubID, asked.Token)
	if err != nil || !p.Done {
		t.Fatalf("%+v, %v", p, err)
	}
	want := []peering.Instance{
		{Name: "RouteServiceRole_IN_0", Routes: []peering.Route{{Prefix: one, NextHop: addr(4)}, {Prefix: netip.MustParsePrefix("10.65.0.0/24"), NextHop: addr(100)}}},
		{Name: "RouteServiceRole_IN_1"},
	}
	if !slices.EqualFunc(got, want, func(a, b peering.Instance) bool { return a.Name == b.Name && slices.Equal(a.Routes, b.Routes) }) {
		t.Errorf("%+v", got)
	}
	if _, err = w.Ask(t.Context(), hubID, "p-none"); !fault.Is(err, fault.NotFound) {
		t.Errorf("a peer that is not there: %v", err)
	}
	if _, p, err = w.Answer(t.Context(), hubID, "x"); !p.Done || !fault.Is(err, fault.NotFound) {
		t.Errorf("a token that is none: %+v, %v", p, err)
	}
}

// TestAnswersThatCannotBeUnderstood: a comparison without the routes that cannot be read would be wrong; a peer that cannot be read takes a place all the same.
func TestAnswersThatCannotBeUnderstood(t *testing.T) {
	body := ""
	server := httptest.NewTLSServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			out.Header().Set("Location", "https://"+r.Host+"/result")
			out.WriteHeader(http.StatusAccepted)
			return
		}
		_, _ = out.Write([]byte(body))
	}))
	defer server.Close()
	c, err := routeserver.New(routeserver.Config{Credential: token{}, Endpoint: server.URL, Transport: server.Client()})
	if err != nil {
		t.Fatal(err)
	}
	body = `{"value":[{"name":"odd","properties":{"peerIp":"?","peerAsn":-1,"provisioningState":"Odd"}},{"name":"bare"},
		{"name":"mapped","etag":"e","properties":{"peerIp":"::ffff:10.0.1.4","peerAsn":65001,"provisioningState":"Creating"}}]}`
	peers, err := c.List(t.Context(), hubID)
	if err != nil || len(peers) != 3 || peers[1].Address != addr(4) || peers[1].State != peering.Changing || peers[2].Address.IsValid() || peers[2].ASN != 0 || peers[2].State != peering.Settled {
		t.Errorf("%+v, %v", peers, err)
	}
	body = `{"value":[{"properties":{}}]}`
	if _, err = c.List(t.Context(), hubID); !fault.Is(err, fault.Transient) {
		t.Errorf("a peer without a name: %v", err)
	}
	for _, body = range []string{`{}`, `{"IN_0":[{"network":"10.0.0.0/8","nextHop":""}]}`, `{"IN_0":[{"network":"?","nextHop":"10.0.1.4"}]}`} {
		asked, asking := c.Ask(t.Context(), hubID, "p-a")
		if asking != nil {
			t.Fatal(asking)
		}
		if _, _, err = c.Answer(t.Context(), hubID, asked.Token); !fault.Is(err, fault.Transient) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestConfig(t *testing.T) {
	for _, cfg := range []routeserver.Config{{}, {Credential: token{}, Audience: "https://management.azure.com"}} {
		if _, err := routeserver.New(cfg); err == nil {
			t.Errorf("%+v is accepted", cfg)
		}
	}
}
