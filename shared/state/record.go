package state

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/route"
)

// Record is the managed routes of a table as last written: the prefixes of each next hop. nil: not known; empty: there are none.
type Record map[string][]netip.Prefix

// NewRecord groups next hops by prefix.
func NewRecord(hops map[netip.Prefix]string) Record {
	w := Record{}
	for p, hop := range hops {
		w[hop] = append(w[hop], p)
	}
	for _, prefixes := range w {
		slices.SortFunc(prefixes, route.Compare)
	}
	return w
}

// Hops returns the next hop of each prefix.
func (w Record) Hops() map[netip.Prefix]string {
	out := map[netip.Prefix]string{}
	for hop, prefixes := range w {
		for _, p := range prefixes {
			out[p] = hop
		}
	}
	return out
}

// Drift is a managed route that is not as it was last written. Next hops are as in Record; "": no route.
type Drift struct {
	Prefix netip.Prefix   `json:"prefix"`
	Wrote  string         `json:"wrote,omitempty"`
	Found  string         `json:"found,omitempty"`
	Since  time.Time      `json:"since,omitzero"`  // when it was first found
	Hands  []outcome.Hand `json:"hands,omitempty"` // who may have done it, where Azure said so
}

// Same reports whether two drifts are one and the same change.
func (d Drift) Same(e Drift) bool {
	return d.Prefix == e.Prefix && d.Wrote == e.Wrote && d.Found == e.Found
}

// String says what happened to the route.
func (d Drift) String() string {
	switch {
	case d.Found == "":
		return fmt.Sprintf("%s via %s was removed", d.Prefix, d.Wrote)
	case d.Wrote == "":
		return fmt.Sprintf("%s via %s was put there", d.Prefix, d.Found)
	}
	return fmt.Sprintf("%s goes via %s instead of %s", d.Prefix, d.Found, d.Wrote)
}

// MaxHands bounds what is remembered of who changed a table.
const MaxHands = 8

// Touch notes that Azure told of a change of the table; twice the same counts once.
func (t *Target) Touch(h outcome.Hand) {
	if slices.ContainsFunc(t.Hands, func(k outcome.Hand) bool { return k.Event == h.Event }) {
		return
	}
	t.Hands = append(slices.Clone(t.Hands), h)
	t.Hands = t.Hands[max(0, len(t.Hands)-MaxHands):]
}
