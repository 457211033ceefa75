package documents_test

import (
	"context"
	"errors"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/fault"
)

// logs are append blobs that take room appends each.
type logs struct {
	documents.Blobs
	room  int
	lines map[string][]string
	calls int
	fail  error
}

func (l *logs) Append(_ context.Context, name string, line []byte) error {
	l.calls++
	if l.fail != nil {
		return l.fail
	}
	if len(l.lines[name]) == l.room {
		return fault.New(fault.Refused, "%s is full", name)
	}
	l.lines[name] = append(l.lines[name], string(line))
	return nil
}

func TestTheJournalHasAFileADayAndRollsOver(t *testing.T) {
	blobs := &logs{room: 2, lines: map[string][]string{}}
	j := documents.NewJournal(blobs)
	evening := time.Date(2026, 3, 1, 23, 59, 0, 0, time.FixedZone("", -3600)) // 00:59 UTC of the next day
	for _, line := range []string{"a\n", "b\n", "c\n", "d\n", "e\n"} {
		if err := j.Append(t.Context(), "hub", evening, []byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Append(t.Context(), "hub", evening.AddDate(0, 0, 1), []byte("f\n")); err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{
		"journal/hub/2026-03-02.jsonl": {"a\n", "b\n"}, "journal/hub/2026-03-02.2.jsonl": {"c\n", "d\n"}, "journal/hub/2026-03-02.3.jsonl": {"e\n"},
		"journal/hub/2026-03-03.jsonl": {"f\n"},
	}
	if diff := cmp.Diff(want, blobs.lines); diff != "" {
		t.Error(diff)
	}
	if blobs.calls != 8 { // six appends and two that found a file full
		t.Errorf("%d calls, want 8: a full file is not tried again", blobs.calls)
	}
	// Another process begins at the first file and finds the way.
	if err := documents.NewJournal(blobs).Append(t.Context(), "hub", evening, []byte("g\n")); err != nil {
		t.Fatal(err)
	}
	if got := blobs.lines["journal/hub/2026-03-02.3.jsonl"]; !slices.Equal(got, []string{"e\n", "g\n"}) {
		t.Errorf("third file: %q", got)
	}
}

func TestAJournalThatCannotBeWrittenIsAnError(t *testing.T) {
	blobs := &logs{room: 1, lines: map[string][]string{}, fail: errors.New("no network")}
	if err := documents.NewJournal(blobs).Append(t.Context(), "hub", time.Unix(0, 0), []byte("a\n")); !errors.Is(err, blobs.fail) {
		t.Errorf("error %v", err)
	}
	blobs.fail, blobs.room = nil, 0
	if err := documents.NewJournal(blobs).Append(t.Context(), "hub", time.Unix(0, 0), []byte("a\n")); !fault.Is(err, fault.Refused) {
		t.Errorf("error %v", err)
	}
	if blobs.calls > 1000 {
		t.Errorf("%d calls: not bounded", blobs.calls)
	}
	if len(slices.Collect(maps.Keys(blobs.lines))) != 0 {
		t.Error("something was written")
	}
}
