package servicebus

import (
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus/internal/amqp"
	"github.com/pointsman/pointsman/emulator/servicebus/internal/broker"
)

// Faults make the server misbehave, from the call on. The methods may be called at any time from any goroutine.
// Everything that counts operations counts those of all clients together.
type Faults struct {
	server *Server
	rand   *rand.Rand

	// Guarded by the server's lock.
	outage           bool
	busy             int
	withhold         int
	sendDelay        time.Duration
	dispositionDelay time.Duration
	duplicate        float64
	reorder          time.Duration
	failCancel       failing
	failSchedule     failing
	disabled         map[*broker.Queue]bool
}

// failing is how many operations are still to fail, and with what status.
type failing struct {
	n    int
	code int32
}

func newFaults(s *Server, seed uint64) *Faults {
	return &Faults{server: s, rand: rand.New(rand.NewPCG(seed, 1)), disabled: map[*broker.Queue]bool{}}
}

func (f *Faults) set(change func()) {
	f.server.step(func(time.Time) { change() })
}

// take uses up one of *n; it reports whether there was one.
func take(n *int) bool {
	if *n <= 0 {
		return false
	}
	*n--
	return true
}

// Outage starts or ends a time in which the namespace cannot be reached: all connections are reset and new ones are
// closed as soon as they are made. Messages are kept and time goes on: locks expire, scheduled messages become active.
func (f *Faults) Outage(on bool) {
	f.set(func() { f.outage = on })
	if on {
		f.DropConnections()
	}
}

// DropConnections resets all present connections. Clients may connect again at once.
func (f *Faults) DropConnections() {
	f.set(func() {
		for _, c := range f.server.conns {
			c.abort()
		}
	})
}

// DelaySends makes the answer to a send come d late; the message is stored, and delivered, without delay. 0 = off.
func (f *Faults) DelaySends(d time.Duration) { f.set(func() { f.sendDelay = d }) }

// DelayDispositions makes the answer to a settlement (complete, abandon, …) come d late; it is carried out without
// delay. 0 = off.
func (f *Faults) DelayDispositions(d time.Duration) { f.set(func() { f.dispositionDelay = d }) }

// WithholdSends stores the next n sends but does not answer them, and resets the connection of the last: "done, but
// reported as failed".
func (f *Faults) WithholdSends(n int) { f.set(func() { f.withhold = n }) }

// DuplicateDelivery stores each message that is sent twice with probability p (0 to 1), past duplicate detection.
// Messages scheduled through $management are not affected. 0 = off.
func (f *Faults) DuplicateDelivery(p float64) { f.set(func() { f.duplicate = p }) }

// Reorder delivers each message that is sent a random time of up to d later than possible, so that messages overtake
// each other. Messages scheduled through $management are not affected. 0 = off.
func (f *Faults) Reorder(d time.Duration) { f.set(func() { f.reorder = d }) }

// ServerBusy fails the next n operations, which are sends and management requests, with "server busy" (status 503),
// without carrying them out. Clients retry them.
func (f *Faults) ServerBusy(n int) { f.set(func() { f.busy = n }) }

// FailCancel fails the next n cancellations of scheduled messages with a status code such as 500 (which clients retry)
// or 404, without carrying them out.
func (f *Faults) FailCancel(n int, code int) {
	f.set(func() { f.failCancel = failing{n: n, code: int32(code)} })
}

// FailSchedule fails the next n schedule operations with a status code, without carrying them out.
func (f *Faults) FailSchedule(n int, code int) {
	f.set(func() { f.failSchedule = failing{n: n, code: int32(code)} })
}

// ExpireLocks lets all message locks and session locks of all entities expire at once.
func (f *Faults) ExpireLocks() {
	s := f.server
	s.step(func(now time.Time) { s.broker.ExpireLocks(now) })
}

// DetachLinks detaches all links to an entity and to its management node with amqp:link:detach-forced, as the service
// does when it moves an entity or when a link was idle.
func (f *Faults) DetachLinks(entity string) {
	f.detachLinks(entity, &amqp.Error{Condition: condDetachForced, Description: "the link was detached by the service"})
}

func (f *Faults) detachLinks(entity string, e *amqp.Error) {
	path := pathOf(entity)
	f.server.step(func(now time.Time) {
		for _, c := range f.server.conns {
			for _, channel := range sortedKeys(c.sessions) {
				s := c.sessions[channel]
				for _, h := range sortedKeys(s.links) {
					if p, _ := needs(s.links[h]); p == path || p == path+managementSuffix {
						s.detach(now, h, e)
					}
				}
			}
		}
	})
}

// Disable refuses and detaches all links to an entity with com.microsoft:entity-disabled, until it is called with
// false. An entity that does not exist is not changed.
func (f *Faults) Disable(entity string, on bool) {
	f.set(func() {
		if q, ok := f.server.broker.Lookup(pathOf(entity)); ok {
			f.disabled[q] = on
		}
	})
	if on {
		f.detachLinks(entity, disabled(entity))
	}
}

func disabled(entity string) *amqp.Error {
	return &amqp.Error{Condition: condEntityDisabled, Description: "the messaging entity '" + entity + "' is disabled"}
}

// CloseConnections closes all present connections with amqp:connection:forced, as the service does with idle ones and
// at an upgrade.
func (f *Faults) CloseConnections() {
	f.server.step(func(now time.Time) {
		for _, c := range slices.Clone(f.server.conns) {
			c.release(now)
			c.close(&amqp.Error{Condition: "amqp:connection:forced", Description: "the connection was closed by the service"})
		}
	})
}

// disturb applies the faults of a message that is about to be stored.
func (f *Faults) disturb(m *broker.Message) {
	if f.duplicate > 0 && f.rand.Float64() < f.duplicate {
		m.Copies = 1
	}
	if f.reorder > 0 {
		m.HoldBack = time.Duration(f.rand.Int64N(int64(f.reorder)))
	}
}

// failManagement is the reply to a management request that is to fail.
func (f *Faults) failManagement(operation string) (reply, bool) {
	if take(&f.busy) {
		return reply{code: http.StatusServiceUnavailable, description: busy().Description, condition: condServerBusy}, true
	}
	which := map[string]*failing{"cancel-scheduled-message": &f.failCancel, "schedule-message": &f.failSchedule}
	fail := which[strings.TrimPrefix(operation, operationPrefix)]
	if fail == nil || !take(&fail.n) {
		return reply{}, false
	}
	return reply{code: fail.code, description: "made to fail", condition: condInternal}, true
}
