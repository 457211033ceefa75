package arm

import (
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// Notification returns the event that Azure Resource Manager publishes through Event Grid about a change that is done, in Event Grid's own schema;
// nil for an Event that is none: a write that was accepted and has not ended, or did not succeed.
//
// Whether ARM publishes when a write is accepted or when its operation has ended is not documented; this is the end. It says who and what, but
// neither the ETag nor the routes. Source: "Azure resource group as an Event Grid source".
func (e Event) Notification() json.RawMessage {
	done := e.Kind == OperationSucceeded || e.Kind == TableSeeded || e.Kind == PeerSeeded || e.Kind == WriteAccepted && e.Operation == ""
	if !done {
		return nil
	}
	id := parseID(e.Resource)
	kind, verb := "Microsoft.Resources.ResourceWriteSuccess", http.MethodPut
	if strings.HasSuffix(e.Action, "/delete") {
		kind, verb = "Microsoft.Resources.ResourceDeleteSuccess", http.MethodDelete
	}
	body, err := json.Marshal(map[string]any{
		"id": newGUID(), "topic": "/subscriptions/" + id.subscription(), "subject": e.Resource, "eventType": kind,
		"eventTime": e.At.UTC().Format(time.RFC3339Nano), "dataVersion": "2", "metadataVersion": "1",
		"data": map[string]any{
			"authorization": map[string]string{"scope": e.Resource, "action": e.Action}, "operationName": e.Action, "resourceUri": e.Resource,
			"claims": map[string]string{
				"appid": e.Principal, "http://schemas.microsoft.com/identity/claims/objectidentifier": e.Principal,
			},
			"correlationId": newGUID(), "httpRequest": map[string]string{"method": verb}, "resourceProvider": "Microsoft.Network",
			"status": "Succeeded", "subscriptionId": id.subscription(), "tenantId": "local",
		},
	})
	if err != nil {
		panic("arm: a notification that cannot be encoded: " + err.Error())
	}
	return body
}

// action returns the operation that a request is, as rights and notifications name it: Microsoft.Network/routeTables/routes/write.
func action(r request) string {
	if r.method == http.MethodPost && strings.HasPrefix(r.id.pattern(), peerPattern+"/") { // …/bgpConnections/learnedRoutes/action
		return r.id.kind() + "/action"
	}
	return r.id.kind() + "/" + verb(r.method)
}
