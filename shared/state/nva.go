// Package state holds the two documents that Pointsman keeps: what an NVA announces, and what is known of a target.
//
// The NVA's document is a join-semilattice keyed by (epoch, seq): merging is commutative, associative and idempotent, so events
// may come in any order and any number of times.
//
//	          floor                                        claim
//	            │  facts, each with the version that set it  │
//	────────────┼───●────●──────○───────●───────────●────────┼──▶ (epoch, seq)
//	  dropped   │       announced   ○ tombstone: a withdrawal that an older announcement may still try to undo
//
// A complete snapshot at version V raises the floor to V: what is older and was not in it is gone, tombstones below are no longer
// needed. An incomplete one raises nothing, so half a snapshot withdraws nothing, and an old epoch's routes stay until the new
// epoch's first snapshot is complete (as in BGP graceful restart, RFC 4724).
package state

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/later"
	"github.com/pointsman/pointsman/shared/route"
)

// Fact is the newest that is known of one prefix.
type Fact struct {
	Version   event.Version
	Attrs     route.Attrs
	Withdrawn bool      // a tombstone
	Since     time.Time // announced without a break since then, the broker's clock; zero: for longer than anybody waits, or withdrawn
}

// Beat numbers one arming of an agent's dead-man switch.
type Beat struct {
	Epoch uint64 `json:"epoch"`
	Beat  uint64 `json:"beat"`
}

// Compare orders beats: by epoch, then by number.
func (b Beat) Compare(c Beat) int {
	return cmp.Or(cmp.Compare(b.Epoch, c.Epoch), cmp.Compare(b.Beat, c.Beat))
}

// Notice is the newest draining, goodbye or alive of an NVA.
type Notice struct {
	Kind    event.Kind // Draining, Goodbye or Alive; 0: none
	Version event.Version
	Reason  string
}

// Span is a closed range of sequence numbers.
type Span struct{ First, Last uint64 }

// Clone records that a second agent runs with the name of the first: with the same epoch, or with an older one that speaks after the newer one has begun.
type Clone struct {
	Boot  string    `json:"boot"`
	Epoch uint64    `json:"epoch"`
	At    time.Time `json:"at,omitzero"` // when the broker accepted an event of it last, within a minute
}

// Story tells people what was noticed, and what to do. newest is the NVA's epoch.
func (c Clone) Story(nva string, newest uint64) string {
	what := "in the same epoch: what it says is refused"
	if c.Epoch != newest {
		what = fmt.Sprintf("of the older epoch %d: the newer one is believed", c.Epoch)
	}
	return fmt.Sprintf("a second agent (boot %s) speaks in the name of %s, %s. If it is a copy of the machine, give it its own nva and an empty state directory", c.Boot, nva, what)
}

// NVA is what one NVA announces, and whether its agent is heard.
type NVA struct {
	Domain, Name string
	Revision     uint64 // +1 with every change that can matter to a target
	Outbox       bool   // wakes for Revision are still to be sent
	Wide         bool   // and they go to every target of the domain: what is believed of other NVAs may have changed too

	Floor   event.Version
	Facts   map[netip.Prefix]Fact
	Partial map[event.Version]Chunks // incomplete snapshots above the floor, the newest MaxPartial
	Seen    []Span                   // sequence numbers of Epoch that were merged, ascending, disjoint, the highest MaxSpans
	Epoch   uint64                   // the highest epoch heard of
	Boot    string                   // the agent process that owns Epoch
	Began   time.Time                // when the broker accepted the first event of Epoch; zero: not known
	Past    []event.Version          // the newest of each epoch before Epoch, ascending, at most MaxPast
	Clone   *Clone                   // a second process with the NVA's name; what it says is refused if it claims Epoch, and outdated otherwise

	Claim    event.Version // the newest event
	Digest   route.Digest  // its digest: what the RIB should be once everything up to Claim is merged
	SignedBy string        // id of the key that signed it; "": the domain file had no keys then
	Alive    Beat          // the highest beat that any event but Expired carried
	Expired  Beat          // the highest beat whose switch fired
	Notice   Notice
	LastSeen time.Time // when the broker accepted the newest event of a living agent; an event that is delivered again does not move it
	Since    time.Time // when the NVA's standing (heard, silent, draining, self-check, control lost) last became what it is, the broker's clock

	Report   event.Report         // the newest that the agent said of itself and its peers
	Reported event.Version        // which event said it
	Turned   map[string]time.Time // when the report last changed its mind about a peer, the receiver's clock; no entry: it never did
	Order    Order                // the newest that an operator said of the NVA
	Refused  Refusals             // events in its name that were not signed as the domain file wants

	// Losses are the times, ascending, at which a prefix that was announced was withdrawn: what damping goes by. At most MaxLosses of a prefix and MaxFacts prefixes,
	// none older than LossMemory.
	Losses map[netip.Prefix][]time.Time

	Later later.Rest // what a later version said
}

