// Package source is the vocabulary between what watches routes on an NVA (the kernel, a BGP peer) and what keeps its RIB.
// It holds no code that does anything: a source calls a [Sink], a RIB implements one.
package source

import (
	"context"
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/shared/event"
)

// Route is one prefix as one source sees it: the best usable route to it, reduced to what the rest of the agent needs.
// A Route is a value; whoever receives one must not change NextHops, which may be shared.
type Route struct {
	// Prefix is masked and canonical (an IPv4 prefix is never IPv4-mapped). It is the identity: a source reports a prefix
	// at most once.
	Prefix netip.Prefix
	// Metric is the source's own preference, lower is better: the kernel's route metric, BGP's MED.
	Metric uint32
	// Origin names the protocol that put the route there: "bgp", "static", "zebra", "bird", "dhcp", "ospf", "kernel"; a
	// protocol without a name is its number in decimal.
	Origin string
	// NextHops are informative: sorted, without duplicates, empty for a route that is on-link or discards.
	NextHops []netip.Addr
	// Table is the kernel routing table (254 is main); 0 where a source has no tables.
	Table uint32
}

// Equal reports whether two routes say the same.
func (r Route) Equal(o Route) bool {
	return r.Prefix == o.Prefix && r.Metric == o.Metric && r.Origin == o.Origin && r.Table == o.Table &&
		slices.Equal(r.NextHops, o.NextHops)
}

// Sink receives what a source sees. A source calls it from one goroutine, in order; a call must not block for long, since a
// source that is not reading loses events. The slices belong to the sink after the call. Update never comes before the first
// Replace, and Replace follows every Lost as soon as the source sees again; it may come at any other time too.
type Sink interface {
	// Replace hands over the complete view, sorted by prefix: what is not in it is gone.
	Replace(all []Route)
	// Update hands over what differs from the view so far, both sorted by prefix, no prefix in both.
	Update(changed []Route, gone []netip.Prefix)
	// Lost says that the source has stopped seeing: what it reported stays but may be stale until the next Replace.
	Lost(reason error)
	// ControlLost says of which sessions with routing daemons the routes stay although they were lost too long ago for that to be a restart: nobody can
	// withdraw them. It replaces what was said before; a source that never says it has none. It comes before the first Replace, and after any other call that
	// it belongs to: whoever hears that a session is back has heard already what its routes are now.
	ControlLost(sessions []event.Session)
}

// Source watches routes.
type Source interface {
	// Run reports to sink until ctx is done, then returns nil. It recovers from passing errors by itself (after
	// Sink.Lost) and returns an error only if trying again cannot help: bad configuration, not permitted, not supported.
	Run(ctx context.Context, sink Sink) error
	// String names the source for people: "kernel tables 254".
	String() string
}
