package main

import (
	"context"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"

	azure "github.com/pointsman/pointsman/azure/preflight"
	"github.com/pointsman/pointsman/functions/documents"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/preflight"
)

func preflightCommand() *cobra.Command {
	var p preflighter
	var output string
	c := &cobra.Command{
		Use:   "preflight",
		Short: "Check that Azure lets Pointsman do its work, before it begins",
		Long: `Look at everything that Pointsman needs of Azure, and say what is missing and what to do about it: rights on each route table and Route Server (from permissions and role assignments), locks, policies that would
deny a write, limits and what is used, tables in the NVAs' own subnets, IP forwarding on their network interfaces, the queues' settings and dead letters, who may give orders, and the clock. Nothing is written, not
even to try. What cannot be read is a finding too.

On the NVA it is pointsman-agent preflight. Rights to read are enough (Reader): docs/preflight.md lists them.

The exit code is 0 if all is as it should be, 1 if something does not work, and 2 if something may not on a bad day or could not be checked.`,
		Example: `  pointsman preflight -f hub.yaml
  pointsman preflight --domain hub --output json`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := outputIs(output, "table", "json"); err != nil {
				return err
			}
			ctx, cancel := p.bounded(cmd)
			defer cancel()
			findings, err := p.look(ctx)
			if err != nil {
				return err
			}
			if err = printFindings(cmd.OutOrStdout(), output, findings); err != nil {
				return err
			}
			switch preflight.ExitCode(findings) {
			case preflight.ExitError:
				return errFindings
			case preflight.ExitLook:
				return errChanges
			}
			return nil
		},
	}
	p.flags(c)
	f := c.Flags()
	f.StringVarP(&p.file, "file", "f", "", "check for this domain file instead of the one in force; the state store is not needed then")
	f.StringVar(&p.principal, "principal", os.Getenv("IdentityObjectId"), "object id of the function app's identity, whose role assignments are read (IdentityObjectId); empty: only what who runs this may do")
	f.StringVar(&p.namespace, "bus-namespace", os.Getenv("ServiceBusConnection__fullyQualifiedNamespace"), "host name of the Service Bus namespace (ServiceBusConnection__fullyQualifiedNamespace, or that of ServiceBusConnection)")
	f.StringArrayVar(&p.nvaSubscriptions, "nva-subscription", nil, "a subscription with the NVAs' network interfaces; those of the route tables are looked at anyway; may be repeated")
	f.StringArrayVar(&p.busSubscriptions, "bus-subscription", nil, "a subscription with the namespace, likewise")
	f.StringVar(&p.key, "key", "", "the file of your key, as with drain: if there is one the clock must be good enough to sign orders")
	f.StringVar(&output, "output", "table", "table or json")
	return c
}

// preflighter reads what the checks need and has them made.
type preflighter struct {
	reader
	principal, namespace, key          string
	nvaSubscriptions, busSubscriptions []string

	azure *azure.Client
	signs bool
}

// parallelChecks is how many things are looked at at once: each is a few requests.
const parallelChecks = 8

// look returns all findings, in the order of the domain files: who may give orders, the targets, the NVAs; then the bus and the clock.
func (p *preflighter) look(ctx context.Context) ([]preflight.Finding, error) {
	key, err := orderKey(p.key)
	if err != nil {
		return nil, err
	}
	p.signs = key != nil
	domains, err := p.files(ctx)
	if err != nil {
		return nil, err
	}
	credential, err := p.credential()
	if err != nil {
		return nil, err
	}
	if p.azure, err = azure.New(azure.Config{Credential: credential, Endpoint: p.armEndpoint, Audience: p.armAudience}); err != nil {
		return nil, fmt.Errorf("%w: %w", errInput, err)
	}
	var steps []func() []preflight.Finding
	var subscriptions []string
	for _, d := range domains {
		if !slices.ContainsFunc(d.Config.All(), p.wants) {
			continue
		}
		steps = append(steps, func() []preflight.Finding { return fileFindings(d) })
		for _, t := range d.Config.Targets {
			if p.wants(t) {
				subscriptions = add(subscriptions, t.Subscription())
				steps = append(steps, func() []preflight.Finding { return p.table(ctx, d.Config, t) })
			}
		}
		for _, r := range d.Config.RouteServers {
			if t := r.AsTarget(); p.wants(t) {
				subscriptions = add(subscriptions, t.Subscription())
				steps = append(steps, func() []preflight.Finding { return p.server(ctx, r) })
			}
		}
	}
	if len(steps) == 0 {
		return nil, fmt.Errorf("%w: there is no such target: --domain %q, --target %q", errInput, p.domain, p.target)
	}
	steps = append(steps, func() []preflight.Finding { return p.nvas(ctx, domains, subscriptions) }, func() []preflight.Finding { return p.bus(ctx, subscriptions) })
	findings := slices.Concat(together(steps)...)
	return append(findings, preflight.Clock("this machine", p.azure.Offset(), p.signs)), nil
}

