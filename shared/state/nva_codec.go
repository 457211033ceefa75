package state

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
)

// Schema is the version of both documents' form. A document of a later schema is refused rather than misread.
const Schema = 1

type nvaJSON struct {
	Schema   int           `json:"schema"`
	Domain   string        `json:"domain"`
	NVA      string        `json:"nva"`
	Revision uint64        `json:"revision"`
	Outbox   bool          `json:"outbox,omitempty"`
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
}

// factsJSON groups the facts of one version and one set of attributes.
type factsJSON struct {
	Version event.Version `json:"version"`
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
		Schema: Schema, Domain: n.Domain, NVA: n.Name, Revision: n.Revision, Outbox: n.Outbox, Epoch: n.Epoch, Boot: n.Boot, Clone: n.Clone,
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
	body, err := json.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("encode document of nva %s: %w", n.Name, err)
	}
	return body, nil
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
		return cmp.Or(a.Version.Compare(b.Version), a.Attrs.Compare(b.Attrs), route.Compare(a.prefix, b.prefix))
	})
	var out []factsJSON
	for _, f := range list {
		if n := len(out); n == 0 || out[n-1].Version != f.Version || out[n-1].Attrs != f.Attrs {
			out = append(out, factsJSON{Version: f.Version, Attrs: f.Attrs})
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

// DecodeNVA reads what EncodeNVA wrote.
func DecodeNVA(body []byte) (*NVA, error) {
	var w nvaJSON
	if err := json.Unmarshal(body, &w); err != nil {
		return nil, fmt.Errorf("document of an nva: %w", err)
	}
	if w.Schema != Schema {
		return nil, fmt.Errorf("document of nva %s has schema %d, this version reads %d: deploy the newer function app again", w.NVA, w.Schema, Schema)
	}
	n := NewNVA(w.Domain, w.NVA)
	n.Revision, n.Outbox, n.Epoch, n.Boot, n.Clone, n.Floor = w.Revision, w.Outbox, w.Epoch, w.Boot, w.Clone, w.Floor
	n.Claim, n.Digest, n.Alive, n.Expired, n.LastSeen, n.Since = w.Claim, w.Digest, w.Alive, w.Expired, w.LastSeen, w.Since
	for _, g := range w.Facts {
		for _, p := range g.Announced {
			n.Facts[p] = Fact{Version: g.Version, Attrs: g.Attrs}
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
	return n, nil
}

func noticeKind(name string) event.Kind {
	for _, k := range event.Kinds() {
		if k.String() == name {
			return k
		}
	}
	return 0
}
