// Package fault gives every error that crosses a seam one of a closed set of kinds, so that what follows from an
// error is decided in one place.
package fault

import (
	"errors"
	"fmt"
	"time"
)

// Kind says what an error means for the work in hand.
type Kind uint8

// The kinds. An error without a kind counts as Transient: trying again is safe because every effect is idempotent.
const (
	Transient Kind = iota + 1 // the other side, or the way there, is in trouble: try again with back-off
	Throttled                 // asked to wait: try again after RetryAfter
	Conflict                  // somebody else changed it first: read again, decide again
	NotFound                  // the object does not exist
	Poison                    // this input can never be used: park it with its reason
	Denied                    // a right, a lock or a policy forbids it: only a person can change that
	Refused                   // a limit or a guard of ours forbids it: keep what is installed and say so
	Bug                       // a state that must not occur
)

// String returns the kind's name as metrics and Status show it.
func (k Kind) String() string {
	switch k {
	case Transient:
		return "transient"
	case Throttled:
		return "throttled"
	case Conflict:
		return "conflict"
	case NotFound:
		return "not-found"
	case Poison:
		return "poison"
	case Denied:
		return "denied"
	case Refused:
		return "refused"
	case Bug:
		return "bug"
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// CodeBusy is the code of a Throttled error that means: another operation holds this very object, wait for it. Every other
// Throttled error is a quota. It is Azure's own code for the most frequent case.
const CodeBusy = "RetryableErrorDueToAnotherOperation"

// CodeNoECMP is the code of a Refused error that means: this table takes no route with several next hops. Not every region does.
const CodeNoECMP = "EcmpRefused"

// Error is an error with a kind. Advice tells the operator what to do about it, in one sentence.
type Error struct {
	Kind       Kind
	Code       string // the service's own code, for metrics ("ScopeLocked"); may be empty
	Advice     string
	RetryAfter time.Duration // with Throttled; zero when the service named none
	Err        error
}

// Error implements error.
func (e *Error) Error() string {
	text := e.Kind.String()
	if e.Err != nil {
		text = e.Err.Error()
	}
	if e.Advice != "" {
		text += ": " + e.Advice
	}
	return text
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// New makes an error of the kind, formatted as fmt.Errorf does.
func New(kind Kind, format string, args ...any) *Error {
	return &Error{Kind: kind, Err: fmt.Errorf(format, args...)}
}

// WithAdvice adds what the operator can do and returns the same error.
func (e *Error) WithAdvice(format string, args ...any) *Error {
	e.Advice = fmt.Sprintf(format, args...)
	return e
}

// KindOf returns the kind of err: Transient where it has none. It must not be called with nil.
func KindOf(err error) Kind {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Kind
	}
	return Transient
}

// Is reports whether err is of the kind; a nil error is of none.
func Is(err error, kind Kind) bool { return err != nil && KindOf(err) == kind }

// Code returns the service's code that err carries, or "".
func Code(err error) string {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return ""
}

// RetryAfter returns how long err asks to wait; zero when it does not say.
func RetryAfter(err error) time.Duration {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.RetryAfter
	}
	return 0
}
