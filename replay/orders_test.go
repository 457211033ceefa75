package replay_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/order"
)

func ordered(at time.Duration, kind order.Kind, of, plan string) journal.Entry {
	o := &order.Order{Kind: kind, Domain: "hub", Plan: plan, ID: fmt.Sprintf("%s-%s", kind, at), Who: "jo"}
	if kind.OfNVA() {
		o.NVA = of
	} else {
		o.Target = of
	}
	return journal.Entry{Order: o, At: begin.Add(at), Accepted: true}
}

// orders replays two NVAs that announce two prefixes, and what comes then, with more in the target's line.
func orders(t *testing.T, rest string, more ...journal.Entry) replay.TargetReport {
	t.Helper()
	d, problems := config.Parse("hub.yaml", []byte(`
domain: hub
policy: {silence: down, holdDown: 0s, writePrice: 0}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: spokes, routeTable: `+tableID+rest+`}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a, b := speaker{name: "nva-a"}, speaker{name: "nva-b"}
	entries := append([]journal.Entry{a.said(0, event.Snapshot, prefixes(2)), b.said(0, event.Snapshot, prefixes(2))}, more...)
	return run(t, replay.Config{Domain: d, WriteDuration: time.Second}, entries...).Targets[0]
}

func said(r replay.TargetReport) string {
	var out []string
	for _, m := range r.Timeline {
		out = append(out, m.Text)
	}
	return strings.Join(out, "\n")
}

func TestReplayOfADrain(t *testing.T) {
	r := orders(t, "", ordered(time.Minute, order.Drain, "nva-a", ""), ordered(2*time.Minute, order.Resume, "nva-a", ""))
	if len(r.Writes) != 3 || len(r.Writes[1].Changed) != 2 || !r.Writes[1].At.Equal(begin.Add(time.Minute)) || r.Writes[2].Changed[0].To != "10.0.0.4" {
		t.Errorf("%+v", r.Writes)
	}
}

func TestReplayOfAPause(t *testing.T) {
	r := orders(t, "", ordered(time.Minute, order.Pause, "spokes", ""), ordered(2*time.Minute, order.Drain, "nva-a", ""), ordered(time.Hour, order.Unpause, "spokes", ""), ordered(time.Hour, order.Pause, "nowhere", ""))
	if len(r.Writes) != 2 || !r.Writes[1].At.Equal(begin.Add(time.Hour)) || !strings.Contains(said(r), "0 to add, 2 to change, 0 to remove") {
		t.Errorf("%+v\n%s", r.Writes, said(r))
	}
}

func TestReplayOfApprovals(t *testing.T) {
	first := orders(t, ", apply: approve")
	if len(first.Writes) != 0 || len(first.Timeline) == 0 {
		t.Fatalf("%+v", first)
	}
	i := slices.IndexFunc(first.Timeline, func(m replay.Moment) bool { return strings.HasPrefix(m.Text, "plan ") })
	hash := strings.Fields(first.Timeline[i].Text)[1]
	r := orders(t, ", apply: approve", ordered(time.Minute, order.Approve, "spokes", "0123456789abcdef"), ordered(2*time.Minute, order.Approve, "spokes", hash), ordered(time.Hour, order.Drain, "nva-a", ""))
	if len(r.Writes) != 1 || !r.Writes[0].At.Equal(begin.Add(2*time.Minute)) || !strings.Contains(said(r), "the approval of plan 0123456789abcdef by jo is void") {
		t.Errorf("%+v\n%s", r.Writes, said(r))
	}
	if r = orders(t, ", apply: observe", ordered(time.Minute, order.Approve, "spokes", hash)); len(r.Writes) != 0 {
		t.Errorf("observed: %+v", r.Writes)
	}
}

func TestReplayOfAnOverride(t *testing.T) {
	const guarded = ", guards: {maxChanged: 10%}"
	back := []journal.Entry{ordered(time.Minute, order.Drain, "nva-a", ""), ordered(2*time.Minute, order.Resume, "nva-a", "")}
	first := orders(t, guarded, back...)
	if len(first.Writes) != 2 || len(first.Refused) != 1 {
		t.Fatalf("%+v", first)
	}
	_, hash, _ := strings.Cut(first.Refused[0], "--override --plan ")
	r := orders(t, guarded, append(back, ordered(time.Hour, order.Override, "spokes", hash[:16]))...)
	if len(r.Writes) != 3 || !r.Writes[2].At.Equal(begin.Add(time.Hour)) || len(r.Refused) != 0 {
		t.Errorf("%+v", r)
	}
}
