package replay_test

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/answer"
	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

var begin = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

const tableID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/spokes"

func domain(tb testing.TB) *config.Domain {
	tb.Helper()
	d, problems := config.Parse("hub.yaml", []byte(`
domain: hub
policy: {silence: down, holdDown: 30s}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 32"], maxPrefixes: 100000}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 32"], maxPrefixes: 100000}
targets:
  - {name: spokes, routeTable: `+tableID+`, limit: 100000}
`))
	if len(problems) > 0 {
		tb.Fatal(problems)
	}
	return d
}

// speaker makes the events of one NVA.
type speaker struct {
	name string
	seq  uint64
	beat uint64
}

func (s *speaker) said(at time.Duration, kind event.Kind, announce []netip.Prefix, withdraw ...netip.Prefix) journal.Entry {
	e := event.Event{Domain: "hub", NVA: s.name, Kind: kind, Version: event.Version{Epoch: 1}, Boot: "boot", Beat: s.beat}
	switch kind {
	case event.Snapshot:
		e.Chunk.Count = 1
	case event.Alive:
		s.beat++
		e.Beat = s.beat
	case event.Delta, event.Expired, event.Draining, event.Goodbye, event.Witness:
	}
	if kind != event.Expired {
		s.seq++
		e.Version.Seq = s.seq
	}
	for _, p := range announce {
		e.Announce = append(e.Announce, route.Entry{Prefix: p})
	}
	e.Withdraw = withdraw
	return journal.Entry{Event: e, At: begin.Add(at), Accepted: true}
}

func prefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i/256), byte(i % 256), 0}), 24)
	}
	return out
}

func run(t *testing.T, cfg replay.Config, entries ...journal.Entry) replay.Report {
	t.Helper()
	r, err := replay.Run(cfg, replay.Given(entries))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// An NVA that 300 prefixes depend on dies and comes back: the golden text is what an operator reads.
func TestTheDeathOfAnNVA(t *testing.T) {
	a, b := &speaker{name: "nva-a", beat: 1}, &speaker{name: "nva-b", beat: 1}
	r := run(t, replay.Config{Domain: domain(t), WriteDuration: 4 * time.Second},
		a.said(0, event.Snapshot, prefixes(300)), b.said(0, event.Snapshot, prefixes(300)),
		a.said(60*time.Second, event.Expired, nil), a.said(90*time.Second, event.Alive, nil),
		b.said(95*time.Second, event.Delta, []netip.Prefix{netip.MustParsePrefix("10.70.0.0/16")}),
	)
	want := `domain hub: 5 events in 1m35s from 2026-03-01T12:00:00Z; a write takes 4s

target spokes: 4 writes for 4 changes of what it should hold: 0 saved; 301 managed of 301 routes at the end
  prefix-seconds: 1200.0 on a dead next hop, 1205.7 without a route, 1200.0 not on the best path
       +0.000s  nva-a is up
       +0.000s  nva-b is up
       +0.000s  write 1, done at +4.000s: +300 ~0 -0
                 + to 10.0.0.4 10.64.0.0/24, 10.64.1.0/24, 10.64.2.0/24, 10.64.3.0/24 and 296 more
      +60.000s  nva-a is down
      +60.000s  write 2, done at +64.000s: +0 ~300 -0
                 ~ 10.0.0.4 -> 10.0.0.5 10.64.0.0/24, 10.64.1.0/24, 10.64.2.0/24, 10.64.3.0/24 and 296 more
      +90.000s  nva-a is up
      +95.000s  1 without a route worth a write at 12:01:36.666
      +96.667s  write 3, done at +100.667s: +1 ~0 -0
                 + to 10.0.0.5 10.70.0.0/16
     +120.000s  write 4, done at +124.000s: +0 ~300 -0
                 ~ 10.0.0.5 -> 10.0.0.4 10.64.0.0/24, 10.64.1.0/24, 10.64.2.0/24, 10.64.3.0/24 and 296 more
`
	var got strings.Builder
	if err := r.Text(&got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.String()); diff != "" {
		t.Error(diff)
	}
	page, err := os.ReadFile("../docs/replay.md")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(page), want) {
		t.Error("docs/replay.md shows another output")
	}
}

func TestAFlapThatCameBackIsNoWrite(t *testing.T) {
	a := &speaker{name: "nva-a", beat: 1}
	p := prefixes(1)
	entries := []journal.Entry{a.said(0, event.Snapshot, nil)}
	for i := range 10 { // announced and gone again before it is worth a write
		at := time.Minute + time.Duration(i)*10*time.Second
		entries = append(entries, a.said(at, event.Delta, p), a.said(at+time.Second, event.Delta, nil, p...))
	}
	r := run(t, replay.Config{Domain: domain(t), WriteDuration: 4 * time.Second}, entries...)
	if got := r.Targets[0]; len(got.Writes) != 0 || got.Changes != 20 || got.Saved != 20 {
		t.Errorf("%d writes, %d changes, %d saved; want 0, 20, 20", len(got.Writes), got.Changes, got.Saved)
	}
}

