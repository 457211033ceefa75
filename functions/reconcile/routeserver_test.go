package reconcile_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

const hubID = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualHubs/rs"

// What the service takes, as recorded.
const (
	peerTime = 80 * time.Second
	askTime  = 10 * time.Second
	holdTime = 180 * time.Second // after which a Route Server notices that a peer is dead
)

// hub is a Route Server: it takes one operation at a time, and speaks BGP with the NVAs that peer with it and live.
type hub struct {
	peers   map[string]peering.Peer // by lower-case name
	foreign map[string]peering.Peer // as others made them: they must stay so
	version int
	ops     map[string]*hubOperation
	asks    map[string]hubAsk
	begun   []string // the steps that were begun
	busy    int      // refused because of another operation
	learns  func(p peering.Peer) []peering.Route
	lags    []string // instances that have not noticed what learns says, and have what it said at first
	old     map[string][]peering.Route
	fails   map[string]error // how the operation of a peer ends
}

type hubOperation struct {
	name   string
	due    time.Time
	failed error
	ended  bool
	apply  func()
}

type hubAsk struct {
	peer string
	due  time.Time
}

func newHub() *hub {
	return &hub{peers: map[string]peering.Peer{}, foreign: map[string]peering.Peer{}, ops: map[string]*hubOperation{}, asks: map[string]hubAsk{}, fails: map[string]error{}}
}

// byHand makes a peer as somebody else would.
func (h *hub) byHand(name string, hop netip.Addr, asn uint32) {
	h.version++
	p := peering.Peer{Name: name, Address: hop, ASN: asn, State: peering.Settled, ETag: fmt.Sprint(h.version)}
	h.peers[strings.ToLower(name)], h.foreign[strings.ToLower(name)] = p, p
}

// settle ends the operations that are due.
func (h *hub) settle(now time.Time) {
	for _, op := range h.ops {
		if !op.ended && !op.due.After(now) {
			op.ended = true
			op.apply()
		}
	}
}

func (h *hub) inFlight() *hubOperation {
	for _, op := range h.ops {
		if !op.ended {
			return op
		}
	}
	return nil
}

// hubPort is one run's view of the Route Server.
type hubPort struct{ *actor }

func (p hubPort) List(_ context.Context, id string) (out []peering.Peer, err error) {
	err = p.call("list", func() error {
		if id != hubID {
			return fault.New(fault.NotFound, "no Route Server %s", id)
		}
		p.hub.settle(p.now)
		for _, peer := range p.hub.peers {
			out = append(out, peer)
		}
		slices.SortFunc(out, func(a, b peering.Peer) int { return strings.Compare(a.Name, b.Name) })
		return nil
	})
	return out, err
}

// Begin checks what must hold before every operation: the document has the step, without a token, and the name as ours; and it touches no peer of others.
func (p hubPort) Begin(_ context.Context, _ string, step peering.Step) (begun peering.Begun, err error) {
	doc := p.hubDoc()
	if known := doc.RouteServer; known == nil || known.Operation == nil || known.Operation.Step != step || known.Operation.Token != "" || !doc.Owns(step.Name) {
		p.t.Errorf("%s is begun before it is written down: %+v", step, known)
	}
	err = p.call("begin "+step.Kind.String(), func() error {
		h := p.hub
		h.settle(p.now)
		key := strings.ToLower(step.Name)
		have, there := h.peers[key]
		if _, foreign := h.foreign[key]; foreign {
			p.t.Errorf("%s touches the peer of somebody else", step)
		}
		if h.inFlight() != nil {
			h.busy++
			return &fault.Error{Kind: fault.Throttled, Code: fault.CodeBusy, RetryAfter: 11 * time.Second, Err: errors.New("another operation")}
		}
		if there != (step.ETag != "") || there && have.ETag != step.ETag {
			return fault.New(fault.Conflict, "peer %s is not as it was read", step.Name)
		}
		h.version++
		h.begun = append(h.begun, step.String())
		after := peering.Peer{Name: step.Name, Address: step.Address, ASN: step.ASN, State: peering.Changing, ETag: fmt.Sprint(h.version)}
		if step.Kind == peering.Delete {
			after = have
			after.State = peering.Leaving
		}
		h.peers[key] = after
		op := &hubOperation{name: step.Name, due: p.now.Add(peerTime), failed: h.fails[step.Name]}
		op.apply = func() {
			switch {
			case op.failed != nil:
				after.State = peering.Broken
			case step.Kind == peering.Delete:
				delete(h.peers, key)
				return
			default:
				after.State = peering.Settled
			}
			h.version++
			after.ETag = fmt.Sprint(h.version)
			h.peers[key] = after
		}
		begun = peering.Begun{Token: fmt.Sprintf("op-%d", h.version), After: 10 * time.Second}
		h.ops[begun.Token] = op
		return nil
	})
	return begun, err
}

