package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pointsman/pointsman/emulator/arm"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/system"
)

// TestRouteServerAndOverride: the peers come to be, one after the other, beside somebody else's; when an NVA dies the table leads past the Route Server, and is empty
// again when that has noticed.
func TestRouteServerAndOverride(t *testing.T) {
	t.Parallel()
	domain := hub + `
routeServers:
  - {name: rs, virtualHub: ` + system.HubID + `, peers: [{nva: nva-a, asn: 65001}, {nva: nva-b, asn: 65002}]}
ranges:
  - {prefixes: [10.64.0.0/10 le 24], via: override}
`
	w := startWith(t, system.Config{
		TableWrite: quick, Domains: map[string]string{"hub": domain}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)}, Hubs: []string{system.HubID},
	})
	byHand := system.HubID + "/bgpConnections/by-hand"
	if err := w.ARM.PutPeer(byHand, json.RawMessage(`{"properties":{"peerIp":"10.0.0.9","peerAsn":65009}}`)); err != nil {
		t.Fatal(err)
	}
	_, before, _ := w.ARM.Peer(byHand)
	prefixes := withoutBlocked(system.Prefixes(5))
	var mu sync.Mutex
	dead := false
	w.ARM.LearnFrom(func(peerID string, _ int) []arm.PeerRoute {
		mu.Lock()
		defer mu.Unlock()
		if dead && strings.HasSuffix(peerID, "nva-a") {
			return nil
		}
		var out []arm.PeerRoute
		for _, p := range prefixes {
			out = append(out, arm.PeerRoute{Network: p})
		}
		return out
	})
	w.publish(w.said("nva-a", event.Snapshot, announce(prefixes)), w.said("nva-b", event.Snapshot, announce(prefixes)))
	w.until("both peers are made", func() error {
		if got := w.ARM.Peers(system.HubID); !slices.Equal(got, []string{"by-hand", "pointsman-nva-a", "pointsman-nva-b"}) {
			return fmt.Errorf("there are %v", got)
		}
		return nil
	})
	w.until("the operations are over", func() error {
		if s := w.target("rs").RouteServer; s.Operation != nil || len(s.Peers) != 3 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	table, err := w.Routes(system.TableID)
	if err != nil || len(table) != 3 {
		t.Fatalf("before anything has happened the table has %v, %v", table, err)
	}

	w.dies()
	w.carries(hopB, prefixes)
	mu.Lock()
	dead = true
	mu.Unlock()
	w.until("the overrides are gone", func() error {
		routes, unread := w.Routes(system.TableID)
		if unread != nil || len(routes) != 3 {
			return fmt.Errorf("the table has %d routes, %w", len(routes), unread)
		}
		return nil
	})
	if _, after, there := w.ARM.Peer(byHand); !there || after != before {
		t.Error("the peer of somebody else was touched")
	}
}
