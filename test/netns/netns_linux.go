package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// Available returns nil if namespaces can be made, or an error wrapping [ErrUnavailable] that says what is missing.
func Available() error {
	if _, err := exec.LookPath("ip"); err != nil {
		return fmt.Errorf("%w: the command ip (package iproute2) is missing", ErrUnavailable)
	}
	ns, err := Create("probe")
	if err != nil {
		return err
	}
	return ns.Close()
}

// Main runs the tests of a package, for TestMain: os.Exit(netns.Main(m)). Without root it starts the test binary anew as
// root of a user namespace of its own; where the kernel forbids that, the tests run as they are and [New] skips them.
func Main(m *testing.M) int { return again(unix.CLONE_NEWUSER|unix.CLONE_NEWNET, m.Run) }

// Run is [Main] for programs: os.Exit(netns.Run(run)). The program stays in the network namespace that it was started in, so
// what it serves on loopback can be reached from outside; run asks [Available] whether it can make others.
func Run(run func() int) int { return again(unix.CLONE_NEWUSER, run) }

// again runs f: here if namespaces can be made, else in this program started anew in the namespaces that flags name, else
// here all the same. Signals that end programs are passed on, so that the inner one can clean up.
func again(flags uintptr, f func() int) int {
	if Available() == nil || inUserNamespace() {
		return f()
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, unix.SIGTERM, unix.SIGHUP)
	defer signal.Stop(signals)
	runtime.LockOSThread() // Pdeathsig is tied to this thread
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  flags,
		Pdeathsig:   syscall.SIGTERM,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		return f()
	}
	ended := make(chan struct{})
	go func() {
		for {
			select {
			case s := <-signals:
				_ = cmd.Process.Signal(s) // fails only if it has ended
			case <-ended:
				return
			}
		}
	}()
	err := cmd.Wait()
	close(ended)
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return 1
}

// inUserNamespace reports whether user ids are mapped: outside any user namespace the map is the identity of all ids.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	return err == nil && string(bytes.Join(bytes.Fields(b), []byte(" "))) != "0 0 4294967295"
}

// Create makes a namespace outside a test; the caller closes it. label becomes part of the name.
func Create(label string) (*NS, error) {
	ns := &NS{}
	err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("%w: %w (needs root, or unprivileged user namespaces)", ErrUnavailable, err)
		}
		f, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			return fmt.Errorf("%w: %w", ErrUnavailable, err)
		}
		ns.file = f
		return nil
	})
	if err != nil {
		return nil, err
	}
	ns.Name = fmt.Sprintf("%s-%d-%d", label, os.Getpid(), ns.file.Fd())
	if err = ns.prepare(); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", ErrUnavailable, err), ns.Close())
	}
	return ns, nil
}

func (n *NS) prepare() error {
	for _, scope := range []string{"all", "default"} {
		err := n.Sysctl("net.ipv6.conf."+scope+".accept_dad", "0")
		if err != nil && !errors.Is(err, os.ErrNotExist) { // a kernel without IPv6
			return err
		}
	}
	_, err := n.Run("ip", "link", "set", "lo", "up")
	return err
}

// Do runs f on a thread that is in the namespace and returns its error. Goroutines that f starts are not in the namespace;
// sockets that f opens stay in it.
func (n *NS) Do(f func() error) error {
	return onThread(func() error {
		if err := unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("enter namespace %s: %w", n.Name, err)
		}
		return f()
	})
}

// onThread runs f on an operating system thread of its own, which is thrown away: its goroutine ends locked to it, so no
// other goroutine ever runs in whatever namespace f left it in.
func onThread(f func() error) error {
	done := make(chan error)
	go func() {
		err := errors.New("the function ended its goroutine") // as t.FailNow does
		defer func() { done <- err }()
		runtime.LockOSThread()
		err = f()
	}()
	return <-done
}
