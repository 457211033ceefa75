// Package eventgrid publishes outcome events to an Event Grid topic with the CloudEvents 1.0 schema.
package eventgrid

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/messaging"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/eventgrid/azeventgrid"

	"github.com/pointsman/pointsman/azure/internal/httperror"
	"github.com/pointsman/pointsman/azure/internal/ownbody"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
)

const (
	// A publish may be repeated once, shortly: what is not sent now is kept and sent by the next run.
	retries    = 1
	retryDelay = 200 * time.Millisecond
	// defaultRest is how long a topic that did not answer, or refused us, is left alone.
	defaultRest = 30 * time.Second
)

// Config says which topic.
type Config struct {
	Endpoint   string                 // of the topic: https://NAME.REGION-1.eventgrid.azure.net/api/events
	Credential azcore.TokenCredential // with the role EventGrid Data Sender on it
	Key        string                 // instead of it: a key of the topic, for labs and other clouds
	Rest       time.Duration          // after a failure nothing is sent for so long; zero: 30 s
	Transport  policy.Transporter     // nil: the SDK's own
	Now        func() time.Time       // nil: time.Now
}

// Topic publishes. Its methods may be called by several goroutines at once; every error has a fault kind.
//
// After a failure it refuses at once for a while: many targets share a function app, and a topic that is away must not cost each of them its
// patience. Nothing rests on that memory, so each instance has its own.
type Topic struct {
	cfg    Config
	client *azeventgrid.Client

	mu    sync.Mutex
	until time.Time // rests
	why   error
}

// New checks the configuration; it does not connect.
func New(cfg Config) (*Topic, error) {
	endpoint, err := url.Parse(cfg.Endpoint)
	if err != nil || endpoint.Host == "" || endpoint.Scheme != "https" && endpoint.Scheme != "http" {
		return nil, fmt.Errorf("event grid: the endpoint is %q: want https://NAME.REGION-1.eventgrid.azure.net/api/events", cfg.Endpoint)
	}
	if (cfg.Credential == nil) == (cfg.Key == "") {
		return nil, errors.New("event grid: want either a credential or a key")
	}
	cfg.Rest = cmp.Or(cfg.Rest, defaultRest)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	options := &azeventgrid.ClientOptions{ClientOptions: azcore.ClientOptions{
		Transport: cfg.Transport,
		Retry:     policy.RetryOptions{MaxRetries: retries, RetryDelay: retryDelay, MaxRetryDelay: retryDelay},

		PerRetryPolicies: []policy.Policy{ownbody.Policy{}},
	}}
	t := &Topic{cfg: cfg}
	if cfg.Key != "" {
		t.client, err = azeventgrid.NewClientWithSharedKeyCredential(cfg.Endpoint, azcore.NewKeyCredential(cfg.Key), options)
	} else {
		t.client, err = azeventgrid.NewClient(cfg.Endpoint, cfg.Credential, options)
	}
	if err != nil {
		return nil, fmt.Errorf("event grid: %w", err)
	}
	return t, nil
}

// Publish sends the events as one batch, which the service takes as a whole or not at all. A batch may have 1 MB; an outbox is far smaller.
// Refused means that the topic will never take this batch: it is too large, or one of its events is not what the topic wants.
func (t *Topic) Publish(ctx context.Context, events []outcome.Event) error {
	if err := t.resting(); err != nil {
		return err
	}
	batch := make([]messaging.CloudEvent, len(events))
	for i, e := range events {
		batch[i] = cloudEvent(e)
	}
	_, err := t.client.PublishCloudEvents(ctx, batch, nil)
	if err == nil {
		return nil
	}
	f := classify(err)
	if f.Kind != fault.Refused {
		t.rest(f)
	}
	return f
}

func (t *Topic) resting() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if wait := t.until.Sub(t.cfg.Now()); wait > 0 {
		return &fault.Error{Kind: fault.Transient, Err: fmt.Errorf("event grid: not tried for another %s after: %w", wait.Round(time.Second), t.why)}
	}
	return nil
}

func (t *Topic) rest(f *fault.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.until, t.why = t.cfg.Now().Add(cmp.Or(f.RetryAfter, t.cfg.Rest)), f
}

// cloudEvent turns an event into the SDK's form.
func cloudEvent(e outcome.Event) messaging.CloudEvent {
	c := messaging.CloudEvent{
		ID: e.ID, Source: e.Source, SpecVersion: e.SpecVersion, Type: e.Type, Subject: &e.Subject, Time: &e.Time, DataContentType: &e.ContentType, Data: e.Data,
	}
	if e.Traceparent != "" {
		c.Extensions = map[string]any{"traceparent": e.Traceparent}
	}
	return c
}

// classify gives a failure its kind. Source: "Post events to Event Grid custom topics", responses.
func classify(err error) *fault.Error {
	e, ok := httperror.From(err)
	if !ok {
		if known, has := errors.AsType[*fault.Error](err); has { // the credential's
			return &fault.Error{Kind: known.Kind, Code: known.Code, Advice: known.Advice, Err: fmt.Errorf("event grid: %w", err)}
		}
		return &fault.Error{Kind: fault.Transient, Err: fmt.Errorf("event grid: %w", err)}
	}
	f := &fault.Error{Kind: fault.Transient, Code: e.Specific(), RetryAfter: e.RetryAfter, Err: fmt.Errorf("event grid: %w", e)}
	switch e.Status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType:
		f.Kind, f.Advice = fault.Refused, "the topic must have the schema CloudEvents 1.0"
	case http.StatusUnauthorized, http.StatusForbidden:
		f.Kind, f.Advice = fault.Denied, "give the identity the role EventGrid Data Sender on the topic, or correct the key"
	case http.StatusNotFound:
		f.Kind, f.Advice = fault.NotFound, "create the topic, or correct its endpoint"
	case http.StatusTooManyRequests:
		f.Kind = fault.Throttled
	}
	return f
}
