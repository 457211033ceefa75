package arm_test

import (
	"encoding/json"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	emulator "github.com/pointsman/pointsman/emulator/arm"
)

const appliance = `{"name":"a","properties":{"addressPrefix":"10.1.0.0/16","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.0.4"}}`

// guids replaces what differs from run to run.
func guids(text string) string {
	return regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f-]{21}`).ReplaceAllString(text, "GUID")
}

func withRoutes(routes ...string) string {
	return `{"location":"eastus","properties":{"routes":[` + strings.Join(routes, ",") + `]}}`
}

func TestRecordedTableExchanges(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: func() time.Duration { return time.Second }})

	put := k.do(t, http.MethodPut, tableID+"?api-version=2025-05-01", `{"location":"eastus"}`)
	want := `{"name":"hub","id":"` + tableID + `","etag":"W/\"GUID\"","type":"Microsoft.Network/routeTables","location":"eastus",` +
		`"properties":{"provisioningState":"Updating","resourceGuid":"GUID","disableBgpRoutePropagation":false,"routes":[]}}`
	if put.status != http.StatusCreated || guids(put.body) != want {
		t.Errorf("create: %d\n got %s\nwant %s", put.status, guids(put.body), want)
	}
	if etag, location := put.header.Get("ETag"), put.header.Get("Location"); etag != "" || location != "" {
		t.Errorf("create has ETag %q, Location %q", etag, location)
	}
	if put.header.Get("Azure-AsyncNotification") != "Enabled" ||
		put.header.Get("X-Ms-Ratelimit-Remaining-Subscription-Global-Writes") == "" {
		t.Errorf("create headers: %v", put.header)
	}
	poll := put.header.Get("Azure-AsyncOperation")
	if prefix := k.URL() + "/subscriptions/" + subscription + "/providers/Microsoft.Network/locations/eastus/operations/"; !strings.HasPrefix(
		poll, prefix) || len(poll) < 3000 || len(poll) > 4096 {
		t.Errorf("operation URL of %d bytes: %.200s", len(poll), poll)
	}

	if got := k.do(t, http.MethodGet, poll, ""); got.status != http.StatusOK || got.body != `{"status":"InProgress"}` {
		t.Errorf("poll in progress: %d %s", got.status, got.body)
	}
	during := k.do(t, http.MethodGet, tableID+version, "")
	if during.state(t) != "Updating" || during.etag(t) != put.etag(t) {
		t.Errorf("GET while updating: %s", during.body)
	}
	k.clock.advance(time.Second)
	if got := k.do(t, http.MethodGet, poll, ""); got.status != http.StatusOK || got.body != `{"status":"Succeeded"}` {
		t.Errorf("poll at the end: %d %s", got.status, got.body)
	}
	after := k.do(t, http.MethodGet, tableID+version, "")
	if after.state(t) != "Succeeded" || after.etag(t) == put.etag(t) || after.header.Get("ETag") != after.etag(t) {
		t.Errorf("GET at the end: ETag %s\n%s", after.header.Get("ETag"), after.body)
	}

	again := k.do(t, http.MethodPut, tableID+version, `{"location":"East US","properties":{"routes":[]}}`)
	if again.status != http.StatusOK || again.state(t) != "Succeeded" || again.etag(t) != after.etag(t) ||
		again.header.Get("Azure-AsyncOperation") == "" {
		t.Errorf("no-op PUT: %d %s", again.status, again.body)
	}
}

func TestRecordedPreconditionFailure(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, withRoutes())
	got := k.do(t, http.MethodPut, tableID+version, `{"etag":"invalid","location":"eastus"}`, "If-Match", "invalid")
	want := `{"error":{"code":"PreconditionFailed","message":"Precondition failed.","details":[{"code":"PreconditionFailedEtagMismatch",` +
		`"message":"Etag provided in if-match header W/\"invalid\" does not match etag W/\"GUID\" of resource ` + tableID +
		` in NRP data store."}]}}`
	if got.status != http.StatusPreconditionFailed || guids(got.body) != want {
		t.Errorf("%d\n got %s\nwant %s", got.status, guids(got.body), want)
	}
}

// seed puts a table past the API and returns its ETag.
func seed(t *testing.T, k *kit, body string) string {
	t.Helper()
	if err := k.PutTable(tableID, json.RawMessage(body)); err != nil {
		t.Fatal(err)
	}
	_, etag, ok := k.Table(tableID)
	if !ok {
		t.Fatal("the table that was put is not there")
	}
	return etag
}

func TestConditionalWrites(t *testing.T) {
	etag := ""
	for _, test := range []struct {
		name, method, path, header string
		value                      func() string
		status                     int
	}{
		{"match", http.MethodPut, tableID, "If-Match", func() string { return etag }, http.StatusOK},
		{"any", http.MethodPut, tableID, "If-Match", func() string { return "*" }, http.StatusOK},
		{"mismatch", http.MethodPut, tableID, "If-Match", func() string { return `W/"other"` }, http.StatusPreconditionFailed},
		{"none match", http.MethodPut, tableID, "If-None-Match", func() string { return "*" }, http.StatusPreconditionFailed},
		{"create", http.MethodPut, tableID + "2", "If-None-Match", func() string { return "*" }, http.StatusCreated},
		{"missing", http.MethodPut, tableID + "2", "If-Match", func() string { return "*" }, http.StatusPreconditionFailed},
		{"route match", http.MethodPut, tableID + "/routes/a", "If-Match", func() string { return etag }, http.StatusOK},
		{"route mismatch", http.MethodPut, tableID + "/routes/a", "If-Match", func() string { return "x" }, http.StatusPreconditionFailed},
		{"delete mismatch", http.MethodDelete, tableID, "If-Match", func() string { return "x" }, http.StatusPreconditionFailed},
		{"patch mismatch", http.MethodPatch, tableID, "If-Match", func() string { return "x" }, http.StatusPreconditionFailed},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := start(t, emulator.Config{})
			etag = seed(t, k, withRoutes(appliance))
			body := `{"location":"eastus","tags":{"changed":"yes"}}`
			if strings.Contains(test.path, "/routes/") {
				body = strings.Replace(appliance, "10.0.0.4", "10.0.0.5", 1)
			}
			got := k.do(t, test.method, test.path+version, body, test.header, test.value())
			if got.status != test.status {
				t.Errorf("%d, want %d: %s", got.status, test.status, got.body)
			}
		})
	}
}

func TestRoutesShareTheTablesETag(t *testing.T) {
	k := start(t, emulator.Config{})
	before := seed(t, k, withRoutes(appliance))
	got := k.do(t, http.MethodGet, tableID+"/routes/A"+version, "")
	want := `{"name":"a","id":"` + tableID + `/routes/a","etag":"W/\"GUID\"","properties":{"provisioningState":"Succeeded",` +
		`"addressPrefix":"10.1.0.0/16","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.0.4","hasBgpOverride":false},` +
		`"type":"Microsoft.Network/routeTables/routes"}`
	if guids(got.body) != want || got.etag(t) != before {
		t.Errorf("\n got %s\nwant %s", guids(got.body), want)
	}
	put := k.do(t, http.MethodPut, tableID+"/routes/b"+version, strings.Replace(appliance, "10.1.", "10.2.", 1))
	if put.status != http.StatusCreated || put.state(t) != "Updating" || put.header.Get("Azure-AsyncOperation") == "" {
		t.Errorf("PUT route: %d %s", put.status, put.body)
	}
	_, after, _ := k.Table(tableID)
	if a := k.do(t, http.MethodGet, tableID+"/routes/a"+version, "").etag(t); a != after || a == before {
		t.Errorf("route etag %s, table's %s, before %s", a, after, before)
	}
	if got = k.do(t, http.MethodDelete, tableID+"/routes/a"+version, ""); got.status != http.StatusAccepted ||
		got.header.Get("Location") == "" || got.header.Get("Azure-AsyncOperation") == "" {
		t.Errorf("DELETE route: %d %v", got.status, got.header)
	}
	if got = k.do(t, http.MethodGet, tableID+"/routes"+version, ""); strings.Contains(got.body, "10.1.") {
		t.Errorf("the deleted route is listed: %s", got.body)
	}
	if got = k.do(t, http.MethodDelete, tableID+"/routes/a"+version, ""); got.status != http.StatusNoContent {
		t.Errorf("DELETE of a missing route: %d", got.status)
	}
}

func TestDeleteTable(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: func() time.Duration { return time.Second }})
	seed(t, k, withRoutes())
	got := k.do(t, http.MethodDelete, tableID+version, "")
	location := got.header.Get("Location")
	if got.status != http.StatusAccepted || got.body != "" || !strings.Contains(location, "/operationResults/") ||
		!strings.Contains(got.header.Get("Azure-AsyncOperation"), "/operations/") {
		t.Fatalf("%d %v %s", got.status, got.header, got.body)
	}
	if state := k.do(t, http.MethodGet, tableID+version, "").state(t); state != "Deleting" {
		t.Errorf("state %s", state)
	}
	if got = k.do(t, http.MethodGet, location, ""); got.status != http.StatusAccepted {
		t.Errorf("result in progress: %d", got.status)
	}
	k.clock.advance(time.Second)
	if got = k.do(t, http.MethodGet, location, ""); got.status != http.StatusNoContent {
		t.Errorf("result: %d %s", got.status, got.body)
	}
	if got = k.do(t, http.MethodDelete, tableID+version, ""); got.status != http.StatusNoContent {
		t.Errorf("second DELETE: %d", got.status)
	}
}

