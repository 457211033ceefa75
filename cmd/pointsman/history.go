package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/azure/blob"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/stage"
	"github.com/pointsman/pointsman/shared/state"
)

type historian struct {
	connection
	domain, prefix, since, output string
	long                          bool
}

func historyCommand() *cobra.Command {
	var h historian
	c := &cobra.Command{
		Use:   "history TARGET",
		Short: "List the writes of a route table",
		Long: `List what was written to a target's route table, oldest first, from the history in the state store: when, why, and what changed; with --long or
--prefix also the events behind it, how long each stage took from the NVA to the end of the write, and the table's ETag. TARGET is the target's name; where several
domains have one of that name, say which with --domain.`,
		Example: `  pointsman history spokes --since 24h
  pointsman history spokes --prefix 10.64.0.0/24 --since 2026-03-01T12:00:00Z
  pointsman history spokes --long
  pointsman history spokes --prefix 10.64.0.0/24 --output json`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return h.run(cmd, args[0]) },
	}
	h.stateFlags(c)
	c.Flags().StringVar(&h.domain, "domain", "", "the target's domain")
	c.Flags().StringVar(&h.prefix, "prefix", "", "only writes that changed this prefix, and only that change")
	c.Flags().StringVar(&h.since, "since", "", "only from then on: a time such as 2026-03-01T12:00:00Z, or a duration before now such as 24h")
	c.Flags().BoolVar(&h.long, "long", false, "all that is known of each write")
	c.Flags().StringVar(&h.output, "output", "text", "text or json (a line each)")
	return c
}

// written is one line of the history, as Reconcile writes it.
type written struct {
	At          time.Time       `json:"at"`
	Domain      string          `json:"domain"`
	Target      string          `json:"target"`
	Table       string          `json:"routeTable,omitempty"`
	Run         string          `json:"run"`
	Cause       string          `json:"cause"`
	Events      []string        `json:"events,omitempty"`
	Traceparent string          `json:"traceparent,omitempty"`
	Observed    time.Time       `json:"observed,omitzero"`
	Convergence float64         `json:"convergenceSeconds,omitempty"`
	Stages      stage.Durations `json:"stages,omitempty"`
	ETagBefore  string          `json:"etagBefore,omitempty"`
	ETagAfter   string          `json:"etagAfter,omitempty"`
	Hands       []outcome.Hand  `json:"hands,omitempty"`
	Adds        []moved         `json:"adds,omitempty"`
	Moves       []moved         `json:"moves,omitempty"`
	Removals    []moved         `json:"removals,omitempty"`

	Approved *state.Approval `json:"approved,omitempty"`
	Order    *state.Said     `json:"order,omitempty"` // the line is an operator's order, and no write
	// A line about a group is no write: all its tables have reached the view.
	Group string   `json:"group,omitempty"`
	View  string   `json:"view,omitempty"`
	Skew  *float64 `json:"skewSeconds,omitempty"`
	// A line about a peer is the end of an operation on a Route Server.
	Hub  string     `json:"virtualHub,omitempty"`
	Peer *peerEnded `json:"peer,omitempty"`
}

// peerEnded is an operation on a peer that has ended.
type peerEnded struct {
	Operation peering.Kind `json:"operation"`
	Name      string       `json:"name"`
	Address   netip.Addr   `json:"address"`
	ASN       uint32       `json:"asn"`
	Seconds   float64      `json:"seconds"`
	Error     string       `json:"error,omitempty"`
}

// String returns the operation as history prints it.
func (p peerEnded) String() string {
	text := fmt.Sprintf("%s, %.0f s", peering.Step{Kind: p.Operation, Name: p.Name, Address: p.Address, ASN: p.ASN}, p.Seconds)
	if p.Error != "" {
		text += ", failed: " + p.Error
	}
	return text
}

type moved struct {
	Prefix string   `json:"prefix"`
	From   string   `json:"from,omitempty"`
	To     string   `json:"to,omitempty"`
	By     []string `json:"by,omitempty"`
}

