package sim

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/state"
)

// deed is something that somebody does to the world at a time.
type deed struct {
	after time.Duration
	name  string
	do    func(w *World)
}

// history is one life of a small world, decided by a seed.
type history struct {
	seed   uint64
	setup  Setup
	habits Habits
	lasts  time.Duration // how long deeds are done; then the world comes to rest
	swept  bool          // the timer fires in the midst of trouble
	deeds  []deed
}

// newHistory makes up a world and what will be done to it. Most histories are of one deed, and one in 32 is long, for what only shows when much has happened: for the same work
// longer ones find no more (docs/correctness.md), and see fewer worlds.
func newHistory(seed uint64) *history {
	ask := &asker{luck: &luck{seed: seed}, id: hash("history")}
	h := &history{seed: seed}
	h.setup = someSetup(ask)
	h.habits = Habits{
		Snapshot: time.Minute, Faults: [...]int{0, 2, 5, 10, 20}[ask.pick(5)], FenceMoves: ask.pick(4) > 0, VisibleLate: ask.pick(2) == 0, Dedup: ask.pick(4) > 0,
		MaxBytes: [...]int{0, 1250}[ask.pick(2)], Instances: 1 + ask.pick(2), Text: ask.pick(256) == 0,
	}
	h.swept = ask.pick(3) == 0
	deeds := 1
	h.lasts = 10 * time.Second
	if ask.pick(32) == 0 {
		deeds, h.lasts = 5+ask.pick(12), time.Minute
	}
	for range deeds {
		h.deeds = append(h.deeds, someDeed(ask, h.setup, h.lasts))
	}
	slices.SortStableFunc(h.deeds, func(a, b deed) int { return int(a.after - b.after) })
	return h
}

// someSetup returns one of a few dozen small domains, so that parsed domain files can be kept between histories.
func someSetup(ask *asker) Setup {
	s := Setup{
		Hold: ask.pick(3) == 0, HoldDown: [...]time.Duration{0, 12 * time.Second}[ask.pick(2)],
		WritePrice: [...]float64{0, 5}[ask.pick(2)], WriteCap: 5 * time.Second, Damping: ask.pick(2) == 0, Witness: ask.pick(2) == 0,
	}
	kind := ask.pick(10)
	if kind == 9 && ask.pick(2) == 0 {
		kind = 0
	}
	for i := range [...]int{2, 2, 2, 2, 2, 3, 2, 3, 2, 3}[kind] {
		s.NVAs = append(s.NVAs, someNVA(i))
	}
	s.Tables = []TableSetup{{Name: "t1", Limit: [...]int{1000, 8}[ask.pick(4)/3]}}
	switch kind {
	case 2, 3:
		s.Tables = append(s.Tables, TableSetup{Name: "t2", NVAs: []string{"b"}})
	case 4, 5: // few of these differ in more, so that their domain files are soon all known
		s.Tables, s.Damping = []TableSetup{{Name: "t1", Apply: applyApprove}}, false
	case 6:
		s.Tables, s.Damping = []TableSetup{{Name: "t1"}, {Name: "t2", Apply: applyObserve}}, false
	case 8, 9:
		s.Tables, s.Damping, s.WritePrice = []TableSetup{{Name: "t1"}}, false, 0
		s.Hubs, s.Ranges = []HubSetup{someHub()}, someRanges()
	}
	return s
}

// someHub is a Route Server with which the first two NVAs peer.
func someHub() HubSetup {
	return HubSetup{Name: "rs", Peers: []PeerSetup{{"a", 65001}, {"b", 65002}}}
}

// someRanges send three of the eight prefixes by way of the Route Server with the table as an override, and one each by it alone and by both.
func someRanges() []RangeSetup {
	return []RangeSetup{
		{netip.MustParsePrefix("10.0.0.0/14"), viaOverride}, {netip.MustParsePrefix("10.4.0.0/16"), viaRouteServer}, {netip.MustParsePrefix("10.5.0.0/16"), viaBoth},
	}
}

