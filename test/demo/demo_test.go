package main

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pointsman/pointsman/shared/event"
	"github.com/pointsman/pointsman/shared/state"
	"github.com/pointsman/pointsman/test/system"
)

// The journal must hold exactly one event for each action of the steps, in their order.
func TestJournalFitsTheSteps(t *testing.T) {
	all := system.Prefixes(defaultPrefixes)
	one := func(verb string, i int) string { return verb + " " + all[i].String() }
	wantA := []string{"snapshot of 0", "announces 300", one("withdraws", spare)}
	for i := range singles {
		back := singlesFrom + i - 1
		if i == 0 {
			back = spare
		}
		wantA = append(wantA, one("withdraws", singlesFrom+i), one("announces", back))
	}
	wantA = append(wantA, one("announces", singlesFrom+singles-1), "snapshot of 300")
	for name, want := range map[string][]string{nameA: wantA, nameB: {"snapshot of 0", "announces 300"}} {
		events, err := playback(journal, name)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		doc := state.NewNVA(domain, name)
		for _, e := range events {
			got = append(got, says(e))
			if _, err = doc.Merge(e, e.Time); err != nil {
				t.Error(err)
			}
		}
		if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
			t.Errorf("%s says\n%s\nwant\n%s", name, g, w)
		}
		if missing, differs := doc.Gap(); len(doc.RIB()) != len(all) || missing > 0 || differs {
			t.Errorf("%s has %d prefixes in the end, %d events are missing, digest differs: %t", name, len(doc.RIB()), missing, differs)
		}
	}
}

func says(e event.Event) string {
	switch {
	case e.Kind == event.Snapshot:
		return "snapshot of " + strconv.Itoa(len(e.Announce))
	case len(e.Announce) == 1 && len(e.Withdraw) == 0:
		return "announces " + e.Announce[0].Prefix.String()
	case len(e.Withdraw) == 1 && len(e.Announce) == 0:
		return "withdraws " + e.Withdraw[0].String()
	}
	return "announces " + strconv.Itoa(len(e.Announce))
}

func TestPlaybackNamesTheLine(t *testing.T) {
	broken := append(bytes.Clone(journal), "{}\n"...)
	if _, err := playback(broken, nameA); err == nil || !strings.Contains(err.Error(), "line 18") {
		t.Errorf("got %v, want an error that names line 18", err)
	}
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"":                         "",
		"--write 500ms --stay":     "",
		"--prefixes 19":            "want 20 to 990",
		"--prefixes 991":           "want 20 to 990",
		"--write 2m":               "want 0s to 1m",
		"--recorded --prefixes 20": "recorded events have 300",
		"--recorded --record f":    "cannot be recorded again",
		"now":                      `unexpected argument "now"`,
		"--nosuch":                 "not defined",
	} {
		var said strings.Builder
		_, err := parse(strings.Fields(args), &said)
		if (err != nil) != (want != "") || !strings.Contains(said.String(), want) {
			t.Errorf("%q: got %v and %q, want %q", args, err, said.String(), want)
		}
	}
}

