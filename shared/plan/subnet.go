package plan

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/pointsman/pointsman/shared/fault"
)

// CodeOwnSubnet marks a table that is in force in the subnet of an NVA.
const CodeOwnSubnet = "OwnSubnet"

// Subnet is a subnet that uses a table.
type Subnet struct {
	ID       string         `json:"id"`                 // ARM resource id; "" where the domain file declares its prefix
	Prefixes []netip.Prefix `json:"prefixes,omitempty"` // of its addresses, one or more per family
}

// name returns the part of the id that people know.
func (s Subnet) name() string {
	parts := strings.Split(s.ID, "/")
	if len(parts) < 4 {
		return "a subnet"
	}
	return "subnet " + strings.Join([]string{parts[len(parts)-3], parts[len(parts)-1]}, "/") // VNET/SUBNET
}

// OwnSubnet refuses a table that one of the subnets uses in which an NVA has a next hop: whatever the NVA forwards would be sent back to it.
// inside returns the NVA of the domain that has a next hop in a prefix.
func OwnSubnet(subnets []Subnet, inside func(netip.Prefix) (nva string, hop netip.Addr, found bool)) error {
	for _, s := range subnets {
		for _, p := range s.Prefixes {
			if nva, hop, found := inside(p); found {
				return (&fault.Error{
					Kind: fault.Denied, Code: CodeOwnSubnet,
					Err: fmt.Errorf("the table is that of %s (%s), which holds %s, the next hop of %s: routes in it would send the NVA's own packets back to it, so nothing is written", s.name(), p, hop, nva),
				}).WithAdvice("associate that subnet with a table of its own that is no target; or set guards.ownSubnet: off, if this NVA does not forward from there")
			}
		}
	}
	return nil
}