func TestNotFoundShapes(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, withRoutes())
	for _, test := range []struct{ name, method, path, body, cause string }{
		{
			"table", http.MethodGet, tableID + "2", `{"error":{"code":"ResourceNotFound","message":"The Resource ` +
				`'Microsoft.Network/routeTables/hub2' under resource group 'rg' was not found. For more details please go to ` +
				`https://aka.ms/ARMResourceNotFoundFix"}}`, "gateway",
		},
		{
			"child", http.MethodGet, tableID + "/routes/y", `{"error":{"code":"NotFound","message":"Resource ` + tableID +
				`/routes/y not found.","details":[]}}`, "",
		},
		{
			"group", http.MethodGet, "/subscriptions/" + subscription + "/resourceGroups/X/providers/Microsoft.Network/routeTables",
			`{"error":{"code":"ResourceGroupNotFound","message":"Resource group 'X' could not be found."}}`, "gateway",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := k.do(t, test.method, test.path+version, "")
			if got.status != http.StatusNotFound || got.body != test.body || got.header.Get("X-Ms-Failure-Cause") != test.cause {
				t.Errorf("%d %s\n got %s\nwant %s", got.status, got.header.Get("X-Ms-Failure-Cause"), got.body, test.body)
			}
		})
	}
	if code, _ := k.do(t, http.MethodPut, tableID+"2/routes/a"+version, appliance).code(t); code != "ParentResourceNotFound" {
		t.Errorf("PUT of a route below a missing table: %s", code)
	}
}

