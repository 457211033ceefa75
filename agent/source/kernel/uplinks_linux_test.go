package kernel

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/test/netns"
)

// TestUplinks: real links go down, lose their carrier, vanish, are renamed and come back.
func TestUplinks(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ns, far := netns.New(t), netns.New(t)
	batch := func(n *netns.NS, lines ...string) {
		t.Helper()
		if err := n.Batch(lines...); err != nil {
			t.Fatal(err)
		}
	}
	if err := netns.Pair(ns, far, "wan0", "far0"); err != nil {
		t.Fatal(err)
	}
	told := make(chan []string, 100)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		u := NewUplinks([]string{"wan0", "wan1"}, Config{NetNS: ns.FD()}, slog.New(slog.DiscardHandler))
		ended <- u.Run(ctx, func(problems []string) { told <- problems })
	}()
	until := func(what string, want ...string) {
		t.Helper()
		timeout := time.After(patience)
		for {
			select {
			case got := <-told:
				if slices.Equal(got, want) {
					return
				}
			case <-timeout:
				t.Fatalf("%s: want %q", what, want)
			}
		}
	}
	until("at first", "wan1 does not exist")
	batch(ns, "link add wan1 type veth peer name other", "link set other up", "link set wan1 up")
	until("the second is made")
	batch(far, "link set far0 down")
	until("nobody at the other end", "wan0 has no carrier")
	batch(ns, "link set wan0 down")
	until("set down", "wan0 is down")
	batch(far, "link set far0 up")
	batch(ns, "link set wan0 up")
	until("back")
	batch(ns, "link del wan1")
	until("deleted", "wan1 does not exist")
	batch(ns, "link add wan2 type veth peer name other", "link set other up", "link set wan2 name wan1", "link set wan1 up")
	until("renamed")
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
