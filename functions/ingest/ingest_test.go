package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/stage"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

const hub = `
domain: hub
policy: {silence: down}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: both, routeTable: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/both}
  - {name: only-a, routeTable: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/a, nvas: [nva-a]}
`

// fate is what happens to one call of a port: {done, not done} x {answered, failed, the process dies}.
type fate struct {
	skip  bool
	err   error
	crash bool
}

type dies struct{}

type value struct {
	data []byte
	etag string
}

// world is the store, the bus and the parking lot, with a clock that moves only in pauses.
type world struct {
	t       *testing.T
	now     time.Time
	blobs   map[string]value
	version int
	wakes   []string // ids in the order of arrival
	parked  map[string]ingest.Parked
	ops     []string
	paused  time.Duration
	log     strings.Builder
	fate    func(op string) fate
	meddle  func(op string)
	history map[string][]string
	sent    []wake.Wake
	record  *telemetry.Record
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), blobs: map[string]value{}, parked: map[string]ingest.Parked{}, history: map[string][]string{},
		fate: func(string) fate { return fate{} }, meddle: func(string) {},
	}
	w.set("domains/hub.yaml", []byte(hub))
	return w
}

func (w *world) set(name string, data []byte) {
	w.version++
	w.blobs[name] = value{data, fmt.Sprint(w.version)}
}

func (w *world) call(op string, effect func() error) error {
	w.ops = append(w.ops, op)
	w.meddle(op)
	f := w.fate(op)
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

func (w *world) Read(_ context.Context, name, known string) (data []byte, etag string, err error) {
	err = w.call("read "+name, func() error {
		v, ok := w.blobs[name]
		if !ok {
			return fault.New(fault.NotFound, "no blob %s", name)
		}
		if etag = v.etag; etag != known {
			data = slices.Clone(v.data)
		}
		return nil
	})
	return data, etag, err
}

func (w *world) Write(_ context.Context, name string, data []byte, ifMatch string) (etag string, err error) {
	err = w.call("write "+name, func() error {
		if w.blobs[name].etag != ifMatch {
			return fault.New(fault.Conflict, "blob %s has another ETag", name)
		}
		w.set(name, data)
		etag = w.blobs[name].etag
		return nil
	})
	return etag, err
}

func (w *world) List(context.Context, string) ([]string, error) { return nil, errors.New("not used") }

func (w *world) Append(_ context.Context, name string, line []byte) error {
	return w.call("append "+name, func() error { w.history[name] = append(w.history[name], string(line)); return nil })
}

func (w *world) Send(_ context.Context, wk wake.Wake, at time.Time) error {
	if !at.IsZero() {
		w.t.Errorf("wake %s is scheduled for %s: news is looked at at once", wk.ID(), at)
	}
	return w.call("send "+wk.ID(), func() error { w.wakes, w.sent = append(w.wakes, wk.ID()), append(w.sent, wk); return nil })
}

func (w *world) Park(_ context.Context, p ingest.Parked) error {
	return w.call("park "+p.ID, func() error { w.parked[p.ID] = p; return nil })
}

// Look is what tells the outside of NVAs.
func (w *world) Look(_ context.Context, domain string) {
	_ = w.call("look "+domain, func() error { return nil })
}

func (w *world) pause(_ context.Context, d time.Duration) {
	w.paused += d
	w.now = w.now.Add(d)
}

// handle delivers a batch; died says that the process did not survive it.
func (w *world) handle(batch ...invocation.Message) (died bool, err error) {
	defer func() {
		if p := recover(); p != nil {
			if p != (dies{}) {
				panic(p)
			}
			died, err = true, nil
		}
	}()
	i := &ingest.Ingest{
		Store: documents.NewStore(w, 1), Wakes: w, Lot: w, Now: func() time.Time { return w.now }, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Patience: 20 * time.Second, Pause: w.pause, Beliefs: w,
	}
	return false, i.Handle(telemetry.With(w.t.Context(), w.record), batch)
}

// mustHandle delivers a batch that must be completed.
func (w *world) mustHandle(batch ...invocation.Message) {
	w.t.Helper()
	if died, err := w.handle(batch...); err != nil || died {
		w.t.Fatalf("died %t: %v", died, err)
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

// says encodes a delta of one announced prefix as the trigger hands it over.
func says(t *testing.T, nva string, seq uint64, edit func(*event.Event)) invocation.Message {
	t.Helper()
	e := event.Event{
		Domain: "hub", NVA: nva, Kind: event.Delta, Version: event.Version{Epoch: 1, Seq: seq}, Boot: "boot-" + nva, Beat: 1,
		Announce: []route.Entry{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(seq), 0}), 24)}},
	}
	if edit != nil {
		edit(&e)
	}
	body, err := event.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	return invocation.Message{ID: e.ID(), Body: body, DeliveryCount: 1, SequenceNumber: int64(seq), EnqueuedAt: time.Date(2026, 11, 23, 11, 59, 0, 0, time.UTC)}
}

