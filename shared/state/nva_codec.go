package state

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/later"
	"github.com/pointsman/pointsman/shared/route"
)

type nvaJSON struct {
	Schema   int           `json:"schema"`
	Domain   string        `json:"domain"`
	NVA      string        `json:"nva"`
	Revision uint64        `json:"revision"`
	Outbox   bool          `json:"outbox,omitempty"`
	Wide     bool          `json:"outboxWide,omitempty"`
	Epoch    uint64        `json:"epoch"`
	Boot     string        `json:"boot,omitempty"`
	Clone    *Clone        `json:"clone,omitempty"`
	Floor    event.Version `json:"floor"`
	Facts    []factsJSON   `json:"facts,omitempty"`
	Partial  []partialJSON `json:"partial,omitempty"`
	Seen     [][2]uint64   `json:"seen,omitempty"`
	Claim    event.Version `json:"claim"`
	Digest   route.Digest  `json:"digest"`
	Alive    Beat          `json:"alive"`
	Expired  Beat          `json:"expired"`
	Notice   *noticeJSON   `json:"notice,omitempty"`
	LastSeen time.Time     `json:"lastSeen"`
	Since    time.Time     `json:"since"`

	Report   *reportJSON          `json:"report,omitempty"`
	Reported *event.Version       `json:"reported,omitempty"`
	Turned   map[string]time.Time `json:"turned,omitempty"`
	Order    *Order               `json:"order,omitempty"`
	SignedBy string               `json:"signedBy,omitempty"`
	Refused  *Refusals            `json:"refused,omitempty"`
	Losses   []lossesJSON         `json:"losses,omitempty"`
	Began    time.Time            `json:"epochBegan,omitzero"`
	Past     []event.Version      `json:"pastEpochs,omitempty"`
}

