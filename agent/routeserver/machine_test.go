package routeserver_test

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

const pace = 30 * time.Second

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func config() *routeserver.Config {
	return &routeserver.Config{
		AS: 65010, RouterID: netip.MustParseAddr("10.0.2.4"), RouteLimit: routeserver.DefaultRouteLimit, Pace: pace,
		Instances: [2]netip.Addr{netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("10.0.1.5")},
	}
}

// peer is an instance that counts as the FAQ says: what it has and what an UPDATE carries, for as long as the pace.
type peer struct {
	cfg      *routeserver.Config
	routes   map[netip.Prefix]string
	again    map[time.Time]int
	eor      bool
	retained bool // until eor the machine cannot know how much it has
	faults   []string
}

// take takes in what is sent.
func (p *peer) take(now time.Time, e routeserver.Effects) {
	stays := map[netip.Prefix]bool{}
	for _, u := range e.Updates {
		for _, x := range u.Announce {
			stays[x] = true
		}
	}
	for _, u := range e.Updates {
		if !slices.IsSortedFunc(u.Withdraw, route.Compare) || !slices.IsSortedFunc(u.Announce, route.Compare) {
			p.fault("not sorted: %v %v", u.Withdraw, u.Announce)
		}
		crowded := len(p.routes) > p.cfg.RouteLimit-max(1, p.cfg.RouteLimit/8)-p.cfg.RouteLimit/16 || p.retained && !p.eor
		for _, x := range u.Withdraw {
			if stays[x] && !crowded {
				p.fault("%v is withdrawn in order to be announced again, with %d of %d routes", x, len(p.routes), p.cfg.RouteLimit)
			}
			delete(p.routes, x)
		}
		for _, x := range u.Announce {
			if _, had := p.routes[x]; had {
				p.again[now]++
			}
			p.routes[x] = describe(u.Attributes)
		}
		if again := p.within(now); len(p.routes)+again > p.cfg.RouteLimit || again > p.cfg.RouteLimit/2 {
			p.fault("%d routes and %d announced again, of %d", len(p.routes), again, p.cfg.RouteLimit)
		}
	}
	if e.EndOfRIB {
		p.eor = true
		maps.DeleteFunc(p.routes, func(_ netip.Prefix, text string) bool { return text == stale })
	}
}

func (p *peer) within(now time.Time) (n int) {
	for at, again := range p.again {
		if now.Sub(at) < p.cfg.Pace {
			n += again
		}
	}
	return n
}

func (p *peer) fault(format string, args ...any) {
	p.faults = append(p.faults, fmt.Sprintf(format, args...))
}

func describe(a *routeserver.Attributes) string {
	return fmt.Sprint(a.ASPath, a.NextHop, a.Communities)
}

// world is a machine with its instances, and the model of what it should announce.
type world struct {
	cfg     *routeserver.Config
	machine *routeserver.Machine
	now     time.Time
	rib     map[netip.Prefix]bool
	drained bool
	peers   [2]*peer // nil: no session
}

func newWorld(cfg *routeserver.Config) *world {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return &world{cfg: cfg, machine: routeserver.NewMachine(cfg, now), now: now, rib: map[netip.Prefix]bool{}}
}

func (w *world) announce(list ...netip.Prefix) { w.change(true, list...) }
func (w *world) withdraw(list ...netip.Prefix) { w.change(false, list...) }

func (w *world) change(announced bool, list ...netip.Prefix) {
	var changes []rib.Change
	for _, p := range list {
		changes = append(changes, rib.Change{Prefix: p, Is: rib.Value{Announced: announced}})
		w.rib[p] = announced
	}
	w.machine.Changed(changes)
}

// stale marks what an instance has kept from an earlier session.
const stale = "stale"

// some is what of the RIB a process before this one may have announced.
func (w *world) some() map[netip.Prefix]string {
	kept := map[netip.Prefix]string{}
	for p, announced := range w.rib {
		if announced && p.Addr().As4()[2]%2 == 0 {
			kept[p] = stale
		}
	}
	if w.announced() > w.cfg.RouteLimit {
		clear(kept)
	}
	return kept
}

