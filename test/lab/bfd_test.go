package lab_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/test/netns"
)

// The interval and multiplier of the labs of BFD.
const (
	bfdInterval   = 200 * time.Millisecond
	bfdMultiplier = 3
)

// bfdDaemon is a routing daemon that speaks BFD.
type bfdDaemon interface {
	start(l *bfdLab, far *site)
	launch() // again, after it ended
	kill()
	stop() // as its unit does
	// hold has an operator turn its sessions off, and returns what we hear of that.
	hold() bfd.State
	letGo() // ends hold
	// minTTL is what its packets have left behind one router.
	minTTL() int
	// up reports whether the daemon shows a session with an address as up.
	up(peer string) bool
}

// bfdLab is a speaker of ours and daemons, with a namespace between them: a bridge, or a router in the case of several hops. What happens to
// the link of a daemon is not seen at ours.
type bfdLab struct {
	t        *testing.T
	multihop bool
	passive  bool // ours says nothing first; else the daemon does not
	mult     int

	ours, middle *netns.NS
	fars         []*site
	daemons      []bfdDaemon
	speaker      *bfd.Speaker
	metrics      bfd.Metrics
	changes      chan bfd.Change
	newest       map[string]bfd.Change // by session
	since        time.Time             // of the step
}

// Addresses of ours and of the daemons, which begin at 10.0.2.4 or, behind the router, at 10.0.3.4.
const (
	ourAddress  = "10.0.2.9"
	ourAddress6 = "2001:db8:2::9"
)

func (l *bfdLab) farAddresses(i int) []string {
	net := 2
	if l.multihop {
		net = 3
	}
	return []string{fmt.Sprintf("10.0.%d.%d", net, 4+i), fmt.Sprintf("2001:db8:%d::%d", net, 4+i)}
}

// newBFDLab joins the namespaces and starts daemons in them, then the speaker.
func newBFDLab(t *testing.T, multihop, passive bool, mult int, daemons ...bfdDaemon) *bfdLab {
	t.Helper()
	l := &bfdLab{
		t: t, multihop: multihop, passive: passive, mult: mult, ours: netns.New(t), middle: netns.New(t), daemons: daemons,
		changes: make(chan bfd.Change, 100), newest: map[string]bfd.Change{},
	}
	must(t, netns.Pair(l.ours, l.middle, "eth0", "ours"))
	must(t, l.ours.Batch("addr add "+ourAddress+"/24 dev eth0", "addr add "+ourAddress6+"/64 dev eth0 nodad"))
	for i := range daemons {
		far := &site{t: t, ns: netns.New(t), dir: t.TempDir()}
		l.fars = append(l.fars, far)
		must(t, netns.Pair(far.ns, l.middle, "eth0", fmt.Sprintf("far%d", i)))
		a := l.farAddresses(i)
		must(t, far.ns.Batch("addr add "+a[0]+"/24 dev eth0", "addr add "+a[1]+"/64 dev eth0 nodad"))
	}
	if multihop {
		l.route()
	} else {
		l.bridge()
	}
	for i, d := range daemons {
		d.start(l, l.fars[i])
	}
	l.speak()
	return l
}

func (l *bfdLab) bridge() {
	l.t.Helper()
	lines := []string{"link add br0 type bridge", "link set br0 up", "link set ours master br0"}
	for i := range l.fars {
		lines = append(lines, fmt.Sprintf("link set far%d master br0", i))
	}
	must(l.t, l.middle.Batch(lines...))
}

// route has one daemon at most: it is one hop further.
func (l *bfdLab) route() {
	l.t.Helper()
	must(l.t, l.middle.Sysctl("net.ipv4.ip_forward", "1"))
	must(l.t, l.middle.Sysctl("net.ipv6.conf.all.forwarding", "1"))
	must(l.t, l.middle.Batch("addr add 10.0.2.1/24 dev ours", "addr add 2001:db8:2::1/64 dev ours nodad", "addr add 10.0.3.1/24 dev far0", "addr add 2001:db8:3::1/64 dev far0 nodad"))
	must(l.t, l.ours.Batch("route add 10.0.3.0/24 via 10.0.2.1", "route add 2001:db8:3::/64 via 2001:db8:2::1"))
	must(l.t, l.fars[0].ns.Batch("route add 10.0.2.0/24 via 10.0.3.1", "route add 2001:db8:2::/64 via 2001:db8:3::1"))
}

