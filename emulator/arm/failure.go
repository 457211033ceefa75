package arm

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// failure is an answer in ARM's error shape: {"error":{"code","message","target"?,"details"?}}.
type failure struct {
	status  int
	code    string
	message string
	target  string
	details []detail // nil: left out, as ARM's gateway does; empty: [], as the network provider does
	header  http.Header
}

type detail struct {
	Code    string `json:"code"`
	Message string `json:"message"`
}

type errorBody struct {
	Code    string    `json:"code"`
	Message string    `json:"message"`
	Target  string    `json:"target,omitempty"`
	Details *[]detail `json:"details,omitempty"`
}

func (f *failure) body() errorBody {
	body := errorBody{Code: f.code, Message: f.message, Target: f.target}
	if f.details != nil {
		body.Details = &f.details
	}
	return body
}

func (f *failure) response() response {
	header := f.header
	if header == nil {
		header = http.Header{}
	}
	return response{status: f.status, header: header, body: encode(map[string]errorBody{"error": f.body()})}
}

func gateway(status int, code, format string, args ...any) *failure {
	return &failure{
		status:  status,
		code:    code,
		message: fmt.Sprintf(format, args...),
		header:  http.Header{"X-Ms-Failure-Cause": {"gateway"}},
	}
}

// provider is a failure of Microsoft.Network itself.
func provider(status int, code, format string, args ...any) *failure {
	return &failure{status: status, code: code, message: fmt.Sprintf(format, args...), details: []detail{}}
}

func noResource(id resourceID) *failure {
	return gateway(http.StatusNotFound, "ResourceNotFound",
		"The Resource '%s/%s' under resource group '%s' was not found. For more details please go to https://aka.ms/ARMResourceNotFoundFix",
		id.kind(), id.name(), id.group())
}

func noChild(id resourceID) *failure {
	return provider(http.StatusNotFound, "NotFound", "Resource %s not found.", id)
}

func noParent(id resourceID) *failure {
	return gateway(http.StatusNotFound, "ParentResourceNotFound",
		"Can not perform requested operation on nested resource. Parent resource '%s' not found.", id.name())
}

func noGroup(name string) *failure {
	return gateway(http.StatusNotFound, "ResourceGroupNotFound", "Resource group '%s' could not be found.", name)
}

func etagMismatch(id resourceID, given, actual string) *failure {
	f := provider(http.StatusPreconditionFailed, "PreconditionFailed", "Precondition failed.")
	f.details = []detail{{
		"PreconditionFailedEtagMismatch",
		fmt.Sprintf("Etag provided in if-match header %s does not match etag %s of resource %s in NRP data store.", given, actual, id),
	}}
	return f
}

func busyRetryable(id resourceID, operation string, wait time.Duration) *failure {
	f := provider(http.StatusTooManyRequests, "RetryableError", "A retryable error occurred.")
	f.details = []detail{{
		"RetryableErrorDueToAnotherOperation",
		fmt.Sprintf("Operation %s is updating resource %s. The call can be retried in %d seconds.", operation, id, seconds(wait)),
	}}
	f.header = retryAfter(wait)
	return f
}

func busyConflict(url string) *failure {
	return provider(http.StatusConflict, "AnotherOperationInProgress",
		"Another operation on this or dependent resource is in progress. To retrieve status of the operation use uri: %s.", url)
}

func missingToken() *failure {
	f := gateway(http.StatusUnauthorized, "AuthenticationFailed", "Authentication failed. The 'Authorization' header is missing.")
	f.header.Set("WWW-Authenticate", `Bearer authorization_uri="https://login.windows.net/", error="invalid_token", `+
		`error_description="The authentication failed because of missing 'Authorization' header."`)
	return f
}

func badToken() *failure {
	f := gateway(http.StatusUnauthorized, "InvalidAuthenticationToken", "The access token is invalid.")
	f.header.Set("WWW-Authenticate", `Bearer authorization_uri="https://login.windows.net/", error="invalid_token", `+
		`error_description="The access token is invalid."`)
	return f
}

func forbidden(principal, action string, id resourceID) *failure {
	return gateway(http.StatusForbidden, "AuthorizationFailed",
		"The client '%s' with object id '%s' does not have authorization to perform action '%s' over scope '%s' or the scope is invalid. "+
			"If access was recently granted, please refresh your credentials.", principal, principal, action, id)
}

func locked(id resourceID, verb, scope string) *failure {
	return gateway(http.StatusConflict, "ScopeLocked",
		"The scope '%s' cannot perform %s operation because following scope(s) are locked: '%s'. Please remove the lock and try again.",
		id, verb, scope)
}

func disallowed(id resourceID) *failure {
	f := gateway(http.StatusForbidden, "RequestDisallowedByPolicy",
		`Resource '%s' was disallowed by policy. Policy identifiers: '[{"policyAssignment":{"name":"emulated","id":"%s"},`+
			`"policyDefinition":{"name":"emulated","id":"%s"}}]'.`, id.name(),
		"/providers/Microsoft.Authorization/policyAssignments/emulated", "/providers/Microsoft.Authorization/policyDefinitions/emulated")
	f.target = id.name()
	return f
}

func throttled(subscription, principal, class string, wait time.Duration) *failure {
	f := gateway(http.StatusTooManyRequests, "SubscriptionRequestsThrottled",
		"Number of '%s' requests for subscription '%s' actor '%s' exceeded. Please try again after '%d' seconds.",
		class, subscription, principal, seconds(wait))
	f.header.Set("Retry-After", strconv.Itoa(seconds(wait)))
	return f
}

// windowFull is the network provider's own quota; its code is not documented.
func windowFull(subscription, location string, wait time.Duration) *failure {
	f := provider(http.StatusTooManyRequests, "TooManyRequests",
		"The number of requests for subscription %s in %s has exceeded the limit. Please try again after '%d' seconds.",
		subscription, location, seconds(wait))
	f.header = retryAfter(wait)
	return f
}

func retryAfter(wait time.Duration) http.Header {
	return http.Header{"Retry-After": {strconv.Itoa(seconds(wait))}}
}

// seconds rounds up to whole seconds, at least 1: a Retry-After of 0 counts as absent.
func seconds(d time.Duration) int {
	return max(1, int((d+time.Second-1)/time.Second))
}

// quoteETag brings an If-Match value into the form that the provider's messages show: invalid -> W/"invalid".
func quoteETag(etag string) string {
	return `W/"` + strings.Trim(strings.TrimPrefix(strings.TrimSpace(etag), "W/"), `"`) + `"`
}
