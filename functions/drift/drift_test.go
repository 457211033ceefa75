package drift_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/drift"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

const (
	group  = "/subscriptions/00000000-0000-0000-0000-00000000beef/resourceGroups/hub"
	spokes = group + "/providers/Microsoft.Network/routeTables/spokes"
	hub    = group + "/providers/Microsoft.Network/virtualHubs/rs"
	appID  = "11111111-2222-3333-4444-555555555555"
	object = "99999999-2222-3333-4444-555555555555"
)

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// world is the domains with their targets, the counts, the bus and the parking lot.
type world struct {
	domains  map[string]documents.Domain
	broken   map[string]error
	counts   map[string]uint64
	conflict int
	sent     []wake.Wake
	ids      []string
	parked   []ingest.Parked
	fail     string // what cannot be reached: domains, bus, lot or counts
	log      strings.Builder
}

func newWorld() *world {
	target := func(name, table string) documents.Domain {
		return documents.Domain{Config: &config.Domain{Targets: []config.Target{{Name: name, RouteTable: table}}}}
	}
	return &world{
		counts: map[string]uint64{}, broken: map[string]error{"draft": fault.New(fault.Poison, "not valid")},
		domains: map[string]documents.Domain{"hub": target("spokes", spokes), "edge": target("long", spokes+"-2"), "bgp": {Config: &config.Domain{RouteServers: []config.RouteServer{{Name: "rs", VirtualHub: hub}}}}},
	}
}

func (w *world) failing(what string) error {
	if w.fail == what {
		return errors.New(what + ": connection reset")
	}
	return nil
}

func (w *world) Domains(context.Context) ([]string, error) {
	return append(slices.Sorted(maps.Keys(w.domains)), slices.Sorted(maps.Keys(w.broken))...), w.failing("domains")
}

func (w *world) Domain(_ context.Context, name string) (documents.Domain, error) {
	return w.domains[name], w.broken[name]
}

func (w *world) DriftCounts(context.Context) (*state.DriftCounts, string, error) {
	doc := state.NewDriftCounts()
	maps.Copy(doc.Events, w.counts)
	return doc, "", w.failing("counts")
}

func (w *world) SaveDriftCounts(_ context.Context, doc *state.DriftCounts, _ string) (string, error) {
	if w.conflict > 0 {
		w.conflict--
		return "", fault.New(fault.Conflict, "another ETag")
	}
	w.counts = doc.Events
	return "", nil
}

func (w *world) Send(_ context.Context, wk wake.Wake, at time.Time) error {
	if err := w.failing("bus"); err != nil || !at.IsZero() {
		return cmpOr(err, errors.New("a wake for a hand edit is due at once"))
	}
	w.sent, w.ids = append(w.sent, wk), append(w.ids, wk.ID())
	return nil
}

func cmpOr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

func (w *world) Park(_ context.Context, p ingest.Parked) error {
	if err := w.failing("lot"); err != nil {
		return err
	}
	w.parked = append(w.parked, p)
	return nil
}

