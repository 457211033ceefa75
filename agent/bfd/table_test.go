package bfd

import (
	"net/netip"
	"strings"
	"testing"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// TestTable: which session a datagram belongs to, and what is discarded for what reason. Source: RFC 5880, sections 6.3 and 6.8.6; RFC 5881, section 5.
func TestTable(t *testing.T) {
	session := func(name, peer, local string, minTTL int) Session {
		s := fast()
		s.Name, s.Peer, s.MinTTL, s.Multihop = name, addr(peer), minTTL, minTTL > 0
		if local != "" {
			s.Local = addr(local)
		}
		return s
	}
	cfg := Config{Sessions: []Session{
		session("one", "192.0.2.1", "", 0), session("bound", "192.0.2.1", "192.0.2.9", 0), session("far", "192.0.2.1", "", 250),
		session("six", "2001:db8::1", "", 0), session("link", "fe80::1%eth0", "", 0),
	}}
	if err := cfg.Validate(); err != nil {
		t.Fatal(err)
	}
	from := func(source string, ttl int) arrival { return arrival{source: addr(source), ttl: ttl} }
	with := func(a arrival, f func(*arrival)) arrival { f(&a); return a }
	hello := Packet{State: Down, My: 77, DetectMult: 3}
	named := func(your uint32, state State) Packet { p := hello; p.Your, p.State = your, state; return p }
	for name, tt := range map[string]struct {
		arrival arrival
		packet  Packet
		want    string
	}{
		"first":                         {from("192.0.2.1", 255), hello, "one"},
		"to the bound socket":           {with(from("192.0.2.1", 255), func(a *arrival) { a.local = addr("192.0.2.9") }), hello, "bound"},
		"to another socket":             {with(from("192.0.2.1", 255), func(a *arrival) { a.local = addr("192.0.2.8") }), hello, "unknown-peer"},
		"several hops":                  {with(from("192.0.2.1", 250), func(a *arrival) { a.multihop = true }), hello, "far"},
		"too many hops":                 {with(from("192.0.2.1", 249), func(a *arrival) { a.multihop = true }), hello, "low-ttl"},
		"one hop, TTL 254":              {from("192.0.2.1", 254), hello, "low-ttl"},
		"TTL not known":                 {from("192.0.2.1", -1), hello, "low-ttl"},
		"hop limit 254":                 {from("2001:db8::1", 254), hello, "low-ttl"},
		"six":                           {from("2001:db8::1", 255), hello, "six"},
		"link-local":                    {with(from("fe80::1", 255), func(a *arrival) { a.scope = 5 }), hello, "link"},
		"link-local, another interface": {with(from("fe80::1", 255), func(a *arrival) { a.scope = 6 }), hello, "unknown-peer"},
		"stranger":                      {from("192.0.2.7", 255), hello, "unknown-peer"},
		"AdminDown":                     {from("192.0.2.1", 255), named(0, AdminDown), "one"},
		"Init for nobody":               {from("192.0.2.1", 255), named(0, Init), "wrong-state"},
		"Up for nobody":                 {from("192.0.2.1", 255), named(0, Up), "wrong-state"},
		"by discriminator":              {from("192.0.2.1", 255), named(103, Up), "six"},
		"whose source changed":          {from("198.51.100.1", 255), named(100, Up), "one"},
		"discriminator of nobody":       {from("192.0.2.1", 255), named(99, Up), "unknown-session"},
		"one hop on the other port":     {with(from("192.0.2.1", 255), func(a *arrival) { a.multihop = true }), named(100, Up), "wrong-port"},
		"several on the other port":     {from("192.0.2.1", 255), named(102, Up), "wrong-port"},
		"by discriminator, TTL":         {from("192.0.2.1", 254), named(100, Up), "low-ttl"},
		"no discriminator":              {from("192.0.2.1", 255), Packet{State: Down, DetectMult: 3}, "no-discriminator"},
	} {
		var m Metrics
		tab := newTable(cfg, []uint32{100, 101, 102, 103, 104}, &m, noon)
		tab.entries[4].scope = 5
		tt.arrival.payload = tt.packet.Append(nil)
		got := ""
		if i, ok := tab.receive(noon, &tt.arrival); ok {
			got = tab.entries[i].name
			if m.Received.Load() != 1 || tab.entries[i].remote.my != 77 {
				t.Errorf("%s: %d received, remote %d", name, m.Received.Load(), tab.entries[i].remote.my)
			}
		}
		for _, d := range Discards() {
			if n := m.Discarded(d); n > 0 {
				got += d.String()
			}
		}
		if got != tt.want {
			t.Errorf("%s: %q, want %q", name, got, tt.want)
		}
	}
}

// TestAuthenticated: a packet with the A bit is discarded for that reason, once its session is found.
func TestAuthenticated(t *testing.T) {
	a, _ := peers()
	var m Metrics
	tab := newTable(Config{Sessions: []Session{a}}, []uint32{100}, &m, noon)
	p := Packet{State: Down, My: 77, DetectMult: 3}
	payload := append(p.Append(nil), 1, 4, 1, 'x')
	payload[1] |= bitAuth
	payload[3] = byte(len(payload))
	if _, ok := tab.receive(noon, &arrival{source: a.Peer, ttl: 255, payload: payload}); ok || m.Discarded(Authenticated) != 1 {
		t.Errorf("taken: %v; discarded %d", ok, m.Discarded(Authenticated))
	}
	tab.receive(noon, &arrival{source: addr("192.0.2.77"), ttl: 255, payload: payload})
	if m.Discarded(UnknownPeer) != 1 {
		t.Error("a stranger is not unknown")
	}
}

// TestValidate: everything wrong is said, with the session, what is there and what would be right.
func TestValidate(t *testing.T) {
	good := fast()
	good.Peer = addr("192.0.2.1")
	if err := (Config{Sessions: []Session{good}}).Validate(); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		break_ func(*Session)
		want   string
	}{
		"no name":              {func(s *Session) { s.Name = "" }, "session number 1: the name is empty"},
		"no peer":              {func(s *Session) { s.Peer = netip.Addr{} }, "the peer is invalid IP; an IPv4 or IPv6 address"},
		"mapped":               {func(s *Session) { s.Peer = addr("::ffff:192.0.2.1") }, "write it as the IPv4 address 192.0.2.1"},
		"unspecified":          {func(s *Session) { s.Peer = addr("0.0.0.0") }, "the address of one peer"},
		"multicast":            {func(s *Session) { s.Peer = addr("ff02::1") }, "the address of one peer"},
		"broadcast":            {func(s *Session) { s.Peer = addr("255.255.255.255") }, "the address of one peer"},
		"zone is missing":      {func(s *Session) { s.Peer = addr("fe80::1") }, "fe80::1%eth0"},
		"zone without reason":  {func(s *Session) { s.Peer = addr("2001:db8::1%eth0") }, "only a link-local address has a zone"},
		"link-local, far":      {func(s *Session) { s.Peer, s.Multihop, s.MinTTL = addr("fe80::1%eth0"), true, 254 }, "not reached over several hops"},
		"families":             {func(s *Session) { s.Local = addr("2001:db8::1") }, "of the family of the peer 192.0.2.1"},
		"local unspecified":    {func(s *Session) { s.Local = addr("0.0.0.0") }, "an address of this machine"},
		"local is the peer":    {func(s *Session) { s.Local = s.Peer }, "that is the peer's"},
		"zones differ":         {func(s *Session) { s.Peer, s.Local = addr("fe80::1%eth0"), addr("fe80::2%eth1") }, "in the zone of the peer fe80::1%eth0"},
		"TTL on one hop":       {func(s *Session) { s.MinTTL = 254 }, "the minimum TTL is 254; only a session over several hops"},
		"TTL missing":          {func(s *Session) { s.Multihop = true }, "the minimum TTL is 0; 255 less the number"},
		"TTL too large":        {func(s *Session) { s.Multihop, s.MinTTL = true, 256 }, "1 to 255"},
		"transmit too fast":    {func(s *Session) { s.DesiredMinTx = ms }, "desired minimum transmit interval is 1ms; 10ms to 1m0s"},
		"receive too slow":     {func(s *Session) { s.RequiredMinRx = 61 * 1000 * ms }, "required minimum receive interval is 1m1s"},
		"parts of microsecond": {func(s *Session) { s.RequiredMinRx = 200*ms + 1 }, "whole microseconds"},
		"multiplier":           {func(s *Session) { s.DetectMult = 0 }, "the detection multiplier is 0; 1 to 255"},
		"multiplier too large": {func(s *Session) { s.DetectMult = 256 }, "the detection multiplier is 256; 1 to 255"},
	} {
		s := good
		tt.break_(&s)
		err := Config{Sessions: []Session{s}}.Validate()
		if err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v\nwant one line with %q", name, err, tt.want)
		}
	}
}