func (w *world) announced() (n int) {
	for _, announced := range w.rib {
		if announced {
			n++
		}
	}
	return n
}

// up begins a session; an instance that retains has what it had.
func (w *world) up(i int, kept map[netip.Prefix]string) {
	w.peers[i] = &peer{cfg: w.cfg, routes: map[netip.Prefix]string{}, again: map[time.Time]int{}, retained: kept != nil}
	for p := range kept {
		w.peers[i].routes[p] = stale
	}
	w.machine.Established(i, w.now, 180*time.Second, kept != nil)
}

func (w *world) down(i int) {
	w.peers[i] = nil
	w.machine.Lost(i, w.now, "it failed")
}

// turn sends what is due and returns when there is more.
func (w *world) turn() (wake time.Time) {
	for i, p := range w.peers {
		e := w.machine.Next(i, w.now)
		if p == nil {
			if !e.Empty() {
				panic("something is sent without a session")
			}
			continue
		}
		p.take(w.now, e)
		if !e.Wake.IsZero() && (wake.IsZero() || e.Wake.Before(wake)) {
			wake = e.Wake
		}
	}
	return wake
}

// settle lets time pass until nothing is left to send, and returns how long that took.
func (w *world) settle(t interface{ Fatalf(string, ...any) }) time.Duration {
	began := w.now
	for range 100_000 {
		wake := w.turn()
		if wake.IsZero() {
			return w.now.Sub(began)
		}
		if !wake.After(w.now) {
			t.Fatalf("wakes at %v, it is %v", wake, w.now)
		}
		w.now = wake
	}
	t.Fatalf("it does not come to an end")
	return 0
}

func (w *world) check(t interface{ Errorf(string, ...any) }) {
	for i, p := range w.peers {
		if p != nil {
			for _, f := range p.faults {
				t.Errorf("instance %d: %s", i, f)
			}
		}
	}
}

func many(n int) []netip.Prefix {
	out := make([]netip.Prefix, n)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
	}
	return out
}

// TestBothGetTheSame: whatever happens, in the end both instances have what the RIB has, up to the limit; on the way no limit is passed, and
// nothing is withdrawn in order to be announced again while there is room.
func TestBothGetTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := config()
		cfg.RouteLimit = rapid.IntRange(1, 40).Draw(t, "limit")
		w := newWorld(cfg)
		all := many(60)
		some := rapid.SliceOfN(rapid.SampledFrom(all), 1, 30)
		was := [2]map[netip.Prefix]string{}
		dark := [2]bool{} // what it has kept is known to nobody: it was lost before all was said once
		w.machine.Ready()
		t.Repeat(map[string]func(*rapid.T){
			"announce": func(t *rapid.T) { w.announce(some.Draw(t, "prefixes")...) },
			"withdraw": func(t *rapid.T) { w.withdraw(some.Draw(t, "prefixes")...) },
			"drain": func(t *rapid.T) {
				w.drained = rapid.Bool().Draw(t, "drained")
				w.machine.Drain(w.drained)
			},
			"up": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "instance")
				if w.peers[i] != nil {
					t.Skip("it is up")
				}
				if dark[i] || !rapid.Bool().Draw(t, "retained") {
					dark[i] = false
					w.up(i, nil)
					return
				}
				kept := was[i]
				if kept == nil { // a process before this one announced some of it
					kept = w.some()
				}
				w.up(i, kept)
				w.turn()
			},
			"down": func(t *rapid.T) {
				i := rapid.IntRange(0, 1).Draw(t, "instance")
				if w.peers[i] == nil {
					t.Skip("it is down")
				}
				was[i], dark[i] = w.peers[i].routes, w.peers[i].retained && !w.peers[i].eor
				w.check(t)
				w.down(i)
			},
			"refresh": func(t *rapid.T) {
				if i := rapid.IntRange(0, 1).Draw(t, "instance"); w.peers[i] != nil {
					w.machine.Refresh(i)
				}
			},
			"time": func(t *rapid.T) {
				w.now = w.now.Add(time.Duration(rapid.IntRange(0, 40).Draw(t, "seconds")) * time.Second)
			},
			"turn": func(*rapid.T) { w.turn() },
			"":     func(t *rapid.T) { w.check(t) },
		})
		w.settle(t)
		w.check(t)
		expectSettled(t, w)
	})
}

