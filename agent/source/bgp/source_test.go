package bgp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/test/lab"
)

// fake is a speaker whose peers a test plays. Everything is in virtual time.
type fake struct {
	hearer chan bgp.Hearer
	fail   chan error
}

func (f *fake) Speak(ctx context.Context, h bgp.Hearer) error {
	select {
	case f.hearer <- h:
	case err := <-f.fail:
		return err
	case <-ctx.Done():
		return nil
	}
	select {
	case err := <-f.fail:
		return err
	case <-ctx.Done():
		return nil
	}
}

// play is one run of a source in a bubble of synctest.
type play struct {
	hearer  bgp.Hearer
	sink    *lab.Recorder
	t       *testing.T
	speaker *fake
	seen    int // calls
}

// run plays a scene with two peers, "a" and "b".
func run(t *testing.T, change func(*bgp.Config), scene func(p *play)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg := config()
		if change != nil {
			change(&cfg)
		}
		p := &play{sink: lab.NewRecorder(), t: t, speaker: &fake{hearer: make(chan bgp.Hearer), fail: make(chan error)}}
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error, 1)
		go func() { ended <- bgp.New(cfg, p.speaker, slog.New(slog.DiscardHandler), nil).Run(ctx, p.sink) }()
		p.hearer = <-p.speaker.hearer
		synctest.Wait()
		scene(p)
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Run: %v", err)
		}
		p.sink.Check(t)
	})
}

func config() bgp.Config {
	return bgp.Config{
		AS: 65001, RouterID: netip.MustParseAddr("192.0.2.1"), RestartTime: 2 * time.Minute, OnSessionLoss: bgp.Keep,
		MaxPrefixes: 100, OnMaxPrefixes: bgp.Hold, Peers: []bgp.Peer{{Name: "a"}, {Name: "b"}},
	}
}

const a, b = 0, 1

func prefix(i int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
}

// paths makes paths with a metric.
func paths(med uint32, numbers ...int) []bgp.Path {
	var out []bgp.Path
	for _, i := range numbers {
		out = append(out, bgp.Path{Prefix: prefix(i), LocalPreference: 100, MED: med, ASPath: []uint32{65010}, ASPathLength: 1})
	}
	return out
}

func gone(numbers ...int) []bgp.Path {
	var out []bgp.Path
	for _, i := range numbers {
		out = append(out, bgp.Path{Prefix: prefix(i), Withdrawn: true})
	}
	return out
}

// Every event comes to rest before the next: else it would be chance which of them the sink is told of together.

func (p *play) Established(peer int, families []bgp.Family, restart time.Duration) {
	p.hearer.Established(peer, families, restart)
	synctest.Wait()
}

func (p *play) Update(peer int, list []bgp.Path) {
	p.hearer.Update(peer, list)
	synctest.Wait()
}

func (p *play) EndOfRIB(peer int, family bgp.Family) {
	p.hearer.EndOfRIB(peer, family)
	synctest.Wait()
}

func (p *play) Lost(peer int, reason string, ceased bool) {
	p.hearer.Lost(peer, reason, ceased)
	synctest.Wait()
}

// up begins a session and ends its exchange.
func (p *play) up(peer int, list []bgp.Path) {
	p.Established(peer, bgp.Families(), 0)
	p.Update(peer, list)
	p.EndOfRIB(peer, bgp.IPv4Unicast)
	p.EndOfRIB(peer, bgp.IPv6Unicast)
}

// expect asserts which calls the sink got since the last time, once all has come to rest.
func (p *play) expect(calls ...string) {
	p.t.Helper()
	synctest.Wait()
	all := p.sink.Calls()
	if got := all[p.seen:]; !slices.Equal(got, calls) {
		p.t.Errorf("calls\n\t%s\nwant\n\t%s", strings.Join(got, "\n\t"), strings.Join(calls, "\n\t"))
	}
	p.seen = len(all)
}

func (p *play) view(lines ...string) {
	p.t.Helper()
	synctest.Wait()
	if got := p.sink.View(); !slices.Equal(got, lines) {
		p.t.Errorf("view %q, want %q", got, lines)
	}
}

func wait(d time.Duration) { <-time.After(d) }

