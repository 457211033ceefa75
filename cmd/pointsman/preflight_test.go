package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/pointsman/pointsman/shared/preflight"
)

// What people and programs read of findings.
func TestFindings(t *testing.T) {
	findings := []preflight.Finding{
		{Severity: preflight.OK, Check: "rights", Of: "spokes", Found: "the function app's identity may do what is needed"},
		{Severity: preflight.Error, Check: "locks", Of: "spokes", Found: "lock a (ReadOnly) on /s: every write is refused", Do: "remove the lock"},
		{Severity: preflight.Unknown, Check: "bus", Found: "could not be checked: no namespace is named", Do: "name it with --bus-namespace"},
	}
	for output, want := range map[string]string{
		"table": `ok       rights  spokes  the function app's identity may do what is needed
error    locks   spokes  lock a (ReadOnly) on /s: every write is refused
                           do: remove the lock
unknown  bus             could not be checked: no namespace is named
                           do: name it with --bus-namespace
1 error, 1 unknown, 1 ok
`,
		"json": `[
  {
    "severity": "ok",
    "check": "rights",
    "of": "spokes",
    "found": "the function app's identity may do what is needed"
  },
  {
    "severity": "error",
    "check": "locks",
    "of": "spokes",
    "found": "lock a (ReadOnly) on /s: every write is refused",
    "do": "remove the lock"
  },
  {
    "severity": "unknown",
    "check": "bus",
    "found": "could not be checked: no namespace is named",
    "do": "name it with --bus-namespace"
  }
]
`,
	} {
		var b strings.Builder
		if err := printFindings(&b, output, findings); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", output, diff)
		}
	}
}

// The host of the bus is found in the connection string of the emulator and of Azure alike.
func TestHostOf(t *testing.T) {
	for connection, want := range map[string]string{
		"Endpoint=sb://bus.servicebus.windows.net/;SharedAccessKeyName=a;SharedAccessKey=Endpoint=": "bus.servicebus.windows.net",
		"SharedAccessKeyName=a; Endpoint=sb://127.0.0.1:5672;UseDevelopmentEmulator=true":           "127.0.0.1:5672",
		"Endpoint=sb://%zz/": "", "": "", "nonsense": "",
	} {
		if got := hostOf(connection); got != want {
			t.Errorf("%q: %q, want %q", connection, got, want)
		}
	}
}
