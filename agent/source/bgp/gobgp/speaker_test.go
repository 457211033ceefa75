package gobgp_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/agent/source/bgp/gobgp"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/test/lab"
)

func TestMain(m *testing.M) {
	if spec := os.Getenv(feederVariable); spec != "" {
		feed(spec)
		return
	}
	// A server that stops while one of its queues holds something leaves the goroutine of that queue behind (gobgp v4.8.0,
	// cleanInfiniteChannel does not wait): one at the end of Speak, when the process ends or the next attempt begins.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/eapache/channels.(*InfiniteChannel).infiniteBuffer"))
}

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freePort returns a port of the address that nobody listens on.
func freePort(t *testing.T, a netip.Addr) netip.AddrPort {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", netip.AddrPortFrom(a, 0).String())
	must(t, err)
	defer func() { must(t, l.Close()) }()
	return netip.MustParseAddrPort(l.Addr().String())
}

// agent is a source that listens on a loopback address.
type agent struct {
	*lab.Recorder
	t       *testing.T
	cfg     bgp.Config
	metrics *bgp.Metrics
}

// lines is where the log goes.
type lines struct{ t *testing.T }

func (l lines) Write(b []byte) (int, error) {
	l.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// start runs a source with two passive peers, 127.0.0.11 and 127.0.0.12, of AS 65010; it is in AS 65001.
func start(t *testing.T, change func(*bgp.Config)) *agent {
	t.Helper()
	cfg := bgp.Config{
		AS: 65001, RouterID: addr("192.0.2.1"), Listen: freePort(t, addr("127.0.0.2")), RestartTime: time.Minute,
		OnSessionLoss: bgp.Keep, MaxPrefixes: 1000, OnMaxPrefixes: bgp.Hold,
		Peers: []bgp.Peer{{
			Name: "one", Address: addr("127.0.0.11"), AS: 65010, Passive: true, Families: bgp.Families(), HoldTime: 90 * time.Second,
		}},
	}
	if change != nil {
		change(&cfg)
	}
	a := &agent{Recorder: lab.NewRecorder(), t: t, cfg: cfg, metrics: new(bgp.Metrics)}
	log := slog.New(slog.NewTextHandler(lines{t}, nil))
	ctx, cancel := context.WithCancel(context.Background())
	src := bgp.New(cfg, gobgp.New(cfg, 100*time.Millisecond, log), log, a.metrics)
	ended := make(chan error, 1)
	go func() { ended <- src.Run(ctx, a) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("the source ended with %v", err)
		}
		a.Check(t)
	})
	return a
}

func (a *agent) talk(from string, open lab.Open) *lab.Talker {
	a.t.Helper()
	if open.AS == 0 {
		open.AS = 65010
	}
	open.ID = addr(from)
	if !open.ID.IsLoopback() {
		a.t.Fatal("not a loopback address")
	}
	ctx, cancel := context.WithTimeout(a.t.Context(), 30*time.Second)
	defer cancel()
	p, err := lab.Talk(ctx, addr(from), a.cfg.Listen, open)
	must(a.t, err)
	a.t.Cleanup(p.Close)
	return p
}

func attrs(nextHop string) lab.Attrs {
	return lab.Attrs{NextHop: addr(nextHop), ASPath: []uint32{65010}}
}

