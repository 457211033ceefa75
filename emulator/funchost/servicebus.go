package funchost

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// message is a received message; the type of the real client, so that payloads are made of what it really gives.
type message = azservicebus.ReceivedMessage

// errNoSession means that no session became available in time: try again.
var errNoSession = errors.New("no session available")

// errLockLost means that a session's lock is past: its messages will come again.
var errLockLost = errors.New("the session lock has expired; accept a new session")

// acceptWait is how long one attempt to accept a session waits.
const acceptWait = time.Minute

// bus opens receivers on the one entity of a function.
type bus interface {
	// namespace is the fully qualified namespace, for the metadata.
	namespace() string
	// receive opens a receiver on the plain entity.
	receive(ctx context.Context) (receiver, error)
	// accept takes the next available session; errNoSession if there was none before ctx ended or a time of its choice.
	accept(ctx context.Context) (receiver, error)
	close(ctx context.Context)
}

// receiver takes messages from a plain entity or from one session.
type receiver interface {
	// fetch waits for a message until ctx ends and returns up to limit of what is there then, in the entity's order.
	// Nothing in time is an empty slice and no error.
	fetch(ctx context.Context, limit int) ([]*message, error)
	// settle completes or abandons.
	settle(ctx context.Context, m *message, complete bool) error
	// renew extends the lock of the message or of the session and returns its new end.
	renew(ctx context.Context, m *message) (time.Time, error)
	// sessionUntil is the end of the session's lock; false for a plain entity.
	sessionUntil() (time.Time, bool)
	close(ctx context.Context)
}

// busListener drives one serviceBusTrigger.
type busListener struct {
	host     *Host
	function *function
	options  triggerOptions
	bus      bus
	client   *object // the Client entry of the metadata
	log      *slog.Logger
}

// triggerOptions are the options in force for one trigger (contract A4, E).
type triggerOptions struct {
	batch        int // most messages of a batch
	minBatch     int
	minBatchWait time.Duration
	autoComplete bool
	calls        int // parallel invocations of a plain queue
	sessions     int // parallel sessions
	sessionIdle  time.Duration
	renewal      time.Duration // how long locks are renewed
}

func newTriggerOptions(h serviceBusOptions, b binding) triggerOptions {
	return triggerOptions{
		batch: or(b.MaxMessageBatchSize, 1000), minBatch: or(h.MinMessageBatchSize, 1),
		minBatchWait: h.MaxBatchWaitTime.or(30 * time.Second),
		autoComplete: or(b.AutoCompleteMessages, true),
		calls:        or(h.MaxConcurrentCalls, 16*runtime.NumCPU()), sessions: or(h.MaxConcurrentSessions, 8),
		sessionIdle: h.SessionIdleTimeout.or(time.Minute), renewal: h.MaxAutoLockRenewalDuration.or(5 * time.Minute),
	}
}