func someNVA(i int) NVASetup {
	return NVASetup{
		Name: string(rune('a' + i)), Hop: netip.AddrFrom4([4]byte{10, 0, 0, byte(4 + i)}), Preference: 200 - 50*(i%2),
		Allow: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("0.0.0.0/0")},
	}
}

// somePrefix returns one of eight.
func somePrefix(ask *asker) netip.Prefix {
	if i := ask.pick(8); i > 0 {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i), 0, 0}), 24)
	}
	return netip.MustParsePrefix("0.0.0.0/0")
}

// someDeed makes up one thing that is done.
func someDeed(ask *asker, s Setup, lasts time.Duration) deed {
	after := time.Duration(ask.pick(int(lasts/time.Millisecond))) * time.Millisecond
	name := s.NVAs[ask.pick(len(s.NVAs))].Name
	p, q := somePrefix(ask), somePrefix(ask)
	metric := uint32(10 * (1 + ask.pick(3)))
	span := time.Duration(1+ask.pick(40)) * time.Second
	t := s.Tables[ask.pick(len(s.Tables))].Name
	on := func(what string, do func(n *nva)) deed {
		return deed{after, name + " " + what, func(w *World) { do(w.nva(name)) }}
	}
	if s.Tables[0].Apply == applyApprove && ask.pick(2) == 0 {
		return approving(ask, after, s.Tables[0].Name, span)
	}
	if len(s.Hubs) > 0 && ask.pick(4) == 0 {
		return hubDeed(ask, after, s, name, span)
	}
	switch ask.pick(42) {
	case 36, 37, 38:
		return ordering(after, name, order.Drain, order.Resume, metric < 30, span)
	case 39, 40, 41:
		return ordering(after, t, order.Pause, order.Unpause, metric < 30, span)
	case 30, 31:
		return on(fmt.Sprintf("loses its data plane for %v", span), func(n *nva) {
			n.darken(true)
			n.w.after(span, func() { n.darken(false) })
		})
	case 32, 33:
		other := s.NVAs[ask.pick(len(s.NVAs))].Name
		return on(fmt.Sprintf("does not hear %s for %v", other, span), func(n *nva) {
			n.w.cutPath(other, n.name, true)
			n.w.after(span, func() { n.w.cutPath(other, n.name, false) })
		})
	case 34:
		return on("fails its own check", func(n *nva) {
			n.fail("its own check fails")
			n.w.after(span, func() { n.fail("") })
		})
	case 35:
		return on("is announced to reboot", func(n *nva) {
			n.maintain("Azure will reboot it")
			n.w.after(span, func() { n.maintain("") })
		})
	case 0, 1, 2, 3, 4:
		return on(fmt.Sprintf("announces %s", p), func(n *nva) {
			if n.on {
				n.announce(p, metric)
				n.announce(q, metric)
			}
		})
	case 5, 6, 7, 8:
		return on(fmt.Sprintf("withdraws %s", p), func(n *nva) { n.withdraw(p) })
	case 9:
		return on(fmt.Sprintf("flaps %s", p), func(n *nva) { n.flap(p, span/20) })
	case 10, 11:
		return on("dies", (*nva).die)
	case 12, 13:
		return on("dies and returns", func(n *nva) { n.reboot(span, p, q) })
	case 14:
		return on("restarts its agent", func(n *nva) { n.restart(span / 4) })
	case 15, 16:
		return on("kills its agent", func(n *nva) { n.crash(span/4, metric == 10) })
	case 17:
		return on("drains", func(n *nva) { n.drain(span) })
	case 18, 19:
		return on(fmt.Sprintf("is cut off for %v", span), func(n *nva) { n.isolate(2 * span) })
	case 20:
		return deed{after, fmt.Sprintf("bus down %v", span), func(w *World) { w.busDown(2 * span) }}
	case 21, 22:
		return deed{after, "third party", func(w *World) { w.table(t).foreignEdit(p, int(metric)/10) }}
	case 23:
		return deed{after, "operator edits the domain file", func(w *World) { w.editDomain(name) }}
	case 24:
		return deed{after, "operator uploads a broken domain file", func(w *World) { w.breakDomain(span) }}
	case 25:
		return deed{after, fmt.Sprintf("ARM throttles for %v", span), func(w *World) { w.throttle(span) }}
	case 26:
		return deed{after, fmt.Sprintf("ARM is down for %v", span), func(w *World) { w.table(t).outage(span) }}
	case 27:
		return deed{after, fmt.Sprintf("store down for %v", span), func(w *World) { w.storeDown(span) }}
	case 28:
		return on("is cloned", func(n *nva) {
			n.startClone(p)
			n.w.after(span, n.stopClone)
		})
	default:
		return deed{after, "the function app restarts", (*World).restartFunctions}
	}
}

