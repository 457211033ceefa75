// Package routetext reads what routing tools print: `ip -ts monitor route` of iproute2, and `show ip route json` of FRR.
package routetext

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/route"
)

// Change is what one line says.
type Change struct {
	At       time.Time
	Announce []route.Entry
	Withdraw []netip.Prefix
}

// Filter says which routes count.
type Filter struct {
	Table     string   // of the kernel; empty: main
	Protocols []string // empty: all but those of the kernel itself (kernel, ra, redirect, connected, local)
}

// counts reports whether routes of a protocol count.
func (f Filter) counts(protocol string) bool {
	if len(f.Protocols) > 0 {
		return slices.Contains(f.Protocols, protocol)
	}
	return !slices.Contains([]string{"kernel", "ra", "redirect", "connected", "local"}, protocol)
}

// Monitor reads the output of `ip -ts monitor route`; zone is the time zone of the machine that printed it. The first error ends it, and names the line.
//
// The kernel does not tell of every IPv4 route that goes with a link or an address: what is lost with a link that goes down is missing from this output too.
func Monitor(r io.Reader, zone *time.Location, f Filter) iter.Seq2[Change, error] {
	return func(yield func(Change, error) bool) {
		m := monitor{filter: f, zone: zone, rib: map[netip.Prefix][]path{}}
		lines := bufio.NewScanner(r)
		lines.Buffer(nil, 1<<20)
		n := 0
		for lines.Scan() {
			n++
			c, err := m.line(lines.Text())
			if err != nil {
				yield(Change{}, fmt.Errorf("line %d: %w", n, err))
				return
			}
			if len(c.Announce)+len(c.Withdraw) > 0 && !yield(c, nil) {
				return
			}
		}
		if err := lines.Err(); err != nil {
			yield(Change{}, fmt.Errorf("line %d: %w", n+1, err))
		}
	}
}

// path is one of the kernel's routes of a prefix: it may hold several that differ in their metric.
type path struct {
	metric   uint32
	protocol string
}

type monitor struct {
	filter Filter
	zone   *time.Location
	rib    map[netip.Prefix][]path // the lowest metric first
}

// line reads one line, and says what it changed.
func (m *monitor) line(text string) (Change, error) {
	if text == "" || text[0] == '\t' || text[0] == ' ' { // the next hops of the line before
		return Change{}, nil
	}
	at, rest, err := m.stamp(text)
	if err != nil {
		return Change{}, err
	}
	words := strings.Fields(strings.TrimPrefix(rest, "[ROUTE]"))
	deleted := len(words) > 0 && words[0] == "Deleted"
	if deleted {
		words = words[1:]
	}
	kind := "unicast"
	if len(words) > 0 && slices.Contains(kinds(), words[0]) {
		kind, words = words[0], words[1:]
	}
	if len(words) == 0 {
		return Change{}, errors.New("no route after the time")
	}
	r := fields(words[1:])
	p, err := destination(words[0], r)
	if err != nil {
		return Change{}, err
	}
	table := r["table"]
	if table == "" {
		table = "main"
	}
	if want := m.filter.Table; table != want && (want != "" || table != "main") {
		return Change{}, nil
	}
	metric, err := number(r["metric"])
	if err != nil {
		return Change{}, err
	}
	protocol := r["proto"]
	if protocol == "" {
		protocol = "boot" // what iproute2 does not print (RTPROT_BOOT)
	}
	alive := !deleted && kind == "unicast" && m.filter.counts(protocol)
	return m.change(at, p, path{metric, protocol}, alive), nil
}

// kinds are the types of route that a line may begin with.
func kinds() []string {
	return []string{"unicast", "local", "broadcast", "anycast", "multicast", "unreachable", "blackhole", "prohibit", "throw", "nat"}
}

// stamp takes the time off the line.
func (m *monitor) stamp(text string) (time.Time, string, error) {
	inner, rest, found := strings.Cut(text, "] ")
	inner, opened := strings.CutPrefix(inner, "[")
	at, err := time.ParseInLocation("2006-01-02T15:04:05.000000", inner, m.zone)
	if !found || !opened || err != nil {
		return time.Time{}, "", fmt.Errorf("it begins with %.40q, want a time such as [2026-03-01T12:00:00.000000]: run ip -ts monitor route", text)
	}
	return at.UTC(), rest, nil
}

// fields reads the pairs after the destination; words that stand alone get in nobody's way.
func fields(words []string) map[string]string {
	out := map[string]string{}
	for i := 0; i+1 < len(words); i++ {
		switch words[i] {
		case "via", "proto", "metric", "table", "pref":
			out[words[i]] = words[i+1]
			i++
		}
	}
	return out
}

// destination reads a prefix, an address, or default, whose family the rest of the line tells.
func destination(word string, r map[string]string) (netip.Prefix, error) {
	if word == "default" {
		if strings.Contains(r["via"], ":") || r["pref"] != "" {
			return netip.PrefixFrom(netip.IPv6Unspecified(), 0), nil
		}
		return netip.PrefixFrom(netip.IPv4Unspecified(), 0), nil
	}
	if a, err := netip.ParseAddr(word); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(word)
	if err != nil {
		return netip.Prefix{}, fmt.Errorf("%q is no destination", word)
	}
	return route.Canonical(p), nil
}

func number(text string) (uint32, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("metric %q is not a number", text)
	}
	return uint32(n), nil
}

// change notes one route and says what of its prefix is different now.
func (m *monitor) change(at time.Time, p netip.Prefix, r path, alive bool) Change {
	before, had := m.best(p)
	list := slices.DeleteFunc(m.rib[p], func(x path) bool { return x.metric == r.metric })
	if alive {
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b path) int { return cmp.Compare(a.metric, b.metric) })
	m.rib[p] = list
	now, has := m.best(p)
	switch {
	case has && (!had || now != before):
		return Change{At: at, Announce: []route.Entry{{Prefix: p, Attrs: route.Attrs{Metric: now.metric, Origin: now.protocol}}}}
	case had && !has:
		return Change{At: at, Withdraw: []netip.Prefix{p}}
	}
	return Change{}
}

func (m *monitor) best(p netip.Prefix) (path, bool) {
	if list := m.rib[p]; len(list) > 0 {
		return list[0], true
	}
	return path{}, false
}
