package main

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/pointsman/pointsman/replay/mrt"
	"github.com/pointsman/pointsman/replay/routetext"
	"github.com/pointsman/pointsman/replay/scribe"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/route"
)

func importCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Turn what other tools recorded into a journal of events",
		Long: `Turn what other tools recorded into the events that an agent would have published, one a line, for pointsman replay. The journal goes to the standard output.
FILE may be - for the standard input.`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	c.AddCommand(importMRT(), importMonitor(), importFRR())
	return c
}

// names are the flags that say whose events they are.
type names struct {
	domain string
	nva    []string
}

func (n *names) flags(c *cobra.Command, nva string) {
	c.Flags().StringVar(&n.domain, "domain", "", "the domain of the events")
	c.Flags().StringArrayVar(&n.nva, "nva", nil, nva)
}

// check checks the names.
func (n *names) check(nvas ...string) error {
	if !event.ValidName(n.domain) {
		return fmt.Errorf("%w: --domain is %q: want 1 to 40 of a-z, 0-9, -", errInput, n.domain)
	}
	if len(n.nva) == 0 {
		return fmt.Errorf("%w: say with --nva whose events these are", errInput)
	}
	for _, nva := range nvas {
		if !event.ValidName(nva) {
			return fmt.Errorf("%w: --nva is %q: want 1 to 40 of a-z, 0-9, -", errInput, nva)
		}
	}
	return nil
}

// one returns the one NVA.
func (n *names) one() (string, error) {
	if len(n.nva) > 1 {
		return "", fmt.Errorf("%w: give --nva once", errInput)
	}
	if err := n.check(n.nva...); err != nil {
		return "", err
	}
	return n.nva[0], nil
}

func importMRT() *cobra.Command {
	var n names
	c := &cobra.Command{
		Use:   "mrt FILE...",
		Short: "Import RIB dumps and update streams of a BGP collector",
		Long: `Import MRT files (RFC 6396: TABLE_DUMP_V2 and BGP4MP), plain or packed with gzip or bzip2, in the order given: a RIB dump becomes a snapshot, updates become deltas. Each peer in
the files can stand for one NVA; peers without a name are left out.`,
		Example: `  pointsman import mrt rib.mrt.gz updates.mrt.bz2 --domain hub --nva 192.0.2.1=nva-a --nva 192.0.2.2=nva-b`,
		Args:    arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			x, err := newCollector(n, cmd.OutOrStdout())
			if err != nil {
				return err
			}
			for _, path := range paths {
				if err = x.file(cmd, path); err != nil {
					return err
				}
			}
			return x.end()
		},
	}
	n.flags(c, "the NVA, if the files have one peer; else PEER=NVA, which may be repeated")
	return c
}

// collector makes events of the changes of several peers.
type collector struct {
	out    io.Writer
	only   string // the NVA, whichever peer there is
	peer   netip.Addr
	byPeer map[netip.Addr]*voice
	order  []*voice
	domain string
}

// voice is one peer that stands for an NVA.
type voice struct {
	*scribe.Scribe
	at     time.Time
	table  []route.Entry // of a dump that is being read
	dumped bool
	said   map[netip.Prefix]statement // of one moment; what is said last of a prefix counts
}

// statement is what was said of a prefix.
type statement struct {
	attrs route.Attrs
	gone  bool
}

func newCollector(n names, out io.Writer) (*collector, error) {
	x := &collector{out: out, byPeer: map[netip.Addr]*voice{}, domain: n.domain}
	for _, spec := range n.nva {
		text, nva, mapped := strings.Cut(spec, "=")
		if !mapped {
			if len(n.nva) > 1 {
				return nil, fmt.Errorf("%w: --nva %s: of several each must be PEER=NVA", errInput, spec)
			}
			x.only = spec
			return x, n.check(spec)
		}
		peer, err := netip.ParseAddr(text)
		if err != nil {
			return nil, fmt.Errorf("%w: --nva %s: %q is not a peer's address", errInput, spec, text)
		}
		if err = n.check(nva); err != nil {
			return nil, err
		}
		x.add(peer, nva)
	}
	return x, n.check()
}

