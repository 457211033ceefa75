package lab

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// RouteServerAS is the AS number of every Route Server.
const RouteServerAS = 65515

// Instance imitates an instance of Azure Route Server as its FAQ describes it: it takes sessions from whoever comes, drops routes with 65515 in their
// path, closes a session (Cease, Maximum Number of Prefixes Reached) when the routes that it has from a peer, plus those that it has already and
// that come once more, pass the limit, and prefers the shortest AS path, equal ones together. It is written against the RFCs and that page, and
// shares no code with what it talks to.
type Instance struct {
	cfg      InstanceConfig
	listener net.Listener
	tasks    sync.WaitGroup

	mu     sync.Mutex
	closed bool
	peers  map[netip.Addr]*nva
	own    map[netip.Prefix][]uint32 // what it announces, with the AS path behind its own AS
	events []string
	again  int // routes that came once more, from all peers
}

// InstanceConfig is what an instance is like. The zero value is Azure's.
type InstanceConfig struct {
	AS      uint32        // 65515
	Hold    time.Duration // 180 s
	Limit   int           // 4,000 routes from one peer
	Window  time.Duration // for so long a route that came once more counts twice: 10 s
	Restart bool          // graceful restart (RFC 4724) as a helper. Not known of Azure
	TwoByte bool          // without AS numbers of four octets (RFC 6793)
	AddPath bool          // offers to send and to receive several paths (RFC 7911), which peers are free to leave alone
}

// nva is a peer of an instance, with or without a session.
type nva struct {
	as      uint32
	conn    net.Conn // nil: no session
	routes  map[netip.Prefix]nvaRoute
	again   []time.Time   // when routes came once more, within the window
	restart time.Duration // graceful restart, if it asked for that
	wide    bool          // AS numbers of four octets
	expiry  *time.Timer   // of the restart time
	eor     bool          // End-of-RIB came in this session
}

type nvaRoute struct {
	path        []uint32
	nextHop     netip.Addr
	communities []string
	stale       bool
}

// NewInstance begins to serve; the listener belongs to the instance.
func NewInstance(l net.Listener, cfg InstanceConfig) *Instance {
	cfg.AS = cmp.Or(cfg.AS, RouteServerAS)
	cfg.Hold, cfg.Limit, cfg.Window = cmp.Or(cfg.Hold, 180*time.Second), cmp.Or(cfg.Limit, 4000), cmp.Or(cfg.Window, 10*time.Second)
	i := &Instance{cfg: cfg, listener: l, peers: map[netip.Addr]*nva{}, own: map[netip.Prefix][]uint32{}}
	i.tasks.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			i.tasks.Go(func() { i.serve(conn) })
		}
	})
	return i
}

// Close ends it without a word to its peers.
func (i *Instance) Close() {
	_ = i.listener.Close()
	i.mu.Lock()
	i.closed = true
	for _, p := range i.peers {
		if p.conn != nil {
			_ = p.conn.Close()
		}
		if p.expiry != nil {
			p.expiry.Stop()
		}
	}
	i.mu.Unlock()
	i.tasks.Wait()
}

func (i *Instance) note(format string, args ...any) {
	i.events = append(i.events, fmt.Sprintf(format, args...))
}

// Events returns what happened, such as "10.0.2.4: established, AS 65010".
func (i *Instance) Events() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.Clone(i.events)
}

// Established returns how many peers have a session.
func (i *Instance) Established() (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.peers {
		if p.conn != nil {
			n++
		}
	}
	return n
}

// Complete reports whether there is a peer, and all with a session have said End-of-RIB.
func (i *Instance) Complete() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	established := 0
	for _, p := range i.peers {
		if p.conn == nil {
			continue
		}
		if established++; !p.eor {
			return false
		}
	}
	return established > 0
}

// Routes returns what Azure's machines would use, by prefix: "10.1.0.0/16 via 10.0.2.4 path 65010", with several next hops where paths are equally
// short, "community 65535:65282" where there is one, and "stale" behind what a peer has that is gone.
func (i *Instance) Routes() []string {
	i.mu.Lock()
	defer i.mu.Unlock()
	best := map[netip.Prefix][]nvaRoute{}
	for _, p := range i.peers {
		for prefix, r := range p.routes {
			was := best[prefix]
			if len(was) > 0 && len(was[0].path) < len(r.path) {
				continue
			}
			if len(was) > 0 && len(was[0].path) > len(r.path) {
				was = nil
			}
			best[prefix] = append(was, r)
		}
	}
	out := make([]string, 0, len(best))
	for _, prefix := range sortedPrefixes(best) {
		out = append(out, prefix.String()+describe(best[prefix]))
	}
	return out
}

