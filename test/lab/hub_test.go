package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	broker "github.com/pointsman/pointsman/emulator/servicebus"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/test/lab"
	"github.com/pointsman/pointsman/test/netns"
)

// hubLab is a Route Server, imitated, and NVAs with agents, a router between them:
//
//	nva1 10.0.2.4 --- 10.0.2.1 +--------+ 10.0.1.1 --- 10.0.1.4 instance 0
//	                           | router |               10.0.1.5 instance 1
//	nva2 10.0.3.4 --- 10.0.3.1 +--------+
//
// Scenarios of it are texts in testdata/hub, one statement a line; indented lines belong to the statement before. In brackets is what may be left out:
//
//	hub [limit N] [hold DURATION] [window DURATION] [restart] [add-path]
//	                                what the instances are like; stands before the first NVA
//	NVA DAEMON [SETTING…]           starts nva1 or nva2 with frr, bird or talker (a speaker that says what it is told), and an agent; indented lines
//	                                are settings of routeServer, or of the bgp source where they begin with "bgp.", or lines of the daemon's neighbor where they
//	                                begin with "daemon."; AGENT stands for the agent's address, KEYFILE for a file with the key "secret"
//	NVA announce PREFIX…            the daemon announces these as well; N-routes stands for many
//	NVA withdraw PREFIX…
//	NVA daemon kill|stop|start      kill -9, SIGTERM
//	NVA agent kill|stop|start
//	NVA link down|up                the router's end of the cable
//	NVA say type N | malformed | loop PREFIX
//	                                what the talker says: a message of an unknown type, an UPDATE that cannot be read, a route through AS 65515
//	NVA check exit N                the self-check of the agent passes or fails from now on; it has one if "check" is the last of its settings
//	instance I close|open|cut|reset|refresh
//	instance I announce PREFIX [AS…]
//	instance I malformed|unknown    says what is no BGP
//
// Statements that wait until something holds:
//
//	hub has                         both instances have exactly the indented routes, and all that their peers have to say
//	instance I has
//	hub counts N                    both have so many
//	instance I again N              so many routes were announced to it once more since it opened
//	instance I notes TEXT           it has seen something
//	instance I notes no TEXT        it has not; this one does not wait
//	NVA rib                         the agent announces exactly the indented prefixes, with "stale" in front of them where they are all stale
//	NVA health [TEXT]               its /healthz says so, or that all is well
//	NVA learned I PREFIX…           what the agent has learned of an instance
//	NVA lost [SESSION…]             the newest report on the bus says that these sessions are lost for longer than their restart time
type hubLab struct {
	*testing.T
	router    *netns.NS
	hub       *netns.NS
	like      lab.InstanceConfig
	instances [2]*lab.Instance
	nvas      map[string]*hubNVA
}

// hubNVA is one NVA.
type hubNVA struct {
	*site
	daemon            daemon
	agent             *process
	speaker, settings string
	prefixes          []string
}

// daemon is what an NVA learns routes with.
type daemon interface {
	announce(prefixes ...string) // exactly these
	end(os.Signal)
	launch()
}

func TestHub(t *testing.T) {
	need(t, "/usr/lib/frr/bgpd", "vtysh", "bird", "birdc")
	files, err := filepath.Glob("testdata/hub/*.txt")
	must(t, err)
	if len(files) < 15 {
		t.Fatalf("%d scenarios", len(files))
	}
	// They wait more than they compute, so there are more at a time than processors.
	var all sync.WaitGroup
	places := make(chan struct{}, 8)
	for _, file := range files {
		all.Go(func() {
			places <- struct{}{}
			defer func() { <-places }()
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) { playHub(t, file) })
		})
	}
	all.Wait()
}

// newHubLab makes the hub's network; the instances open with the first NVA.
func newHubLab(t *testing.T) *hubLab {
	t.Helper()
	l := &hubLab{T: t, router: netns.New(t), hub: netns.New(t), nvas: map[string]*hubNVA{}}
	must(t, netns.Pair(l.router, l.hub, "hub", "eth0"))
	must(t, l.router.Batch("addr add 10.0.1.1/27 dev hub"))
	must(t, l.router.Sysctl("net.ipv4.ip_forward", "1"))
	must(t, l.hub.Batch("addr add 10.0.1.4/27 dev eth0", "addr add 10.0.1.5/27 dev eth0", "route add default via 10.0.1.1"))
	return l
}

