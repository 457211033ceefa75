package kernel

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"
)

// Uplinks follows some links by their names.
type Uplinks struct {
	names []string
	cfg   Config
	log   *slog.Logger
}

// NewUplinks returns a follower of the links with these names. Of cfg only NetNS counts. Nothing is opened before Run.
func NewUplinks(names []string, cfg Config, log *slog.Logger) *Uplinks {
	return &Uplinks{names: names, cfg: cfg, log: log}
}

// String names the links.
func (u *Uplinks) String() string { return "uplinks " + strings.Join(u.names, ", ") }

// Run tells which of the links do not carry, one sentence for each ("eth1 has no carrier"): once at first, and whenever that changes, until ctx is
// done; then it returns nil. It returns an error if netlink is not permitted, and [ErrNotSupported] on systems other than Linux; after any
// other error it starts anew, and what it told last holds meanwhile.
func (u *Uplinks) Run(ctx context.Context, tell func(problems []string)) error {
	err := persist(ctx, func() error { return u.follow(ctx, tell) }, func(err error, pause time.Duration) {
		u.log.LogAttrs(ctx, slog.LevelWarn, "watching links failed, trying again", slog.Duration("pause", pause), slog.Any("error", err))
	})
	if err != nil {
		return fmt.Errorf("%v: %w", u, err)
	}
	return nil
}

// problems says what is wrong with the links of that name, in the order of the names.
func (u *Uplinks) problems(links map[uint32]link) []string {
	states := map[string]linkState{}
	for _, l := range links {
		if slices.Contains(u.names, l.name) {
			states[l.name] = l.state
		}
	}
	out := []string{}
	for _, name := range u.names {
		switch states[name] {
		case linkUp:
		case linkNoCarrier:
			out = append(out, name+" has no carrier")
		case linkDown:
			out = append(out, name+" is down")
		default:
			out = append(out, name+" does not exist")
		}
	}
	return out
}
