package publish_test

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/route"
)

// receiver is the least that a receiver must do: the last writer wins per prefix, a complete snapshot sweeps what is older, and the
// highest beat decides.
type receiver struct {
	facts   map[netip.Prefix]fact
	chunks  map[event.Version]map[int]bool
	floor   event.Version
	alive   [2]uint64 // epoch, beat
	expired [2]uint64
	digests map[event.Version]route.Digest

	report   event.Report
	reported event.Version // of report
}

type fact struct {
	version event.Version
	attrs   route.Attrs
	gone    bool
}

func newReceiver() *receiver {
	return &receiver{
		facts: map[netip.Prefix]fact{}, chunks: map[event.Version]map[int]bool{}, digests: map[event.Version]route.Digest{},
	}
}

func (r *receiver) take(e event.Event) {
	beat := [2]uint64{e.Version.Epoch, e.Beat}
	if e.Kind == event.Expired {
		r.expired = slices.MaxFunc([][2]uint64{r.expired, beat}, compareBeats)
		return
	}
	r.alive = slices.MaxFunc([][2]uint64{r.alive, beat}, compareBeats)
	r.digests[e.Version] = e.Digest
	if e.Reports() && e.Version.Compare(r.reported) > 0 {
		r.report, r.reported = e.Report, e.Version
	}
	set := func(p netip.Prefix, f fact) {
		if old, ok := r.facts[p]; f.version.Compare(r.floor) >= 0 && (!ok || f.version.Compare(old.version) > 0) {
			r.facts[p] = f
		}
	}
	for _, a := range e.Announce {
		set(a.Prefix, fact{version: e.Version, attrs: a.Attrs})
	}
	for _, p := range e.Withdraw {
		set(p, fact{version: e.Version, gone: true})
	}
	if e.Kind == event.Snapshot && e.Version.Compare(r.floor) > 0 {
		if r.chunks[e.Version] == nil {
			r.chunks[e.Version] = map[int]bool{}
		}
		r.chunks[e.Version][e.Chunk.Index] = true
		if len(r.chunks[e.Version]) == e.Chunk.Count {
			r.floor = e.Version
			maps.DeleteFunc(r.facts, func(_ netip.Prefix, f fact) bool { return f.version.Compare(r.floor) < 0 })
		}
	}
}

func compareBeats(a, b [2]uint64) int { return slices.Compare(a[:], b[:]) }

func (r *receiver) silent() bool {
	return r.expired[0] > 0 && compareBeats(r.expired, r.alive) >= 0
}

func (r *receiver) routes() []route.Entry {
	out := []route.Entry{}
	for p, f := range r.facts {
		if !f.gone {
			out = append(out, route.Entry{Prefix: p, Attrs: f.attrs})
		}
	}
	event.Sort(out)
	return out
}

func digestOf(entries []route.Entry) route.Digest {
	var d route.Digest
	for _, e := range entries {
		d = d.Add(e)
	}
	return d
}

// scheduled is a switch that the bus holds.
type scheduled struct {
	at    time.Time
	event event.Event
}

// answer is the result of a call on its way back to the machine that made it.
type answer struct {
	at    time.Time
	give  func()
	epoch uint64
}

// world is an agent, a bus that loses, doubts, delays and reorders, and a receiver.
type world struct {
	t        *rapid.T
	now      time.Time
	skew     time.Duration // how far the broker's clock is ahead of the agent's
	cfg      publish.Config
	rib      *rib.RIB
	report   event.Report // what the agent sees
	machine  *publish.Machine
	alive    bool
	healthy  bool // the bus does what it is asked
	answers  []answer
	switches map[int64]scheduled
	numbers  int64
	wire     []event.Event // accepted, not yet received
	receiver *receiver
	wake     time.Time
	seen     map[event.Version]event.Kind
	beats    map[string]bool // IDs of switches
	flying   int
	sent     int // events, in all
}

func newWorld(t *rapid.T) *world {
	w := &world{
		t: t, now: time.Unix(1_800_000_000, 0), switches: map[int64]scheduled{}, receiver: newReceiver(), seen: map[event.Version]event.Kind{}, beats: map[string]bool{},
		cfg: publish.Config{
			Domain: "lab", NVA: "nva1", Boot: "boot", Gather: publish.Gather{Quiet: 100 * time.Millisecond, Max: time.Second},
			Beat: publish.Beat{Every: 5 * time.Second, Timeout: 15 * time.Second}, Snapshot: 10 * time.Minute, Restart: 2 * time.Minute,
			MaxBytes: 1200, // three or so prefixes an event
		},
	}
	w.boot()
	return w
}

