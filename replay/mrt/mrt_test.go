package mrt_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/replay/mrt"
	"github.com/pointsman/pointsman/shared/route"
)

// at is the time of all records: 2026-03-01T12:00:00Z.
const at = 1772366400

// join puts fields together: numbers as they are wide, strings of hexadecimal digits, bytes.
func join(fields ...any) []byte {
	var out []byte
	for _, f := range fields {
		switch x := f.(type) {
		case uint8:
			out = append(out, x)
		case uint16:
			out = binary.BigEndian.AppendUint16(out, x)
		case uint32:
			out = binary.BigEndian.AppendUint32(out, x)
		case []byte:
			out = append(out, x...)
		case string:
			raw, err := hex.DecodeString(strings.ReplaceAll(x, " ", ""))
			if err != nil {
				panic(err)
			}
			out = append(out, raw...)
		}
	}
	return out
}

func record(typ, subtype uint16, body []byte) []byte {
	return join(uint32(at), typ, subtype, uint32(len(body)), body)
}

// sized is a field with its length before it.
func sized(b []byte) []byte { return join(uint16(len(b)), b) }

// Addresses and prefixes as they stand in the files.
const (
	peer4 = "c0000201"                         // 192.0.2.1
	peer6 = "20010db8000000000000000000000001" // 2001:db8::1
	local = "c0000209"
	net1  = "18 0a4000" // 10.64.0.0/24
	net2  = "14 0a41f0" // 10.65.240.0/20
	net6  = "30 fd0000640000"
	med20 = "80 04 04 00000014"
)

// peers is a peer table of an IPv4 peer with a short AS number and an IPv6 one with a long one.
func peers() []byte {
	return record(13, 1, join("0a0a0a0a", sized([]byte("view")), uint16(2), "00 01010101", peer4, "fde8", "03 02020202", peer6, "0000fde9"))
}

func rib(subtype uint16, prefix string, entries ...[]byte) []byte {
	return record(13, subtype, join("00000001", prefix, uint16(len(entries)), bytes.Join(entries, nil)))
}

func ribEntry(peer uint16, attrs ...any) []byte {
	return join(peer, uint32(at-100), sized(join(attrs...)))
}

// session is a BGP4MP header with four-byte AS numbers.
func session(address string) []byte {
	afi, me := uint16(1), local
	if len(address) > 8 {
		afi, me = 2, peer6
	}
	return join(uint32(65000), uint32(65001), uint16(0), afi, address, me)
}

func update(withdrawn, attrs, announced []byte) []byte {
	body := join(sized(withdrawn), sized(attrs), announced)
	return join(strings.Repeat("ff", 16), uint16(19+len(body)), uint8(2), body)
}

func read(t *testing.T, parts ...[]byte) ([]mrt.Change, error) {
	t.Helper()
	var out []mrt.Change
	for c, err := range mrt.Changes(bytes.NewReader(bytes.Join(parts, nil))) {
		if err != nil {
			return out, err
		}
		out = append(out, c)
	}
	return out, nil
}

func up(metric uint32, prefixes ...string) []route.Entry {
	var out []route.Entry
	for _, p := range prefixes {
		out = append(out, route.Entry{Prefix: netip.MustParsePrefix(p), Attrs: route.Attrs{Metric: metric, Origin: "bgp"}})
	}
	return out
}

