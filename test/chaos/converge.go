//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/emulator/arm"
	bus "github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// patience bounds the wait for convergence: above a lease (30 s) and a back-off (at most a minute) after each other.
const patience = 2 * time.Minute

// calm ends all faults, brings everything back but perhaps one NVA, waits until all is as it should be, and checks that it stays so. It returns how
// long that took; 0 if it never was.
func (w *world) calm(ctx context.Context) (time.Duration, error) {
	if err := w.endFaults(); err != nil {
		return 0, err
	}
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	err := w.wait(limited, w.converged)
	if ctx.Err() != nil {
		return 0, fmt.Errorf("stopped: %w", ctx.Err())
	}
	if err != nil {
		w.log.violation("I3", "not converged after %s: %v", patience, err)
		return 0, nil
	}
	took := time.Since(began)
	w.log.say("converged after %s", took.Round(time.Millisecond))
	return took, w.stays(limited)
}

// endFaults ends everything that was begun. One NVA may stay dead.
func (w *world) endFaults() error {
	for _, e := range w.endings {
		if err := e.end(); err != nil {
			return err
		}
	}
	w.endings = nil
	b := w.sys.Bus.Faults()
	b.Outage(false)
	b.DuplicateDelivery(0)
	b.Reorder(0)
	b.DelaySends(0)
	b.DelayDispositions(0)
	b.WithholdSends(0)
	b.ServerBusy(0)
	b.FailCancel(0, 0)
	b.FailSchedule(0, 0)
	for _, q := range queueNames() {
		b.Disable(q, false)
	}
	w.sys.ARM.Faults().Clear()
	w.sys.Blob.Faults().Clear()
	w.sys.Identity.FailNext(0, http.StatusInternalServerError)
	stays := w.rand.IntN(2 * len(w.nvas)) // which one stays dead; beyond the last: none
	for i, n := range w.nvas {
		if i == stays && !n.dead {
			w.truth.lose(n.name, prefixesOf(w.truth.of(n.name)))
			n.dead = true
			n.way.Cut("scenario", true)
			if err := errors.Join(n.kill(), n.power(false)); err != nil {
				return err
			}
		}
		n.returns = time.Time{}
		if i == stays {
			n.returns = time.Now().Add(patience * 10)
			continue
		}
		n.way.Cut("scenario", n.dead)
		if n.dead || !n.alive() {
			if err := w.revive(n); err != nil {
				return err
			}
		}
	}
	w.log.say("all faults end; dead: %v", w.deadOnes())
	return nil
}

func (w *world) deadOnes() []string {
	out := []string{}
	for _, n := range w.nvas {
		if n.dead {
			out = append(out, n.name)
		}
	}
	return out
}

// wait tends what runs until lacks returns nil.
func (w *world) wait(ctx context.Context, lacks func(context.Context) error) error {
	return until(ctx, 250*time.Millisecond, func() error {
		if err := w.tend(time.Now()); err != nil {
			return err
		}
		return lacks(ctx)
	})
}

// converged says what is not yet as it should be.
func (w *world) converged(ctx context.Context) error {
	docs := map[string]*state.NVA{}
	for _, n := range w.nvas {
		doc, err := w.document(ctx, n.name)
		if err != nil {
			return fmt.Errorf("document of %s: %w", n.name, err)
		}
		docs[n.name] = doc
		if n.dead {
			if !doc.Silent() {
				return fmt.Errorf("%s is dead, but not silent", n.name)
			}
			continue
		}
		if err = w.truth.matches(n.name, doc); err != nil {
			return err
		}
		if doc.Silent() || doc.Draining() {
			return fmt.Errorf("%s lives, but is silent: %t, draining: %t", n.name, doc.Silent(), doc.Draining())
		}
	}
	for _, t := range targets() {
		if err := w.holds(t, docs); err != nil {
			return err
		}
	}
	return w.queues()
}

// holds compares a table with what the documents demand.
func (w *world) holds(t target, docs map[string]*state.NVA) error {
	raw, _, _ := w.sys.ARM.Table(t.id)
	c, err := read(raw)
	if err != nil {
		return err
	}
	if c.state != "Succeeded" {
		return fmt.Errorf("table %s is %s", t.name, c.state)
	}
	for _, p := range pool() {
		want := w.wanted(t, p, docs)
		if by, blocked := c.prefixes[p.String()]; blocked {
			if hop, has := c.hops[p]; has {
				return fmt.Errorf("%s: %s has next hop %s and is held by %s", t.name, p, hop, by)
			}
			continue
		}
		if hop, has := c.hops[p]; has != (len(want) > 0) || has && !slices.Contains(want, hop) {
			return fmt.Errorf("%s: %s has next hop %q, want one of %v", t.name, p, hop, want)
		}
	}
	for p := range c.hops {
		if !slices.Contains(pool(), p) {
			return fmt.Errorf("%s: %s was never announced", t.name, p)
		}
	}
	return nil
}

