package replay

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/answer"
	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// target is one route table at one moment of virtual time.
type target struct {
	world  *world
	cfg    config.Target
	fed    []bool // by member
	rules  plan.Rules
	price  coalesce.Policy
	write  time.Duration
	owned  map[string]bool
	table  plan.Table
	twins  int // managed routes that go whatever is wanted
	report TargetReport
	doc    *state.Target // what operators said
	shown  string        // the hash of the plan that the timeline last called withheld

	cells  []cell // by slot
	counts counts
	clock  time.Time // up to when the report's prefix-seconds are counted

	settled int              // which of the two answers was the one when notice was taken last
	batch   int              // counts the notices
	moved   []moved          // since the last one
	news    bool             // there is a reason to look
	account coalesce.Account // of a change that waits
	fireAt  time.Time        // when it is written; zero: nothing waits
	lookAt  [2]time.Time     // when a hold-down ends, by settle; zero: none
	doneAt  time.Time        // when the write in flight ends; zero: none is in flight
	edit    plan.Edit        // the write in flight
	scratch []selection.Candidate
	deal    *selection.Spreading // nil: nothing is in mode spread
}

// cell is one prefix of one target.
type cell struct {
	wanted    bool // belongs in the target, as the domain file has it
	how       config.Selection
	unmanaged bool           // the table has it as somebody else's route
	managed   bool           // the table has it as ours
	installed route.NextHops // ... with these next hops
	proper    bool           // ... and the type that we write for them
	leaves    bool           // it is taken off a next hop that it may not keep
	want      [2]want        // by settle
	batch     int            // in which it was last worked out
}

// moved is a prefix that was worked out again, with what it was to have before.
type moved struct {
	slot int
	was  [2]route.NextHops
}

// want is what a prefix should have. A storm makes the first prefix leave a dead next hop, and the last one come back, a thousand times: both answers are kept.
type want struct {
	hops  route.NextHops // empty: none
	class class          // what is to be done about it
	look  time.Time      // when a hold-down may change the answer; zero: never
}

// The two answers: what leaves a dead next hop is written anyway, and then those leave too that came back to theirs too recently (selection.Question, Settle).
const (
	asIs = iota
	settling
)

// class says what is to be done about a prefix.
type class uint8

const (
	atRest class = iota
	missing
	better
	dead
	gone // withdrawn everywhere
)

// counts counts cells by class (but for those at rest), the managed ones, those that leave, and those whose two answers differ.
type counts struct {
	by      [2][gone + 1]int
	managed int
	leaves  int
	differ  int
}

func (c *counts) add(x *cell, n int) {
	for settle, w := range x.want {
		c.by[settle][w.class] += n
	}
	c.leaves += n * truth(x.leaves)
	c.differ += n * truth(x.want[asIs].hops != x.want[settling].hops)
}

// settle says which of the two answers is the one.
func (c *counts) settle() int { return truth(c.leaves > 0) }

// now counts cells by class.
func (c *counts) now() [gone + 1]int { return c.by[c.settle()] }

func newTarget(w *world, t config.Target, table plan.Table, write time.Duration) *target {
	x := &target{world: w, cfg: t, price: answer.Price(w.domain, t.Name), write: write, batch: 1, owned: map[string]bool{}, table: table, fed: make([]bool, len(w.members))}
	x.report.Target = t.Name
	x.doc = state.NewTarget(w.domain.Name, t.Name, t.RouteTable)
	x.rules = answer.Rules(w.domain, t, func(name string) bool { return x.owned[strings.ToLower(name)] })
	for _, r := range table.Routes {
		if name := strings.ToLower(r.Name); strings.HasPrefix(name, strings.ToLower(x.rules.NamePrefix)) {
			x.owned[name] = true
		}
	}
	for i := range w.members {
		x.fed[i] = t.Fed(w.members[i].Name)
		if x.fed[i] || x.has(w.members[i].NextHops) {
			w.members[i].seen = append(w.members[i].seen, x)
		}
	}
	x.install()
	return x
}

// has reports whether the table has one of the next hops: then that NVA's news matter, whether it is one of the target's or not.
func (t *target) has(hops []netip.Addr) bool {
	return slices.ContainsFunc(t.table.Routes, func(r plan.Route) bool { return slices.ContainsFunc(hops, r.NextHops.Contains) })
}

