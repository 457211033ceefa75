package order_test

import (
	"encoding/json"
	"flag"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/test/jsonschema"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden is one order of every kind, as docs/operator-events.md shows them.
func golden() map[string]order.Order {
	out := map[string]order.Order{}
	for _, k := range order.Kinds() {
		o := order.Order{
			Kind: k, Domain: "hub", ID: "0b8f3c52-6f0a-4a37-9d5c-0d9d3c1a7e55", Who: "jo@example.com", Why: "firmware 7.2, change 4711", Time: time.Date(2026, 5, 28, 20, 26, 40, 0, time.UTC),
		}
		if k.OfNVA() {
			o.NVA = "nva-a"
		} else {
			o.Target = "spokes"
		}
		if k.OfPlan() {
			o.Plan = "25bfe4c57b9769ed"
		}
		out[k.String()] = o
	}
	return out
}

func file(t *testing.T, name string) []byte {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func TestGolden(t *testing.T) {
	for name, o := range golden() {
		t.Run(name, func(t *testing.T) {
			body, err := order.Encode(o)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				var pretty any
				if err = json.Unmarshal(body, &pretty); err != nil {
					t.Fatal(err)
				}
				text, _ := json.MarshalIndent(json.RawMessage(body), "", "  ")
				if err = os.WriteFile(filepath.Join("testdata", name+".json"), append(text, '\n'), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(jsonschema.Object(t, file(t, name)), jsonschema.Object(t, body)); diff != "" {
				t.Errorf("-file +encoded:\n%s", diff)
			}
			back, err := order.Decode(file(t, name))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(o, back); diff != "" {
				t.Errorf("-order +decoded:\n%s", diff)
			}
			m, err := o.Message()
			if err != nil || m.ID != "hub/operator/"+o.ID || m.ContentType != event.ContentType || m.Subject != o.Subject() || len(m.ID) > 128 {
				t.Errorf("message %+v, %v", m, err)
			}
			if !order.Is(body) {
				t.Error("is no order")
			}
		})
	}
}

// TestOneQueue: an order is no agent's event, and an agent's event is no order.
func TestOneQueue(t *testing.T) {
	if _, err := event.Decode(file(t, "drain")); !fault.Is(err, fault.Poison) {
		t.Errorf("an order was read as an event: %v", err)
	}
	text, err := os.ReadFile("../event/testdata/delta.json")
	if err != nil {
		t.Fatal(err)
	}
	if order.Is(text) || order.Is([]byte("{")) {
		t.Error("an event was taken for an order")
	}
	if !order.Is([]byte(`{"type":"dev.pointsman.operator.reboot.v1"}`)) {
		t.Error("an order of a newer version was taken for an event")
	}
}

// TestRefused: what is wrong is named, by Decode and Encode alike, and the schema refuses it too where it can say so.
func TestRefused(t *testing.T) {
	schema := jsonschema.Read(t, "../../docs/schema/operator.schema.json")
	for _, tt := range []struct {
		kind, from, to, want string
		beyond               bool // the schema's validator of the tests cannot tell
	}{
		{"drain", `"specversion": "1.0"`, `"specversion": "0.3"`, "specversion", false},
		{"drain", `drain.v1`, `drain.v2`, "does not know: upgrade the function app", false},
		{"drain", `"domain": "hub"`, `"domain": "Hub"`, `domain "Hub"`, false},
		{"drain", `"nva": "nva-a",`, ``, `nva ""`, false},
		{"drain", `"nva": "nva-a",`, `"nva": "nva-a", "target": "spokes",`, `target is "spokes": a drain order is about an NVA`, true},
		{"drain", `"nva": "nva-a",`, `"nva": "nva-a", "plan": "25bfe4c57b9769ed",`, "a drain order names none", true},
		{"drain", `"nva": "nva-a",`, `"nva": "nva-a", "until": "noon",`, `unknown field "until"`, true},
		{"pause", `"target": "spokes",`, `"target": "spokes", "nva": "nva-a",`, `nva is "nva-a": a pause order is about a target`, true},
		{"pause", `"target": "spokes"`, `"target": ""`, `target ""`, false},
		{"approve", `25bfe4c57b9769ed`, `25BFE4C57B9769ED`, "want the 16 hexadecimal digits", false},
		{"approve", `25bfe4c57b9769ed`, `25bfe4c5`, "want the 16 hexadecimal digits", false},
		{"override", `"plan": "25bfe4c57b9769ed",`, ``, "want the 16 hexadecimal digits", false},
		{"resume", `"id": "0b8f3c52-`, `"id": "0b8f3c52`, "want a UUID", false},
		{"resume", `"who": "jo@example.com"`, `"who": ""`, "who is empty", false},
		{"resume", `jo@example.com`, strings.Repeat("x", 201), "who has 201 bytes", false},
		{"resume", `firmware 7.2`, strings.Repeat("x", 1024), "why has", false},
		{"resume", `firmware 7.2`, `a\u001b[31m`, "control character", false},
		{"unpause", `"data": {`, `"data": [{`, "not the JSON", true},
		{"unpause", `"who": "jo@example.com"`, `"who": 7`, "data", false},
	} {
		t.Run(tt.kind+" "+tt.to, func(t *testing.T) {
			body := strings.Replace(string(file(t, tt.kind)), tt.from, tt.to, 1)
			_, err := order.Decode([]byte(body))
			if !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %q", err, tt.want)
			}
			if tt.beyond {
				return
			}
			if err = schema.Validate("order", jsonschema.Object(t, []byte(body))); err == nil {
				t.Error("the schema takes it")
			}
		})
	}
	bad := golden()["approve"]
	bad.Plan = ""
	if _, err := bad.Message(); !fault.Is(err, fault.Poison) {
		t.Errorf("encoded: %v", err)
	}
	for _, data := range []string{`null`, `[]`, `"x"`, ``} {
		if _, err := order.Decode([]byte(`{"specversion":"1.0","type":"dev.pointsman.operator.pause.v1","id":"x"` + map[bool]string{true: `,"data":` + data}[data != ""] + `}`)); !fault.Is(err, fault.Poison) {
			t.Errorf("data %q: %v", data, err)
		}
	}
}

func TestSchema(t *testing.T) {
	schema := jsonschema.Read(t, "../../docs/schema/operator.schema.json")
	var types []string
	for _, form := range schema.OneOf {
		types = append(types, form.Properties["type"].Enum...)
		written := map[string]bool{}
		for _, typ := range form.Properties["type"].Enum {
			body := jsonschema.Object(t, file(t, strings.TrimSuffix(strings.TrimPrefix(typ, "dev.pointsman.operator."), ".v1")))
			if err := schema.Validate("order", body); err != nil {
				t.Error(err)
			}
			maps.Copy(written, jsonschema.Fields(body)[".data"])
		}
		if diff := cmp.Diff(slices.Sorted(maps.Keys(written)), slices.Sorted(maps.Keys(form.Properties["data"].Properties))); diff != "" {
			t.Errorf("data (-code +schema):\n%s", diff)
		}
	}
	var want []string
	for _, k := range order.Kinds() {
		want = append(want, "dev.pointsman.operator."+k.String()+".v1")
	}
	if diff := cmp.Diff(want, types); diff != "" {
		t.Errorf("types (-code +schema):\n%s", diff)
	}
}

// TestDocument: the examples that people read are the ones that are tested.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/operator-events.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"drain", "override"} {
		if !strings.Contains(string(text), "```json\n"+string(file(t, name))+"```\n") {
			t.Errorf("docs/operator-events.md does not show testdata/%s.json", name)
		}
	}
	for _, k := range order.Kinds() {
		if !strings.Contains(string(text), "| `"+k.String()+"` |") {
			t.Errorf("docs/operator-events.md does not explain %s", k)
		}
	}
}

// FuzzDecode: nothing panics, and what is decoded is encoded to the same order.
func FuzzDecode(f *testing.F) {
	for name := range golden() {
		text, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := order.Decode(body)
		if err != nil {
			if !fault.Is(err, fault.Poison) {
				t.Fatalf("%v is not poison", err)
			}
			return
		}
		if !order.Is(body) {
			t.Fatal("decoded, and no order")
		}
		again, err := order.Encode(o)
		if err != nil {
			t.Fatal(err)
		}
		back, err := order.Decode(again)
		if err != nil || !cmp.Equal(o, back) {
			t.Fatalf("%+v became %+v, %v", o, back, err)
		}
	})
}
