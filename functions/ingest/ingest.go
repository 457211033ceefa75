// Package ingest takes the agents' events in: it merges them into the NVAs' documents and wakes the targets that they feed.
package ingest

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/functions/invocation"
	"github.com/pointsman/pointsman/functions/telemetry"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/wake"
)

// Store is where the documents are. Save answers fault.Conflict when somebody else wrote first.
type Store interface {
	Domain(ctx context.Context, name string) (documents.Domain, error)
	NVA(ctx context.Context, domain, name string) (doc *state.NVA, etag string, err error)
	SaveNVA(ctx context.Context, doc *state.NVA, etag string) (newETag string, err error)
	Target(ctx context.Context, domain string, t config.Target) (doc *state.Target, etag string, err error)
	SaveTarget(ctx context.Context, doc *state.Target, etag string) (newETag string, err error)
	Orders(ctx context.Context, domain string) (doc *state.Orders, etag string, err error)
	SaveOrders(ctx context.Context, doc *state.Orders, etag string) (newETag string, err error)
	AppendHistory(ctx context.Context, domain, target string, at time.Time, line any) error
}

// Wakes sends a wake, to be delivered at once or at a time. It returns nil only when the broker has it; sending twice is harmless.
type Wakes interface {
	Send(ctx context.Context, w wake.Wake, at time.Time) error
}

// Lot is where messages are parked that can never be used. Parking one twice is harmless.
type Lot interface {
	Park(ctx context.Context, p Parked) error
}

// Parked is a poison message with the reason why.
type Parked struct {
	At       time.Time `json:"at"`
	ID       string    `json:"messageId"`
	Sequence int64     `json:"sequenceNumber"`
	Reason   string    `json:"reason"`
	Body     string    `json:"body"`

	order bool // an order about a domain that has a file, and it does not count
}

// Beliefs tells the outside when what is believed of a domain's NVAs has changed. Looking once too often is harmless.
type Beliefs interface {
	Look(ctx context.Context, domain string)
}

// Ingest is the function. All fields but Journal and Beliefs are needed.
type Ingest struct {
	Store Store
	Wakes Wakes
	Lot   Lot
	Now   func() time.Time
	Log   *slog.Logger
	// Journal keeps accepted events for replay; nil: they are not kept.
	Journal Journal
	// Beliefs is told of domains where what is believed of NVAs may have changed; nil: nobody is.
	Beliefs Beliefs
	// Patience is how long all of a batch is tried again, with Pause between tries, before it is given back to the broker: giving it back counts
	// as a failed delivery of every message in it, and the host gives it back without any pause.
	Patience time.Duration
	Pause    func(ctx context.Context, d time.Duration)
}

// maxConflicts bounds the tries of one document against other writers; each failed one means that another one succeeded.
const maxConflicts = 50

// nearlyDead is the delivery count from which a message is worth a warning.
const nearlyDead = 5

// Handle takes a batch in. The order of effects, for each NVA in the batch:
//
//  1. merge all its events that are signed as the domain file wants into its document, count the others there, and save it, with the outbox flag set if
//     targets must look, if it still has the ETag of the read;
//  2. send a wake for each target that it feeds and those of their groups, or for all of the domain if what is believed of NVAs may have changed;
//  3. clear the outbox flag; then, if operators' orders were among them, add those to the histories of the targets that it feeds;
//  4. count the orders that are refused, where a failure is logged and nothing else, and park what can never be used;
//  5. add what was accepted to the journal, where a failure is logged and nothing else;
//  6. look whether the outside is to be told of NVAs, likewise. After a redelivery too: the first delivery may have died before it.
//
// Operators' orders that count (shared/warrant) and are about an NVA are merged like its events; for those about a target see orders.go.
//
// Only then are the messages completed (by the host, after the answer). A crash before 1 changes nothing; after 1 the messages come
// again, change nothing, and find the flag set: the wakes are sent then. An error gives the whole batch back, but only after all that can be
// done was done: one NVA's trouble must not keep the others' news.
func (i *Ingest) Handle(ctx context.Context, batch []invocation.Message) error {
	noteBatch(ctx, batch)
	items, parked := i.read(ctx, batch)
	return i.Take(ctx, items, parked)
}

