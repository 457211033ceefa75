// Package netns makes network namespaces for tests and demonstrations, joins them by veth pairs and runs things in them.
//
// A namespace here is a file descriptor, not a name under /run/netns: it ends with the process at the latest, however the
// process ends, and it needs no writable file system. To look into one by hand while a test runs:
//
//	nsenter --net=$PATH ip route
//
// with the path that [NS.Path] returns. It takes root, or a kernel that allows unprivileged user namespaces together with
// [Main]. Linux only; elsewhere [Available] says so.
package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ErrUnavailable is wrapped by every error that means that namespaces cannot be made here.
var ErrUnavailable = errors.New("network namespaces cannot be made")

// NS is a network namespace. Its loopback is up, and IPv6 addresses are usable soon (no duplicate address detection); added with
// "nodad", at once.
type NS struct {
	// Name is for people: unique among the living processes of the machine.
	Name string
	file *os.File
}

// New returns a namespace that ends with the test. Where none can be made the test is skipped, saying what is missing.
func New(tb testing.TB) *NS {
	tb.Helper()
	if err := Available(); err != nil {
		tb.Skipf("this test needs network namespaces: %v", err)
	}
	ns, err := Create(strings.ToLower(filepath.Base(tb.Name())))
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() {
		if failed := ns.Close(); failed != nil {
			tb.Error(failed)
		}
	})
	return ns
}

// Path is a path to the namespace that any process of the same user may open while the namespace is open: for nsenter(1),
// or "ip link set DEV netns PATH".
func (n *NS) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// FD is the namespace's file descriptor; it is valid until Close.
func (n *NS) FD() int { return int(n.file.Fd()) }

// Close lets go of the namespace. The kernel removes it, with its links and routes, when no process is left in it.
func (n *NS) Close() error {
	if err := n.file.Close(); err != nil {
		return fmt.Errorf("close namespace %s: %w", n.Name, err)
	}
	return nil
}

// Run runs a command in the namespace and returns what it printed; an error has that text too.
func (n *NS) Run(command ...string) (string, error) { return n.feed("", command) }

// Batch runs lines of ip(8) arguments ("route add 10.0.0.0/8 via 192.0.2.1") in one process of "ip -batch": some 100,000
// routes a second.
func (n *NS) Batch(lines ...string) error {
	_, err := n.feed(strings.Join(lines, "\n")+"\n", []string{"ip", "-batch", "-"})
	return err
}

func (n *NS) feed(stdin string, command []string) (string, error) {
	cmd := exec.CommandContext(context.Background(), command[0], command[1:]...)
	cmd.Stdin = strings.NewReader(stdin)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := n.Start(cmd); err != nil {
		return "", err
	}
	if err := cmd.Wait(); err != nil {
		return out.String(), fmt.Errorf("%s in namespace %s: %w: %s",
			strings.Join(command, " "), n.Name, err, strings.TrimSpace(out.String()))
	}
	return out.String(), nil
}

// Start starts a command in the namespace, as cmd.Start does. Do not set SysProcAttr.Pdeathsig: it is tied to the starting
// thread, which ends at once.
func (n *NS) Start(cmd *exec.Cmd) error {
	return n.Do(func() error {
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("start %s in namespace %s: %w", cmd.Path, n.Name, err)
		}
		return nil
	})
}

// Sysctl writes a kernel parameter of the namespace: Sysctl("net.ipv4.ip_forward", "1"). Dots separate, so the name of a
// link with a dot in it cannot be given.
func (n *NS) Sysctl(key, value string) error {
	return n.Do(func() error {
		path := "/proc/sys/" + strings.ReplaceAll(key, ".", "/")
		if err := os.WriteFile(path, []byte(value), 0o644); err != nil {
			return fmt.Errorf("sysctl in namespace %s: %w", n.Name, err)
		}
		return nil
	})
}

// Pair joins two namespaces by a veth pair: ifaceA in a, ifaceB in b, both up and carrying.
func Pair(a, b *NS, ifaceA, ifaceB string) error {
	if _, err := a.Run("ip", "link", "add", ifaceA, "type", "veth", "peer", "name", ifaceB, "netns", b.Path()); err != nil {
		return err
	}
	if _, err := a.Run("ip", "link", "set", ifaceA, "up"); err != nil {
		return err
	}
	if _, err := b.Run("ip", "link", "set", ifaceB, "up"); err != nil {
		return err
	}
	return errors.Join(a.Carries(ifaceA), b.Carries(ifaceB))
}

// carrierPatience bounds the wait for a carrier, which takes some milliseconds.
const carrierPatience = 10 * time.Second

// Carries waits until a link of the namespace that was set up carries packets. The kernel notices the carrier of a veth a moment after
// both ends are up; until then routes over it are marked linkdown.
func (n *NS) Carries(iface string) error {
	deadline := time.NewTimer(carrierPatience)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := n.Run("ip", "-o", "link", "show", iface)
		if err != nil || strings.Contains(out, "LOWER_UP") && strings.Contains(out, "state UP") {
			return err
		}
		select {
		case <-deadline.C:
			return fmt.Errorf("link %s in namespace %s does not carry after %s: %s", iface, n.Name, carrierPatience, strings.TrimSpace(out))
		case <-tick.C:
		}
	}
}