// start brings both peers up: a announces 1 and 2, b announces 2 and 3.
func (p *play) start() {
	p.t.Helper()
	p.expect("lost peer a: no session yet; peer b: no session yet")
	p.up(a, paths(5, 1, 2))
	p.expect("lost peer a: its routes are not complete yet; peer b: no session yet", "lost peer b: no session yet")
	p.up(b, paths(6, 2, 3))
	p.expect("lost peer b: its routes are not complete yet", "replace 3")
	p.view("10.0.1.0/24 metric 5", "10.0.2.0/24 metric 5", "10.0.3.0/24 metric 6")
}

// TestNoReason: a session that ends without a word has ended all the same.
func TestNoReason(t *testing.T) {
	run(t, nil, func(p *play) {
		p.start()
		p.Lost(b, "", false)
		p.expect("lost peer b: the session ended")
	})
}

func TestStartAndUpdate(t *testing.T) {
	run(t, nil, func(p *play) {
		p.start()
		p.Update(a, paths(5, 1)) // the same again
		p.expect()
		p.Update(a, gone(2, 9))
		p.expect("update +1 -0")
		p.Update(b, gone(2))
		p.expect("update +0 -1")
		p.view("10.0.1.0/24 metric 5", "10.0.3.0/24 metric 6")
	})
}

// TestQuietEndsTheExchange: a peer that sends no End-of-RIB.
func TestQuietEndsTheExchange(t *testing.T) {
	run(t, func(c *bgp.Config) { c.Peers = c.Peers[:1] }, func(p *play) {
		p.expect("lost peer a: no session yet")
		p.Established(a, bgp.Families(), 0)
		p.expect("lost peer a: its routes are not complete yet")
		p.Update(a, paths(5, 1))
		wait(9 * time.Second)
		p.Update(a, paths(5, 2))
		wait(9 * time.Second)
		p.EndOfRIB(a, bgp.IPv4Unicast) // one of two
		p.expect()
		wait(time.Second)
		p.expect("replace 2")
	})
}

// TestChatterEndsToo: a peer that sends no End-of-RIB and is never quiet.
func TestChatterEndsToo(t *testing.T) {
	run(t, func(c *bgp.Config) { c.Peers = c.Peers[:1] }, func(p *play) {
		p.Established(a, bgp.Families(), 0)
		for i := range 24 {
			wait(5*time.Second - time.Millisecond)
			p.Update(a, paths(5, i))
		}
		synctest.Wait()
		if p.sink.Known() {
			t.Error("a view within the restart time")
		}
		wait(time.Second)
		p.expect("lost peer a: no session yet", "lost peer a: its routes are not complete yet", "replace 24")
	})
}

// TestLossIsOneCall: nothing is withdrawn; the reason changes once, at the end of the restart time.
func TestLossIsOneCall(t *testing.T) {
	for on, end := range map[bgp.OnSessionLoss][]string{
		bgp.Keep:     {"lost peer a: it broke; not back in time, its routes are kept", "control lost a since 00:00:00"},
		bgp.Withdraw: {"update +0 -1", "lost peer a: it broke; not back in time, its routes are withdrawn"},
	} {
		run(t, func(c *bgp.Config) { c.OnSessionLoss = on }, func(p *play) {
			p.start()
			p.Lost(a, "it broke", false)
			p.expect("update +1 -0", "lost peer a: it broke") // 2 is fresh at b
			p.view("10.0.1.0/24 metric 5", "10.0.2.0/24 metric 6", "10.0.3.0/24 metric 6")
			p.Lost(a, "", false) // an attempt
			wait(2*time.Minute - time.Second)
			p.expect()
			wait(time.Second)
			p.expect(end...)
			p.Established(a, bgp.Families(), 0)
			p.Update(a, paths(5, 1))
			synctest.Wait()
			p.seen = len(p.sink.Calls()) // depends on what was withdrawn
			p.EndOfRIB(a, bgp.IPv4Unicast)
			p.expect()
			p.EndOfRIB(a, bgp.IPv6Unicast)
			back := []string{"replace 3", "control lost"} // in this order: the routes first
			p.expect(back[:map[bgp.OnSessionLoss]int{bgp.Keep: 2, bgp.Withdraw: 1}[on]]...)
		})
	}
}