func TestPathsCompareWithoutCase(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, withRoutes(appliance))
	got := k.do(t, http.MethodGet, strings.ToUpper(tableID)+"/ROUTES/A"+version, "")
	if got.status != http.StatusOK || !strings.Contains(got.body, tableID+"/routes/a") {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestUnknownContentSurvives(t *testing.T) {
	k := start(t, emulator.Config{})
	const unknown = `"later":{"b" : [1.0, 1e2 ,"<&>\u00e9"],"a":null}`
	body := `{"location":"eastus","zones&more":["1" , "2"],"id":"/forged","etag":"forged","properties":{"provisioningState":"forged",` +
		`"resourceGuid":"forged","subnets":[{"id":"/forged"}],` + unknown + `,"routes":[{"name":"a","id":"/forged","etag":"forged",` +
		`"properties":{"addressPrefix":"Storage.EastUS","nextHopType":"Internet",` + unknown + `,"hasBgpOverride":true},"extra":{ }}]}}`
	put := k.do(t, http.MethodPut, tableID+version, body)
	got := k.do(t, http.MethodGet, tableID+version, "")
	for _, part := range []string{`"zones&more":["1" , "2"]`, `"extra":{ }`, `"hasBgpOverride":false`} {
		if !strings.Contains(got.body, part) {
			t.Errorf("%s is missing in %s", part, got.body)
		}
	}
	if n := strings.Count(got.body, unknown); n != 2 {
		t.Errorf("%d of 2 unknown members are as they were written: %s", n, got.body)
	}
	if strings.Contains(put.body+got.body, "forged") {
		t.Errorf("a read-only member was taken from the client: %s", got.body)
	}
	if again := k.do(t, http.MethodPut, tableID+version, got.body); again.state(t) != "Succeeded" {
		t.Errorf("a PUT of what GET showed is no no-op: %s", again.body)
	}
}

func TestPutReplacesRoutes(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, withRoutes(appliance))
	k.do(t, http.MethodPut, tableID+version, withRoutes(strings.NewReplacer(`"a"`, `"b"`, "10.1.", "10.2.").Replace(appliance)))
	if body, _, _ := k.Table(tableID); strings.Contains(string(body), "10.1.") || !strings.Contains(string(body), "10.2.") {
		t.Errorf("%s", body)
	}
	k.do(t, http.MethodPut, tableID+version, `{"location":"eastus","tags":{"a":"b"}}`)
	if body, _, _ := k.Table(tableID); !strings.Contains(string(body), `"routes":[]`) {
		t.Errorf("omitted routes are not removed: %s", body)
	}
}

