package kernel

import (
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/source"
)

func benchmarkPrefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10 + byte(i>>16), byte(i >> 8), byte(i), 0}), 24)
}

// BenchmarkShadow measures the pure part: a route event applied and reported, and the memory that a route takes.
func BenchmarkShadow(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			cfg := Config{}.WithDefaults()
			heap := func() uint64 {
				runtime.GC()
				var m runtime.MemStats
				runtime.ReadMemStats(&m)
				return m.HeapAlloc
			}
			before := heap()
			s := newShadow(&cfg)
			for i := range n {
				r := unicast(benchmarkPrefix(i).String(), via("192.0.2.1", 1))
				s.applyRoute(added, r)
			}
			s.take()
			perRoute := float64(heap()-before) / float64(n)
			r := [2]route{unicast("10.0.0.0/24", via("192.0.2.1", 1)), unicast("10.0.0.0/24", via("192.0.2.2", 1))}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				one := r[i&1]
				one.prefix = benchmarkPrefix(i >> 1 % n)
				s.applyRoute(replaced, one)
				if i++; i%100 == 0 {
					s.take()
				}
			}
			b.ReportMetric(perRoute, "B/route")
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
			runtime.KeepAlive(s)
		})
	}
}

// BenchmarkDecode measures the decoding of the recorded route messages.
func BenchmarkDecode(b *testing.B) {
	v := readVectors(b)[0]
	b.ReportAllocs()
	for b.Loop() {
		if _, err := decodeRoute(v.message.payload); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkKernel measures from the kernel to the sink: routes installed by ip(8) at full speed, and one dump of them.
func BenchmarkKernel(b *testing.B) {
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprintf("routes=%d", n), func(b *testing.B) {
			lines := make([]string, n)
			for i := range lines {
				lines[i] = fmt.Sprintf("route add %v via 192.0.2.2", benchmarkPrefix(i))
			}
			for b.Loop() {
				l := newLab(b)
				l.watch(Config{Resync: time.Hour})
				began := time.Now()
				l.nvaIP(lines...)
				l.await("all routes", func(view map[netip.Prefix]source.Route) bool { return len(view) == n })
				b.ReportMetric(float64(n)/time.Since(began).Seconds(), "events/s")
				b.ReportMetric(float64(l.metrics.Overruns.Load()), "overruns")
				l.settle()
				b.ReportMetric(float64(l.metrics.DumpDuration.Load())/1e6, "ms/dump")
			}
		})
	}
}

// BenchmarkLatency measures from the end of the system call that changes a route to the sink.
func BenchmarkLatency(b *testing.B) {
	l := newLab(b)
	l.watch(Config{Resync: time.Hour})
	p := netip.MustParsePrefix("10.1.0.0/16")
	var total time.Duration
	for b.Loop() {
		l.nvaIP("route add 10.1.0.0/16 via 192.0.2.2")
		began := time.Now()
		l.await("the route", func(view map[netip.Prefix]source.Route) bool { return view[p].Prefix == p })
		total += time.Since(began)
		l.nvaIP("route del 10.1.0.0/16")
		l.await("no route", func(view map[netip.Prefix]source.Route) bool { return len(view) == 0 })
	}
	b.ReportMetric(float64(total.Microseconds())/float64(b.N), "us/event-after-ip")
}
