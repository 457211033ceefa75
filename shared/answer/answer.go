// Package answer joins selection, plan and price for one target: from what the NVAs announce and a table as read to what should be
// written, and how much it matters. Reconcile, replay and the operator's plan share it.
package answer

import (
	"net/netip"

	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/selection"
)

// Rules returns the bounds that the domain file sets for plans of the target; owned says whether a route's name is listed as ours.
func Rules(d *config.Domain, t config.Target, owned func(name string) bool) plan.Rules {
	return plan.Rules{
		NamePrefix: d.Policy.RouteNamePrefix, Owned: owned, Limit: t.Limit,
		MaxRemovedShare: d.Guards.MaxRemovedShare, MinRemoved: d.Guards.MinRemoved,
	}
}

// Price returns the domain's price list for writes.
func Price(d *config.Domain) coalesce.Policy {
	return coalesce.Policy{Price: d.Policy.WritePrice, Cap: d.Policy.WriteCap}
}

// Wants turns choices into wanted routes.
func Wants(choices []selection.Choice) []plan.Want {
	out := make([]plan.Want, len(choices))
	for i, c := range choices {
		out[i] = plan.Want{Prefix: c.Prefix, NextHop: c.NextHop}
	}
	return out
}

// Weigh says what the plan is good for, in prefixes: a move away from a next hop that no usable announcer of the prefix has is a move
// away from a dead one.
func Weigh(in selection.Input, live liveness.View, p plan.Plan) coalesce.Change {
	c := coalesce.Change{Missing: len(p.Added), Better: len(p.Removed)}
	for _, m := range p.Changed {
		if Alive(in, live, m.Prefix, m.From) {
			c.Better++
		} else {
			c.Dead++
		}
	}
	return c
}

// Alive reports whether the NVA behind hop is up, or at least not known to be down, and announces p.
func Alive(in selection.Input, live liveness.View, p netip.Prefix, hop netip.Addr) bool {
	for _, nva := range in.Domain.NVAs {
		doc := in.NVAs[nva.Name]
		if doc == nil || nva.NextHop(p) != hop {
			continue
		}
		_, announced := doc.Announces(p)
		return announced && live.Of[nva.Name].State.Usable()
	}
	return false
}
