package lab_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/replay/mrt"
)

// collectorConf is a BIRD that records what its peer says, as messages and, each second, as a table.
const collectorConf = `
router id 10.0.2.9;
mrtdump "%[1]s/updates.mrt";
protocol device {}
protocol mrt { table "master4"; filename "%[1]s/rib4.%%s.mrt"; period 1; }
protocol mrt { table "master6"; filename "%[1]s/rib6.%%s.mrt"; period 1; }
protocol bgp peer {
  mrtdump { states, messages };
  local 10.0.2.9 as 65020;
  neighbor 10.0.2.4 as 65010;
  connect retry time 1;
  ipv4 { import all; export none; };
  ipv6 { import all; export none; };
}
`

// speakerConf is a BIRD that announces what stands in its static protocols.
const speakerConf = `
router id 10.0.2.4;
protocol device {}
protocol static four { ipv4; %s}
protocol static six { ipv6; %s}
protocol bgp peer {
  local 10.0.2.4 as 65010;
  neighbor 10.0.2.9 as 65020;
  connect retry time 1;
  ipv4 { import none; export all; next hop self; };
  ipv6 { import none; export all; next hop address 2001:db8:2::4; };
}
`

// recorded is one peer's table by what the newest of the files says of it; nil: there is none, or BIRD is just writing it.
func recorded(t *testing.T, pattern string) []string {
	t.Helper()
	files, err := filepath.Glob(pattern)
	must(t, err)
	if len(files) == 0 {
		return nil
	}
	text, err := os.ReadFile(slices.Max(files))
	must(t, err)
	has := map[netip.Prefix]bool{}
	for c, wrong := range mrt.Changes(bytes.NewReader(text)) {
		if wrong != nil {
			return nil
		}
		if c.Kind == mrt.Down {
			clear(has)
		}
		for _, p := range c.Withdraw {
			delete(has, p)
		}
		for _, e := range c.Announce {
			has[e.Prefix] = true
		}
	}
	out := make([]string, 0, len(has))
	for p := range has {
		out = append(out, p.String())
	}
	slices.Sort(out)
	return out
}

// TestMRTOfBIRD: what BIRD has written, as updates and as tables, says what its peer announces, and nothing is lost on the way.
func TestMRTOfBIRD(t *testing.T) {
	t.Parallel()
	need(t, "bird", "birdc")
	nva, other := pair(t)
	must(t, nva.ns.Batch("addr add "+nvaAddress6+"/64 dev eth0 nodad"))
	must(t, other.ns.Batch("addr add 2001:db8:2::9/64 dev eth0 nodad"))
	withBIRD(other, fmt.Sprintf(collectorConf, other.dir))

	announce := func(prefixes []string) {
		var v4, v6 strings.Builder
		for _, p := range prefixes {
			b := &v4
			if strings.Contains(p, ":") {
				b = &v6
			}
			fmt.Fprintf(b, "route %s blackhole; ", p)
		}
		text := fmt.Sprintf(speakerConf, v4.String(), v6.String())
		if _, err := os.Stat(nva.path("bird.ctl")); err != nil {
			withBIRD(nva, text)
			return
		}
		must(t, os.WriteFile(nva.path("bird.conf"), []byte(text), 0o600))
		out, err := exec.CommandContext(t.Context(), "birdc", "-s", nva.path("bird.ctl"), "configure").CombinedOutput()
		if err != nil {
			t.Fatalf("birdc configure: %v: %s", err, out)
		}
	}
	prefixes := func(from, to int) (out []string) {
		for i := from; i < to; i++ {
			out = append(out, fmt.Sprintf("10.%d.%d.0/24", 64+i/256, i%256))
		}
		return append(out, fmt.Sprintf("2001:db8:%x::/48", 256+from), fmt.Sprintf("2001:db8:%x::/48", 256+to))
	}
	shows := func(want []string) {
		t.Helper()
		slices.Sort(want)
		of := func(six bool) (out []string) {
			for _, p := range want {
				if strings.Contains(p, ":") == six {
					out = append(out, p)
				}
			}
			return out
		}
		other.until("the updates", func() bool { return slices.Equal(recorded(t, other.path("updates.mrt")), want) })
		other.until("the table of IPv4", func() bool { return slices.Equal(recorded(t, other.path("rib4.*.mrt")), of(false)) })
		other.until("the table of IPv6", func() bool { return slices.Equal(recorded(t, other.path("rib6.*.mrt")), of(true)) })
	}
	announce(prefixes(0, 400))
	shows(prefixes(0, 400))
	announce(prefixes(100, 300))
	shows(prefixes(100, 300))
	announce(append(prefixes(290, 310), "0.0.0.0/0", "10.0.0.0/8", "10.9.8.7/32"))
	shows(append(prefixes(290, 310), "0.0.0.0/0", "10.0.0.0/8", "10.9.8.7/32"))
}
