package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/agent/check"
	"github.com/pointsman/pointsman/agent/echo"
	"github.com/pointsman/pointsman/agent/reach"
	"github.com/pointsman/pointsman/agent/scheduled"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/located"
)

const (
	wantListen   = "an address of this machine in the data plane with a port such as 10.0.1.4:9811"
	wantSelfTest = `none, or a mapping such as {targets: ["tcp 168.63.129.16:80"]}`
	wantPeer     = "the address of the peer in the data plane, such as 10.0.1.5 or 10.0.1.5:9811"
)

func witness(n located.Node, self string) *Witness {
	m := n.Map("listen", "keyFile", "every", "misses", "selfTest", "peers")
	w := &Witness{
		Listen:  located.Or(m.Get("listen"), netip.AddrPort{}, wantListen, parseLocal),
		KeyFile: located.Or(m.Get("keyFile"), "", "an absolute path", parsePath),
		Every:   duration(m.Get("every"), DefaultProbeEvery, 50*time.Millisecond, 10*time.Second),
		Misses:  located.Or(m.Get("misses"), DefaultProbeMisses, "a number from 2 to 50", located.Int(2, 50)),
	}
	watched(m.Get("peers"), w, self)
	w.SelfTest = selfTest(m.Need("selfTest", wantSelfTest), len(w.BFD) > 0)
	if len(w.Peers) > 0 || len(w.BFD) == 0 || m.Get("listen").Present() {
		m.Need("listen", wantListen)
		m.Need("keyFile", "an absolute path")
	} else {
		w.Every, w.Misses = 0, 0
		for _, key := range []string{"keyFile", "every", "misses"} {
			if m.Get(key).Present() {
				m.Get(key).Reportf("of no use without listen: every peer is watched by BFD")
			}
		}
	}
	if !n.Present() {
		return nil
	}
	return w
}

// selfTest reads the self-test. BFD says only when a peer is lost how long it has been missing, so the rounds must be close together to have one in that
// time.
func selfTest(n located.Node, withBFD bool) SelfTest {
	if n.Scalar() {
		located.Value(n, wantSelfTest, located.OneOf("none"))
		return SelfTest{}
	}
	m := n.Map("targets", "every", "timeout", "misses")
	every := DefaultSelfTestEvery
	if withBFD {
		every = DefaultSelfTestEvery / 5
	}
	t := SelfTest{
		Targets: each(m.Need("targets", `a list of lines such as "tcp 168.63.129.16:80"`), reach.Want, reach.Parse),
		Every:   duration(m.Get("every"), every, 100*time.Millisecond, time.Minute),
		Timeout: duration(m.Get("timeout"), DefaultSelfTestTimeout, 10*time.Millisecond, 10*time.Second),
		Misses:  located.Or(m.Get("misses"), DefaultSelfTestMisses, "a number from 1 to 50", located.Int(1, 50)),
	}
	if list := m.Get("targets"); list.Present() && len(list.List()) == 0 {
		list.Reportf("the list is empty: want at least one target, or selfTest: none")
	}
	return t
}

// watched reads who is watched into w.
func watched(n located.Node, w *Witness, self string) {
	items := n.List()
	if n.Present() && len(items) == 0 {
		n.Reportf("the list is empty: want at least one peer such as {nva: nva2, address: 10.0.1.5}, or no list for an agent that only answers")
	}
	if len(items) > event.MaxPeers {
		n.Reportf("%d peers: want at most %d", len(items), event.MaxPeers)
	}
	names := map[string]bool{}
	for _, item := range items {
		m := item.Map("nva", "address", "bfd")
		name, ok := located.Value(m.Need("nva", wantName), wantName, parseName)
		switch {
		case ok && name == self:
			item.Reportf("%s is this NVA itself", name)
		case ok && names[name]:
			item.Reportf("a second peer with the name %s", name)
		}
		names[name] = true
		session := m.Get("bfd")
		switch {
		case session.Present() && m.Get("address").Present():
			item.Reportf("found address and bfd: want one way to watch a peer")
		case session.Present():
			w.BFD = append(w.BFD, bfdSession(session, name))
		default:
			w.Peers = append(w.Peers, echo.Peer{NVA: name, Address: echoAddress(m, w)})
		}
	}
	if err := (bfd.Config{Sessions: w.BFD}).Validate(); err != nil && len(n.Problems()) == 0 {
		n.Reportf("%s", err)
	}
}

func echoAddress(m located.Map, w *Witness) netip.AddrPort {
	found, _ := located.Value(m.Need("address", wantPeer), wantPeer, func(s string) (netip.AddrPort, error) {
		if a, err := parseAddress(s); err == nil {
			return netip.AddrPortFrom(a, w.Listen.Port()), nil
		}
		return parseLocal(s)
	})
	at := m.Get("address")
	switch {
	case !found.IsValid() || !w.Listen.IsValid():
	case found.Addr().Is4() != w.Listen.Addr().Is4():
		at.Reportf("found %s: want the family of listen, %s", found.Addr(), w.Listen.Addr())
	case found.Addr() == w.Listen.Addr():
		at.Reportf("found %s, which is the address of this machine", found.Addr())
	case slices.ContainsFunc(w.Peers, func(p echo.Peer) bool { return p.Address == found }):
		at.Reportf("a second peer with the address %s", found)
	}
	return found
}