func TestDisablePeeringRouteDefault(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, withRoutes())
	const member = `"disablePeeringRoute":"None"`
	if got := k.do(t, http.MethodGet, tableID+version, ""); !strings.Contains(got.body, member) {
		t.Errorf("GET: %s", got.body)
	}
	if got := k.do(t, http.MethodGet, tableID+"?api-version=2025-05-01", ""); strings.Contains(got.body, member) {
		t.Errorf("GET of an older version: %s", got.body)
	}
	if got := k.do(t, http.MethodGet, strings.TrimSuffix(tableID, "/hub")+version, ""); strings.Contains(got.body, member) {
		t.Errorf("list: %s", got.body)
	}
}

func TestPatchTags(t *testing.T) {
	k := start(t, emulator.Config{})
	before := seed(t, k, withRoutes(appliance))
	got := k.do(t, http.MethodPatch, tableID+version, `{"tags":{"a":"b"}}`)
	if got.status != http.StatusOK || got.state(t) != "Succeeded" || !strings.Contains(got.body, `"tags":{"a":"b"}`) ||
		got.etag(t) == before || got.header.Get("Azure-AsyncOperation") != "" || !strings.Contains(got.body, "10.1.") {
		t.Errorf("%d %s", got.status, got.body)
	}
	if got = k.do(t, http.MethodPatch, tableID+version, `{"properties":{"routes":[]}}`); got.status != http.StatusBadRequest {
		t.Errorf("PATCH of routes: %d", got.status)
	}
}

func TestListsArePagedInOrder(t *testing.T) {
	k := start(t, emulator.Config{PageSize: 2})
	for _, name := range []string{"c", "A", "b"} {
		if err := k.PutTable(groupID+"/providers/Microsoft.Network/routeTables/"+name, json.RawMessage(withRoutes())); err != nil {
			t.Fatal(err)
		}
	}
	var names []string
	next := "/subscriptions/" + subscription + "/providers/Microsoft.Network/routeTables" + version
	for next != "" {
		var page struct {
			Value    []struct{ Name string }
			NextLink string
		}
		decode(t, k.do(t, http.MethodGet, next, "").body, &page)
		for _, item := range page.Value {
			names = append(names, item.Name)
		}
		next = page.NextLink
	}
	if got := strings.Join(names, " "); got != "A b c" {
		t.Errorf("listed %q", got)
	}
	if n := len(k.Calls()); n != 2 {
		t.Errorf("%d pages, want 2", n)
	}
}

