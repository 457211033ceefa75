package belief_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/belief"
	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/state"
)

const hub = `
domain: hub
policy: {silence: down}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-c, nextHops: [10.0.0.6], allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: spokes, routeTable: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/spokes}
`

// world is a store and a topic.
type world struct {
	t       *testing.T
	now     time.Time
	blobs   map[string][]byte
	version map[string]int
	docs    map[string]*state.NVA
	told    []outcome.Event
	away    error // of the topic
	fail    func(op string) error
	log     strings.Builder
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{
		t: t, now: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), blobs: map[string][]byte{}, version: map[string]int{}, docs: map[string]*state.NVA{},
		fail: func(string) error { return nil },
	}
	w.set("domains/hub.yaml", []byte(hub))
	return w
}

func (w *world) set(name string, data []byte) {
	w.blobs[name] = data
	w.version[name]++
}

func (w *world) etag(name string) string {
	if w.version[name] == 0 {
		return ""
	}
	return fmt.Sprint(w.version[name])
}

func (w *world) Read(_ context.Context, name, known string) (data []byte, etag string, err error) {
	if err = w.fail("read " + name); err != nil {
		return nil, "", err
	}
	data, ok := w.blobs[name]
	if !ok {
		return nil, "", fault.New(fault.NotFound, "no blob %s", name)
	}
	if w.etag(name) == known {
		return nil, known, nil
	}
	return slices.Clone(data), w.etag(name), nil
}

func (w *world) Write(_ context.Context, name string, data []byte, ifMatch string) (string, error) {
	if err := w.fail("write " + name); err != nil {
		return "", err
	}
	if w.etag(name) != ifMatch {
		return "", fault.New(fault.Conflict, "another ETag")
	}
	w.set(name, data)
	return w.etag(name), nil
}

func (*world) List(context.Context, string) ([]string, error) { return nil, errors.New("not used") }
func (*world) Append(context.Context, string, []byte) error   { return errors.New("not used") }

func (w *world) Publish(_ context.Context, events []outcome.Event) error {
	if w.away == nil {
		w.told = append(w.told, events...)
	}
	return w.away
}

// says merges an event into an NVA's document.
func (w *world) says(nva string, seq uint64, kind event.Kind, lost ...event.Session) {
	w.t.Helper()
	doc := w.docs[nva]
	if doc == nil {
		doc = state.NewNVA("hub", nva)
		w.docs[nva] = doc
	}
	e := event.Event{Domain: "hub", NVA: nva, Boot: "boot-" + nva, Kind: kind, Version: event.Version{Epoch: 1, Seq: seq}, Beat: seq, Report: event.Report{ControlLost: lost}}
	if kind == event.Snapshot {
		e.Chunk.Count = 1
	}
	if _, err := doc.Merge(e, w.now); err != nil {
		w.t.Fatal(err)
	}
	w.save(doc)
}

