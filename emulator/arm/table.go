package arm

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

const (
	// latestVersion is the api-version that armnetwork v11 speaks.
	latestVersion = "2025-09-01"
	// peeringVersion is the first api-version that knows disablePeeringRoute.
	peeringVersion = "2025-07-01"
	// ecmpVersion is the first api-version that knows the next hop type ecmpType.
	ecmpVersion = "2025-07-01"
	ecmpType    = "VirtualApplianceEcmp"
	// maxTagRoutes is how many routes of one table may name a service tag.
	maxTagRoutes = 25
)

// The provisioning states that this emulator uses.
const (
	stateSucceeded = "Succeeded"
	stateUpdating  = "Updating"
	stateDeleting  = "Deleting"
	stateFailed    = "Failed"
)

// table is one route table. It is immutable: a change makes a new one, so that a snapshot is a pointer.
type table struct {
	id       resourceID
	location string
	tags     json.RawMessage // nil: none
	extra    object          // unknown members
	props    object          // properties that are the client's, known or not, other than routes
	routes   []route

	etag  string // `W/"guid"`; that of every route too
	guid  string // resourceGuid
	state string
}

// route is one route as its author wrote it.
type route struct {
	name     string
	extra    object
	props    object
	deleting bool
}

// view says how a table is shown.
type view struct {
	version string // api-version of the request
	list    bool   // in a collection, which leaves defaults out
	subnets []string
}

// parseTable reads the body of a PUT. Read-only members are the server's and are ignored; routes omitted means no routes, the worst
// case of what is reported.
func parseTable(id resourceID, body []byte) (*table, *failure) {
	top, err := parseObject(body)
	if err != nil {
		return nil, invalidContent(err)
	}
	t := &table{id: id, location: normalLocation(top.text("location"))}
	if tags, ok := top.get("tags"); ok {
		t.tags = tags
	}
	t.extra = top.without("id", "name", "type", "etag", "location", "tags", "properties")
	raw, ok := top.get("properties")
	if !ok {
		return t, nil
	}
	props, err := parseObject(raw)
	if err != nil {
		return nil, invalidContent(err)
	}
	t.props = props.without("provisioningState", "resourceGuid", "subnets", "routes")
	t.props = dropDefaults(t.props)
	if raw, ok = props.get("routes"); !ok {
		return t, nil
	}
	var routes []json.RawMessage
	if err = json.Unmarshal(raw, &routes); err != nil {
		return nil, invalidContent(err)
	}
	for _, text := range routes {
		r, f := parseRoute(text)
		if f != nil {
			return nil, f
		}
		t.routes = append(t.routes, r)
	}
	return t, nil
}

func parseRoute(body []byte) (route, *failure) {
	top, err := parseObject(body)
	if err != nil {
		return route{}, invalidContent(err)
	}
	r := route{name: top.text("name"), extra: top.without("id", "name", "type", "etag", "properties")}
	raw, ok := top.get("properties")
	if !ok {
		return r, nil
	}
	props, err := parseObject(raw)
	if err != nil {
		return route{}, invalidContent(err)
	}
	r.props = dropNull(props.without("provisioningState", "hasBgpOverride"), "nextHopIpAddress", "nextHop")
	return r, nil
}

// dropDefaults removes the defaults that answers show although nobody wrote them, so that writing them back changes nothing.
func dropDefaults(props object) object {
	if value, _ := props.get("disableBgpRoutePropagation"); string(value) == "false" {
		props = props.without("disableBgpRoutePropagation")
	}
	if props.text("disablePeeringRoute") == "None" {
		props = props.without("disablePeeringRoute")
	}
	return props
}

// dropNull removes those of names that are null, which means absent.
func dropNull(o object, names ...string) object {
	for _, name := range names {
		if _, ok := o.get(name); !ok {
			o = o.without(name)
		}
	}
	return o
}

// raw returns the table as an answer shows it.
func (t *table) raw(v view) json.RawMessage {
	o := object{}
	o.setText("name", t.id.name())
	o.setText("id", t.id.String())
	o.setText("etag", t.etag)
	o.setText("type", "Microsoft.Network/routeTables")
	o.setText("location", t.location)
	if t.tags != nil {
		o.set("tags", t.tags)
	}
	o = append(o, t.extra...)
	o.set("properties", t.properties(v))
	return o.raw()
}

