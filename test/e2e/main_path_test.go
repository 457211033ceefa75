package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/system"
)

// An NVA that 300 prefixes depend on dies: one write, and no more reads than the write protocol needs.
func TestDeathOfAnNVAIsOneWrite(t *testing.T) {
	w := start(t, 200*time.Millisecond)
	all := system.Prefixes(300)
	prefixes := append(all[:7:7], all[8:]...) // the eighth is held by a route of somebody else
	w.publish(w.said("nva-a", event.Snapshot, announce(all)), w.said("nva-b", event.Snapshot, announce(all)))
	w.carries(hopA, prefixes)
	w.settled()
	w.ARM.ResetCalls()

	w.publish(w.said("nva-a", event.Expired, nil))
	w.carries(hopB, prefixes)
	w.settled()
	if puts, gets := w.calls("routeTables.CreateOrUpdate"), w.calls("routeTables.Get"); puts != 1 || gets > 2 {
		t.Errorf("%d PUTs and %d GETs, want 1 PUT and at most 2 GETs", puts, gets)
	}
}

// An NVA announces far more than the table may hold: what is there stays and is still led past the dead, nothing is added, and Status says what is missing.
func TestMoreRoutesThanTheTableMayHold(t *testing.T) {
	t.Parallel()
	domain := strings.NewReplacer("preference: 200\n", "preference: 200\n    maxPrefixes: 20000\n", "name: spokes\n", "name: spokes\n    limit: 400\n").Replace(hub)
	w := startWith(t, system.Config{
		TableWrite: quick, Domains: map[string]string{"hub": domain}, Tables: map[string]json.RawMessage{system.TableID: json.RawMessage(others)},
	})
	all := system.Prefixes(10_000)
	few := withoutBlocked(all[:300])
	w.publish(w.said("nva-a", event.Snapshot, announce(all[:300])), w.said("nva-b", event.Snapshot, announce(all[:300])))
	w.carries(hopA, few)
	w.settled()

	whole := w.said("nva-a", event.Snapshot, announce(all))
	pieces := event.Split(whole.Announce, 100_000)
	for i, piece := range pieces {
		part := whole
		part.Chunk, part.Announce = event.Chunk{Index: i, Count: len(pieces)}, piece
		w.publish(part)
	}
	w.until("Status says what is missing", func() error {
		const short = "the table would need 10002 routes and may hold 400: 9602 too many; none of the 9700 new routes is added"
		if r := w.target("spokes").Result; r.Outcome != state.Refused || r.Code != "RouteLimit" || !strings.HasPrefix(r.Message, short) {
			return fmt.Errorf("%s %s: %s", r.Outcome, r.Code, r.Message)
		}
		return nil
	})
	w.carries(hopA, few)
	w.publish(w.said("nva-a", event.Expired, nil))
	w.carries(hopB, few)
}
