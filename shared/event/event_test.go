package event_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/route"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// same compares events: prefixes and addresses by value, no difference between an empty list and none.
func same() cmp.Options {
	return cmp.Options{
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmpopts.EquateEmpty(),
	}
}

// golden is one event of every kind, and some more, as docs/event-schema.md shows them.
func golden() map[string]event.Event {
	base := event.Event{
		Domain: "hub", NVA: "nva-a", Version: event.Version{Epoch: 1780000000000, Seq: 42}, Boot: "6f1d7b9e-6f0a-4a37-9d5c-0d9d3c1a7e55",
		Beat: 7, Digest: 0x0123456789abcdef, Time: time.Date(2026, 5, 28, 20, 26, 40, 0, time.UTC),
	}
	with := func(kind event.Kind, change func(*event.Event)) event.Event {
		e := base
		e.Kind = kind
		change(&e)
		return e
	}
	bgp := func(metric uint32, prefixes ...string) (list []route.Entry) {
		for _, p := range prefixes {
			list = append(list, route.Entry{Prefix: netip.MustParsePrefix(p), Attrs: route.Attrs{Metric: metric, Origin: "bgp"}})
		}
		return list
	}
	return map[string]event.Event{
		"snapshot": with(event.Snapshot, func(e *event.Event) {
			e.Announce = append(bgp(20, "10.1.0.0/16", "10.2.0.0/16", "fd00:1::/48"), bgp(100, "0.0.0.0/0")...)
			e.Chunk = event.Chunk{Index: 0, Count: 2}
		}),
		"snapshot-empty": with(event.Snapshot, func(e *event.Event) { e.Digest, e.Chunk = 0, event.Chunk{Index: 0, Count: 1} }),
		"delta": with(event.Delta, func(e *event.Event) {
			e.Announce, e.Withdraw = bgp(20, "10.3.0.0/16"), []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16")}
			e.Observed = e.Time.Add(-150 * time.Millisecond)
			e.Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
		}),
		"alive":    with(event.Alive, func(e *event.Event) { e.Beat = 8 }),
		"expired":  with(event.Expired, func(*event.Event) {}),
		"draining": with(event.Draining, func(e *event.Event) { e.Reason = "the machine shuts down" }),
		"goodbye":  with(event.Goodbye, func(e *event.Event) { e.Reason, e.Restart = "upgrade to 1.2.0", 90*time.Second }),
		"witness": with(event.Witness, func(e *event.Event) {
			e.Report = event.Report{
				SelfCheck: event.Failed, SelfTest: event.Passed, Reason: "uplink eth1 has no carrier",
				Peers: []event.Peer{{NVA: "nva-b", Reachable: true}, {NVA: "nva-c", Deaf: true}},
			}
		}),
		"snapshot-report": with(event.Snapshot, func(e *event.Event) {
			e.Announce, e.Chunk = bgp(20, "10.1.0.0/16"), event.Chunk{Index: 0, Count: 1}
			e.Report = event.Report{Drain: "Azure is going to reboot this VM", ControlLost: []event.Session{{Name: "frr", Since: e.Time.Add(-2 * time.Minute)}}}
		}),
		"control-lost": with(event.Witness, func(e *event.Event) {
			e.Report.ControlLost = []event.Session{{Name: "10.0.2.9"}, {Name: "frr", Since: e.Time.Add(-2 * time.Minute)}}
		}),
	}
}

func TestGolden(t *testing.T) {
	for name, e := range golden() {
		t.Run(name, func(t *testing.T) {
			body, err := event.Encode(e)
			if err != nil {
				t.Fatal(err)
			}
			var pretty any
			if err = json.Unmarshal(body, &pretty); err != nil {
				t.Fatal(err)
			}
			file := filepath.Join("testdata", name+".json")
			if *update {
				writeGolden(t, file, body)
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var wanted any
			if err = json.Unmarshal(want, &wanted); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wanted, pretty); diff != "" {
				t.Errorf("encoded form (-file +now):\n%s", diff)
			}
			back, err := event.Decode(want)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(e, back, same()); diff != "" {
				t.Errorf("decoded form (-want +got):\n%s", diff)
			}
		})
	}
}

