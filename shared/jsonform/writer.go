package jsonform

import (
	"encoding"
	"fmt"
	"math"
	"slices"
	"strconv"
	"unicode/utf8"
)

// writer writes one value, without spaces.
type writer struct {
	text []byte
	err  error
}

// begin separates a value from the one before it.
func (w *writer) begin() {
	if len(w.text) == 0 {
		return
	}
	switch w.text[len(w.text)-1] {
	case '{', '[', ':':
	default:
		w.text = append(w.text, ',')
	}
}

// uint writes a number.
func (w *writer) uint(n uint64) {
	w.begin()
	w.text = strconv.AppendUint(w.text, n, 10)
}

// int writes a number.
func (w *writer) int(n int64) {
	w.begin()
	w.text = strconv.AppendInt(w.text, n, 10)
}

// float writes a number as encoding/json does: the shortest that reads as f again, with an exponent where it is very large or small.
func (w *writer) float(f float64) {
	w.begin()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		w.failed(fmt.Errorf("%g is no number of JSON", f))
		return
	}
	format := byte('f')
	if abs := math.Abs(f); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		format = 'e'
	}
	w.text = strconv.AppendFloat(w.text, f, format, -1, 64)
	if n := len(w.text); format == 'e' && w.text[n-4] == 'e' && w.text[n-3] == '-' && w.text[n-2] == '0' {
		w.text = append(w.text[:n-2], w.text[n-1]) // e-09 as e-9
	}
}

// open begins an object or an array; close ends it.
func (w *writer) open(bracket byte) {
	w.begin()
	w.text = append(w.text, bracket)
}

func (w *writer) close(bracket byte) { w.text = append(w.text, bracket) }

func (w *writer) null() {
	w.begin()
	w.text = append(w.text, "null"...)
}

// bool writes true or false.
func (w *writer) bool(b bool) {
	w.begin()
	w.text = strconv.AppendBool(w.text, b)
}

// string writes a string. A byte that is not UTF-8 becomes U+FFFD.
func (w *writer) string(s string) {
	w.begin()
	w.quote(s)
}

// special reports whether a byte cannot stand in quotes as it is, or must be looked at with its neighbours.
func special(c byte) bool {
	return c < ' ' || c >= utf8.RuneSelf || c == '"' || c == '\\' || c == '<' || c == '>' || c == '&'
}

func (w *writer) quote(s string) {
	w.text = append(w.text, '"')
	plain := 0
	for i := 0; i < len(s); {
		c := s[i]
		if !special(c) {
			i++
			continue
		}
		if c < utf8.RuneSelf {
			w.text = appendEscaped(append(w.text, s[plain:i]...), c)
			i++
			plain = i
			continue
		}
		char, size := utf8.DecodeRuneInString(s[i:])
		if char == utf8.RuneError && size == 1 || char == '\u2028' || char == '\u2029' {
			w.text = fmt.Appendf(append(w.text, s[plain:i]...), `\u%04x`, char)
			plain = i + size
		}
		i += size
	}
	w.text = append(append(w.text, s[plain:]...), '"')
}

// appendEscaped escapes what JSON must not hold, and what HTML must not hold in a script, as encoding/json does.
func appendEscaped(text []byte, c byte) []byte {
	const hex = "0123456789abcdef"
	switch c {
	case '"', '\\':
		return append(text, '\\', c)
	case '\b':
		return append(text, `\b`...)
	case '\f':
		return append(text, `\f`...)
	case '\n':
		return append(text, `\n`...)
	case '\r':
		return append(text, `\r`...)
	case '\t':
		return append(text, `\t`...)
	}
	return append(text, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
}

// textOf writes the text of what has one.
func (w *writer) textOf(v encoding.TextAppender) {
	w.begin()
	w.text = append(w.text, '"')
	start := len(w.text)
	text, err := v.AppendText(w.text)
	if err != nil {
		w.failed(err)
		return
	}
	if slices.ContainsFunc(text[start:], special) {
		word := string(text[start:])
		w.text = text[:start-1]
		w.quote(word)
		return
	}
	w.text = append(text, '"')
}

func (w *writer) failed(err error) {
	if w.err == nil {
		w.err = err
	}
}