func TestSubnetsAreReadOnlyAndBlockDeletion(t *testing.T) {
	const subnet = groupID + "/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
	k := start(t, emulator.Config{Subnets: map[string][]string{strings.ToUpper(tableID): {subnet}}})
	seed(t, k, withRoutes())
	k.do(t, http.MethodPut, tableID+version, withRoutes(appliance))
	if got := k.do(t, http.MethodGet, tableID+version, ""); !strings.Contains(got.body, `"subnets":[{"id":"`+subnet+`"}]`) {
		t.Errorf("%s", got.body)
	}
	got := k.do(t, http.MethodDelete, tableID+version, "")
	if code, _ := got.code(t); got.status != http.StatusBadRequest || code != "InUseRouteTableCannotBeDeleted" {
		t.Errorf("%d %s", got.status, got.body)
	}
	k.Associate(tableID)
	if got = k.do(t, http.MethodDelete, tableID+version, ""); got.status != http.StatusAccepted {
		t.Errorf("%d %s", got.status, got.body)
	}
}

func TestRequestsThatAreRefused(t *testing.T) {
	k := start(t, emulator.Config{Verify: func(token string) (string, error) {
		if token != "somebody" {
			return "", http.ErrNoCookie
		}
		return "oid", nil
	}})
	seed(t, k, withRoutes())
	for _, test := range []struct {
		name, path, authorization string
		status                    int
		code                      string
	}{
		{"no token", tableID + version, "", http.StatusUnauthorized, "AuthenticationFailed"},
		{"no bearer", tableID + version, "Basic x", http.StatusUnauthorized, "AuthenticationFailed"},
		{"bad token", tableID + version, "Bearer x", http.StatusUnauthorized, "InvalidAuthenticationToken"},
		{"no version", tableID, "Bearer somebody", http.StatusBadRequest, "MissingApiVersionParameter"},
		{"bad version", tableID + "?api-version=latest", "Bearer somebody", http.StatusBadRequest, "InvalidApiVersionParameter"},
		{"unknown type", groupID + "/providers/Microsoft.Network/x/y" + version, "Bearer somebody", http.StatusNotFound, "InvalidResourceType"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := k.do(t, http.MethodGet, test.path, "", "Authorization", test.authorization)
			if code, _ := got.code(t); got.status != test.status || code != test.code {
				t.Errorf("%d %s", got.status, got.body)
			}
			if got.status == http.StatusUnauthorized && !strings.HasPrefix(got.header.Get("WWW-Authenticate"), "Bearer ") {
				t.Errorf("WWW-Authenticate: %q", got.header.Get("WWW-Authenticate"))
			}
		})
	}
}

