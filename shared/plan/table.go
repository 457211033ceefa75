// Package plan is the difference between the routes that a target should have and those it has.
package plan

import (
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/shared/route"
)

// NextHopType is the next hop type of a user-defined route, as Azure spells it (RouteNextHopType).
type NextHopType string

// The types that Pointsman writes; others pass through as they are.
const (
	VirtualAppliance     NextHopType = "VirtualAppliance"     // one next hop
	VirtualApplianceECMP NextHopType = "VirtualApplianceEcmp" // 2 to MaxECMP of them; since API version 2025-07-01
)

// MaxECMP is how many next hops one route may have (armnetwork, RouteNextHopEcmp).
const MaxECMP = 64

// TypeFor returns the type of a route with these next hops.
func TypeFor(hops route.NextHops) NextHopType {
	if hops.Several() {
		return VirtualApplianceECMP
	}
	return VirtualAppliance
}

// Route is one user-defined route as the planner sees it.
type Route struct {
	Name     string       // unique in the table, compared without case
	Address  string       // addressPrefix as it stands in the table: a prefix or a service tag
	Prefix   netip.Prefix // Address in canonical form; invalid for a service tag
	Type     NextHopType
	NextHops route.NextHops // with VirtualAppliance and VirtualApplianceECMP
}

// Table is a route table as read, with what is needed to write it back.
type Table struct {
	ID     string
	ETag   string // of the read; a write happens only If-Match
	Routes []Route
	// Failed: the last write was accepted and then failed. The table shows its content, and Azure may not have put it in force.
	Failed  bool
	Subnets []string // ARM resource ids of the subnets that use it
	// Origin is the adapter's own record of the read, carried through untouched: unmanaged routes, tags and flags are
	// written back from it, never from Routes (invariant I1).
	Origin any
}

// Edit is what to do with a table as read: every other route, and everything else in the table, stays as it is.
type Edit struct {
	Put    []Route  // new ones, and ones that replace the route of the same name
	Delete []string // names
}

// Empty reports whether there is nothing to do.
func (e Edit) Empty() bool { return len(e.Put) == 0 && len(e.Delete) == 0 }

// prefixOf returns the canonical prefix of an address as Azure shows it, or an invalid one for a service tag.
func prefixOf(address string) netip.Prefix {
	p, err := netip.ParsePrefix(address)
	if err != nil {
		return netip.Prefix{}
	}
	return route.Canonical(p)
}

// ECMP reports whether the edit writes a route with several next hops.
func (e Edit) ECMP() bool {
	return slices.ContainsFunc(e.Put, func(r Route) bool { return r.NextHops.Several() })
}

// NewRoute returns a route as an adapter reads it. An invalid next hop is none.
func NewRoute(name, address string, typ NextHopType, nextHops ...netip.Addr) Route {
	hops := slices.Clone(nextHops)
	for i := range hops {
		hops[i] = hops[i].Unmap()
	}
	return Route{Name: name, Address: address, Prefix: prefixOf(address), Type: typ, NextHops: route.NextHopsOf(hops...)}
}