func (p hubPort) Follow(_ context.Context, _ string, _ peering.Kind, token string) (out peering.Progress, err error) {
	err = p.call("follow", func() error {
		p.hub.settle(p.now)
		op := p.hub.ops[token]
		if op == nil {
			out.Done = true
			return fault.New(fault.NotFound, "no operation %s", token)
		}
		out.Done = op.ended
		if op.ended {
			return op.failed
		}
		out.After = 10 * time.Second
		return nil
	})
	return out, err
}

func (p hubPort) Ask(_ context.Context, _, peer string) (begun peering.Begun, err error) {
	err = p.call("ask "+peer, func() error {
		p.hub.settle(p.now)
		if _, there := p.hub.peers[strings.ToLower(peer)]; !there {
			return fault.New(fault.NotFound, "no peer %s", peer)
		}
		p.hub.version++
		begun = peering.Begun{Token: fmt.Sprintf("ask-%d", p.hub.version), After: 10 * time.Second}
		p.hub.asks[begun.Token] = hubAsk{peer, p.now.Add(askTime)}
		return nil
	})
	return begun, err
}

func (p hubPort) Answer(_ context.Context, _, token string) (out []peering.Instance, progress peering.Progress, err error) {
	err = p.call("answer", func() error {
		ask, known := p.hub.asks[token]
		if !known {
			progress.Done = true
			return fault.New(fault.NotFound, "no question %s", token)
		}
		if p.now.Before(ask.due) {
			progress.After = 10 * time.Second
			return nil
		}
		progress.Done = true
		peer := p.hub.peers[strings.ToLower(ask.peer)]
		for _, name := range []string{"RouteServiceRole_IN_0", "RouteServiceRole_IN_1"} {
			i := peering.Instance{Name: name}
			switch {
			case slices.Contains(p.hub.lags, name):
				i.Routes = p.hub.old[peer.Name]
			case p.hub.learns != nil:
				i.Routes = p.hub.learns(peer)
			}
			out = append(out, i)
		}
		return nil
	})
	return out, progress, err
}

// hubDoc returns the Route Server's document as saved.
func (w *world) hubDoc() *state.Target {
	w.t.Helper()
	v, ok := w.blobs["targets/hub/rs.json"]
	if !ok {
		return state.NewTarget("hub", "rs", hubID)
	}
	doc, err := state.DecodeTarget(v.data)
	if err != nil {
		w.t.Fatal(err)
	}
	return doc
}

// hubFile is the domain of the tests: two NVAs that peer with a Route Server, and a table that overrides it.
func hubFile(more string) string {
	return domainFile("0", "") + `
routeServers:
  - {name: rs, virtualHub: ` + hubID + `, peers: [{nva: nva-a, asn: 65001}, {nva: nva-b, asn: 65002}]` + more + `}
ranges:
  - {prefixes: [10.64.0.0/10 le 24], via: override}
`
}

func hubWorld(t *testing.T, more string) *world {
	t.Helper()
	w := newWorld(t, hubFile(more))
	w.hub = newHub()
	return w
}

