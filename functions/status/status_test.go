package status_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/status"
	"github.com/pointsman/pointsman/shared/budget"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/state"
)

var update = flag.Bool("update", false, "write the golden files anew")

const hub = `
domain: hub
policy: {silence: down}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], allow: ["10.64.0.0/10 le 24"], keys: ["ed25519:iojj3XQJ8ZX9UtstPLpdcspnCb8dlBIb83SIAbQPb1w="]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: ["10.64.0.0/10 le 24"]}
  - {name: nva-c, nextHops: [10.0.0.6], allow: ["10.64.0.0/10 le 24"]}
targets:
  - {name: spokes, routeTable: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/spokes, limit: 400}
  - {name: new, routeTable: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/routeTables/new, apply: approve}
groups:
  - {name: firewall, targets: [new, spokes]}
operators:
  - {name: jo, keys: ["ed25519:/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU="]}
routeServers:
  - {name: rs, virtualHub: /subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualHubs/rs, peers: [{nva: nva-a, asn: 65001}, {nva: nva-b, asn: 65002}, {nva: nva-c, asn: 65003}]}
`

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

// estate is a domain in which something of everything has happened, and one that has no valid file.
type estate struct {
	t      *testing.T
	broken error
}

func (estate) Domains(context.Context) ([]string, error) { return []string{"edge", "hub"}, nil }

func (e estate) Domain(_ context.Context, name string) (documents.Domain, error) {
	if name == "edge" {
		problems := located.Problems{{File: "domains/edge.yaml", Line: 2, Column: 9, Field: "policy", Text: `found "x", want a mapping`}}
		return documents.Domain{Problems: problems}, fault.New(fault.Poison, "domain file edge is not valid, and no valid one came before it: %w", problems)
	}
	d, problems := config.Parse("domains/hub.yaml", []byte(hub))
	if len(problems) > 0 {
		e.t.Fatal(problems)
	}
	return documents.Domain{Config: d}, nil
}

func (e estate) NVAs(context.Context, *config.Domain) (map[string]*state.NVA, error) {
	a, b := state.NewNVA("hub", "nva-a"), state.NewNVA("hub", "nva-b")
	p := netip.MustParsePrefix("10.64.1.0/24")
	e.merge(a, event.Event{Kind: event.Delta, Version: event.Version{Epoch: 1, Seq: 1}, Announce: []route.Entry{{Prefix: p}}})
	e.merge(a, event.Event{Kind: event.Delta, Version: event.Version{Epoch: 1, Seq: 4}, Withdraw: []netip.Prefix{p}})
	e.merge(a, event.Event{Kind: event.Draining, Version: event.Version{Epoch: 1, Seq: 5}, Reason: "kernel update", SignedBy: "34750f98bd59fcfc"})
	e.merge(b, event.Event{Kind: event.Delta, Version: event.Version{Epoch: 1, Seq: 1}, Announce: []route.Entry{{Prefix: p}}, Beat: 1})
	e.merge(b, event.Event{Kind: event.Expired, Version: event.Version{Epoch: 1, Seq: 1}, Beat: 1})
	e.merge(b, event.Event{Kind: event.Witness, Version: event.Version{Epoch: 1, Seq: 2}, Beat: 1, Report: event.Report{
		SelfTest: event.Passed, Peers: []event.Peer{{NVA: "nva-a", Reachable: true}, {NVA: "nva-c"}},
		ControlLost: []event.Session{{Name: "frr", Since: noon().Add(-time.Hour)}},
	}})
	b.Clone = &state.Clone{Boot: "other", Epoch: 1}
	c := state.NewNVA("hub", "nva-c")
	c.Refuse(noon().Add(-time.Hour), "event hub/nva-c/1/1 is refused: the event is not signed")
	return map[string]*state.NVA{"nva-a": a, "nva-b": b, "nva-c": c}, e.broken
}

func (e estate) merge(doc *state.NVA, ev event.Event) {
	ev.Domain, ev.NVA, ev.Boot = "hub", doc.Name, "boot-"+doc.Name
	if _, err := doc.Merge(ev, noon().Add(-time.Minute)); err != nil {
		e.t.Fatal(err)
	}
}

