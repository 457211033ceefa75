package arm

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

const (
	hubPattern  = groupPattern + "/providers/microsoft.network/virtualhubs/*"
	peerPattern = hubPattern + "/bgpconnections/*"
	// kindRouteServer tells a Route Server from a hub of Virtual WAN; the value is not documented.
	kindRouteServer = "RouteServer"
	// routeServerASN is the AS number of every Route Server; both instances have it.
	routeServerASN = 65515
)

// hub is a virtual hub of the kind Route Server.
type hub struct {
	id       resourceID
	location string
	etag     string
	ips      []netip.Addr // of the two instances
	branches bool
	prefers  string
	peers    map[string]*peer // by key of the id
}

// peer is a BGP peer of a Route Server, the resource bgpConnections. It is immutable but for its routes: a change makes a new one.
type peer struct {
	id     resourceID
	etag   string
	state  string
	ip     netip.Addr
	asn    int64
	status string // connectionState; "": left out, as in the recordings
	props  object // what else its author wrote
	feed   *feed
}

// hubEndpoints returns the operations on Route Servers by method and pattern.
func (s *Server) hubEndpoints() map[string]endpoint {
	return map[string]endpoint{
		"GET " + hubPattern:                                            {"virtualHubs.Get", s.getHub},
		"GET " + strings.TrimSuffix(hubPattern, "/*"):                  {"virtualHubs.ListByResourceGroup", s.listHubs},
		"GET /subscriptions/*/providers/microsoft.network/virtualhubs": {"virtualHubs.List", s.listHubs},
		"GET " + peerPattern:                                           {"virtualHubBgpConnection.Get", s.getPeer},
		"PUT " + peerPattern:                                           {"virtualHubBgpConnection.CreateOrUpdate", s.putPeer},
		"DELETE " + peerPattern:                                        {"virtualHubBgpConnection.Delete", s.deletePeer},
		"GET " + strings.TrimSuffix(peerPattern, "/*"):                 {"virtualHubBgpConnections.List", s.listPeers},
		"POST " + peerPattern + "/learnedroutes":                       {"virtualHubBgpConnections.ListLearnedRoutes", s.listLearned},
		"POST " + peerPattern + "/advertisedroutes":                    {"virtualHubBgpConnections.ListAdvertisedRoutes", s.listAdvertised},
	}
}

// RouteServer is what [Server.PutRouteServer] needs to know.
type RouteServer struct {
	// Location is the region; empty means eastus.
	Location string
	// Instances are the addresses of the two instances; none means 10.0.255.4 and 10.0.255.5.
	Instances []netip.Addr
	// BranchToBranch exchanges routes between NVAs and gateways.
	BranchToBranch bool
	// Preference is ExpressRoute (also if empty), VpnGateway or ASPath.
	Preference string
}

// PutRouteServer creates the Route Server id without any peer, at once (Azure takes 30 to 60 minutes), or changes it and keeps its peers.
// Its resource group is made if need be.
func (s *Server) PutRouteServer(id string, rs RouteServer) error {
	parsed := parseID(id)
	if parsed.pattern() != hubPattern {
		return fmt.Errorf("ARM emulator: %s is not the id of a virtual hub", id)
	}
	if len(rs.Instances) == 0 {
		rs.Instances = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 255, 4}), netip.AddrFrom4([4]byte{10, 0, 255, 5})}
	}
	if len(rs.Instances) != instances {
		return fmt.Errorf("ARM emulator: Route Server %s has %d instances, want %d", id, len(rs.Instances), instances)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	h := &hub{
		id: parsed, location: cmp.Or(normalLocation(rs.Location), "eastus"), etag: newETag(), ips: slices.Clone(rs.Instances),
		branches: rs.BranchToBranch, prefers: cmp.Or(rs.Preference, "ExpressRoute"), peers: map[string]*peer{},
	}
	if old := s.hubs[parsed.key()]; old != nil {
		h.id, h.peers = old.id, old.peers
	}
	if _, ok := s.groups[parsed.groupKey()]; !ok {
		s.groups[parsed.groupKey()] = group{id: parsed[:4], location: h.location}
	}
	s.hubs[parsed.key()] = h
	return nil
}

