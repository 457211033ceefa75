package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/azure/blob"
	"github.com/pointsman/pointsman/azure/identity"
	"github.com/pointsman/pointsman/azure/routeserver"
	"github.com/pointsman/pointsman/azure/routetable"
	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/fault"
)

// parallelReads is how many documents are read at once.
const parallelReads = 16

// connection is the way to the state store and to Azure Resource Manager.
type connection struct {
	connection, url, container string
	armEndpoint, armAudience   string
	clientID                   string
	person                     bool
	timeout                    time.Duration
}

// stateFlags adds the flags for the state store.
func (c *connection) stateFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&c.connection, "state-connection", "", "connection string of the storage account (StateConnection)")
	f.StringVar(&c.url, "state-url", os.Getenv("StateConnection__blobServiceUri"), "address of the storage account (StateConnection__blobServiceUri)")
	f.StringVar(&c.container, "container", "pointsman", "container of the state store")
	f.StringVar(&c.clientID, "client-id", os.Getenv("AZURE_CLIENT_ID"), "client id of a user-assigned managed identity (AZURE_CLIENT_ID)")
	f.BoolVar(&c.person, "as-me", false, "sign in as a person (az, azd; set AZURE_TOKEN_CREDENTIALS=dev) instead of as a managed identity")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long all of it may take")
}

// tableFlags adds the flags for route tables.
func (c *connection) tableFlags(cmd *cobra.Command) {
	cmd.Flags().StringVar(&c.armEndpoint, "arm-endpoint", os.Getenv("ArmEndpoint"), "address of Azure Resource Manager (ArmEndpoint); empty: the Azure public cloud")
	cmd.Flags().StringVar(&c.armAudience, "arm-audience", os.Getenv("ArmAudience"), "what its tokens are for (ArmAudience)")
}

// secret returns what a flag gives, or else the environment. It is no default of the flag: help prints those.
func secret(flag, variable string) string {
	if flag != "" {
		return flag
	}
	return os.Getenv(variable)
}

// bounded returns the command's context, which ends after the timeout.
func (c *connection) bounded(cmd *cobra.Command) (context.Context, context.CancelFunc) {
	return context.WithTimeout(cmd.Context(), c.timeout)
}

func (c *connection) credential() (azcore.TokenCredential, error) {
	source := identity.ManagedIdentity
	if c.person {
		source = identity.Person
	}
	credential, err := identity.New(identity.Config{Source: source, ClientID: c.clientID})
	if err != nil {
		return nil, fmt.Errorf("sign in: %w", err)
	}
	return credential, nil
}

// blobs opens a container of the storage account; nothing is connected yet.
func (c *connection) blobs(container string) (*blob.Store, error) {
	cfg := blob.Config{ConnectionString: c.connection, Container: container}
	if c.url == "" {
		cfg.ConnectionString = secret(c.connection, "StateConnection")
	}
	if cfg.ConnectionString == "" {
		if c.url == "" {
			return nil, fmt.Errorf("%w: state store: give --state-url or --state-connection", errInput)
		}
		var err error
		cfg.ServiceURL = c.url
		if cfg.Credential, err = c.credential(); err != nil {
			return nil, err
		}
	}
	store, err := blob.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("%w: state store: %w", errInput, err)
	}
	return store, nil
}

// documents opens the state store for reading.
func (c *connection) documents() (*documents.Store, error) {
	store, err := c.blobs(c.container)
	if err != nil {
		return nil, err
	}
	return documents.NewStore(readOnly{store}, parallelReads), nil
}

// tables opens the way to route tables; nothing is connected yet.
func (c *connection) tables() (*routetable.Client, error) {
	credential, err := c.credential()
	if err != nil {
		return nil, err
	}
	tables, err := routetable.New(routetable.Config{Credential: credential, Endpoint: c.armEndpoint, Audience: c.armAudience})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return tables, nil
}

// servers opens the way to Route Servers; nothing is connected yet.
func (c *connection) servers() (*routeserver.Client, error) {
	credential, err := c.credential()
	if err != nil {
		return nil, err
	}
	servers, err := routeserver.New(routeserver.Config{Credential: credential, Endpoint: c.armEndpoint, Audience: c.armAudience})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return servers, nil
}

// readOnly is a state store that is only read: every write loses the race against a writer that does not exist, which is what the one
// writer among the readers (a domain file's acceptance) puts up with.
type readOnly struct{ *blob.Store }

// Write implements documents.Blobs.
func (readOnly) Write(_ context.Context, name string, _ []byte, _ string) (string, error) {
	return "", fault.New(fault.Conflict, "%s is only read here", name)
}

// Append implements documents.Blobs.
func (readOnly) Append(_ context.Context, name string, _ []byte) error {
	return fault.New(fault.Denied, "%s is only read here", name)
}

// stateTrouble names the state store in an error, and what to do about it.
func stateTrouble(ctx context.Context, err error) error { return unreachable(ctx, "state store", err) }

// tableTrouble names Azure Resource Manager in an error.
func tableTrouble(ctx context.Context, err error) error {
	return unreachable(ctx, "Azure Resource Manager", err)
}

func unreachable(ctx context.Context, what string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: no answer in time (--timeout): %w", what, err)
	}
	return fmt.Errorf("%s: %w", what, err)
}
