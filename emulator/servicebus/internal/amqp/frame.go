package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxFrameSize is the largest frame, in bytes, that the broker accepts and announces.
const MaxFrameSize = 65536

// frameHeaderSize is the fixed part of a frame (part 2, section 2.3.1).
const frameHeaderSize = 8

// Frame types (part 2, section 2.3.1 and part 5, section 5.3.1).
const (
	frameAMQP = 0
	frameSASL = 1
)

// Protocol identifiers of the protocol header (part 2, section 2.2 and part 5, section 5.3).
const (
	ProtocolAMQP = 0
	ProtocolSASL = 3
)

// ErrProtocol means that the peer broke the rules of framing; the connection cannot go on.
var ErrProtocol = errors.New("amqp: protocol violation")

// ProtocolHeader is the eight bytes that open a protocol.
func ProtocolHeader(id byte) []byte { return []byte{'A', 'M', 'Q', 'P', id, 1, 0, 0} }

// ReadProtocolHeader reads the peer's protocol header and returns its protocol identifier.
func ReadProtocolHeader(r io.Reader) (byte, error) {
	var b [8]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		return 0, fmt.Errorf("read protocol header: %w", err)
	}
	if string(b[:4]) != "AMQP" || b[5] != 1 || b[6] != 0 || b[7] != 0 {
		return 0, fmt.Errorf("%w: protocol header %q", ErrProtocol, b[:])
	}
	return b[4], nil
}

// Frame is one decoded frame. A frame with a nil Body is a keep-alive.
type Frame struct {
	Channel uint16
	Body    any    // *Open, *Begin, … or *SASLInit; nil for an empty frame
	Payload []byte // what follows a transfer
}

// ReadFrame reads and decodes the next frame.
func ReadFrame(r io.Reader) (Frame, error) {
	var head [frameHeaderSize]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return Frame{}, fmt.Errorf("read frame header: %w", err)
	}
	size := binary.BigEndian.Uint32(head[0:])
	if size < frameHeaderSize || size > MaxFrameSize {
		return Frame{}, fmt.Errorf("%w: frame of %d bytes", ErrProtocol, size)
	}
	body := make([]byte, size-frameHeaderSize)
	if _, err := io.ReadFull(r, body); err != nil {
		return Frame{}, fmt.Errorf("read frame body: %w", err)
	}
	extended := int(head[4])*4 - frameHeaderSize
	if extended < 0 || extended > len(body) {
		return Frame{}, fmt.Errorf("%w: data offset %d", ErrProtocol, head[4])
	}
	f := Frame{Channel: binary.BigEndian.Uint16(head[6:])}
	if body = body[extended:]; len(body) == 0 {
		return f, nil
	}
	var err error
	f.Body, f.Payload, err = decodePerformative(body)
	return f, err
}

// Performative is a frame body that the broker can send.
type Performative interface {
	code() uint64
	fields() List
}

// AppendFrame appends a whole frame to dst.
func AppendFrame(dst []byte, channel uint16, p Performative, payload []byte) []byte {
	start := len(dst)
	kind := byte(frameAMQP)
	if p.code() >= codeSASLMechanisms {
		kind = frameSASL
	}
	dst = append(dst, 0, 0, 0, 0, 2, kind, byte(channel>>8), byte(channel))
	dst = appendComposite(dst, p.code(), p.fields())
	dst = append(dst, payload...)
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start))
	return dst
}

// EmptyFrame is the keep-alive.
func EmptyFrame() []byte { return []byte{0, 0, 0, 8, 2, frameAMQP, 0, 0} }

// appendComposite appends a described list without its trailing nulls.
func appendComposite(dst []byte, code uint64, fields List) []byte {
	return Append(dst, composite(code, fields))
}

func composite(code uint64, fields List) Described {
	for len(fields) > 0 && fields[len(fields)-1] == nil {
		fields = fields[:len(fields)-1]
	}
	return Described{Descriptor: code, Value: fields}
}
