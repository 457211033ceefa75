package kernel

import (
	"fmt"

	"github.com/pointsman/pointsman/agent/source"
)

// describe writes a route as "prefix origin metric via a,b".
func describe(r source.Route) string {
	s := fmt.Sprintf("%v %s %d", r.Prefix, r.Origin, r.Metric)
	for i, n := range r.NextHops {
		s += map[bool]string{true: " via ", false: ","}[i == 0] + n.String()
	}
	return s
}