// Order is an operator's word about an NVA. The zero value is none.
type Order struct {
	Drain bool      `json:"drain"` // it is to carry nothing; else: it may carry routes again, also where only an operator gives them back
	At    time.Time `json:"at"`    // the broker's clock
	ID    string    `json:"id"`
	Who   string    `json:"who"`
	Why   string    `json:"why,omitempty"`

	Operator string    `json:"operator,omitempty"` // who signed it; "": nobody had to
	Signed   time.Time `json:"signed,omitzero"`    // when, by that one's clock
}

// Compare orders orders: by the time that counts, then by identity.
func (o Order) Compare(p Order) int { return o.moment().compare(p.moment()) }

func (o Order) moment() moment { return moment{o.At, o.Signed, o.ID} }

// Refusals counts events, or orders, that were refused. A batch that is delivered again counts again.
type Refusals struct {
	Count  uint64    `json:"count"`
	At     time.Time `json:"at"` // when the last one was refused, the receiver's clock
	Reason string    `json:"reason"`
}

// maxRefusal bounds the reason that is kept, in bytes.
const maxRefusal = 300

// Refuse counts an event that was refused at the given time. Nothing else in the document depends on such an event.
func (n *NVA) Refuse(at time.Time, reason string) { n.Refused = n.Refused.And(at, reason) }

// And returns the count with one more.
func (r Refusals) And(at time.Time, reason string) Refusals {
	if len(reason) > maxRefusal {
		reason = strings.ToValidUTF8(reason[:maxRefusal], "") + "…"
	}
	return Refusals{Count: r.Count + 1, At: at, Reason: reason}
}

// Bounds of what is kept for damping.
const (
	MaxLosses  = 8
	LossMemory = time.Hour
)

// AgeOut is how long the age of an announcement is kept: the longest hold-down.
const AgeOut = 24 * time.Hour

// Chunks says which parts of a snapshot are in.
type Chunks struct {
	Count int
	Got   []bool
}

// NewNVA returns the document of an NVA that was never heard.
func NewNVA(domain, name string) *NVA {
	return &NVA{
		Domain: domain, Name: name, Facts: map[netip.Prefix]Fact{}, Partial: map[event.Version]Chunks{}, Turned: map[string]time.Time{}, Losses: map[netip.Prefix][]time.Time{},
	}
}

// Copy returns a document that shares nothing with n that a Merge into either could change.
func (n *NVA) Copy() *NVA {
	c := *n
	c.Facts = maps.Clone(n.Facts)
	c.Partial = make(map[event.Version]Chunks, len(n.Partial))
	for v, p := range n.Partial {
		c.Partial[v] = Chunks{Count: p.Count, Got: slices.Clone(p.Got)}
	}
	c.Seen = slices.Clone(n.Seen)
	c.Past = slices.Clone(n.Past)
	c.Clone = copied(n.Clone)
	c.Report.Peers = slices.Clone(n.Report.Peers)
	c.Report.ControlLost = slices.Clone(n.Report.ControlLost)
	c.Turned = maps.Clone(n.Turned)
	c.Losses = make(map[netip.Prefix][]time.Time, len(n.Losses))
	for p, times := range n.Losses {
		c.Losses[p] = slices.Clone(times)
	}
	return &c
}

// copied returns a pointer to a copy, or nil.
func copied[T any](p *T) *T {
	if p == nil {
		return nil
	}
	c := *p
	return &c
}

