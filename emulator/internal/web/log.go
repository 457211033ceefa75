package web

import (
	"slices"
	"sync"
)

// Log keeps the newest entries of something. Its methods may be called by several goroutines at once.
type Log[T any] struct {
	// Max is how many entries it keeps. It is set before first use.
	Max int

	mu      sync.Mutex
	entries []T
}

// Add appends entries and drops the oldest beyond Max.
func (l *Log[T]) Add(entries ...T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, entries...)
	l.entries = slices.Delete(l.entries, 0, max(0, len(l.entries)-l.Max)) // clears them, so that bodies can be collected
}

// All returns the entries, oldest first.
func (l *Log[T]) All() []T {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.entries)
}

// Reset empties the log.
func (l *Log[T]) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = nil
}