func TestValidation(t *testing.T) {
	route := func(name, prefix, hop string) string {
		return `{"name":"` + name + `","properties":{"addressPrefix":"` + prefix + `",` + hop + `}}`
	}
	const internet = `"nextHopType":"Internet"`
	ecmp := func(addresses string) string {
		return `"nextHopType":"VirtualApplianceEcmp","nextHop":{"nextHopIpAddresses":[` + addresses + `]}`
	}
	for _, test := range []struct{ name, code, body string }{
		{"plain", "", withRoutes(route("a", "10.0.0.0/8", internet))},
		{"no next hop address", "", withRoutes(route("a", "0.0.0.0/0", `"nextHopType":"None","nextHopIpAddress":null`))},
		{"IPv6", "", withRoutes(route("a_", "2001:db8::/32", `"nextHopType":"VirtualAppliance","nextHopIpAddress":"2001:db8::1"`))},
		{"ECMP", "", withRoutes(route("a", "10.0.0.0/8", ecmp(`"10.0.0.4","10.0.0.5"`)))},
		{"ECMP of one", "InvalidNextHop", withRoutes(route("a", "10.0.0.0/8", ecmp(`"10.0.0.4"`)))},
		{"ECMP twice the same", "InvalidNextHop", withRoutes(route("a", "10.0.0.0/8", ecmp(`"10.0.0.4","10.0.0.4"`)))},
		{"ECMP of 65", "InvalidNextHop", withRoutes(route("a", "10.0.0.0/8", ecmp(addresses(65))))},
		{"ECMP of 64", "", withRoutes(route("a", "10.0.0.0/8", ecmp(addresses(64))))},
		{"ECMP with one address", "NextHopIpAddressNotAllowed", withRoutes(route("a", "10.0.0.0/8", ecmp(`"10.0.0.4","10.0.0.5"`)+`,"nextHopIpAddress":"10.0.0.4"`))},
		{"appliance without", "NextHopIpAddressRequired", withRoutes(route("a", "10.0.0.0/8", `"nextHopType":"VirtualAppliance"`))},
		{"appliance with empty", "NextHopIpAddressRequired", withRoutes(route("a", "10.0.0.0/8", `"nextHopType":"VirtualAppliance","nextHopIpAddress":""`))},
		{"internet with address", "NextHopIpAddressNotAllowed", withRoutes(route("a", "10.0.0.0/8", internet+`,"nextHopIpAddress":"10.0.0.4"`))},
		{"internet with empty", "NextHopIpAddressNotAllowed", withRoutes(route("a", "10.0.0.0/8", internet+`,"nextHopIpAddress":""`))},
		{"unknown next hop", "InvalidRequestFormat", withRoutes(route("a", "10.0.0.0/8", `"nextHopType":"VNetPeering"`))},
		{"same prefix", "RouteConflict", withRoutes(route("a", "2001:DB8::/32", internet), route("b", "2001:db8:0::/32", internet))},
		{"same name", "DuplicateResourceName", withRoutes(route("a", "10.0.0.0/8", internet), route("A", "11.0.0.0/8", internet))},
		{"host bits", "InvalidCIDRNotation", withRoutes(route("a", "10.0.0.1/8", internet))},
		{"no prefix", "InvalidAddressPrefixFormat", withRoutes(route("a", "", internet))},
		{"bad prefix", "InvalidAddressPrefixFormat", withRoutes(route("a", "10.0.0.0/33", internet))},
		{"name begins with -", "InvalidResourceName", withRoutes(route("-a", "10.0.0.0/8", internet))},
		{"name ends with .", "InvalidResourceName", withRoutes(route("a.", "10.0.0.0/8", internet))},
		{"name of 80", "", withRoutes(route(strings.Repeat("a", 80), "10.0.0.0/8", internet))},
		{"name of 81", "InvalidResourceName", withRoutes(route(strings.Repeat("a", 81), "10.0.0.0/8", internet))},
		{"too many", "RoutesPerRouteTableLimitReached", withRoutes(route("a", "10.0.0.0/8", internet), route("b", "11.0.0.0/8", internet), route("c", "12.0.0.0/8", internet))},
		{"no location", "LocationRequired", `{"properties":{}}`},
		{"no object", "InvalidRequestContent", `[]`},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := start(t, emulator.Config{RoutesPerTable: 2})
			got := k.do(t, http.MethodPut, tableID+version, test.body)
			if test.code == "" {
				if got.status != http.StatusCreated {
					t.Errorf("%d %s", got.status, got.body)
				}
				return
			}
			if code, _ := got.code(t); got.status != http.StatusBadRequest || code != test.code {
				t.Errorf("%d %s", got.status, got.body)
			}
			if _, _, ok := k.Table(tableID); ok {
				t.Error("the table was made all the same")
			}
		})
	}
}