func expectSettled(t *rapid.T, w *world) {
	status, count := w.machine.Status(), w.announced()
	if up := w.peers[0] != nil || w.peers[1] != nil; up && (status.Announced != min(count, w.cfg.RouteLimit) || status.Refused != max(0, count-w.cfg.RouteLimit)) {
		t.Errorf("%d prefixes with the limit %d: %+v", count, w.cfg.RouteLimit, status)
	}
	if status.Sent.Count != 0 {
		t.Errorf("the status sees differences: %+v", status.Sent)
	}
	for i, p := range w.peers {
		if p == nil {
			continue
		}
		if !p.eor || len(p.routes) != status.Announced || status.Instances[i].Sent != len(p.routes) || status.Instances[i].Pending != 0 {
			t.Errorf("instance %d has %d routes, End-of-RIB %t; %+v", i, len(p.routes), p.eor, status)
		}
		for x, text := range p.routes {
			if length := strings.Count(text, "65010"); !w.rib[x] || (length == 1) == w.drained {
				t.Errorf("instance %d has %v with %s; drained %t", i, x, text, w.drained)
			}
		}
		if other := w.peers[1-i]; other != nil && !maps.Equal(p.routes, other.routes) {
			t.Errorf("the instances differ: %v and %v", p.routes, other.routes)
		}
	}
}

