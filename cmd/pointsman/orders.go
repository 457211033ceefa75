package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/azure/servicebus"
	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/message"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/signature"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/shared/warrant"
)

// ordering gives an operator's order.
type ordering struct {
	connection
	bus, namespace, queue string
	domain, who, why, key string
	wait                  bool
}

func (o *ordering) flags(c *cobra.Command) {
	f := c.Flags()
	f.StringVar(&o.domain, "domain", "", "the domain (needed)")
	f.StringVar(&o.why, "why", "", "the reason, for the history and Status")
	f.StringVar(&o.who, "who", "", "who gives the order; empty: who is signed in to Azure, or USER@HOST with a connection string")
	f.StringVar(&o.key, "key", "", "the file of the key that signs the order, as pointsman keygen makes it ("+keyVariable+"); empty: pointsman/operator.key in your configuration directory, if there is one")
	f.StringVar(&o.bus, "bus-connection", "", "connection string of the Service Bus namespace (ServiceBusConnection)")
	f.StringVar(&o.namespace, "bus-namespace", os.Getenv("ServiceBusConnection__fullyQualifiedNamespace"), "instead of it: host name of the namespace, to sign in to (ServiceBusConnection__fullyQualifiedNamespace)")
	f.StringVar(&o.queue, "queue", "route-events", "the queue")
	f.BoolVar(&o.wait, "wait", false, "wait until the order has taken effect, by reading the state store (--timeout)")
	o.stateFlags(c)
}

// orderCommand is a command that gives one kind of order about what its one argument names.
func orderCommand(kind order.Kind, what, short, long, example string) *cobra.Command {
	var o ordering
	c := &cobra.Command{
		Use: kind.String() + " " + what, Short: short, Long: long, Example: example,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error { return o.give(cmd, kind, args[0], "") },
	}
	o.flags(c)
	return c
}

const recorded = ` The order goes to the queue that the agents' events go to, signed with your key if you have one (pointsman keygen): where the domain file has operators it does not count without.
Who gave it and why is kept in the state store and shown by status and history.`

func drainCommand() *cobra.Command {
	return orderCommand(order.Drain, "NVA", "Move all traffic away from an NVA, at once",
		`Let an NVA carry nothing: its prefixes move at once to whoever else announces them, until pointsman resume. A prefix that no other NVA announces stays on it.`+recorded,
		`  pointsman drain nva-a --domain hub --why 'firmware 7.2' --wait`)
}

func resumeCommand() *cobra.Command {
	return orderCommand(order.Resume, "NVA", "Let an NVA carry traffic again",
		`End a drain. The NVA takes its prefixes back after the hold-down. With holdDown: never this word is what gives prefixes back, also to an NVA that was not drained: after a death, say.
For a target that is paused it is pointsman unpause.`+recorded,
		`  pointsman resume nva-a --domain hub --why 'firmware 7.2 is in'`)
}

func pauseCommand() *cobra.Command {
	return orderCommand(order.Pause, "TARGET", "Write nothing to a route table for now",
		`Write nothing to a target's route table until pointsman unpause; what would be written is shown, by status and plan. A write that is on its way ends. Routes stay as they are: traffic to an NVA that dies
meanwhile is lost.`+recorded,
		`  pointsman pause spokes --domain hub --why 'moving to another table' --wait`)
}

func unpauseCommand() *cobra.Command {
	return orderCommand(order.Unpause, "TARGET", "Write to a route table again",
		`End a pause: the target goes by the domain file again, and what has changed meanwhile is written at once. It is not called resume because an NVA and a target may have one name.`+recorded,
		`  pointsman unpause spokes --domain hub`)
}

func approveCommand() *cobra.Command {
	var o ordering
	var plan string
	var override bool
	c := &cobra.Command{
		Use:   "approve TARGET --plan HASH",
		Short: "Let one plan of a route table be written",
		Long: `Approve the plan of that hash, which pointsman plan and status show: with apply: approve in the domain file it is written, if it is still the plan when the table is read again. If the plan has changed the
approval is void. With --override the guards maxRemoved and maxChanged let that plan pass, in any mode; the hash is then the one that the refusal names. An approval is good for one write.` + recorded,
		Example: `  pointsman approve spokes --domain hub --plan 25bfe4c57b9769ed --why 'change 4711'
  pointsman approve spokes --domain hub --plan 25bfe4c57b9769ed --override`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !order.ValidPlan(plan) {
				return fmt.Errorf("%w: --plan is %q: want the hash that pointsman plan and status show, or the one that a refusal names", errInput, plan)
			}
			kind := order.Approve
			if override {
				kind = order.Override
			}
			return o.give(cmd, kind, args[0], plan)
		},
	}
	o.flags(c)
	c.Flags().StringVar(&plan, "plan", "", "the plan's hash (needed)")
	c.Flags().BoolVar(&override, "override", false, "also against the guards maxRemoved and maxChanged")
	return c
}

