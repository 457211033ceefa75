package event

import (
	"bytes"
	"encoding"
	"math"
	"net/netip"
	"time"
)

// written reads an event in the very form in which Encode writes it: its fields in its order, nothing escaped, nothing between them. Other attributes may
// follow; they are ignored. A journal of millions of lines is read several times faster so. Whatever does not look like that, and what is rare (reports,
// reasons, restarts), is left to encoding/json, which has the last word on what an event is: ok says only that it would read the same.
func written(body []byte) (w wire, ok bool) {
	s := scanner{rest: body}
	s.literal(`{"specversion":"1.0","id":"`)
	w.SpecVersion, w.ID = "1.0", s.text()
	s.literal(`,"source":"`)
	w.Source = s.text()
	s.literal(`,"type":"`)
	w.Type = s.text()
	if s.optional(`,"subject":"`) {
		w.Subject = s.text()
	}
	w.Time = s.time(`,"time":"`)
	if s.optional(`,"datacontenttype":"`) {
		w.DataContentType = s.text()
	}
	if s.optional(`,"traceparent":"`) {
		w.Traceparent = s.text()
	}
	s.literal(`,"data":{`)
	w.Data = s.data()
	for s.optional(`,"`) {
		s.attribute()
	}
	s.literal(`}`)
	return w, !s.lost && len(bytes.TrimSpace(s.rest)) == 0
}

// data reads what stands between the braces, and the closing one.
func (s *scanner) data() *data {
	d := &data{}
	s.literal(`"domain":"`)
	d.Domain = s.text()
	s.literal(`,"nva":"`)
	d.NVA = s.text()
	s.literal(`,"epoch":`)
	d.Epoch = s.number(math.MaxUint64)
	s.literal(`,"seq":`)
	d.Seq = s.number(math.MaxUint64)
	s.literal(`,"boot":"`)
	d.Boot = s.text()
	if s.optional(`,"beat":`) {
		d.Beat = s.number(math.MaxUint64)
	}
	s.literal(`,"digest":"`)
	s.unmarshal(&d.Digest)
	d.Observed = s.time(`,"observed":"`)
	if s.optional(`,"chunk":{"index":`) {
		d.Chunk = &Chunk{Index: int(s.number(math.MaxInt32))}
		s.literal(`,"count":`)
		d.Chunk.Count = int(s.number(math.MaxInt32))
		s.literal(`}`)
	}
	if s.optional(`,"announce":[`) {
		d.Announce = append(d.Announce, s.group())
		for s.optional(`,`) {
			d.Announce = append(d.Announce, s.group())
		}
		s.literal(`]`)
	}
	if s.optional(`,"withdraw":[`) {
		d.Withdraw = s.prefixes()
	}
	s.literal(`}`)
	return d
}

func (s *scanner) group() (g group) {
	s.literal(`{`)
	if s.optional(`"metric":`) {
		g.Metric = uint32(s.number(math.MaxUint32))
		s.literal(`,`)
	}
	if s.optional(`"origin":"`) {
		g.Origin = s.text()
		s.literal(`,`)
	}
	s.literal(`"prefixes":[`)
	g.Prefixes = s.prefixes()
	s.literal(`}`)
	return g
}

// prefixes reads at least one, and the closing bracket.
func (s *scanner) prefixes() (list []netip.Prefix) {
	for more := true; more && !s.lost; more = s.optional(`,`) {
		var p netip.Prefix
		s.literal(`"`)
		s.unmarshal(&p)
		list = append(list, p)
	}
	s.literal(`]`)
	return list
}

// scanner reads from the front of what is left. Once it is lost it stays lost.
type scanner struct {
	rest []byte
	lost bool
}

func (s *scanner) optional(literal string) bool {
	if s.lost || len(s.rest) < len(literal) || string(s.rest[:len(literal)]) != literal {
		return false
	}
	s.rest = s.rest[len(literal):]
	return true
}

func (s *scanner) literal(literal string) { s.lost = !s.optional(literal) }

// quoted is what stands up to the closing quote. It is lost where encoding/json would not take every byte as it is.
func (s *scanner) quoted() []byte {
	for i, c := range s.rest {
		if c == '"' {
			text := s.rest[:i]
			s.rest = s.rest[i+1:]
			return text
		}
		if c < ' ' || c > '~' || c == '\\' {
			break
		}
	}
	s.lost = true
	return nil
}

func (s *scanner) text() string { return string(s.quoted()) }

func (s *scanner) unmarshal(v encoding.TextUnmarshaler) {
	text := s.quoted()
	s.lost = s.lost || v.UnmarshalText(text) != nil
}

func (s *scanner) time(before string) *time.Time {
	if !s.optional(before) {
		return nil
	}
	var t time.Time
	s.unmarshal(&t)
	return &t
}

// number reads a whole number without sign, fraction or exponent.
func (s *scanner) number(most uint64) (n uint64) {
	digits := 0
	for digits < len(s.rest) && '0' <= s.rest[digits] && s.rest[digits] <= '9' {
		n = n*10 + uint64(s.rest[digits]-'0')
		digits++
	}
	const safe = 19 // digits of which every number fits
	if s.lost || digits == 0 || digits > safe || n > most || digits > 1 && s.rest[0] == '0' {
		s.lost = true
		return 0
	}
	s.rest = s.rest[digits:]
	return n
}

// attribute passes over the name, its first quote already read, and the text of an attribute that an event does not have. encoding/json takes a
// name for its field's in any case of letters: one that is not in small letters is left to it.
func (s *scanner) attribute() {
	name := s.text()
	s.literal(`:"`)
	s.quoted()
	for _, c := range []byte(name) {
		s.lost = s.lost || c < 'a' || c > 'z'
	}
	switch name {
	case "specversion", "id", "source", "type", "subject", "time", "datacontenttype", "traceparent", "data":
		s.lost = true
	}
}
