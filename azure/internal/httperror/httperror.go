// Package httperror reads what an Azure HTTP service says when it refuses: status, codes and advice on when to come back. azcore
// surfaces the top code only; details[].code, which tells a lock from a quota, stands in the body alone.
package httperror

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// Detail is one element of error.details of the ARM error format.
type Detail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

// Additional is one element of error.additionalInfo; Azure Policy explains itself there.
type Additional struct {
	Type string          `json:"type"`
	Info json.RawMessage `json:"info"`
}

// Error is a refusal as a service worded it, on one line.
// Source: Microsoft REST API guidelines, "Handling errors"; for blobs the x-ms-error-code header.
type Error struct {
	Status     int // of HTTP; 200 for a long-running operation that failed
	Code       string
	Message    string
	Details    []Detail
	Additional []Additional
	RetryAfter time.Duration // zero when no header names one
	cause      *azcore.ResponseError
}

// Error implements error. It never includes a URL's query, where signatures stand.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "HTTP %d", e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + oneLine(e.Message))
	}
	for _, d := range e.Details {
		fmt.Fprintf(&b, " (%s: %s)", d.Code, oneLine(d.Message))
	}
	return b.String()
}

// Unwrap returns the *azcore.ResponseError that was read.
func (e *Error) Unwrap() error { return e.cause }

// Has reports whether the top code or that of a detail is one of codes, compared without case.
func (e *Error) Has(codes ...string) bool {
	for _, code := range codes {
		if strings.EqualFold(e.Code, code) {
			return true
		}
		for _, d := range e.Details {
			if strings.EqualFold(d.Code, code) {
				return true
			}
		}
	}
	return false
}

// Mentions reports whether a message of the error contains text.
func (e *Error) Mentions(text string) bool {
	if strings.Contains(e.Message, text) {
		return true
	}
	for _, d := range e.Details {
		if strings.Contains(d.Message, text) {
			return true
		}
	}
	return false
}

// Specific returns the most telling code: the first detail's, else the top one, else the status.
// A failed operation without a code is OperationFailed.
func (e *Error) Specific() string {
	for _, d := range e.Details {
		if d.Code != "" {
			return d.Code
		}
	}
	if e.Code != "" {
		return e.Code
	}
	if e.Status == http.StatusOK {
		return "OperationFailed"
	}
	return "HTTP " + strconv.Itoa(e.Status)
}

// From returns what a service said, when err is an answer of a service at all.
func From(err error) (*Error, bool) {
	var response *azcore.ResponseError
	if !errors.As(err, &response) {
		return nil, false
	}
	e := &Error{Status: response.StatusCode, Code: response.ErrorCode, cause: response}
	if response.RawResponse == nil {
		return e, true
	}
	e.RetryAfter = RetryAfter(response.RawResponse.Header, time.Now())
	body, readErr := runtime.Payload(response.RawResponse)
	if readErr != nil {
		return e, true // the body was cut off: the status still tells
	}
	e.parse(body)
	return e, true
}

// parse reads the JSON format of ARM, wrapped in "error" or bare, or the XML message of Storage.
func (e *Error) parse(body []byte) {
	type content struct {
		Code       string       `json:"code"`
		Message    string       `json:"message"`
		Details    []Detail     `json:"details"`
		Additional []Additional `json:"additionalInfo"`
	}
	var wrapped struct {
		Error *content `json:"error"`
		content
	}
	if json.Unmarshal(body, &wrapped) != nil {
		_, rest, _ := strings.Cut(string(body), "<Message>")
		e.Message, _, _ = strings.Cut(rest, "</Message>")
		return
	}
	c := &wrapped.content
	if wrapped.Error != nil {
		c = wrapped.Error
	}
	if c.Code != "" {
		e.Code = c.Code
	}
	e.Message, e.Details, e.Additional = c.Message, c.Details, c.Additional
}

// RetryAfter returns how long the headers ask to wait at now, zero when they do not say: retry-after-ms and
// x-ms-retry-after-ms in milliseconds, Retry-After in seconds or as a date (RFC 9110 section 10.2.3).
func RetryAfter(header http.Header, now time.Time) time.Duration {
	for _, name := range [...]string{"retry-after-ms", "x-ms-retry-after-ms"} {
		if ms, err := strconv.Atoi(header.Get(name)); err == nil && ms > 0 {
			return time.Duration(ms) * time.Millisecond
		}
	}
	value := header.Get("Retry-After")
	if seconds, err := strconv.Atoi(value); err == nil {
		return time.Duration(max(seconds, 0)) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// Between returns what stands in text between prefix and the next end, or "".
func Between(text, prefix, end string) string {
	_, rest, found := strings.Cut(text, prefix)
	if !found {
		return ""
	}
	value, _, found := strings.Cut(rest, end)
	if !found {
		return ""
	}
	return value
}

// oneLine keeps a log line one line.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
