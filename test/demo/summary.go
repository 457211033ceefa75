package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// latency is a distribution in milliseconds.
type latency struct {
	P50 float64 `json:"p50"`
	Max float64 `json:"max"`
	N   int     `json:"n"`
}

// summary is dist/demo/summary.json.
type summary struct {
	OK              bool     `json:"ok"`
	UnmanagedIntact bool     `json:"unmanagedIntact"`
	KernelToEventMs *latency `json:"kernelToEventMs"` // null with recorded events
	EventToPutMs    *latency `json:"eventToPutMs"`
	Steps           []result `json:"steps"`
	Mode            string   `json:"mode"` // kernel or recorded
}

// measured returns what was measured: from the kernel's change to the event on the bus, and from there to the write, of urgent changes.
func (d *demo) measured() (kernelToEvent, eventToPut []time.Duration) {
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	for _, c := range d.changes {
		if d.real && !c.death && !c.event.IsZero() && !c.slow {
			kernelToEvent = append(kernelToEvent, c.event.Sub(c.at))
		}
		if c.urgent && !c.put.IsZero() {
			eventToPut = append(eventToPut, c.put.Sub(c.event))
		}
	}
	return kernelToEvent, eventToPut
}

func spread(values []time.Duration) *latency {
	if len(values) == 0 {
		return nil
	}
	l := &latency{P50: milliseconds(median(values)), N: len(values)}
	for _, v := range values {
		l.Max = max(l.Max, milliseconds(v))
	}
	return l
}

func milliseconds(d time.Duration) float64 {
	return float64(d.Round(100*time.Microsecond)) / float64(time.Millisecond)
}

// conclude prints the summary, writes it, and reports whether all was right.
func (d *demo) conclude(failed error) bool {
	d.watch.mu.Lock()
	intact := d.watch.intact == nil
	d.watch.mu.Unlock()
	kernelToEvent, eventToPut := d.measured()
	s := summary{
		OK: failed == nil, UnmanagedIntact: intact, KernelToEventMs: spread(kernelToEvent), EventToPutMs: spread(eventToPut),
		Steps: d.results, Mode: "recorded",
	}
	if d.real {
		s.Mode = "kernel"
	}
	d.out.say("")
	d.out.say("%s", d.out.paint(bold, "Summary"))
	d.out.table(rows(d.results), true)
	d.out.say("")
	d.latency("kernel to event on the bus", s.KernelToEventMs, "changes; 100 ms of it is waiting for more of them")
	d.latency("event to write of the table", s.EventToPutMs, "changes that cannot wait")
	file := filepath.Join(d.dist, "demo", "summary.json")
	if err := writeSummary(file, s); err != nil {
		d.out.note("The summary could not be kept: %v", err)
	} else {
		d.out.say("  kept in %s", file)
	}
	verdict := d.out.paint(bold+";"+green, "ok")
	if !s.OK {
		verdict = d.out.paint(bold+";"+red, "FAILED")
	}
	d.out.say("  %s after %s", verdict, time.Since(d.began).Round(time.Second))
	return s.OK
}

func rows(results []result) [][]string {
	out := [][]string{{"step", "prefixes", "PUT", "at most", "GET", "polls", "messages", "blob reads", "writes", "in force after"}}
	for _, r := range results {
		after := "-"
		if r.ConvergedMs > 0 {
			after = fmt.Sprintf("%.3f s", float64(r.ConvergedMs)/1000)
		}
		out = append(out, []string{
			r.Name, fmt.Sprint(r.ChangedPrefixes), fmt.Sprint(r.Puts), fmt.Sprint(r.MaxPuts), fmt.Sprint(r.Gets), fmt.Sprint(r.Polls),
			fmt.Sprint(r.Events + r.Wakes), fmt.Sprint(r.BlobReads), fmt.Sprint(r.BlobWrites), after,
		})
	}
	return out
}

func (d *demo) latency(what string, l *latency, which string) {
	if l == nil {
		return
	}
	d.out.say("  %-27s  median %4.0f ms, longest %4.0f ms   %s", what, l.P50, l.Max, d.out.paint(dim, fmt.Sprintf("(%d %s)", l.N, which)))
}

// writeSummary replaces the file in one step: two demonstrations may run at the same time.
func writeSummary(file string, s summary) error {
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	if err = os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	aside := fmt.Sprintf("%s.%d", file, os.Getpid())
	if err = os.WriteFile(aside, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	if err = os.Rename(aside, file); err != nil {
		return fmt.Errorf("summary: %w", err)
	}
	return nil
}
