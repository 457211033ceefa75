package config_test

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/agent/check"
	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/agent/echo"
	"github.com/pointsman/pointsman/agent/reach"
	"github.com/pointsman/pointsman/agent/scheduled"
)

// livenessOf reads the three sections.
func livenessOf(t *testing.T, text string) config.Config {
	t.Helper()
	c, problems := config.Parse("agent.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return config.Config{Witness: c.Witness, SelfCheck: c.SelfCheck, ScheduledEvents: c.ScheduledEvents}
}

func expectLiveness(t *testing.T, text string, want config.Config) {
	t.Helper()
	if diff := cmp.Diff(want, livenessOf(t, text), cmpopts.EquateComparable(netip.AddrPort{}, netip.Addr{})); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

// livenessDefaults is what the reference says once its comments are removed, and what the least of each section means.
func livenessDefaults() config.Config {
	c := check.Config{Every: 5 * time.Second, Timeout: 2 * time.Second, Fall: 2, Rise: 2}
	program, service, uplinks := c, c, c
	program.Command = []string{"/usr/local/bin/forwards", "--quick"}
	service.TCP = netip.MustParseAddrPort("127.0.0.1:179")
	uplinks.Uplinks = []string{"eth1"}
	return config.Config{
		Witness: &config.Witness{
			Listen: netip.MustParseAddrPort("10.0.1.4:9811"), KeyFile: "/etc/pointsman/witness.key", Every: 200 * time.Millisecond, Misses: 5,
			SelfTest: config.SelfTest{
				Targets: []reach.Target{{Kind: reach.TCP, Address: netip.MustParseAddrPort("168.63.129.16:80")}},
				Every:   time.Second, Timeout: 500 * time.Millisecond, Misses: 3,
			},
			Peers: []echo.Peer{{NVA: "nva2", Address: netip.MustParseAddrPort("10.0.1.5:9811")}},
		},
		SelfCheck: []check.Config{program, service, uplinks},
		ScheduledEvents: &scheduled.Settings{
			Config: scheduled.Config{Lead: time.Minute, Settle: 30 * time.Second}, URL: "http://169.254.169.254", Every: 5 * time.Second,
		},
	}
}

const aSource = beginning + "sources: [{kernel: {}}]\n"

func TestLivenessDefaults(t *testing.T) {
	expectLiveness(t, aSource, config.Config{})
	expectLiveness(t, aSource+`
witness: {listen: "10.0.1.4:9811", keyFile: /etc/pointsman/witness.key, selfTest: {targets: ["tcp 168.63.129.16:80"]}, peers: [{nva: nva2, address: 10.0.1.5}]}
selfCheck: [{command: [/usr/local/bin/forwards, --quick]}, {tcp: "127.0.0.1:179"}, {uplinks: [eth1]}]
scheduledEvents: true
`, livenessDefaults())
	expectLiveness(t, aSource+"scheduledEvents: false\nselfCheck: null\nwitness: null", config.Config{})
}

// TestReferenceOfLivenessIsTheDefaults: the reference with its three sections brought in.
func TestReferenceOfLivenessIsTheDefaults(t *testing.T) {
	text := config.Reference()
	for _, section := range []string{"witness: null", "selfCheck: null", "scheduledEvents: false"} {
		before, rest, found := strings.Cut(text, "\n"+section+"\n#\n")
		block, after, _ := strings.Cut(rest, "\n\n")
		if !found {
			t.Fatalf("the reference has no %s", section)
		}
		text = before + "\n" + regexp.MustCompile(`(?m)^# `).ReplaceAllString(block, "") + "\n\n" + after
	}
	want := livenessDefaults()
	want.Witness.BFD = []bfd.Session{bfdDefaults()}
	expectLiveness(t, text, want)
}

func bfdDefaults() bfd.Session {
	return bfd.Session{
		Name: "nva3", Peer: netip.MustParseAddr("10.0.1.6"), DesiredMinTx: 300 * time.Millisecond, RequiredMinRx: 300 * time.Millisecond, DetectMult: 3,
	}
}

func TestPeersByBFD(t *testing.T) {
	several := bfd.Session{
		Name: "nva4", Peer: netip.MustParseAddr("2001:db8::7"), Local: netip.MustParseAddr("2001:db8::4"), Multihop: true, MinTTL: 250,
		DesiredMinTx: 50 * time.Millisecond, RequiredMinRx: 100 * time.Millisecond, DetectMult: 5, Passive: true,
	}
	expectLiveness(t, aSource+`
witness:
  selfTest: {targets: ["icmp 10.0.1.1"]}
  peers:
    - {nva: nva3, bfd: {address: 10.0.1.6}}
    - nva: nva4
      bfd: {address: "2001:db8::7", localAddress: "2001:db8::4", multihop: true, minimumTtl: 250, transmitInterval: 50ms, receiveInterval: 100ms, detectMultiplier: 5, passive: true}
`, config.Config{Witness: &config.Witness{
		SelfTest: config.SelfTest{
			Targets: []reach.Target{{Kind: reach.ICMP, Address: netip.AddrPortFrom(netip.MustParseAddr("10.0.1.1"), 0)}},
			Every:   200 * time.Millisecond, Timeout: 500 * time.Millisecond, Misses: 3,
		},
		BFD: []bfd.Session{bfdDefaults(), several},
	}})
}

func TestEveryFieldOfLiveness(t *testing.T) {
	expectLiveness(t, aSource+`
witness:
  listen: "[2001:db8::4]:7000"
  keyFile: /run/key
  every: 50ms
  misses: 3
  selfTest: {targets: ["icmp 2001:db8::1 source 2001:db8::4 interface eth1"], every: 100ms, timeout: 10ms, misses: 1}
  peers:
    - {nva: nva2, address: "2001:db8::5"}
    - {nva: nva3, address: "[2001:db8::6]:7001"}
selfCheck:
  - {command: [/bin/true], every: 1m, timeout: 1m, fall: 1, rise: 100}
  - {tcp: "[::1]:179", every: 100ms, timeout: 10ms}
  - {uplinks: [eth1, bond0.7]}
scheduledEvents: {every: 1s, vm: nva_0, lead: 15m, settle: 0s, approve: true, url: "http://127.0.0.1:8080/"}
`, config.Config{
		Witness: &config.Witness{
			Listen: netip.MustParseAddrPort("[2001:db8::4]:7000"), KeyFile: "/run/key", Every: 50 * time.Millisecond, Misses: 3,
			SelfTest: config.SelfTest{
				Targets: []reach.Target{{
					Kind: reach.ICMP, Address: netip.AddrPortFrom(netip.MustParseAddr("2001:db8::1"), 0), Source: netip.MustParseAddr("2001:db8::4"), Interface: "eth1",
				}},
				Every: 100 * time.Millisecond, Timeout: 10 * time.Millisecond, Misses: 1,
			},
			Peers: []echo.Peer{
				{NVA: "nva2", Address: netip.MustParseAddrPort("[2001:db8::5]:7000")}, {NVA: "nva3", Address: netip.MustParseAddrPort("[2001:db8::6]:7001")},
			},
		},
		SelfCheck: []check.Config{
			{Command: []string{"/bin/true"}, Every: time.Minute, Timeout: time.Minute, Fall: 1, Rise: 100},
			{TCP: netip.MustParseAddrPort("[::1]:179"), Every: 100 * time.Millisecond, Timeout: 10 * time.Millisecond, Fall: 2, Rise: 2},
			{Uplinks: []string{"eth1", "bond0.7"}, Every: 5 * time.Second, Timeout: 2 * time.Second, Fall: 2, Rise: 2},
		},
		ScheduledEvents: &scheduled.Settings{
			Config: scheduled.Config{VM: "nva_0", Lead: 15 * time.Minute, Approve: true}, URL: "http://127.0.0.1:8080/", Every: time.Second,
		},
	})
	expectLiveness(t, aSource+"witness: {listen: \"10.0.1.4:9811\", keyFile: /k, selfTest: none}", config.Config{Witness: &config.Witness{
		Listen: netip.MustParseAddrPort("10.0.1.4:9811"), KeyFile: "/k", Every: 200 * time.Millisecond, Misses: 5,
	}})
}

func TestProblemsOfLiveness(t *testing.T) {
	for text, wants := range map[string][]string{
		"witness: {}": {
			"f:5:10: witness.listen: missing: want an address of this machine", "f:5:10: witness.keyFile: missing: want an absolute path",
			"f:5:10: witness.selfTest: missing: want none, or a mapping",
		},
		`witness: {listen: "0.0.0.0:9811", keyFile: key, every: 1ms, misses: 1, selfTest: some}`: {
			`witness.listen: found "0.0.0.0:9811", which is every address of this machine`, `witness.keyFile: found "key": want an absolute path`,
			`witness.every: found "1ms": want a duration from 50ms to 10s`, `witness.misses: found "1": want a number from 2 to 50`,
			`witness.selfTest: found "some" (did you mean none?): want none`,
		},
		`witness: {listen: "10.0.1.4:9811", keyFile: /k, selfTest: {every: 0s, timeout: 1h, misses: 0}, peers: []}`: {
			"witness.selfTest.targets: missing: want a list", "witness.selfTest.every: found", "witness.selfTest.timeout: found",
			"witness.selfTest.misses: found", "witness.peers: the list is empty: want at least one peer",
		},
		`witness: {listen: "10.0.1.4:9811", keyFile: /k, selfTest: {targets: []}}`: {"witness.selfTest.targets: the list is empty: want at least one target, or selfTest: none"},
		`witness: {listen: "10.0.1.4:9811", keyFile: /k, selfTest: {targets: ["udp 10.0.0.1:7", tcp 10.0.0.1]}}`: {
			`witness.selfTest.targets[0]: found "udp 10.0.0.1:7": want a line in quotes such as`, `witness.selfTest.targets[1]: found "tcp 10.0.0.1": "10.0.0.1" is no address of that kind`,
		},
		`witness: {listen: "10.0.1.4:9811", keyFile: /k, selfTest: none, peers: [{nva: nva1, address: 10.0.1.5}, {nva: a, address: 10.0.1.4}, {nva: a, address: "::1"}, {nva: b, address: 10.0.1.5}, {address: x}]}`: {
			"witness.peers[0]: nva1 is this NVA itself", "witness.peers[1].address: found 10.0.1.4, which is the address of this machine",
			"witness.peers[2].address: found ::1: want the family of listen", "witness.peers[2]: a second peer with the name a",
			"witness.peers[3].address: a second peer with the address 10.0.1.5:9811", "witness.peers[4].nva: missing", `witness.peers[4].address: found "x"`,
		},
		"witness: {keyFile: /k, every: 1s, misses: 3, selfTest: none, peers: [{nva: b, bfd: {address: 10.0.1.6}}]}": {
			"witness.keyFile: of no use without listen", "witness.every: of no use without listen", "witness.misses: of no use without listen",
		},
		`witness: {selfTest: none, peers: [{nva: b, bfd: {address: 10.0.1.6}, address: 10.0.1.6}, {nva: c, bfd: {}}, {nva: d, bfd: {address: 224.0.0.1, minimumTtl: 3, passive: 1}}, {nva: e, bfd: {address: 10.0.1.7, transmitInterval: 1ms, detectMultiplier: 0}}]}`: {
			"witness.peers[0]: found address and bfd: want one way to watch a peer", "witness.peers[1].bfd.address: missing", "bfd: session d: the peer is 224.0.0.1",
			"witness.peers[2].bfd.minimumTtl: of no use without multihop", "witness.peers[2].bfd.passive: found", "witness.peers[3].bfd.transmitInterval: found",
			"witness.peers[3].bfd.detectMultiplier: found",
		},
		"witness: {selfTest: none, peers: [{nva: b, bfd: {address: 10.0.1.6}}, {nva: c, bfd: {address: 10.0.1.6}}]}": {"session b has the same peer"},
		"selfCheck: []": {"selfCheck: the list is empty: want at least one check"},
		`selfCheck: [{}, {tcp: "127.0.0.1:1", uplinks: [a]}, {command: []}, {command: [check]}, {uplinks: []}, {uplinks: [eth1], fall: 1}, {tcp: "127.0.0.1:0"}, {tcp: "127.0.0.1:1", timeout: 10s}]`: {
			"selfCheck[0]: found 0 of command, tcp and uplinks: want one of them", "selfCheck[1]: found 2 of command, tcp and uplinks",
			"selfCheck[2].command: the list is empty", `selfCheck[3].command: found the program "check": want its absolute path`,
			"selfCheck[4].uplinks: the list is empty", "selfCheck[5].fall: of no use with uplinks", `selfCheck[6].tcp: found "127.0.0.1:0"`,
			"selfCheck[7]: timeout 10s is longer than every 5s",
		},
		"scheduledEvents: perhaps": {`scheduledEvents: found "perhaps": want true, false or a mapping`},
		`scheduledEvents: {every: 1ms, lead: 1h, settle: 1h, approve: 1, url: "https://x/y"}`: {
			"scheduledEvents.every: found", "scheduledEvents.lead: found", "scheduledEvents.settle: found", "scheduledEvents.approve: found", `scheduledEvents.url: found "https://x/y"`,
		},
		`scheduledEvents: {url: "http://x/y"}`: {"scheduledEvents.url: found more than a scheme, a host and a port"},
	} {
		_, problems := config.Parse("f", []byte(aSource+text))
		for _, want := range wants {
			if !strings.Contains(problems.Error(), want) {
				t.Errorf("%s: no problem %q", text, want)
			}
		}
		if len(problems) != len(wants) {
			t.Errorf("%s: %d problems, want %d:\n%v", text, len(problems), len(wants), problems)
		}
	}
}
