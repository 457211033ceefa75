//go:build bgp

package main

import (
	"log/slog"
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/agent/source/bgp/gobgp"
)

// absentKinds returns the kinds of source that this build has not.
func absentKinds() []string { return nil }

// addBGP adds a BGP source to the agent.
func addBGP(a *run.Config, cfg *bgp.Config, log *slog.Logger) {
	m := new(bgp.Metrics)
	s := bgp.New(*cfg, gobgp.New(*cfg, gobgp.DefaultRetry, log), log, m)
	a.Sources = append(a.Sources, s)
	a.Collectors = append(a.Collectors, bgpMetrics(len(a.Sources)-1, s.String(), m)...)
}

// bgpMetrics shows the counters of a BGP source, with the labels of the other sources.
func bgpMetrics(index int, name string, m *bgp.Metrics) []prometheus.Collector {
	labels := prometheus.Labels{"source": name, "index": strconv.Itoa(index)}
	counter := func(metric, help string, read func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "pointsman", Subsystem: "bgp", Name: metric, Help: help, ConstLabels: labels,
		}, func() float64 { return float64(read()) })
	}
	return []prometheus.Collector{
		counter("updates_total", "UPDATE messages received.", m.Updates.Load),
		counter("refused_total", "Paths that the filters refused.", m.Refused.Load),
		counter("changes_total", "Prefixes reported as changed or gone.", m.Changes.Load),
		counter("sessions_established_total", "Sessions that came up.", m.Established.Load),
		counter("sessions_lost_total", "Sessions that ended.", m.Lost.Load),
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "pointsman", Subsystem: "bgp", Name: "sessions", Help: "Sessions that are up.", ConstLabels: labels,
		}, func() float64 { return float64(m.Sessions.Load()) }),
	}
}