// reportJSON is a report as the document holds it.
type reportJSON struct {
	SelfCheck event.Check  `json:"selfCheck,omitempty"`
	SelfTest  event.Check  `json:"selfTest,omitempty"`
	Drain     string       `json:"drain,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Peers     []event.Peer `json:"peers,omitempty"`

	ControlLost []event.Session `json:"controlLost,omitempty"`
}

// lossesJSON groups the prefixes that were lost at the same times.
type lossesJSON struct {
	At       []int64        `json:"at"` // milliseconds since 1970
	Prefixes []netip.Prefix `json:"prefixes"`
}

// factsJSON groups the facts of one version, one set of attributes and one age.
type factsJSON struct {
	Version event.Version `json:"version"`
	Since   int64         `json:"since,omitempty"` // milliseconds since 1970
	route.Attrs
	Announced []netip.Prefix `json:"announced,omitempty"`
	Withdrawn []netip.Prefix `json:"withdrawn,omitempty"`
}

type partialJSON struct {
	Version event.Version `json:"version"`
	Count   int           `json:"count"`
	Got     []int         `json:"got"`
}

type noticeJSON struct {
	Kind    string        `json:"kind"`
	Version event.Version `json:"version"`
	Reason  string        `json:"reason,omitempty"`
}

// EncodeNVA returns the document as JSON. Equal documents give equal bytes.
func EncodeNVA(n *NVA) ([]byte, error) {
	w := nvaJSON{
		Schema: n.schema(), Domain: n.Domain, NVA: n.Name, Revision: n.Revision, Outbox: n.Outbox, Wide: n.Wide, Epoch: n.Epoch, Boot: n.Boot, Clone: n.Clone,
		Floor: n.Floor, Facts: encodeFacts(n.Facts), Claim: n.Claim, Digest: n.Digest, Alive: n.Alive, Expired: n.Expired, LastSeen: n.LastSeen, Since: n.Since,
	}
	for v, c := range n.Partial {
		p := partialJSON{Version: v, Count: c.Count}
		for i, got := range c.Got {
			if got {
				p.Got = append(p.Got, i)
			}
		}
		w.Partial = append(w.Partial, p)
	}
	slices.SortFunc(w.Partial, func(a, b partialJSON) int { return a.Version.Compare(b.Version) })
	for _, s := range n.Seen {
		w.Seen = append(w.Seen, [2]uint64{s.First, s.Last})
	}
	if n.Notice.Kind != 0 {
		w.Notice = &noticeJSON{Kind: n.Notice.Kind.String(), Version: n.Notice.Version, Reason: n.Notice.Reason}
	}
	if !n.Report.Empty() {
		w.Report = (*reportJSON)(&n.Report)
	}
	if n.Reported != (event.Version{}) {
		w.Reported = &n.Reported
	}
	if n.Order != (Order{}) {
		w.Order = &n.Order
	}
	if n.Refused != (Refusals{}) {
		w.Refused = &n.Refused
	}
	w.Turned, w.Losses, w.SignedBy, w.Began, w.Past = n.Turned, encodeLosses(n.Losses), n.SignedBy, n.Began, n.Past
	return marshal(w, n.Later, "document of nva "+n.Name)
}

func encodeFacts(facts map[netip.Prefix]Fact) []factsJSON {
	type flat struct {
		prefix netip.Prefix
		Fact
	}
	list := make([]flat, 0, len(facts))
	for p, f := range facts {
		list = append(list, flat{p, f})
	}
	slices.SortFunc(list, func(a, b flat) int {
		return cmp.Or(a.Version.Compare(b.Version), a.Attrs.Compare(b.Attrs), cmp.Compare(millis(a.Since), millis(b.Since)), route.Compare(a.prefix, b.prefix))
	})
	var out []factsJSON
	for _, f := range list {
		if n := len(out); n == 0 || out[n-1].Version != f.Version || out[n-1].Attrs != f.Attrs || out[n-1].Since != millis(f.Since) {
			out = append(out, factsJSON{Version: f.Version, Attrs: f.Attrs, Since: millis(f.Since)})
		}
		last := &out[len(out)-1]
		if f.Withdrawn {
			last.Withdrawn = append(last.Withdrawn, f.prefix)
		} else {
			last.Announced = append(last.Announced, f.prefix)
		}
	}
	return out
}

func encodeLosses(losses map[netip.Prefix][]time.Time) []lossesJSON {
	var list []lossesJSON
	for p, times := range losses {
		at := make([]int64, len(times))
		for i, t := range times {
			at[i] = millis(t)
		}
		list = append(list, lossesJSON{At: at, Prefixes: []netip.Prefix{p}})
	}
	slices.SortFunc(list, func(a, b lossesJSON) int {
		return cmp.Or(slices.Compare(a.At, b.At), route.Compare(a.Prefixes[0], b.Prefixes[0]))
	})
	var out []lossesJSON
	for _, l := range list {
		if n := len(out); n > 0 && slices.Equal(out[n-1].At, l.At) {
			out[n-1].Prefixes = append(out[n-1].Prefixes, l.Prefixes...)
			continue
		}
		out = append(out, l)
	}
	return out
}

// millis is the precision in which the document keeps the many times of prefixes; 0 is no time.
func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMillis(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

// DecodeNVA reads what EncodeNVA wrote.
func DecodeNVA(body []byte) (*NVA, error) {
	w, more, err := later.Decode(body, func() *nvaJSON { return &nvaJSON{} })
	if err != nil {
		return nil, fmt.Errorf("document of an nva: %w", err)
	}
	if err = readable(w.Schema, "document of nva "+w.NVA); err != nil {
		return nil, err
	}
	n := NewNVA(w.Domain, w.NVA)
	n.Wide, n.SignedBy, n.Began, n.Past = w.Wide, w.SignedBy, w.Began, w.Past
	if w.Refused != nil {
		n.Refused = *w.Refused
	}
	if w.Report != nil {
		n.Report = event.Report(*w.Report)
	}
	if w.Reported != nil {
		n.Reported = *w.Reported
	}
	if w.Order != nil {
		n.Order = *w.Order
	}
	maps.Copy(n.Turned, w.Turned)
	for _, l := range w.Losses {
		if err = n.decodeLosses(l); err != nil {
			return nil, err
		}
	}
	n.Revision, n.Outbox, n.Epoch, n.Boot, n.Clone, n.Floor = w.Revision, w.Outbox, w.Epoch, w.Boot, w.Clone, w.Floor
	n.Claim, n.Digest, n.Alive, n.Expired, n.LastSeen, n.Since = w.Claim, w.Digest, w.Alive, w.Expired, w.LastSeen, w.Since
	for _, g := range w.Facts {
		for _, p := range g.Announced {
			n.Facts[p] = Fact{Version: g.Version, Attrs: g.Attrs, Since: fromMillis(g.Since)}
		}
		for _, p := range g.Withdrawn {
			n.Facts[p] = Fact{Version: g.Version, Attrs: g.Attrs, Withdrawn: true}
		}
	}
	for _, p := range w.Partial {
		if p.Count < 1 || p.Count > event.MaxChunks {
			return nil, fmt.Errorf("document of nva %s: a snapshot of %d chunks", w.NVA, p.Count)
		}
		c := Chunks{Count: p.Count, Got: make([]bool, p.Count)}
		for _, i := range p.Got {
			if i < 0 || i >= p.Count {
				return nil, fmt.Errorf("document of nva %s: chunk %d of %d", w.NVA, i, p.Count)
			}
			c.Got[i] = true
		}
		n.Partial[p.Version] = c
	}
	for _, s := range w.Seen {
		n.Seen = append(n.Seen, Span{s[0], s[1]})
	}
	if w.Notice != nil {
		n.Notice = Notice{Kind: noticeKind(w.Notice.Kind), Version: w.Notice.Version, Reason: w.Notice.Reason}
	}
	if more {
		n.Later, err = rest(body, n, EncodeNVA)
	}
	return n, err
}

func (n *NVA) decodeLosses(l lossesJSON) error {
	if len(l.At) == 0 || len(l.At) > MaxLosses {
		return fmt.Errorf("document of nva %s: a prefix was lost at %d times", n.Name, len(l.At))
	}
	for _, p := range l.Prefixes {
		for _, at := range l.At {
			n.Losses[p] = append(n.Losses[p], fromMillis(at))
		}
	}
	return nil
}

func noticeKind(name string) event.Kind {
	for _, k := range event.Kinds() {
		if k.String() == name {
			return k
		}
	}
	return 0
}
