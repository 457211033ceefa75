//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// managed begins the names of Pointsman's routes.
const managed = "pointsman-"

// content is a route table, sorted into what is Pointsman's and what is not.
type content struct {
	state  string
	routes int
	hops   map[netip.Prefix]string // of managed routes
	// others is all that is not Pointsman's, every value byte for byte, by what it belongs to: "route NAME", "tags", "table". What the service itself
	// sets at every write is left out.
	others   map[string]string
	prefixes map[string]string // of unmanaged routes: prefix to name
}

func read(raw json.RawMessage) (content, error) {
	c := content{hops: map[netip.Prefix]string{}, others: map[string]string{}, prefixes: map[string]string{}}
	var top, props map[string]json.RawMessage
	var routes []map[string]json.RawMessage
	err := json.Unmarshal(raw, &top)
	if err == nil {
		err = json.Unmarshal(top["properties"], &props)
	}
	if err == nil && props["routes"] != nil {
		err = json.Unmarshal(props["routes"], &routes)
	}
	if err != nil {
		return c, fmt.Errorf("route table: %w", err)
	}
	_ = json.Unmarshal(props["provisioningState"], &c.state)
	c.routes = len(routes)
	c.others["tags"] = string(top["tags"])
	c.others["table"] = flat(top, "etag", "properties", "tags") + flat(props, "provisioningState", "routes")
	for _, r := range routes {
		if err = c.add(r); err != nil {
			return c, err
		}
	}
	return c, nil
}

func (c *content) add(r map[string]json.RawMessage) error {
	var props map[string]json.RawMessage
	var name string
	var short struct {
		AddressPrefix    string
		NextHopIPAddress string `json:"nextHopIpAddress"`
	}
	err := json.Unmarshal(r["name"], &name)
	if err == nil {
		err = json.Unmarshal(r["properties"], &props)
	}
	if err == nil {
		err = json.Unmarshal(r["properties"], &short)
	}
	if err != nil {
		return fmt.Errorf("route %s: %w", r["name"], err)
	}
	if !strings.HasPrefix(name, managed) {
		c.others["route "+name] = flat(r, "etag", "properties") + flat(props, "provisioningState")
		c.prefixes[short.AddressPrefix] = name
		return nil
	}
	p, err := netip.ParsePrefix(short.AddressPrefix)
	if err != nil {
		return fmt.Errorf("route %s: %w", name, err)
	}
	c.hops[p] = short.NextHopIPAddress
	return nil
}

// flat returns the members of an object as text, in the order of their names.
func flat(members map[string]json.RawMessage, without ...string) string {
	var b strings.Builder
	for _, key := range slices.Sorted(maps.Keys(members)) {
		if !slices.Contains(without, key) {
			fmt.Fprintf(&b, "%s=%s ", key, members[key])
		}
	}
	return b.String()
}

// differing returns the keys whose values differ, sorted.
func differing(a, b map[string]string) []string {
	var out []string
	for key := range a {
		if other, ok := b[key]; !ok || other != a[key] {
			out = append(out, key)
		}
	}
	for key := range b {
		if _, ok := a[key]; !ok {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}
