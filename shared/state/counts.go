package state

import (
	"fmt"
	"time"

	"github.com/pointsman/pointsman/shared/later"
)

// DriftCounts is what the function Drift did with Azure's events. It is for people; no decision rests on it.
type DriftCounts struct {
	Schema int               `json:"schema"`
	Last   time.Time         `json:"last,omitzero"` // when the newest event was counted
	Events map[string]uint64 `json:"events,omitempty"`

	Later later.Rest `json:"-"` // what a later version said
}

// NewDriftCounts returns the document before any event.
func NewDriftCounts() *DriftCounts {
	return &DriftCounts{Schema: firstSchema, Events: map[string]uint64{}}
}

// EncodeDriftCounts returns the document as JSON. Equal documents give equal bytes.
func EncodeDriftCounts(d *DriftCounts) ([]byte, error) {
	return marshal(d, d.Later, "counts of drift")
}

// DecodeDriftCounts reads what EncodeDriftCounts wrote.
func DecodeDriftCounts(body []byte) (*DriftCounts, error) {
	d, more, err := later.Decode(body, NewDriftCounts)
	if err != nil {
		return nil, fmt.Errorf("counts of drift: %w", err)
	}
	if err = readable(d.Schema, "counts of drift"); err != nil {
		return nil, err
	}
	if more {
		d.Later, err = rest(body, d, EncodeDriftCounts)
	}
	return d, err
}

// Orders counts the orders about a domain that were refused. It is no part of any decision, and stands apart from the documents that are: who floods the queue
// with forged orders must not get into the way of those who write them.
type Orders struct {
	Schema  int      `json:"schema"`
	Domain  string   `json:"domain"`
	Refused Refusals `json:"refused,omitzero"`

	Later later.Rest `json:"-"` // what a later version said
}

// NewOrders returns the document of a domain about which no order was refused.
func NewOrders(domain string) *Orders { return &Orders{Schema: firstSchema, Domain: domain} }

// EncodeOrders returns the document as JSON. Equal documents give equal bytes.
func EncodeOrders(o *Orders) ([]byte, error) {
	return marshal(o, o.Later, "orders of domain "+o.Domain)
}

// DecodeOrders reads what EncodeOrders wrote.
func DecodeOrders(body []byte) (*Orders, error) {
	o, more, err := later.Decode(body, func() *Orders { return NewOrders("") })
	if err != nil {
		return nil, fmt.Errorf("orders of a domain: %w", err)
	}
	if err = readable(o.Schema, "orders of domain "+o.Domain); err != nil {
		return nil, err
	}
	if more {
		o.Later, err = rest(body, o, EncodeOrders)
	}
	return o, err
}
