package lab

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
)

// Recorder is a [source.Sink] that remembers what it was told and in which order, and notes where a source breaks the contract of a
// sink.
type Recorder struct {
	mu      sync.Mutex
	changed chan struct{} // closed at the next call
	known   bool          // Replace came
	lost    string        // the reason of the latest Lost without a Replace since
	control []event.Session
	view    map[netip.Prefix]source.Route
	calls   []string
	faults  []string
}

var _ source.Sink = (*Recorder)(nil)

// NewRecorder returns a recorder that knows nothing.
func NewRecorder() *Recorder {
	return &Recorder{changed: make(chan struct{}), view: map[netip.Prefix]source.Route{}}
}

// Replace implements [source.Sink].
func (r *Recorder) Replace(all []source.Route) {
	r.call(func() string {
		r.known, r.lost = true, ""
		clear(r.view)
		for _, n := range all {
			r.view[n.Prefix] = n
		}
		r.sorted(prefixesOf(all))
		return fmt.Sprintf("replace %d", len(all))
	})
}

// Update implements [source.Sink].
func (r *Recorder) Update(changed []source.Route, gone []netip.Prefix) {
	r.call(func() string {
		if !r.known {
			r.faults = append(r.faults, "update before the first replace")
		}
		for _, n := range changed {
			if r.view[n.Prefix].Equal(n) {
				r.faults = append(r.faults, "told twice: "+n.Prefix.String())
			}
			r.view[n.Prefix] = n
		}
		for _, p := range gone {
			delete(r.view, p)
		}
		r.sorted(prefixesOf(changed))
		r.sorted(gone)
		return fmt.Sprintf("update +%d -%d", len(changed), len(gone))
	})
}

// Lost implements [source.Sink].
func (r *Recorder) Lost(reason error) {
	r.call(func() string {
		r.lost = reason.Error()
		return "lost " + r.lost
	})
}

// ControlLost implements [source.Sink].
func (r *Recorder) ControlLost(sessions []event.Session) {
	r.call(func() string {
		if slices.EqualFunc(sessions, r.control, event.Session.Equal) {
			r.faults = append(r.faults, "the same sessions told twice")
		}
		r.control = sessions
		words := []string{"control lost"}
		for _, s := range sessions {
			words = append(words, s.Name, "since", s.Since.Format(time.TimeOnly))
		}
		return strings.Join(words, " ")
	})
}

func (r *Recorder) sorted(list []netip.Prefix) {
	if !slices.IsSortedFunc(list, route.Compare) {
		r.faults = append(r.faults, "not sorted")
	}
}

func prefixesOf(list []source.Route) []netip.Prefix {
	out := make([]netip.Prefix, len(list))
	for i, n := range list {
		out[i] = n.Prefix
	}
	return out
}

func (r *Recorder) call(f func() string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.calls = append(r.calls, f())
	close(r.changed)
	r.changed = make(chan struct{})
}

// View returns the routes by prefix, as "10.1.0.0/16 metric 5 via 192.0.2.1".
func (r *Recorder) View() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lines()
}

func (r *Recorder) lines() []string {
	out := make([]string, 0, len(r.view))
	for _, p := range slices.SortedFunc(maps.Keys(r.view), route.Compare) {
		n := r.view[p]
		words := []string{p.String(), "metric", strconv.FormatUint(uint64(n.Metric), 10)}
		for _, h := range n.NextHops {
			words = append(words, "via", h.String())
		}
		out = append(out, strings.Join(words, " "))
	}
	return out
}

// Len returns the number of routes.
func (r *Recorder) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.view)
}

// Reason returns why the source is lost; empty: it is not.
func (r *Recorder) Reason() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.lost
}

// Known reports whether there was a complete view.
func (r *Recorder) Known() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.known
}

// Calls returns the calls so far, as "replace 3", "update +1 -0", "lost why".
func (r *Recorder) Calls() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// Check fails the test if the source broke the contract of a sink.
func (r *Recorder) Check(tb testing.TB) {
	tb.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, f := range r.faults {
		tb.Errorf("the source broke the contract of its sink: %s", f)
	}
}

// Until waits until what holds; it looks again after every call.
func (r *Recorder) Until(tb testing.TB, what string, holds func() bool) {
	tb.Helper()
	ctx, cancel := context.WithTimeout(tb.Context(), 40*time.Second)
	defer cancel()
	for {
		r.mu.Lock()
		changed := r.changed
		r.mu.Unlock()
		if holds() {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			view := r.View()
			if len(view) > 20 {
				view = append(view[:20], "…")
			}
			tb.Fatalf("%s: not in time; the view is\n\t%s\nlost: %q\ncalls:\n\t%s", what, strings.Join(view, "\n\t"), r.Reason(), strings.Join(r.Calls(), "\n\t"))
		}
	}
}

// UntilView waits until the view is exactly these lines and the source is not lost.
func (r *Recorder) UntilView(tb testing.TB, what string, lines ...string) {
	tb.Helper()
	r.Until(tb, what, func() bool { return r.Known() && r.Reason() == "" && slices.Equal(r.View(), lines) })
}
