package blob_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"

	emulator "github.com/pointsman/pointsman/emulator/blob"
	"github.com/pointsman/pointsman/emulator/localca"
)

const account = "local"

func key() string { return base64.StdEncoding.EncodeToString([]byte("a key that is no secret")) }

// kit is a running emulator and an HTTP client that trusts it.
type kit struct {
	*emulator.Server
	http *http.Client
}

func start(t *testing.T, cfg emulator.Config) *kit {
	t.Helper()
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	if cfg.TLS, err = ca.ServerTLS(); err != nil {
		t.Fatal(err)
	}
	cfg.Account, cfg.Key = account, key()
	server, err := emulator.Start(cfg)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.Pool()}}
	t.Cleanup(func() {
		transport.CloseIdleConnections()
		if failure := server.Close(); failure != nil {
			t.Error(failure)
		}
	})
	return &kit{server, &http.Client{Transport: transport}}
}

func (k *kit) options() *azblob.ClientOptions {
	return &azblob.ClientOptions{ClientOptions: policy.ClientOptions{
		Transport: k.http,
		Retry:     policy.RetryOptions{MaxRetries: -1},
	}}
}

// sharedKey returns a client of the account at url.
func sharedKey(t *testing.T, url, name, secret string, options *azblob.ClientOptions) *azblob.Client {
	t.Helper()
	credential, err := azblob.NewSharedKeyCredential(name, secret)
	if err != nil {
		t.Fatal(err)
	}
	client, err := azblob.NewClientWithSharedKeyCredential(url, credential, options)
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// token is a credential with a constant token.
type token string

func (t token) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{Token: string(t), ExpiresOn: time.Now().Add(time.Hour)}, nil
}

func (k *kit) bearer(t *testing.T, credential token) *azblob.Client {
	t.Helper()
	client, err := azblob.NewClient(k.URL(), credential, k.options())
	if err != nil {
		t.Fatal(err)
	}
	return client
}

// newContainer makes a container called test.
func newContainer(t *testing.T, k *kit) *container.Client {
	t.Helper()
	client := sharedKey(t, k.URL(), account, key(), k.options())
	if _, err := client.CreateContainer(t.Context(), "test", nil); err != nil {
		t.Fatal(err)
	}
	return client.ServiceClient().NewContainerClient("test")
}

func TestMemory(t *testing.T) {
	k := start(t, emulator.Config{})
	suite(t, sharedKey(t, k.URL(), account, key(), k.options()))
}

func TestDirectoryWithBearer(t *testing.T) {
	k := start(t, emulator.Config{Directory: t.TempDir()})
	suite(t, k.bearer(t, "somebody"))
}

// TestOtherService runs the suite on a service that POINTSMAN_BLOB_URL, _ACCOUNT and _KEY name: Azurite, or a storage account. Without
// them there is nothing to compare with, and the emulator's own tests are the others.
func TestOtherService(t *testing.T) {
	url := os.Getenv("POINTSMAN_BLOB_URL")
	if url == "" {
		return
	}
	suite(t, sharedKey(t, url, os.Getenv("POINTSMAN_BLOB_ACCOUNT"), os.Getenv("POINTSMAN_BLOB_KEY"), nil))
}

func TestDirectorySurvivesARestart(t *testing.T) {
	directory := t.TempDir()
	clock := func() time.Time { return time.Unix(1_800_000_000, 0) } // stands still: ETags must not repeat all the same
	first := start(t, emulator.Config{Directory: directory, Now: clock})
	etag := put(t, newContainer(t, first), "a/doc", "line one\nline two")
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "test", "write-123"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}

	second := start(t, emulator.Config{Directory: directory, Now: clock})
	c := sharedKey(t, second.URL(), account, key(), second.options()).ServiceClient().NewContainerClient("test")
	if text, tag := get(t, c, "a/doc"); text != "line one\nline two" || tag != etag {
		t.Errorf("%q %s, want ETag %s", text, tag, etag)
	}
	if tag := put(t, c, "a/doc", "new"); tag <= etag {
		t.Errorf("ETag %s after %s", tag, etag)
	}
}

// verify knows one token, good, which stands for oid.
func verify(token string) (string, error) {
	if token != "good" {
		return "", errors.New("Lifetime validation failed. The token is expired.")
	}
	return "oid", nil
}

