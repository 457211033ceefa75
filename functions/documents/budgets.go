package documents

import (
	"context"

	"github.com/pointsman/pointsman/shared/budget"
)

// Budget returns what is known of the writes that are left in a subscription, and the document's ETag; a new one with an empty ETag where there is none. A document that
// cannot be understood counts as a new one: it is advice, and the next note replaces it.
func (s *Store) Budget(ctx context.Context, subscription string) (*budget.Budget, string, error) {
	fresh := func() *budget.Budget { return budget.New(subscription) }
	decode := func(body []byte) (*budget.Budget, error) {
		b, err := budget.Decode(body)
		if err != nil {
			return fresh(), nil //nolint:nilerr // as the comment says
		}
		return b, nil
	}
	return read(ctx, s, budgetFile(subscription), "budget of subscription "+subscription, fromText(decode), fresh)
}

// SaveBudget writes the document if it still has that ETag and returns the new one.
func (s *Store) SaveBudget(ctx context.Context, b *budget.Budget, etag string) (string, error) {
	return save(ctx, s, budgetFile(b.Subscription), "budget of subscription "+b.Subscription, b, budget.Encode, etag)
}

func budgetFile(subscription string) string { return "budgets/" + subscription + ".json" }
