package echo

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pointsman/pointsman/shared/event"
)

// Size is the length of every packet, in bytes: an answer is as long as its probe, so nobody can use an agent to amplify traffic.
//
//	 0                4        5        6        8                16               24               32
//	 | magic "PMWE"   | version| kind   | flags  | reserved, 0    | session        | sequence       | sent ...
//
//	 0  magic     4   "PMWE"
//	 4  version   1   1
//	 5  kind      1   1 probe, 2 answer
//	 6  flags     1   bit 0: deaf
//	 7  reserved  1   0
//	 8  session   8   of the prober: its epoch
//	16  sequence  8   of the probe in the session, from 1
//	24  sent      8   the prober's clock in nanoseconds since 1970; informative
//	32  domain   40   names are padded with zeros
//	72  from     40   the NVA that sent this packet
//	112 to       40   the NVA that it is for
//	152 mac      16   HMAC-SHA256 over all before it, cut to its first 16 bytes (RFC 2104, section 5)
//
// Numbers are in network order. session, sequence and sent of an answer are those of its probe.
const Size = signedSize + macSize

const (
	signedSize = 152
	macSize    = 16
	nameSize   = 40
	magic      = "PMWE"
	version    = 1
	flagDeaf   = 1
)

// Kind is what a packet is.
type Kind uint8

// The kinds of packet.
const (
	Probe Kind = iota + 1
	Answer
)

// Name is the name of a domain or an NVA as a packet carries it.
type Name [nameSize]byte

// MakeName returns the name s, which event.ValidName has found good.
func MakeName(s string) Name {
	var n Name
	copy(n[:], s)
	return n
}

// String returns the name without its padding.
func (n *Name) String() string { return string(n.text()) }

func (n *Name) text() []byte {
	if i := bytes.IndexByte(n[:], 0); i >= 0 {
		return n[:i]
	}
	return n[:]
}

// valid reports whether a name is one, and padded with zeros only.
func (n *Name) valid() bool {
	text := n.text()
	for _, b := range n[len(text):] {
		if b != 0 {
			return false
		}
	}
	return event.ValidName(string(text))
}

// Packet is a probe or its answer.
type Packet struct {
	Kind     Kind
	Deaf     bool // the sender does not hear the receiver
	Session  uint64
	Sequence uint64
	Sent     time.Time
	Domain   Name
	From, To Name
}

// errPacket is wrapped by every error of decode.
var errPacket = errors.New("no packet of this protocol")

// encode writes the packet, without its MAC, into the first signedSize bytes of b.
func (p *Packet) encode(b []byte) {
	_ = b[signedSize-1]
	copy(b, magic)
	b[4], b[5], b[6], b[7] = version, byte(p.Kind), 0, 0
	if p.Deaf {
		b[6] = flagDeaf
	}
	binary.BigEndian.PutUint64(b[8:], p.Session)
	binary.BigEndian.PutUint64(b[16:], p.Sequence)
	binary.BigEndian.PutUint64(b[24:], uint64(p.Sent.UnixNano()))
	copy(b[32:], p.Domain[:])
	copy(b[72:], p.From[:])
	copy(b[112:], p.To[:])
}

// decode reads a packet; it says nothing about the MAC. Only what encode can write is read.
func (p *Packet) decode(b []byte) error {
	switch {
	case len(b) != Size:
		return fmt.Errorf("%w: %d bytes", errPacket, len(b))
	case string(b[:4]) != magic:
		return fmt.Errorf("%w: it begins with % x", errPacket, b[:4])
	case b[4] != version:
		return fmt.Errorf("%w: version %d", errPacket, b[4])
	case b[6]&^flagDeaf != 0 || b[7] != 0:
		return fmt.Errorf("%w: flags % x", errPacket, b[6:8])
	}
	p.Kind, p.Deaf = Kind(b[5]), b[6] == flagDeaf
	if p.Kind != Probe && p.Kind != Answer {
		return fmt.Errorf("%w: kind %d", errPacket, b[5])
	}
	p.Session, p.Sequence = binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
	p.Sent = time.Unix(0, int64(binary.BigEndian.Uint64(b[24:])))
	copy(p.Domain[:], b[32:])
	copy(p.From[:], b[72:])
	copy(p.To[:], b[112:])
	if !p.Domain.valid() || !p.From.valid() || !p.To.valid() {
		return fmt.Errorf("%w: a name is none", errPacket)
	}
	return nil
}
