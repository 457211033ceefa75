package sim

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// The times of the agents. They are short, so that few beats fill a history.
const (
	beatEvery   = 10 * time.Second
	beatTimeout = 30 * time.Second
	restartTime = 20 * time.Second
	busPatience = 5 * time.Second // of an agent's call, until it calls it failed
)

// nva is one machine: its kernel's routes, which are the truth, and the agent on it.
type nva struct {
	w      *World
	name   string
	routes map[netip.Prefix]uint32 // the kernel's, with their metric
	on     bool                    // the machine runs and forwards
	agent  *agent                  // nil: none runs
	last   *agent                  // the one before that
	clone  *agent                  // a copy of the machine runs with the same name and epoch
	cut    time.Time               // no way to the bus before
	behind time.Duration           // how far its clock is behind that of the bus
	epoch  uint64                  // in the agent's file; 0: none
	starts int

	mute        bool      // it does not speak BGP, to nobody
	spoke       bool      // it did, when the Route Servers were last told
	quiet       time.Time // when it last stopped to
	dark        bool      // its data plane is dead, whatever its agent says
	unfit       string    // why its own check of itself fails
	maintenance string    // what Azure has announced for it
	orphaned    bool      // its agent has lost the routing daemon, for longer than the restart time

	heardOf   beats // that were merged for certain, expired ones apart
	firedFrom beats // of expired that were ever given to Ingest

	known  map[netip.Prefix]time.Time // since when the documents have held a route that was not withdrawn since
	raised map[netip.Prefix]event.Version
}

func newNVA(w *World, name string) *nva {
	return &nva{w: w, name: name, routes: map[netip.Prefix]uint32{}, known: map[netip.Prefix]time.Time{}, raised: map[netip.Prefix]event.Version{}}
}

// beats is the highest beat of some events.
type beats struct{ epoch, beat uint64 }

func (b *beats) add(e event.Event) {
	if e.Version.Epoch > b.epoch || e.Version.Epoch == b.epoch && e.Beat > b.beat {
		*b = beats{e.Version.Epoch, e.Beat}
	}
}

func (b beats) above(o beats) bool {
	return b.epoch > o.epoch || b.epoch == o.epoch && b.beat > o.beat
}

// agent is one agent process: the product's RIB and publisher in a made-up shell.
type agent struct {
	nva     *nva
	name    string // for the story
	rib     *rib.RIB
	machine *publish.Machine
	epoch   uint64
	armed   bool // it has had a dead-man switch
	gone    bool
	turns   int
	asker   asker
}

// announce puts a route into the kernel.
func (n *nva) announce(p netip.Prefix, metric uint32) {
	if old, has := n.routes[p]; has && old == metric {
		return
	}
	n.w.tell(n.name, "learns %s (metric %d)", p, metric)
	if _, has := n.routes[p]; !has {
		n.raised[p] = event.Version{}
		if n.agent != nil {
			n.raised[p] = event.Version{Epoch: n.agent.epoch, Seq: n.agent.machine.Status().Seq}
		}
	}
	n.routes[p] = metric
	n.w.speak(n)
	if n.agent != nil {
		n.agent.update([]source.Route{{Prefix: p, Metric: metric, Origin: "bgp"}}, nil)
	}
}

// withdraw takes a route out of the kernel.
func (n *nva) withdraw(p netip.Prefix) {
	if _, has := n.routes[p]; !has {
		return
	}
	n.w.tell(n.name, "loses %s", p)
	n.forget(p)
	n.w.speak(n)
	if n.agent != nil {
		n.agent.update(nil, []netip.Prefix{p})
	}
}

func (n *nva) forget(p netip.Prefix) {
	delete(n.routes, p)
	delete(n.known, p)
	delete(n.raised, p)
}

// boot switches the machine on, with an empty kernel.
func (n *nva) boot() {
	if n.on {
		return
	}
	n.w.tell(n.name, "boots")
	n.on = true
	n.w.speak(n)
	n.startAgent()
}

// die switches the machine off, without a word.
func (n *nva) die() {
	if !n.on {
		return
	}
	n.w.tell(n.name, "dies")
	n.on = false
	n.stopAgent()
	n.stopClone()
	clear(n.raised)
	for _, p := range n.prefixes() {
		delete(n.routes, p) // what it had announced it never withdrew: it stays known
	}
	n.w.speak(n)
}

func (n *nva) prefixes() []netip.Prefix {
	var out []netip.Prefix
	for p := range n.routes {
		out = append(out, p)
	}
	slices.SortFunc(out, route.Compare)
	return out
}

