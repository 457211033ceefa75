package servicebus

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

const (
	maxMessageSize = 262144 // bytes: the Standard tier
	senderCredit   = 1000

	// formatBatch marks a transfer whose data sections are encoded messages.
	formatBatch uint32 = 0x80013700
)

// Error conditions of Service Bus and AMQP that the server uses.
const (
	condUnauthorized   amqp.Symbol = "amqp:unauthorized-access"
	condNotFound       amqp.Symbol = "amqp:not-found"
	condNotAllowed     amqp.Symbol = "amqp:not-allowed"
	condHandleInUse    amqp.Symbol = "amqp:session:handle-in-use"
	condUnattached     amqp.Symbol = "amqp:session:unattached-handle"
	condDecode         amqp.Symbol = "amqp:decode-error"
	condResourceLimit  amqp.Symbol = "amqp:resource-limit-exceeded"
	condInternal       amqp.Symbol = "amqp:internal-error"
	condDetachForced   amqp.Symbol = "amqp:link:detach-forced"
	condMessageSize    amqp.Symbol = "amqp:link:message-size-exceeded"
	condServerBusy     amqp.Symbol = "com.microsoft:server-busy"
	condTimeout        amqp.Symbol = "com.microsoft:timeout"
	condDeadLetter     amqp.Symbol = "com.microsoft:dead-letter"
	condLockLost       amqp.Symbol = "com.microsoft:message-lock-lost"
	condSessionLost    amqp.Symbol = "com.microsoft:session-lock-lost"
	condSessionLocked  amqp.Symbol = "com.microsoft:session-cannot-be-locked"
	condMessageMissing amqp.Symbol = "com.microsoft:message-not-found"
	condEntityDisabled amqp.Symbol = "com.microsoft:entity-disabled"
)

// condition is the AMQP error for an error of the broker.
func condition(err error) *amqp.Error {
	table := []struct {
		is   error
		cond amqp.Symbol
	}{
		{broker.ErrLockLost, condLockLost},
		{broker.ErrSessionLockLost, condSessionLost},
		{broker.ErrSessionHeld, condSessionLocked},
		{broker.ErrNoSession, condTimeout},
		{broker.ErrFull, condResourceLimit},
		{broker.ErrNeedsSession, condNotAllowed},
		{broker.ErrNotFound, condNotFound},
		{amqp.ErrDecode, condDecode},
	}
	for _, row := range table {
		if errors.Is(err, row.is) {
			return &amqp.Error{Condition: row.cond, Description: err.Error()}
		}
	}
	return &amqp.Error{Condition: condInternal, Description: err.Error()}
}

// acceptFunc takes the whole content of a transfer. It calls answer, at most once, with nil or the reason to reject it;
// without an answer the client waits.
type acceptFunc func(now time.Time, format uint32, payload []byte, answer func(*amqp.Error))

// senderLink is a link on which the client sends: to an entity, or requests to $cbs or $management.
type senderLink struct {
	session *amqpSession
	handle  uint32
	path    string
	accept  acceptFunc

	deliveryCount uint32
	credit        uint32
	current       *amqp.Transfer // the first frame of a message of which more is to come
	partial       []byte
}

func (l *senderLink) end(time.Time)              {}
func (l *senderLink) flow(time.Time, *amqp.Flow) {}

// grant gives the client credit.
func (l *senderLink) grant() {
	l.credit = senderCredit
	l.session.sendLinkFlow(l.handle, l.deliveryCount, l.credit, false)
}

// transfer collects the frames of a message.
func (l *senderLink) transfer(now time.Time, t *amqp.Transfer, payload []byte) {
	if l.current == nil {
		l.current = t
	}
	l.partial = append(l.partial, payload...)
	if t.More && !t.Aborted {
		return
	}
	first, whole := l.current, l.partial
	l.current, l.partial = nil, nil
	l.deliveryCount++
	l.credit--
	if !t.Aborted {
		l.message(now, first, whole, first.Settled || t.Settled)
	}
	if l.credit <= senderCredit/2 {
		l.grant()
	}
}

func (l *senderLink) message(now time.Time, t *amqp.Transfer, payload []byte, settled bool) {
	var format, id uint32
	if t.MessageFormat != nil {
		format = *t.MessageFormat
	}
	if t.DeliveryID != nil {
		id = *t.DeliveryID
	}
	l.accept(now, format, payload, func(e *amqp.Error) {
		if settled || !l.session.has(l.handle, l) {
			return
		}
		state := &amqp.Outcome{Kind: amqp.Accepted}
		if e != nil {
			state = &amqp.Outcome{Kind: amqp.Rejected, Error: e}
		}
		l.session.send(&amqp.Disposition{Role: amqp.RoleReceiver, First: id, Settled: true, State: state}, nil)
	})
}