// ordering is an operator's order and, where that one does not forget, the order that takes it back.
func ordering(after time.Duration, of string, kind, back order.Kind, mindful bool, span time.Duration) deed {
	return deed{after, "operator: " + kind.String() + " " + of, func(w *World) {
		w.say(w.newOrder(kind, of))
		if mindful {
			w.after(span, func() { w.say(w.newOrder(back, of)) })
		}
	}}
}

// hubDeed is something that is done about a Route Server.
func hubDeed(ask *asker, after time.Duration, s Setup, name string, span time.Duration) deed {
	server, change := s.Hubs[0].Name, ask.pick(3)
	on := func(what string, do func(h *hub)) deed {
		return deed{after, what, func(w *World) { do(w.hub(server)) }}
	}
	switch ask.pick(9) {
	case 0:
		return on("third party makes a peer", func(h *hub) { h.theirs("by-hand", netip.MustParseAddr("10.0.0.99"), 65099) })
	case 1:
		return on("third party makes a peer that looks like one of ours", func(h *hub) { h.theirs(managed("c"), netip.MustParseAddr("10.0.0.98"), 65098) })
	case 2:
		return on("third party makes the peer of "+name, func(h *hub) { h.theirs("by-hand-too", h.w.setup.nva(name).Hop, 65001) })
	case 3:
		return on("third party removes the peer of "+name, func(h *hub) { h.drops(managed(name)) })
	case 4:
		return on("operator changes the peers", func(h *hub) { h.w.editPeers(change) })
	case 5:
		return on(fmt.Sprintf("Route Server is down for %v", span), func(h *hub) { h.outage(span) })
	case 6:
		return ordering(after, server, order.Pause, order.Unpause, true, span)
	default:
		return deed{after, name + " stops its BGP", func(w *World) {
			w.nva(name).stopBGP()
			w.after(span, w.nva(name).startBGP)
		}}
	}
}

// editPeers is a change of the domain file: the last peer is taken out, has another AS number, or all are as they were in the beginning.
func (w *World) editPeers(what int) {
	s := w.setup
	peers := slices.Clone(w.declared.Peers)
	switch what {
	case 0:
		peers = peers[:len(peers)-1]
	case 1:
		peers[len(peers)-1].ASN++
	}
	s.Hubs = []HubSetup{{Name: s.Hubs[0].Name, Peers: peers, Most: s.Hubs[0].Most}}
	w.tell("operator", "has the peers %v now", peers)
	w.use(s)
}

func (h *hub) outage(d time.Duration) {
	h.w.tell("ARM", "Route Server %s cannot be reached for %v", h.name, d)
	h.down = h.w.now.Add(d)
}

// stopBGP ends the NVA's sessions, and nothing else.
func (n *nva) stopBGP() {
	n.w.tell(n.name, "its BGP stops")
	n.mute = true
	n.w.speak(n)
}

func (n *nva) startBGP() {
	n.w.tell(n.name, "its BGP runs again")
	n.mute = false
	n.w.speak(n)
}

