package servicebus

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// What the server announces when a connection opens.
const (
	channelMax  = 4999
	idleTimeout = 240 * time.Second // the client sends something every half of it
	keepAlive   = 15 * time.Second  // the server does so; go-amqp gives up after 60 s of silence
	linger      = 2 * time.Second   // how long the client has to hang up after a close
)

// conn is one connection. Its fields below the buffer are guarded by the server's lock.
type conn struct {
	server *Server
	net    net.Conn
	log    *slog.Logger

	outMu   sync.Mutex
	out     []byte
	ending  bool          // close the network connection once out is written
	pending chan struct{} // out or ending changed
	dead    chan struct{} // the network connection is closed
	once    sync.Once

	opened   bool
	maxFrame int // bytes that the client accepts
	sessions map[uint16]*amqpSession
	grants   []grant
}

func newConn(s *Server, nc net.Conn, id uint64) *conn {
	return &conn{
		server: s, net: nc, log: s.log.With(slog.Uint64("connection", id)),
		pending: make(chan struct{}, 1), dead: make(chan struct{}),
		maxFrame: amqp.MaxFrameSize, sessions: map[uint16]*amqpSession{},
	}
}

// reset closes nc the hard way: a TCP peer gets RST, and TLS is not wound up, which could block.
func reset(nc net.Conn) {
	if t, ok := nc.(*tls.Conn); ok {
		nc = t.NetConn()
	}
	if t, ok := nc.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
	_ = nc.Close()
}

// abort ends the connection without a word; what is queued is lost.
func (c *conn) abort() { c.shut(reset) }

// shut closes the network connection, once.
func (c *conn) shut(how func(net.Conn)) {
	c.once.Do(func() {
		close(c.dead)
		how(c.net)
	})
}

// finish ends the connection once everything sent so far is written.
func (c *conn) finish() {
	c.outMu.Lock()
	c.ending = true
	c.outMu.Unlock()
	c.notify()
}

func (c *conn) notify() {
	select {
	case c.pending <- struct{}{}:
	default:
	}
}

// send queues a frame. It never blocks: what is queued is bounded by windows and credit. After a close there is nothing more to say.
func (c *conn) send(channel uint16, p amqp.Performative, payload []byte) {
	c.outMu.Lock()
	if !c.ending {
		c.out = amqp.AppendFrame(c.out, channel, p, payload)
	}
	c.outMu.Unlock()
	c.notify()
}

// closing reports whether we have said close.
func (c *conn) closing() bool {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	return c.ending
}

func (c *conn) sendRaw(b []byte) {
	c.outMu.Lock()
	c.out = append(c.out, b...)
	c.outMu.Unlock()
	c.notify()
}

func (c *conn) takeOut(spare []byte) (b []byte, ending bool) {
	c.outMu.Lock()
	defer c.outMu.Unlock()
	b, c.out = c.out, spare[:0]
	return b, c.ending
}

// write sends what is queued, and a keep-alive when there was nothing for a while.
func (c *conn) write() {
	defer c.abort()
	idle := time.NewTimer(keepAlive)
	defer idle.Stop()
	var spare []byte
	for {
		alive := false
		select {
		case <-c.dead:
			return
		case <-idle.C:
			alive = true
		case <-c.pending:
		}
		b, ending := c.takeOut(spare)
		if len(b) == 0 && alive {
			b = amqp.EmptyFrame()
		}
		if len(b) > 0 {
			if _, err := c.net.Write(b); err != nil {
				return
			}
		}
		if ending {
			c.hangUp()
			return
		}
		spare = b
		idle.Reset(keepAlive)
	}
}

func orderly(nc net.Conn) { _ = nc.Close() }

// hangUp says that nothing more will be written, and leaves it to the client to hang up. Were the socket closed at once, what the client is
// still writing would be answered with a reset, which may overtake the close before the client has read it (RFC 1122 4.2.2.13).
func (c *conn) hangUp() {
	half, ok := c.net.(interface{ CloseWrite() error })
	if ok && half.CloseWrite() == nil {
		late := time.NewTimer(linger)
		defer late.Stop()
		select {
		case <-c.dead:
		case <-late.C:
		}
	}
	c.shut(orderly)
}

// drain reads until the client hangs up, or hangUp no longer waits for that.
func (c *conn) drain(r io.Reader) {
	_, _ = io.Copy(io.Discard, r)
	c.shut(orderly)
}

