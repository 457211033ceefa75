package sim

import (
	"cmp"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/event"
)

// The data plane between the NVAs, and what their agents find out by probing each other through it. The probes themselves are not played: an agent
// learns what is so a second after it became so, as one that misses five answers in a row does.
const (
	noticing = time.Second            // until a peer is found to be gone or back
	hearsay  = 200 * time.Millisecond // until a probe says that its sender does not hear us
)

// path is one direction between two NVAs.
type path struct{ from, to string }

// reaches reports whether the probes of n come back from o: both ways are open, and o's agent is there to answer.
func (n *nva) reaches(o *nva) bool {
	return n.on && o.on && o.agent != nil && n.hears(o) && o.hears(n)
}

// hears reports whether packets of o arrive at n.
func (n *nva) hears(o *nva) bool { return !n.dark && !o.dark && !n.w.cuts[path{o.name, n.name}] }

// report is what the agent of n finds out.
func (n *nva) report() event.Report {
	r := event.Report{SelfTest: event.Passed, Drain: n.maintenance}
	if n.dark {
		r.SelfTest = event.Failed
	}
	if n.unfit != "" {
		r.SelfCheck, r.Reason = event.Failed, n.unfit
	}
	if n.orphaned {
		r.ControlLost = []event.Session{{Name: "daemon"}}
	}
	for _, o := range n.w.nvas {
		if o != n {
			deaf := o.agent != nil && n.hears(o) && !o.reaches(n)
			r.Peers = append(r.Peers, event.Peer{NVA: o.name, Reachable: n.reaches(o), Deaf: deaf})
		}
	}
	slices.SortFunc(r.Peers, func(a, b event.Peer) int { return cmp.Compare(a.NVA, b.NVA) })
	return r
}

// look has every agent notice what has become of the data plane and of its NVA.
func (w *World) look() {
	if !w.setup.Witness {
		return
	}
	for _, wait := range []time.Duration{noticing, noticing + hearsay} {
		w.after(wait, func() {
			for _, n := range w.nvas {
				if n.agent != nil {
					n.agent.machine.Reported(n.clock(), n.report())
					n.agent.turn()
				}
			}
		})
	}
}

// darken ends the data plane of a machine whose agent still reaches the bus, or mends it.
func (n *nva) darken(dark bool) {
	if n.dark != dark {
		n.w.tell(n.name, "%s", map[bool]string{true: "its data plane dies; its agent does not notice by itself", false: "its data plane is back"}[dark])
		n.dark = dark
		n.w.look()
		n.w.speak(n)
	}
}

// cutPath closes or opens one direction between two NVAs.
func (w *World) cutPath(from, to string, closed bool) {
	w.tell(to, "%s", map[bool]string{true: "no longer hears " + from, false: "hears " + from + " again"}[closed])
	if w.cuts == nil {
		w.cuts = map[path]bool{}
	}
	w.cuts[path{from, to}] = closed
	w.look()
}

// fail has the NVA's own check of itself fail, or pass again where why is empty.
func (n *nva) fail(why string) {
	n.w.tell(n.name, "%s", cmp.Or(why, "its own check passes again"))
	n.unfit = why
	n.w.look()
}

// maintain has Azure announce maintenance, or end it where why is empty.
func (n *nva) maintain(why string) {
	n.w.tell(n.name, "%s", cmp.Or(why, "the maintenance is over"))
	n.maintenance = why
	n.w.look()
}

// orphan has the NVA's agent lose its routing daemon, or find it again with all routes as they are.
func (n *nva) orphan(lost bool) {
	n.w.tell(n.name, "%s", map[bool]string{true: "its agent has lost the routing daemon", false: "its agent has the routing daemon back"}[lost])
	n.orphaned = lost
	n.w.look()
}

// healDataPlane ends all trouble between the NVAs and on them.
func (w *World) healDataPlane() {
	w.cuts = nil
	for _, n := range w.nvas {
		n.dark, n.unfit, n.maintenance, n.orphaned, n.mute = false, "", "", false, false
		n.w.speak(n)
	}
	w.look()
}
