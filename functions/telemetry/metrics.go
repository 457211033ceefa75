package telemetry

// Metric is the name of a metric, by the rules of OpenTelemetry.
type Metric string

// The metrics. Those that can be read from the documents at any time are Status' own, under other names (docs/observability.md).
const (
	StageDuration       Metric = "pointsman.stage.duration"
	ConvergenceDuration Metric = "pointsman.convergence.duration"
	Reconciles          Metric = "pointsman.reconciles"
	TableWrites         Metric = "pointsman.table.writes"
	EventsTaken         Metric = "pointsman.events"
	EventsCoalesced     Metric = "pointsman.events.coalesced"
	StalenessNow        Metric = "pointsman.staleness"
	UnusedNow           Metric = "pointsman.announcements.refused"
	LivenessChanges     Metric = "pointsman.liveness.changes"
	InvocationDuration  Metric = "pointsman.invocation.duration"
)

// The attributes of metrics and spans.
const (
	AttrDomain   = "domain"
	AttrTarget   = "target"
	AttrNVA      = "nva"
	AttrStage    = "stage"
	AttrResult   = "result"
	AttrOutcome  = "outcome"
	AttrState    = "state"
	AttrFunction = "function"
	AttrFailed   = "failed"
)

// Instrument is what kind of metric it is.
type Instrument uint8

// The kinds.
const (
	Counter   Instrument = iota + 1 // sums up
	Histogram                       // of seconds
	Gauge                           // the last value counts
)

// Instrumented is a metric with what it needs to be made.
type Instrumented struct {
	Name       Metric
	Instrument Instrument
	Unit       string // UCUM
	Meaning    string
	Attrs      []string
}

// Metrics returns all metrics. docs/observability.md has the same table, and a test says so.
func Metrics() []Instrumented {
	return []Instrumented{
		{ConvergenceDuration, Histogram, "s", "from the oldest observation on the NVA to the end of the write that it led to", []string{AttrDomain, AttrTarget}},
		{StageDuration, Histogram, "s", "the part of that which one stage took", []string{AttrDomain, AttrStage}},
		{Reconciles, Counter, "{reconcile}", "reconciles by outcome; `left`: the news was left to the run in flight", []string{AttrDomain, AttrTarget, AttrOutcome}},
		{TableWrites, Counter, "{write}", "PUTs by what became of them: `applied`, `precondition` (412), `busy` and `throttled` (429), `denied`, `refused`, `unknown`, `failed`", []string{AttrDomain, AttrTarget, AttrResult}},
		{EventsTaken, Counter, "{event}", "agents' events by what became of them: `merged`, `known`, `refused`, `parked`", []string{AttrDomain, AttrNVA, AttrResult}},
		{EventsCoalesced, Counter, "{event}", "events that needed no write of their own", []string{AttrDomain}},
		{StalenessNow, Gauge, "{prefix_second}", "what waits for a write of the target, as of its last reconcile", []string{AttrDomain, AttrTarget}},
		{UnusedNow, Gauge, "{announcement}", "announcements that were not used, as of the target's last reconcile", []string{AttrDomain, AttrTarget}},
		{LivenessChanges, Counter, "{change}", "NVAs that came to be believed in another state", []string{AttrDomain, AttrNVA, AttrState}},
		{InvocationDuration, Histogram, "s", "calls of a function", []string{AttrFunction, AttrFailed}},
	}
}
