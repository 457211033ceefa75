package main

import (
	"bytes"
	"context"
	_ "embed" // the journal
	"fmt"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/message"
)

// journal holds what the two agents published in a run of this demonstration with --record, one event a line.
//
//go:embed testdata/journal.jsonl
var journal []byte

// recorded plays one NVA's part of the journal: each action publishes its next event.
type recorded struct {
	bus    *servicebus.Sender
	events []event.Event // still to come
	last   event.Event
}

// playback returns the part of the NVA.
func playback(journal []byte, name string) ([]event.Event, error) {
	var out []event.Event
	n := 0
	for text := range bytes.Lines(journal) {
		n++
		e, err := event.Decode(bytes.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("journal, line %d: %w", n, err)
		}
		if e.NVA == name {
			out = append(out, e)
		}
	}
	return out, nil
}

func newRecorded(name, connection string) (*recorded, error) {
	events, err := playback(journal, name)
	if err != nil {
		return nil, err
	}
	bus, err := servicebus.NewSender(servicebus.Config{ConnectionString: connection, Queue: eventQueue})
	if err != nil {
		return nil, fmt.Errorf("recorded events: %w", err)
	}
	return &recorded{bus: bus, events: events}, nil
}

// next publishes the next event.
func (r *recorded) next(ctx context.Context) (time.Time, error) {
	if len(r.events) == 0 {
		return time.Time{}, fmt.Errorf("%w: the journal has no more events", errWrong)
	}
	r.last, r.events = r.events[0], r.events[1:]
	m, err := encode(r.last)
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	return at, r.bus.Publish(ctx, []message.Message{m})
}

func encode(e event.Event) (message.Message, error) {
	body, err := event.Encode(e)
	return message.Message{ID: e.ID(), ContentType: event.ContentType, Body: body}, err
}

func (r *recorded) boot(ctx context.Context) error {
	_, err := r.next(ctx)
	return err
}

func (r *recorded) learn(ctx context.Context, _ []netip.Prefix) (time.Time, error) {
	return r.next(ctx)
}

func (r *recorded) withdraw(ctx context.Context, _ []netip.Prefix) (time.Time, error) {
	return r.next(ctx)
}

// flap publishes nothing: neither did the agent.
func (r *recorded) flap(context.Context, []netip.Prefix) (time.Duration, error) { return 0, nil }

// die leaves what a dead agent leaves on the bus: the dead-man switch, which the broker delivers when its time has come.
func (r *recorded) die(ctx context.Context) (time.Time, error) {
	e := event.Event{
		Domain: r.last.Domain, NVA: r.last.NVA, Kind: event.Expired, Version: r.last.Version, Boot: r.last.Boot, Beat: r.last.Beat, Time: time.Now(),
	}
	m, err := encode(e)
	if err != nil {
		return time.Time{}, err
	}
	at := time.Now()
	_, err = r.bus.Schedule(ctx, m, at.Add(silence))
	return at, err
}

func (r *recorded) comeBack(ctx context.Context, _ []netip.Prefix) (time.Time, error) {
	return r.next(ctx)
}

func (r *recorded) log() string { return "" }

func (r *recorded) explore(string) []string { return nil }

func (r *recorded) close() error { return r.bus.Close(context.Background()) }
