package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"

	"github.com/pointsman/pointsman/azure/blob"
	"github.com/pointsman/pointsman/azure/eventgrid"
	"github.com/pointsman/pointsman/azure/identity"
	"github.com/pointsman/pointsman/azure/routeserver"
	"github.com/pointsman/pointsman/azure/routetable"
	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/functions/belief"
	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/drift"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/reconcile"
	"github.com/pointsman/pointsman/functions/status"
	"github.com/pointsman/pointsman/functions/sweep"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/wake"
)

// The times that the functions work with.
const (
	lease          = 30 * time.Second // of a writer; longer writes stay safe, they only cost a wasted read
	ingestPatience = 20 * time.Second // below the lock of a batch, which nobody renews
	callTimeout    = 4 * time.Minute  // below the renewal of a single message's lock
	sweepSpread    = time.Minute
	parallelReads  = 16
)

// wire builds the functions over the Azure adapters. Nothing is connected yet.
func wire(s settings, log *slog.Logger) (map[string]invocation.Function, error) {
	credential, err := identity.New(identity.Config{ClientID: s.clientID})
	if err != nil {
		return nil, fmt.Errorf("identity: %w", err)
	}
	state, err := container(s, credential, s.stateContainer)
	if err != nil {
		return nil, err
	}
	poison, err := container(s, credential, s.poisonContainer)
	if err != nil {
		return nil, err
	}
	sender, err := servicebus.NewSender(bus(s, credential, log))
	if err != nil {
		return nil, fmt.Errorf("service bus: %w", err)
	}
	tables, err := routetable.New(routetable.Config{Credential: credential, Endpoint: s.armEndpoint, Audience: s.armAudience, Logger: log})
	if err != nil {
		return nil, fmt.Errorf("route tables: %w", err)
	}
	servers, err := routeserver.New(routeserver.Config{Credential: credential, Endpoint: s.armEndpoint, Audience: s.armAudience})
	if err != nil {
		return nil, fmt.Errorf("route servers: %w", err)
	}
	wakes := wakes{sender}
	store := documents.NewStore(state, parallelReads)
	lot := ingest.ShelfLot{Shelf: poison}
	in := &ingest.Ingest{Store: store, Wakes: wakes, Lot: lot, Now: time.Now, Log: log, Patience: ingestPatience, Pause: pause}
	if s.journal {
		in.Journal = documents.NewJournal(state)
	}
	re := &reconcile.Reconcile{Store: store, Tables: tables, Subnets: tables, Meter: tables, Wakes: wakes, Now: time.Now, NewRun: rand.Text, Lease: lease, Log: log}
	re.Peers, re.Learned = servers, servers
	sw := &sweep.Sweep{Store: store, Wakes: wakes, Now: time.Now, Spread: sweepSpread, Log: log, Retention: documents.NewRetention(state, s.historyDays, s.journalDays)}
	st := &status.Status{Store: store, Lot: lot, Now: time.Now}
	dr := &drift.Drift{Store: store, Wakes: wakes, Lot: lot, Own: drift.Identity{AppID: s.clientID, ObjectID: s.objectID}, Now: time.Now, Log: log}
	if s.topicEndpoint != "" {
		topic, bad := topic(s, credential)
		if bad != nil {
			return nil, bad
		}
		beliefs := &belief.Teller{Store: store, Topic: topic, Now: time.Now, Log: log}
		re.Topic, in.Beliefs, sw.Beliefs = topic, beliefs, beliefs
	} else if s.metrics {
		beliefs := &belief.Teller{Store: store, Now: time.Now, Log: log}
		in.Beliefs, sw.Beliefs = beliefs, beliefs
	}
	return functions(in, re, sw, st, dr), nil
}

// wakes puts wakes on the bus, and tells the invocation's record of them.
type wakes struct{ bus *servicebus.Sender }

// Send implements the functions' ports for wakes.
func (s wakes) Send(ctx context.Context, w wake.Wake, at time.Time) error {
	m, err := w.Message()
	if err == nil {
		err = s.bus.Send(ctx, m, at)
	}
	if err == nil {
		telemetry.Of(ctx).Add(telemetry.Wakes, 1)
	}
	return err
}

// topic is where outcome events go: by key where there is one, else by the identity.
func topic(s settings, credential azcore.TokenCredential) (*eventgrid.Topic, error) {
	cfg := eventgrid.Config{Endpoint: s.topicEndpoint, Key: s.topicKey}
	if s.topicKey == "" {
		cfg.Credential = credential
	}
	t, err := eventgrid.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("OutcomeTopic__topicEndpointUri: %w", err)
	}
	return t, nil
}

// functions gives each function its name in the staged app and its binding's name in function.json.
func functions(in *ingest.Ingest, re *reconcile.Reconcile, sw *sweep.Sweep, st *status.Status, dr *drift.Drift) map[string]invocation.Function {
	return map[string]invocation.Function{
		"Ingest": func(ctx context.Context, r invocation.Request) (map[string]any, error) {
			batch, err := r.Batch("messages")
			if err != nil {
				return nil, err
			}
			return nil, in.Handle(ctx, batch)
		},
		"Reconcile": func(ctx context.Context, r invocation.Request) (map[string]any, error) {
			m, err := r.Single("message")
			if err != nil {
				return nil, err
			}
			ctx, cancel := context.WithTimeout(ctx, callTimeout)
			defer cancel()
			return nil, re.Handle(ctx, m)
		},
		"Sweep": func(ctx context.Context, _ invocation.Request) (map[string]any, error) {
			return nil, sw.Handle(ctx)
		},
		"Drift": func(ctx context.Context, r invocation.Request) (map[string]any, error) {
			m, err := r.Single("event")
			if err != nil {
				return nil, err
			}
			return nil, dr.Handle(ctx, m.Body)
		},
		"Status": func(ctx context.Context, r invocation.Request) (map[string]any, error) {
			report, err := st.Report(ctx, r.Query("req", "domain"))
			return map[string]any{"res": page(report, err, r.Query("req", "format"))}, nil
		},
	}
}

func container(s settings, credential azcore.TokenCredential, name string) (*ensured, error) {
	cfg := blob.Config{ConnectionString: s.stateConnection, Container: name}
	if s.stateURL != "" {
		cfg.ServiceURL, cfg.Credential = s.stateURL, credential
	}
	store, err := blob.New(cfg)
	if err != nil {
		return nil, fmt.Errorf("container %s: %w", name, err)
	}
	return &ensured{store: store}, nil
}

func bus(s settings, credential azcore.TokenCredential, log *slog.Logger) servicebus.Config {
	cfg := servicebus.Config{ConnectionString: s.busConnection, Queue: reconcileQueue, Logger: log}
	if s.busNamespace != "" {
		cfg.Namespace, cfg.Credential = s.busNamespace, credential
	}
	return cfg
}

func pause(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}

// page is the answer of the Status function: JSON, or Prometheus' text with ?format=prometheus.
func page(report status.Report, err error, format string) map[string]any {
	if err != nil {
		return httpAnswer(http.StatusServiceUnavailable, "application/json", fmt.Sprintf("{\"error\":%q}", err.Error()))
	}
	if format == "prometheus" {
		return httpAnswer(http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", report.Prometheus())
	}
	body, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		return httpAnswer(http.StatusInternalServerError, "text/plain", err.Error())
	}
	return httpAnswer(http.StatusOK, "application/json", string(body))
}

func httpAnswer(code int, contentType, body string) map[string]any {
	return map[string]any{"statusCode": code, "headers": map[string]string{"Content-Type": contentType}, "body": body}
}
