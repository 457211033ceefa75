package routetable

import (
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"

	"github.com/pointsman/pointsman/azure/internal/httperror"
)

// Call is one HTTP request to Azure Resource Manager: retries and polls are calls of their own, as they count against the limits.
type Call struct {
	Method     string
	Poll       bool // of an operation, not of a table
	Status     int  // zero: no answer
	Elapsed    time.Duration
	RetryAfter time.Duration // zero: not named
	Budgets    []Budget      // what the service says is left, by name
}

// Budget is one x-ms-ratelimit-remaining-NAME header: how many calls of the kind are left to this principal.
// Source: "Understand how Azure Resource Manager throttles requests".
type Budget struct {
	Name string // as subscription-writes, subscription-global-reads
	Left int
}

const budgetPrefix = "X-Ms-Ratelimit-Remaining-" // canonical form, as http.Header keeps it

// observer is a per-retry policy. It keeps the service's figures of what is left, and tells of each call.
type observer struct {
	now    func() time.Time
	onCall func(Call) // may be nil
	meter  *meter
}

// Do implements policy.Policy.
func (o *observer) Do(req *policy.Request) (*http.Response, error) {
	start := o.now()
	response, err := req.Next()
	now := o.now()
	call := Call{
		Method:  req.Raw().Method,
		Poll:    strings.Contains(strings.ToLower(req.Raw().URL.Path), "/operations/"),
		Elapsed: now.Sub(start),
	}
	if err == nil {
		call.Status = response.StatusCode
		call.RetryAfter = httperror.RetryAfter(response.Header, now)
		call.Budgets = budgets(response.Header)
		o.meter.note(req.Raw().URL.Path, call.Budgets, now)
	}
	if o.onCall != nil {
		o.onCall(call)
	}
	return response, err //nolint:wrapcheck // a policy hands the answer on as it is
}

func budgets(header http.Header) []Budget {
	var found []Budget
	for name, values := range header {
		kind, ok := strings.CutPrefix(name, budgetPrefix)
		if !ok || len(values) == 0 {
			continue
		}
		if left, err := strconv.Atoi(values[0]); err == nil {
			found = append(found, Budget{Name: strings.ToLower(kind), Left: left})
		}
	}
	slices.SortFunc(found, func(a, b Budget) int { return strings.Compare(a.Name, b.Name) })
	return found
}