// TestRegionWithoutECMP: a scope and an API version that have no routes with several next hops, for tables and for single routes.
func TestRegionWithoutECMP(t *testing.T) {
	k := start(t, emulator.Config{})
	const hops = `"nextHopType":"VirtualApplianceEcmp","nextHop":{"nextHopIpAddresses":["10.0.0.4","10.0.0.5"]}`
	several := withRoutes(`{"name":"a","properties":{"addressPrefix":"10.0.0.0/8",` + hops + `}}`)
	one := withRoutes(`{"name":"a","properties":{"addressPrefix":"10.0.0.0/8","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.0.4"}}`)
	answers := func(url, body, want string) {
		t.Helper()
		got := k.do(t, http.MethodPut, url, body)
		if want == "" {
			if got.status >= http.StatusBadRequest {
				t.Errorf("%d %s", got.status, got.body)
			}
			return
		}
		if code, _ := got.code(t); got.status != http.StatusBadRequest || code != want {
			t.Errorf("%d %s, want %s", got.status, got.body, want)
		}
	}
	answers(tableID+"?api-version=2025-05-01", several, "InvalidRequestFormat")
	answers(tableID+"?api-version=2025-05-01", one, "")
	k.Faults().RefuseECMP(tableID)
	answers(tableID+version, several, "NextHopTypeNotSupported")
	answers(tableID+"/routes/b"+version, `{"properties":{"addressPrefix":"11.0.0.0/8",`+hops+`}}`, "NextHopTypeNotSupported")
	answers(tableID+version, one, "")
	answers(strings.Replace(tableID, "hub", "other", 1)+version, several, "")
	k.Faults().AcceptECMP(tableID)
	answers(tableID+version, several, "")
}

// addresses returns n JSON strings.
func addresses(n int) string {
	list := make([]string, 0, n)
	for i := range n {
		list = append(list, `"10.0.0.`+strings.TrimLeft(string([]byte{byte('0' + i/100), byte('0' + i/10%10), byte('0' + i%10)}), "0")+`"`)
	}
	list[0] = `"10.0.0.0"`
	return strings.Join(list, ",")
}

func TestRouteConflictMessage(t *testing.T) {
	k := start(t, emulator.Config{})
	got := k.do(t, http.MethodPut, tableID+version, withRoutes(appliance, strings.Replace(appliance, `"a"`, `"b"`, 1)))
	const want = `{"error":{"code":"RouteConflict","message":"Route: a conflicts with Route: b. Routes cannot have the same AddressPrefix.","details":[]}}`
	if got.body != want {
		t.Errorf("\n got %s\nwant %s", got.body, want)
	}
}

func TestTableQuotaAndLocation(t *testing.T) {
	k := start(t, emulator.Config{TablesPerSubscription: 1})
	seed(t, k, withRoutes())
	if code, _ := k.do(t, http.MethodPut, tableID+"2"+version, withRoutes()).code(t); code != "ResourceCountExceedsLimitDueToTemplate" {
		t.Errorf("second table: %s", code)
	}
	got := k.do(t, http.MethodPut, tableID+version, `{"location":"westus"}`)
	if code, _ := got.code(t); got.status != http.StatusConflict || code != "InvalidResourceLocation" {
		t.Errorf("move: %d %s", got.status, got.body)
	}
}

func TestResourceGroups(t *testing.T) {
	k := start(t, emulator.Config{})
	if got := k.do(t, http.MethodPut, groupID+version, `{"location":"eastus"}`); got.status != http.StatusOK {
		t.Errorf("PUT: %d", got.status)
	}
	want := `{"id":"` + groupID + `","name":"rg","type":"Microsoft.Resources/resourceGroups","location":"eastus","properties":{"provisioningState":"Succeeded"}}`
	if got := k.do(t, http.MethodGet, strings.ToLower(groupID)+version, ""); got.body != want {
		t.Errorf("GET: %s", got.body)
	}
	if got := k.do(t, http.MethodGet, strings.TrimSuffix(groupID, "/rg")+version, ""); got.body != `{"value":[`+want+`]}` {
		t.Errorf("list: %s", got.body)
	}
}
