package stack_test

import (
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/emulator/stack"
)

const table = "/subscriptions/00000000-0000-0000-0000-00000000beef/resourceGroups/hub/providers/Microsoft.Network/routeTables/spokes"

func TestEnvironment(t *testing.T) {
	dir := t.TempDir()
	s, err := stack.Start(stack.Config{Dir: dir, Tables: map[string]json.RawMessage{table: json.RawMessage(`{"location":"westeurope","properties":{"routes":[]}}`)}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if failed := s.Close(); failed != nil {
			t.Error(failed)
		}
	})
	env := s.Environment()
	for _, name := range []string{"SSL_CERT_FILE", "ServiceBusConnection", "StateConnection__blobServiceUri", "ArmEndpoint", "ArmAudience", "IDENTITY_ENDPOINT", "IDENTITY_HEADER", "OutcomeTopic__topicEndpointUri", "IdentityObjectId"} {
		if env[name] == "" {
			t.Errorf("%s is missing", name)
		}
	}
	if pem, unread := os.ReadFile(env["SSL_CERT_FILE"]); unread != nil || !strings.Contains(string(pem), "BEGIN CERTIFICATE") {
		t.Errorf("the certificate authority: %v", unread)
	}
	if _, _, ok := s.ARM.Table(table); !ok {
		t.Error("the table does not exist")
	}
	if agent := s.AgentConnection(); agent == env["ServiceBusConnection"] || !strings.Contains(agent, stack.SendKey) {
		t.Error("an agent must get a key of its own, which may only send")
	}
	for _, queue := range []string{"route-events", "reconcile"} {
		if _, ok := s.Bus.Queue(queue); !ok {
			t.Errorf("there is no queue %s", queue)
		}
	}
	// What the caller has of these variables would win over app settings, so it is left out; everything else stays.
	got := s.BaseEnvironment([]string{"PATH=/bin", "ArmEndpoint=https://management.azure.com", "ODD", "IDENTITY_HEADER=real"})
	if want := []string{"PATH=/bin", "ODD"}; !slices.Equal(got, want) {
		t.Errorf("base environment %q, want %q", got, want)
	}
	if _, unread := os.Stat(filepath.Join(dir, "blobs")); !errors.Is(unread, fs.ErrNotExist) {
		t.Error("blobs are kept although nobody asked for it")
	}
}

// All of them start, or none.
func TestStartFailsAsAWhole(t *testing.T) {
	for name, cfg := range map[string]stack.Config{
		"no directory":       {Dir: filepath.Join(t.TempDir(), "missing")},
		"an address of none": {Dir: t.TempDir(), BusAddress: "127.0.0.1:no-port"},
		"a table of no id":   {Dir: t.TempDir(), Tables: map[string]json.RawMessage{"spokes": json.RawMessage(`{}`)}},
	} {
		if s, err := stack.Start(cfg); err == nil {
			t.Errorf("%s: it started", name)
			_ = s.Close()
		}
	}
}

func TestPersistKeepsBlobs(t *testing.T) {
	dir := t.TempDir()
	s, err := stack.Start(stack.Config{Dir: dir, Persist: true})
	if err != nil {
		t.Fatal(err)
	}
	if err = s.Close(); err != nil {
		t.Fatal(err)
	}
	if info, unread := os.Stat(filepath.Join(dir, "blobs")); unread != nil || !info.IsDir() {
		t.Errorf("no place for blobs: %v", unread)
	}
}
