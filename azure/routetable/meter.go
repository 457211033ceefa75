package routetable

import (
	"strings"
	"sync"
	"time"
)

// writesLeft is the budget of this principal's writes in one subscription; subscription-global-writes is that of all principals, fifteen times as large.
const writesLeft = "subscription-writes"

// meter remembers what the service said last was left, by subscription.
type meter struct {
	mu     sync.Mutex
	writes map[string]reading
}

type reading struct {
	left int
	at   time.Time
}

// note keeps what an answer of that time says about the subscription in whose path the request went.
func (m *meter) note(path string, budgets []Budget, at time.Time) {
	for _, b := range budgets {
		if b.Name != writesLeft {
			continue
		}
		m.mu.Lock()
		if key := subscriptionIn(path); !at.Before(m.writes[key].at) {
			m.writes[key] = reading{max(0, b.Left), at}
		}
		m.mu.Unlock()
	}
}

// Writes returns how many writes the service said were left to this principal in the subscription, and when; known is false before the first answer to a write. Other
// processes draw on the same budget.
func (c *Client) Writes(subscription string) (left int, at time.Time, known bool) {
	c.meter.mu.Lock()
	defer c.meter.mu.Unlock()
	r, known := c.meter.writes[strings.ToLower(subscription)]
	return r.left, r.at, known
}

// subscriptionIn returns the subscription of a path such as /subscriptions/ID/resourceGroups/…, in lower case.
func subscriptionIn(path string) string {
	parts := strings.SplitN(strings.ToLower(strings.TrimPrefix(path, "/")), "/", 3)
	if len(parts) < 2 || parts[0] != "subscriptions" {
		return ""
	}
	return parts[1]
}
