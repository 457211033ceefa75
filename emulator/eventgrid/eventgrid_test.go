package eventgrid_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/messaging"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/messaging/eventgrid/azeventgrid"
	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/emulator/eventgrid"
	"github.com/pointsman/pointsman/emulator/localca"
)

// A server that refused a long request waits half a second before it closes the connection, so that the refusal is read.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

const key = "c2VjcmV0"

func start(t *testing.T, cfg eventgrid.Config) *eventgrid.Server {
	t.Helper()
	cfg.Key = key
	s, err := eventgrid.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if failed := s.Close(); failed != nil {
			t.Error(failed)
		}
	})
	return s
}

// client keeps no connections.
func client() *http.Client { return &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} }

// post publishes as nobody's SDK would.
func post(t *testing.T, url, contentType, body string, header http.Header) (int, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header = header.Clone()
	req.Header.Set("Content-Type", contentType)
	resp, err := client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// What the service refuses, and with which status.
func TestValidation(t *testing.T) {
	const batch = "application/cloudevents-batch+json; charset=utf-8"
	const good = `{"id":"1","source":"/s","type":"T","specversion":"1.0"}`
	s := start(t, eventgrid.Config{Verify: func(token string) (string, error) {
		if token != "good" {
			return "", errors.New("unknown")
		}
		return "someone", nil
	}})
	withKey, version := http.Header{"Aeg-Sas-Key": {key}}, "?api-version=2018-01-01"
	for _, tt := range []struct {
		name, url, contentType, body string
		header                       http.Header
		status                       int
		says                         string
	}{
		{"a batch", version, batch, "[" + good + "," + good + "]", withKey, 200, ""},
		{"one event", version, "application/cloudevents+json", good, withKey, 200, ""},
		{"no event", version, batch, "[]", withKey, 200, ""},
		{"a token", version, batch, "[" + good + "]", http.Header{"Authorization": {"Bearer good"}}, 200, ""},
		{"a wrong key", version, batch, "[]", http.Header{"Aeg-Sas-Key": {"x"}}, 401, "key is not authorized"},
		{"a wrong token", version, batch, "[]", http.Header{"Authorization": {"Bearer bad"}}, 401, "token"},
		{"nobody", version, batch, "[]", http.Header{}, 401, "authorization headers"},
		{"no api-version", "", batch, "[]", withKey, 400, "2018-01-01"},
		{"another path", "/x" + version, batch, "[]", withKey, 404, "no such resource"},
		{"plain JSON", version, "application/json", "[]", withKey, 415, "cloudevents"},
		{"another charset", version, "application/cloudevents+json; charset=latin1", good, withKey, 415, "UTF-8"},
		{"an event as a batch", version, batch, good, withKey, 400, "no JSON array"},
		{"no id", version, batch, strings.Replace("["+good+"]", `"id":"1",`, "", 1), withKey, 400, "id must be"},
		{"an empty source", version, batch, strings.Replace("["+good+"]", `"/s"`, `""`, 1), withKey, 400, "source must be"},
		{"an old version", version, batch, strings.Replace("["+good+"]", `"1.0"`, `"0.3"`, 1), withKey, 400, "0.3"},
		{"a name of no attribute", version, batch, strings.Replace("["+good+"]", `"type"`, `"Trace-Parent":"x","type"`, 1), withKey, 400, "Trace-Parent"},
		{"two kinds of data", version, batch, strings.Replace("["+good+"]", `"type"`, `"data":1,"data_base64":"AA==","type"`, 1), withKey, 400, "both data"},
		{"a time that is none", version, batch, strings.Replace("["+good+"]", `"type"`, `"time":"yesterday","type"`, 1), withKey, 400, "yesterday"},
		{"an empty subject", version, batch, strings.Replace("["+good+"]", `"type"`, `"subject":"","type"`, 1), withKey, 400, "subject"},
		{"the second of a batch", version, batch, "[" + good + ",7]", withKey, 400, "Event 1"},
		{"more than 1 MB", version, batch, "[" + strings.Replace(good, `"type"`, `"data":"`+strings.Repeat("x", 1<<20)+`","type"`, 1) + "]", withKey, 413, "exceeds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(s.Events())
			status, text := post(t, s.URL()+tt.url, tt.contentType, tt.body, tt.header)
			if status != tt.status || !strings.Contains(text, tt.says) {
				t.Errorf("%d %s, want %d with %q", status, text, tt.status, tt.says)
			}
			if status != 200 {
				var e struct {
					Error struct{ Code, Message string }
				}
				if err := json.Unmarshal([]byte(text), &e); err != nil || e.Error.Code == "" {
					t.Errorf("the error has no code: %s", text)
				}
				if len(s.Events()) != before {
					t.Error("a refused batch was taken in part")
				}
			}
		})
	}
	if got := s.Events(); len(got) != 4 || got[0].Principal != "key" || got[3].Principal != "someone" {
		t.Errorf("%+v", got)
	}
}

type token struct{}

