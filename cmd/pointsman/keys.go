package main

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/agent/signing"
	"github.com/pointsman/pointsman/shared/signature"
)

// keyVariable names the file of the operator's key.
const keyVariable = "OperatorKeyFile"

// defaultKey is the file where none is named; "" where there is no home.
func defaultKey() string {
	if dir, err := os.UserConfigDir(); err == nil {
		return filepath.Join(dir, "pointsman", "operator.key")
	}
	return ""
}

// ownKey is the file that a flag names, or else the environment, or else the one in its usual place.
func ownKey(flag string) (string, error) {
	if flag = secret(flag, keyVariable); flag == "" {
		flag = defaultKey()
	}
	if flag == "" {
		return "", fmt.Errorf("%w: there is no home directory: name the file of the key", errInput)
	}
	return flag, nil
}

// orderKey loads the key that signs orders; nil where none is named and none is in its usual place.
func orderKey(flag string) (ed25519.PrivateKey, error) {
	named := secret(flag, keyVariable)
	path := named
	if path == "" {
		path = defaultKey()
	}
	if path == "" {
		return nil, nil
	}
	key, err := signing.Load(path, "pointsman")
	if named == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return key, nil
}

func keygenCommand() *cobra.Command {
	var out string
	var force bool
	c := &cobra.Command{
		Use:   "keygen",
		Short: "Make the key that signs your orders",
		Long: `Make an Ed25519 key, keep it in a file that only you can read, and print its public half: the line that belongs to keys of your entry under operators in the domain file.
Where the domain file has operators, an order counts only if one of them has signed it.`,
		Example: `  pointsman keygen
  pointsman keygen --out next.key`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := ownKey(out)
			if err != nil {
				return err
			}
			if out == "" {
				if err = os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					return fmt.Errorf("make a key: %w", err)
				}
			}
			key, err := signing.Generate(path, force)
			if errors.Is(err, fs.ErrExist) {
				return fmt.Errorf("%w: %w: --force replaces it, and then your orders do not count until the domain file has the new one; pointsman pubkey shows the public half of the one that is there", errInput, err)
			}
			if err != nil {
				return err
			}
			_, _ = fmt.Fprintf(cmd.ErrOrStderr(), "The private key is in %s. Have this line added to keys of your entry under operators in the domain file:\n", path)
			return say(cmd.OutOrStdout(), "%s\n", key)
		},
	}
	c.Flags().StringVar(&out, "out", "", "the file of the private key ("+keyVariable+"); empty: pointsman/operator.key in your configuration directory")
	c.Flags().BoolVar(&force, "force", false, "replace a key that is there")
	return c
}

func pubkeyCommand() *cobra.Command {
	var file string
	c := &cobra.Command{
		Use:     "pubkey",
		Short:   "Print the public half of your key",
		Long:    `Print the public half of the key that signs your orders, as the domain file wants it.`,
		Example: `  pointsman pubkey`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			path, err := ownKey(file)
			if err != nil {
				return err
			}
			key, err := signing.Load(path, "pointsman")
			if err != nil {
				return fmt.Errorf("%w: %w", errInput, err)
			}
			return say(cmd.OutOrStdout(), "%s\n", signature.KeyOf(key))
		},
	}
	c.Flags().StringVar(&file, "key", "", "the file of the private key, as with keygen ("+keyVariable+")")
	return c
}