// TestLearn: both families, attributes, a change, a withdrawal, in order.
func TestLearn(t *testing.T) {
	a := start(t, nil)
	p := a.talk("127.0.0.11", lab.Open{})
	v4, v6 := attrs("192.0.2.9"), attrs("2001:db8::9")
	v4.MED = 7
	must(t, p.Send(p.Announce(v4, prefixes("10.2.0.0/16", "10.1.0.0/16")...)))
	must(t, p.Send(p.Announce(v6, prefixes("fd00:1::/48")...)))
	must(t, p.Send(p.EndOfRIB()))
	a.UntilView(t, "the first routes", "10.1.0.0/16 metric 7 via 192.0.2.9", "10.2.0.0/16 metric 7 via 192.0.2.9", "fd00:1::/48 metric 0 via 2001:db8::9")
	v4.MED = 8
	must(t, p.Send(p.Announce(v4, prefixes("10.1.0.0/16")...)))
	a.UntilView(t, "a change", "10.1.0.0/16 metric 8 via 192.0.2.9", "10.2.0.0/16 metric 7 via 192.0.2.9", "fd00:1::/48 metric 0 via 2001:db8::9")
	must(t, p.Send(p.Withdraw(prefixes("10.2.0.0/16")...)))
	must(t, p.Send(p.Withdraw(prefixes("fd00:1::/48")...)))
	a.UntilView(t, "withdrawals", "10.1.0.0/16 metric 8 via 192.0.2.9")
	if calls := a.Calls(); calls[0] != "lost peer one: no session yet" || !slices.Contains(calls, "replace 3") {
		t.Errorf("calls %q", calls)
	}
}

// TestSessionLost: the connections are cut; no withdrawal; what the peers do not say again is gone with their End-of-RIB.
func TestSessionLost(t *testing.T) {
	a := start(t, func(c *bgp.Config) {
		two := c.Peers[0]
		two.Name, two.Address = "two", addr("127.0.0.12")
		c.Peers = append(c.Peers, two)
	})
	talk := func() (plain, graceful *lab.Talker) {
		return a.talk("127.0.0.11", lab.Open{}), a.talk("127.0.0.12", lab.Open{Restart: 30 * time.Second})
	}
	plain, graceful := talk()
	must(t, plain.Send(append(plain.Announce(attrs("192.0.2.9"), prefixes("10.1.0.0/16", "10.2.0.0/16")...), plain.EndOfRIB()...)))
	must(t, graceful.Send(append(graceful.Announce(attrs("192.0.2.9"), prefixes("10.11.0.0/16", "10.12.0.0/16")...), graceful.EndOfRIB()...)))
	a.Until(t, "the first routes", func() bool { return a.Len() == 4 && a.Reason() == "" })
	before := len(a.Calls())
	plain.Close()
	const plainLost, gracefulLost = "peer one: the connection was lost", "peer two: the connection was lost, it asked to be waited for"
	a.Until(t, "one loss is seen", func() bool { return a.Reason() == plainLost })
	graceful.Close()
	a.Until(t, "both are", func() bool { return a.Reason() == plainLost+"; "+gracefulLost })
	if calls := a.Calls()[before:]; len(calls) != 2 || a.Len() != 4 {
		t.Errorf("calls %q, want two times lost; %d routes, want 4", calls, a.Len())
	}

	plain, graceful = talk()
	must(t, plain.Send(plain.Announce(attrs("192.0.2.9"), prefixes("10.2.0.0/16", "10.3.0.0/16")...)))
	a.Until(t, "news before the end of the exchange", func() bool { return a.Len() == 5 })
	must(t, plain.Send(plain.EndOfRIB()))
	a.Until(t, "one is back", func() bool { return a.Reason() == gracefulLost && a.Len() == 4 })
	must(t, graceful.Send(append(graceful.Announce(attrs("192.0.2.9"), prefixes("10.12.0.0/16")...), graceful.EndOfRIB()...)))
	a.UntilView(t, "both are", "10.2.0.0/16 metric 0 via 192.0.2.9", "10.3.0.0/16 metric 0 via 192.0.2.9", "10.12.0.0/16 metric 0 via 192.0.2.9")
	if calls := a.Calls(); calls[len(calls)-1] != "replace 3" {
		t.Errorf("calls %q, want a replace at the end", calls)
	}
}

