// Package jsonschema validates JSON against the part of JSON Schema 2020-12 that the schemas under docs/schema use, for tests that hold
// those against the code.
package jsonschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

// Schema is a schema.
type Schema struct {
	Ref        string            `json:"$ref"`
	Defs       map[string]Schema `json:"$defs"`
	Type       string            `json:"type"`
	Const      any               `json:"const"`
	Default    any               `json:"default"`
	Enum       []string          `json:"enum"`
	Required   []string          `json:"required"`
	Properties map[string]Schema `json:"properties"`
	Items      *Schema           `json:"items"`
	MaxItems   int               `json:"maxItems"`
	Minimum    json.Number       `json:"minimum"`
	Maximum    json.Number       `json:"maximum"`
	MinLength  int               `json:"minLength"`
	MaxLength  int               `json:"maxLength"`
	Pattern    string            `json:"pattern"`
	OneOf      []Schema          `json:"oneOf"`
}

// Read reads a schema file.
func Read(t *testing.T, file string) Schema {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var s Schema
	if err = json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// Object decodes a JSON object as Validate wants it: numbers stay as they are written.
func Object(t *testing.T, body []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

// Fields returns the keys of every object in v by its path ("", ".data", ".data.routes"); the elements of a list share a path.
func Fields(v any) map[string]map[string]bool {
	out := map[string]map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if out[path] == nil {
					out[path] = map[string]bool{}
				}
				out[path][k] = true
				walk(path+"."+k, x)
			}
		case []any:
			for _, x := range v {
				walk(path, x)
			}
		}
	}
	walk("", v)
	return out
}

// Validate returns the first thing that is wrong with v, which stands at path.
func (s Schema) Validate(path string, v any) error { return s.validate(s, path, v) }

func (s Schema) resolve(root Schema) Schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return root.Defs[name]
	}
	return s
}

func (s Schema) validate(root Schema, path string, v any) error {
	if s.Ref != "" {
		if err := s.resolve(root).validate(root, path, v); err != nil {
			return err
		}
	}
	if s.Const != nil && s.Const != v {
		return fmt.Errorf("%s is %v, want %v", path, v, s.Const)
	}
	if err := s.validateOneOf(root, path, v); err != nil {
		return err
	}
	switch v := v.(type) {
	case map[string]any:
		return s.validateObject(root, path, v)
	case []any:
		return s.validateList(root, path, v)
	case string:
		return s.validateString(path, v)
	case json.Number:
		return s.validateNumber(path, v)
	}
	return nil
}

func (s Schema) validateOneOf(root Schema, path string, v any) error {
	if len(s.OneOf) == 0 {
		return nil
	}
	var wrong []string
	for _, one := range s.OneOf {
		if err := one.validate(root, path, v); err != nil {
			wrong = append(wrong, err.Error())
		}
	}
	if fit := len(s.OneOf) - len(wrong); fit != 1 {
		return fmt.Errorf("%s fits %d of %d forms: %s", path, fit, len(s.OneOf), strings.Join(wrong, "; "))
	}
	return nil
}

func (s Schema) validateObject(root Schema, path string, v map[string]any) error {
	for _, key := range s.Required {
		if _, ok := v[key]; !ok {
			return fmt.Errorf("%s.%s is missing", path, key)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(v)) {
		p, ok := s.Properties[key]
		if !ok {
			continue // unknown fields are allowed
		}
		if err := p.validate(root, path+"."+key, v[key]); err != nil {
			return err
		}
	}
	return nil
}

func (s Schema) validateList(root Schema, path string, v []any) error {
	if s.Type != "" && s.Type != "array" {
		return fmt.Errorf("%s is a list, want %s", path, s.Type)
	}
	if s.MaxItems > 0 && len(v) > s.MaxItems {
		return fmt.Errorf("%s has %d items, want at most %d", path, len(v), s.MaxItems)
	}
	for i, x := range v {
		if s.Items == nil {
			break
		}
		if err := s.Items.validate(root, fmt.Sprintf("%s[%d]", path, i), x); err != nil {
			return err
		}
	}
	return nil
}

func (s Schema) validateString(path, v string) error {
	n := utf8.RuneCountInString(v)
	switch {
	case s.Type != "" && s.Type != "string":
		return fmt.Errorf("%s is a string, want %s", path, s.Type)
	case n < s.MinLength || s.MaxLength > 0 && n > s.MaxLength:
		return fmt.Errorf("%s has length %d", path, n)
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, v):
		return fmt.Errorf("%s is %q", path, v)
	case s.Pattern != "" && !regexp.MustCompile(s.Pattern).MatchString(v):
		return fmt.Errorf("%s is %q, want %s", path, v, s.Pattern)
	}
	return nil
}

func (s Schema) validateNumber(path string, v json.Number) error {
	value, ok := new(big.Rat).SetString(v.String())
	if !ok || s.Type != "" && s.Type != "number" && s.Type != "integer" || s.Type == "integer" && !value.IsInt() {
		return fmt.Errorf("%s is %s, want %s", path, v, s.Type)
	}
	low, hasLow := new(big.Rat).SetString(s.Minimum.String())
	high, hasHigh := new(big.Rat).SetString(s.Maximum.String())
	if hasLow && value.Cmp(low) < 0 || hasHigh && value.Cmp(high) > 0 {
		return fmt.Errorf("%s is %s, want %s to %s", path, v, s.Minimum, s.Maximum)
	}
	return nil
}
