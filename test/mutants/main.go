// Command mutants breaks the product on purpose, in one way after the other, and runs the tests that must notice: a suite that does not kill
// them is not believed. mutants.txt says how; nothing in the tree is changed (go test -overlay).
//
//	go run ./test/mutants            # all; a mutant is done with the first test that kills it
//	go run ./test/mutants -run lease # those whose name matches
//	go run ./test/mutants -every     # every test of every mutant, to see who would have noticed
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"
)

func main() {
	pattern := flag.String("run", "", "only mutants whose name matches this regular expression")
	every := flag.Bool("every", false, "run every test of a mutant, not only up to the first that kills it")
	workers := flag.Int("workers", 2, "mutants at a time")
	root := flag.String("root", ".", "the root of the module")
	flag.Parse()
	ok, err := run(*root, *pattern, *every, *workers)
	if err != nil {
		fmt.Fprintln(os.Stderr, "mutants:", err)
		os.Exit(2)
	}
	if !ok {
		os.Exit(1)
	}
}

// mutant is one way to break the product.
type mutant struct {
	name  string
	why   string
	edits []edit
	tests [][]string // what must notice, the cheapest first: arguments of go test, KEY=VALUE before them goes into the environment
}

// edit replaces text in a file. The text must be there exactly once.
type edit struct{ file, old, new string }

// verdict is what became of a mutant.
type verdict struct {
	mutant
	killers []string // none: it survived
	err     error    // it could not be tried
	took    time.Duration
}

// run tries the mutants and reports whether all were killed.
func run(root, pattern string, every bool, workers int) (bool, error) {
	text, err := os.ReadFile(filepath.Join(root, "test/mutants/mutants.txt")) // of this repository
	if err != nil {
		return false, fmt.Errorf("read the list: %w", err)
	}
	list, err := parse(string(text))
	if err != nil {
		return false, err
	}
	only, err := regexp.Compile(pattern)
	if err != nil {
		return false, fmt.Errorf("-run: %w", err)
	}
	var chosen []mutant
	for _, m := range list {
		if only.MatchString(m.name) {
			chosen = append(chosen, m)
		}
	}
	verdicts := make([]verdict, len(chosen))
	var all sync.WaitGroup
	slots := make(chan struct{}, workers)
	for i, m := range chosen {
		slots <- struct{}{}
		all.Go(func() {
			verdicts[i] = try(root, m, every)
			verdicts[i].write(os.Stdout)
			<-slots
		})
	}
	all.Wait()
	killed := 0
	for _, v := range verdicts {
		if len(v.killers) > 0 && v.err == nil {
			killed++
		}
	}
	_, err = fmt.Fprintf(os.Stdout, "mutants killed: %d of %d\n", killed, len(chosen))
	return killed == len(chosen), err //nolint:wrapcheck // of standard output
}

func (v verdict) write(w io.Writer) {
	result := "SURVIVED: " + v.why
	switch {
	case v.err != nil:
		result = "NOT TRIED: " + v.err.Error()
	case len(v.killers) > 0:
		result = "killed by " + strings.Join(v.killers, ", ")
	}
	_, _ = fmt.Fprintf(w, "%-44s %5.1fs  %s\n", v.name, v.took.Seconds(), result) // when that is gone there is nobody left to tell
}

// parse reads the list:
//
//	= NAME
//	WHY
//	@ FILE
//	- old line
//	+ new line
//	$ [KEY=VALUE ]PACKAGE [-run NAME]
func parse(text string) ([]mutant, error) {
	var list []mutant
	for n, line := range strings.Split(text, "\n") {
		mark, rest, _ := strings.Cut(line, " ")
		if len(list) == 0 && mark != "=" && mark != "#" && line != "" {
			return nil, fmt.Errorf("mutants.txt:%d: found %q, want = and a name", n+1, line)
		}
		if mark == "=" {
			list = append(list, mutant{name: rest})
			continue
		}
		if mark == "#" || line == "" {
			continue
		}
		m := &list[len(list)-1]
		if (mark == "-" || mark == "+") && len(m.edits) == 0 {
			return nil, fmt.Errorf("mutants.txt:%d: a line of %s before any @ and file", n+1, mark)
		}
		switch mark {
		case "@":
			m.edits = append(m.edits, edit{file: rest})
		case "-":
			m.edits[len(m.edits)-1].old += rest + "\n"
		case "+":
			m.edits[len(m.edits)-1].new += rest + "\n"
		case "$":
			m.tests = append(m.tests, strings.Fields(rest))
		default:
			m.why = strings.TrimSpace(m.why + " " + line)
		}
	}
	return list, nil
}

