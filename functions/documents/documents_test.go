package documents_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/state"
)

const hub = `
domain: hub
policy: {silence: down}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: spokes, routeTable: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/spokes}
`

type value struct {
	data []byte
	etag string
}

// blobs is the store in memory.
type blobs struct {
	mu      sync.Mutex
	values  map[string]value
	version int
	sent    []string // names of the values that Read sent
	fail    func(op string) error
	before  func(op string) // outside of the lock
}

func newBlobs() *blobs {
	return &blobs{values: map[string]value{}, fail: func(string) error { return nil }, before: func(string) {}}
}

func (b *blobs) set(name, text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.version++
	b.values[name] = value{[]byte(text), fmt.Sprint(b.version)}
}

func (b *blobs) Read(_ context.Context, name, known string) ([]byte, string, error) {
	b.before("read " + name)
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.fail("read " + name); err != nil {
		return nil, "", err
	}
	v, ok := b.values[name]
	if !ok {
		return nil, "", fault.New(fault.NotFound, "no blob %s", name)
	}
	if v.etag == known {
		return nil, known, nil
	}
	b.sent = append(b.sent, name)
	return slices.Clone(v.data), v.etag, nil
}

func (b *blobs) Write(_ context.Context, name string, data []byte, ifMatch string) (string, error) {
	b.before("write " + name)
	if err := b.fail("write " + name); err != nil {
		return "", err
	}
	b.mu.Lock()
	etag := b.values[name].etag
	b.mu.Unlock()
	if etag != ifMatch {
		return "", fault.New(fault.Conflict, "another ETag")
	}
	b.set(name, string(data))
	return b.values[name].etag, nil
}

func (b *blobs) List(_ context.Context, prefix string) ([]string, error) {
	var names []string
	for name := range b.values {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, b.fail("list")
}

func (b *blobs) Append(_ context.Context, name string, line []byte) error {
	b.set(name, string(b.values[name].data)+string(line))
	return nil
}

func TestLastGoodFileStaysInForce(t *testing.T) {
	b := newBlobs()
	store := documents.NewStore(b, 1)
	b.set("domains/hub.yaml", hub)
	if d, err := store.Domain(t.Context(), "hub"); err != nil || len(d.Problems) > 0 || d.Config.NVAs[0].Preference != 200 {
		t.Fatalf("%+v, %v", d, err)
	}
	b.set("domains/hub.yaml", strings.Replace(hub, "preference: 200", "preference: most", 1))
	for name, s := range map[string]*documents.Store{"the same process": store, "a new process": documents.NewStore(b, 1)} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // the second answer comes from the cache
				d, err := s.Domain(t.Context(), "hub")
				if err != nil || d.Config == nil || d.Config.NVAs[0].Preference != 200 {
					t.Fatalf("%+v, %v", d, err)
				}
				if len(d.Problems) != 1 || d.Problems[0].Line != 5 || d.Problems[0].File != "domains/hub.yaml" || d.Problems[0].Field != "nvas[0].preference" {
					t.Errorf("problems %q", d.Problems)
				}
			}
		})
	}
	b.set("domains/hub.yaml", strings.Replace(hub, "preference: 200", "preference: 300", 1))
	if d, err := store.Domain(t.Context(), "hub"); err != nil || len(d.Problems) > 0 || d.Config.NVAs[0].Preference != 300 {
		t.Errorf("after the correction: %+v, %v", d, err)
	}
}

func TestFilesThatAreNoDomain(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		kind fault.Kind
		says string
	}{
		"none at all":                   {"", fault.NotFound, "domain file hub"},
		"never a valid one":             {"domain: hub\n", fault.Poison, "no valid one came before it"},
		"named otherwise than its name": {strings.Replace(hub, "domain: hub", "domain: edge", 1), fault.Poison, "found edge, want hub as the file's name says"},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBlobs()
			if tt.text != "" {
				b.set("domains/hub.yaml", tt.text)
			}
			d, err := documents.NewStore(b, 1).Domain(t.Context(), "hub")
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %s with %q", err, tt.kind, tt.says)
			}
			if (tt.kind == fault.Poison) != (len(d.Problems) > 0) {
				t.Errorf("problems %q", d.Problems)
			}
		})
	}
}

// The store in trouble is an error of its own kind, never "no such domain".
func TestTroubleIsPassedOn(t *testing.T) {
	for _, op := range []string{"read domains", "read accepted", "write accepted"} {
		b := newBlobs()
		b.set("domains/hub.yaml", hub)
		b.fail = func(got string) error {
			if strings.HasPrefix(got, op) {
				return errors.New("away")
			}
			return nil
		}
		if _, err := documents.NewStore(b, 1).Domain(t.Context(), "hub"); !fault.Is(err, fault.Transient) {
			t.Errorf("%s: %v", op, err)
		}
	}
	b := newBlobs()
	b.set("domains/hub.yaml", hub)
	b.fail = func(op string) error {
		if strings.HasPrefix(op, "write accepted") {
			return fault.New(fault.Conflict, "another instance was first")
		}
		return nil
	}
	if _, err := documents.NewStore(b, 1).Domain(t.Context(), "hub"); err != nil {
		t.Errorf("a lost race to accept the file: %v", err)
	}
}

