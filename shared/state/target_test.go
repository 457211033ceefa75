package state_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/state"
)

func TestOwnership(t *testing.T) {
	d := state.NewTarget("hub", "spokes", "/subscriptions/s")
	if !d.Claim([]string{"Pointsman-B", "pointsman-a"}) || d.Claim([]string{"POINTSMAN-a"}) {
		t.Error("Claim reports wrongly what is new")
	}
	if !slices.Equal(d.Owned, []string{"pointsman-a", "pointsman-b"}) {
		t.Errorf("owned %v, want lower case and sorted", d.Owned)
	}
	if !d.Owns("POINTSMAN-B") || d.Owns("pointsman-c") {
		t.Error("Owns must compare without case, as ARM does")
	}
	d.Disown(map[string]bool{"pointsman-b": true})
	if d.Owns("pointsman-a") || !d.Owns("pointsman-b") {
		t.Errorf("after Disown: %v", d.Owned)
	}
}

func TestIntents(t *testing.T) {
	d := state.NewTarget("hub", "spokes", "/subscriptions/s")
	d.Intents = []state.Intent{
		{Run: "old", Since: epochTime(0), Until: epochTime(10)},
		{Run: "live", Since: epochTime(5), Until: epochTime(100)},
	}
	for _, tt := range []struct {
		run    string
		now    time.Time
		holder string
	}{
		{"me", epochTime(5), "old"},
		{"me", epochTime(10), "live"}, // Until itself is too late
		{"me", epochTime(100), ""},
		{"live", epochTime(50), ""},
		{"old", epochTime(5), "live"},
	} {
		if i, held := d.Holder(tt.run, tt.now); i.Run != tt.holder || held != (tt.holder != "") {
			t.Errorf("run %s at %v: held by %q", tt.run, tt.now, i.Run)
		}
	}
	if !d.Others("live") || !d.Holds("live") || d.Holds("me") {
		t.Error("Others or Holds is wrong")
	}
	d.Intents = d.Intents[:1]
	if d.Others("old") || !d.Others("me") {
		t.Error("an intent that has run out still counts for others, and only for them")
	}
}

func TestNote(t *testing.T) {
	d := state.NewTarget("hub", "spokes", "/subscriptions/s")
	for i, tt := range []struct {
		outcome           state.Outcome
		trouble, lastGood time.Time
	}{
		{state.Written, time.Time{}, epochTime(0)},
		{state.Throttled, epochTime(1), epochTime(0)},
		{state.Failed, epochTime(1), epochTime(0)},
		{state.Waiting, epochTime(1), epochTime(0)},
		{state.Unchanged, time.Time{}, epochTime(4)},
		{state.Refused, epochTime(5), epochTime(4)},
	} {
		d.Note(state.Result{At: epochTime(i), Outcome: tt.outcome})
		if !d.Trouble.Equal(tt.trouble) || !d.LastGood.Equal(tt.lastGood) || d.Counts[tt.outcome.String()] != 1 || d.Result.Outcome != tt.outcome {
			t.Errorf("after %s: trouble since %v, last good %v, counts %v", tt.outcome, d.Trouble, d.LastGood, d.Counts)
		}
	}
}

