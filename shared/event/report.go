package event

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"time"
	"unicode/utf8"
)

// Report is what an agent has found out about its own NVA and about its peers. It is absolute: each report replaces the one before, and a
// snapshot without one says that there is nothing to report. The zero value is that report.
type Report struct {
	SelfCheck Check  // of the NVA by its own script, probe or uplink: a failure is positive evidence against it
	SelfTest  Check  // whether probes get out at all: where that failed, peers that do not answer prove nothing
	Drain     string // why the NVA is to carry nothing for now, for people; "": it may carry routes
	Reason    string // why SelfCheck failed, for people
	Peers     []Peer // who is watched, by name, each at most once
	// ControlLost are the sessions with routing daemons that are lost for longer than their restart time while their routes stay, by name, each at most once:
	// those routes are the ones of before the loss, and nobody can withdraw them. A session stands here until all that its daemon has to say is known again.
	ControlLost []Session
}

// Session is one BGP session with a routing daemon, of the NVA itself or of an appliance that the agent speaks for.
type Session struct {
	Name  string    `json:"session"`        // of the peer, as the agent's file calls it
	Since time.Time `json:"since,omitzero"` // when it was lost, the agent's clock; informative; zero: not known
}

// Equal reports whether two sessions say the same.
func (s Session) Equal(o Session) bool { return s.Name == o.Name && s.Since.Equal(o.Since) }

// Peer is what one NVA sees of another through the data plane.
type Peer struct {
	NVA       string `json:"nva"`
	Reachable bool   `json:"reachable"`
	// Deaf: the peer's probes arrive and say that it does not hear this NVA. Whoever reports that answers the peer's accusation: it lives.
	Deaf bool `json:"deaf,omitempty"`
}

// Check is the outcome of a check that need not be configured.
type Check uint8

// The outcomes.
const (
	Absent Check = iota // no such check, or it has not ended yet
	Passed
	Failed
)

// String returns the word of the schema.
func (c Check) String() string {
	switch c {
	case Absent:
		return "absent"
	case Passed:
		return "passed"
	case Failed:
		return "failed"
	}
	return "check-" + strconv.Itoa(int(c))
}

// MarshalText implements encoding.TextMarshaler.
func (c Check) MarshalText() ([]byte, error) {
	if c > Failed {
		return nil, fmt.Errorf("%s is no outcome of a check", c)
	}
	return []byte(c.String()), nil
}

// UnmarshalText implements encoding.TextUnmarshaler.
func (c *Check) UnmarshalText(text []byte) error {
	for _, known := range []Check{Absent, Passed, Failed} {
		if known.String() == string(text) {
			*c = known
			return nil
		}
	}
	return fmt.Errorf("check %q: want absent, passed or failed", text)
}

// MaxPeers bounds what one agent watches, MaxSessions how many lost sessions it names, MaxSession the name of one, in bytes.
const (
	MaxPeers    = 256
	MaxSessions = 64
	MaxSession  = 64
)

// Equal reports whether two reports say the same.
func (r Report) Equal(o Report) bool {
	return r.SelfCheck == o.SelfCheck && r.SelfTest == o.SelfTest && r.Drain == o.Drain && r.Reason == o.Reason && slices.Equal(r.Peers, o.Peers) &&
		slices.EqualFunc(r.ControlLost, o.ControlLost, Session.Equal)
}

// Empty reports whether there is nothing in it.
func (r Report) Empty() bool { return r.Equal(Report{}) }

// Peer returns what the report says of the NVA of that name.
func (r Report) Peer(nva string) (Peer, bool) {
	i, found := slices.BinarySearchFunc(r.Peers, nva, func(p Peer, name string) int { return cmp.Compare(p.NVA, name) })
	if !found {
		return Peer{}, false
	}
	return r.Peers[i], true
}

// Size returns the length of the report's encoded form, in bytes, rounded up.
func (r Report) Size() int {
	const fixed, perPeer, perSession, escaped = 180, 56 + maxName, 70, 6
	texts := len(r.Drain) + len(r.Reason)
	for _, s := range r.ControlLost {
		texts += len(s.Name)
	}
	return fixed + escaped*texts + perPeer*len(r.Peers) + perSession*len(r.ControlLost)
}

// check returns what is wrong with a report.
func (r Report) check() error {
	for _, text := range []string{r.Drain, r.Reason} {
		if len(text) > maxReason || !utf8.ValidString(text) {
			return fmt.Errorf("report: a reason has %d bytes: want at most %d of UTF-8", len(text), maxReason)
		}
	}
	if len(r.Peers) > MaxPeers {
		return fmt.Errorf("report: %d peers: want at most %d", len(r.Peers), MaxPeers)
	}
	for i, p := range r.Peers {
		switch {
		case !ValidName(p.NVA):
			return fmt.Errorf("report: peer %q: want 1 to %d of a-z, 0-9, -", p.NVA, maxName)
		case i > 0 && p.NVA <= r.Peers[i-1].NVA:
			return fmt.Errorf("report: peer %s does not come after %s: want each once, in order", p.NVA, r.Peers[i-1].NVA)
		}
	}
	return checkSessions(r.ControlLost)
}

func checkSessions(list []Session) error {
	if len(list) > MaxSessions {
		return fmt.Errorf("report: %d lost sessions: want at most %d", len(list), MaxSessions)
	}
	for i, s := range list {
		switch {
		case s.Name == "" || len(s.Name) > MaxSession || !utf8.ValidString(s.Name):
			return fmt.Errorf("report: lost session %q: want a name of 1 to %d bytes of UTF-8", s.Name, MaxSession)
		case i > 0 && s.Name <= list[i-1].Name:
			return fmt.Errorf("report: lost session %q does not come after %q: want each once, in order", s.Name, list[i-1].Name)
		}
	}
	return nil
}
