package reconcile_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/reconcile"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

const (
	tableID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/spokes"
	lease   = 30 * time.Second
	mine    = "pointsman-"
)

// domainFile is the domain of the tests; price is policy.writePrice.
func domainFile(price, rest string) string {
	return `
domain: hub
policy: {silence: down, holdDown: 0s, writePrice: ` + price + `}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-b, nextHops: [10.0.0.5], preference: 100, allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: spokes, routeTable: ` + tableID + rest + `}
`
}

var (
	hopA = netip.MustParseAddr("10.0.0.4")
	hopB = netip.MustParseAddr("10.0.0.5")
)

func prefix(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(n), 0}), 24)
}

func prefixes(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = prefix(i)
	}
	return out
}

// fate is what happens to one call of a port: {done, not done} x {answered, failed, the process dies}.
type fate struct {
	skip  bool // it takes no effect
	err   error
	crash bool
}

// world is everything outside of a run: documents, tables, a queue with scheduled messages, and a clock that only moves when it is told to.
type world struct {
	t        *testing.T
	now      time.Time
	blobs    map[string]value
	version  int
	history  []string
	tables   map[string]*table
	queue    []*delivery
	sent     map[string]bool // ids, for duplicate detection
	runs     int
	seqs     map[string]uint64
	sequence int64 // of the last message
	log      strings.Builder
	ops      []string // calls of ports by runs, in order
	gets     int
	puts     int // that were applied
	meddle   func(op string)
	fate     func(op string) fate
	sameMove bool            // writing the same content moves the ETag
	noECMP   bool            // the region takes no routes with several next hops
	refused  int             // writes that it has refused for that
	told     []outcome.Event // what the topic took
	mute     bool            // there is no topic
	record   *telemetry.Record
	subnets  map[string][]netip.Prefix
	hub      *hub // the Route Server; nil: there is none
}

type value struct {
	data []byte
	etag string
}

// table is a route table. behind holds the revisions of the NVAs' documents that its content rests on.
type table struct {
	etag   int
	failed bool // the last write was accepted and then failed
	routes []plan.Route
	behind map[string]uint64

	subnets []string // that use it
}

// delivery is a message in the queue.
type delivery struct {
	message.Message
	sequence int64
	due      time.Time
	count    int
	held     bool
	lock     int // changes when the lock passes to another or runs out
}

// release gives the message back.
func (d *delivery) release() {
	d.held = false
	d.lock++
}

func newWorld(t *testing.T, domain string) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), blobs: map[string]value{}, tables: map[string]*table{}, sent: map[string]bool{},
		seqs: map[string]uint64{}, sameMove: true,
		fate: func(string) fate { return fate{} }, meddle: func(string) {},
	}
	w.tables[tableID] = &table{etag: 1, routes: []plan.Route{
		plan.NewRoute("to-firewall", "0.0.0.0/0", plan.VirtualAppliance, netip.MustParseAddr("10.9.9.9")),
		plan.NewRoute("drop", "10.64.200.0/24", "None", netip.Addr{}),
		plan.NewRoute(mine+"of-somebody-else", "10.50.0.0/16", plan.VirtualAppliance, netip.MustParseAddr("10.8.0.4")),
	}}
	w.upload(domain)
	return w
}

func (w *world) upload(domain string) { w.put("domains/hub.yaml", []byte(domain)) }

func (w *world) put(name string, data []byte) {
	w.version++
	w.blobs[name] = value{data, fmt.Sprint(w.version)}
}

// actor is one run's view of the world: the adapters of one call of the function.
type actor struct {
	*world
	step func(op string)   // before every call of a port
	seen map[string]uint64 // revisions of the NVAs' documents as it last read them
}

// dies unwinds a run that is killed.
type dies struct{}

func (a *actor) call(op string, effect func() error) error {
	a.step(op)
	a.ops = append(a.ops, op)
	a.meddle(op)
	f := a.fate(op)
	var err error
	if !f.skip {
		err = effect()
	}
	if f.crash {
		panic(dies{})
	}
	if f.err != nil {
		return f.err
	}
	return err
}