// playHub plays a scenario.
func playHub(t *testing.T, file string) {
	t.Helper()
	l := newHubLab(t)
	f, err := os.Open(file)
	must(t, err)
	defer func() { _ = f.Close() }()
	var statement string
	var more []string
	number, at := 0, 0
	run := func() {
		if statement != "" {
			t.Logf("%s:%d: %s", file, at, statement)
			l.do(strings.Fields(statement), more)
		}
		statement, more = "", nil
	}
	for in := bufio.NewScanner(f); in.Scan(); {
		number++
		line, _, _ := strings.Cut(in.Text(), "#")
		switch {
		case strings.TrimSpace(line) == "":
		case line[0] == ' ' || line[0] == '\t':
			more = append(more, strings.TrimSpace(line))
		default:
			run()
			statement, at = line, number
		}
	}
	run()
}

func (l *hubLab) do(words, more []string) {
	l.Helper()
	switch who := words[0]; who {
	case "hub":
		l.doHub(words[1:], more)
	case "instance":
		i, err := strconv.Atoi(words[1])
		must(l.T, err)
		l.doInstance(i, words[2:], more)
	case "nva1", "nva2":
		l.doNVA(who, words[1:], more)
	default:
		l.Fatalf("unknown statement %q", words)
	}
}

func (l *hubLab) doHub(words, more []string) {
	l.Helper()
	switch words[0] {
	case "has":
		for i := range l.instances {
			l.has(i, more)
		}
	case "counts":
		n, err := strconv.Atoi(words[1])
		must(l.T, err)
		l.until(fmt.Sprintf("%d routes", n), func() bool { return l.instances[0].Count() == n && l.instances[1].Count() == n })
	default:
		l.like = parseHub(l.T, words)
	}
}

func parseHub(t *testing.T, words []string) (c lab.InstanceConfig) {
	t.Helper()
	for len(words) > 0 {
		var err error
		used := 2
		switch words[0] {
		case "limit":
			c.Limit, err = strconv.Atoi(words[1])
		case "hold":
			c.Hold, err = time.ParseDuration(words[1])
		case "window":
			c.Window, err = time.ParseDuration(words[1])
		case "restart":
			c.Restart, used = true, 1
		case "add-path":
			c.AddPath, used = true, 1
		default:
			t.Fatalf("unknown word %q", words[0])
		}
		must(t, err)
		words = words[used:]
	}
	return c
}

// open has an instance listen.
func (l *hubLab) open(i int) {
	l.Helper()
	must(l.T, l.hub.Do(func() error {
		listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", fmt.Sprintf("10.0.1.%d:179", 4+i))
		if err == nil {
			l.instances[i] = lab.NewInstance(listener, l.like)
		}
		return err
	}))
	l.Cleanup(l.instances[i].Close)
}

func (l *hubLab) doInstance(i int, words, more []string) {
	l.Helper()
	in := l.instances[i]
	switch words[0] {
	case "close":
		in.Close()
	case "open":
		l.open(i)
	case "cut":
		in.Cut()
	case "reset":
		in.Reset(4)
	case "refresh":
		in.Refresh()
	case "announce":
		var path []uint32
		for _, w := range words[2:] {
			as, err := strconv.ParseUint(w, 10, 32)
			must(l.T, err)
			path = append(path, uint32(as))
		}
		in.Announce(netip.MustParsePrefix(words[1]), path...)
	case "malformed":
		in.Send(malformed())
	case "unknown":
		in.Send(lab.Message(255))
	case "has":
		l.has(i, more)
	case "again":
		n, err := strconv.Atoi(words[1])
		must(l.T, err)
		l.until(words[1]+" routes once more", func() bool { return l.instances[i].Again() >= n })
	case "notes":
		text, no := strings.CutPrefix(strings.Join(words[1:], " "), "no ")
		seen := func() bool { return strings.Contains(strings.Join(l.instances[i].Events(), "\n"), text) }
		if no {
			if seen() {
				l.Errorf("instance %d has seen %s: %q", i, text, in.Events())
			}
			return
		}
		l.until("instance notes "+text, seen)
	default:
		l.Fatalf("unknown statement %q", words)
	}
}

func (l *hubLab) has(i int, routes []string) {
	l.Helper()
	l.until(fmt.Sprintf("instance %d has %q", i, routes), func() bool {
		return slices.Equal(l.instances[i].Routes(), append([]string{}, routes...)) && (l.instances[i].Established() == 0 || l.instances[i].Complete())
	})
}

