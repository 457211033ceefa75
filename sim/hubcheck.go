package sim

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/state"
)

// checkBegin checks one operation when the request for it is sent, against what the run knew: the name is listed as ours, the target was not paused, and
// the list of peers that it has read showed no operation in work.
func (h *hub) checkBegin(c *call, step peering.Step) {
	doc := h.w.targetDocument(h.name)
	switch {
	case saidOf(c.target).paused():
		h.w.violate("pause", "%s was paused, the run has read that, and it begins %s", h.name, step)
	case c.listed != nil:
		h.w.violate("peers", "%s: %s is begun, and the list that was read shows another one in work: %s", h.name, step, c.listed.what)
	case doc == nil || !doc.Owns(step.Name):
		h.w.violate("peers", "%s: %s is begun before its name is listed as ours", h.name, step)
	}
}

// checkToken: a run that has begun an operation, knows by what token it can be followed, and ended in order, has saved that.
func (c *call) checkToken() {
	op := c.operation
	if op == nil || c.crashed || c.err != nil || c.saved == nil || op.ended {
		return
	}
	if doc := c.w.targetDocument(c.hub.name); doc.RouteServer == nil || doc.RouteServer.Operation == nil || doc.RouteServer.Operation.Token != op.token {
		c.w.violate("peers", "%s: %s is in work, the run that began it has ended, and nobody can follow it: %+v", c.hub.name, op.what, doc.RouteServer.Operation)
	}
}

// checkHubs: at rest the declared peers exist as declared, but for what another hand is in the way of; none of ours is left that is not declared; the document knows whose they are.
func (w *World) checkHubs() {
	for _, h := range w.hubs {
		if h.operation != nil {
			w.violate("peers", "%s: %s is in work at rest", h.name, h.operation.what)
		}
		for _, want := range h.setup().Peers {
			h.checkDeclared(want)
		}
		for _, p := range h.peers {
			h.checkOurs(p)
		}
	}
}

func (h *hub) checkDeclared(want PeerSetup) {
	address := h.w.setup.nva(want.NVA).Hop
	fits := func(p hubPeer) bool { return p.Address == address && p.ASN == want.ASN }
	blocks := func(p hubPeer) bool { // it stands in the way
		return !p.ours && !fits(p) && (p.Address == address || strings.EqualFold(p.Name, managed(want.NVA)))
	}
	if full := len(h.peers) >= h.most(); !full && !slices.ContainsFunc(h.peers, fits) && !slices.ContainsFunc(h.peers, blocks) {
		h.w.violate("peers", "%s: there is no peer for %s (%s AS %d) at rest: %+v", h.name, want.NVA, address, want.ASN, h.peers)
	}
}

func (h *hub) checkOurs(p hubPeer) {
	doc := h.w.targetDocument(h.name)
	name, has := strings.CutPrefix(p.Name, managed(""))
	switch {
	case !p.ours:
	case p.State != peering.Settled:
		h.w.violate("peers", "%s: our peer %s is %s at rest", h.name, p.Name, p.State)
	case !has || h.setup().peer(name).NVA == "":
		h.w.violate("peers", "%s: our peer %s is still there at rest, and nobody has declared it", h.name, p.Name)
	case doc == nil || !doc.Owns(p.Name):
		h.w.violate("peers", "%s: our peer %s is there, and the target's document has forgotten it", h.name, p.Name)
	}
}

func managed(nva string) string { return "pointsman-" + nva }

