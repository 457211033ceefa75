package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/pointsman/pointsman/test/netns"
	"github.com/pointsman/pointsman/test/system"
)

// domainFile is the domain: a preferred NVA, its backup, one route table.
func domainFile() string {
	return fmt.Sprintf(`
domain: %s
policy:
  silence: down
  holdDown: %s
nvas:
  - name: %s
    nextHops: [%s]
    preference: 200
    allow: ["10.64.0.0/10 le 24"]
  - name: %s
    nextHops: [%s]
    preference: 100
    allow: ["10.64.0.0/10 le 24"]
targets:
  - name: spokes
    routeTable: %s
`, domain, holdDown, nameA, hopA, nameB, hopB, system.TableID)
}

// demo is the running demonstration.
type demo struct {
	o       options
	dist    string
	out     *screen
	dir     string
	sys     *system.System
	watch   *watch
	a, b    nva
	release func() error
	real    bool
	began   time.Time

	prefixes []netip.Prefix
	results  []result
	changes  []*change
}

// start starts everything, or nothing.
func start(ctx context.Context, o options, out *screen, dist string) (*demo, error) {
	d := &demo{o: o, out: out, dist: dist, watch: newWatch(out), prefixes: system.Prefixes(o.prefixes), began: time.Now()}
	if err := d.built(); err != nil {
		return nil, err
	}
	if err := d.start(ctx); err != nil {
		if ctx.Err() == nil && !errors.Is(err, netns.ErrUnavailable) {
			d.report()
		}
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// built reports what is missing in dist.
func (d *demo) built() error {
	for _, name := range []string{"app/host.json", "app/pointsman-handler", "pointsman-agent"} {
		if _, err := os.Stat(filepath.Join(d.dist, name)); err != nil {
			return fmt.Errorf("%s is not built: run \"make build\" first (\"make demo\" does both)", filepath.Join(d.dist, name))
		}
	}
	return nil
}

func (d *demo) start(ctx context.Context) (err error) {
	if d.dir, err = os.MkdirTemp("", "pointsman-demo-"); err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	d.sys, err = system.Start(ctx, system.Config{
		Dir: d.dir, AppRoot: filepath.Join(d.dist, "app"), TableWrite: d.o.write,
		Domains:  map[string]string{domain: domainFile()},
		Tables:   map[string]json.RawMessage{system.TableID: seed()},
		Settings: map[string]string{"SweepSchedule": sweeps(time.Now())},
		Logger:   d.watch.hostLog(), Output: d.watch,
	})
	if err != nil {
		return err
	}
	if err = d.watch.attach(d.sys); err != nil {
		return err
	}
	if err = d.appliances(); err != nil {
		return err
	}
	d.watch.real = d.real
	return nil
}

// sweeps is the schedule of the sweep: every five minutes as usual, but not soon, for its reads would count as those of a step.
func sweeps(now time.Time) string {
	var minutes []string
	for m := (now.Minute() + 4) % 5; m < 60; m += 5 {
		minutes = append(minutes, fmt.Sprint(m))
	}
	return "0 " + strings.Join(minutes, ",") + " * * * *"
}

// appliances makes the NVAs: real ones if that is possible and wanted.
func (d *demo) appliances() error {
	why := error(nil)
	if !d.o.recorded {
		d.a, d.b, d.release, why = newKernel(lab{
			dir: d.dir, agent: filepath.Join(d.dist, "pointsman-agent"), bus: d.sys.Bus.Addr(), connection: d.sys.AgentConnection(),
		})
		if d.real = why == nil; d.real {
			d.intro("agents, kernel routes and function app are real; Azure is emulated on this machine")
			return nil
		}
		d.a, d.b = nil, nil
		if d.o.prefixes != defaultPrefixes {
			return fmt.Errorf("--prefixes needs real NVAs: %w", why)
		}
	}
	a, err := newRecorded(nameA, d.sys.AgentConnection())
	if err != nil {
		return err
	}
	d.a = a
	if d.b, err = newRecorded(nameB, d.sys.AgentConnection()); err != nil {
		return err
	}
	d.intro("the function app is real; Azure is emulated on this machine; the NVAs are recorded events")
	if why != nil {
		d.out.say("")
		d.out.note("There are no real NVAs here, because")
		d.out.note("  %v", why)
	}
	return nil
}

func (d *demo) intro(what string) {
	d.out.say("%s", d.out.paint(bold, "Pointsman: an Azure route table follows two NVAs"))
	d.out.say("%s", what)
	d.out.say("")
	d.out.table([][]string{
		{"", "next hop", ""},
		{nameA, hopA, "preferred"},
		{nameB, hopB, "backup"},
		{"table", "", fmt.Sprintf("Azure route table \"spokes\"; a write takes %s", d.o.write)},
		{"", "", "already in it, put there by others: 0.0.0.0/0, 10.50.0.0/16 (ECMP), two tags, a flag"},
	}, false)
	d.out.say("")
	d.out.say("%s", d.out.paint(dim, "Times are seconds since the step began. PUT: a write of the whole table is accepted; PUT done: it is in force."))
	d.out.say("%s", d.out.paint(dim, "GET: the table is read; poll: Azure is asked whether a write is done."))
}

// close ends everything that start started.
func (d *demo) close() error {
	d.out.mute(true)
	var errs []error
	for _, n := range []nva{d.a, d.b} {
		if n != nil {
			errs = append(errs, n.close())
		}
	}
	if d.release != nil {
		errs = append(errs, d.release())
	}
	if d.sys != nil {
		errs = append(errs, d.sys.Close())
	}
	if d.dir != "" {
		errs = append(errs, os.RemoveAll(d.dir))
	}
	return errors.Join(errs...)
}

// show runs the steps and returns the exit code.
func (d *demo) show(ctx context.Context) int {
	err := d.steps(ctx)
	d.out.mute(false)
	if err == nil {
		err = d.keepRecord()
	}
	if err != nil {
		d.out.failed(ctx, err)
		if ctx.Err() != nil {
			return 1
		}
		d.report()
	}
	ok := d.conclude(err)
	if d.o.stay {
		d.stay(ctx)
	}
	if !ok {
		return 1
	}
	return 0
}

// report shows what a person needs to find out what went wrong.
func (d *demo) report() {
	show := func(title string, lines []string) {
		if len(lines) == 0 {
			return
		}
		d.out.say("")
		d.out.say("%s", d.out.paint(bold, title))
		for _, l := range lines {
			d.out.say("  %s", l)
		}
	}
	d.watch.mu.Lock()
	handler, host := slices.Clone(d.watch.handler), slices.Clone(d.watch.host)
	d.watch.mu.Unlock()
	show("last lines of the function app", handler)
	show("last warnings of the emulators", host)
	for _, n := range []nva{d.a, d.b} {
		if n == nil || n.log() == "" {
			continue
		}
		var last tail
		text, err := os.ReadFile(n.log())
		if err != nil {
			last.add(err.Error())
		}
		for l := range strings.Lines(string(text)) {
			last.add(strings.TrimSpace(l))
		}
		show("last lines of the agent: "+n.log(), last)
	}
	if d.sys == nil {
		return
	}
	show("route table", d.tableState())
	for _, name := range []string{eventQueue, wakeQueue} {
		if q, ok := d.sys.Bus.Queue(name); ok {
			show("queue "+name, []string{fmt.Sprintf("%d waiting, %d in work, %d scheduled, %d dead letters", q.Active, q.Locked, q.Scheduled, q.DeadLettered)})
		}
	}
}

// tableState says in a few lines what the table holds.
func (d *demo) tableState() []string {
	raw, etag, _ := d.sys.ARM.Table(system.TableID)
	t, err := readTable(raw)
	if err != nil {
		return []string{err.Error()}
	}
	count := map[string]int{}
	for _, hop := range t.hops() {
		count[hop]++
	}
	lines := []string{fmt.Sprintf("%s, ETag %s", t.props["provisioningState"], etag)}
	for _, hop := range []string{hopA, hopB} {
		lines = append(lines, plural(count[hop], "prefix")+" to "+hop)
	}
	return append(lines, fmt.Sprintf("%d routes of others", len(t.routes)-len(t.hops())))
}

// keepRecord writes the agents' events to the file of --record.
func (d *demo) keepRecord() error {
	if d.o.record == "" || !d.real {
		return nil
	}
	var text []byte
	d.watch.mu.Lock()
	for _, body := range d.watch.published {
		text = append(append(text, body...), '\n')
	}
	d.watch.mu.Unlock()
	if err := os.WriteFile(d.o.record, text, 0o600); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}
