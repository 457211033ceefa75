package kernel

import "time"

// doubt is when the shadow table may differ from the kernel without an event to say so, and hence when to dump: after
// quiet without a new reason, but at most limit after the first one.
//
//	reason   reason reason          dump
//	  |--------|------|----quiet-----|
//	  |<--------------- limit -------------->|
type doubt struct {
	quiet, limit time.Duration
	first, last  time.Time // zero: no doubt
}

func (d *doubt) raise(now time.Time) {
	if d.first.IsZero() {
		d.first = now
	}
	d.last = now
}

func (d *doubt) clear() { d.first, d.last = time.Time{}, time.Time{} }

// due returns when to dump; ok is false if there is no doubt.
func (d *doubt) due() (at time.Time, ok bool) {
	if d.first.IsZero() {
		return time.Time{}, false
	}
	at = d.last.Add(d.quiet)
	if end := d.first.Add(d.limit); end.Before(at) {
		at = end
	}
	return at, true
}
