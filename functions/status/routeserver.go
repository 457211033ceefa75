package status

import (
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/state"
)

// RouteServer is what is known of a Route Server.
type RouteServer struct {
	Peers     []Peer     `json:"peers"`
	PeersAt   time.Time  `json:"peersAt,omitzero"` // when they were last read
	MaxPeers  int        `json:"maxPeers"`
	Operation *Operation `json:"operation,omitempty"` // in work
	Learned   []Learned  `json:"learned,omitempty"`
	LookAt    time.Time  `json:"lookAt,omitzero"` // when it is looked next at what was learned from all peers; zero: with a sweep
}

// Peer is a BGP peer.
type Peer struct {
	peering.Peer
	Managed bool `json:"managed"`
}

// Operation is an operation on a peer. The token by which it is followed is nobody's business.
type Operation struct {
	peering.Step
	Began    time.Time `json:"began"`
	Followed bool      `json:"followed"` // false: nobody knows whether it has begun
	Asks     int       `json:"asks,omitempty"`
	Look     time.Time `json:"look,omitzero"`
}

// Learned is what was learned from one NVA.
type Learned struct {
	state.Learned
	Same  bool `json:"same"`            // no difference on any instance
	Asked bool `json:"asked,omitempty"` // an answer is awaited
}

func describeServer(d *config.Domain, r config.RouteServer, doc *state.Target) *RouteServer {
	known := doc.RouteServer.Copy()
	out := &RouteServer{Peers: []Peer{}, PeersAt: known.Read, MaxPeers: r.MaxPeers, LookAt: known.LookAt}
	rules := peering.Rules{NamePrefix: d.Policy.RouteNamePrefix, Owned: doc.Owns}
	for _, p := range known.Peers {
		out.Peers = append(out.Peers, Peer{p, rules.Managed(p)})
	}
	if op := known.Operation; op != nil {
		out.Operation = &Operation{Step: op.Step, Began: op.Began, Followed: op.Token != "", Asks: op.Asks, Look: op.Look}
	}
	for _, p := range r.Peers {
		l, looked := known.Of(p.NVA)
		if !looked {
			continue
		}
		one := Learned{Learned: l, Same: l.Same()}
		for _, a := range known.Asked {
			one.Asked = one.Asked || a.NVA == p.NVA
		}
		out.Learned = append(out.Learned, one)
	}
	return out
}

// Lines says what there is to see of a Route Server, for people.
func (r *RouteServer) Lines() []string {
	var out []string
	for _, p := range r.Peers {
		whose := "Pointsman's"
		if !p.Managed {
			whose = "not Pointsman's"
		}
		text := fmt.Sprintf("peer %s %s AS %d, %s, %s", p.Name, p.Address, p.ASN, p.State, whose)
		if p.Session != "" {
			text += ", session " + strings.ToLower(p.Session)
		}
		out = append(out, text)
	}
	if op := r.Operation; op != nil {
		out = append(out, "in work since "+op.Began.UTC().Format(time.RFC3339)+": "+op.String())
	}
	for _, l := range r.Learned {
		if l.Problem != "" {
			out = append(out, "what was learned from "+l.NVA+" is not known: "+l.Problem)
		}
		for _, h := range l.Heard {
			if h.Same() {
				out = append(out, fmt.Sprintf("%d routes learned from %s by %s, as announced", h.Routes, l.NVA, h.Instance))
			} else {
				out = append(out, "learned from "+l.NVA+" by "+h.String())
			}
		}
	}
	return out
}

// server adds the metrics of a Route Server.
func (m metrics) server(domain, target string, r *RouteServer) {
	if r == nil {
		return
	}
	m.add("pointsman_route_server_peers", "BGP peers of the Route Server, whoever made them.", "gauge", float64(len(r.Peers)), "domain", domain, "target", target)
	var began time.Time
	if r.Operation != nil {
		began = r.Operation.Began
	}
	m.add("pointsman_route_server_operation_begun_seconds", "When the operation on a peer that is in work began, in seconds since 1970; 0: none is.", "gauge", unix(began), "domain", domain, "target", target)
	for _, l := range r.Learned {
		for _, h := range l.Heard {
			at := []string{"domain", domain, "target", target, "nva", l.NVA, "instance", h.Instance}
			m.add("pointsman_route_server_learned_routes", "Routes that an instance has learned from the NVA.", "gauge", float64(h.Routes), at...)
			for _, kind := range []struct {
				name string
				n    int
			}{{"missing", h.Missing}, {"not-announced", h.Surplus}, {"next-hop", h.Astray}} {
				m.add("pointsman_route_server_differences", "Routes by which what an instance has learned differs from what the NVA announces.", "gauge", float64(kind.n), append(at, "kind", kind.name)...)
			}
		}
	}
}
