package preflight_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	azure "github.com/pointsman/pointsman/azure/preflight"
	emulator "github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/localca"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/preflight"
)

const (
	subscription = "/subscriptions/0000beef"
	group        = subscription + "/resourceGroups/hub"
	table        = group + "/providers/Microsoft.Network/routeTables/spokes"
)

type token struct{}

func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "someone", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// kit is the emulator with a client.
type kit struct {
	*emulator.Server
	*azure.Client
}

func start(t *testing.T) kit {
	t.Helper()
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	serverTLS, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	s, err := emulator.Start(emulator.Config{TLS: serverTLS})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}
	t.Cleanup(func() { transport.CloseIdleConnections(); _ = s.Close() })
	c, err := azure.New(azure.Config{Credential: token{}, Endpoint: s.URL(), Transport: &http.Client{Transport: transport}, Timeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	return kit{s, c}
}

func (k kit) put(t *testing.T, id, body string) {
	t.Helper()
	if err := k.PutResource(id, json.RawMessage(body)); err != nil {
		t.Fatal(err)
	}
}

func same(t *testing.T, what string, got any, err error, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" || err != nil {
		t.Errorf("%s: %v (-want +got):\n%s", what, err, diff)
	}
}

func TestTableAndSubnets(t *testing.T) {
	k := start(t)
	if _, err := k.Client.Table(t.Context(), table); !fault.Is(err, fault.NotFound) {
		t.Errorf("no table: %v", err)
	}
	if err := k.PutTable(table, json.RawMessage(`{"location": "westeurope", "tags": {"a": "b"}, "properties": {"routes": [{"name": "theirs", "properties": {"addressPrefix": "10.9.0.0/16", "nextHopType": "None"}}]}}`)); err != nil {
		t.Fatal(err)
	}
	subnet := group + "/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
	k.Associate(table, subnet)
	k.PutSubnet(subnet, "10.1.0.0/24", "fd00:0:0:0::/64")
	got, err := k.Client.Table(t.Context(), table)
	same(t, "table", []any{got.Location, got.Routes, got.Subnets}, err, []any{"westeurope", []string{"theirs"}, []string{subnet}})
	prefixes, err := k.Subnet(t.Context(), subnet)
	same(t, "subnet", prefixes, err, []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24"), netip.MustParsePrefix("fd00::/64")})

	// The question to Azure Policy holds the table as it is, and one route more.
	k.Faults().DenyPolicy(table)
	denials, err := k.Denials(t.Context(), table, got, "pointsman-x")
	same(t, "denials", denials, err, []preflight.Denial{{Assignment: table + "/providers/Microsoft.Authorization/policyAssignments/locked", Definition: "/providers/Microsoft.Authorization/policyDefinitions/locked"}})
	calls := k.Calls()
	asked := string(calls[len(calls)-1].Body)
	for _, want := range []string{`"type":"Microsoft.Network/routeTables"`, `"name":"spokes"`, `"location":"westeurope"`, `"tags":{"a":"b"}`, `"name":"theirs"`, `"name":"pointsman-x"`} {
		if !strings.Contains(asked, want) {
			t.Errorf("%s lacks %s", asked, want)
		}
	}
	for _, c := range calls {
		if c.Method != http.MethodGet && c.Operation != "policyRestrictions.Check" {
			t.Errorf("%s %s: preflight writes nothing", c.Method, c.Path)
		}
	}
}

func TestRights(t *testing.T) {
	k := start(t)
	k.Allow(group, emulator.Permission{Actions: []string{"*/read"}, NotActions: []string{"x"}})
	own, err := k.Own(t.Context(), table)
	same(t, "own", own, err, []preflight.Permission{{Actions: []string{"*/read"}, NotActions: []string{"x"}}})

	role := func(n int) string {
		return fmt.Sprintf("%s/providers/Microsoft.Authorization/roleDefinitions/%d", subscription, n)
	}
	for i, a := range []struct{ scope, principal string }{{group, "app"}, {table, "app"}, {table, "other"}, {table + "/routes/r", "app"}, {group, "app"}} {
		n := i + 1
		if i == 4 {
			n = 1 // the same role twice
		}
		k.put(t, role(n), fmt.Sprintf(`{"properties": {"permissions": [{"actions": ["%d"], "notActions": []}]}}`, n))
		k.put(t, fmt.Sprintf("%s/providers/Microsoft.Authorization/roleAssignments/%d", a.scope, i), fmt.Sprintf(`{"properties": {"principalId": %q, "roleDefinitionId": %q, "scope": %q}}`, a.principal, role(n), a.scope))
	}
	of, err := k.Of(t.Context(), table, "app")
	same(t, "of app", of, err, []preflight.Permission{{Actions: []string{"1"}, NotActions: []string{}}, {Actions: []string{"2"}, NotActions: []string{}}})
	k.DeleteResource(role(2))
	if _, err = k.Of(t.Context(), table, "app"); err == nil || !strings.Contains(err.Error(), "roleDefinitions/2") {
		t.Errorf("a role that cannot be read: %v", err)
	}
}

func TestLocks(t *testing.T) {
	k := start(t)
	lock := func(scope, name, level string) {
		k.put(t, scope+"/providers/Microsoft.Authorization/locks/"+name, `{"properties": {"level": "`+level+`"}}`)
	}
	lock(table, "t", "ReadOnly")
	lock(group, "g", "CanNotDelete")
	lock(subscription, "s", "ReadOnly")
	lock(group+"/providers/Microsoft.Network/routeTables/other", "o", "ReadOnly") // not ours
	got, err := k.Locks(t.Context(), table)
	same(t, "locks", got, err, []preflight.Lock{{Level: "ReadOnly", Name: "t", Scope: table}, {Level: "CanNotDelete", Name: "g", Scope: group}, {Level: "ReadOnly", Name: "s", Scope: subscription}})
}

func TestNetworkAndBus(t *testing.T) {
	k := start(t)
	k.put(t, subscription+"/providers/Microsoft.Network/locations/westeurope/usages/RouteTables", `{"name": {"value": "RouteTables"}, "currentValue": 3, "limit": 600}`)
	usages, err := k.Usages(t.Context(), table, "westeurope")
	same(t, "usages", usages, err, []preflight.Usage{{Name: "RouteTables", Used: 3, Limit: 600}})

	k.put(t, group+"/providers/Microsoft.Network/networkInterfaces/a", `{"properties": {"enableIPForwarding": true, "ipConfigurations": [{"properties": {"privateIPAddress": "10.0.0.4"}}, {"properties": {"privateIPAddress": "fd00::4"}}, {"properties": {}}]}}`)
	nics, err := k.NICs(t.Context(), "0000beef")
	same(t, "interfaces", nics, err, []preflight.NIC{{ID: group + "/providers/Microsoft.Network/networkInterfaces/a", Forwarding: true, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("fd00::4")}}})

	bus := group + "/providers/Microsoft.ServiceBus/namespaces/bus"
	k.put(t, bus, `{"sku": {"tier": "Premium"}, "properties": {"status": "Active", "disableLocalAuth": true, "serviceBusEndpoint": "https://bus.servicebus.windows.net:443/"}}`)
	n, err := k.Namespace(t.Context(), []string{"none", "0000beef"}, "BUS.servicebus.windows.net")
	same(t, "namespace", n, err, preflight.Namespace{ID: bus, Tier: "Premium", Status: "Active", DisableLocalAuth: true})
	if _, err = k.Namespace(t.Context(), []string{"none"}, "bus.servicebus.windows.net"); err == nil || !strings.Contains(err.Error(), "no namespace with that host name") {
		t.Errorf("no namespace: %v", err)
	}
	k.put(t, bus+"/queues/q", `{"properties": {"lockDuration": "PT1M30S", "requiresDuplicateDetection": true, "duplicateDetectionHistoryTimeWindow": "P1DT1H", "defaultMessageTimeToLive": "P10675199DT2H48M5.4775807S",
		"maxDeliveryCount": 7, "requiresSession": true, "deadLetteringOnMessageExpiration": true, "status": "Active", "countDetails": {"activeMessageCount": 4, "deadLetterMessageCount": 5}}}`)
	q, err := k.Queue(t.Context(), bus, "q")
	same(t, "queue", q, err, preflight.Queue{Lock: 90 * time.Second, DuplicateWindow: 25 * time.Hour, TTL: 1<<63 - 1, MaxDelivery: 7, Sessions: true, DeadLetterExpired: true, Status: "Active", Active: 4, DeadLettered: 5})
	k.put(t, bus+"/queues/q", `{"properties": {"lockDuration": "1 minute", "defaultMessageTimeToLive": "PT1M"}}`)
	if _, err = k.Queue(t.Context(), bus, "q"); err == nil || !strings.Contains(err.Error(), `lockDuration: found "1 minute"`) {
		t.Errorf("a duration that is none: %v", err)
	}
}

