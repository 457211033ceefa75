package ingest

import (
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/signature"
)

// prove parts a group into what one of the keys has signed, read from what was signed and nothing else, and what is refused. Without keys
// all of it counts as it came.
func (i *Ingest) prove(g *group, keys []signature.Key) (signed *group, refused []Parked) {
	if len(keys) == 0 {
		return g, nil
	}
	signed = &group{domain: g.domain, nva: g.nva, way: g.way}
	for _, it := range g.items {
		if it.Order != nil { // an operator's: see warrant
			signed.items = append(signed.items, it)
			continue
		}
		e, err := proven(it, keys)
		if err != nil {
			refused = append(refused, i.park(it.Message, err))
			continue
		}
		signed.items = append(signed.items, Item{Message: it.Message, Event: e})
	}
	return signed, refused
}

// proven returns the event that was signed. That it is of the NVA whose keys were tried is checked once more: JSON can be written so that what is
// read depends on the order of its members.
func proven(it Item, keys []signature.Key) (event.Event, error) {
	content, by, err := signature.Open(it.Message.Body, keys)
	if err != nil {
		return event.Event{}, fault.New(fault.Poison, "event %s is refused: %w", it.Event.ID(), err)
	}
	e, err := event.Decode(content)
	if err != nil {
		return event.Event{}, fault.New(fault.Poison, "event %s is refused: %w", it.Event.ID(), err)
	}
	if e.Domain != it.Event.Domain || e.NVA != it.Event.NVA {
		return event.Event{}, fault.New(fault.Poison, "event %s is refused: what is signed is of nva %s/%s", it.Event.ID(), e.Domain, e.NVA)
	}
	e.SignedBy = by.ID()
	return e, nil
}
