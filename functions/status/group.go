package status

import (
	"time"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/group"
	"github.com/pointsman/pointsman/shared/state"
)

// Group is how a group of targets stands.
type Group struct {
	Name    string    `json:"name"`
	Targets []string  `json:"targets"`
	State   string    `json:"state"` // complete, pending, incomplete
	Since   time.Time `json:"since,omitzero"`
	View    string    `json:"view,omitempty"`    // the newest that a table has reached
	Skew    float64   `json:"skewSeconds"`       // between the first and the last table that reached it; grows while one has not
	Because string    `json:"because,omitempty"` // the target that is in the way
	Reason  string    `json:"reason,omitempty"`
	Alert   bool      `json:"alert"` // not complete for longer than alertAfter
}

func describeGroup(g config.Group, docs map[string]*state.Target, now time.Time) Group {
	members := make([]*state.Target, len(g.Targets))
	for i, name := range g.Targets {
		members[i] = docs[name]
	}
	s := group.Judge(members, g.AlertAfter, now)
	return Group{
		Name: g.Name, Targets: g.Targets, State: s.State.String(), Since: s.Since, View: s.View, Skew: s.Skew.Seconds(), Because: s.Because, Reason: s.Reason, Alert: s.Alert,
	}
}

func (m metrics) group(domain string, g Group) {
	labels := []string{"domain", domain, "group", g.Name}
	for _, s := range group.States() {
		m.add("pointsman_group_state", "1 for the state that the group has: complete, pending or incomplete.", "gauge", truth(g.State == s.String()), append(labels, "state", s.String())...)
	}
	m.add("pointsman_group_since_seconds", "Unix time since when the group has its state; 0 if no table was ever as desired.", "gauge", unix(g.Since), labels...)
	m.add("pointsman_group_skew_seconds", "Time between the first and the last table of the group that reached the newest view; it grows while one has not.", "gauge", g.Skew, labels...)
	m.add("pointsman_group_alert", "1 while the tables of the group have not agreed for longer than alertAfter.", "gauge", truth(g.Alert), labels...)
}
