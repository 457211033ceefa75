package main

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// settings are the app settings. A connection is either a connection string or, with the suffix that Azure Functions uses for
// identity-based connections, an address that the managed identity is good for.
type settings struct {
	port string // FUNCTIONS_CUSTOMHANDLER_PORT

	busConnection string // ServiceBusConnection
	busNamespace  string // ServiceBusConnection__fullyQualifiedNamespace

	stateConnection string // StateConnection
	stateURL        string // StateConnection__blobServiceUri
	stateContainer  string // StateContainer
	poisonContainer string // PoisonContainer
	journal         bool   // Journal: on (the default) or off

	armEndpoint string // ArmEndpoint
	armAudience string // ArmAudience

	topicEndpoint string // OutcomeTopic__topicEndpointUri; empty: nothing is told to the outside
	topicKey      string // OutcomeTopicKey

	historyDays int // HistoryDays: how long the history is kept; 0: for ever
	journalDays int // JournalDays: likewise the journal

	traces, metrics bool // what is exported by OTLP: the OTEL_* variables

	clientID string // AZURE_CLIENT_ID
	objectID string // IdentityObjectId
}

// Queues of the function app; function.json names the ones it listens on.
const reconcileQueue = "reconcile"

// readSettings reports everything that is missing at once.
func readSettings(getenv func(string) string) (settings, error) {
	s := settings{
		port:          getenv("FUNCTIONS_CUSTOMHANDLER_PORT"),
		busConnection: getenv("ServiceBusConnection"), busNamespace: getenv("ServiceBusConnection__fullyQualifiedNamespace"),
		stateConnection: getenv("StateConnection"), stateURL: getenv("StateConnection__blobServiceUri"),
		stateContainer: orElse(getenv("StateContainer"), "pointsman"), poisonContainer: orElse(getenv("PoisonContainer"), "poison"),
		armEndpoint: getenv("ArmEndpoint"), armAudience: getenv("ArmAudience"),
		topicEndpoint: getenv("OutcomeTopic__topicEndpointUri"), topicKey: getenv("OutcomeTopicKey"),
		clientID: getenv("AZURE_CLIENT_ID"), objectID: getenv("IdentityObjectId"), journal: getenv("Journal") != "off",
	}
	var problems []error
	need := func(ok bool, text string) {
		if !ok {
			problems = append(problems, errors.New(text))
		}
	}
	need(s.port != "", "FUNCTIONS_CUSTOMHANDLER_PORT is missing: the handler is started by the Azure Functions host, or by pointsman emulate")
	need(one(s.busConnection, s.busNamespace), "set ServiceBusConnection__fullyQualifiedNamespace (NAME.servicebus.windows.net) or ServiceBusConnection (a connection string), and only one of them")
	need(one(s.stateConnection, s.stateURL), "set StateConnection__blobServiceUri (https://ACCOUNT.blob.core.windows.net) or StateConnection (a connection string), and only one of them")
	need(slices.Contains([]string{"", "on", "off"}, getenv("Journal")), "Journal is "+strconv.Quote(getenv("Journal"))+": want on (accepted events are kept for replay) or off")
	need(s.topicKey == "" || s.topicEndpoint != "", "OutcomeTopicKey is set: set OutcomeTopic__topicEndpointUri (https://NAME.REGION-1.eventgrid.azure.net/api/events) too, or neither")
	s.historyDays = days("HistoryDays", getenv("HistoryDays"), 400, need)
	s.journalDays = days("JournalDays", getenv("JournalDays"), 30, need)
	s.traces, s.metrics = exported(getenv, need)
	need((s.armEndpoint == "") == (s.armAudience == ""), "set ArmEndpoint and ArmAudience together, or neither for the Azure public cloud")
	if len(problems) > 0 {
		return settings{}, fmt.Errorf("app settings: %w", errors.Join(problems...))
	}
	return s, nil
}

// minDays keeps what is still being written to from being deleted, whatever the clocks say.
const minDays = 2

// days reads how long files are kept; 0: for ever.
func days(name, text string, otherwise int, need func(bool, string)) int {
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	need(err == nil && (n == 0 || n >= minDays), name+" is "+strconv.Quote(text)+": want a number of days, "+strconv.Itoa(minDays)+" or more, or 0 to keep them for ever")
	return n
}

// exported reads what is to be exported: nothing, unless there is an endpoint. Source: "OpenTelemetry Environment Variable Specification" and "OpenTelemetry
// Protocol Exporter"; the rest of their variables is read by the SDK.
func exported(getenv func(string) string, need func(bool, string)) (traces, metrics bool) {
	exporters := map[string]string{"OTEL_TRACES_EXPORTER": getenv("OTEL_TRACES_EXPORTER"), "OTEL_METRICS_EXPORTER": getenv("OTEL_METRICS_EXPORTER")}
	for _, name := range slices.Sorted(maps.Keys(exporters)) {
		need(slices.Contains([]string{"", "otlp", "none"}, exporters[name]), name+" is "+strconv.Quote(exporters[name])+": want otlp or none")
	}
	protocol := getenv("OTEL_EXPORTER_OTLP_PROTOCOL")
	need(slices.Contains([]string{"", "http/protobuf"}, protocol), "OTEL_EXPORTER_OTLP_PROTOCOL is "+strconv.Quote(protocol)+": want http/protobuf, the only one that there is")
	both, disabled := getenv("OTEL_EXPORTER_OTLP_ENDPOINT"), strings.EqualFold(getenv("OTEL_SDK_DISABLED"), "true")
	traces = (both != "" || getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != "") && exporters["OTEL_TRACES_EXPORTER"] != "none" && !disabled
	metrics = (both != "" || getenv("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT") != "") && exporters["OTEL_METRICS_EXPORTER"] != "none" && !disabled
	return traces, metrics
}

func one(a, b string) bool { return (a == "") != (b == "") }

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}
