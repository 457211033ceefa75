package routetext

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"

	"github.com/pointsman/pointsman/shared/route"
)

// FRR reads the output of `show ip route json` or `show ipv6 route json`: the selected route of each prefix, in the order of route.Compare.
func FRR(data []byte, f Filter) ([]route.Entry, error) {
	var all map[string][]struct {
		Protocol string `json:"protocol"`
		Selected bool   `json:"selected"`
		Metric   uint32 `json:"metric"`
	}
	if err := json.Unmarshal(data, &all); err != nil {
		return nil, fmt.Errorf("not what show ip route json prints (of one VRF): %w", err)
	}
	var out []route.Entry
	for text, routes := range all {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("%q is not a prefix: print one VRF only", text)
		}
		for _, r := range routes {
			if r.Selected && f.counts(r.Protocol) {
				out = append(out, route.Entry{Prefix: route.Canonical(p), Attrs: route.Attrs{Metric: r.Metric, Origin: r.Protocol}})
				break
			}
		}
	}
	slices.SortFunc(out, func(a, b route.Entry) int { return route.Compare(a.Prefix, b.Prefix) })
	return out, nil
}
