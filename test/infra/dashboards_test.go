package infra_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/functions/telemetry"
)

// sources returns the text of all Go files below some folders, tests left out.
func sources(t *testing.T, folders ...string) string {
	t.Helper()
	var out strings.Builder
	for _, folder := range folders {
		err := filepath.WalkDir(filepath.Join("..", "..", folder), func(p string, d os.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			b, err := os.ReadFile(p)
			out.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	return out.String()
}

// queries returns every string under the keys of that name, wherever they are.
func queries(v any, key string) []string {
	var out []string
	switch v := v.(type) {
	case map[string]any:
		for k, below := range v {
			if text, ok := below.(string); ok && k == key {
				out = append(out, text)
			}
			out = append(out, queries(below, key)...)
		}
	case []any:
		for _, below := range v {
			out = append(out, queries(below, key)...)
		}
	}
	return out
}

func parsed(t *testing.T, file string) any {
	t.Helper()
	var v any
	if err := json.Unmarshal([]byte(contents(t, "infra", file)), &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// unknownFields returns the members of the log's line that a query asks for and nobody writes: of the line of an invocation, or of any other.
func unknownFields(query, source string) []string {
	known := []string{"msg", "level", "time"}
	for _, f := range telemetry.Fields() {
		known = append(known, string(f.Name))
	}
	ofInvocation := strings.Contains(query, "invocation")
	var out []string
	for _, m := range regexp.MustCompile(`\bline(?:\.(\w+)|\["(\w+)"\])`).FindAllStringSubmatch(query, -1) {
		name := m[1] + m[2]
		logged := regexp.MustCompile(`slog\.\w+\("` + name + `"`).MatchString(source)
		if !slices.Contains(known, name) && (ofInvocation || !logged) {
			out = append(out, name)
		}
	}
	return out
}

func TestUnknownFields(t *testing.T) {
	const source = `slog.String("warning", w)`
	for query, want := range map[string][]string{
		`where line.msg == "invocation" and line.outcome == "held" | project line["target"]`: nil,
		`where line.msg == "invocation" | project line.warning, line["nva"]`:                 {"warning", "nva"},
		`where msg == "look at this target" | project line.warning, line.subject`:            {"subject"},
	} {
		if got := unknownFields(query, source); !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", query, got, want)
		}
	}
}

// Whatever the workbook and the alerts ask the log for is written there.
func TestQueriesOfTheLogAskForFieldsThatAreWritten(t *testing.T) {
	source := sources(t, "functions", filepath.Join("cmd", "pointsman-handler"), "telemetry")
	all := map[string][]string{"workbook.json": queries(parsed(t, "workbook.json"), "query")}
	for _, a := range alerts(t) {
		all["alert "+a.name] = []string{a.query}
	}
	asked := 0
	for where, list := range all {
		for _, query := range list {
			asked += strings.Count(query, "line.")
			for _, name := range unknownFields(query, source) {
				t.Errorf("%s asks for %s, which nobody writes: %s", where, name, query)
			}
			if open := strings.Count(query, "(") - strings.Count(query, ")"); open != 0 || strings.Count(query, `"`)%2 != 0 {
				t.Errorf("%s: brackets or quotes do not match: %s", where, query)
			}
		}
	}
	if len(all["workbook.json"]) < 10 || asked < 60 {
		t.Errorf("only %d queries in the workbook and %d fields in all", len(all["workbook.json"]), asked)
	}
}

type alert struct{ name, description, query string }

// alerts returns those of the log, with the variables put in.
func alerts(t *testing.T) []alert {
	t.Helper()
	text := contents(t, "infra", "modules", "alerts.bicep")
	variable := func(name string) string {
		_, after, _ := strings.Cut(text, "\nvar "+name+" = '")
		value, _, found := strings.Cut(after, "'\n")
		if !found {
			t.Fatalf("alerts.bicep has no variable %s", name)
		}
		return value
	}
	put := strings.NewReplacer("${calls}", variable("calls"), "${lines}", variable("lines"))
	var out []alert
	for _, m := range regexp.MustCompile(`(?m)^    name: '(.*)'\n    severity: \d\n    description: '(.*)'\n    query: '(.*)'$`).FindAllStringSubmatch(text, -1) {
		out = append(out, alert{m[1], m[2], put.Replace(put.Replace(m[3]))})
	}
	if len(out) < 12 {
		t.Fatalf("only %d alerts found", len(out))
	}
	return out
}

// Every alert has its section of the runbook, and says where it is; every section has its alert.
func TestEveryAlertHasARunbook(t *testing.T) {
	text := contents(t, "infra", "modules", "alerts.bicep")
	var names []string
	for _, a := range alerts(t) {
		names = append(names, a.name)
	}
	if !strings.Contains(text, "description: '${a.description} Runbook: docs/operations.md#alert-${a.name}'") {
		t.Error("the alerts of the log do not say where their runbook is")
	}
	for _, m := range regexp.MustCompile(`name: 'pointsman-([a-z-]+)-\$\{token\}'`).FindAllStringSubmatch(text, -1) {
		names = append(names, m[1])
		if !strings.Contains(text, "Runbook: docs/operations.md#alert-"+m[1]+"'") {
			t.Errorf("alert %s does not say where its runbook is", m[1])
		}
	}
	slices.Sort(names)
	var sections []string
	for _, m := range regexp.MustCompile(`(?m)^### Alert ([a-z-]+)$`).FindAllStringSubmatch(contents(t, "docs", "operations.md"), -1) {
		sections = append(sections, m[1])
	}
	slices.Sort(sections)
	if !slices.Equal(names, sections) {
		t.Errorf("alerts %q\nrunbook %q", names, sections)
	}
	readme := contents(t, "infra", "README.md")
	for _, name := range names {
		if !strings.Contains(readme, "| `"+name+"` |") {
			t.Errorf("infra/README.md does not list alert %s", name)
		}
	}
}

// prometheusName is the name that a metric sent by OTLP has in Prometheus. Source: "OpenTelemetry: Prometheus and OpenMetrics Compatibility".
func prometheusName(m telemetry.Instrumented) []string {
	name := strings.ReplaceAll(string(m.Name), ".", "_")
	switch m.Instrument {
	case telemetry.Counter:
		return []string{name + "_total"}
	case telemetry.Histogram:
		return []string{name + "_seconds_bucket", name + "_seconds_sum", name + "_seconds_count"}
	case telemetry.Gauge:
	}
	return []string{name}
}

// Whatever the dashboard asks Prometheus for is shown by Status, sent by OTLP, or shown by an agent.
func TestDashboardAsksForMetricsThatExist(t *testing.T) {
	known := map[string]bool{}
	for _, m := range regexp.MustCompile(`m\.add\("(pointsman_\w+)"`).FindAllStringSubmatch(sources(t, filepath.Join("functions", "status")), -1) {
		known[m[1]] = true
	}
	for _, m := range telemetry.Metrics() {
		for _, name := range prometheusName(m) {
			if known[name] {
				t.Errorf("%s is a metric of Status too", name)
			}
			known[name] = true
		}
	}
	agent := sources(t, filepath.Join("agent", "run"))
	dashboard := parsed(t, "grafana-dashboard.json")
	found := 0
	for _, query := range append(queries(dashboard, "expr"), queries(dashboard, "query")...) {
		for _, name := range regexp.MustCompile(`pointsman_\w+`).FindAllString(query, -1) {
			found++
			short := strings.TrimSuffix(strings.TrimPrefix(name, "pointsman_agent_"), "_bucket")
			if !known[name] && (short == name || !strings.Contains(agent, `"`+short+`"`)) {
				t.Errorf("nobody has the metric %s: %s", name, query)
			}
		}
		if strings.Count(query, "(") != strings.Count(query, ")") || strings.Count(query, "{") != strings.Count(query, "}") {
			t.Errorf("brackets do not match: %s", query)
		}
	}
	if found < 25 {
		t.Errorf("only %d metrics found in the dashboard", found)
	}
	ids := map[float64]bool{}
	for _, p := range dashboard.(map[string]any)["panels"].([]any) {
		id := p.(map[string]any)["id"].(float64)
		if ids[id] {
			t.Errorf("two panels have the id %v", id)
		}
		ids[id] = true
	}
}