// kept fails the test if a peer of somebody else is not as it was.
func (w *world) kept() {
	w.t.Helper()
	for key, p := range w.hub.foreign {
		if w.hub.peers[key] != p {
			w.t.Errorf("the peer %+v of somebody else is now %+v", p, w.hub.peers[key])
		}
	}
}

func TestPeersAreMadeOneAfterTheOther(t *testing.T) {
	w := hubWorld(t, "")
	w.hub.byHand("by-hand", netip.MustParseAddr("10.0.0.9"), 65009)
	w.hub.byHand(mine+"look-alike", netip.MustParseAddr("10.0.0.8"), 65008)
	start := w.now
	w.wakeTarget("rs", "sweep/1")
	w.rest()
	want := []string{"create pointsman-nva-a 10.0.0.4 AS 65001", "create pointsman-nva-b 10.0.0.5 AS 65002"}
	if diff := cmp.Diff(want, w.hub.begun); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	doc := w.hubDoc()
	if doc.Result.Outcome != state.Unchanged && doc.Result.Outcome != state.Written || doc.RouteServer.Operation != nil || doc.Writes != 2 || doc.Result.Routes != 4 || w.hub.busy != 0 {
		t.Errorf("the document says %+v, %d writes; refused %d times", doc.Result, doc.Writes, w.hub.busy)
	}
	if diff := cmp.Diff([]string{mine + "nva-a", mine + "nva-b"}, doc.Owned); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
	if len(w.history) != 2 || !strings.Contains(w.history[0], `"operation":"create","name":"pointsman-nva-a"`) || !strings.Contains(w.history[0], `"seconds":8`) {
		t.Errorf("history: %s", strings.Join(w.history, "\n"))
	}
	took, messages := w.now.Sub(start), w.runs
	t.Logf("two peers of %s each: settled and looked at after %s, in %d runs", peerTime, took, messages)
	if took > 5*time.Minute || messages > 40 {
		t.Errorf("took %s in %d runs", took, messages)
	}
	w.kept()

	begun := len(w.hub.begun)
	w.wakeTarget("rs", "sweep/2")
	w.rest()
	if len(w.hub.begun) != begun || w.hubDoc().Result.Outcome != state.Unchanged {
		t.Errorf("a second wake without news begins %v, and ends as %+v", w.hub.begun[begun:], w.hubDoc().Result)
	}
}

