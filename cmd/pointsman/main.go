// Command pointsman is the operator's tool.
//
// Exit codes: 0 done; 1 it could not be done; 2 the input (a file, a flag) is wrong.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// version is set by the linker.
var version = "dev" //nolint:gochecknoglobals // the linker can only set a package variable

// errInput marks errors in what the user gave: exit code 2.
var errInput = errors.New("wrong input")

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := command().ExecuteContext(ctx)
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "pointsman:", err)
	stop()
	if errors.Is(err, errInput) {
		os.Exit(2)
	}
	os.Exit(1)
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "pointsman",
		Short:         "Azure routes that follow the routing tables of your NVAs",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(validateCommand(), applyCommand(), emulateCommand())
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return fmt.Errorf("%w: %w", errInput, err) })
	return root
}
