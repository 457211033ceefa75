package event_test

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/jsonschema"
)

func eventSchema(t *testing.T) jsonschema.Schema {
	t.Helper()
	return jsonschema.Read(t, "../../docs/schema/event.schema.json")
}

func TestGoldenFilesFollowTheSchema(t *testing.T) {
	root := eventSchema(t)
	for name := range golden() {
		body, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		if err = root.Validate("event", jsonschema.Object(t, body)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestSchemaHasTheFieldsOfTheCode: together the golden files have every field that is ever written.
func TestSchemaHasTheFieldsOfTheCode(t *testing.T) {
	root := eventSchema(t)
	var all []any
	for name := range golden() {
		body, err := os.ReadFile(filepath.Join("testdata", name+".json"))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, jsonschema.Object(t, body))
	}
	written := jsonschema.Fields(all)
	written[""]["pointsmansignature"] = true // shared/signature writes it, and holds it against the schema
	data, report := root.Defs["data"], root.Defs["report"]
	for path, s := range map[string]jsonschema.Schema{
		"": root, ".data": data, ".data.chunk": data.Properties["chunk"], ".data.announce": *data.Properties["announce"].Items,
		".data.report": report, ".data.report.peers": *report.Properties["peers"].Items, ".data.report.controlLost": *report.Properties["controlLost"].Items,
	} {
		if diff := cmp.Diff(slices.Sorted(maps.Keys(written[path])), slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("fields of %q (-code +schema):\n%s", path, diff)
		}
	}
}

func TestSchemaHasTheBoundsOfTheCode(t *testing.T) {
	data := eventSchema(t).Defs["data"]
	chunk, report := data.Properties["chunk"], eventSchema(t).Defs["report"]
	for what, pair := range map[string][2]string{
		"chunk.count":                {chunk.Properties["count"].Maximum.String(), fmt.Sprint(event.MaxChunks)},
		"chunk.index":                {chunk.Properties["index"].Maximum.String(), fmt.Sprint(event.MaxChunks - 1)},
		"report.controlLost":         {fmt.Sprint(report.Properties["controlLost"].MaxItems), fmt.Sprint(event.MaxSessions)},
		"report.controlLost.session": {fmt.Sprint(report.Properties["controlLost"].Items.Properties["session"].MaxLength), fmt.Sprint(event.MaxSession)},
		"restartSeconds":             {data.Properties["restartSeconds"].Maximum.String(), fmt.Sprint(event.MaxRestart.Seconds())},
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
		valid := root.Validate("event", jsonschema.Object(t, []byte(body)))
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
	names := []string{"control-lost"}
	for _, k := range event.Kinds() {
		names = append(names, k.String())
	}
	for _, name := range names {
		file, failed := os.ReadFile(filepath.Join("testdata", name+".json"))
		if failed != nil {
			t.Fatal(failed)
		}
		if !strings.Contains(string(text), "```json\n"+string(file)+"```\n") {
			t.Errorf("docs/event-schema.md does not show testdata/%s.json", name)
		}
	}
}
