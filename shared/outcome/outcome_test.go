package outcome_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/jsonschema"
)

var update = flag.Bool("update", false, "write the golden files anew")

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

const (
	table = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/routeTables/spokes"
	trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
)

// golden is one event of each kind. Together they have every field.
func golden() map[string]outcome.Event {
	base := outcome.Data{Domain: "hub", Target: "spokes", Table: table, Run: "3QK7", Cause: "nva-a/17"}
	target := func(k outcome.Kind, edit func(*outcome.Data)) outcome.Event {
		d := base
		edit(&d)
		return outcome.OfTarget(k, d.Run, noon(), trace, d)
	}
	nva := func(k outcome.Kind, edit func(*outcome.Data)) outcome.Event {
		d := outcome.Data{Domain: "hub", NVA: "nva-a", Since: noon()}
		edit(&d)
		return outcome.OfNVA(k, 1780000000017, noon(), d)
	}
	prefix := netip.MustParsePrefix
	hands := []outcome.Hand{{Event: "9aeb0fdf", At: noon().Add(-time.Second), By: "kim@example.org", Operation: "Microsoft.Network/routeTables/routes/write", Resource: table + "/routes/pointsman-10-64-1-0-24"}}
	return map[string]outcome.Event{
		"changed": target(outcome.RouteChanged, func(d *outcome.Data) {
			d.Events, d.Observed = []string{"hub/nva-a/1780000000000/42"}, noon().Add(-5*time.Second)
			d.Added, d.Changed, d.Removed, d.More = 1, 1, 1, 0
			d.Routes = []outcome.Route{
				{Prefix: prefix("10.64.1.0/24"), Before: "10.0.1.4", After: "10.0.1.5"},
				{Prefix: prefix("10.64.2.0/24"), After: "10.0.1.5"},
				{Prefix: prefix("fd00:64::/48"), Before: "fd00::4"},
			}
		}),
		"frozen": target(outcome.TargetFrozen, func(d *outcome.Data) {
			d.Message = "more than half of the NVAs were lost at once (nva-a, nva-b): they keep what they carry"
		}),
		"failed": target(outcome.TargetFailed, func(d *outcome.Data) {
			d.Outcome, d.Code, d.Since = "denied", "ScopeLocked", noon()
			d.Message = "HTTP 409 ScopeLocked: remove the lock, or take the table out of the domain"
		}),
		"recovered": target(outcome.TargetRecovered, func(d *outcome.Data) {
			d.Outcome, d.Before, d.Since = "written", "denied ScopeLocked", noon().Add(-time.Hour)
		}),
		"drift-found": target(outcome.DriftFound, func(d *outcome.Data) {
			d.Cause, d.Hands = "drift/9aeb0fdf", hands
			d.Routes = []outcome.Route{{Prefix: prefix("10.64.1.0/24"), Before: "10.0.1.4", Found: "10.9.9.9", After: "10.9.9.9"}}
		}),
		"drift-repaired": target(outcome.DriftRepaired, func(d *outcome.Data) {
			d.Cause, d.Hands = "drift/9aeb0fdf", hands
			d.Routes = []outcome.Route{
				{Prefix: prefix("10.64.1.0/24"), Before: "10.0.1.4", Found: "10.9.9.9", After: "10.0.1.4"},
				{Prefix: prefix("10.64.3.0/24"), Before: "10.0.1.4", After: "10.0.1.4"},
			}
		}),
		"up":   nva(outcome.NVAUp, func(d *outcome.Data) { d.Liveness, d.Before = "up", "down" }),
		"down": nva(outcome.NVADown, func(d *outcome.Data) { d.Liveness, d.Before, d.Message = "draining", "up", "kernel update" }),
		"doubtful": nva(outcome.NVADoubtful, func(d *outcome.Data) {
			d.Liveness, d.Before, d.Message = "control-lost", "up", "its agent is silent, its peers reach it"
		}),
		"cloned": nva(outcome.NVACloned, func(d *outcome.Data) {
			d.Liveness, d.Message = "up", state.Clone{Boot: "5f1e9c04", Epoch: 3}.Story("nva-a", 3)
		}),
	}
}

