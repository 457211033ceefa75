package sim

import (
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/wake"
)

// maxDeliveries is after how many a message is a dead letter (MaxDeliveryCount of the queues).
const maxDeliveries = 10

// dedupWindow is how long an id is remembered.
const dedupWindow = 10 * time.Minute

// queue is one Service Bus queue with the host that listens to it: at least once, in any order.
type queue struct {
	w        *World
	name     string
	sequence int64
	seen     map[string]time.Time
	ready    []*delivery         // to be taken
	waiting  map[int64]*delivery // scheduled
	history  []*delivery         // all that were ever delivered
	dead     int
	calling  bool // the host is about to take what is ready
}

// delivery is one message of a queue.
type delivery struct {
	queue    *queue
	id       string
	event    *event.Event // of route-events
	word     *word        // of route-events, instead of an event
	wake     *wake.Wake   // of reconcile
	sequence int64
	enqueued time.Time
	count    int   // deliveries so far
	holder   *call // who has its lock
	done     bool
}

func newQueue(w *World, name string) *queue {
	return &queue{w: w, name: name, seen: map[string]time.Time{}, waiting: map[int64]*delivery{}}
}

// send puts a message into the queue at the time at, or now.
func (q *queue) send(d *delivery, at time.Time) int64 {
	d.queue = q
	q.sequence++
	d.sequence = q.sequence
	if q.w.habits.Dedup {
		if when, known := q.seen[d.id]; known && q.w.now.Sub(when) < dedupWindow {
			if q.w.told() {
				q.w.tell("bus", "drops %s: it has seen this id", d.id)
			}
			return d.sequence
		}
		q.seen[d.id] = q.w.now
	}
	if at.After(q.w.now) {
		q.waiting[d.sequence] = d
		q.w.agenda.put(at, func() {
			if _, waits := q.waiting[d.sequence]; waits {
				delete(q.waiting, d.sequence)
				q.enqueue(d)
			}
		})
		return d.sequence
	}
	q.enqueue(d)
	return d.sequence
}

// cancel takes a scheduled message back.
func (q *queue) cancel(sequence int64) error {
	if _, waits := q.waiting[sequence]; !waits {
		return fault.New(fault.NotFound, "no scheduled message %d", sequence)
	}
	delete(q.waiting, sequence)
	return nil
}

// enqueue makes the message visible, as a rule soon.
func (q *queue) enqueue(d *delivery) {
	d.enqueued = q.w.now
	if d.word != nil {
		d.word.at = d.enqueued
	}
	if t := &q.w.troubles; t.losses > 0 && q == q.w.events {
		t.losses--
		d.lose()
		q.w.tell("bus", "%s is a dead letter", d.id)
		return
	}
	q.history = append(q.history, d)
	if d.event != nil && d.event.Kind == event.Expired {
		q.w.tell("bus", "the dead-man switch of %s fires (beat %d)", d.event.NVA, d.event.Beat)
	}
	ask := asker{luck: q.w.luck, id: mix(hash(q.name), mix(hash(d.id), uint64(d.enqueued.UnixMilli())))}
	wait := 3 * time.Millisecond
	if t := &q.w.troubles; len(t.delays) > 0 && q == q.w.events {
		wait, t.delays = t.delays[0], t.delays[1:]
		q.w.tell("bus", "delays %s by %v", d.id, wait)
	}
	if ask.chance(4 * q.w.habits.Faults) {
		wait = time.Duration(100+ask.pick(8000)) * time.Millisecond
		q.w.tell("bus", "delays %s by %v", d.id, wait)
	}
	if ask.chance(2 * q.w.habits.Faults) {
		twin := *d
		q.w.tell("bus", "delivers %s twice", d.id)
		q.w.after(wait+time.Duration(ask.pick(5000))*time.Millisecond, twin.becomeReady)
	}
	q.w.after(wait, d.becomeReady)
}

// becomeReady offers the message to the host, which takes what is there a moment later.
func (d *delivery) becomeReady() {
	q := d.queue
	q.ready = append(q.ready, d)
	if !q.calling {
		q.calling = true
		q.w.after(5*time.Millisecond, q.take)
	}
}

// take starts calls for all that is ready: batches of events, in any order; wakes one by one.
func (q *queue) take() {
	if wait := q.w.troubles.bus.Sub(q.w.now); wait > 0 {
		q.w.after(min(wait, 5*time.Second), q.take) // trouble may end sooner
		return
	}
	q.calling = false
	ready := q.ready
	q.ready = nil
	for _, d := range ready {
		d.count++
	}
	if q == q.w.wakes {
		for _, d := range ready {
			q.w.reconcile(d)
		}
		return
	}
	ask := asker{luck: q.w.luck, id: mix(hash(ready[0].id), uint64(len(ready)))}
	if len(ready) > 1 && ask.chance(30*q.w.habits.Faults) {
		i := ask.pick(len(ready))
		ready[0], ready[i] = ready[i], ready[0]
		q.w.ingest(ready[:1])
		ready = ready[1:]
	}
	q.w.ingest(ready)
}

// received is the message as the function gets it, with its text where the world has texts. An order always has one: whoever checks its signature reads that.
func (d *delivery) received() invocation.Message {
	m := invocation.Message{ID: d.id, DeliveryCount: d.count, SequenceNumber: d.sequence, EnqueuedAt: d.enqueued}
	if d.queue.w.habits.Text || d.word != nil {
		m.Body = d.encode()
	}
	return m
}

// item is the message as Ingest reads it.
func (d *delivery) item() ingest.Item {
	if d.word != nil {
		return ingest.Item{Message: d.received(), Order: &d.word.Order}
	}
	return ingest.Item{Message: d.received(), Event: *d.event}
}

func (d *delivery) encode() (body []byte) {
	var err error
	switch {
	case d.wake != nil:
		var m message.Message
		m, err = d.wake.Message()
		body = m.Body
	case d.word != nil:
		body, err = order.Encode(d.word.Order)
	default:
		body, err = event.Encode(*d.event)
	}
	if err != nil {
		panic("sim: " + err.Error())
	}
	return body
}

// lose makes it a dead letter.
func (d *delivery) lose() {
	d.queue.dead++
	if d.word != nil {
		d.word.dead = true
	}
}

// giveBack ends the lock that the call holds: the message comes again, or is dead.
func (d *delivery) giveBack(c *call) {
	if d.holder != c || d.done {
		return
	}
	d.holder = nil
	if d.count >= maxDeliveries {
		d.done = true
		d.lose()
		d.queue.w.tell("bus", "%s is a dead letter", d.id)
		return
	}
	d.becomeReady()
}

func (d *delivery) complete() { d.holder, d.done = nil, true }

// describe names a batch for the story.
func describe(batch []*delivery) string {
	var words []string
	for _, d := range batch {
		if d.word != nil {
			words = append(words, inOrder(d.word.Order)+times(d.count))
		} else {
			words = append(words, d.event.NVA+" "+inWords(*d.event)+times(d.count))
		}
	}
	return strings.Join(words, "; ")
}

// inWords tells an event in a few words.
func inWords(e event.Event) string {
	text := e.Kind.String()
	if e.Kind == event.Expired {
		return fmt.Sprintf("%s (beat %d)", text, e.Beat)
	}
	text += fmt.Sprintf(" #%d", e.Version.Seq)
	if e.Chunk.Count > 1 {
		text += fmt.Sprintf(" part %d of %d", e.Chunk.Index+1, e.Chunk.Count)
	}
	for _, a := range e.Announce {
		text += " +" + a.Prefix.String()
	}
	for _, p := range e.Withdraw {
		text += " -" + p.String()
	}
	return text
}