// Take is Handle for messages that were read already: items, and those that could not be read and are parked.
func (i *Ingest) Take(ctx context.Context, items []Item, parked []Parked) error {
	taken := i.Now()
	giveUp := taken.Add(i.Patience)
	groups := gather(items)
	var accepted []Item
	var failed error
	for _, g := range groups {
		g.way.taken = taken
		refused, err := i.patiently(ctx, g, giveUp)
		parked = append(parked, refused...)
		failed = errors.Join(failed, err)
		if err != nil {
			continue
		}
		i.countRefused(ctx, g.domain, refused)
		if i.Journal != nil {
			accepted = append(accepted, g.accepted(refused)...)
		}
	}
	noteParked(ctx, parked)
	for _, p := range parked {
		i.Log.WarnContext(ctx, "event parked", slog.String("id", p.ID), slog.String("reason", p.Reason))
		if err := i.Lot.Park(ctx, p); err != nil {
			failed = errors.Join(failed, fmt.Errorf("park message %s: %w", p.ID, err))
		}
	}
	i.record(ctx, accepted)
	i.look(ctx, groups)
	return failed
}

// look is step 6, once for each domain.
func (i *Ingest) look(ctx context.Context, groups []*group) {
	if i.Beliefs == nil {
		return
	}
	looked := map[string]bool{}
	for _, g := range groups {
		again := slices.ContainsFunc(g.items, func(it Item) bool { return it.Message.DeliveryCount > 1 })
		if (g.wide || again) && g.known && !looked[g.domain] {
			looked[g.domain] = true
			i.Beliefs.Look(ctx, g.domain)
		}
	}
}

// group is what one batch holds for one NVA, or for one target.
type group struct {
	domain, nva, target string // nva or target is ""
	items               []Item
	known               bool // the domain file has the NVA
	wide                bool // what is believed of NVAs may have changed, or the NVA is not alone with its name
	way                 way
}

// Item is a message with what it says.
type Item struct {
	Message invocation.Message
	Event   event.Event
	Order   *order.Order // instead of an event
}

// about returns what the item is about: an NVA or a target of a domain.
func (it Item) about() group {
	if it.Order != nil {
		return group{domain: it.Order.Domain, nva: it.Order.NVA, target: it.Order.Target}
	}
	return group{domain: it.Event.Domain, nva: it.Event.NVA}
}

// id returns the event's or the order's.
func (it Item) id() string {
	if it.Order != nil {
		return it.Order.MessageID()
	}
	return it.Event.ID()
}

// decode reads an agent's event or an operator's order.
func decode(m invocation.Message) (Item, error) {
	e, err := event.Decode(m.Body)
	if err == nil || !order.Is(m.Body) {
		return Item{Message: m, Event: e}, err
	}
	o, err := order.Decode(m.Body)
	return Item{Message: m, Order: &o}, err
}

// read decodes the batch.
func (i *Ingest) read(ctx context.Context, batch []invocation.Message) (items []Item, parked []Parked) {
	for _, m := range batch {
		if m.DeliveryCount >= nearlyDead {
			i.Log.WarnContext(ctx, "a message was delivered many times", slog.String("id", m.ID), slog.Int("deliveries", m.DeliveryCount))
		}
		it, err := decode(m)
		if err != nil {
			parked = append(parked, i.park(m, err))
			continue
		}
		items = append(items, it)
	}
	return items, parked
}

// gather gathers the items by NVA and target, in the order of arrival.
func gather(items []Item) (groups []*group) {
	byName := map[[3]string]*group{}
	for n, it := range items {
		about := it.about()
		key := [3]string{about.domain, about.nva, about.target}
		g := byName[key]
		if g == nil {
			g = &about
			g.items = make([]Item, 0, min(len(items)-n, 8))
			byName[key] = g
			groups = append(groups, g)
		}
		g.items = append(g.items, it)
	}
	return groups
}

