package localca_test

import (
	"crypto/tls"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/localca"
)

// serve starts an HTTPS server on a loopback socket with a certificate of ca.
func serve(t *testing.T, ca *localca.CA) *httptest.Server {
	t.Helper()
	config, err := ca.ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, "hello")
	}))
	server.TLS = config
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

func get(t *testing.T, url string, config *tls.Config) error {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: config}}
	defer client.CloseIdleConnections()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	return response.Body.Close()
}

func newCA(t *testing.T) *localca.CA {
	t.Helper()
	ca, err := localca.New()
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

func TestClientsThatTrustTheCAConnect(t *testing.T) {
	ca := newCA(t)
	server := serve(t, ca)
	for _, url := range []string{server.URL, strings.Replace(server.URL, "127.0.0.1", "localhost", 1)} {
		if err := get(t, url, &tls.Config{RootCAs: ca.Pool()}); err != nil {
			t.Errorf("%s: %v", url, err)
		}
	}
	if err := get(t, server.URL, &tls.Config{RootCAs: newCA(t).Pool()}); err == nil {
		t.Error("a client that trusts another CA connected")
	}
}

func TestConstraints(t *testing.T) {
	ca := newCA(t)
	for _, host := range []string{"account.blob.localhost", "169.254.169.254", "10.1.2.3", "fd00::1"} {
		if _, err := ca.ServerTLS(host); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"management.azure.com", "20.1.2.3", "2001:db8::1"} {
		if _, err := ca.ServerTLS(host); err == nil {
			t.Errorf("%s: a certificate for a public host was made", host)
		}
	}
}

func TestCertificatesAreShortLived(t *testing.T) {
	config, err := newCA(t).ServerTLS()
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(config.Certificates[0].Leaf.NotAfter); left > 7*24*time.Hour {
		t.Errorf("the certificate lives for %v", left)
	}
}

func TestWritePEM(t *testing.T) {
	ca := newCA(t)
	path := filepath.Join(t.TempDir(), "ca.pem")
	if err := ca.WritePEM(path); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(written) != string(ca.PEM()) {
		t.Error("the file is not the CA's PEM")
	}
	if err = ca.WritePEM(filepath.Join(path, "x")); err == nil {
		t.Error("writing below a file succeeded")
	}
}
