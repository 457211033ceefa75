package amqp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// ErrDecode is wrapped by every error of this package that means "these bytes are not AMQP".
var ErrDecode = errors.New("amqp: malformed encoding")

// Bounds on what a peer can make the decoder do with few bytes.
const (
	maxDepth     = 32
	maxZeroWidth = 256 // elements of an array whose elements take no bytes
)

// decoder reads values from the front of buf.
type decoder struct {
	buf   []byte
	pos   int
	depth int
}

// Decode reads one value from the front of b and returns it with the rest of b. Byte strings are copied.
func Decode(b []byte) (value any, rest []byte, err error) {
	d := decoder{buf: b}
	value, err = d.value()
	if err != nil {
		return nil, nil, err
	}
	return value, b[d.pos:], nil
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrDecode, fmt.Sprintf(format, args...))
}

func (d *decoder) take(n int) ([]byte, error) {
	if n < 0 || n > len(d.buf)-d.pos {
		return nil, malformed("%d bytes wanted at offset %d, %d left", n, d.pos, len(d.buf)-d.pos)
	}
	b := d.buf[d.pos : d.pos+n]
	d.pos += n
	return b, nil
}

func (d *decoder) byte() (byte, error) {
	b, err := d.take(1)
	if err != nil {
		return 0, err
	}
	return b[0], nil
}

func (d *decoder) value() (any, error) {
	if d.depth++; d.depth > maxDepth {
		return nil, malformed("nested deeper than %d", maxDepth)
	}
	defer func() { d.depth-- }()
	code, err := d.byte()
	if err != nil {
		return nil, err
	}
	if code != codeDescribed {
		return d.data(code)
	}
	descriptor, err := d.value()
	if err != nil {
		return nil, err
	}
	v, err := d.value()
	if err != nil {
		return nil, err
	}
	return Described{Descriptor: descriptor, Value: v}, nil
}

// data reads what follows the constructor code; the high half of the code is the width (part 1, figure 1.2).
func (d *decoder) data(code byte) (any, error) {
	switch code >> 4 {
	case 0x4:
		return zeroWidth(code)
	case 0x5, 0x6, 0x7, 0x8, 0x9:
		b, err := d.take(1 << (code>>4 - 5))
		if err != nil {
			return nil, err
		}
		return fixed(code, b)
	case 0xa, 0xb:
		return d.variable(code)
	case 0xc, 0xd:
		return d.compound(code)
	case 0xe, 0xf:
		return d.array(code)
	default:
		return nil, malformed("constructor %#02x", code)
	}
}

func zeroWidth(code byte) (any, error) {
	switch code {
	case codeNull:
		return nil, nil //nolint:nilnil // null is a value
	case codeTrue:
		return true, nil
	case codeFalse:
		return false, nil
	case codeUint0:
		return uint32(0), nil
	case codeUlong0:
		return uint64(0), nil
	case codeList0:
		return List{}, nil
	default:
		return nil, malformed("constructor %#02x", code)
	}
}

func fixed(code byte, b []byte) (any, error) {
	switch code {
	case codeUbyte:
		return b[0], nil
	case codeByte:
		return int8(b[0]), nil
	case codeSmallUint:
		return uint32(b[0]), nil
	case codeSmallUlong:
		return uint64(b[0]), nil
	case codeSmallInt:
		return int32(int8(b[0])), nil
	case codeSmallLong:
		return int64(int8(b[0])), nil
	case codeBoolean:
		return b[0] != 0, nil
	case codeUshort:
		return binary.BigEndian.Uint16(b), nil
	case codeShort:
		return int16(binary.BigEndian.Uint16(b)), nil
	case codeUint:
		return binary.BigEndian.Uint32(b), nil
	case codeInt:
		return int32(binary.BigEndian.Uint32(b)), nil
	case codeFloat:
		return math.Float32frombits(binary.BigEndian.Uint32(b)), nil
	case codeChar:
		return Char(binary.BigEndian.Uint32(b)), nil
	case codeDecimal32:
		return Decimal32(b), nil
	case codeUlong:
		return binary.BigEndian.Uint64(b), nil
	case codeLong:
		return int64(binary.BigEndian.Uint64(b)), nil
	case codeDouble:
		return math.Float64frombits(binary.BigEndian.Uint64(b)), nil
	case codeTimestamp:
		return Timestamp(binary.BigEndian.Uint64(b)), nil
	case codeDecimal64:
		return Decimal64(b), nil
	case codeDecimal128:
		return Decimal128(b), nil
	case codeUUID:
		return UUID(b), nil
	default:
		return nil, malformed("constructor %#02x", code)
	}
}

