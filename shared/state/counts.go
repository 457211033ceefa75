package state

import (
	"encoding/json"
	"fmt"
	"time"
)

// DriftCounts is what the function Drift did with Azure's events. It is for people; no decision rests on it.
type DriftCounts struct {
	Schema int               `json:"schema"`
	Last   time.Time         `json:"last,omitzero"` // when the newest event was counted
	Events map[string]uint64 `json:"events,omitempty"`
}

// NewDriftCounts returns the document before any event.
func NewDriftCounts() *DriftCounts { return &DriftCounts{Schema: Schema, Events: map[string]uint64{}} }

// EncodeDriftCounts returns the document as JSON. Equal documents give equal bytes.
func EncodeDriftCounts(d *DriftCounts) ([]byte, error) {
	body, err := json.Marshal(d)
	if err != nil {
		return nil, fmt.Errorf("encode counts of drift: %w", err)
	}
	return body, nil
}

// DecodeDriftCounts reads what EncodeDriftCounts wrote.
func DecodeDriftCounts(body []byte) (*DriftCounts, error) {
	d := NewDriftCounts()
	if err := json.Unmarshal(body, d); err != nil {
		return nil, fmt.Errorf("counts of drift: %w", err)
	}
	if d.Schema != Schema {
		return nil, fmt.Errorf("counts of drift have schema %d, this version reads %d: deploy the newer function app again", d.Schema, Schema)
	}
	return d, nil
}
