// Package status shows what Pointsman knows and what it last did, from the documents alone: any instance answers the same.
package status

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/budget"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/outcome"
	"github.com/pointsman/pointsman/shared/state"
)

// Store is where the documents are.
type Store interface {
	Domains(ctx context.Context) ([]string, error)
	Domain(ctx context.Context, name string) (documents.Domain, error)
	NVAs(ctx context.Context, d *config.Domain) (map[string]*state.NVA, error)
	Target(ctx context.Context, domain string, t config.Target) (doc *state.Target, etag string, err error)
	Beliefs(ctx context.Context, domain string) (doc *state.Beliefs, etag string, err error)
	Orders(ctx context.Context, domain string) (doc *state.Orders, etag string, err error)
	DriftCounts(ctx context.Context) (doc *state.DriftCounts, etag string, err error)
	Budget(ctx context.Context, subscription string) (doc *budget.Budget, etag string, err error)
}

// Lot counts the parked messages, up to a bound.
type Lot interface {
	Parked(ctx context.Context) (int, error)
}

// Status is the function. All fields are needed.
type Status struct {
	Store Store
	Lot   Lot
	Now   func() time.Time
}

// Report is the whole answer.
type Report struct {
	At      time.Time `json:"at"`
	Parked  int       `json:"parkedMessages"`
	Drift   Drift     `json:"driftEvents,omitzero"`
	Domains []Domain  `json:"domains"`
}

// Drift is what the function Drift did with Azure's events.
type Drift struct {
	Last   time.Time         `json:"last,omitzero"`
	Events map[string]uint64 `json:"events,omitempty"`
}

// Outcomes is the outcome events of one document.
type Outcomes struct {
	Waiting int    `json:"waiting,omitempty"` // not yet taken by the topic
	Dropped uint64 `json:"dropped,omitempty"` // never told: too many waited, or the topic refused them
}

// Domain is one domain file with its NVAs and targets.
type Domain struct {
	Name     string           `json:"name"`
	Frozen   bool             `json:"frozen"`                 // more than half of the NVAs were lost at once: they keep what they carry
	Lost     []string         `json:"lost,omitempty"`         // these
	Problems located.Problems `json:"problems,omitempty"`     // of the newest file, if it is not the one in force
	Error    string           `json:"error,omitempty"`        // why there is nothing to show
	Events   Outcomes         `json:"outcomeEvents,omitzero"` // about the NVAs
	Orders   Orders           `json:"orders,omitzero"`
	NVAs     []NVA            `json:"nvas"`
	Targets  []Target         `json:"targets"`
	Groups   []Group          `json:"groups,omitempty"`
	Budgets  []Budget         `json:"budgets,omitempty"` // of the targets' subscriptions
}

// Orders is what becomes of operators' orders.
type Orders struct {
	Accepted  string          `json:"accepted"`            // all, signed (by an operator of the domain file) or none: see config.Warrant
	Operators []string        `json:"operators,omitempty"` // of the domain file
	Refused   *state.Refusals `json:"refused,omitempty"`   // orders that did not count, since ever
}

// NVA is what is known of one appliance.
type NVA struct {
	Name       string        `json:"name"`
	Liveness   string        `json:"liveness"`
	Since      time.Time     `json:"since,omitzero"` // of the liveness
	Why        string        `json:"why,omitempty"`  // the evidence for it
	HoldDown   time.Time     `json:"holdDownUntil,omitzero"`
	Untold     bool          `json:"waitsToBeTold,omitempty"` // holdDown is never, and no operator has said that it may take prefixes back
	Report     *Witness      `json:"report,omitempty"`        // what its agent says of itself and its peers
	Order      *state.Order  `json:"order,omitempty"`         // an operator's last word
	LastSeen   time.Time     `json:"lastSeen,omitzero"`       // the newest event; beats of a living agent are not events
	Restarting bool          `json:"restarting,omitempty"`
	Notice     string        `json:"notice,omitempty"` // the agent's reason for draining or restarting
	Prefixes   int           `json:"prefixes"`
	Version    event.Version `json:"version"` // newest event
	Missing    uint64        `json:"missingEvents"`
	Differs    bool          `json:"digestDiffers"` // all events are in, and the RIB still differs from the agent's
	Clone      *state.Clone  `json:"clone,omitempty"`

	Keys     []string        `json:"keys,omitempty"`     // ids of the keys of which one must sign its events
	SignedBy string          `json:"signedBy,omitempty"` // id of the key that signed the newest event
	Refused  *state.Refusals `json:"refused,omitempty"`  // events in its name that were not signed as they must be
}

