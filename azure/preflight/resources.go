package preflight

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/pointsman/pointsman/shared/preflight"
	"github.com/pointsman/pointsman/shared/route"
)

// Table is a route table as far as the checks go, and whole, for the question what policies say of it.
type Table struct {
	Location string
	Routes   []string // names
	Subnets  []string // ids
	body     map[string]json.RawMessage
}

// Table reads a route table.
func (c *Client) Table(ctx context.Context, id string) (Table, error) {
	var body map[string]json.RawMessage
	if err := c.get(ctx, id, networkVersion, "", &body); err != nil {
		return Table{}, err
	}
	var properties struct {
		Routes []struct {
			Name string `json:"name"`
		} `json:"routes"`
		Subnets []struct {
			ID string `json:"id"`
		} `json:"subnets"`
	}
	t := Table{body: body}
	if err := errors.Join(member(body, "location", &t.Location), member(body, "properties", &properties)); err != nil {
		return Table{}, fmt.Errorf("the answer is not readable: %w", err)
	}
	for _, r := range properties.Routes {
		t.Routes = append(t.Routes, r.Name)
	}
	for _, s := range properties.Subnets {
		t.Subnets = append(t.Subnets, s.ID)
	}
	return t, nil
}

// Peers returns how many BGP peers a Route Server has.
func (c *Client) Peers(ctx context.Context, hub string) (int, error) {
	var there struct{}
	if err := c.get(ctx, hub, networkVersion, "", &there); err != nil {
		return 0, err
	}
	peers, err := list[struct{}](ctx, c, hub+"/bgpConnections", networkVersion, "")
	return len(peers), err
}

// member decodes a member of an object, if it is there.
func member(o map[string]json.RawMessage, name string, into any) error {
	text, ok := o[name]
	if !ok {
		return nil
	}
	if err := json.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Subnet returns the address prefixes of a subnet. Source: Subnets - Get; one prefix is addressPrefix, several are addressPrefixes.
func (c *Client) Subnet(ctx context.Context, id string) ([]netip.Prefix, error) {
	var s struct {
		Properties struct {
			Prefix   string   `json:"addressPrefix"`
			Prefixes []string `json:"addressPrefixes"`
		} `json:"properties"`
	}
	if err := c.get(ctx, id, networkVersion, "", &s); err != nil {
		return nil, err
	}
	texts := s.Properties.Prefixes
	if len(texts) == 0 {
		texts = []string{s.Properties.Prefix}
	}
	var out []netip.Prefix
	for _, text := range texts {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("the answer has the address prefix %q", text)
		}
		out = append(out, route.Canonical(p))
	}
	return out, nil
}

// permission is one as the service writes it.
type permission struct {
	Actions    []string `json:"actions"`
	NotActions []string `json:"notActions"`
}

func permissionsOf(list []permission) []preflight.Permission {
	var out []preflight.Permission
	for _, p := range list {
		out = append(out, preflight.Permission(p))
	}
	return out
}

// Own returns what the caller may do in a scope. Source: Permissions - List For Resource.
func (c *Client) Own(ctx context.Context, scope string) ([]preflight.Permission, error) {
	found, err := list[permission](ctx, c, scope+"/providers/Microsoft.Authorization/permissions", permissionsVersion, "")
	return permissionsOf(found), err
}