func nth(op string, first, last int, f fate) func(string) fate {
	n := 0
	return func(name string) fate {
		if !strings.HasPrefix(name, op) {
			return fate{}
		}
		if n++; n < first || n > last {
			return fate{}
		}
		return f
	}
}

func TestBatchIsMergedByNVAWithOneWriteAndOneWakeEach(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(says(t, "nva-a", 2, nil), says(t, "nva-b", 1, nil), says(t, "nva-a", 1, nil), says(t, "nva-a", 2, nil))
	if want := []string{"hub/both/nva-a/2", "hub/only-a/nva-a/2", "hub/both/nva-b/1", "hub/only-a/nva-b/1"}; !slices.Equal(w.wakes, want) {
		t.Errorf("wakes %q, want %q", w.wakes, want)
	}
	var saves []string
	for _, op := range w.ops {
		if strings.HasPrefix(op, "write nvas") {
			saves = append(saves, op)
		}
	}
	if want := []string{"write nvas/hub/nva-a.json", "write nvas/hub/nva-a.json", "write nvas/hub/nva-b.json", "write nvas/hub/nva-b.json"}; !slices.Equal(saves, want) {
		t.Errorf("saves %q, want one to merge and one to clear the outbox for each NVA", saves)
	}
	if a, b := w.nva("nva-a"), w.nva("nva-b"); len(a.RIB()) != 2 || len(b.RIB()) != 1 || a.Outbox || b.Outbox {
		t.Errorf("nva-a has %d prefixes (outbox %t), nva-b %d (outbox %t)", len(a.RIB()), a.Outbox, len(b.RIB()), b.Outbox)
	}
}

// What an NVA announces wakes the targets that it feeds; what changes the belief about NVAs wakes them all.
func TestWhoIsWoken(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(says(t, "nva-b", 1, nil))
	w.wakes = nil
	w.mustHandle(says(t, "nva-b", 2, nil))
	if want := []string{"hub/both/nva-b/2"}; !slices.Equal(w.wakes, want) {
		t.Errorf("after a delta: wakes %q, want %q", w.wakes, want)
	}
	w.wakes = nil
	w.mustHandle(says(t, "nva-b", 3, func(e *event.Event) {
		e.Kind, e.Announce, e.Report = event.Witness, nil, event.Report{SelfTest: event.Passed, Peers: []event.Peer{{NVA: "nva-a"}}}
	}))
	if want := []string{"hub/both/nva-b/3", "hub/only-a/nva-b/3"}; !slices.Equal(w.wakes, want) {
		t.Errorf("after a report on nva-a: wakes %q, want %q", w.wakes, want)
	}
}

