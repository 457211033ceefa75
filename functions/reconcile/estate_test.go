package reconcile_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/reconcile"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// How long the parts of an estate take, in virtual time.
const (
	storeTakes = 5 * time.Millisecond
	busTakes   = 5 * time.Millisecond
	armTakes   = 50 * time.Millisecond
	writeTakes = 4 * time.Second
)

// estate is many tables that are kept by functions which run at once, as many as host.json allows, in the virtual time of a synctest bubble.
type estate struct {
	t     *testing.T
	store *documents.Store
	slots chan struct{}
	calls sync.WaitGroup // messages on the bus and at work

	mu      sync.Mutex
	blobs   map[string]value
	version int
	tables  map[string]*estateTable // by target
	sent    map[string]bool         // message ids, for the broker's duplicate detection
	seqs    map[string]uint64
	history []string
	puts    []estatePut
	refused int
	gets    int
	runs    int
	log     strings.Builder
	drop    func(id string) bool      // loses a wake
	refuse  func(target string) error // the table's answer to a write; nil: it is taken
	bucket  *bucket                   // nil: no quota
}

type estateTable struct {
	etag   int
	routes []plan.Route
	busy   time.Time
}

// estatePut is an accepted write.
type estatePut struct {
	at     time.Time
	target string
	to     []netip.Addr // the next hops that it writes, each once
}

// bucket is the quota of writes, as Azure Resource Manager keeps it.
type bucket struct {
	size, perSecond float64
	tokens          float64
	at              time.Time
	left            int // as told with the last answer
	told            time.Time
}

func (b *bucket) draw(now time.Time) bool {
	b.tokens = min(b.size, b.tokens+b.perSecond*now.Sub(b.at).Seconds())
	b.at = now
	granted := b.tokens >= 1
	if granted {
		b.tokens--
	}
	b.left, b.told = int(b.tokens), now
	return granted
}

func routeTable(target string) string {
	return "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/" + target
}

// newEstate begins with this domain file; it must be called in a bubble.
func newEstate(t *testing.T, domain string) *estate {
	t.Helper()
	d, problems := config.Parse("domains/hub.yaml", []byte(domain))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	e := &estate{
		t: t, slots: make(chan struct{}, parallelCalls(t)), blobs: map[string]value{}, tables: map[string]*estateTable{}, sent: map[string]bool{}, seqs: map[string]uint64{},
		drop: func(string) bool { return false }, refuse: func(string) error { return nil },
	}
	for _, x := range d.Targets {
		e.tables[x.Name] = &estateTable{etag: 1}
	}
	e.blobs["domains/hub.yaml"] = value{[]byte(domain), "0"}
	e.store = documents.NewStore(e, 1)
	return e
}

// parallelCalls is how many calls of Reconcile the staged function app runs at once in one instance.
func parallelCalls(t *testing.T) int {
	t.Helper()
	text, err := os.ReadFile("../../host.json")
	if err != nil {
		t.Fatal(err)
	}
	var host struct {
		Extensions struct {
			ServiceBus struct{ MaxConcurrentCalls int }
		}
	}
	if err = json.Unmarshal(text, &host); err != nil || host.Extensions.ServiceBus.MaxConcurrentCalls < 1 {
		t.Fatal(host, err)
	}
	return host.Extensions.ServiceBus.MaxConcurrentCalls
}

// locked runs do after the time that the call takes.
func (e *estate) locked(takes time.Duration, do func()) {
	time.Sleep(takes)
	e.mu.Lock()
	defer e.mu.Unlock()
	do()
}

func (e *estate) Read(_ context.Context, name, known string) (data []byte, etag string, err error) {
	e.locked(storeTakes, func() {
		v, ok := e.blobs[name]
		if !ok {
			err = fault.New(fault.NotFound, "no blob %s", name)
		}
		if etag = v.etag; etag != known {
			data = v.data
		}
	})
	return data, etag, err
}

