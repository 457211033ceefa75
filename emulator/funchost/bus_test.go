package funchost

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
)

// fakeBus is an entity in memory. It fails the test's expectations itself: settling what is not locked is an error.
type fakeBus struct {
	mu       sync.Mutex
	changed  chan struct{}
	messages []*fakeMessage // by sequence number
	sequence int64
	dead     []*message
	held     map[string]bool
	lock     time.Duration // of sessions
	renewed  chan struct{}
	away     int // so many opens fail
	panics   int // so many fetches panic
	closed   int
	stuck    bool // closing takes until its limit
	batches  [][]string
}

type fakeMessage struct {
	*message
	owner *fakeReceiver
}

// maxDelivery is MaxDeliveryCount of the fake.
const maxDelivery = 3

func newFakeBus() *fakeBus {
	return &fakeBus{changed: make(chan struct{}), held: map[string]bool{}, lock: time.Minute, renewed: make(chan struct{}, 100)}
}

// send puts bodies into a session, "" for none; the message ids are "m-N".
func (b *fakeBus) send(session string, bodies ...string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, body := range bodies {
		b.sequence++
		m := &message{
			Body: []byte(body), MessageID: fmt.Sprintf("m-%d", b.sequence), SequenceNumber: new(b.sequence), DeliveryCount: 1,
			LockToken: uuid.New(), LockedUntil: new(time.Now().Add(b.lock)),
		}
		if session != "" {
			m.SessionID = &session
		}
		b.messages = append(b.messages, &fakeMessage{message: m})
	}
	b.change()
}

func (b *fakeBus) change() { close(b.changed); b.changed = make(chan struct{}) }

// left counts the messages that are neither completed nor dead.
func (b *fakeBus) left() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.messages)
}

func (b *fakeBus) namespace() string     { return "fake.local" }
func (b *fakeBus) close(context.Context) {}
func (b *fakeBus) receive(context.Context) (receiver, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.away > 0 {
		b.away--
		return nil, errors.New("connection refused")
	}
	return &fakeReceiver{bus: b}, nil
}

func (b *fakeBus) accept(ctx context.Context) (receiver, error) {
	for {
		b.mu.Lock()
		for _, m := range b.messages {
			if s := *m.SessionID; !b.held[s] {
				b.held[s] = true
				b.mu.Unlock()
				return &fakeReceiver{bus: b, session: s, until: time.Now().Add(b.lock)}, nil
			}
		}
		changed := b.changed
		b.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, errNoSession
		}
	}
}

type fakeReceiver struct {
	bus     *fakeBus
	session string
	until   time.Time
}

func (r *fakeReceiver) fetch(ctx context.Context, limit int) ([]*message, error) {
	for {
		r.bus.mu.Lock()
		if r.bus.panics > 0 {
			r.bus.panics--
			r.bus.mu.Unlock()
			panic("interface conversion: interface {} is int64, not string")
		}
		var batch []*message
		var ids []string
		for _, m := range r.bus.messages {
			if m.owner == nil && or(m.SessionID, "") == r.session && len(batch) < limit {
				m.owner = r
				batch, ids = append(batch, m.message), append(ids, m.MessageID)
			}
		}
		if len(batch) > 0 {
			r.bus.batches = append(r.bus.batches, ids)
		}
		changed := r.bus.changed
		r.bus.mu.Unlock()
		if len(batch) > 0 {
			return batch, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, nil
		}
	}
}

func (r *fakeReceiver) settle(_ context.Context, m *message, complete bool) error {
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	i := slices.IndexFunc(r.bus.messages, func(f *fakeMessage) bool { return f.message == m && f.owner == r })
	if i < 0 {
		return errors.New("lock lost")
	}
	if !complete && m.DeliveryCount < maxDelivery {
		again := *m // a new delivery is a new value
		again.DeliveryCount++
		r.bus.messages[i] = &fakeMessage{message: &again}
	} else {
		if !complete {
			r.bus.dead = append(r.bus.dead, m)
		}
		r.bus.messages = slices.Delete(r.bus.messages, i, i+1)
	}
	r.bus.change()
	return nil
}

func (r *fakeReceiver) renew(context.Context, *message) (time.Time, error) {
	r.bus.renewed <- struct{}{}
	return time.Now().Add(r.bus.lock), nil
}

