package main

import (
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/status"
	"github.com/pointsman/pointsman/shared/budget"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

func statusCommand() *cobra.Command {
	var conn connection
	var domain, output, poison string
	c := &cobra.Command{
		Use:   "status",
		Short: "Show NVAs, targets and what was last done",
		Long: `Show what the Status function shows, from the documents in the state store: what is believed of each NVA, and what was last done to each target. Rights to read are enough.
The table is for people, json and prometheus for programs.`,
		Example: `  pointsman status --domain hub`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := outputIs(output, "table", "json", "prometheus"); err != nil {
				return err
			}
			ctx, cancel := conn.bounded(cmd)
			defer cancel()
			store, err := conn.documents()
			if err != nil {
				return err
			}
			shelf, err := conn.blobs(poison)
			if err != nil {
				return err
			}
			s := status.Status{Store: store, Lot: lot{ingest.ShelfLot{Shelf: shelf}}, Now: time.Now}
			report, err := s.Report(ctx, domain)
			if err != nil {
				return stateTrouble(ctx, err)
			}
			if domain != "" && len(report.Domains) == 0 {
				return fmt.Errorf("%w: there is no domain %s", errInput, domain)
			}
			return printStatus(cmd.OutOrStdout(), output, report)
		},
	}
	conn.stateFlags(c)
	c.Flags().StringVar(&domain, "domain", "", "only this domain")
	c.Flags().StringVar(&poison, "poison-container", "poison", "container of the parked messages")
	c.Flags().StringVar(&output, "output", "table", "table, json or prometheus")
	return c
}

// lot counts parked messages. The container is made when the first one is parked.
type lot struct{ ingest.ShelfLot }

// Parked implements status.Lot.
func (l lot) Parked(ctx context.Context) (int, error) {
	n, err := l.ShelfLot.Parked(ctx)
	if fault.Code(err) == "ContainerNotFound" { // Blob service error codes
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("container of parked messages: %w", err)
	}
	return n, nil
}

func printStatus(w io.Writer, output string, r status.Report) error {
	switch output {
	case "json":
		return printJSON(w, r)
	case "prometheus":
		if _, err := io.WriteString(w, r.Prometheus()); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	tab := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	row := func(cells ...string) { _, _ = fmt.Fprintln(tab, strings.Join(cells, "\t")) } // the writer keeps its error for Flush
	if r.Parked > 0 {
		row(fmt.Sprintf("%d messages are parked", r.Parked))
	}
	for _, d := range r.Domains {
		domainRows(row, d)
	}
	if err := tab.Flush(); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

func domainRows(row func(...string), d status.Domain) {
	row("domain " + d.Name)
	if d.Error != "" {
		row("  error: " + d.Error)
	}
	if d.Frozen {
		row("  more than half of the NVAs were lost at once (" + strings.Join(d.Lost, ", ") + "): they keep what they carry")
	}
	for _, p := range d.Problems {
		row("  the newest domain file is not valid: " + p.String())
	}
	if r := d.Orders.Refused; r != nil {
		row(fmt.Sprintf("  %d orders were refused, the last one at %s: %s", r.Count, stamp(r.At), r.Reason))
	}
	if len(d.NVAs) > 0 {
		row("  NVA", "LIVENESS", "SINCE", "PREFIXES", "EVENT", "MISSING", "NOTICE")
	}
	for _, n := range d.NVAs {
		row("  "+n.Name, n.Liveness, stamp(n.Since), fmt.Sprint(n.Prefixes), n.Version.String(), fmt.Sprint(n.Missing), notices(n))
	}
	if len(d.Targets) > 0 {
		row("  TARGET", "OUTCOME", "AT", "MANAGED", "ROUTES", "LIMIT", "MESSAGE")
	}
	for _, t := range d.Targets {
		outcome := "never reconciled"
		if !t.Result.At.IsZero() {
			outcome = t.Result.Outcome.String()
		}
		row("  "+t.Name, outcome, stamp(t.Result.At), fmt.Sprint(t.Managed), fmt.Sprint(t.Result.Routes), fmt.Sprint(t.Limit), t.Result.Message)
		for _, text := range decisions(t) {
			row("    " + text)
		}
		if t.RouteServer != nil {
			for _, text := range t.RouteServer.Lines() {
				row("    " + text)
			}
		}
		for _, c := range t.Carried {
			if c.Why != selection.Best.String() {
				row(fmt.Sprintf("    %d prefixes go to %s: %s", len(c.Prefixes), strings.Join(c.NVAs, ", "), c.Why))
			}
		}
		for _, text := range t.Result.Warnings {
			row("    warning: " + text)
		}
		for _, text := range append(t.Result.Blocked, t.Result.Refused...) {
			row("    refused: " + text)
		}
	}
	groupRows(row, d.Groups)
	for _, b := range d.Budgets {
		if b.Share < budget.Short {
			row(fmt.Sprintf("  subscription %s: %.0f %% of its writes are left, dead next hops go first", b.Subscription, 100*b.Share))
		}
	}
}

func groupRows(row func(...string), groups []status.Group) {
	if len(groups) > 0 {
		row("  GROUP", "STATE", "SINCE", "SKEW", "TARGETS", "REASON")
	}
	for _, g := range groups {
		reason := ""
		if g.Because != "" {
			reason = g.Because + ": " + g.Reason
		}
		row("  "+g.Name, g.State, stamp(g.Since), fmt.Sprintf("%.1fs", g.Skew), strings.Join(g.Targets, ", "), reason)
	}
}

// decisions says what operators have said of a target.
func decisions(t status.Target) []string {
	var out []string
	if t.Pause != nil && t.Pause.On {
		out = append(out, spoken(state.Said{Kind: "paused since " + stamp(t.Pause.At), Who: t.Pause.Who, Why: t.Pause.Why}))
	}
	if a := t.Approval; a != nil {
		text := spoken(state.Said{Kind: "approval of plan", Plan: a.Plan, Who: a.Who, Why: a.Why})
		if a.Open() {
			out = append(out, text)
		} else {
			out = append(out, fmt.Sprintf("%s; %s at %s", text, a.End, stamp(a.Ended)))
		}
	}
	return out
}

// notices says what is special about an NVA.
func notices(n status.NVA) string {
	var out []string
	if n.Restarting {
		out = append(out, "restarting")
	}
	if n.Notice != "" {
		out = append(out, n.Notice)
	}
	said := n.Liveness == liveness.Draining.String() || n.Restarting && n.Liveness == liveness.Up.String() // by Notice and Order
	if n.Why != "" && !said {
		out = append(out, n.Why)
	}
	if !n.HoldDown.IsZero() && n.Liveness == liveness.Up.String() {
		out = append(out, "in its hold-down until "+stamp(n.HoldDown))
	}
	if n.Untold {
		out = append(out, selection.Untold.String())
	}
	if n.Order != nil {
		kind := "resumed"
		if n.Order.Drain {
			kind = "drained"
		}
		out = append(out, spoken(state.Said{Kind: kind, Who: n.Order.Who, Why: n.Order.Why}))
	}
	if n.Differs {
		out = append(out, "its RIB differs")
	}
	if c := n.Clone; c != nil {
		text := "a second agent speaks in its name and is refused"
		if c.Epoch < n.Version.Epoch {
			text = "an agent of an older epoch speaks in its name too: the machine was copied, or its epoch went back"
		}
		out = append(out, fmt.Sprintf("%s (boot %s, epoch %d, last at %s)", text, c.Boot, c.Epoch, stamp(c.At)))
	}
	return strings.Join(out, ", ")
}
