package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/located"
)

// domainFile is a domain file that was read and found valid.
type domainFile struct {
	path   string
	text   []byte
	domain *config.Domain
}

// readDomains reads and checks files; all problems of all files come back at once.
func readDomains(paths []string) ([]domainFile, error) {
	var files []domainFile
	var problems located.Problems
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errInput, err)
		}
		d, wrong := config.Parse(path, text)
		problems = append(problems, wrong...)
		files = append(files, domainFile{path, text, d})
	}
	if len(problems) > 0 {
		return nil, fmt.Errorf("%w:\n%w", errInput, problems)
	}
	return files, nil
}

func validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "validate FILE...",
		Short:   "Check domain files",
		Example: `  pointsman validate hub.yaml`,
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := readDomains(args)
			if err != nil {
				return err
			}
			for _, f := range files {
				if err = say(cmd.OutOrStdout(), "%s: ok: domain %s, %d NVAs, %d targets\n", f.path, f.domain.Name, len(f.domain.NVAs), len(f.domain.All())); err != nil {
					return err
				}
			}
			return nil
		},
	}
}

func applyCommand() *cobra.Command {
	var paths []string
	var c connection
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Check domain files and put them in force",
		Long: `Check domain files and upload them to the state store. Nothing is uploaded unless all files are valid.
The next event or the next sweep works by the new file.`,
		Example: `  pointsman apply -f hub.yaml`,
		Args:    arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := readDomains(paths)
			if err != nil {
				return err
			}
			if len(files) == 0 {
				return fmt.Errorf("%w: give at least one file with -f", errInput)
			}
			ctx, cancel := c.bounded(cmd)
			defer cancel()
			store, err := c.blobs(c.container)
			if err != nil {
				return err
			}
			if err = store.Ensure(ctx); err != nil {
				return stateTrouble(ctx, err)
			}
			for _, f := range files {
				if err = store.Put(ctx, "domains/"+f.domain.Name+".yaml", f.text); err != nil {
					return stateTrouble(ctx, fmt.Errorf("upload %s: %w", f.path, err))
				}
				if err = say(cmd.OutOrStdout(), "%s: domain %s is in force\n", f.path, f.domain.Name); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringArrayVarP(&paths, "file", "f", nil, "a domain file; may be repeated")
	c.stateFlags(cmd)
	return cmd
}
