package bfd

import "fmt"

// State is the state of a session. Source: RFC 5880, section 4.1 ("Sta"); on the wire each is one less.
type State uint8

// The states. AdminDown says nothing about the path (RFC 5880, section 6.2).
const (
	AdminDown State = iota + 1
	Down
	Init
	Up
)

// String returns the RFC's name.
func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	}
	return fmt.Sprintf("State%d", uint8(s))
}

// Diag is why a session last left Up, as on the wire. Source: RFC 5880, section 4.1. Codes above the last one are reserved and kept as they are.
type Diag uint8

// The diagnostic codes.
const (
	NoDiagnostic Diag = iota
	DetectionTimeExpired
	EchoFailed
	NeighborDown
	ForwardingReset
	PathDown
	ConcatenatedPathDown
	AdministrativelyDown
	ReverseConcatenatedPathDown
)

// String returns the RFC's words.
func (d Diag) String() string {
	switch d {
	case NoDiagnostic:
		return "no diagnostic"
	case DetectionTimeExpired:
		return "control detection time expired"
	case EchoFailed:
		return "echo function failed"
	case NeighborDown:
		return "neighbor signaled session down"
	case ForwardingReset:
		return "forwarding plane reset"
	case PathDown:
		return "path down"
	case ConcatenatedPathDown:
		return "concatenated path down"
	case AdministrativelyDown:
		return "administratively down"
	case ReverseConcatenatedPathDown:
		return "reverse concatenated path down"
	}
	return fmt.Sprintf("diagnostic %d", uint8(d))
}

// hear returns the state that follows s when a packet says that the remote system is in a state, and the diagnostic if that is a way
// down. Source: RFC 5880, section 6.8.6; the whole table is testdata/states.txt.
func (s State) hear(remote State) (State, Diag) {
	switch s {
	case AdminDown:
		return AdminDown, NoDiagnostic
	case Down:
		switch remote {
		case Down:
			return Init, NoDiagnostic
		case Init:
			return Up, NoDiagnostic
		case AdminDown, Up: // Up: it has not noticed yet that the session is down
			return Down, NoDiagnostic
		}
	case Init:
		switch remote {
		case AdminDown:
			return Down, NeighborDown
		case Down:
			return Init, NoDiagnostic
		case Init, Up:
			return Up, NoDiagnostic
		}
	case Up:
		switch remote {
		case AdminDown, Down:
			return Down, NeighborDown
		case Init, Up:
			return Up, NoDiagnostic
		}
	}
	panic(fmt.Sprintf("bfd: %s hears %s", s, remote))
}

// expire returns the state that follows s when the Detection Time is over, and the diagnostic. Source: RFC 5880, section 6.8.4.
func (s State) expire() (State, Diag) {
	switch s {
	case Init, Up:
		return Down, DetectionTimeExpired
	case AdminDown, Down:
		return s, NoDiagnostic
	}
	panic("bfd: " + s.String() + " expires")
}