// speak starts the speaker, with two sessions for each daemon.
func (l *bfdLab) speak() {
	l.t.Helper()
	var cfg bfd.Config
	for i := range l.fars {
		for _, a := range l.farAddresses(i) {
			s := bfd.Session{
				Name: a, Peer: netip.MustParseAddr(a), Multihop: l.multihop, Passive: l.passive,
				DesiredMinTx: bfdInterval, RequiredMinRx: bfdInterval, DetectMult: l.mult,
			}
			if l.multihop {
				s.MinTTL = l.daemons[i].minTTL()
			}
			cfg.Sessions = append(cfg.Sessions, s)
		}
	}
	var err error
	l.speaker, err = bfd.New(cfg, slog.New(slog.DiscardHandler), &l.metrics)
	must(l.t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if failed := l.ours.Do(func() error { return l.speaker.Run(ctx, func(c bfd.Change) { l.changes <- c }) }); failed != nil {
			l.t.Error(failed)
		}
	}()
	l.t.Cleanup(func() {
		cancel()
		<-ended
	})
}

// begin begins a step: news from before says nothing about it.
func (l *bfdLab) begin() { l.since = time.Now() }

// hear waits until the newest news of every session is this, and of this step, and returns it. What comes before is told and passed over: on a
// machine that is busy enough a session may flap, and heal.
func (l *bfdLab) hear(what string, want bfd.State, diags ...bfd.Diag) (all []bfd.Change) {
	l.t.Helper()
	matches := func(c bfd.Change) bool {
		return c.State == want && (want == bfd.Up || c.At.After(l.since)) &&
			(len(diags) < 1 || c.Diag == diags[0]) && (len(diags) < 2 || c.RemoteDiag == diags[1])
	}
	deadline := time.After(60 * time.Second)
	for {
		all = all[:0]
		for _, s := range l.speaker.Status() {
			if c, ok := l.newest[s.Session]; ok && matches(c) {
				all = append(all, c)
			}
		}
		if len(all) == len(l.speaker.Status()) {
			return all
		}
		select {
		case c := <-l.changes:
			l.newest[c.Session] = c
			if !matches(c) {
				l.t.Logf("%s: %s is %s, %s (the peer: %s)", what, c.Session, c.State, c.Diag, c.RemoteDiag)
			}
		case <-deadline:
			l.t.Fatalf("%s: not in time, want %s %v: %+v", what, want, diags, l.speaker.Status())
		}
	}
}

// up waits until all sessions are up on both sides and the intervals are agreed.
func (l *bfdLab) up(what string, daemon bfdDaemon) {
	l.t.Helper()
	l.hear(what, bfd.Up)
	l.fars[0].until(what+": the daemon agrees", func() bool {
		for _, s := range l.speaker.Status() {
			if s.Remote != bfd.Up || s.Interval != bfdInterval || s.DetectionTime != time.Duration(l.mult)*bfdInterval {
				return false
			}
		}
		return daemon.up(ourAddress) && daemon.up(ourAddress6)
	})
}

// dead waits until all sessions are Down since nothing is heard, which has to be noticed by the Detection Time. How late the machine lets the
// process run is not our matter: the bound is wide, and the figure is shown.
func (l *bfdLab) dead(what string) {
	l.t.Helper()
	detection := time.Duration(l.mult) * bfdInterval
	for _, c := range l.hear(what, bfd.Down, bfd.DetectionTimeExpired) {
		after := c.At.Sub(c.Heard)
		if after < detection || after > detection+5*time.Second {
			l.t.Errorf("%s: %s noticed %s after the last packet, want %s", what, c.Session, after, detection)
		}
		l.t.Logf("bfd: %s: %s Down %s after the last packet, %s after it happened", what, c.Session, after.Round(100*time.Microsecond), c.At.Sub(l.since).Round(time.Millisecond))
	}
}

