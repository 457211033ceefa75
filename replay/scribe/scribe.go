// Package scribe writes what an agent would have published: it turns changes of a routing table into events.
package scribe

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/route"
)

// maxEvent bounds an encoded event, in bytes: Service Bus takes 256 kB with headers.
const maxEvent = 200_000

// prefixSize is the most that one prefix takes in an event, in bytes.
const prefixSize = 46

// Scribe is one NVA's agent in one epoch. The zero value is not useful: use New.
type Scribe struct {
	domain, nva string
	seq         uint64
	rib         map[netip.Prefix]route.Attrs
	digest      route.Digest
}

// New returns the agent of an NVA that announces nothing yet.
func New(domain, nva string) *Scribe {
	return &Scribe{domain: domain, nva: nva, rib: map[netip.Prefix]route.Attrs{}}
}

// Snapshot says that the NVA announces exactly these entries. Of two with one prefix the last counts.
func (s *Scribe) Snapshot(at time.Time, entries []route.Entry) []journal.Entry {
	s.rib, s.digest = map[netip.Prefix]route.Attrs{}, 0
	for _, e := range entries {
		s.set(e)
	}
	all := make([]route.Entry, 0, len(s.rib))
	for p, a := range s.rib {
		all = append(all, route.Entry{Prefix: p, Attrs: a})
	}
	event.Sort(all)
	s.seq++
	pieces := event.Split(all, maxEvent)
	out := make([]journal.Entry, len(pieces))
	for i, piece := range pieces {
		e := s.event(event.Snapshot, at)
		e.Announce, e.Chunk = piece, event.Chunk{Index: i, Count: len(pieces)}
		out[i] = journal.Entry{Event: e, At: at, Accepted: true}
	}
	return out
}

// Delta says what is announced and withdrawn now; what is known already is left out. Of two entries with one prefix the last counts, and an announcement
// outweighs a withdrawal.
func (s *Scribe) Delta(at time.Time, announce []route.Entry, withdraw []netip.Prefix) []journal.Entry {
	newest := map[netip.Prefix]route.Entry{}
	for _, e := range announce {
		newest[e.Prefix] = e
	}
	gone := map[netip.Prefix]bool{}
	for _, p := range withdraw {
		if _, has := s.rib[p]; has && newest[p] == (route.Entry{}) {
			gone[p] = true
		}
	}
	maps.DeleteFunc(newest, func(p netip.Prefix, e route.Entry) bool { a, has := s.rib[p]; return has && a == e.Attrs })
	if len(newest)+len(gone) == 0 {
		return nil
	}
	return s.deltas(at, slices.Collect(maps.Values(newest)), slices.SortedFunc(maps.Keys(gone), route.Compare))
}

// deltas cuts a change into events that are small enough: as many as there are pieces of the announcements or of the withdrawals.
func (s *Scribe) deltas(at time.Time, up []route.Entry, down []netip.Prefix) []journal.Entry {
	event.Sort(up)
	ups := event.Split(up, maxEvent/2)
	downs := slices.Collect(slices.Chunk(down, maxEvent/2/prefixSize))
	var out []journal.Entry
	for i := range max(len(ups), len(downs)) {
		var u []route.Entry
		var d []netip.Prefix
		if i < len(ups) {
			u = ups[i]
		}
		if i < len(downs) {
			d = downs[i]
		}
		out = append(out, s.delta(at, u, d))
	}
	return out
}

func (s *Scribe) delta(at time.Time, up []route.Entry, down []netip.Prefix) journal.Entry {
	for _, e := range up {
		s.set(e)
	}
	for _, p := range down {
		s.unset(p)
	}
	s.seq++
	e := s.event(event.Delta, at)
	e.Announce, e.Withdraw = up, down
	return journal.Entry{Event: e, At: at, Accepted: true}
}

// RIB returns the prefixes that the NVA announces now, in order.
func (s *Scribe) RIB() []netip.Prefix { return slices.SortedFunc(maps.Keys(s.rib), route.Compare) }

func (s *Scribe) event(kind event.Kind, at time.Time) event.Event {
	return event.Event{
		Domain: s.domain, NVA: s.nva, Kind: kind, Version: event.Version{Epoch: 1, Seq: s.seq}, Boot: "import", Beat: 1,
		Digest: s.digest, Time: at, Observed: at,
	}
}

func (s *Scribe) set(e route.Entry) {
	s.unset(e.Prefix)
	s.rib[e.Prefix] = e.Attrs
	s.digest = s.digest.Add(e)
}

func (s *Scribe) unset(p netip.Prefix) {
	if a, has := s.rib[p]; has {
		s.digest = s.digest.Remove(route.Entry{Prefix: p, Attrs: a})
		delete(s.rib, p)
	}
}