func encode(t *testing.T, e outcome.Event) []byte {
	t.Helper()
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetIndent("", "  ")
	if err := enc.Encode(e); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// The golden files are what subscribers get; they follow the published schema, the page about the events shows them, and they decode to the same.
func TestGoldenFilesAreDocumented(t *testing.T) {
	schema := jsonschema.Read(t, "../../docs/schema/outcome.schema.json")
	page, err := os.ReadFile("../../docs/outcome-events.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []any
	for name, e := range golden() {
		body := encode(t, e)
		file := filepath.Join("testdata", name+".json")
		if *update {
			if err = os.WriteFile(file, body, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		want, unread := os.ReadFile(file)
		if unread != nil {
			t.Fatal(unread)
		}
		if diff := cmp.Diff(string(want), string(body)); diff != "" {
			t.Errorf("%s (-golden +got):\n%s", name, diff)
		}
		object := jsonschema.Object(t, body)
		all = append(all, object)
		if err = schema.Validate("event", object); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		var back outcome.Event
		if err = json.Unmarshal(body, &back); err != nil || !cmp.Equal(back, e, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })) {
			t.Errorf("%s reads back as %+v, %v", name, back, err)
		}
		if !strings.Contains(string(page), "```json\n"+string(want)+"```\n") {
			t.Errorf("docs/outcome-events.md does not show testdata/%s.json", name)
		}
	}
	all = append(all, jsonschema.Object(t, encode(t, crowded())))
	got := jsonschema.Fields(all)
	data := schema.Defs["data"]
	for path, s := range map[string]jsonschema.Schema{"": schema, ".data": data, ".data.routes": schema.Defs["route"], ".data.hands": schema.Defs["hand"]} {
		if diff := cmp.Diff(slices.Sorted(maps.Keys(got[path])), slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("fields of %q (-code +schema):\n%s", path, diff)
		}
		for field := range s.Properties {
			name := strings.TrimPrefix(strings.TrimPrefix(path, ".data")+"[]."+field, "[].")
			if name = strings.TrimPrefix(name, "."); !strings.Contains(string(page), "`"+name+"`") {
				t.Errorf("docs/outcome-events.md does not explain %s", name)
			}
		}
	}
}

// crowded has more routes than an event lists.
func crowded() outcome.Event {
	d := outcome.Data{Domain: "hub", Target: "spokes", Table: table, Run: "3QK7", Added: 103}
	for i := range 103 {
		d.Routes = append(d.Routes, outcome.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), 0}), 24), After: "10.0.1.4"})
	}
	return outcome.OfTarget(outcome.RouteChanged, d.Run, noon(), "", d)
}

func TestSchemaHasTheBoundsAndTypesOfTheCode(t *testing.T) {
	schema := jsonschema.Read(t, "../../docs/schema/outcome.schema.json")
	if got := schema.Defs["data"].Properties["routes"].MaxItems; got != outcome.MaxRoutes {
		t.Errorf("the schema allows %d routes, the code %d", got, outcome.MaxRoutes)
	}
	e := crowded()
	if len(e.Data.Routes) != outcome.MaxRoutes || e.Data.More != 3 {
		t.Errorf("%d routes and %d more, want %d and 3", len(e.Data.Routes), e.Data.More, outcome.MaxRoutes)
	}
	var types, outcomes []string
	for i, k := range outcome.Kinds() {
		types = append(types, k.String())
		if int(k) != i+1 {
			t.Errorf("kind %s is %d", k, k)
		}
	}
	for _, o := range state.Outcomes() {
		outcomes = append(outcomes, o.String())
	}
	if diff := cmp.Diff(types, schema.Properties["type"].Enum); diff != "" {
		t.Errorf("types (-code +schema):\n%s", diff)
	}
	if diff := cmp.Diff(outcomes, schema.Defs["data"].Properties["outcome"].Enum); diff != "" {
		t.Errorf("outcomes (-code +schema):\n%s", diff)
	}
}

