package funchost

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

// namespace starts a Service Bus namespace with the queues "plain", "sessions" and "out".
func namespace(t *testing.T) *servicebus.Server {
	t.Helper()
	s, err := servicebus.Start(servicebus.Config{
		Queues: []servicebus.QueueConfig{
			{Name: "plain", MaxDeliveryCount: 3}, {Name: "sessions", MaxDeliveryCount: 3, RequiresSession: true}, {Name: "out"},
		},
		Keys: []servicebus.Key{{Name: "root", Value: "a2V5", Listen: true, Send: true}},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// sendTo sends messages in one batch; the ids are "<first>", "<first+1>", ...
func sendTo(t *testing.T, s *servicebus.Server, queue, session string, bodies ...string) {
	t.Helper()
	client, err := azservicebus.NewClientFromConnectionString(s.ConnectionString("root"), nil)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	defer func() { _ = client.Close(ctx) }()
	sender, err := client.NewSender(queue, nil)
	if err != nil {
		t.Fatal(err)
	}
	batch, err := sender.NewMessageBatch(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, body := range bodies {
		m := &azservicebus.Message{Body: []byte(body), MessageID: new(fmt.Sprintf("%s-%d", session, i+1))}
		if session != "" {
			m.SessionID = &session
		}
		if err = batch.AddMessage(m, nil); err != nil {
			t.Fatal(err)
		}
	}
	if err = sender.SendMessageBatch(ctx, batch, nil); err != nil {
		t.Fatal(err)
	}
}

// socketRig runs one function on a real socket; more are further members of the trigger and further bindings.
func socketRig(t *testing.T, s *servicebus.Server, queue, more string) *rig {
	t.Helper()
	r := newRig(t, map[string]string{
		"host.json": hostJSON(t, `,"extensions":{"serviceBus":{"sessionIdleTimeout":"00:00:00.2"}}`),
		"Q/function.json": `{"bindings":[{"type":"serviceBusTrigger","name":"messages","queueName":"%Queue%","connection":"Bus"` +
			more + `]}`,
		"local.settings.json": `{"Values":{"Queue":"` + queue + `"}}`,
	})
	r.cfg.Settings = map[string]string{"Bus": s.ConnectionString("root")}
	return r
}

func drained(s *servicebus.Server, queue string, completed, dead int) func() bool {
	return func() bool {
		q, ok := s.Queue(queue)
		return ok && q.Active == 0 && q.Locked == 0 && q.Completed == completed && q.DeadLettered == dead
	}
}

func TestE_SocketPlainSingles(t *testing.T) {
	s := namespace(t)
	r := socketRig(t, s, "plain", `}`)
	r.answer(func(q recorded) scripted {
		if strings.Contains(q.Body, "poison") {
			return scripted{Status: 500}
		}
		return scripted{Body: `{}`}
	})
	r.startHost()
	sendTo(t, s, "plain", "", `{"n":1}`, `"poison"`, `{"n":3}`)
	r.until("two completed, one dead", drained(s, "plain", 2, 1))
	dead := s.Peek("plain/$DeadLetterQueue")
	if len(dead) != 1 || dead[0].MessageID != "-2" || dead[0].DeadLetterReason != "MaxDeliveryCountExceeded" {
		t.Errorf("dead letters %+v", dead)
	}
	if n := len(r.calls()); n != 5 {
		t.Errorf("%d calls, want 2 and 3 attempts", n)
	}
	if body := r.calls()[0].Body; !strings.Contains(body, `"FullyQualifiedNamespace":"127.0.0.1"`) || !strings.Contains(body, `"DeliveryCount":"1"`) {
		t.Error(body)
	}
}

func TestE_SocketPlainBatch(t *testing.T) {
	s := namespace(t)
	sendTo(t, s, "plain", "", "1", "2", "3")
	r := socketRig(t, s, "plain", manyText+`}`)
	r.answer(func(q recorded) scripted {
		if strings.Contains(q.Body, `"DeliveryCountArray":"[1,1,1]"`) {
			return scripted{Status: 500}
		}
		return scripted{Body: `{}`}
	})
	r.startHost()
	r.until("all completed", drained(s, "plain", 3, 0))
	for _, q := range r.calls() {
		if got := bodies(t, q); !slices.IsSorted(got) {
			t.Errorf("batch %v", got)
		}
	}
	if first := bodies(t, r.calls()[0]); !slices.Equal(first, []string{"1", "2", "3"}) {
		t.Errorf("first batch %v", first)
	}
}

func TestE1_E2_SocketSessionBatches(t *testing.T) {
	s := namespace(t)
	sendTo(t, s, "sessions", "a", "a1", "a2", "a3")
	sendTo(t, s, "sessions", "b", "b1")
	r := socketRig(t, s, "sessions", manyText+`,"isSessionsEnabled":true}`)
	r.answer(func(q recorded) scripted {
		if strings.Contains(q.Body, `"DeliveryCountArray":"[1,1,1]"`) {
			return scripted{Status: 500}
		}
		return scripted{Body: `{}`}
	})
	r.startHost()
	r.until("all completed", drained(s, "sessions", 4, 0))
	var done []string
	for i, q := range r.calls() {
		if i > 0 {
			done = append(done, bodies(t, q)...)
		}
	}
	if !slices.Equal(done, []string{"a1", "a2", "a3", "b1"}) {
		t.Errorf("after the failed batch: %v", done)
	}
}

func TestE5_SocketSessionSingles(t *testing.T) {
	s := namespace(t)
	sendTo(t, s, "sessions", "a", "1", "2", "3")
	sendTo(t, s, "sessions", "b", "1")
	r := socketRig(t, s, "sessions", `,"isSessionsEnabled":true}`)
	r.startHost()
	r.until("all completed", drained(s, "sessions", 4, 0))
	var order []string
	for range 4 {
		if id := r.ended().MessageIDs[0]; strings.HasPrefix(id, "a") {
			order = append(order, id)
		}
	}
	if !slices.Equal(order, []string{"a-1", "a-2", "a-3"}) {
		t.Errorf("order %v", order)
	}
}

func TestE_SocketBusAway(t *testing.T) {
	s := namespace(t)
	r := socketRig(t, s, "plain", `}`).startHost()
	sendTo(t, s, "plain", "", "1")
	if i := r.ended(); !i.OK {
		t.Fatal(i.Err)
	}
	s.Faults().Outage(true)
	r.until("the outage is noticed", func() bool { return strings.Contains(r.log.String(), "MessageReceiver error") })
	s.Faults().Outage(false)
	sendTo(t, s, "plain", "", "2")
	if i := r.ended(); !i.OK {
		t.Error(i.Err)
	}
}

func TestD5_SocketOutputs(t *testing.T) {
	s := namespace(t)
	r := socketRig(t, s, "plain", `},{"type":"serviceBus","direction":"out","name":"out","queueName":"out","connection":"Bus"},
		{"type":"serviceBus","direction":"out","name":"bad","queueName":"sessions","connection":"Bus"}`)
	r.answer(always(scripted{Body: `{"Outputs":{"out":["plain text",{"a":1}]}}`}))
	r.startHost()
	sendTo(t, s, "plain", "", "1")
	if i := r.ended(); !i.OK {
		t.Fatal(i.Err)
	}
	out := s.Peek("out")
	if len(out) != 2 || string(out[0].Body) != "plain text" || string(out[1].Body) != `{"a":1}` || out[0].SessionID != "" || len(out[0].Properties) != 0 {
		t.Errorf("output %+v", out)
	}
	r.answer(always(scripted{Body: `{"Outputs":{"bad":"to a session queue"}}`}))
	sendTo(t, s, "plain", "", "2")
	if i := r.ended(); i.OK {
		t.Error("an output without a session id reached a session queue")
	}
}
