package sim

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write what the scenarios show into their files")

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestHistories lives as many histories as there is time for: SEEDS says how many, SEED which one alone. With -short there are fewer, and the
// first that breaks an invariant is not told.
func TestHistories(t *testing.T) {
	t.Parallel()
	seeds := uint64(6000)
	if raceEnabled || testing.Short() {
		seeds = 300
	}
	first := number(t, "SEED", 0)
	if os.Getenv("SEED") != "" {
		seeds = 1
	}
	found := Explore(first, number(t, "SEEDS", seeds), runtime.GOMAXPROCS(0))
	for i, f := range found.Violated {
		if i == 0 && !testing.Short() {
			t.Log(Tell(f.Seed, false))
		}
		t.Errorf("seed %d: %s; again: SEED=%d go test -run TestHistories ./sim", f.Seed, f.Error(), f.Seed)
	}
	t.Logf("%d histories: %+v", found.Histories, found.Counts)
}

// TestSameSeedSameHistory holds the simulator to its first promise, also when the functions were used by other histories before.
func TestSameSeedSameHistory(t *testing.T) {
	t.Parallel()
	used := shelf{}
	defer used.close()
	for seed := range uint64(40) {
		var first, second []string
		h := newHistory(seed)
		a := h.live(nil, without{}, &first)
		b := newHistory(seed).live(used.of(h.habits), without{}, &second)
		if d := cmp.Diff(first, second); d != "" {
			t.Fatalf("seed %d has two histories:\n%s", seed, d)
		}
		if a.counts != b.counts {
			t.Fatalf("seed %d: %+v and %+v", seed, a.counts, b.counts)
		}
	}
}

// TestTextTellsTheSame: a world whose store holds the documents themselves goes as one whose store holds their text.
func TestTextTellsTheSame(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		var plain, text []string
		h := newHistory(seed)
		h.habits.Text = false
		a := h.live(nil, without{}, &plain)
		h.habits.Text = true
		b := h.live(nil, without{}, &text)
		if d := cmp.Diff(plain, text); d != "" {
			t.Fatalf("seed %d (-documents +text):\n%s", seed, d)
		}
		if a.counts != b.counts {
			t.Fatalf("seed %d: %+v with documents, %+v with text", seed, a.counts, b.counts)
		}
	}
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(file) // of this package
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func accept(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// essence leaves the times and all that is told but no write out: what a change that only takes another turn more does not alter.
func essence(text string) string {
	timed := regexp.MustCompile(`^\| +\d+\.\d+ +`)
	var out strings.Builder
	for line := range strings.Lines(text) {
		rest := timed.ReplaceAllString(line, "| ")
		if rest == line || strings.Contains(rest, "WRITES") {
			out.WriteString(rest)
		}
	}
	return out.String()
}

// TestScenarios plays testdata/*.txt; -update accepts what they show. With -short only tables, documents and writes are compared.
func TestScenarios(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scenarios: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			t.Parallel()
			want := read(t, file)
			got, failed := Play(want)
			if failed != nil {
				t.Fatalf("%s: %v", file, failed)
			}
			if *update {
				accept(t, file, got)
				want = got
			}
			if testing.Short() {
				want, got = essence(want), essence(got)
			}
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("%s (-want +got); if it is right: go test ./sim -run TestScenarios -update\n%s", file, d)
			}
			if strings.Contains(got, "VIOLATED") {
				t.Errorf("%s: an invariant does not hold", file)
			}
		})
	}
}
