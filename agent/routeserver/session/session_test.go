package session_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/agent/routeserver/session"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/test/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// listeners are on both instances' addresses, with one port.
func listeners(t *testing.T) (both [2]net.Listener, port uint16) {
	t.Helper()
	for range 20 {
		first, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.1.4:0")
		must(t, err)
		port = uint16(first.Addr().(*net.TCPAddr).Port)
		second, err := new(net.ListenConfig).Listen(t.Context(), "tcp", fmt.Sprintf("127.0.1.5:%d", port))
		if err == nil {
			return [2]net.Listener{first, second}, port
		}
		must(t, first.Close())
	}
	t.Fatal("no port is free on both addresses")
	return both, 0
}

// hub is a Route Server with an agent that speaks to it.
type hub struct {
	t         *testing.T
	cfg       *routeserver.Config
	instances [2]*lab.Instance
	speaker   *routeserver.Speaker
	farewell  routeserver.Farewell
	stop      func()
}

func newHub(t *testing.T, like lab.InstanceConfig, change func(*routeserver.Config)) *hub {
	t.Helper()
	both, port := listeners(t)
	h := &hub{t: t, farewell: routeserver.Restarting, cfg: &routeserver.Config{
		AS: 65010, RouterID: addr("127.0.2.4"), Instances: [2]netip.Addr{addr("127.0.1.4"), addr("127.0.1.5")}, Port: port, LocalAddress: addr("127.0.2.4"),
		HoldTime: 180 * time.Second, RestartTime: 30 * time.Second, RouteLimit: 4000, Pace: 300 * time.Millisecond,
	}}
	if change != nil {
		change(h.cfg)
	}
	for i, l := range both {
		h.instances[i] = lab.NewInstance(l, like)
		t.Cleanup(h.instances[i].Close)
	}
	h.start()
	t.Cleanup(func() { h.stop() })
	return h
}

// start starts the agent's side, which knows its routes as far as they are announced.
func (h *hub) start() {
	log := slog.New(slog.NewTextHandler(h.t.Output(), nil))
	h.speaker = routeserver.New(h.cfg, session.New(h.cfg), func(context.Context) routeserver.Farewell { return h.farewell }, log, nil)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- h.speaker.Run(ctx) }()
	h.stop = func() {
		cancel()
		if err := <-ended; err != nil {
			h.t.Error(err)
		}
		h.stop = func() {}
	}
}

func (h *hub) change(announced bool, list ...string) {
	var changes []rib.Change
	for _, p := range list {
		changes = append(changes, rib.Change{Prefix: netip.MustParsePrefix(p), Is: rib.Value{Announced: announced}})
	}
	h.speaker.Changed(changes)
}

// announce announces, and says that this is complete.
func (h *hub) announce(list ...string) {
	h.change(true, list...)
	h.speaker.Complete()
}

// until waits until something holds.
func (h *hub) until(what string, holds func() bool) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(h.t.Context(), 30*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			for i, instance := range h.instances {
				h.t.Logf("instance %d has %q; %q", i, instance.Routes(), instance.Events())
			}
			status, _ := json.Marshal(h.speaker.Detail())
			h.t.Fatalf("%s: not in time: %s", what, status)
		case <-tick.C:
		}
	}
}

// have waits until both instances have exactly these routes, and have been told everything.
func (h *hub) have(what string, routes ...string) {
	h.t.Helper()
	h.until(what, func() bool {
		for _, i := range h.instances {
			if !slices.Equal(i.Routes(), routes) || !i.Complete() {
				return false
			}
		}
		return true
	})
}

func (h *hub) status() routeserver.Status { return h.speaker.Detail().(routeserver.Status) }

// event waits until an instance has noted something.
func (h *hub) event(i int, text string) {
	h.t.Helper()
	h.until("instance notes "+text, func() bool { return strings.Contains(strings.Join(h.instances[i].Events(), "\n"), text) })
}

func many(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("10.%d.%d.0/24", i>>8, i&255)
	}
	return out
}

