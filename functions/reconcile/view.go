package reconcile

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/answer"
	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/group"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// view is one consistent answer: what was read, and what follows from it.
type view struct {
	at        time.Time
	domain    documents.Domain
	target    config.Target
	docs      map[string]*state.NVA
	revisions map[string]uint64
	installed map[netip.Prefix]route.NextHops
	noECMP    *state.ECMPRefusal // nil: several next hops may be tried
	table     plan.Table
	doc       *state.Target // the target's document that rules go by
	rules     plan.Rules
	selected  selection.Result
	id        string // names what the selection went by (package group)
	fellows   fellows
	standing  map[string]peering.Standing // how the NVAs stand with Route Servers, where that counts
	plan      plan.Plan
	drift     []state.Drift    // managed routes that another hand has changed
	held      []state.Drift    // those of them that stay as they are
	approval  state.Approval   // that was open; the zero value: none
	account   coalesce.Account // when the plan waits
	fireAt    time.Time
}

// view reads the documents, after the table, and plans.
func (x *run) view(ctx context.Context, table plan.Table) (view, error) {
	d, err := x.Store.Domain(ctx, x.wake.Domain)
	if err != nil {
		return view{}, err
	}
	docs, err := x.Store.NVAs(ctx, d.Config)
	if err != nil {
		return view{}, err
	}
	if t, known := d.Config.Target(x.wake.Target); known && config.SameTable(t.RouteTable, x.target.RouteTable) {
		x.target = t // the newest limits and members; another table is another run's work
	}
	rules := answer.Rules(d.Config, x.target, x.doc.Owns)
	if x.full != nil {
		rules.Limit = min(rules.Limit, len(table.Routes))
	}
	x.domain = d.Config
	f, err := x.fellows(ctx)
	if err != nil {
		return view{}, err
	}
	standing, err := x.standing(ctx, d.Config)
	if err != nil {
		return view{}, err
	}
	v := view{
		standing: standing, at: x.Now(), domain: d, target: x.target, docs: docs, revisions: revisions(docs), installed: rules.Installed(table), table: table, doc: x.doc, rules: rules,
		noECMP: x.doc.NoECMP, fellows: f, approval: x.open(),
	}
	if x.noECMP != nil {
		v.noECMP = x.noECMP
	}
	if !v.noECMP.Holds(d.ETag, v.at) {
		v.noECMP = nil
	}
	v.selected = v.selectFrom(d, docs)
	v.rules = answer.Guarded(rules, v.input(d, docs), v.selected.Live)
	v.rules.Override = override(v.approval)
	v.id = group.View(d.Config, x.target, v.selected.Live, v.at)
	v.plan = x.hold(&v, answer.Wants(v.selected.Choices))
	return v, nil
}

// selectFrom answers for the routes that were installed when the table was read.
func (v view) selectFrom(d documents.Domain, docs map[string]*state.NVA) selection.Result {
	return selection.Select(v.input(d, docs))
}

func (v view) input(d documents.Domain, docs map[string]*state.NVA) selection.Input {
	return selection.Input{
		Domain: d.Config, Target: v.target, NVAs: docs, Installed: v.installed, NoECMP: v.noECMP.Holds(d.ETag, v.at), Stay: v.stays(), Standing: v.standing, Now: v.at,
	}
}

// stays reports whether nothing is improved, because another table of the group could not follow. A plan that an operator has approved is the operator's decision.
func (v view) stays() bool { return v.approval.ID == "" && v.fellows.hindered() != nil }

// stands reports whether newer documents lead to the same answer.
func (v view) stands(d documents.Domain, docs map[string]*state.NVA, standing map[string]peering.Standing) bool {
	if d.ETag == v.domain.ETag && maps.Equal(revisions(docs), v.revisions) && maps.Equal(standing, v.standing) {
		return true
	}
	if t, known := d.Config.Target(v.target.Name); !known || !config.SameTable(t.RouteTable, v.target.RouteTable) {
		return true // no longer this run's work
	}
	now := v
	now.standing = standing
	return slices.Equal(answer.Wants(now.selectFrom(d, docs).Choices), answer.Wants(v.selected.Choices))
}

// standing reads how the NVAs stand with the Route Servers, where prefixes are steered past those.
func (x *run) standing(ctx context.Context, d *config.Domain) (map[string]peering.Standing, error) {
	if !d.Overrides() {
		return nil, nil
	}
	docs := map[string]*state.Target{}
	for _, r := range d.RouteServers {
		doc, _, err := x.Store.Target(ctx, d.Name, r.AsTarget())
		switch {
		case fault.Is(err, fault.Bug): // one that cannot be understood says nothing: then a Route Server may lead anywhere
		case err != nil:
			return nil, err
		default:
			docs[r.Name] = doc
		}
	}
	return answer.Standings(d, docs), nil
}