// Bounds of a document: a stolen or broken agent must not fill the store. An agent that works has one incomplete snapshot, two while one overtakes the other, and a
// few gaps. What is forgotten beyond that is never taken for known: a snapshot whose chunks were forgotten does not complete, and what was forgotten of Seen counts as
// missing; the next snapshot heals both.
const (
	MaxFacts   = 250_000
	MaxPartial = 16
	MaxSpans   = 1000
	MaxPast    = 8
)

// Heard reports whether any event was merged.
func (n *NVA) Heard() bool { return n.Epoch > 0 }

// Silent reports whether the dead-man switch has fired and nothing was heard since.
func (n *NVA) Silent() bool { return n.Expired.Compare(n.Alive) >= 0 && n.Expired.Epoch > 0 }

// Draining reports whether the NVA is to carry nothing: its agent said farewell so (a later epoch, or an alive after it, ends that), reports so,
// or an operator wants it.
func (n *NVA) Draining() bool {
	return n.Notice.Kind == event.Draining && n.Notice.Version.Epoch == n.Epoch || n.Report.Drain != "" || n.Order.Drain
}

// Unfit reports whether the NVA's own check of itself has failed.
func (n *NVA) Unfit() bool { return n.Report.SelfCheck == event.Failed }

// ControlLost reports whether the NVA announces what its routing daemon said before the session with it was lost, and nobody can withdraw it.
func (n *NVA) ControlLost() bool { return len(n.Report.ControlLost) > 0 }

// Restarting reports whether the agent said that it will be back.
func (n *NVA) Restarting() bool {
	return n.Notice.Kind == event.Goodbye && n.Notice.Version.Epoch == n.Epoch
}

// Announces returns the attributes of p, if the NVA announces it.
func (n *NVA) Announces(p netip.Prefix) (route.Attrs, bool) {
	f, ok := n.Facts[p]
	return f.Attrs, ok && !f.Withdrawn
}

// RIB returns what the NVA announces, in the order of route.Compare.
func (n *NVA) RIB() []route.Entry {
	out := make([]route.Entry, 0, len(n.Facts))
	for p, f := range n.Facts {
		if !f.Withdrawn {
			out = append(out, route.Entry{Prefix: p, Attrs: f.Attrs})
		}
	}
	slices.SortFunc(out, func(a, b route.Entry) int { return route.Compare(a.Prefix, b.Prefix) })
	return out
}

// Merge takes one event in. at is when the broker accepted it. It reports whether the document changed; Revision says whether
// the change can matter to a target. An error is Poison and leaves the document as it was, but for Clone.
func (n *NVA) Merge(e event.Event, at time.Time) (changed bool, err error) {
	return n.MergeLate(e, at, at)
}

// MergeLate is Merge for an event that waited on its way: now is when it is merged. What a peer may still answer is reckoned from then, for
// its answer may have waited as long.
func (n *NVA) MergeLate(e event.Event, at, now time.Time) (changed bool, err error) {
	if n.cloned(e) {
		return n.suspect(e.Boot, e.Version.Epoch, at), fault.New(fault.Poison, "event %s comes from a second agent (boot %s; epoch %d belongs to boot %s)", e.ID(), e.Boot, e.Version.Epoch, n.Boot).
			WithAdvice("two machines run with the name %s: a cloned VM needs its own nva name and an empty state directory", n.Name)
	}
	if len(n.Facts)+n.unknown(e) > MaxFacts {
		return false, fault.New(fault.Poison, "event %s would let the document of %s grow above %d prefixes", e.ID(), n.Name, MaxFacts)
	}
	before := n.standing()
	overlaps := n.mergeEpoch(e, at)
	routes, known := n.mergeRoutes(e, at)
	heard := n.mergeLiveness(e, at)
	reported := n.mergeReport(e, now)
	moved := n.standing() != before
	if moved {
		n.Since = at
	}
	n.Wide = n.Wide || moved || reported
	if routes || moved || reported {
		n.Revision++
	}
	return routes || moved || reported || !known || heard || overlaps, nil
}

