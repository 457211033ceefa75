package arm_test

import (
	"net/http"
	"strings"
	"testing"

	emulator "github.com/pointsman/pointsman/emulator/arm"
)

func TestSubnetGet(t *testing.T) {
	const subnet = groupID + "/providers/Microsoft.Network/virtualNetworks/v/subnets/s"
	k := start(t, emulator.Config{Subnets: map[string][]string{tableID: {subnet}}})
	if got := k.do(t, http.MethodGet, subnet+version, ""); got.status != http.StatusNotFound || !strings.Contains(got.body, `"code":"NotFound"`) {
		t.Errorf("a missing child: %d %s", got.status, got.body)
	}
	k.PutSubnet(subnet, "10.0.0.0/24")
	if err := k.PutTable(tableID, []byte(`{"location":"eastus"}`)); err != nil {
		t.Fatal(err)
	}
	got := k.do(t, http.MethodGet, strings.ToUpper(subnet)+version, "")
	for _, want := range []string{`"name":"s"`, `"id":"` + subnet + `"`, `"addressPrefix":"10.0.0.0/24"`, `"routeTable":{"id":"` + tableID + `"}`, `"type":"Microsoft.Network/virtualNetworks/subnets"`, `"provisioningState":"Succeeded"`} {
		if got.status != http.StatusOK || !strings.Contains(got.body, want) {
			t.Errorf("%d %s lacks %s", got.status, got.body, want)
		}
	}
	if got.header.Get("ETag") != got.etag(t) {
		t.Errorf("ETag %q and %q", got.header.Get("ETag"), got.etag(t))
	}
	k.PutSubnet(subnet, "10.0.0.0/24", "fd00::/64")
	if got = k.do(t, http.MethodGet, subnet+version, ""); !strings.Contains(got.body, `"addressPrefixes":["10.0.0.0/24","fd00::/64"]`) || strings.Contains(got.body, `"addressPrefix":`) {
		t.Errorf("%s", got.body)
	}
}
