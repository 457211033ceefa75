package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/source"
)

// The rows of this table are what the kernel does to routes, most of it without a route event; each is done to a watcher
// whose periodic resync is far away, so only the event's own trail can lead to the new view.
func TestKernelChanges(t *testing.T) {
	const (
		r4 = "route add 10.1.0.0/16 via 192.0.2.2"
		r6 = "route add 2001:db8:a::/48 via 2001:db8:0::2"
		v4 = "10.1.0.0/16 boot 0 via 192.0.2.2"
		v6 = "2001:db8:a::/48 boot 1024 via 2001:db8::2"
	)
	multi := []string{
		"route add 10.1.0.0/16 nexthop via 192.0.2.2 nexthop via 192.0.2.130",
		"route add 2001:db8:a::/48 nexthop via 2001:db8:0::2 nexthop via 2001:db8:1::2",
	}
	multiView := []string{
		"10.1.0.0/16 boot 0 via 192.0.2.2,192.0.2.130",
		"2001:db8:a::/48 boot 1024 via 2001:db8::2,2001:db8:1::2",
	}
	secondLegs := []string{"10.1.0.0/16 boot 0 via 192.0.2.130", "2001:db8:a::/48 boot 1024 via 2001:db8:1::2"}
	objects := []string{
		"nexthop add id 7 via 192.0.2.2 dev eth0", "nexthop add id 8 via 192.0.2.130 dev eth1", "nexthop add id 9 group 7/8",
		"nexthop add id 17 via 2001:db8:0::2 dev eth0", "nexthop add id 18 via 2001:db8:1::2 dev eth1", "nexthop add id 19 group 17/18",
	}
	objectRoutes := append(objects, "route add 10.1.0.0/16 nhid 7", "route add 2001:db8:a::/48 nhid 17")
	groupRoutes := append(objects, "route add 10.1.0.0/16 nhid 9", "route add 2001:db8:a::/48 nhid 19")

	for _, row := range []struct {
		name    string
		sysctls []string // key=value, before
		before  []string // ip lines in the NVA
		view    []string
		do      []string // ip lines in the NVA
		doPeer  []string // ip lines in the neighbour
		want    []string
	}{
		{name: "add", do: []string{r4, r6}, want: []string{v4, v6}},
		{name: "delete", before: []string{r4, r6}, view: []string{v4, v6}, do: []string{"route del 10.1.0.0/16", "route del 2001:db8:a::/48"}},
		{name: "link down", before: []string{r4, r6}, view: []string{v4, v6}, do: []string{"link set eth0 down"}},
		{
			name: "link down without IPv6 events", sysctls: []string{"net.ipv6.route.skip_notify_on_dev_down=1"},
			before: []string{r4, r6}, view: []string{v4, v6}, do: []string{"link set eth0 down"},
		},
		{name: "link down, multipath", before: multi, view: multiView, do: []string{"link set eth0 down"}, want: secondLegs},
		{name: "both links down, multipath", before: multi, view: multiView, do: []string{"link set eth0 down", "link set eth1 down"}},
		{name: "carrier loss", before: []string{r4, r6}, view: []string{v4, v6}, doPeer: []string{"link set peer0 down"}},
		{name: "carrier loss, multipath", before: multi, view: multiView, doPeer: []string{"link set peer0 down"}, want: secondLegs},
		{name: "carrier loss, nexthop objects", before: objectRoutes, view: []string{v4, v6}, doPeer: []string{"link set peer0 down"}},
		{name: "carrier loss, nexthop group", before: groupRoutes, view: multiView, doPeer: []string{"link set peer0 down"}, want: secondLegs},
		{name: "link delete", before: []string{r4, r6}, view: []string{v4, v6}, do: []string{"link del eth0"}},
		// IPv4 drops the whole multipath route with the link of one leg (fib_sync_down_dev, NETDEV_UNREGISTER), IPv6 the leg.
		{name: "link delete, multipath", before: multi, view: multiView, do: []string{"link del eth0"}, want: secondLegs[1:]},
		{
			name: "last address delete", before: []string{r4, r6}, view: []string{v4, v6},
			do: []string{"addr del 192.0.2.1/25 dev eth0", "route del 2001:db8:a::/48"},
		},
		{
			name: "nexthop delete", before: objectRoutes, view: []string{v4, v6},
			do: []string{"nexthop del id 7", "nexthop del id 17"},
		},
		{
			name: "nexthop delete from a group", before: groupRoutes, view: multiView,
			do: []string{"nexthop del id 7", "nexthop del id 17"}, want: secondLegs,
		},
		{
			name: "nexthop replace", before: objectRoutes, view: []string{v4, v6},
			do: []string{"nexthop replace id 7 via 192.0.2.130 dev eth1", "nexthop replace id 17 via 2001:db8:1::2 dev eth1"}, want: secondLegs,
		},
		{
			name: "nexthop replace, compat mode 0", sysctls: []string{"net.ipv4.nexthop_compat_mode=0"},
			before: objectRoutes, view: []string{v4, v6},
			do: []string{"nexthop replace id 7 via 192.0.2.130 dev eth1", "nexthop replace id 17 via 2001:db8:1::2 dev eth1"}, want: secondLegs,
		},
		{
			name: "nexthop delete, compat mode 0", sysctls: []string{"net.ipv4.nexthop_compat_mode=0"},
			before: groupRoutes, view: multiView, do: []string{"nexthop del id 7", "nexthop del id 17"}, want: secondLegs,
		},
		{
			name: "replace", before: []string{r4, r6}, view: []string{v4, v6},
			do:   []string{"route replace 10.1.0.0/16 via 192.0.2.130", "route replace 2001:db8:a::/48 via 2001:db8:1::2"},
			want: secondLegs,
		},
		{
			name: "replace by a protocol that does not count", before: []string{r4, r6}, view: []string{v4, v6},
			do: []string{"route replace 10.1.0.0/16 via 192.0.2.2 proto kernel", "route replace 2001:db8:a::/48 via 2001:db8:0::2 proto kernel"},
		},
		{
			name: "append, then delete the first", before: []string{r4, r6}, view: []string{v4, v6},
			do: []string{
				"route append 10.1.0.0/16 via 192.0.2.130", "route append 2001:db8:a::/48 via 2001:db8:1::2",
				"route del 10.1.0.0/16 via 192.0.2.2", "route del 2001:db8:a::/48 via 2001:db8:0::2",
			},
			want: secondLegs,
		},
		{
			name: "append", before: []string{r4, r6}, view: []string{v4, v6},
			do:   []string{"route append 10.1.0.0/16 via 192.0.2.130", "route append 2001:db8:a::/48 via 2001:db8:1::2"},
			want: []string{v4, multiView[1]},
		},
		{
			name: "prepend", before: []string{r4, r6}, view: []string{v4, v6},
			do:   []string{"route prepend 10.1.0.0/16 via 192.0.2.130", "route prepend 2001:db8:a::/48 via 2001:db8:1::2"},
			want: []string{secondLegs[0], multiView[1]},
		},
		{
			name: "multipath partial delete", before: multi, view: multiView,
			do: []string{"route del 2001:db8:a::/48 via 2001:db8:0::2", "route del 10.1.0.0/16"}, want: secondLegs[1:],
		},
		{
			name: "lower metric comes and goes", before: []string{r4 + " metric 20", r6 + " metric 20"},
			view: []string{"10.1.0.0/16 boot 20 via 192.0.2.2", "2001:db8:a::/48 boot 20 via 2001:db8::2"},
			do: []string{
				"route add 10.1.0.0/16 via 192.0.2.130 metric 10", "route add 2001:db8:a::/48 via 2001:db8:1::2 metric 10",
				"route add 10.2.0.0/16 via 192.0.2.130 metric 10", "route add 10.2.0.0/16 via 192.0.2.2 metric 20", "route del 10.2.0.0/16 metric 10",
			},
			want: []string{
				"10.1.0.0/16 boot 10 via 192.0.2.130", "2001:db8:a::/48 boot 10 via 2001:db8:1::2", "10.2.0.0/16 boot 20 via 192.0.2.2",
			},
		},
		{
			name: "down and up: what is not restored stays gone", before: []string{r4, r6}, view: []string{v4, v6},
			do: []string{"link set eth0 down", "link set eth0 up", "route add 10.3.0.0/16 via 192.0.2.2"}, want: []string{"10.3.0.0/16 boot 0 via 192.0.2.2"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			l := newLab(t)
			for _, s := range row.sysctls {
				key, value, _ := strings.Cut(s, "=")
				err := l.nva.Sysctl(key, value)
				if errors.Is(err, os.ErrNotExist) {
					t.Skipf("this row needs the kernel parameter %s, which an older kernel, or a user namespace, has not: run as root", key)
				}
				l.must(err)
			}
			l.nvaIP(row.before...)
			l.watch(Config{Resync: time.Hour, Debounce: 5 * time.Millisecond})
			l.awaitView(row.view...)
			l.peerIP(row.doPeer...)
			l.nvaIP(row.do...)
			l.awaitView(row.want...)
			l.settle() // the dump must agree with what the events said, and come to the same
			l.awaitView(row.want...)
			if len(row.sysctls) == 0 { // in compat mode 0 ip(8) shows no gateways to compare with
				l.awaitKernel()
			}
		})
	}
}