// give sends the order, and waits for its effect if that is wanted.
func (o *ordering) give(cmd *cobra.Command, kind order.Kind, of, plan string) error {
	ctx, cancel := o.bounded(cmd)
	defer cancel()
	if o.domain == "" {
		return fmt.Errorf("%w: say which domain with --domain", errInput)
	}
	given := order.Order{Kind: kind, Domain: o.domain, Plan: plan, ID: newUUID(), Why: o.why, Time: time.Now().UTC()}
	if kind.OfNVA() {
		given.NVA = of
	} else {
		given.Target = of
	}
	cfg, err := o.sender()
	if err != nil {
		return err
	}
	if given.Who, err = o.name(ctx, cfg); err != nil {
		return err
	}
	m, by, err := o.signed(given)
	if err != nil {
		return err
	}
	var w *watch
	if o.wait {
		if w, err = o.watch(ctx, given, m); err != nil {
			return err
		}
	}
	bus, err := servicebus.NewSender(cfg)
	if err != nil {
		return fmt.Errorf("%w: %w", errInput, err)
	}
	defer func() { _ = bus.Close(context.WithoutCancel(ctx)) }()
	if err = bus.Publish(ctx, []message.Message{m}); err != nil {
		return unreachable(ctx, "queue "+o.queue, err)
	}
	if err = say(cmd.OutOrStdout(), "order %s sent: %s %s of domain %s, by %s%s\n", given.ID, kind, of, o.domain, given.Who, by); err != nil || w == nil {
		return err
	}
	effect, err := w.effect(ctx)
	if err != nil {
		return err
	}
	return say(cmd.OutOrStdout(), "%s\n", effect)
}

// signed returns the order as it is sent, and with which key it is signed, for people.
func (o *ordering) signed(given order.Order) (m message.Message, by string, err error) {
	key, err := orderKey(o.key)
	if err != nil {
		return m, "", err
	}
	if m, err = given.Message(); err != nil {
		return m, "", fmt.Errorf("%w: %w", errInput, err)
	}
	if key == nil {
		return m, "", nil
	}
	if m.Body, err = signature.SignOrder(key, m.Body); err != nil {
		return m, "", fmt.Errorf("sign the order: %w", err)
	}
	return m, ", signed with key " + signature.KeyOf(key).ID(), nil
}

// sender is the way to the queue: a connection string, or a namespace to sign in to.
func (o *ordering) sender() (servicebus.Config, error) {
	cfg := servicebus.Config{Queue: o.queue, Namespace: o.namespace}
	if o.namespace == "" || o.bus != "" {
		cfg.Namespace, cfg.ConnectionString = "", secret(o.bus, "ServiceBusConnection")
	}
	if cfg.ConnectionString == "" && cfg.Namespace == "" {
		return cfg, fmt.Errorf("%w: give the bus with --bus-namespace or --bus-connection", errInput)
	}
	if cfg.Namespace == "" {
		return cfg, nil
	}
	var err error
	cfg.Credential, err = o.credential()
	return cfg, err
}

// name returns who gives the order.
func (o *ordering) name(ctx context.Context, cfg servicebus.Config) (string, error) {
	if o.who != "" {
		return o.who, nil
	}
	if cfg.Credential != nil {
		return signedIn(ctx, cfg.Credential)
	}
	who := "unknown"
	if u, err := user.Current(); err == nil {
		who = u.Username
	}
	if host, err := os.Hostname(); err == nil {
		who += "@" + host
	}
	return who, nil
}

// newUUID returns a random UUID (RFC 9562 section 5.4).
func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// watch follows an order through the documents.
type watch struct {
	store  *documents.Store
	order  order.Order
	domain *config.Domain
}

