package state

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/pointsman/pointsman/shared/outcome"
)

// Beliefs is what the outside was told last of the NVAs of a domain. It is no part of any decision.
type Beliefs struct {
	Schema   int               `json:"schema"`
	Domain   string            `json:"domain"`
	Seq      uint64            `json:"seq"`                    // numbers the events, and never goes back
	NVAs     map[string]string `json:"nvas,omitempty"`         // the liveness that was told, by name
	Outcomes outcome.Outbox    `json:"outcomeEvents,omitzero"` // what is still to be told
}

// NewBeliefs returns the document of a domain of whose NVAs nothing was told.
func NewBeliefs(domain string) *Beliefs {
	return &Beliefs{Schema: Schema, Domain: domain, NVAs: map[string]string{}}
}

// Number returns the number of the next event. It is above all that came before, also those of a document that was lost.
func (b *Beliefs) Number(now time.Time) uint64 {
	b.Seq = max(b.Seq+1, uint64(max(now.UnixMilli(), 0)))
	return b.Seq
}

// EncodeBeliefs returns the document as JSON. Equal documents give equal bytes.
func EncodeBeliefs(b *Beliefs) ([]byte, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode beliefs of domain %s: %w", b.Domain, err)
	}
	return body, nil
}

// DecodeBeliefs reads what EncodeBeliefs wrote.
func DecodeBeliefs(body []byte) (*Beliefs, error) {
	b := NewBeliefs("")
	if err := json.Unmarshal(body, b); err != nil {
		return nil, fmt.Errorf("beliefs of a domain: %w", err)
	}
	if b.Schema != Schema {
		return nil, fmt.Errorf("beliefs of domain %s have schema %d, this version reads %d: deploy the newer function app again", b.Domain, b.Schema, Schema)
	}
	return b, nil
}
