// Package infra_test holds infra/ against the code that it is for. No compiler looks at the Bicep here, so the tests also check what one
// would find first: brackets, names, the parameters and outputs of modules.
package infra_test

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestEveryResourceHasAStableVersion(t *testing.T) {
	for name, f := range all(t) {
		for _, d := range f.decls {
			if d.keyword == "resource" && !version().MatchString(d.about) {
				t.Errorf("%s:%d: resource %s is of %q: want a type with a version that is no preview", name, d.line, d.name, d.about)
			}
		}
	}
}

func TestEveryNameIsDeclaredAndUsed(t *testing.T) {
	for name, f := range all(t) {
		declared := map[string]bool{}
		for _, d := range f.decls {
			if d.keyword != "output" {
				declared[d.name] = true
			}
		}
		local := locals(f.tokens)
		used := map[string]bool{}
		for i, tok := range f.tokens {
			if !reference(f.tokens, i) {
				continue
			}
			used[tok.text] = true
			if !declared[tok.text] && !local[tok.text] && !builtin(tok.text) {
				t.Errorf("%s:%d: %s is not declared", name, tok.line, tok.text)
			}
		}
		for _, d := range f.decls {
			if (d.keyword == "param" || d.keyword == "var") && !used[d.name] {
				t.Errorf("%s:%d: %s %s is not used", name, d.line, d.keyword, d.name)
			}
		}
	}
}

// reference reports whether the token names something: not a property, a key, a number, a decorator or a part of a statement's head.
func reference(tokens []lexeme, i int) bool {
	t := tokens[i]
	if t.kind != word || t.text[0] >= '0' && t.text[0] <= '9' {
		return false
	}
	before, after := at(tokens, i-1), at(tokens, i+1)
	switch {
	case before.text == "." || before.text == "@" && before.kind == mark:
		return false
	case after.kind == mark && after.text == ":" && (before.kind == newline || before.text == "{" || before.text == ","):
		return false // a key
	case slices.Contains(keywords(), t.text):
		return false
	case slices.Contains(keywords(), before.text) || slices.Contains([]string{"param", "output"}, at(tokens, i-2).text):
		return false // the name or the type of a declaration
	}
	return true
}

func at(tokens []lexeme, i int) lexeme {
	if i < 0 || i >= len(tokens) {
		return lexeme{kind: newline, text: "\n"}
	}
	return tokens[i]
}

// locals are the variables of loops and lambdas.
func locals(tokens []lexeme) map[string]bool {
	out := map[string]bool{}
	for i, t := range tokens {
		switch {
		case t.text == "for" && at(tokens, i+1).kind == word:
			out[at(tokens, i+1).text] = true
		case t.text == "for" && at(tokens, i+1).text == "(":
			out[at(tokens, i+2).text], out[at(tokens, i+4).text] = true, true
		case t.text == "=" && at(tokens, i+1).text == ">":
			out[at(tokens, i-1).text] = true
		}
	}
	return out
}

// builtin are the keywords and functions of the language that infra/ uses. Source: "Bicep functions".
func builtin(name string) bool {
	return slices.Contains([]string{
		"existing", "if", "for", "in", "true", "false", "null",
		"empty", "environment", "guid", "loadTextContent", "map", "resourceGroup", "split", "string", "subscription", "subscriptionResourceId", "toLower", "union", "concat", "uniqueString",
	}, name)
}

func TestModulesGetTheirParametersAndGiveTheirOutputs(t *testing.T) {
	files := all(t)
	main := files["main.bicep"]
	modules := map[string]*file{}
	for _, d := range main.decls {
		if d.keyword != "module" {
			continue
		}
		f := files[path.Clean(d.about)]
		if f == nil {
			t.Errorf("main.bicep:%d: no file %s", d.line, d.about)
			continue
		}
		modules[d.name] = f
		given := fields(fields(d.rest)["params"])
		for name := range given {
			if !slices.ContainsFunc(f.decls, func(p declaration) bool { return p.keyword == "param" && p.name == name }) {
				t.Errorf("main.bicep:%d: %s has no parameter %s", d.line, d.about, name)
			}
		}
		for _, p := range f.decls {
			if _, ok := given[p.name]; p.keyword == "param" && len(p.rest) == 0 && !ok {
				t.Errorf("main.bicep:%d: %s needs the parameter %s", d.line, d.about, p.name)
			}
		}
	}
	if len(modules) != len(files)-1 {
		t.Errorf("%d modules are used, %d exist", len(modules), len(files)-1)
	}
	for i, tk := range main.tokens {
		if at(main.tokens, i+1).text != "." || at(main.tokens, i+2).text != "outputs" || modules[tk.text] == nil {
			continue
		}
		name := at(main.tokens, i+4).text
		if !slices.ContainsFunc(modules[tk.text].decls, func(d declaration) bool { return d.keyword == "output" && d.name == name }) {
			t.Errorf("main.bicep:%d: %s has no output %s", tk.line, tk.text, name)
		}
	}
}

