// Package amqp is the part of AMQP 1.0 that a Service Bus broker needs: the type system, frames, performatives and the
// sections of a message (OASIS AMQP 1.0, parts 1 to 3 and 5). It does no I/O beyond reading one frame from a reader.
//
// Values are held as Go values that keep the AMQP type, so that decoding and encoding loses nothing: an int stays an
// int and a symbol a symbol. The mapping is:
//
//	null nil             boolean bool        ubyte uint8     ushort uint16   uint uint32   ulong uint64
//	byte int8            short int16         int int32       long int64      float float32 double float64
//	char Char            timestamp Timestamp uuid UUID       binary []byte   string string symbol Symbol
//	decimal32 Decimal32  decimal64 Decimal64 decimal128 Decimal128
//	list List            map Map             array Array     described Described
package amqp

import (
	"fmt"
	"time"
)

// Symbol is an AMQP symbol: a string of ASCII characters from a constrained domain.
type Symbol string

// Char is one Unicode code point.
type Char rune

// UUID is a universally unique identifier in RFC 4122 byte order.
type UUID [16]byte

// String is the canonical 8-4-4-4-12 form.
func (u UUID) String() string {
	return fmt.Sprintf("%x-%x-%x-%x-%x", u[0:4], u[4:6], u[6:8], u[8:10], u[10:16])
}

// GUID is u in the byte order of .NET's Guid.ToByteArray, which Service Bus uses for delivery tags.
func (u UUID) GUID() [16]byte {
	return [16]byte{u[3], u[2], u[1], u[0], u[5], u[4], u[7], u[6], u[8], u[9], u[10], u[11], u[12], u[13], u[14], u[15]}
}

// Timestamp is an instant in milliseconds since the Unix epoch.
type Timestamp int64

// TimestampOf rounds t down to a millisecond.
func TimestampOf(t time.Time) Timestamp { return Timestamp(t.UnixMilli()) }

// Time is the instant in UTC.
func (t Timestamp) Time() time.Time { return time.UnixMilli(int64(t)).UTC() }

// Decimal32, Decimal64 and Decimal128 are IEEE 754-2008 decimals as they stand on the wire; they are only carried.
type (
	// Decimal32 is a 32-bit decimal, undecoded.
	Decimal32 [4]byte
	// Decimal64 is a 64-bit decimal, undecoded.
	Decimal64 [8]byte
	// Decimal128 is a 128-bit decimal, undecoded.
	Decimal128 [16]byte
)

// List is a sequence of values of any types.
type List []any

// Pair is one entry of a Map.
type Pair struct{ Key, Value any }

// Map is a mapping in wire order. Keys are not checked for being unique.
type Map []Pair

// Get returns the value of the string or symbol key name; it reports whether there is one.
func (m Map) Get(name string) (any, bool) {
	for _, p := range m {
		if keyName(p.Key) == name {
			return p.Value, true
		}
	}
	return nil, false
}

// Set returns a copy of m in which key has value; an existing entry keeps its place.
func (m Map) Set(key, value any) Map {
	out := append(make(Map, 0, len(m)+1), m...)
	for i := range out {
		if name := keyName(out[i].Key); name != "" && name == keyName(key) {
			out[i].Value = value
			return out
		}
	}
	return append(out, Pair{Key: key, Value: value})
}

func keyName(key any) string {
	switch k := key.(type) {
	case string:
		return k
	case Symbol:
		return string(k)
	default:
		return ""
	}
}

// Array is a sequence of values of one type. Elem is the constructor that the elements share, in its widest form.
type Array struct {
	Descriptor any // of a described element type, otherwise nil
	Elem       byte
	Items      []any
}

// Described is a value annotated with a descriptor, which is usually a symbol or a ulong.
type Described struct{ Descriptor, Value any }

// Constructors (AMQP 1.0 part 1, section 1.6). Where a type has several, the widest is the one that arrays use.
const (
	codeDescribed  = 0x00
	codeNull       = 0x40
	codeTrue       = 0x41
	codeFalse      = 0x42
	codeUint0      = 0x43
	codeUlong0     = 0x44
	codeList0      = 0x45
	codeUbyte      = 0x50
	codeByte       = 0x51
	codeSmallUint  = 0x52
	codeSmallUlong = 0x53
	codeSmallInt   = 0x54
	codeSmallLong  = 0x55
	codeBoolean    = 0x56
	codeUshort     = 0x60
	codeShort      = 0x61
	codeUint       = 0x70
	codeInt        = 0x71
	codeFloat      = 0x72
	codeChar       = 0x73
	codeDecimal32  = 0x74
	codeUlong      = 0x80
	codeLong       = 0x81
	codeDouble     = 0x82
	codeTimestamp  = 0x83
	codeDecimal64  = 0x84
	codeDecimal128 = 0x94
	codeUUID       = 0x98
	codeBinary8    = 0xa0
	codeString8    = 0xa1
	codeSymbol8    = 0xa3
	codeBinary32   = 0xb0
	codeString32   = 0xb1
	codeSymbol32   = 0xb3
	codeList8      = 0xc0
	codeMap8       = 0xc1
	codeList32     = 0xd0
	codeMap32      = 0xd1
	codeArray8     = 0xe0
	codeArray32    = 0xf0
)

// Longs is an array of longs.
func Longs(values []int64) Array { return arrayOf(codeLong, values) }

// Timestamps is an array of timestamps.
func Timestamps(values []time.Time) Array {
	stamps := make([]Timestamp, len(values))
	for i, v := range values {
		stamps[i] = TimestampOf(v)
	}
	return arrayOf(codeTimestamp, stamps)
}

// Strings is an array of strings.
func Strings(values []string) Array { return arrayOf(codeString32, values) }

// Symbols is an array of symbols.
func Symbols(values ...Symbol) Array { return arrayOf(codeSymbol32, values) }

func arrayOf[T any](elem byte, values []T) Array {
	items := make([]any, len(values))
	for i, v := range values {
		items[i] = v
	}
	return Array{Elem: elem, Items: items}
}

// widest maps every constructor to the form that arrays are encoded in.
func widest(code byte) byte {
	switch code {
	case codeTrue, codeFalse:
		return codeBoolean
	case codeUint0, codeSmallUint:
		return codeUint
	case codeUlong0, codeSmallUlong:
		return codeUlong
	case codeSmallInt:
		return codeInt
	case codeSmallLong:
		return codeLong
	case codeBinary8:
		return codeBinary32
	case codeString8:
		return codeString32
	case codeSymbol8:
		return codeSymbol32
	case codeList0, codeList8:
		return codeList32
	case codeMap8:
		return codeMap32
	case codeArray8:
		return codeArray32
	default:
		return code
	}
}
