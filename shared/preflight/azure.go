package preflight

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/warrant"
)

// TableActions are what the function app's identity needs on each route table. Source: infra/modules/role.bicep, which a test compares.
func TableActions() []string {
	return []string{
		"Microsoft.Network/routeTables/read", "Microsoft.Network/routeTables/write",
		"Microsoft.Network/locations/operations/read", "Microsoft.Network/locations/operationResults/read",
	}
}

// ServerActions are what it needs on each Route Server. Source: infra/modules/serverrole.bicep, which a test compares. The action that lists learned routes is not
// among them: its name is not documented, and the role allows it by a pattern.
func ServerActions() []string {
	return []string{
		"Microsoft.Network/virtualHubs/read", "Microsoft.Network/virtualHubs/bgpConnections/read", "Microsoft.Network/virtualHubs/bgpConnections/write",
		"Microsoft.Network/virtualHubs/bgpConnections/delete", "Microsoft.Network/locations/operations/read", "Microsoft.Network/locations/operationResults/read",
	}
}

// Absent is a finding about a table that could not be read.
func Absent(t config.Target, err error, missing bool) Finding {
	if missing {
		return Finding{Severity: Error, Check: "table", Of: t.Name, Found: "there is no route table " + t.RouteTable, Do: "make it, or correct routeTable in the domain file"}
	}
	return Unread("table", t.Name, err, "give who runs this Microsoft.Network/routeTables/read on it (Reader has it)")
}

// Server is what there is to say of a Route Server and its peers: err is why they could not be read, peers is how many there are.
func Server(r config.RouteServer, peers Read[int], missing bool) Finding {
	f := about("server", r.Name)
	switch {
	case missing:
		return f(Error, "there is no Route Server "+r.VirtualHub, "make it, or correct virtualHub in the domain file")
	case peers.Err != nil:
		return Unread("server", r.Name, peers.Err, "give who runs this Microsoft.Network/virtualHubs/read and bgpConnections/read on it (Reader has them)")
	case peers.Value > r.MaxPeers:
		return f(Warning, fmt.Sprintf("it has %d BGP peers, maxPeers is %d: none is added", peers.Value, r.MaxPeers), "take peers out that nobody needs, or correct maxPeers")
	}
	return f(OK, fmt.Sprintf("%d BGP peers now, %d wanted, %d allowed", peers.Value, len(r.Peers), r.MaxPeers), "")
}

// Usage is a limit of a subscription in a region, and what is used of it.
type Usage struct {
	Name        string // as Azure writes it: RouteTables, RoutesPerRouteTable
	Used, Limit int
}

// Names of usages. Source: Microsoft.Network, Usages - List.
const (
	usageTables = "RouteTables"
	usageRoutes = "RoutesPerRouteTable"
)

// nearlyFull is the share of a table's limit from which on there is little room.
const nearlyFull = 0.9

// Room checks that the target's table has room for what its NVAs may announce. routes are the names of those that are in it.
func Room(d *config.Domain, t config.Target, routes []string, usages Read[[]Usage]) []Finding {
	say := about("limits", t.Name)
	others := 0
	for _, name := range routes {
		if !strings.HasPrefix(strings.ToLower(name), strings.ToLower(d.Policy.RouteNamePrefix)) {
			others++
		}
	}
	announced := 0
	for _, name := range t.NVAs {
		if nva, known := d.NVA(name); known {
			announced = max(announced, nva.MaxPrefixes)
		}
	}
	used := fmt.Sprintf("%d routes, %d of them others', %d allowed by the domain file", len(routes), others, t.Limit)
	var out []Finding
	switch {
	case len(routes) >= t.Limit:
		out = append(out, say(Error, used+": nothing can be added", "raise limit if Azure allows more, or remove routes"))
	case float64(len(routes)) >= nearlyFull*float64(t.Limit):
		out = append(out, say(Warning, used+": nearly full", "raise limit if Azure allows more, summarise what the NVAs announce, or remove routes"))
	case others+announced > t.Limit:
		out = append(out, say(Note, fmt.Sprintf("%s: one NVA alone may announce %d (maxPrefixes), more than there is room for", used, announced), "lower maxPrefixes, or raise limit if Azure allows more"))
	default:
		out = append(out, say(OK, used, ""))
	}
	if usages.Err != nil {
		return append(out, Unread("limits", t.Name, fmt.Errorf("what Azure allows in this region: %w", usages.Err), "give who runs this Microsoft.Network/locations/usages/read on the subscription (Reader has it)"))
	}
	return append(out, azureRoom(t, usages.Value)...)
}

// azureRoom compares the limits of the domain file with Azure's.
func azureRoom(t config.Target, usages []Usage) []Finding {
	say := about("limits", t.Name)
	var out []Finding
	for _, u := range usages {
		switch {
		case u.Limit <= 0: // Azure has none, or does not say
		case u.Name == usageRoutes && t.Limit > u.Limit:
			out = append(out, say(Error, fmt.Sprintf("the domain file allows %d routes, Azure %d here", t.Limit, u.Limit), fmt.Sprintf("set limit: %d, or ask Azure support to raise it", u.Limit)))
		case u.Name == usageRoutes:
			out = append(out, say(OK, fmt.Sprintf("Azure allows %d routes in a table here", u.Limit), ""))
		case u.Name == usageTables && u.Used >= u.Limit:
			out = append(out, say(Note, fmt.Sprintf("%d of %d route tables of the subscription in this region are used: no other can be made", u.Used, u.Limit), ""))
		}
	}
	return out
}

