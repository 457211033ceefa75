package plan_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
)

// TestReleasedRemovalsPassTheGuards: what is known to be carried without the table goes, however much of the table it is; what is not known so is measured against the rest.
func TestReleasedRemovalsPassTheGuards(t *testing.T) {
	table := plan.Table{}
	for i := range 20 {
		p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), 0}), 24)
		table.Routes = append(table.Routes, plan.NewRoute(plan.Name("p-", p), p.String(), plan.VirtualAppliance, netip.MustParseAddr("10.0.0.4")))
	}
	keep := func(n int) []plan.Want {
		var out []plan.Want
		for _, r := range table.Routes[:n] {
			out = append(out, plan.Want{Prefix: r.Prefix, NextHops: r.NextHops})
		}
		return out
	}
	released := func(from int) func(plan.Change) bool {
		return func(c plan.Change) bool { return int(c.Prefix.Addr().As4()[2]) >= from }
	}
	for _, tt := range []struct {
		name     string
		want     []plan.Want
		released func(plan.Change) bool
		live     int
		removed  int
		code     string
	}{
		{name: "none is released", want: keep(0), live: 1, code: plan.RemovalGuard},
		{name: "all are released", want: keep(0), released: released(0), live: 1, removed: 20},
		{name: "all are released, too few NVAs are up", want: keep(0), released: released(0), removed: 20},
		{name: "half are released, the others are all that is left", want: keep(0), released: released(10), live: 1, removed: 10, code: plan.RemovalGuard},
		{name: "half are released, of the others few go", want: keep(6), released: released(10), live: 1, removed: 14},
		{name: "half are released, of the others few go, too few NVAs are up", want: keep(6), released: released(10), removed: 10, code: plan.MinLive},
	} {
		t.Run(tt.name, func(t *testing.T) {
			rules := plan.Rules{NamePrefix: "p-", Owned: func(string) bool { return true }, Limit: 100, MaxRemovedShare: 0.5, MinRemoved: 1, MinLive: 1, Live: tt.live, Released: tt.released}
			p := plan.Diff(table, tt.want, rules)
			code := ""
			for _, r := range p.Refused {
				code = r.Code
			}
			if len(p.Removed) != tt.removed || len(p.Edit.Delete) != tt.removed || code != tt.code || p.Routes != 20-tt.removed {
				t.Errorf("%d removed, %d left, refused %q; want %d and %q", len(p.Removed), p.Routes, fmt.Sprint(p.Refused), tt.removed, tt.code)
			}
		})
	}
	full := plan.Rules{NamePrefix: "p-", Owned: func(string) bool { return true }, Limit: 20, MaxRemovedShare: 0.5, MinRemoved: 1, Released: released(0)}
	other := netip.MustParsePrefix("10.1.0.0/16")
	if p := plan.Diff(table, []plan.Want{{Prefix: other, NextHops: route.NextHopsOf(netip.MustParseAddr("10.0.0.4"))}}, full); len(p.Added) != 1 || p.Routes != 1 {
		t.Errorf("the place of what is released can be taken: %+v", p)
	}
}