// Obey takes an operator's word in. It reports whether that is news; as with Merge, an older order changes nothing.
func (n *NVA) Obey(o Order) (changed bool) {
	if o.Compare(n.Order) <= 0 {
		return false
	}
	before := n.standing()
	n.Order = o
	if n.standing() != before {
		n.Since = o.At
	}
	n.Wide = true
	n.Revision++
	return true
}

// Belated reports whether an order was accepted after the one that holds and, by what its operator signed, is older: see moment.
func (n *NVA) Belated(o Order) bool { return o.moment().belated(n.Order.moment()) }

// mergeReport keeps the newest report. changed: it says something else than the one before.
func (n *NVA) mergeReport(e event.Event, now time.Time) (changed bool) {
	if !e.Reports() || e.Version.Compare(n.Reported) <= 0 {
		return false
	}
	old := n.Report
	n.Report, n.Reported = e.Report, e.Version
	for _, p := range e.Report.Peers {
		if was, watched := old.Peer(p.NVA); watched && was.Reachable != p.Reachable || !watched && !p.Reachable {
			n.Turned[p.NVA] = now
		}
	}
	maps.DeleteFunc(n.Turned, func(peer string, _ time.Time) bool {
		_, watched := e.Report.Peer(peer)
		return !watched
	})
	return !old.Equal(e.Report)
}

// unknown counts the prefixes of e that the document does not hold yet: a full document must still take in the snapshot that
// heals it.
func (n *NVA) unknown(e event.Event) int {
	count := 0
	for _, a := range e.Announce {
		if _, ok := n.Facts[a.Prefix]; !ok {
			count++
		}
	}
	for _, p := range e.Withdraw {
		if _, ok := n.Facts[p]; !ok {
			count++
		}
	}
	return count
}

// standing is what of the NVA's own state a target's routes depend on.
func (n *NVA) standing() [5]bool {
	return [5]bool{n.Heard(), n.Silent(), n.Draining(), n.Unfit(), n.ControlLost()}
}

// cloned reports whether e comes from another process than the one that owns its epoch.
func (n *NVA) cloned(e event.Event) bool { return e.Version.Epoch == n.Epoch && e.Boot != n.Boot }

// Overlap is how long the broker may go on accepting events of an epoch after the next one has begun: what is on its way when a process ends. CloneMemory is how long a
// second agent is shown after it was last heard; an agent speaks every few minutes.
const (
	Overlap     = 10 * time.Second
	CloneMemory = time.Hour
)

// mergeEpoch keeps when the epoch began and what the newest of the ones before it was. An event of an older epoch that is new, and that the broker accepted after the
// newer one had begun, proves that an agent runs that is not the newest: the original of a copy, or one whose epoch went back. One that is only sent again is not
// new. changed: anything of that is different.
func (n *NVA) mergeEpoch(e event.Event, at time.Time) (changed bool) {
	if e.Kind == event.Expired {
		return false // written before its time: it may well come later than the next epoch
	}
	switch epoch := e.Version.Epoch; {
	case epoch > n.Epoch:
		if n.Claim.Epoch == n.Epoch && n.Epoch > 0 {
			n.passed(n.Claim)
			if n.LastSeen.Sub(at) > Overlap { // the older one's came first, and was accepted last
				n.suspect(n.Boot, n.Epoch, n.LastSeen)
			}
		}
		n.Began = at
		return true
	case epoch == n.Epoch:
		if at.Before(n.Began) {
			n.Began, changed = at, true
		}
		return changed
	}
	if !n.passed(e.Version) {
		return false
	}
	if !n.Began.IsZero() && at.Sub(n.Began) > Overlap {
		n.suspect(e.Boot, e.Version.Epoch, at)
	}
	return true
}

// passed notes an event of an epoch before the current one. It reports whether it is the newest that is known of its epoch.
func (n *NVA) passed(v event.Version) (news bool) {
	i, known := slices.BinarySearchFunc(n.Past, v, func(a, b event.Version) int { return cmp.Compare(a.Epoch, b.Epoch) })
	switch {
	case known && n.Past[i].Seq >= v.Seq, !known && i == 0 && len(n.Past) >= MaxPast:
		return false
	case known:
		n.Past[i] = v
		return true
	}
	n.Past = slices.Insert(n.Past, i, v)
	n.Past = n.Past[max(0, len(n.Past)-MaxPast):]
	return true
}