// read handles frames until the connection ends, then cleans up.
func (c *conn) read() {
	defer c.forget()
	r := bufio.NewReaderSize(c.net, amqp.MaxFrameSize)
	err := c.handshake(r)
	for err == nil {
		var f amqp.Frame
		_ = c.net.SetReadDeadline(time.Now().Add(2 * idleTimeout))
		if f, err = amqp.ReadFrame(r); err == nil {
			err = c.handle(f)
		}
	}
	c.endSessions()
	switch {
	case errors.Is(err, amqp.ErrDecode):
		c.close(&amqp.Error{Condition: "amqp:decode-error", Description: err.Error()})
	case errors.Is(err, amqp.ErrProtocol):
		c.close(&amqp.Error{Condition: "amqp:connection:framing-error", Description: err.Error()})
	case errors.Is(err, errClosed):
		c.finish()
	default:
		c.log.LogAttrs(context.Background(), slog.LevelDebug, "connection lost", slog.Any("error", err))
		c.abort()
	}
	c.drain(r)
}

// errClosed means that the client closed the connection properly.
var errClosed = errors.New("closed by the client")

// handshake is the protocol headers and, if the client wants it, SASL. Any mechanism is accepted: what counts is the
// token put on $cbs.
func (c *conn) handshake(r io.Reader) error {
	id, err := amqp.ReadProtocolHeader(r)
	if err != nil {
		return err
	}
	if id == amqp.ProtocolSASL {
		c.sendRaw(amqp.ProtocolHeader(amqp.ProtocolSASL))
		c.send(0, &amqp.SASLMechanisms{Mechanisms: []amqp.Symbol{"MSSBCBS", "PLAIN", "ANONYMOUS", "EXTERNAL"}}, nil)
		f, readErr := amqp.ReadFrame(r)
		if readErr != nil {
			return readErr
		}
		if _, ok := f.Body.(*amqp.SASLInit); !ok {
			return amqp.ErrProtocol
		}
		c.send(0, &amqp.SASLOutcome{}, nil)
		if id, err = amqp.ReadProtocolHeader(r); err != nil {
			return err
		}
	}
	if id != amqp.ProtocolAMQP {
		return amqp.ErrProtocol
	}
	c.sendRaw(amqp.ProtocolHeader(amqp.ProtocolAMQP))
	return nil
}

func (c *conn) handle(f amqp.Frame) error {
	if f.Body == nil {
		return nil
	}
	var err error
	c.server.step(func(now time.Time) { err = c.frame(now, f) })
	return err
}

func (c *conn) frame(now time.Time, f amqp.Frame) error {
	if _, isClose := f.Body.(*amqp.Close); isClose {
		c.send(0, &amqp.Close{}, nil)
		return errClosed
	}
	if c.closing() { // the client wrote this before it read our close (part 2, section 2.4.6)
		return nil
	}
	switch b := f.Body.(type) {
	case *amqp.Open:
		c.open(b)
		return nil
	case *amqp.Begin:
		if !c.opened || c.sessions[f.Channel] != nil {
			return amqp.ErrProtocol
		}
		c.begin(f.Channel, b)
		return nil
	}
	session := c.sessions[f.Channel]
	if session == nil {
		return nil // go-amqp ends even a session whose begin it did not get to write
	}
	return session.frame(now, f)
}

func (c *conn) open(o *amqp.Open) {
	c.opened = true
	if o.MaxFrameSize >= 512 && o.MaxFrameSize < amqp.MaxFrameSize {
		c.maxFrame = int(o.MaxFrameSize)
	}
	c.send(0, &amqp.Open{
		ContainerID: "servicebus-emulator", MaxFrameSize: amqp.MaxFrameSize, ChannelMax: channelMax,
		IdleTimeout: uint32(idleTimeout.Milliseconds()),
	}, nil)
}

// close sends a close with an error and ends the connection.
func (c *conn) close(e *amqp.Error) {
	c.log.LogAttrs(context.Background(), slog.LevelWarn, "closing the connection", slog.Any("error", e))
	c.send(0, &amqp.Close{Error: e}, nil)
	c.finish()
}

// endSessions gives back what the connection held. The client has said its last word, whatever it still writes.
func (c *conn) endSessions() {
	c.server.step(func(now time.Time) {
		c.release(now)
	})
}

func (c *conn) release(now time.Time) {
	for _, channel := range sortedKeys(c.sessions) {
		c.sessions[channel].end(now)
	}
	clear(c.sessions)
}

// forget takes a connection that is closed off the server's list.
func (c *conn) forget() {
	s := c.server
	s.step(func(time.Time) {
		s.conns = slices.DeleteFunc(s.conns, func(other *conn) bool { return other == c })
	})
}
