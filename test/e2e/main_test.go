// Package e2e runs the real binaries over the emulators and real sockets.
package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/test/netns"
	"github.com/pointsman/pointsman/test/system"
)

// TestMain builds what the tests run.
func TestMain(m *testing.M) {
	build := exec.CommandContext(context.Background(), "make", "-s", "-C", system.Root(), "build")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "make build:", err)
		os.Exit(1)
	}
	os.Exit(netns.Run(m.Run))
}

// hub is the domain of the tests: a preferred NVA and its backup, and one table.
const hub = `
domain: hub
policy:
  silence: down
  holdDown: 0s
nvas:
  - name: nva-a
    nextHops: [10.0.0.4]
    preference: 200
    allow: ["10.64.0.0/10 le 24"]
  - name: nva-b
    nextHops: [10.0.0.5]
    preference: 100
    allow: ["10.64.0.0/10 le 24"]
targets:
  - name: spokes
    routeTable: ` + system.TableID + `
`

const (
	hopA = "10.0.0.4"
	hopB = "10.0.0.5"
)

// others is what other people have in the table: a hand-made route, a route of several next hops, a tag and a flag.
const others = `{
  "location": "westeurope",
  "tags": {"owner": "netops", "cost-centre": "4711"},
  "properties": {
    "disableBgpRoutePropagation": true,
    "routes": [
      {"name": "to-firewall", "properties": {"addressPrefix": "0.0.0.0/0", "nextHopType": "VirtualAppliance", "nextHopIpAddress": "10.9.9.9"}},
      {"name": "drop", "properties": {"addressPrefix": "10.64.7.0/24", "nextHopType": "None"}},
      {"name": "balanced", "properties": {"addressPrefix": "10.50.0.0/16", "nextHopType": "VirtualApplianceEcmp", "nextHop": {"nextHopIpAddresses": ["10.8.0.4", "10.8.0.5"]}}}
    ]
  }
}`

// world is a system under test with one event sender.
type world struct {
	*system.System
	t    *testing.T
	bus  *servicebus.Sender
	log  *output
	seqs map[string]uint64
}

func start(t *testing.T, write time.Duration) *world {
	t.Helper()
	return startWith(t, system.Config{
		TableWrite: write, Domains: map[string]string{"hub": hub}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)},
	})
}

func startWith(t *testing.T, cfg system.Config) *world {
	t.Helper()
	cfg.Dir = t.TempDir()
	log := &output{t: t}
	cfg.Output = log
	s, err := system.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if failed := s.Close(); failed != nil {
			t.Error(failed)
		}
	})
	bus, err := servicebus.NewSender(servicebus.Config{ConnectionString: s.AgentConnection(), Queue: "route-events"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close(context.Background()) })
	return &world{System: s, t: t, bus: bus, log: log, seqs: map[string]uint64{}}
}

// output keeps the handler's log, and shows it with the test's.
type output struct {
	t *testing.T

	mu   sync.Mutex
	text strings.Builder
}

// Write implements io.Writer.
func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, _ = o.text.Write(p)
	if testing.Verbose() {
		o.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

// String returns all that was written.
func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// said returns the next event of an NVA's first epoch; edit completes it.
func (w *world) said(nva string, kind event.Kind, edit func(*event.Event)) event.Event {
	w.seqs[nva]++
	e := event.Event{Domain: "hub", NVA: nva, Kind: kind, Version: event.Version{Epoch: 1, Seq: w.seqs[nva]}, Boot: "boot-of-" + nva, Beat: 1}
	if kind == event.Snapshot {
		e.Chunk.Count = 1
	}
	if edit != nil {
		edit(&e)
	}
	return e
}

func announce(prefixes []netip.Prefix) func(*event.Event) {
	return func(e *event.Event) {
		for _, p := range prefixes {
			e.Announce = append(e.Announce, route.Entry{Prefix: p})
		}
	}
}

func withdraw(prefixes []netip.Prefix) func(*event.Event) {
	return func(e *event.Event) { e.Withdraw = prefixes }
}

// publish sends events as an agent does.
func (w *world) publish(events ...event.Event) {
	w.t.Helper()
	msgs := make([]message.Message, len(events))
	for i, e := range events {
		body, err := event.Encode(e)
		if err != nil {
			w.t.Fatal(err)
		}
		msgs[i] = message.Message{ID: e.ID(), ContentType: event.ContentType, Body: body}
	}
	if err := w.bus.Publish(w.t.Context(), msgs); err != nil {
		w.t.Fatal(err)
	}
}

// until waits until the condition holds; what it still lacks is the failure's text.
func (w *world) until(what string, condition func() error) {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := condition()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			w.t.Fatalf("%s: still not so after half a minute: %v", what, err)
		case <-tick.C:
		}
	}
}

// settled waits until both queues are empty and nothing is in work.
func (w *world) settled() {
	w.t.Helper()
	w.until("the queues are empty", func() error {
		for _, name := range []string{"route-events", "reconcile"} {
			if q, _ := w.Bus.Queue(name); q.Active+q.Locked > 0 {
				return fmt.Errorf("%s has %d messages, %d of them in work", name, q.Active+q.Locked, q.Locked)
			}
		}
		return nil
	})
}

// carries waits until every prefix has the next hop.
func (w *world) carries(hop string, prefixes []netip.Prefix) {
	w.t.Helper()
	w.until("the table follows", func() error {
		routes, err := w.Routes(system.TableID)
		if err != nil {
			return err
		}
		for _, p := range prefixes {
			if got := routes[p.String()].NextHop; got != hop {
				return fmt.Errorf("%s has next hop %q, want %q", p, got, hop)
			}
		}
		return nil
	})
}

// calls counts the calls of an operation since the last reset.
func (w *world) calls(operation string) int {
	n := 0
	for _, c := range w.ARM.Calls() {
		if c.Operation == operation {
			n++
		}
	}
	return n
}