func TestPeersFollowTheDomainFile(t *testing.T) {
	w := hubWorld(t, "")
	w.hub.byHand("by-hand", netip.MustParseAddr("10.0.0.9"), 65009)
	w.wakeTarget("rs", "sweep/1")
	w.rest()
	w.hub.begun = nil
	w.upload(strings.Replace(strings.Replace(hubFile(""), "asn: 65002", "asn: 65003", 1), "{nva: nva-a, asn: 65001}, ", "", 1))
	w.wakeTarget("rs", "sweep/2")
	w.rest()
	want := []string{"replace pointsman-nva-b 10.0.0.5 AS 65003", "delete pointsman-nva-a 10.0.0.4 AS 65001"}
	if diff := cmp.Diff(want, w.hub.begun); diff != "" {
		t.Errorf("operations (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{mine + "nva-b"}, w.hubDoc().Owned); diff != "" {
		t.Errorf("owned (-want +got):\n%s", diff)
	}
	w.kept()
}

// TestKilledAnywhere kills the first runs at every call of a port, with and without its effect: no operation is begun while another one is in flight but for what the
// service refuses, none is lost, no peer of others is touched, and in the end all is as wanted.
func TestKilledAnywhere(t *testing.T) {
	calls := 0
	for kill := 0; ; kill++ {
		if kill > 50 && kill%11 != 0 { // from there on the same runs come again and again
			continue
		}
		for _, skip := range []bool{true, false} {
			w := hubWorld(t, "")
			w.hub.byHand("by-hand", netip.MustParseAddr("10.0.0.9"), 65009)
			w.hub.learns = func(peering.Peer) []peering.Route { return nil }
			n := -1
			w.fate = func(string) fate {
				if n++; n != kill {
					return fate{}
				}
				return fate{skip: skip, crash: true}
			}
			w.wakeTarget("rs", "sweep/1")
			w.rest()
			calls = n
			w.wakeTarget("rs", "sweep/2")
			w.rest()
			if len(w.hub.begun) != 2 || w.hub.peers[mine+"nva-a"].State != peering.Settled || w.hub.peers[mine+"nva-b"].State != peering.Settled {
				t.Errorf("killed at call %d (skipped %t): begun %v, peers %+v", kill, skip, w.hub.begun, w.hub.peers)
			}
			doc := w.hubDoc()
			if doc.RouteServer.Operation != nil || doc.Result.Outcome != state.Unchanged || doc.Writes > 2 || !doc.Owns(mine+"nva-a") || !doc.Owns(mine+"nva-b") {
				t.Errorf("killed at call %d (skipped %t): %+v, %+v", kill, skip, doc.Result, doc.RouteServer.Operation)
			}
			if w.hub.busy != 0 {
				t.Errorf("killed at call %d (skipped %t): an operation was begun while another one was in work", kill, skip)
			}
			w.kept()
		}
		if kill > calls {
			t.Logf("killed at each of %d calls", calls)
			return
		}
	}
}

// TestTwoRunsAtOnce: a run that lost its lease and another one. The service refuses the second operation, and both peers come to be.
func TestTwoRunsAtOnce(t *testing.T) {
	w := hubWorld(t, "")
	w.wakeTarget("rs", "sweep/1")
	first := w.next()
	for op := range w.calls(first) {
		if op == "begin create" && w.runs == 1 {
			w.now = w.now.Add(lease + time.Second) // it stalls, and another one takes over
			w.wakeTarget("rs", "sweep/2")
			w.deliver(w.next())
		}
	}
	w.rest()
	want := []string{"create pointsman-nva-a 10.0.0.4 AS 65001", "create pointsman-nva-b 10.0.0.5 AS 65002"}
	if diff := cmp.Diff(want, w.hub.begun); diff != "" || w.hub.busy == 0 {
		t.Errorf("refused %d times, begun (-want +got):\n%s", w.hub.busy, diff)
	}
}

func TestPeersThatAreNotWritten(t *testing.T) {
	for _, tt := range []struct {
		name    string
		more    string
		prepare func(*world)
		outcome state.Outcome
		says    string
	}{
		{name: "observe", more: ", apply: observe", outcome: state.Observed, says: "2 operations are not begun, the first is create pointsman-nva-a 10.0.0.4 AS 65001: the domain file says apply: observe"},
		{name: "paused", prepare: func(w *world) {
			doc := w.hubDoc()
			doc.Pause = state.Pause{On: true, ID: "order", Who: "ann", At: w.now}
			body, err := state.EncodeTarget(doc)
			if err != nil {
				w.t.Fatal(err)
			}
			w.put("targets/hub/rs.json", body)
		}, outcome: state.Observed, says: "paused by ann"},
		{name: "blocked", more: ", maxPeers: 2", prepare: func(w *world) {
			w.hub.byHand("x", netip.MustParseAddr("10.0.0.8"), 65008)
			w.hub.byHand("y", netip.MustParseAddr("10.0.0.9"), 65009)
		}, outcome: state.Refused, says: "nva-a: the Route Server has 2 peers and takes no more (maxPeers); nva-b: "},
		{name: "no right", prepare: func(w *world) {
			w.fate = func(op string) fate {
				if op == "list" {
					return fate{skip: true, err: fault.New(fault.Denied, "no right")}
				}
				return fate{}
			}
		}, outcome: state.Denied, says: "no right"},
		{name: "refused", prepare: func(w *world) {
			w.fate = func(op string) fate {
				if op == "begin create" {
					return fate{skip: true, err: fault.New(fault.Refused, "no such address")}
				}
				return fate{}
			}
		}, outcome: state.Refused, says: "no such address"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := hubWorld(t, tt.more)
			if tt.prepare != nil {
				tt.prepare(w)
			}
			w.wakeTarget("rs", "sweep/1")
			w.deliver(w.next())
			doc := w.hubDoc()
			if doc.Result.Outcome != tt.outcome || !strings.Contains(doc.Result.Message, tt.says) || len(w.hub.begun) != 0 || doc.RouteServer.Operation != nil {
				t.Errorf("%s: %q, begun %v; want %s: %q", doc.Result.Outcome, doc.Result.Message, w.hub.begun, tt.outcome, tt.says)
			}
			w.kept()
		})
	}
}

