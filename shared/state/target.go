package state

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/later"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/wake"
)

// Intent is one writer's claim to a target, made before it reads the table. A live one keeps others away; one that has run
// out is a warning that its owner may still send a write, until a newer write has moved the table's ETag.
type Intent struct {
	Run  string `json:"run"`
	Wake string `json:"wake"` // id of the message that led to the run
	// Sequence is the number that the broker gave that message, the same at each delivery; with it the message is told from others of its id.
	Sequence int64     `json:"sequence,omitempty"`
	Since    time.Time `json:"since"`
	Until    time.Time `json:"until"`
	// Fenced: a later run wrote the table's own content to make this run's late write fail, and the ETag did not move. Nothing more
	// can be done about it; the run itself reads the documents again after its write.
	Fenced bool `json:"fenced,omitempty"`
	// Ahead: the run saves what a write will make of the managed routes before it sends it. So if the run dies, its work is known for what it is.
	Ahead   bool     `json:"ahead,omitempty"`
	Writing []Record `json:"writing,omitempty"` // what its writes so far may have made of them, but for those whose end it knows
	// Traceparent is the run's own span, for those who leave their news to it; empty where no spans are exported.
	Traceparent string `json:"traceparent,omitempty"`
}

// Outcome is how a reconcile of a target ended.
type Outcome uint8

// The outcomes.
const (
	Written   Outcome = iota + 1 // the table was changed
	Unchanged                    // the table is as desired
	Waiting                      // the change is not yet worth a write; FireAt says when it is
	Busy                         // another operation holds the table
	Throttled                    // the subscription's quota is used up
	Denied                       // a right, a lock or a policy forbids the write
	Refused                      // a limit or a guard forbids part of the change
	Failed                       // anything else; tried again
	Observed                     // the target is only observed, or paused: the change is shown
	Held                         // the change waits for an operator's approval
)

// Outcomes returns all outcomes, in order.
func Outcomes() []Outcome {
	return []Outcome{Written, Unchanged, Waiting, Busy, Throttled, Denied, Refused, Failed, Observed, Held}
}

// Unwritten reports whether there is a change that was left for later, or for somebody else: the table is not as desired, and nothing is wrong.
func (o Outcome) Unwritten() bool { return o == Waiting || o == Observed || o == Held }

// String returns the word that Status and metrics show.
func (o Outcome) String() string {
	switch o {
	case Written:
		return "written"
	case Unchanged:
		return "unchanged"
	case Waiting:
		return "waiting"
	case Busy:
		return "busy"
	case Throttled:
		return "throttled"
	case Denied:
		return "denied"
	case Refused:
		return "refused"
	case Failed:
		return "failed"
	case Observed:
		return "observed"
	case Held:
		return "held"
	}
	return fmt.Sprintf("outcome-%d", uint8(o))
}

