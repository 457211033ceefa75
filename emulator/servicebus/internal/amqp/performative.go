package amqp

import "fmt"

// Descriptors of the composite types (parts 2, 3 and 5).
const (
	codeOpen           uint64 = 0x10
	codeBegin          uint64 = 0x11
	codeAttach         uint64 = 0x12
	codeFlow           uint64 = 0x13
	codeTransfer       uint64 = 0x14
	codeDisposition    uint64 = 0x15
	codeDetach         uint64 = 0x16
	codeEnd            uint64 = 0x17
	codeClose          uint64 = 0x18
	codeError          uint64 = 0x1d
	codeSource         uint64 = 0x28
	codeTarget         uint64 = 0x29
	codeSASLMechanisms uint64 = 0x40
	codeSASLInit       uint64 = 0x41
	codeSASLOutcome    uint64 = 0x44
)

// Roles of a link endpoint.
const (
	RoleSender   = false
	RoleReceiver = true
)

// Settle modes of a link (part 2, sections 2.8.2 and 2.8.3).
const (
	SenderUnsettled uint8 = 0
	SenderSettled   uint8 = 1
	SenderMixed     uint8 = 2
	ReceiverFirst   uint8 = 0
	ReceiverSecond  uint8 = 1
)

// Open negotiates the connection (part 2, section 2.7.1).
type Open struct {
	ContainerID  string
	Hostname     string
	MaxFrameSize uint32 // bytes
	ChannelMax   uint16
	IdleTimeout  uint32 // milliseconds; 0 = none
}

// Begin opens a session (section 2.7.2). RemoteChannel is nil in the one that starts it.
type Begin struct {
	RemoteChannel  *uint16
	NextOutgoingID uint32
	IncomingWindow uint32
	OutgoingWindow uint32
	HandleMax      uint32
}

// Attach opens a link (section 2.7.3).
type Attach struct {
	Name                 string
	Handle               uint32
	Role                 bool
	SndSettleMode        *uint8
	RcvSettleMode        *uint8
	Source               *Terminus
	Target               *Terminus
	InitialDeliveryCount *uint32
	MaxMessageSize       uint64
	Properties           Map
}

// Terminus is a source or a target. All its fields are kept so that it can be echoed; only the address and, of a
// source, the filter are looked at (part 3, sections 3.5.3 and 3.5.4).
type Terminus struct {
	descriptor any
	list       List
}

const (
	terminusAddress = 0
	sourceFilter    = 7
)

// Address is the node's address, empty if there is none.
func (t *Terminus) Address() string {
	if t == nil || len(t.list) <= terminusAddress {
		return ""
	}
	s, _ := t.list[terminusAddress].(string)
	return s
}

// Filter is the filter set of a source.
func (t *Terminus) Filter() Map {
	if t == nil || len(t.list) <= sourceFilter {
		return nil
	}
	m, _ := t.list[sourceFilter].(Map)
	return m
}

// WithFilter is a copy of the source t with another filter set.
func (t *Terminus) WithFilter(m Map) *Terminus {
	list := make(List, max(len(t.list), sourceFilter+1))
	copy(list, t.list)
	list[sourceFilter] = m
	return &Terminus{descriptor: t.descriptor, list: list}
}

func (t *Terminus) value() any {
	if t == nil {
		return nil
	}
	return Described{Descriptor: t.descriptor, Value: t.list}
}

// NewSource is a source with nothing but an address.
func NewSource(address string) *Terminus {
	return &Terminus{descriptor: codeSource, list: List{address}}
}

// NewTarget is a target with nothing but an address.
func NewTarget(address string) *Terminus {
	return &Terminus{descriptor: codeTarget, list: List{address}}
}

// Flow updates the windows of a session and, with a handle, the credit of a link (section 2.7.4).
type Flow struct {
	NextIncomingID *uint32
	IncomingWindow uint32
	NextOutgoingID uint32
	OutgoingWindow uint32
	Handle         *uint32
	DeliveryCount  *uint32
	LinkCredit     *uint32
	Drain          bool
	Echo           bool
}

// Transfer carries a part of a message (section 2.7.5).
type Transfer struct {
	Handle        uint32
	DeliveryID    *uint32
	DeliveryTag   []byte
	MessageFormat *uint32
	Settled       bool
	More          bool
	Aborted       bool
}

// Disposition tells the state of deliveries (section 2.7.6).
type Disposition struct {
	Role    bool
	First   uint32
	Last    *uint32
	Settled bool
	State   *Outcome
}

// Detach ends a link (section 2.7.7).
type Detach struct {
	Handle uint32
	Closed bool
	Error  *Error
}