// TestRefusals is the table of what is said to a request that does not prove who it is.
func TestRefusals(t *testing.T) {
	const (
		now, before, oldest = "2023-11-03", "2019-07-07", "2015-02-21" // versions with a challenge, with bearer tokens only, and with neither
		expired             = "Lifetime validation failed. The token is expired."
	)
	k := start(t, emulator.Config{Verify: verify})
	for _, test := range []struct {
		authorization, version string
		status                 int
		code, detail           string
	}{
		{"", now, http.StatusUnauthorized, "NoAuthenticationInformation", ""},
		{"", before, http.StatusConflict, "PublicAccessNotPermitted", ""},
		{"Bearer bad", now, http.StatusUnauthorized, "InvalidAuthenticationInfo", expired},
		{"Bearer bad", before, http.StatusForbidden, "AuthenticationFailed", expired},
		{"Bearer good", oldest, http.StatusForbidden, "AuthenticationFailed", "Authentication scheme Bearer is not supported in this version."},
		{"Bearer good", "", http.StatusForbidden, "AuthenticationFailed", "Authentication scheme Bearer is not supported in this version."},
		{"Bearer good", before, http.StatusOK, "", ""},
		{"Bearer", now, http.StatusBadRequest, "InvalidAuthenticationInfo", ""},
		{"Basic dTpw", now, http.StatusBadRequest, "InvalidAuthenticationInfo", ""},
		{"SharedKey local", now, http.StatusBadRequest, "InvalidAuthenticationInfo", ""},
		{
			"SharedKey local:YmFk", now, http.StatusForbidden, "AuthenticationFailed", "The MAC signature found in the HTTP request 'YmFk' is not the same as any computed " +
				"signature. Server used following string to sign: 'GET\n\n\n\n\n\n\n\n\n\n\n\nx-ms-version:2023-11-03\n/local/local/\ncomp:list'.",
		},
	} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, k.URL()+"/?comp=list", nil)
		if err != nil {
			t.Fatal(err)
		}
		for name, value := range map[string]string{"Authorization": test.authorization, "X-Ms-Version": test.version} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		answer, err := k.http.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		var body struct{ Code, AuthenticationErrorDetail string }
		err = xml.NewDecoder(answer.Body).Decode(&body)
		_ = answer.Body.Close()
		if err != nil || answer.StatusCode != test.status || body.Code != test.code || answer.Header.Get("X-Ms-Error-Code") != test.code || body.AuthenticationErrorDetail != test.detail {
			t.Errorf("%q of %s: %d %+v %v", test.authorization, test.version, answer.StatusCode, body, err)
		}
		if challenged := strings.HasPrefix(answer.Header.Get("Www-Authenticate"), "Bearer authorization_uri="); challenged != (test.status == http.StatusUnauthorized) {
			t.Errorf("%q of %s: challenged %t", test.authorization, test.version, challenged)
		}
	}
}

// TestKeysMayBeForbidden: an account without a key is one that forbids them.
func TestKeysMayBeForbidden(t *testing.T) {
	s, err := emulator.Start(emulator.Config{Account: account})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	_, err = sharedKey(t, s.URL(), account, key(), nil).CreateContainer(t.Context(), "test", nil)
	refused(t, err, http.StatusForbidden, "KeyBasedAuthenticationNotPermitted")
}

// renewed is a credential whose first token is past.
type renewed struct{ asked int }

func (r *renewed) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	r.asked++
	return azcore.AccessToken{Token: []string{"bad", "good"}[min(r.asked, 2)-1], ExpiresOn: time.Now().Add(time.Hour)}, nil
}

// TestAClientAnswersTheChallenge: the real client gets a new token for a 401 with a challenge, and its caller never hears of it.
func TestAClientAnswersTheChallenge(t *testing.T) {
	k := start(t, emulator.Config{Verify: verify})
	credential := &renewed{}
	client, err := azblob.NewClient(k.URL(), credential, k.options())
	if err != nil {
		t.Fatal(err)
	}
	if _, err = client.CreateContainer(t.Context(), "test", nil); err != nil || credential.asked != 2 {
		t.Errorf("%v after %d tokens", err, credential.asked)
	}
}

func TestAuthorization(t *testing.T) {
	k := start(t, emulator.Config{Verify: verify})
	other := base64.StdEncoding.EncodeToString([]byte("another key"))
	_, err := sharedKey(t, k.URL(), account, other, k.options()).CreateContainer(t.Context(), "test", nil)
	refused(t, err, http.StatusForbidden, bloberror.AuthenticationFailed)
	_, err = k.bearer(t, "bad").CreateContainer(t.Context(), "test", nil)
	refused(t, err, http.StatusUnauthorized, bloberror.InvalidAuthenticationInfo)
	anonymous, err := azblob.NewClientWithNoCredential(k.URL(), k.options())
	if err != nil {
		t.Fatal(err)
	}
	_, err = anonymous.CreateContainer(t.Context(), "test", nil)
	refused(t, err, http.StatusUnauthorized, bloberror.NoAuthenticationInformation)

	k.ResetCalls()
	if _, err = k.bearer(t, "good").CreateContainer(t.Context(), "test", nil); err != nil {
		t.Fatal(err)
	}
	calls := k.Calls()
	if len(calls) != 1 || calls[0].Operation != "CreateContainer" || calls[0].Principal != "oid" || calls[0].Status != http.StatusCreated {
		t.Errorf("%+v", calls)
	}
}

