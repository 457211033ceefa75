package routetable

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

// origin is what a read leaves in plan.Table.Origin: all that a write needs and the planner must not touch.
type origin struct {
	model armnetwork.RouteTable
	// lost is the JSON path of something that the model cannot hold; empty when a write loses nothing.
	lost string
}

// decode makes the planner's view of a table from the model and from the JSON that it was made of.
func decode(id string, model armnetwork.RouteTable, headerETag string, raw []byte) (plan.Table, error) {
	if model.Properties == nil {
		return plan.Table{}, fault.New(fault.Transient, "route table %s: the answer has no properties", id)
	}
	lost, err := firstLoss(raw, model)
	if err != nil {
		return plan.Table{}, &fault.Error{Kind: fault.Transient, Err: fmt.Errorf("route table %s: %w", id, err)}
	}
	table := plan.Table{
		ID:     id,
		ETag:   cmp.Or(value(model.Etag), headerETag),
		Routes: make([]plan.Route, 0, len(model.Properties.Routes)),
		Failed: value(model.Properties.ProvisioningState) == armnetwork.ProvisioningStateFailed,
		Origin: &origin{model: model, lost: lost},
	}
	for _, r := range model.Properties.Routes {
		if r != nil {
			table.Routes = append(table.Routes, decodeRoute(r))
		}
	}
	for _, s := range model.Properties.Subnets {
		if s != nil && value(s.ID) != "" {
			table.Subnets = append(table.Subnets, value(s.ID))
		}
	}
	return table, nil
}

func decodeRoute(r *armnetwork.Route) plan.Route {
	p := r.Properties
	if p == nil {
		p = &armnetwork.RoutePropertiesFormat{}
	}
	return plan.NewRoute(value(r.Name), value(p.AddressPrefix), plan.NextHopType(value(p.NextHopType)), decodeHops(p)...)
}

// decodeHops returns the route's next hops: none where it has none, or one that we could not have written.
func decodeHops(p *armnetwork.RoutePropertiesFormat) []netip.Addr {
	texts := []*string{p.NextHopIPAddress}
	if p.NextHop != nil {
		texts = p.NextHop.NextHopIPAddresses
	}
	hops := make([]netip.Addr, len(texts))
	for i, text := range texts {
		var err error
		if hops[i], err = netip.ParseAddr(value(text)); err != nil {
			return nil
		}
	}
	return hops
}

// encode makes the body of the PUT. The table's Origin is read and never changed: a table may be written twice.
func encode(table plan.Table, edit plan.Edit) (armnetwork.RouteTable, error) {
	read, ok := table.Origin.(*origin)
	switch {
	case !ok:
		return armnetwork.RouteTable{}, fault.New(fault.Bug, "route table %s: it was not read by this adapter", table.ID)
	case table.ETag == "":
		return armnetwork.RouteTable{}, fault.New(fault.Bug, "route table %s: no ETag, and a write is always conditional", table.ID)
	case read.lost != "":
		return armnetwork.RouteTable{}, (&fault.Error{
			Kind: fault.Refused, Code: CodeUnknownField,
			Err: fmt.Errorf("route table %s: a write would lose %s, which this version does not know", table.ID, read.lost),
		}).WithAdvice("upgrade Pointsman; until then the table stays as it is")
	}
	routes, err := apply(read.model.Properties.Routes, edit)
	if err != nil {
		return armnetwork.RouteTable{}, fmt.Errorf("route table %s: %w", table.ID, err)
	}
	return armnetwork.RouteTable{
		Location: read.model.Location,
		Tags:     read.model.Tags,
		Properties: &armnetwork.RouteTablePropertiesFormat{
			DisableBgpRoutePropagation: read.model.Properties.DisableBgpRoutePropagation,
			DisablePeeringRoute:        read.model.Properties.DisablePeeringRoute,
			Routes:                     routes,
		},
	}, nil
}