// The schema tells a wrong event from a right one: an event of a target that names none, a kind in the wrong place, a route without a prefix.
func TestSchemaRefuses(t *testing.T) {
	schema := jsonschema.Read(t, "../../docs/schema/outcome.schema.json")
	for _, tt := range []struct{ golden, old, replacement string }{
		{"changed", `"target":"spokes",`, ``},
		{"changed", `Pointsman.Route.Changed`, `Pointsman.Nva.Down`},
		{"changed", `Pointsman.Route.Changed`, `Pointsman.Route.Guessed`},
		{"changed", `"prefix":"10.64.1.0/24"`, `"address":"10.64.1.0/24"`},
		{"changed", `"added":1`, `"added":0`},
		{"failed", `"denied"`, `"tired"`},
		{"down", `"liveness":"draining",`, ``},
		{"drift-repaired", `"event":"9aeb0fdf",`, ``},
	} {
		body, err := json.Marshal(golden()[tt.golden])
		if err != nil {
			t.Fatal(err)
		}
		broken := strings.Replace(string(body), tt.old, tt.replacement, 1)
		if broken == string(body) {
			t.Fatalf("%s has no %s", tt.golden, tt.old)
		}
		if schema.Validate("event", jsonschema.Object(t, []byte(broken))) == nil {
			t.Errorf("%s with %q instead of %q is valid", tt.golden, tt.replacement, tt.old)
		}
	}
}

// events makes n events of some size.
func events(n, first, routes int) []outcome.Event {
	var out []outcome.Event
	for i := range n {
		d := outcome.Data{Domain: "hub", Target: "spokes"}
		for r := range routes {
			d.Routes = append(d.Routes, outcome.Route{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(r), 0}), 24), After: "10.0.1.4"})
		}
		out = append(out, outcome.OfTarget(outcome.RouteChanged, fmt.Sprint(first+i), noon(), "", d))
	}
	return out
}

func ids(list []outcome.Event) []string {
	var out []string
	for _, e := range list {
		out = append(out, e.ID)
	}
	return out
}

// Whatever is put in and taken out: every event is sent, waiting or counted as dropped, the order stays, the bounds hold, and the newest
// event waits.
func TestOutboxLosesNothingUncounted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var box outcome.Outbox
		put, sent := 0, 0
		for range rapid.IntRange(1, 12).Draw(t, "steps") {
			if rapid.Bool().Draw(t, "send") {
				waiting := ids(box.Events)
				n := rapid.IntRange(0, len(waiting)).Draw(t, "taken")
				r := rapid.IntRange(n, len(waiting)).Draw(t, "refused")
				box.Sent(append(waiting[:n:n], "hub/targets/other/1/changed"), waiting[n:r])
				sent += n
				continue
			}
			n := rapid.IntRange(1, 40).Draw(t, "events")
			box.Put(events(n, put, rapid.SampledFrom([]int{0, 100}).Draw(t, "routes"))...)
			put += n
			if last := box.Events[len(box.Events)-1]; last.ID != fmt.Sprintf("hub/targets/spokes/%d/changed", put-1) {
				t.Fatalf("the newest is %s after %d", last.ID, put)
			}
		}
		if put != sent+len(box.Events)+int(box.Dropped) {
			t.Fatalf("%d put in: %d sent, %d waiting, %d dropped", put, sent, len(box.Events), box.Dropped)
		}
		if body, err := json.Marshal(box.Events); err != nil || len(box.Events) > outcome.MaxEvents || len(body) > outcome.MaxBytes+2*outcome.MaxEvents {
			t.Fatalf("%d events in %d bytes, %v", len(box.Events), len(body), err)
		}
		for i := 1; i < len(box.Events); i++ {
			var a, b int
			_, _ = fmt.Sscanf(box.Events[i-1].ID, "hub/targets/spokes/%d/", &a)
			_, _ = fmt.Sscanf(box.Events[i].ID, "hub/targets/spokes/%d/", &b)
			if a >= b {
				t.Fatalf("%v are out of order", ids(box.Events))
			}
		}
	})
}

// Put must not write into the array of a list that somebody else holds: a document that could not be saved is tried again with the old one.
func TestPutLeavesOtherCopiesAlone(t *testing.T) {
	box := outcome.Outbox{Events: append(make([]outcome.Event, 0, 8), events(1, 0, 0)...)}
	a, b := box, box
	a.Put(events(1, 1, 0)...)
	b.Put(events(1, 2, 0)...)
	if got := ids(a.Events); got[1] != "hub/targets/spokes/1/changed" {
		t.Errorf("the first copy holds %v", got)
	}
	if !(outcome.Outbox{}).IsZero() || a.IsZero() || (outcome.Outbox{Dropped: 1}).IsZero() {
		t.Error("IsZero is wrong")
	}
}
