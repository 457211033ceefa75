package publish

import (
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/event"
)

// reportGap is the least time between two witness events, so that a peer that flaps costs at most two events a second. The first is
// said at once; what changes within the gap is said at its end, if it still differs then.
const reportGap = 500 * time.Millisecond

// reports follows the one report that is in force. Like a prefix it has a value that the agent sees and one that the receiver holds; unlike
// a prefix it does not wait for company.
type reports struct {
	is   event.Report
	told event.Report // held by the receiver once the batch in flight is accepted; means nothing while that is not known
	from time.Time    // since when they differ; zero: they do not
	last time.Time    // when the latest witness event was put together; zero: never
}

func (r *reports) see(now time.Time, is event.Report) {
	r.is = is
	switch {
	case is.Equal(r.told):
		r.from = time.Time{}
	case r.from.IsZero():
		r.from = now
	}
}

// due returns when the report wants to be said; ok is false while the receiver holds it.
func (r *reports) due(now time.Time) (at time.Time, ok bool) {
	if r.is.Equal(r.told) {
		return time.Time{}, false
	}
	if at = r.last.Add(reportGap); r.last.IsZero() || at.Before(now) {
		return now, true
	}
	return at, true
}

// reassures reports whether the report takes back a doubt about the routes, and does nothing else.
func (r *reports) reassures() bool {
	rest := r.is
	rest.ControlLost = r.told.ControlLost
	return rest.Equal(r.told) && slices.ContainsFunc(r.told.ControlLost, func(s event.Session) bool { return !slices.ContainsFunc(r.is.ControlLost, s.Equal) })
}

// say takes the report for held by the receiver.
func (r *reports) say() event.Report {
	r.told, r.from = r.is, time.Time{}
	return r.is
}

// Reported says what the agent has found out about its NVA and its peers. Peers are in order of their names and not changed
// afterwards.
func (m *Machine) Reported(now time.Time, r event.Report) { m.report.see(now, r) }

// reportDue returns when the report wants to be said. One that takes back a doubt about the routes waits for those that are still gathered, so that the routes
// of before are not taken for those of now.
func (m *Machine) reportDue(now time.Time) (at time.Time, owed bool) {
	at, owed = m.report.due(now)
	if owed && !m.first.IsZero() && m.report.reassures() && at.Before(m.gathered()) {
		at = m.gathered()
	}
	return at, owed
}

// witness returns the event that says the report. It stands before the routes of its batch, so it carries the digest of what was said
// before them.
func (m *Machine) witness(now time.Time) event.Event {
	e := m.next(event.Witness, now)
	e.Digest, e.Observed, e.Report = m.baseDigest, m.report.from, m.report.say()
	m.report.last = now
	return e
}