// startAgent starts the agent with what the kernel has.
func (n *nva) startAgent() {
	n.starts++
	n.epoch = max(n.epoch+1, uint64(n.clock().UnixMilli()))
	for p := range n.known {
		if _, has := n.routes[p]; !has {
			delete(n.known, p) // the first snapshot withdraws it
		}
	}
	for p := range n.raised {
		n.raised[p] = event.Version{Epoch: n.epoch}
	}
	n.agent = n.newAgent(n.name, n.epoch, fmt.Sprintf("boot-%s-%d", n.name, n.starts))
	n.w.look()
	n.agent.view()
}

// unguarded reports whether the last agent could not arm any dead-man switch of its own, spoke all the same, and died: then nothing ever tells
// that it is dead. See docs/correctness.md, What is not checked.
func (n *nva) unguarded(doc *state.NVA) bool {
	return n.agent == nil && n.last != nil && !n.last.armed && doc != nil && !doc.Silent() && !leaving(doc)
}

func (n *nva) newAgent(name string, epoch uint64, boot string) *agent {
	a := &agent{nva: n, name: name, rib: rib.New(rib.Filter{}, "kernel"), epoch: epoch, asker: asker{luck: n.w.luck, id: hash(boot)}}
	bytes := n.w.habits.MaxBytes
	if bytes == 0 {
		bytes = 192 << 10
	}
	a.machine = publish.New(publish.Config{
		Domain: domain, NVA: n.name, Boot: boot, Epoch: epoch, Gather: publish.Gather{Quiet: 100 * time.Millisecond, Max: time.Second},
		Beat: publish.Beat{Every: beatEvery, Timeout: beatTimeout}, Snapshot: n.w.habits.Snapshot, Restart: restartTime, MaxBytes: bytes,
	}, a.rib)
	return a
}

// stopAgent ends the agent process without a word.
func (n *nva) stopAgent() {
	if n.agent != nil {
		n.agent.gone = true
		n.agent, n.last = nil, n.agent
		n.w.look()
	}
}

// startClone starts a copy of the machine that was taken while it ran: the same name and epoch, another process.
func (n *nva) startClone(p netip.Prefix) {
	if n.agent == nil || n.clone != nil || !n.heard() || n.w.habits.Dedup { // see docs/correctness.md, What is not checked
		return
	}
	n.w.tell(n.name, "is cloned; the copy announces %s alone", p)
	n.starts++
	n.clone = n.newAgent(n.name+"'s clone", n.epoch, fmt.Sprintf("clone-%s-%d", n.name, n.starts))
	n.clone.show(n.clone.rib.Replace(0, []source.Route{{Prefix: p, Metric: 1, Origin: "bgp"}}))
}

func (n *nva) stopClone() {
	if n.clone != nil {
		n.clone.gone = true
		n.clone = nil
		clear(n.known) // from here on its late messages may belong to an older epoch than the original's
	}
}

// heard reports whether the documents know the epoch of the running agent.
func (n *nva) heard() bool {
	doc := n.w.document(n.name)
	return doc != nil && n.agent != nil && doc.Epoch == n.agent.epoch
}

// clock is the machine's own.
func (n *nva) clock() time.Time { return n.w.now.Add(-n.behind) }

// reachable reports whether the bus can be reached.
func (n *nva) reachable() bool { return !n.w.now.Before(n.cut) && !n.w.now.Before(n.w.troubles.bus) }

// view shows the agent all of the kernel's routes.
func (a *agent) view() {
	var all []source.Route
	for _, p := range a.nva.prefixes() {
		all = append(all, source.Route{Prefix: p, Metric: a.nva.routes[p], Origin: "bgp"})
	}
	a.show(a.rib.Replace(0, all))
}

// update shows the agent what has changed in the kernel.
func (a *agent) update(changed []source.Route, gone []netip.Prefix) {
	a.show(a.rib.Update(0, changed, gone))
}

func (a *agent) show(changes []rib.Change) {
	if !a.machine.Status().Ready {
		a.machine.Ready(a.nva.clock())
	} else {
		a.machine.Changed(a.nva.clock(), changes)
	}
	a.turn()
}