// TestWhatIsAnnounced: filters, families, the default route, ranks, draining.
func TestWhatIsAnnounced(t *testing.T) {
	match := func(s string) route.Match {
		m, err := route.ParseMatch(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	noAdvertise, err := bgp.ParseCommunity("no-advertise")
	if err != nil {
		t.Fatal(err)
	}
	own := func(n int) string { return strings.TrimSpace(strings.Repeat("65010 ", n)) }
	for name, tt := range map[string]struct {
		change  func(*routeserver.Config)
		drained bool
		want    []string
	}{
		"as it comes":   {nil, false, []string{"10.1.0.0/16 [" + own(1) + "] invalid IP []", "10.2.0.0/16 [" + own(1) + "] invalid IP []"}},
		"default route": {func(c *routeserver.Config) { c.DefaultRoute = true }, false, []string{"0.0.0.0/0 [" + own(1) + "] invalid IP []", "10.1.0.0/16 [" + own(1) + "] invalid IP []", "10.2.0.0/16 [" + own(1) + "] invalid IP []"}},
		"filters": {func(c *routeserver.Config) {
			c.Include, c.Exclude = []route.Match{match("10.0.0.0/8 le 24")}, []route.Match{match("10.2.0.0/16")}
		}, false, []string{"10.1.0.0/16 [" + own(1) + "] invalid IP []"}},
		"backup, third-party next hop, community": {func(c *routeserver.Config) {
			c.Rank, c.NextHop, c.Communities = 2, netip.MustParseAddr("10.0.2.100"), []bgp.Community{noAdvertise}
			c.Ranks = []routeserver.RankRule{{Match: match("10.2.0.0/16"), Rank: 0}}
		}, false, []string{"10.1.0.0/16 [" + own(3) + "] 10.0.2.100 [65535:65282]", "10.2.0.0/16 [" + own(1) + "] 10.0.2.100 [65535:65282]"}},
		"drained": {nil, true, []string{"10.1.0.0/16 [" + own(10) + "] invalid IP []", "10.2.0.0/16 [" + own(10) + "] invalid IP []"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := config()
			if tt.change != nil {
				tt.change(cfg)
			}
			w := newWorld(cfg)
			w.up(0, nil)
			w.announce(prefix("10.1.0.0/16"), prefix("0.0.0.0/0"), prefix("fd00::/48"), prefix("10.2.0.0/16"))
			w.machine.Drain(tt.drained)
			if e := w.machine.Next(0, w.now); !e.Empty() {
				t.Errorf("before the RIB is complete: %+v", e)
			}
			w.machine.Ready()
			w.settle(t)
			w.check(t)
			var got []string
			for _, p := range slices.SortedFunc(maps.Keys(w.peers[0].routes), route.Compare) {
				got = append(got, p.String()+" "+w.peers[0].routes[p])
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

// TestPace: how long it takes to announce everything again, with Azure's limit of 4,000.
func TestPace(t *testing.T) {
	for _, tt := range []struct {
		routes int
		want   time.Duration
	}{
		{2000, pace},     // 1,750 are left free: two steps
		{1800, 0},        // one step
		{3000, 3 * pace}, // 750 at a time
		{3250, 6 * pace}, // 500 at a time
		{3500, 6 * pace}, // there too, 250 of them withdrawn before they are announced
		{4000, 7 * pace}, // and here all of them
		{1, 0},
		{0, 0},
	} {
		w := newWorld(config())
		w.machine.Ready()
		w.announce(many(tt.routes)...)
		w.up(0, nil)
		if took := w.settle(t); took != 0 {
			t.Errorf("%d routes: the first time takes %s", tt.routes, took)
		}
		w.machine.Refresh(0)
		if took := w.settle(t); took != tt.want {
			t.Errorf("%d routes: again takes %s, want %s", tt.routes, took, tt.want)
		}
		w.check(t)
	}
}

// TestHalf: what is announced again within the pace stays within half of the limit, however few routes there are.
func TestHalf(t *testing.T) {
	w := newWorld(config())
	w.machine.Ready()
	w.announce(many(1500)...)
	w.up(0, nil)
	w.settle(t)
	w.machine.Refresh(0)
	w.turn()
	w.machine.Refresh(0)
	w.settle(t)
	w.check(t)
}

// TestNewsDoesNotWait: while a table is announced again step by step, a new prefix is announced at once.
func TestNewsDoesNotWait(t *testing.T) {
	w := newWorld(config())
	w.machine.Ready()
	w.announce(many(3000)...)
	w.up(0, nil)
	w.settle(t)
	w.machine.Drain(true)
	w.turn()
	news := prefix("192.168.0.0/24")
	w.announce(news)
	w.turn()
	if _, has := w.peers[0].routes[news]; !has {
		t.Error("the new prefix waits")
	}
	w.withdraw(news)
	w.turn()
	if _, has := w.peers[0].routes[news]; has {
		t.Error("the withdrawal waits")
	}
	w.check(t)
}

// TestFullTable: what is in it stays; what is waiting comes in, in order, when there is room.
func TestFullTable(t *testing.T) {
	cfg := config()
	cfg.RouteLimit = 3
	w := newWorld(cfg)
	w.machine.Ready()
	w.up(0, nil)
	w.announce(prefix("10.5.0.0/16"), prefix("10.6.0.0/16"), prefix("10.7.0.0/16"))
	w.settle(t)
	w.announce(prefix("10.1.0.0/16"), prefix("10.2.0.0/16"))
	w.settle(t)
	expect := func(want ...string) {
		t.Helper()
		var got []string
		for _, p := range slices.SortedFunc(maps.Keys(w.peers[0].routes), route.Compare) {
			got = append(got, p.String())
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	expect("10.5.0.0/16", "10.6.0.0/16", "10.7.0.0/16")
	if text := w.machine.Trouble(); !strings.Contains(text, "2 prefixes are not announced: more than routeLimit (3)") || !strings.Contains(text, "Route Server 10.0.1.5: no session yet") {
		t.Errorf("trouble: %s", text)
	}
	w.withdraw(prefix("10.6.0.0/16"))
	w.settle(t)
	expect("10.1.0.0/16", "10.5.0.0/16", "10.7.0.0/16")
	w.check(t)
}

// TestLearned: what the instances announce is shown, and where they differ.
func TestLearned(t *testing.T) {
	w := newWorld(config())
	w.machine.Ready()
	w.up(0, nil)
	w.up(1, nil)
	a := routeserver.Learned{Prefix: prefix("10.1.0.0/16"), NextHop: netip.MustParseAddr("10.0.1.4"), ASPath: []uint32{65515}}
	b := routeserver.Learned{Prefix: prefix("10.2.0.0/16"), NextHop: netip.MustParseAddr("10.0.1.4"), ASPath: []uint32{65515, 65001}}
	w.machine.Heard(0, nil, []routeserver.Learned{b, a})
	a.NextHop = netip.MustParseAddr("10.0.1.5")
	w.machine.Heard(1, nil, []routeserver.Learned{a})
	s := w.machine.Status()
	if len(s.Instances[0].Routes) != 2 || s.Instances[0].Routes[0].Prefix != a.Prefix || s.Learned.Count != 1 || s.Learned.First[0] != b.Prefix {
		t.Errorf("status %+v", s)
	}
	w.machine.Heard(0, []netip.Prefix{b.Prefix}, nil)
	if s = w.machine.Status(); s.Learned.Count != 0 || len(s.Instances[0].Routes) != 1 {
		t.Errorf("status %+v", s)
	}
	w.down(0)
	if s = w.machine.Status(); len(s.Instances[0].Routes) != 0 || s.Instances[0].Reason != "it failed" || s.Instances[0].Sessions != 1 {
		t.Errorf("status %+v", s)
	}
	var lots []routeserver.Learned
	for i := range routeserver.MaxLearned + 5 {
		lots = append(lots, routeserver.Learned{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{byte(20 + i>>16), byte(i >> 8), byte(i), 0}), 24)})
	}
	w.machine.Heard(1, nil, lots)
	if s = w.machine.Status(); s.Instances[1].Dropped != 6 || len(s.Instances[1].Routes) != routeserver.MaxLearned {
		t.Errorf("%d dropped, %d kept", s.Instances[1].Dropped, len(s.Instances[1].Routes))
	}
}

// TestAS: the numbers that Route Server takes, and the texts for those that it does not.
func TestAS(t *testing.T) {
	for text, want := range map[string]string{
		"65001": "", "1": "", "65514": "", "65516": "", "65521": "", "64512": "", "64495": "",
		"65515": "Route Server's own", "0": `found "0"`, "x": `found "x"`, "-1": `found "-1"`, "8074": "reserved", "8075": "reserved", "12076": "reserved", "23456": "reserved",
		"65517": "reserved", "65520": "reserved", "64496": "reserved", "64511": "reserved", "65535": "reserved", "65536": "16 bits", "4200000000": "16 bits",
	} {
		n, err := routeserver.ParseAS(text)
		switch {
		case want == "" && (err != nil || fmt.Sprint(n) != text):
			t.Errorf("%s: %d, %v", text, n, err)
		case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
			t.Errorf("%s: %v, want a text with %q", text, err, want)
		}
	}
}

func TestRankRule(t *testing.T) {
	r, err := routeserver.ParseRankRule("10.1.0.0/16 le 24 rank 2")
	if err != nil || r.Rank != 2 || r.String() != "10.1.0.0/16 le 24 rank 2" {
		t.Errorf("%v, %v", r, err)
	}
	for _, bad := range []string{"", "10.1.0.0/16", "10.1.0.0/16 rank 9", "10.1.0.0/16 rank -1", "10.1.0.0/16 rank x", "10.1.0.1/16 rank 1"} {
		if r, err = routeserver.ParseRankRule(bad); err == nil {
			t.Errorf("%q is read as %v", bad, r)
		}
	}
}