// The order of effects: saved, then sent, then cleared, then parked.
// News for one table of a group wakes the whole group, one wake right after the other.
func TestAGroupIsWokenTogether(t *testing.T) {
	w := newWorld(t)
	w.set("domains/hub.yaml", []byte(hub+`
  - {name: third, routeTable: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/third}
groups:
  - {name: firewall, targets: [only-a, third]}
`))
	w.mustHandle(says(t, "nva-b", 1, nil))
	w.wakes = nil
	w.mustHandle(says(t, "nva-b", 2, nil)) // a delta, and nva-b does not feed only-a
	if want := []string{"hub/both/nva-b/2", "hub/only-a/nva-b/2", "hub/third/nva-b/2"}; !slices.Equal(w.wakes, want) {
		t.Errorf("wakes %q, want %q", w.wakes, want)
	}
}

func TestOrderOfEffects(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(invocation.Message{ID: "x", Body: []byte("nonsense")}, says(t, "nva-b", 1, nil))
	var effects []string
	for _, op := range w.ops {
		if !strings.HasPrefix(op, "read") && !strings.HasPrefix(op, "write accepted") {
			effects = append(effects, op)
		}
	}
	want := []string{"write nvas/hub/nva-b.json", "send hub/both/nva-b/1", "send hub/only-a/nva-b/1", "write nvas/hub/nva-b.json", "park x", "look hub"}
	if !slices.Equal(effects, want) {
		t.Errorf("effects %q, want %q", effects, want)
	}
}

func TestNewsTwiceIsNoNews(t *testing.T) {
	w := newWorld(t)
	m := says(t, "nva-a", 1, nil)
	w.mustHandle(m)
	before := len(w.wakes)
	w.ops = nil
	w.mustHandle(m, m)
	if len(w.wakes) != before {
		t.Errorf("woken for nothing: %q", w.wakes[before:])
	}
	if slices.ContainsFunc(w.ops, func(op string) bool { return strings.HasPrefix(op, "write") }) {
		t.Errorf("written for nothing: %q", w.ops)
	}
}

// A beat of a living agent is noted, and wakes nobody.
func TestBeatWakesNobody(t *testing.T) {
	w := newWorld(t)
	w.mustHandle(says(t, "nva-a", 1, nil))
	before := len(w.wakes)
	w.mustHandle(says(t, "nva-a", 2, func(e *event.Event) { e.Kind, e.Announce, e.Beat = event.Alive, nil, 9 }))
	if doc := w.nva("nva-a"); doc.Alive.Beat != 9 || len(w.wakes) != before {
		t.Errorf("beat %d, wakes %q", doc.Alive.Beat, w.wakes[before:])
	}
}

// Every call goes wrong once, in every way, also in the delivery after it: in the end the document has the news once, every target that it
// feeds was woken after the document was saved, and the poison is parked.
func TestEveryCallGoesWrongOnce(t *testing.T) {
	batch := func() []invocation.Message {
		return []invocation.Message{says(t, "nva-a", 1, nil), {ID: "poison", Body: []byte("{}")}, says(t, "nva-b", 1, nil)}
	}
	clean := newWorld(t)
	clean.mustHandle(batch()...)
	calls := len(clean.ops)
	lost := errors.New("connection reset")
	ways := map[string]fate{
		"not done, error": {skip: true, err: lost}, "done, error": {err: lost}, "not done, death": {skip: true, crash: true}, "done, death": {crash: true},
	}
	for way, f := range ways {
		t.Run(way, func(t *testing.T) {
			for n := 1; n <= calls; n++ {
				w := newWorld(t)
				w.fate = nth("", n, n, f)
				saved := map[string]bool{}
				w.meddle = func(op string) {
					if nva, wake := strings.CutPrefix(op, "send hub/both/"); wake {
						nva, _, _ = strings.Cut(nva, "/")
						saved[nva] = w.nva(nva).Heard()
						if !saved[nva] {
							t.Errorf("call %d: %s before the document was saved", n, op)
						}
					}
				}
				for delivery := 1; ; delivery++ {
					if delivery > 3 {
						t.Fatalf("call %d: still not completed", n)
					}
					if died, err := w.handle(batch()...); err == nil && !died {
						break
					}
				}
				for _, nva := range []string{"nva-a", "nva-b"} {
					if doc := w.nva(nva); doc.Revision != clean.nva(nva).Revision || doc.Outbox || len(doc.RIB()) != 1 {
						t.Errorf("call %d: %s has revision %d, %d prefixes, outbox %t", n, nva, doc.Revision, len(doc.RIB()), doc.Outbox)
					}
				}
				for _, id := range clean.wakes {
					if !slices.Contains(w.wakes, id) {
						t.Errorf("call %d (%s): nobody sent %s, only %q", n, w.ops[n-1], id, w.wakes)
					}
				}
				if len(w.parked) != 1 {
					t.Errorf("call %d: parked %v", n, w.parked)
				}
				if t.Failed() {
					t.FailNow()
				}
			}
		})
	}
}