func or[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

// reportOverrides logs the values of host.json that the trigger overrides with its own or its defaults (contract A4).
func (h *Host) reportOverrides(f *function) {
	host := h.app.host.Extensions.ServiceBus
	o := newTriggerOptions(host, f.trigger)
	if f.trigger.many() && or(host.MaxMessageBatchSize, 1000) != o.batch {
		h.reportOverride("MaxMessageBatchSize", o.batch, f)
	}
	if or(host.AutoCompleteMessages, true) != o.autoComplete {
		h.reportOverride("AutoCompleteMessages", o.autoComplete, f)
	}
}

//nolint:sloglint,misspell // the real host's words, letter for letter
func (h *Host) reportOverride(option string, value any, f *function) {
	h.cfg.Logger.InfoContext(h.base, fmt.Sprintf(
		"The '%s' option has been overriden to '%v' value for '%s' function.", option, value, f.name))
}

// listenBus runs a serviceBusTrigger until the host stops listening. A bus that is away is tried again for ever.
func (h *Host) listenBus(f *function) {
	log := h.cfg.Logger.With(slog.String("function", f.name))
	l := &busListener{host: h, function: f, options: newTriggerOptions(h.app.host.Extensions.ServiceBus, f.trigger), log: log}
	l.again(h.listening, func(ctx context.Context) error {
		b, err := h.openBus(f)
		if err != nil {
			return err
		}
		defer l.closeShortly(b.close)
		l.bus, l.client = b, clientObject(b.namespace())
		l.listen(ctx)
		return nil
	})
}

// listen runs the loops that the trigger's kind asks for, until ctx ends.
func (l *busListener) listen(ctx context.Context) {
	t := &l.function.trigger
	switch {
	case t.many() && t.IsSessionsEnabled:
		l.again(ctx, l.batchSession)
	case t.many():
		l.again(ctx, l.batchPlain)
	case t.IsSessionsEnabled:
		var workers sync.WaitGroup
		for range l.options.sessions {
			workers.Go(func() { l.again(ctx, l.singleSession) })
		}
		workers.Wait()
	default:
		l.again(ctx, l.singlePlain)
	}
}

// again repeats a step until ctx ends. A step that fails, or panics as the client library does on messages it did not
// expect, is logged and repeated after a growing pause.
func (l *busListener) again(ctx context.Context, step func(context.Context) error) {
	t := l.host.cfg.Timing
	pause := t.RetryMin
	for ctx.Err() == nil {
		err := guard(func() error { return step(ctx) })
		switch {
		case err == nil, errors.Is(err, errNoSession), ctx.Err() != nil:
			pause = t.RetryMin
			continue
		case errors.Is(err, errLockLost):
			l.log.WarnContext(ctx, "The session lock is lost, dropping the session", slog.Any("error", err))
			continue
		}
		l.log.ErrorContext(ctx, "MessageReceiver error", slog.Any("error", err), slog.Duration("retry_in", pause))
		wait(ctx, pause)
		pause = min(2*pause, t.RetryMax)
	}
}

// guard turns a panic into an error.
func guard(do func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic while receiving: %v", p)
		}
	}()
	return do()
}

func wait(ctx context.Context, d time.Duration) { web.Wait(ctx, d, web.RealTime) }

// closeShortly closes something of the client library, which must not hold the listener up.
func (l *busListener) closeShortly(closer func(context.Context)) {
	ctx, cancel := context.WithTimeout(l.host.base, l.host.cfg.Timing.Settle)
	defer cancel()
	closer(ctx)
	if ctx.Err() != nil {
		l.log.WarnContext(ctx, "A link or connection did not close in time", slog.Duration("limit", l.host.cfg.Timing.Settle))
	}
}

// batchPlain receives batches of a plain entity, one at a time, until something fails.
func (l *busListener) batchPlain(ctx context.Context) error {
	r, err := l.bus.receive(ctx)
	if err != nil {
		return err
	}
	defer l.closeShortly(r.close)
	for err == nil && ctx.Err() == nil {
		var batch []*message
		if batch, err = l.collect(ctx, r, acceptWait); err == nil && len(batch) > 0 {
			err = l.deliver(r, batch)
		}
	}
	return err
}

// batchSession accepts one session and delivers its batches until it has been idle for sessionIdleTimeout or its lock
// is past: nothing renews it (contract E1, E3).
func (l *busListener) batchSession(ctx context.Context) error {
	r, err := l.bus.accept(ctx)
	if err != nil {
		return err
	}
	defer l.closeShortly(r.close)
	for {
		var batch []*message
		until, _ := r.sessionUntil()
		batch, err = l.collect(ctx, r, min(l.options.sessionIdle, time.Until(until)))
		if err != nil || len(batch) == 0 {
			return err
		}
		if err = l.deliver(r, batch); err != nil || ctx.Err() != nil {
			return err
		}
	}
}

