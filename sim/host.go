package sim

import (
	"context"
	"fmt"
	"iter"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/reconcile"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/wake"
)

// call is one running call of a function, on a coroutine: it yields how long it wants to wait, and is resumed when that time has passed.
type call struct {
	w        *World
	function string // Ingest, Reconcile, Sweep
	asker    asker
	began    time.Time
	limit    time.Duration // the host's patience
	messages []*delivery   // whose locks it holds

	on     *coroutine
	goOn   func() // step, by the agenda
	alone  bool   // it was resumed by the agenda: when it gives the turn back nobody but the agenda goes on
	handle func(context.Context) error

	err     error
	crashed bool
	killed  bool // it is to die at its next request
	ended   bool

	// What it has read, for the checks: every NVA's document, as of the last reading.
	documents map[string]*blob
	table     *table        // that it was woken for
	hub       *hub          // or this
	file      string        // of the target's document
	target    *blob         // the target's document as of its last reading or writing
	sent      time.Time     // when it last sent a write
	used      *word         // the approval that covered a write of it, once it knows that the write is done
	saved     *blob         // the target's document as it wrote it last, if that was the last that it tried to
	listed    *hubOperation // that was in work when it listed the peers
	operation *hubOperation // that it has begun, by its token; nil where a request has failed since
	got       string        // ETag of the last reading of the table
	round     round
}

// round is how far a reconcile is in one pass of the write protocol, as far as that shows in its requests.
type round struct {
	decided bool // it has found nothing to write, or has written: what it reads now is the second look at the documents
	read    bool // the documents were read since the table was
}

// coroutine runs one call after the other. A fresh one for each call would have to grow its stack each time.
type coroutine struct {
	call  *call           // nil: it is idle
	ctx   context.Context // by which a call finds itself
	yield func(time.Duration) bool
	next  func() (time.Duration, bool)
	stop  func() // while it is idle
}

func newCoroutine() *coroutine {
	r := &coroutine{}
	r.ctx = context.WithValue(context.Background(), callKey{}, r)
	r.next, r.stop = iter.Pull(func(yield func(time.Duration) bool) {
		r.yield = yield
		for more := true; more; more = yield(0) {
			r.call.run()
			r.call = nil
		}
	})
	return r
}

// coroutine returns an idle one.
func (f *functions) coroutine() *coroutine {
	last := len(f.idle) - 1
	if last < 0 {
		return newCoroutine()
	}
	r := f.idle[last]
	f.idle = f.idle[:last]
	return r
}

// close ends the idle coroutines.
func (f *functions) close() {
	for _, r := range f.idle {
		r.stop()
	}
	f.idle = nil
}

// died unwinds a coroutine whose process is gone.
type died struct{}

// the key under which a call's coroutine is in its context.
type callKey struct{}

// callOf returns the call whose context it is, or nil.
func callOf(ctx context.Context) *call {
	if r, ok := ctx.Value(callKey{}).(*coroutine); ok {
		return r.call
	}
	return nil
}

// start begins a call of a function.
func (w *World) start(function string, id uint64, limit time.Duration, messages []*delivery, handle func(context.Context) error) *call {
	c := &call{
		w: w, function: function, asker: asker{luck: w.luck, id: mix(hash(function), id)}, began: w.now, limit: limit, messages: messages,
		on: w.functions.coroutine(), handle: handle, documents: map[string]*blob{},
	}
	c.on.call, c.goOn = c, func() { c.alone = true; c.step() }
	for _, d := range messages {
		d.holder = c
	}
	w.calls = append(w.calls, c)
	w.counts.Calls++
	c.step()
	return c
}

// run is the call from its beginning to its end.
func (c *call) run() {
	defer c.unwound()
	c.err = c.handle(c.on.ctx)
}

// unwound ends a coroutine whose process died, and turns a panic of the product into a violation.
func (c *call) unwound() {
	switch p := recover().(type) {
	case nil:
	case died:
		c.crashed = true
	default:
		c.crashed = true
		c.w.violate("panic", "%s: %v\n%s", c.function, p, debug.Stack())
	}
}

// step lets the call run until it asks for something.
func (c *call) step() {
	if c.ended {
		return
	}
	wait, _ := c.on.next()
	if c.on.call == c {
		c.w.after(wait, c.goOn)
		return
	}
	c.end()
}

