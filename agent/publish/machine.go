// Package publish decides what an agent says, and when. It is a step machine: it does no I/O, has no clock and starts nothing.
// Inputs record facts (Changed, Published, Scheduled, …, each with the instant it became known); Next returns the effects that follow
// from all facts so far and the instant at which to ask again. Calling Next once too often does no harm.
//
//	                 differ                     in flight
//	RIB ───────────────────────────▶ base ─────────────────▶ acknowledged
//	 what the sources see    what the receiver holds once      what the receiver is known to hold
//	                         the batch in flight is accepted
//
// Of the two maps RIB and base only the difference is kept: differ holds base's value of every prefix where they are not equal.
// A prefix that changes and changes back leaves differ again: a flap within the gather window says nothing, and nothing grows
// during an outage.
//
// Invariants:
//
//  1. At most one batch is in flight.
//  2. known == false ("what the receiver holds is not known") at the start of an epoch and after every failed batch, for it may have
//     been accepted all the same. Then the next batch holds a snapshot, and differ is not kept.
//  3. known: base == RIB with differ laid over it, and baseDigest is the digest of base.
//  4. Every event takes the next sequence number, the chunks of one snapshot share one; a number is never used again.
//  5. Every event carries the beat of the switch that is armed (deadman.go).
//  6. Every snapshot carries the report in force; a report that changed is said at once, in a witness event, without waiting for routes
//     that are still gathered, unless it takes back a doubt about the routes (report.go).
package publish

import (
	"hash/fnv"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/route"
)

// Gather says how long changes are collected into one event.
type Gather struct {
	Quiet time.Duration // since the last change
	Max   time.Duration // since the first change
}

// Beat says how the dead-man switch is kept.
type Beat struct {
	Every   time.Duration // between two armings
	Timeout time.Duration // from arming to firing
}

// Config is fixed for the life of a Machine, which is one epoch.
type Config struct {
	Domain, NVA string
	Boot        string // identifies this process
	Epoch       uint64
	Gather      Gather
	Beat        Beat
	Snapshot    time.Duration // between two periodic snapshots, give or take a tenth by Boot
	Restart     time.Duration // how long a goodbye asks to be waited for
	MaxBytes    int           // of one encoded event
}

// View is the RIB as the machine reads it. Entries are in the order of event.Sort and belong to the caller.
type View interface {
	At(prefix netip.Prefix) rib.Value
	Entries() []route.Entry
	Digest() route.Digest
}

// Effects is what is to be done now. Every effect is answered by exactly one call of Published, Scheduled or Cancelled.
type Effects struct {
	Publish  []event.Event // one batch, in order; nil: nothing
	Schedule *Schedule     // nil: nothing
	Cancel   []Cancel
	Notices  []Notice
	Wake     time.Time // when to call Next again at the latest; zero: after the next input
}

// The back-off after failures: doubling from the first to the longest pause, less up to half of it.
const (
	firstPause   = 500 * time.Millisecond
	longestPause = 30 * time.Second
)

// smallestEvent is the least that MaxBytes falls to when the bus refuses an event as too large.
const smallestEvent = 8 << 10

// batch is what is in flight.
type batch struct {
	events   []event.Event
	at       time.Time
	observed time.Time // when the oldest change in it became known; zero: it holds none
	sure     bool      // what the receiver held before it was known
	snapshot bool
	farewell bool
}

// Machine is the publisher of one epoch. It has one owner; it is not safe for concurrent use.
type Machine struct {
	cfg Config
	rib View

	ready      bool
	seq        uint64
	known      bool
	baseDigest route.Digest
	differ     map[netip.Prefix]rib.Value

	first, last time.Time // of the changes that no batch holds; zero: there are none
	flight      *batch    // nil: none
	accepted    bool      // a batch was accepted in this epoch
	failures    int       // in a row
	failing     time.Time // since when; zero: not
	retry       time.Time // not before this
	snapshotAt  time.Time // of the next periodic one

	report   reports
	switches deadman
	farewell farewell
}

// farewell is how this agent ends.
type farewell struct {
	kind   event.Kind // Draining or Goodbye; 0: it does not
	reason string
	said   bool // accepted by the bus
}

// New returns a machine that says nothing before Ready.
func New(cfg Config, view View) *Machine {
	return &Machine{cfg: cfg, rib: view, switches: deadman{every: cfg.Beat.Every, timeout: cfg.Beat.Timeout, restart: cfg.Restart}}
}

