package routetable_test

import (
	"context"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/azure/routetable"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
)

const tableID = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/net/providers/Microsoft.Network/routeTables/spoke"

// full is a table with everything that the API version has: managed and hand-made routes, one of them ECMP, flags, tags and subnets.
const full = `{
 "name":"spoke","id":"` + tableID + `","etag":"W/\"e1\"","type":"Microsoft.Network/routeTables","location":"westeurope",
 "tags":{"owner":"R&D <net>","empty":""},
 "properties":{
  "provisioningState":"Succeeded","resourceGuid":"6f1e","disableBgpRoutePropagation":true,"disablePeeringRoute":"All",
  "subnets":[{"id":"/subscriptions/s/subnets/a","newerField":1}],
  "routes":[
   {"name":"by-hand","id":"/r/by-hand","etag":"W/\"e1\"","type":"Microsoft.Network/routeTables/routes",
    "properties":{"provisioningState":"Succeeded","addressPrefix":"Storage.WestEurope","nextHopType":"Internet","hasBgpOverride":false}},
   {"name":"pm-10.1.0.0-16","id":"/r/1","etag":"W/\"e1\"","type":"Microsoft.Network/routeTables/routes",
    "properties":{"provisioningState":"Succeeded","addressPrefix":"10.1.0.0/16","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.0.4","hasBgpOverride":false}},
   {"name":"ecmp","id":"/r/ecmp","etag":"W/\"e1\"","type":"Microsoft.Network/routeTables/routes",
    "properties":{"provisioningState":"Succeeded","addressPrefix":"10.9.0.0/16","nextHopType":"VirtualApplianceEcmp",
     "nextHop":{"nextHopIpAddresses":["10.0.0.4","10.0.0.5"]},"hasBgpOverride":false}}
  ]}}`

// edited is the PUT body after the route pm-10.1.0.0-16 went to 10.0.0.5 and one was added: all else is as in full.
const edited = `{
 "location":"westeurope","tags":{"owner":"R&D <net>","empty":""},
 "properties":{"disableBgpRoutePropagation":true,"disablePeeringRoute":"All","routes":[
   {"name":"by-hand","properties":{"addressPrefix":"Storage.WestEurope","nextHopType":"Internet"}},
   {"name":"pm-10.1.0.0-16","properties":{"addressPrefix":"10.1.0.0/16","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.0.5"}},
   {"name":"ecmp","properties":{"addressPrefix":"10.9.0.0/16","nextHopType":"VirtualApplianceEcmp","nextHop":{"nextHopIpAddresses":["10.0.0.4","10.0.0.5"]}}},
   {"name":"pm-fd00-1---48","properties":{"addressPrefix":"fd00:1::/48","nextHopType":"VirtualAppliance","nextHopIpAddress":"fd00::4"}}
 ]}}`

// token is a credential for the local server.
type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// server answers with what a test scripts and records what it got.
type server struct {
	*httptest.Server

	mu     sync.Mutex
	got    []request
	script []answer
}

type request struct {
	method, path, ifMatch, body string
}

type answer struct {
	status int
	header http.Header
	body   string
	hangUp bool
}

func newServer(t *testing.T, script ...answer) *server {
	t.Helper()
	s := &server{script: script}
	s.Server = httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Errorf("read the request: %v", err)
		}
		s.mu.Lock()
		s.got = append(s.got, request{r.Method, r.URL.Path, r.Header.Get("If-Match"), string(body)})
		var a answer
		if len(s.script) > 0 {
			a, s.script = s.script[0], s.script[1:]
		} else {
			t.Errorf("unscripted request %s %s", r.Method, r.URL.Path)
		}
		s.mu.Unlock()
		if a.hangUp {
			panic(http.ErrAbortHandler)
		}
		maps.Copy(w.Header(), a.header)
		if op := w.Header().Get("Azure-AsyncOperation"); strings.HasPrefix(op, "/") {
			w.Header().Set("Azure-AsyncOperation", s.URL+op)
		}
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(a.status)
		if _, err = io.WriteString(w, a.body); err != nil {
			t.Logf("answer: %v", err)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

// requests returns "METHOD last path element" of every request.
func (s *server) requests() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []string
	for _, r := range s.got {
		all = append(all, r.method+" "+r.path[strings.LastIndex(r.path, "/")+1:])
	}
	return all
}

