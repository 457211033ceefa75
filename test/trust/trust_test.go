package trust_test

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/liveness"
	"github.com/pointsman/pointsman/shared/route"
	"github.com/pointsman/pointsman/shared/signature"
)

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

// The prefixes in play: those that all may announce, those that only the honest ones may, and those that nobody may.
func shared() []netip.Prefix {
	return prefixes("10.64.1.0/24", "10.64.2.0/24", "10.64.3.0/24", "10.64.4.0/24", "10.64.16.0/20")
}

func honest() []netip.Prefix {
	return prefixes("10.65.1.0/24", "10.65.2.0/24", "10.64.0.0/16", "10.64.0.0/15")
}

func forbidden() []netip.Prefix {
	return prefixes("0.0.0.0/0", "10.64.1.0/25", "10.64.1.4/32", "10.0.0.4/32", "168.63.129.16/32", "169.254.169.254/32", "10.65.9.0/24", "fd00::/48", "::/0")
}

// speaker is an honest agent.
type speaker struct {
	name string
	seq  uint64
	rib  map[netip.Prefix]bool
}

func newSpeaker(name string) *speaker { return &speaker{name: name, rib: map[netip.Prefix]bool{}} }

func (s *speaker) event(kind event.Kind) event.Event {
	s.seq++
	return event.Event{Domain: "hub", NVA: s.name, Kind: kind, Version: event.Version{Epoch: 5, Seq: s.seq}, Boot: "boot-" + s.name, Beat: 1}
}

// begin says that there is nothing yet, and which peers answer.
func (s *speaker) begin(peers ...string) event.Event {
	e := s.event(event.Snapshot)
	e.Chunk.Count = 1
	for _, p := range slices.Sorted(slices.Values(peers)) {
		if p != s.name {
			e.Report.Peers = append(e.Report.Peers, event.Peer{NVA: p, Reachable: true})
		}
	}
	if len(e.Report.Peers) > 0 {
		e.Report.SelfTest = event.Passed
	}
	return e
}

func (s *speaker) toggle(p netip.Prefix) event.Event {
	e := s.event(event.Delta)
	if s.rib[p] = !s.rib[p]; s.rib[p] {
		e.Announce = []route.Entry{{Prefix: p}}
	} else {
		e.Withdraw = []netip.Prefix{p}
	}
	return e
}

// all announces everything that it may.
func (s *speaker) all() event.Event {
	e := s.event(event.Delta)
	for _, p := range slices.Concat(shared(), honest()) {
		s.rib[p] = true
		e.Announce = append(e.Announce, route.Entry{Prefix: p})
	}
	return e
}

// lies draws an event that the codec lets through: what a thief that has the key can say. witness: it speaks of its peers too.
func lies(witness bool) *rapid.Generator[event.Event] {
	return rapid.Custom(func(t *rapid.T) event.Event {
		e := event.Event{
			Domain: "hub", NVA: thief, Kind: rapid.SampledFrom(event.Kinds()).Draw(t, "kind"), Beat: rapid.Uint64Range(0, 3).Draw(t, "beat"),
			Version: event.Version{Epoch: rapid.SampledFrom([]uint64{1, 2, 1<<64 - 1}).Draw(t, "epoch"), Seq: rapid.Uint64Range(1, 9).Draw(t, "seq")},
			Boot:    rapid.SampledFrom([]string{"boot", "boot", "boot", "clone"}).Draw(t, "boot"), Digest: route.Digest(rapid.Uint64().Draw(t, "digest")),
		}
		facts := rapid.SliceOfNDistinct(rapid.SampledFrom(slices.Concat(shared(), shared(), honest(), forbidden())), 0, 8, rapid.ID).Draw(t, "prefixes")
		switch e.Kind {
		case event.Snapshot, event.Delta:
			for _, p := range facts {
				if e.Kind == event.Delta && rapid.IntRange(0, 3).Draw(t, "withdraw") == 0 {
					e.Withdraw = append(e.Withdraw, p)
					continue
				}
				e.Announce = append(e.Announce, route.Entry{Prefix: p, Attrs: route.Attrs{Metric: rapid.Uint32Range(0, 2).Draw(t, "metric")}})
			}
			if e.Kind == event.Snapshot {
				e.Chunk.Count = rapid.IntRange(1, 2).Draw(t, "chunks")
				e.Chunk.Index = rapid.IntRange(0, e.Chunk.Count-1).Draw(t, "chunk")
			}
		case event.Goodbye, event.Draining:
			e.Reason, e.Restart = "10.65.1.0/24 via me", time.Hour
		case event.Alive, event.Expired, event.Witness:
		}
		if e.Reports() {
			check := rapid.SampledFrom([]event.Check{event.Absent, event.Passed, event.Failed})
			e.Report = event.Report{SelfCheck: check.Draw(t, "self-check"), SelfTest: check.Draw(t, "self-test"), Drain: rapid.SampledFrom([]string{"", "x"}).Draw(t, "drain")}
			for _, peer := range []string{first, second, thief} {
				if witness && rapid.Bool().Draw(t, "watches") {
					e.Report.Peers = append(e.Report.Peers, event.Peer{NVA: peer, Reachable: rapid.Bool().Draw(t, "reachable"), Deaf: rapid.Bool().Draw(t, "deaf")})
				}
			}
		}
		return e
	})
}

