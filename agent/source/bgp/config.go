package bgp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/shared/route"
)

// Family is an address family with its subsequent family. Source: RFC 4760, section 3.
type Family uint8

// The families that can be learned.
const (
	IPv4Unicast Family = iota + 1
	IPv6Unicast
	families = int(IPv6Unicast)
)

// Families returns all families, in their order.
func Families() []Family { return []Family{IPv4Unicast, IPv6Unicast} }

// String returns the word of the configuration.
func (f Family) String() string {
	switch f {
	case IPv4Unicast:
		return "ipv4-unicast"
	case IPv6Unicast:
		return "ipv6-unicast"
	}
	return fmt.Sprintf("family-%d", uint8(f))
}

func familyOf(p netip.Prefix) Family {
	if p.Addr().Is4() {
		return IPv4Unicast
	}
	return IPv6Unicast
}

// Config says who the source is to its peers and which of their routes count.
type Config struct {
	AS       uint32
	RouterID netip.Addr     // IPv4. An iBGP peer refuses a session with its own (RFC 4271, section 6.2)
	Listen   netip.AddrPort // zero: no listening, all sessions are opened from here
	Peers    []Peer         // in the order that breaks the last tie

	// RestartTime is how long the routes of a lost session are stale before OnSessionLoss applies. A peer that asked for
	// more in its graceful restart capability (RFC 4724) gets it.
	RestartTime   time.Duration
	OnSessionLoss OnSessionLoss

	// A route that the following refuse counts as not announced.
	Include, Exclude []route.Match // prefixes; no Include: all. Exclude wins
	Communities      Communities
	ASPath           ASPath

	MaxPrefixes   int // of one peer and family, as received, the refused ones included
	OnMaxPrefixes OnMaxPrefixes

	// Metric gives the route its metric: the first rule that fits, else MULTI_EXIT_DISC (RFC 4271, section 5.1.4), else 0.
	Metric []MetricRule
}

// Peer is one BGP neighbor.
type Peer struct {
	Name         string
	Address      netip.Addr
	Port         uint16     // where it listens; of no use if Passive
	LocalAddress netip.Addr // that the session is opened from; zero: the kernel chooses
	AS           uint32     // the source's own: iBGP
	Passive      bool       // wait for the peer to open the session
	Multihop     uint8      // TTL of what is sent to an eBGP peer; 0: 1, the peer is on the same link
	TTLSecurity  uint8      // hops at which the peer may be (RFC 5082); 0: off
	PasswordFile string     // holds the TCP MD5 key (RFC 2385); empty: none
	Families     []Family
	HoldTime     time.Duration
	Weight       uint32 // of two peers with one prefix the higher wins
}

// OnSessionLoss says what becomes of the routes of a session that is not back within the restart time.
type OnSessionLoss uint8

// What can become of them.
const (
	Keep     OnSessionLoss = iota + 1 // they stay: a session that is gone says nothing about the routes
	Withdraw                          // they are withdrawn
)

// String returns the word of the configuration.
func (o OnSessionLoss) String() string {
	switch o {
	case Keep:
		return "keep"
	case Withdraw:
		return "withdraw"
	}
	return fmt.Sprintf("onSessionLoss-%d", uint8(o))
}

// OnMaxPrefixes says what happens to a peer that announces more than MaxPrefixes. What it announced before stays in any case.
type OnMaxPrefixes uint8

// What can happen to it.
const (
	// Hold keeps the session, follows the prefixes that are known, takes no new one. At [HoldFactor] times the limit the
	// session is closed all the same, to save the memory.
	Hold OnMaxPrefixes = iota + 1
	// Cease closes the session at once (RFC 4486: Cease, Maximum Number of Prefixes Reached) and tries again later.
	Cease
)

// HoldFactor times MaxPrefixes is where a peer that is held is cut off.
const HoldFactor = 4

// String returns the word of the configuration.
func (o OnMaxPrefixes) String() string {
	switch o {
	case Hold:
		return "hold"
	case Cease:
		return "cease"
	}
	return fmt.Sprintf("onMaxPrefixes-%d", uint8(o))
}

// CeaseAt is the number of prefixes of one family above which a speaker closes the session.
func (c *Config) CeaseAt() int {
	if c.OnMaxPrefixes == Hold {
		return HoldFactor * c.MaxPrefixes
	}
	return c.MaxPrefixes
}

// Communities choose routes by their communities.
type Communities struct {
	Allow []Community // if any, a route needs one of them
	Deny  []Community // wins over Allow
}

// ASPath chooses routes by their AS_PATH.
type ASPath struct {
	Deny      []uint32 // a route through one of these is refused
	MaxLength int      // as best path selection counts it (RFC 4271, section 9.1.2.2); 0: any
}