// wanted are the next hops that a prefix may have; none: it must have no route. The living NVA that announces it and is preferred; where
// the dead ones are only taken for silent (hold), also one of them that was preferred to it. If nobody alive announces it, any of the dead that did.
func (w *world) wanted(t target, p netip.Prefix, docs map[string]*state.NVA) []string {
	var living, dead []string
	for _, n := range w.nvas { // in the order of preference
		if !t.fed(n.name) {
			continue
		}
		_, announced := docs[n.name].Announces(p)
		switch {
		case announced && !n.dead && len(living) == 0:
			living = append(living, n.hop)
		case announced && n.dead && (len(living) == 0 || w.silence == config.SilenceHold):
			dead = append(dead, n.hop)
		}
	}
	if len(living) > 0 && w.silence == config.SilenceDown {
		return living
	}
	return append(living, dead...)
}

// queues says what is left to do on the bus. Dead-man switches and later looks may be scheduled, but nothing may be overdue.
func (w *world) queues() error {
	for _, name := range queueNames() {
		q, _ := w.sys.Bus.Queue(name)
		if q.Active+q.Locked+q.Deferred > 0 {
			return fmt.Errorf("queue %s has %d messages, and %d in work", name, q.Active, q.Locked)
		}
	}
	return nil
}

// stays checks what must be so once everything has converged.
func (w *world) stays(ctx context.Context) error {
	if err := w.sweepWritesNothing(ctx); err != nil {
		return err
	}
	if err := w.wait(ctx, w.converged); err != nil {
		w.log.violation("I3", "no longer converged: %v", err)
	}
	// What is scheduled must not pile up: one switch for each agent, and those that its restarts left behind, which fire by and by.
	err := w.wait(ctx, func(context.Context) error {
		q, _ := w.sys.Bus.Queue(queueNames()[0])
		if most := 2 * len(w.nvas); q.Scheduled > most {
			return fmt.Errorf("%d events are scheduled, want at most %d", q.Scheduled, most)
		}
		return nil
	})
	if err != nil {
		w.log.violation("queue", "%v", err)
	}
	for _, m := range w.sys.Bus.Peek(queueNames()[1]) {
		if m.State == bus.StateScheduled && time.Until(m.ScheduledAt) > patience {
			w.log.violation("queue", "wake %s is scheduled for %s", m.MessageID, m.ScheduledAt)
		}
	}
	return w.nothingParked(ctx)
}

// sweepWritesNothing runs the sweep, and sends the wakes that it sends without waiting until it does: they are spread over a minute.
func (w *world) sweepWritesNothing(ctx context.Context) error {
	w.watch.audit(w.sys.ARM.Calls())
	before := w.attempts()
	wakes, err := servicebus.NewSender(servicebus.Config{ConnectionString: w.sys.Bus.ConnectionString(""), Queue: "reconcile"})
	if err != nil {
		return fmt.Errorf("sweep: %w", err)
	}
	defer func() { _ = wakes.Close(context.WithoutCancel(ctx)) }()
	var sent []string
	for _, t := range targets() {
		m, failed := wake.Wake{Domain: domain, Target: t.name, Cause: "sweep/end"}.Message()
		if failed == nil {
			failed = wakes.Publish(ctx, []message.Message{m})
		}
		if failed != nil {
			return fmt.Errorf("sweep: %w", failed)
		}
		sent = append(sent, m.ID)
	}
	err = w.wait(ctx, func(context.Context) error {
		for _, id := range sent {
			if !w.watch.completed(id) {
				return fmt.Errorf("wake %s is not done", id)
			}
		}
		return w.queues()
	})
	if err != nil {
		w.log.violation("queue", "after the sweep: %v", err)
	}
	if n := w.attempts() - before; n > 0 {
		w.log.violation("I5", "a sweep of converged tables wrote %d times", n)
	}
	return nil
}

// attempts counts all PUTs of whole tables that the call log still has.
func (w *world) attempts() int {
	return len(slices.DeleteFunc(w.sys.ARM.Calls(), func(c arm.Call) bool { return c.Operation != "routeTables.CreateOrUpdate" }))
}

// nothingParked checks that no event was taken for unusable.
func (w *world) nothingParked(ctx context.Context) error {
	store, err := w.sys.Container("poison")
	if err == nil {
		err = store.Ensure(ctx)
	}
	if err != nil {
		return fmt.Errorf("parked events: %w", err)
	}
	names, err := store.List(ctx, "")
	if err != nil {
		return fmt.Errorf("parked events: %w", err)
	}
	for _, name := range names {
		body, _, failed := store.Read(ctx, name, "")
		w.log.violation("parked", "%s: %s %v", name, strings.TrimSpace(string(bytes.TrimSpace(body))), failed)
	}
	return nil
}
