package state_test

import (
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/compat"
)

// previous reads a golden document of the version before this one; those are never rewritten.
func previous(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile("testdata/previous/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// TestPreviousNVA: what the previous version wrote of an NVA means the same now, merges go on from it, and that version, put back, finds what it knew.
func TestPreviousNVA(t *testing.T) {
	old := previous(t, "nva.json")
	n, err := state.DecodeNVA(old)
	if err != nil {
		t.Fatal(err)
	}
	const epoch = 1780000000000
	v := func(seq uint64) event.Version { return event.Version{Epoch: epoch, Seq: seq} }
	since := time.Date(2026, 5, 28, 20, 26, 40, 0, time.UTC)
	p1, p2 := netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")
	want := state.NewNVA("hub", "nva-a")
	want.Revision, want.Outbox, want.Epoch, want.Boot, want.Clone, want.Floor = 4, true, epoch, boot(epoch), &state.Clone{Boot: "other", Epoch: epoch}, v(1)
	want.Facts[p1] = state.Fact{Version: v(2), Withdrawn: true}
	want.Facts[p2] = state.Fact{Version: v(4), Attrs: route.Attrs{Metric: 20, Origin: "bgp"}}
	want.Partial[v(4)] = state.Chunks{Count: 2, Got: []bool{true, false}}
	want.Seen, want.Claim, want.Digest = []state.Span{{First: 1, Last: 3}}, v(4), 0xfdb4faa9793bd539
	want.Alive, want.Expired = state.Beat{Epoch: epoch, Beat: 1}, state.Beat{Epoch: epoch, Beat: 1}
	want.Notice = state.Notice{Kind: event.Draining, Version: v(3), Reason: "shutdown"}
	want.LastSeen, want.Since = since.Add(3*time.Second), since
	if d := diff(want, n); d != "" {
		t.Errorf("means something else now (-then +now):\n%s", d)
	}
	back, err := state.EncodeNVA(n)
	if err != nil {
		t.Fatal(err)
	}
	if lost, failed := compat.Lost(old, back); failed != nil || len(lost) > 0 {
		t.Errorf("the previous version would read something else: %q (%v)", lost, failed)
	}
	second := event.Event{Domain: "hub", NVA: "nva-a", Boot: boot(epoch), Kind: event.Snapshot, Version: v(4), Beat: 2, Chunk: event.Chunk{Index: 1, Count: 2}}
	if changed, failed := n.Merge(second, since.Add(time.Hour)); !changed || failed != nil || n.Floor != v(4) || n.Silent() {
		t.Errorf("the snapshot does not go on: changed %t (%v), floor %s, silent %t", changed, failed, n.Floor, n.Silent())
	}
}

// TestPreviousTarget: the same for a target.
func TestPreviousTarget(t *testing.T) {
	old := previous(t, "target.json")
	doc, err := state.DecodeTarget(old)
	if err != nil {
		t.Fatal(err)
	}
	if !doc.Owns("pointsman-10-1-0-0-16") || len(doc.Intents) != 1 || doc.Intents[0].Run != "run-2" || doc.Pending == nil || doc.Pending.Accrued != 2.5 ||
		doc.Applied["nva-a"] != 17 || doc.Result.Outcome != state.Written || doc.Writes != 4 || doc.Counts["written"] != 1 || doc.LastGood.IsZero() || doc.FireAt.IsZero() {
		t.Errorf("means something else now: %+v", doc)
	}
	back, err := state.EncodeTarget(doc)
	if err != nil {
		t.Fatal(err)
	}
	if lost, failed := compat.Lost(old, back); failed != nil || len(lost) > 0 {
		t.Errorf("the previous version would read something else: %q (%v)", lost, failed)
	}
}
