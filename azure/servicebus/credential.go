package servicebus

import (
	"context"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// bounded is a credential as the SDK should use one: azservicebus asks for tokens with a context that never ends, while it holds the
// lock of the link, and hides the error of a credential unless it is marked as final.
type bounded struct {
	inner   azcore.TokenCredential
	timeout time.Duration
}

// GetToken implements azcore.TokenCredential.
func (b bounded) GetToken(ctx context.Context, options policy.TokenRequestOptions) (azcore.AccessToken, error) {
	ctx, cancel := context.WithTimeout(ctx, b.timeout)
	defer cancel()
	token, err := b.inner.GetToken(ctx, options)
	if err != nil {
		return azcore.AccessToken{}, final{err}
	}
	return token, nil
}

// final marks an error with the method by which all of the SDK recognises what it must not repeat or replace.
type final struct{ error }

func (f final) Unwrap() error { return f.error }

// NonRetriable implements the SDK's marker.
func (final) NonRetriable() {}