// until waits until something holds.
func (l *hubLab) until(what string, holds func() bool) {
	l.Helper()
	ctx, cancel := context.WithTimeout(l.Context(), time.Minute)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !holds() {
		select {
		case <-ctx.Done():
			for i, in := range l.instances {
				routes := in.Routes()
				l.Logf("instance %d: %d routes %q, %q", i, len(routes), routes[:min(5, len(routes))], in.Events())
			}
			for name, n := range l.nvas {
				rib := n.rib()
				l.Logf("%s: health %q, %d routes %q", name, n.health(), len(rib), rib[:min(5, len(rib))])
			}
			l.Fatalf("%s: not in time", what)
		case <-tick.C:
		}
	}
}

func (l *hubLab) doNVA(name string, words, more []string) {
	l.Helper()
	n := l.nvas[name]
	rest := strings.Join(words[1:], " ")
	switch words[0] {
	case "frr", "bird", "talker":
		l.startNVA(name, words[0], more)
	case "announce", "withdraw":
		n.change(words[0] == "announce", words[1:])
	case "daemon":
		control(l.T, rest, n.daemon.end, n.daemon.launch)
	case "agent":
		control(l.T, rest, n.agent.end, func() { n.agent = n.startAgent(n.speaker, n.settings) })
	case "link":
		must(l.T, l.router.Batch("link set "+name+" "+rest))
	case "say":
		n.daemon.(*talkingDaemon).say(words[1:])
	case "check":
		must(l.T, os.WriteFile(n.path("check"), []byte(words[2]), 0o644))
	case "rib":
		want := more
		l.until(fmt.Sprintf("%s announces %q", name, want), func() bool { return slices.Equal(n.marked(), want) })
	case "health":
		l.until(name+" health "+rest, func() bool { h := n.health(); return rest == "" && h == "" || rest != "" && strings.Contains(h, rest) })
	case "lost":
		l.until(name+" lost "+rest, func() bool { return n.controlLost() == rest })
	case "learned":
		l.until(name+" learned "+rest, func() bool { return slices.Equal(n.learned(words[1]), words[2:]) })
	default:
		l.Fatalf("unknown statement %q", words)
	}
}

// malformed is an UPDATE whose attributes are longer than the message.
func malformed() []byte { return lab.Message(2, 0, 0, 0xff, 0xff, 0x40, 1, 1, 0) }

func control(t *testing.T, what string, end func(os.Signal), start func()) {
	t.Helper()
	switch what {
	case "kill":
		end(os.Kill)
	case "stop":
		end(syscall.SIGTERM)
	case "start":
		start()
	default:
		t.Fatalf("unknown word %q", what)
	}
}

func (n *hubNVA) gateway() string { return strings.TrimSuffix(n.address, "4") + "1" }

// marked is what the agent announces, in the form of scenarios.
func (n *hubNVA) marked() []string {
	var out []string
	for _, line := range n.rib() {
		p, _, _ := strings.Cut(line, " ")
		if strings.HasSuffix(line, " stale") {
			p = "stale " + p
		}
		out = append(out, p)
	}
	return out
}

// check makes the agent's self-check, which passes for now.
func (n *hubNVA) check() string {
	n.t.Helper()
	must(n.t, os.WriteFile(n.path("check"), []byte("0"), 0o644))
	return "selfCheck: [{command: [/bin/sh, -c, 'exit $(cat " + n.path("check") + ")'], every: 2s, timeout: 2s, fall: 1, rise: 1}]\n"
}

// learned is what the agent has learned of an instance.
func (n *hubNVA) learned(instance string) []string {
	var answer struct {
		Instances []struct {
			Routes []struct{ Prefix string }
		}
	}
	i, err := strconv.Atoi(instance)
	must(n.t, err)
	if !n.get("/debug/routeserver", &answer) {
		return nil
	}
	var out []string
	for _, r := range answer.Instances[i].Routes {
		out = append(out, r.Prefix)
	}
	return out
}

// controlLost is which sessions the newest report on the bus says are lost.
func (n *hubNVA) controlLost() string {
	var newest event.Event
	for _, m := range n.bus.Peek("route-events") {
		if m.State != broker.StateActive {
			continue // the dead-man switch
		}
		e, err := event.Decode(m.Body)
		must(n.t, err)
		if e.Reports() && e.Version.Compare(newest.Version) > 0 {
			newest = e
		}
	}
	var names []string
	for _, s := range newest.Report.ControlLost {
		names = append(names, s.Name)
	}
	return strings.Join(names, " ")
}

