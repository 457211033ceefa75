//go:build linux

// Command chaos runs all of Pointsman over the emulators, breaks what can be broken, at random but by a seed, and checks that nothing was
// lost: the function app under the local Functions host and the agents are the real binaries, in processes of their own, which are
// killed; the bus, the state store, Resource Manager and the identity endpoint misbehave; NVAs die and return; other people write the same
// route tables.
//
// When the time is up the faults stop. Then everything must converge, and stay so. All that is wrong, at any moment, is a violation:
//
//	I1  what others have in a table is as they last wrote it, byte for byte, after every write; each of our writes has If-Match and "routes"
//	I3  in the end the tables are what the living NVAs announce, the preferred one first
//	I4  a prefix that a living NVA announces without interruption never leaves the table
//	I5  a sweep over converged tables writes nothing
//	I6  no table holds more routes than its target allows
//	    no message is dead-lettered, parked or stuck; no process and no goroutine is left
//
// The last line says what happened. It ends with 0 if there was no violation, else with 1, and then says with which seed, what was
// done when, and what each process said last.
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
	if file, ok := asHost(os.Args); ok {
		os.Exit(serveHost(file))
	}
	o, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		os.Exit(0)
	case err != nil:
		os.Exit(2)
	}
	os.Exit(netns.Run(func() int { return command(o) }))
}

// options are the command line.
type options struct {
	duration time.Duration
	seed     uint64
	app      string
	agent    string
	scripted bool
	verbose  bool
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	dist := filepath.Join(system.Root(), "dist")
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.DurationVar(&o.duration, "duration", 2*time.Minute, "how long things go wrong")
	f.Uint64Var(&o.seed, "seed", 0, "of everything that is random; 0: a new one")
	f.StringVar(&o.app, "app", filepath.Join(dist, "app"), "the staged function app")
	f.StringVar(&o.agent, "agent", filepath.Join(dist, "pointsman-agent"), "the agent")
	f.BoolVar(&o.scripted, "scripted", false, "run the agents in this process over scripted routes, without network namespaces")
	f.BoolVar(&o.verbose, "v", false, "say what is done while it is done")
	if err := f.Parse(args); err != nil {
		return o, fmt.Errorf("command line: %w", err)
	}
	if f.NArg() > 0 || o.duration <= 0 {
		_, _ = fmt.Fprintln(stderr, "chaos: it takes flags only, and a duration above zero")
		return o, errors.New("command line")
	}
	if o.seed == 0 {
		o.seed = uint64(time.Now().UnixNano() % 1e9)
	}
	return o, nil
}

// command runs the chaos and returns the exit code.
func command(o options) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r, err := perform(ctx, o, os.Stdout)
	if err != nil {
		_, _ = fmt.Fprintln(os.Stdout, "chaos:", err)
		return 1
	}
	_, _ = fmt.Fprintln(os.Stdout, r)
	if len(r.violations) > 0 {
		return 1
	}
	return 0
}
