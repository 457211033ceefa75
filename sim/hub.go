package sim

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/peering"
)

// HubSetup is one Route Server of the domain file.
type HubSetup struct {
	Name  string
	Peers []PeerSetup
	Most  int // peers; 0: 8
}

// PeerSetup is an NVA that speaks BGP to a Route Server.
type PeerSetup struct {
	NVA string
	ASN uint32
}

// RangeSetup says by which way a prefix goes.
type RangeSetup struct {
	Prefix netip.Prefix // and whatever is inside, but for a default route
	Via    string
}

// The ways.
const (
	viaUDR         = "udr"
	viaRouteServer = "route-server"
	viaBoth        = "both"
	viaOverride    = "override"
)

// via returns by which way a prefix goes.
func (s Setup) via(p netip.Prefix) string {
	for _, r := range s.Ranges {
		if r.Prefix == p || r.Prefix.Bits() <= p.Bits() && r.Prefix.Contains(p.Addr()) {
			return r.Via
		}
	}
	return viaUDR
}

// peer returns the NVA's entry of the Route Server; without a name where there is none.
func (s HubSetup) peer(nva string) PeerSetup {
	i := slices.IndexFunc(s.Peers, func(p PeerSetup) bool { return p.NVA == nva })
	if i < 0 {
		return PeerSetup{}
	}
	return s.Peers[i]
}

func (s HubSetup) yaml() string {
	var peers []string
	for _, p := range s.Peers {
		peers = append(peers, fmt.Sprintf("{nva: %s, asn: %d}", p.NVA, p.ASN))
	}
	return fmt.Sprintf("  - {name: %s, virtualHub: %s, maxPeers: %d, peers: [%s]}\n", s.Name, hubID(s.Name), cmp.Or(s.Most, 8), strings.Join(peers, ", "))
}

func hubID(name string) string {
	return "/subscriptions/s/resourceGroups/hub/providers/Microsoft.Network/virtualHubs/" + name
}

// The times of Route Servers, shortened like those of the agents: Azure's are 180 s of hold time, 80 s for a peer, 10 s for an answer.
const (
	holdTime     = 60 * time.Second // after which a Route Server notices that a peer is dead
	hubLook      = 10 * time.Second // what it asks to wait between two looks at an operation
	instanceName = "RouteServiceRole_IN_"
)

// hub is one Route Server: its peers, which change by one operation at a time, and what its two instances have learned from them.
type hub struct {
	w     *World
	name  string
	id    string
	file  string    // of the target's document
	peers []hubPeer // by name
	down  time.Time // its service answers nothing before
	asker asker

	operation  *hubOperation            // in flight
	operations map[string]*hubOperation // by token
	questions  map[string]*hubQuestion
	learned    [2]map[string]map[netip.Prefix]bool // by instance and NVA

	begun, refused, foreign, tokens int
}

// hubPeer is one BGP peer of a Route Server, and whose it is.
type hubPeer struct {
	peering.Peer
	ours  bool
	speak bool // it is in force: who has the address may announce
}

type hubOperation struct {
	ours  bool
	what  string
	token string
	ended bool
	lost  bool // nobody knows of it any more
	err   error
	apply func(failed bool)
	fate  operationFate
}

type hubQuestion struct {
	due    time.Time
	answer []peering.Instance
	err    error
}

func newHub(w *World, name string) *hub {
	h := &hub{
		w: w, name: name, id: hubID(name), file: targetFile(name), operations: map[string]*hubOperation{}, questions: map[string]*hubQuestion{},
		asker: asker{luck: w.luck, id: hash("hub/" + name)},
	}
	h.learned = [2]map[string]map[netip.Prefix]bool{{}, {}}
	return h
}

func (w *World) hub(name string) *hub {
	i := slices.IndexFunc(w.hubs, func(h *hub) bool { return h.name == name || strings.EqualFold(h.id, name) })
	if i < 0 {
		return nil
	}
	return w.hubs[i]
}

func (h *hub) setup() HubSetup {
	for _, s := range h.w.setup.Hubs {
		if s.Name == h.name {
			return s
		}
	}
	return HubSetup{}
}

// most is how many peers it may have.
func (h *hub) most() int { return cmp.Or(h.setup().Most, 8) }

func (h *hub) find(name string) int {
	return slices.IndexFunc(h.peers, func(p hubPeer) bool { return strings.EqualFold(p.Name, name) })
}

func (h *hub) set(p hubPeer) {
	p.ETag = h.w.newETag()
	h.peers = slices.DeleteFunc(h.peers, func(o hubPeer) bool { return strings.EqualFold(o.Name, p.Name) })
	h.peers = append(h.peers, p)
	slices.SortFunc(h.peers, func(a, b hubPeer) int { return strings.Compare(a.Name, b.Name) })
	h.changed()
}