func TestParameterFileNamesParameters(t *testing.T) {
	main := all(t)["main.bicep"]
	src := contents(t, "infra", "main.bicepparam")
	set := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^param (\w+) =`).FindAllStringSubmatch(src, -1) {
		set[m[1]] = true
		main.find(t, "param", m[1])
	}
	for _, d := range main.decls {
		if d.keyword == "param" && len(d.rest) == 0 && !set[d.name] {
			t.Errorf("main.bicepparam does not set %s, which has no default", d.name)
		}
	}
}

func TestEveryParameterIsDescribed(t *testing.T) {
	for name, f := range all(t) {
		described := false
		for i, tk := range f.tokens {
			switch {
			case tk.text == "description" && at(f.tokens, i-1).text == "@":
				described = true
			case tk.kind == word && tk.text == "param" && at(f.tokens, i-1).kind == newline:
				if !described {
					t.Errorf("%s:%d: parameter %s is not described", name, tk.line, at(f.tokens, i+1).text)
				}
				described = false
			}
		}
	}
}

func TestNoSecretLeaves(t *testing.T) {
	secret := regexp.MustCompile(`(?i)key|secret|password|connectionstring|sas|listkeys|listsecrets|token`)
	for name, f := range all(t) {
		for i, tk := range f.tokens {
			if strings.HasPrefix(tk.text, "list") && tk.kind == word && at(f.tokens, i+1).text == "(" {
				t.Errorf("%s:%d: %s() reads secrets", name, tk.line, tk.text)
			}
		}
		for _, d := range f.decls {
			if d.keyword != "output" {
				continue
			}
			if secret.MatchString(d.name) {
				t.Errorf("%s:%d: output %s sounds like a secret", name, d.line, d.name)
			}
			for _, v := range d.rest {
				if secret.MatchString(v.text) {
					t.Errorf("%s:%d: output %s holds %s", name, d.line, d.name, v.text)
				}
			}
		}
	}
}

func TestQueuesAreThoseOfTheEmulatorAndTheFunctions(t *testing.T) {
	bus := all(t)["modules/bus.bicep"]
	emulated := emulatedQueues(t)
	got := map[string]queue{}
	for _, d := range bus.decls {
		if d.keyword != "resource" || !strings.HasPrefix(d.about, "Microsoft.ServiceBus/namespaces/queues@") {
			continue
		}
		f := fields(d.rest)
		p := fields(f["properties"])
		deliveries, err := strconv.Atoi(value(p["maxDeliveryCount"]))
		if err != nil {
			t.Errorf("%s: %v", d.name, err)
		}
		got[value(f["name"])] = queue{
			lock: iso(t, value(p["lockDuration"])), window: iso(t, value(p["duplicateDetectionHistoryTimeWindow"])),
			ttl: iso(t, value(p["defaultMessageTimeToLive"])), deliveries: deliveries,
		}
		if value(p["requiresDuplicateDetection"]) != "true" || value(p["requiresSession"]) != "false" {
			t.Errorf("%s: want duplicate detection and no sessions", d.name)
		}
	}
	if !maps.Equal(got, emulated) {
		t.Errorf("infra has the queues %v,\nthe emulator %v", got, emulated)
	}
	var listened []string
	for _, b := range bindings(t) {
		if b.Type == "serviceBusTrigger" {
			listened = append(listened, b.QueueName)
		}
	}
	slices.Sort(listened)
	if want := slices.Sorted(maps.Keys(got)); !slices.Equal(listened, want) {
		t.Errorf("the functions listen on %v, infra has %v", listened, want)
	}
}

type queue struct {
	lock, window, ttl time.Duration
	deliveries        int
}

// iso reads the durations that infra/ uses: minutes and days.
func iso(t *testing.T, s string) time.Duration {
	t.Helper()
	m := regexp.MustCompile(`^P(?:(\d+)D|T(\d+)M)$`).FindStringSubmatch(s)
	if m == nil {
		t.Fatalf("duration %q: want PnD or PTnM", s)
	}
	n, err := strconv.Atoi(m[1] + m[2])
	if err != nil {
		t.Fatal(err)
	}
	if m[1] != "" {
		return time.Duration(n) * 24 * time.Hour
	}
	return time.Duration(n) * time.Minute
}

// emulatedQueues reads the function queues of emulator/stack: a literal that all share, then name and deliveries of each.
func emulatedQueues(t *testing.T) map[string]queue {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join("..", "..", "emulator", "stack", "stack.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	object := f.Scope.Lookup("queues")
	if object == nil {
		t.Fatal("emulator/stack has no function queues any more")
	}
	durations, names, deliveries := map[string]time.Duration{}, map[string]string{}, map[string]int{}
	ast.Inspect(object.Decl.(*ast.FuncDecl), func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.KeyValueExpr:
			durations[n.Key.(*ast.Ident).Name] = duration(t, n.Value)
		case *ast.AssignStmt:
			for i, l := range n.Lhs {
				s, ok := l.(*ast.SelectorExpr)
				if !ok {
					continue
				}
				lit, ok := n.Rhs[i].(*ast.BasicLit)
				if !ok {
					continue
				}
				of := s.X.(*ast.Ident).Name
				switch s.Sel.Name {
				case "Name":
					names[of], _ = strconv.Unquote(lit.Value)
				case "MaxDeliveryCount":
					deliveries[of], _ = strconv.Atoi(lit.Value)
				}
			}
		}
		return true
	})
	out := map[string]queue{}
	for of, name := range names {
		out[name] = queue{durations["LockDuration"], durations["DuplicateWindow"], durations["DefaultTTL"], deliveries[of]}
	}
	return out
}

// duration evaluates time.X and n * time.X.
func duration(t *testing.T, e ast.Expr) time.Duration {
	t.Helper()
	switch e := e.(type) {
	case *ast.BinaryExpr:
		n, err := strconv.Atoi(e.X.(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		return time.Duration(n) * duration(t, e.Y)
	case *ast.SelectorExpr:
		return map[string]time.Duration{"Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}[e.Sel.Name]
	}
	t.Fatalf("a duration in emulator/stack that this test cannot read: %T", e)
	return 0
}

type binding struct{ Type, Name, QueueName, Connection, Schedule string }

func bindings(t *testing.T) []binding {
	t.Helper()
	var out []binding
	for _, p := range functionFiles(t) {
		var f struct{ Bindings []binding }
		if err := json.Unmarshal([]byte(contents(t, p)), &f); err != nil {
			t.Fatal(err)
		}
		out = append(out, f.Bindings...)
	}
	return out
}

func functionFiles(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join("..", "..", "functions", "*", "function.json"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("no function.json: %v", err)
	}
	for i := range paths {
		paths[i], err = filepath.Rel(filepath.Join("..", ".."), paths[i])
		if err != nil {
			t.Fatal(err)
		}
	}
	return paths
}

func contents(t *testing.T, elements ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(append([]string{"..", ".."}, elements...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// appSettings are the app settings of infra, those for other clouds included.
func appSettings(t *testing.T) map[string][]lexeme {
	t.Helper()
	app := all(t)["modules/app.bicep"]
	out := fields(fields(app.find(t, "resource", "settings").rest)["properties"])
	cloud := app.find(t, "var", "cloudSettings").rest
	last := slices.IndexFunc(cloud, func(tk lexeme) bool { return tk.text == ":" })
	maps.Copy(out, fields(cloud[last:]))
	return out
}

func TestAppSettingsAreThoseThatAreRead(t *testing.T) {
	set := appSettings(t)
	// The host gives the port; a connection string would be a secret, and excludes the identity.
	absent := map[string]bool{"FUNCTIONS_CUSTOMHANDLER_PORT": true, "ServiceBusConnection": true, "StateConnection": true, "OutcomeTopicKey": true}
	for _, name := range []string{"SDK_DISABLED", "TRACES_EXPORTER", "METRICS_EXPORTER", "EXPORTER_OTLP_PROTOCOL", "EXPORTER_OTLP_TRACES_ENDPOINT", "EXPORTER_OTLP_METRICS_ENDPOINT"} {
		absent["OTEL_"+name] = true // for those who want something else than main.bicep offers
	}
	known := map[string]bool{}
	for _, name := range []string{"settings.go", "main.go"} {
		for _, m := range regexp.MustCompile(`[gG]etenv\("([^"]+)"\)`).FindAllStringSubmatch(contents(t, "cmd", "pointsman-handler", name), -1) {
			known[m[1]] = true
			if _, ok := set[m[1]]; ok == absent[m[1]] {
				t.Errorf("the handler reads %s; set in infra: %t", m[1], ok)
			}
		}
	}
	if len(known) < 8 {
		t.Fatalf("only %v found in the handler", known)
	}
	for _, b := range bindings(t) {
		if b.Connection != "" {
			for _, suffix := range []string{"fullyQualifiedNamespace", "credential", "clientId"} {
				known[b.Connection+"__"+suffix] = true
				if _, ok := set[b.Connection+"__"+suffix]; !ok {
					t.Errorf("a trigger needs %s__%s", b.Connection, suffix)
				}
			}
		}
		if name := strings.Trim(b.Schedule, "%"); name != b.Schedule {
			known[name] = true
			if _, ok := set[name]; !ok {
				t.Errorf("a trigger needs %s", name)
			}
		}
	}
	for name := range set {
		if !known[name] && !strings.HasPrefix(name, "AzureWebJobsStorage__") && !strings.HasPrefix(name, "APPLICATIONINSIGHTS_") {
			t.Errorf("infra sets %s, which nobody reads", name)
		}
	}
}