// TestNotBack: after the restart time.
func TestNotBack(t *testing.T) {
	for what, routes := range map[bgp.OnSessionLoss]int{bgp.Keep: 1, bgp.Withdraw: 0} {
		t.Run(what.String(), func(t *testing.T) {
			a := start(t, func(c *bgp.Config) { c.OnSessionLoss, c.RestartTime = what, time.Second })
			p := a.talk("127.0.0.11", lab.Open{})
			must(t, p.Send(append(p.Announce(attrs("192.0.2.9"), prefixes("10.1.0.0/16")...), p.EndOfRIB()...)))
			a.UntilView(t, "the first route", "10.1.0.0/16 metric 0 via 192.0.2.9")
			must(t, p.Cease(2))
			a.Until(t, "Cease is told", func() bool { return strings.Contains(a.Reason(), "administrative shutdown") })
			a.Until(t, "the restart time ends", func() bool { return strings.Contains(a.Reason(), "not back in time") })
			if a.Len() != routes {
				t.Errorf("%d routes, want %d", a.Len(), routes)
			}
		})
	}
}

// TestOwnASReplaces: a path with our own AS in it is no path; gobgp would go on with the one before.
func TestOwnASReplaces(t *testing.T) {
	a := start(t, nil)
	p := a.talk("127.0.0.11", lab.Open{})
	must(t, p.Send(append(p.Announce(attrs("192.0.2.9"), prefixes("10.1.0.0/16", "10.2.0.0/16")...), p.EndOfRIB()...)))
	a.Until(t, "the first routes", func() bool { return a.Len() == 2 })
	loop := attrs("192.0.2.9")
	loop.ASPath = append(loop.ASPath, slices.Repeat([]uint32{65001}, 20)...)
	must(t, p.Send(p.Announce(loop, prefixes("10.1.0.0/16")...)))
	a.UntilView(t, "the loop is seen", "10.2.0.0/16 metric 0 via 192.0.2.9")
}

// TestTwoPeers: the weight of the configuration, then what the peers say; a stale path comes behind a fresh one.
func TestTwoPeers(t *testing.T) {
	a := start(t, func(c *bgp.Config) {
		two := c.Peers[0]
		two.Name, two.Address, two.AS = "two", addr("127.0.0.12"), 65001 // iBGP: only there is a local preference
		c.Peers[0].AS = 65001
		c.Peers = append(c.Peers, two)
	})
	one, two := a.talk("127.0.0.11", lab.Open{AS: 65001}), a.talk("127.0.0.12", lab.Open{AS: 65001})
	say := func(p *lab.Talker, nextHop string, localPreference, med uint32, list ...string) {
		t.Helper()
		must(t, p.Send(p.Announce(lab.Attrs{NextHop: addr(nextHop), LocalPreference: localPreference, MED: med}, prefixes(list...)...)))
	}
	say(one, "192.0.2.1", 100, 5, "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16")
	must(t, one.Send(one.EndOfRIB()))
	say(two, "192.0.2.2", 100, 5, "10.1.0.0/16")
	say(two, "192.0.2.2", 200, 9, "10.2.0.0/16")
	say(two, "192.0.2.2", 100, 4, "10.3.0.0/16")
	must(t, two.Send(two.EndOfRIB()))
	a.UntilView(t, "both", "10.1.0.0/16 metric 5 via 192.0.2.1", "10.2.0.0/16 metric 9 via 192.0.2.2", "10.3.0.0/16 metric 4 via 192.0.2.2")
	two.Close()
	a.Until(t, "fresh before stale", func() bool {
		return strings.HasPrefix(a.Reason(), "peer two: ") &&
			slices.Equal(a.View(), []string{"10.1.0.0/16 metric 5 via 192.0.2.1", "10.2.0.0/16 metric 5 via 192.0.2.1", "10.3.0.0/16 metric 5 via 192.0.2.1"})
	})
}

func many(count int) []netip.Prefix {
	out := make([]netip.Prefix, count)
	for i := range out {
		out[i] = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
	}
	return out
}