// TestTrouble: whatever goes wrong is an error with a kind, and none is a crash.
func TestTrouble(t *testing.T) {
	k := start(t)
	for name, tt := range map[string]struct {
		fault emulator.Fault
		kind  fault.Kind
		want  string
	}{
		"denied":  {emulator.Fault{Status: http.StatusForbidden, Code: "AuthorizationFailed", Message: "no"}, fault.Denied, "HTTP 403 AuthorizationFailed: no"},
		"absent":  {emulator.Fault{Status: http.StatusNotFound, Code: "ResourceNotFound", Message: "gone"}, fault.NotFound, "HTTP 404 ResourceNotFound: gone"},
		"down":    {emulator.Fault{Status: http.StatusServiceUnavailable, Code: "Busy", Message: "later"}, fault.Transient, "HTTP 503 Busy: later"},
		"dropped": {emulator.Fault{DropConnection: true}, fault.Transient, "no answer: "},
	} {
		k.Faults().Clear()
		tt.fault.Count = -1
		k.Faults().Script(tt.fault)
		if _, err := k.Client.Table(t.Context(), table); !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v (%s), want %s and %q", name, err, fault.KindOf(err), tt.kind, tt.want)
		}
	}
}

// TestPages: a list goes on where its answer says, at the same host only; an answer that is no JSON is an error; and a service that does not answer is not waited for.
func TestPages(t *testing.T) {
	answers := map[string]string{}
	release := make(chan struct{})
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("page") == "hang" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		_, _ = w.Write([]byte(answers[r.URL.Query().Get("page")]))
	}))
	defer s.Close()
	defer close(release)
	client := func(timeout time.Duration) *azure.Client {
		c, err := azure.New(azure.Config{Credential: token{}, Endpoint: s.URL, Transport: s.Client(), Timeout: timeout})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	c := client(time.Minute)
	first := func(next string) string {
		return `{"value": [{"id": "1"}], "nextLink": "` + next + `"}`
	}
	answers["2"] = `{"value": [{"id": "2"}]}`
	for next, want := range map[string]string{s.URL + "/x?page=2": "", "https://evil.example/x": "another host", s.URL + ".evil.example/x": "another host", s.URL + "/x?page=none": "not readable"} {
		answers[""] = first(next)
		got, failed := c.NICs(t.Context(), "s")
		if want == "" && (failed != nil || len(got) != 2) || want != "" && (failed == nil || !strings.Contains(failed.Error(), want)) {
			t.Errorf("%s: %v, %v, want %q", next, got, failed, want)
		}
	}
	answers[""] = first(s.URL + "/x?page=hang")
	if _, err := client(50*time.Millisecond).NICs(t.Context(), "s"); err == nil || !strings.Contains(err.Error(), "no answer within 50ms") {
		t.Errorf("a service that does not answer: %v", err)
	}
	answers[""] = first(s.URL + "/x")
	if _, err := c.NICs(t.Context(), "s"); err == nil || !strings.Contains(err.Error(), "more than 200 pages") {
		t.Errorf("an endless list: %v", err)
	}
}

// TestOffset: the clock is compared with the Date of the answers.
func TestOffset(t *testing.T) {
	s := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Date", "Mon, 23 Nov 2026 12:00:00 GMT")
		_, _ = w.Write([]byte(`{"value": []}`))
	}))
	defer s.Close()
	now := time.Date(2026, 11, 23, 12, 0, 8, 0, time.UTC)
	c, err := azure.New(azure.Config{Credential: token{}, Endpoint: s.URL, Transport: s.Client(), Now: func() time.Time { now = now.Add(200 * time.Millisecond); return now }})
	if err != nil {
		t.Fatal(err)
	}
	if o := c.Offset(); o.Err == nil {
		t.Errorf("without an answer: %+v", o)
	}
	if _, err = c.NICs(t.Context(), "s"); err != nil {
		t.Fatal(err)
	}
	same(t, "offset", c.Offset(), nil, preflight.Read[preflight.Offset]{Value: preflight.Offset{Ahead: 8*time.Second + 300*time.Millisecond - 500*time.Millisecond, Within: 600 * time.Millisecond}})
}
