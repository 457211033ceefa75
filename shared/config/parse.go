package config

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/signature"
)

// The defaults. The limit is what Azure gives a route table since May 2026; older regions had 400 and 600.
const (
	DefaultLimit           = 1000
	DefaultPreference      = 100
	DefaultMaxPrefixes     = 1000
	DefaultHoldDown        = 30 * time.Second
	DefaultAnswerWithin    = 1500 * time.Millisecond
	DefaultHalfLife        = 5 * time.Minute
	DefaultSuppress        = 2000
	DefaultReuse           = 750
	DefaultCeiling         = 6000
	DefaultRouteNamePrefix = "pointsman-"
	DefaultWritePrice      = 5
	DefaultWriteCap        = 30 * time.Second
	DefaultMaxRemovedShare = 0.5
	DefaultMinRemoved      = 10
	DefaultMaxChangedShare = 1
)

// Parse reads a domain file. Either the domain is returned or all that is wrong with the file; never both.
func Parse(file string, text []byte) (*Domain, located.Problems) {
	root, problems := located.Parse(file, text)
	if len(problems) > 0 {
		return nil, problems
	}
	d := domain(root.Map("domain", "policy", "guards", "spread", "nvas", "targets", "groups", "operators", "routeServers", "ranges"))
	if problems = root.Problems(); len(problems) > 0 {
		return nil, problems
	}
	return d, nil
}

func domain(m located.Map) *Domain {
	owners := map[signature.Key]string{}
	d := &Domain{Policy: policy(m.Need("policy", "a mapping with at least silence")), Guards: guards(m.Get("guards"), defaultGuards()), Spread: spread(m.Get("spread"))}
	d.Name, _ = name(m.Need("domain", wantName))
	d.NVAs = nvas(m.Need("nvas", "a list of NVAs"), owners)
	servers := m.Get("routeServers")
	tables := m.Get("targets")
	if !servers.Present() {
		tables = m.Need("targets", "a list of targets")
	}
	d.Targets = targets(tables, d)
	d.Groups = groups(m.Get("groups"), d)
	d.RouteServers = routeServers(servers, d)
	d.Operators = operators(m.Get("operators"), d, owners)
	d.Ranges = ranges(m.Get("ranges"), d)
	return d
}

func policy(n located.Node) Policy {
	m := n.Map("silence", "holdDown", "answerWithin", "damping", "routeNamePrefix", "writePrice", "writeCap", "drift")
	p := Policy{
		HoldDown:        located.Or(m.Get("holdDown"), DefaultHoldDown, "a duration from 0s to 24h, or never", parseHoldDown),
		AnswerWithin:    located.Or(m.Get("answerWithin"), DefaultAnswerWithin, "a duration from 0s (off) to 1m", located.Duration(0, time.Minute)),
		Damping:         damping(m.Get("damping")),
		RouteNamePrefix: located.Or(m.Get("routeNamePrefix"), DefaultRouteNamePrefix, "2 to 30 of letters, digits, _ . - that begin with a letter or digit and end with -", parseRouteNamePrefix),
		WritePrice:      located.Or(m.Get("writePrice"), DefaultWritePrice, "weighted prefix-seconds from 0 to 10000", number(0, 10000)),
		WriteCap:        located.Or(m.Get("writeCap"), DefaultWriteCap, "a duration from 0s to 10m", located.Duration(0, 10*time.Minute)),
		Drift:           located.Or(m.Get("drift"), DriftRepair, "repair (write it again) or report (leave it and say so)", parseDrift),
	}
	silence := m.Need("silence", "down (an NVA that is not heard is dead) or hold (it goes on forwarding)")
	p.Silence = located.Or(silence, 0, "down or hold", parseSilence)
	return p
}

func damping(n located.Node) Damping {
	m := n.Map("halfLife", "suppress", "reuse", "ceiling")
	const bounds = "a number from 1 to 8000; every loss costs 1000"
	before := len(n.Problems())
	d := Damping{
		HalfLife: located.Or(m.Get("halfLife"), DefaultHalfLife, "a duration from 1s to 1h, or 0s for no damping", parseHalfLife),
		Suppress: located.Or(m.Get("suppress"), DefaultSuppress, bounds, number(1, maxMerit)),
		Reuse:    located.Or(m.Get("reuse"), DefaultReuse, bounds, number(1, maxMerit)),
		Ceiling:  located.Or(m.Get("ceiling"), DefaultCeiling, bounds, number(1, maxMerit)),
	}
	switch {
	case len(n.Problems()) > before: // the relation of a value to a default says nothing
	case d.Reuse > d.Suppress:
		n.Reportf("reuse is %g and suppress %g: want reuse not above suppress", d.Reuse, d.Suppress)
	case d.Ceiling < d.Suppress:
		n.Reportf("ceiling is %g and suppress %g: want a ceiling of at least suppress", d.Ceiling, d.Suppress)
	}
	return d
}