func TestMaxPrefixesHold(t *testing.T) {
	a := start(t, func(c *bgp.Config) { c.MaxPrefixes = 100 })
	p := a.talk("127.0.0.11", lab.Open{})
	must(t, p.Send(append(p.Announce(attrs("192.0.2.9"), many(100)...), p.EndOfRIB()...)))
	a.Until(t, "as many as may be", func() bool { return a.Len() == 100 && a.Reason() == "" })
	must(t, p.Send(p.Announce(attrs("192.0.2.9"), many(150)[100:]...)))
	a.Until(t, "too many", func() bool { return strings.Contains(a.Reason(), "more than 100 prefixes") })
	must(t, p.Send(p.Withdraw(many(10)...)))
	a.Until(t, "what is known is followed", func() bool { return a.Len() == 90 })
	must(t, p.Send(p.Withdraw(many(150)[100:140]...)))
	a.Until(t, "few enough again", func() bool { return a.Reason() == "" && a.Len() == 100 })
}

// TestMaxPrefixesCease: RFC 4486, subcode 1; and the peer may come again.
func TestMaxPrefixesCease(t *testing.T) {
	for on, count := range map[bgp.OnMaxPrefixes]int{bgp.Cease: 101, bgp.Hold: 401} {
		t.Run(on.String(), func(t *testing.T) {
			a := start(t, func(c *bgp.Config) {
				c.MaxPrefixes, c.OnMaxPrefixes, c.OnSessionLoss, c.RestartTime = 100, on, bgp.Withdraw, time.Second
			})
			p := a.talk("127.0.0.11", lab.Open{})
			must(t, p.Send(append(p.Announce(attrs("192.0.2.9"), many(50)...), p.EndOfRIB()...)))
			a.Until(t, "few", func() bool { return a.Len() == 50 && a.Reason() == "" })
			must(t, p.Send(p.Announce(attrs("192.0.2.9"), many(count)...)))
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			if err := p.Ended(ctx); !errors.Is(err, lab.ErrNotification) || !strings.Contains(err.Error(), "6/1") {
				t.Errorf("the session ended with %v, want Cease, maximum number of prefixes reached", err)
			}
			a.Until(t, "it is told", func() bool { return strings.Contains(a.Reason(), "the session was closed, its routes stay") })
			if on == bgp.Hold {
				return // the same from here
			}
			p = a.talk("127.0.0.11", lab.Open{}) // some 5 s later: the restart time is over long since
			if a.Len() != 50 {
				t.Errorf("%d routes, want the 50 from before", a.Len())
			}
			must(t, p.Send(append(p.Announce(attrs("192.0.2.9"), many(60)...), p.EndOfRIB()...)))
			a.Until(t, "it mended its ways", func() bool { return a.Len() == 60 && a.Reason() == "" })
		})
	}
}

