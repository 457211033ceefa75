package main

import (
	"strings"
	"testing"
	"time"
)

func TestFilesOfTheHistory(t *testing.T) {
	names := []string{
		"history/hub/spokes/2026-05-01.jsonl", "history/hub/spokes/2026-05-28.jsonl", "history/hub/spokes/2026-05.jsonl", "history/hub/spokes/2026-04.jsonl",
		"history/hub/other/2026-05-02.jsonl", "history/hub2/away/2026-05-02.jsonl", "history/edge/other/2026-05-03.jsonl", "history/hub/spokes/x/2026-05-02.jsonl",
	}
	at := func(text string) time.Time {
		when, err := time.Parse(time.RFC3339, text)
		if err != nil {
			t.Fatal(err)
		}
		return when
	}
	for _, c := range []struct {
		domain, target string
		since          time.Time
		want           string
	}{
		{"", "spokes", time.Time{}, "2026-04 2026-05 2026-05-01 2026-05-28"}, // the month is of the version before, its days came after it
		{"hub", "spokes", at("2026-05-01T23:00:00Z"), "2026-05 2026-05-01 2026-05-28"},
		{"hub", "spokes", at("2026-05-02T00:30:00+01:00"), "2026-05 2026-05-01 2026-05-28"},
		{"hub", "spokes", at("2026-05-02T00:30:00Z"), "2026-05 2026-05-28"},
		{"hub", "spokes", at("2026-06-01T00:00:00Z"), "2026-05-28"},
		{"hub", "away", time.Time{}, ""},
		{"", "away", time.Time{}, "2026-05-02"},
		{"edge", "other", time.Time{}, "2026-05-03"},
		{"", "nowhere", time.Time{}, ""},
	} {
		files, err := filesOf(names, c.domain, c.target, c.since)
		var got []string
		for _, f := range files {
			got = append(got, period(f))
		}
		if err != nil || strings.Join(got, " ") != c.want {
			t.Errorf("%s/%s since %s: got %q (%v), want %s", c.domain, c.target, c.since, got, err, c.want)
		}
	}
	if _, err := filesOf(names, "", "other", time.Time{}); err == nil || !strings.Contains(err.Error(), "domains hub and edge both have a target other") {
		t.Errorf("two domains: %v", err)
	}
}

// The newest line that changes a prefix counts, whatever other lines there are.
func TestNewestChange(t *testing.T) {
	const file = `{"at":"2026-05-28T12:00:00Z","run":"r1","cause":"nva-a/1","events":["e1"],"adds":[{"prefix":"10.64.0.0/24","to":"10.0.0.4","by":["hub/nva-a/1/1"]},{"prefix":"10.64.1.0/24","to":"10.0.0.4"}]}
{"at":"2026-05-28T12:01:00Z","order":{"kind":"drain","nva":"nva-a","id":"1","who":"jo"}}
{"at":"2026-05-28T12:02:00Z","run":"r2","cause":"nva-a/2","observed":"2026-05-28T12:01:58.5Z","convergenceSeconds":1.5,"moves":[{"prefix":"10.64.0.0/24","from":"10.0.0.4","to":"10.0.0.5"}],"approved":{"who":"kim"}}
{"at":"2026-05-28T12:03:00Z","run":"r3","cause":"sweep/1","removals":[{"prefix":"10.64.1.0/24","from":"10.0.0.4"}]}
`
	out := map[string]change{}
	wanted := map[string]bool{"10.64.0.0/24": true, "10.64.1.0/24": true, "10.64.2.0/24": true}
	if err := newest([]byte(file), wanted, out); err != nil || len(wanted) != 1 || len(out) != 2 {
		t.Fatalf("%v, still wanted %v (%v)", out, wanted, err)
	}
	for prefix, want := range map[string]string{
		"10.64.0.0/24": "2026-05-28T12:02:00Z, moved 10.0.0.4 -> 10.0.0.5, by nva-a/2; approved by kim; 1.5 s after the NVA saw it",
		"10.64.1.0/24": "2026-05-28T12:03:00Z, removed from 10.0.0.4, by sweep/1",
	} {
		c := out[prefix]
		if got := c.String(); got != want {
			t.Errorf("%s: got %q, want %q", prefix, got, want)
		}
	}
	if got := (*change)(nil).String(); !strings.Contains(got, "not in the history") {
		t.Errorf("got %q", got)
	}
	if err := newest([]byte("{}\n{\n"), map[string]bool{"x": true}, out); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("got %v, want the line", err)
	}
}
