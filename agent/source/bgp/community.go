package bgp

import (
	"fmt"
	"strconv"
	"strings"
)

// Community is a community (RFC 1997: two numbers of 16 bits) or a large community (RFC 8092: three of 32 bits). Communities are
// comparable.
type Community struct {
	global, first, second uint32
	large                 bool
}

// NewCommunity returns a community of RFC 1997: the AS is in the upper 16 bits.
func NewCommunity(v uint32) Community { return Community{global: v >> 16, first: v & 0xffff} }

// NewLargeCommunity returns a community of RFC 8092.
func NewLargeCommunity(global, first, second uint32) Community {
	return Community{global: global, first: first, second: second, large: true}
}

// Numbers returns the parts of a community: two of RFC 1997, where large is false, or three of RFC 8092.
func (c Community) Numbers() (global, first, second uint32, large bool) {
	return c.global, c.first, c.second, c.large
}

// MarshalText implements [encoding.TextMarshaler] in the form of String.
func (c Community) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// wellKnown are the communities with a name in FRR. Source: IANA, BGP Well-known Communities.
func wellKnown() []struct {
	name  string
	value uint32
} {
	return []struct {
		name  string
		value uint32
	}{
		{"graceful-shutdown", 0xffff0000},
		{"accept-own", 0xffff0001},
		{"llgr-stale", 0xffff0006},
		{"no-llgr", 0xffff0007},
		{"blackhole", 0xffff029a},
		{"no-export", 0xffffff01},
		{"no-advertise", 0xffffff02},
		{"local-AS", 0xffffff03},
		{"no-peer", 0xffffff04},
	}
}

// ParseCommunity reads "65010:100", "4200000000:1:2" or a well-known name such as "no-export".
func ParseCommunity(s string) (Community, error) {
	for _, w := range wellKnown() {
		if w.name == s {
			return NewCommunity(w.value), nil
		}
	}
	parts := strings.Split(s, ":")
	bits := map[int]int{2: 16, 3: 32}[len(parts)]
	if bits == 0 {
		return Community{}, fmt.Errorf("found %q", s)
	}
	var numbers [3]uint32
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, bits)
		if err != nil {
			return Community{}, fmt.Errorf("found %q: %q is not a number of %d bits", s, part, bits)
		}
		numbers[i] = uint32(n)
	}
	return Community{numbers[0], numbers[1], numbers[2], len(parts) == 3}, nil
}

// String returns the form that ParseCommunity reads, without names.
func (c Community) String() string {
	if c.large {
		return fmt.Sprintf("%d:%d:%d", c.global, c.first, c.second)
	}
	return fmt.Sprintf("%d:%d", c.global, c.first)
}
