package arm_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"
	"github.com/google/go-cmp/cmp"

	emulator "github.com/pointsman/pointsman/emulator/arm"
)

const (
	hubID  = groupID + "/providers/Microsoft.Network/virtualHubs/rs"
	peerID = hubID + "/bgpConnections/nva-a"
	peerA  = `{"properties":{"peerIp":"10.0.1.4","peerAsn":65001}}`
	peerB  = `{"properties":{"peerIp":"10.0.1.5","peerAsn":65002}}`
)

// slowHub takes as long as Azure.
func slowHub(cfg emulator.Config) emulator.Config {
	cfg.PeerDuration = func() time.Duration { return 80 * time.Second }
	cfg.LearnedDuration = func() time.Duration { return 10 * time.Second }
	cfg.RetryAfter = true
	return cfg
}

// startHub runs an emulator with a Route Server that has no peers.
func startHub(t *testing.T, cfg emulator.Config) *kit {
	t.Helper()
	k := start(t, cfg)
	if err := k.PutRouteServer(hubID, emulator.RouteServer{}); err != nil {
		t.Fatal(err)
	}
	return k
}

// seedPeer makes a peer as a third party would.
func seedPeer(t *testing.T, k *kit, id, body string) {
	t.Helper()
	if err := k.PutPeer(id, []byte(body)); err != nil {
		t.Fatal(err)
	}
}

func TestPeerExchangesAsRecorded(t *testing.T) {
	k := startHub(t, slowHub(emulator.Config{}))
	missing := k.do(t, http.MethodGet, peerID+version, "")
	want := `{"error":{"code":"NotFound","message":"Resource ` + peerID + ` not found.","details":[]}}`
	if missing.status != http.StatusNotFound || missing.body != want {
		t.Errorf("missing peer: %d %s", missing.status, missing.body)
	}

	created := k.do(t, http.MethodPut, peerID+version, peerA)
	if created.status != http.StatusCreated || created.state(t) != "Updating" || created.header.Get("Azure-AsyncOperation") == "" || created.header.Get("Retry-After") != "10" {
		t.Errorf("create: %d %s %v", created.status, created.body, created.header)
	}
	k.clock.advance(79 * time.Second)
	if got := k.do(t, http.MethodGet, created.header.Get("Azure-AsyncOperation"), ""); got.body != `{"status":"InProgress"}` {
		t.Errorf("poll: %s", got.body)
	}
	k.clock.advance(time.Second)
	got := k.do(t, http.MethodGet, peerID+version, "")
	etag := got.header.Get("ETag")
	want = `{"name":"nva-a","id":"` + peerID + `","etag":` + fmt.Sprintf("%q", etag) + `,"type":"Microsoft.Network/virtualHubs/bgpConnections",` +
		`"properties":{"provisioningState":"Succeeded","peerIp":"10.0.1.4","peerAsn":65001}}`
	if got.status != http.StatusOK || got.body != want || etag == created.etag(t) {
		t.Errorf("present peer: %d\n got %s\nwant %s", got.status, got.body, want)
	}

	routes := k.do(t, http.MethodPost, peerID+"/advertisedRoutes"+version, "")
	location := routes.header.Get("Location")
	if routes.status != http.StatusAccepted || routes.body != "null" || !strings.Contains(location, "/operationResults/") || routes.header.Get("Retry-After") != "10" ||
		routes.header.Get("Azure-AsyncOperation") != "" {
		t.Errorf("advertised: %d %q %v", routes.status, routes.body, routes.header)
	}
	k.clock.advance(10 * time.Second)
	end := k.do(t, http.MethodGet, location, "")
	if end.status != http.StatusOK || end.body != `{"RouteServiceRole_IN_0":[],"RouteServiceRole_IN_1":[]}` || end.header.Get("Location") == "" {
		t.Errorf("end of advertised: %d %s %v", end.status, end.body, end.header)
	}

	deleted := k.do(t, http.MethodDelete, peerID+version, "")
	if deleted.status != http.StatusAccepted || deleted.header.Get("Azure-AsyncOperation") == "" || deleted.header.Get("Location") == "" {
		t.Errorf("delete: %d %v", deleted.status, deleted.header)
	}
	var waits []string
	for range 5 {
		waits = append(waits, k.do(t, http.MethodGet, deleted.header.Get("Azure-AsyncOperation"), "").header.Get("Retry-After"))
	}
	if diff := cmp.Diff([]string{"10", "10", "20", "40", "80"}, waits); diff != "" {
		t.Errorf("Retry-After of the polls (-want +got):\n%s", diff)
	}
	k.clock.advance(80 * time.Second)
	if got = k.do(t, http.MethodGet, deleted.header.Get("Location"), ""); got.status != http.StatusNoContent {
		t.Errorf("end of delete: %d", got.status)
	}
	if got = k.do(t, http.MethodGet, peerID+version, ""); got.status != http.StatusNotFound {
		t.Errorf("after the delete: %d", got.status)
	}
}