func (w *world) save(doc *state.NVA) {
	w.t.Helper()
	body, err := state.EncodeNVA(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.set("nvas/hub/"+doc.Name+".json", body)
}

func (w *world) look() {
	t := belief.Teller{Store: documents.NewStore(w, 1), Topic: w, Now: func() time.Time { return w.now }, Log: slog.New(slog.NewTextHandler(&w.log, nil))}
	t.Look(w.t.Context(), "hub")
	w.now = w.now.Add(10 * time.Minute)
}

// heard returns what the topic was told since the last call, as "nva-a Down: down after up".
func (w *world) heard() []string {
	var out []string
	for _, e := range w.told {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%s %s: %s after %s", e.Data.NVA, strings.TrimPrefix(e.Type, "Pointsman.Nva."), e.Data.Liveness, e.Data.Before)))
	}
	w.told = nil
	return out
}

func (w *world) tells(want ...string) {
	w.t.Helper()
	w.look()
	if diff := cmp.Diff(want, w.heard()); diff != "" {
		w.t.Errorf("-want +told:\n%s\n%s", diff, w.log.String())
	}
}

// Every change of belief is told once, also of an NVA whose own document did not change.
func TestChangesAreToldOnce(t *testing.T) {
	w := newWorld(t)
	w.tells()
	for _, nva := range []string{"nva-a", "nva-b", "nva-c"} {
		w.says(nva, 1, event.Snapshot)
	}
	w.tells("nva-a Up: up after", "nva-b Up: up after", "nva-c Up: up after")
	w.tells()
	w.says("nva-a", 1, event.Expired)
	w.tells("nva-a Down: down after up")
	w.tells()
	w.says("nva-c", 2, event.Draining)
	w.tells("nva-c Down: draining after up")
	w.says("nva-a", 2, event.Alive)
	w.tells("nva-a Up: up after down")
	w.says("nva-a", 2, event.Expired)
	w.says("nva-b", 1, event.Expired)
	w.look()
	for _, e := range w.told {
		if e.Type != outcome.NVADoubtful.String() || e.Data.Liveness != "hold" || e.Data.Message == "" || e.Data.Since.IsZero() {
			t.Errorf("more than half are lost: told %+v", e)
		}
	}
	if len(w.told) != 2 {
		t.Errorf("told %d events, want one for each of the two that are lost", len(w.told))
	}
}

// An NVA whose agent has lost its routing daemon is in doubt, with the session and the reason; a second session is no news outside.
func TestControlLostIsTold(t *testing.T) {
	w := newWorld(t)
	w.says("nva-a", 1, event.Snapshot)
	w.tells("nva-a Up: up after")
	frr := event.Session{Name: "frr", Since: w.now.Add(-2 * time.Minute)}
	w.says("nva-a", 2, event.Witness, frr)
	w.look()
	if len(w.told) != 1 || w.told[0].Type != outcome.NVADoubtful.String() || w.told[0].Data.Liveness != "control-lost" || !strings.Contains(w.told[0].Data.Message, "BGP session with frr since ") {
		t.Errorf("told %+v", w.told)
	}
	w.heard()
	w.says("nva-a", 3, event.Witness, event.Session{Name: "bird"}, frr)
	w.tells()
	w.says("nva-a", 4, event.Snapshot)
	w.tells("nva-a Up: up after control-lost")
}

// A second agent with an NVA's name is told once, and once more after an hour without a sign of it.
func TestCloneIsTold(t *testing.T) {
	w := newWorld(t)
	w.says("nva-a", 1, event.Snapshot)
	w.tells("nva-a Up: up after")
	w.double("nva-a", "other")
	w.look()
	if len(w.told) != 1 || w.told[0].Type != outcome.NVACloned.String() || w.told[0].Data.Liveness != "up" || w.told[0].Data.Since.IsZero() || !strings.Contains(w.told[0].Data.Message, "boot other") {
		t.Errorf("told %+v", w.told)
	}
	w.heard()
	w.double("nva-a", "a third")
	w.tells()
	w.now = w.now.Add(state.CloneMemory)
	w.says("nva-a", 2, event.Snapshot)
	w.tells()
	w.double("nva-a", "other")
	w.tells("nva-a Cloned: up after")
}

// double merges what a second agent says in the NVA's name.
func (w *world) double(nva, boot string) {
	w.t.Helper()
	doc := w.docs[nva]
	e := event.Event{Domain: "hub", NVA: nva, Boot: boot, Kind: event.Snapshot, Version: event.Version{Epoch: 1, Seq: 90}, Beat: 1, Chunk: event.Chunk{Count: 1}}
	if _, err := doc.Merge(e, w.now); err == nil {
		w.t.Fatal("it was merged")
	}
	w.save(doc)
}

// An outage of the topic, and a failure of the store, lose nothing: the next look tells, with the ids of the first.
func TestOutage(t *testing.T) {
	w := newWorld(t)
	w.says("nva-a", 1, event.Snapshot)
	w.away = errors.New("no such host")
	w.tells()
	w.says("nva-a", 2, event.Draining)
	w.tells()
	w.away = nil
	w.fail = func(op string) error {
		if op == "write beliefs/hub.json" {
			return errors.New("the store is away")
		}
		return nil
	}
	w.look() // sends what was saved, and cannot take it out
	first := slices.Clone(w.told)
	w.heard()
	w.fail = func(string) error { return nil }
	w.look()
	if diff := cmp.Diff(first, w.told); diff != "" || len(first) != 2 {
		t.Errorf("%d events, sent again as other ones:\n%s", len(first), diff)
	}
	w.heard()
	w.tells()
}

// Two lookers at once tell one thing, and a document that was lost does not make old ids new again.
func TestIdsAreNeverUsedTwice(t *testing.T) {
	w := newWorld(t)
	w.says("nva-a", 1, event.Snapshot)
	once := false
	w.fail = func(op string) error {
		if op == "write beliefs/hub.json" && !once {
			once = true
			w.look() // another one, between this one's reading and its writing
		}
		return nil
	}
	w.tells("nva-a Up: up after")
	w.says("nva-a", 2, event.Draining)
	w.look()
	id := w.told[0].ID
	w.heard()
	delete(w.blobs, "beliefs/hub.json")
	w.version["beliefs/hub.json"] = 0
	w.look()
	if len(w.told) != 1 || w.told[0].ID == id {
		t.Errorf("after the loss of the document: %+v", w.told)
	}
}

// An NVA that leaves the domain file is forgotten, so that it is told anew if it comes back.
func TestNVAThatLeft(t *testing.T) {
	w := newWorld(t)
	w.says("nva-a", 1, event.Snapshot)
	w.tells("nva-a Up: up after")
	w.set("domains/hub.yaml", []byte(strings.Replace(hub, "  - {name: nva-a, nextHops: [10.0.0.4], allow: [\"10.64.0.0/10 le 24\"]}\n", "", 1)))
	w.tells()
	w.set("domains/hub.yaml", []byte(hub))
	w.tells("nva-a Up: up after")
}
