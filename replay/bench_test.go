package replay_test

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
)

// flaps is a storm: two NVAs hold 1,000 prefixes, one of them withdraws and announces one prefix after the other.
func flaps(n int) []journal.Entry {
	a, b := &speaker{name: "nva-a", beat: 1}, &speaker{name: "nva-b", beat: 1}
	all := prefixes(1000)
	out := []journal.Entry{a.said(0, event.Snapshot, all), b.said(0, event.Snapshot, all)}
	for i := range n {
		at, p := time.Minute+time.Duration(i)*time.Millisecond, all[i/2%len(all)]
		if i%2 == 0 {
			out = append(out, a.said(at, event.Delta, nil, p))
		} else {
			out = append(out, a.said(at, event.Delta, all[i/2%len(all):][:1]))
		}
	}
	return out
}

func BenchmarkRun(b *testing.B) {
	const n = 100_000
	entries := flaps(n)
	d := domain(b)
	for b.Loop() {
		if _, err := replay.Run(replay.Config{Domain: d, WriteDuration: 4 * time.Second}, entries); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRead reads the same events as lines.
func BenchmarkRead(b *testing.B) {
	const n = 20_000
	data := lines(b, flaps(n))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := replay.Read("bench", data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
