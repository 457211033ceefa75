package servicebus_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// onWire runs a test in a bubble of fake time, with a connection whose session has links to queue q: a sender with handle 1, a receiver with handle 2.
func onWire(t *testing.T, test func(s *servicebus.Server, w wire)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := servicebus.New(trusting(oneQueue(servicebus.QueueConfig{})))
		defer func() { _ = s.Close() }()
		w := dialWire(t, s)
		defer func() { _ = w.Close() }()
		w.attach(1, amqp.RoleSender)
		w.attach(2, amqp.RoleReceiver)
		test(s, w)
	})
}

func (w wire) sendAttach(handle uint32, role bool) {
	w.t.Helper()
	a := &amqp.Attach{Name: "link", Handle: handle, Role: role, Source: amqp.NewSource("q"), Target: amqp.NewTarget("q")}
	if role == amqp.RoleSender {
		a.InitialDeliveryCount = new(uint32)
	}
	w.send(a, nil)
}

// attach opens a link; as the next frame that comes is its answer, nothing has come before.
func (w wire) attach(handle uint32, role bool) {
	w.t.Helper()
	w.sendAttach(handle, role)
	if a := expect[*amqp.Attach](w); a.Handle != handle || a.Source == nil {
		w.t.Fatalf("%+v", a)
	}
}

func (w wire) sendMessage(handle, id uint32) {
	w.t.Helper()
	var m amqp.Message
	m.SetApplication(amqp.Map{}.Set("n", "1"))
	w.send(&amqp.Transfer{Handle: handle, DeliveryID: &id, DeliveryTag: []byte{byte(id)}, MessageFormat: new(uint32)}, m.Append(nil))
}

// credit gives a link credit, and the session a window from its first transfer on.
func (w wire) credit(handle, credit, window uint32) {
	w.t.Helper()
	w.send(&amqp.Flow{NextIncomingID: new(uint32), IncomingWindow: window, OutgoingWindow: 100, Handle: &handle, DeliveryCount: new(uint32), LinkCredit: &credit}, nil)
}

// deliver sends a message and gets it, with credit for more.
func (w wire) deliver() (delivery uint32) {
	w.t.Helper()
	w.sendMessage(1, 0)
	expect[*amqp.Disposition](w)
	w.credit(2, 5, 100)
	return *expect[*amqp.Transfer](w).DeliveryID
}

func (w wire) complete(id uint32) {
	w.t.Helper()
	w.send(&amqp.Disposition{Role: amqp.RoleReceiver, First: id, State: &amqp.Outcome{Kind: amqp.Accepted}}, nil)
}

// acceptAny asks for the next session, on handle 1.
func (w wire) acceptAny() {
	w.t.Helper()
	anySession := amqp.NewSource("q").WithFilter(amqp.Map{}.Set(amqp.Symbol("com.microsoft:session-filter"), nil))
	w.send(&amqp.Attach{Name: "accept", Handle: 1, Role: amqp.RoleReceiver, Source: anySession, Target: amqp.NewTarget("me")}, nil)
}

func (w wire) sendDetach(handle uint32) {
	w.t.Helper()
	w.send(&amqp.Detach{Handle: handle, Closed: true}, nil)
}

