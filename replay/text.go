package replay

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// maxListed is how many prefixes of one kind of change a text names.
const maxListed = 4

// Text writes the report for people. Times are since the first event.
func (r Report) Text(w io.Writer) error {
	p := &printer{w: w, begin: r.Begin}
	p.line("domain %s: %s in %s from %s; a write takes %s", r.Domain, plural(r.Events, "event"), r.End.Sub(r.Begin), r.Begin.UTC().Format(time.RFC3339Nano), seconds(r.WriteSeconds))
	if r.Foreign > 0 {
		p.line("%d events of other domains were left out", r.Foreign)
	}
	if r.Refused > 0 {
		p.line("%d events would have been parked", r.Refused)
	}
	for _, t := range r.Targets {
		p.target(t)
	}
	return p.err
}

type printer struct {
	w     io.Writer
	begin time.Time
	err   error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}

func (p *printer) target(t TargetReport) {
	p.line("\ntarget %s: %s for %s of what it should hold: %d saved; %d managed of %d routes at the end",
		t.Target, plural(len(t.Writes), "write"), plural(t.Changes, "change"), t.Saved, t.Managed, t.Routes)
	p.line("  prefix-seconds: %.1f on a dead next hop, %.1f without a route, %.1f not on the best path", t.DeadSeconds, t.MissingSeconds, t.BetterSeconds)
	moments := slices.Clone(t.Timeline)
	for n, w := range t.Writes {
		moments = append(moments, Moment{At: w.At, Text: fmt.Sprintf("write %d, done at %s: %s", n+1, p.since(w.Done), w.summary()) + listing(w)})
	}
	slices.SortStableFunc(moments, func(a, b Moment) int { return a.At.Compare(b.At) })
	for _, m := range moments {
		p.line("  %12s  %s", p.since(m.At), m.Text)
	}
	for _, refused := range t.Refused {
		p.line("  not done: %s", refused)
	}
}

func (p *printer) since(at time.Time) string { return fmt.Sprintf("+%.3fs", at.Sub(p.begin).Seconds()) }

func (w Write) summary() string {
	return fmt.Sprintf("+%d ~%d -%d", len(w.Added), len(w.Changed), len(w.Removed))
}

// listing names what a write did, changes of one kind together.
func listing(w Write) string {
	var b strings.Builder
	for _, part := range []struct {
		sign string
		list []Change
	}{{"+", w.Added}, {"~", w.Changed}, {"-", w.Removed}} {
		for _, g := range grouped(part.list) {
			fmt.Fprintf(&b, "\n%18s %s %s", part.sign, g[0].way(), names(g))
		}
	}
	return b.String()
}

// grouped gathers changes from one next hop to one other, keeping their order.
func grouped(list []Change) [][]Change {
	var out [][]Change
	for _, c := range list {
		i := slices.IndexFunc(out, func(g []Change) bool { return g[0].From == c.From && g[0].To == c.To })
		if i < 0 {
			out = append(out, []Change{c})
			continue
		}
		out[i] = append(out[i], c)
	}
	return out
}

func (c Change) way() string {
	switch {
	case c.From == "":
		return "to " + c.To
	case c.To == "":
		return "from " + c.From
	}
	return c.From + " -> " + c.To
}

func names(list []Change) string {
	var out []string
	for _, c := range list[:min(len(list), maxListed)] {
		out = append(out, c.Prefix)
	}
	text := strings.Join(out, ", ")
	if more := len(list) - maxListed; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// Compare writes two reports of the same events side by side.
func Compare(w io.Writer, nameA string, a Report, nameB string, b Report) error {
	tab := tabwriter.NewWriter(w, 0, 0, 3, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(tab, strings.Join(cells, "\t")) } // the writer keeps its error for Flush
	row("", nameA, nameB)
	for _, name := range targetNames(a, b) {
		x, inA := a.target(name)
		y, inB := b.target(name)
		row("target "+name, presence(inA), presence(inB))
		row("  writes", fmt.Sprint(len(x.Writes)), fmt.Sprint(len(y.Writes)))
		row("  changes of what it should hold", fmt.Sprint(x.Changes), fmt.Sprint(y.Changes))
		row("  writes saved", fmt.Sprint(x.Saved), fmt.Sprint(y.Saved))
		row("  prefix-seconds on a dead next hop", fmt.Sprintf("%.1f", x.DeadSeconds), fmt.Sprintf("%.1f", y.DeadSeconds))
		row("  prefix-seconds without a route", fmt.Sprintf("%.1f", x.MissingSeconds), fmt.Sprintf("%.1f", y.MissingSeconds))
		row("  prefix-seconds not on the best path", fmt.Sprintf("%.1f", x.BetterSeconds), fmt.Sprintf("%.1f", y.BetterSeconds))
		row("  managed routes at the end", fmt.Sprint(x.Managed), fmt.Sprint(y.Managed))
		for n := range max(len(x.Writes), len(y.Writes)) {
			row(fmt.Sprintf("  write %d", n+1), a.writeCell(x, n), b.writeCell(y, n))
		}
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func presence(there bool) string {
	if there {
		return ""
	}
	return "(not in this file)"
}

func (r Report) writeCell(t TargetReport, n int) string {
	if n >= len(t.Writes) {
		return ""
	}
	p := printer{begin: r.Begin}
	return p.since(t.Writes[n].At) + " " + t.Writes[n].summary()
}

func (r Report) target(name string) (TargetReport, bool) {
	i := slices.IndexFunc(r.Targets, func(t TargetReport) bool { return t.Target == name })
	if i < 0 {
		return TargetReport{}, false
	}
	return r.Targets[i], true
}

func targetNames(a, b Report) []string {
	var out []string
	for _, t := range slices.Concat(a.Targets, b.Targets) {
		if !slices.Contains(out, t.Target) {
			out = append(out, t.Target)
		}
	}
	return out
}

func plural(n int, word string) string {
	if n == 1 {
		return "1 " + word
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func seconds(s float64) string { return time.Duration(s * float64(time.Second)).String() }
