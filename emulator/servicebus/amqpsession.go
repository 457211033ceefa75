package servicebus

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// The windows of a session, as the service announces them; handleMax too.
const (
	incomingWindow = 5000
	outgoingWindow = 2048
	handleMax      = 255
)

func sortedKeys[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }

// amqpSession is an AMQP session (not a Service Bus session): a pair of windows and the links in it. Handles and
// channels are the client's; ours are always the same numbers.
type amqpSession struct {
	conn    *conn
	channel uint16

	nextIncoming uint32 // transfer id that the client uses next
	received     uint32 // transfers since the last flow
	nextOutgoing uint32 // our next transfer id
	window       uint32 // transfers that the client still accepts
	nextDelivery uint32
	outbox       []outgoing // transfers that wait for the window
	links        map[uint32]link
	waits        []*acceptWait
	detached     map[uint32]bool // handles of links that we ended, until the client has said so too (part 2, section 2.6.5)
	unsettled    map[uint32]unsettled
	ended        bool // nothing may be sent on the channel any more, and what comes counts for nothing
}

type outgoing struct {
	transfer *amqp.Transfer
	payload  []byte
}

// unsettled is a delivery that the client has not settled.
type unsettled struct {
	link  *receiverLink
	queue *broker.Queue
	token amqp.UUID
}

// link is one end of a link; the client is the other.
type link interface {
	// flow takes the client's view of the link.
	flow(now time.Time, f *amqp.Flow)
	// end frees what the link holds. Nothing is sent.
	end(now time.Time)
}

func (c *conn) begin(channel uint16, b *amqp.Begin) {
	s := &amqpSession{
		conn: c, channel: channel, nextIncoming: b.NextOutgoingID, window: b.IncomingWindow,
		links: map[uint32]link{}, detached: map[uint32]bool{}, unsettled: map[uint32]unsettled{},
	}
	c.sessions[channel] = s
	c.send(channel, &amqp.Begin{
		RemoteChannel: &channel, IncomingWindow: incomingWindow, OutgoingWindow: outgoingWindow, HandleMax: handleMax,
	}, nil)
}

func (s *amqpSession) frame(now time.Time, f amqp.Frame) error {
	if s.ended { // by us; the client wrote this before it read so, until its own end (part 2, section 2.5.4)
		if _, ok := f.Body.(*amqp.End); ok {
			delete(s.conn.sessions, s.channel)
		}
		return nil
	}
	switch b := f.Body.(type) {
	case *amqp.Attach:
		return s.attach(now, b)
	case *amqp.Flow:
		s.flow(now, b)
	case *amqp.Transfer:
		s.transfer(now, b, f.Payload)
	case *amqp.Disposition:
		s.disposition(now, b)
	case *amqp.Detach:
		s.letGo(now, b)
	case *amqp.End:
		s.end(now)
		delete(s.conn.sessions, s.channel)
		s.conn.send(s.channel, &amqp.End{}, nil)
	default:
		return amqp.ErrProtocol
	}
	return nil
}

func (s *amqpSession) send(p amqp.Performative, payload []byte) {
	if !s.ended { // an answer may have been delayed beyond the end
		s.conn.send(s.channel, p, payload)
	}
}

// end frees what the session holds; clients end sessions without detaching first.
func (s *amqpSession) end(now time.Time) {
	s.ended = true
	for _, h := range sortedKeys(s.links) {
		s.drop(now, h)
	}
	for _, w := range slices.Clone(s.waits) {
		w.cancel()
	}
}

// fail ends the session because the client broke its rules. The channel is the client's until it has answered.
func (s *amqpSession) fail(now time.Time, condition amqp.Symbol, handle uint32) {
	s.end(now)
	s.conn.send(s.channel, &amqp.End{Error: &amqp.Error{Condition: condition, Description: fmt.Sprintf("handle %d", handle)}}, nil)
}

// drop ends the link of a handle on our side. No transfer may follow, not even one that waits for the window.
func (s *amqpSession) drop(now time.Time, handle uint32) {
	if l := s.links[handle]; l != nil {
		delete(s.links, handle)
		l.end(now)
		s.outbox = slices.DeleteFunc(s.outbox, func(o outgoing) bool { return o.transfer.Handle == handle })
	}
}

// has reports whether l is still the link of its handle.
func (s *amqpSession) has(handle uint32, l link) bool { return s.links[handle] == l }

// waiting is the attach with that handle that waits for a session, nil if there is none.
func (s *amqpSession) waiting(handle uint32) *acceptWait {
	i := slices.IndexFunc(s.waits, func(w *acceptWait) bool { return w.attach.Handle == handle })
	if i < 0 {
		return nil
	}
	return s.waits[i]
}

// letGo handles the client's detach. The answer to our own comes first: go-amqp takes a handle for free, and may attach to it, before it has answered.
func (s *amqpSession) letGo(now time.Time, d *amqp.Detach) {
	w := s.waiting(d.Handle)
	switch {
	case s.detached[d.Handle]:
		delete(s.detached, d.Handle)
	case w != nil:
		w.cancel()
		s.sendAttach(w.attach) // rhea takes a detach without an attach before it for a protocol error
		s.send(&amqp.Detach{Handle: d.Handle, Closed: true}, nil)
	case s.links[d.Handle] != nil:
		s.drop(now, d.Handle)
		s.send(&amqp.Detach{Handle: d.Handle, Closed: true}, nil)
	default:
		s.fail(now, condUnattached, d.Handle)
	}
}

