// Package echo watches peers by UDP echo through the data plane: every agent probes its peers and answers those that probe it. Packets are
// authenticated, of one size, and never answered unless they are (packet.go); Machine decides, Prober does the I/O.
package echo

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/agent/witness"
)

// Metrics counts what a prober does. The fields may be read at any time.
type Metrics struct {
	Answers atomic.Uint64        // sent
	Dropped [drops]atomic.Uint64 // by reason
	Unsent  atomic.Uint64        // packets that the kernel refused
	Peers   []PeerMetrics        // as Config.Peers
}

// PeerMetrics counts what happens with one peer.
type PeerMetrics struct {
	NVA      string
	Sent     atomic.Uint64
	Answered atomic.Uint64
	RTT      atomic.Int64 // of the latest answer, in nanoseconds; 0: none yet
}

// NewMetrics returns counters for the peers.
func NewMetrics(peers []Peer) *Metrics {
	m := &Metrics{Peers: make([]PeerMetrics, len(peers))}
	for i, p := range peers {
		m.Peers[i].NVA = p.NVA
	}
	return m
}

// Reasons returns why packets are dropped, each once.
func Reasons() []Drop { return []Drop{Malformed, BadMAC, Unknown, Stale, Limited} }

// Prober is the task that probes and answers.
type Prober struct {
	cfg     Config
	listen  netip.AddrPort
	keys    *Keys
	log     *slog.Logger
	metrics *Metrics
	open    func(context.Context) (*net.UDPConn, error)
	trouble atomic.Pointer[string]
}

var (
	_ witness.Method  = (*Prober)(nil)
	_ report.Troubled = (*Prober)(nil)
	_ report.Detailed = (*Prober)(nil)
)

// New returns a prober that listens on an address of the data plane, which its own probes come from too. Nothing is opened before Run.
func New(cfg Config, listen netip.AddrPort, keys *Keys, log *slog.Logger, metrics *Metrics) *Prober {
	return &Prober{cfg: cfg, listen: listen, keys: keys, log: log, metrics: metrics, open: func(ctx context.Context) (*net.UDPConn, error) {
		return Listen(ctx, listen)
	}}
}

// WithOpen returns the prober with another way to open its socket, such as in another network namespace.
func (p *Prober) WithOpen(open func(context.Context) (*net.UDPConn, error)) *Prober {
	p.open = open
	return p
}

// Listen opens the socket.
func Listen(ctx context.Context, at netip.AddrPort) (*net.UDPConn, error) {
	network := "udp4"
	if at.Addr().Is6() {
		network = "udp6"
	}
	conn, err := new(net.ListenConfig).ListenPacket(ctx, network, at.String())
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return conn.(*net.UDPConn), nil
}

// String implements witness.Method.
func (p *Prober) String() string { return "echo on " + p.listen.String() }

// Timing implements witness.Method.
func (p *Prober) Timing() witness.Timing {
	return witness.Timing{Interval: p.cfg.Every, Recovery: p.cfg.detection()}
}

// Trouble implements report.Troubled.
func (p *Prober) Trouble() string {
	if t := p.trouble.Load(); t != nil {
		return *t
	}
	return ""
}

// peerDetail is what is shown of a peer.
type peerDetail struct {
	NVA      string         `json:"nva"`
	Address  netip.AddrPort `json:"address"`
	Sent     uint64         `json:"sent"`
	Answered uint64         `json:"answered"`
	RTT      float64        `json:"rttMs"` // of the latest answer; 0: none yet
}

// Detail implements report.Detailed.
func (p *Prober) Detail() any {
	all := make([]peerDetail, len(p.cfg.Peers))
	for i, one := range p.cfg.Peers {
		m := &p.metrics.Peers[i]
		all[i] = peerDetail{one.NVA, one.Address, m.Sent.Load(), m.Answered.Load(), float64(m.RTT.Load()) / 1e6}
	}
	return all
}

// reopen is the pause before the socket is opened again: an address that is not there yet, at boot, is the usual reason.
const reopen = time.Second

// Run implements witness.Method. A socket that cannot be opened is tried again for ever.
func (p *Prober) Run(ctx context.Context, tell func(witness.Sight)) error {
	m := NewMachine(p.cfg, time.Now())
	for {
		err := p.session(ctx, m, tell)
		if ctx.Err() != nil {
			return nil //nolint:nilerr // what failed is the socket, closed under the reader
		}
		if text := p.String() + ": " + err.Error(); text != p.Trouble() {
			p.trouble.Store(&text)
			p.log.LogAttrs(ctx, slog.LevelWarn, "peers cannot be probed; trying again", slog.Any("error", err))
		}
		timer := time.NewTimer(reopen)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return nil
		}
	}
}

// session is the life of one socket. It owns the machine.
func (p *Prober) session(ctx context.Context, m *Machine, tell func(witness.Sight)) error {
	conn, err := p.open(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		if stop() {
			_ = conn.Close()
		}
	}()
	if p.trouble.Swap(nil) != nil {
		p.log.LogAttrs(ctx, slog.LevelInfo, "peers are probed again")
	}
	s := &session{Prober: p, machine: m, conn: conn}
	for {
		if err = s.step(tell); err != nil {
			return err
		}
	}
}

// session is a socket with its buffers: no packet allocates.
type session struct {
	*Prober
	machine *Machine
	conn    *net.UDPConn
	in      [Size + 1]byte // a longer datagram shows
	out     [Size]byte
	packet  Packet
	answer  Packet
}

// step does what is due and takes in one packet, or waits until something is due.
func (s *session) step(tell func(witness.Sight)) error {
	e := s.machine.Next(time.Now())
	for i := range e.Probes {
		s.send(&e.Probes[i].Packet, 0, e.Probes[i].To)
	}
	if len(e.Probes) > 0 {
		for i := range s.metrics.Peers {
			s.metrics.Peers[i].Sent.Add(1)
		}
	}
	for _, h := range e.Heard {
		s.metrics.Peers[h.Peer].Answered.Add(1)
		s.metrics.Peers[h.Peer].RTT.Store(int64(h.RTT))
	}
	for _, sight := range e.Sights {
		tell(sight)
	}
	if err := s.conn.SetReadDeadline(e.Wake); err != nil {
		return fmt.Errorf("set deadline: %w", err)
	}
	n, from, err := s.conn.ReadFromUDPAddrPort(s.in[:])
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nil
	case err != nil:
		return fmt.Errorf("receive: %w", err)
	}
	if why := s.receive(s.in[:n], from); why != Taken {
		s.metrics.Dropped[why].Add(1)
	}
	return nil
}

// receive takes in a packet. What is not signed with a key of ours gets no answer, whatever it is.
func (s *session) receive(b []byte, from netip.AddrPort) Drop {
	if s.packet.decode(b) != nil {
		return Malformed
	}
	key, ok := s.keys.verify(b)
	if !ok {
		return BadMAC
	}
	why := s.machine.Received(time.Now(), &s.packet, &s.answer)
	if why == Taken && s.packet.Kind == Probe {
		s.send(&s.answer, key, from) // with the prober's key, so that keys can be changed one machine after the other
		s.metrics.Answers.Add(1)
	}
	return why
}

// send sends a packet. That the kernel refuses it (no route, link down) is what probing is to find out, not an error.
func (s *session) send(packet *Packet, key int, to netip.AddrPort) {
	packet.encode(s.out[:])
	s.keys.sign(key, s.out[:])
	if _, err := s.conn.WriteToUDPAddrPort(s.out[:], to); err != nil {
		s.metrics.Unsent.Add(1)
	}
}
