package blob

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"

	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/shared/fault"
)

// isNoContainer reports whether err says that the container does not exist. A HEAD has no body, and the code is then in the
// header alone.
func isNoContainer(err error) bool {
	e, ok := httperror.From(err)
	return ok && e.Status == http.StatusNotFound && (e.Code == "" || e.Has(string(bloberror.ContainerNotFound), string(bloberror.ResourceNotFound)))
}

// classify gives a failure its kind and names the object. Source of the codes: "Blob service error codes".
func (s *Store) classify(verb, name string, err error) error {
	object := "blob " + s.name + "/" + name
	if name == "" {
		object = "blob container " + s.name
	}
	e, ok := httperror.From(err)
	if !ok {
		return unanswered(fmt.Errorf("%s: %s: %w", object, verb, err))
	}
	f := s.kind(e)
	f.Code = e.Specific()
	f.Err = fmt.Errorf("%s: %s: %w", object, verb, e)
	return f
}

// unanswered keeps the kind of a credential's error; everything else that is no answer of the service is Transient.
func unanswered(err error) error {
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return &fault.Error{Kind: known.Kind, Code: known.Code, Advice: known.Advice, Err: err}
	}
	return &fault.Error{Kind: fault.Transient, Err: err}
}

func (s *Store) kind(e *httperror.Error) *fault.Error {
	switch {
	case e.Has(string(bloberror.ContainerNotFound)):
		return &fault.Error{Kind: fault.Denied, Advice: fmt.Sprintf("create the container %s in the storage account", s.name)}
	case e.Has(string(bloberror.BlockCountExceedsLimit)):
		return &fault.Error{Kind: fault.Refused, Advice: "an append blob takes 50,000 blocks: start another"}
	case e.Has(string(bloberror.AccountIsDisabled)):
		return &fault.Error{Kind: fault.Denied, Advice: "enable the storage account"}
	}
	switch e.Status {
	case http.StatusNotFound:
		return &fault.Error{Kind: fault.NotFound}
	case http.StatusPreconditionFailed:
		return &fault.Error{Kind: fault.Conflict}
	case http.StatusConflict:
		return conflict(e)
	case http.StatusUnauthorized, http.StatusForbidden:
		return &fault.Error{Kind: fault.Denied, Advice: advice(e)}
	case http.StatusRequestEntityTooLarge:
		return &fault.Error{Kind: fault.Poison}
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		return &fault.Error{Kind: fault.Throttled, RetryAfter: e.RetryAfter}
	}
	if e.Status >= http.StatusBadRequest && e.Status < http.StatusInternalServerError && e.Status != http.StatusRequestTimeout {
		return &fault.Error{Kind: fault.Bug} // a request that the service does not understand
	}
	return &fault.Error{Kind: fault.Transient, RetryAfter: e.RetryAfter}
}

// conflict tells "it exists already" from states of the account that pass, and from a blob of another type.
func conflict(e *httperror.Error) *fault.Error {
	switch {
	case e.Has(string(bloberror.InvalidBlobType)):
		return &fault.Error{Kind: fault.Denied, Advice: "a blob of another type has this name: delete it"}
	case e.Has(string(bloberror.ContainerBeingDeleted), string(bloberror.ResourceTypeMismatch)):
		return &fault.Error{Kind: fault.Transient}
	}
	return &fault.Error{Kind: fault.Conflict}
}

// advice says what to do about a 401 or 403.
func advice(e *httperror.Error) string {
	switch {
	case e.Has(string(bloberror.AuthenticationFailed), string(bloberror.InvalidAuthenticationInfo)):
		return "check the key or the identity, and this machine's clock"
	case e.Has(string(bloberror.AuthorizationFailure)):
		return "let this network through the storage account's firewall, or give the identity the role Storage Blob Data Contributor"
	case e.Has("KeyBasedAuthenticationNotPermitted"):
		return "the storage account forbids keys: use an identity"
	}
	return "give the identity the role Storage Blob Data Contributor on the container"
}