// PutPeer creates or replaces the peer id (…/bgpConnections/NAME), as a third party would, but at once and without an operation or an entry
// in the call log. The body is that of a PUT. Limits are not applied.
func (s *Server) PutPeer(id string, body json.RawMessage) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	next, f := parsePeer(parseID(id), body)
	if f != nil {
		return fmt.Errorf("ARM emulator: peer %s: %s: %s", id, f.code, f.message)
	}
	h := s.hubs[next.id.parent().key()]
	if h == nil {
		return fmt.Errorf("ARM emulator: peer %s: there is no such Route Server", id)
	}
	before := h.peers[next.id.key()]
	next.etag, next.state, next.feed = newETag(), stateSucceeded, feedOf(before)
	h.peers[next.id.key()] = next
	s.notifyPeer(Event{Kind: PeerSeeded, Resource: next.id.String()}, h, before, next)
	return nil
}

// RemovePeer removes the peer id, as a third party would, at once.
func (s *Server) RemovePeer(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	parsed := parseID(id)
	if h := s.hubs[parsed.parent().key()]; h != nil && h.peers[parsed.key()] != nil {
		before := h.peers[parsed.key()]
		delete(h.peers, parsed.key())
		s.notifyPeer(Event{Kind: PeerSeeded, Resource: parsed.String(), Action: action(request{method: http.MethodDelete, id: parsed})}, h, before, nil)
	}
}

// SetConnectionState makes the peer id show as Unknown, Connecting, Connected or NotConnected; empty leaves the property out, as the
// recordings do.
func (s *Server) SetConnectionState(id, state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.peer(parseID(id)); p != nil {
		p.status = state
	}
}

// Peer returns the peer id as a GET shows it, and its ETag.
func (s *Server) Peer(id string) (body json.RawMessage, etag string, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	p := s.peer(parseID(id))
	if p == nil {
		return nil, "", false
	}
	return p.raw(), p.etag, true
}

// Peers returns the names of a Route Server's peers, in order.
func (s *Server) Peers(hubID string) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	var names []string
	if h := s.hubs[parseID(hubID).key()]; h != nil {
		for _, key := range slices.Sorted(maps.Keys(h.peers)) {
			names = append(names, h.peers[key].id.name())
		}
	}
	return names
}

func (s *Server) peer(id resourceID) *peer {
	if len(id) < 3 || s.hubs[id.parent().key()] == nil {
		return nil
	}
	return s.hubs[id.parent().key()].peers[id.key()]
}

// lookupHub returns the Route Server that r is about or below which it is.
func (s *Server) lookupHub(r request, id resourceID) (*hub, *failure) { return find(s, s.hubs, r, id) }

func (s *Server) getHub(r request) response {
	h, f := s.lookupHub(r, r.id)
	if f != nil {
		return f.response()
	}
	return response{status: http.StatusOK, header: http.Header{"Etag": {h.etag}}, body: h.raw()}
}

func (s *Server) listHubs(r request) response {
	if _, ok := s.groups[r.id.groupKey()]; !ok && r.id.group() != "" {
		return noGroup(r.id.group()).response()
	}
	scope := "/subscriptions/" + r.id.subscription()
	if r.id.group() != "" {
		scope = r.id.groupKey()
	}
	items := map[string]json.RawMessage{}
	for key, h := range s.hubs {
		if h.id.within(scope) {
			items[key] = h.raw()
		}
	}
	return s.page(r, items)
}

func (h *hub) raw() json.RawMessage {
	props := object{}
	props.setText("provisioningState", stateSucceeded)
	props.setText("sku", "Standard")
	props.setText("routingState", "Provisioned")
	props.set("virtualRouterAsn", json.RawMessage(strconv.Itoa(routeServerASN)))
	props.set("virtualRouterIps", encode(h.ips))
	props.set("virtualRouterAutoScaleConfiguration", json.RawMessage(`{"minCapacity":2}`))
	props.set("allowBranchToBranchTraffic", json.RawMessage(strconv.FormatBool(h.branches)))
	props.setText("hubRoutingPreference", h.prefers)
	refs := []map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(h.peers)) {
		refs = append(refs, map[string]string{"id": h.peers[key].id.String()})
	}
	props.set("bgpConnections", encode(refs))
	o := object{}
	o.setText("name", h.id.name())
	o.setText("id", h.id.String())
	o.setText("etag", h.etag)
	o.setText("type", "Microsoft.Network/virtualHubs")
	o.setText("location", h.location)
	o.setText("kind", kindRouteServer)
	o.set("properties", props.raw())
	return o.raw()
}

