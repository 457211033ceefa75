package config

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/located"
	"github.com/pointsman/pointsman/shared/route"
)

// Parse reads the agent's file. Either the configuration is returned or all that is wrong with the file; never both. absent are the
// kinds of source that this build has not, such as "bgp": naming one is a problem.
func Parse(file string, text []byte, absent ...string) (*Config, located.Problems) {
	root, problems := located.Parse(file, text)
	if len(problems) > 0 {
		return nil, problems
	}
	c := parse(absent, root.Map("domain", "nva", "bus", "sources", "include", "exclude", "gather", "beat", "snapshot", "restart", "onStop",
		"stopTimeout", "listen", "stateDir", "signing", "log", "witness", "selfCheck", "scheduledEvents", "routeServer"))
	if problems = root.Problems(); len(problems) > 0 {
		return nil, problems
	}
	return c, nil
}

const (
	wantName    = "1 to 40 of a-z, 0-9 and -, beginning and ending with a letter or digit"
	wantMatch   = "a line such as 10.0.0.0/8 le 24"
	wantStrings = "a way to the queue: namespace, connectionStringFile or connectionStringEnv"
)

func parse(absent []string, m located.Map) *Config {
	c := &Config{
		Bus:         bus(m.Need("bus", "a mapping with "+wantStrings)),
		Sources:     sources(absent, m.Need("sources", "a list such as [{kernel: {}}]")),
		Include:     each(m.Get("include"), wantMatch, route.ParseMatch),
		Exclude:     each(m.Get("exclude"), wantMatch, route.ParseMatch),
		Gather:      gather(m.Get("gather")),
		Beat:        beat(m.Get("beat")),
		Snapshot:    duration(m.Get("snapshot"), DefaultSnapshot, time.Minute, 24*time.Hour),
		Restart:     duration(m.Get("restart"), DefaultRestart, time.Second, time.Hour),
		OnStop:      located.Or(m.Get("onStop"), Auto, "auto, draining or goodbye", parseOnStop),
		StopTimeout: duration(m.Get("stopTimeout"), DefaultStopTimeout, 100*time.Millisecond, time.Minute),
		Listen:      located.Or(m.Get("listen"), netip.MustParseAddrPort(DefaultListen), "a loopback address with a port such as "+DefaultListen+", or off", parseListen),
		StateDir:    located.Or(m.Get("stateDir"), DefaultStateDir, "an absolute path", parsePath),
		Signing:     signing(m.Get("signing")),
		Log:         logging(m.Get("log")),

		SelfCheck:       selfChecks(m.Get("selfCheck")),
		ScheduledEvents: scheduledEvents(m.Get("scheduledEvents")),
	}
	c.Domain, _ = located.Value(m.Need("domain", wantName), wantName, parseName)
	c.NVA, _ = located.Value(m.Need("nva", wantName), wantName, parseName)
	c.Witness = witness(m.Get("witness"), c.NVA)
	if c.RouteServer = routeServer(absent, m.Get("routeServer")); c.RouteServer != nil {
		keepFromRouteServer(c.Sources)
	}
	return c
}

func bus(n located.Node) Bus {
	m := n.Map("queue", "namespace", "clientID", "connectionStringFile", "connectionStringEnv")
	b := Bus{
		Queue:                located.Or(m.Get("queue"), DefaultQueue, "the name of a queue", parseWord),
		Namespace:            located.Or(m.Get("namespace"), "", "a host name such as example.servicebus.windows.net", parseHost),
		ClientID:             located.Or(m.Get("clientID"), "", "the client ID of a managed identity", parseWord),
		ConnectionStringFile: located.Or(m.Get("connectionStringFile"), "", "an absolute path", parsePath),
		ConnectionStringEnv:  located.Or(m.Get("connectionStringEnv"), "", "the name of an environment variable", parseWord),
	}
	ways := 0
	for _, key := range []string{"namespace", "connectionStringFile", "connectionStringEnv"} {
		if m.Get(key).Present() {
			ways++
		}
	}
	switch {
	case n.Present() && ways == 0:
		n.Reportf("no way to the queue: want %s", wantStrings)
	case ways > 1:
		n.Reportf("%d ways to the queue: want only one of namespace, connectionStringFile and connectionStringEnv", ways)
	}
	if m.Get("clientID").Present() && !m.Get("namespace").Present() {
		m.Get("clientID").Reportf("a client ID is of no use without namespace")
	}
	return b
}

