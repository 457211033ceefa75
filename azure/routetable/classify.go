package routetable

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

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
		return unanswered(fmt.Errorf("route table %s: %s: %w", id, verb, err))
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
	if !ok || !edit.ECMP() || decideByCode(e) != nil {
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
		f.Code, f.RetryAfter = e.Specific(), wait(e)
		if e.Status == http.StatusForbidden {
			f.Advice = "give the identity Microsoft.Network/locations/operations/read, or writes cannot be followed to their end"
		}
		err = e
	}
	f.Err = fmt.Errorf("route table %s: the write was accepted, its end not seen: %w", id, err)
	return f
}

// unanswered keeps the kind of a credential's error; everything else that is no answer of the service is Transient.
func unanswered(err error) error {
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return &fault.Error{Kind: known.Kind, Code: known.Code, Advice: known.Advice, Err: err}
	}
	return &fault.Error{Kind: fault.Transient, Err: err}
}

func decide(e *httperror.Error) *fault.Error {
	if f := decideByCode(e); f != nil {
		return f
	}
	switch {
	case e.Status == http.StatusPreconditionFailed:
		return &fault.Error{Kind: fault.Conflict}
	case e.Status == http.StatusTooManyRequests:
		return &fault.Error{Kind: fault.Throttled, RetryAfter: wait(e)}
	case e.Status == http.StatusUnauthorized:
		return denied("check that the identity exists, belongs to the subscription's tenant, and that this machine's clock is right")
	case e.Status == http.StatusForbidden:
		return denied("give the identity a role that may read and write the route table")
	case e.Status == http.StatusNotFound:
		return &fault.Error{Kind: fault.NotFound, Advice: "create the route table, or correct the target's id"}
	case e.Status == http.StatusConflict:
		return &fault.Error{Kind: fault.Conflict, RetryAfter: wait(e)}
	case e.Status == http.StatusRequestTimeout, e.Status >= http.StatusInternalServerError, e.Status < http.StatusBadRequest:
		return &fault.Error{Kind: fault.Transient, RetryAfter: wait(e)}
	}
	return &fault.Error{Kind: fault.Refused} // a 4xx is never repeated blindly
}

// decideByCode returns nil for a code that says no more than its status.
func decideByCode(e *httperror.Error) *fault.Error {
	switch {
	case e.Has("CanceledAndSupersededDueToAnotherOperation") || e.Mentions("CanceledAndSupersededDueToAnotherOperation"):
		return &fault.Error{Kind: fault.Conflict, Code: "CanceledAndSupersededDueToAnotherOperation"}
	case e.Has(CodeBusy, "ReferencedResourceNotProvisioned", "AnotherOperationInProgress", "RetryableError"):
		return &fault.Error{Kind: fault.Throttled, Code: CodeBusy, RetryAfter: wait(e)}
	case e.Has("Canceled", "OperationPreempted"):
		return &fault.Error{Kind: fault.Conflict}
	case e.Has("ScopeLocked"):
		return denied("remove the lock %s, or take the table out of the domain", lockOf(e))
	case e.Has("RequestDisallowedByPolicy"):
		return denied("Azure Policy %s forbids this: exempt the route table from it", policyOf(e))
	case e.Has("LinkedAuthorizationFailed"):
		return denied("give the identity %s on %s", orUnknown(httperror.Between(e.Message, "permission to perform action '", "' on the linked"), "the action that the message names"),
			orUnknown(httperror.Between(e.Message, "linked scope(s) '", "'"), "the linked resource"))
	case e.Has("AuthorizationFailed"):
		return denied("give object id %s a role with %s on %s, such as Pointsman's own; a new assignment takes some minutes",
			orUnknown(httperror.Between(e.Message, "with object id '", "'"), "of this identity"),
			orUnknown(httperror.Between(e.Message, "perform action '", "'"), "Microsoft.Network/routeTables/write"),
			orUnknown(httperror.Between(e.Message, "over scope '", "'"), "the route table"))
	case e.Has("MissingSubscriptionRegistration"):
		return denied("register the resource provider Microsoft.Network in the subscription")
	case e.Has("ReadOnlyDisabledSubscription", "SubscriptionNotRegistered", "DisallowedOperation"):
		return denied("the subscription does not allow writes: see its state")
	case e.Has("ResourceGroupNotFound", "SubscriptionNotFound", "ResourceNotFound"):
		return &fault.Error{Kind: fault.NotFound, Advice: "create the route table, or correct the target's id"}
	case e.Has("RouteConflict"):
		return &fault.Error{Kind: fault.Refused, Advice: "two routes of the table have one prefix: remove one of them"}
	case isLimit(e):
		return &fault.Error{Kind: fault.Refused, Advice: "the table or the subscription is at its limit: aggregate prefixes, or have the limit raised"}
	}
	return nil
}

// isLimit recognises the family of limit codes of Microsoft.Network, as RouteTableRouteLimitExceeded. Quotas of calls come with 429
// and are no limits of this kind.
func isLimit(e *httperror.Error) bool {
	if e.Status == http.StatusTooManyRequests {
		return false
	}
	code := strings.ToLower(e.Specific())
	return strings.Contains(code, "limit") || strings.Contains(code, "quota") || strings.Contains(code, "maxallowed")
}

// wait returns what the service asks for in the header or, as locks do, in words: "The call can be retried in 11 seconds." and
// "Please try again after '10' seconds."
func wait(e *httperror.Error) time.Duration {
	if e.RetryAfter > 0 {
		return e.RetryAfter
	}
	messages := []string{e.Message}
	for _, d := range e.Details {
		messages = append(messages, d.Message)
	}
	for _, message := range messages {
		for _, prefix := range [...]string{"can be retried in ", "try again after '"} {
			text := strings.TrimRight(httperror.Between(message, prefix, " second"), "'")
			if seconds, err := strconv.Atoi(text); err == nil && seconds > 0 {
				return time.Duration(seconds) * time.Second
			}
		}
	}
	return 0
}

func denied(format string, args ...any) *fault.Error {
	return (&fault.Error{Kind: fault.Denied}).WithAdvice(format, args...)
}

func lockOf(e *httperror.Error) string {
	return orUnknown(httperror.Between(e.Message, "scope(s) are locked: '", "'"), "on the table or its resource group")
}

// policyOf names the assignment that forbids: from additionalInfo, or from the identifiers in the message.
func policyOf(e *httperror.Error) string {
	for _, a := range e.Additional {
		var info struct {
			Definition string `json:"policyDefinitionDisplayName"`
			Assignment string `json:"policyAssignmentName"`
		}
		if json.Unmarshal(a.Info, &info) == nil && info.Assignment != "" {
			return strings.TrimSpace(info.Assignment + " " + info.Definition)
		}
	}
	return orUnknown(httperror.Between(e.Message, `"policyAssignment":{"name":"`, `"`), "of this scope")
}

func orUnknown(text, otherwise string) string {
	if text == "" {
		return otherwise
	}
	return text
}
