package scribe_test

import (
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/replay/scribe"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func prefix(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 16), byte(n >> 8), byte(n)}), 32)
}

// What a scribe writes leads the merge to the table that it was told of, with nothing missing and the digest right.
func TestTheMergeEndsWithTheTable(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		s, doc, want := scribe.New("hub", "nva-a"), state.NewNVA("hub", "nva-a"), map[netip.Prefix]route.Attrs{}
		for range rapid.IntRange(1, 10).Draw(rt, "steps") {
			var up []route.Entry
			var down []netip.Prefix
			for range rapid.IntRange(0, 5).Draw(rt, "up") {
				up = append(up, route.Entry{Prefix: prefix(rapid.IntRange(0, 5).Draw(rt, "p")), Attrs: route.Attrs{Metric: rapid.Uint32Range(0, 1).Draw(rt, "m")}})
			}
			var events []journal.Entry
			if rapid.Bool().Draw(rt, "snapshot") {
				events, want = s.Snapshot(begin, up), map[netip.Prefix]route.Attrs{}
			} else {
				for range rapid.IntRange(0, 5).Draw(rt, "down") {
					down = append(down, prefix(rapid.IntRange(0, 5).Draw(rt, "p")))
				}
				events = s.Delta(begin, up, down)
			}
			for _, p := range down {
				delete(want, p)
			}
			for _, e := range up {
				want[e.Prefix] = e.Attrs
			}
			merge(rt, doc, events)
			if got := doc.RIB(); len(got) != len(want) {
				rt.Fatalf("the document has %v, want %v", got, want)
			}
			for p, a := range want {
				if got, has := doc.Announces(p); !has || got != a {
					rt.Fatalf("%s: %v %v, want %v", p, got, has, a)
				}
			}
		}
	})
}

func merge(tb rapid.TB, doc *state.NVA, events []journal.Entry) {
	tb.Helper()
	for _, entry := range events {
		body, err := event.Encode(entry.Event)
		if err != nil {
			tb.Fatal(err)
		}
		if len(body) > 256*1024 {
			tb.Fatalf("an event of %d bytes", len(body))
		}
		decoded, err := event.Decode(body)
		if err != nil {
			tb.Fatal(err)
		}
		if _, err = doc.Merge(decoded, entry.At); err != nil {
			tb.Fatal(err)
		}
	}
	if missing, differs := doc.Gap(); missing > 0 || differs {
		tb.Fatalf("%d events are missing, the digest differs: %v", missing, differs)
	}
}

func TestLargeTablesAreCut(t *testing.T) {
	s, doc := scribe.New("hub", "nva-a"), state.NewNVA("hub", "nva-a")
	var all []route.Entry
	var gone []netip.Prefix
	for n := range 20_000 {
		all = append(all, route.Entry{Prefix: prefix(n)})
		gone = append(gone, prefix(n))
	}
	snapshot := s.Snapshot(begin, all)
	if len(snapshot) < 2 {
		t.Errorf("%d chunks", len(snapshot))
	}
	merge(t, doc, snapshot)
	withdrawn := s.Delta(begin, nil, gone)
	merge(t, doc, withdrawn)
	if n := len(doc.RIB()); n != 0 || len(withdrawn) < 2 {
		t.Errorf("%d prefixes are left after %d events", n, len(withdrawn))
	}
	merge(t, doc, s.Delta(begin, all, nil))
	if n := len(doc.RIB()); n != len(all) {
		t.Errorf("%d prefixes", n)
	}
	if more := s.Delta(begin, all, nil); more != nil {
		t.Errorf("%d events that say nothing new", len(more))
	}
}
