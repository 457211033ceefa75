package order

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
)

// typePrefix and typeSuffix frame a Kind in the CloudEvents type: "dev.pointsman.operator.drain.v1".
const (
	typePrefix = "dev.pointsman.operator."
	typeSuffix = ".v1"
)

// wire is the CloudEvents envelope.
type wire struct {
	SpecVersion     string          `json:"specversion"`
	ID              string          `json:"id"`
	Source          string          `json:"source"`
	Type            string          `json:"type"`
	Subject         string          `json:"subject,omitempty"`
	Time            time.Time       `json:"time,omitzero"`
	DataContentType string          `json:"datacontenttype,omitempty"`
	Data            json.RawMessage `json:"data"`
}

type data struct {
	Domain string `json:"domain"`
	NVA    string `json:"nva,omitempty"`
	Target string `json:"target,omitempty"`
	Plan   string `json:"plan,omitempty"`
	ID     string `json:"id"`
	Who    string `json:"who"`
	Why    string `json:"why,omitempty"`
}

// Encode returns the order as CloudEvents 1.0 JSON. The error says what is wrong with an order that Decode would refuse; it has kind Poison.
func Encode(o Order) ([]byte, error) {
	if err := o.check(); err != nil {
		return nil, fault.New(fault.Poison, "%s order: %w", o.Kind, err)
	}
	inner, err := json.Marshal(data{o.Domain, o.NVA, o.Target, o.Plan, o.ID, o.Who, o.Why})
	if err != nil {
		return nil, fault.New(fault.Bug, "encode order %s: %w", o.ID, err)
	}
	body, err := json.Marshal(wire{
		SpecVersion: "1.0", ID: o.MessageID(), Source: "/pointsman/" + o.Domain + "/operator", Type: typePrefix + o.Kind.String() + typeSuffix,
		Subject: o.Subject(), Time: o.Time, DataContentType: "application/json", Data: inner,
	})
	if err != nil {
		return nil, fault.New(fault.Bug, "encode order %s: %w", o.ID, err)
	}
	return body, nil
}

// Message returns the order as it goes over the bus.
func (o Order) Message() (message.Message, error) {
	body, err := Encode(o)
	if err != nil {
		return message.Message{}, err
	}
	return message.Message{ID: o.MessageID(), ContentType: event.ContentType, Subject: o.Subject(), Body: body}, nil
}

// Is reports whether a message is an order, of this version or another one: its type says so.
func Is(body []byte) bool {
	var w struct {
		Type string `json:"type"`
	}
	return json.Unmarshal(body, &w) == nil && strings.HasPrefix(w.Type, typePrefix)
}

// Decode reads an order and checks it. Other than with an agent's event, a field of data that it does not know is an error: half an order is another
// order ("drain until noon" is no "drain"). Every error is Poison and says which field is wrong.
func Decode(body []byte) (Order, error) {
	var w wire
	if err := json.Unmarshal(body, &w); err != nil {
		return Order{}, fault.New(fault.Poison, "order is not the JSON that was expected: %w", err)
	}
	if w.SpecVersion != "1.0" {
		return Order{}, fault.New(fault.Poison, "order has specversion %q: want CloudEvents 1.0", w.SpecVersion)
	}
	kind, known := kindOf(w.Type)
	if !known {
		return Order{}, fault.New(fault.Poison, "order has type %q, which this version does not know", w.Type).WithAdvice("upgrade the function app before the operators' pointsman")
	}
	d, err := strict(w.Data)
	if err != nil {
		return Order{}, fault.New(fault.Poison, "order %s: data: %w", w.ID, err).WithAdvice("if the field is new, upgrade the function app")
	}
	o := Order{Kind: kind, Domain: d.Domain, NVA: d.NVA, Target: d.Target, Plan: d.Plan, ID: d.ID, Who: d.Who, Why: d.Why, Time: w.Time}
	if err = o.check(); err != nil {
		return Order{}, fault.New(fault.Poison, "%s order %s: %w", kind, w.ID, err)
	}
	return o, nil
}

func strict(raw []byte) (d data, err error) {
	if len(raw) == 0 || raw[0] != '{' {
		return d, errors.New("want an object")
	}
	decoder := json.NewDecoder(bytes.NewReader(raw))
	decoder.DisallowUnknownFields()
	if err = decoder.Decode(&d); err != nil {
		return d, err //nolint:wrapcheck // the caller names the order
	}
	return d, nil
}

func kindOf(typ string) (Kind, bool) {
	for _, k := range Kinds() {
		if typ == typePrefix+k.String()+typeSuffix {
			return k, true
		}
	}
	return 0, false
}
