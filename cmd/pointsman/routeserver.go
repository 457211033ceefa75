package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/answer"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// serverView is a Route Server as it is now, and what follows from it.
type serverView struct {
	hub   config.RouteServer
	known *state.RouteServer
	plan  peering.Plan
	have  []peering.Peer
}

// serverView reads the peers, then the documents.
func (r *reader) serverView(ctx context.Context, d documents.Domain, hub config.RouteServer) (view, error) {
	v := view{domain: d.Config, target: hub.AsTarget(), server: &serverView{hub: hub}}
	for _, p := range d.Problems {
		v.problems = append(v.problems, p.String())
	}
	var err error
	if v.server.have, err = r.peers.List(ctx, hub.VirtualHub); err != nil {
		return v, tableTrouble(ctx, fmt.Errorf("target %s: %w", hub.Name, err))
	}
	if v.doc, _, err = r.store.Target(ctx, d.Config.Name, v.target); err != nil {
		return v, stateTrouble(ctx, err)
	}
	docs, err := r.store.NVAs(ctx, d.Config)
	if err != nil {
		return v, stateTrouble(ctx, err)
	}
	now := time.Now()
	v.in = selection.Input{Domain: d.Config, Target: v.target, NVAs: docs, Now: now}
	v.selected = selection.Result{Live: liveness.Judge(d.Config, docs, now)}
	v.server.known = v.doc.RouteServer.Copy()
	rules := peering.Rules{NamePrefix: d.Config.Policy.RouteNamePrefix, Owned: v.doc.Owns, MaxPeers: hub.MaxPeers}
	v.server.plan = peering.Make(peering.Wants(d.Config, hub), v.server.have, rules)
	return v, nil
}

// standing reads how the NVAs stand with the domain's Route Servers.
func (r *reader) standing(ctx context.Context, d *config.Domain) (map[string]peering.Standing, error) {
	if !d.Overrides() {
		return nil, nil
	}
	docs := map[string]*state.Target{}
	for _, hub := range d.RouteServers {
		doc, _, err := r.store.Target(ctx, d.Name, hub.AsTarget())
		if err != nil {
			return nil, stateTrouble(ctx, err)
		}
		docs[hub.Name] = doc
	}
	return answer.Standings(d, docs), nil
}

// peersPlan is a plan for a Route Server as it is printed.
type peersPlan struct {
	Domain   string         `json:"domain"`
	Target   string         `json:"target"`
	Hub      string         `json:"virtualHub"`
	Steps    []peering.Step `json:"steps"`          // in order; one is made after the other
	Busy     string         `json:"busy,omitempty"` // the peer that an operation holds: nothing is begun before it has ended
	Blocked  []string       `json:"blocked,omitempty"`
	Warnings []string       `json:"warnings,omitempty"`
	Withheld string         `json:"withheld,omitempty"` // why nothing is begun by itself
	Peers    int            `json:"peers"`              // now
	MaxPeers int            `json:"maxPeers"`
}

// changes reports whether there is anything to do about the target.
func (v view) changed() bool {
	if v.server != nil {
		return !v.server.plan.Done()
	}
	return !v.plan.Empty()
}

func (v view) plannedPeers() peersPlan {
	out := peersPlan{
		Domain: v.domain.Name, Target: v.target.Name, Hub: v.server.hub.VirtualHub, Steps: v.server.plan.Steps, Busy: v.server.plan.Busy, Withheld: v.withheld(),
		Peers: len(v.server.have), MaxPeers: v.server.hub.MaxPeers,
	}
	for _, b := range v.server.plan.Blocked {
		out.Blocked = append(out.Blocked, b.String())
	}
	for _, p := range v.server.hub.Peers {
		l, looked := v.server.known.Of(p.NVA)
		if looked && l.Problem != "" {
			out.Warnings = append(out.Warnings, "what was learned from "+p.NVA+" is not known: "+l.Problem)
		}
		for _, h := range l.Heard {
			if !h.Same() {
				out.Warnings = append(out.Warnings, "learned from "+p.NVA+" at "+stamp(l.At)+" by "+h.String())
			}
		}
	}
	for _, p := range v.problems {
		out.Warnings = append(out.Warnings, "the newest domain file is not valid, the last valid one is in force: "+p)
	}
	return out
}

// text prints the plan.
func (p peersPlan) text(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(tab, format+"\n", args...) } // the writer keeps its error for Flush
	line("domain %s, target %s: %d operations on peers; %d peers now, %d allowed", p.Domain, p.Target, len(p.Steps), p.Peers, p.MaxPeers)
	if p.Withheld != "" {
		line("  withheld: %s", p.Withheld)
	}
	if p.Busy != "" {
		line("  in work: %s", p.Busy)
	}
	for _, s := range p.Steps {
		line("  %s %s\t%s\tAS %d", map[peering.Kind]string{peering.Create: "+", peering.Replace: "~", peering.Delete: "-"}[s.Kind], s.Name, s.Address, s.ASN)
	}
	for _, text := range p.Blocked {
		line("  blocked: %s", text)
	}
	for _, text := range p.Warnings {
		line("  warning: %s", text)
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// explainPeers says how a prefix stands with a Route Server.
func (v view) explainPeers(p netip.Prefix) explanation {
	wanted := v.target.Wants(p) && v.domain.ViaOf(p).Announced() && p.Addr().Is4()
	e := explanation{
		Prefix: p.String(), Domain: v.domain.Name, Target: v.target.Name, Wanted: wanted, Via: v.domain.ViaOf(p).String(), Candidates: v.suitors(p), Mode: "bgp",
		Plan: "the NVAs announce it by BGP", LastWrite: v.doc.Result.At,
	}
	if !v.doc.Result.At.IsZero() {
		e.Outcome = v.doc.Result.Outcome.String()
	}
	for _, peer := range v.server.hub.Peers {
		l, looked := v.server.known.Of(peer.NVA)
		switch {
		case !looked:
			e.Learned = append(e.Learned, "nobody has looked yet what was learned from "+peer.NVA)
		case l.Problem != "":
			e.Learned = append(e.Learned, "what was learned from "+peer.NVA+" is not known: "+l.Problem)
		case l.Same():
			e.Learned = append(e.Learned, fmt.Sprintf("both instances had at %s all that %s announces", stamp(l.At), peer.NVA))
		default:
			var parts []string
			for _, h := range l.Heard {
				if !h.Same() {
					parts = append(parts, h.String())
				}
			}
			e.Learned = append(e.Learned, "learned from "+peer.NVA+" at "+stamp(l.At)+" by "+strings.Join(parts, "; "))
		}
	}
	return e
}
