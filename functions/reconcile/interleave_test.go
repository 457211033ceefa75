package reconcile_test

import (
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

// history is one random history: several runs whose calls interleave in any order, while NVAs speak, somebody else edits the table, runs die,
// answers get lost, leases run out and messages come twice. All of it follows from the seed.
type history struct {
	*world
	random *rand.Rand
	runs   []*running
	others []plan.Route
	edits  int
}

// running is a run in the middle of its work.
type running struct {
	next    func() (string, bool)
	stop    func()
	message *delivery
	lock    int
}

const maxRunning = 3

func newHistory(t *testing.T, seed uint64) *history {
	t.Helper()
	h := &history{world: settledWorld(t), random: rand.New(rand.NewPCG(seed, 7))}
	h.others = h.unmanaged()
	h.sameMove = seed%4 != 0 // whether Azure moves the ETag then is not documented
	h.fate = h.chance
	return h
}

// chance is the fate of a call: mostly none.
func (h *history) chance(op string) fate {
	switch h.random.IntN(60) {
	case 0:
		return fate{err: errors.New("the answer is lost")}
	case 1:
		return fate{skip: true, err: errors.New("the request is lost")}
	case 2:
		if op == "put" {
			return fate{skip: true, err: &fault.Error{Kind: fault.Throttled, Code: "RetryableErrorDueToAnotherOperation", RetryAfter: 11 * time.Second, Err: errors.New("busy")}}
		}
	}
	return fate{}
}

// turn does one thing.
func (h *history) turn() {
	switch n := h.random.IntN(100); {
	case n < 3:
		h.speak()
	case n < 4:
		h.meddleWithTable()
	case n < 5:
		h.now = h.now.Add(time.Duration(h.random.IntN(40_000)) * time.Millisecond)
	case n < 6:
		h.loseLock()
	case n < 7:
		h.kill()
	case n < 20:
		h.begin()
	default:
		h.step()
	}
}

// speak lets an NVA say something.
func (h *history) speak() {
	nva := []string{"nva-a", "nva-b"}[h.random.IntN(2)]
	p := prefix(h.random.IntN(3))
	switch h.random.IntN(4) {
	case 0:
		h.said(nva, event.Delta, withdraw(p))
	case 1:
		h.said(nva, event.Expired, nil)
	default:
		h.said(nva, event.Delta, announce(p))
	}
}

// meddleWithTable edits the table as a person does: a route of their own comes or goes.
func (h *history) meddleWithTable() {
	h.edits++
	t := h.tables[tableID]
	t.etag++
	if n := len(h.others); n > 3 {
		gone := h.others[n-1]
		h.others = h.others[:n-1]
		t.routes = slices.DeleteFunc(slices.Clone(t.routes), func(r plan.Route) bool { return r == gone })
		return
	}
	route := plan.NewRoute(fmt.Sprintf("by-hand-%d", h.edits), fmt.Sprintf("172.16.%d.0/24", h.edits%256), plan.VirtualAppliance, hopB)
	t.routes = append(slices.Clone(t.routes), route)
	h.others = append(slices.Clone(h.others), route)
}

// begin starts a run for a message that can be delivered.
func (h *history) begin() {
	d := h.next()
	if d == nil || len(h.runs) >= maxRunning {
		return
	}
	next, stop := iter.Pull(h.calls(d))
	h.runs = append(h.runs, &running{next, stop, d, d.lock})
}

// step lets one run make its next call.
func (h *history) step() {
	if len(h.runs) == 0 {
		return
	}
	i := h.random.IntN(len(h.runs))
	if _, more := h.runs[i].next(); !more {
		h.runs = slices.Delete(h.runs, i, i+1)
	}
}

// kill ends a run before its next call; its message comes again.
func (h *history) kill() {
	if len(h.runs) == 0 {
		return
	}
	i := h.random.IntN(len(h.runs))
	h.runs[i].stop()
	h.settle(h.runs[i].message, h.runs[i].lock, errors.New("it had not begun")) // a run that made no call yet does not notice its end
	h.runs = slices.Delete(h.runs, i, i+1)
}

// loseLock gives the message of a run to another one, while the first goes on.
func (h *history) loseLock() {
	if len(h.runs) > 0 {
		if r := h.runs[h.random.IntN(len(h.runs))]; r.message.lock == r.lock {
			r.message.release()
		}
	}
}

// end works off all that is left.
func (h *history) end() {
	for len(h.runs) > 0 {
		h.step()
	}
	h.rest()
}

// Whatever happens in whatever order: no write rests on older documents than the one before, no unmanaged route is touched, and in the end
// the table is as the documents say, without a sweep.
func TestRandomHistories(t *testing.T) {
	seeds := 300
	if n, err := strconv.Atoi(os.Getenv("POINTSMAN_SEEDS")); err == nil { // a longer search
		seeds = n
	}
	first := uint64(1)
	if s, err := strconv.ParseUint(os.Getenv("POINTSMAN_SEED"), 10, 64); err == nil { // one history again
		first, seeds = s, 1
	}
	lengths, writes := 0, 0
	for seed := first; seed < first+uint64(seeds); seed++ {
		h := newHistory(t, seed)
		for range 400 {
			h.turn()
		}
		lengths, writes = lengths+len(h.ops), writes+h.puts
		h.end()
		h.fate = func(string) fate { return fate{} }
		h.atRest(h.others)
		if t.Failed() {
			t.Fatalf("POINTSMAN_SEED=%d shows it again", seed)
		}
	}
	if per := lengths / seeds; per < 100 || writes < seeds {
		t.Errorf("%d calls and %d writes in %d histories: too little happens in them", lengths, writes, seeds)
	}
}

// Two runs at once, the second with newer news and past the lease of the first: the first stops after every number of its calls, the second
// makes every number of its own, then the first goes on to its end. Exhaustive where random histories are thin.
func TestTwoRunsStopAndGo(t *testing.T) {
	speak := map[string][2]func(w *world){
		"the contents come back": { // the second run finds the table as it wants it, while the first is about to write (A-B-A)
			func(w *world) { w.said("nva-a", event.Delta, announce(prefix(5))) },
			func(w *world) { w.said("nva-a", event.Delta, withdraw(prefix(5))) },
		},
		"a death and a new prefix": {
			func(w *world) { w.said("nva-a", event.Expired, nil) },
			func(w *world) { w.said("nva-b", event.Delta, announce(prefix(6))) },
		},
	}
	for name, story := range speak {
		for _, moves := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, a fence moves the ETag: %t", name, moves), func(t *testing.T) {
				for first := 1; first < 24; first++ {
					for second := 0; second < 26; second += 3 {
						w := settledWorld(t)
						w.sameMove = moves
						stopAndGo(w, story, first, second)
						if t.Failed() {
							t.Fatalf("the first run stopped after %d calls, the second after %d", first, second)
						}
					}
				}
			})
		}
	}
}

func stopAndGo(w *world, story [2]func(w *world), calls1, calls2 int) {
	w.t.Helper()
	others := w.unmanaged()
	story[0](w)
	next1, stop1 := iter.Pull(w.calls(w.next()))
	defer stop1()
	more1 := calls(next1, calls1)
	story[1](w)
	w.now = w.now.Add(lease + time.Second)
	next2, stop2 := iter.Pull(w.calls(w.queue[len(w.queue)-1]))
	defer stop2()
	more2 := calls(next2, calls2)
	if more1 {
		calls(next1, 1000)
	}
	if more2 {
		calls(next2, 1000)
	}
	w.rest()
	w.atRest(others)
}

// calls lets a run make up to n calls; more is false when it has ended.
func calls(next func() (string, bool), n int) (more bool) {
	more = true
	for i := 0; i <= n && more; i++ { // the first pull goes up to the first call, without making it
		_, more = next()
	}
	return more
}
