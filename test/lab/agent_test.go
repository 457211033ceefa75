package lab_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	broker "github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/test/netns"
)

// buildDir holds the binary; it is set by TestMain.
var buildDir string

func TestMain(m *testing.M) {
	var err error
	if buildDir, err = os.MkdirTemp("", "pointsman-lab"); err != nil {
		panic(err)
	}
	code := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(code)
}

// The agent as it is shipped, with BGP and without, each built once.
var (
	binary        = flavour("pointsman-agent-bgp", "-tags", "bgp")
	netlinkBinary = flavour("pointsman-agent")
)

func flavour(name string, flags ...string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		path := filepath.Join(buildDir, name)
		args := append(append([]string{"build"}, flags...), "-trimpath", "-ldflags", "-s -w", "-o", path, "../../cmd/pointsman-agent")
		build := exec.CommandContext(context.Background(), "go", args...)
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if out, err := build.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%w: %s", err, out)
		}
		return path, nil
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// need skips the test where it cannot run. Daemons give up root for users of their own, hence real root.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Skipf("the lab needs %s: apt-get install -y --no-install-recommends frr bird2", p)
		}
	}
	if os.Geteuid() != 0 {
		t.Skip("the lab needs root")
	}
}

// Addresses of the lab. The agent's own is an AnyIP address: one that the machine has by a route, not on an interface, so that FRR does not
// take it for its own.
const (
	nvaAddress   = "10.0.2.4"
	nvaAddress6  = "2001:db8:2::4"
	agentAddress = "169.254.179.2"
	agentPort    = "1790"
)

// site is an NVA: a namespace with an agent in it and a broker.
type site struct {
	t       *testing.T
	ns      *netns.NS
	address string
	dir     string
	pid     int
	http    *http.Client
	bus     *broker.Server
}

// newSite starts an agent with a BGP source; speaker is what stands under "bgp:" but for listen.
func newSite(t *testing.T, speaker string) *site {
	t.Helper()
	s := newBareSite(t)
	s.startAgent(speaker, "")
	return s
}

// newBareSite makes an NVA without an agent.
func newBareSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, ns: netns.New(t), address: nvaAddress, dir: t.TempDir()}
	must(t, s.ns.Batch("link add eth0 type veth peer name wire", "link set wire up"))
	s.attach()
	return s
}

// attach gives eth0, which is there, its addresses, and the namespace a broker.
func (s *site) attach() {
	t := s.t
	t.Helper()
	must(t, s.ns.Batch("addr add "+s.address+"/24 dev eth0", "addr add "+nvaAddress6+"/64 dev eth0", "link set eth0 up", "route add local "+agentAddress+"/32 dev lo"))
	must(t, s.ns.Do(func() (err error) {
		s.bus, err = broker.Start(broker.Config{Queues: []broker.QueueConfig{{Name: "route-events"}}})
		return err
	}))
	t.Cleanup(func() { _ = s.bus.Close() })
	must(t, os.WriteFile(s.path("connection"), []byte(s.bus.ConnectionString("")), 0o600))
	s.http = &http.Client{Transport: &http.Transport{DialContext: s.dial, DisableKeepAlives: true}, Timeout: time.Minute}
}

func (s *site) path(name string) string { return filepath.Join(s.dir, name) }

