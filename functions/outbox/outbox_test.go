package outbox_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/functions/outbox"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/outcome"
)

// world is one document and a topic.
type world struct {
	t         *testing.T
	box       outcome.Outbox
	version   int
	got       []string // ids that the topic took, in order
	refuses   string   // the topic never takes this id
	away      error    // what every call of the topic answers
	unread    error
	meddle    func() // before every save
	readings  int
	deadlines []time.Duration
	log       strings.Builder
}

func newWorld(t *testing.T, n int) *world {
	t.Helper()
	w := &world{t: t, meddle: func() {}}
	w.put(n)
	return w
}

func (w *world) put(n int) {
	first := len(w.box.Events)
	for i := range n {
		w.box.Put(outcome.OfTarget(outcome.RouteChanged, fmt.Sprint(first+i), time.Unix(0, 0), "", outcome.Data{Domain: "hub", Target: "spokes"}))
	}
	w.version++
}

func id(n int) string { return fmt.Sprintf("hub/targets/spokes/%d/changed", n) }

func (w *world) Publish(ctx context.Context, events []outcome.Event) error {
	if at, bounded := ctx.Deadline(); bounded {
		w.deadlines = append(w.deadlines, time.Until(at))
	}
	if w.away != nil {
		return w.away
	}
	for _, e := range events {
		if e.ID == w.refuses {
			return fault.New(fault.Refused, "400: %s", e.ID)
		}
	}
	for _, e := range events {
		w.got = append(w.got, e.ID)
	}
	return nil
}

func (w *world) read(context.Context) (*outcome.Outbox, func(context.Context) error, error) {
	w.readings++
	if w.unread != nil {
		return nil, nil, w.unread
	}
	box, version := w.box, w.version
	box.Events = slices.Clone(box.Events)
	return &box, func(context.Context) error {
		w.meddle()
		if version != w.version {
			return fault.New(fault.Conflict, "another ETag")
		}
		w.box = box
		w.version++
		return nil
	}, nil
}

func (w *world) post() {
	outbox.Post(w.t.Context(), w, slog.New(slog.NewTextHandler(&w.log, nil)), outbox.Box{About: "target hub/spokes", Read: w.read})
}

func (w *world) waits(want ...string) {
	w.t.Helper()
	var got []string
	for _, e := range w.box.Events {
		got = append(got, e.ID)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		w.t.Errorf("in the document, -want +got:\n%s", diff)
	}
}

func (w *world) logs(text string) {
	w.t.Helper()
	if !strings.Contains(w.log.String(), text) {
		w.t.Errorf("the log lacks %q:\n%s", text, w.log.String())
	}
}

func TestWhatIsSentIsTakenOut(t *testing.T) {
	w := newWorld(t, 2)
	w.post()
	w.waits()
	if diff := cmp.Diff([]string{id(0), id(1)}, w.got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if len(w.deadlines) != 1 || w.deadlines[0] > outbox.Patience {
		t.Errorf("the topic was given %v", w.deadlines)
	}
	w.post()
	if len(w.got) != 2 || w.readings != 3 {
		t.Errorf("an empty outbox costs more than a look: %d sent, %d readings", len(w.got), w.readings)
	}
}

// An outage of the topic, or of the store before anything is sent, changes nothing; the next one who posts sends all.
func TestOutageLosesNothing(t *testing.T) {
	w := newWorld(t, 2)
	w.away = errors.New("no such host")
	w.post()
	w.waits(id(0), id(1))
	w.logs("not sent yet")
	w.away, w.unread = nil, errors.New("the store is away")
	w.post()
	w.unread = nil
	w.put(1)
	w.post()
	w.waits()
	if diff := cmp.Diff([]string{id(0), id(1), id(2)}, w.got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Somebody writes the document while events are sent: what they put in stays. If the document cannot be saved, the events are sent again.
func TestOtherWriters(t *testing.T) {
	w := newWorld(t, 1)
	once := false
	w.meddle = func() {
		if !once {
			once = true
			w.put(1)
		}
	}
	w.post()
	w.waits(id(1))
	w.meddle = func() { w.version++ }
	w.post()
	w.waits(id(1))
	w.logs("will be sent again")
	w.meddle = func() {}
	w.post()
	w.waits()
	if diff := cmp.Diff([]string{id(0), id(1), id(1)}, w.got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// An event that the topic will never take does not keep the others back for ever: it is dropped and counted.
func TestARefusedEventDoesNotBlock(t *testing.T) {
	w := newWorld(t, 3)
	w.refuses = id(1)
	w.post()
	w.waits()
	if diff := cmp.Diff([]string{id(0), id(2)}, w.got); diff != "" || w.box.Dropped != 1 {
		t.Errorf("%d dropped, -want +got:\n%s", w.box.Dropped, diff)
	}
	w.logs("level=ERROR")
	w.logs(id(1))
}