func (h *historian) run(cmd *cobra.Command, target string) error {
	if err := outputIs(h.output, "text", "json"); err != nil {
		return err
	}
	since, err := sinceTime(h.since, time.Now())
	if err != nil {
		return err
	}
	var only netip.Prefix
	if h.prefix != "" {
		if only, err = route.Parse(h.prefix); err != nil {
			return fmt.Errorf("%w: --prefix: %w", errInput, err)
		}
	}
	ctx, cancel := h.bounded(cmd)
	defer cancel()
	store, err := h.blobs(h.container)
	if err != nil {
		return err
	}
	files, err := historyFiles(ctx, store, h.domain, target, since)
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("%w: nothing was ever written to a target %s", errInput, target)
	}
	for _, file := range files {
		if err = h.print(ctx, cmd.OutOrStdout(), store, file, since, only); err != nil {
			return err
		}
	}
	return nil
}

// sinceTime reads a time, or a duration before now.
func sinceTime(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.Add(-d), nil
	}
	t, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: --since %q is neither a duration such as 24h nor a time such as 2026-03-01T12:00:00Z", errInput, text)
	}
	return t, nil
}

// historyFiles returns the target's history files, oldest first; those that hold nothing since then are left out. None: nothing was ever written.
func historyFiles(ctx context.Context, store *blob.Store, domain, target string, since time.Time) ([]string, error) {
	names, err := store.List(ctx, "history/"+domain)
	if err != nil {
		return nil, stateTrouble(ctx, err)
	}
	return filesOf(names, domain, target, since)
}

// filesOf picks the target's files; the last one at least, so that "nothing since" and "nothing ever" are told apart. domain may be "".
func filesOf(names []string, domain, target string, since time.Time) ([]string, error) {
	var files []string
	for _, name := range names { // history/DOMAIN/TARGET/YEAR-MONTH-DAY.jsonl, or of older versions YEAR-MONTH.jsonl
		parts := strings.Split(name, "/")
		if len(parts) != 4 || parts[2] != target || domain != "" && parts[1] != domain {
			continue
		}
		if len(files) > 0 && !strings.HasPrefix(files[0], "history/"+parts[1]+"/") {
			return nil, fmt.Errorf("%w: domains %s and %s both have a target %s: say which with --domain", errInput, strings.Split(files[0], "/")[1], parts[1], target)
		}
		files = append(files, name)
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(period(a), period(b)) })
	day := since.UTC().Format(time.DateOnly)
	late := slices.DeleteFunc(slices.Clone(files), func(name string) bool {
		p := period(name)
		return p < day[:min(len(p), len(day))]
	})
	if len(late) == 0 {
		return files[max(0, len(files)-1):], nil
	}
	return late, nil
}

// period is the day or the month of a history file. A month comes before its days: that is the order in which a newer version went on.
func period(file string) string { return strings.TrimSuffix(path.Base(file), ".jsonl") }

// again reports whether a line is an order that came before: orders are written at least once.
func again(seen map[string]bool, x written) bool {
	if x.Order == nil {
		return false
	}
	known := seen[x.Order.ID]
	seen[x.Order.ID] = true
	return known
}

func (h *historian) print(ctx context.Context, w io.Writer, store *blob.Store, file string, since time.Time, only netip.Prefix) error {
	data, _, err := store.Read(ctx, file, "")
	if err != nil {
		return stateTrouble(ctx, err)
	}
	n, seen := 0, map[string]bool{}
	for line := range bytes.Lines(data) {
		n++
		var x written
		if err = json.Unmarshal(line, &x); err != nil {
			return fmt.Errorf("%s, line %d: %w", file, n, err)
		}
		if x.At.Before(since) || !x.keep(only) || again(seen, x) {
			continue
		}
		if err = x.print(w, h.output, h.long || only.IsValid()); err != nil {
			return err
		}
	}
	return nil
}

