// Package routetable reads and writes Azure route tables.
//
// A write, in order (the adapter's part of the write protocol):
//
//  1. the whole table as it was read, with the edit in it; what the service owns is left out; routes is never left out
//  2. ONE PUT with If-Match, sent once: a repetition by the SDK could not tell its own success from another's write
//  3. refused: say why, with advice, and change nothing
//  4. no answer: Transient; only a new read can tell whether it was applied
//  5. accepted: poll the operation, 100 ms growing to 2 s, longer where Retry-After says so. The ETag of the PUT's answer is
//     not the final one, so it is not handed out: the next Get has it
//
// A table that holds something which this version's model would lose is read but never written.
package routetable

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"

	"github.com/pointsman/pointsman/azure/internal/armclient"
	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

const (
	defaultPollFloor   = 100 * time.Millisecond
	defaultPollCeiling = 2 * time.Second
	// defaultOperationTimeout: a route table write takes 1 to 10 s; what takes longer is looked at again by the next wake.
	defaultOperationTimeout = 2 * time.Minute
)

// Config says how to reach Azure Resource Manager.
type Config struct {
	Credential azcore.TokenCredential
	// Endpoint is the ARM endpoint and Audience what its tokens are for; empty: those of the Azure public cloud.
	Endpoint, Audience string
	Transport          policy.Transporter // nil: the SDK's own
	// PollFloor and PollCeiling bound the pause between two polls of an operation; zero: 100 ms and 2 s.
	PollFloor, PollCeiling time.Duration
	// OperationTimeout bounds the polling; zero: 2 min. The operation goes on without us.
	OperationTimeout time.Duration
	Now              func() time.Time                                 // nil: time.Now
	Sleep            func(ctx context.Context, d time.Duration) error // nil: a timer; returns early with the context's error
	Logger           *slog.Logger                                     // nil: none
	// OnCall, if set, is told of every HTTP request that was sent, in the caller's goroutine.
	OnCall func(Call)
}

// Client reads and writes route tables of any subscription. Its methods may be called by several goroutines at once; every error
// has a fault kind.
type Client struct {
	cfg   Config
	meter *meter

	mu             sync.Mutex
	bySubscription map[string]*armnetwork.RouteTablesClient
}

// New checks the configuration; it does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.Credential == nil {
		return nil, errors.New("route tables: no credential")
	}
	if cfg.Endpoint == "" && cfg.Audience != "" {
		return nil, errors.New("route tables: an audience needs an endpoint")
	}
	cfg.PollFloor = cmp.Or(cfg.PollFloor, defaultPollFloor)
	cfg.PollCeiling = max(cmp.Or(cfg.PollCeiling, defaultPollCeiling), cfg.PollFloor)
	cfg.OperationTimeout = cmp.Or(cfg.OperationTimeout, defaultOperationTimeout)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Sleep == nil {
		cfg.Sleep = sleep
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	return &Client{cfg: cfg, meter: &meter{writes: map[string]reading{}}, bySubscription: map[string]*armnetwork.RouteTablesClient{}}, nil
}

// Get reads the table as it is now: nothing is cached. NotFound means that there is none.
func (c *Client) Get(ctx context.Context, id string) (plan.Table, error) {
	resource, tables, err := c.resolve(id)
	if err != nil {
		return plan.Table{}, err
	}
	var raw *http.Response
	response, err := tables.Get(policy.WithCaptureResponse(ctx, &raw), resource.ResourceGroupName, resource.Name, nil)
	if err != nil {
		return plan.Table{}, classify("read", id, err)
	}
	body, err := runtime.Payload(raw)
	if err != nil {
		return plan.Table{}, classify("read", id, err)
	}
	return decode(id, response.RouteTable, raw.Header.Get("ETag"), body)
}