func TestRouteServerShowsItself(t *testing.T) {
	k := startHub(t, emulator.Config{})
	seedPeer(t, k, peerID, peerA)
	got := k.do(t, http.MethodGet, hubID+version, "")
	want := `{"name":"rs","id":"` + hubID + `","etag":` + fmt.Sprintf("%q", got.etag(t)) + `,"type":"Microsoft.Network/virtualHubs","location":"eastus","kind":"RouteServer",` +
		`"properties":{"provisioningState":"Succeeded","sku":"Standard","routingState":"Provisioned","virtualRouterAsn":65515,` +
		`"virtualRouterIps":["10.0.255.4","10.0.255.5"],"virtualRouterAutoScaleConfiguration":{"minCapacity":2},` +
		`"allowBranchToBranchTraffic":false,"hubRoutingPreference":"ExpressRoute","bgpConnections":[{"id":"` + peerID + `"}]}}`
	if got.body != want || got.header.Get("ETag") != got.etag(t) {
		t.Errorf("hub:\n got %s\nwant %s", got.body, want)
	}
	if got = k.do(t, http.MethodGet, groupID+"/providers/Microsoft.Network/virtualHubs/other"+version, ""); !strings.Contains(got.body, `"ResourceNotFound"`) {
		t.Errorf("missing hub: %d %s", got.status, got.body)
	}
	for _, path := range []string{groupID + "/providers/Microsoft.Network/virtualHubs", "/subscriptions/" + subscription + "/providers/Microsoft.Network/virtualHubs"} {
		if got = k.do(t, http.MethodGet, path+version, ""); strings.Count(got.body, `"kind":"RouteServer"`) != 1 {
			t.Errorf("list %s: %s", path, got.body)
		}
	}
	if got = k.do(t, http.MethodPut, strings.Replace(peerID, "/rs/", "/none/", 1)+version, peerA); !strings.Contains(got.body, "ParentResourceNotFound") {
		t.Errorf("peer of no hub: %d %s", got.status, got.body)
	}
}

func TestOneOperationAtATimePerHub(t *testing.T) {
	for _, test := range []struct {
		mode   emulator.BusyMode
		status int
		code   string
	}{
		{0, http.StatusBadRequest, "AnotherOperationInProgress"},
		{emulator.BusyRetryable, http.StatusTooManyRequests, "RetryableError"},
	} {
		k := startHub(t, slowHub(emulator.Config{HubBusy: test.mode}))
		k.do(t, http.MethodPut, peerID+version, peerA)
		other := hubID + "/bgpConnections/nva-b"
		for _, second := range []struct{ method, path, body string }{
			{http.MethodPut, other, peerB}, {http.MethodPut, peerID, peerA}, {http.MethodDelete, peerID, ""},
		} {
			got := k.do(t, second.method, second.path+version, second.body)
			if code, _ := got.code(t); got.status != test.status || code != test.code {
				t.Errorf("%s %s during another: %d %s", second.method, second.path, got.status, got.body)
			}
		}
		if got := k.do(t, http.MethodPost, peerID+"/learnedRoutes"+version, ""); got.status != http.StatusAccepted {
			t.Errorf("reading routes during a write: %d %s", got.status, got.body)
		}
		k.clock.advance(80 * time.Second)
		if got := k.do(t, http.MethodPut, other+version, peerB); got.status != http.StatusCreated {
			t.Errorf("after the first: %d %s", got.status, got.body)
		}
	}
}