func (a *actor) Read(_ context.Context, name, known string) (data []byte, etag string, err error) {
	err = a.call("read "+name, func() error {
		v, ok := a.blobs[name]
		if !ok {
			return fault.New(fault.NotFound, "no blob %s", name)
		}
		if etag = v.etag; etag != known {
			data = slices.Clone(v.data)
		}
		if doc, bad := state.DecodeNVA(v.data); bad == nil && strings.HasPrefix(name, "nvas/") {
			a.seen[doc.Name] = doc.Revision
		}
		return nil
	})
	return data, etag, err
}

func (a *actor) Write(_ context.Context, name string, data []byte, ifMatch string) (etag string, err error) {
	err = a.call("write "+name, func() error {
		if a.blobs[name].etag != ifMatch {
			return fault.New(fault.Conflict, "blob %s has another ETag", name)
		}
		a.put(name, data)
		etag = a.blobs[name].etag
		if name == "targets/hub/spokes.json" {
			a.rests(a.document())
		}
		return nil
	})
	return etag, err
}

// rests notes what a recorded result says of the table: from now on it rests on these revisions.
func (w *world) rests(doc *state.Target) {
	t := w.tables[doc.Table]
	if t != nil && (doc.Result.Outcome == state.Unchanged || doc.Result.Outcome == state.Written) {
		t.behind = newest(t.behind, doc.Applied)
	}
}

func newest(a, b map[string]uint64) map[string]uint64 {
	out := map[string]uint64{}
	for name := range b {
		out[name] = max(a[name], b[name])
	}
	return out
}

func (a *actor) List(context.Context, string) ([]string, error) {
	a.t.Fatal("a reconcile lists nothing")
	return nil, nil
}

func (a *actor) Append(_ context.Context, _ string, line []byte) error {
	return a.call("append", func() error { a.history = append(a.history, string(line)); return nil })
}

func (a *actor) Get(_ context.Context, id string) (got plan.Table, err error) {
	err = a.call("get", func() error {
		a.gets++
		t, ok := a.tables[id]
		if !ok {
			return fault.New(fault.NotFound, "no table %s", id)
		}
		got = plan.Table{ID: id, ETag: fmt.Sprint(t.etag), Routes: slices.Clone(t.routes), Failed: t.failed, Subnets: t.subnets}
		return nil
	})
	return got, err
}

// Put checks what must hold for every write: it is conditional, touches no route but Pointsman's, and never rests on older documents than
// the table did.
func (a *actor) Put(_ context.Context, read plan.Table, edit plan.Edit) error {
	if read.ETag == "" {
		a.t.Fatal("a write without a condition")
	}
	return a.call("put", func() error {
		if a.noECMP && edit.ECMP() {
			a.refused++
			return &fault.Error{Kind: fault.Refused, Code: fault.CodeNoECMP, Err: errors.New("no route of several next hops here")}
		}
		t := a.tables[read.ID]
		if fmt.Sprint(t.etag) != read.ETag {
			return fault.New(fault.Conflict, "the ETag of the table does not match")
		}
		a.puts++
		t.failed = false
		if !edit.Empty() || a.sameMove {
			t.etag++
		}
		if edit.Empty() {
			return nil
		}
		for name, revision := range t.behind {
			if a.sameMove && a.seen[name] < revision {
				a.t.Errorf("I2: a write that rests on revision %d of %s replaced one that rested on %d", a.seen[name], name, revision)
			}
		}
		t.behind = newest(t.behind, a.seen)
		t.apply(a.t, edit)
		return nil
	})
}

