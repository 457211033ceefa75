package lab

import (
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"time"
)

// Talker is a BGP speaker that says what a test wants, right or wrong. It is written against the RFCs and shares no code with what
// it talks to.
type Talker struct {
	conn net.Conn
	open Open
	done chan struct{} // closed when the peer has closed, or said NOTIFICATION
	err  error         // why, valid after done
}

// Open is what a talker says in its OPEN. Source: RFC 4271, section 4.2; RFC 5492.
type Open struct {
	AS       uint32
	ID       netip.Addr
	TwoByte  bool          // without the capability for AS numbers of four octets (RFC 6793)
	IPv4Only bool          // no capability for IPv6
	Restart  time.Duration // of the graceful restart capability, which names no family (RFC 4724, section 3); 0: without it
	Hold     time.Duration // 0: 90 s
	More     []byte        // further capabilities as they are
}

// Types of messages (RFC 4271, section 4.1).
const (
	msgOpen         = 1
	msgUpdate       = 2
	msgNotification = 3
	msgKeepalive    = 4
)

// ErrNotification is wrapped by the error of a talker whose peer said NOTIFICATION.
var ErrNotification = errors.New("notification")

// Talk opens a session from an address to a listening peer and returns when it is established; it tries until ctx is done, since a
// peer refuses connections for some seconds after it has lost a session.
func Talk(ctx context.Context, from netip.Addr, to netip.AddrPort, open Open) (*Talker, error) {
	dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: time.Second}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := dialer.DialContext(ctx, "tcp", to.String())
		if err == nil {
			t := &Talker{conn: conn, open: open, done: make(chan struct{})}
			if err = t.establish(); err == nil {
				go t.listen()
				return t, nil
			}
			_ = conn.Close()
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("talk to %s: %w", to, errors.Join(ctx.Err(), err))
		case <-tick.C:
		}
	}
}