func writeGolden(t *testing.T, file string, body []byte) {
	t.Helper()
	pretty, err := json.MarshalIndent(json.RawMessage(body), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	if err = os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err = os.WriteFile(file, append(pretty, '\n'), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGoldenHasEveryKind(t *testing.T) {
	for _, k := range event.Kinds() {
		if e, ok := golden()[k.String()]; !ok || e.Kind != k {
			t.Errorf("no golden file for %s", k)
		}
	}
}

// word draws what may stand as a boot id or an origin.
func word(least int) *rapid.Generator[string] {
	return rapid.StringMatching(fmt.Sprintf(`[ -!#-%%'-;=?-\[\]-~]{%d,64}`, least))
}

func name() *rapid.Generator[string] {
	return rapid.StringMatching(`[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?`)
}

// entries draws a RIB: unique prefixes of both families.
func entries(longest int) *rapid.Generator[[]route.Entry] {
	return rapid.Custom(func(t *rapid.T) []route.Entry {
		attrs := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) route.Attrs {
			return route.Attrs{Metric: rapid.Uint32().Draw(t, "metric"), Origin: word(0).Draw(t, "origin")}
		}), 1, 4).Draw(t, "attrs")
		n := rapid.IntRange(0, longest).Draw(t, "n")
		list := make([]route.Entry, 0, n)
		for i := range n {
			p := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
			if rapid.Bool().Draw(t, "v6") {
				p = netip.PrefixFrom(netip.AddrFrom16([16]byte{0: 0xfd, 1: 0xff, 3: 0xff, 5: 0xff, 7: 0xff, 9: 0xff, 11: 0xff, 13: 0xff, 14: byte(i >> 8), 15: byte(i)}), 128)
			}
			list = append(list, route.Entry{Prefix: p, Attrs: rapid.SampledFrom(attrs).Draw(t, "a")})
		}
		return list
	})
}

func reports() *rapid.Generator[event.Report] {
	return rapid.Custom(func(t *rapid.T) event.Report {
		check := rapid.SampledFrom([]event.Check{event.Absent, event.Passed, event.Failed})
		r := event.Report{
			SelfCheck: check.Draw(t, "self-check"), SelfTest: check.Draw(t, "self-test"),
			Drain: rapid.StringN(0, 100, 1000).Draw(t, "drain"), Reason: rapid.StringN(0, 100, 1000).Draw(t, "why"),
		}
		names := rapid.SliceOfNDistinct(name(), 0, 8, rapid.ID).Draw(t, "peers")
		slices.Sort(names)
		for _, n := range names {
			r.Peers = append(r.Peers, event.Peer{NVA: n, Reachable: rapid.Bool().Draw(t, "reachable"), Deaf: rapid.Bool().Draw(t, "deaf")})
		}
		sessions := rapid.SliceOfNDistinct(rapid.StringN(1, -1, event.MaxSession), 0, 8, rapid.ID).Draw(t, "sessions")
		slices.Sort(sessions)
		for _, n := range sessions {
			s := event.Session{Name: n}
			if rapid.Bool().Draw(t, "since") {
				s.Since = time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "lost")).UTC()
			}
			r.ControlLost = append(r.ControlLost, s)
		}
		return r
	})
}

// TestReportSize: what splitting sets aside for a report is enough.
func TestReportSize(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := golden()["snapshot-empty"]
		without, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		e.Report = reports().Draw(t, "report")
		with, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if grown := len(with) - len(without); grown > e.Report.Size() {
			t.Fatalf("the report takes %d bytes, Size says %d", grown, e.Report.Size())
		}
	})
}

