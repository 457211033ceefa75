package arm

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// object is a JSON object that keeps its members' order and their values' bytes, so that what this emulator does not know survives a
// round trip unchanged.
type object []member

// member is one name and its value, verbatim.
type member struct {
	name  string
	value json.RawMessage
}

var errNotObject = errors.New("not a JSON object")

func parseObject(raw []byte) (object, error) {
	dec := json.NewDecoder(bytes.NewReader(raw))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errNotObject
	}
	members := object{}
	for dec.More() {
		name, err := dec.Token()
		if err != nil {
			return nil, fmt.Errorf("JSON object: %w", err)
		}
		var value json.RawMessage
		if err = dec.Decode(&value); err != nil {
			return nil, fmt.Errorf("JSON member %q: %w", name, err)
		}
		members.set(fmt.Sprint(name), value)
	}
	if _, err := dec.Token(); err != nil {
		return nil, fmt.Errorf("JSON object: %w", err)
	}
	if dec.More() {
		return nil, errNotObject
	}
	return members, nil
}

// get returns the value of name, which compares without case as in Azure's deserialisers. A null counts as absent.
func (o object) get(name string) (json.RawMessage, bool) {
	for _, m := range o {
		if strings.EqualFold(m.name, name) {
			return m.value, string(m.value) != "null"
		}
	}
	return nil, false
}

// text returns the string value of name, or "" when it is absent or no string.
func (o object) text(name string) string {
	var text string
	if value, ok := o.get(name); ok && json.Unmarshal(value, &text) != nil {
		return ""
	}
	return text
}

// set replaces the value of name or appends it.
func (o *object) set(name string, value json.RawMessage) {
	for i := range *o {
		if strings.EqualFold((*o)[i].name, name) {
			(*o)[i].value = value
			return
		}
	}
	*o = append(*o, member{name, value})
}

func (o *object) setText(name, text string) { o.set(name, encode(text)) }

// without returns a copy that lacks names.
func (o object) without(names ...string) object {
	rest := make(object, 0, len(o))
	for _, m := range o {
		if !containsFold(names, m.name) {
			rest = append(rest, m)
		}
	}
	return rest
}

// raw returns the object's JSON text: the values are not reformatted.
func (o object) raw() json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, m := range o {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(encode(m.name))
		b.WriteByte(':')
		b.Write(m.value)
	}
	b.WriteByte('}')
	return b.Bytes()
}

// array returns the JSON text of a list of values.
func array(values []json.RawMessage) json.RawMessage {
	var b bytes.Buffer
	b.WriteByte('[')
	for i, value := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(value)
	}
	b.WriteByte(']')
	return b.Bytes()
}

// encode returns v as JSON without HTML escapes, which Azure does not make either.
func encode(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(v); err != nil {
		panic(fmt.Sprintf("arm: encode %T: %v", v, err)) // only strings and plain structs come here
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

// sameJSON reports whether a and b mean the same, whatever their member order and spacing.
func sameJSON(a, b json.RawMessage) bool {
	if bytes.Equal(a, b) {
		return true
	}
	var x, y any
	return decodeNumber(a, &x) == nil && decodeNumber(b, &y) == nil && reflect.DeepEqual(x, y)
}

func decodeNumber(raw json.RawMessage, into *any) error {
	if len(raw) == 0 {
		return nil
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	if err := dec.Decode(into); err != nil {
		return fmt.Errorf("JSON: %w", err)
	}
	return nil
}

func containsFold(names []string, name string) bool {
	for _, candidate := range names {
		if strings.EqualFold(candidate, name) {
			return true
		}
	}
	return false
}
