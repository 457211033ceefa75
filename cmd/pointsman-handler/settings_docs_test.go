package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
)

// read returns the settings that the handler reads, by asking it.
func read(t *testing.T) []string {
	t.Helper()
	names := []string{"LOG_LEVEL"} // by main
	_, _ = readSettings(func(name string) string {
		names = append(names, name)
		return ""
	})
	slices.Sort(names)
	return slices.Compact(names)
}

// set by the Functions host, not by people.
func setByTheHost(name string) bool { return name == "FUNCTIONS_CUSTOMHANDLER_PORT" }

func TestEverySettingIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, found := strings.Cut(string(text), "\n## App settings\n")
	if !found {
		t.Fatal("docs/configuration.md has no section on app settings")
	}
	for _, name := range read(t) {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("docs/configuration.md does not mention %s", name)
		}
	}
}

// The example has every setting that is not an alternative to one that it has, and none that nobody reads.
func TestTheExampleHasEverySetting(t *testing.T) {
	text, err := os.ReadFile("../../local.settings.example.json")
	if err != nil {
		t.Fatal(err)
	}
	var example struct{ Values map[string]string }
	if err = json.Unmarshal(text, &example); err != nil {
		t.Fatal(err)
	}
	optional := []string{"ServiceBusConnection", "StateConnection", "ArmEndpoint", "ArmAudience", "AZURE_CLIENT_ID", "OutcomeTopicKey"}
	known := append(read(t), "FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage", "SweepSchedule")
	for _, name := range read(t) {
		if _, has := example.Values[name]; !has && !setByTheHost(name) && !slices.Contains(optional, name) {
			t.Errorf("local.settings.example.json lacks %s", name)
		}
	}
	for name := range example.Values {
		if !slices.Contains(known, name) {
			t.Errorf("local.settings.example.json has %s, which nobody reads", name)
		}
	}
}
