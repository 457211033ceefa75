package blob

import (
	"cmp"
	"maps"

	"github.com/pointsman/pointsman/emulator/internal/web"
)

// Fault is something that goes wrong with the requests that it matches.
type Fault = web.Fault

// Faults controls what goes wrong.
type Faults = web.Faults

// scripted returns what a fault answers.
func scripted(f Fault) response {
	if f.DropConnection {
		return response{}
	}
	answer := fail(f.Status, cmp.Or(f.Code, "ServerBusy"), cmp.Or(f.Message, "Scripted failure."))
	maps.Copy(answer.header, f.Header)
	return answer
}
