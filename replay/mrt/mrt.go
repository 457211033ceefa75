// Package mrt reads what BGP collectors write: RIB dumps and update streams in the MRT format (RFC 6396, additional paths RFC 8050).
//
// TABLE_DUMP_V2 and BGP4MP are read, for IPv4 and IPv6 unicast; records of other types are passed over. Of a route only its prefix, its peer and
// its MULTI_EXIT_DISC matter here.
package mrt

import (
	"bufio"
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/shared/route"
)

// Kind says what a Change is.
type Kind uint8

// The kinds of change.
const (
	Table  Kind = iota + 1 // part of a RIB dump: the peer has these prefixes
	Update                 // the peer announces and withdraws
	Down                   // the session ended: the peer has nothing any more
)

// String returns the kind's name.
func (k Kind) String() string {
	switch k {
	case Table:
		return "table"
	case Update:
		return "update"
	case Down:
		return "down"
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// Change is what one record says of one peer.
type Change struct {
	At       time.Time
	Peer     netip.Addr
	Kind     Kind
	Announce []route.Entry // canonical; the metric is the MULTI_EXIT_DISC
	Withdraw []netip.Prefix
}

// Types and subtypes (RFC 6396, 4 and 5.; RFC 8050, 4).
const (
	tableDumpV2 = 13
	bgp4mp      = 16
	bgp4mpET    = 17

	peerIndexTable   = 1
	ribIPv4          = 2
	ribIPv6          = 4
	ribIPv4Paths     = 8
	ribIPv6Paths     = 10
	stateChange      = 0
	message          = 1
	messageAS4       = 4
	stateChangeAS4   = 5
	messageLocal     = 6
	messageAS4Local  = 7
	messagePaths     = 8
	messageAS4Paths  = 9
	messageLocalPath = 10
	messageAS4LPaths = 11
)

// maxRecord bounds one record, in bytes: a RIB entry of a thousand peers with long attributes is below it.
const maxRecord = 16 << 20

// Decompress returns the text of r: bzip2 and gzip are recognised by their first bytes.
func Decompress(r io.Reader) (io.Reader, error) {
	b := bufio.NewReaderSize(r, 1<<16)
	head, err := b.Peek(3)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("mrt: %w", err)
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		z, broken := gzip.NewReader(b)
		if broken != nil {
			return nil, fmt.Errorf("mrt: gzip: %w", broken)
		}
		return z, nil
	case bytes.HasPrefix(head, []byte("BZh")):
		return bzip2.NewReader(b), nil
	}
	return b, nil
}

// Changes reads r, which is not compressed, record by record. The first error ends it, and names the record by its number, from 1, and its offset in bytes.
func Changes(r io.Reader) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		d := decoder{in: bufio.NewReaderSize(r, 1<<16)}
		for {
			changes, err := d.next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(Change{}, fmt.Errorf("mrt: record %d at offset %d: %w", d.record, d.start, err))
				return
			}
			for _, c := range changes {
				if !yield(c, nil) {
					return
				}
			}
		}
	}
}

type decoder struct {
	in     io.Reader
	record int   // the number of the record in hand
	start  int64 // its offset
	offset int64 // of the next one
	peers  []netip.Addr
}

// next reads one record. io.EOF: there is none.
func (d *decoder) next() ([]Change, error) {
	var head [12]byte
	d.start = d.offset
	d.record++
	if _, err := io.ReadFull(d.in, head[:]); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, io.EOF
		}
		return nil, fmt.Errorf("its header is cut off: %w", noEOF(err))
	}
	length := binary.BigEndian.Uint32(head[8:])
	if length > maxRecord {
		return nil, fmt.Errorf("it claims %d bytes, more than %d: not an MRT file?", length, maxRecord)
	}
	body, err := io.ReadAll(io.LimitReader(d.in, int64(length))) // grows with what is there, not with what is claimed
	if err != nil {
		return nil, fmt.Errorf("read: %w", noEOF(err))
	}
	if len(body) < int(length) {
		return nil, fmt.Errorf("it is cut off: %d of %d bytes", len(body), length)
	}
	d.offset += int64(len(head)) + int64(length)
	at := time.Unix(int64(binary.BigEndian.Uint32(head[0:])), 0).UTC()
	typ, subtype := binary.BigEndian.Uint16(head[4:]), binary.BigEndian.Uint16(head[6:])
	c := &cursor{rest: body}
	var changes []Change
	switch typ {
	case tableDumpV2:
		changes, err = d.table(c, subtype, at)
	case bgp4mpET:
		at = at.Add(time.Duration(c.uint32()) * time.Microsecond)
		changes = session(c, subtype, at)
	case bgp4mp:
		changes = session(c, subtype, at)
	}
	if err == nil {
		err = c.err
	}
	return changes, err
}