// TestStrayHandles: a client that speaks of a link that is not there is told so and waits for nothing (part 2, sections 2.5.4 and 2.8.17).
func TestStrayHandles(t *testing.T) {
	const unattached, inUse = "amqp:session:unattached-handle", "amqp:session:handle-in-use"
	for name, test := range map[string]struct {
		stray func(w wire)
		want  amqp.Symbol
	}{
		"detach":                    {func(w wire) { w.sendDetach(7) }, unattached},
		"detach, twice":             {func(w wire) { w.sendDetach(1); expect[*amqp.Detach](w); w.sendDetach(1) }, unattached},
		"flow":                      {func(w wire) { w.credit(7, 1, 100) }, unattached},
		"transfer":                  {func(w wire) { w.sendMessage(7, 9) }, unattached},
		"attach of a handle in use": {func(w wire) { w.sendAttach(2, amqp.RoleReceiver) }, inUse},
	} {
		t.Run(name, func(t *testing.T) {
			onWire(t, func(s *servicebus.Server, w wire) {
				test.stray(w)
				if end := expect[*amqp.End](w); end.Error == nil || end.Error.Condition != test.want {
					w.t.Errorf("%+v, want %s", end.Error, test.want)
				}
				w.sendMessage(1, 5) // written before the end was read: it counts for nothing
				w.sendDetach(2)
				w.send(&amqp.End{}, nil)
				w.send(&amqp.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10}, nil)
				expect[*amqp.Begin](w)
				w.attach(1, amqp.RoleSender)
				if q, _ := s.Queue("q"); q.Enqueued != 0 {
					w.t.Errorf("%d messages taken by a session that has ended", q.Enqueued)
				}
			})
		})
	}
}

func TestHandleBeyondTheRangeEndsTheConnection(t *testing.T) {
	onWire(t, func(_ *servicebus.Server, w wire) {
		w.sendAttach(256, amqp.RoleSender)
		if c := expect[*amqp.Close](w); c.Error == nil || c.Error.Condition != "amqp:connection:framing-error" {
			w.t.Errorf("%+v", c.Error)
		}
	})
}

func TestTransferAgainstTheDirectionDetaches(t *testing.T) {
	onWire(t, func(_ *servicebus.Server, w wire) {
		w.sendMessage(2, 0)
		if d := expect[*amqp.Detach](w); d.Handle != 2 || d.Error == nil || d.Error.Condition != "amqp:not-allowed" {
			w.t.Errorf("%+v", d)
		}
	})
}

// TestWhatCrossesADetachIsLate: a client may write to a link that the service has ended until it reads so. None of it is answered, and go-amqp ends
// the session for a disposition of a link that is gone.
func TestWhatCrossesADetachIsLate(t *testing.T) {
	onWire(t, func(s *servicebus.Server, w wire) {
		delivery := w.deliver()
		s.Faults().DetachLinks("q")
		for _, handle := range []uint32{1, 2} {
			if d := expect[*amqp.Detach](w); d.Handle != handle || !d.Closed || d.Error == nil {
				w.t.Errorf("%+v", d)
			}
		}
		w.sendMessage(1, 1)
		w.credit(2, 9, 100)
		w.complete(delivery)
		w.attach(1, amqp.RoleSender) // go-amqp takes a handle for free before it has answered
		w.sendDetach(1)
		w.sendDetach(2)
		w.sendMessage(1, 2)
		expect[*amqp.Disposition](w)
		if q, _ := s.Queue("q"); q.Enqueued != 2 || q.Completed != 0 {
			w.t.Errorf("%+v", q)
		}
		w.sendDetach(1) // this one is asked for
		if d := expect[*amqp.Detach](w); d.Handle != 1 || d.Error != nil {
			w.t.Errorf("%+v", d)
		}
	})
}

// TestAnswersThatAreLateAreNotGiven: a disposition of a link that has been detached meanwhile would end the client's session.
func TestAnswersThatAreLateAreNotGiven(t *testing.T) {
	onWire(t, func(s *servicebus.Server, w wire) {
		delivery := w.deliver()
		s.Faults().DelaySends(time.Second)
		s.Faults().DelayDispositions(time.Second)
		w.sendMessage(1, 1)
		w.complete(delivery)
		expect[*amqp.Transfer](w) // of the second message, which was stored without delay
		w.sendDetach(1)
		expect[*amqp.Detach](w)
		w.sendDetach(2)
		expect[*amqp.Detach](w)
		time.Sleep(2 * time.Second)
		w.attach(3, amqp.RoleSender)
	})
}

