// Package kernel watches the routing tables of a Linux kernel by netlink and reports, per prefix, the best usable route.
//
// Events alone do not suffice: for the commonest failure of all, a link that goes down, the kernel takes the IPv4 routes
// away without a route event. So the watcher follows links, addresses and nexthop objects too, holds a shadow of the tables
// (shadow.go) and, when an event leaves doubt, dumps the tables and reports the difference. A plain route event is reported
// at once.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/agent/source"
)

// ErrNotSupported is the error of a watcher on an operating system other than Linux.
var ErrNotSupported = errors.New("kernel routes can be watched on linux only")

// Metrics counts what a watcher does. The fields may be read at any time.
type Metrics struct {
	// Events are the netlink messages received, wanted or not.
	Events atomic.Uint64
	// Unreadable are those among them that could not be decoded.
	Unreadable atomic.Uint64
	// Changes are the prefixes reported as changed or gone.
	Changes atomic.Uint64
	// Resyncs are the complete dumps, the first one included.
	Resyncs atomic.Uint64
	// Repairs are the prefixes that a dump found different without an event having said so, silent changes of the kernel
	// included.
	Repairs atomic.Uint64
	// Overruns are the times that the receive buffer ran over.
	Overruns atomic.Uint64
	// Reopens are the times that the socket was opened again after an error.
	Reopens atomic.Uint64
	// DumpDuration is how long the latest dump took, in nanoseconds.
	DumpDuration atomic.Int64
	// Prefixes are the prefixes reported and not gone.
	Prefixes atomic.Int64
	// ReadBuffer is the receive buffer that the kernel granted, in bytes (it counts its own overhead twice over).
	ReadBuffer atomic.Int64
}

// Watcher watches kernel routes; it implements [source.Source].
type Watcher struct {
	cfg     Config
	log     *slog.Logger
	metrics *Metrics
}

var _ source.Source = (*Watcher)(nil)

// New returns a watcher with the defaults applied to cfg. Nothing is opened before Run. A nil metrics is allowed.
func New(cfg Config, log *slog.Logger, metrics *Metrics) *Watcher {
	if metrics == nil {
		metrics = new(Metrics)
	}
	return &Watcher{cfg: cfg.WithDefaults(), log: log, metrics: metrics}
}

// String names the watcher by its tables: "kernel tables 254,100".
func (w *Watcher) String() string {
	return "kernel tables " + strings.Trim(strings.ReplaceAll(fmt.Sprint(w.cfg.Tables), " ", ","), "[]")
}

// reopen is the pause before the socket is opened again: it doubles from the first to the longest.
const (
	firstReopen   = 100 * time.Millisecond
	longestReopen = 10 * time.Second
)

// Run reports routes to sink until ctx is done and then returns nil. It returns an error if the configuration is wrong, if
// netlink is not permitted, and [ErrNotSupported] on other systems; any other error is reported by sink.Lost and the
// watcher starts anew, with a pause between 100 ms and 10 s.
func (w *Watcher) Run(ctx context.Context, sink source.Sink) error {
	if err := w.cfg.Validate(); err != nil {
		return fmt.Errorf("%v: %w", w, err)
	}
	err := persist(ctx, func() error { return w.follow(ctx, sink) }, func(err error, pause time.Duration) {
		w.metrics.Reopens.Add(1)
		w.log.LogAttrs(ctx, slog.LevelWarn, "watching routes failed, trying again",
			slog.String("source", w.String()), slog.Duration("pause", pause), slog.Any("error", err))
		sink.Lost(err)
	})
	if err != nil {
		return fmt.Errorf("%v: %w", w, err)
	}
	return nil
}

// persist calls follow again and again until ctx is done or its error is final, which it returns; after any other it calls failed, and
// pauses.
func persist(ctx context.Context, follow func() error, failed func(err error, pause time.Duration)) error {
	for pause := firstReopen; ctx.Err() == nil; pause = min(2*pause, longestReopen) {
		began := time.Now()
		err := follow()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what failed is the socket, closed under the reader
		}
		if final(err) {
			return err
		}
		if time.Since(began) > longestReopen {
			pause = firstReopen
		}
		failed(err, pause)
		rest(ctx, pause)
	}
	return nil
}

func rest(ctx context.Context, pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
