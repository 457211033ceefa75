package run

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/message"
)

// Bus is the way to the queue. The agent makes one call of Publish at a time, and calls of Schedule and Cancel beside it.
//
// The agent retries, an implementation does so only to replace a stale connection. An error of Publish or Schedule leaves open
// whether the messages were accepted, unless its fault kind is Denied (only a person can help) or Poison (a message is too
// large). Every call returns soon after its context is done.
type Bus interface {
	// Publish sends the messages in their order; nil means that every one was accepted.
	Publish(ctx context.Context, msgs []message.Message) error
	// Schedule sends a message that is delivered at the given time, by the clock of the bus, unless Cancel gets its number before.
	Schedule(ctx context.Context, m message.Message, at time.Time) (number int64, err error)
	// Cancel takes a scheduled message back. fault.NotFound means that it was delivered, or cancelled, before.
	Cancel(ctx context.Context, number int64) error
}

// Record returns a bus that writes the body of every message accepted by Publish to w, one a line. That one cannot be written is no
// failure of the bus and goes to report instead.
func Record(bus Bus, w io.Writer, report func(error)) Bus {
	return &recorder{Bus: bus, w: w, report: report}
}

type recorder struct {
	Bus
	w      io.Writer
	report func(error)
}

// Publish implements Bus.
func (r *recorder) Publish(ctx context.Context, msgs []message.Message) error {
	if err := r.Bus.Publish(ctx, msgs); err != nil {
		return fmt.Errorf("publish: %w", err)
	}
	for _, m := range msgs {
		if _, err := r.w.Write(append(slices.Clip(m.Body), '\n')); err != nil {
			r.report(fmt.Errorf("record message %s: %w", m.ID, err))
		}
	}
	return nil
}
