// Command demo shows Pointsman at work: two NVAs learn 300 prefixes, one loses a prefix, flaps, dies and comes back, and an Azure
// route table follows.
//
// What is real: the agents, the kernel routes that they watch (in network namespaces of their own), the staged function app, every
// message and every request between them. What is emulated: Azure, in this process. Where network namespaces cannot be made, recorded
// events take the place of the agents. Nothing leaves this machine.
//
// It ends with 0 if the table was right after every step, took no more writes than promised and kept what others put there; else
// with 1. How long things took is printed and kept in dist/demo/summary.json, but is no reason to fail.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/pointsman/pointsman/test/netns"
	"github.com/pointsman/pointsman/test/system"
)

func main() {
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		os.Exit(2)
	case o.recorded:
		os.Exit(command(o))
	}
	os.Exit(netns.Run(func() int { return command(o) }))
}

// options are the command line.
type options struct {
	write    time.Duration
	prefixes int
	stay     bool
	recorded bool
	record   string
}

// The limits of --prefixes: the steps touch some twenty, and a route table holds 1,000 routes, others' included.
const (
	minPrefixes     = 20
	maxPrefixes     = 990
	defaultPrefixes = 300
)

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("demo", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.DurationVar(&o.write, "write", 4*time.Second, "how long a write of the route table takes; Azure needs 1 to 10 s")
	f.IntVar(&o.prefixes, "prefixes", defaultPrefixes, "how many prefixes each NVA learns")
	f.BoolVar(&o.stay, "stay", false, "keep everything running afterwards, to look around and to change routes by hand")
	f.BoolVar(&o.recorded, "recorded", false, "use recorded events instead of network namespaces and agents")
	f.StringVar(&o.record, "record", "", "write the agents' events to this `file`, as testdata/journal.jsonl")
	if err := f.Parse(args); err != nil {
		return o, fmt.Errorf("command line: %w", err)
	}
	var wrong string
	switch {
	case f.NArg() > 0:
		wrong = fmt.Sprintf("unexpected argument %q: it takes flags only", f.Arg(0))
	case o.prefixes < minPrefixes || o.prefixes > maxPrefixes:
		wrong = fmt.Sprintf("--prefixes %d: want %d to %d", o.prefixes, minPrefixes, maxPrefixes)
	case o.write < 0 || o.write > time.Minute:
		wrong = fmt.Sprintf("--write %s: want 0s to 1m", o.write)
	case o.recorded && (o.prefixes != defaultPrefixes || o.record != ""):
		wrong = fmt.Sprintf("--recorded: the recorded events have %d prefixes and cannot be recorded again", defaultPrefixes)
	}
	if wrong != "" {
		_, _ = fmt.Fprintln(stderr, "demo:", wrong)
		return o, errors.New(wrong)
	}
	return o, nil
}

// command runs the demonstration and returns the exit code.
func command(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE) // or a reader that goes away ("| head") would end this without any clean-up
	out := newScreen(os.Stdout, stop)
	dist := filepath.Join(system.Root(), "dist")
	d, err := start(ctx, o, out, dist)
	if err != nil {
		out.failed(ctx, err)
		return 1
	}
	code := d.show(ctx)
	if err = d.close(); err != nil {
		out.note("clean-up: %v", err)
		code = 1
	}
	return code
}
