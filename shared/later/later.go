// Package later lets a version of Pointsman change a document that a later version wrote, without losing what it does not know.
//
//	all     the document as it was read                  {"a":1,"b":{"c":2,"new":3},"more":4}
//	known   what this version makes of it, written back  {"a":1,"b":{"c":2}}
//	now     what it wants to write                       {"a":9,"b":{"c":2}}
//	written                                              {"a":9,"b":{"c":2,"new":3},"more":4}
//
// A value that this version has not changed stays as it was read. Of an object that it has changed it knows only its own fields to be right: what the later
// version had said beside them is dropped, for it belongs to the values that were there. The document itself is the exception: its unknown fields always stay.
package later

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Rest is a document of a later version: as it was read, and as this version would write it back. The zero value is a document with nothing unknown in it.
type Rest struct{ All, Known string }

// Decode reads a document into what fresh returns. more: the text has fields that have no place in it. Then the document needs a Rest.
func Decode[D any](text []byte, fresh func() D) (doc D, more bool, err error) {
	doc = fresh()
	strict := json.NewDecoder(bytes.NewReader(text))
	strict.DisallowUnknownFields()
	if err = strict.Decode(&doc); err == nil && len(bytes.TrimSpace(text[strict.InputOffset():])) == 0 {
		return doc, false, nil
	}
	doc = fresh()
	if err = json.Unmarshal(text, &doc); err != nil {
		return doc, false, err //nolint:wrapcheck // the caller names the document
	}
	return doc, true, nil
}

// Add returns the document as it is to be written: now, and what the later version had said. Equal arguments give equal bytes.
func (r Rest) Add(now []byte) ([]byte, error) {
	if r == (Rest{}) {
		return now, nil
	}
	var all, known, want any
	for _, text := range []struct {
		from string
		to   *any
	}{{r.All, &all}, {r.Known, &known}, {string(now), &want}} {
		d := json.NewDecoder(bytes.NewReader([]byte(text.from)))
		d.UseNumber() // integers have up to 64 bits
		if err := d.Decode(text.to); err != nil {
			return nil, fmt.Errorf("keep the fields of a later version: %w", err)
		}
	}
	document := merge(all, known, want)
	addUnknown(document, all, known)
	text, err := json.Marshal(document)
	if err != nil {
		return nil, fmt.Errorf("keep the fields of a later version: %w", err)
	}
	return text, nil
}

// merge returns now with what all has beyond known, wherever now is as known.
func merge(all, known, now any) any {
	if same(known, now) {
		return all
	}
	switch now := now.(type) {
	case map[string]any:
		all, _ := all.(map[string]any)
		known, _ := known.(map[string]any)
		out := make(map[string]any, len(now))
		for name, value := range now {
			out[name] = value
			if was, had := known[name]; had {
				out[name] = merge(all[name], was, value)
			}
		}
		return out
	case []any:
		all, _ := all.([]any)
		known, _ := known.([]any)
		out := make([]any, len(now))
		for i, value := range now {
			out[i] = element(all, known, value)
		}
		return out
	}
	return now
}

// element returns the element of all that this version takes for value, value itself if there is none.
func element(all, known []any, value any) any {
	for i, was := range known {
		if i < len(all) && same(was, value) {
			return all[i]
		}
	}
	return value
}

// addUnknown adds the fields of the object all that known lacks.
func addUnknown(to, all, known any) {
	object, _ := to.(map[string]any)
	was, _ := known.(map[string]any)
	fields, _ := all.(map[string]any)
	for name, value := range fields {
		_, ours := object[name]
		if _, had := was[name]; !had && !ours && object != nil {
			object[name] = value
		}
	}
}

// same reports whether two JSON values are equal.
func same(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		return ok && maps.EqualFunc(a, b, same)
	case []any:
		b, ok := b.([]any)
		return ok && slices.EqualFunc(a, b, same)
	}
	return a == b
}