// TestMalformed: messages that have killed BGP speakers. The process survives, and the other session does not notice.
func TestMalformed(t *testing.T) {
	update := func(raw ...byte) func(*lab.Talker) []byte {
		return func(p *lab.Talker) []byte {
			a := attrs("192.0.2.9")
			a.Raw = raw
			return p.Announce(a, prefixes("10.99.0.0/16")...)
		}
	}
	origin, path := lab.Attribute(0x40, 1, 0), lab.Attribute(0x40, 2, 2, 1, 0xfd, 0xf2)
	nextHop, nlri := lab.Attribute(0x40, 3, 192, 0, 2, 9), []byte{16, 10, 99}
	tests := []struct {
		name   string
		open   lab.Open
		vector func(*lab.Talker) []byte
	}{
		{name: "message type 255 (gobgp issue 3325)", vector: func(*lab.Talker) []byte { return lab.Message(255) }},
		{name: "SRv6 sub-TLV (CVE-2026-7734)", vector: update(lab.Attribute(0xc0, 40, 5, 0, 5, 0, 0xff, 0, 1, 0)...)},
		{name: "SRv6 sub-TLV, short (CVE-2026-7734)", vector: update(lab.Attribute(0xc0, 40, 5, 0, 4, 0, 0xff, 0, 9)...)},
		{name: "AS4_PATH before AS_PATH (CVE-2026-41643)", open: lab.Open{TwoByte: true}, vector: func(*lab.Talker) []byte {
			return lab.Update(nil, slices.Concat(origin, lab.Attribute(0xc0, 17, 2, 1, 0, 0, 0xfd, 0xf2), nextHop, path), nlri)
		}},
		{name: "AS4_PATH only (CVE-2026-41643)", open: lab.Open{TwoByte: true}, vector: func(*lab.Talker) []byte {
			return lab.Update(nil, slices.Concat(origin, nextHop, lab.Attribute(0xc0, 17, 2, 1, 0, 0, 0xfd, 0xf2)), nlri)
		}},
		{name: "NEXT_HOP of 2 bytes (CVE-2026-30405)", vector: func(*lab.Talker) []byte {
			return lab.Update(nil, slices.Concat(origin, path, lab.Attribute(0x40, 3, 192, 0)), nlri)
		}},
		{name: "unknown well-known attribute (CVE-2026-41642)", vector: update(lab.Attribute(0x40, 200, 1, 2, 3)...)},
		{name: "AIGP, short TLV (CVE-2026-7735)", vector: update(lab.Attribute(0x80, 26, 1, 0, 1)...)},
		{name: "attribute longer than the message (CVE-2026-37462)", vector: func(*lab.Talker) []byte { return lab.Update(nil, []byte{0x50, 1, 0xff, 0xff, 0}, nlri) }},
		{name: "prefix longer than an address", vector: func(*lab.Talker) []byte {
			return lab.Update(nil, slices.Concat(origin, path, nextHop), []byte{200, 10, 99})
		}},
		{name: "nothing but ones", vector: func(*lab.Talker) []byte { return slices.Repeat([]byte{0xff}, 4096) }},
	}
	a := start(t, func(c *bgp.Config) {
		for i, test := range tests {
			bad := c.Peers[0]
			bad.Name, bad.Address = test.name, netip.AddrFrom4([4]byte{127, 0, 0, byte(100 + i)})
			c.Peers = append(c.Peers, bad)
		}
	})
	good := a.talk("127.0.0.11", lab.Open{})
	must(t, good.Send(good.EndOfRIB()))
	var bad []*lab.Talker
	for i, test := range tests {
		p := a.talk(a.cfg.Peers[i+1].Address.String(), test.open)
		must(t, p.Send(p.EndOfRIB()))
		bad = append(bad, p)
	}
	a.UntilView(t, "all are there")
	for i, test := range tests {
		must(t, bad[i].Send(test.vector(bad[i])))
		after := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 98, byte(i), 0}), 24)
		_ = bad[i].Send(bad[i].Announce(attrs("192.0.2.9"), after)) // the session may be closed by now
		a.Until(t, test.name, func() bool {
			return strings.Contains(a.Reason(), "peer "+test.name+": ") || has(a, after)
		})
		good1 := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 1, byte(i), 0}), 24)
		must(t, good.Send(good.Announce(attrs("192.0.2.9"), good1)))
		a.Until(t, "the other session goes on after "+test.name, func() bool { return has(a, good1) })
	}
}

func has(a *agent, p netip.Prefix) bool {
	return slices.ContainsFunc(a.View(), func(s string) bool { return strings.HasPrefix(s, p.String()+" ") })
}

