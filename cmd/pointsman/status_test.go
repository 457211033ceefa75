package main

import (
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/status"
)

// What a group disagrees about, and that writes run short, stands in the table.
func TestGroupsAndBudgetsInTheTable(t *testing.T) {
	r := status.Report{Domains: []status.Domain{{
		Name: "hub",
		Groups: []status.Group{
			{Name: "firewall", Targets: []string{"spokes", "gateway"}, State: "incomplete", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Skew: 33.25, Because: "gateway", Reason: "denied: the scope is locked"},
			{Name: "mail", Targets: []string{"a", "b"}, State: "complete", Skew: 0.1},
		},
		Budgets: []status.Budget{{Subscription: "s", Share: 0.15}, {Subscription: "plenty", Share: 1}},
	}}}
	var b strings.Builder
	if err := printStatus(&b, "table", r); err != nil {
		t.Fatal(err)
	}
	want := `domain hub
  GROUP     STATE       SINCE                 SKEW   TARGETS          REASON
  firewall  incomplete  2026-03-01T12:00:00Z  33.2s  spokes, gateway  gateway: denied: the scope is locked
  mail      complete    never                 0.1s   a, b             
  subscription s: 15 % of its writes are left, dead next hops go first
`
	if b.String() != want {
		t.Errorf("%s\nwant\n%s", b.String(), want)
	}
}

// The history says how far apart the tables of a group were written.
func TestAgreementInTheHistory(t *testing.T) {
	skew := 1.25
	x := written{At: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), Domain: "hub", Target: "spokes", Cause: "nva-a/3", Group: "firewall", View: "0011223344556677", Skew: &skew}
	if got, want := x.text(false), "2026-03-01T12:00:00Z  the tables of group firewall agree, 1.2 s after one another\n"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
}
