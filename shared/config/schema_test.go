package config_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/config"
)

// schema is the part of JSON Schema 2020-12 that the domain schema uses.
type schema struct {
	Ref                  string            `json:"$ref"`
	Defs                 map[string]schema `json:"$defs"`
	Type                 string            `json:"type"`
	Properties           map[string]schema `json:"properties"`
	Required             []string          `json:"required"`
	AdditionalProperties *bool             `json:"additionalProperties"`
	Minimum              *float64          `json:"minimum"`
	Maximum              *float64          `json:"maximum"`
	MinItems             int               `json:"minItems"`
	Enum                 []string          `json:"enum"`
	Pattern              string            `json:"pattern"`
	Default              any               `json:"default"`
	Items                *schema           `json:"items"`
}

func domainSchema(t *testing.T) schema {
	t.Helper()
	text, err := os.ReadFile("../../docs/schema/domain.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err = json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// follow resolves a $ref, keeping what stands beside it.
func (s schema) follow(root schema) schema {
	name, ok := strings.CutPrefix(s.Ref, "#/$defs/")
	if !ok {
		return s
	}
	def := root.Defs[name]
	def.Default = s.Default
	return def
}

// parts are the mappings of the file: where an unknown key in each makes the parser list the known ones.
func parts(root schema) map[string]schema {
	return map[string]schema{
		"": root, "policy.": root.Defs["policy"], "policy.damping.": root.Defs["damping"], "guards.": root.Defs["guards"], "nvas[0].": root.Defs["nva"], "targets[0].": root.Defs["target"],
		"spread.": root.Defs["spread"], "spread.spokes[0].": root.Defs["spoke"], "targets[0].rules[0].": root.Defs["rule"],
		"targets[0].guards.": root.Defs["targetGuards"], "groups[0].": root.Defs["group"], "operators[0].": root.Defs["operator"],
		"routeServers[0].": root.Defs["routeServer"], "routeServers[0].peers[0].": root.Defs["peer"], "ranges[0].": root.Defs["range"],
	}
}

func TestSchemaHasTheKeysOfTheCode(t *testing.T) {
	_, problems := config.Parse("keys.yaml", []byte(probe))
	known, required := map[string][]string{}, map[string][]string{}
	for _, p := range problems {
		if where, ok := strings.CutSuffix(p.Field, "x"); ok {
			_, list, _ := strings.Cut(p.Text, "known here: ")
			known[where] = slices.Sorted(slices.Values(strings.Split(list, ", ")))
		}
		if strings.HasPrefix(p.Text, "missing") {
			dot := strings.LastIndex(p.Field, ".") + 1
			required[p.Field[:dot]] = append(required[p.Field[:dot]], p.Field[dot:])
		}
	}
	// What the probe itself gave cannot be missing in it.
	required[""] = append(required[""], "policy", "nvas") // targets too, but for a file with routeServers; all else is optional
	required["routeServers[0]."] = append(required["routeServers[0]."], "peers")
	for where, s := range parts(domainSchema(t)) {
		if diff := cmp.Diff(known[where], slices.Sorted(maps.Keys(s.Properties))); diff != "" {
			t.Errorf("keys of %q (-code +schema):\n%s", where, diff)
		}
		if diff := cmp.Diff(slices.Sorted(slices.Values(required[where])), s.Required); diff != "" {
			t.Errorf("required of %q (-code +schema):\n%s", where, diff)
		}
		if s.AdditionalProperties == nil || *s.AdditionalProperties {
			t.Errorf("%q allows unknown keys, the code does not", where)
		}
	}
}

// with returns a file in which one field has the given value, and whether the parser takes it.
func with(where, key, value string) bool {
	fields := map[string]map[string]string{
		"":                   {"domain": "hub"},
		"policy.":            {"silence": "hold"},
		"guards.":            {},
		"nvas[0].":           {"name": "nva-a", "nextHops": "[10.0.0.4]", "allow": "[10.0.0.0/8]"},
		"targets[0].":        {"name": "spokes", "routeTable": table + "spokes"},
		"targets[0].guards.": {},
		"groups[0].":         {"name": "firewall", "targets": "[spokes, gateway]"},
		"operators[0].":      {"name": "jo", "keys": "['ed25519:/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=']"},
		// Each of the three is bounded by its neighbour too.
		"policy.damping.": {"reuse": "1", "suppress": "1", "ceiling": "8000"},

		"spread.":              {"blocks": "[10.0.0.0/8 le 20]"},
		"spread.spokes[0].":    {"name": "sales", "prefixes": "[10.1.0.0/16]"},
		"targets[0].rules[0].": {"mode": "primary-backup", "prefixes": "[10.0.0.0/8]"},

		"routeServers[0].":          {"name": "rs", "virtualHub": hub + "rs"},
		"routeServers[0].peers[0].": {"nva": "nva-a", "asn": "65001"},
		"ranges[0].":                {"prefixes": "[10.0.0.0/8]", "via": "override"},
	}
	if where == "policy.damping." && key == "reuse" {
		fields[where]["suppress"] = "8000"
	}
	fields[where][key] = value
	beside := map[string][2]string{"targets[0].maxNextHops": {"mode", "ecmp"}, "targets[0].nextHops": {"mode", "next-hop-ip"}, "targets[0].rules[0].maxNextHops": {"mode", "ecmp"}, "targets[0].rules[0].nextHops": {"mode", "next-hop-ip"}}[where+key]
	switch key + value {
	case "modenext-hop-ip":
		beside = [2]string{"nextHops", "[10.0.0.100]"}
	case "side" + value:
		beside = [2]string{"mode", "spread"}
	}
	if beside[0] != "" {
		fields[where][beside[0]] = beside[1]
	}
	if where == "nvas[0]." && key == "name" {
		fields["routeServers[0].peers[0]."]["nva"] = value
	}
	if value == "spread" {
		fields["targets[0]."]["side"] = config.North
	}
	flow := func(part string) string {
		var out []string
		for _, k := range slices.Sorted(maps.Keys(fields[part])) {
			out = append(out, k+": "+fields[part][k])
		}
		return "{" + strings.Join(out, ", ") + "}"
	}
	fields["policy."]["damping"] = flow("policy.damping.")
	put := func(where, key, text string) {
		if _, given := fields[where][key]; !given {
			fields[where][key] = text
		}
	}
	put("spread.", "spokes", "["+flow("spread.spokes[0].")+"]")
	put("targets[0].", "rules", "["+flow("targets[0].rules[0].")+"]")
	put("routeServers[0].", "peers", "["+flow("routeServers[0].peers[0].")+"]")
	if where == "targets[0].guards." {
		fields["targets[0]."]["guards"] = flow(where)
	}
	_, problems := config.Parse("f.yaml", fmt.Appendf(nil, "domain: %s\npolicy: %s\nguards: %s\nspread: %s\nnvas: [%s]\ntargets: [%s, {name: gateway, routeTable: %sgateway}]\ngroups: [%s]\noperators: [%s]\nrouteServers: [%s]\nranges: [%s]\n",
		fields[""]["domain"], flow("policy."), flow("guards."), flow("spread."), flow("nvas[0]."), flow("targets[0]."), table, flow("groups[0]."), flow("operators[0]."), flow("routeServers[0]."), flow("ranges[0].")))
	return len(problems) == 0
}

func TestSchemaBoundsAreThoseOfTheCode(t *testing.T) {
	root := domainSchema(t)
	bounds := 0
	for where, part := range parts(root) {
		for key, s := range part.Properties {
			s = s.follow(root)
			field := func(value string, want bool) {
				t.Helper()
				if got := with(where, key, value); got != want {
					t.Errorf("%s%s: %s: the code says %t, the schema %t", where, key, value, got, want)
				}
			}
			for _, b := range []struct {
				at      *float64
				outside float64
			}{{s.Minimum, -1}, {s.Maximum, 1}} {
				if b.at != nil {
					bounds++
					field(fmt.Sprintf("%.0f", *b.at), true)
					field(fmt.Sprintf("%.0f", *b.at+b.outside), false)
				}
			}
			if s.MinItems == 1 && where != "" {
				field("[]", false)
			}
			for _, word := range s.Enum {
				field(word, true)
			}
			if s.Items != nil {
				for _, word := range s.Items.Enum {
					field("["+word+"]", true)
				}
			}
			if s.Default != nil {
				field(fmt.Sprint(s.Default), true)
			}
		}
	}
	if bounds != 32 {
		t.Errorf("compared %d bounds, want 32", bounds)
	}
}

// TestSchemaDefaults: a file that spells the defaults of the schema out means the same as one that leaves them out.
func TestSchemaDefaults(t *testing.T) {
	root := domainSchema(t)
	server := "routeServers: [{name: rs, virtualHub: " + hub + "rs, peers: [{nva: nva-a, asn: 65001}]}]\n"
	text := minimal + server + "guards:\nspread:\n"
	lines := map[string]string{}
	count := 0
	for where, part := range parts(root) {
		for _, key := range slices.Sorted(maps.Keys(part.Properties)) {
			if value := part.Properties[key].Default; value != nil {
				lines[where] += fmt.Sprintf(", %s: %v", key, value)
				count++
			}
		}
	}
	text = strings.Replace(text, "hold}", "hold"+lines["policy."]+", damping: {"+strings.TrimPrefix(lines["policy.damping."], ", ")+"}}", 1)
	text = strings.Replace(text, "le 24]}", "le 24]"+lines["nvas[0]."]+"}", 1)
	text = strings.Replace(text, "spokes}\n", "spokes"+lines["targets[0]."]+"}\n", 1)
	text = strings.Replace(text, "guards:\n", "guards: {"+strings.TrimPrefix(lines["guards."], ", ")+"}\n", 1)
	text = strings.Replace(text, "spread:\n", "spread: {"+strings.TrimPrefix(lines["spread."], ", ")+"}\n", 1)
	text = strings.Replace(text, "65001}]}", "65001}]"+lines["routeServers[0]."]+"}", 1)
	if diff := cmp.Diff(parse(t, "minimal.yaml", minimal+server), parse(t, "spelt-out.yaml", text), values()); diff != "" {
		t.Errorf("(-code +schema):\n%s", diff)
	}
	if count != 26 {
		t.Errorf("the schema has %d defaults, want 26", count)
	}
}

// TestSchemaPatterns: the patterns take what the code takes. They may take more: a schema cannot compare ge with le.
func TestSchemaPatterns(t *testing.T) {
	root := domainSchema(t)
	for _, tt := range []struct {
		where, key string
		good, bad  []string
	}{
		{"nvas[0].", "name", []string{"a", "nva-1", strings.Repeat("a", 40)}, []string{"-a", "a-", "A", "a_b", strings.Repeat("a", 41)}},
		{"policy.", "holdDown", []string{"0s", "0", "1h30m", "1.5s", "90s"}, []string{"30", "-1s", "s", "1d"}},
		{"policy.", "routeNamePrefix", []string{"p-", "P._-", strings.Repeat("p", 29) + "-"}, []string{"-", "p", "-p-", "p/-", strings.Repeat("p", 30) + "-"}},
		{"guards.", "maxRemoved", []string{"0%", "50%", "12.5%", "100%"}, []string{"50", "101%", "-1%", "%"}},
		{"spread.", "maxExcess", []string{"0%", "25%", "100%"}, []string{"25", "101%"}},
		{"guards.", "maxChanged", []string{"1%", "01%", "9.5%", "10%", "100%", "100.0%"}, []string{"0%", "0.5%", "101%", "1"}},
		{"targets[0].guards.", "maxRemoved", []string{"0%", "12.5%"}, []string{"50", "101%"}},
		{"routeServers[0].", "virtualHub", []string{hub + "x"}, []string{hub, hub + "x/", "x" + hub + "y", "rs"}},
		{"targets[0].", "routeTable", []string{table + "x"}, []string{table, table + "x/", "x" + table + "y", "spokes"}},
	} {
		pattern := regexp.MustCompile(parts(root)[tt.where].Properties[tt.key].follow(root).Pattern)
		for _, s := range tt.good {
			if !pattern.MatchString(s) || !with(tt.where, tt.key, s) {
				t.Errorf("%s%s: %q: schema %t, code %t, want both", tt.where, tt.key, s, pattern.MatchString(s), with(tt.where, tt.key, s))
			}
		}
		for _, s := range tt.bad {
			if pattern.MatchString(s) || with(tt.where, tt.key, "'"+s+"'") {
				t.Errorf("%s%s: %q: schema %t, code %t, want neither", tt.where, tt.key, s, pattern.MatchString(s), with(tt.where, tt.key, "'"+s+"'"))
			}
		}
	}
}
