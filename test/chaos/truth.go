//go:build linux

package main

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// announcement is one route of an NVA. Its metric numbers it: no two announcements of one NVA have the same, so that a document tells which one
// it knows.
type announcement struct {
	prefix netip.Prefix
	metric uint32
}

// truth is what the NVAs really announce, and since when the function app knows.
//
// A document is merged in one direction only: once it holds an announcement by its metric, nothing older can take it back. So from then on,
// until the NVA loses the route or dies, the prefix must keep a route.
type truth struct {
	mu    sync.Mutex
	last  uint32
	holds map[string]map[netip.Prefix]*held
}

type held struct {
	metric uint32
	known  time.Time // when the document was first seen to hold it; zero: not yet
}

func newTruth() *truth { return &truth{holds: map[string]map[netip.Prefix]*held{}} }

// lose says that the NVA is about to lose the prefixes. It returns those that it had.
func (t *truth) lose(nva string, prefixes []netip.Prefix) []announcement {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []announcement
	for _, p := range prefixes {
		if h, ok := t.holds[nva][p]; ok {
			out = append(out, announcement{p, h.metric})
			delete(t.holds[nva], p)
		}
	}
	return out
}

// learn says that the NVA is about to learn the prefixes. It returns those that it had not, with their metrics.
func (t *truth) learn(nva string, prefixes []netip.Prefix) []announcement {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.holds[nva] == nil {
		t.holds[nva] = map[netip.Prefix]*held{}
	}
	var out []announcement
	for _, p := range prefixes {
		if _, ok := t.holds[nva][p]; ok {
			continue
		}
		t.last++
		t.holds[nva][p] = &held{metric: t.last}
		out = append(out, announcement{p, t.last})
	}
	return out
}

// of returns what the NVA announces, in the order of the prefixes.
func (t *truth) of(nva string) []announcement {
	t.mu.Lock()
	defer t.mu.Unlock()
	var out []announcement
	for p, h := range t.holds[nva] {
		out = append(out, announcement{p, h.metric})
	}
	slices.SortFunc(out, func(a, b announcement) int { return route.Compare(a.prefix, b.prefix) })
	return out
}

// saw takes in a document of an NVA that was read before now.
func (t *truth) saw(nva string, doc *state.NVA, now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for p, h := range t.holds[nva] {
		if a, ok := doc.Announces(p); ok && a.Metric == h.metric && h.known.IsZero() {
			h.known = now
		}
	}
}

// keeper returns an NVA of the list that announces p without interruption, and is known to do so since before then; "" if there is none.
func (t *truth) keeper(p netip.Prefix, nvas []string, then time.Time) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, nva := range nvas {
		if h, ok := t.holds[nva][p]; ok && !h.known.IsZero() && h.known.Before(then) {
			return nva
		}
	}
	return ""
}

// matches returns nil if the document announces what the NVA does.
func (t *truth) matches(nva string, doc *state.NVA) error {
	want, got := t.of(nva), doc.RIB()
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(want):
			return fmt.Errorf("the document of %s still announces %s", nva, got[i].Prefix)
		case i >= len(got) || got[i].Prefix != want[i].prefix || got[i].Attrs.Metric != want[i].metric:
			return fmt.Errorf("the document of %s does not announce %s with metric %d", nva, want[i].prefix, want[i].metric)
		}
	}
	return nil
}
