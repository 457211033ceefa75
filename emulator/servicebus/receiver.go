package servicebus

import (
	"errors"
	"slices"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// Session receivers (a source filter and link properties).
const (
	sessionFilter                = "com.microsoft:session-filter"
	sessionFilterCode     uint64 = 0x137000000C
	propTimeout                  = "com.microsoft:timeout"
	propLockedUntil              = "com.microsoft:locked-until-utc"
	defaultSessionTimeout        = time.Minute
	// timeoutHeadroom is how much earlier than asked "no session" is answered: the client's own deadline is so close
	// that the answer would come too late otherwise.
	timeoutHeadroom = 30 * time.Millisecond
)

// receiverLink is a link on which the client receives from an entity.
type receiverLink struct {
	session *amqpSession
	handle  uint32
	path    string
	queue   *broker.Queue
	settled bool            // receive-and-delete
	held    *broker.Session // the Service Bus session it has accepted, nil for none

	credit        uint32
	deliveryCount uint32
	deliveries    uint32 // for delivery tags of settled deliveries
}

func (l *receiverLink) server() *Server { return l.session.conn.server }

// flow takes over the credit, delivers, and if the client drains the link gives up what is left.
func (l *receiverLink) flow(now time.Time, f *amqp.Flow) {
	if f.LinkCredit != nil {
		var seen uint32
		if f.DeliveryCount != nil {
			seen = *f.DeliveryCount
		}
		l.credit = 0
		if c := int32(seen + *f.LinkCredit - l.deliveryCount); c > 0 {
			l.credit = uint32(c)
		}
	}
	l.queue.Touch()
	if f.Drain {
		l.server().pump(now)
		l.deliveryCount += l.credit
		l.credit = 0
	}
	if f.Drain || f.Echo {
		l.session.sendLinkFlow(l.handle, l.deliveryCount, l.credit, f.Drain)
	}
}

func (l *receiverLink) end(now time.Time) {
	s := l.server()
	s.receivers[l.queue] = slices.DeleteFunc(s.receivers[l.queue], func(o *receiverLink) bool { return o == l })
	if l.held != nil {
		l.queue.CloseSession(now, l.held, l)
	} else if s.cfg.DropLockOnDetach {
		l.queue.ReleaseOwned(now, l)
	}
}

func (l *receiverLink) ready() bool { return l.credit > 0 && l.session.ready() }

// deliver gives the messages of q to its receivers in turn.
func (s *Server) deliver(now time.Time, q *broker.Queue) {
	for progress := true; progress; {
		progress = false
		for range len(s.receivers[q]) {
			l := s.receivers[q][0]
			s.receivers[q] = append(s.receivers[q][1:], l)
			if l.ready() && l.deliverOne(now) {
				progress = true
			}
		}
	}
}

func (l *receiverLink) deliverOne(now time.Time) bool {
	m := l.queue.Take(now, l, l.held, l.settled)
	if m == nil {
		return false
	}
	l.credit--
	l.deliveryCount++
	tag := m.LockToken.GUID()
	if l.settled { // there is no lock token, but the client wants a tag
		l.deliveries++
		tag = amqp.UUID{12: byte(l.deliveries >> 24), 13: byte(l.deliveries >> 16), 14: byte(l.deliveries >> 8), 15: byte(l.deliveries)}
	}
	id := l.session.sendDelivery(l.handle, tag[:], l.settled, m.Encode())
	if !l.settled {
		l.session.unsettled[id] = unsettled{link: l, queue: l.queue, token: m.LockToken}
	}
	return true
}

func (s *amqpSession) attachReceiver(now time.Time, a *amqp.Attach) {
	n, e := s.resolve(now, a.Source.Address(), rightListen)
	if e != nil {
		s.refuse(now, a, e)
		return
	}
	if n.kind != nodeEntity {
		s.attachReplies(a, n)
		return
	}
	l := &receiverLink{
		session: s, handle: a.Handle, path: n.path, queue: n.queue,
		settled: a.SndSettleMode != nil && *a.SndSettleMode == amqp.SenderSettled,
	}
	filter, wantsSession := a.Source.Filter().Get(sessionFilter)
	switch {
	case n.queue.IsTopic():
		s.refuse(now, a, &amqp.Error{Condition: condNotAllowed, Description: "a topic cannot be received from; use a subscription"})
	case wantsSession != n.queue.RequiresSession():
		s.refuse(now, a, &amqp.Error{Condition: condNotAllowed, Description: sessionMismatch(wantsSession)})
	case wantsSession:
		s.acceptSession(now, a, l, filter)
	default:
		l.open(a, a.Source, a.Properties)
	}
}

func sessionMismatch(wantsSession bool) string {
	if wantsSession {
		return "it is not possible for an entity that does not require sessions to create a session receiver"
	}
	return "it is not possible for an entity that requires sessions to create a non-sessionful message receiver"
}

// open answers the attach and makes the link a receiver of its queue.
func (l *receiverLink) open(a *amqp.Attach, source *amqp.Terminus, properties amqp.Map) {
	l.session.links[l.handle] = l
	l.session.send(&amqp.Attach{
		Name: a.Name, Handle: a.Handle, Role: amqp.RoleSender, SndSettleMode: a.SndSettleMode, RcvSettleMode: a.RcvSettleMode,
		Source: source, Target: a.Target, InitialDeliveryCount: new(uint32), MaxMessageSize: maxMessageSize, Properties: properties,
	}, nil)
	s := l.server()
	s.receivers[l.queue] = append(s.receivers[l.queue], l)
}

// acceptWait is an attach that waits for any session to become available.
type acceptWait struct {
	link      *receiverLink
	attach    *amqp.Attach
	described bool       // the client's filter is a described value
	flow      *amqp.Flow // the client's credit, which it may give before it has read our attach
}

// cancel stops waiting.
func (w *acceptWait) cancel() {
	s := w.link.session
	same := func(o *acceptWait) bool { return o == w }
	s.waits = slices.DeleteFunc(s.waits, same)
	server := s.conn.server
	server.waiting[w.link.queue] = slices.DeleteFunc(server.waiting[w.link.queue], same)
}

// acceptSession opens a link to a named session, or makes it wait for the next one.
func (s *amqpSession) acceptSession(now time.Time, a *amqp.Attach, l *receiverLink, filter any) {
	w := &acceptWait{link: l, attach: a}
	if d, ok := filter.(amqp.Described); ok {
		w.described, filter = true, d.Value
	}
	if id, ok := filter.(string); ok {
		held, err := l.queue.Accept(now, id, l)
		if err != nil {
			s.refuse(now, a, condition(err))
			return
		}
		w.grant(now, held)
		return
	}
	s.waits = append(s.waits, w)
	server := s.conn.server
	server.waiting[l.queue] = append(server.waiting[l.queue], w)
	l.queue.Touch()
	server.after(now, sessionTimeout(a), func(now time.Time) {
		if slices.Contains(s.waits, w) {
			w.cancel()
			s.refuse(now, a, &amqp.Error{Condition: condTimeout, Description: "no session became available in time"})
		}
	})
}

func sessionTimeout(a *amqp.Attach) time.Duration {
	v, ok := a.Properties.Get(propTimeout)
	ms, isUint := v.(uint32)
	if !ok || !isUint {
		return defaultSessionTimeout
	}
	return max(time.Duration(ms)*time.Millisecond-timeoutHeadroom, time.Millisecond)
}

// grantSessions gives free sessions of q to those that wait, first come first served.
func (s *Server) grantSessions(now time.Time, q *broker.Queue) {
	for len(s.waiting[q]) > 0 {
		w := s.waiting[q][0]
		held, err := q.AcceptNext(now, w.link)
		if errors.Is(err, broker.ErrNoSession) {
			return
		}
		w.cancel()
		w.grant(now, held)
	}
}

// ticksAtEpoch is the Unix epoch in .NET ticks of 100 ns.
const ticksAtEpoch = 621355968000000000

// grant opens the link with the session that it got. The session id is in the filter, in the form that was asked.
func (w *acceptWait) grant(now time.Time, held *broker.Session) {
	w.link.held = held
	var id any = held.ID
	if w.described {
		id = amqp.Described{Descriptor: sessionFilterCode, Value: held.ID}
	}
	filter := w.attach.Source.Filter().Set(amqp.Symbol(sessionFilter), id)
	ticks := held.LockedUntil.UnixMilli()*10000 + ticksAtEpoch
	w.link.open(w.attach, w.attach.Source.WithFilter(filter), w.attach.Properties.Set(amqp.Symbol(propLockedUntil), ticks))
	if w.flow != nil {
		w.link.flow(now, w.flow)
	}
}

// sessionLost detaches the receiver whose session lock has expired.
func (s *Server) sessionLost(owner broker.Owner, held *broker.Session) {
	l, ok := owner.(*receiverLink)
	if !ok {
		return
	}
	l.held = nil
	s.after(s.now(), time.Nanosecond, func(now time.Time) { // not inside the broker's call
		if l.session.has(l.handle, l) {
			l.session.detach(now, l.handle, &amqp.Error{
				Condition: condSessionLost, Description: "the lock of session '" + held.ID + "' has expired",
			})
		}
	})
}

// disposition settles deliveries (Azure: "AMQP 1.0 in Azure Service Bus protocol guide", message transfers).
func (s *amqpSession) disposition(now time.Time, d *amqp.Disposition) {
	if d.Role != amqp.RoleReceiver || d.State == nil {
		return
	}
	last := d.First
	if d.Last != nil {
		last = *d.Last
	}
	for id := d.First; int32(last-id) >= 0; id++ {
		u, ok := s.unsettled[id]
		delete(s.unsettled, id)
		switch {
		case ok && s.has(u.link.handle, u.link):
			s.answer(now, d, id, u.link, u.settle(now, d.State))
		case !ok && d.Last == nil:
			s.answer(now, d, id, nil, broker.ErrLockLost)
		}
	}
}

// answer confirms the settlement of a delivery, or refuses it. A link that is gone gets none: its deliveries went with it, and go-amqp would end the
// session for it.
func (s *amqpSession) answer(now time.Time, d *amqp.Disposition, id uint32, l *receiverLink, err error) {
	if d.Settled {
		return
	}
	state := d.State
	switch {
	case err != nil:
		state = &amqp.Outcome{Kind: amqp.Rejected, Error: condition(err)}
	case state.Kind == amqp.Rejected:
		state = &amqp.Outcome{Kind: amqp.Accepted} // a repeated error would fail the client's call
	}
	s.conn.server.after(now, s.conn.server.faults.dispositionDelay, func(time.Time) {
		if l != nil && !s.has(l.handle, l) {
			return
		}
		s.send(&amqp.Disposition{Role: amqp.RoleSender, First: id, Settled: true, State: state}, nil)
	})
}

func (u unsettled) settle(now time.Time, o *amqp.Outcome) error {
	q := u.queue
	switch o.Kind {
	case amqp.Accepted:
		return q.Complete(now, u.token)
	case amqp.Released:
		return q.Release(now, u.token)
	case amqp.Modified:
		if o.UndeliverableHere {
			return q.Defer(now, u.token, o.Annotations)
		}
		return q.Abandon(now, u.token, o.Annotations)
	case amqp.Rejected:
		reason, description, rest := deadLetterInfo(o.Error)
		return q.DeadLetter(now, u.token, reason, description, rest)
	default:
		panic("servicebus: outcome " + o.Kind.String())
	}
}

// deadLetterInfo takes the reason, the description and further properties out of the error of a rejection.
func deadLetterInfo(e *amqp.Error) (reason, description string, rest amqp.Map) {
	if e == nil {
		return "", "", nil
	}
	for _, p := range e.Info {
		text, _ := p.Value.(string)
		switch p.Key {
		case amqp.Symbol("DeadLetterReason"), "DeadLetterReason":
			reason = text
		case amqp.Symbol("DeadLetterErrorDescription"), "DeadLetterErrorDescription":
			description = text
		default:
			rest = append(rest, p)
		}
	}
	if e.Condition != condDeadLetter && reason == "" {
		reason, description = string(e.Condition), e.Description
	}
	return reason, description, rest
}
