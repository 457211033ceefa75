package reach_test

import (
	"context"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/reach"
	"github.com/pointsman/pointsman/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// pair is two machines; the first may ping.
func pair(t *testing.T) (here, there *netns.NS) {
	t.Helper()
	here, there = netns.New(t), netns.New(t)
	must(t, netns.Pair(here, there, "eth0", "eth0"))
	must(t, here.Batch("addr add 192.0.2.1/24 dev eth0", "addr add 192.0.2.11/24 dev eth0", "addr add 2001:db8::1/64 dev eth0 nodad"))
	must(t, there.Batch("addr add 192.0.2.2/24 dev eth0", "addr add 2001:db8::2/64 dev eth0 nodad"))
	must(t, here.Sysctl("net.ipv4.ping_group_range", "0 0"))
	return here, there
}

// try tries a target in a namespace: on a thread there, for goroutines would not be.
func try(t *testing.T, ns *netns.NS, patience time.Duration, line string) error {
	t.Helper()
	target, err := reach.Parse(line)
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	return ns.Do(func() error { return target.Try(ctx) })
}

const (
	long  = 20 * time.Second
	short = 300 * time.Millisecond
)

func TestWhoAnswers(t *testing.T) {
	here, there := pair(t)
	var l net.Listener
	must(t, there.Do(func() (err error) {
		l, err = new(net.ListenConfig).Listen(t.Context(), "tcp", "192.0.2.2:7000")
		return err
	}))
	defer func() { _ = l.Close() }()
	for _, line := range []string{
		"icmp 192.0.2.2", "icmp 2001:db8::2", "icmp 192.0.2.2 source 192.0.2.11 interface eth0", "icmp 2001:db8::2 source 2001:db8::1",
		"tcp 192.0.2.2:7000 source 192.0.2.11 interface eth0",
		"tcp 192.0.2.2:7001", "tcp [2001:db8::2]:7001", // refused: the way is proven
	} {
		if err := try(t, here, long, line); err != nil {
			t.Error(err)
		}
	}
	must(t, there.Batch("route add blackhole 192.0.2.11/32"))
	for _, line := range []string{
		"icmp 192.0.2.2 source 192.0.2.11", "tcp 192.0.2.2:7000 source 192.0.2.11", "icmp 192.0.2.2 interface lo", "tcp 192.0.2.2:7000 interface nosuch",
		"icmp 198.51.100.1", "icmp 192.0.2.2 source 198.51.100.1",
	} {
		if err := try(t, here, short, line); err == nil || !strings.HasPrefix(err.Error(), line+": ") {
			t.Errorf("%s: got %v, want an error that names it", line, err)
		}
	}
}

func TestALateAnswerCounts(t *testing.T) {
	here, there := pair(t)
	must(t, there.Batch("link set eth0 down"))
	target, err := reach.Parse("icmp 192.0.2.2")
	must(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), long)
	defer cancel()
	tried := make(chan error, 1)
	go func() { tried <- here.Do(func() error { return target.Try(ctx) }) }()
	must(t, there.Batch("link set eth0 up"))
	if err = <-tried; err != nil {
		t.Error(err)
	}
}

func TestWithoutTheRightToPing(t *testing.T) {
	here, _ := pair(t)
	must(t, here.Sysctl("net.ipv4.ping_group_range", "1 0"))
	if err := try(t, here, long, "icmp 192.0.2.2"); err == nil || !strings.Contains(err.Error(), "net.ipv4.ping_group_range") {
		t.Errorf("got %v, want what to do", err)
	}
}

func TestAny(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	must(t, err)
	defer func() { _ = l.Close() }()
	good, err := reach.Parse("tcp " + l.Addr().String())
	must(t, err)
	bad, err := reach.Parse("tcp 127.0.0.1:9 interface nosuch")
	must(t, err)
	if err = reach.Any(t.Context(), []reach.Target{bad, good, bad}); err != nil {
		t.Errorf("one of three answers: %v", err)
	}
	err = reach.Any(t.Context(), []reach.Target{bad, bad})
	if err == nil || strings.Count(err.Error(), "interface nosuch") < 2 {
		t.Errorf("none answers: got %v, want why each did not", err)
	}
}
