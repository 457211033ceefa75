package httperror_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/pointsman/pointsman/azure/internal/httperror"
)

func refusal(status int, body string) error {
	return fmt.Errorf("wrapped: %w", runtime.NewResponseError(&http.Response{
		StatusCode: status, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body)),
	}))
}

func TestFrom(t *testing.T) {
	for _, tt := range []struct {
		name, body, specific, text string
	}{
		{"wrapped", `{"error":{"code":"A","message":"two\n lines","details":[{"code":"B","message":"b"}]}}`, "B", "HTTP 400 A: two lines (B: b)"},
		{"bare", `{"code":"A","message":"m"}`, "A", "HTTP 400 A: m"},
		{"storage", `<?xml version="1.0"?><Error><Code>A</Code><Message>m</Message></Error>`, "A", "HTTP 400 A: m"},
		{"page", "<html>", "HTTP 400", "HTTP 400"},
		{"empty", "", "HTTP 400", "HTTP 400"},
		{"details of another type", `{"error":{"code":"A","details":"none"}}`, "A", "HTTP 400 A"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			e, ok := httperror.From(refusal(400, tt.body))
			if !ok || e.Specific() != tt.specific || e.Error() != tt.text {
				t.Errorf("%q, %q", e.Specific(), e)
			}
			if _, kept := errors.AsType[*azcore.ResponseError](e); !kept {
				t.Error("the cause is lost")
			}
		})
	}
	if _, ok := httperror.From(io.EOF); ok {
		t.Error("no answer taken for one")
	}
}

func TestRetryAfter(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	for _, tt := range []struct {
		name, value string
		want        time.Duration
	}{
		{"Retry-After", "7", 7 * time.Second},
		{"Retry-After", "-7", 0},
		{"Retry-After", "soon", 0},
		{"Retry-After", "Fri, 02 Jan 2026 03:05:05 GMT", time.Minute},
		{"Retry-After", "Fri, 02 Jan 2026 03:04:00 GMT", 0},
		{"Retry-After-Ms", "250", 250 * time.Millisecond},
		{"X-Ms-Retry-After-Ms", "250", 250 * time.Millisecond},
	} {
		if got := httperror.RetryAfter(http.Header{tt.name: {tt.value}}, now); got != tt.want {
			t.Errorf("%s: %s = %s, want %s", tt.name, tt.value, got, tt.want)
		}
	}
}

func TestBetween(t *testing.T) {
	for _, tt := range []struct{ text, want string }{{"over scope '/t' or", "/t"}, {"over scope '/t", ""}, {"none", ""}} {
		if got := httperror.Between(tt.text, "over scope '", "'"); got != tt.want {
			t.Errorf("%q: %q", tt.text, got)
		}
	}
}
