//go:build linux

package main

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/test/system"
)

// standing is how long a prefix must have been known to be announced before its removal is wrong in any case: longer than any run of Reconcile
// can take from reading the documents to its write, with all that holds it up here. The exact bound is sooner most of the time: the documents are
// read after the table, so what they held before the table got the ETag that a write names is known to that write.
const standing = 10 * time.Second

// watch checks, while it happens, everything that must hold at any moment.
type watch struct {
	log   *journal
	truth *truth

	mu      sync.Mutex
	tables  map[string]*watched
	done    map[string]bool // ids of completed messages
	dead    int             // dead letters
	counted arm.Call        // the last call that was checked
	checked bool
}

// watched is one table.
type watched struct {
	target  target
	others  map[string]string
	changed time.Time      // when it got the ETag that it has; zero: before the watch began
	pending map[string]int // what of others is being changed by somebody who may
}

func newWatch(log *journal, truth *truth) *watch {
	w := &watch{log: log, truth: truth, tables: map[string]*watched{}, done: map[string]bool{}}
	for _, t := range targets() {
		w.tables[strings.ToLower(t.id)] = &watched{target: t, pending: map[string]int{}}
	}
	return w
}

// editing says that somebody else begins, or has ended, to change what belongs to key.
func (w *watch) editing(id, key string, by int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tables[strings.ToLower(id)].pending[key] += by
}

// onTable hears of every change of a table before its client does.
func (w *watch) onTable(e arm.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.tables[strings.ToLower(e.Table)]
	if t == nil || e.After == nil {
		w.log.violation("I1", "a table is gone or new: %s, %s", e.Table, e.Kind)
		return
	}
	after, err := read(e.After)
	if err != nil {
		w.log.violation("I1", "%v", err)
		return
	}
	w.unmanaged(t, after, e.Kind)
	decided, now := t.changed, time.Now() // no decision on this ETag was made sooner
	t.changed = now
	if e.Kind != arm.WriteAccepted || e.Before == nil {
		return
	}
	if after.routes > t.target.limit {
		w.log.violation("I6", "%s has %d routes, its limit is %d", t.target.name, after.routes, t.target.limit)
	}
	before, err := read(e.Before)
	if err != nil {
		w.log.violation("I1", "%v", err)
		return
	}
	w.log.say("%s: %s%s", t.target.name, describe(before.hops, after.hops), changedOthers(before.others, after.others))
	if always := now.Add(-standing); always.After(decided) {
		decided = always
	}
	w.removed(t.target, before, after, decided)
}

// unmanaged compares what is not ours with what it was.
func (w *watch) unmanaged(t *watched, after content, kind arm.EventKind) {
	for _, key := range differing(t.others, after.others) {
		if t.others != nil && t.pending[key] == 0 {
			w.log.violation("I1", "%s: %s changed %s from\n\t%q to\n\t%q", t.target.name, kind, key, t.others[key], after.others[key])
		}
	}
	t.others = after.others
}

// removed checks the prefixes that a write takes out of a table, and the names of those that it puts in.
// decided is the earliest that the write can have been decided.
func (w *watch) removed(t target, before, after content, decided time.Time) {
	for p, hop := range before.hops {
		if _, has := after.hops[p]; has {
			continue
		}
		if keeper := w.truth.keeper(p, t.nvas, decided); keeper != "" {
			w.log.violation("I4", "%s: %s (%s) was removed, but %s announces it without interruption", t.name, p, hop, keeper)
		}
	}
	for p, hop := range after.hops {
		if !slices.Contains(t.hops(), hop) {
			w.log.violation("I3", "%s: %s has next hop %s, which is no NVA's of this target", t.name, p, hop)
		}
	}
}

// describe says what a write changed of the managed routes.
func describe(before, after map[netip.Prefix]string) string {
	added, moved, removed := 0, 0, 0
	for p, hop := range after {
		switch was, has := before[p]; {
		case !has:
			added++
		case was != hop:
			moved++
		}
	}
	for p := range before {
		if _, has := after[p]; !has {
			removed++
		}
	}
	return fmt.Sprintf("+%d >%d -%d", added, moved, removed)
}

func changedOthers(before, after map[string]string) string {
	if keys := differing(before, after); len(keys) > 0 {
		return ", others' " + strings.Join(keys, ", ")
	}
	return ""
}

// onBus hears of every change of a message.
func (w *watch) onBus(e servicebus.Event) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch e.Kind { //nolint:exhaustive // the rest is the bus's daily work
	case servicebus.EventCompleted:
		w.done[e.MessageID] = true
	case servicebus.EventDeadLettered:
		w.dead++
		w.log.violation("queue", "%s: message %s is dead after %d deliveries: %s", e.Entity, e.MessageID, e.DeliveryCount, e.Reason)
	}
}

func (w *watch) completed(id string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.done[id]
}

// audit checks the calls since the last audit: every write of ours is of a whole table and has a condition. Other people here write single
// routes and tags.
func (w *watch) audit(calls []arm.Call) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := len(calls) - 1; i >= 0 && w.checked; i-- {
		if c := calls[i]; c.At.Equal(w.counted.At) && c.Path == w.counted.Path && c.Method == w.counted.Method {
			calls = calls[i+1:]
			break
		}
	}
	for _, c := range calls {
		w.counted, w.checked = c, true
		if c.Operation != "routeTables.CreateOrUpdate" {
			continue
		}
		if c.IfMatch == "" || c.IfMatch == "*" {
			w.log.violation("I1", "PUT of %s without If-Match", c.Path)
		}
		var body struct {
			Properties struct{ Routes *[]json.RawMessage }
		}
		if err := json.Unmarshal(c.Body, &body); err != nil || body.Properties.Routes == nil {
			w.log.violation("I1", "PUT of %s without routes: %.200s", c.Path, c.Body)
		}
		if c.Status == 200 || c.Status == 201 {
			w.log.wrote()
		}
	}
}

// attach begins to watch.
func (w *watch) attach(s *system.System) error {
	for _, t := range w.tables {
		raw, _, _ := s.ARM.Table(t.target.id)
		c, err := read(raw)
		if err != nil {
			return err
		}
		t.others = c.others
	}
	s.ARM.Observe(w.onTable)
	s.Bus.Observe(w.onBus)
	return nil
}
