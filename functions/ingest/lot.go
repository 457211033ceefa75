package ingest

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/pointsman/pointsman/shared/fault"
)

// Shelf is the container of parked messages: Put replaces a value unconditionally, List returns the names below a prefix.
type Shelf interface {
	Put(ctx context.Context, name string, data []byte) error
	List(ctx context.Context, prefix string) ([]string, error)
}

// ShelfLot parks each message as one JSON document, named by day and message, so that parking it twice leaves one.
type ShelfLot struct{ Shelf Shelf }

// Park implements Lot.
func (l ShelfLot) Park(ctx context.Context, p Parked) error {
	body, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return fault.New(fault.Bug, "encode parked message %s: %w", p.ID, err)
	}
	if err = l.Shelf.Put(ctx, parkedName(p), body); err != nil {
		return fmt.Errorf("park message %s: %w", p.ID, err)
	}
	return nil
}

// Parked returns how many messages are parked.
func (l ShelfLot) Parked(ctx context.Context) (int, error) {
	names, err := l.Shelf.List(ctx, "")
	if err != nil {
		return 0, fmt.Errorf("list parked messages: %w", err)
	}
	return len(names), nil
}

// parkedName uses what the broker gave the message, never what stands in it: both are unique in the queue, and neither can
// reach outside the container.
func parkedName(p Parked) string {
	id := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '-' {
			return r
		}
		return '_'
	}, p.ID)
	return fmt.Sprintf("%d-%.100s.json", p.Sequence, id)
}
