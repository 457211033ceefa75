package funchost

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// object is a JSON object that keeps the order of its keys and, as the host's dictionaries do, ignores their case.
type object struct{ fields []field }

type field struct {
	key   string
	value json.RawMessage
}

// set adds a key, or replaces the value of a key that differs at most in case.
func (o *object) set(key string, v any) *object {
	value := marshal(v)
	for i := range o.fields {
		if strings.EqualFold(o.fields[i].key, key) {
			o.fields[i].value = value
			return o
		}
	}
	o.fields = append(o.fields, field{key, value})
	return o
}

// setMetadata adds an encoded value under the rules for Metadata: no nulls, no trigger objects (contract C4).
func (o *object) setMetadata(key string, v any) {
	if isNull(v) || strings.HasSuffix(strings.ToLower(key), "trigger") {
		return
	}
	o.set(key, encode(v))
}

// MarshalJSON writes the keys in the order in which they were set.
func (o *object) MarshalJSON() ([]byte, error) {
	var b bytes.Buffer
	b.WriteByte('{')
	for i, f := range o.fields {
		if i > 0 {
			b.WriteByte(',')
		}
		b.Write(marshal(f.key))
		b.WriteByte(':')
		b.Write(f.value)
	}
	b.WriteByte('}')
	return b.Bytes(), nil
}

// parseObject reads a JSON object and keeps the order of its keys; false if the text is anything else.
func parseObject(text []byte) (*object, bool) {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, false
	}
	o := &object{}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, false
		}
		var value json.RawMessage
		if d.Decode(&value) != nil {
			return nil, false
		}
		o.set(key.(string), value) // a key of an object is a string, or Token fails
	}
	return o, json.Valid(text)
}

// marshal is json.Marshal without HTML escapes, which .NET does not write. What the host marshals is always valid.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		// Application properties may hold what JSON cannot (NaN); .NET writes such values as text.
		return marshal(fmt.Sprint(v))
	}
	return bytes.TrimRight(b.Bytes(), "\n")
}

// encode is how the host writes a value into Data and Metadata: objects in place, dates without a fraction,
// bytes as base64, and everything else as a string that holds the value's JSON text (contract C3).
func encode(v any) any {
	switch v := v.(type) {
	case *object, map[string]any:
		return v
	case json.RawMessage:
		if o, ok := parseObject(v); ok {
			return o
		}
		return string(marshal(v))
	case utcDate:
		return v.text(time.DateOnly + "T" + time.TimeOnly)
	case offsetDate:
		return v.text(time.DateOnly + "T" + time.TimeOnly + "+00:00")
	case []byte:
		return base64.StdEncoding.EncodeToString(v)
	default:
		return string(marshal(v))
	}
}

// promote copies the scalars and objects of a JSON object body into the metadata (contract C5).
func promote(metadata *object, body []byte) {
	o, ok := parseObject(body)
	if !ok {
		return
	}
	for _, f := range o.fields {
		switch f.value[0] {
		case '[', 'n':
		case '{':
			metadata.set(f.key, f.value)
		case '"':
			var s string
			if json.Unmarshal(f.value, &s) == nil {
				metadata.setMetadata(f.key, s)
			}
		case 't':
			metadata.setMetadata(f.key, "True")
		case 'f':
			metadata.setMetadata(f.key, "False")
		default:
			metadata.setMetadata(f.key, string(f.value))
		}
	}
}

func isNull(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case *string:
		return v == nil
	case json.RawMessage:
		return len(v) == 0 || string(v) == "null"
	default:
		return false
	}
}

// utcDate is a .NET DateTime of kind Utc as the host writes it: without a zone.
type utcDate time.Time

// offsetDate is a .NET DateTimeOffset.
type offsetDate time.Time

// fraction is .NET's 100 ns resolution with trailing zeros removed.
const fraction = ".9999999"

func (d utcDate) text(layout string) string    { return time.Time(d).UTC().Format(layout) }
func (d offsetDate) text(layout string) string { return time.Time(d).UTC().Format(layout) }

// MarshalJSON writes the date with its fraction, as inside arrays and objects.
func (d utcDate) MarshalJSON() ([]byte, error) {
	return marshal(d.text(time.DateOnly + "T" + time.TimeOnly + fraction)), nil
}

// MarshalJSON writes the date with its fraction, as inside arrays and objects.
func (d offsetDate) MarshalJSON() ([]byte, error) {
	return marshal(d.text(time.DateOnly + "T" + time.TimeOnly + fraction + "+00:00")), nil
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (d *offsetDate) UnmarshalJSON(text []byte) error {
	var t time.Time
	if err := json.Unmarshal(text, &t); err != nil {
		return fmt.Errorf("date %s: %w", text, err)
	}
	*d = offsetDate(t)
	return nil
}