func TestPeersThatAreRefused(t *testing.T) {
	k := startHub(t, emulator.Config{PeersPerHub: 2})
	seedPeer(t, k, peerID, peerA)
	put := func(name, body string) answer {
		return k.do(t, http.MethodPut, hubID+"/bgpConnections/"+name+version, body)
	}
	body := func(ip string, asn int) string {
		return fmt.Sprintf(`{"properties":{"peerIp":%q,"peerAsn":%d}}`, ip, asn)
	}
	var wrong []int
	for _, asn := range []int{0, 8073, 8074, 8075, 8076, 12076, 23456, 64495, 64496, 64511, 64512, 65514, 65515, 65516, 65517, 65520, 65521, 65534, 65535, 65551, 70000} {
		if got := put("nva-a", body("10.0.1.4", asn)); got.status == http.StatusBadRequest {
			wrong = append(wrong, asn)
		}
	}
	if diff := cmp.Diff([]int{0, 8074, 8075, 12076, 23456, 64496, 64511, 65515, 65517, 65520, 65535, 65551, 70000}, wrong); diff != "" {
		t.Errorf("refused ASNs (-want +got):\n%s", diff)
	}
	for _, test := range []struct{ body, code string }{
		{body("fd00::4", 65001), "InvalidPeerIp"},
		{body("", 65001), "InvalidPeerIp"},
		{`{}`, "InvalidRequestFormat"},
		{body("10.0.1.4", 65002), "BgpPeerIpConflict"},
	} {
		got := put("other", test.body)
		if code, _ := got.code(t); got.status != http.StatusBadRequest || code != test.code {
			t.Errorf("%s: %d %s, want %s", test.body, got.status, got.body, test.code)
		}
	}
	if got := put("nva-b", peerB); got.status != http.StatusCreated {
		t.Errorf("the second of two: %d %s", got.status, got.body)
	}
	if got := put("nva-c", body("10.0.1.6", 65003)); !strings.Contains(got.body, "BgpPeerLimitExceeded") {
		t.Errorf("the third of two: %d %s", got.status, got.body)
	}
}

func TestPeerConditions(t *testing.T) {
	k := startHub(t, emulator.Config{})
	if got := k.do(t, http.MethodPut, peerID+version, peerA, "If-None-Match", "*"); got.status != http.StatusCreated {
		t.Fatalf("create if absent: %d %s", got.status, got.body)
	}
	if got := k.do(t, http.MethodPut, peerID+version, peerB, "If-None-Match", "*"); got.status != http.StatusPreconditionFailed {
		t.Errorf("create what is there: %d %s", got.status, got.body)
	}
	_, etag, _ := k.Peer(peerID)
	if got := k.do(t, http.MethodDelete, peerID+version, "", "If-Match", "other"); got.status != http.StatusPreconditionFailed {
		t.Errorf("delete another version: %d %s", got.status, got.body)
	}
	if got := k.do(t, http.MethodPut, peerID+version, peerB, "If-Match", etag); got.status != http.StatusOK {
		t.Errorf("change this version: %d %s", got.status, got.body)
	}

	deaf := startHub(t, emulator.Config{HubIgnoresConditions: true})
	seedPeer(t, deaf, peerID, peerA)
	if got := deaf.do(t, http.MethodPut, peerID+version, peerB, "If-None-Match", "*"); got.status != http.StatusOK {
		t.Errorf("a service that ignores conditions: %d %s", got.status, got.body)
	}
}

func TestPeerOperationsThatEndBadly(t *testing.T) {
	k := startHub(t, emulator.Config{})
	k.Faults().Script(emulator.Fault{Method: http.MethodPut, PathContains: "bgpConnections", FailOperation: true})
	k.do(t, http.MethodPut, peerID+version, peerA)
	if got := k.do(t, http.MethodGet, peerID+version, ""); got.state(t) != "Failed" {
		t.Errorf("after a failed create: %s", got.body)
	}
	k.Faults().Script(emulator.Fault{Method: http.MethodPut, PathContains: "bgpConnections", SupersedeOperation: true})
	k.do(t, http.MethodPut, peerID+version, peerB)
	if got := k.do(t, http.MethodGet, peerID+version, ""); !strings.Contains(got.body, "10.0.1.4") {
		t.Errorf("after a superseded change: %s", got.body)
	}
	k.Faults().Script(emulator.Fault{Method: http.MethodDelete, Status: http.StatusInternalServerError, Applied: true})
	k.do(t, http.MethodDelete, peerID+version, "")
	if got := k.do(t, http.MethodGet, peerID+version, ""); got.status != http.StatusNotFound {
		t.Errorf("a delete that was done and reported failed: %s", got.body)
	}
	k.Faults().Forbid("", hubID, http.MethodPost)
	seedPeer(t, k, peerID, peerA)
	got := k.do(t, http.MethodPost, peerID+"/learnedRoutes"+version, "")
	if got.status != http.StatusForbidden || !strings.Contains(got.body, "Microsoft.Network/virtualHubs/bgpConnections/learnedRoutes/action") {
		t.Errorf("forbidden: %d %s", got.status, got.body)
	}
}

