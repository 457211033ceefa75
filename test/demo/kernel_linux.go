package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/test/netns"
)

// kernel is an NVA: a network namespace with an uplink to the fabric, and the real agent in it.
//
//	  nva-a ──uplink── 198.51.100.0/30 ──to-nva-a── fabric ──to-nva-b── 198.51.100.4/30 ──uplink── nva-b
//	    │                                                                                           │
//	127.0.0.1:port  ········· way ·········▶  the broker, on the loopback outside  ◀······· way ········
type kernel struct {
	name, router string // router is the fabric's address on the uplink: the next hop of all routes
	ns, fabric   *netns.NS
	dir          string
	executable   string
	bus          *netns.Way
	starts       chan func()
	agent        *exec.Cmd
}

// newKernel builds the fabric and both NVAs; nothing runs in them yet. The caller closes both and then calls release.
func newKernel(l lab) (a, b nva, release func() error, err error) {
	if err = netns.Available(); err != nil {
		return nil, nil, nil, err
	}
	fabric, err := netns.Create("fabric")
	if err != nil {
		return nil, nil, nil, err
	}
	first, err := newNVA(l, fabric, nameA, 0)
	if err != nil {
		return nil, nil, nil, errors.Join(err, fabric.Close())
	}
	second, err := newNVA(l, fabric, nameB, 4)
	if err != nil {
		return nil, nil, nil, errors.Join(err, first.close(), fabric.Close())
	}
	return first, second, fabric.Close, nil
}

func newNVA(l lab, fabric *netns.NS, name string, net30 int) (*kernel, error) {
	k := &kernel{name: name, fabric: fabric, dir: filepath.Join(l.dir, name), executable: l.agent, router: fmt.Sprintf("198.51.100.%d", net30+1)}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, fmt.Errorf("directory of %s: %w", name, err)
	}
	var err error
	if k.ns, err = netns.Create(name); err != nil {
		return nil, err
	}
	k.starts = make(chan func())
	// Processes die with the thread that started them (Pdeathsig), so they are started from one that stays: whatever ends this program
	// ends the agents.
	go func() {
		_ = k.ns.Do(func() error {
			for start := range k.starts {
				start()
			}
			return nil
		})
	}()
	if err = k.wire(l, net30); err != nil {
		return nil, errors.Join(err, k.close())
	}
	return k, nil
}

// wire makes the uplink and the way to the bus.
func (k *kernel) wire(l lab, net30 int) error {
	if err := netns.Pair(k.ns, k.fabric, "uplink", "to-"+k.name); err != nil {
		return err
	}
	if err := k.fabric.Batch(fmt.Sprintf("addr add %s/30 dev to-%s", k.router, k.name)); err != nil {
		return err
	}
	if err := k.ns.Batch(fmt.Sprintf("addr add 198.51.100.%d/30 dev uplink", net30+2)); err != nil {
		return err
	}
	var err error
	if k.bus, err = k.ns.WayOut(l.bus); err != nil {
		return err
	}
	return k.configure(strings.Replace(l.connection, l.bus, k.bus.Addr(), 1))
}

func (k *kernel) configure(connection string) error {
	secret := filepath.Join(k.dir, "connection")
	if err := os.WriteFile(secret, []byte(connection), 0o600); err != nil {
		return fmt.Errorf("connection string of %s: %w", k.name, err)
	}
	text := fmt.Sprintf(`domain: %s
nva: %s
bus: {connectionStringFile: %s}
sources:
  - kernel: {protocols: [bgp]}
beat: {every: 1s, timeout: %s}
stateDir: %s
`, domain, k.name, secret, silence, k.dir)
	if err := os.WriteFile(k.config(), []byte(text), 0o600); err != nil {
		return fmt.Errorf("configuration of %s: %w", k.name, err)
	}
	return nil
}

func (k *kernel) config() string { return filepath.Join(k.dir, "agent.yaml") }
func (k *kernel) log() string    { return filepath.Join(k.dir, "agent.log") }

