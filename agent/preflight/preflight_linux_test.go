package preflight_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	host "github.com/pointsman/pointsman/agent/preflight"
	"github.com/pointsman/pointsman/shared/preflight"
	"github.com/pointsman/pointsman/test/netns"
)

func TestMain(m *testing.M) { os.Exit(netns.Main(m)) }

// sysctls makes a /proc/sys with these settings.
func sysctls(t *testing.T, settings map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, value := range settings {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func resolves(addresses ...string) func(context.Context, string) ([]netip.Addr, error) {
	return func(context.Context, string) ([]netip.Addr, error) {
		var out []netip.Addr
		for _, a := range addresses {
			out = append(out, netip.MustParseAddr(a))
		}
		return out, nil
	}
}

// shown is the findings as "severity check: found", but for the clock, which is that of whoever runs the test.
func shown(list []preflight.Finding) string {
	var out []string
	for _, f := range list {
		if f.Check != "clock" {
			out = append(out, f.Severity.String()+" "+f.Check+": "+f.Found)
		}
	}
	return strings.Join(out, "\n")
}

// listen is a bus on loopback that answers.
func listen(t *testing.T) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

func TestLook(t *testing.T) {
	port := listen(t)
	good := map[string]string{"net/ipv4/ip_forward": "1", "net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/eth0/rp_filter": "2", "net/ipv4/conf/lo/rp_filter": "1", "net/ipv6/conf/all/forwarding": "1"}
	way := "ok way: 127.0.0.1 is reached by the kernel route 127.0.0.1/32, which does not depend on what the agent reports\nok bus: it answers"
	for name, tt := range map[string]struct {
		settings map[string]string
		kernel   bool
		want     string
	}{
		"good": {good, true, "ok kernel: it is 1\nok kernel: it is nowhere 1 (strict)\nok kernel: it is 1\n" + way},
		"bad": {
			map[string]string{"net/ipv4/ip_forward": "0", "net/ipv4/conf/all/rp_filter": "1", "net/ipv4/conf/eth1/rp_filter": "0", "net/ipv4/conf/eth0/rp_filter": "2", "net/ipv4/conf/default/rp_filter": "1", "net/ipv6/conf/all/forwarding": "0"},
			true,
			"error kernel: it is 0: this machine forwards nothing of that family\n" +
				"warning kernel: it is 1 (strict) on eth1: what comes by one link and would be answered by another is dropped, as during a failover\n" +
				"note kernel: it is 0: this machine forwards nothing of that family\n" + way,
		},
		"another machine forwards": {nil, false, "note kernel: the kernel's routes are no source of this agent: whether this machine forwards is not looked at\n" + way},
	} {
		got := shown(host.Look(t.Context(), host.Config{Sysctls: sysctls(t, tt.settings), Kernel: tt.kernel, Host: "127.0.0.1", Port: port, Resolver: resolves("127.0.0.1"), Timeout: time.Minute}))
		if got != tt.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, tt.want)
		}
	}
	got := shown(host.Look(t.Context(), host.Config{Sysctls: "/nonexistent", Kernel: true, Host: "127.0.0.1", Port: port, Resolver: resolves("127.0.0.1"), Timeout: time.Minute}))
	if want := "unknown kernel: could not be checked: read the setting: "; strings.Count(got, "unknown kernel") != 2 || !strings.HasPrefix(got, want) {
		t.Errorf("unreadable:\n%s", got)
	}
}

// TestWayToBus: a way that a routing daemon put there is found, in real tables.
func TestWayToBus(t *testing.T) {
	ns, far := netns.New(t), netns.New(t)
	if err := netns.Pair(ns, far, "wan0", "far0"); err != nil {
		t.Fatal(err)
	}
	if err := ns.Batch("addr add 192.0.2.1/24 dev wan0", "route add default via 192.0.2.254 proto dhcp", "route add 203.0.113.0/24 via 192.0.2.9 proto bgp"); err != nil {
		t.Fatal(err)
	}
	look := func(resolver func(context.Context, string) ([]netip.Addr, error)) string {
		return shown(host.Look(t.Context(), host.Config{Host: "127.0.0.1", Port: "1", NetNS: ns.FD(), Resolver: resolver, Timeout: time.Minute}))
	}
	got := look(resolves("203.0.113.7", "198.51.100.7"))
	for _, want := range []string{
		"ok way: 198.51.100.7 is reached by the dhcp route 0.0.0.0/0 via 192.0.2.254 on wan0, which does not depend",
		"warning way: Service Bus (203.0.113.7) is reached by the bgp route 203.0.113.0/24 via 192.0.2.9 on wan0, which a routing daemon can take away",
		"error bus: no connection: dial tcp 127.0.0.1:1: connect: connection refused",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("%s\nlacks %s", got, want)
		}
	}
	if got = look(resolves("2001:db8::1")); !strings.Contains(got, "unknown way: could not be checked: ask for the route to 2001:db8::1") {
		t.Errorf("no route:\n%s", got)
	}
	nobody := func(context.Context, string) ([]netip.Addr, error) { return nil, errors.New("no such host") }
	if got = look(nobody); !strings.Contains(got, "error bus: no connection: its name is not resolved: no such host") {
		t.Errorf("no name:\n%s", got)
	}
}

func TestSynchronised(t *testing.T) {
	for kept, want := range map[bool]preflight.Severity{true: preflight.OK, false: preflight.Warning} {
		if got := preflight.Synchronised(preflight.Read[bool]{Value: kept}); got.Severity != want {
			t.Errorf("kept %t: %+v", kept, got)
		}
	}
}
