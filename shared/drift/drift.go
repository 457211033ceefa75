// Package drift finds managed routes that are not as Pointsman last wrote them, and keeps a plan's hands off them where a person wants to
// hear of such changes before they are undone.
package drift

import (
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// Find compares the table's managed routes with those last written; nil means that it is not known what was. What one of the records in maybe
// has is not drift: a write of Pointsman's may have been applied without its end being known. In the order of route.Compare.
//
//	                written   in the table
//	changed         A         B, or another type of next hop
//	removed         A         nothing that is ours
//	put back        nothing   A, under a name that is ours
func Find(t plan.Table, rules plan.Rules, written state.Record, maybe ...state.Record) []state.Drift {
	if written == nil {
		return nil
	}
	is := managed(t, rules)
	var out []state.Drift
	for hop, prefixes := range written {
		for _, p := range prefixes {
			if is[p] != hop {
				out = append(out, state.Drift{Prefix: p, Wrote: hop, Found: is[p]})
			}
			delete(is, p)
		}
	}
	for p, found := range is {
		out = append(out, state.Drift{Prefix: p, Found: found})
	}
	for _, m := range maybe {
		hops := m.Hops()
		out = slices.DeleteFunc(out, func(d state.Drift) bool { return hops[d.Prefix] == d.Found })
	}
	slices.SortFunc(out, func(a, b state.Drift) int { return route.Compare(a.Prefix, b.Prefix) })
	return out
}

// Hold leaves the drifted prefixes out of what is planned: routes that are there count as somebody else's, and those that are gone are not
// wanted.
func Hold(t plan.Table, rules plan.Rules, wants []plan.Want, held []state.Drift) (plan.Rules, []plan.Want) {
	if len(held) == 0 {
		return rules, wants
	}
	prefixes := map[netip.Prefix]bool{}
	for _, d := range held {
		prefixes[d.Prefix] = true
	}
	names := map[string]bool{}
	for _, r := range t.Routes {
		if prefixes[r.Prefix] {
			names[r.Name] = true
		}
	}
	owned := rules.Owned
	rules.Owned = func(name string) bool { return !names[name] && owned(name) }
	return rules, slices.DeleteFunc(slices.Clone(wants), func(w plan.Want) bool { return prefixes[w.Prefix] })
}

// Held returns those of the drifted prefixes that are not, by now, as they are wanted: what another hand put there may be what Pointsman
// would.
func Held(found []state.Drift, wants []plan.Want) []state.Drift {
	if len(found) == 0 {
		return nil
	}
	want := map[netip.Prefix]string{}
	for _, w := range wants {
		want[w.Prefix] = w.NextHops.String()
	}
	return slices.DeleteFunc(slices.Clone(found), func(d state.Drift) bool { return want[d.Prefix] == d.Found })
}

// Plan plans for a table in which some routes have drifted: with repair as if they had not, else without those that are not as they are wanted
// by now, which are returned as held.
func Plan(t plan.Table, wants []plan.Want, rules plan.Rules, found []state.Drift, repair bool) (p plan.Plan, held []state.Drift) {
	if repair {
		return plan.Diff(t, wants, rules), nil
	}
	held = Held(found, wants)
	without, rest := Hold(t, rules, wants, held)
	return plan.Diff(t, rest, without), held
}

// Read returns the managed routes of the table as a record of what was written.
func Read(t plan.Table, rules plan.Rules) state.Record {
	return state.NewRecord(managed(t, rules))
}

// After returns the managed routes of the table after the edit, but for the held prefixes: of those, what was written before.
func After(t plan.Table, rules plan.Rules, edit plan.Edit, held []state.Drift) state.Record {
	is := managed(t, rules)
	for _, r := range t.Routes {
		if slices.Contains(edit.Delete, r.Name) {
			delete(is, r.Prefix)
		}
	}
	for _, r := range edit.Put {
		is[r.Prefix] = hops(r)
	}
	for _, d := range held {
		delete(is, d.Prefix)
		if d.Wrote != "" {
			is[d.Prefix] = d.Wrote
		}
	}
	return state.NewRecord(is)
}

// managed returns the next hops of the managed routes. Of two with one prefix, which Azure refuses, the last counts.
func managed(t plan.Table, rules plan.Rules) map[netip.Prefix]string {
	out := map[netip.Prefix]string{}
	for _, r := range t.Routes {
		if r.Prefix.IsValid() && rules.Managed(r) {
			out[r.Prefix] = hops(r)
		}
	}
	return out
}

// hops is where a route leads as the record has it: its next hops where it is of the type that Pointsman gives them, else its type too.
func hops(r plan.Route) string {
	switch {
	case r.NextHops.Empty():
		return string(r.Type)
	case r.Leads(r.NextHops):
		return r.NextHops.String()
	}
	return string(r.Type) + " " + r.NextHops.String()
}
