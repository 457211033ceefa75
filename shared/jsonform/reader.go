package jsonform

import (
	"encoding"
	"errors"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// maxDepth bounds nesting, so that hostile text cannot exhaust the stack.
const maxDepth = 1000

// reader reads one value from the beginning to the end of a text. After the first error every method returns a zero value, and end says what
// was wrong: callers need not look in between.
type reader struct {
	text  []byte
	at    int
	depth int
	name  []byte // of the member that is read, for the error
	err   error
}

// end returns what was wrong with the text, or that something follows the value.
func (r *reader) end() error {
	if r.space(); r.err == nil && r.at < len(r.text) {
		r.fail("the end")
	}
	return r.err
}

// object reads an object and calls member for each of its members, with its name, which is only good until the callback returns. A member whose value is not
// read by the callback is skipped.
func (r *reader) object(member func(name []byte)) {
	if !r.open('{', "an object") {
		return
	}
	for first := true; r.more('}', first); first = false {
		name := r.member()
		outer := r.name
		r.name = name
		if before := r.at; r.err == nil {
			if member(name); r.at == before {
				r.skip()
			}
		}
		r.name = outer
	}
}

// member reads a name and the colon.
func (r *reader) member() []byte {
	r.space()
	name, plain := r.quoted()
	if r.err == nil && !plain {
		name = []byte(r.unquote(name))
	}
	if r.space(); !r.take(':') {
		r.fail("a colon")
	}
	r.space()
	return name
}

// array reads an array and calls element for each of its elements. An element that is not read by the callback is skipped.
func (r *reader) array(element func()) {
	if !r.open('[', "an array") {
		return
	}
	for first := true; r.more(']', first); first = false {
		r.space()
		if before := r.at; r.err == nil {
			if element(); r.at == before {
				r.skip()
			}
		}
	}
}

// open reads the bracket at the beginning; false for null or an error.
func (r *reader) open(bracket byte, want string) bool {
	if r.null() {
		return false
	}
	if !r.take(bracket) {
		r.fail(want)
		return false
	}
	if r.depth++; r.depth > maxDepth {
		r.fail("less nesting")
		return false
	}
	return true
}

// more reads the comma before the next element, or the bracket at the end.
func (r *reader) more(bracket byte, first bool) bool {
	if r.err != nil {
		return false
	}
	if r.space(); r.take(bracket) {
		r.depth--
		return false
	}
	if !first && !r.take(',') {
		r.fail("a comma or " + string(bracket))
		return false
	}
	return true
}

// string reads a string.
func (r *reader) string() string {
	if r.null() {
		return ""
	}
	raw, plain := r.quoted()
	if plain || r.err != nil {
		return string(raw)
	}
	return r.unquote(raw)
}

// quoted reads a string and returns what stands between the quotes. plain: it stands for itself.
func (r *reader) quoted() (raw []byte, plain bool) {
	if !r.take('"') {
		r.fail("a string")
		return nil, false
	}
	plain = true
	for i := r.at; i < len(r.text); i++ {
		switch c := r.text[i]; {
		case c == '"':
			raw, r.at = r.text[r.at:i], i+1
			return raw, plain
		case c == '\\':
			plain = false
			i++
		case c < ' ':
			r.at = i
			r.fail("no control character in a string")
			return nil, false
		case c >= utf8.RuneSelf:
			plain = false
		}
	}
	r.at = len(r.text)
	r.fail("a quote at the end of the string")
	return nil, false
}

// escapes are the letters after a backslash, but for u.
var escapes = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'} //nolint:gochecknoglobals // a table

func (r *reader) unquote(raw []byte) string {
	out := make([]byte, 0, len(raw))
	for len(raw) > 0 {
		switch c := raw[0]; {
		case c == '\\' && raw[1] == 'u':
			var char rune
			if char, raw = r.unicode(raw); r.err != nil {
				return ""
			}
			out = utf8.AppendRune(out, char)
		case c == '\\':
			if escapes[raw[1]] == 0 {
				r.fail("one of \" \\ / b f n r t u after a backslash")
				return ""
			}
			out, raw = append(out, escapes[raw[1]]), raw[2:]
		case c < utf8.RuneSelf:
			out, raw = append(out, c), raw[1:]
		default:
			char, size := utf8.DecodeRune(raw)
			out, raw = utf8.AppendRune(out, char), raw[size:]
		}
	}
	return string(out)
}

// unicode reads \uXXXX, or two of them that are a surrogate pair; half a pair is U+FFFD.
func (r *reader) unicode(raw []byte) (rune, []byte) {
	first, ok := hex4(raw)
	if !ok {
		r.fail("four hexadecimal digits after \\u")
		return 0, nil
	}
	raw = raw[6:]
	if !utf16.IsSurrogate(first) {
		return first, raw
	}
	if second, pair := hex4(raw); pair {
		if char := utf16.DecodeRune(first, second); char != utf8.RuneError {
			return char, raw[6:]
		}
	}
	return utf8.RuneError, raw
}

func hex4(raw []byte) (rune, bool) {
	if len(raw) < 6 || raw[0] != '\\' || raw[1] != 'u' {
		return 0, false
	}
	var char rune
	for _, c := range raw[2:6] {
		switch {
		case c >= '0' && c <= '9':
			c -= '0'
		case c >= 'a' && c <= 'f':
			c -= 'a' - 10
		case c >= 'A' && c <= 'F':
			c -= 'A' - 10
		default:
			return 0, false
		}
		char = char<<4 | rune(c)
	}
	return char, true
}

// bool reads true or false.
func (r *reader) bool() bool {
	if r.null() {
		return false
	}
	if r.word("true") {
		return true
	}
	if !r.word("false") {
		r.fail("true or false")
	}
	return false
}

// uint reads a whole number that is not negative and has so many bits.
func (r *reader) uint(bits int) uint64 {
	if r.null() {
		return 0
	}
	at := r.at
	number := r.number()
	n, err := strconv.ParseUint(string(number), 10, bits)
	if err != nil && r.err == nil {
		r.at = at
		r.fail(fmt.Sprintf("a whole number from 0 to 2^%d-1", bits))
	}
	return n
}

// int reads a whole number of so many bits.
func (r *reader) int(bits int) int64 {
	if r.null() {
		return 0
	}
	at := r.at
	number := r.number()
	n, err := strconv.ParseInt(string(number), 10, bits)
	if err != nil && r.err == nil {
		r.at = at
		r.fail(fmt.Sprintf("a whole number of %d bits", bits))
	}
	return n
}

// float reads a number.
func (r *reader) float() float64 {
	if r.null() {
		return 0
	}
	at := r.at
	number := r.number()
	f, err := strconv.ParseFloat(string(number), 64)
	if err != nil && r.err == nil {
		r.at = at
		r.fail("a number in the range of float64")
		return 0
	}
	return f
}

// number reads a number as it is written (RFC 8259, 6).
func (r *reader) number() []byte {
	start := r.at
	r.take('-')
	if !r.take('0') && !r.digits() {
		r.at = start
		r.fail("a number")
		return nil
	}
	if r.take('.') && !r.digits() {
		r.fail("a digit after the point")
		return nil
	}
	if r.take('e') || r.take('E') {
		if !r.take('+') {
			r.take('-')
		}
		if !r.digits() {
			r.fail("a digit in the exponent")
			return nil
		}
	}
	return r.text[start:r.at]
}

func (r *reader) digits() bool {
	start := r.at
	for r.at < len(r.text) && r.text[r.at] >= '0' && r.text[r.at] <= '9' {
		r.at++
	}
	return r.at > start
}

// textOf reads a string into what knows its text.
func (r *reader) textOf(into encoding.TextUnmarshaler) {
	start := r.at
	raw, plain := r.quoted()
	if r.err == nil && !plain {
		raw = []byte(r.unquote(raw))
	}
	if r.err != nil {
		return
	}
	if err := into.UnmarshalText(raw); err != nil {
		r.at = start
		r.failed(err)
	}
}

// skip reads any value and forgets it.
func (r *reader) skip() {
	r.space()
	if r.err != nil || r.at >= len(r.text) {
		r.fail("a value")
		return
	}
	switch r.text[r.at] {
	case '{':
		r.object(func([]byte) {})
	case '[':
		r.array(func() {})
	case '"':
		_ = r.string() // looks at the escapes too
	case 't', 'f':
		r.bool()
	case 'n':
		if !r.null() {
			r.fail("null")
		}
	default:
		r.number()
	}
}

// null reads null, if that is what comes.
func (r *reader) null() bool {
	r.space()
	return r.err != nil || r.word("null")
}

func (r *reader) word(word string) bool {
	if r.err != nil || len(r.text)-r.at < len(word) || string(r.text[r.at:r.at+len(word)]) != word {
		return false
	}
	r.at += len(word)
	return true
}

func (r *reader) take(c byte) bool {
	if r.err != nil || r.at >= len(r.text) || r.text[r.at] != c {
		return false
	}
	r.at++
	return true
}

func (r *reader) space() {
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\n' || r.text[r.at] == '\t' || r.text[r.at] == '\r') {
		r.at++
	}
}

// fail notes the first error: what was wanted, and what is there.
func (r *reader) fail(want string) {
	const most = 20
	found := "the end"
	if rest := r.text[min(r.at, len(r.text)):]; len(rest) > most {
		found = strconv.Quote(string(rest[:most])) + "…"
	} else if len(rest) > 0 {
		found = strconv.Quote(string(rest))
	}
	r.failed(errors.New("found " + found + ", want " + want))
}

func (r *reader) failed(err error) {
	if r.err != nil {
		return
	}
	if len(r.name) > 0 {
		err = fmt.Errorf("%s: %w", r.name, err)
	}
	r.err = fmt.Errorf("at byte %d: %w", r.at, err)
}
