package route_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/route"
)

// prefixes draws canonical prefixes of both families, crowded so that they often cover each other.
func prefixes() *rapid.Generator[netip.Prefix] {
	return rapid.Custom(func(t *rapid.T) netip.Prefix {
		b := rapid.SliceOfN(rapid.SampledFrom([]byte{0, 1, 10, 128, 255}), 16, 16).Draw(t, "bytes")
		if rapid.Bool().Draw(t, "v4") {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte(b)), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
		}
		b[0] = 0xfd // never an IPv4-mapped address
		return netip.PrefixFrom(netip.AddrFrom16([16]byte(b)), rapid.IntRange(8, 128).Draw(t, "bits")).Masked()
	})
}

func routes() *rapid.Generator[route.Entry] {
	return rapid.Custom(func(t *rapid.T) route.Entry {
		return route.Entry{Prefix: prefixes().Draw(t, "prefix"), Attrs: route.Attrs{
			Metric: rapid.Uint32().Draw(t, "metric"), Origin: rapid.SampledFrom([]string{"", "bgp", "static"}).Draw(t, "origin"),
		}}
	})
}

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, want, err string }{
		{in: "10.0.0.0/8", want: "10.0.0.0/8"},
		{in: "0.0.0.0/0", want: "0.0.0.0/0"},
		{in: "::/0", want: "::/0"},
		{in: "fd00:1::/48", want: "fd00:1::/48"},
		{in: "10.0.0.1/32", want: "10.0.0.1/32"},
		{in: "10.0.0.1/8", err: "write 10.0.0.0/8"},
		{in: "::ffff:10.0.0.0/104", err: "write 10.0.0.0/8"},
		{in: "10.0.0.0", err: "not a prefix"},
		{in: "10.0.0.0/33", err: "not a prefix"},
		{in: "10.0.0.0/08", err: "not a prefix"},
		{in: "fe80::%eth0/64", err: "not a prefix"},
		{in: "", err: "not a prefix"},
	} {
		p, err := route.Parse(tt.in)
		switch {
		case tt.err == "" && (err != nil || p.String() != tt.want):
			t.Errorf("Parse(%q) = %s, %v; want %s", tt.in, p, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("Parse(%q) = %s, %v; want an error with %q", tt.in, p, err, tt.err)
		}
	}
}

func TestCanonical(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.2.3/16": "10.1.0.0/16", "::ffff:10.1.2.3/112": "10.1.0.0/16", "::ffff:0:0/96": "0.0.0.0/0",
		"::ffff:0:0/95": "::fffe:0:0/95", "fd00::1/64": "fd00::/64",
	} {
		if got := route.Canonical(netip.MustParsePrefix(in)); got.String() != want {
			t.Errorf("Canonical(%s) = %s, want %s", in, got, want)
		}
	}
	if got := route.Canonical(netip.Prefix{}); got.IsValid() {
		t.Errorf("Canonical of nothing = %s", got)
	}
}

// TestMatch follows the table of FRR's "ip prefix-list" (and Cisco IOS): without ge and le the length must be equal.
func TestMatch(t *testing.T) {
	for _, tt := range []struct{ match, yes, no string }{
		{"10.0.0.0/8", "10.0.0.0/8", "10.0.0.0/9 0.0.0.0/0 11.0.0.0/8 10.1.0.0/16"},
		{"10.0.0.0/8 le 24", "10.0.0.0/8 10.128.0.0/9 10.1.2.0/24", "10.1.2.0/25 0.0.0.0/0 11.0.0.0/24"},
		{"10.0.0.0/8 ge 16", "10.1.0.0/16 10.1.2.3/32", "10.0.0.0/8 10.128.0.0/9 10.0.0.0/15"},
		{"10.0.0.0/8 ge 16 le 24", "10.1.0.0/16 10.1.2.0/24", "10.0.0.0/15 10.1.2.0/25"},
		{"10.0.0.0/8 le 24 ge 16", "10.1.0.0/16 10.1.2.0/24", "10.0.0.0/15 10.1.2.0/25"},
		{"10.0.0.0/8 ge 8", "10.0.0.0/8 10.1.2.3/32", "0.0.0.0/0"},
		{"0.0.0.0/0", "0.0.0.0/0", "10.0.0.0/8 ::/0"},
		{"0.0.0.0/0 le 32", "0.0.0.0/0 10.0.0.0/8 1.2.3.4/32", "::/0 fd00::/8"},
		{"fd00::/8 le 64", "fd00::/8 fd00:1::/48", "fd00::1/128 10.0.0.0/8"},
		{"::/0 ge 1", "fd00::/8", "::/0 0.0.0.0/0 10.0.0.0/8"},
	} {
		m, err := route.ParseMatch(tt.match)
		if err != nil {
			t.Errorf("%s: %v", tt.match, err)
			continue
		}
		for s := range strings.FieldsSeq(tt.yes) {
			if !m.Matches(netip.MustParsePrefix(s)) {
				t.Errorf("%s does not match %s", tt.match, s)
			}
		}
		for s := range strings.FieldsSeq(tt.no) {
			if m.Matches(netip.MustParsePrefix(s)) {
				t.Errorf("%s matches %s", tt.match, s)
			}
		}
	}
}