// TestControlIsBackWithTheLastRoute: not with the session, nor with its routes, but at the end of the exchange; until then the session may be lost again.
func TestControlIsBackWithTheLastRoute(t *testing.T) {
	run(t, nil, func(p *play) {
		p.start()
		wait(time.Second)
		p.Lost(a, "it broke", false)
		wait(2 * time.Minute)
		p.expect("update +1 -0", "lost peer a: it broke", "lost peer a: it broke; not back in time, its routes are kept", "control lost a since 00:00:01")
		for range 3 {
			wait(time.Minute)
			p.Established(a, bgp.Families(), 0)
			p.Update(a, paths(7, 1))
			p.EndOfRIB(a, bgp.IPv4Unicast)
			p.Lost(a, "it broke", false)
		}
		p.expect("update +1 -0") // what it says is taken all the same
		wait(time.Minute)
		p.Lost(b, "that one too", false)
		wait(2 * time.Minute)
		p.expect("update +1 -0", "lost peer a: it broke; not back in time, its routes are kept; peer b: that one too",
			"lost peer a: it broke; not back in time, its routes are kept; peer b: that one too; not back in time, its routes are kept", "control lost a since 00:00:01 b since 00:06:01")
		p.up(a, paths(7, 1))
		p.expect("update +1 -0", "lost peer b: that one too; not back in time, its routes are kept", "control lost b since 00:06:01")
		p.up(b, nil)
		p.expect("replace 1", "control lost")
	})
}

// TestBackInTime: what is not said again is gone at the end of the exchange, not before.
func TestBackInTime(t *testing.T) {
	run(t, nil, func(p *play) {
		p.start()
		p.Lost(a, "it broke", false)
		p.expect("update +1 -0", "lost peer a: it broke")
		wait(time.Minute)
		p.Established(a, bgp.Families(), 0)
		p.Update(b, paths(8, 2))
		p.expect("update +1 -0")
		p.view("10.0.1.0/24 metric 5", "10.0.2.0/24 metric 8", "10.0.3.0/24 metric 6")
		p.Update(a, paths(5, 2))
		p.expect("update +1 -0")
		p.view("10.0.1.0/24 metric 5", "10.0.2.0/24 metric 5", "10.0.3.0/24 metric 6")
		wait(5 * time.Second)
		p.EndOfRIB(a, bgp.IPv4Unicast)
		p.EndOfRIB(a, bgp.IPv6Unicast)
		p.expect("replace 2")
		p.view("10.0.2.0/24 metric 5", "10.0.3.0/24 metric 6")
	})
}

// TestFlapsDoNotExtendTheRestartTime: a session that never completes its exchange is as good as none.
func TestFlapsDoNotExtendTheRestartTime(t *testing.T) {
	run(t, func(c *bgp.Config) { c.OnSessionLoss = bgp.Withdraw }, func(p *play) {
		p.start()
		p.Lost(a, "it broke", false)
		for range 13 {
			wait(5 * time.Second)
			p.Established(a, bgp.Families(), 0)
			p.Update(a, paths(7, 4))
			wait(5 * time.Second)
			p.Lost(a, "it broke", false)
		}
		p.view("10.0.2.0/24 metric 6", "10.0.3.0/24 metric 6")
	})
}

// TestPeerAsksForMore: the restart time of the peer's graceful restart capability counts where it is longer.
func TestPeerAsksForMore(t *testing.T) {
	run(t, func(c *bgp.Config) { c.Peers = c.Peers[:1]; c.OnSessionLoss = bgp.Withdraw }, func(p *play) {
		p.Established(a, []bgp.Family{bgp.IPv4Unicast}, 5*time.Minute)
		p.Update(a, paths(5, 1))
		p.EndOfRIB(a, bgp.IPv4Unicast)
		synctest.Wait()
		p.Lost(a, "it restarts", false)
		wait(5*time.Minute - time.Second)
		p.view("10.0.1.0/24 metric 5")
		wait(time.Second)
		p.view()
	})
}