// End ends a session (section 2.7.8).
type End struct{ Error *Error }

// Close ends the connection (section 2.7.9).
type Close struct{ Error *Error }

// SASLMechanisms offers mechanisms (part 5, section 5.3.3.1).
type SASLMechanisms struct{ Mechanisms []Symbol }

// SASLInit chooses a mechanism (section 5.3.3.2).
type SASLInit struct{ Mechanism Symbol }

// SASLOutcome ends SASL (section 5.3.3.6). Code 0 is success.
type SASLOutcome struct{ Code uint8 }

// Error is the AMQP error type (part 2, section 2.8.14). It is a Go error too.
type Error struct {
	Condition   Symbol
	Description string
	Info        Map
}

// Error is the condition with the description.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s", e.Condition, e.Description) }

func (e *Error) value() any {
	if e == nil {
		return nil
	}
	f := List{e.Condition, e.Description, nil}
	if e.Info != nil {
		f[2] = e.Info
	}
	return composite(codeError, f)
}

// ref turns a pointer into a field: nil becomes null.
func ref[T any](p *T) any {
	if p == nil {
		return nil
	}
	return *p
}

// orNil turns a zero value into null, for fields whose default is the zero value.
func orNil[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func (*Open) code() uint64           { return codeOpen }
func (*Begin) code() uint64          { return codeBegin }
func (*Attach) code() uint64         { return codeAttach }
func (*Flow) code() uint64           { return codeFlow }
func (*Transfer) code() uint64       { return codeTransfer }
func (*Disposition) code() uint64    { return codeDisposition }
func (*Detach) code() uint64         { return codeDetach }
func (*End) code() uint64            { return codeEnd }
func (*Close) code() uint64          { return codeClose }
func (*SASLMechanisms) code() uint64 { return codeSASLMechanisms }
func (*SASLInit) code() uint64       { return codeSASLInit }
func (*SASLOutcome) code() uint64    { return codeSASLOutcome }

func (o *Open) fields() List {
	return List{o.ContainerID, orNil(o.Hostname), o.MaxFrameSize, o.ChannelMax, orNil(o.IdleTimeout)}
}

func (b *Begin) fields() List {
	return List{ref(b.RemoteChannel), b.NextOutgoingID, b.IncomingWindow, b.OutgoingWindow, b.HandleMax}
}

func (a *Attach) fields() List {
	f := List{
		a.Name, a.Handle, a.Role, ref(a.SndSettleMode), ref(a.RcvSettleMode), a.Source.value(), a.Target.value(),
		nil, nil, ref(a.InitialDeliveryCount), orNil(a.MaxMessageSize), nil, nil, nil,
	}
	if a.Properties != nil {
		f[13] = a.Properties
	}
	return f
}

func (f *Flow) fields() List {
	return List{
		ref(f.NextIncomingID), f.IncomingWindow, f.NextOutgoingID, f.OutgoingWindow, ref(f.Handle), ref(f.DeliveryCount),
		ref(f.LinkCredit), nil, orNil(f.Drain), orNil(f.Echo),
	}
}

func (t *Transfer) fields() List {
	f := List{t.Handle, ref(t.DeliveryID), nil, ref(t.MessageFormat), t.Settled, orNil(t.More), nil, nil, nil, orNil(t.Aborted)}
	if t.DeliveryTag != nil {
		f[2] = t.DeliveryTag
	}
	return f
}

func (d *Disposition) fields() List {
	return List{d.Role, d.First, ref(d.Last), d.Settled, d.State.value()}
}

func (d *Detach) fields() List         { return List{d.Handle, d.Closed, d.Error.value()} }
func (e *End) fields() List            { return List{e.Error.value()} }
func (c *Close) fields() List          { return List{c.Error.value()} }
func (s *SASLMechanisms) fields() List { return List{Symbols(s.Mechanisms...)} }
func (s *SASLInit) fields() List       { return List{s.Mechanism} }
func (s *SASLOutcome) fields() List    { return List{s.Code} }

// reader takes typed fields out of a list; the first field of a wrong type is kept as err.
type reader struct {
	list List
	err  error
}

func (r *reader) at(i int) any {
	if i >= len(r.list) {
		return nil
	}
	return r.list[i]
}

// field is field i, or fallback if it is absent or null.
func field[T any](r *reader, i int, fallback T) T {
	switch v := r.at(i).(type) {
	case nil:
		return fallback
	case T:
		return v
	default:
		if r.err == nil {
			r.err = malformed("field %d is a %T, want a %T", i, v, fallback)
		}
		return fallback
	}
}

// optional is field i, or nil.
func optional[T any](r *reader, i int) *T {
	if r.at(i) == nil {
		return nil
	}
	var zero T
	v := field(r, i, zero)
	return &v
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) terminus(i int) *Terminus {
	v := r.at(i)
	if v == nil {
		return nil
	}
	d, ok := v.(Described)
	list, isList := d.Value.(List)
	if !ok || !isList {
		r.fail(malformed("field %d is a %T, want a terminus", i, v))
		return nil
	}
	return &Terminus{descriptor: d.Descriptor, list: list}
}

func (r *reader) error(i int) *Error {
	v := r.at(i)
	if v == nil {
		return nil
	}
	d, ok := v.(Described)
	list, isList := d.Value.(List)
	if !ok || !isList {
		r.fail(malformed("field %d is a %T, want an error", i, v))
		return nil
	}
	in := reader{list: list}
	e := &Error{Condition: field(&in, 0, Symbol("")), Description: field(&in, 1, ""), Info: field(&in, 2, Map(nil))}
	r.fail(in.err)
	return e
}

// decodePerformative reads a frame body; rest is a transfer's payload.
func decodePerformative(b []byte) (body any, rest []byte, err error) {
	v, rest, err := Decode(b)
	if err != nil {
		return nil, nil, err
	}
	d, ok := v.(Described)
	code, isCode := d.Descriptor.(uint64)
	list, isList := d.Value.(List)
	if !ok || !isCode || !isList {
		return nil, nil, malformed("frame body is a %T", v)
	}
	r := reader{list: list}
	body = r.performative(code)
	if body == nil {
		return nil, nil, malformed("performative %#x", code)
	}
	if r.err != nil {
		return nil, nil, fmt.Errorf("performative %#x: %w", code, r.err)
	}
	return body, rest, nil
}

func (r *reader) performative(code uint64) any {
	switch code {
	case codeOpen:
		return &Open{
			ContainerID: field(r, 0, ""), Hostname: field(r, 1, ""), MaxFrameSize: field(r, 2, uint32(0xffffffff)),
			ChannelMax: field(r, 3, uint16(0xffff)), IdleTimeout: field(r, 4, uint32(0)),
		}
	case codeBegin:
		return &Begin{
			RemoteChannel: optional[uint16](r, 0), NextOutgoingID: field(r, 1, uint32(0)), IncomingWindow: field(r, 2, uint32(0)),
			OutgoingWindow: field(r, 3, uint32(0)), HandleMax: field(r, 4, uint32(0xffffffff)),
		}
	case codeAttach:
		return &Attach{
			Name: field(r, 0, ""), Handle: field(r, 1, uint32(0)), Role: field(r, 2, false),
			SndSettleMode: optional[uint8](r, 3), RcvSettleMode: optional[uint8](r, 4), Source: r.terminus(5), Target: r.terminus(6),
			InitialDeliveryCount: optional[uint32](r, 9), MaxMessageSize: field(r, 10, uint64(0)), Properties: field(r, 13, Map(nil)),
		}
	case codeFlow:
		return &Flow{
			NextIncomingID: optional[uint32](r, 0), IncomingWindow: field(r, 1, uint32(0)), NextOutgoingID: field(r, 2, uint32(0)),
			OutgoingWindow: field(r, 3, uint32(0)), Handle: optional[uint32](r, 4), DeliveryCount: optional[uint32](r, 5),
			LinkCredit: optional[uint32](r, 6), Drain: field(r, 8, false), Echo: field(r, 9, false),
		}
	case codeTransfer:
		return &Transfer{
			Handle: field(r, 0, uint32(0)), DeliveryID: optional[uint32](r, 1), DeliveryTag: field(r, 2, []byte(nil)),
			MessageFormat: optional[uint32](r, 3), Settled: field(r, 4, false), More: field(r, 5, false), Aborted: field(r, 9, false),
		}
	case codeDisposition:
		return &Disposition{
			Role: field(r, 0, false), First: field(r, 1, uint32(0)), Last: optional[uint32](r, 2), Settled: field(r, 3, false),
			State: r.outcome(4),
		}
	case codeDetach:
		return &Detach{Handle: field(r, 0, uint32(0)), Closed: field(r, 1, false), Error: r.error(2)}
	case codeEnd:
		return &End{Error: r.error(0)}
	case codeClose:
		return &Close{Error: r.error(0)}
	case codeSASLInit:
		return &SASLInit{Mechanism: field(r, 0, Symbol(""))}
	default:
		return nil
	}
}
