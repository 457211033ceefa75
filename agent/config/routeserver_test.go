package config_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

func expectRouteServer(t *testing.T, text string, want *routeserver.Config) {
	t.Helper()
	c, problems := config.Parse("agent.yaml", []byte(text))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if diff := cmp.Diff(want, c.RouteServer, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}, bgp.Community{})); diff != "" {
		t.Errorf("routeServer (-want +got):\n%s", diff)
	}
}

func routeServerDefaults() *routeserver.Config {
	return &routeserver.Config{
		AS: 65010, RouterID: netip.MustParseAddr("10.0.2.4"), Port: 179, HoldTime: 180 * time.Second, RestartTime: 30 * time.Second, RouteLimit: 4000,
		Pace: 30 * time.Second, Instances: [2]netip.Addr{netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("10.0.1.5")},
	}
}

func TestRouteServerDefaults(t *testing.T) {
	expectRouteServer(t, least+"routeServer: {as: 65010, routerId: 10.0.2.4, instances: [10.0.1.4, 10.0.1.5]}", routeServerDefaults())
	expectRouteServer(t, least, nil)
}

// referenceWithRouteServer is the reference with its section brought in.
func referenceWithRouteServer(t *testing.T) string {
	t.Helper()
	before, rest, found := strings.Cut(config.Reference(), "routeServer: null\n#\n")
	block, after, _ := strings.Cut(rest, "\n\n")
	if !found {
		t.Fatal("the reference has no routeServer")
	}
	return before + regexp.MustCompile(`(?m)^# ?`).ReplaceAllString(block, "") + "\n\n" + after
}

func TestReferenceOfRouteServerIsTheDefaults(t *testing.T) {
	expectRouteServer(t, referenceWithRouteServer(t), routeServerDefaults())
}

func TestReferenceNamesEveryFieldOfRouteServer(t *testing.T) {
	_, problems := config.Parse("f", []byte(least+"routeServer: {x: 1}"))
	m := regexp.MustCompile(`known here: (.*)`).FindStringSubmatch(problems.Error())
	if m == nil {
		t.Fatal(problems)
	}
	for key := range strings.SplitSeq(m[1], ", ") {
		if !strings.Contains(referenceWithRouteServer(t), "\n  "+key+":") {
			t.Errorf("reference.yaml does not name %s", key)
		}
	}
}

func TestEveryFieldOfRouteServer(t *testing.T) {
	match, err := route.ParseMatch("10.0.0.0/8 le 24")
	if err != nil {
		t.Fatal(err)
	}
	expectRouteServer(t, least+`
routeServer:
  as: 64512
  routerId: 192.0.2.1
  instances: [10.0.1.5, 10.0.1.4]
  port: 1179
  localAddress: 10.0.2.4
  holdTime: 9s
  restartTime: 0s
  rank: 8
  ranks: [10.0.0.0/8 le 24 rank 1]
  nextHop: 10.0.2.100
  communities: [no-advertise, "65010:1"]
  include: [10.0.0.0/8 le 24]
  exclude: [10.0.0.0/8 le 24]
  defaultRoute: true
  routeLimit: 1000
  pace: 1m
`, &routeserver.Config{
		AS: 64512, RouterID: netip.MustParseAddr("192.0.2.1"), Port: 1179, LocalAddress: netip.MustParseAddr("10.0.2.4"), HoldTime: 9 * time.Second,
		Instances: [2]netip.Addr{netip.MustParseAddr("10.0.1.5"), netip.MustParseAddr("10.0.1.4")},
		Rank:      8, Ranks: []routeserver.RankRule{{Match: match, Rank: 1}}, NextHop: netip.MustParseAddr("10.0.2.100"),
		Communities: []bgp.Community{bgp.NewCommunity(0xffffff02), bgp.NewCommunity(65010<<16 + 1)}, Include: []route.Match{match}, Exclude: []route.Match{match},
		DefaultRoute: true, RouteLimit: 1000, Pace: time.Minute,
	})
}

