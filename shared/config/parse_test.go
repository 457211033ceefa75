package config_test

import (
	"flag"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/signature"
)

var update = flag.Bool("update", false, "rewrite the golden problems")

const referenceFile = "../../docs/reference-domain.yaml"

func values() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	}
}

// TestProblems compares all that is said of every bad file with what is written beside it.
func TestProblems(t *testing.T) {
	const file = "testdata/bad.txtar"
	archive, err := txtar.ParseFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(archive.Files); i += 2 {
		bad, want := archive.Files[i], &archive.Files[i+1]
		name, ok := strings.CutSuffix(bad.Name, ".yaml")
		if !ok || want.Name != name+".problems" {
			t.Fatalf("%s is followed by %s", bad.Name, want.Name)
		}
		domain, problems := config.Parse(bad.Name, bad.Data)
		if domain != nil || len(problems) == 0 {
			t.Errorf("%s: accepted as %+v, with %d problems", bad.Name, domain, len(problems))
			continue
		}
		got := problems.Error() + "\n"
		if *update {
			want.Data = []byte(got)
		}
		if diff := cmp.Diff(string(want.Data), got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", bad.Name, diff)
		}
	}
	if *update {
		if err = os.WriteFile(file, txtar.Format(archive), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

const table = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/routeTables/"

const hub = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hub/providers/Microsoft.Network/virtualHubs/"

// minimal is the shortest file that is right.
const minimal = `
domain: hub
policy: {silence: hold}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], allow: [10.0.0.0/8 le 24]}
targets:
  - {name: spokes, routeTable: ` + table + `spokes}
`

func parse(t *testing.T, file, text string) *config.Domain {
	t.Helper()
	d, problems := config.Parse(file, []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	return d
}

func match(t *testing.T, s string) route.Match {
	t.Helper()
	m, err := route.ParseMatch(s)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func key(t *testing.T, s string) signature.Key {
	t.Helper()
	k, err := signature.ParseKey("ed25519:" + s)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func TestDefaults(t *testing.T) {
	want := &config.Domain{
		Name: "hub",
		Policy: config.Policy{
			Silence: config.SilenceHold, HoldDown: 30 * time.Second, AnswerWithin: 1500 * time.Millisecond, RouteNamePrefix: "pointsman-", WritePrice: 5, WriteCap: 30 * time.Second,
			Damping: config.Damping{HalfLife: 5 * time.Minute, Suppress: 2000, Reuse: 750, Ceiling: 6000},
			Drift:   config.DriftRepair,
		},
		Guards:  config.Guards{MaxRemovedShare: 0.5, MinRemoved: 10, MaxChangedShare: 1, OwnSubnet: config.OwnSubnetCheck},
		Spread:  config.Spread{MaxExcess: 0.25},
		NVAs:    []config.NVA{{Name: "nva-a", NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.4")}, Preference: 100, Weight: 1, MaxPrefixes: 1000, Allow: []route.Match{match(t, "10.0.0.0/8 le 24")}}},
		Targets: []config.Target{{Name: "spokes", RouteTable: table + "spokes", NVAs: []string{"nva-a"}, Limit: 1000, Apply: config.ApplyAuto, Selection: config.Selection{Mode: config.ModePrimaryBackup}}},
	}
	if diff := cmp.Diff(want, parse(t, "minimal.yaml", minimal), values()); diff != "" {
		t.Error(diff)
	}
}

func TestEveryFieldIsRead(t *testing.T) {
	got := parse(t, "full.yaml", `
domain: branch-7
policy:
  silence: down
  holdDown: never
  answerWithin: 0s
  damping: {halfLife: 1h, suppress: 1000.5, reuse: 1, ceiling: 8000}
  routeNamePrefix: P.m_-
  writePrice: 0
  writeCap: 10m
  drift: report
guards:
  maxRemoved: 12.5%
  minRemoved: 100_000
  maxChanged: 1%
  minLive: 1
  ownSubnet: off
spread:
  spokes:
    - {name: sales, prefixes: [10.1.0.0/16, "fd00:1::/48"]}
    - {name: lab, prefixes: [10.2.0.0/20]}
  blocks: [10.64.0.0/10 le 20, "fd00::/8 le 40"]
  maxExcess: 0%
nvas:
  - name: nva-a
    nextHops: [fd00::4, 10.0.0.4]
    preference: 0
    weight: 1000
    allow: [0.0.0.0/0, "::/0 le 64"]
    maxPrefixes: 1
    keys: ["ed25519:11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=", "ed25519:PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw="]
  - name: "2"
    nextHops: ["::ffff:10.0.0.5"]
    allow: [10.0.0.0/8]
targets:
  - name: t
    routeTable: `+strings.ToUpper(table)+`T
    nvas: ["2"]
    prefixes: [10.0.0.0/8 ge 16]
    limit: 400
    mode: ecmp
    side: sales
    rules:
      - {prefixes: [0.0.0.0/0], mode: next-hop-ip, nextHops: [10.0.0.100, "fd00::64"]}
      - {prefixes: [10.0.0.0/8 le 24], mode: ecmp, maxNextHops: 2}
      - {prefixes: [10.64.0.0/10 le 24, 10.1.0.0/16], mode: spread}
    apply: observe
    guards: {maxChanged: 33%, ownSubnet: check}
    subnets: [10.2.0.0/24, "fd02::/64"]
  - {name: u, routeTable: `+table+`u, apply: approve}
groups:
  - {name: both, targets: [u, t], alertAfter: 90s}
operators:
  - {name: jo, keys: ["ed25519:/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU="]}
  - {name: kim, keys: ["ed25519:J4EX/BRMcjQPZ9DyMW6Dhs7/vyskKMnFH+98WX8dQm4="], orders: [resume, approve], nvas: ["2", nva-a], targets: [u]}
routeServers:
  - name: rs
    virtualHub: `+hub+`rs
    peers: [{nva: nva-a, asn: 65534}, {nva: "2", asn: 1, address: 10.0.0.6}]
    prefixes: [10.0.0.0/8 le 24]
    nextHops: [10.0.0.100]
    maxPeers: 2
    routesPerPeer: 1
    apply: observe
  - {name: other, virtualHub: `+hub+`other, peers: [{nva: "2", asn: 65521}]}
ranges:
  - {prefixes: [10.0.0.0/16], via: udr}
  - {prefixes: [10.1.0.0/16, 10.2.0.0/16], via: route-server}
  - {prefixes: [10.3.0.0/16], via: both}
  - {prefixes: [10.0.0.0/8 le 24], via: override}
`)
	want := &config.Domain{
		Name: "branch-7",
		Policy: config.Policy{
			Silence: config.SilenceDown, HoldDown: config.Never, RouteNamePrefix: "P.m_-", WriteCap: 10 * time.Minute,
			Damping: config.Damping{HalfLife: time.Hour, Suppress: 1000.5, Reuse: 1, Ceiling: 8000},
			Drift:   config.DriftReport,
		},
		Guards: config.Guards{MaxRemovedShare: 0.125, MinRemoved: 100000, MaxChangedShare: 0.01, MinLive: 1, OwnSubnet: config.OwnSubnetOff},
		NVAs: []config.NVA{
			{
				Name: "nva-a", NextHops: []netip.Addr{netip.MustParseAddr("fd00::4"), netip.MustParseAddr("10.0.0.4")}, Weight: 1000, MaxPrefixes: 1,
				Allow: []route.Match{match(t, "0.0.0.0/0"), match(t, "::/0 le 64")},
				Keys:  []signature.Key{key(t, "11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo="), key(t, "PUAXw+hDiVqStwqnTRt+vJyYLM8uxJaMwM1V8Sr0Zgw=")},
			},
			{Name: "2", NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.5")}, Preference: 100, Weight: 1, MaxPrefixes: 1000, Allow: []route.Match{match(t, "10.0.0.0/8")}},
		},
		Spread: config.Spread{
			Spokes: []config.Spoke{
				{Name: "sales", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/48")}},
				{Name: "lab", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.2.0.0/20")}},
			},
			Blocks: []route.Match{match(t, "10.64.0.0/10 le 20"), match(t, "fd00::/8 le 40")},
		},
		Targets: []config.Target{{
			Name: "t", RouteTable: strings.ToUpper(table) + "T", NVAs: []string{"2"}, Prefixes: []route.Match{match(t, "10.0.0.0/8 ge 16")}, Limit: 400, Apply: config.ApplyObserve,
			Guards:    &config.Guards{MaxRemovedShare: 0.125, MinRemoved: 100000, MaxChangedShare: 0.33, MinLive: 1, OwnSubnet: config.OwnSubnetCheck},
			Subnets:   []netip.Prefix{netip.MustParsePrefix("10.2.0.0/24"), netip.MustParsePrefix("fd02::/64")},
			Selection: config.Selection{Mode: config.ModeECMP, MaxNextHops: 64}, Side: "sales",
			Rules: []config.Rule{
				{Prefixes: []route.Match{match(t, "0.0.0.0/0")}, Selection: config.Selection{Mode: config.ModeNextHopIP, NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.100"), netip.MustParseAddr("fd00::64")}}},
				{Prefixes: []route.Match{match(t, "10.0.0.0/8 le 24")}, Selection: config.Selection{Mode: config.ModeECMP, MaxNextHops: 2}},
				{Prefixes: []route.Match{match(t, "10.64.0.0/10 le 24"), match(t, "10.1.0.0/16")}, Selection: config.Selection{Mode: config.ModeSpread}},
			},
		}, {
			Name: "u", RouteTable: table + "u", NVAs: []string{"nva-a", "2"}, Limit: 1000, Apply: config.ApplyApprove, Selection: config.Selection{Mode: config.ModePrimaryBackup},
		}},
		Groups: []config.Group{{Name: "both", Targets: []string{"u", "t"}, AlertAfter: 90 * time.Second}},
		Operators: []config.Operator{
			{Name: "jo", Keys: []signature.Key{key(t, "/FHNjmIYoaONpH7QAjDwWAgW7RO6MwOsXeuRFUiQgCU=")}},
			{
				Name: "kim", Keys: []signature.Key{key(t, "J4EX/BRMcjQPZ9DyMW6Dhs7/vyskKMnFH+98WX8dQm4=")},
				Orders: []order.Kind{order.Resume, order.Approve}, NVAs: []string{"2", "nva-a"}, Targets: []string{"u"},
			},
		},
		RouteServers: []config.RouteServer{{
			Name: "rs", VirtualHub: hub + "rs", Prefixes: []route.Match{match(t, "10.0.0.0/8 le 24")}, NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.100")},
			Peers:    []config.Peer{{NVA: "nva-a", ASN: 65534, Address: netip.MustParseAddr("10.0.0.4")}, {NVA: "2", ASN: 1, Address: netip.MustParseAddr("10.0.0.6")}},
			MaxPeers: 2, RoutesPerPeer: 1, Apply: config.ApplyObserve,
		}, {
			Name: "other", VirtualHub: hub + "other", Peers: []config.Peer{{NVA: "2", ASN: 65521, Address: netip.MustParseAddr("10.0.0.5")}},
			MaxPeers: 8, RoutesPerPeer: 4000, Apply: config.ApplyAuto,
		}},
		Ranges: []config.Range{
			{Prefixes: []route.Match{match(t, "10.0.0.0/16")}, Via: config.ViaUDR},
			{Prefixes: []route.Match{match(t, "10.1.0.0/16"), match(t, "10.2.0.0/16")}, Via: config.ViaRouteServer},
			{Prefixes: []route.Match{match(t, "10.3.0.0/16")}, Via: config.ViaBoth},
			{Prefixes: []route.Match{match(t, "10.0.0.0/8 le 24")}, Via: config.ViaOverride},
		},
	}
	if diff := cmp.Diff(want, got, values()); diff != "" {
		t.Error(diff)
	}
}

// TestReference keeps the reference file honest: it is valid, what it shows as defaults are the defaults, and every key that the
// code knows is in it.
func TestReference(t *testing.T) {
	text, err := os.ReadFile(referenceFile)
	if err != nil {
		t.Fatal(err)
	}
	full := parse(t, referenceFile, string(text))
	var bare strings.Builder
	for line := range strings.Lines(string(text)) {
		if !strings.Contains(line, "# default") {
			bare.WriteString(line)
		}
	}
	if bare.Len() == len(text) {
		t.Fatal("no line of the reference is marked as a default")
	}
	short := strings.NewReplacer("guards:\n", "").Replace(bare.String())
	if diff := cmp.Diff(parse(t, "without-defaults.yaml", short), full, values()); diff != "" {
		t.Errorf("leaving the defaults out changes the meaning (-defaults +reference):\n%s", diff)
	}
	for _, key := range append(strings.Split(knownKeys(t), ", "), "guards", "spread") {
		if !strings.Contains("\n"+string(text), key+":") {
			t.Errorf("the reference does not show %s", key)
		}
	}
}

// TestDocument: the example in the documentation is valid, and every key is explained.
func TestDocument(t *testing.T) {
	text, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "```yaml\n")
	example, _, closed := strings.Cut(rest, "```")
	if !found || !closed {
		t.Fatal("the document has no example")
	}
	parse(t, "example.yaml", example)
	for key := range strings.SplitSeq(knownKeys(t), ", ") {
		if !strings.Contains(string(text), "`"+key) && !strings.Contains(string(text), "."+key+"`") {
			t.Errorf("the document does not explain %s", key)
		}
	}
}

// probe has an unknown key in every mapping that a file can have.
const probe = "x: 1\npolicy: {x: 1, damping: {x: 1}}\nguards: {x: 1}\nspread: {x: 1, spokes: [{x: 1}]}\nnvas: [{x: 1}]\ntargets: [{x: 1, rules: [{x: 1}], guards: {x: 1}}]\ngroups: [{x: 1}]\noperators: [{x: 1}]\nrouteServers: [{x: 1, peers: [{x: 1}]}]\nranges: [{x: 1}]\n"

// knownKeys asks the parser for its keys: it lists them where it finds an unknown one.
func knownKeys(t *testing.T) string {
	t.Helper()
	_, problems := config.Parse("keys.yaml", []byte(probe))
	var keys []string
	for _, p := range problems {
		if _, list, ok := strings.Cut(p.Text, "known here: "); ok {
			keys = append(keys, list)
		}
	}
	if len(keys) != 15 {
		t.Fatalf("the parser lists the keys of %d mappings, want 15", len(keys))
	}
	return strings.Join(keys, ", ")
}

func TestDomain(t *testing.T) {
	d := parse(t, "minimal.yaml", minimal)
	v, ok := d.NVA("nva-a")
	if _, none := d.NVA("nva-b"); !ok || none || v.Name != "nva-a" {
		t.Error("NVA finds the wrong one")
	}
	if _, ok = d.Target("spokes"); !ok {
		t.Error("Target does not find spokes")
	}
	if _, ok = d.Target("nva-a"); ok {
		t.Error("Target finds what is not there")
	}
	if got := d.FedBy("nva-a"); len(got) != 1 || got[0].Name != "spokes" || len(d.FedBy("nva-b")) != 0 {
		t.Errorf("FedBy: %v", got)
	}
	if got := v.NextHop(netip.MustParsePrefix("10.1.0.0/16")).String(); got != "10.0.0.4" {
		t.Errorf("next hop %s", got)
	}
	if v.NextHop(netip.MustParsePrefix("fd00::/8")).IsValid() {
		t.Error("an IPv6 next hop out of nowhere")
	}
}

func TestSameTable(t *testing.T) {
	if !config.SameTable(table+"Spokes", strings.ToUpper(table)+"sPOKES/") || config.SameTable(table+"a", table+"b") {
		t.Error("ARM compares ids without case")
	}
}

// TestGuardsOf: a target has the domain's guards but for those that it has itself.
func TestGuardsOf(t *testing.T) {
	d := parse(t, "guards.yaml", minimal+"  - {name: own, routeTable: "+table+"own, guards: {maxChanged: 20%}}\nguards: {minRemoved: 7}\n")
	want := []config.Guards{
		{MaxRemovedShare: 0.5, MinRemoved: 7, MaxChangedShare: 1, OwnSubnet: config.OwnSubnetCheck},
		{MaxRemovedShare: 0.5, MinRemoved: 7, MaxChangedShare: 0.2, OwnSubnet: config.OwnSubnetCheck},
	}
	if diff := cmp.Diff(want, []config.Guards{d.GuardsOf(d.Targets[0]), d.GuardsOf(d.Targets[1])}); diff != "" {
		t.Error(diff)
	}
}

func TestSilenceNames(t *testing.T) {
	if config.SilenceDown.String() != "down" || config.SilenceHold.String() != "hold" {
		t.Errorf("%s, %s", config.SilenceDown, config.SilenceHold)
	}
}

// FuzzParse: nothing panics, a file is accepted or has problems, every problem has its place inside the file.
func FuzzParse(f *testing.F) {
	f.Add([]byte(minimal))
	if reference, err := os.ReadFile(referenceFile); err == nil {
		f.Add(reference)
	}
	archive, err := txtar.ParseFile("testdata/bad.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, x := range archive.Files {
		if strings.HasSuffix(x.Name, ".yaml") {
			f.Add(x.Data)
		}
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		d, problems := config.Parse("f.yaml", text)
		if (d == nil) == (len(problems) == 0) {
			t.Fatalf("domain %v with problems %v", d, problems)
		}
		checkPlaces(t, problems, strings.Count(string(text), "\n")+strings.Count(string(text), "\r")+1)
		if d != nil {
			checkSane(t, d)
		}
	})
}

func checkPlaces(t *testing.T, problems located.Problems, lines int) {
	t.Helper()
	for _, p := range problems {
		if p.Line < 0 || p.Line > lines+1 || p.Column < 0 || p.Text == "" || p.File != "f.yaml" {
			t.Fatalf("a problem without a place: %+v", p)
		}
	}
}

// checkSane holds for every domain that is accepted.
func checkSane(t *testing.T, d *config.Domain) {
	t.Helper()
	if d.Name == "" || len(d.NVAs) == 0 || len(d.Targets)+len(d.RouteServers) == 0 || d.Policy.Silence == 0 {
		t.Fatalf("accepted without something that is needed: %+v", d)
	}
	for _, v := range d.NVAs {
		if v.Name == "" || len(v.NextHops) == 0 || len(v.Allow) == 0 || v.MaxPrefixes < 1 {
			t.Fatalf("accepted: %+v", v)
		}
	}
	for _, x := range d.Targets {
		if x.Name == "" || x.RouteTable == "" || len(x.NVAs) == 0 || x.Limit < 1 {
			t.Fatalf("accepted: %+v", x)
		}
	}
	for _, x := range d.Targets {
		for _, how := range append([]config.Selection{x.Selection}, selections(x.Rules)...) {
			if (how.Mode == config.ModeECMP) != (how.MaxNextHops >= 2) || (how.Mode == config.ModeNextHopIP) != (len(how.NextHops) > 0) || x.Spreads() && x.Side == "" {
				t.Fatalf("accepted: %+v", x)
			}
		}
	}
	for _, g := range d.Groups {
		if g.Name == "" || len(d.Members(g)) < 2 || len(d.Members(g)) != len(g.Targets) || g.AlertAfter < time.Second {
			t.Fatalf("accepted: %+v", g)
		}
	}
	for _, r := range d.RouteServers {
		if r.Name == "" || r.VirtualHub == "" || len(r.Peers) == 0 || len(r.Peers) > r.MaxPeers || r.RoutesPerPeer < 1 || r.Apply == config.ApplyApprove {
			t.Fatalf("accepted: %+v", r)
		}
		for _, p := range r.Peers {
			if _, known := d.NVA(p.NVA); !known || !p.Address.Is4() || p.ASN < 1 || p.ASN > 65534 || p.ASN == 65515 {
				t.Fatalf("accepted: %+v", r)
			}
		}
	}
	for _, r := range d.Ranges {
		if len(r.Prefixes) == 0 || r.Via == 0 || r.Via.Announced() && len(d.RouteServers) == 0 {
			t.Fatalf("accepted: %+v", r)
		}
	}
	if p := d.Policy; !(p.WritePrice >= 0) || p.HoldDown < 0 || !(d.Guards.MaxRemovedShare >= 0 && d.Guards.MaxRemovedShare <= 1) {
		t.Fatalf("accepted: %+v %+v", d.Policy, d.Guards)
	}
}

func selections(rules []config.Rule) []config.Selection {
	var out []config.Selection
	for _, r := range rules {
		out = append(out, r.Selection)
	}
	return out
}
