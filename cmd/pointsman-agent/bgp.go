//go:build bgp

package main

import (
	"context"
	"log/slog"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/agent/routeserver/session"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/agent/source/bgp/gobgp"
	"github.com/pointsman/pointsman/shared/event"
)

// memoryLimit holds 100,000 routes of BGP peers. With half of it that takes three times the CPU.
const memoryLimit = 128 << 20

// absentKinds returns what of the configuration this build has not.
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

// addRouteServer has the agent announce its routes to a Route Server.
func addRouteServer(a *run.Config, cfg *routeserver.Config, o config.OnStop, log *slog.Logger) {
	m := new(routeserver.Metrics)
	leave := func(ctx context.Context) routeserver.Farewell {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		if farewell(o)(ctx) == event.Draining {
			return routeserver.GoingDown
		}
		return routeserver.Restarting
	}
	s := routeserver.New(cfg, session.New(cfg), leave, log, m)
	a.Follower = s
	a.Collectors = append(a.Collectors, routeServerMetrics(cfg, s, m)...)
}

// routeServerMetrics shows the counters of the speaker, and the figures of each instance.
func routeServerMetrics(cfg *routeserver.Config, s *routeserver.Speaker, m *routeserver.Metrics) []prometheus.Collector {
	opts := func(name, help string, labels prometheus.Labels) prometheus.Opts {
		return prometheus.Opts{Namespace: "pointsman", Subsystem: "routeserver", Name: name, Help: help, ConstLabels: labels}
	}
	counter := func(name, help string, read func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts(opts(name, help, nil)), func() float64 { return float64(read()) })
	}
	all := []prometheus.Collector{
		counter("announced_total", "Prefixes announced, to each instance.", m.Announced.Load),
		counter("withdrawn_total", "Prefixes withdrawn, from each instance.", m.Withdrawn.Load),
		counter("sessions_established_total", "Sessions that came up.", m.Established.Load),
		counter("sessions_lost_total", "Sessions that ended.", m.Lost.Load),
		counter("refreshes_total", "Times that an instance asked for everything again.", m.Refreshes.Load),
	}
	for i, a := range cfg.Instances {
		gauge := func(name, help string, read func(routeserver.Counts) int) prometheus.Collector {
			return prometheus.NewGaugeFunc(prometheus.GaugeOpts(opts(name, help, prometheus.Labels{"instance": a.String()})),
				func() float64 { return float64(read(s.Counts(i))) })
		}
		all = append(all,
			gauge("session", "1 while there is a session with the instance.", func(c routeserver.Counts) int { return c.Up }),
			gauge("sent_routes", "Prefixes that the instance has from this NVA.", func(c routeserver.Counts) int { return c.Sent }),
			gauge("pending_routes", "Prefixes that the instance has yet to be told of.", func(c routeserver.Counts) int { return c.Pending }),
			gauge("learned_routes", "Prefixes that the instance announces.", func(c routeserver.Counts) int { return c.Learned }),
		)
	}
	return all
}
