// Package outcome is what Pointsman tells the outside: that a route table changed, that a target is in trouble, that an NVA went down. Each
// is a CloudEvent 1.0 in the JSON format; docs/outcome-events.md explains every field.
//
// Nothing of Pointsman waits for these events or reads them. They are written into the document of what they are about, in the same
// compare-and-swap as what they tell of, and sent from there: see [Outbox].
package outcome

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Kind says what an event tells.
type Kind uint8

// The kinds.
const (
	RouteChanged    Kind = iota + 1 // routes of a table are other ones than at the last event
	TargetFrozen                    // more than half of the NVAs were lost at once: those keep what they carry in this target
	TargetFailed                    // the target cannot be brought to the desired state
	TargetRecovered                 // it can again, or is no longer frozen
	DriftFound                      // managed routes were changed by another hand, and stay as they are (policy.drift: report)
	DriftRepaired                   // managed routes were changed by another hand, and were written again
	NVAUp                           // an NVA may be used
	NVADown                         // an NVA is not to be used: it is dead, or asked to carry nothing
	NVADoubtful                     // it is not known whether an NVA forwards: it keeps what it carries, and gets nothing more
	NVACloned                       // a second agent speaks in an NVA's name
)

// Kinds returns all kinds, in order.
func Kinds() []Kind {
	return []Kind{RouteChanged, TargetFrozen, TargetFailed, TargetRecovered, DriftFound, DriftRepaired, NVAUp, NVADown, NVADoubtful, NVACloned}
}

// String returns the CloudEvents type.
func (k Kind) String() string {
	switch k {
	case RouteChanged:
		return "Pointsman.Route.Changed"
	case TargetFrozen:
		return "Pointsman.Target.Frozen"
	case TargetFailed:
		return "Pointsman.Target.Failed"
	case TargetRecovered:
		return "Pointsman.Target.Recovered"
	case DriftFound:
		return "Pointsman.Target.DriftFound"
	case DriftRepaired:
		return "Pointsman.Target.DriftRepaired"
	case NVAUp:
		return "Pointsman.Nva.Up"
	case NVADown:
		return "Pointsman.Nva.Down"
	case NVADoubtful:
		return "Pointsman.Nva.Doubtful"
	case NVACloned:
		return "Pointsman.Nva.Cloned"
	}
	return fmt.Sprintf("Pointsman.Kind%d", uint8(k))
}

// short is the kind's part of an event's id.
func (k Kind) short() string {
	switch k {
	case RouteChanged:
		return "changed"
	case TargetFrozen:
		return "frozen"
	case TargetFailed:
		return "failed"
	case TargetRecovered:
		return "recovered"
	case DriftFound:
		return "drift-found"
	case DriftRepaired:
		return "drift-repaired"
	case NVAUp:
		return "up"
	case NVADown:
		return "down"
	case NVADoubtful:
		return "doubtful"
	case NVACloned:
		return "cloned"
	}
	return k.String()
}

// Event is one event as it is stored and sent: CloudEvents 1.0, JSON format, structured mode.
type Event struct {
	SpecVersion string    `json:"specversion"`
	ID          string    `json:"id"` // with Source, the event's identity: an event that is sent twice has one id
	Source      string    `json:"source"`
	Type        string    `json:"type"`
	Subject     string    `json:"subject"`
	Time        time.Time `json:"time"`
	ContentType string    `json:"datacontenttype"`
	Traceparent string    `json:"traceparent,omitempty"` // CloudEvents extension "Distributed Tracing"
	Data        Data      `json:"data"`
}

// Data is what an event says. Which fields a kind has is in docs/outcome-events.md.
type Data struct {
	Domain string `json:"domain"`
	Target string `json:"target,omitempty"`
	Table  string `json:"routeTable,omitempty"`
	NVA    string `json:"nva,omitempty"`

	Run      string    `json:"run,omitempty"`      // of Reconcile, as in its history and log
	Cause    string    `json:"cause,omitempty"`    // the wake that led to it
	Events   []string  `json:"events,omitempty"`   // ids of the events behind the wake; at most a few
	Observed time.Time `json:"observed,omitzero"`  // when the oldest of them was seen on the NVA
	Since    time.Time `json:"since,omitzero"`     // when what the event tells of began
	Before   string    `json:"before,omitempty"`   // the liveness before, or what a target has recovered from
	Liveness string    `json:"liveness,omitempty"` // of the NVA now, as Status has it
	Outcome  string    `json:"outcome,omitempty"`  // of the reconcile
	Code     string    `json:"code,omitempty"`     // the service's error code
	Message  string    `json:"message,omitempty"`  // what happened and what to do about it

	Added   int     `json:"added,omitempty"`
	Changed int     `json:"changed,omitempty"`
	Removed int     `json:"removed,omitempty"`
	Routes  []Route `json:"routes,omitempty"`     // at most MaxRoutes
	More    int     `json:"moreRoutes,omitempty"` // how many more there were
	Hands   []Hand  `json:"hands,omitempty"`      // who changed the table, where Azure said so
}

