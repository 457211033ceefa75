package answer_test

import (
	"maps"
	"net/netip"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/answer"
	"github.com/pointsman/pointsman/shared/coalesce"
	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/peering"
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

// TestLeavingADeadMember: what counts are the next hops that a move takes away.
func TestLeavingADeadMember(t *testing.T) {
	hops := func(last ...byte) route.NextHops {
		var out []netip.Addr
		for _, b := range last {
			out = append(out, netip.AddrFrom4([4]byte{10, 0, 0, b}))
		}
		return route.NextHopsOf(out...)
	}
	alive := func(hop netip.Addr) bool { return hop.As4()[3] < 10 } // those from 10 on are dead
	for _, tt := range []struct {
		name     string
		from, to route.NextHops
		want     bool
	}{
		{"from a living one", hops(1), hops(2), false},
		{"from a dead one", hops(10), hops(2), true},
		{"one more", hops(1), hops(1, 2), false},
		{"one more, beside a dead one that stays", hops(10), hops(10, 2), false},
		{"a living one less", hops(1, 2), hops(1), false},
		{"a dead one less", hops(1, 10), hops(1), true},
		{"a dead one for a living one", hops(1, 10), hops(1, 2), true},
		{"a dead and a living one less", hops(1, 2, 10), hops(1), true},
		{"only the type", hops(1), hops(1), false},
		{"only the type, of a dead one", hops(10), hops(10), true},
		{"from nowhere", hops(), hops(1), true},
	} {
		if got := answer.Dead(tt.from, tt.to, alive); got != tt.want {
			t.Errorf("%s: %t, want %t", tt.name, got, tt.want)
		}
	}
}

// TestAFrontendLivesByWhoeverIsBehindIt: a move away from a load balancer is urgent only where no NVA behind it announces the prefix and lives.
func TestAFrontendLivesByWhoeverIsBehindIt(t *testing.T) {
	p, frontend := netip.MustParsePrefix("10.64.0.0/24"), netip.MustParseAddr("10.0.0.100")
	d := &config.Domain{NVAs: []config.NVA{{Name: "nva-a", NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.4")}}, {Name: "nva-b", NextHops: []netip.Addr{netip.MustParseAddr("10.0.0.5")}}}}
	in := selection.Input{Domain: d, Target: config.Target{NVAs: []string{"nva-a"}, Selection: config.Selection{Mode: config.ModeNextHopIP, NextHops: []netip.Addr{frontend}}}, NVAs: map[string]*state.NVA{}}
	for _, n := range d.NVAs {
		in.NVAs[n.Name] = state.NewNVA("hub", n.Name)
	}
	in.NVAs["nva-b"].Facts[p] = state.Fact{} // not one of the target's
	live := liveness.View{Of: map[string]liveness.Belief{"nva-a": {State: liveness.Up}, "nva-b": {State: liveness.Up}}}
	if answer.Alive(in, live, p, frontend) {
		t.Error("nobody behind the frontend announces the prefix")
	}
	in.NVAs["nva-a"].Facts[p] = state.Fact{}
	if !answer.Alive(in, live, p, frontend) || answer.Alive(in, live, p, netip.MustParseAddr("10.0.0.101")) {
		t.Error("nva-a stands behind the frontend, and behind no other address")
	}
	live.Of["nva-a"] = liveness.Belief{State: liveness.Down}
	if answer.Alive(in, live, p, frontend) {
		t.Error("nva-a is down")
	}
}

func TestAdditionsAreMissingAndRemovalsAreNotUrgent(t *testing.T) {
	got := answer.Weigh(selection.Input{Domain: &config.Domain{}}, liveness.View{}, plan.Plan{Added: make([]plan.Change, 2), Removed: make([]plan.Change, 3)})
	if want := (coalesce.Change{Missing: 2, Better: 3}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// The tables of a group never wait for company; others do.
func TestGroupsPayNoPrice(t *testing.T) {
	d := &config.Domain{Policy: config.Policy{WritePrice: 5, WriteCap: time.Minute}, Groups: []config.Group{{Name: "firewall", Targets: []string{"spokes", "gateway"}}}}
	for target, want := range map[string]float64{"spokes": 0, "gateway": 0, "other": 5} {
		if got := answer.Price(d, target); got.Price != want || got.Cap != time.Minute {
			t.Errorf("%s: %+v, want price %g", target, got, want)
		}
	}
}

// What a Route Server leads to an NVA that does not work is worth a write at once; that it is led right again is not.
func TestOverridesAreUrgent(t *testing.T) {
	over, plain := netip.MustParsePrefix("10.64.1.0/24"), netip.MustParsePrefix("10.1.0.0/16")
	d := &config.Domain{Targets: make([]config.Target, 1), Ranges: []config.Range{{Prefixes: []route.Match{{Prefix: over, Min: 24, Max: 24}}, Via: config.ViaOverride}}}
	got := answer.Weigh(selection.Input{Domain: d}, liveness.View{}, plan.Plan{Added: []plan.Change{{Prefix: over}, {Prefix: plain}}, Removed: []plan.Change{{Prefix: over}}})
	if want := (coalesce.Change{Dead: 1, Missing: 1, Better: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// An override may go past the guards if the Route Servers have all that an NVA announces that works, and announces the prefix.
func TestCarried(t *testing.T) {
	p, at := netip.MustParsePrefix("10.64.1.0/24"), time.Unix(9, 0)
	d := &config.Domain{Targets: make([]config.Target, 1), Ranges: []config.Range{{Prefixes: []route.Match{{Prefix: p, Min: 24, Max: 24}}, Via: config.ViaOverride}}}
	doc := state.NewNVA("hub", "nva-b")
	doc.Facts[p] = state.Fact{}
	in := selection.Input{
		Domain: d, Target: config.Target{NVAs: []string{"nva-a", "nva-b"}}, NVAs: map[string]*state.NVA{"nva-b": doc},
		Standing: map[string]peering.Standing{"nva-a": {Peers: true, Full: at}, "nva-b": {Peers: true, Full: at}},
	}
	live := liveness.View{Of: map[string]liveness.Belief{"nva-a": {State: liveness.Down}, "nva-b": {State: liveness.Up}}}
	if !answer.Carried(in, live, p) {
		t.Error("nva-b carries it")
	}
	if answer.Carried(in, live, netip.MustParsePrefix("10.64.2.0/24")) {
		t.Error("nobody announces that one, and it is no override")
	}
	in.Standing["nva-b"] = peering.Standing{Peers: true}
	if answer.Carried(in, live, p) {
		t.Error("the Route Servers lack what nva-b announces")
	}
	in.Standing["nva-b"] = peering.Standing{Peers: true, Full: at}
	live.Of["nva-b"] = liveness.Belief{State: liveness.Down}
	if answer.Carried(in, live, p) {
		t.Error("nva-b is down")
	}
}

// With two Route Servers what one has not noticed counts; where nothing is steered past one, nobody asks.
func TestStandings(t *testing.T) {
	early, late := time.Unix(3, 0), time.Unix(9, 0)
	d := &config.Domain{RouteServers: []config.RouteServer{
		{Name: "one", Peers: []config.Peer{{NVA: "nva-a"}, {NVA: "nva-b"}}}, {Name: "two", Peers: []config.Peer{{NVA: "nva-a"}}}, {Name: "three", Peers: []config.Peer{{NVA: "nva-c"}}},
	}}
	learned := func(list ...state.Learned) *state.Target {
		return &state.Target{RouteServer: &state.RouteServer{Learned: list}}
	}
	docs := map[string]*state.Target{
		"one": learned(state.Learned{NVA: "nva-a", Clear: early, Full: late}, state.Learned{NVA: "nva-b", Full: late}), "two": learned(state.Learned{NVA: "nva-a", Clear: late}), "three": {},
	}
	if got := answer.Standings(d, docs); got != nil {
		t.Errorf("without an override: %+v", got)
	}
	d.Ranges = []config.Range{{Via: config.ViaOverride}}
	want := map[string]peering.Standing{"nva-a": {Peers: true, Clear: early}, "nva-b": {Peers: true, Full: late}, "nva-c": {Peers: true}}
	if got := answer.Standings(d, docs); !maps.Equal(got, want) {
		t.Errorf("%+v, want %+v", got, want)
	}
}
