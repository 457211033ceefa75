package main

import (
	"bytes"
	"crypto/ed25519"
	"strings"
	"testing"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/order"
	"github.com/pointsman/pointsman/shared/signature"
)

// An order in a journal is checked where the domain file has operators, however old it is.
func TestVerifyOrders(t *testing.T) {
	key := func(n byte) ed25519.PrivateKey {
		return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{n}, ed25519.SeedSize))
	}
	const file = `domain: hub
policy: {silence: hold}
nvas: [{name: nva-a, nextHops: [10.0.0.4], allow: [10.0.0.0/8]}]
targets: [{name: spokes, routeTable: /subscriptions/s/resourceGroups/r/providers/Microsoft.Network/routeTables/spokes}]
`
	parse := func(text string) *config.Domain {
		d, problems := config.Parse("hub.yaml", []byte(text))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		return d
	}
	open, signed := parse(file), parse(file+`operators: [{name: jo, keys: ["`+signature.KeyOf(key(1)).String()+"\"]}]\n")
	line, err := order.Encode(order.Order{Kind: order.Drain, Domain: "hub", NVA: "nva-a", ID: "0b8f3c52-6f0a-4a37-9d5c-0d9d3c1a7e55", Who: "jo"})
	if err != nil {
		t.Fatal(err)
	}
	by := func(n byte) []byte {
		out, failed := signature.SignOrder(key(n), line)
		if failed != nil {
			t.Fatal(failed)
		}
		return out
	}
	for name, tt := range map[string]struct {
		d    *config.Domain
		line []byte
		want string
	}{
		"none is needed":   {open, line, ""},
		"by an operator":   {signed, by(1), ""},
		"by somebody else": {signed, by(2), "order hub/operator/0b8f3c52-6f0a-4a37-9d5c-0d9d3c1a7e55: the order is signed with key"},
		"not signed":       {signed, line, "the order is not signed"},
	} {
		if failed := verifyLine(tt.d, tt.line); (failed == nil) != (tt.want == "") || failed != nil && !strings.Contains(failed.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, failed, tt.want)
		}
	}
}
