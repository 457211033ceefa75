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

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

// ordered merges an order as ingest does and sends the wake. It returns the order's id.
func (w *world) ordered(kind order.Kind, hash string) string {
	w.t.Helper()
	id := fmt.Sprintf("order-%d", len(w.sent))
	w.edit(func(doc *state.Target) {
		doc.Obey(order.Order{Kind: kind, Domain: "hub", Target: "spokes", Plan: hash, ID: id, Who: "jo", Why: "because"}, w.now)
	})
	w.wake("order/" + id)
	return id
}

// deciding is settledWorld with more in its target's line, settled while it was auto.
func deciding(t *testing.T, rest string) *world {
	t.Helper()
	w := settledWorld(t)
	w.upload(domainFile("0", rest))
	return w
}

func (w *world) want(end state.Outcome, puts int) {
	w.t.Helper()
	if got := w.document().Result; got.Outcome != end || w.puts != puts {
		w.t.Fatalf("%s after %d PUTs, want %s after %d: %s\n%s", got.Outcome, w.puts, end, puts, got.Message, w.log.String())
	}
}

// What is only observed is shown, and nothing is sent that could change the table: not for a death, not for a fence, not for a table that failed.
func TestObserve(t *testing.T) {
	for name, begin := range map[string]func(t *testing.T) *world{
		"apply: observe": func(t *testing.T) *world { t.Helper(); return deciding(t, ", apply: observe") },
		"paused": func(t *testing.T) *world {
			t.Helper()
			w := settledWorld(t)
			w.ordered(order.Pause, "")
			w.rest()
			w.want(state.Unchanged, 0)
			return w
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := begin(t)
			w.said("nva-a", event.Expired, nil)
			w.rest()
			w.want(state.Observed, 0)
			doc := w.document()
			if p := doc.Proposal; p == nil || len(p.Changed) != 2 || p.Changed[0].From != hopA.String() || p.Changed[0].To != hopB.String() || !strings.Contains(doc.Result.Message, p.Plan) {
				t.Errorf("proposal %+v, message %q", p, doc.Result.Message)
			}
			w.edit(func(doc *state.Target) {
				doc.Intents = append(doc.Intents, state.Intent{Run: "dead", Since: w.now, Until: w.now})
			})
			w.tables[tableID].failed = true
			w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 })
			w.rest()
			w.want(state.Unchanged, 0)
			if slices.Contains(w.ops, "put") || w.document().Proposal != nil {
				t.Errorf("ops %v, proposal %+v", w.ops, w.document().Proposal)
			}
		})
	}
}

func TestPauseEnds(t *testing.T) {
	w := settledWorld(t)
	w.ordered(order.Pause, "")
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.want(state.Observed, 0)
	if m := w.document().Result.Message; !strings.Contains(m, "paused by jo since 2026-11-23T12:00:00Z (because)") || w.document().Result.Code != "Paused" {
		t.Errorf("message %q", m)
	}
	w.now = w.now.Add(time.Minute)
	w.ordered(order.Unpause, "")
	w.rest()
	w.want(state.Written, 1)
	if wrong := w.wrong(); wrong != "" {
		t.Error(wrong)
	}
}

// A pause that comes while a run is about to save what it owns stops that run too.
func TestPauseBeforeTheWrite(t *testing.T) {
	w := settledWorld(t)
	w.said("nva-a", event.Delta, announce(prefix(7)))
	paused := false
	w.meddle = func(op string) {
		if strings.HasPrefix(op, "write targets") && len(w.ops) > 4 && !paused {
			paused = true
			w.ordered(order.Pause, "")
		}
	}
	w.rest()
	w.want(state.Observed, 0)
}