// boot starts an agent with the next epoch; its RIB is empty until its source reports.
func (w *world) boot() {
	w.cfg.Epoch++
	w.cfg.Boot = fmt.Sprintf("boot-%d", w.cfg.Epoch)
	w.rib, w.report = rib.New(rib.Filter{}, "source"), event.Report{}
	w.machine = publish.New(w.cfg, w.rib)
	w.alive, w.flying = true, 0
	w.answers = nil
	w.perform()
}

func (w *world) perform() {
	e := w.machine.Next(w.now)
	w.wake = e.Wake
	if len(e.Publish) > 0 {
		w.publish(e.Publish)
	}
	if e.Schedule != nil {
		w.schedule(*e.Schedule)
	}
	for _, c := range e.Cancel {
		w.cancel(c)
	}
}

// outcome of a call: whether the bus did it, and what the agent hears.
type outcome struct {
	done bool
	err  error
}

func (w *world) outcome() outcome {
	if w.healthy {
		return outcome{done: true}
	}
	lost := errors.New("link broken")
	return rapid.SampledFrom([]outcome{
		{done: true},
		{done: true},
		{true, lost},
		{false, lost},
		{false, fault.New(fault.Denied, "no right")},
		{false, fault.New(fault.Throttled, "busy")},
	}).Draw(w.t, "outcome")
}

func (w *world) answer(give func()) {
	delay := time.Millisecond
	if !w.healthy {
		delay = time.Duration(rapid.IntRange(0, 10_000).Draw(w.t, "delay")) * time.Millisecond
	}
	w.answers = append(w.answers, answer{at: w.now.Add(delay), give: give, epoch: w.cfg.Epoch})
}

func (w *world) publish(events []event.Event) {
	w.flying++
	if w.flying > 1 {
		w.t.Fatalf("%d batches in flight", w.flying)
	}
	w.sent += len(events)
	for _, e := range events {
		w.check(e)
	}
	o := w.outcome()
	accepted := len(events)
	if !o.done {
		accepted = 0
	} else if o.err != nil {
		accepted = rapid.IntRange(0, len(events)).Draw(w.t, "accepted")
	}
	w.wire = append(w.wire, events[:accepted]...)
	w.answer(func() { w.flying--; w.machine.Published(w.now, o.err) })
}

// check asserts what holds of every event: versions are not used twice, an epoch begins with a snapshot, and it can be encoded.
func (w *world) check(e event.Event) {
	kind, used := w.seen[e.Version]
	if used && (kind != event.Snapshot || e.Kind != event.Snapshot) {
		w.t.Fatalf("version %s is used twice", e.Version)
	}
	w.seen[e.Version] = e.Kind
	if e.Version.Seq == 1 && e.Kind != event.Snapshot && e.Kind != event.Draining {
		w.t.Fatalf("epoch %d begins with %s", e.Version.Epoch, e.Kind)
	}
	body, err := event.Encode(e)
	if err != nil {
		w.t.Fatal(err)
	}
	if len(body) > w.cfg.MaxBytes {
		w.t.Fatalf("%s has %d bytes", e.ID(), len(body))
	}
}

func (w *world) schedule(s publish.Schedule) {
	if _, err := event.Encode(s.Event); err != nil {
		w.t.Fatal(err)
	}
	if id := s.Event.ID(); w.beats[id] {
		w.t.Fatalf("beat %s is used twice", id)
	} else {
		w.beats[id] = true
	}
	o := w.outcome()
	w.numbers++
	number := w.numbers
	if o.done {
		w.switches[number] = scheduled{at: s.At, event: s.Event}
	}
	w.answer(func() { w.machine.Scheduled(w.now, s, number, o.err) })
}

func (w *world) cancel(c publish.Cancel) {
	o := w.outcome()
	if _, ok := w.switches[c.Sequence]; !ok && o.err == nil {
		o.err = fault.New(fault.NotFound, "no message %d", c.Sequence)
	}
	if o.done {
		delete(w.switches, c.Sequence)
	}
	w.answer(func() { w.machine.Cancelled(w.now, c, o.err) })
}

