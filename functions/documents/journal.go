package documents

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/pointsman/pointsman/shared/fault"
)

// Journal keeps the accepted events of each domain, a file a day:
//
//	journal/DOMAIN/YEAR-MONTH-DAY.jsonl, then ….2.jsonl, ….3.jsonl
//
// A day begins at 00:00 UTC. A file takes 50,000 appends (Scalability targets for Blob storage: blocks of an append blob); the next one
// has a number. Several writers may append at once.
type Journal struct {
	blobs Blobs

	mu   sync.Mutex
	last map[string]int // domain and day: the file that was appended to last; a hint, finding it again costs a call for each full file
}

// NewJournal returns a journal over blobs.
func NewJournal(blobs Blobs) *Journal { return &Journal{blobs: blobs, last: map[string]int{}} }

// maxJournalFiles bounds the files of one day and domain: 25 million appends.
const maxJournalFiles = 500

// Append adds whole lines in one call.
func (j *Journal) Append(ctx context.Context, domain string, day time.Time, lines []byte) error {
	stem := "journal/" + domain + "/" + day.UTC().Format(time.DateOnly)
	for n := j.hint(stem); n <= maxJournalFiles; n++ {
		err := j.blobs.Append(ctx, journalFile(stem, n), lines)
		if err == nil {
			j.keep(stem, n)
			return nil
		}
		if !fault.Is(err, fault.Refused) {
			return fmt.Errorf("journal of domain %s: %w", domain, err)
		}
	}
	return fault.New(fault.Refused, "journal of domain %s: the day has %d full files", domain, maxJournalFiles)
}

func (j *Journal) hint(stem string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return max(j.last[stem], 1)
}

// keep forgets other days of the domain only with the process: a day has a few bytes.
func (j *Journal) keep(stem string, n int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.last[stem] = max(j.last[stem], n)
}

func journalFile(stem string, n int) string {
	if n == 1 {
		return stem + ".jsonl"
	}
	return fmt.Sprintf("%s.%d.jsonl", stem, n)
}