func (k *kernel) boot(context.Context) error {
	log, err := os.OpenFile(k.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("log of %s: %w", k.name, err)
	}
	defer func() { _ = log.Close() }()
	agent := exec.CommandContext(context.Background(), k.executable, "--config", k.config()) // our own binary
	agent.Stdout, agent.Stderr = log, log
	agent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL} // a Ctrl-C is not for it
	started := make(chan error)
	k.starts <- func() { started <- agent.Start() }
	if err = <-started; err != nil {
		return fmt.Errorf("start the agent of %s: %w", k.name, err)
	}
	k.agent = agent
	return nil
}

// routes returns ip lines; protocol 186 is what routing daemons set for routes that BGP learned.
func (k *kernel) routes(verb string, prefixes []netip.Prefix) []string {
	out := make([]string, len(prefixes))
	for i, p := range prefixes {
		out[i] = fmt.Sprintf("route %s %s via %s proto 186", verb, p, k.router)
	}
	return out
}

func (k *kernel) learn(_ context.Context, prefixes []netip.Prefix) (time.Time, error) {
	err := k.ns.Batch(k.routes("add", prefixes)...)
	return time.Now(), err
}

func (k *kernel) withdraw(_ context.Context, prefixes []netip.Prefix) (time.Time, error) {
	err := k.ns.Batch(k.routes("del", prefixes)...)
	return time.Now(), err
}

func (k *kernel) flap(_ context.Context, prefixes []netip.Prefix) (time.Duration, error) {
	began := time.Now()
	err := k.ns.Batch(append(k.routes("del", prefixes), k.routes("add", prefixes)...)...)
	return time.Since(began), err
}

// die cuts the way to the bus, kills the agent and takes the uplink down, with which the kernel drops the routes.
func (k *kernel) die(context.Context) (time.Time, error) {
	k.bus.Cut("dead", true)
	at := time.Now()
	err := errors.Join(k.kill(), k.fabric.Batch("link set to-"+k.name+" down"), k.ns.Batch("link set uplink down"))
	return at, err
}

func (k *kernel) kill() error {
	if k.agent == nil {
		return nil
	}
	err := k.agent.Process.Kill()
	_ = k.agent.Wait() // "signal: killed"
	k.agent = nil
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("kill the agent of %s: %w", k.name, err)
	}
	return nil
}

// comeBack first waits for the carrier: until the kernel has noticed it, routes are marked as down.
func (k *kernel) comeBack(ctx context.Context, prefixes []netip.Prefix) (time.Time, error) {
	err := errors.Join(k.fabric.Batch("link set to-"+k.name+" up"), k.ns.Batch("link set uplink up"))
	if err == nil {
		err = k.ns.Carries("uplink")
	}
	if err != nil {
		return time.Time{}, err
	}
	at, err := k.learn(ctx, prefixes)
	if err != nil {
		return at, err
	}
	k.bus.Cut("dead", false)
	return at, k.boot(ctx)
}

// explore returns lines for a shell.
func (k *kernel) explore(short string) []string {
	enter := "nsenter --net=" + k.ns.Path()
	if mapped() {
		enter = fmt.Sprintf("nsenter --user --preserve-credentials --target %d --net=%s", os.Getpid(), k.ns.Path())
	}
	return []string{
		fmt.Sprintf(`%s() { %s "$@"; }`, short, enter),
		short + " ip route",
		short + " ip route del 10.64.7.0/24",
		short + " ip route add 10.64.7.0/24 via " + k.router + " proto bgp",
		short + " curl -s 127.0.0.1:9810/debug/rib",
		fmt.Sprintf("kill -9 %d", k.agent.Process.Pid),
		short + " " + k.executable + " --config " + k.config(),
	}
}

// mapped reports whether this program is in a user namespace of its own: then root is only root there.
func mapped() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && strings.Join(strings.Fields(string(b)), " ") != "0 0 4294967295"
}

func (k *kernel) close() error {
	err := k.kill()
	close(k.starts)
	if k.bus != nil {
		err = errors.Join(err, k.bus.Close())
	}
	return errors.Join(err, k.ns.Close())
}