func (x *collector) add(peer netip.Addr, nva string) *voice {
	v := &voice{Scribe: scribe.New(x.domain, nva)}
	x.byPeer[peer] = v
	x.order = append(x.order, v)
	return v
}

func (x *collector) file(cmd *cobra.Command, path string) error {
	data, err := readInput(cmd, path)
	if err != nil {
		return err
	}
	plain, err := mrt.Decompress(bytes.NewReader(data))
	if err != nil {
		return fmt.Errorf("%w: %s: %w", errInput, path, err)
	}
	for c, err := range mrt.Changes(plain) {
		if err != nil {
			return fmt.Errorf("%w: %s: %w", errInput, path, err)
		}
		if err = x.take(c); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	return nil
}

// take notes one change. What one peer says in one moment becomes one event.
func (x *collector) take(c mrt.Change) error {
	v := x.byPeer[c.Peer]
	switch {
	case v == nil && x.only == "":
		return nil
	case v == nil && x.peer.IsValid():
		return fmt.Errorf("%w: there are several peers, %s and %s among them: say with --nva PEER=NVA which stands for which", errInput, x.peer, c.Peer)
	case v == nil:
		x.peer = c.Peer
		v = x.add(c.Peer, x.only)
	}
	dump := c.Kind == mrt.Table
	goesOn := dump == v.dumped && (dump || c.At.Equal(v.at)) // one dump, or one moment
	if !v.at.IsZero() && !goesOn {
		if err := x.flush(v); err != nil {
			return err
		}
	}
	if v.at.IsZero() {
		v.at, v.dumped = c.At, dump
	}
	switch c.Kind {
	case mrt.Table:
		v.table = append(v.table, c.Announce...)
	case mrt.Update:
		v.say(c.Announce, c.Withdraw)
	case mrt.Down:
		v.said = nil
		v.say(nil, v.RIB())
	}
	return nil
}

func (v *voice) say(up []route.Entry, down []netip.Prefix) {
	if v.said == nil {
		v.said = map[netip.Prefix]statement{}
	}
	for _, p := range down {
		v.said[p] = statement{gone: true}
	}
	for _, e := range up {
		v.said[e.Prefix] = statement{attrs: e.Attrs}
	}
}

// spoken returns what was said in one moment.
func (v *voice) spoken() (up []route.Entry, down []netip.Prefix) {
	for p, what := range v.said {
		if what.gone {
			down = append(down, p)
		} else {
			up = append(up, route.Entry{Prefix: p, Attrs: what.attrs})
		}
	}
	return up, down // Delta puts them in order
}

// flush writes what a voice has said.
func (x *collector) flush(v *voice) error {
	var events []journal.Entry
	if v.dumped {
		events = v.Snapshot(v.at, v.table)
	} else {
		up, down := v.spoken()
		events = v.Delta(v.at, up, down)
	}
	*v = voice{Scribe: v.Scribe}
	return writeJournal(x.out, events)
}

// end writes what is left; a file without any of the peers is an error.
func (x *collector) end() error {
	said := false
	for _, v := range x.order {
		if v.at.IsZero() && len(v.RIB()) == 0 {
			continue
		}
		said = true
		if err := x.flush(v); err != nil {
			return err
		}
	}
	if !said {
		return fmt.Errorf("%w: the files say nothing of these peers", errInput)
	}
	return nil
}

func writeJournal(w io.Writer, entries []journal.Entry) error {
	for _, entry := range entries {
		body, err := event.Encode(entry.Event)
		if err != nil {
			return err
		}
		line, err := journal.Line(body, entry.At)
		if err != nil {
			return err
		}
		if _, err = w.Write(append(line, '\n')); err != nil {
			return fmt.Errorf("print: %w", err)
		}
	}
	return nil
}

// filterFlags adds the flags that say which routes count.
func filterFlags(c *cobra.Command, f *routetext.Filter) {
	c.Flags().StringSliceVar(&f.Protocols, "protocol", nil, "only routes of these protocols, such as bgp,static; empty: all but those of the kernel itself")
}

func importMonitor() *cobra.Command {
	var n names
	var f routetext.Filter
	var zone string
	c := &cobra.Command{
		Use:   "ip-monitor FILE",
		Short: "Import the output of ip -ts monitor route",
		Long: `Import what ip -ts monitor route (iproute2) printed on an NVA: each line becomes a delta. What was in the table before it was started is not in it, and neither is every IPv4 route
that went with a link: the kernel does not tell.`,
		Example: `  ip -ts monitor route > routes.txt
  pointsman import ip-monitor routes.txt --domain hub --nva nva-a`,
		Args: arguments(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			nva, err := n.one()
			if err != nil {
				return err
			}
			location, err := time.LoadLocation(zone)
			if err != nil {
				return fmt.Errorf("%w: --zone: %w", errInput, err)
			}
			data, err := readInput(cmd, args[0])
			if err != nil {
				return err
			}
			s := scribe.New(n.domain, nva)
			for change, err := range routetext.Monitor(bytes.NewReader(data), location, f) {
				if err != nil {
					return fmt.Errorf("%w: %s: %w", errInput, args[0], err)
				}
				if err = writeJournal(cmd.OutOrStdout(), s.Delta(change.At, change.Announce, change.Withdraw)); err != nil {
					return err
				}
			}
			return nil
		},
	}
	n.flags(c, "the NVA")
	filterFlags(c, &f)
	c.Flags().StringVar(&f.Table, "route-table", "", "the kernel's table, by the name that ip prints; empty: main")
	c.Flags().StringVar(&zone, "zone", "UTC", "the time zone of the machine, such as Europe/Berlin")
	return c
}

func importFRR() *cobra.Command {
	var n names
	var f routetext.Filter
	var at string
	c := &cobra.Command{
		Use:   "frr FILE...",
		Short: "Import the output of show ip route json",
		Long:  `Import what FRR's show ip route json or show ipv6 route json prints: the selected routes of all files together become one snapshot.`,
		Example: `  vtysh -c "show ip route json" > routes.json
  pointsman import frr routes.json --domain hub --nva nva-a --at 2026-03-01T12:00:00Z`,
		Args: arguments(cobra.MinimumNArgs(1)),
		RunE: func(cmd *cobra.Command, paths []string) error {
			nva, err := n.one()
			if err != nil {
				return err
			}
			when, err := momentOf(at, paths[0])
			if err != nil {
				return err
			}
			all, err := readFRR(cmd, paths, f)
			if err != nil {
				return err
			}
			return writeJournal(cmd.OutOrStdout(), scribe.New(n.domain, nva).Snapshot(when, all))
		},
	}
	n.flags(c, "the NVA")
	filterFlags(c, &f)
	c.Flags().StringVar(&at, "at", "", "when it was printed, such as 2026-03-01T12:00:00Z; empty: when the file was last written")
	return c
}

// readFRR reads the routes of all files.
func readFRR(cmd *cobra.Command, paths []string, f routetext.Filter) ([]route.Entry, error) {
	var all []route.Entry
	for _, path := range paths {
		data, err := readInput(cmd, path)
		if err != nil {
			return nil, err
		}
		entries, err := routetext.FRR(data, f)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errInput, path, err)
		}
		all = append(all, entries...)
	}
	return all, nil
}

// momentOf returns when a file was printed.
func momentOf(text, path string) (time.Time, error) {
	if text == "" {
		info, err := os.Stat(path)
		if err != nil {
			return time.Time{}, fmt.Errorf("%w: say with --at when it was printed: %w", errInput, err)
		}
		return info.ModTime().UTC(), nil
	}
	when, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return time.Time{}, fmt.Errorf("%w: --at is %q: want a time such as 2026-03-01T12:00:00Z", errInput, text)
	}
	return when, nil
}
