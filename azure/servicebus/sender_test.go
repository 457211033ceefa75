package servicebus_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/azure/servicebus"
	emulator "github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/message"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const queue = "route-events"

// namespace is an emulator and a sender to one of its queues, in a bubble of fake time: what takes a minute takes no time, and a
// goroutine that is left behind fails the test.
type namespace struct {
	*emulator.Server
	*servicebus.Sender

	mu    sync.Mutex
	dials int
	log   bytes.Buffer
}

func bubble(t *testing.T, q emulator.QueueConfig, f func(t *testing.T, ns *namespace)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		q.Name = queue
		ns := &namespace{Server: emulator.New(emulator.Config{Queues: []emulator.QueueConfig{q}})}
		ns.Sender = ns.sender(t, func(*servicebus.Config) {})
		defer func() {
			if err := ns.Sender.Close(t.Context()); err != nil {
				t.Errorf("close: %v", err)
			}
			if err := ns.Server.Close(); err != nil {
				t.Error(err)
			}
		}()
		f(t, ns)
	})
}

func (ns *namespace) sender(t *testing.T, change func(*servicebus.Config)) *servicebus.Sender {
	t.Helper()
	cfg := servicebus.Config{
		ConnectionString: ns.ConnectionString(""), Queue: queue, Logger: slog.New(slog.NewTextHandler(&ns.log, nil)),
		Dial: func(context.Context, string) (net.Conn, error) {
			ns.mu.Lock()
			defer ns.mu.Unlock()
			ns.dials++
			return ns.Dial(), nil
		},
	}
	change(&cfg)
	s, err := servicebus.NewSender(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func (ns *namespace) dialled() int {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	return ns.dials
}

// ids returns the ids of the queue's messages in their order.
func (ns *namespace) ids() []string {
	var ids []string
	for _, m := range ns.Peek(queue) {
		ids = append(ids, m.MessageID)
	}
	return ids
}

func msgs(n, size int) []message.Message {
	all := make([]message.Message, n)
	for i := range all {
		all[i] = message.Message{ID: fmt.Sprintf("nva/1/%04d", i), ContentType: "application/cloudevents+json", Subject: "delta", Body: bytes.Repeat([]byte("x"), size)}
	}
	return all
}

func TestPublish(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		sent := msgs(50, 20_000) // 1 MB, of which a batch takes 256 kB
		if err := ns.Publish(t.Context(), sent); err != nil {
			t.Fatal(err)
		}
		got := ns.Peek(queue)
		if len(got) != len(sent) {
			t.Fatalf("%d messages of %d", len(got), len(sent))
		}
		for i, m := range got {
			if m.MessageID != sent[i].ID || !bytes.Equal(m.Body, sent[i].Body) || m.ContentType != sent[i].ContentType || m.Subject != sent[i].Subject {
				t.Errorf("message %d is %s with %d bytes, %s, %s", i, m.MessageID, len(m.Body), m.ContentType, m.Subject)
			}
		}
		if err := ns.Publish(t.Context(), nil); err != nil {
			t.Errorf("nothing: %v", err)
		}
	})
}

func TestPublishTooLarge(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		err := ns.Publish(t.Context(), msgs(1, 300_000))
		if !fault.Is(err, fault.Poison) {
			t.Errorf("%v", err)
		}
		if err = ns.Send(t.Context(), msgs(1, 300_000)[0], time.Time{}); !fault.Is(err, fault.Poison) {
			t.Errorf("send: %v", err)
		}
		if err = ns.Send(t.Context(), message.Message{ID: strings.Repeat("x", 129)}, time.Time{}); !fault.Is(err, fault.Poison) {
			t.Errorf("id: %v", err)
		}
	})
}

func TestSendLater(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		at := time.Now().Add(time.Minute)
		if err := ns.Send(t.Context(), message.Message{ID: "wake"}, at); err != nil {
			t.Fatal(err)
		}
		if stats, _ := ns.Queue(queue); stats.Scheduled != 1 || stats.Active != 0 {
			t.Errorf("before: %+v", stats)
		}
		time.Sleep(time.Until(at) + time.Second)
		if stats, _ := ns.Queue(queue); stats.Scheduled != 0 || stats.Active != 1 {
			t.Errorf("after: %+v", stats)
		}
	})
}

