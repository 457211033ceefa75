package sweep_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/sweep"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/wake"
)

// estate is the domains with their targets, and the wakes that were sent.
type estate struct {
	names   []string
	domains map[string]documents.Domain
	sent    []string // id at offset
	looked  []string
	refuse  string // a part of the id of a wake that cannot be sent
}

func noon() time.Time { return time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC) }

func (e *estate) Domains(context.Context) ([]string, error) {
	if e.names == nil {
		return nil, errors.New("the store is away")
	}
	return e.names, nil
}

func (e *estate) Domain(_ context.Context, name string) (documents.Domain, error) {
	d, ok := e.domains[name]
	if !ok {
		return documents.Domain{}, fault.New(fault.Poison, "domain file %s is not valid", name)
	}
	return d, nil
}

func (e *estate) Send(_ context.Context, w wake.Wake, at time.Time) error {
	if e.refuse != "" && strings.Contains(w.ID(), e.refuse) {
		return errors.New("the bus is away")
	}
	e.sent = append(e.sent, w.ID()+" at "+at.Sub(noon()).String())
	return nil
}

// Look is what tells the outside of NVAs.
func (e *estate) Look(_ context.Context, domain string) {
	e.looked = append(e.looked, fmt.Sprintf("%s after %d wakes", domain, len(e.sent)))
}

func targets(names ...string) documents.Domain {
	d := &config.Domain{}
	for _, n := range names {
		d.Targets = append(d.Targets, config.Target{Name: n})
	}
	return documents.Domain{Config: d}
}

func (e *estate) sweep(t *testing.T) (log string, err error) {
	t.Helper()
	var text strings.Builder
	s := &sweep.Sweep{Beliefs: e, Store: e, Wakes: e, Now: noon, Spread: time.Minute, Log: slog.New(slog.NewTextHandler(&text, nil))}
	err = s.Handle(t.Context())
	return text.String(), err
}

// Every target of every domain is woken, evenly over the spread.
func TestSweepWakesAll(t *testing.T) {
	e := &estate{names: []string{"edge", "hub"}, domains: map[string]documents.Domain{"edge": targets("a"), "hub": targets("b", "c")}}
	if _, err := e.sweep(t); err != nil {
		t.Fatal(err)
	}
	want := []string{"edge/a/sweep/20261123T1200 at 0s", "hub/b/sweep/20261123T1200 at 20s", "hub/c/sweep/20261123T1200 at 40s"}
	if !slices.Equal(e.sent, want) {
		t.Errorf("%q, want %q", e.sent, want)
	}
	if want = []string{"edge after 3 wakes", "hub after 3 wakes"}; !slices.Equal(e.looked, want) {
		t.Errorf("looked at %q, want %q", e.looked, want)
	}
}

// The tables of a group are looked at in the same instant.
func TestAGroupIsSweptTogether(t *testing.T) {
	d := targets("a", "b", "c")
	d.Config.Groups = []config.Group{{Name: "firewall", Targets: []string{"c", "a"}}}
	e := &estate{names: []string{"hub"}, domains: map[string]documents.Domain{"hub": d}}
	if _, err := e.sweep(t); err != nil {
		t.Fatal(err)
	}
	want := []string{"hub/c/sweep/20261123T1200 at 0s", "hub/a/sweep/20261123T1200 at 0s", "hub/b/sweep/20261123T1200 at 30s"}
	if !slices.Equal(e.sent, want) {
		t.Errorf("%q, want %q", e.sent, want)
	}
}

// A Route Server is a target too, with tables beside it or without.
func TestRouteServersAreSwept(t *testing.T) {
	d := targets("a")
	d.Config.RouteServers = []config.RouteServer{{Name: "rs"}}
	e := &estate{names: []string{"hub"}, domains: map[string]documents.Domain{"hub": d}}
	if _, err := e.sweep(t); err != nil {
		t.Fatal(err)
	}
	want := []string{"hub/a/sweep/20261123T1200 at 0s", "hub/rs/sweep/20261123T1200 at 30s"}
	if !slices.Equal(e.sent, want) {
		t.Errorf("%q, want %q", e.sent, want)
	}
}

func TestSweepOfNothing(t *testing.T) {
	e := &estate{names: []string{}}
	if _, err := e.sweep(t); err != nil || len(e.sent) > 0 {
		t.Errorf("%q, %v", e.sent, err)
	}
}

// A domain, or a wake, in trouble keeps no other from being swept, and the run counts as failed.
func TestOneDomainsTroubleIsItsOwn(t *testing.T) {
	e := &estate{names: []string{"broken", "hub"}, domains: map[string]documents.Domain{"hub": targets("b", "c")}, refuse: "hub/b"}
	log, err := e.sweep(t)
	if err == nil || !strings.Contains(err.Error(), "domain file broken") || !strings.Contains(err.Error(), "sweep hub/b: the bus is away") {
		t.Errorf("error %v", err)
	}
	if !slices.Equal(e.sent, []string{"hub/c/sweep/20261123T1200 at 30s"}) || !strings.Contains(log, "domain=broken") {
		t.Errorf("sent %q, log %s", e.sent, log)
	}
	if _, err = (&estate{}).sweep(t); err == nil {
		t.Error("a store that is away is no error")
	}
}

func TestInvalidNewestFileIsLoggedByEverySweep(t *testing.T) {
	d := targets("b")
	d.Problems = located.Problems{{File: "domains/hub.yaml", Line: 3, Column: 7, Field: "policy", Text: "what is wrong"}}
	e := &estate{names: []string{"hub"}, domains: map[string]documents.Domain{"hub": d}}
	log, err := e.sweep(t)
	if err != nil || len(e.sent) != 1 || !strings.Contains(log, "level=ERROR") || !strings.Contains(log, "domains/hub.yaml:3:7: policy: what is wrong") {
		t.Errorf("sent %q, %v, log %s", e.sent, err, log)
	}
}

// keeper counts how often it was asked.
type keeper struct {
	asked []time.Time
	err   error
	after int // wakes that were sent before
	e     *estate
}

func (k *keeper) Clean(_ context.Context, now time.Time) (int, error) {
	k.asked, k.after = append(k.asked, now), len(k.e.sent)
	return 3, k.err
}

// Old files are deleted after the wakes; that they cannot be is no reason to sweep again.
func TestOldFilesAreDeletedLast(t *testing.T) {
	e := &estate{names: []string{"hub"}, domains: map[string]documents.Domain{"hub": targets("a", "b")}}
	k := &keeper{e: e, err: errors.New("the store is away")}
	var log strings.Builder
	record := telemetry.New("Sweep", "", nil, noon)
	s := &sweep.Sweep{Store: e, Wakes: e, Now: noon, Spread: time.Minute, Log: slog.New(slog.NewTextHandler(&log, nil)), Retention: k}
	if err := s.Handle(telemetry.With(t.Context(), record)); err != nil || len(k.asked) != 1 || !k.asked[0].Equal(noon()) || k.after != 2 {
		t.Errorf("asked at %v after %d wakes (%v)", k.asked, k.after, err)
	}
	record.Close(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), nil)
	for _, want := range []string{"old files are not deleted yet", "deleted=3", "targets=2", "domains=[hub]"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log says\n%swant %q", log.String(), want)
		}
	}
}
