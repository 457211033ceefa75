// Package gobgp is the [bgp.Speaker] on top of github.com/osrg/gobgp/v4, and the only package that runs its server (docs/adr/0009, 0017).
//
// What of gobgp is used, and why so:
//
//   - One server for each source, no gRPC listener, only the two families: its tables cost memory for each family.
//   - It may learn and never tell: the default of import and export policy is REJECT. What it hears is taken from the Adj-RIB-In, before
//     policy, so the routes are not held a second time in its Loc-RIB.
//   - AllowOwnAsn: a path with our own AS in it would else be dropped without an event, and the path that it replaces would stay
//     (gobgp issue 2832, fixed after v4.8.0). Package bgp refuses such paths itself.
//   - Withdrawals that it makes up when a session ends are not asked for (WatchAdjInWithdraw): only what the peer says counts.
package gobgp

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"net/netip"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/api"
	"github.com/osrg/gobgp/v4/pkg/apiutil"
	gobgp "github.com/osrg/gobgp/v4/pkg/packet/bgp"
	"github.com/osrg/gobgp/v4/pkg/server"

	"github.com/pointsman/pointsman/agent/source/bgp"
)

// DefaultRetry is how long a peer that was cut off for too many prefixes stays so.
const DefaultRetry = 5 * time.Minute

// Speaker speaks BGP with the peers of a configuration.
type Speaker struct {
	cfg   bgp.Config
	retry time.Duration
	log   *slog.Logger
}

var _ bgp.Speaker = (*Speaker)(nil)

// New returns a speaker; nothing is opened before Speak. retry is how long a peer that was cut off for too many prefixes stays so.
func New(cfg bgp.Config, retry time.Duration, log *slog.Logger) *Speaker {
	return &Speaker{cfg: cfg, retry: retry, log: log}
}

// Speak implements [bgp.Speaker]. A port that may not be opened and a password that cannot be read wrap [bgp.ErrUnusable].
func (s *Speaker) Speak(ctx context.Context, h bgp.Hearer) error {
	passwords, err := s.passwords()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	srv := server.NewBgpServer(server.LoggerOption(slog.New(newQuiet(s.log.Handler())), nil))
	l := &listener{Speaker: s, ctx: ctx, server: srv, hearer: h, up: make([]bool, len(s.cfg.Peers))}
	var served sync.WaitGroup
	served.Go(srv.Serve)
	defer func() { // in this order: a watcher that outlives its server would wait for it for ever
		cancel()
		l.close()
		srv.Stop()
		served.Wait()
	}()
	if err = s.start(ctx, srv); err != nil {
		return err
	}
	if err = l.watch(ctx); err != nil {
		return err
	}
	for i, p := range s.cfg.Peers {
		if err = srv.AddPeer(ctx, &api.AddPeerRequest{Peer: s.peer(p, passwords[i])}); err != nil {
			return fmt.Errorf("%w: peer %s: %w", bgp.ErrUnusable, p.Name, err)
		}
	}
	<-ctx.Done()
	return nil
}

// passwords reads the keys of all peers. A key ends before the end of its line.
func (s *Speaker) passwords() ([]string, error) {
	out := make([]string, len(s.cfg.Peers))
	for i, p := range s.cfg.Peers {
		if p.PasswordFile == "" {
			continue
		}
		text, err := os.ReadFile(p.PasswordFile)
		if err != nil {
			return nil, fmt.Errorf("%w: password of peer %s: %w", bgp.ErrUnusable, p.Name, err)
		}
		out[i] = strings.TrimSpace(string(text))
		// Linux takes keys up to TCP_MD5SIG_MAXKEYLEN (include/uapi/linux/tcp.h).
		if n := len(out[i]); n == 0 || n > 80 {
			return nil, fmt.Errorf("%w: password of peer %s: %s holds %d bytes: want 1 to 80", bgp.ErrUnusable, p.Name, p.PasswordFile, n)
		}
	}
	return out, nil
}

func (s *Speaker) start(ctx context.Context, srv *server.BgpServer) error {
	global := &api.Global{
		Asn: s.cfg.AS, RouterId: s.cfg.RouterID.String(), ListenPort: -1,
		Families: []uint32{0, 1}, // oc.IntToAfiSafiTypeMap: ipv4-unicast, ipv6-unicast
	}
	if l := s.cfg.Listen; l.IsValid() {
		global.ListenPort, global.ListenAddresses = int32(l.Port()), []string{l.Addr().String()}
	}
	err := srv.StartBgp(ctx, &api.StartBgpRequest{Global: global})
	if errors.Is(err, fs.ErrPermission) {
		return fmt.Errorf("%w: listen: %w", bgp.ErrUnusable, err)
	}
	if err != nil {
		return fmt.Errorf("start BGP: %w", err)
	}
	for _, direction := range []api.PolicyDirection{api.PolicyDirection_POLICY_DIRECTION_EXPORT, api.PolicyDirection_POLICY_DIRECTION_IMPORT} {
		err = srv.SetPolicyAssignment(ctx, &api.SetPolicyAssignmentRequest{Assignment: &api.PolicyAssignment{
			Name: "global", Direction: direction, DefaultAction: api.RouteAction_ROUTE_ACTION_REJECT,
		}})
		if err != nil {
			return fmt.Errorf("reject all routes in direction %v: %w", direction, err)
		}
	}
	return nil
}