// TestNoTransferFollowsADetach: the rest of a message that waited for the window goes with its link, and not to the next one with its handle.
func TestNoTransferFollowsADetach(t *testing.T) {
	onWire(t, func(s *servicebus.Server, w wire) {
		other := dial(w.t, s)
		defer func() { _ = other.Close(w.t.Context()) }()
		send(w.t, other, "q", message(strings.Repeat("x", 3*amqp.MaxFrameSize/2))) // of two frames
		w.credit(2, 1, 1)
		if first := expect[*amqp.Transfer](w); !first.More {
			w.t.Errorf("%+v", first)
		}
		w.sendDetach(2)
		expect[*amqp.Detach](w)
		w.send(&amqp.Flow{NextIncomingID: new(uint32(1)), IncomingWindow: 100, OutgoingWindow: 100}, nil)
		w.attach(2, amqp.RoleReceiver)
	})
}

// TestCreditBeforeTheAnswer: a client may give credit to a link that still waits for a session (part 2, section 2.6.3), and gets its message by it.
func TestCreditBeforeTheAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, trusting(sessionQueue()))
		w := dialWire(t, s)
		defer func() { _ = w.Close() }()
		w.acceptAny()
		w.credit(1, 1, 100)
		send(t, c, "q", inSession("s", "x"))
		if a := expect[*amqp.Attach](w); a.Source == nil {
			t.Errorf("%+v", a)
		}
		expect[*amqp.Transfer](w)
	})
}

// TestNothingFollowsAClose: what the client writes before it has read our close is neither done nor answered (part 2, section 2.4.6), and its links take
// nothing more.
func TestNothingFollowsAClose(t *testing.T) {
	s, err := servicebus.Start(trusting(oneQueue(servicebus.QueueConfig{})))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	w := openWire(t, dialTCP(t, s))
	w.attach(2, amqp.RoleReceiver)
	w.credit(2, 1, 100)
	w.attach(1, amqp.RoleSender) // the credit has been read
	s.Faults().CloseConnections()
	w.send(&amqp.Begin{IncomingWindow: 100, OutgoingWindow: 100, HandleMax: 10}, nil)
	w.sendAttach(1, amqp.RoleSender)
	w.sendMessage(1, 0)
	if c := expect[*amqp.Close](w); c.Error == nil {
		t.Error("no error")
	}
	if _, err = amqp.ReadFrame(w); !errors.Is(err, io.EOF) {
		t.Errorf("%v, want the end", err)
	}
	other := dial(t, s)
	defer func() { _ = other.Close(t.Context()) }()
	send(t, other, "q", message("for others"))
	if q, _ := s.Queue("q"); q.Active != 1 || q.Locked != 0 {
		t.Errorf("a connection that is closing took a message: %+v", q)
	}
	_ = w.Close()
	if err = s.Close(); err != nil { // which waits until all is read
		t.Fatal(err)
	}
	if q, _ := s.Queue("q"); q.Enqueued != 1 {
		t.Errorf("a connection that is closing sent a message: %+v", q)
	}
}

// TestAHandleThatWaitsIsInUse: an attach that waits for a session has its handle.
func TestAHandleThatWaitsIsInUse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := start(t, trusting(sessionQueue()))
		w := dialWire(t, s)
		defer func() { _ = w.Close() }()
		w.acceptAny()
		w.acceptAny()
		if end := expect[*amqp.End](w); end.Error == nil || end.Error.Condition != "amqp:session:handle-in-use" {
			t.Errorf("%+v", end.Error)
		}
	})
}

// TestTheSessionEndsWhileAnAttachWaits: the end is answered, and what the attach waited for is left to others.
func TestTheSessionEndsWhileAnAttachWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c := start(t, trusting(sessionQueue()))
		w := dialWire(t, s)
		defer func() { _ = w.Close() }()
		w.acceptAny()
		w.send(&amqp.End{}, nil)
		if end := expect[*amqp.End](w); end.Error != nil {
			t.Errorf("%+v", end.Error)
		}
		send(t, c, "q", inSession("s", "x"))
		if r := acceptS(t, c); string(one(t, r).Body) != "x" {
			t.Error("another message came")
		}
	})
}
