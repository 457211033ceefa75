package routetable_test

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/azure/routetable"
	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/localca"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

// newARM is the emulated Azure Resource Manager with the table full in it, and a client of it.
func newARM(t *testing.T, cfg arm.Config) (*arm.Server, *routetable.Client) {
	t.Helper()
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS, err = ca.ServerTLS(); err != nil {
		t.Fatal(err)
	}
	server, err := arm.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = &tls.Config{RootCAs: ca.Pool()}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if closeErr := server.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	})
	if err = server.PutTable(tableID, json.RawMessage(full)); err != nil {
		t.Fatal(err)
	}
	server.Associate(tableID, "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/a")
	client, err := routetable.New(routetable.Config{
		Credential: token{}, Endpoint: server.URL(), Transport: &http.Client{Transport: transport}, PollFloor: time.Millisecond, PollCeiling: 10 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	return server, client
}

func TestRoundTrip(t *testing.T) {
	server, c := newARM(t, arm.Config{WriteDuration: func() time.Duration { return 20 * time.Millisecond }})
	before := tableJSON(t, server)
	table := read(t, c)
	if err := c.Put(t.Context(), table, edit()); err != nil {
		t.Fatal(err)
	}
	after := read(t, c)
	if after.ETag == table.ETag {
		t.Error("the ETag has not moved")
	}
	if got := after.Routes[1].NextHops.String(); got != "10.0.0.5" || len(after.Routes) != 4 {
		t.Errorf("%+v", after.Routes)
	}
	// Back again: the table is what it was, but for the ETag.
	undo := plan.Edit{Put: []plan.Route{table.Routes[1]}, Delete: []string{"pm-fd00-1---48"}}
	if err := c.Put(t.Context(), after, undo); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, tableJSON(t, server)); diff != "" {
		t.Error(diff)
	}
	for _, call := range server.Calls() {
		if (call.Method == http.MethodPut) != (call.IfMatch != "") {
			t.Errorf("%s %s with If-Match %q", call.Method, call.Path, call.IfMatch)
		}
	}
}

// tableJSON returns the table without its ETags.
func tableJSON(t *testing.T, server *arm.Server) any {
	t.Helper()
	body, etag, ok := server.Table(tableID)
	if !ok {
		t.Fatal("no table")
	}
	quoted, err := json.Marshal(etag)
	if err != nil {
		t.Fatal(err)
	}
	return canonical(t, strings.ReplaceAll(string(body), string(quoted), `"etag"`))
}

func TestFaultsOfARM(t *testing.T) {
	for _, tt := range []struct {
		name    string
		fault   func(*arm.Faults)
		kind    fault.Kind
		code    string
		written bool
	}{
		{"lock", func(f *arm.Faults) { f.Lock(tableID) }, fault.Denied, "ScopeLocked", false},
		{"policy", func(f *arm.Faults) { f.DenyPolicy(tableID) }, fault.Denied, "RequestDisallowedByPolicy", false},
		{"no right", func(f *arm.Faults) { f.Forbid("", tableID, "PUT") }, fault.Denied, "AuthorizationFailed", false},
		{"no ECMP in this region, and none in the write", func(f *arm.Faults) { f.Script(arm.Fault{Method: "PUT", Status: 400, Code: "NextHopTypeNotSupported"}) }, fault.Refused, "NextHopTypeNotSupported", false},
		{"lost request", func(f *arm.Faults) { f.Script(arm.Fault{Method: "PUT", DropConnection: true}) }, fault.Transient, "", false},
		{"lost answer", func(f *arm.Faults) { f.Script(arm.Fault{Method: "PUT", DropConnection: true, Applied: true}) }, fault.Transient, "", true},
		{"gateway, applied", func(f *arm.Faults) {
			f.Script(arm.Fault{Method: "PUT", Status: 502, Code: "BadGateway", Applied: true})
		}, fault.Transient, "BadGateway", true},
		{"failed operation", func(f *arm.Faults) { f.Script(arm.Fault{Method: "PUT", FailOperation: true}) }, fault.Transient, "", true},
		{"superseded", func(f *arm.Faults) { f.Script(arm.Fault{Method: "PUT", SupersedeOperation: true}) }, fault.Conflict, "CanceledAndSupersededDueToAnotherOperation", false},
		{"lost polls", func(f *arm.Faults) {
			f.Script(arm.Fault{Method: "GET", PathContains: "/operations/", DropConnection: true, Count: 2})
		}, 0, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			server, c := newARM(t, arm.Config{})
			table := read(t, c)
			tt.fault(server.Faults())
			err := c.Put(t.Context(), table, edit())
			switch {
			case tt.kind == 0:
				if err != nil {
					t.Errorf("%v", err)
				}
			case !fault.Is(err, tt.kind) || (tt.code != "" && fault.Code(err) != tt.code):
				t.Errorf("%v (%s), want %s %s", err, fault.Code(err), tt.kind, tt.code)
			}
			puts := 0
			for _, call := range server.Calls() {
				if call.Method == http.MethodPut {
					puts++
				}
			}
			if puts != 1 {
				t.Errorf("%d PUTs", puts)
			}
			server.Faults().Clear()
			if written := len(read(t, c).Routes) == 4; written != tt.written {
				t.Errorf("written: %t, want %t", written, tt.written)
			}
		})
	}
}

