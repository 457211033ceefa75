// Package trust_test asks what an NVA that is in somebody else's hands can do: it signs with its own key whatever it likes, and Ingest, Reconcile, selection
// and plan must keep it to its line of the domain file. docs/security.md rests on these tests.
package trust_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/reconcile"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/signature"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// The NVAs. The thief is preferred to everybody, so that whatever it may carry it gets.
const (
	thief  = "thief"
	first  = "honest-a"
	second = "honest-b"
)

func private(name string) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{name[len(name)-1]}, ed25519.SeedSize))
}

// tables are the targets: the thief may be a next hop in the first only.
const (
	tablePath = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/"
	open      = tablePath + "open"
	closed    = tablePath + "closed"
)

// may is each NVA's line of the domain file by definition, written down without the code under test; IPv4 only, as nobody has an IPv6 next hop.
func may(name string, p netip.Prefix) bool {
	wide, shortest := netip.MustParsePrefix("10.64.0.0/15"), 15
	if name == thief {
		wide, shortest = netip.MustParsePrefix("10.64.0.0/16"), 20
	}
	return wide.Contains(p.Addr()) && p.Bits() >= shortest && p.Bits() <= 24
}

// most is the thief's maxPrefixes.
const most = 3

// domainFile has no hold-down, damping or price: the answer depends on the last word of each NVA alone.
func domainFile(nvas ...string) string {
	lines := map[string]string{
		thief:  `{name: thief, nextHops: [10.0.0.6], preference: 900, maxPrefixes: 3, allow: ["10.64.0.0/16 ge 20 le 24"]`,
		first:  `{name: honest-a, nextHops: [10.0.0.4], preference: 100, allow: ["10.64.0.0/15 le 24"]`,
		second: `{name: honest-b, nextHops: [10.0.0.5], preference: 50, allow: ["10.64.0.0/15 le 24"]`,
	}
	text := "domain: hub\npolicy: {silence: down, holdDown: 0s, answerWithin: 3s, writePrice: 0, damping: {halfLife: 0s}}\nguards: {maxRemoved: 100%}\nnvas:\n"
	for _, name := range nvas {
		text += "  - " + lines[name] + ", keys: [\"" + signature.KeyOf(private(name)).String() + "\"]}\n"
	}
	return text + "targets:\n  - {name: open, routeTable: " + open + "}\n  - {name: closed, routeTable: " + closed + ", nvas: [honest-a]}\n"
}

// world is what surrounds the functions, without any fault: store, tables, queue of wakes, parking lot, and a clock that moves when it is told to.
type world struct {
	t       fataler
	now     time.Time
	blobs   map[string]blob
	version int
	tables  map[string]plan.Table
	wakes   []due
	runs    int
	parked  []ingest.Parked
	file    string
	store   *documents.Store
	parsed  map[string]*config.Domain // by text
}

type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
	Errorf(format string, args ...any)
}

type blob struct {
	data []byte
	etag string
}

type due struct {
	at   time.Time
	wake wake.Wake
}

func newWorld(t fataler, nvas ...string) *world {
	w := &world{t: t, now: time.Date(2026, 5, 28, 12, 0, 0, 0, time.UTC), blobs: map[string]blob{}, tables: map[string]plan.Table{}, file: domainFile(nvas...), parsed: map[string]*config.Domain{}}
	w.store = documents.NewStore(w, 1)
	w.set("domains/hub.yaml", []byte(w.file))
	for _, id := range []string{open, closed} {
		w.tables[id] = plan.Table{ID: id, ETag: "1", Routes: []plan.Route{
			plan.NewRoute("default", "0.0.0.0/0", plan.VirtualAppliance, netip.MustParseAddr("10.9.9.9")),
			plan.NewRoute("theirs", "10.65.9.0/24", plan.VirtualAppliance, netip.MustParseAddr("10.9.9.9")),
		}}
	}
	return w
}

func (w *world) set(name string, data []byte) string {
	w.version++
	w.blobs[name] = blob{data, fmt.Sprint(w.version)}
	return w.blobs[name].etag
}