// noEOF keeps a file that is cut off from looking like one that ended.
func noEOF(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("unexpected end of file")
	}
	return err
}

// table reads a record of a RIB dump (RFC 6396, 4.3).
func (d *decoder) table(c *cursor, subtype uint16, at time.Time) ([]Change, error) {
	switch subtype {
	case peerIndexTable:
		d.peers = peerTable(c)
	case ribIPv4, ribIPv4Paths:
		return d.rib(c, 4, subtype == ribIPv4Paths, at)
	case ribIPv6, ribIPv6Paths:
		return d.rib(c, 16, subtype == ribIPv6Paths, at)
	}
	return nil, nil
}

// peerTable reads PEER_INDEX_TABLE (4.3.1).
func peerTable(c *cursor) []netip.Addr {
	c.take(4)
	c.take(int(c.uint16()))
	var peers []netip.Addr
	for range c.uint16() {
		if c.err != nil {
			break
		}
		kind := c.uint8()
		c.take(4)
		peers = append(peers, c.addr(kind&1 != 0))
		if kind&2 != 0 {
			c.take(4)
		} else {
			c.take(2)
		}
	}
	return peers
}

// rib reads the entries of one prefix (4.3.2 and 4.3.4).
func (d *decoder) rib(c *cursor, size int, paths bool, at time.Time) ([]Change, error) {
	c.take(4)
	p := c.prefix(size)
	var out []Change
	for range c.uint16() {
		index := int(c.uint16())
		c.take(4)
		if paths {
			c.take(4)
		}
		a := attributes(c.sub(int(c.uint16())), false)
		switch {
		case c.err != nil:
			return nil, c.err
		case a.err != nil:
			return nil, a.err
		}
		if index >= len(d.peers) {
			return nil, fmt.Errorf("peer %d of %d: the peer table is missing or too short", index, len(d.peers))
		}
		out = append(out, Change{At: at, Peer: d.peers[index], Kind: Table, Announce: []route.Entry{entry(p, a.metric)}})
	}
	return out, nil
}

func entry(p netip.Prefix, metric uint32) route.Entry {
	return route.Entry{Prefix: p, Attrs: route.Attrs{Metric: metric, Origin: "bgp"}}
}

// session reads what was received on a session (4.4).
func session(c *cursor, subtype uint16, at time.Time) []Change {
	as, paths, state := 2, false, false
	switch subtype {
	case message, messageLocal:
	case messageAS4, messageAS4Local:
		as = 4
	case messagePaths, messageLocalPath:
		paths = true
	case messageAS4Paths, messageAS4LPaths:
		as, paths = 4, true
	case stateChange:
		state = true
	case stateChangeAS4:
		as, state = 4, true
	default:
		return nil
	}
	c.take(2*as + 2)
	v6, known := family(c.uint16())
	if !known {
		c.fail("the session is of neither IPv4 nor IPv6")
	}
	peer := c.addr(v6)
	c.addr(v6)
	if c.err != nil {
		return nil
	}
	if state {
		const established = 6
		if from, to := c.uint16(), c.uint16(); c.err == nil && from == established && to != established {
			return []Change{{At: at, Peer: peer, Kind: Down}}
		}
		return nil
	}
	change := Change{At: at, Peer: peer, Kind: Update}
	update(c, &change, paths)
	if len(change.Announce)+len(change.Withdraw) == 0 {
		return nil
	}
	return []Change{change}
}

// update reads a BGP message (RFC 4271, 4.1 and 4.3); others than UPDATE say nothing of routes.
func update(c *cursor, change *Change, paths bool) {
	c.take(16)
	length := int(c.uint16())
	kind := c.uint8()
	const header = 19
	if c.err == nil && length < header {
		c.fail("a BGP message of %d bytes", length)
	}
	m := c.sub(length - header)
	if c.err != nil || kind != 2 {
		return
	}
	withdrawn := m.sub(int(m.uint16()))
	a := attributes(m.sub(int(m.uint16())), paths)
	announced := m
	gone := withdrawn.prefixes(4, paths)
	up := announced.prefixes(4, paths)
	for _, part := range []*cursor{withdrawn, announced} {
		if c.err == nil {
			c.err = part.err
		}
	}
	if c.err == nil {
		c.err = a.err
	}
	change.set(append(up, a.announced...), append(gone, a.withdrawn...), a.metric)
}

