package bgp

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pointsman/pointsman/shared/route"
)

// DefaultLocalPreference is what a path without LOCAL_PREF has, as in FRR and BIRD.
const DefaultLocalPreference = 100

// Path is what an UPDATE says of one prefix.
type Path struct {
	Prefix    netip.Prefix // canonical
	Withdrawn bool         // and then nothing below is set

	NextHop         netip.Addr
	LocalPreference uint32
	MED             uint32   // 0 where there is none (RFC 4271, section 9.1.2.2 c)
	ASPath          []uint32 // every AS in it, of sets and confederations too
	ASPathLength    int      // a set counts 1, a confederation 0 (RFC 4271, section 9.1.2.2 a; RFC 5065, section 5.3)
	Communities     []Community
}

// accepts reports whether a path counts. One that carries the source's own AS does not (RFC 4271, section 9.1.2).
func (c *Config) accepts(p *Path) bool {
	if route.AnyMatches(c.Exclude, p.Prefix) || len(c.Include) > 0 && !route.AnyMatches(c.Include, p.Prefix) {
		return false
	}
	if c.ASPath.MaxLength > 0 && p.ASPathLength > c.ASPath.MaxLength || slices.Contains(p.ASPath, c.AS) || overlap(c.ASPath.Deny, p.ASPath) {
		return false
	}
	return !overlap(c.Communities.Deny, p.Communities) &&
		(len(c.Communities.Allow) == 0 || overlap(c.Communities.Allow, p.Communities))
}

func overlap[T comparable](a, b []T) bool {
	return slices.ContainsFunc(a, func(v T) bool { return slices.Contains(b, v) })
}

// metric returns the metric of the route that a path makes.
func (c *Config) metric(p *Path) uint32 {
	for _, r := range c.Metric {
		if r.fits(p) {
			return r.Metric
		}
	}
	return p.MED
}

// MetricRule gives a metric to the paths that it fits.
type MetricRule struct {
	Community Community // zero: the rule is about the local preference
	// AtLeast and AtMost bound the local preference.
	AtLeast, AtMost uint32
	Metric          uint32
}

func (r MetricRule) fits(p *Path) bool {
	if r.Community != (Community{}) {
		return slices.Contains(p.Communities, r.Community)
	}
	return r.AtLeast <= p.LocalPreference && p.LocalPreference <= r.AtMost
}

// String returns the form that ParseMetricRule reads.
func (r MetricRule) String() string {
	switch {
	case r.Community != (Community{}):
		return fmt.Sprintf("community %v metric %d", r.Community, r.Metric)
	case r.AtLeast == r.AtMost:
		return fmt.Sprintf("local-preference %d metric %d", r.AtLeast, r.Metric)
	}
	return fmt.Sprintf("local-preference ge %d metric %d", r.AtLeast, r.Metric)
}

// ParseMetricRule reads "community 65010:100 metric 10", "local-preference 200 metric 10" or "local-preference ge 200 metric 10".
func ParseMetricRule(s string) (MetricRule, error) {
	words := strings.Fields(s)
	if len(words) < 4 || words[len(words)-2] != "metric" {
		return MetricRule{}, fmt.Errorf("found %q", s)
	}
	r, err := parseMatch(words[:len(words)-2])
	if err != nil {
		return MetricRule{}, fmt.Errorf("found %q: %w", s, err)
	}
	if r.Metric, err = parseNumber(words[len(words)-1]); err != nil {
		return MetricRule{}, fmt.Errorf("found %q: %w", s, err)
	}
	return r, nil
}

func parseMatch(words []string) (r MetricRule, err error) {
	switch {
	case len(words) == 2 && words[0] == "community":
		r.Community, err = ParseCommunity(words[1])
		if err == nil && r.Community == (Community{}) {
			err = errors.New("0:0 is reserved")
		}
		return r, err
	case len(words) == 2 && words[0] == "local-preference":
		r.AtLeast, err = parseNumber(words[1])
		r.AtMost = r.AtLeast
		return r, err
	case len(words) == 3 && words[0] == "local-preference" && words[1] == "ge":
		r.AtLeast, err = parseNumber(words[2])
		r.AtMost = 1<<32 - 1
		return r, err
	}
	return r, errors.New("it begins with neither community nor local-preference")
}

func parseNumber(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0, fmt.Errorf("%q is not a number from 0 to 4294967295", s)
	}
	return uint32(n), nil
}
