package state_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/state"
)

// said is an order as the broker accepted it.
type said struct {
	order order.Order
	at    time.Time
}

// drawSaid draws orders about one target and one NVA, some of them accepted at the same time, some sent twice.
func drawSaid(t *rapid.T) []said {
	var out []said
	for i := range rapid.IntRange(1, 12).Draw(t, "orders") {
		k := rapid.SampledFrom(order.Kinds()).Draw(t, "kind")
		out = append(out, said{
			order.Order{Kind: k, Domain: "hub", NVA: "nva-a", Target: "spokes", Plan: rapid.SampledFrom([]string{"p", "q"}).Draw(t, "plan"), ID: fmt.Sprint(i), Who: fmt.Sprint("who-", i)},
			epochTime(rapid.IntRange(0, 5).Draw(t, "at")),
		})
		if o := &out[len(out)-1].order; rapid.Bool().Draw(t, "signed") {
			o.Operator, o.Time = "jo", epochTime(rapid.IntRange(0, 5).Draw(t, "when"))
		}
		if rapid.IntRange(0, 3).Draw(t, "again") == 0 {
			twin := out[len(out)-1]
			out = append(out, said{twin.order, twin.at.Add(time.Duration(rapid.IntRange(0, 2).Draw(t, "later")) * time.Second)})
		}
	}
	return out
}

// obeyed is what a target and an NVA make of orders.
func obeyed(list []said) string {
	target, nva := state.NewTarget("hub", "spokes", "/t"), state.NewNVA("hub", "nva-a")
	for _, s := range list {
		if s.order.Kind.OfNVA() {
			nva.Obey(state.OrderOf(s.order, s.at))
		} else {
			target.Obey(s.order, s.at)
		}
	}
	return fmt.Sprintf("%+v\n%+v\n%+v", target.Pause, target.Approval, nva.Order)
}

// TestOrdersInAnyOrder: whatever order they come in, and however often, the last one by time and id holds.
func TestOrdersInAnyOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := drawSaid(t)
		want := obeyed(list)
		if got := obeyed(append(rapid.Permutation(list).Draw(t, "disorder"), rapid.SliceOf(rapid.SampledFrom(list)).Draw(t, "again")...)); got != want {
			t.Fatalf("in order:\n%s\nin disorder:\n%s", want, got)
		}
	})
}

func TestObey(t *testing.T) {
	d := state.NewTarget("hub", "spokes", "/t")
	say := func(k order.Kind, id, plan string, second int) bool {
		return d.Obey(order.Order{Kind: k, Target: "spokes", Plan: plan, ID: id, Who: "jo", Why: "because"}, epochTime(second))
	}
	if !say(order.Pause, "1", "", 10) || say(order.Pause, "1", "", 10) || say(order.Unpause, "0", "", 10) || say(order.Unpause, "2", "", 9) || !d.Pause.On {
		t.Errorf("pause: %+v", d.Pause)
	}
	if !say(order.Unpause, "2", "", 10) || d.Pause.On || d.Pause.Who != "jo" || d.Pause.Why != "because" {
		t.Errorf("unpause: %+v", d.Pause)
	}
	if !say(order.Approve, "a", "p", 20) || !d.Approval.Open() || d.Approval.Override || d.Approval.Plan != "p" {
		t.Errorf("approve: %+v", d.Approval)
	}
	d.Approval.Ended, d.Approval.End = epochTime(30), state.ApprovalWritten
	if say(order.Approve, "a", "p", 20) || !say(order.Approve, "a", "p", 40) || d.Approval.Open() {
		t.Errorf("an approval that was spent came again: %+v", d.Approval)
	}
	if !say(order.Override, "b", "q", 41) || !d.Approval.Open() || !d.Approval.Override {
		t.Errorf("override: %+v", d.Approval)
	}
}