// Whatever belongs to others must be noticed when it changes; what the service changes at every write must not.
func TestUnmanagedIsWatched(t *testing.T) {
	text := func(raw string) string {
		t.Helper()
		table, err := readTable(json.RawMessage(raw))
		if err != nil {
			t.Fatal(err)
		}
		out, err := table.unmanaged()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	const before = `{"etag":"1","location":"we","tags":{"a":"b"},"properties":{"provisioningState":"Updating","flag":true,"routes":[` +
		`{"name":"hand","etag":"1","properties":{"provisioningState":"Updating","addressPrefix":"0.0.0.0/0","nextHopIpAddress":"10.9.9.9"}},` +
		`{"name":"pointsman-x","etag":"1","properties":{"addressPrefix":"10.64.0.0/24","nextHopIpAddress":"10.0.0.4"}}]}}`
	for _, c := range []struct {
		old, new string
		noticed  bool
	}{
		{`"etag":"1"`, `"etag":"2"`, false},
		{"Updating", "Succeeded", false},
		{"10.0.0.4", "10.0.0.5", false},
		{"10.9.9.9", "10.9.9.8", true},
		{`"flag":true`, `"flag":false`, true},
		{`{"a":"b"}`, `{}`, true},
		{`{"a":"b"}`, `{"a": "b"}`, true},
		{`"name":"hand"`, `"name":"foot"`, true},
		{`"name":"hand"`, `"name":"hand","new":1`, true},
	} {
		was, is := text(before), text(strings.ReplaceAll(before, c.old, c.new))
		if (was != is) != c.noticed {
			t.Errorf("%s → %s: noticed %t, want %t", c.old, c.new, was != is, c.noticed)
		}
		if noticed := differing(was, is) != ""; noticed != c.noticed {
			t.Errorf("%s → %s: difference %q", c.old, c.new, differing(was, is))
		}
	}
}

func TestDescribe(t *testing.T) {
	type hops = map[string]string
	for want, c := range map[string][2]hops{
		"nothing changed":                {{"p": "1"}, {"p": "1"}},
		"1 prefix → 2":                   {{"p": "1"}, {"p": "2"}},
		"1 prefix → 1, 2 prefixes → 2":   {{"p": "1", "r": "2"}, {"p": "2", "q": "2", "r": "1"}},
		"1 prefix → 2, 1 prefix removed": {{"p": "1"}, {"q": "2"}},
		"2 prefixes removed":             {{"p": "1", "q": "1"}, {}},
	} {
		if got := describe(c[0], c[1]); got != want {
			t.Errorf("%v: got %q, want %q", c, got, want)
		}
	}
}

// A sweep during the steps would add reads: the first one must be minutes away.
func TestSweepIsNotSoon(t *testing.T) {
	for m := range 60 {
		now := time.Date(2026, 1, 1, 12, m, 59, 0, time.UTC)
		fields := strings.Split(strings.Fields(sweeps(now))[1], ",")
		if len(fields) != 12 {
			t.Errorf("at minute %d: %s", m, fields)
		}
		for ahead := range 4 {
			soon := strconv.Itoa((m + ahead) % 60)
			for _, f := range fields {
				if f == soon {
					t.Errorf("at minute %d: a sweep at minute %s", m, f)
				}
			}
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []time.Duration
		want   time.Duration
	}{{nil, 0}, {[]time.Duration{3}, 3}, {[]time.Duration{9, 1, 5}, 5}, {[]time.Duration{8, 2, 4, 6}, 5}} {
		if got := median(c.values); got != c.want {
			t.Errorf("%v: got %d, want %d", c.values, got, c.want)
		}
	}
}

// The lines of observers that are late appear where they belong, without colour and without blanks at the end where nobody looks.
func TestScreenOrdersLines(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	s := newScreen(f, func() { t.Error("cannot be written") })
	s.title("step")
	at := s.zero
	s.event(line{at: at.Add(2 * time.Second), where: "table", what: "PUT", text: "second", colour: yellow})
	s.event(line{at: at.Add(time.Second), where: "app", what: "merged", text: "first", aside: "aside"})
	s.mute(true)
	s.event(line{at: at, text: "dropped"})
	s.say("end")
	const want = "\nstep\n" +
		"    1.000  app    merged    first                           aside\n" +
		"    2.000  table  PUT       second\nend\n"
	got, err := os.ReadFile(f.Name())
	if err != nil || string(got) != want {
		t.Errorf("got\n%s\nwant\n%s (%v)", got, want, err)
	}
}

func TestSummaryReplacesTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "demo", "summary.json")
	for _, ok := range []bool{false, true} {
		if err := writeSummary(file, summary{OK: ok, Mode: "kernel"}); err != nil {
			t.Fatal(err)
		}
		var got summary
		text, err := os.ReadFile(file)
		if err == nil {
			err = json.Unmarshal(text, &got)
		}
		if err != nil || got.OK != ok || got.Mode != "kernel" {
			t.Errorf("got %s (%v), want ok %t", text, err, ok)
		}
	}
	if list, err := os.ReadDir(filepath.Dir(file)); err != nil || len(list) != 1 {
		t.Errorf("%v (%v), want only the file", list, err)
	}
}

// Without the binaries it says what to do, and leaves nothing behind.
func TestNotBuilt(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "out"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = start(context.Background(), options{prefixes: minPrefixes}, newScreen(f, func() {}), t.TempDir())
	if err == nil || !strings.Contains(err.Error(), `run "make build" first`) {
		t.Errorf("got %v, want the command to run", err)
	}
}
