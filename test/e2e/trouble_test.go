package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/test/system"
)

// healthy is a second table of the domain: whatever happens to the first one, this one follows.
var healthy = strings.Replace(system.TableID, "spokes", "healthy", 1)

// twoTables is the domain with a second target.
func twoTables(limit string) string {
	return hub + limit + "  - name: healthy\n    routeTable: " + healthy + "\n"
}

// What only a person can mend is shown, with what to do about it, in the log, in Status and in the metrics, while the other table goes on. Once it is
// mended, the next sweep brings the table up to date.
func TestTroubleIsShownAndStaysWhereItIs(t *testing.T) {
	const empty = `{"location": "westeurope", "properties": {"routes": []}}`
	tests := []struct {
		name          string
		limit         string // a line of the first target
		cause, mend   func(w *world)
		outcome, code string
		says, advises string
	}{
		{
			name:  "no right to write the table",
			cause: func(w *world) { w.ARM.Faults().Forbid("", system.TableID, "PUT") }, mend: func(w *world) { w.ARM.Faults().Permit("", system.TableID, "PUT") },
			outcome: "denied", code: "AuthorizationFailed", says: "does not have authorization to perform action", advises: "a role with Microsoft.Network/routeTables/write on " + system.TableID,
		},
		{
			name:  "a lock on the table",
			cause: func(w *world) { w.ARM.Faults().Lock(system.TableID) }, mend: func(w *world) { w.ARM.Faults().Unlock(system.TableID) },
			outcome: "denied", code: "ScopeLocked", says: "locked", advises: "remove the lock " + system.TableID,
		},
		{
			name:  "a policy that forbids the write",
			cause: func(w *world) { w.ARM.Faults().DenyPolicy(system.TableID) }, mend: func(w *world) { w.ARM.Faults().AllowPolicy(system.TableID) },
			outcome: "denied", code: "RequestDisallowedByPolicy", says: "disallowed by policy", advises: "exempt the route table from it",
		},
		{
			name:    "a field that this version does not know",
			cause:   func(w *world) { w.editTable(func(p map[string]any) { p["newerThanUs"] = map[string]any{"a": 1} }) },
			mend:    func(w *world) { w.editTable(func(p map[string]any) { delete(p, "newerThanUs") }) },
			outcome: "refused", code: "UnknownField", says: "newerThanUs", advises: "",
		},
		{
			name: "a full table", limit: "    limit: 7\n", // three of others, three of ours
			cause:   func(w *world) { w.publish(w.said("nva-b", event.Delta, announce(system.Prefixes(6)))) },
			mend:    func(w *world) { w.publish(w.said("nva-b", event.Delta, withdraw(system.Prefixes(6)[3:]))) },
			outcome: "refused", code: "RouteLimit", says: "2 too many", advises: "announce fewer or larger prefixes, split the target, or raise its limit",
		},
		{
			name: "a table that was deleted",
			cause: func(w *world) {
				w.ARM.Faults().Script(arm.Fault{PathContains: "routeTables/spokes", Status: http.StatusNotFound, Code: "ResourceNotFound", Message: "The Resource was not found.", Count: -1})
			}, mend: func(w *world) { w.ARM.Faults().Clear() },
			outcome: "denied", code: "ResourceNotFound", says: "not found", advises: "create the route table, or correct the target's id",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			prefixes := system.Prefixes(3)
			w := startWith(t, system.Config{
				TableWrite: quick, Domains: map[string]string{"hub": twoTables(tt.limit)},
				Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others), healthy: json.RawMessage(empty)},
			})
			w.publish(w.said("nva-a", event.Snapshot, announce(prefixes)), w.said("nva-b", event.Snapshot, announce(prefixes)))
			w.tableCarries(system.TableID, hopA, prefixes)
			w.tableCarries(healthy, hopA, prefixes)
			w.settled()
			tt.cause(w)
			before := w.foreign()
			w.dies()

			w.tableCarries(healthy, hopB, prefixes)
			w.shows(fmt.Sprintf("pointsman_target_outcome{domain=\"hub\",target=\"spokes\",outcome=%q,code=%q} 1", tt.outcome, tt.code))
			got := w.target("spokes")
			if r := got.Result; r.Outcome.String() != tt.outcome || r.Code != tt.code || !strings.Contains(r.Message, tt.says) || !strings.Contains(r.Message, tt.advises) {
				t.Errorf("status shows %s %s: %s\nwant %s %s with %q and %q", r.Outcome, r.Code, r.Message, tt.outcome, tt.code, tt.says, tt.advises)
			}
			if got.Trouble.IsZero() {
				t.Error("status does not show since when")
			}
			if other := w.target("healthy"); !other.Trouble.IsZero() {
				t.Errorf("the healthy table is shown as troubled: %+v", other)
			}
			w.logs(strings.ReplaceAll(tt.advises, `"`, `\"`))
			w.keeps(before)

			tt.mend(w)
			before = w.foreign()
			w.sweep()
			w.tableCarries(system.TableID, hopB, prefixes)
			w.until("the trouble is over", func() error {
				if since := w.target("spokes").Trouble; !since.IsZero() {
					return fmt.Errorf("in trouble since %s", since)
				}
				return nil
			})
			w.keeps(before)
		})
	}
}

