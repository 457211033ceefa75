// Package answer joins selection, plan and price for one target: from what the NVAs announce and a table as read to what should be
// written, and how much it matters. Reconcile, replay and the operator's plan share it.
package answer

import (
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// Rules returns the bounds that the domain file sets for plans of the target; owned says whether a route's name is listed as ours.
func Rules(d *config.Domain, t config.Target, owned func(name string) bool) plan.Rules {
	g := d.GuardsOf(t)
	return plan.Rules{
		NamePrefix: d.Policy.RouteNamePrefix, Owned: owned, Limit: t.Limit,
		MaxRemovedShare: g.MaxRemovedShare, MinRemoved: g.MinRemoved, MaxChangedShare: g.MaxChangedShare, MinLive: g.MinLive,
	}
}

// Guarded completes the rules with what is believed of the NVAs: how many of the target's are up, and which moves leave a next hop that does
// not work.
func Guarded(rules plan.Rules, in selection.Input, live liveness.View) plan.Rules {
	rules.Live = 0
	for _, nva := range in.Target.NVAs {
		if live.Of[nva].State == liveness.Up {
			rules.Live++
		}
	}
	rules.Dead = func(c plan.Change) bool {
		return Dead(c.From, c.To, func(hop netip.Addr) bool { return Alive(in, live, c.Prefix, hop) })
	}
	rules.Released = func(c plan.Change) bool { return Carried(in, live, c.Prefix) }
	return rules
}

// Carried reports whether a prefix that the table holds only for a time is known to be carried without it: the Route Servers have learned all that an NVA announces
// that is not known to be down, and that announces the prefix.
func Carried(in selection.Input, live liveness.View, p netip.Prefix) bool {
	if in.Domain.ViaOf(p) != config.ViaOverride {
		return false
	}
	return slices.ContainsFunc(in.Target.NVAs, func(nva string) bool {
		doc := in.NVAs[nva]
		if doc == nil || !live.Of[nva].State.Usable() || in.Standing[nva].Full.IsZero() {
			return false
		}
		_, announced := doc.Announces(p)
		return announced
	})
}

// Standings returns how the NVAs stand with the Route Servers of the domain, whose documents these are, by target; nil where no prefix is steered past one.
func Standings(d *config.Domain, docs map[string]*state.Target) map[string]peering.Standing {
	if !d.Overrides() {
		return nil
	}
	out := map[string]peering.Standing{}
	for _, r := range d.RouteServers {
		for _, p := range r.Peers {
			var known *state.RouteServer
			if doc := docs[r.Name]; doc != nil {
				known = doc.RouteServer
			}
			out[p.NVA] = out[p.NVA].Join(known.Standing(p.NVA))
		}
	}
	return out
}

// Price returns the price list for writes of the target. The tables of a group pay nothing: one that waits for company while another writes is apart from it, and
// no write saved is worth that.
func Price(d *config.Domain, target string) coalesce.Policy {
	if _, grouped := d.GroupOf(target); grouped {
		return coalesce.Policy{Cap: d.Policy.WriteCap}
	}
	return coalesce.Policy{Price: d.Policy.WritePrice, Cap: d.Policy.WriteCap}
}

// Wants turns choices into wanted routes.
func Wants(choices []selection.Choice) []plan.Want {
	out := make([]plan.Want, len(choices))
	for i, c := range choices {
		out[i] = plan.Want{Prefix: c.Prefix, NextHops: c.NextHops}
	}
	return out
}

// Weigh says what the plan is good for, in prefixes.
func Weigh(in selection.Input, live liveness.View, p plan.Plan) coalesce.Change {
	c := coalesce.Change{Missing: len(p.Added), Better: len(p.Removed)}
	for _, a := range p.Added {
		if in.Domain.ViaOf(a.Prefix) == config.ViaOverride { // without it a Route Server leads to an NVA that does not work
			c.Missing--
			c.Dead++
		}
	}
	for _, m := range p.Changed {
		if Dead(m.From, m.To, func(hop netip.Addr) bool { return Alive(in, live, m.Prefix, hop) }) {
			c.Dead++
		} else {
			c.Better++
		}
	}
	return c
}

// Dead reports whether a move leaves a dead next hop: one, of those that it takes away, that no live announcer of the prefix has. A route without
// any next hop leads nowhere, so leaving it counts too.
func Dead(from, to route.NextHops, alive func(netip.Addr) bool) bool {
	left := from.Without(to)
	if from == to {
		left = from // only the type changes
	}
	return from.Empty() || slices.ContainsFunc(left.Addrs(), func(hop netip.Addr) bool { return !alive(hop) })
}

// Alive reports whether an NVA behind hop is up, or at least not known to be down, and announces p. Behind an address that stands for all NVAs
// of the target are all of them.
func Alive(in selection.Input, live liveness.View, p netip.Prefix, hop netip.Addr) bool {
	how := in.Target.SelectionFor(p)
	for _, nva := range in.Domain.NVAs {
		doc := in.NVAs[nva.Name]
		behind := nva.NextHop(p) == hop || how.NextHop(p) == hop && in.Target.Fed(nva.Name)
		if doc == nil || !behind {
			continue
		}
		_, announced := doc.Announces(p)
		if announced && live.Of[nva.Name].State.Usable() {
			return true
		}
	}
	return false
}
