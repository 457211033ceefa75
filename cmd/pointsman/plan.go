package main

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/selection"
)

func planCommand() *cobra.Command {
	var r reader
	var output string
	c := &cobra.Command{
		Use:   "plan",
		Short: "Say what would be written to the route tables now",
		Long: `Read the state store and the route tables, and print what the function app would write, with the reason for each route. Nothing is ever written; rights to
read are enough. With -f the plan is made with a domain file that is not in force yet.

The exit code is 0 if there is nothing to change and 2 if there is.`,
		Example: `  pointsman plan --domain hub
  pointsman plan -f hub.yaml --output json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := outputIs(output, "text", "json"); err != nil {
				return err
			}
			ctx, cancel := r.bounded(cmd)
			defer cancel()
			views, err := r.views(ctx)
			if err != nil {
				return err
			}
			return printPlans(cmd.OutOrStdout(), output, views)
		},
	}
	r.flags(c)
	c.Flags().StringVarP(&r.file, "file", "f", "", "plan with this domain file instead of the one in force")
	c.Flags().StringVar(&output, "output", "text", "text or json")
	return c
}

// targetPlan is a plan as it is printed.
type targetPlan struct {
	Domain   string          `json:"domain"`
	Target   string          `json:"target"`
	Table    string          `json:"routeTable"`
	Added    []plannedChange `json:"added"`
	Changed  []plannedChange `json:"changed"`
	Removed  []plannedChange `json:"removed"`
	Blocked  []string        `json:"blocked,omitempty"`  // wanted prefixes that somebody else's route holds
	Refused  []string        `json:"refused,omitempty"`  // what a guard or the domain file does not let through
	Warnings []string        `json:"warnings,omitempty"` // what a person should look at
	Routes   int             `json:"routes"`             // afterwards, unmanaged ones included
	Limit    int             `json:"limit"`
	Plan     string          `json:"plan,omitempty"`     // its hash, which approvals name
	Withheld string          `json:"withheld,omitempty"` // why it is not written by itself
}

type plannedChange struct {
	Prefix string `json:"prefix"`
	Name   string `json:"name"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
	Reason string `json:"reason"`
}

func printPlans(w io.Writer, output string, views []view) error {
	plans := make([]printable, len(views))
	changed := false
	for i, v := range views {
		plans[i] = v.planned()
		if v.server != nil {
			plans[i] = v.plannedPeers()
		}
		changed = changed || v.changed()
	}
	if err := writePlans(w, output, plans); err != nil {
		return err
	}
	if changed {
		return errChanges
	}
	return nil
}

// printable is a plan of a route table or of a Route Server.
type printable interface{ text(w io.Writer) error }

func writePlans(w io.Writer, output string, plans []printable) error {
	if output == "json" {
		return printJSON(w, plans)
	}
	for _, p := range plans {
		if err := p.text(w); err != nil {
			return err
		}
	}
	return nil
}

func (v view) planned() targetPlan {
	out := targetPlan{
		Domain: v.domain.Name, Target: v.target.Name, Table: v.target.RouteTable, Routes: v.plan.Routes, Limit: v.target.Limit,
		Added: v.changes(v.plan.Added), Changed: v.changes(v.plan.Changed), Removed: v.changes(v.plan.Removed),
	}
	out.Plan, out.Withheld = v.plan.Hash(), v.withheld()
	for _, b := range v.plan.Blocked {
		out.Blocked = append(out.Blocked, fmt.Sprintf("%s is held by route %s, which is not Pointsman's", b.Prefix, b.Name))
	}
	for _, r := range v.plan.Refused {
		out.Refused = append(out.Refused, r.Text)
	}
	for _, r := range v.selected.Refused {
		out.Refused = append(out.Refused, r.String())
	}
	if v.in.NoECMP {
		out.Warnings = append(out.Warnings, "prefixes of mode ecmp get one next hop each: "+v.doc.NoECMP.Message)
	}
	if v.selected.Live.Frozen {
		out.Warnings = append(out.Warnings, "more than half of the NVAs were lost at once, they keep what they carry: "+strings.Join(v.selected.Live.Lost, ", "))
	}
	for _, h := range v.held {
		out.Warnings = append(out.Warnings, "another hand changed a managed route, and it stays so (policy.drift: report): "+h.String())
	}
	for _, err := range v.unread {
		out.Warnings = append(out.Warnings, "whether the table is that of an NVA's own subnet is not known: "+err.Error())
	}
	if advice := v.domain.WarrantAdvice(); advice != "" {
		out.Warnings = append(out.Warnings, advice)
	}
	for _, p := range v.problems {
		out.Warnings = append(out.Warnings, "the newest domain file is not valid, the last valid one is in force: "+p)
	}
	return out
}

func (v view) changes(list []plan.Change) []plannedChange {
	out := make([]plannedChange, len(list))
	for i, c := range list {
		out[i] = plannedChange{Prefix: c.Prefix.String(), Name: c.Name, From: c.From.String(), To: c.To.String(), Reason: v.reason(c)}
	}
	return out
}

// reason says why a route changes: who carries the prefix now, and what is wrong with who did.
func (v view) reason(c plan.Change) string {
	var parts []string
	if chosen, ok := v.choice(c.Prefix); ok {
		parts = append(parts, because(v.in.SelectionFor(c.Prefix), chosen))
	} else {
		parts = append(parts, "no NVA that may announce it does")
	}
	for _, hop := range c.From.Without(c.To).Addrs() {
		if past := v.past(c.Prefix, hop); past != "" {
			parts = append(parts, past)
		}
	}
	return strings.Join(parts, "; ")
}

// because says who was chosen, and by which rule.
func because(how config.Selection, c selection.Choice) string {
	names := strings.Join(c.NVAs, ", ")
	if how.Mode == config.ModeNextHopIP {
		return fmt.Sprintf("%s stands for %s, which %s", c.NextHops, names, rule(how, c))
	}
	return names + " " + rule(how, c)
}

// rule puts the rule that chose into words.
func rule(how config.Selection, c selection.Choice) string {
	several := len(c.NVAs) > 1
	switch c.Reason {
	case selection.Best:
		switch {
		case how.Mode == config.ModeSpread:
			return "is the one that this site's traffic is dealt to"
		case how.Mode == config.ModeNextHopIP && several:
			return "are up"
		case how.Mode == config.ModeNextHopIP:
			return "is up"
		case several:
			return "are the best that are up, and share it"
		}
		return "is the best that is up"
	case selection.Kept:
		return number(several, "has it, and no better one is to be trusted yet", "have it, and no better ones are to be trusted yet")
	case selection.Returning:
		return number(several, "is in its hold-down, but no other is up", "are in their hold-down, but no others are up")
	case selection.LastHolder:
		return number(several, "is not up, and neither is any other", "are not up, and neither is any other")
	}
	return c.Reason.String()
}

func number(several bool, one, many string) string {
	if several {
		return many
	}
	return one
}

// past says what is wrong with the NVA behind a next hop, "" if nothing is.
func (v view) past(p netip.Prefix, hop netip.Addr) string {
	nva, known := v.owner(hop)
	if v.target.SelectionFor(p).NextHop(p) == hop {
		return ""
	}
	if !known {
		return fmt.Sprintf("%s is no next hop of the domain file", hop)
	}
	b := v.selected.Live.Of[nva.Name]
	doc := v.in.NVAs[nva.Name]
	switch {
	case b.State != liveness.Up:
		return nva.Name + " is " + b.String()
	case doc != nil:
		if _, announces := doc.Announces(p); !announces {
			return nva.Name + " no longer announces it"
		}
	}
	return ""
}

// text prints the plan as Terraform does.
func (t targetPlan) text(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(tab, format+"\n", args...) } // the writer keeps its error for Flush
	line("domain %s, target %s: %d to add, %d to change, %d to remove; %d routes then, %d allowed",
		t.Domain, t.Target, len(t.Added), len(t.Changed), len(t.Removed), t.Routes, t.Limit)
	if t.Plan != "" {
		line("  plan %s", t.Plan)
	}
	if t.Withheld != "" {
		line("  withheld: %s", t.Withheld)
	}
	for _, c := range t.Added {
		line("  + %s\tto %s\t%s", c.Prefix, c.To, c.Reason)
	}
	for _, c := range t.Changed {
		line("  ~ %s\t%s -> %s\t%s", c.Prefix, c.From, c.To, c.Reason)
	}
	for _, c := range t.Removed {
		line("  - %s\tfrom %s\t%s", c.Prefix, c.From, c.Reason)
	}
	for _, list := range []struct {
		title string
		lines []string
	}{{"blocked", t.Blocked}, {"refused", t.Refused}, {"warning", t.Warnings}} {
		for _, text := range list.lines {
			line("  %s: %s", list.title, text)
		}
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