// collect fetches a batch: what is there as soon as anything is, or, with a least size, what came until that many are
// there, the time is up, or nothing more came within idle (contract E1, E4).
func (l *busListener) collect(ctx context.Context, r receiver, idle time.Duration) ([]*message, error) {
	batch, err := fetchFor(ctx, r, l.options.batch, idle)
	if err != nil || len(batch) == 0 {
		return nil, err
	}
	end := time.Now().Add(l.options.minBatchWait)
	for len(batch) < min(l.options.minBatch, l.options.batch) && ctx.Err() == nil {
		// An error meets us again at the next batch; what is there is delivered.
		more, _ := fetchFor(ctx, r, l.options.batch-len(batch), min(idle, time.Until(end)))
		if len(more) == 0 {
			break
		}
		batch = append(batch, more...)
	}
	// This client gives back late messages while it is not receiving, and gets them again in any order; the client of the
	// real host drains its link instead.
	slices.SortStableFunc(batch, bySequence)
	return batch, nil
}

func bySequence(a, b *message) int {
	return cmp.Compare(or(a.SequenceNumber, 0), or(b.SequenceNumber, 0))
}

func fetchFor(ctx context.Context, r receiver, limit int, d time.Duration) ([]*message, error) {
	ctx, cancel := context.WithTimeout(ctx, max(d, 0))
	defer cancel()
	return r.fetch(ctx, limit)
}

// deliver runs one batch and settles it as a whole (contract E2). Its error means that the receiver is to be dropped.
func (l *busListener) deliver(r receiver, batch []*message) error {
	ids := make([]string, len(batch))
	for i, m := range batch {
		ids[i] = m.MessageID
	}
	err := l.invokeBatch(r, batch, ids)
	if until, session := r.sessionUntil(); session && !time.Now().Before(until) {
		return errLockLost
	}
	if l.host.cfg.LoseLock != nil && l.host.cfg.LoseLock(l.function.name, ids) {
		return errLockLost
	}
	if err == nil && !l.options.autoComplete {
		return nil
	}
	return l.settleAll(r, batch, err == nil)
}

func (l *busListener) invokeBatch(r receiver, batch []*message, ids []string) error {
	p, err := l.batchPayload(r, batch)
	if err != nil { // contract A5: the invocation fails, the handler never sees it
		return l.host.observed(l.function, ids, func(*run) error { return err })
	}
	_, err = l.host.invoke(l.function, p.body(), ids)
	return err
}

// settleAll settles every message of a batch at once, as the real host's Task.WhenAll does: a message that cannot be
// settled does not keep the others back.
func (l *busListener) settleAll(r receiver, batch []*message, complete bool) error {
	errs := make([]error, len(batch))
	var all sync.WaitGroup
	for i, m := range batch {
		all.Go(func() { errs[i] = l.settle(r, m, complete) })
	}
	all.Wait()
	return errors.Join(errs...)
}

// settle settles with a short limit: after a lost lock or connection the client library would try for up to 50 s.
func (l *busListener) settle(r receiver, m *message, complete bool) error {
	ctx, cancel := context.WithTimeout(l.host.base, l.host.cfg.Timing.Settle)
	defer cancel()
	if err := guard(func() error { return r.settle(ctx, m, complete) }); err != nil {
		return fmt.Errorf("settle message %q: %w", m.MessageID, err)
	}
	return nil
}

// singlePlain runs up to maxConcurrentCalls messages of a plain entity in parallel until receiving fails.
func (l *busListener) singlePlain(ctx context.Context) error {
	r, err := l.bus.receive(ctx)
	if err != nil {
		return err
	}
	var calls sync.WaitGroup
	defer l.closeShortly(r.close)
	defer calls.Wait()
	slots := make(chan struct{}, l.options.calls)
	for ctx.Err() == nil {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		// One at a time: no prefetch, so that a message waits in the entity and not under our lock.
		m, fetchErr := fetchOne(ctx, r, acceptWait)
		if fetchErr != nil {
			return fetchErr
		}
		calls.Go(func() {
			defer func() { <-slots }()
			l.singleOf(ctx, r, m)
		})
	}
	return nil
}