// history plays one life: honest agents that live, and a thief. with: the thief speaks; without, the honest ones do the same at the same times.
type history struct {
	steps []func(w *world)
	thief []func(w *world)
}

func draw(t *rapid.T, witness bool) history {
	var h history
	a, b := newSpeaker(first), newSpeaker(second)
	say := func(s *speaker, e event.Event) {
		body := sign(t, s.name, e)
		h.add(func(w *world) { w.deliver(body) }, nil)
	}
	say(a, a.begin(first, second, thief))
	say(b, b.begin(first, second, thief))
	recorded := [][]byte{}
	for range rapid.IntRange(1, 25).Draw(t, "steps") {
		switch rapid.IntRange(0, 9).Draw(t, "who") {
		case 0, 1:
			say(a, a.toggle(rapid.SampledFrom(slices.Concat(shared(), honest())).Draw(t, "a")))
		case 2, 3:
			say(b, b.toggle(rapid.SampledFrom(slices.Concat(shared(), honest())).Draw(t, "b")))
		case 4:
			d := time.Duration(rapid.IntRange(1, 40).Draw(t, "seconds")) * time.Second
			h.add(func(w *world) { w.pass(d) }, nil)
		case 5: // in another's name, with its own key or none, and what it has said before once more
			e := a.begin()
			a.seq--
			e.Version = event.Version{Epoch: 9, Seq: 1}
			forged := sign(t, thief, e)
			bodies := append([][]byte{forged, []byte(strings.Replace(string(forged), signature.Attribute, "x", 1))}, recorded...)
			h.add(nil, func(w *world) { w.deliver(bodies...) })
		default:
			var bodies [][]byte
			for _, e := range rapid.SliceOfN(lies(witness), 1, 3).Draw(t, "lies") {
				bodies = append(bodies, sign(t, thief, e))
			}
			recorded = append(recorded, bodies...)
			h.add(nil, func(w *world) { w.deliver(bodies...) })
		}
	}
	return h
}

func (h *history) add(step, byThief func(w *world)) {
	h.steps, h.thief = append(h.steps, step), append(h.thief, byThief)
}

func (h *history) play(t *rapid.T, with bool) *world {
	w := newWorld(t, thief, first, second)
	for i := range h.steps {
		switch {
		case h.steps[i] != nil:
			h.steps[i](w)
		case with:
			h.thief[i](w)
		}
	}
	return w
}

// TestAnNVAKeepsToItsLine: whatever it signs, no write ever gives it what its line does not allow, nor more than its line allows, nor takes a prefix from
// an honest NVA that lives but for one that is preferred. The world checks each write; the lies of a witness are among what is said.
func TestAnNVAKeepsToItsLine(t *testing.T) {
	taken := 0
	rapid.Check(t, func(t *rapid.T) {
		h := draw(t, true)
		w := h.play(t, true)
		w.pass(time.Minute)
		for _, name := range []string{first, second} {
			if b := w.belief(name); b.State != liveness.Up && b.State != liveness.Suspect {
				t.Fatalf("%s lives, is heard, and is %s", name, b)
			}
			if doc := w.doc(name); doc.Epoch != 5 || doc.Clone != nil {
				t.Fatalf("somebody else spoke for %s: epoch %d, clone %v", name, doc.Epoch, doc.Clone)
			}
		}
		for _, hop := range hops(w.tables[open]) {
			if hop == netip.MustParseAddr("10.0.0.6") {
				taken++
			}
		}
	})
	if taken == 0 {
		t.Error("the thief never got what it may have: the histories show nothing")
	}
}

