// Package wake is the message that asks for a target to be reconciled. It says "look again", never "do this": losing,
// repeating or reordering wakes can only cost time.
package wake

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/stage"
)

// Wake names the target and, for the history, what led to it.
type Wake struct {
	Domain string `json:"domain"`
	Target string `json:"target"`
	// Cause is part of the message's identity: "nva-a/17" for revision 17 of that NVA's document, "sweep/…", "retry/…".
	Cause       string   `json:"cause"`
	Attempt     int      `json:"attempt,omitempty"` // failed reconciles before this one, for the back-off
	Events      []string `json:"events,omitempty"`  // ids of the events that led to it; at most a few
	stage.Sent           // the way of the oldest of them
	Traceparent string   `json:"traceparent,omitempty"` // of the oldest of them: a wake goes on with one trace
	Links       []string `json:"links,omitempty"`       // traceparents of the others; at most a few
	// Hand is the change of the target's table, made by another hand, that Azure told of.
	Hand *outcome.Hand `json:"hand,omitempty"`
}

// MaxEvents bounds Events and Links.
const MaxEvents = 8

// News is what led to a change of a target, be it one wake or several that were answered together.
type News struct {
	Events     []string `json:"events,omitempty"` // ids, at most MaxEvents
	stage.Sent          // the way of the oldest of them
	Traces     []string `json:"traces,omitempty"` // traceparents, at most MaxEvents
}

// News returns what the wake knows of what led to it.
func (w Wake) News() News {
	n := News{Events: w.Events, Sent: w.Sent, Traces: w.Links}
	if w.Traceparent != "" {
		n.Traces = append([]string{w.Traceparent}, n.Traces...)
	}
	return n
}

// With returns the wake with other news as what led to it.
func (w Wake) With(n News) Wake {
	w.Events, w.Sent, w.Traceparent, w.Links, w.Hand = n.Events, n.Sent, "", nil, nil
	if len(n.Traces) > 0 {
		w.Traceparent, w.Links = n.Traces[0], n.Traces[1:]
	}
	return w
}

// Join returns both, n's first.
func (n News) Join(o News) News {
	if len(o.Events) == 0 && len(o.Traces) == 0 && o.Sent == (stage.Sent{}) {
		return n
	}
	if n.Observed.IsZero() || !o.Observed.IsZero() && o.Observed.Before(n.Observed) {
		n.Sent = o.Sent
	}
	n.Events, n.Traces = join(n.Events, o.Events), join(n.Traces, o.Traces)
	return n
}

func join(a, b []string) []string {
	out := slices.Clone(a)
	for _, s := range b {
		if len(out) < MaxEvents && !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// ID returns the message id. Two wakes with one id say the same thing about the same state of the documents, so that a broker's
// duplicate detection may drop one of them; it never names the target alone, or a needed wake would be dropped.
func (w Wake) ID() string {
	cause := w.Cause
	if w.Attempt > 0 {
		cause += "/" + strconv.Itoa(w.Attempt)
	}
	id := w.Domain + "/" + w.Target + "/" + cause
	if len(id) > maxID {
		sum := sha256.Sum256([]byte(cause))
		id = w.Domain + "/" + w.Target + "/" + hex.EncodeToString(sum[:16])
	}
	return id
}

// maxID is the longest MessageId that Service Bus takes, in characters. Two names of 40 leave room for a hash of the cause.
const maxID = 128

// Message returns the wake as it goes over the bus.
func (w Wake) Message() (message.Message, error) {
	body, err := json.Marshal(w)
	if err != nil {
		return message.Message{}, fault.New(fault.Bug, "encode wake %s: %w", w.ID(), err)
	}
	return message.Message{ID: w.ID(), ContentType: "application/json", Subject: w.Target, Body: body, Traceparent: w.Traceparent}, nil
}

// Decode reads a wake. Every error is Poison.
func Decode(body []byte) (Wake, error) {
	var w Wake
	if err := json.Unmarshal(body, &w); err != nil {
		return Wake{}, fault.New(fault.Poison, "wake is not the JSON that was expected: %w", err)
	}
	if !event.ValidName(w.Domain) || !event.ValidName(w.Target) {
		return Wake{}, fault.New(fault.Poison, "wake names domain %q and target %q: want a domain and a target of its file", w.Domain, w.Target)
	}
	return w, nil
}