// together does the steps, some at once, and returns what they found in their order.
func together(steps []func() []preflight.Finding) [][]preflight.Finding {
	out := make([][]preflight.Finding, len(steps))
	var all sync.WaitGroup
	slots := make(chan struct{}, parallelChecks)
	for i, step := range steps {
		slots <- struct{}{}
		all.Go(func() { out[i] = step(); <-slots })
	}
	all.Wait()
	return out
}

func add(list []string, s string) []string {
	if s == "" || slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}

func (p *preflighter) files(ctx context.Context) ([]documents.Domain, error) {
	if p.file == "" {
		var err error
		if p.store, err = p.documents(); err != nil {
			return nil, err
		}
	}
	return p.domains(ctx)
}

func (p *preflighter) wants(t config.Target) bool { return p.target == "" || p.target == t.Name }

func fileFindings(d documents.Domain) []preflight.Finding {
	var out []preflight.Finding
	for _, problem := range d.Problems {
		out = append(out, preflight.Finding{Severity: preflight.Warning, Check: "domain", Of: d.Config.Name, Found: "the newest domain file is not valid, the last valid one is in force: " + problem.String(), Do: "correct it: pointsman validate"})
	}
	return append(out, preflight.Orders(d.Config))
}

// table looks at the route table of a target.
func (p *preflighter) table(ctx context.Context, d *config.Domain, t config.Target) []preflight.Finding {
	id := t.RouteTable
	table, err := p.azure.Table(ctx, id)
	if err != nil {
		out := []preflight.Finding{preflight.Absent(t, err, fault.Is(err, fault.NotFound))}
		if fault.Is(err, fault.NotFound) {
			return out
		}
		return append(out, p.tableRights(ctx, t))
	}
	out := []preflight.Finding{p.tableRights(ctx, t)}
	out = append(out, preflight.Locks(t.Name, read(p.azure.Locks(ctx, id)))...)
	out = append(out, preflight.Policies(t.Name, read(p.azure.Denials(ctx, id, table, d.Policy.RouteNamePrefix+"203-0-113-0-24")))...)
	out = append(out, preflight.Room(d, t, table.Routes, read(p.azure.Usages(ctx, id, table.Location)))...)
	known, unread := p.subnets(ctx, t, table)
	return append(out, preflight.Subnets(d, t, known, unread)...)
}

// server looks at a Route Server.
func (p *preflighter) server(ctx context.Context, r config.RouteServer) []preflight.Finding {
	peers, err := p.azure.Peers(ctx, r.VirtualHub)
	out := []preflight.Finding{preflight.Server(r, read(peers, err), fault.Is(err, fault.NotFound))}
	if fault.Is(err, fault.NotFound) {
		return out
	}
	out = append(out, p.rights(ctx, r.Name, r.VirtualHub, preflight.ServerActions(), "assign it the custom role of infra/modules/serverrole.bicep on the Route Server"))
	return append(out, preflight.Locks(r.Name, read(p.azure.Locks(ctx, r.VirtualHub)))...)
}

