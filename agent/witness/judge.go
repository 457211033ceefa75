package witness

import (
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/event"
)

// Config says how a Judge judges.
type Config struct {
	Test     bool          // there is a self-test; without one every accusation counts, and the report says that there was none
	Every    time.Duration // between two rounds of the self-test
	Fall     int           // rounds in a row that fail until the self-test has failed
	Recovery time.Duration // in which every peer that is well is found again
}

// memory is how many rounds of the self-test are remembered, for methods that say only in hindsight that a peer was missing.
const memory = 32

// pace is the least time between two rounds of the self-test, when a peer has just been lost.
const pace = 200 * time.Millisecond

// Judge decides what is reported. An accusation ("peer b does not answer") is worth something only if the accuser's own packets get out while
// the peer's do not come in. So a loss is reported only after a round of the self-test which began when the peer was missing
// already has passed, at e, and none has failed since; and
//
//   - the peer stayed missing for an Interval after e before it was taken for lost; or
//   - it still is missing when a Recovery has passed since e, for the round may have passed because this machine's own outage had just ended.
//
// Else, once the self-test has failed, the loss is reported together with that, and proves nothing. Good news is reported at once.
//
//	b heard        missing                            lost: accused
//	───┬──────────────┬──────────┬──────────────────────┬──────
//	             self-test       e ── at least an ──────┘
//	             begins          ok   Interval
//
// It does no I/O and has no clock; it has one owner and is not safe for concurrent use.
type Judge struct {
	cfg   Config
	peers []peer // by name

	flying  bool      // a round is under way
	due     time.Time // of the next
	began   time.Time // of the latest; zero: none
	outcome event.Check
	failed  int       // rounds in a row
	clean   time.Time // when the first round passed since the last failure; zero: none has
	passes  []round   // the latest that passed since the last failure
}

// round is one of the self-test.
type round struct{ began, ended time.Time }

type peer struct {
	is      Sight
	told    State // what is reported; Unknown: nothing
	timing  Timing
	accused bool      // the loss is proven
	missing time.Time // since when nothing is heard; zero: it is heard
	lost    time.Time // when is.State became Unreachable
	passed  time.Time // when the first round passed that began after missing, without one that failed since; zero: none has
}

// NewJudge returns a judge that wants its first round of the self-test at now.
func NewJudge(cfg Config, now time.Time) *Judge { return &Judge{cfg: cfg, due: now} }

// Saw takes in what a method of that timing sees.
func (j *Judge) Saw(now time.Time, s Sight, timing Timing) {
	i, found := slices.BinarySearchFunc(j.peers, s.NVA, func(p peer, name string) int { return strings.Compare(p.is.NVA, name) })
	if !found {
		j.peers = slices.Insert(j.peers, i, peer{is: Sight{NVA: s.NVA, State: Unknown}, told: Unknown})
	}
	p := &j.peers[i]
	switch {
	case !s.Missing:
		p.missing, p.passed = time.Time{}, time.Time{}
	case p.missing.IsZero():
		p.missing = now
		if !s.Since.IsZero() {
			p.missing = s.Since
		}
		p.passed = j.passedAfter(p.missing)
	}
	if s.State == Unreachable && p.is.State != Unreachable {
		p.lost = now
	}
	p.is, p.timing = s, timing
	j.hurry(now, p)
}

// passedAfter returns when the first round passed that began after an instant, as far as is remembered; zero: none has.
func (j *Judge) passedAfter(at time.Time) time.Time {
	i := slices.IndexFunc(j.passes, func(r round) bool { return !r.began.Before(at) })
	if i < 0 {
		return time.Time{}
	}
	return j.passes[i].ended
}

// hurry brings the next round forward if a peer needs one.
func (j *Judge) hurry(now time.Time, p *peer) {
	if p.missing.IsZero() || !p.passed.IsZero() || p.accused {
		return
	}
	at := now
	if soonest := j.began.Add(pace); at.Before(soonest) {
		at = soonest
	}
	if at.Before(j.due) {
		j.due = at
	}
}

// Next reports whether a round of the self-test is to be run now, and when to ask again at the latest; zero: after the next input. Every
// round is answered by one call of Tested.
func (j *Judge) Next(now time.Time) (test bool, wake time.Time) {
	if !j.cfg.Test {
		return false, time.Time{}
	}
	if !j.flying && !now.Before(j.due) {
		test, j.flying = true, true
		j.began, j.due = now, now.Add(j.cfg.Every)
	}
	if !j.flying {
		wake = j.due
	}
	for i := range j.peers {
		if p := &j.peers[i]; p.is.State == Unreachable && !p.accused && !p.passed.IsZero() {
			if at := p.passed.Add(p.timing.Recovery); at.After(now) && (wake.IsZero() || at.Before(wake)) {
				wake = at
			}
		}
	}
	return test, wake
}

// Tested takes in how the round under way ended.
func (j *Judge) Tested(now time.Time, ok bool) {
	j.flying = false
	if ok {
		j.pass(now)
	} else {
		j.fail()
	}
	for i := range j.peers {
		j.hurry(now, &j.peers[i])
	}
}

func (j *Judge) pass(now time.Time) {
	j.failed = 0
	if j.clean.IsZero() {
		j.clean = now
	}
	if len(j.passes) == memory {
		j.passes = slices.Delete(j.passes, 0, 1)
	}
	j.passes = append(j.passes, round{began: j.began, ended: now})
	// After a failure the peers need time too: what they look like now is the end of this machine's own outage.
	if j.outcome != event.Failed || now.Sub(j.clean) >= j.cfg.Recovery {
		j.outcome = event.Passed
	}
	for i := range j.peers {
		if p := &j.peers[i]; !p.missing.IsZero() && p.passed.IsZero() && !j.began.Before(p.missing) {
			p.passed = now
		}
	}
}

func (j *Judge) fail() {
	j.failed++
	j.clean, j.passes = time.Time{}, nil
	if j.failed >= j.cfg.Fall {
		j.outcome = event.Failed
	}
	for i := range j.peers {
		j.peers[i].passed = time.Time{}
	}
}

// proven reports whether the loss of a peer is proven now.
func (j *Judge) proven(now time.Time, p *peer) bool {
	return !j.cfg.Test || !p.passed.IsZero() && (p.lost.Sub(p.passed) >= p.timing.Interval || now.Sub(p.passed) >= p.timing.Recovery)
}

// Report returns what is to be reported.
func (j *Judge) Report(now time.Time) event.Report {
	r := event.Report{SelfTest: j.outcome}
	for i := range j.peers {
		p := &j.peers[i]
		p.tell(j.proven(now, p), j.outcome == event.Failed)
		if p.told != Unknown {
			r.Peers = append(r.Peers, event.Peer{NVA: p.is.NVA, Reachable: p.told == Reachable, Deaf: p.is.Deaf})
		}
	}
	return r
}

// tell settles what is reported of a peer. A loss that was reported while the self-test had failed, and is not proven when
// the test passes again, is taken back: nothing is known of that peer.
func (p *peer) tell(proven, failed bool) {
	p.accused = p.is.State == Unreachable && (p.accused || proven)
	switch {
	case p.is.State != Unreachable || p.accused || failed:
		p.told = p.is.State
	case p.told == Unreachable:
		p.told = Unknown
	}
}
