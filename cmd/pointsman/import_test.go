package main

import (
	"bytes"
	"net/netip"
	"testing"
	"time"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/replay/mrt"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// A dump, updates of one moment, a session that ends and comes back: the journal leads the merge to the same table at each moment.
func TestTheJournalOfAPeer(t *testing.T) {
	var out bytes.Buffer
	x, err := newCollector(names{domain: "hub", nva: []string{"nva-a"}}, &out)
	if err != nil {
		t.Fatal(err)
	}
	peer := netip.MustParseAddr("192.0.2.1")
	begin := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	entries := func(prefixes ...string) (list []route.Entry) {
		for _, p := range prefixes {
			list = append(list, route.Entry{Prefix: netip.MustParsePrefix(p)})
		}
		return list
	}
	gone := []netip.Prefix{netip.MustParsePrefix("10.64.0.0/24")}
	for _, c := range []mrt.Change{
		{At: begin, Kind: mrt.Table, Announce: entries("10.64.0.0/24")},
		{At: begin.Add(time.Second), Kind: mrt.Table, Announce: entries("10.65.0.0/16")}, // a dump takes its time
		{At: begin.Add(time.Minute), Kind: mrt.Update, Announce: entries("10.66.0.0/16"), Withdraw: gone},
		{At: begin.Add(time.Minute), Kind: mrt.Update, Announce: entries("10.64.0.0/24")}, // the same moment: what is said last counts
		{At: begin.Add(2 * time.Minute), Kind: mrt.Down},
		{At: begin.Add(3 * time.Minute), Kind: mrt.Update, Announce: entries("10.64.0.0/24")},
	} {
		c.Peer = peer
		if err = x.take(c); err != nil {
			t.Fatal(err)
		}
	}
	if err = x.end(); err != nil {
		t.Fatal(err)
	}
	journal, err := replay.Read("journal", out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	doc := state.NewNVA("hub", "nva-a")
	want := []struct {
		kind     event.Kind
		at       time.Duration
		prefixes int
	}{{event.Snapshot, 0, 2}, {event.Delta, time.Minute, 3}, {event.Delta, 2 * time.Minute, 0}, {event.Delta, 3 * time.Minute, 1}}
	if len(journal) != len(want) {
		t.Fatalf("%d events, want %d:\n%s", len(journal), len(want), out.String())
	}
	for i, entry := range journal {
		if _, err = doc.Merge(entry.Event, entry.At); err != nil {
			t.Fatal(err)
		}
		if n := len(doc.RIB()); entry.Event.Kind != want[i].kind || !entry.At.Equal(begin.Add(want[i].at)) || n != want[i].prefixes {
			t.Errorf("event %d: %s at %s, %d prefixes then; want %v", i+1, entry.Event.Kind, entry.At, n, want[i])
		}
	}
}
