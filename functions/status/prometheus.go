package status

import (
	"fmt"
	"maps"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/state"
)

// Prometheus returns the report in the text exposition format. The figures come from the documents, so every instance of a
// scaled-out function app shows the same ones.
func (r Report) Prometheus() string {
	m := metrics{}
	m.add("pointsman_parked_messages", "Messages that could not be used and were parked.", "gauge", float64(r.Parked))
	for _, result := range slices.Sorted(maps.Keys(r.Drift.Events)) {
		m.add("pointsman_drift_events_total", "Azure's events about changes of resources, by what became of them.", "counter", float64(r.Drift.Events[result]), "result", result)
	}
	for _, d := range r.Domains {
		m.add("pointsman_domain_frozen", "1 while more than half of the NVAs of the domain were lost at once and keep what they carry.", "gauge", truth(d.Frozen), "domain", d.Name)
		m.add("pointsman_domain_file_problems", "Problems in the newest domain file, which is not in force while there are any.", "gauge", float64(len(d.Problems)), "domain", d.Name)
		m.add("pointsman_domain_unreadable", "1 while the domain has no valid file or its documents cannot be read.", "gauge", truth(d.Error != ""), "domain", d.Name)
		m.outcomes(d.Events, "domain", d.Name, "target", "")
		m.orders(d.Name, d.Orders)
		for _, n := range d.NVAs {
			m.nva(d.Name, n)
		}
		for _, t := range d.Targets {
			m.target(d.Name, t)
			m.server(d.Name, t.Name, t.RouteServer)
		}
		for _, g := range d.Groups {
			m.group(d.Name, g)
		}
		for _, b := range d.Budgets {
			m.budget(d.Name, b)
		}
	}
	return m.String()
}

func (m metrics) orders(domain string, o Orders) {
	refused := 0.0
	if o.Refused != nil {
		refused = float64(o.Refused.Count)
	}
	m.add("pointsman_orders_refused_total", "Operators' orders that did not count: not signed as the domain file wants, too old, or not allowed.", "counter", refused, "domain", domain)
}

func (m metrics) nva(domain string, n NVA) {
	for _, l := range liveness.States() {
		m.add("pointsman_nva_liveness", "1 for the liveness that the NVA has.", "gauge", truth(n.Liveness == l.String()), "domain", domain, "nva", n.Name, "liveness", l.String())
	}
	sessions := 0
	if n.Report != nil {
		sessions = len(n.Report.ControlLost)
	}
	m.add("pointsman_nva_lost_sessions", "BGP sessions with routing daemons that are lost for longer than their restart time while their routes stay, as the agent says.", "gauge", float64(sessions), "domain", domain, "nva", n.Name)
	m.add("pointsman_nva_prefixes", "Prefixes that the NVA announces.", "gauge", float64(n.Prefixes), "domain", domain, "nva", n.Name)
	m.add("pointsman_nva_missing_events", "Events that the agent published and that have not arrived.", "gauge", float64(n.Missing), "domain", domain, "nva", n.Name)
	m.add("pointsman_nva_digest_differs", "1 while the RIB differs from the agent's although no event is missing.", "gauge", truth(n.Differs), "domain", domain, "nva", n.Name)
	m.add("pointsman_nva_cloned", "1 if a second agent was seen with the NVA's name.", "gauge", truth(n.Clone != nil), "domain", domain, "nva", n.Name)
	refused := 0.0
	if n.Refused != nil {
		refused = float64(n.Refused.Count)
	}
	m.add("pointsman_nva_refused_events_total", "Events in the NVA's name that were not signed as the domain file wants.", "counter", refused, "domain", domain, "nva", n.Name)
}

