package state_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// agent is a reference agent: it keeps a RIB and publishes what an agent publishes, in the order in which it says it.
type agent struct {
	rib       map[netip.Prefix]route.Attrs
	version   event.Version
	beat      uint64
	report    event.Report
	published []event.Event
	history   map[event.Version]map[netip.Prefix]route.Attrs // the RIB as of every version
}

func boot(epoch uint64) string { return fmt.Sprintf("boot-%d", epoch) }

func prefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16)
}

func (a *agent) digest() (d route.Digest) {
	for p, attrs := range a.rib {
		d = d.Add(route.Entry{Prefix: p, Attrs: attrs})
	}
	return d
}

// publish numbers an event and remembers the RIB behind it.
func (a *agent) publish(e event.Event) {
	if e.Version == (event.Version{}) {
		a.version.Seq++
		e.Version = a.version
		a.history[a.version] = maps.Clone(a.rib)
	}
	e.Domain, e.NVA, e.Boot, e.Digest = "hub", "nva-a", boot(e.Version.Epoch), a.digest()
	if e.Kind != event.Expired {
		e.Beat = a.beat
	}
	if e.Reports() {
		e.Report = a.report
	}
	a.published = append(a.published, e)
}

// look changes what the agent sees of itself and its peers, and says so.
func (a *agent) look(t *rapid.T) {
	check := rapid.SampledFrom([]event.Check{event.Absent, event.Passed, event.Failed})
	a.report = event.Report{SelfCheck: check.Draw(t, "self-check"), SelfTest: check.Draw(t, "self-test"), Drain: rapid.SampledFrom([]string{"", "reboot"}).Draw(t, "drain")}
	for _, peer := range []string{"nva-b", "nva-c"} {
		if rapid.Bool().Draw(t, "watches") {
			a.report.Peers = append(a.report.Peers, event.Peer{NVA: peer, Reachable: rapid.Bool().Draw(t, "reachable"), Deaf: rapid.Bool().Draw(t, "deaf")})
		}
	}
	if rapid.Bool().Draw(t, "loses a session") {
		a.report.ControlLost = []event.Session{{Name: "frr", Since: epochTime(3)}}
	}
	a.publish(event.Event{Kind: event.Witness})
}

// snapshot publishes the whole RIB in chunks; the chunks share a version.
func (a *agent) snapshot(count int) {
	var list []route.Entry
	for p, attrs := range a.rib {
		list = append(list, route.Entry{Prefix: p, Attrs: attrs})
	}
	slices.SortFunc(list, func(x, y route.Entry) int { return route.Compare(x.Prefix, y.Prefix) })
	a.version.Seq++
	a.history[a.version] = maps.Clone(a.rib)
	for i := range count {
		e := event.Event{Kind: event.Snapshot, Version: a.version, Chunk: event.Chunk{Index: i, Count: count}}
		for j, x := range list {
			if j%count == i {
				e.Announce = append(e.Announce, x)
			}
		}
		a.publish(e)
	}
}

// change announces or withdraws a few prefixes in one delta.
func (a *agent) change(t *rapid.T) {
	e := event.Event{Kind: event.Delta}
	for _, i := range rapid.SliceOfNDistinct(rapid.IntRange(0, 5), 1, 3, rapid.ID).Draw(t, "prefixes") {
		p := prefix(i)
		if _, have := a.rib[p]; have && rapid.Bool().Draw(t, "withdraw") {
			delete(a.rib, p)
			e.Withdraw = append(e.Withdraw, p)
			continue
		}
		a.rib[p] = route.Attrs{Metric: rapid.Uint32Range(0, 2).Draw(t, "metric")}
		e.Announce = append(e.Announce, route.Entry{Prefix: p, Attrs: a.rib[p]})
	}
	a.publish(e)
}

