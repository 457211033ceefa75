package run

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/pointsman/pointsman/agent/publish"
	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/shared/event"
)

// metrics are the agent's, on a registry of their own.
type metrics struct {
	registry *prometheus.Registry

	routes    prometheus.Gauge
	held      *prometheus.GaugeVec // source
	live      *prometheus.GaugeVec // source
	pending   prometheus.Gauge
	published *prometheus.CounterVec // kind
	failures  *prometheus.CounterVec // operation, kind
	outage    prometheus.Counter
	beats     prometheus.Counter
	fired     prometheus.Counter
	margin    prometheus.Gauge
	latency   prometheus.Histogram
	peers     *prometheus.GaugeVec // peer
	deaf      *prometheus.GaugeVec // peer
	checks    *prometheus.GaugeVec // check
	draining  prometheus.Gauge
	control   *prometheus.GaugeVec // session
}

func newMetrics(others []prometheus.Collector) *metrics {
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "pointsman", Subsystem: "agent", Name: name, Help: help}
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts(opts(name, help)))
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	m := &metrics{
		registry:  prometheus.NewRegistry(),
		routes:    gauge("routes", "Prefixes that the agent announces."),
		held:      prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("source_routes", "Prefixes that a source reports.")), []string{"source"}),
		live:      prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("source_live", "1 while the source sees, 0 while it has yet to report or is lost.")), []string{"source"}),
		pending:   gauge("pending", "Prefixes that the bus has yet to accept; -1 if a snapshot is due because that is not known."),
		published: prometheus.NewCounterVec(prometheus.CounterOpts(opts("events_published_total", "Events that the bus accepted.")), []string{"kind"}),
		failures:  prometheus.NewCounterVec(prometheus.CounterOpts(opts("bus_failures_total", "Calls to the bus that failed.")), []string{"operation", "kind"}),
		outage:    counter("outage_seconds_total", "Time during which publishing failed."),
		beats:     counter("beats_total", "Times that the dead-man switch was moved."),
		fired:     counter("switch_fired_total", "Times that the dead-man switch fired although the agent lived."),
		margin:    gauge("switch_margin_seconds", "What the dead-man switch allows for a clock that is behind."),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: "pointsman", Subsystem: "agent", Name: "publish_latency_seconds",
			Help:    "Time from the first sight of a change to its acceptance by the bus.",
			Buckets: []float64{.05, .1, .15, .2, .3, .5, 1, 2, 5, 15, 60, 300},
		}),
	}
	m.peers = prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("peer_reachable", "1 while a peer answers, 0 while it does not; absent while that is not known.")), []string{"peer"})
	m.deaf = prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("peer_deaf", "1 while a peer's probes say that it does not hear this NVA.")), []string{"peer"})
	m.checks = prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("check_passed", "1 while the self-check or the self-test passes, 0 while it fails; absent while there is none.")), []string{"check"})
	m.draining = gauge("draining", "1 while the NVA is to carry nothing, for one of Azure's Scheduled Events.")
	m.control = prometheus.NewGaugeVec(prometheus.GaugeOpts(opts("control_lost", "1 while the session with a routing daemon is lost for longer than its restart time and its routes stay; absent else.")), []string{"session"})
	for _, k := range event.Kinds() {
		if k != event.Expired { // scheduled, counted as a beat
			m.published.WithLabelValues(k.String())
		}
	}
	m.registry.MustRegister(m.routes, m.held, m.live, m.pending, m.published, m.failures, m.outage, m.beats, m.fired, m.margin, m.latency, m.peers, m.deaf, m.checks, m.draining, m.control,
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m.registry.MustRegister(others...)
	return m
}

// report shows a report in the place of another.
func (m *metrics) report(was, is event.Report) {
	for _, p := range was.Peers {
		if _, still := is.Peer(p.NVA); !still {
			m.peers.DeleteLabelValues(p.NVA)
			m.deaf.DeleteLabelValues(p.NVA)
		}
	}
	for _, p := range is.Peers {
		m.peers.WithLabelValues(p.NVA).Set(number(p.Reachable))
		m.deaf.WithLabelValues(p.NVA).Set(number(p.Deaf))
	}
	for name, outcome := range map[string]event.Check{"self-check": is.SelfCheck, "self-test": is.SelfTest} {
		if outcome == event.Absent {
			m.checks.DeleteLabelValues(name)
			continue
		}
		m.checks.WithLabelValues(name).Set(number(outcome == event.Passed))
	}
	m.draining.Set(number(is.Drain != ""))
	for _, s := range missing(was.ControlLost, is.ControlLost) {
		m.control.DeleteLabelValues(s.Name)
	}
	for _, s := range is.ControlLost {
		m.control.WithLabelValues(s.Name).Set(1)
	}
}

// number is how a metric shows a truth.
func number(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// observe shows the present state.
func (m *metrics) observe(s publish.Status, r *rib.RIB) {
	m.routes.Set(float64(r.Len()))
	m.pending.Set(float64(s.Pending))
	m.margin.Set(s.Margin.Seconds())
	for _, src := range r.Sources() {
		m.held.WithLabelValues(src.Name).Set(float64(src.Routes))
		m.live.WithLabelValues(src.Name).Set(number(src.State == rib.Live))
	}
}
