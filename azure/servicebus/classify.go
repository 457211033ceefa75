package servicebus

import (
	"context"
	"errors"
	"net/http"
	"strconv"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/Azure/go-amqp"

	"github.com/pointsman/pointsman/shared/fault"
)

// verdict is what an attempt says about the connection that it used.
type verdict uint8

const (
	answered verdict = iota + 1 // the broker answered, or the message never left: keep the connection
	unknown                     // the caller gave up: it says nothing
	broken                      // no answer, or the answer was that the connection or link is gone
)

// Conditions of the service family that AMQP itself does not define. Source: "Service Bus AMQP protocol guide", and the SDK's
// table of recovery kinds.
const (
	condServerBusy     amqp.ErrCond = "com.microsoft:server-busy"
	condEntityDisabled amqp.ErrCond = "com.microsoft:entity-disabled"
)

// judge tells an answer of the broker from a broken connection. An unknown error counts as broken: reconnecting costs a
// second, staying on a dead connection costs everything.
func judge(err error) verdict {
	switch {
	case err == nil, errors.Is(err, azservicebus.ErrMessageTooLarge):
		return answered
	case errors.Is(err, context.Canceled):
		return unknown
	}
	var known *fault.Error
	if errors.As(err, &known) && known.Kind == fault.NotFound {
		return answered
	}
	switch statusOf(err) {
	case http.StatusRequestTimeout, http.StatusInternalServerError, http.StatusServiceUnavailable:
		return answered
	}
	switch conditionOf(err) {
	case condServerBusy, amqp.ErrCondResourceLimitExceeded, amqp.ErrCondMessageSizeExceeded:
		return answered
	}
	return broken
}

// classify gives err its kind. What is not named is Transient.
func classify(err error) error {
	if known, ok := errors.AsType[*fault.Error](err); ok { // a credential's, or Cancel's: keep the kind, say where
		return &fault.Error{Kind: known.Kind, Code: known.Code, Advice: known.Advice, RetryAfter: known.RetryAfter, Err: err}
	}
	if errors.Is(err, azservicebus.ErrMessageTooLarge) {
		return &fault.Error{Kind: fault.Poison, Code: string(amqp.ErrCondMessageSizeExceeded), Err: err}
	}
	if sbErr, ok := errors.AsType[*azservicebus.Error](err); ok {
		return classifyCode(sbErr.Code, err)
	}
	if status := statusOf(err); status != 0 {
		return classifyStatus(status, err)
	}
	return classifyCondition(conditionOf(err), err)
}

func classifyCode(code azservicebus.Code, err error) error {
	e := &fault.Error{Kind: fault.Transient, Code: string(code), Err: err}
	switch code {
	case azservicebus.CodeUnauthorizedAccess:
		return deny(e, adviceUnauthorized)
	case azservicebus.CodeNotFound:
		return deny(e, adviceNoQueue)
	case azservicebus.CodeConnectionLost, azservicebus.CodeLockLost, azservicebus.CodeTimeout, azservicebus.CodeClosed:
	}
	return e
}

func classifyStatus(status int, err error) error {
	kind := fault.Transient
	if status == http.StatusServiceUnavailable {
		kind = fault.Throttled
	}
	return &fault.Error{Kind: kind, Code: "status " + strconv.Itoa(status), Err: err}
}

func classifyCondition(condition amqp.ErrCond, err error) error {
	e := &fault.Error{Kind: fault.Transient, Code: string(condition), Err: err}
	switch condition {
	case amqp.ErrCondUnauthorizedAccess:
		return deny(e, adviceUnauthorized)
	case amqp.ErrCondNotFound:
		return deny(e, adviceNoQueue)
	case condEntityDisabled:
		return deny(e, "set the queue's status back to Active")
	case amqp.ErrCondNotAllowed:
		return deny(e, "make the queue a plain one: without sessions, and with a message size that fits")
	case amqp.ErrCondMessageSizeExceeded:
		e.Kind = fault.Poison
	case amqp.ErrCondResourceLimitExceeded:
		e.Kind = fault.Throttled
		e.Advice = "the queue is full: see why its consumer does not run, or enlarge it"
	case condServerBusy:
		e.Kind = fault.Throttled
	}
	return e
}

const (
	adviceUnauthorized = "give the identity the role Azure Service Bus Data Sender on the queue, or check the key"
	adviceNoQueue      = "create the queue, or correct its name or the namespace"
)

func deny(e *fault.Error, advice string) error {
	e.Kind, e.Advice = fault.Denied, advice
	return e
}

// statusOf returns the status of a refusal by $management or $cbs (its values are those of HTTP), or zero.
func statusOf(err error) int {
	if refusal, ok := errors.AsType[interface {
		RPCCode() int
		error
	}](err); ok {
		return refusal.RPCCode()
	}
	return 0
}

// conditionOf returns the AMQP condition that err carries, or "".
func conditionOf(err error) amqp.ErrCond {
	if amqpErr, ok := errors.AsType[*amqp.Error](err); ok {
		return amqpErr.Condition
	}
	return ""
}
