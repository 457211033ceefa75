package arm_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"

	emulator "github.com/pointsman/pointsman/emulator/arm"
)

func sdkRoute(name, prefix string, hops ...string) *armnetwork.Route {
	properties := &armnetwork.RoutePropertiesFormat{AddressPrefix: &prefix, NextHopType: new(armnetwork.RouteNextHopTypeVirtualAppliance)}
	if len(hops) == 1 {
		properties.NextHopIPAddress = &hops[0]
	} else {
		properties.NextHopType = new(armnetwork.RouteNextHopTypeVirtualApplianceEcmp)
		properties.NextHop = &armnetwork.RouteNextHopEcmp{NextHopIPAddresses: to.SliceOfPtrs(hops...)}
	}
	return &armnetwork.Route{Name: &name, Properties: properties}
}

func sdkTable(routes ...*armnetwork.Route) armnetwork.RouteTable {
	return armnetwork.RouteTable{Location: new("eastus"), Properties: &armnetwork.RouteTablePropertiesFormat{Routes: routes}}
}

// refused checks that err is an answer with the status and code.
func refused(t *testing.T, err error, status int, code string) {
	t.Helper()
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) || answer.StatusCode != status || answer.ErrorCode != code {
		t.Errorf("got %v, want %d %s", err, status, code)
	}
}

func TestSDKTableLife(t *testing.T) {
	k := start(t, emulator.Config{})
	client, ctx := k.tables(t), t.Context()
	poller, err := client.BeginCreateOrUpdate(ctx, "rg", "hub", sdkTable(sdkRoute("a", "10.1.0.0/16", "10.0.0.4")), nil)
	created := finish(t, poller, err)
	if *created.Properties.ProvisioningState != armnetwork.ProvisioningStateSucceeded || *created.ID != tableID {
		t.Errorf("%+v", created)
	}

	conditional := ifMatch(ctx, *created.Etag)
	body := sdkTable(sdkRoute("a", "10.1.0.0/16", "10.0.0.5"), sdkRoute("b", "10.2.0.0/16", "10.0.0.4", "10.0.0.5"))
	poller, err = client.BeginCreateOrUpdate(conditional, "rg", "hub", body, nil)
	updated := finish(t, poller, err)
	if *updated.Etag == *created.Etag || len(updated.Properties.Routes) != 2 || len(updated.Properties.Routes[1].Properties.NextHop.NextHopIPAddresses) != 2 {
		t.Errorf("%+v", updated)
	}
	_, err = client.BeginCreateOrUpdate(conditional, "rg", "hub", sdkTable(), nil)
	refused(t, err, http.StatusPreconditionFailed, "PreconditionFailed")

	poller, err = client.BeginCreateOrUpdate(ctx, "rg", "hub", updated.RouteTable, nil)
	if same := finish(t, poller, err); *same.Etag != *updated.Etag {
		t.Error("writing back what was read changed the ETag")
	}
	tags, err := client.UpdateTags(ctx, "rg", "hub", armnetwork.TagsObject{Tags: map[string]*string{"a": new("b")}}, nil)
	if err != nil || *tags.Tags["a"] != "b" {
		t.Errorf("%+v, %v", tags, err)
	}
	removal, err := client.BeginDelete(ctx, "rg", "hub", nil)
	finish(t, removal, err)
	_, err = client.Get(ctx, "rg", "hub", nil)
	refused(t, err, http.StatusNotFound, "ResourceNotFound")
}

func TestSDKRoutes(t *testing.T) {
	k := start(t, emulator.Config{})
	seed(t, k, withRoutes())
	client, ctx := k.routes(t), t.Context()
	poller, err := client.BeginCreateOrUpdate(ctx, "rg", "hub", "a", *sdkRoute("a", "10.1.0.0/16", "10.0.0.4"), nil)
	created := finish(t, poller, err)
	if *created.Properties.NextHopIPAddress != "10.0.0.4" || *created.Properties.ProvisioningState != armnetwork.ProvisioningStateSucceeded {
		t.Errorf("%+v", created)
	}
	page, err := client.NewListPager("rg", "hub", nil).NextPage(ctx)
	if err != nil || len(page.Value) != 1 {
		t.Errorf("%+v, %v", page, err)
	}
	removal, err := client.BeginDelete(ctx, "rg", "hub", "a", nil)
	finish(t, removal, err)
	_, err = client.Get(ctx, "rg", "hub", "a", nil)
	refused(t, err, http.StatusNotFound, "NotFound")
}

func TestSDKLists(t *testing.T) {
	k := start(t, emulator.Config{PageSize: 1})
	client := k.tables(t)
	for _, name := range []string{"a", "b", "c"} {
		poller, err := client.BeginCreateOrUpdate(t.Context(), "rg", name, sdkTable(), nil)
		finish(t, poller, err)
	}
	if n := count(t, client.NewListPager("rg", nil), func(p armnetwork.RouteTablesClientListResponse) int { return len(p.Value) }); n != 3 {
		t.Errorf("List: %d tables", n)
	}
	if n := count(t, client.NewListAllPager(nil), func(p armnetwork.RouteTablesClientListAllResponse) int { return len(p.Value) }); n != 3 {
		t.Errorf("ListAll: %d tables", n)
	}
}

func count[T any](t *testing.T, pager *runtime.Pager[T], size func(T) int) int {
	t.Helper()
	n := 0
	for pager.More() {
		page, err := pager.NextPage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		n += size(page)
	}
	return n
}

func TestSDKSeesOperationsInProgress(t *testing.T) {
	k := start(t, emulator.Config{WriteDuration: slow})
	poller, err := k.tables(t).BeginCreateOrUpdate(t.Context(), "rg", "hub", sdkTable(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err = poller.Poll(t.Context()); err != nil || poller.Done() { //nolint:bodyclose // the poller has closed it
			t.Fatalf("done %v, %v", poller.Done(), err)
		}
	}
	k.clock.advance(10 * time.Second)
	finish(t, poller, nil)
}

func TestSDKSeesFailedOperations(t *testing.T) {
	k := start(t, emulator.Config{})
	k.Faults().Script(emulator.Fault{Method: http.MethodPut, FailOperation: true})
	poller, err := k.tables(t).BeginCreateOrUpdate(t.Context(), "rg", "hub", sdkTable(), nil)
	if err != nil {
		t.Fatal(err)
	}
	_, err = poller.PollUntilDone(t.Context(), nil)
	refused(t, err, http.StatusOK, "InternalServerError")
}

func TestSDKTokensAreVerified(t *testing.T) {
	k := start(t, emulator.Config{Verify: func(token string) (string, error) {
		if token == "somebody" {
			return "oid", nil
		}
		return "", errors.New("unknown token")
	}})
	_, err := k.tables(t).Get(t.Context(), "rg", "hub", nil)
	refused(t, err, http.StatusUnauthorized, "InvalidAuthenticationToken")
}
