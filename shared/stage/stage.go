// Package stage says how long a change took, and where: from the moment that an NVA's agent saw it to the end of the write that it led to.
//
//	Observed ─gather─▶ Said ─publish─▶ Queued ─receive─▶ Taken ─merge─▶ Merged ─wake─▶ Woken ─wait─▶ Begun ─read─▶ Read ─decide─▶ Decided ─write─▶ Written
//	└──── agent's clock ───┘           broker's          └─ function app's ─┘          broker's      └────────────── function app's ──────────────────────┘
//
// Four clocks are read, and they differ: a stage between two of them can come out too short by that, never below nothing.
package stage

import (
	"encoding/json"
	"fmt"
	"time"
)

// Stage is a part of the way, named by what happens in it.
type Stage uint8

// The stages, in order.
const (
	Gather  Stage = iota + 1 // the agent collects a burst
	Publish                  // the agent sends to the bus
	Receive                  // the bus and the host hand the event over
	Merge                    // into the NVA's document
	Wake                     // the wake is put on the bus, and may be delivered
	Wait                     // for company, for an earlier run, for the quota, for the host
	Read                     // claim the target, read its table and the documents; earlier rounds of the run are in it
	Decide                   // select, plan, save the names of new routes
	Write                    // of the table, to the end of Azure's operation
)

// Stages returns all stages, in order.
func Stages() []Stage {
	return []Stage{Gather, Publish, Receive, Merge, Wake, Wait, Read, Decide, Write}
}

// String returns the word that the history, the log and the metrics have.
func (s Stage) String() string {
	switch s {
	case Gather:
		return "gather"
	case Publish:
		return "publish"
	case Receive:
		return "receive"
	case Merge:
		return "merge"
	case Wake:
		return "wake"
	case Wait:
		return "wait"
	case Read:
		return "read"
	case Decide:
		return "decide"
	case Write:
		return "write"
	}
	return fmt.Sprintf("stage-%d", uint8(s))
}

// Sent are the instants that travel with a wake. A zero one is not known.
type Sent struct {
	Observed time.Time `json:"observed,omitzero"` // when the oldest change was seen on the NVA
	Said     time.Time `json:"said,omitzero"`     // when the agent put the event together
	Queued   time.Time `json:"queued,omitzero"`   // when the broker had it
	Taken    time.Time `json:"taken,omitzero"`    // when Ingest got it
	Merged   time.Time `json:"merged,omitzero"`   // when it was in the NVA's document
	Woken    time.Time `json:"woken,omitzero"`    // when the first wake was due at the broker
}

// Times are all instants of the way.
type Times struct {
	Sent
	Begun   time.Time // of the run
	Read    time.Time
	Decided time.Time
	Written time.Time
}

// Took is how long one stage took.
type Took struct {
	Stage    Stage
	Duration time.Duration
}

// Took returns the stages whose end is known, in order; one whose beginning is not known begins where the last known one ended.
func (t Times) Took() Durations {
	ends := []time.Time{t.Said, t.Queued, t.Taken, t.Merged, t.Woken, t.Begun, t.Read, t.Decided, t.Written}
	var out Durations
	last := t.Observed
	for i, s := range Stages() {
		end := ends[i]
		if end.IsZero() {
			continue
		}
		if !last.IsZero() {
			out = append(out, Took{s, max(0, end.Sub(last))})
		}
		last = end
	}
	return out
}

// Total returns the time from the observation to the end of the write; ok is false while one of them is not known.
func (t Times) Total() (d time.Duration, ok bool) {
	if t.Observed.IsZero() || t.Written.IsZero() {
		return 0, false
	}
	return max(0, t.Written.Sub(t.Observed)), true
}

// Durations are stages in order. In JSON they are an object of seconds by the stage's name.
type Durations []Took

// MarshalJSON implements json.Marshaler.
func (d Durations) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, t := range d {
		if i > 0 {
			out = append(out, ',')
		}
		out = fmt.Appendf(out, "%q:%g", t.Stage, t.Duration.Round(time.Millisecond).Seconds())
	}
	return append(out, '}'), nil
}

// UnmarshalJSON implements json.Unmarshaler. Stages of a newer version are left out.
func (d *Durations) UnmarshalJSON(text []byte) error {
	var by map[string]float64
	if err := json.Unmarshal(text, &by); err != nil {
		return fmt.Errorf("stages: %w", err)
	}
	*d = nil
	for _, s := range Stages() {
		if seconds, known := by[s.String()]; known {
			*d = append(*d, Took{s, time.Duration(seconds * float64(time.Second)).Round(time.Millisecond)})
		}
	}
	return nil
}