func TestAnnounce(t *testing.T) {
	t.Parallel()
	large, err := bgp.ParseCommunity("4200000000:1:2")
	must(t, err)
	standard, err := bgp.ParseCommunity("no-advertise")
	must(t, err)
	h := newHub(t, lab.InstanceConfig{}, func(c *routeserver.Config) {
		c.Communities, c.Rank = []bgp.Community{standard, large}, 1
	})
	h.announce("10.1.0.0/16", "10.2.0.0/16", "10.0.0.0/8")
	const rest = " via 127.0.2.4 path 65010 65010 community 65535:65282 community 4200000000:1:2"
	h.have("the first routes", "10.0.0.0/8"+rest, "10.1.0.0/16"+rest, "10.2.0.0/16"+rest)
	h.change(false, "10.1.0.0/16")
	h.change(true, "10.3.0.0/16")
	h.have("a withdrawal and an announcement", "10.0.0.0/8"+rest, "10.2.0.0/16"+rest, "10.3.0.0/16"+rest)
	s := h.status()
	if s.Announced != 3 || s.Sent.Count != 0 || s.Instances[1].HoldTime != "3m0s" || s.Instances[1].Sent != 3 || h.speaker.Trouble() != "" {
		t.Errorf("status %+v, trouble %q", s, h.speaker.Trouble())
	}
}

func TestThirdPartyNextHop(t *testing.T) {
	t.Parallel()
	h := newHub(t, lab.InstanceConfig{}, func(c *routeserver.Config) { c.NextHop = addr("127.0.2.100") })
	h.announce("10.1.0.0/16")
	h.have("the next hop", "10.1.0.0/16 via 127.0.2.100 path 65010")
}

// TestManyRoutes: 4,000, which is the limit; then one more; then a refresh, which must not cost the session.
func TestManyRoutes(t *testing.T) {
	t.Parallel()
	h := newHub(t, lab.InstanceConfig{Window: 50 * time.Millisecond}, nil)
	h.announce(many(4000)...)
	full := func() bool { return h.instances[0].Count() == 4000 && h.instances[1].Count() == 4000 }
	h.until("4,000 routes", full)
	h.change(true, "192.168.0.0/24")
	h.until("one too many", func() bool { return strings.Contains(h.speaker.Trouble(), "1 prefixes are not announced") })
	h.instances[0].Refresh()
	h.until("the refresh is under way", func() bool { return h.status().Instances[0].Pending > 0 })
	h.until("the refresh is answered", func() bool { return h.status().Instances[0].Pending == 0 && full() })
	h.change(false, "10.0.0.0/24")
	h.until("there is room again", func() bool { return h.speaker.Trouble() == "" && full() })
	for i := range h.instances {
		if events := h.instances[i].Events(); len(events) != 1 {
			t.Errorf("instance %d: %q", i, events)
		}
	}
}

// TestLost: a connection is cut, with graceful restart and without; both instances end up the same.
func TestLost(t *testing.T) {
	for _, restart := range []bool{false, true} {
		t.Run(fmt.Sprint("graceful restart ", restart), func(t *testing.T) {
			t.Parallel()
			h := newHub(t, lab.InstanceConfig{Restart: restart}, nil)
			h.announce("10.1.0.0/16", "10.2.0.0/16")
			h.have("the first routes", "10.1.0.0/16 via 127.0.2.4 path 65010", "10.2.0.0/16 via 127.0.2.4 path 65010")
			h.instances[0].Cut()
			h.until("it is noticed", func() bool { return strings.Contains(h.speaker.Trouble(), "127.0.1.4: it closed the connection") })
			h.event(0, "lost")
			if restart != slices.Contains(h.instances[0].Routes(), "10.1.0.0/16 via 127.0.2.4 path 65010 stale") {
				t.Errorf("instance 0 has %q", h.instances[0].Routes())
			}
			h.change(false, "10.1.0.0/16")
			h.change(true, "10.3.0.0/16")
			h.have("afterwards", "10.2.0.0/16 via 127.0.2.4 path 65010", "10.3.0.0/16 via 127.0.2.4 path 65010")
			if events := strings.Join(h.instances[0].Events(), "\n"); strings.Count(events, "after a restart") != 1 || strings.Count(events, "established,") != 1 {
				t.Errorf("it restarts once: %s", events)
			}
			h.instances[1].Reset(4)
			h.until("a reset is noticed", func() bool { return strings.Contains(h.speaker.Trouble(), "127.0.1.5: it closed the session") })
			h.until("both are back", func() bool {
				s := h.status()
				return s.Instances[0].Established && s.Instances[0].Sessions == 2 && s.Instances[1].Established && s.Instances[1].Sessions == 2
			})
			h.have("and again", "10.2.0.0/16 via 127.0.2.4 path 65010", "10.3.0.0/16 via 127.0.2.4 path 65010")
		})
	}
}

