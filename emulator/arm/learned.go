package arm

import (
	"cmp"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// instances is how many instances a Route Server has: an NVA must peer with both.
const instances = 2

// PeerRoute is one route that an instance has learned from a peer, or advertises to it.
type PeerRoute struct {
	Network netip.Prefix
	// NextHop is what the peer wrote into BGP, which may be a third address such as a load balancer's frontend; invalid means the peer's own.
	NextHop netip.Addr
	// ASPath is the path as received, the neighbour's AS first; empty means the peer's own AS.
	ASPath []uint32
}

// feed is what both instances have learned from a peer and advertise to it.
type feed struct {
	learned    [instances][]PeerRoute
	advertised [instances][]PeerRoute
}

func feedOf(p *peer) *feed {
	if p == nil {
		return &feed{}
	}
	return p.feed
}

// Learn replaces what an instance, 0 or 1, has learned from the peer id (…/bgpConnections/NAME), as BGP would bring it about: routes whose AS
// path has the Route Server's own AS are dropped as loops, and above the limit of routes for each peer the session is torn down, so that
// nothing is left of it.
func (s *Server) Learn(id string, instance int, routes ...PeerRoute) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peer(parseID(id))
	if p == nil {
		return fmt.Errorf("ARM emulator: there is no peer %s", id)
	}
	if instance < 0 || instance >= instances {
		return fmt.Errorf("ARM emulator: instance %d of peer %s, want 0 to %d", instance, id, instances-1)
	}
	kept := slices.DeleteFunc(slices.Clone(routes), func(r PeerRoute) bool { return slices.Contains(r.ASPath, routeServerASN) })
	if len(kept) > s.cfg.RoutesPerPeer {
		kept = nil
	}
	p.feed.learned[instance] = kept
	return nil
}

// Advertise replaces what an instance, 0 or 1, advertises to the peer id.
func (s *Server) Advertise(id string, instance int, routes ...PeerRoute) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.peer(parseID(id))
	if p == nil {
		return fmt.Errorf("ARM emulator: there is no peer %s", id)
	}
	if instance < 0 || instance >= instances {
		return fmt.Errorf("ARM emulator: instance %d of peer %s, want 0 to %d", instance, id, instances-1)
	}
	p.feed.advertised[instance] = slices.Clone(routes)
	return nil
}

// LearnFrom asks source for what an instance has learned from a peer, each time that somebody asks the service; nil goes back to what [Server.Learn]
// set. The server is locked meanwhile: source must not call its methods and must not block.
func (s *Server) LearnFrom(source func(peerID string, instance int) []PeerRoute) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source = source
}

func (s *Server) listLearned(r request) response {
	return s.listRoutesOf(r, func(p *peer, instance int) []PeerRoute {
		if s.source != nil {
			return s.source(p.id.String(), instance)
		}
		return p.feed.learned[instance]
	})
}

func (s *Server) listAdvertised(r request) response {
	return s.listRoutesOf(r, func(p *peer, instance int) []PeerRoute { return p.feed.advertised[instance] })
}

// listRoutesOf starts an operation whose result has the routes. It holds nothing, and as recorded its answers carry Location only and the body null.
// The routes are those of when the operation ends.
func (s *Server) listRoutesOf(r request, routes func(p *peer, instance int) []PeerRoute) response {
	id := r.id[:len(r.id)-1]
	h, f := s.lookupHub(r, id.parent())
	if f != nil {
		return f.response()
	}
	if h.peers[id.key()] == nil {
		return noChild(id).response()
	}
	op := &operation{
		name: "List" + r.id.name(), target: r.id, location: h.location, version: r.version, principal: r.principal, outcome: r.outcome, onlyLocation: true,
		complete: func(*operation) {},
	}
	op.result = func() response {
		return response{status: http.StatusOK, header: s.asyncHeader(r, op, true), body: s.routesOf(id, routes)}
	}
	s.begin(op, s.cfg.LearnedDuration())
	return response{status: http.StatusAccepted, header: s.asyncHeader(r, op, true), body: []byte("null")}
}

// routesOf renders the routes of both instances.
func (s *Server) routesOf(id resourceID, routes func(p *peer, instance int) []PeerRoute) []byte {
	p := s.peer(id)
	o := object{}
	for i := range instances {
		list := []shownRoute{}
		if p != nil {
			for _, one := range routes(p, i) {
				list = append(list, s.shown(p, i, one))
			}
		}
		o.set("RouteServiceRole_IN_"+strconv.Itoa(i), encode(list))
	}
	return o.raw()
}

// shownRoute is a route as the service shows it (VirtualRouterPeerListLearnedRoute.json of the REST specification).
type shownRoute struct {
	LocalAddress string `json:"localAddress"`
	Network      string `json:"network"`
	NextHop      string `json:"nextHop"`
	SourcePeer   string `json:"sourcePeer"`
	Origin       string `json:"origin"`
	ASPath       string `json:"asPath"`
	Weight       int    `json:"weight"`
}

func (s *Server) shown(p *peer, instance int, r PeerRoute) shownRoute {
	hop := r.NextHop
	if !hop.IsValid() {
		hop = p.ip
	}
	path := make([]string, len(r.ASPath))
	for i, as := range r.ASPath {
		path[i] = strconv.FormatUint(uint64(as), 10)
	}
	local := s.hubs[p.id.parent().key()].ips[instance]
	return shownRoute{
		LocalAddress: local.String(), Network: r.Network.String(), NextHop: hop.String(), SourcePeer: p.ip.String(), Origin: "EBgp",
		ASPath: cmp.Or(strings.Join(path, "-"), strconv.FormatInt(p.asn, 10)), Weight: 32768,
	}
}
