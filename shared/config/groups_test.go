package config_test

import (
	"strings"
	"testing"

	"github.com/pointsman/pointsman/shared/config"
)

const grouped = `
domain: hub
policy: {silence: hold}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], allow: [10.0.0.0/8 le 24]}
targets:
  - {name: a, routeTable: ` + table + `a}
  - {name: b, routeTable: ` + table + `b}
  - {name: c, routeTable: ` + table + `c}
  - {name: d, routeTable: ` + table + `d}
  - {name: e, routeTable: ` + table + `e}
groups:
  - {name: north, targets: [d, b]}
  - {name: south, targets: [e, c]}
`

// TestUnits: what must agree is woken together, whole and once, whichever of it is named.
func TestUnits(t *testing.T) {
	d := parse(t, "grouped.yaml", grouped)
	for list, want := range map[string]string{
		"a b c d e": "a | d b | e c",
		"c d b":     "e c | d b",
		"b":         "d b",
		"a":         "a",
		"":          "",
	} {
		var targets []config.Target
		for name := range strings.FieldsSeq(list) {
			x, _ := d.Target(name)
			targets = append(targets, x)
		}
		var units []string
		for _, u := range d.Units(targets) {
			var names []string
			for _, x := range u {
				names = append(names, x.Name)
			}
			units = append(units, strings.Join(names, " "))
		}
		if got := strings.Join(units, " | "); got != want {
			t.Errorf("units of %q: %q, want %q", list, got, want)
		}
	}
	if _, in := d.GroupOf("a"); in {
		t.Error("a is in no group")
	}
	if g, in := d.GroupOf("c"); !in || g.Name != "south" || g.AlertAfter != config.DefaultAlertAfter {
		t.Errorf("c is in %+v", g)
	}
}

func TestSubscription(t *testing.T) {
	for id, want := range map[string]string{
		strings.ToUpper(table) + "X": "00000000-0000-0000-0000-000000000000", "/subscriptions/s": "s", "": "", "/x/y": "", "/subscriptions": "",
	} {
		if got := (config.Target{RouteTable: id}).Subscription(); got != want {
			t.Errorf("%q: %q, want %q", id, got, want)
		}
	}
}
