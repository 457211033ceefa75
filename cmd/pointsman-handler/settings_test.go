package main

import (
	"log/slog"
	"maps"
	"strings"
	"testing"
)

// given returns settings that are complete, with some more.
func given(more map[string]string) func(string) string {
	all := map[string]string{
		"FUNCTIONS_CUSTOMHANDLER_PORT": "7071", "ServiceBusConnection__fullyQualifiedNamespace": "ns.servicebus.windows.net",
		"StateConnection__blobServiceUri": "https://account.blob.core.windows.net",
	}
	maps.Copy(all, more)
	return func(name string) string { return all[name] }
}

// Nothing is exported unless somebody says where to.
func TestWhatIsExported(t *testing.T) {
	const endpoint = "http://collector:4318"
	for _, c := range []struct {
		set             map[string]string
		traces, metrics bool
	}{
		{nil, false, false},
		{map[string]string{"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, false, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}, true, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_TRACES_EXPORTER": "none"}, false, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_METRICS_EXPORTER": "none"}, true, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": endpoint + "/v1/traces"}, true, false},
		{map[string]string{"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": endpoint + "/v1/metrics"}, false, true},
		{map[string]string{"OTEL_EXPORTER_OTLP_ENDPOINT": endpoint, "OTEL_SDK_DISABLED": "TRUE"}, false, false},
	} {
		s, err := readSettings(given(c.set))
		if err != nil || s.traces != c.traces || s.metrics != c.metrics {
			t.Errorf("%v: traces %t, metrics %t (%v), want %t and %t", c.set, s.traces, s.metrics, err, c.traces, c.metrics)
		}
		if c.traces || c.metrics {
			continue
		}
		if export, _, bad := exporter(s, slog.New(slog.DiscardHandler)); export != nil || bad != nil {
			t.Errorf("%v: there is an exporter (%v)", c.set, bad)
		}
	}
}

func TestSettingsThatAreWrong(t *testing.T) {
	for text, set := range map[string]map[string]string{
		`HistoryDays is "1": want a number of days, 2 or more, or 0 to keep them for ever`: {"HistoryDays": "1"},
		`JournalDays is "a week"`: {"JournalDays": "a week"},
		`JournalDays is "-3"`:     {"JournalDays": "-3"},
		`OTEL_EXPORTER_OTLP_PROTOCOL is "grpc": want http/protobuf`: {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
		`OTEL_TRACES_EXPORTER is "zipkin": want otlp or none`:       {"OTEL_TRACES_EXPORTER": "zipkin", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"},
		`Journal is "yes": want on`:                                 {"Journal": "yes"},
	} {
		if _, err := readSettings(given(set)); err == nil || !strings.Contains(err.Error(), text) {
			t.Errorf("%v: got %v, want %q", set, err, text)
		}
	}
	if s, err := readSettings(given(map[string]string{"HistoryDays": "0"})); err != nil || s.historyDays != 0 || s.journalDays != 30 {
		t.Errorf("history %d, journal %d (%v), want 0 and 30", s.historyDays, s.journalDays, err)
	}
}