func (s *server) request(i int) request {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.got[i]
}

func (s *server) client(t *testing.T, change func(*routetable.Config)) *routetable.Client {
	t.Helper()
	cfg := routetable.Config{
		Credential: token{}, Endpoint: s.URL, Transport: s.Client(),
		Sleep: func(ctx context.Context, _ time.Duration) error { return ctx.Err() },
	}
	if change != nil {
		change(&cfg)
	}
	client, err := routetable.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func accepted(header ...string) answer {
	h := http.Header{"Azure-Asyncoperation": {"/subscriptions/s/providers/Microsoft.Network/locations/westeurope/operations/op1?api-version=1&t=2"}}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return answer{status: 200, header: h, body: `{"properties":{"provisioningState":"Updating"}}`}
}

func read(t *testing.T, c *routetable.Client) plan.Table {
	t.Helper()
	table, err := c.Get(t.Context(), tableID)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func edit() plan.Edit {
	return plan.Edit{Put: []plan.Route{
		plan.NewRoute("PM-10.1.0.0-16", "10.1.0.0/16", plan.VirtualAppliance, netip.MustParseAddr("10.0.0.5")),
		plan.NewRoute("pm-fd00-1---48", "fd00:1::/48", plan.VirtualAppliance, netip.MustParseAddr("fd00::4")),
	}}
}

// routeValues compares prefixes and next hops as values.
func routeValues() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b route.NextHops) bool { return a == b }),
	}
}

func TestGet(t *testing.T) {
	s := newServer(t, answer{status: 200, body: full})
	table := read(t, s.client(t, nil))
	want := []plan.Route{
		plan.NewRoute("by-hand", "Storage.WestEurope", "Internet", netip.Addr{}),
		plan.NewRoute("pm-10.1.0.0-16", "10.1.0.0/16", plan.VirtualAppliance, netip.MustParseAddr("10.0.0.4")),
		plan.NewRoute("ecmp", "10.9.0.0/16", "VirtualApplianceEcmp", netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.5")),
	}
	if diff := cmp.Diff(want, table.Routes, routeValues()); diff != "" {
		t.Error(diff)
	}
	if table.ID != tableID || table.ETag != `W/"e1"` {
		t.Errorf("id %s, etag %s", table.ID, table.ETag)
	}
}

func TestPutKeepsAllElse(t *testing.T) {
	s := newServer(t, answer{status: 200, body: full}, accepted(), answer{status: 200, body: `{"status":"InProgress"}`}, answer{status: 200, body: `{"status":"Succeeded"}`})
	c := s.client(t, nil)
	table := read(t, c)
	if err := c.Put(t.Context(), table, edit()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"GET spoke", "PUT spoke", "GET op1", "GET op1"}, s.requests()); diff != "" {
		t.Error(diff)
	}
	put := s.request(1)
	if put.ifMatch != `W/"e1"` {
		t.Errorf("If-Match = %q", put.ifMatch)
	}
	if poll := s.request(2); poll.ifMatch != "" {
		t.Errorf("a poll carries If-Match %q", poll.ifMatch)
	}
	if diff := cmp.Diff(canonical(t, edited), canonical(t, put.body)); diff != "" {
		t.Error(diff)
	}
}

func TestPutLeavesTheReadAlone(t *testing.T) {
	s := newServer(t, answer{status: 200, body: full}, accepted(), answer{status: 200, body: `{"status":"Succeeded"}`}, accepted(), answer{status: 200, body: `{"status":"Succeeded"}`})
	c := s.client(t, nil)
	table := read(t, c)
	for range 2 {
		if err := c.Put(t.Context(), table, edit()); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(s.request(1).body, s.request(3).body); diff != "" {
		t.Error(diff)
	}
}

func TestPutNeverOmitsRoutes(t *testing.T) {
	for name, routes := range map[string]string{"empty": `"routes":[]`, "absent": `"disableBgpRoutePropagation":false`} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, answer{status: 200, header: http.Header{"Etag": {`W/"h"`}}, body: `{"location":"x","properties":{` + routes + `}}`},
				accepted(), answer{status: 200, body: `{"status":"Succeeded"}`})
			c := s.client(t, nil)
			if err := c.Put(t.Context(), read(t, c), plan.Edit{}); err != nil {
				t.Fatal(err)
			}
			if put := s.request(1); !strings.Contains(put.body, `"routes":[]`) || put.ifMatch != `W/"h"` {
				t.Errorf("PUT %s with If-Match %q", put.body, put.ifMatch)
			}
		})
	}
}