func TestThirdPartyEditsOfPeers(t *testing.T) {
	k := startHub(t, slowHub(emulator.Config{}))
	var seen []string
	k.Observe(func(e emulator.Event) {
		seen = append(seen, fmt.Sprint(e.Kind, " ", strings.TrimPrefix(e.Resource, hubID+"/")))
	})
	seedPeer(t, k, peerID, peerA)
	k.do(t, http.MethodDelete, peerID+version, "")
	seedPeer(t, k, peerID, peerB) // an operation in flight must not undo this
	k.clock.advance(80 * time.Second)
	body, _, ok := k.Peer(peerID)
	if !ok || !strings.Contains(string(body), "10.0.1.5") {
		t.Errorf("the third party's peer is gone: %s", body)
	}
	k.RemovePeer(peerID)
	if names := k.Peers(hubID); len(names) != 0 {
		t.Errorf("peers: %v", names)
	}
	want := []string{
		"peer seeded bgpConnections/nva-a", "write accepted bgpConnections/nva-a", "peer seeded bgpConnections/nva-a", "operation succeeded bgpConnections/nva-a",
		"peer seeded bgpConnections/nva-a",
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}

func peerRoutes(n int, path ...uint32) []emulator.PeerRoute {
	var out []emulator.PeerRoute
	for i := range n {
		out = append(out, emulator.PeerRoute{Network: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>8), byte(i), 0}), 24), ASPath: path})
	}
	return out
}

