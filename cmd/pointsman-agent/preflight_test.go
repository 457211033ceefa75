package main

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestPreflight: the machine is looked at, and the exit code says what that came to. What the machine that runs the tests is like is its own affair.
func TestPreflight(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	secret := filepath.Join(t.TempDir(), "bus")
	connect := func(text string) string {
		t.Helper()
		if err = os.WriteFile(secret, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return write(t, fmt.Sprintf("domain: d\nnva: n\nbus: {connectionStringFile: %s}\nsources: [{kernel: {}}]\n", secret))
	}
	good := connect("Endpoint=sb://" + l.Addr().String() + ";SharedAccessKeyName=k;SharedAccessKey=geheim;UseDevelopmentEmulator=true")
	stdout, stderr, code := execute(t, "preflight", "--config", good)
	if code > 2 || stderr != "" || !strings.Contains(stdout, "kernel  net.ipv4.ip_forward") || !strings.Contains(stdout, "it answers") || !strings.Contains(stdout, "is reached by the kernel route 127.0.0.1/32") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	stdout, _, _ = execute(t, "preflight", "--config", good, "--output", "json")
	if !strings.HasPrefix(stdout, "[\n  {\n    \"severity\": ") {
		t.Errorf("%s", stdout)
	}
	_ = l.Close()
	if stdout, stderr, code = execute(t, "preflight", "--config", good); code != 1 || stderr != "" || !strings.Contains(stdout, "no connection: dial tcp 127.0.0.1:") {
		t.Errorf("nobody listens: exit %d\n%s%s", code, stdout, stderr)
	}
	bad := connect("SharedAccessKey=geheim")
	if stdout, stderr, code = execute(t, "preflight", "--config", bad); code != 1 || !strings.Contains(stderr, "has no Endpoint=sb://HOST/") || strings.Contains(stdout+stderr, "geheim") {
		t.Errorf("no endpoint: exit %d\n%s%s", code, stdout, stderr)
	}
	for args, want := range map[string]string{"--output text": `--output is "text"`, "now": "unexpected argument", "--config /nonexistent": "/nonexistent"} {
		if _, stderr, code = execute(t, append([]string{"preflight"}, strings.Fields(args)...)...); code != 78 || !strings.Contains(stderr, want) {
			t.Errorf("%s: exit %d: %s", args, code, stderr)
		}
	}
}
