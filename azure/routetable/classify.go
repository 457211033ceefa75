package routetable

import (
	"fmt"
	"net/http"

	"github.com/pointsman/pointsman/azure/internal/armfault"
	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
)

// Codes that callers tell apart with fault.Code; all others are Azure's own.
const (
	// CodeBusy is Throttled because another operation holds this table: wait for it, for this table only. Every other Throttled
	// is a quota of the subscription or of the principal. It is Azure's own code for the most frequent case.
	CodeBusy = fault.CodeBusy
	// CodeNoECMP is Refused because of the routes with several next hops in the write; Azure's own code stands in the text.
	CodeNoECMP = fault.CodeNoECMP
	// CodeUnknownField is Refused because a write would lose what a newer API put into the table.
	CodeUnknownField = "UnknownField"
)

// classify gives a failure its kind and names the table. The decision goes by code where Azure documents one, because the same
// failure comes with different statuses (409, 429, or 200 with a failed operation), then by status.
func classify(verb, id string, err error) error {
	e, ok := httperror.From(err)
	if !ok {
		return armfault.Unanswered(fmt.Errorf("route table %s: %s: %w", id, verb, err))
	}
	f := decide(e)
	if f.Code == "" {
		f.Code = e.Specific()
	}
	f.Err = fmt.Errorf("route table %s: %s: %w", id, verb, e)
	return f
}

// classifyWrite is classify for a PUT with the edit in it. How Azure refuses routes with several next hops, where its region or API version
// has none, is not documented. So it counts as that if the edit has such routes and the answer either names them, or is a refusal that says
// nothing else: the writer will try with one next hop each, and will learn whether it was that.
func classifyWrite(id string, edit plan.Edit, err error) error {
	e, ok := httperror.From(err)
	if !ok || !edit.ECMP() || table().ByCode(e) != nil {
		return classify("write", id, err)
	}
	named := e.Mentions(string(plan.VirtualApplianceECMP))
	if kind := decide(e).Kind; kind != fault.Refused && (!named || kind != fault.Transient) { // an operation that failed is Transient
		return classify("write", id, err)
	}
	return (&fault.Error{Kind: fault.Refused, Code: CodeNoECMP, Err: fmt.Errorf("route table %s: write: %w", id, e)}).
		WithAdvice("Azure takes no route with several next hops in this table, so each gets one; it is tried again once a day and when the domain file changes")
}

// classifyPoll is classify for a failed poll: the write was accepted, and whatever the status is, it says nothing about the table.
func classifyPoll(id string, err error) *fault.Error {
	f := &fault.Error{Kind: fault.Transient}
	if e, ok := httperror.From(err); ok {
		f.Code, f.RetryAfter = e.Specific(), armfault.Wait(e)
		if e.Status == http.StatusForbidden {
			f.Advice = "give the identity Microsoft.Network/locations/operations/read, or writes cannot be followed to their end"
		}
		err = e
	}
	f.Err = fmt.Errorf("route table %s: the write was accepted, its end not seen: %w", id, err)
	return f
}

// table is what the calls are about.
func table() armfault.Object {
	return armfault.Object{
		Noun: "route table", Action: "Microsoft.Network/routeTables/write",
		AtMost: "the table or the subscription is at its limit: aggregate prefixes, or have the limit raised",
	}
}

func decide(e *httperror.Error) *fault.Error { return table().Decide(e) }
