package drift

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
)

// notice is what an event of Azure's says.
type notice struct {
	ID        string
	Type      string
	At        time.Time
	Resource  string // ARM resource id
	Operation string // "Microsoft.Network/routeTables/write"; only ARM says
	By        string // for people
	appID     string
	objectID  string
}

// known reports whether the type says that a resource was changed. Actions (POST) change no routes; failures and cancellations have changed
// nothing, or are followed by another event.
//
// Sources: "Azure resource group as an Event Grid source" and "Azure Resource Notifications - Resources events".
func (n notice) known() bool {
	return slices.Contains([]string{
		"Microsoft.Resources.ResourceWriteSuccess", "Microsoft.Resources.ResourceDeleteSuccess",
		"Microsoft.ResourceNotifications.Resources.CreatedOrUpdated", "Microsoft.ResourceNotifications.Resources.Deleted",
	}, n.Type)
}

// hand is the event as the document of a target remembers it.
func (n notice) hand() outcome.Hand {
	return outcome.Hand{Event: n.ID, At: n.At, By: n.By, Operation: n.Operation, Resource: n.Resource}
}

// wire is an event in either schema of Event Grid: its own, or CloudEvents 1.0.
type wire struct {
	ID        string          `json:"id"`
	Subject   string          `json:"subject"`
	EventType string          `json:"eventType"`
	EventTime time.Time       `json:"eventTime"`
	Type      string          `json:"type"`
	Time      time.Time       `json:"time"`
	Data      json.RawMessage `json:"data"`
}

// changed is the data of both publishers: ARM's system events and Azure Resource Notifications.
type changed struct {
	OperationName string         `json:"operationName"`
	ResourceURI   string         `json:"resourceUri"`
	Claims        map[string]any `json:"claims"`
	ResourceInfo  struct {
		ID string `json:"id"`
	} `json:"resourceInfo"`
	OperationalInfo struct {
		At time.Time `json:"resourceEventTime"`
	} `json:"operationalInfo"`
}

// The claims that name the caller. Source: "Microsoft identity platform access tokens" and the names that ARM gives them.
const (
	claimObject = "http://schemas.microsoft.com/identity/claims/objectidentifier"
	claimUPN    = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn"
	claimName   = "http://schemas.xmlsoap.org/ws/2005/05/identity/claims/name"
)

// Bounds of what is kept of an event, in bytes: of a name, and of an id.
const (
	maxBy   = 200
	maxText = 1024
)

// decode reads an event. Every error is Poison.
func decode(body []byte) (notice, error) {
	var w wire
	if err := json.Unmarshal(body, &w); err != nil {
		return notice{}, fault.New(fault.Poison, "event is not the JSON that Event Grid sends: %w", err)
	}
	n := notice{ID: w.ID, Type: cmp.Or(w.EventType, w.Type), At: w.EventTime}
	if n.At.IsZero() {
		n.At = w.Time
	}
	if n.ID == "" || len(n.ID) > maxText || n.Type == "" {
		return notice{}, fault.New(fault.Poison, "event has id %.40q and type %.40q: want both, the id of at most %d bytes", n.ID, n.Type, maxText)
	}
	if !n.known() {
		return n, nil // its data may be of any form
	}
	var d changed
	if err := json.Unmarshal(w.Data, &d); err != nil {
		return notice{}, fault.New(fault.Poison, "event %s of type %s: data: %w", n.ID, n.Type, err)
	}
	if n.At.IsZero() {
		n.At = d.OperationalInfo.At
	}
	n.Resource, n.Operation = cmp.Or(d.ResourceURI, d.ResourceInfo.ID, w.Subject), d.OperationName
	if !strings.HasPrefix(n.Resource, "/") || len(n.Resource) > maxText {
		return notice{}, fault.New(fault.Poison, "event %s of type %s is about %.80q: want an ARM resource id in data.resourceUri, data.resourceInfo.id or subject", n.ID, n.Type, n.Resource)
	}
	n.appID, n.objectID = d.claim("appid"), d.claim(claimObject)
	n.By = cmp.Or(d.claim(claimUPN), d.claim("unique_name"), d.claim(claimName), d.claim("name"), n.appID, n.objectID)
	n.By = strings.ToValidUTF8(n.By[:min(len(n.By), maxBy)], "")
	return n, nil
}

// claim returns a claim of the caller's token, "" where it is missing or no text.
func (d changed) claim(name string) string {
	text, _ := d.Claims[name].(string)
	return text
}

// fingerprint names an event that has no usable id.
func fingerprint(body []byte) string {
	sum := sha256.Sum256(body)
	return hex.EncodeToString(sum[:16])
}