// peer translates a peer.
func (s *Speaker) peer(p bgp.Peer, password string) *api.Peer {
	hold := uint64(p.HoldTime / time.Second)
	out := &api.Peer{
		Conf: &api.PeerConf{
			NeighborAddress: p.Address.String(), PeerAsn: p.AS, LocalAsn: s.cfg.AS, AuthPassword: password, AllowOwnAsn: math.MaxUint8,
		},
		Timers:    &api.Timers{Config: &api.TimersConfig{HoldTime: hold, KeepaliveInterval: max(hold/3, 1), ConnectRetry: 5}},
		Transport: &api.Transport{PassiveMode: p.Passive, RemotePort: uint32(p.Port)},
		// Without this capability a peer sends no End-of-RIB. A helper keeps no state of its own over a restart.
		GracefulRestart: &api.GracefulRestart{Enabled: true, HelperOnly: true},
	}
	if p.LocalAddress.IsValid() {
		out.Transport.LocalAddress = p.LocalAddress.String()
	}
	if p.Multihop > 0 {
		out.EbgpMultihop = &api.EbgpMultihop{Enabled: true, MultihopTtl: uint32(p.Multihop)}
	}
	if p.TTLSecurity > 0 {
		// RFC 5082, section 3: sent with 255, each hop takes one.
		out.TtlSecurity = &api.TtlSecurity{Enabled: true, TtlMin: 256 - uint32(p.TTLSecurity)}
	}
	for _, f := range p.Families {
		family := &api.Family{Afi: api.Family_AFI_IP, Safi: api.Family_SAFI_UNICAST}
		if f == bgp.IPv6Unicast {
			family.Afi = api.Family_AFI_IP6
		}
		out.AfiSafis = append(out.AfiSafis, &api.AfiSafi{
			Config:            &api.AfiSafiConfig{Family: family, Enabled: true},
			MpGracefulRestart: &api.MpGracefulRestart{Config: &api.MpGracefulRestartConfig{Enabled: true}},
			PrefixLimits:      &api.PrefixLimit{Family: family, MaxPrefixes: uint32(s.cfg.CeaseAt())},
		})
	}
	return out
}

// listener turns gobgp's events into calls of the hearer. gobgp makes its calls in one goroutine, from a queue without bound: they must
// not wait for anything.
type listener struct {
	*Speaker
	ctx     context.Context // of one call of Speak
	server  *server.BgpServer
	retries sync.WaitGroup

	mu     sync.Mutex
	closed bool
	hearer bgp.Hearer
	up     []bool
	paths  []bgp.Path // used again
}

func (l *listener) watch(ctx context.Context) error {
	err := l.server.WatchEvent(ctx, server.WatchEventMessageCallbacks{
		OnPathUpdate: l.onUpdate, OnPathEor: l.onEndOfRIB, OnPeerUpdate: l.onPeer,
	}, server.WatchUpdate(false, "", ""), server.WatchEor(false), server.WatchPeer())
	if err != nil {
		return fmt.Errorf("watch events: %w", err)
	}
	return nil
}

// close ends the calls of the hearer; the last one has returned then.
func (l *listener) close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.retries.Wait()
}

// index returns which peer has the address, or -1.
func (l *listener) index(a netip.Addr) int {
	for i, p := range l.cfg.Peers {
		if p.Address == a.Unmap() {
			return i
		}
	}
	return -1
}

func (l *listener) onUpdate(paths []*apiutil.Path, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed || len(paths) == 0 {
		return
	}
	i := l.index(paths[0].PeerAddress)
	if i < 0 {
		return
	}
	l.paths = l.paths[:0]
	for _, p := range paths {
		if is, ok := toPath(p); ok {
			l.paths = append(l.paths, is)
		}
	}
	l.hearer.Update(i, l.paths)
}

func (l *listener) onEndOfRIB(p *apiutil.Path, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f, known := toFamily(p.Family)
	if i := l.index(p.PeerAddress); !l.closed && known && i >= 0 {
		l.hearer.EndOfRIB(i, f)
	}
}

func (l *listener) onPeer(e *apiutil.WatchEventMessage_PeerEvent, _ time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.index(e.Peer.State.NeighborAddress)
	if l.closed || i < 0 || e.Type != apiutil.PEER_EVENT_STATE {
		return
	}
	if e.Peer.State.SessionState == gobgp.BGP_FSM_ESTABLISHED {
		l.up[i] = true
		families, restart := agreed(l.cfg.Peers[i].Families, e.Peer.State.RemoteCap)
		l.hearer.Established(i, families, restart)
		return
	}
	reason := reasonOf(&e.Peer.State)
	if !l.up[i] && reason == "" {
		return // on its way
	}
	ceased := l.up[i] && e.Peer.State.AdminState == api.PeerState_ADMIN_STATE_PFX_CT
	l.up[i] = false
	l.hearer.Lost(i, reason, ceased)
	if ceased {
		l.retries.Go(func() { l.readmit(l.cfg.Peers[i]) })
	}
}

// readmit lets a peer that was cut off try again, later.
func (l *listener) readmit(p bgp.Peer) {
	timer := time.NewTimer(l.retry)
	defer timer.Stop()
	select {
	case <-l.ctx.Done():
		return
	case <-timer.C:
	}
	if err := l.server.EnablePeer(l.ctx, &api.EnablePeerRequest{Address: p.Address.String()}); err != nil {
		l.log.LogAttrs(l.ctx, slog.LevelWarn, "a peer that was cut off cannot be readmitted", slog.String("peer", p.Name), slog.Any("error", err))
	}
}