// TestNeverSeen: a peer that was never seen may announce anything, so there is no view without it, unless silence withdraws.
func TestNeverSeen(t *testing.T) {
	for on, known := range map[bgp.OnSessionLoss]bool{bgp.Keep: false, bgp.Withdraw: true} {
		run(t, func(c *bgp.Config) { c.OnSessionLoss = on }, func(p *play) {
			p.up(a, paths(5, 1))
			p.Lost(b, "it has another AS than configured", false)
			p.expect("lost peer a: no session yet; peer b: no session yet", "lost peer a: its routes are not complete yet; peer b: no session yet",
				"lost peer b: no session yet", "lost peer b: it has another AS than configured")
			wait(time.Hour)
			if p.sink.Known() != known {
				t.Errorf("%v: view known: %t", on, p.sink.Known())
			}
			if !strings.HasPrefix(p.sink.Reason(), "peer b: it has another AS than configured; not back in time") {
				t.Errorf("lost: %q", p.sink.Reason())
			}
		})
	}
}

func numbers(from, to int) (out []int) {
	for i := from; i < to; i++ {
		out = append(out, i)
	}
	return out
}

const over = "lost peer a: it announces more than 100 prefixes of a family: nothing new is taken"

func TestHold(t *testing.T) {
	run(t, nil, func(p *play) {
		p.up(a, paths(5, numbers(0, 90)...))
		p.up(b, nil)
		p.seen = len(p.sink.Calls())
		p.Update(a, paths(6, numbers(80, 110)...))
		p.expect("update +10 -0", over)
		p.Update(b, paths(7, 105))
		p.expect("update +1 -0") // the other peer's is taken
		p.Update(a, gone(0, 1))
		p.expect("update +0 -2")
		p.Update(a, gone(numbers(2, 10)...))
		p.expect("replace 100")
		if n := len(p.sink.View()); n != 100 {
			t.Errorf("%d routes, want 100", n)
		}
	})
}

// TestHoldFromTheBeginning: a full table at the first sight is no view to begin with.
func TestHoldFromTheBeginning(t *testing.T) {
	run(t, func(c *bgp.Config) { c.Peers = c.Peers[:1] }, func(p *play) {
		p.up(a, paths(5, numbers(0, 101)...))
		p.expect("lost peer a: no session yet", "lost peer a: its routes are not complete yet", over)
		p.Update(a, gone(7))
		p.expect("replace 100")
	})
}

// TestCease: the session was closed from here; the routes stay for good, whatever becomes of those of lost sessions.
func TestCease(t *testing.T) {
	run(t, func(c *bgp.Config) { c.Peers = c.Peers[:1]; c.OnMaxPrefixes, c.OnSessionLoss = bgp.Cease, bgp.Withdraw }, func(p *play) {
		p.up(a, paths(5, 1))
		p.expect("lost peer a: no session yet", "lost peer a: its routes are not complete yet", "replace 1")
		p.Lost(a, "the connection was lost", true)
		wait(time.Hour)
		p.Lost(a, "the connection was lost", false) // an attempt
		p.expect("lost peer a: it announced more than 100 prefixes of a family: the session was closed, its routes stay as they were", "control lost a since 00:00:00")
		p.view("10.0.1.0/24 metric 5")

		p.Established(a, bgp.Families(), 0) // and then it is lost as others are: the routes go, and with them the doubt
		p.Update(a, paths(5, 2))
		synctest.Wait()
		p.seen = len(p.sink.Calls())
		p.Lost(a, "it broke", false)
		p.expect("update +0 -2", "lost peer a: it broke; not back in time, its routes are withdrawn", "control lost")
	})
}

// TestNothingToDoubt: a session that is lost for long, but of which no route stays, and one that was never complete.
func TestNothingToDoubt(t *testing.T) {
	run(t, nil, func(p *play) {
		p.up(a, nil)
		p.Lost(a, "it broke", false)
		p.Established(b, bgp.Families(), 0)
		wait(time.Hour)
		for _, call := range p.sink.Calls() {
			if strings.HasPrefix(call, "control lost") {
				t.Errorf("told %q", call)
			}
		}
	})
}

// TestDoubtBeforeTheFirstView: who begins with a doubtful view says so first, for the view is published at once.
func TestDoubtBeforeTheFirstView(t *testing.T) {
	run(t, nil, func(p *play) {
		p.up(a, paths(5, 1))
		p.Lost(a, "it broke", false)
		wait(2*time.Minute - 10*time.Second)
		p.Established(b, bgp.Families(), 0)
		p.Update(b, paths(6, 2)) // without End-of-RIB: it is complete at the very instant at which the other's time is over
		if p.seen = len(p.sink.Calls()); p.sink.Known() {
			t.Error("a view before b is complete")
		}
		wait(10 * time.Second)
		p.expect("control lost a since 00:00:00", "replace 2", "lost peer a: it broke; not back in time, its routes are kept")
	})
}