// MarshalText implements encoding.TextMarshaler.
func (o Outcome) MarshalText() ([]byte, error) { return []byte(o.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler; an unknown word is an outcome of a newer version and reads as Failed.
func (o *Outcome) UnmarshalText(text []byte) error {
	*o = Failed
	for _, known := range Outcomes() {
		if known.String() == string(text) {
			*o = known
		}
	}
	return nil
}

// Result is the last reconcile of a target.
type Result struct {
	At       time.Time `json:"at"`
	Outcome  Outcome   `json:"outcome"`
	Code     string    `json:"code,omitempty"`    // the service's error code
	Message  string    `json:"message,omitempty"` // what happened and what to do about it
	ETag     string    `json:"etag,omitempty"`    // of the table when it was last seen as desired
	Added    int       `json:"added,omitempty"`
	Changed  int       `json:"changed,omitempty"`
	Removed  int       `json:"removed,omitempty"`
	Routes   int       `json:"routes"`             // in the table, unmanaged ones included
	Duration float64   `json:"durationSeconds"`    // of the reconcile
	Cause    string    `json:"cause,omitempty"`    // the wake that led to it
	Events   []string  `json:"events,omitempty"`   // ids of the events behind the wake
	Blocked  []string  `json:"blocked,omitempty"`  // prefixes that an unmanaged route holds, "prefix (route name)"
	Refused  []string  `json:"refused,omitempty"`  // announcements that were not used, with the reason; at most a few
	Warnings []string  `json:"warnings,omitempty"` // what a person should look at
}

// Pending is a change that waits for company: the staleness that it has gathered, in weighted prefix-seconds.
type Pending struct {
	Since   time.Time `json:"since"`
	At      time.Time `json:"at"` // when Accrued was last brought up to date
	Accrued float64   `json:"accrued"`
	Weight  float64   `json:"weight"` // per second from At on
	// News is what led to it, for the history.
	News wake.News `json:"news,omitzero"`
}

// Staleness is what has been gathered by then, in weighted prefix-seconds; nothing waits where p is nil.
func (p *Pending) Staleness(now time.Time) float64 {
	if p == nil {
		return 0
	}
	return p.Accrued + p.Weight*max(0, now.Sub(p.At)).Seconds()
}

// ECMPRefusal says that Azure takes no route with several next hops in the target's table: not every region does.
type ECMPRefusal struct {
	At      time.Time `json:"at"`
	Config  string    `json:"config"`  // ETag of the domain file that asked for such routes
	Message string    `json:"message"` // what Azure said
}

// ECMPRetry is how long a refusal is believed.
const ECMPRetry = 24 * time.Hour

// Holds reports whether the refusal still counts: with another domain file, and once a day, it is tried again. A nil refusal never does.
func (r *ECMPRefusal) Holds(config string, now time.Time) bool {
	return r != nil && r.Config == config && now.Before(r.At.Add(ECMPRetry))
}

// Target is what is known of one target.
type Target struct {
	Schema  int      `json:"schema"` // as it was read; the codec writes what the document needs
	Domain  string   `json:"domain"`
	Name    string   `json:"target"`
	Table   string   `json:"routeTable"`        // ARM id of the table, or of the Route Server, that the rest is about
	Owned   []string `json:"owned,omitempty"`   // names of the routes, or peers, that Pointsman wrote or was about to write, lower case, sorted
	Intents []Intent `json:"intents,omitempty"` // oldest first
	Wakes   uint64   `json:"wakes"`             // wakes folded into the run in flight
	// Left is what led to those that the run has not looked at yet, for the history.
	Left wake.News `json:"left,omitzero"`
	// NotBefore is when the service wants to be asked again; only the follow-up that was sent for it may come a little earlier.
	NotBefore time.Time         `json:"notBefore,omitzero"`
	FireAt    time.Time         `json:"fireAt,omitzero"` // when a waiting change is written
	Pending   *Pending          `json:"pending,omitempty"`
	NoECMP    *ECMPRefusal      `json:"noEcmp,omitempty"`
	Applied   map[string]uint64 `json:"applied,omitempty"` // revision of each NVA's document behind the table (invariant I2)
	Result    Result            `json:"result,omitzero"`
	Carried   []Carried         `json:"carried,omitempty"`  // who carries what and why, as of the last result that left the table as desired
	Writes    uint64            `json:"writes"`             // PUTs that were applied
	Counts    map[string]uint64 `json:"outcomes,omitempty"` // reconciles by outcome
	Trouble   time.Time         `json:"troubleSince,omitzero"`
	LastGood  time.Time         `json:"lastGood,omitzero"` // when the table was last known to be as desired
	Pause     Pause             `json:"pause,omitzero"`
	Approval  Approval          `json:"approval,omitzero"`
	Proposal  *Proposal         `json:"proposal,omitempty"` // what the last result that left the table as it was would have written
	Subnets   []Subnet          `json:"subnets,omitempty"`  // those that use the table, in the order of their ids

	View   string    `json:"view,omitempty"`     // the view (package group) that the table was last brought to; empty: the target is in no group
	ViewAt time.Time `json:"viewSince,omitzero"` // when it was

	Written Record         `json:"written,omitzero"`  // the managed routes as last written
	Maybe   []Record       `json:"maybe,omitempty"`   // what writes since may have made of them, whose end is not known
	Drifted []Drift        `json:"drifted,omitempty"` // managed routes that another hand changed and that were not written again
	Hands   []outcome.Hand `json:"hands,omitempty"`   // changes of the table that Azure told of since the last run ended; at most MaxHands

	Outcomes outcome.Outbox `json:"outcomeEvents,omitzero"` // what is still to be told to the outside
	Told     ToldTarget     `json:"told,omitzero"`

	RouteServer *RouteServer `json:"routeServer,omitempty"` // nil: the target is a route table, or was never looked at

	Later later.Rest `json:"-"` // what a later version said
}

// ToldTarget is what the outside was told of a target last, so that a state is told once.
type ToldTarget struct {
	Frozen bool      `json:"frozen,omitempty"`
	Failed string    `json:"failed,omitempty"` // outcome and code of the trouble
	Since  time.Time `json:"since,omitzero"`   // of either
}

// Carried is a set of prefixes that have the same next hops for one reason.
type Carried struct {
	NVAs     []string       `json:"nvas"`     // the best first
	NextHops []netip.Addr   `json:"nextHops"` // ascending
	Why      string         `json:"why"`      // for people: "nva-a is down since 2026-05-28T12:03:04Z (expired, witnessed by nva-b)"
	Prefixes []netip.Prefix `json:"prefixes"`
}

// NewTarget returns the document of a target that was never reconciled.
func NewTarget(domain, name, table string) *Target {
	return &Target{Schema: firstSchema, Domain: domain, Name: name, Table: table}
}

// Copy returns a document that shares nothing with t that a run could change. What is only ever replaced as a whole is shared: the names owned, what led to the result, who
// carries what, the managed routes as written, what waits, what is still to be told.
func (t *Target) Copy() *Target {
	c := *t
	c.Intents, c.Maybe = slices.Clone(t.Intents), slices.Clip(t.Maybe)
	if t.RouteServer != nil {
		c.RouteServer = t.RouteServer.Copy()
	}
	return &c
}

// Owns reports whether the document says that the route of that name was written by Pointsman.
func (t *Target) Owns(name string) bool {
	_, found := slices.BinarySearch(t.Owned, strings.ToLower(name))
	return found
}

// Claim adds names to those owned; it reports whether any was new. It comes before the write that creates them: a crash in
// between leaves a name that nobody uses, never a route that nobody owns.
func (t *Target) Claim(names []string) bool {
	grown := false
	for _, name := range names {
		name = strings.ToLower(name)
		if t.Owns(name) {
			continue
		}
		if !grown {
			t.Owned, grown = slices.Clone(t.Owned), true
		}
		i, _ := slices.BinarySearch(t.Owned, name)
		t.Owned = slices.Insert(t.Owned, i, name)
	}
	return grown
}

// Disown forgets all names that keep does not hold.
func (t *Target) Disown(keep map[string]bool) {
	gone := func(name string) bool { return !keep[name] }
	if slices.ContainsFunc(t.Owned, gone) {
		t.Owned = slices.DeleteFunc(slices.Clone(t.Owned), gone)
	}
}

// Holder returns the live intent of another run, if there is one.
func (t *Target) Holder(run string, now time.Time) (Intent, bool) {
	for _, i := range t.Intents {
		if i.Run != run && now.Before(i.Until) {
			return i, true
		}
	}
	return Intent{}, false
}

// Others reports whether any other run left an intent, live or run out, that was not fenced yet.
func (t *Target) Others(run string) bool {
	return slices.ContainsFunc(t.Intents, func(i Intent) bool { return i.Run != run && !i.Fenced })
}

// Holds reports whether the run's own intent is still there.
func (t *Target) Holds(run string) bool {
	return slices.ContainsFunc(t.Intents, func(i Intent) bool { return i.Run == run })
}

// Note records a result and counts its outcome.
func (t *Target) Note(r Result) {
	counts := map[string]uint64{r.Outcome.String(): 1}
	for end, n := range t.Counts {
		counts[end] += n
	}
	t.Counts, t.Result = counts, r
	switch r.Outcome {
	case Written, Unchanged:
		t.Trouble, t.LastGood = time.Time{}, r.At
	case Waiting:
	case Observed, Held:
		t.Trouble = time.Time{}
	case Busy, Throttled, Denied, Refused, Failed:
		if t.Trouble.IsZero() {
			t.Trouble = r.At
		}
	}
}

// Reach notes that the table is as the view wants it; none where the view is empty.
func (t *Target) Reach(view string, at time.Time) {
	switch view {
	case t.View:
	case "":
		t.View, t.ViewAt = "", time.Time{}
	default:
		t.View, t.ViewAt = view, at
	}
}

// EncodeTarget returns the document as JSON. Equal documents give equal bytes.
func EncodeTarget(t *Target) ([]byte, error) {
	w := *t
	w.Schema = t.schema()
	return marshal(w, t.Later, "document of target "+t.Name)
}

// DecodeTarget reads what EncodeTarget wrote.
func DecodeTarget(body []byte) (*Target, error) {
	t, more, err := later.Decode(body, func() *Target { return &Target{} })
	if err != nil {
		return nil, fmt.Errorf("document of a target: %w", err)
	}
	if err = readable(t.Schema, "document of target "+t.Name); err != nil {
		return nil, err
	}
	if more {
		t.Later, err = rest(body, t, EncodeTarget)
	}
	return t, err
}
