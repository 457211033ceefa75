package e2e

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/stack"
	"github.com/pointsman/pointsman/test/system"
)

// ran is a command that has ended.
type ran struct {
	code           int
	stdout, stderr string
}

// run runs a built binary to its end, with nothing in its environment but what is given.
func run(t *testing.T, env map[string]string, binary string, args ...string) ran {
	t.Helper()
	cmd := command(t, env, binary, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return ran{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func command(t *testing.T, env map[string]string, binary string, args ...string) *exec.Cmd {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, filepath.Join(system.Root(), "dist", binary), args...)
	cmd.Env = []string{"HOME=" + t.TempDir()}
	for name, value := range env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// file writes a file of the test.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// wrongInput is the exit code of pointsman for files, flags and arguments that are wrong.
const wrongInput = 3

func TestValidate(t *testing.T) {
	good := file(t, "hub.yaml", hub)
	wrong := file(t, "wrong.yaml", strings.NewReplacer("holdDown: 0s", "holdDown: soon", "preference: 100", "prefers: 100").Replace(hub))
	tests := []struct {
		name string
		args []string
		code int
		says []string
	}{
		{"a good file", []string{"validate", good}, 0, []string{good + ": ok: domain hub, 2 NVAs, 1 targets"}},
		{"a wrong one, with all that is wrong", []string{"validate", good, wrong}, wrongInput, []string{wrong + ":5:13: policy.holdDown: ", wrong + ":13:5: nvas[1].prefers: ", "preference"}},
		{"no file of that name", []string{"validate", "/nowhere.yaml"}, wrongInput, []string{"/nowhere.yaml"}},
		{"no file at all", []string{"validate"}, wrongInput, []string{"arg"}},
		{"no such flag", []string{"validate", "--fast", good}, wrongInput, []string{"--fast"}},
		{"no such command", []string{"validat", good}, wrongInput, []string{"validat"}},
		{"apply nothing", []string{"apply"}, wrongInput, []string{"file"}},
		{"apply to nowhere", []string{"apply", "-f", good}, wrongInput, []string{"state store"}},
		{"emulate a table that is no JSON", []string{"emulate", "--route-table", system.TableID + "=" + good}, wrongInput, []string{"is not JSON"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := run(t, nil, "pointsman", tt.args...)
			if got.code != tt.code {
				t.Errorf("exit code %d, want %d", got.code, tt.code)
			}
			for _, text := range tt.says {
				if !strings.Contains(got.stdout+got.stderr, text) {
					t.Errorf("it says\n%s%s\nwant %q in it", got.stdout, got.stderr, text)
				}
			}
			if tt.code != 0 && got.stdout != "" {
				t.Errorf("errors belong on stderr; stdout has %q", got.stdout)
			}
		})
	}
}

// A user runs the emulators, applies a domain file to them, and interrupts them.
func TestEmulateAndApply(t *testing.T) {
	table := file(t, "table.json", others)
	emulators := command(t, nil, "pointsman", "emulate", "--app", filepath.Join(system.Root(), "dist", "app"), "--route-table", system.TableID+"="+table, "--table-write", "100ms")
	stdout, err := emulators.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	emulators.Stderr = &stderr
	if err = emulators.Start(); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{}
	lines := bufio.NewScanner(stdout)
	for env["StateConnection__blobServiceUri"] == "" && lines.Scan() {
		name, value, ok := strings.Cut(strings.TrimPrefix(lines.Text(), "export "), "=")
		if !ok || !strings.HasPrefix(lines.Text(), "export ") {
			t.Errorf("not a line that a shell can source: %q", lines.Text())
		}
		env[name] = strings.Trim(value, "'")
	}
	for _, name := range []string{"AgentConnection", "ArmEndpoint", "FunctionsURL", "IDENTITY_ENDPOINT", "SSL_CERT_FILE", "ServiceBusConnection"} {
		if env[name] == "" {
			t.Errorf("%s is not in the environment %q", name, env)
		}
	}
	good := file(t, "hub.yaml", hub)
	if got := run(t, env, "pointsman", "apply", "-f", good); got.code != 0 || got.stdout != good+": domain hub is in force\n" {
		t.Errorf("apply: %+v", got)
	}
	wrong := file(t, "wrong.yaml", strings.Replace(hub, "silence: down", "silence: maybe", 1))
	if got := run(t, env, "pointsman", "apply", "-f", good, "-f", wrong); got.code != wrongInput || got.stdout != "" || !strings.Contains(got.stderr, "wrong.yaml:4:12: policy.silence") {
		t.Errorf("apply of a wrong file: %+v", got)
	}
	page := fetch(t, http.MethodGet, env["FunctionsURL"]+"/api/status")
	if !strings.Contains(page.body, `"name": "hub"`) || strings.Contains(page.body, "problems") {
		t.Errorf("status: %s", page.body)
	}
	if err = emulators.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	if err = emulators.Wait(); err != nil {
		t.Errorf("after the interrupt: %v\n%s", err, stderr.String())
	}
	if _, err = os.Stat(env["SSL_CERT_FILE"]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the temporary directory is still there: %v", err)
	}
}

type answer struct {
	status int
	body   string
}

func fetch(t *testing.T, method, url string) answer {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(`{"Data":{"timer":{}},"Metadata":{}}`))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	var body bytes.Buffer
	if _, err = body.ReadFrom(resp.Body); err != nil {
		t.Fatal(err)
	}
	return answer{resp.StatusCode, body.String()}
}

// Wrong app settings end the handler at once, with all that is wrong on stdout, where the Functions host logs it.
func TestInvalidAppSettings(t *testing.T) {
	good := map[string]string{
		"FUNCTIONS_CUSTOMHANDLER_PORT": "0", "ServiceBusConnection__fullyQualifiedNamespace": "ns.servicebus.windows.net",
		"StateConnection__blobServiceUri": "https://account.blob.core.windows.net",
	}
	tests := []struct {
		name   string
		change map[string]string
		code   int
		says   []string
	}{
		{
			"nothing is set",
			map[string]string{"FUNCTIONS_CUSTOMHANDLER_PORT": "", "ServiceBusConnection__fullyQualifiedNamespace": "", "StateConnection__blobServiceUri": ""},
			2,
			[]string{"FUNCTIONS_CUSTOMHANDLER_PORT is missing", "set ServiceBusConnection__fullyQualifiedNamespace", "set StateConnection__blobServiceUri"},
		},
		{"a connection and an address", map[string]string{"ServiceBusConnection": "Endpoint=sb://x/;SharedAccessKeyName=n;SharedAccessKey=a2V5"}, 2, []string{"and only one of them"}},
		{"half of the ARM settings", map[string]string{"ArmEndpoint": "https://management.example"}, 2, []string{"set ArmEndpoint and ArmAudience together"}},
		{"a connection string that is none", map[string]string{"StateConnection__blobServiceUri": "", "StateConnection": "my secret key"}, 2, []string{"the connection string is not valid", "access keys"}},
		{"a bus connection that is none", map[string]string{"ServiceBusConnection__fullyQualifiedNamespace": "", "ServiceBusConnection": "my secret key"}, 2, []string{"service bus"}},
		{"a port that is none", map[string]string{"FUNCTIONS_CUSTOMHANDLER_PORT": "no-port"}, 1, []string{"listen for the Functions host"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env := maps.Clone(good)
			maps.Copy(env, tt.change)
			got := run(t, env, filepath.Join("app", "pointsman-handler"))
			if got.code != tt.code || got.stderr != "" {
				t.Errorf("exit code %d, want %d; stderr %q", got.code, tt.code, got.stderr)
			}
			for _, text := range tt.says {
				if !strings.Contains(got.stdout, text) {
					t.Errorf("it says\n%s\nwant %q in it", got.stdout, text)
				}
			}
			if strings.Contains(got.stdout, "secret") {
				t.Errorf("a secret is in the log: %s", got.stdout)
			}
		})
	}
}

// An access key that is not valid any more: the sweep fails, and the log says which connection and what to do.
func TestExpiredKeyOfTheBus(t *testing.T) {
	w := start(t, quick)
	env := w.Environment()
	key := regexp.MustCompile("SharedAccessKey=[^;]*")
	env["ServiceBusConnection"] = key.ReplaceAllString(w.Bus.ConnectionString(stack.ManageKey), "SharedAccessKey=b2xkIGtleQ==")
	env["FUNCTIONS_CUSTOMHANDLER_PORT"] = freePort(t)
	cmd := command(t, env, filepath.Join("app", "pointsman-handler"))
	log := &output{t: t}
	cmd.Stdout = log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	url := "http://127.0.0.1:" + env["FUNCTIONS_CUSTOMHANDLER_PORT"]
	w.until("the handler answers", func() error {
		c, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			return err
		}
		return c.Close()
	})
	got := fetch(t, http.MethodPost, url+"/Sweep")
	if got.status != http.StatusInternalServerError || !strings.Contains(got.body, "sweep hub/spokes") {
		t.Errorf("%d %s", got.status, got.body)
	}
	w.until("the log says so", func() error {
		if text := log.String(); !strings.Contains(text, `"msg":"invocation"`) || !strings.Contains(text, "service bus queue reconcile") {
			return fmt.Errorf("it has %s", text)
		}
		return nil
	})
	if text := got.body + log.String(); !strings.Contains(text, "key") || strings.Contains(text, "b2xkIGtleQ") {
		t.Errorf("no advice, or a secret: %s", text)
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return fmt.Sprint(l.Addr().(*net.TCPAddr).Port)
}