func (r *fakeReceiver) sessionUntil() (time.Time, bool) { return r.until, r.session != "" }

func (r *fakeReceiver) close(ctx context.Context) {
	if r.bus.stuck {
		<-ctx.Done()
	}
	r.bus.mu.Lock()
	defer r.bus.mu.Unlock()
	for i, m := range r.bus.messages {
		if m.owner == r {
			r.bus.messages[i] = &fakeMessage{message: m.message}
		}
	}
	delete(r.bus.held, r.session)
	r.bus.closed++
	r.bus.change()
}

// busRig runs one function on a fake bus; more goes into the trigger, options into extensions.serviceBus.
func busRig(t *testing.T, more, options string, bus_ *fakeBus) *rig {
	t.Helper()
	r := newRig(t, map[string]string{
		"host.json":       hostJSON(t, `,"extensions":{"serviceBus":{`+options+`}}`),
		"Q/function.json": `{"bindings":[{"type":"serviceBusTrigger","name":"messages","queueName":"q"` + more + `}]}`,
	})
	return r.prepare(func(h *Host) { h.openBus = func(*function) (bus, error) { return bus_, nil } })
}

// bodies are the message bodies of a recorded batch.
func bodies(t *testing.T, q recorded) []string {
	t.Helper()
	var request struct{ Data struct{ Messages string } }
	var list []string
	if err := errors.Join(json.Unmarshal([]byte(q.Body), &request), json.Unmarshal([]byte(request.Data.Messages), &list)); err != nil {
		t.Fatalf("%v in %s", err, q.Body)
	}
	return list
}

const manyText = `,"cardinality":"many","dataType":"string"`

func TestA5_BatchOfWhatIsNotJSONNeverReachesTheHandler(t *testing.T) {
	b := newFakeBus()
	b.send("", `{"fine":1}`, `not JSON`)
	r := busRig(t, `,"cardinality":"many"`, ``, b).startHost()
	for range maxDelivery {
		if i := r.ended(); i.OK || !slices.Equal(i.MessageIDs, []string{"m-1", "m-2"}) {
			t.Fatalf("%+v", i)
		}
	}
	r.until("both dead", func() bool { return b.left() == 0 })
	if len(b.dead) != 2 || len(r.calls()) != 0 {
		t.Errorf("%d dead, %d calls", len(b.dead), len(r.calls()))
	}
}

func TestE1_BatchesOneAtATime(t *testing.T) {
	b := newFakeBus()
	b.send("", "1", "2", "3", "4", "5")
	r := busRig(t, manyText+`,"maxMessageBatchSize":2`, ``, b)
	var running, most int
	var mu sync.Mutex
	r.answer(func(recorded) scripted {
		mu.Lock()
		running++
		most = max(most, running)
		mu.Unlock()
		mu.Lock()
		running--
		mu.Unlock()
		return scripted{Body: `{}`}
	})
	r.startHost()
	for range 3 {
		if i := r.ended(); !i.OK {
			t.Fatal(i.Err)
		}
	}
	var got []string
	for _, q := range r.calls() {
		got = append(got, strings.Join(bodies(t, q), "+"))
	}
	if !slices.Equal(got, []string{"1+2", "3+4", "5"}) || most != 1 {
		t.Errorf("batches %v, %d at once", got, most)
	}
	r.until("all completed", func() bool { return b.left() == 0 })
}

func TestE1_OneSessionPerBatchAndIdleTimeoutBetween(t *testing.T) {
	b := newFakeBus()
	b.send("a", "a1")
	b.send("b", "b1")
	b.send("a", "a2")
	r := busRig(t, manyText+`,"isSessionsEnabled":true`, `"sessionIdleTimeout":"00:00:00.05"`, b).startHost()
	r.ended()
	r.ended()
	if first, second := bodies(t, r.calls()[0]), bodies(t, r.calls()[1]); !slices.Equal(first, []string{"a1", "a2"}) || !slices.Equal(second, []string{"b1"}) {
		t.Errorf("batches %v %v", first, second)
	}
	r.until("both sessions closed", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return b.closed == 2 })
	if !strings.Contains(r.calls()[0].Body, "SessionLockedUntil") {
		t.Error("no SessionLockedUntil")
	}
}

