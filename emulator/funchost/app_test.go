package funchost

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func stage(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for path, text := range files {
		path = filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const minimalHost = `{"version":"2.0","customHandler":{"description":{"defaultExecutablePath":"h"}}}`

func TestA1_FirstLevelFoldersOnly(t *testing.T) {
	a, err := loadApp(stage(t, map[string]string{
		"host.json": minimalHost, "B/function.json": timerFunction, "A/function.json": timerFunction,
		"deep/er/function.json": timerFunction, "empty/x": "",
	}), nil)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range a.functions {
		names = append(names, f.name)
	}
	if !slices.Equal(names, []string{"A", "B"}) || len(a.problems) != 0 {
		t.Errorf("functions %v, problems %v", names, a.problems)
	}
}

func TestA1_BadFunctionsAreSkipped(t *testing.T) {
	const two = `{"bindings":[{"type":"timerTrigger","name":"a","schedule":"00:01:00"},{"type":"timerTrigger","name":"b","schedule":"00:01:00"}]}`
	for folder, text := range map[string]string{
		"7up": timerFunction, "Host": timerFunction, "none": `{"bindings":[]}`, "two": two, "json": `{`,
		"name":    `{"bindings":[{"type":"timerTrigger","name":"a_b","schedule":"00:01:00"}]}`,
		"cron":    `{"bindings":[{"type":"timerTrigger","name":"a","schedule":"often"}]}`,
		"percent": `{"bindings":[{"type":"timerTrigger","name":"a","schedule":"%UNSET%"}]}`,
		"unknown": `{"bindings":[{"type":"kafkaTrigger","name":"a"}]}`,
		"queue":   `{"bindings":[{"type":"serviceBusTrigger","name":"a"}]}`,
		"input":   `{"bindings":[{"type":"timerTrigger","name":"a","schedule":"00:01:00"},{"type":"blob","name":"b","direction":"in"}]}`,
	} {
		a, err := loadApp(stage(t, map[string]string{"host.json": minimalHost, folder + "/function.json": text, "Good/function.json": timerFunction}), nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(a.functions) != 1 || a.functions[0].name != "Good" || len(a.problems) != 1 || !strings.Contains(a.problems[0].Error(), folder) {
			t.Errorf("%s: functions %v, problems %v", folder, a.functions, a.problems)
		}
	}
}

func TestA1_A2_HostFile(t *testing.T) {
	for text, want := range map[string]string{
		`{"version":"1.0"}`: "version",
		`{"version":"2.0"}`: "customHandler.description",
		`{"version":"2.0","customHandler":{"description":{}}}`: "defaultExecutablePath",
		`{"version":"2.0","functionTimeout":"5m"}`:             "TimeSpan",
	} {
		if _, err := loadApp(stage(t, map[string]string{"host.json": text}), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one about %s", text, err, want)
		}
	}
	if _, err := loadApp(t.TempDir(), nil); err == nil {
		t.Error("no error without host.json")
	}
}

func TestA2_Options(t *testing.T) {
	a, err := loadApp(stage(t, map[string]string{"host.json": `{"version":"2.0",
		"customHandler":{"description":{"defaultExecutablePath":"h"},"initializationTimeout":"00:01:00","enableProxyingHttpRequest":true},
		"functionTimeout":"1.00:00:00.5",
		"extensions":{"http":{"routePrefix":"v1"},"serviceBus":{"maxConcurrentCalls":3,"sessionIdleTimeout":"00:00:02","maxConcurrentSessions":4,
			"maxAutoLockRenewalDuration":"00:03:00","minMessageBatchSize":5,"maxBatchWaitTime":"00:00:10"}},
		"retry":{"strategy":"fixedDelay","maxRetryCount":2,"delayInterval":"00:00:01"}}`}), nil)
	if err != nil {
		t.Fatal(err)
	}
	o := newTriggerOptions(a.host.Extensions.ServiceBus, binding{})
	want := triggerOptions{1000, 5, 10 * time.Second, true, 3, 4, 2 * time.Second, 3 * time.Minute}
	if o != want {
		t.Errorf("options %+v, want %+v", o, want)
	}
	if d := a.host.FunctionTimeout.or(0); d != 24*time.Hour+500*time.Millisecond {
		t.Errorf("functionTimeout %s", d)
	}
	if !a.host.CustomHandler.EnableProxyingHTTPRequest || or(a.host.Extensions.HTTP.RoutePrefix, "") != "v1" || a.host.Retry.MaxRetryCount != 2 {
		t.Errorf("%+v", a.host)
	}
}

func TestA3_EnvironmentWins(t *testing.T) {
	root := stage(t, map[string]string{"local.settings.json": `{"Values":{"A":"local","B":"local","C":"local"}}`})
	s, err := newSettings(root, []string{"A=env"}, map[string]string{"A": "app", "B": "app"})
	if err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(s.environ(), " "); got != "A=env B=app C=local" {
		t.Error(got)
	}
	if v, ok := s.get("a"); !ok || v != "env" {
		t.Errorf("case is not ignored: %q", v)
	}
}

func TestA4_TriggerOverridesHostFile(t *testing.T) {
	r := newRig(t, map[string]string{
		"host.json":       hostJSON(t, `,"extensions":{"serviceBus":{"maxMessageBatchSize":10,"autoCompleteMessages":false}}`),
		"M/function.json": `{"bindings":[{"type":"serviceBusTrigger","name":"m","queueName":"q","cardinality":"many"}]}`,
		"N/function.json": `{"bindings":[{"type":"serviceBusTrigger","name":"m","queueName":"q","cardinality":"many","maxMessageBatchSize":7,"autoCompleteMessages":false}]}`,
	})
	h, err := newHost(t.Context(), r.cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.report()
	for _, want := range []string{
		"The 'MaxMessageBatchSize' option has been overriden to '1000' value for 'M' function.",  //nolint:misspell // the real host's words
		"The 'MaxMessageBatchSize' option has been overriden to '7' value for 'N' function.",     //nolint:misspell // the real host's words
		"The 'AutoCompleteMessages' option has been overriden to 'true' value for 'M' function.", //nolint:misspell // the real host's words
	} {
		if !strings.Contains(r.log.String(), want) {
			t.Errorf("missing %s in\n%s", want, r.log)
		}
	}
	if strings.Contains(r.log.String(), "'false' value for 'N'") {
		t.Error("N agrees with host.json about autoCompleteMessages")
	}
	o := newTriggerOptions(h.app.host.Extensions.ServiceBus, h.app.function("n").trigger)
	if o.batch != 7 || o.autoComplete {
		t.Errorf("options of N: %+v", o)
	}
}
