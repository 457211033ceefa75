package telemetry

import "github.com/pointsman/pointsman/shared/stage"

// Field is a member of the line. Alerts and dashboards go by these names, so a name is never used for another thing.
type Field string

// The fields of every function.
const (
	Function   Field = "function"
	Invocation Field = "invocation"
	Seconds    Field = "seconds"
	Error      Field = "error"
	Kind       Field = "kind"
	Messages   Field = "messages"
	MessageIDs Field = "messageIds"
	Deliveries Field = "deliveries"
	Traces     Field = "traces"
	Domains    Field = "domains"
	Wakes      Field = "wakes"
	Conflicts  Field = "conflicts"
)

// The fields of Ingest.
const (
	NVAs      Field = "nvas"
	Merged    Field = "merged"
	Known     Field = "known"
	Orders    Field = "orders"
	Refused   Field = "refused"
	Parked    Field = "parked"
	Silent    Field = "silent"
	Heard     Field = "heard"
	Liveness  Field = "liveness"
	Coalesced Field = "coalesced"

	ControlLost Field = "controlLost"
	ControlBack Field = "controlBack"
	Cloned      Field = "cloned"
)

// The fields of Reconcile.
const (
	Domain       Field = "domain"
	Target       Field = "target"
	Cause        Field = "cause"
	Run          Field = "run"
	Events       Field = "events"
	Outcome      Field = "outcome"
	Code         Field = "code"
	Text         Field = "message"
	LeftTo       Field = "leftTo"
	Added        Field = "added"
	Changed      Field = "changed"
	Removed      Field = "removed"
	Routes       Field = "routes"
	Rounds       Field = "rounds"
	Writes       Field = "writes"
	Applied      Field = "applied"
	Precondition Field = "precondition"
	Busy         Field = "busy"
	Throttled    Field = "throttled"
	ETag         Field = "etag"
	Frozen       Field = "frozen"
	Unused       Field = "unused"
	Staleness    Field = "stalenessPrefixSeconds"
	FireAt       Field = "fireAt"
	Convergence  Field = "convergenceSeconds"
)

// The fields of Sweep and Drift.
const (
	Targets Field = "targets"
	Deleted Field = "deleted"
	Result  Field = "result"
)

// OfStage is the field of a stage's duration.
func OfStage(s stage.Stage) Field { return Field(s.String() + "Seconds") }

// Described is a field with what it means and which functions set it; "": all.
type Described struct {
	Name    Field
	Of      string
	Meaning string
}

// Fields returns all fields in the order of the line. docs/observability.md has the same table, and a test says so.
func Fields() []Described {
	out := []Described{
		{Function, "", "which function"},
		{Invocation, "", "the host's id of the call"},
		{Seconds, "", "how long it took"},
		{Error, "", "why it failed; its messages come again"},
		{Kind, "", "what kind of error: `transient`, `throttled`, `conflict`, `poison`, `denied`, `refused`, `not-found`, `bug`"},
		{Messages, "Ingest, Reconcile", "messages in the call"},
		{MessageIDs, "Ingest, Reconcile", "ids of the first eight"},
		{Deliveries, "Ingest, Reconcile", "the highest delivery count among them"},
		{Traces, "Ingest, Reconcile", "trace ids of the events behind them, eight at most"},
		{Domains, "Ingest, Sweep", "domains that it was about, the first eight"},
		{NVAs, "Ingest", "DOMAIN/NVA of the events, the first eight"},
		{Merged, "Ingest", "events that were merged into a document"},
		{Known, "Ingest", "events that changed nothing: repetitions"},
		{Orders, "Ingest", "operators' orders"},
		{Refused, "Ingest", "events that were not signed as the domain file wants"},
		{Parked, "Ingest, Drift", "messages that can never be used, refused ones included"},
		{Silent, "Ingest", "NVAs that have fallen silent"},
		{Heard, "Ingest", "NVAs that are heard again"},
		{ControlLost, "Ingest", "NVAs whose agents have lost the session with a routing daemon, for longer than its restart time"},
		{ControlBack, "Ingest", "NVAs whose agents have all such sessions again"},
		{Cloned, "Ingest", "NVAs in whose name a second agent was heard"},
		{Liveness, "Ingest, Sweep", "NVAs that are believed to be in another state now, \"DOMAIN/NVA STATE\"; only where outcome events or telemetry are on"},
		{Domain, "Reconcile", "the target's domain"},
		{Target, "Reconcile", "the target"},
		{Cause, "Reconcile", "what the wake says led to it: `NVA/REVISION`, `order/…`, `sweep/…` and `drift/…` from outside; `due/…`, `hold-down/…`, `retry/…`, `throttled/…`, `guard/…`, `lost/…`, `handover/…`, `group/…`, `group-look/…`, `route-server/…`, `look/…` from runs before"},
		{Run, "Reconcile", "the run's name, as in the history"},
		{Events, "Reconcile", "ids of the events behind it, eight at most"},
		{Outcome, "Reconcile", "how it ended ([outcomes](operations.md#outcomes-of-a-target)); `left` where the news was left to the run in flight"},
		{Code, "Reconcile", "the service's error code, or that of a guard"},
		{Text, "Reconcile", "what happened and what to do about it"},
		{LeftTo, "Reconcile", "the run that the news was left to"},
		{Coalesced, "Ingest, Reconcile", "events that needed no write of their own: merged together with another, left to the run in flight, or waiting for company"},
		{Added, "Reconcile", "routes added"},
		{Changed, "Reconcile", "routes moved"},
		{Removed, "Reconcile", "routes removed"},
		{Routes, "Reconcile", "routes in the table then, unmanaged ones included"},
		{Rounds, "Reconcile", "times that the table was read and the documents after it"},
		{Writes, "Reconcile", "PUTs sent"},
		{Applied, "Reconcile", "PUTs known to be applied"},
		{Precondition, "Reconcile", "PUTs that Azure refused because the table had changed (412)"},
		{Busy, "Reconcile", "calls refused because another operation held the table (429)"},
		{Throttled, "Reconcile", "calls refused because a quota was used up (429)"},
		{Conflicts, "Ingest, Reconcile", "documents that another writer was first to save"},
		{ETag, "Reconcile", "the table's, when it was read last"},
		{Frozen, "Reconcile", "true: more than half of the NVAs were lost at once, and they keep what they carry"},
		{Unused, "Reconcile", "announcements that were not used: out of what the domain file allows, or against its limits"},
		{Staleness, "Reconcile", "what waits, in weighted prefix-seconds; 0 where nothing does"},
		{FireAt, "Reconcile", "when what waits is written"},
		{Convergence, "Reconcile", "from the oldest observation on the NVA to the end of the last write"},
	}
	for _, s := range stage.Stages() {
		out = append(out, Described{OfStage(s), "Reconcile", "how much of that was the stage `" + s.String() + "`"})
	}
	return append(out,
		Described{Targets, "Sweep", "targets woken"},
		Described{Wakes, "Ingest, Reconcile, Sweep, Drift", "wakes sent"},
		Described{Deleted, "Sweep", "files of the history and the journal that were older than they are to be kept"},
		Described{Result, "Drift", "what became of Azure's event: `woken`, `own`, `other`, `unknown`, `parked`"},
	)
}
