package reach_test

import (
	"testing"

	"github.com/pointsman/pointsman/agent/reach"
)

func TestLines(t *testing.T) {
	for _, line := range []string{
		"tcp 168.63.129.16:80", "icmp 10.0.1.1", "tcp [2001:db8::1]:443 source 2001:db8::2", "icmp 2001:db8::1 interface eth1",
		"icmp 10.0.1.1 source 10.0.1.4 interface eth1",
	} {
		target, err := reach.Parse(line)
		if err != nil || target.String() != line {
			t.Errorf("%q was read as %q, %v", line, target, err)
		}
	}
	for _, line := range []string{
		"", "tcp", "icmp", "udp 10.0.0.1:7", "tcp 10.0.0.1", "tcp 10.0.0.1:0", "tcp example.net:80", "icmp 10.0.0.1:7", "icmp 0.0.0.0", "icmp 224.0.0.1",
		"icmp fe80::1%eth0", "icmp ::ffff:10.0.0.1", "icmp 10.0.0.1 source", "icmp 10.0.0.1 source ::1", "icmp 10.0.0.1 source 10.0.0.2 source 10.0.0.3",
		"icmp 10.0.0.1 interface a/b", "icmp 10.0.0.1 interface name-of-16-bytes", "icmp 10.0.0.1 via eth0",
	} {
		if target, err := reach.Parse(line); err == nil {
			t.Errorf("%q was read as %q", line, target)
		}
	}
}
