// Command pointsman is the operator's tool.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker, which can only set a package variable.
var version = "dev"

// The exit codes, of every command.
const (
	exitDone    = 0
	exitFailed  = 1 // it could not be done, or is not as expected
	exitChanges = 2 // plan: there is something to change; preflight: there is something to look at
	exitInput   = 3 // a file, a flag or an argument is wrong
)

var (
	// errInput marks errors in what the user gave.
	errInput = errors.New("wrong input")
	// errChanges is how plan says that there is something to change; nothing is printed for it.
	errChanges = errors.New("there are changes")
	// errFindings is how preflight says that something does not work; the findings are printed already.
	errFindings = errors.New("something does not work")
)

func main() { os.Exit(run()) }

func run() int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	switch {
	case err == nil:
		return exitDone
	case errors.Is(err, errChanges):
		return exitChanges
	case errors.Is(err, errFindings):
		return exitFailed
	}
	fmt.Fprintln(os.Stderr, "pointsman:", err)
	if errors.Is(err, errInput) {
		return exitInput
	}
	return exitFailed
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:   "pointsman",
		Short: "Azure routes that follow the routing tables of your NVAs",
		Long: `Azure routes that follow the routing tables of your NVAs.

Exit codes: 0 done; 1 it could not be done, or is not as expected; 2 plan found changes, or preflight something to look at; 3 a file, a flag or an argument is wrong.`,
		Version:       version,
		Args:          arguments(cobra.NoArgs),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(
		validateCommand(), applyCommand(),
		statusCommand(), preflightCommand(), planCommand(), explainCommand(), historyCommand(),
		drainCommand(), resumeCommand(), pauseCommand(), unpauseCommand(), approveCommand(), keygenCommand(), pubkeyCommand(),
		replayCommand(), importCommand(), emulateCommand(), manCommand(),
	)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errInput, err) })
	return root
}

// arguments marks what is wrong with the arguments as wrong input.
func arguments(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return fmt.Errorf("%w: %w", errInput, err)
		}
		return nil
	}
}

// outputIs checks --output.
func outputIs(value string, words ...string) error {
	if slices.Contains(words, value) {
		return nil
	}
	return fmt.Errorf("%w: --output is %q: want one of %s", errInput, value, strings.Join(words, ", "))
}

// say prints.
func say(w io.Writer, format string, args ...any) error {
	if _, err := fmt.Fprintf(w, format, args...); err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return nil
}
