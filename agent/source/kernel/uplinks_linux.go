package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// follow opens a socket for the events of links and tells what they make of the links. As with routes (follow_linux.go), it subscribes first and dumps
// then, and dumps again when events were lost.
func (u *Uplinks) follow(ctx context.Context, tell func([]string)) error {
	return with(ctx, &u.cfg, []uint{unix.RTNLGRP_LINK}, func(events *socket) error {
		var told []string
		for {
			links, err := u.dump(ctx)
			if err != nil {
				return err
			}
			for err == nil {
				if is := u.problems(links); told == nil || !slices.Equal(is, told) {
					told = is
					tell(slices.Clone(is))
				}
				var b []byte
				if b, err = events.wait(time.Time{}); err == nil {
					u.apply(ctx, links, b)
				}
			}
			if !errors.Is(err, unix.ENOBUFS) {
				return err
			}
		}
	})
}

// dump reads all links.
func (u *Uplinks) dump(ctx context.Context) (map[uint32]link, error) {
	links := map[uint32]link{}
	err := with(ctx, &u.cfg, nil, func(s *socket) error {
		_, err := s.request(unix.RTM_GETLINK, make([]byte, unix.SizeofIfInfomsg), func(b []byte) error {
			index, l, unreadable := decodeLink(b)
			if unreadable == nil {
				links[index] = l
			}
			return unreadable
		})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("dump links: %w", err)
	}
	return links, nil
}

// apply takes the events of a datagram into links.
func (u *Uplinks) apply(ctx context.Context, links map[uint32]link, b []byte) {
	for len(b) > 0 {
		m, rest, err := cut(b)
		if err != nil {
			u.log.LogAttrs(ctx, slog.LevelWarn, "netlink message unreadable", slog.Any("error", err))
			return
		}
		b = rest
		if m.kind != unix.RTM_NEWLINK && m.kind != unix.RTM_DELLINK {
			continue
		}
		index, l, err := decodeLink(m.payload)
		switch {
		case errors.Is(err, errIgnored):
		case err != nil:
			u.log.LogAttrs(ctx, slog.LevelWarn, "netlink message unreadable", slog.Any("error", err))
		case m.kind == unix.RTM_DELLINK:
			delete(links, index)
		default:
			links[index] = l
		}
	}
}