// try runs the tests over the broken product.
func try(root string, m mutant, every bool) verdict {
	v := verdict{mutant: m}
	began := time.Now()
	defer func() { v.took = time.Since(began) }()
	dir, err := os.MkdirTemp("", "mutant-")
	if err != nil {
		v.err = err
		return v
	}
	defer func() { v.err = errors.Join(v.err, os.RemoveAll(dir)) }()
	overlay, err := m.overlay(root, dir)
	if err != nil {
		v.err = err
		return v
	}
	for _, test := range m.tests {
		failed, trouble := runTest(root, overlay, test)
		if trouble != nil {
			v.err = trouble
			return v
		}
		if failed {
			v.killers = append(v.killers, strings.Join(test, " "))
			if !every {
				break
			}
		}
	}
	v.took = time.Since(began)
	return v
}

// overlay writes the broken files and the description that go test wants of them.
func (m mutant) overlay(root, dir string) (string, error) {
	texts := map[string]string{}
	for _, e := range m.edits {
		path, err := filepath.Abs(filepath.Join(root, e.file))
		if err != nil {
			return "", fmt.Errorf("%s: %w", e.file, err)
		}
		if _, known := texts[path]; !known {
			text, missing := os.ReadFile(path) // of this repository
			if missing != nil {
				return "", fmt.Errorf("read what is to be broken: %w", missing)
			}
			texts[path] = string(text)
		}
		if n := strings.Count(texts[path], e.old); n != 1 {
			return "", fmt.Errorf("%s: the text to be broken is there %d times, want once: bring mutants.txt up to date:\n%s", e.file, n, e.old)
		}
		texts[path] = strings.Replace(texts[path], e.old, e.new, 1)
	}
	replace := map[string]string{}
	for path, text := range texts {
		broken := filepath.Join(dir, fmt.Sprintf("%d-%s", len(replace), filepath.Base(path)))
		if err := os.WriteFile(broken, []byte(text), 0o600); err != nil {
			return "", fmt.Errorf("write the broken file: %w", err)
		}
		replace[path] = broken
	}
	body, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	name := filepath.Join(dir, "overlay.json")
	if err = os.WriteFile(name, body, 0o600); err != nil {
		return "", fmt.Errorf("overlay: %w", err)
	}
	return name, nil
}

// testTime bounds one test: a mutant that hangs is killed by that.
const testTime = 100 * time.Second

// runTest reports whether the test failed, as it should. A mutant that does not compile is an error.
func runTest(root, overlay string, test []string) (failed bool, err error) {
	env := os.Environ()
	for len(test) > 0 && strings.Contains(test[0], "=") {
		env, test = append(env, test[0]), test[1:]
	}
	ctx, cancel := context.WithTimeout(context.Background(), testTime)
	defer cancel()
	args := append([]string{"test", "-overlay", overlay, "-vet=off", "-count=1", "-short", "-failfast"}, test...)
	cmd := exec.CommandContext(ctx, "go", args...) // of the list in this repository
	cmd.Dir, cmd.Env = root, env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	switch text := out.String(); {
	case err == nil && strings.Contains(text, "no tests to run"):
		return false, fmt.Errorf("go test %s: there is no such test", strings.Join(test, " "))
	case err == nil:
		return false, nil
	case strings.Contains(text, "[build failed]"), strings.Contains(text, "[setup failed]"):
		return false, fmt.Errorf("it does not compile:\n%s", text)
	case ctx.Err() != nil, strings.Contains(text, "FAIL"):
		return true, nil
	default:
		return false, fmt.Errorf("go test: %w\n%s", err, out.String())
	}
}
