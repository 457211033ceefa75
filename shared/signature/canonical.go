package signature

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// member is a member of an object, with its value in canonical form.
type member struct{ name, text string }

// maxDepth bounds how deep values may be nested; events have five levels.
const maxDepth = 64

// object returns the members of a JSON object, in order of their names.
func object(body []byte) ([]member, error) {
	if !json.Valid(body) {
		return nil, errors.New("it is not valid JSON")
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.New("it is no JSON object")
	}
	return members(d, maxDepth)
}

// members reads an object from behind its opening brace to its closing one.
func members(d *json.Decoder, depth int) ([]member, error) {
	var list []member
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return nil, fmt.Errorf("read a name: %w", err)
		}
		text, err := appendValue(nil, d, depth-1)
		if err != nil {
			return nil, err
		}
		list = append(list, member{name.(string), string(text)}) // valid JSON has nothing else there
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("read the end of an object: %w", err)
	}
	slices.SortFunc(list, func(a, b member) int { return cmp.Compare(a.name, b.name) })
	for i := 1; i < len(list); i++ {
		if list[i].name == list[i-1].name {
			return nil, fmt.Errorf("the name %.40q stands twice in one object", list[i].name)
		}
	}
	return list, nil
}

func appendObject(out []byte, list []member) []byte {
	out = append(out, '{')
	for i, m := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(appendString(out, m.name), ':')
		out = append(out, m.text...)
	}
	return append(out, '}')
}

// appendValue appends the canonical form of the next value.
func appendValue(out []byte, d *json.Decoder, depth int) ([]byte, error) {
	if depth == 0 {
		return nil, fmt.Errorf("it is nested deeper than %d levels", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, fmt.Errorf("read a value: %w", err)
	}
	switch t := t.(type) {
	case json.Delim:
		if t == '[' {
			return appendArray(out, d, depth)
		}
		list, failed := members(d, depth)
		return appendObject(out, list), failed
	case string:
		return appendString(out, t), nil
	case json.Number:
		return appendNumber(out, t)
	case bool:
		return fmt.Appendf(out, "%t", t), nil
	}
	return append(out, "null"...), nil
}

func appendArray(out []byte, d *json.Decoder, depth int) ([]byte, error) {
	out = append(out, '[')
	for first := true; d.More(); first = false {
		if !first {
			out = append(out, ',')
		}
		var err error
		if out, err = appendValue(out, d, depth-1); err != nil {
			return nil, err
		}
	}
	if _, err := d.Token(); err != nil {
		return nil, fmt.Errorf("read the end of an array: %w", err)
	}
	return append(out, ']'), nil
}

// appendNumber keeps integers of any size. For the others encoding/json has the format of ECMAScript, which RFC 8785 prescribes.
func appendNumber(out []byte, n json.Number) ([]byte, error) {
	if !strings.ContainsAny(n.String(), ".eE") {
		return append(out, n...), nil
	}
	f, err := n.Float64()
	if err != nil {
		return nil, fmt.Errorf("the number %.40s has no 64-bit value", n)
	}
	text, err := json.Marshal(f)
	if err != nil {
		return nil, fmt.Errorf("write the number %.40s: %w", n, err)
	}
	return append(out, text...), nil
}

// appendString appends a JSON string with no escapes but those that are needed. Source: RFC 8785, section 3.2.2.2.
func appendString(out []byte, s string) []byte {
	const short = "\"\"\\\\\bb\tt\nn\ff\rr" // a character and its letter
	out = append(out, '"')
	for i := range len(s) {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			out = append(out, c)
			continue
		}
		if at := strings.IndexByte(short, c); at >= 0 && at%2 == 0 {
			out = append(out, '\\', short[at+1])
			continue
		}
		out = fmt.Appendf(out, `\u%04x`, c)
	}
	return append(out, '"')
}