// Put writes the table as read with the edit in it, if it is unchanged since, and waits until Azure has finished. An empty edit
// writes the same content again. Conflict means that somebody else was first or that the operation was superseded, Transient
// that the outcome is unknown: in both cases read again. Refused means that the table must not be, or was not, written like this.
func (c *Client) Put(ctx context.Context, table plan.Table, edit plan.Edit) error {
	body, err := encode(table, edit)
	if err != nil {
		return err
	}
	resource, tables, err := c.resolve(table.ID)
	if err != nil {
		return err
	}
	var first *http.Response
	poller, err := tables.BeginCreateOrUpdate(onceIfMatch(ctx, table.ETag, &first), resource.ResourceGroupName, resource.Name, body, nil)
	if err != nil {
		return classifyWrite(table.ID, edit, err)
	}
	return c.wait(ctx, table.ID, edit, poller, first)
}

// onceIfMatch is for the PUT alone, not for the polls: the condition, and a single try.
func onceIfMatch(ctx context.Context, etag string, captured **http.Response) context.Context {
	ctx = policy.WithHTTPHeader(ctx, http.Header{"If-Match": {etag}})
	ctx = policy.WithRetryOptions(ctx, armclient.Once())
	return policy.WithCaptureResponse(ctx, captured)
}

// poller is what wait needs of runtime.Poller.
type poller interface {
	Done() bool
	Poll(ctx context.Context) (*http.Response, error)
	Result(ctx context.Context) (armnetwork.RouteTablesClientCreateOrUpdateResponse, error)
}

// wait polls until the operation has ended. It does not make the SDK's final GET of the table where the last answer says Succeeded:
// nobody needs it here, and it counts against the read limit.
func (c *Client) wait(ctx context.Context, id string, edit plan.Edit, p poller, last *http.Response) error {
	bounded, cancel := context.WithTimeout(ctx, c.cfg.OperationTimeout)
	defer cancel()
	for pause := c.cfg.PollFloor; !p.Done(); pause = min(2*pause, c.cfg.PollCeiling) {
		if err := c.cfg.Sleep(bounded, max(pause, c.retryAfter(last))); err != nil {
			return classifyPoll(id, err)
		}
		response, err := p.Poll(bounded) //nolint:bodyclose // the SDK has read and closed it
		if err != nil {
			f := classifyPoll(id, err)
			if f.Advice != "" || bounded.Err() != nil { // only a person can help, or time is up
				return f
			}
			c.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "poll failed", slog.String("table", id), slog.Any("error", f))
			last = answerTo(err) //nolint:bodyclose // likewise
			continue
		}
		last = response
	}
	if succeeded(last) {
		return nil
	}
	if _, err := p.Result(bounded); err != nil {
		return classifyWrite(id, edit, err)
	}
	return nil
}

func (c *Client) retryAfter(response *http.Response) time.Duration {
	if response == nil {
		return 0
	}
	return httperror.RetryAfter(response.Header, c.cfg.Now())
}

// answerTo returns the answer that err stands for, if there was one.
func answerTo(err error) *http.Response {
	if response, ok := errors.AsType[*azcore.ResponseError](err); ok {
		return response.RawResponse
	}
	return nil
}

// resolve takes a resource id apart and returns the client of its subscription.
func (c *Client) resolve(id string) (*arm.ResourceID, *armnetwork.RouteTablesClient, error) {
	resource, err := arm.ParseResourceID(id)
	if err != nil || !isRouteTable(resource) {
		return nil, nil, fault.New(fault.Refused, "route table %q: not the resource id of a route table", id).
			WithAdvice("write /subscriptions/…/resourceGroups/…/providers/Microsoft.Network/routeTables/NAME")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if tables, ok := c.bySubscription[resource.SubscriptionID]; ok {
		return resource, tables, nil
	}
	tables, err := armnetwork.NewRouteTablesClient(resource.SubscriptionID, c.cfg.Credential, c.options())
	if err != nil {
		return nil, nil, fmt.Errorf("route tables of subscription %s: %w", resource.SubscriptionID, err)
	}
	c.bySubscription[resource.SubscriptionID] = tables
	return resource, tables, nil
}

func (c *Client) options() *arm.ClientOptions {
	return armclient.Options(c.cfg.Endpoint, c.cfg.Audience, c.cfg.Transport, &observer{now: c.cfg.Now, onCall: c.cfg.OnCall, meter: c.meter})
}

// sleep waits for d or until the context ends.
func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return fmt.Errorf("wait for the operation: %w", ctx.Err())
	case <-timer.C:
		return nil
	}
}