func TestE2_FailureAbandonsAllUntilDead(t *testing.T) {
	b := newFakeBus()
	b.send("s", "1", "2")
	r := busRig(t, manyText+`,"isSessionsEnabled":true`, ``, b)
	r.answer(always(scripted{Status: 500}))
	r.startHost()
	for n := 1; n <= maxDelivery; n++ {
		if i := r.ended(); i.OK || !slices.Equal(i.MessageIDs, []string{"m-1", "m-2"}) {
			t.Fatalf("%+v", i)
		}
		if want := fmt.Sprintf(`"DeliveryCountArray":"[%d,%d]"`, n, n); !strings.Contains(r.calls()[n-1].Body, want) {
			t.Errorf("attempt %d: no %s", n, want)
		}
	}
	r.until("both dead", func() bool { return b.left() == 0 })
	if len(b.dead) != 2 {
		t.Errorf("%d dead", len(b.dead))
	}
}

func TestE2_WithoutAutoCompleteSuccessSettlesNothing(t *testing.T) {
	b := newFakeBus()
	b.send("", "1")
	r := busRig(t, manyText+`,"autoCompleteMessages":false`, ``, b)
	r.answer(func(q recorded) scripted {
		if strings.Contains(q.Body, `"DeliveryCountArray":"[1]"`) { // the first delivery
			return scripted{Status: http.StatusInternalServerError}
		}
		return scripted{Body: `{}`}
	})
	r.startHost()
	if i := r.ended(); i.OK {
		t.Error("first delivery succeeded")
	}
	if i := r.ended(); !i.OK {
		t.Error(i.Err)
	}
	if err := r.host.Close(); err != nil { // waits for what the listener does after the call
		t.Error(err)
	}
	if b.left() != 1 {
		t.Error("success settled the message")
	}
}

func TestE3_LostLockRedeliversTheSession(t *testing.T) {
	b := newFakeBus()
	b.send("s", "1", "2")
	r := busRig(t, manyText+`,"isSessionsEnabled":true`, ``, b)
	lost := false
	r.cfg.LoseLock = func(function string, ids []string) bool {
		was := lost
		lost = true
		return !was && function == "Q" && slices.Equal(ids, []string{"m-1", "m-2"})
	}
	r.startHost()
	for range 2 { // duplicates: the handler succeeded both times
		if i := r.ended(); !i.OK {
			t.Fatal(i.Err)
		}
	}
	r.until("completed", func() bool { return b.left() == 0 })
	if !strings.Contains(r.calls()[1].Body, `"DeliveryCountArray":"[1,1]"`) {
		t.Error(r.calls()[1].Body)
	}
}

func TestE3_NoRenewalForBatches(t *testing.T) {
	b := newFakeBus()
	b.lock = 100 * time.Millisecond
	b.send("s", "1")
	r := busRig(t, manyText+`,"isSessionsEnabled":true`, ``, b)
	r.answer(func(q recorded) scripted {
		if len(r.calls()) == 1 {
			wait(t.Context(), 2*b.lock) // the handler takes longer than the lock
		}
		return scripted{Body: `{}`}
	})
	r.startHost()
	r.ended()
	if i := r.ended(); !i.OK || len(b.renewed) != 0 {
		t.Errorf("%+v after %d renewals", i, len(b.renewed))
	}
	if !strings.Contains(r.log.String(), "session lock is lost") {
		t.Error(r.log)
	}
}

func TestE4_MinMessageBatchSize(t *testing.T) {
	b := newFakeBus()
	b.send("", "1")
	r := busRig(t, manyText, `"minMessageBatchSize":3,"maxBatchWaitTime":"00:00:30"`, b).startHost()
	r.until("first message fetched", func() bool { b.mu.Lock(); defer b.mu.Unlock(); return len(b.batches) == 1 })
	b.send("", "2", "3")
	r.ended()
	if got := bodies(t, r.calls()[0]); !slices.Equal(got, []string{"1", "2", "3"}) {
		t.Errorf("batch %v", got)
	}
}