// maxMerit is the most that the losses of a prefix can cost: no more of them are remembered.
const maxMerit = LossPenalty * 8

func nvas(n located.Node, owners map[signature.Key]string) []NVA {
	var out []NVA
	names, hops := map[string]bool{}, map[netip.Addr]string{}
	for _, item := range items(n, "at least one NVA") {
		m := item.Map("name", "nextHops", "preference", "weight", "allow", "maxPrefixes", "keys")
		v := NVA{
			Preference:  located.Or(m.Get("preference"), DefaultPreference, "a number from 0 to 1000000, higher wins", located.Int(0, 1000000)),
			Weight:      located.Or(m.Get("weight"), DefaultWeight, "a number from 1 to 1000, in proportion to those of the other NVAs", located.Int(1, 1000)),
			MaxPrefixes: located.Or(m.Get("maxPrefixes"), DefaultMaxPrefixes, "a number of prefixes from 1 to 100000", located.Int(1, 100000)),
			NextHops:    nextHops(m.Need("nextHops", "a list of addresses, one per family"), wantNextHop, hops),
			Allow:       matches(m.Need("allow", "a list of the prefixes that it may announce, such as 10.0.0.0/8 le 24")),
			Keys:        keys(m.Get("keys"), wantAgentKey, "no keys at all for events that need no signature", "NVA", owners),
		}
		v.Name = uniqueName(m.Need("name", wantName), names)
		for _, a := range v.NextHops {
			hops[a] = cmp.Or(v.Name, "an NVA above")
		}
		for _, k := range v.Keys {
			owners[k] = cmp.Or(v.Name, "an NVA above")
		}
		out = append(out, v)
	}
	return out
}

const (
	wantNextHop  = "the NVA's address in the VNet"
	wantFrontend = "the load balancer's frontend in the VNet"
)

// nextHops reads addresses, at most one per family, that are not taken yet.
func nextHops(n located.Node, want string, taken map[netip.Addr]string) []netip.Addr {
	var out []netip.Addr
	family := map[int]bool{}
	for _, item := range items(n, want) {
		a, ok := located.Value(item, want+", such as 10.0.0.4", parseNextHop)
		switch owner, used := taken[a]; {
		case !ok:
		case used:
			item.Reportf("%s is already the next hop of %s", a, owner)
		case family[a.BitLen()]:
			item.Reportf("%s is a second address of its family: want one per family", a)
		default:
			family[a.BitLen()] = true
			out = append(out, a)
		}
	}
	return out
}

// maxKeys is the one in use and the next.
const maxKeys = 2

const wantAgentKey = "the line that pointsman-agent keygen prints: ed25519: and 44 characters of base64"

// keys reads the public keys of an NVA, or of an operator. Two with one key would each be able to speak for the other.
func keys(n located.Node, want, none, owner string, taken map[signature.Key]string) []signature.Key {
	var out []signature.Key
	list := items(n, "one key, or two while one replaces the other, or "+none)
	if len(list) > maxKeys {
		n.Reportf("%d keys: want one, or two while one replaces the other", len(list))
	}
	for _, item := range list {
		k, ok := located.Value(item, want, signature.ParseKey)
		switch other, used := taken[k]; {
		case !ok:
		case used:
			item.Reportf("key %s is already that of %s: want a key of its own for every %s", k.ID(), other, owner)
		case slices.Contains(out, k):
			item.Reportf("key %s stands twice", k.ID())
		default:
			out = append(out, k)
		}
	}
	return out
}

func targets(n located.Node, d *Domain) []Target {
	var out []Target
	names := map[string]bool{}
	for _, item := range items(n, "at least one target") {
		m := item.Map("name", "routeTable", "nvas", "prefixes", "limit", "mode", "maxNextHops", "nextHops", "side", "rules", "apply", "guards", "subnets")
		t := Target{
			NVAs:     members(m.Get("nvas"), d),
			Prefixes: matches(m.Get("prefixes")),
			Limit:    located.Or(m.Get("limit"), DefaultLimit, "a number of routes from 1 to 100000", located.Int(1, 100000)),
		}
		how := newSelector(d)
		t.Selection, t.Rules = how.read(m, m.Get("mode")), how.rules(m.Get("rules"))
		t.Side = how.side(m.Get("side"), d.Spread.Spokes)
		targetGuards(item, m, &t, d)
		t.Name = uniqueName(m.Need("name", wantName), names)
		table := m.Need("routeTable", wantTable)
		t.RouteTable, _ = located.Value(table, wantTable, parseTableID)
		for _, other := range out {
			if t.RouteTable != "" && SameTable(other.RouteTable, t.RouteTable) {
				table.Reportf("the table is already kept by target %s: want one target per table", other.Name)
			}
		}
		out = append(out, t)
	}
	return out
}

