package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
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
	_, section, found := strings.Cut(string(text(t, "docs/configuration.md")), "\n## App settings\n")
	if !found {
		t.Fatal("docs/configuration.md has no section on app settings")
	}
	for _, name := range read(t) {
		if !strings.Contains(section, "`"+name+"`") {
			t.Errorf("docs/configuration.md does not mention %s", name)
		}
	}
}

// example returns the app settings of local.settings.example.json.
func example(t *testing.T) map[string]string {
	t.Helper()
	var file struct{ Values map[string]string }
	if err := json.Unmarshal(text(t, "local.settings.example.json"), &file); err != nil {
		t.Fatal(err)
	}
	return file.Values
}

func text(t *testing.T, name string) []byte {
	t.Helper()
	body, err := os.ReadFile("../../" + name)
	if err != nil {
		t.Fatal(err)
	}
	return body
}

// byTheBindings are the settings that function.json names: %NAME% in a value, and connections.
func byTheBindings(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../functions/*/function.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no function.json: %v", err)
	}
	var names []string
	for _, f := range files {
		body, failed := os.ReadFile(f)
		if failed != nil {
			t.Fatal(failed)
		}
		for _, m := range regexp.MustCompile(`"%(\w+)%"|"connection": *"(\w+)"`).FindAllStringSubmatch(string(body), -1) {
			names = append(names, m[1]+m[2])
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// TestTheExampleHasEverySetting: all that the handler and the bindings read, and none that nobody reads. The handler starts with it.
func TestTheExampleHasEverySetting(t *testing.T) {
	values, bindings := example(t), byTheBindings(t)
	if !slices.Equal(bindings, []string{"ServiceBusConnection", "SweepSchedule"}) {
		t.Errorf("the bindings name %v", bindings)
	}
	want := append(read(t), bindings...)
	for _, name := range want {
		if _, has := values[name]; !has && !setByTheHost(name) {
			t.Errorf("local.settings.example.json lacks %s", name)
		}
	}
	for name := range values {
		if !slices.Contains(append(want, "FUNCTIONS_WORKER_RUNTIME", "AzureWebJobsStorage"), name) {
			t.Errorf("local.settings.example.json has %s, which nobody reads", name)
		}
	}
	values["FUNCTIONS_CUSTOMHANDLER_PORT"] = "7071"
	if _, err := readSettings(func(name string) string { return values[name] }); err != nil {
		t.Errorf("the handler does not start with the example: %v", err)
	}
}

// hostSettings are the values of host.json by their path.
func hostSettings(t *testing.T) map[string]any {
	t.Helper()
	var root map[string]any
	if err := json.Unmarshal(text(t, "host.json"), &root); err != nil {
		t.Fatal(err)
	}
	out := map[string]any{}
	var walk func(path string, v any)
	walk = func(path string, v any) {
		if object, ok := v.(map[string]any); ok {
			for name, value := range object {
				walk(strings.TrimPrefix(path+"."+name, "."), value)
			}
			return
		}
		out[path] = v
	}
	walk("", root)
	return out
}

// TestHostSettingsAreDocumented: each value of host.json has its row in docs/configuration.md, with the value.
func TestHostSettingsAreDocumented(t *testing.T) {
	_, section, found := strings.Cut(string(text(t, "docs/configuration.md")), "\n### host.json\n")
	if !found {
		t.Fatal("docs/configuration.md has no section on host.json")
	}
	documented := map[string]string{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([\\w.]+)` \\| (?:`([^`]+)` )?\\|").FindAllStringSubmatch(section, -1) {
		documented[m[1]] = m[2]
	}
	settings := hostSettings(t)
	for path, value := range settings {
		said, has := documented[path]
		if want := fmt.Sprint(value); !has || said != want {
			t.Errorf("docs/configuration.md says %q of %s, host.json %q", said, path, want)
		}
	}
	for path := range documented {
		if _, has := settings[path]; !has {
			t.Errorf("docs/configuration.md explains %s, which host.json has not", path)
		}
	}
}

// TestHostSettingsFitTheHandler: what the host allows is more than what the functions take.
func TestHostSettingsFitTheHandler(t *testing.T) {
	settings := hostSettings(t)
	span := func(path string) time.Duration {
		t.Helper()
		var h, m, s int
		if _, err := fmt.Sscanf(fmt.Sprint(settings[path]), "%d:%d:%d", &h, &m, &s); err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		return time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(s)*time.Second
	}
	if renewal, timeout := span("extensions.serviceBus.maxAutoLockRenewalDuration"), span("functionTimeout"); renewal <= callTimeout || timeout <= renewal {
		t.Errorf("a call may take %s, its lock is renewed for %s, and the host kills the handler after %s: want each longer than the one before", callTimeout, renewal, timeout)
	}
}
