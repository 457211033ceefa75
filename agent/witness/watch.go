package witness

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/shared/event"
)

// Watch is the observer of peers: a judge, the methods that see for it, and the self-test.
type Watch struct {
	cfg     Config
	methods []Method
	test    func(context.Context) error // one round; nil: there is no self-test
	log     *slog.Logger

	mu      sync.Mutex
	failing error // of the self-test that has failed
}

var (
	_ report.Observer = (*Watch)(nil)
	_ report.Troubled = (*Watch)(nil)
	_ report.Detailed = (*Watch)(nil)
)

// New returns a watch that does nothing before Run. Test and Recovery of cfg follow from the other arguments.
func New(cfg Config, test func(context.Context) error, log *slog.Logger, methods ...Method) *Watch {
	cfg.Test = test != nil
	for _, m := range methods {
		cfg.Recovery = max(cfg.Recovery, m.Timing().Recovery)
	}
	return &Watch{cfg: cfg, methods: methods, test: test, log: log}
}

// String implements report.Observer.
func (w *Watch) String() string { return "witness" }

// Trouble implements report.Troubled: that peers are down is none, that this machine cannot tell is one.
func (w *Watch) Trouble() string {
	var all []string
	for _, m := range w.methods {
		if t, ok := m.(report.Troubled); ok && t.Trouble() != "" {
			all = append(all, t.Trouble())
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failing != nil {
		all = append(all, "the self-test fails: "+w.failing.Error())
	}
	return strings.Join(all, "; ")
}

// Detail implements report.Detailed: what the methods have to show, by name.
func (w *Watch) Detail() any {
	all := map[string]any{}
	for _, m := range w.methods {
		if d, ok := m.(report.Detailed); ok {
			all[m.String()] = d.Detail()
		}
	}
	return all
}

// timed is a sight with the timing of its method.
type timed struct {
	Sight
	timing Timing
}

// Run implements report.Observer.
func (w *Watch) Run(ctx context.Context, tell func(event.Report)) error {
	group, ctx := errgroup.WithContext(ctx)
	sights := make(chan timed)
	for _, m := range w.methods {
		group.Go(func() error {
			err := m.Run(ctx, func(s Sight) {
				select {
				case sights <- timed{s, m.Timing()}:
				case <-ctx.Done():
				}
			})
			if err != nil {
				return fmt.Errorf("%s: %w", m, err)
			}
			return nil
		})
	}
	group.Go(func() error {
		w.judge(ctx, group, sights, tell)
		return nil
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("witness: %w", err)
	}
	return nil
}

// judge is the one owner of the judge.
func (w *Watch) judge(ctx context.Context, group *errgroup.Group, sights <-chan timed, tell func(event.Report)) {
	j := NewJudge(w.cfg, time.Now())
	tested := make(chan error)
	timer := time.NewTimer(0)
	defer timer.Stop()
	var told event.Report
	for {
		now := time.Now()
		test, wake := j.Next(now)
		if test {
			group.Go(func() error {
				select {
				case tested <- w.test(ctx):
				case <-ctx.Done():
				}
				return nil
			})
		}
		if r := j.Report(now); !r.Equal(told) {
			told = r
			tell(r)
		}
		timer.Stop()
		if !wake.IsZero() {
			timer.Reset(wake.Sub(now))
		}
		select {
		case s := <-sights:
			j.Saw(time.Now(), s.Sight, s.timing)
		case err := <-tested:
			if ctx.Err() != nil {
				return // it was interrupted
			}
			at := time.Now()
			j.Tested(at, err == nil)
			w.note(ctx, j.Report(at).SelfTest, err)
		case <-timer.C:
		case <-ctx.Done():
			return
		}
	}
}

// note keeps why the self-test fails, and logs when it begins to fail and when it passes again.
func (w *Watch) note(ctx context.Context, outcome event.Check, err error) {
	w.mu.Lock()
	was := w.failing
	switch {
	case outcome != event.Failed:
		w.failing = nil
	case err != nil:
		w.failing = err
	}
	is := w.failing
	w.mu.Unlock()
	switch {
	case was == nil && is != nil:
		w.log.LogAttrs(ctx, slog.LevelWarn, "the self-test fails: what this machine sees of its peers proves nothing", slog.Any("error", is))
	case was != nil && is == nil:
		w.log.LogAttrs(ctx, slog.LevelInfo, "the self-test passes again")
	}
}