func TestAnotherHandsOperation(t *testing.T) {
	w := hubWorld(t, "")
	w.hub.peers["x"] = peering.Peer{Name: "x", Address: netip.MustParseAddr("10.0.0.8"), ASN: 65008, State: peering.Changing, ETag: "0"}
	w.wakeTarget("rs", "sweep/1")
	w.deliver(w.next())
	doc := w.hubDoc()
	if doc.Result.Outcome != state.Busy || len(w.hub.begun) != 0 || !doc.NotBefore.Equal(w.now.Add(10*time.Second)) {
		t.Errorf("%+v, not before %s, begun %v", doc.Result, doc.NotBefore, w.hub.begun)
	}
	w.hub.peers["x"] = peering.Peer{Name: "x", Address: netip.MustParseAddr("10.0.0.8"), ASN: 65008, State: peering.Settled, ETag: "1"}
	w.rest()
	if len(w.hub.begun) != 2 {
		t.Errorf("afterwards %v", w.hub.begun)
	}
}

// TestOperationsThatEndBadly: a failed one is tried again; one of which the service knows nothing any more, or that has no end, is left to the list.
func TestOperationsThatEndBadly(t *testing.T) {
	t.Run("failed", func(t *testing.T) {
		w := hubWorld(t, "")
		w.hub.fails[mine+"nva-a"] = fault.New(fault.Transient, "internal error")
		w.wakeTarget("rs", "sweep/1")
		w.until(10*time.Minute, func() bool { return len(w.hub.begun) == 2 })
		delete(w.hub.fails, mine+"nva-a")
		for _, op := range w.hub.ops { // the second one will be well
			if !op.ended {
				op.failed = nil
			}
		}
		w.rest()
		want := []string{"create pointsman-nva-a 10.0.0.4 AS 65001", "replace pointsman-nva-a 10.0.0.4 AS 65001"}
		if len(w.hub.begun) < 3 || !slices.Equal(w.hub.begun[:2], want) || !strings.Contains(w.history[0], "internal error") {
			t.Errorf("begun %v, history %v", w.hub.begun, w.history)
		}
	})
	t.Run("forgotten", func(t *testing.T) {
		w := hubWorld(t, "")
		w.wakeTarget("rs", "sweep/1")
		w.deliver(w.next())
		w.hub.settle(w.now.Add(peerTime))
		clear(w.hub.ops)
		w.rest()
		if len(w.hub.begun) != 2 || len(w.history) != 2 {
			t.Errorf("begun %v, history %v", w.hub.begun, w.history)
		}
	})
	t.Run("endless", func(t *testing.T) {
		w := hubWorld(t, "")
		w.wakeTarget("rs", "sweep/1")
		w.deliver(w.next())
		for _, op := range w.hub.ops {
			stuck := *op
			w.hub.settle(w.now.Add(peerTime)) // the peer is there, the operation has no end
			stuck.due = w.now.Add(100 * time.Hour)
			for token := range w.hub.ops {
				w.hub.ops[token] = &hubOperation{name: stuck.name, due: stuck.due, apply: func() {}}
			}
		}
		took := w.until(time.Hour, func() bool {
			op := w.hubDoc().RouteServer.Operation
			return op == nil || op.Name != mine+"nva-a"
		})
		if took < 30*time.Minute || took > 32*time.Minute {
			t.Errorf("given up after %s", took)
		}
	})
}

