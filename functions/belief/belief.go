// Package belief tells the outside when what is believed of an NVA changes.
//
// What is believed follows from the documents of all NVAs of a domain, so it is compared with what was told last, in a document of the domain's
// own: level, not edge. Whoever takes in an event that may change it looks, and so does every sweep, for what changes by time alone.
package belief

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/outbox"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/state"
)

// Store is where the documents are. SaveBeliefs answers fault.Conflict when somebody else wrote first.
type Store interface {
	Domain(ctx context.Context, name string) (documents.Domain, error)
	NVAs(ctx context.Context, d *config.Domain) (map[string]*state.NVA, error)
	outbox.Beliefs
}

// Teller tells. All fields but Topic are needed.
type Teller struct {
	Store Store
	Topic outbox.Topic // nil: changes are counted (package telemetry), and nobody outside is told
	Now   func() time.Time
	Log   *slog.Logger
}

// maxConflicts bounds the tries of a document against other writers.
const maxConflicts = 10

// Look compares what is believed of the domain's NVAs with what was told, and tells the difference. The order of effects: the documents of the
// NVAs are read after the one that says what was told, which is saved with the new events, if it still has that ETag; then the events are sent
// and taken out. Nothing but the events depends on it, so a failure is logged, and made good by the next look.
func (t *Teller) Look(ctx context.Context, domain string) {
	if err := t.note(ctx, domain); err != nil {
		t.Log.WarnContext(ctx, "what is believed of NVAs is not told yet", slog.String("domain", domain), slog.Any("error", err))
	}
	if t.Topic == nil {
		return
	}
	outbox.Post(ctx, t.Topic, t.Log, outbox.OfBeliefs(t.Store, domain))
}

// note saves what is to be told.
func (t *Teller) note(ctx context.Context, domain string) error {
	d, err := t.Store.Domain(ctx, domain)
	if err != nil {
		return err
	}
	for range maxConflicts {
		doc, etag, unread := t.Store.Beliefs(ctx, domain)
		if unread != nil {
			return unread
		}
		docs, unread := t.Store.NVAs(ctx, d.Config)
		if unread != nil {
			return unread
		}
		now := t.Now()
		changes, changed := update(doc, d.Config, liveness.Judge(d.Config, docs, now), now)
		clones, more := cloned(doc, d.Config, docs, now)
		if !changed && !more {
			return nil
		}
		if t.Topic != nil {
			doc.Outcomes.Put(slices.Concat(changes, clones)...)
		}
		if _, err = t.Store.SaveBeliefs(ctx, doc, etag); !fault.Is(err, fault.Conflict) {
			if err == nil {
				count(ctx, changes)
			}
			return err
		}
	}
	return fmt.Errorf("beliefs of domain %s change faster than they can be saved", domain)
}

// count tells the record of NVAs that are believed to be in another state now. Who saved that counts it, so it is counted once.
func count(ctx context.Context, changes []outcome.Event) {
	record := telemetry.Of(ctx)
	for _, c := range changes {
		record.Note(telemetry.Liveness, c.Data.Domain+"/"+c.Data.NVA+" "+c.Data.Liveness)
		record.Measure(telemetry.LivenessChanges, 1,
			slog.String(telemetry.AttrDomain, c.Data.Domain), slog.String(telemetry.AttrNVA, c.Data.NVA), slog.String(telemetry.AttrState, c.Data.Liveness))
	}
}

// update brings the document to the beliefs, and returns an event for each that changed. changed reports whether anything did.
func update(doc *state.Beliefs, d *config.Domain, live liveness.View, now time.Time) (events []outcome.Event, changed bool) {
	known := map[string]bool{}
	for _, nva := range d.NVAs {
		known[nva.Name] = true
		b, was := live.Of[nva.Name], doc.NVAs[nva.Name]
		k, worth := kind(b.State)
		if !worth || b.State.String() == was {
			continue
		}
		changed = true
		doc.NVAs[nva.Name] = b.State.String()
		events = append(events, outcome.OfNVA(k, doc.Number(now), now, outcome.Data{
			Domain: d.Name, NVA: nva.Name, Liveness: b.State.String(), Before: was, Since: b.Since, Message: b.Why,
		}))
	}
	for _, name := range slices.Sorted(maps.Keys(doc.NVAs)) {
		if !known[name] {
			delete(doc.NVAs, name) // of an NVA that the domain file no longer has
			changed = true
		}
	}
	return events, changed
}

// cloned brings the document to the NVAs in whose name a second agent speaks, and returns an event for each that is new. That there is none any more is not told: it
// follows from an hour without a sign.
func cloned(doc *state.Beliefs, d *config.Domain, docs map[string]*state.NVA, now time.Time) (events []outcome.Event, changed bool) {
	var names []string
	for _, nva := range d.NVAs {
		n := docs[nva.Name]
		if n == nil || n.Clone == nil {
			continue
		}
		names = append(names, nva.Name)
		if !slices.Contains(doc.Cloned, nva.Name) {
			events = append(events, outcome.OfNVA(outcome.NVACloned, doc.Number(now), now, outcome.Data{
				Domain: d.Name, NVA: nva.Name, Liveness: doc.NVAs[nva.Name], Since: n.Clone.At, Message: n.Clone.Story(nva.Name, n.Epoch),
			}))
		}
	}
	slices.Sort(names)
	changed = !slices.Equal(names, doc.Cloned)
	doc.Cloned = names
	return events, changed
}

// kind says what an NVA that is now in that state is told as; an NVA that was never heard is not.
func kind(s liveness.State) (outcome.Kind, bool) {
	switch s {
	case liveness.Up:
		return outcome.NVAUp, true
	case liveness.Suspect, liveness.ControlLost, liveness.Hold:
		return outcome.NVADoubtful, true
	case liveness.Down, liveness.Draining:
		return outcome.NVADown, true
	case liveness.Unheard:
	}
	return 0, false
}
