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
	NextHop          struct {
		Addresses []string `json:"nextHopIpAddresses"`
	} `json:"nextHop"`
}

// addresses returns the next hops; none where the route's type has none.
func (h hopJSON) addresses() ([]netip.Addr, error) {
	texts := h.NextHop.Addresses
	if h.NextHopIPAddress != "" {
		texts = append(texts, h.NextHopIPAddress)
	}
	out := make([]netip.Addr, len(texts))
	for i, text := range texts {
		var err error
		if out[i], err = netip.ParseAddr(text); err != nil {
			return nil, fmt.Errorf("%q is no address", text)
		}
	}
	return out, nil
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
		hops, err := hop.addresses()
		if err != nil {
			return plan.Table{}, fmt.Errorf("route %s: %w", r.Name, err)
		}
		table.Routes = append(table.Routes, plan.NewRoute(r.Name, hop.AddressPrefix, plan.NextHopType(hop.NextHopType), hops...))
	}
	return table, nil
}
