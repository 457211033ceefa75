//go:build !bgp

package main

import (
	"log/slog"

	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source/bgp"
)

// absentKinds returns the kinds of source that this build has not: BGP nearly doubles the binary (docs/adr/0009).
func absentKinds() []string { return []string{"bgp"} }

// addBGP is never called: the configuration has been refused.
func addBGP(*run.Config, *bgp.Config, *slog.Logger) {
	panic("pointsman-agent: a bgp source in a build without BGP")
}