// Which prefixes of range `override` a table holds (docs/route-server.md, Override):
//
//	an NVA that announces the prefix, peers with the Route Server and is down or draining,
//	and that the Route Server still leads to                                                     another one that announces it is usable    in the table
//	yes                                                                                          yes                                        yes
//	yes                                                                                          no                                         as it was
//	no                                                                                           -                                          no
//
// overridden reports whether the table must hold it, at rest; either: it may.
func (x witness) overridden(p netip.Prefix) (must, either bool) {
	led, usable := false, false
	for _, n := range x.w.setup.NVAs {
		if !x.announces(n, p) {
			continue
		}
		lost := x.w.nva(n.Name).agent == nil && !x.w.nva(n.Name).unguarded(x.docs[n.Name]) || x.drains(n.Name)
		kept := lost && !x.drains(n.Name) && (x.w.setup.Hold && !x.w.setup.Witness || x.frozen(n.Name)) // silent, and believed to forward
		switch {
		case kept:
			usable, either = true, true
		case !lost:
			usable = true
		default:
			for _, h := range x.w.hubs {
				led = led || h.setup().peer(n.Name).NVA != "" && h.leads(n.Name)
			}
		}
	}
	if either {
		return false, true
	}
	return led && usable, led && !usable
}

// belongs reports whether a prefix must be in the table at rest; either: it may be or not.
func (x witness) belongs(p netip.Prefix) (must, either bool) {
	switch x.w.setup.via(p) {
	case viaRouteServer:
		return false, false
	case viaOverride:
		return x.overridden(p)
	}
	return true, false
}

// checkOverrideGone: an override is taken out only when no instance leads to an NVA any more that is known to be dead, and off, as long as another one could carry the prefix.
func (x witness) checkOverrideGone(p netip.Prefix) {
	if x.w.edited {
		return
	}
	for _, n := range x.w.setup.NVAs {
		machine := x.w.nva(n.Name)
		if !x.announces(n, p) || x.mayForward(n) && !x.drains(n.Name) || machine.on || machine.quiet.After(x.docs[n.Name].Since) {
			continue
		}
		for _, h := range x.w.hubs {
			if h.setup().peer(n.Name).NVA != "" && h.leadsFor(n.Name, p) && x.anyUp(p) {
				x.w.violate("override", "table %s: the route for %s was removed, and %s leads to %s, which is off since %v", x.t.name, p, h.name, n.Name, machine.quiet.Sub(start()))
			}
		}
	}
}

// checkOverride: an override is put in because an NVA that announces the prefix, and peers with a Route Server, does not work.
func (x witness) checkOverride(p netip.Prefix) {
	if x.w.edited {
		return
	}
	switch x.w.setup.via(p) {
	case viaRouteServer:
		x.w.violate("override", "table %s: %s goes by way of the Route Server alone, and was put into the table", x.t.name, p)
	case viaOverride:
		if !slices.ContainsFunc(x.w.setup.NVAs, func(n NVASetup) bool {
			return x.announces(n, p) && !x.up(n) && slices.ContainsFunc(x.w.setup.Hubs, func(h HubSetup) bool { return h.peer(n.Name).NVA != "" })
		}) {
			x.w.violate("override", "table %s: %s was put into the table, and everybody who announces it is up", x.t.name, p)
		}
	}
}

// silent reports whether the Route Server could not be asked what it has learned, when it was tried last.
func (h *hub) silent() bool {
	doc := h.w.targetDocument(h.name)
	return doc != nil && doc.RouteServer != nil && slices.ContainsFunc(doc.RouteServer.Learned, func(l state.Learned) bool { return l.Problem != "" })
}

// settleHubs lets Route Servers come to rest: operations of tens of seconds, one after the other, then what was learned from new peers, then the tables.
func (w *World) settleHubs() {
	if len(w.hubs) == 0 {
		return
	}
	for _, h := range w.hubs {
		if w.spoken(h.file).paused() {
			w.say(w.newOrder(order.Unpause, h.name))
		}
	}
	if slices.ContainsFunc(w.hubs, (*hub).silent) {
		w.advance(4 * time.Minute) // until it is asked again
	}
	quiet := 0
	for range 120 {
		if w.violation != nil || quiet == 3 {
			return
		}
		w.advance(5 * time.Second)
		quiet++
		for _, h := range w.hubs {
			if doc := w.targetDocument(h.name); h.operation != nil || doc != nil && doc.RouteServer != nil && (doc.RouteServer.Operation != nil || !doc.RouteServer.LookAt.IsZero()) {
				quiet = 0
			}
		}
	}
}
