package plan_test

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
)

const namePrefix = "pointsman-"

// rules owns every name of the list, compared as the target's document does: without case.
func rules(limit int, owned ...string) plan.Rules {
	return plan.Rules{
		NamePrefix: namePrefix, Limit: limit, MaxRemovedShare: 0.5, MinRemoved: 3,
		Owned: func(name string) bool { return slices.Contains(owned, strings.ToLower(name)) },
	}
}

func prefix(i int) netip.Prefix {
	if i%4 == 3 {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 5: byte(i)}), 48)
	}
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)
}

// hops draws one next hop or several.
func hops() *rapid.Generator[route.NextHops] {
	return rapid.Custom(func(t *rapid.T) route.NextHops {
		var out []netip.Addr
		for _, i := range rapid.SliceOfN(rapid.IntRange(0, 2), 1, 4).Draw(t, "hops") {
			out = append(out, hop(i))
		}
		return route.NextHopsOf(out...)
	})
}

func to(addresses ...string) route.NextHops {
	var out []netip.Addr
	for _, a := range addresses {
		out = append(out, netip.MustParseAddr(a))
	}
	return route.NextHopsOf(out...)
}

func hop(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 255, 0, byte(4 + i)}) }

// managed is the route that Pointsman writes for prefix i.
func managed(i int, next ...int) plan.Route {
	var hops []netip.Addr
	for _, n := range next {
		hops = append(hops, hop(n))
	}
	return plan.NewRoute(plan.Name(namePrefix, prefix(i)), prefix(i).String(), plan.TypeFor(route.NextHopsOf(hops...)), hops...)
}

// apply does to a table what the adapter and Azure do: names compare without case, a Put replaces, everything else stays.
func apply(table []plan.Route, e plan.Edit) []plan.Route {
	out := slices.DeleteFunc(slices.Clone(table), func(r plan.Route) bool {
		same := func(name string) bool { return strings.EqualFold(name, r.Name) }
		return slices.ContainsFunc(e.Delete, same) || slices.ContainsFunc(e.Put, func(p plan.Route) bool { return same(p.Name) })
	})
	return append(out, e.Put...)
}

// show writes a plan as the lines that the truth table expects.
func show(p plan.Plan) string {
	var out []string
	for _, c := range p.Added {
		out = append(out, fmt.Sprintf("+ %s %s %s", c.Name, c.Prefix, c.To))
	}
	for _, c := range p.Changed {
		out = append(out, fmt.Sprintf("~ %s %s %s > %s", c.Name, c.Prefix, c.From, c.To))
	}
	for _, c := range p.Removed {
		out = append(out, fmt.Sprintf("- %s %s %s", c.Name, c.Prefix, c.From))
	}
	for _, b := range p.Blocked {
		out = append(out, fmt.Sprintf("! %s (%s)", b.Prefix, b.Name))
	}
	for _, r := range p.Refused {
		out = append(out, "x "+r.Code)
	}
	return strings.Join(out, "\n")
}

