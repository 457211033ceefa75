// Package route is the model of an announced route: a canonical prefix with its attributes, their order and their digest.
package route

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
)

// Attrs is what an NVA says of a prefix beside that it can reach it.
type Attrs struct {
	Metric uint32 `json:"metric,omitempty"` // lower is better, as the kernel's route priority
	Origin string `json:"origin,omitempty"` // who installed it on the NVA: "bgp", "static", "zebra", …; informative
}

// Compare orders attributes: metric, then origin.
func (a Attrs) Compare(b Attrs) int {
	return cmp.Or(cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.Origin, b.Origin))
}

// Entry is one prefix with its attributes.
type Entry struct {
	Prefix netip.Prefix
	Attrs  Attrs
}

// Canonical returns p with its host bits cleared and an IPv4-mapped IPv6 address as IPv4. Everything inside Pointsman
// is canonical; Azure does not promise to canonicalise, so comparisons with it go through here too.
func Canonical(p netip.Prefix) netip.Prefix {
	if p.Addr().Is4In6() && p.Bits() >= 96 {
		p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
	}
	return p.Masked()
}

// Parse reads a prefix and insists on its canonical form.
func Parse(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is not a prefix such as 10.1.0.0/16 or fd00:1::/48", s)
	}
	if c := Canonical(p); c != p {
		return netip.Prefix{}, fmt.Errorf("%q is not canonical: write %s", s, c)
	}
	return p, nil
}

// Compare is the one order of prefixes: IPv4 before IPv6, then address, then length (a covering prefix first).
func Compare(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}

// Forbidden says why a prefix must never be steered, or "" when it may. The list is Azure's for address spaces
// (Virtual Network FAQ): multicast, broadcast, loopback, link-local and Azure's own platform address.
func Forbidden(p netip.Prefix) string {
	for _, f := range forbidden {
		if f.prefix.Bits() <= p.Bits() && f.prefix.Contains(p.Addr()) {
			return f.why
		}
	}
	return ""
}

var forbidden = [...]struct { //nolint:gochecknoglobals // a table
	prefix netip.Prefix
	why    string
}{
	{netip.MustParsePrefix("224.0.0.0/4"), "multicast"},
	{netip.MustParsePrefix("255.255.255.255/32"), "broadcast"},
	{netip.MustParsePrefix("127.0.0.0/8"), "loopback"},
	{netip.MustParsePrefix("169.254.0.0/16"), "link-local"},
	{netip.MustParsePrefix("168.63.129.16/32"), "Azure's platform address"},
	{netip.MustParsePrefix("ff00::/8"), "multicast"},
	{netip.MustParsePrefix("fe80::/10"), "link-local"},
	{netip.MustParsePrefix("::1/128"), "loopback"},
}

// Digest is an order-free fingerprint of a RIB: the sum, modulo 2^64, of the hash of every entry. Adding and removing an
// entry updates it without reading the rest.
type Digest uint64

// Add returns the digest with e in it.
func (d Digest) Add(e Entry) Digest { return d + Digest(hash(e)) }

// Remove returns the digest without e.
func (d Digest) Remove(e Entry) Digest { return d - Digest(hash(e)) }

// String returns 16 hexadecimal digits.
func (d Digest) String() string {
	text, _ := d.AppendText(nil)
	return string(text)
}

// MarshalText implements encoding.TextMarshaler: a JSON number would lose bits in many languages.
func (d Digest) MarshalText() ([]byte, error) { return d.AppendText(nil) }

// AppendText implements encoding.TextAppender.
func (d Digest) AppendText(text []byte) ([]byte, error) {
	return hex.AppendEncode(text, binary.BigEndian.AppendUint64(nil, uint64(d))), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(text []byte) error {
	var raw [8]byte
	if len(text) != hex.EncodedLen(len(raw)) {
		return errDigest
	}
	if _, err := hex.Decode(raw[:], text); err != nil {
		return errDigest
	}
	*d = Digest(binary.BigEndian.Uint64(raw[:]))
	return nil
}

var errDigest = errors.New("a digest is 16 hexadecimal digits")

// hash is FNV-1a over the 16-byte address, the length, the family, the metric and the origin, finished with MurmurHash3's
// fmix64: FNV alone spreads short keys badly. It is part of the wire format and never changes.
func hash(e Entry) uint64 {
	h := uint64(14695981039346656037)
	mix := func(b byte) { h = (h ^ uint64(b)) * 1099511628211 }
	for _, b := range e.Prefix.Addr().As16() {
		mix(b)
	}
	mix(byte(e.Prefix.Bits()))
	mix(byte(e.Prefix.Addr().BitLen() / 32))
	for shift := 0; shift < 32; shift += 8 {
		mix(byte(e.Attrs.Metric >> shift))
	}
	for i := range len(e.Attrs.Origin) {
		mix(e.Attrs.Origin[i])
	}
	h = (h ^ h>>33) * 0xff51afd7ed558ccd
	h = (h ^ h>>33) * 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