// suspect notes that a second agent was heard. It reports whether that is news, within a minute.
func (n *NVA) suspect(boot string, epoch uint64, at time.Time) (news bool) {
	if c := n.Clone; c != nil && c.Boot == boot && c.Epoch == epoch && at.Sub(c.At) < time.Minute {
		return false
	}
	n.Clone = &Clone{Boot: boot, Epoch: epoch, At: at}
	return true
}

// mergeRoutes applies announcements and withdrawals. routes: what the NVA announces is now different; known: nothing in the
// document is different.
func (n *NVA) mergeRoutes(e event.Event, at time.Time) (routes, known bool) {
	if e.Kind == event.Expired {
		return false, true // written before its time: it says nothing of routes, and its seq belongs to another event
	}
	known = true
	for _, a := range e.Announce {
		visible, set := n.set(a.Prefix, Fact{Version: e.Version, Attrs: a.Attrs, Since: at})
		routes, known = routes || visible, known && !set
	}
	for _, p := range e.Withdraw {
		visible, set := n.set(p, Fact{Version: e.Version, Withdrawn: true})
		routes, known = routes || visible, known && !set
		if visible {
			n.lose(p, at)
		}
	}
	if e.Kind != event.Snapshot {
		return routes, !n.saw(e.Version, Span{e.Version.Seq, e.Version.Seq}) && known
	}
	if e.Version.Compare(n.Floor) <= 0 {
		return routes, known
	}
	complete, fresh := n.chunk(e)
	if complete {
		routes = n.raise(e.Version, at) || routes
	}
	return routes, known && !fresh
}

// set stores f unless something newer is known. visible: what is announced of p changed.
func (n *NVA) set(p netip.Prefix, f Fact) (visible, set bool) {
	old, ok := n.Facts[p]
	if f.Version.Compare(n.Floor) < 0 || ok && f.Version.Compare(old.Version) <= 0 {
		return false, false
	}
	// A version at the floor belongs to the snapshot that raised it; that snapshot is complete, so what it does not hold is gone.
	if f.Version == n.Floor && !ok {
		return false, false
	}
	was := ok && !old.Withdrawn
	if was && !f.Withdrawn {
		f.Since = old.Since
	}
	n.Facts[p] = f
	return was != !f.Withdrawn || was && old.Attrs != f.Attrs, true
}

// lose notes that a prefix went away.
func (n *NVA) lose(p netip.Prefix, at time.Time) {
	old, known := n.Losses[p]
	if !known && len(n.Losses) >= MaxFacts {
		return // it is not damped
	}
	list := append(old, at)
	slices.SortFunc(list, time.Time.Compare)
	n.Losses[p] = list[max(0, len(list)-MaxLosses):]
}

// chunk notes that part of a snapshot is in.
func (n *NVA) chunk(e event.Event) (complete, fresh bool) {
	c, ok := n.Partial[e.Version]
	if !ok {
		c = Chunks{Count: e.Chunk.Count, Got: make([]bool, e.Chunk.Count)}
	}
	if c.Count != e.Chunk.Count || c.Got[e.Chunk.Index] {
		return false, false
	}
	c.Got[e.Chunk.Index] = true
	n.Partial[e.Version] = c
	if !slices.Contains(c.Got, false) {
		return true, true
	}
	if len(n.Partial) > MaxPartial {
		oldest := slices.MinFunc(slices.Collect(maps.Keys(n.Partial)), event.Version.Compare)
		delete(n.Partial, oldest)
		return false, oldest != e.Version
	}
	return false, true
}

// raise lifts the floor to the complete snapshot at v. It reports whether that withdrew anything.
func (n *NVA) raise(v event.Version, at time.Time) (withdrew bool) {
	n.Floor = v
	maps.DeleteFunc(n.Facts, func(p netip.Prefix, f Fact) bool {
		gone := f.Version.Compare(v) < 0
		if gone && !f.Withdrawn {
			n.lose(p, at)
			withdrew = true
		}
		return gone
	})
	n.age(at)
	maps.DeleteFunc(n.Partial, func(w event.Version, _ Chunks) bool { return w.Compare(v) <= 0 })
	n.saw(v, Span{1, v.Seq})
	return withdrew
}