func events() *rapid.Generator[event.Event] {
	return rapid.Custom(func(t *rapid.T) event.Event {
		e := event.Event{
			Domain: name().Draw(t, "domain"), NVA: name().Draw(t, "nva"), Kind: rapid.SampledFrom(event.Kinds()).Draw(t, "kind"),
			Version: event.Version{Epoch: rapid.Uint64Min(1).Draw(t, "epoch"), Seq: rapid.Uint64Min(1).Draw(t, "seq")},
			Boot:    word(1).Draw(t, "boot"), Beat: rapid.Uint64().Draw(t, "beat"), Digest: route.Digest(rapid.Uint64().Draw(t, "digest")),
			Traceparent: rapid.SampledFrom([]string{"", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"}).Draw(t, "traceparent"),
		}
		if rapid.Bool().Draw(t, "timed") {
			e.Time = time.Unix(0, rapid.Int64Range(0, 1<<62).Draw(t, "time")).UTC()
			e.Observed = e.Time.Add(-time.Millisecond)
		}
		switch e.Kind {
		case event.Snapshot:
			e.Chunk.Count = rapid.IntRange(1, event.MaxChunks).Draw(t, "count")
			e.Chunk.Index = rapid.IntRange(0, e.Chunk.Count-1).Draw(t, "index")
			e.Announce = entries(30).Draw(t, "announce")
		case event.Delta:
			list := entries(30).Draw(t, "facts")
			cut := rapid.IntRange(0, len(list)).Draw(t, "cut")
			e.Announce = list[:cut]
			for _, x := range list[cut:] {
				e.Withdraw = append(e.Withdraw, x.Prefix)
			}
		case event.Goodbye:
			e.Restart = time.Duration(rapid.Int64Range(0, int64(event.MaxRestart)).Draw(t, "restart"))
			e.Reason = rapid.StringN(0, 100, 1000).Draw(t, "reason")
		case event.Draining:
			e.Reason = rapid.StringN(0, 100, 1000).Draw(t, "reason")
		case event.Witness:
			e.Report = reports().Draw(t, "report")
		case event.Alive, event.Expired:
		}
		if e.Kind == event.Snapshot && e.Chunk.Index == 0 {
			e.Report = reports().Draw(t, "report")
		}
		return e
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := events().Draw(t, "event")
		body, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		back, err := event.Decode(body)
		if err != nil {
			t.Fatalf("%v\n%s", err, body)
		}
		if diff := cmp.Diff(e, back, same()); diff != "" {
			t.Fatalf("(-encoded +decoded):\n%s", diff)
		}
	})
}

func TestIDs(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b := events().Draw(t, "a"), events().Draw(t, "b")
		if rapid.Bool().Draw(t, "close") { // differ in little
			b.Domain, b.NVA, b.Version.Epoch = a.Domain, a.NVA, a.Version.Epoch
			b.Beat, b.Version.Seq = a.Beat, a.Version.Seq+rapid.Uint64Range(0, 1).Draw(t, "next")
		}
		if len(a.ID()) > 128 {
			t.Fatalf("%q has %d characters, Service Bus takes 128", a.ID(), len(a.ID()))
		}
		if a.ID() == b.ID() && !sameStatement(a, b) {
			t.Fatalf("two statements with the id %s", a.ID())
		}
	})
}

// sameStatement reports whether two events must share an id: an expired is its beat, every other its version, a snapshot its chunk too.
func sameStatement(a, b event.Event) bool {
	if a.Domain != b.Domain || a.NVA != b.NVA || a.Version.Epoch != b.Version.Epoch {
		return false
	}
	if a.Kind == event.Expired || b.Kind == event.Expired {
		return a.Kind == b.Kind && a.Beat == b.Beat
	}
	part := func(e event.Event) int {
		if e.Kind == event.Snapshot && e.Chunk.Count > 1 {
			return e.Chunk.Index
		}
		return -1
	}
	return a.Version == b.Version && part(a) == part(b)
}

func TestSplit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := entries(200).Draw(t, "entries")
		if rapid.Bool().Draw(t, "sorted") {
			event.Sort(list)
		}
		limit := rapid.IntRange(1400, 6000).Draw(t, "limit")
		pieces := event.Split(list, limit)
		var joined []route.Entry
		for i, piece := range pieces {
			if len(piece) == 0 && len(list) > 0 {
				t.Fatal("an empty piece")
			}
			joined = append(joined, piece...)
			if size := encodedSize(t, piece, event.Chunk{Index: i, Count: len(pieces)}); size > limit {
				t.Fatalf("piece %d has %d bytes, the limit is %d", i, size, limit)
			}
		}
		if diff := cmp.Diff(list, joined, same()); diff != "" {
			t.Fatalf("the pieces are not the whole:\n%s", diff)
		}
	})
	if pieces := event.Split(nil, 1000); len(pieces) != 1 || len(pieces[0]) != 0 {
		t.Errorf("an empty RIB gives %d pieces, want one empty one", len(pieces))
	}
}

