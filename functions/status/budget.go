package status

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/config"
)

// Budget is what is known of the writes that are left in a subscription.
type Budget struct {
	Subscription string    `json:"subscription"`
	Share        float64   `json:"share"`          // of the bucket, estimated for now; 1 where nothing is known: a bucket that is not short is not noted
	Until        time.Time `json:"until,omitzero"` // a quota was used up until then
}

func (s *Status) budgets(ctx context.Context, d *config.Domain) ([]Budget, error) {
	var names []string
	for _, t := range d.Targets {
		if name := t.Subscription(); name != "" && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	out := make([]Budget, 0, len(names))
	for _, name := range names {
		b, _, err := s.Store.Budget(ctx, name)
		if err != nil {
			return nil, err
		}
		out = append(out, Budget{Subscription: name, Share: math.Round(b.Share(s.Now())*100) / 100, Until: b.Until})
	}
	return out, nil
}

func (m metrics) budget(domain string, b Budget) {
	m.add("pointsman_subscription_writes_share", "Share of the subscription's writes that is left, estimated; below 0.2 only what leaves a dead next hop is written.", "gauge", b.Share, "domain", domain, "subscription", b.Subscription)
}
