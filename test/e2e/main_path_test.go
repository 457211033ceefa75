package e2e

import (
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/event"
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