// turn does what the machine wants done now.
func (a *agent) turn() {
	if a.gone {
		return
	}
	now := a.nva.clock()
	e := a.machine.Next(now)
	if len(e.Publish) > 0 {
		a.publish(e.Publish)
	}
	if e.Schedule != nil {
		a.schedule(*e.Schedule)
	}
	for _, c := range e.Cancel {
		a.cancel(c)
	}
	a.turns++
	if a.machine.Done() {
		a.nva.w.tell(a.name, "the agent has said farewell and ends")
		a.nva.stopAgent()
		return
	}
	if !e.Wake.IsZero() {
		turn := a.turns
		a.nva.w.after(max(e.Wake.Sub(now), time.Millisecond), func() {
			if turn == a.turns {
				a.turn()
			}
		})
	}
}

// The farewells.
const (
	goodbye  = event.Goodbye
	draining = event.Draining
)

// errUnanswered is all that an agent learns of a call that went wrong.
var errUnanswered = errors.New("no answer from the bus (sim)")

// call does something on the bus and gives the answer to the machine.
func (a *agent) call(what string, do func() error, answer func(now time.Time, err error)) {
	w := a.nva.w
	wait := 20 * time.Millisecond
	question := a.asker.question()
	luck := w.luck.draw(question)
	f := well
	if roll := int(luck % 1000); w.habits.Faults > 0 && roll >= 1000-3*w.habits.Faults {
		f = [...]fate{lost, unanswered, fatal}[(roll-1000+3*w.habits.Faults)/w.habits.Faults] // fatal: only slow
		w.luck.remarkable(question)
		wait = time.Duration(100+luck>>32%12_000) * time.Millisecond
	}
	back := func(err error) {
		if err != nil {
			w.tell(a.name, "%s: %v", what, err)
		}
		if !a.gone {
			answer(a.nva.clock(), err)
			a.turn()
		}
	}
	w.after(wait/2, func() {
		if f == lost || !a.nva.reachable() {
			w.after(busPatience, func() { back(errUnanswered) })
			return
		}
		err := do()
		if f == unanswered {
			err = errUnanswered
		}
		if w.skip(wait / 2) {
			back(err)
			return
		}
		w.after(wait/2, func() { back(err) })
	})
}

func (a *agent) publish(events []event.Event) {
	w := a.nva.w
	a.call("publish", func() error {
		w.counts.Events += len(events)
		for _, e := range events {
			if w.told() {
				w.tell(a.name, "publishes %s", inWords(e))
			}
			w.events.send(&delivery{id: e.ID(), event: &e}, time.Time{})
		}
		return nil
	}, a.machine.Published)
}

func (a *agent) schedule(s publish.Schedule) {
	var number int64
	a.call("arm the dead-man switch", func() error {
		number = a.nva.w.events.send(&delivery{id: s.Event.ID(), event: &s.Event}, s.At)
		return nil
	}, func(now time.Time, err error) {
		a.armed = a.armed || err == nil
		a.machine.Scheduled(now, s, number, err)
	})
}

func (a *agent) cancel(c publish.Cancel) {
	a.call("cancel the old switch", func() error { return a.nva.w.events.cancel(c.Sequence) },
		func(now time.Time, err error) { a.machine.Cancelled(now, c, err) })
}

// taking notes what Ingest has been given.
func (w *World) taking(batch []*delivery) {
	for _, d := range batch {
		if d.word != nil {
			continue
		}
		if n := w.nva(d.event.NVA); n != nil && d.event.Kind == event.Expired {
			n.firedFrom.add(*d.event)
		}
	}
}

// merged notes what Ingest has taken in for good.
func (w *World) merged(batch []*delivery) {
	for _, d := range batch {
		if d.word != nil {
			continue
		}
		n := w.nva(d.event.NVA)
		if n == nil || n.agent == nil || d.event.Version.Epoch != n.agent.epoch || n.clone != nil {
			continue
		}
		if d.event.Kind == event.Expired {
			n.checkSilence()
			continue
		}
		n.heardOf.add(*d.event)
		for _, a := range d.event.Announce {
			since, there := n.raised[a.Prefix]
			if _, known := n.known[a.Prefix]; there && !known && d.event.Version.Compare(since) > 0 {
				n.known[a.Prefix] = w.now
			}
		}
	}
}

// checkSilence: a switch that fires late puts nobody down of whom a later beat was heard.
func (n *nva) checkSilence() {
	if doc := n.w.document(n.name); doc != nil && doc.Silent() && n.heardOf.above(n.firedFrom) {
		n.w.violate("silence", "%s is silent in its document, although beat %d was heard and none above %d has fired", n.name, n.heardOf.beat, n.firedFrom.beat)
	}
}