// TestSpeakerFails: the source goes on with another try; nothing is withdrawn.
func TestSpeakerFails(t *testing.T) {
	run(t, nil, func(p *play) {
		p.start()
		p.speaker.fail <- errors.New("address already in use")
		p.expect("lost peer a: address already in use; peer b: address already in use")
		wait(500 * time.Millisecond)
		p.speaker.fail <- errors.New("cannot assign address")
		p.hearer = <-p.speaker.hearer
		synctest.Wait()
		p.up(a, paths(5, 1, 2))
		p.up(b, paths(6, 2, 3))
		p.expect("lost peer a: cannot assign address; peer b: cannot assign address", "lost peer b: cannot assign address", "replace 3")
	})
}

func TestUnusable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fake{hearer: make(chan bgp.Hearer), fail: make(chan error, 1)}
		f.fail <- fmt.Errorf("%w: port 179", bgp.ErrUnusable)
		src := bgp.New(config(), f, slog.New(slog.DiscardHandler), nil)
		if err := src.Run(t.Context(), lab.NewRecorder()); !errors.Is(err, bgp.ErrUnusable) {
			t.Errorf("got %v", err)
		}
		if src.String() != "bgp a,b" {
			t.Errorf("it is named %q", src)
		}
	})
}

func match(t *testing.T, s string) []route.Match {
	t.Helper()
	m, err := route.ParseMatch(s)
	if err != nil {
		t.Fatal(err)
	}
	return []route.Match{m}
}

// TestFilters: what is refused is as good as withdrawn.
func TestFilters(t *testing.T) {
	community := func(s string) []bgp.Community {
		c, err := bgp.ParseCommunity(s)
		if err != nil {
			t.Fatal(err)
		}
		return []bgp.Community{c}
	}
	for name, test := range map[string]struct {
		cfg func(*bgp.Config)
		bad func(*bgp.Path)
		all bool // of the good paths too
	}{
		"include":          {cfg: func(c *bgp.Config) { c.Include = match(t, "10.0.1.0/24 le 32") }, bad: func(p *bgp.Path) { p.Prefix = prefix(9) }},
		"exclude":          {cfg: func(c *bgp.Config) { c.Exclude = match(t, "10.0.9.0/24") }, bad: func(p *bgp.Path) { p.Prefix = prefix(9) }},
		"own AS":           {bad: func(p *bgp.Path) { p.ASPath = []uint32{65010, 65001} }},
		"denied AS":        {cfg: func(c *bgp.Config) { c.ASPath.Deny = []uint32{65099} }, bad: func(p *bgp.Path) { p.ASPath = []uint32{65010, 65099} }},
		"long path":        {cfg: func(c *bgp.Config) { c.ASPath.MaxLength = 3 }, bad: func(p *bgp.Path) { p.ASPathLength = 4 }},
		"denied community": {cfg: func(c *bgp.Config) { c.Communities.Deny = community("no-export") }, bad: func(p *bgp.Path) { p.Communities = community("65535:65281") }},
		"deny beats allow": {cfg: func(c *bgp.Config) { c.Communities = bgp.Communities{Allow: community("1:2"), Deny: community("3:4")} }, bad: func(p *bgp.Path) { p.Communities = append(community("1:2"), community("3:4")...) }, all: true},
		"no allowed one":   {cfg: func(c *bgp.Config) { c.Communities.Allow = community("1:2:3") }, bad: func(p *bgp.Path) { p.Communities = community("1:2") }, all: true},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, func(c *bgp.Config) {
				c.Peers = c.Peers[:1]
				if test.cfg != nil {
					test.cfg(c)
				}
			}, func(p *play) {
				list := paths(5, 1)
				p.up(a, list)
				synctest.Wait()
				if got := p.sink.Len() == 0; got != test.all {
					t.Errorf("%d routes", p.sink.Len())
				}
				test.bad(&list[0])
				p.Update(a, list)
				synctest.Wait()
				if list[0].Prefix == prefix(1) {
					p.view()
				} else {
					p.view("10.0.1.0/24 metric 5")
				}
			})
		})
	}
}