func sortedPrefixes[V any](m map[netip.Prefix]V) []netip.Prefix {
	out := make([]netip.Prefix, 0, len(m))
	for p := range m {
		out = append(out, p)
	}
	slices.SortFunc(out, func(a, b netip.Prefix) int {
		return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
	})
	return out
}

func describe(equal []nvaRoute) string {
	slices.SortFunc(equal, func(a, b nvaRoute) int { return a.nextHop.Compare(b.nextHop) })
	var text, stale string
	for _, r := range equal {
		text += " via " + r.nextHop.String()
		if r.stale {
			stale = " stale"
		}
	}
	text += " path"
	for _, as := range equal[0].path {
		text += " " + strconv.FormatUint(uint64(as), 10)
	}
	for _, c := range equal[0].communities {
		text += " community " + c
	}
	return text + stale
}

// Count returns the number of routes from all peers.
func (i *Instance) Count() (n int) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.peers {
		n += len(p.routes)
	}
	return n
}

// Again returns how many routes came once more, in all.
func (i *Instance) Again() int {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.again
}

// Announce announces a route to all peers, now and later, with the AS path behind 65515.
func (i *Instance) Announce(prefix netip.Prefix, path ...uint32) {
	i.each(func(p *nva) []byte { return i.announcement(p, prefix, path) })
	i.mu.Lock()
	defer i.mu.Unlock()
	i.own[prefix] = path
}

// Withdraw takes a route back.
func (i *Instance) Withdraw(prefix netip.Prefix) {
	i.each(func(*nva) []byte { return update(encode([]netip.Prefix{prefix}), nil, nil) })
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.own, prefix)
}

// Refresh asks all peers to say everything again, as Route Server does when a network is peered (RFC 2918).
func (i *Instance) Refresh() { i.Send(message(5, []byte{0, 1, 0, 1})) }

// Send sends bytes as they are to all peers.
func (i *Instance) Send(b []byte) { i.each(func(*nva) []byte { return b }) }

// Cut cuts all connections without a word.
func (i *Instance) Cut() {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.peers {
		if p.conn != nil {
			_ = p.conn.Close()
		}
	}
}

// Reset ends all sessions with NOTIFICATION Cease and a subcode of RFC 4486.
func (i *Instance) Reset(subcode byte) {
	i.Send(message(msgNotification, []byte{6, subcode}))
	i.Cut()
}

func (i *Instance) each(bytes func(*nva) []byte) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, p := range i.peers {
		if p.conn != nil {
			_, _ = p.conn.Write(bytes(p)) // a lost session is noticed by its reader
		}
	}
}

// announcement makes an UPDATE; the next hop is the instance's address.
func (i *Instance) announcement(p *nva, prefix netip.Prefix, path []uint32) []byte {
	t := Talker{open: Open{TwoByte: !p.wide}}
	hop := p.conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	return t.Announce(Attrs{NextHop: hop, ASPath: append([]uint32{RouteServerAS}, path...)}, prefix)
}

// serve is the life of one connection.
func (i *Instance) serve(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	address := conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	r := &reader{conn: conn}
	_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
	open, err := r.open()
	open.wide = open.wide && !i.cfg.TwoByte
	if err != nil {
		i.mu.Lock()
		i.note("%s: no OPEN: %v", address, err)
		i.mu.Unlock()
		return
	}
	hold := min(i.cfg.Hold, open.hold)
	if _, err = conn.Write(append(i.greeting(conn), message(msgKeepalive, nil)...)); err != nil {
		return
	}
	if kind, body, readErr := r.message(); readErr != nil || kind != msgKeepalive {
		i.mu.Lock()
		i.note("%s: no KEEPALIVE: type %d, % x, %v", address, kind, body, readErr)
		i.mu.Unlock()
		return
	}
	_ = conn.SetWriteDeadline(time.Time{})
	p, ok := i.join(address, conn, open)
	if !ok {
		return
	}
	stop := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() { i.keepAlive(p, hold, stop) })
	err = i.listen(p, address, r, hold)
	close(stop)
	_ = conn.Close()
	beat.Wait()
	i.leave(p, address, err)
}

