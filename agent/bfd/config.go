package bfd

import (
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// Config says with whom to speak. It is complete: nothing in it has a default but where said.
type Config struct {
	Sessions []Session
}

// Session is one session as configured.
type Session struct {
	Name  string     // for people and for [Change]; unique
	Peer  netip.Addr // a link-local one with its zone
	Local netip.Addr // that packets come from and must be sent to; zero: any. Two speakers on one machine need one each

	Multihop bool // RFC 5883, port 4784; else RFC 5881, port 3784
	MinTTL   int  // of packets from the peer, over several hops: 255 less the number of routers allowed between. Zero on one hop, where 255 is required

	DesiredMinTx  time.Duration // between packets sent while Up, if the peer takes them so fast; before it is Up, 1 s at least
	RequiredMinRx time.Duration // between packets from the peer, the least
	DetectMult    int           // packets in a row that the peer may miss

	Passive bool // say nothing before the peer does (RFC 5880, section 6.1)
}

// MaxSessions is how many sessions a speaker takes; timers are looked through one by one.
const MaxSessions = 128

// The bounds of configured intervals. Less than the shortest is not for a process that shares its machine; more than the longest
// detects nothing. They have the range of 32 bits of microseconds on the wire.
const (
	ShortestInterval = 10 * time.Millisecond
	LongestInterval  = time.Minute
)

// Validate returns everything that is wrong, one error for each, joined; each names the session, the field, what is there and what
// would be right.
func (c Config) Validate() error {
	var problems []error
	if len(c.Sessions) > MaxSessions {
		problems = append(problems, fmt.Errorf("bfd: %d sessions; at most %d are possible", len(c.Sessions), MaxSessions))
	}
	names, pairs := map[string]bool{}, map[pair]string{}
	for i := range c.Sessions {
		s := &c.Sessions[i]
		wrong := func(field string, found any, right string) {
			problems = append(problems, fmt.Errorf("bfd: session %s: %s is %v; %s", s.label(i), field, found, right))
		}
		if s.Name == "" {
			wrong("the name", "empty", "give each session one")
		} else if names[s.Name] {
			wrong("the name", s.Name, "another session has it too")
		}
		names[s.Name] = true
		s.validate(wrong)
		if other, ok := pairs[s.pair()]; ok && s.Peer.IsValid() {
			wrong("the peer", s.Peer, "session "+other+" has the same peer, local address and kind: a packet could not be told apart")
		} else {
			pairs[s.pair()] = s.label(i)
		}
	}
	return errors.Join(problems...)
}

// pair is what a packet without Your Discriminator is known by. Source: RFC 5881, section 3; RFC 5883, section 4.
type pair struct {
	peer, local netip.Addr
	multihop    bool
}

func (s *Session) pair() pair { return pair{s.Peer, s.Local, s.Multihop} }

func (s *Session) label(i int) string {
	if s.Name != "" {
		return s.Name
	}
	return fmt.Sprintf("number %d", i+1)
}

func (s *Session) validate(wrong func(field string, found any, right string)) {
	if right := s.wrongPeer(); right != "" {
		wrong("the peer", s.Peer, right)
	}
	if right := s.wrongLocal(); right != "" {
		wrong("the local address", s.Local, right)
	}
	switch {
	case s.Multihop && (s.MinTTL < 1 || s.MinTTL > maxTTL):
		wrong("the minimum TTL", s.MinTTL, "255 less the number of routers that may be between: 1 to 255")
	case !s.Multihop && s.MinTTL != 0 && s.MinTTL != maxTTL:
		wrong("the minimum TTL", s.MinTTL, "only a session over several hops has one; on one hop it is 255 (RFC 5881, section 5)")
	}
	if right := wrongInterval(s.DesiredMinTx); right != "" {
		wrong("the desired minimum transmit interval", s.DesiredMinTx, right)
	}
	if right := wrongInterval(s.RequiredMinRx); right != "" {
		wrong("the required minimum receive interval", s.RequiredMinRx, right)
	}
	if s.DetectMult < 1 || s.DetectMult > 255 {
		wrong("the detection multiplier", s.DetectMult, "1 to 255, and 3 is usual")
	}
}

func (s *Session) wrongPeer() string {
	switch p := s.Peer; {
	case !p.IsValid():
		return "an IPv4 or IPv6 address is needed"
	case p.Is4In6():
		return "write it as the IPv4 address " + p.Unmap().String()
	case p.IsUnspecified(), p.IsMulticast(), p == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return "the address of one peer is needed"
	case p.Is6() && p.IsLinkLocalUnicast() && s.Multihop:
		return "a link-local address is not reached over several hops"
	case p.Is6() && p.IsLinkLocalUnicast() && p.Zone() == "":
		return "a link-local address needs its interface: " + p.String() + "%eth0"
	case p.Zone() != "" && !p.IsLinkLocalUnicast():
		return "only a link-local address has a zone"
	}
	return ""
}

func (s *Session) wrongLocal() string {
	switch l := s.Local; {
	case l == netip.Addr{} || !s.Peer.IsValid():
		return ""
	case l.Is4() != s.Peer.Is4():
		return "it must be of the family of the peer " + s.Peer.String()
	case l.IsUnspecified(), l.IsMulticast():
		return "an address of this machine is needed, or none for any"
	case l == s.Peer:
		return "that is the peer's"
	case l.Zone() != s.Peer.Zone():
		return "it must be in the zone of the peer " + s.Peer.String()
	}
	return ""
}

func wrongInterval(d time.Duration) string {
	switch {
	case d < ShortestInterval || d > LongestInterval:
		return fmt.Sprintf("%s to %s are possible, and 200ms or more is advised", ShortestInterval, LongestInterval)
	case d%time.Microsecond != 0:
		return "whole microseconds are needed"
	}
	return ""
}