// Subnets checks that the table is not in force where an NVA has its own next hop. unread are subnets of which that is not known.
func Subnets(d *config.Domain, t config.Target, subnets []plan.Subnet, unread []error) []Finding {
	say := about("subnets", t.Name)
	if d.GuardsOf(t).OwnSubnet == config.OwnSubnetOff {
		return []Finding{say(Note, "guards.ownSubnet is off: whether the table is that of an NVA's own subnet is not checked", "")}
	}
	var out []Finding
	for _, err := range unread {
		out = append(out, Unread("subnets", t.Name, err, "give the function app's identity, and who runs this, Microsoft.Network/virtualNetworks/subnets/read; or declare subnets of the target: else the table is not written"))
	}
	if err := plan.OwnSubnet(subnets, d.Inside); err != nil {
		if f, told := errors.AsType[*fault.Error](err); told {
			return append(out, say(Error, f.Err.Error(), f.Advice))
		}
		return append(out, say(Error, err.Error(), "give the NVAs' subnet a table of its own that is no target"))
	}
	switch {
	case len(out) > 0:
	case len(subnets) == 0:
		out = append(out, say(Warning, "no subnet uses the table: routes in it move no traffic", "associate it with the subnets whose traffic is to go through the NVAs"))
	default:
		out = append(out, say(OK, fmt.Sprintf("%d subnets use the table, none with an NVA's next hop in it", len(subnets)), ""))
	}
	return out
}

// NIC is a network interface.
type NIC struct {
	ID         string
	Addresses  []netip.Addr
	Forwarding bool // IP forwarding is on
}

// Forwarding checks the network interface behind each next hop of an NVA. An address may belong to several: virtual networks may have the same addresses.
func Forwarding(nva config.NVA, nics Read[[]NIC]) []Finding {
	say := about("forwarding", nva.Name)
	if nics.Err != nil {
		return []Finding{Unread("forwarding", nva.Name, nics.Err, "give who runs this Microsoft.Network/networkInterfaces/read on the NVAs' subscription (Reader has it), and name that with --nva-subscription")}
	}
	var out []Finding
	for _, hop := range nva.NextHops {
		var on, off []string
		for _, n := range nics.Value {
			if !slices.Contains(n.Addresses, hop) {
				continue
			}
			if n.Forwarding {
				on = append(on, n.ID)
			} else {
				off = append(off, n.ID)
			}
		}
		slices.Sort(off)
		switch {
		case len(off) > 0 && len(on) > 0:
			out = append(out, say(Warning, fmt.Sprintf("%s is the address of %d network interfaces, and IP forwarding is off on %s", hop, len(on)+len(off), strings.Join(off, ", ")), "if one of those is the NVA's, switch IP forwarding on"))
		case len(off) > 0:
			out = append(out, say(Error, fmt.Sprintf("IP forwarding is off on %s (%s): Azure drops what is not for the machine itself", strings.Join(off, ", "), hop), "switch IP forwarding on: az network nic update --ip-forwarding true"))
		case len(on) > 0:
			out = append(out, say(OK, "IP forwarding is on for "+hop.String(), ""))
		default:
			out = append(out, say(Unknown, fmt.Sprintf("could not be checked: no network interface with %s is in the subscriptions that were looked at", hop),
				"name the NVAs' subscription with --nva-subscription; the address of a load balancer has no IP forwarding of its own"))
		}
	}
	return out
}

// Namespace is a Service Bus namespace.
type Namespace struct {
	ID               string
	Tier             string // Basic, Standard, Premium
	Status           string // Active, or why not
	DisableLocalAuth bool
}

// Bus checks the namespace.
func Bus(host string, n Read[Namespace]) []Finding {
	say := about("bus", host)
	if n.Err != nil {
		return []Finding{Unread("bus", host, n.Err, "give who runs this Microsoft.ServiceBus/namespaces/read (Reader has it), and name its subscription with --bus-subscription")}
	}
	var out []Finding
	if n.Value.Status != "" && !strings.EqualFold(n.Value.Status, "Active") {
		out = append(out, say(Error, "the namespace is "+n.Value.Status, "nothing can be sent or received until it is Active"))
	}
	if strings.EqualFold(n.Value.Tier, "Basic") {
		out = append(out, say(Error, "the namespace is of tier Basic, which has no duplicate detection", "make it Standard or Premium"))
	}
	if !n.Value.DisableLocalAuth {
		out = append(out, say(Note, "shared access keys are accepted: whoever has one needs no identity", "set disableLocalAuth once agents and people use identities"))
	}
	if Worst(out) <= Note {
		out = append(out, say(OK, "tier "+n.Value.Tier+", active", ""))
	}
	return out
}

// Queue is a queue with its settings and what waits in it.
type Queue struct {
	Lock, DuplicateWindow, TTL time.Duration // window: 0 without duplicate detection
	MaxDelivery                int
	Sessions                   bool
	DeadLetterExpired          bool // what expires is kept as a dead letter
	Status                     string
	Active, DeadLettered       int
}

// Wanted is what a queue must have at least.
type Wanted struct {
	Name              string
	Lock, Window      time.Duration
	MaxDelivery       int
	DeadLetterExpired bool
}

// Queues are the two queues, with the settings that infra/ gives them or less where less does.
func Queues() []Wanted {
	return []Wanted{
		{Name: "route-events", Lock: time.Minute, Window: 10 * time.Minute, MaxDelivery: 100, DeadLetterExpired: true},
		{Name: "reconcile", Lock: time.Minute, Window: 10 * time.Minute, MaxDelivery: 20},
	}
}

// QueueSettings checks a queue.
func QueueSettings(w Wanted, q Read[Queue]) []Finding {
	say := about("queue", w.Name)
	if q.Err != nil {
		return []Finding{Unread("queue", w.Name, q.Err, "give who runs this Microsoft.ServiceBus/namespaces/queues/read (Reader has it)")}
	}
	var out []Finding
	wrong := func(s Severity, is bool, found, do string) {
		if is {
			out = append(out, say(s, found, do))
		}
	}
	v := q.Value
	wrong(Error, v.Sessions, "it requires sessions: neither agents nor the function app use them", "make the queue anew without sessions; that cannot be changed later")
	wrong(Error, v.Status != "" && !strings.EqualFold(v.Status, "Active"), "it is "+v.Status, "set its status to Active")
	wrong(Warning, v.Lock < w.Lock, fmt.Sprintf("a message is locked for %s, want %s: a slow batch is delivered a second time", v.Lock, w.Lock), "set lockDuration to PT1M")
	wrong(Warning, v.MaxDelivery < w.MaxDelivery, fmt.Sprintf("a message is dead-lettered after %d deliveries, want %d: a short outage of the store loses events", v.MaxDelivery, w.MaxDelivery), fmt.Sprintf("set maxDeliveryCount to %d", w.MaxDelivery))
	wrong(Warning, v.DuplicateWindow == 0, "it detects no duplicates: what is sent twice is worked on twice", "make the queue anew with requiresDuplicateDetection; that cannot be changed later")
	wrong(Warning, v.DuplicateWindow > 0 && v.DuplicateWindow < w.Window, fmt.Sprintf("it detects duplicates for %s, want %s", v.DuplicateWindow, w.Window), "set duplicateDetectionHistoryTimeWindow to PT10M")
	wrong(Warning, w.DeadLetterExpired && !v.DeadLetterExpired, "what expires is dropped: the one event that tells of an NVA's death is said once", "set deadLetteringOnMessageExpiration")
	wrong(Warning, v.DeadLettered > 0, fmt.Sprintf("%d messages are dead letters: events that were never taken in, an NVA's death perhaps", v.DeadLettered),
		"read them (their reason says why), then empty the dead-letter queue; the agents' next snapshots make up for lost routes, not for a lost death")
	if len(out) == 0 {
		out = append(out, say(OK, fmt.Sprintf("settings as wanted; %d messages wait, no dead letters", v.Active), ""))
	}
	return out
}

// Offset is how far a clock is ahead of another one's, and how far that may be off.
type Offset struct{ Ahead, Within time.Duration }

// Clock checks this machine's clock against the service's. signs: orders are signed here.
func Clock(of string, o Read[Offset], signs bool) Finding {
	say := about("clock", of)
	if o.Err != nil {
		return Unread("clock", of, o.Err, "")
	}
	ahead, within := o.Value.Ahead, o.Value.Within
	side := "ahead of"
	if ahead < 0 {
		side = "behind"
	}
	text := fmt.Sprintf("this machine's clock is %s %s Azure's, give or take %s", ahead.Abs().Round(100*time.Millisecond), side, within.Round(100*time.Millisecond))
	if ahead.Abs() <= within {
		text = fmt.Sprintf("this machine's clock is Azure's, give or take %s", within.Round(100*time.Millisecond))
	}
	const do = "set the clock (NTP)"
	switch {
	case signs && (ahead-within > warrant.MaxAhead || -ahead-within > warrant.MaxAge):
		return say(Error, text+": orders that are signed here are refused", do)
	case ahead.Abs()-within > badClock:
		return say(Warning, text, do)
	}
	return say(OK, text, "")
}

// badClock is more than a clock that is kept by NTP is ever off.
const badClock = 5 * time.Second

// Orders checks who may give orders.
func Orders(d *config.Domain) Finding {
	say := about("orders", d.Name)
	switch d.Warrant() {
	case config.WarrantNever:
		return say(Error, d.WarrantAdvice(), "name operators with their keys (pointsman keygen)")
	case config.WarrantNone:
		return say(Warning, d.WarrantAdvice(), "name operators with their keys (pointsman keygen)")
	case config.WarrantSigned:
	}
	return say(OK, fmt.Sprintf("orders must be signed by one of %d operators", len(d.Operators)), "")
}
