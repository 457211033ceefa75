// Package servicebus sends messages to one Service Bus queue. The agent links it: it imports neither azidentity nor any HTTP client
// of Azure.
//
// The SDK's own recovery is switched off (one attempt, [azservicebus.RetryOptions] MaxRetries -1): the callers have a back-off of
// their own, and the SDK's default would hold a caller for half a minute. So this package replaces the connection
// itself:
//
//  1. borrow the current connection, or make one; up to here nothing was sent
//  2. send; one attempt, bounded by Config.Timeout
//  3. an answer of the broker, good or bad: the connection is fine, give it back
//  4. no answer: nobody borrows this connection again; the last borrower closes it, so that calls in flight on it are not cut
//  5. only where repeating is harmless (Publish, Send) and only on a connection that had worked before, for it may have been
//     closed while idle: once more from 1
package servicebus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
)

const (
	// defaultTimeout is some ten round trips: connecting takes about eight (TCP, TLS, SASL, open, two claims, two links).
	defaultTimeout = 10 * time.Second
	// closeTimeout bounds the goodbye to a broker that still answers; one that does not gets none.
	closeTimeout = time.Second
	// maxID is the limit of MessageId ("Service Bus quotas": 128 characters).
	maxID = 128
	// Azure's own tools and the Functions host look for the trace in Diagnostic-Id ("Distributed tracing and correlation through Service Bus messaging"),
	// others in traceparent (OpenTelemetry, messaging).
	diagnosticID = "Diagnostic-Id"
	traceparent  = "traceparent"
)

// Config names the queue and the right to send to it: either ConnectionString, or Namespace and Credential.
type Config struct {
	ConnectionString string // of the namespace, with a key or a signature that may send; never logged
	Namespace        string // host name, as NAME.servicebus.windows.net
	Credential       azcore.TokenCredential
	Queue            string
	Timeout          time.Duration // of one attempt, connecting included; zero: 10 s
	Logger           *slog.Logger  // nil: none
	// Dial makes the transport instead of a TCP (with a credential: TLS) connection: a WebSocket through a proxy, say. The
	// address is a wss URL. nil: the SDK's own.
	Dial func(ctx context.Context, address string) (net.Conn, error)
}

// Sender sends to one queue over one connection, made on first use and made anew after a failure. Its methods may be called by
// several goroutines at once. Every error is a fault error or has the meaning of one (Transient).
type Sender struct {
	cfg Config

	mu      sync.Mutex
	current *connection // nil: none yet, or the last one broke
	closed  bool
}

// connection is one AMQP connection with its link. It is closed by whoever brings borrowers to zero after retired is set.
type connection struct {
	client  *azservicebus.Client
	sender  *azservicebus.Sender
	opening chan struct{} // holds one element while somebody opens

	// The Sender's mutex guards these.
	borrowers int
	worked    bool // the broker answered on it before
	retired   bool
}

// NewSender checks the configuration; it does not connect.
func NewSender(cfg Config) (*Sender, error) {
	byKey, byIdentity := cfg.ConnectionString != "", cfg.Namespace != "" || cfg.Credential != nil
	switch {
	case cfg.Queue == "":
		return nil, errors.New("service bus: no queue is named")
	case byKey == byIdentity:
		return nil, fmt.Errorf("service bus queue %s: give either a connection string, or a namespace and a credential", cfg.Queue)
	case byIdentity && (cfg.Namespace == "" || cfg.Credential == nil):
		return nil, fmt.Errorf("service bus queue %s: a namespace and a credential go together", cfg.Queue)
	}
	cfg.Timeout = cmp.Or(cfg.Timeout, defaultTimeout)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &Sender{cfg: cfg}
	if _, err := s.newConnection(); err != nil {
		return nil, err
	}
	return s, nil
}

// Publish sends the messages in their order, in as few batches as the queue's size limit allows; a batch is accepted as a whole or
// not at all. nil means that every message was accepted. An error says nothing about which were: send all again, duplicates are
// recognised by their ID. Poison means that one message alone exceeds the limit, Denied that only a person can help.
func (s *Sender) Publish(ctx context.Context, msgs []message.Message) error {
	if len(msgs) == 0 {
		return nil
	}
	for _, m := range msgs {
		if err := s.check(m); err != nil {
			return err
		}
	}
	return s.repeatable(ctx, "publish", func(ctx context.Context, c *connection) error { return c.publish(ctx, msgs) })
}

// Send sends one message, to be delivered at the given time; the zero time means now. Unlike [Sender.Schedule] it needs no second
// link and cannot be cancelled. It fails as Publish does.
func (s *Sender) Send(ctx context.Context, m message.Message, at time.Time) error {
	if err := s.check(m); err != nil {
		return err
	}
	return s.repeatable(ctx, "send", func(ctx context.Context, c *connection) error {
		out := encode(m)
		if !at.IsZero() {
			utc := at.UTC()
			out.ScheduledEnqueueTime = &utc
		}
		return c.sender.SendMessage(ctx, out, nil)
	})
}

