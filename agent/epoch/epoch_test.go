package epoch_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/epoch"
)

func TestNext(t *testing.T) {
	now := time.UnixMilli(5000)
	for name, test := range map[string]struct {
		file    string // content; "": no file
		want    uint64
		problem string
	}{
		"first start":             {want: 5000},
		"the clock went on":       {file: "4000\n", want: 5000},
		"the clock went back":     {file: "9000\n", want: 9001},
		"within one millisecond":  {file: "5000\n", want: 5001},
		"the file is damaged":     {file: "90\x00", want: 5000, problem: "want one number"},
		"the file is cut off":     {file: " ", want: 5000, problem: "want one number"},
		"a number that overflows": {file: "99999999999999999999", want: 5000, problem: "want one number"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "epoch")
			if test.file != "" {
				if err := os.WriteFile(path, []byte(test.file), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			got, err := epoch.Next(dir, now)
			if got != test.want {
				t.Errorf("epoch %d, want %d", got, test.want)
			}
			if (err == nil) != (test.problem == "") || err != nil && !strings.Contains(err.Error(), test.problem) {
				t.Errorf("error %v, want %q", err, test.problem)
			}
			if again, againErr := epoch.Next(dir, time.UnixMilli(0)); again != test.want+1 || againErr != nil {
				t.Errorf("the next start has epoch %d (%v), want %d", again, againErr, test.want+1)
			}
			if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
				t.Errorf("files left: %v", left)
			}
		})
	}
}

func TestWithoutStateDirectory(t *testing.T) {
	got, err := epoch.Next(filepath.Join(t.TempDir(), "missing"), time.UnixMilli(5000))
	if got != 5000 || err == nil {
		t.Errorf("epoch %d, error %v: want 5000 and an error", got, err)
	}
}
