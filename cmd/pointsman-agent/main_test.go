package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	broker "github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/signature"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/netns"
)

// buildDir holds the binary; it is set by TestMain.
var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "pointsman-agent"); err != nil {
		panic(err)
	}
	code := netns.Main(m)
	_ = os.RemoveAll(buildDir)
	os.Exit(code)
}

// binary builds the agent as it is shipped, once.
var binary = sync.OnceValues(func() (string, error) {
	path := filepath.Join(buildDir, "pointsman-agent")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, buildErr := build.CombinedOutput(); buildErr != nil {
		return "", fmt.Errorf("%w: %s", buildErr, out)
	}
	return path, nil
})

func agentBinary(t *testing.T) string {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func execute(t *testing.T, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), agentBinary(t), args...)
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	if cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return out.String(), errOut.String(), cmd.ProcessState.ExitCode()
}

func TestBinaryIsSmall(t *testing.T) {
	info, err := os.Stat(agentBinary(t))
	if err != nil {
		t.Fatal(err)
	}
	const limit = 15_000_000
	if info.Size() >= limit {
		t.Errorf("the stripped binary has %d bytes, want less than %d", info.Size(), limit)
	}
}

func TestCommandLine(t *testing.T) {
	good := write(t, "domain: d\nnva: n\nbus: {connectionStringEnv: BUS}\nsources: [{kernel: {}}]\n")
	speaker := write(t, "domain: d\nnva: n\nbus: {connectionStringEnv: BUS}\nsources:\n  - bgp: {}\n")
	bad := write(t, "domain: D\nnva: n\nbus: {}\nsources: []\nbeta: {}\n")
	for name, test := range map[string]struct {
		args   []string
		code   int
		stdout string
		stderr []string // every one must be there
	}{
		"version":           {args: []string{"--version"}, stdout: "pointsman-agent "},
		"good config":       {args: []string{"--check-config", "--config", good}, stdout: "ok\n"},
		"bad config":        {args: []string{"--check-config", "--config", bad}, code: 78, stderr: []string{bad + ":1:9: domain: ", bad + ":3:6: bus: ", bad + ":4:10: sources: ", bad + ":5:1: beta: unknown field (did you mean beat?)"}},
		"bgp":               {args: []string{"--check-config", "--config", speaker}, code: 78, stderr: []string{speaker + ":5:10: sources[0].bgp: this build has no BGP: install pointsman-agent-bgp"}},
		"no config":         {args: []string{"--check-config", "--config", "/nonexistent"}, code: 78, stderr: []string{"/nonexistent"}},
		"unknown flag":      {args: []string{"--frobnicate"}, code: 78, stderr: []string{"frobnicate"}},
		"argument":          {args: []string{"start"}, code: 78, stderr: []string{`"start"`}},
		"once alone":        {args: []string{"--once"}, code: 78, stderr: []string{"--once and --print go together"}},
		"no secret":         {args: []string{"--config", good}, code: 1, stderr: []string{"BUS is empty"}},
		"help is no error":  {args: []string{"--help"}, stderr: []string{"-check-config"}},
		"it must not start": {args: []string{"--config", bad}, code: 78, stderr: []string{"domain"}},
	} {
		t.Run(name, func(t *testing.T) {
			stdout, stderr, code := execute(t, test.args...)
			if code != test.code || !strings.HasPrefix(stdout, test.stdout) {
				t.Errorf("exit %d, stdout %q: want %d, %q\n%s", code, stdout, test.code, test.stdout, stderr)
			}
			for _, want := range test.stderr {
				if !strings.Contains(stderr, want) {
					t.Errorf("stderr does not say %q:\n%s", want, stderr)
				}
			}
		})
	}
}

