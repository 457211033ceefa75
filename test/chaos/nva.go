//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/test/netns"
)

// appliance is an NVA as the scenario sees it: a machine with routes, and an agent on it that can be killed.
type appliance interface {
	// boot starts the agent. onStop is what it will say when it is stopped: goodbye or draining.
	boot(onStop string) error
	alive() bool
	kill() error                    // the agent, at once
	stop(ctx context.Context) error // the agent, in order
	power(on bool) error            // of the machine's uplink; without it the kernel drops all routes
	change(gone, learned []announcement) error
	last() []string // lines of the agent's log
	close() error
}

// nva is an appliance with its place in the domain, and what the scenario has done to it.
type nva struct {
	appliance
	name, hop  string
	preference int
	way        *netns.Way
	onStop     string // what the running agent will say
	agents     int
	dead       bool      // no power, no way to the bus, no agent
	returns    time.Time // when it is to be brought back, or its agent is
}

// The timing of the agents.
const (
	beatEvery    = time.Second
	beatTimeout  = 4 * time.Second
	snapshots    = time.Minute
	restartTime  = 6 * time.Second
	stopTimeout  = 2 * time.Second
	stopPatience = 10 * time.Second
)

// kernel is an appliance in a network namespace, with the real agent over real routes.
type kernel struct {
	name, router string
	executable   string
	connection   string
	ns, fabric   *netns.NS
	dir          string
	log          tail
	agent        *process
}

// newKernel makes the machine; no agent runs yet. index numbers its uplink.
func newKernel(name string, index int, fabric *netns.NS, dir, executable, bus, connection string) (*kernel, *netns.Way, error) {
	k := &kernel{name: name, executable: executable, fabric: fabric, dir: filepath.Join(dir, name), router: fmt.Sprintf("198.51.100.%d", 4*index+1)}
	if err := os.MkdirAll(k.dir, 0o700); err != nil {
		return nil, nil, fmt.Errorf("directory of %s: %w", name, err)
	}
	var err error
	if k.ns, err = netns.Create(name); err != nil {
		return nil, nil, err
	}
	if err = k.wire(index); err != nil {
		return nil, nil, errors.Join(err, k.close())
	}
	way, err := k.ns.WayOut(bus)
	if err != nil {
		return nil, nil, errors.Join(err, k.close())
	}
	k.connection = strings.Replace(connection, bus, way.Addr(), 1)
	return k, way, nil
}

// wire makes the uplink.
func (k *kernel) wire(index int) error {
	if err := netns.Pair(k.ns, k.fabric, "uplink", "to-"+k.name); err != nil {
		return err
	}
	if err := k.fabric.Batch(fmt.Sprintf("addr add %s/30 dev to-%s", k.router, k.name)); err != nil {
		return err
	}
	return k.ns.Batch(fmt.Sprintf("addr add 198.51.100.%d/30 dev uplink", 4*index+2))
}

func (k *kernel) boot(onStop string) error {
	secret, file := filepath.Join(k.dir, "connection"), filepath.Join(k.dir, "agent.yaml")
	text := fmt.Sprintf(`domain: %s
nva: %s
bus: {connectionStringFile: %s}
sources:
  - kernel: {protocols: [bgp]}
beat: {every: %s, timeout: %s}
snapshot: %s
restart: %s
onStop: %s
stopTimeout: %s
stateDir: %s
log: {level: debug}
`, domain, k.name, secret, beatEvery, beatTimeout, snapshots, restartTime, onStop, stopTimeout, k.dir)
	if err := errors.Join(os.WriteFile(secret, []byte(k.connection), 0o600), os.WriteFile(file, []byte(text), 0o600)); err != nil {
		return fmt.Errorf("configuration of %s: %w", k.name, err)
	}
	agent, err := startProcess("agent of "+k.name, &k.log, os.Environ(), k.ns.Start, k.executable, "--config", file)
	k.agent = agent
	return err
}

func (k *kernel) alive() bool { return k.agent.alive() }

func (k *kernel) kill() error {
	a := k.agent
	k.agent = nil
	if a == nil {
		return nil
	}
	return errors.Join(a.signal(syscall.SIGKILL), a.end())
}

func (k *kernel) stop(ctx context.Context) error {
	if k.agent == nil {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, stopPatience)
	defer cancel()
	err := k.agent.signal(syscall.SIGTERM)
	if err == nil {
		err = until(limited, 20*time.Millisecond, func() error {
			if k.agent.alive() {
				return fmt.Errorf("the agent of %s still runs %s after SIGTERM", k.name, stopPatience)
			}
			return nil
		})
	}
	return errors.Join(err, k.kill())
}

func (k *kernel) power(on bool) error {
	to := "down"
	if on {
		to = "up"
	}
	return errors.Join(k.fabric.Batch("link set to-"+k.name+" "+to), k.ns.Batch("link set uplink "+to))
}

// change makes routes as BGP daemons do: protocol 186.
func (k *kernel) change(gone, learned []announcement) error {
	lines := make([]string, 0, len(gone)+len(learned))
	for _, a := range gone {
		lines = append(lines, k.route("del", a))
	}
	for _, a := range learned {
		lines = append(lines, k.route("add", a))
	}
	if len(lines) == 0 {
		return nil
	}
	return k.ns.Batch(lines...)
}

func (k *kernel) route(verb string, a announcement) string {
	return fmt.Sprintf("route %s %s via %s proto 186 metric %d", verb, a.prefix, k.router, a.metric)
}

func (k *kernel) last() []string { return k.log.last() }

func (k *kernel) close() error { return errors.Join(k.kill(), k.ns.Close()) }

// prefixesOf drops the metrics.
func prefixesOf(list []announcement) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, a := range list {
		out[i] = a.prefix
	}
	return out
}
