// Package replay answers what Pointsman would have written for a journal of events: offline, in virtual time, by the merge, selection, plan and
// price that the function app uses.
//
//	entries ─▶ documents ─▶ slots: who announces each prefix ─▶ per target: what it should hold, against what it holds
//	(by time)   (merge)                                             │
//	                                     nothing to do │ wait until │ write, done after WriteDuration, then look again
//
// What each event changes is followed prefix by prefix, so that an event costs as much as it holds. The write itself is planned from scratch by
// the same code as in the function app, and must agree with what was followed.
//
// What is left out: the bus and the functions take no time, Azure refuses nothing, and two runs never meet.
package replay

import (
	"fmt"
	"iter"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// Config says what to replay against.
type Config struct {
	Domain *config.Domain
	// Tables are the route tables at the start, by target; a missing one is empty. Routes whose names begin with the domain's routeNamePrefix
	// count as managed.
	Tables        map[string]plan.Table
	WriteDuration time.Duration // how long a write of a table takes; Azure needs 1 to 10 s
}

// Run replays the entries, which are in the order of their times; those of other domains are counted and left out. An error is the entries' or a Bug.
func Run(cfg Config, entries iter.Seq2[journal.Entry, error]) (Report, error) {
	w := newWorld(cfg)
	r := Report{Domain: cfg.Domain.Name, WriteSeconds: cfg.WriteDuration.Seconds()}
	var now time.Time
	for entry, err := range entries {
		if err != nil {
			return r, err
		}
		if !entry.At.Equal(now) { // all that came at one moment is seen together
			if err = w.pass(now, entry.At); err != nil {
				return r, err
			}
			now = entry.At
		}
		if entry.Domain() != cfg.Domain.Name {
			r.Foreign++
			continue
		}
		r.count(entry)
		if !w.take(entry) {
			r.Refused++
		}
	}
	if err := w.decide(now); err != nil {
		return r, err
	}
	if err := w.settle(); err != nil {
		return r, err
	}
	for _, t := range w.targets {
		r.Targets = append(r.Targets, t.finish())
	}
	return r, nil
}

// pass ends the moment and lets time pass to the next one. Before the first there is none.
func (w *world) pass(now, next time.Time) error {
	if now.IsZero() {
		return nil
	}
	if err := w.decide(now); err != nil {
		return err
	}
	return w.advance(next)
}

// world is the domain at one moment of virtual time.
type world struct {
	domain  *config.Domain
	docs    map[string]*state.NVA // of the NVAs that were heard
	members []member              // in the order of the file
	byName  map[string]int
	byHop   map[netip.Addr]int
	live    liveness.View
	slots   []slot
	bySlot  map[netip.Prefix]int
	targets []*target
	touched []int     // scratch
	due     time.Time // when the first target must be looked at; zero: never
}

// member is one NVA.
type member struct {
	config.NVA
	doc     *state.NVA
	belief  liveness.Belief
	allowed int       // prefixes that it announces and may announce
	seen    []*target // those that it feeds, or that have its next hop; in the order of the file
}

func (m *member) over() bool { return m.allowed > m.MaxPrefixes }

// slot is one prefix with the NVAs that announced it at any time, in the order in which they first did.
type slot struct {
	prefix  netip.Prefix
	holders []holder
}

type holder struct {
	member    int
	permitted bool // by the domain file
	announces bool
	metric    uint32
}

func newWorld(cfg Config) *world {
	w := &world{
		domain: cfg.Domain, docs: map[string]*state.NVA{}, members: make([]member, len(cfg.Domain.NVAs)),
		byName: map[string]int{}, byHop: map[netip.Addr]int{}, bySlot: map[netip.Prefix]int{},
	}
	for i, nva := range cfg.Domain.NVAs {
		w.members[i] = member{NVA: nva, doc: state.NewNVA(cfg.Domain.Name, nva.Name), belief: liveness.Belief{State: liveness.Unheard}}
		w.byName[nva.Name] = i
		for _, hop := range nva.NextHops {
			w.byHop[hop] = i
		}
	}
	for _, t := range cfg.Domain.Targets {
		w.targets = append(w.targets, newTarget(w, t, cfg.Tables[t.Name], cfg.WriteDuration))
	}
	return w
}

// slot returns the number of p's slot.
func (w *world) slot(p netip.Prefix) int {
	n, known := w.bySlot[p]
	if !known {
		n = len(w.slots)
		w.bySlot[p] = n
		w.slots = append(w.slots, slot{prefix: p})
	}
	return n
}

// take merges one event and brings the targets that it concerns up to date. It reports whether the event could be used.
func (w *world) take(entry journal.Entry) bool {
	name := entry.Event.NVA
	if o := entry.Order; o != nil {
		if !o.Kind.OfNVA() {
			return w.obey(*o, entry.At)
		}
		name = o.NVA
	}
	n, known := w.byName[name]
	if !known {
		return false
	}
	m := &w.members[n]
	revision, floor, over := m.doc.Revision, m.doc.Floor, m.over()
	if entry.Order != nil {
		m.doc.Obey(state.OrderOf(*entry.Order, entry.At))
	} else if _, err := m.doc.Merge(entry.Event, entry.At); err != nil {
		return false
	}
	if m.doc.Revision == revision {
		w.answered(entry.At, nil)
		return true
	}
	if m.doc.Heard() || m.doc.Silent() || entry.Order != nil {
		w.docs[m.Name] = m.doc
	}
	wide := m.doc.Wide
	m.doc.Wide = false
	for _, t := range m.seen {
		t.begin(entry.At)
	}
	touched := w.touch(n, entry.Event, m.doc.Floor != floor)
	switch {
	case wide:
		w.believe(entry.At)
		for _, t := range w.targets {
			t.note(true)
		}
		return true
	case w.accusing():
		w.answered(entry.At, func(t *target) bool { return slices.Contains(m.seen, t) && t.fed[n] })
		return true
	case m.over() != over:
		for _, t := range m.seen {
			t.refresh(entry.At)
		}
	default:
		for _, t := range m.seen {
			for _, s := range touched {
				t.update(s)
			}
		}
	}
	for _, t := range m.seen {
		t.note(t.fed[n])
	}
	return true
}

// accusing reports whether any NVA says that it cannot reach another: then whatever an NVA says may be its answer.
func (w *world) accusing() bool {
	return slices.ContainsFunc(w.members, func(m member) bool {
		return slices.ContainsFunc(m.doc.Report.Peers, func(p event.Peer) bool { return !p.Reachable })
	})
}

// answered works out again what is believed, where somebody is accused; woken says which targets look at that at once, nil: none.
func (w *world) answered(now time.Time, woken func(*target) bool) {
	if !w.accusing() {
		return
	}
	w.believe(now)
	for _, t := range w.targets {
		t.note(woken != nil && woken(t))
	}
}

// touch notes what the NVA says now of the prefixes that an event names, or of all: a complete snapshot withdraws what it does not name. It
// returns the slots where that is news, valid until the next call.
func (w *world) touch(n int, e event.Event, all bool) []int {
	w.touched = w.touched[:0]
	for _, a := range e.Announce {
		w.hold(n, w.slot(a.Prefix))
	}
	for _, p := range e.Withdraw {
		w.hold(n, w.slot(p))
	}
	if all {
		for p := range w.members[n].doc.Facts { // chunks that came before
			w.slot(p)
		}
		for s := range w.slots {
			w.hold(n, s)
		}
	}
	return w.touched
}

// hold notes whether the NVA announces the prefix.
func (w *world) hold(n, s int) {
	attrs, announces := w.members[n].doc.Announces(w.slots[s].prefix)
	list := w.slots[s].holders
	i := slices.IndexFunc(list, func(h holder) bool { return h.member == n })
	if i < 0 {
		if !announces {
			return
		}
		i = len(list)
		list = append(list, holder{member: n, permitted: selection.Refuse(w.members[n].NVA, w.slots[s].prefix) == ""})
		w.slots[s].holders = list
	}
	h := &list[i]
	if h.announces == announces && h.metric == attrs.Metric {
		return
	}
	if h.permitted && h.announces != announces {
		if announces {
			w.members[n].allowed++
		} else {
			w.members[n].allowed--
		}
	}
	h.announces, h.metric = announces, attrs.Metric
	w.touched = append(w.touched, s)
}

// believe works out again who is up after news from one NVA, or because time has passed, and what follows for all targets.
func (w *world) believe(now time.Time) {
	w.live = liveness.Judge(w.domain, w.docs, now)
	for i := range w.members {
		m := &w.members[i]
		b := w.live.Of[m.Name]
		was := m.belief.State
		m.belief = b
		if b.State == was {
			continue
		}
		for _, t := range m.seen {
			t.say(now, fmt.Sprintf("%s is %s", m.Name, b.State))
		}
	}
	for _, t := range w.targets {
		t.refresh(now)
	}
}

// advance lets time pass up to, but without, the given moment: writes end, waits end, hold-downs end.
func (w *world) advance(until time.Time) error {
	for !w.due.IsZero() && w.due.Before(until) {
		if err := w.decide(w.due); err != nil {
			return err
		}
	}
	return nil
}

// settle lets time pass until nothing more happens.
func (w *world) settle() error {
	for !w.due.IsZero() {
		if err := w.decide(w.due); err != nil {
			return err
		}
	}
	return nil
}

// decide looks at every target that has news or is due.
func (w *world) decide(now time.Time) error {
	if look := w.live.Look; !look.IsZero() && !now.Before(look) {
		w.believe(now)
		for _, t := range w.targets {
			t.note(true)
		}
	}
	w.due = w.live.Look
	for _, t := range w.targets {
		if err := t.look(now); err != nil {
			return err
		}
		w.due = selection.Sooner(w.due, t.due())
	}
	return nil
}
