package reconcile_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/state"
)

// equals is the domain with two NVAs that share every prefix.
func equals(price string) string {
	return strings.Replace(domainFile(price, ", mode: ecmp"), "preference: 200", "preference: 100", 1)
}

// ours returns Pointsman's routes as "prefix type next hops".
func (w *world) ours() []string {
	var out []string
	for _, r := range w.tables[tableID].routes {
		if strings.HasPrefix(r.Name, mine+"10-64-") {
			out = append(out, fmt.Sprint(r.Prefix, " ", r.Type, " ", r.NextHops))
		}
	}
	slices.Sort(out)
	return out
}

func (w *world) holds(t *testing.T, want string) {
	t.Helper()
	if got := strings.Join(w.ours(), "; "); got != want {
		t.Errorf("the table holds %s, want %s", got, want)
	}
}

const (
	both  = "10.64.0.0/24 VirtualApplianceEcmp 10.0.0.4,10.0.0.5"
	onlyA = "10.64.0.0/24 VirtualAppliance 10.0.0.4"
	onlyB = "10.64.0.0/24 VirtualAppliance 10.0.0.5"
)

func TestTheTypeFollowsTheMembers(t *testing.T) {
	w := newWorld(t, equals("0"))
	for _, step := range []struct {
		say  func()
		want string
	}{
		{func() { w.said("nva-b", event.Snapshot, announce(prefix(0))) }, onlyB},
		{func() { w.said("nva-a", event.Snapshot, announce(prefix(0))) }, both},
		{func() { w.said("nva-a", event.Expired, nil) }, onlyB},
		{func() { w.said("nva-a", event.Alive, nil) }, both},
		{func() { w.said("nva-b", event.Delta, withdraw(prefix(0))) }, onlyA},
	} {
		puts := w.puts
		step.say()
		w.rest()
		w.holds(t, step.want)
		if w.puts != puts+1 {
			t.Errorf("%s: %d writes", step.want, w.puts-puts)
		}
	}
}

// A dead member leaves at once, a new one waits for company.
func TestADeadMemberIsUrgent(t *testing.T) {
	w := newWorld(t, equals("5"))
	w.said("nva-b", event.Snapshot, announce(prefix(0)))
	w.rest()
	w.said("nva-a", event.Snapshot, announce(prefix(0)))
	d := w.next()
	w.deliver(d)
	w.holds(t, onlyB)
	w.rest()
	w.holds(t, both)
	w.said("nva-a", event.Expired, nil)
	w.deliver(w.next())
	w.holds(t, onlyB)
}

// A write of a set whose answer was lost is recognised in the table, whatever the order in which Azure lists its members.
func TestALostAnswerOfASet(t *testing.T) {
	w := newWorld(t, equals("0"))
	w.said("nva-b", event.Snapshot, announce(prefix(0)))
	w.rest()
	lost := false
	w.fate = func(op string) fate {
		if op == "put" && !lost {
			lost = true
			return fate{err: errors.New("connection reset")}
		}
		return fate{}
	}
	w.said("nva-a", event.Snapshot, announce(prefix(0)))
	w.rest()
	w.holds(t, both)
	if got := w.document(); got.Writes != 2 || len(w.history) != 2 {
		t.Errorf("%d writes counted, %d lines of history, want 2", got.Writes, len(w.history))
	}
	if want := `{"prefix":"10.64.0.0/24","from":"10.0.0.5","to":"10.0.0.4,10.0.0.5",`; !strings.Contains(w.history[1], want) {
		t.Errorf("the history says %s, want %s in it", w.history[1], want)
	}
}

// A region without routes of several next hops: one next hop in the same run, remembered until the domain file changes, and for a day at most.
func TestWithoutECMP(t *testing.T) {
	w := newWorld(t, equals("0"))
	w.noECMP = true
	w.said("nva-a", event.Snapshot, announce(prefix(0)))
	w.said("nva-b", event.Snapshot, announce(prefix(0)))
	w.rest()
	asked := func(when string, refused int, table string) {
		t.Helper()
		w.holds(t, table)
		if w.refused != refused {
			t.Errorf("%s: %d writes refused, want %d", when, w.refused, refused)
		}
	}
	asked("at first", 1, onlyA)
	got := w.document()
	if !got.Trouble.IsZero() || got.NoECMP == nil || len(got.Result.Warnings) != 1 || !strings.Contains(got.Result.Warnings[0], "1 prefixes of mode ecmp have one next hop each") ||
		!strings.Contains(got.Result.Warnings[0], "no route of several next hops here") {
		t.Errorf("the document says %s, %+v, warnings %q", got.Result.Outcome, got.NoECMP, got.Result.Warnings)
	}
	w.said("nva-a", event.Expired, nil)
	w.rest()
	asked("after a death", 1, onlyB)
	w.said("nva-a", event.Alive, nil)
	w.rest()
	asked("after a return", 1, onlyA)

	w.now = w.now.Add(state.ECMPRetry)
	w.wake("sweep")
	w.rest()
	asked("after a day", 2, onlyA)
	w.wake("sweep again")
	w.rest()
	asked("in the next sweep", 2, onlyA)

	w.upload(equals("0") + "# once more\n")
	w.wake("new file")
	w.rest()
	asked("with another domain file", 3, onlyA)

	w.noECMP = false
	w.now = w.now.Add(state.ECMPRetry)
	w.wake("next day")
	w.rest()
	asked("when the region has it", 3, both)
	if got = w.document(); got.NoECMP != nil || len(got.Result.Warnings) != 0 {
		t.Errorf("the document still says %+v, warnings %q", got.NoECMP, got.Result.Warnings)
	}
}

// Where the write without such routes is refused too, it was not that.
func TestAnotherRefusalIsNotRemembered(t *testing.T) {
	w := newWorld(t, equals("0"))
	w.fate = func(op string) fate {
		if op == "put" {
			return fate{skip: true, err: &fault.Error{Kind: fault.Refused, Code: fault.CodeNoECMP, Err: errors.New("no such write")}}
		}
		return fate{}
	}
	w.said("nva-a", event.Snapshot, announce(prefix(0)))
	w.said("nva-b", event.Snapshot, announce(prefix(0)))
	w.rest()
	if got := w.document(); got.NoECMP != nil || got.Result.Outcome != state.Refused || !strings.Contains(got.Result.Message, "no such write") {
		t.Errorf("%s %s, and remembered as %+v", got.Result.Outcome, got.Result.Message, got.NoECMP)
	}
}
