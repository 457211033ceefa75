// Package witness turns what an NVA sees of its peers into statements that others may rest on: an accusation is made only
// by a machine that has just shown that its own packets get out.
//
// How peers are watched is up to methods (UDP echo in agent/echo, BFD); whether this machine is fit to judge, to the self-test. Judge
// brings the two together, without I/O or a clock; Watch is the shell.
package witness

import (
	"context"
	"strconv"
	"time"
)

// State is what a method knows of a peer.
type State uint8

// The states.
const (
	Unknown     State = iota + 1 // it has not been decided yet
	Reachable                    // it answers
	Unreachable                  // it does not
)

// String names the state.
func (s State) String() string {
	switch s {
	case Unknown:
		return "unknown"
	case Reachable:
		return "reachable"
	case Unreachable:
		return "unreachable"
	}
	return "state-" + strconv.Itoa(int(s))
}

// Sight is what a method sees of a peer.
type Sight struct {
	NVA     string
	State   State
	Missing bool // nothing was heard of it for a while, too short perhaps to change the state; a method that cannot tell says so of who is unreachable
	Deaf    bool // the peer says that it does not hear this NVA

	Since time.Time // since when nothing is heard of a peer that is missing; zero: since now
}

// Timing is how fast a method sees, at most and in good weather.
type Timing struct {
	Interval time.Duration // until a peer that is well is heard once
	Recovery time.Duration // until a peer that is well again counts as reachable
}

// Method watches some peers in one way. A peer is watched by one method only.
type Method interface {
	// String names the method for people.
	String() string
	// Run watches until ctx is done and then returns nil; an error ends the whole agent. It tells every change of a sight; a peer of which it
	// told nothing is unknown. What ctx interrupts is no sight.
	Run(ctx context.Context, tell func(Sight)) error
	// Timing returns how fast it sees.
	Timing() Timing
}