// encodedSize is the size of a snapshot whose every other field is as long as it can be.
func encodedSize(t *rapid.T, piece []route.Entry, c event.Chunk) int {
	long := strings.Repeat("x", 64)
	when := time.Date(2026, 12, 31, 23, 59, 59, 123456789, time.FixedZone("", 5*3600))
	body, err := event.Encode(event.Event{
		Domain: long[:40], NVA: long[:40], Kind: event.Snapshot, Version: event.Version{Epoch: 1<<64 - 1, Seq: 1<<64 - 1}, Boot: long, Beat: 1<<64 - 1,
		Digest: 1<<64 - 1, Time: when, Observed: when, Traceparent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", Announce: piece, Chunk: c,
	})
	if err != nil {
		t.Fatal(err)
	}
	return len(body)
}

func TestSplitFillsPieces(t *testing.T) {
	list := make([]route.Entry, 3000)
	for i := range list {
		list[i].Prefix = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
	}
	if pieces := event.Split(list, 200_000); len(pieces) != 1 {
		t.Errorf("3,000 prefixes need %d events of 200 kB, want 1", len(pieces))
	}
}

// TestDecodeRefuses breaks a good event in one place at a time; the error must name the place.
func TestDecodeRefuses(t *testing.T) {
	for _, tt := range []struct{ old, new, want string }{
		{`"specversion":"1.0"`, `"specversion":"2.0"`, "specversion"},
		{`"specversion":"1.0",`, ``, "specversion"},
		{`route.delta.v1`, `route.delta.v2`, `type "dev.pointsman.route.delta.v2", which this version does not know: upgrade the function app`},
		{`route.delta.v1`, `route.verdict.v1`, `type "dev.pointsman.route.verdict.v1", which this version does not know: upgrade the function app`},
		{`pointsman.route.delta`, `pointsman.verdict`, `type "dev.pointsman.verdict.v1", which this version does not know: upgrade the function app`},
		{`"type":"dev.pointsman.route.delta.v1",`, ``, `type "": want one of Pointsman's, such as "dev.pointsman.route.delta.v1"`},
		{`"withdraw":[`, `"report":{"selfTest":"passed"},"withdraw":[`, "a report stands in a delta event"},
		{`"withdraw":[`, `"report":{"selfTest":"good"},"withdraw":[`, `check "good": want absent, passed or failed`},
		{`"withdraw":[`, `"report":{"controlLost":[{"session":"frr"}]},"withdraw":[`, "a report stands in a delta event"},
		{`"withdraw":[`, `"report":{"controlLost":[{"session":"frr","since":"noon"}]},"withdraw":[`, `cannot parse "noon"`},
		{`dev.pointsman.route`, `com.example`, `type "com.example.delta.v1": want one of Pointsman's`},
		{`"data":{`, `"data":null,"other":{`, "no data"},
		{`"domain":"hub"`, `"domain":"Hub"`, `domain "Hub"`},
		{`"domain":"hub",`, ``, `domain ""`},
		{`"nva":"nva-a"`, `"nva":"nva/a"`, `nva "nva/a"`},
		{`"epoch":1780000000000`, `"epoch":0`, "epoch is 0"},
		{`"epoch":1780000000000`, `"epoch":-1`, "epoch"},
		{`"epoch":1780000000000`, `"epoch":18446744073709551616`, "epoch"},
		{`"seq":42`, `"seq":0`, "seq is 0"},
		{`"seq":42`, `"seq":"42"`, "seq"},
		{`"boot":"6f1d7b9e-6f0a-4a37-9d5c-0d9d3c1a7e55"`, `"boot":""`, "boot"},
		{`"boot":"6f1d`, `"boot":"\n`, "boot"},
		{`"boot":"`, `"boot":"` + strings.Repeat("x", 64), "boot"},
		{`"beat":7`, `"beat":1.5`, "beat"},
		{`0123456789abcdef`, `123`, "digest"},
		{`"metric":20`, `"metric":-1`, "metric"},
		{`"origin":"bgp"`, `"origin":"<bgp>"`, "origin"},
		{`"10.3.0.0/16"`, `"10.3.0.1/16"`, "10.3.0.1/16 is not canonical: want 10.3.0.0/16"},
		{`"10.3.0.0/16"`, `"::ffff:10.3.0.0/112"`, "want 10.3.0.0/16"},
		{`"10.3.0.0/16"`, `"default"`, "default"},
		{`"10.3.0.0/16"`, `""`, "prefix is empty"},
		{`"10.3.0.0/16"`, `null`, "prefix is empty"},
		{`"10.3.0.0/16"`, `"10.3.0.0/16","10.3.0.0/16"`, "10.3.0.0/16 is named twice"},
		{`"10.1.0.0/16"`, `"10.3.0.0/16"`, "10.3.0.0/16 is named twice"},
		{`"withdraw":[`, `"reason":"` + strings.Repeat("x", 1025) + `","withdraw":[`, "reason"},
		{`"withdraw":[`, `"restartSeconds":-1,"withdraw":[`, "restart"},
		{`"withdraw":[`, `"restartSeconds":86401,"withdraw":[`, "restart"},
		{`"withdraw":[`, `"restartSeconds":1e300,"withdraw":[`, "restart"},
		{`delta.v1`, `snapshot.v1`, "chunk 0 of 0"},
		{`"withdraw"`, `"chunk":{"index":2,"count":2},"withdraw"`, ""}, // a delta has no chunk: ignored
		{`delta.v1`, `alive.v1`, "alive event announces nothing"},
		{`{"specversion"`, `["specversion"`, "JSON"},
	} {
		body := strings.Replace(goodDelta(t), tt.old, tt.new, 1)
		if body == goodDelta(t) {
			t.Fatalf("%s is not in the event", tt.old)
		}
		_, err := event.Decode([]byte(body))
		switch {
		case tt.want == "" && err != nil:
			t.Errorf("%s -> %s: %v", tt.old, tt.new, err)
		case tt.want != "" && (!fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), tt.want)):
			t.Errorf("%s -> %s: got %v, want Poison that names %q", tt.old, tt.new, err, tt.want)
		}
	}
}

