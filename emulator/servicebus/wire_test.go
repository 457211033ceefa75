package servicebus_test

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"testing/synctest"

	"github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// wire speaks frames on channel 0, for what no client can be made to send.
type wire struct {
	net.Conn
	t *testing.T
}

func (w wire) send(p amqp.Performative, payload []byte) {
	w.t.Helper()
	if _, err := w.Write(amqp.AppendFrame(nil, 0, p, payload)); err != nil {
		w.t.Fatal(err)
	}
}

// next is the body of the next frame, keep-alives and flows left out.
func (w wire) next() any {
	w.t.Helper()
	for {
		f, err := amqp.ReadFrame(w)
		if err != nil {
			w.t.Fatal(err)
		}
		if _, isFlow := f.Body.(*amqp.Flow); f.Body != nil && !isFlow {
			return f.Body
		}
	}
}

// expect is the next frame, which is a T.
func expect[T any](w wire) T {
	w.t.Helper()
	got := w.next()
	body, ok := got.(T)
	if !ok {
		w.t.Fatalf("%T %+v, want %T", got, got, body)
	}
	return body
}

// trusting is cfg for which every token is good.
func trusting(cfg servicebus.Config) servicebus.Config {
	cfg.AcceptToken = func(string, string) error { return nil }
	return cfg
}

// dialWire opens a connection with a session on channel 0 and the rights that the token "good" gives to queue q.
func dialWire(t *testing.T, s *servicebus.Server) wire {
	t.Helper()
	return openWire(t, s.Dial())
}

func openWire(t *testing.T, nc net.Conn) wire {
	t.Helper()
	w := wire{nc, t}
	if _, err := w.Write(amqp.ProtocolHeader(amqp.ProtocolAMQP)); err != nil {
		t.Fatal(err)
	}
	if _, err := amqp.ReadProtocolHeader(w); err != nil {
		t.Fatal(err)
	}
	w.send(&amqp.Open{ContainerID: "wire", Hostname: "h", MaxFrameSize: amqp.MaxFrameSize, ChannelMax: 10}, nil)
	expect[*amqp.Open](w)
	w.send(&amqp.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10}, nil)
	expect[*amqp.Begin](w)
	w.send(&amqp.Attach{Name: "put", Handle: 0, Role: amqp.RoleSender, Source: amqp.NewSource("me"), Target: amqp.NewTarget("$cbs"), InitialDeliveryCount: new(uint32)}, nil)
	expect[*amqp.Attach](w)
	var token amqp.Message
	token.SetApplication(amqp.Map{}.Set("operation", "put-token").Set("type", "jwt").Set("name", "amqp://h/q"))
	w.send(&amqp.Transfer{Handle: 0, DeliveryID: new(uint32), DeliveryTag: []byte{1}, MessageFormat: new(uint32), Settled: true}, token.Append(nil))
	return w
}

func dialTCP(t *testing.T, s *servicebus.Server) net.Conn {
	t.Helper()
	nc, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return nc
}

// AMQP wants an attach answered by an attach before anything else is said about the link (part 2, section 2.6.3). rhea, on which Microsoft's
// JavaScript client stands, ends the connection otherwise.
func TestAcceptGivenUpIsAnsweredByAttach(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := servicebus.New(trusting(sessionQueue()))
		defer func() { _ = s.Close() }()
		w := dialWire(t, s)
		w.acceptAny()
		w.send(&amqp.Detach{Handle: 1, Closed: true}, nil)
		if a := expect[*amqp.Attach](w); a.Name != "accept" || a.Source != nil {
			t.Errorf("%+v", a)
		}
		if d := expect[*amqp.Detach](w); d.Handle != 1 || !d.Closed || d.Error != nil {
			t.Errorf("%+v", d)
		}
		_ = w.Close()
	})
}

// A client that is still writing when it has said close (rhea flushes what it had queued) must read the answer and then the end, never a reset.
func TestCloseIsReadBeforeTheEnd(t *testing.T) {
	s, err := servicebus.Start(oneQueue(servicebus.QueueConfig{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	nc := dialTCP(t, s)
	defer func() { _ = nc.Close() }()
	said := amqp.ProtocolHeader(amqp.ProtocolAMQP)
	said = amqp.AppendFrame(said, 0, &amqp.Open{ContainerID: "wire", Hostname: "h", MaxFrameSize: amqp.MaxFrameSize}, nil)
	said = amqp.AppendFrame(said, 0, &amqp.Close{}, nil)
	said = append(said, bytes.Repeat(amqp.EmptyFrame(), 1<<18)...) // more than the reader takes in one go
	if _, err = nc.Write(said); err != nil {
		t.Fatal(err)
	}
	if _, err = amqp.ReadProtocolHeader(nc); err != nil {
		t.Fatal(err)
	}
	w := wire{nc, t}
	expect[*amqp.Open](w)
	expect[*amqp.Close](w)
	if _, err = amqp.ReadFrame(w); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
	for range 3 { // a socket that is closed takes one
		if _, err = nc.Write(amqp.EmptyFrame()); err != nil {
			t.Fatalf("it did not wait for the client to hang up: %v", err)
		}
	}
}
