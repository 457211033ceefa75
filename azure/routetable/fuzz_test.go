package routetable

import (
	"encoding/json"
	"testing"

	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"

	"github.com/pointsman/pointsman/shared/plan"
)

// Whatever a route table looks like, it is read without a panic, and either it is written back with every route as it was or the write is
// refused (invariant I1).
func FuzzWriteBack(f *testing.F) {
	for _, seed := range []string{
		`{"etag":"W/\"1\"","location":"eastus","properties":{"routes":[]}}`,
		`{"etag":"W/\"1\"","tags":{"a":"b"},"properties":{"provisioningState":"Failed","disableBgpRoutePropagation":true,"routes":[{"name":"r","etag":"x","properties":{"addressPrefix":"10.0.0.0/8","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.0.0.4","hasBgpOverride":false}}]}}`,
		`{"etag":"e","properties":{"disablePeeringRoute":"All","routes":[{"name":"ecmp","properties":{"addressPrefix":"10.0.0.0/8","nextHopType":"VirtualApplianceEcmp","nextHop":{"nextHopIpAddresses":["10.0.0.4","10.0.0.5"]}}},null,{}]}}`,
		`{"etag":"e","properties":{"routes":[{"name":"tag","properties":{"addressPrefix":"Storage.WestEurope","nextHopType":"Internet","new":{"a":[1]}}}]}}`,
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		var model armnetwork.RouteTable
		if json.Unmarshal(raw, &model) != nil {
			return
		}
		table, err := decode("id", model, "", raw)
		if err != nil {
			return
		}
		body, err := encode(table, plan.Edit{})
		if err != nil {
			return
		}
		sent, err := json.Marshal(body)
		if err != nil {
			t.Fatalf("the body of the PUT: %v", err)
		}
		var again armnetwork.RouteTable
		if err = json.Unmarshal(sent, &again); err != nil {
			t.Fatalf("the body of the PUT cannot be read: %v", err)
		}
		if again.Properties == nil || again.Properties.Routes == nil {
			t.Fatalf("the PUT has no routes: that may delete them all\n%s", sent)
		}
		back, err := decode("id", again, table.ETag, sent)
		if err != nil {
			t.Fatalf("what is written back cannot be read: %v", err)
		}
		if len(back.Routes) != len(table.Routes) {
			t.Fatalf("%d routes became %d", len(table.Routes), len(back.Routes))
		}
		for i, r := range table.Routes {
			if back.Routes[i] != r {
				t.Errorf("route %d was %+v and is written as %+v", i, r, back.Routes[i])
			}
		}
	})
}
