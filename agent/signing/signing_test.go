package signing_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/agent/signing"
	"github.com/pointsman/pointsman/shared/signature"
)

// Keys as openssl genpkey writes them, for tests only.
const (
	byOpenSSL = `-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIEzf+pU3Jf7HoyVF6GvZXGbrdhb76X50ksKZow/Fl5Ay
-----END PRIVATE KEY-----
`
	publicHalf    = "ed25519:kptJMluA7QB0Hj77yMsr3oJTynRpH46sZxYrJSZnVis="
	otherwiseKind = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgYIFpqDC2gmR6Bavq
yssNi3daeglblRU24aI7zJUCCpyhRANCAASwQGysWGo0Y39s3R5tOw6+8CyUn5MV
uZ3tWxf9PKoxrGvtH1fTxe7MLpnMov9Omtt8fB0kxaUy7TgotSuvhL+V
-----END PRIVATE KEY-----
`
)

func TestGenerateAndLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "signing.key")
	first, err := signing.Generate(path, false)
	if err != nil {
		t.Fatal(err)
	}
	private, err := signing.Load(path, "the-tool")
	if err != nil || signature.KeyOf(private) != first {
		t.Fatalf("loaded %v (%v), want %s", signature.KeyOf(private), err, first)
	}
	if _, err = signing.Generate(path, false); !errors.Is(err, fs.ErrExist) {
		t.Errorf("over a key: %v", err)
	}
	second, err := signing.Generate(path, true)
	if err != nil || second == first {
		t.Errorf("replaced by %s (%v)", second, err)
	}
}

func TestLoad(t *testing.T) {
	for name, tt := range map[string]struct {
		text string
		mode fs.FileMode
		want string // "": it is loaded
	}{
		"by openssl":        {byOpenSSL, 0o600, ""},
		"read-only":         {byOpenSSL, 0o400, ""},
		"others may read":   {byOpenSSL, 0o644, "mode 0644: want 0600"},
		"no PEM":            {"geheim", 0o600, "no PEM block"},
		"a public key":      {strings.ReplaceAll(byOpenSSL, "PRIVATE", "PUBLIC"), 0o600, "no PEM block"},
		"another algorithm": {otherwiseKind, 0o600, "want an Ed25519 key"},
		"cut off":           {strings.Replace(byOpenSSL, "MC4C", "", 1), 0o600, "no private key"},
		"empty":             {"", 0o600, "no PEM block"},
	} {
		path := filepath.Join(t.TempDir(), "key")
		if err := os.WriteFile(path, []byte(tt.text), tt.mode); err != nil {
			t.Fatal(err)
		}
		private, err := signing.Load(path, "the-tool")
		switch {
		case tt.want == "" && (err != nil || signature.KeyOf(private).String() != publicHalf):
			t.Errorf("%s: %v", name, err)
		case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "geheim")):
			t.Errorf("%s: got %v, want %q and the file", name, err, tt.want)
		}
	}
	if _, err := signing.Load("/nonexistent/key", "the-tool"); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "the-tool keygen") {
		t.Errorf("no file: %v", err)
	}
}
