package arm_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/arm"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
	"github.com/Azure/azure-sdk-for-go/sdk/resourcemanager/network/armnetwork/v11"

	emulator "github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/emulator/localca"
)

const (
	subscription = "11111111-2222-3333-4444-555555555555"
	groupID      = "/subscriptions/" + subscription + "/resourceGroups/rg"
	tableID      = groupID + "/providers/Microsoft.Network/routeTables/hub"
	version      = "?api-version=2025-09-01"
)

// clock moves only by hand.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// frozen is an AfterFunc whose timers never fire: what is due happens before the next request.
func frozen(time.Duration, func()) func() bool { return func() bool { return true } }

// kit is a running emulator with its clients.
type kit struct {
	*emulator.Server
	http  *http.Client
	clock *clock
}

// start runs an emulator over TLS on a hand-driven clock, with an empty resource group rg.
func start(t *testing.T, cfg emulator.Config) *kit {
	t.Helper()
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS, err = ca.ServerTLS(); err != nil {
		t.Fatal(err)
	}
	k := &kit{clock: newClock()}
	cfg.Now = k.clock.Now
	if cfg.AfterFunc == nil {
		cfg.AfterFunc = frozen
	}
	if k.Server, err = emulator.Start(cfg); err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}
	k.http = &http.Client{Transport: transport}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if failure := k.Close(); failure != nil {
			t.Error(failure)
		}
	})
	k.do(t, http.MethodPut, groupID+version, `{"location":"eastus"}`)
	k.ResetCalls()
	return k
}

// answer is a response that has been read.
type answer struct {
	status int
	header http.Header
	body   string
}

func (a answer) state(t *testing.T) string {
	t.Helper()
	var body struct {
		Properties struct{ ProvisioningState string }
	}
	decode(t, a.body, &body)
	return body.Properties.ProvisioningState
}

func (a answer) etag(t *testing.T) string {
	t.Helper()
	var body struct{ Etag string }
	decode(t, a.body, &body)
	return body.Etag
}

// code returns the error code and the first detail's.
func (a answer) code(t *testing.T) (code, detail string) {
	t.Helper()
	var body struct {
		Error struct {
			Code    string
			Details []struct{ Code string }
		}
	}
	decode(t, a.body, &body)
	if len(body.Error.Details) > 0 {
		detail = body.Error.Details[0].Code
	}
	return body.Error.Code, detail
}

func decode(t *testing.T, text string, into any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), into); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
}

// do sends a request with a bearer token; headers are name, value pairs. pathOrURL may be the absolute URL of an operation.
func (k *kit) do(t *testing.T, method, pathOrURL, body string, headers ...string) answer {
	t.Helper()
	got, err := k.try(t.Context(), method, pathOrURL, body, headers...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func (k *kit) try(ctx context.Context, method, pathOrURL, body string, headers ...string) (answer, error) {
	if pathOrURL[0] == '/' {
		pathOrURL = k.URL() + pathOrURL
	}
	request, err := http.NewRequestWithContext(ctx, method, pathOrURL, bytes.NewReader([]byte(body)))
	if err != nil {
		return answer{}, err
	}
	request.Header.Set("Authorization", "Bearer somebody")
	for i := 0; i < len(headers); i += 2 {
		request.Header.Set(headers[i], headers[i+1])
	}
	response, err := k.http.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, response.Header, string(text)}, err
}

// token is a credential with a constant token.
type token string

func (t token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// options point the real client at the emulator. Retries are off: the tests look at single answers.
func (k *kit) options() *arm.ClientOptions {
	return &arm.ClientOptions{
		ClientOptions: policy.ClientOptions{
			Cloud: cloud.Configuration{Services: map[cloud.ServiceName]cloud.ServiceConfiguration{
				cloud.ResourceManager: {Endpoint: k.URL(), Audience: "https://management.azure.com"},
			}},
			Transport: k.http,
			Retry:     policy.RetryOptions{MaxRetries: -1},
		},
		DisableRPRegistration: true,
	}
}

func (k *kit) tables(t *testing.T) *armnetwork.RouteTablesClient {
	t.Helper()
	client, err := armnetwork.NewRouteTablesClient(subscription, token("sdk"), k.options())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

func (k *kit) routes(t *testing.T) *armnetwork.RoutesClient {
	t.Helper()
	client, err := armnetwork.NewRoutesClient(subscription, token("sdk"), k.options())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// finish polls until the operation is done.
func finish[T any](t *testing.T, poller *runtime.Poller[T], err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	for !poller.Done() {
		if _, err = poller.Poll(t.Context()); err != nil { //nolint:bodyclose // the poller has read and closed it
			t.Fatal(err)
		}
	}
	result, err := poller.Result(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return result
}

// ifMatch returns a context that makes a write conditional.
func ifMatch(ctx context.Context, etag string) context.Context {
	return policy.WithHTTPHeader(ctx, http.Header{"If-Match": {etag}})
}
