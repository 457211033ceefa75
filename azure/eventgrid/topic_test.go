package eventgrid_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"

	topic "github.com/pointsman/pointsman/azure/eventgrid"
	"github.com/pointsman/pointsman/emulator/eventgrid"
	"github.com/pointsman/pointsman/emulator/localca"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/test/jsonschema"
)

const key = "c2VjcmV0"

// token is a credential that gives what it is, or nothing.
type token struct{ err error }

// GetToken implements azcore.TokenCredential.
func (c token) GetToken(_ context.Context, o policy.TokenRequestOptions) (azcore.AccessToken, error) {
	if len(o.Scopes) != 1 || o.Scopes[0] != "https://eventgrid.azure.net/.default" {
		return azcore.AccessToken{}, errors.New("another scope")
	}
	return azcore.AccessToken{Token: "t", ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

// lab is an emulated topic and a clock.
type lab struct {
	t    *testing.T
	grid *eventgrid.Server
	cfg  topic.Config
	now  time.Time
}

func newLab(t *testing.T) *lab {
	t.Helper()
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	tls, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	grid, err := eventgrid.Start(eventgrid.Config{TLS: tls, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: tls.Clone()}
	transport.TLSClientConfig.RootCAs = ca.Pool()
	t.Cleanup(func() {
		if failed := grid.Close(); failed != nil {
			t.Error(failed)
		}
	})
	l := &lab{t: t, grid: grid, now: time.Now()}
	l.cfg = topic.Config{Endpoint: grid.URL(), Credential: token{}, Transport: &http.Client{Transport: transport}, Now: func() time.Time { return l.now }}
	return l
}

func (l *lab) topic() *topic.Topic {
	l.t.Helper()
	made, err := topic.New(l.cfg)
	if err != nil {
		l.t.Fatal(err)
	}
	return made
}

func event() outcome.Event {
	return outcome.OfTarget(outcome.RouteChanged, "R1", time.Date(2026, 11, 23, 12, 0, 0, 5000, time.UTC), "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", outcome.Data{
		Domain: "hub", Target: "spokes", Table: "/subscriptions/s", Run: "R1", Added: 1, Routes: []outcome.Route{{Prefix: netip.MustParsePrefix("10.1.0.0/16"), After: "10.0.0.4"}},
	})
}

// What arrives is what the document held, in the published schema, by token and by key.
func TestWhatArrivesIsWhatWasStored(t *testing.T) {
	l := newLab(t)
	want, err := json.Marshal(event())
	if err != nil {
		t.Fatal(err)
	}
	for name, edit := range map[string]func(*topic.Config){
		"token": func(*topic.Config) {}, "key": func(c *topic.Config) { c.Credential, c.Key = nil, key },
	} {
		edit(&l.cfg)
		if err = l.topic().Publish(t.Context(), []outcome.Event{event()}); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	schema := jsonschema.Read(t, "../../docs/schema/outcome.schema.json")
	events := l.grid.Events()
	if len(events) != 2 {
		t.Fatalf("%d events arrived", len(events))
	}
	for _, e := range events {
		got := jsonschema.Object(t, e.Body)
		if diff := cmp.Diff(jsonschema.Object(t, want), got); diff != "" {
			t.Errorf("-stored +arrived:\n%s", diff)
		}
		if err = schema.Validate("event", got); err != nil {
			t.Error(err)
		}
	}
}

// What each failure means, and what to do about it.
func TestFailures(t *testing.T) {
	for _, tt := range []struct {
		name   string
		fault  eventgrid.Fault
		edit   func(*topic.Config)
		kind   fault.Kind
		advice string
	}{
		{"a wrong key", eventgrid.Fault{}, func(c *topic.Config) { c.Credential, c.Key = nil, "x" }, fault.Denied, "EventGrid Data Sender"},
		{"no right", eventgrid.Fault{Status: 403}, nil, fault.Denied, "EventGrid Data Sender"},
		{"no topic", eventgrid.Fault{Status: 404}, nil, fault.NotFound, "create the topic"},
		{"another schema", eventgrid.Fault{Status: 400}, nil, fault.Refused, "CloudEvents 1.0"},
		{"too large", eventgrid.Fault{Status: 413}, nil, fault.Refused, ""},
		{"too many", eventgrid.Fault{Status: 429, Count: -1, Header: http.Header{"Retry-After": {"70"}}}, nil, fault.Throttled, ""},
		{"down", eventgrid.Fault{Status: 503, Count: -1}, nil, fault.Transient, ""},
		{"gone", eventgrid.Fault{DropConnection: true, Count: -1}, nil, fault.Transient, ""},
		{"no identity", eventgrid.Fault{}, func(c *topic.Config) { c.Credential = token{fault.New(fault.Denied, "no managed identity")} }, fault.Denied, "no managed identity"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLab(t)
			if tt.edit != nil {
				tt.edit(&l.cfg)
			} else {
				l.grid.Faults().Script(tt.fault)
			}
			err := l.topic().Publish(t.Context(), []outcome.Event{event()})
			if !fault.Is(err, tt.kind) || !strings.Contains(err.Error(), tt.advice) {
				t.Errorf("%v, want %s with %q", err, tt.kind, tt.advice)
			}
		})
	}
}

// A topic that is away is left alone for a while, at once and without a call; then it is asked again. A refused batch says nothing of the topic.
func TestRest(t *testing.T) {
	l := newLab(t)
	l.grid.Faults().Outage(true)
	made := l.topic()
	publish := func() error { return made.Publish(t.Context(), []outcome.Event{event()}) }
	if publish() == nil {
		t.Fatal("published into an outage")
	}
	l.grid.Faults().Clear()
	before := l.grid.Requests()
	l.now = l.now.Add(29 * time.Second)
	if err := publish(); !fault.Is(err, fault.Transient) || !strings.Contains(err.Error(), "not tried for another 1s") || l.grid.Requests() != before {
		t.Errorf("%v, %d requests", err, l.grid.Requests()-before)
	}
	l.now = l.now.Add(time.Second)
	if err := publish(); err != nil {
		t.Error(err)
	}
	l.grid.Faults().Script(eventgrid.Fault{Status: 400})
	if publish() == nil {
		t.Error("the batch was not refused")
	}
	if err := publish(); err != nil {
		t.Errorf("after a refused batch: %v", err)
	}
	l.grid.Faults().Script(eventgrid.Fault{Status: 429, Count: 2, Header: http.Header{"Retry-After": {"70"}}})
	if publish() == nil {
		t.Error("not throttled")
	}
	l.grid.Faults().Clear()
	l.now = l.now.Add(69 * time.Second)
	if publish() == nil {
		t.Error("asked before the service wanted to be")
	}
}

func TestConfig(t *testing.T) {
	good := topic.Config{Endpoint: "https://t.westeurope-1.eventgrid.azure.net/api/events", Key: key}
	for name, edit := range map[string]func(*topic.Config){
		"no endpoint":    func(c *topic.Config) { c.Endpoint = "" },
		"a host alone":   func(c *topic.Config) { c.Endpoint = "t.westeurope-1.eventgrid.azure.net" },
		"no credential":  func(c *topic.Config) { c.Key = "" },
		"two of them":    func(c *topic.Config) { c.Credential = token{} },
		"another scheme": func(c *topic.Config) { c.Endpoint = "ftp://t/api/events" },
	} {
		cfg := good
		edit(&cfg)
		if _, err := topic.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := topic.New(good); err != nil {
		t.Error(err)
	}
}