// approving is an operator who reads what waits, thinks it over, and approves it; three times, since a plan that is written is followed by others.
func approving(ask *asker, after time.Duration, target string, span time.Duration) deed {
	kind, wait := order.Approve, span/10*time.Duration(ask.pick(4))
	if ask.pick(4) == 0 {
		kind = order.Override
	}
	return deed{after, "operator approves what waits", func(w *World) {
		for i := range 3 {
			w.after(time.Duration(i)*span/4, func() { w.approve(kind, target, wait) })
		}
	}}
}

func (n *nva) flap(p netip.Prefix, gap time.Duration) {
	metric, has := n.routes[p]
	if !has {
		return
	}
	n.withdraw(p)
	n.w.after(gap, func() {
		if n.on {
			n.announce(p, metric)
		}
	})
}

func (n *nva) reboot(gap time.Duration, routes ...netip.Prefix) {
	n.die()
	n.w.after(gap, func() {
		n.boot()
		n.w.after(gap/10, func() {
			if n.on {
				for _, p := range routes {
					n.announce(p, 10)
				}
			}
		})
	})
}

// restart stops the agent as systemd does for an upgrade.
func (n *nva) restart(gap time.Duration) {
	if n.agent == nil {
		return
	}
	n.w.tell(n.name, "its agent is restarted")
	n.agent.machine.Stop(n.clock(), goodbye, "upgrade")
	n.agent.turn()
	n.w.after(gap+time.Second, n.revive)
}

// revive starts the agent again if the machine runs.
func (n *nva) revive() {
	n.stopAgent()
	if n.on {
		n.w.tell(n.name, "its agent starts")
		n.startAgent()
	}
}

// crash ends the agent without a word; it is started again, perhaps without its file.
func (n *nva) crash(gap time.Duration, loseFile bool) {
	if n.agent == nil {
		return
	}
	n.w.tell(n.name, "its agent crashes")
	n.stopAgent()
	n.stopClone()
	if loseFile {
		n.w.tell(n.name, "the file with its epoch is lost")
		n.epoch = 0
	}
	n.w.after(gap, n.revive)
}

// drain shuts the machine down in order.
func (n *nva) drain(gap time.Duration) {
	if n.agent == nil {
		return
	}
	n.w.tell(n.name, "is shut down: it asks to carry nothing")
	n.stopClone()
	n.agent.machine.Stop(n.clock(), draining, "shutdown")
	n.agent.turn()
	n.w.after(5*time.Second, n.die)
	if gap > 20*time.Second {
		n.w.after(gap, func() { n.reboot(0) })
	}
}

func (n *nva) isolate(d time.Duration) {
	n.w.tell(n.name, "cannot reach the bus for %v", d)
	n.cut = n.w.now.Add(d)
}

func (w *World) busDown(d time.Duration) {
	w.tell("bus", "down for %v", d)
	w.troubles.bus = w.now.Add(d)
}

func (w *World) storeDown(d time.Duration) {
	w.tell("store", "down for %v", d)
	w.troubles.store = w.now.Add(d)
}

func (w *World) throttle(d time.Duration) {
	w.tell("ARM", "the subscription's quota is used up for %v", d)
	w.troubles.arm = w.now.Add(d)
}

func (t *table) outage(d time.Duration) {
	t.w.tell("ARM", "table %s cannot be reached for %v", t.name, d)
	t.down = t.w.now.Add(d)
}

// restartFunctions ends every running call, and what the processes knew is forgotten.
func (w *World) restartFunctions() {
	w.tell("host", "the function app restarts")
	for _, c := range slices.Clone(w.calls) {
		c.kill()
	}
	w.functions.restart(len(w.functions.running))
}

// foreignEdit is what somebody with a browser does to a table.
func (t *table) foreignEdit(p netip.Prefix, kind int) {
	mine := func(r udr) bool { return r.ours && r.Prefix == p }
	has := func(p netip.Prefix) func(udr) bool { return func(r udr) bool { return r.Prefix == p } }
	switch kind {
	case 1:
		t.edit("adds a route of their own for "+p.String(), func(routes []udr) []udr {
			if slices.ContainsFunc(routes, has(p)) {
				return routes
			}
			return append(routes, udr{Route: plan.NewRoute(strings.NewReplacer(".", "-", "/", "-").Replace("their-"+p.String()), p.String(), "None", netip.Addr{})})
		})
	case 2:
		t.edit("removes the route for "+p.String(), func(routes []udr) []udr { return slices.DeleteFunc(routes, has(p)) })
	default:
		t.edit("sends "+p.String()+" elsewhere", func(routes []udr) []udr {
			if i := slices.IndexFunc(routes, mine); i >= 0 {
				routes[i].NextHops = nextHop("10.0.0.99")
			}
			return routes
		})
	}
}