// age forgets what is too old to matter: how long a prefix has stood, and when it was lost.
func (n *NVA) age(now time.Time) {
	for p, f := range n.Facts {
		if !f.Since.IsZero() && now.Sub(f.Since) > AgeOut {
			f.Since = time.Time{}
			n.Facts[p] = f
		}
	}
	maps.DeleteFunc(n.Losses, func(_ netip.Prefix, list []time.Time) bool { return now.Sub(list[len(list)-1]) > LossMemory })
}

// saw adds sequence numbers to those merged. Only the newest epoch is tracked: older ones are healed by its snapshot.
func (n *NVA) saw(v event.Version, s Span) (fresh bool) {
	if v.Epoch != n.seenEpoch(v.Epoch) {
		return false
	}
	merged := insertSpan(n.Seen, s)
	merged = merged[max(0, len(merged)-MaxSpans):]
	fresh = !slices.Equal(merged, n.Seen)
	n.Seen = merged
	return fresh
}

// seenEpoch moves the tracking to a newer epoch and returns the one that is tracked.
func (n *NVA) seenEpoch(epoch uint64) uint64 {
	if epoch > n.Epoch {
		n.Epoch, n.Seen = epoch, nil
	}
	return n.Epoch
}

func insertSpan(list []Span, s Span) []Span {
	var out []Span
	for _, x := range list {
		switch {
		case x.Last+1 < s.First:
			out = append(out, x)
		case s.Last+1 < x.First:
			out, s = append(out, s), x
		default:
			s = Span{min(x.First, s.First), max(x.Last, s.Last)}
		}
	}
	return append(out, s)
}

// mergeLiveness takes in what e says of the agent. heard: something that is shown in Status changed.
func (n *NVA) mergeLiveness(e event.Event, at time.Time) (heard bool) {
	beat := Beat{e.Version.Epoch, e.Beat}
	if e.Kind == event.Expired {
		if beat.Compare(n.Expired) <= 0 {
			return false
		}
		n.Expired = beat
		return true
	}
	if e.Version.Epoch >= n.Epoch {
		n.seenEpoch(e.Version.Epoch)
		n.Boot = e.Boot
	}
	if beat.Compare(n.Alive) > 0 {
		n.Alive, heard = beat, true
	}
	if e.Version.Compare(n.Claim) > 0 {
		n.Claim, n.Digest, n.SignedBy, heard = e.Version, e.Digest, e.SignedBy, true
		if at.After(n.LastSeen) {
			n.LastSeen = at
		}
		if n.Clone != nil && at.Sub(n.Clone.At) > CloneMemory {
			n.Clone = nil
		}
	}
	return n.notice(e) || heard
}

// notice keeps the newest of draining, goodbye and alive.
func (n *NVA) notice(e event.Event) (changed bool) {
	switch e.Kind {
	case event.Draining, event.Goodbye, event.Alive:
		if e.Version.Compare(n.Notice.Version) > 0 {
			n.Notice = Notice{Kind: e.Kind, Version: e.Version, Reason: e.Reason}
			return true
		}
	case event.Snapshot, event.Delta, event.Expired, event.Witness:
	}
	return false
}

// Gap says what is missing: the number of events of the current epoch that were published but are not merged, and whether
// the RIB differs from the agent's although nothing is missing. The agent's next snapshot heals both.
func (n *NVA) Gap() (missing uint64, differs bool) {
	if n.Claim.Epoch == 0 {
		return 0, false
	}
	var have uint64
	for _, s := range n.Seen {
		have += min(s.Last, n.Claim.Seq) - min(s.First, n.Claim.Seq+1) + 1
	}
	if missing = n.Claim.Seq - min(have, n.Claim.Seq); missing > 0 {
		return missing, false
	}
	var own route.Digest
	for p, f := range n.Facts {
		if !f.Withdrawn {
			own = own.Add(route.Entry{Prefix: p, Attrs: f.Attrs})
		}
	}
	return 0, own != n.Digest
}
