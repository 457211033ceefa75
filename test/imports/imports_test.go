package imports_test

import (
	"os"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/test/imports"
)

const root = "../.."

func TestModule(t *testing.T) {
	checked, problems, err := imports.CheckModule(root)
	if err != nil {
		t.Fatal(err)
	}
	if checked < 50 {
		t.Errorf("only %d files were found", checked)
	}
	for _, p := range problems {
		t.Error(p)
	}
}

// TestModulePath: if the module were renamed, every rule about our own packages would hold for nothing.
func TestModulePath(t *testing.T) {
	text, err := os.ReadFile(root + "/go.mod")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains("\n"+string(text), "\nmodule github.com/pointsman/pointsman\n") {
		t.Error("go.mod names another module")
	}
}

// TestRules feeds the checker files that break one rule each, and files that are right.
func TestRules(t *testing.T) {
	const own = "github.com/pointsman/pointsman/"
	for _, tt := range []struct {
		file, imports string
		want          string // "" is allowed
	}{
		{"shared/plan/plan.go", "net/netip", ""},
		{"shared/plan/plan.go", own + "shared/route", ""},
		{"shared/plan/plan.go", own + "azure/blob", "may import only shared"},
		{"shared/plan/plan.go", "os", "part of the standard library"},
		{"shared/plan/plan.go", "net", "part of the standard library"},
		{"shared/plan/plan.go", "net/http", "part of the standard library"},
		{"shared/plan/plan.go", "context", "part of the standard library"},
		{"shared/plan/plan.go", "log", "part of the standard library"},
		{"shared/plan/plan.go", "log/slog", "part of the standard library"},
		{"shared/plan/plan.go", "sync", "part of the standard library"},
		{"shared/plan/plan.go", "sync/atomic", "part of the standard library"},
		{"shared/plan/plan.go", "math/rand", "part of the standard library"},
		{"shared/plan/plan.go", "math/rand/v2", "part of the standard library"},
		{"shared/plan/plan.go", "io/fs", "part of the standard library"},
		{"shared/plan/plan.go", "hash/maphash", "part of the standard library"},
		{"shared/plan/plan.go", "github.com/google/go-cmp/cmp", "part of the standard library"},
		{"shared/plan/plan.go", "github.com/goccy/go-yaml", "only shared/located"},
		{"shared/config/parse.go", "github.com/goccy/go-yaml/ast", "only shared/located"},
		{"shared/located/located.go", "github.com/goccy/go-yaml/ast", ""},
		{"shared/located/located.go", "os", "part of the standard library"},
		{"shared/plan/plan_test.go", "os", ""},
		{"agent/rib/rib.go", own + "shared/event", ""},
		{"agent/rib/rib.go", own + "agent/source", ""},
		{"agent/rib/rib.go", own + "azure/servicebus", "may import only agent, shared"},
		{"agent/rib/rib.go", own + "functions/ingest", "may import only agent, shared"},
		{"agent/rib/rib.go", own + "emulator/arm", "may import only agent, shared"},
		{"agent/rib/rib.go", "github.com/Azure/azure-sdk-for-go/sdk/azcore", "SDK types"},
		{"functions/ingest/ingest.go", own + "shared/state", ""},
		{"functions/ingest/ingest.go", own + "agent/rib", "may import only functions, shared"},
		{"functions/ingest/ingest.go", own + "azure/blob", "may import only functions, shared"},
		{"functions/ingest/ingest.go", own + "emulator/arm", "may import only functions, shared"},
		{"functions/ingest/ingest.go", "github.com/Azure/azure-sdk-for-go/sdk/azcore", "SDK types"},
		{"azure/blob/blob.go", "github.com/Azure/azure-sdk-for-go/sdk/azcore", ""},
		{"azure/blob/blob.go", own + "functions/documents", "may import only azure, shared"},
		{"azure/blob/blob.go", own + "agent/rib", "may import only azure, shared"},
		{"azure/blob/blob.go", own + "emulator/blob", "may import only azure, shared"},
		{"azure/blob/blob_test.go", own + "emulator/blob", ""},
		{"telemetry/otlp/otlp.go", "go.opentelemetry.io/otel/sdk/trace", ""},
		{"telemetry/otlp/otlp.go", own + "functions/telemetry", ""},
		{"telemetry/otlp/otlp.go", own + "functions/ingest", "may import only telemetry, functions/telemetry, shared"},
		{"functions/ingest/ingest.go", "go.opentelemetry.io/otel/trace", "stays in telemetry/"},
		{"cmd/pointsman-agent/main.go", "go.opentelemetry.io/otel", "stays in telemetry/"},
		{"test/collector/collector.go", "go.opentelemetry.io/proto/otlp/trace/v1", ""},
		{"emulator/arm/arm.go", own + "emulator/localca", ""},
		{"emulator/arm/arm.go", own + "shared/plan", "may import only emulator"},
		{"emulator/arm/arm.go", own + "azure/routetable", "may import only emulator"},
		{"emulator/arm/arm_test.go", own + "azure/routetable", ""},
		{"sim/sim.go", own + "functions/ingest", ""},
		{"sim/sim.go", own + "emulator/arm", "may import only sim, shared, functions, agent"},
		{"cmd/pointsman/main.go", own + "emulator/arm", ""},
		{"cmd/pointsman/main.go", own + "cmd/pointsman/plan", ""},
		{"test/e2e/run.go", own + "cmd/pointsman", "nobody imports cmd/"},
		{"test/e2e/run_test.go", own + "cmd/pointsman", "nobody imports cmd/"},
	} {
		problems, err := imports.Check(tt.file, []byte("package p\n\nimport _ \""+tt.imports+"\"\n"))
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case tt.want == "" && len(problems) > 0:
			t.Errorf("allowed, but: %v", problems)
		case tt.want != "" && (len(problems) != 1 || !strings.Contains(problems[0], tt.want)):
			t.Errorf("%s imports %s: got %v, want a problem with %q", tt.file, tt.imports, problems, tt.want)
		}
	}
}

func TestClock(t *testing.T) {
	for source, want := range map[string]int{
		"import \"time\"\nvar x = time.Now()":                           1,
		"import \"time\"\nvar x = time.Now":                             1,
		"import c \"time\"\nfunc f() { c.Sleep(1) }":                    1,
		"import . \"time\"\nfunc f() { Sleep(1); After(2) }":            2,
		"import \"time\"\nvar x = time.Unix(0, 0)":                      0,
		"import \"time\"\ntype T struct{ Now time.Time }":               0,
		"type time struct{}\nfunc f(x struct{ Now int }) { _ = x.Now }": 0,
	} {
		problems, err := imports.Check("shared/p/p.go", []byte("package p\n"+source+"\n"))
		if err != nil {
			t.Fatal(err)
		}
		if len(problems) != want {
			t.Errorf("%q: got %v, want %d problems", source, problems, want)
		}
		if problems, err = imports.Check("agent/p/p.go", []byte("package p\n"+source+"\n")); err != nil || len(problems) > 0 {
			t.Errorf("the rule is for the core only: %v, %v", problems, err)
		}
	}
}

func TestSyntaxError(t *testing.T) {
	if _, err := imports.Check("shared/p/p.go", []byte("package")); err == nil {
		t.Error("a file that is not Go is accepted")
	}
}