func TestProblemsOfRouteServer(t *testing.T) {
	const rest = ", localAddress: 10.0.2.4, instances: [10.0.1.4, 10.0.1.5]"
	for text, want := range map[string]string{
		"as: 65515" + rest: "f:6:19: routeServer.as: found 65515, which is Route Server's own: it would drop every route as a loop",
		"as: 65518" + rest: "f:6:19: routeServer.as: found 65518, which Route Server refuses as reserved",
		"as: 70000" + rest: "routeServer.as: found 70000: Route Server takes AS numbers of 16 bits only",
		rest[2:]:           "routeServer.as: missing",
		"as: 65010, instances: [10.0.1.4, 10.0.1.5]":                                 "routeServer: routerId: missing: want an IPv4 address, since localAddress gives none",
		"as: 65010, localAddress: 10.0.2.4":                                          "routeServer.instances: missing: want both instances",
		"as: 65010, localAddress: 10.0.2.4, instances: [10.0.1.4]":                   "found 1 different addresses: want both",
		"as: 65010, localAddress: 10.0.2.4, instances: ['fd00::1', 'fd00::2']":       `routeServer.instances[0]: found "fd00::1": Route Server takes IPv4 only`,
		"as: 65010, localAddress: 10.0.2.4, instances: [10.0.1.4, 10.0.1.4]":         "found 1 different addresses",
		"as: 65010, holdTime: 2s" + rest:                                             "routeServer.holdTime: found",
		"as: 65010, holdTime: 3500ms" + rest:                                         "routeServer.holdTime: found 3.5s: want whole seconds",
		"as: 65010, restartTime: 4096s" + rest:                                       "routeServer.restartTime: found",
		"as: 65010, rank: 9" + rest:                                                  "routeServer.rank: found",
		"as: 65010, ranks: [10.0.0.0/8 rank 9]" + rest:                               `routeServer.ranks[0]: found "10.0.0.0/8 rank 9": "9" is not a rank from 0 to 8`,
		"as: 65010, nextHop: 10.0.1.4" + rest:                                        "routeServer.nextHop: found 10.0.1.4, which is an instance of the Route Server",
		"as: 65010, communities: [peerless]" + rest:                                  "routeServer.communities[0]: found",
		"as: 65010, communities: [" + strings.Repeat("no-export, ", 17) + "]" + rest: "routeServer.communities: found 17 communities: want at most 16",
		"as: 65010, include: [10.0.0.1/8]" + rest:                                    "routeServer.include[0]: \"10.0.0.1/8\" is not canonical",
		"as: 65010, routeLimit: 0" + rest:                                            "routeServer.routeLimit: found",
		"as: 65010, pace: 0s" + rest:                                                 "routeServer.pace: found",
		"as: 65010, passwordFile: /x" + rest:                                         "routeServer.passwordFile: unknown field",
	} {
		_, problems := config.Parse("f", []byte(strings.TrimPrefix(least, "\n")+"\nrouteServer: {"+text+"}"))
		if !strings.Contains(problems.Error(), want) {
			t.Errorf("%s: got %v, want %q", text, problems, want)
		}
	}
	_, problems := config.Parse("f", []byte(least+"routeServer: {as: wrong}"), "bgp")
	if len(problems) != 1 || !strings.Contains(problems.Error(), "routeServer: this build has no BGP: install pointsman-agent-bgp") {
		t.Errorf("a build without BGP: %v", problems)
	}
}

// TestNothingComesBackFromRouteServer: a bgp source refuses what came through a Route Server.
func TestNothingComesBackFromRouteServer(t *testing.T) {
	const source = "sources: [{bgp: {as: 65010, routerId: 192.0.2.1, peers: [{address: 192.0.2.2}]}}]\n"
	if deny := speaker(t, beginning+source+"routeServer: {as: 65010, routerId: 10.0.2.4, instances: [10.0.1.4, 10.0.1.5]}").ASPath.Deny; !slices.Equal(deny, []uint32{65515}) {
		t.Errorf("refused are %v", deny)
	}
	if deny := speaker(t, beginning+source).ASPath.Deny; deny != nil {
		t.Errorf("without a Route Server: %v", deny)
	}
}