// TestStop: an agent that restarts leaves its routes where the instance can keep them; one that goes down takes them along.
func TestStop(t *testing.T) {
	const one, two = "10.1.0.0/16 via 127.0.2.4 path 65010", "10.2.0.0/16 via 127.0.2.4 path 65010"
	for _, tt := range []struct {
		name     string
		restart  bool
		farewell routeserver.Farewell
		event    string
		left     []string
	}{
		{"restart, kept", true, routeserver.Restarting, "lost: read: ", []string{one + " stale", two + " stale"}},
		{"restart, not kept", false, routeserver.Restarting, "lost: notification 6/4", []string{}},
		{"going down", true, routeserver.GoingDown, "lost: notification 6/2", []string{}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, lab.InstanceConfig{Restart: tt.restart}, nil)
			h.farewell = tt.farewell
			h.announce("10.1.0.0/16", "10.2.0.0/16")
			h.have("the first routes", one, two)
			h.stop()
			h.event(0, tt.event)
			h.event(1, tt.event)
			if left := h.instances[0].Routes(); !slices.Equal(left, tt.left) {
				t.Errorf("left are %q", left)
			}
			h.start()
			h.change(true, "10.2.0.0/16")
			h.until("the session is back", func() bool { return h.speaker.Trouble() == "" })
			if left := h.instances[1].Routes(); !slices.Equal(left, tt.left) {
				t.Errorf("before the RIB is complete: %q", left)
			}
			h.speaker.Complete()
			h.have("the next process", two)
		})
	}
}

// TestRestartOfMany: a process that starts anew must not pass the limit of an instance that has kept its routes.
func TestRestartOfMany(t *testing.T) {
	t.Parallel()
	h := newHub(t, lab.InstanceConfig{Restart: true, Limit: 400, Window: 50 * time.Millisecond}, func(c *routeserver.Config) { c.RouteLimit = 400 })
	h.announce(many(300)...)
	h.until("all routes", func() bool { return h.instances[0].Count() == 300 && h.instances[1].Count() == 300 })
	h.stop()
	h.start()
	h.announce(many(300)...)
	h.until("all is said again", func() bool { return h.instances[0].Complete() && h.instances[1].Complete() })
	for _, i := range h.instances {
		if events := strings.Join(i.Events(), "\n"); i.Count() != 300 || strings.Contains(events, "limit") {
			t.Errorf("%d routes; %s", i.Count(), events)
		}
	}
}

// TestLearned: what Route Server announces is shown, with the differences.
func TestLearned(t *testing.T) {
	t.Parallel()
	h := newHub(t, lab.InstanceConfig{}, nil)
	h.announce()
	h.until("both are up", func() bool { return h.speaker.Trouble() == "" })
	for _, i := range h.instances {
		i.Announce(netip.MustParsePrefix("10.0.0.0/16"))
	}
	h.instances[1].Announce(netip.MustParsePrefix("10.9.0.0/16"), 65020)
	h.until("both are heard", func() bool {
		s := h.status()
		return len(s.Instances[0].Routes) == 1 && len(s.Instances[1].Routes) == 2
	})
	s := h.status()
	text, err := json.Marshal(s.Instances[1].Routes)
	must(t, err)
	const want = `[{"prefix":"10.0.0.0/16","nextHop":"127.0.1.5","asPath":[65515]},{"prefix":"10.9.0.0/16","nextHop":"127.0.1.5","asPath":[65515,65020]}]`
	if string(text) != want || s.Learned.Count != 1 || s.Learned.First[0].String() != "10.9.0.0/16" {
		t.Errorf("learned %s, differences %+v", text, s.Learned)
	}
	h.instances[1].Withdraw(netip.MustParsePrefix("10.9.0.0/16"))
	h.until("a withdrawal", func() bool { return h.status().Learned.Count == 0 })
}