func TestLocalSettingsNameTheSame(t *testing.T) {
	var local struct{ Values map[string]string }
	if err := json.Unmarshal([]byte(contents(t, "local.settings.example.json")), &local); err != nil {
		t.Fatal(err)
	}
	set := appSettings(t)
	for name, v := range local.Values {
		// The plan takes the runtime from functionAppConfig; the host's own storage is the local one there.
		// An empty value is an alternative that is not taken; some of them are secrets, which infra never sets.
		if name == "FUNCTIONS_WORKER_RUNTIME" || name == "AzureWebJobsStorage" || v == "" {
			continue
		}
		if _, ok := set[name]; !ok {
			t.Errorf("local.settings.example.json has %s, infra has not", name)
		}
		if name == "SweepSchedule" {
			if got := value(all(t)["main.bicep"].find(t, "param", "sweepSchedule").rest[1:]); got != v {
				t.Errorf("the schedule of Sweep is %q in infra and %q locally", got, v)
			}
		}
	}
}

func TestAlwaysReadyFunctionsExist(t *testing.T) {
	exists := map[string]bool{}
	for _, p := range functionFiles(t) {
		name := filepath.Base(filepath.Dir(p))
		exists[strings.ToUpper(name[:1])+name[1:]] = true
	}
	var ready []string
	for _, tk := range all(t)["modules/app.bicep"].tokens {
		if name, ok := strings.CutPrefix(tk.text, "function:"); ok && tk.kind == text {
			ready = append(ready, name)
			if !exists[name] {
				t.Errorf("there is no function %s", name)
			}
		}
	}
	if !slices.Equal(ready, []string{"Ingest", "Reconcile"}) {
		t.Errorf("always ready are %v", ready)
	}
}

