package kernel

import (
	"context"
	"encoding/binary"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// fibMatch is RTM_F_FIB_MATCH: the answer is the route of the table and not what becomes of it for this destination (Linux 4.13; IPv6: 4.20).
const fibMatch = 0x2000

// Lookup returns the route by which the kernel reaches an address. Of cfg only NetNS counts. A destination that cannot be reached is an error.
func Lookup(ctx context.Context, cfg Config, to netip.Addr) (Way, error) {
	var found route
	err := with(ctx, &cfg, nil, func(s *socket) error {
		answer, err := s.conn.Execute(netlink.Message{Header: netlink.Header{Type: unix.RTM_GETROUTE, Flags: netlink.Request}, Data: lookupRequest(to)})
		if err != nil {
			return fmt.Errorf("ask for the route to %s: %w", to, err)
		}
		for _, m := range answer {
			if found, err = decodeRoute(m.Data); err != nil {
				return fmt.Errorf("route to %s: %w", to, err)
			}
		}
		return nil
	})
	if err != nil {
		return Way{}, err
	}
	links, err := NewUplinks(nil, cfg, slog.New(slog.DiscardHandler)).dump(ctx)
	if err != nil {
		return Way{}, err
	}
	w := Way{Prefix: found.prefix, Protocol: protocolName(found.protocol)}
	w.Dynamic = dynamic(w.Protocol)
	if len(found.legs) > 0 {
		w.Via, w.Link = found.legs[0].via, links[found.legs[0].link].name
	}
	return w, nil
}

// lookupRequest is a struct rtmsg that asks for one destination, followed by RTA_DST.
func lookupRequest(to netip.Addr) []byte {
	b := make([]byte, unix.SizeofRtMsg, unix.SizeofRtMsg+unix.SizeofRtAttr+16)
	b[0], b[1] = unix.AF_INET, byte(to.BitLen())
	if to.Is6() {
		b[0] = unix.AF_INET6
	}
	binary.NativeEndian.PutUint32(b[8:], fibMatch)
	raw := to.AsSlice()
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(raw)))
	b = binary.NativeEndian.AppendUint16(b, unix.RTA_DST)
	return append(b, raw...)
}