// live makes the NVAs speak BGP with the Route Server as they announce: all that their documents hold, until holdTime after their death.
func (w *world) live(died map[string]time.Time) {
	hops := map[netip.Addr]string{hopA: "nva-a", hopB: "nva-b"}
	w.hub.learns = func(p peering.Peer) []peering.Route {
		name := hops[p.Address]
		if at, dead := died[name]; dead && !w.now.Before(at.Add(holdTime)) {
			return nil
		}
		var out []peering.Route
		for _, e := range w.nva(name).RIB() {
			out = append(out, peering.Route{Prefix: e.Prefix, NextHop: p.Address})
		}
		return out
	}
}

func TestWhatIsLearnedIsCompared(t *testing.T) {
	w := hubWorld(t, "")
	w.live(nil)
	w.said("nva-a", event.Snapshot, announce(prefixes(3)...))
	w.said("nva-b", event.Snapshot, announce(prefixes(2)...))
	w.rest()
	doc := w.hubDoc()
	for _, nva := range []string{"nva-a", "nva-b"} {
		if l, looked := doc.RouteServer.Of(nva); !looked || !l.Same() || l.Full.IsZero() || !l.Clear.IsZero() || len(l.Heard) != 2 {
			t.Errorf("%s: %+v", nva, l)
		}
	}
	if len(doc.Result.Warnings) != 0 {
		t.Errorf("warnings: %v", doc.Result.Warnings)
	}

	// One instance lacks a route of nva-a, has one that nobody announces, and one that leads elsewhere.
	same := w.hub.learns
	w.hub.learns = func(p peering.Peer) []peering.Route {
		out := same(p)
		if p.Address == hopA && len(out) > 1 {
			out[0], out[1].NextHop = peering.Route{Prefix: prefix(77), NextHop: hopA}, hopB
		}
		return out
	}
	asked := func() int {
		return len(slices.DeleteFunc(slices.Clone(w.ops), func(op string) bool { return !strings.HasPrefix(op, "ask") }))
	}
	before := asked()
	w.wakeTarget("rs", "nva-a/same")
	w.rest()
	if n := asked() - before; n != 0 {
		t.Errorf("a wake without news asks %d times what was learned", n)
	}
	w.now = w.now.Add(5 * time.Minute)
	w.wakeTarget("rs", "sweep/5")
	w.rest()
	if n := asked() - before; n != 2 {
		t.Errorf("a sweep asks %d times what was learned, want once for each NVA", n)
	}
	doc = w.hubDoc()
	l, _ := doc.RouteServer.Of("nva-a")
	want := peering.Heard{
		Instance: "RouteServiceRole_IN_1", Routes: 3, Listed: 3, Missing: 1, Surplus: 1, Astray: 1,
		Examples: []string{"10.64.0.0/24 is missing", "10.64.1.0/24 leads to 10.0.0.5", "10.64.77.0/24 is not announced"},
	}
	if len(l.Heard) != 2 || !cmp.Equal(l.Heard[1], want) || !l.Full.IsZero() {
		t.Errorf("nva-a: %+v", l)
	}
	if len(doc.Result.Warnings) != 1 || !strings.Contains(doc.Result.Warnings[0], "RouteServiceRole_IN_0: 1 missing, 1 not announced, 1 with another next hop") {
		t.Errorf("warnings: %v", doc.Result.Warnings)
	}
	if n := strings.Count(w.log.String(), "the Route Server has not learned what the NVA announces"); n == 0 {
		t.Error("the log says nothing")
	}
}

// overrides returns the prefixes of the managed routes of the table, with their next hops.
func (w *world) overrides() map[string]string {
	out := map[string]string{}
	for _, r := range w.tables[tableID].routes {
		if strings.HasPrefix(r.Name, mine+"10-64-") {
			out[r.Prefix.String()] = r.NextHops.String()
		}
	}
	return out
}

