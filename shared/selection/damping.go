package selection

import (
	"math"
	"time"

	"github.com/pointsman/pointsman/shared/config"
)

// damped returns until when a prefix that was lost at these times, ascending, is kept from returning; zero or past: it is not. The arithmetic of RFC 2439, section
// 4.8: the figure of merit grows with each loss and decays exponentially; a prefix is suppressed from the loss at which it reaches Suppress until it falls
// below Reuse.
func damped(losses []time.Time, d config.Damping) time.Time {
	if d.HalfLife <= 0 || float64(len(losses)*config.LossPenalty) < d.Suppress {
		return time.Time{}
	}
	var (
		merit float64
		at    time.Time
		until time.Time
	)
	for _, t := range losses {
		if !at.IsZero() {
			merit *= math.Exp2(-t.Sub(at).Seconds() / d.HalfLife.Seconds())
		}
		merit, at = min(merit+config.LossPenalty, d.Ceiling), t
		if merit >= d.Suppress || t.Before(until) {
			until = t.Add(time.Duration(math.Log2(merit/d.Reuse) * float64(d.HalfLife)))
		}
	}
	return until
}
