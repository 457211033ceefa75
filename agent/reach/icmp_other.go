//go:build !linux

package reach

import (
	"context"
	"errors"
	"syscall"
)

var errNotSupported = errors.New("supported on linux only")

func (t Target) bind(syscall.RawConn) error {
	if t.Interface != "" {
		return errNotSupported
	}
	return nil
}

func (t Target) tryICMP(context.Context) error { return errNotSupported }