func (t *table) properties(v view) json.RawMessage {
	o := object{}
	o.setText("provisioningState", t.state)
	o.setText("resourceGuid", t.guid)
	if _, ok := t.props.get("disableBgpRoutePropagation"); !ok {
		o.set("disableBgpRoutePropagation", json.RawMessage("false"))
	}
	for _, m := range t.props {
		o.set(m.name, m.value)
	}
	if _, ok := t.props.get("disablePeeringRoute"); !ok && !v.list && v.version >= peeringVersion {
		o.setText("disablePeeringRoute", "None")
	}
	routes := make([]json.RawMessage, 0, len(t.routes))
	for _, r := range t.routes {
		routes = append(routes, t.rawRoute(r))
	}
	o.set("routes", array(routes))
	if len(v.subnets) > 0 {
		subnets := make([]json.RawMessage, 0, len(v.subnets))
		for _, id := range v.subnets {
			subnets = append(subnets, encode(map[string]string{"id": id}))
		}
		o.set("subnets", array(subnets))
	}
	return o.raw()
}

// rawRoute returns a route as an answer shows it: its etag is the table's.
func (t *table) rawRoute(r route) json.RawMessage {
	props := object{}
	props.setText("provisioningState", t.routeState(r))
	for _, m := range r.props {
		props.set(m.name, m.value)
	}
	props.set("hasBgpOverride", json.RawMessage("false"))

	o := object{}
	o.setText("name", r.name)
	o.setText("id", t.id.route(r.name).String())
	o.setText("etag", t.etag)
	o = append(o, r.extra...)
	o.set("properties", props.raw())
	o.setText("type", "Microsoft.Network/routeTables/routes")
	return o.raw()
}

func (t *table) routeState(r route) string {
	if r.deleting {
		return stateDeleting
	}
	return t.state
}

// find returns the index of the route called name, -1 if there is none.
func (t *table) find(name string) int {
	return slices.IndexFunc(t.routes, func(r route) bool { return strings.EqualFold(r.name, name) })
}

// with returns a copy in which r has replaced the route of its name or has been added.
func (t *table) with(r route) *table {
	next := *t
	next.routes = slices.Clone(t.routes)
	if i := t.find(r.name); i >= 0 {
		r.name = t.routes[i].name
		next.routes[i] = r
	} else {
		next.routes = append(next.routes, r)
	}
	return &next
}

// sameContent reports whether a PUT of t over u would change nothing.
func (t *table) sameContent(u *table) bool {
	return t.location == u.location && sameJSON(t.tags, u.tags) && sameJSON(t.extra.raw(), u.extra.raw()) &&
		sameJSON(t.props.raw(), u.props.raw()) && slices.EqualFunc(t.routes, u.routes, route.sameContent)
}

func (r route) sameContent(u route) bool {
	return r.name == u.name && sameJSON(r.extra.raw(), u.extra.raw()) && sameJSON(r.props.raw(), u.props.raw())
}

// validate checks what the provider checks before it accepts a write. HTTP status and codes of the next hop rules are not documented.
func (t *table) validate(maxRoutes int) *failure {
	if len(t.routes) > maxRoutes {
		return provider(http.StatusBadRequest, "RoutesPerRouteTableLimitReached",
			"Route table %s cannot have more than %d routes.", t.id, maxRoutes)
	}
	names, prefixes, tags := map[string]bool{}, map[string]string{}, 0
	for _, r := range t.routes {
		if f := r.validate(t.id); f != nil {
			return f
		}
		if name := strings.ToLower(r.name); names[name] {
			return provider(http.StatusBadRequest, "DuplicateResourceName",
				"Resource %s has two child resources with the same name (%s).", t.id, r.name)
		}
		names[strings.ToLower(r.name)] = true
		prefix := strings.ToLower(r.props.text("addressPrefix"))
		if parsed, err := netip.ParsePrefix(prefix); err == nil {
			prefix = parsed.String()
		} else if tags++; tags > maxTagRoutes {
			return provider(http.StatusBadRequest, "ServiceTagRoutesLimitReached",
				"Route table %s cannot have more than %d routes with service tags.", t.id, maxTagRoutes)
		}
		if other, ok := prefixes[prefix]; ok {
			return provider(http.StatusBadRequest, "RouteConflict",
				"Route: %s conflicts with Route: %s. Routes cannot have the same AddressPrefix.", other, r.name)
		}
		prefixes[prefix] = r.name
	}
	return nil
}