func TestBusyTable(t *testing.T) {
	server, c := newARM(t, arm.Config{WriteDuration: func() time.Duration { return time.Hour }})
	table := read(t, c)
	ctx, cancel := contextUntil(t, func() bool { return len(server.Calls()) >= 3 })
	defer cancel()
	if err := c.Put(ctx, table, edit()); !fault.Is(err, fault.Transient) {
		t.Fatalf("an operation without end: %v", err)
	}
	err := c.Put(t.Context(), read(t, c), plan.Edit{})
	if !fault.Is(err, fault.Throttled) || fault.Code(err) != routetable.CodeBusy || fault.RetryAfter(err) <= 0 {
		t.Errorf("%v: %s, %s", err, fault.Code(err), fault.RetryAfter(err))
	}
}

func TestOneWriterWins(t *testing.T) {
	_, c := newARM(t, arm.Config{})
	table := read(t, c)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			route := plan.NewRoute(fmt.Sprintf("pm-%d", i), fmt.Sprintf("10.2.%d.0/24", i), plan.VirtualAppliance, netip.MustParseAddr("10.0.0.4"))
			err := c.Put(t.Context(), table, plan.Edit{Put: []plan.Route{route}})
			switch {
			case err == nil:
				mu.Lock()
				won++
				mu.Unlock()
			case !fault.Is(err, fault.Conflict) && !fault.Is(err, fault.Throttled):
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	if n := len(read(t, c).Routes); won != 1 || n != 4 {
		t.Errorf("%d winners, %d routes", won, n)
	}
}

func TestLimits(t *testing.T) {
	_, c := newARM(t, arm.Config{RoutesPerTable: 3})
	if err := c.Put(t.Context(), read(t, c), edit()); !fault.Is(err, fault.Refused) {
		t.Errorf("beyond the limit: %v", err)
	}
	double := plan.Edit{Put: []plan.Route{plan.NewRoute("ecmp", "10.1.0.0/16", plan.VirtualAppliance, netip.MustParseAddr("10.0.0.4"))}}
	if err := c.Put(t.Context(), read(t, c), double); !fault.Is(err, fault.Refused) || fault.Code(err) != "RouteConflict" {
		t.Errorf("a prefix twice: %v", err)
	}
	if _, err := c.Get(t.Context(), strings.Replace(tableID, "spoke", "gone", 1)); !fault.Is(err, fault.NotFound) {
		t.Errorf("no table: %v", err)
	}
}

// TestECMPRoundTrip: a managed route gets a second next hop, which changes its type, and loses it again: the table is then what it was.
func TestECMPRoundTrip(t *testing.T) {
	server, c := newARM(t, arm.Config{})
	before := tableJSON(t, server)
	table := read(t, c)
	both := []netip.Addr{netip.MustParseAddr("10.0.0.12"), netip.MustParseAddr("10.0.0.4")}
	wanted := plan.NewRoute("pm-10.1.0.0-16", "10.1.0.0/16", plan.VirtualApplianceECMP, both...)
	if err := c.Put(t.Context(), table, plan.Edit{Put: []plan.Route{wanted}}); err != nil {
		t.Fatal(err)
	}
	after := read(t, c)
	if diff := cmp.Diff(wanted, after.Routes[1], routeValues()); diff != "" {
		t.Errorf("-written +read:\n%s", diff)
	}
	body, _, _ := server.Table(tableID)
	var raw struct {
		Properties struct {
			Routes []struct{ Properties map[string]json.RawMessage }
		}
	}
	if err := json.Unmarshal(body, &raw); err != nil {
		t.Fatal(err)
	}
	props := raw.Properties.Routes[1].Properties
	if _, single := props["nextHopIpAddress"]; single || string(props["nextHopType"]) != `"VirtualApplianceEcmp"` || string(props["nextHop"]) != `{"nextHopIpAddresses":["10.0.0.4","10.0.0.12"]}` {
		t.Errorf("on the wire: %s", props)
	}
	if err := c.Put(t.Context(), after, plan.Edit{Put: []plan.Route{table.Routes[1]}}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, tableJSON(t, server)); diff != "" {
		t.Error(diff)
	}
}

// TestRegionWithoutECMP: the refusal has a code of its own, whatever Azure calls it, and a write without such routes goes through.
func TestRegionWithoutECMP(t *testing.T) {
	both := []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.5")}
	ecmp := plan.Edit{Put: []plan.Route{plan.NewRoute("pm-10.1.0.0-16", "10.1.0.0/16", plan.VirtualApplianceECMP, both...)}}
	for name, set := range map[string]func(*arm.Faults){
		"region":              func(f *arm.Faults) { f.RefuseECMP(tableID) },
		"another code":        func(f *arm.Faults) { f.Script(arm.Fault{Method: "PUT", Status: 400, Code: "FeatureNotEnabled"}) },
		"the operation fails": func(f *arm.Faults) { f.Script(arm.Fault{Method: "PUT", FailOperation: true}) },
		"the table is too small": func(f *arm.Faults) {
			f.Script(arm.Fault{Method: "PUT", Status: 400, Code: "RoutesPerRouteTableLimitReached"})
		},
	} {
		server, c := newARM(t, arm.Config{})
		if err := server.PutTable(tableID, json.RawMessage(`{"location":"westeurope"}`)); err != nil {
			t.Fatal(err)
		}
		set(server.Faults())
		err := c.Put(t.Context(), read(t, c), ecmp)
		want := map[string]string{"region": fault.CodeNoECMP, "another code": fault.CodeNoECMP, "the table is too small": "RoutesPerRouteTableLimitReached"}[name]
		if want == "" {
			if !fault.Is(err, fault.Transient) {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if !fault.Is(err, fault.Refused) || fault.Code(err) != want {
			t.Errorf("%s: %v (%s)", name, err, fault.Code(err))
		}
		if err = c.Put(t.Context(), read(t, c), edit()); err != nil {
			t.Errorf("%s: without such routes: %v", name, err)
		}
		server.Faults().AcceptECMP(tableID)
		if err = c.Put(t.Context(), read(t, c), ecmp); err != nil {
			t.Errorf("%s: when the region has it: %v", name, err)
		}
	}
}

// contextUntil returns a context that ends once the condition holds.
func contextUntil(t *testing.T, condition func() bool) (context.Context, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		defer cancel()
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for !condition() && ctx.Err() == nil {
			<-tick.C
		}
	}()
	return ctx, cancel
}