// advance lets time pass: answers, switches and wake-ups in their order.
func (w *world) advance(d time.Duration) {
	end := w.now.Add(d)
	for steps := 0; ; steps++ {
		if steps > 100_000 {
			w.t.Fatal("the machine does not come to rest")
		}
		next := end
		for _, a := range w.answers {
			next = earliest(next, a.at)
		}
		for _, s := range w.switches {
			next = earliest(next, s.at.Add(-w.skew))
		}
		if w.alive && !w.wake.IsZero() {
			next = earliest(next, w.wake)
		}
		if next.After(w.now) {
			w.now = next
		}
		if !w.turn() && w.now.Equal(end) {
			return
		}
	}
}

func earliest(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// turn does what is due now and reports whether there was anything.
func (w *world) turn() bool {
	acted := false
	for _, number := range slices.Sorted(maps.Keys(w.switches)) {
		if s := w.switches[number]; !s.at.Add(-w.skew).After(w.now) {
			w.wire = append(w.wire, s.event)
			delete(w.switches, number)
			acted = true
		}
	}
	for i := 0; i < len(w.answers); {
		if w.answers[i].at.After(w.now) {
			i++
			continue
		}
		a := w.answers[i]
		w.answers = slices.Delete(w.answers, i, i+1)
		if w.alive && a.epoch == w.cfg.Epoch {
			a.give()
			w.perform()
		}
		acted = true
	}
	if w.alive && !w.wake.IsZero() && !w.wake.After(w.now) {
		w.perform()
		acted = true
	}
	return acted
}

// deliver hands what is on the wire to the receiver, in any order, some of it twice.
func (w *world) deliver() {
	order := rapid.Permutation(w.wire).Draw(w.t, "order")
	for i, e := range order {
		w.receiver.take(e)
		if i%3 == 0 {
			w.receiver.take(e)
		}
	}
	w.wire = nil
}

var testPrefixes = func() []netip.Prefix {
	var out []netip.Prefix
	for i := range 12 {
		out = append(out, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 16))
	}
	return out
}()

func drawRoutes(t *rapid.T, least int) []source.Route {
	prefixes := rapid.SliceOfNDistinct(rapid.SampledFrom(testPrefixes), least, len(testPrefixes), rapid.ID[netip.Prefix]).Draw(t, "prefixes")
	out := make([]source.Route, len(prefixes))
	for i, p := range prefixes {
		out[i] = source.Route{Prefix: p, Metric: uint32(rapid.IntRange(0, 2).Draw(t, "metric")), Origin: "bgp"}
	}
	return out
}

// observe gives the machine a report that differs from the last one, or not.
func (w *world) observe() {
	check := func(name string) event.Check {
		return rapid.SampledFrom([]event.Check{event.Absent, event.Passed, event.Failed}).Draw(w.t, name)
	}
	text := func(name string) string { return rapid.SampledFrom([]string{"", "why"}).Draw(w.t, name) }
	w.report = event.Report{SelfCheck: check("self-check"), SelfTest: check("self-test"), Drain: text("drain"), Reason: text("reason")}
	for _, nva := range []string{"nva2", "nva3"} {
		if rapid.Bool().Draw(w.t, "watched") {
			w.report.Peers = append(w.report.Peers, event.Peer{NVA: nva, Reachable: rapid.Bool().Draw(w.t, "reachable"), Deaf: rapid.Bool().Draw(w.t, "deaf")})
		}
	}
	for _, session := range []string{"bird", "frr"} {
		if rapid.Bool().Draw(w.t, "lost") {
			w.report.ControlLost = append(w.report.ControlLost, event.Session{Name: session})
		}
	}
	w.machine.Reported(w.now, w.report)
	w.perform()
}

func (w *world) replace() {
	changes := w.rib.Replace(0, drawRoutes(w.t, 0))
	if w.rib.Ready() {
		w.machine.Ready(w.now)
	}
	w.machine.Changed(w.now, changes)
	w.perform()
}

func (w *world) update() {
	if !w.rib.Ready() {
		return
	}
	all := drawRoutes(w.t, 1)
	half := len(all) / 2
	var gone []netip.Prefix
	for _, r := range all[half:] {
		gone = append(gone, r.Prefix)
	}
	w.machine.Changed(w.now, w.rib.Update(0, all[:half], gone))
	w.perform()
}

