package config

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"time"

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
		Every:    duration(m.Get("every"), DefaultProbeEvery, 50*time.Millisecond, 10*time.Second),
		Misses:   located.Or(m.Get("misses"), DefaultProbeMisses, "a number from 2 to 50", located.Int(2, 50)),
		SelfTest: selfTest(m.Need("selfTest", wantSelfTest)),
	}
	w.Listen, _ = located.Value(m.Need("listen", wantListen), wantListen, parseLocal)
	w.KeyFile, _ = located.Value(m.Need("keyFile", "an absolute path"), "an absolute path", parsePath)
	w.Peers = watched(m.Get("peers"), w, self)
	if !n.Present() {
		return nil
	}
	return w
}

func selfTest(n located.Node) SelfTest {
	if n.Scalar() {
		located.Value(n, wantSelfTest, located.OneOf("none"))
		return SelfTest{}
	}
	m := n.Map("targets", "every", "timeout", "misses")
	t := SelfTest{
		Targets: each(m.Need("targets", `a list of lines such as "tcp 168.63.129.16:80"`), reach.Want, reach.Parse),
		Every:   duration(m.Get("every"), DefaultSelfTestEvery, 100*time.Millisecond, time.Minute),
		Timeout: duration(m.Get("timeout"), DefaultSelfTestTimeout, 10*time.Millisecond, 10*time.Second),
		Misses:  located.Or(m.Get("misses"), DefaultSelfTestMisses, "a number from 1 to 50", located.Int(1, 50)),
	}
	if list := m.Get("targets"); list.Present() && len(list.List()) == 0 {
		list.Reportf("the list is empty: want at least one target, or selfTest: none")
	}
	return t
}

func watched(n located.Node, w *Witness, self string) []echo.Peer {
	items := n.List()
	if n.Present() && len(items) == 0 {
		n.Reportf("the list is empty: want at least one peer such as {nva: nva2, address: 10.0.1.5}, or no list for an agent that only answers")
	}
	if len(items) > event.MaxPeers {
		n.Reportf("%d peers: want at most %d", len(items), event.MaxPeers)
	}
	var out []echo.Peer
	for _, item := range items {
		p := watchedPeer(item, w)
		if p.NVA != "" && p.NVA == self {
			item.Reportf("%s is this NVA itself", p.NVA)
		}
		for _, other := range out {
			switch {
			case p.NVA != "" && other.NVA == p.NVA:
				item.Reportf("a second peer with the name %s", p.NVA)
			case p.Address.IsValid() && other.Address == p.Address:
				item.Reportf("a second peer with the address %s", p.Address)
			}
		}
		out = append(out, p)
	}
	return out
}

func watchedPeer(n located.Node, w *Witness) echo.Peer {
	m := n.Map("nva", "address")
	var p echo.Peer
	p.NVA, _ = located.Value(m.Need("nva", wantName), wantName, parseName)
	p.Address, _ = located.Value(m.Need("address", wantPeer), wantPeer, func(s string) (netip.AddrPort, error) {
		if a, err := parseAddress(s); err == nil {
			return netip.AddrPortFrom(a, w.Listen.Port()), nil
		}
		return parseLocal(s)
	})
	switch at := m.Get("address"); {
	case !p.Address.IsValid() || !w.Listen.IsValid():
	case p.Address.Addr().Is4() != w.Listen.Addr().Is4():
		at.Reportf("found %s: want the family of listen, %s", p.Address.Addr(), w.Listen.Addr())
	case p.Address.Addr() == w.Listen.Addr():
		at.Reportf("found %s, which is the address of this machine", p.Address.Addr())
	}
	return p
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