// Nothing is written, not even away from the dead, until an operator names the plan; then exactly that.
func TestApprove(t *testing.T) {
	w := deciding(t, ", apply: approve")
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.want(state.Held, 0)
	held := w.document()
	if !strings.Contains(held.Result.Message, "2 changes wait for pointsman approve spokes --domain hub --plan "+held.Proposal.Plan) || held.Result.Code != "ApprovalNeeded" {
		t.Errorf("message %q", held.Result.Message)
	}
	since := held.Proposal.Since
	w.now = w.now.Add(time.Hour)
	w.wake("sweep/1")
	w.rest()
	if again := w.document().Proposal; again.Plan != held.Proposal.Plan || !again.Since.Equal(since) {
		t.Errorf("the same plan, an hour later: %+v", again)
	}
	w.ordered(order.Approve, "0123456789abcdef")
	w.rest()
	w.want(state.Held, 0)
	if a := w.document().Approval; a.End != "void: the plan is now "+held.Proposal.Plan {
		t.Errorf("an approval of another plan: %+v", a)
	}
	id := w.ordered(order.Approve, held.Proposal.Plan)
	w.rest()
	w.want(state.Written, 1)
	if wrong := w.wrong(); wrong != "" {
		t.Error(wrong)
	}
	doc := w.document()
	if doc.Approval.ID != id || doc.Approval.End != state.ApprovalWritten || doc.Proposal != nil {
		t.Errorf("approval %+v, proposal %+v", doc.Approval, doc.Proposal)
	}
	if by := w.lines()[0]["approved"].(map[string]any); by["who"] != "jo" || by["why"] != "because" || by["id"] != id {
		t.Errorf("history %v", by)
	}
	// The way back is another plan; and when the same one is wanted again, it needs a new approval.
	w.now = w.now.Add(time.Minute)
	w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 })
	w.rest()
	w.ordered(order.Approve, w.document().Proposal.Plan)
	w.rest()
	w.want(state.Written, 2)
	w.now = w.now.Add(time.Minute)
	w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
	w.rest()
	w.want(state.Held, 2)
	if got := w.document().Proposal.Plan; got != held.Proposal.Plan {
		t.Errorf("plan %s, want %s again", got, held.Proposal.Plan)
	}
}

// The plan that was approved changes before it is written.
func TestApprovalIsVoid(t *testing.T) {
	for name, change := range map[string]func(w *world){
		"another plan":     func(w *world) { w.said("nva-b", event.Delta, announce(prefix(9))) },
		"nothing to write": func(w *world) { w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 }) },
		"only observed":    func(w *world) { w.upload(domainFile("0", ", apply: observe")) },
	} {
		t.Run(name, func(t *testing.T) {
			w := deciding(t, ", apply: approve")
			w.said("nva-a", event.Expired, nil)
			w.rest()
			hash := w.document().Proposal.Plan
			w.now = w.now.Add(time.Minute)
			change(w)
			w.ordered(order.Approve, hash)
			w.rest()
			if a := w.document().Approval; w.puts != 0 || !strings.HasPrefix(a.End, "void: ") {
				t.Errorf("%d PUTs, %+v", w.puts, a)
			}
		})
	}
}

// An approval that comes while a run makes another plan is not void for that.
func TestApprovalDuringARun(t *testing.T) {
	w := deciding(t, ", apply: approve")
	w.said("nva-a", event.Expired, nil)
	w.rest()
	hash := w.document().Proposal.Plan
	w.wake("sweep/1")
	given := false
	w.meddle = func(op string) {
		if op == "get" && !given {
			given = true
			w.ordered(order.Approve, hash)
		}
	}
	w.rest()
	w.want(state.Written, 1)
}

// Whatever call goes wrong, in whatever way: an approved plan is written in the end or its approval is void, and nothing else is ever written.
func TestApprovalUnderEveryFault(t *testing.T) {
	begin := func() *world {
		w := deciding(t, ", apply: approve")
		w.said("nva-a", event.Expired, nil)
		w.rest()
		w.ordered(order.Approve, w.document().Proposal.Plan)
		w.forget()
		return w
	}
	clean := begin()
	clean.deliver(clean.next())
	calls := len(clean.ops)
	lost := errors.New("connection reset")
	for name, f := range map[string]fate{"not done, error": {skip: true, err: lost}, "done, error": {err: lost}, "not done, death": {skip: true, crash: true}, "done, death": {crash: true}} {
		for n := 1; n <= calls; n++ {
			w := begin()
			w.fate = nth("", n, n, f)
			w.deliver(w.next())
			w.fate = func(string) fate { return fate{} }
			w.rest()
			where := fmt.Sprintf("call %d (%s) %s", n, clean.ops[n-1], name)
			if wrong := w.wrong(); wrong != "" {
				t.Errorf("%s: %s\n%s", where, wrong, w.log.String())
			}
			if a := w.document().Approval; a.Open() {
				t.Errorf("%s: the approval is still open", where)
			}
			// The table flaps: each way needs an approval of its own, whatever happened to the first one.
			w.forget()
			w.now = w.now.Add(time.Minute)
			w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 99 })
			w.rest()
			w.want(state.Held, 0)
		}
	}
}

