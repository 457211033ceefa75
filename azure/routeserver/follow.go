package routeserver

import (
	"context"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/pointsman/pointsman/azure/internal/armclient"
	"github.com/pointsman/pointsman/azure/internal/armfault"
	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/peering"
)

// resumable returns by what an operation can be followed that began with this answer.
func resumable[T any](c *Client, verb, hub string, p *runtime.Poller[T], first *http.Response) (peering.Begun, error) {
	if p.Done() {
		return peering.Begun{}, nil
	}
	token, err := p.ResumeToken()
	if err != nil {
		return peering.Begun{}, fault.New(fault.Transient, "route server %s: %s: it has begun and cannot be followed: %w", hub, verb, err)
	}
	out := peering.Begun{Token: token}
	if first != nil {
		out.After = httperror.RetryAfter(first.Header, c.cfg.Now())
	}
	return out, nil
}

func noToken(hub string) error {
	return fault.New(fault.NotFound, "route server %s: an operation without a token cannot be followed", hub)
}

// follow asks once how an operation is doing. lost is why there is no poller: the token is not one of this SDK's.
func follow[T any](ctx context.Context, c *Client, hub, verb string, p *runtime.Poller[T], lost error) (result T, _ peering.Progress, _ error) {
	ended := peering.Progress{Done: true}
	if lost != nil {
		return result, ended, fault.New(fault.NotFound, "route server %s: %s: the operation cannot be followed: %w", hub, verb, lost)
	}
	// One request: who follows asks again later, in another message.
	response, err := p.Poll(policy.WithRetryOptions(ctx, armclient.Once())) //nolint:bodyclose // the SDK has read and closed it
	if err != nil {
		return result, unfollowed(err), classify(verb+": its end is not known", hub, err)
	}
	if !p.Done() {
		return result, peering.Progress{After: httperror.RetryAfter(response.Header, c.cfg.Now())}, nil
	}
	if result, err = p.Result(ctx); err != nil {
		return result, ended, classify(verb, hub, err)
	}
	return result, ended, nil
}

// unfollowed tells an operation of which nobody knows any more, or that has ended badly, from one that could not be asked after.
func unfollowed(err error) peering.Progress {
	e, ok := httperror.From(err)
	switch {
	case !ok:
		return peering.Progress{}
	case e.Status == http.StatusNotFound, e.Status == http.StatusGone, e.Status == http.StatusConflict && !e.Has(fault.CodeBusy):
		return peering.Progress{Done: true}
	}
	return peering.Progress{After: armfault.Wait(e)}
}

// hubObject is what the calls are about.
func hubObject() armfault.Object {
	return armfault.Object{
		Noun: "Route Server", Action: "Microsoft.Network/virtualHubs/bgpConnections/write",
		AtMost: "the Route Server has as many peers as it takes: remove one, or have the limit raised and maxPeers with it",
	}
}

// classify gives a failure its kind and names the Route Server.
func classify(verb, hub string, err error) error {
	e, ok := httperror.From(err)
	if !ok {
		return armfault.Unanswered(fmt.Errorf("route server %s: %s: %w", hub, verb, err))
	}
	f := hubObject().Decide(e)
	if f.Code == "" {
		f.Code = e.Specific()
	}
	f.Err = fmt.Errorf("route server %s: %s: %w", hub, verb, e)
	return f
}
