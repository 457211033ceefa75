package servicebus

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// managed is the $management node of an entity as one connection sees it (Azure: "AMQP 1.0 in Azure Service Bus:
// request-response-based operations").
type managed struct {
	conn *conn
	node node
}

// errRequest means that a request lacks something.
var errRequest = errors.New("bad request")

// operation is one request to carry out.
type operation struct {
	managed
	now  time.Time
	body amqp.Map
}

const operationPrefix = "com.microsoft:"

func (m managed) handle(now time.Time, request *amqp.Message) reply {
	name, _ := text(request.Application(), "operation")
	need, run := lookupOperation(name)
	if run == nil {
		return reply{code: http.StatusNotImplemented, description: "operation " + name + " is not supported", condition: "amqp:not-implemented"}
	}
	if !m.conn.allowed(now, m.node.path, need) {
		return reply{code: http.StatusUnauthorized, description: need.String() + " claim is required", condition: condUnauthorized}
	}
	if r, failed := m.conn.server.faults.failManagement(name); failed {
		return r
	}
	v, _ := request.Value()
	body, _ := v.(amqp.Map)
	result, err := run(operation{managed: m, now: now, body: body})
	if err != nil {
		return failure(err)
	}
	if result == nil {
		return reply{code: http.StatusNoContent, description: "No Content"}
	}
	return reply{code: http.StatusOK, description: "OK", body: result}
}

// lookupOperation is the right that an operation needs and what carries it out. An operation returns nil if there is
// nothing to tell.
func lookupOperation(name string) (right, func(operation) (amqp.Map, error)) {
	switch name {
	case operationPrefix + "schedule-message":
		return rightSend, operation.schedule
	case operationPrefix + "cancel-scheduled-message":
		return rightSend, operation.cancel
	case operationPrefix + "renew-lock":
		return rightListen, operation.renewLock
	case operationPrefix + "peek-message":
		return rightListen, operation.peek
	case operationPrefix + "receive-by-sequence-number":
		return rightListen, operation.receiveDeferred
	case operationPrefix + "update-disposition":
		return rightListen, operation.settle
	case operationPrefix + "renew-session-lock":
		return rightListen, operation.renewSession
	case operationPrefix + "get-session-state":
		return rightListen, operation.sessionState
	case operationPrefix + "set-session-state":
		return rightListen, operation.setSessionState
	case operationPrefix + "get-message-sessions":
		return rightListen, operation.sessions
	default:
		return rightAny, nil
	}
}

// failure is the reply for an error. The codes decide what clients do: 404 and 410 are final, 500 and 503 retried.
func failure(err error) reply {
	r := reply{code: http.StatusInternalServerError, description: err.Error(), condition: condition(err).Condition}
	switch {
	case errors.Is(err, errRequest), errors.Is(err, amqp.ErrDecode):
		r.code, r.condition = http.StatusBadRequest, "com.microsoft:argument-error"
	case errors.Is(err, broker.ErrLockLost), errors.Is(err, broker.ErrSessionLockLost):
		r.code = http.StatusGone
	case errors.Is(err, broker.ErrNotFound):
		r.code, r.condition = http.StatusNotFound, condMessageMissing
	case errors.Is(err, broker.ErrFull), errors.Is(err, broker.ErrNeedsSession):
		r.code = http.StatusForbidden
	}
	return r
}

// param is a request parameter, which must be there and of that type.
func param[T any](o operation, name string) (T, error) {
	v, _ := o.body.Get(name)
	t, ok := v.(T)
	if !ok {
		return t, fmt.Errorf("%w: %s is a %T, want a %T", errRequest, name, v, t)
	}
	return t, nil
}

// params is a parameter that is an array or list with elements of one type.
func params[T any](o operation, name string) ([]T, error) {
	v, _ := o.body.Get(name)
	var items []any
	switch v := v.(type) {
	case amqp.Array:
		items = v.Items
	case amqp.List:
		items = v
	default:
		return nil, fmt.Errorf("%w: %s is a %T, want an array", errRequest, name, v)
	}
	out := make([]T, len(items))
	for i, item := range items {
		t, ok := item.(T)
		if !ok {
			return nil, fmt.Errorf("%w: %s[%d] is a %T, want a %T", errRequest, name, i, item, t)
		}
		out[i] = t
	}
	return out, nil
}

// none is a reply without content that must nevertheless have code 200.
func none() amqp.Map { return amqp.Map{} }

func (o operation) schedule() (amqp.Map, error) {
	entries, err := params[amqp.Map](o, "messages")
	if err != nil {
		return nil, err
	}
	messages := make([]*broker.Message, len(entries))
	for i, e := range entries {
		v, _ := e.Get("message")
		encoded, ok := v.([]byte)
		if !ok {
			return nil, fmt.Errorf("%w: messages[%d] has no message", errRequest, i)
		}
		content, parseErr := amqp.ParseMessage(encoded)
		if parseErr != nil {
			return nil, fmt.Errorf("messages[%d]: %w", i, parseErr)
		}
		messages[i] = newMessage(content)
	}
	sequences, err := o.node.queue.Enqueue(o.now, messages)
	if err != nil {
		return nil, err
	}
	return amqp.Map{{Key: "sequence-numbers", Value: amqp.Longs(sequences)}}, nil
}

