package replay

import (
	"bytes"
	"fmt"
	"iter"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
)

// Journal is the lines of journals in the order of their times. A line is decoded when its turn has come: a day of a busy domain is
// millions of them.
type Journal struct {
	names []string // of the files
	lines []line
}

type line struct {
	at     time.Time
	text   []byte
	file   int32
	number int32
}

// Read adds the lines of a file, which is not copied; name is for messages. Lines of one time stay in the order in which they were read. Empty lines are
// skipped.
func (j *Journal) Read(name string, data []byte) error {
	file := int32(len(j.names)) //nolint:gosec // small
	j.names = append(j.names, name)
	var added []line
	number := int32(0)
	for text := range bytes.Lines(data) {
		number++
		if text = bytes.TrimSpace(text); len(text) > 0 {
			added = append(added, line{text: text, file: file, number: number})
		}
	}
	errs := make([]error, len(added))
	parallel(len(added), func(i int) { added[i].at, errs[i] = journal.At(added[i].text) })
	for i, err := range errs {
		if err != nil {
			return j.wrong(added[i], err)
		}
	}
	j.lines = append(j.lines, added...)
	if byTime := func(a, b line) int { return a.at.Compare(b.at) }; !slices.IsSortedFunc(j.lines, byTime) {
		slices.SortStableFunc(j.lines, byTime)
	}
	return nil
}

func (j *Journal) wrong(l line, err error) error {
	return fmt.Errorf("%s, line %d: %w", j.names[l.file], l.number, err)
}

// Entries decodes the lines, on all processors and a little ahead of who asks for them. It ends after the first error. Dead-man switches without the
// broker's time are left out: an agent records when it armed one, not whether it fired.
func (j *Journal) Entries() iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		const together = 4096
		next := j.decode(0, together)
		for from := together; next != nil; from += together {
			batch := <-next
			next = j.decode(from, from+together)
			for _, d := range batch {
				if d.err == nil && d.entry.Order == nil && d.entry.Event.Kind == event.Expired && !d.entry.Accepted {
					continue
				}
				if !yield(d.entry, d.err) || d.err != nil {
					return
				}
			}
		}
	}
}

type decoded struct {
	entry journal.Entry
	err   error
}

// decode begins to decode some lines; nil: there are no more.
func (j *Journal) decode(from, to int) <-chan []decoded {
	if from >= len(j.lines) {
		return nil
	}
	lines := j.lines[from:min(to, len(j.lines))]
	done := make(chan []decoded, 1)
	go func() {
		batch := make([]decoded, len(lines))
		parallel(len(lines), func(i int) {
			d := &batch[i]
			if d.entry, d.err = journal.Parse(lines[i].text); d.err != nil {
				d.err = j.wrong(lines[i], d.err)
			}
		})
		done <- batch
	}()
	return done
}

// Read reads one file whole.
func Read(name string, data []byte) ([]journal.Entry, error) {
	var j Journal
	if err := j.Read(name, data); err != nil {
		return nil, err
	}
	return j.All()
}

// All decodes all lines.
func (j *Journal) All() ([]journal.Entry, error) {
	all := make([]journal.Entry, 0, len(j.lines))
	for entry, err := range j.Entries() {
		if err != nil {
			return nil, err
		}
		all = append(all, entry)
	}
	return all, nil
}

// Given are entries that are at hand, in the order of their times.
func Given(entries []journal.Entry) iter.Seq2[journal.Entry, error] {
	return func(yield func(journal.Entry, error) bool) {
		for _, entry := range entries {
			if !yield(entry, nil) {
				return
			}
		}
	}
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
