package sim

import (
	"fmt"
	"slices"
	"strings"
	"sync"
)

// Findings is what many histories came to.
type Findings struct {
	Histories int
	Counts    Counts
	Violated  []Finding // by seed
}

// Finding is one history in which an invariant did not hold.
type Finding struct {
	Seed uint64
	Violation
}

// Explore lives the histories of n seeds from first on, spread over workers, each of which lives one history at a time.
func Explore(first, n uint64, workers int) Findings {
	parts := make([]Findings, workers)
	var all sync.WaitGroup
	for i := range workers {
		all.Go(func() { parts[i] = explore(first, n, uint64(i), uint64(workers)) })
	}
	all.Wait()
	var out Findings
	for _, p := range parts {
		out.Histories += p.Histories
		out.Counts.add(p.Counts)
		out.Violated = append(out.Violated, p.Violated...)
	}
	slices.SortFunc(out.Violated, func(a, b Finding) int { return int(int64(a.Seed - b.Seed)) })
	return out
}

// enough findings in one worker: what more of them would say is said.
const enough = 50

// explore lives every step-th history.
func explore(first, n, from, step uint64) Findings {
	var out Findings
	shelf := shelf{}
	defer shelf.close()
	for i := from; i < n && len(out.Violated) < enough; i += step {
		h := newHistory(first + i)
		w := h.live(shelf.of(h.habits), without{}, nil)
		out.Histories++
		out.Counts.add(w.counts)
		if w.violation != nil {
			out.Violated = append(out.Violated, Finding{first + i, *w.violation})
		}
	}
	return out
}

func (c *Counts) add(o Counts) {
	c.Steps += o.Steps
	c.Calls += o.Calls
	c.Crashes += o.Crashes
	c.Events += o.Events
	c.PUTs += o.PUTs
	c.Applied += o.Applied
	c.Fences += o.Fences
	c.Stale += o.Stale
	c.PeerSteps += o.PeerSteps
}

// shelf keeps functions between histories: those over a store that holds text, and those over one that does not.
type shelf map[bool]*functions

func (s shelf) of(h Habits) *functions {
	f := s[h.Text]
	if f == nil {
		f = newFunctions(h)
		s[h.Text] = f
	}
	return f
}

func (s shelf) close() {
	for _, f := range s {
		f.close()
	}
}

// Tell lives one history and tells it: all of it, or only what is needed to break the invariant that it breaks.
func Tell(seed uint64, all bool) string {
	h := newHistory(seed)
	f := newFunctions(h.habits)
	defer f.close()
	out := without{}
	if !all {
		out = h.reduce(f)
	}
	var story []string
	w := h.live(f, out, &story)
	verdict := "every invariant holds"
	if w.violation != nil {
		verdict = w.violation.Error()
	}
	return fmt.Sprintf("seed %d: %s\n%s\n%s\nseed %d: %s\n", seed, h.habits, h.setup.yaml(), strings.Join(story, "\n"), seed, verdict)
}

// String tells the habits in the words of docs/correctness.md.
func (h Habits) String() string {
	return fmt.Sprintf("%d of 1,000 calls go wrong in each of six ways, a write of the same content moves the ETag: %v, writes are visible at the end of their operation: %v, duplicate detection: %v, instances of the function app: %d",
		h.Faults, h.FenceMoves, h.VisibleLate, h.Dedup, max(h.Instances, 1))
}

// reduce finds little that is enough to break the same invariant: it leaves out deeds and odd answers, half of them at a time, then fewer
// (delta debugging; Zeller, Hildebrandt 2002).
func (h *history) reduce(f *functions) without {
	var story []string
	w := h.live(f, without{}, &story)
	if w.violation == nil {
		return without{}
	}
	invariant := w.violation.Invariant
	type item struct {
		deed int // -1: none
		odd  uint64
	}
	var kept []item
	for i := range h.deeds {
		kept = append(kept, item{deed: i})
	}
	for _, q := range w.luck.odd {
		kept = append(kept, item{-1, q})
	}
	out := without{map[int]bool{}, map[uint64]bool{}}
	mark := func(items []item, left bool) {
		for _, i := range items {
			if i.deed >= 0 {
				out.deeds[i.deed] = left
			} else {
				out.odd[i.odd] = left
			}
		}
	}
	for size, budget := (len(kept)+1)/2, 3000; size > 0; size /= 2 {
		for from := 0; from < len(kept) && budget > 0; budget-- {
			part := kept[from:min(from+size, len(kept))]
			mark(part, true)
			if v := h.live(f, out, nil).violation; v != nil && v.Invariant == invariant {
				kept = slices.Delete(kept, from, from+len(part))
				continue
			}
			mark(part, false)
			from += size
		}
	}
	return out
}