// TestLostSessionsAreRefused: neither said nor taken in, if they are named in no one way.
func TestLostSessionsAreRefused(t *testing.T) {
	long := strings.Repeat("x", event.MaxSession)
	for want, names := range map[string][]string{
		"":                             {"10.0.2.9", "frr", long},
		`lost session ""`:              {""},
		`lost session "` + long:        {long + "x"},
		`"a" does not come after "a"`:  {"a", "a"},
		`"a" does not come after "b"`:  {"b", "a"},
		"65 lost sessions: want at mo": slices.Repeat([]string{"a"}, event.MaxSessions+1),
	} {
		e := golden()["control-lost"]
		e.Report.ControlLost = nil
		for _, n := range names {
			e.Report.ControlLost = append(e.Report.ControlLost, event.Session{Name: n})
		}
		if _, err := event.Encode(e); (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%.80q: got %v, want %q", names, err, want)
		}
	}
}

func goodDelta(t *testing.T) string {
	t.Helper()
	body, err := event.Encode(golden()["delta"])
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestDecodeRefusesChunks(t *testing.T) {
	body, err := event.Encode(golden()["snapshot"])
	if err != nil {
		t.Fatal(err)
	}
	for _, chunk := range []string{`{"index":2,"count":2}`, `{"index":-1,"count":2}`, `{"index":0,"count":0}`, `{"index":0,"count":1025}`} {
		bad := strings.Replace(string(body), `{"index":0,"count":2}`, chunk, 1)
		if _, err = event.Decode([]byte(bad)); !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), "chunk") {
			t.Errorf("%s: %v", chunk, err)
		}
	}
	withdrawing := strings.Replace(string(body), `"announce"`, `"withdraw":["10.9.0.0/16"],"announce"`, 1)
	if _, err = event.Decode([]byte(withdrawing)); !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), "snapshot event withdraws nothing") {
		t.Errorf("withdraw in a snapshot: %v", err)
	}
}

