// Package peering decides what to do next about the BGP peers of a Route Server, and whether what it has learned is what the NVAs announce.
//
// A peer is managed if its name begins with the prefix of managed names AND the target's document lists it; every other peer is somebody else's and is
// never touched. A Route Server takes one operation at a time, and each takes more than a minute: so a plan names one step, and is made anew from what
// is there once that has ended.
//
//	name        address        it, or the holder  step
//	any         its own        as wanted          none; replace if it is managed and its last operation failed
//	free        free           -                  create; where no peer more fits: a managed peer that nobody wants goes first, else blocked
//	managed     free           otherwise          replace
//	foreign     free           otherwise          blocked
//	free        of a managed   -                  that one goes first
//	managed     of a managed   otherwise          that one goes first
//	foreign     of a managed   otherwise          blocked
//	free        of a foreign   same AS number     none: somebody has made the peer
//	foreign     of a foreign   same AS number     none, likewise
//	managed     of a foreign   same AS number     likewise, and ours is deleted
//	any         of a foreign   another            blocked
//	not wanted  -              managed            delete, after all others
//
// While any peer is changed or removed, by whomever, nothing is begun.
package peering

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
)

// State is how far the service is with a peer.
type State uint8

// The states.
const (
	Settled State = iota + 1 // the peer is as it shows
	Changing
	Leaving // it is being removed
	Broken  // its last operation failed: what it shows may not be in force
)

// States returns all states, in order.
func States() []State { return []State{Settled, Changing, Leaving, Broken} }

// String returns the word that Status shows.
func (s State) String() string {
	switch s {
	case Settled:
		return "settled"
	case Changing:
		return "changing"
	case Leaving:
		return "leaving"
	case Broken:
		return "failed"
	}
	return fmt.Sprintf("state-%d", uint8(s))
}

// MarshalText implements encoding.TextMarshaler.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; an unknown word is a state of a newer version and reads as Broken.
func (s *State) UnmarshalText(text []byte) error {
	*s = Broken
	for _, known := range States() {
		if known.String() == string(text) {
			*s = known
		}
	}
	return nil
}

// Peer is a BGP peer of a Route Server as it was read.
type Peer struct {
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"`
	ASN     uint32     `json:"asn"`
	State   State      `json:"state"`
	Session string     `json:"session,omitempty"` // what the service says of the BGP session; "": nothing
	ETag    string     `json:"etag,omitempty"`
}

// Want is a peer that a Route Server should have.
type Want struct {
	NVA     string
	Name    string
	Address netip.Addr
	ASN     uint32
}

// Wants returns the peers that the domain file gives a Route Server, in its order.
func Wants(d *config.Domain, r config.RouteServer) []Want {
	out := make([]Want, len(r.Peers))
	for i, p := range r.Peers {
		out[i] = Want{NVA: p.NVA, Name: d.Policy.RouteNamePrefix + p.NVA, Address: p.Address, ASN: p.ASN}
	}
	return out
}

// Rules bound what a plan may do.
type Rules struct {
	NamePrefix string            // managed peers are named with it
	Owned      func(string) bool // whether the target's document says that the peer of that name is ours
	MaxPeers   int               // peers that the Route Server may have, those of others included
}

// Managed reports whether a peer is Pointsman's: its name says so AND the target's document does.
func (r Rules) Managed(p Peer) bool {
	return len(p.Name) >= len(r.NamePrefix) && strings.EqualFold(p.Name[:len(r.NamePrefix)], r.NamePrefix) && r.Owned(p.Name)
}

// Kind is what a step does.
type Kind uint8

// The kinds.
const (
	Create Kind = iota + 1
	Replace
	Delete
)

// Kinds returns all kinds, in order.
func Kinds() []Kind { return []Kind{Create, Replace, Delete} }

