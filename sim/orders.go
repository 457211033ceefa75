package sim

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// Operators' orders. They go by the same queue as the agents' events, and are as late, as often and as disorderly. The world keeps a chain of its own of what was said: every
// blob knows the newest orders that were merged into it or into the ones that it took the place of. So what a run knew is what stands behind the blob that it read last,
// whatever the document in it says by now.

// word is one order as the broker accepted it.
type word struct {
	order.Order
	at      time.Time
	dead    bool     // a copy of it is a dead letter
	changes []string // approve and override: what the operator saw that would be written
	blind   bool     // the operator did not see them: a plan that a guard has refused is told by its hash alone
}

// newer returns the word that holds: the one that was accepted later, of two at one instant the one with the higher id.
func newer(a, b *word) *word {
	if a == nil || b != nil && cmp.Or(b.at.Compare(a.at), cmp.Compare(b.ID, a.ID)) > 0 {
		return b
	}
	return a
}

// sayings are what operators have said of one NVA or target.
type sayings struct {
	hold *word // drain and resume, or pause and unpause
	plan *word // approve and override
}

func (s sayings) and(o *word) sayings {
	if o.Kind.OfPlan() {
		s.plan = newer(s.plan, o)
	} else {
		s.hold = newer(s.hold, o)
	}
	return s
}

func (s sayings) drained() bool { return s.hold != nil && s.hold.Kind == order.Drain }
func (s sayings) paused() bool  { return s.hold != nil && s.hold.Kind == order.Pause }

// saidOf returns what stands behind a document.
func saidOf(b *blob) sayings {
	if b == nil {
		return sayings{}
	}
	return b.said
}

// hears adds to what stands behind a document the orders about it that the call has in its hands: whatever it writes there holds them.
func (c *call) hears(name string, s sayings) sayings {
	for _, d := range c.messages {
		if d.word != nil && fileOf(d.word.Order) == name {
			s = s.and(d.word)
		}
	}
	return s
}

func fileOf(o order.Order) string {
	if o.Kind.OfNVA() {
		return nvaFile(o.NVA)
	}
	return targetFile(o.Target)
}

func targetFile(target string) string { return "targets/" + domain + "/" + target + ".json" }

// How a target goes by the domain file.
const (
	applyApprove = "approve"
	applyObserve = "observe"
)

// checkSend checks one request that could change a table, when it is sent, against what the run knew then (docs/configuration.md, Who decides):
//
//	observed, or paused behind the document that the run read last    none is sent, not even one with the same content
//	paused behind the document as it is then                          none that changes anything: a run looks before it writes
//	approve                                                           one that changes nothing, or what the operator saw whose approval stands there, once
func (t *table) checkSend(c *call, before, after content, edit plan.Edit) {
	w, apply, said := t.w, t.w.targetSetup(t).Apply, saidOf(c.target)
	switch {
	case apply == applyObserve:
		w.violate("observe", "table %s is only observed, and a write was sent", t.name)
	case said.paused():
		w.violate("pause", "table %s was paused at %v, the run has read that, and it sent a write", t.name, said.hold.at.Sub(start()))
	case !edit.Empty() && saidOf(w.blobs[c.file]).paused():
		w.violate("pause", "table %s was paused at %v, and a run that has not looked since sent a write", t.name, saidOf(w.blobs[c.file]).hold.at.Sub(start()))
	case edit.Empty() || apply != applyApprove:
	case said.plan == nil:
		w.violate("approve", "table %s: nobody has approved anything, and a write was sent", t.name)
	case !said.plan.blind && !slices.Equal(said.plan.changes, changed(before.routes, after.routes)):
		w.violate("approve", "table %s: the operator has approved %v, and what was sent changes %v", t.name, said.plan.changes, changed(before.routes, after.routes))
	case c.used != nil && c.used.ID == said.plan.ID:
		w.violate("approve", "table %s: one run has written twice by one approval", t.name)
	case w.spent[said.plan.ID] != nil && c.target.n >= w.spent[said.plan.ID].n:
		w.violate("approve", "table %s: a plan was written by an approval that was used up", t.name)
	}
}

// covered notes that a write by an approval is known to be done.
func (c *call) covered(edit plan.Edit) {
	if c.w.targetSetup(c.table).Apply == applyApprove && !edit.Empty() {
		c.used, c.saved = c.target.said.plan, nil
	}
}

// saves notes that the call has written a document, or has failed to where b is nil.
func (c *call) saves(name string, b *blob) {
	if name != c.file {
		return
	}
	c.saved = b
	if b != nil {
		c.target = b
	}
}

