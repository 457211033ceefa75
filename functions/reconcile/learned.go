package reconcile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// When it is looked at what a Route Server has learned, which takes some ten seconds and a write of the quota for each peer:
//
//   - settleTime after news: the NVAs announce something else, one of them is usable or not any more, or a peer was created or changed;
//   - with a sweep, if it was not looked at for lookAge;
//   - where prefixes are steered past an NVA that is not usable, every failoverLook at that one until it is not listed any more.

// learn is step 6.
func (s *server) learn(ctx context.Context) {
	s.fetch(ctx)
	s.schedule()
	general := !s.known.LookAt.IsZero() && !s.Now().Before(s.known.LookAt)
	if general {
		s.known.LookAt = time.Time{}
	}
	for _, p := range s.hub.Peers {
		due := s.doubt(p.NVA)
		if !general && (due.IsZero() || s.Now().Before(due)) {
			continue
		}
		if i := s.asked(p.NVA); i >= 0 {
			s.known.Asked[i].Again = true // what was asked before the news does not answer it
			continue
		}
		s.ask(ctx, p.NVA)
	}
}

// schedule decides when it is looked at all peers.
func (s *server) schedule() {
	if sum := s.announcements(); sum != s.known.Announced {
		s.known.Announced = sum
		s.known.LookAt = selection.Sooner(s.known.LookAt, s.Now().Add(settleTime))
	}
	var last time.Time
	for _, l := range s.known.Learned {
		if l.At.After(last) {
			last = l.At
		}
	}
	if strings.HasPrefix(s.wake.Cause, "sweep/") && s.Now().Sub(last) >= lookAge {
		s.known.LookAt = s.Now()
	}
}