// TestConverges: after any history of changes, failures and restarts, once the bus is well and time passes, the receiver holds the RIB
// and the report, and does not take the NVA for silent; once the agent dies it does.
func TestConverges(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.skew = time.Duration(rapid.SampledFrom([]int{0, 0, 0, 3, 40, -40}).Draw(rt, "skew")) * time.Second
		rt.Repeat(map[string]func(*rapid.T){
			"replace": func(*rapid.T) { w.replace() },
			"update":  func(*rapid.T) { w.update() },
			"observe": func(*rapid.T) { w.observe() },
			"time":    func(t *rapid.T) { w.advance(time.Duration(rapid.IntRange(0, 40_000).Draw(t, "ms")) * time.Millisecond) },
			"health":  func(t *rapid.T) { w.healthy = rapid.Bool().Draw(t, "healthy") },
			"deliver": func(*rapid.T) { w.deliver() },
			"restart": func(t *rapid.T) {
				if rapid.Bool().Draw(t, "orderly") {
					w.machine.Stop(w.now, event.Goodbye, "upgrade")
					w.perform()
					w.advance(3 * time.Second)
				}
				w.boot()
			},
			"": func(*rapid.T) {
				if s := w.machine.Status(); s.Pending > len(testPrefixes) {
					w.t.Fatalf("%d prefixes are pending of %d", s.Pending, len(testPrefixes))
				}
			},
		})
		w.healthy = true
		if !w.rib.Ready() {
			w.replace()
		}
		w.advance(5 * time.Minute) // less than until the next periodic snapshot, which would heal anything
		w.deliver()
		want := w.rib.Entries()
		if got := w.receiver.routes(); !slices.Equal(got, want) {
			rt.Fatalf("the receiver holds\n%v\nwant\n%v", got, want)
		}
		newest := slices.MaxFunc(slices.Collect(maps.Keys(w.receiver.digests)), event.Version.Compare)
		if got := w.receiver.digests[newest]; got != digestOf(want) {
			rt.Fatalf("event %s says digest %s, want %s", newest, got, digestOf(want))
		}
		if !w.receiver.report.Equal(w.report) {
			rt.Fatalf("the receiver holds the report\n%+v of %s\nwant\n%+v", w.receiver.report, w.receiver.reported, w.report)
		}
		if w.receiver.silent() {
			rt.Fatalf("a living agent is silent: expired %v, alive %v, %+v", w.receiver.expired, w.receiver.alive, w.machine.Status())
		}
		w.alive = false
		w.advance(11 * time.Minute)
		w.deliver()
		if !w.receiver.silent() {
			rt.Fatalf("a dead agent is not silent: expired %v, alive %v", w.receiver.expired, w.receiver.alive)
		}
	})
}

// TestDigestFollowsEveryDelta: the digest of an event is that of the RIB after it, also between the parts of a delta that was cut.
func TestDigestFollowsEveryDelta(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.healthy = true
		w.replace()
		w.advance(time.Second)
		for range rapid.IntRange(1, 5).Draw(rt, "rounds") {
			w.update()
			w.observe()
			w.advance(2 * time.Second)
			held := map[netip.Prefix]route.Attrs{}
			slices.SortStableFunc(w.wire, func(a, b event.Event) int { return a.Version.Compare(b.Version) })
			for i, e := range w.wire {
				for _, a := range e.Announce {
					held[a.Prefix] = a.Attrs
				}
				for _, p := range e.Withdraw {
					delete(held, p)
				}
				var d route.Digest
				for p, a := range held {
					d = d.Add(route.Entry{Prefix: p, Attrs: a})
				}
				if last := e.Chunk.Index+1 == e.Chunk.Count || e.Kind != event.Snapshot; last && d != e.Digest {
					rt.Fatalf("event %d %s %s says digest %s, want %s", i, e.Kind, e.Version, e.Digest, d)
				}
			}
		}
	})
}

// TestFlappingReportsAreBounded: however a report changes, there are at most two witness events a second, and the last state is said.
func TestFlappingReportsAreBounded(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		w := newWorld(rt)
		w.healthy = true
		w.replace()
		w.advance(time.Second)
		var span time.Duration
		for range rapid.IntRange(1, 200).Draw(rt, "changes") {
			w.observe()
			step := time.Duration(rapid.IntRange(0, 100).Draw(rt, "ms")) * time.Millisecond
			span += step
			w.advance(step)
		}
		w.advance(time.Second)
		said := 0
		for _, kind := range w.seen {
			if kind == event.Witness {
				said++
			}
		}
		if most := 2 + int(span/(500*time.Millisecond)); said > most {
			rt.Fatalf("%d witness events in %s, want at most %d", said, span, most)
		}
		w.deliver()
		if !w.receiver.report.Equal(w.report) {
			rt.Fatalf("the receiver holds the report %+v, want %+v", w.receiver.report, w.report)
		}
	})
}
