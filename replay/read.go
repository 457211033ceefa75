package replay

import (
	"bytes"
	"fmt"
	"runtime"
	"slices"
	"sync"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
)

// Read reads the lines of a journal; name is for messages. Empty lines are skipped, and so are dead-man switches without the broker's time:
// an agent records when it armed one, not whether it fired.
func Read(name string, data []byte) ([]journal.Entry, error) {
	var lines [][]byte
	for line := range bytes.Lines(data) {
		lines = append(lines, line)
	}
	entries := make([]journal.Entry, len(lines))
	errs := make([]error, len(lines))
	parallel(len(lines), func(i int) {
		if len(bytes.TrimSpace(lines[i])) > 0 {
			entries[i], errs[i] = journal.Parse(lines[i])
		}
	})
	out := entries[:0]
	for i, entry := range entries {
		if errs[i] != nil {
			return nil, fmt.Errorf("%s, line %d: %w", name, i+1, errs[i])
		}
		if entry.Order != nil || entry.Event.Kind != 0 && (entry.Accepted || entry.Event.Kind != event.Expired) {
			out = append(out, entry)
		}
	}
	return out, nil
}

// parallel calls do for 0 to n-1 on all processors.
func parallel(n int, do func(i int)) {
	workers := runtime.GOMAXPROCS(0)
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := w * n / workers; i < (w+1)*n/workers; i++ {
				do(i)
			}
		})
	}
	all.Wait()
}

// Sort puts entries in the order of their times; those of one time stay in the order in which they were given.
func Sort(entries []journal.Entry) {
	slices.SortStableFunc(entries, func(a, b journal.Entry) int { return a.At.Compare(b.At) })
}
