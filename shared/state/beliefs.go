package state

import (
	"fmt"
	"time"

	"github.com/pointsman/pointsman/shared/later"
	"github.com/pointsman/pointsman/shared/outcome"
)

// Beliefs is what the outside was told last of the NVAs of a domain. It is no part of any decision.
type Beliefs struct {
	Schema   int               `json:"schema"`
	Domain   string            `json:"domain"`
	Seq      uint64            `json:"seq"`                    // numbers the events, and never goes back
	NVAs     map[string]string `json:"nvas,omitempty"`         // the liveness that was told, by name
	Cloned   []string          `json:"cloned,omitempty"`       // NVAs of which a second agent was told, by name
	Outcomes outcome.Outbox    `json:"outcomeEvents,omitzero"` // what is still to be told

	Later later.Rest `json:"-"` // what a later version said
}

// NewBeliefs returns the document of a domain of whose NVAs nothing was told.
func NewBeliefs(domain string) *Beliefs {
	return &Beliefs{Schema: firstSchema, Domain: domain, NVAs: map[string]string{}}
}

// Number returns the number of the next event. It is above all that came before, also those of a document that was lost.
func (b *Beliefs) Number(now time.Time) uint64 {
	b.Seq = max(b.Seq+1, uint64(max(now.UnixMilli(), 0)))
	return b.Seq
}

// EncodeBeliefs returns the document as JSON. Equal documents give equal bytes.
func EncodeBeliefs(b *Beliefs) ([]byte, error) {
	return marshal(b, b.Later, "beliefs of domain "+b.Domain)
}

// DecodeBeliefs reads what EncodeBeliefs wrote.
func DecodeBeliefs(body []byte) (*Beliefs, error) {
	b, more, err := later.Decode(body, func() *Beliefs { return NewBeliefs("") })
	if err != nil {
		return nil, fmt.Errorf("beliefs of a domain: %w", err)
	}
	if err = readable(b.Schema, "beliefs of domain "+b.Domain); err != nil {
		return nil, err
	}
	if more {
		b.Later, err = rest(body, b, EncodeBeliefs)
	}
	return b, err
}
