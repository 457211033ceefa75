package sim

import (
	"cmp"
	"context"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

// strictAge reports whether invariant I2 must hold at every instant. Where Azure does not move the ETag for a PUT of unchanged content, a run
// that overslept its lease may write an old answer; it then finds that out itself (docs/write-protocol.md, the fence).
func (w *World) strictAge() bool { return w.habits.FenceMoves }

// document returns an NVA's document as it is in the store, or nil.
func (w *World) document(nva string) *state.NVA {
	return w.blobs[nvaFile(nva)].document()
}

// ours returns the next hops of the routes that Pointsman has put into a table.
func ours(routes []udr) map[netip.Prefix]netip.Addr {
	out := map[netip.Prefix]netip.Addr{}
	for _, r := range routes {
		if r.ours {
			out[r.Prefix] = r.NextHops.First() // the simulated operators choose primary-backup
		}
	}
	return out
}

func nextHop(address string) route.NextHops { return route.NextHopsOf(netip.MustParseAddr(address)) }

// others returns what is not Pointsman's, in order.
func others(routes []udr) []plan.Route {
	var out []plan.Route
	for _, r := range routes {
		if !r.ours {
			out = append(out, r.Route)
		}
	}
	return out
}

// witness is what one writer had read: the documents, by which every change of its write must be explained.
type witness struct {
	w      *World
	t      *table
	docs   map[string]*state.NVA
	told   map[string]sayings // of operators, behind those documents
	at     time.Time          // when the write was sent
	leaves bool               // the write takes a prefix off somebody who is dead, or does not announce it any more
}

// announces reports whether the documents hold p for the NVA, and the operator lets it through.
func (x witness) announces(n NVASetup, p netip.Prefix) bool {
	doc := x.docs[n.Name]
	if doc == nil || !n.allows(p) || !x.w.feeds(x.t, n.Name) {
		return false
	}
	_, ok := doc.Announces(p)
	return ok
}

// feeds reports whether the operator lets the NVA be a next hop in the table.
func (w *World) feeds(t *table, nva string) bool {
	i := slices.IndexFunc(w.setup.Tables, func(s TableSetup) bool { return s.Name == t.name })
	return i >= 0 && w.setup.Tables[i].fedBy(nva)
}

func (x witness) up(n NVASetup) bool {
	doc := x.docs[n.Name]
	return doc != nil && doc.Heard() && !doc.Silent() && !x.drains(n.Name) && !doc.Unfit() && len(x.accusers(n.Name)) == 0
}

// drains reports whether an NVA is to carry nothing: an operator says so, its agent, or Azure.
func (x witness) drains(nva string) bool { return x.told[nva].drained() || leaving(x.docs[nva]) }

// leaving reports whether the NVA itself says that it is to carry nothing.
func leaving(doc *state.NVA) bool {
	return doc != nil && (doc.Notice.Kind == event.Draining && doc.Notice.Version.Epoch == doc.Epoch || doc.Report.Drain != "")
}

// accusers are the NVAs whose agents are heard, whose own probes get out, and that cannot reach the NVA. One that restarts accuses nobody and is not accused.
func (x witness) accusers(nva string) (out []string) {
	restarts := func(doc *state.NVA) bool { return doc.Restarting() && !doc.Silent() }
	for _, n := range x.w.setup.NVAs {
		doc := x.docs[n.Name]
		if doc == nil || doc.Silent() || restarts(doc) || doc.Report.SelfTest != event.Passed || x.docs[nva] == nil || restarts(x.docs[nva]) {
			continue
		}
		if p, watched := doc.Report.Peer(nva); watched && !p.Reachable {
			out = append(out, n.Name)
		}
	}
	return out
}

// accused reports whether anybody is: then who is lost at once is more than who is silent.
func (x witness) accused() bool {
	return slices.ContainsFunc(x.w.setup.NVAs, func(n NVASetup) bool { return len(x.accusers(n.Name)) > 0 })
}

// frozen reports whether an NVA is one of more than half that fell silent within half a minute: those keep what they have.
func (x witness) frozen(nva string) bool {
	var last time.Time
	counts := func(doc *state.NVA) bool { return doc.Heard() && !x.drains(doc.Name) }
	for _, doc := range x.docs {
		if counts(doc) && doc.Silent() && doc.Since.After(last) {
			last = doc.Since
		}
	}
	lately := func(doc *state.NVA) bool { return counts(doc) && doc.Silent() && last.Sub(doc.Since) <= 30*time.Second }
	lost, living := 0, 0
	for _, doc := range x.docs {
		switch {
		case lately(doc):
			lost++
		case counts(doc) && !doc.Silent():
			living++
		}
	}
	doc := x.docs[nva]
	return lost > living && doc != nil && lately(doc)
}

// witness returns what those who had read these documents knew.
func (w *World) witness(t *table, documents map[string]*blob) witness {
	x := witness{w: w, t: t, docs: map[string]*state.NVA{}}
	for nva, b := range documents {
		x.docs[nva] = b.document()
		if s := saidOf(b); s != (sayings{}) {
			if x.told == nil {
				x.told = map[string]sayings{}
			}
			x.told[nva] = s
		}
	}
	return x
}

// checkWrite checks one write of a table at the instant at which it takes effect.
func (w *World) checkWrite(t *table, c *call, before, after content, edit plan.Edit, documents map[string]*blob) {
	if !slices.Equal(others(before.routes), others(after.routes)) || before.tags != after.tags {
		w.violate("I1", "table %s: what others have put there was %v %s and is now %v %s", t.name, others(before.routes), before.tags, others(after.routes), after.tags)
		return
	}
	if edit.Empty() {
		return
	}
	if limit := w.limitOf(t); len(after.routes) > limit && len(after.routes) > len(before.routes) {
		w.violate("I6", "table %s was written with %d routes and may hold %d", t.name, len(after.routes), limit)
	}
	x := w.witness(t, documents)
	x.at = c.sent
	was, is := ours(before.routes), ours(after.routes)
	for p, hop := range was {
		old := w.setup.hop(hop)
		x.leaves = x.leaves || is[p].IsValid() && is[p] != hop && (!x.announces(old, p) || !x.up(old))
	}
	for _, p := range sorted(was) {
		if to, stays := is[p]; !stays {
			x.checkRemoval(c, p)
			x.checkOverrideGone(p)
		} else if to != was[p] {
			x.checkMove(p, was[p], to)
		}
	}
	for _, p := range sorted(is) {
		if _, had := was[p]; !had {
			x.checkHop(p, is[p])
			x.checkOverride(p)
		}
		x.checkDrained(p, is[p])
	}
}

func (w *World) limitOf(t *table) int {
	most := 0
	for _, s := range append(w.setups, w.setup) {
		for _, ts := range s.Tables {
			if ts.Name == t.name {
				most = max(most, ts.limit())
			}
		}
	}
	return most
}

// checkRemoval: nobody announces what is withdrawn, neither in the documents nor in truth (I4, I7).
func (x witness) checkRemoval(c *call, p netip.Prefix) {
	if via := x.w.setup.via(p); x.w.edited || via == viaOverride || via == viaRouteServer {
		return
	}
	for _, n := range x.w.setup.NVAs {
		if x.announces(n, p) {
			x.w.violate("I4", "table %s: the route for %s was removed, but the document of %s announces it", x.t.name, p, n.Name)
		}
		if since, known := x.w.nva(n.Name).known[p]; known && since.Before(c.began) && n.allows(p) && x.w.feeds(x.t, n.Name) {
			x.w.violate("I4", "table %s: the route for %s was removed, but %s has announced it all the time since %v and never withdrawn it", x.t.name, p, n.Name, since.Sub(start()))
		}
	}
}

// checkHop: a route leads to somebody who announces its prefix (I7: nothing is invented).
func (x witness) checkHop(p netip.Prefix, hop netip.Addr) {
	if n := x.w.setup.hop(hop); !x.w.edited && !x.announces(n, p) {
		x.w.violate("I7", "table %s: %s was sent to %s, who does not announce it", x.t.name, p, x.w.via(hop))
	}
}

// checkDrained: a write leaves nothing on an NVA that is to carry nothing while one that is up announces it too, and brings nothing there.
func (x witness) checkDrained(p netip.Prefix, hop netip.Addr) {
	if n := x.w.setup.hop(hop); !x.w.edited && x.drains(n.Name) && x.anyUp(p) {
		x.w.violate("drain", "table %s: %s goes to %s after a write, which is to carry nothing, and another one that is up announces it", x.t.name, p, n.Name)
	}
}

// mayForward reports whether an NVA is not known to be dead, nor suspected.
func (x witness) mayForward(n NVASetup) bool {
	return x.up(n) || len(x.accusers(n.Name)) == 0 && !x.docs[n.Name].Unfit() && (x.w.setup.Hold || x.frozen(n.Name))
}

// anyUp reports whether an NVA that is up announces p.
func (x witness) anyUp(p netip.Prefix) bool {
	return slices.ContainsFunc(x.w.setup.NVAs, func(n NVASetup) bool { return x.announces(n, p) && x.up(n) })
}

// checkMove: fast away, slow back, and nothing moves onto somebody doubtful or away from those that more than half fell silent with (I4).
func (x witness) checkMove(p netip.Prefix, from, to netip.Addr) {
	if x.w.edited || x.t.foreign > 0 {
		return
	}
	x.checkHop(p, to)
	old, next := x.w.setup.hop(from), x.w.setup.hop(to)
	if !x.announces(old, p) || !x.announces(next, p) {
		return
	}
	draining := x.drains(old.Name) || x.docs[old.Name].Unfit()
	switch {
	case draining:
	case !x.accused() && x.frozen(old.Name) && x.preferred(p, old, next) < 0: // a better one that is up takes it all the same
		x.w.violate("I4", "table %s: %s was moved from %s to %s although more than half of the NVAs fell silent at once", x.t.name, p, old.Name, next.Name)
	case !x.up(next) && (x.mayForward(old) || x.anyUp(p)):
		x.w.violate("I4", "table %s: %s was moved from %s onto %s, which is not up", x.t.name, p, old.Name, next.Name)
	case x.up(old) && x.at.Before(x.upSince(p, next).Add(x.w.setup.HoldDown)):
		x.w.violate("hold-down", "table %s: %s was moved from %s, which works, to %s, which is up, or announces it, since %v only", x.t.name, p, old.Name, next.Name,
			x.at.Sub(x.upSince(p, next)).Round(time.Millisecond))
	case x.leaves && x.young(p, old): // the write is made anyway, so what came back too recently goes too
	case x.up(old) && x.preferred(p, old, next) < 0:
		x.w.violate("I4", "table %s: %s was moved from %s, which works, to %s, which is worse", x.t.name, p, old.Name, next.Name)
	}
}

// upSince is when the later of two began: the NVA works, and it announces p.
func (x witness) upSince(p netip.Prefix, n NVASetup) time.Time {
	doc := x.docs[n.Name]
	if f := doc.Facts[p]; f.Since.After(doc.Since) {
		return f.Since
	}
	return doc.Since
}

// young reports whether the NVA has announced p again too recently, or too often, to be trusted with it.
func (x witness) young(p netip.Prefix, n NVASetup) bool {
	doc, wait := x.docs[n.Name], x.w.setup.HoldDown
	since := doc.Facts[p].Since
	return !since.IsZero() && x.at.Before(since.Add(wait+min(10*time.Second, wait/3))) || x.w.setup.Damping && len(doc.Losses[p]) > 1
}

// rate is how many calls a target had since an instant.
type rate struct {
	since time.Time
	calls int
}

// checkRate: no target is looked at over and over. Most calls that it can have reason for at once are one for each event of a burst.
func (w *World) checkRate(target string) {
	const span, most = 10 * time.Second, 100
	r := w.rates[target]
	if w.now.Sub(r.since) > span {
		r = rate{since: w.now}
	}
	if r.calls++; r.calls > most {
		w.violate("calls", "%s is reconciled for the %dth time within %v", target, r.calls, span)
	}
	if w.rates == nil {
		w.rates = map[string]rate{}
	}
	w.rates[target] = r
}

// checkRest: when faults have stopped and time has passed, documents and tables are what the machines say (I3).
func (w *World) checkRest() {
	documents := map[string]*blob{}
	for _, n := range w.nvas {
		documents[n.name] = w.blobs[nvaFile(n.name)]
		n.checkDocument(w.document(n.name))
	}
	w.checkOrders()
	w.checkHubs()
	for _, t := range w.tables {
		if w.violation == nil {
			w.checkTable(t, w.witness(t, documents))
		}
	}
}

// checkKept: what the processes keep in memory is what is in the store: nobody has changed a document that is shared.
func (w *World) checkKept() {
	for _, i := range w.functions.running {
		for _, n := range w.nvas {
			doc, _, err := i.store.NVA(context.Background(), domain, n.name)
			if err != nil {
				panic("sim: " + err.Error())
			}
			if saved := w.document(n.name); doc.Heard() && !reflect.DeepEqual(saved, doc) {
				w.violate("kept", "the document of %s is not kept as it was saved: found %+v, want %+v", n.name, doc, saved)
			}
		}
	}
}

func nvaFile(nva string) string { return "nvas/" + domain + "/" + nva + ".json" }

// checkDocument compares an NVA with what is known of it.
func (n *nva) checkDocument(doc *state.NVA) {
	w := n.w
	switch {
	case n.unguarded(doc):
		return
	case n.agent == nil && doc != nil && doc.Heard() && !doc.Silent() && !leaving(doc) && !doc.Unfit():
		w.violate("I3", "%s is dead, and its document says that it is up", n.name)
	case n.agent == nil:
		return
	case doc == nil || !doc.Heard():
		w.violate("I3", "%s lives, and was never heard", n.name)
	case doc.Silent() || leaving(doc):
		w.violate("I3", "%s lives, and its document says silent %v, draining %v", n.name, doc.Silent(), leaving(doc))
	}
	if w.violation != nil {
		return
	}
	if missing, differs := doc.Gap(); missing > 0 || differs {
		w.violate("I3", "the document of %s has a gap: %d events missing, RIB differs: %v", n.name, missing, differs)
	}
	if doc.Outbox {
		w.violate("I3", "the document of %s still asks for wakes to be sent", n.name)
	}
	rib := doc.RIB()
	same := len(rib) == len(n.routes)
	for _, e := range rib {
		metric, has := n.routes[e.Prefix]
		same = same && has && metric == e.Attrs.Metric
	}
	if !same {
		w.violate("I3", "%s has the routes %v, its document says %v", n.name, n.routes, rib)
	}
}

// checkTable compares a table with the machines.
func (w *World) checkTable(t *table, x witness) {
	setup := w.targetSetup(t)
	if setup.Name == "" {
		return // no longer a target
	}
	routes, written := w.shown(t)
	have, taken := ours(routes), map[netip.Prefix]bool{}
	for _, r := range others(routes) {
		taken[r.Prefix] = r.Prefix.IsValid()
	}
	var missing, extra []netip.Prefix
	wanted := x.wanted()
	for _, p := range wanted {
		hop, there := have[p]
		must, either := x.belongs(p)
		switch {
		case !must && (either || !there):
		case !must:
			w.violate("override", "table %s: %s goes to %s at rest, and no Route Server leads to an NVA that does not work", t.name, p, w.via(hop))
		case !there && !taken[p]:
			missing = append(missing, p)
		case there && !x.right(p, hop):
			w.violate("I3", "table %s: %s goes to %s at rest, which is not the best of those who announce it", t.name, p, w.via(hop))
		}
	}
	for _, p := range sorted(have) {
		if _, found := slices.BinarySearchFunc(wanted, p, route.Compare); !found {
			extra = append(extra, p)
		}
	}
	guarded := len(extra) >= w.setup.minRemoved() && 2*len(extra) > len(have)
	if len(extra) > 0 && !guarded {
		w.violate("I3", "table %s: nobody announces %v any more, and the routes are still there at rest", t.name, extra)
	}
	after := len(routes) + len(missing)
	if len(missing) > 0 && after <= setup.limit() {
		w.violate("I3", "table %s: there is no route for %v at rest", t.name, missing)
	}
	if t.failed && written {
		w.violate("I3", "table %s: its last operation failed, and nobody has written it again", t.name)
	}
	w.checkOwned(t)
}

// checkOwned: every route that Pointsman has written is known to be its own.
func (w *World) checkOwned(t *table) {
	doc := w.targetDocument(t.name)
	if doc == nil {
		return
	}
	for _, r := range t.routes {
		if r.ours && !doc.Owns(r.Name) {
			w.violate("I3", "table %s: route %s was written by Pointsman, and the target's document has forgotten it: nobody will ever change it again", t.name, r.Name)
		}
	}
}

func (w *World) targetSetup(t *table) TableSetup {
	for _, s := range w.setup.Tables {
		if s.Name == t.name {
			return s
		}
	}
	return TableSetup{}
}

// wanted returns the prefixes that somebody announces and may.
func (x witness) wanted() []netip.Prefix {
	all := map[netip.Prefix]bool{}
	for _, n := range x.w.setup.NVAs {
		if doc := x.docs[n.Name]; doc != nil {
			for _, e := range doc.RIB() {
				if x.announces(n, e.Prefix) {
					all[e.Prefix] = true
				}
			}
		}
	}
	return sorted(all)
}

// right reports whether hop is a next hop that p may rest on:
//
//	some announcer lives and is not drained:
//	    silence: down                     the best such one
//	    silence: hold                     the best such one, or a better silent one that has it already; so too where more than half fell silent at once,
//	                                      but not where a living one watches the silent one
//	none such, but one that is drained    one that lives, or a silent one that has it already, as above
//	none lives                            any announcer (the one that had it)
//
// Best: preference, then metric, then name.
func (x witness) right(p netip.Prefix, hop netip.Addr) bool {
	var list []NVASetup
	for _, n := range x.w.setup.NVAs {
		if x.announces(n, p) {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b NVASetup) int { return x.preferred(p, a, b) })
	lives := func(n NVASetup) bool {
		return x.w.nva(n.Name).agent != nil || x.w.nva(n.Name).unguarded(x.docs[n.Name])
	}
	best := slices.IndexFunc(list, func(n NVASetup) bool { return !x.drains(n.Name) && lives(n) })
	at := slices.IndexFunc(list, func(n NVASetup) bool { return n.Hop == hop })
	if x.haunted() {
		return at >= 0
	}
	switch {
	case at < 0:
		return false
	case best < 0 && (lives(list[at]) || !slices.ContainsFunc(list, lives)), at == best:
		return true
	}
	return (x.w.setup.Hold && !x.w.setup.Witness || x.frozen(list[at].Name)) && (best < 0 || at < best) && x.docs[list[at].Name].Silent() && !x.drains(list[at].Name)
}

// haunted reports whether an NVA is dead and nobody will ever notice where the agents watch each other: what it said last accuses others for ever, and they accuse it, who counts
// as alive. See docs/correctness.md, What is not checked.
func (x witness) haunted() bool {
	return x.w.setup.Witness && slices.ContainsFunc(x.w.setup.NVAs, func(n NVASetup) bool { return x.w.nva(n.Name).unguarded(x.docs[n.Name]) })
}

// preferred orders two NVAs that announce p, the better one first.
func (x witness) preferred(p netip.Prefix, a, b NVASetup) int {
	metric := func(n NVASetup) uint32 { a, _ := x.docs[n.Name].Announces(p); return a.Metric }
	return cmp.Or(cmp.Compare(b.Preference, a.Preference), cmp.Compare(metric(a), metric(b)), strings.Compare(a.Name, b.Name))
}

func sorted[V any](m map[netip.Prefix]V) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, route.Compare)
	return out
}
