package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/system"
)

const (
	single = "VirtualAppliance"
	ecmp   = "VirtualApplianceEcmp"
)

// equals is the domain with two NVAs that are equally good.
var equals = strings.Replace(hub, "preference: 200", "preference: 100", 1) + "    mode: ecmp\n"

// typed fails unless every prefix has a route of the type.
func (w *world) typed(typ string, prefixes []netip.Prefix) {
	w.t.Helper()
	routes, err := w.Routes(system.TableID)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range prefixes {
		if got := routes[p.String()]; got.Type != typ {
			w.t.Errorf("%s has type %s (%s), want %s", p, got.Type, got.Properties, typ)
		}
	}
}

// refusedPuts counts the PUTs that were answered with an error.
func (w *world) refusedPuts() int {
	n := 0
	for _, c := range w.ARM.Calls() {
		if c.Method == http.MethodPut && c.Status >= http.StatusBadRequest {
			n++
		}
	}
	return n
}

// puts returns how many PUTs of a table were sent since the last count, by table.
func (w *world) puts() map[string]int {
	out := map[string]int{}
	for _, c := range w.ARM.Calls() {
		if c.Method == http.MethodPut {
			out[c.Path]++
		}
	}
	w.ARM.ResetCalls()
	return out
}

// A route has several next hops while several NVAs are up, and one when one is left: with the right type each time, and one write each.
func TestECMPFollowsItsMembers(t *testing.T) {
	t.Parallel()
	prefixes := withoutBlocked(system.Prefixes(20))
	w := startWith(t, system.Config{TableWrite: quick, Domains: map[string]string{"hub": equals}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)}})
	var before map[string]string // as it is after the first write, which puts it into the provider's order
	step := func(what, hops, typ string, events ...event.Event) {
		t.Helper()
		w.ARM.ResetCalls()
		w.publish(events...)
		w.carries(hops, prefixes)
		w.settled()
		w.typed(typ, prefixes)
		if before == nil {
			before = w.foreign()
		}
		w.keeps(before)
		if got := w.puts(); len(got) != 1 || got[system.TableID] != 1 {
			t.Errorf("%s: PUTs %v, want one", what, got)
		}
	}
	both := hopA + "," + hopB
	step("one is heard", hopB, single, w.said("nva-b", event.Snapshot, announce(prefixes)))
	step("two", both, ecmp, w.said("nva-a", event.Snapshot, announce(prefixes)))
	step("one dies", hopB, single, w.said("nva-a", event.Expired, nil))
	step("it is back", both, ecmp, w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 2 }))
	step("the other drains", hopA, single, w.said("nva-b", event.Draining, nil))
}

// Where the region takes no routes with several next hops each prefix gets one, in the same run. It is not tried again with every write, but when the domain
// file changes.
func TestRegionWithoutECMP(t *testing.T) {
	t.Parallel()
	prefixes := system.Prefixes(3)
	const empty = `{"location": "westeurope", "properties": {"routes": []}}`
	w := startWith(t, system.Config{TableWrite: quick, Domains: map[string]string{"hub": equals}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(empty)}})
	w.ARM.Faults().RefuseECMP(system.TableID)
	w.publish(w.said("nva-a", event.Snapshot, announce(prefixes)), w.said("nva-b", event.Snapshot, announce(prefixes)))
	w.carries(hopA, prefixes)
	w.settled()
	if got := w.refusedPuts(); got != 1 {
		t.Errorf("%d writes were refused, want the first one only", got)
	}
	got := w.target("spokes").Result
	if got.Outcome.String() != "written" || len(got.Warnings) != 1 || !strings.Contains(got.Warnings[0], "3 prefixes of mode ecmp have one next hop each") || !strings.Contains(got.Warnings[0], "not supported on a Route") {
		t.Errorf("status shows %s, warnings %q", got.Outcome, got.Warnings)
	}
	w.logs("routes with several next hops were refused, trying with one each")

	w.publish(w.said("nva-a", event.Delta, announce(system.Prefixes(4)[3:])), w.said("nva-b", event.Delta, announce(system.Prefixes(4)[3:])))
	w.carries(hopA, system.Prefixes(4))
	w.dies()
	w.carries(hopB, system.Prefixes(4))
	w.settled()
	if got := w.refusedPuts(); got != 1 {
		t.Errorf("%d writes were refused: it was tried again without a reason", got)
	}

	w.ARM.Faults().AcceptECMP(system.TableID)
	w.publish(w.said("nva-a", event.Alive, func(e *event.Event) { e.Beat = 2 }))
	w.carries(hopA, system.Prefixes(4)) // by name, and still only one
	if err := w.Upload(t.Context(), "hub", equals+"# looked at again\n"); err != nil {
		t.Fatal(err)
	}
	w.sweep()
	w.carries(hopA+","+hopB, system.Prefixes(4))
	w.typed(ecmp, system.Prefixes(4))
	w.until("the warning is gone", func() error {
		if got := w.target("spokes").Result.Warnings; len(got) > 0 {
			return fmt.Errorf("warnings %q", got)
		}
		return nil
	})
}

