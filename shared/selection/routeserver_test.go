package selection_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/peering"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/selection"
	"github.com/pointsman/pointsman/shared/state"
)

// TestWhatBelongsInTheTable goes through the truth table of what a domain file lets go by way of Route Servers. nva-a is the preferred one, and it is down where
// "dead" says since when; its hold-down ends at "trusted".
func TestWhatBelongsInTheTable(t *testing.T) {
	p, ago := netip.MustParsePrefix("10.1.0.0/16"), func(d time.Duration) time.Time { return now.Add(-d) }
	hopA, hopB := hop("nva-a", false), hop("nva-b", false)
	peers := func(clear time.Time) map[string]peering.Standing {
		return map[string]peering.Standing{"nva-a": {Peers: true, Clear: clear}, "nva-b": {Peers: true}}
	}
	for _, tt := range []struct {
		name      string
		via       config.Via
		deadA     time.Duration // how long ago it fell silent; 0: it is up
		deadB     bool
		backA     time.Duration // how long ago it came up again; 0: it never went
		backB     time.Duration // likewise
		look      time.Duration // until the answer changes without news; 0: not said here
		standing  map[string]peering.Standing
		installed netip.Addr
		want      netip.Addr // invalid: it does not belong there
	}{
		{name: "udr", via: config.ViaUDR, want: hopA},
		{name: "both", via: config.ViaBoth, want: hopA, standing: peers(time.Time{})},
		{name: "route-server", via: config.ViaRouteServer, standing: peers(time.Time{})},
		{name: "route-server, even if it is dead", via: config.ViaRouteServer, deadA: time.Minute, standing: peers(time.Time{}), installed: hopA},
		{name: "override, all is well", via: config.ViaOverride, standing: peers(time.Time{})},
		{name: "override, what is left from before goes", via: config.ViaOverride, standing: peers(time.Time{}), installed: hopA},
		{name: "override, dead and never looked at", via: config.ViaOverride, deadA: time.Minute, standing: peers(time.Time{}), want: hopB},
		{name: "override, dead and seen listed before", via: config.ViaOverride, deadA: time.Minute, standing: peers(ago(2 * time.Minute)), want: hopB, installed: hopB},
		{name: "override, dead and not listed any more", via: config.ViaOverride, deadA: time.Minute, standing: peers(ago(30 * time.Second)), installed: hopB},
		{name: "override, dead and no peer of a Route Server", via: config.ViaOverride, deadA: time.Minute, standing: map[string]peering.Standing{"nva-b": {Peers: true}}},
		{name: "override, nobody left", via: config.ViaOverride, deadA: time.Minute, deadB: true, standing: peers(time.Time{})},
		{name: "override, the survivor dies too", via: config.ViaOverride, deadA: time.Minute, deadB: true, standing: peers(time.Time{}), installed: hopB, want: hopB},
		{name: "override, back and not trusted yet", via: config.ViaOverride, backA: 10 * time.Second, standing: peers(time.Time{}), installed: hopB, want: hopB},
		{name: "override, back and not trusted yet, nothing in the table", via: config.ViaOverride, backA: 10 * time.Second, standing: peers(time.Time{})},
		{name: "override, the worse one is back and not trusted yet", via: config.ViaOverride, backB: 10 * time.Second, standing: peers(time.Time{}), installed: hopA, want: hopA, look: 20 * time.Second},
		{name: "override, back and trusted", via: config.ViaOverride, backA: 2 * time.Minute, standing: peers(time.Time{}), installed: hopB},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := &config.Domain{
				Policy: config.Policy{Silence: config.SilenceDown, HoldDown: 30 * time.Second},
				NVAs:   []config.NVA{nva{name: "nva-a", preference: 200}.config(), nva{name: "nva-b", preference: 100}.config(), nva{name: "nva-c"}.config(), nva{name: "nva-d"}.config()},
				Ranges: []config.Range{{Prefixes: []route.Match{{Prefix: p, Min: p.Bits(), Max: p.Bits()}}, Via: tt.via}},
			}
			target := config.Target{Name: "spokes", NVAs: []string{"nva-a", "nva-b"}}
			d.Targets = []config.Target{target}
			docs := map[string]*state.NVA{}
			for _, v := range d.NVAs {
				docs[v.Name] = state.NewNVA("hub", v.Name)
				hear(t, docs[v.Name], event.Snapshot, 1, now.Add(-time.Hour), func(e *event.Event) { e.Announce = []route.Entry{{Prefix: p}} })
			}
			if tt.deadA > 0 || tt.backA > 0 {
				hear(t, docs["nva-a"], event.Expired, 0, now.Add(-max(tt.deadA, tt.backA+time.Minute)), nil)
			}
			if tt.backA > 0 {
				hear(t, docs["nva-a"], event.Alive, 2, now.Add(-tt.backA), nil)
			}
			if tt.backB > 0 {
				hear(t, docs["nva-b"], event.Expired, 0, now.Add(-tt.backB-time.Minute), nil)
				hear(t, docs["nva-b"], event.Alive, 2, now.Add(-tt.backB), nil)
			}
			if tt.deadB {
				hear(t, docs["nva-b"], event.Expired, 0, now.Add(-20*time.Minute), nil)
			}
			in := selection.Input{Domain: d, Target: target, NVAs: docs, Installed: map[netip.Prefix]route.NextHops{}, Standing: tt.standing, Now: now}
			if tt.installed.IsValid() {
				in.Installed[p] = route.NextHopsOf(tt.installed)
			}
			got := selection.Select(in)
			switch {
			case !tt.want.IsValid() && len(got.Choices) > 0:
				t.Errorf("%+v", got.Choices)
			case tt.want.IsValid() && (len(got.Choices) != 1 || got.Choices[0].NextHops != route.NextHopsOf(tt.want)):
				t.Errorf("%+v, want %s", got.Choices, tt.want)
			}
			if tt.look > 0 && !got.NextLook.Equal(now.Add(tt.look)) {
				t.Errorf("looked at again at %s, want %s", got.NextLook, now.Add(tt.look))
			}
		})
	}
}

func hear(t *testing.T, doc *state.NVA, kind event.Kind, seq uint64, at time.Time, edit func(*event.Event)) {
	t.Helper()
	e := event.Event{Domain: "hub", NVA: doc.Name, Kind: kind, Version: event.Version{Epoch: 1, Seq: max(1, seq)}, Boot: "b", Beat: max(1, seq)}
	if kind == event.Snapshot {
		e.Chunk.Count = 1
	}
	if edit != nil {
		edit(&e)
	}
	if _, err := doc.Merge(e, at); err != nil {
		t.Fatal(err)
	}
}