// Witness is what an agent says of itself and its peers.
type Witness struct {
	SelfCheck event.Check  `json:"selfCheck"`
	SelfTest  event.Check  `json:"selfTest"`
	Drain     string       `json:"drain,omitempty"`
	Reason    string       `json:"reason,omitempty"`
	Peers     []event.Peer `json:"peers,omitempty"`

	ControlLost []event.Session `json:"controlLost,omitempty"` // the sessions with routing daemons whose routes are those of before their loss
}

// Target is what is known of one target.
type Target struct {
	Name     string            `json:"name"`
	Table    string            `json:"routeTable"`
	Result   state.Result      `json:"lastResult,omitzero"`
	Trouble  time.Time         `json:"troubleSince,omitzero"`
	LastGood time.Time         `json:"lastGood,omitzero"`
	FireAt   time.Time         `json:"fireAt,omitzero"`
	Stale    float64           `json:"stalenessPrefixSeconds,omitempty"` // what waits until then, weighted
	Managed  int               `json:"managedRoutes"`
	Limit    int               `json:"limit"`
	Writes   uint64            `json:"writes"`
	Outcomes map[string]uint64 `json:"outcomes,omitempty"`
	InFlight []state.Intent    `json:"inFlight,omitempty"`
	Drifted  []state.Drift     `json:"drifted,omitempty"` // managed routes that another hand changed, and that are not written again
	Events   Outcomes          `json:"outcomeEvents,omitzero"`
	Carried  []state.Carried   `json:"carried,omitempty"` // who carries what, and why
	Apply    string            `json:"apply"`             // what becomes of a plan, by the domain file
	Pause    *state.Pause      `json:"pause,omitempty"`   // an operator's last word on whether it is left alone
	Approval *state.Approval   `json:"approval,omitempty"`
	Proposal *state.Proposal   `json:"proposal,omitempty"` // what would be written
	View     string            `json:"view,omitempty"`     // the view that the table was last brought to: tables of a group agree if theirs is one
	ViewAt   time.Time         `json:"viewSince,omitzero"`

	RouteServer *RouteServer `json:"routeServer,omitempty"` // nil: the target is a route table
}

// Report reads everything. only names the one domain to show; empty shows all.
func (s *Status) Report(ctx context.Context, only string) (Report, error) {
	r := Report{At: s.Now(), Domains: []Domain{}}
	parked, err := s.Lot.Parked(ctx)
	if err != nil {
		return r, fmt.Errorf("status: %w", err)
	}
	r.Parked = parked
	counts, _, err := s.Store.DriftCounts(ctx)
	if err != nil {
		return r, fmt.Errorf("status: %w", err)
	}
	r.Drift = Drift{Last: counts.Last, Events: counts.Events}
	names, err := s.Store.Domains(ctx)
	if err != nil {
		return r, fmt.Errorf("status: %w", err)
	}
	for _, name := range names {
		if only != "" && only != name {
			continue
		}
		d, trouble := s.domain(ctx, name)
		if trouble != nil {
			d.Error = trouble.Error()
		}
		r.Domains = append(r.Domains, d)
	}
	return r, nil
}

