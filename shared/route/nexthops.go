package route

import (
	"net/netip"
	"slices"
	"strings"
)

// NextHops is a set of next hop addresses. It is a value: it never changes, and two sets are equal if == says so. The zero set is empty.
type NextHops struct {
	first  netip.Addr // the smallest; invalid: the set is empty
	others string     // the rest, ascending, as text with a comma before each: only a set of several costs memory
}

// NextHopsOf returns the set of the addresses. Their order and repetitions do not matter; invalid ones, which mean "none", are left out.
func NextHopsOf(addrs ...netip.Addr) NextHops {
	if len(addrs) == 1 {
		return NextHops{first: addrs[0]}
	}
	list := slices.DeleteFunc(slices.Clone(addrs), func(a netip.Addr) bool { return !a.IsValid() })
	slices.SortFunc(list, netip.Addr.Compare)
	list = slices.Compact(list)
	if len(list) == 0 {
		return NextHops{}
	}
	var others strings.Builder
	for _, a := range list[1:] {
		others.WriteByte(',')
		others.WriteString(a.String())
	}
	return NextHops{first: list[0], others: others.String()}
}

// Empty reports whether the set has no address.
func (h NextHops) Empty() bool { return !h.first.IsValid() }

// Several reports whether the set has more than one address.
func (h NextHops) Several() bool { return h.others != "" }

// First returns the smallest address; invalid where the set is empty.
func (h NextHops) First() netip.Addr { return h.first }

// Addrs returns the addresses in ascending order.
func (h NextHops) Addrs() []netip.Addr {
	if h.Empty() {
		return nil
	}
	out := []netip.Addr{h.first}
	for _, text := range strings.Split(h.others, ",")[1:] {
		out = append(out, netip.MustParseAddr(text)) // we wrote it
	}
	return out
}

// Contains reports whether a is in the set; an invalid address never is.
func (h NextHops) Contains(a netip.Addr) bool {
	return a.IsValid() && (a == h.first || h.Several() && slices.Contains(h.Addrs()[1:], a))
}

// Without returns the addresses of the set that are not in other.
func (h NextHops) Without(other NextHops) NextHops {
	if h.Empty() || h == other {
		return NextHops{}
	}
	return NextHopsOf(slices.DeleteFunc(h.Addrs(), other.Contains)...)
}

// String returns the addresses in ascending order, with commas between them; "" where there is none.
func (h NextHops) String() string {
	if h.Empty() {
		return ""
	}
	return h.first.String() + h.others
}
