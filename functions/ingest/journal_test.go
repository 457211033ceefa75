package ingest_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// journalWorld is a store with one domain of one NVA, and everything else that Ingest needs; effects are noted in their order.
type journalWorld struct {
	effects  []string
	lines    map[string][]string // by domain and day
	saveErr  error
	writeErr error
	log      bytes.Buffer
}

func (w *journalWorld) Domain(_ context.Context, name string) (documents.Domain, error) {
	if name != "hub" {
		return documents.Domain{}, fault.New(fault.NotFound, "no domain %s", name)
	}
	d := &config.Domain{Name: "hub", NVAs: []config.NVA{{Name: "nva-a"}}, Targets: []config.Target{{Name: "spokes", NVAs: []string{"nva-a"}}}}
	return documents.Domain{Config: d}, nil
}

func (w *journalWorld) NVA(_ context.Context, domain, name string) (*state.NVA, string, error) {
	return state.NewNVA(domain, name), "", nil
}

func (w *journalWorld) SaveNVA(context.Context, *state.NVA, string) (string, error) {
	w.effects = append(w.effects, "save")
	return "1", w.saveErr
}

func (w *journalWorld) Target(_ context.Context, domain string, t config.Target) (*state.Target, string, error) {
	return state.NewTarget(domain, t.Name, t.RouteTable), "", nil
}

func (w *journalWorld) Orders(context.Context, string) (*state.Orders, string, error) {
	return state.NewOrders("hub"), "", nil
}

func (w *journalWorld) SaveOrders(context.Context, *state.Orders, string) (string, error) {
	return "", nil
}

func (w *journalWorld) SaveTarget(context.Context, *state.Target, string) (string, error) {
	w.effects = append(w.effects, "save target")
	return "1", w.saveErr
}

func (w *journalWorld) AppendHistory(context.Context, string, string, time.Time, any) error {
	w.effects = append(w.effects, "history")
	return w.writeErr
}

func (w *journalWorld) Send(context.Context, wake.Wake, time.Time) error {
	w.effects = append(w.effects, "wake")
	return nil
}

func (w *journalWorld) Park(context.Context, ingest.Parked) error {
	w.effects = append(w.effects, "park")
	return nil
}

func (w *journalWorld) Append(ctx context.Context, domain string, day time.Time, lines []byte) error {
	w.effects = append(w.effects, "journal")
	if _, bounded := ctx.Deadline(); !bounded {
		return errors.New("the call has no deadline")
	}
	for line := range strings.Lines(string(lines)) {
		entry, err := journal.Parse([]byte(line))
		if err != nil {
			return err
		}
		key := domain + " " + day.UTC().Format(time.DateOnly)
		w.lines[key] = append(w.lines[key], entry.ID()+" "+entry.At.Format(time.TimeOnly))
	}
	return w.writeErr
}

func (w *journalWorld) handle(t *testing.T, batch ...invocation.Message) error {
	t.Helper()
	w.lines = map[string][]string{}
	in := &ingest.Ingest{
		Store: w, Wakes: w, Lot: w, Journal: w, Now: func() time.Time { return journalDay }, Log: slog.New(slog.NewTextHandler(&w.log, nil)),
		Pause: func(context.Context, time.Duration) {},
	}
	return in.Handle(t.Context(), batch)
}

var journalDay = time.Date(2026, 3, 1, 23, 59, 58, 0, time.UTC)

// journalMessage is the event seq of an NVA, accepted seq seconds after journalDay.
func journalMessage(t *testing.T, domain, nva string, seq uint64) invocation.Message {
	t.Helper()
	body, err := event.Encode(event.Event{Domain: domain, NVA: nva, Kind: event.Alive, Version: event.Version{Epoch: 1, Seq: seq}, Boot: "b", Beat: seq})
	if err != nil {
		t.Fatal(err)
	}
	return invocation.Message{Body: body, ID: domain + nva, SequenceNumber: int64(seq), EnqueuedAt: journalDay.Add(time.Duration(seq) * time.Second)}
}

func TestWhatWasAcceptedIsInTheJournalLast(t *testing.T) {
	w := &journalWorld{}
	err := w.handle(t,
		journalMessage(t, "hub", "nva-a", 1), journalMessage(t, "hub", "nva-z", 2), journalMessage(t, "hub", "nva-a", 3),
		journalMessage(t, "elsewhere", "nva-a", 4), invocation.Message{Body: []byte("no event"), SequenceNumber: 5})
	if err != nil {
		t.Fatal(err)
	}
	want := map[string][]string{"hub 2026-03-01": {"hub/nva-a/1/1 23:59:59"}, "hub 2026-03-02": {"hub/nva-a/1/3 00:00:01"}}
	if diff := cmp.Diff(want, w.lines); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"save", "wake", "save", "park", "park", "park", "journal", "journal"}, w.effects); diff != "" {
		t.Error(diff)
	}
}

func TestALostJournalLineFailsNothing(t *testing.T) {
	w := &journalWorld{writeErr: errors.New("no network")}
	if err := w.handle(t, journalMessage(t, "hub", "nva-a", 1)); err != nil {
		t.Errorf("the batch is given back: %v", err)
	}
	if !strings.Contains(w.log.String(), "the journal lacks events") || !strings.Contains(w.log.String(), "no network") {
		t.Errorf("the log does not say so: %s", w.log.String())
	}
}

func TestWhatIsGivenBackIsNotInTheJournal(t *testing.T) {
	w := &journalWorld{saveErr: errors.New("no network")}
	if err := w.handle(t, journalMessage(t, "hub", "nva-a", 1)); err == nil {
		t.Error("the batch is not given back")
	}
	if len(w.lines) != 0 {
		t.Errorf("journal: %v", w.lines)
	}
}