// spend notes which document says that an approval is used up: the one that the run that used it has saved before it ended in order.
func (c *call) spend() {
	if c.used == nil || c.saved == nil || c.crashed || c.err != nil {
		return
	}
	if c.w.spent == nil {
		c.w.spent = map[string]*blob{}
	}
	c.w.spent[c.used.ID] = c.saved
}

// say sends an order; one that the bus does not take is sent again a little later.
func (w *World) say(o word) {
	if w.now.Before(w.troubles.bus) {
		w.after(5*time.Second, func() { w.say(o) })
		return
	}
	w.tell("operator", "%s", inOrder(o.Order))
	w.words = append(w.words, &o)
	w.events.send(&delivery{id: o.MessageID(), word: &o}, time.Time{})
	if ask := (asker{luck: w.luck, id: hash(o.ID)}); ask.chance(10 * w.habits.Faults) {
		w.after(time.Duration(1+ask.pick(30))*time.Second, func() { w.again(&o) })
	}
}

// again sends an order that was sent before: the same id, accepted once more.
func (w *World) again(o *word) {
	twin := *o
	w.tell("operator", "says again: %s", inOrder(o.Order))
	w.words = append(w.words, &twin)
	w.events.send(&delivery{id: twin.MessageID(), word: &twin}, time.Time{})
}

// deliverAgain has the bus deliver an order once more that it has delivered before: accepted when it was.
func (w *World) deliverAgain(kind, of string) error {
	for _, d := range slices.Backward(w.events.history) {
		if d.word != nil && d.word.Kind.String() == kind && d.word.Subject() == of {
			twin := &delivery{queue: d.queue, id: d.id, word: d.word, sequence: d.sequence, enqueued: d.enqueued, count: 1}
			w.tell("bus", "delivers %s again", inOrder(d.word.Order))
			twin.becomeReady()
			return nil
		}
	}
	return errWords
}