// kill ends the process that the call runs in.
func (c *call) kill() {
	if c.ended {
		return
	}
	c.killed = true
	c.on.next()
	c.end()
}

// end settles the messages as the host does: completed after success, given back after an error; after a crash their locks run out.
func (c *call) end() {
	c.ended = true
	w := c.w
	w.functions.idle = append(w.functions.idle, c.on)
	w.calls = slices.DeleteFunc(w.calls, func(o *call) bool { return o == c })
	if c.crashed {
		w.counts.Crashes++
		w.tell(c.who(), "the process dies")
	}
	c.spend()
	c.checkToken()
	for _, d := range c.messages {
		if d.holder != c {
			continue // its lock was lost
		}
		switch {
		case c.crashed:
			w.after(lockTime, func() { d.giveBack(c) })
		case c.err != nil:
			w.tell(c.who(), "fails: %v", c.err)
			w.after(time.Millisecond, func() { d.giveBack(c) })
		case c.asker.chance(w.habits.Faults), w.now.Before(w.troubles.bus):
			w.tell(c.who(), "done, but its message is not completed: it comes again")
			w.after(lockTime, func() { d.giveBack(c) })
		default:
			d.complete()
		}
	}
}

// lockTime is the lock of a message, and the patience of the broker with a host that died.
const lockTime = 30 * time.Second

func (c *call) who() string {
	switch {
	case c.table != nil:
		return c.function + " " + c.table.name
	case c.hub != nil:
		return c.function + " " + c.hub.name
	}
	return c.function
}

// fate is what becomes of one request of a call.
type fate uint8

const (
	well       fate = iota // as it should be
	lost                   // the request never arrives
	unanswered             // done, but the answer is lost
	fatal                  // the process dies before it
	fatalAfter             // the process dies after it
)

// port is what a call talks to.
type port uint8

const (
	toStore port = iota + 1
	toBus
	toARM
)

// ask gives the turn back for as long as the request takes to arrive, and returns its fate.
func (c *call) ask(p port, what, object string) fate {
	w := c.w
	if len(w.troubles.accidents) > 0 {
		if o, ordered := w.accidentFor(c.function, what, object); ordered {
			c.pause(10*time.Millisecond + o.wait)
			if o.fate == fatal {
				panic(died{})
			}
			return o.fate
		}
	}
	question := c.asker.question()
	luck := w.luck.draw(question)
	wait := 5*time.Millisecond + time.Duration(luck>>32%20)*time.Millisecond
	if p == toARM {
		wait *= 8
	}
	f, slow := well, false
	if w.habits.Faults > 0 {
		switch roll := int(luck % 10_000); {
		case roll >= 10_000-6*w.habits.Faults:
			f = [...]fate{lost, lost, unanswered, unanswered, fatal, fatalAfter}[(roll-10_000+6*w.habits.Faults)/w.habits.Faults]
		case roll >= 10_000-8*w.habits.Faults:
			slow = true
		}
		if f != well || slow {
			w.luck.remarkable(question)
		}
	}
	if slow {
		wait = time.Duration(2+luck>>40%40) * time.Second
		w.tell(c.who(), "is slow: it stands still for %v", wait)
	}
	c.pause(wait)
	if f == fatal {
		panic(died{})
	}
	if c.w.now.Sub(c.began) > c.limit {
		return lost
	}
	return f
}

// accident is what a scenario wants to become of one request.
type accident struct {
	function string // of the call that makes it
	request  string // what it begins with: "write table", "write nvas/"
	fate     fate
	wait     time.Duration
}

// accidentFor takes the first one that is about this request.
func (w *World) accidentFor(function, what, object string) (accident, bool) {
	for i, o := range w.troubles.accidents {
		if o.function == function && strings.HasPrefix(what+" "+object, o.request) {
			w.troubles.accidents = slices.Delete(w.troubles.accidents, i, i+1)
			return o, true
		}
	}
	return accident{}, false
}

// pause gives the turn back, if there is anybody who could take it before the time is up.
func (c *call) pause(d time.Duration) {
	if c.alone && c.w.skip(d) {
		return
	}
	c.on.yield(d)
	if c.killed {
		panic(died{})
	}
}