// GetToken implements azcore.TokenCredential.
func (token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: "good", ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// The SDK's client, by key and by token, over TLS, with faults on the way.
func TestSDK(t *testing.T) {
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	tls, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	s := start(t, eventgrid.Config{TLS: tls})
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: tls.Clone()}
	transport.TLSClientConfig.RootCAs = ca.Pool()
	options := &azeventgrid.ClientOptions{ClientOptions: azcore.ClientOptions{Transport: &http.Client{Transport: transport}, Retry: policy.RetryOptions{MaxRetries: -1}}}
	byKey, err := azeventgrid.NewClientWithSharedKeyCredential(s.URL(), azcore.NewKeyCredential(key), options)
	if err != nil {
		t.Fatal(err)
	}
	byToken, err := azeventgrid.NewClient(s.URL(), token{}, options)
	if err != nil {
		t.Fatal(err)
	}
	publish := func(c *azeventgrid.Client, id string) error {
		_, failed := c.PublishCloudEvents(t.Context(), []messaging.CloudEvent{{ID: id, Source: "/s", Type: "T", SpecVersion: "1.0", Data: map[string]int{"n": 1}}}, nil)
		return failed
	}
	status := func(want int) func(error) bool {
		return func(failed error) bool {
			var e *azcore.ResponseError
			return errors.As(failed, &e) && e.StatusCode == want
		}
	}
	lost := func(failed error) bool { return failed != nil && !status(503)(failed) }
	s.Faults().Script(eventgrid.Fault{Skip: 2, Status: 503}, eventgrid.Fault{Skip: 2, Status: 503, Applied: true}, eventgrid.Fault{Skip: 2, DropConnection: true})
	for i, tt := range []struct {
		client *azeventgrid.Client
		ok     func(error) bool
	}{
		{byKey, func(failed error) bool { return failed == nil }},
		{byToken, func(failed error) bool { return failed == nil }},
		{byKey, status(503)},
		{byKey, status(503)},
		{byKey, lost},
		{byKey, func(failed error) bool { return failed == nil }},
	} {
		if failed := publish(tt.client, fmt.Sprint(i)); !tt.ok(failed) {
			t.Errorf("publish %d: %v", i, failed)
		}
	}
	s.Faults().Outage(true)
	if failed := publish(byKey, "out"); failed == nil {
		t.Error("published into an outage")
	}
	s.Faults().Clear()
	var ids []string
	for _, e := range s.Events() {
		var c struct{ ID string }
		if err = json.Unmarshal(e.Body, &c); err != nil {
			t.Fatal(err)
		}
		ids = append(ids, c.ID)
	}
	if got := strings.Join(ids, " "); got != "0 1 3 5" || s.Requests() != 7 {
		t.Errorf("taken: %s, in %d requests; want 0 1 3 5, in 7", got, s.Requests())
	}
}

// hook is a webhook that hands on what it gets and answers with the next status of the test.
type hook struct {
	got    chan string
	status chan int
}

func (h *hook) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	h.got <- r.Header.Get("Aeg-Event-Type") + " " + r.Header.Get("Content-Type") + " " + string(body)
	w.WriteHeader(<-h.status)
}

// System events come to every subscription in the form of their schema, again until they are taken, also at an address that has moved. Nothing
// goes on before the test says so: a delivery waits for its answer, a retry for the end of its pause.
func TestDelivery(t *testing.T) {
	again, pause := make(chan int), make(chan time.Duration)
	s := start(t, eventgrid.Config{Retry: func(n int) time.Duration { again <- n; return <-pause }, Client: client()})
	h := &hook{got: make(chan string), status: make(chan int)}
	first, second := httptest.NewServer(h), httptest.NewServer(h)
	defer second.Close()
	comes := func(want string, answer int) {
		t.Helper()
		if got := <-h.got; got != want {
			t.Errorf("delivered: %s, want %s", got, want)
		}
		h.status <- answer
	}
	const system, third = "Notification application/json; charset=utf-8 ", `[{"id":"c"}]`
	s.Emit(json.RawMessage(`{"id":"nobody listens"}`))
	s.Subscribe("drift", first.URL)
	s.Emit(json.RawMessage(`{"id":"a"}`))
	comes(system+`[{"id":"a"}]`, http.StatusAccepted)
	s.Emit(json.RawMessage(`{"id":"b","specversion":"1.0"}`))
	comes(`Notification application/cloudevents+json; charset=utf-8 {"id":"b","specversion":"1.0"}`, http.StatusNoContent)
	s.Emit(json.RawMessage(`{"id":"c"}`))
	comes(system+third, http.StatusInternalServerError)
	if n := <-again; n != 1 {
		t.Errorf("retry %d came first", n)
	}
	first.Close()
	pause <- 0
	if n := <-again; n != 2 {
		t.Errorf("retry %d came after the address was gone", n)
	}
	s.Subscribe("drift", second.URL)
	pause <- 0
	comes(system+third, http.StatusOK)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for tries := 0; s.Delivered() < 3; tries++ {
		if <-tick.C; tries > 10_000 {
			t.Fatal("not delivered")
		}
	}
}

// What is not delivered ends with its subscription, and with the server.
func TestDeliveryEnds(t *testing.T) {
	tried := make(chan struct{}, 100)
	s := start(t, eventgrid.Config{Client: client(), Retry: func(n int) time.Duration {
		tried <- struct{}{}
		if n > 1 {
			return time.Hour
		}
		return 0
	}})
	dead := httptest.NewServer(http.NotFoundHandler())
	defer dead.Close()
	s.Subscribe("drift", dead.URL)
	s.Emit(json.RawMessage(`{"id":"a"}`))
	<-tried
	<-tried
	s.Unsubscribe("drift")
	s.Emit(json.RawMessage(`{"id":"b"}`))
	if s.Delivered() != 0 {
		t.Error("delivered to nobody")
	}
}
