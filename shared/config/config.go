// Package config is the domain file: the NVAs and targets that share a policy.
package config

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/signature"
)

// Domain is one domain file, valid and with defaults filled in.
type Domain struct {
	Name    string
	Policy  Policy
	Guards  Guards
	Spread  Spread
	NVAs    []NVA    // in the order of the file
	Targets []Target // in the order of the file
	Groups  []Group  // in the order of the file

	Operators    []Operator    // in the order of the file; empty: see Warrant
	RouteServers []RouteServer // in the order of the file; with Targets at least one
	Ranges       []Range       // in the order of the file: the first that matches wins
}

// Policy decides which NVA carries a prefix and when a change is written.
type Policy struct {
	Silence         Silence
	HoldDown        time.Duration // how long an NVA must be up, and a prefix announced, before it takes prefixes back from one that works; or Never
	AnswerWithin    time.Duration // how long an accused NVA may take to show that it lives; 0: until its dead-man switch fires
	Damping         Damping
	RouteNamePrefix string        // half of the proof that a route is managed; the other half is the target's document
	WritePrice      float64       // the accumulated staleness, in weighted prefix-seconds, that is worth a write
	WriteCap        time.Duration // no change waits longer than this for company
	Drift           Drift
}

// Drift says what to do about a managed route that another hand has changed.
type Drift uint8

// The answers to drift.
const (
	DriftRepair Drift = iota + 1 // write the route again
	DriftReport                  // leave it, show it, and work on with the others
)

// String returns the word of the domain file.
func (d Drift) String() string {
	if d == DriftReport {
		return "report"
	}
	return "repair"
}

// Never is a hold-down that only an operator's word ends.
const Never time.Duration = -1

// Damping keeps a prefix that comes and goes from returning to an NVA while another one works. The arithmetic is that of RFC 2439, section 4: every loss
// costs LossPenalty, the sum decays by half every HalfLife; once it has reached Suppress the prefix does not return before the sum is below Reuse. It never
// delays leaving.
type Damping struct {
	HalfLife        time.Duration // 0: no damping
	Suppress, Reuse float64
	Ceiling         float64 // the sum never grows above it: the longest wait is HalfLife times log2(Ceiling/Reuse)
}

// LossPenalty is what one loss of a prefix costs (RFC 2439, section 4.8.4).
const LossPenalty = 1000

// Silence says what it means that an agent is no longer heard while no witness can tell whether its NVA forwards.
type Silence uint8

// The meanings of silence. Whatever is chosen: when more than half are lost at once, those keep what they carry.
const (
	SilenceDown Silence = iota + 1 // treat the NVA as dead: move its prefixes to others that announce them
	SilenceHold                    // treat it as control lost: keep forwarding, show it
)

// String returns the word of the domain file.
func (s Silence) String() string {
	if s == SilenceHold {
		return "hold"
	}
	return "down"
}

// Guards stop plans that are more likely a mistake than news.
type Guards struct {
	// MaxRemovedShare is the largest share, 0 to 1, of a target's managed routes that one plan may withdraw. Plans that withdraw
	// fewer than MinRemoved routes are never stopped by it.
	MaxRemovedShare float64
	MinRemoved      int
	// MaxChangedShare is the largest share, 0.01 to 1, of a target's managed routes that one plan may move from a next hop that works to another; 0 and 1: no
	// guard. Leaving a next hop that does not work is never stopped.
	MaxChangedShare float64
	MinLive         int // while fewer of the target's NVAs are up nothing is withdrawn, and only next hops that do not work are left; 0: no guard
	OwnSubnet       OwnSubnet
}

// NVA is one appliance and what it may announce.
type NVA struct {
	Name        string
	NextHops    []netip.Addr // at most one per family
	Preference  int          // higher wins, as BGP local preference
	Weight      int          // in ModeSpread: an NVA of weight 2 carries twice as many sites as one of weight 1
	Allow       []route.Match
	MaxPrefixes int
	Keys        []signature.Key // one of these signs every event of it; empty: events need no signature
}

// NextHop returns the address that carries prefixes of p's family; invalid where the NVA has none.
func (n NVA) NextHop(p netip.Prefix) netip.Addr { return ofFamily(n.NextHops, p) }

// Target is an Azure route table that Pointsman keeps.
type Target struct {
	Name       string
	RouteTable string        // ARM resource id
	NVAs       []string      // who may be a next hop in it; all NVAs of the domain unless the file names some
	Prefixes   []route.Match // which prefixes belong in it; empty: all
	Limit      int           // routes the table may hold, unmanaged ones included
	Selection  Selection     // how next hops are chosen, but for the prefixes of Rules
	Rules      []Rule        // in the order of the file: the first that matches wins
	Side       string        // the spoke whose table it is, or North; needed where anything is in ModeSpread
	Apply      Apply
	Guards     *Guards        // nil: those of the domain
	Subnets    []netip.Prefix // address prefixes of the subnets that use the table, where the file declares them
}

// Wants reports whether p belongs in the target.
func (t Target) Wants(p netip.Prefix) bool {
	return len(t.Prefixes) == 0 || route.AnyMatches(t.Prefixes, p)
}

// Fed reports whether the NVA may be a next hop in the target.
func (t Target) Fed(nva string) bool { return slices.Contains(t.NVAs, nva) }

// NVA returns the NVA of that name.
func (d *Domain) NVA(name string) (NVA, bool) {
	i := slices.IndexFunc(d.NVAs, func(n NVA) bool { return n.Name == name })
	if i < 0 {
		return NVA{}, false
	}
	return d.NVAs[i], true
}

// Target returns the target of that name.
func (d *Domain) Target(name string) (Target, bool) {
	i := slices.IndexFunc(d.Targets, func(t Target) bool { return t.Name == name })
	if i < 0 {
		return Target{}, false
	}
	return d.Targets[i], true
}

// FedBy returns the targets, Route Servers too, in which the NVA may be a next hop, in the order of the file.
func (d *Domain) FedBy(nva string) []Target {
	var out []Target
	for _, t := range d.All() {
		if t.Fed(nva) {
			out = append(out, t)
		}
	}
	return out
}

// SameTable reports whether two ARM resource ids name one object: ARM compares them without case.
func SameTable(a, b string) bool {
	return strings.EqualFold(strings.Trim(a, "/"), strings.Trim(b, "/"))
}