// Ready says that the RIB is complete: a snapshot withdraws nothing that is merely not known yet.
func (m *Machine) Ready(now time.Time) {
	if !m.ready {
		m.ready = true
		m.switches.start(now)
		m.touch(now)
	}
}

// Changed says what changed in the RIB, in order. The RIB holds the changes already.
func (m *Machine) Changed(now time.Time, changes []rib.Change) {
	if len(changes) == 0 || !m.ready {
		return
	}
	m.touch(now)
	if !m.known {
		return
	}
	if m.differ == nil {
		m.differ = map[netip.Prefix]rib.Value{}
	}
	for _, c := range changes {
		if _, ok := m.differ[c.Prefix]; !ok {
			m.differ[c.Prefix] = c.Was
		}
		if m.differ[c.Prefix] == c.Is {
			delete(m.differ, c.Prefix)
		}
	}
	if len(m.differ) == 0 {
		m.first, m.last = time.Time{}, time.Time{}
	}
}

func (m *Machine) touch(now time.Time) {
	if m.first.IsZero() {
		m.first = now
	}
	m.last = now
}

// Published says what became of the batch in flight: accepted, or err, after which it may have been accepted or not.
func (m *Machine) Published(now time.Time, err error) {
	b := m.flight
	if b == nil {
		panic("publish: Published without a batch in flight")
	}
	m.flight = nil
	if err != nil {
		m.failed(now, b, err)
		return
	}
	m.accepted = true
	m.failures, m.failing, m.retry = 0, time.Time{}, time.Time{}
	m.farewell.said = m.farewell.said || b.farewell
	m.switches.spoke(b.events[len(b.events)-1].Beat)
	if b.snapshot {
		m.snapshotAt = b.at.Add(m.period())
	}
}

func (m *Machine) failed(now time.Time, b *batch, err error) {
	m.known = false
	m.differ = nil
	if !b.observed.IsZero() {
		m.first = b.observed
	}
	if m.failures == 0 {
		m.failing = now
	}
	m.failures++
	m.retry = now.Add(m.pause(err, m.failures))
	if fault.Is(err, fault.Poison) {
		m.cfg.MaxBytes = max(m.cfg.MaxBytes/2, smallestEvent)
	}
}

// pause returns how long to wait after the given number of failures in a row. The jitter depends on Boot, so that agents
// which fail together do not come back together.
func (m *Machine) pause(err error, failures int) time.Duration {
	pause := longestPause
	if doublings := failures - 1; doublings < 6 && !fault.Is(err, fault.Denied) {
		pause = firstPause << doublings
	}
	pause -= time.Duration(float64(pause/2) * m.fraction("pause", failures))
	return max(pause, fault.RetryAfter(err))
}

// period is the time between periodic snapshots: Snapshot give or take a tenth.
func (m *Machine) period() time.Duration {
	return time.Duration(float64(m.cfg.Snapshot) * (0.9 + 0.2*m.fraction("snapshot", 0)))
}

// fraction returns a number in [0, 1) that is fixed by Boot, the purpose and n.
func (m *Machine) fraction(purpose string, n int) float64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(m.cfg.Boot + "/" + purpose + "/" + strconv.Itoa(n)))
	return float64(h.Sum64()%(1<<20)) / (1 << 20)
}

// Scheduled says what became of a Schedule: its sequence number, or err.
func (m *Machine) Scheduled(now time.Time, s Schedule, sequence int64, err error) {
	m.switches.scheduled(now, s, sequence, err, m.pause)
}

// Cancelled says what became of a Cancel.
func (m *Machine) Cancelled(now time.Time, c Cancel, err error) { m.switches.cancelled(now, c, err) }

// Stop ends the agent: kind is event.Draining (the machine goes down: move away) or event.Goodbye (it will be back within
// Restart). The first call counts.
func (m *Machine) Stop(now time.Time, kind event.Kind, reason string) {
	if kind != event.Draining && kind != event.Goodbye {
		panic("publish: Stop with " + kind.String())
	}
	if m.farewell.kind == 0 {
		m.farewell = farewell{kind: kind, reason: reason}
		m.switches.stop(now, kind == event.Goodbye)
	}
}

// Done reports, after Stop, that everything that was to be said is said.
func (m *Machine) Done() bool {
	return m.farewell.kind != 0 && (m.farewell.said || !m.bids()) && m.flight == nil && m.switches.idle()
}

// bids reports whether there is a farewell to say. An agent that never spoke in this epoch has nobody to ask for patience;
// but that its machine goes down is worth knowing in any case.
func (m *Machine) bids() bool { return m.farewell.kind == event.Draining || m.ready }

