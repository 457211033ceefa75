package models_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

// verdict is what spin must find.
type verdict uint8

const (
	right  verdict = iota + 1 // no error in any state
	broken                    // a needed step left out: the error must be found, or the model shows nothing
	limit                     // what the protocol is known not to give; docs/models.md says what follows
)

// variant is one model with some of its macros.
type variant struct {
	model string
	flags string
	want  verdict
	fails string // a part of the assertion that must fail
}

func (v variant) String() string {
	return strings.Join(append([]string{v.model}, strings.Fields(v.flags)...), "+")
}

const (
	lostEdit   = "o==edited"
	staleWrite = "v>=right"
	wrongTable = "content==(newest&1)"
	notLooked  = "looked[0]=="
	falseAlarm = "dead||"
	notFound   = "!(dead)||"
)

func variants() []variant {
	return []variant{
		{"write", "", right, ""},
		{"write", "FENCE_STILL", right, ""},
		{"write", "NEWS=3 MISHAPS=0", right, ""},
		{"write", "STRICT FRESH_INTENTS", right, ""},
		{"write", "LATE", right, ""},
		{"write", "NO_IFMATCH MISHAPS=0", broken, lostEdit},
		{"write", "STRICT FRESH_INTENTS STATE_BEFORE_ETAG", broken, staleWrite},
		{"write", "STRICT FRESH_INTENTS UNCONFIRMED_NOOP", broken, staleWrite},
		{"write", "STRICT FRESH_INTENTS NO_INTENT", broken, staleWrite},
		{"write", "FENCE_STILL NO_SECOND_READ", broken, wrongTable},
		{"write", "FOLD_WITHOUT_COUNTER MISHAPS=0", broken, wrongTable},
		{"write", "NO_GUARD", broken, wrongTable},
		{"write", "LATE NO_FENCE_AFTER_ERROR", broken, wrongTable},
		{"write", "STRICT", limit, staleWrite},
		{"write", "STRICT FRESH_INTENTS FENCE_STILL", limit, staleWrite},
		{"write", "FENCE_STILL MISHAPS=2", limit, wrongTable},

		{"wake", "", right, ""},
		{"wake", "WAKE_BEFORE_COMMIT", broken, notLooked},
		{"wake", "WAKE_ONLY_IF_CHANGED", broken, notLooked},
		{"wake", "DEDUP_BY_TARGET", broken, notLooked},
		{"wake", "OUTBOX_CLEARED_FIRST", broken, notLooked},
		{"wake", "BLIND_CLEAR", broken, notLooked},

		{"deadman", "", right, ""},
		{"deadman", "REORDER MISHAPS=1 WORDS=0", right, ""},
		{"deadman", "STRICT", right, ""},
		{"deadman", "UNCHECKED_EXPIRED", broken, "marked"},
		{"deadman", "EPOCH_IGNORED", broken, falseAlarm},
		{"deadman", "NO_ALIVE_AFTER_FAILED_CANCEL", broken, falseAlarm},
		{"deadman", "CANCEL_FIRST", broken, notFound},
		{"deadman", "STRICT SPEAKS_FIRST", broken, notFound},
	}
}

// TestModels has spin visit every state of every variant.
func TestModels(t *testing.T) {
	for _, tool := range []string{"spin", "cc"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skipf("%s is missing: apt-get install spin gcc", tool)
		}
	}
	var found [limit + 1]atomic.Int32
	var wanted [limit + 1]int32
	t.Run("variants", func(t *testing.T) {
		two := make(chan struct{}, 2) // a verifier takes some hundred megabytes
		for _, v := range variants() {
			wanted[v.want]++
			t.Run(v.String(), func(t *testing.T) {
				t.Parallel()
				two <- struct{}{}
				defer func() { <-two }()
				if v.check(t, v.verify(t)) {
					found[v.want].Add(1)
				}
			})
		}
	})
	if wrong := wanted[right] - found[right].Load(); wrong != 0 {
		t.Errorf("%d models that should be right are not", wrong)
	}
	t.Logf("models: %d right, %d broken found of %d, %d known limits shown", found[right].Load(), found[broken].Load(), wanted[broken], found[limit].Load())
}

// verify generates, compiles and runs the verifier, and returns what it printed.
func (v variant) verify(t *testing.T) string {
	t.Helper()
	source, err := filepath.Abs(v.model + ".pml")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	generate := []string{"-a"}
	for flag := range strings.FieldsSeq(v.flags) {
		generate = append(generate, "-D"+flag)
	}
	call(t, dir, "spin", append(generate, source)...)
	optimise := "-O1"
	if v.want != right {
		optimise = "-O0" // the error comes long before the compiler would have paid off
	}
	call(t, dir, "cc", optimise, "-w", "-DSAFETY", "-DMEMLIM=2048", "-o", "pan", "pan.c")
	return call(t, dir, filepath.Join(dir, "pan"), "-m100000")
}

// call runs a program to its end. The verifier's exit status says whether it found errors, on some versions; what it prints does on all.
func call(t *testing.T, dir, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...)
	command.Dir = dir
	command.Env = append(os.Environ(), "LC_ALL=C")
	out, err := command.CombinedOutput()
	var status *exec.ExitError
	if errors.Is(err, context.Canceled) || err != nil && (!errors.As(err, &status) || filepath.Base(name) != "pan") {
		t.Fatalf("%s: %v\n%s", name, err, out)
	}
	return string(out)
}

// check compares the verifier's answer with what is wanted.
func (v variant) check(t *testing.T, out string) bool {
	t.Helper()
	errorCount, states := number(t, out, `errors: (\d+)`), number(t, out, `(\d+) states, stored`)
	t.Logf("%v: errors: %d, %d states", v, errorCount, states)
	if v.want == right {
		complete := !strings.Contains(out, "Search not completed") && !strings.Contains(out, "max search depth too small")
		if errorCount != 0 || !complete {
			t.Errorf("want no error in any state:\n%s", out)
		}
		return errorCount == 0 && complete
	}
	failed := regexp.MustCompile(`(?m)^pan:1: assertion violated .*$`).FindString(out)
	if errorCount == 0 || !strings.Contains(strings.ReplaceAll(failed, " ", ""), v.fails) {
		t.Errorf("want an error at %s:\n%s", v.fails, out)
		return false
	}
	return true
}

func number(t *testing.T, out, pattern string) int {
	t.Helper()
	match := regexp.MustCompile(pattern).FindStringSubmatch(out)
	if match == nil {
		t.Fatalf("the verifier said nothing of %s:\n%s", pattern, out)
	}
	n, err := strconv.Atoi(match[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
