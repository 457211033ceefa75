package peering_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/config"
	"github.com/pointsman/pointsman/shared/peering"
)

func addr(n int) netip.Addr { return netip.AddrFrom4([4]byte{10, 0, 0, byte(n)}) }

// parse reads "name address-octet asn [state]".
func parse(t *testing.T, line string) peering.Peer {
	t.Helper()
	var name, state string
	var octet int
	var asn uint32
	if n, err := fmt.Sscan(line, &name, &octet, &asn, &state); n < 3 {
		t.Fatalf("%q: %v", line, err)
	}
	p := peering.Peer{Name: name, Address: addr(octet), ASN: asn, State: peering.Settled, ETag: "e-" + name}
	for _, s := range peering.States() {
		if s.String() == state {
			p.State = s
		}
	}
	return p
}

// TestTruthTable goes through the rows of the package comment.
func TestTruthTable(t *testing.T) {
	for _, tt := range []struct {
		name        string
		wants, have []string
		owned       string
		limit       int
		want        string
	}{
		{name: "free", wants: []string{"p-a 4 65001"}, want: "create p-a 10.0.0.4 AS 65001"},
		{name: "two are created in the file's order", wants: []string{"p-b 5 65002", "p-a 4 65001"}, want: "create p-b 10.0.0.5 AS 65002; create p-a 10.0.0.4 AS 65001"},
		{name: "as wanted", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65001"}, owned: "p-a"},
		{name: "names compare without case", wants: []string{"p-a 4 65001"}, have: []string{"P-A 4 65001"}, owned: "p-a"},
		{name: "made by somebody else under our name", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65001"}},
		{name: "another's of our name", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65009"}, want: "blocked a: peer p-a (10.0.0.4 AS 65009) is not Pointsman's"},
		{name: "another AS", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65009"}, owned: "p-a", want: "replace p-a 10.0.0.4 AS 65001"},
		{name: "another address", wants: []string{"p-a 4 65001"}, have: []string{"p-a 9 65001"}, owned: "p-a", want: "replace p-a 10.0.0.4 AS 65001"},
		{name: "failed", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65001 failed"}, owned: "p-a", want: "replace p-a 10.0.0.4 AS 65001"},
		{name: "another's that failed", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65001 failed"}},
		{name: "made by somebody else", wants: []string{"p-a 4 65001"}, have: []string{"by-hand 4 65001"}},
		{name: "address of somebody else's", wants: []string{"p-a 4 65001"}, have: []string{"by-hand 4 65009"}, want: "blocked a: peer by-hand, which is not Pointsman's, has the address 10.0.0.4 with AS 65009"},
		{name: "wanted address of somebody else's", wants: []string{"p-a 4 65001"}, have: []string{"by-hand 4 65001", "p-a 9 65001"}, owned: "p-a", want: "delete p-a 10.0.0.9 AS 65001"},
		{name: "wanted address of somebody else's with another AS", wants: []string{"p-a 4 65001"}, have: []string{"by-hand 4 65009", "p-a 9 65001"}, owned: "p-a", want: "blocked a: peer by-hand, which is not Pointsman's, has the address 10.0.0.4 with AS 65009"},
		{name: "made by somebody else, under another name than ours, which is theirs too", wants: []string{"p-a 4 65001"}, have: []string{"by-hand 4 65001", "p-a 9 65001"}},
		{name: "foreign name, address of ours", wants: []string{"p-a 4 65001", "p-b 5 65002"}, have: []string{"p-a 9 65001", "p-b 4 65002"}, owned: "p-b", want: "replace p-b 10.0.0.5 AS 65002; blocked a: peer p-a (10.0.0.9 AS 65001) is not Pointsman's"},
		{name: "address of ours that nobody wants", wants: []string{"p-a 4 65001"}, have: []string{"p-old 4 65001"}, owned: "p-old", want: "delete p-old 10.0.0.4 AS 65001; create p-a 10.0.0.4 AS 65001"},
		{
			name: "two change places", wants: []string{"p-a 5 65001", "p-b 4 65002"}, have: []string{"p-a 4 65001", "p-b 5 65002"}, owned: "p-a p-b",
			want: "delete p-b 10.0.0.5 AS 65002; replace p-a 10.0.0.5 AS 65001; create p-b 10.0.0.4 AS 65002",
		},
		{name: "not wanted", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65001", "p-old 9 65009"}, owned: "p-a p-old", want: "delete p-old 10.0.0.9 AS 65009"},
		{name: "what brings about comes first", wants: []string{"p-a 4 65001"}, have: []string{"p-old 9 65009"}, owned: "p-old", want: "create p-a 10.0.0.4 AS 65001; delete p-old 10.0.0.9 AS 65009"},
		{name: "somebody else's is never removed", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65001", "by-hand 9 65009", "p-look-alike 8 65008"}, owned: "p-a by-hand"},
		{name: "full, one of ours goes", wants: []string{"p-a 4 65001"}, have: []string{"p-old 9 65009", "by-hand 8 65008"}, owned: "p-old", limit: 2, want: "delete p-old 10.0.0.9 AS 65009; create p-a 10.0.0.4 AS 65001"},
		{name: "full of others", wants: []string{"p-a 4 65001"}, have: []string{"by-hand 8 65008"}, limit: 1, want: "blocked a: the Route Server has 1 peers and takes no more (maxPeers)"},
		{name: "one is in work", wants: []string{"p-a 4 65001", "p-b 5 65002"}, have: []string{"p-a 4 65001 changing"}, owned: "p-a", want: "busy p-a; create p-b 10.0.0.5 AS 65002"},
		{name: "somebody else's is in work", wants: []string{"p-a 4 65001"}, have: []string{"by-hand 8 65008 leaving"}, want: "busy by-hand; create p-a 10.0.0.4 AS 65001"},
		{name: "one leaves that is wanted again", wants: []string{"p-a 4 65001"}, have: []string{"p-a 4 65001 leaving"}, owned: "p-a", want: "busy p-a; create p-a 10.0.0.4 AS 65001"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var have []peering.Peer
			for _, line := range tt.have {
				have = append(have, parse(t, line))
			}
			var wants []peering.Want
			for _, line := range tt.wants {
				p := parse(t, line)
				wants = append(wants, peering.Want{NVA: strings.TrimPrefix(p.Name, "p-"), Name: p.Name, Address: p.Address, ASN: p.ASN})
			}
			limit := 8
			if tt.limit > 0 {
				limit = tt.limit
			}
			owned := strings.Fields(tt.owned)
			p := peering.Make(wants, have, peering.Rules{NamePrefix: "p-", Owned: func(n string) bool { return slices.Contains(owned, strings.ToLower(n)) }, MaxPeers: limit})
			if diff := cmp.Diff(tt.want, describe(p)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			if next, ok := p.Next(); ok != (p.Busy == "" && len(p.Steps) > 0) || ok && next != p.Steps[0] || p.Done() != (p.Busy == "" && len(p.Steps) == 0) {
				t.Errorf("next %v, %t, done %t of %s", next, ok, p.Done(), describe(p))
			}
		})
	}
}

func describe(p peering.Plan) string {
	var out []string
	if p.Busy != "" {
		out = append(out, "busy "+p.Busy)
	}
	for _, s := range p.Steps {
		out = append(out, s.String())
	}
	for _, b := range p.Blocked {
		out = append(out, "blocked "+b.String())
	}
	return strings.Join(out, "; ")
}

// hub is a Route Server as the properties see it: it refuses what the real one refuses.
type hub struct {
	peers   []peering.Peer
	foreign []peering.Peer // as they were; they must stay so
	owned   map[string]bool
	limit   int
	version int
}

func (h *hub) rules() peering.Rules {
	return peering.Rules{NamePrefix: "p-", Owned: func(n string) bool { return h.owned[strings.ToLower(n)] }, MaxPeers: h.limit}
}

func (h *hub) find(name string) int {
	return slices.IndexFunc(h.peers, func(p peering.Peer) bool { return strings.EqualFold(p.Name, name) })
}

// do makes a step, as the product does: the name is listed before.
func (h *hub) do(t *rapid.T, s peering.Step) {
	i := h.find(s.Name)
	if i >= 0 && s.ETag != h.peers[i].ETag || i < 0 && s.Kind != peering.Create {
		t.Fatalf("%s rests on what is not there: %+v", s, h.peers)
	}
	if i >= 0 && !h.rules().Managed(h.peers[i]) {
		t.Fatalf("%s touches a peer of somebody else: %+v", s, h.peers[i])
	}
	h.owned[strings.ToLower(s.Name)] = true
	if i >= 0 {
		h.peers = slices.Delete(h.peers, i, i+1)
	}
	if s.Kind == peering.Delete {
		return
	}
	if slices.ContainsFunc(h.peers, func(p peering.Peer) bool { return p.Address == s.Address }) || len(h.peers) >= h.limit {
		t.Fatalf("%s would be refused: %+v", s, h.peers)
	}
	h.version++
	h.peers = append(h.peers, peering.Peer{Name: s.Name, Address: s.Address, ASN: s.ASN, State: peering.Settled, ETag: fmt.Sprint(h.version)})
}

func drawHub(t *rapid.T) *hub {
	h := &hub{owned: map[string]bool{}, limit: rapid.IntRange(1, 8).Draw(t, "limit")}
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"p-a", "P-B", "p-c", "p-d", "by-hand", "other"}), 0, h.limit, strings.ToLower).Draw(t, "names")
	octets := rapid.SliceOfNDistinct(rapid.IntRange(1, 6), len(names), len(names), rapid.ID[int]).Draw(t, "octets")
	for i, name := range names {
		p := peering.Peer{
			Name: name, Address: addr(octets[i]), ASN: uint32(65000 + rapid.IntRange(1, 2).Draw(t, "asn")), ETag: "read-" + name, //nolint:gosec // small
			State: rapid.SampledFrom([]peering.State{peering.Settled, peering.Broken}).Draw(t, "state"),
		}
		h.owned[strings.ToLower(name)] = rapid.Bool().Draw(t, "owned")
		h.peers = append(h.peers, p)
		if !h.rules().Managed(p) {
			h.foreign = append(h.foreign, p)
		}
	}
	return h
}

func drawWants(t *rapid.T) []peering.Want {
	names := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c"}), 1, 3, rapid.ID[string]).Draw(t, "wanted")
	octets := rapid.SliceOfNDistinct(rapid.IntRange(1, 6), len(names), len(names), rapid.ID[int]).Draw(t, "wanted octets")
	var out []peering.Want
	for i, n := range names {
		asn := uint32(65000 + rapid.IntRange(1, 2).Draw(t, "wanted asn")) //nolint:gosec // small
		out = append(out, peering.Want{NVA: n, Name: "p-" + n, Address: addr(octets[i]), ASN: asn})
	}
	return out
}

// TestLaws: whatever is there, step by step the Route Server becomes as wanted; peers of others are as they were; what cannot be is said; once it is done
// nothing more is planned; and the plan made at first is the one that is carried out.
func TestLaws(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, wants := drawHub(t), drawWants(t)
		first := peering.Make(wants, h.peers, h.rules())
		steps := 0
		for plan := first; ; plan = peering.Make(wants, h.peers, h.rules()) {
			next, more := plan.Next()
			if !more {
				break
			}
			if steps >= len(first.Steps) || next.String() != first.Steps[steps].String() {
				t.Fatalf("step %d is %s, planned was %s", steps, next, describe(first))
			}
			h.do(t, next)
			steps++
		}
		for _, f := range h.foreign {
			if i := h.find(f.Name); i < 0 || h.peers[i] != f {
				t.Fatalf("the peer %+v of somebody else is now %+v", f, h.peers)
			}
		}
		last := peering.Make(wants, h.peers, h.rules())
		if !last.Done() || steps != len(first.Steps) {
			t.Fatalf("not done after %d steps: %s", steps, describe(last))
		}
		blocked := map[string]bool{}
		for _, b := range last.Blocked {
			blocked[b.Want.Name] = true
		}
		for _, w := range wants {
			there := slices.ContainsFunc(h.peers, func(p peering.Peer) bool {
				return p.Address == w.Address && p.ASN == w.ASN && (strings.EqualFold(p.Name, w.Name) || !h.rules().Managed(p))
			})
			if there == blocked[w.Name] {
				t.Fatalf("%+v is there: %t, blocked: %t", w, there, blocked[w.Name])
			}
		}
		for _, p := range h.peers {
			wanted := slices.ContainsFunc(wants, func(w peering.Want) bool { return strings.EqualFold(w.Name, p.Name) })
			if h.rules().Managed(p) && !wanted {
				t.Fatalf("nobody wants %+v", p)
			}
		}
	})
}

// TestNothingIsBegunWhileAnythingIsInWork: one operation at a time, whoever began it.
func TestNothingIsBegunWhileAnythingIsInWork(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h, wants := drawHub(t), drawWants(t)
		if len(h.peers) == 0 {
			return
		}
		i := rapid.IntRange(0, len(h.peers)-1).Draw(t, "which")
		h.peers[i].State = rapid.SampledFrom([]peering.State{peering.Changing, peering.Leaving}).Draw(t, "in work")
		p := peering.Make(wants, h.peers, h.rules())
		if next, more := p.Next(); more || p.Done() || p.Busy != h.peers[i].Name {
			t.Fatalf("begins %s while %s is in work", next, h.peers[i].Name)
		}
	})
}

func TestWantsCarryThePrefix(t *testing.T) {
	d := &config.Domain{Policy: config.Policy{RouteNamePrefix: "pointsman-"}}
	r := config.RouteServer{Peers: []config.Peer{{NVA: "nva-a", Address: addr(4), ASN: 65001}}}
	want := []peering.Want{{NVA: "nva-a", Name: "pointsman-nva-a", Address: addr(4), ASN: 65001}}
	if got := peering.Wants(d, r); !slices.Equal(got, want) {
		t.Errorf("%+v", got)
	}
}

func TestWords(t *testing.T) {
	for _, s := range peering.States() {
		text, _ := s.MarshalText()
		var back peering.State
		if err := back.UnmarshalText(text); err != nil || back != s {
			t.Errorf("%s comes back as %s, %v", s, back, err)
		}
	}
	for _, k := range peering.Kinds() {
		text, _ := k.MarshalText()
		var back peering.Kind
		if err := back.UnmarshalText(text); err != nil || back != k {
			t.Errorf("%s comes back as %s, %v", k, back, err)
		}
	}
	var s peering.State
	if err := s.UnmarshalText([]byte("new")); err != nil || s != peering.Broken {
		t.Errorf("an unknown state is %s, %v", s, err)
	}
	var k peering.Kind
	if k.UnmarshalText([]byte("new")) == nil {
		t.Error("an unknown kind is taken")
	}
}

func net24(n int) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 64, byte(n), 0}), 24)
}

