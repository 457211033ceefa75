package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
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
func Main(m *testing.M) int {
	if Available() == nil || inUserNamespace() {
		return m.Run()
	}
	cmd := exec.CommandContext(context.Background(), "/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0
	case errors.As(err, &exit):
		return exit.ExitCode()
	}
	return m.Run()
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
	if err := ns.prepare(); err != nil {
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