func (r route) validate(tableID resourceID) *failure {
	if f := validName(r.name); f != nil {
		return f
	}
	id := tableID.route(r.name)
	if f := validPrefix(id, r.props.text("addressPrefix")); f != nil {
		return f
	}
	hop, hasHop := r.props.get("nextHop")
	_, hasAddress := r.props.get("nextHopIpAddress")
	address := r.props.text("nextHopIpAddress")
	switch kind := r.props.text("nextHopType"); kind {
	case "VirtualAppliance":
		if address == "" {
			return provider(http.StatusBadRequest, "NextHopIpAddressRequired",
				"NextHopIpAddress cannot be Null or Empty in route when NextHopType is VirtualAppliance: %s.", id)
		}
		if _, err := netip.ParseAddr(address); err != nil || hasHop {
			return provider(http.StatusBadRequest, "InvalidNextHopIpAddress", "NextHopIpAddress %q of route %s is invalid.", address, id)
		}
	case ecmpType:
		if hasAddress {
			return nextHopNotAllowed(id, kind)
		}
		return validECMP(id, hop)
	case "VirtualNetworkGateway", "VnetLocal", "Internet", "None":
		if hasAddress || hasHop {
			return nextHopNotAllowed(id, kind)
		}
	default:
		return unknownType(id, kind)
	}
	return nil
}

func unknownType(id resourceID, kind string) *failure {
	return provider(http.StatusBadRequest, "InvalidRequestFormat", "Cannot parse the request: nextHopType %q of route %s.", kind, id)
}

func nextHopNotAllowed(id resourceID, kind string) *failure {
	return provider(http.StatusBadRequest, "NextHopIpAddressNotAllowed",
		"NextHopIpAddress must be omitted in route %s when NextHopType is %s.", id, kind)
}

// validECMP checks nextHop, {"nextHopIpAddresses":[2 to 64 addresses]}.
func validECMP(id resourceID, raw json.RawMessage) *failure {
	var hop struct {
		NextHopIPAddresses []string `json:"nextHopIpAddresses"`
	}
	bad := provider(http.StatusBadRequest, "InvalidNextHop",
		"Route %s with NextHopType VirtualApplianceEcmp needs 2 to 64 distinct nextHop.nextHopIpAddresses.", id)
	if raw == nil || json.Unmarshal(raw, &hop) != nil || len(hop.NextHopIPAddresses) < 2 || len(hop.NextHopIPAddresses) > 64 {
		return bad
	}
	seen := map[netip.Addr]bool{}
	for _, text := range hop.NextHopIPAddresses {
		addr, err := netip.ParseAddr(text)
		if err != nil || seen[addr] {
			return bad
		}
		seen[addr] = true
	}
	return nil
}

// validName checks the rules of resource names: 1 to 80 characters, alphanumerics and _ . -, an alphanumeric first, and an
// alphanumeric or _ last.
func validName(name string) *failure {
	inner := func(r rune) bool { return isAlphanumeric(r) || strings.ContainsRune("_.-", r) }
	last := func(r rune) bool { return isAlphanumeric(r) || r == '_' }
	if n := len(name); n >= 1 && n <= 80 && all(name, inner) && all(name[:1], isAlphanumeric) && all(name[n-1:], last) {
		return nil
	}
	return provider(http.StatusBadRequest, "InvalidResourceName",
		"Resource name %s is invalid. The name can be up to 80 characters long. It must begin with a word character, and it must end "+
			"with a word character or with '_'. The name may contain word characters or '.', '-', '_'.", name)
}

func all(text string, ok func(rune) bool) bool {
	return !strings.ContainsFunc(text, func(r rune) bool { return !ok(r) })
}

func isAlphanumeric(r rune) bool { return isLetter(r) || '0' <= r && r <= '9' }
func isLetter(r rune) bool       { return 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z' }

// validPrefix accepts an address prefix without host bits or a service tag such as Storage.EastUS.
func validPrefix(id resourceID, text string) *failure {
	tag := func(r rune) bool { return isAlphanumeric(r) || r == '.' }
	if text != "" && all(text[:1], isLetter) && all(text, tag) {
		return nil
	}
	prefix, err := netip.ParsePrefix(text)
	if err != nil {
		return provider(http.StatusBadRequest, "InvalidAddressPrefixFormat",
			"Address prefix %s of resource %s is not formatted correctly. It should follow CIDR notation, for example 10.0.0.0/24.", text, id)
	}
	if prefix != prefix.Masked() {
		return provider(http.StatusBadRequest, "InvalidCIDRNotation",
			"The address prefix %s in resource %s has an invalid CIDR notation. For the given prefix length, the address prefix should be %s.",
			text, id, prefix.Masked())
	}
	return nil
}

func invalidContent(err error) *failure {
	return gateway(http.StatusBadRequest, "InvalidRequestContent",
		"The request content was invalid and could not be deserialized: '%s'.", err)
}

// normalLocation brings "East US" into the form that answers show, "eastus".
func normalLocation(location string) string {
	return strings.ToLower(strings.ReplaceAll(location, " ", ""))
}
