package event_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/compat"
)

// TestControlLostForThePreviousVersion: functions that do not know the word read the report that they would have read without it.
func TestControlLostForThePreviousVersion(t *testing.T) {
	e := golden()["witness"]
	before, err := event.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	e.Report.ControlLost = golden()["control-lost"].Report.ControlLost
	now, err := event.Encode(e)
	if err != nil {
		t.Fatal(err)
	}
	if lost, failed := compat.Lost(before, now); failed != nil || len(lost) > 0 {
		t.Errorf("the previous version would read something else: %q (%v)", lost, failed)
	}
}

// TestPreviousVersion: testdata/previous holds the golden events of the version before this one, never to be rewritten. This version's functions read from
// them what that version meant, and that version's functions read the same from what this version's agents say.
func TestPreviousVersion(t *testing.T) {
	files, err := filepath.Glob("testdata/previous/*.json")
	if err != nil || len(files) != 7 {
		t.Fatalf("%d events of the previous version, want 7 (%v)", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".json")
		old, unread := os.ReadFile(file)
		if unread != nil {
			t.Fatal(unread)
		}
		e, refused := event.Decode(old)
		if refused != nil {
			t.Errorf("%s: not read any more: %v", name, refused)
			continue
		}
		if diff := cmp.Diff(golden()[name], e, same()); diff != "" {
			t.Errorf("%s means something else now (-then +now):\n%s", name, diff)
		}
		now, unwritten := event.Encode(golden()[name])
		if unwritten != nil {
			t.Fatal(unwritten)
		}
		if lost, failed := compat.Lost(old, now); failed != nil || len(lost) > 0 {
			t.Errorf("%s: the previous version would read something else: %q (%v)", name, lost, failed)
		}
	}
}