func TestAPlainRouteEventNeedsNoDump(t *testing.T) {
	l := newLab(t)
	l.watch(Config{Resync: time.Hour, Debounce: time.Hour, MaxDebounce: time.Hour})
	for i := range 20 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)
		l.nvaIP(fmt.Sprintf("route add %v via 192.0.2.2", p))
		l.await(p.String(), func(view map[netip.Prefix]source.Route) bool { return view[p].Prefix == p })
		l.nvaIP(fmt.Sprintf("route replace %v via 192.0.2.3", p))
		l.await(p.String(), func(view map[netip.Prefix]source.Route) bool {
			return len(view[p].NextHops) == 1 && view[p].NextHops[0] == netip.MustParseAddr("192.0.2.3")
		})
		l.nvaIP(fmt.Sprintf("route del %v", p))
		l.await(p.String(), func(view map[netip.Prefix]source.Route) bool { return view[p].Prefix != p })
	}
	if n := l.metrics.Resyncs.Load(); n != 1 {
		t.Errorf("%d dumps, want the first only", n)
	}
}

func TestKeepLinkdown(t *testing.T) {
	l := newLab(t)
	l.nvaIP("route add 10.1.0.0/16 via 192.0.2.2", "route add 10.2.0.0/16 via 192.0.2.130")
	l.watch(Config{Resync: time.Hour, Debounce: 5 * time.Millisecond, KeepLinkdown: true})
	strict := &lab{nva: l.nva, peer: l.peer, recorder: newRecorder(t)}
	strict.watch(Config{Resync: time.Hour, Debounce: 5 * time.Millisecond})
	l.peerIP("link set peer0 down")
	strict.awaitView("10.2.0.0/16 boot 0 via 192.0.2.130") // now the kernel has told of the loss
	l.settle()
	l.awaitView("10.1.0.0/16 boot 0 via 192.0.2.2", "10.2.0.0/16 boot 0 via 192.0.2.130")
	if len(l.calls) != 1 {
		t.Errorf("a loss of carrier that does not matter is reported: %v", l.calls)
	}
}