func sources(absent []string, n located.Node) []Source {
	items := n.List()
	if n.Present() && len(items) == 0 {
		n.Reportf("the list is empty: want at least one source, such as kernel: {}")
	}
	var out []Source
	speakers := 0
	for _, item := range items {
		s := source(absent, item)
		if s.BGP != nil {
			speakers++
		}
		if speakers > 1 {
			item.Reportf("a second bgp source: want all peers in the first")
			break
		}
		out = append(out, s)
	}
	return out
}

// source reads one source. Every kind is a key of its own, so that its settings can be strict.
func source(absent []string, n located.Node) Source {
	m := n.Map("kernel", "bgp")
	if !m.Get("bgp").Present() {
		k := kernel(m.Need("kernel", "the kind of source with its settings: kernel: {}"))
		return Source{Kernel: &k}
	}
	if m.Get("kernel").Present() {
		n.Reportf("found kernel and bgp in one source: want an item of the list for each")
	}
	if slices.Contains(absent, "bgp") {
		m.Get("bgp").Reportf("this build has no BGP: install pointsman-agent-bgp")
		return Source{}
	}
	return Source{BGP: bgpSource(m.Get("bgp"))}
}

func kernel(n located.Node) Kernel {
	m := n.Map("tables", "protocols", "interfaces", "include", "exclude", "blackhole", "keepLinkdown", "readBuffer", "resync")
	k := Kernel{
		Tables:       each(m.Get("tables"), "main, default or a number from 1 to 4294967295 other than 255 (local)", parseTable),
		Protocols:    each(m.Get("protocols"), "the name of a route protocol such as bgp, or its number from 0 to 255", parseProtocol),
		Interfaces:   each(m.Get("interfaces"), "the name of an interface", parseWord),
		Include:      each(m.Get("include"), wantMatch, route.ParseMatch),
		Exclude:      each(m.Get("exclude"), wantMatch, route.ParseMatch),
		Blackhole:    located.Or(m.Get("blackhole"), false, "true or false", located.Bool),
		KeepLinkdown: located.Or(m.Get("keepLinkdown"), false, "true or false", located.Bool),
		ReadBuffer:   located.Or(m.Get("readBuffer"), DefaultReadBuffer, "bytes from 65536 to 1073741824", located.Int(64<<10, 1<<30)),
		Resync:       duration(m.Get("resync"), DefaultResync, time.Second, 24*time.Hour),
	}
	if len(k.Tables) == 0 {
		k.Tables = []uint32{mainTable}
	}
	return k
}

func gather(n located.Node) Gather {
	m := n.Map("quiet", "max")
	g := Gather{
		Quiet: duration(m.Get("quiet"), DefaultQuiet, 0, time.Minute),
		Max:   duration(m.Get("max"), DefaultMax, 0, time.Minute),
	}
	if g.Max < g.Quiet {
		n.Reportf("max %s is shorter than quiet %s: want at least as long", g.Max, g.Quiet)
	}
	return g
}

func beat(n located.Node) Beat {
	m := n.Map("every", "timeout")
	b := Beat{
		Every:   duration(m.Get("every"), DefaultEvery, time.Second, 10*time.Minute),
		Timeout: duration(m.Get("timeout"), DefaultTimeout, 2*time.Second, time.Hour),
	}
	if b.Timeout < 2*b.Every {
		n.Reportf("timeout %s is less than twice every %s: one late beat would look like death", b.Timeout, b.Every)
	}
	return b
}

func signing(n located.Node) Signing {
	m := n.Map("keyFile")
	return Signing{KeyFile: located.Or(m.Get("keyFile"), "", "an absolute path", parsePath)}
}