// String returns the word that Status shows.
func (k Kind) String() string {
	switch k {
	case Create:
		return "create"
	case Replace:
		return "replace"
	case Delete:
		return "delete"
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// MarshalText implements encoding.TextMarshaler.
func (k Kind) MarshalText() ([]byte, error) { return []byte(k.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (k *Kind) UnmarshalText(text []byte) error {
	for _, known := range Kinds() {
		if known.String() == string(text) {
			*k = known
			return nil
		}
	}
	return fmt.Errorf("peering: %q is no kind of operation", text)
}

// Step is one operation on one peer.
type Step struct {
	Kind    Kind       `json:"kind"`
	Name    string     `json:"name"`
	Address netip.Addr `json:"address"` // with Delete: as it was
	ASN     uint32     `json:"asn"`
	ETag    string     `json:"etag,omitempty"` // of the peer that it rests on; "": there is none
}

// String returns the step as people read it: "create pointsman-nva-a 10.0.1.4 AS 65001".
func (s Step) String() string {
	return fmt.Sprintf("%s %s %s AS %d", s.Kind, s.Name, s.Address, s.ASN)
}

// Blocked is a wanted peer that cannot be, because of what is not Pointsman's.
type Blocked struct {
	Want Want
	Why  string
}

// String returns it as Status shows it.
func (b Blocked) String() string { return b.Want.NVA + ": " + b.Why }

// Plan is what is left to do.
type Plan struct {
	Steps   []Step // in order; the first is next, unless Busy
	Busy    string // the peer that an operation holds, ours or another hand's: nothing can be begun; "" if none
	Blocked []Blocked
}

// Next returns the step to begin now.
func (p Plan) Next() (Step, bool) {
	if p.Busy != "" || len(p.Steps) == 0 {
		return Step{}, false
	}
	return p.Steps[0], true
}

// Done reports whether the Route Server is as wanted, as far as that can be.
func (p Plan) Done() bool { return p.Busy == "" && len(p.Steps) == 0 }

// Make plans the way from the peers as read to the wanted ones.
func Make(wants []Want, have []Peer, rules Rules) Plan {
	w := world{wants: wants, peers: slices.Clone(have), rules: rules}
	var p Plan
	for _, peer := range have {
		if peer.State == Changing || peer.State == Leaving {
			p.Busy = peer.Name
			break
		}
	}
	for i := range w.peers { // the rest of the plan is what follows once that has ended
		switch w.peers[i].State {
		case Changing:
			w.peers[i].State = Settled
		case Settled, Leaving, Broken:
		}
	}
	w.peers = slices.DeleteFunc(w.peers, func(x Peer) bool { return x.State == Leaving })
	for { // every step brings a peer nearer to what is wanted, or takes one away that is not
		step, blocked, found := w.next()
		if !found {
			p.Blocked = blocked
			return p
		}
		p.Steps = append(p.Steps, step)
		w.apply(step)
	}
}

// world is the Route Server as a plan imagines it.
type world struct {
	wants []Want
	peers []Peer
	rules Rules
}

// apply makes the step's effect.
func (w *world) apply(s Step) {
	w.peers = slices.DeleteFunc(w.peers, func(p Peer) bool { return strings.EqualFold(p.Name, s.Name) })
	if s.Kind != Delete {
		w.peers = append(w.peers, Peer{Name: s.Name, Address: s.Address, ASN: s.ASN, State: Settled})
	}
}

// next returns the first step that there is to make: what brings a peer about before what takes one away.
func (w *world) next() (_ Step, blocked []Blocked, found bool) {
	for _, want := range w.wants {
		step, why := w.toward(want)
		switch {
		case why != "":
			blocked = append(blocked, Blocked{want, why})
		case step.Kind != 0:
			return step, nil, true
		}
	}
	if p, left := w.surplus(); left {
		return remove(p), nil, true
	}
	return Step{}, blocked, false
}

// toward returns the step that comes next for a wanted peer; without a kind there is none. why says what keeps it from being.
func (w *world) toward(want Want) (_ Step, why string) {
	own, there := w.find(func(p Peer) bool { return strings.EqualFold(p.Name, want.Name) })
	fits := there && own.Address == want.Address && own.ASN == want.ASN
	ours := there && w.rules.Managed(own)
	if fits && (own.State != Broken || !ours) {
		return Step{}, ""
	}
	holder, held := w.find(func(p Peer) bool { return p.Address == want.Address && !strings.EqualFold(p.Name, want.Name) })
	made := held && !w.rules.Managed(holder) && holder.ASN == want.ASN
	switch {
	case made && ours:
		return remove(own), "" // with an address that the NVA has no more
	case made:
		return Step{}, ""
	case there && !ours:
		return Step{}, fmt.Sprintf("peer %s (%s AS %d) is not Pointsman's", own.Name, own.Address, own.ASN)
	case held && w.rules.Managed(holder):
		return remove(holder), "" // it is not wanted with this address, or the file would have it twice
	case held:
		return Step{}, fmt.Sprintf("peer %s, which is not Pointsman's, has the address %s with AS %d", holder.Name, holder.Address, holder.ASN)
	case there:
		return Step{Kind: Replace, Name: own.Name, Address: want.Address, ASN: want.ASN, ETag: own.ETag}, ""
	case len(w.peers) < w.rules.MaxPeers:
		return Step{Kind: Create, Name: want.Name, Address: want.Address, ASN: want.ASN}, ""
	}
	if p, left := w.surplus(); left {
		return remove(p), ""
	}
	return Step{}, fmt.Sprintf("the Route Server has %d peers and takes no more (maxPeers)", len(w.peers))
}

func remove(p Peer) Step {
	return Step{Kind: Delete, Name: p.Name, Address: p.Address, ASN: p.ASN, ETag: p.ETag}
}

// surplus returns a managed peer that nobody wants, the first by name.
func (w *world) surplus() (Peer, bool) {
	list := slices.SortedFunc(slices.Values(w.peers), func(a, b Peer) int { return cmp.Compare(strings.ToLower(a.Name), strings.ToLower(b.Name)) })
	for _, p := range list {
		if w.rules.Managed(p) && !slices.ContainsFunc(w.wants, func(x Want) bool { return strings.EqualFold(x.Name, p.Name) }) {
			return p, true
		}
	}
	return Peer{}, false
}

func (w *world) find(match func(Peer) bool) (Peer, bool) {
	i := slices.IndexFunc(w.peers, match)
	if i < 0 {
		return Peer{}, false
	}
	return w.peers[i], true
}

// Begun is an operation of the service that has begun.
type Begun struct {
	Token string        // by which any process can follow it; "": it has ended already
	After time.Duration // how long to wait before asking after it, as the service has it; 0: it does not say
}

// Progress is how an operation of the service is doing.
type Progress struct {
	Done  bool
	After time.Duration // how long to wait before asking again, as the service has it; 0: it does not say
}