// TestValidateAll: all problems at once, and those between sessions.
func TestValidateAll(t *testing.T) {
	a, bad, twin := fast(), fast(), fast()
	a.Peer, twin.Peer = addr("192.0.2.1"), addr("192.0.2.1")
	twin.Name, bad.DetectMult = "twin", 0
	err := Config{Sessions: []Session{a, bad, twin}}.Validate()
	want := []string{"the name is s; another session has it too", "the peer is invalid IP", "multiplier is 0", "session twin: the peer is 192.0.2.1; session s has the same"}
	for _, w := range want {
		if err == nil || !strings.Contains(err.Error(), w) {
			t.Errorf("%v\nwant %q", err, w)
		}
	}
	if n := len(strings.Split(err.Error(), "\n")); n != len(want) {
		t.Errorf("%d problems, want %d:\n%v", n, len(want), err)
	}
	if err = (Config{Sessions: make([]Session, MaxSessions+1)}).Validate(); err == nil || !strings.Contains(err.Error(), "129 sessions; at most 128") {
		t.Error("too many sessions are accepted")
	}
	far := a
	far.Name, far.Multihop, far.MinTTL = "far", true, 254
	bound := a
	bound.Name, bound.Local = "bound", addr("192.0.2.9")
	if err = (Config{Sessions: []Session{a, far, bound}}).Validate(); err != nil {
		t.Errorf("sessions that can be told apart: %v", err)
	}
}