// dial opens a connection from within the namespace.
func (s *site) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = s.ns.Do(func() error {
		c, err = new(net.Dialer).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// startAgent starts the agent; speaker is what stands under "bgp:" but for listen, more is what stands beside sources.
func (s *site) startAgent(speaker, more string) *process {
	s.t.Helper()
	path, err := binary()
	must(s.t, err)
	speaker = strings.ReplaceAll(strings.TrimSpace(speaker), "\n", "\n      ")
	return s.runAgent(path, fmt.Sprintf("sources:\n  - bgp:\n      listen: %s:%s\n      %s\n%s\n", agentAddress, agentPort, speaker, more))
}

// runAgent starts a binary with a configuration, of which only who it is and where the bus is are given.
func (s *site) runAgent(path, configuration string) *process {
	s.t.Helper()
	must(s.t, os.WriteFile(s.path("agent.yaml"), fmt.Appendf(nil, `
domain: lab
nva: nva1
bus: {connectionStringFile: %[1]s/connection}
stateDir: %[1]s
%[2]s
`, s.dir, configuration), 0o600))
	cmd := exec.CommandContext(s.t.Context(), path, "--config", s.path("agent.yaml"))
	p := s.start("agent", cmd)
	s.pid = cmd.Process.Pid
	return p
}

// start starts a process in the namespace that ends with the test at the latest; what it says is shown if the test fails.
func (s *site) start(name string, cmd *exec.Cmd) *process {
	s.t.Helper()
	p := &process{cmd: cmd}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	must(s.t, s.ns.Start(cmd))
	s.t.Cleanup(func() {
		p.kill()
		if s.t.Failed() {
			s.t.Logf("%s said:\n%s", name, p.said.String())
		}
	})
	return p
}

type process struct {
	cmd  *exec.Cmd
	said bytes.Buffer
	once sync.Once
}

// kill is kill -9.
func (p *process) kill() { p.end(os.Kill) }

// end sends a signal and waits.
func (p *process) end(signal os.Signal) {
	p.once.Do(func() {
		_ = p.cmd.Process.Signal(signal)
		_ = p.cmd.Wait()
	})
}

// rib is what the agent announces, as "10.1.0.0/16 metric 5 via 10.0.2.4", with " stale" behind a stale one.
func (s *site) rib() []string {
	var answer struct {
		Routes []struct {
			Prefix   netip.Prefix
			Metric   uint32
			NextHops []netip.Addr
			Stale    bool
		}
	}
	if !s.get("/debug/rib", &answer) {
		return nil
	}
	out := make([]string, 0, len(answer.Routes))
	for _, r := range answer.Routes {
		line := fmt.Sprintf("%s metric %d", r.Prefix, r.Metric)
		for _, h := range r.NextHops {
			line += " via " + h.String()
		}
		if r.Stale {
			line += " stale"
		}
		out = append(out, line)
	}
	return out
}

// health is why the agent is not healthy; "" if it is.
func (s *site) health() string {
	var answer struct{ Reasons []string }
	if !s.get("/healthz", &answer) {
		return "no answer"
	}
	return strings.Join(answer.Reasons, "; ")
}

func (s *site) get(path string, into any) bool {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://127.0.0.1:9810"+path, nil)
	must(s.t, err)
	resp, err := s.http.Do(req)
	if err != nil {
		return false // it is just starting
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return false // it was just ended, or takes its time over a large table
	}
	must(s.t, json.Unmarshal(text, into))
	return true
}

// metrics is what the agent shows at /metrics.
func (s *site) metrics() string {
	s.t.Helper()
	req, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://127.0.0.1:9810/metrics", nil)
	must(s.t, err)
	resp, err := s.http.Do(req)
	if err != nil {
		return "" // it is just starting
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	must(s.t, err)
	return string(text)
}

// metric is one of them: the sum over all labels.
func (s *site) metric(name string) (sum float64) {
	s.t.Helper()
	for line := range strings.Lines(s.metrics()) {
		if rest, ok := strings.CutPrefix(line, name); ok && (rest[0] == ' ' || rest[0] == '{') {
			v, err := strconv.ParseFloat(strings.TrimSpace(rest[strings.LastIndexByte(rest, ' '):]), 64)
			must(s.t, err)
			sum += v
		}
	}
	return sum
}

// until waits until something holds.
func (s *site) until(what string, holds func() bool) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(s.t.Context(), 3*time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			if s.http == nil { // there is no agent
				s.t.Fatalf("%s: not in time", what)
			}
			rib := s.rib()
			s.t.Fatalf("%s: not in time; health: %s; %d routes:\n\t%s", what, s.health(), len(rib), strings.Join(rib[:min(len(rib), 10)], "\n\t"))
		case <-tick.C:
		}
	}
}

// announces waits until the agent is healthy and announces exactly these prefixes.
func (s *site) announces(what string, prefixes ...string) {
	s.t.Helper()
	s.until(what, func() bool { return s.health() == "" && slices.Equal(prefixesOf(s.rib()), prefixes) })
}

// stale waits until the agent says why it does not see, and announces these prefixes all the same.
func (s *site) stale(what, why string, prefixes ...string) {
	s.t.Helper()
	s.until(what, func() bool {
		rib := s.rib()
		return strings.Contains(s.health(), why) && slices.Equal(prefixesOf(rib), prefixes) &&
			!slices.ContainsFunc(rib, func(r string) bool { return !strings.HasSuffix(r, " stale") })
	})
}

func prefixesOf(rib []string) []string {
	var out []string
	for _, r := range rib {
		p, _, _ := strings.Cut(r, " ")
		out = append(out, p)
	}
	return out
}

// residentKiB is the memory of the agent.
func (s *site) residentKiB() int {
	s.t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.pid))
	must(s.t, err)
	m := regexp.MustCompile(`VmRSS:\s+(\d+) kB`).FindSubmatch(text)
	if m == nil {
		s.t.Fatalf("no VmRSS in\n%s", text)
	}
	n, err := strconv.Atoi(string(m[1]))
	must(s.t, err)
	return n
}