// Bad news about a link needs no dump either.
func TestALinkThatGoesDownNeedsNoDump(t *testing.T) {
	l := newLab(t)
	l.nvaIP("route add 10.1.0.0/16 via 192.0.2.2", "route add 10.2.0.0/16 via 192.0.2.130")
	l.watch(Config{Resync: time.Hour, Debounce: time.Hour, MaxDebounce: time.Hour})
	l.peerIP("link set peer0 down")
	l.awaitView("10.2.0.0/16 boot 0 via 192.0.2.130")
	l.nvaIP("link set eth1 down")
	l.awaitView()
	if n := l.metrics.Resyncs.Load(); n != 1 {
		t.Errorf("%d dumps, want the first only", n)
	}
}

func TestFilters(t *testing.T) {
	l := newLab(t)
	lines := []string{
		"route add 10.1.0.0/16 via 192.0.2.2 proto bgp",
		"route add 10.1.1.0/24 via 192.0.2.2 proto static",
		"route add 10.2.0.0/16 via 192.0.2.130 proto bgp",
		"route add default via 192.0.2.2 proto dhcp",
		"route add blackhole 10.3.0.0/16 proto static",
		"route add unreachable 10.4.0.0/16 proto static",
		"route add 10.5.0.0/16 via 192.0.2.2 proto bgp table 100",
		"route add 10.1.0.0/16 via 192.0.2.3 proto bgp table 100",
		"route add 169.254.169.254/32 via 192.0.2.2 proto dhcp",
		"route add 2001:db8:a::/48 via 2001:db8:0::2 proto 77",
		"route add blackhole 2001:db8:b::/48 proto static",
	}
	l.nvaIP(lines...)
	for _, row := range []struct {
		name string
		cfg  Config
		want []string
	}{
		{name: "default", want: []string{
			"0.0.0.0/0 dhcp 0 via 192.0.2.2", "10.1.0.0/16 bgp 0 via 192.0.2.2", "10.1.1.0/24 static 0 via 192.0.2.2",
			"10.2.0.0/16 bgp 0 via 192.0.2.130", "2001:db8:a::/48 77 1024 via 2001:db8::2",
		}},
		{name: "protocols", cfg: Config{Protocols: []uint8{4, 77}}, want: []string{
			"10.1.1.0/24 static 0 via 192.0.2.2", "2001:db8:a::/48 77 1024 via 2001:db8::2",
		}},
		{name: "kernel routes on request", cfg: Config{Protocols: []uint8{2}, Families: []Family{IPv4}}, want: []string{
			"192.0.2.0/25 kernel 0", "192.0.2.128/25 kernel 0",
		}},
		{name: "interfaces", cfg: Config{Interfaces: []string{"eth1"}}, want: []string{"10.2.0.0/16 bgp 0 via 192.0.2.130"}},
		{name: "tables in order", cfg: Config{Tables: []uint32{100, 254}, Families: []Family{IPv4}, Protocols: []uint8{186}}, want: []string{
			"10.1.0.0/16 bgp 0 via 192.0.2.3", "10.2.0.0/16 bgp 0 via 192.0.2.130", "10.5.0.0/16 bgp 0 via 192.0.2.2",
		}},
		{name: "a table that does not exist", cfg: Config{Tables: []uint32{4242}}},
		{name: "blackhole", cfg: Config{Blackhole: true, Protocols: []uint8{4}}, want: []string{
			"10.1.1.0/24 static 0 via 192.0.2.2", "10.3.0.0/16 static 0", "10.4.0.0/16 static 0", "2001:db8:b::/48 static 1024",
		}},
		{
			name: "prefixes",
			cfg: Config{
				Include: []Match{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), LE: 32}},
				Exclude: []Match{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), GE: 17}, {Prefix: netip.MustParsePrefix("10.2.0.0/16")}},
			},
			want: []string{"10.1.0.0/16 bgp 0 via 192.0.2.2"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			sub := &lab{nva: l.nva, peer: l.peer, recorder: newRecorder(t)}
			sub.watch(row.cfg)
			sub.awaitView(row.want...)
		})
	}
	// The same routes as events give the same views.
	for i, add := range lines {
		lines[i] = strings.Replace(add, "add", "del", 1)
	}
	live := &lab{nva: l.nva, peer: l.peer, recorder: newRecorder(t)}
	live.watch(Config{Tables: []uint32{100}, Resync: time.Hour, Debounce: time.Hour, MaxDebounce: time.Hour})
	live.awaitView("10.1.0.0/16 bgp 0 via 192.0.2.3", "10.5.0.0/16 bgp 0 via 192.0.2.2")
	live.nvaIP(lines...)
	live.awaitView()
	live.nvaIP("route add 10.6.0.0/16 via 192.0.2.2 table 100", "route add 10.7.0.0/16 via 192.0.2.2")
	live.awaitView("10.6.0.0/16 boot 0 via 192.0.2.2")
}

