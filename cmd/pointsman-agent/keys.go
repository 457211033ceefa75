package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/pointsman/pointsman/agent/signing"
	"github.com/pointsman/pointsman/shared/signature"
)

const (
	// keyName is the file in the state directory where the configuration names none.
	keyName = "signing.key"
	// tool is what makes keys of this kind.
	tool = "pointsman-agent"
)

// keygen makes the key that signs this NVA's events, and prints its public half alone on the standard output, as the domain file wants it.
func keygen(args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("pointsman-agent keygen", flag.ContinueOnError)
	file := f.String("config", configFile, "the configuration `file`, for the place of the key")
	out := f.String("out", "", "the `file` of the private key; default: signing.keyFile of the configuration, else "+keyName+" in its stateDir")
	force := f.Bool("force", false, "replace a key that is there")
	if err := parseSubcommand(f, args, stderr); err != nil {
		return err
	}
	path, err := keyPath(*out, *file, stderr)
	if err != nil {
		return err
	}
	if *out == "" { // a state directory that systemd has not made yet; it gives it to the service at the first start
		if err = os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			return fmt.Errorf("make a key: %w", err)
		}
	}
	key, err := signing.Generate(path, *force)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%w: --force replaces it, and then the NVA is not believed until the domain file has the new one; pointsman-agent pubkey shows the public half of the one that is there", err)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(stderr, "The private key is in %s. Set signing.keyFile to it, restart the agent, then add this line to keys of this NVA in the domain file:\n", path)
	return printKey(stdout, key)
}

// pubkey prints the public half of the key.
func pubkey(args []string, stdout, stderr io.Writer) error {
	f := flag.NewFlagSet("pointsman-agent pubkey", flag.ContinueOnError)
	file := f.String("config", configFile, "the configuration `file`, for the place of the key")
	key := f.String("key", "", "the `file` of the private key; default: as keygen has it")
	if err := parseSubcommand(f, args, stderr); err != nil {
		return err
	}
	path, err := keyPath(*key, *file, stderr)
	if err != nil {
		return err
	}
	private, err := signing.Load(path, tool)
	if err != nil {
		return err
	}
	return printKey(stdout, signature.KeyOf(private))
}

func printKey(w io.Writer, key signature.Key) error {
	if _, err := fmt.Fprintln(w, key); err != nil {
		return fmt.Errorf("print the key: %w", err)
	}
	return nil
}

func parseSubcommand(f *flag.FlagSet, args []string, stderr io.Writer) error {
	f.SetOutput(stderr)
	err := f.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return flag.ErrHelp
	case err != nil:
		return errUsage // the flag package has shown what is wrong
	case f.NArg() > 0:
		_, _ = fmt.Fprintf(stderr, "%s: unexpected argument %q: it takes flags only\n", f.Name(), f.Arg(0))
		return errUsage
	}
	return nil
}

// keyPath is the file that was named, else that of the configuration.
func keyPath(named, file string, stderr io.Writer) (string, error) {
	if named != "" {
		return named, nil
	}
	cfg, err := load(file, stderr)
	if err != nil {
		return "", err
	}
	if cfg.Signing.KeyFile != "" {
		return cfg.Signing.KeyFile, nil
	}
	return filepath.Join(cfg.StateDir, keyName), nil
}
