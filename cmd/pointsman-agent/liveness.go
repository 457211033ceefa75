package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/agent/check"
	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/agent/echo"
	"github.com/pointsman/pointsman/agent/reach"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/scheduled"
	"github.com/pointsman/pointsman/agent/source/kernel"
	"github.com/pointsman/pointsman/agent/witness"
)

// addObservers adds what is watched beside routes.
func addObservers(a *run.Config, cfg *config.Config, log *slog.Logger) error {
	if cfg.Witness != nil {
		if err := addWitness(a, cfg, log); err != nil {
			return err
		}
	}
	if len(cfg.SelfCheck) > 0 {
		a.Observers = append(a.Observers, check.New(cfg.SelfCheck, func(names []string) check.Links {
			return kernel.NewUplinks(names, kernel.Config{}, log)
		}))
	}
	if cfg.ScheduledEvents != nil {
		a.Observers = append(a.Observers, scheduled.New(*cfg.ScheduledEvents, log))
	}
	return nil
}

func addWitness(a *run.Config, cfg *config.Config, log *slog.Logger) error {
	w := cfg.Witness
	var methods []witness.Method
	if w.Listen.IsValid() {
		keys, err := readKeys(w.KeyFile, log)
		if err != nil {
			return err
		}
		metrics := echo.NewMetrics(w.Peers)
		methods = append(methods, echo.New(echo.Config{
			Domain: cfg.Domain, NVA: cfg.NVA, Session: a.Publish.Epoch, Every: w.Every, Misses: w.Misses, Peers: w.Peers,
		}, w.Listen, keys, log, metrics))
		a.Collectors = append(a.Collectors, echoMetrics(metrics)...)
	}
	if len(w.BFD) > 0 {
		metrics := new(bfd.Metrics)
		sessions, err := witness.NewBFD(bfd.Config{Sessions: w.BFD}, log, metrics)
		if err != nil {
			return fmt.Errorf("witness: %w", err)
		}
		methods = append(methods, sessions)
		a.Collectors = append(a.Collectors, bfdMetrics(metrics)...)
	}
	a.Observers = append(a.Observers, witness.New(witness.Config{Every: w.SelfTest.Every, Fall: w.SelfTest.Misses}, selfTest(w.SelfTest), log, methods...))
	return nil
}

// bfdMetrics shows the counters of BFD.
func bfdMetrics(m *bfd.Metrics) []prometheus.Collector {
	counter := func(name, help string, read func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: "pointsman", Subsystem: "bfd", Name: name, Help: help},
			func() float64 { return float64(read()) })
	}
	return []prometheus.Collector{
		counter("sent_total", "BFD packets sent.", m.Sent.Load),
		counter("received_total", "BFD packets received that counted.", m.Received.Load),
		counter("send_errors_total", "BFD packets that the kernel refused to send.", m.SendErrors.Load),
		counter("changes_total", "Changes of BFD sessions.", m.Changes.Load),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "pointsman", Subsystem: "bfd", Name: "sessions_up", Help: "BFD sessions that are up."},
			func() float64 { return float64(m.Up.Load()) }),
	}
}

// selfTest returns one round of the self-test; nil: there is none.
func selfTest(t config.SelfTest) func(context.Context) error {
	if len(t.Targets) == 0 {
		return nil
	}
	return func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, t.Timeout)
		defer cancel()
		return reach.Any(ctx, t.Targets)
	}
}

// readKeys reads the file of the probes' keys. Who can read it can forge probes, not more; others need not be able to.
func readKeys(path string, log *slog.Logger) (*echo.Keys, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("witness.keyFile: %w: make it on one NVA and copy it to the others: head -c 32 /dev/urandom | base64 > %s", err, path)
	}
	if err != nil {
		return nil, fmt.Errorf("witness.keyFile: %w", err)
	}
	if info, statErr := os.Stat(path); statErr == nil && info.Mode().Perm()&0o007 != 0 {
		log.LogAttrs(context.Background(), slog.LevelWarn, "the key of the probes can be read by every user of this machine: chmod o= it",
			slog.String("file", path), slog.String("mode", info.Mode().String()))
	}
	keys, err := echo.ParseKeys(string(text))
	if err != nil {
		return nil, fmt.Errorf("witness.keyFile: %s: %w", path, err)
	}
	return keys, nil
}

// echoMetrics shows the counters of the probes.
func echoMetrics(m *echo.Metrics) []prometheus.Collector {
	opts := func(name, help string, labels prometheus.Labels) prometheus.Opts {
		return prometheus.Opts{Namespace: "pointsman", Subsystem: "witness", Name: name, Help: help, ConstLabels: labels}
	}
	counter := func(name, help string, labels prometheus.Labels, read func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts(name, help, labels)), func() float64 { return float64(read()) })
	}
	all := []prometheus.Collector{
		counter("answers_sent_total", "Answers to probes of others.", nil, m.Answers.Load),
		counter("unsent_total", "Packets that the kernel refused to send.", nil, m.Unsent.Load),
	}
	for _, why := range echo.Reasons() {
		all = append(all, counter("dropped_total", "Packets received and not taken.", prometheus.Labels{"reason": why.String()}, m.Dropped[why].Load))
	}
	for i := range m.Peers {
		p := &m.Peers[i]
		labels := prometheus.Labels{"peer": p.NVA}
		all = append(all,
			counter("probes_sent_total", "Probes sent to a peer.", labels, p.Sent.Load),
			counter("probes_answered_total", "Probes that a peer answered.", labels, p.Answered.Load),
			prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts("rtt_seconds", "Time from the latest answered probe to its answer.", labels)),
				func() float64 { return float64(p.RTT.Load()) / 1e9 }),
		)
	}
	return all
}
