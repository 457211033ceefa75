// Package armclient says how the clients of Azure Resource Manager are set up.
package armclient

import (
	"cmp"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

const (
	// Reads may be repeated shortly (about 0.2 and 0.6 s); a service that asks for more gets its wish through Throttled.
	readRetries       = 2
	readRetryDelay    = 200 * time.Millisecond
	readMaxRetryDelay = 2 * time.Second
	// TryTimeout bounds one request; a table of 1,000 routes is some 400 kB.
	TryTimeout = 30 * time.Second
)

// Options returns the options of a client. endpoint is ARM's and audience what its tokens are for; empty: those of the Azure public cloud. A nil transport is the
// SDK's own.
func Options(endpoint, audience string, transport policy.Transporter, perRetry ...policy.Policy) *arm.ClientOptions {
	return &arm.ClientOptions{
		// The custom role has no right to register resource providers, and a resource to read proves that it is registered.
		DisableRPRegistration: true,
		ClientOptions: azcore.ClientOptions{
			Cloud:     configuration(endpoint, audience),
			Transport: transport,
			Retry: policy.RetryOptions{
				MaxRetries:    readRetries,
				TryTimeout:    TryTimeout,
				RetryDelay:    readRetryDelay,
				MaxRetryDelay: readMaxRetryDelay,
			},
			PerRetryPolicies: perRetry,
		},
	}
}

// Once returns the retry options of a request that must be sent once.
func Once() policy.RetryOptions { return policy.RetryOptions{MaxRetries: -1, TryTimeout: TryTimeout} }

func configuration(endpoint, audience string) cloud.Configuration {
	if endpoint == "" {
		return cloud.AzurePublic
	}
	audience = cmp.Or(audience, cloud.AzurePublic.Services[cloud.ResourceManager].Audience)
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: cloud.AzurePublic.ActiveDirectoryAuthorityHost,
		Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
			cloud.ResourceManager: {Endpoint: endpoint, Audience: audience},
		},
	}
}
