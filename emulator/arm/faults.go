package arm

import (
	"cmp"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// Fault is something that goes wrong with the requests that it matches.
type Fault = web.Fault

// Faults controls what goes wrong. Its methods may be called by several goroutines at once; scopes are ids of resources, groups or
// subscriptions, hold for everything below, and an empty one means everything.
type Faults struct {
	web.Faults

	mu        sync.Mutex
	locks     []string
	denied    []string
	noECMP    []string
	forbidden []rule
}

// rule takes a right away.
type rule struct{ principal, scope, method string }

// Lock puts a read-only lock on scope: writes and deletes answer 409 ScopeLocked.
func (f *Faults) Lock(scope string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locks = append(f.locks, scope)
}

// Unlock removes the lock on scope.
func (f *Faults) Unlock(scope string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locks = slices.DeleteFunc(f.locks, func(lock string) bool { return strings.EqualFold(lock, scope) })
}

// DenyPolicy makes writes in the scopes answer 403 RequestDisallowedByPolicy; deletions are allowed, as by a deny policy.
func (f *Faults) DenyPolicy(scopes ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = append(f.denied, scopes...)
}

// AllowPolicy removes the policies on the scopes.
func (f *Faults) AllowPolicy(scopes ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.denied = slices.DeleteFunc(f.denied, func(scope string) bool { return containsFold(scopes, scope) })
}

// RefuseECMP makes the scopes a region that has no routes with several next hops: writes with one answer 400. Some regions did so
// after the API version that introduced them; the code is not documented.
func (f *Faults) RefuseECMP(scopes ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noECMP = append(f.noECMP, scopes...)
}

// AcceptECMP takes back what RefuseECMP did to the scopes.
func (f *Faults) AcceptECMP(scopes ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noECMP = slices.DeleteFunc(f.noECMP, func(scope string) bool { return containsFold(scopes, scope) })
}

// refuseECMP returns the answer to a write of the table where its region or the request's API version has no routes with several next hops.
func (f *Faults) refuseECMP(version string, t *table) *failure {
	i := slices.IndexFunc(t.routes, func(r route) bool { return r.props.text("nextHopType") == ecmpType })
	if i < 0 {
		return nil
	}
	id := t.id.route(t.routes[i].name)
	if version < ecmpVersion {
		return unknownType(id, ecmpType)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if !slices.ContainsFunc(f.noECMP, t.id.within) {
		return nil
	}
	return provider(http.StatusBadRequest, "NextHopTypeNotSupported", "%s as NextHopType is currently not supported on a Route (%s).", ecmpType, id)
}

// Forbid takes a right away: requests of principal with method in scope answer 403 AuthorizationFailed. An empty principal or method
// means any.
func (f *Faults) Forbid(principal, scope, method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forbidden = append(f.forbidden, rule{principal, scope, method})
}

// Permit gives back a right that Forbid took with the same arguments.
func (f *Faults) Permit(principal, scope, method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.forbidden = slices.DeleteFunc(f.forbidden, func(r rule) bool { return r == rule{principal, scope, method} })
}

// Clear removes everything that was scripted, locked, denied or forbidden, and ends an outage.
func (f *Faults) Clear() {
	f.Faults.Clear()
	f.mu.Lock()
	defer f.mu.Unlock()
	f.locks, f.denied, f.noECMP, f.forbidden = nil, nil, nil, nil
}

// refuse returns the answer to a request that rights, locks or policies forbid, in ARM's order.
func (f *Faults) refuse(r *request) *failure {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, rule := range f.forbidden {
		if rule.matches(r) {
			return forbidden(r.principal, action(*r), r.id)
		}
	}
	if r.method == http.MethodGet || r.method == http.MethodPost { // those that there are only ask
		return nil
	}
	for _, scope := range f.locks {
		if r.id.within(scope) {
			return locked(r.id, verb(r.method), scope)
		}
	}
	if r.method == http.MethodDelete {
		return nil
	}
	if slices.ContainsFunc(f.denied, r.id.within) {
		return disallowed(r.id)
	}
	return nil
}

func (r rule) matches(req *request) bool {
	return (r.principal == "" || r.principal == req.principal) && req.id.within(r.scope) &&
		(r.method == "" || strings.EqualFold(r.method, req.method))
}

// verb is the last part of the action that a method needs.
func verb(method string) string {
	switch method {
	case http.MethodGet, http.MethodPost:
		return "read"
	case http.MethodDelete:
		return "delete"
	}
	return "write"
}

func outcomeOf(f Fault) outcome {
	switch {
	case f.FailOperation:
		return outcomeFailure
	case f.SupersedeOperation:
		return outcomeSuperseded
	}
	return outcomeSuccess
}

// scripted returns what a fault answers.
func scripted(f Fault) response {
	if f.DropConnection {
		return response{}
	}
	answer := provider(f.Status, cmp.Or(f.Code, "Scripted"), "%s", cmp.Or(f.Message, "Scripted failure."))
	if f.DetailCode != "" {
		answer.details = []detail{{f.DetailCode, answer.message}}
	}
	answer.header = f.Header.Clone()
	return answer.response()
}
