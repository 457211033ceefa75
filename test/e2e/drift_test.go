package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/stack"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/test/jsonschema"
	"github.com/pointsman/pointsman/test/system"
)

// told returns the outcome events of a kind that the topic has, each once.
func (w *world) told(k outcome.Kind) []outcome.Event {
	w.t.Helper()
	var out []outcome.Event
	seen := map[string]bool{}
	schema := jsonschema.Read(w.t, "../../docs/schema/outcome.schema.json")
	for _, got := range w.Grid.Events() {
		if err := schema.Validate("event", jsonschema.Object(w.t, got.Body)); err != nil {
			w.t.Errorf("%v: %s", err, got.Body)
		}
		var e outcome.Event
		w.decode(got.Body, &e)
		if e.Type == k.String() && !seen[e.ID] {
			seen[e.ID] = true
			out = append(out, e)
		}
	}
	return out
}

// tells waits until the topic has n events of a kind, and returns them.
func (w *world) tells(k outcome.Kind, n int) []outcome.Event {
	w.t.Helper()
	w.until(fmt.Sprintf("%d events %s are told", n, k), func() error {
		if got := w.told(k); len(got) != n {
			return fmt.Errorf("%d were", len(got))
		}
		return nil
	})
	return w.told(k)
}

// byHand writes a route through Azure Resource Manager as a person does, in the name of another identity; an empty next hop deletes it.
func (w *world) byHand(p netip.Prefix, hop string) {
	w.t.Helper()
	routes, err := w.Routes(system.TableID)
	if err != nil {
		w.t.Fatal(err)
	}
	name := routes[p.String()].Name
	method, body := http.MethodDelete, ""
	if hop != "" {
		method = http.MethodPut
		body = fmt.Sprintf(`{"properties":{"addressPrefix":%q,"nextHopType":"VirtualAppliance","nextHopIpAddress":%q}}`, p, hop)
	}
	env := w.Identity.Environment()
	ask, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, env["IDENTITY_ENDPOINT"]+"?api-version=2019-08-01&client_id="+stack.PersonClient+"&resource=https://management.azure.com", nil)
	if err != nil {
		w.t.Fatal(err)
	}
	ask.Header.Set("X-Identity-Header", env["IDENTITY_HEADER"])
	var token struct {
		AccessToken string `json:"access_token"`
	}
	w.decode([]byte(w.exchange(http.DefaultClient, ask)), &token)
	w.until("the table takes a write by hand", func() error {
		req, bad := http.NewRequestWithContext(w.t.Context(), method, w.ARM.URL()+system.TableID+"/routes/"+name+"?api-version=2025-09-01", bytes.NewReader([]byte(body)))
		if bad != nil {
			return bad
		}
		req.Header.Set("Authorization", "Bearer "+token.AccessToken)
		resp, bad := w.Client().Do(req)
		if bad != nil {
			return bad
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode >= 300 {
			text, _ := io.ReadAll(resp.Body)
			return fmt.Errorf("%s: %s", resp.Status, text)
		}
		return nil
	})
}

func (w *world) exchange(c *http.Client, req *http.Request) string {
	w.t.Helper()
	resp, err := c.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		w.t.Fatalf("%s %s: %s, %v: %s", req.Method, req.URL, resp.Status, err, text)
	}
	return string(text)
}

// watched is a system that is told of writes to its table, with n prefixes carried by nva-a.
func watched(t *testing.T, domain string, n int) (*world, []netip.Prefix) {
	t.Helper()
	w := startWith(t, system.Config{
		TableWrite: quick, Domains: map[string]string{"hub": domain}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)}, Drift: true,
	})
	prefixes := withoutBlocked(system.Prefixes(n))
	w.publish(w.said("nva-a", event.Snapshot, announce(prefixes)), w.said("nva-b", event.Snapshot, announce(prefixes)))
	w.carries(hopA, prefixes)
	w.quiet()
	return w, prefixes
}

// quiet waits until the queues are empty and every event of Azure's that was due has been counted.
func (w *world) quiet() {
	w.t.Helper()
	writes := w.calls("routeTables.CreateOrUpdate")
	w.until("Azure's events are in", func() error {
		if w.Grid.Delivered() < writes {
			return fmt.Errorf("%d of %d", w.Grid.Delivered(), writes)
		}
		return nil
	})
	w.settled()
}

