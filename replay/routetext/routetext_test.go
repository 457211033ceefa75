package routetext_test

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/replay/routetext"
)

func monitor(text string, f routetext.Filter) ([]string, error) {
	var out []string
	for c, err := range routetext.Monitor(strings.NewReader(text), time.UTC, f) {
		if err != nil {
			return out, err
		}
		for _, e := range c.Announce {
			out = append(out, fmt.Sprintf("%s + %s %d %s", c.At.Format("05.000000"), e.Prefix, e.Attrs.Metric, e.Attrs.Origin))
		}
		for _, p := range c.Withdraw {
			out = append(out, fmt.Sprintf("%s - %s", c.At.Format("05.000000"), p))
		}
	}
	return out, nil
}

// The file is what iproute2 6 printed in a network namespace: connected routes, several routes of one prefix, several next hops, both families.
func TestMonitor(t *testing.T) {
	text, err := os.ReadFile("testdata/ip-monitor.txt")
	if err != nil {
		t.Fatal(err)
	}
	got, err := monitor(string(text), routetext.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"37.261887 + 10.64.0.0/24 20 bgp",
		"37.271511 + 10.64.0.0/24 50 static", // the better one was deleted
		"37.274256 + 10.64.1.0/24 0 bgp",
		"37.275580 + 0.0.0.0/0 0 boot",
		"37.280962 + fd00:64::/48 1024 bgp",
		"37.285890 + ::/0 1024 boot",
		"37.288685 - fd00:64::/48",
		"37.292700 - ::/0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for name, tt := range map[string]struct {
		filter routetext.Filter
		want   []string
	}{
		"a protocol":    {routetext.Filter{Protocols: []string{"static"}}, []string{"37.264795 + 10.64.0.0/24 50 static"}},
		"another table": {routetext.Filter{Table: "100"}, []string{"37.279490 + 10.66.0.1/32 0 boot"}},
	} {
		if got, err = monitor(string(text), tt.filter); err != nil || !cmp.Equal(tt.want, got) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
}

func TestARouteThatBecomesABlackholeIsGone(t *testing.T) {
	got, err := monitor("[2026-03-01T12:00:00.000000] 10.64.0.0/24 via 192.0.2.1 dev d0\n\n[2026-03-01T12:00:01.000000] blackhole 10.64.0.0/24\n", routetext.Filter{})
	if want := []string{"00.000000 + 10.64.0.0/24 0 boot", "01.000000 - 10.64.0.0/24"}; err != nil || !cmp.Equal(want, got) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestTheFamilyOfADefaultRouteWithoutAGateway(t *testing.T) {
	got, err := monitor("[2026-03-01T12:00:00.000000] default dev d0 proto static metric 1024 pref medium\n[2026-03-01T12:00:01.000000] default dev d0 proto static scope link\n", routetext.Filter{})
	if want := []string{"00.000000 + ::/0 1024 static", "01.000000 + 0.0.0.0/0 0 static"}; err != nil || !cmp.Equal(want, got) {
		t.Errorf("%q, %v", got, err)
	}
}

func TestWrongLinesAreNamed(t *testing.T) {
	for text, want := range map[string]string{
		"10.64.0.0/24 via 192.0.2.1":                                "run ip -ts monitor route",
		"[2026-03-01T12:00:00.000000] ":                             "no route",
		"[2026-03-01T12:00:00.000000] Deleted":                      "no route",
		"[2026-03-01T12:00:00.000000] 10.64.0/24 dev d0":            `"10.64.0/24" is no destination`,
		"[2026-03-01T12:00:00.000000] 10.64.0.0/24 dev d0 metric x": "not a number",
	} {
		_, err := monitor("\tnexthop\n"+text, routetext.Filter{})
		if err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "line 2: ") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}

func TestFRR(t *testing.T) {
	text, err := os.ReadFile("testdata/frr.json")
	if err != nil {
		t.Fatal(err)
	}
	entries, err := routetext.FRR(text, routetext.Filter{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, fmt.Sprint(e.Prefix, " ", e.Attrs.Metric, " ", e.Attrs.Origin))
	}
	if diff := cmp.Diff([]string{"10.64.0.0/24 20 bgp", "10.65.0.0/16 0 static"}, got); diff != "" {
		t.Error(diff)
	}
	for text, want := range map[string]string{"[]": "show ip route json", `{"default": []}`: "print one VRF"} {
		if _, err = routetext.FRR([]byte(text), routetext.Filter{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
