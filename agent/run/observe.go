package run

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/shared/event"
)

// observe is the task of one observer.
type observe struct {
	observer report.Observer
	loop     *loop
	index    int
	ready    chan struct{}
}

func (o *observe) String() string         { return o.observer.String() }
func (o *observe) Ready() <-chan struct{} { return o.ready }

func (o *observe) Run(ctx context.Context) error {
	close(o.ready)
	err := o.observer.Run(ctx, func(part event.Report) {
		o.loop.do(func(now time.Time) { o.loop.observed(ctx, now, o.index, part) })
	})
	if err != nil {
		return fmt.Errorf("observe: %w", err)
	}
	return nil
}

// observed takes in what an observer, or a source, tells.
func (l *loop) observed(ctx context.Context, now time.Time, index int, part event.Report) {
	l.parts[index] = part
	was := l.report
	l.report = report.Join(l.parts...)
	if l.report.Equal(was) {
		return
	}
	l.machine.Reported(now, l.report)
	if f := l.cfg.Follower; f != nil {
		f.Drain(l.report.Drain != "" || l.report.SelfCheck == event.Failed)
	}
	l.metrics.report(was, l.report)
	l.logReport(ctx, was, l.report)
}

// accepted tells those who wait for it that the bus has accepted a report. One that is older than what is seen now says nothing about
// any part of that.
func (l *loop) accepted(events []event.Event) {
	for _, e := range events {
		if !e.Reports() || !e.Report.Equal(l.report) {
			continue
		}
		for i, o := range l.cfg.Observers {
			if waits, ok := o.(report.Listener); ok {
				waits.Accepted(l.parts[i])
			}
		}
		return
	}
}

// logReport logs what differs between two reports.
func (l *loop) logReport(ctx context.Context, was, is event.Report) {
	for _, p := range is.Peers {
		if old, known := was.Peer(p.NVA); known && old == p {
			continue
		}
		level, text := slog.LevelInfo, "a peer is reachable"
		if !p.Reachable {
			level, text = slog.LevelWarn, "a peer is unreachable"
		}
		l.log.LogAttrs(ctx, level, text, slog.String("peer", p.NVA), slog.Bool("deaf", p.Deaf), slog.String("self-test", is.SelfTest.String())) //nolint:sloglint // one of two constants
	}
	switch unfit := is.SelfCheck == event.Failed; {
	case unfit && (was.SelfCheck != event.Failed || is.Reason != was.Reason):
		l.log.LogAttrs(ctx, slog.LevelWarn, "a self-check fails: the prefixes of this NVA move away", slog.String("reason", is.Reason))
	case !unfit && was.SelfCheck == event.Failed:
		l.log.LogAttrs(ctx, slog.LevelInfo, "the self-check passes again")
	}
	for _, s := range missing(is.ControlLost, was.ControlLost) {
		l.log.LogAttrs(ctx, slog.LevelWarn, "control lost: this NVA keeps its routes, and takes no more prefixes", slog.String("session", s.Name), slog.Time("since", s.Since))
	}
	for _, s := range missing(was.ControlLost, is.ControlLost) {
		l.log.LogAttrs(ctx, slog.LevelInfo, "control is back", slog.String("session", s.Name))
	}
	if is.Drain != was.Drain {
		if is.Drain == "" {
			l.log.LogAttrs(ctx, slog.LevelInfo, "drained no longer")
			return
		}
		l.log.LogAttrs(ctx, slog.LevelWarn, "drained: its prefixes move away", slog.String("reason", is.Drain))
	}
}

// missing returns the sessions of list that are not in other by name.
func missing(list, other []event.Session) []event.Session {
	return slices.DeleteFunc(slices.Clone(list), func(s event.Session) bool {
		return slices.ContainsFunc(other, func(o event.Session) bool { return o.Name == s.Name })
	})
}

// troubles returns what keeps observers from seeing, and the follower from telling. That peers are unreachable is none: it is what there is to see.
func (l *loop) troubles() []string {
	var all []string
	if f := l.cfg.Follower; f != nil && f.Trouble() != "" {
		all = append(all, f.Trouble())
	}
	for _, o := range l.cfg.Observers {
		if t, ok := o.(report.Troubled); ok && t.Trouble() != "" {
			all = append(all, t.Trouble())
		}
	}
	return all
}