// Another writer comes between: whoever clears the flag has sent the wakes for both.
func TestConflictAfterTheSave(t *testing.T) {
	for _, at := range []string{"write nvas/hub/nva-b.json", "send hub/both/nva-b/1"} {
		t.Run(at, func(t *testing.T) {
			w := newWorld(t)
			done := false
			w.meddle = func(op string) {
				if op == at && !done {
					done = true
					w.mustHandle(says(t, "nva-b", 2, nil))
				}
			}
			w.mustHandle(says(t, "nva-b", 1, nil))
			if doc := w.nva("nva-b"); !done || doc.Outbox || len(doc.RIB()) != 2 {
				t.Errorf("outbox %t, %d prefixes", doc.Outbox, len(doc.RIB()))
			}
			if w.paused > 0 {
				t.Errorf("it paused for %s: a conflict is no trouble", w.paused)
			}
			if newest := fmt.Sprintf("hub/both/nva-b/%d", w.nva("nva-b").Revision); !slices.Contains(w.wakes, newest) {
				t.Errorf("wakes %q, want %s among them", w.wakes, newest)
			}
		})
	}
}

func TestPoisonIsParkedWithItsReason(t *testing.T) {
	tests := []struct {
		name, reason string
		message      invocation.Message
	}{
		{"not JSON", "JSON", invocation.Message{ID: "m-1", Body: []byte("nonsense")}},
		{"an NVA that the domain file does not know", "the domain file hub has no nva nva-z: add it there", says(t, "nva-z", 1, nil)},
		{"a domain without a file", "domain file nowhere", says(t, "nva-a", 1, func(e *event.Event) { e.Domain = "nowhere" })},
		{"a cloned machine", "two machines run with the name nva-a", says(t, "nva-a", 2, func(e *event.Event) { e.Boot = "boot-of-the-clone" })},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.mustHandle(says(t, "nva-a", 1, nil))
			w.mustHandle(tt.message, says(t, "nva-b", 1, nil))
			p, ok := w.parked[tt.message.ID]
			if !ok || !strings.Contains(p.Reason, tt.reason) || p.Body != string(tt.message.Body) || p.Sequence != tt.message.SequenceNumber || !p.At.Equal(w.now) {
				t.Errorf("parked: %+v, want the reason %q", p, tt.reason)
			}
			if len(w.nva("nva-b").RIB()) != 1 || len(w.nva("nva-a").RIB()) != 1 {
				t.Error("the rest of the batch was not merged, or the poison was")
			}
		})
	}
}

func TestCloneIsShownOnce(t *testing.T) {
	w := newWorld(t)
	var line strings.Builder
	w.record = telemetry.New("Ingest", "", nil, func() time.Time { return w.now })
	w.mustHandle(says(t, "nva-a", 1, nil))
	clone := says(t, "nva-a", 2, func(e *event.Event) { e.Boot = "other" })
	w.ops = nil
	w.mustHandle(clone)
	if c := w.nva("nva-a").Clone; c == nil || c.Boot != "other" {
		t.Fatalf("clone %v", c)
	}
	if !slices.Contains(w.ops, "look hub") {
		t.Error("nobody looks whether the outside is to be told")
	}
	w.ops = nil
	w.mustHandle(clone)
	if slices.ContainsFunc(w.ops, func(op string) bool { return strings.HasPrefix(op, "write") || strings.HasPrefix(op, "send") }) {
		t.Errorf("written or woken again: %q", w.ops)
	}
	w.record.Close(t.Context(), slog.New(slog.NewJSONHandler(&line, nil)), nil)
	if !strings.Contains(line.String(), `"cloned":["hub/nva-a"]`) {
		t.Errorf("no clone in %s", line.String())
	}
}