// Next returns what is to be done now.
func (m *Machine) Next(now time.Time) Effects {
	e := Effects{Notices: m.switches.takeNotices()}
	if s, ok := m.switches.arm(now); ok {
		e.Schedule = m.lastWord(s, now)
	}
	e.Cancel = m.switches.takeCancels()
	due, ok := m.due(now)
	if ok && !now.Before(due) {
		e.Publish = m.speak(now)
		ok = false
	}
	e.Wake = m.switches.due()
	if ok && (e.Wake.IsZero() || due.Before(e.Wake)) {
		e.Wake = due
	}
	return e
}

// lastWord returns the switch with the event that it sends.
func (m *Machine) lastWord(s Schedule, now time.Time) *Schedule {
	s.Event = m.event(event.Expired, now)
	s.Event.Version.Seq, s.Event.Beat = m.seq, s.Beat
	return &s
}

// due returns when the next batch is due; ok is false while there is none to send or one is in flight.
func (m *Machine) due(now time.Time) (at time.Time, ok bool) {
	switch {
	case m.flight != nil:
		return time.Time{}, false
	case m.farewell.kind != 0:
		at, ok = now, m.bids() && !m.farewell.said && m.switches.settled()
	case !m.ready, !m.switches.tried():
		return time.Time{}, false
	case !m.known, m.switches.owesAlive():
		at, ok = now, true
	case m.first.IsZero():
		at, ok = m.snapshotAt, true
	default:
		at, ok = earlier(m.snapshotAt, m.gathered()), true
	}
	if reportAt, owed := m.reportDue(now); ok && owed {
		at = earlier(at, reportAt)
	}
	if at.Before(m.retry) {
		at = m.retry
	}
	return at, ok
}

