package main

import (
	"context"
	"net/netip"
	"time"
)

// nva is an appliance: a real agent over real routes, or recorded events. The instants are those at which the change was made.
type nva interface {
	// boot starts the agent on an appliance without routes.
	boot(ctx context.Context) error
	learn(ctx context.Context, prefixes []netip.Prefix) (time.Time, error)
	withdraw(ctx context.Context, prefixes []netip.Prefix) (time.Time, error)
	// flap takes the prefixes away and brings them back, as fast as it can; it returns how long that took.
	flap(ctx context.Context, prefixes []netip.Prefix) (time.Duration, error)
	// die is a loss of power: no goodbye.
	die(ctx context.Context) (time.Time, error)
	// comeBack is power again: the appliance has learned the prefixes when its agent starts.
	comeBack(ctx context.Context, prefixes []netip.Prefix) (time.Time, error)
	// log is the file of the agent's log, "" if there is none.
	log() string
	// explore returns lines for the shell of a person who wants to look around; in them, short runs a command on the appliance.
	explore(short string) []string
	close() error
}

// The two NVAs as the domain file has them.
const (
	nameA, hopA = "nva-a", "10.0.0.4"
	nameB, hopB = "nva-b", "10.0.0.5"
)

// domain is the domain file.
const domain = "hub"

// silence is how long an agent must be silent until its dead-man switch fires; holdDown is how long an NVA that has come up must stay up
// until it takes its prefixes back. Both are short here: the defaults are 15 s and 30 s.
const (
	silence  = 4 * time.Second
	holdDown = 5 * time.Second
)