// Schedule sends a message that is delivered at the given time unless [Sender.Cancel] gets its sequence number before. After an
// error the message may have been scheduled nevertheless, with a number that nobody knows.
func (s *Sender) Schedule(ctx context.Context, m message.Message, at time.Time) (int64, error) {
	if err := s.check(m); err != nil {
		return 0, err
	}
	var sequence int64
	_, err := s.once(ctx, "schedule", func(ctx context.Context, c *connection) error {
		numbers, scheduleErr := c.sender.ScheduleMessages(ctx, []*azservicebus.Message{encode(m)}, at.UTC(), nil)
		if scheduleErr != nil {
			return fmt.Errorf("until %s: %w", at.UTC().Format(time.RFC3339), scheduleErr)
		}
		if len(numbers) != 1 {
			return fmt.Errorf("the broker answered with %d sequence numbers for one message", len(numbers))
		}
		sequence = numbers[0]
		return nil
	})
	return sequence, err
}

// Cancel takes a scheduled message back. NotFound means that it was delivered or cancelled before.
func (s *Sender) Cancel(ctx context.Context, sequence int64) error {
	_, err := s.once(ctx, "cancel", func(ctx context.Context, c *connection) error {
		cancelErr := c.sender.CancelScheduledMessages(ctx, []int64{sequence}, nil)
		var sbErr *azservicebus.Error
		if errors.As(cancelErr, &sbErr) && sbErr.Code == azservicebus.CodeNotFound {
			return &fault.Error{
				Kind: fault.NotFound, Code: string(sbErr.Code),
				Err: fmt.Errorf("message %d was delivered or cancelled before: %w", sequence, cancelErr),
			}
		}
		if cancelErr != nil {
			return fmt.Errorf("message %d: %w", sequence, cancelErr)
		}
		return nil
	})
	return err
}

// Close ends the connection. Calls in flight may still finish; later ones fail.
func (s *Sender) Close(ctx context.Context) error {
	s.mu.Lock()
	s.closed = true
	c := s.current
	s.current = nil
	idle := c != nil && c.retire()
	s.mu.Unlock()
	if !idle {
		return nil
	}
	if err := c.client.Close(ctx); err != nil {
		return fmt.Errorf("service bus queue %s: close: %w", s.cfg.Queue, err)
	}
	return nil
}

// repeatable runs an operation that does no harm when it happens twice: once more if a connection that had worked broke.
func (s *Sender) repeatable(ctx context.Context, name string, operation func(context.Context, *connection) error) error {
	stale, err := s.once(ctx, name, operation)
	if stale && ctx.Err() == nil {
		_, err = s.once(ctx, name, operation)
	}
	return err
}

// once runs an operation on the current connection. stale reports that the connection had worked before and now broke at once,
// which is how one shows that was closed while idle; a timeout is not that.
func (s *Sender) once(ctx context.Context, name string, operation func(context.Context, *connection) error) (stale bool, err error) {
	attempt, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	c, err := s.borrow()
	if err != nil {
		return false, err
	}
	sdkErr := c.open(attempt)
	if sdkErr == nil {
		sdkErr = operation(attempt, c)
	}
	outcome := judge(sdkErr)
	worked := s.giveBack(ctx, c, outcome)
	if sdkErr == nil {
		return false, nil
	}
	err = classify(fmt.Errorf("service bus queue %s: %s: %w", s.cfg.Queue, name, sdkErr))
	stale = worked && outcome == broken && fault.Is(err, fault.Transient) && !errors.Is(err, context.DeadlineExceeded)
	return stale, err
}

// borrow returns the current connection, or a new one that connects on first use.
func (s *Sender) borrow() (*connection, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, fault.New(fault.Bug, "service bus queue %s: the sender was closed before", s.cfg.Queue)
	}
	if s.current == nil {
		c, err := s.newConnection()
		if err != nil {
			return nil, err
		}
		s.current = c
	}
	s.current.borrowers++
	return s.current, nil
}

// giveBack ends a borrowing and reports whether the connection had worked before this operation.
func (s *Sender) giveBack(ctx context.Context, c *connection, outcome verdict) (worked bool) {
	s.mu.Lock()
	worked = c.worked
	c.worked = c.worked || outcome == answered
	if outcome == broken && s.current == c {
		s.current = nil
		s.cfg.Logger.LogAttrs(ctx, slog.LevelInfo, "service bus connection lost", slog.String("queue", s.cfg.Queue))
	}
	c.retired = c.retired || outcome == broken
	c.borrowers--
	last := c.retired && c.borrowers == 0
	s.mu.Unlock()
	if last {
		s.discard(ctx, c, outcome)
	}
	return worked
}