func revisions(docs map[string]*state.NVA) map[string]uint64 {
	out := map[string]uint64{}
	for name, doc := range docs {
		out[name] = doc.Revision
	}
	return out
}

// waits reports whether the plan is not yet worth a write, and notes when it will be.
func (x *run) waits(ctx context.Context, v *view) bool {
	var before coalesce.Account
	if p := x.doc.Pending; p != nil && x.done == 0 { // what waited before a write of ours is in that write
		before = coalesce.Account{Since: p.Since, At: p.At, Accrued: p.Accrued, Weight: p.Weight}
	}
	change := answer.Weigh(v.input(v.domain, v.docs), v.selected.Live, v.plan)
	price := answer.Price(v.domain.Config, x.target.Name)
	if change.Urgent() {
		v.fireAt, v.account = price.FireAt(before, change, v.at)
		return false
	}
	left := x.allowance(ctx, v.domain.Config)
	price.Price *= left.price(v.at)
	v.fireAt, v.account = price.FireAt(before, change, v.at)
	v.fireAt = left.later(v, change)
	return v.fireAt.Sub(v.at) > coalesce.MinWait
}

// maxShown bounds each list in the target's document.
const maxShown = 20

// result describes the view; Outcome is what holds if nothing is written.
func (v view) result() state.Result {
	r := state.Result{Outcome: state.Unchanged, Routes: v.plan.Routes}
	for _, b := range v.plan.Blocked {
		r.Blocked = append(r.Blocked, fmt.Sprintf("%s (held by route %s, which is not Pointsman's)", b.Prefix, b.Name))
	}
	for _, refused := range v.selected.Refused {
		r.Refused = append(r.Refused, refused.String())
	}
	for _, refused := range v.plan.Refused {
		r.Outcome, r.Code, r.Message = state.Refused, refused.Code, refused.Text
	}
	r.Blocked, r.Refused, r.Warnings = shorten(r.Blocked), shorten(r.Refused), v.warnings()
	return r
}

// warnings names what a person should look at.
func (v view) warnings() []string {
	var out []string
	if v.selected.Live.Frozen {
		out = append(out, frozen(v.selected.Live))
	}
	for _, n := range v.domain.Config.NVAs {
		if b := v.selected.Live.Of[n.Name]; b.State == liveness.Suspect || b.State == liveness.ControlLost || b.State == liveness.Hold && !v.selected.Live.Frozen {
			out = append(out, n.Name+" is "+b.String())
		}
	}
	last := 0
	for _, c := range v.selected.Choices {
		if c.Reason == selection.LastHolder {
			last++
		}
	}
	if last > 0 {
		out = append(out, fmt.Sprintf("%d prefixes have no NVA that is up: they keep their next hop", last))
	}
	if n := v.single(); n > 0 {
		out = append(out, fmt.Sprintf("%d prefixes of mode ecmp have one next hop each, until %s or until the domain file changes: %s", n, v.noECMP.At.Add(state.ECMPRetry).UTC().Format(time.RFC3339), v.noECMP.Message))
	}
	if v.plan.Routes*10 > v.rules.Limit*9 {
		out = append(out, fmt.Sprintf("the table is nearly full: %d of %d routes", v.plan.Routes, v.rules.Limit))
	}
	out = append(out, v.heldWarnings()...)
	if n := v.apart(); n > 0 {
		f := v.fellows.hindered()
		out = append(out, fmt.Sprintf("%d prefixes wait to move to a better NVA until target %s of group %s can be written (%s)", n, f.Name, v.fellows.group.Name, f.Result.Outcome))
	}
	for _, p := range v.domain.Problems {
		out = append(out, "the newest domain file is not valid, the last valid one is in force: "+p.String())
	}
	return shorten(out)
}

// frozen says why nothing moves because of silence.
func frozen(live liveness.View) string {
	return fmt.Sprintf("more than half of the NVAs were lost at once (%s): it is rather the way to them that is broken, so they keep what they carry; drain those that are dead (is the bus, or the agents' way to it, down?)",
		strings.Join(live.Lost, ", "))
}

// single counts the prefixes that would have several next hops if Azure took them.
func (v view) single() int {
	if v.noECMP == nil {
		return 0
	}
	in := v.input(v.domain, v.docs)
	in.NoECMP = false
	n := 0
	for _, c := range selection.Select(in).Choices {
		if c.NextHops.Several() {
			n++
		}
	}
	return n
}

func shorten(list []string) []string {
	if len(list) <= maxShown {
		return list
	}
	return append(list[:maxShown:maxShown], fmt.Sprintf("and %d more", len(list)-maxShown))
}
