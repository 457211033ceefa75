//go:build linux

package main

import (
	"fmt"
	"net/http"
	"time"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/blob"
)

// trouble is one kind of fault. begin makes it, and says what it did, for how long and what ends it; "" if it cannot be made now.
type trouble struct {
	kind  string
	begin func(w *world) (what string, lasts time.Duration, end func() error)
}

// between returns a random time.
func (w *world) between(low, high time.Duration) time.Duration {
	return low + time.Duration(w.rand.Int64N(int64(high-low)))
}

// some returns a random number from 1 to most.
func (w *world) some(most int) int { return 1 + w.rand.IntN(most) }

// troubles are all kinds of faults. Each is dealt once before any is dealt again.
func troubles() []trouble {
	var out []trouble
	for _, list := range [][]trouble{busTroubles(), armTroubles(), blobTroubles(), processTroubles(), nvaTroubles()} {
		out = append(out, list...)
	}
	return out
}

// once is a fault that needs no end.
func once(kind string, do func(w *world) string) trouble {
	return trouble{kind, func(w *world) (string, time.Duration, func() error) { return do(w), 0, nil }}
}

// spell is a fault that lasts, for a random time of up to most and of half of it at least.
func spell(kind string, most time.Duration, begin func(w *world) string, end func(w *world)) trouble {
	return trouble{kind, func(w *world) (string, time.Duration, func() error) {
		lasts := w.between(most/2, most)
		what := begin(w)
		return fmt.Sprintf("%s for %s", what, lasts.Round(time.Millisecond)), lasts, func() error { end(w); return nil }
	}}
}

func queueNames() []string { return []string{"route-events", "reconcile"} }

func busTroubles() []trouble {
	anyQueue := func(w *world) string { return queueNames()[w.rand.IntN(2)] }
	out := []trouble{
		spell("bus outage", 3*time.Second, func(w *world) string { w.sys.Bus.Faults().Outage(true); return "outage" }, func(w *world) { w.sys.Bus.Faults().Outage(false) }),
		once("bus connections dropped", func(w *world) string { w.sys.Bus.Faults().DropConnections(); return "reset" }),
		once("bus connections closed", func(w *world) string { w.sys.Bus.Faults().CloseConnections(); return "closed" }),
		once("bus links detached", func(w *world) string {
			q := anyQueue(w)
			w.sys.Bus.Faults().DetachLinks(q)
			return q
		}),
		spell("duplicate delivery", 6*time.Second, func(w *world) string { w.sys.Bus.Faults().DuplicateDelivery(0.4); return "40%" }, func(w *world) { w.sys.Bus.Faults().DuplicateDelivery(0) }),
		spell("reordering", 6*time.Second, func(w *world) string { w.sys.Bus.Faults().Reorder(1500 * time.Millisecond); return "up to 1.5 s" }, func(w *world) { w.sys.Bus.Faults().Reorder(0) }),
		once("lost locks", func(w *world) string { w.sys.Bus.Faults().ExpireLocks(); return "all" }),
		spell("late dispositions", 4*time.Second, func(w *world) string { w.sys.Bus.Faults().DelayDispositions(time.Second); return "1 s" }, func(w *world) { w.sys.Bus.Faults().DelayDispositions(0) }),
		spell("late sends", 4*time.Second, func(w *world) string { w.sys.Bus.Faults().DelaySends(1500 * time.Millisecond); return "1.5 s" }, func(w *world) { w.sys.Bus.Faults().DelaySends(0) }),
		once("withheld sends", func(w *world) string {
			n := w.some(3)
			w.sys.Bus.Faults().WithholdSends(n)
			return fmt.Sprint(n)
		}),
		once("bus busy", func(w *world) string {
			n := w.some(6)
			w.sys.Bus.Faults().ServerBusy(n)
			return fmt.Sprint(n)
		}),
		once("failed cancels", func(w *world) string {
			n, code := w.some(3), []int{500, 404}[w.rand.IntN(2)]
			w.sys.Bus.Faults().FailCancel(n, code)
			return fmt.Sprintf("%d with %d", n, code)
		}),
		once("failed schedules", func(w *world) string {
			n := w.some(3)
			w.sys.Bus.Faults().FailSchedule(n, 500)
			return fmt.Sprint(n)
		}),
	}
	for _, q := range queueNames() {
		out = append(out, spell("queue disabled", 2*time.Second, func(w *world) string { w.sys.Bus.Faults().Disable(q, true); return q }, func(w *world) { w.sys.Bus.Faults().Disable(q, false) }))
	}
	return out
}

