package bfd

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// Packet is a BFD Control packet without its Authentication Section. Source: RFC 5880, section 4.1. Intervals are whole microseconds.
type Packet struct {
	Diag        Diag
	State       State
	Poll        bool
	Final       bool
	Independent bool // Control Plane Independent: the sender's BFD outlives its control plane
	Auth        bool // an Authentication Section follows
	Demand      bool
	DetectMult  uint8

	My, Your uint32 // discriminators; Your 0: not known

	DesiredMinTx      time.Duration
	RequiredMinRx     time.Duration // 0: send nothing periodically
	RequiredMinEchoRx time.Duration // 0: no Echo
}

// The sizes of the Mandatory Section, and of the smallest packet with an Authentication Section. Source: RFC 5880, section 6.8.6.
const (
	packetSize         = 24
	smallestAuthPacket = 26
)

// version is the only one that is spoken. Source: RFC 5880, section 4.1.
const version = 1

// Bits of the second octet, beside the two of the state.
const (
	bitPoll = 1 << 5 >> iota
	bitFinal
	bitIndependent
	bitAuth
	bitDemand
	bitMultipoint
)

// Discard is why a packet does not count. Source: RFC 5880, section 6.8.6, in its order; RFC 5881, section 5.
type Discard uint8

// The reasons.
const (
	TooShort           Discard = iota + 1 // for a packet at all
	WrongVersion                          // not 1
	WrongLength                           // below the minimum, or beyond the datagram
	NoDetectMult                          // zero
	Multipoint                            // the M bit, of protocols that do not exist here
	NoDiscriminator                       // My Discriminator is zero
	UnknownSession                        // Your Discriminator is nobody's here
	WrongState                            // Your Discriminator is zero though the sender is in Init or Up
	UnknownPeer                           // no session with the sender
	Authenticated                         // the A bit, while no authentication is in use
	WrongPort                             // single-hop session on the port of several hops, or the reverse
	LowTTL                                // TTL or hop limit: below 255 on one hop, below the minimum on several
	endOfDiscardReason                    // not a reason
)

// Discards returns all reasons, in their order.
func Discards() []Discard {
	all := make([]Discard, 0, endOfDiscardReason-1)
	for d := TooShort; d < endOfDiscardReason; d++ {
		all = append(all, d)
	}
	return all
}

// String returns the word of the metric.
func (d Discard) String() string {
	switch d {
	case TooShort:
		return "too-short"
	case WrongVersion:
		return "wrong-version"
	case WrongLength:
		return "wrong-length"
	case NoDetectMult:
		return "no-detect-mult"
	case Multipoint:
		return "multipoint"
	case NoDiscriminator:
		return "no-discriminator"
	case UnknownSession:
		return "unknown-session"
	case WrongState:
		return "wrong-state"
	case UnknownPeer:
		return "unknown-peer"
	case Authenticated:
		return "authenticated"
	case WrongPort:
		return "wrong-port"
	case LowTTL:
		return "low-ttl"
	case endOfDiscardReason:
	}
	return fmt.Sprintf("discard-%d", uint8(d))
}

// Decode reads the datagram b and makes those checks of RFC 5880, section 6.8.6, that need no session, in its order. It returns 0, or why
// the packet must be discarded.
func Decode(b []byte) (p Packet, why Discard) {
	if len(b) < packetSize {
		return Packet{}, TooShort
	}
	flags, length := b[1], int(b[3])
	minimum := packetSize
	if flags&bitAuth != 0 {
		minimum = smallestAuthPacket
	}
	p = Packet{
		Diag: Diag(b[0] & 0x1f), State: State(flags>>6) + AdminDown,
		Poll: flags&bitPoll != 0, Final: flags&bitFinal != 0, Independent: flags&bitIndependent != 0, Auth: flags&bitAuth != 0, Demand: flags&bitDemand != 0,
		DetectMult: b[2], My: binary.BigEndian.Uint32(b[4:]), Your: binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx: interval(b[12:]), RequiredMinRx: interval(b[16:]), RequiredMinEchoRx: interval(b[20:]),
	}
	switch {
	case b[0]>>5 != version:
		why = WrongVersion
	case length < minimum, length > len(b):
		why = WrongLength
	case p.DetectMult == 0:
		why = NoDetectMult
	case flags&bitMultipoint != 0:
		why = Multipoint
	case p.My == 0:
		why = NoDiscriminator
	default:
		return p, 0
	}
	return Packet{}, why
}

func interval(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

// Append appends the packet to b. It has no Authentication Section, so a packet with Auth cannot be written.
func (p *Packet) Append(b []byte) []byte {
	if p.Auth {
		panic("bfd: a packet with the A bit is written")
	}
	flags := byte(p.State-AdminDown) << 6
	for _, f := range [...]struct {
		set bool
		bit byte
	}{{p.Poll, bitPoll}, {p.Final, bitFinal}, {p.Independent, bitIndependent}, {p.Demand, bitDemand}} {
		if f.set {
			flags |= f.bit
		}
	}
	b = append(b, version<<5|byte(p.Diag), flags, p.DetectMult, packetSize)
	b = binary.BigEndian.AppendUint32(b, p.My)
	b = binary.BigEndian.AppendUint32(b, p.Your)
	for _, d := range [...]time.Duration{p.DesiredMinTx, p.RequiredMinRx, p.RequiredMinEchoRx} {
		b = binary.BigEndian.AppendUint32(b, uint32(d/time.Microsecond))
	}
	return b
}

// String shows a packet as a person reads it; bits that are not set and discriminators of 0 are left out.
func (p *Packet) String() string {
	words := []string{p.State.String()}
	for _, f := range [...]struct {
		set  bool
		name string
	}{{p.Poll, "P"}, {p.Final, "F"}, {p.Independent, "C"}, {p.Auth, "A"}, {p.Demand, "D"}} {
		if f.set {
			words = append(words, f.name)
		}
	}
	if p.Diag != NoDiagnostic {
		words = append(words, "("+p.Diag.String()+")")
	}
	words = append(words, fmt.Sprintf("x%d my %08x", p.DetectMult, p.My))
	if p.Your != 0 {
		words = append(words, fmt.Sprintf("your %08x", p.Your))
	}
	words = append(words, fmt.Sprintf("tx %s rx %s", p.DesiredMinTx, p.RequiredMinRx))
	if p.RequiredMinEchoRx != 0 {
		words = append(words, fmt.Sprintf("echo %s", p.RequiredMinEchoRx))
	}
	return strings.Join(words, " ")
}
