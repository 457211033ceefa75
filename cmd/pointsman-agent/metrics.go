package main

import (
	"strconv"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pointsman/pointsman/agent/source/kernel"
)

// netlinkMetrics shows the counters of one kernel source; two may have the same name, so its place in the configuration is a label too.
func netlinkMetrics(index int, name string, m *kernel.Metrics) []prometheus.Collector {
	labels := prometheus.Labels{"source": name, "index": strconv.Itoa(index)}
	counter := func(metric, help string, read func() uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: "pointsman", Subsystem: "netlink", Name: metric, Help: help, ConstLabels: labels,
		}, func() float64 { return float64(read()) })
	}
	gauge := func(metric, help string, read func() float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: "pointsman", Subsystem: "netlink", Name: metric, Help: help, ConstLabels: labels,
		}, read)
	}
	return []prometheus.Collector{
		counter("events_total", "Netlink messages received.", m.Events.Load),
		counter("unreadable_total", "Netlink messages that could not be decoded.", m.Unreadable.Load),
		counter("changes_total", "Prefixes reported as changed or gone.", m.Changes.Load),
		counter("resyncs_total", "Complete dumps of the kernel's tables.", m.Resyncs.Load),
		counter("repairs_total", "Prefixes that a dump found different without an event having said so.", m.Repairs.Load),
		counter("overruns_total", "Times that the receive buffer ran over.", m.Overruns.Load),
		counter("reopens_total", "Times that the socket was opened again after an error.", m.Reopens.Load),
		gauge("dump_seconds", "How long the latest dump took.", func() float64 { return float64(m.DumpDuration.Load()) / 1e9 }),
		gauge("read_buffer_bytes", "The receive buffer that the kernel granted.", func() float64 { return float64(m.ReadBuffer.Load()) }),
	}
}
