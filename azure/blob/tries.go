package blob

import (
	"context"
	"net/http"
	"sync/atomic"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// tries counts how often the SDK sent one request.
type tries struct{ n atomic.Int32 }

func (t *tries) count() int { return int(t.n.Load()) }

type triesKey struct{}

func withTries(ctx context.Context) (context.Context, *tries) {
	t := &tries{}
	return context.WithValue(ctx, triesKey{}, t), t
}

// countTries is a per-retry policy: it sees every try of a request whose context was made by withTries.
type countTries struct{}

// Do implements policy.Policy.
func (countTries) Do(req *policy.Request) (*http.Response, error) {
	if t, ok := req.Raw().Context().Value(triesKey{}).(*tries); ok {
		t.n.Add(1)
	}
	return req.Next() //nolint:wrapcheck // a policy hands the answer on as it is
}