func (e *estate) Write(_ context.Context, name string, data []byte, ifMatch string) (etag string, err error) {
	e.locked(storeTakes, func() {
		if e.blobs[name].etag != ifMatch {
			err = fault.New(fault.Conflict, "blob %s has another ETag", name)
			return
		}
		e.version++
		etag = fmt.Sprint(e.version)
		e.blobs[name] = value{slices.Clone(data), etag}
	})
	return etag, err
}

func (e *estate) List(context.Context, string) ([]string, error) {
	return nil, fault.New(fault.Bug, "nothing is listed")
}

func (e *estate) Append(_ context.Context, _ string, line []byte) error {
	e.locked(storeTakes, func() { e.history = append(e.history, string(line)) })
	return nil
}

func (e *estate) Park(_ context.Context, p ingest.Parked) error {
	e.t.Errorf("parked: %+v", p)
	return nil
}

func targetOf(id string) string { return id[strings.LastIndex(id, "/")+1:] }

func (e *estate) Get(_ context.Context, id string) (got plan.Table, err error) {
	e.locked(armTakes, func() {
		e.gets++
		x := e.tables[targetOf(id)]
		got = plan.Table{ID: id, ETag: fmt.Sprint(x.etag), Routes: slices.Clone(x.routes)}
	})
	return got, nil
}

func (e *estate) Put(_ context.Context, read plan.Table, edit plan.Edit) (err error) {
	target := targetOf(read.ID)
	e.locked(armTakes, func() { err = e.accept(target, read, edit) })
	if err != nil {
		return err
	}
	time.Sleep(writeTakes)
	return nil
}

func (e *estate) accept(target string, read plan.Table, edit plan.Edit) error {
	now, x := time.Now(), e.tables[target]
	if e.bucket != nil && !e.bucket.draw(now) {
		e.refused++
		return &fault.Error{Kind: fault.Throttled, Code: "SubscriptionRequestsThrottled", RetryAfter: 5 * time.Second, Err: fmt.Errorf("too many writes")}
	}
	if err := e.refuse(target); err != nil {
		return err
	}
	if now.Before(x.busy) {
		return &fault.Error{Kind: fault.Throttled, Code: fault.CodeBusy, RetryAfter: 3 * time.Second, Err: fmt.Errorf("another operation")}
	}
	if fmt.Sprint(x.etag) != read.ETag {
		return fault.New(fault.Conflict, "the ETag does not match")
	}
	x.etag++
	x.busy = now.Add(writeTakes)
	x.routes = slices.DeleteFunc(x.routes, func(r plan.Route) bool {
		return slices.Contains(edit.Delete, r.Name) || slices.ContainsFunc(edit.Put, func(n plan.Route) bool { return n.Name == r.Name })
	})
	x.routes = append(x.routes, edit.Put...)
	put := estatePut{at: now, target: target}
	for _, r := range edit.Put {
		if !slices.Contains(put.to, r.NextHops.First()) {
			put.to = append(put.to, r.NextHops.First())
		}
	}
	e.puts = append(e.puts, put)
	return nil
}

// Writes implements reconcile.Meter: all calls are of one process.
func (e *estate) Writes(string) (left int, at time.Time, known bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.bucket == nil || e.bucket.told.IsZero() {
		return 0, time.Time{}, false
	}
	return e.bucket.left, e.bucket.told, true
}

// Send implements Wakes: the message is delivered to Reconcile when it is due and a call may begin.
func (e *estate) Send(_ context.Context, w wake.Wake, at time.Time) error {
	m, err := w.Message()
	if err != nil {
		return err
	}
	e.locked(busTakes, func() {
		if e.sent[m.ID] || e.drop(m.ID) {
			return
		}
		e.sent[m.ID] = true
		e.calls.Go(func() {
			time.Sleep(time.Until(at))
			e.slots <- struct{}{}
			defer func() { <-e.slots }()
			if failed := e.reconcile().Handle(context.Background(), invocation.Message{Body: m.Body, ID: m.ID, DeliveryCount: 1}); failed != nil {
				e.t.Errorf("%s: %v", m.ID, failed)
			}
		})
	})
	return nil
}

// Write and its like are called by many goroutines; so is the log.
type lockedLog struct{ e *estate }

