package reconcile_test

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/group"
	"github.com/pointsman/pointsman/shared/state"
)

const alertAfter = 30 * time.Second

// firewall is a domain of two tables that must agree and three NVAs, of which the best was never heard.
func firewall(policy string) string {
	return `
domain: hub
policy: {silence: down, damping: {halfLife: 0s}` + policy + `}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], preference: 200, allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-c, nextHops: [10.0.0.6], preference: 300, allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: spokes, routeTable: ` + routeTable("spokes") + `, prefixes: [10.64.0.0/15 le 24]}
  - {name: gateway, routeTable: ` + routeTable("gateway") + `}
groups:
  - {name: firewall, targets: [spokes, gateway]}
`
}

// inGroup runs do for a group at rest on nva-a.
func inGroup(t *testing.T, policy string, do func(*estate)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		e := newEstate(t, firewall(policy))
		e.say("nva-a", event.Snapshot, announce(prefixes(9)...))
		e.say("nva-b", event.Snapshot, announce(prefixes(9)...))
		e.calls.Wait()
		time.Sleep(time.Minute)
		e.forget()
		do(e)
	})
}

func (e *estate) standing() group.Standing {
	return group.Judge([]*state.Target{e.document("spokes"), e.document("gateway")}, alertAfter, time.Now())
}

// both says what both tables carry.
func (e *estate) both() string { return e.carries("spokes") + " | " + e.carries("gateway") }

const (
	onA = "10.0.0.4"
	onB = "10.0.0.5"
	onC = "10.0.0.6"
)

// TestBothSidesAreWrittenAsOne: both tables leave a dead NVA in the same moment and come back in the same moment; how far apart they were is known.
func TestBothSidesAreWrittenAsOne(t *testing.T) {
	inGroup(t, "", func(e *estate) {
		begin := time.Now()
		e.say("nva-a", event.Expired, nil)
		e.calls.Wait()
		e.say("nva-a", event.Alive, nil)
		e.calls.Wait() // the hold-down too
		puts := e.accepted()
		if len(puts) != 4 || e.both() != onA+" | "+onA {
			t.Fatalf("%d writes, %s\n%s", len(puts), e.both(), e.log.String())
		}
		for i := 0; i < len(puts); i += 2 {
			if skew := puts[i+1].at.Sub(puts[i].at); puts[i].target == puts[i+1].target || skew > 100*time.Millisecond {
				t.Errorf("%s and %s were written %v apart, %v after the death", puts[i].target, puts[i+1].target, skew, puts[i].at.Sub(begin))
			}
		}
		s := e.standing()
		if s.State != group.Complete || s.Skew > 100*time.Millisecond {
			t.Errorf("%+v", s)
		}
		agreements := 0
		for _, line := range e.history {
			var x struct {
				Group string
				View  string
				Skew  *float64 `json:"skewSeconds"`
			}
			if err := json.Unmarshal([]byte(line), &x); err != nil {
				t.Fatal(err)
			}
			if x.Group == "firewall" && x.View != "" && x.Skew != nil && *x.Skew <= 0.1 {
				agreements++
			}
		}
		if agreements < 3 || agreements > 6 { // the NVA is dead, is back, may take prefixes; two runs that end at once may both say so
			t.Errorf("%d lines of the history say that the group agrees, want one or two for each of three views:\n%s", agreements, strings.Join(e.history, ""))
		}
		if e.document("spokes").View != e.document("gateway").View || len(e.logged("do not agree\"")) > 0 {
			t.Errorf("views %s and %s, log %v", e.document("spokes").View, e.document("gateway").View, e.logged("do not agree"))
		}
	})
}

