// Package routeserver announces the routes of this NVA to an Azure Route Server, by BGP to both of its instances.
//
// Azure's rules are strict, and breaking one costs the session and with it every route of the NVA. So what is sent is decided by a [Machine] that is
// told everything and sends nothing itself; [Speaker] carries it out over sessions such as those of routeserver/session.
//
// Sources: "Azure Route Server FAQ", "Troubleshoot Azure Route Server issues", "Next hop IP support", the limits of Route Server.
package routeserver

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

// AS is Route Server's own AS number (FAQ).
const AS = 65515

// Instances is how many instances every Route Server has. An NVA must peer with both and announce the same to both (FAQ).
const Instances = 2

// DefaultRouteLimit is how many routes Route Server takes from one peer before it closes the session (FAQ, 2025-09).
const DefaultRouteLimit = 4000

// MaxRank is the last rank among backups. MaxRank+1 is that of an NVA that is drained.
const MaxRank = 8

// MaxLearned bounds the routes that are kept of one instance: twice what Route Server can have (10,000 in total, whatever its capacity).
const MaxLearned = 20_000

// Config says who the NVA is to Route Server and what it announces there.
type Config struct {
	AS           uint16
	RouterID     netip.Addr            // IPv4
	Instances    [Instances]netip.Addr // virtualRouterIps of the resource; IPv4
	Port         uint16
	LocalAddress netip.Addr // that sessions are opened from; zero: the kernel chooses

	HoldTime time.Duration // whole seconds; the lower of both sides counts (RFC 4271, section 4.2)
	// RestartTime is how long the instances are asked to keep the routes of a session that was lost (RFC 4724); 0: not at all. The death of the
	// NVA is noticed later by it.
	RestartTime time.Duration

	// Route Server prefers the shortest AS_PATH and shares among equal ones. An NVA of rank n prepends its own AS n times.
	Rank  int
	Ranks []RankRule // the first that fits decides in the place of Rank

	NextHop     netip.Addr // of the routes, such as the frontend of a load balancer; zero: the address that the session is opened from
	Communities []bgp.Community

	Include, Exclude []route.Match // prefixes of the RIB; no Include: all. Exclude wins
	DefaultRoute     bool          // 0.0.0.0/0 may be announced. It attracts the NVA's own traffic too (troubleshooting page)

	RouteLimit int
	// Pace is the time within which re-advertised routes together stay within half of RouteLimit, and within what RouteLimit leaves.
	Pace time.Duration
}

// RankRule gives a rank to the prefixes that it matches.
type RankRule struct {
	Match route.Match
	Rank  int
}

// ParseRankRule reads "10.1.0.0/16 le 24 rank 1".
func ParseRankRule(s string) (RankRule, error) {
	match, number, found := strings.Cut(s, " rank ")
	if !found {
		return RankRule{}, fmt.Errorf("found %q", s)
	}
	m, err := route.ParseMatch(strings.TrimSpace(match))
	if err != nil {
		return RankRule{}, fmt.Errorf("found %q: %w", s, err)
	}
	n, err := strconv.Atoi(strings.TrimSpace(number))
	if err != nil || n < 0 || n > MaxRank {
		return RankRule{}, fmt.Errorf("found %q: %q is not a rank from 0 to %d", s, number, MaxRank)
	}
	return RankRule{m, n}, nil
}

// String returns the form that ParseRankRule reads.
func (r RankRule) String() string { return fmt.Sprintf("%v rank %d", r.Match, r.Rank) }

// ParseAS reads the AS of an NVA. Route Server takes numbers of 16 bits and refuses those that Azure, or IANA, has reserved (FAQ).
func ParseAS(s string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	switch {
	case err != nil || n == 0:
		return 0, fmt.Errorf("found %q", s)
	case n == AS:
		return 0, errors.New("found 65515, which is Route Server's own: it would drop every route as a loop")
	case n > 65535:
		return 0, fmt.Errorf("found %d: Route Server takes AS numbers of 16 bits only", n)
	case reserved(n):
		return 0, fmt.Errorf("found %d, which Route Server refuses as reserved", n)
	}
	return uint16(n), nil
}

// reserved reports whether a peer of Route Server must not have the AS number. 65535 to 65551 are in the list as well; of those only the first has
// 16 bits.
func reserved(n uint64) bool {
	return slices.Contains([]uint64{8074, 8075, 12076, 23456, 65535}, n) || n >= 65517 && n <= 65520 || n >= 64496 && n <= 64511
}

// passes reports whether a prefix of the RIB may be announced. Route Server takes IPv4 only.
func (c *Config) passes(p netip.Prefix) bool {
	return p.Addr().Is4() && (p.Bits() > 0 || c.DefaultRoute) && !route.AnyMatches(c.Exclude, p) &&
		(len(c.Include) == 0 || route.AnyMatches(c.Include, p))
}

// rank returns the rank of a prefix.
func (c *Config) rank(p netip.Prefix) int {
	for _, r := range c.Ranks {
		if r.Match.Matches(p) {
			return r.Rank
		}
	}
	return c.Rank
}

// half is the most that may be re-advertised within Pace: Route Server counts a route that it has and that an UPDATE carries again twice (FAQ: 2,001
// routes announced again are 4,002).
func (c *Config) half() int { return c.RouteLimit / 2 }

// reserve is what re-advertising leaves free for news.
func (c *Config) reserve() int { return c.RouteLimit / 16 }

// floor is how many routes change within Pace at least, however full the table is: where there is no room to announce a route again, it is withdrawn
// in the UPDATE before.
func (c *Config) floor() int { return max(1, c.RouteLimit/8) }