// TestBest is the order in which paths are compared.
func TestBest(t *testing.T) {
	for name, test := range map[string]struct {
		a, b bgp.Path
		cfg  func(*bgp.Config)
		want string
	}{
		"the earlier peer":        {a: bgp.Path{MED: 5}, b: bgp.Path{MED: 5}, want: "a"},
		"the lower metric":        {a: bgp.Path{MED: 5}, b: bgp.Path{MED: 4}, want: "b"},
		"LOCAL_PREF before it":    {a: bgp.Path{LocalPreference: 100, MED: 1}, b: bgp.Path{LocalPreference: 101, MED: 2}, want: "b"},
		"the weight before that":  {a: bgp.Path{LocalPreference: 1}, b: bgp.Path{LocalPreference: 2}, cfg: func(c *bgp.Config) { c.Peers[0].Weight = 1 }, want: "a"},
		"the metric that results": {a: bgp.Path{MED: 1}, b: bgp.Path{MED: 2, Communities: []bgp.Community{bgp.NewCommunity(7)}}, cfg: func(c *bgp.Config) { c.Metric = []bgp.MetricRule{{Community: bgp.NewCommunity(7), Metric: 0}} }, want: "b"},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, test.cfg, func(p *play) {
				for i, path := range []bgp.Path{test.a, test.b} {
					path.Prefix, path.NextHop = prefix(1), netip.AddrFrom4([4]byte{192, 0, 2, "ab"[i]})
					p.up(i, []bgp.Path{path})
				}
				synctest.Wait()
				if got := p.sink.View(); len(got) != 1 || !strings.HasSuffix(got[0], fmt.Sprintf("via 192.0.2.%d", test.want[0])) {
					t.Errorf("got %q, want that of %s", got, test.want)
				}
			})
		})
	}
}

func TestMetric(t *testing.T) {
	rules := []bgp.MetricRule{}
	for _, line := range []string{"community 65010:1 metric 10", "community 1:2:3 metric 11", "local-preference 150 metric 12", "local-preference ge 200 metric 13"} {
		r, err := bgp.ParseMetricRule(line)
		if err != nil || r.String() != line {
			t.Fatalf("%s: got %s, %v", line, r, err)
		}
		rules = append(rules, r)
	}
	for want, path := range map[uint32]bgp.Path{
		10: {Communities: []bgp.Community{bgp.NewCommunity(65010<<16 + 1)}, LocalPreference: 300},
		11: {Communities: []bgp.Community{bgp.NewLargeCommunity(1, 2, 3)}},
		12: {LocalPreference: 150}, 13: {LocalPreference: 201}, 77: {LocalPreference: 199, MED: 77}, 0: {LocalPreference: 100},
	} {
		run(t, func(c *bgp.Config) { c.Peers, c.Metric = c.Peers[:1], rules }, func(p *play) {
			path.Prefix = prefix(1)
			p.up(a, []bgp.Path{path})
			p.view(fmt.Sprintf("10.0.1.0/24 metric %d", want))
		})
	}
	for _, line := range []string{"", "metric 10", "community metric 10", "community 0:0 metric 1", "local-preference lt 3 metric 1", "community 1:2 metric 4294967296", "med 1 metric 2"} {
		if r, err := bgp.ParseMetricRule(line); err == nil {
			t.Errorf("%q is read as %v", line, r)
		}
	}
}

func TestCommunity(t *testing.T) {
	for in, want := range map[string]string{"65010:100": "65010:100", "4200000000:0:4294967295": "4200000000:0:4294967295", "blackhole": "65535:666", "graceful-shutdown": "65535:0"} {
		if c, err := bgp.ParseCommunity(in); err != nil || c.String() != want {
			t.Errorf("%s: got %v, %v", in, c, err)
		}
	}
	for _, in := range []string{"", "1", "1:65536", "1:2:3:4", "1:-1", "internet:1", "1:2:4294967296"} {
		if c, err := bgp.ParseCommunity(in); err == nil {
			t.Errorf("%q is read as %v", in, c)
		}
	}
	if bgp.NewCommunity(1<<16+2) == bgp.NewLargeCommunity(1, 2, 0) {
		t.Error("1:2 is 1:2:0")
	}
}