func (h *hub) remove(name string) {
	h.peers = slices.DeleteFunc(h.peers, func(o hubPeer) bool { return strings.EqualFold(o.Name, name) })
	h.changed()
}

// changed has both instances follow what the peers are now.
func (h *hub) changed() {
	for _, n := range h.w.nvas {
		h.follow(n)
	}
}

// speak has the Route Servers learn what has become of an NVA's routes.
func (w *World) speak(n *nva) {
	if n.spoke && !n.speaks() {
		n.quiet = w.now
	}
	if n.speaks() && !n.spoke && n.agent != nil && len(w.hubs) > 0 {
		w.unseen = true
	}
	n.spoke = n.speaks()
	for _, h := range w.hubs {
		h.follow(n)
	}
}

// session reports whether BGP runs between an NVA and the Route Server: there is a peer with its address, and the machine is on and reachable.
func (h *hub) session(n *nva) bool {
	return n.speaks() && h.configured(n)
}

// speaks reports whether the machine speaks BGP, to whoever listens.
func (n *nva) speaks() bool { return n.on && !n.dark && !n.mute }

func (h *hub) configured(n *nva) bool {
	address, asn := h.w.setup.nva(n.name).Hop, h.w.declared.peer(n.name).ASN // the NVA's own number does not change
	return slices.ContainsFunc(h.peers, func(p hubPeer) bool { return p.Address == address && p.ASN == asn && p.speak })
}

// follow brings both instances to what the NVA says: within seconds where it speaks, when the hold time runs out where it fell silent.
func (h *hub) follow(n *nva) {
	for i := range h.learned {
		wait := time.Duration(1000+h.asker.pick(4)*700) * time.Millisecond
		if h.configured(n) && !h.session(n) {
			wait = holdTime
		}
		h.w.after(wait, func() { h.learn(i, n) })
	}
}

// learn is what an instance knows of an NVA from now on. An NVA that has spoken within the hold time is believed.
func (h *hub) learn(i int, n *nva) {
	switch {
	case h.session(n):
		routes := map[netip.Prefix]bool{}
		for p := range n.routes {
			routes[p] = true
		}
		h.tell(i, n, len(routes))
		h.learned[i][n.name] = routes
	case !h.configured(n), !h.w.now.Before(n.quiet.Add(holdTime)):
		h.tell(i, n, 0)
		delete(h.learned[i], n.name)
	}
}

func (h *hub) tell(i int, n *nva, count int) {
	if had := len(h.learned[i][n.name]); h.w.told() && had != count {
		h.w.tell("BGP", "%s instance %d has %d routes of %s", h.name, i, count, n.name)
	}
}

// leads reports whether an instance has any route of the NVA that goes by way of a Route Server.
func (h *hub) leads(nva string) bool {
	return slices.ContainsFunc(h.learned[:], func(of map[string]map[netip.Prefix]bool) bool {
		for p := range of[nva] {
			if h.w.setup.via(p) != viaUDR {
				return true
			}
		}
		return false
	})
}

// leadsFor reports whether an instance has a route of the NVA for the prefix.
func (h *hub) leadsFor(nva string, p netip.Prefix) bool {
	return h.learned[0][nva][p] || h.learned[1][nva][p]
}

// start begins an operation that takes a while. what is what it does when it ends.
func (h *hub) start(ours bool, what string, apply func(failed bool)) *hubOperation {
	h.tokens++
	op := &hubOperation{ours: ours, what: what, token: "operation-" + strconv.Itoa(h.tokens), apply: apply}
	if ours {
		op.fate = h.nextFate()
		h.operations[op.token] = op
	}
	h.operation = op
	h.w.after(time.Duration(10+h.asker.pick(4)*8)*time.Second, func() { h.finish(op) })
	return op
}

func (h *hub) nextFate() operationFate {
	if fates := &h.w.troubles.hubFates; len(*fates) > 0 {
		f := (*fates)[0]
		*fates = (*fates)[1:]
		return f
	}
	if !h.asker.chance(10 * h.w.habits.Faults) {
		return succeeds
	}
	return [...]operationFate{failsUndone, endNeverLearned}[h.asker.pick(2)]
}

func (h *hub) finish(op *hubOperation) {
	if h.operation != op {
		return
	}
	h.operation, op.ended, op.lost = nil, true, op.fate == endNeverLearned
	failed := op.fate == failsUndone
	if failed {
		op.err = fault.New(fault.Transient, "the operation failed (sim)")
	}
	h.w.tell("ARM", "%s: %s has ended%s", h.name, op.what, map[bool]string{true: " badly"}[failed])
	op.apply(failed)
}