// editDomain is a change of the domain file: another NVA is preferred.
func (w *World) editDomain(name string) {
	s := w.setup
	s.NVAs = slices.Clone(s.NVAs)
	for i := range s.NVAs {
		s.NVAs[i].Preference = 100
		if s.NVAs[i].Name == name {
			s.NVAs[i].Preference = 300
		}
	}
	w.tell("operator", "prefers %s now", name)
	w.use(s)
}

// use puts another domain file in force.
func (w *World) use(s Setup) {
	w.setups = append(w.setups, w.setup)
	w.setup, w.file = s, s.yaml()
	w.edited = true
	w.upload(w.file)
}

// breakDomain uploads a file that is not valid; later the last one again.
func (w *World) breakDomain(d time.Duration) {
	w.tell("operator", "uploads a domain file that is not valid")
	w.upload("domain: " + domain + "\nnvas: none\n")
	w.after(d, func() { w.upload(w.file) })
}

// without says what of a history is left out, to find what matters.
type without struct {
	deeds map[int]bool
	odd   map[uint64]bool
}

// live lives the history to its end, or to the first invariant that does not hold. f comes from an earlier history with the same domain
// file, or is nil. With a story, what happens is told in it.
func (h *history) live(f *functions, out without, story *[]string) *World {
	w := newWorld(h.setup, h.habits, &luck{seed: h.seed, calm: out.odd, note: story != nil}, f)
	w.story = story
	defer w.close()
	w.begin()
	for i, d := range h.deeds {
		if !out.deeds[i] {
			w.agenda.put(start().Add(d.after), func() { d.do(w) })
		}
	}
	if h.swept {
		w.agenda.put(start().Add(h.lasts/2), w.sweepNow)
	}
	w.runUntil(start().Add(h.lasts))
	for _, stage := range []func(){w.stabilize, w.checkRest, w.checkEconomy, w.replay, w.checkKept} {
		if w.violation == nil {
			stage()
		}
	}
	return w
}

// begin switches the NVAs on, with routes that most of them have from their disks.
func (w *World) begin() {
	ask := &asker{luck: w.luck, id: hash("begin")}
	for _, n := range w.nvas {
		n.behind = [...]time.Duration{0, 0, 0, 0, 4 * time.Second, -4 * time.Second, 45 * time.Second}[ask.pick(7)]
		first := []netip.Prefix{somePrefix(ask), somePrefix(ask), somePrefix(ask), netip.MustParsePrefix("10.1.0.0/24")}
		w.after(time.Duration(ask.pick(3000))*time.Millisecond, func() {
			if ask.pick(4) == 0 {
				n.boot()
			}
			for _, p := range first[:1+len(first)/2] {
				n.announce(p, 10)
			}
			n.boot()
		})
	}
	for _, h := range w.hubs {
		if ask.pick(4) > 0 {
			h.peered()
		}
	}
	for _, t := range w.tables {
		t.routes = append(t.routes,
			udr{Route: plan.NewRoute("to-inspection", "192.168.0.0/16", "VirtualAppliance", netip.MustParseAddr("10.9.9.9"))},
			udr{Route: plan.NewRoute("pointsman-10-2-0-0-24", "172.16.0.0/24", "None", netip.Addr{})}, // looks like one of ours
			udr{Route: plan.NewRoute("monitor", "AzureMonitor", "Internet", netip.Addr{})})
	}
}