func TestPutDeletes(t *testing.T) {
	s := newServer(t, answer{status: 200, body: full}, accepted(), answer{status: 200, body: `{"status":"Succeeded"}`})
	c := s.client(t, nil)
	if err := c.Put(t.Context(), read(t, c), plan.Edit{Delete: []string{"PM-10.1.0.0-16", "never-was"}}); err != nil {
		t.Fatal(err)
	}
	body := s.request(1).body
	if strings.Contains(body, "10.1.0.0") || !strings.Contains(body, "by-hand") || !strings.Contains(body, "ecmp") {
		t.Error(body)
	}
}

func TestPutRefusesWhatItWouldLose(t *testing.T) {
	for path, body := range map[string]string{
		"$.properties.routes[1].properties.nextHopZone":     strings.Replace(full, `"addressPrefix":"10.1.0.0/16"`, `"addressPrefix":"10.1.0.0/16","nextHopZone":"1"`, 1),
		"$.properties.routes[2].properties.nextHop.weights": strings.Replace(full, `"nextHopIpAddresses":`, `"weights":[1,2],"nextHopIpAddresses":`, 1),
		"$.properties.newFlag":                              strings.Replace(full, `"disablePeeringRoute"`, `"newFlag":false,"disablePeeringRoute"`, 1),
		"$.extendedLocation":                                strings.Replace(full, `"location"`, `"extendedLocation":{"name":"edge"},"location"`, 1),
	} {
		t.Run(path, func(t *testing.T) {
			s := newServer(t, answer{status: 200, body: body})
			c := s.client(t, nil)
			table := read(t, c)
			if len(table.Routes) != 3 {
				t.Fatalf("%d routes", len(table.Routes))
			}
			err := c.Put(t.Context(), table, edit())
			if !fault.Is(err, fault.Refused) || !strings.Contains(err.Error(), path) {
				t.Errorf("%v", err)
			}
			if got := len(s.requests()); got != 1 {
				t.Errorf("%d requests", got)
			}
		})
	}
}

func TestPutIsSentOnce(t *testing.T) {
	for name, a := range map[string]answer{
		"no answer":   {hangUp: true},
		"500":         {status: 500, body: `{}`},
		"429":         {status: 429, body: `{"error":{"code":"SubscriptionRequestsThrottled","message":"m"}}`, header: http.Header{"Retry-After": {"1"}}},
		"412":         {status: 412, body: `{"error":{"code":"PreconditionFailed","message":"m"}}`},
		"202 is none": {status: 202, body: `{}`},
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, answer{status: 200, body: full}, a)
			c := s.client(t, nil)
			if err := c.Put(t.Context(), read(t, c), edit()); err == nil {
				t.Fatal("no error")
			}
			if diff := cmp.Diff([]string{"GET spoke", "PUT spoke"}, s.requests()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPolling(t *testing.T) {
	done := answer{status: 200, body: `{"status":"Succeeded"}`}
	running := answer{status: 200, body: `{"status":"InProgress"}`}
	slow := answer{status: 200, body: `{"status":"InProgress"}`, header: http.Header{"Retry-After": {"10"}}}
	for _, tt := range []struct {
		name   string
		script []answer
		sleeps []time.Duration
		kind   fault.Kind // zero: success
	}{
		{"ends at once", []answer{{status: 200, header: accepted().header, body: `{"properties":{"provisioningState":"Succeeded"}}`}}, nil, 0},
		{"backs off", []answer{accepted(), running, running, running, running, running, running, done}, durations(100, 200, 400, 800, 1600, 2000, 2000), 0},
		{"retry after", []answer{accepted("Retry-After", "3"), slow, running, done}, durations(3000, 10000, 400), 0},
		{"failed polls", []answer{accepted(), {status: 404, body: `{}`}, {status: 429, body: `{}`, header: http.Header{"Retry-After": {"5"}}}, done}, durations(100, 200, 5000), 0},
		{"poll denied", []answer{accepted(), {status: 403, body: `{}`}}, durations(100), fault.Transient},
		{"operation failed", []answer{accepted(), {status: 200, body: `{"status":"Failed","error":{"code":"X","message":"m"}}`}}, durations(100), fault.Transient},
		{"operation superseded", []answer{accepted(), {status: 200, body: `{"status":"Canceled","error":{"code":"CanceledAndSupersededDueToAnotherOperation","message":"m"}}`}}, durations(100), fault.Conflict},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := newServer(t, append([]answer{{status: 200, body: full}}, tt.script...)...)
			var sleeps []time.Duration
			c := s.client(t, func(cfg *routetable.Config) {
				cfg.Sleep = func(_ context.Context, d time.Duration) error { sleeps = append(sleeps, d); return nil }
			})
			err := c.Put(t.Context(), read(t, c), edit())
			if (tt.kind == 0) != (err == nil) || (err != nil && fault.KindOf(err) != tt.kind) {
				t.Errorf("%v, want kind %s", err, tt.kind)
			}
			if diff := cmp.Diff(tt.sleeps, sleeps); diff != "" {
				t.Error(diff)
			}
			if n := len(s.requests()); n != 1+len(tt.script) {
				t.Errorf("%d requests: %v", n, s.requests())
			}
		})
	}
}