// write matches PUTs of whole tables and of single routes; other people's are hit too.
func armTroubles() []trouble {
	const tables = "/routeTables/"
	after := func(seconds int) http.Header { return http.Header{"Retry-After": {fmt.Sprint(seconds)}} }
	type fault = arm.Fault
	script := func(kind string, f func(w *world) fault) trouble {
		return once(kind, func(w *world) string {
			x := f(w)
			w.sys.ARM.Faults().Script(x)
			return fmt.Sprintf("%s %s x%d status %d applied %t delay %s", x.Method, x.PathContains, max(x.Count, 1), x.Status, x.Applied, x.Delay)
		})
	}
	return []trouble{
		script("ARM 5xx before", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(3), Status: 500 + 3*w.rand.IntN(2)}
		}),
		script("ARM 5xx after", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(2), Status: 500, Applied: true}
		}),
		script("ARM dropped before", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(2), DropConnection: true}
		}),
		script("ARM dropped after", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(2), DropConnection: true, Applied: true}
		}),
		script("ARM reads fail", func(w *world) fault { return fault{Method: "GET", PathContains: tables, Count: w.some(4), Status: 503} }),
		script("ARM reads dropped", func(w *world) fault {
			return fault{Method: "GET", PathContains: tables, Count: w.some(3), DropConnection: true}
		}),
		script("ARM polls fail", func(w *world) fault {
			return fault{Method: "GET", PathContains: "/operations/", Count: w.some(4), Status: 500}
		}),
		script("ARM 429 quota storm", func(w *world) fault {
			return fault{PathContains: tables, Count: 4 + w.some(8), Status: 429, Code: "TooManyRequests", Header: after(w.some(2))}
		}),
		script("ARM 429 busy", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(3), Status: 429, Code: "RetryableError", DetailCode: "RetryableErrorDueToAnotherOperation", Header: after(1)}
		}),
		script("ARM 412", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(4), Status: 412, Code: "PreconditionFailed"}
		}),
		script("ARM failed operation", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(2), FailOperation: true}
		}),
		script("ARM superseded operation", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(2), SupersedeOperation: true}
		}),
		script("ARM slow writes", func(w *world) fault {
			return fault{Method: "PUT", PathContains: tables, Count: w.some(3), Delay: w.between(500*time.Millisecond, 3*time.Second)}
		}),
		script("ARM slow reads", func(w *world) fault {
			return fault{Method: "GET", PathContains: tables, Count: w.some(3), Delay: w.between(500*time.Millisecond, 2*time.Second)}
		}),
		spell("ARM lock", 2*time.Second, func(w *world) string { w.sys.ARM.Faults().Lock(targets()[0].id); return "ScopeLocked" }, func(w *world) { w.sys.ARM.Faults().Unlock(targets()[0].id) }),
		spell("ARM right taken", 2*time.Second, func(w *world) string {
			w.sys.ARM.Faults().Forbid("", targets()[1].id, "PUT")
			return "AuthorizationFailed"
		}, func(w *world) { w.sys.ARM.Faults().Permit("", targets()[1].id, "PUT") }),
	}
}

func blobTroubles() []trouble {
	type fault = blob.Fault
	script := func(kind string, f func(w *world) fault) trouble {
		return once(kind, func(w *world) string {
			x := f(w)
			w.sys.Blob.Faults().Script(x)
			return fmt.Sprintf("%s x%d status %d applied %t delay %s", x.Method, max(x.Count, 1), x.Status, x.Applied, x.Delay)
		})
	}
	return []trouble{
		spell("blob outage", 4*time.Second, func(w *world) string { w.sys.Blob.Faults().Outage(true); return "outage" }, func(w *world) { w.sys.Blob.Faults().Outage(false) }),
		script("blob 503", func(w *world) fault { return fault{Count: 3 + w.some(12), Status: 503} }),
		script("blob applied, reported failed", func(w *world) fault { return fault{Method: "PUT", Count: w.some(4), Status: 500, Applied: true} }),
		script("blob applied, no answer", func(w *world) fault {
			return fault{Method: "PUT", Count: w.some(4), DropConnection: true, Applied: true}
		}),
		script("blob dropped", func(w *world) fault { return fault{Count: w.some(6), DropConnection: true} }),
		script("blob slow", func(w *world) fault {
			return fault{Count: w.some(6), Delay: w.between(200*time.Millisecond, 2*time.Second)}
		}),
	}
}

