// Package sweep wakes every target on a timer: the backstop for whatever was lost on the way.
package sweep

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/wake"
)

// Store lists the domains and reads their files.
type Store interface {
	Domains(ctx context.Context) ([]string, error)
	Domain(ctx context.Context, name string) (documents.Domain, error)
}

// Wakes sends a wake, to be delivered at once or at a time. It returns nil only when the broker has it; sending twice is harmless.
type Wakes interface {
	Send(ctx context.Context, w wake.Wake, at time.Time) error
}

// Beliefs tells the outside when what is believed of a domain's NVAs has changed, and what could not be told before.
type Beliefs interface {
	Look(ctx context.Context, domain string)
}

// Retention deletes files of the history and the journal that are too old. Asking once too often costs nothing.
type Retention interface {
	Clean(ctx context.Context, now time.Time) (deleted int, err error)
}

// Sweep is the function. All fields but Beliefs and Retention are needed.
type Sweep struct {
	Store  Store
	Wakes  Wakes
	Now    func() time.Time
	Spread time.Duration // the wakes are spread over this time, so that a large estate does not use its quota up at once
	Log    *slog.Logger

	Beliefs   Beliefs   // nil: nobody is told
	Retention Retention // nil: nothing is deleted
}

// Handle wakes all targets of all domains. One domain in trouble does not keep the others from being swept.
func (s *Sweep) Handle(ctx context.Context) error {
	names, err := s.Store.Domains(ctx)
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	var units [][]wake.Wake // what is woken at one instant
	var failed error
	record := telemetry.Of(ctx)
	for _, name := range names {
		record.Note(telemetry.Domains, name)
		d, trouble := s.Store.Domain(ctx, name)
		if trouble != nil {
			s.Log.ErrorContext(ctx, "a domain cannot be swept", slog.String("domain", name), slog.Any("error", trouble))
			failed = errors.Join(failed, trouble)
			continue
		}
		for _, p := range d.Problems {
			s.Log.ErrorContext(ctx, "the newest domain file is not valid, the last valid one is in force", slog.String("domain", name), slog.String("problem", p.String()))
		}
		all := d.Config.All()
		record.Add(telemetry.Targets, len(all))
		for _, targets := range d.Config.Units(all) {
			var unit []wake.Wake
			for _, t := range targets {
				unit = append(unit, wake.Wake{Domain: name, Target: t.Name, Cause: "sweep/" + s.Now().UTC().Format("20060102T1504")})
			}
			units = append(units, unit)
		}
	}
	failed = errors.Join(failed, s.send(ctx, units))
	s.clean(ctx)
	if s.Beliefs != nil { // last: nothing waits for it
		for _, name := range names {
			s.Beliefs.Look(ctx, name)
		}
	}
	return failed
}

// clean deletes what is too old. That it fails is no reason to sweep once more.
func (s *Sweep) clean(ctx context.Context) {
	if s.Retention == nil {
		return
	}
	deleted, err := s.Retention.Clean(ctx, s.Now())
	telemetry.Of(ctx).Set(telemetry.Deleted, deleted)
	if err != nil {
		s.Log.WarnContext(ctx, "old files are not deleted yet", slog.Any("error", err))
	}
}

// send puts the wakes on the bus, evenly over Spread, those of a group together.
func (s *Sweep) send(ctx context.Context, units [][]wake.Wake) error {
	start := s.Now()
	var failed error
	for i, unit := range units {
		at := start.Add(s.Spread * time.Duration(i) / time.Duration(len(units)))
		for _, w := range unit {
			if err := s.Wakes.Send(ctx, w, at); err != nil {
				failed = errors.Join(failed, fmt.Errorf("sweep %s/%s: %w", w.Domain, w.Target, err))
			}
		}
	}
	return failed
}