// TestTroubleOfOne: a table that cannot be written keeps the other from improving, never from leaving a dead next hop; that they disagree is shown, and is an error when it lasts; and once it can
// be written again, both follow.
func TestTroubleOfOne(t *testing.T) {
	for name, trouble := range map[string]error{
		"locked":      &fault.Error{Kind: fault.Denied, Code: "ScopeLocked", Err: fmt.Errorf("the scope is locked")},
		"refused":     &fault.Error{Kind: fault.Refused, Code: "RouteConflict", Err: fmt.Errorf("refused")},
		"throttled":   &fault.Error{Kind: fault.Throttled, Code: "SubscriptionRequestsThrottled", RetryAfter: 20 * time.Second, Err: fmt.Errorf("too many")},
		"unreachable": &fault.Error{Kind: fault.Transient, Err: fmt.Errorf("no answer")},
	} {
		t.Run(name, func(t *testing.T) {
			inGroup(t, "", func(e *estate) {
				in := true
				e.refuse = func(target string) error {
					if in && target == "gateway" {
						return trouble
					}
					return nil
				}
				e.say("nva-a", event.Expired, nil)
				time.Sleep(10 * time.Second)
				if got := e.both(); got != onB+" | "+onA {
					t.Fatalf("10 s after the death: %s", got)
				}
				if s := e.standing(); s.State != group.Incomplete || s.Because != "gateway" || s.Alert {
					t.Errorf("10 s after the death: %+v", s)
				}
				if lines := e.logged("level=ERROR"); strings.Contains(strings.Join(lines, " "), "of the group do not agree") {
					t.Errorf("an error before it was time: %v", lines)
				}
				time.Sleep(alertAfter)
				if s := e.standing(); s.State != group.Incomplete || !s.Alert {
					t.Errorf("when it has lasted: %+v", s)
				}
				if lines := e.logged(`level=ERROR msg="the tables of the group do not agree"`); len(lines) == 0 || !strings.Contains(lines[0], "because=gateway") || !strings.Contains(lines[0], "group=firewall") {
					t.Errorf("no error when it has lasted:\n%s", e.log.String())
				}

				// A better NVA comes up, and its hold-down ends.
				e.say("nva-c", event.Snapshot, announce(prefixes(9)...))
				time.Sleep(time.Minute)
				if got := e.carries("spokes"); got != onB {
					t.Errorf("spokes improved to %s while gateway cannot follow", got)
				}
				e.wake("spokes", "sweep/1")
				time.Sleep(time.Second)
				if w := strings.Join(e.document("spokes").Result.Warnings, " "); !strings.Contains(w, "wait to move to a better NVA until target gateway of group firewall can be written") {
					t.Errorf("warnings: %s", w)
				}

				e.mu.Lock()
				in = false
				e.mu.Unlock()
				e.forget()
				e.wake("gateway", "sweep/2")
				e.calls.Wait()
				if got := e.both(); got != onC+" | "+onC {
					t.Errorf("when gateway can be written again: %s\n%s", got, e.log.String())
				}
				if s := e.standing(); s.State != group.Complete {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// TestALostWakeIsMadeGood: the table that was brought to the new view wakes the one that was not.
func TestALostWakeIsMadeGood(t *testing.T) {
	inGroup(t, "", func(e *estate) {
		e.drop = func(id string) bool { return strings.HasPrefix(id, "hub/gateway/nva-a/") }
		e.say("nva-a", event.Expired, nil)
		e.calls.Wait()
		puts := e.accepted()
		if e.both() != onB+" | "+onB || len(puts) != 2 {
			t.Fatalf("%s after %d writes", e.both(), len(puts))
		}
		if skew := puts[1].at.Sub(puts[0].at); skew > writeTakes+time.Second {
			t.Errorf("the second was written %v after the first", skew)
		}
	})
}

// TestAllWakesToOneAreLost: nobody is left to wake it, and the group's own look finds it.
func TestAllWakesToOneAreLost(t *testing.T) {
	inGroup(t, "", func(e *estate) {
		e.drop = func(id string) bool { return strings.HasPrefix(id, "hub/gateway/") }
		e.say("nva-a", event.Expired, nil)
		time.Sleep(10 * time.Second)
		if s := e.standing(); s.State != group.Pending || s.Because != "gateway" || s.Reason != "it has not looked again yet" {
			t.Errorf("%+v", s)
		}
		e.calls.Wait()
		if s := e.standing(); s.State != group.Incomplete || !s.Alert {
			t.Errorf("%+v", s)
		}
		if len(e.logged(`level=ERROR msg="the tables of the group do not agree"`)) != 1 {
			t.Errorf("log:\n%s", e.log.String())
		}
	})
}

// TestAGroupWaitsForNoCompany: a change that a lone table would hold back for company is written at once, and both tables look at the same instant when a prefix's hold-down ends
// in one of them.
func TestAGroupWaitsForNoCompany(t *testing.T) {
	inGroup(t, ", writePrice: 10000", func(e *estate) {
		begin := time.Now()
		fresh := netip.MustParsePrefix("10.80.0.0/24") // belongs in gateway alone
		e.say("nva-b", event.Delta, announce(fresh))
		time.Sleep(10 * time.Second)
		if puts := e.accepted(); len(puts) != 1 || puts[0].at.Sub(begin) > time.Second {
			t.Fatalf("%+v", puts)
		}
		e.say("nva-a", event.Delta, announce(fresh))
		e.calls.Wait()
		puts := e.accepted()
		if len(puts) != 2 || puts[1].target != "gateway" {
			t.Fatalf("%+v", puts)
		}
		// spokes was looked at in the instant in which gateway was.
		spokes, gateway := e.document("spokes").Result, e.document("gateway").Result
		if spokes.Cause != gateway.Cause || !strings.HasPrefix(spokes.Cause, "hold-down/") {
			t.Errorf("the last looks: spokes for %s, gateway for %s", spokes.Cause, gateway.Cause)
		}
		if gap := spokes.At.Sub(puts[1].at).Abs(); gap > time.Second {
			t.Errorf("spokes was looked at %v apart from the write of gateway", gap)
		}
	})
}

// TestAnUnreadableFellow: a document that cannot be understood keeps nobody from leaving a dead next hop.
func TestAnUnreadableFellow(t *testing.T) {
	inGroup(t, "", func(e *estate) {
		e.blobs["targets/hub/gateway.json"] = value{[]byte(`{"schema":99}`), "x"}
		e.drop = func(id string) bool { return strings.HasPrefix(id, "hub/gateway/") }
		e.say("nva-a", event.Expired, nil)
		e.calls.Wait()
		if got := e.carries("spokes"); got != onB {
			t.Errorf("spokes is on %s", got)
		}
		if lines := e.logged("of the group do not agree"); len(lines) != 1 || !strings.Contains(lines[0], "level=ERROR") {
			t.Errorf("log: %v", lines)
		}
	})
}

// TestRecoveryWakesWhoWaited: what an NVA is good for does not change, only one prefix returns; the table that could not be written tells the one that waited for it.
func TestRecoveryWakesWhoWaited(t *testing.T) {
	inGroup(t, "", func(e *estate) {
		p, far := prefixes(9)[0], netip.MustParsePrefix("10.80.0.0/24") // far belongs in gateway alone
		e.say("nva-a", event.Delta, announce(far))
		e.say("nva-b", event.Delta, announce(far))
		e.say("nva-a", event.Delta, withdraw(p))
		time.Sleep(time.Minute)
		if got := e.both(); got != onA+" "+onB+" | "+onA+" "+onB {
			t.Fatal(got)
		}
		locked := true
		e.refuse = func(target string) error {
			if locked && target == "gateway" {
				return &fault.Error{Kind: fault.Denied, Code: "ScopeLocked", Err: fmt.Errorf("the scope is locked")}
			}
			return nil
		}
		e.say("nva-a", event.Delta, withdraw(far)) // gateway cannot leave it
		e.say("nva-a", event.Delta, announce(p))
		time.Sleep(2 * time.Minute)
		if got := e.carries("spokes"); got != onA+" "+onB {
			t.Fatalf("spokes is on %s while gateway cannot follow", got)
		}
		e.mu.Lock()
		locked = false
		e.mu.Unlock()
		e.wake("gateway", "sweep/1")
		e.calls.Wait()
		if got := e.both(); got != onA+" | "+onA+" "+onB {
			t.Errorf("when gateway can be written again: %s", got)
		}
	})
}

// TestATableThatWaitsForAnOperator: it keeps the other from improving, and nothing else; what the operator decides brings both together.
func TestATableThatWaitsForAnOperator(t *testing.T) {
	inGroup(t, "", func(e *estate) {
		approve := strings.Replace(firewall(""), routeTable("gateway"), routeTable("gateway")+", apply: approve", 1)
		e.blobs["domains/hub.yaml"] = value{[]byte(approve), "approve"}
		e.say("nva-a", event.Expired, nil)
		e.say("nva-c", event.Snapshot, announce(prefixes(9)...))
		time.Sleep(2 * time.Minute)
		if got := e.both(); got != onB+" | "+onA {
			t.Fatalf("while gateway waits for an operator: %s", got)
		}
		if s := e.standing(); s.State != group.Incomplete || s.Because != "gateway" || !strings.HasPrefix(s.Reason, "held: ") {
			t.Errorf("%+v", s)
		}
		e.blobs["domains/hub.yaml"] = value{[]byte(firewall("")), "auto"} // the operator's decision
		e.wake("gateway", "sweep/1")
		e.calls.Wait()
		if got := e.both(); got != onC+" | "+onC {
			t.Errorf("when it was decided: %s", got)
		}
		if s := e.standing(); s.State != group.Complete {
			t.Errorf("%+v", s)
		}
	})
}