// keep keeps only the changes of one prefix; it reports whether there are any.
func (x *written) keep(only netip.Prefix) bool {
	if !only.IsValid() {
		return true
	}
	found := false
	for _, list := range []*[]moved{&x.Adds, &x.Moves, &x.Removals} {
		var kept []moved
		for _, m := range *list {
			if m.Prefix == only.String() {
				kept, found = append(kept, m), true
			}
		}
		*list = kept
	}
	return found
}

// print prints one write; detailed also each change.
func (x written) print(w io.Writer, output string, detailed bool) error {
	if output == "json" {
		if err := json.NewEncoder(w).Encode(x); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		return nil
	}
	return say(w, "%s", x.text(detailed))
}

func (x written) text(detailed bool) string {
	switch {
	case x.Order != nil:
		return fmt.Sprintf("%s  %s\n", stamp(x.At), spoken(*x.Order))
	case x.Group != "" && x.Skew != nil:
		return fmt.Sprintf("%s  the tables of group %s agree, %.1f s after one another\n", stamp(x.At), x.Group, *x.Skew)
	}
	if x.Peer != nil {
		return fmt.Sprintf("%s  %s\n", stamp(x.At), x.Peer)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s  +%d ~%d -%d  by %s", stamp(x.At), len(x.Adds), len(x.Moves), len(x.Removals), x.Cause)
	if x.Approved != nil {
		fmt.Fprintf(&b, ", approved by %s", x.Approved.Who)
	}
	if !x.Observed.IsZero() {
		fmt.Fprintf(&b, ", %.1f s after the NVA saw it", x.At.Sub(x.Observed).Seconds())
	}
	b.WriteByte('\n')
	if detailed {
		b.WriteString(x.details())
	}
	for _, part := range []struct {
		sign string
		list []moved
	}{{"+", x.Adds}, {"~", x.Moves}, {"-", x.Removals}} {
		for i, m := range part.list {
			if !detailed && i == maxShown {
				fmt.Fprintf(&b, "  %s and %d more\n", part.sign, len(part.list)-maxShown)
				break
			}
			fmt.Fprintf(&b, "  %s %s", part.sign, m)
			if detailed && len(m.By) > 0 {
				fmt.Fprintf(&b, " (said in %s)", strings.Join(m.By, ", "))
			}
			b.WriteByte('\n')
		}
	}
	return b.String()
}

// details are the lines that say what led to a write and where its time went.
func (x written) details() string {
	var b strings.Builder
	line := func(name, text string) {
		if text != "" {
			fmt.Fprintf(&b, "  %s: %s\n", name, text)
		}
	}
	line("events", strings.Join(x.Events, ", "))
	line("stages", x.stages())
	var hands []string
	for _, h := range x.Hands {
		hands = append(hands, h.By+" at "+stamp(h.At))
	}
	line("changed by another hand", strings.Join(hands, ", "))
	etag := x.ETagBefore
	if x.ETagAfter != "" {
		etag += ", then " + x.ETagAfter
	}
	line("ETag before", etag)
	line("run", x.Run)
	return b.String()
}

// stages says how long each stage took.
func (x written) stages() string {
	parts := make([]string, len(x.Stages))
	for i, s := range x.Stages {
		parts[i] = fmt.Sprintf("%s %.2f s", s.Stage, s.Duration.Seconds())
	}
	return strings.Join(parts, ", ")
}

// spoken is an order as people read it: "drain nva-a by jo: firmware".
func spoken(o state.Said) string {
	text := o.Kind
	if of := o.NVA + o.Plan; of != "" { // never both
		text += " " + of
	}
	text += " by " + o.Who
	if o.Why != "" {
		text += ": " + o.Why
	}
	return text
}

// maxShown bounds the changes of one kind that are listed for each write.
const maxShown = 5

// String returns the change as history prints it.
func (m moved) String() string {
	switch {
	case m.From == "":
		return m.Prefix + " to " + m.To
	case m.To == "":
		return m.Prefix + " from " + m.From
	}
	return m.Prefix + " " + m.From + " -> " + m.To
}
