package kernel

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Family is an address family to watch.
type Family uint8

// The address families.
const (
	IPv4 Family = iota + 1
	IPv6
)

// String names the family.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "ipv4"
	case IPv6:
		return "ipv6"
	}
	return fmt.Sprintf("family(%d)", uint8(f))
}

// Match is one line of a prefix list, with the meaning routers give it: a route matches if it lies inside Prefix and its
// length is between GE and LE. Without GE and LE only Prefix itself matches; GE alone reaches up to the host length, LE
// alone starts at Prefix's own length. "0.0.0.0/0 le 32" is every IPv4 route.
type Match struct {
	// Prefix must be masked.
	Prefix netip.Prefix
	// GE and LE bound the route's prefix length in bits; 0 is unset.
	GE, LE int
}

// Config says which kernel routes are watched, and how. The zero value is useful: see [Config.WithDefaults].
type Config struct {
	// Tables are the routing tables to watch; their order breaks ties between routes of equal metric. Default: main (254).
	// The local table (255) is never watched.
	Tables []uint32
	// Protocols are the route protocols that count (rtm_protocol, see /etc/iproute2/rt_protos). Default: all but redirect
	// (1), kernel (2) and ra (9). A route that a person adds by "ip route add" has 3, boot.
	Protocols []uint8
	// Interfaces, if any, are the only links by which a route may leave. A multipath route needs one leg on such a link.
	Interfaces []string
	// Include, if any, are the prefixes to watch; Exclude wins over it. Link-local, loopback, multicast and IPv4-mapped
	// prefixes are never watched.
	Include, Exclude []Match
	// Families to watch. Default: both.
	Families []Family
	// Blackhole makes routes that discard (blackhole, unreachable, prohibit) count: NVAs often anchor an aggregate so.
	Blackhole bool
	// KeepLinkdown makes routes count although their link has no carrier. By default they are gone, since a packet sent
	// there is lost; the kernel itself keeps forwarding unless net.ipv4.conf.*.ignore_routes_with_linkdown is set.
	KeepLinkdown bool
	// ReadBuffer is the socket's receive buffer in bytes, forced past net.core.rmem_max where permitted. A waiting event
	// takes about 416 bytes of it. Default: 8 MiB, good for 20,000 events.
	ReadBuffer int
	// Resync is the time between full dumps when nothing raises doubt. Default: 5 minutes.
	Resync time.Duration
	// Debounce is the quiet time after the last doubt before the kernel is dumped; MaxDebounce is the longest time after
	// the first. Defaults: 50 ms and 500 ms.
	Debounce, MaxDebounce time.Duration
	// NetNS is a file descriptor of the network namespace to watch; it must stay open as long as the watcher runs.
	// 0 is the namespace of the calling thread.
	NetNS int
}

// Routing tables, protocols and route types as the kernel numbers them (include/uapi/linux/rtnetlink.h).
const (
	tableMain  = 254
	tableLocal = 255

	protocolRedirect = 1
	protocolKernel   = 2
	protocolRA       = 9

	kindUnicast     = 1
	kindBlackhole   = 6
	kindUnreachable = 7
	kindProhibit    = 8
)

// WithDefaults returns the configuration with every unset field at its documented default.
func (c Config) WithDefaults() Config {
	if len(c.Tables) == 0 {
		c.Tables = []uint32{tableMain}
	}
	if len(c.Families) == 0 {
		c.Families = []Family{IPv4, IPv6}
	}
	setDefault(&c.ReadBuffer, 8<<20)
	setDefault(&c.Resync, 5*time.Minute)
	setDefault(&c.Debounce, 50*time.Millisecond)
	setDefault(&c.MaxDebounce, max(500*time.Millisecond, c.Debounce))
	return c
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Validate reports everything that is wrong with the configuration, joined; nil if it can be run.
func (c Config) Validate() error {
	var problems []error
	report := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	for _, t := range c.Tables {
		if t == 0 || t == tableLocal {
			report("table %d: want a routing table other than 0 and local (255)", t)
		}
	}
	for _, f := range c.Families {
		if f != IPv4 && f != IPv6 {
			report("%v: want ipv4 or ipv6", f)
		}
	}
	for _, m := range slices.Concat(c.Include, c.Exclude) {
		if err := m.validate(); err != nil {
			problems = append(problems, err)
		}
	}
	if c.ReadBuffer < 0 || c.Resync < 0 || c.Debounce < 0 || c.MaxDebounce < 0 {
		report("readBuffer, resync, debounce and maxDebounce must not be negative")
	}
	if c.MaxDebounce != 0 && c.MaxDebounce < c.Debounce {
		report("maxDebounce %v is shorter than debounce %v", c.MaxDebounce, c.Debounce)
	}
	return errors.Join(problems...)
}

func (m Match) validate() error {
	if !m.Prefix.IsValid() || m.Prefix != m.Prefix.Masked() || m.Prefix.Addr().Is4In6() {
		return fmt.Errorf("match %v: want a valid, masked prefix", m.Prefix)
	}
	low, high := m.bounds()
	if low < m.Prefix.Bits() || low > high || high > m.Prefix.Addr().BitLen() {
		return fmt.Errorf("match %v ge %d le %d: want %d <= ge <= le <= %d",
			m.Prefix, m.GE, m.LE, m.Prefix.Bits(), m.Prefix.Addr().BitLen())
	}
	return nil
}

// bounds returns the shortest and longest prefix length that match.
func (m Match) bounds() (low, high int) {
	low, high = m.Prefix.Bits(), m.Prefix.Bits()
	if m.GE != 0 {
		low, high = m.GE, m.Prefix.Addr().BitLen()
	}
	if m.LE != 0 {
		high = m.LE
	}
	return low, high
}

func (m Match) matches(p netip.Prefix) bool {
	low, high := m.bounds()
	return low <= p.Bits() && p.Bits() <= high && m.Prefix.Contains(p.Addr())
}

// holds reports whether routes of this table and prefix are held in the shadow table at all. It looks only at what an event
// about any route of that prefix also shows; what else a route must be to count is decided when it is chosen (counts), or a
// replacement by a route that does not count would go unseen.
func (c *Config) holds(table uint32, p netip.Prefix) bool {
	if table == tableLocal || !slices.Contains(c.Tables, table) || !slices.Contains(c.Families, familyOf(p)) {
		return false
	}
	if a := p.Addr(); a.IsLinkLocalUnicast() || a.IsMulticast() || a.IsLoopback() || a.Is4In6() {
		return false
	}
	matches := func(m Match) bool { return m.matches(p) }
	if len(c.Include) > 0 && !slices.ContainsFunc(c.Include, matches) {
		return false
	}
	return !slices.ContainsFunc(c.Exclude, matches)
}

// counts reports whether a held route of this protocol may be reported.
func (c *Config) counts(protocol uint8) bool {
	if len(c.Protocols) > 0 {
		return slices.Contains(c.Protocols, protocol)
	}
	return protocol != protocolKernel && protocol != protocolRA && protocol != protocolRedirect
}

func familyOf(p netip.Prefix) Family {
	if p.Addr().Is4() {
		return IPv4
	}
	return IPv6
}
