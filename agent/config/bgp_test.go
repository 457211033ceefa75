package config_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

const beginning = "domain: hub-weu\nnva: nva1\nbus: {namespace: example.servicebus.windows.net}\n"

func speaker(t *testing.T, text string) *bgp.Config {
	t.Helper()
	c, problems := config.Parse("agent.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	i := slices.IndexFunc(c.Sources, func(s config.Source) bool { return s.BGP != nil })
	if i < 0 {
		t.Fatal("no bgp source")
	}
	return c.Sources[i].BGP
}

func expectSpeaker(t *testing.T, text string, want *bgp.Config) {
	t.Helper()
	if diff := cmp.Diff(want, speaker(t, text), cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{}, netip.Prefix{}, bgp.Community{})); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func speakerDefaults() *bgp.Config {
	return &bgp.Config{
		AS: 65010, RouterID: netip.MustParseAddr("192.0.2.1"), RestartTime: 2 * time.Minute, OnSessionLoss: bgp.Keep,
		MaxPrefixes: 10_000, OnMaxPrefixes: bgp.Hold,
		Peers: []bgp.Peer{{
			Name: "192.0.2.2", Address: netip.MustParseAddr("192.0.2.2"), Port: 179, AS: 65010, Families: bgp.Families(), HoldTime: 90 * time.Second,
		}},
	}
}

func TestBGPDefaults(t *testing.T) {
	expectSpeaker(t, beginning+"sources: [{bgp: {as: 65010, routerId: 192.0.2.1, peers: [{address: 192.0.2.2}]}}]", speakerDefaults())
}

// referenceWithBGP is the reference with its bgp source brought in.
func referenceWithBGP(t *testing.T) string {
	t.Helper()
	before, rest, found := strings.Cut(config.Reference(), "  # - bgp:\n")
	block, after, _ := strings.Cut(rest, "\n\n")
	if !found {
		t.Fatal("the reference has no bgp source")
	}
	block = regexp.MustCompile(`(?m)^  # `).ReplaceAllString("  # - bgp:\n"+block, "  ")
	return before + block + "\n\n" + after
}

func TestReferenceOfBGPIsTheDefaults(t *testing.T) {
	expectSpeaker(t, referenceWithBGP(t), speakerDefaults())
}

func TestReferenceNamesEveryFieldOfBGP(t *testing.T) {
	known, mappings := regexp.MustCompile(`known here: (.*)`), 0
	for _, text := range []string{"{x: 1}", "{peers: [{x: 1}]}", "{communities: {x: 1}}", "{asPath: {x: 1}}"} {
		_, problems := config.Parse("f", []byte(beginning+"sources: [{bgp: "+text+"}]"))
		for _, p := range problems {
			m := known.FindStringSubmatch(p.Text)
			if m == nil {
				continue
			}
			mappings++
			for key := range strings.SplitSeq(m[1], ", ") {
				if !regexp.MustCompile(`(?m)^[ -]*` + key + `:`).MatchString(referenceWithBGP(t)) {
					t.Errorf("reference.yaml does not name %s", key)
				}
			}
		}
	}
	if mappings != 4 {
		t.Errorf("%d mappings were checked, want 4", mappings)
	}
}

func TestEveryFieldOfBGP(t *testing.T) {
	match, err := route.ParseMatch("10.0.0.0/8 le 24")
	if err != nil {
		t.Fatal(err)
	}
	expectSpeaker(t, beginning+`
sources:
  - kernel: {}
  - bgp:
      as: 65001
      listen: "127.0.0.2:1790"
      restartTime: 30s
      onSessionLoss: withdraw
      include: [10.0.0.0/8 le 24]
      exclude: [10.0.0.0/8 le 24]
      communities: {allow: ["65010:100", "4200000000:1:2"], deny: [no-export]}
      asPath: {deny: [65099], maxLength: 5}
      maxPrefixes: 77
      onMaxPrefixes: cease
      metric: [community 65010:1 metric 10, local-preference ge 200 metric 20, local-preference 7 metric 4294967295]
      peers:
        - {name: frr, address: 127.0.0.1, as: 65010, passive: true, multihop: 2, passwordFile: /etc/pointsman/bgp, families: [ipv6-unicast], holdTime: 9s, weight: 5}
        - {address: "2001:db8::1", port: 1179, localAddress: "2001:db8::2", ttlSecurity: 1}
`, &bgp.Config{
		AS: 65001, RouterID: netip.MustParseAddr("127.0.0.2"), Listen: netip.MustParseAddrPort("127.0.0.2:1790"), RestartTime: 30 * time.Second,
		OnSessionLoss: bgp.Withdraw, Include: []route.Match{match}, Exclude: []route.Match{match},
		Communities: bgp.Communities{
			Allow: []bgp.Community{bgp.NewCommunity(65010<<16 + 100), bgp.NewLargeCommunity(4200000000, 1, 2)}, Deny: []bgp.Community{bgp.NewCommunity(0xffffff01)},
		},
		ASPath: bgp.ASPath{Deny: []uint32{65099}, MaxLength: 5}, MaxPrefixes: 77, OnMaxPrefixes: bgp.Cease,
		Metric: []bgp.MetricRule{
			{Community: bgp.NewCommunity(65010<<16 + 1), Metric: 10}, {AtLeast: 200, AtMost: 1<<32 - 1, Metric: 20}, {AtLeast: 7, AtMost: 7, Metric: 1<<32 - 1},
		},
		Peers: []bgp.Peer{
			{
				Name: "frr", Address: netip.MustParseAddr("127.0.0.1"), Port: 179, AS: 65010, Passive: true, Multihop: 2, PasswordFile: "/etc/pointsman/bgp",
				Families: []bgp.Family{bgp.IPv6Unicast}, HoldTime: 9 * time.Second, Weight: 5,
			},
			{
				Name: "2001:db8::1", Address: netip.MustParseAddr("2001:db8::1"), Port: 1179, LocalAddress: netip.MustParseAddr("2001:db8::2"), AS: 65001,
				TTLSecurity: 1, Families: bgp.Families(), HoldTime: 90 * time.Second,
			},
		},
	})
}

func TestProblemsOfBGP(t *testing.T) {
	_, problems := config.Parse("f", []byte(beginning+`sources:
  - bgp:
      as: 0
      routerId: 0.0.0.0
      listen: 0.0.0.0:1790
      onSessionLoss: forget
      communities: {deny: ["65536:1"]}
      asPath: {maxLength: 0}
      maxPrefixes: 0
      metric: [metric 10, community 1:2 metric x]
      peers:
        - {as: 65010, families: [ipv4-multicast], holdTime: 2s}
        - {address: 0.0.0.0}
  - bgp: {as: 65001, routerId: 192.0.2.1, peers: [{address: 127.0.0.1, passive: true, multihop: 2, ttlSecurity: 1, passwordFile: secret}]}
  - bgp: {as: 65001, peers: []}
`))
	for _, want := range []string{
		`f:6:11: sources[0].bgp.as: found "0"`,
		`f:7:17: sources[0].bgp.routerId: found "0.0.0.0"`,
		`f:8:15: sources[0].bgp.listen: found "0.0.0.0:1790", which is every address`,
		`f:9:22: sources[0].bgp.onSessionLoss: found "forget"`,
		`f:10:28: sources[0].bgp.communities.deny[0]: found "65536:1": "65536" is not a number of 16 bits`,
		`f:11:27: sources[0].bgp.asPath.maxLength: found`,
		`f:12:20: sources[0].bgp.maxPrefixes: found`,
		`f:13:16: sources[0].bgp.metric[0]: found "metric 10"`,
		`f:13:27: sources[0].bgp.metric[1]: found "community 1:2 metric x": "x" is not a number`,
		`sources[0].bgp.peers[0].address: missing: want an IP address`,
		`sources[0].bgp.peers[0].families[0]: found "ipv4-multicast"`,
		`sources[0].bgp.peers[0].holdTime: found`,
		`sources[0].bgp.peers[1].address: found "0.0.0.0"`,
		`sources[1].bgp.peers[0].passive: a passive peer needs somebody who listens`,
		`sources[1].bgp.peers[0].ttlSecurity: multihop and ttlSecurity exclude each other`,
		`sources[1].bgp.peers[0].passwordFile: found "secret"`,
		`sources[1]: a second bgp source`,
	} {
		if !strings.Contains(problems.Error(), want) {
			t.Errorf("no problem %q", want)
		}
	}
	if t.Failed() {
		t.Log(problems)
	}
	if n := len(problems); n != 18 {
		t.Errorf("%d problems, want 18:\n%v", n, problems)
	}
}

func TestContradictionsOfBGP(t *testing.T) {
	for peer, want := range map[string]string{
		"{address: 192.0.2.2, multihop: 2}":                           "an iBGP peer needs no multihop",
		"{address: 192.0.2.2, localAddress: '2001:db8::1'}":           "want the family of 192.0.2.2",
		"{address: '2001:db8::1', passive: true}":                     "want both of one family",
		"{address: 192.0.2.2}, {address: 192.0.2.2}":                  "a second peer with the address",
		"{address: 192.0.2.2}, {address: 192.0.2.3, name: 192.0.2.2}": "a second peer with the name",
		"{address: 192.0.2.2, holdTime: 3500ms}":                      "want whole seconds",
		"{address: 'fe80::1%eth0'}":                                   "found",
		"{address: 192.0.2.2, as: 23456}":                             "AS_TRANS",
	} {
		_, problems := config.Parse("f", []byte(beginning+"sources: [{bgp: {as: 65001, listen: '127.0.0.2:1790', peers: ["+peer+"]}}]"))
		if len(problems) != 1 || !strings.Contains(problems.Error(), want) {
			t.Errorf("%s: got %v, want %q", peer, problems, want)
		}
	}
}

// TestBuildWithoutBGP: the problem stands where the source does, and nothing else is said of it.
func TestBuildWithoutBGP(t *testing.T) {
	_, problems := config.Parse("f", []byte(beginning+"sources:\n  - kernel: {}\n  - bgp: {as: wrong}\n"), "bgp")
	if got, want := problems.Error(), "f:6:10: sources[1].bgp: this build has no BGP: install pointsman-agent-bgp"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if _, problems = config.Parse("f", []byte(beginning+"sources: [{kernel: {}, bgp: {as: 65001, routerId: 192.0.2.1, peers: [{address: 192.0.2.2}]}}]")); len(problems) != 1 || !strings.Contains(problems.Error(), "an item of the list for each") {
		t.Errorf("two kinds in one: %v", problems)
	}
}
