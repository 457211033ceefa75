// Package scheduled drains an NVA before Azure interrupts its VM. It polls Scheduled Events of the instance metadata service: Machine
// decides, Watch does the I/O.
//
// Source: "Azure Metadata Service: Scheduled Events for Linux VMs".
package scheduled

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Event is what Azure is going to do to a VM.
type Event struct {
	ID        string
	Type      string
	Resources []string  // names of the VMs that it is going to happen to
	Started   bool      // it is happening
	NotBefore time.Time // it does not begin earlier, by Azure's clock; zero once it has started
}

// Config is fixed for the life of a Machine.
type Config struct {
	VM      string        // the name of this machine in Azure
	Lead    time.Duration // how long before an event the NVA is drained
	Settle  time.Duration // from the drain being known to the approval, and from the end of an event to the end of the drain
	Approve bool          // tell Azure that it need not wait until NotBefore; then the NVA is drained as soon as an event is announced
}

// interrupting are the types of event for which an NVA is drained: all that interrupt the VM, if only for seconds (Freeze).
func interrupting() []string { return []string{"Freeze", "Reboot", "Redeploy", "Preempt", "Terminate"} }

// Machine decides when the NVA is drained and which events are approved. Its inputs are facts with the instant at which they
// became known; it has one owner and is not safe for concurrent use.
type Machine struct {
	cfg    Config
	offset time.Duration // of this machine's clock: what it is ahead of Azure's
	events []*known      // that concern this VM
	gone   time.Time     // when the last one that was drained for had gone; zero: none has
	last   string        // the drain of the last event
	drain  string        // in force
}

// known is an event and how far we are with it.
type known struct {
	Event
	accepted time.Time // when the bus had accepted the drain for it; zero: it has not
	asked    bool      // an approval is under way
	approved bool
}

// NewMachine returns a machine that knows of no event.
func NewMachine(cfg Config) *Machine { return &Machine{cfg: cfg} }

// Polled takes in all events that Azure announces at an instant, which Azure's clock calls azure; zero: not known.
func (m *Machine) Polled(now, azure time.Time, events []Event) {
	m.offset = 0
	if !azure.IsZero() {
		m.offset = now.Sub(azure)
	}
	old := m.events
	m.events = nil
	for _, e := range events {
		if !slices.Contains(interrupting(), e.Type) || !slices.ContainsFunc(e.Resources, func(r string) bool { return strings.EqualFold(r, m.cfg.VM) }) {
			continue
		}
		k := &known{}
		if i := slices.IndexFunc(old, func(o *known) bool { return o.ID == e.ID }); i >= 0 {
			k = old[i]
		}
		k.Event = e
		m.events = append(m.events, k)
	}
	m.settle(now)
}

// begins returns when the NVA is to be drained for an event, by this machine's clock.
func (m *Machine) begins(e *known) time.Time {
	if e.Started || e.NotBefore.IsZero() || m.cfg.Approve {
		return time.Time{}
	}
	return e.NotBefore.Add(m.offset - m.cfg.Lead)
}

// settle works out the drain.
func (m *Machine) settle(now time.Time) {
	var texts []string
	for _, e := range m.events {
		if !now.Before(m.begins(e)) {
			texts = append(texts, e.text())
		}
	}
	switch {
	case len(texts) > 0:
		m.drain, m.gone = strings.Join(texts, "; "), time.Time{}
		m.last = m.drain
	case m.drain == "":
	case m.gone.IsZero():
		m.gone = now
		m.drain = "Azure is done with this VM, and it settles (" + m.last + ")"
	case now.Sub(m.gone) >= m.cfg.Settle:
		m.drain, m.gone = "", time.Time{}
	}
}

func (e *known) text() string {
	if e.Started || e.NotBefore.IsZero() {
		return fmt.Sprintf("Azure is going through with %s of this VM (event %s)", e.Type, e.ID)
	}
	return fmt.Sprintf("Azure will %s this VM at %s UTC (event %s)", e.Type, e.NotBefore.UTC().Format(time.TimeOnly), e.ID)
}

// Drain returns why the NVA is to carry nothing; "": it may.
func (m *Machine) Drain() string { return m.drain }

// Accepted takes in that the bus has accepted a drain.
func (m *Machine) Accepted(now time.Time, drain string) {
	if drain == "" || drain != m.drain {
		return
	}
	for _, e := range m.events {
		if e.accepted.IsZero() && !now.Before(m.begins(e)) {
			e.accepted = now
		}
	}
}

// approvable reports whether an event may be approved once the drain for it has settled. An approval counts for all VMs of an event, and
// this machine speaks for itself only.
func (m *Machine) approvable(e *known) bool {
	return m.cfg.Approve && !e.Started && !e.approved && !e.asked && !e.accepted.IsZero() && len(e.Resources) == 1
}

// Next returns the events to be approved now, and when to ask again at the latest; zero: after the next input. Every event is answered by
// one call of Approved.
func (m *Machine) Next(now time.Time) (approve []string, wake time.Time) {
	m.settle(now)
	at := func(t time.Time) {
		if wake.IsZero() || t.Before(wake) {
			wake = t
		}
	}
	for _, e := range m.events {
		if begins := m.begins(e); now.Before(begins) {
			at(begins)
		}
		if !m.approvable(e) {
			continue
		}
		if due := e.accepted.Add(m.cfg.Settle); now.Before(due) {
			at(due)
		} else {
			e.asked = true
			approve = append(approve, e.ID)
		}
	}
	if !m.gone.IsZero() {
		at(m.gone.Add(m.cfg.Settle))
	}
	return approve, wake
}

// Approved takes in what became of an approval. One that failed is tried again after a pause.
func (m *Machine) Approved(now time.Time, id string, err error) {
	for _, e := range m.events {
		if e.ID != id {
			continue
		}
		e.asked, e.approved = false, err == nil
		if err != nil {
			e.accepted = now // so it waits for another Settle
		}
	}
}