func TestParseMatchErrors(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "empty",
		"10.0.0.1/8":              "write 10.0.0.0/8",
		"10.0.0.0/8 le":           "pairs",
		"10.0.0.0/8 eq 9":         "neither ge nor le",
		"10.0.0.0/8 le 33":        "from 8 to 32",
		"10.0.0.0/8 le 7":         "from 8 to 32",
		"10.0.0.0/8 ge x":         "from 8 to 32",
		"10.0.0.0/8 ge 24 le 16":  "matches nothing",
		"10.0.0.0/8 le 8 ge 16":   "matches nothing",
		"10.0.0.0/8 ge 16 ge 24":  "stands twice",
		"fd00::/8 le 129":         "from 8 to 128",
		"10.0.0.0/8 permit le 24": "pairs",
	} {
		if m, err := route.ParseMatch(in); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("ParseMatch(%q) = %v, %v; want an error with %q", in, m, err, want)
		}
	}
}

func TestMatchStringIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := prefixes().Draw(t, "prefix")
		low := rapid.IntRange(p.Bits(), p.Addr().BitLen()).Draw(t, "ge")
		want := route.Match{Prefix: p, Min: low, Max: rapid.IntRange(low, p.Addr().BitLen()).Draw(t, "le")}
		got, err := route.ParseMatch(want.String())
		if err != nil || got.Min > got.Max {
			t.Fatalf("%s: %v", want, err)
		}
		if got != want {
			t.Fatalf("%q reads as %v", want.String(), got)
		}
	})
}

func TestForbidden(t *testing.T) {
	for in, want := range map[string]bool{
		"224.0.0.0/4": true, "239.1.0.0/16": true, "127.0.0.1/32": true, "169.254.0.0/16": true, "168.63.129.16/32": true, "255.255.255.255/32": true,
		"ff02::/16": true, "fe80::/64": true, "::1/128": true,
		"0.0.0.0/0": false, "128.0.0.0/1": false, "168.63.129.0/24": false, "10.0.0.0/8": false, "::/0": false, "fd00::/8": false, "240.0.0.0/8": false,
	} {
		if got := route.Forbidden(netip.MustParsePrefix(in)); (got != "") != want {
			t.Errorf("Forbidden(%s) = %q", in, got)
		}
	}
}

func TestCompareIsTotal(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := prefixes().Draw(t, "a"), prefixes().Draw(t, "b"), prefixes().Draw(t, "c")
		if route.Compare(a, b) != -route.Compare(b, a) {
			t.Fatal("not antisymmetric")
		}
		if (route.Compare(a, b) == 0) != (a == b) {
			t.Fatal("equal order, different prefixes")
		}
		if route.Compare(a, b) <= 0 && route.Compare(b, c) <= 0 && route.Compare(a, c) > 0 {
			t.Fatal("not transitive")
		}
		if a != b && a.Overlaps(b) && a.Bits() < b.Bits() && a.Addr() == b.Addr() && route.Compare(a, b) > 0 {
			t.Fatal("a covering prefix comes first")
		}
	})
}

func TestCompareOrder(t *testing.T) {
	want := []string{"0.0.0.0/0", "10.0.0.0/8", "10.0.0.0/16", "10.1.0.0/16", "192.168.0.0/16", "::/0", "fd00::/8"}
	var list []netip.Prefix
	for _, s := range want {
		list = append([]netip.Prefix{netip.MustParsePrefix(s)}, list...)
	}
	slices.SortFunc(list, route.Compare)
	var got []string
	for _, p := range list {
		got = append(got, p.String())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestDigestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(routes()).Draw(t, "entries")
		var d route.Digest
		for _, e := range list {
			d = d.Add(e)
		}
		var shuffled route.Digest
		for _, e := range rapid.Permutation(list).Draw(t, "order") {
			shuffled = shuffled.Add(e)
		}
		if d != shuffled {
			t.Fatal("the order matters")
		}
		extra := routes().Draw(t, "extra")
		if d.Add(extra) == d || d.Add(extra).Remove(extra) != d {
			t.Fatal("Remove does not undo Add")
		}
		var back route.Digest
		text, err := d.MarshalText()
		if err != nil || back.UnmarshalText(text) != nil || back != d {
			t.Fatalf("%s reads as %s", text, back)
		}
	})
}

func TestDigestTextErrors(t *testing.T) {
	for _, s := range []string{"", "0", "00000000000000000", "000000000000000g", "0x00000000000000"} {
		if err := new(route.Digest).UnmarshalText([]byte(s)); err == nil {
			t.Errorf("%q is read as a digest", s)
		}
	}
}

// TestDigestIsWireFormat pins the hash: agents and functions of different versions must agree on it.
func TestDigestIsWireFormat(t *testing.T) {
	for _, tt := range []struct {
		prefix string
		attrs  route.Attrs
		want   string
	}{
		{"0.0.0.0/0", route.Attrs{}, "3c80c5536c6177f7"},
		{"10.1.0.0/16", route.Attrs{}, "fb4b1280f761dad1"},
		{"10.1.0.0/16", route.Attrs{Metric: 100}, "5f2634889214e64a"},
		{"10.1.0.0/16", route.Attrs{Metric: 100, Origin: "bgp"}, "65260dcad87e940c"},
		{"10.0.0.0/16", route.Attrs{Metric: 4294967295, Origin: "static"}, "4d25623533be4237"},
		{"::/0", route.Attrs{}, "6e511d2f17b6ce10"},
		{"fd00:1::/48", route.Attrs{Metric: 20, Origin: "ospf"}, "1373b4b7d41cddb2"},
		{"192.0.2.1/32", route.Attrs{Origin: "bird"}, "1a11618cd4dadac9"},
	} {
		if got := route.Digest(0).Add(route.Entry{Prefix: netip.MustParsePrefix(tt.prefix), Attrs: tt.attrs}).String(); got != tt.want {
			t.Errorf("digest of %s %+v = %s, want %s", tt.prefix, tt.attrs, got, tt.want)
		}
	}
}
