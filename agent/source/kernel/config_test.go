package kernel

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

func TestMatch(t *testing.T) {
	for _, row := range []struct {
		match  string
		ge, le int
		yes    string
		no     string
	}{
		{match: "10.0.0.0/8", yes: "10.0.0.0/8", no: "10.0.0.0/9 0.0.0.0/0 11.0.0.0/8"},
		{match: "10.0.0.0/8", ge: 16, yes: "10.1.0.0/16 10.1.2.3/32", no: "10.0.0.0/8 10.128.0.0/9 11.1.0.0/16"},
		{match: "10.0.0.0/8", le: 16, yes: "10.0.0.0/8 10.1.0.0/16", no: "10.1.2.0/24"},
		{match: "10.0.0.0/8", ge: 16, le: 24, yes: "10.1.0.0/16 10.1.2.0/24", no: "10.1.2.3/32 10.0.0.0/8"},
		{match: "0.0.0.0/0", yes: "0.0.0.0/0", no: "10.0.0.0/8 ::/0"},
		{match: "0.0.0.0/0", le: 32, yes: "0.0.0.0/0 10.1.2.3/32", no: "::/0 2001:db8::/32"},
		{match: "2001:db8::/32", ge: 48, yes: "2001:db8:1::/48 2001:db8::1/128", no: "2001:db8::/32 2001:db9::/48"},
	} {
		m := Match{Prefix: netip.MustParsePrefix(row.match), GE: row.ge, LE: row.le}
		if err := m.validate(); err != nil {
			t.Error(err)
		}
		for want, list := range map[bool]string{true: row.yes, false: row.no} {
			for p := range strings.FieldsSeq(list) {
				if got := m.matches(netip.MustParsePrefix(p)); got != want {
					t.Errorf("%v ge %d le %d matches %s: %v", row.match, row.ge, row.le, p, got)
				}
			}
		}
	}
}

func TestNeverHeld(t *testing.T) {
	cfg := Config{Tables: []uint32{254, 255}, Families: []Family{IPv4}}.WithDefaults()
	for _, p := range []string{"224.0.0.0/4", "169.254.0.0/16", "127.0.0.0/8", "2001:db8::/32"} {
		if cfg.holds(254, netip.MustParsePrefix(p)) {
			t.Errorf("%s is held", p)
		}
	}
	cfg.Families = []Family{IPv4, IPv6}
	for _, p := range []string{"fe80::/64", "ff00::/8", "::1/128", "::ffff:0:0/96"} {
		if cfg.holds(254, netip.MustParsePrefix(p)) {
			t.Errorf("%s is held", p)
		}
	}
	for table, want := range map[uint32]bool{254: true, 255: false, 100: false} {
		if got := cfg.holds(table, netip.MustParsePrefix("0.0.0.0/0")); got != want {
			t.Errorf("the default route of table %d is held: %v", table, got)
		}
	}
}

func TestValidateNamesEveryProblem(t *testing.T) {
	err := Config{
		Tables:   []uint32{0, 255},
		Families: []Family{9},
		Include:  []Match{{Prefix: netip.MustParsePrefix("10.0.0.1/8")}, {}},
		Exclude: []Match{
			{Prefix: netip.MustParsePrefix("10.0.0.0/16"), GE: 8},
			{Prefix: netip.MustParsePrefix("10.0.0.0/16"), LE: 33},
			{Prefix: netip.MustParsePrefix("10.0.0.0/16"), GE: 24, LE: 20},
		},
		ReadBuffer: -1,
		Debounce:   time.Second, MaxDebounce: time.Millisecond,
	}.Validate()
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{
		"table 0", "table 255", "family(9)", "10.0.0.1/8", "invalid Prefix", "ge 8", "le 33", "ge 24 le 20", "negative", "shorter",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in:\n%v", want, err)
		}
	}
	if err = (Config{}).WithDefaults().Validate(); err != nil {
		t.Errorf("the defaults are wrong: %v", err)
	}
	if err = (Config{Debounce: time.Second}).WithDefaults().Validate(); err != nil {
		t.Errorf("a long debounce alone is wrong: %v", err)
	}
}

func TestDoubtIsSettledAfterQuietOrLimit(t *testing.T) {
	start := time.Unix(1000, 0)
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	d := doubt{quiet: 50 * time.Millisecond, limit: 500 * time.Millisecond}
	if _, ok := d.due(); ok {
		t.Error("doubt from the start")
	}
	for _, step := range []struct{ raised, due int }{{0, 50}, {40, 90}, {449, 499}, {480, 500}, {499, 500}} {
		d.raise(at(step.raised))
		if due, ok := d.due(); !ok || !due.Equal(at(step.due)) {
			t.Errorf("raised at %d ms: due at %v, want %d ms", step.raised, due.Sub(start), step.due)
		}
	}
	d.clear()
	d.raise(at(900))
	if due, _ := d.due(); !due.Equal(at(950)) {
		t.Errorf("after clear: due at %v, want 950 ms", due.Sub(start))
	}
}