// install reads the table into the cells, as plan.Diff does.
func (t *target) install() {
	for i := range t.cells {
		t.cells[i].unmanaged, t.cells[i].managed, t.cells[i].installed = false, false, route.NextHops{}
	}
	t.twins, t.counts.managed = 0, 0
	for _, r := range t.table.Routes {
		managed := t.rules.Managed(r)
		if !r.Prefix.IsValid() {
			if managed {
				t.twins++
			}
			continue
		}
		c := t.cell(t.world.slot(r.Prefix))
		switch {
		case !managed:
			c.unmanaged = true
		case c.managed:
			t.twins++
		default:
			c.managed, c.proper, c.installed = true, r.Leads(r.NextHops), r.NextHops
			t.counts.managed++
		}
	}
}

// cell returns the cell of a slot.
func (t *target) cell(s int) *cell {
	for len(t.cells) <= s {
		p := t.world.slots[len(t.cells)].prefix
		how, via := t.cfg.SelectionFor(p), t.world.domain.ViaOf(p)
		// Nobody knows of a journal what a Route Server had learned, so overrides are not replayed.
		inTable := via == config.ViaUDR || via == config.ViaBoth
		t.cells = append(t.cells, cell{wanted: inTable && t.cfg.Wants(p) && selection.Unfronted(how, p) == "", how: how})
	}
	return &t.cells[s]
}

// begin counts the prefix-seconds up to now, before anything changes.
func (t *target) begin(now time.Time) {
	if !t.clock.IsZero() {
		gap := now.Sub(t.clock).Seconds()
		by := t.counts.now()
		t.report.DeadSeconds += gap * float64(by[dead])
		t.report.MissingSeconds += gap * float64(by[missing])
		t.report.BetterSeconds += gap * float64(by[better]+by[gone])
	}
	t.clock = now
}

// note takes notice of what was changed just now, if it is a reason to look at the target.
func (t *target) note(woken bool) {
	t.news = t.news || woken
	if reached(t.lookAt[t.counts.settle()], t.clock) { // the other answer was the one until now, and nobody has looked after this one
		t.refresh(t.clock)
	}
	if woken && t.changed() {
		t.report.Changes++
	}
	t.settled, t.moved = t.counts.settle(), t.moved[:0]
	t.batch++
}

// changed reports whether the target should hold something else now than when notice was taken last. What an event changed for a moment only, between two of its
// prefixes, is no change.
func (t *target) changed() bool {
	settle := t.counts.settle()
	rest := t.counts.differ // of those that were not worked out again
	for _, m := range t.moved {
		want := t.cells[m.slot].want
		if m.was[t.settled] != want[settle].hops {
			return true
		}
		rest -= truth(want[asIs].hops != want[settling].hops)
	}
	return settle != t.settled && rest > 0
}

// update works out again what one prefix should have.
func (t *target) update(s int) {
	c := t.cell(s)
	if c.batch != t.batch {
		c.batch = t.batch
		t.moved = append(t.moved, moved{s, [2]route.NextHops{c.want[asIs].hops, c.want[settling].hops}})
	}
	t.counts.add(c, -1)
	t.choose(s, c)
	for settle := range c.want {
		w := &c.want[settle]
		w.class = t.classify(s, c, w.hops)
		t.lookAt[settle] = selection.Sooner(t.lookAt[settle], w.look)
	}
	t.counts.add(c, 1)
}

// refresh works out again what every prefix should have.
func (t *target) refresh(now time.Time) {
	t.begin(now)
	t.spread()
	t.lookAt = [2]time.Time{}
	for s := range t.world.slots {
		t.update(s)
	}
}