func TestDomainsListsFilesOnly(t *testing.T) {
	b := newBlobs()
	for _, name := range []string{"domains/hub.yaml", "domains/edge.yaml", "domains/readme.md", "domains/old/hub.yaml", "accepted/gone.yaml"} {
		b.set(name, hub)
	}
	names, err := documents.NewStore(b, 1).Domains(t.Context())
	if err != nil || !slices.Equal(names, []string{"edge", "hub"}) {
		t.Errorf("%q, %v", names, err)
	}
}

func domain(t *testing.T) *config.Domain {
	t.Helper()
	d, problems := config.Parse("hub.yaml", []byte(hub))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return d
}

func TestNVAs(t *testing.T) {
	b := newBlobs()
	store := documents.NewStore(b, 1)
	doc, etag, err := store.NVA(t.Context(), "hub", "nva-a")
	if err != nil || etag != "" || doc.Name != "nva-a" {
		t.Fatalf("a new document: %+v %q, %v", doc, etag, err)
	}
	e := event.Event{Domain: "hub", NVA: "nva-a", Kind: event.Alive, Version: event.Version{Epoch: 1, Seq: 1}, Boot: "b"}
	if _, err = doc.Merge(e, time.Now()); err != nil {
		t.Fatal(err)
	}
	if _, err = store.SaveNVA(t.Context(), doc, etag); err != nil {
		t.Fatal(err)
	}
	if _, err = store.SaveNVA(t.Context(), doc, etag); !fault.Is(err, fault.Conflict) {
		t.Errorf("saved over a newer one: %v", err)
	}
	docs, err := store.NVAs(t.Context(), domain(t))
	if err != nil || len(docs) != 1 || docs["nva-a"].Claim.Seq != 1 {
		t.Errorf("%v, %v; want the one that was heard", docs, err)
	}
	b.set("nvas/hub/nva-b.json", "damaged")
	if _, err = store.NVAs(t.Context(), domain(t)); !fault.Is(err, fault.Bug) {
		t.Errorf("a damaged document: %v", err)
	}
}

func merge(t *testing.T, doc *state.NVA, seq uint64) {
	t.Helper()
	e := event.Event{Domain: "hub", NVA: "nva-a", Kind: event.Alive, Version: event.Version{Epoch: 1, Seq: seq}, Boot: "b"}
	if _, err := doc.Merge(e, time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)); err != nil {
		t.Fatal(err)
	}
}

// Two processes write by turns: each sees what the other wrote, and what is known is not sent again.
func TestKeptDocumentsAreNeverOld(t *testing.T) {
	b := newBlobs()
	b.set("domains/hub.yaml", hub)
	stores := []*documents.Store{documents.NewStore(b, 1), documents.NewStore(b, 1)}
	for turn := range uint64(6) {
		store := stores[turn/2%2] // each writes twice: its own document is known the second time
		d, err := store.Domain(t.Context(), "hub")
		if err != nil {
			t.Fatal(err)
		}
		b.sent = nil
		doc, etag, err := store.NVA(t.Context(), "hub", "nva-a")
		if err != nil || doc.Claim.Seq != turn {
			t.Fatalf("turn %d reads event %d, %v", turn, doc.Claim.Seq, err)
		}
		target, targetTag, err := store.Target(t.Context(), "hub", d.Config.Targets[0])
		if err != nil || target.Writes != turn {
			t.Fatalf("turn %d reads %d writes, %v", turn, target.Writes, err)
		}
		if known := turn == 0 || turn%2 == 1; known != (len(b.sent) == 0) {
			t.Errorf("turn %d: sent %q", turn, b.sent)
		}
		merge(t, doc, turn+1)
		target.Writes++
		if _, err = store.SaveNVA(t.Context(), doc, etag); err != nil {
			t.Fatal(err)
		}
		if _, err = store.SaveTarget(t.Context(), target, targetTag); err != nil {
			t.Fatal(err)
		}
	}
}