// answer ends a request whose effect is done.
func (c *call) answer(f fate, what, object string) error {
	switch f {
	case fatalAfter:
		panic(died{})
	case unanswered:
		c.operation = nil
		if c.w.told() {
			c.w.tell(c.who(), "%s %s: done, but the answer is lost", what, object)
		}
		return fault.New(fault.Transient, "%s %s: connection reset (sim)", what, object)
	case well, lost, fatal:
	}
	return nil
}

// noAnswer is the error of a request that never arrived.
func (c *call) noAnswer(what, object string) error {
	c.operation = nil
	if c.w.told() {
		c.w.tell(c.who(), "%s %s: fails, nothing was done", what, object)
	}
	return fault.New(fault.Transient, "%s %s: no route to host (sim)", what, object)
}

// ingest starts the function for a batch.
func (w *World) ingest(batch []*delivery) {
	items := make([]ingest.Item, len(batch))
	for i, d := range batch {
		items[i] = d.item()
	}
	w.taking(batch)
	if w.told() {
		w.tell("Ingest", "takes %s", describe(batch))
	}
	id := mix(hash(batch[0].id), uint64(batch[0].count))
	c := w.start("Ingest", id, lockTime*10, batch, func(ctx context.Context) error {
		err := w.take(ctx, w.instance(id).ingest, items)
		if err == nil {
			w.merged(batch)
		}
		return err
	})
	c.maybeLose(w.habits.Faults)
}

// reconcile starts the function for a wake.
func (w *World) reconcile(d *delivery) {
	m := d.received()
	name := d.wake.Target
	if w.told() {
		w.tell("Reconcile", "takes %s%s", m.ID, times(m.DeliveryCount))
	}
	id := mix(hash(m.ID), uint64(m.DeliveryCount))
	c := w.start("Reconcile", id, 4*time.Minute, []*delivery{d}, func(ctx context.Context) error {
		callOf(ctx).isAbout(name)
		return w.wake(ctx, w.instance(id).reconcile, *d.wake, m)
	})
	c.maybeLose(2 * w.habits.Faults)
}

// take gives the messages to Ingest, as texts where they are texts.
func (w *World) take(ctx context.Context, f *ingest.Ingest, items []ingest.Item) error {
	if !w.habits.Text {
		return f.Take(ctx, items, nil)
	}
	batch := make([]invocation.Message, len(items))
	for n, it := range items {
		batch[n] = it.Message
	}
	return f.Handle(ctx, batch)
}

// wake gives the wake to Reconcile, likewise.
func (w *World) wake(ctx context.Context, f *reconcile.Reconcile, news wake.Wake, m invocation.Message) error {
	if !w.habits.Text {
		return f.Look(ctx, news, m)
	}
	return f.Handle(ctx, m)
}

// isAbout notes which target the call was woken for.
func (c *call) isAbout(name string) {
	c.w.checkRate(name)
	if c.table = c.w.table(name); c.table != nil {
		c.file = c.table.file
	} else if c.hub = c.w.hub(name); c.hub != nil {
		c.file = c.hub.file
	}
}

// sweepNow starts the timer function.
func (w *World) sweepNow() {
	w.tell("Sweep", "wakes every target")
	w.sweeps++
	w.start("Sweep", uint64(w.sweeps), lockTime, nil, w.instance(uint64(w.sweeps)).sweep.Handle)
}

// maybeLose may take the locks of the call's messages away while it runs: they are delivered again, and it lives on.
func (c *call) maybeLose(perMille int) {
	at := slices.Index(c.w.troubles.locks, c.function)
	if at >= 0 {
		c.w.troubles.locks = slices.Delete(c.w.troubles.locks, at, at+1)
	}
	if at < 0 && !c.asker.chance(perMille) {
		return
	}
	c.w.after(time.Duration(20+c.asker.pick(3000))*time.Millisecond, func() {
		for _, d := range c.messages {
			if d.holder == c {
				c.w.tell(c.who(), "loses the lock of %s and runs on", d.id)
				d.giveBack(c)
			}
		}
	})
}

func times(deliveries int) string {
	if deliveries == 1 {
		return ""
	}
	return fmt.Sprintf(" (delivery %d)", deliveries)
}