func (w *world) Read(_ context.Context, name, known string) (data []byte, etag string, err error) {
	b, ok := w.blobs[name]
	if !ok {
		return nil, "", fault.New(fault.NotFound, "no blob %s", name)
	}
	if b.etag == known {
		return nil, known, nil
	}
	return slices.Clone(b.data), b.etag, nil
}

func (w *world) Write(_ context.Context, name string, data []byte, ifMatch string) (string, error) {
	if w.blobs[name].etag != ifMatch {
		return "", fault.New(fault.Conflict, "blob %s has another ETag", name)
	}
	return w.set(name, data), nil
}

func (*world) List(context.Context, string) ([]string, error) { return nil, nil }
func (*world) Append(context.Context, string, []byte) error   { return nil }
func (w *world) Park(_ context.Context, p ingest.Parked) error {
	w.parked = append(w.parked, p)
	return nil
}
func (w *world) Get(_ context.Context, id string) (plan.Table, error) { return w.tables[id], nil }

func (w *world) Send(_ context.Context, news wake.Wake, at time.Time) error {
	if at.Before(w.now) {
		at = w.now
	}
	w.wakes = append(w.wakes, due{at, news})
	return nil
}

// Put holds every write against what the thief may do.
func (w *world) Put(_ context.Context, table plan.Table, edit plan.Edit) error {
	before := w.tables[table.ID]
	if before.ETag != table.ETag {
		return fault.New(fault.Conflict, "another ETag")
	}
	after := before
	after.ETag = fmt.Sprint(w.version, "-", len(w.wakes), "-", w.runs)
	after.Routes = append(slices.DeleteFunc(slices.Clone(before.Routes), func(r plan.Route) bool {
		return slices.Contains(edit.Delete, r.Name) || slices.ContainsFunc(edit.Put, func(n plan.Route) bool { return n.Name == r.Name })
	}), edit.Put...)
	w.judge(before, after)
	w.tables[table.ID] = after
	return nil
}

func (w *world) domain() *config.Domain {
	if d := w.parsed[w.file]; d != nil {
		return d
	}
	d, problems := config.Parse("domains/hub.yaml", []byte(w.file))
	if len(problems) > 0 {
		w.t.Fatalf("%s", problems)
	}
	w.parsed[w.file] = d
	return d
}

func (w *world) doc(name string) *state.NVA {
	b, ok := w.blobs["nvas/hub/"+name+".json"]
	if !ok {
		return state.NewNVA("hub", name)
	}
	doc, err := state.DecodeNVA(b.data)
	if err != nil {
		w.t.Fatalf("%v", err)
	}
	return doc
}

// hops returns the next hops of a table's routes.
func hops(t plan.Table) map[netip.Prefix]netip.Addr {
	out := map[netip.Prefix]netip.Addr{}
	for _, r := range t.Routes {
		out[r.Prefix] = hop(r)
	}
	return out
}

// hop is a route's one next hop: the targets here have no mode that shares.
func hop(r plan.Route) netip.Addr { return r.NextHops.First() }

// judge says what no write may do, whatever the thief has said before.
func (w *world) judge(before, after plan.Table) {
	w.t.Helper()
	d := w.domain()
	was, is := hops(before), hops(after)
	announced := func(name string, p netip.Prefix) bool { _, ok := w.doc(name).Announces(p); return ok }
	line, _ := d.NVA(thief)
	allowed := 0
	for _, e := range w.doc(thief).RIB() {
		if may(thief, e.Prefix) {
			allowed++
		}
	}
	for _, r := range after.Routes {
		p := r.Prefix
		if !strings.HasPrefix(r.Name, "pointsman-") {
			if was[p] != hop(r) {
				w.t.Errorf("%s, which is not Pointsman's, leads to %s now", p, hop(r))
			}
			continue
		}
		owner := slices.IndexFunc(d.NVAs, func(n config.NVA) bool { return n.NextHop(p) == hop(r) })
		switch {
		case owner < 0:
			w.t.Errorf("%s leads to %s, which is nobody's next hop", p, hop(r))
		case !may(d.NVAs[owner].Name, p):
			w.t.Errorf("%s leads to %s, whose line does not allow it", p, d.NVAs[owner].Name)
		case hop(r) == line.NextHop(p) && after.ID == closed:
			w.t.Errorf("%s leads to the thief in a target that it does not feed", p)
		case hop(r) == line.NextHop(p) && was[p] != hop(r) && !announced(thief, p):
			w.t.Errorf("%s moves to the thief, which does not announce it", p)
		case hop(r) == line.NextHop(p) && was[p] != hop(r) && allowed > most:
			w.t.Errorf("%s moves to the thief, which announces %d prefixes and may announce %d", p, allowed, most)
		}
	}
	w.judgeHonest(d, was, is, announced)
}