// What a caller does to its document before or after it is saved, or without saving it, is its own affair.
func TestDocumentsAreTheCallersOwn(t *testing.T) {
	b := newBlobs()
	store := documents.NewStore(b, 1)
	d := domain(t)
	mine, etag, err := store.NVA(t.Context(), "hub", "nva-a")
	if err != nil {
		t.Fatal(err)
	}
	merge(t, mine, 1)
	if _, err = store.SaveNVA(t.Context(), mine, etag); err != nil {
		t.Fatal(err)
	}
	target, etag, err := store.Target(t.Context(), "hub", d.Targets[0])
	if err != nil {
		t.Fatal(err)
	}
	target.Claim([]string{"pointsman-x"})
	if _, err = store.SaveTarget(t.Context(), target, etag); err != nil {
		t.Fatal(err)
	}
	for range 2 { // change what was saved, then what was read
		merge(t, mine, 2)
		mine.Outbox = true
		target.Claim([]string{"pointsman-y"})
		target.Owned[0] = "spoiled"
		docs, failed := store.NVAs(t.Context(), d)
		if failed != nil || docs["nva-a"].Claim.Seq != 1 || docs["nva-a"].Outbox {
			t.Fatalf("%+v, %v", docs["nva-a"], failed)
		}
		if mine, _, err = store.NVA(t.Context(), "hub", "nva-a"); err != nil || mine.Claim.Seq != 1 || mine.Outbox {
			t.Fatalf("%+v, %v", mine, err)
		}
		if target, _, err = store.Target(t.Context(), "hub", d.Targets[0]); err != nil || !slices.Equal(target.Owned, []string{"pointsman-x"}) {
			t.Fatalf("%+v, %v", target, err)
		}
	}
}

// A write of which nobody knows whether it was done leaves nothing behind that could be taken for the document.
func TestWriteOfUnknownOutcomeIsNotKept(t *testing.T) {
	for _, done := range []bool{true, false} {
		b := newBlobs()
		store := documents.NewStore(b, 1)
		doc, etag, err := store.NVA(t.Context(), "hub", "nva-a")
		if err != nil {
			t.Fatal(err)
		}
		merge(t, doc, 1)
		if etag, err = store.SaveNVA(t.Context(), doc, etag); err != nil {
			t.Fatal(err)
		}
		merge(t, doc, 2)
		b.before = func(op string) {
			if body, failed := state.EncodeNVA(doc); done && failed == nil && strings.HasPrefix(op, "write") {
				b.set("nvas/hub/nva-a.json", string(body))
			}
		}
		b.fail = func(op string) error {
			if strings.HasPrefix(op, "write") {
				return errors.New("no answer")
			}
			return nil
		}
		if _, err = store.SaveNVA(t.Context(), doc, etag); !fault.Is(err, fault.Transient) {
			t.Fatal(err)
		}
		doc, _, err = store.NVA(t.Context(), "hub", "nva-a")
		if err != nil || (doc.Claim.Seq == 2) != done {
			t.Errorf("done %t: reads event %d, %v", done, doc.Claim.Seq, err)
		}
	}
}

// With parallel 1 everything happens in the caller's goroutine: simulations rest on that. With more, reads overlap.
func TestParallelReads(t *testing.T) {
	reader := func() string {
		buf := make([]byte, 64)
		id, _, _ := strings.Cut(string(buf[:runtime.Stack(buf, false)]), " [")
		return id
	}
	b := newBlobs()
	mine := reader()
	b.before = func(op string) {
		if got := reader(); got != mine {
			t.Errorf("%s in %s, want %s", op, got, mine)
		}
	}
	if _, err := documents.NewStore(b, 1).NVAs(t.Context(), domain(t)); err != nil {
		t.Fatal(err)
	}
	var both sync.WaitGroup
	both.Add(2)
	b.before = func(string) { both.Done(); both.Wait() } // hangs unless the two reads overlap
	if _, err := documents.NewStore(b, 2).NVAs(t.Context(), domain(t)); err != nil {
		t.Fatal(err)
	}
}

func TestTargetOfAnotherTableIsANewDocument(t *testing.T) {
	b := newBlobs()
	store := documents.NewStore(b, 1)
	target := domain(t).Targets[0]
	doc, etag, err := store.Target(t.Context(), "hub", target)
	if err != nil || etag != "" {
		t.Fatal(etag, err)
	}
	doc.Claim([]string{"pointsman-x"})
	if etag, err = store.SaveTarget(t.Context(), doc, etag); err != nil {
		t.Fatal(err)
	}
	target.RouteTable = strings.ToUpper(target.RouteTable)
	var same *state.Target
	if same, _, err = store.Target(t.Context(), "hub", target); err != nil || !same.Owns("pointsman-x") {
		t.Errorf("the same table in other letters: %+v, %v", same, err)
	}
	target.RouteTable += "-2"
	other, now, err := store.Target(t.Context(), "hub", target)
	if err != nil || other.Owns("pointsman-x") || now != etag || other.Table != target.RouteTable {
		t.Errorf("another table: %+v %q, %v", other, now, err)
	}
}

func TestHistoryIsKeptByDay(t *testing.T) {
	b := newBlobs()
	store := documents.NewStore(b, 1)
	for _, at := range []time.Time{time.Date(2026, 11, 30, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 1, 0, 0, 0, time.FixedZone("", 7200))} {
		if err := store.AppendHistory(t.Context(), "hub", "spokes", at, struct{}{}); err != nil {
			t.Fatal(err)
		}
	}
	if got := string(b.values["history/hub/spokes/2026-11-30.jsonl"].data); got != "{}\n{}\n" {
		t.Errorf("the last of November (UTC) has %q", got)
	}
}