// The guards of shares let the plan pass that an operator has named, once; no other one.
func TestOverride(t *testing.T) {
	const guarded = ", guards: {maxChanged: 10%}"
	w := settledWorld(t)
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.forget()
	w.upload(domainFile("0", guarded))
	back := func(beat uint64) {
		w.now = w.now.Add(time.Minute)
		w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = beat })
		w.rest()
	}
	away := func(beat uint64) {
		w.now = w.now.Add(time.Minute)
		w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = beat })
		w.rest()
	}
	back(50)
	w.want(state.Refused, 0)
	result := w.document().Result
	_, hash, found := strings.Cut(result.Message, "--override --plan ")
	if result.Code != plan.ChangeGuard || !found {
		t.Fatalf("%+v", result)
	}
	hash = hash[:plan.HashLength]
	w.ordered(order.Approve, hash)
	w.rest()
	w.want(state.Refused, 0)
	w.now = w.now.Add(time.Second)
	w.ordered(order.Override, hash)
	w.rest()
	w.want(state.Written, 1)
	if wrong := w.wrong(); wrong != "" {
		t.Error(wrong)
	}
	away(50) // no guard stops that
	w.want(state.Written, 2)
	back(60)
	w.want(state.Refused, 2)
}

// minLive: while too few are up, only the dead are left.
func TestMinLive(t *testing.T) {
	w := deciding(t, ", guards: {minLive: 2, maxRemoved: 100%}")
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.want(state.Written, 1) // away from the dead
	w.said("nva-b", event.Delta, withdraw(prefix(0)))
	w.said("nva-a", event.Delta, withdraw(prefix(0)))
	w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
	w.rest()
	w.want(state.Refused, 1)
	if r := w.document().Result; r.Code != plan.MinLive || !strings.Contains(r.Message, "1 of the target's NVAs are up, guards.minLive is 2: 1 routes are not withdrawn") {
		t.Errorf("%+v", r)
	}
}

// Subnet implements reconcile.Subnets.
func (a *actor) Subnet(_ context.Context, id string) (found []netip.Prefix, err error) {
	err = a.call("subnet "+id, func() error {
		p, known := a.subnets[id]
		if !known {
			return fault.New(fault.NotFound, "no subnet %s", id)
		}
		found = p
		return nil
	})
	return found, err
}

const (
	farSubnet = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/spoke/subnets/apps"
	ownSubnet = "/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/hub/subnets/nvas"
)

func inSubnets(t *testing.T, rest string, subnets ...string) *world {
	t.Helper()
	w := deciding(t, rest)
	w.subnets = map[string][]netip.Prefix{farSubnet: {netip.MustParsePrefix("10.2.0.0/24")}, ownSubnet: {netip.MustParsePrefix("fd00::/64"), netip.MustParsePrefix("10.0.0.0/24")}}
	w.tables[tableID].subnets = subnets
	return w
}

func (w *world) reads() int {
	n := 0
	for _, op := range w.ops {
		if strings.HasPrefix(op, "subnet ") {
			n++
		}
	}
	return n
}

