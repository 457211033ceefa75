package replay_test

import (
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/replay"
	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/journal"
)

// lines returns the entries as a journal.
func lines(tb testing.TB, entries []journal.Entry) []byte {
	tb.Helper()
	var out []byte
	for _, entry := range entries {
		body, err := event.Encode(entry.Event)
		if err != nil {
			tb.Fatal(err)
		}
		line, err := journal.Line(body, entry.At)
		if err != nil {
			tb.Fatal(err)
		}
		out = append(append(out, line...), '\n')
	}
	return out
}

func TestReadAndSort(t *testing.T) {
	a := &speaker{name: "nva-a", beat: 1}
	first, second, third := a.said(0, event.Delta, nil), a.said(time.Second, event.Delta, nil), a.said(time.Second, event.Alive, nil)
	data := lines(t, []journal.Entry{second, third, first})
	got, err := replay.Read("x.jsonl", []byte("\n"+string(data)+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []journal.Entry{first, second, third} {
		if len(got) != 3 || got[i].Event.ID() != want.Event.ID() || !got[i].At.Equal(want.At) {
			t.Fatalf("read %v", got)
		}
	}
}

func TestAnArmedSwitchIsNotOneThatFired(t *testing.T) {
	a := &speaker{name: "nva-a", beat: 1}
	fired := a.said(time.Second, event.Expired, nil)
	armed := fired.Event
	armed.Time = fired.At
	body, wrong := event.Encode(armed)
	if wrong != nil {
		t.Fatal(wrong)
	}
	for n, data := range [][]byte{body, lines(t, []journal.Entry{fired})} {
		got, err := replay.Read("x", data)
		if err != nil || len(got) != n {
			t.Errorf("%d of %d entries, %v", len(got), n, err)
		}
	}
}

func TestAWrongLineIsNamed(t *testing.T) {
	a := &speaker{name: "nva-a"}
	data := append(lines(t, []journal.Entry{a.said(0, event.Delta, nil)}), "{}\n"...)
	if _, err := replay.Read("x.jsonl", data); err == nil || !strings.Contains(err.Error(), "x.jsonl, line 2") {
		t.Errorf("error %v", err)
	}
}
