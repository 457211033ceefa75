package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/emulator/funchost"
	"github.com/pointsman/pointsman/emulator/stack"
)

func emulateCommand() *cobra.Command {
	var o emulation
	c := &cobra.Command{
		Use:   "emulate",
		Short: "Run Service Bus, Blob storage, ARM, Event Grid and managed identity on this machine",
		Long: `Run emulators of what Pointsman needs of Azure, all on loopback, and print the environment that makes programs use them:

  pointsman emulate > env.sh &    # then, elsewhere:  source env.sh

With --app the staged function app runs under a local Functions host too, and is told of writes to the route tables. Everything ends with an interrupt.`,
		Example: `  pointsman emulate --dir lab > env.sh &
  source env.sh`,
		Args: arguments(cobra.NoArgs),
		RunE: o.run,
	}
	c.Flags().StringVar(&o.dir, "dir", "", "where ca.pem and the blobs go; empty: a temporary directory, removed at the end")
	c.Flags().StringVar(&o.app, "app", "", "staged function app (dist/app) to run as well")
	c.Flags().StringVar(&o.busAddress, "bus-address", "127.0.0.1:0", "where Service Bus listens")
	c.Flags().StringVar(&o.address, "functions-address", "127.0.0.1:0", "where the Functions host listens")
	c.Flags().DurationVar(&o.write, "table-write", 4*time.Second, "how long a write of a route table takes")
	c.Flags().StringArrayVar(&o.tables, "route-table", nil, "resource id of a route table that exists at the start, or ID=FILE with its JSON; may be repeated")
	c.Flags().StringArrayVar(&o.servers, "route-server", nil, "resource id of a Route Server that exists at the start; may be repeated")
	c.Flags().DurationVar(&o.peerWrite, "peer-write", 80*time.Second, "how long a write of a Route Server's peer takes")
	c.Flags().BoolVar(&o.verbose, "verbose", false, "log every request")
	return c
}

type emulation struct {
	dir, app, busAddress, address string
	write, peerWrite              time.Duration
	tables, servers               []string
	verbose                       bool
}

func (o *emulation) run(cmd *cobra.Command, _ []string) (err error) {
	level := slog.LevelWarn
	if o.verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewTextHandler(cmd.ErrOrStderr(), &slog.HandlerOptions{Level: level}))
	persist := o.dir != ""
	if !persist {
		if o.dir, err = os.MkdirTemp("", "pointsman-"); err != nil {
			return fmt.Errorf("temporary directory: %w", err)
		}
		defer func() { _ = os.RemoveAll(o.dir) }()
	}
	if o.dir, err = filepath.Abs(o.dir); err != nil { // what is printed is used elsewhere, and the handler runs in its own directory
		return fmt.Errorf("--dir: %w", err)
	}
	tables, err := readTables(o.tables)
	if err != nil {
		return err
	}
	st, err := stack.Start(stack.Config{
		Dir: o.dir, Persist: persist, TableWrite: o.write, BusAddress: o.busAddress, Tables: tables, Logger: log,
		RouteServers: o.servers, PeerWrite: o.peerWrite,
	})
	if err != nil && strings.Contains(err.Error(), "is not the id of a virtual hub") {
		return fmt.Errorf("%w: --route-server: %w", errInput, err)
	}
	if err != nil {
		return fmt.Errorf("emulate: %w", err)
	}
	defer func() { _ = st.Close() }()
	env := st.Environment()
	env["AgentConnection"] = st.AgentConnection()
	if o.app != "" {
		settings := st.Environment()
		settings["SweepSchedule"] = "0 */5 * * * *"
		var host *funchost.Host
		host, err = funchost.Start(cmd.Context(), funchost.Config{
			AppRoot: o.app, Address: o.address, Settings: settings, Environment: st.BaseEnvironment(os.Environ()), StateDir: o.dir, Logger: log, HandlerOutput: cmd.ErrOrStderr(),
		})
		if err != nil {
			return fmt.Errorf("functions host: %w", err)
		}
		defer func() { _ = host.Close() }()
		for _, problem := range host.Problems() {
			log.Error("a function was not loaded", slog.Any("error", problem))
		}
		st.DriftTo(host.URL())
		env["FunctionsURL"] = host.URL()
	}
	if err = printEnvironment(cmd, env); err != nil {
		return err
	}
	<-cmd.Context().Done()
	return nil
}

// emptyTable is a route table without routes.
const emptyTable = `{"location": "westeurope", "properties": {"routes": []}}`

func readTables(specs []string) (map[string]json.RawMessage, error) {
	tables := map[string]json.RawMessage{}
	for _, spec := range specs {
		id, file, has := strings.Cut(spec, "=")
		tables[id] = json.RawMessage(emptyTable)
		if !has {
			continue
		}
		body, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("%w: --route-table: %w", errInput, err)
		}
		if !json.Valid(body) {
			return nil, fmt.Errorf("%w: --route-table: %s is not JSON", errInput, file)
		}
		tables[id] = body
	}
	return tables, nil
}

// printEnvironment prints lines for a shell to source, in a fixed order.
func printEnvironment(cmd *cobra.Command, env map[string]string) error {
	names := make([]string, 0, len(env))
	for name := range env {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if err := say(cmd.OutOrStdout(), "export %s='%s'\n", name, strings.ReplaceAll(env[name], "'", `'\''`)); err != nil {
			return err
		}
	}
	return nil
}