func (i *Ingest) park(m invocation.Message, why error) Parked {
	return Parked{At: i.Now(), ID: m.ID, Sequence: m.SequenceNumber, Reason: why.Error(), Body: string(m.Body)}
}

// patiently tries a group again while the trouble is passing, once at least.
func (i *Ingest) patiently(ctx context.Context, g *group, giveUp time.Time) ([]Parked, error) {
	for pause := 100 * time.Millisecond; ; pause *= 2 {
		parked, err := i.take(ctx, g)
		if err == nil || i.Now().Add(pause).After(giveUp) {
			return parked, err
		}
		i.Log.WarnContext(ctx, "events are not merged yet", slog.String("nva", g.nva), slog.Any("error", err))
		i.Pause(ctx, pause)
	}
}

// take merges one NVA's events and wakes its targets.
func (i *Ingest) take(ctx context.Context, g *group) ([]Parked, error) {
	d, err := i.Store.Domain(ctx, g.domain)
	if fault.Is(err, fault.NotFound) || fault.Is(err, fault.Poison) {
		return i.parkAll(g, err), nil
	}
	if err != nil {
		return nil, err
	}
	if g.target != "" {
		return i.takeTarget(ctx, d.Config, g)
	}
	nva, known := d.Config.NVA(g.nva)
	if !known {
		return i.parkAll(g, fault.New(fault.Poison, "the domain file %s has no nva %s", g.domain, g.nva).
			WithAdvice("add it there, or correct nva and domain in the agent's configuration")), nil
	}
	g.known = true
	warranted, orders := i.warrant(g, d.Config)
	signed, refused := i.prove(warranted, nva.Keys)
	span := begin(ctx, signed)
	step := span.Step("merge")
	doc, etag, parked, err := i.merge(ctx, signed, refused)
	step.End(err)
	if err != nil {
		span.End(err)
		return nil, err
	}
	g.wide = g.wide || doc.Wide || doc.Clone != nil
	signed.way.merged = i.Now()
	step = span.Step("wake")
	err = i.post(ctx, d.Config, doc, etag, signed)
	step.End(err)
	span.End(err)
	unusable := len(parked)
	parked = slices.Concat(orders, refused, parked)
	if err != nil {
		return parked, err
	}
	noteMerged(ctx, signed, len(refused), unusable)
	if g.ordered() {
		i.chronicle(ctx, warranted.accepted(parked), d.Config.FedBy(g.nva))
	}
	return parked, nil
}

func (i *Ingest) parkAll(g *group, why error) []Parked {
	parked := make([]Parked, len(g.items))
	for n, it := range g.items {
		parked[n] = i.park(it.Message, why)
	}
	return parked
}

// merge brings the events into the document, and notes those that were refused, against other writers.
func (i *Ingest) merge(ctx context.Context, g *group, refused []Parked) (doc *state.NVA, etag string, parked []Parked, err error) {
	for range maxConflicts {
		doc, etag, err = i.Store.NVA(ctx, g.domain, g.nva)
		if err != nil {
			return nil, "", nil, err
		}
		was, changed := standingOf(doc), false
		changed, parked = i.mergeAll(doc, g)
		for _, p := range refused {
			doc.Refuse(p.At, p.Reason)
		}
		if !changed && len(refused) == 0 {
			return doc, etag, parked, nil
		}
		etag, err = i.Store.SaveNVA(ctx, doc, etag)
		if err == nil {
			i.tell(ctx, doc, was)
			return doc, etag, parked, nil
		}
		if !fault.Is(err, fault.Conflict) {
			return nil, "", nil, err
		}
	}
	return nil, "", nil, fmt.Errorf("document of nva %s/%s changes faster than it can be merged: %w", g.domain, g.nva, err)
}

// standing is what of an NVA is told when it changes.
type standing struct {
	silent, controlLost bool
	clone               *state.Clone
}

func standingOf(doc *state.NVA) standing {
	return standing{silent: doc.Silent(), controlLost: doc.ControlLost(), clone: doc.Clone}
}