// unheard waits until all sessions are Down since the daemon hears nothing. It says so, unless it is passive: then it has nobody to speak to any
// more (RFC 5880, sections 6.8.1 and 6.8.7), and its silence tells it.
func (l *bfdLab) unheard(what string) {
	l.t.Helper()
	if l.passive {
		l.hear(what, bfd.Down, bfd.NeighborDown, bfd.DetectionTimeExpired)
		return
	}
	for _, c := range l.hear(what, bfd.Down) {
		l.t.Logf("bfd: %s: %s Down, %s", what, c.Session, c.Diag)
	}
}

// frrBFD is bfdd of FRR.
type frrBFD struct {
	*frr
	bfdd *process
	conf string
}

func (f *frrBFD) start(l *bfdLab, far *site) {
	f.frr = newFRR(far)
	f.conf = frrBFDConfig(l, far)
	f.configure(f.conf)
	f.daemon("zebra")
	f.launch()
}

func frrBFDConfig(l *bfdLab, far *site) string {
	text := "bfd\n"
	for i, ours := range []string{ourAddress, ourAddress6} {
		local := far.addresses(l)[i]
		if l.multihop {
			text += fmt.Sprintf(" peer %s multihop local-address %s\n  minimum-ttl 254\n", ours, local)
		} else {
			text += fmt.Sprintf(" peer %s local-address %s interface eth0\n", ours, local)
		}
		text += fmt.Sprintf("  detect-multiplier %d\n  receive-interval %d\n  transmit-interval %d\n", l.mult, bfdInterval.Milliseconds(), bfdInterval.Milliseconds())
		if !l.passive {
			text += "  passive-mode\n"
		}
		text += " exit\n"
	}
	return text + "exit\n"
}

// addresses returns those of a daemon's namespace.
func (s *site) addresses(l *bfdLab) []string {
	for i, far := range l.fars {
		if far == s {
			return l.farAddresses(i)
		}
	}
	panic("lab: a site of another lab")
}

func (f *frrBFD) launch() {
	_ = os.Remove("/var/run/frr/" + f.name + "/bfdd.vty")
	f.bfdd = f.daemon("bfdd")
	f.load()
}

func (f *frrBFD) kill() { f.bfdd.kill() }

func (f *frrBFD) stop() { f.bfdd.end(syscall.SIGTERM) }

func (f *frrBFD) hold() bfd.State {
	f.peers("shutdown")
	return bfd.AdminDown
}

func (f *frrBFD) letGo() { f.peers("no shutdown") }

// peers says something of every peer.
func (f *frrBFD) peers(command string) {
	for line := range strings.Lines(f.conf) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "peer ") {
			f.say("configure terminal", "bfd", line, command)
		}
	}
}

func (f *frrBFD) minTTL() int { return 254 }

func (f *frrBFD) up(peer string) bool {
	out, err := f.ns.Run("vtysh", "-N", f.name, "-c", "show bfd peers brief")
	return err == nil && shows(out, peer, "up")
}

// shows reports whether a line has both words.
func shows(text, first, second string) bool {
	for line := range strings.Lines(text) {
		fields := map[string]bool{}
		for f := range strings.FieldsSeq(line) {
			fields[f] = true
		}
		if fields[first] && fields[second] {
			return true
		}
	}
	return false
}

// birdBFD is BIRD with protocol bfd.
type birdBFD struct{ *bird }

func (b *birdBFD) start(l *bfdLab, far *site) {
	b.bird = &bird{site: far}
	options := fmt.Sprintf("interval %d ms; multiplier %d; passive %s;", bfdInterval.Milliseconds(), l.mult, map[bool]string{true: "no", false: "yes"}[l.passive])
	text := "router id 10.0.2.4;\nprotocol device {}\nprotocol bfd {\n  interface \"eth0\" { " + options + " };\n  multihop { " + options + " };\n"
	for i, ours := range []string{ourAddress, ourAddress6} {
		text += "  neighbor " + ours
		if local := far.addresses(l)[i]; l.multihop {
			text += " local " + local + " multihop on;\n"
		} else {
			text += " dev \"eth0\" local " + local + ";\n"
		}
	}
	must(l.t, os.WriteFile(b.path("bird.conf"), []byte(text+"}\n"), 0o644))
	b.launch()
}

func (b *birdBFD) kill() { b.process.kill() }

