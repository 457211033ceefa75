// Package sim runs the product in a made-up world, in one goroutine and in virtual time.
//
//	NVAs: kernel routes, agent/rib + agent/publish       third parties, operators        luck (a seed) or a text decide
//	       │ publish, schedule, cancel                        │ edit, give orders        what happens and what goes wrong
//	       ▼                                                  ▼
//	bus: two queues ──▶ host: functions/ingest, /reconcile, /sweep ──▶ route tables, Route Servers, blobs
//	                    one coroutine an invocation; it yields at every call
//
// The code in the boxes is the product's own, not a copy; the world around it (bus, host, tables, Route Servers and what they learn by BGP, blobs, NVAs) belongs to this package and
// shares nothing with the emulators. Every call that a function makes gives the turn back: whatever else is due then may happen between
// the question and its effect, and the call itself may fail before or after its effect, take long, or be the last thing that the process does.
//
// After every write of a table the invariants of ARCHITECTURE.md are checked (check.go) by rules that are written down a second time here
// and share no code with shared/selection and shared/plan. A history ends in stabilize: faults stop, time passes, and the table must be what
// the living NVAs say; then all of history is delivered again, and nothing may be written.
//
// Two things drive a world: a seed (history.go; a failing one is reduced to the few things that matter and told as a story), or a
// text that a network engineer can read and write (scenario.go, testdata).
package sim
