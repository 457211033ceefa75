package fault_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
)

func TestKindSurvivesWrapping(t *testing.T) {
	cause := errors.New("connection reset")
	inner := &fault.Error{Kind: fault.Throttled, Code: "TooManyRequests", RetryAfter: 7 * time.Second, Err: cause}
	err := fmt.Errorf("put table a: %w", fmt.Errorf("attempt 2: %w", inner))
	if got := fault.KindOf(err); got != fault.Throttled {
		t.Errorf("KindOf = %s", got)
	}
	if !fault.Is(err, fault.Throttled) || fault.Is(err, fault.Conflict) {
		t.Error("Is disagrees with KindOf")
	}
	if fault.Code(err) != "TooManyRequests" || fault.RetryAfter(err) != 7*time.Second {
		t.Errorf("Code %q, RetryAfter %v", fault.Code(err), fault.RetryAfter(err))
	}
	if !errors.Is(err, cause) {
		t.Error("the cause is lost")
	}
}

func TestErrorWithoutKindIsTransient(t *testing.T) {
	err := errors.New("unexpected EOF")
	if fault.KindOf(err) != fault.Transient || fault.Code(err) != "" || fault.RetryAfter(err) != 0 {
		t.Errorf("%s %q %v", fault.KindOf(err), fault.Code(err), fault.RetryAfter(err))
	}
	if fault.Is(nil, fault.Transient) {
		t.Error("nil is of a kind")
	}
}

func TestErrorText(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fault.New(fault.Denied, "table %s is locked", "a"), "table a is locked"},
		{fault.New(fault.Denied, "table %s is locked", "a").WithAdvice("remove lock %s", "l"), "table a is locked: remove lock l"},
		{&fault.Error{Kind: fault.NotFound}, "not-found"},
	} {
		if tt.err.Error() != tt.want {
			t.Errorf("got %q, want %q", tt.err, tt.want)
		}
	}
}

func TestKindNames(t *testing.T) {
	want := []string{"kind-0", "transient", "throttled", "conflict", "not-found", "poison", "denied", "refused", "bug", "kind-9"}
	for i, name := range want {
		if got := fault.Kind(i).String(); got != name {
			t.Errorf("kind %d is %q, want %q", i, got, name)
		}
	}
}
