package servicebus

import (
	"context"
	"log/slog"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// replyLink is a link on which the client receives the replies of $cbs or of a $management node.
type replyLink struct {
	session *amqpSession
	linkID  string
	handle  uint32
	path    string
	address string // of the client's target: where it wants the replies

	credit        uint32
	deliveryCount uint32
	queued        [][]byte // replies that wait for credit: the request may come before the first credit
}

func (l *replyLink) end(time.Time) {}

func (s *amqpSession) attachReplies(a *amqp.Attach, n node) {
	s.links[a.Handle] = &replyLink{session: s, linkID: a.Name, handle: a.Handle, path: n.path, address: a.Target.Address()}
	s.send(&amqp.Attach{
		Name: a.Name, Handle: a.Handle, Role: amqp.RoleSender, SndSettleMode: a.SndSettleMode, RcvSettleMode: a.RcvSettleMode,
		Source: a.Source, Target: a.Target, InitialDeliveryCount: new(uint32), MaxMessageSize: maxMessageSize,
	}, nil)
}

func (l *replyLink) flow(_ time.Time, f *amqp.Flow) {
	if f.LinkCredit != nil {
		var seen uint32
		if f.DeliveryCount != nil {
			seen = *f.DeliveryCount
		}
		l.credit = seen + *f.LinkCredit - l.deliveryCount
	}
	l.flush()
	if f.Drain {
		l.deliveryCount += l.credit
		l.credit = 0
	}
	if f.Drain || f.Echo {
		l.session.sendLinkFlow(l.handle, l.deliveryCount, l.credit, f.Drain)
	}
}

func (l *replyLink) flush() {
	for l.credit > 0 && len(l.queued) > 0 {
		b := l.queued[0]
		l.queued = l.queued[1:]
		l.credit--
		l.deliveryCount++
		tag := []byte{byte(l.deliveryCount >> 24), byte(l.deliveryCount >> 16), byte(l.deliveryCount >> 8), byte(l.deliveryCount)}
		l.session.sendDelivery(l.handle, tag, true, b)
	}
}

// reply is the result of a request.
type reply struct {
	code        int32 // as of HTTP
	description string
	condition   amqp.Symbol // of a failure
	body        any         // of the amqp-value section
}

// request makes a request-response node of a handler.
func (s *amqpSession) request(handle func(time.Time, *amqp.Message) reply) acceptFunc {
	return func(now time.Time, _ uint32, payload []byte, answer func(*amqp.Error)) {
		m, err := amqp.ParseMessage(payload)
		if err != nil {
			answer(condition(err))
			return
		}
		answer(nil)
		s.conn.respond(m, handle(now, m))
	}
}

// respond sends r to the link that the request names as reply-to: by target address, or by link name as the JavaScript
// client does.
func (c *conn) respond(request *amqp.Message, r reply) {
	to, _ := request.Property(amqp.PropReplyTo).(string)
	l := c.replyTo(to)
	if l == nil {
		c.log.LogAttrs(context.Background(), slog.LevelWarn, "nowhere to reply to", slog.String("reply-to", to))
		return
	}
	m := &amqp.Message{}
	m.SetProperty(amqp.PropCorrelationID, request.Property(amqp.PropMessageID))
	app := amqp.Map{
		{Key: "status-code", Value: r.code},
		{Key: "statusCode", Value: r.code},
		{Key: "status-description", Value: r.description},
		{Key: "statusDescription", Value: r.description},
	}
	if r.condition != "" {
		app = append(app, amqp.Pair{Key: "error-condition", Value: r.condition}, amqp.Pair{Key: "errorCondition", Value: r.condition})
	}
	m.SetApplication(app)
	m.SetValue(r.body)
	l.queued = append(l.queued, m.Append(nil))
	l.flush()
}

func (c *conn) replyTo(to string) *replyLink {
	for _, channel := range sortedKeys(c.sessions) {
		links := c.sessions[channel].links
		for _, h := range sortedKeys(links) {
			if l, ok := links[h].(*replyLink); ok && to != "" && (l.address == to || l.linkID == to) {
				return l
			}
		}
	}
	return nil
}
