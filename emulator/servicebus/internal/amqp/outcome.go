package amqp

import "fmt"

// OutcomeKind is the terminal state of a delivery (part 3, section 3.4).
type OutcomeKind int

// The four outcomes.
const (
	Accepted OutcomeKind = iota + 1
	Rejected
	Released
	Modified
)

// String is the name that the specification uses.
func (k OutcomeKind) String() string {
	switch k {
	case Accepted:
		return "accepted"
	case Rejected:
		return "rejected"
	case Released:
		return "released"
	case Modified:
		return "modified"
	default:
		return fmt.Sprintf("OutcomeKind(%d)", int(k))
	}
}

// outcomeBase is the descriptor of accepted; the others follow in the order of the constants.
const outcomeBase uint64 = 0x24

// Outcome is the state in a disposition.
type Outcome struct {
	Kind              OutcomeKind
	Error             *Error // of Rejected
	DeliveryFailed    bool   // of Modified
	UndeliverableHere bool   // of Modified
	Annotations       Map    // of Modified
}

func (o *Outcome) value() any {
	if o == nil {
		return nil
	}
	var f List
	switch o.Kind {
	case Accepted, Released:
		f = List{}
	case Rejected:
		f = List{o.Error.value()}
	case Modified:
		f = List{o.DeliveryFailed, o.UndeliverableHere, nil}
		if o.Annotations != nil {
			f[2] = o.Annotations
		}
	}
	return composite(outcomeBase+uint64(o.Kind-Accepted), f)
}

// outcome reads a delivery state; one that is no outcome (received, transactional) is an error.
func (r *reader) outcome(i int) *Outcome {
	v := r.at(i)
	if v == nil {
		return nil
	}
	d, _ := v.(Described)
	code, isCode := d.Descriptor.(uint64)
	list, isList := d.Value.(List)
	if !isCode || !isList || code < outcomeBase || code > outcomeBase+3 {
		r.fail(malformed("delivery state %v", d.Descriptor))
		return nil
	}
	o := &Outcome{Kind: Accepted + OutcomeKind(code-outcomeBase)}
	in := reader{list: list}
	switch o.Kind {
	case Rejected:
		o.Error = in.error(0)
	case Modified:
		o.DeliveryFailed = field(&in, 0, false)
		o.UndeliverableHere = field(&in, 1, false)
		o.Annotations = field(&in, 2, Map(nil))
	case Accepted, Released:
	}
	r.fail(in.err)
	return o
}