func (p *peer) raw() json.RawMessage {
	props := object{}
	props.setText("provisioningState", p.state)
	props.setText("peerIp", p.ip.String())
	props.set("peerAsn", json.RawMessage(strconv.FormatInt(p.asn, 10)))
	if p.status != "" {
		props.setText("connectionState", p.status)
	}
	for _, m := range p.props {
		props.set(m.name, m.value)
	}
	o := object{}
	o.setText("name", p.id.name())
	o.setText("id", p.id.String())
	o.setText("etag", p.etag)
	o.setText("type", "Microsoft.Network/virtualHubs/bgpConnections")
	o.set("properties", props.raw())
	return o.raw()
}

// parsePeer reads the body of a PUT. The codes of what is refused are not documented.
func parsePeer(id resourceID, body []byte) (*peer, *failure) {
	if id.pattern() != peerPattern {
		return nil, gateway(http.StatusBadRequest, "InvalidResourceType", "%s is not the id of a BGP connection.", id)
	}
	top, err := parseObject(body)
	if err != nil {
		return nil, invalidContent(err)
	}
	raw, _ := top.get("properties")
	props, err := parseObject(raw)
	if err != nil {
		return nil, provider(http.StatusBadRequest, "InvalidRequestFormat", "Cannot parse the request: a BGP connection needs properties.")
	}
	p := &peer{id: id, props: props.without("provisioningState", "connectionState", "peerIp", "peerAsn")}
	if p.ip, err = netip.ParseAddr(props.text("peerIp")); err != nil || !p.ip.Is4() {
		return nil, provider(http.StatusBadRequest, "InvalidPeerIp", "PeerIp '%s' of BGP connection %s is not an IPv4 address.", props.text("peerIp"), id)
	}
	number, _ := props.get("peerAsn")
	if p.asn, err = strconv.ParseInt(string(number), 10, 64); err != nil || reservedASN(p.asn) {
		return nil, provider(http.StatusBadRequest, "InvalidPeerAsn", "PeerAsn %s of BGP connection %s is not an ASN that a peer may have.", cmp.Or(string(number), "(none)"), id)
	}
	return p, validName(id.name())
}

// reservedASN reports whether no peer may have the AS number: 16 bits only, and neither Azure's own nor those that IANA reserves (Route Server FAQ).
func reservedASN(asn int64) bool {
	return asn < 1 || asn > 65534 || slices.Contains([]int64{8074, 8075, 12076, routeServerASN, 23456}, asn) ||
		asn >= 65517 && asn <= 65520 || asn >= 64496 && asn <= 64511
}

func (s *Server) getPeer(r request) response {
	h, f := s.lookupHub(r, r.id.parent())
	if f != nil {
		return f.response()
	}
	p := h.peers[r.id.key()]
	if p == nil {
		return noChild(r.id).response()
	}
	return response{status: http.StatusOK, header: http.Header{"Etag": {p.etag}}, body: p.raw()}
}

func (s *Server) listPeers(r request) response {
	h, f := s.lookupHub(r, r.id[:len(r.id)-1])
	if f != nil {
		return f.response()
	}
	items := map[string]json.RawMessage{}
	for key, p := range h.peers {
		items[key] = p.raw()
	}
	return s.page(r, items)
}

// putPeer creates or replaces one peer. It shows at once, as Updating.
func (s *Server) putPeer(r request) response {
	h, f := s.lookupHub(r, r.id.parent())
	if f != nil {
		return f.response()
	}
	next, f := parsePeer(r.id, r.body)
	if f != nil {
		return f.response()
	}
	current := h.peers[r.id.key()]
	if f = cmp.Or(s.checkPeerWrite(r, h, current), s.checkPeerLimits(h, current, next)); f != nil {
		return f.response()
	}
	status := http.StatusCreated
	if current != nil {
		status, next.id, next.status = http.StatusOK, current.id, current.status
		if current.state == stateSucceeded && current.sameContent(next) {
			op := s.ended(r, h.id, h.location)
			return response{status: status, header: s.asyncHeader(r, op, false), body: current.raw()}
		}
	}
	next.state, next.feed = stateUpdating, feedOf(current)
	next, op := s.writePeer(r, "PutVirtualHubBgpConnectionOperation", h, current, next)
	return response{status: status, header: s.asyncHeader(r, op, false), body: next.raw()}
}

func (p *peer) sameContent(o *peer) bool {
	return p.ip == o.ip && p.asn == o.asn && sameJSON(p.props.raw(), o.props.raw())
}

