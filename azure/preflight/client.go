// Package preflight reads what shared/preflight judges: rights, locks, policies, limits, network interfaces, Service Bus settings. It never writes.
//
// These are requests of several providers, of which little is needed of each; so they are made with azcore's pipeline instead of an SDK module for each provider.
package preflight

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/preflight"
)

// API versions, each a stable one that has what is read.
const (
	permissionsVersion = "2022-04-01" // Microsoft.Authorization: permissions, roleAssignments, roleDefinitions
	locksVersion       = "2020-05-01" // Microsoft.Authorization: locks
	policyVersion      = "2023-03-01" // Microsoft.PolicyInsights: checkPolicyRestrictions
	networkVersion     = "2024-05-01" // Microsoft.Network: routeTables, networkInterfaces, usages
	busVersion         = "2024-01-01" // Microsoft.ServiceBus: namespaces, queues
)

const (
	defaultTimeout = 10 * time.Second
	// maxPages bounds a list; a page of Microsoft.Network has some hundred resources.
	maxPages = 200
)

// Config says how to reach Azure Resource Manager.
type Config struct {
	Credential azcore.TokenCredential
	// Endpoint is the ARM endpoint and Audience what its tokens are for; empty: those of the Azure public cloud.
	Endpoint, Audience string
	Transport          policy.Transporter // nil: the SDK's own
	Timeout            time.Duration      // of one question, with its tries; zero: 10 s
	Now                func() time.Time   // nil: time.Now
}

// Client asks Azure Resource Manager. Its methods may be called by several goroutines at once.
type Client struct {
	arm     *arm.Client
	timeout time.Duration
	clock   *clock
}

// New checks the configuration; it does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	c := &Client{timeout: cmp.Or(cfg.Timeout, defaultTimeout), clock: &clock{now: cfg.Now}}
	options := &arm.ClientOptions{
		DisableRPRegistration: true,
		ClientOptions: azcore.ClientOptions{
			Cloud: inCloud(cfg), Transport: cfg.Transport, PerRetryPolicies: []policy.Policy{c.clock},
			Retry: policy.RetryOptions{MaxRetries: 2, TryTimeout: c.timeout, RetryDelay: 200 * time.Millisecond, MaxRetryDelay: 2 * time.Second},
		},
	}
	var err error
	if c.arm, err = arm.NewClient("pointsman/preflight", "v1.0.0", cfg.Credential, options); err != nil {
		return nil, fmt.Errorf("preflight: %w", err)
	}
	return c, nil
}

func inCloud(cfg Config) cloud.Configuration {
	if cfg.Endpoint == "" {
		return cloud.AzurePublic
	}
	audience := cmp.Or(cfg.Audience, cloud.AzurePublic.Services[cloud.ResourceManager].Audience)
	return cloud.Configuration{
		ActiveDirectoryAuthorityHost: cloud.AzurePublic.ActiveDirectoryAuthorityHost,
		Services:                     map[cloud.ServiceName]cloud.ServiceConfiguration{cloud.ResourceManager: {Endpoint: cfg.Endpoint, Audience: audience}},
	}
}

// get asks for a resource and decodes the answer.
func (c *Client) get(ctx context.Context, id, version, filter string, into any) error {
	query := url.Values{"api-version": {version}}
	if filter != "" {
		query.Set("$filter", filter)
	}
	return c.ask(ctx, http.MethodGet, runtime.JoinPaths(c.arm.Endpoint(), id)+"?"+query.Encode(), nil, into)
}

// ask makes one request, within the timeout.
func (c *Client) ask(ctx context.Context, method, address string, body, into any) error {
	within, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := runtime.NewRequest(within, method, address)
	if err == nil && body != nil {
		err = runtime.MarshalAsJSON(request, body)
	}
	if err != nil {
		return fmt.Errorf("request: %w", err)
	}
	response, err := c.arm.Pipeline().Do(request) //nolint:bodyclose // Payload and NewResponseError read it to its end and close it
	if err == nil && !runtime.HasStatusCode(response, http.StatusOK) {
		err = runtime.NewResponseError(response)
	}
	if err != nil {
		return c.explain(ctx, err)
	}
	text, err := runtime.Payload(response)
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("the answer is not readable: %w", err)
	}
	return nil
}

// explain says in one line why there is no answer, with a kind: NotFound, Denied or Transient.
func (c *Client) explain(ctx context.Context, err error) error {
	refused, answered := httperror.From(err)
	switch {
	case answered && refused.Status == http.StatusNotFound:
		return fault.New(fault.NotFound, "%w", refused)
	case answered && (refused.Status == http.StatusForbidden || refused.Status == http.StatusUnauthorized):
		return fault.New(fault.Denied, "%w", refused)
	case answered:
		return fault.New(fault.Transient, "%w", refused)
	case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
		return fault.New(fault.Transient, "no answer within %s", c.timeout)
	}
	return fault.New(fault.Transient, "no answer: %w", err)
}

// page is a page of a list.
type page[T any] struct {
	Value    []T    `json:"value"`
	NextLink string `json:"nextLink"`
}

// list asks for all pages of a list.
func list[T any](ctx context.Context, c *Client, id, version, filter string) ([]T, error) {
	var out []T
	var p page[T]
	err := c.get(ctx, id, version, filter, &p)
	for range maxPages {
		if err != nil {
			return nil, err
		}
		out = append(out, p.Value...)
		next := p.NextLink
		if next == "" {
			return out, nil
		}
		if !strings.HasPrefix(next, strings.TrimSuffix(c.arm.Endpoint(), "/")+"/") { // our token goes nowhere else
			return nil, errors.New("the list goes on at another host")
		}
		p = page[T]{}
		err = c.ask(ctx, http.MethodGet, next, nil, &p)
	}
	return nil, fmt.Errorf("the list has more than %d pages", maxPages)
}

// clock learns from the Date of answers how far this machine's clock is off.
type clock struct {
	now func() time.Time

	mu    sync.Mutex
	best  preflight.Offset
	known bool
}

// Do implements policy.Policy.
func (k *clock) Do(request *policy.Request) (*http.Response, error) {
	sent := k.now()
	response, err := request.Next()
	if err != nil {
		return nil, err //nolint:wrapcheck // the pipeline's own
	}
	if date, bad := http.ParseTime(response.Header.Get("Date")); bad == nil {
		k.note(sent, k.now(), date)
	}
	return response, nil
}

// note keeps the offset that is known best. Date is in whole seconds, cut off (RFC 9110, section 6.6.1), and was written at some time between the two.
func (k *clock) note(sent, got, date time.Time) {
	half := got.Sub(sent) / 2
	o := preflight.Offset{Ahead: sent.Add(half).Sub(date.Add(time.Second / 2)), Within: half + time.Second/2}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.known || o.Within < k.best.Within {
		k.best, k.known = o, true
	}
}

// Offset returns how far this machine's clock is ahead of the service's, by the answers so far.
func (c *Client) Offset() preflight.Read[preflight.Offset] {
	c.clock.mu.Lock()
	defer c.clock.mu.Unlock()
	if !c.clock.known {
		return preflight.Read[preflight.Offset]{Err: errors.New("no answer of Azure's with a date")}
	}
	return preflight.Read[preflight.Offset]{Value: c.clock.best}
}
