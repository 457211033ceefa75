package servicebus_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
)

// peer is a client that keeps to AMQP's rules but reads late: what it does crosses what the server has said already. Its handles go
//
//	free ─attach─▶ attaching ─attach read─▶ attached ─detach─▶ closing ─detach read─▶ free
//
// and a detach that it reads before it has sent one it answers.
type peer struct {
	wire
	wrong   string // the first breach of the law
	inbox   chan any
	handles map[uint32]*handle
	sent    map[uint32]uint32 // handle by id of a delivery that waits for its answer
	got     map[uint32]uint32 // handle by id of a delivery that is not settled
	settled map[uint32]uint32 // handle by id of a delivery whose settlement waits for its answer
	next    uint32
}

// handle is one of the client's.
type handle struct {
	state  string
	sender bool
	open   bool // as the server has said
}

// read handles the next frame that has come, if there is one.
func (p *peer) read() bool {
	select {
	case f := <-p.inbox:
		p.handle(f)
		return true
	default:
		return false
	}
}

func (p *peer) handle(f any) {
	switch b := f.(type) {
	case *amqp.Attach:
		h := p.handles[b.Handle]
		p.must(!h.open && (h.state == "attaching" || h.state == "closing"), "attach of %d, %+v", b.Handle, h)
		h.open = true
		if h.state == "attaching" && b.Source != nil {
			h.state = "attached"
		}
	case *amqp.Detach:
		h := p.handles[b.Handle]
		p.must(h.open && h.state != "free", "detach of %d, %+v", b.Handle, h)
		if h.state != "closing" {
			p.sendDetach(b.Handle)
		}
		h.open, h.state = false, "free"
		for _, m := range []map[uint32]uint32{p.sent, p.got, p.settled} {
			for id, on := range m {
				if on == b.Handle {
					delete(m, id)
				}
			}
		}
	case *amqp.Transfer:
		p.must(p.handles[b.Handle].open, "transfer on %d", b.Handle)
		p.got[*b.DeliveryID] = b.Handle
	case *amqp.Flow:
		p.must(b.Handle == nil || p.handles[*b.Handle].open, "flow of %v", b.Handle)
	case *amqp.Disposition:
		waiting := p.sent
		if b.Role == amqp.RoleSender {
			waiting = p.settled
		}
		on, ok := waiting[b.First]
		p.must(ok && p.handles[on].open, "disposition of %d, which does not wait", b.First)
		delete(waiting, b.First)
	default:
		p.must(false, "%T %+v", f, f)
	}
}

func (p *peer) must(ok bool, format string, args ...any) {
	if !ok && p.wrong == "" {
		p.wrong = fmt.Sprintf(format, args...)
	}
}

// attach opens a link of a kind.
func (p *peer) attach(n uint32, kind string) {
	a := &amqp.Attach{Name: fmt.Sprint("link ", n), Handle: n, Source: amqp.NewSource("q"), Target: amqp.NewTarget("q")}
	h := &handle{state: "attaching"}
	switch kind {
	case "sender":
		h.sender, a.Role, a.InitialDeliveryCount = true, amqp.RoleSender, new(uint32)
	case "receiver":
		a.Role = amqp.RoleReceiver
	case "session": // of which there is none: it waits
		a.Role = amqp.RoleReceiver
		a.Source = amqp.NewSource("q/sessions").WithFilter(amqp.Map{}.Set(amqp.Symbol("com.microsoft:session-filter"), nil))
	case "nowhere":
		a.Role, a.Source = amqp.RoleReceiver, amqp.NewSource("q/nowhere")
	}
	p.handles[n] = h
	p.send(a, nil)
}

// use speaks on an attached link: a sender sends, a receiver gives credit or settles.
func (p *peer) use(n uint32) {
	if p.handles[n].sender {
		p.next++
		p.sent[p.next] = n
		p.sendMessage(n, p.next)
		return
	}
	for id, on := range p.got {
		if on == n {
			delete(p.got, id)
			p.settled[id] = n
			p.complete(id)
			return
		}
	}
	p.credit(n, 2, 1000)
}

// step is what happens next, on a handle where it is about one.
type step struct {
	what   string
	handle uint32
}

