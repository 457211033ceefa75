package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/azure/blob"
	"github.com/pointsman/pointsman/azure/identity"
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
		Use:   "validate FILE...",
		Short: "Check domain files",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			files, err := readDomains(args)
			if err != nil {
				return err
			}
			for _, f := range files {
				fmt.Fprintf(cmd.OutOrStdout(), "%s: ok: domain %s, %d NVAs, %d targets\n", f.path, f.domain.Name, len(f.domain.NVAs), len(f.domain.Targets))
			}
			return nil
		},
	}
}

func applyCommand() *cobra.Command {
	var paths []string
	var connection, url, container, clientID string
	var person bool
	c := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Check domain files and put them in force",
		Long: `Check domain files and upload them to the state store. Nothing is uploaded unless all files are valid.
The next event or the next sweep works by the new file.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			files, err := readDomains(paths)
			if err != nil {
				return err
			}
			cfg := blob.Config{ConnectionString: connection, Container: container}
			if connection == "" {
				source := identity.ManagedIdentity
				if person {
					source = identity.Person
				}
				cfg.ServiceURL = url
				if cfg.Credential, err = identity.New(identity.Config{Source: source, ClientID: clientID}); err != nil {
					return fmt.Errorf("sign in: %w", err)
				}
			}
			store, err := blob.New(cfg)
			if err != nil {
				return fmt.Errorf("%w: state store: %w", errInput, err)
			}
			if err := store.Ensure(cmd.Context()); err != nil {
				return fmt.Errorf("state store: %w", err)
			}
			for _, f := range files {
				if err := store.Put(cmd.Context(), "domains/"+f.domain.Name+".yaml", f.text); err != nil {
					return fmt.Errorf("upload %s: %w", f.path, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: domain %s is in force\n", f.path, f.domain.Name)
			}
			return nil
		},
	}
	c.Flags().StringArrayVarP(&paths, "file", "f", nil, "a domain file; may be repeated")
	c.Flags().StringVar(&connection, "state-connection", os.Getenv("StateConnection"), "connection string of the storage account (StateConnection)")
	c.Flags().StringVar(&url, "state-url", os.Getenv("StateConnection__blobServiceUri"), "address of the storage account (StateConnection__blobServiceUri)")
	c.Flags().StringVar(&container, "container", "pointsman", "container of the state store")
	c.Flags().StringVar(&clientID, "client-id", os.Getenv("AZURE_CLIENT_ID"), "client id of a user-assigned managed identity (AZURE_CLIENT_ID)")
	c.Flags().BoolVar(&person, "as-me", false, "sign in as a person (az, azd; set AZURE_TOKEN_CREDENTIALS=dev) instead of as a managed identity")
	if err := c.MarkFlagRequired("file"); err != nil {
		panic("pointsman: " + err.Error())
	}
	return c
}