// newOrder makes an order up that nobody has given yet.
func (w *World) newOrder(kind order.Kind, of string) word {
	w.orders++
	o := order.Order{Kind: kind, Domain: domain, ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", w.orders), Who: "jo"}
	if kind.OfNVA() {
		o.NVA = of
	} else {
		o.Target = of
	}
	return word{Order: o}
}

// approve gives an order about the plan that the target shows now; there may be none. wait is how long the operator thinks it over.
func (w *World) approve(kind order.Kind, target string, wait time.Duration) {
	doc := w.targetDocument(target)
	if doc == nil {
		return
	}
	o := w.newOrder(kind, target)
	_, refused, isRefused := strings.Cut(doc.Result.Message, "--override --plan ")
	switch {
	case doc.Proposal != nil:
		o.Plan, o.changes = doc.Proposal.Plan, proposed(doc.Proposal)
	case kind == order.Override && isRefused:
		o.Plan, o.blind = refused[:16], true
	default:
		return
	}
	w.after(wait, func() { w.say(o) })
}

// targetDocument returns a target's document as it is in the store, or nil.
func (w *World) targetDocument(target string) *state.Target {
	b := w.blobs[targetFile(target)]
	if b == nil {
		return nil
	}
	doc, err := w.functions.codecs.Target.Decode(b.data)
	if err != nil {
		panic("sim: " + err.Error())
	}
	return doc
}

// proposed lists what a proposal would change, one line for each prefix.
func proposed(p *state.Proposal) []string {
	var out []string
	for _, c := range slices.Concat(p.Added, p.Changed, p.Removed) {
		out = append(out, changeOf(c.Prefix.String(), c.From, c.To))
	}
	slices.Sort(out)
	return out
}

// changed lists what a write changes, likewise.
func changed(before, after []udr) []string {
	var out []string
	was, is := ours(before), ours(after)
	all := maps.Clone(was)
	maps.Copy(all, is)
	for p := range all {
		if was[p] != is[p] {
			out = append(out, changeOf(p.String(), hopText(was[p]), hopText(is[p])))
		}
	}
	slices.Sort(out)
	return out
}

func hopText(a netip.Addr) string {
	if !a.IsValid() {
		return ""
	}
	return a.String()
}

func changeOf(prefix, from, to string) string {
	return prefix + " from " + cmp.Or(from, "nothing") + " to " + cmp.Or(to, "nothing")
}

// inOrder tells an order in a few words.
func inOrder(o order.Order) string {
	text := o.Kind.String() + " " + o.Subject()
	if o.Plan != "" {
		text += " plan " + o.Plan
	}
	return text
}

// shown returns the routes of a table as they are or, where a plan is only shown or waits, as they would be if it were written; written says which.
func (w *World) shown(t *table) (routes []udr, written bool) {
	withheld := w.targetSetup(t).Apply != "" || w.spoken(t.file).paused()
	if !withheld {
		return t.routes, true
	}
	doc := w.targetDocument(t.name)
	if doc == nil || doc.Proposal == nil {
		return t.routes, false
	}
	var edit plan.Edit
	for _, c := range slices.Concat(doc.Proposal.Added, doc.Proposal.Changed) {
		hop, err := netip.ParseAddr(c.To)
		if err != nil {
			w.violate("I3", "table %s: the plan that is shown leads %s to %q", t.name, c.Prefix, c.To)
			return t.routes, false
		}
		edit.Put = append(edit.Put, plan.Route{Name: nameOf(t.routes, c.Prefix), Prefix: c.Prefix, NextHops: route.NextHopsOf(hop)})
	}
	for _, c := range doc.Proposal.Removed {
		edit.Delete = append(edit.Delete, nameOf(t.routes, c.Prefix))
	}
	return applied(t.routes, edit), false
}

// nameOf returns the name of our route for a prefix; one of its own where there is none.
func nameOf(routes []udr, p netip.Prefix) string {
	for _, r := range routes {
		if r.ours && r.Prefix == p {
			return r.Name
		}
	}
	return "to be added: " + p.String()
}

// checkOrders: at rest all that operators have said stands in the documents.
func (w *World) checkOrders() {
	if len(w.words) == 0 {
		return
	}
	for _, n := range w.nvas {
		if doc, want := w.document(n.name), w.spoken(nvaFile(n.name)).hold; want != nil && !w.lostWord() && (doc == nil || doc.Order.ID != want.ID || doc.Order.Drain != (want.Kind == order.Drain)) {
			w.violate("orders", "%s was said at %v, and the document of %s says %+v", inOrder(want.Order), want.at.Sub(start()), n.name, doc)
		}
	}
	for _, t := range w.tables {
		said := w.spoken(t.file)
		if said == (sayings{}) || w.lostWord() {
			continue
		}
		doc := w.targetDocument(t.name)
		switch {
		case doc == nil:
			w.violate("orders", "table %s: there were orders, and there is no document", t.name)
		case said.hold != nil && (doc.Pause.ID != said.hold.ID || doc.Pause.On != said.paused()):
			w.violate("orders", "table %s: %s was said at %v, and the document says %+v", t.name, inOrder(said.hold.Order), said.hold.at.Sub(start()), doc.Pause)
		case said.plan != nil && (doc.Approval.ID != said.plan.ID || doc.Approval.Plan != said.plan.Plan):
			w.violate("orders", "table %s: %s was said at %v, and the document says %+v", t.name, inOrder(said.plan.Order), said.plan.at.Sub(start()), doc.Approval)
		case !said.paused() && doc.Approval.Open():
			w.violate("orders", "table %s: an approval is open at rest: %+v", t.name, doc.Approval)
		}
	}
}

// lostWord reports whether an order is a dead letter: then nobody knows which ones were merged.
func (w *World) lostWord() bool {
	return slices.ContainsFunc(w.words, func(o *word) bool { return o.dead })
}

// settleOrders is what operators do when all trouble is over: no target stays paused, and what waits for an approval gets it.
func (w *World) settleOrders() {
	if slices.ContainsFunc(w.tables, func(t *table) bool { return w.spoken(t.file).paused() }) {
		w.checkRest() // while it is paused it is shown what would be right
	}
	for _, t := range w.tables {
		if w.targetSetup(t).Name != "" && w.spoken(t.file).paused() {
			w.say(w.newOrder(order.Unpause, t.name))
			w.advance(10 * time.Second)
		}
	}
	for range 10 {
		waits := false
		for _, t := range w.tables {
			if w.violation != nil || w.targetSetup(t).Apply != applyApprove {
				continue
			}
			if doc := w.targetDocument(t.name); doc != nil && doc.Proposal != nil {
				w.approve(order.Approve, t.name, 0)
				waits = true
			}
		}
		if !waits {
			return
		}
		w.advance(10 * time.Second)
	}
	w.violate("I3", "after ten approvals there still is a plan that waits for one")
}

// spoken is all that operators have said about an NVA or target, as far as the bus has taken it.
func (w *World) spoken(file string) (s sayings) {
	for _, o := range w.words {
		if fileOf(o.Order) == file {
			s = s.and(o)
		}
	}
	return s
}
