// Package lab puts the agent beside real routing daemons, FRR and BIRD, in network namespaces of its own. It also holds what tests of
// BGP need elsewhere: a [Talker] that says what a test wants, and a [Recorder] of what a route source reports.
package lab