// size reads a length or count of one byte, or of four for the wide constructors.
func (d *decoder) size(wide bool) (int, error) {
	if !wide {
		b, err := d.byte()
		return int(b), err
	}
	b, err := d.take(4)
	if err != nil {
		return 0, err
	}
	return int(binary.BigEndian.Uint32(b)), nil
}

func (d *decoder) variable(code byte) (any, error) {
	n, err := d.size(code>>4 == 0xb)
	if err != nil {
		return nil, err
	}
	b, err := d.take(n)
	if err != nil {
		return nil, err
	}
	switch widest(code) {
	case codeBinary32:
		return append(make([]byte, 0, n), b...), nil
	case codeString32:
		return string(b), nil
	case codeSymbol32:
		return Symbol(b), nil
	default:
		return nil, malformed("constructor %#02x", code)
	}
}

// enter reads the size and count of a compound value and returns a decoder for exactly its content.
func (d *decoder) enter(wide bool) (inner decoder, count int, err error) {
	size, err := d.size(wide)
	if err != nil {
		return decoder{}, 0, err
	}
	b, err := d.take(size)
	if err != nil {
		return decoder{}, 0, err
	}
	inner = decoder{buf: b, depth: d.depth}
	count, err = inner.size(wide)
	return inner, count, err
}

func (d *decoder) compound(code byte) (any, error) {
	inner, count, err := d.enter(code>>4 == 0xd)
	if err != nil {
		return nil, err
	}
	if count > len(inner.buf) { // every element takes at least its constructor
		return nil, malformed("%d elements in %d bytes", count, len(inner.buf))
	}
	items := make(List, count)
	for i := range items {
		if items[i], err = inner.value(); err != nil {
			return nil, err
		}
	}
	if inner.pos != len(inner.buf) {
		return nil, malformed("%d bytes after the last element", len(inner.buf)-inner.pos)
	}
	switch widest(code) {
	case codeList32:
		return items, nil
	case codeMap32:
		return pairs(items)
	default:
		return nil, malformed("constructor %#02x", code)
	}
}

func pairs(items List) (any, error) {
	if len(items)%2 != 0 {
		return nil, malformed("map of %d elements", len(items))
	}
	m := make(Map, len(items)/2)
	for i := range m {
		m[i] = Pair{Key: items[2*i], Value: items[2*i+1]}
	}
	return m, nil
}

func (d *decoder) array(code byte) (any, error) {
	if code != codeArray8 && code != codeArray32 {
		return nil, malformed("constructor %#02x", code)
	}
	if d.depth++; d.depth > maxDepth {
		return nil, malformed("nested deeper than %d", maxDepth)
	}
	defer func() { d.depth-- }()
	inner, count, err := d.enter(code == codeArray32)
	if err != nil {
		return nil, err
	}
	elem, err := inner.byte()
	if err != nil {
		return nil, err
	}
	a := Array{Elem: elem}
	if elem == codeDescribed {
		if a.Descriptor, err = inner.value(); err != nil {
			return nil, err
		}
		if a.Elem, err = inner.byte(); err != nil {
			return nil, err
		}
	}
	return inner.items(a, count)
}

func (d *decoder) items(a Array, count int) (any, error) {
	limit := len(d.buf)
	if a.Elem>>4 == 0x4 {
		limit = maxZeroWidth
	}
	if count > limit {
		return nil, malformed("array of %d elements in %d bytes", count, len(d.buf))
	}
	a.Items = make([]any, count)
	for i := range a.Items {
		var err error
		if a.Items[i], err = d.data(a.Elem); err != nil {
			return nil, err
		}
	}
	if d.pos != len(d.buf) {
		return nil, malformed("%d bytes after the last element", len(d.buf)-d.pos)
	}
	a.Elem = widest(a.Elem)
	return a, nil
}