func (w *world) handle(t *testing.T, body string) error {
	t.Helper()
	d := &drift.Drift{
		Store: w, Wakes: w, Lot: w, Own: drift.Identity{AppID: appID, ObjectID: object}, Now: noon,
		Log: slog.New(slog.NewTextHandler(&w.log, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	return d.Handle(t.Context(), []byte(body))
}

// written is ARM's event of a write, in Event Grid's own schema.
func written(resource string, claims map[string]string) string {
	body, err := json.Marshal(map[string]any{
		"id": "9aeb0fdf", "topic": group, "subject": resource, "eventType": "Microsoft.Resources.ResourceWriteSuccess", "eventTime": noon(), "dataVersion": "2",
		"data": map[string]any{
			"resourceUri": resource, "operationName": "Microsoft.Network/routeTables/write", "status": "Succeeded", "claims": claims,
			"correlationId": "c", "subscriptionId": "s", "authorization": "{}",
		},
	})
	if err != nil {
		panic(err)
	}
	return string(body)
}

// What becomes of each event, as it is counted.
func TestEvents(t *testing.T) {
	upper := strings.ToUpper(spokes)
	person := map[string]string{"http://schemas.xmlsoap.org/ws/2005/05/identity/claims/upn": "kim@example.org", "appid": "portal"}
	notification := func(kind, id string) string {
		return fmt.Sprintf(`{"id":"n1","source":"/subscriptions/s","subject":%q,"type":"Microsoft.ResourceNotifications.Resources.%s","time":"2026-11-23T12:00:00Z","specversion":"1.0",
		  "data":{"resourceInfo":{"id":%q,"type":"microsoft.network/routetables","properties":{"routes":[]}},"operationalInfo":{"resourceEventTime":"2026-11-23T11:59:59Z"},"apiVersion":"2024-01-01"}}`, id, kind, id)
	}
	for _, tt := range []struct {
		name, body, result string
		wakes              []string
	}{
		{"a person writes the table", written(spokes, person), "woken", []string{"hub/spokes/drift/9aeb0fdf"}},
		{"a person writes a route", written(spokes+"/routes/pointsman-10-1-0-0-16", person), "woken", []string{"hub/spokes/drift/9aeb0fdf"}},
		{"without claims", written(spokes, nil), "woken", []string{"hub/spokes/drift/9aeb0fdf"}},
		{"ids compare without case", written(upper, person), "woken", []string{"hub/spokes/drift/9aeb0fdf"}},
		{"a table whose name begins alike", written(spokes+"-2", person), "woken", []string{"edge/long/drift/9aeb0fdf"}},
		{"a person removes a peer of a Route Server", strings.Replace(written(hub+"/bgpConnections/pointsman-nva-a", person), "ResourceWriteSuccess", "ResourceDeleteSuccess", 1), "woken", []string{"bgp/rs/drift/9aeb0fdf"}},
		{"a table that is nobody's", written(spokes+"-3", person), "other", nil},
		{"another resource", written(group+"/providers/Microsoft.Network/virtualNetworks/v", person), "other", nil},
		{"our own write, by application", written(spokes, map[string]string{"appid": strings.ToUpper(appID)}), "own", nil},
		{"our own write, by object", written(spokes, map[string]string{"http://schemas.microsoft.com/identity/claims/objectidentifier": object}), "own", nil},
		{"the table is deleted", strings.Replace(written(spokes, person), "ResourceWriteSuccess", "ResourceDeleteSuccess", 1), "woken", []string{"hub/spokes/drift/9aeb0fdf"}},
		{"a write that failed", strings.Replace(written(spokes, person), "ResourceWriteSuccess", "ResourceWriteFailure", 1), "unknown", nil},
		{"an action", strings.Replace(written(spokes, person), "ResourceWriteSuccess", "ResourceActionSuccess", 1), "unknown", nil},
		{"a notification", notification("CreatedOrUpdated", spokes), "woken", []string{"hub/spokes/drift/n1"}},
		{"a notification of a deletion", notification("Deleted", upper), "woken", []string{"hub/spokes/drift/n1"}},
		{"something else", `{"id":"x","eventType":"Microsoft.Storage.BlobCreated","data":"of any form"}`, "unknown", nil},
		{"no JSON", `nonsense`, "parked", nil},
		{"no event", `{}`, "parked", nil},
		{"no type", `{"id":"x","data":{}}`, "parked", nil},
		{"data of another form", `{"id":"x","eventType":"Microsoft.Resources.ResourceWriteSuccess","data":[1]}`, "parked", nil},
		{"no data", `{"id":"x","eventType":"Microsoft.Resources.ResourceWriteSuccess"}`, "parked", nil},
		{"about nothing", `{"id":"x","eventType":"Microsoft.Resources.ResourceWriteSuccess","data":{}}`, "parked", nil},
		{"an endless id", written(spokes+strings.Repeat("x", 2000), person), "parked", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld()
			if err := w.handle(t, tt.body); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(map[string]uint64{tt.result: 1}, w.counts); diff != "" {
				t.Errorf("counted, -want +got:\n%s\n%s", diff, w.log.String())
			}
			if !slices.Equal(w.ids, tt.wakes) {
				t.Errorf("woke %q, want %q", w.ids, tt.wakes)
			}
			if parked := tt.result == "parked"; parked != (len(w.parked) == 1) || parked && (w.parked[0].Body != tt.body || w.parked[0].Reason == "") {
				t.Errorf("parked %+v", w.parked)
			}
			if !slices.Contains(drift.Results(), tt.result) {
				t.Errorf("%s is not among the results", tt.result)
			}
		})
	}
}

// The wake carries who did what, for the event that the repair leads to.
func TestHand(t *testing.T) {
	w := newWorld()
	if err := w.handle(t, written(spokes+"/routes/r", map[string]string{"name": strings.Repeat("ü", 150), "appid": "portal"})); err != nil {
		t.Fatal(err)
	}
	got := *w.sent[0].Hand
	if len(got.By) > 200 || !strings.HasPrefix(got.By, "üü") {
		t.Errorf("by %q", got.By)
	}
	got.By = ""
	if want := (outcome.Hand{Event: "9aeb0fdf", At: noon(), Operation: "Microsoft.Network/routeTables/write", Resource: spokes + "/routes/r"}); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// Without an identity to go by every write is another's: a look too many, never one too few.
func TestUnknownIdentityIgnoresNothing(t *testing.T) {
	w := newWorld()
	d := &drift.Drift{Store: w, Wakes: w, Lot: w, Now: noon, Log: slog.New(slog.DiscardHandler)}
	if err := d.Handle(t.Context(), []byte(written(spokes, nil))); err != nil || len(w.sent) != 1 {
		t.Errorf("%v, %d wakes", err, len(w.sent))
	}
}

// What is in trouble gives the event back, so that it comes again; only the counts may lack one.
func TestTroubleGivesTheEventBack(t *testing.T) {
	for what, body := range map[string]string{"domains": written(spokes, nil), "bus": written(spokes, nil), "lot": "nonsense"} {
		w := newWorld()
		w.fail = what
		if err := w.handle(t, body); err == nil || len(w.counts) > 0 {
			t.Errorf("%s: %v, counted %v", what, err, w.counts)
		}
	}
	w := newWorld()
	w.broken["far"] = errors.New("the store is away")
	if err := w.handle(t, written(spokes, nil)); err == nil {
		t.Error("a domain that cannot be read may have the target")
	}
	w = newWorld()
	w.fail = "counts"
	if err := w.handle(t, written(spokes, nil)); err != nil || len(w.sent) != 1 || !strings.Contains(w.log.String(), "not counted") {
		t.Errorf("%v, log %s", err, w.log.String())
	}
	w = newWorld()
	w.conflict = 3
	if err := w.handle(t, written(spokes, nil)); err != nil || w.counts["woken"] != 1 {
		t.Errorf("%v, counted %v", err, w.counts)
	}
}

// Whatever comes is counted once, without a panic, and what is not parked has an id.
func FuzzHandle(f *testing.F) {
	f.Add(written(spokes, map[string]string{"appid": appID}))
	f.Add(`{"id":"n1","type":"Microsoft.ResourceNotifications.Resources.Deleted","subject":"/x","data":{"resourceInfo":{"id":"/y"},"claims":{"appid":7}}}`)
	f.Add(`{"id":"x","eventType":"Microsoft.Resources.ResourceWriteSuccess","data":{"claims":{"name":"\ud800"}},"subject":"/"}`)
	f.Fuzz(func(t *testing.T, body string) {
		w := newWorld()
		if err := w.handle(t, body); err != nil {
			t.Fatal(err)
		}
		if len(w.counts) != 1 {
			t.Errorf("counted %v", w.counts)
		}
	})
}