// TestPasswordAndNothingIsAnnounced: sessions with TCP MD5 to two real speakers, one opened from there and one from here; what one
// says never reaches the other.
func TestPasswordAndNothingIsAnnounced(t *testing.T) {
	file := filepath.Join(t.TempDir(), "password")
	must(t, os.WriteFile(file, []byte(feederPassword+"\n"), 0o600))
	listen := freePort(t, addr("127.0.0.22"))
	a := start(t, func(c *bgp.Config) {
		c.Peers[0].PasswordFile = file
		active := c.Peers[0]
		active.Name, active.Address, active.Port, active.Passive = "two", listen.Addr(), listen.Port(), false
		active.LocalAddress, active.AS = addr("127.0.0.2"), 65001 // iBGP
		c.Peers = append(c.Peers, active)
	})
	one := startFeeder(t, feeder{AS: 65010, Local: "127.0.0.11", RemotePort: a.cfg.Listen.Port()})
	two := startFeeder(t, feeder{AS: 65001, Local: "127.0.0.22", Port: listen.Port()})
	one.say("announce 10.1.0.0/16")
	one.say("announce 10.2.0.0/16")
	two.say("announce 10.3.0.0/16")
	a.UntilView(t, "both speakers' routes", "10.1.0.0/16 metric 0 via 127.0.0.11", "10.2.0.0/16 metric 0 via 127.0.0.11", "10.3.0.0/16 metric 0 via 127.0.0.22")
	one.say("withdraw")
	a.UntilView(t, "a withdrawal", "10.3.0.0/16 metric 0 via 127.0.0.22")
	for name, f := range map[string]*feederProcess{"one": one, "two": two} {
		if got := f.say("learned"); got != "learned 0" {
			t.Errorf("%s has %s routes", name, got)
		}
	}
}

func TestUnusable(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty")
	must(t, os.WriteFile(empty, []byte("\n"), 0o600))
	for name, want := range map[string]string{"/nonexistent/password": "no such file", empty: "holds 0 bytes"} {
		cfg := bgp.Config{AS: 65001, RouterID: addr("192.0.2.1"), Peers: []bgp.Peer{{Name: "one", Address: addr("127.0.0.11"), PasswordFile: name}}}
		src := bgp.New(cfg, gobgp.New(cfg, time.Second, slog.New(slog.DiscardHandler)), slog.New(slog.DiscardHandler), nil)
		err := src.Run(t.Context(), lab.NewRecorder())
		if !errors.Is(err, bgp.ErrUnusable) || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "peer one") {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

// TestAddressTaken: somebody else listens where the source should; it says so and goes on trying.
func TestAddressTaken(t *testing.T) {
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.2:0")
	must(t, err)
	a := start(t, func(c *bgp.Config) { c.Listen = netip.MustParseAddrPort(l.Addr().String()) })
	a.Until(t, "it is told", func() bool { return strings.Contains(a.Reason(), "address already in use") })
	must(t, l.Close())
	p := a.talk("127.0.0.11", lab.Open{})
	must(t, p.Send(append(p.Announce(attrs("192.0.2.9"), prefixes("10.1.0.0/16")...), p.EndOfRIB()...)))
	a.UntilView(t, "then it works", "10.1.0.0/16 metric 0 via 192.0.2.9")
}

// TestWrongAS: the reason is told although there never was a session.
func TestWrongAS(t *testing.T) {
	a := start(t, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	if p, err := lab.Talk(ctx, addr("127.0.0.11"), a.cfg.Listen, lab.Open{AS: 65099, ID: addr("127.0.0.11")}); err == nil {
		p.Close()
		t.Fatal("a session with the wrong AS")
	}
	a.Until(t, "it is told", func() bool { return strings.Contains(a.Reason(), "another AS") })
	if a.Known() {
		t.Error("a view without a session")
	}
}

// TestBigTable: many routes in many UPDATEs.
func TestBigTable(t *testing.T) {
	const count = 20_000
	a := start(t, func(c *bgp.Config) { c.MaxPrefixes = count })
	p := a.talk("127.0.0.11", lab.Open{})
	for chunk := range slices.Chunk(many(count), 500) {
		must(t, p.Send(p.Announce(attrs("192.0.2.9"), chunk...)))
	}
	must(t, p.Send(p.EndOfRIB()))
	a.Until(t, "all", func() bool { return a.Len() == count && a.Reason() == "" })
	if calls := a.Calls(); calls[len(calls)-1] != fmt.Sprintf("replace %d", count) {
		t.Errorf("calls %q", calls)
	}
	if n := a.metrics.Prefixes.Load(); n != count {
		t.Errorf("the metric says %d prefixes", n)
	}
	if got := route.Compare(many(2)[0], many(2)[1]); got >= 0 {
		t.Errorf("the test's prefixes are not in order: %d", got)
	}
}