// singleOf runs one of several parallel messages; nil stands for none that came.
func (l *busListener) singleOf(ctx context.Context, r receiver, m *message) {
	if m == nil {
		return
	}
	if err := l.single(r, m); err != nil {
		l.log.WarnContext(ctx, "Message was not settled, it will come again", slog.Any("error", err))
	}
}

// singleSession accepts a session and runs its messages one by one until it is idle (contract E5).
func (l *busListener) singleSession(ctx context.Context) error {
	r, err := l.bus.accept(ctx)
	if err != nil {
		return err
	}
	defer l.closeShortly(r.close)
	for ctx.Err() == nil {
		var m *message
		if m, err = fetchOne(ctx, r, l.options.sessionIdle); err != nil || m == nil {
			return err
		}
		if err = l.single(r, m); err != nil {
			return err
		}
	}
	return nil
}

func fetchOne(ctx context.Context, r receiver, d time.Duration) (*message, error) {
	ms, err := fetchFor(ctx, r, 1, d)
	if err != nil || len(ms) == 0 {
		return nil, err
	}
	return ms[0], nil
}

// single runs one message, renewing its lock meanwhile, and settles it.
func (l *busListener) single(r receiver, m *message) error {
	body := l.singlePayload(r, m).body()
	stop := l.keepLock(r, m)
	_, err := l.host.invoke(l.function, body, []string{m.MessageID})
	stop()
	if err == nil && !l.options.autoComplete {
		return nil
	}
	return l.settle(r, m, err == nil)
}

// keepLock renews the lock of a message, or of its session, until stop is called or maxAutoLockRenewalDuration is over.
func (l *busListener) keepLock(r receiver, m *message) (stop func()) {
	until, ok := r.sessionUntil()
	if !ok && m.LockedUntil == nil {
		return func() {}
	}
	if !ok {
		until = *m.LockedUntil
	}
	ctx, cancel := context.WithTimeout(l.host.base, l.options.renewal)
	var renewing sync.WaitGroup
	renewing.Go(func() {
		for {
			left := time.Until(until)
			wait(ctx, left-min(left/2, 10*time.Second)) // as the .NET client: half of the rest, at most 10 s, ahead
			if ctx.Err() != nil {
				return
			}
			var err error
			if until, err = r.renew(ctx, m); err != nil {
				if ctx.Err() == nil {
					l.log.WarnContext(ctx, "Lock renewal failed", slog.String("message", m.MessageID), slog.Any("error", err))
				}
				return
			}
		}
	})
	return func() { cancel(); renewing.Wait() }
}

// batchPayload builds the request of a batch (contract C6).
func (l *busListener) batchPayload(r receiver, batch []*message) (payload, error) {
	p := newPayload()
	data, err := batchData(&l.function.trigger, batch)
	if err != nil {
		return p, err
	}
	p.data.set(l.function.trigger.Name, data)
	l.addContext(p.metadata, r)
	for _, column := range columns() {
		values := make([]any, len(batch))
		for i, m := range batch {
			values[i] = column.value(m)
		}
		p.metadata.setMetadata(column.key+"Array", values)
	}
	p.addSys(l.function.name, l.host.cfg.Now())
	return p, nil
}

// batchData is the Data entry of a batch: one string that holds a JSON array.
func batchData(b *binding, batch []*message) (any, error) {
	values := make([]any, len(batch))
	for i, m := range batch {
		switch {
		case b.hasDataType("string"):
			values[i] = string(m.Body)
		case b.hasDataType("binary"):
			values[i] = m.Body
		default:
			if !json.Valid(m.Body) {
				return nil, fmt.Errorf("exception while executing function: binding parameters to complex objects uses Json.NET serialization; message %q is not JSON", m.MessageID)
			}
			values[i] = json.RawMessage(m.Body)
		}
	}
	return encode(values), nil
}