func TestGoldenTargetWithOrders(t *testing.T) {
	d := state.NewTarget("hub", "spokes", "/subscriptions/s")
	d.Pause = state.Pause{On: true, At: epochTime(1), ID: "1", Who: "jo", Why: "migration"}
	d.Approval = state.Approval{Plan: "25bfe4c57b9769ed", Override: true, At: epochTime(2), ID: "2", Who: "kim (kim@example.com)", Operator: "kim", Signed: epochTime(1), Why: "change 4711", Ended: epochTime(3), End: state.ApprovalWritten}
	p := netip.MustParsePrefix("10.1.0.0/16")
	d.Proposal = &state.Proposal{
		Plan: "6d4ab7cbe2ef2f2f", Since: epochTime(4), Added: []state.ProposedChange{{Prefix: p, To: "10.0.0.4"}},
		Changed: []state.ProposedChange{{Prefix: p, From: "10.0.0.4", To: "10.0.0.5"}}, Removed: []state.ProposedChange{{Prefix: p, From: "10.0.0.5"}},
	}
	d.Subnets = []state.Subnet{{ID: "/subscriptions/s/subnets/a", Prefixes: []netip.Prefix{p}, At: epochTime(5)}}
	d.Note(state.Result{At: epochTime(6), Outcome: state.Held})
	body, err := state.EncodeTarget(d)
	if err != nil {
		t.Fatal(err)
	}
	checkGolden(t, "testdata/target-orders.json", body)
	back, err := state.DecodeTarget(body)
	if err != nil {
		t.Fatal(err)
	}
	d.Schema = 2 // a pause is in force
	if x := diff(d, back); x != "" {
		t.Errorf("(-written +read):\n%s", x)
	}
}

// TestUnwritten: what waits is no trouble, and no proof that the table is as desired.
func TestUnwritten(t *testing.T) {
	for _, o := range state.Outcomes() {
		d := state.NewTarget("hub", "spokes", "/t")
		d.Note(state.Result{At: epochTime(0), Outcome: state.Failed})
		d.Note(state.Result{At: epochTime(1), Outcome: o})
		if want := o == state.Waiting || o == state.Observed || o == state.Held; o.Unwritten() != want || want && !d.LastGood.IsZero() {
			t.Errorf("%s: unwritten %t, last good %v", o, o.Unwritten(), d.LastGood)
		}
		if o != state.Waiting && o.Unwritten() && !d.Trouble.IsZero() {
			t.Errorf("%s: trouble since %v", o, d.Trouble)
		}
	}
	// A version that does not know the word yet reads it as a failure.
	var back state.Outcome
	if err := json.Unmarshal([]byte(`"next-year"`), &back); err != nil || back != state.Failed {
		t.Error(cmp.Diff(state.Failed, back))
	}
}

// TestSignedOrders: what was signed decides which order is the newest, not when somebody brought it to the queue; and an order that comes after a newer one is told from
// one that was only delivered late.
func TestSignedOrders(t *testing.T) {
	say := func(id string, signed int) order.Order {
		return order.Order{Kind: order.Pause, Target: "spokes", ID: id, Who: "jo", Operator: "jo", Time: epochTime(signed)}
	}
	for _, tt := range []struct {
		name             string
		id               string
		signed, at       int
		changes, belated bool
		unsigned         bool
	}{
		{name: "given later", id: "c", signed: 12, at: 22, changes: true},
		{name: "at the same time, with a lower id", id: "a", signed: 10, at: 21, belated: true},
		{name: "at the same time, with a higher id", id: "c", signed: 10, at: 21, changes: true},
		{name: "the same again", id: "b", signed: 10, at: 25},
		{name: "an older one, sent again", id: "a", signed: 5, at: 300, belated: true},
		{name: "an older one, delivered late", id: "a", signed: 5, at: 15},
		{name: "an unsigned one of later", id: "a", signed: 10, at: 25, unsigned: true, changes: true},
		{name: "an unsigned one of before", id: "a", signed: 10, at: 9, unsigned: true},
	} {
		d := state.NewTarget("hub", "spokes", "/t")
		n := state.NewNVA("hub", "nva-a")
		d.Obey(say("b", 10), epochTime(20))
		n.Obey(state.OrderOf(say("b", 10), epochTime(20)))
		o := say(tt.id, tt.signed)
		if tt.unsigned {
			o.Operator = ""
		}
		if got := d.Belated(o, epochTime(tt.at)); got != tt.belated || n.Belated(state.OrderOf(o, epochTime(tt.at))) != got {
			t.Errorf("%s: belated %t, want %t", tt.name, got, tt.belated)
		}
		if got := d.Obey(o, epochTime(tt.at)); got != tt.changes || n.Obey(state.OrderOf(o, epochTime(tt.at))) != got {
			t.Errorf("%s: changes %t, want %t", tt.name, got, tt.changes)
		}
	}
	d := state.NewTarget("hub", "spokes", "/t")
	if d.Obey(order.Order{Kind: order.Drain, NVA: "nva-a", ID: "z"}, epochTime(1)) || d.Pause.ID != "" {
		t.Error("an order about an NVA changed a target")
	}
}
