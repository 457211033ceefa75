package replay_test

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
)

// flaps is a storm: two NVAs hold 1,000 prefixes, one of them withdraws and announces one prefix after the other.
func flaps(n int, apart time.Duration) []journal.Entry {
	a, b := &speaker{name: "nva-a", beat: 1}, &speaker{name: "nva-b", beat: 1}
	all := prefixes(1000)
	out := []journal.Entry{a.said(0, event.Snapshot, all), b.said(0, event.Snapshot, all)}
	for i := range n {
		at, p := time.Minute+time.Duration(i)*apart, all[i/2%len(all)]
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
	entries := flaps(n, time.Millisecond)
	d := domain(b)
	for b.Loop() {
		if _, err := replay.Run(replay.Config{Domain: d, WriteDuration: 4 * time.Second}, replay.Given(entries)); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkRead reads the same events as lines.
func BenchmarkRead(b *testing.B) {
	const n = 20_000
	data := lines(b, flaps(n, time.Millisecond))
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if _, err := replay.Read("bench", data); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// BenchmarkDay reads and replays five million events of one day, as pointsman replay does. Making them takes longer.
func BenchmarkDay(b *testing.B) {
	const n = 5_000_000
	data := lines(b, flaps(n, 24*time.Hour/n))
	d := domain(b)
	for b.Loop() {
		var j replay.Journal
		if err := j.Read("day", data); err != nil {
			b.Fatal(err)
		}
		report, err := replay.Run(replay.Config{Domain: d, WriteDuration: 4 * time.Second}, j.Entries())
		if err != nil || report.Events < n {
			b.Fatal(report.Events, err)
		}
	}
	b.ReportMetric(float64(n)*float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