func TestForeignAndUnusableEventsAreCounted(t *testing.T) {
	a, z := &speaker{name: "nva-a"}, &speaker{name: "nva-z"}
	other := a.said(0, event.Delta, nil)
	other.Event.Domain = "elsewhere"
	r := run(t, replay.Config{Domain: domain(t)}, other, a.said(0, event.Delta, nil), z.said(0, event.Delta, nil))
	if r.Events != 2 || r.Foreign != 1 || r.Refused != 1 {
		t.Errorf("%d events, %d foreign, %d refused; want 2, 1, 1", r.Events, r.Foreign, r.Refused)
	}
}

// An event brings the other answer to the fore, that of a table which is written anyway, after a hold-down has ended that only this one had to wait for: one change,
// not two.
func TestAnAnswerThatNobodyLookedAfter(t *testing.T) {
	d, problems := config.Parse("hub.yaml", []byte(`
domain: hub
policy: {silence: down, holdDown: 3050ms, writePrice: 0}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 24"], maxPrefixes: 3}
  - {name: nva-b, nextHops: [10.0.0.5], preference: 100, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-d, nextHops: [10.0.0.7], preference: 200, allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: spokes, routeTable: `+tableID+`, mode: ecmp}
`))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	a, b, c := &speaker{name: "nva-a", beat: 1}, &speaker{name: "nva-b", beat: 1}, &speaker{name: "nva-d", beat: 1}
	p, late := prefixes(5), 700*time.Millisecond
	r := run(t, replay.Config{Domain: d},
		b.said(0, event.Delta, p[2:3]), a.said(0, event.Delta, p), c.said(late, event.Snapshot, p[:1]),
		a.said(late, event.Delta, p[2:3], p[1], p[4]), a.said(5700*time.Millisecond, event.Snapshot, p[:1]))
	if got := r.Targets[0].Changes; got != 5 {
		t.Errorf("%d changes, want 5: by b, c, a, the end of a hold-down, and a", got)
	}
}

// Following events prefix by prefix gives the writes that planning from scratch at every event gives.
func TestFollowingIsPlanning(t *testing.T) {
	for range 10 {
		rapid.Check(t, followingIsPlanning)
	}
}

func followingIsPlanning(rt *rapid.T) {
	d := drawDomain(rt)
	entries := drawEvents(rt, d)
	table := drawTable(rt)
	cfg := replay.Config{Domain: d, Tables: map[string]plan.Table{"spokes": table}, WriteDuration: rapid.SampledFrom([]time.Duration{0, time.Second, 4 * time.Second}).Draw(rt, "write")}
	r, err := replay.Run(cfg, replay.Given(entries))
	if err != nil {
		rt.Fatal(err)
	}
	var got []string
	for _, w := range r.Targets[0].Writes {
		got = append(got, fmt.Sprint(w.At.Sub(begin), w.Added, w.Changed, w.Removed))
	}
	want, changed := scratch(d, table, cfg.WriteDuration, entries)
	if diff := cmp.Diff(want, got); diff != "" {
		rt.Fatalf("writes (-scratch +replay):\n%s", diff)
	}
	// What time alone changes (an accused NVA has not answered) is counted when it is looked at: the scratch looks with every event.
	witnessed := slices.ContainsFunc(entries, func(e journal.Entry) bool { return e.Event.Kind == event.Witness })
	if !witnessed && changed != r.Targets[0].Changes {
		rt.Fatalf("%d changes of the answer, from scratch %d", r.Targets[0].Changes, changed)
	}
}