// judgeHonest: an honest NVA, whose agent lives in all these worlds, loses a prefix that it announces only to one that announces it too and is preferred.
func (w *world) judgeHonest(d *config.Domain, was, is map[netip.Prefix]netip.Addr, announced func(string, netip.Prefix) bool) {
	w.t.Helper()
	for _, n := range d.NVAs {
		if n.Name == thief {
			continue
		}
		for p, old := range was {
			if old != n.NextHop(p) || is[p] == old || !announced(n.Name, p) {
				continue
			}
			better := slices.ContainsFunc(d.NVAs, func(o config.NVA) bool {
				return is[p] == o.NextHop(p) && o.Preference > n.Preference && announced(o.Name, p)
			})
			if !better {
				w.t.Errorf("%s leaves %s, which lives and announces it, for %s: %s", p, n.Name, is[p], w.belief(n.Name))
			}
		}
	}
}

func (w *world) belief(name string) liveness.Belief {
	d := w.domain()
	docs := map[string]*state.NVA{}
	for _, n := range d.NVAs {
		docs[n.Name] = w.doc(n.Name)
	}
	return liveness.Judge(d, docs, w.now).Of[name]
}

// deliver hands bodies to Ingest as one batch, and runs what is due.
func (w *world) deliver(bodies ...[]byte) {
	w.t.Helper()
	batch := make([]invocation.Message, len(bodies))
	for i, body := range bodies {
		batch[i] = invocation.Message{Body: body, ID: fmt.Sprint("m-", w.version, "-", i), DeliveryCount: 1, SequenceNumber: int64(i), EnqueuedAt: w.now}
	}
	f := &ingest.Ingest{
		Store: w.store, Wakes: w, Lot: w, Now: func() time.Time { return w.now }, Log: slog.New(slog.DiscardHandler),
		Pause: func(context.Context, time.Duration) {},
	}
	if err := f.Handle(context.Background(), batch); err != nil {
		w.t.Fatalf("ingest: %v", err)
	}
	w.pass(0)
}

// pass lets time go by; what is due in it runs in order.
func (w *world) pass(d time.Duration) {
	w.t.Helper()
	until := w.now.Add(d)
	for range 1000 {
		slices.SortStableFunc(w.wakes, func(a, b due) int { return a.at.Compare(b.at) })
		if len(w.wakes) == 0 || w.wakes[0].at.After(until) {
			w.now = until
			return
		}
		next := w.wakes[0]
		w.wakes = w.wakes[1:]
		if next.at.After(w.now) {
			w.now = next.at
		}
		w.reconcile(next.wake)
	}
	w.t.Fatalf("no rest after 1000 wakes")
}

func (w *world) reconcile(news wake.Wake) {
	w.t.Helper()
	f := &reconcile.Reconcile{
		Store: w.store, Tables: w, Wakes: w, Now: func() time.Time { return w.now }, Lease: 30 * time.Second, Log: slog.New(slog.DiscardHandler),
		NewRun: func() string { w.runs++; return fmt.Sprint("run-", w.runs) },
	}
	if err := f.Look(context.Background(), news, invocation.Message{ID: news.ID(), DeliveryCount: 1}); err != nil {
		w.t.Fatalf("reconcile: %v", err)
	}
}

// sign encodes and signs an event as somebody.
func sign(t fataler, as string, e event.Event) []byte {
	t.Helper()
	body, err := event.Encode(e)
	if err == nil {
		body, err = signature.Sign(private(as), body)
	}
	if err != nil {
		t.Fatalf("%v", err)
	}
	return body
}