// Of returns what the roles of a principal (its object id) let it do in a scope: those that it was assigned there or above, also as a member of groups. Source: Role
// Assignments - List For Scope, with the filter assignedTo; Role Definitions - Get By Id.
func (c *Client) Of(ctx context.Context, scope, principal string) ([]preflight.Permission, error) {
	type assignment struct {
		ID         string `json:"id"`
		Properties struct {
			Role  string `json:"roleDefinitionId"`
			Scope string `json:"scope"`
		} `json:"properties"`
	}
	found, err := list[assignment](ctx, c, scope+"/providers/Microsoft.Authorization/roleAssignments", permissionsVersion, "assignedTo('"+principal+"')")
	if err != nil {
		return nil, fmt.Errorf("role assignments: %w", err)
	}
	var out []preflight.Permission
	seen := map[string]bool{}
	for _, a := range found {
		if seen[strings.ToLower(a.Properties.Role)] || !holdsIn(cmp.Or(a.Properties.Scope, scopeOf(a.ID)), scope) {
			continue
		}
		seen[strings.ToLower(a.Properties.Role)] = true
		var role struct {
			Properties struct {
				Permissions []permission `json:"permissions"`
			} `json:"properties"`
		}
		if err = c.get(ctx, a.Properties.Role, permissionsVersion, "", &role); err != nil {
			return nil, fmt.Errorf("role %s: %w", a.Properties.Role, err)
		}
		out = append(out, permissionsOf(role.Properties.Permissions)...)
	}
	return out, nil
}

// holdsIn reports whether what is assigned or locked at a scope holds for a resource: the scope is the resource or something that it is in.
func holdsIn(scope, resource string) bool {
	scope, resource = strings.ToLower(strings.Trim(scope, "/")), strings.ToLower(strings.Trim(resource, "/"))
	return scope == "" || scope == resource || strings.HasPrefix(resource, scope+"/") || strings.HasPrefix(scope, "providers/microsoft.management/managementgroups/")
}

// scopeOf returns the scope of a resource of Microsoft.Authorization, which its id begins with.
func scopeOf(id string) string {
	i := strings.LastIndex(strings.ToLower(id), "/providers/microsoft.authorization/")
	if i < 0 {
		return id
	}
	return id[:i]
}

// Locks returns the locks that hold for a resource: its own, its resource group's and its subscription's. A list of locks has those of a scope and below it, so each level
// is asked for its own. Source: Management Locks - List At Resource Level, At Resource Group Level, At Subscription Level.
func (c *Client) Locks(ctx context.Context, id string) ([]preflight.Lock, error) {
	type lock struct {
		ID         string `json:"id"`
		Name       string `json:"name"`
		Properties struct {
			Level string `json:"level"`
		} `json:"properties"`
	}
	var out []preflight.Lock
	for _, scope := range []string{id, levels(id, 4), levels(id, 2)} {
		found, err := list[lock](ctx, c, scope+"/providers/Microsoft.Authorization/locks", locksVersion, "")
		if err != nil {
			return nil, err
		}
		for _, l := range found {
			x := preflight.Lock{Level: l.Properties.Level, Name: l.Name, Scope: scopeOf(l.ID)}
			if holdsIn(x.Scope, id) && !slices.Contains(out, x) {
				out = append(out, x)
			}
		}
	}
	return out, nil
}

// levels returns the first parts of an id: 2 are the subscription, 4 the resource group.
func levels(id string, n int) string {
	parts := strings.Split(strings.Trim(id, "/"), "/")
	return "/" + strings.Join(parts[:min(n, len(parts))], "/")
}

// Denials asks which policies would deny the table with one more route. It is a question, no write. Source: Policy Restrictions - Check At Resource Group Scope.
func (c *Client) Denials(ctx context.Context, id string, t Table, routeName string) ([]preflight.Denial, error) {
	body, err := withRoute(id, t, routeName)
	if err != nil {
		return nil, err
	}
	var answer struct {
		Content struct {
			Evaluations []struct {
				Policy struct {
					Assignment string `json:"policyAssignmentId"`
					Definition string `json:"policyDefinitionId"`
				} `json:"policyInfo"`
				Result string `json:"evaluationResult"`
				Effect struct {
					Effect string `json:"policyEffect"`
				} `json:"effectDetails"`
			} `json:"policyEvaluations"`
		} `json:"contentEvaluationResult"`
	}
	address := runtime.JoinPaths(c.arm.Endpoint(), levels(id, 4)+"/providers/Microsoft.PolicyInsights/checkPolicyRestrictions") + "?api-version=" + policyVersion
	if err = c.ask(ctx, http.MethodPost, address, body, &answer); err != nil {
		return nil, err
	}
	var out []preflight.Denial
	for _, e := range answer.Content.Evaluations {
		denies := strings.EqualFold(e.Effect.Effect, "Deny") || e.Effect.Effect == "" // older versions evaluate policies that deny only, and do not say so
		if denies && strings.EqualFold(e.Result, "NonCompliant") {
			out = append(out, preflight.Denial{Assignment: e.Policy.Assignment, Definition: e.Policy.Definition})
		}
	}
	return out, nil
}