func processTroubles() []trouble {
	return []trouble{
		once("handler killed", func(w *world) string {
			if !w.hosts.killHandler() {
				return ""
			}
			return w.hosts.now.name
		}),
		once("handler killed", func(w *world) string {
			if !w.hosts.killHandler() {
				return ""
			}
			return w.hosts.now.name
		}),
		once("host killed", func(w *world) string { return w.failing("with its handler", w.hosts.killAll()) }),
		once("host killed", func(w *world) string {
			return w.failing("its handler lives on", w.hosts.killHost(time.Now().Add(w.between(time.Second, 6*time.Second))))
		}),
		once("tokens refused", func(w *world) string {
			n := w.some(3)
			w.sys.Identity.FailNext(n, 500)
			return fmt.Sprint(n)
		}),
		// The tokens say that they are good for a day, and nobody tells the handler: it uses them until it is started again.
		spell("tokens expired", 4*time.Second, func(w *world) string { w.sys.Identity.ExpireTokens(); return "all" }, func(w *world) { w.hosts.killHandler() }),
	}
}

func nvaTroubles() []trouble {
	return []trouble{
		once("agent killed", func(w *world) string {
			n := w.anyAlive()
			if n == nil {
				return ""
			}
			n.returns = time.Now().Add(w.between(200*time.Millisecond, 7*time.Second))
			return w.failing(n.name, n.kill())
		}),
		once("agent drained", func(w *world) string { return w.stop("draining") }),
		once("agent restarted", func(w *world) string { return w.stop("goodbye") }),
		{"way to the bus cut", func(w *world) (string, time.Duration, func() error) {
			n, lasts := w.nvas[w.rand.IntN(len(w.nvas))], w.between(time.Second, 7*time.Second)
			if n.dead {
				return "", 0, nil
			}
			n.way.Cut("scenario", true)
			return fmt.Sprintf("%s for %s", n.name, lasts.Round(time.Millisecond)), lasts, func() error { n.way.Cut("scenario", n.dead); return nil }
		}},
		once("NVA died", func(w *world) string { return w.die(w.between(2*time.Second, 10*time.Second)) }),
		once("NVA died", func(w *world) string { return w.die(w.between(2*time.Second, 10*time.Second)) }),
	}
}

// failing notes an error of the scenario itself.
func (w *world) failing(what string, err error) string {
	if err != nil {
		w.broken = err
	}
	return what
}

// anyAlive returns an NVA whose agent runs, nil if there is none.
func (w *world) anyAlive() *nva {
	for _, i := range w.rand.Perm(len(w.nvas)) {
		if n := w.nvas[i]; !n.dead && n.alive() {
			return n
		}
	}
	return nil
}

// stop stops an agent in order: it says farewell, if it can.
func (w *world) stop(farewell string) string {
	for _, i := range w.rand.Perm(len(w.nvas)) {
		n := w.nvas[i]
		if n.dead || !n.alive() || n.onStop != farewell {
			continue
		}
		n.returns = time.Now().Add(w.between(500*time.Millisecond, 5*time.Second))
		return w.failing(n.name, n.stop(w.ctx))
	}
	return ""
}

// die is a loss of power: no agent, no way to the bus, no routes.
func (w *world) die(lasts time.Duration) string {
	n := w.nvas[w.rand.IntN(len(w.nvas))]
	if n.dead {
		return ""
	}
	w.truth.lose(n.name, prefixesOf(w.truth.of(n.name)))
	n.dead, n.returns = true, time.Now().Add(lasts)
	n.way.Cut("scenario", true)
	err := n.kill()
	if failed := n.power(false); err == nil {
		err = failed
	}
	return w.failing(fmt.Sprintf("%s for %s", n.name, lasts.Round(time.Millisecond)), err)
}

// revive brings an NVA back: it has learned routes when its agent starts.
func (w *world) revive(n *nva) error {
	if n.dead {
		n.dead = false
		if err := n.power(true); err != nil {
			return err
		}
		learned := w.truth.learn(n.name, w.choose(len(pool())*2/3))
		if err := n.change(nil, learned); err != nil {
			return err
		}
		n.way.Cut("scenario", false)
	}
	return w.boot(n)
}

func (w *world) boot(n *nva) error {
	n.onStop = []string{"goodbye", "draining"}[w.rand.IntN(2)]
	n.agents++
	w.log.say("%s: agent %d starts (%s)", n.name, n.agents, n.onStop)
	return n.boot(n.onStop)
}
