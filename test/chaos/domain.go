//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/test/system"
)

const domain = "hub"

// holdDown is short, so that NVAs that return take their prefixes back while somebody looks.
const holdDown = 2 * time.Second

// halfLife is short likewise: a prefix that was lost often stays away for six seconds, not for fifteen minutes.
const halfLife = 2 * time.Second

// place is where an NVA stands in the domain file.
type place struct {
	name, hop  string
	preference int
}

func places() []place {
	return []place{{"nva-a", "10.0.0.4", 300}, {"nva-b", "10.0.0.5", 200}, {"nva-c", "10.0.0.6", 100}}
}

// target is one route table.
type target struct {
	name, id string
	nvas     []string
	limit    int
}

func targets() []target {
	return []target{
		{"spokes", system.TableID, []string{"nva-a", "nva-b", "nva-c"}, 100},
		{"edge", strings.TrimSuffix(system.TableID, "spokes") + "edge", []string{"nva-b", "nva-c"}, 90},
	}
}

// hops are the next hops that a target may have.
func (t target) hops() []string {
	var out []string
	for _, p := range places() {
		if t.fed(p.name) {
			out = append(out, p.hop)
		}
	}
	return out
}

func (t target) fed(name string) bool { return slices.Contains(t.nvas, name) }

// domainFile is the domain file. Removals are not guarded: here all routes of an NVA really go at once.
func domainFile(silence config.Silence) string {
	word := "down"
	if silence == config.SilenceHold {
		word = "hold"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "domain: %s\npolicy: {silence: %s, holdDown: %s, damping: {halfLife: %s}, writePrice: 2, writeCap: 3s}\nguards: {maxRemoved: 100%%, minRemoved: 1000}\nnvas:\n",
		domain, word, holdDown, halfLife)
	for _, p := range places() {
		fmt.Fprintf(&b, "  - {name: %s, nextHops: [%s], preference: %d, allow: [\"10.64.0.0/10 le 24\"]}\n", p.name, p.hop, p.preference)
	}
	b.WriteString("targets:\n")
	for _, t := range targets() {
		fmt.Fprintf(&b, "  - {name: %s, routeTable: %s, nvas: [%s], limit: %d}\n", t.name, t.id, strings.Join(t.nvas, ", "), t.limit)
	}
	return b.String()
}

// seed is what other people have in the tables before.
func seed() map[string]json.RawMessage {
	out := map[string]json.RawMessage{}
	for _, t := range targets() {
		out[t.id] = json.RawMessage(`{"location":"westeurope","tags":{"cost-centre":"4711","owner":"netops"},"properties":{"disableBgpRoutePropagation":true,"routes":[
{"name":"to-firewall","properties":{"addressPrefix":"0.0.0.0/0","nextHopType":"VirtualAppliance","nextHopIpAddress":"10.9.9.9"}},
{"name":"drop","properties":{"addressPrefix":"10.64.7.0/24","nextHopType":"None"}},
{"name":"balanced","properties":{"addressPrefix":"10.50.0.0/16","nextHopType":"VirtualApplianceEcmp","nextHop":{"nextHopIpAddresses":["10.8.0.4","10.8.0.5"]}}}]}}`)
	}
	return out
}