// reached reports whether a time has come; zero: it never does.
func reached(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

func truth(b bool) int {
	if b {
		return 1
	}
	return 0
}

// spread deals the traffic of a target that has anything in mode spread.
func (t *target) spread() {
	if !t.cfg.Spreads() {
		return
	}
	var members []selection.Member
	for i := range t.world.members {
		if t.fed[i] {
			m := &t.world.members[i]
			members = append(members, selection.Member{NVA: m.NVA, Belief: m.belief})
		}
	}
	t.deal = selection.NewSpreading(t.world.domain.Spread, t.cfg.Side, members, t.clock)
}

// choose asks the selection for one prefix.
func (t *target) choose(s int, c *cell) {
	c.want, c.leaves = [2]want{}, false
	if !c.wanted {
		return
	}
	w := t.world
	if c.how.Mode == config.ModeSpread && (t.deal == nil || t.deal.Stale(t.clock)) {
		t.spread()
	}
	list := t.candidates(s, c)
	if len(list) == 0 {
		return
	}
	q := selection.Question{Prefix: w.slots[s].prefix, How: c.how, Spreading: t.deal, Installed: c.installed, Policy: w.domain.Policy, Now: t.clock}
	choice, look := selection.Choose(q, list)
	c.leaves = q.Leaves(choice, list)
	c.want[asIs] = want{hops: choice.NextHops, look: look}
	c.want[settling] = c.want[asIs]
	if q.Unsettled(list) {
		q.Settle = true
		choice, look = selection.Choose(q, list)
		c.want[settling] = want{hops: choice.NextHops, look: look}
	}
}

// candidates are those that announce the prefix and may; valid until the next call.
func (t *target) candidates(s int, c *cell) []selection.Candidate {
	w := t.world
	slot := &w.slots[s]
	t.scratch = t.scratch[:0]
	for _, h := range slot.holders {
		m := &w.members[h.member]
		if !h.announces || !h.permitted || !t.fed[h.member] || m.over() && !selection.Carries(c.how, m.NVA, slot.prefix, c.installed) {
			continue
		}
		t.scratch = append(t.scratch, selection.Candidate{
			NVA: &m.NVA, Metric: h.metric, Belief: m.belief, Since: m.doc.Facts[slot.prefix].Since, Losses: m.doc.Losses[slot.prefix], Told: selection.Told(m.doc),
		})
	}
	return t.scratch
}

// classify says what is to be done about a prefix, as plan.Diff and answer.Weigh do.
func (t *target) classify(s int, c *cell, want route.NextHops) class {
	switch {
	case want.Empty():
		if c.managed {
			return gone
		}
		return atRest
	case c.unmanaged:
		return atRest
	case !c.managed:
		return missing
	case c.proper && c.installed == want:
		return atRest
	case answer.Dead(c.installed, want, func(hop netip.Addr) bool { return t.alive(s, c, hop) }):
		return dead
	}
	return better
}

// alive is answer.Alive.
func (t *target) alive(s int, c *cell, hop netip.Addr) bool {
	p := t.world.slots[s].prefix
	if c.how.NextHop(p) == hop {
		return slices.ContainsFunc(t.world.slots[s].holders, func(h holder) bool { return t.fed[h.member] && t.world.carries(h.member, p) })
	}
	n, known := t.world.byHop[hop]
	return known && t.world.carries(n, p)
}

// carries reports whether the NVA is up, or at least not known to be down, and announces p.
func (w *world) carries(n int, p netip.Prefix) bool {
	m := &w.members[n]
	_, announced := m.doc.Announces(p)
	return announced && m.belief.State.Usable()
}

// due returns when the target must be looked at although nothing new came; zero: never.
func (t *target) due() time.Time {
	return selection.Sooner(selection.Sooner(t.doneAt, t.fireAt), t.lookAt[t.counts.settle()])
}

// look does what is to be done now: end the write in flight, begin one, wait, or nothing.
func (t *target) look(now time.Time) error {
	if settle := t.counts.settle(); reached(t.lookAt[settle], now) {
		// The prefix that asked for it may have changed its mind since.
		asked := slices.ContainsFunc(t.cells, func(c cell) bool { return reached(c.want[settle].look, now) })
		t.refresh(now)
		t.note(asked)
	}
	if reached(t.doneAt, now) {
		t.end(now)
		t.note(false)
		t.news = true
	}
	if !t.doneAt.IsZero() || !t.news && !reached(t.fireAt, now) {
		return nil
	}
	t.begin(now)
	t.news = false
	if t.decided(now) {
		return nil
	}
	change := t.change()
	if change == (coalesce.Change{}) && t.twins == 0 {
		t.account, t.fireAt = coalesce.Account{}, time.Time{}
		return nil
	}
	fireAt, account := t.price.FireAt(t.account, change, now)
	if fireAt.Sub(now) <= coalesce.MinWait {
		return t.fire(now, change)
	}
	if t.fireAt.IsZero() {
		t.say(now, fmt.Sprintf("%s worth a write at %s", describe(change), fireAt.UTC().Format("15:04:05.000")))
	}
	t.account, t.fireAt = account, fireAt
	return nil
}

// change is what a plan would do now, but for what the guards leave out.
func (t *target) change() coalesce.Change {
	by := t.counts.now()
	rules := t.rules
	rules.Live = t.up()
	left := rules.Guard(plan.Sizes{
		Routes: len(t.table.Routes), Managed: t.counts.managed, Twins: t.twins, Added: by[missing], Removed: by[gone], Moved: by[better],
	}, false)
	if left.Removals != "" {
		by[gone] = 0
	}
	if left.Moves != "" {
		by[better] = 0
	}
	if left.Additions != "" {
		by[missing] = 0
	}
	return coalesce.Change{Dead: by[dead], Missing: by[missing], Better: by[better] + by[gone]}
}

// up counts the target's NVAs that are up.
func (t *target) up() int {
	n := 0
	for i := range t.world.members {
		if t.fed[i] && t.world.members[i].belief.State == liveness.Up {
			n++
		}
	}
	return n
}

// plan plans from scratch, as the function app does.
func (t *target) plan(now time.Time) (plan.Plan, coalesce.Change, selection.Result) {
	in := selection.Input{Domain: t.world.domain, Target: t.cfg, NVAs: t.world.docs, Installed: t.rules.Installed(t.table), Now: now}
	selected := selection.Select(in)
	rules := answer.Guarded(t.rules, in, selected.Live)
	if a := t.doc.Approval; a.Open() && a.Override {
		rules.Override = a.Plan
	}
	p := plan.Diff(t.table, answer.Wants(selected.Choices), rules)
	return p, answer.Weigh(in, selected.Live, p), selected
}

// fire begins a write. The plan must say what was followed event by event.
func (t *target) fire(now time.Time, followed coalesce.Change) error {
	p, weighed, _ := t.plan(now)
	if weighed != followed {
		return fault.New(fault.Bug, "replay of target %s at %s: the plan is %+v, what was followed says %+v", t.cfg.Name, now, weighed, followed)
	}
	t.send(now, p, followed)
	return nil
}

// send begins the write of a plan.
func (t *target) send(now time.Time, p plan.Plan, c coalesce.Change) {
	for _, name := range p.Names() {
		t.owned[strings.ToLower(name)] = true
	}
	t.account, t.fireAt = coalesce.Account{}, time.Time{}
	t.edit, t.doneAt = p.Edit, now.Add(t.write)
	t.report.write(now, t.doneAt, p, c)
}

// end applies the write in flight.
func (t *target) end(now time.Time) {
	t.begin(now)
	t.table = apply(t.table, t.edit)
	t.edit, t.doneAt = plan.Edit{}, time.Time{}
	t.install()
	t.refresh(now)
}

// apply returns the table as it is after the edit.
func apply(table plan.Table, edit plan.Edit) plan.Table {
	replaced := map[string]bool{}
	for _, r := range edit.Put {
		replaced[strings.ToLower(r.Name)] = true
	}
	for _, name := range edit.Delete {
		replaced[strings.ToLower(name)] = true
	}
	routes := slices.DeleteFunc(slices.Clone(table.Routes), func(r plan.Route) bool { return replaced[strings.ToLower(r.Name)] })
	table.Routes = append(routes, edit.Put...)
	return table
}

func (t *target) say(now time.Time, text string) {
	t.report.Timeline = append(t.report.Timeline, Moment{At: now, Text: text})
}

// finish completes the report.
func (t *target) finish() TargetReport {
	r := t.report
	r.Saved = r.Changes - len(r.Writes)
	p, _, selected := t.plan(t.clock)
	r.Managed, r.Routes = t.counts.managed, len(t.table.Routes)
	for _, b := range p.Blocked {
		r.Refused = append(r.Refused, fmt.Sprintf("%s: held by route %s, which is not Pointsman's", b.Prefix, b.Name))
	}
	for _, refused := range p.Refused {
		r.Refused = append(r.Refused, refused.Text)
	}
	for _, refused := range selected.Refused {
		r.Refused = append(r.Refused, refused.String())
	}
	return r
}