// drawDomain draws a domain in any mode. No hold-down ends at the instant of an event: there the scratch, which looks at all with every event,
// would see the end of it before the replay does.
func drawDomain(rt *rapid.T) *config.Domain {
	text := fmt.Sprintf(`
domain: hub
policy: {silence: %s, holdDown: %dms, writePrice: %d, writeCap: 10s}
guards: {maxRemoved: 50%%, minRemoved: 2, maxChanged: %s, minLive: %d}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 24"], maxPrefixes: %d}
  - {name: nva-b, nextHops: [10.0.0.5], preference: %d, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-c, nextHops: [10.0.0.6], allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-d, nextHops: [10.0.0.7], preference: 200, allow: ["10.64.0.0/10 le 24"]}
spread: {maxExcess: 0%%, spokes: [{name: s1, prefixes: [10.64.1.0/24]}, {name: s2, prefixes: [10.64.2.0/24]}, {name: s3, prefixes: [10.64.3.0/24]}]}
targets:
  - {name: spokes, routeTable: %s, limit: %d, nvas: [nva-a, nva-b, nva-d], %s}
`, rapid.SampledFrom([]string{"down", "hold"}).Draw(rt, "silence"), rapid.SampledFrom([]int{0, 3050}).Draw(rt, "hold"), rapid.SampledFrom([]int{0, 5, 20}).Draw(rt, "price"),
		rapid.SampledFrom([]string{"100%", "100%", "50%", "1%"}).Draw(rt, "maxChanged"), rapid.SampledFrom([]int{0, 0, 1, 2}).Draw(rt, "minLive"),
		rapid.SampledFrom([]int{3, 100}).Draw(rt, "max"), rapid.SampledFrom([]int{100, 200}).Draw(rt, "preference"), tableID, rapid.SampledFrom([]int{4, 1000}).Draw(rt, "limit"),
		rapid.SampledFrom([]string{
			"mode: primary-backup", "mode: primary-backup", "mode: ecmp", "mode: ecmp, maxNextHops: 2", "mode: spread, side: north", "mode: spread, side: s2", "mode: next-hop-ip, nextHops: [10.9.9.9]",
			"rules: [{prefixes: [10.64.1.0/24], mode: ecmp}, {prefixes: [10.64.0.0/23 le 24], mode: spread}], side: s1",
		}).Draw(rt, "mode"))
	d, problems := config.Parse("hub.yaml", []byte(text))
	if len(problems) > 0 {
		rt.Fatal(problems)
	}
	return d
}

func drawTable(rt *rapid.T) plan.Table {
	var table plan.Table
	for i, p := range prefixes(6) {
		hop := rapid.SampledFrom([]string{"10.0.0.4", "10.0.0.5", "10.0.0.6", "10.9.9.9"}).Draw(rt, "hop")
		switch rapid.SampledFrom([]string{"none", "none", "ours", "several", "theirs", "twin"}).Draw(rt, "route") {
		case "several":
			table.Routes = append(table.Routes, plan.NewRoute(plan.Name("pointsman-", p), p.String(), plan.VirtualApplianceECMP, netip.MustParseAddr(hop), netip.MustParseAddr("10.0.0.7")))
		case "ours":
			table.Routes = append(table.Routes, plan.NewRoute(plan.Name("pointsman-", p), p.String(), plan.VirtualAppliance, netip.MustParseAddr(hop)))
		case "theirs":
			table.Routes = append(table.Routes, plan.NewRoute(fmt.Sprint("theirs-", i), p.String(), plan.VirtualAppliance, netip.MustParseAddr(hop)))
		case "twin":
			table.Routes = append(table.Routes, plan.NewRoute(fmt.Sprint("pointsman-x", i), "Storage", "Internet", netip.Addr{}))
		}
	}
	return table
}

func drawEvents(rt *rapid.T, d *config.Domain) []journal.Entry {
	speakers := []*speaker{}
	for _, n := range d.NVAs {
		speakers = append(speakers, &speaker{name: n.Name, beat: 1})
	}
	all := append(prefixes(5), netip.MustParsePrefix("192.168.0.0/24")) // that one they may not announce
	some := func(what string) []netip.Prefix {
		mask := rapid.IntRange(0, 63).Draw(rt, what)
		var out []netip.Prefix
		for i, p := range all {
			if mask>>i&1 == 1 {
				out = append(out, p)
			}
		}
		return out
	}
	var out []journal.Entry
	at := time.Duration(0)
	kinds := []event.Kind{event.Delta, event.Delta, event.Delta, event.Snapshot, event.Alive, event.Expired, event.Draining}
	if rapid.Bool().Draw(rt, "witnesses") {
		kinds = append(kinds, event.Witness)
	}
	for range rapid.IntRange(0, 40).Draw(rt, "events") {
		at += rapid.SampledFrom([]time.Duration{0, 100 * time.Millisecond, 700 * time.Millisecond, 5 * time.Second, time.Minute}).Draw(rt, "gap")
		s := speakers[rapid.IntRange(0, len(speakers)-1).Draw(rt, "who")]
		kind := rapid.SampledFrom(kinds).Draw(rt, "kind")
		switch kind {
		case event.Delta:
			up := some("up")
			down := slices.DeleteFunc(some("down"), func(p netip.Prefix) bool { return slices.Contains(up, p) })
			entry := s.said(at, kind, up, down...)
			for i := range entry.Event.Announce {
				entry.Event.Announce[i].Attrs.Metric = rapid.Uint32Range(0, 1).Draw(rt, "metric")
			}
			out = append(out, entry)
		case event.Snapshot:
			out = append(out, s.said(at, kind, some("rib")))
		case event.Witness:
			entry := s.said(at, kind, nil)
			entry.Event.Report.SelfTest = rapid.SampledFrom([]event.Check{event.Passed, event.Failed}).Draw(rt, "self-test")
			for _, other := range speakers {
				if other.name != s.name {
					entry.Event.Report.Peers = append(entry.Event.Report.Peers, event.Peer{NVA: other.name, Reachable: rapid.Bool().Draw(rt, "reachable")})
				}
			}
			slices.SortFunc(entry.Event.Report.Peers, func(a, b event.Peer) int { return strings.Compare(a.NVA, b.NVA) })
			out = append(out, entry)
		case event.Alive, event.Expired, event.Draining, event.Goodbye:
			out = append(out, s.said(at, kind, nil))
		}
	}
	return out
}

