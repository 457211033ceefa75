package documents_test

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/budget"
	"github.com/pointsman/pointsman/shared/fault"
)

func TestBudgets(t *testing.T) {
	b := newBlobs()
	store := documents.NewStore(b, 1)
	doc, etag, err := store.Budget(t.Context(), "s")
	if err != nil || etag != "" || doc.Share(time.Now()) != 1 {
		t.Fatalf("a subscription of which nothing is known: %+v, %q, %v", doc, etag, err)
	}
	now := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	doc.Said(20, now)
	saved, err := store.SaveBudget(t.Context(), doc, etag)
	if err != nil {
		t.Fatal(err)
	}
	if _, err = store.SaveBudget(t.Context(), doc, etag); !fault.Is(err, fault.Conflict) {
		t.Errorf("saved over somebody else's: %v", err)
	}
	if doc, etag, err = store.Budget(t.Context(), "s"); err != nil || etag != saved || doc.Left != 20 {
		t.Errorf("%+v, %q, %v", doc, etag, err)
	}
	b.set("budgets/s.json", `{"schema":9}`)
	doc, etag, err = store.Budget(t.Context(), "s")
	if err != nil || doc.Share(now) != 1 {
		t.Fatalf("a document of another version: %+v, %v", doc, err)
	}
	if _, err = store.SaveBudget(t.Context(), budget.New("s"), etag); err != nil {
		t.Errorf("a document of another version is not replaced: %v", err)
	}
}