// apply returns the routes after the edit: those that stay in their place and as they were, replaced ones in their place, new ones at
// the end. A name that is both put and deleted is put. The result is never nil: a PUT without routes may delete them all.
func apply(routes []*armnetwork.Route, edit plan.Edit) ([]*armnetwork.Route, error) {
	put := make(map[string]plan.Route, len(edit.Put))
	for _, r := range edit.Put {
		put[strings.ToLower(r.Name)] = r
	}
	gone := make(map[string]bool, len(edit.Delete))
	for _, name := range edit.Delete {
		gone[strings.ToLower(name)] = true
	}
	after := make([]*armnetwork.Route, 0, len(routes)+len(edit.Put))
	for _, r := range routes {
		if r == nil {
			continue // a null in the list is no route
		}
		name := strings.ToLower(value(r.Name))
		replacement, replaced := put[name]
		switch {
		case replaced:
			delete(put, name)
			written, err := encodeRoute(replacement)
			if err != nil {
				return nil, err
			}
			written.Name = r.Name // in the spelling that the table has
			after = append(after, written)
		case !gone[name]:
			after = append(after, writable(r))
		}
	}
	return appendNew(after, edit.Put, put)
}

// appendNew adds the routes of put whose names are in isNew, in their order.
func appendNew(after []*armnetwork.Route, put []plan.Route, isNew map[string]plan.Route) ([]*armnetwork.Route, error) {
	for _, r := range put {
		if _, ok := isNew[strings.ToLower(r.Name)]; !ok {
			continue
		}
		written, err := encodeRoute(r)
		if err != nil {
			return nil, err
		}
		after = append(after, written)
	}
	return after, nil
}

// writable is a route as read without what the service owns: its id, type, ETag, state and hasBgpOverride.
func writable(r *armnetwork.Route) *armnetwork.Route {
	out := &armnetwork.Route{Name: r.Name}
	if p := r.Properties; p != nil {
		out.Properties = &armnetwork.RoutePropertiesFormat{
			AddressPrefix:    p.AddressPrefix,
			NextHopType:      p.NextHopType,
			NextHopIPAddress: p.NextHopIPAddress,
			NextHop:          p.NextHop,
		}
	}
	return out
}

func encodeRoute(r plan.Route) (*armnetwork.Route, error) {
	address := r.Address
	if address == "" {
		address = r.Prefix.String()
	}
	typ := armnetwork.RouteNextHopType(r.Type)
	out := &armnetwork.Route{
		Name:       &r.Name,
		Properties: &armnetwork.RoutePropertiesFormat{AddressPrefix: &address, NextHopType: &typ},
	}
	hops := r.NextHops.Addrs()
	texts := make([]*string, len(hops))
	for i, hop := range hops {
		text := hop.String()
		texts[i] = &text
	}
	switch {
	case r.Type == plan.VirtualAppliance && len(hops) == 1:
		out.Properties.NextHopIPAddress = texts[0]
	case r.Type == plan.VirtualApplianceECMP && len(hops) >= 2 && len(hops) <= plan.MaxECMP:
		out.Properties.NextHop = &armnetwork.RouteNextHopEcmp{NextHopIPAddresses: texts}
	case r.Type == plan.VirtualAppliance || r.Type == plan.VirtualApplianceECMP:
		return nil, fault.New(fault.Bug, "route %s to %s: %d next hops do not go with type %s", r.Name, address, len(hops), r.Type)
	}
	return out, nil // Azure refuses an address with any other type
}

// firstLoss returns the path of the first thing in raw that the model does not hold, or "". What the service owns is left out of a
// write anyway and does not count.
func firstLoss(raw []byte, model armnetwork.RouteTable) (string, error) {
	kept, err := json.Marshal(model)
	if err != nil {
		return "", fmt.Errorf("encode again: %w", err)
	}
	before, err := generic(raw)
	if err != nil {
		return "", err
	}
	after, err := generic(kept)
	if err != nil {
		return "", err
	}
	return difference("$", before, after), nil
}

func isRouteTable(id *arm.ResourceID) bool {
	return strings.EqualFold(id.ResourceType.String(), "Microsoft.Network/routeTables") && id.ResourceGroupName != ""
}

// succeeded reports whether an answer says that its operation, or the table itself, is in the state Succeeded.
func succeeded(response *http.Response) bool {
	if response == nil {
		return false
	}
	body, err := runtime.Payload(response)
	if err != nil {
		return false
	}
	var state struct {
		Status     string `json:"status"`
		Properties struct {
			ProvisioningState string `json:"provisioningState"`
		} `json:"properties"`
	}
	if json.Unmarshal(body, &state) != nil {
		return false
	}
	return strings.EqualFold(cmp.Or(state.Status, state.Properties.ProvisioningState), "Succeeded")
}

// value returns what p points to, or the zero value.
func value[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
