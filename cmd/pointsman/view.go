package main

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/azure/routeserver"
	"github.com/pointsman/pointsman/azure/routetable"
	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/answer"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/drift"
	"github.com/pointsman/pointsman/shared/group"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// reader reads what plan and explain go by: the documents and the tables, with read rights only.
type reader struct {
	connection
	domain, target, file string

	store  *documents.Store
	routes *routetable.Client
	peers  *routeserver.Client
}

func (r *reader) flags(cmd *cobra.Command) {
	r.stateFlags(cmd)
	r.tableFlags(cmd)
	cmd.Flags().StringVar(&r.domain, "domain", "", "only this domain")
	cmd.Flags().StringVar(&r.target, "target", "", "only this target")
}

// view is one target as it is now, and what follows from it.
type view struct {
	domain   *config.Domain
	problems []string // of the newest domain file, if it is not the one in force
	target   config.Target
	doc      *state.Target
	table    plan.Table
	in       selection.Input
	rules    plan.Rules
	selected selection.Result
	plan     plan.Plan
	held     []state.Drift // routes that another hand changed and that stay as they are

	ownSubnet error   // why the table is never written; nil: it may be
	unread    []error // subnets of which that is not known

	server *serverView // of a Route Server; nil: the target is a route table
}

// views reads all that is asked for, table first, as Reconcile does.
func (r *reader) views(ctx context.Context) ([]view, error) {
	var err error
	if r.store, err = r.documents(); err != nil {
		return nil, err
	}
	if r.routes, err = r.tables(); err != nil {
		return nil, err
	}
	if r.peers, err = r.servers(); err != nil {
		return nil, err
	}
	domains, err := r.domains(ctx)
	if err != nil {
		return nil, err
	}
	var out []view
	for _, d := range domains {
		for _, t := range d.Config.Targets {
			if r.target != "" && r.target != t.Name {
				continue
			}
			v, failed := r.view(ctx, d, t)
			if failed != nil {
				return nil, failed
			}
			out = append(out, v)
		}
		for _, hub := range d.Config.RouteServers {
			if r.target != "" && r.target != hub.Name {
				continue
			}
			v, failed := r.serverView(ctx, d, hub)
			if failed != nil {
				return nil, failed
			}
			out = append(out, v)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("%w: there is no such target: --domain %q, --target %q", errInput, r.domain, r.target)
	}
	return out, nil
}

// domains returns the domain files that are asked for.
func (r *reader) domains(ctx context.Context) ([]documents.Domain, error) {
	if r.file != "" {
		files, err := readDomains([]string{r.file})
		if err != nil {
			return nil, err
		}
		return []documents.Domain{{Config: files[0].domain}}, nil
	}
	return readAll(ctx, r.store, r.domain)
}

// readAll returns one domain in force, or all.
func readAll(ctx context.Context, store *documents.Store, only string) ([]documents.Domain, error) {
	names := []string{only}
	if only == "" {
		var err error
		if names, err = store.Domains(ctx); err != nil {
			return nil, stateTrouble(ctx, err)
		}
	}
	var out []documents.Domain
	for _, name := range names {
		d, err := store.Domain(ctx, name)
		if err != nil {
			return nil, stateTrouble(ctx, err)
		}
		out = append(out, d)
	}
	return out, nil
}

func (r *reader) view(ctx context.Context, d documents.Domain, t config.Target) (view, error) {
	v := view{domain: d.Config, target: t}
	for _, p := range d.Problems {
		v.problems = append(v.problems, p.String())
	}
	var err error
	if v.table, err = r.routes.Get(ctx, t.RouteTable); err != nil {
		return v, tableTrouble(ctx, fmt.Errorf("target %s: %w", t.Name, err))
	}
	if v.doc, _, err = r.store.Target(ctx, d.Config.Name, t); err != nil {
		return v, stateTrouble(ctx, err)
	}
	docs, err := r.store.NVAs(ctx, d.Config)
	if err != nil {
		return v, stateTrouble(ctx, err)
	}
	now := time.Now()
	stays := false
	if !v.doc.Approval.Open() {
		if stays, err = r.stays(ctx, d.Config, t); err != nil {
			return v, err
		}
	}
	standing, err := r.standing(ctx, d.Config)
	if err != nil {
		return v, err
	}
	v.rules = answer.Rules(d.Config, t, v.doc.Owns)
	v.in = selection.Input{
		Domain: d.Config, Target: t, NVAs: docs, Installed: v.rules.Installed(v.table), Now: now, NoECMP: v.doc.NoECMP.Holds(d.ETag, now), Stay: stays, Standing: standing,
	}
	v.selected = selection.Select(v.in)
	v.rules = answer.Guarded(v.rules, v.in, v.selected.Live)
	if a := v.doc.Approval; a.Open() && a.Override {
		v.rules.Override = a.Plan
	}
	v.unread, v.ownSubnet = r.ownSubnet(ctx, v)
	found := drift.Find(v.table, v.rules, v.doc.Written, v.doc.Maybe...)
	v.plan, v.held = drift.Plan(v.table, answer.Wants(v.selected.Choices), v.rules, found, d.Config.Policy.Drift == config.DriftRepair)
	return v, nil
}

// ownSubnet says whether the table is in force in the subnet of an NVA.
func (r *reader) ownSubnet(ctx context.Context, v view) (unread []error, refused error) {
	if v.domain.GuardsOf(v.target).OwnSubnet == config.OwnSubnetOff || len(v.target.Subnets) > 0 {
		return nil, nil
	}
	var known []plan.Subnet
	for _, id := range v.table.Subnets {
		prefixes, err := r.routes.Subnet(ctx, id)
		if err != nil {
			unread = append(unread, err)
			continue
		}
		known = append(known, plan.Subnet{ID: id, Prefixes: prefixes})
	}
	return unread, plan.OwnSubnet(known, v.domain.Inside)
}

// withheld says why the plan is not written by itself; "" if it is.
func (v view) withheld() string {
	a := v.doc.Approval
	switch p := v.doc.Pause; {
	case !v.changed():
	case v.ownSubnet != nil:
		return v.ownSubnet.Error()
	case p.On:
		return "nothing is written: " + spoken(state.Said{Kind: "paused since " + stamp(p.At), Who: p.Who, Why: p.Why})
	case v.target.Apply == config.ApplyObserve:
		return "nothing is written: the domain file says apply: observe"
	case v.target.Apply == config.ApplyApprove && (!a.Open() || a.Plan != v.plan.Hash()):
		return fmt.Sprintf("nothing is written before: pointsman approve %s --domain %s --plan %s", v.target.Name, v.domain.Name, v.plan.Hash())
	}
	return ""
}

// stays reports whether another target of the group cannot be written: then nothing is improved.
func (r *reader) stays(ctx context.Context, d *config.Domain, t config.Target) (bool, error) {
	for _, unit := range d.Units([]config.Target{t}) {
		for _, other := range unit {
			if other.Name == t.Name {
				continue
			}
			doc, _, err := r.store.Target(ctx, d.Name, other)
			if err != nil {
				return false, stateTrouble(ctx, err)
			}
			if group.Hindered(doc) {
				return true, nil
			}
		}
	}
	return false, nil
}

// choice returns what was chosen for a prefix.
func (v view) choice(p netip.Prefix) (selection.Choice, bool) {
	i := slices.IndexFunc(v.selected.Choices, func(c selection.Choice) bool { return c.Prefix == p })
	if i < 0 {
		return selection.Choice{}, false
	}
	return v.selected.Choices[i], true
}

// owner returns the NVA behind a next hop.
func (v view) owner(hop netip.Addr) (config.NVA, bool) {
	for _, n := range v.domain.NVAs {
		if slices.Contains(n.NextHops, hop) {
			return n, true
		}
	}
	return config.NVA{}, false
}

// stamp is a time as all commands print it.
func stamp(t time.Time) string {
	if t.IsZero() {
		return "never"
	}
	return t.UTC().Format("2006-01-02T15:04:05Z")
}
