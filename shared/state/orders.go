package state

import (
	"cmp"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/shared/order"
)

// OrderOf returns an operator's word about an NVA. at is when the broker accepted it.
func OrderOf(o order.Order, at time.Time) Order {
	return Order{Drain: o.Kind == order.Drain, At: at, ID: o.ID, Who: o.Who, Why: o.Why}
}

// Pause is an operator's newest word on whether a target is to be left alone. The zero value is none.
type Pause struct {
	On  bool      `json:"on"` // nothing is written; else: the target goes by the domain file
	At  time.Time `json:"at"` // the broker's clock
	ID  string    `json:"id"`
	Who string    `json:"who"`
	Why string    `json:"why,omitempty"`
}

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
}

// ApprovalWritten is the end of an approval whose plan was written.
const ApprovalWritten = "written"

// Open reports whether the approval still holds.
func (a Approval) Open() bool { return a.ID != "" && a.Ended.IsZero() }

// Obey takes an operator's word about the target in. at is when the broker accepted it. It reports whether that is news; an older or a repeated order
// changes nothing, and one that has ended stays so.
func (t *Target) Obey(o order.Order, at time.Time) (changed bool) {
	newer := func(oldAt time.Time, oldID string) bool {
		return cmp.Or(at.Compare(oldAt), cmp.Compare(o.ID, oldID)) > 0
	}
	switch o.Kind {
	case order.Pause, order.Unpause:
		if newer(t.Pause.At, t.Pause.ID) {
			t.Pause, changed = Pause{On: o.Kind == order.Pause, At: at, ID: o.ID, Who: o.Who, Why: o.Why}, true
		}
	case order.Approve, order.Override:
		if !newer(t.Approval.At, t.Approval.ID) {
			return false
		}
		a := Approval{Plan: o.Plan, Override: o.Kind == order.Override, At: at, ID: o.ID, Who: o.Who, Why: o.Why}
		if a.ID == t.Approval.ID { // sent again
			a.Ended, a.End = t.Approval.Ended, t.Approval.End
		}
		t.Approval, changed = a, true
	case order.Drain, order.Resume: // of an NVA
	}
	return changed
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
}
