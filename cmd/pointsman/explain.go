package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
)

func explainCommand() *cobra.Command {
	var r reader
	var output string
	c := &cobra.Command{
		Use:   "explain PREFIX...",
		Short: "Say why a prefix has the next hop that it has",
		Long: `Read the state store and the route tables, and say of each prefix who announces it, what is believed of them and since when, which of them is chosen by which rule, what is
installed, since when and because of which event, and what stands in the way. Nothing is ever written.`,
		Example: `  pointsman explain 10.64.0.0/24 --domain hub`,
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := outputIs(output, "text", "json"); err != nil {
				return err
			}
			prefixes := make([]netip.Prefix, len(args))
			for i, arg := range args {
				p, err := route.Parse(arg)
				if err != nil {
					return fmt.Errorf("%w: %w", errInput, err)
				}
				prefixes[i] = p
			}
			ctx, cancel := r.bounded(cmd)
			defer cancel()
			views, err := r.views(ctx)
			if err != nil {
				return err
			}
			all, err := r.explanations(ctx, views, prefixes)
			if err != nil {
				return err
			}
			return printExplanations(cmd.OutOrStdout(), output, all)
		},
	}
	r.flags(c)
	c.Flags().StringVar(&output, "output", "text", "text or json")
	return c
}

// explanation is all that is known of one prefix in one target.
type explanation struct {
	Prefix     string     `json:"prefix"`
	Domain     string     `json:"domain"`
	Target     string     `json:"target"`
	Wanted     bool       `json:"wanted"` // the domain file lets the prefix into the target
	Via        string     `json:"via"`    // what brings it into the VNet
	Candidates []suitor   `json:"candidates"`
	Mode       string     `json:"mode"` // how the domain file has next hops chosen
	Chosen     []string   `json:"chosen,omitempty"`
	NextHops   string     `json:"nextHops,omitempty"` // of the chosen ones; several with commas between them
	Rule       string     `json:"rule,omitempty"`
	Because    string     `json:"because,omitempty"` // what keeps those from it that are preferred
	Installed  *installed `json:"installed,omitempty"`
	LastChange *change    `json:"lastChange,omitempty"` // of the route, from the history
	Plan       string     `json:"plan"`
	Refused    []string   `json:"refused,omitempty"`
	LastWrite  time.Time  `json:"lastReconcile,omitzero"`
	Outcome    string     `json:"outcome,omitempty"`
	Learned    []string   `json:"learned,omitempty"` // how a Route Server stands with its peers
}

// suitor is one NVA with what it says of the prefix.
type suitor struct {
	NVA        string    `json:"nva"`
	NextHop    string    `json:"nextHop,omitempty"`
	Preference int       `json:"preference"`
	Announces  bool      `json:"announces"`
	Metric     uint32    `json:"metric"`
	Origin     string    `json:"origin,omitempty"`
	SetBy      string    `json:"setBy,omitempty"` // epoch/seq of the event
	Liveness   string    `json:"liveness"`
	Since      time.Time `json:"since,omitzero"`
	Why        string    `json:"why,omitempty"` // the evidence for the liveness
	HoldDown   time.Time `json:"holdDownUntil,omitzero"`
	Refused    string    `json:"refused,omitempty"`
}

type installed struct {
	Name    string `json:"name"`
	NextHop string `json:"nextHop,omitempty"`
	Type    string `json:"type"`
	Managed bool   `json:"managed"`
}

// explanations explains each prefix in each target, prefix by prefix.
func (r *reader) explanations(ctx context.Context, views []view, prefixes []netip.Prefix) ([]explanation, error) {
	names := make([]string, len(prefixes))
	for i, p := range prefixes {
		names[i] = p.String()
	}
	blobs, err := r.blobs(r.container)
	if err != nil {
		return nil, err
	}
	changes := make([]map[string]change, len(views))
	for i, v := range views {
		if changes[i], err = lastChanges(ctx, blobs, v.domain.Name, v.target.Name, names); err != nil {
			return nil, err
		}
	}
	var all []explanation
	for _, p := range prefixes {
		for i, v := range views {
			e := v.explain(p)
			if v.server != nil {
				e = v.explainPeers(p)
			}
			if c, known := changes[i][p.String()]; known {
				e.LastChange = &c
			}
			all = append(all, e)
		}
	}
	return all, nil
}

func printExplanations(w io.Writer, output string, all []explanation) error {
	if output == "json" {
		return printJSON(w, all)
	}
	for _, e := range all {
		if err := e.text(w); err != nil {
			return err
		}
	}
	return nil
}

func (v view) explain(p netip.Prefix) explanation {
	e := explanation{
		Prefix: p.String(), Domain: v.domain.Name, Target: v.target.Name, Wanted: v.target.Wants(p) && v.domain.ViaOf(p) != config.ViaRouteServer, Via: v.domain.ViaOf(p).String(), Candidates: v.suitors(p), Installed: v.installed(p), Plan: v.planFor(p),
		LastWrite: v.doc.Result.At,
	}
	if !v.doc.Result.At.IsZero() {
		e.Outcome = v.doc.Result.Outcome.String()
	}
	how := v.in.SelectionFor(p)
	e.Mode = how.Mode.String()
	if c, ok := v.choice(p); ok {
		e.Chosen, e.NextHops, e.Rule = c.NVAs, c.NextHops.String(), rule(how, c)
		if len(c.Passed) > 0 || slices.ContainsFunc(c.NVAs, func(name string) bool { return v.selected.Live.Of[name].State != liveness.Up }) {
			e.Because = v.selected.Because(c)
		}
	}
	if how.Mode == config.ModeECMP && v.in.NoECMP {
		e.Refused = append(e.Refused, "several next hops: "+v.doc.NoECMP.Message)
	}
	for _, b := range v.plan.Blocked {
		if b.Prefix == p {
			e.Refused = append(e.Refused, "route "+b.Name+" holds the prefix, which is not Pointsman's")
		}
	}
	for _, r := range v.plan.Refused {
		e.Refused = append(e.Refused, r.Text)
	}
	return e
}

