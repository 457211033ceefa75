// Package session holds the BGP sessions with the instances of a Route Server: it implements [routeserver.Dialer].
//
// It is a small speaker on the codec of github.com/osrg/gobgp/v4, not gobgp's server, because what is sent, and when, must be ours
// to decide: a server answers a ROUTE-REFRESH with its whole table at once, which costs the session (docs/adr/0017). It can be small since it only opens sessions: it
// never listens, so connections cannot collide (RFC 4271, section 6.8); it has one family, IPv4 unicast, in eBGP; and it uses nothing of what it hears.
package session

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/pointsman/pointsman/agent/routeserver"
)

// openTimeout is how long the exchange before a session may take. RFC 4271, section 8.2.2, suggests a hold time of four minutes for it; who
// does not answer within this is as good as not there.
const openTimeout = 10 * time.Second

// farewellTimeout bounds the last write.
const farewellTimeout = time.Second

// Dialer opens sessions.
type Dialer struct {
	cfg  *routeserver.Config
	dial func(ctx context.Context, network, address string) (net.Conn, error)
}

var _ routeserver.Dialer = (*Dialer)(nil)

// New returns a dialer; nothing is opened before Open.
func New(cfg *routeserver.Config) *Dialer {
	d := &net.Dialer{Timeout: openTimeout}
	if cfg.LocalAddress.IsValid() {
		d.LocalAddr = &net.TCPAddr{IP: cfg.LocalAddress.AsSlice()}
	}
	d.SetMultipathTCP(false)
	return &Dialer{cfg: cfg, dial: d.DialContext}
}

// Open implements [routeserver.Dialer].
func (d *Dialer) Open(ctx context.Context, instance int, restarting bool) (routeserver.Session, error) {
	address := netip.AddrPortFrom(d.cfg.Instances[instance], d.cfg.Port)
	conn, err := d.dial(ctx, "tcp", address.String())
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	s := &session{cfg: d.cfg, conn: conn}
	cut := context.AfterFunc(ctx, func() { _ = conn.Close() })
	err = s.establish(restarting)
	if !cut() && err == nil {
		err = fmt.Errorf("connect: %w", context.Cause(ctx))
	}
	if err != nil {
		s.report(err)
		_ = conn.Close()
		return nil, err
	}
	return s, nil
}

// session is an established session.
type session struct {
	cfg      *routeserver.Config
	conn     net.Conn
	hold     time.Duration
	retains  bool // the instance keeps our routes when the session is lost (RFC 4724)
	twoBytes bool // it has AS numbers of two octets (RFC 6793)

	writing sync.Mutex
}

var _ routeserver.Session = (*session)(nil)

// Info implements [routeserver.Session].
func (s *session) Info() routeserver.Info {
	return routeserver.Info{HoldTime: s.hold, Retains: s.retains}
}

// establish exchanges OPEN and KEEPALIVE (RFC 4271, section 8.2.2).
func (s *session) establish(restarting bool) error {
	if err := s.conn.SetReadDeadline(time.Now().Add(openTimeout)); err != nil {
		return fmt.Errorf("deadline: %w", err)
	}
	open, err := s.open(restarting)
	if err == nil {
		err = s.write(open)
	}
	if err != nil {
		return err
	}
	m, err := s.read()
	if err != nil {
		return err
	}
	theirs, ok := m.Body.(*bgp.BGPOpen)
	if !ok {
		return refusal(m, "OPEN")
	}
	if err = s.agree(theirs); err != nil {
		return err
	}
	if err = s.write(bgp.NewBGPKeepAliveMessage()); err != nil {
		return err
	}
	if m, err = s.read(); err != nil {
		return err
	}
	if _, ok = m.Body.(*bgp.BGPKeepAlive); !ok {
		return refusal(m, "KEEPALIVE")
	}
	return nil
}

