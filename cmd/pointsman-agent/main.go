// Command pointsman-agent runs on an NVA. It watches routes and publishes their changes. The subcommands keygen and pubkey are about the key that
// signs them, preflight is about the machine.
//
// Exit codes: 0 after an orderly stop, 1 after a failure, of preflight also 2 if something is to be looked at, 78 (EX_CONFIG of sysexits.h) when the command line or the configuration is
// wrong: systemd need not try again. Not 2, with which the Go runtime ends after a panic or the watchdog's signal.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/shared/preflight"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitLook   = preflight.ExitLook // of preflight only
	exitUsage  = 78
)

// The agent is a guest on a machine that has other work: its memory matters more than the little time it computes. memoryLimit, which the builds
// choose, is soft: above it the garbage collector works harder. GOMEMLIMIT and GOGC override both.
const gcPercent = 50

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	signal.Ignore(syscall.SIGHUP) // there is no reload, and it must not be a death without a farewell
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	code := command(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// configFile is where packages put the configuration.
const configFile = "/etc/pointsman/agent.yaml"

// errUsage is an error that the operator made and that was shown already.
var errUsage = errors.New("usage")

func command(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	err := dispatch(ctx, args, stdout, stderr)
	switch {
	case err == nil, errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errUsage):
		return exitUsage
	case errors.Is(err, errFindings):
		return exitFailed
	case errors.Is(err, errLook):
		return exitLook
	}
	_, _ = fmt.Fprintln(stderr, "pointsman-agent:", err)
	return exitFailed
}

// dispatch runs the subcommand that the first argument names; without one, the agent.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if len(args) > 0 {
		switch args[0] {
		case "keygen":
			return keygen(args[1:], stdout, stderr)
		case "pubkey":
			return pubkey(args[1:], stdout, stderr)
		case "preflight":
			return lookAround(ctx, args[1:], stdout, stderr)
		}
	}
	o, err := parseFlags(args, stderr)
	if err != nil {
		return err
	}
	return o.run(ctx, stdout, stderr)
}

type options struct {
	config                              string
	record                              string
	checkConfig, once, printed, version bool
}

func parseFlags(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("pointsman-agent", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.StringVar(&o.config, "config", configFile, "the configuration `file`")
	f.BoolVar(&o.checkConfig, "check-config", false, "check the configuration, print every problem and exit: 0 or 78")
	f.BoolVar(&o.once, "once", false, "with --print: exit after the first snapshot; nothing is sent")
	f.BoolVar(&o.printed, "print", false, "with --once: print the snapshot as CloudEvents, one a line")
	f.StringVar(&o.record, "record", "", "append every published event to this `file`, one a line")
	f.BoolVar(&o.version, "version", false, "print the version and exit")
	if err := f.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return o, flag.ErrHelp
		}
		return o, errUsage // the flag package has shown what is wrong
	}
	switch {
	case f.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "pointsman-agent: unexpected argument %q: want flags, keygen, pubkey or preflight\n", f.Arg(0))
		return o, errUsage
	case o.once != o.printed:
		_, _ = fmt.Fprintln(stderr, "pointsman-agent: --once and --print go together")
		return o, errUsage
	}
	return o, nil
}

func (o options) run(ctx context.Context, stdout, stderr io.Writer) error {
	if o.version {
		_, _ = fmt.Fprintln(stdout, "pointsman-agent", version())
		return nil
	}
	cfg, err := load(o.config, stderr)
	if err != nil {
		return err
	}
	if o.checkConfig {
		if cfg.Witness != nil && cfg.Witness.KeyFile != "" {
			if _, err = readKeys(cfg.Witness.KeyFile, newLogger(cfg.Log, stderr)); err != nil {
				_, _ = fmt.Fprintln(stderr, o.config+":", err)
				return errUsage
			}
		}
		_, _ = fmt.Fprintln(stdout, "ok")
		return nil
	}
	if o.once {
		cfg.Log.Level = max(cfg.Log.Level, slog.LevelWarn) // its start and end are nobody's concern
		return printOnce(ctx, cfg, newLogger(cfg.Log, stderr), stdout)
	}
	return serve(ctx, cfg, newLogger(cfg.Log, stderr), o.record)
}

// load reads the configuration and shows all that is wrong with it.
func load(file string, stderr io.Writer) (*config.Config, error) {
	text, err := os.ReadFile(file) // the operator names it
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "pointsman-agent: read the configuration:", err)
		return nil, errUsage
	}
	cfg, problems := config.Parse(file, text, absentKinds()...)
	if len(problems) > 0 {
		_, _ = fmt.Fprintln(stderr, problems.Error())
		return nil, errUsage
	}
	return cfg, nil
}

// version is that of the build: the module's, or the commit.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (v == "" || v == "(devel)") {
			v = s.Value
		}
	}
	return v + " " + info.GoVersion
}