func TestRights(t *testing.T) {
	files := all(t)
	bus := files["modules/bus.bicep"]
	for name, want := range map[string][2]string{
		"agentSends": {"routeEvents", "dataSender"}, "operatorSends": {"routeEvents", "dataSender"}, "appReceivesEvents": {"routeEvents", "dataReceiver"},
		"appReceivesWakes": {"reconcile", "dataReceiver"}, "appSendsWakes": {"reconcile", "dataSender"},
	} {
		f := fields(bus.find(t, "resource", name).rest)
		role := fields(f["properties"])["roleDefinitionId"]
		if got := value(f["scope"]); got != want[0] || !slices.ContainsFunc(role, func(tk lexeme) bool { return tk.text == want[1] }) {
			t.Errorf("%s: want the role %s on %s", name, want[1], want[0])
		}
	}
	events := files["modules/events.bicep"]
	publishes := fields(events.find(t, "resource", "appPublishes").rest)
	role := fields(publishes["properties"])["roleDefinitionId"]
	if got := value(publishes["scope"]); got != "topic" || !slices.ContainsFunc(role, func(tk lexeme) bool { return tk.text == "dataSender" }) {
		t.Errorf("appPublishes: want the role dataSender on the topic")
	}
	topic := fields(fields(events.find(t, "resource", "topic").rest)["properties"])
	if value(topic["inputSchema"]) != "CloudEventSchemaV1_0" || value(topic["disableLocalAuth"]) != "true" {
		t.Error("the topic must take CloudEvents 1.0, and no keys")
	}
	for module, want := range map[string][]string{
		"modules/role.bicep": {"routeTables/read", "routeTables/write", "virtualNetworks/subnets/read", "locations/operations/read", "locations/operationResults/read"},
		"modules/serverrole.bicep": {
			"virtualHubs/read", "virtualHubs/bgpConnections/read", "virtualHubs/bgpConnections/write", "virtualHubs/bgpConnections/delete", "virtualHubs/bgpConnections/*/action",
			"locations/operations/read", "locations/operationResults/read",
		},
	} {
		var actions []string
		for _, tk := range files[module].tokens {
			if action, network := strings.CutPrefix(tk.text, "Microsoft.Network/"); network && tk.kind == text {
				actions = append(actions, action)
			}
		}
		if !slices.Equal(actions, want) {
			t.Errorf("the role of %s allows %v", module, actions)
		}
	}
	if got := value(fields(files["modules/server.bicep"].find(t, "resource", "peers").rest)["scope"]); got != "hub" {
		t.Errorf("the role is assigned on %q, not on the Route Server", got)
	}
	if got := value(fields(files["modules/table.bicep"].find(t, "resource", "writes").rest)["scope"]); got != "table" {
		t.Errorf("the role is assigned on %q, not on the table", got)
	}
	if got := value(fields(files["modules/vnet.bicep"].find(t, "resource", "reads").rest)["scope"]); got != "network" {
		t.Errorf("the role is assigned on %q, not on the network", got)
	}
}

