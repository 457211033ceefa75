package preflight

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/pointsman/pointsman/shared/preflight"
)

// unsynchronised is STA_UNSYNC of adjtimex(2): no daemon has set the clock lately.
const unsynchronised = 0x40

// synchronised asks the kernel whether something keeps its clock.
func synchronised() preflight.Read[bool] {
	var t unix.Timex // modes 0: nothing is changed
	if _, err := unix.Adjtimex(&t); err != nil {
		return preflight.Read[bool]{Err: fmt.Errorf("ask the kernel: %w", err)}
	}
	return preflight.Read[bool]{Value: t.Status&unsynchronised == 0}
}
