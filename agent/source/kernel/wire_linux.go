package kernel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Decoding of rtnetlink messages (rtnetlink(7), include/uapi/linux/{rtnetlink,nexthop,if_link}.h). Numbers are in host
// order, addresses in network order.

// errIgnored marks a well-formed message that is not about a route, link or nexthop of ours: another address family, a
// cached clone, a route that also depends on the packet's source.
var errIgnored = errors.New("not of interest")

const (
	sizeofNhmsg      = 8 // struct nhmsg
	sizeofGroupEntry = 8 // struct nexthop_grp

	rtaNexthopID = 30 // RTA_NH_ID, since Linux 5.3

	// NHA_ attributes of a nexthop object (include/uapi/linux/nexthop.h).
	nhaID        = 1
	nhaGroup     = 2
	nhaBlackhole = 4
	nhaOIF       = 5
	nhaGateway   = 6
)

// attributes walks a run of struct rtattr / struct nlattr.
type attributes struct {
	rest []byte
	kind uint16
	data []byte
	err  error
}

// next moves to the next attribute; false at the end or at a malformed one (err).
func (a *attributes) next() bool {
	if len(a.rest) == 0 {
		return false
	}
	if len(a.rest) < unix.SizeofRtAttr {
		a.err = fmt.Errorf("attribute header: %d bytes", len(a.rest))
		return false
	}
	size := int(binary.NativeEndian.Uint16(a.rest))
	if size < unix.SizeofRtAttr || size > len(a.rest) {
		a.err = fmt.Errorf("attribute of %d bytes in %d", size, len(a.rest))
		return false
	}
	a.kind = binary.NativeEndian.Uint16(a.rest[2:]) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	a.data = a.rest[unix.SizeofRtAttr:size]
	a.rest = a.rest[min(align4(size), len(a.rest)):]
	return true
}

func (a *attributes) uint32() uint32 {
	if len(a.data) != 4 {
		a.err = fmt.Errorf("attribute %d: %d bytes, want 4", a.kind, len(a.data))
		return 0
	}
	return binary.NativeEndian.Uint32(a.data)
}

// address reads an IPv4 or IPv6 address by its length.
func (a *attributes) address(b []byte) netip.Addr {
	addr, ok := netip.AddrFromSlice(b)
	if !ok {
		a.err = fmt.Errorf("attribute %d: address of %d bytes", a.kind, len(b))
	}
	return addr
}

func align4(n int) int { return (n + 3) &^ 3 }

// decodeRoute decodes the payload of RTM_NEWROUTE and RTM_DELROUTE (struct rtmsg).
func decodeRoute(b []byte) (route, error) {
	if len(b) < unix.SizeofRtMsg {
		return route{}, fmt.Errorf("route message: %d bytes", len(b))
	}
	family, bits, flags := b[0], int(b[1]), binary.NativeEndian.Uint32(b[8:])
	if family != unix.AF_INET && family != unix.AF_INET6 || flags&unix.RTM_F_CLONED != 0 || b[2] != 0 {
		return route{}, errIgnored
	}
	r := route{entry: entry{tos: b[3], table: uint32(b[4]), protocol: b[5], kind: b[7]}}
	dst := unspecified(family)
	single := leg{flags: legFlags(flags) & (legDead | legLinkdown)}
	a := attributes{rest: b[unix.SizeofRtMsg:]}
	for a.err == nil && a.next() {
		switch a.kind {
		case unix.RTA_DST:
			dst = a.address(a.data)
		case unix.RTA_PRIORITY:
			r.metric = a.uint32()
		case unix.RTA_TABLE:
			r.table = a.uint32()
		case rtaNexthopID:
			r.nexthop = a.uint32()
		case unix.RTA_MULTIPATH:
			r.legs = a.multipath()
		default:
			a.leg(&single)
		}
	}
	if a.err != nil {
		return route{}, fmt.Errorf("route message: %w", a.err)
	}
	if dst.Is4() != (family == unix.AF_INET) || bits > dst.BitLen() {
		return route{}, fmt.Errorf("route message: destination %v/%d in family %d", dst, bits, family)
	}
	r.prefix = netip.PrefixFrom(dst, bits).Masked()
	r.legs = legsOf(r.entry, single)
	return r, nil
}

// legsOf settles the legs of a route: none for one that discards (IPv6 names lo there), one if it is not multipath.
func legsOf(e entry, single leg) []leg {
	if e.kind != kindUnicast {
		return nil
	}
	if len(e.legs) == 0 && (single.link != 0 || single.via.IsValid()) {
		return []leg{single}
	}
	return e.legs
}

