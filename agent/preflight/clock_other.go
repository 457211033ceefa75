//go:build !linux

package preflight

import (
	"errors"

	"github.com/pointsman/pointsman/shared/preflight"
)

func synchronised() preflight.Read[bool] {
	return preflight.Read[bool]{Err: errors.New("not on this system")}
}
