package session

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/osrg/gobgp/v4/pkg/packet/bgp"

	"github.com/pointsman/pointsman/agent/routeserver"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/test/lab"
)

// checker hears routes and checks them.
type checker struct{ t *testing.T }

func (c checker) Update(withdrawn []netip.Prefix, announced []routeserver.Learned) {
	for _, l := range announced {
		withdrawn = append(withdrawn, l.Prefix)
	}
	for _, p := range withdrawn {
		if !p.IsValid() || !p.Addr().Is4() || route.Canonical(p) != p {
			c.t.Errorf("heard %v", p)
		}
	}
}
func (checker) EndOfRIB() {}
func (checker) Refresh()  {}

// FuzzListen: whatever an instance sends, the session ends with an error or with the connection.
func FuzzListen(f *testing.F) {
	path := lab.Attribute(0x40, 2, 2, 1, 0, 0, 0xff, 0xeb)
	whole := append(append(lab.Attribute(0x40, 1, 0), path...), lab.Attribute(0x40, 3, 10, 0, 1, 4)...)
	for _, seed := range [][]byte{
		nil, lab.Message(4), lab.Message(255), lab.Message(3, 6, 4), lab.Message(5, 0, 1, 0, 1), lab.Update(nil, nil, nil), lab.Update([]byte{8, 10}, nil, nil),
		lab.Update(nil, whole, []byte{16, 10, 1}), lab.Update(nil, append(whole, lab.Attribute(0xc0, 8, 0xff, 0xff, 0xff, 2)...), []byte{33, 10, 1, 1, 1, 1}),
		lab.Update(nil, lab.Attribute(0x80, 14, 0, 2, 1, 16), nil), lab.Message(2, 0, 0, 0xff, 0xff),
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sent []byte) {
		ours, theirs := net.Pipe()
		go func() {
			_, _ = theirs.Write(sent)
			_ = theirs.Close()
		}()
		s := &session{cfg: &routeserver.Config{}, conn: ours}
		if err := s.listen(checker{t}); err == nil {
			t.Error("it ended without a reason")
		}
		_ = ours.Close()
	})
}

// TestPanicOfTheDecoder: it counts as a malformed message.
func TestPanicOfTheDecoder(t *testing.T) {
	s := &session{cfg: &routeserver.Config{}} // no connection: reading panics
	_, err := s.read()
	var fault *bgp.MessageError
	if !errors.As(err, &fault) || fault.TypeCode != bgp.BGP_ERROR_UPDATE_MESSAGE_ERROR {
		t.Errorf("got %v", err)
	}
}
