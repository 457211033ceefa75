package replay

import (
	"fmt"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/plan"
)

// Report is what a replay found.
type Report struct {
	Domain       string         `json:"domain"`
	Events       int            `json:"events"`            // of this domain
	Foreign      int            `json:"foreign,omitempty"` // events of other domains
	Refused      int            `json:"refused,omitempty"` // events that Ingest would have parked
	Begin        time.Time      `json:"begin,omitzero"`    // the first event
	End          time.Time      `json:"end,omitzero"`      // the last one
	WriteSeconds float64        `json:"writeSeconds"`      // how long each write took
	Targets      []TargetReport `json:"targets"`           // in the order of the domain file
}

// TargetReport is what a replay found for one target. A prefix-second is one prefix for one second, until the write that mends it ends.
type TargetReport struct {
	Target         string   `json:"target"`
	Changes        int      `json:"changes"` // how often news, or the end of a hold-down, changed what the target should hold
	Writes         []Write  `json:"writes"`
	Saved          int      `json:"saved"`                // writes less than one for each change
	DeadSeconds    float64  `json:"deadPrefixSeconds"`    // on a next hop that is down, with another one at hand
	MissingSeconds float64  `json:"missingPrefixSeconds"` // without a route
	BetterSeconds  float64  `json:"betterPrefixSeconds"`  // on a working path that is not the best, or with a route that nobody announces
	Managed        int      `json:"managedRoutes"`        // at the end
	Routes         int      `json:"routes"`               // at the end, unmanaged ones included
	Refused        []string `json:"refusals,omitempty"`   // what could not be done, at the end
	Timeline       []Moment `json:"timeline"`             // all but the writes
}

// Write is one write of the table.
type Write struct {
	At      time.Time `json:"at"`
	Done    time.Time `json:"done"`
	Dead    int       `json:"dead"`    // prefixes that it took off a dead next hop
	Missing int       `json:"missing"` // prefixes that had no route
	Better  int       `json:"better"`  // prefixes that it moved to a better one, or withdrew
	Added   []Change  `json:"added,omitempty"`
	Changed []Change  `json:"changed,omitempty"`
	Removed []Change  `json:"removed,omitempty"`
}

// Change is what a write did to one prefix; From is empty for an addition, To for a removal. Several next hops stand with commas between them.
type Change struct {
	Prefix string `json:"prefix"`
	From   string `json:"from,omitempty"`
	To     string `json:"to,omitempty"`
}

// Moment is something that happened.
type Moment struct {
	At   time.Time `json:"at"`
	Text string    `json:"text"`
}

// count counts an event of the domain.
func (r *Report) count(entry journal.Entry) {
	if r.Events == 0 {
		r.Begin = entry.At
	}
	r.Events++
	r.End = entry.At
}

func (r *TargetReport) write(at, done time.Time, p plan.Plan, c coalesce.Change) {
	r.Writes = append(r.Writes, Write{
		At: at, Done: done, Dead: c.Dead, Missing: c.Missing, Better: c.Better,
		Added: changes(p.Added), Changed: changes(p.Changed), Removed: changes(p.Removed),
	})
}

func changes(list []plan.Change) []Change {
	var out []Change
	for _, c := range list {
		out = append(out, Change{Prefix: c.Prefix.String(), From: c.From.String(), To: c.To.String()})
	}
	return out
}

// describe says what a change is good for.
func describe(c coalesce.Change) string {
	var parts []string
	for _, part := range []struct {
		n    int
		what string
	}{{c.Dead, "on a dead next hop"}, {c.Missing, "without a route"}, {c.Better, "not on the best path"}} {
		if part.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", part.n, part.what))
		}
	}
	return strings.Join(parts, ", ")
}
