// Package budget follows how many writes of route tables a subscription has left, and says when a change that is not urgent may draw on them.
//
// Azure counts the writes of a principal in a subscription, and says in each answer how many are left. When they run short, what leaves a dead next hop goes
// first: it is never put off. Everything else waits, by the share of the bucket that is left:
//
//	share          an improvement is written
//	half or more   when it is worth a write
//	below half     and when its turn has come since it began to wait
//	below a fifth  not before a fifth is there again, and then at its turn; the price of a write rises
//
// Turns spread the writes that may come over the time in which the bucket gives that many tokens, so that those who waited for the same thing do not all draw
// at once. The larger the part of its table that a change concerns, the earlier is its turn.
package budget

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"time"
)

// What Azure documents ("Understand how Azure Resource Manager throttles requests"). The network provider's own limit of 1,000 writes in 5 minutes is the
// tighter one in the long run, and no header tells what is left of it: so the bucket is taken to fill at that rate.
const (
	Burst     = 200          // writes that Azure Resource Manager's bucket holds, unless more are seen in it
	PerSecond = 1000.0 / 300 // writes that come back
)

const (
	// Reserve is the share of the bucket that is kept for tables with a dead next hop.
	Reserve = 0.2
	// Short is the share below which improvements take turns, and from which on the other instances are told.
	Short = 0.5
	// step is by how much of the bucket a note must differ from what is known already to be worth a write of the document.
	step = 0.05
	// steepest is the factor of the price when nothing is left.
	steepest = 100
)

// Schema is the version of the document.
const Schema = 1

// Budget is what is known of the writes that are left in one subscription. The zero value knows nothing, and is full.
type Budget struct {
	Schema       int       `json:"schema"`
	Subscription string    `json:"subscription"`
	Capacity     int       `json:"capacity"`       // the most that was ever seen, Burst at least
	Left         int       `json:"left"`           // what the service said was left
	At           time.Time `json:"at,omitzero"`    // when it said so
	Until        time.Time `json:"until,omitzero"` // a quota is used up: the service wants no calls before
}

// New returns the budget of a subscription of which nothing is known.
func New(subscription string) *Budget {
	return &Budget{Schema: Schema, Subscription: subscription, Capacity: Burst}
}

// Said notes what the service said was left. It reports whether that is worth telling the other instances: the bucket is short, or was said to be, and the
// figure is not what they expect.
func (b *Budget) Said(left int, at time.Time) bool {
	if !at.After(b.At) {
		return false
	}
	expected := b.header(at)
	b.Capacity, b.Left, b.At = max(b.Capacity, Burst, left), left, at
	now := b.header(at)
	return min(expected, now) < Short && math.Abs(now-expected) >= step
}

// Refuse notes that a write was refused because a quota is used up: nothing is to be asked for before. It reports whether that is news, to within a second.
func (b *Budget) Refuse(until time.Time) bool {
	if until.Sub(b.Until) < time.Second {
		return false
	}
	b.Until = until
	return true
}

// Share returns how much of the bucket there is, from 0 to 1: by what the service said, and by its last refusal, whichever is less.
func (b *Budget) Share(now time.Time) float64 {
	return min(b.header(now), b.refill(now))
}

// header is the share by what the service said last, and what has come back since.
func (b *Budget) header(now time.Time) float64 {
	if b.At.IsZero() {
		return 1
	}
	return share(float64(b.Left)+PerSecond*now.Sub(b.At).Seconds(), float64(b.Capacity))
}

// refill is the share by the last refusal: it left nothing.
func (b *Budget) refill(now time.Time) float64 {
	if b.Until.IsZero() {
		return 1
	}
	return share(PerSecond*now.Sub(b.Until).Seconds(), Burst)
}

func share(tokens, of float64) float64 { return max(0, min(1, tokens/of)) }

// free returns when there is more than the reserve, if nobody draws.
func (b *Budget) free(now time.Time) time.Time {
	at := now
	if !b.At.IsZero() {
		at = later(at, b.At.Add(seconds((Reserve*float64(b.Capacity)-float64(b.Left))/PerSecond)))
	}
	if !b.Until.IsZero() {
		at = later(at, b.Until.Add(seconds(Reserve*Burst/PerSecond)))
	}
	return at
}

// Price returns by how much the price of a write is raised: 1 above the reserve, 100 when nothing is left, and evenly steep in between.
func (b *Budget) Price(now time.Time) float64 {
	s := b.Share(now)
	if s >= Reserve {
		return 1
	}
	return math.Pow(steepest, (Reserve-s)/Reserve)
}

// Turn is a target's place among those that may want to write in the same subscription.
type Turn struct {
	Name   string    // of the target; the members of a group have one place, under the group's name
	Since  time.Time // when its change began to wait
	Others int       // tables of the subscription that may want to write
	// Part is the weight of the change for each route of the table: 1 is a better path for all of them. The members of a group have the same part.
	Part float64
}

// After returns how long after the others began to wait it is the target's turn. The turns of equal changes are spread evenly over the time in which the bucket gives a token to each.
func (t Turn) After() time.Duration {
	sum := sha256.Sum256([]byte(t.Name))
	place := float64(binary.BigEndian.Uint64(sum[:])>>11) / (1 << 53) // uniform in [0, 1)
	return seconds(float64(t.Others) / PerSecond * min(1, place/max(t.Part, 1e-9)))
}

// Defer says when a change that is not urgent is written, if it is worth a write at fireAt: then, or later.
func (b *Budget) Defer(fireAt time.Time, t Turn, now time.Time) time.Time {
	switch s := b.Share(now); {
	case s >= Short:
		return fireAt
	case s >= Reserve:
		return later(fireAt, t.Since.Add(t.After()))
	}
	return later(fireAt, b.free(now).Add(t.After()))
}

func seconds(s float64) time.Duration { return time.Duration(math.Ceil(s * float64(time.Second))) }

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// Encode returns the document as JSON.
func Encode(b *Budget) ([]byte, error) {
	body, err := json.Marshal(b)
	if err != nil {
		return nil, fmt.Errorf("encode budget of subscription %s: %w", b.Subscription, err)
	}
	return body, nil
}

// Decode reads what Encode wrote.
func Decode(body []byte) (*Budget, error) {
	b := &Budget{}
	if err := json.Unmarshal(body, b); err != nil {
		return nil, fmt.Errorf("budget of a subscription: %w", err)
	}
	if b.Schema != Schema || b.Capacity < Burst || b.Left < 0 {
		return nil, fmt.Errorf("budget of subscription %s has schema %d, capacity %d and %d left: not one of ours", b.Subscription, b.Schema, b.Capacity, b.Left)
	}
	return b, nil
}
