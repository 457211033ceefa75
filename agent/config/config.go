// Package config is the agent's own file: who it is, what it watches, where the bus is. reference.yaml documents every field.
//
// Secrets are never in it: a connection string is named by its file or environment variable.
package config

import (
	_ "embed" // the reference
	"log/slog"
	"net/netip"
	"time"

	"github.com/pointsman/pointsman/agent/bfd"
	"github.com/pointsman/pointsman/agent/check"
	"github.com/pointsman/pointsman/agent/echo"
	"github.com/pointsman/pointsman/agent/reach"
	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/agent/scheduled"
	"github.com/pointsman/pointsman/agent/source/bgp"
	"github.com/pointsman/pointsman/shared/route"
)

// Config is a complete, checked configuration.
type Config struct {
	Domain, NVA string
	Bus         Bus
	Sources     []Source // in the order of precedence
	Include     []route.Match
	Exclude     []route.Match
	Gather      Gather
	Beat        Beat
	Snapshot    time.Duration
	Restart     time.Duration
	OnStop      OnStop
	StopTimeout time.Duration
	Listen      netip.AddrPort // zero: no HTTP
	StateDir    string
	Signing     Signing
	Log         Log

	Witness         *Witness            // nil: no peers are watched, and nobody is answered
	SelfCheck       []check.Config      // any that fails counts against this NVA
	ScheduledEvents *scheduled.Settings // nil: Azure is not asked
	RouteServer     *routeserver.Config // nil: no Route Server is spoken to
}

// Witness says which peers are watched, and how.
type Witness struct {
	Listen   netip.AddrPort // of UDP echo; zero: there is none, and nothing of the next three
	KeyFile  string
	Every    time.Duration
	Misses   int
	SelfTest SelfTest
	Peers    []echo.Peer
	BFD      []bfd.Session // with the names of the NVAs
}

// SelfTest says how this machine makes sure that its own packets get out.
type SelfTest struct {
	Targets        []reach.Target // none: there is no self-test
	Every, Timeout time.Duration
	Misses         int // rounds in a row that fail until the self-test has failed
}

// Bus says where events go. Exactly one of the three ways to get there is set.
type Bus struct {
	Queue                string
	Namespace            string // host name; with the managed identity
	ClientID             string // of a user-assigned managed identity; only with Namespace
	ConnectionStringFile string
	ConnectionStringEnv  string
}

// Source is one thing that is watched: exactly one of the kinds is set.
type Source struct {
	Kernel *Kernel
	BGP    *bgp.Config
}

// Kernel is a source: the kernel's routing tables. Zero values are the kernel source's own defaults.
type Kernel struct {
	Tables       []uint32
	Protocols    []uint8
	Interfaces   []string
	Include      []route.Match
	Exclude      []route.Match
	Blackhole    bool
	KeepLinkdown bool
	ReadBuffer   int // bytes
	Resync       time.Duration
}

// Gather says how long changes are collected into one event.
type Gather struct{ Quiet, Max time.Duration }

// Beat says how the dead-man switch is kept.
type Beat struct{ Every, Timeout time.Duration }

// Signing says how events are signed.
type Signing struct {
	KeyFile string // of the private key; "": they are not
}

// Log says what is logged, and how.
type Log struct {
	Level slog.Level
	JSON  bool
}

// OnStop says what the agent tells when it is stopped.
type OnStop uint8

// What an agent can tell.
const (
	Auto     OnStop = iota + 1 // Draining if the system is shutting down, else Goodbye
	Draining                   // move the traffic away
	Goodbye                    // keep it for the restart time
)

// String returns the word of the file.
func (o OnStop) String() string {
	switch o {
	case Auto:
		return "auto"
	case Draining:
		return "draining"
	case Goodbye:
		return "goodbye"
	}
	return "?"
}

// The defaults of what has no default of its own in the kernel source.
const (
	DefaultQueue       = "route-events"
	DefaultQuiet       = 100 * time.Millisecond
	DefaultMax         = time.Second
	DefaultEvery       = 5 * time.Second
	DefaultTimeout     = 15 * time.Second
	DefaultSnapshot    = 10 * time.Minute
	DefaultRestart     = 2 * time.Minute
	DefaultStopTimeout = 5 * time.Second
	DefaultListen      = "127.0.0.1:9810"
	DefaultStateDir    = "/var/lib/pointsman"
	DefaultReadBuffer  = 8 << 20
	DefaultResync      = 5 * time.Minute
	mainTable          = 254

	DefaultBGPPort        = 179 // RFC 4271, section 8.2.1.1
	DefaultBGPRestartTime = 2 * time.Minute
	DefaultMaxPrefixes    = 10_000
	DefaultHoldTime       = 90 * time.Second // RFC 4271, section 10

	DefaultRouteServerHoldTime    = 180 * time.Second // Route Server's own (FAQ)
	DefaultRouteServerRestartTime = 30 * time.Second
	DefaultRouteServerPace        = 30 * time.Second

	DefaultProbeEvery      = 200 * time.Millisecond
	DefaultProbeMisses     = 5
	DefaultSelfTestEvery   = time.Second
	DefaultSelfTestTimeout = 500 * time.Millisecond
	DefaultSelfTestMisses  = 3

	DefaultBFDInterval   = 300 * time.Millisecond // as FRR's bfdd
	DefaultBFDMultiplier = 3

	DefaultCheckEvery   = 5 * time.Second
	DefaultCheckTimeout = 2 * time.Second
	DefaultCheckFall    = 2
	DefaultCheckRise    = 2

	DefaultEventsEvery  = 5 * time.Second
	DefaultEventsLead   = time.Minute
	DefaultEventsSettle = 30 * time.Second
)

//go:embed reference.yaml
var reference string

// Reference returns the file that documents every field with its default.
func Reference() string { return reference }
