package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/message"
)

// liveReplay sends the events of a journal to a queue.
type liveReplay struct {
	on                bool
	connection, queue string
	domain, yesReally string
	speed             string
	names             map[string]string
}

func (l *liveReplay) flags(c *cobra.Command) {
	f := c.Flags()
	f.BoolVar(&l.on, "live", false, "send the events to a queue")
	f.StringVar(&l.connection, "bus-connection", "", "with --live: connection string of the Service Bus namespace (ServiceBusConnection)")
	f.StringVar(&l.queue, "queue", "route-events", "with --live: the queue")
	f.StringVar(&l.speed, "speed", "1", "with --live: how many times faster than it was, or max")
	f.StringVar(&l.domain, "domain", "", "with --live: the domain to send as; empty: as recorded")
	f.StringToStringVar(&l.names, "nva", nil, "with --live: RECORDED=NAME, the NVA to send as; may be repeated")
	f.StringVar(&l.yesReally, "yes-really", "", "with --live: the host name of a namespace that is no emulator, to show that it is meant")
}

func (l *liveReplay) run(cmd *cobra.Command, events *replay.Journal) error {
	l.connection = secret(l.connection, "ServiceBusConnection")
	speed, err := l.pace()
	if err != nil {
		return err
	}
	if err = l.guard(); err != nil {
		return err
	}
	entries, err := events.All()
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	entries = slices.DeleteFunc(entries, func(entry journal.Entry) bool { return entry.Order != nil }) // what operators said then is not said again
	entries, err = l.rename(entries, uint64(max(time.Now().UnixMilli(), 1)))
	if err != nil {
		return err
	}
	bus, err := servicebus.NewSender(servicebus.Config{ConnectionString: l.connection, Queue: l.queue})
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = bus.Close(context.WithoutCancel(cmd.Context())) }()
	began := time.Now()
	if err = send(cmd.Context(), bus, entries, speed); err != nil {
		return err
	}
	return say(cmd.OutOrStdout(), "%d events sent to %s in %s\n", len(entries), l.queue, time.Since(began).Round(time.Millisecond))
}

// pace returns how many times faster than recorded to send; 0: without any pause.
func (l *liveReplay) pace() (float64, error) {
	if l.speed == "max" {
		return 0, nil
	}
	speed, err := strconv.ParseFloat(l.speed, 64)
	if err != nil || speed <= 0 || speed > 1e6 {
		return 0, fmt.Errorf("%w: --speed is %q: want a number from above 0 to 1000000, or max", errInput, l.speed)
	}
	return speed, nil
}

// guard refuses to send to a namespace that is not an emulator, unless its name is repeated: what is sent moves real traffic.
func (l *liveReplay) guard() error {
	if l.connection == "" {
		return fmt.Errorf("%w: give the namespace with --bus-connection", errInput)
	}
	host, emulator := "", false
	for part := range strings.SplitSeq(l.connection, ";") {
		key, value, _ := strings.Cut(part, "=")
		switch strings.ToLower(strings.TrimSpace(key)) {
		case "endpoint":
			host = strings.Trim(strings.TrimPrefix(strings.TrimSpace(value), "sb://"), "/")
		case "usedevelopmentemulator":
			emulator = strings.EqualFold(strings.TrimSpace(value), "true")
		}
	}
	if emulator || l.yesReally != "" && strings.EqualFold(l.yesReally, host) {
		return nil
	}
	return fmt.Errorf("%w: %s is no emulator, and what is sent there moves traffic: say --yes-really %s if that is meant", errInput, host, host)
}

// rename gives the events the names to send as, and epochs that are newer than what the receiver knows, in their old order: it would take the
// old ones for repetitions.
func (l *liveReplay) rename(entries []journal.Entry, epoch uint64) ([]journal.Entry, error) {
	for _, old := range slices.Sorted(maps.Keys(l.names)) {
		if !slices.ContainsFunc(entries, func(entry journal.Entry) bool { return entry.Event.NVA == old }) {
			return nil, fmt.Errorf("%w: --nva %s=%s: the journal has no such NVA", errInput, old, l.names[old])
		}
	}
	var epochs []uint64
	for _, entry := range entries {
		epochs = append(epochs, entry.Event.Version.Epoch)
	}
	slices.Sort(epochs)
	epochs = slices.Compact(epochs)
	out := slices.Clone(entries)
	for i := range out {
		e := &out[i].Event
		n, _ := slices.BinarySearch(epochs, e.Version.Epoch)
		e.Version.Epoch = epoch + uint64(n)
		if name, renamed := l.names[e.NVA]; renamed {
			e.NVA = name
		}
		if l.domain != "" {
			e.Domain = l.domain
		}
	}
	return out, nil
}

// maxTogether is how many events are published in one call.
const maxTogether = 100

// send publishes the events at their times; those that are due together go together.
func send(ctx context.Context, bus *servicebus.Sender, entries []journal.Entry, speed float64) error {
	began := time.Now()
	var first time.Time
	if len(entries) > 0 {
		first = entries[0].At
	}
	for len(entries) > 0 {
		if err := pauseUntil(ctx, began, due(entries[0], first, speed)); err != nil {
			return err
		}
		n := 1
		for n < len(entries) && n < maxTogether && due(entries[n], first, speed) <= time.Since(began) {
			n++
		}
		if err := publish(ctx, bus, entries[:n]); err != nil {
			return err
		}
		entries = entries[n:]
	}
	return nil
}

// due returns when an event is to be sent, after the first one.
func due(entry journal.Entry, first time.Time, speed float64) time.Duration {
	if speed == 0 {
		return 0
	}
	return time.Duration(float64(entry.At.Sub(first)) / speed)
}

func pauseUntil(ctx context.Context, began time.Time, after time.Duration) error {
	wait := after - time.Since(began)
	if wait <= 0 {
		return interrupted(ctx)
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return interrupted(ctx)
	case <-timer.C:
		return nil
	}
}

func interrupted(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

// fresh returns the event as if it were said now: how long the agent took to say it stays.
func fresh(entry journal.Entry, now time.Time) event.Event {
	e := entry.Event
	shift := now.Sub(entry.At)
	for _, t := range []*time.Time{&e.Time, &e.Observed} {
		if !t.IsZero() {
			*t = t.Add(shift)
		}
	}
	return e
}

func publish(ctx context.Context, bus *servicebus.Sender, entries []journal.Entry) error {
	msgs := make([]message.Message, len(entries))
	for i, entry := range entries {
		body, err := event.Encode(fresh(entry, time.Now()))
		if err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		msgs[i] = message.Message{ID: entry.Event.ID(), ContentType: event.ContentType, Subject: entry.Event.NVA, Body: body}
	}
	if err := bus.Publish(ctx, msgs); err != nil {
		return fmt.Errorf("send from event %s on: %w", msgs[0].ID, err)
	}
	return nil
}
