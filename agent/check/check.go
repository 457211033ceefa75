// Package check finds out whether an NVA is fit to forward: by a program, by a service that must accept connections, by links that must
// carry. A check that fails is positive evidence against the NVA, in whatever state its peers and the bus see it.
package check

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/shared/event"
)

// Config is one check: exactly one of Command, TCP and Uplinks is set.
type Config struct {
	Command []string       // program with its arguments; exit code 0 is a success
	TCP     netip.AddrPort // a connection must be accepted
	Uplinks []string       // links that must carry; the four fields below are of no use then

	Every, Timeout time.Duration
	Fall           int // failures in a row until the check has failed
	Rise           int // successes in a row until it passes again
}

// String names the check for people.
func (c Config) String() string {
	switch {
	case len(c.Command) > 0:
		return "command " + c.Command[0]
	case c.TCP.IsValid():
		return "tcp " + c.TCP.String()
	}
	return "uplinks " + strings.Join(c.Uplinks, ", ")
}

// Links tells which links do not carry, as kernel.Uplinks does.
type Links interface {
	Run(ctx context.Context, tell func(problems []string)) error
}

// Checks is the observer of all checks. Together they are as bad as the worst.
type Checks struct {
	checks []Config
	links  func(names []string) Links
}

var _ report.Observer = (*Checks)(nil)

// New returns an observer that does nothing before Run; links is asked for every check of uplinks.
func New(checks []Config, links func(names []string) Links) *Checks {
	return &Checks{checks: checks, links: links}
}

// String implements report.Observer.
func (c *Checks) String() string { return "self-check" }

// finding is what one check says from now on.
type finding struct {
	check int
	event.Report
}

// Run implements report.Observer.
func (c *Checks) Run(ctx context.Context, tell func(event.Report)) error {
	group, ctx := errgroup.WithContext(ctx)
	findings := make(chan finding)
	for i, one := range c.checks {
		found := func(outcome event.Check, reason string) {
			select {
			case findings <- finding{check: i, Report: event.Report{SelfCheck: outcome, Reason: reason}}:
			case <-ctx.Done():
			}
		}
		if len(one.Uplinks) > 0 {
			group.Go(func() error { return c.follow(ctx, one, found) })
		} else {
			group.Go(func() error { repeat(ctx, one, found); return nil })
		}
	}
	group.Go(func() error {
		parts := make([]event.Report, len(c.checks))
		for {
			select {
			case f := <-findings:
				parts[f.check] = f.Report
				tell(report.Join(parts...))
			case <-ctx.Done():
				return nil
			}
		}
	})
	if err := group.Wait(); err != nil {
		return fmt.Errorf("self-check: %w", err)
	}
	return nil
}

// follow is a check that learns of every change: there is nothing to count.
func (c *Checks) follow(ctx context.Context, check Config, found func(event.Check, string)) error {
	err := c.links(check.Uplinks).Run(ctx, func(problems []string) {
		if len(problems) > 0 {
			found(event.Failed, strings.Join(problems, ", "))
			return
		}
		found(event.Passed, "")
	})
	if err != nil {
		return fmt.Errorf("%s: %w", check, err)
	}
	return nil
}

// repeat is a check that is made every so often.
func repeat(ctx context.Context, check Config, found func(event.Check, string)) {
	s := streak{fall: check.Fall, rise: check.Rise}
	ticker := time.NewTicker(check.Every)
	defer ticker.Stop()
	for {
		err := attempt(ctx, check)
		if ctx.Err() != nil {
			return // it was interrupted, which says nothing
		}
		if outcome, reason, changed := s.take(err); changed {
			if reason != "" {
				reason = check.String() + ": " + reason
			}
			found(outcome, reason)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			return
		}
	}
}

func attempt(ctx context.Context, check Config) error {
	ctx, cancel := context.WithTimeout(ctx, check.Timeout)
	defer cancel()
	if len(check.Command) > 0 {
		return execute(ctx, check.Command, check.Timeout)
	}
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", check.TCP.String())
	if err != nil {
		return err //nolint:wrapcheck // it names the operation and the address
	}
	_ = conn.Close()
	return nil
}

// streak turns single outcomes into a state with inertia. The first success decides, for until then nothing is known; a failure never does alone,
// unless fall is 1.
type streak struct {
	fall, rise int
	outcome    event.Check
	reason     string
	run        int  // outcomes in a row
	good       bool // what they are
}

// take takes in an outcome; changed is false if there is nothing new to tell.
func (s *streak) take(err error) (outcome event.Check, reason string, changed bool) {
	if good := err == nil; good != s.good {
		s.good, s.run = good, 0
	}
	s.run++
	was, why := s.outcome, s.reason
	switch {
	case err != nil && (s.run >= s.fall || s.outcome == event.Failed):
		s.outcome, s.reason = event.Failed, err.Error()
	case err == nil && (s.run >= s.rise || s.outcome == event.Absent):
		s.outcome, s.reason = event.Passed, ""
	}
	return s.outcome, s.reason, s.outcome != was || s.reason != why
}