func TestPollingEndsWithTheContext(t *testing.T) {
	s := newServer(t, answer{status: 200, body: full}, accepted())
	ctx, cancel := context.WithCancel(t.Context())
	c := s.client(t, func(cfg *routetable.Config) {
		cfg.Sleep = func(ctx context.Context, _ time.Duration) error { cancel(); return ctx.Err() }
	})
	if err := c.Put(ctx, read(t, c), edit()); !fault.Is(err, fault.Transient) {
		t.Errorf("%v", err)
	}
}

func TestGetIsRepeatedShortly(t *testing.T) {
	s := newServer(t, answer{hangUp: true}, answer{status: 503, body: `{}`}, answer{status: 200, body: full})
	read(t, s.client(t, nil))
	long := newServer(t, answer{status: 429, body: `{"error":{"code":"SubscriptionRequestsThrottled","message":"m"}}`, header: http.Header{"Retry-After": {"17"}}})
	_, err := long.client(t, nil).Get(t.Context(), tableID)
	if !fault.Is(err, fault.Throttled) || fault.RetryAfter(err) != 17*time.Second || len(long.requests()) != 1 {
		t.Errorf("%v after %v", err, long.requests())
	}
}

func TestOnCall(t *testing.T) {
	throttled := answer{status: 429, body: `{}`, header: http.Header{
		"Retry-After": {"9"},
		"X-Ms-Ratelimit-Remaining-Subscription-Global-Writes": {"11999"},
		"X-Ms-Ratelimit-Remaining-Subscription-Writes":        {"0"},
	}}
	s := newServer(t, answer{status: 200, body: full}, throttled, accepted(), answer{status: 200, body: `{"status":"Succeeded"}`}, answer{hangUp: true})
	var calls []routetable.Call
	c := s.client(t, func(cfg *routetable.Config) {
		cfg.Now = func() time.Time { return time.Unix(0, 0) }
		cfg.OnCall = func(call routetable.Call) { calls = append(calls, call) }
	})
	table := read(t, c)
	for _, fails := range []bool{true, false, true} {
		if err := c.Put(t.Context(), table, edit()); (err != nil) != fails {
			t.Fatal(err)
		}
	}
	want := []routetable.Call{
		{Method: "GET", Status: 200},
		{Method: "PUT", Status: 429, RetryAfter: 9 * time.Second, Budgets: []routetable.Budget{{Name: "subscription-global-writes", Left: 11999}, {Name: "subscription-writes"}}},
		{Method: "PUT", Status: 200},
		{Method: "GET", Status: 200, Poll: true},
		{Method: "PUT"},
	}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

func TestBadInput(t *testing.T) {
	s := newServer(t)
	c := s.client(t, nil)
	for _, id := range []string{"", "spoke", "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualHubs/h"} {
		if _, err := c.Get(t.Context(), id); !fault.Is(err, fault.Refused) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if err := c.Put(t.Context(), plan.Table{ID: tableID, ETag: "e"}, edit()); !fault.Is(err, fault.Bug) {
		t.Errorf("a table that was not read: %v", err)
	}
}

func durations(ms ...int) []time.Duration {
	var all []time.Duration
	for _, m := range ms {
		all = append(all, time.Duration(m)*time.Millisecond)
	}
	return all
}

func canonical(t *testing.T, text string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}
