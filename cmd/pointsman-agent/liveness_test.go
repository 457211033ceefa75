package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/metadata"
	broker "github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/netns"
)

const livenessYAML = `
witness:
  listen: 10.0.0.%[2]d:9811
  keyFile: %[1]s/key
  every: 50ms
  selfTest: {targets: ["tcp 127.0.0.1:1"]} # refused, which is an answer
  peers: [{nva: nva%[3]d, address: 10.0.0.%[3]d}]
selfCheck: [{uplinks: [p0]}, {command: [/usr/bin/test, "!", -e, %[1]s/unfit], every: 100ms, timeout: 100ms}]
scheduledEvents: {url: %[4]s, settle: 0s, every: 1s}
`

// latestReport is the report that the bus holds.
func (s *site) latestReport() event.Report {
	s.t.Helper()
	var latest event.Event
	for _, m := range s.server.Peek("route-events") {
		if m.State != broker.StateActive && m.State != broker.StateScheduled {
			continue
		}
		e, err := event.Decode(m.Body)
		if err != nil {
			s.t.Fatal(err)
		}
		if e.Reports() && e.Version.Compare(latest.Version) > 0 {
			latest = e
		}
	}
	return latest.Report
}

func (s *site) untilReported(what string, holds func(event.Report) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds(s.latestReport()) {
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: not within 30 s; the bus holds %+v", what, s.latestReport())
		case <-tick.C:
		}
	}
}

// newWitness is a site whose agent watches that of the other number.
func newWitness(t *testing.T, number int) (*site, *metadata.Server) {
	t.Helper()
	s := newSite(t)
	var service *metadata.Server
	if err := s.ns.Do(func() error {
		l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
		if err == nil {
			service, err = metadata.Start(metadata.Config{Listener: l})
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = service.Close() })
	if err := os.WriteFile(filepath.Join(s.dir, "key"), []byte("000102030405060708090a0b0c0d0e0f\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(fmt.Sprintf(agentYAML, s.dir), "nva: nva1", fmt.Sprintf("nva: nva%d", number), 1)
	s.config = write(t, text+fmt.Sprintf(livenessYAML, s.dir, number, 3-number, service.URL()))
	return s, service
}

// TestWhatAnAgentSeesIsOnTheBus: two real agents watch each other; one is killed, its link is cut, it finds itself unfit, and Azure freezes its VM.
func TestWhatAnAgentSeesIsOnTheBus(t *testing.T) {
	a, azure := newWitness(t, 1)
	b, _ := newWitness(t, 2)
	if err := netns.Pair(a.ns, b.ns, "p0", "p0"); err != nil {
		t.Fatal(err)
	}
	for i, s := range []*site{a, b} {
		if err := s.ns.Batch(fmt.Sprintf("addr add 10.0.0.%d/24 dev p0", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	well := func(peer string, reachable bool) func(event.Report) bool {
		return event.Report{SelfCheck: event.Passed, SelfTest: event.Passed, Peers: []event.Peer{{NVA: peer, Reachable: reachable}}}.Equal
	}
	agent := a.start()
	other := b.start()
	a.untilReported("a sees b", well("nva2", true))
	b.untilReported("b sees a", well("nva1", true))

	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = other.Wait()
	a.untilReported("b is killed", well("nva2", false))
	b.start()
	a.untilReported("b is back", well("nva2", true))

	if err := b.ns.Batch("link set p0 down"); err != nil {
		t.Fatal(err)
	}
	a.untilReported("the cable is cut", func(r event.Report) bool {
		return r.SelfCheck == event.Failed && r.Reason == "p0 has no carrier" && slices.Equal(r.Peers, []event.Peer{{NVA: "nva2"}})
	})
	if err := b.ns.Batch("link set p0 up"); err != nil {
		t.Fatal(err)
	}
	a.untilReported("it is mended", well("nva2", true))

	unfit := filepath.Join(a.dir, "unfit")
	if err := os.WriteFile(unfit, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.untilReported("a finds itself unfit", func(r event.Report) bool {
		return r.SelfCheck == event.Failed && r.Reason == "command /usr/bin/test: exit status 1"
	})
	if err := os.Remove(unfit); err != nil {
		t.Fatal(err)
	}
	a.untilReported("a is fit again", well("nva2", true))

	id := azure.Announce("Freeze", time.Now().Add(time.Minute))
	a.untilReported("a freeze is announced", func(r event.Report) bool { return strings.HasPrefix(r.Drain, "Azure will Freeze this VM at ") })
	azure.Complete(id)
	a.untilReported("it is over", well("nva2", true))
	t.Logf("%d KiB resident with witness, self-check and scheduled events", residentKiB(t, agent.Process.Pid))
}

func TestKeyFiles(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "key")
	cfg := write(t, "domain: d\nnva: n\nbus: {connectionStringEnv: BUS}\nsources: [{kernel: {}}]\nwitness: {listen: \"10.0.0.1:9811\", selfTest: none, keyFile: "+key+"}\n")
	check := func(what string, wantCode int, want string) {
		t.Helper()
		_, stderr, code := execute(t, "--check-config", "--config", cfg)
		if code != wantCode || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d\n%swant %d, %q", what, code, stderr, wantCode, want)
		}
	}
	put := func(text string, mode os.FileMode) {
		t.Helper()
		if err := os.WriteFile(key, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(key, mode); err != nil {
			t.Fatal(err)
		}
	}
	check("no file", 78, "head -c 32 /dev/urandom | base64 > "+key)
	put("c2hvcnQ=\n", 0o600)
	check("short", 78, cfg+": witness.keyFile: "+key+": key 1: 5 bytes: want at least 16")
	put("000102030405060708090a0b0c0d0e0f\n", 0o644)
	check("open to all", 0, "can be read by every user")
	put("000102030405060708090a0b0c0d0e0f\n", 0o640)
	if _, stderr, code := execute(t, "--check-config", "--config", cfg); code != 0 || stderr != "" {
		t.Errorf("a good key: exit %d, %s", code, stderr)
	}
}
