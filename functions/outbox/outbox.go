// Package outbox sends what documents hold for the outside, and takes out of them what was sent.
package outbox

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
)

// Topic takes outcome events. Publish returns nil only when the topic has all of them; fault.Refused says that it will never take at least
// one of them as it is. Publishing twice is harmless.
type Topic interface {
	Publish(ctx context.Context, events []outcome.Event) error
}

// Patience bounds what sending may cost a call of a function. By then all that matters to routes is done; what is not sent stays where it is.
const Patience = 3 * time.Second

// maxConflicts bounds the tries of one document against other writers.
const maxConflicts = 10

// Box is the outbox of one document.
type Box struct {
	About string // for the log: "target hub/spokes"
	// Read returns the outbox as stored, and what writes the document of that reading back; that answers fault.Conflict when somebody else
	// wrote first.
	Read func(ctx context.Context) (box *outcome.Outbox, save func(ctx context.Context) error, err error)
}

// Post sends what the box holds. The order of effects: the events were saved with the document before; they are sent; then they are taken out
// of it. A crash in between sends them again. No failure is returned, since nothing may depend on this: it is logged, and what is left is sent
// by whoever posts this document next.
func Post(ctx context.Context, topic Topic, log *slog.Logger, box Box) {
	log = log.With(slog.String("about", box.About))
	stored, _, err := box.Read(ctx)
	if err != nil {
		log.WarnContext(ctx, "outcome events are not sent yet", slog.Any("error", err))
		return
	}
	if len(stored.Events) == 0 {
		return
	}
	taken, refused := send(ctx, topic, log, stored.Events)
	if len(taken)+len(refused) == 0 {
		return
	}
	if err = forget(ctx, box, taken, refused); err != nil {
		log.WarnContext(ctx, "outcome events were sent and will be sent again", slog.Int("events", len(taken)), slog.Any("error", err))
	}
}

// send publishes all events at once; where one of them is refused, each for itself.
func send(ctx context.Context, topic Topic, log *slog.Logger, events []outcome.Event) (taken, refused []string) {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	err := topic.Publish(ctx, events)
	switch {
	case err == nil:
		return ids(events), nil
	case !fault.Is(err, fault.Refused):
		log.WarnContext(ctx, "outcome events are not sent yet", slog.Int("events", len(events)), slog.Any("error", err))
		return nil, nil
	}
	for _, e := range events {
		err = topic.Publish(ctx, []outcome.Event{e})
		switch {
		case err == nil:
			taken = append(taken, e.ID)
		case fault.Is(err, fault.Refused):
			log.ErrorContext(ctx, "an outcome event was refused and is dropped", slog.String("id", e.ID), slog.Any("error", err))
			refused = append(refused, e.ID)
		default:
			log.WarnContext(ctx, "outcome events are not sent yet", slog.Any("error", err))
			return taken, refused
		}
	}
	return taken, refused
}

// forget takes events out of the document, against other writers.
func forget(ctx context.Context, box Box, taken, refused []string) error {
	for range maxConflicts {
		stored, save, err := box.Read(ctx)
		if err != nil {
			return err
		}
		stored.Sent(taken, refused)
		if err = save(ctx); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return fmt.Errorf("%s changes faster than it can be saved", box.About)
}

func ids(events []outcome.Event) []string {
	out := make([]string, len(events))
	for i, e := range events {
		out[i] = e.ID
	}
	return out
}