// greeting is the OPEN.
func (i *Instance) greeting(conn net.Conn) []byte {
	o := Open{AS: i.cfg.AS, ID: conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap(), IPv4Only: true, TwoByte: i.cfg.TwoByte, Hold: i.cfg.Hold}
	o.More = append(o.More, 2, 0) // route refresh (RFC 2918)
	if i.cfg.Restart {
		o.More = append(o.More, 64, 6, 0, 120, 0, 1, 1, 0x80)
	}
	if i.cfg.AddPath {
		o.More = append(o.More, 69, 4, 0, 1, 1, 3)
	}
	return message(msgOpen, o.bytes())
}

func (i *Instance) join(address netip.Addr, conn net.Conn, open opened) (*nva, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p := i.peers[address]
	if p == nil {
		p = &nva{routes: map[netip.Prefix]nvaRoute{}}
		i.peers[address] = p
	}
	if i.closed || p.conn != nil {
		return nil, false
	}
	if p.expiry != nil {
		p.expiry.Stop()
	}
	if !open.forwarding {
		clear(p.routes) // it did not keep its forwarding state (RFC 4724, section 4.2)
	}
	p.conn, p.as, p.restart, p.wide, p.again, p.eor = conn, open.as, open.restart, open.wide, nil, false
	how := "established"
	if open.restarting {
		how = "established after a restart"
	}
	i.note("%s: %s, AS %d, hold time %s", address, how, open.as, open.hold)
	for _, prefix := range sortedPrefixes(i.own) {
		_, _ = conn.Write(i.announcement(p, prefix, i.own[prefix]))
	}
	_, _ = conn.Write(update(nil, nil, nil)) // End-of-RIB
	return p, true
}

func (i *Instance) keepAlive(p *nva, hold time.Duration, stop chan struct{}) {
	tick := time.NewTicker(hold / 3)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			i.mu.Lock()
			if p.conn != nil {
				_, _ = p.conn.Write(message(msgKeepalive, nil))
			}
			i.mu.Unlock()
		}
	}
}

// errLimit is why a session is closed for too many routes.
var errLimit = errors.New("more routes than the limit")

func (i *Instance) listen(p *nva, address netip.Addr, r *reader, hold time.Duration) error {
	for {
		_ = r.conn.SetReadDeadline(time.Now().Add(hold))
		kind, body, err := r.message()
		if err != nil {
			return err
		}
		switch kind {
		case msgKeepalive:
		case msgNotification:
			return fmt.Errorf("%w %d/%d", ErrNotification, body[0], body[1])
		case msgUpdate:
			i.mu.Lock()
			err = i.take(p, body)
			if errors.Is(err, errLimit) {
				_, _ = r.conn.Write(message(msgNotification, []byte{6, 1}))
			}
			i.mu.Unlock()
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("a message of type %d from %s", kind, address)
		}
	}
}

func (i *Instance) leave(p *nva, address netip.Addr, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	p.conn = nil
	i.note("%s: lost: %v", address, err)
	if errors.Is(err, ErrNotification) || errors.Is(err, errLimit) || p.restart == 0 || !i.cfg.Restart {
		clear(p.routes)
		return
	}
	for prefix, r := range p.routes {
		r.stale = true
		p.routes[prefix] = r
	}
	p.expiry = time.AfterFunc(p.restart, func() {
		i.mu.Lock()
		defer i.mu.Unlock()
		if p.conn == nil {
			clear(p.routes)
			i.note("%s: the restart time is over", address)
		}
	})
}

// take takes in an UPDATE. What came once more within the window counts beside what is there.
func (i *Instance) take(p *nva, body []byte) error {
	u, err := parseUpdate(body, p.wide)
	if err != nil {
		return err
	}
	if u.empty() {
		p.eor = true
		for prefix, r := range p.routes {
			if r.stale {
				delete(p.routes, prefix)
			}
		}
		return nil
	}
	for _, prefix := range u.withdrawn {
		delete(p.routes, prefix)
	}
	now := time.Now()
	p.again = slices.DeleteFunc(p.again, func(at time.Time) bool { return now.Sub(at) > i.cfg.Window })
	for _, prefix := range u.announced {
		if _, known := p.routes[prefix]; known {
			p.again = append(p.again, now)
			i.again++
		}
		if slices.Contains(u.route.path, RouteServerAS) {
			delete(p.routes, prefix)
			i.note("a loop: %s with the path %v", prefix, u.route.path)
			continue
		}
		p.routes[prefix] = u.route
	}
	if n := len(p.routes); n+len(p.again) > i.cfg.Limit {
		return fmt.Errorf("%w: %d, and %d once more, limit %d", errLimit, n, len(p.again), i.cfg.Limit)
	}
	return nil
}

