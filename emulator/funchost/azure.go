package funchost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"github.com/google/uuid"
)

// trickle is how long a session receiver waits for one more message of a batch that is not full.
const trickle = 50 * time.Millisecond

// newClient opens a Service Bus client for a binding's connection: a connection string in the setting of that name, or
// an identity with <name>__fullyQualifiedNamespace. Fewer than 0 retries means none.
func newClient(s settings, connection string, retries int32) (*azservicebus.Client, string, error) {
	if connection == "" {
		connection = "AzureWebJobsServiceBus"
	}
	options := &azservicebus.ClientOptions{
		ApplicationID: "funchost",
		RetryOptions:  azservicebus.RetryOptions{MaxRetries: retries},
	}
	if v, ok := s.get(connection); ok && v != "" {
		return clientFromString(connection, v, options)
	}
	if ns, ok := s.get(connection + "__fullyQualifiedNamespace"); ok {
		credential, err := newCredential(s, connection)
		if err != nil {
			return nil, "", fmt.Errorf("connection %s: %w", connection, err)
		}
		client, err := azservicebus.NewClient(ns, credential, options)
		if err != nil {
			return nil, "", fmt.Errorf("connection %s: %w", connection, err)
		}
		return client, ns, nil
	}
	return nil, "", fmt.Errorf("service bus connection %s does not exist: set it to a connection string, or set %s__fullyQualifiedNamespace", connection, connection)
}

func clientFromString(connection, value string, options *azservicebus.ClientOptions) (*azservicebus.Client, string, error) {
	client, err := azservicebus.NewClientFromConnectionString(value, options)
	if err != nil {
		return nil, "", fmt.Errorf("connection %s: %w", connection, err) // the client's errors do not quote keys
	}
	return client, endpointHost(value), nil
}

// endpointHost is the namespace in a connection string; the client has checked the string.
func endpointHost(connectionString string) string {
	for part := range strings.SplitSeq(connectionString, ";") {
		if k, v, _ := strings.Cut(part, "="); strings.EqualFold(k, "Endpoint") {
			_, host, _ := strings.Cut(v, "://")
			host, _, _ = strings.Cut(strings.TrimRight(host, "/"), ":")
			return host
		}
	}
	return ""
}

// newCredential follows the identity-based connection properties: credential=managedidentity with clientId, else the
// default chain.
func newCredential(s settings, connection string) (azcore.TokenCredential, error) {
	if kind, _ := s.get(connection + "__credential"); !strings.EqualFold(kind, "managedidentity") {
		c, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return nil, fmt.Errorf("default credential: %w", err)
		}
		return c, nil
	}
	options := &azidentity.ManagedIdentityCredentialOptions{}
	if id, ok := s.get(connection + "__clientId"); ok {
		options.ID = azidentity.ClientID(id)
	}
	c, err := azidentity.NewManagedIdentityCredential(options)
	if err != nil {
		return nil, fmt.Errorf("managed identity: %w", err)
	}
	return c, nil
}

// azureBus is a bus on the real client library, with a client of its own: a dead connection of one function must not
// cut the links of another.
type azureBus struct {
	client  *azservicebus.Client
	ns      string
	trigger binding
}

func (h *Host) openAzureBus(f *function) (bus, error) {
	client, ns, err := newClient(h.settings, f.trigger.Connection, -1) // the loops try again themselves, and say so
	if err != nil {
		return nil, err
	}
	return &azureBus{client, ns, f.trigger}, nil
}

func (b *azureBus) namespace() string { return b.ns }

func (b *azureBus) close(ctx context.Context) { _ = b.client.Close(ctx) } // nothing is left to be done about it

func (b *azureBus) receive(context.Context) (receiver, error) {
	var r *azservicebus.Receiver
	var err error
	if t := b.trigger; t.QueueName != "" {
		r, err = b.client.NewReceiverForQueue(t.QueueName, nil)
	} else {
		r, err = b.client.NewReceiverForSubscription(t.TopicName, t.SubscriptionName, nil)
	}
	if err != nil {
		return nil, fmt.Errorf("receiver: %w", err)
	}
	return plainReceiver{r}, nil
}

func (b *azureBus) accept(ctx context.Context) (receiver, error) {
	ctx, cancel := context.WithTimeout(ctx, acceptWait)
	defer cancel()
	var r *azservicebus.SessionReceiver
	var err error
	if t := b.trigger; t.QueueName != "" {
		r, err = b.client.AcceptNextSessionForQueue(ctx, t.QueueName, nil)
	} else {
		r, err = b.client.AcceptNextSessionForSubscription(ctx, t.TopicName, t.SubscriptionName, nil)
	}
	// The broker answers a hair before our own deadline, or a hair after.
	if timeout := (*azservicebus.Error)(nil); errors.As(err, &timeout) && timeout.Code == azservicebus.CodeTimeout || ctx.Err() != nil && err != nil {
		return nil, errNoSession
	}
	if err != nil {
		return nil, fmt.Errorf("accept session: %w", err)
	}
	return sessionReceiver{r}, nil
}

// plainReceiver is a receiver on a plain entity.
type plainReceiver struct{ r *azservicebus.Receiver }

func (p plainReceiver) fetch(ctx context.Context, limit int) ([]*message, error) {
	return fetched(p.r.ReceiveMessages(ctx, limit, nil))
}

func (p plainReceiver) settle(ctx context.Context, m *message, complete bool) error {
	if complete {
		return p.r.CompleteMessage(ctx, m, nil) //nolint:wrapcheck // the caller names the message
	}
	return p.r.AbandonMessage(ctx, m, nil) //nolint:wrapcheck // the caller names the message
}

