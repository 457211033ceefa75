package config

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/signature"
)

// Operator is somebody who may give orders, and which.
type Operator struct {
	Name    string
	Keys    []signature.Key // one of these signs every order of this operator; at least one
	Orders  []order.Kind    // empty: all
	NVAs    []string        // empty: all
	Targets []string        // empty: all
}

// May reports whether the operator may give the order.
func (o Operator) May(given order.Order) bool {
	of := o.Targets
	if given.Kind.OfNVA() {
		of = o.NVAs
	}
	return (len(o.Orders) == 0 || slices.Contains(o.Orders, given.Kind)) && (len(of) == 0 || slices.Contains(of, given.Subject()))
}

// Warrant says what an order of a domain needs in order to count.
type Warrant uint8

// The warrants.
const (
	WarrantNone   Warrant = iota + 1 // nothing: whoever may send to the queue may give orders
	WarrantSigned                    // the signature of an operator
	WarrantNever                     // no order counts
)

// String returns the word that Status shows: which orders are accepted.
func (w Warrant) String() string {
	switch w {
	case WarrantNone:
		return "all"
	case WarrantSigned:
		return "signed"
	case WarrantNever:
		return "none"
	}
	return fmt.Sprintf("warrant-%d", uint8(w))
}

// Warrant returns what orders need. Where NVAs have keys they are not trusted to speak for each other; an unsigned order would let each of them do more than
// that, so none counts until the file says who may give them.
func (d *Domain) Warrant() Warrant {
	switch {
	case len(d.Operators) > 0:
		return WarrantSigned
	case slices.ContainsFunc(d.NVAs, func(n NVA) bool { return len(n.Keys) > 0 }):
		return WarrantNever
	}
	return WarrantNone
}

// WarrantAdvice says what is not as it should be about who may give orders; "" if nothing is.
func (d *Domain) WarrantAdvice() string {
	switch d.Warrant() {
	case WarrantNone:
		return "whoever may send to the queue, every agent included, may give orders (drain, pause, approve): the domain file has no operators"
	case WarrantNever:
		return "every order (drain, pause, approve) is refused: NVAs have keys, and the domain file has no operators"
	case WarrantSigned:
	}
	return ""
}

// OperatorKeys returns the keys of all operators, in the order of the file.
func (d *Domain) OperatorKeys() []signature.Key {
	var out []signature.Key
	for _, o := range d.Operators {
		out = append(out, o.Keys...)
	}
	return out
}

// OperatorOf returns the operator who has the key.
func (d *Domain) OperatorOf(k signature.Key) (Operator, bool) {
	i := slices.IndexFunc(d.Operators, func(o Operator) bool { return slices.Contains(o.Keys, k) })
	if i < 0 {
		return Operator{}, false
	}
	return d.Operators[i], true
}

// maxOperators keeps the search for a key short.
const maxOperators = 100

const (
	wantOperatorKey = "the line that pointsman keygen prints: ed25519: and 44 characters of base64"
	wantOrder       = "drain, resume, pause, unpause, approve or override"
)

// operators reads who may give orders. owners has the keys of the NVAs: a stolen NVA must not have an operator's.
func operators(n located.Node, d *Domain, owners map[signature.Key]string) []Operator {
	var out []Operator
	names := map[string]bool{}
	list := items(n, "at least one operator, or no operators at all")
	if len(list) > maxOperators {
		n.Reportf("%d operators: want at most %d", len(list), maxOperators)
	}
	for _, item := range list {
		m := item.Map("name", "keys", "orders", "nvas", "targets")
		o := Operator{
			Keys:    keys(m.Need("keys", "a list of one public key, or two while one replaces the other"), wantOperatorKey, "take the operator out", "operator", owners),
			Orders:  orderKinds(m.Get("orders")),
			NVAs:    subjects(m.Get("nvas"), "an NVA", "NVA, or no nvas at all for every NVA of the domain", func(s string) bool { _, known := d.NVA(s); return known }),
			Targets: subjects(m.Get("targets"), "a target", "target, or no targets at all for every target of the domain", func(s string) bool { _, known := d.Keeps(s); return known }),
		}
		o.Name = uniqueName(m.Need("name", wantName), names)
		for _, k := range o.Keys {
			owners[k] = cmp.Or(o.Name, "an operator above")
		}
		out = append(out, o)
	}
	return out
}

func orderKinds(n located.Node) []order.Kind {
	var out []order.Kind
	for _, item := range items(n, "at least one of "+wantOrder+", or no orders at all for every kind") {
		k, ok := located.Value(item, wantOrder, parseOrderKind)
		switch {
		case !ok:
		case slices.Contains(out, k):
			item.Reportf("the order %s stands twice", k)
		default:
			out = append(out, k)
		}
	}
	return out
}

func parseOrderKind(s string) (order.Kind, error) {
	for _, k := range order.Kinds() {
		if s == k.String() {
			return k, nil
		}
	}
	return 0, fmt.Errorf("found %q", s)
}

// subjects reads names of NVAs or of targets; none stand for all.
func subjects(n located.Node, what, oneOrAll string, known func(string) bool) []string {
	var out []string
	for _, item := range items(n, "at least one "+oneOrAll) {
		s, ok := item.Text("the name of " + what + " of this file")
		switch {
		case !ok:
		case !known(s):
			item.Reportf("%q is not %s of this file", s, what)
		case slices.Contains(out, s):
			item.Reportf("the name %s stands twice", s)
		default:
			out = append(out, s)
		}
	}
	return out
}
