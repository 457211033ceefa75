package state

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/peering"
)

// RouteServer is what is known of a Route Server, beside what is known of every target. Only the run that holds the target changes it.
type RouteServer struct {
	Peers     []peering.Peer `json:"peers,omitempty"` // as they were last read, in the order of their names
	Read      time.Time      `json:"read,omitzero"`   // when that was
	Operation *PeerOperation `json:"operation,omitempty"`

	Announced string    `json:"announced,omitempty"` // stands for what the NVAs announce to it, as of when it was last decided when to look
	LookAt    time.Time `json:"lookAt,omitzero"`     // when it is looked at what it has learned from all peers; zero: when a sweep comes
	Asked     []Ask     `json:"asked,omitempty"`     // in the order of the domain file
	Learned   []Learned `json:"learned,omitempty"`   // likewise
	// Tell: how an NVA stands has changed, and the tables that it matters to may not have been woken yet.
	Tell bool `json:"tell,omitempty"`
}

// PeerOperation is an operation on a peer, from before it is begun until its end has been seen.
type PeerOperation struct {
	peering.Step
	Began time.Time `json:"began"`
	Token string    `json:"token,omitempty"` // by which it can be followed; "": nobody knows whether it has begun
	Asks  int       `json:"asks,omitempty"`  // how often it was asked after
	Look  time.Time `json:"look,omitzero"`   // when it is asked after next
}

// Ask is a question what a Route Server has learned from an NVA, whose answer takes a while.
type Ask struct {
	NVA   string    `json:"nva"`
	At    time.Time `json:"at"`
	Token string    `json:"token"`
	Asks  int       `json:"asks,omitempty"`
	Look  time.Time `json:"look"`
	Again bool      `json:"again,omitempty"` // there was news since: it is asked once more when the answer is there
}

// Learned is what a Route Server has learned from one NVA, compared with what that announces.
type Learned struct {
	NVA     string          `json:"nva"`
	At      time.Time       `json:"at"`                // of the question; what came later is not in it
	Heard   []peering.Heard `json:"heard,omitempty"`   // of each instance
	Problem string          `json:"problem,omitempty"` // why there is nothing to compare
	Clear   time.Time       `json:"clear,omitzero"`    // as in peering.Standing
	Full    time.Time       `json:"full,omitzero"`     // likewise
}

// Same reports whether there is no difference to show.
func (l Learned) Same() bool {
	return l.Problem == "" && !slices.ContainsFunc(l.Heard, func(h peering.Heard) bool { return !h.Same() })
}

// Copy returns a Route Server of its own, empty for nil.
func (r *RouteServer) Copy() *RouteServer {
	if r == nil {
		return &RouteServer{}
	}
	out := *r
	out.Peers, out.Asked, out.Learned = slices.Clone(r.Peers), slices.Clone(r.Asked), slices.Clone(r.Learned)
	if r.Operation != nil {
		op := *r.Operation
		out.Operation = &op
	}
	return &out
}

// Of returns what was learned from the NVA.
func (r *RouteServer) Of(nva string) (Learned, bool) {
	if r == nil {
		return Learned{}, false
	}
	i := slices.IndexFunc(r.Learned, func(l Learned) bool { return l.NVA == nva })
	if i < 0 {
		return Learned{}, false
	}
	return r.Learned[i], true
}

// Put replaces what was learned from an NVA; it reports whether that changes how the NVA stands.
func (r *RouteServer) Put(l Learned) (changed bool) {
	i := slices.IndexFunc(r.Learned, func(o Learned) bool { return o.NVA == l.NVA })
	if i < 0 {
		r.Learned = append(r.Learned, l)
		return !l.Clear.IsZero() || !l.Full.IsZero()
	}
	old := r.Learned[i]
	r.Learned[i] = l
	return old.Clear.IsZero() != l.Clear.IsZero() || old.Full.IsZero() != l.Full.IsZero()
}

// Standing returns how a peer stands with the Route Server.
func (r *RouteServer) Standing(nva string) peering.Standing {
	l, _ := r.Of(nva)
	return peering.Standing{Peers: true, Clear: l.Clear, Full: l.Full}
}