func TestCompare(t *testing.T) {
	frontend := addr(100)
	a := peering.Announced{
		Prefixes: []netip.Prefix{net24(3), net24(1), net24(2)},
		Concerns: func(p netip.Prefix) bool { return p.Overlaps(netip.MustParsePrefix("10.64.0.0/16")) },
		Leads:    func(_ netip.Prefix, hop netip.Addr) bool { return hop == addr(4) || hop == frontend },
	}
	got := peering.Compare(a, []peering.Instance{
		{Name: "zero", Routes: []peering.Route{{net24(2), addr(4)}, {net24(1), frontend}, {net24(3), addr(4)}, {netip.MustParsePrefix("10.9.0.0/16"), addr(9)}}},
		{Name: "one", Routes: []peering.Route{{net24(7), addr(4)}, {net24(1), addr(5)}}},
		{Name: "two"},
	})
	want := []peering.Heard{
		{Instance: "zero", Routes: 4, Listed: 3},
		{
			Instance: "one", Routes: 2, Listed: 2, Missing: 2, Surplus: 1, Astray: 1,
			Examples: []string{"10.64.2.0/24 is missing", "10.64.3.0/24 is missing", "10.64.1.0/24 leads to 10.0.0.5", "10.64.7.0/24 is not announced"},
		},
		{Instance: "two", Missing: 3, Examples: []string{"10.64.1.0/24 is missing", "10.64.2.0/24 is missing", "10.64.3.0/24 is missing"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if !got[0].Same() || got[1].Same() || got[2].Same() {
		t.Error("Same does not tell them apart")
	}
	if text := got[1].String(); text != "one: 2 missing, 1 not announced, 1 with another next hop (10.64.2.0/24 is missing, 10.64.3.0/24 is missing, 10.64.1.0/24 leads to 10.0.0.5, 10.64.7.0/24 is not announced)" {
		t.Errorf("%s", text)
	}
}

func TestStanding(t *testing.T) {
	at := func(n int) time.Time { return time.Unix(int64(n), 0) }
	peers := func(clear, full time.Time) peering.Standing {
		return peering.Standing{Peers: true, Clear: clear, Full: full}
	}
	for _, tt := range []struct {
		s     peering.Standing
		since time.Time
		want  bool
	}{
		{peering.Standing{}, at(5), false},
		{peers(time.Time{}, time.Time{}), at(5), true},
		{peers(at(4), time.Time{}), at(5), true},
		{peers(at(5), time.Time{}), at(5), false},
		{peers(at(6), time.Time{}), at(5), false},
		{peers(at(6), time.Time{}), time.Time{}, false},
	} {
		if got := tt.s.Lists(tt.since); got != tt.want {
			t.Errorf("%+v lists since %s: %t, want %t", tt.s, tt.since, got, tt.want)
		}
	}
	a, b := peers(at(4), time.Time{}), peers(at(3), at(9))
	if got := a.Join(b); got != b.Join(a) || got != peers(at(3), time.Time{}) {
		t.Errorf("joined: %+v", got)
	}
	if a.Join(peering.Standing{}) != a || (peering.Standing{}).Join(a) != a {
		t.Error("a Route Server that it does not peer with changes something")
	}
}