func TestOwnSubnet(t *testing.T) {
	w := inSubnets(t, "", farSubnet, ownSubnet)
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.want(state.Denied, 0)
	if r := w.document().Result; r.Code != plan.CodeOwnSubnet || !strings.Contains(r.Message, "subnet hub/nvas (10.0.0.0/24), which holds 10.0.0.4, the next hop of nva-a") {
		t.Errorf("%+v", r)
	}
	w.tables[tableID].subnets = []string{farSubnet}
	w.wake("sweep/1")
	w.rest()
	w.want(state.Written, 1)
	if got := w.document().Subnets; len(got) != 1 || got[0].ID != farSubnet {
		t.Errorf("remembered %+v", got)
	}

	w = inSubnets(t, ", guards: {ownSubnet: off}", ownSubnet)
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.want(state.Written, 1)
	if w.reads() != 0 {
		t.Errorf("%d subnets read", w.reads())
	}
	w = inSubnets(t, ", subnets: [10.2.0.0/24]", ownSubnet)
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.want(state.Written, 1)
	if w.reads() != 0 {
		t.Errorf("%d subnets read where they are declared", w.reads())
	}
}

// A failover waits for the reading of a subnet that was never read, and for nothing else; the sweep keeps the rest fresh.
func TestSubnetsAreRemembered(t *testing.T) {
	w := inSubnets(t, "", farSubnet)
	w.wake("sweep/1")
	w.rest()
	w.want(state.Unchanged, 0)
	if w.reads() != 1 {
		t.Errorf("the sweep read %d subnets", w.reads())
	}
	w.now = w.now.Add(48 * time.Hour)
	w.said("nva-a", event.Expired, nil)
	w.rest()
	w.want(state.Written, 1)
	if w.reads() != 1 {
		t.Errorf("the failover read %d subnets", w.reads()-1)
	}
	w.wake("sweep/2")
	w.rest()
	if w.reads() != 2 {
		t.Error("the sweep did not read what is old")
	}
	w.subnets[farSubnet] = w.subnets[ownSubnet]
	w.now = w.now.Add(time.Minute)
	w.wake("sweep/3")
	w.rest()
	if w.reads() != 2 {
		t.Error("the sweep read what is fresh")
	}
	w.now = w.now.Add(time.Hour)
	w.wake("sweep/4")
	w.rest()
	w.want(state.Denied, 1) // also with nothing to write
}

func TestSubnetsThatCannotBeRead(t *testing.T) {
	denied := refused(fault.Denied, "AuthorizationFailed")
	for _, tt := range []struct {
		name    string
		known   bool
		fate    fate
		outcome state.Outcome
		code    string
		puts    int
	}{
		{"never read, no right", false, denied, state.Denied, "OwnSubnetUnknown", 0},
		{"never read, away", false, fate{skip: true, err: errors.New("connection reset")}, state.Failed, "", 0},
		{"never read, throttled", false, throttled("TooMany", 7*time.Second), state.Throttled, "TooMany", 0},
		{"never read, gone", false, refused(fault.NotFound, "NotFound"), state.Written, "", 1},
		{"read before, no right", true, denied, state.Written, "", 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := inSubnets(t, "", farSubnet)
			if tt.known {
				w.wake("sweep/1")
				w.rest()
				w.now = w.now.Add(48 * time.Hour)
			}
			w.fate = always("subnet", tt.fate)
			w.said("nva-a", event.Expired, nil)
			w.wake("sweep/2")
			w.deliver(w.next())
			w.want(tt.outcome, tt.puts)
			if r := w.document().Result; r.Code != tt.code {
				t.Errorf("%+v", r)
			}
		})
	}
}

// operate merges an operator's order about an NVA as ingest does and sends the wake.
func (w *world) operate(nva string, kind order.Kind) {
	w.t.Helper()
	doc := w.nva(nva)
	doc.Obey(state.OrderOf(order.Order{Kind: kind, ID: fmt.Sprint(w.now.UnixNano()), Who: "jo"}, w.now))
	body, err := state.EncodeNVA(doc)
	if err != nil {
		w.t.Fatal(err)
	}
	w.put("nvas/hub/"+nva+".json", body)
	w.wake(fmt.Sprintf("%s/%d", nva, doc.Revision))
}

// carries returns who carries the first prefix.
func (w *world) carrier() string {
	w.rest()
	for _, r := range w.tables[tableID].routes {
		if r.Prefix == prefix(0) {
			return map[string]string{hopA.String(): "nva-a", hopB.String(): "nva-b"}[r.NextHops.String()]
		}
	}
	return ""
}