// refusal says what came in the place of a message: what a NOTIFICATION says, or an error of the state machine (RFC 4271, section 6.6).
func refusal(m *bgp.BGPMessage, want string) error {
	if n, ok := m.Body.(*bgp.BGPNotification); ok {
		return told(n)
	}
	return refuse(bgp.BGP_ERROR_FSM_ERROR, 0, nil, fmt.Sprintf("a message of type %d came, not %s", m.Header.Type, want))
}

// refuse is an error that is answered with a NOTIFICATION of this code.
func refuse(code, subcode uint8, data []byte, text string) error {
	return fmt.Errorf("refused: %w", bgp.NewMessageError(code, subcode, data, text))
}

// told is the error of a NOTIFICATION.
func told(n *bgp.BGPNotification) error {
	text := bgp.NewNotificationErrorCode(n.ErrorCode, n.ErrorSubcode).String()
	return fmt.Errorf("%w: %s (%d/%d)", errNotification, text, n.ErrorCode, n.ErrorSubcode)
}

// errNotification is wrapped by the error of a NOTIFICATION that came.
var errNotification = errors.New("it closed the session")

// open makes our OPEN.
func (s *session) open(restarting bool) (*bgp.BGPMessage, error) {
	caps := []bgp.ParameterCapabilityInterface{
		bgp.NewCapMultiProtocol(bgp.RF_IPv4_UC), bgp.NewCapRouteRefresh(), bgp.NewCapFourOctetASNumber(uint32(s.cfg.AS)),
	}
	if s.cfg.RestartTime > 0 {
		// The kernel forwards whether the agent runs or not: the forwarding state is always kept.
		caps = append(caps, bgp.NewCapGracefulRestart(restarting, false, uint16(s.cfg.RestartTime/time.Second),
			[]*bgp.CapGracefulRestartTuple{bgp.NewCapGracefulRestartTuple(bgp.RF_IPv4_UC, true)}))
	}
	m, err := bgp.NewBGPOpenMessage(s.cfg.AS, uint16(s.cfg.HoldTime/time.Second), s.cfg.RouterID,
		[]bgp.OptionParameterInterface{bgp.NewOptionParameterCapability(caps)})
	if err != nil {
		return nil, fmt.Errorf("make an OPEN: %w", err)
	}
	return m, nil
}

// agree takes in their OPEN (RFC 4271, section 6.2).
func (s *session) agree(o *bgp.BGPOpen) error {
	as, ipv4, named := uint32(o.MyAS), false, false
	s.twoBytes = true
	for _, c := range capabilities(o) {
		switch c := c.(type) {
		case *bgp.CapMultiProtocol:
			named, ipv4 = true, ipv4 || c.CapValue == bgp.RF_IPv4_UC
		case *bgp.CapFourOctetASNumber:
			as, s.twoBytes = c.CapValue, false
		case *bgp.CapGracefulRestart:
			s.retains = s.cfg.RestartTime > 0 && slices.ContainsFunc(c.Tuples, func(t *bgp.CapGracefulRestartTuple) bool {
				return bgp.NewFamily(t.AFI, t.SAFI) == bgp.RF_IPv4_UC
			})
		}
	}
	hold := time.Duration(o.HoldTime) * time.Second
	switch {
	case o.Version != 4:
		return refuse(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_UNSUPPORTED_VERSION_NUMBER, []byte{0, 4}, fmt.Sprintf("BGP version %d", o.Version))
	case as != routeserver.AS:
		return refuse(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_BAD_PEER_AS, nil, fmt.Sprintf("its AS is %d, not %d: it is no Route Server", as, routeserver.AS))
	case !o.ID.Is4() || o.ID.IsUnspecified() || o.ID == s.cfg.RouterID:
		return refuse(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER, nil, fmt.Sprintf("its BGP identifier is %v", o.ID))
	case o.HoldTime == 1 || o.HoldTime == 2:
		return refuse(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME, nil, fmt.Sprintf("its hold time is %s", hold))
	case named && !ipv4:
		return refuse(bgp.BGP_ERROR_OPEN_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_UNSUPPORTED_CAPABILITY, nil, "it has no IPv4 unicast")
	}
	s.hold = min(s.cfg.HoldTime, hold)
	return nil
}