func unspecified(family uint8) netip.Addr {
	if family == unix.AF_INET {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

// leg reads the attributes that a single route and a multipath leg have in common.
func (a *attributes) leg(l *leg) {
	switch a.kind {
	case unix.RTA_OIF:
		l.link = a.uint32()
	case unix.RTA_GATEWAY:
		l.via = a.address(a.data)
	case unix.RTA_VIA: // struct rtvia: an address family, then a gateway of it
		if len(a.data) < 2 {
			a.err = fmt.Errorf("RTA_VIA: %d bytes", len(a.data))
			return
		}
		l.via = a.address(a.data[2:])
	}
}

// multipath reads a run of struct rtnexthop.
func (a *attributes) multipath() []leg {
	var legs []leg
	for b := a.data; len(b) > 0; {
		if len(b) < unix.SizeofRtNexthop {
			a.err = fmt.Errorf("multipath leg: %d bytes", len(b))
			return nil
		}
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			a.err = fmt.Errorf("multipath leg of %d bytes in %d", size, len(b))
			return nil
		}
		l := leg{flags: legFlags(b[2]) & (legDead | legLinkdown), link: binary.NativeEndian.Uint32(b[4:])}
		inner := attributes{rest: b[unix.SizeofRtNexthop:size]}
		for inner.err == nil && inner.next() {
			inner.leg(&l)
		}
		if inner.err != nil {
			a.err = inner.err
			return nil
		}
		legs = append(legs, l)
		b = b[min(align4(size), len(b)):]
	}
	return legs
}

// decodeLink decodes the payload of RTM_NEWLINK and RTM_DELLINK (struct ifinfomsg).
func decodeLink(b []byte) (index uint32, l link, err error) {
	if len(b) < unix.SizeofIfInfomsg {
		return 0, link{}, fmt.Errorf("link message: %d bytes", len(b))
	}
	if b[0] != unix.AF_UNSPEC { // a bridge reports its ports as links of family AF_BRIDGE, deleted when they leave it
		return 0, link{}, errIgnored
	}
	index, l.state = binary.NativeEndian.Uint32(b[4:]), stateOf(binary.NativeEndian.Uint32(b[8:]))
	a := attributes{rest: b[unix.SizeofIfInfomsg:]}
	for a.err == nil && a.next() {
		if a.kind == unix.IFLA_IFNAME {
			l.name = unix.ByteSliceToString(a.data)
		}
	}
	if a.err != nil {
		return 0, link{}, fmt.Errorf("link message: %w", a.err)
	}
	return index, l, nil
}

// stateOf judges a link by its flags as the kernel's FIB does (net/ipv4/fib_frontend.c, fib_netdev_event).
func stateOf(flags uint32) linkState {
	if flags&unix.IFF_UP == 0 {
		return linkDown
	}
	if flags&(unix.IFF_RUNNING|unix.IFF_LOWER_UP) == 0 {
		return linkNoCarrier
	}
	return linkUp
}

// decodeNexthop decodes the payload of RTM_NEWNEXTHOP and RTM_DELNEXTHOP (struct nhmsg).
func decodeNexthop(b []byte) (id uint32, n nexthop, err error) {
	if len(b) < sizeofNhmsg {
		return 0, nexthop{}, fmt.Errorf("nexthop message: %d bytes", len(b))
	}
	n.flags = legFlags(binary.NativeEndian.Uint32(b[4:])) & (legDead | legLinkdown)
	a := attributes{rest: b[sizeofNhmsg:]}
	for a.err == nil && a.next() {
		switch a.kind {
		case nhaID:
			id = a.uint32()
		case nhaGroup:
			n.members = a.members()
		case nhaBlackhole:
			n.blackhole = true
		case nhaOIF:
			n.link = a.uint32()
		case nhaGateway:
			n.via = a.address(a.data)
		}
	}
	if a.err == nil && id == 0 {
		a.err = errors.New("no id")
	}
	if a.err != nil {
		return 0, nexthop{}, fmt.Errorf("nexthop message: %w", a.err)
	}
	return id, n, nil
}

// members reads a run of struct nexthop_grp.
func (a *attributes) members() []uint32 {
	if len(a.data)%sizeofGroupEntry != 0 {
		a.err = fmt.Errorf("nexthop group of %d bytes", len(a.data))
		return nil
	}
	ids := make([]uint32, 0, len(a.data)/sizeofGroupEntry)
	for b := a.data; len(b) > 0; b = b[sizeofGroupEntry:] {
		ids = append(ids, binary.NativeEndian.Uint32(b))
	}
	return ids
}

// verbOf says what a route message does, by its type and the flags of its header (net/ipv4/fib_trie.c fib_table_insert,
// net/ipv6/ip6_fib.c fib6_add_rt2node): EXCL stands for "there was none", and is absent from an IPv6 multipath route.
func verbOf(kind, flags uint16) verb {
	switch {
	case kind == unix.RTM_DELROUTE:
		return deleted
	case flags&unix.NLM_F_EXCL != 0:
		return added
	case flags&unix.NLM_F_REPLACE != 0:
		return replaced
	case flags&unix.NLM_F_APPEND != 0:
		return appended
	}
	return prepended
}

// header is struct nlmsghdr.
type header struct {
	kind, flags   uint16
	sequence, pid uint32
}

// message is one netlink message; its payload lies in the receive buffer.
type message struct {
	header
	payload []byte
}

// cut splits the first message off a datagram.
func cut(b []byte) (m message, rest []byte, err error) {
	if len(b) < unix.SizeofNlMsghdr {
		return message{}, nil, fmt.Errorf("message header: %d bytes", len(b))
	}
	size := int(binary.NativeEndian.Uint32(b))
	if size < unix.SizeofNlMsghdr || size > len(b) {
		return message{}, nil, fmt.Errorf("message of %d bytes in %d", size, len(b))
	}
	m.kind, m.flags = binary.NativeEndian.Uint16(b[4:]), binary.NativeEndian.Uint16(b[6:])
	m.sequence, m.pid = binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
	m.payload = b[unix.SizeofNlMsghdr:size]
	return m, b[min(align4(size), len(b)):], nil
}