// TestWhatAnNVASaysOfItselfIsItsOwnAffair: with and without the thief the others carry the same, but for what it may announce, does announce, and is
// preferred for.
func TestWhatAnNVASaysOfItselfIsItsOwnAffair(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := draw(t, false)
		with, without := h.play(t, true), h.play(t, false)
		with.pass(time.Minute)
		without.pass(time.Minute)
		same := cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
		if diff := cmp.Diff(hops(without.tables[closed]), hops(with.tables[closed]), same, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
			t.Fatalf("in a target that it does not feed (-without +with):\n%s", diff)
		}
		line, _ := with.domain().NVA(thief)
		was, is := hops(without.tables[open]), hops(with.tables[open])
		for _, p := range slices.SortedFunc(maps.Keys(union(was, is)), route.Compare) {
			_, announces := with.doc(thief).Announces(p)
			its := is[p] == line.NextHop(p)
			if its && (!announces || !may(thief, p)) {
				t.Fatalf("%s is the thief's, which announces it: %t, and may: %t", p, announces, may(thief, p))
			}
			if !its && is[p] != was[p] {
				t.Fatalf("%s leads to %s, without the thief to %s", p, is[p], was[p])
			}
		}
	})
}

func union(a, b map[netip.Prefix]netip.Addr) map[netip.Prefix]netip.Addr {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}

// TestLoneLiar: what one lying witness can do, and cannot.
func TestLoneLiar(t *testing.T) {
	p := netip.MustParsePrefix("10.64.1.0/24")
	accuse := func(t *testing.T) []byte {
		t.Helper()
		e := event.Event{Domain: "hub", NVA: thief, Kind: event.Snapshot, Version: event.Version{Epoch: 1, Seq: 1}, Boot: "boot", Beat: 1, Chunk: event.Chunk{Count: 1}}
		e.Announce = []route.Entry{{Prefix: p, Attrs: route.Attrs{Metric: 7}}}
		e.Report = event.Report{SelfTest: event.Passed, Peers: []event.Peer{{NVA: first}}}
		return sign(t, thief, e)
	}
	for _, tt := range []struct {
		name   string
		nvas   []string
		answer string // policy.answerWithin
		silent bool   // the agent of the accused is dead
		want   liveness.State
	}{
		{"another witness reaches the accused", []string{thief, first, second}, "3s", false, liveness.Suspect},
		{"in a pair the accused must answer, and does not know that it should", []string{thief, first}, "3s", false, liveness.Down},
		{"in a pair without the rule of the mute", []string{thief, first}, "0s", false, liveness.Suspect},
		{"the agent of the accused is silent", []string{thief, first, second}, "3s", true, liveness.Down},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, tt.nvas...)
			w.file = strings.Replace(w.file, "answerWithin: 3s", "answerWithin: "+tt.answer, 1)
			w.set("domains/hub.yaml", []byte(w.file))
			for _, name := range tt.nvas[1:] {
				w.deliver(sign(t, name, newSpeaker(name).begin(tt.nvas...)))
			}
			if tt.silent {
				e := newSpeaker(first).event(event.Expired)
				w.deliver(sign(t, first, e))
			}
			w.pass(time.Second)
			w.deliver(accuse(t))
			w.pass(time.Minute)
			if got := w.belief(first); got.State != tt.want {
				t.Errorf("%s, want %s", got, tt.want)
			}
		})
	}
}

// FuzzThief: any bytes, signed by the thief where they can be.
func FuzzThief(f *testing.F) {
	p := shared()[0]
	for _, k := range event.Kinds() {
		e := event.Event{Domain: "hub", NVA: thief, Kind: k, Version: event.Version{Epoch: 1, Seq: 1}, Boot: "boot", Beat: 1}
		switch k {
		case event.Snapshot:
			e.Chunk.Count, e.Announce = 1, []route.Entry{{Prefix: p}, {Prefix: honest()[0]}}
		case event.Delta:
			e.Announce, e.Withdraw = []route.Entry{{Prefix: forbidden()[0]}}, []netip.Prefix{p}
		case event.Witness:
			e.Report = event.Report{SelfTest: event.Passed, Peers: []event.Peer{{NVA: first}, {NVA: second}}}
		case event.Alive, event.Expired, event.Draining, event.Goodbye:
		}
		body, err := event.Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body, body)
		f.Add(body, []byte(strings.Replace(string(body), thief, first, 2)))
	}
	f.Fuzz(func(t *testing.T, one, two []byte) {
		w := newWorld(t, thief, first, second)
		a, b := newSpeaker(first), newSpeaker(second)
		w.deliver(sign(t, first, a.begin(first, second, thief)), sign(t, second, b.begin(first, second, thief)))
		w.deliver(sign(t, first, a.all()), sign(t, second, b.all()))
		for _, body := range [][]byte{one, two} {
			if signed, err := signature.Sign(private(thief), body); err == nil {
				body = signed
			}
			w.deliver(body)
		}
		w.pass(time.Minute)
		for _, name := range []string{first, second} {
			if b := w.belief(name); b.State != liveness.Up && b.State != liveness.Suspect {
				t.Fatalf("%s lives, is heard, and is %s", name, b)
			}
		}
	})
}
