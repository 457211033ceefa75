package kernel

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

// patience bounds every wait; it is met only by a test that fails.
const patience = 30 * time.Second

// recorder is a sink that holds the view it is told and checks the sink's contract.
type recorder struct {
	t       testing.TB
	mu      sync.Mutex
	view    map[netip.Prefix]source.Route
	calls   []string
	lost    int
	changed chan struct{} // closed and renewed by every call
}

func newRecorder(tb testing.TB) *recorder {
	tb.Helper()
	return &recorder{t: tb, changed: make(chan struct{})}
}

func (r *recorder) record(format string, args ...any) {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
	close(r.changed)
	r.changed = make(chan struct{})
}

func (r *recorder) Replace(all []source.Route) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.view = make(map[netip.Prefix]source.Route, len(all))
	for _, one := range all {
		r.view[one.Prefix] = one
	}
	if len(r.view) != len(all) {
		r.t.Errorf("Replace names a prefix twice: %v", all)
	}
	r.record("replace %d", len(all))
}

func (r *recorder) Update(changed []source.Route, gone []netip.Prefix) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.view == nil {
		r.t.Error("Update before Replace")
		r.view = map[netip.Prefix]source.Route{}
	}
	for _, one := range changed {
		if r.view[one.Prefix].Equal(one) {
			r.t.Errorf("Update repeats %v", one)
		}
		r.view[one.Prefix] = one
	}
	for _, p := range gone {
		if _, ok := r.view[p]; !ok {
			r.t.Errorf("Update takes away the unknown %v", p)
		}
		delete(r.view, p)
	}
	r.record("update +%d -%d", len(changed), len(gone))
}

func (r *recorder) Lost(error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost++
	r.record("lost")
}

func (r *recorder) ControlLost([]event.Session) {}

// await waits until the view satisfies the condition.
func (r *recorder) await(what string, ok func(view map[netip.Prefix]source.Route) bool) {
	r.t.Helper()
	timeout := time.NewTimer(patience)
	defer timeout.Stop()
	for {
		r.mu.Lock()
		good, changed := r.view != nil && ok(r.view), r.changed
		r.mu.Unlock()
		if good {
			return
		}
		select {
		case <-changed:
		case <-timeout.C:
			r.t.Fatalf("waiting for %s; the view has %d prefixes: %.2000v", what, len(r.snapshot()), text(r.snapshot()))
		}
	}
}

func (r *recorder) snapshot() map[netip.Prefix]source.Route {
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.view)
}

// text writes a view as lines "prefix origin metric via a,b", sorted.
func text(view map[netip.Prefix]source.Route) string {
	var lines []string
	for _, p := range slices.SortedFunc(maps.Keys(view), netip.Prefix.Compare) {
		lines = append(lines, describe(view[p]))
	}
	return strings.Join(lines, "\n")
}

// awaitView waits until the view is exactly these lines.
func (r *recorder) awaitView(want ...string) {
	r.t.Helper()
	slices.Sort(want)
	r.await("view\n"+strings.Join(want, "\n"), func(view map[netip.Prefix]source.Route) bool {
		got := strings.Split(text(view), "\n")
		slices.Sort(got)
		return slices.Equal(got, want) || len(view) == 0 && len(want) == 0
	})
}

// lab is an NVA (namespace nva) with the links eth0 and eth1 to a neighbour.
type lab struct {
	nva, peer *netns.NS
	*recorder
	metrics Metrics
}

func newLab(tb testing.TB) *lab {
	tb.Helper()
	l := &lab{nva: netns.New(tb), peer: netns.New(tb), recorder: newRecorder(tb)}
	for i := range 2 {
		l.must(netns.Pair(l.nva, l.peer, fmt.Sprintf("eth%d", i), fmt.Sprintf("peer%d", i)))
		l.nvaIP(
			fmt.Sprintf("addr add 192.0.2.%d/25 dev eth%d", 128*i+1, i),
			fmt.Sprintf("addr add 2001:db8:%d::1/64 dev eth%d", i, i),
		)
	}
	return l
}