// tableCarries waits until every prefix has the next hop in a table.
func (w *world) tableCarries(id, hop string, prefixes []netip.Prefix) {
	w.t.Helper()
	w.until("the table follows", func() error {
		routes, err := w.Routes(id)
		if err != nil {
			return err
		}
		for _, p := range prefixes {
			if got := routes[p.String()].NextHop; got != hop {
				return fmt.Errorf("%s of %s has next hop %q, want %q", p, id, got, hop)
			}
		}
		return nil
	})
}

// editTable changes the properties of the first table past Pointsman.
func (w *world) editTable(change func(properties map[string]any)) {
	w.t.Helper()
	raw, _, _ := w.ARM.Table(system.TableID)
	var table map[string]any
	w.decode(raw, &table)
	change(table["properties"].(map[string]any))
	w.putTable(system.TableID, table)
}

// A domain file that is not valid changes nothing: Status says where it is wrong, and the one before stays in force.
func TestInvalidDomainFileChangesNothing(t *testing.T) {
	w, prefixes := carried(t, 3, quick)
	wrong := strings.Replace(hub, "preference: 200", "preference: much", 1)
	if err := w.Upload(t.Context(), "hub", wrong); err != nil {
		t.Fatal(err)
	}
	w.dies()
	w.carries(hopB, prefixes)
	w.shows(`pointsman_domain_file_problems{domain="hub"} 1`)
	domain := w.report().Domains[0]
	if len(domain.Problems) != 1 || !strings.HasPrefix(domain.Problems[0].String(), "domains/hub.yaml:9:17: nvas[0].preference: ") {
		t.Errorf("status shows %q", domain.Problems)
	}
	w.sweep()
	w.logs("domains/hub.yaml:9:17: nvas[0].preference: ")

	w.restartHost() // a new process has seen no valid file but the one that was accepted
	w.publish(w.said("nva-a", event.Delta, nil), w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 2 }))
	w.carries(hopA, prefixes)
	if err := w.Upload(t.Context(), "hub", hub); err != nil {
		t.Fatal(err)
	}
	w.shows(`pointsman_domain_file_problems{domain="hub"} 0`)
}

// What cannot be used is parked with the reason, counted, and keeps nothing else back.
func TestPoisonMessageIsParked(t *testing.T) {
	w, prefixes := carried(t, 3, quick)
	unknown := w.said("nva-a", event.Delta, announce(prefixes))
	unknown.NVA = "nva-of-nobody"
	if err := w.bus.Publish(t.Context(), []message.Message{{ID: "poison", ContentType: "text/plain", Body: []byte("this is no event")}}); err != nil {
		t.Fatal(err)
	}
	w.publish(unknown)
	w.dies()
	w.carries(hopB, prefixes)
	w.shows("pointsman_parked_messages 2")
	if n := w.report().Parked; n != 2 {
		t.Errorf("status counts %d parked messages", n)
	}
	shelf, err := w.Container("poison")
	if err != nil {
		t.Fatal(err)
	}
	names, err := shelf.List(t.Context(), "")
	if err != nil || len(names) != 2 {
		t.Fatalf("parked: %q, %v", names, err)
	}
	reasons := map[string]string{}
	for _, name := range names {
		body, _, unread := shelf.Read(t.Context(), name, "")
		if unread != nil {
			t.Fatal(unread)
		}
		var parked struct{ MessageID, Reason, Body string }
		w.decode(body, &parked)
		reasons[parked.MessageID] = parked.Reason
		if parked.MessageID == "poison" && parked.Body != "this is no event" {
			t.Errorf("parked body %q", parked.Body)
		}
	}
	if !strings.Contains(reasons["poison"], "JSON") || !strings.Contains(reasons[unknown.ID()], "no nva nva-of-nobody") {
		t.Errorf("reasons %q", reasons)
	}
	if q, _ := w.Bus.Queue("route-events/$DeadLetterQueue"); q.Active > 0 {
		t.Errorf("%d messages in the broker's dead letters", q.Active)
	}
}