func (t *table) apply(tb testing.TB, edit plan.Edit) {
	tb.Helper()
	gone := func(r plan.Route) bool {
		return slices.Contains(edit.Delete, r.Name) || slices.ContainsFunc(edit.Put, func(n plan.Route) bool { return n.Name == r.Name })
	}
	for _, r := range t.routes {
		if gone(r) && (!strings.HasPrefix(r.Name, mine+"10-64-")) {
			tb.Errorf("I1: the edit touches %s", r.Name)
		}
	}
	t.routes = append(slices.DeleteFunc(slices.Clone(t.routes), gone), edit.Put...)
	for i, r := range t.routes {
		if slices.ContainsFunc(t.routes[:i], func(o plan.Route) bool { return o.Prefix == r.Prefix }) {
			tb.Errorf("two routes for %s: Azure would refuse them", r.Prefix)
		}
	}
}

func (a *actor) Send(_ context.Context, w wake.Wake, at time.Time) error {
	kind, _, _ := strings.Cut(w.Cause, "/")
	return a.call("send "+kind, func() error { a.enqueue(w, at); return nil })
}

// Publish is the topic of outcome events.
func (a *actor) Publish(_ context.Context, events []outcome.Event) error {
	return a.call("publish", func() error { a.told = append(a.told, events...); return nil })
}

func cause(m message.Message) string {
	w, err := wake.Decode(m.Body)
	if err != nil {
		return "?"
	}
	kind, _, _ := strings.Cut(w.Cause, "/")
	return kind
}

// enqueue puts a wake on the bus.
func (w *world) enqueue(news wake.Wake, at time.Time) {
	w.t.Helper()
	m, err := news.Message()
	if err != nil {
		w.t.Fatal(err)
	}
	if w.sent[m.ID] {
		return // duplicate detection
	}
	w.sent[m.ID] = true
	if at.Before(w.now) {
		at = w.now
	}
	w.sequence++
	w.queue = append(w.queue, &delivery{Message: m, sequence: w.sequence, due: at})
}

