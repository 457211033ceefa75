package amqp

import (
	"encoding/binary"
	"fmt"
	"math"
)

// Append appends the encoding of v to dst. It panics if v is not of a type that the package comment names: values come
// from the decoder or from the broker itself.
func Append(dst []byte, v any) []byte {
	if d, ok := v.(Described); ok {
		return Append(Append(append(dst, codeDescribed), d.Descriptor), d.Value)
	}
	code := constructor(v)
	return appendData(append(dst, code), code, v)
}

// constructor is the shortest one for v; compound values always take the 32-bit form, so that their size can be
// filled in once it is known.
func constructor(v any) byte {
	switch v := v.(type) {
	case nil:
		return codeNull
	case bool:
		if v {
			return codeTrue
		}
		return codeFalse
	case uint8:
		return codeUbyte
	case uint16:
		return codeUshort
	case uint32:
		return shortest(uint64(v), codeUint0, codeSmallUint, codeUint)
	case uint64:
		return shortest(v, codeUlong0, codeSmallUlong, codeUlong)
	case int8:
		return codeByte
	case int16:
		return codeShort
	case int32:
		return signed(int64(v), codeSmallInt, codeInt)
	case int64:
		return signed(v, codeSmallLong, codeLong)
	case float32:
		return codeFloat
	case float64:
		return codeDouble
	case Char:
		return codeChar
	case Timestamp:
		return codeTimestamp
	case UUID:
		return codeUUID
	case Decimal32:
		return codeDecimal32
	case Decimal64:
		return codeDecimal64
	case Decimal128:
		return codeDecimal128
	case []byte:
		return variable(len(v), codeBinary8, codeBinary32)
	case string:
		return variable(len(v), codeString8, codeString32)
	case Symbol:
		return variable(len(v), codeSymbol8, codeSymbol32)
	case List:
		if len(v) == 0 {
			return codeList0
		}
		return codeList32
	case Map:
		return codeMap32
	case Array:
		return codeArray32
	default:
		panic(fmt.Sprintf("amqp: cannot encode a %T", v))
	}
}

func shortest(v uint64, zero, small, full byte) byte {
	switch {
	case v == 0:
		return zero
	case v <= math.MaxUint8:
		return small
	default:
		return full
	}
}

func signed(v int64, small, full byte) byte {
	if v >= math.MinInt8 && v <= math.MaxInt8 {
		return small
	}
	return full
}

func variable(n int, small, full byte) byte {
	if n <= math.MaxUint8 {
		return small
	}
	return full
}

// appendData appends what follows the constructor code for v.
func appendData(dst []byte, code byte, v any) []byte {
	switch v := v.(type) {
	case nil:
		return dst
	case bool:
		if code != codeBoolean {
			return dst
		}
		if v {
			return append(dst, 1)
		}
		return append(dst, 0)
	case uint8:
		return append(dst, v)
	case uint16:
		return binary.BigEndian.AppendUint16(dst, v)
	case uint32:
		return appendFixed(dst, code, uint64(v))
	case uint64:
		return appendFixed(dst, code, v)
	case int8:
		return append(dst, byte(v))
	case int16:
		return binary.BigEndian.AppendUint16(dst, uint16(v))
	case int32:
		return appendFixed(dst, code, uint64(uint32(v)))
	case int64:
		return appendFixed(dst, code, uint64(v))
	case float32:
		return binary.BigEndian.AppendUint32(dst, math.Float32bits(v))
	case float64:
		return binary.BigEndian.AppendUint64(dst, math.Float64bits(v))
	case Char:
		return binary.BigEndian.AppendUint32(dst, uint32(v))
	case Timestamp:
		return binary.BigEndian.AppendUint64(dst, uint64(v))
	case UUID:
		return append(dst, v[:]...)
	case Decimal32:
		return append(dst, v[:]...)
	case Decimal64:
		return append(dst, v[:]...)
	case Decimal128:
		return append(dst, v[:]...)
	case []byte:
		return appendVariable(dst, code, string(v))
	case string:
		return appendVariable(dst, code, v)
	case Symbol:
		return appendVariable(dst, code, string(v))
	default:
		return appendCompound(dst, code, v)
	}
}

// appendFixed appends an integer in the width that code says.
func appendFixed(dst []byte, code byte, v uint64) []byte {
	switch code >> 4 {
	case 4:
		return dst
	case 5:
		return append(dst, byte(v))
	case 7:
		return binary.BigEndian.AppendUint32(dst, uint32(v))
	default:
		return binary.BigEndian.AppendUint64(dst, v)
	}
}

func appendVariable(dst []byte, code byte, s string) []byte {
	if code>>4 == 0xa {
		return append(append(dst, byte(len(s))), s...)
	}
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(s))), s...)
}

func appendCompound(dst []byte, code byte, v any) []byte {
	if code == codeList0 {
		return dst
	}
	start := len(dst)
	dst = append(dst, make([]byte, 8)...) // size and count, filled in below
	count := 0
	switch v := v.(type) {
	case List:
		count = len(v)
		for _, item := range v {
			dst = Append(dst, item)
		}
	case Map:
		count = 2 * len(v)
		for _, p := range v {
			dst = Append(Append(dst, p.Key), p.Value)
		}
	case Array:
		count = len(v.Items)
		dst = appendItems(dst, v)
	default:
		panic(fmt.Sprintf("amqp: cannot encode a %T", v))
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	binary.BigEndian.PutUint32(dst[start+4:], uint32(count))
	return dst
}

func appendItems(dst []byte, a Array) []byte {
	if a.Descriptor != nil {
		dst = Append(append(dst, codeDescribed), a.Descriptor)
	}
	dst = append(dst, a.Elem)
	for _, item := range a.Items {
		dst = appendData(dst, a.Elem, item)
	}
	return dst
}