// set notes each prefix once; one that is both withdrawn and announced is announced (RFC 4271, 4.3).
func (c *Change) set(up, gone []netip.Prefix, metric uint32) {
	seen := map[netip.Prefix]bool{}
	for _, p := range up {
		if !seen[p] {
			c.Announce = append(c.Announce, entry(p, metric))
		}
		seen[p] = true
	}
	for _, p := range gone {
		if !seen[p] {
			c.Withdraw = append(c.Withdraw, p)
		}
		seen[p] = true
	}
}

// path is what matters of a route's attributes.
type path struct {
	metric    uint32
	announced []netip.Prefix // MP_REACH_NLRI
	withdrawn []netip.Prefix // MP_UNREACH_NLRI
	err       error
}

// attributes reads path attributes (RFC 4271, 4.3; RFC 4760, 3 and 4). In a RIB dump MP_REACH_NLRI is only the next hop with its length (RFC 6396, 4.3.4):
// no length makes it look like a known address family.
func attributes(c *cursor, paths bool) path {
	var a path
	for len(c.rest) > 0 && c.err == nil {
		flags, typ := c.uint8(), c.uint8()
		length := int(c.uint8())
		if flags&0x10 != 0 { // extended length
			length = length<<8 | int(c.uint8())
		}
		v := c.sub(length)
		if c.err != nil {
			break
		}
		switch typ {
		case 4:
			a.metric = v.uint32()
		case 14:
			a.announced = multiprotocol(v, true, paths)
		case 15:
			a.withdrawn = multiprotocol(v, false, paths)
		}
		if v.err != nil {
			a.err = fmt.Errorf("attribute %d: %w", typ, v.err)
			return a
		}
	}
	a.err = c.err
	return a
}

// multiprotocol reads the prefixes of MP_REACH_NLRI and MP_UNREACH_NLRI, of unicast only.
func multiprotocol(c *cursor, reach, paths bool) []netip.Prefix {
	v6, known := family(c.uint16())
	const unicast = 1
	if safi := c.uint8(); !known || safi != unicast {
		return nil
	}
	if reach {
		c.take(int(c.uint8()))
		c.take(1)
	}
	if v6 {
		return c.prefixes(16, paths)
	}
	return c.prefixes(4, paths)
}

// family reads an address family number.
func family(afi uint16) (v6, known bool) { return afi == 2, afi == 1 || afi == 2 }

// cursor reads big-endian fields. After the first error all reads return zeros.
type cursor struct {
	rest []byte
	err  error
}

func (c *cursor) fail(format string, args ...any) {
	if c.err == nil {
		c.err = fmt.Errorf(format, args...)
	}
	c.rest = nil
}

// take returns n bytes; on an error none.
func (c *cursor) take(n int) []byte {
	if c.err != nil || n < 0 || n > len(c.rest) {
		c.fail("a field of %d bytes where %d are left", n, len(c.rest))
		return nil
	}
	out := c.rest[:n]
	c.rest = c.rest[n:]
	return out
}

// sub returns a cursor over n bytes.
func (c *cursor) sub(n int) *cursor {
	b := c.take(n)
	return &cursor{rest: b, err: c.err}
}

func (c *cursor) uint8() uint8 {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) uint16() uint16 {
	if b := c.take(2); b != nil {
		return binary.BigEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if b := c.take(4); b != nil {
		return binary.BigEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) addr(v6 bool) netip.Addr {
	n := 4
	if v6 {
		n = 16
	}
	a, ok := netip.AddrFromSlice(c.take(n))
	if !ok {
		return netip.Addr{}
	}
	return a
}

// prefix reads a length and as many bytes as it needs (RFC 4271, 4.3).
func (c *cursor) prefix(size int) netip.Prefix {
	bits := int(c.uint8())
	if bits > size*8 {
		c.fail("a prefix of length %d", bits)
		return netip.Prefix{}
	}
	var raw [16]byte
	copy(raw[:], c.take((bits+7)/8))
	if c.err != nil {
		return netip.Prefix{}
	}
	a, _ := netip.AddrFromSlice(raw[:size])
	return route.Canonical(netip.PrefixFrom(a, bits))
}

func (c *cursor) prefixes(size int, paths bool) []netip.Prefix {
	var out []netip.Prefix
	for len(c.rest) > 0 && c.err == nil {
		if paths {
			c.take(4)
		}
		if p := c.prefix(size); c.err == nil {
			out = append(out, p)
		}
	}
	return out
}
