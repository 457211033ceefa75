// Package plan is the difference between the routes that a target should have and those it has.
package plan

import (
	"net/netip"

	"github.com/pointsman/pointsman/shared/route"
)

// NextHopType is the next hop type of a user-defined route, as Azure spells it (RouteNextHopType).
type NextHopType string

// The types that Pointsman writes; others pass through as they are.
const (
	VirtualAppliance NextHopType = "VirtualAppliance"
)

// Route is one user-defined route as the planner sees it.
type Route struct {
	Name    string       // unique in the table, compared without case
	Address string       // addressPrefix as it stands in the table: a prefix or a service tag
	Prefix  netip.Prefix // Address in canonical form; invalid for a service tag
	Type    NextHopType
	NextHop netip.Addr // with VirtualAppliance
}

// Table is a route table as read, with what is needed to write it back.
type Table struct {
	ID     string
	ETag   string // of the read; a write happens only If-Match
	Routes []Route
	// Failed: the last write was accepted and then failed. The table shows its content, and Azure may not have put it in force.
	Failed bool
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

// NewRoute returns a route as an adapter reads it.
func NewRoute(name, address string, typ NextHopType, nextHop netip.Addr) Route {
	return Route{Name: name, Address: address, Prefix: prefixOf(address), Type: typ, NextHop: nextHop.Unmap()}
}