// peered gives the Route Server the declared peers, as Pointsman has made them long ago.
func (h *hub) peered() {
	doc := state.NewTarget(domain, h.name, h.id)
	for _, p := range h.setup().Peers {
		h.set(hubPeer{Peer: peering.Peer{Name: managed(p.NVA), Address: h.w.setup.nva(p.NVA).Hop, ASN: p.ASN, State: peering.Settled}, ours: true, speak: true})
		doc.Claim([]string{managed(p.NVA)})
	}
	data, err := h.w.functions.codecs.Target.Encode(doc)
	if err != nil {
		panic("sim: " + err.Error())
	}
	h.w.blobs[h.file] = &blob{data: data, etag: h.w.functions.newETag(), f: h.w.functions}
}

// stabilize ends all trouble, gives everybody who lives a way to the bus, and lets time pass: beats, snapshots, a sweep where one is needed.
func (w *World) stabilize() {
	w.tell("-", "trouble ends")
	w.habits.Faults = 0
	w.troubles = troubles{}
	w.luck.off = true
	for _, n := range w.nvas {
		n.cut = time.Time{}
		n.stopClone()
	}
	w.healDataPlane()
	for _, t := range w.tables {
		t.down = time.Time{}
	}
	for _, h := range w.hubs {
		h.down = time.Time{}
	}
	w.upload(w.file)
	w.advance(w.habits.Snapshot + 30*time.Second) // every agent has said all that it has, and what comes back has come back
	w.settleHubs()
	if w.violation == nil && w.needsSweep() {
		if w.unseen {
			w.advance(4 * time.Minute) // so that a sweep looks at what the Route Servers have learned
		}
		w.sweepNow()
		w.advance(45 * time.Second)
		w.settleHubs()
	}
	w.settleOrders()
}

// needsSweep reports whether something happened that no event tells of: then only the timer brings the tables right.
func (w *World) needsSweep() bool {
	foreign := 0
	for _, t := range w.tables {
		foreign += t.foreign
	}
	for _, h := range w.hubs {
		foreign += h.foreign
	}
	return foreign > 0 || w.unseen || len(w.setups) > 0 || w.denied || w.events.dead+w.wakes.dead > 0
}

// claimed reports whether the target's document has an intent.
func (t *table) claimed() bool {
	doc := t.w.targetDocument(t.name)
	return doc != nil && len(doc.Intents) > 0
}

// replay delivers the whole history again: nothing may be written (I5).
func (w *World) replay() {
	if slices.ContainsFunc(w.tables, (*table).claimed) { // by a run that died: the next one writes the same content once, so that a late write of it fails
		w.sweepNow()
		w.advance(20 * time.Second)
	}
	w.tell("-", "all of history is delivered again")
	puts, steps := w.counts.PUTs, w.counts.PeerSteps
	for i, d := range slices.Backward(w.events.history) {
		twin := &delivery{queue: w.events, id: d.id, event: d.event, word: d.word, sequence: d.sequence, enqueued: d.enqueued}
		w.after(time.Duration(i%7)*time.Millisecond, twin.becomeReady)
	}
	w.sweepNow()
	w.advance(10 * time.Second)
	if w.violation == nil && w.counts.PUTs != puts {
		w.violate("I5", "history was delivered again, nothing was new, and %d writes were sent", w.counts.PUTs-puts)
	}
	if w.violation == nil && w.counts.PeerSteps != steps {
		w.violate("I5", "history was delivered again, nothing was new, and %d operations on peers were begun", w.counts.PeerSteps-steps)
	}
	if w.violation == nil {
		w.checkRest()
	}
}

// checkEconomy bounds the writes: no more than there were reasons to write.
func (w *World) checkEconomy() {
	revisions := 0
	for _, n := range w.nvas {
		revisions += int(revisionOf(w.blobs[nvaFile(n.name)]))
	}
	for _, t := range w.tables {
		reasons := 2*revisions + t.foreign + len(w.setups)*2 + 2
		if writes := t.applied - t.fences; writes > reasons {
			w.violate("writes", "table %s was changed %d times for %d reasons", t.name, writes, reasons)
		}
	}
}
