package event

import (
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/route"
)

// ContentType is the media type of an encoded event (CloudEvents 1.0, JSON format, structured mode).
const ContentType = "application/cloudevents+json"

// typePrefix and typeSuffix frame a Kind in the CloudEvents type: "dev.pointsman.route.delta.v1".
const (
	family     = "dev.pointsman." // of all that Pointsman sends
	typePrefix = family + "route."
	typeSuffix = ".v1"
)

// wire is the CloudEvents envelope.
type wire struct {
	SpecVersion     string     `json:"specversion"`
	ID              string     `json:"id"`
	Source          string     `json:"source"`
	Type            string     `json:"type"`
	Subject         string     `json:"subject,omitempty"`
	Time            *time.Time `json:"time,omitempty"`
	DataContentType string     `json:"datacontenttype,omitempty"`
	Traceparent     string     `json:"traceparent,omitempty"`
	Data            *data      `json:"data"`
}

type data struct {
	Domain   string         `json:"domain"`
	NVA      string         `json:"nva"`
	Epoch    uint64         `json:"epoch"`
	Seq      uint64         `json:"seq"`
	Boot     string         `json:"boot"`
	Beat     uint64         `json:"beat,omitempty"`
	Digest   route.Digest   `json:"digest"`
	Observed *time.Time     `json:"observed,omitempty"`
	Chunk    *Chunk         `json:"chunk,omitempty"`
	Announce []group        `json:"announce,omitempty"`
	Withdraw []netip.Prefix `json:"withdraw,omitempty"`
	Restart  float64        `json:"restartSeconds,omitempty"`
	Reason   string         `json:"reason,omitempty"`
	Report   *report        `json:"report,omitempty"`
}

type report struct {
	SelfCheck Check  `json:"selfCheck,omitempty"`
	SelfTest  Check  `json:"selfTest,omitempty"`
	Drain     string `json:"drain,omitempty"`
	Reason    string `json:"reason,omitempty"`
	Peers     []Peer `json:"peers,omitempty"`

	ControlLost []Session `json:"controlLost,omitempty"`
}

// group holds the prefixes that share attributes: 3,000 prefixes then cost about 50 kB instead of 300.
type group struct {
	route.Attrs
	Prefixes []netip.Prefix `json:"prefixes"`
}

// Encode returns the event as CloudEvents 1.0 JSON. An event that Decode would refuse is a Bug.
func Encode(e Event) ([]byte, error) {
	if err := e.check(); err != nil {
		return nil, fault.New(fault.Bug, "encode event %s: %w", e.ID(), err)
	}
	w := wire{
		SpecVersion: "1.0", ID: e.ID(), Source: "/pointsman/" + e.Domain + "/" + e.NVA, Type: typePrefix + e.Kind.String() + typeSuffix,
		Subject: e.NVA, Time: optional(e.Time), DataContentType: "application/json", Traceparent: e.Traceparent,
		Data: &data{
			Domain: e.Domain, NVA: e.NVA, Epoch: e.Version.Epoch, Seq: e.Version.Seq, Boot: e.Boot, Beat: e.Beat, Digest: e.Digest,
			Observed: optional(e.Observed), Announce: groups(e.Announce), Withdraw: e.Withdraw, Restart: e.Restart.Seconds(), Reason: e.Reason,
		},
	}
	if e.Kind == Snapshot {
		w.Data.Chunk = &e.Chunk
	}
	if !e.Report.Empty() {
		w.Data.Report = (*report)(&e.Report)
	}
	body, err := json.Marshal(w)
	if err != nil {
		return nil, fault.New(fault.Bug, "encode event %s: %w", e.ID(), err)
	}
	return body, nil
}

// Decode reads an event and checks it. Fields that it does not know are ignored, a type that it does not know is an error:
// new agents may talk to old functions. Every error is Poison and says which field is wrong.
func Decode(body []byte) (Event, error) {
	w, ok := written(body)
	if !ok {
		w = wire{}
		if err := json.Unmarshal(body, &w); err != nil {
			return Event{}, fault.New(fault.Poison, "event is not the JSON that was expected: %w", err)
		}
	}
	if w.SpecVersion != "1.0" {
		return Event{}, fault.New(fault.Poison, "event has specversion %q: want CloudEvents 1.0", w.SpecVersion)
	}
	kind, ok := kindOf(w.Type)
	switch {
	case ok:
	case strings.HasPrefix(w.Type, family):
		return Event{}, fault.New(fault.Poison, "event has type %q, which this version does not know", w.Type).
			WithAdvice("upgrade the function app before the agents")
	default:
		return Event{}, fault.New(fault.Poison, "event has type %q: want one of Pointsman's, such as %q", w.Type, typePrefix+Delta.String()+typeSuffix).
			WithAdvice("only agents and operators' commands send to this queue")
	}
	if w.Data == nil {
		return Event{}, fault.New(fault.Poison, "event %s has no data", w.ID)
	}
	e := fromWire(kind, w)
	if err := e.check(); err != nil {
		return Event{}, fault.New(fault.Poison, "event %s: %w", w.ID, err)
	}
	return e, nil
}

func fromWire(kind Kind, w wire) Event {
	d := w.Data
	e := Event{
		Domain: d.Domain, NVA: d.NVA, Kind: kind, Version: Version{d.Epoch, d.Seq}, Boot: d.Boot, Beat: d.Beat, Digest: d.Digest,
		Traceparent: w.Traceparent, Announce: entries(d.Announce), Withdraw: d.Withdraw,
		Restart: time.Duration(math.Round(d.Restart * float64(time.Second))), Reason: d.Reason,
	}
	if w.Time != nil {
		e.Time = *w.Time
	}
	if d.Observed != nil {
		e.Observed = *d.Observed
	}
	if d.Chunk != nil && kind == Snapshot {
		e.Chunk = *d.Chunk
	}
	if d.Report != nil {
		e.Report = Report(*d.Report)
	}
	return e
}

func kindOf(typ string) (Kind, bool) {
	name, ok := strings.CutPrefix(typ, typePrefix)
	if !ok {
		return 0, false
	}
	name, ok = strings.CutSuffix(name, typeSuffix)
	if !ok {
		return 0, false
	}
	for _, k := range Kinds() {
		if k.String() == name {
			return k, true
		}
	}
	return 0, false
}

// groups gathers neighbours with equal attributes: sorted entries give the fewest groups, any order is correct.
func groups(list []route.Entry) []group {
	var out []group
	for _, e := range list {
		if n := len(out); n == 0 || out[n-1].Attrs != e.Attrs {
			out = append(out, group{Attrs: e.Attrs})
		}
		last := &out[len(out)-1]
		last.Prefixes = append(last.Prefixes, e.Prefix)
	}
	return out
}

func entries(list []group) []route.Entry {
	var out []route.Entry
	for _, g := range list {
		for _, p := range g.Prefixes {
			out = append(out, route.Entry{Prefix: p, Attrs: g.Attrs})
		}
	}
	return out
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