func (m metrics) target(domain string, t Target) {
	labels := []string{"domain", domain, "target", t.Name}
	m.add("pointsman_target_writes_total", "Writes of the route table that were applied.", "counter", float64(t.Writes), labels...)
	m.add("pointsman_target_managed_routes", "Routes that Pointsman keeps in the table.", "gauge", float64(t.Managed), labels...)
	m.add("pointsman_target_routes", "Routes in the table, unmanaged ones included.", "gauge", float64(t.Result.Routes), labels...)
	m.add("pointsman_target_routes_limit", "Routes that the table may hold.", "gauge", float64(t.Limit), labels...)
	m.add("pointsman_target_trouble_since_seconds", "Unix time since when the target cannot be brought to the desired state; 0 if it can.", "gauge", unix(t.Trouble), labels...)
	m.add("pointsman_target_last_good_seconds", "Unix time when the table was last known to be as desired.", "gauge", unix(t.LastGood), labels...)
	m.add("pointsman_target_staleness_prefix_seconds", "What waits for a write of the table, in weighted prefix-seconds.", "gauge", t.Stale, labels...)
	m.add("pointsman_target_drifted_routes", "Managed routes that another hand changed and that are not written again.", "gauge", float64(len(t.Drifted)), labels...)
	m.outcomes(t.Events, labels...)
	m.add("pointsman_target_paused", "1 while an operator has paused the target.", "gauge", truth(t.Pause != nil && t.Pause.On), labels...)
	m.add("pointsman_target_proposed_changes", "Changes of the table that are shown, or wait for an approval, and are not written.", "gauge", float64(proposed(t.Proposal)), labels...)
	for _, o := range state.Outcomes() {
		m.add("pointsman_target_reconciles_total", "Reconciles by outcome.", "counter", float64(t.Outcomes[o.String()]), append(labels, "outcome", o.String())...)
		code := ""
		if t.Result.Outcome == o {
			code = t.Result.Code
		}
		m.add("pointsman_target_outcome", "1 for the outcome of the last reconcile; code is the service's error code.", "gauge", truth(t.Result.Outcome == o), append(labels, "outcome", o.String(), "code", code)...)
	}
}

// outcomes adds the outbox of a target, or that of a domain's NVAs under an empty target.
func (m metrics) outcomes(o Outcomes, labels ...string) {
	m.add("pointsman_outcome_events_waiting", "Outcome events that the topic does not have yet; those about NVAs have no target.", "gauge", float64(o.Waiting), labels...)
	m.add("pointsman_outcome_events_dropped_total", "Outcome events that were never told: too many waited, or the topic refused them.", "counter", float64(o.Dropped), labels...)
}

func proposed(p *state.Proposal) int {
	if p == nil {
		return 0
	}
	return len(p.Added) + len(p.Changed) + len(p.Removed)
}

// metrics holds the lines of each family.
type metrics map[string]*family

type family struct {
	help, kind string
	lines      []string
}

func (m metrics) add(name, help, kind string, value float64, labels ...string) {
	f := m[name]
	if f == nil {
		f = &family{help: help, kind: kind}
		m[name] = f
	}
	escape := strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`) // Prometheus knows no other escapes
	var pairs []string
	for i := 0; i+1 < len(labels); i += 2 {
		pairs = append(pairs, labels[i]+`="`+escape.Replace(labels[i+1])+`"`)
	}
	text := name
	if len(pairs) > 0 {
		text += "{" + strings.Join(pairs, ",") + "}"
	}
	f.lines = append(f.lines, fmt.Sprintf("%s %g", text, value))
}

// String returns all families in the order of their names.
func (m metrics) String() string {
	names := make([]string, 0, len(m))
	for name := range m {
		names = append(names, name)
	}
	sort.Strings(names)
	var b strings.Builder
	for _, name := range names {
		f := m[name]
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s %s\n%s\n", name, f.help, name, f.kind, strings.Join(f.lines, "\n"))
	}
	return b.String()
}

func truth(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func unix(t time.Time) float64 {
	if t.IsZero() {
		return 0
	}
	return float64(t.UnixMilli()) / 1000
}