func TestScheduleAndCancel(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		first := schedule(t, ns, "expired/1")
		second := schedule(t, ns, "expired/2")
		if first == second {
			t.Fatalf("both are %d", first)
		}
		if err := ns.Cancel(t.Context(), first); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff([]string{"expired/2"}, ns.ids()); diff != "" {
			t.Error(diff)
		}
		if err := ns.Cancel(t.Context(), first); !fault.Is(err, fault.NotFound) {
			t.Errorf("twice: %v", err)
		}
		if n := ns.dialled(); n != 1 {
			t.Errorf("%d connections: an answer is no reason for another", n)
		}
	})
}

func schedule(t *testing.T, ns *namespace, id string) int64 {
	t.Helper()
	sequence, err := ns.Schedule(t.Context(), message.Message{ID: id}, time.Now().Add(time.Minute))
	if err != nil {
		t.Fatal(err)
	}
	return sequence
}

// An idle connection that the service closed is not the caller's concern.
func TestIdleConnectionIsReplaced(t *testing.T) {
	for name, breakIt := range map[string]func(*emulator.Faults){
		"closed":   (*emulator.Faults).CloseConnections,
		"reset":    (*emulator.Faults).DropConnections,
		"detached": func(f *emulator.Faults) { f.DetachLinks(queue) },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
				t.Helper()
				for i, m := range msgs(5, 10) {
					if err := ns.Send(t.Context(), m, time.Time{}); err != nil {
						t.Fatalf("%d: %v", i, err)
					}
					breakIt(ns.Faults())
					synctest.Wait()
				}
				if n := len(ns.ids()); n != 5 {
					t.Errorf("%d messages", n)
				}
			})
		})
	}
}

func TestOutage(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		if err := ns.Publish(t.Context(), msgs(1, 10)); err != nil {
			t.Fatal(err)
		}
		ns.Faults().Outage(true)
		for range 20 {
			start := time.Now()
			if err := ns.Publish(t.Context(), msgs(1, 10)); !fault.Is(err, fault.Transient) {
				t.Fatalf("%v", err)
			}
			if took := time.Since(start); took > 25*time.Second {
				t.Errorf("the caller was held for %s", took)
			}
		}
		ns.Faults().Outage(false)
		if err := ns.Publish(t.Context(), msgs(1, 10)); err != nil {
			t.Errorf("after the outage: %v", err)
		}
		if _, err := ns.Schedule(t.Context(), message.Message{ID: "s"}, time.Now().Add(time.Hour)); err != nil {
			t.Errorf("schedule: %v", err)
		}
	})
}

// A lost answer is an error for Schedule, whose repetition would leave a message that nobody can cancel, and is repeated by Publish,
// where the broker recognises the duplicate.
func TestLostAnswer(t *testing.T) {
	bubble(t, emulator.QueueConfig{DuplicateWindow: time.Hour}, func(t *testing.T, ns *namespace) {
		t.Helper()
		if err := ns.Publish(t.Context(), msgs(1, 10)); err != nil {
			t.Fatal(err)
		}
		ns.Faults().WithholdSends(1)
		if err := ns.Publish(t.Context(), msgs(3, 10)); err != nil {
			t.Errorf("publish: %v", err)
		}
		if diff := cmp.Diff([]string{"nva/1/0000", "nva/1/0001", "nva/1/0002"}, ns.ids()); diff != "" {
			t.Error(diff)
		}
		ns.Faults().DropConnections()
		synctest.Wait()
		if _, err := ns.Schedule(t.Context(), message.Message{ID: "s"}, time.Now().Add(time.Hour)); !fault.Is(err, fault.Transient) {
			t.Errorf("schedule: %v", err)
		}
		schedule(t, ns, "s")
	})
}

func TestTimeout(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		if err := ns.Publish(t.Context(), msgs(1, 10)); err != nil {
			t.Fatal(err)
		}
		ns.Faults().DelaySends(time.Hour)
		start := time.Now()
		err := ns.Publish(t.Context(), msgs(1, 10))
		if took := time.Since(start); !fault.Is(err, fault.Transient) || took > 12*time.Second {
			t.Errorf("%v after %s", err, took)
		}
		ns.Faults().DelaySends(0)
		if err = ns.Publish(t.Context(), msgs(1, 10)); err != nil {
			t.Errorf("then: %v", err)
		}
		if n := ns.dialled(); n != 2 {
			t.Errorf("%d connections: one that does not answer is given up", n)
		}
	})
}

