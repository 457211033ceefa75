package lab_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

const peerYAML = `
as: %d
peers:
  - {name: daemon, address: %s, as: 65010, passive: true, holdTime: 9s}
`

func site65010(t *testing.T, agentAS int, more string) *site {
	t.Helper()
	return newSite(t, fmt.Sprintf(peerYAML, agentAS, nvaAddress)+more)
}

// TestFRR: announcements, withdrawals, a bgpd that is killed or stopped, a session that flaps.
func TestFRR(t *testing.T) {
	t.Parallel()
	need(t, "/usr/lib/frr/bgpd", "vtysh")
	for _, agentAS := range []int{65010, 65001} {
		t.Run(labName(t, 65010, agentAS), func(t *testing.T) {
			t.Parallel()
			s := site65010(t, agentAS, "")
			f := startFRR(s, frrBGP(agentAS, nil, "10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48")...)
			s.announces("the first routes", "10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48")
			want := []string{"10.1.0.0/16 metric 0 via " + nvaAddress, "10.2.0.0/16 metric 0 via " + nvaAddress, "fd00:1::/48 metric 0 via " + nvaAddress6}
			if got := s.rib(); !slices.Equal(got, want) {
				t.Errorf("RIB\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			f.say("configure terminal", "router bgp 65010", "address-family ipv4 unicast", "no network 10.1.0.0/16", "network 10.3.0.0/16")
			s.announces("a withdrawal and an announcement", "10.2.0.0/16", "10.3.0.0/16", "fd00:1::/48")
			f.say("configure terminal", "router bgp 65010", "address-family ipv6 unicast", "no network fd00:1::/48", "network fd00:2::/48")
			s.announces("the same for IPv6", "10.2.0.0/16", "10.3.0.0/16", "fd00:2::/48")

			signal := os.Kill
			if agentAS != 65010 {
				signal = syscall.SIGTERM
			}
			f.bgpd.end(signal)
			s.stale("bgpd has ended", "peer daemon: the connection was lost", "10.2.0.0/16", "10.3.0.0/16", "fd00:2::/48")
			f.write(frrBGP(agentAS, nil, "10.3.0.0/16", "10.4.0.0/16", "fd00:2::/48")...)
			f.restart()
			s.announces("bgpd is back with other routes", "10.3.0.0/16", "10.4.0.0/16", "fd00:2::/48")

			f.say("clear bgp *")
			s.stale("the session is reset", "administrative reset", "10.3.0.0/16", "10.4.0.0/16", "fd00:2::/48")
			s.announces("and comes back", "10.3.0.0/16", "10.4.0.0/16", "fd00:2::/48")
		})
	}
}

// TestFRRGracefulRestart: bgpd is killed and does not come back; its restart time counts where it is longer.
func TestFRRGracefulRestart(t *testing.T) {
	t.Parallel()
	need(t, "/usr/lib/frr/bgpd", "vtysh")
	for word, left := range map[string][]string{"keep": {"10.1.0.0/16"}, "withdraw": nil} {
		t.Run(word, func(t *testing.T) {
			t.Parallel()
			s := site65010(t, 65001, "restartTime: 1s\nonSessionLoss: "+word)
			f := startFRR(s, frrBGP(65001, []string{" bgp graceful-restart", " bgp graceful-restart restart-time 4", " bgp graceful-restart preserve-fw-state"}, "10.1.0.0/16")...)
			s.announces("the first route", "10.1.0.0/16")
			killed := time.Now()
			f.bgpd.kill()
			s.stale("bgpd is killed", "it asked to be waited for", "10.1.0.0/16")
			s.stale("it does not come back", "not back in time", left...)
			if waited := time.Since(killed); waited < 4*time.Second {
				t.Errorf("given up after %s, bgpd asked for 4s", waited)
			}
		})
	}
}

// TestBIRD: the same with BIRD, which is stopped in both ways.
func TestBIRD(t *testing.T) {
	t.Parallel()
	need(t, "bird", "birdc")
	for _, agentAS := range []int{65010, 65001} {
		t.Run(labName(t, 65010, agentAS), func(t *testing.T) {
			t.Parallel()
			s := site65010(t, agentAS, "")
			graceful, signal := agentAS == 65010, os.Signal(syscall.SIGTERM)
			if graceful {
				signal = os.Kill
			}
			b := startBIRD(s, 65010, agentAS, graceful, "10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48")
			s.announces("the first routes", "10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48")
			want := []string{"10.1.0.0/16 metric 0 via " + nvaAddress, "10.2.0.0/16 metric 0 via " + nvaAddress, "fd00:1::/48 metric 0 via " + nvaAddress6}
			if got := s.rib(); !slices.Equal(got, want) {
				t.Errorf("RIB\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
			}
			b.announce("10.2.0.0/16", "10.3.0.0/16", "fd00:2::/48")
			s.announces("withdrawals and announcements", "10.2.0.0/16", "10.3.0.0/16", "fd00:2::/48")

			b.process.end(signal)
			s.stale("BIRD has ended", "peer daemon: ", "10.2.0.0/16", "10.3.0.0/16", "fd00:2::/48")
			b.write("10.3.0.0/16", "10.4.0.0/16")
			b.launch()
			s.announces("BIRD is back with other routes", "10.3.0.0/16", "10.4.0.0/16")
		})
	}
}
