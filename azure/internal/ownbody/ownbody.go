// Package ownbody keeps the tries of one request apart.
package ownbody

import (
	"bytes"
	"fmt"
	"io"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
)

// Policy is a per-retry policy that gives every try of a request a body of its own. The SDK's retry policy rewinds the one body that all tries share, and net/http may still
// be reading it: a service that answers before it has read everything does not end the writing. Then two tries would read from one place, and the second would come short.
type Policy struct{}

// Do implements policy.Policy.
func (Policy) Do(req *policy.Request) (*http.Response, error) {
	if raw := req.Raw(); raw.Body != nil {
		text, err := io.ReadAll(raw.Body)
		if err != nil {
			return nil, fmt.Errorf("read the request's body: %w", err)
		}
		raw.Body = io.NopCloser(bytes.NewReader(text))
	}
	return req.Next() //nolint:wrapcheck // a policy hands the answer on as it is
}