func read[T any](value T, err error) preflight.Read[T] {
	return preflight.Read[T]{Value: value, Err: err}
}

// tableRights checks the rights on a target's table.
func (p *preflighter) tableRights(ctx context.Context, t config.Target) preflight.Finding {
	return p.rights(ctx, t.Name, t.RouteTable, preflight.TableActions(), "assign it the custom role of infra/modules/role.bicep on the table")
}

func (p *preflighter) rights(ctx context.Context, of, id string, actions []string, do string) preflight.Finding {
	if p.principal == "" {
		return preflight.OwnRights(of, read(p.azure.Own(ctx, id)), actions)
	}
	return preflight.Rights(of, "the function app's identity "+p.principal, read(p.azure.Of(ctx, id, p.principal)), actions, do)
}

// subnets returns the subnets that use the table: those of the domain file, or what Azure says.
func (p *preflighter) subnets(ctx context.Context, t config.Target, table azure.Table) (known []plan.Subnet, unread []error) {
	for _, prefix := range t.Subnets {
		known = append(known, plan.Subnet{ID: "the domain file", Prefixes: []netip.Prefix{prefix}})
	}
	if len(known) > 0 {
		return known, nil
	}
	for _, id := range table.Subnets {
		prefixes, err := p.azure.Subnet(ctx, id)
		if err != nil {
			unread = append(unread, fmt.Errorf("subnet %s: %w", id, err))
			continue
		}
		known = append(known, plan.Subnet{ID: id, Prefixes: prefixes})
	}
	return known, unread
}

// nvas looks at the network interfaces of all NVAs.
func (p *preflighter) nvas(ctx context.Context, domains []documents.Domain, subscriptions []string) []preflight.Finding {
	var nics preflight.Read[[]preflight.NIC]
	for _, s := range p.nvaSubscriptions {
		subscriptions = add(slices.Clone(subscriptions), strings.ToLower(s))
	}
	for _, s := range subscriptions {
		found, err := p.azure.NICs(ctx, s)
		if err != nil {
			nics.Err = fmt.Errorf("network interfaces of subscription %s: %w", s, err)
			break
		}
		nics.Value = append(nics.Value, found...)
	}
	var out []preflight.Finding
	for _, d := range domains {
		for _, n := range d.Config.NVAs {
			out = append(out, preflight.Forwarding(n, nics)...)
		}
	}
	return out
}

// bus looks at the namespace and its queues.
func (p *preflighter) bus(ctx context.Context, subscriptions []string) []preflight.Finding {
	host := p.namespace
	if host == "" {
		host = hostOf(os.Getenv("ServiceBusConnection"))
	}
	if host == "" {
		return []preflight.Finding{{Severity: preflight.Unknown, Check: "bus", Found: "could not be checked: no namespace is named", Do: "name it with --bus-namespace"}}
	}
	for _, s := range p.busSubscriptions {
		subscriptions = add(slices.Clone(subscriptions), strings.ToLower(s))
	}
	namespace := read(p.azure.Namespace(ctx, subscriptions, host))
	out := preflight.Bus(host, namespace)
	if namespace.Err != nil {
		return out
	}
	for _, w := range preflight.Queues() {
		out = append(out, preflight.QueueSettings(w, read(p.azure.Queue(ctx, namespace.Value.ID, w.Name)))...)
	}
	return out
}

// hostOf returns the host of a connection string, Endpoint=sb://HOST/;…, with its port where it has one; "" if there is none.
func hostOf(connection string) string {
	for part := range strings.SplitSeq(connection, ";") {
		if endpoint, ok := strings.CutPrefix(strings.TrimSpace(part), "Endpoint="); ok {
			if u, err := url.Parse(endpoint); err == nil {
				return u.Host
			}
		}
	}
	return ""
}

// printFindings prints the findings in their order, and for people what they come to.
func printFindings(w io.Writer, output string, findings []preflight.Finding) error {
	if output == "json" {
		return printJSON(w, findings)
	}
	return say(w, "%s", preflight.Text(findings))
}
