//go:build !bgp

package main

import (
	"log/slog"

	"github.com/pointsman/pointsman/agent/config"
	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/agent/run"
	"github.com/pointsman/pointsman/agent/source/bgp"
)

// memoryLimit holds 100,000 routes of the kernel.
const memoryLimit = 64 << 20

// absentKinds returns what of the configuration this build has not: BGP nearly doubles the binary (docs/adr/0009).
func absentKinds() []string { return []string{"bgp"} }

// addBGP is never called: the configuration has been refused.
func addBGP(*run.Config, *bgp.Config, *slog.Logger) {
	panic("pointsman-agent: a bgp source in a build without BGP")
}

// addRouteServer is never called either.
func addRouteServer(*run.Config, *routeserver.Config, config.OnStop, *slog.Logger) {
	panic("pointsman-agent: a Route Server in a build without BGP")
}
