// Command explore lives many simulated histories and reports the invariants that did not hold: make sim SEEDS=N.
package main

import (
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"github.com/pointsman/pointsman/sim"
)

func main() {
	seeds := flag.Uint64("seeds", 10_000, "how many histories to live")
	first := flag.Uint64("first", 0, "the first seed")
	workers := flag.Int("workers", runtime.GOMAXPROCS(0), "histories at a time")
	tell := flag.Int64("tell", -1, "tell the history of this seed, reduced to what matters, and nothing else")
	whole := flag.Bool("whole", false, "with -tell: all of it")
	flag.Parse()
	debug.SetGCPercent(800) // histories leave much behind and hold little
	if *tell >= 0 {
		write(os.Stdout, sim.Tell(uint64(*tell), *whole))
		return
	}
	began := time.Now() //nolint:forbidigo // the rate of the histories is the one thing here that is measured by a clock
	found := sim.Explore(*first, *seeds, *workers)
	seconds := time.Since(began).Seconds() //nolint:forbidigo // likewise
	if !report(os.Stdout, found, seconds, cpuTime().Seconds(), *workers) {
		os.Exit(1)
	}
}

// report writes what was found; its last line is the summary. It reports whether every invariant held.
func report(w io.Writer, found sim.Findings, seconds, cpu float64, workers int) bool {
	for i, f := range found.Violated {
		if i == 0 {
			write(w, sim.Tell(f.Seed, false))
		} else {
			write(w, fmt.Sprintf("seed %d: %s\n", f.Seed, f.Error()))
		}
	}
	if len(found.Violated) > 0 {
		write(w, fmt.Sprintf("again: go run ./sim/explore -tell %d   (all of it: -whole)\n", found.Violated[0].Seed))
	}
	c := found.Counts
	write(w, fmt.Sprintf("%d steps, %d calls of functions of which %d crashed, %d events, %d PUTs sent, %d applied of which %d fences\n",
		c.Steps, c.Calls, c.Crashes, c.Events, c.PUTs, c.Applied, c.Fences))
	write(w, fmt.Sprintf("%d histories, %.0f/s by the clock with %d workers, %.0f for a second of one core's time, %d violations\n",
		found.Histories, float64(found.Histories)/seconds, workers, float64(found.Histories)/cpu, len(found.Violated)))
	return len(found.Violated) == 0
}

// write writes to standard output; when that is gone there is nobody left to tell.
func write(w io.Writer, text string) { _, _ = io.WriteString(w, text) }