func TestErrorsAreXML(t *testing.T) {
	k := start(t, emulator.Config{})
	_, err := newContainer(t, k).NewBlobClient("nothing").DownloadStream(t.Context(), nil)
	var answer *azcore.ResponseError
	if !errors.As(err, &answer) {
		t.Fatal(err)
	}
	if got := answer.RawResponse.Header.Get("X-Ms-Error-Code"); got != "BlobNotFound" {
		t.Errorf("x-ms-error-code %q", got)
	}
	if !strings.Contains(err.Error(), "<Error><Code>BlobNotFound</Code><Message>The specified blob does not exist.") {
		t.Errorf("body: %v", err)
	}
}

func TestAppendBlobIsFull(t *testing.T) {
	k := start(t, emulator.Config{MaxBlocks: 2})
	client := newContainer(t, k).NewAppendBlobClient("log")
	if _, err := client.Create(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := client.AppendBlock(t.Context(), body("x"), nil); err != nil {
			t.Fatal(err)
		}
	}
	_, err := client.AppendBlock(t.Context(), body("x"), nil)
	refused(t, err, http.StatusConflict, bloberror.BlockCountExceedsLimit)
}

// TestFaults checks {not applied, applied} x {error answer, no answer}.
func TestFaults(t *testing.T) {
	for _, test := range []struct {
		name  string
		fault emulator.Fault
		want  string
	}{
		{"answer", emulator.Fault{Status: http.StatusServiceUnavailable}, "old"},
		{"answer, applied", emulator.Fault{Status: http.StatusServiceUnavailable, Applied: true}, "new"},
		{"dropped", emulator.Fault{DropConnection: true}, "old"},
		{"dropped, applied", emulator.Fault{DropConnection: true, Applied: true}, "new"},
	} {
		t.Run(test.name, func(t *testing.T) {
			k := start(t, emulator.Config{})
			c := newContainer(t, k)
			put(t, c, "doc", "old")
			test.fault.Method, test.fault.PathContains = http.MethodPut, "/doc"
			k.Faults().Script(test.fault)
			_, err := c.NewBlockBlobClient("doc").Upload(t.Context(), body("new"), nil)
			if err == nil {
				t.Error("the write succeeded")
			}
			if test.fault.Status != 0 {
				refused(t, err, test.fault.Status, bloberror.ServerBusy)
			}
			if text, _ := get(t, c, "doc"); text != test.want {
				t.Errorf("%q, want %q", text, test.want)
			}
			put(t, c, "doc", "the fault is used up")
		})
	}
}

func TestFaultSelection(t *testing.T) {
	k := start(t, emulator.Config{})
	c := newContainer(t, k)
	k.Faults().Script(emulator.Fault{PathContains: "doc", Skip: 1, Count: 2, Status: http.StatusInternalServerError, Code: "InternalError"})
	failed := ""
	for range 5 {
		if _, err := c.NewBlockBlobClient("doc").Upload(t.Context(), body("x"), nil); err != nil {
			failed += "x"
		} else {
			failed += "."
		}
	}
	if failed != ".xx.." {
		t.Errorf("%s, want .xx..", failed)
	}
}

func TestOutage(t *testing.T) {
	k := start(t, emulator.Config{})
	c := newContainer(t, k)
	k.Faults().Outage(true)
	if _, err := c.NewBlockBlobClient("doc").Upload(t.Context(), body("x"), nil); err == nil {
		t.Error("a write during an outage succeeded")
	}
	k.Faults().Outage(false)
	put(t, c, "doc", "x")
}

func TestDelayEndsWithTheClient(t *testing.T) {
	k := start(t, emulator.Config{})
	c := newContainer(t, k)
	k.Faults().Script(emulator.Fault{Delay: time.Hour})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.NewBlockBlobClient("doc").Upload(ctx, body("x"), nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestConfigThatCannotBeRight(t *testing.T) {
	for want, cfg := range map[string]emulator.Config{
		`blob emulator: config: Account is "a/b": it must be a name without slashes, the first part of every path; MaxBlocks is -1: it must be 0 or more`: {Account: "a/b", MaxBlocks: -1},
		"blob emulator: config: Key is not base64: illegal base64 data at input byte 0":                                                                   {Key: "?"},
	} {
		if _, err := emulator.Start(cfg); err == nil || err.Error() != want {
			t.Errorf("got  %v\nwant %s", err, want)
		}
	}
}