// gathered returns when the routes that changed have been collected for long enough.
func (m *Machine) gathered() time.Time {
	return earlier(m.last.Add(m.cfg.Gather.Quiet), m.first.Add(m.cfg.Gather.Max))
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// speak puts together the batch that is due and takes it for accepted until Published says otherwise.
func (m *Machine) speak(now time.Time) []event.Event {
	b := &batch{at: now, sure: m.known}
	switch {
	case !m.ready: // only a farewell
	case !m.known || !now.Before(m.snapshotAt):
		b.events, b.observed, b.snapshot = m.snapshot(now), m.first, true
		m.spoken()
	default:
		m.news(now, b)
	}
	if m.farewell.kind != 0 {
		b.events, b.farewell = append(b.events, m.bidFarewell(now)), true
	}
	m.flight = b
	return b.events
}

// spoken takes the RIB for held by the receiver.
func (m *Machine) spoken() {
	m.known, m.differ, m.baseDigest = true, nil, m.rib.Digest()
	m.first, m.last = time.Time{}, time.Time{}
}

// news fills the batch with what the receiver does not hold yet. A report that is due goes alone while routes are still gathered. An event is
// owed in any case, for one with the armed beat outdates a switch that fired.
func (m *Machine) news(now time.Time, b *batch) {
	farewell := m.farewell.kind != 0
	if at, owed := m.reportDue(now); owed && (farewell || !now.Before(at)) {
		b.events = append(b.events, m.witness(now))
	}
	switch changed := len(m.differ) > 0; {
	case changed && (farewell || len(b.events) == 0 || !now.Before(m.gathered())):
		b.events, b.observed = append(b.events, m.delta(now)...), m.first
		m.spoken()
	case len(b.events) == 0 && !farewell:
		b.events = []event.Event{m.next(event.Alive, now)}
	}
}

// snapshot returns the whole RIB under one sequence number. The report stands in the first chunk; that the others leave room for it
// too costs nothing worth counting.
func (m *Machine) snapshot(now time.Time) []event.Event {
	head := m.next(event.Snapshot, now)
	report := m.report.say()
	limit := m.cfg.MaxBytes
	if !report.Empty() {
		limit -= report.Size()
	}
	pieces := event.Split(m.rib.Entries(), limit)
	out := make([]event.Event, len(pieces))
	for i, piece := range pieces {
		out[i] = head
		out[i].Announce, out[i].Chunk = piece, event.Chunk{Index: i, Count: len(pieces)}
	}
	out[0].Report = report
	return out
}

// delta returns the difference of the RIB and base: announcements first, so that a receiver that acts between two events has
// the replacement before the withdrawal.
func (m *Machine) delta(now time.Time) []event.Event {
	changes := m.difference()
	entries := make([]route.Entry, len(changes)) // of a withdrawn prefix too: Split reckons with it
	announced := 0
	for i, c := range changes {
		entries[i] = route.Entry{Prefix: c.Prefix, Attrs: c.Is.Attrs}
		if c.Is.Announced {
			announced = i + 1
		}
	}
	var out []event.Event
	digest, start := m.baseDigest, 0
	for _, piece := range event.Split(entries, m.cfg.MaxBytes) {
		end := start + len(piece)
		for _, c := range changes[start:end] {
			digest = c.Apply(digest)
		}
		e := m.next(event.Delta, now)
		e.Digest = digest
		e.Announce = entries[start:max(start, min(end, announced))]
		for _, c := range changes[max(start, announced):max(end, announced)] {
			e.Withdraw = append(e.Withdraw, c.Prefix)
		}
		out = append(out, e)
		start = end
	}
	return out
}

// difference returns the changes from base to the RIB: first what is announced, in the order of events, then what is gone.
func (m *Machine) difference() []rib.Change {
	out := make([]rib.Change, 0, len(m.differ))
	for p, was := range m.differ {
		out = append(out, rib.Change{Prefix: p, Was: was, Is: m.rib.At(p)})
	}
	slices.SortFunc(out, compareChanges)
	return out
}

func compareChanges(a, b rib.Change) int {
	switch {
	case a.Is.Announced != b.Is.Announced && a.Is.Announced:
		return -1
	case a.Is.Announced != b.Is.Announced:
		return 1
	}
	if c := a.Is.Attrs.Compare(b.Is.Attrs); c != 0 {
		return c
	}
	return route.Compare(a.Prefix, b.Prefix)
}

func (m *Machine) bidFarewell(now time.Time) event.Event {
	e := m.next(m.farewell.kind, now)
	e.Reason = m.farewell.reason
	if e.Kind == event.Goodbye {
		e.Restart = m.cfg.Restart
	}
	return e
}

// next returns an event with the next sequence number.
func (m *Machine) next(kind event.Kind, now time.Time) event.Event {
	m.seq++
	return m.event(kind, now)
}

func (m *Machine) event(kind event.Kind, now time.Time) event.Event {
	e := event.Event{
		Domain: m.cfg.Domain, NVA: m.cfg.NVA, Kind: kind, Version: event.Version{Epoch: m.cfg.Epoch, Seq: m.seq},
		Boot: m.cfg.Boot, Beat: m.switches.armed.Beat, Digest: m.rib.Digest(), Time: now,
	}
	if kind == event.Snapshot || kind == event.Delta {
		e.Observed = m.first
	}
	return e
}

// Status is what health reports and metrics show of a machine.
type Status struct {
	Ready    bool
	Accepted bool      // a batch was accepted in this epoch
	Seq      uint64    // of the newest event
	Pending  int       // prefixes that differ from what is acknowledged or in flight; -1: not known, a snapshot is next
	InFlight int       // events in flight
	Failures int       // batches in a row that failed
	Failing  time.Time // since when they fail; zero: they do not
	Armed    uint64    // beat of the armed switch; 0: none
	Fires    time.Time // when the armed switch fires, by the clock of this machine; zero: none is armed
	Margin   time.Duration
}

// Status returns the state of the machine.
func (m *Machine) Status() Status {
	s := Status{
		Ready: m.ready, Accepted: m.accepted, Seq: m.seq, Pending: len(m.differ), Failures: m.failures, Failing: m.failing,
		Armed: m.switches.armed.Beat, Margin: m.switches.margin,
	}
	if s.Armed != 0 {
		s.Fires = m.switches.armed.At
	}
	if !m.known {
		s.Pending = -1
	}
	if m.flight != nil {
		s.InFlight = len(m.flight.events)
	}
	return s
}

// Acknowledged returns a predicate: whether the receiver is known to hold the RIB's value of a prefix. It is valid until the next
// input.
func (m *Machine) Acknowledged() func(netip.Prefix) bool {
	moving := map[netip.Prefix]struct{}{}
	for p := range m.differ {
		moving[p] = struct{}{}
	}
	unsure := !m.known || m.flight != nil && !m.flight.sure
	if m.flight != nil {
		for _, e := range m.flight.events {
			if e.Kind != event.Delta {
				continue
			}
			for _, a := range e.Announce {
				moving[a.Prefix] = struct{}{}
			}
		}
	}
	return func(p netip.Prefix) bool {
		_, pending := moving[p]
		return !unsure && !pending
	}
}
