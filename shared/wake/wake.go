// Package wake is the message that asks for a target to be reconciled. It says "look again", never "do this": losing,
// repeating or reordering wakes can only cost time.
package wake

import (
	"crypto/sha256"
	"encoding/hex"
	"strconv"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/jsonform"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/outcome"
)

// Wake names the target and, for the history, what led to it.
type Wake struct {
	Domain string `json:"domain"`
	Target string `json:"target"`
	// Cause is part of the message's identity: "nva-a/17" for revision 17 of that NVA's document, "sweep/…", "retry/…".
	Cause       string    `json:"cause"`
	Attempt     int       `json:"attempt,omitempty"` // failed reconciles before this one, for the back-off
	Events      []string  `json:"events,omitempty"`  // ids of the events that led to it; at most a few
	Observed    time.Time `json:"observed,omitzero"` // when the oldest of them was seen on the NVA
	Traceparent string    `json:"traceparent,omitempty"`
	// Hand is the change of the target's table, made by another hand, that Azure told of.
	Hand *outcome.Hand `json:"hand,omitempty"`
}

var form = jsonform.Of[Wake]() //nolint:gochecknoglobals // prepared once and never changed

// MaxEvents bounds Events.
const MaxEvents = 8

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
	body, err := form.Encode(&w)
	if err != nil {
		return message.Message{}, fault.New(fault.Bug, "encode wake %s: %w", w.ID(), err)
	}
	return message.Message{ID: w.ID(), ContentType: "application/json", Subject: w.Target, Body: body}, nil
}

// Decode reads a wake. Every error is Poison.
func Decode(body []byte) (Wake, error) {
	w, err := form.Decode(body)
	if err != nil {
		return Wake{}, fault.New(fault.Poison, "wake is not the JSON that was expected: %w", err)
	}
	if !event.ValidName(w.Domain) || !event.ValidName(w.Target) {
		return Wake{}, fault.New(fault.Poison, "wake names domain %q and target %q: want a domain and a target of its file", w.Domain, w.Target)
	}
	return w, nil
}
