package main

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pointsman/pointsman/test/system"
)

// result is one step as summary.json has it.
type result struct {
	Name            string `json:"name"`
	ChangedPrefixes int    `json:"changedPrefixes"`
	Puts            int    `json:"puts"`
	MaxPuts         int    `json:"maxPuts"`
	Gets            int    `json:"gets"`
	Polls           int    `json:"polls"`
	Events          int    `json:"events"`
	Wakes           int    `json:"wakes"`
	BlobReads       int    `json:"blobReads"`
	BlobWrites      int    `json:"blobWrites"`
	ConvergedMs     int64  `json:"convergedMs"` // from the change until Azure says that the table is in force; the slowest of several

	maxGets int // 0: not bounded
	before  map[string]string
	sample  []netip.Prefix
}

// steps are the demonstration.
func (d *demo) steps(ctx context.Context) error {
	if err := d.boot(ctx); err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{d.learn, d.withdrawOne, d.singleChanges, d.flap, d.dies, d.returns} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// boot starts the agents and waits until the functions have heard of both.
func (d *demo) boot(ctx context.Context) error {
	d.out.mute(true)
	defer d.out.mute(false)
	for _, n := range []nva{d.a, d.b} {
		if err := n.boot(ctx); err != nil {
			return err
		}
	}
	err := d.watch.until(ctx, "both agents have reported", func() error {
		for _, name := range []string{nameA, nameB} {
			if !d.watch.heard[name] {
				return fmt.Errorf("nothing heard of %s", name)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.settled(ctx)
}

func (d *demo) learn(ctx context.Context) error {
	r := d.begin("learn", "both NVAs learn %s", plural(len(d.prefixes), "prefix"))
	r.ChangedPrefixes, r.MaxPuts = 2*len(d.prefixes), 2
	r.sample = []netip.Prefix{d.prefixes[0], d.prefixes[len(d.prefixes)-1]}
	first, err := d.change(ctx, &change{nva: nameA, urgent: true}, added(d.prefixes), func() (time.Time, error) { return d.a.learn(ctx, d.prefixes) })
	if err != nil {
		return err
	}
	if _, err = d.change(ctx, &change{nva: nameB}, added(d.prefixes), func() (time.Time, error) { return d.b.learn(ctx, d.prefixes) }); err != nil {
		return err
	}
	return d.end(ctx, r, first.at, hopA, nil)
}

// spare is the prefix that is withdrawn alone.
const spare = 7

func (d *demo) withdrawOne(ctx context.Context) error {
	one := d.prefixes[spare : spare+1]
	r := d.begin("withdraw-one", "%s loses %s", nameA, one[0])
	r.ChangedPrefixes, r.MaxPuts, r.sample = 1, 1, d.prefixes[spare-1:spare+2]
	c, err := d.change(ctx, &change{nva: nameA, urgent: true}, one[0].String()+" withdrawn", func() (time.Time, error) { return d.a.withdraw(ctx, one) })
	if err != nil {
		return err
	}
	return d.end(ctx, r, c.at, hopA, one)
}

// singles is how many single changes are measured, singlesFrom the first prefix of them.
const (
	singles     = 5
	singlesFrom = 10
)

// singleChanges measures: one prefix after the other goes, and comes back while the table is being written. Coming back is not urgent:
// it rides along with the next write.
func (d *demo) singleChanges(ctx context.Context) error {
	r := d.begin("single-changes", "%d prefixes go, one after the other, and come back", singles)
	r.ChangedPrefixes, r.MaxPuts = 2*singles+1, 2*singles+1
	d.out.say("  %s", d.out.paint(dim, "going back to a better next hop is not urgent: it rides along with the next write"))
	d.out.mute(true)
	defer d.out.mute(false)
	back := d.prefixes[spare]
	var slowest time.Duration
	for i := range singles {
		p := d.prefixes[singlesFrom+i]
		took, err := d.single(ctx, p, back)
		if err != nil {
			return err
		}
		slowest, back = max(slowest, took), p
	}
	d.out.mute(false)
	last, err := d.change(ctx, &change{nva: nameA}, back.String()+" learned again", func() (time.Time, error) {
		return d.a.learn(ctx, []netip.Prefix{back})
	})
	if err != nil {
		return err
	}
	d.out.event(line{at: time.Now(), where: "app", what: "waits", text: "no write to ride along with: for some seconds only", colour: dim})
	r.sample = []netip.Prefix{d.prefixes[spare], back}
	if err = d.end(ctx, r, last.at, hopA, nil); err != nil {
		return err
	}
	d.results[len(d.results)-1].ConvergedMs = slowest.Milliseconds()
	return d.noFollowUps(ctx)
}

// noFollowUps waits until the app has looked again at what it had put off: its reads would count as those of the next step. What is left
// is further away, or looks after runs that have ended well and reads no table.
func (d *demo) noFollowUps(ctx context.Context) error {
	return d.watch.until(ctx, "the app has looked at what it had put off", func() error {
		for _, m := range d.sys.Bus.Peek(wakeQueue) {
			if !strings.Contains(m.MessageID, "/guard/") && time.Until(m.ScheduledAt) < patience/2 {
				return fmt.Errorf("message %s is due in %s", m.MessageID, ms(time.Until(m.ScheduledAt)))
			}
		}
		return nil
	})
}

// single withdraws p, and announces back while the table is being written. It returns the time from the change to the table in force.
func (d *demo) single(ctx context.Context, p, back netip.Prefix) (time.Duration, error) {
	out, err := d.change(ctx, &change{nva: nameA, urgent: true}, "", func() (time.Time, error) { return d.a.withdraw(ctx, []netip.Prefix{p}) })
	if err != nil {
		return 0, err
	}
	err = d.watch.until(ctx, fmt.Sprintf("a write moves %s to %s", p, hopB), func() error {
		if hop := d.watch.accepted[p.String()]; hop != hopB || out.put.IsZero() {
			return fmt.Errorf("its next hop is %q", hop)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	if _, err = d.change(ctx, &change{nva: nameA}, "", func() (time.Time, error) { return d.a.learn(ctx, []netip.Prefix{back}) }); err != nil {
		return 0, err
	}
	if err = d.settled(ctx); err != nil {
		return 0, err
	}
	took := out.done.Sub(out.at)
	kernel := ""
	if d.real {
		kernel = fmt.Sprintf("kernel to event %7s,  ", ms(out.event.Sub(out.at)))
	}
	d.out.say("  %-15s withdrawn:  %sevent to PUT %7s,  in force after %.3f s", p, kernel, ms(out.put.Sub(out.event)), took.Seconds())
	return took, nil
}

// flapTries is how often a flap is tried that the machine was too busy to make fast.
const flapTries = 3

// quick is well within the time for which an agent gathers changes (100 ms of quiet).
const quick = 80 * time.Millisecond

func (d *demo) flap(ctx context.Context) error {
	for try := 1; ; try++ {
		r := d.begin("flap", "%s loses all %s and has them back at once", nameA, plural(len(d.prefixes), "prefix"))
		r.ChangedPrefixes, r.sample = len(d.prefixes), []netip.Prefix{d.prefixes[0], d.prefixes[len(d.prefixes)-1]}
		took, err := d.a.flap(ctx, d.prefixes)
		if err != nil {
			return err
		}
		l := line{at: time.Now(), where: nameA, what: "kernel", text: fmt.Sprintf("%s gone and back in %s", plural(len(d.prefixes), "route"), ms(took))}
		if !d.real {
			l.what, l.text = "recorded", plural(len(d.prefixes), "route")+" gone and back at once"
		}
		d.out.event(l)
		if err = d.wait(ctx, 1500*time.Millisecond); err != nil { // longer than an agent gathers at most
			return err
		}
		if took > quick && try < flapTries {
			d.out.note("this machine was too busy for a quick flap; once more")
			if err = d.everywhere(ctx, hopA, nil); err != nil {
				return err
			}
			continue
		}
		d.out.event(line{at: time.Now(), where: nameA, what: "silent", text: "no event: nothing had changed when it was quiet", colour: cyan})
		return d.end(ctx, r, time.Time{}, hopA, nil)
	}
}

func (d *demo) dies(ctx context.Context) error {
	r := d.begin("nva-dies", "%s loses its power: no goodbye, no last message", nameA)
	r.ChangedPrefixes, r.MaxPuts, r.maxGets = len(d.prefixes), 1, 2
	r.sample = []netip.Prefix{d.prefixes[0], d.prefixes[len(d.prefixes)-1]}
	c, err := d.change(ctx, &change{nva: nameA, urgent: true, death: true}, "off: agent killed, links cut", func() (time.Time, error) { return d.a.die(ctx) })
	if err != nil {
		return err
	}
	return d.end(ctx, r, c.at, hopB, nil)
}

func (d *demo) returns(ctx context.Context) error {
	r := d.begin("nva-returns", "%s is back; it must stay up for %s before it carries traffic (hold-down)", nameA, holdDown)
	r.ChangedPrefixes, r.MaxPuts = len(d.prefixes), 1
	r.sample = []netip.Prefix{d.prefixes[0], d.prefixes[len(d.prefixes)-1]}
	c, err := d.change(ctx, &change{nva: nameA, slow: true}, "on: "+added(d.prefixes)+", agent started", func() (time.Time, error) { return d.a.comeBack(ctx, d.prefixes) })
	if err != nil {
		return err
	}
	return d.end(ctx, r, c.at, hopA, nil)
}

func added(prefixes []netip.Prefix) string { return plural(len(prefixes), "route") + " learned" }

// begin begins a step and its counting.
func (d *demo) begin(name, format string, args ...any) result {
	d.out.title("%d  %s: %s", len(d.results)+1, name, fmt.Sprintf(format, args...))
	d.sys.ARM.ResetCalls()
	d.sys.Blob.ResetCalls()
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	d.watch.count = counts{}
	return result{Name: name, before: d.watch.accepted}
}

// change does something to an NVA and waits until the bus has its event.
func (d *demo) change(ctx context.Context, c *change, what string, do func() (time.Time, error)) (*change, error) {
	d.watch.expect(c)
	at, err := do()
	if err != nil {
		return nil, err
	}
	d.watch.made(c, at)
	d.changes = append(d.changes, c)
	source := "kernel"
	switch {
	case !d.real:
		source = "recorded"
	case c.death, c.slow:
		source = "power"
	}
	if what != "" {
		d.out.event(line{at: at, where: c.nva, what: source, text: what})
	}
	return c, d.watch.until(ctx, "the bus has the event of "+c.nva, func() error {
		if c.event.IsZero() {
			return fmt.Errorf("it has %s since", plural(d.watch.count.events, "event"))
		}
		return nil
	})
}

func (d *demo) wait(ctx context.Context, t time.Duration) error {
	timer := time.NewTimer(t)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("stopped: %w", ctx.Err())
	}
}

// settled waits until no message is waiting or in work and no write is in flight.
func (d *demo) settled(ctx context.Context) error {
	return d.watch.until(ctx, "all messages are worked off", func() error {
		for _, name := range []string{eventQueue, wakeQueue} {
			if q, _ := d.sys.Bus.Queue(name); q.Active+q.Locked > 0 {
				return fmt.Errorf("queue %s has %d messages waiting and %d in work", name, q.Active, q.Locked)
			}
		}
		if d.watch.inFlight > 0 {
			return fmt.Errorf("%d writes are in flight", d.watch.inFlight)
		}
		return nil
	})
}

// everywhere waits until all prefixes have the hop, but for the exceptions, which have B's.
func (d *demo) everywhere(ctx context.Context, hop string, exceptions []netip.Prefix) error {
	want := map[string]string{}
	for _, p := range d.prefixes {
		want[p.String()] = hop
	}
	for _, p := range exceptions {
		want[p.String()] = hopB
	}
	err := d.watch.until(ctx, "the table is right", func() error {
		wrong, example := 0, ""
		for _, p := range d.prefixes {
			if got := d.watch.accepted[p.String()]; got != want[p.String()] {
				wrong, example = wrong+1, fmt.Sprintf("%s has next hop %q, want %s", p, got, want[p.String()])
			}
		}
		if extra := len(d.watch.accepted) - len(want); wrong == 0 && extra > 0 {
			return fmt.Errorf("%s too many", plural(extra, "route"))
		}
		if wrong > 0 {
			return fmt.Errorf("%s wrong; %s", plural(wrong, "prefix"), example)
		}
		return nil
	})
	if err != nil {
		return err
	}
	return d.settled(ctx)
}

func (d *demo) lastDone() time.Time {
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	return d.watch.done
}

// end waits until the table is right, counts, shows and checks. since is when the change was made; zero: nothing is to converge.
func (d *demo) end(ctx context.Context, r result, since time.Time, hop string, exceptions []netip.Prefix) error {
	if err := d.everywhere(ctx, hop, exceptions); err != nil {
		return err
	}
	if !since.IsZero() {
		r.ConvergedMs = d.lastDone().Sub(since).Milliseconds()
	}
	d.tally(&r)
	d.results = append(d.results, r)
	d.hops(r)
	d.watch.mu.Lock()
	intact := d.watch.intact
	d.watch.mu.Unlock()
	switch {
	case intact != nil:
		return intact
	case r.Puts > r.MaxPuts:
		return fmt.Errorf("%w: step %s took %s, allowed are %d", errWrong, r.Name, plural(r.Puts, "PUT"), r.MaxPuts)
	case r.maxGets > 0 && r.Gets > r.maxGets:
		return fmt.Errorf("%w: step %s took %s, allowed are %d", errWrong, r.Name, plural(r.Gets, "GET"), r.maxGets)
	}
	gets := plural(r.Gets, "GET")
	if r.maxGets > 0 {
		gets += fmt.Sprintf(" (at most %d)", r.maxGets)
	}
	d.out.say("  %s  table right, others' routes untouched; %s (at most %d), %s, %s", d.out.paint(bold+";"+green, "ok"),
		plural(r.Puts, "PUT"), r.MaxPuts, gets, plural(r.Polls, "poll"))
	return nil
}

// tally counts the calls since the step began, and looks at the table itself once more.
func (d *demo) tally(r *result) {
	for _, c := range d.sys.ARM.Calls() {
		switch c.Operation {
		case "routeTables.CreateOrUpdate":
			r.Puts++
		case "routeTables.Get":
			r.Gets++
		case "operations.Get":
			r.Polls++
		}
	}
	for _, c := range d.sys.Blob.Calls() {
		switch c.Method {
		case "GET", "HEAD":
			r.BlobReads++
		default:
			r.BlobWrites++
		}
	}
	raw, _, _ := d.sys.ARM.Table(system.TableID)
	t, err := readTable(raw)
	d.watch.mu.Lock()
	defer d.watch.mu.Unlock()
	r.Events, r.Wakes = d.watch.count.events, d.watch.count.wakes
	if err != nil {
		d.watch.intact = err
		return
	}
	d.watch.check(t)
}

// hops shows the next hops of some prefixes before and after the step.
func (d *demo) hops(r result) {
	d.watch.mu.Lock()
	after := d.watch.accepted
	d.watch.mu.Unlock()
	d.out.say("")
	for _, p := range r.sample {
		before, now := r.before[p.String()], after[p.String()]
		switch before {
		case "":
			d.out.say("  %-15s  %s  →  %s", p, d.out.paint(dim, "no route "), d.out.paint(green, now))
		case now:
			d.out.say("  %-15s  %-9s  =  %s", p, before, now)
		default:
			d.out.say("  %-15s  %-9s  →  %s", p, before, d.out.paint(green, now))
		}
	}
}