// withRoute is the question about a table with one route more: to an address that is for documentation, RFC 5737.
func withRoute(id string, t Table, routeName string) (map[string]any, error) {
	var properties map[string]json.RawMessage
	if err := member(t.body, "properties", &properties); err != nil {
		return nil, fmt.Errorf("the table: %w", err)
	}
	var routes []json.RawMessage
	if err := member(properties, "routes", &routes); err != nil {
		return nil, fmt.Errorf("the table: %w", err)
	}
	sample, err := json.Marshal(map[string]any{"name": routeName, "properties": map[string]string{"addressPrefix": "203.0.113.0/24", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "192.0.2.4"}})
	if err != nil {
		return nil, fmt.Errorf("sample route: %w", err)
	}
	all := map[string]any{"routes": append(routes, sample)}
	if flag, ok := properties["disableBgpRoutePropagation"]; ok {
		all["disableBgpRoutePropagation"] = flag
	}
	name := id[strings.LastIndex(id, "/")+1:]
	content := map[string]any{"type": "Microsoft.Network/routeTables", "name": name, "location": t.Location, "properties": all}
	if tags, ok := t.body["tags"]; ok {
		content["tags"] = tags
	}
	return map[string]any{"resourceDetails": map[string]any{"resourceContent": content, "apiVersion": networkVersion, "scope": levels(id, 4)}}, nil
}

// Usages returns the limits of Microsoft.Network in the region of a table, and what is used. Source: Usages - List.
func (c *Client) Usages(ctx context.Context, id, location string) ([]preflight.Usage, error) {
	type usage struct {
		Name  struct{ Value string } `json:"name"`
		Used  int                    `json:"currentValue"`
		Limit int                    `json:"limit"`
	}
	found, err := list[usage](ctx, c, levels(id, 2)+"/providers/Microsoft.Network/locations/"+location+"/usages", networkVersion, "")
	var out []preflight.Usage
	for _, u := range found {
		out = append(out, preflight.Usage{Name: u.Name.Value, Used: u.Used, Limit: u.Limit})
	}
	return out, err
}

// NICs returns the network interfaces of a subscription. Source: Network Interfaces - List All.
func (c *Client) NICs(ctx context.Context, subscription string) ([]preflight.NIC, error) {
	type nic struct {
		ID         string `json:"id"`
		Properties struct {
			Forwarding bool `json:"enableIPForwarding"`
			Configs    []struct {
				Properties struct {
					Address string `json:"privateIPAddress"`
				} `json:"properties"`
			} `json:"ipConfigurations"`
		} `json:"properties"`
	}
	found, err := list[nic](ctx, c, "/subscriptions/"+subscription+"/providers/Microsoft.Network/networkInterfaces", networkVersion, "")
	var out []preflight.NIC
	for _, n := range found {
		x := preflight.NIC{ID: n.ID, Forwarding: n.Properties.Forwarding}
		for _, cfg := range n.Properties.Configs {
			if a, bad := netip.ParseAddr(cfg.Properties.Address); bad == nil {
				x.Addresses = append(x.Addresses, a)
			}
		}
		out = append(out, x)
	}
	return out, err
}

