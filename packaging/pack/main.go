// Command pack makes the parts of a release that are a matter of bytes: the function app's zip and the SBOMs. The same input gives the same
// output, to the bit.
//
//	pack zip  -epoch SECONDS -o OUT.zip APP-ROOT
//	pack sbom -epoch SECONDS -o OUT.json BINARY
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"time"
)

func main() {
	if err := run(os.Args[1:], os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "pack:", err)
		os.Exit(1)
	}
}

var errUsage = errors.New("want: pack zip|sbom -epoch SECONDS -o FILE INPUT")

func run(args []string, stderr io.Writer) error {
	if len(args) == 0 {
		return errUsage
	}
	f := flag.NewFlagSet(args[0], flag.ContinueOnError)
	f.SetOutput(stderr)
	epoch := f.Int64("epoch", 0, "the instant in the output, in Unix `seconds` (SOURCE_DATE_EPOCH)")
	out := f.String("o", "", "the output `file`")
	if err := f.Parse(args[1:]); err != nil {
		return fmt.Errorf("%s: %w", args[0], err)
	}
	if f.NArg() != 1 || *out == "" || *epoch <= 0 {
		return errUsage
	}
	at := time.Unix(*epoch, 0).UTC()
	switch args[0] {
	case "zip":
		return write(*out, func(w io.Writer) error { return Zip(w, os.DirFS(f.Arg(0)), at) })
	case "sbom":
		return write(*out, func(w io.Writer) error { return SBOM(w, f.Arg(0), at) })
	}
	return errUsage
}

// write fills a file, and leaves none behind where that fails.
func write(name string, fill func(io.Writer) error) error {
	f, err := os.Create(name) // named by the caller
	if err != nil {
		return fmt.Errorf("create: %w", err)
	}
	if err = errors.Join(fill(f), f.Close()); err != nil {
		return errors.Join(fmt.Errorf("%s: %w", name, err), os.Remove(name))
	}
	return nil
}
