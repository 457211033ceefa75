package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// others is what other people have in the table before Pointsman comes: a hand-made route, a route over two next hops, tags and a flag.
// Tags are a map, which has no order; in the order of their names they can be compared as text.
const others = `{
  "location": "westeurope",
  "tags": {"cost-centre": "4711", "owner": "netops"},
  "properties": {
    "disableBgpRoutePropagation": true,
    "routes": [
      {"name": "to-firewall", "properties": {"addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.9.9.9"}},
      {"name": "balanced", "properties": {"addressPrefix": "10.50.0.0/16", "nextHopType": "VirtualApplianceEcmp", "nextHop": {"nextHopIpAddresses": ["10.8.0.4", "10.8.0.5"]}}}
    ]
  }
}`

// seed returns the table as it is in the beginning, without white space, as Azure would show it.
func seed() json.RawMessage {
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(others)); err != nil {
		panic("demo: " + err.Error())
	}
	return b.Bytes()
}

// managed begins the names of Pointsman's routes.
const managed = "pointsman-"

// shownTable is a route table as a GET shows it.
type shownTable struct {
	top    map[string]json.RawMessage
	props  map[string]json.RawMessage
	routes []map[string]json.RawMessage
}

func readTable(raw json.RawMessage) (shownTable, error) {
	var t shownTable
	err := json.Unmarshal(raw, &t.top)
	if err == nil {
		err = json.Unmarshal(t.top["properties"], &t.props)
	}
	if err == nil {
		err = json.Unmarshal(t.props["routes"], &t.routes)
	}
	if err != nil {
		return t, fmt.Errorf("route table: %w", err)
	}
	return t, nil
}

// unmanaged returns all that is not Pointsman's, every value byte for byte as the table has it. What the service itself sets at every
// write is left out.
func (t shownTable) unmanaged() (string, error) {
	var b strings.Builder
	write := func(name string, members map[string]json.RawMessage, without ...string) {
		for _, key := range slices.Sorted(maps.Keys(members)) {
			if !slices.Contains(without, key) {
				fmt.Fprintf(&b, "%s.%s=%s\n", name, key, members[key])
			}
		}
	}
	write("table", t.top, "etag", "properties")
	write("properties", t.props, "provisioningState", "routes")
	for _, r := range t.routes {
		if bytes.HasPrefix(r["name"], []byte(`"`+managed)) {
			continue
		}
		var props map[string]json.RawMessage
		if err := json.Unmarshal(r["properties"], &props); err != nil {
			return "", fmt.Errorf("route %s: %w", r["name"], err)
		}
		write(string(r["name"]), r, "etag", "properties")
		write(string(r["name"])+".properties", props, "provisioningState")
	}
	return b.String(), nil
}

// differing returns the lines of both that the other has not.
func differing(before, now string) string {
	var b strings.Builder
	for _, side := range []struct{ sign, these, those string }{{"-", before, now}, {"+", now, before}} {
		those := strings.Split(side.those, "\n")
		for l := range strings.Lines(side.these) {
			if l = strings.TrimSuffix(l, "\n"); !slices.Contains(those, l) {
				fmt.Fprintf(&b, "\n  %s %s", side.sign, l)
			}
		}
	}
	return b.String()
}

// hops returns the next hop of every managed prefix.
func (t shownTable) hops() map[string]string {
	out := map[string]string{}
	for _, r := range t.routes {
		var p struct {
			AddressPrefix    string
			NextHopIPAddress string `json:"nextHopIpAddress"`
		}
		if bytes.HasPrefix(r["name"], []byte(`"`+managed)) && json.Unmarshal(r["properties"], &p) == nil {
			out[p.AddressPrefix] = p.NextHopIPAddress
		}
	}
	return out
}

// describe says what a write changed: "1 prefix → 10.0.0.5, 299 prefixes → 10.0.0.4".
func describe(before, after map[string]string) string {
	counts, removed := map[string]int{}, 0
	for p, hop := range after {
		if before[p] != hop {
			counts[hop]++
		}
	}
	for p := range before {
		if _, has := after[p]; !has {
			removed++
		}
	}
	var parts []string
	for _, hop := range slices.Sorted(maps.Keys(counts)) {
		parts = append(parts, plural(counts[hop], "prefix")+" → "+hop)
	}
	if removed > 0 {
		parts = append(parts, plural(removed, "prefix")+" removed")
	}
	if parts == nil {
		return "nothing changed"
	}
	return strings.Join(parts, ", ")
}

// print writes the routes as text, one a line.
func (t shownTable) print(w io.Writer) {
	for _, r := range t.routes {
		var p struct {
			AddressPrefix    string
			NextHopType      string
			NextHopIPAddress string `json:"nextHopIpAddress"`
			NextHop          struct {
				Addresses []string `json:"nextHopIpAddresses"`
			}
		}
		var name string
		if json.Unmarshal(r["properties"], &p) != nil || json.Unmarshal(r["name"], &name) != nil {
			continue
		}
		hop := p.NextHopIPAddress
		if hop == "" {
			hop = strings.Join(p.NextHop.Addresses, ",")
		}
		_, _ = fmt.Fprintf(w, "%-18s %-20s %-20s %s\n", p.AddressPrefix, hop, p.NextHopType, name)
	}
}
