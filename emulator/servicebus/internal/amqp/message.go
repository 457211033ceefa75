package amqp

import (
	"bytes"
	"slices"
)

// Descriptors of the message sections (part 3, section 3.2).
const (
	sectionHeader              uint64 = 0x70
	sectionDeliveryAnnotations uint64 = 0x71
	sectionMessageAnnotations  uint64 = 0x72
	sectionProperties          uint64 = 0x73
	sectionApplication         uint64 = 0x74
	sectionData                uint64 = 0x75
	sectionSequence            uint64 = 0x76
	sectionValue               uint64 = 0x77
	sectionFooter              uint64 = 0x78
)

// Positions in the properties section (section 3.2.4).
const (
	PropMessageID     = 0
	PropSubject       = 3
	PropReplyTo       = 4
	PropCorrelationID = 5
	PropContentType   = 6
	PropGroupID       = 10
)

// Header is the header section. A nil field was absent.
type Header struct {
	Durable       *bool
	Priority      *uint8
	TTL           *uint32 // milliseconds
	DeliveryCount uint32
}

// Message is a message of which the broker may change everything but the body: properties, application properties and
// body keep the sender's bytes until one of them is set. A Message is not changed in place by the broker once stored;
// Clone it first.
type Message struct {
	Header              Header
	DeliveryAnnotations Map
	Annotations         Map

	properties     List
	rawProperties  []byte
	application    Map
	rawApplication []byte
	body           []byte // data, sequence or value sections with their descriptors
	footer         []byte
}

// Clone is a copy of which every field may be set without changing m.
func (m *Message) Clone() *Message {
	c := *m
	return &c
}

// ParseMessage reads the sections of an encoded message. Delivery annotations, which are for one hop, are kept too.
func ParseMessage(b []byte) (*Message, error) {
	m := &Message{}
	for rest := b; len(rest) > 0; {
		v, next, err := Decode(rest)
		if err != nil {
			return nil, err
		}
		raw := rest[:len(rest)-len(next)]
		if err = m.section(v, raw); err != nil {
			return nil, err
		}
		rest = next
	}
	return m, nil
}

func (m *Message) section(v any, raw []byte) error {
	d, _ := v.(Described)
	code, ok := d.Descriptor.(uint64)
	if !ok {
		return malformed("message section is a %T", v)
	}
	r := &reader{list: List{d.Value}}
	switch code {
	case sectionHeader:
		m.header(r)
	case sectionDeliveryAnnotations:
		m.DeliveryAnnotations = field(r, 0, Map(nil))
	case sectionMessageAnnotations:
		m.Annotations = field(r, 0, Map(nil))
	case sectionProperties:
		m.properties, m.rawProperties = field(r, 0, List(nil)), bytes.Clone(raw)
	case sectionApplication:
		m.application, m.rawApplication = field(r, 0, Map(nil)), bytes.Clone(raw)
	case sectionData:
		field(r, 0, []byte(nil))
		m.body = append(m.body, raw...)
	case sectionSequence, sectionValue:
		m.body = append(m.body, raw...)
	case sectionFooter:
		m.footer = bytes.Clone(raw)
	default:
		return malformed("message section %#x", code)
	}
	return r.err
}

func (m *Message) header(r *reader) {
	in := &reader{list: field(r, 0, List(nil))}
	m.Header = Header{
		Durable: optional[bool](in, 0), Priority: optional[uint8](in, 1), TTL: optional[uint32](in, 2),
		DeliveryCount: field(in, 4, uint32(0)),
	}
	r.fail(in.err)
}

// Append appends the encoded message to dst.
func (m *Message) Append(dst []byte) []byte {
	h := m.Header
	dst = appendComposite(dst, sectionHeader, List{ref(h.Durable), ref(h.Priority), ref(h.TTL), nil, h.DeliveryCount})
	dst = appendMapSection(dst, sectionDeliveryAnnotations, m.DeliveryAnnotations)
	dst = appendMapSection(dst, sectionMessageAnnotations, m.Annotations)
	dst = append(dst, m.rawProperties...)
	dst = append(dst, m.rawApplication...)
	dst = append(dst, m.body...)
	return append(dst, m.footer...)
}

func appendMapSection(dst []byte, code uint64, m Map) []byte {
	if len(m) == 0 {
		return dst
	}
	return Append(dst, Described{Descriptor: code, Value: m})
}

// Property is field i of the properties section, nil if absent.
func (m *Message) Property(i int) any {
	if i >= len(m.properties) {
		return nil
	}
	return m.properties[i]
}

// SetProperty replaces field i of the properties section.
func (m *Message) SetProperty(i int, v any) {
	list := make(List, max(len(m.properties), i+1))
	copy(list, m.properties)
	list[i] = v
	m.properties = list
	m.rawProperties = appendComposite(nil, sectionProperties, list)
}

// Application is the application properties. They must not be changed.
func (m *Message) Application() Map { return m.application }

// SetApplication replaces the application properties.
func (m *Message) SetApplication(p Map) {
	m.application = p
	m.rawApplication = appendMapSection(nil, sectionApplication, p)
}

// Value is the content of an amqp-value body; it reports whether the body is one.
func (m *Message) Value() (any, bool) {
	v, _, err := Decode(m.body)
	d, ok := v.(Described)
	if err != nil || !ok || d.Descriptor != sectionValue {
		return nil, false
	}
	return d.Value, true
}

// SetValue makes v the body.
func (m *Message) SetValue(v any) {
	m.body = Append(nil, Described{Descriptor: sectionValue, Value: v})
}

// Data is the contents of the data sections, in order.
func (m *Message) Data() [][]byte {
	var out [][]byte
	for rest := m.body; len(rest) > 0; {
		v, next, err := Decode(rest)
		if err != nil {
			return out // cannot be: ParseMessage has read it
		}
		if d, ok := v.(Described); ok && d.Descriptor == sectionData {
			if b, isBytes := d.Value.([]byte); isBytes {
				out = append(out, b)
			}
		}
		rest = next
	}
	return out
}

// Body is the payload as bytes: the data sections joined, or the bytes or string of a value section; nil for others.
func (m *Message) Body() []byte {
	if v, ok := m.Value(); ok {
		switch v := v.(type) {
		case []byte:
			return v
		case string:
			return []byte(v)
		default:
			return nil
		}
	}
	return slices.Concat(m.Data()...)
}
