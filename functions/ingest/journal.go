package ingest

import (
	"context"
	"log/slog"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/journal"
)

// Journal keeps accepted events for replay. Append adds whole lines to the file of that day.
type Journal interface {
	Append(ctx context.Context, domain string, day time.Time, lines []byte) error
}

const (
	// journalPatience bounds what the journal may cost a batch: its messages are held until then.
	journalPatience = 5 * time.Second
	// maxAppend is the most that one append may carry, in bytes (Append Block: 4 MiB in every version of the service).
	maxAppend = 4 << 20
)

// accepted returns the group's items but for those that were refused.
func (g *group) accepted(refused []Parked) []Item {
	if len(refused) == 0 {
		return g.items
	}
	return slices.DeleteFunc(slices.Clone(g.items), func(it Item) bool {
		return slices.ContainsFunc(refused, func(p Parked) bool {
			return p.ID == it.Message.ID && p.Sequence == it.Message.SequenceNumber && p.Body == string(it.Message.Body)
		})
	})
}

// record appends accepted events to the journal, one append for each domain and day. The journal is for people: a line that cannot be
// written is logged and lost, and nothing waits for it that matters to a route.
func (i *Ingest) record(ctx context.Context, items []Item) {
	if i.Journal == nil || len(items) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, journalPatience)
	defer cancel()
	for _, p := range i.pages(ctx, items) {
		if err := i.Journal.Append(ctx, p.domain, p.day, p.lines); err != nil {
			i.Log.ErrorContext(ctx, "the journal lacks events", slog.String("domain", p.domain), slog.Int("events", p.events), slog.Any("error", err))
		}
	}
}

// page is what one append carries.
type page struct {
	domain string
	day    time.Time
	lines  []byte
	events int
}

// pages gathers the items by domain and day, in the order of arrival.
func (i *Ingest) pages(ctx context.Context, items []Item) []*page {
	var all []*page
	open := map[string]*page{}
	for _, it := range items {
		at := i.enqueued(it)
		line, err := journal.Line(it.Message.Body, at)
		if err != nil {
			i.Log.ErrorContext(ctx, "the journal lacks an event", slog.String("id", it.Message.ID), slog.Any("error", err))
			continue
		}
		key := it.about().domain + "/" + at.UTC().Format(time.DateOnly)
		p := open[key]
		if p == nil || len(p.lines)+len(line) >= maxAppend {
			p = &page{domain: it.about().domain, day: at}
			open[key] = p
			all = append(all, p)
		}
		p.lines = append(append(p.lines, line...), '\n')
		p.events++
	}
	return all
}
