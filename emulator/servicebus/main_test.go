package servicebus_test

import (
	"context"
	"errors"
	"net"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start is a server and one client, to be used in a bubble of fake time: connections are in memory, so that what takes a
// minute takes no time. Both are closed when the test ends.
func start(t *testing.T, cfg servicebus.Config) (*servicebus.Server, *azservicebus.Client) {
	t.Helper()
	s := servicebus.New(cfg)
	c := dial(t, s)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		_ = c.Close(ctx)
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, c
}

// dial is another client of s.
func dial(t *testing.T, s *servicebus.Server) *azservicebus.Client {
	t.Helper()
	return dialWith(t, s, s.ConnectionString(""))
}

// dialWith is a client of s with any connection string.
func dialWith(t *testing.T, s *servicebus.Server, connectionString string) *azservicebus.Client {
	t.Helper()
	c, err := azservicebus.NewClientFromConnectionString(connectionString, &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 3, RetryDelay: 100 * time.Millisecond, MaxRetryDelay: time.Second},
		NewWebSocketConn: func(context.Context, azservicebus.NewWebSocketConnArgs) (net.Conn, error) {
			return s.Dial(), nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func must[T any](t *testing.T) func(T, error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func receiver(t *testing.T, c *azservicebus.Client, queue string, o *azservicebus.ReceiverOptions) *azservicebus.Receiver {
	t.Helper()
	return must[*azservicebus.Receiver](t)(c.NewReceiverForQueue(queue, o))
}

func send(t *testing.T, c *azservicebus.Client, queue string, messages ...*azservicebus.Message) {
	t.Helper()
	s := must[*azservicebus.Sender](t)(c.NewSender(queue, nil))
	defer func() { _ = s.Close(t.Context()) }()
	for _, m := range messages {
		if err := s.SendMessage(t.Context(), m, nil); err != nil {
			t.Fatal(err)
		}
	}
}

// receive gets exactly n messages.
func receive(t *testing.T, r *azservicebus.Receiver, n int) []*azservicebus.ReceivedMessage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	var out []*azservicebus.ReceivedMessage
	for len(out) < n {
		got, err := r.ReceiveMessages(ctx, min(n-len(out), 5000), nil)
		if err != nil {
			t.Fatalf("received %d of %d: %v", len(out), n, err)
		}
		out = append(out, got...)
	}
	return out
}

func bodies(messages []*azservicebus.ReceivedMessage) []string {
	var out []string
	for _, m := range messages {
		out = append(out, string(m.Body))
	}
	return out
}

func message(body string) *azservicebus.Message { return &azservicebus.Message{Body: []byte(body)} }

func hasCode(err error, code azservicebus.Code) bool {
	var e *azservicebus.Error
	return errors.As(err, &e) && e.Code == code
}