// watch reads the domain file, so that an order about nothing, or one that would be refused, is not sent.
func (o *ordering) watch(ctx context.Context, given order.Order, m message.Message) (*watch, error) {
	store, err := o.documents()
	if err != nil {
		return nil, err
	}
	d, err := store.Domain(ctx, given.Domain)
	if err != nil {
		return nil, stateTrouble(ctx, err)
	}
	_, nva := d.Config.NVA(given.NVA)
	_, target := d.Config.Keeps(given.Target)
	if _, hub := d.Config.RouteServer(given.Target); hub && given.Kind.OfPlan() {
		return nil, fmt.Errorf("%w: target %s is a Route Server, whose operations need no approval: see apply in the domain file", errInput, given.Target)
	}
	if given.Kind.OfNVA() && !nva || !given.Kind.OfNVA() && !target {
		return nil, fmt.Errorf("%w: the domain file %s has no %s", errInput, given.Domain, given.Subject())
	}
	if _, err = warrant.Check(m.Body, d.Config, given.Time); err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	return &watch{store: store, order: given, domain: d.Config}, nil
}

// lookEvery is the pause between two looks at the documents.
const lookEvery = 300 * time.Millisecond

// effect waits until the order has taken effect and says what it was. An order that can have none any more is an error.
func (w *watch) effect(ctx context.Context) (string, error) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	look := w.target
	if w.order.Kind.OfNVA() {
		look = w.nva
	}
	waitsFor := "the order is not in the state store yet: is the function app running?"
	for {
		done, text, err := look(ctx)
		if err == nil && !done {
			err = w.refused(ctx)
		}
		if err != nil && ctx.Err() == nil || done {
			return text, err
		}
		if err == nil && text != "" {
			waitsFor = text
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("the order was sent and has not taken effect in time (--timeout): %s", waitsFor)
		case <-tick.C:
		}
	}
}

// refused is an error if the order is the last one that did not count.
func (w *watch) refused(ctx context.Context) error {
	doc, _, err := w.store.Orders(ctx, w.order.Domain)
	if err != nil {
		return stateTrouble(ctx, err)
	}
	if strings.Contains(doc.Refused.Reason, w.order.MessageID()) {
		return fmt.Errorf("the order has no effect: %s", doc.Refused.Reason)
	}
	return nil
}

// nva waits until the order stands in the NVA's document, and all its targets rest on that.
func (w *watch) nva(ctx context.Context) (done bool, text string, _ error) {
	doc, _, err := w.store.NVA(ctx, w.order.Domain, w.order.NVA)
	if err != nil {
		return false, "", stateTrouble(ctx, err)
	}
	if doc.Order.ID != w.order.ID {
		return false, "", nil
	}
	var behind []string
	for _, t := range w.domain.FedBy(w.order.NVA) {
		target, _, unread := w.store.Target(ctx, w.order.Domain, t)
		if unread != nil {
			return false, "", stateTrouble(ctx, unread)
		}
		if target.Applied[w.order.NVA] < doc.Revision {
			behind = append(behind, fmt.Sprintf("target %s is %s: %s", t.Name, word(target), target.Result.Message))
		}
	}
	if len(behind) > 0 {
		return false, "it is in force, and not in every table: " + strings.Join(behind, "; "), nil
	}
	return true, fmt.Sprintf("in force, in %d targets", len(w.domain.FedBy(w.order.NVA))), nil
}

func word(doc *state.Target) string {
	if doc.Result.At.IsZero() {
		return "not looked at yet"
	}
	return doc.Result.Outcome.String()
}

// target waits until the order stands in the target's document and, for an approval, has ended one way or the other.
func (w *watch) target(ctx context.Context) (done bool, text string, _ error) {
	t, _ := w.domain.Keeps(w.order.Target)
	doc, _, err := w.store.Target(ctx, w.order.Domain, t)
	if err != nil {
		return false, "", stateTrouble(ctx, err)
	}
	switch a := doc.Approval; {
	case !w.order.Kind.OfPlan():
		if doc.Pause.ID != w.order.ID {
			return false, "", nil
		}
		for _, i := range doc.Intents {
			if w.order.Kind == order.Pause && i.Since.Before(doc.Pause.At) && time.Now().Before(i.Until) {
				return false, "it is in force, and a write that began before it may be on its way", nil
			}
		}
		return true, "in force", nil
	case a.ID != w.order.ID:
		return false, "", nil
	case a.Open():
		return false, fmt.Sprintf("the target is %s: %s", word(doc), doc.Result.Message), nil
	case a.End != state.ApprovalWritten:
		return true, "", fmt.Errorf("the approval is %s", a.End)
	}
	return true, "written", nil
}
