package documents_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
)

// shelf is a store of files without contents.
type shelf struct {
	names  []string
	lists  int
	refuse string // a part of a name that cannot be deleted
}

func (s *shelf) List(_ context.Context, prefix string) ([]string, error) {
	s.lists++
	if s.names == nil {
		return nil, errors.New("the store is away")
	}
	var out []string
	for _, n := range s.names {
		if strings.HasPrefix(n, prefix) {
			out = append(out, n)
		}
	}
	return out, nil
}

func (s *shelf) Delete(_ context.Context, name string) error {
	if s.refuse != "" && strings.Contains(name, s.refuse) {
		return errors.New("refused")
	}
	s.names = slices.DeleteFunc(s.names, func(n string) bool { return n == name })
	return nil
}

// Only files of the history and the journal, and only those of which every line is too old.
func TestRetention(t *testing.T) {
	kept := []string{
		"accepted/hub.yaml", "domains/hub.yaml", "nvas/hub/2020-01-01.json", "targets/hub/2020-01-01.jsonl",
		"history/2020-01-01.jsonl", "history/hub/2020-01-01.jsonl", "history/hub/spokes/2020-01-01", "history/hub/spokes/2020-01-01.jsonl.bak", "history/hub/spokes/notes.jsonl",
		"history/hub/spokes/2020-13-01.jsonl", "history/hub/spokes/old/2020-01-01.jsonl", "history/hub/Spokes/2020-01-01.jsonl", "history/hub/spokes/2020-01-01.x.jsonl",
		"history/hub/spokes/2026-05-18.jsonl", // its last line may be of 00:00 of the 19th
		"history/hub/spokes/2026-05-28.jsonl", "history/hub/spokes/2026-05.jsonl",
		"journal/hub/2026-05-23.jsonl", "journal/hub/2026-05-23.2.jsonl", "journal/2020-01-01.jsonl",
	}
	old := []string{
		"history/hub/spokes/2026-05-17.jsonl", "history/hub/spokes/2020-01-01.jsonl", "history/hub/spokes/2026-04.jsonl", "history/other/t/2025-12-31.jsonl",
		"journal/hub/2026-05-22.jsonl", "journal/hub/2026-05-22.17.jsonl",
	}
	s := &shelf{names: slices.Concat(kept, old)}
	r := documents.NewRetention(s, 10, 5)
	now := time.Date(2026, 5, 28, 13, 0, 0, 0, time.UTC)
	n, err := r.Clean(t.Context(), now)
	if err != nil || n != len(old) || !slices.Equal(s.names, kept) {
		t.Errorf("%d deleted (%v), left:\n%s", n, err, strings.Join(s.names, "\n"))
	}
	if s.lists != 2 {
		t.Errorf("%d lists, want 2", s.lists)
	}
	if _, err = r.Clean(t.Context(), now.Add(10*time.Hour)); err != nil || s.lists != 2 {
		t.Errorf("%d lists on the same day (%v), want none more", s.lists, err)
	}
	if n, err = r.Clean(t.Context(), now.Add(24*time.Hour)); err != nil || n != 3 {
		t.Errorf("%d deleted a day later (%v), want those of one more day: 3", n, err)
	}
}

func TestRetentionForEver(t *testing.T) {
	s := &shelf{names: []string{"history/hub/spokes/2020-01-01.jsonl", "journal/hub/2020-01-01.jsonl"}}
	if n, err := documents.NewRetention(s, 0, 0).Clean(t.Context(), time.Now()); n != 0 || err != nil || s.lists != 0 || len(s.names) != 2 {
		t.Errorf("%d deleted (%v), %d lists", n, err, s.lists)
	}
}

// What cannot be deleted keeps nothing else from being deleted, and is tried again at the next sweep.
func TestRetentionTriesAgain(t *testing.T) {
	s := &shelf{names: []string{"history/hub/a/2020-01-01.jsonl", "history/hub/b/2020-01-01.jsonl"}, refuse: "/a/"}
	r := documents.NewRetention(s, 10, 5)
	if n, err := r.Clean(t.Context(), time.Now()); n != 1 || err == nil || !strings.Contains(err.Error(), "history/hub/a/2020-01-01.jsonl") {
		t.Errorf("%d deleted (%v)", n, err)
	}
	s.refuse = ""
	if n, err := r.Clean(t.Context(), time.Now()); n != 1 || err != nil {
		t.Errorf("%d deleted on the second try (%v)", n, err)
	}
	if _, err := documents.NewRetention(&shelf{}, 10, 5).Clean(t.Context(), time.Now()); err == nil || !strings.Contains(err.Error(), "history/") {
		t.Errorf("got %v, want what could not be listed", err)
	}
}