func TestOncePrintsTheKernelsRoutes(t *testing.T) {
	ns := netns.New(t)
	if err := ns.Batch("link add d0 type veth peer name d1", "addr add 192.0.2.1/24 dev d0", "link set d0 up", "link set d1 up",
		"route add 10.1.0.0/16 via 192.0.2.9 proto bgp metric 20", "route add 10.2.0.0/16 via 192.0.2.9 proto static"); err != nil {
		t.Fatal(err)
	}
	cfg := write(t, "domain: d\nnva: n\nbus: {connectionStringEnv: BUS}\nsources: [{kernel: {protocols: [bgp]}}]\n")
	out, err := ns.Run(agentBinary(t), "--config", cfg, "--once", "--print")
	if err != nil {
		t.Fatal(err)
	}
	e, err := event.Decode([]byte(out))
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if len(e.Announce) != 1 || e.Announce[0].Prefix.String() != "10.1.0.0/16" || e.Announce[0].Attrs.Metric != 20 || e.Announce[0].Attrs.Origin != "bgp" {
		t.Errorf("announced %+v, want 10.1.0.0/16 metric 20 of bgp", e.Announce)
	}
}

// site is a network namespace with a broker in it and room for one agent.
type site struct {
	t      *testing.T
	ns     *netns.NS
	server *broker.Server
	config string
	dir    string
	key    signature.Key // that signs
}

const agentYAML = `
domain: lab
nva: nva1
bus: {connectionStringFile: %[1]s/connection}
sources: [{kernel: {protocols: [bgp]}}]
beat: {every: 1s, timeout: 3s}
restart: 3s
onStop: auto
stateDir: %[1]s
signing: {keyFile: %[1]s/signing.key}
listen: 127.0.0.1:9810
`

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, ns: netns.New(t), dir: t.TempDir()}
	if err := s.ns.Do(func() (err error) {
		s.server, err = broker.Start(broker.Config{Queues: []broker.QueueConfig{{Name: "route-events"}}})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.server.Close() })
	if err := os.WriteFile(filepath.Join(s.dir, "connection"), []byte(s.server.ConnectionString("")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.config = write(t, fmt.Sprintf(agentYAML, s.dir))
	s.key = makeKey(t, s.config)
	if err := s.ns.Batch("link add d0 type veth peer name d1", "addr add 192.0.2.1/24 dev d0", "link set d0 up", "link set d1 up",
		"route add 10.1.0.0/16 via 192.0.2.9 proto bgp"); err != nil {
		t.Fatal(err)
	}
	return s
}

// makeKey has the agent make the key of its configuration.
func makeKey(t *testing.T, file string) signature.Key {
	t.Helper()
	line, stderr, code := execute(t, "keygen", "--config", file)
	key, err := signature.ParseKey(strings.TrimSuffix(line, "\n"))
	if err != nil || code != 0 {
		t.Fatalf("keygen: exit %d, %v: %s", code, err, stderr)
	}
	return key
}

// start starts the agent; the test ends it at the latest.
func (s *site) start() *exec.Cmd {
	s.t.Helper()
	cmd := exec.CommandContext(s.t.Context(), agentBinary(s.t), "--config", s.config, "--record", filepath.Join(s.dir, "record"))
	var logged bytes.Buffer
	cmd.Stderr = &logged
	if err := s.ns.Start(cmd); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if s.t.Failed() {
			s.t.Logf("log of process %d:\n%s", cmd.Process.Pid, logged.String())
		}
	})
	return cmd
}

func (s *site) document() *state.NVA {
	s.t.Helper()
	n := state.NewNVA("lab", "nva1")
	for _, m := range s.server.Peek("route-events") {
		if m.State != broker.StateActive {
			continue
		}
		content, _, err := signature.Open(m.Body, []signature.Key{s.key})
		if err != nil {
			s.t.Fatal(err)
		}
		e, err := event.Decode(content)
		if err != nil {
			s.t.Fatal(err)
		}
		if _, err = n.Merge(e, m.EnqueuedAt); err != nil {
			s.t.Fatal(err)
		}
	}
	return n
}

// until waits for what the function app would know.
func (s *site) until(what string, holds func(*state.NVA) bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n := s.document()
		if holds(n) {
			return
		}
		select {
		case <-ctx.Done():
			s.t.Fatalf("%s: not within 30 s; the function app knows %v, silent %t, notice %+v", what, n.RIB(), n.Silent(), n.Notice)
		case <-tick.C:
		}
	}
}

func announces(prefixes ...string) func(*state.NVA) bool {
	return func(n *state.NVA) bool {
		var got []string
		for _, e := range n.RIB() {
			got = append(got, e.Prefix.String())
		}
		return slices.Equal(got, prefixes) && !n.Silent()
	}
}

