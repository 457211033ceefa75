package ownbody_test

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/streaming"

	"github.com/pointsman/pointsman/azure/internal/ownbody"
)

// early answers before it has read the body, as a service may, and goes on reading the first try's when the second begins.
type early struct {
	bodies []io.Reader
	second []byte
}

// Do implements policy.Transporter.
func (e *early) Do(req *http.Request) (*http.Response, error) {
	e.bodies = append(e.bodies, req.Body)
	if len(e.bodies) == 1 {
		return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody, Request: req}, nil
	}
	first, err := io.ReadAll(e.bodies[0])
	if err == nil {
		e.second, err = io.ReadAll(req.Body)
	}
	if err == nil && !bytes.Equal(first, e.second) {
		err = errors.New("the tries had different bodies")
	}
	return &http.Response{StatusCode: http.StatusOK, Body: http.NoBody, Request: req}, err
}

// A try whose writing has not ended takes nothing from the next one.
func TestOwnBody(t *testing.T) {
	service, text := &early{}, []byte("all of it")
	line := runtime.NewPipeline("test", "1", runtime.PipelineOptions{}, &policy.ClientOptions{
		Transport: service, Retry: policy.RetryOptions{MaxRetries: 1, RetryDelay: time.Nanosecond}, PerRetryPolicies: []policy.Policy{ownbody.Policy{}},
	})
	req, err := runtime.NewRequest(t.Context(), http.MethodPut, "http://127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if err = req.SetBody(streaming.NopCloser(bytes.NewReader(text)), "text/plain"); err != nil {
		t.Fatal(err)
	}
	resp, err := line.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err = resp.Body.Close(); err != nil || resp.StatusCode != http.StatusOK || !bytes.Equal(service.second, text) {
		t.Errorf("%v, %v; the second try sent %q", resp, err, service.second)
	}
}
