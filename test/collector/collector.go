// Package collector is an OTLP receiver in the test's own process: it keeps the spans and the newest points that it is sent over HTTP.
package collector

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"time"

	collectormetrics "go.opentelemetry.io/proto/otlp/collector/metrics/v1"
	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	common "go.opentelemetry.io/proto/otlp/common/v1"
	metrics "go.opentelemetry.io/proto/otlp/metrics/v1"
	"google.golang.org/protobuf/proto"
)

// Span is a span as it came. Ids are hexadecimal.
type Span struct {
	Trace, ID, Parent string
	Name              string
	Start, End        time.Time
	Attrs             map[string]string
	Links             []string // ids of spans
	Failed            string
}

// Collector receives. Its methods may be called by several goroutines at once.
type Collector struct {
	server *httptest.Server

	mu     sync.Mutex
	spans  map[string]Span
	points map[string]float64 // by name and attributes; of a histogram the count
	units  map[string]string
}

// Start starts a receiver on a port of its own.
func Start() *Collector {
	c := &Collector{spans: map[string]Span{}, points: map[string]float64{}, units: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/traces", func(w http.ResponseWriter, r *http.Request) {
		var m collectortrace.ExportTraceServiceRequest
		if read(w, r, &m) {
			c.addSpans(&m)
		}
	})
	mux.HandleFunc("POST /v1/metrics", func(w http.ResponseWriter, r *http.Request) {
		var m collectormetrics.ExportMetricsServiceRequest
		if read(w, r, &m) {
			c.addPoints(&m)
		}
	})
	c.server = httptest.NewServer(mux)
	return c
}

// URL is the endpoint.
func (c *Collector) URL() string { return c.server.URL }

// Close ends it.
func (c *Collector) Close() { c.server.Close() }

func read(w http.ResponseWriter, r *http.Request, to proto.Message) bool {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		err = proto.Unmarshal(body, to)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	w.Header().Set("Content-Type", "application/x-protobuf")
	return true
}

func (c *Collector) addSpans(m *collectortrace.ExportTraceServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range m.GetResourceSpans() {
		for _, scope := range resource.GetScopeSpans() {
			for _, s := range scope.GetSpans() {
				span := Span{
					Trace: hex.EncodeToString(s.GetTraceId()), ID: hex.EncodeToString(s.GetSpanId()), Parent: hex.EncodeToString(s.GetParentSpanId()), Name: s.GetName(),
					Start: time.Unix(0, int64(s.GetStartTimeUnixNano())), End: time.Unix(0, int64(s.GetEndTimeUnixNano())), Attrs: attributes(s.GetAttributes()),
					Failed: s.GetStatus().GetMessage(),
				}
				for _, l := range s.GetLinks() {
					span.Links = append(span.Links, hex.EncodeToString(l.GetSpanId()))
				}
				c.spans[span.ID] = span
			}
		}
	}
}

func (c *Collector) addPoints(m *collectormetrics.ExportMetricsServiceRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, resource := range m.GetResourceMetrics() {
		for _, scope := range resource.GetScopeMetrics() {
			for _, metric := range scope.GetMetrics() {
				c.units[metric.GetName()] = metric.GetUnit()
				for _, p := range slices.Concat(metric.GetSum().GetDataPoints(), metric.GetGauge().GetDataPoints()) {
					c.points[point(metric, p.GetAttributes())] = p.GetAsDouble()
				}
				for _, p := range metric.GetHistogram().GetDataPoints() {
					c.points[point(metric, p.GetAttributes())] = float64(p.GetCount())
				}
			}
		}
	}
}

func point(m *metrics.Metric, attrs []*common.KeyValue) string {
	return Name(m.GetName(), attributes(attrs))
}

// Name is how a point is asked for: "pointsman.table.writes{domain=hub,result=applied}".
func Name(metric string, attrs map[string]string) string {
	var parts []string
	for _, k := range slices.Sorted(maps.Keys(attrs)) {
		parts = append(parts, k+"="+attrs[k])
	}
	return metric + "{" + strings.Join(parts, ",") + "}"
}

func attributes(list []*common.KeyValue) map[string]string {
	out := map[string]string{}
	for _, a := range list {
		switch v := a.GetValue().GetValue().(type) {
		case *common.AnyValue_StringValue:
			out[a.GetKey()] = v.StringValue
		case *common.AnyValue_BoolValue:
			out[a.GetKey()] = fmt.Sprint(v.BoolValue)
		case *common.AnyValue_IntValue:
			out[a.GetKey()] = fmt.Sprint(v.IntValue)
		case *common.AnyValue_DoubleValue:
			out[a.GetKey()] = fmt.Sprint(v.DoubleValue)
		default:
			out[a.GetKey()] = fmt.Sprintf("%v", v)
		}
	}
	return out
}

// Trace returns the spans of a trace, in the order of their beginnings.
func (c *Collector) Trace(id string) []Span {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []Span
	for _, s := range c.spans {
		if s.Trace == id {
			out = append(out, s)
		}
	}
	slices.SortFunc(out, func(a, b Span) int {
		return cmp.Or(a.Start.Compare(b.Start), b.End.Compare(a.End), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Value returns the newest value of a point (Name); of a histogram the count.
func (c *Collector) Value(name string) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.points[name]
}

// Points returns all points, "name value", sorted.
func (c *Collector) Points() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	for name, v := range c.points {
		out = append(out, fmt.Sprintf("%s %g", name, v))
	}
	slices.Sort(out)
	return out
}

// Units returns the units by metric.
func (c *Collector) Units() map[string]string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.units)
}
