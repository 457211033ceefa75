package routetable

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"

	"github.com/pointsman/pointsman/shared/fault"
)

const tableID = "/subscriptions/11111111-1111-1111-1111-111111111111/resourceGroups/net/providers/Microsoft.Network/routeTables/spoke"

// The bodies are those of recorded exchanges and of Azure's documentation, with the ids replaced.
func TestClassify(t *testing.T) {
	const (
		another = `{"error":{"code":"RetryableError","message":"A retryable error occurred.","details":[{"code":"RetryableErrorDueToAnotherOperation","message":"Operation DeleteRouteOperation is updating resource /x. The call can be retried in 11 seconds."}]}}`
		notProv = `{"error":{"code":"RetryableError","message":"A retryable error occurred.","details":[{"code":"ReferencedResourceNotProvisioned","message":"Cannot proceed with operation because resource /x is not in Succeeded state."}]}}`
		quota   = `{"error":{"code":"SubscriptionRequestsThrottled","message":"Number of 'write' requests for subscription 's' actor 'o' exceeded. Please try again after '10' seconds."}}`
		hub     = `{"error":{"code":"AnotherOperationInProgress","message":"Another operation on this or dependent resource is in progress."}}`
		etag    = `{"error":{"code":"PreconditionFailed","message":"Precondition failed.","details":[{"code":"PreconditionFailedEtagMismatch","message":"Etag provided in if-match header does not match."}]}}`
		locked  = `{"error":{"code":"ScopeLocked","message":"The scope '/t' cannot perform write operation because following scope(s) are locked: '/subscriptions/s/resourceGroups/net'. Please remove the lock and try again."}}`
		role    = `{"error":{"code":"AuthorizationFailed","message":"The client 'c' with object id 'oid-7' does not have authorization to perform action 'Microsoft.Network/routeTables/write' over scope '/subscriptions/s/t' or the scope is invalid."}}`
		linked  = `{"error":{"code":"LinkedAuthorizationFailed","message":"The client has permission to perform action 'Microsoft.Network/virtualNetworks/subnets/write' on scope 'a'; however, it does not have permission to perform action 'Microsoft.Network/routeTables/join/action' on the linked scope(s) '/t' or the linked scope(s) are invalid."}}`
		policed = `{"error":{"code":"RequestDisallowedByPolicy","target":"spoke","message":"Resource 'spoke' was disallowed by policy. Policy identifiers: '[{\"policyAssignment\":{\"name\":\"no-internet-routes\",\"id\":\"/p\"}}]'."}}`
		info    = `{"error":{"code":"RequestDisallowedByPolicy","message":"no","additionalInfo":[{"type":"PolicyViolation","info":{"policyDefinitionDisplayName":"Deny","policyAssignmentName":"assignment-3"}}]}}`
		missing = `{"error":{"code":"ResourceNotFound","message":"The Resource 'Microsoft.Network/routeTables/spoke' under resource group 'net' was not found."}}`
		noGroup = `{"error":{"code":"ResourceGroupNotFound","message":"Resource group 'net' could not be found."}}`
		double  = `{"error":{"code":"RouteConflict","message":"Route: a conflicts with Route: b. Routes cannot have the same AddressPrefix.","details":[]}}`
		limit   = `{"error":{"code":"RouteTableRouteLimitExceeded","message":"too many"}}`
		super   = `{"status":"Canceled","error":{"code":"CanceledAndSupersededDueToAnotherOperation","message":"Operation was canceled."}}`
		failed  = `{"status":"Failed","error":{"code":"InternalServerError","message":"An error occurred."}}`
		expired = `{"error":{"code":"ExpiredAuthenticationToken","message":"The access token expiry UTC time is earlier than now."}}`
	)
	for _, tt := range []struct {
		name       string
		status     int
		body       string
		retryAfter string
		kind       fault.Kind
		code       string
		wait       time.Duration
		advice     string // a part of it
	}{
		{"lock, seconds in words", 429, another, "", fault.Throttled, CodeBusy, 11 * time.Second, ""},
		{"lock, header first", 429, another, "3", fault.Throttled, CodeBusy, 3 * time.Second, ""},
		{"lock of a subnet", 429, notProv, "", fault.Throttled, CodeBusy, 0, ""},
		{"lock of a hub", 409, hub, "10", fault.Throttled, CodeBusy, 10 * time.Second, ""},
		{"lock with 400", 400, hub, "", fault.Throttled, CodeBusy, 0, ""},
		{"quota, seconds in words", 429, quota, "", fault.Throttled, "SubscriptionRequestsThrottled", 10 * time.Second, ""},
		{"quota, header", 429, quota, "77", fault.Throttled, "SubscriptionRequestsThrottled", 77 * time.Second, ""},
		{"quota without a body", 429, "", "5", fault.Throttled, "HTTP 429", 5 * time.Second, ""},
		{"somebody was first", 412, etag, "", fault.Conflict, "PreconditionFailedEtagMismatch", 0, ""},
		{"lock of a person", 409, locked, "", fault.Denied, "ScopeLocked", 0, "remove the lock /subscriptions/s/resourceGroups/net"},
		{"no role", 403, role, "", fault.Denied, "AuthorizationFailed", 0, "object id oid-7 a role with Microsoft.Network/routeTables/write on /subscriptions/s/t"},
		{"no linked right", 403, linked, "", fault.Denied, "LinkedAuthorizationFailed", 0, "Microsoft.Network/routeTables/join/action on /t"},
		{"policy in the message", 403, policed, "", fault.Denied, "RequestDisallowedByPolicy", 0, "no-internet-routes"},
		{"policy in additionalInfo", 403, info, "", fault.Denied, "RequestDisallowedByPolicy", 0, "assignment-3 Deny"},
		{"403 without a code", 403, "", "", fault.Denied, "HTTP 403", 0, "role"},
		{"expired token", 401, expired, "", fault.Denied, "ExpiredAuthenticationToken", 0, "clock"},
		{"no table", 404, missing, "", fault.NotFound, "ResourceNotFound", 0, "create the route table"},
		{"no group", 404, noGroup, "", fault.NotFound, "ResourceGroupNotFound", 0, "create the route table"},
		{"prefix twice", 400, double, "", fault.Refused, "RouteConflict", 0, "one prefix"},
		{"limit", 400, limit, "", fault.Refused, "RouteTableRouteLimitExceeded", 0, "limit"},
		{"any other 400", 400, `{"error":{"code":"InvalidRequestFormat","message":"m"}}`, "", fault.Refused, "InvalidRequestFormat", 0, ""},
		{"superseded operation", 200, super, "", fault.Conflict, "CanceledAndSupersededDueToAnotherOperation", 0, ""},
		{"failed operation", 200, failed, "", fault.Transient, "InternalServerError", 0, ""},
		{"failed operation without an error", 200, `{"status":"Failed"}`, "", fault.Transient, "OperationFailed", 0, ""},
		{"failed operation with a limit", 200, `{"status":"Failed","error":{"code":"RouteTableRouteLimitExceeded","message":"m"}}`, "", fault.Refused, "RouteTableRouteLimitExceeded", 0, "limit"},
		{"gateway", 502, "<html>bad gateway</html>", "", fault.Transient, "HTTP 502", 0, ""},
		{"busy service", 503, `{"error":{"code":"ServerTimeout","message":"m"}}`, "4", fault.Transient, "ServerTimeout", 4 * time.Second, ""},
		{"timeout", 408, "", "", fault.Transient, "HTTP 408", 0, ""},
		{"other conflict", 409, `{"error":{"code":"Conflict","message":"m"}}`, "", fault.Conflict, "Conflict", 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			header := http.Header{}
			if tt.retryAfter != "" {
				header.Set("Retry-After", tt.retryAfter)
			}
			refusal := runtime.NewResponseError(&http.Response{
				StatusCode: tt.status, Status: http.StatusText(tt.status), Header: header,
				Body: io.NopCloser(strings.NewReader(tt.body)),
			})
			err := classify("write", tableID, refusal)
			if got := fault.KindOf(err); got != tt.kind {
				t.Errorf("kind = %s, want %s: %v", got, tt.kind, err)
			}
			if got := fault.Code(err); got != tt.code {
				t.Errorf("code = %q, want %q", got, tt.code)
			}
			if got := fault.RetryAfter(err); got != tt.wait {
				t.Errorf("retry after %s, want %s", got, tt.wait)
			}
			if !strings.Contains(err.Error(), tt.advice) {
				t.Errorf("%q lacks the advice %q", err, tt.advice)
			}
			if strings.Contains(err.Error(), "\n") || !strings.Contains(err.Error(), "routeTables/spoke") {
				t.Errorf("not one line that names the table: %q", err)
			}
		})
	}
}

func TestClassifyNoAnswer(t *testing.T) {
	if err := classify("read", tableID, io.ErrUnexpectedEOF); fault.KindOf(err) != fault.Transient {
		t.Errorf("dropped connection: %s", fault.KindOf(err))
	}
	credential := &fault.Error{Kind: fault.Denied, Code: "AuthenticationFailed", Advice: "sign in", Err: errors.New("no token")}
	err := classify("read", tableID, credential)
	if fault.KindOf(err) != fault.Denied || fault.Code(err) != "AuthenticationFailed" {
		t.Errorf("credential: kind %s, code %s", fault.KindOf(err), fault.Code(err))
	}
}

func TestClassifyPollNeverBlamesTheTable(t *testing.T) {
	for _, status := range []int{400, 403, 404, 412, 429, 500} {
		err := classifyPoll(tableID, runtime.NewResponseError(&http.Response{StatusCode: status, Body: http.NoBody}))
		if got := fault.KindOf(err); got != fault.Transient {
			t.Errorf("%d: kind %s", status, got)
		}
		if (err.Advice != "") != (status == 403) {
			t.Errorf("%d: advice %q", status, err.Advice)
		}
	}
}
