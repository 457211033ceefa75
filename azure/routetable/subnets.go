package routetable

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"

	"github.com/pointsman/pointsman/azure/internal/armfault"
	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/route"
)

// Subnet returns the address prefixes of a subnet, by its resource id as it stands in a table. NotFound means that there is none.
func (c *Client) Subnet(ctx context.Context, id string) ([]netip.Prefix, error) {
	resource, err := arm.ParseResourceID(id)
	if err != nil || !strings.EqualFold(resource.ResourceType.String(), "Microsoft.Network/virtualNetworks/subnets") {
		return nil, fault.New(fault.Refused, "subnet %q: not the resource id of a subnet", id)
	}
	subnets, err := armnetwork.NewSubnetsClient(resource.SubscriptionID, c.cfg.Credential, c.options())
	if err != nil {
		return nil, fmt.Errorf("subnets of subscription %s: %w", resource.SubscriptionID, err)
	}
	answer, err := subnets.Get(ctx, resource.ResourceGroupName, resource.Parent.Name, resource.Name, nil)
	if err != nil {
		return nil, classifySubnet(id, err)
	}
	return prefixesOf(id, answer.Subnet)
}

// prefixesOf returns what the service calls addressPrefix where there is one, and addressPrefixes where there are several.
func prefixesOf(id string, s armnetwork.Subnet) ([]netip.Prefix, error) {
	var texts []*string
	if p := s.Properties; p != nil {
		texts = p.AddressPrefixes
		if len(texts) == 0 && p.AddressPrefix != nil {
			texts = []*string{p.AddressPrefix}
		}
	}
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(value(text))
		if err != nil {
			return nil, fault.New(fault.Transient, "subnet %s: the answer has the address prefix %q", id, value(text))
		}
		out = append(out, route.Canonical(p))
	}
	if len(out) == 0 {
		return nil, fault.New(fault.Transient, "subnet %s: the answer has no address prefix", id)
	}
	return out, nil
}

// classifySubnet is classify for a subnet that was read.
func classifySubnet(id string, err error) error {
	e, ok := httperror.From(err)
	if !ok {
		return armfault.Unanswered(fmt.Errorf("subnet %s: read: %w", id, err))
	}
	f := decide(e)
	if f.Code == "" {
		f.Code = e.Specific()
	}
	switch f.Kind {
	case fault.NotFound:
		f.Advice = ""
	case fault.Denied:
		f.Advice = "give the identity a role with Microsoft.Network/virtualNetworks/subnets/read on the virtual network, such as Pointsman's own"
	case fault.Transient, fault.Throttled, fault.Conflict, fault.Poison, fault.Refused, fault.Bug:
	}
	f.Err = fmt.Errorf("subnet %s: read: %w", id, e)
	return f
}