func TestDiff(t *testing.T) {
	addr := netip.MustParseAddr
	appliance := func(name, address, next string) plan.Route {
		return plan.NewRoute(name, address, plan.VirtualAppliance, addr(next))
	}
	ours := appliance("pointsman-10-1-0-0-16", "10.1.0.0/16", "10.255.0.4")
	wantOurs := plan.Want{Prefix: netip.MustParsePrefix("10.1.0.0/16"), NextHops: to("10.255.0.4")}
	moved := plan.Want{Prefix: wantOurs.Prefix, NextHops: to("10.255.0.5")}
	both := plan.Want{Prefix: wantOurs.Prefix, NextHops: to("10.255.0.5", "10.255.0.4")}
	const owned = "pointsman-10-1-0-0-16"
	ecmp := plan.NewRoute(owned, "10.1.0.0/16", plan.VirtualApplianceECMP, addr("10.255.0.5"), addr("10.255.0.4"))
	for _, tt := range []struct {
		name  string
		table []plan.Route
		want  []plan.Want
		rules plan.Rules
		plan  string
		edit  string
	}{
		{"nothing wanted, nothing there", nil, nil, rules(9), "", ""},
		{"missing: added", nil, []plan.Want{wantOurs}, rules(9), "+ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4", "put pointsman-10-1-0-0-16"},
		{"as wanted: nothing", []plan.Route{ours}, []plan.Want{wantOurs}, rules(9, owned), "", ""},
		{"other next hop: changed in place", []plan.Route{ours}, []plan.Want{moved}, rules(9, owned), "~ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4 > 10.255.0.5", "put pointsman-10-1-0-0-16"},
		{"not wanted: removed", []plan.Route{ours}, nil, rules(9, owned), "- pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4", "delete pointsman-10-1-0-0-16"},
		{
			"other next hop type: changed",
			[]plan.Route{plan.NewRoute(owned, "10.1.0.0/16", "None", netip.Addr{})},
			[]plan.Want{wantOurs},
			rules(9, owned),
			"~ pointsman-10-1-0-0-16 10.1.0.0/16  > 10.255.0.4", "put pointsman-10-1-0-0-16",
		},
		{
			"other next hop type, same address: changed",
			[]plan.Route{plan.NewRoute(owned, "10.1.0.0/16", "VirtualNetworkGateway", addr("10.255.0.4"))},
			[]plan.Want{wantOurs},
			rules(9, owned),
			"~ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4 > 10.255.0.4", "put pointsman-10-1-0-0-16",
		},
		{
			"one more next hop: another type, in place",
			[]plan.Route{ours},
			[]plan.Want{both},
			rules(9, owned),
			"~ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4 > 10.255.0.4,10.255.0.5", "put pointsman-10-1-0-0-16",
		},
		{
			"one next hop less: another type, in place",
			[]plan.Route{ecmp},
			[]plan.Want{wantOurs},
			rules(9, owned),
			"~ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4,10.255.0.5 > 10.255.0.4", "put pointsman-10-1-0-0-16",
		},
		{"several next hops, in another order: nothing", []plan.Route{ecmp}, []plan.Want{both}, rules(9, owned), "", ""},
		{
			"one next hop in a route of the type for several: changed",
			[]plan.Route{plan.NewRoute(owned, "10.1.0.0/16", plan.VirtualApplianceECMP, addr("10.255.0.4"))},
			[]plan.Want{wantOurs},
			rules(9, owned),
			"~ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4 > 10.255.0.4", "put pointsman-10-1-0-0-16",
		},
		{"unmanaged, of several next hops: blocks too", []plan.Route{ecmp}, []plan.Want{both}, rules(9), "! 10.1.0.0/16 (pointsman-10-1-0-0-16)", ""},
		{
			"ours by name, not by document: not touched",
			[]plan.Route{ours},
			[]plan.Want{moved},
			rules(9),
			"! 10.1.0.0/16 (pointsman-10-1-0-0-16)", "",
		},
		{
			"ours by document, not by name: not touched",
			[]plan.Route{appliance("manual", "10.1.0.0/16", "10.255.0.9")},
			[]plan.Want{moved},
			rules(9, "manual"),
			"! 10.1.0.0/16 (manual)", "",
		},
		{"unmanaged and unwanted: stays", []plan.Route{appliance("manual", "10.1.0.0/16", "10.255.0.9")}, nil, rules(9), "", ""},
		{
			"unmanaged, not canonical: blocks too",
			[]plan.Route{appliance("manual", "10.1.2.3/16", "10.255.0.9")},
			[]plan.Want{wantOurs},
			rules(9),
			"! 10.1.0.0/16 (manual)", "",
		},
		{
			"names compare without case",
			[]plan.Route{appliance("Pointsman-10-1-0-0-16", "10.1.0.0/16", "10.255.0.4")},
			[]plan.Want{moved},
			rules(9, owned),
			"~ Pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4 > 10.255.0.5", "put Pointsman-10-1-0-0-16",
		},
		{
			"an unmanaged route has our name: a number is added",
			[]plan.Route{appliance("POINTSMAN-10-1-0-0-16", "10.9.0.0/16", "10.255.0.9")},
			[]plan.Want{wantOurs},
			rules(9),
			"+ pointsman-10-1-0-0-16-2 10.1.0.0/16 10.255.0.4", "put pointsman-10-1-0-0-16-2",
		},
		{
			"service tags pass through",
			[]plan.Route{plan.NewRoute("tag", "AzureCloud", "Internet", netip.Addr{})},
			[]plan.Want{wantOurs},
			rules(9),
			"+ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4", "put pointsman-10-1-0-0-16",
		},
		{
			"a managed route that became a service tag goes",
			[]plan.Route{plan.NewRoute(owned, "AzureCloud", "Internet", netip.Addr{})},
			[]plan.Want{wantOurs},
			rules(9, owned),
			"+ pointsman-10-1-0-0-16-2 10.1.0.0/16 10.255.0.4", "put pointsman-10-1-0-0-16-2\ndelete pointsman-10-1-0-0-16",
		},
		{
			"two managed routes of one prefix: one goes",
			[]plan.Route{ours, appliance("pointsman-x", "10.1.0.5/16", "10.255.0.7")},
			[]plan.Want{wantOurs},
			rules(9, owned, "pointsman-x"),
			"", "delete pointsman-x",
		},
		{
			"full: no addition, but the move",
			[]plan.Route{ours, appliance("manual", "10.9.0.0/16", "10.255.0.9")},
			[]plan.Want{moved, {Prefix: netip.MustParsePrefix("10.2.0.0/16"), NextHops: to("10.255.0.4")}},
			rules(2, owned),
			"~ pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4 > 10.255.0.5\nx RouteLimit", "put pointsman-10-1-0-0-16",
		},
		{
			"full, but a removal makes room",
			[]plan.Route{ours, appliance("manual", "10.9.0.0/16", "10.255.0.9")},
			[]plan.Want{{Prefix: netip.MustParsePrefix("10.2.0.0/16"), NextHops: to("10.255.0.4")}},
			rules(2, owned),
			"+ pointsman-10-2-0-0-16 10.2.0.0/16 10.255.0.4\n- pointsman-10-1-0-0-16 10.1.0.0/16 10.255.0.4", "put pointsman-10-2-0-0-16\ndelete pointsman-10-1-0-0-16",
		},
	} {
		p := plan.Diff(plan.Table{Routes: tt.table}, tt.want, tt.rules)
		if d := cmp.Diff(tt.plan, show(p)); d != "" {
			t.Errorf("%s: plan (-want +got):\n%s", tt.name, d)
		}
		var edit []string
		for _, name := range p.Names() {
			edit = append(edit, "put "+name)
		}
		for _, name := range p.Edit.Delete {
			edit = append(edit, "delete "+name)
		}
		if d := cmp.Diff(tt.edit, strings.Join(edit, "\n")); d != "" {
			t.Errorf("%s: edit (-want +got):\n%s", tt.name, d)
		}
		for _, r := range p.Edit.Put {
			if r.Type != plan.TypeFor(r.NextHops) || r.NextHops.Several() != (r.Type == "VirtualApplianceEcmp") || p.Edit.ECMP() != r.NextHops.Several() {
				t.Errorf("%s: %s leads to %s with type %s", tt.name, r.Prefix, r.NextHops, r.Type)
			}
		}
		if p.Empty() != (tt.edit == "") || p.Routes != len(apply(tt.table, p.Edit)) {
			t.Errorf("%s: empty %t, %d routes afterwards", tt.name, p.Empty(), p.Routes)
		}
	}
}

