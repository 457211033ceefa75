package config_test

import (
	"log/slog"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/shared/route"
)

const least = `
domain: hub-weu
nva: nva1
bus: {namespace: example.servicebus.windows.net}
sources: [{kernel: {}}]
`

func defaults() *config.Config {
	return &config.Config{
		Domain: "hub-weu", NVA: "nva1",
		Bus:     config.Bus{Queue: "route-events", Namespace: "example.servicebus.windows.net"},
		Sources: []config.Source{{Kernel: &config.Kernel{Tables: []uint32{254}, ReadBuffer: 8 << 20, Resync: 5 * time.Minute}}},
		Gather:  config.Gather{Quiet: 100 * time.Millisecond, Max: time.Second},
		Beat:    config.Beat{Every: 5 * time.Second, Timeout: 15 * time.Second}, Snapshot: 10 * time.Minute, Restart: 2 * time.Minute,
		OnStop: config.Auto, StopTimeout: 5 * time.Second, Listen: netip.MustParseAddrPort("127.0.0.1:9810"), StateDir: "/var/lib/pointsman",
		Log: config.Log{Level: slog.LevelInfo},
	}
}

func expect(t *testing.T, text string, want *config.Config) {
	t.Helper()
	got, problems := config.Parse("agent.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Errorf("config (-want +got):\n%s", diff)
	}
}

func TestDefaults(t *testing.T) { expect(t, least, defaults()) }

func TestReferenceIsTheDefaults(t *testing.T) { expect(t, config.Reference(), defaults()) }

// TestReferenceNamesEveryField: the parser names all keys that it knows when it meets one that it does not know.
func TestReferenceNamesEveryField(t *testing.T) {
	known := regexp.MustCompile(`known here: (.*)`)
	mappings := 0
	for _, text := range []string{
		"x: 1", "bus: {x: 1}", "sources: [{x: 1}]", "sources: [{kernel: {x: 1}}]", "gather: {x: 1}", "beat: {x: 1}", "signing: {x: 1}", "log: {x: 1}",
		"witness: {x: 1}", "witness: {selfTest: {x: 1}}", "witness: {peers: [{x: 1}]}", "witness: {peers: [{bfd: {x: 1}}]}", "selfCheck: [{x: 1}]", "scheduledEvents: {x: 1}",
	} {
		_, problems := config.Parse("f", []byte(text))
		for _, p := range problems {
			m := known.FindStringSubmatch(p.Text)
			if m == nil {
				continue
			}
			mappings++
			for key := range strings.SplitSeq(m[1], ", ") {
				if !regexp.MustCompile(`(?m)^[ #-]*` + key + `:`).MatchString(config.Reference()) {
					t.Errorf("reference.yaml does not name %s", key)
				}
			}
		}
	}
	if mappings != 14 {
		t.Errorf("%d mappings were checked, want 14", mappings)
	}
}

func TestEveryField(t *testing.T) {
	match := func(s string) []route.Match {
		m, err := route.ParseMatch(s)
		if err != nil {
			t.Fatal(err)
		}
		return []route.Match{m}
	}
	expect(t, `
domain: d
nva: n
bus: {queue: q, connectionStringFile: /run/secret}
sources:
  - kernel: {tables: [100, main], protocols: [bgp, 12], interfaces: [tun0], include: [10.0.0.0/8 le 24], exclude: [10.9.0.0/16],
      blackhole: true, keepLinkdown: true, readBuffer: 65536, resync: 1m}
  - kernel: {}
include: [10.0.0.0/8 ge 9]
exclude: [10.8.0.0/16]
gather: {quiet: 0s, max: 2s}
beat: {every: 1s, timeout: 3s}
snapshot: 1m
restart: 30s
onStop: draining
stopTimeout: 1s
listen: off
stateDir: /tmp/x
signing: {keyFile: /tmp/key}
log: {level: debug, format: json}
`, &config.Config{
		Domain: "d", NVA: "n", Bus: config.Bus{Queue: "q", ConnectionStringFile: "/run/secret"},
		Sources: []config.Source{
			{Kernel: &config.Kernel{
				Tables: []uint32{100, 254}, Protocols: []uint8{186, 12}, Interfaces: []string{"tun0"}, Include: match("10.0.0.0/8 le 24"),
				Exclude: match("10.9.0.0/16"), Blackhole: true, KeepLinkdown: true, ReadBuffer: 65536, Resync: time.Minute,
			}},
			{Kernel: &config.Kernel{Tables: []uint32{254}, ReadBuffer: 8 << 20, Resync: 5 * time.Minute}},
		},
		Include: match("10.0.0.0/8 ge 9"), Exclude: match("10.8.0.0/16"),
		Gather: config.Gather{Max: 2 * time.Second}, Beat: config.Beat{Every: time.Second, Timeout: 3 * time.Second},
		Snapshot: time.Minute, Restart: 30 * time.Second, OnStop: config.Draining, StopTimeout: time.Second, StateDir: "/tmp/x", Signing: config.Signing{KeyFile: "/tmp/key"},
		Log: config.Log{Level: slog.LevelDebug, JSON: true},
	})
}