// reader reads messages.
type reader struct{ conn net.Conn }

func (r *reader) message() (kind byte, body []byte, err error) {
	header := make([]byte, 19)
	if _, err = io.ReadFull(r.conn, header); err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	body = make([]byte, max(int(binary.BigEndian.Uint16(header[16:]))-len(header), 0))
	if _, err = io.ReadFull(r.conn, body); err != nil {
		return 0, nil, fmt.Errorf("read: %w", err)
	}
	return header[18], body, nil
}

// opened is what a peer said in its OPEN.
type opened struct {
	as         uint32
	hold       time.Duration
	restart    time.Duration
	restarting bool // with the flag of RFC 4724: its process is a new one
	forwarding bool // with the flag of RFC 4724: it has kept its forwarding state
	wide       bool
}

func (r *reader) open() (o opened, err error) {
	kind, body, err := r.message()
	if err != nil {
		return o, err
	}
	if kind != msgOpen || len(body) < 10 {
		return o, fmt.Errorf("a message of type %d", kind)
	}
	o.as = uint32(binary.BigEndian.Uint16(body[1:]))
	o.hold = time.Duration(binary.BigEndian.Uint16(body[3:])) * time.Second
	for options := body[10:]; len(options) >= 2; options = options[2+int(options[1]):] {
		for caps := options[2 : 2+int(options[1])]; options[0] == 2 && len(caps) >= 2; caps = caps[2+int(caps[1]):] {
			switch value := caps[2 : 2+int(caps[1])]; caps[0] {
			case 65:
				o.as, o.wide = binary.BigEndian.Uint32(value), true
			case 64:
				o.restarting = value[0]&0x80 != 0
				o.restart = time.Duration(binary.BigEndian.Uint16(value)&0xfff) * time.Second
				o.forwarding = len(value) >= 6 && value[5]&0x80 != 0
			}
		}
	}
	return o, nil
}

// parsed is an UPDATE of IPv4 unicast.
type parsed struct {
	withdrawn, announced []netip.Prefix
	route                nvaRoute
}

func (u parsed) empty() bool { return len(u.withdrawn)+len(u.announced) == 0 }

func parseUpdate(b []byte, wide bool) (u parsed, err error) {
	n := int(binary.BigEndian.Uint16(b))
	if u.withdrawn, err = decode(b[2 : 2+n]); err != nil {
		return u, err
	}
	b = b[2+n:]
	n = int(binary.BigEndian.Uint16(b))
	for attrs := b[2 : 2+n]; len(attrs) >= 3; {
		size, head := int(attrs[2]), 3
		if attrs[0]&0x10 != 0 {
			size, head = int(binary.BigEndian.Uint16(attrs[2:])), 4
		}
		u.route.take(attrs[1], attrs[head:head+size], wide)
		attrs = attrs[head+size:]
	}
	u.announced, err = decode(b[2+n:])
	return u, err
}

func (r *nvaRoute) take(code byte, value []byte, wide bool) {
	switch code {
	case 2:
		for len(value) > 2 {
			count := int(value[1])
			value = value[2:]
			for ; count > 0; count-- {
				if wide {
					r.path, value = append(r.path, binary.BigEndian.Uint32(value)), value[4:]
					continue
				}
				r.path, value = append(r.path, uint32(binary.BigEndian.Uint16(value))), value[2:]
			}
		}
	case 3:
		r.nextHop, _ = netip.AddrFromSlice(value)
	case 8:
		for ; len(value) >= 4; value = value[4:] {
			r.communities = append(r.communities, fmt.Sprintf("%d:%d", binary.BigEndian.Uint16(value), binary.BigEndian.Uint16(value[2:])))
		}
	case 32:
		for ; len(value) >= 12; value = value[12:] {
			words := []string{}
			for i := range 3 {
				words = append(words, strconv.FormatUint(uint64(binary.BigEndian.Uint32(value[4*i:])), 10))
			}
			r.communities = append(r.communities, strings.Join(words, ":"))
		}
	}
}

// decode reads NLRI of IPv4.
func decode(b []byte) (out []netip.Prefix, err error) {
	for len(b) > 0 {
		var a [4]byte
		n := (int(b[0]) + 7) / 8
		if n > 4 || n >= len(b) && n > 0 {
			return nil, fmt.Errorf("NLRI % x", b)
		}
		copy(a[:], b[1:1+n])
		out = append(out, netip.PrefixFrom(netip.AddrFrom4(a), int(b[0])))
		b = b[1+n:]
	}
	return out, nil
}