// TestMalformed: what is no BGP is answered as the RFCs say, and the session comes back; the other one does not notice.
func TestMalformed(t *testing.T) {
	next := lab.Attribute(0x40, 3, 127, 0, 1, 4)
	origin, path := lab.Attribute(0x40, 1, 0), lab.Attribute(0x40, 2, 2, 1, 0, 0, 0xff, 0xeb)
	nlri := []byte{16, 10, 9}
	marker := lab.Message(4)
	marker[3] = 0
	for _, tt := range []struct {
		name string
		sent []byte
		want string // "": the session goes on
	}{
		{"unknown type", lab.Message(255), "1/3"},
		{"no marker", marker, "1/1"},
		{"too long", append(slices.Repeat([]byte{0xff}, 16), 0x20, 0, 2), "1/2"},
		{"OPEN in a session", lab.Message(1, 4, 0xff, 0xeb, 0, 90, 127, 0, 1, 4, 0), "5/0"},
		{"attributes longer than the message", lab.Message(2, 0, 0, 0xff, 0xff, 0x40, 1, 1, 0), "3/1"},
		{"prefix of 33 bits", lab.Update(nil, slices.Concat(origin, path, next), []byte{33, 10, 9, 0, 0, 0}), "3/10"},
		{"no NEXT_HOP", lab.Update(nil, slices.Concat(origin, path), nlri), ""}, // RFC 7606, section 3 d
		{"ORIGIN 9", lab.Update(nil, slices.Concat(lab.Attribute(0x40, 1, 9), path, next), nlri), ""},
		{"unknown optional attribute", lab.Update(nil, slices.Concat(origin, path, next, lab.Attribute(0xc0, 240, 1)), nlri), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, lab.InstanceConfig{}, nil)
			h.announce("10.1.0.0/16")
			const route = "10.1.0.0/16 via 127.0.2.4 path 65010"
			h.have("the first route", route)
			h.instances[0].Send(tt.sent)
			if tt.want != "" {
				h.event(0, "notification "+tt.want)
			}
			h.instances[0].Announce(netip.MustParsePrefix("10.8.0.0/16"))
			h.until("the session is in use", func() bool {
				s := h.status()
				return slices.ContainsFunc(s.Instances[0].Routes, func(l routeserver.Learned) bool { return l.Prefix == netip.MustParsePrefix("10.8.0.0/16") })
			})
			h.have("the route afterwards", route)
			if events := h.instances[1].Events(); len(events) != 1 || tt.want == "" && len(h.instances[0].Events()) != 1 {
				t.Errorf("events %q and %q", h.instances[0].Events(), events)
			}
		})
	}
}

// TestRefused: sessions that must not come about, with the reason for people.
func TestRefused(t *testing.T) {
	for _, tt := range []struct {
		name   string
		like   lab.InstanceConfig
		want   string
		answer string
	}{
		{"wrong AS", lab.InstanceConfig{AS: 65001}, "its AS is 65001, not 65515: it is no Route Server", "type 3, 02 02"},
		{"hold time", lab.InstanceConfig{Hold: 2 * time.Second}, "its hold time is 2s", "type 3, 02 06"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := newHub(t, tt.like, nil)
			h.until("it is refused", func() bool {
				return strings.Count(h.speaker.Trouble(), tt.want) == 2
			})
			h.event(1, tt.answer)
		})
	}
}

// TestHoldTime: the lower one counts; a silent instance is given up, and told so.
func TestHoldTime(t *testing.T) {
	t.Parallel()
	l, port := listeners(t)
	must(t, l[1].Close())
	cfg := &routeserver.Config{
		AS: 65010, RouterID: addr("127.0.2.4"), Instances: [2]netip.Addr{addr("127.0.1.4"), addr("127.0.1.5")}, Port: port, HoldTime: 3 * time.Second,
	}
	answer := make(chan []byte, 1)
	go func() {
		conn, err := l[0].Accept()
		if err != nil {
			answer <- nil
			return
		}
		_, _ = conn.Write(lab.Message(1, 4, 0xff, 0xeb, 0, 180, 127, 0, 1, 4, 0))
		_, _ = conn.Write(lab.Message(4))
		all, _ := io.ReadAll(conn)
		_ = conn.Close()
		answer <- all
	}()
	s, err := session.New(cfg).Open(t.Context(), 0, true)
	must(t, err)
	if info := s.Info(); info.HoldTime != 3*time.Second || info.Retains {
		t.Errorf("agreed upon %+v", info)
	}
	if err = s.Listen(nil); err == nil || !strings.Contains(err.Error(), "silent for the hold time") {
		t.Errorf("it ended with %v", err)
	}
	all := <-answer
	must(t, l[0].Close())
	if want := lab.Message(3, 4, 0); !slices.Equal(all[max(0, len(all)-len(want)):], want) {
		t.Errorf("it was told % x", all)
	}
	if _, err = session.New(cfg).Open(t.Context(), 1, true); err == nil || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("nobody listens: %v", err)
	}
}

// TestTwoByteAS: an instance without AS numbers of four octets.
func TestTwoByteAS(t *testing.T) {
	t.Parallel()
	h := newHub(t, lab.InstanceConfig{TwoByte: true}, func(c *routeserver.Config) { c.Rank = 2 })
	h.announce("10.1.0.0/16")
	h.have("the path", "10.1.0.0/16 via 127.0.2.4 path 65010 65010 65010")
	h.instances[0].Announce(netip.MustParsePrefix("10.9.0.0/16"), 65020)
	h.until("it is heard", func() bool {
		r := h.status().Instances[0].Routes
		return len(r) == 1 && slices.Equal(r[0].ASPath, []uint32{65515, 65020})
	})
}