func TestRemovalGuard(t *testing.T) {
	for _, tt := range []struct {
		managed, removed int
		refused          bool
	}{
		{4, 2, false}, {4, 3, true}, {6, 3, false}, {7, 4, true}, {8, 4, false}, {2, 2, false}, {3, 3, true}, {10, 10, true},
	} {
		var table []plan.Route
		var owned []string
		var want []plan.Want
		for i := range tt.managed {
			table = append(table, managed(i, 0))
			owned = append(owned, table[i].Name)
			if i >= tt.removed {
				want = append(want, plan.Want{Prefix: prefix(i), NextHops: route.NextHopsOf(hop(1))})
			}
		}
		p := plan.Diff(plan.Table{Routes: table}, want, rules(100, owned...))
		refused := len(p.Refused) == 1 && p.Refused[0].Code == plan.RemovalGuard && len(p.Edit.Delete) == 0
		if refused != tt.refused || !refused && len(p.Edit.Delete) != tt.removed {
			t.Errorf("remove %d of %d: refused %t, deletes %d, %v", tt.removed, tt.managed, refused, len(p.Edit.Delete), p.Refused)
		}
		if len(p.Changed) != tt.managed-tt.removed {
			t.Errorf("remove %d of %d: %d moves, the guard must not stop them", tt.removed, tt.managed, len(p.Changed))
		}
		if refused && !strings.Contains(p.Refused[0].Text, fmt.Sprintf("remove %d of %d managed routes, the guard allows 50%%", tt.removed, tt.managed)) {
			t.Errorf("the text does not say what was found: %s", p.Refused[0].Text)
		}
	}
}

