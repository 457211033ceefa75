// Package journal is the form in which events and operators' orders are kept: one JSON object a line that IS the CloudEvent as it was received, with one more
// extension attribute for the time at which the broker accepted it.
//
// A line without the attribute is valid too, as agents write them with --record: then the event's own time is used.
package journal

import (
	"bytes"
	"encoding/json"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/order"
)

// Attribute is the name of the extension attribute: lower-case letters only, at most 20 (CloudEvents 1.0, 3.1 Attribute Naming).
const Attribute = "enqueuedtime"

// Line returns an event as received as one line of a journal, without the line break. An event that is no JSON object is Poison.
func Line(body []byte, enqueued time.Time) ([]byte, error) {
	var probe map[string]json.RawMessage
	if err := json.Unmarshal(body, &probe); err != nil {
		return nil, fault.New(fault.Poison, "event is no JSON object: %w", err)
	}
	if _, taken := probe[Attribute]; taken { // a sender cannot set the broker's time
		delete(probe, Attribute)
		var err error
		if body, err = json.Marshal(probe); err != nil {
			return nil, fault.New(fault.Bug, "encode event: %w", err)
		}
	}
	line, err := json.Marshal(json.RawMessage(body)) // on one line
	if err != nil {
		return nil, fault.New(fault.Poison, "event is not valid JSON: %w", err)
	}
	line = line[:len(line)-1]
	if len(line) > 1 {
		line = append(line, ',')
	}
	return append(line, `"`+Attribute+`":"`+enqueued.UTC().Format(time.RFC3339Nano)+`"}`...), nil
}

// Entry is one line of a journal.
type Entry struct {
	Event    event.Event
	Order    *order.Order // instead of an event
	At       time.Time    // when the broker accepted it; the event's own time where the line does not say
	Accepted bool         // the line says when the broker accepted it
}

// Domain returns the domain that the entry is about.
func (e Entry) Domain() string {
	if e.Order != nil {
		return e.Order.Domain
	}
	return e.Event.Domain
}

// ID returns the event's id, or the order's.
func (e Entry) ID() string {
	if e.Order != nil {
		return e.Order.MessageID()
	}
	return e.Event.ID()
}

// Parse reads a line. Every error is Poison.
func Parse(line []byte) (Entry, error) {
	var entry Entry
	e, err := event.Decode(line)
	entry.Event = e
	if err != nil && order.Is(line) {
		var o order.Order
		o, err = order.Decode(line)
		entry.Order = &o
	}
	if err != nil {
		return Entry{}, err
	}
	at, err := enqueued(line)
	if err != nil {
		return Entry{}, err
	}
	accepted := !at.IsZero()
	if !accepted {
		at = e.Time
		if entry.Order != nil {
			at = entry.Order.Time
		}
	}
	if at.IsZero() {
		return Entry{}, fault.New(fault.Poison, "event %s has neither %s nor time: the order of events is not known", entry.ID(), Attribute)
	}
	entry.At, entry.Accepted = at, accepted
	return entry, nil
}

// At returns the time of a line, as Parse does, but reads no more of it than it must. Every error is Poison.
func At(line []byte) (time.Time, error) {
	if at, err := enqueued(line); err == nil && !at.IsZero() {
		return at, nil
	}
	entry, err := Parse(line)
	return entry.At, err
}

// enqueued returns the broker's time, zero where the line has none. Line puts it last: then the rest need not be read a second time.
func enqueued(line []byte) (time.Time, error) {
	last := bytes.LastIndex(line, []byte(`"`+Attribute+`"`))
	if last < 0 {
		return time.Time{}, nil
	}
	value, quoted := bytes.CutPrefix(line[last:], []byte(`"`+Attribute+`":"`))
	value, closed := bytes.CutSuffix(bytes.TrimSpace(value), []byte(`"}`))
	if at, err := time.Parse(time.RFC3339Nano, string(value)); quoted && closed && err == nil {
		return at, nil
	}
	var outer struct {
		At time.Time `json:"enqueuedtime"`
	}
	if err := json.Unmarshal(line, &outer); err != nil {
		return time.Time{}, fault.New(fault.Poison, "%s is not a time: %w", Attribute, err)
	}
	return outer.At, nil
}