// checkPeerWrite applies what every write below a Route Server must pass: no other write in flight below the whole hub, then the conditions. That the
// provider heeds conditions on children is not documented.
func (s *Server) checkPeerWrite(r request, h *hub, current *peer) *failure {
	if op := s.latest[h.id.key()]; op != nil && op.status == opInProgress {
		if s.cfg.HubBusy == BusyRetryable {
			return busyRetryable(h.id, op.name, op.due.Sub(s.cfg.Now()))
		}
		f := busyConflict(op.url(r.base, "operations"))
		f.status = http.StatusBadRequest
		return f
	}
	if s.cfg.HubIgnoresConditions {
		return nil
	}
	etag := ""
	if current != nil {
		etag = current.etag
	}
	return unmet(r, r.id, etag)
}

// checkPeerLimits refuses a peer too many, and a second one with the address of another. Codes and texts are not documented.
func (s *Server) checkPeerLimits(h *hub, current, next *peer) *failure {
	if current == nil && len(h.peers) >= s.cfg.PeersPerHub {
		return provider(http.StatusBadRequest, "BgpPeerLimitExceeded", "Virtual hub %s has %d BGP connections, which is the limit.", h.id.name(), len(h.peers))
	}
	for _, key := range slices.Sorted(maps.Keys(h.peers)) {
		if other := h.peers[key]; other.ip == next.ip && other.id.key() != next.id.key() {
			return provider(http.StatusBadRequest, "BgpPeerIpConflict", "BGP connection %s has the peer IP %s already.", other.id.name(), next.ip)
		}
	}
	return nil
}

func (s *Server) deletePeer(r request) response {
	h, f := s.lookupHub(r, r.id.parent())
	if f != nil {
		return f.response()
	}
	current := h.peers[r.id.key()]
	if current == nil {
		return response{status: http.StatusNoContent}
	}
	if f = s.checkPeerWrite(r, h, current); f != nil {
		return f.response()
	}
	next := *current
	next.state = stateDeleting
	_, op := s.writePeer(r, "DeleteVirtualHubBgpConnectionOperation", h, current, &next)
	return response{status: http.StatusAccepted, header: s.asyncHeader(r, op, true)}
}

// writePeer makes next the peer's content, with a new ETag, and starts the operation that completes it. It holds the whole hub.
func (s *Server) writePeer(r request, name string, h *hub, current, next *peer) (*peer, *operation) {
	changed := *next
	changed.etag = newETag()
	op := &operation{
		name: name, target: h.id, location: h.location, version: r.version, principal: r.principal, outcome: r.outcome, resource: r.id.String(), action: action(r),
	}
	op.complete = func(op *operation) { s.completePeer(op, h.id, changed.id, current) }
	op.result = func() response {
		if p := s.peer(changed.id); p != nil && r.method != http.MethodDelete {
			return response{status: http.StatusOK, body: p.raw()}
		}
		return response{status: http.StatusNoContent}
	}
	h.peers[changed.id.key()] = &changed
	s.begin(op, s.cfg.PeerDuration())
	s.notifyPeer(Event{Kind: WriteAccepted, Resource: op.resource, Action: op.action, Operation: op.id, Principal: r.principal}, h, current, &changed)
	return &changed, op
}

// completePeer applies the end of op: the ETag changes once more. What a third party did meanwhile stands.
func (s *Server) completePeer(op *operation, hubID, id resourceID, undo *peer) {
	h := s.hubs[hubID.key()]
	if h == nil {
		return
	}
	before := h.peers[id.key()]
	if before == nil || before.state != stateUpdating && before.state != stateDeleting {
		s.notifyPeer(op.event(), h, before, before)
		return
	}
	after := *before
	after.etag = newETag()
	switch {
	case op.status == opCanceled && undo == nil, op.status == opSucceeded && before.state == stateDeleting:
		delete(h.peers, id.key())
		s.notifyPeer(op.event(), h, before, nil)
		return
	case op.status == opCanceled:
		after = *undo
		after.etag = newETag()
	case op.status == opFailed:
		after.state = stateFailed
	default:
		after.state = stateSucceeded
	}
	h.peers[id.key()] = &after
	s.notifyPeer(op.event(), h, before, &after)
}

// notifyPeer reports a change of a peer of h.
func (s *Server) notifyPeer(e Event, h *hub, before, after *peer) {
	e.Table = h.id.String()
	e.Action = cmp.Or(e.Action, "Microsoft.Network/virtualHubs/bgpConnections/write")
	if before != nil {
		e.Before = before.raw()
	}
	if after != nil {
		e.After = after.raw()
	}
	s.emit(e)
}
