// Package imports holds the rule of who may import whom, as docs and the linter state it, and a test that applies it to the
// whole module.
package imports

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const (
	module = "github.com/pointsman/pointsman/"
	azure  = "github.com/Azure/"
	yaml   = "github.com/goccy/go-yaml"
	otel   = "go.opentelemetry.io/"
)

// core returns the packages of the standard library that the pure core may use: no I/O, clock, goroutine, randomness, logger.
func core() []string {
	return []string{
		"bytes", "cmp", "crypto/ed25519", "crypto/sha256", "encoding", "encoding/base64", "encoding/binary", "encoding/hex", "encoding/json", "errors",
		"fmt", "iter", "maps", "math", "math/bits", "net/netip", "slices", "sort", "strconv", "strings", "time", "unicode", "unicode/utf8",
	}
}

// clock returns the functions of package time that read or wait for the real time.
func clock() []string {
	return []string{"After", "AfterFunc", "NewTicker", "NewTimer", "Now", "Since", "Sleep", "Tick", "Until"}
}

// Check returns what is wrong with one Go file; name is its path below the module's root, with slashes.
func Check(name string, source []byte) ([]string, error) {
	file, err := parser.ParseFile(token.NewFileSet(), name, source, parser.SkipObjectResolution)
	if err != nil {
		return nil, fmt.Errorf("parse %s: %w", name, err)
	}
	var problems []string
	for _, spec := range file.Imports {
		imported, bad := strconv.Unquote(spec.Path.Value)
		if bad != nil {
			return nil, fmt.Errorf("parse %s: import %s: %w", name, spec.Path.Value, bad)
		}
		if why := forbidden(name, imported); why != "" {
			problems = append(problems, fmt.Sprintf("%s imports %s: %s", name, imported, why))
		}
	}
	if strings.HasPrefix(name, "shared/") && !isTest(name) {
		for _, f := range clockUses(file) {
			problems = append(problems, fmt.Sprintf("%s calls time.%s: the core has no clock; take the time as an argument", name, f))
		}
	}
	return problems, nil
}

func isTest(name string) bool { return strings.HasSuffix(name, "_test.go") }

// forbidden says why a file may not import a package, or "".
func forbidden(name, imported string) string {
	own, isOwn := strings.CutPrefix(imported, module)
	if isOwn && under(own, "cmd") && !under(name, "cmd") {
		return "nobody imports cmd/"
	}
	if isTest(name) {
		return ""
	}
	if strings.HasPrefix(imported, otel) && !under(name, "telemetry") && !under(name, "test") {
		return "the OpenTelemetry SDK stays in telemetry/"
	}
	switch {
	case under(name, "shared"):
		return forbiddenInCore(name, imported, own, isOwn)
	case under(name, "agent"):
		if strings.HasPrefix(imported, azure) {
			return "SDK types stay in azure/"
		}
		return only(own, isOwn, "agent", "shared")
	case under(name, "functions"):
		if strings.HasPrefix(imported, azure) {
			return "SDK types stay in azure/"
		}
		return only(own, isOwn, "functions", "shared")
	case under(name, "azure"):
		return only(own, isOwn, "azure", "shared")
	case under(name, "emulator"):
		return only(own, isOwn, "emulator")
	case under(name, "telemetry"):
		return only(own, isOwn, "telemetry", "functions/telemetry", "shared")
	case under(name, "sim"):
		return only(own, isOwn, "sim", "shared", "functions", "agent")
	}
	return ""
}

func forbiddenInCore(name, imported, own string, isOwn bool) string {
	switch {
	case isOwn:
		return only(own, isOwn, "shared")
	case imported == yaml || strings.HasPrefix(imported, yaml+"/"):
		if under(name, "shared/located") {
			return ""
		}
		return "only shared/located reads YAML"
	case !slices.Contains(core(), imported):
		return "the core uses a part of the standard library only: " + strings.Join(core(), ", ")
	}
	return ""
}

// only allows packages of this module below the given folders, and all others.
func only(own string, isOwn bool, folders ...string) string {
	if !isOwn || slices.ContainsFunc(folders, func(f string) bool { return under(own, f) }) {
		return ""
	}
	return "of this module it may import only " + strings.Join(folders, ", ")
}

func under(name, folder string) bool { return name == folder || strings.HasPrefix(name, folder+"/") }

// clockUses returns the functions of clock that a file names, however it calls package time.
func clockUses(file *ast.File) []string {
	local := ""
	for _, spec := range file.Imports {
		if spec.Path.Value == `"time"` {
			local = "time"
			if spec.Name != nil {
				local = spec.Name.Name
			}
		}
	}
	var uses []string
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.SelectorExpr:
			if x, ok := n.X.(*ast.Ident); ok && local != "" && x.Name == local && slices.Contains(clock(), n.Sel.Name) {
				uses = append(uses, n.Sel.Name)
			}
		case *ast.CallExpr:
			if f, ok := n.Fun.(*ast.Ident); ok && local == "." && slices.Contains(clock(), f.Name) {
				uses = append(uses, f.Name)
			}
		}
		return true
	})
	return uses
}

// Files returns the Go files of the module at root, as paths with slashes; testdata and folders that begin with a dot are not
// of the module.
func Files(root string) ([]string, error) {
	var files []string
	err := filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		base := d.Name()
		if d.IsDir() && p != root && (strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || base == "node_modules") {
			return filepath.SkipDir
		}
		if d.IsDir() || path.Ext(base) != ".go" {
			return nil
		}
		files = append(files, filepath.ToSlash(strings.TrimPrefix(p, filepath.Clean(root)+string(filepath.Separator))))
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the files of %s: %w", root, err)
	}
	return files, nil
}

// CheckModule checks every Go file of the module at root.
func CheckModule(root string) (checked int, problems []string, err error) {
	files, err := Files(root)
	if err != nil {
		return 0, nil, err
	}
	for _, name := range files {
		var found []string
		if found, err = checkFile(root, name); err != nil {
			return 0, nil, err
		}
		problems = append(problems, found...)
	}
	return len(files), problems, nil
}

func checkFile(root, name string) ([]string, error) {
	source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(name)))
	if err != nil {
		return nil, fmt.Errorf("check %s: %w", name, err)
	}
	return Check(name, source)
}