// spreadHub is four NVAs between spokes and ten blocks on premises, with a table for each spoke and one that leads to them.
type spreadHub struct {
	*world
	spokes, premises []netip.Prefix
}

func (h *spreadHub) table(side string) string {
	return strings.Replace(system.TableID, "spokes", side, 1)
}

func (h *spreadHub) sides() []string {
	out := []string{"north"}
	for i := range h.spokes {
		out = append(out, fmt.Sprintf("spoke-%d", i))
	}
	return out
}

func startSpread(t *testing.T, spokes int) *spreadHub {
	t.Helper()
	h := &spreadHub{}
	for i := range spokes {
		h.spokes = append(h.spokes, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(i), 0}), 24))
	}
	for i := range 10 {
		h.premises = append(h.premises, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 65, byte(i), 0}), 24))
	}
	file := "domain: hub\npolicy: {silence: down, holdDown: 0s, writePrice: 0}\nspread:\n  spokes:\n"
	for i, p := range h.spokes {
		file += fmt.Sprintf("    - {name: spoke-%d, prefixes: [%s]}\n", i, p)
	}
	file += "nvas:\n"
	for i, name := range []string{"nva-a", "nva-b", "nva-c", "nva-d"} {
		file += fmt.Sprintf("  - {name: %s, nextHops: [10.0.0.%d], allow: [10.64.0.0/10 le 24]}\n", name, 4+i)
	}
	file += "targets:\n"
	tables := map[string]json.RawMessage{}
	for _, side := range h.sides() {
		file += fmt.Sprintf("  - {name: %s, routeTable: %s, mode: spread, side: %s}\n", side, h.table(side), side)
		tables[h.table(side)] = json.RawMessage(`{"location": "westeurope", "properties": {"routes": []}}`)
	}
	h.world = startWith(t, system.Config{TableWrite: quick, Domains: map[string]string{"hub": file}, Tables: tables})
	return h
}

// hops returns the next hops of every table, by side and prefix.
func (h *spreadHub) hops() map[string]map[string]system.Route {
	out := map[string]map[string]system.Route{}
	for _, side := range h.sides() {
		routes, err := h.Routes(h.table(side))
		if err != nil {
			h.t.Fatal(err)
		}
		out[side] = routes
	}
	return out
}

// measure returns the share of flows whose two directions meet different NVAs, and the largest number of spokes on one NVA over the mean.
func (h *spreadHub) measure() (asymmetric, imbalance float64) {
	hops := h.hops()
	flows, wrong := 0, 0
	count := func(there, back system.Route) {
		flows++
		if there.NextHop == "" || there.NextHop != back.NextHop {
			wrong++
		}
	}
	loads := map[string]int{}
	for i, p := range h.spokes {
		side := fmt.Sprintf("spoke-%d", i)
		loads[hops["north"][p.String()].NextHop]++
		for _, q := range h.premises {
			count(hops[side][q.String()], hops["north"][p.String()])
		}
		for j, q := range h.spokes[:i] {
			count(hops[side][q.String()], hops[fmt.Sprintf("spoke-%d", j)][p.String()])
		}
	}
	return float64(wrong) / float64(flows), float64(slices.Max(slices.Collect(maps.Values(loads)))) * float64(len(loads)) / float64(len(h.spokes))
}

// Both directions of every flow meet the same NVA, before and after a death, and the death costs each table at most one write.
func TestSpreadEndToEnd(t *testing.T) {
	t.Parallel()
	h := startSpread(t, 20)
	all := slices.Concat(h.spokes, h.premises)
	var events []event.Event
	for _, name := range []string{"nva-a", "nva-b", "nva-c", "nva-d"} {
		events = append(events, h.said(name, event.Snapshot, announce(all)))
	}
	h.publish(events...)
	check := func(when string, nvas int) {
		t.Helper()
		h.until("both directions of all flows meet", func() error {
			asymmetric, imbalance := h.measure()
			used := map[string]bool{}
			for _, p := range h.spokes {
				used[h.hops()["north"][p.String()].NextHop] = true
			}
			if asymmetric > 0 || len(used) != nvas {
				return fmt.Errorf("%.1f %% of flows asymmetric, over %d NVAs", 100*asymmetric, len(used))
			}
			t.Logf("%s: %.1f %% of flows asymmetric, imbalance %.3f over %d NVAs", when, 100*asymmetric, imbalance, nvas)
			if imbalance >= 1.25 {
				t.Errorf("%s: imbalance %.3f", when, imbalance)
			}
			return nil
		})
		h.settled()
	}
	check("all up", 4)
	before := h.hops()
	h.puts()
	h.publish(h.said("nva-c", event.Expired, nil))
	check("one dead", 3)
	for table, n := range h.puts() {
		if n != 1 {
			t.Errorf("%d PUTs of %s", n, table)
		}
	}
	for side, routes := range h.hops() {
		for prefix, r := range routes {
			if was := before[side][prefix].NextHop; was != r.NextHop && was != "10.0.0.6" {
				t.Errorf("in the table of %s %s moved from %s to %s, and it was nva-c that died", side, prefix, was, r.NextHop)
			}
		}
	}
}