func (p *peer) do(s *servicebus.Server, next step) {
	state := p.handles[next.handle].state
	switch next.what {
	case "sender", "receiver", "session", "nowhere":
		if state == "free" {
			p.attach(next.handle, next.what)
		}
	case "detach":
		if state == "attaching" || state == "attached" {
			p.handles[next.handle].state = "closing"
			p.sendDetach(next.handle)
		}
	case "use":
		if state == "attached" {
			p.use(next.handle)
		}
	case "read":
		p.read()
	case "read all":
		for p.read() {
			synctest.Wait()
		}
	case "forced":
		s.Faults().DetachLinks("q")
	case "slow":
		s.Faults().DelaySends(time.Second)
		s.Faults().DelayDispositions(time.Second)
	case "second":
		time.Sleep(time.Second)
	case "minutes":
		p.pass()
	}
	synctest.Wait()
}

// pass lets everything come due that can; the client shows that it is alive.
func (p *peer) pass() {
	time.Sleep(2 * time.Minute)
	if _, err := p.Write(amqp.EmptyFrame()); err != nil {
		p.must(false, "the connection has ended: %v", err)
	}
}

// run plays the steps to a server of its own and returns how the law was broken, "" if it was kept.
func run(t *testing.T, steps []step) (wrong string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := servicebus.New(trusting(servicebus.Config{Queues: []servicebus.QueueConfig{{Name: "q"}, {Name: "q/sessions", RequiresSession: true}}}))
		defer func() { _ = s.Close() }()
		p := &peer{
			wire: dialWire(t, s), inbox: make(chan any, 10_000),
			handles: map[uint32]*handle{0: {state: "attached", sender: true, open: true}, 1: {state: "free"}, 2: {state: "free"}, 3: {state: "free"}}, // 0 is $cbs
			sent:    map[uint32]uint32{}, got: map[uint32]uint32{}, settled: map[uint32]uint32{},
		}
		defer func() { _ = p.Close() }()
		go p.listen()
		for _, next := range steps {
			p.do(s, next)
		}
		p.finish()
		wrong = p.wrong
	})
	return wrong
}

// listen takes what comes, so that the server is never held up.
func (p *peer) listen() {
	for {
		f, err := amqp.ReadFrame(p)
		if err != nil {
			return
		}
		if f.Body != nil {
			p.inbox <- f.Body
		}
	}
}

// TestAPeerThatKeepsTheRulesIsAlwaysAnswered is the law behind the tests of single frames: whatever crosses, every attach is answered by one attach, every
// link ends with one detach, every message and settlement on a link that lives has its answer, and nothing is said about a link that is gone.
func TestAPeerThatKeepsTheRulesIsAlwaysAnswered(t *testing.T) {
	kinds := []string{"sender", "receiver", "session", "nowhere", "detach", "use", "use", "use", "read", "read all", "read all", "forced", "slow", "second", "minutes"}
	steps := rapid.SliceOfN(rapid.Custom(func(rt *rapid.T) step {
		return step{rapid.SampledFrom(kinds).Draw(rt, "what"), rapid.Uint32Range(1, 3).Draw(rt, "handle")}
	}), 1, 80)
	rapid.Check(t, func(rt *rapid.T) {
		if wrong := run(t, steps.Draw(rt, "steps")); wrong != "" {
			rt.Fatal(wrong)
		}
	})
}

// finish lets everything come to rest, ends all links and then the session.
func (p *peer) finish() {
	rest := func() {
		p.pass()
		synctest.Wait()
		for p.read() {
			synctest.Wait()
		}
	}
	rest()
	p.must(len(p.sent) == 0 && len(p.settled) == 0, "sends %v and settlements %v wait for ever", p.sent, p.settled)
	for n, h := range p.handles {
		if n > 0 && h.state == "attached" {
			h.state = "closing"
			p.sendDetach(n)
		}
	}
	rest()
	for n, h := range p.handles {
		p.must(n == 0 || h.state == "free", "handle %d waits for ever: %+v", n, h)
	}
	p.send(&amqp.End{}, nil)
	synctest.Wait()
	select {
	case f := <-p.inbox:
		end, ok := f.(*amqp.End)
		p.must(ok && end.Error == nil, "the session ended with %T %+v", f, f)
	default:
		p.must(false, "the end has no answer")
	}
}
