// Package preflight looks at the NVA that it runs on: the kernel's settings, the clock, and the way to Service Bus. shared/preflight judges.
package preflight

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/agent/source/kernel"
	"github.com/pointsman/pointsman/shared/preflight"
)

// Config says what is looked at.
type Config struct {
	Sysctls  string // where they are; "": /proc/sys
	Kernel   bool   // this machine forwards: its kernel's routes are a source of the agent
	Host     string // of Service Bus
	Port     string // likewise
	NetNS    int    // a file descriptor of the network namespace whose routes count; 0: the caller's
	Resolver func(ctx context.Context, host string) ([]netip.Addr, error)
	Timeout  time.Duration // of one question to the network
}

// Look makes all checks.
func Look(ctx context.Context, cfg Config) []preflight.Finding {
	if cfg.Sysctls == "" {
		cfg.Sysctls = "/proc/sys"
	}
	var out []preflight.Finding
	if cfg.Kernel {
		out = append(out,
			preflight.Forwards("net.ipv4.ip_forward", sysctl(cfg.Sysctls, "net/ipv4/ip_forward")),
			preflight.ReversePath(reversePath(cfg.Sysctls)))
		if v6 := sysctl(cfg.Sysctls, "net/ipv6/conf/all/forwarding"); !errors.Is(v6.Err, fs.ErrNotExist) {
			out = append(out, note(preflight.Forwards("net.ipv6.conf.all.forwarding", v6)))
		}
	} else {
		out = append(out, preflight.Finding{Severity: preflight.Note, Check: "kernel", Found: "the kernel's routes are no source of this agent: whether this machine forwards is not looked at"})
	}
	out = append(out, preflight.Synchronised(synchronised()))
	return append(out, bus(ctx, cfg)...)
}

// note makes an error a note: many networks have no IPv6.
func note(f preflight.Finding) preflight.Finding {
	if f.Severity == preflight.Error {
		f.Severity, f.Do = preflight.Note, "if the NVA carries IPv6: "+f.Do
	}
	return f
}

func sysctl(root, name string) preflight.Read[string] {
	text, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		return preflight.Read[string]{Err: fmt.Errorf("read the setting: %w", err)}
	}
	return preflight.Read[string]{Value: strings.TrimSpace(string(text))}
}

func reversePath(root string) preflight.Read[map[string]string] {
	dirs, err := os.ReadDir(filepath.Join(root, "net/ipv4/conf"))
	if err != nil {
		return preflight.Read[map[string]string]{Err: fmt.Errorf("read the settings: %w", err)}
	}
	values := map[string]string{}
	for _, d := range dirs {
		v := sysctl(root, "net/ipv4/conf/"+d.Name()+"/rp_filter")
		if errors.Is(v.Err, fs.ErrNotExist) {
			continue // a link that has just gone
		}
		if v.Err != nil {
			return preflight.Read[map[string]string]{Err: v.Err}
		}
		values[d.Name()] = v.Value
	}
	return preflight.Read[map[string]string]{Value: values}
}

// bus looks at the ways to Service Bus, and whether it answers.
func bus(ctx context.Context, cfg Config) []preflight.Finding {
	within, cancel := context.WithTimeout(ctx, cfg.Timeout)
	defer cancel()
	addresses, err := cfg.Resolver(within, cfg.Host)
	if err != nil {
		return []preflight.Finding{preflight.Reach(cfg.Host, fmt.Errorf("its name is not resolved: %w", err))}
	}
	ways := preflight.Read[[]preflight.Way]{}
	for _, a := range addresses {
		a = a.Unmap()
		w, unknown := kernel.Lookup(within, kernel.Config{NetNS: cfg.NetNS}, a)
		if unknown != nil {
			ways.Err = unknown
			break
		}
		ways.Value = append(ways.Value, preflight.Way{To: a, Prefix: w.Prefix, By: w.Protocol, Learned: w.Dynamic, Via: w.Via, Link: w.Link})
	}
	slices.SortFunc(ways.Value, func(a, b preflight.Way) int { return a.To.Compare(b.To) })
	return append(preflight.WayToBus(cfg.Host, ways), preflight.Reach(net.JoinHostPort(cfg.Host, cfg.Port), reach(within, cfg)))
}

func reach(ctx context.Context, cfg Config) error {
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(cfg.Host, cfg.Port))
	if err != nil {
		return err //nolint:wrapcheck // it names the address
	}
	return conn.Close() //nolint:wrapcheck // likewise
}
