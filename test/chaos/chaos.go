//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"go.uber.org/goleak"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/netns"
	"github.com/pointsman/pointsman/test/system"
)

// tableWrite is how long a write of a table takes; Azure needs 1 to 10 s.
const tableWrite = 400 * time.Millisecond

// The pace of the scenario: of its turns, of changes of routes on average, and of reading the documents.
const (
	step       = 50 * time.Millisecond
	churnPace  = 300 * time.Millisecond
	watchPace  = 400 * time.Millisecond
	prefixPool = 60
)

// faultPace is the mean time between faults: a short run has each kind about once, a long one has pauses in which something gets done.
func faultPace(duration time.Duration) time.Duration {
	return min(max(duration/60, 300*time.Millisecond), time.Second)
}

// pool are the prefixes that NVAs announce.
func pool() []netip.Prefix { return system.Prefixes(prefixPool) }

// world is everything that runs.
type world struct {
	ctx     context.Context //nolint:containedctx // that of perform, for the scenario's single goroutine
	o       options
	rand    *rand.Rand
	log     *journal
	dir     string
	silence config.Silence
	sys     *system.System
	truth   *truth
	watch   *watch
	hosts   *hosts
	nvas    []*nva
	fabric  *netns.NS
	deck    []trouble
	endings []ending
	broken  error // the scenario could not do what it wanted
}

// ending is the end of a fault that lasts.
type ending struct {
	at   time.Time
	kind string
	end  func() error
}

// perform runs the chaos for the duration, waits for convergence, cleans up, and says how it went. An error means that the scenario itself failed.
func perform(ctx context.Context, o options, out io.Writer) (result, error) {
	var live io.Writer
	if o.verbose {
		live = out
	}
	w := &world{ctx: ctx, o: o, rand: rand.New(rand.NewPCG(o.seed, 2)), log: newJournal(live), truth: newTruth(), silence: config.SilenceDown} // not for secrets
	if w.rand.IntN(3) == 0 {
		w.silence = config.SilenceHold
	}
	_, _ = fmt.Fprintf(out, "chaos: seed %d, %s, silence: %s\n", o.seed, o.duration, w.silence)
	before := goleak.IgnoreCurrent()
	var converged time.Duration
	err := w.start(ctx)
	if err == nil {
		converged, err = w.play(ctx)
	}
	tails := w.tails()
	if failed := w.close(); failed != nil {
		w.log.violation("left behind", "%v", failed)
	}
	http.DefaultClient.CloseIdleConnections() // to the identity endpoint
	if failed := goleak.Find(before); failed != nil {
		w.log.violation("left behind", "%v", failed)
	}
	r := w.log.result(converged)
	if err != nil || len(r.violations) > 0 {
		w.report(out, tails)
	}
	return r, err
}

func (w *world) start(ctx context.Context) (err error) {
	if w.dir, err = os.MkdirTemp("", "pointsman-chaos-"); err != nil {
		return fmt.Errorf("temporary directory: %w", err)
	}
	w.sys, err = system.StartCloud(ctx, system.Config{
		Dir: w.dir, AppRoot: w.o.app, TableWrite: tableWrite, Tables: seed(),
		Domains: map[string]string{domain: domainFile(w.silence)}, Settings: map[string]string{"SweepSchedule": "*/10 * * * * *", "LOG_LEVEL": "DEBUG"},
	})
	if err != nil {
		return err
	}
	w.watch = newWatch(w.log, w.truth)
	if err = w.watch.attach(w.sys); err != nil {
		return err
	}
	if w.hosts, err = newHosts(w.sys, w.log, w.o.app, w.dir); err != nil {
		return err
	}
	if err = w.hosts.start(); err != nil {
		return err
	}
	return w.appliances()
}

// appliances makes the NVAs: real ones where that is possible.
func (w *world) appliances() error {
	if err := netns.Available(); err != nil && !w.o.scripted {
		w.log.say("the agents run in this process: %v", err)
		w.o.scripted = true
	}
	if !w.o.scripted {
		fabric, err := netns.Create("fabric")
		if err != nil {
			return err
		}
		w.fabric = fabric
	}
	for i, p := range places() {
		n := &nva{name: p.name, hop: p.hop, preference: p.preference}
		var err error
		if w.o.scripted {
			n.appliance, n.way, err = newScripted(p.name, w.sys.Bus.Addr(), w.sys.AgentConnection())
		} else {
			n.appliance, n.way, err = newKernel(p.name, i, w.fabric, w.dir, w.o.agent, w.sys.Bus.Addr(), w.sys.AgentConnection())
		}
		if err != nil {
			return err
		}
		w.nvas = append(w.nvas, n)
		if err = n.change(nil, w.truth.learn(n.name, w.choose(prefixPool*2/3))); err != nil {
			return err
		}
		if err = w.boot(n); err != nil {
			return err
		}
	}
	return nil
}

// choose returns n random prefixes of the pool.
func (w *world) choose(n int) []netip.Prefix {
	all, out := pool(), make([]netip.Prefix, n)
	for i, k := range w.rand.Perm(len(all))[:n] {
		out[i] = all[k]
	}
	return out
}

// play makes faults for the duration, then none, and checks the end.
func (w *world) play(ctx context.Context) (time.Duration, error) {
	busy, rest := context.WithCancel(ctx)
	var others sync.WaitGroup
	defer others.Wait()
	defer rest()
	p := &people{sys: w.sys, watch: w.watch, log: w.log, rand: rand.New(rand.NewPCG(w.o.seed, 3))} // not for secrets
	others.Go(func() { p.work(busy) })
	documents, enough := context.WithCancel(ctx)
	var reader sync.WaitGroup
	defer reader.Wait()
	defer enough()
	reader.Go(func() { w.readDocuments(documents) })

	if err := w.storm(ctx); err != nil {
		return 0, err
	}
	rest()
	others.Wait()
	return w.calm(ctx)
}

