package peering

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/route"
)

// Route is one route that an instance of a Route Server has learned from a peer.
type Route struct {
	Prefix  netip.Prefix
	NextHop netip.Addr
}

// Instance is what one of a Route Server's instances has learned from a peer: an NVA must announce the same to both.
type Instance struct {
	Name   string // as the service calls it: RouteServiceRole_IN_0
	Routes []Route
}

// Announced is what the instances should have learned from one NVA.
type Announced struct {
	// Prefixes are those that it announces, may announce, and that go by way of the Route Server.
	Prefixes []netip.Prefix
	// Concerns reports whether a prefix goes by way of the Route Server: what an instance has learned beside such prefixes is nobody's business.
	Concerns func(netip.Prefix) bool
	// Leads reports whether a next hop leads to the NVA for the prefix: its own address, or one that stands for it.
	Leads func(netip.Prefix, netip.Addr) bool
}

// Heard is how what one instance has learned from an NVA differs from what the NVA announces.
type Heard struct {
	Instance string `json:"instance"`
	Routes   int    `json:"routes"`            // learned from the peer, whatever they are
	Missing  int    `json:"missing,omitempty"` // announced, not learned
	Surplus  int    `json:"surplus,omitempty"` // learned, not announced
	Astray   int    `json:"astray,omitempty"`  // learned with a next hop that does not lead to the NVA
	// Listed counts the learned routes that the domain file lets go by way of the Route Server: traffic goes to the NVA for these.
	Listed   int      `json:"listed,omitempty"`
	Examples []string `json:"examples,omitempty"` // at most maxExamples, missing ones first
}

const maxExamples = 5

// Same reports whether the instance has learned what the NVA announces.
func (h Heard) Same() bool { return h.Missing == 0 && h.Surplus == 0 && h.Astray == 0 }

// String returns the difference as people read it.
func (h Heard) String() string {
	text := fmt.Sprintf("%s: %d missing, %d not announced, %d with another next hop", h.Instance, h.Missing, h.Surplus, h.Astray)
	if len(h.Examples) > 0 {
		text += " (" + strings.Join(h.Examples, ", ") + ")"
	}
	return text
}

// Compare says how each instance differs from what the NVA announces, in the order of the instances.
func Compare(a Announced, instances []Instance) []Heard {
	out := make([]Heard, len(instances))
	for i, instance := range instances {
		out[i] = compare(a, instance)
	}
	return out
}

func compare(a Announced, instance Instance) Heard {
	h := Heard{Instance: instance.Name, Routes: len(instance.Routes)}
	learned := map[netip.Prefix]bool{}
	announced := map[netip.Prefix]bool{}
	for _, p := range a.Prefixes {
		announced[p] = true
	}
	for _, r := range instance.Routes {
		learned[r.Prefix] = true
	}
	for _, p := range slices.SortedFunc(slices.Values(a.Prefixes), route.Compare) {
		if !learned[p] {
			h.Missing++
			h.example("%s is missing", p)
		}
	}
	routes := slices.SortedFunc(slices.Values(instance.Routes), func(x, y Route) int { return route.Compare(x.Prefix, y.Prefix) })
	for _, r := range routes {
		if !a.Concerns(r.Prefix) {
			continue
		}
		h.Listed++
		switch {
		case !announced[r.Prefix]:
			h.Surplus++
			h.example("%s is not announced", r.Prefix)
		case !a.Leads(r.Prefix, r.NextHop):
			h.Astray++
			h.example("%s leads to %s", r.Prefix, r.NextHop)
		}
	}
	return h
}

func (h *Heard) example(format string, args ...any) {
	if len(h.Examples) < maxExamples {
		h.Examples = append(h.Examples, fmt.Sprintf(format, args...))
	}
}

// Standing is how an NVA stands with the Route Servers of its domain, as far as that was looked at.
type Standing struct {
	Peers bool      // it is to peer with at least one
	Clear time.Time // when all of them were last seen without a route that leads to it; zero: one of them had some, or was not looked at
	Full  time.Time // when all of them were last seen with all that it announces, on both instances; zero: not so
}

// Lists reports whether a Route Server may still lead to the NVA, of which something is believed since then. Unless it was seen that none does, it is
// assumed.
func (s Standing) Lists(since time.Time) bool {
	return s.Peers && (s.Clear.IsZero() || s.Clear.Before(since))
}

// Join adds how the NVA stands with another Route Server.
func (s Standing) Join(o Standing) Standing {
	switch {
	case !o.Peers:
		return s
	case !s.Peers:
		return o
	}
	return Standing{Peers: true, Clear: earlier(s.Clear, o.Clear), Full: earlier(s.Full, o.Full)}
}

// earlier returns the earlier of two times; zero, which is never, counts as the earliest.
func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
