package event_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
)

// schema is the part of JSON Schema 2020-12 that the event schema uses, and a validator for it.
type schema struct {
	Ref        string            `json:"$ref"`
	Defs       map[string]schema `json:"$defs"`
	Type       string            `json:"type"`
	Const      any               `json:"const"`
	Enum       []string          `json:"enum"`
	Required   []string          `json:"required"`
	Properties map[string]schema `json:"properties"`
	Items      *schema           `json:"items"`
	Minimum    json.Number       `json:"minimum"`
	Maximum    json.Number       `json:"maximum"`
	MinLength  int               `json:"minLength"`
	MaxLength  int               `json:"maxLength"`
	Pattern    string            `json:"pattern"`
}

func eventSchema(t *testing.T) schema {
	t.Helper()
	text, err := os.ReadFile("../../docs/schema/event.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err = json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s schema) resolve(root schema) schema {
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		return root.Defs[name]
	}
	return s
}

// validate returns the first thing that is wrong with v.
func (s schema) validate(root schema, path string, v any) error {
	if s.Ref != "" {
		if err := s.resolve(root).validate(root, path, v); err != nil {
			return err
		}
	}
	if s.Const != nil && s.Const != v {
		return fmt.Errorf("%s is %v, want %v", path, v, s.Const)
	}
	switch v := v.(type) {
	case map[string]any:
		return s.validateObject(root, path, v)
	case []any:
		for i, x := range v {
			if s.Items == nil {
				return fmt.Errorf("%s is a list", path)
			}
			if err := s.Items.validate(root, fmt.Sprintf("%s[%d]", path, i), x); err != nil {
				return err
			}
		}
	case string:
		return s.validateString(path, v)
	case json.Number:
		return s.validateNumber(path, v)
	}
	return nil
}

func (s schema) validateObject(root schema, path string, v map[string]any) error {
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

func (s schema) validateString(path, v string) error {
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

func (s schema) validateNumber(path string, v json.Number) error {
	value, ok := new(big.Rat).SetString(v.String())
	if !ok || s.Type != "number" && s.Type != "integer" || s.Type == "integer" && !value.IsInt() {
		return fmt.Errorf("%s is %s, want %s", path, v, s.Type)
	}
	low, hasLow := new(big.Rat).SetString(s.Minimum.String())
	high, hasHigh := new(big.Rat).SetString(s.Maximum.String())
	if hasLow && value.Cmp(low) < 0 || hasHigh && value.Cmp(high) > 0 {
		return fmt.Errorf("%s is %s, want %s to %s", path, v, s.Minimum, s.Maximum)
	}
	return nil
}

func readJSON(t *testing.T, body []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var v map[string]any
	if err := d.Decode(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestGoldenFilesFollowTheSchema(t *testing.T) {
	root := eventSchema(t)
	for name := range golden() {
		body, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err = root.validate(root, "event", readJSON(t, body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemaHasTheFieldsOfTheCode: together the golden files have every field that is ever written.
func TestSchemaHasTheFieldsOfTheCode(t *testing.T) {
	root := eventSchema(t)
	written := map[string]map[string]bool{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		switch v := v.(type) {
		case map[string]any:
			for k, x := range v {
				if written[path] == nil {
					written[path] = map[string]bool{}
				}
				written[path][k] = true
				walk(path+"."+k, x)
			}
		case []any:
			for _, x := range v {
				walk(path, x)
			}
		}
	}
	for name := range golden() {
		body, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		walk("", readJSON(t, body))
	}
	data := root.Defs["data"]
	for path, s := range map[string]schema{"": root, ".data": data, ".data.chunk": data.Properties["chunk"], ".data.announce": *data.Properties["announce"].Items} {
		if diff := cmp.Diff(slices.Sorted(maps.Keys(written[path])), slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("fields of %q (-code +schema):\n%s", path, diff)
		}
	}
}

func TestSchemaHasTheBoundsOfTheCode(t *testing.T) {
	data := eventSchema(t).Defs["data"]
	chunk := data.Properties["chunk"]
	for what, pair := range map[string][2]string{
		"chunk.count":    {chunk.Properties["count"].Maximum.String(), fmt.Sprint(event.MaxChunks)},
		"chunk.index":    {chunk.Properties["index"].Maximum.String(), fmt.Sprint(event.MaxChunks - 1)},
		"restartSeconds": {data.Properties["restartSeconds"].Maximum.String(), fmt.Sprint(event.MaxRestart.Seconds())},
	} {
		if pair[0] != pair[1] {
			t.Errorf("%s: the schema says %s, the code %s", what, pair[0], pair[1])
		}
	}
	var types []string
	for _, k := range event.Kinds() {
		types = append(types, "dev.pointsman.route."+k.String()+".v1")
	}
	if diff := cmp.Diff(types, eventSchema(t).Properties["type"].Enum); diff != "" {
		t.Errorf("types (-code +schema):\n%s", diff)
	}
}

// TestSchemaAndDecodeAgree breaks a good event; what the schema refuses, Decode must refuse too, and the other way round where a
// schema can say it.
func TestSchemaAndDecodeAgree(t *testing.T) {
	root := eventSchema(t)
	for _, change := range [][2]string{
		{`"specversion":"1.0"`, `"specversion":"0.3"`},
		{`delta.v1`, `delta.v9`},
		{`"domain":"hub"`, `"domain":"-"`},
		{`"domain":"hub",`, ``},
		{`"nva":"nva-a"`, `"nva":"` + strings.Repeat("a", 41) + `"`},
		{`"epoch":1780000000000`, `"epoch":0`},
		{`"epoch":1780000000000,`, ``},
		{`"epoch":1780000000000`, `"epoch":18446744073709551616`},
		{`"boot":"`, `"boot":"` + strings.Repeat("x", 64)},
		{`"boot":"`, `"boot":"<`},
		{`0123456789abcdef`, `0123`},
		{`"metric":20`, `"metric":4294967296`},
		{`"metric":20`, `"metric":0.5`},
		{`"origin":"bgp"`, `"origin":"é"`},
		{`10.3.0.0/16`, `10.3.0.0`},
		{`"beat":7`, `"beat":-1`},
		{`"beat":7`, `"beat":7,"restartSeconds":86400.5`},
		{`"beat":7`, `"beat":7,"reason":"` + strings.Repeat("x", 1025) + `"`},
	} {
		body := strings.Replace(goodDelta(t), change[0], change[1], 1)
		_, decoded := event.Decode([]byte(body))
		valid := root.validate(root, "event", readJSON(t, []byte(body)))
		if decoded == nil || valid == nil {
			t.Errorf("%s -> %s: Decode says %v, the schema %v", change[0], change[1], decoded, valid)
		}
	}
}

// TestDocumentShowsTheGoldenFiles: the examples that people read are the ones that are tested.
func TestDocumentShowsTheGoldenFiles(t *testing.T) {
	text, err := os.ReadFile("../../docs/event-schema.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range event.Kinds() {
		file, failed := os.ReadFile(filepath.Join("testdata", k.String()+".json"))
		if failed != nil {
			t.Fatal(failed)
		}
		if !strings.Contains(string(text), "```json\n"+string(file)+"```\n") {
			t.Errorf("docs/event-schema.md does not show testdata/%s.json", k)
		}
	}
}