// A clone that started later is believed; the one that it was made of goes on, and that is noticed, in the log too.
func TestTwoEpochsAtOnce(t *testing.T) {
	w := newWorld(t)
	epoch := func(n uint64, at int, seq uint64) invocation.Message {
		m := says(t, "nva-a", seq, func(e *event.Event) { e.Version.Epoch, e.Boot = n, fmt.Sprint("boot-", n) })
		m.EnqueuedAt = w.now.Add(time.Duration(at) * time.Second)
		return m
	}
	w.mustHandle(epoch(1, 0, 1))
	w.mustHandle(epoch(2, 30, 1))
	if strings.Contains(w.log.String(), "a second agent") {
		t.Error("a restart looks like a second agent")
	}
	w.mustHandle(epoch(1, 90, 2), epoch(2, 91, 2))
	w.mustHandle(epoch(1, 100, 3))
	if c := w.nva("nva-a").Clone; c == nil || c.Boot != "boot-1" || len(w.parked) > 0 || strings.Count(w.log.String(), "a second agent speaks in the name of an nva") != 1 {
		t.Errorf("clone %+v, parked %v, log\n%s", c, w.parked, w.log.String())
	}
}

// A document that cannot be read keeps only its own NVA's news back.
func TestOneNVAsTroubleIsItsOwn(t *testing.T) {
	w := newWorld(t)
	w.set("nvas/hub/nva-a.json", []byte("damaged"))
	_, err := w.handle(says(t, "nva-a", 1, nil), invocation.Message{ID: "poison", Body: []byte("?")}, says(t, "nva-b", 1, nil))
	if err == nil {
		t.Fatal("the batch was completed although nva-a's event was not merged")
	}
	if len(w.nva("nva-b").RIB()) != 1 || !slices.Contains(w.wakes, "hub/both/nva-b/1") || len(w.parked) != 1 {
		t.Errorf("nva-b has %d prefixes, wakes %q, parked %d", len(w.nva("nva-b").RIB()), w.wakes, len(w.parked))
	}
}

func TestPatience(t *testing.T) {
	t.Run("trouble that passes is sat out", func(t *testing.T) {
		w := newWorld(t)
		w.fate = nth("read nvas", 1, 6, fate{skip: true, err: errors.New("away")})
		w.mustHandle(says(t, "nva-b", 1, nil))
		if w.paused != 6300*time.Millisecond { // 0.1 + 0.2 + … + 3.2 s
			t.Errorf("paused for %s", w.paused)
		}
	})
	t.Run("it ends before the lock of the batch does, whatever its size", func(t *testing.T) {
		w := newWorld(t)
		w.fate = nth("read nvas", 1, 1<<30, fate{skip: true, err: errors.New("away")})
		_, err := w.handle(says(t, "nva-a", 1, nil), says(t, "nva-b", 1, nil))
		if err == nil || !strings.Contains(err.Error(), "nva-a") || !strings.Contains(err.Error(), "nva-b") {
			t.Errorf("error %v, want both NVAs named", err)
		}
		if w.paused > 20*time.Second || w.paused < 10*time.Second {
			t.Errorf("paused for %s", w.paused)
		}
	})
	t.Run("a document that is always taken by others", func(t *testing.T) {
		w := newWorld(t)
		w.fate = nth("write nvas", 1, 1<<30, fate{skip: true, err: fault.New(fault.Conflict, "somebody was first")})
		if _, err := w.handle(says(t, "nva-b", 1, nil)); err == nil || !strings.Contains(err.Error(), "faster than it can be merged") {
			t.Errorf("error %v", err)
		}
	})
}