// start begins a new epoch: sometimes with another RIB, always with a snapshot.
func (a *agent) start(t *rapid.T) {
	a.version = event.Version{Epoch: a.version.Epoch + rapid.Uint64Range(1, 3).Draw(t, "epoch")}
	a.beat = 1
	for i := range 6 {
		switch rapid.IntRange(0, 2).Draw(t, "relearn") {
		case 0:
			delete(a.rib, prefix(i))
		case 1:
			a.rib[prefix(i)] = route.Attrs{}
		}
	}
	a.snapshot(rapid.IntRange(1, 3).Draw(t, "chunks"))
}

// switchFires publishes the expired of a switch that was armed at some time: it may be outdated.
func (a *agent) switchFires(t *rapid.T) {
	a.publish(event.Event{Kind: event.Expired, Version: a.version, Beat: rapid.Uint64Range(1, a.beat).Draw(t, "beat")})
}

// live lets an agent run for some steps over several epochs.
func live(t *rapid.T) *agent {
	a := &agent{rib: map[netip.Prefix]route.Attrs{}, history: map[event.Version]map[netip.Prefix]route.Attrs{}}
	a.start(t)
	for range rapid.IntRange(0, 14).Draw(t, "steps") {
		switch rapid.IntRange(0, 11).Draw(t, "step") {
		case 0, 1, 2, 3:
			a.change(t)
		case 4, 5:
			a.snapshot(rapid.IntRange(1, 3).Draw(t, "chunks"))
		case 6:
			a.beat++
			a.publish(event.Event{Kind: event.Alive})
		case 7:
			a.switchFires(t)
		case 8:
			a.publish(event.Event{Kind: rapid.SampledFrom([]event.Kind{event.Draining, event.Goodbye}).Draw(t, "notice"), Reason: "planned"})
		case 9:
			a.start(t)
		case 10, 11:
			a.look(t)
		}
	}
	return a
}

func epochTime(i int) time.Time { return time.Unix(1_780_000_000+int64(i), 0).UTC() }

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// merged returns the document after the events, in the order given.
func merged(t fataler, events []event.Event) *state.NVA {
	t.Helper()
	return mergeInto(t, state.NewNVA("hub", "nva-a"), events)
}

func mergeInto(t fataler, n *state.NVA, events []event.Event) *state.NVA {
	t.Helper()
	for i, e := range events {
		if _, err := n.Merge(e, epochTime(i)); err != nil {
			t.Fatalf("merge %s: %v", e.ID(), err)
		}
	}
	return n
}

// view is the part of a document that must not depend on the order of events. LastSeen, Since, Turned, Losses, Revision and Clone do, by nature.
type view struct {
	RIB                                          []route.Entry
	Facts                                        map[netip.Prefix]state.Fact
	Partial                                      map[event.Version]state.Chunks
	Floor, Claim                                 event.Version
	Seen                                         []state.Span
	Epoch                                        uint64
	Boot                                         string
	Digest                                       route.Digest
	Alive, Expired                               state.Beat
	Notice                                       state.Notice
	Report                                       event.Report
	Reported                                     event.Version
	Heard, Silent, Draining, Restarting, Differs bool
	Missing                                      uint64
}

func viewOf(n *state.NVA) view {
	missing, differs := n.Gap()
	facts := maps.Clone(n.Facts) // Since depends on the order of arrival, by its meaning
	for p, f := range facts {
		f.Since = time.Time{}
		facts[p] = f
	}
	return view{
		RIB: n.RIB(), Facts: facts, Partial: n.Partial, Floor: n.Floor, Claim: n.Claim, Seen: n.Seen, Epoch: n.Epoch, Boot: n.Boot, Digest: n.Digest,
		Alive: n.Alive, Expired: n.Expired, Notice: n.Notice, Report: n.Report, Reported: n.Reported, Heard: n.Heard(), Silent: n.Silent(), Draining: n.Draining(), Restarting: n.Restarting(),
		Missing: missing, Differs: differs,
	}
}

func diff(a, b any) string {
	return cmp.Diff(a, b, cmp.Comparer(func(x, y netip.Prefix) bool { return x == y }), cmp.Comparer(func(x, y netip.Addr) bool { return x == y }),
		cmp.Comparer(slices.Equal[[]state.Span]))
}