// supersede ends an operation of ours without its effect: another hand's takes its place.
func (h *hub) supersede() {
	op := h.operation
	h.operation, op.ended = nil, true
	op.err = fault.New(fault.Transient, "CanceledAndSupersededDueToAnotherOperation (sim)")
	h.w.tell("ARM", "%s: %s is superseded", h.name, op.what)
	op.apply(true)
}

// edit is an operation of another hand. It waits for one in flight, or takes its place.
func (h *hub) edit(what string, possible func() bool, begin, end func()) {
	if h.operation != nil {
		if h.operation.ours && h.asker.chance(5*h.w.habits.Faults) {
			h.supersede()
		} else {
			h.w.after(5*time.Second, func() { h.edit(what, possible, begin, end) })
			return
		}
	}
	if !possible() {
		return
	}
	h.w.tell("third party", "%s: %s", h.name, what)
	h.foreign++
	begin()
	h.start(false, "what another hand does", func(bool) { end() })
}

// theirs makes a peer that is not Pointsman's.
func (h *hub) theirs(name string, address netip.Addr, asn uint32) {
	p := hubPeer{Peer: peering.Peer{Name: name, Address: address, ASN: asn, State: peering.Changing}}
	h.edit("makes the peer "+name+" "+address.String()+" AS "+strconv.FormatUint(uint64(asn), 10), func() bool {
		taken := slices.ContainsFunc(h.peers, func(o hubPeer) bool { return o.Address == address })
		return h.find(name) < 0 && !taken && len(h.peers) < h.most()
	}, func() { h.set(p) }, func() {
		p.State, p.speak = peering.Settled, true
		h.set(p)
	})
}

// drops is another hand that removes a peer, whosever it is.
func (h *hub) drops(name string) {
	h.edit("removes the peer "+name, func() bool { return h.find(name) >= 0 }, func() {
		i := h.find(name)
		h.peers[i].State, h.peers[i].ETag = peering.Leaving, h.w.newETag()
	}, func() { h.remove(name) })
}

// hubPort is the Route Servers as Reconcile sees them.
type hubPort struct{ f *functions }

// request takes a call's request to the service; an error says that it never arrived.
func (p hubPort) request(ctx context.Context, id, what string) (h *hub, c *call, f fate, err error) {
	c, h = callOf(ctx), p.f.world.hub(id)
	f = c.ask(toARM, what, h.name)
	if f == lost || h.w.now.Before(h.down) {
		return h, c, f, c.noAnswer(what, h.name)
	}
	return h, c, f, nil
}

// List implements reconcile.Peers.
func (p hubPort) List(ctx context.Context, id string) ([]peering.Peer, error) {
	h, c, f, err := p.request(ctx, id, "list peers")
	if err != nil {
		return nil, err
	}
	if err = c.answer(f, "list peers", h.name); err != nil {
		return nil, err
	}
	c.listed = nil
	out := make([]peering.Peer, len(h.peers))
	for i, peer := range h.peers {
		out[i] = peer.Peer
		if peer.State == peering.Changing || peer.State == peering.Leaving {
			c.listed = h.operation
		}
	}
	return out, nil
}

// Begin implements reconcile.Peers.
func (p hubPort) Begin(ctx context.Context, id string, step peering.Step) (peering.Begun, error) {
	p.f.world.hub(id).checkBegin(callOf(ctx), step)
	h, c, f, err := p.request(ctx, id, "begin")
	if err != nil {
		return peering.Begun{}, err
	}
	if err = h.refuses(step); err != nil {
		h.w.tell(c.who(), "is refused: %v", err)
		return peering.Begun{}, err
	}
	h.begun++
	h.w.counts.PeerSteps++
	h.w.tell(c.who(), "BEGINS: %s", step)
	after := hubPeer{Peer: peering.Peer{Name: step.Name, Address: step.Address, ASN: step.ASN, State: peering.Changing}, ours: true}
	if i := h.find(step.Name); i >= 0 {
		if !h.peers[i].ours {
			h.w.violate("peers", "%s: %s touches a peer of somebody else: %+v", h.name, step, h.peers[i].Peer)
		}
		after.speak = h.peers[i].speak && step.Kind == peering.Delete
	}
	if step.Kind == peering.Delete {
		after.State = peering.Leaving
	}
	h.set(after)
	op := h.start(true, step.String(), func(failed bool) {
		switch {
		case failed:
			after.State = peering.Broken
		case step.Kind == peering.Delete:
			h.remove(step.Name)
			return
		default:
			after.State, after.speak = peering.Settled, true
		}
		h.set(after)
	})
	if err = c.answer(f, "begin", h.name); err != nil {
		return peering.Begun{}, err
	}
	c.operation, c.saved = op, nil
	return peering.Begun{Token: op.token, After: hubLook}, nil
}

