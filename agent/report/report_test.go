package report_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/pointsman/pointsman/agent/report"
	"github.com/pointsman/pointsman/shared/event"
)

func TestJoin(t *testing.T) {
	reaches := func(nva string) event.Peer { return event.Peer{NVA: nva, Reachable: true} }
	at := func(second int64) time.Time { return time.Unix(second, 0) }
	misses := func(nva string) event.Peer { return event.Peer{NVA: nva} }
	for name, test := range map[string]struct {
		parts []event.Report
		want  event.Report
	}{
		"nothing":           {},
		"nobody has a part": {parts: []event.Report{{}, {}}},
		"parts add up": {
			parts: []event.Report{
				{SelfTest: event.Passed, Peers: []event.Peer{misses("c")}},
				{SelfCheck: event.Failed, Reason: "no carrier"},
				{Drain: "reboot"},
				{Peers: []event.Peer{reaches("a"), {NVA: "b", Deaf: true}}},
			},
			want: event.Report{
				SelfCheck: event.Failed, SelfTest: event.Passed, Drain: "reboot", Reason: "no carrier",
				Peers: []event.Peer{reaches("a"), {NVA: "b", Deaf: true}, misses("c")},
			},
		},
		"the worst check counts": {
			parts: []event.Report{{SelfCheck: event.Passed}, {SelfCheck: event.Failed, Reason: "a"}, {SelfCheck: event.Failed, Reason: "b"}, {}},
			want:  event.Report{SelfCheck: event.Failed, Reason: "a; b"},
		},
		"one way to a peer suffices": {
			parts: []event.Report{{Peers: []event.Peer{misses("a")}}, {Peers: []event.Peer{{NVA: "a", Reachable: true, Deaf: true}}}},
			want:  event.Report{Peers: []event.Peer{{NVA: "a", Reachable: true, Deaf: true}}},
		},
		"lost sessions of several sources": {
			parts: []event.Report{
				{ControlLost: []event.Session{{Name: "frr", Since: at(5)}, {Name: "10.0.2.9", Since: at(7)}}},
				{ControlLost: []event.Session{{Name: "frr", Since: at(3)}, {Name: "bird", Since: at(9)}}},
			},
			want: event.Report{ControlLost: []event.Session{{Name: "10.0.2.9", Since: at(7)}, {Name: "bird", Since: at(9)}, {Name: "frr", Since: at(3)}}},
		},
		"long and broken texts": {
			parts: []event.Report{{Reason: "a\xff" + strings.Repeat("é", 600), ControlLost: []event.Session{{Name: "a\xff" + strings.Repeat("é", 40)}}}},
			want:  event.Report{Reason: "a\uFFFD" + strings.Repeat("é", 510), ControlLost: []event.Session{{Name: "a\uFFFD" + strings.Repeat("é", 30)}}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, report.Join(test.parts...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// TestAJoinedReportCanBeEncoded: whatever the parts say.
func TestAJoinedReportCanBeEncoded(t *testing.T) {
	part := rapid.Custom(func(t *rapid.T) event.Report {
		r := event.Report{SelfCheck: event.Check(rapid.IntRange(0, 2).Draw(t, "check")), Drain: rapid.String().Draw(t, "drain"), Reason: rapid.StringN(0, -1, 3000).Draw(t, "reason")}
		for _, nva := range rapid.SliceOfDistinct(rapid.StringMatching(`[a-c]{1,2}`), rapid.ID[string]).Draw(t, "peers") {
			r.Peers = append(r.Peers, event.Peer{NVA: nva, Reachable: rapid.Bool().Draw(t, "reachable")})
		}
		for range rapid.IntRange(0, 50).Draw(t, "sessions") {
			r.ControlLost = append(r.ControlLost, event.Session{Name: rapid.StringN(1, -1, 200).Draw(t, "session")})
		}
		return r
	})
	rapid.Check(t, func(t *rapid.T) {
		r := report.Join(rapid.SliceOf(part).Draw(t, "parts")...)
		e := event.Event{Domain: "d", NVA: "n", Kind: event.Witness, Version: event.Version{Epoch: 1, Seq: 1}, Boot: "b", Time: time.Unix(1, 0), Report: r}
		body, err := event.Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		if back, decodeErr := event.Decode(body); decodeErr != nil || !back.Report.Equal(r) {
			t.Fatalf("%+v came back as %+v: %v", r, back.Report, decodeErr)
		}
	})
}