// A drain moves at once and the end of it gives back: after the hold-down, or, where nothing but an operator's word gives back, by that word.
func TestDrainAndResume(t *testing.T) {
	for _, holdDown := range []string{"0s", "30s", "never"} {
		t.Run(holdDown, func(t *testing.T) {
			w := newWorld(t, strings.Replace(domainFile("0", ""), "holdDown: 0s", "holdDown: "+holdDown, 1))
			w.said("nva-a", event.Snapshot, announce(prefixes(2)...))
			w.said("nva-b", event.Snapshot, announce(prefixes(2)...))
			w.rest()
			later := func() { w.now = w.now.Add(time.Hour) }
			later()
			w.wake("sweep/1")
			if got := w.carrier(); got != "nva-a" {
				t.Fatalf("%s carries it", got)
			}
			later()
			w.operate("nva-a", order.Drain)
			began := w.now
			if got := w.carrier(); got != "nva-b" || !w.now.Equal(began) {
				t.Fatalf("drained after %s: %s carries it", w.now.Sub(began), got)
			}
			if why := w.document().Carried[0].Why; !strings.Contains(why, "drained by jo") {
				t.Errorf("why: %s", why)
			}
			later()
			w.operate("nva-a", order.Resume)
			began = w.now
			if got := w.carrier(); got != "nva-a" {
				t.Fatalf("resumed: %s carries it", got)
			}
			if waited := w.now.Sub(began); holdDown == "30s" && waited < 30*time.Second || holdDown != "30s" && waited > 0 {
				t.Errorf("given back after %s", waited)
			}
			// It dies and comes back: under never, only the next word gives back.
			later()
			w.said("nva-a", event.Expired, func(e *event.Event) { e.Beat = 99 })
			if got := w.carrier(); got != "nva-b" {
				t.Fatalf("dead: %s carries it", got)
			}
			later()
			w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 100 })
			if got := w.carrier(); (got == "nva-b") != (holdDown == "never") {
				t.Fatalf("back: %s carries it", got)
			}
			later()
			w.operate("nva-a", order.Resume)
			if got := w.carrier(); got != "nva-a" {
				t.Fatalf("told: %s carries it", got)
			}
		})
	}
}

// A plan that is not written is no record of what was: the table that does not follow it has not drifted.
func TestAWaitingPlanIsNoDrift(t *testing.T) {
	for _, apply := range []string{"approve", "observe"} {
		w := deciding(t, ", apply: "+apply)
		w.said("nva-a", event.Expired, nil)
		w.rest()
		w.wake("sweep/1")
		w.rest()
		if doc := w.document(); len(doc.Drifted) > 0 || len(w.heard(outcome.RouteChanged)) > 1 || doc.Proposal == nil {
			t.Errorf("%s: drifted %+v, told %+v", apply, doc.Drifted, w.heard(outcome.RouteChanged))
		}
	}
}

// What an operator decides is no drift, and no hand's work is forgotten while a plan waits: it is told with the write that undoes it.
func TestDriftWhileAPlanWaits(t *testing.T) {
	w := deciding(t, ", apply: approve")
	w.byHand(prefix(0), hopX)
	w.azureTells("e1")
	w.rest()
	w.want(state.Held, 0)
	doc := w.document()
	if len(doc.Drifted) != 1 || len(doc.Hands) != 1 || doc.Proposal.Changed[0].From != hopX.String() {
		t.Fatalf("drifted %+v, hands %+v, proposal %+v", doc.Drifted, doc.Hands, doc.Proposal)
	}
	if told := w.heard(outcome.DriftRepaired); len(told) > 0 {
		t.Errorf("told before it was written: %+v", told)
	}
	w.ordered(order.Approve, doc.Proposal.Plan)
	w.rest()
	w.want(state.Written, 1)
	if told := w.heard(outcome.DriftRepaired); len(told) != 1 || len(told[0].Data.Hands) != 1 {
		t.Errorf("told %+v", told)
	}
	if doc = w.document(); len(doc.Drifted)+len(doc.Hands) > 0 {
		t.Errorf("drifted %+v, hands %+v", doc.Drifted, doc.Hands)
	}
}
