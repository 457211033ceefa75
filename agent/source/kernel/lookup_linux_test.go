package kernel

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/test/netns"
)

// TestLookup: the route is that of the table, as a person or a daemon put it there.
func TestLookup(t *testing.T) {
	ns, far := netns.New(t), netns.New(t)
	if err := netns.Pair(ns, far, "wan0", "far0"); err != nil {
		t.Fatal(err)
	}
	if err := ns.Batch("addr add 192.0.2.1/24 dev wan0", "addr add fd00::1/64 dev wan0 nodad", "route add default via 192.0.2.254 proto dhcp", "route add 203.0.113.0/24 via 192.0.2.9 proto bird",
		"route add 198.51.100.0/24 via 192.0.2.8 proto static", "route add 2001:db8::/32 via fd00::9 proto bgp", "route add ::/0 via fd00::8 proto ra"); err != nil {
		t.Fatal(err)
	}
	for to, want := range map[string]Way{
		"192.0.2.7":    {Prefix: netip.MustParsePrefix("192.0.2.0/24"), Protocol: "kernel", Link: "wan0"},
		"203.0.113.7":  {Prefix: netip.MustParsePrefix("203.0.113.0/24"), Protocol: "bird", Dynamic: true, Via: netip.MustParseAddr("192.0.2.9"), Link: "wan0"},
		"198.51.100.7": {Prefix: netip.MustParsePrefix("198.51.100.0/24"), Protocol: "static", Via: netip.MustParseAddr("192.0.2.8"), Link: "wan0"},
		"8.8.8.8":      {Prefix: netip.MustParsePrefix("0.0.0.0/0"), Protocol: "dhcp", Via: netip.MustParseAddr("192.0.2.254"), Link: "wan0"},
		"2001:db8::7":  {Prefix: netip.MustParsePrefix("2001:db8::/32"), Protocol: "bgp", Dynamic: true, Via: netip.MustParseAddr("fd00::9"), Link: "wan0"},
		"2001:db9::7":  {Prefix: netip.MustParsePrefix("::/0"), Protocol: "ra", Via: netip.MustParseAddr("fd00::8"), Link: "wan0"},
		"127.0.0.1":    {Prefix: netip.MustParsePrefix("127.0.0.1/32"), Protocol: "kernel"},
	} {
		got, err := Lookup(t.Context(), Config{NetNS: ns.FD()}, netip.MustParseAddr(to))
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); err != nil || diff != "" {
			t.Errorf("%s: %v\n%s", to, err, diff)
		}
	}
	if _, err := Lookup(t.Context(), Config{NetNS: far.FD()}, netip.MustParseAddr("8.8.8.8")); err == nil {
		t.Error("an address that cannot be reached is reached")
	}
}