// Namespace finds a Service Bus namespace by its host name in some subscriptions. Its name is unique in its cloud.
func (c *Client) Namespace(ctx context.Context, subscriptions []string, host string) (preflight.Namespace, error) {
	type namespace struct {
		ID   string `json:"id"`
		Name string `json:"name"`
		SKU  struct {
			Tier string `json:"tier"`
		} `json:"sku"`
		Properties struct {
			Status           string `json:"status"`
			Endpoint         string `json:"serviceBusEndpoint"`
			DisableLocalAuth bool   `json:"disableLocalAuth"`
		} `json:"properties"`
	}
	for _, subscription := range subscriptions {
		found, err := list[namespace](ctx, c, "/subscriptions/"+subscription+"/providers/Microsoft.ServiceBus/namespaces", busVersion, "")
		if err != nil {
			return preflight.Namespace{}, fmt.Errorf("namespaces of subscription %s: %w", subscription, err)
		}
		for _, n := range found {
			if sameHost(n.Properties.Endpoint, host) {
				return preflight.Namespace{ID: n.ID, Tier: n.SKU.Tier, Status: n.Properties.Status, DisableLocalAuth: n.Properties.DisableLocalAuth}, nil
			}
		}
	}
	return preflight.Namespace{}, fmt.Errorf("no namespace with that host name is in the subscriptions %s, or none that may be seen", strings.Join(subscriptions, ", "))
}

// sameHost reports whether an endpoint such as https://NAME.servicebus.windows.net:443/ has the host.
func sameHost(endpoint, host string) bool {
	u, err := url.Parse(endpoint)
	return err == nil && (strings.EqualFold(u.Host, host) || strings.EqualFold(u.Hostname(), host))
}

// Queue reads a queue of a namespace. Source: Queues - Get, with countDetails.
func (c *Client) Queue(ctx context.Context, namespace, name string) (preflight.Queue, error) {
	var q struct {
		Properties struct {
			Lock       string `json:"lockDuration"`
			Duplicates bool   `json:"requiresDuplicateDetection"`
			Window     string `json:"duplicateDetectionHistoryTimeWindow"`
			TTL        string `json:"defaultMessageTimeToLive"`
			Max        int    `json:"maxDeliveryCount"`
			Sessions   bool   `json:"requiresSession"`
			DeadLetter bool   `json:"deadLetteringOnMessageExpiration"`
			Status     string `json:"status"`
			Counts     struct {
				Active int `json:"activeMessageCount"`
				Dead   int `json:"deadLetterMessageCount"`
			} `json:"countDetails"`
		} `json:"properties"`
	}
	if err := c.get(ctx, namespace+"/queues/"+name, busVersion, "", &q); err != nil {
		return preflight.Queue{}, err
	}
	p := q.Properties
	out := preflight.Queue{MaxDelivery: p.Max, Sessions: p.Sessions, DeadLetterExpired: p.DeadLetter, Status: p.Status, Active: p.Counts.Active, DeadLettered: p.Counts.Dead}
	var errs []error
	parse := func(field, text string) time.Duration {
		d, err := duration(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", field, err))
		}
		return d
	}
	out.Lock, out.TTL = parse("lockDuration", p.Lock), parse("defaultMessageTimeToLive", p.TTL)
	if p.Duplicates {
		out.DuplicateWindow = parse("duplicateDetectionHistoryTimeWindow", p.Window)
	}
	return out, errors.Join(errs...)
}

// forever is a duration that Azure writes in days: P10675199DT2H48M5.4775807S is the longest that .NET has, and more than Go has.
const forever = 1<<63 - 1

// duration reads an ISO 8601 duration of days and below, as Azure writes them.
func duration(text string) (time.Duration, error) {
	bad := fmt.Errorf("found %q, want an ISO 8601 duration such as PT1M", text)
	rest, ok := strings.CutPrefix(text, "P")
	if !ok || rest == "" {
		return 0, bad
	}
	days, clock, timed := strings.Cut(rest, "T")
	total := 0.0
	if days != "" {
		n, err := strconv.ParseFloat(strings.TrimSuffix(days, "D"), 64)
		if err != nil || !strings.HasSuffix(days, "D") {
			return 0, bad
		}
		total = n * 24 * float64(time.Hour)
	}
	if timed {
		d, err := time.ParseDuration(strings.ToLower(clock))
		if err != nil {
			return 0, bad
		}
		total += float64(d)
	}
	if total >= forever {
		return forever, nil
	}
	return time.Duration(total), nil
}