func (l *lab) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *lab) nvaIP(lines ...string)  { l.t.Helper(); l.must(l.nva.Batch(lines...)) }
func (l *lab) peerIP(lines ...string) { l.t.Helper(); l.must(l.peer.Batch(lines...)) }

// watch runs a watcher in the NVA until the test ends.
func (l *lab) watch(cfg Config) {
	l.t.Helper()
	cfg.NetNS = l.nva.FD()
	others := goleak.IgnoreCurrent()
	done := make(chan error, 1)
	w := New(cfg, slog.New(slog.DiscardHandler), &l.metrics)
	go func() { done <- w.Run(l.t.Context(), l.recorder) }()
	l.t.Cleanup(func() {
		if err := <-done; err != nil {
			l.t.Errorf("Run: %v", err)
		}
		goleak.VerifyNone(l.t, others)
	})
	l.await("the first view", func(map[netip.Prefix]source.Route) bool { return true })
}

// settle makes the watcher dump once more and waits until it has.
func (l *lab) settle() {
	l.t.Helper()
	before := l.metrics.Resyncs.Load()
	l.nvaIP("link set lo mtu 60000", "link set lo mtu 65536")
	for end := time.Now().Add(patience); l.metrics.Resyncs.Load() == before; runtime.Gosched() {
		if time.Now().After(end) {
			l.t.Fatal("no dump after a link changed")
		}
	}
}

// kernelView asks ip(8) for the view that the default configuration should give: an oracle that shares no code with the
// watcher.
func (l *lab) kernelView() map[netip.Prefix]source.Route {
	l.t.Helper()
	view := map[netip.Prefix]source.Route{}
	for _, family := range []string{"-4", "-6"} {
		out, err := l.nva.Run("ip", family, "-j", "-d", "route", "show", "table", "main")
		l.must(err)
		var routes []struct {
			Type, Dst, Gateway, Protocol string
			Metric                       uint32
			Flags                        []string
			Nexthops                     []struct {
				Gateway string
				Flags   []string
			}
		}
		l.must(json.Unmarshal([]byte(out), &routes))
		for _, k := range routes {
			if k.Type != "unicast" || k.Protocol == "kernel" || slices.Contains(k.Flags, "linkdown") || slices.Contains(k.Flags, "dead") {
				continue
			}
			r := source.Route{Prefix: oraclePrefix(l.t, k.Dst, family), Metric: k.Metric, Origin: k.Protocol, Table: tableMain}
			gateways := []string{k.Gateway}
			for _, n := range k.Nexthops {
				if len(n.Flags) == 0 {
					gateways = append(gateways, n.Gateway)
				}
			}
			for _, g := range gateways {
				if g != "" {
					r.NextHops = append(r.NextHops, netip.MustParseAddr(g))
				}
			}
			slices.SortFunc(r.NextHops, netip.Addr.Compare)
			if len(k.Nexthops) > 0 && len(r.NextHops) == 0 {
				continue
			}
			if have, ok := view[r.Prefix]; !ok || r.Metric < have.Metric {
				view[r.Prefix] = r
			}
		}
	}
	return view
}

func oraclePrefix(tb testing.TB, dst, family string) netip.Prefix {
	tb.Helper()
	if dst == "default" {
		dst = map[string]string{"-4": "0.0.0.0/0", "-6": "::/0"}[family]
	}
	if p, err := netip.ParsePrefix(dst); err == nil {
		return p
	}
	a, err := netip.ParseAddr(dst)
	if err != nil {
		tb.Fatal(err)
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// awaitKernel waits until the view is what the kernel holds.
func (l *lab) awaitKernel() {
	l.t.Helper()
	want := l.kernelView()
	l.await(fmt.Sprintf("the %d prefixes of the kernel", len(want)), func(view map[netip.Prefix]source.Route) bool {
		return maps.EqualFunc(view, want, source.Route.Equal)
	})
}
