package documents

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/pointsman/pointsman/shared/event"
)

// Files lists and deletes. Deleting what is gone already is no error.
type Files interface {
	List(ctx context.Context, prefix string) ([]string, error)
	Delete(ctx context.Context, name string) error
}

// Retention deletes files of the history and the journal that are older than they are to be kept. It goes by their names alone, which say of what day
// they are, and leaves every name alone that it does not know in full. The files of a day are not written to any more when the day after the next
// begins, so no condition is needed and nobody's line is lost.
type Retention struct {
	files   Files
	history time.Duration // 0: for ever
	journal time.Duration

	mu   sync.Mutex
	done string // the day on which this process has looked last: once is enough
}

// Day is what ages are counted in.
const Day = 24 * time.Hour

// NewRetention returns a retention of so many days; 0: for ever.
func NewRetention(files Files, history, journal int) *Retention {
	return &Retention{files: files, history: time.Duration(history) * Day, journal: time.Duration(journal) * Day}
}

// Clean deletes what is too old, once a day. It returns how many files it deleted; a failure is made good on the next try.
func (r *Retention) Clean(ctx context.Context, now time.Time) (deleted int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	today := now.UTC().Format(time.DateOnly)
	if r.done == today {
		return 0, nil
	}
	for _, kind := range []struct {
		folder string
		depth  int // folders above the file
		keep   time.Duration
	}{{"history/", 3, r.history}, {"journal/", 2, r.journal}} {
		if kind.keep <= 0 {
			continue
		}
		n, failed := r.clean(ctx, kind.folder, kind.depth, now.Add(-kind.keep))
		deleted += n
		err = errors.Join(err, failed)
	}
	if err == nil {
		r.done = today
	}
	return deleted, err
}

func (r *Retention) clean(ctx context.Context, folder string, depth int, before time.Time) (deleted int, err error) {
	names, err := r.files.List(ctx, folder)
	if err != nil {
		return 0, fmt.Errorf("list %s: %w", folder, err)
	}
	for _, name := range names {
		end, known := endOf(name, depth)
		if !known || end.After(before) {
			continue
		}
		if failed := r.files.Delete(ctx, name); failed != nil {
			err = errors.Join(err, fmt.Errorf("delete %s: %w", name, failed))
			continue
		}
		deleted++
	}
	return deleted, err
}

// endOf returns when the period of a file is over: a day, or with files of older versions a month. known is false for every other name.
func endOf(name string, depth int) (end time.Time, known bool) {
	parts := strings.Split(name, "/")
	if len(parts) != depth+1 {
		return time.Time{}, false
	}
	for _, folder := range parts[1:depth] {
		if !event.ValidName(folder) {
			return time.Time{}, false
		}
	}
	stem, jsonl := strings.CutSuffix(parts[depth], ".jsonl")
	day, number, numbered := strings.Cut(stem, ".")
	if !jsonl || numbered && !digits(number) {
		return time.Time{}, false
	}
	if t, err := time.Parse(time.DateOnly, day); err == nil {
		return t.AddDate(0, 0, 1), true
	}
	if t, err := time.Parse("2006-01", day); err == nil {
		return t.AddDate(0, 1, 0), true
	}
	return time.Time{}, false
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }
