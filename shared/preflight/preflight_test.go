package preflight_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/preflight"
)

var errAway = errors.New("away")

// one returns the findings as "severity: found", one a line.
func lines(list ...preflight.Finding) string {
	var out []string
	for _, f := range list {
		out = append(out, f.Severity.String()+": "+f.Found)
		if f.Do == "" && f.Severity > preflight.Note && f.Found != "could not be checked: away" {
			out = append(out, "and nobody is told what to do")
		}
	}
	return strings.Join(out, "\n")
}

func expect(t *testing.T, name, got, want string) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

func TestAllows(t *testing.T) {
	type p = preflight.Permission
	const write = "Microsoft.Network/routeTables/write"
	for _, tt := range []struct {
		name string
		list []p
		want bool
	}{
		{"nothing", nil, false},
		{"Owner", []p{{Actions: []string{"*"}}}, true},
		{"Reader", []p{{Actions: []string{"*/read"}}}, false},
		{"by name, in other letters", []p{{Actions: []string{"microsoft.network/ROUTETABLES/Write"}}}, true},
		{"a wildcard in the middle", []p{{Actions: []string{"Microsoft.Network/*/write"}}}, true},
		{"two wildcards", []p{{Actions: []string{"Microsoft.*/route*/write"}}}, true},
		{"a wildcard at the end", []p{{Actions: []string{"Microsoft.Network/routeTables/*"}}}, true},
		{"of routes only", []p{{Actions: []string{"Microsoft.Network/routeTables/routes/*"}}}, false},
		{"not a part of it", []p{{Actions: []string{"Microsoft.Network/routeTables/write/action"}}}, false},
		{"taken away", []p{{Actions: []string{"*"}, NotActions: []string{"Microsoft.Network/*"}}}, false},
		{"taken away in one role, given by another", []p{{Actions: []string{"*"}, NotActions: []string{"*"}}, {Actions: []string{write}}}, true},
	} {
		if got := preflight.Allows(tt.list, write); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestRights(t *testing.T) {
	read := preflight.Read[[]preflight.Permission]{Value: []preflight.Permission{{Actions: []string{"*/read"}}}}
	all := preflight.Read[[]preflight.Permission]{Value: []preflight.Permission{{Actions: []string{"*"}}}}
	none := preflight.Read[[]preflight.Permission]{Err: errAway}
	actions := preflight.TableActions()
	expect(t, "named", lines(preflight.Rights("spokes", "app", all, actions, "do it"), preflight.Rights("spokes", "app", read, actions, "do it"), preflight.Rights("spokes", "app", none, actions, "do it")),
		"ok: app may do what is needed\nerror: app lacks Microsoft.Network/routeTables/write\nunknown: could not be checked: away")
	expect(t, "own", lines(preflight.OwnRights("spokes", all, actions), preflight.OwnRights("spokes", read, actions), preflight.OwnRights("spokes", none, actions)),
		"note: who runs this may do what is needed; whether the function app's identity may is not known\n"+
			"unknown: could not be checked for the function app's identity: who runs this lacks Microsoft.Network/routeTables/write\nunknown: could not be checked: away")
}

func TestServer(t *testing.T) {
	r := config.RouteServer{Name: "rs", VirtualHub: "/hub", Peers: make([]config.Peer, 2), MaxPeers: 8}
	of := func(n int, err error) preflight.Read[int] { return preflight.Read[int]{Value: n, Err: err} }
	expect(t, "a Route Server", lines(preflight.Server(r, of(2, nil), false), preflight.Server(r, of(9, nil), false), preflight.Server(r, of(0, errAway), false), preflight.Server(r, of(0, errAway), true)),
		"ok: 2 BGP peers now, 2 wanted, 8 allowed\nwarning: it has 9 BGP peers, maxPeers is 8: none is added\nunknown: could not be checked: away\nerror: there is no Route Server /hub")
}

// TestRole: what is asked for is what infra/ gives.
func TestRole(t *testing.T) {
	for module, wanted := range map[string][]string{"role": preflight.TableActions(), "serverrole": preflight.ServerActions()} {
		text, err := os.ReadFile("../../infra/modules/" + module + ".bicep")
		if err != nil {
			t.Fatal(err)
		}
		var given []string
		for _, m := range regexp.MustCompile(`'(Microsoft\.Network/[A-Za-z/]+)'`).FindAllSubmatch(text, -1) {
			given = append(given, string(m[1]))
		}
		for _, a := range wanted {
			if !slices.Contains(given, a) {
				t.Errorf("infra/modules/%s.bicep does not give %s, only %v", module, a, given)
			}
		}
	}
	bus, err := os.ReadFile("../../infra/modules/bus.bicep")
	if err != nil {
		t.Fatal(err)
	}
	for _, w := range preflight.Queues() {
		_, queue, _ := strings.Cut(string(bus), "name: '"+w.Name+"'")
		if !strings.Contains(queue, fmt.Sprintf("maxDeliveryCount: %d\n", w.MaxDelivery)) || !strings.Contains(queue, fmt.Sprintf("deadLetteringOnMessageExpiration: %t\n", w.DeadLetterExpired)) {
			t.Errorf("infra/modules/bus.bicep gives the queue %s something else than preflight wants", w.Name)
		}
	}
}

// TestDocument: docs/preflight.md has every action that infra/ gives operators for it, and no other; every severity; and every check.
func TestDocument(t *testing.T) {
	role, err := os.ReadFile("../../infra/modules/preflight.bicep")
	if err != nil {
		t.Fatal(err)
	}
	doc, err := os.ReadFile("../../docs/preflight.md")
	if err != nil {
		t.Fatal(err)
	}
	action := regexp.MustCompile("[`'](Microsoft\\.[A-Za-z]+/[A-Za-z/]+/read)[`']")
	names := func(text []byte) []string {
		var out []string
		for _, m := range action.FindAllSubmatch(text, -1) {
			out = append(out, string(m[1]))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	if diff := cmp.Diff(names(role), names(doc)); diff != "" || len(names(role)) < 5 {
		t.Errorf("(-infra/modules/preflight.bicep +docs/preflight.md):\n%s", diff)
	}
	for s := preflight.OK; s <= preflight.Error; s++ {
		if !strings.Contains(string(doc), "| `"+s.String()+"` |") {
			t.Errorf("docs/preflight.md does not explain %s", s)
		}
	}
	for _, file := range []string{"preflight.go", "azure.go", "host.go"} {
		source, unread := os.ReadFile(file)
		if unread != nil {
			t.Fatal(unread)
		}
		for _, m := range regexp.MustCompile(`(?:about\(|Check: )"([a-z]+)"`).FindAllSubmatch(source, -1) {
			if !strings.Contains(string(doc), "| `"+string(m[1])+"` |") {
				t.Errorf("docs/preflight.md does not explain the check %s", m[1])
			}
		}
	}
}

func TestLocks(t *testing.T) {
	for want, locks := range map[string]preflight.Read[[]preflight.Lock]{
		"ok: no lock":                         {},
		"unknown: could not be checked: away": {Err: errAway},
		"error: lock a (ReadOnly) on /s: every write is refused\nnote: lock b (CanNotDelete) on /s/g: routes are changed by writing the table, which it does not forbid": {
			Value: []preflight.Lock{{Level: "CanNotDelete", Name: "b", Scope: "/s/g"}, {Level: "ReadOnly", Name: "a", Scope: "/s"}},
		},
		"error: lock a (Tomorrow) on /s: every write is refused": {Value: []preflight.Lock{{Level: "Tomorrow", Name: "a", Scope: "/s"}}},
	} {
		expect(t, want, lines(preflight.Locks("spokes", locks)...), want)
	}
}

func TestPolicies(t *testing.T) {
	expect(t, "none", lines(preflight.Policies("spokes", preflight.Read[[]preflight.Denial]{})...), "ok: Azure Policy would not deny the table with a route of Pointsman's, as far as it can tell beforehand")
	expect(t, "one", lines(preflight.Policies("spokes", preflight.Read[[]preflight.Denial]{Value: []preflight.Denial{{Assignment: "/a", Definition: "/d"}}})...),
		"error: policy assignment /a would deny the table with a route of Pointsman's (definition /d)")
	expect(t, "unread", lines(preflight.Policies("spokes", preflight.Read[[]preflight.Denial]{Err: errAway})...), "unknown: could not be checked: away")
}

// hub has nva-a (10.0.0.4 and fd00::4, at most 20 prefixes) and nva-b, and the target spokes with 100 routes at most.
func hub(t *testing.T, more string) (*config.Domain, config.Target) {
	t.Helper()
	d, problems := config.Parse("hub.yaml", []byte(`domain: hub
policy: {silence: hold}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4, "fd00::4"], allow: [10.0.0.0/8], maxPrefixes: 20}
  - {name: nva-b, nextHops: [10.0.0.5], allow: [10.0.0.0/8], maxPrefixes: 50}
targets:
  - {name: spokes, routeTable: /subscriptions/s/resourceGroups/r/providers/Microsoft.Network/routeTables/spokes, limit: 100}
`+more))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return d, d.Targets[0]
}

func TestRoom(t *testing.T) {
	d, target := hub(t, "")
	names := func(ours, others int) []string {
		return append(slices.Repeat([]string{"Pointsman-10"}, ours), slices.Repeat([]string{"theirs"}, others)...)
	}
	azure := func(tables, limit, routes int) preflight.Read[[]preflight.Usage] {
		return preflight.Read[[]preflight.Usage]{Value: []preflight.Usage{{Name: "RouteTables", Used: tables, Limit: limit}, {Name: "RoutesPerRouteTable", Limit: routes}, {Name: "VirtualNetworks", Used: 9, Limit: 9}}}
	}
	for _, tt := range []struct {
		ours, others int
		azure        preflight.Read[[]preflight.Usage]
		want         string
	}{
		{10, 3, azure(1, 600, 1000), "ok: 13 routes, 3 of them others', 100 allowed by the domain file\nok: Azure allows 1000 routes in a table here"},
		{40, 51, azure(1, 600, 100), "warning: 91 routes, 51 of them others', 100 allowed by the domain file: nearly full\nok: Azure allows 100 routes in a table here"},
		{0, 51, azure(1, 600, 100), "note: 51 routes, 51 of them others', 100 allowed by the domain file: one NVA alone may announce 50 (maxPrefixes), more than there is room for\nok: Azure allows 100 routes in a table here"},
		{100, 0, azure(600, 600, 99), "error: 100 routes, 0 of them others', 100 allowed by the domain file: nothing can be added\n" +
			"note: 600 of 600 route tables of the subscription in this region are used: no other can be made\nerror: the domain file allows 100 routes, Azure 99 here"},
		{0, 0, preflight.Read[[]preflight.Usage]{Err: errAway}, "ok: 0 routes, 0 of them others', 100 allowed by the domain file\nunknown: could not be checked: what Azure allows in this region: away"},
		{0, 0, azure(1, 0, 0), "ok: 0 routes, 0 of them others', 100 allowed by the domain file"},
	} {
		expect(t, tt.want, lines(preflight.Room(d, target, names(tt.ours, tt.others), tt.azure)...), tt.want)
	}
}

func TestSubnets(t *testing.T) {
	d, target := hub(t, "")
	spokes := plan.Subnet{ID: "/a/b/virtualNetworks/v/subnets/spokes", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/24")}}
	own := plan.Subnet{ID: "/a/b/virtualNetworks/v/subnets/nvas", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}}
	expect(t, "none", lines(preflight.Subnets(d, target, nil, nil)...), "warning: no subnet uses the table: routes in it move no traffic")
	expect(t, "spokes", lines(preflight.Subnets(d, target, []plan.Subnet{spokes}, nil)...), "ok: 1 subnets use the table, none with an NVA's next hop in it")
	expect(t, "unread", lines(preflight.Subnets(d, target, []plan.Subnet{spokes}, []error{errAway})...), "unknown: could not be checked: away")
	if got := lines(preflight.Subnets(d, target, []plan.Subnet{spokes, own}, nil)...); !strings.HasPrefix(got, "error: the table is that of ") || !strings.Contains(got, "10.0.0.4, the next hop of nva-a") {
		t.Error(got)
	}
	d, target = hub(t, "guards: {ownSubnet: off}\n")
	expect(t, "off", lines(preflight.Subnets(d, target, []plan.Subnet{own}, nil)...), "note: guards.ownSubnet is off: whether the table is that of an NVA's own subnet is not checked")
}

func TestForwarding(t *testing.T) {
	nva := config.NVA{Name: "nva-a", NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.4"), netip.MustParseAddr("fd00::4")}}
	nic := func(id string, on bool, addresses ...string) preflight.NIC {
		n := preflight.NIC{ID: id, Forwarding: on}
		for _, a := range addresses {
			n.Addresses = append(n.Addresses, netip.MustParseAddr(a))
		}
		return n
	}
	for name, tt := range map[string]struct {
		nics []preflight.NIC
		want string
	}{
		"on":         {[]preflight.NIC{nic("a", true, "10.0.0.4", "fd00::4"), nic("x", false, "10.0.0.9")}, "ok: IP forwarding is on for 10.0.0.4\nok: IP forwarding is on for fd00::4"},
		"off on one": {[]preflight.NIC{nic("a", false, "10.0.0.4"), nic("b", true, "fd00::4")}, "error: IP forwarding is off on a (10.0.0.4): Azure drops what is not for the machine itself\nok: IP forwarding is on for fd00::4"},
		"two with one address": {
			[]preflight.NIC{nic("b", false, "10.0.0.4"), nic("a", true, "10.0.0.4", "fd00::4")},
			"warning: 10.0.0.4 is the address of 2 network interfaces, and IP forwarding is off on b\nok: IP forwarding is on for fd00::4",
		},
		"none": {nil, "unknown: could not be checked: no network interface with 10.0.0.4 is in the subscriptions that were looked at\n" +
			"unknown: could not be checked: no network interface with fd00::4 is in the subscriptions that were looked at"},
	} {
		expect(t, name, lines(preflight.Forwarding(nva, preflight.Read[[]preflight.NIC]{Value: tt.nics})...), tt.want)
	}
	expect(t, "unread", lines(preflight.Forwarding(nva, preflight.Read[[]preflight.NIC]{Err: errAway})...), "unknown: could not be checked: away")
}

func TestBus(t *testing.T) {
	const keys = "note: shared access keys are accepted: whoever has one needs no identity\nok: tier Premium, active"
	for want, n := range map[string]preflight.Read[preflight.Namespace]{
		keys:                                  {Value: preflight.Namespace{Tier: "Premium"}},
		"unknown: could not be checked: away": {Err: errAway},
		"ok: tier Standard, active":           {Value: preflight.Namespace{Tier: "Standard", Status: "Active", DisableLocalAuth: true}},
		"error: the namespace is of tier Basic, which has no duplicate detection": {Value: preflight.Namespace{Tier: "Basic", Status: "active", DisableLocalAuth: true}},
		"error: the namespace is Disabled":                                        {Value: preflight.Namespace{Tier: "Premium", Status: "Disabled", DisableLocalAuth: true}},
	} {
		expect(t, want, lines(preflight.Bus("host", n)...), want)
	}
}

func TestQueueSettings(t *testing.T) {
	events := preflight.Queues()[0]
	good := preflight.Queue{Lock: time.Minute, DuplicateWindow: 10 * time.Minute, TTL: 24 * time.Hour, MaxDelivery: 100, DeadLetterExpired: true, Status: "Active", Active: 3}
	const both = "warning: it detects no duplicates: what is sent twice is worked on twice\nwarning: 1 messages are dead letters: events that were never taken in, an NVA's death perhaps"
	for want, change := range map[string]func(*preflight.Queue){
		"ok: settings as wanted; 3 messages wait, no dead letters":                                                    func(*preflight.Queue) {},
		"error: it requires sessions: neither agents nor the function app use them":                                   func(q *preflight.Queue) { q.Sessions = true },
		"error: it is SendDisabled":                                                                                   func(q *preflight.Queue) { q.Status = "SendDisabled" },
		"warning: a message is locked for 30s, want 1m0s: a slow batch is delivered a second time":                    func(q *preflight.Queue) { q.Lock = 30 * time.Second },
		"warning: a message is dead-lettered after 10 deliveries, want 100: a short outage of the store loses events": func(q *preflight.Queue) { q.MaxDelivery = 10 },
		"warning: it detects no duplicates: what is sent twice is worked on twice":                                    func(q *preflight.Queue) { q.DuplicateWindow = 0 },
		"warning: it detects duplicates for 30s, want 10m0s":                                                          func(q *preflight.Queue) { q.DuplicateWindow = 30 * time.Second },
		"warning: what expires is dropped: the one event that tells of an NVA's death is said once":                   func(q *preflight.Queue) { q.DeadLetterExpired = false },
		"warning: 2 messages are dead letters: events that were never taken in, an NVA's death perhaps":               func(q *preflight.Queue) { q.DeadLettered = 2 },
		both: func(q *preflight.Queue) { q.DuplicateWindow, q.DeadLettered = 0, 1 },
	} {
		q := good
		change(&q)
		expect(t, want, lines(preflight.QueueSettings(events, preflight.Read[preflight.Queue]{Value: q})...), want)
	}
	reconcile := good
	reconcile.DeadLetterExpired, reconcile.MaxDelivery = false, 20
	expect(t, "reconcile", lines(preflight.QueueSettings(preflight.Queues()[1], preflight.Read[preflight.Queue]{Value: reconcile})...), "ok: settings as wanted; 3 messages wait, no dead letters")
	expect(t, "unread", lines(preflight.QueueSettings(events, preflight.Read[preflight.Queue]{Err: errAway})...), "unknown: could not be checked: away")
}

func TestClock(t *testing.T) {
	for _, tt := range []struct {
		ahead, within time.Duration
		signs         bool
		want          string
	}{
		{400 * time.Millisecond, 500 * time.Millisecond, true, "ok: this machine's clock is Azure's, give or take 500ms"},
		{2 * time.Second, 500 * time.Millisecond, true, "ok: this machine's clock is 2s ahead of Azure's, give or take 500ms"},
		{-6 * time.Second, 500 * time.Millisecond, true, "warning: this machine's clock is 6s behind Azure's, give or take 500ms"},
		{61 * time.Second, 500 * time.Millisecond, true, "error: this machine's clock is 1m1s ahead of Azure's, give or take 500ms: orders that are signed here are refused"},
		{61 * time.Second, 500 * time.Millisecond, false, "warning: this machine's clock is 1m1s ahead of Azure's, give or take 500ms"},
		{-61 * time.Second, 500 * time.Millisecond, true, "warning: this machine's clock is 1m1s behind Azure's, give or take 500ms"},
		{-6 * time.Minute, 500 * time.Millisecond, true, "error: this machine's clock is 6m0s behind Azure's, give or take 500ms: orders that are signed here are refused"},
	} {
		o := preflight.Read[preflight.Offset]{Value: preflight.Offset{Ahead: tt.ahead, Within: tt.within}}
		expect(t, tt.want, lines(preflight.Clock("this machine", o, tt.signs)), tt.want)
	}
	expect(t, "unread", lines(preflight.Clock("this machine", preflight.Read[preflight.Offset]{Err: errAway}, true)), "unknown: could not be checked: away")
}

func TestOrders(t *testing.T) {
	open, _ := hub(t, "")
	signed, _ := hub(t, "operators: [{name: jo, keys: [\"ed25519:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=\"]}]\n")
	if f := preflight.Orders(open); f.Severity != preflight.Warning || !strings.Contains(f.Found, "whoever may send to the queue") || f.Do == "" {
		t.Errorf("%+v", f)
	}
	expect(t, "signed", lines(preflight.Orders(signed)), "ok: orders must be signed by one of 1 operators")
}

// TestSeverities: the words, the exit codes and the summary, which programs and people go by.
func TestSeverities(t *testing.T) {
	of := func(list ...preflight.Severity) []preflight.Finding {
		var out []preflight.Finding
		for _, s := range list {
			out = append(out, preflight.Finding{Severity: s})
		}
		return out
	}
	for _, tt := range []struct {
		list    []preflight.Finding
		code    int
		summary string
	}{
		{nil, 0, ""},
		{of(preflight.OK, preflight.OK), 0, "2 ok"},
		{of(preflight.OK, preflight.Note), 0, "1 note, 1 ok"},
		{of(preflight.Unknown, preflight.Unknown), 2, "2 unknown"},
		{of(preflight.Warning, preflight.Note, preflight.Note), 2, "1 warning, 2 notes"},
		{of(preflight.Error, preflight.Unknown, preflight.Warning, preflight.Error), 1, "2 errors, 1 warning, 1 unknown"},
	} {
		if got := preflight.ExitCode(tt.list); got != tt.code || preflight.Summary(tt.list) != tt.summary {
			t.Errorf("%v: exit code %d, %q; want %d, %q", tt.list, got, preflight.Summary(tt.list), tt.code, tt.summary)
		}
	}
	text, err := json.Marshal(preflight.Finding{Severity: preflight.Warning, Check: "queue", Of: "route-events", Found: "x", Do: "y"})
	if err != nil || string(text) != `{"severity":"warning","check":"queue","of":"route-events","found":"x","do":"y"}` {
		t.Errorf("%s, %v", text, err)
	}
}
