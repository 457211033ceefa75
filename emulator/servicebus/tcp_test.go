package servicebus_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"math/big"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/azservicebus"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

// conformance is a namespace with the empty queues "plain", "dedup" (duplicate detection, 10 minutes) and "sessions" (with sessions), which nobody
// else uses. POINTSMAN_SERVICEBUS names another than the emulator's by its connection string: a namespace in Azure, or Microsoft's emulator.
func conformance(t *testing.T) (connectionString string) {
	t.Helper()
	if other := os.Getenv("POINTSMAN_SERVICEBUS"); other != "" {
		return other
	}
	s, err := servicebus.Start(servicebus.Config{Queues: []servicebus.QueueConfig{
		{Name: "plain"}, {Name: "dedup", DuplicateWindow: 10 * time.Minute}, {Name: "sessions", RequiresSession: true},
	}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s.ConnectionString("")
}

func TestConformance(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := must[*azservicebus.Client](t)(azservicebus.NewClientFromConnectionString(conformance(t), nil))
	defer func() { _ = c.Close(ctx) }()

	t.Run("order", func(t *testing.T) {
		send(t, c, "plain", message("1"), message("2"), message("3"))
		r := receiver(t, c, "plain", nil)
		got := receive(t, r, 3)
		if b := bodies(got); !slices.Equal(b, []string{"1", "2", "3"}) {
			t.Errorf("received %q", b)
		}
		for _, m := range got {
			if err := r.CompleteMessage(ctx, m, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
	// A run of Reconcile knows its own message by this.
	t.Run("a redelivery has the same sequence number", func(t *testing.T) {
		send(t, c, "plain", message("twice"), message("other"))
		r := receiver(t, c, "plain", nil)
		first := receive(t, r, 2)
		if err := r.AbandonMessage(ctx, first[0], nil); err != nil {
			t.Fatal(err)
		}
		again := receive(t, r, 1)[0]
		if first[0].DeliveryCount != 1 || again.DeliveryCount != 2 || *again.SequenceNumber != *first[0].SequenceNumber || *first[1].SequenceNumber == *again.SequenceNumber {
			t.Errorf("delivery %d of %d, then delivery %d of %d; the other is %d", first[0].DeliveryCount, *first[0].SequenceNumber,
				again.DeliveryCount, *again.SequenceNumber, *first[1].SequenceNumber)
		}
		for _, m := range []*azservicebus.ReceivedMessage{again, first[1]} {
			if err := r.CompleteMessage(ctx, m, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
	// The dead-man switch rests on this.
	t.Run("schedule and cancel", func(t *testing.T) {
		sender := must[*azservicebus.Sender](t)(c.NewSender("plain", nil))
		defer func() { _ = sender.Close(ctx) }()
		due := time.Now().Add(3 * time.Second)
		moved := must[[]int64](t)(sender.ScheduleMessages(ctx, []*azservicebus.Message{message("moved")}, due, nil))
		fires := must[[]int64](t)(sender.ScheduleMessages(ctx, []*azservicebus.Message{message("fires")}, due, nil))
		if err := sender.CancelScheduledMessages(ctx, moved, nil); err != nil {
			t.Fatal(err)
		}
		r := receiver(t, c, "plain", nil)
		m := receive(t, r, 1)[0]
		if early := due.Sub(*m.EnqueuedTime); string(m.Body) != "fires" || early > time.Second {
			t.Errorf("%q came %v too early", m.Body, early)
		}
		if err := r.CompleteMessage(ctx, m, nil); err != nil {
			t.Fatal(err)
		}
		if err := sender.CancelScheduledMessages(ctx, fires, nil); !hasCode(err, azservicebus.CodeNotFound) {
			t.Errorf("cancelled after it fired: %v", err)
		}
	})
	t.Run("duplicates", func(t *testing.T) {
		for _, body := range []string{"first", "again"} {
			send(t, c, "dedup", &azservicebus.Message{MessageID: new("same"), Body: []byte(body)})
		}
		send(t, c, "dedup", &azservicebus.Message{MessageID: new("other"), Body: []byte("other")})
		if b := bodies(receive(t, receiver(t, c, "dedup", nil), 2)); !slices.Equal(b, []string{"first", "other"}) {
			t.Errorf("received %q", b)
		}
	})
	t.Run("sessions", func(t *testing.T) {
		send(t, c, "sessions", &azservicebus.Message{SessionID: new("s"), Body: []byte("in s")})
		r := must[*azservicebus.SessionReceiver](t)(c.AcceptNextSessionForQueue(ctx, "sessions", nil))
		defer func() { _ = r.Close(ctx) }()
		got := must[[]*azservicebus.ReceivedMessage](t)(r.ReceiveMessages(ctx, 1, nil))
		if r.SessionID() != "s" || len(got) != 1 || string(got[0].Body) != "in s" {
			t.Errorf("session %q, received %q", r.SessionID(), bodies(got))
		}
	})
}

type fixedToken string

func (f fixedToken) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(f), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// selfSigned is a certificate for the name and the pool that trusts it.
func selfSigned(t *testing.T, name string) (tls.Certificate, *x509.CertPool) {
	t.Helper()
	key := must[*ecdsa.PrivateKey](t)(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{name}, NotAfter: time.Now().Add(time.Hour)}
	der := must[[]byte](t)(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key))
	pool := x509.NewCertPool()
	pool.AddCert(must[*x509.Certificate](t)(x509.ParseCertificate(der)))
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pool
}

func TestEntraOverTLS(t *testing.T) {
	const host = "ns.servicebus.windows.net"
	cert, pool := selfSigned(t, host)
	var audiences []string // written by the server under its lock, read after Close
	s, err := servicebus.Start(servicebus.Config{
		Queues: []servicebus.QueueConfig{{Name: "q"}},
		TLS:    &tls.Config{Certificates: []tls.Certificate{cert}},
		AcceptToken: func(jwt, audience string) error {
			if jwt != "good" {
				return errors.New("not good")
			}
			audiences = append(audiences, audience)
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, token := range []fixedToken{"good", "bad"} {
		c := must[*azservicebus.Client](t)(azservicebus.NewClient(host, token, &azservicebus.ClientOptions{
			CustomEndpoint: s.Addr(), TLSConfig: &tls.Config{RootCAs: pool, ServerName: host},
		}))
		sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
		err = sender.SendMessage(t.Context(), message("x"), nil)
		if token == "good" && err != nil || token == "bad" && !hasCode(err, azservicebus.CodeUnauthorizedAccess) {
			t.Errorf("token %q: %v", token, err)
		}
		_ = c.Close(t.Context())
	}
	if err = s.Close(); err != nil {
		t.Fatal(err)
	}
	if len(audiences) == 0 || !strings.HasPrefix(audiences[0], "amqps://"+host+"/q") {
		t.Errorf("audiences %q", audiences)
	}
}

// TestOutageOverTCP shows that an outage refuses connections on the same address and keeps the messages.
func TestOutageOverTCP(t *testing.T) {
	s, err := servicebus.Start(oneQueue(servicebus.QueueConfig{}))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	c := must[*azservicebus.Client](t)(azservicebus.NewClientFromConnectionString(s.ConnectionString(""), &azservicebus.ClientOptions{
		RetryOptions: azservicebus.RetryOptions{MaxRetries: 1, RetryDelay: time.Millisecond},
	}))
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	send(t, c, "q", message("kept"))
	s.Faults().Outage(true)

	if nc, dialErr := (&net.Dialer{}).DialContext(t.Context(), "tcp", s.Addr()); dialErr == nil { // else reset at once
		if _, err = nc.Read(make([]byte, 1)); err == nil {
			t.Error("a connection was served during the outage")
		}
		_ = nc.Close()
	}
	sender := must[*azservicebus.Sender](t)(c.NewSender("q", nil))
	if err = sender.SendMessage(t.Context(), message("lost"), nil); err == nil {
		t.Error("a send during the outage succeeded")
	}
	s.Faults().Outage(false)
	if b := bodies(receive(t, receiver(t, c, "q", nil), 1)); !slices.Equal(b, []string{"kept"}) {
		t.Errorf("received %q", b)
	}
}