func TestManyDeliveriesAreWarnedOf(t *testing.T) {
	w := newWorld(t)
	m := says(t, "nva-a", 1, nil)
	m.DeliveryCount = 5
	w.mustHandle(m)
	if !strings.Contains(w.log.String(), "delivered many times") {
		t.Errorf("log: %s", w.log.String())
	}
}

type shelf map[string][]byte

func (s shelf) Put(_ context.Context, name string, data []byte) error { s[name] = data; return nil }

func (s shelf) List(_ context.Context, prefix string) ([]string, error) {
	var names []string
	for name := range s {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	return names, nil
}

func TestLotKeepsOneDocumentPerMessage(t *testing.T) {
	s := shelf{}
	lot := ingest.ShelfLot{Shelf: s}
	p := ingest.Parked{ID: "hub/../nva-a/1", Sequence: 7, Reason: "why", Body: "what"}
	for range 2 {
		if err := lot.Park(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := lot.Parked(t.Context()); err != nil || n != 1 {
		t.Errorf("%d parked, %v", n, err)
	}
	body, ok := s["7-hub____nva-a_1.json"]
	if !ok || !strings.Contains(string(body), `"reason": "why"`) {
		t.Errorf("shelf: %v", s)
	}
}

// The operator's alert goes by these lines: one when an NVA falls silent, one when it is heard again, none in between.
func TestSilenceIsLoggedOnce(t *testing.T) {
	w := newWorld(t)
	fires := func(e *event.Event) { e.Kind, e.Announce, e.Chunk = event.Expired, nil, event.Chunk{} }
	lives := func(e *event.Event) { e.Kind, e.Announce, e.Chunk, e.Beat = event.Alive, nil, event.Chunk{}, 9 }
	w.mustHandle(says(t, "nva-a", 1, nil))
	w.mustHandle(says(t, "nva-a", 2, fires))
	w.mustHandle(says(t, "nva-a", 2, fires))
	w.mustHandle(says(t, "nva-a", 3, lives))
	for _, text := range []string{"nva is silent", "nva is heard again"} {
		if n := strings.Count(w.log.String(), text); n != 1 {
			t.Errorf("%q stands %d times in the log, want once:\n%s", text, n, w.log.String())
		}
	}
}

// So it is with the loss of its routing daemon, which outlives its agent.
func TestLossOfControlIsLoggedOnce(t *testing.T) {
	w := newWorld(t)
	var line strings.Builder
	w.record = telemetry.New("Ingest", "", nil, func() time.Time { return w.now })
	sees := func(sessions ...event.Session) func(e *event.Event) {
		return func(e *event.Event) {
			e.Kind, e.Announce, e.Chunk, e.Report = event.Witness, nil, event.Chunk{}, event.Report{ControlLost: sessions}
		}
	}
	w.mustHandle(says(t, "nva-a", 1, nil))
	w.mustHandle(says(t, "nva-a", 2, sees(event.Session{Name: "frr"})))
	w.mustHandle(says(t, "nva-a", 3, sees(event.Session{Name: "bird"}, event.Session{Name: "frr"})))
	w.mustHandle(says(t, "nva-a", 4, sees()))
	w.record.Close(t.Context(), slog.New(slog.NewJSONHandler(&line, nil)), nil)
	for _, text := range []string{"nva has lost its routing daemon", "{Name:frr", "nva has its routing daemon back"} {
		if n := strings.Count(w.log.String(), text); n != 1 {
			t.Errorf("%q stands %d times in the log, want once:\n%s", text, n, w.log.String())
		}
	}
	for _, text := range []string{`"controlLost":["hub/nva-a"]`, `"controlBack":["hub/nva-a"]`} {
		if !strings.Contains(line.String(), text) {
			t.Errorf("no %s in %s", text, line.String())
		}
	}
}

// The outside is looked after once for each domain, when what is believed of NVAs may have changed or a delivery before may have died, and never
// for an NVA that is not in the domain file.
func TestBeliefsAreLookedAtWhenTheyMayHaveChanged(t *testing.T) {
	w := newWorld(t)
	looks := func() (n int) {
		for _, op := range w.ops {
			if op == "look hub" {
				n++
			}
		}
		w.ops = nil
		return n
	}
	w.mustHandle(says(t, "nva-a", 1, nil), says(t, "nva-b", 1, nil))
	if n := looks(); n != 1 {
		t.Errorf("%d looks at two NVAs that are heard for the first time, want 1", n)
	}
	w.mustHandle(says(t, "nva-a", 2, nil))
	if n := looks(); n != 0 {
		t.Errorf("%d looks at new routes", n)
	}
	again := says(t, "nva-a", 2, nil)
	again.DeliveryCount = 2
	stranger := says(t, "nva-z", 1, nil)
	stranger.DeliveryCount = 2
	w.mustHandle(again, stranger)
	if n := looks(); n != 1 {
		t.Errorf("%d looks after a redelivery, want 1", n)
	}
	w.mustHandle(stranger)
	if n := looks(); n != 0 {
		t.Errorf("%d looks at a stranger", n)
	}
}

// A wake goes on with the trace and the times of the event that has waited longest, and names the traces of the others.
func TestWakeCarriesTheOldestObservation(t *testing.T) {
	w := newWorld(t)
	traced := func(seq uint64, ago time.Duration, digit string) invocation.Message {
		return says(t, "nva-b", seq, func(e *event.Event) {
			e.Traceparent = "00-" + strings.Repeat(digit, 32) + "-" + strings.Repeat(digit, 16) + "-01"
			e.Time = w.now.Add(-ago)
			if ago > 0 {
				e.Observed = w.now.Add(-ago - time.Second)
			}
		})
	}
	w.mustHandle(traced(1, 0, "1"), traced(2, 5*time.Second, "2"), traced(3, 9*time.Second, "3"), traced(4, 7*time.Second, "4"))
	got := w.sent[0]
	if got.Traceparent != "00-"+strings.Repeat("3", 32)+"-"+strings.Repeat("3", 16)+"-01" || len(got.Links) != 3 || got.Links[0][3] != '1' {
		t.Errorf("trace %s, links %q", got.Traceparent, got.Links)
	}
	want := stage.Sent{
		Observed: w.now.Add(-10 * time.Second), Said: w.now.Add(-9 * time.Second), Queued: time.Date(2026, 11, 23, 11, 59, 0, 0, time.UTC), Taken: w.now, Merged: w.now,
	}
	if diff := cmp.Diff(want, got.Sent); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The line of the invocation counts what became of the events.
func TestLineOfABatch(t *testing.T) {
	w := newWorld(t)
	var log strings.Builder
	w.record = telemetry.New("Ingest", "", nil, func() time.Time { return w.now })
	again := says(t, "nva-a", 1, nil)
	again.DeliveryCount = 3
	w.mustHandle(says(t, "nva-a", 1, nil), says(t, "nva-a", 2, nil), again, says(t, "nva-b", 1, func(e *event.Event) { e.Kind, e.Announce = event.Expired, nil }),
		says(t, "nva-c", 1, nil), invocation.Message{ID: "junk", Body: []byte("{")})
	w.record.Close(t.Context(), slog.New(slog.NewJSONHandler(&log, nil)), nil)
	for _, want := range []string{
		`"messages":6`, `"deliveries":3`, `"merged":3`, `"known":1`, `"parked":2`, `"coalesced":1`, `"nvas":["hub/nva-a","hub/nva-b"]`, `"silent":["hub/nva-b"]`, `"domains":["hub"]`,
		`"messageIds":["hub/nva-a/1/1","hub/nva-a/1/2","hub/nva-b/1/beat-1","hub/nva-c/1/1","junk"]`,
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%swant %s", log.String(), want)
		}
	}
	if strings.Contains(log.String(), `"refused"`) {
		t.Errorf("%snobody was refused", log.String())
	}
}
