// Package compat compares what two versions of the product write.
package compat

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
)

// Lost returns the places where the newer JSON text does not say what the older one says; what it says beside that does not matter. A reader of the
// older form, which ignores what it does not know, then reads the same from both.
func Lost(older, newer []byte) ([]string, error) {
	var a, b any
	for text, v := range map[*[]byte]*any{&older: &a, &newer: &b} {
		d := json.NewDecoder(bytes.NewReader(*text))
		d.UseNumber() // integers have up to 64 bits
		if err := d.Decode(v); err != nil {
			return nil, fmt.Errorf("compare JSON: %w", err)
		}
	}
	return lost("", a, b), nil
}

func lost(path string, a, b any) []string {
	switch a := a.(type) {
	case map[string]any:
		b, _ := b.(map[string]any)
		var out []string
		for _, key := range slices.Sorted(maps.Keys(a)) {
			out = append(out, lost(path+"."+key, a[key], b[key])...)
		}
		return out
	case []any:
		b, _ := b.([]any)
		if len(a) != len(b) {
			return []string{fmt.Sprintf("%s has %d elements, had %d", path, len(b), len(a))}
		}
		var out []string
		for i := range a {
			out = append(out, lost(fmt.Sprintf("%s[%d]", path, i), a[i], b[i])...)
		}
		return out
	}
	if a != b {
		return []string{fmt.Sprintf("%s is %v, was %v", path, b, a)}
	}
	return nil
}
