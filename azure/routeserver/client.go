// Package routeserver reads and writes the BGP peers of Azure Route Servers, and reads what these have learned.
//
// An operation on a peer takes more than a minute. So none is waited for: Begin sends ONE request, once, and returns a token by which any process can
// ask later how the operation is doing. A request whose answer is lost leaves no token; then only a new List can tell whether it was taken.
//
// Creating is conditional on there being no such peer, changing and deleting on the ETag as it was read. Whether the service heeds the conditions below a
// hub is not documented: they are what makes a late request fail where it does, and cost nothing where it does not.
package routeserver

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"

	"github.com/pointsman/pointsman/azure/internal/armclient"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/route"
)

// Config says how to reach Azure Resource Manager.
type Config struct {
	Credential azcore.TokenCredential
	// Endpoint is the ARM endpoint and Audience what its tokens are for; empty: those of the Azure public cloud.
	Endpoint, Audience string
	Transport          policy.Transporter // nil: the SDK's own
	Now                func() time.Time   // nil: time.Now
}

// Client reads and writes the peers of Route Servers of any subscription. Its methods may be called by several goroutines at once; every error has a
// fault kind.
type Client struct{ cfg Config }

// New checks the configuration; it does not connect.
func New(cfg Config) (*Client, error) {
	if cfg.Credential == nil {
		return nil, errors.New("route servers: no credential")
	}
	if cfg.Endpoint == "" && cfg.Audience != "" {
		return nil, errors.New("route servers: an audience needs an endpoint")
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	return &Client{cfg: cfg}, nil
}

// server is one Route Server with its clients.
type server struct {
	id          string
	group, name string
	one         *armnetwork.VirtualHubBgpConnectionClient
	all         *armnetwork.VirtualHubBgpConnectionsClient
}

// resolve takes the resource id of a hub apart.
func (c *Client) resolve(hub string) (server, error) {
	id, err := arm.ParseResourceID(hub)
	if err != nil || !strings.EqualFold(id.ResourceType.String(), "Microsoft.Network/virtualHubs") {
		return server{}, fault.New(fault.Refused, "route server %q: not the resource id of a virtual hub", hub).
			WithAdvice("write /subscriptions/…/resourceGroups/…/providers/Microsoft.Network/virtualHubs/NAME")
	}
	s := server{id: hub, group: id.ResourceGroupName, name: id.Name}
	options := armclient.Options(c.cfg.Endpoint, c.cfg.Audience, c.cfg.Transport)
	if s.one, err = armnetwork.NewVirtualHubBgpConnectionClient(id.SubscriptionID, c.cfg.Credential, options); err == nil {
		s.all, err = armnetwork.NewVirtualHubBgpConnectionsClient(id.SubscriptionID, c.cfg.Credential, options)
	}
	if err != nil {
		return server{}, fmt.Errorf("route servers of subscription %s: %w", id.SubscriptionID, err)
	}
	return s, nil
}

// List returns the peers as they are now, in the order of their names. NotFound means that there is no such Route Server.
func (c *Client) List(ctx context.Context, hub string) ([]peering.Peer, error) {
	s, err := c.resolve(hub)
	if err != nil {
		return nil, err
	}
	var out []peering.Peer
	for pager := s.all.NewListPager(s.group, s.name, nil); pager.More(); {
		page, failed := pager.NextPage(ctx)
		if failed != nil {
			return nil, classify("list peers", hub, failed)
		}
		for _, b := range page.Value {
			p, bad := decode(hub, b)
			if bad != nil {
				return nil, bad
			}
			out = append(out, p)
		}
	}
	slices.SortFunc(out, func(a, b peering.Peer) int { return strings.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	return out, nil
}

// decode reads a peer. One whose address or AS number cannot be understood is kept, without them: it takes a place and is somebody's.
func decode(hub string, b *armnetwork.BgpConnection) (peering.Peer, error) {
	if b == nil || value(b.Name) == "" {
		return peering.Peer{}, fault.New(fault.Transient, "route server %s: the answer has a peer without a name", hub)
	}
	p := peering.Peer{Name: *b.Name, ETag: value(b.Etag), State: peering.Settled}
	if b.Properties == nil {
		return p, nil
	}
	if a, err := netip.ParseAddr(value(b.Properties.PeerIP)); err == nil {
		p.Address = a.Unmap()
	}
	if n := value(b.Properties.PeerAsn); n > 0 && n <= 1<<32-1 {
		p.ASN = uint32(n)
	}
	p.Session = string(value(b.Properties.ConnectionState))
	p.State = stateOf(value(b.Properties.ProvisioningState))
	return p, nil
}

// stateOf reads a provisioning state; a missing or unknown one counts as settled: what is there is what shows.
func stateOf(s armnetwork.ProvisioningState) peering.State {
	switch s {
	case armnetwork.ProvisioningStateUpdating, armnetwork.ProvisioningStateCreating:
		return peering.Changing
	case armnetwork.ProvisioningStateDeleting:
		return peering.Leaving
	case armnetwork.ProvisioningStateFailed, armnetwork.ProvisioningStateCanceled:
		return peering.Broken
	case armnetwork.ProvisioningStateSucceeded:
	}
	return peering.Settled
}

// Begin begins the step, with one request that is sent once. The token is what [Client.Follow] needs; it is empty if the operation has already ended. Throttled with
// the code fault.CodeBusy means that another operation holds the Route Server, Conflict that the peer is not as the step has it any more, Transient that nobody knows
// whether it has begun.
func (c *Client) Begin(ctx context.Context, hub string, step peering.Step) (peering.Begun, error) {
	s, err := c.resolve(hub)
	if err != nil {
		return peering.Begun{}, err
	}
	var first *http.Response
	ctx = policy.WithCaptureResponse(policy.WithRetryOptions(ctx, armclient.Once()), &first)
	if step.ETag != "" {
		ctx = policy.WithHTTPHeader(ctx, http.Header{"If-Match": {step.ETag}})
	} else if step.Kind == peering.Create {
		ctx = policy.WithHTTPHeader(ctx, http.Header{"If-None-Match": {"*"}})
	}
	verb := step.Kind.String() + " peer " + step.Name
	switch step.Kind {
	case peering.Create, peering.Replace:
		body := armnetwork.BgpConnection{Properties: &armnetwork.BgpConnectionProperties{PeerIP: new(step.Address.String()), PeerAsn: new(int64(step.ASN))}}
		p, begun := s.one.BeginCreateOrUpdate(ctx, s.group, s.name, step.Name, body, nil)
		if begun != nil {
			return peering.Begun{}, classify(verb, hub, begun)
		}
		return resumable(c, verb, hub, p, first)
	case peering.Delete:
		p, begun := s.one.BeginDelete(ctx, s.group, s.name, step.Name, nil)
		if begun != nil {
			return peering.Begun{}, classify(verb, hub, begun)
		}
		return resumable(c, verb, hub, p, first)
	}
	return peering.Begun{}, fault.New(fault.Bug, "route server %s: a step of kind %s", hub, step.Kind)
}

// Follow asks once how the operation of that kind is doing. Done with an error: it has ended badly, or nobody knows of it or of its peer any
// more (NotFound); not done with an error: it could not be asked.
func (c *Client) Follow(ctx context.Context, hub string, kind peering.Kind, token string) (peering.Progress, error) {
	s, err := c.resolve(hub)
	if err != nil {
		return peering.Progress{}, err
	}
	if token == "" { // to the SDK this is the wish to begin
		return peering.Progress{Done: true}, noToken(hub)
	}
	if kind == peering.Delete {
		p, lost := s.one.BeginDelete(ctx, s.group, s.name, "peer", &armnetwork.VirtualHubBgpConnectionClientBeginDeleteOptions{ResumeToken: token})
		_, progress, failed := follow(ctx, c, hub, "delete", p, lost)
		return progress, failed
	}
	p, lost := s.one.BeginCreateOrUpdate(ctx, s.group, s.name, "peer", armnetwork.BgpConnection{}, &armnetwork.VirtualHubBgpConnectionClientBeginCreateOrUpdateOptions{ResumeToken: token})
	_, progress, err := follow(ctx, c, hub, "write", p, lost)
	return progress, err
}

// Ask asks what the instances have learned from the peer of that name; the token is what [Client.Answer] needs.
func (c *Client) Ask(ctx context.Context, hub, peer string) (peering.Begun, error) {
	s, err := c.resolve(hub)
	if err != nil {
		return peering.Begun{}, err
	}
	var first *http.Response
	verb := "list what was learned from peer " + peer
	p, err := s.all.BeginListLearnedRoutes(policy.WithCaptureResponse(ctx, &first), s.group, s.name, peer, nil)
	if err != nil {
		return peering.Begun{}, classify(verb, hub, err)
	}
	return resumable(c, verb, hub, p, first)
}

// Answer returns what the instances have learned, in the order of their names, once that is known; Done and errors are as with [Client.Follow].
func (c *Client) Answer(ctx context.Context, hub, token string) ([]peering.Instance, peering.Progress, error) {
	s, err := c.resolve(hub)
	if err != nil {
		return nil, peering.Progress{}, err
	}
	if token == "" { // to the SDK this is the wish to begin
		return nil, peering.Progress{Done: true}, noToken(hub)
	}
	p, lost := s.all.BeginListLearnedRoutes(ctx, s.group, s.name, "peer", &armnetwork.VirtualHubBgpConnectionsClientBeginListLearnedRoutesOptions{ResumeToken: token})
	result, progress, err := follow(ctx, c, hub, "list what was learned", p, lost)
	if err != nil || !progress.Done {
		return nil, progress, err
	}
	instances, err := decodeLearned(hub, result.Value)
	return instances, progress, err
}

// decodeLearned reads the routes. Routes of a family or a form that cannot be understood are an error: a comparison without them would be wrong.
func decodeLearned(hub string, byInstance map[string][]*armnetwork.PeerRoute) ([]peering.Instance, error) {
	if len(byInstance) == 0 {
		return nil, fault.New(fault.Transient, "route server %s: the answer names no instance", hub)
	}
	var out []peering.Instance
	for name, list := range byInstance {
		instance := peering.Instance{Name: name}
		for _, r := range list {
			if r == nil {
				continue
			}
			p, badPrefix := netip.ParsePrefix(value(r.Network))
			hop, badHop := netip.ParseAddr(value(r.NextHop))
			if badPrefix != nil || badHop != nil {
				return nil, fault.New(fault.Transient, "route server %s: the answer has the route %q to %q", hub, value(r.Network), value(r.NextHop))
			}
			instance.Routes = append(instance.Routes, peering.Route{Prefix: route.Canonical(p), NextHop: hop.Unmap()})
		}
		out = append(out, instance)
	}
	slices.SortFunc(out, func(a, b peering.Instance) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

// value returns what p points to, or nothing.
func value[T any](p *T) T {
	if p == nil {
		var none T
		return none
	}
	return *p
}