func TestLimitSaysTheShortfall(t *testing.T) {
	p := plan.Diff(plan.Table{Routes: []plan.Route{plan.NewRoute("manual", "10.9.0.0/16", "Internet", netip.Addr{})}},
		[]plan.Want{{prefix(1), route.NextHopsOf(hop(0))}, {prefix(2), route.NextHopsOf(hop(0))}}, rules(2))
	if len(p.Refused) != 1 || !strings.Contains(p.Refused[0].Text, "would need 3 routes and may hold 2: 1 too many; none of the 2") {
		t.Errorf("refused %v", p.Refused)
	}
}

// Azure's rules for the name of a route (Naming rules and restrictions, Microsoft.Network): 1 to 80 characters, alphanumerics, _ . -,
// beginning with an alphanumeric, ending with an alphanumeric or _.
var azureName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]{0,78}[A-Za-z0-9_])?$`)

func TestNames(t *testing.T) {
	for in, want := range map[string]string{
		"10.1.0.0/16": "pointsman-10-1-0-0-16", "0.0.0.0/0": "pointsman-0-0-0-0-0", "::/0": "pointsman-0-0-0-0-0-0-0-0-0",
		"fd00:1::/48": "pointsman-fd00-1-0-0-0-0-0-0-48",
	} {
		if got := plan.Name(namePrefix, netip.MustParsePrefix(in)); got != want {
			t.Errorf("%s is named %s, want %s", in, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		longest := strings.Repeat("P", 29) + "-"
		b := rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "address")
		p := netip.PrefixFrom(netip.AddrFrom16([16]byte(b)), rapid.IntRange(0, 128).Draw(t, "bits")).Masked()
		q := netip.PrefixFrom(netip.AddrFrom4([4]byte(b[:4])), rapid.IntRange(0, 32).Draw(t, "bits")).Masked()
		for _, x := range []netip.Prefix{p, q} {
			if name := plan.Name(longest, x) + "-9999"; !azureName.MatchString(name) {
				t.Fatalf("%s is no name for Azure", name)
			}
		}
		if plan.Name(namePrefix, p) == plan.Name(namePrefix, q) {
			t.Fatal("two prefixes with one name")
		}
	})
}

// world is a table with managed and unmanaged routes, and what is wanted.
type world struct {
	table []plan.Route
	owned []string
	want  []plan.Want
	rules plan.Rules
}

// worlds draws tables as Azure can hold them: names unique without case, one route per prefix.
func worlds() *rapid.Generator[world] {
	return rapid.Custom(func(t *rapid.T) world {
		var w world
		for i := range 12 {
			switch rapid.IntRange(0, 5).Draw(t, "route") {
			case 0, 1:
				r := managed(i, rapid.SliceOfNDistinct(rapid.IntRange(0, 2), 1, 3, rapid.ID[int]).Draw(t, "hops")...)
				if rapid.Bool().Draw(t, "shouted") {
					r.Name = strings.ToUpper(r.Name)
				}
				w.table, w.owned = append(w.table, r), append(w.owned, strings.ToLower(r.Name))
			case 2:
				w.table = append(w.table, plan.NewRoute(fmt.Sprintf("manual-%d", i), prefix(i).String(), plan.VirtualAppliance, hop(9)))
			case 3: // somebody copied our name
				w.table = append(w.table, plan.NewRoute(plan.Name(namePrefix, prefix(i)), prefix(i+100).String(), "Internet", netip.Addr{}))
			}
			if rapid.Bool().Draw(t, "wanted") {
				w.want = append(w.want, plan.Want{Prefix: prefix(i), NextHops: hops().Draw(t, "to")})
			}
		}
		if rapid.Bool().Draw(t, "tag") {
			w.table = append(w.table, plan.NewRoute("tag", "AzureCloud", "Internet", netip.Addr{}))
		}
		w.table = rapid.Permutation(w.table).Draw(t, "order")
		w.rules = rules(rapid.IntRange(0, 20).Draw(t, "limit"), w.owned...)
		w.rules.MaxRemovedShare = rapid.SampledFrom([]float64{0, 0.5, 1}).Draw(t, "guard")
		return w
	})
}

// owning returns the rules after the target's document has claimed the plan's names, which comes before every write.
func (w world) owning(p plan.Plan) plan.Rules {
	r, owned := w.rules, slices.Clone(w.owned)
	for _, name := range p.Names() {
		owned = append(owned, strings.ToLower(name))
	}
	r.Owned = func(name string) bool { return slices.Contains(owned, strings.ToLower(name)) }
	return r
}

func (w world) refused(p plan.Plan, code string) bool {
	return slices.ContainsFunc(p.Refused, func(r plan.Refusal) bool { return r.Code == code })
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		p := plan.Diff(plan.Table{Routes: w.table}, w.want, w.rules)
		after := apply(w.table, p.Edit)
		checkUnmanaged(t, w, after)
		checkManaged(t, w, p, after)
		if len(after) != p.Routes {
			t.Fatalf("%d routes afterwards, the plan says %d", len(after), p.Routes)
		}
		if len(after) > w.rules.Limit && len(after) > len(w.table) { // I6
			t.Fatalf("%d routes, the limit is %d, there were %d", len(after), w.rules.Limit, len(w.table))
		}
		again := plan.Diff(plan.Table{Routes: after}, w.want, w.owning(p))
		if !again.Empty() { // I5
			t.Fatalf("a second reconcile without news writes:\n%s", show(again))
		}
	})
}

// checkUnmanaged is I1: what is not ours is there as before.
func checkUnmanaged(t *rapid.T, w world, after []plan.Route) {
	t.Helper()
	for _, r := range w.table {
		if !w.rules.Managed(r) && !slices.Contains(after, r) {
			t.Fatalf("the unmanaged route %s is gone or changed", r.Name)
		}
	}
}

// checkManaged is I3: ours are exactly the wanted ones, but for those that unmanaged routes block or rules refuse.
func checkManaged(t *rapid.T, w world, p plan.Plan, after []plan.Route) {
	t.Helper()
	wanted := map[netip.Prefix]route.NextHops{}
	for _, x := range w.want {
		wanted[x.Prefix] = x.NextHops
	}
	for _, b := range p.Blocked {
		if _, ours := wanted[b.Prefix]; !ours || !slices.ContainsFunc(w.table, func(r plan.Route) bool { return r.Name == b.Name && r.Prefix == b.Prefix && !w.rules.Managed(r) }) {
			t.Fatalf("%s is not blocked by %s", b.Prefix, b.Name)
		}
		delete(wanted, b.Prefix)
	}
	before, got := w.rules.Installed(plan.Table{Routes: w.table}), w.owning(p).Installed(plan.Table{Routes: after})
	full, guarded := w.refused(p, plan.RouteLimit), w.refused(p, plan.RemovalGuard)
	for prefix, next := range wanted {
		_, had := before[prefix]
		if added := !had; added && full {
			if _, there := got[prefix]; there {
				t.Fatalf("%s was added although additions are all or none", prefix)
			}
		} else if got[prefix] != next {
			t.Fatalf("%s has next hop %s, want %s", prefix, got[prefix], next)
		}
	}
	for prefix, next := range got {
		if _, ok := wanted[prefix]; !ok && (!guarded || before[prefix] != next) {
			t.Fatalf("%s is managed and not wanted", prefix)
		}
	}
}

func TestOrderDoesNotMatter(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		a := plan.Diff(plan.Table{Routes: w.table}, w.want, w.rules)
		b := plan.Diff(plan.Table{Routes: rapid.Permutation(w.table).Draw(t, "table")}, w.want, w.rules)
		if d := cmp.Diff(fmt.Sprintf("%+v", a), fmt.Sprintf("%+v", b)); d != "" {
			t.Fatal(d)
		}
		if !slices.IsSortedFunc(a.Edit.Put, func(x, y plan.Route) int { return route.Compare(x.Prefix, y.Prefix) }) || !slices.IsSorted(a.Edit.Delete) {
			t.Fatal("the edit is not sorted")
		}
	})
}

func TestNewRoute(t *testing.T) {
	r := plan.NewRoute("a", "10.1.2.3/16", plan.VirtualAppliance, netip.MustParseAddr("::ffff:10.0.0.4"))
	if r.Address != "10.1.2.3/16" || r.Prefix.String() != "10.1.0.0/16" || r.NextHops.String() != "10.0.0.4" {
		t.Errorf("%+v", r)
	}
	if r = plan.NewRoute("a", "AzureCloud.WestEurope", "Internet", netip.Addr{}); r.Prefix.IsValid() {
		t.Errorf("a service tag has prefix %s", r.Prefix)
	}
}