func (t *Talker) establish() error {
	if err := t.conn.SetReadDeadline(time.Now().Add(2 * time.Second)); err != nil {
		return fmt.Errorf("deadline: %w", err)
	}
	if err := t.Send(message(msgOpen, t.open.bytes())); err != nil {
		return err
	}
	for {
		kind, err := t.read()
		if err != nil {
			return err
		}
		switch kind {
		case msgOpen:
			err = t.Send(message(msgKeepalive, nil))
		case msgKeepalive:
			if clearErr := t.conn.SetReadDeadline(time.Time{}); clearErr != nil {
				return fmt.Errorf("deadline: %w", clearErr)
			}
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// listen answers KEEPALIVE with KEEPALIVE.
func (t *Talker) listen() {
	defer close(t.done)
	for {
		kind, err := t.read()
		if err == nil && kind == msgKeepalive {
			err = t.Send(message(msgKeepalive, nil))
		}
		if err != nil {
			t.err = err
			return
		}
	}
}

// read returns the type of the next message; a NOTIFICATION is an error.
func (t *Talker) read() (kind byte, err error) {
	header := make([]byte, 19)
	if _, err = io.ReadFull(t.conn, header); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	body := make([]byte, max(int(binary.BigEndian.Uint16(header[16:]))-len(header), 0))
	if _, err = io.ReadFull(t.conn, body); err != nil {
		return 0, fmt.Errorf("read: %w", err)
	}
	if header[18] == msgNotification && len(body) >= 2 {
		return 0, fmt.Errorf("%w %d/%d", ErrNotification, body[0], body[1])
	}
	return header[18], nil
}

// Ended returns why the peer ended the session, once it has.
func (t *Talker) Ended(ctx context.Context) error {
	select {
	case <-t.done:
		return t.err
	case <-ctx.Done():
		return fmt.Errorf("the session goes on: %w", ctx.Err())
	}
}

// Send writes bytes as they are.
func (t *Talker) Send(b []byte) error {
	if _, err := t.conn.Write(b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

// Close cuts the connection without a word, as a daemon does that is killed.
func (t *Talker) Close() { _ = t.conn.Close() }

// Cease ends the session with NOTIFICATION Cease and a subcode of RFC 4486.
func (t *Talker) Cease(subcode byte) error {
	err := t.Send(message(msgNotification, []byte{6, subcode}))
	t.Close()
	return err
}

// message makes a message of a body. Source: RFC 4271, section 4.1.
func message(kind byte, body []byte) []byte {
	m := slices.Repeat([]byte{0xff}, 16)
	m = binary.BigEndian.AppendUint16(m, uint16(19+len(body)))
	return append(append(m, kind), body...)
}

func (o Open) bytes() []byte {
	var caps []byte
	add := func(code byte, value ...byte) { caps = append(append(caps, code, byte(len(value))), value...) }
	add(1, 0, 1, 0, 1)
	if !o.IPv4Only {
		add(1, 0, 2, 0, 1)
	}
	if !o.TwoByte {
		add(65, binary.BigEndian.AppendUint32(nil, o.AS)...)
	}
	if o.Restart > 0 {
		add(64, binary.BigEndian.AppendUint16(nil, uint16(o.Restart/time.Second))...)
	}
	caps = append(caps, o.More...)
	as := uint16(23456) // AS_TRANS
	if o.AS < 1<<16 {
		as = uint16(o.AS)
	}
	b := binary.BigEndian.AppendUint16([]byte{4}, as)
	b = binary.BigEndian.AppendUint16(b, uint16(cmp.Or(o.Hold, 90*time.Second)/time.Second))
	b = append(b, o.ID.AsSlice()...)
	b = append(b, byte(len(caps)+2), 2, byte(len(caps)))
	return append(b, caps...)
}

// Attrs are the attributes of an UPDATE.
type Attrs struct {
	NextHop         netip.Addr
	ASPath          []uint32 // one sequence
	MED             uint32   // 0: none
	LocalPreference uint32   // 0: none
	Communities     []uint32
	Raw             []byte // further attributes as they are
}

// Announce makes an UPDATE that announces prefixes of the family of the next hop.
func (t *Talker) Announce(a Attrs, prefixes ...netip.Prefix) []byte {
	b := attribute(0x40, 1, 0) // ORIGIN IGP
	b = append(b, attribute(0x40, 2, t.asPath(a.ASPath)...)...)
	if a.NextHop.Is4() {
		b = append(b, attribute(0x40, 3, a.NextHop.AsSlice()...)...)
	}
	if a.MED > 0 {
		b = append(b, attribute(0x80, 4, binary.BigEndian.AppendUint32(nil, a.MED)...)...)
	}
	if a.LocalPreference > 0 {
		b = append(b, attribute(0x40, 5, binary.BigEndian.AppendUint32(nil, a.LocalPreference)...)...)
	}
	if len(a.Communities) > 0 {
		var value []byte
		for _, c := range a.Communities {
			value = binary.BigEndian.AppendUint32(value, c)
		}
		b = append(b, attribute(0xc0, 8, value...)...)
	}
	b = append(b, a.Raw...)
	if a.NextHop.Is4() {
		return update(nil, b, encode(prefixes))
	}
	value := append([]byte{0, 2, 1, 16}, a.NextHop.AsSlice()...) // RFC 4760, section 3
	b = append(b, attribute(0x80, 14, append(append(value, 0), encode(prefixes)...)...)...)
	return update(nil, b, nil)
}

func (t *Talker) asPath(path []uint32) []byte {
	if len(path) == 0 {
		return nil
	}
	b := []byte{2, byte(len(path))}
	for _, as := range path {
		if t.open.TwoByte {
			b = binary.BigEndian.AppendUint16(b, uint16(as))
			continue
		}
		b = binary.BigEndian.AppendUint32(b, as)
	}
	return b
}

// Withdraw makes an UPDATE that withdraws prefixes of one family.
func (t *Talker) Withdraw(prefixes ...netip.Prefix) []byte {
	if len(prefixes) > 0 && prefixes[0].Addr().Is6() {
		return update(nil, attribute(0x80, 15, append([]byte{0, 2, 1}, encode(prefixes)...)...), nil)
	}
	return update(encode(prefixes), nil, nil)
}

// EndOfRIB makes the marks of both families, or of IPv4 only. Source: RFC 4724, section 2.
func (t *Talker) EndOfRIB() []byte {
	b := update(nil, nil, nil)
	if t.open.IPv4Only {
		return b
	}
	return append(b, update(nil, attribute(0x80, 15, 0, 2, 1), nil)...)
}

// Message makes a message of any type.
func Message(kind byte, body ...byte) []byte { return message(kind, body) }

// Attribute makes a path attribute. Source: RFC 4271, section 4.3.
func Attribute(flags, code byte, value ...byte) []byte { return attribute(flags, code, value...) }

func attribute(flags, code byte, value ...byte) []byte {
	if len(value) > 255 {
		b := binary.BigEndian.AppendUint16([]byte{flags | 0x10, code}, uint16(len(value)))
		return append(b, value...)
	}
	return append([]byte{flags, code, byte(len(value))}, value...)
}

// Update makes an UPDATE of its three parts. Source: RFC 4271, section 4.3.
func Update(withdrawn, attributes, announced []byte) []byte {
	return update(withdrawn, attributes, announced)
}

func update(withdrawn, attributes, announced []byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn)))
	b = binary.BigEndian.AppendUint16(append(b, withdrawn...), uint16(len(attributes)))
	return message(msgUpdate, append(append(b, attributes...), announced...))
}

// encode makes NLRI of prefixes.
func encode(prefixes []netip.Prefix) []byte {
	var b []byte
	for _, p := range prefixes {
		b = append(b, byte(p.Bits()))
		b = append(b, p.Addr().AsSlice()[:(p.Bits()+7)/8]...)
	}
	return b
}