func (l lockedLog) Write(p []byte) (int, error) {
	l.e.mu.Lock()
	defer l.e.mu.Unlock()
	return l.e.log.Write(p)
}

func (e *estate) reconcile() *reconcile.Reconcile {
	return &reconcile.Reconcile{
		Store: e.store, Tables: e, Meter: e, Wakes: e, Now: time.Now, Lease: lease,
		NewRun: func() string {
			e.mu.Lock()
			defer e.mu.Unlock()
			e.runs++
			return fmt.Sprintf("run-%d", e.runs)
		},
		Log: slog.New(slog.NewTextHandler(lockedLog{e}, nil)),
	}
}

// say takes an event in by the function Ingest.
func (e *estate) say(nva string, kind event.Kind, edit func(*event.Event)) {
	e.t.Helper()
	if kind != event.Expired {
		e.seqs[nva]++
	}
	ev := event.Event{Domain: "hub", NVA: nva, Kind: kind, Version: event.Version{Epoch: 1, Seq: e.seqs[nva]}, Boot: "boot-" + nva, Beat: e.seqs[nva]}
	if kind == event.Snapshot {
		ev.Chunk.Count = 1
	}
	if edit != nil {
		edit(&ev)
	}
	body, err := event.Encode(ev)
	if err != nil {
		e.t.Fatal(err)
	}
	in := &ingest.Ingest{Store: e.store, Wakes: e, Lot: e, Now: time.Now, Log: slog.New(slog.DiscardHandler), Pause: func(context.Context, time.Duration) {}}
	if err = in.Handle(context.Background(), []invocation.Message{{ID: ev.ID(), Body: body, DeliveryCount: 1, EnqueuedAt: time.Now()}}); err != nil {
		e.t.Fatal(err)
	}
}

// wake puts a wake for the target on the bus.
func (e *estate) wake(target, cause string) {
	e.t.Helper()
	if err := e.Send(context.Background(), wake.Wake{Domain: "hub", Target: target, Cause: cause}, time.Now()); err != nil {
		e.t.Fatal(err)
	}
}

// forget begins the counts anew.
func (e *estate) forget() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.puts, e.refused, e.gets, e.history = nil, 0, 0, nil
	e.log.Reset()
}

// accepted returns the writes so far.
func (e *estate) accepted() []estatePut {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.puts)
}

// carries returns the next hops of the managed routes in the target's table, each once.
func (e *estate) carries(target string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var hops []string
	for _, r := range e.tables[target].routes {
		if h := r.NextHops.First().String(); !slices.Contains(hops, h) {
			hops = append(hops, h)
		}
	}
	slices.Sort(hops)
	return strings.Join(hops, " ")
}

func (e *estate) document(target string) *state.Target {
	e.t.Helper()
	e.mu.Lock()
	defer e.mu.Unlock()
	doc, err := state.DecodeTarget(e.blobs["targets/hub/"+target+".json"].data)
	if err != nil {
		e.t.Fatal(err)
	}
	return doc
}