func (p plainReceiver) renew(ctx context.Context, m *message) (time.Time, error) {
	if err := p.r.RenewMessageLock(ctx, m, nil); err != nil {
		return time.Time{}, fmt.Errorf("renew lock: %w", err)
	}
	return or(m.LockedUntil, time.Time{}), nil
}

func (plainReceiver) sessionUntil() (time.Time, bool) { return time.Time{}, false }

func (p plainReceiver) close(ctx context.Context) { _ = p.r.Close(ctx) }

// sessionReceiver is a receiver on one session.
type sessionReceiver struct{ r *azservicebus.SessionReceiver }

// fetch takes messages one by one: with more credit than that the client gives late ones back while later ones are on
// their way, and the session's order is lost.
func (s sessionReceiver) fetch(ctx context.Context, limit int) ([]*message, error) {
	batch, err := fetched(s.r.ReceiveMessages(ctx, 1, nil))
	for err == nil && len(batch) > 0 && len(batch) < limit {
		more, cancel := context.WithTimeout(ctx, trickle)
		next, nextErr := fetched(s.r.ReceiveMessages(more, 1, nil))
		cancel()
		if nextErr != nil || len(next) == 0 {
			break // what is here is delivered; the next call meets the error again
		}
		batch = append(batch, next...)
	}
	return batch, err
}

func (s sessionReceiver) settle(ctx context.Context, m *message, complete bool) error {
	if complete {
		return s.r.CompleteMessage(ctx, m, nil) //nolint:wrapcheck // the caller names the message
	}
	return s.r.AbandonMessage(ctx, m, nil) //nolint:wrapcheck // the caller names the message
}

func (s sessionReceiver) renew(ctx context.Context, _ *message) (time.Time, error) {
	if err := s.r.RenewSessionLock(ctx, nil); err != nil {
		return time.Time{}, fmt.Errorf("renew session lock: %w", err)
	}
	return s.r.LockedUntil(), nil
}

func (s sessionReceiver) sessionUntil() (time.Time, bool) { return s.r.LockedUntil(), true }

func (s sessionReceiver) close(ctx context.Context) { _ = s.r.Close(ctx) }

// fetched maps "nothing came in time" to no messages.
func fetched(ms []*message, err error) ([]*message, error) {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return ms, nil
	}
	if err != nil {
		return nil, fmt.Errorf("receive: %w", err)
	}
	return ms, nil
}

// clientObject is the Client entry of the metadata.
func clientObject(namespace string) *object {
	return (&object{}).set("FullyQualifiedNamespace", namespace).set("IsClosed", false).set("TransportType", 0).
		set("Identifier", namespace+"-"+uuid.NewString())
}

func lockToken(m *message) string { return uuid.UUID(m.LockToken).String() }

// senders keeps one client and sender per output entity.
type senders struct {
	settings settings
	mu       sync.Mutex
	open     map[string]*sender
}

type sender struct {
	client *azservicebus.Client
	sender *azservicebus.Sender
}

// send sends bodies to the entity of an output binding: no properties, no session id (contract D5).
func (s *senders) send(ctx context.Context, b *binding, bodies [][]byte) error {
	out, err := s.get(b)
	if err != nil {
		return err
	}
	for _, body := range bodies {
		if err = out.SendMessage(ctx, &azservicebus.Message{Body: body}, nil); err != nil {
			return fmt.Errorf("output binding %s: %w", b.Name, err)
		}
	}
	return nil
}

func (s *senders) get(b *binding) (*azservicebus.Sender, error) {
	entity := b.QueueName
	if entity == "" {
		entity = b.TopicName
	}
	key := b.Connection + "\x00" + entity
	s.mu.Lock()
	defer s.mu.Unlock()
	if out, ok := s.open[key]; ok {
		return out.sender, nil
	}
	client, _, err := newClient(s.settings, b.Connection, 3)
	if err != nil {
		return nil, err
	}
	out, err := client.NewSender(entity, nil)
	if err != nil {
		return nil, fmt.Errorf("output binding %s: %w", b.Name, err)
	}
	if s.open == nil {
		s.open = map[string]*sender{}
	}
	s.open[key] = &sender{client, out}
	return out, nil
}

func (s *senders) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	for _, out := range s.open {
		_ = out.client.Close(ctx)
	}
	s.open = nil
	return nil
}

// publish sends what the handler returned for serviceBus outputs; any failure fails the function (contract D5).
func (h *Host) publish(f *function, r *reply) error {
	for i := range f.outputs {
		b := &f.outputs[i]
		value := r.output(b.Name)
		if !b.is("serviceBus") || isNull(value) {
			continue
		}
		ctx, cancel := context.WithTimeout(h.base, time.Minute)
		err := h.senders.send(ctx, b, h.outputMessages(f, b, value))
		cancel()
		if err != nil {
			return fmt.Errorf("error while handling parameter %s after function returned: %w", b.Name, err)
		}
	}
	return nil
}

// outputMessages are the bodies of an output value: one of an object or a string, many of an array or of a string that
// holds a JSON array.
func (h *Host) outputMessages(f *function, b *binding, value json.RawMessage) [][]byte {
	var text string
	var list []json.RawMessage
	isText := json.Unmarshal(value, &text) == nil
	switch {
	case isText && json.Unmarshal([]byte(text), &list) != nil:
		body, decoded := outputBytes(b, text)
		if decoded {
			h.warnBase64(f, b)
		}
		return [][]byte{body}
	case !isText && json.Unmarshal(value, &list) != nil:
		return [][]byte{value}
	}
	bodies := make([][]byte, len(list))
	for i, item := range list {
		bodies[i] = item
		if json.Unmarshal(item, &text) == nil {
			bodies[i] = []byte(text)
		}
	}
	return bodies
}
