// Package warrant says whether an operator's order counts.
//
// Orders come by the queue that every agent may send to. Where the domain file has operators an order counts if one of them signed it, may give it, and did so
// just now. What keeps an old order from having an effect again:
//
//	sent again within MaxAge    what holds is the newest by the time that was signed (shared/order): the same order is no news, and whatever was given since is newer
//	sent again later            refused here: the broker accepted it too long after it was signed
//
// The broker's time is that of the first acceptance, so an order that waits in the queue for a function app that is away does not grow old.
package warrant

import (
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/signature"
)

// How far the time that was signed may be from that of the broker. The first bounds how long an order that somebody kept back is good for, the second how long an
// operator with a clock that is fast has the last word.
const (
	MaxAge   = 5 * time.Minute
	MaxAhead = time.Minute
)

// Check reads an encoded order of the domain and says whether it counts. accepted is when the broker accepted it. What is returned is what was signed, where orders
// must be signed, with the operator's proven name before the one that the order gives. An error is Poison.
func Check(body []byte, d *config.Domain, accepted time.Time) (order.Order, error) {
	o, err := order.Decode(body)
	if err != nil {
		return order.Order{}, err
	}
	switch d.Warrant() {
	case config.WarrantNone:
		return o, nil
	case config.WarrantNever:
		return order.Order{}, fault.New(fault.Poison, "order %s is refused: NVAs of domain %s have keys, and the domain file does not say who may give orders", o.MessageID(), d.Name).
			WithAdvice("name operators with their keys there (pointsman keygen makes one)")
	case config.WarrantSigned:
	}
	signed, err := open(body, d, o)
	if err == nil {
		err = timely(signed, accepted)
	}
	if err != nil {
		return order.Order{}, fault.New(fault.Poison, "order %s is refused: %w", o.MessageID(), err)
	}
	return signed, nil
}

// open returns what an operator signed who may give it. That it is about the same NVA or target is checked once more: JSON can be written so that what is read
// depends on the order of its members.
func open(body []byte, d *config.Domain, o order.Order) (order.Order, error) {
	content, by, err := signature.OpenOrder(body, d.OperatorKeys())
	if err != nil {
		return order.Order{}, err
	}
	signed, err := order.Decode(content)
	if err != nil {
		return order.Order{}, err
	}
	if signed.Domain != o.Domain || signed.NVA != o.NVA || signed.Target != o.Target || signed.Domain != d.Name {
		return order.Order{}, fault.New(fault.Poison, "what is signed is about %s of domain %s", signed.Subject(), signed.Domain)
	}
	operator, known := d.OperatorOf(by)
	if !known || !operator.May(signed) {
		return order.Order{}, fault.New(fault.Poison, "operator %s may not %s %s", operator.Name, signed.Kind, signed.Subject()).
			WithAdvice("orders, nvas and targets of the operator in the domain file say what that one may do")
	}
	signed.Operator = operator.Name
	if signed.Who != operator.Name {
		signed.Who = operator.Name + " (" + signed.Who + ")"
	}
	return signed, nil
}

// timely refuses what was signed too long ago, or by a clock that is wrong.
func timely(o order.Order, accepted time.Time) error {
	const advice = "if you gave it, set the clock of the machine that it was given on and give it again; else somebody has sent an old order again"
	stamp := accepted.UTC().Format(time.RFC3339)
	switch age := accepted.Sub(o.Time); {
	case o.Time.IsZero():
		return fault.New(fault.Poison, "it does not say when it was signed").WithAdvice("give it with pointsman, or set time")
	case age > MaxAge:
		return fault.New(fault.Poison, "it was signed %s before the bus accepted it at %s: want at most %s", age.Round(time.Second), stamp, MaxAge).WithAdvice(advice)
	case age < -MaxAhead:
		return fault.New(fault.Poison, "it was signed %s after the bus accepted it at %s: want at most %s", -age.Round(time.Second), stamp, MaxAhead).WithAdvice(advice)
	}
	return nil
}
