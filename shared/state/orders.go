package state

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/shared/order"
)

// OrderOf returns an operator's word about an NVA. at is when the broker accepted it.
func OrderOf(o order.Order, at time.Time) Order {
	return Order{Drain: o.Kind == order.Drain, At: at, ID: o.ID, Who: o.Who, Why: o.Why, Operator: o.Operator, Signed: o.Signed()}
}

// moment is when an order was given, and which it is.
type moment struct {
	at, signed time.Time // the broker's clock; the operator's, zero: not signed
	id         string
}

// counts is the time by which orders are compared. Who signed an order said when, and nobody else can make it later; the time at which the broker accepted it is
// that of whoever sent it last.
func (m moment) counts() time.Time {
	if m.signed.IsZero() {
		return m.at
	}
	return m.signed
}

// compare orders moments: by the time that counts, then by identity. Of one signed order that was accepted twice the first acceptance holds.
func (m moment) compare(n moment) int {
	return cmp.Or(m.counts().Compare(n.counts()), cmp.Compare(m.id, n.id), n.at.Compare(m.at))
}

// belated reports whether a signed order that was accepted after another is older than it. No order of two that were given one after the other is, however they are
// delivered: it was sent again by somebody, or one of two clocks is wrong.
func (m moment) belated(n moment) bool {
	return !m.signed.IsZero() && m.at.After(n.at) && m.id != n.id && m.compare(n) < 0
}

// Pause is an operator's newest word on whether a target is to be left alone. The zero value is none.
type Pause struct {
	On  bool      `json:"on"` // nothing is written; else: the target goes by the domain file
	At  time.Time `json:"at"` // the broker's clock
	ID  string    `json:"id"`
	Who string    `json:"who"`
	Why string    `json:"why,omitempty"`

	Operator string    `json:"operator,omitempty"` // who signed it; "": nobody had to
	Signed   time.Time `json:"signed,omitzero"`    // when, by that one's clock
}

func (p Pause) moment() moment { return moment{p.At, p.Signed, p.ID} }

// Approval is an operator's newest word on a plan of a target. The zero value is none. It holds for one writing of that one plan: it ends with the write,
// or when the plan is seen to be another one.
type Approval struct {
	Plan     string    `json:"plan"`               // its hash
	Override bool      `json:"override,omitempty"` // the guards of shares let it pass
	At       time.Time `json:"at"`                 // the broker's clock
	ID       string    `json:"id"`
	Who      string    `json:"who"`
	Why      string    `json:"why,omitempty"`
	Ended    time.Time `json:"ended,omitzero"`
	End      string    `json:"end,omitempty"` // ApprovalWritten, or why it is void

	Operator string    `json:"operator,omitempty"` // who signed it; "": nobody had to
	Signed   time.Time `json:"signed,omitzero"`    // when, by that one's clock
}

func (a Approval) moment() moment { return moment{a.At, a.Signed, a.ID} }

// ApprovalWritten is the end of an approval whose plan was written.
const ApprovalWritten = "written"

// Open reports whether the approval still holds.
func (a Approval) Open() bool { return a.ID != "" && a.Ended.IsZero() }

// Obey takes an operator's word about the target in. at is when the broker accepted it. It reports whether that is news; an older or a repeated order
// changes nothing, and one that has ended stays so.
func (t *Target) Obey(o order.Order, at time.Time) (changed bool) {
	given := moment{at, o.Signed(), o.ID}
	switch {
	case o.Kind.OfNVA() || given.compare(t.moment(o.Kind)) <= 0:
		return false
	case o.Kind.OfPlan():
		a := Approval{Plan: o.Plan, Override: o.Kind == order.Override, At: at, ID: o.ID, Who: o.Who, Why: o.Why, Operator: o.Operator, Signed: o.Signed()}
		if a.ID == t.Approval.ID { // sent again
			a.Ended, a.End = t.Approval.Ended, t.Approval.End
		}
		t.Approval = a
	default:
		t.Pause = Pause{On: o.Kind == order.Pause, At: at, ID: o.ID, Who: o.Who, Why: o.Why, Operator: o.Operator, Signed: o.Signed()}
	}
	return true
}

// Belated reports whether an order was accepted after the one that holds and, by what its operator signed, is older: see moment.
func (t *Target) Belated(o order.Order, at time.Time) bool {
	return moment{at, o.Signed(), o.ID}.belated(t.moment(o.Kind))
}

// moment is that of the order of the kind's sort that holds.
func (t *Target) moment(k order.Kind) moment {
	if k.OfPlan() {
		return t.Approval.moment()
	}
	return t.Pause.moment()
}

// Proposal is a plan that was not written: it is only shown, or it waits for an approval.
type Proposal struct {
	Plan    string           `json:"plan"`  // its hash: what an approval names
	Since   time.Time        `json:"since"` // when it was first seen
	Added   []ProposedChange `json:"added,omitempty"`
	Changed []ProposedChange `json:"changed,omitempty"`
	Removed []ProposedChange `json:"removed,omitempty"`
}

// ProposedChange is what would happen to one prefix. From is empty for an addition, To for a removal.
type ProposedChange struct {
	Prefix netip.Prefix `json:"prefix"`
	From   string       `json:"from,omitempty"`
	To     string       `json:"to,omitempty"`
}

// Subnet is what is known of a subnet that uses the target's table.
type Subnet struct {
	ID       string         `json:"id"`
	Prefixes []netip.Prefix `json:"prefixes,omitempty"`
	At       time.Time      `json:"at"` // when it was read
}

// Said is an order as histories keep it.
type Said struct {
	Kind string `json:"kind"`
	NVA  string `json:"nva,omitempty"`
	Plan string `json:"plan,omitempty"`
	ID   string `json:"id"`
	Who  string `json:"who"`
	Why  string `json:"why,omitempty"`

	Operator string `json:"operator,omitempty"`
}