// members reads the NVAs of a target: all of the domain where none are named.
func members(n located.Node, d *Domain) []string {
	var out []string
	if !n.Present() {
		for _, v := range d.NVAs {
			out = append(out, v.Name)
		}
		return out
	}
	return subjects(n, "an NVA", "NVA, or no nvas at all for every NVA of the domain", func(s string) bool { _, known := d.NVA(s); return known })
}

// items reads a list that must not be empty where it is given: an empty list would be read as "none" by one person and as
// "no restriction" by the next.
func items(n located.Node, want string) []located.Node {
	before := len(n.Problems())
	list := n.List()
	if n.Present() && len(list) == 0 && len(n.Problems()) == before {
		n.Reportf("the list is empty: want %s", want)
	}
	return list
}

func matches(n located.Node) []route.Match {
	var out []route.Match
	for _, item := range items(n, "at least one prefix list line such as 10.0.0.0/8 le 24") {
		if m, ok := located.Value(item, "a prefix list line such as 10.0.0.0/8 le 24", route.ParseMatch); ok {
			out = append(out, m)
		}
	}
	return out
}

const (
	wantName  = "1 to 40 of a-z, 0-9 and -"
	wantTable = "/subscriptions/…/resourceGroups/…/providers/Microsoft.Network/routeTables/…"
)

func name(n located.Node) (string, bool) {
	return located.Value(n, wantName, func(s string) (string, error) {
		if !event.ValidName(s) {
			return "", fmt.Errorf("found %q", s)
		}
		return s, nil
	})
}

func uniqueName(n located.Node, taken map[string]bool) string {
	s, ok := name(n)
	if ok && taken[s] {
		n.Reportf("the name %s stands twice", s)
	}
	taken[s] = true
	return s
}

func parseSilence(s string) (Silence, error) {
	switch s {
	case "down":
		return SilenceDown, nil
	case "hold":
		return SilenceHold, nil
	}
	return 0, fmt.Errorf("found %q", s)
}

func parseHoldDown(s string) (time.Duration, error) {
	if s == "never" {
		return Never, nil
	}
	return located.Duration(0, 24*time.Hour)(s)
}

func parseHalfLife(s string) (time.Duration, error) {
	d, err := located.Duration(0, time.Hour)(s)
	if err == nil && d > 0 && d < time.Second {
		return 0, fmt.Errorf("found %q", s)
	}
	return d, err
}

func parseDrift(s string) (Drift, error) {
	switch s {
	case "repair":
		return DriftRepair, nil
	case "report":
		return DriftReport, nil
	}
	return 0, fmt.Errorf("found %q", s)
}

func parseShare(s string) (float64, error) {
	v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%"), 64)
	if err != nil || !strings.HasSuffix(s, "%") || !(v >= 0 && v <= 100) { // NaN is neither
		return 0, fmt.Errorf("found %q", s)
	}
	return v / 100, nil
}

func number(low, high float64) func(string) (float64, error) {
	return func(s string) (float64, error) {
		v, err := strconv.ParseFloat(s, 64)
		if err != nil || !(v >= low && v <= high) { // NaN is neither
			return 0, fmt.Errorf("found %q", s)
		}
		return v, nil
	}
}

// parseNextHop refuses what Azure cannot send a packet to.
func parseNextHop(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("found %q", s)
	}
	a = a.Unmap()
	if a.Zone() != "" || a.IsUnspecified() || route.Forbidden(netip.PrefixFrom(a, a.BitLen())) != "" {
		return netip.Addr{}, fmt.Errorf("%s cannot be a next hop", s)
	}
	return a, nil
}

// parseRouteNamePrefix keeps the whole name, prefix and address, within Azure's 80 characters.
func parseRouteNamePrefix(s string) (string, error) {
	if len(s) < 2 || len(s) > 30 || !strings.HasSuffix(s, "-") {
		return "", fmt.Errorf("found %q", s)
	}
	for i, r := range s {
		alnum := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !alnum && (i == 0 || !strings.ContainsRune("_.-", r)) {
			return "", fmt.Errorf("found %q", s)
		}
	}
	return s, nil
}

func parseTableID(s string) (string, error) { return parseID(s, "routeTables") }

// parseID reads the ARM resource id of a resource of Microsoft.Network.
func parseID(s, kind string) (string, error) {
	parts := strings.Split(s, "/")
	if len(parts) != 9 || parts[0] != "" {
		return "", fmt.Errorf("found %q", s)
	}
	for i, want := range []string{"", "subscriptions", "", "resourceGroups", "", "providers", "Microsoft.Network", kind, ""} {
		if want != "" && !strings.EqualFold(parts[i], want) {
			return "", fmt.Errorf("found %q where %q belongs", parts[i], want)
		}
		if i > 0 && parts[i] == "" {
			return "", errors.New("a part of the id is empty")
		}
	}
	return s, nil
}