// settledHub is a world in which both NVAs announce n prefixes, peer with the Route Server, and have been looked at.
func settledHub(t *testing.T, n int) (w *world, died map[string]time.Time) {
	t.Helper()
	w, died = hubWorld(t, ""), map[string]time.Time{}
	w.live(died)
	w.said("nva-a", event.Snapshot, announce(prefixes(n)...))
	w.said("nva-b", event.Snapshot, announce(prefixes(n)...))
	w.rest()
	if len(w.overrides()) != 0 || w.puts != 0 || len(w.hub.peers) != 2 {
		t.Fatalf("before anything has happened the table has %v after %d writes, the Route Server %+v", w.overrides(), w.puts, w.hub.peers)
	}
	return w, died
}

// until delivers what is due and moves the clock on, second by second, until done or the limit.
func (w *world) until(limit time.Duration, done func() bool) time.Duration {
	w.t.Helper()
	start := w.now
	for w.now.Sub(start) <= limit {
		for d := w.next(); d != nil && !done(); d = w.next() {
			w.deliver(d)
		}
		if done() {
			return w.now.Sub(start)
		}
		w.now = w.now.Add(time.Second)
	}
	w.t.Fatalf("not done after %s\n%s", limit, w.log.String())
	return 0
}

// TestFailoverPastTheRouteServer is the measurement: an NVA is proven dead, the table steers past it at once, and is empty again when the Route Server has noticed.
func TestFailoverPastTheRouteServer(t *testing.T) {
	const n = 50
	w, died := settledHub(t, n)
	died["nva-a"] = w.now
	w.now = w.now.Add(15 * time.Second) // the dead-man switch fires
	proof := w.now
	w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
	put := w.until(time.Minute, func() bool { return len(w.overrides()) == n })
	if put > 0 {
		t.Errorf("from the proof to the write: %s", put)
	}
	for p, hop := range w.overrides() {
		if hop != hopB.String() {
			t.Errorf("%s leads to %s", p, hop)
		}
	}
	w.until(10*time.Minute, func() bool { return len(w.overrides()) == 0 })
	noticed, gone := died["nva-a"].Add(holdTime), w.now
	if gone.Before(noticed) || gone.Sub(noticed) > askTime+failoverPause+2*time.Second {
		t.Errorf("the Route Server noticed at %s, the overrides went at %s", noticed, gone)
	}
	w.rest()
	if w.puts != 2 || len(w.overrides()) != 0 {
		t.Errorf("%d writes, left %v", w.puts, w.overrides())
	}
	t.Logf("proof to PUT %s; Route Server converged %s after the proof, overrides gone %s later; %d writes of the table", put, noticed.Sub(proof), gone.Sub(noticed), w.puts)
}

// failoverPause is how often it is looked at an NVA that is down.
const failoverPause = 10 * time.Second

// TestOneInstanceStillLeads: one instance has noticed the death, the other one not yet: the overrides stay until both have.
func TestOneInstanceStillLeads(t *testing.T) {
	for _, lag := range []string{"RouteServiceRole_IN_0", "RouteServiceRole_IN_1"} {
		w, died := settledHub(t, 3)
		w.hub.old, w.hub.lags = map[string][]peering.Route{}, []string{lag}
		for _, p := range w.hub.peers {
			w.hub.old[p.Name] = w.hub.learns(p)
		}
		died["nva-a"] = w.now.Add(-holdTime) // the other one knows it at once
		w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
		w.until(time.Minute, func() bool { return len(w.overrides()) == 3 })
		start := w.now
		w.until(5*time.Minute, func() bool { return len(w.overrides()) == 0 || w.now.Sub(start) > 2*time.Minute })
		if len(w.overrides()) != 3 {
			t.Errorf("%s still leads to the dead, and the table has %v", lag, w.overrides())
		}
		w.hub.lags = nil
		w.until(time.Minute, func() bool { return len(w.overrides()) == 0 })
	}
}

