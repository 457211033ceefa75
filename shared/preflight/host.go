package preflight

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The checks on an NVA itself.

// Forwards checks that the kernel forwards a family: value is that of the sysctl.
func Forwards(sysctl string, value Read[string]) Finding {
	say := about("kernel", sysctl)
	switch {
	case value.Err != nil:
		return Unread("kernel", sysctl, value.Err, "")
	case value.Value == "0":
		return say(Error, "it is 0: this machine forwards nothing of that family", "set it to 1: sysctl -w "+sysctl+"=1, and in /etc/sysctl.d")
	}
	return say(OK, "it is "+value.Value, "")
}

// ReversePath checks the filter that drops packets which come by another link than an answer would go by. values has the sysctl of each link, and "all", the greater of
// which and a link's own holds. Source: Linux, Documentation/networking/ip-sysctl.rst, rp_filter.
func ReversePath(values Read[map[string]string]) Finding {
	say := about("kernel", "net.ipv4.conf.*.rp_filter")
	if values.Err != nil {
		return Unread("kernel", "net.ipv4.conf.*.rp_filter", values.Err, "")
	}
	var strict []string
	for link, own := range values.Value {
		if link != "all" && link != "default" && link != "lo" && max(own, values.Value["all"]) == "1" {
			strict = append(strict, link)
		}
	}
	slices.Sort(strict)
	if len(strict) > 0 {
		return say(Warning, "it is 1 (strict) on "+strings.Join(strict, ", ")+": what comes by one link and would be answered by another is dropped, as during a failover",
			"set it to 2 (loose), on all: sysctl -w net.ipv4.conf.all.rp_filter=2, and in /etc/sysctl.d")
	}
	return say(OK, "it is nowhere 1 (strict)", "")
}

// Way is the route by which the kernel reaches an address.
type Way struct {
	To      netip.Addr
	Prefix  netip.Prefix
	By      string     // the route protocol: static, dhcp, bgp
	Learned bool       // a routing daemon put it there, and can take it away
	Via     netip.Addr // invalid: directly on the link
	Link    string
}

func (w Way) String() string {
	text := fmt.Sprintf("the %s route %s", w.By, w.Prefix)
	if w.Via.IsValid() {
		text += " via " + w.Via.String()
	}
	if w.Link != "" {
		text += " on " + w.Link
	}
	return text
}

// WayToBus checks that the way to Service Bus does not depend on the routes that the agent reports: when those go, it could not say so.
func WayToBus(host string, ways Read[[]Way]) []Finding {
	say := about("way", host)
	if ways.Err != nil {
		return []Finding{Unread("way", host, ways.Err, "")}
	}
	var out []Finding
	for _, w := range ways.Value {
		if w.Learned {
			out = append(out, say(Warning, fmt.Sprintf("Service Bus (%s) is reached by %s, which a routing daemon can take away: if that path dies, so does the way to say it", w.To, w),
				"give Service Bus a static route by the uplink in Azure (the gateway of the NVA's subnet), or a private endpoint there"))
			continue
		}
		out = append(out, say(OK, fmt.Sprintf("%s is reached by %s, which does not depend on what the agent reports", w.To, w), ""))
	}
	return out
}

// Reach checks that Service Bus answers. err is why it did not.
func Reach(address string, err error) Finding {
	if err != nil {
		return Finding{Severity: Error, Check: "bus", Of: address, Found: "no connection: " + err.Error(), Do: "let the NVA reach it: name resolution, routes, firewalls, and private endpoints if the namespace is not public"}
	}
	return Finding{Severity: OK, Check: "bus", Of: address, Found: "it answers"}
}

// Synchronised checks that something keeps this machine's clock: dead-man switches are armed for a time of the broker's.
func Synchronised(kept Read[bool]) Finding {
	say := about("clock", "this machine")
	switch {
	case kept.Err != nil:
		return Unread("clock", "this machine", kept.Err, "")
	case !kept.Value:
		return say(Warning, "nothing keeps the clock: when it is off the dead-man switch fires early, or late", "run chrony or systemd-timesyncd; in Azure the host's clock is at /dev/ptp_hyperv")
	}
	return say(OK, "the kernel says that the clock is kept", "")
}
