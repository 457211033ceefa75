// Package armfault gives what Azure Resource Manager answers one of the kinds of shared/fault, with advice.
package armfault

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/shared/fault"
)

// Object is what the calls are about, for the advice.
type Object struct {
	Noun   string // "route table"
	Action string // the right that a write needs: "Microsoft.Network/routeTables/write"
	AtMost string // what to do where a limit is reached
}

// Unanswered keeps the kind of a credential's error; everything else that is no answer of the service is Transient.
func Unanswered(err error) error {
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return &fault.Error{Kind: known.Kind, Code: known.Code, Advice: known.Advice, Err: err}
	}
	return &fault.Error{Kind: fault.Transient, Err: err}
}

// Decide gives a refusal its kind. It goes by code where Azure documents one, because the same failure comes with different statuses (400, 409, 429, or 200 with a
// failed operation), then by status.
func (o Object) Decide(e *httperror.Error) *fault.Error {
	if f := o.ByCode(e); f != nil {
		return f
	}
	switch {
	case e.Status == http.StatusPreconditionFailed:
		return &fault.Error{Kind: fault.Conflict}
	case e.Status == http.StatusTooManyRequests:
		return &fault.Error{Kind: fault.Throttled, RetryAfter: Wait(e)}
	case e.Status == http.StatusUnauthorized:
		return denied("check that the identity exists, belongs to the subscription's tenant, and that this machine's clock is right")
	case e.Status == http.StatusForbidden:
		return denied("give the identity a role that may read and write the %s", o.Noun)
	case e.Status == http.StatusNotFound:
		return &fault.Error{Kind: fault.NotFound, Advice: "create the " + o.Noun + ", or correct the target's id"}
	case e.Status == http.StatusConflict:
		return &fault.Error{Kind: fault.Conflict, RetryAfter: Wait(e)}
	case e.Status == http.StatusRequestTimeout, e.Status >= http.StatusInternalServerError, e.Status < http.StatusBadRequest:
		return &fault.Error{Kind: fault.Transient, RetryAfter: Wait(e)}
	}
	return &fault.Error{Kind: fault.Refused} // a 4xx is never repeated blindly
}

// ByCode returns nil for a code that says no more than its status.
func (o Object) ByCode(e *httperror.Error) *fault.Error {
	switch {
	case e.Has("CanceledAndSupersededDueToAnotherOperation") || e.Mentions("CanceledAndSupersededDueToAnotherOperation"):
		return &fault.Error{Kind: fault.Conflict, Code: "CanceledAndSupersededDueToAnotherOperation"}
	case e.Has(fault.CodeBusy, "ReferencedResourceNotProvisioned", "AnotherOperationInProgress", "RetryableError"):
		return &fault.Error{Kind: fault.Throttled, Code: fault.CodeBusy, RetryAfter: Wait(e)}
	case e.Has("Canceled", "OperationPreempted"):
		return &fault.Error{Kind: fault.Conflict}
	case e.Has("ScopeLocked"):
		return denied("remove the lock %s, or take the %s out of the domain", o.lockOf(e), o.Noun)
	case e.Has("RequestDisallowedByPolicy"):
		return denied("Azure Policy %s forbids this: exempt the %s from it", policyOf(e), o.Noun)
	case e.Has("LinkedAuthorizationFailed"):
		return denied("give the identity %s on %s", orUnknown(httperror.Between(e.Message, "permission to perform action '", "' on the linked"), "the action that the message names"),
			orUnknown(httperror.Between(e.Message, "linked scope(s) '", "'"), "the linked resource"))
	case e.Has("AuthorizationFailed"):
		return denied("give object id %s a role with %s on %s, such as Pointsman's own; a new assignment takes some minutes",
			orUnknown(httperror.Between(e.Message, "with object id '", "'"), "of this identity"),
			orUnknown(httperror.Between(e.Message, "perform action '", "'"), o.Action),
			orUnknown(httperror.Between(e.Message, "over scope '", "'"), "the "+o.Noun))
	case e.Has("MissingSubscriptionRegistration"):
		return denied("register the resource provider Microsoft.Network in the subscription")
	case e.Has("ReadOnlyDisabledSubscription", "SubscriptionNotRegistered", "DisallowedOperation"):
		return denied("the subscription does not allow writes: see its state")
	case e.Has("ResourceGroupNotFound", "SubscriptionNotFound", "ResourceNotFound", "ParentResourceNotFound"):
		return &fault.Error{Kind: fault.NotFound, Advice: "create the " + o.Noun + ", or correct the target's id"}
	case e.Has("RouteConflict"):
		return &fault.Error{Kind: fault.Refused, Advice: "two routes of the table have one prefix: remove one of them"}
	case isLimit(e):
		return &fault.Error{Kind: fault.Refused, Advice: o.AtMost}
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

// Wait returns what the service asks for in the header or, as locks do, in words: "The call can be retried in 11 seconds." and
// "Please try again after '10' seconds."
func Wait(e *httperror.Error) time.Duration {
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

func (o Object) lockOf(e *httperror.Error) string {
	return orUnknown(httperror.Between(e.Message, "scope(s) are locked: '", "'"), "on the "+o.Noun+" or its resource group")
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