func (n *hubNVA) change(announce bool, words []string) {
	n.t.Helper()
	for _, w := range words {
		list := []string{w}
		if count, isMany := strings.CutSuffix(w, "-routes"); isMany {
			number, err := strconv.Atoi(count)
			must(n.t, err)
			list = many(number)
		}
		if announce {
			n.prefixes = append(n.prefixes, list...)
			continue
		}
		n.prefixes = slices.DeleteFunc(n.prefixes, func(p string) bool { return slices.Contains(list, p) })
	}
	n.daemon.announce(n.prefixes...)
}

// startNVA wires an NVA, starts the agent and its daemon.
func (l *hubLab) startNVA(name, kind string, more []string) {
	l.Helper()
	for i := range l.instances {
		if l.instances[i] == nil {
			l.open(i)
		}
	}
	number := name[len(name)-1:]
	n := &hubNVA{site: &site{t: l.T, ns: netns.New(l.T), dir: l.TempDir(), address: "10.0." + strconv.Itoa(int(number[0]-'0')+1) + ".4"}}
	l.nvas[name] = n
	must(l.T, netns.Pair(n.ns, l.router, "eth0", name))
	must(l.T, l.router.Batch("addr add "+n.gateway()+"/24 dev "+name))
	n.attach()
	must(l.T, n.ns.Batch("route add default via "+n.gateway()))

	as := "6501" + strconv.Itoa(int(number[0]-'1'))
	must(l.T, os.WriteFile(n.path("key"), []byte("secret\n"), 0o600))
	known := strings.NewReplacer("AGENT", agentAddress, "KEYFILE", n.path("key"))
	for i := range more {
		more[i] = known.Replace(more[i])
	}
	server, source, neighbor := splitSettings(more)
	if !strings.Contains(neighbor.peer, "passive:") {
		neighbor.peer += ", passive: true"
	}
	n.speaker = fmt.Sprintf("as: 65001\n%speers:\n  - {name: daemon, address: %s, as: %s, holdTime: 9s%s}\n", source, n.address, as, neighbor.peer)
	n.settings = fmt.Sprintf(`routeServer:
  as: %s
  instances: [10.0.1.4, 10.0.1.5]
  localAddress: %s
%sgather: {quiet: 20ms, max: 200ms}
`, as, n.address, strings.Replace(server, "  check\n", n.check(), 1))
	n.agent = n.startAgent(n.speaker, n.settings)
	asNumber, err := strconv.Atoi(as)
	must(l.T, err)
	switch kind {
	case "frr":
		n.daemon = newFRRDaemon(n.site, asNumber, neighbor.frr)
	case "bird":
		n.daemon = &birdDaemon{startNothing(n.site, asNumber, neighbor.bird)}
	default:
		n.daemon = &talkingDaemon{site: n.site, as: uint32(asNumber)}
	}
	n.daemon.announce()
	n.daemon.launch()
}

// neighborLines are the lines of a scenario that concern the session between daemon and agent.
type neighborLines struct {
	peer string // settings of the agent's peer, in flow style
	frr  []string
	bird string
}

func splitSettings(lines []string) (server, source string, neighbor neighborLines) {
	for _, line := range lines {
		if setting, ok := strings.CutPrefix(line, "bgp.peer."); ok {
			neighbor.peer += ", " + setting
		} else if setting, ok = strings.CutPrefix(line, "bgp."); ok {
			source += setting + "\n"
		} else if setting, ok = strings.CutPrefix(line, "daemon."); ok {
			neighbor.frr = append(neighbor.frr, setting)
			neighbor.bird += setting + "\n"
		} else {
			server += "  " + line + "\n"
		}
	}
	return server, source, neighbor
}

// frrDaemon is FRR, whose bgpd comes and goes.
type frrDaemon struct {
	*frr
	as    int
	lines []string
	up    bool
}

func newFRRDaemon(s *site, as int, lines []string) *frrDaemon {
	d := &frrDaemon{frr: newFRR(s), as: as}
	for _, line := range lines {
		d.lines = append(d.lines, " "+line)
	}
	d.announce()
	d.daemon("zebra")
	d.daemon("staticd")
	return d
}

func (d *frrDaemon) announce(prefixes ...string) {
	lines := frrBGPAt(d.address, d.as, 65001, nil, prefixes...)
	families := slices.Index(lines, " address-family ipv4 unicast")
	d.write(slices.Insert(lines, families, d.lines...)...)
	if d.up {
		d.change(prefixes)
	}
}

