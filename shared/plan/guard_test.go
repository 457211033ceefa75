package plan_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
)

// TestGuard is the truth table of what is left out: managed routes of which some are removed, moved off a working next hop, or added.
func TestGuard(t *testing.T) {
	const none = ""
	for _, tt := range []struct {
		name             string
		size             plan.Sizes
		live, minLive    int
		limit            int
		override         bool
		removals, moves  string
		additionsAreLeft bool
	}{
		{"nothing to do", plan.Sizes{Managed: 10}, 0, 2, 100, false, none, none, false},
		{"moves at the share", plan.Sizes{Managed: 10, Moved: 3}, 2, 2, 100, false, none, none, false},
		{"moves above the share", plan.Sizes{Managed: 10, Moved: 4}, 2, 2, 100, false, none, plan.ChangeGuard, false},
		{"moves above the share, overridden", plan.Sizes{Managed: 10, Moved: 4}, 2, 2, 100, true, none, none, false},
		{"additions count as managed", plan.Sizes{Routes: 10, Managed: 10, Moved: 4, Added: 4}, 2, 2, 100, false, none, none, false},
		{"additions that do not fit do not", plan.Sizes{Routes: 10, Managed: 10, Moved: 4, Added: 4}, 2, 2, 10, false, none, plan.ChangeGuard, true},
		{"removals above their share", plan.Sizes{Managed: 10, Removed: 6}, 2, 2, 100, false, plan.RemovalGuard, none, false},
		{"removals above their share, overridden", plan.Sizes{Managed: 10, Removed: 6}, 2, 2, 100, true, none, none, false},
		{"too few live: no removal", plan.Sizes{Managed: 10, Removed: 1}, 1, 2, 100, false, plan.MinLive, none, false},
		{"too few live: no move", plan.Sizes{Managed: 10, Moved: 1}, 1, 2, 100, false, none, plan.MinLive, false},
		{"too few live: no override", plan.Sizes{Managed: 10, Moved: 6, Removed: 6}, 1, 2, 100, true, plan.MinLive, plan.MinLive, false},
		{"too few live: additions", plan.Sizes{Routes: 10, Managed: 10, Added: 5}, 0, 2, 100, false, none, none, false},
		{"removals that stay leave no room", plan.Sizes{Routes: 10, Managed: 10, Removed: 2, Added: 2}, 1, 2, 11, false, plan.MinLive, none, true},
		{"removals that are made leave room", plan.Sizes{Routes: 10, Managed: 10, Removed: 2, Added: 2}, 2, 2, 11, false, none, none, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := plan.Rules{Limit: tt.limit, MaxRemovedShare: 0.5, MinRemoved: 3, MaxChangedShare: 0.3, MinLive: tt.minLive, Live: tt.live}
			want := plan.Left{Removals: tt.removals, Moves: tt.moves}
			if tt.additionsAreLeft {
				want.Additions = plan.RouteLimit
			}
			if got := r.Guard(tt.size, tt.override); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
		})
	}
	for _, off := range []float64{0, 1} {
		if got := (plan.Rules{MaxChangedShare: off}).Guard(plan.Sizes{Managed: 3, Moved: 3}, false); got.Moves != "" {
			t.Errorf("a share of %g guards: %+v", off, got)
		}
	}
}

// guarded draws worlds with every guard, in which hop(2) is dead.
func guarded() *rapid.Generator[world] {
	return rapid.Custom(func(t *rapid.T) world {
		w := worlds().Draw(t, "world")
		w.rules.MaxChangedShare = rapid.SampledFrom([]float64{0, 0.1, 0.5, 1}).Draw(t, "maxChanged")
		w.rules.MinLive, w.rules.Live = rapid.IntRange(0, 2).Draw(t, "minLive"), rapid.IntRange(0, 2).Draw(t, "live")
		w.rules.Dead = func(c plan.Change) bool { return c.From.First() == hop(2) }
		return w
	})
}

func diff(w world) plan.Plan { return plan.Diff(plan.Table{Routes: w.table}, w.want, w.rules) }