// A caller who gives up or whose time is up must not cut the connection that another is sending on. Only the latter says something
// about the connection: the next call makes a new one.
func TestNobodyIsCut(t *testing.T) {
	for name, tt := range map[string]struct {
		leave func(context.Context) (context.Context, context.CancelFunc)
		dials int
	}{
		"gives up": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		}, 1},
		"time is up": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
				t.Helper()
				if err := ns.Publish(t.Context(), msgs(1, 10)); err != nil {
					t.Fatal(err)
				}
				ns.Faults().DelaySends(5 * time.Second)
				var wg sync.WaitGroup
				wg.Go(func() {
					ctx, cancel := tt.leave(t.Context())
					defer cancel()
					if err := ns.Publish(ctx, msgs(1, 10)); !fault.Is(err, fault.Transient) {
						t.Errorf("the one who leaves: %v", err)
					}
				})
				stale, err := 0, error(nil)
				wg.Go(func() {
					err = ns.Publish(t.Context(), msgs(1, 10))
					stale = ns.dialled()
				})
				wg.Wait()
				if err != nil || stale != 1 {
					t.Errorf("the other: %v on connection %d", err, stale)
				}
				if err = ns.Publish(t.Context(), msgs(1, 10)); err != nil {
					t.Error(err)
				}
				if n := ns.dialled(); n != tt.dials {
					t.Errorf("%d connections, want %d", n, tt.dials)
				}
			})
		})
	}
}

func TestManyCallersThroughDrops(t *testing.T) {
	bubble(t, emulator.QueueConfig{DuplicateWindow: time.Hour}, func(t *testing.T, ns *namespace) {
		t.Helper()
		var wg sync.WaitGroup
		for i := range 20 {
			wg.Go(func() {
				for j := range 15 {
					m := message.Message{ID: fmt.Sprintf("%d/%d", i, j)}
					for ns.Send(t.Context(), m, time.Time{}) != nil {
						time.Sleep(100 * time.Millisecond)
					}
					time.Sleep(50 * time.Millisecond)
				}
			})
		}
		f := ns.Faults()
		for _, disturb := range []func(){f.DropConnections, func() { f.DetachLinks(queue) }, f.CloseConnections} {
			for range 3 {
				time.Sleep(70 * time.Millisecond)
				disturb()
			}
		}
		wg.Wait()
		if n := len(ns.ids()); n != 300 {
			t.Errorf("%d messages of 300", n)
		}
	})
}

