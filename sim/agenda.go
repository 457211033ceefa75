package sim

import "time"

// agenda is what is going to happen, by time; what is due at one instant happens in the order in which it was put down.
type agenda struct {
	heap []entry
	n    uint64
}

type entry struct {
	at int64 // Unix time in nanoseconds: quick to compare
	n  uint64
	do func()
}

func (e entry) before(o entry) bool {
	return e.at < o.at || e.at == o.at && e.n < o.n
}

func (a *agenda) put(at time.Time, do func()) {
	a.n++
	a.heap = append(a.heap, entry{at.UnixNano(), a.n, do})
	for i := len(a.heap) - 1; i > 0; {
		up := (i - 1) / 2
		if !a.heap[i].before(a.heap[up]) {
			return
		}
		a.heap[i], a.heap[up] = a.heap[up], a.heap[i]
		i = up
	}
}

// due reports whether something is due at now or before.
func (a *agenda) due(now time.Time) bool { return len(a.heap) > 0 && a.heap[0].at <= now.UnixNano() }

// take returns the next entry that is due at now or before.
func (a *agenda) take(now time.Time) (e entry, ok bool) {
	if !a.due(now) {
		return e, false
	}
	e = a.heap[0]
	last := len(a.heap) - 1
	a.heap[0], a.heap[last] = a.heap[last], entry{}
	a.heap = a.heap[:last]
	for i := 0; ; {
		least := i
		for _, child := range [...]int{2*i + 1, 2*i + 2} {
			if child < last && a.heap[child].before(a.heap[least]) {
				least = child
			}
		}
		if least == i {
			return e, true
		}
		a.heap[i], a.heap[least] = a.heap[least], a.heap[i]
		i = least
	}
}
