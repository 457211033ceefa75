// Package report puts together what an agent has found out about its own NVA and about its peers. It comes from observers that know
// nothing of each other, and from the sources of routes; each has a part of the report, and the whole is a function of the parts.
//
//	witness ──── part ─┐
//	self-check ─ part ─┼─ Join ─▶ event.Report ─▶ publisher
//	scheduled ── part ─┤
//	sources ──── part ─┘
package report

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/pointsman/pointsman/shared/event"
)

// Observer watches something that a report speaks of: peers, the NVA's own health, what the cloud is going to do to the machine.
type Observer interface {
	// String names the observer for people.
	String() string
	// Run watches until ctx is done and then returns nil; an error ends the whole agent. Each call of tell replaces what this observer told
	// before. What ctx interrupts is no finding and is not told. The report belongs to the callee.
	Run(ctx context.Context, tell func(event.Report)) error
}

// Listener is an observer that acts once its part is known outside.
type Listener interface {
	// Accepted says that the bus has accepted a report which holds this part, or a later one of the same content. It does not block.
	Accepted(part event.Report)
}

// Troubled is an observer that may be unable to see.
type Troubled interface {
	// Trouble says what keeps it from seeing, for people; "" if nothing does. It may be called by any goroutine.
	Trouble() string
}

// Detailed is an observer that has more to show than its part.
type Detailed interface {
	// Detail returns something to be shown as JSON. It may be called by any goroutine.
	Detail() any
}

// longest bounds the texts of a report, in bytes, as the event schema does.
const longest = 1024

// Join returns the report that the parts make together. A check is as bad as the worst part says. A peer that several parts name is
// reachable if one of them reaches it: the packets of one way suffice to prove that it lives.
func Join(parts ...event.Report) event.Report {
	var r event.Report
	var drains, reasons []string
	for _, p := range parts {
		r.SelfCheck, r.SelfTest = max(r.SelfCheck, p.SelfCheck), max(r.SelfTest, p.SelfTest)
		drains, reasons = appendText(drains, p.Drain), appendText(reasons, p.Reason)
		r.Peers = append(r.Peers, p.Peers...)
		r.ControlLost = append(r.ControlLost, p.ControlLost...)
	}
	r.Drain, r.Reason = clip(strings.Join(drains, "; ")), clip(strings.Join(reasons, "; "))
	r.Peers, r.ControlLost = mergePeers(r.Peers), mergeSessions(r.ControlLost)
	return r
}

// mergeSessions returns the sessions as an event can carry them. Of those with one name, which sources may have in common, it is the one that is lost for longer.
func mergeSessions(list []event.Session) []event.Session {
	for i := range list {
		list[i].Name = clipTo(list[i].Name, event.MaxSession)
	}
	slices.SortFunc(list, func(a, b event.Session) int { return cmp.Or(cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since)) })
	list = slices.CompactFunc(list, func(a, b event.Session) bool { return a.Name == b.Name })
	return list[:min(len(list), event.MaxSessions)]
}

func appendText(texts []string, s string) []string {
	if s == "" {
		return texts
	}
	return append(texts, s)
}

func mergePeers(peers []event.Peer) []event.Peer {
	slices.SortStableFunc(peers, func(a, b event.Peer) int { return cmp.Compare(a.NVA, b.NVA) })
	var out []event.Peer
	for _, p := range peers {
		if last := len(out) - 1; last >= 0 && out[last].NVA == p.NVA {
			out[last].Reachable, out[last].Deaf = out[last].Reachable || p.Reachable, out[last].Deaf || p.Deaf
			continue
		}
		out = append(out, p)
	}
	return out
}

// clip makes a text fit into an event.
func clip(s string) string { return clipTo(s, longest) }

// clipTo makes a text valid UTF-8 and not too long.
func clipTo(s string, longest int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= longest {
		return s
	}
	cut := longest
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut]
}