// A hand edit of a managed route is repaired within seconds, and told: who, what, before and after. Our own writes lead to no further look.
func TestHandEditIsRepairedWithinSeconds(t *testing.T) {
	t.Parallel()
	w, prefixes := watched(t, hub, 3)
	w.shows(`pointsman_drift_events_total{result="own"} 1`)
	before := w.foreign()
	w.ARM.ResetCalls()

	start := time.Now()
	w.byHand(prefixes[1], "10.9.9.9")
	w.until("the table shows the hand's next hop", func() error { return w.via(prefixes[1], "10.9.9.9") })
	w.carries(hopA, prefixes)
	took := time.Since(start)
	got := w.tells(outcome.DriftRepaired, 1)[0].Data
	if want := (outcome.Route{Prefix: prefixes[1], Before: hopA, Found: "10.9.9.9", After: hopA}); len(got.Routes) != 1 || got.Routes[0] != want {
		t.Errorf("told %+v, want %+v", got.Routes, want)
	}
	if len(got.Hands) != 1 || got.Hands[0].By != stack.PersonObject || got.Hands[0].Operation != "Microsoft.Network/routeTables/routes/write" || !strings.HasPrefix(got.Cause, "drift/") {
		t.Errorf("by %+v, cause %s", got.Hands, got.Cause)
	}

	w.byHand(prefixes[2], "")
	w.tells(outcome.DriftRepaired, 2)
	w.carries(hopA, prefixes)
	w.shows(`pointsman_drift_events_total{result="own"} 3`)
	w.shows(`pointsman_drift_events_total{result="woken"} 2`)
	w.settled()
	if puts := w.calls("routeTables.CreateOrUpdate"); puts != 2 {
		t.Errorf("%d writes, want one for each repair", puts)
	}
	w.keeps(before)
	t.Logf("a hand edit was undone %s after it was sent; its own write took %s of that", took.Round(time.Millisecond), quick)
}

// via reports whether the table has the next hop for the prefix.
func (w *world) via(p netip.Prefix, hop string) error {
	routes, err := w.Routes(system.TableID)
	if err == nil && routes[p.String()].NextHop != hop {
		err = fmt.Errorf("%s goes via %q", p, routes[p.String()].NextHop)
	}
	return err
}

// With policy.drift: report the route stays as the hand left it, shown and told, while the others follow.
func TestHandEditIsReported(t *testing.T) {
	t.Parallel()
	w, prefixes := watched(t, strings.Replace(hub, "holdDown: 0s", "holdDown: 0s\n  drift: report", 1), 3)
	w.ARM.ResetCalls()
	w.byHand(prefixes[1], "10.9.9.9")
	got := w.tells(outcome.DriftFound, 1)[0].Data
	if len(got.Hands) != 1 || got.Hands[0].By != stack.PersonObject || len(got.Routes) != 1 || got.Routes[0].Found != "10.9.9.9" {
		t.Errorf("told %+v", got)
	}
	w.shows(`pointsman_target_drifted_routes{domain="hub",target="spokes"} 1`)
	if shown := w.target("spokes").Drifted; len(shown) != 1 || shown[0].Prefix != prefixes[1] || len(shown[0].Hands) != 1 {
		t.Errorf("status shows %+v", shown)
	}
	w.logs("policy.drift: report")
	w.dies()
	w.carries(hopB, []netip.Prefix{prefixes[0], prefixes[2]})
	w.settled()
	if err := w.via(prefixes[1], "10.9.9.9"); err != nil {
		t.Error(err)
	}
	if n := len(w.told(outcome.DriftFound)); n != 1 {
		t.Errorf("told %d times", n)
	}
}

// A death is told by what it means for the NVA and for the table. An outage of the topic delays neither, and both are told afterwards.
func TestOutcomeEventsSurviveAnOutageOfTheTopic(t *testing.T) {
	t.Parallel()
	w, prefixes := watched(t, hub, 3)
	w.tells(outcome.NVAUp, 2)
	w.tells(outcome.RouteChanged, 1)
	w.Grid.Faults().Outage(true)
	w.dies()
	w.carries(hopB, prefixes)
	w.shows(`pointsman_outcome_events_waiting{domain="hub",target="spokes"} 1`)
	w.settled()
	w.Grid.Faults().Clear()

	// The handler leaves a topic alone for half a minute after a failure; another instance knows nothing of that.
	if err := w.Host.Close(); err != nil {
		t.Fatal(err)
	}
	if err := w.StartHost(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.sweep()
	down := w.tells(outcome.NVADown, 1)[0].Data
	if down.NVA != "nva-a" || down.Liveness != "down" || down.Before != "up" {
		t.Errorf("told %+v", down)
	}
	changed := w.tells(outcome.RouteChanged, 2)[1].Data
	if changed.Changed != 3 || len(changed.Routes) != 3 || changed.Routes[0] != (outcome.Route{Prefix: prefixes[0], Before: hopA, After: hopB}) {
		t.Errorf("told %+v", changed)
	}
	w.shows(`pointsman_outcome_events_waiting{domain="hub",target="spokes"} 0`)
	w.shows(`pointsman_outcome_events_waiting{domain="hub",target=""} 0`)
}
