package config

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/located"
)

// DefaultAlertAfter is how long a group may disagree before somebody is told: some writes of a table, with their retries.
const DefaultAlertAfter = 30 * time.Second

// Group is targets whose tables must agree, as both sides of a stateful NVA must: they are woken together, written in parallel, and take
// improvements only together.
type Group struct {
	Name       string
	Targets    []string // at least two; a target is in one group at most
	AlertAfter time.Duration
}

func groups(n located.Node, d *Domain) []Group {
	var out []Group
	names := map[string]bool{}
	for _, item := range items(n, "at least one group, or no groups at all") {
		m := item.Map("name", "targets", "alertAfter")
		g := Group{AlertAfter: located.Or(m.Get("alertAfter"), DefaultAlertAfter, "a duration from 1s to 1h", located.Duration(time.Second, time.Hour))}
		list := m.Need("targets", "a list of at least two targets")
		g.Targets = together(list, d, out)
		g.Name = uniqueName(m.Need("name", wantName), names)
		out = append(out, g)
	}
	return out
}

// together reads the targets of a group.
func together(n located.Node, d *Domain, before []Group) []string {
	var out []string
	list := items(n, "at least two targets")
	for _, item := range list {
		s, ok := item.Text("the name of a target of this file")
		_, known := d.Target(s)
		other := slices.IndexFunc(before, func(g Group) bool { return slices.Contains(g.Targets, s) })
		switch {
		case !ok:
		case !known:
			item.Reportf("%q is not a target of this file", s)
		case slices.Contains(out, s):
			item.Reportf("the name %s stands twice", s)
		case other >= 0:
			item.Reportf("target %s is in group %s already: want each in one group", s, cmp.Or(before[other].Name, "above"))
		default:
			out = append(out, s)
		}
	}
	if len(list) == 1 {
		n.Reportf("the group has one target: want at least two that must agree")
	}
	return out
}

// GroupOf returns the group of the target.
func (d *Domain) GroupOf(target string) (Group, bool) {
	i := slices.IndexFunc(d.Groups, func(g Group) bool { return slices.Contains(g.Targets, target) })
	if i < 0 {
		return Group{}, false
	}
	return d.Groups[i], true
}

// Members returns the group's targets.
func (d *Domain) Members(g Group) []Target {
	out := make([]Target, 0, len(g.Targets))
	for _, name := range g.Targets {
		if t, known := d.Target(name); known {
			out = append(out, t)
		}
	}
	return out
}

// Units returns what is woken together: each group of which a target is listed, whole, and each listed target that is in no group. They are in the
// order of their first listed target.
func (d *Domain) Units(list []Target) [][]Target {
	var out [][]Target
	seen := map[string]bool{}
	for _, t := range list {
		g, grouped := d.GroupOf(t.Name)
		switch {
		case !grouped:
			out = append(out, []Target{t})
		case !seen[g.Name]:
			seen[g.Name] = true
			out = append(out, d.Members(g))
		}
	}
	return out
}

// Subscription returns the subscription of the target's table, in lower case: its writes share one budget.
func (t Target) Subscription() string {
	parts := strings.Split(strings.ToLower(strings.Trim(t.RouteTable, "/")), "/")
	if len(parts) < 2 || parts[0] != "subscriptions" {
		return ""
	}
	return parts[1]
}