func logging(n located.Node) Log {
	m := n.Map("level", "format")
	return Log{
		Level: located.Or(m.Get("level"), slog.LevelInfo, "debug, info, warn or error", parseLevel),
		JSON:  located.Or(m.Get("format"), "text", "text or json", located.OneOf("text", "json")) == "json",
	}
}

func duration(n located.Node, otherwise, low, high time.Duration) time.Duration {
	return located.Or(n, otherwise, fmt.Sprintf("a duration from %s to %s", low, high), located.Duration(low, high))
}

// each reads a list of scalars.
func each[T any](n located.Node, want string, parse func(string) (T, error)) []T {
	var out []T
	for _, item := range n.List() {
		if v, ok := located.Value(item, want, parse); ok {
			out = append(out, v)
		}
	}
	return out
}

func parseName(s string) (string, error) {
	if !event.ValidName(s) {
		return "", fmt.Errorf("found %q", s)
	}
	return s, nil
}

func parseWord(s string) (string, error) {
	if s == "" || strings.ContainsAny(s, " \t\n/=;") {
		return "", fmt.Errorf("found %q", s)
	}
	return s, nil
}

// parseHost refuses what people paste instead of a host name; a connection string is not repeated, for it holds a key.
func parseHost(s string) (string, error) {
	switch {
	case strings.Contains(s, "SharedAccess"):
		return "", errors.New("found a connection string, which must not stand here")
	case strings.Contains(s, "://") || strings.ContainsAny(s, " /;") || !strings.Contains(s, "."):
		return "", fmt.Errorf("found %q", s)
	}
	return s, nil
}

func parsePath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("found %q", s)
	}
	return s, nil
}

func parseListen(s string) (netip.AddrPort, error) {
	if s == "off" || s == "false" { // YAML 1.1 readers take off for false
		return netip.AddrPort{}, nil
	}
	a, err := netip.ParseAddrPort(s)
	if err != nil || !a.Addr().IsLoopback() {
		return netip.AddrPort{}, fmt.Errorf("found %q", s)
	}
	return a, nil
}

func parseOnStop(s string) (OnStop, error) {
	for _, o := range []OnStop{Auto, Draining, Goodbye} {
		if o.String() == s {
			return o, nil
		}
	}
	return 0, fmt.Errorf("found %q", s)
}

func parseLevel(s string) (slog.Level, error) {
	switch s {
	case "debug":
		return slog.LevelDebug, nil
	case "info":
		return slog.LevelInfo, nil
	case "warn":
		return slog.LevelWarn, nil
	case "error":
		return slog.LevelError, nil
	}
	return 0, fmt.Errorf("found %q", s)
}

// parseTable reads a routing table as "ip route show table" names it. Source: /etc/iproute2/rt_tables.
func parseTable(s string) (uint32, error) {
	switch s {
	case "main":
		return mainTable, nil
	case "default":
		return 253, nil
	}
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil || n == 0 || n == 255 {
		return 0, fmt.Errorf("found %q", s)
	}
	return uint32(n), nil
}

// parseProtocol reads rtm_protocol. Source: include/uapi/linux/rtnetlink.h, FRR zebra/rt_netlink.h; FRR's own static routes are 196.
func parseProtocol(s string) (uint8, error) {
	for _, p := range [...]struct {
		name   string
		number uint8
	}{
		{"redirect", 1},
		{"kernel", 2},
		{"boot", 3},
		{"static", 4},
		{"ra", 9},
		{"zebra", 11},
		{"bird", 12},
		{"dhcp", 16},
		{"keepalived", 18},
		{"babel", 42},
		{"openr", 99},
		{"bgp", 186},
		{"isis", 187},
		{"ospf", 188},
		{"rip", 189},
		{"nhrp", 191},
		{"eigrp", 192},
		{"ldp", 193},
		{"sharp", 194},
		{"pbr", 195},
		{"frr-static", 196},
		{"openfabric", 197},
	} {
		if p.name == s {
			return p.number, nil
		}
	}
	n, err := strconv.ParseUint(s, 10, 8)
	if err != nil {
		return 0, fmt.Errorf("found %q", s)
	}
	return uint8(n), nil
}
