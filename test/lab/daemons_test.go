package lab_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// frr is FRR in a site's namespace: daemons under a path space of their own.
type frr struct {
	*site
	name string
	bgpd *process
}

// newFRR makes the path space; no daemon runs yet.
func newFRR(s *site) *frr {
	s.t.Helper()
	f := &frr{site: s, name: "pointsman-" + strings.ToLower(s.ns.Name[strings.LastIndex(s.ns.Name, "/")+1:])}
	for _, dir := range []string{"/etc/frr/" + f.name, "/var/run/frr/" + f.name} {
		must(s.t, os.MkdirAll(dir, 0o755))
		s.t.Cleanup(func() { _ = os.RemoveAll(dir) })
	}
	must(s.t, os.WriteFile("/etc/frr/"+f.name+"/vtysh.conf", nil, 0o644))
	return f
}

// startFRR starts FRR with lines of configuration of bgpd. AnyIP needs a static route in FRR too: its next hop tracking knows the main table only.
func startFRR(s *site, lines ...string) *frr {
	s.t.Helper()
	f := newFRR(s)
	f.write(lines...)
	f.daemon("zebra")
	f.daemon("staticd")
	f.bgpd = f.daemon("bgpd")
	f.load()
	return f
}

// write writes the configuration of bgpd.
func (f *frr) write(lines ...string) {
	f.t.Helper()
	f.configure("ip route " + agentAddress + "/32 lo\n" + strings.Join(lines, "\n") + "\n")
}

// configure writes frr.conf.
func (f *frr) configure(text string) {
	f.t.Helper()
	must(f.t, os.WriteFile("/etc/frr/"+f.name+"/frr.conf", []byte(text), 0o644))
	out, err := exec.CommandContext(f.t.Context(), "chown", "-R", "frr:frr", "/etc/frr/"+f.name, "/var/run/frr/"+f.name).CombinedOutput()
	if err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
}

func (f *frr) daemon(name string) *process {
	f.t.Helper()
	p := f.start(name, exec.CommandContext(f.t.Context(), "/usr/lib/frr/"+name, "-N", f.name, "-A", "127.0.0.1", "--log", "stdout"))
	f.until(name+" listens", func() bool {
		_, err := os.Stat(filepath.Join("/var/run/frr", f.name, name+".vty"))
		return err == nil
	})
	return p
}

// load has all daemons read the configuration.
func (f *frr) load() {
	f.t.Helper()
	if out, err := f.ns.Run("vtysh", "-N", f.name, "-b"); err != nil {
		f.t.Fatalf("%v: %s", err, out)
	}
}

// say runs commands of vtysh.
func (f *frr) say(commands ...string) {
	f.t.Helper()
	args := []string{"vtysh", "-N", f.name}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	if out, err := f.ns.Run(args...); err != nil || strings.Contains(out, "%") {
		f.t.Fatalf("%v: %v: %s", commands, err, out)
	}
}

// restart starts bgpd again, which has ended.
func (f *frr) restart() {
	f.t.Helper()
	_ = os.Remove(filepath.Join("/var/run/frr", f.name, "bgpd.vty"))
	f.bgpd = f.daemon("bgpd")
	f.load()
}

// frrBGP is a configuration of bgpd at nvaAddress, in AS 65010, that announces prefixes of both families to the agent.
func frrBGP(agentAS int, extra []string, prefixes ...string) []string {
	return frrBGPAt(nvaAddress, 65010, agentAS, extra, prefixes...)
}

// frrBGPAt is the same at another address and in another AS.
func frrBGPAt(address string, as, agentAS int, extra []string, prefixes ...string) []string {
	lines := append([]string{fmt.Sprintf("router bgp %d", as), " bgp router-id " + address, " no bgp ebgp-requires-policy", " no bgp network import-check"}, extra...)
	lines = append(lines, fmt.Sprintf(" neighbor %s remote-as %d", agentAddress, agentAS), " neighbor "+agentAddress+" port "+agentPort,
		" neighbor "+agentAddress+" update-source "+address, " neighbor "+agentAddress+" timers connect 1",
		" neighbor "+agentAddress+" advertisement-interval 0")
	if as != agentAS {
		lines = append(lines, " neighbor "+agentAddress+" ebgp-multihop 2")
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		lines = append(lines, " address-family "+family+" unicast", "  neighbor "+agentAddress+" activate")
		for _, p := range prefixes {
			if strings.Contains(p, ":") == (family == "ipv6") {
				lines = append(lines, "  network "+p)
			}
		}
		lines = append(lines, " exit-address-family")
	}
	return append(lines, "exit")
}

// bird is BIRD in a site's namespace.
type bird struct {
	*site
	as, agentAS int
	graceful    bool
	more        string // lines of the protocol
	process     *process
}

func startBIRD(s *site, as, agentAS int, graceful bool, prefixes ...string) *bird {
	s.t.Helper()
	b := &bird{site: s, as: as, agentAS: agentAS, graceful: graceful}
	b.write(prefixes...)
	b.launch()
	return b
}

// launch starts BIRD; one that is graceful recovers from the start before.
func (b *bird) launch() {
	b.t.Helper()
	args := []string{"-f", "-c", b.path("bird.conf"), "-s", b.path("bird.ctl"), "-P", b.path("bird.pid")}
	if b.graceful {
		args = append(args, "-R")
	}
	b.process = b.start("bird", exec.CommandContext(b.t.Context(), "bird", args...))
	b.until("bird listens", func() bool {
		ctx, cancel := context.WithTimeout(b.t.Context(), time.Second)
		defer cancel()
		return exec.CommandContext(ctx, "birdc", "-s", b.path("bird.ctl"), "show", "status").Run() == nil
	})
}

func (b *bird) write(prefixes ...string) {
	b.t.Helper()
	var v4, v6 strings.Builder
	for _, p := range prefixes {
		if strings.Contains(p, ":") {
			fmt.Fprintf(&v6, "  route %s blackhole;\n", p)
			continue
		}
		fmt.Fprintf(&v4, "  route %s blackhole;\n", p)
	}
	graceful := "aware"
	if b.graceful {
		graceful = "on"
	}
	must(b.t, os.WriteFile(b.path("bird.conf"), fmt.Appendf(nil, `
router id %s;
protocol device {}
protocol static four { ipv4; %s}
protocol static six { ipv6; %s}
protocol bgp agent {
  local %s as %d;
  neighbor %s port %s as %d;
  multihop 2;
  graceful restart %s;
  %s
  connect delay time 1; connect retry time 1; error wait time 1, 1;
  ipv4 { import none; export all; next hop address %s; add paths on; };
  ipv6 { import none; export all; next hop address %s; };
}
`, b.address, v4.String(), v6.String(), b.address, b.as, agentAddress, agentPort, b.agentAS, graceful, b.more, b.address, nvaAddress6), 0o644))
}

// say runs a command of birdc.
func (b *bird) say(command ...string) {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), "birdc", append([]string{"-s", b.path("bird.ctl")}, command...)...).CombinedOutput()
	if err != nil {
		b.t.Fatalf("birdc %v: %v: %s", command, err, out)
	}
}

// announce makes BIRD announce exactly these prefixes.
func (b *bird) announce(prefixes ...string) {
	b.t.Helper()
	b.write(prefixes...)
	b.say("configure")
}

func labName(t *testing.T, as, agentAS int) string {
	t.Helper()
	if as == agentAS {
		return "iBGP"
	}
	return "eBGP"
}
