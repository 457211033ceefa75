package docs_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pointsman/pointsman/emulator/stack"
	"github.com/pointsman/pointsman/test/docs"
	"github.com/pointsman/pointsman/test/system"
)

// built is where the programs are that the pages are about.
var built string

// TestMain builds them, apart from dist/, which other tests may be building just now.
func TestMain(m *testing.M) {
	code, err := testMain(m)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

func testMain(m *testing.M) (int, error) {
	dir, err := os.MkdirTemp("", "pointsman-docs")
	if err != nil {
		return 0, fmt.Errorf("temporary directory: %w", err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	built = filepath.Join(dir, "dist")
	if err = os.Mkdir(built, 0o750); err != nil {
		return 0, fmt.Errorf("temporary directory: %w", err)
	}
	for _, args := range [][]string{
		{"make", "-s", "stage", "APP=" + filepath.Join(built, "app")},
		{"go", "build", "-trimpath", "-ldflags=-s -w", "-o", built + "/", "./cmd/pointsman", "./cmd/pointsman-agent"},
	} {
		cmd := exec.CommandContext(context.Background(), args[0], args[1:]...) // our own Makefile
		cmd.Dir, cmd.Env = system.Root(), append(os.Environ(), "CGO_ENABLED=0")
		if out, failed := cmd.CombinedOutput(); failed != nil {
			return 0, fmt.Errorf("%v: %w: %s", args, failed, out)
		}
	}
	return m.Run(), nil
}

// pages are all that people read.
func pages(t *testing.T) []string {
	t.Helper()
	out := []string{"README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "infra/README.md"}
	for _, pattern := range []string{"docs/*.md", "docs/recipes/*.md"} {
		found, err := filepath.Glob(filepath.Join(system.Root(), pattern))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range found {
			rel, failed := filepath.Rel(system.Root(), f)
			if failed != nil {
				t.Fatal(failed)
			}
			out = append(out, rel)
		}
	}
	return out
}

func read(t *testing.T, page string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(system.Root(), page))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func blocks(t *testing.T, page string) []docs.Block {
	t.Helper()
	out, err := docs.Blocks(page, read(t, page))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestEveryBlockOfCommandsIsMarked: a block that looks like commands says that it is, and its mark is one that the package comment knows.
func TestEveryBlockOfCommandsIsMarked(t *testing.T) {
	looks := regexp.MustCompile(`(?m)^(\$ )?(sudo |dist/)?(pointsman|pointsman-agent|make|go|az|azd|apt|curl) `)
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			switch {
			case !b.Is("sh"):
				if looks.MatchString(b.Text) && !strings.HasPrefix(b.Text, noCommands[0]) && !strings.HasPrefix(b.Text, noCommands[1]) {
					t.Errorf("%s: it has commands: begin it with ```sh", b)
				}
			case len(b.Info) > 2, len(b.Info) == 2 && !slices.Contains([]string{"azure", "root", "slow"}, b.Info[1]):
				t.Errorf("%s: unknown mark %v", b, b.Info)
			default:
				if name := notHere(b); name != "" {
					t.Errorf("%s: %s must not run in a test: mark the block azure, root or slow", b, name)
				}
			}
		}
	}
}

// notHere returns a program of a block that is run and that a test must not run: it changes the machine, needs Azure, or builds everything.
func notHere(b docs.Block) string {
	if !b.Is("sh") || len(b.Info) > 1 {
		return ""
	}
	if strings.Contains(b.Text, "sudo ") {
		return "sudo"
	}
	for _, words := range docs.Commands(b.Text) {
		if strings.Contains(" apt apt-get az azd dnf go install ip make rm setpriv sysctl systemctl useradd zypper ", " "+filepath.Base(words[0])+" ") {
			return words[0]
		}
	}
	return ""
}

// prologue says where a page failed, and ends what it left running.
const prologue = `set -m
trap 'code=$?; [ "$code" = 0 ] || echo "failed with $code in the block at $at"; for job in $(jobs -p); do kill -- "-$job" 2>/dev/null || :; done; wait' EXIT
`

// TestCommandsRun runs the blocks of each page in a shell of their own, side by side. They share the binaries and one emulated Azure, unless a page starts its own.
func TestCommandsRun(t *testing.T) {
	cloud := azure(t)
	ran := 0
	for _, page := range pages(t) {
		var script strings.Builder
		for _, b := range blocks(t, page) {
			if b.Is("sh") && len(b.Info) == 1 && notHere(b) == "" {
				fmt.Fprintf(&script, "at=%s\n%s\n", b, b.Text)
			}
		}
		if script.Len() == 0 {
			continue
		}
		ran++
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-eu", "-o", "pipefail", "-c", prologue+script.String()) // the pages are our own
			cmd.Dir = workspace(t)
			cmd.Env = append(slices.Clone(cloud), "HOME="+cmd.Dir, "XDG_CONFIG_HOME="+cmd.Dir) // nothing of whoever runs this is read, and nothing left behind
			cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
			cmd.WaitDelay = 5 * time.Second
			out, err := cmd.CombinedOutput()
			t.Logf("%s", out)
			if err != nil {
				log, _ := os.ReadFile(filepath.Join(cmd.Dir, "emulate.log"))
				t.Errorf("%v\nemulate.log:\n%s", err, log)
			}
		})
	}
	if ran < 3 {
		t.Errorf("only %d pages have commands that are run", ran)
	}
}

// azure starts the Azure that pages share, and returns an environment that leads to it.
func azure(t *testing.T) []string {
	t.Helper()
	s, err := stack.Start(stack.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	env := append(os.Environ(), "PATH="+built+":"+os.Getenv("PATH"))
	for name, value := range s.Environment() {
		env = append(env, name+"="+value)
	}
	return env
}

// hub is a domain file, and routes what both of its NVAs announce.
const (
	hub = `domain: hub
policy: {silence: down}
nvas:
  - {name: nva-a, nextHops: [10.0.1.4], preference: 200, allow: [10.64.0.0/10 le 24]}
  - {name: nva-b, nextHops: [10.0.1.5], preference: 100, allow: [10.64.0.0/10 le 24]}
targets:
  - {name: spokes, routeTable: /subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/routeTables/spokes}
`
	routes = `{"10.64.0.0/24": [{"protocol": "bgp", "selected": true, "metric": 20}]}`
)

// journal writes the day that pages replay.
func journal(t *testing.T, dir string) {
	t.Helper()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("hub.yaml", hub)
	write("routes.json", routes)
	day := ""
	for nva, at := range map[string]string{"nva-a": "2026-03-01T12:00:00Z", "nva-b": "2026-03-01T12:00:01Z"} {
		out, err := exec.CommandContext(t.Context(), filepath.Join(built, "pointsman"), "import", "frr", filepath.Join(dir, "routes.json"), "--domain", "hub", "--nva", nva, "--at", at).Output() // our own
		if err != nil {
			t.Fatal(err)
		}
		day += string(out)
	}
	write("day.jsonl", day)
}

// workspace is a directory that looks like the root of the repository after `make build`, and that a page may write into.
func workspace(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	link := func(from, name string) {
		if err := os.Symlink(from, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	journal(t, dir)
	link(built, "dist")
	for _, name := range []string{"agent", "docs", "infra", "cmd"} {
		link(filepath.Join(system.Root(), name), name)
	}
	return dir
}

// TestCommandsExist reads all blocks of commands, and the commands in the text: they must be shell, and ours must exist with those flags.
func TestCommandsExist(t *testing.T) {
	seen, checked := 0, 0
	for _, page := range pages(t) {
		for _, b := range blocks(t, page) {
			if !b.Is("sh") {
				continue
			}
			seen++
			if out, err := exec.CommandContext(t.Context(), "bash", "-n", "-c", b.Text).CombinedOutput(); err != nil { // nothing runs
				t.Errorf("%s: %s", b, out)
			}
			for _, words := range docs.Commands(b.Text) {
				checked++
				if err := check(words); err != nil {
					t.Errorf("%s: %s: %v", b, strings.Join(words, " "), err)
				}
			}
		}
		for _, words := range inline(t, page) {
			checked++
			if err := check(words); err != nil {
				t.Errorf("%s: `%s`: %v", page, strings.Join(words, " "), err)
			}
		}
	}
	t.Logf("%d blocks, %d commands", seen, checked)
	if seen < 10 || checked < 60 {
		t.Errorf("only %d blocks and %d commands were found", seen, checked)
	}
}

// noCommands are texts that only look like commands: what is signed begins with the first two, an error message says the other.
var noCommands = []string{"pointsman event signature 1", "pointsman order signature 1", "make one with pointsman-agent keygen"}

// inline returns the commands of ours that a page names in its text.
func inline(t *testing.T, page string) [][]string {
	t.Helper()
	var out [][]string
	for _, m := range regexp.MustCompile("`((?:pointsman|pointsman-agent|make|go) [^`\n]*)`").FindAllStringSubmatch(read(t, page), -1) {
		if slices.Contains(noCommands, m[1]) {
			continue
		}
		text := strings.NewReplacer("[", "", "]", "", "…", "X", `\|`, "_").Replace(m[1])
		out = append(out, docs.Commands(text)...)
	}
	return out
}

// check is nil if the command exists with the flags that it is given. Of foreign programs only the names are known.
func check(words []string) error {
	switch name := filepath.Base(words[0]); {
	case name == "pointsman":
		return checkTool(words[1:])
	case strings.HasPrefix(name, "pointsman-agent"):
		return checkAgent(words[1:])
	case name == "make":
		return checkMake(words[1:])
	case name == "go":
		return checkGo(words[1:])
	case slices.Contains(foreign, name):
		return nil
	}
	return errors.New("a program that nobody knows")
}

// foreign are the programs of others that the pages use.
var foreign = strings.Fields(`apt apt-get az azd base64 bird birdc cat cd chown cp curl dnf echo editor export grep head install ip journalctl kill mkdir mv rm setpriv
	sha256sum sleep source sysctl systemctl tail tee test useradd vtysh wait xargs zypper`)

// help is what the programs say of themselves.
var help = struct {
	sync.Mutex
	texts map[string]string
}{texts: map[string]string{}}

func helpOf(args ...string) string {
	help.Lock()
	defer help.Unlock()
	key := strings.Join(args, " ")
	if _, known := help.texts[key]; !known {
		out, _ := exec.CommandContext(context.Background(), filepath.Join(built, args[0]), append(args[1:], "--help")...).CombinedOutput() // our own
		help.texts[key] = string(out)
	}
	return help.texts[key]
}

func checkTool(words []string) error {
	if len(words) == 0 || words[0] == "--version" || words[0] == "--help" {
		return nil
	}
	path := []string{"pointsman"}
	for len(words) > 0 && strings.Contains(helpOf(path...), "Available Commands:") {
		if !regexp.MustCompile(`(?m)^  ` + regexp.QuoteMeta(words[0]) + ` `).MatchString(helpOf(path...)) {
			return fmt.Errorf("%s has no command %s", strings.Join(path, " "), words[0])
		}
		path, words = append(path, words[0]), words[1:]
	}
	return checkFlags(words, helpOf(path...), "--")
}

func checkAgent(words []string) error {
	path := []string{"pointsman-agent"}
	if len(words) > 0 && !strings.HasPrefix(words[0], "-") {
		path = append(path, words[0])
		if !strings.Contains(helpOf(path...), "Usage of pointsman-agent "+words[0]+":") {
			return fmt.Errorf("pointsman-agent has no command %s", words[0])
		}
	}
	return checkFlags(words, helpOf(path...), "-")
}

// checkFlags looks for each flag in a help text, where long ones stand behind dashes.
func checkFlags(words []string, text, dashes string) error {
	for _, w := range words {
		flag, long := strings.CutPrefix(w, "--")
		flag, _, _ = strings.Cut(flag, "=")
		switch {
		case long && !regexp.MustCompile(`(?m)(^|\s)`+dashes+regexp.QuoteMeta(flag)+`(\s|$)`).MatchString(text):
			return fmt.Errorf("no flag --%s", flag)
		case !long && len(w) > 1 && w[0] == '-' && !regexp.MustCompile(`(?m)^\s+`+regexp.QuoteMeta(w)+`\b`).MatchString(text):
			return fmt.Errorf("no flag %s", w)
		}
	}
	return nil
}

func checkMake(words []string) error {
	var rules []byte
	for _, file := range []string{"Makefile", "packaging/package.mk"} {
		text, err := os.ReadFile(filepath.Join(system.Root(), file))
		if err != nil {
			return fmt.Errorf("the rules of make: %w", err)
		}
		rules = append(rules, text...)
	}
	for _, w := range words {
		name, _, variable := strings.Cut(w, "=")
		switch {
		case variable && !bytes.Contains(rules, []byte("$("+name)) && !bytes.Contains(rules, []byte("$(or $("+name)):
			return fmt.Errorf("make reads no %s", name)
		case !variable && !regexp.MustCompile(`(?m)^`+regexp.QuoteMeta(w)+`:`).Match(rules):
			return fmt.Errorf("make has no target %s", w)
		}
	}
	return nil
}

// checkGo checks that the packages exist, and that -run, -bench and -fuzz name something in them.
func checkGo(words []string) error {
	if len(words) == 0 || !slices.Contains([]string{"test", "run", "tool"}, words[0]) {
		return errors.New("only go test, run and tool are known here")
	}
	var dirs, patterns []string
	for i, w := range words[1:] {
		switch before := words[i]; {
		case strings.HasPrefix(w, "./"):
			dir := filepath.Join(system.Root(), strings.TrimSuffix(w, "..."))
			if _, err := os.Stat(dir); err != nil {
				return fmt.Errorf("no package %s", w)
			}
			dirs = append(dirs, dir)
		case words[0] == "test" && w != "-" && slices.Contains([]string{"-run", "-bench", "-fuzz"}, before):
			patterns = append(patterns, strings.Trim(w, "'"))
		}
	}
	for _, p := range patterns {
		if !named(dirs, p) {
			return fmt.Errorf("no test matches %s", p)
		}
	}
	return nil
}

var function = regexp.MustCompile(`(?m)^func ((?:Test|Benchmark|Fuzz)\w+)\(`)

// named reports whether a test of the packages matches. The reader of commands leaves "_" where a quoted pattern has "|".
func named(dirs []string, pattern string) bool {
	re, err := regexp.Compile(strings.ReplaceAll(strings.Split(pattern, "/")[0], "_", "|"))
	if err != nil {
		return false
	}
	for _, dir := range dirs {
		files, _ := filepath.Glob(filepath.Join(dir, "*_test.go")) // the pattern is well formed
		for _, f := range files {
			text, _ := os.ReadFile(f)
			for _, m := range function.FindAllSubmatch(text, -1) {
				if re.Match(m[1]) {
					return true
				}
			}
		}
	}
	return false
}
