package conformance_test

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/servicebus"
)

// npm skips the test unless node and the package are there, and returns the folder of the scripts.
func npm(t *testing.T, name string) string {
	t.Helper()
	dir, err := filepath.Abs("js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err = exec.LookPath("node"); err != nil {
		t.Skip("node is missing: apt-get install nodejs npm, then test/conformance/run")
	}
	if _, err = os.Stat(filepath.Join(dir, "node_modules", name)); err != nil {
		t.Skipf("%s is missing: npm ci --prefix test/conformance/js", name)
	}
	return dir
}

// queues are those that servicebus.mjs names. Each of its tests has its own.
func queues() []servicebus.QueueConfig {
	var all []servicebus.QueueConfig
	declare := func(template servicebus.QueueConfig, names ...string) {
		for _, name := range names {
			template.Name = name
			all = append(all, template)
		}
	}
	declare(servicebus.QueueConfig{}, "order", "properties", "delete", "abandon", "dead-letter", "defer", "batch", "large", "drain", "schedule", "schedule-peek", "cancel",
		"shared", "window-a", "window-b")
	declare(servicebus.QueueConfig{MaxDeliveryCount: 3}, "three-deliveries")
	declare(servicebus.QueueConfig{DuplicateWindow: 10 * time.Minute}, "dedup")
	declare(servicebus.QueueConfig{LockDuration: 5 * time.Second}, "short-lock", "lock-lost")
	declare(servicebus.QueueConfig{RequiresSession: true}, "batch-atomic", "accept-next", "accept-oldest", "accept-none", "accept-cancelled", "accept-held",
		"fifo", "state", "session-dead", "refusals")
	declare(servicebus.QueueConfig{RequiresSession: true, LockDuration: 5 * time.Second}, "session-renew", "session-lost")
	declare(servicebus.QueueConfig{RequiresSession: true, DuplicateWindow: 10 * time.Minute}, "dedup-sessions")
	return all
}

// namespace is the emulator's, with the queues that the script needs, or that whose connection string is in POINTSMAN_SERVICEBUS.
func namespace(t *testing.T) (connectionString string) {
	t.Helper()
	if other := os.Getenv("POINTSMAN_SERVICEBUS"); other != "" {
		return other
	}
	server, err := servicebus.Start(servicebus.Config{Queues: queues()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server.ConnectionString("")
}

// TestServiceBusWithJavaScript runs Microsoft's JavaScript client against the emulated namespace, or another.
func TestServiceBusWithJavaScript(t *testing.T) {
	dir := npm(t, "@azure/service-bus")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	script := exec.CommandContext(ctx, "node", "servicebus.mjs")
	script.Dir = dir
	script.Env = append(os.Environ(), "SERVICEBUS_CONNECTION_STRING="+namespace(t))
	out, err := script.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	passed := regexp.MustCompile(`(?m)^# (\d+ passed, \d+ failed)$`).FindSubmatch(out)
	if passed == nil {
		t.Fatalf("it did not come to its end:\n%s", out)
	}
	t.Logf("service bus, JavaScript client: %s", passed[1])
	if testing.Verbose() {
		t.Logf("%s", out)
	}
}

// azuriteAccount and azuriteKey are the account that Azurite always has; Microsoft publishes them
// (https://learn.microsoft.com/azure/storage/common/storage-connect-azurite).
const (
	azuriteAccount = "devstoreaccount1"
	azuriteKey     = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

// azurite starts Azurite's blob service and returns its address.
func azurite(t *testing.T) (url string) {
	t.Helper()
	dir := npm(t, "azurite")
	server := exec.CommandContext(t.Context(), "node", filepath.Join("node_modules", "azurite", "dist", "src", "blob", "main.js"),
		"--blobHost", "127.0.0.1", "--blobPort", "0", "--skipApiVersionCheck", "--disableTelemetry", "--inMemoryPersistence", "--silent")
	server.Dir = dir
	out, err := server.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err = server.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = server.Process.Kill()
		_ = server.Wait()
	})
	listening := regexp.MustCompile(`listens on (http://127\.0\.0\.1:\d+)`)
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if match := listening.FindStringSubmatch(lines.Text()); match != nil {
			return match[1] + "/" + azuriteAccount
		}
	}
	t.Fatal("azurite ended before it listened")
	return ""
}

// differences are the tests of the emulator's suite that Azurite fails, each with the reason why the emulator does not follow it.
func differences() map[string]string {
	return map[string]string{
		"conditional_delete_of_a_missing_one": "Azurite says 412 ConditionNotMet, the emulator 404; the service's documentation does not say. Pointsman deletes no documents",
		"range_behind_the_end":                "the service says 416 InvalidRange; that Azurite answers is its issue 318",
	}
}

// TestBlobSuiteWithAzurite runs the suite that the blob emulator passes against Azurite. The differences must be the known ones.
func TestBlobSuiteWithAzurite(t *testing.T) {
	url := azurite(t)
	run := exec.CommandContext(t.Context(), "go", "test", "-count=1", "-v", "./emulator/blob", "-run", "^TestOtherService$")
	run.Dir = filepath.Join("..", "..")
	run.Env = append(os.Environ(), "POINTSMAN_BLOB_URL="+url, "POINTSMAN_BLOB_ACCOUNT="+azuriteAccount, "POINTSMAN_BLOB_KEY="+azuriteKey)
	out, runErr := run.CombinedOutput()
	known, passed := differences(), 0
	for _, match := range regexp.MustCompile(`(?m)^ +--- (PASS|FAIL): TestOtherService/(\S+)`).FindAllSubmatch(out, -1) {
		name, ok := string(match[2]), string(match[1]) == "PASS"
		reason, differs := known[name]
		delete(known, name)
		switch {
		case ok == differs && ok:
			t.Errorf("%s: Azurite does it now, it is no difference any more (%s)", name, reason)
		case ok == differs:
			t.Errorf("%s: Azurite does it in another way", name)
		case ok:
			passed++
		}
	}
	if t.Failed() || len(known) > 0 || passed == 0 {
		t.Fatalf("not found: %v, %v\n%s", known, runErr, out)
	}
	t.Logf("azurite, emulator's suite: %d passed, %d known differences", passed, len(differences()))
}