// The SDK itself would leave goroutines behind here, which the bubble notices.
func TestManyFirstCallers(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		var wg sync.WaitGroup
		for _, m := range msgs(50, 10) {
			wg.Go(func() {
				if err := ns.Send(t.Context(), m, time.Time{}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := ns.dialled(); n != 1 {
			t.Errorf("%d connections", n)
		}
	})
}

func TestRefusals(t *testing.T) {
	bubble(t, emulator.QueueConfig{MaxSizeMessages: 1}, func(t *testing.T, ns *namespace) {
		t.Helper()
		one := msgs(1, 10)
		if err := ns.Publish(t.Context(), one); err != nil {
			t.Fatal(err)
		}
		expect(t, "full", ns.Publish(t.Context(), one), fault.Throttled, "full")
		ns.Faults().ServerBusy(1)
		expect(t, "busy", ns.Publish(t.Context(), one), fault.Throttled, "")
		ns.Faults().ServerBusy(1)
		expect(t, "busy management", ns.Cancel(t.Context(), 1), fault.Throttled, "")
		ns.Faults().FailCancel(1, 500)
		expect(t, "failed cancel", ns.Cancel(t.Context(), 1), fault.Transient, "")
		if n := ns.dialled(); n != 1 {
			t.Errorf("%d connections: an answer is no reason for another", n)
		}

		secret := "bm90IHRoZSBrZXk="
		wrong := ns.sender(t, func(cfg *servicebus.Config) {
			cfg.ConnectionString = strings.ReplaceAll(cfg.ConnectionString, "SAS_KEY_VALUE", secret)
		})
		expect(t, "wrong key", wrong.Publish(t.Context(), one), fault.Denied, "Azure Service Bus Data Sender")
		missing := ns.sender(t, func(cfg *servicebus.Config) { cfg.Queue = "nowhere" })
		expect(t, "no queue", missing.Publish(t.Context(), one), fault.Denied, "create the queue")
		expect(t, "no queue to cancel in", missing.Cancel(t.Context(), 1), fault.Denied, "create the queue")
		for _, s := range []*servicebus.Sender{wrong, missing} {
			if err := s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		if strings.Contains(ns.log.String(), secret) {
			t.Error("the key was logged")
		}
	})
}

func expect(t *testing.T, what string, err error, kind fault.Kind, advice string) {
	t.Helper()
	if !fault.Is(err, kind) || !strings.Contains(err.Error(), advice) {
		t.Errorf("%s: %v, want %s and %q", what, err, kind, advice)
	}
}

func TestClosed(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		if err := ns.Publish(t.Context(), msgs(1, 10)); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := ns.Sender.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
		expect(t, "closed", ns.Publish(t.Context(), msgs(1, 10)), fault.Bug, "closed before")
	})
}

func TestNewSenderChecks(t *testing.T) {
	const secret = "c2VjcmV0"
	for name, cfg := range map[string]servicebus.Config{
		"no queue":                {ConnectionString: "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=" + secret},
		"nothing":                 {Queue: queue},
		"no credential":           {Queue: queue, Namespace: "h"},
		"both":                    {Queue: queue, Namespace: "h", ConnectionString: "Endpoint=sb://h/;SharedAccessKeyName=n;SharedAccessKey=" + secret},
		"not a connection string": {Queue: queue, ConnectionString: "SharedAccessKey=" + secret + ";" + secret},
	} {
		if _, err := servicebus.NewSender(cfg); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// The same over a real socket, with the connection string as the local stack gives it out.
func TestTCP(t *testing.T) {
	server, err := emulator.Start(emulator.Config{Queues: []emulator.QueueConfig{{Name: queue}}})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if closeErr := server.Close(); closeErr != nil {
			t.Error(closeErr)
		}
	}()
	s, err := servicebus.NewSender(servicebus.Config{ConnectionString: server.ConnectionString(""), Queue: queue})
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Publish(t.Context(), msgs(3, 10)); err != nil {
		t.Error(err)
	}
	server.Faults().DropConnections()
	if err = s.Publish(t.Context(), msgs(3, 10)); err != nil {
		t.Error(err)
	}
	if err = s.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

// entra is a credential whose token the emulator accepts.
type entra struct{ err error }

func (c entra) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "jwt", ExpiresOn: time.Now().Add(time.Hour)}, c.err
}

// With an identity instead of a key. What the credential says about itself reaches the caller.
func TestCredential(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		server := emulator.New(emulator.Config{
			Queues: []emulator.QueueConfig{{Name: queue}},
			AcceptToken: func(jwt, _ string) error {
				if jwt != "jwt" {
					return errors.New("another token")
				}
				return nil
			},
		})
		defer func() {
			if err := server.Close(); err != nil {
				t.Error(err)
			}
		}()
		denied := &fault.Error{Kind: fault.Denied, Code: "AuthenticationFailed", Advice: "assign an identity", Err: errors.New("none")}
		for _, tt := range []struct {
			credential entra
			check      func(error) bool
		}{
			{entra{}, func(err error) bool { return err == nil }},
			{entra{denied}, func(err error) bool { return fault.Is(err, fault.Denied) && fault.Code(err) == denied.Code }},
		} {
			s, err := servicebus.NewSender(servicebus.Config{
				Namespace: "ns.servicebus.windows.net", Credential: tt.credential, Queue: queue,
				Dial: func(context.Context, string) (net.Conn, error) { return server.Dial(), nil },
			})
			if err != nil {
				t.Fatal(err)
			}
			if err = s.Publish(t.Context(), msgs(1, 10)); !tt.check(err) {
				t.Errorf("%v", err)
			}
			if err = s.Close(t.Context()); err != nil {
				t.Error(err)
			}
		}
	})
}

// A message's trace is where Azure's tools look for it, and where others do; a message without one has no properties.
func TestTraceparent(t *testing.T) {
	bubble(t, emulator.QueueConfig{}, func(t *testing.T, ns *namespace) {
		t.Helper()
		const trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		if err := ns.Publish(t.Context(), []message.Message{{ID: "traced", Traceparent: trace}, {ID: "plain"}}); err != nil {
			t.Fatal(err)
		}
		got := ns.Peek(queue)
		if diff := cmp.Diff(map[string]any{"Diagnostic-Id": trace, "traceparent": trace}, got[0].Properties); diff != "" {
			t.Error(diff)
		}
		if len(got[1].Properties) > 0 {
			t.Errorf("a message without a trace has %v", got[1].Properties)
		}
	})
}
