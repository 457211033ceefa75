package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/shared/signature"
)

// TestKeys: a key is made once, is readable by its owner only, and its public half is all that is ever printed.
func TestKeys(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state") // is not there yet
	cfg := write(t, fmt.Sprintf("domain: d\nnva: n\nbus: {connectionStringEnv: BUS}\nsources: [{kernel: {}}]\nstateDir: %s\n", dir))
	path := filepath.Join(dir, "signing.key")
	run := func(want int, complaint string, args ...string) string {
		t.Helper()
		stdout, stderr, code := execute(t, args...)
		if code != want || !strings.Contains(stderr, complaint) {
			t.Fatalf("%q: exit %d, want %d and %q:\n%s", args, code, want, complaint, stderr)
		}
		if secret, err := os.ReadFile(path); err == nil {
			if line := strings.Split(string(secret), "\n")[1]; strings.Contains(stdout+stderr, line) {
				t.Error("the private key is printed")
			}
		}
		return stdout
	}
	run(1, "make one with pointsman-agent keygen", "pubkey", "--config", cfg)
	first := run(0, path, "keygen", "--config", cfg)
	if _, err := signature.ParseKey(strings.TrimSuffix(first, "\n")); err != nil {
		t.Fatalf("%q: %v", first, err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if run(1, "--force replaces it", "keygen", "--config", cfg) != "" || run(0, "", "pubkey", "--config", cfg) != first {
		t.Error("the key was replaced, or another one is shown")
	}
	second := run(0, "", "keygen", "--config", cfg, "--force")
	if second == first || run(0, "", "pubkey", "--config", cfg) != second {
		t.Error("--force does not replace the key")
	}
	next := filepath.Join(dir, "next.key")
	third := run(0, next, "keygen", "--out", next)
	if run(0, "", "pubkey", "--key", next) != third || third == second {
		t.Error("--out makes no key of its own")
	}
	if err := os.Chmod(next, 0o640); err != nil {
		t.Fatal(err)
	}
	run(1, "mode 0640: want 0600", "pubkey", "--key", next)
	run(1, "no such file", "keygen", "--out", filepath.Join(dir, "missing", "key"))
	run(78, "unexpected argument", "keygen", "now")
	run(78, "not defined", "pubkey", "--out", next)
	run(78, "/nonexistent", "keygen", "--config", "/nonexistent")
	run(0, "-force", "keygen", "--help")
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 2 {
		t.Errorf("files left: %v", left)
	}
}

// TestStartsWithItsKeyOnly: an agent that is to sign and cannot does not speak unsigned.
func TestStartsWithItsKeyOnly(t *testing.T) {
	cfg := write(t, "domain: d\nnva: n\nbus: {namespace: example.invalid}\nsources: [{kernel: {}}]\nstateDir: "+t.TempDir()+"\nsigning: {keyFile: /nonexistent/key}\nlisten: off\n")
	if _, stderr, code := execute(t, "--config", cfg); code != 1 || !strings.Contains(stderr, "make one with pointsman-agent keygen") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}