func capabilities(o *bgp.BGPOpen) (all []bgp.ParameterCapabilityInterface) {
	for _, p := range o.OptParams {
		if caps, ok := p.(*bgp.OptionParameterCapability); ok {
			all = append(all, caps.Capability...)
		}
	}
	return all
}

// Listen implements [routeserver.Session].
func (s *session) Listen(h routeserver.Hearer) error {
	ended := make(chan struct{})
	var beat sync.WaitGroup
	beat.Go(func() { s.keepAlive(ended) })
	err := s.listen(h)
	s.report(err)
	close(ended)
	_ = s.conn.Close()
	beat.Wait()
	return err
}

func (s *session) listen(h routeserver.Hearer) error {
	for {
		var deadline time.Time
		if s.hold > 0 {
			deadline = time.Now().Add(s.hold)
		}
		if err := s.conn.SetReadDeadline(deadline); err != nil {
			return fmt.Errorf("deadline: %w", err)
		}
		m, err := s.read()
		if err == nil {
			err = s.hear(m, h)
		}
		if err != nil {
			return err
		}
	}
}

// errHold says that the hold time is over (RFC 4271, section 6.5).
var errHold = errors.New("it was silent for the hold time")

// read returns the next message. A panic of the decoder is the fault of what it was given.
func (s *session) read() (m *bgp.BGPMessage, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			m, err = nil, refuse(bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR, bgp.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST, nil, fmt.Sprintf("a message cannot be read: %v", cause))
		}
	}()
	var header [bgp.BGP_HEADER_LENGTH]byte
	if err = s.fill(header[:]); err != nil {
		return nil, err
	}
	var h bgp.BGPHeader
	if err = h.DecodeFromBytes(header[:]); err != nil {
		return nil, fmt.Errorf("read: %w", err)
	}
	if h.Len > bgp.BGP_MAX_MESSAGE_LENGTH {
		return nil, refuse(bgp.BGP_ERROR_MESSAGE_HEADER_ERROR, bgp.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, binary.BigEndian.AppendUint16(nil, h.Len), fmt.Sprintf("a message of %d octets", h.Len))
	}
	body := make([]byte, h.Len-bgp.BGP_HEADER_LENGTH)
	if err = s.fill(body); err != nil {
		return nil, err
	}
	m, err = bgp.ParseBGPBody(&h, body, &bgp.MarshallingOption{Use2ByteAS: s.twoBytes})
	return m, s.tolerate(m, err)
}

func (s *session) fill(b []byte) error {
	_, err := io.ReadFull(s.conn, b)
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		return errHold
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("it closed the connection")
	case err != nil:
		return fmt.Errorf("read: %w", err)
	}
	return nil
}

// tolerate follows RFC 7606: an UPDATE whose routes can be told from the rest costs those routes, not the session.
func (s *session) tolerate(m *bgp.BGPMessage, err error) error {
	u, ok := bodyOf[*bgp.BGPUpdate](m)
	if ok && err == nil {
		families := map[bgp.Family]bgp.BGPAddPathMode{bgp.RF_IPv4_UC: bgp.BGP_ADD_PATH_NONE}
		_, err = bgp.ValidateUpdateMsg(u, families, true, false, true)
	}
	if err == nil {
		return nil
	}
	var fault *bgp.MessageError
	if !ok || !errors.As(err, &fault) {
		return fmt.Errorf("read: %w", err)
	}
	switch fault.ErrorHandling {
	case bgp.ERROR_HANDLING_NONE, bgp.ERROR_HANDLING_ATTRIBUTE_DISCARD:
		return nil
	case bgp.ERROR_HANDLING_TREAT_AS_WITHDRAW:
		u.WithdrawnRoutes, u.NLRI, u.PathAttributes = append(u.WithdrawnRoutes, u.NLRI...), nil, nil
		return nil
	case bgp.ERROR_HANDLING_AFISAFI_DISABLE, bgp.ERROR_HANDLING_SESSION_RESET:
	}
	return fmt.Errorf("read: %w", err)
}