func (b *birdBFD) stop() { b.process.end(syscall.SIGTERM) }

// hold: BIRD 2.0 knows no AdminDown. A protocol that is disabled is silent.
func (b *birdBFD) hold() bfd.State {
	b.say("disable", "bfd1")
	return bfd.Down
}

func (b *birdBFD) letGo() { b.say("enable", "bfd1") }

// minTTL: over several hops BIRD 2.0 sends what the system does, 64.
func (b *birdBFD) minTTL() int { return 63 }

func (b *birdBFD) up(peer string) bool {
	out, err := exec.CommandContext(b.t.Context(), "birdc", "-s", b.path("bird.ctl"), "show", "bfd", "sessions").CombinedOutput()
	return err == nil && shows(string(out), peer, "Up")
}

// TestBFD: with FRR and BIRD, over one hop and over a router, IPv4 and IPv6, whoever speaks first: up; the way fails, in both directions
// or in one; held down; the daemon is killed, and stopped.
func TestBFD(t *testing.T) {
	t.Parallel()
	need(t, "/usr/lib/frr/bfdd", "vtysh", "bird", "birdc")
	for _, name := range []string{"FRR", "BIRD"} {
		for _, multihop := range []bool{false, true} {
			for _, passive := range []bool{false, true} {
				t.Run(fmt.Sprintf("%s/%s/%s", name, map[bool]string{false: "one hop", true: "several hops"}[multihop],
					map[bool]string{false: "we speak first", true: "we wait"}[passive]), func(t *testing.T) {
					t.Parallel()
					var d bfdDaemon = &frrBFD{}
					if name == "BIRD" {
						d = &birdBFD{}
					}
					bfdInterop(t, newBFDLab(t, multihop, passive, bfdMultiplier, d), d)
				})
			}
		}
	}
}

func bfdInterop(t *testing.T, l *bfdLab, d bfdDaemon) {
	t.Helper()
	l.up("the beginning", d)

	l.begin()
	must(t, l.middle.Batch("link set far0 down"))
	l.dead("the link is cut")
	must(t, l.middle.Batch("link set far0 up"))
	l.repair()
	l.up("the link is back", d)

	l.begin()
	l.misdirect()
	l.unheard("what we send is lost")
	l.redirect()
	l.up("it gets there again", d)

	l.begin()
	l.all(l.speaker.Disable)
	l.hear("held down here", bfd.AdminDown, bfd.AdministrativelyDown)
	l.fars[0].until("the daemon sees it", func() bool { return !d.up(ourAddress) && !d.up(ourAddress6) })
	l.all(l.speaker.Enable)
	l.up("no longer held down", d)

	l.begin()
	d.kill()
	l.dead("the daemon is killed")
	d.launch()
	l.up("the daemon is back", d)

	l.begin()
	l.hear("held down there", d.hold())
	d.letGo()
	l.up("no longer held down there", d)

	l.begin()
	d.stop() // both leave without a word
	l.hear("the daemon is stopped", bfd.Down, bfd.DetectionTimeExpired)
}

// all does something with every session.
func (l *bfdLab) all(do func(session string) error) {
	l.t.Helper()
	for _, s := range l.speaker.Status() {
		must(l.t, do(s.Session))
	}
}

// repair sets the routes again that the middle, or a link that was down, has lost.
func (l *bfdLab) repair() {
	l.t.Helper()
	if l.multihop {
		must(l.t, l.middle.Batch("addr replace 2001:db8:3::1/64 dev far0 nodad"))
	}
}

// misdirect sends what goes to the daemon to a machine that does not exist; the way back stays.
func (l *bfdLab) misdirect() { l.neighbors("replace", " lladdr 02:00:5e:00:53:01 nud permanent") }

// redirect ends misdirect.
func (l *bfdLab) redirect() { l.neighbors("del", "") }

func (l *bfdLab) neighbors(verb, address string) {
	l.t.Helper()
	ns, dev := l.ours, "eth0"
	if l.multihop {
		ns, dev = l.middle, "far0"
	}
	for _, a := range l.farAddresses(0) {
		must(l.t, ns.Batch("neigh "+verb+" "+a+" dev "+dev+address))
	}
}
