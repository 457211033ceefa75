package config_test

import (
	"net/netip"
	"testing"

	"github.com/pointsman/pointsman/shared/config"
)

// alone is a file without a route table.
const alone = `
domain: hub
policy: {silence: hold}
nvas:
  - {name: nva-a, nextHops: [10.0.0.4], allow: [10.0.0.0/8 le 24]}
  - {name: nva-b, nextHops: [10.0.0.5], allow: [10.0.0.0/8 le 24]}
routeServers:
  - {name: rs, virtualHub: ` + hub + `rs, peers: [{nva: nva-a, asn: 65001}], prefixes: [10.0.0.0/8 le 16]}
`

func TestViaOf(t *testing.T) {
	both := minimal + `
routeServers: [{name: rs, virtualHub: ` + hub + `rs, peers: [{nva: nva-a, asn: 65001}]}]
ranges:
  - {prefixes: [10.64.0.0/16], via: both}
  - {prefixes: [10.64.0.0/10 le 24], via: override}
  - {prefixes: [10.0.0.0/8 le 24], via: route-server}
`
	for _, tt := range []struct {
		file, prefix string
		want         config.Via
	}{
		{minimal, "10.1.0.0/16", config.ViaUDR},
		{alone, "10.1.0.0/16", config.ViaRouteServer},
		{both, "10.64.0.0/16", config.ViaBoth},
		{both, "10.65.0.0/16", config.ViaOverride},
		{both, "10.1.0.0/16", config.ViaRouteServer},
		{both, "192.168.0.0/16", config.ViaUDR},
	} {
		if got := parse(t, "f.yaml", tt.file).ViaOf(netip.MustParsePrefix(tt.prefix)); got != tt.want {
			t.Errorf("%s goes via %s, want %s in %s", tt.prefix, got, tt.want, tt.file)
		}
	}
}

// TestRouteServerIsATarget: it is woken as one, by the NVAs that peer with it, and is no table.
func TestRouteServerIsATarget(t *testing.T) {
	d := parse(t, "alone.yaml", alone)
	all := d.All()
	if len(all) != 1 || all[0].Name != "rs" || all[0].RouteTable != hub+"rs" || !all[0].Fed("nva-a") || all[0].Fed("nva-b") || all[0].Subscription() != "00000000-0000-0000-0000-000000000000" {
		t.Errorf("as a target: %+v", all)
	}
	if len(d.FedBy("nva-a")) != 1 || len(d.FedBy("nva-b")) != 0 {
		t.Errorf("fed by %v and %v", d.FedBy("nva-a"), d.FedBy("nva-b"))
	}
	if _, table := d.Target("rs"); table {
		t.Error("a Route Server counts as a table")
	}
	r, known := d.RouteServer("rs")
	if _, none := d.RouteServer("spokes"); !known || none || !r.Wants(netip.MustParsePrefix("10.1.0.0/16")) || r.Wants(netip.MustParsePrefix("10.1.0.0/24")) {
		t.Errorf("RouteServer: %+v", r)
	}
	if p, found := r.Peer("nva-a"); !found || p.ASN != 65001 || p.Address != netip.MustParseAddr("10.0.0.4") {
		t.Errorf("peer %+v", p)
	}
	if _, found := r.Peer("nva-b"); found {
		t.Error("nva-b is no peer")
	}
}
