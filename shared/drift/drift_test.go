package drift_test

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/drift"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

const mine = "pointsman-"

var (
	hopA = netip.MustParseAddr("10.0.0.4")
	hopB = netip.MustParseAddr("10.0.0.5")
	hopX = netip.MustParseAddr("10.9.9.9")
)

func prefix(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(n), 0}), 24)
}

// ours is a route as Pointsman writes it.
func ours(n int, hops ...netip.Addr) plan.Route {
	return plan.NewRoute(plan.Name(mine, prefix(n)), prefix(n).String(), plan.TypeFor(route.NextHopsOf(hops...)), hops...)
}

func rules() plan.Rules {
	return plan.Rules{NamePrefix: mine, Owned: func(name string) bool { return strings.HasPrefix(name, mine) }, Limit: 1000, MaxRemovedShare: 1, MinRemoved: 1000}
}

func compare() cmp.Option {
	return cmp.Options{cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmpopts.EquateEmpty()}
}

// The truth table of what counts as another hand's work.
func TestFind(t *testing.T) {
	written := state.NewRecord(map[netip.Prefix]string{prefix(1): "10.0.0.4"})
	foreign := plan.NewRoute("by-hand", prefix(1).String(), plan.VirtualAppliance, hopX)
	for _, tt := range []struct {
		name    string
		written state.Record
		routes  []plan.Route
		want    []state.Drift
	}{
		{"as written", written, []plan.Route{ours(1, hopA)}, nil},
		{"another next hop", written, []plan.Route{ours(1, hopX)}, []state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4", Found: "10.9.9.9"}}},
		{"another type", written, []plan.Route{plan.NewRoute(mine+"10-64-1-0-24", prefix(1).String(), "None", netip.Addr{})}, []state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4", Found: "None"}}},
		{"one next hop more", written, []plan.Route{ours(1, hopB, hopA)}, []state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4", Found: "10.0.0.4,10.0.0.5"}}},
		{
			"the same as a set of one", written,
			[]plan.Route{plan.NewRoute(mine+"10-64-1-0-24", prefix(1).String(), plan.VirtualApplianceECMP, hopA)},
			[]state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4", Found: "VirtualApplianceEcmp 10.0.0.4"}},
		},
		{"gone", written, nil, []state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4"}}},
		{"gone, and somebody else's route in its place", written, []plan.Route{foreign}, []state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4"}}},
		{"put back", state.Record{}, []plan.Route{ours(2, hopA)}, []state.Drift{{Prefix: prefix(2), Found: "10.0.0.4"}}},
		{
			"another address under our name", written,
			[]plan.Route{plan.NewRoute(mine+"10-64-1-0-24", prefix(2).String(), plan.VirtualAppliance, hopA)},
			[]state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4"}, {Prefix: prefix(2), Found: "10.0.0.4"}},
		},
		{"not known what was written", nil, []plan.Route{ours(1, hopX)}, nil},
		{"others' routes", state.Record{}, []plan.Route{foreign}, nil},
		{"a service tag under our name", written, []plan.Route{ours(1, hopA), plan.NewRoute(mine+"tag", "AzureCloud", "Internet", netip.Addr{})}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if diff := cmp.Diff(tt.want, drift.Find(plan.Table{Routes: tt.routes}, rules(), tt.written), compare()); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// What a write of unknown end may have made is no other hand's work; everything else still is.
func TestFindKnowsItsOwnWrites(t *testing.T) {
	written := state.NewRecord(map[netip.Prefix]string{prefix(1): "10.0.0.4", prefix(2): "10.0.0.4", prefix(3): "10.0.0.4"})
	maybe := state.NewRecord(map[netip.Prefix]string{prefix(1): "10.0.0.5", prefix(2): "10.0.0.5"})
	table := plan.Table{Routes: []plan.Route{ours(1, hopB), ours(2, hopX)}}
	want := []state.Drift{{Prefix: prefix(2), Wrote: "10.0.0.4", Found: "10.9.9.9"}}
	if diff := cmp.Diff(want, drift.Find(table, rules(), written, maybe, state.Record{}), compare()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestWhatIsWantedByNowIsNotHeld(t *testing.T) {
	found := []state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4", Found: "10.0.0.5"}, {Prefix: prefix(2), Wrote: "10.0.0.4", Found: "10.9.9.9"}, {Prefix: prefix(3), Wrote: "10.0.0.4"}}
	wants := []plan.Want{{Prefix: prefix(1), NextHops: route.NextHopsOf(hopB)}, {Prefix: prefix(2), NextHops: route.NextHopsOf(hopB)}}
	// prefix 3 is gone, and nobody wants it any more.
	if diff := cmp.Diff(found[1:2], drift.Held(found, wants), compare()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// story is a table that Pointsman wrote, what others then did to it, and what is wanted now.
type story struct {
	before  plan.Table
	table   plan.Table
	wants   []plan.Want
	written state.Record
}

func draw(t *rapid.T) story {
	var s story
	hops := []netip.Addr{hopA, hopB, hopX}
	wanted := []route.NextHops{route.NextHopsOf(hopA), route.NextHopsOf(hopB), route.NextHopsOf(hopA, hopB)}
	for n := range 8 {
		switch rapid.IntRange(0, 4).Draw(t, "route") {
		case 0:
		case 1:
			s.before.Routes = append(s.before.Routes, plan.NewRoute("by-hand", prefix(n).String(), "None", netip.Addr{}))
			s.table.Routes = append(s.table.Routes, s.before.Routes[len(s.before.Routes)-1])
		default:
			s.before.Routes = append(s.before.Routes, ours(n, rapid.SampledFrom(wanted).Draw(t, "written").Addrs()...))
			switch rapid.IntRange(0, 4).Draw(t, "meddled") {
			case 0:
			case 1:
				s.table.Routes = append(s.table.Routes, ours(n, rapid.SampledFrom(hops).Draw(t, "found")))
			default:
				s.table.Routes = append(s.table.Routes, s.before.Routes[len(s.before.Routes)-1])
			}
		}
		if rapid.Bool().Draw(t, "wanted") {
			s.wants = append(s.wants, plan.Want{Prefix: prefix(n), NextHops: rapid.SampledFrom(wanted).Draw(t, "hop")})
		}
	}
	s.written = drift.Read(s.before, rules())
	return s
}

// apply is the table after an edit.
func apply(t plan.Table, edit plan.Edit) plan.Table {
	var out plan.Table
	put := map[string]plan.Route{}
	for _, r := range edit.Put {
		put[r.Name] = r
	}
	gone := map[string]bool{}
	for _, name := range edit.Delete {
		gone[name] = true
	}
	for _, r := range t.Routes {
		if _, replaced := put[r.Name]; !replaced && !gone[r.Name] {
			out.Routes = append(out.Routes, r)
		}
	}
	out.Routes = append(out.Routes, edit.Put...)
	return out
}

// A write that repairs leaves no drift. A write that holds touches no held prefix, gives every other one what a plan without drift would, and
// leaves exactly the held ones drifted: they are found again, and again, until somebody decides.
func TestHoldLeavesAloneWhatIsHeldAndNothingElse(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := draw(t)
		found := drift.Find(s.table, rules(), s.written)

		repair := plan.Diff(s.table, s.wants, rules())
		if left := drift.Find(apply(s.table, repair.Edit), rules(), drift.After(s.table, rules(), repair.Edit, nil)); len(left) > 0 {
			t.Fatalf("drift after a repair: %v", left)
		}

		held := drift.Held(found, s.wants)
		heldRules, wants := drift.Hold(s.table, rules(), s.wants, held)
		hold := plan.Diff(s.table, wants, heldRules)
		prefixes := map[netip.Prefix]bool{}
		for _, d := range held {
			prefixes[d.Prefix] = true
		}
		for _, list := range [][]plan.Change{hold.Added, hold.Changed, hold.Removed} {
			for _, c := range list {
				if prefixes[c.Prefix] {
					t.Fatalf("the plan touches %s, which is held", c.Prefix)
				}
			}
		}
		for _, list := range [][2][]plan.Change{{repair.Added, hold.Added}, {repair.Changed, hold.Changed}, {repair.Removed, hold.Removed}} {
			var rest []plan.Change
			for _, c := range list[0] {
				if !prefixes[c.Prefix] {
					rest = append(rest, c)
				}
			}
			if diff := cmp.Diff(rest, list[1], cmp.Comparer(func(a, b plan.Change) bool { return a == b })); diff != "" {
				t.Fatalf("other prefixes, -repair +hold:\n%s", diff)
			}
		}
		after := drift.After(s.table, rules(), hold.Edit, held)
		if diff := cmp.Diff(held, drift.Find(apply(s.table, hold.Edit), rules(), after), compare()); diff != "" {
			t.Fatalf("drift after a write that holds, -held +found:\n%s", diff)
		}
	})
}