// detach ends a link with an error.
func (s *amqpSession) detach(now time.Time, handle uint32, e *amqp.Error) {
	s.drop(now, handle)
	s.detached[handle] = true
	s.send(&amqp.Detach{Handle: handle, Closed: true, Error: e}, nil)
}

// refuse answers an attach the way AMQP wants it: an attach without terminus, then a detach with the error (part 2, section 2.6.3).
func (s *amqpSession) refuse(now time.Time, a *amqp.Attach, e *amqp.Error) {
	s.sendAttach(a)
	s.detach(now, a.Handle, e)
}

// sendAttach answers an attach without a terminus.
func (s *amqpSession) sendAttach(a *amqp.Attach) {
	reply := &amqp.Attach{Name: a.Name, Handle: a.Handle, Role: !a.Role, SndSettleMode: a.SndSettleMode, RcvSettleMode: a.RcvSettleMode}
	if reply.Role == amqp.RoleSender {
		reply.InitialDeliveryCount = new(uint32)
	}
	s.send(reply, nil)
}

func (s *amqpSession) flowFrame() *amqp.Flow {
	next := s.nextIncoming
	return &amqp.Flow{
		NextIncomingID: &next, IncomingWindow: incomingWindow, NextOutgoingID: s.nextOutgoing, OutgoingWindow: outgoingWindow,
	}
}

func (s *amqpSession) sendFlow() {
	s.received = 0
	s.send(s.flowFrame(), nil)
}

// sendLinkFlow tells the client a link's state as we see it.
func (s *amqpSession) sendLinkFlow(handle, deliveryCount, credit uint32, drain bool) {
	f := s.flowFrame()
	f.Handle, f.DeliveryCount, f.LinkCredit, f.Drain = &handle, &deliveryCount, &credit, drain
	s.send(f, nil)
}

func (s *amqpSession) flow(now time.Time, f *amqp.Flow) {
	var first uint32
	if f.NextIncomingID != nil {
		first = *f.NextIncomingID
	}
	blocked := !s.ready()
	s.window = first + f.IncomingWindow - s.nextOutgoing
	s.flush()
	if blocked && s.ready() {
		s.touchReceivers()
	}
	if f.Handle != nil {
		s.linkFlow(now, f)
	} else if f.Echo {
		s.sendFlow()
	}
}

// linkFlow is the flow of a link. One of a link that we have ended is late.
func (s *amqpSession) linkFlow(now time.Time, f *amqp.Flow) {
	l, w := s.links[*f.Handle], s.waiting(*f.Handle)
	switch {
	case l != nil:
		l.flow(now, f)
	case w != nil:
		w.flow = f
	case !s.detached[*f.Handle]:
		s.fail(now, condUnattached, *f.Handle)
	}
}

// touchReceivers lets the links deliver that waited for the window.
func (s *amqpSession) touchReceivers() {
	for _, h := range sortedKeys(s.links) {
		if r, ok := s.links[h].(*receiverLink); ok {
			r.queue.Touch()
		}
	}
}

func (s *amqpSession) transfer(now time.Time, t *amqp.Transfer, payload []byte) {
	s.nextIncoming++
	if s.received++; s.received >= incomingWindow/4 {
		s.sendFlow()
	}
	switch l := s.links[t.Handle].(type) {
	case *senderLink:
		l.transfer(now, t, payload)
	case nil:
		if !s.detached[t.Handle] {
			s.fail(now, condUnattached, t.Handle)
		}
	default:
		s.detach(now, t.Handle, &amqp.Error{Condition: condNotAllowed, Description: "a transfer against the link's direction"})
	}
}

// ready reports whether a new delivery can be sent at once.
func (s *amqpSession) ready() bool { return s.window > 0 && len(s.outbox) == 0 }

// sendDelivery sends a message in as many frames as it needs and returns its delivery id. Frames for which there is no
// window wait for it.
func (s *amqpSession) sendDelivery(handle uint32, tag []byte, settled bool, payload []byte) uint32 {
	const overhead = 128 // of a transfer with a delivery tag, rounded up
	id, format := s.nextDelivery, uint32(0)
	s.nextDelivery++
	for chunk := range slices.Chunk(payload, s.conn.maxFrame-overhead) {
		t := &amqp.Transfer{
			Handle: handle, DeliveryID: &id, DeliveryTag: tag, MessageFormat: &format, Settled: settled, More: len(chunk) < len(payload),
		}
		payload = payload[len(chunk):]
		s.outbox = append(s.outbox, outgoing{transfer: t, payload: chunk})
	}
	s.flush()
	return id
}

func (s *amqpSession) flush() {
	for s.window > 0 && len(s.outbox) > 0 {
		s.send(s.outbox[0].transfer, s.outbox[0].payload)
		s.outbox = s.outbox[1:]
		s.window--
		s.nextOutgoing++
	}
}