// suitors returns the NVAs of the domain, the preferred ones first.
func (v view) suitors(p netip.Prefix) []suitor {
	var out []suitor
	for _, n := range v.domain.NVAs {
		out = append(out, v.suitor(n, p))
	}
	slices.SortStableFunc(out, func(a, b suitor) int {
		return cmp.Or(cmp.Compare(b.Preference, a.Preference), cmp.Compare(a.Metric, b.Metric), cmp.Compare(a.NVA, b.NVA))
	})
	return out
}

func (v view) suitor(n config.NVA, p netip.Prefix) suitor {
	b := v.selected.Live.Of[n.Name]
	s := suitor{NVA: n.Name, Preference: n.Preference, Liveness: b.State.String(), Since: b.Since, Why: b.Why}
	if hop := n.NextHop(p); hop.IsValid() {
		s.NextHop = hop.String()
	}
	doc := v.in.NVAs[n.Name]
	if doc == nil {
		return s
	}
	if f, known := doc.Facts[p]; known {
		s.Announces, s.Metric, s.Origin, s.SetBy = !f.Withdrawn, f.Attrs.Metric, f.Attrs.Origin, f.Version.String()
	}
	if b.State == liveness.Up {
		s.HoldDown = b.Trusted
	}
	s.Refused = v.refusal(n, p, s.Announces)
	return s
}

// refusal says why an announcement is not used, or "".
func (v view) refusal(n config.NVA, p netip.Prefix, announces bool) string {
	if !announces {
		return ""
	}
	if !v.target.Fed(n.Name) {
		return "it is not one of the target's NVAs"
	}
	for _, r := range v.selected.Refused {
		if r.NVA == n.Name && (r.Prefix == p || !r.Prefix.IsValid() && !selection.Carries(v.in.SelectionFor(p), n, p, v.in.Installed[p])) {
			return r.Why
		}
	}
	return ""
}

// installed returns the route that the table has for exactly this prefix.
func (v view) installed(p netip.Prefix) *installed {
	for _, r := range v.table.Routes {
		if r.Prefix == p {
			return &installed{Name: r.Name, NextHop: r.NextHops.String(), Type: string(r.Type), Managed: v.rules.Managed(r)}
		}
	}
	return nil
}

// planFor says what the next write does to the prefix.
func (v view) planFor(p netip.Prefix) string {
	for _, list := range [][]plan.Change{v.plan.Added, v.plan.Changed, v.plan.Removed} {
		for _, c := range list {
			if c.Prefix != p {
				continue
			}
			if !c.To.Empty() {
				return "the next write gives it " + c.To.String()
			}
			return "the next write removes it"
		}
	}
	return "nothing to change"
}

func (e explanation) text(w io.Writer) error {
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(tab, format+"\n", args...) } // the writer keeps its error for Flush
	line("%s in domain %s, target %s", e.Prefix, e.Domain, e.Target)
	if !e.Wanted {
		line("  the domain file keeps it out of this target (prefixes, or via %s)", e.Via)
	}
	if e.Wanted && e.Via != config.ViaUDR.String() {
		line("  it goes via %s", e.Via)
	}
	for _, s := range e.Candidates {
		line("  %s\tpreference %d\t%s\t%s\t%s", s.NVA, s.Preference, s.word(), s.life(), s.NextHop)
	}
	if e.Learned != nil {
		for _, text := range e.Learned {
			line("  %s", text)
		}
		line("  plan: %s", e.Plan)
		return flush(tab)
	}
	if len(e.Chosen) > 0 {
		line("  chosen: %s %s (%s)", strings.Join(e.Chosen, ", "), e.Rule, e.Mode)
		if e.Because != "" {
			line("  because: %s", e.Because)
		}
	} else {
		line("  chosen: none")
	}
	if e.Installed != nil {
		line("  installed: %s", e.Installed)
	} else {
		line("  installed: no route of exactly this prefix")
	}
	if e.Installed != nil && e.Installed.Managed || e.LastChange != nil {
		line("  last change: %s", e.LastChange)
	}
	for _, r := range e.Refused {
		line("  refused: %s", r)
	}
	line("  plan: %s", e.Plan)
	if e.Outcome != "" {
		line("  last reconcile: %s at %s", e.Outcome, stamp(e.LastWrite))
	}
	return flush(tab)
}

func flush(tab *tabwriter.Writer) error {
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// word says what the NVA says of the prefix.
func (s suitor) word() string {
	switch {
	case s.SetBy == "":
		return "never announced it"
	case !s.Announces:
		return "withdrew it (event " + s.SetBy + ")"
	}
	text := fmt.Sprintf("announces it, metric %d (event %s)", s.Metric, s.SetBy)
	if s.Refused != "" {
		text += ", refused: " + s.Refused
	}
	return text
}

func (s suitor) life() string {
	text := s.Liveness
	if !s.Since.IsZero() {
		text += " since " + stamp(s.Since)
	}
	if s.Why != "" {
		text += " (" + s.Why + ")"
	}
	if !s.HoldDown.IsZero() {
		text += ", hold-down until " + stamp(s.HoldDown)
	}
	return text
}

// String returns the route as explain prints it.
func (i *installed) String() string {
	whose := "Pointsman's"
	if !i.Managed {
		whose = "not Pointsman's"
	}
	return strings.Join(strings.Fields(fmt.Sprintf("%s %s by route %s (%s)", i.Type, i.NextHop, i.Name, whose)), " ")
}
