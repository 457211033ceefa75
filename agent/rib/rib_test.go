package rib_test

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/agent/rib"
	"github.com/pointsman/pointsman/agent/source"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/route"
)

func routes(origin string, prefixes ...string) []source.Route {
	var out []source.Route
	for _, p := range prefixes {
		out = append(out, source.Route{Prefix: netip.MustParsePrefix(p), Metric: 20, Origin: origin})
	}
	return out
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

// lines shows changes as "10.0.0.0/8 - > bgp".
func lines(changes []rib.Change) []string {
	show := func(v rib.Value) string {
		if !v.Announced {
			return "-"
		}
		return v.Attrs.Origin
	}
	out := []string{}
	for _, c := range changes {
		out = append(out, c.Prefix.String()+" "+show(c.Was)+" > "+show(c.Is))
	}
	return out
}

func expect(t *testing.T, what string, got []rib.Change, want ...string) {
	t.Helper()
	if diff := cmp.Diff(want, lines(got), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func TestEarlierSourceWins(t *testing.T) {
	r := rib.New(rib.Filter{}, "bgp", "kernel")
	expect(t, "the first view of the second source", r.Replace(1, routes("static", "10.1.0.0/16", "10.3.0.0/16")),
		"10.1.0.0/16 - > static", "10.3.0.0/16 - > static")
	if r.Ready() {
		t.Error("ready before the first source has reported")
	}
	expect(t, "the first source takes over a prefix", r.Replace(0, routes("bgp", "10.1.0.0/16", "10.2.0.0/16")),
		"10.1.0.0/16 static > bgp", "10.2.0.0/16 - > bgp")
	if !r.Ready() {
		t.Error("not ready although every source has reported")
	}
	expect(t, "what is hidden changes nothing", r.Update(1, nil, prefixes("10.1.0.0/16")))
	expect(t, "and shows when it is back", r.Update(1, routes("static", "10.1.0.0/16"), nil))
	expect(t, "the first source gives it up", r.Update(0, nil, prefixes("10.1.0.0/16")), "10.1.0.0/16 bgp > static")
	expect(t, "a complete view withdraws the rest", r.Replace(1, nil), "10.1.0.0/16 static > -", "10.3.0.0/16 static > -")
	if r.Len() != 1 {
		t.Errorf("%d prefixes, want 1", r.Len())
	}
}

func TestLostSourceKeepsItsRoutes(t *testing.T) {
	r := rib.New(rib.Filter{}, "kernel")
	r.Lost(0, errors.New("no permission"))
	if r.Ready() || r.Sources()[0].State != rib.Waiting {
		t.Error("a source that never reported is not waiting any more")
	}
	r.Replace(0, routes("bgp", "10.1.0.0/16"))
	r.Lost(0, errors.New("socket closed"))
	if got := r.Routes(); len(got) != 1 || !got[0].Stale {
		t.Errorf("routes %v: want one that is stale", got)
	}
	if s := r.Sources()[0]; s.State != rib.Lost || s.Reason == nil || !r.Ready() {
		t.Errorf("source %+v: want lost with its reason, and the RIB still ready", s)
	}
	expect(t, "the same view again", r.Replace(0, routes("bgp", "10.1.0.0/16")))
	if s := r.Sources()[0]; s.State != rib.Live || s.Reason != nil {
		t.Errorf("source %+v: want live", s)
	}
}

func TestFilter(t *testing.T) {
	match := func(s string) route.Match {
		m, err := route.ParseMatch(s)
		if err != nil {
			t.Fatal(err)
		}
		return m
	}
	r := rib.New(rib.Filter{Include: []route.Match{match("10.0.0.0/8 le 24"), match("169.254.0.0/16 le 32")}, Exclude: []route.Match{match("10.9.0.0/16")}}, "kernel")
	expect(t, "filtered", r.Replace(0, routes("bgp", "10.1.0.0/16", "10.1.1.0/25", "10.9.0.0/16", "10.9.1.0/24", "192.168.0.0/16", "169.254.1.0/24")),
		"10.1.0.0/16 - > bgp", "10.9.1.0/24 - > bgp")
}

// TestInvariants: whatever is reported, the changes carry a follower from the empty RIB to Entries, and digest and count fit.
func TestInvariants(t *testing.T) {
	all := []string{"10.0.0.0/8", "10.1.0.0/16", "10.2.0.0/16", "fd00::/8", "127.0.0.0/8"}
	rapid.Check(t, func(rt *rapid.T) {
		r := rib.New(rib.Filter{}, "a", "b", "c")
		follower := map[netip.Prefix]rib.Value{}
		follow := func(changes []rib.Change) {
			for _, c := range changes {
				if follower[c.Prefix] != c.Was || c.Was == c.Is {
					rt.Fatalf("change %+v, but the follower holds %+v", c, follower[c.Prefix])
				}
				follower[c.Prefix] = c.Is
			}
		}
		draw := func() []string {
			return rapid.SliceOfNDistinct(rapid.SampledFrom(all), 0, len(all), rapid.ID[string]).Draw(rt, "prefixes")
		}
		origin := func() string { return rapid.SampledFrom([]string{"bgp", "static"}).Draw(rt, "origin") }
		which := func() int { return rapid.IntRange(0, 2).Draw(rt, "source") }
		rt.Repeat(map[string]func(*rapid.T){
			"replace": func(*rapid.T) { follow(r.Replace(which(), routes(origin(), draw()...))) },
			"update": func(*rapid.T) {
				list := draw()
				half := len(list) / 2
				follow(r.Update(which(), routes(origin(), list[:half]...), prefixes(list[half:]...)))
			},
			"lost": func(*rapid.T) { r.Lost(which(), errors.New("gone")) },
			"": func(*rapid.T) {
				want := []route.Entry{}
				var digest route.Digest
				for p, v := range follower {
					if v.Announced {
						want = append(want, route.Entry{Prefix: p, Attrs: v.Attrs})
						digest = digest.Add(want[len(want)-1])
					}
				}
				event.Sort(want)
				if got := r.Entries(); !slices.Equal(got, want) {
					rt.Fatalf("entries %v, want %v", got, want)
				}
				if r.Len() != len(want) || r.Digest() != digest || len(r.Routes()) != len(want) {
					rt.Fatalf("%d prefixes, digest %s: want %d, %s", r.Len(), r.Digest(), len(want), digest)
				}
			},
		})
	})
}
