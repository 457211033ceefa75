//go:build linux

package main

import (
	"bytes"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// journal is what happened: what was done, how often each fault was made, and what was found to be wrong.
type journal struct {
	began time.Time
	out   io.Writer // nil: nothing is shown meanwhile

	mu         sync.Mutex
	lines      []string
	faults     map[string]int
	violations []string
	writes     int
}

func newJournal(out io.Writer) *journal {
	return &journal{began: time.Now(), out: out, faults: map[string]int{}}
}

// say adds a line to the timeline.
func (j *journal) say(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.add(fmt.Sprintf(format, args...))
}

// add adds a line. The caller holds mu.
func (j *journal) add(text string) {
	l := fmt.Sprintf("%8.3f  %s", time.Since(j.began).Seconds(), text)
	j.lines = append(j.lines, l)
	if j.out != nil {
		_, _ = fmt.Fprintln(j.out, l)
	}
}

// fault counts a fault and adds it to the timeline.
func (j *journal) fault(kind, text string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.faults[kind]++
	j.add("FAULT " + kind + ": " + text)
}

// maxViolations bounds the list: what is wrong once is often wrong at every write that follows.
const maxViolations = 50

func (j *journal) violation(invariant, format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	text := invariant + ": " + fmt.Sprintf(format, args...)
	j.add("VIOLATION " + text)
	if len(j.violations) < maxViolations {
		j.violations = append(j.violations, text)
	}
}

func (j *journal) wrote() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.writes++
}

func (j *journal) timeline() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return slices.Clone(j.lines)
}

// result is how a run ended.
type result struct {
	faults     map[string]int
	writes     int
	violations []string
	converged  time.Duration
}

// String is the last line of a run.
func (r result) String() string {
	total, kinds := 0, []string{}
	for _, kind := range slices.Sorted(maps.Keys(r.faults)) {
		total += r.faults[kind]
		kinds = append(kinds, fmt.Sprintf("%d %s", r.faults[kind], kind))
	}
	converged := "not converged"
	if r.converged > 0 {
		converged = fmt.Sprintf("converged in %.1f s", r.converged.Seconds())
	}
	return fmt.Sprintf("chaos: %d faults (%s), %d writes, %d violations, %s", total, strings.Join(kinds, ", "), r.writes, len(r.violations), converged)
}

func (j *journal) result(converged time.Duration) result {
	j.mu.Lock()
	defer j.mu.Unlock()
	return result{faults: maps.Clone(j.faults), writes: j.writes, violations: slices.Clone(j.violations), converged: converged}
}

// tail keeps the last lines of a log. It is an io.Writer.
type tail struct {
	mu      sync.Mutex
	pending []byte
	lines   []string
	see     func(line string) // nil: nobody looks
}

const tailLines = 60

// Write implements io.Writer.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.pending = append(t.pending, p...)
	for {
		i := bytes.IndexByte(t.pending, '\n')
		if i < 0 {
			return len(p), nil
		}
		t.add(string(t.pending[:i]))
		t.pending = t.pending[i+1:]
	}
}

// add adds a line. The caller holds mu.
func (t *tail) add(line string) {
	if t.see != nil {
		t.see(line)
	}
	t.lines = append(t.lines, line)
	if extra := len(t.lines) - tailLines; extra > 0 {
		t.lines = slices.Delete(t.lines, 0, extra)
	}
}

func (t *tail) say(text string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.add(text)
}

func (t *tail) last() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}