// scratch is the same replay, done the slow way: everything is selected and planned again at every moment.
func scratch(d *config.Domain, table plan.Table, write time.Duration, entries []journal.Entry) (writes []string, changed int) {
	owned := map[string]bool{}
	for _, r := range table.Routes {
		owned[strings.ToLower(r.Name)] = strings.HasPrefix(r.Name, "pointsman-")
	}
	target := d.Targets[0]
	rules := answer.Rules(d, target, func(name string) bool { return owned[strings.ToLower(name)] })
	docs := map[string]*state.NVA{}
	var account coalesce.Account
	var doneAt, fireAt, lookAt time.Time
	var edit plan.Edit
	news := false
	var wanted []plan.Want
	input := func(now time.Time) selection.Input {
		heard := map[string]*state.NVA{}
		for name, doc := range docs {
			if doc.Heard() || doc.Silent() {
				heard[name] = doc
			}
		}
		return selection.Input{Domain: d, Target: target, NVAs: heard, Installed: rules.Installed(table), Now: now}
	}
	// want selects and reports whether the answer is another one now.
	want := func(now time.Time) bool {
		selected := selection.Select(input(now))
		before := wanted
		wanted, lookAt = answer.Wants(selected.Choices), selected.NextLook
		return !slices.Equal(before, wanted)
	}
	look := func(now time.Time) {
		reached := func(at time.Time) bool { return !at.IsZero() && !now.Before(at) }
		if reached(lookAt) {
			if want(now) {
				changed++
			}
			news = true
		}
		if reached(doneAt) {
			table, doneAt, news = replay.Apply(table, edit), time.Time{}, true
			want(now)
		}
		if !doneAt.IsZero() || !news && !reached(fireAt) {
			return
		}
		news = false
		in := input(now)
		p := plan.Diff(table, wanted, answer.Guarded(rules, in, liveness.Judge(d, in.NVAs, now)))
		if p.Empty() {
			account, fireAt = coalesce.Account{}, time.Time{}
			return
		}
		at, after := answer.Price(d, "spokes").FireAt(account, answer.Weigh(in, liveness.Judge(d, in.NVAs, now), p), now)
		if at.Sub(now) > coalesce.MinWait {
			account, fireAt = after, at
			return
		}
		for _, name := range p.Names() {
			owned[strings.ToLower(name)] = true
		}
		account, fireAt = coalesce.Account{}, time.Time{}
		edit, doneAt = p.Edit, now.Add(write)
		writes = append(writes, fmt.Sprint(now.Sub(begin), replay.Changes(p.Added), replay.Changes(p.Changed), replay.Changes(p.Removed)))
	}
	due := func() time.Time { return selection.Sooner(selection.Sooner(doneAt, fireAt), lookAt) }
	pass := func(until time.Time) {
		for at := due(); !at.IsZero() && (until.IsZero() || at.Before(until)); at = due() {
			look(at)
		}
	}
	for i := 0; i < len(entries); {
		at := entries[i].At
		pass(at)
		for ; i < len(entries) && entries[i].At.Equal(at); i++ {
			e := entries[i].Event
			if docs[e.NVA] == nil {
				docs[e.NVA] = state.NewNVA("hub", e.NVA)
			}
			revision := docs[e.NVA].Revision
			if _, err := docs[e.NVA].Merge(e, at); err != nil {
				panic(err)
			}
			woken := docs[e.NVA].Wide || target.Fed(e.NVA)
			docs[e.NVA].Wide = false
			news = news || woken && docs[e.NVA].Revision != revision
			if want(at) && woken {
				changed++
			}
		}
		look(at)
	}
	pass(time.Time{})
	return writes, changed
}
