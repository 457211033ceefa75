package routetable

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
)

// generic decodes one JSON value without rounding numbers.
func generic(data []byte) (any, error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.UseNumber()
	var v any
	if err := decoder.Decode(&v); err != nil {
		return nil, fmt.Errorf("decode: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("decode: more than one value")
	}
	return v, nil
}

// difference returns the path of the first value of before, in the order of names, that after has not or has otherwise. null is
// the same as absent.
func difference(path string, before, after any) string {
	switch b := before.(type) {
	case nil:
		return ""
	case map[string]any:
		a, ok := after.(map[string]any)
		if !ok {
			return path
		}
		return objectDifference(path, b, a)
	case []any:
		a, ok := after.([]any)
		if !ok || len(a) != len(b) {
			return path
		}
		for i := range b {
			if d := difference(fmt.Sprintf("%s[%d]", path, i), b[i], a[i]); d != "" {
				return d
			}
		}
		return ""
	}
	if before != after {
		return path
	}
	return ""
}

func objectDifference(path string, before, after map[string]any) string {
	for _, name := range slices.Sorted(maps.Keys(before)) {
		child := path + "." + name
		if readOnly(child) {
			continue
		}
		if d := difference(child, before[name], after[name]); d != "" {
			return d
		}
	}
	return ""
}

// readOnly reports whether the service owns what stands at the path, by the schema of routeTables, API version 2025-09-01.
func readOnly(path string) bool {
	switch path {
	case "$.id", "$.name", "$.type", "$.etag",
		"$.properties.provisioningState", "$.properties.resourceGuid", "$.properties.subnets":
		return true
	}
	child, ok := strings.CutPrefix(path, "$.properties.routes[")
	if !ok {
		return false
	}
	_, child, _ = strings.Cut(child, "]")
	switch child {
	case ".id", ".type", ".etag", ".properties.provisioningState", ".properties.hasBgpOverride":
		return true
	}
	return false
}