// change has a running bgpd announce exactly these prefixes: what the new configuration lacks would stay else.
func (d *frrDaemon) change(prefixes []string) {
	d.t.Helper()
	out, err := d.ns.Run("vtysh", "-N", d.name, "-c", "show running-config bgpd")
	must(d.t, err)
	lines := []string{fmt.Sprintf("router bgp %d", d.as)}
	var running []string
	for line := range strings.Lines(out) {
		if p, ok := strings.CutPrefix(strings.TrimSpace(line), "network "); ok {
			running = append(running, p)
		}
	}
	edit := func(word string, list, other []string) {
		for _, p := range list {
			if !slices.Contains(other, p) {
				family := "ipv4"
				if strings.Contains(p, ":") {
					family = "ipv6"
				}
				lines = append(lines, "address-family "+family+" unicast", word+p, "exit-address-family")
			}
		}
	}
	edit("no network ", running, prefixes)
	edit("network ", prefixes, running)
	must(d.t, os.WriteFile(d.path("edit"), []byte(strings.Join(lines, "\n")+"\n"), 0o644))
	out, err = d.ns.Run("vtysh", "-N", d.name, "-f", d.path("edit"))
	if err != nil {
		d.t.Fatalf("%v: %s", err, out)
	}
}

func (d *frrDaemon) end(signal os.Signal) {
	d.up = false
	d.bgpd.end(signal)
}

func (d *frrDaemon) launch() {
	d.restart()
	d.up = true
}

// birdDaemon is BIRD.
type birdDaemon struct{ *bird }

// startNothing makes a BIRD that does not run yet; with "graceful" among its lines it recovers from the start before.
func startNothing(s *site, as int, more string) *bird {
	b := &bird{site: s, as: as, agentAS: 65001}
	b.graceful = strings.Contains(more, "graceful")
	b.more = strings.ReplaceAll(more, "graceful\n", "")
	return b
}

func (d *birdDaemon) announce(prefixes ...string) {
	d.write(prefixes...)
	if d.process != nil {
		d.say("configure")
	}
}

func (d *birdDaemon) end(signal os.Signal) {
	d.process.end(signal)
	d.process = nil
}

// talkingDaemon speaks as it is told.
type talkingDaemon struct {
	*site
	as       uint32
	talker   *lab.Talker
	prefixes []string
}

func (d *talkingDaemon) launch() {
	d.t.Helper()
	ctx, cancel := context.WithTimeout(d.t.Context(), time.Minute)
	defer cancel()
	must(d.t, d.ns.Do(func() (err error) {
		d.talker, err = lab.Talk(ctx, netip.MustParseAddr(d.address), netip.MustParseAddrPort(agentAddress+":"+agentPort), lab.Open{AS: d.as, ID: netip.MustParseAddr(d.address)})
		return err
	}))
	d.t.Cleanup(d.talker.Close)
	d.announce(d.prefixes...)
	must(d.t, d.talker.Send(d.talker.EndOfRIB()))
}

func (d *talkingDaemon) announce(prefixes ...string) {
	d.t.Helper()
	was := d.prefixes
	d.prefixes = slices.Clone(prefixes)
	if d.talker == nil {
		return
	}
	for _, p := range was {
		if !slices.Contains(prefixes, p) {
			must(d.t, d.talker.Send(d.talker.Withdraw(netip.MustParsePrefix(p))))
		}
	}
	for _, p := range prefixes {
		must(d.t, d.talker.Send(d.route(p, d.as)))
	}
}

func (d *talkingDaemon) route(prefix string, path ...uint32) []byte {
	return d.talker.Announce(lab.Attrs{NextHop: netip.MustParseAddr(d.address), ASPath: path}, netip.MustParsePrefix(prefix))
}

func (d *talkingDaemon) say(words []string) {
	d.t.Helper()
	var b []byte
	switch words[0] {
	case "type":
		kind, err := strconv.ParseUint(words[1], 10, 8)
		must(d.t, err)
		b = lab.Message(byte(kind))
	case "malformed":
		b = malformed()
	case "loop":
		b = d.route(words[1], d.as, lab.RouteServerAS, 65020)
	default:
		d.t.Fatalf("unknown word %q", words[0])
	}
	must(d.t, d.talker.Send(b))
}

func (d *talkingDaemon) end(os.Signal) {
	d.talker.Close()
	d.talker = nil
}
