// Package trace is the identity of a trace as it travels with events and wakes. Source: W3C Trace Context, 3.2.
//
// It is a label: no decision rests on it, and one that cannot be read is none.
package trace

import (
	"encoding/hex"
	"strings"
)

// Context names one span of one trace.
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool
}

// Random is how many random bytes a new trace needs.
const Random = 24

// New begins a trace that is to be kept.
func New(random [Random]byte) Context {
	c := Context{Sampled: true}
	copy(c.Trace[:], random[:])
	copy(c.Span[:], random[len(c.Trace):])
	return c
}

// Child returns a further span of the same trace.
func (c Context) Child(span [8]byte) Context {
	c.Span = span
	return c
}

// Valid reports whether it names anything: an id of zeros is none (3.2.2.3 and 3.2.2.4).
func (c Context) Valid() bool { return c.Trace != [16]byte{} && c.Span != [8]byte{} }

// version00 is the length of a traceparent of version 00; later ones may be longer (3.2.4).
const version00 = 55

// String returns the traceparent, "version-traceid-spanid-flags", or "" for what names nothing.
func (c Context) String() string {
	if !c.Valid() {
		return ""
	}
	flags := "-00"
	if c.Sampled {
		flags = "-01"
	}
	return "00-" + hex.EncodeToString(c.Trace[:]) + "-" + hex.EncodeToString(c.Span[:]) + flags
}

// Parse reads a traceparent of any version.
func Parse(s string) (c Context, ok bool) {
	if len(s) < version00 || s[2] != '-' || s[35] != '-' || s[52] != '-' || strings.ToLower(s) != s {
		return Context{}, false
	}
	version, flags := [1]byte{}, [1]byte{}
	for _, part := range []struct {
		to   []byte
		from string
	}{{version[:], s[:2]}, {c.Trace[:], s[3:35]}, {c.Span[:], s[36:52]}, {flags[:], s[53:55]}} {
		if _, err := hex.Decode(part.to, []byte(part.from)); err != nil {
			return Context{}, false
		}
	}
	known := len(s) == version00 || version[0] > 0 && s[version00] == '-'
	if version[0] == 0xff || !known || !c.Valid() {
		return Context{}, false
	}
	c.Sampled = flags[0]&1 == 1
	return c, true
}

// ID returns the trace's id as people search for it, or "".
func (c Context) ID() string {
	if !c.Valid() {
		return ""
	}
	return hex.EncodeToString(c.Trace[:])
}
