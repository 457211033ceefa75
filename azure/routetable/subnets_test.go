package routetable_test

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

const subnetID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v/subnets/a"

func TestSubnets(t *testing.T) {
	server, c := newARM(t, arm.Config{})
	if got := read(t, c).Subnets; !slices.Equal(got, []string{subnetID}) {
		t.Fatalf("the table's subnets are %q", got)
	}
	for _, prefixes := range [][]string{{"10.0.0.0/24"}, {"10.0.0.0/24", "fd00:0:0:1::/64"}} {
		server.PutSubnet(subnetID, prefixes...)
		got, err := c.Subnet(t.Context(), strings.ToUpper(subnetID[:30])+subnetID[30:])
		if err != nil || len(got) != len(prefixes) || got[0] != netip.MustParsePrefix(prefixes[0]) {
			t.Errorf("%v, %v; want %v", got, err, prefixes)
		}
	}
	for _, call := range server.Calls() {
		if call.Method != http.MethodGet {
			t.Errorf("%s %s", call.Method, call.Path)
		}
	}
	// What is read of subnets is not written back.
	if err := c.Put(t.Context(), read(t, c), plan.Edit{}); err != nil {
		t.Error(err)
	}
}

func TestSubnetTroubles(t *testing.T) {
	server, c := newARM(t, arm.Config{})
	if _, err := c.Subnet(t.Context(), subnetID); !fault.Is(err, fault.NotFound) {
		t.Errorf("no subnet: %v", err)
	}
	server.PutSubnet(subnetID, "10.0.0.0/24")
	server.Faults().Forbid("", subnetID, "GET")
	if _, err := c.Subnet(t.Context(), subnetID); !fault.Is(err, fault.Denied) || fault.Code(err) != "AuthorizationFailed" || !strings.Contains(err.Error(), "give the identity a role with Microsoft.Network/virtualNetworks/subnets/read") {
		t.Errorf("no right: %v", err)
	}
	server.Faults().Clear()
	server.PutSubnet(subnetID, "nonsense")
	if _, err := c.Subnet(t.Context(), subnetID); !fault.Is(err, fault.Transient) {
		t.Errorf("nonsense: %v", err)
	}
	server.PutSubnet(subnetID)
	if _, err := c.Subnet(t.Context(), subnetID); !fault.Is(err, fault.Transient) {
		t.Errorf("nothing: %v", err)
	}
	if _, err := c.Subnet(t.Context(), tableID); !fault.Is(err, fault.Refused) {
		t.Errorf("a table: %v", err)
	}
}