// function returns the function over an actor's ports.
func (w *world) function(a *actor) *reconcile.Reconcile {
	r := &reconcile.Reconcile{
		Store: documents.NewStore(a, 1), Tables: a, Subnets: a, Wakes: a, Topic: a, Now: func() time.Time { return w.now }, NewRun: w.newRun, Lease: lease,
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if w.mute {
		r.Topic = nil
	}
	if w.hub != nil {
		r.Peers, r.Learned = hubPort{a}, hubPort{a}
	}
	return r
}

func (w *world) newRun() string {
	w.runs++
	return fmt.Sprintf("run-%d", w.runs)
}

// calls starts a run for a message. Every step of the sequence is a call of a port that is about to be made; when the sequence has ended the
// message was settled, as completed or given back.
func (w *world) calls(d *delivery) iter.Seq[string] {
	d.held = true
	d.count++
	d.lock++
	lock := d.lock
	return func(yield func(string) bool) {
		a := &actor{world: w, seen: map[string]uint64{}}
		a.step = func(op string) {
			if !yield(op) {
				panic(dies{})
			}
		}
		defer func() {
			if p := recover(); p != nil {
				if p != (dies{}) {
					panic(p)
				}
				w.settle(d, lock, errors.New("its lock runs out"))
			}
		}()
		err := w.function(a).Handle(telemetry.With(w.t.Context(), w.record), invocation.Message{Body: d.Body, ID: d.ID, DeliveryCount: d.count, SequenceNumber: d.sequence})
		w.settle(d, lock, err)
	}
}

// settle completes a message or gives it back, if its lock still holds.
func (w *world) settle(d *delivery, lock int, err error) {
	switch {
	case d.lock != lock:
	case err != nil:
		d.release()
	default:
		w.queue = slices.DeleteFunc(w.queue, func(q *delivery) bool { return q == d })
	}
}

// deliver runs one message to its end.
func (w *world) deliver(d *delivery) {
	for range w.calls(d) {
		continue
	}
}

// meanwhile does something once, when a run that has written is about to save its result.
func (w *world) meanwhile(do func()) (done *bool) {
	done = new(bool)
	w.meddle = func(op string) {
		if *done || op != "write targets/hub/spokes.json" || w.puts == 0 {
			return
		}
		*done = true
		do()
	}
	return done
}

// next returns the first message that can be delivered.
func (w *world) next() *delivery {
	var first *delivery
	for _, d := range w.queue {
		if !d.held && !d.due.After(w.now) && (first == nil || d.due.Before(first.due)) {
			first = d
		}
	}
	return first
}

// rest delivers everything, moving the clock on where messages are scheduled.
func (w *world) rest() {
	w.t.Helper()
	for range 500 {
		if d := w.next(); d != nil {
			w.deliver(d)
			continue
		}
		if len(w.queue) == 0 {
			return
		}
		soonest := slices.MinFunc(w.queue, func(a, b *delivery) int { return a.due.Compare(b.due) })
		if !soonest.due.After(w.now) {
			w.t.Fatal("a message is held and nobody works on it")
		}
		w.now = soonest.due
	}
	w.t.Fatalf("no rest after 500 messages\n%s", w.log.String())
}

// said merges an event as ingest does and sends the wake.
func (w *world) said(nva string, kind event.Kind, edit func(*event.Event)) {
	w.t.Helper()
	if kind != event.Expired {
		w.seqs[nva]++
	}
	e := event.Event{Domain: "hub", NVA: nva, Kind: kind, Version: event.Version{Epoch: 1, Seq: w.seqs[nva]}, Boot: "boot-" + nva, Beat: w.seqs[nva]}
	if kind == event.Snapshot {
		e.Chunk.Count = 1
	}
	if edit != nil {
		edit(&e)
	}
	doc := w.nva(nva)
	before := doc.Revision
	if _, err := doc.Merge(e, w.now); err != nil {
		w.t.Fatal(err)
	}
	body, err := state.EncodeNVA(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put("nvas/hub/"+nva+".json", body)
	if doc.Revision != before {
		w.wake(fmt.Sprintf("%s/%d", nva, doc.Revision))
	}
}

func (w *world) nva(name string) *state.NVA {
	w.t.Helper()
	v, ok := w.blobs["nvas/hub/"+name+".json"]
	if !ok {
		return state.NewNVA("hub", name)
	}
	doc, err := state.DecodeNVA(v.data)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

func announce(ps ...netip.Prefix) func(*event.Event) {
	return func(e *event.Event) {
		for _, p := range ps {
			e.Announce = append(e.Announce, route.Entry{Prefix: p})
		}
	}
}

func withdraw(ps ...netip.Prefix) func(*event.Event) {
	return func(e *event.Event) { e.Withdraw = ps }
}

func (w *world) wake(cause string) {
	w.t.Helper()
	w.wakeTarget("spokes", cause)
	if w.hub != nil {
		w.wakeTarget("rs", cause)
	}
}

func (w *world) wakeTarget(target, cause string) {
	w.t.Helper()
	w.enqueue(wake.Wake{Domain: "hub", Target: target, Cause: cause}, w.now)
}

// document returns the target's document as saved.
func (w *world) document() *state.Target {
	w.t.Helper()
	v, ok := w.blobs["targets/hub/spokes.json"]
	if !ok {
		return state.NewTarget("hub", "spokes", tableID)
	}
	doc, err := state.DecodeTarget(v.data)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

func (w *world) edit(change func(*state.Target)) {
	w.t.Helper()
	doc := w.document()
	change(doc)
	body, err := state.EncodeTarget(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put("targets/hub/spokes.json", body)
}

// desired is the answer by definition, written down without the code under test: the preferred NVA that is up and announces the prefix; where
// none is up, any that announces it.
func (w *world) desired() map[netip.Prefix][]netip.Addr {
	docs := map[netip.Addr]*state.NVA{hopA: w.nva("nva-a"), hopB: w.nva("nva-b")}
	frozen := true
	for _, d := range docs {
		frozen = frozen && (!d.Heard() || d.Silent())
	}
	out := map[netip.Prefix][]netip.Addr{}
	for p := range prefixSet(docs) {
		var up, any []netip.Addr
		for _, hop := range []netip.Addr{hopA, hopB} {
			if _, announces := docs[hop].Announces(p); announces {
				any = append(any, hop)
				if !docs[hop].Silent() {
					up = append(up, hop)
				}
			}
		}
		switch {
		case len(up) > 0 && !frozen:
			out[p] = up[:1]
		case len(any) > 0:
			out[p] = any
		}
	}
	return out
}

func prefixSet(docs map[netip.Addr]*state.NVA) map[netip.Prefix]bool {
	out := map[netip.Prefix]bool{}
	for _, d := range docs {
		for _, e := range d.RIB() {
			out[e.Prefix] = true
		}
	}
	return out
}

// wrong compares the table with the desired routes: every one there, with an allowed next hop, and none left over (I3, I4).
func (w *world) wrong() string {
	want := w.desired()
	var wrong []string
	for _, r := range w.tables[tableID].routes {
		if !strings.HasPrefix(r.Name, mine+"10-64-") {
			delete(want, r.Prefix) // an unmanaged route holds the prefix
			continue
		}
		if !slices.Contains(want[r.Prefix], r.NextHops.First()) {
			wrong = append(wrong, fmt.Sprintf("%s via %s, want %v", r.Prefix, r.NextHops, want[r.Prefix]))
		}
		delete(want, r.Prefix)
	}
	for p, hops := range want {
		wrong = append(wrong, fmt.Sprintf("no route for %s, want %v", p, hops))
	}
	slices.Sort(wrong)
	return strings.Join(wrong, "; ")
}

// unmanaged returns the routes of others.
func (w *world) unmanaged() []plan.Route {
	return slices.DeleteFunc(slices.Clone(w.tables[tableID].routes), func(r plan.Route) bool { return strings.HasPrefix(r.Name, mine+"10-64-") })
}

// orphans returns routes that Pointsman wrote and does not know of any more.
func (w *world) orphans() []string {
	var out []string
	for _, r := range w.tables[tableID].routes {
		if strings.HasPrefix(r.Name, mine+"10-64-") && !w.document().Owns(r.Name) {
			out = append(out, r.Name)
		}
	}
	return out
}

// waiting returns the follow-ups on the bus as "cause in 11s".
func (w *world) waiting() []string {
	var out []string
	for _, d := range w.queue {
		out = append(out, fmt.Sprintf("%s in %s", cause(d.Message), d.due.Sub(w.now)))
	}
	return out
}

// happened returns what the topic was told, each event once, in the order in which it first came.
func (w *world) happened() []outcome.Event {
	var out []outcome.Event
	for _, e := range w.told {
		if !slices.ContainsFunc(out, func(o outcome.Event) bool { return o.ID == e.ID }) {
			out = append(out, e)
		}
	}
	return out
}

// untold compares the routes that a subscriber knows of, who has heard of nothing but the changes, with the table's managed ones.
func (w *world) untold() string {
	known := map[netip.Prefix]string{}
	for _, e := range w.happened() {
		for _, r := range e.Data.Routes {
			if e.Type == outcome.RouteChanged.String() {
				if known[r.Prefix] = r.After; r.After == "" {
					delete(known, r.Prefix)
				}
			}
		}
	}
	is := map[netip.Prefix]string{}
	for _, r := range w.tables[tableID].routes {
		if w.document().Owns(r.Name) {
			is[r.Prefix] = r.NextHops.String()
		}
	}
	return cmp.Diff(known, is, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

// lines returns the history.
func (w *world) lines() []map[string]any {
	w.t.Helper()
	out := make([]map[string]any, len(w.history))
	for i, line := range w.history {
		if err := json.Unmarshal([]byte(line), &out[i]); err != nil {
			w.t.Fatalf("history line %q: %v", line, err)
		}
	}
	return out
}
