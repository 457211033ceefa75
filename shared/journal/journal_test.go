package journal_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/fault"
	"github.com/pointsman/pointsman/shared/journal"
	"github.com/pointsman/pointsman/shared/order"
)

func body(t *testing.T, said time.Time) []byte {
	t.Helper()
	b, err := event.Encode(event.Event{Domain: "hub", NVA: "nva-a", Kind: event.Alive, Version: event.Version{Epoch: 1, Seq: 1}, Boot: "b", Beat: 2, Time: said})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestALineIsTheEventWithTheBrokersTime(t *testing.T) {
	said, enqueued := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), time.Date(2026, 3, 1, 12, 0, 1, 250_000_000, time.UTC)
	raw := strings.Replace(string(body(t, said)), `"specversion"`, "\n  \"later\": {\"x\": [1, 2]},\n  \"specversion\"", 1)
	line, err := journal.Line([]byte(raw), enqueued)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(line), "\n") {
		t.Errorf("the line has a line break: %s", line)
	}
	for _, want := range []string{`"later":{"x":[1,2]}`, `"enqueuedtime":"2026-03-01T12:00:01.25Z"`, `"specversion":"1.0"`} {
		if !strings.Contains(string(line), want) {
			t.Errorf("the line lacks %s: %s", want, line)
		}
	}
	entry, err := journal.Parse(line)
	if err != nil {
		t.Fatal(err)
	}
	if entry.Event.ID() != "hub/nva-a/1/1" || !entry.At.Equal(enqueued) || !entry.Event.Time.Equal(said) {
		t.Errorf("read %s at %s, said %s", entry.Event.ID(), entry.At, entry.Event.Time)
	}
}

func TestOrdersAreEntries(t *testing.T) {
	o := order.Order{Kind: order.Pause, Domain: "hub", Target: "spokes", ID: "0b8f3c52-6f0a-4a37-9d5c-0d9d3c1a7e55", Who: "jo", Time: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	raw, err := order.Encode(o)
	if err != nil {
		t.Fatal(err)
	}
	line, err := journal.Line(raw, o.Time.Add(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for text, at := range map[string]time.Time{string(line): o.Time.Add(time.Second), string(raw): o.Time} {
		entry, wrong := journal.Parse([]byte(text))
		if wrong != nil || *entry.Order != o || !entry.At.Equal(at) || entry.Domain() != "hub" || entry.ID() != o.MessageID() {
			t.Errorf("%+v, %v", entry, wrong)
		}
	}
	if _, err = journal.Parse([]byte(strings.Replace(string(raw), "pause.v1", "reboot.v1", 1))); !fault.Is(err, fault.Poison) || !strings.Contains(err.Error(), "reboot") {
		t.Errorf("%v", err)
	}
}

func TestASenderCannotSetTheBrokersTime(t *testing.T) {
	enqueued := time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC)
	forged := strings.Replace(string(body(t, time.Time{})), "{", `{"enqueuedtime":"1999-01-01T00:00:00Z",`, 1)
	line, err := journal.Line([]byte(forged), enqueued)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(line), journal.Attribute); n != 1 {
		t.Errorf("the attribute stands %d times: %s", n, line)
	}
	if entry, failed := journal.Parse(line); failed != nil || !entry.At.Equal(enqueued) {
		t.Errorf("read %s, %v", entry.At, failed)
	}
}

func TestWhatAnAgentRecordsIsALine(t *testing.T) {
	said := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	if entry, err := journal.Parse(body(t, said)); err != nil || !entry.At.Equal(said) {
		t.Errorf("read %s, %v, want the event's own time", entry.At, err)
	}
}

func TestTheAttributeMayStandAnywhere(t *testing.T) {
	enqueued := time.Date(2026, 3, 1, 12, 0, 1, 0, time.UTC)
	line, err := journal.Line(body(t, time.Time{}), enqueued)
	if err != nil {
		t.Fatal(err)
	}
	var m map[string]any
	if err = json.Unmarshal(line, &m); err != nil {
		t.Fatal(err)
	}
	sorted, err := json.MarshalIndent(m, "", " ") // as other tools write it
	if err != nil {
		t.Fatal(err)
	}
	if entry, failed := journal.Parse(sorted); failed != nil || !entry.At.Equal(enqueued) {
		t.Errorf("read %s, %v", entry.At, failed)
	}
}

func TestWhatIsNoLineIsPoison(t *testing.T) {
	noTime := string(body(t, time.Time{}))
	for name, line := range map[string]string{
		"no JSON": "{", "an array": "[]", "no time at all": noTime,
		"a bad time": strings.Replace(noTime, "{", `{"enqueuedtime":"yesterday",`, 1),
	} {
		if _, err := journal.Parse([]byte(line)); !fault.Is(err, fault.Poison) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := journal.Line([]byte("[]"), time.Time{}); !fault.Is(err, fault.Poison) {
		t.Errorf("an array: %v", err)
	}
	if line, err := journal.Line([]byte("{}"), time.Unix(0, 0)); err != nil || !json.Valid(line) {
		t.Errorf("an empty object: %s, %v", line, err)
	}
}