// discard closes a connection that nobody will use again, without waiting for a broker that no longer answers.
func (s *Sender) discard(ctx context.Context, c *connection, outcome verdict) {
	farewell, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeTimeout)
	defer cancel()
	if outcome == broken {
		cancel()
	}
	if err := c.client.Close(farewell); err != nil {
		s.cfg.Logger.LogAttrs(ctx, slog.LevelDebug, "service bus connection closed", slog.String("queue", s.cfg.Queue), slog.Any("error", err))
	}
}

// retire makes the last borrower close c and reports whether there is none now. The Sender's mutex is held.
func (c *connection) retire() bool {
	c.retired = true
	return c.borrowers == 0
}

// newConnection makes the client and the sender; nothing is dialled yet.
func (s *Sender) newConnection() (*connection, error) {
	client, err := s.newClient()
	if err != nil {
		return nil, err
	}
	sender, err := client.NewSender(s.cfg.Queue, nil)
	if err != nil {
		return nil, fmt.Errorf("service bus queue %s: %w", s.cfg.Queue, err)
	}
	return &connection{client: client, sender: sender, opening: make(chan struct{}, 1)}, nil
}

func (s *Sender) newClient() (*azservicebus.Client, error) {
	options := &azservicebus.ClientOptions{RetryOptions: azservicebus.RetryOptions{MaxRetries: -1}}
	if s.cfg.Dial != nil {
		options.NewWebSocketConn = func(ctx context.Context, args azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			return s.cfg.Dial(ctx, args.Host)
		}
	}
	if s.cfg.ConnectionString != "" {
		client, err := azservicebus.NewClientFromConnectionString(s.cfg.ConnectionString, options)
		if err != nil { // err may quote the string, and with it the key
			return nil, fault.New(fault.Denied, "service bus queue %s: the connection string is not valid", s.cfg.Queue).
				WithAdvice("copy it again from the namespace's shared access policies: Endpoint=sb://…;SharedAccessKeyName=…;SharedAccessKey=…")
		}
		return client, nil
	}
	client, err := azservicebus.NewClient(s.cfg.Namespace, bounded{s.cfg.Credential, s.cfg.Timeout}, options)
	if err != nil {
		return nil, fmt.Errorf("service bus namespace %s: %w", s.cfg.Namespace, err)
	}
	return client, nil
}

// open connects and attaches unless that was done. After it, a 404 of the broker is about a message and not about the queue. One caller
// at a time: the SDK attaches once for each of several first callers and forgets all but the last, with their goroutines.
func (c *connection) open(ctx context.Context) error {
	select {
	case c.opening <- struct{}{}:
		defer func() { <-c.opening }()
	case <-ctx.Done():
		return fmt.Errorf("open: %w", ctx.Err())
	}
	_, err := c.sender.NewMessageBatch(ctx, nil)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	return nil
}

// publish sends msgs in as few batches as possible. A failed call leaves nothing behind that a second one must know.
func (c *connection) publish(ctx context.Context, msgs []message.Message) error {
	for len(msgs) > 0 {
		batch, err := c.sender.NewMessageBatch(ctx, nil)
		if err != nil {
			return fmt.Errorf("open: %w", err)
		}
		n, err := fill(batch, msgs)
		if err != nil {
			return err
		}
		if err = c.sender.SendMessageBatch(ctx, batch, nil); err != nil {
			return fmt.Errorf("batch of %d messages: %w", n, err)
		}
		msgs = msgs[n:]
	}
	return nil
}

// fill adds messages until the next does not fit, and returns how many; at least one, or an error.
func fill(batch *azservicebus.MessageBatch, msgs []message.Message) (int, error) {
	for i, m := range msgs {
		err := batch.AddMessage(encode(m), nil)
		if errors.Is(err, azservicebus.ErrMessageTooLarge) && i > 0 {
			return i, nil
		}
		if err != nil {
			return 0, fmt.Errorf("message %s of %d bytes: %w", m.ID, len(m.Body), err)
		}
	}
	return len(msgs), nil
}

func (s *Sender) check(m message.Message) error {
	if len(m.ID) > maxID {
		return fault.New(fault.Poison, "service bus queue %s: message id %.32q… has %d characters of at most %d", s.cfg.Queue, m.ID, len(m.ID), maxID)
	}
	return nil
}

func encode(m message.Message) *azservicebus.Message {
	out := &azservicebus.Message{Body: m.Body}
	if m.ID != "" {
		out.MessageID = &m.ID
	}
	if m.ContentType != "" {
		out.ContentType = &m.ContentType
	}
	if m.Subject != "" {
		out.Subject = &m.Subject
	}
	if m.Traceparent != "" {
		out.ApplicationProperties = map[string]any{diagnosticID: m.Traceparent, traceparent: m.Traceparent}
	}
	return out
}