func TestSDKPeerLife(t *testing.T) {
	k := startHub(t, slowHub(emulator.Config{PageSize: 1}))
	ctx := t.Context()
	peers, err := armnetwork.NewVirtualHubBgpConnectionClient(subscription, token("sdk"), k.options())
	if err != nil {
		t.Fatal(err)
	}
	lists, err := armnetwork.NewVirtualHubBgpConnectionsClient(subscription, token("sdk"), k.options())
	if err != nil {
		t.Fatal(err)
	}
	hubs, err := armnetwork.NewVirtualHubsClient(subscription, token("sdk"), k.options())
	if err != nil {
		t.Fatal(err)
	}

	// A create that is followed by another process, from the resume token alone.
	connection := armnetwork.BgpConnection{Properties: &armnetwork.BgpConnectionProperties{PeerIP: new("10.0.1.4"), PeerAsn: new(int64(65001))}}
	begun, err := peers.BeginCreateOrUpdate(ctx, "rg", "rs", "nva-a", connection, nil)
	if err != nil {
		t.Fatal(err)
	}
	resume, err := begun.ResumeToken()
	if err != nil {
		t.Fatal(err)
	}
	poller, err := peers.BeginCreateOrUpdate(ctx, "rg", "rs", "nva-a", connection, &armnetwork.VirtualHubBgpConnectionClientBeginCreateOrUpdateOptions{ResumeToken: resume})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = poller.Poll(ctx); err != nil || poller.Done() { //nolint:bodyclose // the poller has read and closed it
		t.Fatalf("done %v, %v", poller.Done(), err)
	}
	k.clock.advance(80 * time.Second)
	created := finish(t, poller, nil)
	if *created.Properties.ProvisioningState != armnetwork.ProvisioningStateSucceeded || *created.Properties.PeerAsn != 65001 || *created.ID != peerID {
		t.Errorf("%+v", created.Properties)
	}
	seedPeer(t, k, hubID+"/bgpConnections/by-hand", peerB)
	k.SetConnectionState(hubID+"/bgpConnections/by-hand", "Connected")
	var names []string
	for pager := lists.NewListPager("rg", "rs", nil); pager.More(); {
		page, failed := pager.NextPage(ctx)
		if failed != nil {
			t.Fatal(failed)
		}
		for _, p := range page.Value {
			names = append(names, *p.Name)
			if *p.Name == "by-hand" && *p.Properties.ConnectionState != armnetwork.HubBgpConnectionStatusConnected {
				t.Errorf("connection state %v", *p.Properties.ConnectionState)
			}
		}
	}
	if diff := cmp.Diff([]string{"by-hand", "nva-a"}, names); diff != "" {
		t.Errorf("peers (-want +got):\n%s", diff)
	}
	got, err := hubs.Get(ctx, "rg", "rs", nil)
	if err != nil || *got.Properties.VirtualRouterAsn != 65515 || len(got.Properties.VirtualRouterIPs) != 2 || *got.Kind != "RouteServer" {
		t.Errorf("hub: %+v, %v", got.Properties, err)
	}

	// What the two instances have learned: the first one also a route by way of a load balancer, and a loop that it drops.
	frontend := netip.MustParseAddr("10.0.1.100")
	loop := emulator.PeerRoute{Network: netip.MustParsePrefix("10.99.0.0/16"), ASPath: []uint32{65001, 65515}}
	third := emulator.PeerRoute{Network: netip.MustParsePrefix("10.98.0.0/16"), NextHop: frontend, ASPath: []uint32{65001, 65009}}
	if err = k.Learn(peerID, 0, append(peerRoutes(1), loop, third)...); err != nil {
		t.Fatal(err)
	}
	if err = k.Learn(peerID, 1, peerRoutes(4001)...); err != nil { // one above the limit: the session is torn down
		t.Fatal(err)
	}
	asked, err := lists.BeginListLearnedRoutes(ctx, "rg", "rs", "nva-a", nil)
	if err != nil {
		t.Fatal(err)
	}
	k.clock.advance(10 * time.Second)
	learned := finish(t, asked, err)
	zero := learned.Value["RouteServiceRole_IN_0"]
	if len(learned.Value) != 2 || len(zero) != 2 || len(learned.Value["RouteServiceRole_IN_1"]) != 0 {
		t.Fatalf("learned: %+v", learned.Value)
	}
	r := zero[1]
	text := fmt.Sprint(*r.LocalAddress, *r.Network, *r.NextHop, *r.SourcePeer, *r.Origin, *r.AsPath, *r.Weight)
	if want := fmt.Sprint("10.0.255.4", "10.98.0.0/16", frontend, "10.0.1.4", "EBgp", "65001-65009", 32768); text != want || *zero[0].NextHop != "10.0.1.4" {
		t.Errorf("learned %s, want %s", text, want)
	}
	if err = k.Advertise(peerID, 1, peerRoutes(2, 65515)...); err != nil {
		t.Fatal(err)
	}
	told, err := lists.BeginListAdvertisedRoutes(ctx, "rg", "rs", "nva-a", nil)
	k.clock.advance(10 * time.Second)
	if advertised := finish(t, told, err); len(advertised.Value["RouteServiceRole_IN_1"]) != 2 {
		t.Errorf("advertised: %+v", advertised.Value)
	}

	removal, err := peers.BeginDelete(ctx, "rg", "rs", "nva-a", nil)
	if err != nil {
		t.Fatal(err)
	}
	k.clock.advance(80 * time.Second)
	finish(t, removal, err)
	_, err = peers.Get(ctx, "rg", "rs", "nva-a", nil)
	refused(t, err, http.StatusNotFound, "NotFound")
	if !slices.Equal(k.Peers(hubID), []string{"by-hand"}) {
		t.Errorf("left: %v", k.Peers(hubID))
	}
}

func TestLearnedRoutesFromASource(t *testing.T) {
	k := startHub(t, emulator.Config{})
	seedPeer(t, k, peerID, peerA)
	k.LearnFrom(func(id string, instance int) []emulator.PeerRoute {
		if id != peerID {
			t.Errorf("asked for %s", id)
		}
		return peerRoutes(1 + instance)
	})
	first := k.do(t, http.MethodPost, peerID+"/learnedRoutes"+version, "")
	got := k.do(t, http.MethodGet, first.header.Get("Location"), "")
	if n := strings.Count(got.body, `"network"`); n != 3 {
		t.Errorf("%d routes in %s", n, got.body)
	}
	if err := k.Learn(hubID+"/bgpConnections/none", 0); err == nil {
		t.Error("a peer that is not there learned something")
	}
	if err := k.Learn(peerID, 2); err == nil {
		t.Error("a third instance learned something")
	}
	if got = k.do(t, http.MethodPost, hubID+"/bgpConnections/none/learnedRoutes"+version, ""); got.status != http.StatusNotFound {
		t.Errorf("routes of no peer: %d %s", got.status, got.body)
	}
}
