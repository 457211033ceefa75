package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/diff"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

// errDiffers says that a replay is not what --expect has.
var errDiffers = errors.New("the replay is not as expected")

type replaying struct {
	config, whatIf string
	tables         []string
	write          time.Duration
	output, expect string
	verify         bool
	state          connection
	live           liveReplay
}

func replayCommand() *cobra.Command {
	var o replaying
	c := &cobra.Command{
		Use:   "replay FILE|URL... --config DOMAIN.yaml",
		Short: "Say what would have been written for a journal of events",
		Long: `Replay a journal of events offline and in virtual time, by the same code that the function app runs, and print the writes that it leads to. FILE is
what the function app keeps below journal/ in the state store, what an agent writes with --record, or what pointsman import prints; - is
the standard input. state:journal/DOMAIN/2026-03-01 is all files of the state store whose names begin so, and https://ACCOUNT.blob.core.windows.net/CONTAINER/journal/DOMAIN/2026-03-01
all of another account's. The form is described in docs/replay.md.

With --what-if the same events are replayed with another domain file too, and both are shown side by side. With --expect the output is compared
with a file; if it differs the difference is printed and the exit code is 1.

With --live the events are sent to a Service Bus queue instead, at the speed at which they came or faster.`,
		Example: `  pointsman replay day.jsonl --config hub.yaml --write-duration 4s
  pointsman replay day.jsonl --config hub.yaml --what-if patient.yaml
  pointsman replay state:journal/hub/2026-03-01 --config hub.yaml`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd, args) },
	}
	c.Flags().StringVar(&o.config, "config", "", "the domain file")
	c.Flags().StringVar(&o.whatIf, "what-if", "", "another domain file to compare with")
	c.Flags().StringArrayVar(&o.tables, "table", nil, "the route table at the start, as az network route-table show prints it: FILE, or TARGET=FILE where there are several targets; without it the table is empty")
	c.Flags().DurationVar(&o.write, "write-duration", 4*time.Second, "how long a write of a route table takes")
	c.Flags().StringVar(&o.output, "output", "table", "table or json")
	c.Flags().BoolVar(&o.verify, "verify", false, "check the signatures of events first, with the keys of --config")
	c.Flags().StringVar(&o.expect, "expect", "", "a file with the output that is expected")
	o.live.flags(c)
	o.state.stateFlags(c)
	return c
}

func (o *replaying) run(cmd *cobra.Command, args []string) error {
	if err := outputIs(o.output, "table", "json"); err != nil {
		return err
	}
	if o.write < 0 {
		return fmt.Errorf("%w: --write-duration is %s: want 0s or more", errInput, o.write)
	}
	files, err := o.state.readJournals(cmd, args)
	if err != nil {
		return err
	}
	events, err := journalOf(files)
	if err != nil {
		return err
	}
	if o.verify {
		if err = verify(files, o.config); err != nil {
			return err
		}
	}
	if o.live.on {
		return o.live.run(cmd, events)
	}
	if o.config == "" {
		return fmt.Errorf("%w: give the domain file with --config", errInput)
	}
	var out bytes.Buffer
	if err = o.print(&out, events); err != nil {
		return err
	}
	if o.expect != "" {
		return compare(cmd.OutOrStdout(), o.expect, out.Bytes())
	}
	return say(cmd.OutOrStdout(), "%s", out.String())
}

// print replays and prints.
func (o *replaying) print(w io.Writer, events *replay.Journal) error {
	report, err := o.replay(o.config, events)
	if err != nil {
		return err
	}
	if o.whatIf == "" {
		if o.output == "json" {
			return printJSON(w, report)
		}
		return report.Text(w)
	}
	other, err := o.replay(o.whatIf, events)
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(w, map[string]replay.Report{"config": report, "whatIf": other})
	}
	return replay.Compare(w, o.config, report, o.whatIf, other)
}

func (o *replaying) replay(path string, events *replay.Journal) (replay.Report, error) {
	files, err := readDomains([]string{path})
	if err != nil {
		return replay.Report{}, err
	}
	tables, err := o.readTables(files[0].domain)
	if err != nil {
		return replay.Report{}, err
	}
	report, err := replay.Run(replay.Config{Domain: files[0].domain, Tables: tables, WriteDuration: o.write}, events.Entries())
	if fault.Is(err, fault.Poison) { // a line of the journal
		return replay.Report{}, fmt.Errorf("%w: %w", errInput, err)
	}
	if err != nil {
		return replay.Report{}, fmt.Errorf("replay with %s: %w", path, err)
	}
	if report.Events == 0 {
		return replay.Report{}, fmt.Errorf("%w: no event is of domain %s (%s), %d are of others", errInput, files[0].domain.Name, path, report.Foreign)
	}
	return report, nil
}

// readTables reads the tables of the start.
func (o *replaying) readTables(d *config.Domain) (map[string]plan.Table, error) {
	tables := map[string]plan.Table{}
	for _, spec := range o.tables {
		name, path, named := strings.Cut(spec, "=")
		if !named {
			if len(d.Targets) != 1 {
				return nil, fmt.Errorf("%w: --table %s: domain %s has %d targets: say which with TARGET=FILE", errInput, spec, d.Name, len(d.Targets))
			}
			name, path = d.Targets[0].Name, spec
		}
		target, known := d.Target(name)
		if !known {
			return nil, fmt.Errorf("%w: --table %s: domain %s has no target %s", errInput, spec, d.Name, name)
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: --table: %w", errInput, err)
		}
		if tables[name], err = parseTable(target.RouteTable, body); err != nil {
			return nil, fmt.Errorf("%w: --table %s: %w", errInput, path, err)
		}
	}
	return tables, nil
}

func printJSON(w io.Writer, v any) error {
	e := json.NewEncoder(w)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}

// compare prints how the output differs from the file.
func compare(w io.Writer, path string, got []byte) error {
	want, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("%w: --expect: %w", errInput, err)
	}
	if bytes.Equal(want, got) {
		return nil
	}
	if _, err = w.Write(diff.Diff(path, want, "replay", got)); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return errDiffers
}
