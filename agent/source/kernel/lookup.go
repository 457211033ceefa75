package kernel

import (
	"net/netip"
	"slices"
)

// Way is the route by which the kernel reaches an address.
type Way struct {
	Prefix   netip.Prefix
	Protocol string     // as iproute2 names it
	Dynamic  bool       // a routing daemon put it there
	Via      netip.Addr // of the first leg; invalid: directly on the link
	Link     string     // of the first leg
}

// dynamic reports whether routes of a protocol are a daemon's, which come and go. What people, boot scripts and DHCP set is not; neither is an unknown protocol.
func dynamic(protocol string) bool {
	return slices.Contains([]string{"zebra", "bird", "xorp", "babel", "openr", "bgp", "isis", "ospf", "rip", "nhrp", "eigrp", "ldp", "sharp", "pbr", "openfabric", "srte", "keepalived"}, protocol)
}
