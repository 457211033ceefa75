package route_test

import (
	"net/netip"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/route"
)

func addresses() *rapid.Generator[[]netip.Addr] {
	return rapid.SliceOfN(rapid.Custom(func(t *rapid.T) netip.Addr {
		n := rapid.Byte().Draw(t, "n")
		switch {
		case n == 0:
			return netip.Addr{}
		case n%3 == 0:
			return netip.AddrFrom16([16]byte{0: 0xfd, 15: n % 8})
		}
		return netip.AddrFrom4([4]byte{10, 0, n % 2, n % 8})
	}), 0, 6)
}

// TestNextHopsAreASet: equal contents are equal values, and what goes in comes out.
func TestNextHopsAreASet(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := addresses().Draw(t, "a"), addresses().Draw(t, "b")
		model := func(list []netip.Addr) map[netip.Addr]bool {
			out := map[netip.Addr]bool{}
			for _, x := range list {
				if x.IsValid() {
					out[x] = true
				}
			}
			return out
		}
		in := model(a)
		set, other := route.NextHopsOf(a...), route.NextHopsOf(b...)
		if again := route.NextHopsOf(rapid.Permutation(append(slices.Clone(a), a...)).Draw(t, "order")...); again != set {
			t.Fatalf("%v and %v: one content, two values", a, again)
		}
		got := set.Addrs()
		if len(got) != len(in) || !slices.IsSortedFunc(got, netip.Addr.Compare) || set.Empty() != (len(in) == 0) || set.Several() != (len(in) > 1) {
			t.Fatalf("%v became %v", a, got)
		}
		if len(got) > 0 && set.First() != got[0] {
			t.Fatalf("the first of %v is %s", got, set.First())
		}
		rest := model(set.Without(other).Addrs())
		for _, x := range append(a, b...) {
			if set.Contains(x) != in[x] {
				t.Fatalf("%v contains %s: %t", got, x, set.Contains(x))
			}
			if want := in[x] && !model(b)[x]; rest[x] != want {
				t.Fatalf("%v without %v has %s: %t", a, b, x, rest[x])
			}
		}
	})
}

func TestNextHopsInWords(t *testing.T) {
	a, b := netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("10.0.0.12")
	for want, set := range map[string]route.NextHops{
		"": route.NextHopsOf(netip.Addr{}), "10.0.0.4": route.NextHopsOf(a), "10.0.0.4,10.0.0.12": route.NextHopsOf(b, a, netip.Addr{}, b),
	} {
		if set.String() != want {
			t.Errorf("%q, want %q", set.String(), want)
		}
	}
}
