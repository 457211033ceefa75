package gobgp

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// quietFor is how long the same warning is not passed on again: a peer that hammers must not fill the disk.
const quietFor = time.Minute

// quiet passes on what gobgp warns of, but no warning about one peer twice within quietFor. The life of sessions is logged by
// package bgp.
type quiet struct {
	slog.Handler
	about string // the attributes of the logger, the peer among them
	said  *said
}

// said is when which warning was passed on. There are as many as gobgp has texts, times peers.
type said struct {
	mu sync.Mutex
	at map[string]time.Time
}

func newQuiet(h slog.Handler) quiet {
	return quiet{Handler: h, said: &said{at: map[string]time.Time{}}}
}

// Enabled implements [slog.Handler].
func (q quiet) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelWarn && q.Handler.Enabled(ctx, level)
}

// Handle implements [slog.Handler].
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if !q.said.first(q.about+r.Message, r.Time) {
		return nil
	}
	return q.Handler.Handle(ctx, r) //nolint:wrapcheck // a handler in front of another
}

func (s *said) first(text string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.at[text]; ok && now.Sub(at) < quietFor {
		return false
	}
	s.at[text] = now
	return true
}

// WithAttrs implements [slog.Handler].
func (q quiet) WithAttrs(attrs []slog.Attr) slog.Handler {
	return quiet{q.Handler.WithAttrs(attrs), q.about + fmt.Sprint(attrs), q.said}
}

// WithGroup implements [slog.Handler].
func (q quiet) WithGroup(name string) slog.Handler {
	return quiet{q.Handler.WithGroup(name), q.about + name, q.said}
}