// Route is one prefix before and after. A missing value: no route.
type Route struct {
	Prefix netip.Prefix `json:"prefix"`
	Before string       `json:"before,omitempty"` // the next hops that Pointsman had written
	Found  string       `json:"found,omitempty"`  // those that another hand had put there
	After  string       `json:"after,omitempty"`  // those that are there now
}

// Hand is one change of a table or of a route in it that Azure told of.
type Hand struct {
	Event     string    `json:"event"`               // id of Azure's event
	At        time.Time `json:"at"`                  // when Azure says it happened
	By        string    `json:"by,omitempty"`        // who, as far as the event tells
	Operation string    `json:"operation,omitempty"` // "Microsoft.Network/routeTables/routes/write"
	Resource  string    `json:"resource,omitempty"`  // ARM resource id
}

// MaxRoutes bounds the routes that one event lists, so that an event stays small beside the service's 1 MB; the history has them all.
const MaxRoutes = 100

// OfTarget returns an event about a target. run makes the id: it must never be the same for two results. Data.Domain and Data.Target are set.
func OfTarget(k Kind, run string, at time.Time, traceparent string, d Data) Event {
	e := newEvent(k, "/pointsman/"+d.Domain+"/targets/"+d.Target, d.Target, at, d)
	e.ID = fmt.Sprintf("%s/targets/%s/%s/%s", d.Domain, d.Target, run, k.short())
	e.Traceparent = traceparent
	if n := len(e.Data.Routes); n > MaxRoutes {
		e.Data.Routes, e.Data.More = e.Data.Routes[:MaxRoutes:MaxRoutes], n-MaxRoutes
	}
	return e
}

// OfNVA returns an event about an NVA. number makes the id: it must never be the same for two events of a domain. Data.Domain and Data.NVA are set.
func OfNVA(k Kind, number uint64, at time.Time, d Data) Event {
	e := newEvent(k, "/pointsman/"+d.Domain+"/nvas/"+d.NVA, d.NVA, at, d)
	e.ID = fmt.Sprintf("%s/nvas/%s/%d/%s", d.Domain, d.NVA, number, k.short())
	return e
}

func newEvent(k Kind, source, subject string, at time.Time, d Data) Event {
	return Event{SpecVersion: "1.0", Source: source, Type: k.String(), Subject: subject, Time: at.UTC(), ContentType: "application/json", Data: d}
}

// Outbox is the events of one document that were not sent yet.
//
// Order of effects: an event is put in by the compare-and-swap that writes what it tells of; it is sent after that; it is taken out by a
// later compare-and-swap. So none is lost and none tells of what did not happen. A crash in between sends it again, with the same id.
type Outbox struct {
	Events  []Event `json:"events,omitempty"` // oldest first
	Dropped uint64  `json:"dropped,omitempty"`
}

// The bounds of an outbox: a topic that is away must not fill the documents that routes depend on.
const (
	MaxEvents = 64
	MaxBytes  = 128 << 10 // of JSON
)

// IsZero reports whether there is nothing to store.
func (o Outbox) IsZero() bool { return len(o.Events) == 0 && o.Dropped == 0 }

// Put adds events. What is above the bounds is dropped, oldest first, and counted: the newest say how things are.
func (o *Outbox) Put(events ...Event) {
	o.Events = append(slices.Clip(o.Events), events...)
	sizes := make([]int, len(o.Events))
	total := 0
	for i, e := range o.Events {
		sizes[i] = size(e)
		total += sizes[i]
	}
	drop := 0
	for ; len(o.Events)-drop > MaxEvents || total > MaxBytes; drop++ {
		total -= sizes[drop]
	}
	o.Events, o.Dropped = o.Events[drop:], o.Dropped+uint64(drop)
}

func size(e Event) int {
	body, err := json.Marshal(e)
	if err != nil {
		panic("outcome: an event that cannot be encoded: " + err.Error())
	}
	return len(body)
}

// Sent takes events out by their ids: those that the topic has, and those that it will never take, which count as dropped.
func (o *Outbox) Sent(taken, refused []string) {
	gone := map[string]bool{}
	for _, id := range taken {
		gone[id] = true
	}
	dropped := map[string]bool{}
	for _, id := range refused {
		dropped[id] = true
	}
	var rest []Event
	for _, e := range o.Events {
		switch {
		case gone[e.ID]:
		case dropped[e.ID]:
			o.Dropped++
		default:
			rest = append(rest, e)
		}
	}
	o.Events = rest
}