func TestEveryProblemAtOnce(t *testing.T) {
	_, problems := config.Parse("agent.yaml", []byte(`domain: Hub
bus:
  namespace: Endpoint=sb://x.servicebus.windows.net;SharedAccessKeyName=k;SharedAccessKey=geheim
  connectionStringEnv: BUS
sources:
  - kernel:
      tables: [local, 255]
      protocols: [bpg]
      include: [10.0.0.1/8]
gather: {quiet: 2s}
beat: {every: 10s}
listen: 0.0.0.0:9810
onstop: auto
signing: {keyFile: signing.key}
`))
	want := []string{
		"agent.yaml:1:1: nva: missing: want 1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit",
		"agent.yaml:1:9: domain: found \"Hub\": want",
		"agent.yaml:3:3: bus: 2 ways to the queue: want only one",
		"agent.yaml:3:14: bus.namespace: found a connection string, which must not stand here",
		"agent.yaml:7:16: sources[0].kernel.tables[0]: found \"local\": want main",
		"agent.yaml:7:23: sources[0].kernel.tables[1]: found \"255\"",
		"agent.yaml:8:19: sources[0].kernel.protocols[0]: found \"bpg\"",
		"agent.yaml:9:17: sources[0].kernel.include[0]: \"10.0.0.1/8\" is not canonical: write 10.0.0.0/8",
		"agent.yaml:10:9: gather: max 1s is shorter than quiet 2s",
		"agent.yaml:11:7: beat: timeout 15s is less than twice every 10s",
		"agent.yaml:12:9: listen: found \"0.0.0.0:9810\": want a loopback address",
		"agent.yaml:13:1: onstop: unknown field (did you mean onStop?)",
		"agent.yaml:14:20: signing.keyFile: found \"signing.key\": want an absolute path",
	}
	got := strings.Split(problems.Error(), "\n")
	for i := range max(len(got), len(want)) {
		switch {
		case i >= len(got):
			t.Errorf("missing %q", want[i])
		case i >= len(want):
			t.Errorf("not expected: %q", got[i])
		case !strings.HasPrefix(got[i], want[i]):
			t.Errorf("problem %d:\n got %s\nwant %s…", i, got[i], want[i])
		}
	}
	if strings.Contains(problems.Error(), "geheim") {
		t.Error("the key is repeated")
	}
}

func TestBus(t *testing.T) {
	for text, want := range map[string]string{
		"bus: {}":                        "no way to the queue",
		"bus: {queue: q}":                "no way to the queue",
		"bus: {namespace: sb://x.y.net}": "want a host name",
		"bus: {connectionStringEnv: B, clientID: x}": "of no use without namespace",
		"bus: {connectionStringFile: secret}":        "want an absolute path",
	} {
		_, problems := config.Parse("f", []byte("domain: d\nnva: n\nsources: [{kernel: {}}]\n"+text))
		if len(problems) != 1 || !strings.Contains(problems.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, problems, want)
		}
	}
	for _, text := range []string{"sources: []", "sources: [{}]", "sources: [{kernel}]"} {
		_, problems := config.Parse("f", []byte("domain: d\nnva: n\nbus: {connectionStringEnv: B}\n"+text))
		if len(problems) != 1 {
			t.Errorf("%s: got %v, want one problem", text, problems)
		}
	}
}