func bodyOf[T bgp.BGPBody](m *bgp.BGPMessage) (body T, ok bool) {
	if m == nil {
		return body, false
	}
	body, ok = m.Body.(T)
	return body, ok
}

// hear hands on what a message says.
func (s *session) hear(m *bgp.BGPMessage, h routeserver.Hearer) error {
	switch body := m.Body.(type) {
	case *bgp.BGPKeepAlive:
		return nil
	case *bgp.BGPUpdate:
		s.heard(body, h)
		return nil
	case *bgp.BGPRouteRefresh:
		// A demarcation of RFC 7313 is not agreed upon; the octet is ignored (RFC 2918, section 3).
		if bgp.NewFamily(body.AFI, body.SAFI) == bgp.RF_IPv4_UC {
			h.Refresh()
		}
		return nil
	case *bgp.BGPNotification:
		return told(body)
	}
	return refuse(bgp.BGP_ERROR_FSM_ERROR, 0, nil, fmt.Sprintf("a message of type %d in a session", m.Header.Type))
}

// report answers what is wrong with a message, or the end of the hold time, with a NOTIFICATION.
func (s *session) report(err error) {
	var fault *bgp.MessageError
	switch {
	case errors.Is(err, errHold):
		s.notify(bgp.BGP_ERROR_HOLD_TIMER_EXPIRED, 0, nil)
	case errors.As(err, &fault):
		s.notify(fault.TypeCode, fault.SubTypeCode, fault.Data)
	}
}

func (s *session) notify(code, subcode uint8, data []byte) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(farewellTimeout)) // for a write that hangs
	_ = s.writeWithin(farewellTimeout, bgp.NewBGPNotificationMessage(code, subcode, data))
}

// keepAlive sends a KEEPALIVE at a third of the hold time (RFC 4271, section 10). One that cannot be sent ends the session.
func (s *session) keepAlive(ended chan struct{}) {
	if s.hold == 0 {
		return
	}
	tick := time.NewTicker(s.hold / 3)
	defer tick.Stop()
	for {
		select {
		case <-ended:
			return
		case <-tick.C:
			if s.write(bgp.NewBGPKeepAliveMessage()) != nil {
				_ = s.conn.Close()
			}
		}
	}
}

// Send implements [routeserver.Session]. An instance that does not read for the hold time loses the session.
func (s *session) Send(e routeserver.Effects) error {
	for _, u := range e.Updates {
		if err := s.update(u); err != nil {
			_ = s.conn.Close()
			return err
		}
	}
	if e.EndOfRIB {
		return s.write(bgp.NewEndOfRib(bgp.RF_IPv4_UC))
	}
	return nil
}

// Close implements [routeserver.Session].
func (s *session) Close(why routeserver.Farewell) {
	switch {
	case why == routeserver.GoingDown:
		s.notify(bgp.BGP_ERROR_CEASE, bgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, nil)
	case !s.retains:
		s.notify(bgp.BGP_ERROR_CEASE, bgp.BGP_ERROR_SUB_ADMINISTRATIVE_RESET, nil)
	}
	// Without a word an instance that retains does so (RFC 4724, section 4).
	_ = s.conn.Close()
}

// write sends a message; an instance that does not read for the hold time has failed.
func (s *session) write(m *bgp.BGPMessage) error {
	return s.writeWithin(max(s.hold, openTimeout), m)
}

func (s *session) writeWithin(timeout time.Duration, m *bgp.BGPMessage) error {
	b, err := m.Serialize(&bgp.MarshallingOption{Use2ByteAS: s.twoBytes})
	if err != nil {
		return fmt.Errorf("make a message: %w", err)
	}
	s.writing.Lock()
	defer s.writing.Unlock()
	if err = s.conn.SetWriteDeadline(time.Now().Add(timeout)); err != nil {
		return fmt.Errorf("deadline: %w", err)
	}
	if _, err = s.conn.Write(b); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}
