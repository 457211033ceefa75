// Package coalesce decides when a change is worth a write.
//
// A table takes one write at a time, each takes seconds and counts against a quota, and each carries the whole table. So a change waits
// for company until the staleness that has accumulated is worth a write: the deterministic answer to the dynamic TCP acknowledgement
// problem (Dooly, Goldman, Scott 1998), at most twice as dear as knowing the future. Leaving a dead next hop never waits.
package coalesce

import "time"

// Weights of one second in which one prefix is not as desired.
const (
	WeightMissing = 3 // no route yet
	WeightBetter  = 1 // a working route, but not the best one; also a route that is withdrawn everywhere
)

// MinWait is the shortest wait that is worth one: another turn over the bus takes about as long.
const MinWait = 250 * time.Millisecond

// Policy is the domain's price list.
type Policy struct {
	Price float64       // weighted prefix-seconds that are worth a write
	Cap   time.Duration // no change waits longer
}

// Change is what a plan would do, in prefixes.
type Change struct {
	Dead    int // away from a next hop that is not to be used
	Missing int
	Better  int
}

// Urgent reports whether the change is written at once, whatever a write costs.
func (c Change) Urgent() bool { return c.Dead > 0 }

// Weight returns what the change gathers per second while it waits.
func (c Change) Weight() float64 {
	return WeightMissing*float64(c.Missing) + WeightBetter*float64(c.Better)
}

// Account is the staleness that a waiting change has gathered. The zero value is the account of no change.
type Account struct {
	Since   time.Time // when it began to wait
	At      time.Time // when Accrued was computed
	Accrued float64   // weighted prefix-seconds up to At
	Weight  float64   // what it gathers per second from At on
}

// FireAt returns when the change is to be written, given what had been gathered before: now, or later. The account returned
// is to be kept if it is later.
func (p Policy) FireAt(before Account, c Change, now time.Time) (time.Time, Account) {
	after := Account{Since: before.Since, At: now, Accrued: before.Accrued, Weight: c.Weight()}
	if before.Since.IsZero() {
		after.Since = now
	} else if gap := now.Sub(before.At); gap > 0 {
		after.Accrued += before.Weight * gap.Seconds()
	}
	limit := after.Since.Add(p.Cap)
	if c.Urgent() || after.Weight == 0 || after.Accrued >= p.Price || !now.Before(limit) {
		return now, after
	}
	wait := time.Duration((p.Price - after.Accrued) / after.Weight * float64(time.Second))
	if fire := now.Add(wait); fire.Before(limit) {
		return fire, after
	}
	return limit, after
}
