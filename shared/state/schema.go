package state

import (
	"encoding/json"
	"fmt"

	"github.com/pointsman/pointsman/shared/later"
)

// Schemas of the documents (docs/adr/0021):
//
//	1  the first
//	2  holds an operator's word that is in force (a pause, an approval, a drain), or was signed. A version that knows schema 1 only would neither obey it nor
//	   keep it; and it is the last signed word by which a repeated one is told
//
// A document is written in the lowest schema that is enough for what it holds, so most of them can be read by the version before. Unknown fields need no schema of
// their own: every version from 2 on keeps them. A number is needed where ignoring a field would do harm; a version that does not know the number leaves the
// document alone.
const (
	firstSchema = 1
	wordSchema  = 2

	// Schema is the newest that this version reads and writes.
	Schema = wordSchema
)

func (n *NVA) schema() int {
	if n.Order.Drain || n.Order.Operator != "" {
		return wordSchema
	}
	return firstSchema
}

func (t *Target) schema() int {
	if t.Pause.On || t.Approval.Open() || t.Pause.Operator != "" || t.Approval.Operator != "" {
		return wordSchema
	}
	return firstSchema
}

// marshal encodes a document, with what a later version said.
func marshal(doc any, kept later.Rest, what string) ([]byte, error) {
	body, err := json.Marshal(doc)
	if err == nil {
		body, err = kept.Add(body)
	}
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return body, nil
}

// readable refuses the document of a schema that this version does not know.
func readable(schema int, what string) error {
	if schema < firstSchema || schema > Schema {
		return fmt.Errorf("%s has schema %d, this version reads %d to %d: it is left alone; deploy the version that wrote it again, or a later one", what, schema, firstSchema, Schema)
	}
	return nil
}

// rest is what a text says beyond the document that was read from it.
func rest[D any](text []byte, doc D, encode func(D) ([]byte, error)) (later.Rest, error) {
	known, err := encode(doc)
	return later.Rest{All: string(text), Known: string(known)}, err
}