func TestNVAThatReturnsBeforeTheRouteServerNotices(t *testing.T) {
	w, died := settledHub(t, 3)
	died["nva-a"] = w.now
	w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
	w.until(time.Minute, func() bool { return len(w.overrides()) == 3 })
	w.until(time.Minute, func() bool { return w.now.Sub(died["nva-a"]) >= 30*time.Second })
	delete(died, "nva-a")
	w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 100 })
	w.rest()
	if len(w.overrides()) != 0 || w.puts != 2 {
		t.Errorf("after its return %v, %d writes", w.overrides(), w.puts)
	}
}

// TestNoOverrideWithoutASurvivor: a prefix that nobody else announces is not led past the Route Server.
func TestNoOverrideWithoutASurvivor(t *testing.T) {
	w, died := settledHub(t, 3)
	w.said("nva-b", event.Delta, withdraw(prefix(2)))
	w.rest()
	died["nva-a"] = w.now
	w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
	w.until(time.Minute, func() bool { return len(w.overrides()) > 0 })
	if diff := cmp.Diff(map[string]string{prefix(0).String(): hopB.String(), prefix(1).String(): hopB.String()}, w.overrides()); diff != "" {
		t.Errorf("the table (-want +got):\n%s", diff)
	}
}

// TestTablesAreToldAtLeastOnce: a run that dies after it has seen that the Route Server leads nowhere, and before the tables are woken, is made up for.
func TestTablesAreToldAtLeastOnce(t *testing.T) {
	w, died := settledHub(t, 3)
	died["nva-a"] = w.now
	w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
	w.until(time.Minute, func() bool { return len(w.overrides()) == 3 })
	killed := 0
	w.fate = func(op string) fate {
		if op == "send route-server" && killed < 3 {
			killed++
			return fate{skip: true, crash: true}
		}
		return fate{}
	}
	w.until(10*time.Minute, func() bool { return len(w.overrides()) == 0 })
	if killed != 3 {
		t.Errorf("killed %d times", killed)
	}
}

// TestLargeOverridesGoPastTheGuard: all of the table's managed routes are overrides, and they go in one write; but only if the Route Server has what the survivor announces.
func TestLargeOverridesGoPastTheGuard(t *testing.T) {
	w, died := settledHub(t, 30)
	full := w.hub.learns
	w.hub.learns = func(p peering.Peer) []peering.Route {
		if p.Address == hopB && died["nva-a"] != (time.Time{}) {
			return nil // it has lost the session with the survivor too
		}
		return full(p)
	}
	died["nva-a"] = w.now
	w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
	w.until(time.Minute, func() bool { return len(w.overrides()) == 30 })
	w.rest()
	if len(w.overrides()) != 30 || w.document().Result.Code != plan.RemovalGuard {
		t.Fatalf("the table has %d overrides, %+v", len(w.overrides()), w.document().Result)
	}
	w.hub.learns = full
	w.now = w.now.Add(5 * time.Minute)
	w.wakeTarget("rs", "sweep/9")
	w.rest()
	if len(w.overrides()) != 0 {
		t.Errorf("the table has %d overrides, %+v", len(w.overrides()), w.document().Result)
	}
}

// TestOneFileDrivesBoth: with via both, table and Route Server come to the same next hops.
func TestOneFileDrivesBoth(t *testing.T) {
	w := hubWorld(t, "")
	w.upload(strings.Replace(hubFile(""), "via: override", "via: both", 1))
	w.live(nil)
	w.said("nva-a", event.Snapshot, announce(prefixes(3)...))
	w.said("nva-b", event.Snapshot, announce(prefixes(5)[3:]...))
	w.rest()
	learned := map[string]string{}
	for _, p := range w.hub.peers {
		for _, r := range w.hub.learns(p) {
			learned[r.Prefix.String()] = r.NextHop.String()
		}
	}
	if diff := cmp.Diff(learned, w.overrides()); diff != "" || len(learned) != 5 {
		t.Errorf("%d prefixes (-Route Server +table):\n%s", len(learned), diff)
	}
	if warnings := w.hubDoc().Result.Warnings; len(warnings) != 0 {
		t.Errorf("%v", warnings)
	}
}
