// Package drift wakes a target when Azure says that somebody else has changed its table. It reads no table and writes none.
package drift

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/ingest"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// Store is where the domain files and the counts are. SaveDriftCounts answers fault.Conflict when somebody else wrote first.
type Store interface {
	Domains(ctx context.Context) ([]string, error)
	Domain(ctx context.Context, name string) (documents.Domain, error)
	DriftCounts(ctx context.Context) (doc *state.DriftCounts, etag string, err error)
	SaveDriftCounts(ctx context.Context, doc *state.DriftCounts, etag string) (newETag string, err error)
}

// Wakes sends a wake, to be delivered at once or at a time. It returns nil only when the broker has it; sending twice is harmless.
type Wakes interface {
	Send(ctx context.Context, w wake.Wake, at time.Time) error
}

// Drift is the function. All fields are needed.
type Drift struct {
	Store Store
	Wakes Wakes
	Lot   ingest.Lot
	Own   Identity
	Now   func() time.Time
	Log   *slog.Logger
}

// Identity is who writes tables for Pointsman, as Azure calls it; what is not known is "". Writes under it are Pointsman's.
type Identity struct {
	AppID    string // client id, the claim "appid"
	ObjectID string // of the service principal, the claim "objectidentifier"
}

// result is what became of an event.
type result string

// The results, as they are counted.
const (
	woken   result = "woken"   // a target was woken
	own     result = "own"     // Pointsman's own write
	other   result = "other"   // about something that no target is
	unknown result = "unknown" // of a type that this function does not know
	parked  result = "parked"  // no event of Azure's at all
)

// Results returns the words that events are counted by.
func Results() []string {
	return []string{string(woken), string(own), string(other), string(unknown), string(parked)}
}

// maxConflicts bounds the tries of the counts against other writers.
const maxConflicts = 10

// Handle takes one event. The order of effects: a wake for each target that the event is about; or the event is parked; then it is counted,
// where a failure is logged and nothing else. An error gives the event back to Event Grid, which sends it again for a day.
//
// Whose write it was is told by the claims of ARM's event alone: it carries neither the ETag nor the routes that were written, and a read could
// not tell either, as the table may have been written again since. So the identity must be Pointsman's alone. An event without claims, as
// Azure Resource Notifications are, always wakes: a look that finds the table as written costs two reads and no write.
func (d *Drift) Handle(ctx context.Context, body []byte) error {
	e, err := decode(body)
	r := parked
	if err == nil {
		r, err = d.take(ctx, e)
	} else {
		err = d.park(ctx, body, err)
	}
	if err != nil {
		return err
	}
	telemetry.Of(ctx).Set(telemetry.Result, string(r))
	if err = d.count(ctx, r); err != nil {
		d.Log.WarnContext(ctx, "an event is not counted", slog.Any("error", err))
	}
	return nil
}

// take wakes the targets that the event is about.
func (d *Drift) take(ctx context.Context, e notice) (result, error) {
	log := d.Log.With(slog.String("id", e.ID), slog.String("type", e.Type), slog.String("resource", e.Resource), slog.String("by", e.By))
	switch {
	case !e.known():
		log.InfoContext(ctx, "an event of an unknown type is acknowledged")
		return unknown, nil
	case d.Own.wrote(e):
		log.DebugContext(ctx, "our own write")
		return own, nil
	}
	wakes, err := d.wakes(ctx, e)
	if err != nil {
		return "", err
	}
	for _, w := range wakes {
		if err = d.Wakes.Send(ctx, w, time.Time{}); err != nil {
			return "", fmt.Errorf("wake %s/%s: %w", w.Domain, w.Target, err)
		}
		log.InfoContext(ctx, "another hand changed the table of a target", slog.String("domain", w.Domain), slog.String("target", w.Target))
	}
	if len(wakes) == 0 {
		log.DebugContext(ctx, "an event about no target is acknowledged")
		return other, nil
	}
	return woken, nil
}

// wakes returns a wake for each target whose table or Route Server, or a route or peer of it, the event is about. A domain without a valid file has no targets; every
// other trouble is an error, or the event would be lost.
func (d *Drift) wakes(ctx context.Context, e notice) ([]wake.Wake, error) {
	names, err := d.Store.Domains(ctx)
	if err != nil {
		return nil, fmt.Errorf("event %s: %w", e.ID, err)
	}
	var out []wake.Wake
	var failed error
	for _, name := range names {
		domain, trouble := d.Store.Domain(ctx, name)
		if fault.Is(trouble, fault.Poison) || fault.Is(trouble, fault.NotFound) {
			continue
		}
		if trouble != nil {
			failed = errors.Join(failed, trouble)
			continue
		}
		for _, t := range domain.Config.All() {
			if within(e.Resource, t.RouteTable) {
				hand := e.hand()
				out = append(out, wake.Wake{Domain: name, Target: t.Name, Cause: "drift/" + e.ID, Hand: &hand})
			}
		}
	}
	return out, failed
}

// within reports whether a resource is the table or a part of it. ARM compares ids without case.
func within(resource, table string) bool {
	resource, table = strings.ToLower(strings.Trim(resource, "/")), strings.ToLower(strings.Trim(table, "/"))
	return resource == table || strings.HasPrefix(resource, table+"/")
}

// wrote reports whether the event is about a write of this identity.
func (i Identity) wrote(e notice) bool {
	return i.AppID != "" && strings.EqualFold(i.AppID, e.appID) || i.ObjectID != "" && strings.EqualFold(i.ObjectID, e.objectID)
}

func (d *Drift) park(ctx context.Context, body []byte, why error) error {
	p := ingest.Parked{At: d.Now(), ID: "drift-" + fingerprint(body), Reason: why.Error(), Body: string(body)}
	d.Log.WarnContext(ctx, "event parked", slog.String("id", p.ID), slog.String("reason", p.Reason))
	telemetry.Of(ctx).Add(telemetry.Parked, 1)
	if err := d.Lot.Park(ctx, p); err != nil {
		return fmt.Errorf("park event %s: %w", p.ID, err)
	}
	return nil
}

// count adds one to the events with that result, against other writers.
func (d *Drift) count(ctx context.Context, r result) error {
	for range maxConflicts {
		doc, etag, err := d.Store.DriftCounts(ctx)
		if err != nil {
			return err
		}
		doc.Events[string(r)]++
		doc.Last = d.Now()
		if _, err = d.Store.SaveDriftCounts(ctx, doc, etag); !fault.Is(err, fault.Conflict) {
			return err
		}
	}
	return errors.New("the counts of drift change faster than they can be saved")
}