// attach opens a link of either direction. A handle beyond handleMax ends the connection (part 2, section 2.7.2), one that is in use the session
// (section 2.7.3).
func (s *amqpSession) attach(now time.Time, a *amqp.Attach) error {
	switch {
	case a.Handle > handleMax:
		return amqp.ErrProtocol
	case s.links[a.Handle] != nil || s.waiting(a.Handle) != nil:
		s.fail(now, condHandleInUse, a.Handle)
	case a.Role == amqp.RoleReceiver:
		s.attachReceiver(now, a)
	default:
		s.attachSender(now, a)
	}
	return nil
}

func (s *amqpSession) attachSender(now time.Time, a *amqp.Attach) {
	n, e := s.resolve(now, a.Target.Address(), rightSend)
	if e != nil {
		s.refuse(now, a, e)
		return
	}
	l := &senderLink{session: s, handle: a.Handle, path: n.path}
	switch n.kind {
	case nodeCBS:
		l.accept = s.request(s.conn.cbs)
	case nodeManagement:
		l.accept = s.request(managed{conn: s.conn, node: n}.handle)
	case nodeEntity:
		if strings.HasSuffix(n.path, "/$deadletterqueue") {
			s.refuse(now, a, &amqp.Error{Condition: condNotAllowed, Description: "cannot send to a dead-letter queue"})
			return
		}
		l.accept = s.conn.server.sends(n.queue, s.conn)
	}
	s.links[a.Handle] = l
	s.send(&amqp.Attach{
		Name: a.Name, Handle: a.Handle, Role: amqp.RoleReceiver, SndSettleMode: a.SndSettleMode, RcvSettleMode: a.RcvSettleMode,
		Source: a.Source, Target: a.Target, MaxMessageSize: maxMessageSize,
	}, nil)
	l.grant()
}

// sends is what a link to an entity does with messages: store all of a transfer or none of it.
func (s *Server) sends(q *broker.Queue, c *conn) acceptFunc {
	return func(now time.Time, format uint32, payload []byte, answer func(*amqp.Error)) {
		f := s.faults
		if take(&f.busy) {
			answer(busy())
			return
		}
		e := s.store(now, q, format, payload)
		if take(&f.withhold) {
			if f.withhold == 0 {
				c.abort()
			}
			return
		}
		s.after(now, f.sendDelay, func(time.Time) { answer(e) })
	}
}

func (s *Server) store(now time.Time, q *broker.Queue, format uint32, payload []byte) *amqp.Error {
	if len(payload) > maxMessageSize {
		return &amqp.Error{
			Condition:   condMessageSize,
			Description: fmt.Sprintf("the message of %d bytes is larger than %d", len(payload), maxMessageSize),
		}
	}
	messages, err := decodeMessages(format, payload)
	if err != nil {
		return condition(err)
	}
	for _, m := range messages {
		s.faults.disturb(m)
	}
	if _, err = q.Enqueue(now, messages); err != nil {
		return condition(err)
	}
	return nil
}

// decodeMessages reads the message, or the messages of a batch, in a transfer.
func decodeMessages(format uint32, payload []byte) ([]*broker.Message, error) {
	envelope, err := amqp.ParseMessage(payload)
	if err != nil {
		return nil, fmt.Errorf("message: %w", err)
	}
	if format != formatBatch {
		return []*broker.Message{newMessage(envelope)}, nil
	}
	parts := envelope.Data()
	messages := make([]*broker.Message, len(parts))
	for i, part := range parts {
		content, partErr := amqp.ParseMessage(part)
		if partErr != nil {
			return nil, fmt.Errorf("message %d of the batch: %w", i, partErr)
		}
		messages[i] = newMessage(content)
	}
	return messages, nil
}

// annotationScheduled is when a message is to become active.
const annotationScheduled = "x-opt-scheduled-enqueue-time"

func newMessage(content *amqp.Message) *broker.Message {
	m := &broker.Message{Content: content}
	if v, ok := content.Annotations.Get(annotationScheduled); ok {
		if at, isTime := v.(amqp.Timestamp); isTime {
			m.ScheduledAt = at.Time()
		}
	}
	return m
}

func busy() *amqp.Error {
	return &amqp.Error{Condition: condServerBusy, Description: "the server is busy; please retry later"}
}