// storm makes the faults.
func (w *world) storm(ctx context.Context) error {
	tick := time.NewTicker(step)
	defer tick.Stop()
	limit, pace := time.Now().Add(w.o.duration), faultPace(w.o.duration)
	nextFault, nextChurn := time.Now().Add(2*time.Second), time.Now().Add(time.Second)
	for now := time.Now(); now.Before(limit); now = time.Now() {
		if err := w.tend(now); err != nil {
			return err
		}
		if now.After(nextFault) {
			w.deal(now)
			nextFault = now.Add(w.between(0, 2*pace))
		}
		if now.After(nextChurn) {
			if err := w.churn(); err != nil {
				return err
			}
			nextChurn = now.Add(w.between(0, 2*churnPace))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stopped: %w", ctx.Err())
		case <-tick.C:
		}
	}
	return nil
}

// tend does what is due: ends faults, brings back what died, audits.
func (w *world) tend(now time.Time) error {
	kept := w.endings[:0]
	for _, e := range w.endings {
		if now.Before(e.at) {
			kept = append(kept, e)
			continue
		}
		w.log.say("end of %s", e.kind)
		if err := e.end(); err != nil {
			return err
		}
	}
	w.endings = kept
	for _, n := range w.nvas {
		switch {
		case n.returns.IsZero() && !n.alive():
			return fmt.Errorf("the agent of %s has ended by itself", n.name)
		case !n.returns.IsZero() && now.After(n.returns):
			n.returns = time.Time{}
			if err := w.revive(n); err != nil {
				return err
			}
		}
	}
	w.watch.audit(w.sys.ARM.Calls())
	return errors.Join(w.broken, w.hosts.tend(now))
}

// deal makes the next fault of the deck.
func (w *world) deal(now time.Time) {
	if len(w.deck) == 0 {
		w.deck = troubles()
		w.rand.Shuffle(len(w.deck), func(i, j int) { w.deck[i], w.deck[j] = w.deck[j], w.deck[i] })
	}
	t := w.deck[0]
	w.deck = w.deck[1:]
	what, lasts, end := t.begin(w)
	if what == "" {
		return
	}
	w.log.fault(t.kind, what)
	if end != nil {
		w.endings = append(w.endings, ending{now.Add(lasts), t.kind, end})
	}
}

// churn changes some routes of one NVA.
func (w *world) churn() error {
	n := w.nvas[w.rand.IntN(len(w.nvas))]
	if n.dead {
		return nil
	}
	some := w.choose(w.some(4))
	var gone, learned []announcement
	what := w.rand.IntN(3)
	if what != 0 {
		gone = w.truth.lose(n.name, some)
	}
	switch what {
	case 0:
		learned = w.truth.learn(n.name, some)
	case 1: // a flap
		learned = w.truth.learn(n.name, prefixesOf(gone))
	}
	if len(gone)+len(learned) > 0 {
		w.log.say("%s: %d routes go, %d come", n.name, len(gone), len(learned))
	}
	return n.change(gone, learned)
}

// readDocuments reads the NVAs' documents again and again, for what the function app knows.
func (w *world) readDocuments(ctx context.Context) {
	tick := time.NewTicker(watchPace)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			for _, p := range places() {
				if doc, err := w.document(ctx, p.name); err == nil {
					w.truth.saw(p.name, doc, time.Now())
				}
			}
		}
	}
}

// document reads an NVA's document.
func (w *world) document(ctx context.Context, name string) (*state.NVA, error) {
	limited, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	store, err := w.sys.Container("pointsman")
	if err != nil {
		return nil, err
	}
	body, _, err := store.Read(limited, "nvas/"+domain+"/"+name+".json", "")
	if err != nil {
		return nil, err
	}
	return state.DecodeNVA(body)
}

// tails are the last lines of all processes.
func (w *world) tails() map[string][]string {
	out := map[string][]string{}
	if w.hosts != nil {
		out["host and handler"] = w.hosts.tail.last()
	}
	for _, n := range w.nvas {
		out["agent of "+n.name] = n.last()
	}
	return out
}

// report says what a person needs to find out what went wrong.
func (w *world) report(out io.Writer, tails map[string][]string) {
	show := func(title string, lines []string) {
		_, _ = fmt.Fprintf(out, "\n== %s\n%s\n", title, strings.Join(lines, "\n"))
	}
	show("timeline", w.log.timeline())
	show("host and handler, last lines", tails["host and handler"])
	for _, n := range w.nvas {
		show("agent of "+n.name+", last lines", tails["agent of "+n.name])
	}
	r := w.log.result(0)
	show(fmt.Sprintf("%d violations, seed %d (again: go run ./test/chaos --duration %s --seed %d)", len(r.violations), w.o.seed, w.o.duration, w.o.seed), r.violations)
}

// close ends everything that start started.
func (w *world) close() error {
	var errs []error
	for _, n := range w.nvas {
		errs = append(errs, n.close(), n.way.Close())
	}
	if w.fabric != nil {
		errs = append(errs, w.fabric.Close())
	}
	if w.hosts != nil {
		errs = append(errs, w.hosts.close())
	}
	if w.sys != nil {
		errs = append(errs, w.sys.Close())
	}
	if w.dir != "" {
		errs = append(errs, os.RemoveAll(w.dir))
	}
	return errors.Join(errs...)
}