// tell logs that an NVA has fallen silent, is heard again, has lost its routing daemon or has it back, or is not alone with its name: alerts go by these
// lines.
func (i *Ingest) tell(ctx context.Context, doc *state.NVA, was standing) {
	record, name := telemetry.Of(ctx), doc.Domain+"/"+doc.Name
	about := []any{slog.String("domain", doc.Domain), slog.String("nva", doc.Name), slog.Time("since", doc.Since)}
	switch {
	case doc.Silent() && !was.silent:
		record.Note(telemetry.Silent, name)
		i.Log.WarnContext(ctx, "nva is silent", about...)
	case was.silent && !doc.Silent():
		record.Note(telemetry.Heard, name)
		i.Log.InfoContext(ctx, "nva is heard again", about...)
	}
	switch {
	case doc.ControlLost() && !was.controlLost:
		record.Note(telemetry.ControlLost, name)
		i.Log.WarnContext(ctx, "nva has lost its routing daemon: its routes are those of before", append(about, slog.Any("sessions", doc.Report.ControlLost))...)
	case was.controlLost && !doc.ControlLost():
		record.Note(telemetry.ControlBack, name)
		i.Log.InfoContext(ctx, "nva has its routing daemon back", about...)
	}
	if c, double := doc.Clone, was.clone; c != nil && (double == nil || double.Boot != c.Boot || double.Epoch != c.Epoch) {
		record.Note(telemetry.Cloned, name)
		i.Log.WarnContext(ctx, "a second agent speaks in the name of an nva", append(about, slog.String("boot", c.Boot), slog.Uint64("epoch", c.Epoch), slog.Uint64("newestEpoch", doc.Epoch))...)
	}
}

func (i *Ingest) mergeAll(doc *state.NVA, g *group) (changed bool, parked []Parked) {
	before := doc.Revision
	g.way.fresh = 0
	for _, it := range g.items {
		at := i.enqueued(it)
		if it.Order != nil {
			o := state.OrderOf(*it.Order, at)
			if doc.Belated(o) {
				parked = append(parked, i.refuse(it, belated(it, doc.Order.ID, doc.Order.Who)))
			}
			changed = doc.Obey(o) || changed
			continue
		}
		news, err := doc.MergeLate(it.Event, at, i.Now())
		if err != nil {
			parked = append(parked, i.park(it.Message, err))
		}
		if news {
			g.way.fresh++
		}
		changed = changed || news
	}
	if doc.Revision != before {
		doc.Outbox = true
	}
	return changed, parked
}

// post sends the wakes that the document's outbox flag asks for and clears it. When somebody else writes the document before
// it is cleared, that writer has seen the flag too and posts for both.
func (i *Ingest) post(ctx context.Context, d *config.Domain, doc *state.NVA, etag string, g *group) error {
	if !doc.Outbox {
		return nil
	}
	fed := d.FedBy(doc.Name)
	if doc.Wide {
		fed = d.All()
	}
	for _, t := range slices.Concat(d.Units(fed)...) { // the wakes of a group one after the other
		if err := i.Wakes.Send(ctx, wakeFor(d.Name, t.Name, doc, g), time.Time{}); err != nil {
			return fmt.Errorf("wake %s/%s: %w", d.Name, t.Name, err)
		}
	}
	doc.Outbox, doc.Wide = false, false
	if _, err := i.Store.SaveNVA(ctx, doc, etag); err != nil && !fault.Is(err, fault.Conflict) {
		return err
	}
	return nil
}

func wakeFor(domain, target string, doc *state.NVA, g *group) wake.Wake {
	w := wake.Wake{Domain: domain, Target: target, Cause: fmt.Sprintf("%s/%d", doc.Name, doc.Revision), Sent: g.sent()}
	w.Traceparent, w.Links = g.traces()
	for _, it := range g.items {
		if len(w.Events) < wake.MaxEvents {
			w.Events = append(w.Events, it.id())
		}
	}
	return w
}
