package publish

import (
	"fmt"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
)

// Schedule asks for a dead-man switch: deliver Event at At unless it is cancelled before.
type Schedule struct {
	Event event.Event
	At    time.Time // the wall clock counts: the broker compares it with its own
	Beat  uint64
	Began time.Time     // when it was asked for
	After time.Duration // At - Began
}

// Cancel asks for a switch to be taken back, because a later one is armed.
type Cancel struct {
	Sequence int64 // the broker's number of the scheduled message
	Beat     uint64
	Began    time.Time // when the switch was asked for
}

// NoticeKind says what a Notice is about.
type NoticeKind uint8

// The kinds of notice.
const (
	SwitchFired  NoticeKind = iota + 1 // a switch fired although the agent lives: the way to the bus stalled
	MarginRaised                       // and it fired before its time, for our clock is behind: switches are now set later by Margin
)

// String returns the name of the kind as metrics show it.
func (k NoticeKind) String() string {
	switch k {
	case SwitchFired:
		return "switch-fired"
	case MarginRaised:
		return "margin-raised"
	}
	return fmt.Sprintf("notice-%d", uint8(k))
}

// Notice is something that an operator should know.
type Notice struct {
	Kind   NoticeKind
	Beat   uint64        // the switch that fired
	After  time.Duration // how long after its arming it was found fired
	Margin time.Duration // in force from now on
}

// longestMargin bounds how far a clock may be behind before the dead-man switch gives up allowing for it.
const longestMargin = 10 * time.Minute

// deadman keeps exactly one dead-man switch armed: it arms the next and then cancels the last.
//
//	beat      1          2          3
//	       arm ────────────────×           × cancelled once the next is confirmed
//	                  arm ─────────────────×
//	                             arm ────────────────▶ fires if nobody arms a fourth
//
// A receiver takes the NVA for silent iff the highest beat that fired is not below the highest beat that any other event of
// the NVA carried. So a switch that may still fire, or has fired, while the agent lives (an orphan: its arming or cancelling was not
// confirmed) is harmless once an event with a higher beat was accepted. Three numbers say it all:
//
//	armed   the switch that guards now
//	orphan  the highest other switch that may fire or has fired
//	said    the highest beat that an accepted event carried
//
//	alive is owed  <=>  said <= orphan < armed
//
// Beats are never used twice: two messages with one ID would be taken for one.
type deadman struct {
	every, timeout, restart time.Duration

	phase  phase
	beat   uint64 // of the newest attempt
	armed  Schedule
	number int64 // the broker's, of armed
	orphan uint64
	said   uint64

	flying   bool      // a Schedule is in flight
	next     time.Time // when the next is due
	failures int       // in a row
	margin   time.Duration

	cancels    []Cancel // to be asked for
	cancelling int      // in flight
	notices    []Notice
}

// phase is where the dead-man switch is in the agent's life.
type phase uint8

const (
	beating phase = iota + 1 // the zero phase is before start
	parting                  // one last switch, which fires when the restart took too long
	resting                  // no more switches
)

func (d *deadman) start(now time.Time) {
	if d.phase == 0 {
		d.phase, d.next = beating, now
	}
}

// stop ends the beating. A goodbye leaves a switch behind that fires after the restart time; otherwise the armed one stays.
func (d *deadman) stop(now time.Time, goodbye bool) {
	if goodbye && d.phase == beating {
		d.phase, d.next = parting, now
		return
	}
	d.phase = resting
}

// tried reports whether the first switch of this epoch is armed, or could not be. Nothing is said before: it would outdate the last epoch's
// switch, and an agent that died then would be missed by nobody. But routes matter more than a switch that cannot be had.
func (d *deadman) tried() bool { return d.armed.Beat != 0 || d.failures > 0 }

// due returns when arm wants to be asked again; zero: not before an input.
func (d *deadman) due() time.Time {
	if d.flying || d.phase != beating && d.phase != parting {
		return time.Time{}
	}
	return d.next
}

// arm returns the next switch if it is due.
func (d *deadman) arm(now time.Time) (Schedule, bool) {
	if due := d.due(); due.IsZero() || now.Before(due) {
		return Schedule{}, false
	}
	d.beat++
	d.flying = true
	s := Schedule{Beat: d.beat, Began: now, After: d.timeout + d.margin}
	if d.phase == parting {
		s.After = d.restart + d.margin
		d.phase = resting
	}
	s.At = now.Add(s.After)
	return s, true
}

func (d *deadman) scheduled(now time.Time, s Schedule, number int64, err error, pause func(error, int) time.Duration) {
	d.flying = false
	if err != nil {
		if !fault.Is(err, fault.Denied) { // then it was not scheduled for certain
			d.orphan = max(d.orphan, s.Beat)
		}
		d.failures++
		if d.phase == beating {
			d.next = now.Add(d.pause(err, pause(err, d.failures)))
		}
		return
	}
	if d.armed.Beat != 0 {
		d.cancels = append(d.cancels, Cancel{Sequence: d.number, Beat: d.armed.Beat, Began: d.armed.Began})
	}
	d.armed, d.number, d.failures = s, number, 0
	if d.phase == beating {
		d.next = s.Began.Add(d.every)
	}
}

// pause shortens a back-off to one beat, for a switch may be armed and must be moved before it fires; where only a person can
// help there is no hurry.
func (d *deadman) pause(err error, backOff time.Duration) time.Duration {
	if fault.Is(err, fault.Denied) {
		return backOff
	}
	return min(backOff, max(d.every, firstPause))
}

// cancelled takes in the answer to a cancel. Only a confirmed one proves that the switch will never fire. NotFound means that it
// fired although the agent lives; if less than the timeout passed, then the broker's clock is ahead of ours by at least the rest.
func (d *deadman) cancelled(now time.Time, c Cancel, err error) {
	d.cancelling--
	if err == nil {
		return
	}
	d.orphan = max(d.orphan, c.Beat)
	if !fault.Is(err, fault.NotFound) {
		return
	}
	n := Notice{Kind: SwitchFired, Beat: c.Beat, After: now.Sub(c.Began)}
	if shortfall := d.timeout - n.After; shortfall > 0 && d.margin < longestMargin {
		d.margin = min(d.margin+shortfall, longestMargin)
		n.Kind = MarginRaised
	}
	n.Margin = d.margin
	d.notices = append(d.notices, n)
}

// spoke notes that an event with this beat was accepted.
func (d *deadman) spoke(beat uint64) { d.said = max(d.said, beat) }

// owesAlive reports whether a switch that fired, or may fire, must be outdated by an event.
func (d *deadman) owesAlive() bool {
	return d.orphan > 0 && d.said <= d.orphan && d.orphan < d.armed.Beat
}

// settled reports whether the beat that a farewell should carry is decided.
func (d *deadman) settled() bool { return d.phase == resting && !d.flying }

// idle reports whether nothing is asked for or in flight.
func (d *deadman) idle() bool { return d.settled() && d.cancelling == 0 && len(d.cancels) == 0 }

func (d *deadman) takeCancels() []Cancel {
	out := d.cancels
	d.cancels = nil
	d.cancelling += len(out)
	return out
}

func (d *deadman) takeNotices() []Notice {
	out := d.notices
	d.notices = nil
	return out
}