func TestE4_PartialBatchAfterMaxBatchWaitTime(t *testing.T) {
	b := newFakeBus()
	b.send("", "1")
	r := busRig(t, manyText, `"minMessageBatchSize":3,"maxBatchWaitTime":"00:00:00.05"`, b).startHost()
	r.ended()
	if got := bodies(t, r.calls()[0]); !slices.Equal(got, []string{"1"}) {
		t.Errorf("batch %v", got)
	}
}

func TestE5_SessionsInParallelFailOneMessage(t *testing.T) {
	b := newFakeBus()
	b.send("a", `{"n":"a1"}`, `{"n":"a2"}`)
	b.send("b", `{"n":"b1"}`)
	r := busRig(t, `,"isSessionsEnabled":true`, `"maxConcurrentSessions":2,"sessionIdleTimeout":"00:00:00.05"`, b)
	both := make(chan struct{}, 10)
	r.answer(func(q recorded) scripted {
		both <- struct{}{}
		r.until("both sessions at once", func() bool { return len(both) >= 2 })
		if strings.Contains(q.Body, `"n":"\"a1\""`) && strings.Contains(q.Body, `"DeliveryCount":"1"`) {
			return scripted{Status: 500}
		}
		return scripted{Body: `{}`}
	})
	r.startHost()
	var order []string
	for range 4 {
		i := r.ended()
		if id := i.MessageIDs[0]; id != "m-3" {
			order = append(order, fmt.Sprintf("%s:%t", id, i.OK))
		}
	}
	if !slices.Equal(order, []string{"m-1:false", "m-1:true", "m-2:true"}) {
		t.Errorf("session a: %v", order)
	}
	r.until("all completed", func() bool { return b.left() == 0 })
}

func TestE_PlainSinglesInParallelWithRenewal(t *testing.T) {
	b := newFakeBus()
	b.lock = 200 * time.Millisecond
	b.send("", `1`, `2`, `3`)
	r := busRig(t, ``, `"maxConcurrentCalls":2`, b)
	running, release := make(chan struct{}, 3), make(chan struct{})
	r.answer(func(recorded) scripted { running <- struct{}{}; <-release; return scripted{Body: `{}`} })
	r.startHost()
	<-running
	<-running
	<-b.renewed // the locks of messages in work are kept
	if n := b.fetched(); n != 2 {
		t.Errorf("%d messages taken with two calls at most", n)
	}
	close(release)
	for range 3 {
		if i := r.ended(); !i.OK || len(i.MessageIDs) != 1 {
			t.Errorf("%+v", i)
		}
	}
	r.until("all completed", func() bool { return b.left() == 0 })
}

func (b *fakeBus) fetched() int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return len(b.batches)
}

func TestE_BusAwayAndPanicsAreRetried(t *testing.T) {
	b := newFakeBus()
	b.away, b.panics = 3, 2
	b.send("", "1")
	r := busRig(t, ``, ``, b).startHost()
	if i := r.ended(); !i.OK {
		t.Error(i.Err)
	}
	if n := strings.Count(r.log.String(), "MessageReceiver error"); n != 5 {
		t.Errorf("%d errors logged, want 5:\n%s", n, r.log)
	}
}

func TestE6_StopLetsTheBatchFinishAndSettles(t *testing.T) {
	b := newFakeBus()
	b.send("", "1")
	r := busRig(t, manyText, ``, b)
	inside, release := make(chan struct{}), make(chan struct{})
	r.answer(func(recorded) scripted { close(inside); <-release; return scripted{Body: `{}`} })
	r.startHost()
	<-inside
	closed := make(chan error)
	go func() { closed <- r.host.Close() }()
	<-r.host.listening.Done()
	b.send("", "2")
	close(release)
	if err := <-closed; err != nil {
		t.Error(err)
	}
	if n := b.left(); n != 1 {
		t.Errorf("%d messages left, want the one that came after the stop", n)
	}
}

func TestAReceiverThatDoesNotCloseIsNamed(t *testing.T) {
	b := newFakeBus()
	b.stuck = true
	b.send("", "1")
	r := busRig(t, manyText, ``, b)
	r.cfg.Timing.Settle = 10 * time.Millisecond
	r.startHost()
	r.ended()
	if err := r.host.Close(); err != nil {
		t.Error(err)
	}
	if log := r.log.String(); !strings.Contains(log, "did not close in time") || !strings.Contains(log, "function=Q") {
		t.Error(log)
	}
}