// TestLifeOfAnAgent: the real binary, real routes, real signals.
func TestLifeOfAnAgent(t *testing.T) {
	s := newSite(t)
	agent := s.start()
	s.until("the first snapshot", announces("10.1.0.0/16"))
	if err := s.ns.Batch("route add 10.2.0.0/16 via 192.0.2.9 proto bgp", "route del 10.1.0.0/16"); err != nil {
		t.Fatal(err)
	}
	s.until("a change", announces("10.2.0.0/16"))
	s.until("the agent knows that it was heard", func(*state.NVA) bool { return s.recorded()[event.Delta] > 0 })

	s.server.Faults().Outage(true)
	if err := s.ns.Batch("route add 10.3.0.0/16 via 192.0.2.9 proto bgp"); err != nil {
		t.Fatal(err)
	}
	s.until("the switch fires during an outage", (*state.NVA).Silent)
	s.server.Faults().Outage(false)
	s.until("after the outage", announces("10.2.0.0/16", "10.3.0.0/16"))

	if err := agent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = agent.Wait()
	s.until("kill -9 is noticed", (*state.NVA).Silent)
	first := s.document().Epoch

	agent = s.start()
	s.until("the next start", announces("10.2.0.0/16", "10.3.0.0/16"))
	if second := s.document().Epoch; second <= first {
		t.Errorf("epoch %d after %d", second, first)
	}
	if err := agent.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := agent.Wait(); err != nil {
		t.Errorf("after SIGTERM the agent ended with %v", err)
	}
	s.until("SIGTERM says goodbye", (*state.NVA).Restarting)
	s.until("and the restart time ends", (*state.NVA).Silent)
	s.expectRecord()
}

// recorded counts the events of the record by kind. A line that is still being written is left out.
func (s *site) recorded() map[event.Kind]int {
	s.t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "record"))
	if err != nil {
		s.t.Fatal(err)
	}
	kinds := map[event.Kind]int{}
	for line := range bytes.Lines(text[:bytes.LastIndexByte(text, '\n')+1]) {
		e, decodeErr := event.Decode(line)
		if decodeErr != nil {
			s.t.Fatal(decodeErr)
		}
		kinds[e.Kind]++
	}
	return kinds
}

// expectRecord asserts that the record holds events, one a line.
func (s *site) expectRecord() {
	s.t.Helper()
	kinds := s.recorded()
	if kinds[event.Snapshot] < 3 || kinds[event.Delta] < 1 || kinds[event.Goodbye] != 1 || kinds[event.Expired] != 0 {
		s.t.Errorf("recorded %v", kinds)
	}
}

// TestMemory shows what 10,000 routes cost; the goal is 30 MB.
func TestMemory(t *testing.T) {
	const count, goal = 10_000, 30 << 10 // KiB
	s := newSite(t)
	var lines []string
	for i := range count {
		lines = append(lines, fmt.Sprintf("route add 10.%d.%d.0/24 via 192.0.2.9 proto bgp", 16+i/256, i%256))
	}
	if err := s.ns.Batch(lines...); err != nil {
		t.Fatal(err)
	}
	agent := s.start()
	s.until("all routes", func(n *state.NVA) bool { return len(n.RIB()) == count+1 })
	var flap []string
	for i := range 1000 {
		flap = append(flap, fmt.Sprintf("route del 10.16.%d.0/24", i%256), fmt.Sprintf("route add 10.16.%d.0/24 via 192.0.2.9 proto bgp", i%256))
	}
	if err := s.ns.Batch(append(flap, "route add 10.2.0.0/16 via 192.0.2.9 proto bgp")...); err != nil {
		t.Fatal(err)
	}
	s.until("a storm", func(n *state.NVA) bool { return len(n.RIB()) == count+2 })
	rss := residentKiB(t, agent.Process.Pid)
	t.Logf("%d routes: %d KiB resident", count, rss)
	if rss > goal {
		t.Errorf("%d routes: %d KiB resident, want at most %d", count, rss, goal)
	}
}

func residentKiB(t *testing.T, pid int) int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		t.Fatalf("no VmRSS in\n%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	if err != nil {
		t.Fatal(err)
	}
	return n
}