// refuses is the answer to an operation that is not begun.
func (h *hub) refuses(step peering.Step) error {
	i := h.find(step.Name)
	holder := slices.IndexFunc(h.peers, func(o hubPeer) bool { return o.Address == step.Address && !strings.EqualFold(o.Name, step.Name) })
	switch {
	case h.operation != nil:
		h.refused++
		return &fault.Error{Kind: fault.Throttled, Code: fault.CodeBusy, RetryAfter: hubLook, Err: fmt.Errorf("429 another operation (sim)")}
	case h.asker.chance(3 * h.w.habits.Faults):
		return fault.New(fault.Transient, "500 InternalServerError (sim)")
	case i < 0 && step.ETag != "", i >= 0 && h.peers[i].ETag != step.ETag:
		return fault.New(fault.Conflict, "412 the peer %s is not as it was read (sim)", step.Name)
	case step.Kind != peering.Delete && holder >= 0:
		return fault.New(fault.Refused, "400 the address %s has a peer (sim)", step.Address)
	case i < 0 && len(h.peers) >= h.most():
		return fault.New(fault.Refused, "400 no more than %d peers (sim)", len(h.peers))
	}
	return nil
}

// Follow implements reconcile.Peers.
func (p hubPort) Follow(ctx context.Context, id string, _ peering.Kind, token string) (peering.Progress, error) {
	h, c, f, err := p.request(ctx, id, "follow")
	if err != nil {
		return peering.Progress{}, err
	}
	if err = c.answer(f, "follow", h.name); err != nil {
		return peering.Progress{}, err
	}
	op := h.operations[token]
	switch {
	case op == nil || op.lost:
		h.w.tell(c.who(), "asks after an operation of which nobody knows")
		return peering.Progress{Done: true}, fault.New(fault.NotFound, "no operation %s (sim)", token)
	case !op.ended:
		return peering.Progress{After: hubLook}, nil
	}
	h.w.tell(c.who(), "learns the end of %s", op.what)
	return peering.Progress{Done: true}, op.err
}

// Ask implements reconcile.Learned.
func (p hubPort) Ask(ctx context.Context, id, peer string) (peering.Begun, error) {
	h, c, f, err := p.request(ctx, id, "ask what is learned")
	if err != nil {
		return peering.Begun{}, err
	}
	i := h.find(peer)
	if i < 0 {
		return peering.Begun{}, fault.New(fault.NotFound, "no peer %s (sim)", peer)
	}
	h.tokens++
	token := "question-" + strconv.Itoa(h.tokens)
	q := &hubQuestion{due: h.w.now.Add(4 * time.Second), answer: h.answer(h.peers[i].Address)}
	if h.asker.chance(10 * h.w.habits.Faults) {
		q.due = h.w.now.Add(40 * time.Second)
	}
	if h.asker.chance(5 * h.w.habits.Faults) {
		q.err = fault.New(fault.Transient, "500 what is learned cannot be told (sim)")
	}
	h.questions[token] = q
	if err = c.answer(f, "ask what is learned", h.name); err != nil {
		return peering.Begun{}, err
	}
	return peering.Begun{Token: token, After: 4 * time.Second}, nil
}

// answer is what the instances have learned from who has the address.
func (h *hub) answer(address netip.Addr) []peering.Instance {
	out := make([]peering.Instance, len(h.learned))
	for i := range h.learned {
		out[i].Name = instanceName + strconv.Itoa(i)
		for _, p := range sorted(h.learned[i][h.w.setup.hop(address).Name]) {
			out[i].Routes = append(out[i].Routes, peering.Route{Prefix: p, NextHop: address})
		}
	}
	return out
}

// Answer implements reconcile.Learned.
func (p hubPort) Answer(ctx context.Context, id, token string) ([]peering.Instance, peering.Progress, error) {
	h, c, f, err := p.request(ctx, id, "fetch what is learned")
	if err != nil {
		return nil, peering.Progress{}, err
	}
	if err = c.answer(f, "fetch what is learned", h.name); err != nil {
		return nil, peering.Progress{}, err
	}
	q := h.questions[token]
	switch {
	case q == nil:
		return nil, peering.Progress{Done: true}, fault.New(fault.NotFound, "no question %s (sim)", token)
	case h.w.now.Before(q.due):
		return nil, peering.Progress{After: 4 * time.Second}, nil
	}
	return q.answer, peering.Progress{Done: true}, q.err
}