func (estate) Target(_ context.Context, domain string, t config.Target) (*state.Target, string, error) {
	doc := state.NewTarget(domain, t.Name, t.RouteTable)
	if t.Name == "new" {
		doc.Pause = state.Pause{On: true, At: noon(), ID: "1", Who: "jo", Why: "migration"}
		doc.Approval = state.Approval{Plan: "25bfe4c57b9769ed", At: noon(), ID: "2", Who: "kim", Ended: noon(), End: "void: there is nothing to write"}
		doc.Proposal = &state.Proposal{Plan: "05c8e87952bb4c12", Since: noon(), Added: []state.ProposedChange{{Prefix: netip.MustParsePrefix("10.64.1.0/24"), To: "10.0.0.5"}}}
		return doc, "", nil
	}
	if t.Name == "rs" {
		return server(doc), "1", nil
	}
	doc.Claim([]string{"pointsman-10-64-1-0-24"})
	doc.Writes = 7
	doc.Note(state.Result{At: noon().Add(-time.Hour), Outcome: state.Written, Routes: 4})
	doc.Reach("0011223344556677", noon().Add(-time.Hour))
	doc.Note(state.Result{
		At: noon(), Outcome: state.Denied, Code: "ScopeLocked", Message: "the scope is locked: remove the lock", Routes: 4, Duration: 0.25,
		Cause: "sweep/1", Warnings: []string{"the table is nearly full: 4 of 4 routes"},
	})
	doc.Intents = []state.Intent{{Run: "R1", Wake: "hub/spokes/sweep/1", Since: noon(), Until: noon().Add(30 * time.Second), Writing: []state.Record{{}}}}
	doc.Drifted = []state.Drift{{Prefix: netip.MustParsePrefix("10.64.1.0/24"), Wrote: "10.0.0.4", Found: "10.9.9.9", Since: noon()}}
	doc.Outcomes = outcome.Outbox{Events: make([]outcome.Event, 2), Dropped: 5}
	doc.Pending = &state.Pending{Since: noon().Add(-9 * time.Second), At: noon().Add(-4 * time.Second), Accrued: 30, Weight: 6}
	return doc, "1", nil
}

// server is a Route Server with a peer that is being made, another's, and something learned.
func server(doc *state.Target) *state.Target {
	hop := func(n byte) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, n}) }
	ago := func(d time.Duration) time.Time { return noon().Add(-d) }
	doc.Claim([]string{"pointsman-nva-a", "pointsman-nva-b"})
	doc.Note(state.Result{At: noon(), Outcome: state.Waiting, Message: "create pointsman-nva-b 10.0.0.5 AS 65002 is in work since 2026-11-23T11:59:20Z", Routes: 3})
	doc.RouteServer = &state.RouteServer{
		Read: ago(40 * time.Second), LookAt: noon().Add(5 * time.Second),
		Peers: []peering.Peer{
			{Name: "by-hand", Address: hop(6), ASN: 65003, State: peering.Settled, Session: "Connected"},
			{Name: "pointsman-nva-a", Address: hop(4), ASN: 65001, State: peering.Settled},
			{Name: "pointsman-nva-b", Address: hop(5), ASN: 65002, State: peering.Changing},
		},
		Operation: &state.PeerOperation{
			Step: peering.Step{Kind: peering.Create, Name: "pointsman-nva-b", Address: hop(5), ASN: 65002}, Began: ago(40 * time.Second), Token: "a secret", Asks: 3, Look: noon().Add(10 * time.Second),
		},
		Asked: []state.Ask{{NVA: "nva-a", At: noon(), Token: "another"}},
		Learned: []state.Learned{
			{NVA: "nva-a", At: ago(time.Minute), Heard: []peering.Heard{
				{Instance: "RouteServiceRole_IN_0", Routes: 4, Listed: 4}, {Instance: "RouteServiceRole_IN_1", Routes: 3, Listed: 3, Missing: 1, Examples: []string{"10.64.1.0/24 is missing"}},
			}},
			{NVA: "nva-c", At: ago(time.Minute), Problem: "the Route Server has no peer for it", Clear: ago(time.Minute)},
		},
	}
	return doc
}

func (estate) Beliefs(_ context.Context, domain string) (*state.Beliefs, string, error) {
	doc := state.NewBeliefs(domain)
	doc.Outcomes.Events = make([]outcome.Event, 1)
	return doc, "1", nil
}

func (estate) Orders(_ context.Context, domain string) (*state.Orders, string, error) {
	doc := state.NewOrders(domain)
	doc.Refused = doc.Refused.And(noon().Add(-time.Hour), "order hub/operator/1 is refused: it was signed 6m0s before the bus accepted it").And(noon(), "order hub/operator/2 is refused: the order is not signed")
	return doc, "1", nil
}