// TestGuardsHold: whatever is guarded, what leaves a dead next hop is written, a second plan without news writes nothing, and what is left out is said.
func TestGuardsHold(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := guarded().Draw(t, "world")
		p := diff(w)
		after := apply(w.table, p.Edit)
		checkUnmanaged(t, w, after)
		again := plan.Diff(plan.Table{Routes: after}, w.want, w.owning(p))
		if !again.Empty() {
			t.Fatalf("a second reconcile without news writes:\n%s", show(again))
		}
		free := w
		free.rules.MaxChangedShare, free.rules.MaxRemovedShare, free.rules.MinLive = 1, 1, 0
		whole := diff(free)
		for _, c := range whole.Changed {
			made := slices.Contains(p.Changed, c)
			if w.rules.Dead(c) && !made {
				t.Fatalf("%s stays on a dead next hop", c.Prefix)
			}
			if !made && !w.refused(p, plan.ChangeGuard) && !w.refused(p, plan.MinLive) {
				t.Fatalf("%s stays and nothing says why", c.Prefix)
			}
		}
		if few := w.rules.Live < w.rules.MinLive; few && (len(p.Removed) > 0 || slices.ContainsFunc(p.Changed, func(c plan.Change) bool { return !w.rules.Dead(c) })) {
			t.Fatalf("%d of at least %d are live:\n%s", w.rules.Live, w.rules.MinLive, show(p))
		}
	})
}

// TestOverride: the hash that a refusal names lets that plan pass, and no other one.
func TestOverride(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := guarded().Draw(t, "world")
		p := diff(w)
		if shares := w.refused(p, plan.ChangeGuard) || w.refused(p, plan.RemovalGuard); shares != (p.Whole != "") {
			t.Fatalf("whole %q, refused %v", p.Whole, p.Refused)
		}
		if p.Whole == "" {
			return
		}
		if !strings.Contains(fmt.Sprint(p.Refused), "--plan "+p.Whole) {
			t.Fatalf("%v does not name %s", p.Refused, p.Whole)
		}
		w.rules.Override = p.Whole
		passed := diff(w)
		if passed.Hash() != p.Whole || passed.Whole != "" || w.refused(passed, plan.ChangeGuard) || w.refused(passed, plan.RemovalGuard) {
			t.Fatalf("the plan %s did not pass: %s, %v", p.Whole, passed.Hash(), passed.Refused)
		}
		// One more route to another next hop: another plan.
		w.want = append(w.want, plan.Want{Prefix: prefix(77), NextHops: route.NextHopsOf(hop(0))})
		w.rules.Limit += 100
		if other := diff(w); other.Hash() == passed.Hash() {
			t.Fatal("another plan passes")
		}
	})
}

// TestHash: it is the same for the same plan in any order, and another for another plan.
func TestHash(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		w := worlds().Draw(t, "world")
		p := diff(w)
		if (p.Hash() == "") != p.Empty() || p.Hash() != "" && len(p.Hash()) != plan.HashLength {
			t.Fatalf("hash %q of\n%s", p.Hash(), show(p))
		}
		shuffled := plan.Diff(plan.Table{Routes: rapid.Permutation(w.table).Draw(t, "table"), ETag: "other"}, rapid.Permutation(w.want).Draw(t, "want"), w.rules)
		if shuffled.Hash() != p.Hash() {
			t.Fatalf("the order matters: %s, %s", p.Hash(), shuffled.Hash())
		}
		v := worlds().Draw(t, "other")
		if q := diff(v); (q.Hash() == p.Hash()) != (fmt.Sprint(q.Edit, q.Added, q.Changed, q.Removed) == fmt.Sprint(p.Edit, p.Added, p.Changed, p.Removed)) {
			t.Fatalf("%s and %s for\n%s\n%s", p.Hash(), q.Hash(), show(p), show(q))
		}
	})
	// People write it down: it must not change with the version of Pointsman.
	one := plan.Diff(plan.Table{}, []plan.Want{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), NextHops: route.NextHopsOf(netip.MustParseAddr("10.0.0.4"))}}, rules(9))
	if got := one.Hash(); got != "25bfe4c57b9769ed" {
		t.Errorf("hash %s", got)
	}
}

func TestOwnSubnet(t *testing.T) {
	inside := func(p netip.Prefix) (string, netip.Addr, bool) {
		a := netip.MustParseAddr("10.0.1.4")
		return "nva-a", a, p.Contains(a)
	}
	far := plan.Subnet{ID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/spoke/subnets/apps", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24")}}
	own := plan.Subnet{ID: "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/hub/subnets/nvas", Prefixes: []netip.Prefix{netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("10.0.1.0/24")}}
	if err := plan.OwnSubnet([]plan.Subnet{far}, inside); err != nil {
		t.Error(err)
	}
	err := plan.OwnSubnet([]plan.Subnet{far, own}, inside)
	if !fault.Is(err, fault.Denied) || fault.Code(err) != plan.CodeOwnSubnet || !strings.Contains(err.Error(), "subnet hub/nvas (10.0.1.0/24), which holds 10.0.1.4, the next hop of nva-a") {
		t.Errorf("%v", err)
	}
	if err = plan.OwnSubnet([]plan.Subnet{{Prefixes: own.Prefixes}}, inside); err == nil || errors.Unwrap(err) == nil {
		t.Errorf("declared: %v", err)
	}
}
