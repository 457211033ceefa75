package kernel

import "strconv"

// protocolName is the name of a route protocol: those of include/uapi/linux/rtnetlink.h, and those that FRR adds
// (zebra/rt_netlink.h; 196 are FRR's own static routes).
func protocolName(p uint8) string {
	switch p {
	case protocolRedirect:
		return "redirect"
	case protocolKernel:
		return "kernel"
	case 3:
		return "boot"
	case 4, 196:
		return "static"
	case protocolRA:
		return "ra"
	case 11:
		return "zebra"
	case 12:
		return "bird"
	case 14:
		return "xorp"
	case 16:
		return "dhcp"
	case 18:
		return "keepalived"
	case 42:
		return "babel"
	case 99:
		return "openr"
	case 186:
		return "bgp"
	case 187:
		return "isis"
	case 188:
		return "ospf"
	case 189:
		return "rip"
	case 191:
		return "nhrp"
	case 192:
		return "eigrp"
	case 193:
		return "ldp"
	case 194:
		return "sharp"
	case 195:
		return "pbr"
	case 197:
		return "openfabric"
	case 198:
		return "srte"
	}
	return strconv.Itoa(int(p))
}