// announcements stands for what the peers announce to the Route Server, and for who of them is usable. What one announces that is not is news too: its BGP may well
// speak on, an operator's drain does not reach it.
func (s *server) announcements() string {
	sum := sha256.New()
	for _, p := range s.hub.Peers {
		_, _ = fmt.Fprintln(sum, p.NVA, p.Address, p.ASN, s.live.Of[p.NVA].State.Usable()) // a hash takes everything
		for _, prefix := range s.announces(p.NVA) {
			_, _ = fmt.Fprintln(sum, prefix)
		}
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// announced returns what the instances should have learned from an NVA: what it announces, may announce, and the domain file lets go by way of a Route Server. Of one
// that is not usable that is nothing.
func (s *server) announced(nva string) []netip.Prefix {
	if !s.live.Of[nva].State.Usable() {
		return nil
	}
	return s.announces(nva)
}

// announces is announced, whatever is believed of the NVA.
func (s *server) announces(nva string) []netip.Prefix {
	n, known := s.domain.NVA(nva)
	doc := s.docs[nva]
	if !known || doc == nil {
		return nil
	}
	var out []netip.Prefix
	for _, e := range doc.RIB() {
		if selection.Refuse(n, e.Prefix) == "" && s.concerns(e.Prefix) {
			out = append(out, e.Prefix)
		}
	}
	return out
}

// concerns reports whether a prefix goes by way of this Route Server, which carries IPv4 only.
func (s *server) concerns(p netip.Prefix) bool {
	return p.Addr().Is4() && s.hub.Wants(p) && s.domain.ViaOf(p).Announced()
}

// doubt returns when to look whether the Route Server may still lead to an NVA that is not usable; zero: there is no doubt, it makes no difference, or nobody can
// be asked as long as an operation on its peer is in work, whose end is looked for anyway.
func (s *server) doubt(nva string) time.Time {
	b := s.live.Of[nva]
	if b.State.Usable() || !s.domain.Overrides() || !s.known.Standing(nva).Lists(b.Since) || s.asked(nva) >= 0 || len(s.announces(nva)) == 0 || !s.answers(nva) {
		return time.Time{}
	}
	l, looked := s.known.Of(nva)
	switch {
	case !looked || l.At.Before(b.Since) && l.Problem == "":
		return s.Now()
	case l.Problem != "":
		return l.At.Add(lookAge)
	}
	return l.At.Add(failoverLook)
}

// answers reports whether it can be found out now what was learned from an NVA: by asking its peer, or, where it has none, by the list of peers.
func (s *server) answers(nva string) bool {
	p, there := s.peerOf(nva)
	if !there {
		return s.listed
	}
	return p.State == peering.Settled
}

// asked returns which of the questions without an answer is about the NVA; -1: none.
func (s *server) asked(nva string) int {
	return slices.IndexFunc(s.known.Asked, func(a state.Ask) bool { return a.NVA == nva })
}

// ask asks what was learned from an NVA. Without a peer for it nothing was, but only a list of this very run can tell.
func (s *server) ask(ctx context.Context, nva string) {
	p, there := s.peerOf(nva)
	switch {
	case !there && s.listed:
		s.put(ctx, state.Learned{NVA: nva, At: s.Now(), Clear: s.Now(), Problem: "the Route Server has no peer for it"})
		return
	case !there || p.State != peering.Settled: // once it is, it is looked at
		return
	}
	begun, err := s.Learned.Ask(ctx, s.hub.VirtualHub, p.Name)
	if err != nil {
		s.put(ctx, state.Learned{NVA: nva, At: s.Now(), Problem: err.Error()})
		return
	}
	s.known.Asked = append(s.known.Asked, state.Ask{NVA: nva, At: s.Now(), Token: begun.Token, Look: s.Now().Add(pause(0, begun.After))})
}

// peerOf returns the peer by which an NVA speaks to the Route Server, whoever made it.
func (s *server) peerOf(nva string) (peering.Peer, bool) {
	want, _ := s.hub.Peer(nva)
	i := slices.IndexFunc(s.known.Peers, func(p peering.Peer) bool { return p.Address == want.Address && p.ASN == want.ASN })
	if i < 0 {
		return peering.Peer{}, false
	}
	return s.known.Peers[i], true
}

// askLimit is how long an answer is waited for.
const askLimit = 5 * time.Minute

// fetch fetches the answers that are due.
func (s *server) fetch(ctx context.Context) {
	var open []state.Ask
	var again []string
	for _, a := range s.known.Asked {
		if _, peers := s.hub.Peer(a.NVA); !peers { // any more
			continue
		}
		if s.Now().Before(a.Look) {
			open = append(open, a)
			continue
		}
		instances, progress, err := s.Learned.Answer(ctx, s.hub.VirtualHub, a.Token)
		switch {
		case !progress.Done && s.Now().Sub(a.At) < askLimit:
			if err != nil {
				s.log.WarnContext(ctx, "what was learned could not be fetched", slog.String("nva", a.NVA), slog.Any("error", err))
				progress.After = max(progress.After, fault.RetryAfter(err))
			}
			a.Look = s.Now().Add(pause(a.Asks, progress.After))
			a.Asks++
			open = append(open, a)
			continue
		case err != nil:
			s.put(ctx, state.Learned{NVA: a.NVA, At: a.At, Problem: err.Error()})
		case !progress.Done:
			s.put(ctx, state.Learned{NVA: a.NVA, At: a.At, Problem: "the Route Server does not answer what it has learned from it"})
		default:
			s.put(ctx, s.compare(a, instances))
		}
		if a.Again {
			again = append(again, a.NVA)
		}
	}
	s.known.Asked = open
	for _, nva := range again {
		s.ask(ctx, nva)
	}
}

// compare says how what was learned differs from what is announced now: what was announced since the question will be looked at again.
func (s *server) compare(a state.Ask, instances []peering.Instance) state.Learned {
	n, _ := s.domain.NVA(a.NVA)
	peer, _ := s.hub.Peer(a.NVA)
	l := state.Learned{NVA: a.NVA, At: a.At, Clear: a.At, Full: a.At}
	l.Heard = peering.Compare(peering.Announced{
		Prefixes: s.announced(a.NVA), Concerns: s.concerns,
		Leads: func(p netip.Prefix, hop netip.Addr) bool {
			return hop == n.NextHop(p) || hop == peer.Address || slices.Contains(s.hub.NextHops, hop)
		},
	}, instances)
	for _, h := range l.Heard {
		if h.Listed > 0 {
			l.Clear = time.Time{}
		}
		if h.Missing > 0 || h.Astray > 0 {
			l.Full = time.Time{}
		}
	}
	return l
}

// put notes what was learned, and that tables must be told if that changes how the NVA stands.
func (s *server) put(ctx context.Context, l state.Learned) {
	before, _ := s.known.Of(l.NVA)
	since := s.live.Of[l.NVA].Since
	listed := s.known.Standing(l.NVA).Lists(since)
	changed := s.known.Put(l)
	// One that was clear before its NVA was lost counts as listed; that it is still clear is news.
	if (changed || s.known.Standing(l.NVA).Lists(since) != listed) && s.domain.Overrides() {
		s.known.Tell = true
	}
	switch {
	case l.Same() && !before.Same():
		s.log.InfoContext(ctx, "the Route Server has learned what the NVA announces", slog.String("nva", l.NVA))
	case !l.Same() && (before.Same() || difference(before) != difference(l)):
		s.log.WarnContext(ctx, "the Route Server has not learned what the NVA announces", slog.String("nva", l.NVA), slog.String("difference", difference(l)))
	}
}

// difference is what a person sees of it.
func difference(l state.Learned) string {
	if l.Problem != "" {
		return l.Problem
	}
	var parts []string
	for _, h := range l.Heard {
		if !h.Same() {
			parts = append(parts, h.String())
		}
	}
	return strings.Join(parts, "; ")
}

// warnings names what a person should look at.
func (s *server) warnings() []string {
	var out []string
	for _, p := range s.hub.Peers {
		if l, looked := s.known.Of(p.NVA); looked && !l.Same() {
			out = append(out, "the Route Server has not learned what "+p.NVA+" announces: "+difference(l))
		}
		if peer, there := s.peerOf(p.NVA); there && peer.Session != "" && peer.Session != "Connected" {
			out = append(out, fmt.Sprintf("the BGP session of %s with the Route Server is %s", p.NVA, peer.Session))
		}
		if n := len(s.announced(p.NVA)); n*2 > s.hub.RoutesPerPeer {
			out = append(out, fmt.Sprintf("%s announces %d routes, and the Route Server takes %d from a peer, known ones that are repeated included: above half of that a session can be torn down by its own refresh", p.NVA, n, s.hub.RoutesPerPeer))
		}
	}
	return shorten(out)
}
