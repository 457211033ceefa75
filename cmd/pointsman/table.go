package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/pointsman/pointsman/shared/plan"
)

// tableJSON is a route table as the REST interface has it, and as az prints it: without the properties in between.
type tableJSON struct {
	ETag       string      `json:"etag"`
	Routes     []routeJSON `json:"routes"`
	Properties *struct {
		Routes []routeJSON `json:"routes"`
	} `json:"properties"`
}

type routeJSON struct {
	Name string `json:"name"`
	hopJSON
	Properties *hopJSON `json:"properties"`
}

type hopJSON struct {
	AddressPrefix    string `json:"addressPrefix"`
	NextHopType      string `json:"nextHopType"`
	NextHopIPAddress string `json:"nextHopIpAddress"`
}

// parseTable reads a saved route table.
func parseTable(id string, body []byte) (plan.Table, error) {
	var raw tableJSON
	if err := json.Unmarshal(body, &raw); err != nil {
		return plan.Table{}, fmt.Errorf("not the JSON of a route table: %w", err)
	}
	routes := raw.Routes
	if raw.Properties != nil {
		routes = raw.Properties.Routes
	}
	if routes == nil {
		return plan.Table{}, errors.New("not a route table: it has no routes, not even an empty list")
	}
	table := plan.Table{ID: id, ETag: raw.ETag}
	for n, r := range routes {
		hop := r.hopJSON
		if r.Properties != nil {
			hop = *r.Properties
		}
		if r.Name == "" || hop.AddressPrefix == "" {
			return plan.Table{}, fmt.Errorf("route %d has no name or no addressPrefix", n+1)
		}
		address, err := netip.ParseAddr(hop.NextHopIPAddress)
		if err != nil {
			address = netip.Addr{} // a route of another type has none
		}
		table.Routes = append(table.Routes, plan.NewRoute(r.Name, hop.AddressPrefix, plan.NextHopType(hop.NextHopType), address))
	}
	return table, nil
}
