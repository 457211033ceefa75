package event

import (
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/route"
)

func storm() []Event {
	base := Event{Domain: "hub", NVA: "nva-a", Version: Version{1780000000000, 42}, Boot: "6f1d7b9e", Beat: 7, Digest: 81985529216486895}
	timed := base
	timed.Time, timed.Observed = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 11, 59, 59, 987_654_321, time.UTC)
	timed.Traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	of := func(e Event, k Kind) Event { e.Kind = k; return e }
	delta := of(timed, Delta)
	delta.Announce = []route.Entry{
		{Prefix: netip.MustParsePrefix("10.1.0.0/16"), Attrs: route.Attrs{Metric: 20, Origin: "bgp"}},
		{Prefix: netip.MustParsePrefix("10.2.0.0/16"), Attrs: route.Attrs{Metric: 20, Origin: "bgp"}},
		{Prefix: netip.MustParsePrefix("2001:db8::/32")},
	}
	delta.Withdraw = []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("10.3.0.0/16")}
	snapshot := of(base, Snapshot)
	snapshot.Chunk, snapshot.Announce = Chunk{1, 3}, delta.Announce
	gone := of(base, Delta)
	gone.Withdraw = delta.Withdraw[:1]
	return []Event{delta, snapshot, gone, of(base, Alive), of(timed, Alive), of(base, Expired)}
}

// doubtful is an event that is rare.
func doubtful() Event {
	e := storm()[3]
	e.Kind, e.Report.ControlLost = Witness, []Session{{Name: "frr", Since: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	return e
}

// What comes by the thousand is read without encoding/json, also as a line of a journal. A field that is new in Encode makes this fail.
func TestWhatIsWrittenIsReadAsWritten(t *testing.T) {
	for _, e := range storm() {
		body, err := Encode(e)
		if err != nil {
			t.Fatal(err)
		}
		line := strings.TrimSuffix(string(body), "}") + `,"enqueuedtime":"2026-03-01T12:00:01.25Z"}` + "\n"
		for _, text := range []string{string(body), line} {
			if _, ok := written([]byte(text)); !ok {
				t.Errorf("left to encoding/json: %s", text)
			}
		}
	}
}

// FuzzWritten: what is read as written is what encoding/json reads.
func FuzzWritten(f *testing.F) {
	for _, e := range append(storm(), doubtful()) {
		body, err := Encode(e)
		if err != nil {
			f.Fatal(err)
		}
		text := string(body)
		f.Add(text)
		for _, change := range []struct{ old, by string }{
			{"{", "{ "},
			{`"hub"`, `"h\\u0075b"`},
			{`"seq":42`, `"seq":042`},
			{`"seq":42`, `"seq":4.2e1`},
			{`"seq":42`, `"seq":99999999999999999999`},
			{`"metric":20`, `"metric":4294967296`},
			{`"metric":20,`, ""},
			{"nva-a", "nva-\xff"},
			{`"withdraw":[`, `"withdraw":[ `},
			{"10.1.0.0/16", ""},
			{"10.1.0.0/16", "10.1.0.0/33"},
			{"12:00:00Z", "12:00:00+25:00"},
			{`"data":`, `"Data":`},
		} {
			f.Add(strings.Replace(text, change.old, change.by, 1))
		}
		for _, more := range []string{`,"x":1}`, `,"enqueuedtime":"2026-03-01T12:00:01Z"}`, `,"NVA":"x"}`, `,"Subject":"x"}`, `,"time":"x"}`, `,"a":"b","c":"d"}  `, `}}`, `,}`, `,"data":null}`} {
			f.Add(strings.TrimSuffix(text, "}") + more)
		}
		for _, name := range []string{"specversion", "id", "source", "type", "subject", "time", "datacontenttype", "traceparent", "data"} {
			f.Add(strings.TrimSuffix(text, "}") + `,"` + name + `":"2026-03-01T12:00:00Z"}`)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		fast, ok := written([]byte(text))
		if !ok {
			return
		}
		var slow wire
		if err := json.Unmarshal([]byte(text), &slow); err != nil {
			t.Fatalf("encoding/json refuses it: %v", err)
		}
		if !reflect.DeepEqual(fast, slow) {
			t.Fatalf("read %+v, encoding/json reads %+v", fast, slow)
		}
	})
}