// The event subscription tells the function that exists, one event at a time as its trigger wants them, of what it knows.
func TestDriftIsToldOfWritesToRouteTables(t *testing.T) {
	drift := all(t)["modules/drift.bicep"]
	p := fields(fields(drift.find(t, "resource", "writes").rest)["properties"])
	destination := fields(p["destination"])
	if value(destination["endpointType"]) != "AzureFunction" || value(fields(destination["properties"])["maxEventsPerBatch"]) != "1" {
		t.Error("want a function that gets single events")
	}
	if value(p["eventDeliverySchema"]) != "EventGridSchema" {
		t.Error("system events have Event Grid's own schema")
	}
	code := contents(t, "functions", "drift", "notice.go")
	types := 0
	for _, tk := range fields(p["filter"])["includedEventTypes"] {
		if tk.kind == text {
			if types++; !strings.Contains(code, strconv.Quote(tk.text)) {
				t.Errorf("the function does not know %s", tk.text)
			}
		}
	}
	if types != 2 {
		t.Errorf("%d types of events, want writes and deletions", types)
	}
	called := false
	for _, tk := range all(t)["main.bicep"].tokens {
		called = called || tk.kind == text && tk.text == "${}/functions/Drift"
	}
	var f struct{ Bindings []binding }
	if err := json.Unmarshal([]byte(contents(t, "functions", "drift", "function.json")), &f); err != nil {
		t.Fatal(err)
	}
	if !called || len(f.Bindings) != 1 || f.Bindings[0].Type != "eventGridTrigger" || f.Bindings[0].Name != "event" {
		t.Errorf("main.bicep names the function: %t; its bindings are %+v", called, f.Bindings)
	}
}

// TestAlertsLookForTextsThatAreLogged ties the queries to the messages in the code.
func TestAlertsLookForTextsThatAreLogged(t *testing.T) {
	var logged strings.Builder
	for _, root := range []string{"functions", filepath.Join("cmd", "pointsman-handler")} {
		err := filepath.WalkDir(filepath.Join("..", "..", root), func(p string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
				return err
			}
			b, err := os.ReadFile(p)
			logged.Write(b)
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	found := 0
	for _, tk := range all(t)["modules/alerts.bicep"].tokens {
		if tk.kind != text || !strings.Contains(tk.text, "msg") {
			continue
		}
		_, conditions, _ := strings.Cut(tk.text, "where msg")
		conditions, _, _ = strings.Cut(conditions, "| project")
		for _, m := range regexp.MustCompile(`"([^"]{6,})"`).FindAllStringSubmatch(conditions, -1) {
			found++
			if !strings.Contains(logged.String(), strconv.Quote(m[1])) {
				t.Errorf("an alert looks for %q, which nobody logs", m[1])
			}
		}
	}
	if found < 6 {
		t.Errorf("only %d texts found in the queries", found)
	}
}