func down(prefixes ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range prefixes {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func TestRecords(t *testing.T) {
	v4, v6, now := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1"), time.Unix(at, 0).UTC()
	reach6 := join("80 0e", uint8(5+16+7), "0002 01 10", peer6, "00", net6)
	for name, tt := range map[string]struct {
		records [][]byte
		want    []mrt.Change
	}{
		"a dump": {
			[][]byte{
				peers(), rib(2, net1, ribEntry(0, "40 01 01 00", med20), ribEntry(1)),
				rib(4, net6, ribEntry(1, "80 0e 11 10", peer6)), // MP_REACH_NLRI in its short form
			},
			[]mrt.Change{
				{At: now, Peer: v4, Kind: mrt.Table, Announce: up(20, "10.64.0.0/24")},
				{At: now, Peer: v6, Kind: mrt.Table, Announce: up(0, "10.64.0.0/24")},
				{At: now, Peer: v6, Kind: mrt.Table, Announce: up(0, "fd00:64::/48")},
			},
		},
		"a dump with additional paths": {
			[][]byte{peers(), rib(8, net1, join(uint16(0), uint32(at), uint32(7), sized(join(med20))))},
			[]mrt.Change{{At: now, Peer: v4, Kind: mrt.Table, Announce: up(20, "10.64.0.0/24")}},
		},
		"an update": {
			[][]byte{record(16, 4, join(session(peer4), update(join(net2), join("40 01 01 00", med20), join(net1))))},
			[]mrt.Change{{At: now, Peer: v4, Kind: mrt.Update, Announce: up(20, "10.64.0.0/24"), Withdraw: down("10.65.240.0/20")}},
		},
		"an update with short AS numbers": {
			[][]byte{record(16, 1, join("fde8 fde9 0000 0001", peer4, local, update(nil, nil, join(net1))))},
			[]mrt.Change{{At: now, Peer: v4, Kind: mrt.Update, Announce: up(0, "10.64.0.0/24")}},
		},
		"an update with additional paths": {
			[][]byte{record(16, 9, join(session(peer4), update(join("00000001", net2), nil, join("00000002", net1))))},
			[]mrt.Change{{At: now, Peer: v4, Kind: mrt.Update, Announce: up(0, "10.64.0.0/24"), Withdraw: down("10.65.240.0/20")}},
		},
		"an update of IPv6, with microseconds": {
			[][]byte{record(17, 4, join(uint32(250_000), session(peer6), update(nil, reach6, nil)))},
			[]mrt.Change{{At: now.Add(250 * time.Millisecond), Peer: v6, Kind: mrt.Update, Announce: up(0, "fd00:64::/48")}},
		},
		"a withdrawal of IPv6, with a long length": {
			[][]byte{record(16, 4, join(session(peer6), update(nil, join("90 0f 000a 0002 01", net6), nil)))},
			[]mrt.Change{{At: now, Peer: v6, Kind: mrt.Update, Withdraw: down("fd00:64::/48")}},
		},
		"what is withdrawn and announced is announced": {
			[][]byte{record(16, 4, join(session(peer4), update(join(net1), nil, join(net1, net1))))},
			[]mrt.Change{{At: now, Peer: v4, Kind: mrt.Update, Announce: up(0, "10.64.0.0/24")}},
		},
		"a session that ends": {
			[][]byte{record(16, 5, join(session(peer4), "0006 0001")), record(16, 5, join(session(peer4), "0006 0006")), record(16, 0, join("fde8 fde9 0000 0001", peer4, local, "0005 0006"))},
			[]mrt.Change{{At: now, Peer: v4, Kind: mrt.Down}},
		},
		"multicast, keepalives and unknown types": {
			[][]byte{
				record(16, 4, join(session(peer4), update(nil, join("80 0f 07 0001 02", net1), nil))),
				record(16, 4, join(session(peer4), strings.Repeat("ff", 16), uint16(19), uint8(4))), record(99, 1, join("01")), record(13, 3, join("01")),
			},
			nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := read(t, tt.records...)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestErrorsNameTheRecord(t *testing.T) {
	first := peers()
	for name, tt := range map[string]struct {
		second []byte
		want   string
	}{
		"a header that is cut off":  {join("00 01"), "its header is cut off"},
		"a record that is cut off":  {record(16, 4, session(peer4))[:20], "it is cut off: 8 of 20 bytes"},
		"a length that is absurd":   {join(uint32(at), uint16(16), uint16(4), uint32(1<<30)), "it claims 1073741824 bytes"},
		"a field that is cut off":   {record(16, 4, join("0000")), "a field of"},
		"a prefix that is too long": {rib(2, "21 0a400000 00", ribEntry(0)), "a prefix of length 33"},
		"a peer that is unknown":    {rib(2, net1, ribEntry(2)), "peer 2 of 2"},
		"an attribute cut off":      {rib(2, net1, ribEntry(0, "40 04 04 00")), "a field of 4 bytes where 1 are left"},
		"a session of no family":    {record(16, 4, join(uint32(1), uint32(2), uint16(0), uint16(7), peer4, local)), "neither IPv4 nor IPv6"},
		"a BGP message too short":   {record(16, 4, join(session(peer4), strings.Repeat("ff", 16), uint16(18), uint8(2))), "a BGP message of 18 bytes"},
		"an MP_UNREACH cut off":     {record(16, 4, join(session(peer4), update(nil, join("80 0f 02 0001"), nil))), "attribute 15"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := read(t, first, tt.second)
			if err == nil {
				t.Fatal("no error")
			}
			if where := "record 2 at offset 60: "; !strings.Contains(err.Error(), where) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q, want %q and %q", err, where, tt.want)
			}
		})
	}
}

func TestDecompress(t *testing.T) {
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write([]byte("text")); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	bzip := join("425a6839314159265359cb28d32d0000008180020004402000219819832c2ee48a70a1219651a65a")
	for name, data := range map[string][]byte{"plain": []byte("text"), "gzip": packed.Bytes(), "bzip2": bzip, "short": []byte("t")} {
		r, err := mrt.Decompress(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer
		if _, err = got.ReadFrom(r); err != nil || !strings.HasPrefix("text", got.String()) || got.Len() == 0 {
			t.Errorf("%s: %q, %v", name, got.String(), err)
		}
	}
}

// Whatever the file, reading ends, without a panic, and says nothing that an event could not carry.
func FuzzChanges(f *testing.F) {
	f.Add(bytes.Join([][]byte{peers(), rib(2, net1, ribEntry(0, "40 01 01 00", med20))}, nil))
	f.Add(record(16, 4, join(session(peer4), update(join(net2), join("40 01 01 00", med20), join(net1)))))
	f.Add(record(17, 9, join(uint32(1), session(peer6), update(nil, join("80 0e", uint8(5+16+11), "0002 01 10", peer6, "00 00000001", net6), nil))))
	f.Add(record(16, 5, join(session(peer4), "0006 0001")))
	f.Fuzz(func(t *testing.T, data []byte) {
		n := 0
		for c, err := range mrt.Changes(bytes.NewReader(data)) {
			if err != nil {
				return
			}
			if n++; n > len(data) {
				t.Fatal("more changes than bytes")
			}
			if !c.Peer.IsValid() {
				t.Fatal("a change without a peer")
			}
			for _, e := range c.Announce {
				if !e.Prefix.IsValid() || route.Canonical(e.Prefix) != e.Prefix {
					t.Fatalf("announced %s", e.Prefix)
				}
			}
			for _, p := range c.Withdraw {
				if !p.IsValid() || route.Canonical(p) != p {
					t.Fatalf("withdrawn %s", p)
				}
			}
		}
	})
}
