package answer_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/answer"
	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/plan"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// The truth table of Alive, by way of Weigh: what a move from an NVA's next hop counts as.
func TestAMoveFromADeadNextHopIsUrgent(t *testing.T) {
	p := netip.MustParsePrefix("10.64.0.0/24")
	hop := netip.MustParseAddr("10.0.0.4")
	at := time.Unix(1000, 0)
	dead, better := coalesce.Change{Dead: 1}, coalesce.Change{Better: 1}
	for name, tt := range map[string]struct {
		announces, silent, draining bool
		silence                     config.Silence
		frozen                      bool
		hop                         netip.Addr
		want                        coalesce.Change
	}{
		"up and announced":         {announces: true, silence: config.SilenceDown, hop: hop, want: better},
		"up, withdrawn":            {silence: config.SilenceDown, hop: hop, want: dead},
		"silent means down":        {announces: true, silent: true, silence: config.SilenceDown, hop: hop, want: dead},
		"silent means hold":        {announces: true, silent: true, silence: config.SilenceHold, hop: hop, want: better},
		"silent, but all are":      {announces: true, silent: true, silence: config.SilenceDown, frozen: true, hop: hop, want: better},
		"draining":                 {announces: true, draining: true, silence: config.SilenceDown, hop: hop, want: dead},
		"nobody's next hop at all": {announces: true, silence: config.SilenceDown, hop: netip.MustParseAddr("10.9.9.9"), want: dead},
	} {
		t.Run(name, func(t *testing.T) {
			doc := state.NewNVA("hub", "nva-a")
			say := func(kind event.Kind, seq uint64, entries ...route.Entry) {
				e := event.Event{Domain: "hub", NVA: "nva-a", Kind: kind, Version: event.Version{Epoch: 1, Seq: seq}, Boot: "b", Beat: 1, Announce: entries}
				if _, err := doc.Merge(e, at); err != nil {
					t.Fatal(err)
				}
			}
			say(event.Delta, 1)
			if tt.announces {
				say(event.Delta, 2, route.Entry{Prefix: p})
			}
			if tt.draining {
				say(event.Draining, 3)
			}
			if tt.silent {
				say(event.Expired, 0)
			}
			in := selection.Input{
				Domain: &config.Domain{Policy: config.Policy{Silence: tt.silence}, NVAs: []config.NVA{{Name: "nva-x", NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}, {Name: "nva-a", NextHops: []netip.Addr{hop}}}},
				NVAs:   map[string]*state.NVA{"nva-a": doc},
			}
			if !tt.frozen {
				other := state.NewNVA("hub", "nva-x")
				if _, err := other.Merge(event.Event{Domain: "hub", NVA: "nva-x", Kind: event.Alive, Version: event.Version{Epoch: 1, Seq: 1}, Boot: "b", Beat: 1}, at); err != nil {
					t.Fatal(err)
				}
				in.NVAs["nva-x"] = other
			}
			move := plan.Plan{Changed: []plan.Change{{Prefix: p, From: route.NextHopsOf(tt.hop), To: route.NextHopsOf(netip.MustParseAddr("10.0.0.5"))}}}
			if got := answer.Weigh(in, liveness.Judge(in.Domain, in.NVAs, at), move); got != tt.want {
				t.Errorf("got %+v, want %+v", got, tt.want)
			}
		})
	}
}

func TestAdditionsAreMissingAndRemovalsAreNotUrgent(t *testing.T) {
	got := answer.Weigh(selection.Input{}, liveness.View{}, plan.Plan{Added: make([]plan.Change, 2), Removed: make([]plan.Change, 3)})
	if want := (coalesce.Change{Missing: 2, Better: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}