func TestOverrunConverges(t *testing.T) {
	l := newLab(t)
	l.watch(Config{ReadBuffer: 4096, Resync: time.Hour, Debounce: 10 * time.Millisecond})
	const n = 25_000
	routes := func(verb string, from, to int, rest string) (lines []string) {
		for i := from; i < to; i++ {
			lines = append(lines, fmt.Sprintf("route %s 10.%d.%d.0/24 %s", verb, i>>8, i&0xff, rest))
		}
		return lines
	}
	l.nvaIP(routes("add", 0, n, "via 192.0.2.2")...)
	l.nvaIP(routes("replace", 0, n/2, "via 192.0.2.130")...)
	l.nvaIP(routes("del", n/4, 3*n/4, "")...)
	l.awaitKernel()
	l.nvaIP("link set eth0 down")
	l.awaitKernel()
	if l.metrics.Overruns.Load() == 0 {
		t.Error("the small buffer did not run over: this test shows nothing")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.lost == 0 || l.calls[0] != "replace 0" {
		t.Errorf("the sink was not told of the loss: %.500q", l.calls)
	}
}

func TestALargeBufferDoesNotRunOver(t *testing.T) {
	l := newLab(t)
	l.watch(Config{Resync: time.Hour})
	var lines []string
	for i := range 10_000 {
		lines = append(lines, fmt.Sprintf("route add 10.%d.%d.0/24 via 192.0.2.2", i>>8, i&0xff))
	}
	l.nvaIP(lines...)
	l.awaitKernel()
	if n := l.metrics.Overruns.Load(); n != 0 && l.metrics.ReadBuffer.Load() >= 8<<20 {
		t.Errorf("%d overruns with a large buffer", n)
	}
}

func TestPeriodicResync(t *testing.T) {
	l := newLab(t)
	l.nvaIP("route add 10.1.0.0/16 via 192.0.2.2")
	l.watch(Config{Resync: 10 * time.Millisecond})
	deadline := time.Now().Add(patience)
	for ; l.metrics.Resyncs.Load() < 5; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatalf("%d dumps", l.metrics.Resyncs.Load())
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.calls) != 1 {
		t.Errorf("dumps that find nothing new are reported: %v", l.calls)
	}
}

func TestRunRefusesABadConfiguration(t *testing.T) {
	err := New(Config{Tables: []uint32{255}}, slog.New(slog.DiscardHandler), nil).Run(t.Context(), newRecorder(t))
	if err == nil || !strings.Contains(err.Error(), "table 255") {
		t.Errorf("got %v, want table 255 named", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("over"))
	if err := New(Config{}, slog.New(slog.DiscardHandler), nil).Run(ctx, newRecorder(t)); err != nil {
		t.Errorf("got %v, want nil", err)
	}
}

func TestRunTriesAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var metrics Metrics
	sink := newRecorder(t)
	w := New(Config{NetNS: 1 << 20}, slog.New(slog.DiscardHandler), &metrics) // no such file descriptor
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx, sink) }()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for range 2 {
		sink.mu.Lock()
		changed, lost := sink.changed, sink.lost
		sink.mu.Unlock()
		if lost >= 2 {
			break
		}
		select {
		case <-changed:
		case <-timeout.C:
			t.Fatalf("lost %d times, want 2", lost)
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("got %v, want nil", err)
	}
	if metrics.Reopens.Load() < 2 {
		t.Errorf("%d reopens, want 2", metrics.Reopens.Load())
	}
}