func (o operation) cancel() (amqp.Map, error) {
	sequences, err := params[int64](o, "sequence-numbers")
	if err != nil {
		return nil, err
	}
	return none(), o.node.queue.Cancel(o.now, sequences)
}

func (o operation) renewLock() (amqp.Map, error) {
	tokens, err := params[amqp.UUID](o, "lock-tokens")
	if err != nil {
		return nil, err
	}
	until, err := o.node.queue.Renew(o.now, tokens)
	if err != nil {
		return nil, err
	}
	return amqp.Map{{Key: "expirations", Value: amqp.Timestamps(until)}}, nil
}

// peek is not limited to the session of the receiver that asks, unless it names one; what the service does then is not
// documented.
func (o operation) peek() (amqp.Map, error) {
	from, err := param[int64](o, "from-sequence-number")
	if err != nil {
		return nil, err
	}
	n, err := param[int32](o, "message-count")
	if err != nil {
		return nil, err
	}
	var session *string
	if id, ok := text(o.body, "session-id"); ok {
		session = &id
	}
	messages := o.node.queue.Peek(from, int(n), session)
	if len(messages) == 0 {
		return nil, nil //nolint:nilnil // nothing to tell
	}
	list := make(amqp.List, len(messages))
	for i, m := range messages {
		list[i] = amqp.Map{{Key: "message", Value: m.Encode()}}
	}
	return amqp.Map{{Key: "messages", Value: list}}, nil
}

func (o operation) receiveDeferred() (amqp.Map, error) {
	sequences, err := params[int64](o, "sequence-numbers")
	if err != nil {
		return nil, err
	}
	mode, err := param[uint32](o, "receiver-settle-mode")
	if err != nil {
		return nil, err
	}
	messages, err := o.node.queue.TakeDeferred(o.now, o.conn, sequences, mode == uint32(amqp.ReceiverFirst))
	if err != nil {
		return nil, err
	}
	list := make(amqp.List, len(messages))
	for i, m := range messages {
		list[i] = amqp.Map{{Key: "message", Value: m.Encode()}, {Key: "lock-token", Value: m.LockToken}}
	}
	return amqp.Map{{Key: "messages", Value: list}}, nil
}

func (o operation) settle() (amqp.Map, error) {
	status, err := param[string](o, "disposition-status")
	if err != nil {
		return nil, err
	}
	tokens, err := params[amqp.UUID](o, "lock-tokens")
	if err != nil {
		return nil, err
	}
	for _, t := range tokens {
		if err = o.settleOne(status, t); err != nil {
			return nil, err
		}
	}
	return none(), nil
}

func (o operation) settleOne(status string, token amqp.UUID) error {
	v, _ := o.body.Get("properties-to-modify")
	properties, _ := v.(amqp.Map)
	q := o.node.queue
	switch status {
	case "completed":
		return q.Complete(o.now, token)
	case "abandoned":
		return q.Abandon(o.now, token, properties)
	case "defered": // as the service spells it
		return q.Defer(o.now, token, properties)
	case "suspended":
		reason, _ := text(o.body, "deadletter-reason")
		description, _ := text(o.body, "deadletter-description")
		return q.DeadLetter(o.now, token, reason, description, properties)
	default:
		return fmt.Errorf("%w: disposition-status %q", errRequest, status)
	}
}

func (o operation) renewSession() (amqp.Map, error) {
	id, err := param[string](o, "session-id")
	if err != nil {
		return nil, err
	}
	until, err := o.node.queue.RenewSession(o.now, id)
	if err != nil {
		return nil, err
	}
	return amqp.Map{{Key: "expiration", Value: amqp.TimestampOf(until)}}, nil
}

func (o operation) sessionState() (amqp.Map, error) {
	id, err := param[string](o, "session-id")
	if err != nil {
		return nil, err
	}
	state, err := o.node.queue.SessionState(id)
	if err != nil {
		return nil, err
	}
	var v any
	if state != nil {
		v = state
	}
	return amqp.Map{{Key: "session-state", Value: v}}, nil
}

// setSessionState treats an empty state as none: the Go client sends nil so.
func (o operation) setSessionState() (amqp.Map, error) {
	id, err := param[string](o, "session-id")
	if err != nil {
		return nil, err
	}
	v, _ := o.body.Get("session-state")
	state, _ := v.([]byte)
	if len(state) == 0 {
		state = nil
	}
	return none(), o.node.queue.SetSessionState(id, state)
}

func (o operation) sessions() (amqp.Map, error) {
	skip, err := param[int32](o, "skip")
	if err != nil {
		return nil, err
	}
	top, err := param[int32](o, "top")
	if err != nil {
		return nil, err
	}
	ids := o.node.queue.Sessions()
	ids = ids[min(max(int(skip), 0), len(ids)):]
	ids = ids[:min(max(int(top), 0), len(ids))]
	if len(ids) == 0 {
		return nil, nil //nolint:nilnil // nothing to tell
	}
	return amqp.Map{{Key: "skip", Value: skip}, {Key: "sessions-ids", Value: amqp.Strings(ids)}}, nil
}
