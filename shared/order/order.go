// Package order is what an operator says: that an NVA is to carry nothing, that a target is to be left alone, that a plan may be written. It is a
// CloudEvent on the same queue as the agents' events.
//
// Guarantees, on which the receiver rests:
//
//  1. An order is absolute: it says what is to hold from now on, never an operation on what held before.
//  2. ID is unique; an order that is sent again has the same one.
//  3. What holds for an NVA, for a target's pause and for a target's approval is its newest order: by the time that was signed, or, where orders need no
//     signature, by the time at which the broker accepted it; then by ID. So repeating and reordering orders changes nothing, and a signed one that
//     somebody else sends again later is never newer than it was.
package order

import (
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/plan"
)

// Kind is what an order wants.
type Kind uint8

// The kinds of order, version 1 of the schema.
const (
	Drain    Kind = iota + 1 // the NVA is to carry nothing: move away now
	Resume                   // the NVA may carry routes again, also where only an operator gives them back (holdDown: never)
	Pause                    // nothing is written to the target
	Unpause                  // the target goes by the domain file again
	Approve                  // the target's plan of that hash may be written
	Override                 // likewise, and once the guards of shares let it pass
)

// Kinds returns all kinds, in order.
func Kinds() []Kind { return []Kind{Drain, Resume, Pause, Unpause, Approve, Override} }

// String returns the last word of the CloudEvents type.
func (k Kind) String() string {
	switch k {
	case Drain:
		return "drain"
	case Resume:
		return "resume"
	case Pause:
		return "pause"
	case Unpause:
		return "unpause"
	case Approve:
		return "approve"
	case Override:
		return "override"
	}
	return fmt.Sprintf("kind-%d", uint8(k))
}

// OfNVA reports whether the order is about an NVA; else it is about a target.
func (k Kind) OfNVA() bool { return k == Drain || k == Resume }

// OfPlan reports whether the order names a plan.
func (k Kind) OfPlan() bool { return k == Approve || k == Override }

// Order is one word of an operator.
type Order struct {
	Kind   Kind
	Domain string
	NVA    string    // Drain and Resume only
	Target string    // the others only
	Plan   string    // Approve and Override only: the hash of the plan
	ID     string    // a UUID, lower case (RFC 9562)
	Who    string    // as the sender says
	Why    string    // for people; "" with no reason given
	Time   time.Time // the sender's clock; zero: not said

	// Operator is who has signed it, by the name of the domain file; "": nobody has, or it was not checked. It does not go over the bus: see shared/warrant.
	Operator string
}

// Signed is the time by which a signed order comes before or after others: that of its operator's clock. Zero: its signature was not checked.
func (o Order) Signed() time.Time {
	if o.Operator == "" {
		return time.Time{}
	}
	return o.Time
}

// MessageID is the CloudEvents id and the Service Bus MessageID. No event of an agent has it: those carry a number where this has a UUID.
func (o Order) MessageID() string { return o.Domain + "/operator/" + o.ID }

// Subject is the NVA or the target.
func (o Order) Subject() string {
	if o.Kind.OfNVA() {
		return o.NVA
	}
	return o.Target
}

// Bounds of what people write, in bytes.
const (
	MaxWho = 200
	MaxWhy = 1024
)

// check says what is wrong with the order, naming the field.
func (o Order) check() error {
	switch {
	case !slices.Contains(Kinds(), o.Kind):
		return fmt.Errorf("%s is no kind of order", o.Kind)
	case !event.ValidName(o.Domain):
		return fmt.Errorf("domain %q: %s", o.Domain, wantName)
	case o.Kind.OfNVA() && !event.ValidName(o.NVA):
		return fmt.Errorf("nva %q: %s", o.NVA, wantName)
	case !o.Kind.OfNVA() && o.NVA != "":
		return fmt.Errorf("nva is %q: a %s order is about a target", o.NVA, o.Kind)
	case !o.Kind.OfNVA() && !event.ValidName(o.Target):
		return fmt.Errorf("target %q: %s", o.Target, wantName)
	case o.Kind.OfNVA() && o.Target != "":
		return fmt.Errorf("target is %q: a %s order is about an NVA", o.Target, o.Kind)
	case o.Kind.OfPlan() && !hexadecimal(o.Plan, plan.HashLength):
		return fmt.Errorf("plan %q: want the %d hexadecimal digits that pointsman plan and Status show", o.Plan, plan.HashLength)
	case !o.Kind.OfPlan() && o.Plan != "":
		return fmt.Errorf("plan is %q: a %s order names none", o.Plan, o.Kind)
	case !uuid(o.ID):
		return fmt.Errorf("id %q: want a UUID in lower case", o.ID)
	case o.Who == "":
		return fmt.Errorf("who is empty: want who gives the order")
	}
	if err := line("who", o.Who, MaxWho); err != nil {
		return err
	}
	return line("why", o.Why, MaxWhy)
}

const wantName = "want 1 to 40 of a-z, 0-9, -"

// ValidPlan reports whether s may be the hash of a plan.
func ValidPlan(s string) bool { return hexadecimal(s, plan.HashLength) }

// line checks a text that is shown on one line, in logs and terminals.
func line(field, text string, most int) error {
	switch {
	case len(text) > most || !utf8.ValidString(text):
		return fmt.Errorf("%s has %d bytes: want at most %d of UTF-8", field, len(text), most)
	case strings.ContainsFunc(text, unicode.IsControl):
		return fmt.Errorf("%s has a control character: want one line of text", field)
	}
	return nil
}

func uuid(s string) bool {
	parts := strings.Split(s, "-")
	if len(parts) != 5 {
		return false
	}
	for i, n := range []int{8, 4, 4, 4, 12} {
		if !hexadecimal(parts[i], n) {
			return false
		}
	}
	return true
}

// hexadecimal reports whether s is n digits 0-9, a-f.
func hexadecimal(s string, n int) bool {
	return len(s) == n && strings.Trim(s, "0123456789abcdef") == ""
}