// bfdSession reads a session; its fields are called as FRR calls them.
func bfdSession(n located.Node, name string) bfd.Session {
	m := n.Map("address", "localAddress", "multihop", "minimumTtl", "transmitInterval", "receiveInterval", "detectMultiplier", "passive")
	s := bfd.Session{
		Name:          name,
		Local:         located.Or(m.Get("localAddress"), netip.Addr{}, wantAddress, netip.ParseAddr),
		Multihop:      located.Or(m.Get("multihop"), false, "true or false", located.Bool),
		DesiredMinTx:  duration(m.Get("transmitInterval"), DefaultBFDInterval, bfd.ShortestInterval, bfd.LongestInterval),
		RequiredMinRx: duration(m.Get("receiveInterval"), DefaultBFDInterval, bfd.ShortestInterval, bfd.LongestInterval),
		DetectMult:    located.Or(m.Get("detectMultiplier"), DefaultBFDMultiplier, "a number from 1 to 255", located.Int(1, 255)),
		Passive:       located.Or(m.Get("passive"), false, "true or false", located.Bool),
	}
	s.Peer, _ = located.Value(m.Need("address", wantAddress), wantAddress, netip.ParseAddr)
	ttl := m.Get("minimumTtl")
	s.MinTTL = located.Or(ttl, 0, "a number from 1 to 255", located.Int(1, 255))
	switch {
	case s.Multihop && !ttl.Present():
		s.MinTTL = 254 // one router between, as FRR has it
	case !s.Multihop && ttl.Present():
		ttl.Reportf("of no use without multihop: on one hop it is 255 (RFC 5881, section 5)")
	}
	if err := (bfd.Config{Sessions: []bfd.Session{s}}).Validate(); err != nil && s.Peer.IsValid() && name != "" {
		n.Reportf("%s", err)
	}
	return s
}

func selfChecks(n located.Node) []check.Config {
	items := n.List()
	if n.Present() && len(items) == 0 {
		n.Reportf("the list is empty: want at least one check such as {uplinks: [eth1]}")
	}
	var out []check.Config
	for _, item := range items {
		out = append(out, selfCheck(item))
	}
	return out
}

func selfCheck(n located.Node) check.Config {
	m := n.Map("command", "tcp", "uplinks", "every", "timeout", "fall", "rise")
	c := check.Config{
		Command: each(m.Get("command"), "a text", func(s string) (string, error) { return s, nil }),
		TCP:     located.Or(m.Get("tcp"), netip.AddrPort{}, "an address with a port such as 127.0.0.1:179", parseService),
		Uplinks: each(m.Get("uplinks"), "the name of an interface", parseWord),
		Every:   duration(m.Get("every"), DefaultCheckEvery, 100*time.Millisecond, time.Hour),
		Timeout: duration(m.Get("timeout"), DefaultCheckTimeout, 10*time.Millisecond, time.Hour),
		Fall:    located.Or(m.Get("fall"), DefaultCheckFall, "a number from 1 to 100", located.Int(1, 100)),
		Rise:    located.Or(m.Get("rise"), DefaultCheckRise, "a number from 1 to 100", located.Int(1, 100)),
	}
	kinds := 0
	for _, key := range []string{"command", "tcp", "uplinks"} {
		if m.Get(key).Present() {
			kinds++
		}
	}
	if kinds != 1 {
		n.Reportf("found %d of command, tcp and uplinks: want one of them", kinds)
	}
	checkCommand(m.Get("command"), c)
	if list := m.Get("uplinks"); list.Present() {
		if len(list.List()) == 0 {
			list.Reportf("the list is empty: want the names of interfaces")
		}
		for _, key := range []string{"every", "timeout", "fall", "rise"} {
			if m.Get(key).Present() {
				m.Get(key).Reportf("of no use with uplinks: the kernel says at once when a link changes")
			}
		}
	}
	if c.Timeout > c.Every && !m.Get("uplinks").Present() {
		n.Reportf("timeout %s is longer than every %s: want at most as long", c.Timeout, c.Every)
	}
	return c
}

func checkCommand(n located.Node, c check.Config) {
	if !n.Present() {
		return
	}
	if len(c.Command) == 0 {
		n.Reportf("the list is empty: want a program with its arguments such as [/usr/local/bin/check, --quick]")
		return
	}
	if _, err := parsePath(c.Command[0]); err != nil {
		n.Reportf("found the program %q: want its absolute path", c.Command[0])
	}
}

func parseService(s string) (netip.AddrPort, error) {
	a, err := netip.ParseAddrPort(s)
	if err != nil || a.Port() == 0 || a.Addr().IsUnspecified() || a.Addr().IsMulticast() {
		return netip.AddrPort{}, fmt.Errorf("found %q", s)
	}
	return a, nil
}

func scheduledEvents(n located.Node) *scheduled.Settings {
	const want = "true, false or a mapping"
	on := true
	if n.Scalar() {
		on, _ = located.Value(n, want, located.Bool)
		n = located.Node{}
	} else if !n.Present() {
		return nil
	}
	m := n.Map("every", "vm", "lead", "settle", "approve", "url")
	s := &scheduled.Settings{
		Config: scheduled.Config{
			VM:      located.Or(m.Get("vm"), "", "the name of this VM in Azure", parseWord),
			Lead:    duration(m.Get("lead"), DefaultEventsLead, 0, 15*time.Minute),
			Settle:  duration(m.Get("settle"), DefaultEventsSettle, 0, 10*time.Minute),
			Approve: located.Or(m.Get("approve"), false, "true or false", located.Bool),
		},
		URL:   located.Or(m.Get("url"), scheduled.DefaultURL, "http://HOST:PORT of a metadata service", parseMetadataURL),
		Every: duration(m.Get("every"), DefaultEventsEvery, time.Second, time.Minute),
	}
	if !on {
		return nil
	}
	return s
}

func parseMetadataURL(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" || u.Host == "":
		return "", fmt.Errorf("found %q", s)
	case u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.User != nil:
		return "", errors.New("found more than a scheme, a host and a port")
	}
	return s, nil
}
