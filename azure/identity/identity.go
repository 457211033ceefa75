// Package identity makes the one credential of a process: the managed identity of a machine or a function app, or the sign-in of a
// person. There is no other source and no fallback from one to the other: which right is used must never depend on what
// happened to answer.
package identity

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/pointsman/pointsman/shared/fault"
)

// Source says where the credential comes from.
type Source uint8

const (
	// ManagedIdentity is that of the Functions host (IDENTITY_ENDPOINT and IDENTITY_HEADER) or of the machine (the instance
	// metadata service). azidentity finds out which.
	ManagedIdentity Source = iota + 1
	// Person is DefaultAzureCredential. It insists on AZURE_TOKEN_CREDENTIALS ("dev" for az, azd and PowerShell sign-ins, "prod",
	// or the name of one credential), so that the identity is a choice and not the first that answers.
	Person
)

// String returns the name as logs show it.
func (s Source) String() string {
	switch s {
	case ManagedIdentity:
		return "managed identity"
	case Person:
		return "person"
	}
	return fmt.Sprintf("source-%d", uint8(s))
}

// Config chooses the credential.
type Config struct {
	Source    Source              // zero: ManagedIdentity
	ClientID  string              // of a user-assigned managed identity; empty: the system-assigned one
	Cloud     cloud.Configuration // zero: Azure public cloud
	Transport policy.Transporter  // nil: the SDK's own
}

// New returns the credential. It asks for no token yet. Errors of its GetToken are fault errors: Transient where the endpoint is in
// trouble, else Denied with advice.
func New(cfg Config) (azcore.TokenCredential, error) {
	options := azcore.ClientOptions{Cloud: cfg.Cloud, Transport: cfg.Transport}
	source := cmp.Or(cfg.Source, ManagedIdentity)
	switch source {
	case ManagedIdentity:
		return newManaged(options, cfg.ClientID)
	case Person:
		if cfg.ClientID != "" {
			return nil, errors.New("azure identity: a client id belongs to a managed identity, not to a person")
		}
		return newPerson(options)
	}
	return nil, fmt.Errorf("azure identity: unknown source %s", source)
}

func newManaged(options azcore.ClientOptions, clientID string) (azcore.TokenCredential, error) {
	managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if clientID != "" {
		managed.ID = azidentity.ClientID(clientID)
	}
	inner, err := azidentity.NewManagedIdentityCredential(managed)
	if err != nil {
		return nil, fmt.Errorf("azure identity: managed identity: %w", err)
	}
	return &credential{inner: inner, advice: "assign a managed identity to this machine or function app, or correct the client id"}, nil
}

func newPerson(options azcore.ClientOptions) (azcore.TokenCredential, error) {
	inner, err := azidentity.NewDefaultAzureCredential(&azidentity.DefaultAzureCredentialOptions{
		ClientOptions:                options,
		RequireAzureTokenCredentials: true,
	})
	if err != nil {
		return nil, fmt.Errorf("azure identity: %w", err)
	}
	return &credential{inner: inner, advice: "sign in with az login, or correct AZURE_TOKEN_CREDENTIALS"}, nil
}

// credential adds a fault kind to the errors of another credential.
type credential struct {
	inner  azcore.TokenCredential
	advice string
}

// GetToken implements azcore.TokenCredential.
func (c *credential) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	token, err := c.inner.GetToken(ctx, options)
	if err == nil {
		return token, nil
	}
	err = fmt.Errorf("azure identity: token for %v: %w", options.Scopes, err)
	if ctx.Err() != nil || passing(err) {
		return azcore.AccessToken{}, &fault.Error{Kind: fault.Transient, Code: "TokenUnavailable", Err: err}
	}
	return azcore.AccessToken{}, &fault.Error{Kind: fault.Denied, Code: "AuthenticationFailed", Advice: c.advice, Err: err}
}

// passing reports whether an endpoint could not be reached or is in trouble. azidentity drops the causes of its errors: what is left of
// a failed request is an AuthenticationFailedError without an answer; that there is no identity at all is another type.
func passing(err error) bool {
	var failed *azidentity.AuthenticationFailedError
	if !errors.As(err, &failed) {
		return false
	}
	answer := failed.RawResponse
	return answer == nil || answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= http.StatusInternalServerError
}