// singlePayload builds the request of one message (contract C7).
func (l *busListener) singlePayload(r receiver, m *message) payload {
	p := newPayload()
	t := &l.function.trigger
	if t.hasDataType("binary") {
		p.data.set(t.Name, encode(m.Body))
	} else {
		p.data.set(t.Name, encode(string(m.Body)))
	}
	l.addContext(p.metadata, r)
	for _, column := range columns() {
		p.metadata.setMetadata(column.key, column.value(m))
	}
	p.addSys(l.function.name, l.host.cfg.Now())
	if !t.hasDataType("binary") {
		promote(p.metadata, m.Body)
	}
	return p
}

// hasDataType compares the dataType.
func (b *binding) hasDataType(kind string) bool { return strings.EqualFold(b.DataType, kind) }

// addContext adds the entries that are .NET objects in process and mere shells for a custom handler.
func (l *busListener) addContext(metadata *object, r receiver) {
	session := &object{}
	if until, ok := r.sessionUntil(); ok {
		session.set("SessionLockedUntil", offsetDate(until))
	}
	for _, key := range []string{"MessageReceiver", "MessageSession", "MessageActions", "SessionActions"} {
		metadata.set(key, session)
	}
	metadata.set("ReceiveActions", &object{})
	metadata.set("Client", l.client)
}

// column is one metadata entry of a message.
type column struct {
	key   string
	value func(*message) any
}

// columns are the entries in the host's order.
func columns() []column {
	subject := func(m *message) any { return text(m.Subject) }
	properties := func(m *message) any {
		if m.ApplicationProperties == nil {
			return map[string]any{}
		}
		return m.ApplicationProperties
	}
	return []column{
		{"DeliveryCount", func(m *message) any { return m.DeliveryCount }},
		{"DeadLetterSource", func(m *message) any { return text(m.DeadLetterSource) }},
		{"LockToken", func(m *message) any { return lockToken(m) }},
		{"ExpiresAtUtc", func(m *message) any { return utcDate(expiry(m)) }},
		{"ExpiresAt", func(m *message) any { return offsetDate(expiry(m)) }},
		{"EnqueuedTimeUtc", func(m *message) any { return utcDate(or(m.EnqueuedTime, time.Time{})) }},
		{"EnqueuedTime", func(m *message) any { return offsetDate(or(m.EnqueuedTime, time.Time{})) }},
		{"MessageId", func(m *message) any { return nonEmpty(m.MessageID) }},
		{"ContentType", func(m *message) any { return text(m.ContentType) }},
		{"ReplyTo", func(m *message) any { return text(m.ReplyTo) }},
		{"SequenceNumber", func(m *message) any { return or(m.SequenceNumber, 0) }},
		{"To", func(m *message) any { return text(m.To) }},
		{"Subject", subject},
		{"Label", subject},
		{"CorrelationId", func(m *message) any { return text(m.CorrelationID) }},
		{"ApplicationProperties", properties},
		{"UserProperties", properties},
		{"SessionId", func(m *message) any { return text(m.SessionID) }},
		{"ReplyToSessionId", func(m *message) any { return text(m.ReplyToSessionID) }},
		{"PartitionKey", func(m *message) any { return partition(m) }},
		{"TransactionPartitionKey", func(m *message) any { return partition(m) }},
	}
}

// expiry is .NET's ExpiresAt: the largest date for a message without a time to live.
func expiry(m *message) time.Time {
	return or(m.ExpiresAt, time.Date(9999, 12, 31, 23, 59, 59, 999999900, time.UTC))
}

// partition is the partition key, which a session id overrides.
func partition(m *message) any {
	if m.PartitionKey == nil {
		return text(m.SessionID)
	}
	return *m.PartitionKey
}

func text(s *string) any {
	if s == nil {
		return nil
	}
	return *s
}

func nonEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}