// logged returns the lines of the log that have the text.
func (e *estate) logged(text string) []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	var out []string
	for line := range strings.Lines(e.log.String()) {
		if strings.Contains(line, text) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// TestOneOfFourDies: 100 tables and 4 NVAs; the one that carries everything dies. One write for each table, all of them sent before the first has ended.
func TestOneOfFourDies(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const tables, routes = 100, 100
		var domain strings.Builder
		domain.WriteString("domain: hub\npolicy: {silence: down, damping: {halfLife: 0s}}\nnvas:\n")
		for i := range 4 {
			fmt.Fprintf(&domain, "  - {name: nva-%c, nextHops: [10.0.0.%d], preference: %d, allow: [\"10.64.0.0/10 le 24\"]}\n", 'a'+i, 4+i, 400-100*i)
		}
		domain.WriteString("targets:\n")
		for i := range tables {
			fmt.Fprintf(&domain, "  - {name: spokes-%d, routeTable: %s}\n", i, routeTable(fmt.Sprintf("spokes-%d", i)))
		}
		e := newEstate(t, domain.String())
		for i := range 4 {
			e.say(fmt.Sprintf("nva-%c", 'a'+i), event.Snapshot, announce(prefixes(routes)...))
		}
		e.calls.Wait()
		time.Sleep(time.Minute)

		e.forget()
		begin := time.Now()
		e.say("nva-a", event.Expired, nil)
		e.calls.Wait()
		puts := e.accepted()
		if len(puts) != tables {
			t.Fatalf("%d writes, want %d", len(puts), tables)
		}
		first, last := puts[0].at.Sub(begin), puts[len(puts)-1].at.Sub(begin)
		t.Logf("%d writes of %d routes, the first after %v, the last after %v; %d reads of tables", len(puts), routes, first, last, e.gets)
		if last-first >= writeTakes || last >= writeTakes {
			t.Errorf("the first write was sent after %v, the last after %v: want all within %v", first, last, writeTakes)
		}
		for i := range tables {
			if got := e.carries(fmt.Sprintf("spokes-%d", i)); got != "10.0.0.5" {
				t.Fatalf("table %d has next hops %s", i, got)
			}
		}
		if e.gets > 2*tables {
			t.Errorf("%d reads of tables, want at most two each", e.gets)
		}
	})
}

// TestDeadNextHopsFirst: of 400 tables 320 are on an NVA that dies, and for the other 80 a better one is back shortly after. The bucket holds 200 writes and gives 3.33 a second. Whatever leaves the
// dead next hop is written before anything is improved, and then everything is.
func TestDeadNextHopsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const dead, better, routes = 320, 80, 50
		var domain strings.Builder
		domain.WriteString(`domain: hub
policy: {silence: down, damping: {halfLife: 0s}}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-c, nextHops: [10.0.0.6], preference: 200, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-d, nextHops: [10.0.0.7], allow: ["10.64.0.0/10 le 24"]}
targets:
`)
		for i := range dead + better {
			members := "[nva-a, nva-b]"
			if i >= dead {
				members = "[nva-c, nva-d]"
			}
			fmt.Fprintf(&domain, "  - {name: t-%d, routeTable: %s, nvas: %s}\n", i, routeTable(fmt.Sprintf("t-%d", i)), members)
		}
		e := newEstate(t, domain.String())
		for _, nva := range []string{"nva-a", "nva-b", "nva-d"} {
			e.say(nva, event.Snapshot, announce(prefixes(routes)...))
		}
		e.calls.Wait()
		e.bucket = &bucket{size: 200, perSecond: 1000.0 / 300, tokens: 200, at: time.Now()}
		e.say("nva-c", event.Snapshot, announce(prefixes(routes)...)) // takes over in 30 s
		time.Sleep(24 * time.Second)

		e.forget()
		begin := time.Now()
		e.say("nva-a", event.Expired, nil)
		e.calls.Wait()
		var lastDead, firstBetter, last time.Duration
		counts := map[netip.Addr]int{}
		for _, p := range e.accepted() {
			counts[p.to[0]]++
			switch last = p.at.Sub(begin); p.to[0] {
			case netip.MustParseAddr("10.0.0.5"):
				lastDead = last
			case netip.MustParseAddr("10.0.0.6"):
				if firstBetter == 0 {
					firstBetter = last
				}
			}
		}
		t.Logf("%v writes, %d refused; the last dead next hop was left after %v, the first table improved after %v, the last after %v", counts, e.refused, lastDead, firstBetter, last)
		if counts[netip.MustParseAddr("10.0.0.5")] != dead || counts[netip.MustParseAddr("10.0.0.6")] != better {
			t.Errorf("writes %v, want %d and %d", counts, dead, better)
		}
		if firstBetter <= lastDead {
			t.Errorf("a table was improved after %v, while a dead next hop was left after %v", firstBetter, lastDead)
		}
		if bound := 45 * time.Second; lastDead > bound { // (320-200)/3.33 s, and the wait that a refusal names
			t.Errorf("the last dead next hop was left after %v, want within %v", lastDead, bound)
		}
		if bound := 4 * time.Minute; last > bound {
			t.Errorf("the last table was improved after %v, want within %v", last, bound)
		}
	})
}