func (estate) DriftCounts(context.Context) (*state.DriftCounts, string, error) {
	doc := state.NewDriftCounts()
	doc.Last, doc.Events["woken"], doc.Events["own"] = noon(), 2, 40
	return doc, "1", nil
}

func (estate) Budget(_ context.Context, subscription string) (*budget.Budget, string, error) {
	b := budget.New(subscription)
	b.Said(30, noon())
	b.Refuse(noon().Add(-24 * time.Second))
	return b, "1", nil
}

type lot struct {
	n   int
	err error
}

func (l lot) Parked(context.Context) (int, error) { return l.n, l.err }

func report(t *testing.T, e estate, only string) status.Report {
	t.Helper()
	r, err := (&status.Status{Store: e, Lot: lot{n: 3}, Now: noon}).Report(t.Context(), only)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// golden compares with a file; -update writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s: -want +got:\n%s", name, diff)
	}
}

func TestReportAsJSON(t *testing.T) {
	body, err := json.MarshalIndent(report(t, estate{t: t}, ""), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "report.json", string(body)+"\n")
}

func TestReportForPrometheus(t *testing.T) {
	text := report(t, estate{t: t}, "").Prometheus()
	golden(t, "report.prom", text)
	problems, err := promlint.New(strings.NewReader(text)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("%v: %+v", err, problems)
	}
}

// Whatever stands in a label, the text stays readable for Prometheus.
func TestLabelsAreEscaped(t *testing.T) {
	r := status.Report{Domains: []status.Domain{{Name: "h\"u\\b\nüß\x01", Targets: []status.Target{{Name: "t"}}}}}
	text := r.Prometheus()
	if problems, err := promlint.New(strings.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v: %+v\n%s", err, problems, text)
	}
	if !strings.Contains(text, `domain="h\"u\\b\nüß`+"\x01\"") {
		t.Errorf("text:\n%s", text)
	}
}

func TestOneDomain(t *testing.T) {
	if r := report(t, estate{t: t}, "hub"); len(r.Domains) != 1 || r.Domains[0].Name != "hub" {
		t.Errorf("%+v", r.Domains)
	}
	r := report(t, estate{t: t}, "none")
	body, err := json.Marshal(r)
	if err != nil || !bytes.Contains(body, []byte(`"domains":[]`)) {
		t.Errorf("no domain of that name: %s, %v", body, err)
	}
}

// Documents that cannot be read are shown with their domain, not hidden and not the end of the page.
func TestUnreadableDocuments(t *testing.T) {
	r := report(t, estate{t: t, broken: errors.New("the store is away")}, "hub")
	if len(r.Domains) != 1 || r.Domains[0].Error != "the store is away" {
		t.Errorf("%+v", r.Domains)
	}
	if text := r.Prometheus(); !strings.Contains(text, "pointsman_domain_unreadable{domain=\"hub\"} 1\n") {
		t.Errorf("metrics:\n%s", text)
	}
	if _, err := (&status.Status{Store: estate{t: t}, Lot: lot{err: errors.New("away")}, Now: noon}).Report(t.Context(), ""); err == nil {
		t.Error("a lot that cannot be counted is shown as empty")
	}
}

// TestRouteServerForPeople: what there is to see of a Route Server, and no token.
func TestRouteServerForPeople(t *testing.T) {
	r := report(t, estate{t: t}, "hub")
	var got []string
	for _, target := range r.Domains[0].Targets {
		if target.RouteServer != nil {
			got = target.RouteServer.Lines()
		}
	}
	want := []string{
		"peer by-hand 10.0.0.6 AS 65003, settled, not Pointsman's, session connected",
		"peer pointsman-nva-a 10.0.0.4 AS 65001, settled, Pointsman's",
		"peer pointsman-nva-b 10.0.0.5 AS 65002, changing, Pointsman's",
		"in work since 2026-11-23T11:59:20Z: create pointsman-nva-b 10.0.0.5 AS 65002",
		"4 routes learned from nva-a by RouteServiceRole_IN_0, as announced",
		"learned from nva-a by RouteServiceRole_IN_1: 1 missing, 0 not announced, 0 with another next hop (10.64.1.0/24 is missing)",
		"what was learned from nva-c is not known: the Route Server has no peer for it",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	body, err := json.Marshal(r)
	if err != nil || strings.Contains(string(body), "secret") {
		t.Errorf("%v: the token is shown: %s", err, body)
	}
}
