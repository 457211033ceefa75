//go:build !linux

package bfd

import "context"

func (s *Speaker) run(context.Context, func(Change)) error { return ErrNotSupported }