func (s *Status) domain(ctx context.Context, name string) (Domain, error) {
	out := Domain{Name: name, NVAs: []NVA{}, Targets: []Target{}}
	d, err := s.Store.Domain(ctx, name)
	out.Problems = d.Problems
	if err != nil {
		return out, err
	}
	docs, err := s.Store.NVAs(ctx, d.Config)
	if err != nil {
		return out, err
	}
	live := liveness.Judge(d.Config, docs, s.Now())
	out.Frozen, out.Lost = live.Frozen, live.Lost
	for _, n := range d.Config.NVAs {
		out.NVAs = append(out.NVAs, describeNVA(n, docs[n.Name], live.Of[n.Name]))
	}
	told, _, err := s.Store.Beliefs(ctx, name)
	if err != nil {
		return out, err
	}
	out.Events = describeOutbox(told.Outcomes)
	if out.Orders, err = s.orders(ctx, d.Config); err != nil {
		return out, err
	}
	byName := map[string]*state.Target{}
	for _, t := range d.Config.Targets {
		var doc *state.Target
		if doc, _, err = s.Store.Target(ctx, name, t); err != nil {
			return out, err
		}
		byName[t.Name] = doc
		out.Targets = append(out.Targets, describeTarget(t, doc, s.Now()))
	}
	for _, r := range d.Config.RouteServers {
		doc, _, unread := s.Store.Target(ctx, name, r.AsTarget())
		if unread != nil {
			return out, unread
		}
		shown := describeTarget(r.AsTarget(), doc, s.Now())
		shown.RouteServer = describeServer(d.Config, r, doc)
		out.Targets = append(out.Targets, shown)
	}
	for _, g := range d.Config.Groups {
		out.Groups = append(out.Groups, describeGroup(g, byName, s.Now()))
	}
	out.Budgets, err = s.budgets(ctx, d.Config)
	return out, err
}

func (s *Status) orders(ctx context.Context, d *config.Domain) (Orders, error) {
	out := Orders{Accepted: d.Warrant().String()}
	for _, o := range d.Operators {
		out.Operators = append(out.Operators, o.Name)
	}
	doc, _, err := s.Store.Orders(ctx, d.Name)
	if err == nil && doc.Refused.Count > 0 {
		out.Refused = &doc.Refused
	}
	return out, err
}

func describeNVA(n config.NVA, doc *state.NVA, belief liveness.Belief) NVA {
	out := NVA{Name: n.Name, Liveness: belief.State.String(), Since: belief.Since, Why: belief.Why, HoldDown: belief.Trusted, Untold: belief.Untold}
	for _, k := range n.Keys {
		out.Keys = append(out.Keys, k.ID())
	}
	if doc == nil {
		return out
	}
	out.SignedBy = doc.SignedBy
	if doc.Refused != (state.Refusals{}) {
		out.Refused = &doc.Refused
	}
	if !doc.Report.Empty() {
		w := Witness(doc.Report)
		out.Report = &w
	}
	if doc.Order != (state.Order{}) {
		out.Order = &doc.Order
	}
	out.LastSeen, out.Restarting, out.Version, out.Clone = doc.LastSeen, doc.Restarting(), doc.Claim, doc.Clone
	out.Prefixes = len(doc.RIB())
	out.Missing, out.Differs = doc.Gap()
	if doc.Restarting() || doc.Draining() {
		out.Notice = doc.Notice.Reason
	}
	return out
}

func describeTarget(t config.Target, doc *state.Target, now time.Time) Target {
	inFlight := slices.Clone(doc.Intents)
	for i := range inFlight {
		inFlight[i].Writing = nil // as long as the table
	}
	out := Target{
		Name: t.Name, Table: t.RouteTable, Result: doc.Result, Trouble: doc.Trouble, LastGood: doc.LastGood, FireAt: doc.FireAt, Stale: doc.Pending.Staleness(now),
		Managed: len(doc.Owned), Limit: t.Limit, Writes: doc.Writes, Outcomes: doc.Counts, InFlight: inFlight, Carried: doc.Carried,
		Apply: t.Apply.String(), Proposal: doc.Proposal, Drifted: doc.Drifted, Events: describeOutbox(doc.Outcomes), View: doc.View, ViewAt: doc.ViewAt,
	}
	if doc.Pause.ID != "" {
		out.Pause = &doc.Pause
	}
	if doc.Approval.ID != "" {
		out.Approval = &doc.Approval
	}
	return out
}

func describeOutbox(o outcome.Outbox) Outcomes {
	return Outcomes{Waiting: len(o.Events), Dropped: o.Dropped}
}