func TestGoldenTarget(t *testing.T) {
	d := state.NewTarget("hub", "spokes", "/subscriptions/s/resourceGroups/r/providers/Microsoft.Network/routeTables/spokes")
	d.Claim([]string{"pointsman-10-1-0-0-16"})
	d.Intents = []state.Intent{{Run: "run-2", Since: epochTime(60), Until: epochTime(180)}}
	d.Pending = &state.Pending{Since: epochTime(50), At: epochTime(60), Accrued: 2.5, Weight: 3}
	d.Applied = map[string]uint64{"nva-b": 3, "nva-a": 17}
	d.FireAt, d.Writes, d.Wakes = epochTime(61), 4, 2
	d.Note(state.Result{
		At: epochTime(40), Outcome: state.Written, ETag: `W/"1"`, Added: 1, Changed: 2, Removed: 3, Routes: 10, Duration: 4.2, Cause: "nva-a/17",
		Events: []string{"hub/nva-a/1/42"}, Blocked: []string{"10.9.0.0/16 (manual)"}, Refused: []string{"nva-b 10.8.0.0/16: not in its allow list"}, Warnings: []string{"w"},
	})
	d.Written = state.NewRecord(map[netip.Prefix]string{prefix(1): "10.0.0.4", prefix(2): "10.0.0.4", prefix(3): "None"})
	d.Maybe = []state.Record{state.NewRecord(map[netip.Prefix]string{prefix(1): "10.0.0.5"}), {}}
	d.Intents[0].Ahead, d.Intents[0].Writing = true, d.Maybe
	d.Told = state.ToldTarget{Frozen: true, Failed: "denied ScopeLocked", Since: epochTime(30)}
	d.Touch(outcome.Hand{Event: "e1", At: epochTime(20), By: "kim"})
	d.Drifted = []state.Drift{{Prefix: prefix(1), Wrote: "10.0.0.4", Found: "10.9.9.9", Since: epochTime(21), Hands: d.Hands}}
	d.Outcomes.Put(outcome.OfTarget(outcome.TargetFrozen, "run-1", epochTime(30), "", outcome.Data{Domain: "hub", Target: "spokes"}))
	d.Outcomes.Dropped = 7
	body, err := state.EncodeTarget(d)
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "testdata/target.json", body)
	back, err := state.DecodeTarget(body)
	if err != nil {
		t.Fatal(err)
	}
	if x := diff(d, back); x != "" {
		t.Errorf("(-written +read):\n%s", x)
	}
}

func TestDecodeTargetRefuses(t *testing.T) {
	for body, want := range map[string]string{`[`: "document of a target", `{"schema":7,"target":"spokes"}`: "spokes has schema 7, this version reads 1 to 2"} {
		if _, err := state.DecodeTarget([]byte(body)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestOutcomeNames(t *testing.T) {
	for i, o := range state.Outcomes() {
		text, err := json.Marshal(o)
		var back state.Outcome
		if err != nil || json.Unmarshal(text, &back) != nil || back != o || int(o) != i+1 || strings.HasPrefix(o.String(), "outcome-") {
			t.Errorf("outcome %d is %s, reads as %s", i+1, text, back)
		}
	}
	var newer state.Outcome
	if err := json.Unmarshal([]byte(`"postponed"`), &newer); err != nil || newer != state.Failed {
		t.Errorf("an outcome of a newer version reads as %s, %v", newer, err)
	}
	if got := state.Outcome(99).String(); got != "outcome-99" {
		t.Errorf("an unknown outcome is %q", got)
	}
}

// What is not known to be written must not read as "nothing is": a table full of managed routes would be taken for another hand's work.
func TestAnEmptyRecordIsNotAMissingOne(t *testing.T) {
	for _, want := range []state.Record{nil, {}} {
		d := state.NewTarget("hub", "spokes", "/subscriptions/s")
		d.Written = want
		body, err := state.EncodeTarget(d)
		if err != nil {
			t.Fatal(err)
		}
		back, err := state.DecodeTarget(body)
		if err != nil || (back.Written == nil) != (want == nil) {
			t.Errorf("%#v reads back as %#v, %v", want, back.Written, err)
		}
	}
	hops := map[netip.Prefix]string{prefix(2): "a", prefix(1): "a", prefix(3): "b"}
	if back := state.NewRecord(hops).Hops(); diff(hops, back) != "" {
		t.Errorf("%v reads back as %v", hops, back)
	}
}

func TestTouchKeepsTheNewest(t *testing.T) {
	var d state.Target
	for i := range 2 * state.MaxHands {
		d.Touch(outcome.Hand{Event: fmt.Sprint(i)})
		d.Touch(outcome.Hand{Event: fmt.Sprint(i), By: "told twice"})
	}
	if len(d.Hands) != state.MaxHands || d.Hands[0].Event != "8" || d.Hands[7].Event != "15" || d.Hands[7].By != "" {
		t.Errorf("hands %v", d.Hands)
	}
}
