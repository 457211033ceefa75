// Package invocation is the Functions host's side of a call to a custom handler: what it sends and what it must be answered.
//
// The host encodes oddly: strings, numbers and arrays arrive JSON-encoded inside a JSON string, a batch is one string that holds an array of
// strings. Versions of the host differ in how often they wrap, so decoding unwraps until it finds what it looks for.
package invocation

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
)

// Message is one Service Bus message as the trigger hands it over.
type Message struct {
	Body           []byte
	ID             string
	DeliveryCount  int // 1 on the first delivery
	SequenceNumber int64
	EnqueuedAt     time.Time // the broker's clock
}

// Request is the body of an invocation (custom handler payload).
type Request struct {
	Data     map[string]json.RawMessage `json:"Data"`
	Metadata map[string]json.RawMessage `json:"Metadata"`
}

// Decode reads an invocation.
func Decode(body []byte) (Request, error) {
	var r Request
	if err := json.Unmarshal(body, &r); err != nil {
		return Request{}, fault.New(fault.Poison, "invocation is not the JSON that the Functions host sends: %w", err)
	}
	if len(r.Data) == 0 {
		return Request{}, fault.New(fault.Poison, "invocation has no Data")
	}
	return r, nil
}

// Batch returns the messages of a Service Bus trigger with cardinality many, bound to name.
func (r Request) Batch(name string) ([]Message, error) {
	raw, ok := r.Data[name]
	if !ok {
		return nil, fault.New(fault.Poison, "invocation has no binding %q: is it the name in function.json?", name)
	}
	bodies, err := list(raw)
	if err != nil {
		return nil, fault.New(fault.Poison, "binding %s: %w", name, err)
	}
	out := make([]Message, len(bodies))
	for i, b := range bodies {
		out[i].Body = text(b)
	}
	columns := []struct {
		key string
		set func(*Message, json.RawMessage) error
	}{
		{"MessageIdArray", setID},
		{"DeliveryCountArray", setDeliveryCount},
		{"SequenceNumberArray", setSequenceNumber},
		{"EnqueuedTimeUtcArray", setEnqueuedAt},
	}
	for _, c := range columns {
		if err = r.column(c.key, out, c.set); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// column spreads one array of the metadata over the messages.
func (r Request) column(key string, messages []Message, set func(*Message, json.RawMessage) error) error {
	raw, ok := r.Metadata[key]
	if !ok {
		return nil
	}
	values, err := list(raw)
	if err != nil {
		return fault.New(fault.Poison, "metadata %s: %w", key, err)
	}
	if len(values) != len(messages) {
		return fault.New(fault.Poison, "metadata %s has %d values for %d messages", key, len(values), len(messages))
	}
	for i, v := range values {
		if err = set(&messages[i], v); err != nil {
			return fault.New(fault.Poison, "metadata %s[%d]: %w", key, i, err)
		}
	}
	return nil
}

// Single returns the message of a Service Bus trigger with cardinality one, bound to name.
func (r Request) Single(name string) (Message, error) {
	raw, ok := r.Data[name]
	if !ok {
		return Message{}, fault.New(fault.Poison, "invocation has no binding %q: is it the name in function.json?", name)
	}
	m := Message{Body: text(raw)}
	fields := []struct {
		key string
		set func(*Message, json.RawMessage) error
	}{
		{"MessageId", setID}, {"DeliveryCount", setDeliveryCount}, {"SequenceNumber", setSequenceNumber}, {"EnqueuedTimeUtc", setEnqueuedAt},
	}
	for _, f := range fields {
		if v, named := r.Metadata[f.key]; named {
			if err := f.set(&m, v); err != nil {
				return Message{}, fault.New(fault.Poison, "metadata %s: %w", f.key, err)
			}
		}
	}
	return m, nil
}

// Query returns a value of the query string of an HTTP trigger bound to name, "" where it is missing.
func (r Request) Query(name, key string) string {
	var req struct {
		Query map[string]string `json:"Query"`
	}
	if err := json.Unmarshal(text(r.Data[name]), &req); err != nil {
		return ""
	}
	return req.Query[key]
}

// UTCNow returns the host's clock at the invocation; zero where it did not say.
func (r Request) UTCNow() time.Time {
	var sys struct {
		UtcNow time.Time `json:"UtcNow"`
	}
	if err := json.Unmarshal(r.Metadata["sys"], &sys); err != nil {
		return time.Time{}
	}
	return sys.UtcNow
}

func setID(m *Message, v json.RawMessage) error {
	if s := text(v); string(s) != "null" {
		m.ID = string(s)
	}
	return nil
}

func setDeliveryCount(m *Message, v json.RawMessage) error {
	return number(v, &m.DeliveryCount)
}

func setSequenceNumber(m *Message, v json.RawMessage) error {
	return number(v, &m.SequenceNumber)
}

func number(v json.RawMessage, into any) error {
	if err := json.Unmarshal(text(v), into); err != nil {
		return fmt.Errorf("found %s, want a number", v)
	}
	return nil
}

// setEnqueuedAt reads a time that may lack its zone: it is UTC then.
func setEnqueuedAt(m *Message, v json.RawMessage) error {
	s := string(text(v))
	if s == "null" || s == "" {
		return nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999"} {
		if t, err := time.Parse(layout, s); err == nil {
			m.EnqueuedAt = t.UTC()
			return nil
		}
	}
	return fmt.Errorf("found %q, want a time", s)
}

// list unwraps v until it is an array.
func list(v json.RawMessage) ([]json.RawMessage, error) {
	for {
		var out []json.RawMessage
		if err := json.Unmarshal(v, &out); err == nil {
			return out, nil
		}
		var s string
		if err := json.Unmarshal(v, &s); err != nil {
			return nil, fmt.Errorf("found %.40s, want an array", v)
		}
		v = json.RawMessage(s)
	}
}

// text unwraps v while it is a JSON string that holds JSON again. What remains is the message's own text: an object as it is, a
// string without its quotes.
func text(v json.RawMessage) []byte {
	for {
		trimmed := bytes.TrimSpace(v)
		if len(trimmed) == 0 || trimmed[0] != '"' {
			return trimmed
		}
		var s string
		if err := json.Unmarshal(trimmed, &s); err != nil {
			return trimmed
		}
		if inner := strings.TrimSpace(s); inner == "" || inner[0] != '"' || !json.Valid([]byte(inner)) {
			return []byte(s)
		}
		v = json.RawMessage(s)
	}
}