func TestUnknownFieldsAreIgnored(t *testing.T) {
	body := strings.NewReplacer(`"data":{`, `"newattribute":{"x":[1]},"data":{"newField":true,`, `"metric":20`, `"metric":20,"communities":[1]`).Replace(goodDelta(t))
	e, err := event.Decode([]byte(body))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(golden()["delta"], e, same()); diff != "" {
		t.Error(diff)
	}
}

func TestUnknownTypeSaysWhatToDo(t *testing.T) {
	_, err := event.Decode([]byte(strings.Replace(goodDelta(t), "delta.v1", "verdict.v1", 1)))
	if !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), "upgrade the function app") {
		t.Errorf("got %v", err)
	}
}

func TestEncodeRefusesWhatDecodeWould(t *testing.T) {
	for field, change := range map[string]func(*event.Event){
		"no kind": func(e *event.Event) { e.Kind = 0 },
		"domain":  func(e *event.Event) { e.Domain = "" },
		"boot":    func(e *event.Event) { e.Boot = "\xff" },
		"reason":  func(e *event.Event) { e.Reason = "\xff" },
		"traceparent": func(e *event.Event) {
			e.Traceparent = "\xff"
		},
		"origin": func(e *event.Event) {
			e.Announce = []route.Entry{{Prefix: netip.MustParsePrefix("10.0.0.0/8"), Attrs: route.Attrs{Origin: "é"}}}
		},
		"canonical": func(e *event.Event) { e.Withdraw = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} },
		"year":      func(e *event.Event) { e.Time = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	} {
		e := golden()["delta"]
		change(&e)
		if _, err := event.Encode(e); !fault.Is(err, fault.Bug) || !strings.Contains(err.Error(), field) {
			t.Errorf("%s: got %v, want Bug that names it", field, err)
		}
	}
}

func TestValidName(t *testing.T) {
	for s, want := range map[string]bool{
		"a": true, "nva-1": true, "0": true, strings.Repeat("a", 40): true,
		"": false, strings.Repeat("a", 41): false, "-a": false, "a-": false, "A": false, "a_b": false, "a/b": false, "a.b": false, "é": false, "a b": false,
	} {
		if event.ValidName(s) != want {
			t.Errorf("ValidName(%q) = %t", s, !want)
		}
	}
}

func TestVersionOrder(t *testing.T) {
	list := []event.Version{{1, 1}, {1, 2}, {2, 0}, {2, 1}, {10, 1}}
	for i, a := range list {
		for j, b := range list {
			if got, want := a.Compare(b), min(1, max(-1, i-j)); got != want {
				t.Errorf("%s against %s: %d, want %d", a, b, got, want)
			}
		}
	}
}

func TestKindNames(t *testing.T) {
	want := []string{"snapshot", "delta", "alive", "expired", "draining", "goodbye", "witness"}
	for i, k := range event.Kinds() {
		if k.String() != want[i] {
			t.Errorf("kind %d is %q, want %q", i+1, k, want[i])
		}
	}
	if got := event.Kind(99).String(); got != "kind-99" {
		t.Errorf("an unknown kind is %q", got)
	}
}

// FuzzDecode: nothing panics, and what is accepted is written and read again without change.
func FuzzDecode(f *testing.F) {
	for _, e := range golden() {
		body, err := event.Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(body)
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := event.Decode(body)
		if err != nil {
			if !fault.Is(err, fault.Poison) {
				t.Fatalf("%s error: %v", fault.KindOf(err), err)
			}
			return
		}
		once, err := event.Encode(e)
		if err != nil {
			t.Fatalf("accepted, but not to be written: %v", err)
		}
		again, err := event.Decode(once)
		if err != nil {
			t.Fatalf("written, but not accepted: %v\n%s", err, once)
		}
		twice, err := event.Encode(again)
		if err != nil || string(twice) != string(once) {
			t.Fatalf("not stable (%v):\n%s\n%s", err, once, twice)
		}
	})
}
