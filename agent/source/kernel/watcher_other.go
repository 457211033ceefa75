//go:build !linux

package kernel

import (
	"context"
	"net/netip"

	"github.com/pointsman/pointsman/agent/source"
)

func (w *Watcher) follow(context.Context, source.Sink) error { return ErrNotSupported }

func (u *Uplinks) follow(context.Context, func([]string)) error { return ErrNotSupported }

func final(error) bool { return true }

// Lookup returns [ErrNotSupported].
func Lookup(context.Context, Config, netip.Addr) (Way, error) { return Way{}, ErrNotSupported }
